//! One check of a task's branch, its pull request and the default branch, and its immediate consequences (RULE-5,
//! RULE-31). `decide::landing` says what it means.

use super::{Ctx, perform, steps, view};
use crate::decide::landing::{Landing, judge};
use crate::decide::report;
pub use crate::model::effect::Depth;
use crate::model::ids::TaskId;
use crate::model::landing::Seen;
use crate::model::plan::Entry;
use crate::model::stage::Stage;
use crate::model::task::Task;
use anyhow::Result;

/// What was found, and what it means.
#[derive(Debug)]
pub struct Checked {
    pub task: Task,
    pub landing: Landing,
}

/// Checks remote and forge. `None`: the task has no branch yet. Fails if the remote does not answer.
pub fn check(ctx: &mut Ctx, id: TaskId, depth: Depth) -> Result<Option<Checked>> {
    let now = ctx.now();
    let view = ctx.store.read(|tx| view::task(tx, id, &now, None))?;
    let Some(survey) = report::survey(&view, &ctx.policy, depth) else { return Ok(None) };
    let found = perform::branch::survey(ctx, &view.task, &survey)?;
    let landing = judge(&Seen { line: found.line, pull: found.pull, branch: found.branch, released: survey.released });
    Ok(Some(Checked { task: view.task, landing }))
}

/// Applies the immediate consequences: a withdrawal by somebody else holds the task, an untested landing blocks it and
/// freezes the repository, a rewritten history blocks it. `true`: the task must not continue.
pub fn stopped_by(ctx: &mut Ctx, id: TaskId, landing: &Landing) -> Result<bool> {
    let entries = report::consequences(&ctx.task(id)?, landing);
    let stopped = !entries.is_empty();
    if stopped {
        steps::record(ctx, id, entries)?;
    }
    Ok(stopped)
}

/// Before an agent starts, before its push, before a task moves and while it waits for a person (RULE-31): whether
/// somebody else has withdrawn it. Skips tasks that are finished, have no branch, are already held or are being
/// stopped. `true`: it must not continue.
pub fn taken_back(ctx: &mut Ctx, id: TaskId) -> Result<bool> {
    let task = ctx.task(id)?;
    if task.withdrawn.is_some() {
        return Ok(true);
    }
    let nothing = task.stage == Stage::Created || task.stage.is_terminal() || task.branch.is_none();
    if ctx.dry || nothing || task.landed_sha.is_some() || task.stop_requested_at.is_some() {
        return Ok(false);
    }
    let Some(checked) = check(ctx, id, Depth::Glance)? else { return Ok(false) };
    match (&checked.landing, checked.task.blocked_reason.is_some()) {
        // The block already says what to do; an untested landing still freezes the repository.
        (Landing::Untested { why, .. }, true) => freeze(ctx, &checked.task, why).map(|()| true),
        (Landing::Rewritten { .. }, true) => Ok(true),
        (landing, _) => stopped_by(ctx, id, landing),
    }
}

/// The same, ignoring a remote that does not answer.
pub fn check_waiting_deploy(ctx: &mut Ctx, id: TaskId) {
    if let Err(e) = taken_back(ctx, id)
        && let Ok(task) = ctx.task(id)
    {
        tracing::warn!(task = %task.key, "whether somebody else moved it will be checked later: {e:#}");
    }
}

/// Checks every task that waits for a person or is blocked: it does not move, so nothing else would check it (RULE-31).
pub fn check_waiting_deploys(ctx: &mut Ctx, only: Option<&str>) -> Result<()> {
    if ctx.dry {
        return Ok(());
    }
    for task in ctx.store.read(|tx| tx.open_tasks())? {
        let waits = task.waiting_for.is_some() || task.blocked_reason.is_some();
        if waits && task.withdrawn.is_none() && only.is_none_or(|p| p == task.project) && !ctx.interrupted() {
            check_waiting_deploy(ctx, task.id);
        }
    }
    Ok(())
}

fn freeze(ctx: &mut Ctx, task: &Task, why: &str) -> Result<()> {
    steps::record(ctx, task.id, vec![Entry::Freeze { why: why.to_owned() }])
}
