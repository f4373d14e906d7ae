//! The one writer of a task's row, and of what goes with it: every change is a [`Change`] that the table of edges and the row allow, saved under
//! the row's revision.

mod entries;
mod hold;

pub use entries::{Recorded, entries};
pub use hold::{block, free_lease, freeze_by, freeze_repo, unfreeze_repo};

use crate::adapters::store::{Result, Tx};
use crate::model::change::Change;
use crate::model::task::Task;

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
