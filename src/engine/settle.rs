//! Ends a run: evidence, job, run, task and the move they allow, in one transaction under the run's fence (RULE-21).

use super::{Ctx, apply, messages, record, view};
use crate::adapters::store::{NewEvidence, Result as StoreResult, StoreError, Tx};
pub use crate::decide::run_end::End;
use crate::decide::run_end::{self, JobEnd};
use crate::model::card::AlertKind;
use crate::model::change::{Change, Illegal};
use crate::model::decision::Decision;
use crate::model::deploy::DeployResult;
use crate::model::event::Event;
use crate::model::ids::RunId;
use crate::model::policy::Policy;
use crate::model::refusal::Asked;
use crate::model::report::{ActionKind, ActionLine};
use crate::model::stage::{JobKind, JobStatus};
use crate::model::task::{DeployState, Run, Task};
use anyhow::Result;
use serde_json::json;

/// What a finished run leaves.
#[derive(Debug, Default)]
pub struct Settlement {
    pub evidence: Vec<NewEvidence>,
    pub end: End,
    /// Changes of the task's row in the same transaction.
    pub head: Option<NewHead>,
    pub pr: Option<crate::model::task::PullRef>,
    /// What the forge refused after the work was done, and its answer (ORD-1).
    pub refused: Option<(Asked, String)>,
    /// The squash is done.
    pub reworked: bool,
    /// The deploy's result that the finalizer found.
    pub deploy: Option<DeployOutcome>,
    /// Posted once on work item and pull request: cause and text.
    pub comments: Vec<(String, String)>,
}

impl Settlement {
    /// This machine lacks what `why` names: the job is requeued and no attempt is spent (ORD-1, RULE-45).
    pub fn environment(why: &str) -> Self {
        Self { end: End::lack(why), ..Self::default() }
    }
}

/// A started deploy's result. Recorded together with its messages: if the finalizer dies in between, nothing is lost.
#[derive(Debug)]
pub struct DeployOutcome {
    pub id: String,
    pub result: DeployResult,
}

/// The pushed head after a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewHead {
    pub sha: crate::model::ids::Sha,
    pub tree: String,
}

/// What settling did.
#[derive(Debug)]
pub enum Settled {
    /// The fence was lost: nothing was done, and nothing may be done.
    Lost,
    Done,
}

/// Settles a run under its fence and drives its task as far as the database alone allows.
pub fn settle(ctx: &mut Ctx, run: &Run, fence: i64, s: &Settlement) -> Result<Settled> {
    let now = ctx.now();
    let at = now.stamp.wall_ms;
    let policy = ctx.policy.clone();
    let auto = super::labels::auto_release(ctx, run.task_id);
    let observing = !matches!(run.kind, crate::model::stage::JobKind::Agent);
    let owner = ctx.task(run.task_id)?.project;
    let post = ctx.project(&owner).is_ok_and(|p| p.forge.posts_statuses());
    let first_ms = super::policy::ms(ctx.config.agents.retry_backoff_s);
    let done = ctx.store.write(|tx| {
        tx.check_fence(run.id, fence, observing)?;
        let mut task = tx.task(run.task_id)?;
        let present = task.epoch == run.epoch && !task.stage.is_terminal();
        let mut actions = Vec::new();
        if let Some(found) = &s.deploy {
            actions.extend(record_deploy(tx, &task, found, at)?);
        }
        let given_up = if present { found(tx, &mut task, run, s, &policy, post, at)? } else { None };
        for (cause, text) in &s.comments {
            messages::comment(tx, &task, cause, text, at)?;
        }
        let blocked = end(tx, run, &task, &s.end, first_ms, at)?.or(given_up);
        record::event(
            tx,
            at,
            Some(task.id),
            Event::RunFinished,
            &json!({"run": run.id, "kind": run.kind, "agent": run.agent, "end": s.end.recorded(), "stage": run.stage}),
        )?;
        actions.push(ActionLine::new(
            ActionKind::RunFinished,
            Some(task.key.as_str()),
            json!({"run": run.id, "job_kind": run.kind, "agent": run.agent, "end": s.end.recorded()}),
        ));
        if present {
            // A decision based on an older view must lose.
            record::touch(tx, &mut task, at)?;
        }
        if let Some(why) = &blocked
            && present
        {
            let view = view::task(tx, run.task_id, &now, None)?;
            let mut t = view.task.clone();
            record::block(tx, &view, &mut t, why, None, at)?;
            actions.push(ActionLine::new(ActionKind::TaskBlocked, Some(task.key.as_str()), json!({"why": why})));
        }
        let driven = apply::drive(tx, run.task_id, &policy, &now, auto)?;
        actions.extend(driven.actions);
        messages::card(tx, &tx.task(run.task_id)?, at)?;
        Ok::<_, StoreError>((actions, driven.last))
    });
    match done {
        Ok((actions, last)) => {
            ctx.report.changed = true;
            ctx.report.actions.extend(actions);
            if let Decision::Hold { rule, why, .. } = last {
                tracing::debug!(task = %run.task_id, %rule, why, "settled");
            }
            Ok(Settled::Done)
        }
        Err(StoreError::Lost) => Ok(Settled::Lost),
        Err(e) => Err(e.into()),
    }
}

