//! The command for a work item without a task (DSK-1): the last line of its `explain`. Those of tasks are `decide::advice`.

use crate::config;
use crate::decide::advice::quoted;

/// For a work item without a task: the step that picks it up, or the file in which its status is set.
pub fn taskless(project: &config::Project, key: &str, due: bool) -> String {
    match &project.board {
        config::Board::Local { dir, .. } if !due => {
            let file = dir.join(format!("{key}.md"));
            format!("\"${{EDITOR:-vi}}\" {}", quoted(&file.to_string_lossy()))
        }
        config::Board::Local { .. } => "orch tick".to_owned(),
        config::Board::Plane { .. } | config::Board::Github(_) => "orch reconcile".to_owned(),
    }
}
