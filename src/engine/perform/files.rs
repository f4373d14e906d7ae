//! Effects on files of the state directory.

use crate::adapters::git::files::remove;
use crate::adapters::sentinel;
use crate::engine::{Ctx, artefacts, base, lease, projects};
use crate::model::branch_write::BranchWrite;
use crate::model::effect::{Left, Report};
use crate::model::ids::Sha;
use crate::model::task::Task;
use anyhow::{Context, Result};

/// Makes the merge lease's file match its row.
pub fn lease(ctx: &mut Ctx, task: &Task) -> Result<Report> {
    let held = ctx.store.read(|tx| tx.lease(&task.repo))?;
    lease::mirror_file(ctx, held.as_ref(), &task.repo)?;
    Ok(Report::Done)
}

/// Copies the branch's documents and the sentinels into the state directory.
pub fn archive(ctx: &mut Ctx, task: &Task, at: i64, head: &Sha) -> Result<Report> {
    let project = ctx.project(&task.project)?.clone();
    let mirror = projects::mirror(ctx, &project)?;
    if !mirror.exists(head)? {
        return Ok(Report::Done);
    }
    let dir = ctx.paths.archive(task).join(at.to_string());
    artefacts::copy(&mirror, head, &task.key, &dir)?;
    let sentinels = ctx.paths.sentinels(task);
    if sentinels.exists() {
        sentinel::archive(&sentinels, &dir.join("sentinels"))?;
    }
    // A cancelled branch's head is kept (RULE-11).
    mirror.keep_ref(&format!("refs/orch/cancelled/{}", task.id), head)?;
    Ok(Report::Done)
}

/// Reads what the task left: from the journal, and on this machine.
pub fn left(ctx: &mut Ctx, task: &Task, branch: Option<&str>) -> Result<Report> {
    let ours = match branch {
        Some(branch) => base::is_ours(ctx, task, branch)?,
        None => false,
    };
    let rows = ctx.store.read(|tx| tx.journal_of(task.id))?;
    let writes = rows.iter().filter_map(|r| BranchWrite::parse(&r.kind, &r.intent));
    let pushed = writes.flat_map(|w| w.commits().into_iter().cloned().collect::<Vec<_>>()).collect();
    Ok(Report::Left(Left { ours, pushed, area: ctx.paths.area_of(task).exists() }))
}

/// Removes the task's checkouts.
pub fn remove_area(ctx: &mut Ctx, task: &Task) -> Result<Report> {
    let path = ctx.paths.area_of(task);
    remove(&path).with_context(|| format!("removing {}", path.display()))?;
    Ok(Report::Done)
}
