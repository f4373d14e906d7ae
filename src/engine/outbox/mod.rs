//! Delivers the outbox: any step may take a row, within its own short deadline, and a failure never fails the step
//! (NTF-3).

mod expected;

use super::{Ctx, boards, notices, services};
use crate::adapters::board::{Move, Moved};
use crate::adapters::process::{self, Life};
use crate::adapters::store::{OutboxRow, Sink, StoreError};
use crate::decide::board::progress;
use crate::decide::notify::{After, Carries, RowState, after, of_fault};
use crate::model::board::{Resolved, WorkItem, indication};
use crate::model::card::Delivered;
use crate::model::ci::StatusState;
use crate::model::event::Event;
use crate::model::evidence::EvidenceVerdict;
use crate::model::ids::Sha;
use crate::model::report::ActionKind;
use crate::model::task::Task;
use anyhow::Result;
use serde_json::json;
use std::time::{Duration, Instant};

/// The time limit for a step's deliveries.
const DEADLINE: Duration = Duration::from_secs(10);
/// A taken row is released after this time if its taker died.
const TAKEN_MS: i64 = 60_000;

/// Delivers what is due until the deadline.
pub fn deliver(ctx: &mut Ctx) {
    if ctx.dry {
        if let Err(e) = expected::deliver(ctx) {
            ctx.report.fault(None, format!("listing what would be delivered: {e:#}"), None);
        }
        return;
    }
    if let Err(e) = super::lease::mirror_all(ctx) {
        ctx.report.fault(None, format!("the merge lease's file: {e:#}"), None);
    }
    if let Err(e) = free_orphans(ctx) {
        ctx.report.fault(None, format!("messages of killed steps: {e:#}"), None);
    }
    if let Err(e) = super::asks::sweep(ctx) {
        ctx.report.fault(None, format!("questions that were answered elsewhere: {e:#}"), None);
    }
    if let Err(e) = super::notices::try_again(ctx) {
        ctx.report.fault(None, format!("trying refusing sinks again: {e:#}"), None);
    }
    let until = Instant::now() + DEADLINE;
    // One round may unblock the next row of the same task and sink.
    while Instant::now() < until {
        match round(ctx, until) {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) => {
                ctx.report.fault(None, format!("delivering messages: {e:#}"), None);
                return;
            }
        }
    }
}

/// Makes rows whose taker was killed due again at once, marked as possibly delivered.
fn free_orphans(ctx: &mut Ctx) -> Result<()> {
    let taken = ctx.store.read(|tx| tx.taken_messages())?;
    let dead: Vec<_> = taken.into_iter().filter(|(_, owner)| process::life(owner) == Life::Dead).collect();
    if dead.is_empty() {
        return Ok(());
    }
    let now = ctx.now().stamp.wall_ms;
    Ok(ctx.store.write(|tx| dead.iter().try_for_each(|(id, owner)| tx.free_message(*id, owner, now)))?)
}

fn round(ctx: &mut Ctx, until: Instant) -> Result<usize> {
    let now = ctx.now().stamp.wall_ms;
    let rows = ctx.store.read(|tx| tx.deliverable(now, 64))?;
    let broken = ctx.store.unreadable().iter().any(|u| u.table == "outbox");
    // The rows behind it can be delivered in the next round.
    let mut sent = if broken { ctx.store.write(|tx| tx.park_undecodable())? } else { 0 };
    for row in rows {
        if ctx.interrupted() {
            break;
        }
        if Instant::now() >= until {
            break;
        }
        let me = ctx.me.clone();
        let now = ctx.now().stamp.wall_ms;
        if !ctx.store.write(|tx| tx.take_message(row.id, &me, now, now + TAKEN_MS))? {
            continue;
        }
        let outcome = one(ctx, &row, until);
        let now = ctx.now().stamp.wall_ms;
        let state = RowState {
            id: row.id,
            task: row.task_id,
            sink: row.sink.to_string(),
            carries: carries(row.sink),
            attempts: row.attempts + 1,
            unknown_outcome: row.unknown_outcome,
            available_at: row.available_at,
        };
        ctx.store.write(|tx| match after(&state, &outcome, now) {
            After::Sent => tx.message_sent(row.id, now),
            After::Retry { at, unknown, why } => tx.message_failed(row.id, at, unknown, &why),
            After::GivenUp { why } => {
                tracing::warn!(key = row.key, "given up: {why}");
                tx.message_sent(row.id, now)
            }
            After::Park { why } => tx.park_message(row.id, &why),
        })?;
        sent += usize::from(outcome == Delivered::Yes);
    }
    Ok(sent)
}

fn carries(sink: Sink) -> Carries {
    match sink {
        Sink::Card => Carries::Card,
        Sink::Alert | Sink::Chat => Carries::Alert,
        Sink::BoardStatus | Sink::BoardComment | Sink::ForgeComment | Sink::ForgeStatus => Carries::Write,
    }
}

