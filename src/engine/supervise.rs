//! The supervisor (`orch run-job`, hidden): one per run, the only process that executes it (RULE-19 to RULE-21).

use super::errors::{Kept, Refused};
use super::launch;
use super::refused;
use super::run_env::{forget_environment, know_all};
use super::settle::{End, Settled, Settlement};
use super::{Ctx, agent, cluster, landing, outbox, record, reserved, settle};
use crate::adapters::child::ChildError;
use crate::adapters::confine::NoEngine;
use crate::adapters::forge::ForgeError;
use crate::adapters::git::GitError;
use crate::adapters::locks;
use crate::adapters::process::{self, Life};
use crate::adapters::store::StoreError;
use crate::config::SecretError;
use crate::decide::run_end::{self, Fault};
use crate::model::change::Change;
use crate::model::fault::Access;
use crate::model::ids::RunId;
use crate::model::refusal::{Asked, Refusal};
use crate::model::report::ActionKind;
use crate::model::stage::JobKind;
use crate::model::task::{Cause, Run, RunState};
use anyhow::{Context, Result};
use serde_json::json;

/// A settled run; its lock is held until this is dropped (RULE-20).
#[derive(Debug)]
pub struct Worked {
    pub run: Run,
    _lock: locks::Held,
}

/// Executes a claimed run from its first act to its settlement; with `finalize`, only what a dead supervisor left to
/// do. `None`: nothing was settled here.
pub fn run(ctx: &mut Ctx, id: RunId, finalize: bool) -> Result<Option<Worked>> {
    process::become_subreaper().context("becoming a subreaper")?;
    let Some(lock) = hold(ctx, id)? else { return Ok(None) };
    forget_environment(ctx, id);
    launch::hear_answers(ctx, id);
    let Some((run, fence)) = (if finalize { take_over(ctx, id)? } else { adopt(ctx, id)? }) else { return Ok(None) };
    know_all(ctx);
    let done = work(ctx, &run, fence, finalize);
    let settlement = match done {
        Ok(Some(s)) => s,
        // Its fence is gone or its result was settled elsewhere.
        Ok(None) => return Ok(None),
        // Its results are in its files, and the program that migrated the database reads them there (RULE-36).
        Err(e) if matches!(e.downcast_ref(), Some(StoreError::Newer { .. })) => return Err(e),
        // Whether its job is gone is unknown, so nothing may follow yet: the reaper settles the run once Slurm answers.
        Err(e) if e.chain().any(|e| matches!(e.downcast_ref(), Some(ChildError::Undecided { .. }))) => {
            ctx.report.fault(None, format!("run {id}: {e:#}"), None);
            return Ok(None);
        }
        Err(e) => {
            ctx.report.fault(None, format!("run {id}: {e:#}"), None);
            let fault = fault(&e);
            if defer(ctx, &run, fault, &e)? {
                return Ok(None);
            }
            let begun = fault != Fault::NoEngine && ctx.store.read(|tx| tx.run(run.id))?.runtime.is_some();
            if run.kind == JobKind::Agent && !begun {
                // There is no cost to record (RULE-25).
                ctx.store.write(|tx| tx.set_run_free(run.id))?;
            }
            let end = run_end::of_fault(run.kind, begun, fault, said(fault, &e), ctx.now().stamp.wall_ms);
            Settlement { end, ..Settlement::default() }
        }
    };
    if run_end::may_move(run.kind, &settlement.end) {
        // Checked before the move that the settlement allows (RULE-31); an unavailable remote is asked at the next one.
        landing::check_waiting_deploy(ctx, run.task_id);
    }
    match settle::settle(ctx, &run, fence, &settlement) {
        Ok(Settled::Lost) => return Ok(None),
        Ok(Settled::Done) => {}
        Err(e) => {
            let task = ctx.task(run.task_id).ok();
            ctx.fault(task.as_ref(), &format!("settling run {id}"), &e);
            return Err(e);
        }
    }
    Ok(Some(Worked { run, _lock: lock }))
}

/// The run's lock, held as long as this process lives and released by any death (RULE-20).
fn hold(ctx: &Ctx, id: RunId) -> Result<Option<locks::Held>> {
    let path = ctx.paths.run_lock(id);
    std::fs::create_dir_all(ctx.paths.run(id)).context("creating the run's folder")?;
    match locks::hold(&path) {
        Ok(held) => Ok(Some(held)),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e).with_context(|| format!("locking {}", path.display())),
    }
}

/// The first act: `starting → live` under the claim's token. `None`: the claim is no longer ours; start nothing.
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

