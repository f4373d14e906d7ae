//! STOP (RUN-9, RULE-16 to RULE-18): request, defer inside a critical window, otherwise complete it; every part is
//! repeatable.

use super::record;
use super::services::{self, Access};
use super::{Ctx, artefacts, base, cluster, lease, messages, projects, tree};
use crate::adapters::forge::PullState;
use crate::adapters::git::{DeleteOutcome, files::remove};
use crate::adapters::store::{StoreError, Tx};
use crate::decide::command;
use crate::decide::stop::{self as decide, Stopped};
use crate::model::act::By;
use crate::model::branch_write::BranchWrite;
use crate::model::card::AlertKind;
use crate::model::change::{Change, Move};
use crate::model::ids::{Sha, TaskId};
use crate::model::report::ActionKind;
use crate::model::run_end::{RunEnd, RunResult};
use crate::model::task::{Actor, PullRef, Run, Task};
use crate::model::window::Window;
use anyhow::{Context, Result};
use serde_json::json;

/// A push may land after its client was killed: check again this much later (RULE-17).
const RECHECK_MS: i64 = 60_000;

/// What recording a stop found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requested {
    /// Terminal already: nothing to do.
    Terminal,
    /// Recorded; nothing critical is open.
    Now,
    /// Recorded, and a critical window is open: whichever step ends it applies the stop.
    Deferred(Window),
}

/// Records a stop in one transaction that reads the critical window (RULE-16). The first stamp wins, and only the first
/// one is reported.
pub fn request(ctx: &mut Ctx, id: TaskId, reason: Option<&str>, by: &By) -> Result<Requested> {
    let at = ctx.now().stamp.wall_ms;
    let recorded = ctx.store.write(|tx| request_in(tx, id, reason, by, at))?;
    if recorded.first
        && let Requested::Deferred(what) = &recorded.requested
    {
        ctx.report.did(ActionKind::CancelDeferred, Some(&recorded.key), json!({"window": what}));
    }
    Ok(recorded.requested)
}

/// A stop as it was recorded.
#[derive(Debug)]
pub struct Recorded {
    pub requested: Requested,
    /// Whether none was recorded before.
    pub first: bool,
    pub key: String,
}

/// The same within the caller's transaction.
pub fn request_in(tx: &Tx<'_>, id: TaskId, reason: Option<&str>, by: &By, at: i64) -> Result<Recorded, StoreError> {
    let mut task = tx.task(id)?;
    let key = task.key.to_string();
    let (first, waits) = match command::stop(&task) {
        command::Stop::Ended => return Ok(Recorded { requested: Requested::Terminal, first: false, key }),
        command::Stop::Recorded { first, waits } => (first, waits),
    };
    if first {
        record::change(tx, &mut task, Change::RequestStop { reason: reason.map(str::to_owned), at }, at)?;
        tx.audit(at, Some(id), "stop_requested", &json!({"reason": reason, "critical": waits, "by": by}))?;
    }
    let Some(what) = waits else { return Ok(Recorded { requested: Requested::Now, first, key }) };
    if first {
        let why = format!("The stop waits for {what} to end.");
        messages::comment(tx, &task, "stop-deferred", &why, at)?;
        messages::alert(tx, &task, AlertKind::StopDeferred, 1, &why, at)?;
        messages::card(tx, &task, at)?;
    }
    Ok(Recorded { requested: Requested::Deferred(what), first, key })
}

/// Completes a recorded stop. Does nothing while a critical window is open.
pub fn complete(ctx: &mut Ctx, id: TaskId) -> Result<()> {
    let (task, deploys) = ctx.store.read(|tx| Ok::<_, StoreError>((tx.task(id)?, tx.deploys_of(id)?)))?;
    if !decide::may_complete(&task, &deploys) {
        return Ok(());
    }
    // From here on no late supervisor can settle, push or claim anything for the task.
    let at = ctx.now().stamp.wall_ms;
    let cancelled = ctx.store.write(|tx| tx.cancel_jobs(id, "stopped", at))?;
    if cancelled > 0 {
        ctx.report.did(ActionKind::JobCancelled, Some(task.key.as_str()), json!({"jobs": cancelled}));
    }
    end_processes(ctx, &task)?;
    let at = ctx.now().stamp.wall_ms;
    ctx.store.write(|tx| {
        for job in tx.jobs_of(id)? {
            tx.settle_runs_of_job(job.id, &RunEnd::new(RunResult::Cancelled, "stopped"), at)?;
        }
        Ok::<_, StoreError>(())
    })?;
    for run in ctx.store.read(|tx| tx.runs_of(id))? {
        super::supervise::forget_environment(ctx, run.id);
    }
    let in_main = super::landing::in_default(ctx, id)?;
    archive(ctx, &task)?;
    close_pull(ctx, &task)?;
    delete_branch(ctx, &task)?;
    remove_worktree(ctx, &task)?;
    finish(ctx, id, in_main)
}

