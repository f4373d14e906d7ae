//! The transition function (PIPE-2): the only code that says how a task moves. Pure and total; its caller applies the
//! decision under the task's revision counter.

use super::again::rule;
use super::back_off::back_off;
use super::gates::{self, Facts, ci_green, deploy_status};
use crate::model::change::Budget;
use crate::model::decision::{Answer, Decision, Need, Procedure};
use crate::model::finding::Finding;
use crate::model::gate::Gate;
use crate::model::policy::Policy;
use crate::model::refusal::Asked;
use crate::model::report::Rule;
use crate::model::stage::{JobKind, JobStatus, Stage};
use crate::model::task::{DeployState, NewJob, Waiting};
use crate::model::view::TaskView;
use crate::model::window::Window;

/// Findings that came back this often in a row without a change block the task (RUN-7b).
const MOST_SAME: i64 = 2;

/// What happens to this task next.
pub fn decide(view: &TaskView, policy: &Policy) -> Decision {
    let task = &view.task;
    if task.stage.is_terminal() {
        return terminal(view);
    }
    let Some(project) = policy.project(&task.project) else {
        return hold(Rule::SwitchedOff, format!("project {} is not in the configuration", task.project));
    };
    let f = Facts { view, policy, project };
    if task.stop_requested_at.is_some() {
        return stopping(&f);
    }
    if let Some(why) = &task.blocked_reason {
        return hold(Rule::Blocked, lifted(why, task.key.as_str()));
    }
    // An open window settles its case first: what is merged or started does not wait for a person. One in which nothing
    // was done, because the forge waits for a person, does not.
    if let Some(why) = task.withdrawn.as_ref().filter(|_| task.critical.is_none() || view.awaits.is_some()) {
        return hold(Rule::Withdrawn, why.advice(&task.key));
    }
    if let Some(hold) = refused_now(view) {
        return hold;
    }
    if let Some(job) = &view.live_job {
        return in_queue(job, view.now.wall_ms);
    }
    // What was pushed is shown before the task continues (SHIP-5).
    if task.refused.as_ref().is_some_and(|r| r.asked == Asked::OpenPull && task.pr.is_none()) {
        return Decision::Procedure(Procedure::OpenPull);
    }
    by_gates(&f)
}

fn terminal(view: &TaskView) -> Decision {
    let task = &view.task;
    if task.stage == Stage::Done && task.is_watched() && view.live_job.is_none() {
        let failed =
            view.ended.iter().filter(|j| j.kind == JobKind::PostDeployMonitor && j.status == JobStatus::Failed);
        let wait = match i64::try_from(failed.count()).unwrap_or(i64::MAX) {
            0 => 0,
            n => view.now.wall_ms + back_off(5000, n, task.id.0),
        };
        return Decision::Enqueue(NewJob { available_at: wait, ..NewJob::now(JobKind::PostDeployMonitor) });
    }
    match &view.live_job {
        Some(_) if task.is_watched() => hold(Rule::Watch, format!("{} is deployed and being watched", task.key)),
        Some(_) | None => hold(Rule::Terminal, format!("{} is {}", task.key, task.stage)),
    }
}

