//! The supervisor (`orch run-job`, hidden): one per run, the only one that works it (RULE-19 to RULE-21).

use super::settle::{End, Settled, Settlement};
use super::{Ctx, advance, agent, outbox, reserved, settle, tick};
use crate::adapters::executor::ENVIRONMENT_PREFIX;
use crate::adapters::forge::ForgeError;
use crate::adapters::git::GitError;
use crate::adapters::locks;
use crate::adapters::process::{self, Life};
use crate::adapters::store::StoreError;
use crate::model::ids::RunId;
use crate::model::report::ActionKind;
use crate::model::stage::JobKind;
use crate::model::task::{PUT_OFF_MS, Run, RunState};
use anyhow::{Context, Result};
use serde_json::json;

/// The variable that every process of a run carries.
pub const MARK: &str = "ORCH_RUN";

/// Works a claimed run from its first act to its settlement; with `finalize`, only what a dead supervisor left to do.
pub fn run(ctx: &mut Ctx, id: RunId, finalize: bool) -> Result<()> {
    process::become_subreaper().context("becoming a subreaper")?;
    let Some(_lock) = hold(ctx, id)? else { return Ok(()) };
    forget_environment(ctx, id);
    let Some((run, fence)) = (if finalize { take_over(ctx, id)? } else { adopt(ctx, id)? }) else { return Ok(()) };
    let done = work(ctx, &run, fence, finalize);
    let settlement = match done {
        Ok(Some(s)) => s,
        // Its fence is gone or its result was settled elsewhere.
        Ok(None) => return Ok(()),
        // What it saw is in its files, and the program that migrated the database takes it from there (RULE-36).
        Err(e) if matches!(e.downcast_ref(), Some(StoreError::Newer { .. })) => return Err(e),
        Err(e) => {
            ctx.report.fault(None, format!("run {id}: {e:#}"), None);
            if let Ok(task) = ctx.task(run.task_id) {
                advance::keep_note(ctx, &task, &e);
            }
            if is_outage(&e) && put_off(ctx, &run, &e)? {
                return Ok(());
            }
            trouble(&run, &e, ctx.now().stamp.wall_ms)
        }
    };
    match settle::settle(ctx, &run, fence, &settlement)? {
        Settled::Lost => return Ok(()),
        Settled::Done => {}
    }
    follow_up(ctx, &run);
    Ok(())
}

/// The run's lock: held as long as this process lives, whatever kills it (RULE-20).
fn hold(ctx: &Ctx, id: RunId) -> Result<Option<locks::Held>> {
    let path = ctx.paths.run_lock(id);
    std::fs::create_dir_all(ctx.paths.run(id)).context("making the run's folder")?;
    match locks::hold(&path) {
        Ok(held) => Ok(Some(held)),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e).with_context(|| format!("locking {}", path.display())),
    }
}

/// Removes what a step that was killed while it started this run as a service left: an environment may hold secrets, and
/// the manager has read it.
pub fn forget_environment(ctx: &Ctx, id: RunId) {
    for entry in std::fs::read_dir(ctx.paths.run(id)).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(ENVIRONMENT_PREFIX)
            && let Err(e) = std::fs::remove_file(entry.path())
        {
            tracing::error!("{} may hold secrets and can't be removed: {e}", entry.path().display());
        }
    }
}

