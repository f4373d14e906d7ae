//! `--dry-run`: applies an effect to the in-memory copy of the database as if nothing interfered, so that the output
//! shows what the next real step does (CLI-2). Nothing outside is changed.

use super::record;
use super::steps::Ran;
use super::{Ctx, base, inputs, outbox};
use crate::adapters::store::{OutboxRow, Sink, StoreError};
use crate::decide::merge;
use crate::model::change::Change;
use crate::model::decision::Procedure;
use crate::model::ids::TaskId;
use crate::model::report::ActionKind;
use crate::model::task::{Deploy, DeployState, Task};
use anyhow::Result;
use serde_json::json;

/// Simulates one effect. `false`: it would do nothing, and the decision stays.
pub fn play(ctx: &mut Ctx, id: TaskId, effect: Procedure) -> Result<bool> {
    let task = ctx.task(id)?;
    match effect {
        Procedure::MergeGate | Procedure::OpenPull => Ok(super::steps::run(ctx, id, effect)? == Ran::Whole),
        // It reads the mirror, and writes to the copy.
        Procedure::VerdictInputs => inputs::record(ctx, id),
        Procedure::OpenDeploy => open(ctx, &task),
        Procedure::Land => land(ctx, &task),
        Procedure::CompleteStop => stop(ctx, &task),
    }
}

fn open(ctx: &mut Ctx, task: &Task) -> Result<bool> {
    let now = ctx.now();
    let (Some(head), Some(base)) = (task.head_sha.clone(), task.base_sha.clone()) else { return Ok(false) };
    let opened = ctx.store.write(|tx| {
        let Some(lease) = tx.lease(&task.repo)?.filter(|l| l.task_id == Some(task.id)) else { return Ok(None) };
        let deploy = Deploy {
            id: merge::deploy_id(task, lease.fence, tx.deploys_of(task.id)?.len()),
            task_id: task.id,
            repo: task.repo.clone(),
            attempt: task.attempt,
            fence: lease.fence,
            head: head.clone(),
            base,
            tree: task.head_tree.clone().unwrap_or_default(),
            state: DeployState::Initiated,
            actor: now.me.clone(),
            landed_sha: None,
            result: None,
            initiated_at: now.stamp.clone(),
        };
        tx.insert_deploy(&deploy)?;
        let mut t = task.clone();
        record::change(tx, &mut t, Change::OpenWindow(deploy.window()), now.stamp.wall_ms)?;
        Ok::<_, StoreError>(Some(deploy.id))
    })?;
    let Some(deploy) = opened else { return Ok(false) };
    ctx.report.did(ActionKind::DeployInitiated, Some(task.key.as_str()), json!({"deploy": deploy, "head": head}));
    Ok(true)
}

fn land(ctx: &mut Ctx, task: &Task) -> Result<bool> {
    let at = ctx.now().stamp.wall_ms;
    let newest = super::deploy::newest(ctx, task.id)?;
    let Some(deploy) = newest.filter(|d| d.state == DeployState::Initiated) else { return Ok(false) };
    ctx.store.write(|tx| {
        tx.move_deploy(&deploy.id, DeployState::Initiated, DeployState::Landed, Some(&deploy.head), None, at)?;
        let mut t = task.clone();
        record::change(tx, &mut t, Change::Landed { commit: deploy.head.clone() }, at)
    })?;
    ctx.report.did(ActionKind::PrMerged, Some(task.key.as_str()), json!({"head": deploy.head}));
    Ok(true)
}

fn stop(ctx: &mut Ctx, task: &Task) -> Result<bool> {
    let at = ctx.now().stamp.wall_ms;
    let key = task.key.to_string();
    let jobs = ctx.store.write(|tx| tx.cancel_jobs(task.id, "stopped", at))?;
    if jobs > 0 {
        ctx.report.did(ActionKind::JobCancelled, Some(&key), json!({"jobs": jobs}));
    }
    if let Some(pr) = &task.pr {
        ctx.report.did(ActionKind::PrClosed, Some(&key), json!({"number": pr.number}));
    }
    if let Some(branch) = &task.branch
        && base::is_ours(ctx, task, branch)?
    {
        ctx.report.did(ActionKind::BranchDeleted, Some(&key), json!({"branch": branch}));
    }
    if ctx.paths.area_of(task).exists() {
        ctx.report.did(ActionKind::WorktreeRemoved, Some(&key), json!({}));
    }
    super::stop::finish(ctx, task.id, None)?;
    Ok(true)
}

/// Prints what the step would deliver at its end without sending it: each message as if its sink accepted it.
pub fn deliver(ctx: &mut Ctx) -> Result<()> {
    loop {
        let now = ctx.now().stamp.wall_ms;
        let rows = ctx.store.read(|tx| tx.deliverable(now, 64))?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in rows {
            message(ctx, &row)?;
            ctx.store.write(|tx| tx.message_sent(row.id, now))?;
        }
    }
}

fn message(ctx: &mut Ctx, row: &OutboxRow) -> Result<()> {
    let task = row.task_id.map(|id| ctx.task(id)).transpose()?;
    let key = task.as_ref().map(|t| t.key.to_string());
    let (kind, detail) = match (row.sink, &task) {
        (Sink::BoardStatus, Some(task)) => match outbox::next_status(ctx, task) {
            Ok(Some(status)) => (ActionKind::BoardStatusSet, json!({"status": status})),
            // A board that does not answer delays its message, not the step.
            Ok(None) | Err(_) => return Ok(()),
        },
        (Sink::BoardComment, Some(_)) => (ActionKind::CommentPosted, json!({"on": "board"})),
        (Sink::ForgeComment, Some(Task { pr: Some(pr), .. })) => {
            (ActionKind::CommentPosted, json!({"on": "forge", "pr": pr.number}))
        }
        (Sink::Card, Some(_)) => (ActionKind::CardUpdated, json!({})),
        (Sink::Alert, _) => (ActionKind::AlertSent, json!({"alert": row.payload["kind"]})),
        (
            Sink::BoardStatus | Sink::BoardComment | Sink::ForgeComment | Sink::ForgeStatus | Sink::Card | Sink::Chat,
            _,
        ) => {
            return Ok(());
        }
    };
    ctx.report.did(kind, key.as_deref(), detail);
    Ok(())
}
