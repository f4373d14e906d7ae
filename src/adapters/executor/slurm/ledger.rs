//! What is known of a run's Slurm job, in a file next to the run (CLU-3c): written before srun is started, deleted once
//! the job is gone for certain. Whoever finds one may have to end a job.

use crate::adapters::files;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

const FILE: &str = "slurm.json";
const END: &str = "slurm.end";

/// How far a job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing of the run runs yet.
    Queued,
    Running,
    /// Its node reported that all of it ended; Slurm may still have the job.
    Over,
}

/// One run's job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    pub name: String,
    pub phase: Phase,
    /// Slurm's number, once it is known.
    pub job: Option<u64>,
    /// What confines it on its node, once it runs.
    pub engine: String,
    /// Why it is pending, in Slurm's words.
    pub reason: String,
    /// The program of its node.
    pub program: PathBuf,
    /// When its command started, in wall milliseconds.
    pub running_since: Option<i64>,
    /// When Slurm first no longer knew it, in wall milliseconds.
    pub empty_at: Option<i64>,
    pub settle_s: u64,
    /// Why its supervisor gave up before Slurm said that the job is gone; later steps ask, and settle the run.
    pub left: Option<String>,
}

impl Ledger {
    /// Of a run's folder. `None`: it has no job that matters.
    pub fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(dir.join(FILE)).ok()?).ok()
    }

    /// Writes it where the run continues without it: a reader then sees an older state and asks Slurm.
    pub fn keep(&self, dir: &Path) {
        if let Err(e) = self.write(dir) {
            tracing::warn!("{} can't be written: {e}", dir.join(FILE).display());
        }
    }

    /// Fails if it can't be written.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        files::replace(&dir.join(FILE), &serde_json::to_vec(self)?, Some(0o600))
    }

    /// The job is gone.
    pub fn close(dir: &Path) {
        for name in [FILE, END] {
            if let Err(e) = std::fs::remove_file(dir.join(name))
                && e.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!("{}: {e}", dir.join(name).display());
            }
        }
    }

    /// Records whether the queue has it (`there`), as of `now`; returns whether it is certainly gone: a controller that
    /// just restarted does not know a job of its last second.
    pub fn seen(&mut self, there: bool, now: i64) -> bool {
        if there {
            self.empty_at = None;
            return false;
        }
        // Its node's report and one answer make two.
        if self.phase == Phase::Over {
            return true;
        }
        let first = *self.empty_at.get_or_insert(now);
        now.saturating_sub(first) >= i64::try_from(self.settle_s.saturating_mul(1000)).unwrap_or(i64::MAX)
    }
}

/// Asks the supervisor of a run to end its job. Fails if that can't be written.
pub fn ask_to_end(dir: &Path) -> io::Result<()> {
    std::fs::write(dir.join(END), b"")
}

/// Whether somebody asked.
pub fn is_asked(dir: &Path) -> bool {
    dir.join(END).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(phase: Phase) -> Ledger {
        Ledger {
            name: "orch-x-run-1".into(),
            phase,
            job: Some(7),
            engine: String::new(),
            reason: String::new(),
            program: "/p".into(),
            running_since: None,
            empty_at: None,
            settle_s: 30,
            left: None,
        }
    }

    #[test]
    fn clu_3_an_empty_answer_counts_once_it_was_given_twice_apart() {
        let mut one = ledger(Phase::Running);
        assert!(!one.seen(false, 1_000));
        assert!(!one.seen(false, 30_999));
        // It reappeared: the count is void.
        assert!(!one.seen(true, 31_500));
        assert!(!one.seen(false, 40_000));
        assert!(one.seen(false, 70_000));
        // With its node's report, one is enough.
        assert!(ledger(Phase::Over).seen(false, 0));
        assert!(!ledger(Phase::Over).seen(true, 0));
    }

    #[test]
    fn a_ledger_is_there_until_its_job_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Ledger::read(dir.path()), None);
        ledger(Phase::Queued).write(dir.path()).unwrap();
        assert_eq!(Ledger::read(dir.path()), Some(ledger(Phase::Queued)));
        assert!(!is_asked(dir.path()));
        ask_to_end(dir.path()).unwrap();
        assert!(is_asked(dir.path()));
        Ledger::close(dir.path());
        assert!(Ledger::read(dir.path()).is_none() && !is_asked(dir.path()));
        Ledger::close(dir.path());
    }
}
