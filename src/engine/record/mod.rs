//! The one writer of a task's row and of what goes with it: events of the audit table, messages, and the journal's
//! intents. Every change of the row is a [`Change`] that the table of edges and the row allow, saved under the row's
//! revision.

mod entries;
mod hold;
pub mod messages;

pub use entries::{Recorded, entries};
pub use hold::{block, free_lease, freeze_by, freeze_repo, unfreeze_repo};

use crate::adapters::store::{JournalRow, NewOutbox, Result, Tx};
use crate::model::change::Change;
use crate::model::event::Event;
use crate::model::ids::TaskId;
use crate::model::task::{Actor, Task};
use serde_json::Value;

/// Makes one change and saves it.
///
/// # Errors
/// The change is not allowed, or another process moved the task: nothing is written.
pub fn change(tx: &Tx<'_>, task: &mut Task, change: Change, at: i64) -> Result<()> {
    changes(tx, task, [change], at)
}

/// Makes several changes, in this order, and saves the row once. Returns whether there was anything to save.
///
/// # Errors
/// As [`change`]; `task` may then contain some of them.
pub fn changes(tx: &Tx<'_>, task: &mut Task, all: impl IntoIterator<Item = Change>, at: i64) -> Result<()> {
    for change in all {
        task.apply(change)?;
    }
    tx.save_task(task, at)
}

/// Only raises the row's revision: something was recorded outside the row, so every older view of the task must lose.
///
/// # Errors
/// Another process moved the task.
pub fn touch(tx: &Tx<'_>, task: &mut Task, at: i64) -> Result<()> {
    tx.save_task(task, at)
}

/// Appends an event to the audit table; `detail`: an object. Returns its number.
///
/// # Errors
/// The database fails.
pub fn event(tx: &Tx<'_>, at: i64, task: Option<TaskId>, event: Event, detail: &Value) -> Result<i64> {
    tx.audit(at, task, event.as_str(), detail)
}

/// Records an intent of the journal, or takes over an open one with the same key. Returns the row: if it has an
/// outcome, the effect has already happened.
///
/// # Errors
/// The database fails.
pub fn intend(
    tx: &Tx<'_>,
    key: &str,
    task: Option<TaskId>,
    kind: &str,
    intent: &Value,
    me: &Actor,
    at: i64,
) -> Result<JournalRow> {
    tx.intend(key, task, kind, intent, me, at)
}

/// Records how an intended effect ended.
///
/// # Errors
/// The database fails.
pub fn outcome(tx: &Tx<'_>, key: &str, outcome: &Value, at: i64) -> Result<()> {
    tx.record_outcome(key, outcome, at)
}

/// Puts a message into the outbox, once for each key. Returns whether it is new.
///
/// # Errors
/// The database fails.
pub fn post(tx: &Tx<'_>, message: &NewOutbox, at: i64) -> Result<bool> {
    tx.post(message, at)
}
