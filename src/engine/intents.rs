//! Turns pending intents into transitions, each once, each with a reason (BRD-3, RULE-12).

use super::{Ctx, advance, apply, boards, messages, stop};
use crate::adapters::store::{IntentRow, IntentState, NewTask, StoreError};
use crate::model::act::By;
use crate::model::board::{Intent, WorkItem};
use crate::model::ids::TaskId;
use crate::model::report::ActionKind;
use crate::model::stage::Stage;
use crate::model::task::{Task, Waiting};
use anyhow::{Context, Result};
use serde_json::json;

/// Applies every pending intent: STOP first, new tasks oldest work item first. A fault at one leaves it pending.
pub fn apply_all(ctx: &mut Ctx, only: Option<&str>) -> Result<()> {
    for row in ctx.store.read(|tx| tx.pending_intents())? {
        if ctx.interrupted() {
            break;
        }
        if only.is_some_and(|p| p != row.project) {
            continue;
        }
        if let Err(e) = one(ctx, &row) {
            ctx.report.fault(None, format!("intent {} of {}: {e:#}", row.kind, row.item_id), None);
        }
    }
    Ok(())
}

fn one(ctx: &mut Ctx, row: &IntentRow) -> Result<()> {
    let Some(intent) = Intent::parse(&row.kind) else { return dismiss(ctx, row, None, "unknown intent") };
    let task = ctx.store.read(|tx| tx.task_by_item(&row.project, &row.item_id))?;
    match intent {
        Intent::Stop => stop_it(ctx, row, task),
        Intent::ToAnalyse => to_analyse(ctx, row, task),
        Intent::Approved => release(ctx, row, task, Stage::Analysis, Waiting::Approval),
        Intent::ConfirmDeploy => release(ctx, row, task, Stage::Deploy, Waiting::ConfirmDeploy),
    }
}

fn dismiss(ctx: &mut Ctx, row: &IntentRow, task: Option<&Task>, why: &str) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    ctx.store.write(|tx| {
        if tx.settle_intent(row.id, IntentState::Dismissed, why, at)? {
            tx.audit(
                at,
                task.map(|t| t.id),
                "intent_dismissed",
                &json!({"intent": row.kind, "item": row.item_id, "why": why}),
            )?;
            if let Some(t) = task {
                // The person's status stands on the board: the indication comes back.
                tx.post(
                    &crate::adapters::store::NewOutbox {
                        key: format!("board/t{}/dismissed{}", t.id, row.id),
                        task_id: Some(t.id),
                        sink: crate::adapters::store::Sink::BoardStatus,
                        payload: json!({}),
                    },
                    at,
                )?;
            }
        }
        Ok::<_, StoreError>(())
    })?;
    Ok(())
}

fn stop_it(ctx: &mut Ctx, row: &IntentRow, task: Option<Task>) -> Result<()> {
    if !ctx.config.stop.status_enabled {
        return dismiss(ctx, row, task.as_ref(), "stop.status_enabled is off");
    }
    let Some(task) = task else { return dismiss(ctx, row, None, "the work item has no task") };
    if task.stage.is_terminal() {
        let why = format!("its task is {} already", task.stage);
        return dismiss(ctx, row, Some(&task), &why);
    }
    stop::request(ctx, task.id, Some("STOP on the board"), &row.by())?;
    let at = ctx.now().stamp.wall_ms;
    ctx.store.write(|tx| tx.settle_intent(row.id, IntentState::Consumed, "stop requested", at).map(drop))?;
    advance::noted(ctx, task.id);
    Ok(())
}

fn to_analyse(ctx: &mut Ctx, row: &IntentRow, task: Option<Task>) -> Result<()> {
    let Some(task) = task else { return create(ctx, row, None) };
    match task.stage {
        Stage::Done => dismiss(ctx, row, Some(&task), "its last task is done; a work item is not started again"),
        Stage::Cancelled => {
            let item = ctx.store.read(|tx| tx.item(&row.project, &row.item_id))?;
            if item.is_some_and(|i| i.seen_other_since_end) {
                create(ctx, row, Some(&task))
            } else {
                dismiss(ctx, row, Some(&task), "no other status was seen since its last task ended")
            }
        }
        Stage::Analysis => resume(ctx, row, &task),
        Stage::Created
        | Stage::Architecture
        | Stage::Development
        | Stage::Review
        | Stage::Testing
        | Stage::DeployStaging
        | Stage::Deploy => {
            let why = format!("its task is in {} already", task.stage);
            dismiss(ctx, row, Some(&task), &why)
        }
    }
}

