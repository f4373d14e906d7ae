//! Deletes landed branches on the remote (ORD-6): once their task is done, at exactly the head that was merged, with
//! that head kept in the mirror. A branch that somebody moved is kept and reported.

use super::default_branch;
use super::services::{self, Access};
use super::{Ctx, base, messages, projects, pulls};
use crate::adapters::git::DeleteOutcome;
use crate::adapters::store::{JournalRow, StoreError, Tx};
use crate::model::event::Event;
use crate::model::ids::Sha;
use crate::model::report::ActionKind;
use crate::model::task::{Actor, Task};
use anyhow::{Context, Result};
use serde_json::json;

/// The kind in the journal.
const KIND: &str = "merged_branch";
/// Backoff: doubles from a minute to a day.
const FIRST_MS: i64 = 60_000;
const LONGEST_MS: i64 = 86_400_000;
/// After this many attempts the branch is kept.
const MOST_TRIES: i64 = 20;

/// Marks a branch for deletion, in the transaction that ends its use. Writes nothing for a branch that never landed.
pub fn to_delete(tx: &Tx<'_>, task: &Task, me: &Actor, at: i64) -> Result<(), StoreError> {
    let (Some(branch), Some(head), Some(_)) = (&task.branch, &task.head_sha, &task.landed_sha) else { return Ok(()) };
    let intent = json!({"branch": branch, "head": head, "tries": 0, "until": 0});
    super::record::intend(tx, &format!("t{}/merged/{branch}", task.id), Some(task.id), KIND, &intent, me, at).map(drop)
}

/// Deletes what is due. A remote that refuses or does not answer is asked again later and fails no step.
pub fn tidy(ctx: &mut Ctx) -> Result<()> {
    let now = ctx.now().stamp.wall_ms;
    if ctx.dry {
        return Ok(());
    }
    for row in ctx.store.read(|tx| tx.intents_of_kind(KIND, now))? {
        let until = row.intent["until"].as_i64().unwrap_or(0);
        // A later time means that the clock was set back.
        if ctx.interrupted() || (1..=LONGEST_MS).contains(&(until - now)) {
            continue;
        }
        let Some(task) = row.task_id.and_then(|id| ctx.task(id).ok()) else { continue };
        if let Err(e) = one(ctx, &task, &row) {
            later(ctx, &task, &row, &e)?;
        }
    }
    Ok(())
}

fn later(ctx: &mut Ctx, task: &Task, row: &JournalRow, e: &anyhow::Error) -> Result<()> {
    let tries = row.intent["tries"].as_i64().unwrap_or(0) + 1;
    if tries >= MOST_TRIES {
        return kept(ctx, task, row, &format!("{e:#}"));
    }
    tracing::warn!(task = %task.key, "its branch is deleted later: {e:#}");
    let at = ctx.now().stamp.wall_ms;
    let mut intent = row.intent.clone();
    intent["tries"] = json!(tries);
    intent["until"] = json!(at + (FIRST_MS << tries.clamp(0, 10)).min(LONGEST_MS));
    let me = ctx.me.clone();
    ctx.store.write(|tx| super::record::intend(tx, &row.key, Some(task.id), KIND, &intent, &me, at).map(drop))?;
    Ok(())
}

fn one(ctx: &mut Ctx, task: &Task, row: &JournalRow) -> Result<()> {
    let branch = row.intent["branch"].as_str().unwrap_or("").to_owned();
    let head = Sha::parse(row.intent["head"].as_str().unwrap_or("")).map_err(|e| anyhow::anyhow!(e))?;
    let project = ctx.project(&task.project)?.clone();
    if !project.merge.delete_branch {
        return done(ctx, task, row, &json!({"deleted": false, "why": "merge.delete_branch is off"}));
    }
    // Deleting the branch would close a pull request that the forge left open as unmerged.
    if pulls::is_tidying(ctx, task)? {
        return Ok(());
    }
    let mirror = projects::mirror(ctx, &project)?;
    mirror.keep_ref(&format!("refs/orch/done/{}", task.id), &head).context("keeping the merged head")?;
    if !base::is_ours(ctx, task, &branch)? {
        return done(ctx, task, row, &json!({"deleted": false, "why": "orch did not create it"}));
    }
    let default = default_branch::default_branch(ctx, &project, &mirror)?;
    let outcome = services::git(ctx, &project, Access::Push, mirror.delete_branch(&branch, &head, &default))?;
    match outcome {
        DeleteOutcome::Deleted => {
            done(ctx, task, row, &json!({"deleted": true}))?;
            ctx.report.did(ActionKind::BranchDeleted, Some(task.key.as_str()), json!({"branch": branch}));
            Ok(())
        }
        DeleteOutcome::Gone => done(ctx, task, row, &json!({"deleted": true})),
        DeleteOutcome::Kept { reason } => kept(ctx, task, row, &reason),
    }
}

fn done(ctx: &mut Ctx, task: &Task, row: &JournalRow, outcome: &serde_json::Value) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    ctx.store.write(|tx| {
        super::record::outcome(tx, &row.key, outcome, at)?;
        let mut detail = outcome.clone();
        detail["branch"] = row.intent["branch"].clone();
        super::record::event(tx, at, Some(task.id), Event::BranchDeleted, &detail).map(drop)
    })?;
    Ok(())
}

/// Keeps the branch and says so on the work item.
fn kept(ctx: &mut Ctx, task: &Task, row: &JournalRow, reason: &str) -> Result<()> {
    done(ctx, task, row, &json!({"deleted": false, "why": reason}))?;
    let at = ctx.now().stamp.wall_ms;
    let branch = row.intent["branch"].as_str().unwrap_or("");
    let text = format!("Branch {branch} is kept: {reason}");
    ctx.store.write(|tx| messages::comment(tx, task, "branch-kept", &text, at))?;
    ctx.report.note(format!("{}: {text}", task.key));
    Ok(())
}
