//! How a run ends: evidence, job, run, task and the move they allow, in one transaction under the run's fence (RULE-21).

use super::{Ctx, apply, view};
use crate::adapters::store::{NewEvidence, StoreError};
use crate::decide::again::environment_wait;
use crate::model::change::{Change, Illegal};
use crate::model::decision::Decision;
use crate::model::deploy::DeployResult;
use crate::model::ids::RunId;
use crate::model::refusal::Asked;
use crate::model::report::{ActionKind, ActionLine};
use crate::model::run_end::{RunEnd, RunResult};
use crate::model::stage::{JobKind, JobStatus};
use crate::model::task::{Cause, DeployState, Run, Task};
use anyhow::Result;
use serde_json::json;

/// What a finished run leaves.
#[derive(Debug, Default)]
pub struct Settlement {
    pub evidence: Vec<NewEvidence>,
    pub end: End,
    /// Changes of the task's row that belong to the same moment.
    pub head: Option<NewHead>,
    pub pr: Option<crate::model::task::PullRef>,
    /// What the forge refused after the work was done, and its answer (ORD-1).
    pub refused: Option<(Asked, String)>,
    /// The squash is done.
    pub reworked: bool,
    /// What its finalizer found.
    pub deploy: Option<DeployOutcome>,
    /// Told once on work item and pull request: cause and text.
    pub comments: Vec<(String, String)>,
}

impl Settlement {
    /// This machine lacks what `why` names: the job goes back, nothing is spent (ORD-1, RULE-45).
    pub fn environment(why: &str) -> Self {
        let why = format!("{why}; install, set or fix what is named");
        Self { end: End::Environment { why }, ..Self::default() }
    }
}

/// A started deploy's result. Recorded with what is told of it: a finalizer that dies in between finds all of it again.
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

/// How the job ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum End {
    #[default]
    Done,
    /// `spent`: counts against `run_retries`.
    Failed { why: String, spent: bool },
    /// Ended without a result, and no attempt is spent: counted by its cause (RULE-48).
    Unspent { cause: Cause, why: String },
    /// Back to the queue, to be claimed anew from this wall time on.
    Again { at: i64, why: String },
    /// Back to the queue, nothing spent: this machine lacks what is named, with the way out. Tried again by its backoff for
    /// as long as that lasts (ORD-1, RULE-45).
    Environment { why: String },
    /// Back to the queue until the base was tried after this wall time (ORD-1).
    BaseFirst { since: i64, why: String },
    /// The account's window is used up (RUN-7): the job goes back, the credential cools down.
    Limited {
        until: i64,
        why: String,
        credential: String,
        /// The service is overloaded or away: no count of it blocks (RULE-8).
        overload: bool,
    },
    /// Blocks the task with this reason.
    Block { why: String },
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
        let mut given_up = None;
        if present {
            change(&mut task, s, run.kind)?;
            if let Some((asked, answer)) = &s.refused {
                given_up = super::refused::note(&mut task, *asked, answer, policy.effects, at);
                tx.audit(at, Some(task.id), "forge_refused", &json!({"asked": asked, "answer": answer}))?;
            }
            for row in &s.evidence {
                tx.add_evidence(&task, row, at)?;
                if post && row.gate != crate::model::decision::CARRY {
                    super::messages::forge_status(tx, &task, row, at)?;
                }
                tx.audit(
                    at,
                    Some(task.id),
                    "evidence",
                    &json!({"gate": row.gate, "verdict": row.verdict, "why": row.why, "sha": row.sha, "run": run.id}),
                )?;
            }
            if post && s.head.is_some() {
                super::messages::forge_statuses_again(tx, &task, at)?;
            }
        }
        for (cause, text) in &s.comments {
            super::messages::comment(tx, &task, cause, text, at)?;
        }
        let blocked = end(tx, run, &task, &s.end, first_ms, at)?.or(given_up);
        tx.audit(
            at,
            Some(task.id),
            "run_finished",
            &json!({"run": run.id, "kind": run.kind, "agent": run.agent, "end": run_end(&s.end), "stage": run.stage}),
        )?;
        actions.push(ActionLine::new(
            ActionKind::RunFinished,
            Some(task.key.as_str()),
            json!({"run": run.id, "job_kind": run.kind, "agent": run.agent, "end": run_end(&s.end)}),
        ));
        if present {
            // Whoever decided on an older view must lose.
            tx.save_task(&mut task, at)?;
        }
        if let Some(why) = &blocked
            && present
        {
            let view = view::task(tx, run.task_id, &now, None)?;
            let mut t = view.task.clone();
            apply::block(tx, &view, &mut t, why, None, at)?;
            actions.push(ActionLine::new(ActionKind::TaskBlocked, Some(task.key.as_str()), json!({"why": why})));
        }
        let driven = apply::drive(tx, run.task_id, &policy, &now, auto)?;
        actions.extend(driven.actions);
        super::messages::card(tx, &tx.task(run.task_id)?, at)?;
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

fn record_deploy(
    tx: &crate::adapters::store::Tx<'_>,
    task: &Task,
    found: &DeployOutcome,
    at: i64,
) -> crate::adapters::store::Result<Option<ActionLine>> {
    let DeployOutcome { id, result } = found;
    match tx.move_deploy(id, DeployState::Started, DeployState::Settled, None, Some(result), at) {
        Ok(()) => {}
        // Another finalizer recorded it.
        Err(StoreError::Lost) => return Ok(None),
        Err(e) => return Err(e),
    }
    tx.audit(at, Some(task.id), "deploy_finished", &json!({"deploy": id, "status": result.end, "why": result.why}))?;
    let said = json!({"deploy": id, "status": result.end});
    Ok(Some(ActionLine::new(ActionKind::DeployFinished, Some(task.key.as_str()), said)))
}