/// The first act: `starting → live` under the claim's token. `None`: the claim is not ours any more; start nothing.
fn adopt(ctx: &mut Ctx, id: RunId) -> Result<Option<(Run, i64)>> {
    let me = ctx.me.clone();
    let taken = ctx.store.write(|tx| {
        tx.adopt_run(id, &me)?;
        tx.run(id)
    });
    match taken {
        Ok(run) => {
            let fence = run.fence;
            Ok(Some((run, fence)))
        }
        Err(StoreError::Lost) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Takes the finalizer over from a dead owner (RULE-21).
fn take_over(ctx: &mut Ctx, id: RunId) -> Result<Option<(Run, i64)>> {
    let run = ctx.store.read(|tx| tx.run(id))?;
    let owner_dead = run.finalizer.as_ref().is_none_or(|a| process::life(a) == Life::Dead);
    if run.state != RunState::Exited || !owner_dead {
        return Ok(None);
    }
    let me = ctx.me.clone();
    match ctx.store.write(|tx| tx.take_finalizer(id, run.finalizer.as_ref(), run.fence, &me)) {
        Ok(fence) => Ok(Some((run, fence))),
        Err(StoreError::Lost) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn work(ctx: &mut Ctx, run: &Run, fence: i64, finalize: bool) -> Result<Option<Settlement>> {
    let task = ctx.task(run.task_id)?;
    if task.epoch != run.epoch && !matches!(run.kind, JobKind::PostDeployMonitor) {
        return Ok(Some(Settlement::default()));
    }
    match run.kind {
        JobKind::Agent => agent::work(ctx, run, fence, finalize),
        JobKind::Ci => reserved::ci(ctx, run),
        JobKind::Scan => reserved::scan(ctx, run),
        JobKind::Staging => reserved::staging(ctx, run),
        JobKind::Build => reserved::build(ctx, run),
        JobKind::Deploy => reserved::deploy(ctx, run, fence),
        JobKind::DeployFinalizer => reserved::finalizer(ctx, run),
        JobKind::PostDeployMonitor => super::watch::monitor(ctx, run),
    }
}

/// `orch`'s own trouble. A remote, a forge or a database that does not answer says nothing about the work: the job goes
/// back, nothing is spent (RULE-8). Else an agent's run is tried again as one that failed, a reserved job as one lost.
fn trouble(run: &Run, e: &anyhow::Error, now: i64) -> Settlement {
    let why = format!("{e:#}");
    if is_outage(e) && run.kind != JobKind::Deploy {
        return Settlement { end: End::Again { at: now + PUT_OFF_MS, why }, ..Settlement::default() };
    }
    let spent = matches!(run.kind, JobKind::Agent | JobKind::Deploy);
    Settlement { end: End::Failed { why, spent }, ..Settlement::default() }
}

/// What an agent has done and cost is kept through an outage: its run stays exited, and is finalized again later (RULE-8,
/// RULE-21). Whether it is so far.
fn put_off(ctx: &mut Ctx, run: &Run, e: &anyhow::Error) -> Result<bool> {
    let at = ctx.now().stamp.wall_ms + PUT_OFF_MS;
    let why = format!("what it left can't be pushed now: {e:#}");
    let done = ctx.store.write(|tx| {
        let exited = run.kind == JobKind::Agent && tx.run(run.id)?.state == RunState::Exited;
        if exited {
            tx.put_off_job(run.job_id, &run.token, at, &why)?;
        }
        Ok::<_, StoreError>(exited)
    });
    match done {
        // Stopped meanwhile: settling finds that out.
        Err(StoreError::Lost) => Ok(false),
        done => Ok(done?),
    }
}

fn is_outage(e: &anyhow::Error) -> bool {
    e.downcast_ref::<GitError>().is_some_and(GitError::is_transient)
        || matches!(e.downcast_ref::<StoreError>(), Some(StoreError::Locked(_) | StoreError::Full(_)))
        || matches!(
            e.downcast_ref::<ForgeError>(),
            Some(ForgeError::Transient(_) | ForgeError::UnknownOutcome(_) | ForgeError::Throttled { .. })
        )
}

/// So that nothing waits for a timer: move the task on, deliver, start what may start (RUN-4).
fn follow_up(ctx: &mut Ctx, run: &Run) {
    advance::noted(ctx, run.task_id);
    if let Err(e) = tick::dispatch_jobs(ctx, None, None) {
        ctx.report.fault(None, format!("starting the next job: {e:#}"), None);
    }
    outbox::deliver(ctx);
    let key = ctx.task(run.task_id).map(|t| t.key.to_string()).unwrap_or_default();
    ctx.report.did(ActionKind::RunFinished, Some(&key), json!({"run": run.id}));
}
