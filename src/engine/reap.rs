//! `reap`: settles jobs whose process is gone or overdue, reclaims stale leases, finishes half-done stops (RUN-8).

use super::launch;
use super::launch::START_MS;
use super::run_env;
use super::settle::Settlement;
use super::{Ctx, advance, agent, awaits, cluster, deploy, lease, outbox, settle, stop, tree};
use crate::adapters::store::StoreError;
use crate::adapters::{
    locks,
    process::{self, Life},
};
use crate::decide::reap::{self as decide, Ending, PutOff, Reap, ReapPolicy, Seen};
use crate::decide::{lease as rule, units};
use crate::model::event::Event;
use crate::model::report::{ActionKind, Rule};
use crate::model::run_end::{RunEnd, RunResult};
use crate::model::task::{Actor, Lease, Run, RunState};
use anyhow::Result;
use serde_json::json;

/// The same where the step that claimed the job is gone.
const ORPHAN_START_MS: i64 = 4000;

/// The whole step.
pub fn run(ctx: &mut Ctx) -> Result<()> {
    if !ctx.config.reaper.enabled {
        ctx.report.hold(None, Rule::SwitchedOff, "reaper.enabled is off");
        return Ok(());
    }
    let policy = policy(ctx);
    for run in ctx.store.read(|tx| tx.open_runs())? {
        if ctx.interrupted() {
            break;
        }
        if let Err(e) = one(ctx, &run, &policy) {
            let row = ctx.task(run.task_id).ok();
            ctx.fault(row.as_ref(), &format!("reaping run {}", run.id), &e);
        }
    }
    cluster::tidy(ctx)?;
    reclaim(ctx)?;
    advance::idle_tasks(ctx, None)?;
    stop::recheck_after_stop(ctx)?;
    super::pulls::tidy(ctx);
    if !ctx.dry {
        lease::mirror_all(ctx)?;
    }
    super::chat::answers(ctx, super::chat::When::Asked);
    outbox::deliver(ctx);
    Ok(())
}

fn policy(ctx: &Ctx) -> ReapPolicy {
    let r = &ctx.config.reaper;
    let ms = super::policy::ms;
    ReapPolicy {
        dead_ticks: i64::from(r.dead_ticks),
        // The spacing between checks of a death that can't be proven (RULE-20).
        spacing_ms: 1000,
        finalize_grace_ms: ms(r.finalize_grace_s),
        max_running_ms: ms(r.max_running_s),
        start_ms: START_MS,
        orphan_start_ms: ORPHAN_START_MS,
    }
}

/// Gives back claims whose supervisor never reported, retries what was deferred, and settles a death that lock and
/// identity prove. `tick` does these as well, so that none waits for the next reap (RULE-20).
pub fn resume(ctx: &mut Ctx) -> Result<()> {
    let policy = policy(ctx);
    for run in ctx.store.read(|tx| tx.open_runs())? {
        let due = deferral(ctx, &run).map(|deferral| {
            let seen = if run.state == RunState::Live { supervisor(ctx, &run) } else { Seen::Unknown };
            decide::is_resumed(&run, seen, deferral, ctx.config.reaper.enabled)
        });
        let done = due.and_then(|due| if due { one(ctx, &run, &policy) } else { Ok(()) });
        if let Err(e) = done {
            let row = ctx.task(run.task_id).ok();
            ctx.fault(row.as_ref(), &format!("resuming run {}", run.id), &e);
        }
    }
    Ok(())
}

/// Whether finalizing the run was deferred.
fn deferral(ctx: &mut Ctx, run: &Run) -> Result<Option<PutOff>> {
    if run.state != RunState::Exited {
        return Ok(None);
    }
    let (job, task) = ctx.store.read(|tx| Ok::<_, StoreError>((tx.job(run.job_id)?, tx.task(run.task_id)?)))?;
    let held = task.blocked_reason.is_some() || task.withdrawn.is_some();
    Ok(run.deferred_until(&job, ctx.now().stamp.wall_ms).map(|until| PutOff { until, held }))
}

