//! What this process has asked already: a step asks once, not once per task.

use crate::adapters::board::BoardError;
use crate::adapters::executor::slurm::Row;
use crate::model::board::Status;
use std::collections::BTreeMap;

/// How long one process relies on a board's answer about its statuses, or on its silence.
const ASKED_MS: i64 = 60_000;

/// Answers by project, each with its time (wall milliseconds).
type Answers<T> = BTreeMap<String, (i64, T)>;

/// What boards answered this process, and when, whatever the answer and whether or not it could be stored.
#[derive(Debug, Default)]
pub struct Asked {
    statuses: Answers<Result<Vec<Status>, BoardError>>,
    silent: Answers<BoardError>,
}

fn lately<T: Clone>(known: &Answers<T>, project: &str, now: i64) -> Option<T> {
    known.get(project).filter(|(at, _)| (0..ASKED_MS).contains(&(now - at))).map(|(_, answer)| answer.clone())
}

impl Asked {
    /// What a board answered a moment ago about its statuses.
    pub fn statuses(&self, project: &str, now: i64) -> Option<Result<Vec<Status>, BoardError>> {
        lately(&self.statuses, project, now)
    }

    pub fn keep_statuses(&mut self, project: &str, now: i64, answer: Result<Vec<Status>, BoardError>) {
        self.statuses.insert(project.to_owned(), (now, answer));
    }

    /// Why a board could not be reached a moment ago.
    pub fn silence(&self, project: &str, now: i64) -> Option<BoardError> {
        lately(&self.silent, project, now)
    }

    pub fn keep_silence(&mut self, project: &str, now: i64, error: &BoardError) {
        if self.silence(project, now).is_none() {
            self.silent.insert(project.to_owned(), (now, error.clone()));
        }
    }
}

/// Slurm's queue as this step first read it.
#[derive(Debug, Default)]
pub struct Queue {
    /// `Some(None)`: it did not answer.
    pub(super) rows: Option<Option<Vec<Row>>>,
}
