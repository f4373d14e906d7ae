//! `prune` (CLI-4): takes away what nobody needs any more once its task ended so long ago. The rows stay.

use super::{Ctx, bound};
use crate::adapters::git::files::remove;
use crate::adapters::locks;
use crate::adapters::store::StoreError;
use crate::model::ids::{RunId, TaskId};
use crate::model::task::{RunState, Task};
use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One folder taken away (or to be taken away).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// `run`, `worktree`, `agent_home`, `archive`, `cache`.
    pub kind: &'static str,
    pub task: Option<String>,
    pub path: PathBuf,
}

/// Takes away what belongs to tasks that ended before `before` (wall milliseconds). A fault at one folder is noted; the
/// rest goes on.
pub fn run(ctx: &mut Ctx, before: i64) -> Result<Vec<Pruned>> {
    let mut found = Vec::new();
    for (name, path) in entries(&ctx.paths.root().join("runs"))? {
        let Ok(id) = name.parse::<i64>() else { continue };
        let row = ctx.store.read(|tx| match tx.run(RunId(id)) {
            Ok(run) => Ok(Some((tx.task(run.task_id)?, run))),
            Err(StoreError::Lost) => Ok(None),
            Err(e) => Err(e),
        })?;
        let Some((task, run)) = row else { continue };
        let settled = run.state == RunState::Settled && run.ended_at.is_some_and(|t| t < before);
        let held = locks::is_held(&ctx.paths.run_lock(run.id)) == Some(true);
        if settled && !held && is_over(&task, before) {
            found.push(Pruned { kind: "run", task: Some(task.key.to_string()), path });
        }
    }
    for (name, path) in entries(&ctx.paths.root().join("homes"))? {
        let Ok(id) = name.parse::<i64>() else { continue };
        let task = ctx.store.read(|tx| match tx.task(TaskId(id)) {
            Ok(task) => Ok(Some(task)),
            Err(StoreError::Lost) => Ok(None),
            Err(e) => Err(e),
        })?;
        if let Some(task) = task.filter(|t| is_over(t, before)) {
            found.push(Pruned { kind: "agent_home", task: Some(task.key.to_string()), path });
        }
    }
    for task in ctx.store.read(|tx| tx.finished_before(before))?.iter().filter(|t| is_over(t, before)) {
        for (kind, path) in [("worktree", ctx.paths.area_of(task)), ("archive", ctx.paths.archive(task))] {
            if path.symlink_metadata().is_ok() {
                found.push(Pruned { kind, task: Some(task.key.to_string()), path });
            }
        }
    }
    let repos: Vec<String> = ctx.config.projects.iter().map(|p| p.repo.clone()).collect();
    let old = super::cache::stale(&ctx.paths, &repos, ctx.now().stamp.wall_ms);
    found.extend(old.into_iter().map(|path| Pruned { kind: "cache", task: None, path }));
    let mut gone = Vec::new();
    let kept = bound_files(ctx, &found)?;
    for p in found {
        // A file that a row binds stays: without it the row would be a *no* (RULE-47).
        if kept.iter().any(|file| file.starts_with(&p.path)) {
            continue;
        }
        if ctx.interrupted() {
            break;
        }
        if !ctx.dry
            && let Err(e) = remove(&p.path).with_context(|| format!("removing {}", p.path.display()))
        {
            ctx.report.fault(p.task.as_deref(), format!("{e:#}"), None);
            continue;
        }
        gone.push(p);
    }
    Ok(gone)
}

/// The files that rows of these tasks bind.
fn bound_files(ctx: &mut Ctx, found: &[Pruned]) -> Result<Vec<PathBuf>> {
    let keys: BTreeSet<&str> = found.iter().filter_map(|p| p.task.as_deref()).collect();
    let root = ctx.paths.root().to_owned();
    let mut files = Vec::new();
    for task in ctx.store.read(|tx| tx.finished_before(i64::MAX))? {
        if keys.contains(task.key.as_str()) {
            files.extend(bound::files(&ctx.store.read(|tx| tx.evidence_of(task.id))?, &root));
        }
    }
    Ok(files)
}

/// Ended so long ago, and nothing watches it any more.
fn is_over(task: &Task, before: i64) -> bool {
    task.stage.is_terminal() && task.watch.as_deref() != Some("armed") && task.finished_at.is_some_and(|t| t < before)
}

fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let list = match std::fs::read_dir(dir) {
        Ok(list) => list,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("reading {}", dir.display())),
    };
    let mut found: Vec<(String, PathBuf)> =
        list.filter_map(|e| e.ok().map(|e| (e.file_name().to_string_lossy().into_owned(), e.path()))).collect();
    found.sort();
    Ok(found)
}
