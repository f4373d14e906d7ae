//! Commit statuses and what they add up to (SHIP-2, RULE-2).

use super::stage::words;

words! {
    /// One commit status as a forge tells it; `warning` and `skipped` are not success (SHIP-2).
    StatusState {
        Pending = "pending", Success = "success", Error = "error", Failure = "failure", Warning = "warning",
        Skipped = "skipped", Unknown = "unknown",
    }
}

/// The newest status of one context of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitStatus {
    /// Grows with each post: the newest per context counts.
    pub id: u64,
    pub context: String,
    pub state: StatusState,
    pub description: String,
    pub target_url: String,
}

/// What the statuses of exactly one commit say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CiAnswer {
    Green,
    /// The contexts that failed, sorted.
    Red {
        contexts: Vec<String>,
    },
    /// The contexts without an answer that counts, sorted: absent, under way, or ended as neither success nor failure.
    Pending {
        missing: Vec<String>,
    },
}