fn one(ctx: &mut Ctx, row: &OutboxRow, until: Instant) -> Delivered {
    let task = match row.task_id.map(|id| ctx.task(id)).transpose() {
        Ok(task) => task,
        Err(e) => return Delivered::NotNow { why: format!("{e:#}") },
    };
    let project = task.as_ref().and_then(|t| ctx.project(&t.project).ok().cloned());
    let done = match (row.sink, task) {
        (Sink::BoardStatus, Some(task)) => board_status(ctx, &task),
        (Sink::BoardComment, Some(task)) => board_comment(ctx, &task, row),
        (Sink::ForgeComment, Some(task)) => forge_comment(ctx, &task, row),
        (Sink::ForgeStatus, Some(task)) => forge_status(ctx, &task, row),
        (Sink::Card, Some(task)) => notices::card(ctx, &task, row, until),
        (Sink::Alert, task) => notices::alert(ctx, row, task.as_ref(), until),
        (Sink::Chat, task) => super::chat_acts::deliver(ctx, row, task.as_ref(), until),
        (Sink::BoardStatus | Sink::BoardComment | Sink::ForgeComment | Sink::ForgeStatus | Sink::Card, None) => {
            Ok(Delivered::Refused { why: "it names no task".to_owned() })
        }
    };
    if let (Err(e), Some(project), Sink::BoardStatus | Sink::BoardComment) = (&done, project, row.sink) {
        services::keep(ctx, &project, e);
    }
    done.unwrap_or_else(|e| match services::fault(&e) {
        Some((fault, why)) => of_fault(fault, why),
        None => Delivered::NotNow { why: format!("{e:#}") },
    })
}

/// Computed when sent, after a read, and never overwrites an unused intent (RULE-13).
fn board_status(ctx: &mut Ctx, task: &Task) -> Result<Delivered> {
    let Some(logical) = indication(task.stage, progress(task)) else { return Ok(Delivered::Yes) };
    if has_later_task(ctx, task)? {
        return Ok(Delivered::Yes);
    }
    let project = ctx.project(&task.project)?.clone();
    let seat = boards::seat(ctx, &project)?;
    let Some(wanted) = seat.resolved.status_for(logical).cloned() else { return Ok(Delivered::Yes) };
    let statuses = seat.resolved.statuses().to_vec();
    let Some(item) = seat.board.get(&statuses, &task.key)? else {
        if !task.stage.is_terminal() {
            boards::set_gone(ctx, task, true)?;
        }
        return Ok(Delivered::Yes);
    };
    // The current status may be an intent that nobody has seen yet: record it first, so that it has a row.
    let before = task.wait().map(|wait| (task.item_id.clone(), wait)).into_iter().collect();
    let unclear = boards::observe(ctx, &project, &seat.resolved, std::slice::from_ref(&item), None, &before)?.again;
    if !unclear.is_empty() || unused_intent(ctx, task, &seat.resolved, &item.status_id)? {
        return Ok(Delivered::NotNow { why: "a person has set an intent on the item, which is read first".to_owned() });
    }
    let now_ms = ctx.now().stamp.wall_ms;
    let change = Move { to: &wanted, expect: Some(&item.status_id), now_ms };
    match seat.board.set_status(&statuses, &item, &change)? {
        Moved::Set(item) | Moved::Already(item) => {
            status_set(ctx, task, &seat.resolved, &item)?;
            ctx.report.did(ActionKind::BoardStatusSet, Some(task.key.as_str()), json!({"status": wanted.name}));
            Ok(Delivered::Yes)
        }
        Moved::Held(_) => Ok(Delivered::NotNow { why: "the item changed meanwhile".to_owned() }),
        Moved::Withdrawn => Ok(Delivered::Yes),
    }
}

/// Records what the item shows now that the board has accepted our status. `task`: as it was before the call to the
/// board.
fn status_set(ctx: &mut Ctx, task: &Task, resolved: &Resolved, item: &WorkItem) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    ctx.store.write(|tx| {
        if let Some(mut row) = tx.item(&task.project, &item.id)? {
            row.status_id.clone_from(&item.status_id);
            row.updated_ms = row.updated_ms.max(item.updated_ms);
            row.written_ms = item.updated_ms;
            row.group = item.group.map(|g| g.as_str().to_owned());
            // "Seen or set" (BRD-3): To Analyse after the current Cancelled is a new decision of a person.
            row.seen_other_since_end = true;
            tx.put_item(&row)?;
        }
        let mut now = tx.task(task.id)?;
        boards::asked(tx, &mut now, resolved, task.wait(), &item.status_id, at)?;
        crate::engine::record::event(tx, at, Some(task.id), Event::BoardStatusSet, &json!({"status": item.status_name}))
            .map(drop)
    })?;
    Ok(())
}

