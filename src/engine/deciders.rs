//! Whose word counts on a board (BRD-3): where `board.deciders` lists users, a status or label of anybody else is text.

use super::{Ctx, boards};
use crate::adapters::board::Board;
use crate::adapters::store::IntentRow;
use crate::config::Project;
use crate::model::board::{Deed, Label, WorkItem, fold};
use crate::model::ids::Key;
use anyhow::Result;

/// A board that does not say within this time who set a status leaves the intent without effect.
const UNKNOWN_MS: i64 = 10 * 60 * 1000;

/// Whether an intent counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decides {
    Yes {
        /// Who set it, where the board says so.
        user: Option<String>,
    },
    No {
        why: String,
    },
    /// The board does not say yet who set it.
    NotYet,
}

/// Whether who set an intent's status may decide. Fails where the board does not answer: the intent stays pending.
pub fn of_intent(ctx: &mut Ctx, row: &IntentRow) -> Result<Decides> {
    // A project that is no longer configured decides nothing; who asks next says so.
    let Ok(project) = ctx.project(&row.project).cloned() else { return Ok(Decides::Yes { user: row.user.clone() }) };
    let deciders = project.board.deciders();
    if deciders.is_empty() {
        return Ok(Decides::Yes { user: row.user.clone() });
    }
    let user = match &row.user {
        Some(user) => Some(user.clone()),
        None => asked(ctx, &project, row)?,
    };
    let age = ctx.now().stamp.wall_ms - row.seen_at;
    Ok(match user {
        Some(user) if deciders.contains(&user) => Decides::Yes { user: Some(user) },
        Some(user) => Decides::No { why: format!("it was set by {user}, who is not in board.deciders") },
        None if (0..UNKNOWN_MS).contains(&age) => Decides::NotYet,
        None => Decides::No { why: "the board does not say who set it, and board.deciders is set".to_owned() },
    })
}

/// Asks the board who set an intent's status, and keeps the answer.
fn asked(ctx: &mut Ctx, project: &Project, row: &IntentRow) -> Result<Option<String>> {
    let Some(item) = ctx.store.read(|tx| tx.item(&row.project, &row.item_id))? else { return Ok(None) };
    let Ok(key) = Key::parse(&item.key) else { return Ok(None) };
    let seat = boards::seat(ctx, project)?;
    let statuses = seat.resolved.statuses();
    let Some(status) = statuses.iter().find(|s| seat.resolved.intent_of(&s.id) == Some(row.kind)) else {
        return Ok(None);
    };
    let user = seat.board.who(&key, &row.item_id, &Deed::Status(&status.id))?;
    if let Some(user) = user.as_ref().filter(|_| !ctx.dry) {
        ctx.store.write(|tx| tx.set_intent_user(row.id, user))?;
    }
    Ok(user)
}

/// Whether who put a label on an item may decide. Fails where the board does not answer; an answer that is not there is a no.
pub fn of_label(project: &Project, board: &Board, item: &WorkItem, labels: &[Label], name: &str) -> Result<bool> {
    let deciders = project.board.deciders();
    if deciders.is_empty() {
        return Ok(true);
    }
    let user = match &item.changed_by {
        Some(user) => Some(user.clone()),
        None => match labels.iter().find(|l| fold(&l.name) == fold(name)) {
            Some(label) => board.who(&item.key, &item.id, &Deed::Label { id: &label.id, name: &label.name })?,
            None => None,
        },
    };
    Ok(user.is_some_and(|user| deciders.contains(&user)))
}
