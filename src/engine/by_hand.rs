//! What a person does to a task on the command line: reject, retry.

use super::base_rows;
use super::record;
use super::red_ci::{RedCi, red_ci};
use super::{Ctx, Moment, apply, base, bound, messages, perform, view};
use crate::adapters::store::{NewEvidence, Result as StoreResult, StoreError, Tx};
use crate::config::Config;
use crate::decide::command::{self, DeployAgain, Held, Lift, Refused, Reject, Then};
use crate::decide::transition;
use crate::model::act::By;
use crate::model::change::{Budget, Change, Move};
use crate::model::decision::Decision;
use crate::model::event::Event;
use crate::model::finding::{Finding, Origin};
use crate::model::ids::TaskId;
use crate::model::policy::Policy;
use crate::model::report::{ActionKind, ActionLine};
use crate::model::run_end::{RunEnd, RunResult};
use crate::model::stage::{JobKind, JobStatus, Stage};
use crate::model::task::{Cause, Deploy, DeployState, Job, NewJob, Run, RunState, Task};
use crate::model::time::Stamp;
use crate::model::withdrawal::Withdrawal;
use anyhow::Result;
use serde_json::json;

/// `--reject`: in analysis the analyst works again with the reason; from architecture on the task returns to
/// development. `false`: refused (created, terminal, a deploy in progress). A current run is ended, since its result no
/// longer matters.
pub fn reject(ctx: &mut Ctx, id: TaskId, text: &str, by: &By) -> Result<bool> {
    let (now, policy) = (ctx.now(), ctx.policy.clone());
    let done = ctx.store.write(|tx| reject_in(tx, id, text, by, &now, &policy))?;
    let Some(Rejected { actions, cut }) = done else { return Ok(false) };
    ctx.report.changed = true;
    ctx.report.actions.extend(actions);
    if !ctx.dry && !cut.is_empty() {
        perform::processes::end_runs(ctx, &cut)?;
    }
    Ok(true)
}

/// What a rejection did.
#[derive(Debug)]
pub struct Rejected {
    pub actions: Vec<ActionLine>,
    /// Runs whose processes must be ended.
    pub cut: Vec<Run>,
}

/// The same within the caller's transaction; `None`: refused.
pub fn reject_in(
    tx: &Tx<'_>,
    id: TaskId,
    text: &str,
    by: &By,
    now: &Moment,
    policy: &Policy,
) -> Result<Option<Rejected>, StoreError> {
    let at = now.stamp.wall_ms;
    let view = view::task(tx, id, now, None)?;
    let task = view.task.clone();
    let Ok(meaning) = command::reject(&view) else { return Ok(None) };
    let running = view.live_job.as_ref().filter(|j| j.status == JobStatus::Running);
    let mut cut = Vec::new();
    if let Some(job) = running {
        // Without the claim's token its supervisor can no longer settle, push or judge.
        cut = tx.runs_of(id)?.into_iter().filter(|r| r.job_id == job.id).collect::<Vec<_>>();
        tx.settle_runs_of_job(job.id, &RunEnd::new(RunResult::Cancelled, "rejected by a person"), at)?;
    }
    let mut actions = Vec::new();
    let cancelled = tx.cancel_jobs(id, "rejected by a person", at)?;
    if !cut.is_empty() {
        actions.push(ActionLine::new(ActionKind::JobCancelled, Some(task.key.as_str()), json!({"jobs": cancelled})));
    }
    let mut t = task.clone();
    record::change(tx, &mut t, Change::Unblock, at)?;
    record::event(tx, at, Some(id), Event::Rejected, &json!({"stage": task.stage, "why": text, "by": by}))?;
    match meaning {
        Reject::Analyse => {
            record::change(tx, &mut t, Change::Move(Move::Repeat), at)?;
            let reason = Some(format!("A person rejected the analysis: {text}"));
            let job = NewJob { agent: Stage::Analysis.agent(), reason, ..NewJob::now(JobKind::Agent) };
            let job = tx.enqueue(&t, &job, at)?;
            messages::show(tx, &t, at)?;
            actions.push(ActionLine::new(
                ActionKind::JobEnqueued,
                Some(t.key.as_str()),
                json!({"job": job, "agent": "analyst"}),
            ));
        }
        Reject::SendBack => {
            let finding = Finding { source: Origin::Person, text: text.to_owned() };
            let view = view::task(tx, id, now, None)?;
            let decision = transition::send_back(&view, policy, format!("rejected by a person: {text}"), vec![finding]);
            apply::one(tx, view, decision, now, &mut actions)?;
        }
    }
    Ok(Some(Rejected { actions, cut }))
}

/// The result of `orch retry`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retried {
    /// Something is retried.
    Begun,
    /// Nothing waits for a person.
    Nothing,
    /// It can't be done, with the reason.
    Refused(String),
}

