//! `tick`: read local boards, move idle tasks, claim runnable jobs within the limits and start them (RUN-1 to RUN-4).

use super::folder;
use super::launch::{new_token, spawn};
use super::record;
use super::{Ctx, advance, artefacts, base, blockers, branches, chat, intents, messages, outbox, prune, view};
use crate::adapters::{disk, sentinel, store::StoreError};
use crate::decide::again::{START_AGAIN_MS, environment_wait};
use crate::decide::dispatch::{self, Alerted};
use crate::model::card::AlertKind;
use crate::model::change::{Change, Move};
use crate::model::event::Event;
use crate::model::ids::{RunId, TaskId};
use crate::model::report::{ActionKind, Held};
use crate::model::run_end::{RunEnd, RunResult};
use crate::model::stage::Stage;
use crate::model::task::{Cause, Run};
use crate::model::time::day_start;
use crate::model::view::{Claim, QueueView};
use anyhow::Result;
use serde_json::json;

/// The whole step.
pub fn run(ctx: &mut Ctx, only: Option<&str>, most: Option<usize>) -> Result<()> {
    // The parts are independent: what stops one is an error of the step but does not stop the others (RULE-44).
    let part = |ctx: &mut Ctx, what: &str, done: Result<()>| {
        if let Err(e) = done {
            ctx.fault(None, what, &e);
        }
    };
    let done = super::reap::resume(ctx);
    part(ctx, "finishing runs that waited", done);
    let done = super::base_job::resume(ctx);
    part(ctx, "finishing base checks", done);
    folder::take_in_local(ctx, only);
    let done = intents::apply_all(ctx, only);
    part(ctx, "applying what people set on the boards", done);
    let done = advance::idle_tasks(ctx, only);
    part(ctx, "moving tasks on", done);
    if !ctx.interrupted() {
        let done = artefacts::commit_due(ctx);
        part(ctx, "committing orch's own artefacts", done);
        let done = branches::tidy(ctx);
        part(ctx, "deleting merged branches", done);
        let done = dispatch_jobs(ctx, only, most);
        part(ctx, "starting jobs", done);
        // After the starts, so that an unavailable chat delays none; what an answer releases starts at once.
        if chat::answers(ctx, chat::When::Asked) {
            let done = dispatch_jobs(ctx, only, most);
            part(ctx, "starting jobs", done);
        }
    }
    if !ctx.dry {
        super::guard::ballast(ctx);
    }
    outbox::deliver(ctx);
    if !ctx.interrupted() {
        let done = prune::auto(ctx);
        part(ctx, "deleting what ended tasks left", done);
    }
    Ok(())
}

/// The most jobs that one step starts, so that it ends within seconds however many are queued. The next step, at most
/// ten seconds later, continues (speed).
const MOST_STARTS: usize = 16;

/// A claimed job with everything needed to start it.
struct Claimed {
    run: RunId,
    token: String,
    task: TaskId,
    key: String,
    starts: bool,
}

/// Claims every job that may be claimed, in one transaction, and starts it.
pub fn dispatch_jobs(ctx: &mut Ctx, only: Option<&str>, most: Option<usize>) -> Result<()> {
    let most = most.unwrap_or(MOST_STARTS).min(MOST_STARTS);
    super::repository::ready(ctx, only, most)?;
    let mut now = ctx.now();
    let policy = ctx.policy.clone();
    let free = if ctx.dry { None } else { disk::free_mb(ctx.paths.root()).ok() };
    let day = day_start(now.stamp.wall_ms);
    super::confine::observe(ctx)?;
    // Nothing queued: no write lock is taken.
    if ctx.store.read(|tx| tx.queued_jobs())?.is_empty() {
        return Ok(());
    }
    let board = blockers::ready(ctx, only, most, day, free)?;
    super::base_look::ready(ctx, only, most, day, free)?;
    let root = ctx.paths.root().to_owned();
    let (claimed, held) = ctx.store.write(|tx| {
        // Time may have passed while asking the board and waiting for the lock, so HALT is read where the claim is made
        // (RULE-24).
        now.halted = sentinel::halted(&root);
        let queue = QueueView { board, ..view::queue(tx, &now, &policy, day, free)? };
        let plan = dispatch::plan(&queue, &policy, only, most);
        let mut claimed = Vec::new();
        for claim in &plan.claims {
            claimed.extend(take(tx, claim, &now)?);
        }
        for held in &plan.held {
            alert_cost_limit(tx, held, &policy, day, now.stamp.wall_ms)?;
        }
        Ok::<_, StoreError>((claimed, plan.held))
    })?;
    ctx.report.skipped.extend(held);
    if !ctx.dry {
        let starting: Vec<TaskId> = claimed.iter().filter(|c| c.starts).map(|c| c.task).collect();
        base::look_ahead(ctx, &starting);
    }
    for c in claimed {
        if let Err(e) = start(ctx, &c) {
            let row = ctx.task(c.task).ok();
            ctx.fault(row.as_ref(), "starting a job", &e);
        }
    }
    Ok(())
}

