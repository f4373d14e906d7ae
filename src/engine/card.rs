//! A task's card as data, from rows alone (NTF-1).

use super::{Ctx, boards};
use crate::adapters::store::{Result, Tx};
use crate::decide::gates::inputs_of;
use crate::model::act::By;
use crate::model::answers::Answers;
use crate::model::card::{Ask, CardData, CardRun, CardRunState};
use crate::model::confine::{Held, RunConfinement};
use crate::model::evidence::EvidenceVerdict;
use crate::model::gate::Gate;
use crate::model::ids::TaskId;
use crate::model::policy::Policy;
use crate::model::shown::NOT_INDEPENDENT;
use crate::model::stage::{JobStatus, Stage};
use crate::model::task::{Evidence, RunState, Task, Waiting};

/// A task's card as plain text, in the language of the notifications.
pub fn plain(ctx: &mut Ctx, id: TaskId) -> anyhow::Result<String> {
    let data = of(ctx, id)?;
    Ok(crate::render::card::card(&data, ctx.config.notify.locale).plain)
}

/// What the card of a task shows.
pub fn of(ctx: &mut Ctx, id: TaskId) -> anyhow::Result<CardData> {
    let task = ctx.task(id)?;
    let answers = match ctx.project(&task.project).cloned() {
        Ok(project) => boards::answers(ctx, &project),
        Err(_) => Answers::default(),
    };
    let (policy, now) = (ctx.policy.clone(), ctx.now().stamp.wall_ms);
    let mut data = ctx.store.read(|tx| data(tx, id, &policy, &answers, now))?;
    data.wait = super::show::wait(ctx, &task, ctx.config.notify.locale);
    Ok(data)
}

fn data(tx: &Tx<'_>, id: TaskId, policy: &Policy, answers: &Answers, now_ms: i64) -> Result<CardData> {
    let task = tx.task(id)?;
    let stages = policy
        .project(&task.project)
        .map_or_else(|| Stage::ALL.iter().copied().filter(|s| s.may_be_left_out()).collect(), |p| p.stages.clone());
    let mut asks = Vec::new();
    // Nothing else is asked about a task that a person withdrew.
    match task.waiting_for.filter(|_| task.withdrawn.is_none()) {
        Some(Waiting::Approval) => asks.push(Ask::Approval(answers.approved.clone())),
        Some(Waiting::ConfirmDeploy) => asks.push(Ask::ConfirmDeploy(answers.confirm_deploy.clone())),
        None => {}
    }
    asks.extend(task.blocked_reason.clone().map(Ask::Blocked));
    asks.extend(task.withdrawn.as_ref().map(|w| Ask::Withdrawn(w.advice(&task.key))));
    asks.extend(super::awaits::of(tx, &task)?.map(|a| Ask::Forge(a.said)));
    asks.extend(tx.freeze(&task.repo)?.map(|f| Ask::Frozen(f.reason)));
    let runs = tx.runs_of(id)?;
    let rows = tx.evidence_of(id)?;
    let listed = task.head_tree.as_deref().and_then(|tree| inputs_of(&rows, tree));
    let running = tx.live_job(id)?.is_some_and(|j| j.status == JobStatus::Running);
    Ok(CardData {
        key: task.key.to_string(),
        url: None,
        title: task.title.clone(),
        stage: task.stage,
        stopped_stage: task.stopped_stage,
        stages,
        attempt: task.attempt,
        epoch: task.epoch,
        running,
        asks,
        wait: Vec::new(),
        inputs: listed.unwrap_or_default(),
        pr_url: task.pr.as_ref().map(|p| p.url.clone()).filter(|u| !u.is_empty()),
        notes: failed_deploy_note(&task, &rows)
            .into_iter()
            .chain(stop_note(&task))
            .chain(landed_code_note(policy, &task))
            .chain(on_red_base(tx, &task)?)
            .chain(notes(tx, id, &rows)?)
            .chain(held_note(tx, &task)?)
            .collect(),
        runs: runs
            .into_iter()
            .map(|r| CardRun {
                stage: r.stage,
                kind: r.kind,
                agent: r.agent,
                attempt: r.attempt,
                epoch: r.epoch,
                state: match (r.state, &r.result) {
                    (RunState::Settled, Some(end)) if end.is_well() => CardRunState::Done,
                    (RunState::Settled, _) => CardRunState::Failed,
                    (RunState::Starting | RunState::Live | RunState::Exited, _) => CardRunState::Running,
                },
                started_at: r.started_at,
                ended_at: r.ended_at,
                cost_micros: r.cost_micros,
                tokens_in: r.tokens_in,
                tokens_out: r.tokens_out,
                model: r.model,
                effort: r.effort,
            })
            .collect(),
        now_ms,
    })
}