/// A recorded stop: at once where no critical window is open, else the deploy settles its own case first (RUN-9).
fn stopping(f: &Facts<'_>) -> Decision {
    let task = &f.view.task;
    if task.critical.is_none() {
        return complete_stop(f);
    }
    // An earlier attempt's deploy says nothing about the window that is open now.
    let state = f.view.deploy.as_ref().filter(|d| d.attempt == task.attempt).map(|d| d.state);
    if let Some(job) = &f.view.live_job {
        return match job.kind {
            JobKind::Deploy | JobKind::DeployFinalizer => {
                hold(Rule::CriticalWindow, "the stop waits for the deploy's own result".to_owned())
            }
            JobKind::Agent
            | JobKind::Ci
            | JobKind::Scan
            | JobKind::Staging
            | JobKind::Build
            | JobKind::PostDeployMonitor => {
                hold(Rule::CriticalWindow, "the stop waits for the critical window to close".to_owned())
            }
        };
    }
    match state {
        Some(DeployState::Initiated | DeployState::Landed | DeployState::Started) => by_gates(f),
        Some(DeployState::Settled) => match deploy_status::gate(f) {
            // The stop was too late; the record of the end says so.
            Answer::Pass { why } => Decision::Finish { why, watch: f.project.watch },
            Answer::Fail { .. } | Answer::Stale { .. } | Answer::Stuck { .. } | Answer::Undecided { .. } => {
                complete_stop(f)
            }
        },
        Some(DeployState::Withdrawn) | None => {
            if task.critical == Some(Window::Update) {
                Decision::Procedure(Procedure::MergeGate)
            } else {
                complete_stop(f)
            }
        }
    }
}

/// A stop that forge or remote refuses is retried, within the bound of every effect (ORD-1).
fn complete_stop(f: &Facts<'_>) -> Decision {
    let task = &f.view.task;
    let refused = task.refused.as_ref().is_some_and(|r| r.asked == Asked::Stop);
    if let Some(why) = task.blocked_reason.as_ref().filter(|_| refused) {
        return hold(Rule::Blocked, lifted(why, task.key.as_str()));
    }
    refused_now(f.view).filter(|_| refused).unwrap_or(Decision::Procedure(Procedure::CompleteStop))
}

/// Why a task is blocked, with the way out where the reason does not say it itself.
fn lifted(why: &str, key: &str) -> String {
    let way = format!("`orch retry {key}`");
    if why.contains(&way) { why.to_owned() } else { format!("{why}; {way} lifts the block") }
}

/// An effect that the forge refuses holds the task until that very effect is retried (ORD-1).
fn refused_now(view: &TaskView) -> Option<Decision> {
    let refused = view.task.refused.as_ref()?;
    let until = super::refused::held_until(refused, view.now.wall_ms)?;
    let why = format!("the forge refuses {}: {}", refused.asked.words(), refused.answer);
    Some(Decision::Hold { rule: Rule::ForgeRefused, why, until: Some(until) })
}

fn in_queue(job: &crate::model::task::Job, now: i64) -> Decision {
    let what = job.agent.map_or_else(|| job.kind.to_string(), |a| format!("the {a}"));
    if job.status == JobStatus::Running {
        if let Some(why) = job.reason.as_ref().filter(|_| job.available_at > now) {
            let why = format!("{what} has ended; {why}");
            return Decision::Hold { rule: Rule::Backoff, why, until: Some(job.available_at) };
        }
        return hold(Rule::Running, format!("{what} is running (job {})", job.id));
    }
    if job.available_at > now {
        let why = job.reason.clone().map_or_else(|| format!("{what} waits"), |r| format!("{what} waits: {r}"));
        return Decision::Hold { rule: rule(job.cause), why, until: Some(job.available_at) };
    }
    hold(Rule::Queued, format!("{what} is next in the queue (job {})", job.id))
}

fn by_gates(f: &Facts<'_>) -> Decision {
    let task = &f.view.task;
    if task.stage == Stage::Created {
        return match task.stage.next(&f.project.stages) {
            Some(first) => Decision::Enqueue(NewJob { agent: first.agent(), ..NewJob::now(JobKind::Agent) }),
            None => hold(Rule::Gate, "the project has no stage".to_owned()),
        };
    }
    // What the work is based on and judged by must be what was approved; in `deploy` the certificate checks it.
    if task.stage > Stage::Analysis
        && task.stage < Stage::Deploy
        && let Some(why) = f.stale_approval()
    {
        return Decision::Return { to: Stage::Analysis, why };
    }
    let mut reasons = Vec::new();
    for gate in gates::on_leaving(task.stage, f.project) {
        match gates::evaluate(gate, f) {
            Answer::Pass { why } => reasons.push(why),
            other @ (Answer::Fail { .. } | Answer::Stale { .. } | Answer::Stuck { .. } | Answer::Undecided { .. }) => {
                return of_answer(f, gate, other);
            }
        }
    }
    let why = reasons.join("; ");
    match task.stage.next(&f.project.stages) {
        Some(Stage::Done) | None => Decision::Finish { why, watch: f.project.watch },
        Some(to) => Decision::Advance { to, why },
    }
}

