//! Who may decide on a board (BRD-3): if `board.deciders` lists users or the board checks rights, a status or label set
//! by anybody else is only text.

use super::{Ctx, boards};
use crate::adapters::board::{Board, Doer};
use crate::adapters::store::IntentRow;
use crate::config::Project;
use crate::model::board::{Deed, Label, WorkItem, fold};
use crate::model::ids::Key;
use anyhow::Result;
use serde_json::json;

/// If a board does not say within this time who set a status, the intent has no effect.
const UNKNOWN_MS: i64 = 10 * 60 * 1000;

/// Whether an intent counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decides {
    Yes {
        /// Who set it, if the board says so.
        user: Option<String>,
    },
    No {
        why: String,
    },
    /// The board does not yet say who set it.
    NotYet,
}

/// Whether the person who set an intent's status may decide. Fails if the board does not answer: the intent stays
/// pending.
pub fn of_intent(ctx: &mut Ctx, row: &IntentRow) -> Result<Decides> {
    // A project that is no longer configured decides nothing; the next call reports that.
    let Ok(project) = ctx.project(&row.project).cloned() else { return Ok(Decides::Yes { user: row.user.clone() }) };
    if project.board.deciders().is_empty() && !project.board.asks_rights() {
        return Ok(Decides::Yes { user: row.user.clone() });
    }
    let answer = match &row.user {
        // A right is checked at that moment and never cached.
        Some(user) if !project.board.asks_rights() => Some((Doer::named(user.clone()), is_named(&project, user))),
        Some(_) | None => asked(ctx, &project, row)?,
    };
    let age = ctx.now().stamp.wall_ms - row.seen_at;
    Ok(match answer {
        // The label was set again, and the board may not show that event yet.
        Some((doer, _)) if counted_before(ctx, row, &doer)? && (0..UNKNOWN_MS).contains(&age) => Decides::NotYet,
        Some((doer, _)) if counted_before(ctx, row, &doer)? => {
            Decides::No { why: format!("{} set it earlier, and it already counted then", doer.name) }
        }
        Some((doer, true)) => Decides::Yes { user: Some(doer.name) },
        Some((doer, false)) if project.board.asks_rights() => Decides::No {
            why: format!(
                "it was set by {}, who may not write to the repository and is not in board.deciders",
                if doer.through_app { format!("{} through an App", doer.name) } else { doer.name }
            ),
        },
        Some((doer, false)) => {
            Decides::No { why: format!("it was set by {}, who is not in board.deciders", doer.name) }
        }
        None if (0..UNKNOWN_MS).contains(&age) => Decides::NotYet,
        None => Decides::No { why: "the board does not say who set it".to_owned() },
    })
}

/// Whether `board.deciders` names somebody.
fn is_named(project: &Project, user: &str) -> bool {
    let same = |d: &String| if project.board.asks_rights() { fold(d) == fold(user) } else { d == user };
    project.board.deciders().iter().any(same)
}

/// Whether somebody may decide, by name or by the board's own rights.
fn may(project: &Project, board: &dyn Board, doer: &Doer) -> Result<bool> {
    Ok(is_named(project, &doer.name) || project.board.asks_rights() && board.may_decide(doer)?)
}

/// Whether the same event has already counted for another intent (GH-2: once).
fn counted_before(ctx: &mut Ctx, row: &IntentRow, doer: &Doer) -> Result<bool> {
    let Some(event) = &doer.event else { return Ok(false) };
    let key = format!("steered/{}/{}/{}", row.project, row.item_id, row.kind);
    let counted = ctx.store.read(|tx| tx.meta(&key))?.and_then(|t| serde_json::from_str::<(String, i64)>(&t).ok());
    match counted {
        Some((of, id)) if of == *event => Ok(id != row.id),
        Some(_) | None if ctx.dry => Ok(false),
        Some(_) | None => {
            ctx.store.write(|tx| tx.set_meta(&key, &json!([event, row.id]).to_string()))?;
            Ok(false)
        }
    }
}

/// Asks the board who set an intent's status, stores the answer, and returns whether they may decide.
fn asked(ctx: &mut Ctx, project: &Project, row: &IntentRow) -> Result<Option<(Doer, bool)>> {
    let Some((key, status, seat)) = place(ctx, project, row)? else { return Ok(None) };
    let Some(doer) = seat.board.who(&key, &row.item_id, &Deed::Status(&status))? else { return Ok(None) };
    let may = may(project, seat.board.as_ref(), &doer)?;
    if !ctx.dry {
        ctx.store.write(|tx| tx.set_intent_user(row.id, &doer.name))?;
    }
    Ok(Some((doer, may)))
}

/// The place of an intent: its item's key, its status's id and the board.
fn place(ctx: &mut Ctx, project: &Project, row: &IntentRow) -> Result<Option<(Key, String, boards::Seat)>> {
    let Some(item) = ctx.store.read(|tx| tx.item(&row.project, &row.item_id))? else { return Ok(None) };
    let Ok(key) = Key::parse(&item.key) else { return Ok(None) };
    let seat = boards::seat(ctx, project)?;
    let statuses = seat.resolved.statuses();
    let status = statuses.iter().find(|s| seat.resolved.intent_of(&s.id) == Some(row.kind)).map(|s| s.id.clone());
    Ok(status.map(|status| (key, status, seat)))
}

/// Removes an intent that nobody entitled has set from the item, and says so there, once. Best effort: failures are
/// only reported.
pub fn take_back(ctx: &mut Ctx, row: &IntentRow, why: &str) {
    let Ok(project) = ctx.project(&row.project).cloned() else { return };
    if !project.board.asks_rights() || ctx.dry {
        return;
    }
    let done = (|| {
        let Some((key, status, seat)) = place(ctx, &project, row)? else { return Ok(()) };
        seat.board.take_back(&row.item_id, &status)?;
        let Some(item) = seat.board.get(seat.resolved.statuses(), &key)? else { return Ok(()) };
        let now = ctx.now().stamp.wall_ms;
        let text = format!("orch removed the label {status:?}: {why}.");
        seat.board.comment(&item, &format!("orch:intent/{}", row.id), &text, now)?;
        Ok::<_, anyhow::Error>(())
    })();
    if let Err(e) = done {
        ctx.report.fault(None, format!("taking back intent {} of {}: {e:#}", row.kind, row.item_id), None);
    }
}

/// Whether the person who set a label on an item may decide. Fails if the board does not answer. If the board does not
/// know who it was, the answer is no.
pub fn of_label(project: &Project, board: &dyn Board, item: &WorkItem, labels: &[Label], name: &str) -> Result<bool> {
    if project.board.deciders().is_empty() && !project.board.asks_rights() {
        return Ok(true);
    }
    let doer = match &item.changed_by {
        Some(user) => Some(Doer::named(user.clone())),
        None => match labels.iter().find(|l| fold(&l.name) == fold(name)) {
            Some(label) => board.who(&item.key, &item.id, &Deed::Label { id: &label.id, name: &label.name })?,
            None => None,
        },
    };
    doer.map_or(Ok(false), |doer| may(project, board, &doer))
}
