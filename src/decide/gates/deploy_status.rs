//! `deploy_status` (SHIP-5): the deploy's phases, and its result as the finalizer recorded it.

use super::{Facts, MAX_TOOL_ERRORS, entering};
use crate::decide::awaits;
use crate::decide::back_off::back_off;
use crate::model::decision::{Answer, Need, Procedure};
use crate::model::deploy::{DeployEnd, DeployResult};
use crate::model::finding::{Finding, Origin};
use crate::model::gate::Gate;
use crate::model::report::Rule;
use crate::model::stage::{JobKind, JobStatus};
use crate::model::task::{Deploy, DeployState, NewJob, Waiting};

/// Phase A waits for the person; phase B opens, lands and starts; phase C settles. Each reads its state from the rows.
pub fn gate(f: &Facts<'_>) -> Answer {
    match f.view.deploy.as_ref().filter(|d| d.attempt == f.view.task.attempt) {
        None => opening(f),
        Some(d) => under_way(f, d),
    }
}

fn opening(f: &Facts<'_>) -> Answer {
    let task = &f.view.task;
    // The person who releases it first sees what decides the meaning of CI (BND-5).
    if f.inputs().is_none() {
        return effect(Procedure::VerdictInputs, "the changes to what CI means have yet to be listed for this head");
    }
    if f.project.confirm_deploy && task.released != Some(Waiting::ConfirmDeploy) {
        let note = f.project.runs_landed_code().map(|t| format!("; {t}")).unwrap_or_default();
        return Answer::Undecided {
            why: format!("a person has to release the deploy{note}; `orch explain {}` says how", task.key),
            need: Need::Person(Waiting::ConfirmDeploy),
        };
    }
    // The lease was given back while the forge waits for a person; it is taken again when the forge is next asked.
    if let Some((why, until)) = awaits::waits(f.view) {
        return wait(Rule::Forge, why, Some(until));
    }
    for (_, evaluate) in entering::DEPLOY {
        match evaluate(f) {
            Answer::Pass { .. } => {}
            other @ (Answer::Fail { .. } | Answer::Stale { .. } | Answer::Stuck { .. } | Answer::Undecided { .. }) => {
                return other;
            }
        }
    }
    if let Some(reason) = &f.view.halted {
        return wait(Rule::Halt, format!("halted: {reason}"), None);
    }
    if let Some(freeze) = &f.view.freeze {
        return wait(Rule::Freeze, format!("{} is frozen: {}", freeze.repo, freeze.reason), None);
    }
    effect(Procedure::OpenDeploy, "the deploy may begin")
}

fn under_way(f: &Facts<'_>, d: &Deploy) -> Answer {
    match d.state {
        DeployState::Initiated if f.view.deploy_held => {
            wait(Rule::DeployResult, format!("process {} is merging", d.actor.pid), None)
        }
        DeployState::Initiated => match awaits::waits(f.view) {
            Some((why, until)) => wait(Rule::Forge, why, Some(until)),
            None => effect(Procedure::Land, "the deploy has begun, but is not merged yet"),
        },
        DeployState::Landed => match &f.view.freeze {
            Some(freeze) => wait(Rule::Freeze, format!("{} is frozen: {}", freeze.repo, freeze.reason), None),
            None => start_command(f, d),
        },
        DeployState::Started => job(f, JobKind::DeployFinalizer, d, "the deploy's result has yet to be found", 0),
        DeployState::Settled => result(d),
        DeployState::Withdrawn => opening(f),
    }
}

/// The command is a job of its own. One that ended before it could start is retried; a started one never is.
fn start_command(f: &Facts<'_>, d: &Deploy) -> Answer {
    let failed: Vec<_> = f.ended(JobKind::Deploy).filter(|j| j.status == JobStatus::Failed && j.spent).collect();
    let said = failed.last().and_then(|j| j.reason.clone()).unwrap_or_default();
    if failed.len() >= MAX_TOOL_ERRORS {
        return Answer::Stuck { why: format!("the deploy command could not be started: {said}"), freeze: false };
    }
    let (_, lost) = f.failures(JobKind::Deploy);
    let n = i64::try_from(failed.len()).unwrap_or(0);
    let wait = if n > 0 { back_off(5000, n, d.task_id.0) } else { lost.min(1) * 1000 };
    job(f, JobKind::Deploy, d, "the merged revision has yet to be deployed", wait)
}

fn result(d: &Deploy) -> Answer {
    let Some(DeployResult { end, why, log }) = d.result.clone() else {
        return Answer::Stuck { why: "the deploy's result is not recorded".to_owned(), freeze: true };
    };
    match end {
        DeployEnd::Success => Answer::Pass { why },
        DeployEnd::FailedSafe => {
            Answer::Fail { findings: vec![Finding { source: Origin::Deploy, text: log }], why, squash: false }
        }
        DeployEnd::FailedUnknown => Answer::Stuck { why, freeze: true },
    }
}

fn job(f: &Facts<'_>, kind: JobKind, d: &Deploy, why: &str, wait: i64) -> Answer {
    let available_at = if wait == 0 { 0 } else { f.view.now.wall_ms + wait };
    let subject = d.landed_sha.clone();
    Answer::Undecided {
        why: why.to_owned(),
        need: Need::Job(NewJob { kind, agent: None, subject, available_at, reason: None }),
    }
}

fn effect(effect: Procedure, why: &str) -> Answer {
    Answer::Undecided { why: why.to_owned(), need: Need::Procedure(effect) }
}

fn wait(rule: Rule, why: String, until: Option<i64>) -> Answer {
    Answer::Undecided { why, need: Need::Wait { rule, until } }
}

/// The name under which the finalizer records what it saw.
pub const GATE: Gate = Gate::DeployStatus;