/// Ends the supervisors and every process of every run of the task, and verifies that they are gone.
fn end_processes(ctx: &mut Ctx, task: &Task) -> Result<()> {
    let runs = ctx.store.read(|tx| tx.runs_of(task.id))?;
    end_runs(ctx, &runs)
}

/// Ends the supervisors and every process of these runs, and verifies that they are gone.
pub fn end_runs(ctx: &mut Ctx, runs: &[Run]) -> Result<()> {
    // The supervisor ends its job: a TERM to srun would kill all of it at once (CLU-3b).
    cluster::end(ctx, runs)?;
    let supervisors: Vec<Actor> = runs.iter().filter_map(|r| r.supervisor.clone()).collect();
    // A supervisor sees its agent end first, but its claim is gone by now, so it can record nothing.
    Ok(tree::end(ctx, runs, &supervisors, ctx.config.agents.stop_grace_s)?)
}

/// Copies the branch's artefacts into the state directory.
fn archive(ctx: &mut Ctx, task: &Task) -> Result<()> {
    let Some(head) = &task.head_sha else { return Ok(()) };
    let project = ctx.project(&task.project)?.clone();
    let mirror = projects::mirror(ctx, &project)?;
    if !mirror.exists(head)? {
        return Ok(());
    }
    let stamp = task.stop_requested_at.unwrap_or(0);
    let dir = ctx.paths.archive(task).join(stamp.to_string());
    artefacts::copy(&mirror, head, &task.key, &dir)?;
    let sentinels = ctx.paths.sentinels(task);
    if sentinels.exists() {
        crate::adapters::sentinel::archive(&sentinels, &dir.join("sentinels"))?;
    }
    // A cancelled branch's head is kept (RULE-11).
    mirror.keep_ref(&format!("refs/orch/cancelled/{}", task.id), head)?;
    Ok(())
}

fn close_pull(ctx: &mut Ctx, task: &Task) -> Result<()> {
    let Some(pr) = task.pr.clone() else { return Ok(()) };
    let project = ctx.project(&task.project)?.clone();
    let key = format!("t{}/close-pr/{}", task.id, pr.number);
    if ctx.store.read(|tx| tx.journal_row(&key))?.is_some_and(|r| r.outcome.is_some()) {
        return Ok(());
    }
    let at = ctx.now().stamp.wall_ms;
    let me = ctx.me.clone();
    ctx.store
        .write(|tx| tx.intend(&key, Some(task.id), "pr_closed", &json!({"number": pr.number}), &me, at).map(drop))?;
    services::forge(ctx, &project, |forge| forge.close_pull(pr.number))?;
    let at = ctx.now().stamp.wall_ms;
    ctx.store.write(|tx| tx.record_outcome(&key, &json!({"closed": true}), at))?;
    ctx.report.did(ActionKind::PrClosed, Some(task.key.as_str()), json!({"number": pr.number}));
    Ok(())
}

/// Closes a pull request that was opened although its client was killed, so that nothing recorded it (RULE-17).
fn close_late_pull(ctx: &mut Ctx, task: &Task) -> Result<()> {
    let Some(branch) = task.branch.clone() else { return Ok(()) };
    let project = ctx.project(&task.project)?.clone();
    if !project.forge.is_remote() || !base::is_ours(ctx, task, &branch)? {
        return Ok(());
    }
    let mirror = projects::mirror(ctx, &project)?;
    let default = projects::default_branch(ctx, &project, &mirror)?;
    let found = services::forge(ctx, &project, |forge| forge.find_pull(&branch, &default))?;
    let Some(pr) = found.filter(|p| p.state == PullState::Open) else { return Ok(()) };
    let late = Task { pr: Some(PullRef { number: pr.number, url: pr.url }), ..task.clone() };
    close_pull(ctx, &late)
}

/// Deletes only our own branch, only at a commit we know, never the default or a protected one, without force
/// (RULE-11).
fn delete_branch(ctx: &mut Ctx, task: &Task) -> Result<()> {
    let Some(branch) = task.branch.clone() else { return Ok(()) };
    if !base::is_ours(ctx, task, &branch)? {
        return Ok(());
    }
    let project = ctx.project(&task.project)?.clone();
    let mirror = projects::mirror(ctx, &project)?;
    let default = projects::default_branch(ctx, &project, &mirror)?;
    let head_there = services::git(ctx, &project, Access::Read, mirror.remote_head(&branch))?;
    let Some(head_there) = head_there else { return Ok(()) };
    let pushed = named(ctx, task)?;
    let expected = decide::deletable(task, &head_there, &pushed).cloned();
    let key = format!("t{}/delete-branch/{branch}", task.id);
    let at = ctx.now().stamp.wall_ms;
    let me = ctx.me.clone();
    ctx.store.write(|tx| {
        tx.intend(&key, Some(task.id), "branch_deleted", &json!({"branch": branch, "at": expected}), &me, at).map(drop)
    })?;
    let outcome = match &expected {
        Some(sha) => services::git(ctx, &project, Access::Push, mirror.delete_branch(&branch, sha, &default))?,
        None => DeleteOutcome::Kept { reason: format!("it is at {}, a commit that is not orch's", head_there.short()) },
    };
    let at = ctx.now().stamp.wall_ms;
    let said = match &outcome {
        DeleteOutcome::Deleted | DeleteOutcome::Gone => json!({"deleted": true}),
        DeleteOutcome::Kept { reason } => json!({"deleted": false, "why": reason}),
    };
    ctx.store.write(|tx| {
        tx.record_outcome(&key, &said, at)?;
        if let DeleteOutcome::Kept { reason } = &outcome {
            messages::comment(tx, task, "branch-kept", &format!("Branch {branch} is kept: {reason}"), at)?;
        }
        tx.audit(at, Some(task.id), "branch_deleted", &said).map(drop)
    })?;
    if outcome == DeleteOutcome::Deleted {
        ctx.report.did(ActionKind::BranchDeleted, Some(task.key.as_str()), json!({"branch": branch}));
    }
    Ok(())
}

