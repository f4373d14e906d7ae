//! Turns pending intents into transitions, each once, each with a reason (BRD-3, RULE-12).

use super::deciders::{self, Decides};
use super::record;
use super::{Ctx, advance, apply, boards, messages, stop};
use crate::adapters::store::{IntentRow, IntentState, NewOutbox, NewTask, Result as StoreResult, Sink, StoreError, Tx};
use crate::decide::board::{self as decide, ItemState, Use};
use crate::decide::command::{self, Refused};
use crate::model::act::By;
use crate::model::board::WorkItem;
use crate::model::change::{Change, ItemText, Move};
use crate::model::event::Event;
use crate::model::ids::TaskId;
use crate::model::report::ActionKind;
use crate::model::task::{Task, Waiting};
use anyhow::{Context, Result};
use serde_json::json;

/// Applies every pending intent: STOP first, new tasks oldest work item first. A fault leaves the intent pending.
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

/// What an intent does now (RULE-12), with the work item's newest task.
fn meaning(tx: &Tx<'_>, row: &IntentRow, stop_on: bool) -> StoreResult<(Use, Option<Task>)> {
    let task = tx.task_by_item(&row.project, &row.item_id)?;
    let busy = match &task {
        Some(task) => tx.live_job(task.id)?.is_some(),
        None => false,
    };
    let item = tx.item(&row.project, &row.item_id)?;
    let at = ItemState {
        task: task.as_ref(),
        busy,
        seen_other_since_end: item.is_none_or(|i| i.seen_other_since_end),
        stop_on,
        answers: row.answers,
    };
    Ok((decide::means(row.kind, &at), task))
}

/// The intent with the user who set it, if that user may decide. Otherwise it is dismissed, or stays until the board
/// says who it was.
fn counted(ctx: &mut Ctx, row: &IntentRow) -> Result<Option<IntentRow>> {
    match deciders::of_intent(ctx, row)? {
        Decides::Yes { user } => Ok(Some(IntentRow { user, ..row.clone() })),
        Decides::NotYet => Ok(None),
        Decides::No { why } => {
            deciders::take_back(ctx, row, &why);
            let at = ctx.now().stamp.wall_ms;
            ctx.store.write(|tx| {
                let task = tx.task_by_item(&row.project, &row.item_id)?;
                dismiss(tx, row, task.as_ref(), &why, at)
            })?;
            Ok(None)
        }
    }
}

/// Applies one intent. If the database alone decides, the same transaction applies it. If the board or a stop is
/// needed, it decides again before it changes anything.
fn one(ctx: &mut Ctx, row: &IntentRow) -> Result<()> {
    let Some(row) = &counted(ctx, row)? else { return Ok(()) };
    let at = ctx.now().stamp.wall_ms;
    let stop_on = ctx.config.stop.status_enabled;
    let (done, task) = ctx.store.write(|tx| {
        let (does, task) = meaning(tx, row, stop_on)?;
        match &does {
            Use::Nothing(why) => dismiss(tx, row, task.as_ref(), &why.to_string(), at)?,
            Use::Release(waiting) => {
                if let Some(task) = &task
                    && tx.settle_intent(row.id, IntentState::Consumed, "released", at)?
                {
                    apply::release(tx, &mut task.clone(), *waiting, &row.by(), at)?;
                }
            }
            Use::Start | Use::Resume | Use::Stop => {}
        }
        Ok::<_, StoreError>((does, task))
    })?;
    match (done, task) {
        (Use::Nothing(_), _) => Ok(()),
        (Use::Start, last) => create(ctx, row, last.as_ref()),
        (Use::Resume, Some(task)) => resume(ctx, row, &task),
        (Use::Stop, Some(task)) => {
            stop::request(ctx, task.id, Some("STOP on the board"), &row.by())?;
            let at = ctx.now().stamp.wall_ms;
            ctx.store.write(|tx| tx.settle_intent(row.id, IntentState::Consumed, "stop requested", at).map(drop))?;
            advance::noted(ctx, task.id);
            Ok(())
        }
        (Use::Release(waiting), Some(task)) => {
            let key = task.key.as_str();
            ctx.report.did(ActionKind::ReleaseGiven, Some(key), json!({"for": waiting, "by": row.by()}));
            advance::noted(ctx, task.id);
            Ok(())
        }
        (Use::Resume | Use::Stop | Use::Release(_), None) => Ok(()),
    }
}

