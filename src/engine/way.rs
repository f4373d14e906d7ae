//! The command for a work item without a task (DSK-1): the last line of its `explain`. `decide::advice` gives those of
//! tasks.

use crate::config;
use crate::decide::advice::quoted;
use crate::model::ids::Key;

/// The command for a work item without a task: the step that picks it up, or the file in which to set its status.
pub fn taskless(project: &config::Project, key: &str, due: bool) -> String {
    match Key::parse(key).ok().and_then(|key| project.board.file(&key)) {
        _ if project.board.is_remote() => "orch reconcile".to_owned(),
        Some(file) if !due => format!("\"${{EDITOR:-vi}}\" {}", quoted(&file.to_string_lossy())),
        Some(_) | None => "orch tick".to_owned(),
    }
}