/// Every commit named by one of our pushes to a branch of the task.
fn named(ctx: &mut Ctx, task: &Task) -> Result<Vec<Sha>> {
    let rows = ctx.store.read(|tx| tx.journal_of(task.id))?;
    let writes = rows.iter().filter_map(|r| BranchWrite::parse(&r.kind, &r.intent));
    Ok(writes.flat_map(|w| w.commits().into_iter().cloned().collect::<Vec<_>>()).collect())
}

fn remove_worktree(ctx: &mut Ctx, task: &Task) -> Result<()> {
    let path = ctx.paths.area_of(task);
    if !path.exists() {
        return Ok(());
    }
    remove(&path).with_context(|| format!("removing {}", path.display()))?;
    ctx.report.did(ActionKind::WorktreeRemoved, Some(task.key.as_str()), json!({}));
    Ok(())
}

/// `cancelled` and the tombstone in one transaction (RULE-17).
pub(super) fn finish(ctx: &mut Ctx, id: TaskId, in_main: Option<Sha>) -> Result<()> {
    let now = ctx.now();
    let at = now.stamp.wall_ms;
    let done = ctx.store.write(|tx| {
        let view = super::view::task(tx, id, &now, None)?;
        let mut task = view.task.clone();
        if task.stage.is_terminal() {
            return Err(StoreError::Lost);
        }
        record::free_lease(tx, &view)?;
        record::change(tx, &mut task, Change::Move(Move::Cancel { at }), at)?;
        tx.tombstone(id)?;
        tx.item_ended(&task.project, &task.item_id)?;
        let Stopped { landed, freeze, detail } = decide::stopped(&view, in_main.as_ref());
        let audited = json!({"stage": task.stopped_stage, "reason": task.stop_reason, "landed": landed});
        tx.audit(at, Some(id), "task_cancelled", &audited)?;
        if let Some(why) = &freeze {
            record::freeze_repo(tx, &task.repo, why, Some(&task), at)?;
        }
        messages::show(tx, &task, at)?;
        messages::alert(tx, &task, AlertKind::Cancelled, 1, &detail, at)?;
        messages::comment(tx, &task, "cancelled", &format!("Cancelled: {detail}"), at)?;
        let me = now.me.clone();
        tx.intend(&format!("t{id}/relook"), Some(id), "relook", &json!({"branch": task.branch}), &me, at)?;
        Ok(task)
    });
    match done {
        Ok(task) => {
            lease::mirror_file(ctx, None, &task.repo).ok();
            let held = ctx.store.read(|tx| tx.lease(&task.repo))?;
            lease::mirror_file(ctx, held.as_ref(), &task.repo)?;
            ctx.report.did(ActionKind::TaskCancelled, Some(task.key.as_str()), json!({"stage": task.stopped_stage}));
            Ok(())
        }
        Err(StoreError::Lost) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// A reap at least a minute after a stop checks again for branch and pull request (RULE-17).
pub fn recheck_after_stop(ctx: &mut Ctx) -> Result<()> {
    if ctx.dry {
        return Ok(());
    }
    let now = ctx.now().stamp.wall_ms;
    for row in ctx.store.read(|tx| tx.intents_of_kind("relook", now - RECHECK_MS))? {
        let Some(id) = row.task_id else { continue };
        let Ok(task) = ctx.task(id) else { continue };
        // An unavailable forge must not prevent deleting the branch and the worktree.
        let parts = [close_late_pull(ctx, &task), delete_branch(ctx, &task), remove_worktree(ctx, &task)];
        let done = parts.into_iter().collect::<Result<()>>();
        match done {
            Ok(()) => ctx.store.write(|tx| tx.record_outcome(&row.key, &json!({"looked": true}), now))?,
            Err(e) => ctx.fault(Some(&task), "checking again after a stop", &e),
        }
    }
    Ok(())
}