/// Settles an intent without effect and shows the question or the stage on the board again.
fn dismiss(tx: &Tx<'_>, row: &IntentRow, task: Option<&Task>, why: &str, at: i64) -> StoreResult<()> {
    if !tx.settle_intent(row.id, IntentState::Dismissed, why, at)? {
        return Ok(());
    }
    let detail = json!({"intent": row.kind, "item": row.item_id, "why": why});
    record::event(tx, at, task.map(|t| t.id), Event::IntentDismissed, &detail)?;
    let Some(task) = task else { return Ok(()) };
    let again = NewOutbox {
        key: format!("board/t{}/dismissed{}", task.id, row.id),
        task_id: Some(task.id),
        sink: Sink::BoardStatus,
        payload: json!({}),
    };
    record::post(tx, &again, at).map(drop)
}

/// A work item, its blockers by key, and its unknown blockers.
type Found = (WorkItem, Vec<crate::model::ids::Key>, Vec<String>);

/// The item with its text and blockers, for a new or resumed analysis.
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

/// The initial contents of a new task.
struct Begin {
    key: crate::model::ids::Key,
    title: String,
    body: String,
    priority: i64,
    blocked_by: Vec<crate::model::ids::Key>,
    unknown: Vec<String>,
}

/// The local board is read here. For Plane the list is enough; text and blockers are read when the work begins.
fn begin(ctx: &mut Ctx, row: &IntentRow) -> Result<Option<Begin>> {
    let project = ctx.project(&row.project)?.clone();
    // On a board that checks rights, the text is the one the decider saw now (GH-2).
    if project.board.is_remote() && !project.board.asks_rights() {
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
    let begin = begin(ctx, row)?;
    let project = ctx.project(&row.project)?.clone();
    let now = ctx.now();
    let at = now.stamp.wall_ms;
    let stop_on = ctx.config.stop.status_enabled;
    let Some(begin) = begin else {
        let gone = "the work item is gone from the board";
        return Ok(ctx.store.write(|tx| dismiss(tx, row, last, gone, at))?);
    };
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
        if meaning(tx, row, stop_on)?.0 != Use::Start
            || !tx.settle_intent(row.id, IntentState::Consumed, "started a task", at)?
        {
            return Ok(None);
        }
        let Some(mut task) = tx.insert_task(&new, at)? else { return Ok(None) };
        if let Some(why) = decide::unknown_blockers(begin.unknown.clone()) {
            record::change(tx, &mut task, Change::Withdrawal(Some(why)), at)?;
        }
        record::event(
            tx,
            at,
            Some(task.id),
            Event::TaskCreated,
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

/// To Analyse on an idle task in analysis: the analyst works again on the item's current text.
fn resume(ctx: &mut Ctx, row: &IntentRow, task: &Task) -> Result<()> {
    let item = read_item(ctx, row)?.map(|(i, _, _)| i);
    let at = ctx.now().stamp.wall_ms;
    let stop_on = ctx.config.stop.status_enabled;
    let id = task.id;
    ctx.store.write(|tx| {
        if meaning(tx, row, stop_on)?.0 != Use::Resume
            || !tx.settle_intent(row.id, IntentState::Consumed, "resumed the analysis", at)?
        {
            return Ok(());
        }
        let mut t = tx.task(id)?;
        let text = item.as_ref().map(|item| ItemText {
            title: item.title.clone(),
            body: item.body.clone().unwrap_or_default(),
            priority: t.priority,
            blocked_by: t.blocked_by.clone(),
        });
        let changes = text.map(Change::Follow).into_iter().chain([Change::Move(Move::Repeat)]);
        record::changes(tx, &mut t, changes, at)?;
        record::event(tx, at, Some(id), Event::Resumed, &json!({"stage": t.stage, "by": row.by()})).map(drop)
    })?;
    advance::noted(ctx, id);
    Ok(())
}

/// A person's release on the command line; otherwise why it is refused (exit 4).
pub fn release_by_command(ctx: &mut Ctx, id: TaskId, waiting: Waiting, by: &By) -> Result<Option<Refused>> {
    let at = ctx.now().stamp.wall_ms;
    let done = ctx.store.write(|tx| {
        let mut t = tx.task(id)?;
        if let Err(refused) = command::release(&t, waiting, tx.live_job(id)?.is_some()) {
            return Ok(Some(refused));
        }
        apply::release(tx, &mut t, waiting, by, at)?;
        Ok::<_, StoreError>(None)
    })?;
    if done.is_none() {
        let key = ctx.task(id)?.key.to_string();
        ctx.report.did(ActionKind::ReleaseGiven, Some(&key), json!({"for": waiting, "by": by}));
    }
    Ok(done)
}