/// A work item, its blockers by key, and those that nobody knows.
type Found = (WorkItem, Vec<crate::model::ids::Key>, Vec<String>);

/// The item with its text and blockers, as a new or resumed analysis needs it.
fn read_item(ctx: &mut Ctx, row: &IntentRow) -> Result<Option<Found>> {
    let project = ctx.project(&row.project)?.clone();
    let seat = boards::seat(ctx, &project)?;
    let Some(key) = ctx.store.read(|tx| tx.item(&row.project, &row.item_id))?.map(|i| i.key) else { return Ok(None) };
    let key = crate::model::ids::Key::parse(&key)?;
    let Some(item) = seat.board.get(seat.resolved.statuses(), &key).with_context(|| format!("reading {key}"))? else {
        return Ok(None);
    };
    // Plane's are read right before the first claim (RULE-27).
    let refs = item.blocked_by.clone().unwrap_or_default();
    let (keys, unknown) = ctx.store.read(|tx| boards::blockers(tx, &row.project, &refs))?;
    Ok(Some((item, keys, unknown)))
}

/// What a new task begins with.
struct Begin {
    key: crate::model::ids::Key,
    title: String,
    body: String,
    priority: i64,
    blocked_by: Vec<crate::model::ids::Key>,
    unknown: Vec<String>,
}

/// The local board is read; of Plane the list has told enough, text and blockers are read when the work begins.
fn begin(ctx: &mut Ctx, row: &IntentRow) -> Result<Option<Begin>> {
    let project = ctx.project(&row.project)?.clone();
    if let crate::config::Board::Plane { .. } = &project.board {
        let Some(item) = ctx.store.read(|tx| tx.item(&row.project, &row.item_id))? else { return Ok(None) };
        return Ok(Some(Begin {
            key: crate::model::ids::Key::parse(&item.key)?,
            title: item.title,
            body: String::new(),
            priority: item.priority,
            blocked_by: Vec::new(),
            unknown: Vec::new(),
        }));
    }
    Ok(read_item(ctx, row)?.map(|(item, blocked_by, unknown)| Begin {
        priority: boards::priority(&item),
        key: item.key,
        title: item.title,
        body: item.body.unwrap_or_default(),
        blocked_by,
        unknown,
    }))
}

fn create(ctx: &mut Ctx, row: &IntentRow, last: Option<&Task>) -> Result<()> {
    let Some(begin) = begin(ctx, row)? else {
        return dismiss(ctx, row, last, "the work item is gone from the board");
    };
    let project = ctx.project(&row.project)?.clone();
    let now = ctx.now();
    let at = now.stamp.wall_ms;
    let policy = ctx.policy.clone();
    let made = ctx.store.write(|tx| {
        let new = NewTask {
            key: &begin.key,
            project: &project.key,
            repo: &project.repo,
            item_id: &row.item_id,
            title: &begin.title,
            body: &begin.body,
            priority: begin.priority,
            blocked_by: &begin.blocked_by,
        };
        if !tx.settle_intent(row.id, IntentState::Consumed, "started a task", at)? {
            return Ok(None);
        }
        let Some(mut task) = tx.insert_task(&new, at)? else { return Ok(None) };
        if let Some(why) = boards::unknown_blockers(&begin.unknown) {
            task.withdrawn = Some(why);
            tx.save_task(&mut task, at)?;
        }
        tx.audit(
            at,
            Some(task.id),
            "task_created",
            &json!({"key": task.key, "title": task.title, "round": task.round, "by": row.by()}),
        )?;
        let driven = apply::drive(tx, task.id, &policy, &now, None)?;
        messages::card(tx, &task, at)?;
        Ok::<_, StoreError>(Some((task, driven)))
    })?;
    if let Some((task, driven)) = made {
        ctx.report.did(
            ActionKind::TaskCreated,
            Some(task.key.as_str()),
            json!({"title": task.title, "project": task.project}),
        );
        ctx.report.actions.extend(driven.actions);
    }
    Ok(())
}