/// Records what a run of the current stay found: changes of the row, refusals, evidence. Returns why a refused effect
/// is given up.
fn found(
    tx: &Tx<'_>,
    task: &mut Task,
    run: &Run,
    s: &Settlement,
    policy: &Policy,
    post: bool,
    at: i64,
) -> StoreResult<Option<String>> {
    let mut given_up = None;
    change(task, s, run.kind)?;
    if let Some((asked, answer)) = &s.refused {
        let (noted, why) = crate::decide::refused::refused(task, *asked, answer, policy.effects, at);
        task.apply(Change::Refused(noted))?;
        given_up = why;
        record::event(tx, at, Some(task.id), Event::ForgeRefused, &json!({"asked": asked, "answer": answer}))?;
    }
    for row in &s.evidence {
        tx.add_evidence(task, row, at)?;
        if post && row.subject != crate::model::gate::Subject::Carry {
            messages::forge_status(tx, task, row, at)?;
        }
    }
    if post && s.head.is_some() {
        messages::forge_statuses_again(tx, task, at)?;
    }
    Ok(given_up)
}

fn record_deploy(tx: &Tx<'_>, task: &Task, found: &DeployOutcome, at: i64) -> StoreResult<Option<ActionLine>> {
    let DeployOutcome { id, result } = found;
    match tx.move_deploy(id, DeployState::Started, DeployState::Settled, None, Some(result), at) {
        Ok(()) => {}
        // Another finalizer recorded it.
        Err(StoreError::Lost) => return Ok(None),
        Err(e) => return Err(e),
    }
    record::event(
        tx,
        at,
        Some(task.id),
        Event::DeployFinished,
        &json!({"deploy": id, "status": result.end, "why": result.why}),
    )?;
    let said = json!({"deploy": id, "status": result.end});
    Ok(Some(ActionLine::new(ActionKind::DeployFinished, Some(task.key.as_str()), said)))
}

fn change(task: &mut Task, s: &Settlement, kind: JobKind) -> Result<(), Illegal> {
    // The forge reported its statuses.
    if kind == JobKind::Ci && s.refused.is_none() {
        task.apply(Change::NotRefused(Asked::Statuses))?;
    }
    if kind == JobKind::Agent {
        task.apply(Change::NotRefused(Asked::Push))?;
    }
    if let Some(head) = &s.head {
        task.apply(Change::Head { sha: head.sha.clone(), tree: head.tree.clone() })?;
    }
    if let Some(pr) = &s.pr {
        task.apply(Change::Pull(Some(pr.clone())))?;
    }
    if s.reworked {
        task.apply(Change::Reworked)?;
    }
    Ok(())
}

/// Ends job, cool-down and run. Returns why the task is blocked, if it is.
fn end(tx: &Tx<'_>, run: &Run, task: &Task, end: &End, first_ms: i64, at: i64) -> StoreResult<Option<String>> {
    let (id, token) = (run.job_id, run.token.as_str());
    match run_end::of_job(end, run.kind, run.runtime.is_some(), at, first_ms) {
        JobEnd::Done => tx.settle_job(id, token, JobStatus::Done, None, false, at)?,
        JobEnd::Failed { why, spent } => tx.settle_job(id, token, JobStatus::Failed, Some(why), spent, at)?,
        JobEnd::Unspent { cause, why } => tx.settle_job_unspent(id, token, cause, why, at)?,
        JobEnd::Again { at: due, why } => tx.requeue_job(id, token, due, why)?,
        JobEnd::Later { cause, why, wait } => tx.requeue_job_for(id, token, cause, why, |times| wait.due(times))?,
    }
    let limits = match end {
        End::Limited { until, why, credential, .. } => cool_down(tx, credential, *until, why, at)?,
        End::Done
        | End::Failed { .. }
        | End::Unspent { .. }
        | End::Again { .. }
        | End::Environment { .. }
        | End::BaseFirst { .. }
        | End::Block { .. } => 0,
    };
    let blocked = run_end::blocks(end, limits);
    // A job requeued because of the limit must not wait behind the block.
    if let (1.., Some(why)) = (limits, &blocked) {
        tx.cancel_jobs(task.id, why, at)?;
    }
    if end.shows_an_open_window()
        && let Some(credential) = &run.credential
    {
        tx.end_cool_down(credential)?;
    }
    tx.settle_run(run.id, &end.recorded(), at)?;
    Ok(blocked)
}

/// Pauses the credential. Returns how many limits were hit in a row.
fn cool_down(tx: &Tx<'_>, credential: &str, until: i64, why: &str, at: i64) -> StoreResult<i64> {
    let new = tx.limit_streak(credential)? == 0;
    let streak = tx.cool_down(credential, until, why, at)?;
    if new {
        // One notice each time a usage window is exhausted.
        let n = tx.count_up(&format!("limits/{credential}"), 1)?;
        let said = format!("{why}; it rests until {}", crate::model::time::rfc3339(until));
        messages::alert_named(tx, AlertKind::UsageLimit, credential, n, &said, at)?;
    }
    Ok(streak)
}

/// The run's row and whether this fence still holds it.
pub fn holds(ctx: &mut Ctx, run: RunId, fence: i64, observing: bool) -> Result<bool> {
    match ctx.store.read(|tx| tx.check_fence(run, fence, observing)) {
        Ok(()) => Ok(true),
        Err(StoreError::Lost) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