/// Takes over the finalizer from a dead owner (RULE-21).
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
    if !finalize {
        cluster::ready(ctx)?;
    }
    match run.kind {
        JobKind::Agent => {
            if !finalize && run.state != RunState::Exited && landing::taken_back(ctx, run.task_id)? {
                let end = End::Unspent { cause: Cause::TakenBack, why: "the task was taken back meanwhile".to_owned() };
                return Ok(Some(Settlement { end, ..Settlement::default() }));
            }
            agent::work(ctx, run, fence, finalize)
        }
        JobKind::Ci => reserved::ci(ctx, run),
        JobKind::Scan => reserved::scan(ctx, run),
        JobKind::Staging => reserved::staging(ctx, run),
        JobKind::Build => reserved::build(ctx, run),
        JobKind::Deploy => reserved::deploy(ctx, run, fence),
        JobKind::DeployFinalizer => reserved::finalizer(ctx, run),
        JobKind::PostDeployMonitor => super::watch::monitor(ctx, run),
    }
}

/// What an error of a run says about the work; the first match counts. `decide::run_end` says what it means.
fn fault(e: &anyhow::Error) -> Fault {
    let program = || {
        e.chain().any(|e| {
            let lacks = |e: &ChildError| {
                matches!(
                    e,
                    ChildError::NotFound { .. } | ChildError::NotStarted { .. } | ChildError::Unavailable { .. }
                )
            };
            e.downcast_ref().is_some_and(lacks) || matches!(e.downcast_ref(), Some(GitError::Missing { .. }))
        })
    };
    if Refused::why(e).is_some() {
        Fault::Refused
    } else if let Some(kept) = Kept::of(e) {
        Fault::Kept(kept.cause)
    // The engine failed before the command, or there is none: nothing ran, and the next claim probes for an engine
    // again (BND-2). One that passes its probe but fails each run is retried like any other lack.
    } else if matches!(e.downcast_ref(), Some(ChildError::Confinement { .. })) || e.is::<NoEngine>() {
        Fault::NoEngine
    } else if e.chain().any(|e| matches!(e.downcast_ref(), Some(ChildError::Lost { .. }))) {
        Fault::Kept(Cause::Cluster)
    } else if is_outage(e) {
        if may_not_push(e) { Fault::MayNotPush } else { Fault::Outage }
    } else if lacks_room(e) {
        Fault::NoRoom
    } else if e.chain().any(|e| e.is::<SecretError>()) || program() {
        Fault::Lack
    } else if e.chain().any(|e| matches!(e.downcast_ref(), Some(GitError::Killed { .. } | GitError::Io { .. }))) {
        Fault::CutShort
    } else {
        Fault::Other
    }
}

/// What the end of the run says about such an error.
fn said(fault: Fault, e: &anyhow::Error) -> String {
    match fault {
        Fault::Refused => Refused::why(e).unwrap_or_else(|| format!("{e:#}")),
        Fault::NoEngine if !e.is::<NoEngine>() => {
            format!("{e:#}; `orch doctor` tries the engine and names what is missing")
        }
        Fault::NoEngine
        | Fault::Kept(_)
        | Fault::MayNotPush
        | Fault::Outage
        | Fault::NoRoom
        | Fault::Lack
        | Fault::CutShort
        | Fault::Other => format!("{e:#}"),
    }
}

/// Whether a disk is full.
fn lacks_room(e: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    e.chain().any(|e| {
        let io = e.downcast_ref::<std::io::Error>().is_some_and(|e| matches!(e.kind(), StorageFull | QuotaExceeded));
        io || e.downcast_ref::<GitError>().is_some_and(GitError::lacks_room)
    })
}