/// Reports a run held by a cost cap once per task, cap and day (NTF-2).
fn alert_cost_limit(
    tx: &crate::adapters::store::Tx<'_>,
    held: &Held,
    policy: &crate::model::policy::Policy,
    day: i64,
    at: i64,
) -> Result<(), StoreError> {
    match dispatch::alerted(held, policy, day) {
        Alerted::No => Ok(()),
        Alerted::Task { key, number } => {
            let Some(task) = tx.task_by_key(&key)? else { return Ok(()) };
            messages::alert(tx, &task, AlertKind::CostLimit, number, &held.why, at)
        }
        Alerted::Setting { name, number } => {
            messages::alert_named(tx, AlertKind::CostLimit, name, number, &held.why, at)
        }
    }
}

fn take(
    tx: &crate::adapters::store::Tx<'_>,
    claim: &Claim,
    now: &super::Moment,
) -> Result<Option<Claimed>, StoreError> {
    let at = now.stamp.wall_ms;
    let token = new_token();
    if !tx.claim_job(claim.job, &token)? {
        return Ok(None);
    }
    let mut task = tx.task(claim.task)?;
    if let Some(stage) = claim.starts {
        let start = Move::Start { to: stage, serial: claim.serial, at };
        record::change(tx, &mut task, Change::Move(start), at)?;
        tx.retarget_job(claim.job, &task, stage.agent())?;
        record::event(
            tx,
            at,
            Some(task.id),
            Event::StageAdvanced,
            &json!({"from": Stage::Created, "to": stage, "why": "its first job is claimed"}),
        )?;
        messages::show(tx, &task, at)?;
    }
    let job = tx.job(claim.job)?;
    let run = tx.insert_run(&job, &token, claim.credential.as_deref(), claim.reserved_micros, &now.stamp)?;
    tx.set_claimer(run, &now.me)?;
    if let (true, Some(credential)) = (claim.canary, &claim.credential) {
        tx.set_canary(credential, run)?;
    }
    record::event(
        tx,
        at,
        Some(task.id),
        Event::JobStarted,
        &json!({"job": job.id, "run": run, "kind": job.kind, "agent": job.agent, "stage": job.stage, "attempt": job.attempt}),
    )?;
    Ok(Some(Claimed { run, token, task: task.id, key: task.key.to_string(), starts: claim.starts.is_some() }))
}

fn start(ctx: &mut Ctx, c: &Claimed) -> Result<()> {
    let run = ctx.store.read(|tx| tx.run(c.run))?;
    let what =
        json!({"job_kind": run.kind, "agent": run.agent, "stage": run.stage, "run": run.id, "attempt": run.attempt});
    if c.starts {
        ctx.report.did(ActionKind::StageAdvanced, Some(&c.key), json!({"from": Stage::Created, "to": run.stage}));
    }
    ctx.report.did(ActionKind::JobStarted, Some(&c.key), what);
    if ctx.dry {
        let task = ctx.task(c.task)?;
        if c.starts && (task.branch.is_none() || task.base_sha.is_none()) {
            let branch = base::wanted(ctx.project(&task.project)?, &task);
            ctx.report.did(ActionKind::BranchCreated, Some(&c.key), json!({"branch": branch}));
        }
        return Ok(());
    }
    if c.starts
        && let Err(e) = base::ensure(ctx, c.task)
    {
        give_back_start(ctx, &run, c, &e)?;
        if let Some(why) = super::errors::Refused::why(&e) {
            return super::steps::block(ctx, c.task, &why, false);
        }
        let owner = ctx.task(c.task)?.project;
        let project = ctx.project(&owner)?.clone();
        super::outages::no_start(ctx, &project, &e)?;
        return Err(e.context("the claim is given back, and no attempt is spent"));
    }
    match spawn(ctx, &run) {
        Ok(()) => Ok(()),
        Err(e) => {
            let at = ctx.now().stamp.wall_ms;
            let why = format!("its supervisor could not be started: {e:#}");
            ctx.store.write(|tx| {
                tx.requeue_job(run.job_id, &c.token, at + START_AGAIN_MS, &why)?;
                tx.settle_run(run.id, &RunEnd::new(RunResult::NotStarted, why), at)
            })?;
            Err(e)
        }
    }
}

/// Undoes a claim whose start could not fetch its base (RUN-3).
fn give_back_start(ctx: &mut Ctx, run: &Run, c: &Claimed, why: &anyhow::Error) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    let advice = super::outages::advice(why).map(|advice| format!("; {advice}")).unwrap_or_default();
    let why = format!("its branch can't be created: {why:#}{advice}");
    let first_ms = super::policy::ms(ctx.config.agents.retry_backoff_s);
    ctx.store.write(|tx| {
        let due = |times| at + environment_wait(first_ms, times);
        tx.requeue_job_for(run.job_id, &c.token, Cause::Environment, &why, due)?;
        tx.settle_run(run.id, &RunEnd::new(RunResult::GivenBack, why), at)?;
        let mut task = tx.task(c.task)?;
        record::change(tx, &mut task, Change::Move(Move::GiveBack), at)?;
        record::event(tx, at, Some(task.id), Event::ClaimGivenBack, &json!({"run": run.id})).map(drop)
    })?;
    Ok(())
}