/// What is known about a run's supervisor, from its identity and its lock, which it holds as long as it lives.
fn supervisor(ctx: &Ctx, run: &Run) -> Seen {
    let locked = locks::is_held(&ctx.paths.run_lock(run.id));
    let owner = run.finalizer.as_ref().or(run.supervisor.as_ref());
    let identity = match owner.map_or(Life::Dead, process::life) {
        Life::Alive => Seen::Alive,
        Life::Dead => Seen::Dead,
        Life::Unknown => Seen::Unknown,
    };
    decide::seen(locked, identity)
}

fn one(ctx: &mut Ctx, run: &Run, policy: &ReapPolicy) -> Result<()> {
    let now = ctx.now().stamp;
    let seen = supervisor(ctx, run);
    let taken_in = run.state == RunState::Live && seen == Seen::Dead && !ctx.dry && take_in_exit(ctx, run)?;
    let row = if taken_in { ctx.store.read(|tx| tx.run(run.id))? } else { run.clone() };
    let run = &row;
    let todo = decide::reap(run, seen, deferral(ctx, run)?, policy, &now);
    let left = cluster::left(ctx, run);
    // A run not known to be gone is not dead (CLU-3), and time in the queue does not count as work (CLU-4).
    let waits = match todo {
        Reap::Lost => !ctx.dry && !cluster::is_over(ctx, run)?,
        Reap::Overdue => !cluster::has_worked(ctx, run, policy.max_running_ms, now.wall_ms),
        Reap::Leave | Reap::Forget | Reap::Count { .. } | Reap::GiveBack | Reap::Finalize => false,
    };
    if waits {
        return Ok(());
    }
    if let Some(ending) = decide::ending(&todo, policy.max_running_ms, left.as_deref()) {
        return end(ctx, run, ending);
    }
    match todo {
        Reap::Forget => Ok(ctx.store.write(|tx| tx.set_dead_seen(run.id, 0, &now))?),
        Reap::Count { seen } => Ok(ctx.store.write(|tx| tx.set_dead_seen(run.id, seen, &now))?),
        Reap::GiveBack => give_back(ctx, run),
        Reap::Finalize => finalize(ctx, run),
        // The last two have an ending and are handled there.
        Reap::Leave | Reap::Lost | Reap::Overdue => Ok(()),
    }
}

