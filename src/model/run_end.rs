//! How a run was settled.

use super::stage::words;
use serde::{Serialize, Serializer};
use std::fmt;

words! {
    /// The kinds of end; how a run counts follows from them, never from a sentence.
    RunResult {
        Done = "done",
        /// Counts against `run_retries`.
        Failed = "failed",
        /// Ended without a result, nothing spent.
        Lost = "lost",
        /// Its job was requeued.
        Again = "again",
        /// The account's usage window was used up (RUN-7).
        Limited = "limited",
        /// It blocked its task.
        Blocked = "blocked",
        /// A person's stop or rejection ended it.
        Cancelled = "cancelled",
        /// The claim was given back before anything ran.
        GivenBack = "given back",
        /// Its supervisor could not be started.
        NotStarted = "not started",
    }
}

/// The end of one run; `Display` and JSON are `word: why`, or the word where there is nothing to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    pub result: RunResult,
    /// One sentence; empty for a run that is done.
    pub why: String,
}

impl RunEnd {
    /// An end with its reason.
    pub fn new(result: RunResult, why: impl Into<String>) -> Self {
        Self { result, why: why.into() }
    }

    /// Whether the run did what it was for, as far as it got.
    pub fn is_well(&self) -> bool {
        matches!(self.result, RunResult::Done | RunResult::Again)
    }

    /// Whether it was withdrawn, by a person or with its claim: neither a success nor a failure.
    pub fn is_taken_back(&self) -> bool {
        matches!(self.result, RunResult::Cancelled | RunResult::GivenBack)
    }
}

impl fmt::Display for RunEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.why.is_empty() { write!(f, "{}", self.result) } else { write!(f, "{}: {}", self.result, self.why) }
    }
}

impl Serialize for RunEnd {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
