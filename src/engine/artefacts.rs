//! `deploy.artefacts_after_merge: branch` (RULE-1): once a task is done and its watch is over, `orch` commits its own
//! artefacts under the work item's folder on the default branch while holding the repository's lease.

use super::default_branch;
use super::errors::Refused;
use super::services::{self, Access};
use super::{Ctx, lease, messages, projects};
use crate::adapters::git::{GitError, Mirror, PushOutcome};
use crate::adapters::sentinel;
use crate::adapters::store::StoreError;
use crate::config::ArtefactsAfterMerge;
use crate::decide::refused::is_spent;
use crate::model::artefact::{self, Artefact};
use crate::model::card::AlertKind;
use crate::model::event::Event;
use crate::model::ids::{Key, Sha, TaskId};
use crate::model::report::ActionKind;
use crate::model::stage::Stage;
use crate::model::task::Task;
use anyhow::{Context, Result};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The kind in the journal.
pub const KIND: &str = "artefact_committed";

/// Backoff after a refusal: doubles from a minute to a day.
const FIRST_MS: i64 = 60_000;
const LONGEST_MS: i64 = 86_400_000;

/// What became of the push.
enum Pushed {
    /// On the default branch; with the commit if one was needed.
    As(Option<String>),
    Later,
}

/// The journal's key of a task's one commit.
pub fn key(id: TaskId) -> String {
    format!("t{id}/artefacts")
}

/// Commits what is due. A task waits while its watch runs or another task holds the repository's lease.
pub fn commit_due(ctx: &mut Ctx) -> Result<()> {
    if ctx.dry {
        return Ok(());
    }
    let now = ctx.now().stamp.wall_ms;
    for row in ctx.store.read(|tx| tx.intents_of_kind(KIND, now))? {
        let Some(id) = row.task_id else { continue };
        let task = match ctx.task(id) {
            Ok(task) => task,
            // Its bad rows hold only this task (RULE-44).
            Err(e) => {
                ctx.fault(None, &format!("committing orch's own artefacts of task {id}"), &e);
                continue;
            }
        };
        let deferred_until = row.intent["until"].as_i64().unwrap_or(0);
        // A later time means that the clock was set back.
        let waits = (1..=LONGEST_MS).contains(&(deferred_until - now));
        if task.stage != Stage::Done || task.is_watched() || waits {
            continue;
        }
        match one(ctx, &task) {
            Ok(()) => {}
            Err(e) => match refused(&e) {
                Some(why) => move_aside(ctx, &task, &row.intent, &why)?,
                None => ctx.fault(Some(&task), "committing orch's own artefacts", &e),
            },
        }
    }
    Ok(())
}

/// The remote's *no*, if the error is one. Only a person can lift it, and no step fails because of it.
fn refused(e: &anyhow::Error) -> Option<String> {
    if let Some(why) = Refused::why(e) {
        return Some(why);
    }
    let git = e.chain().find_map(|e| e.downcast_ref::<GitError>())?;
    matches!(git, GitError::Refused { .. }).then(|| format!("{e:#}"))
}

/// Defers the commit, longer each time, and reports it once. The artefacts stay in the state directory meanwhile.
fn move_aside(ctx: &mut Ctx, task: &Task, before: &serde_json::Value, why: &str) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    let times = before["times"].as_i64().unwrap_or(0);
    let since = before["since"].as_i64().unwrap_or(at);
    if is_spent(times + 1, since, at, ctx.policy.effects) {
        // Every effect on git has a bound (ORD-1). The task is done, so there is nothing to block.
        let said = format!("{why}; given up after {} tries: they stay in the state directory", times + 1);
        ctx.store.write(|tx| {
            super::record::outcome(tx, &key(task.id), &json!({"commit": null, "given_up": why}), at)?;
            super::record::event(
                tx,
                at,
                Some(task.id),
                Event::ArtefactsRefused,
                &json!({"why": why, "given_up": true}),
            )?;
            messages::alert(tx, task, AlertKind::ArtefactsRefused, 2, &said, at)
        })?;
        ctx.report.note(format!("{}: {said}", task.key));
        return Ok(());
    }
    let until = at + (FIRST_MS << times.clamp(0, 10)).min(LONGEST_MS);
    let me = ctx.me.clone();
    let intent = json!({"times": times + 1, "since": since, "until": until, "why": why});
    ctx.store.write(|tx| {
        super::record::intend(tx, &key(task.id), Some(task.id), KIND, &intent, &me, at)?;
        if times == 0 {
            super::record::event(tx, at, Some(task.id), Event::ArtefactsRefused, &json!({"why": why}))?;
            messages::alert(tx, task, AlertKind::ArtefactsRefused, 1, why, at)?;
        }
        Ok::<_, StoreError>(())
    })?;
    ctx.report.note(format!("{}: {why}; retried later", task.key));
    Ok(())
}

