//! Asks a board for the item's text and blockers right before a task's first job is claimed (RULE-27). The local board
//! delivers both with the item; Plane's lists contain neither.

use super::record;
use super::services;
use super::{Ctx, boards, view};
use crate::adapters::store::{Result as Stored, StoreError, Tx};
use crate::decide::board::{self as rule, Said};
use crate::decide::dispatch;
use crate::model::ids::TaskId;
use crate::model::report::Rule;
use crate::model::stage::Stage;
use crate::model::view::{BoardAnswers, Place, QueueView};
use anyhow::Result;

/// More tasks than one tick starts.
const MOST: usize = 20;

/// Asks about every task whose first job would be claimed now, until the answers change nothing any more. Returns every
/// answer.
pub fn ready(ctx: &mut Ctx, only: Option<&str>, most: usize, day: i64, free: Option<u64>) -> Result<BoardAnswers> {
    let mut board = BoardAnswers::default();
    if !ctx.policy.projects.values().any(|p| p.remote_board) {
        return Ok(board);
    }
    for _ in 0..MOST {
        let now = ctx.now();
        let policy = ctx.policy.clone();
        let (tasks, stale) = ctx.store.read(|tx| {
            let queue = QueueView { board: board.clone(), ..view::queue(tx, &now, &policy, day, free)? };
            let plan = dispatch::plan(&queue, &policy, only, most);
            let remote = |p: &Place| policy.project(&p.project).is_some_and(|p| p.remote_board);
            let unasked = |p: &&Place| remote(p) && !board.of.contains_key(&p.id);
            let starts = plan.claims.iter().filter(|c| c.starts.is_some());
            let tasks: Vec<TaskId> =
                starts.filter_map(|c| queue.places.get(&c.task).filter(unasked)).map(|p| p.id).collect();
            let blocked = plan.held.iter().filter(|h| h.rule == Rule::Dependencies);
            let stale: Vec<TaskId> = blocked
                .filter_map(|h| queue.places.values().find(|p| Some(p.key.as_str()) == h.task.as_deref()))
                .filter(|p| unasked(p) && p.stage == Stage::Created)
                .map(|p| p.id)
                .collect();
            Ok::<_, StoreError>((tasks, stale))
        })?;
        let mut asked = false;
        // A relation that a person deletes frees its task, though not at once.
        for (id, at_once) in tasks.into_iter().map(|id| (id, true)).chain(stale.into_iter().map(|id| (id, false))) {
            if at_once || due(ctx, id)? {
                let answer = asked_about(ctx, id);
                board.of.insert(id, answer.map_err(|e| format!("{e:#}")));
                asked = true;
            }
        }
        if !asked {
            break;
        }
    }
    board.required = true;
    Ok(board)
}

/// For readers (`explain`, `status`): the failures that the last step got instead of answers.
pub fn last(tx: &Tx<'_>) -> Stored<BoardAnswers> {
    let mut board = BoardAnswers::default();
    for (key, why) in tx.metas(PREFIX)? {
        let id = key.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix("/untold"));
        if let Some(id) = id.and_then(|id| id.parse().ok()).filter(|_| !why.is_empty()) {
            board.of.insert(TaskId(id), Err(why));
        }
    }
    Ok(board)
}

const PREFIX: &str = "blockers/t";

fn unread_blockers_key(id: TaskId) -> String {
    format!("{PREFIX}{id}/untold")
}

fn asked_key(id: TaskId) -> String {
    format!("{PREFIX}{id}")
}

fn due(ctx: &mut Ctx, id: TaskId) -> Result<bool> {
    let now = ctx.now().stamp.wall_ms;
    let ttl = i64::try_from(ctx.config.plane.states_ttl_s).unwrap_or(i64::MAX).saturating_mul(1000);
    let last = ctx.store.read(|tx| tx.meta(&asked_key(id)))?.and_then(|t| t.parse::<i64>().ok());
    Ok(last.is_none_or(|at| !(0..ttl).contains(&(now - at))))
}

/// Asks, and records for others if no answer arrived.
fn asked_about(ctx: &mut Ctx, id: TaskId) -> Result<()> {
    let answer = ask(ctx, id);
    let why = answer.as_ref().err().map_or_else(String::new, |e| format!("{e:#}"));
    let key = unread_blockers_key(id);
    let before = ctx.store.read(|tx| tx.meta(&key))?.unwrap_or_default();
    if !ctx.dry && before != why {
        ctx.store.write(|tx| tx.set_meta(&key, &why))?;
    }
    answer
}

/// Reads the item and its relations into the task.
fn ask(ctx: &mut Ctx, id: TaskId) -> Result<()> {
    let task = ctx.task(id)?;
    let project = ctx.project(&task.project)?.clone();
    let read = (|| {
        let seat = boards::seat(ctx, &project)?;
        if !project.board.is_remote() {
            return Ok(None);
        }
        let Some(item) = seat.board.get(seat.resolved.statuses(), &task.key)? else { return Ok(Some(None)) };
        let refs = if ctx.config.dependencies.enabled { seat.board.blocked_by(&item)? } else { Vec::new() };
        Ok::<_, anyhow::Error>(Some(Some((item, refs))))
    })();
    let found = match read {
        Ok(found) => found,
        Err(e) => {
            services::keep(ctx, &project, &e);
            return Err(e);
        }
    };
    let at = ctx.now().stamp.wall_ms;
    match found {
        None => Ok(()),
        Some(None) => boards::set_gone(ctx, &task, true),
        Some(Some((item, refs))) => Ok(ctx.store.write(|tx| {
            let mut t = tx.task(id)?;
            let blockers = Some(boards::blockers(tx, &t.project, &refs)?);
            let body = Some(item.body.as_deref().unwrap_or_default());
            let said = Said { title: &item.title, body, priority: boards::priority(&item), blockers };
            // On a board that checks rights, the text stays as the decider saw it (GH-2).
            let changes = rule::follow(&t, said, project.board.asks_rights());
            record::changes(tx, &mut t, changes, at)?;
            tx.set_priority(id, t.priority)?;
            tx.set_meta(&asked_key(id), &at.to_string())
        })?),
    }
}