/// To Analyse on a task in analysis that nothing works on: the analyst works again on what the item now says.
fn resume(ctx: &mut Ctx, row: &IntentRow, task: &Task) -> Result<()> {
    let idle = ctx.store.read(|tx| tx.live_job(task.id))?.is_none();
    if !idle {
        return dismiss(ctx, row, Some(task), "its analysis is under way");
    }
    if task.blocked_reason.is_some() {
        let why = format!("it is blocked; `orch retry {}` lifts the block", task.key);
        return dismiss(ctx, row, Some(task), &why);
    }
    let item = read_item(ctx, row)?.map(|(i, _, _)| i);
    let at = ctx.now().stamp.wall_ms;
    let id = task.id;
    ctx.store.write(|tx| {
        if !tx.settle_intent(row.id, IntentState::Consumed, "resumed the analysis", at)? {
            return Ok(());
        }
        let mut t = tx.task(id)?;
        if let Some(item) = &item {
            t.title.clone_from(&item.title);
            t.body = item.body.clone().unwrap_or_default();
        }
        apply::enter(&mut t, Stage::Analysis);
        tx.save_task(&mut t, at)?;
        tx.audit(at, Some(id), "resumed", &json!({"stage": t.stage, "by": row.by()})).map(drop)
    })?;
    advance::noted(ctx, id);
    Ok(())
}

/// Approved and Confirm Deploy act only on the stage that asked, only if the asking was delivered before (RULE-12), and
/// only without a live job (RULE-15).
fn release(ctx: &mut Ctx, row: &IntentRow, task: Option<Task>, stage: Stage, waiting: Waiting) -> Result<()> {
    let Some(task) = task else { return dismiss(ctx, row, None, "the work item has no task") };
    if task.stage != stage || task.waiting_for != Some(waiting) {
        let why = format!("its task is in {} and does not wait for {waiting}", task.stage);
        return dismiss(ctx, row, Some(&task), &why);
    }
    let asked = messages::indication_key(&task, Some(waiting));
    let (was_asked, live) = ctx.store.read(|tx| Ok::<_, StoreError>((tx.was_sent(&asked)?, tx.live_job(task.id)?)))?;
    if !was_asked {
        return dismiss(ctx, row, Some(&task), "it was set before the board asked for it");
    }
    if live.is_some() {
        return dismiss(ctx, row, Some(&task), "a job of the task is under way");
    }
    let at = ctx.now().stamp.wall_ms;
    let id = task.id;
    let done = ctx.store.write(|tx| {
        if !tx.settle_intent(row.id, IntentState::Consumed, "released", at)? {
            return Err(StoreError::Lost);
        }
        let mut t = tx.task(id)?;
        if t.stage != stage || t.waiting_for != Some(waiting) || t.stop_requested_at.is_some() {
            return Err(StoreError::Lost);
        }
        apply::release(tx, &mut t, waiting, &row.by(), at)
    });
    match done {
        Ok(()) => {
            ctx.report.did(ActionKind::ReleaseGiven, Some(task.key.as_str()), json!({"for": waiting, "by": row.by()}));
            advance::noted(ctx, id);
            Ok(())
        }
        Err(StoreError::Lost) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// A person's release on the command line; `false`: the task does not wait for it (exit 4).
pub fn release_by_command(ctx: &mut Ctx, id: TaskId, waiting: Waiting, by: &By) -> Result<bool> {
    let at = ctx.now().stamp.wall_ms;
    let done = ctx.store.write(|tx| {
        let mut t = tx.task(id)?;
        if t.waiting_for != Some(waiting) || t.stop_requested_at.is_some() || tx.live_job(id)?.is_some() {
            return Ok(false);
        }
        apply::release(tx, &mut t, waiting, by, at)?;
        Ok::<_, StoreError>(true)
    })?;
    if done {
        let key = ctx.task(id)?.key.to_string();
        ctx.report.did(ActionKind::ReleaseGiven, Some(&key), json!({"for": waiting, "by": by}));
    }
    Ok(done)
}