/// Copies the work item's documents at a commit into a folder of the state directory. Leaves out files over 1 MiB and
/// anything that is not a regular file.
pub fn copy(mirror: &Mirror, head: &Sha, key: &Key, dir: &Path) -> Result<()> {
    let folder = artefact::folder(key);
    for entry in mirror.list_paths(head, std::slice::from_ref(&folder))? {
        let path = entry.text();
        let Some(below) = path.strip_prefix(&format!("{folder}/")) else { continue };
        if below.split('/').any(|p| p.is_empty() || p == "." || p == "..") {
            continue;
        }
        if let Some(bytes) = mirror.read_file(head, &path).unwrap_or(None) {
            let to = dir.join(below);
            sentinel::put(&to, &bytes).with_context(|| format!("writing {}", to.display()))?;
        }
    }
    Ok(())
}

/// The newest artefacts 14 to 17 kept for the task's head.
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
        ctx.store.write(|tx| super::record::outcome(tx, &key(task.id), &json!({"commit": null}), at))?;
        return Ok(());
    }
    let now = ctx.now();
    let me = ctx.me.clone();
    let file_fence = lease::file_fence(ctx, &task.repo);
    let held = ctx.store.write(|tx| {
        // No other task of the repository may be between merge gate and done.
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
        if let Ok(Pushed::As(commit)) = &done {
            super::record::outcome(tx, &key(task.id), &json!({"commit": commit}), at)?;
            super::record::event(
                tx,
                at,
                Some(task.id),
                Event::ArtefactCommitted,
                &json!({"commit": commit, "files": files.len()}),
            )?;
        }
        tx.free_lease(&held.repo, held.fence)?;
        Ok::<_, StoreError>(())
    })?;
    lease::mirror_file(ctx, None, &held.repo)?;
    let Pushed::As(commit) = done? else { return Ok(()) };
    ctx.report.did(ActionKind::ArtefactCommitted, Some(task.key.as_str()), json!({"commit": commit}));
    Ok(())
}

/// Pushes one commit of exactly these files onto the fresh default branch. Files already there are not committed again.
fn push(ctx: &mut Ctx, task: &Task, project: &crate::config::Project, files: &[(Artefact, PathBuf)]) -> Result<Pushed> {
    let mirror = projects::mirror(ctx, project)?;
    let (default, tip) = default_branch::fetch_default(ctx, project, &mirror)?;
    let mut entries = Vec::new();
    for (artefact, path) in files {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        entries.push((format!("{}/{artefact}", artefact::folder(&task.key)), bytes));
    }
    let build = mirror.build()?;
    let tree = build.with_files(&mirror.base(&tip)?, &entries)?;
    if tree == mirror.tree_of(&tip)? {
        return Ok(Pushed::As(None));
    }
    let message = format!("{}: orch's record of the deploy", task.key);
    let seconds = task.finished_at.unwrap_or(task.created_at) / 1000;
    let made = build.commit(&tree, &tip, &message, &projects::author(project), seconds)?;
    mirror.import(&build, &made)?;
    match services::git(ctx, project, Access::Push, mirror.land(&default, &made, &tip))? {
        PushOutcome::Created | PushOutcome::Same | PushOutcome::Updated => Ok(Pushed::As(Some(made.to_string()))),
        // The default branch moved meanwhile: the next step retries from there.
        PushOutcome::Rejected { moved: true, .. } => Ok(Pushed::Later),
        PushOutcome::Rejected { reason, moved: false } => Err(Refused::error(format!(
            "{default} does not accept orch's own artefacts: {reason}; let orch push to it, or set deploy.artefacts_after_merge: state"
        ))),
    }
}