/// A recorded stop that is not applied: it waits for the critical window or arrived too late (RULE-16).
fn stop_note(task: &Task) -> Option<String> {
    task.stop_requested_at?;
    match (task.stage, &task.critical) {
        (Stage::Done, _) => Some("The stop came too late: the task was already deployed.".to_owned()),
        (Stage::Cancelled, _) | (_, None) => None,
        (_, Some(what)) => Some(format!("A stop is recorded; it waits for {what} to end.")),
    }
}

/// What Confirm Deploy permits in addition to the merge (BND-3).
fn landed_code_note(policy: &Policy, task: &Task) -> Option<String> {
    task.waiting_for.filter(|w| *w == Waiting::ConfirmDeploy)?;
    policy.project(&task.project)?.runs_landed_code().map(|note| format!("The {note}."))
}

/// The note that a person let it start on a red base (ORD-1).
fn on_red_base(tx: &Tx<'_>, task: &Task) -> Result<Option<String>> {
    let allowed = !task.stage.is_terminal() && super::base_rows::on_red(tx)?.contains(&task.id);
    Ok(allowed.then(|| "A person started it although the base is red.".to_owned()))
}

/// A cancelled task's deploy that did not succeed: the state of production matters more than the end of the task.
fn failed_deploy_note(task: &Task, rows: &[Evidence]) -> Option<String> {
    let last = rows.iter().rev().find(|e| e.subject == Gate::DeployStatus)?;
    let failed = task.stage == Stage::Cancelled && last.verdict != EvidenceVerdict::Pass;
    failed.then(|| format!("The deploy failed: {}.", last.why))
}

/// What confines the task's runs, if that is incomplete (BND-2).
fn held_note(tx: &Tx<'_>, task: &Task) -> Result<Option<String>> {
    if task.stage.is_terminal() {
        return Ok(None);
    }
    let all = super::confine::noted(tx)?;
    let Some(s) = RunConfinement::find(&all, &task.project, task.stage.agent()) else { return Ok(None) };
    let open = if s.open { ", network open" } else { "" };
    Ok(match s.held {
        None => s.why.as_ref().map(|why| format!("Nothing starts: {why}")),
        Some(Held::Unconfined) => Some("Unconfined: its runs have all rights of this account.".to_owned()),
        Some(Held::Landlock) => Some(format!(
            "Confined by landlock{open}: modes, times and attributes of the operator's files can be changed."
        )),
        Some(Held::Command) => Some(format!("Confined by command{open}.")),
        Some(Held::Bubblewrap) => s.open.then(|| "Confined by bubblewrap, network open.".to_owned()),
    })
}

/// The card's notes: waived staging checks (SHIP-3), dependencies that could not be audited (SHIP-1) and what a label
/// answered (BRD-5).
fn notes(tx: &Tx<'_>, id: TaskId, rows: &[Evidence]) -> Result<Vec<String>> {
    let newest = |gate: Gate| rows.iter().rev().find(|e| e.subject == gate);
    let caveat = |gate| newest(gate).filter(|e| e.detail.of_code().is_some_and(|c| c.caveat)).map(|e| e.why.clone());
    let dependent = newest(Gate::ReviewVerdict).filter(|e| e.depends()).map(|_| NOT_INDEPENDENT.to_owned());
    let written = [dependent, caveat(Gate::SecurityGate), caveat(Gate::StagingStatus)].into_iter().flatten();
    let by_label = tx.events_of(id, "released")?.into_iter().filter_map(|detail| {
        let detail: serde_json::Value = serde_json::from_str(&detail).ok()?;
        let by = serde_json::from_value::<By>(detail["by"].clone()).ok()?;
        let written = || {
            format!(
                "{} released by {by}: {}.",
                detail["for"].as_str().unwrap_or("it"),
                detail["so"].as_str().unwrap_or("it continues")
            )
        };
        matches!(by, By::Label { .. }).then(written)
    });
    Ok(written.chain(by_label).collect())
}