fn of_answer(f: &Facts<'_>, gate: Gate, answer: Answer) -> Decision {
    let task = &f.view.task;
    match answer {
        Answer::Pass { why } => hold(Rule::Gate, why),
        Answer::Fail { why, findings, squash } => roll_back(f, why, findings, squash),
        Answer::Stale { to, why } => Decision::Return { to, why },
        Answer::Stuck { why, freeze } => Decision::Block { why, held: None, freeze },
        Answer::Undecided { why, need } => match need {
            Need::Job(job) => Decision::Enqueue(job),
            Need::Procedure(effect) => match f.project.fault.as_ref().filter(|_| effect.is_by_repository()) {
                Some(why) => hold(Rule::Configuration, why.clone()),
                None => Decision::Procedure(effect),
            },
            Need::Wait { rule, until } => Decision::Hold { rule, why, until },
            Need::Person(waiting) if f.view.auto == Some(waiting) && label_counts(f, waiting) => {
                Decision::Release { waiting, label: f.policy.label(waiting).to_owned() }
            }
            Need::Person(waiting) if task.waiting_for != Some(waiting) => {
                let text = match waiting {
                    Waiting::Approval => None,
                    Waiting::ConfirmDeploy => f.project.runs_landed_code(),
                };
                Decision::Park { waiting, text: text.unwrap_or_default() }
            }
            Need::Person(_) => {
                let rule = if gate == Gate::AnalysisApproved { Rule::Approval } else { Rule::ConfirmDeploy };
                hold(rule, why)
            }
        },
    }
}

/// A label does not release a deploy whose CI may mean something else than before: a person has to check (BND-5).
fn label_counts(f: &Facts<'_>, waiting: Waiting) -> bool {
    match waiting {
        Waiting::Approval => true,
        Waiting::ConfirmDeploy => f.inputs().is_some_and(|inputs| inputs.is_empty()),
    }
}

/// What a person's rejection leads to: the same as a gate's *no*.
pub fn send_back(view: &TaskView, policy: &Policy, why: String, findings: Vec<Finding>) -> Decision {
    match policy.project(&view.task.project) {
        Some(project) => roll_back(&Facts { view, policy, project }, why, findings, false),
        None => hold(Rule::SwitchedOff, format!("project {} is not in the configuration", view.task.project)),
    }
}

/// Back to development with one more attempt, unless the budget is spent or nothing changes any more (PIPE-3).
fn roll_back(f: &Facts<'_>, why: String, findings: Vec<Finding>, squash: bool) -> Decision {
    let task = &f.view.task;
    // Red again where a person had CI rerun on this head: with a new budget, as for any retry (ORD-1).
    if ci_green::asked_again(f.view) {
        return Decision::Rollback { why, findings, squash, same: 0, budget: Budget::Fresh };
    }
    let same = if findings == task.findings { task.findings_same + 1 } else { 0 };
    if same >= MOST_SAME {
        let why = format!("the same findings came back unchanged {same} times: {why}");
        return Decision::Block { why, held: Some(findings), freeze: false };
    }
    if task.attempt - task.attempt_base >= f.policy.developer_retries {
        let why = format!("{} developer attempts are used up; the last: {why}", task.attempt - task.attempt_base + 1);
        return Decision::Block { why, held: Some(findings), freeze: false };
    }
    Decision::Rollback { why, findings, squash, same, budget: Budget::Counts }
}

fn hold(rule: Rule, why: String) -> Decision {
    Decision::Hold { rule, why, until: None }
}

#[cfg(test)]
#[path = "transition_tests.rs"]
mod tests;
