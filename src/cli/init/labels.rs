//! The labels that are the statuses of a board (GH-2).

use super::install;
use super::summary::Summary;
use crate::cli::Invocation;
use crate::config::Project;
use crate::engine::projects;
use std::path::Path;

/// Whether a project of the file has a board whose statuses are labels, which `orch init` creates.
pub fn has_board(call: &Invocation, file: &Path) -> bool {
    install::config(call, file).is_ok_and(|config| config.projects.iter().any(|p| p.board.asks_rights()))
}

/// Creates the labels that are missing on the board of a project that was configured before. A failure becomes a
/// note: the files are written in any case.
pub fn create(call: &Invocation, file: &Path, summary: &mut Summary) {
    let Ok(config) = install::config(call, file) else { return };
    let wanted = |p: &&Project| p.board.asks_rights() && summary.project.as_ref().is_none_or(|key| *key == p.key);
    for project in config.projects.iter().filter(wanted) {
        match projects::plain_board(&config, project).and_then(|board| Ok(board.prepare()?)) {
            Ok(labels) => summary.labels.extend(labels),
            Err(e) => summary.notes.push(format!("the labels of {} could not be created: {e:#}", project.key)),
        }
    }
}