/// An agent's work and cost are kept through an outage and while the remote refuses its push: its run stays exited and
/// is finalized again later, without another run (RULE-8, RULE-21, RULE-45). Past the cause's bound the task is blocked
/// until `retry`. Returns whether it is kept this way.
fn defer(ctx: &mut Ctx, run: &Run, fault: Fault, e: &anyhow::Error) -> Result<bool> {
    let now = ctx.now();
    let at = now.stamp.wall_ms;
    let why = match fault {
        Fault::Kept(_) => Kept::of(e).map_or_else(|| format!("{e:#}"), |kept| kept.why.clone()),
        Fault::MayNotPush => format!("the remote refuses the push: {e:#}"),
        Fault::Outage | Fault::NoRoom | Fault::Lack => format!("its work can't be pushed now: {e:#}"),
        Fault::CutShort => format!("its work can't be read or pushed: {e:#}"),
        Fault::Refused | Fault::NoEngine | Fault::Other => format!("{e:#}"),
    };
    let bounds = ctx.policy.effects;
    let done = ctx.store.write(|tx| {
        let Some((cause, keep)) = run_end::keeps(run.kind, tx.run(run.id)?.state, fault) else { return Ok(None) };
        let refused = if cause == Cause::Outage { refused::answer(e) } else { None };
        let times = tx.defer_job(run.job_id, &run.token, cause, &why)?;
        let mut wait = run_end::kept_for(cause, keep, times).unwrap_or(0);
        if let Some(answer) = &refused {
            let mut task = tx.task(run.task_id)?;
            let (noted, given_up) = crate::decide::refused::refused(&task, Asked::Push, answer, bounds, at);
            wait = if given_up.is_some() { 0 } else { noted.next_at - at };
            record::change(tx, &mut task, Change::Refused(noted), at)?;
        }
        tx.set_job_due(run.job_id, at + wait)?;
        let view = super::view::task(tx, run.task_id, &now, None)?;
        if wait > 0 || view.task.blocked_reason.is_some() {
            return Ok(Some(None));
        }
        let mut task = view.task.clone();
        let way_out =
            format!("{why}; the agent's work is kept: `orch retry {}` pushes it without starting an agent", task.key);
        super::record::block(tx, &view, &mut task, &way_out, None, at)?;
        Ok::<_, StoreError>(Some(Some((task.key.to_string(), way_out))))
    });
    match done {
        // Stopped meanwhile: settling will notice.
        Err(StoreError::Lost) => Ok(false),
        Err(e) => Err(e.into()),
        Ok(None) => Ok(false),
        Ok(Some(blocked)) => {
            if let Some((key, why)) = blocked {
                ctx.report.did(ActionKind::TaskBlocked, Some(&key), json!({"why": why}));
                outbox::deliver(ctx);
            }
            Ok(true)
        }
    }
}

/// Whether only a person can lift the error, not time.
fn may_not_push(e: &anyhow::Error) -> bool {
    let Some(GitError::Refused { access, refusal, .. }) = e.downcast_ref() else { return false };
    *access == Access::Push && matches!(refusal, Refusal::Denied { .. } | Refusal::Archived)
}

fn is_outage(e: &anyhow::Error) -> bool {
    e.downcast_ref::<GitError>().is_some_and(GitError::is_transient)
        || matches!(e.downcast_ref::<StoreError>(), Some(StoreError::Locked(_) | StoreError::Full(_)))
        || e.downcast_ref::<ForgeError>().is_some_and(ForgeError::is_outage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::confine::Held;

    /// RULE-45: none of these is the agent's fault, so none of them reruns it.
    #[test]
    fn rule_45_what_an_agent_has_left_is_kept_whatever_this_machine_lacks() {
        let io = |kind: std::io::ErrorKind| std::io::Error::from(kind);
        let git = |e: GitError| anyhow::Error::new(e).context("reading what it left");
        let broken = |stderr: &str| GitError::Broken { args: "ls-tree".into(), code: 128, stderr: stderr.into() };
        for (e, cause) in [
            (git(GitError::Killed { what: "ls-tree".into(), signal: 9 }), Some(Cause::Lost)),
            (
                git(GitError::Io { what: "starting git".into(), source: io(std::io::ErrorKind::WouldBlock) }),
                Some(Cause::Lost),
            ),
            (
                git(GitError::Missing { program: "git".into(), reason: "no such program".into() }),
                Some(Cause::Environment),
            ),
            (
                anyhow::Error::new(ChildError::NotFound { program: "gitleaks".into(), searched: "PATH".into() }),
                Some(Cause::Environment),
            ),
            (git(broken("error: No space left on device")), Some(Cause::Outage)),
            (anyhow::Error::new(io(std::io::ErrorKind::StorageFull)).context("writing"), Some(Cause::Outage)),
            (Kept::error(Cause::TakenBack, "taken back"), Some(Cause::TakenBack)),
            (git(broken("fatal: bad tree")), None),
            (anyhow::anyhow!("a bug"), None),
        ] {
            let kept = run_end::keeps(JobKind::Agent, RunState::Exited, fault(&e));
            assert_eq!(kept.map(|(cause, _)| cause), cause, "{e:#}");
        }
    }

    #[test]
    fn bnd_2_an_engine_that_fails_a_run_is_environment_for_every_kind_of_job_that_it_holds() {
        let failed = || ChildError::Confinement { engine: Held::Bubblewrap, why: "no namespace".to_owned() };
        let none = || NoEngine { why: "no engine".to_owned(), way_out: "install bubblewrap".to_owned() };
        for kind in [JobKind::Agent, JobKind::Ci, JobKind::Staging, JobKind::Build] {
            let errors = [
                (anyhow::Error::new(failed()), "orch doctor"),
                (anyhow::Error::new(failed()).context("worktree.setup"), "orch doctor"),
                (anyhow::Error::new(none()), "install bubblewrap"),
            ];
            for (e, way_out) in errors {
                let end = run_end::of_fault(kind, false, fault(&e), said(fault(&e), &e), 0);
                assert!(matches!(&end, End::Environment { why } if why.contains(way_out)), "{kind} {end:?}");
            }
        }
    }
}
