//! Pull requests beside their opening.

use crate::model::task::Task;

/// The journal's kind of closing a pull request whose commit has landed.
pub const TIDY: &str = "pr_tidied";

/// The journal's key of it.
pub fn tidy_key(task: &Task, number: i64) -> String {
    format!("t{}/tidy-pr/{number}", task.id)
}