/// Records the exit that a dead supervisor left only in a file. Returns whether there was one.
fn take_in_exit(ctx: &mut Ctx, run: &Run) -> Result<bool> {
    let Some((exit, at)) = agent::exit_on_file(ctx, run) else { return Ok(false) };
    match ctx.store.write(|tx| tx.record_exit(run.id, &exit, &at)) {
        Ok(()) => Ok(true),
        Err(StoreError::Lost) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn reaped(ctx: &mut Ctx, run: &Run, tier: &str, why: &str) {
    let key = ctx.task(run.task_id).map(|t| t.key.to_string()).unwrap_or_default();
    ctx.report.did(
        ActionKind::JobReaped,
        Some(&key),
        json!({"run": run.id, "job_kind": run.kind, "tier": tier, "why": why}),
    );
}

fn give_back(ctx: &mut Ctx, run: &Run) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    let done = ctx.store.write(|tx| {
        if tx.run(run.id)?.state != RunState::Starting {
            return Err(StoreError::Lost);
        }
        tx.settle_run(run.id, &RunEnd::new(RunResult::Lost, "its supervisor never reported"), at)?;
        tx.requeue_job(run.job_id, &run.token, at, "its supervisor never reported")?;
        super::record::event(tx, at, Some(run.task_id), Event::JobReaped, &json!({"run": run.id, "tier": "unstarted"}))
            .map(drop)
    });
    match done {
        Ok(()) => {
            run_env::forget_environment(ctx, run.id);
            reaped(ctx, run, "unstarted", "its supervisor never reported");
            Ok(())
        }
        Err(StoreError::Lost) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Tier 2: the reaper has no finalizer of its own; it starts the supervisor's (RULE-21).
fn finalize(ctx: &mut Ctx, run: &Run) -> Result<()> {
    if !ctx.dry {
        launch::launch(ctx, run, &["--finalize"])?;
    }
    reaped(ctx, run, "exited", "its exit is recorded, but nobody finalizes it");
    Ok(())
}

/// Tiers 1 and 3: claim, end the process tree, verify that it is gone, settle.
fn end(ctx: &mut Ctx, run: &Run, ending: Ending) -> Result<()> {
    let Ending { tier, end, supervisor_too } = ending;
    let why = end.recorded().why;
    if ctx.dry {
        reaped(ctx, run, tier, &why);
        return Ok(());
    }
    let me = ctx.me.clone();
    let fence = match ctx.store.write(|tx| tx.take_finalizer(run.id, run.finalizer.as_ref(), run.fence, &me)) {
        Ok(fence) => fence,
        Err(StoreError::Lost) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    if units::is_reaped(run.kind) {
        if supervisor_too {
            cluster::end(ctx, std::slice::from_ref(run))?;
        }
        let supervisor: Vec<Actor> = run.supervisor.clone().filter(|_| supervisor_too).into_iter().collect();
        tree::end(ctx, std::slice::from_ref(run), &supervisor, ctx.config.agents.stop_grace_s)?;
    }
    settle::settle(ctx, run, fence, &Settlement { end, ..Settlement::default() })?;
    let at = ctx.now().stamp.wall_ms;
    ctx.store.write(|tx| {
        super::record::event(
            tx,
            at,
            Some(run.task_id),
            Event::JobReaped,
            &json!({"run": run.id, "tier": tier, "why": why}),
        )
        .map(drop)
    })?;
    reaped(ctx, run, tier, &why);
    Ok(())
}

/// Stale leases (RUN-8).
fn reclaim(ctx: &mut Ctx) -> Result<()> {
    if !ctx.config.merge_lease.reclaim_enabled {
        return Ok(());
    }
    for held in ctx.store.read(|tx| tx.leases())?.into_iter().filter(|l| l.task_id.is_some()) {
        let stale = stale(ctx, &held).unwrap_or_else(|e| {
            ctx.fault(None, &format!("checking the merge lease of {}", held.repo), &e);
            None
        });
        if let Some(why) = stale {
            take_back(ctx, &held, &why)?;
        }
    }
    Ok(())
}

/// Frees a lease if it is still the one that was judged.
fn take_back(ctx: &mut Ctx, held: &Lease, why: &str) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    let freed = ctx.store.write(|tx| {
        let freed = tx.free_lease(&held.repo, held.fence)?;
        if freed {
            let detail = json!({"repo": held.repo, "fence": held.fence, "why": why});
            super::record::event(tx, at, held.task_id, Event::LeaseReclaimed, &detail)?;
        }
        Ok::<_, StoreError>(freed)
    })?;
    if freed {
        lease::mirror_file(ctx, None, &held.repo)?;
        let key = held.task_id.and_then(|t| ctx.task(t).ok()).map(|t| t.key.to_string());
        ctx.report.did(ActionKind::LeaseReclaimed, key.as_deref(), json!({"repo": held.repo, "why": why}));
    }
    Ok(())
}

/// Why a lease must be freed now.
fn stale(ctx: &mut Ctx, held: &Lease) -> Result<Option<String>> {
    let Some(id) = held.task_id else { return Ok(None) };
    let task = ctx.task(id).ok();
    let (deploys, awaits, job) = ctx.store.read(|tx| {
        let awaits = task.as_ref().map(|task| awaits::of(tx, task)).transpose()?.flatten();
        Ok::<_, StoreError>((tx.deploys_of(id)?, awaits, tx.live_job(id)?))
    })?;
    let now = ctx.now().stamp;
    let facts = rule::Held {
        task: task.as_ref(),
        deploys: &deploys,
        awaits: awaits.as_ref(),
        age_ms: held.renewed_at.as_ref().and_then(|r| now.since(r)),
        busy: job.is_some(),
        actor_gone: held.actor.as_ref().is_none_or(|a| process::life(a) == Life::Dead),
    };
    Ok(match rule::lease(&facts, super::policy::ms(ctx.config.merge_lease.ttl_s)) {
        rule::Lease::Keep => None,
        rule::Lease::Free { why } => Some(why),
        rule::Lease::Park { why } if ctx.dry || deploy::park(ctx, id, &why)? => Some(why),
        rule::Lease::Park { .. } => None,
    })
}
