//! `--dry-run`: what the step would deliver at its end, without sending it (CLI-2).

use crate::adapters::store::{OutboxRow, Sink};
use crate::engine::Ctx;
use crate::model::report::ActionKind;
use crate::model::task::Task;
use anyhow::Result;
use serde_json::json;

/// Reports each message as if its sink accepted it.
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
        (Sink::BoardStatus, Some(task)) => match super::next_status(ctx, task) {
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