/// `orch retry`: makes the held decision again with a fresh budget. What waits for its time, a base, or a refusing
/// forge is retried at once. A red CI runs again on the same head if its settings have changed or `ci` asks for it
/// (ORD-1).
pub fn retry(ctx: &mut Ctx, id: TaskId, ci: bool, by: &By) -> Result<Retried> {
    let taken = ctx.task(id)?.withdrawn.filter(Withdrawal::on_forge);
    if let Some(Withdrawal::BranchGone { branch }) = &taken {
        base::restore(ctx, id, branch)?;
    }
    let red = red_ci(ctx, id)?;
    let now = ctx.now();
    let done = ctx.store.write(|tx| {
        let task = tx.task(id)?;
        let held = Held { taken: taken.as_ref(), red: red.as_ref().map(|r| r.changed), kept: kept_run(tx, id)? };
        match command::retry(&task, &held, ci) {
            Err(why @ Refused::NoRedCi) => Ok(Err(Retried::Refused(format!("{} {why}", task.key)))),
            Err(_) => Ok(Err(Retried::Nothing)),
            Ok(command::Retry::DueNow) => {
                let due = at_once(tx, &ctx.config, &task, now.stamp.wall_ms)?;
                if due {
                    record::event(
                        tx,
                        now.stamp.wall_ms,
                        Some(id),
                        Event::Retried,
                        &json!({"stage": task.stage, "by": by}),
                    )?;
                }
                Ok(if due { Ok(Vec::new()) } else { Err(Retried::Nothing) })
            }
            Ok(command::Retry::Lift(lift)) => {
                if task.stage == Stage::Created {
                    try_base(tx, &ctx.config, &task)?;
                }
                lifted(tx, task, &lift, red.as_ref(), by, &now).map(Ok)
            }
        }
    })?;
    let actions = match done {
        Ok(actions) => actions,
        Err(instead) => return Ok(instead),
    };
    ctx.report.changed = true;
    ctx.report.actions.extend(actions);
    Ok(Retried::Begun)
}

/// Lifts what a retry lifts and starts what follows.
fn lifted(
    tx: &Tx<'_>,
    mut task: Task,
    lift: &Lift,
    red: Option<&RedCi>,
    by: &By,
    now: &Moment,
) -> StoreResult<Vec<ActionLine>> {
    let (id, at) = (task.id, now.stamp.wall_ms);
    let why = task.blocked_reason.clone();
    task.apply(Change::AskAgain { at })?;
    task.apply(Change::Unblock)?;
    if lift.restores {
        task.apply(Change::Withdrawal(None))?;
    }
    // A pull request that was closed, or deleted with its branch, is replaced by a new one.
    if !lift.keeps_pull {
        task.apply(Change::Pull(None))?;
    }
    let rollback = matches!(lift.then, Then::RollBack(_));
    record::event(
        tx,
        at,
        Some(id),
        Event::Retried,
        &json!({"stage": task.stage, "was": why, "rollback": rollback, "ci": lift.ci, "by": by}),
    )?;
    let mut actions = Vec::new();
    match &lift.then {
        Then::RollBack(findings) => {
            record::touch(tx, &mut task, at)?;
            let view = view::task(tx, id, now, None)?;
            let why = format!("retried: {}", why.unwrap_or_default());
            let findings = findings.clone();
            let decision = Decision::Rollback { why, findings, squash: false, same: 0, budget: Budget::Fresh };
            apply::one(tx, view, decision, now, &mut actions)?;
        }
        Then::Continue => {
            record::touch(tx, &mut task, at)?;
            if let Some(job) = tx.live_job(id)?.filter(|j| j.status == JobStatus::Running) {
                tx.resume_job(job.id, at)?;
            }
            messages::show(tx, &task, at)?;
        }
        Then::Repeat => {
            let epoch = task.epoch;
            task.apply(Change::Move(Move::Repeat))?;
            holds(tx, &task, epoch, at, &now.root)?;
            if let Some(red) = red.filter(|_| lift.ci) {
                red.runs_again(tx, &task, at)?;
            }
            again(tx, &mut task, &now.stamp)?;
            record::touch(tx, &mut task, at)?;
            messages::show(tx, &task, at)?;
        }
    }
    Ok(actions)
}

/// Checks the base of a task's project at once if it holds first jobs. Returns whether it does.
fn try_base(tx: &Tx<'_>, config: &Config, task: &Task) -> StoreResult<bool> {
    config.project(&task.project).map_or(Ok(false), |p| base_rows::try_now(tx, p.base_name()))
}