/// The status that would be set now, as far as that is known without reading the item; none while an intent is pending.
pub fn next_status(ctx: &mut Ctx, task: &Task) -> Result<Option<String>> {
    let Some(logical) = indication(task.stage, progress(task)) else { return Ok(None) };
    if has_later_task(ctx, task)? {
        return Ok(None);
    }
    let project = ctx.project(&task.project)?.clone();
    let resolved = boards::seat(ctx, &project)?.resolved;
    let item = ctx.store.read(|tx| tx.item(&task.project, &task.item_id))?;
    let held = match item {
        Some(item) => unused_intent(ctx, task, &resolved, &item.status_id)?,
        None => false,
    };
    Ok(resolved.status_for(logical).filter(|_| !held).map(|s| s.name.clone()))
}

/// Whether the status on the item is a person's intent that no step has used or dismissed yet.
fn unused_intent(ctx: &mut Ctx, task: &Task, resolved: &Resolved, status: &str) -> Result<bool> {
    let Some(intent) = resolved.intent_of(status) else { return Ok(false) };
    Ok(ctx.store.read(|tx| tx.has_pending_intent(&task.project, &task.item_id, intent))?)
}

/// If the work item has a later task, that task sets the status.
fn has_later_task(ctx: &mut Ctx, task: &Task) -> Result<bool> {
    let newest = ctx.store.read(|tx| tx.task_by_item(&task.project, &task.item_id))?;
    Ok(newest.is_some_and(|t| t.id != task.id))
}

fn board_comment(ctx: &mut Ctx, task: &Task, row: &OutboxRow) -> Result<Delivered> {
    let project = ctx.project(&task.project)?.clone();
    let seat = boards::seat(ctx, &project)?;
    let Some(item) = seat.board.get(seat.resolved.statuses(), &task.key)? else { return Ok(Delivered::Yes) };
    let now = ctx.now().stamp.wall_ms;
    let text = match row.payload["wait"].as_i64() {
        Some(no) if task.waiting_for.is_none() || task.wait_no != no => return Ok(Delivered::Yes),
        Some(_) => super::show::comment(ctx, task)?,
        None => text(row, "text").to_owned(),
    };
    let new = seat.board.comment(&item, crate::engine::outbox::text(row, "marker"), &text, now)?;
    if !project.board.is_remote()
        && let Some(after) = seat.board.get(seat.resolved.statuses(), &task.key)?
    {
        ctx.store.write(|tx| {
            if let Some(mut row) = tx.item(&task.project, &after.id)? {
                row.written_ms = row.written_ms.max(after.updated_ms);
                row.updated_ms = row.updated_ms.max(after.updated_ms);
                tx.put_item(&row)?;
            }
            Ok::<_, StoreError>(())
        })?;
    }
    if new {
        ctx.report.did(ActionKind::CommentPosted, Some(task.key.as_str()), json!({"on": "board"}));
    }
    Ok(Delivered::Yes)
}

fn forge_comment(ctx: &mut Ctx, task: &Task, row: &OutboxRow) -> Result<Delivered> {
    let project = ctx.project(&task.project)?.clone();
    let Some(pr) = &task.pr else { return Ok(Delivered::Yes) };
    // The forge's marker alone identifies the task.
    let marker = text(row, "marker");
    let marker = marker.strip_prefix("orch:").unwrap_or(marker);
    services::forge(ctx, &project, |forge| forge.comment_once(pr.number, marker, text(row, "text")))?;
    ctx.report.did(ActionKind::CommentPosted, Some(task.key.as_str()), json!({"on": "forge", "pr": pr.number}));
    Ok(Delivered::Yes)
}

fn forge_status(ctx: &mut Ctx, task: &Task, row: &OutboxRow) -> Result<Delivered> {
    let project = ctx.project(&task.project)?.clone();
    if !project.forge.posts_statuses() {
        return Ok(Delivered::Yes);
    }
    let state = match EvidenceVerdict::parse(text(row, "verdict")) {
        Some(EvidenceVerdict::Pass) => StatusState::Success,
        Some(EvidenceVerdict::Fail) => StatusState::Failure,
        Some(EvidenceVerdict::Missing) => StatusState::Pending,
        Some(EvidenceVerdict::ToolError) | None => StatusState::Error,
    };
    let sha = Sha::parse(text(row, "sha")).map_err(|e| anyhow::anyhow!(e))?;
    let context = format!("orch/{}", text(row, "gate"));
    services::forge(ctx, &project, |forge| forge.post_status(&sha, &context, state, text(row, "why")))?;
    Ok(Delivered::Yes)
}

fn text<'r>(row: &'r OutboxRow, name: &str) -> &'r str {
    row.payload.get(name).and_then(serde_json::Value::as_str).unwrap_or("")
}
