//! `deploy.artefacts_after_merge: branch` (RULE-1): once a task is done and its watch over, `orch`'s own artefacts are
//! committed under the work item's folder of the default branch, while the repository's lease is held.

use super::{Ctx, lease, projects};
use crate::adapters::git::PushOutcome;
use crate::adapters::store::StoreError;
use crate::config::ArtefactsAfterMerge;
use crate::model::artefact::{self, Artefact};
use crate::model::ids::TaskId;
use crate::model::report::ActionKind;
use crate::model::stage::Stage;
use crate::model::task::Task;
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::path::PathBuf;

/// The journal's word.
pub const KIND: &str = "artefact_committed";

/// The journal's key of a task's one commit.
pub fn key(id: TaskId) -> String {
    format!("t{id}/artefacts")
}

/// Commits what is due. A task whose watch goes on waits; so does one whose repository's lease another holds.
pub fn commit_due(ctx: &mut Ctx) -> Result<()> {
    if ctx.dry {
        return Ok(());
    }
    let now = ctx.now().stamp.wall_ms;
    for row in ctx.store.read(|tx| tx.intents_of_kind(KIND, now))? {
        let Some(id) = row.task_id else { continue };
        let task = ctx.task(id)?;
        if task.stage != Stage::Done || task.watch.as_deref() == Some("armed") {
            continue;
        }
        if let Err(e) = one(ctx, &task) {
            ctx.fault(Some(&task), "committing orch's own artefacts", &e);
        }
    }
    Ok(())
}

/// The newest of 14 to 17 that were kept for the task's head.
fn kept(ctx: &Ctx, task: &Task) -> Vec<(Artefact, PathBuf)> {
    let Some(head) = &task.head_sha else { return Vec::new() };
    let dir = ctx.paths.evidence(task.id, head);
    [Artefact::DeployLog, Artefact::StagingLog, Artefact::PostDeployLog, Artefact::SecurityReport]
        .into_iter()
        .map(|a| (a, dir.join(a.as_str())))
        .filter(|(_, path)| path.is_file())
        .collect()
}

fn one(ctx: &mut Ctx, task: &Task) -> Result<()> {
    let project = ctx.project(&task.project)?.clone();
    let at = ctx.now().stamp.wall_ms;
    let files = kept(ctx, task);
    let wanted = project.deploy.artefacts_after_merge == ArtefactsAfterMerge::Branch;
    if !wanted || files.is_empty() {
        ctx.store.write(|tx| tx.record_outcome(&key(task.id), &json!({"commit": null}), at))?;
        return Ok(());
    }
    let now = ctx.now();
    let me = ctx.me.clone();
    let file_fence = lease::file_fence(ctx, &task.repo);
    let held = ctx.store.write(|tx| {
        // Nobody may be between merge gate and done here.
        if tx.lease(&task.repo)?.is_some_and(|l| l.task_id.is_some_and(|t| t != task.id)) {
            return Ok(None);
        }
        tx.take_lease(&task.repo, task.id, &me, file_fence, &now.stamp)
    })?;
    let Some(held) = held else { return Ok(()) };
    lease::mirror_file(ctx, Some(&held), &held.repo)?;
    let done = push(ctx, task, &project, &files);
    let at = ctx.now().stamp.wall_ms;
    ctx.store.write(|tx| {
        if let Ok(commit) = &done {
            tx.record_outcome(&key(task.id), &json!({"commit": commit}), at)?;
            tx.audit(at, Some(task.id), KIND, &json!({"commit": commit, "files": files.len()}))?;
        }
        tx.free_lease(&held.repo, held.fence)?;
        Ok::<_, StoreError>(())
    })?;
    lease::mirror_file(ctx, None, &held.repo)?;
    let commit = done?;
    ctx.report.did(ActionKind::ArtefactCommitted, Some(task.key.as_str()), json!({"commit": commit}));
    Ok(())
}

/// One commit of exactly these files on the fresh default branch; what stands there already is not committed again.
fn push(
    ctx: &mut Ctx,
    task: &Task,
    project: &crate::config::Project,
    files: &[(Artefact, PathBuf)],
) -> Result<Option<String>> {
    let mirror = projects::mirror(ctx, project)?;
    let default = projects::default_branch(ctx, project, &mirror)?;
    let tip = mirror.fetch_branch(&default)?.with_context(|| format!("the remote has no branch {default}"))?;
    let mut entries = Vec::new();
    for (artefact, path) in files {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        entries.push((format!("{}/{artefact}", artefact::folder(&task.key)), bytes));
    }
    let build = mirror.build()?;
    let tree = build.with_files(&mirror.base(&tip)?, &entries)?;
    if tree == mirror.tree_of(&tip)? {
        return Ok(None);
    }
    let message = format!("{}: what orch recorded of its deploy", task.key);
    let seconds = task.finished_at.unwrap_or(task.created_at) / 1000;
    let made = build.commit(&tree, &tip, &message, &projects::author(project), seconds)?;
    mirror.take_in(&build, &made, crate::model::ids::RunId(0))?;
    match mirror.land(&default, &made, &tip)? {
        PushOutcome::Created | PushOutcome::Same | PushOutcome::Updated => Ok(Some(made.to_string())),
        PushOutcome::Rejected { reason, .. } => bail!("{default} does not take it now: {reason}"),
    }
}