/// Makes what only waits due now: a job that was requeued or deferred, and the base that holds a first job. Returns
/// whether there is any.
fn at_once(tx: &Tx<'_>, config: &Config, task: &Task, at: i64) -> StoreResult<bool> {
    let held_by_base = task.stage == Stage::Created && try_base(tx, config, task)?;
    // A job that waits for a base is due after the base's check.
    let waits = |j: &Job| j.available_at > at && j.cause != Some(Cause::BaseFirst);
    let Some(job) = tx.live_job(task.id)?.filter(waits) else { return Ok(held_by_base) };
    tx.resume_job(job.id, at)?;
    Ok(true)
}

/// `orch retry --on-red-base`: the task starts although its base is red (ORD-1). `false`: it has already started.
pub fn allow_red_base(ctx: &mut Ctx, id: TaskId, by: &By) -> Result<bool> {
    let task = ctx.task(id)?;
    if task.stage != Stage::Created {
        return Ok(false);
    }
    let at = ctx.now().stamp.wall_ms;
    ctx.store.write(|tx| {
        base_rows::allow(tx, id)?;
        record::event(tx, at, Some(id), Event::StartsOnRedBase, &json!({"by": by}))?;
        messages::comment(tx, &task, "on-red-base", "A person started it although the base is red.", at)?;
        messages::show(tx, &task, at)
    })?;
    ctx.report.changed = true;
    Ok(true)
}

/// `orch retry --from STAGE`: that stage's agent starts with a fresh budget (ORD-1).
pub fn retry_from(ctx: &mut Ctx, id: TaskId, stage: Stage, by: &By) -> Result<Retried> {
    let now = ctx.now();
    let at = now.stamp.wall_ms;
    let project = ctx.task(id)?.project;
    let stages = ctx.policy.project(&project).map(|p| p.stages.clone()).unwrap_or_default();
    let done = ctx.store.write(|tx| {
        let view = view::task(tx, id, &now, None)?;
        let mut task = view.task.clone();
        let decision = match command::retry_from(&view, stage, &stages) {
            Ok(decision) => decision,
            Err(why) => return Ok(Err(format!("{} {why}", task.key))),
        };
        tx.cancel_jobs(id, "started again by a person", at)?;
        let was = task.blocked_reason.clone();
        task.apply(Change::Unblock)?;
        record::change(tx, &mut task, Change::FreshBudget, at)?;
        record::event(
            tx,
            at,
            Some(id),
            Event::Retried,
            &json!({"stage": task.stage, "from": stage, "was": was, "by": by}),
        )?;
        let mut actions = Vec::new();
        let view = view::task(tx, id, &now, None)?;
        apply::one(tx, view, decision, &now, &mut actions)?;
        Ok::<_, StoreError>(Ok(actions))
    })?;
    match done {
        Err(why) => Ok(Retried::Refused(why)),
        Ok(actions) => {
            ctx.report.changed = true;
            ctx.report.actions.extend(actions);
            Ok(Retried::Begun)
        }
    }
}

/// Whether a run of the task has exited and waits for its push.
fn kept_run(tx: &Tx<'_>, id: TaskId) -> StoreResult<bool> {
    let Some(job) = tx.live_job(id)? else { return Ok(false) };
    let exited = |r: &Run| r.job_id == job.id && r.state == RunState::Exited && job.token.as_ref() == Some(&r.token);
    Ok(job.status == JobStatus::Running && tx.runs_of(id)?.iter().any(exited))
}

/// Carries what stays valid over into the stay that has just begun.
fn holds(tx: &Tx<'_>, task: &Task, epoch: i64, at: i64, root: &std::path::Path) -> StoreResult<()> {
    let rows = bound::checked(tx.evidence_of(task.id)?, root);
    for e in command::stays_valid(&rows, epoch) {
        let Some(gate) = e.subject.gate() else { continue };
        let copy = NewEvidence {
            subject: gate.into(),
            run_id: e.run_id,
            sha: e.sha.clone(),
            code_tree: e.code_tree.clone(),
            verdict: e.verdict,
            why: e.why.clone(),
            detail: e.detail.clone(),
        };
        tx.add_evidence(task, &copy, at)?;
    }
    Ok(())
}

/// Resumes the attempt's deploy or creates it again (RULE-18).
fn again(tx: &Tx<'_>, task: &mut Task, now: &Stamp) -> StoreResult<()> {
    let window = match command::deploy_again(task, &tx.deploys_of(task.id)?) {
        DeployAgain::No => return Ok(()),
        DeployAgain::TakeUp(window) => window,
        DeployAgain::New(new) => {
            let new = Deploy { initiated_at: now.clone(), ..*new };
            tx.insert_deploy(&new)?;
            let (from, to) = (DeployState::Initiated, DeployState::Landed);
            tx.move_deploy(&new.id, from, to, new.landed_sha.as_ref(), None, now.wall_ms)?;
            new.window()
        }
    };
    task.apply(Change::OpenWindow(window))?;
    Ok(())
}