fn change(task: &mut Task, s: &Settlement, kind: JobKind) -> Result<(), Illegal> {
    // The forge told its statuses.
    if kind == JobKind::Ci && s.refused.is_none() {
        task.refused = task.refused.take().filter(|r| r.asked != Asked::Statuses);
    }
    if kind == JobKind::Agent {
        task.refused = task.refused.take().filter(|r| r.asked != Asked::Push);
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

fn end(
    tx: &crate::adapters::store::Tx<'_>,
    run: &Run,
    task: &Task,
    end: &End,
    first_ms: i64,
    at: i64,
) -> crate::adapters::store::Result<Option<String>> {
    let mut blocked = None;
    match end {
        End::Done => tx.settle_job(run.job_id, &run.token, JobStatus::Done, None, false, at)?,
        End::Failed { why, spent } => {
            tx.settle_job(run.job_id, &run.token, JobStatus::Failed, Some(why), *spent, at)?
        }
        End::Unspent { cause, why } => tx.settle_job_unspent(run.job_id, &run.token, *cause, why, at)?,
        End::Block { why } => {
            tx.settle_job(run.job_id, &run.token, JobStatus::Failed, Some(why), true, at)?;
            blocked = Some(why.clone());
        }
        // An agent worked: another run of it is counted.
        End::Again { why, .. } if run.kind == JobKind::Agent && run.runtime.is_some() => {
            tx.settle_job_unspent(run.job_id, &run.token, Cause::Lost, why, at)?;
        }
        End::Again { at: due, why } => tx.requeue_job(run.job_id, &run.token, *due, why)?,
        End::Environment { why } => {
            let due = |times| at + environment_wait(first_ms, times);
            tx.requeue_job_for(run.job_id, &run.token, Cause::Environment, why, due)?;
        }
        End::BaseFirst { since, why } => {
            tx.requeue_job_for(run.job_id, &run.token, Cause::BaseFirst, why, |_| *since)?;
        }
        End::Limited { until, why, credential, overload } => {
            tx.requeue_job(run.job_id, &run.token, *until, why)?;
            let new = tx.limit_streak(credential)? == 0;
            let streak = tx.cool_down(credential, *until, why, at)?;
            if new {
                // One notice for each time that a window is used up.
                let n = tx.count_up(&format!("limits/{credential}"), 1)?;
                super::messages::alert_named(
                    tx,
                    crate::model::card::AlertKind::UsageLimit,
                    credential,
                    n,
                    &format!("{why}; it rests until {}", crate::model::time::rfc3339(*until)),
                    at,
                )?;
            }
            if streak >= MOST_LIMITS && !overload {
                tx.cancel_jobs(task.id, why, at)?;
                blocked = Some(format!("{streak} usage limits in a row without a new commit: {why}"));
            }
        }
    }
    // The service answered: whatever became of the run, the window is open again.
    if !matches!(end, End::Limited { .. } | End::Again { .. } | End::Environment { .. })
        && let Some(credential) = &run.credential
    {
        tx.end_cool_down(credential)?;
    }
    tx.settle_run(run.id, &run_end(end), at)?;
    Ok(blocked)
}

/// Five limits in a row without a new commit block (RULE-26).
const MOST_LIMITS: i64 = 5;

fn run_end(end: &End) -> RunEnd {
    let (result, why) = match end {
        End::Done => (RunResult::Done, ""),
        End::Failed { why, spent: true } => (RunResult::Failed, why.as_str()),
        End::Failed { why, spent: false } | End::Unspent { why, .. } => (RunResult::Lost, why.as_str()),
        End::Again { why, .. } | End::Environment { why } | End::BaseFirst { why, .. } => {
            (RunResult::Again, why.as_str())
        }
        End::Limited { why, .. } => (RunResult::Limited, why.as_str()),
        End::Block { why } => (RunResult::Blocked, why.as_str()),
    };
    RunEnd::new(result, why)
}

/// For how long, in milliseconds, a source has now answered "not yet" about one thing (RULE-8): only time between two of
/// its answers counts, an outage in between counts for nothing. `answered`: whether it did just now.
pub fn patience(ctx: &mut Ctx, task: &Task, what: &str, answered: bool) -> Result<i64> {
    let key = format!("t{}/e{}/undecided/{what}", task.id, task.epoch);
    let now = ctx.now().stamp;
    let me = ctx.me.clone();
    let before = ctx.store.read(|tx| tx.journal_row(&key))?.and_then(|r| r.outcome).unwrap_or(json!({}));
    let last = serde_json::from_value::<crate::model::time::Stamp>(before["at"].clone()).ok();
    let mut ms = before["ms"].as_i64().unwrap_or(0);
    if answered && before["answered"] == true {
        ms += last.and_then(|l| now.since(&l)).unwrap_or(0).max(0);
    }
    let outcome = json!({"ms": ms, "at": now, "answered": answered});
    ctx.store.write(|tx| {
        tx.intend(&key, Some(task.id), "undecided", &json!({"what": what}), &me, now.wall_ms)?;
        tx.record_outcome(&key, &outcome, now.wall_ms)
    })?;
    Ok(ms)
}

/// The run's row and whether this fence still holds it.
pub fn holds(ctx: &mut Ctx, run: RunId, fence: i64, observing: bool) -> Result<bool> {
    match ctx.store.read(|tx| tx.check_fence(run, fence, observing)) {
        Ok(()) => Ok(true),
        Err(StoreError::Lost) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
