//! What is known of the base of a repository, or of a part of one, before an agent is paid to work on it (ORD-1).

use super::ids::Sha;
use super::stage::words;
use super::task::Actor;
use serde::{Deserialize, Serialize};

words! {
    /// The state of a repository's base.
    BaseState {
        Untried = "untried",
        Running = "running",
        Green = "green",
        /// Setup or CI fails on it.
        Red = "red",
        /// This machine could not try it: a program is missing or can't be run.
        Environment = "environment",
        /// There is nothing to try: no setup, no CI, or `base.enabled` is off.
        NotApplicable = "not_applicable",
    }
}

impl BaseState {
    /// Whether a try ended with a verdict.
    pub fn is_verdict(self) -> bool {
        match self {
            Self::Green | Self::Red | Self::Environment => true,
            Self::Untried | Self::Running | Self::NotApplicable => false,
        }
    }
}

/// A failed check of a repository's base: until one succeeds nothing is known of it, whatever was known before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unseen {
    /// One sentence.
    pub why: String,
    /// Wall milliseconds of the last check.
    pub since: i64,
    /// When it is checked again (wall milliseconds).
    pub next_at: i64,
    /// How often in a row it failed.
    pub failed: i64,
}

/// The last try of a base; one for each repository, or part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    pub commit: Sha,
    pub tree: String,
    /// Digest of the settings that decide the verdict.
    pub config: String,
    pub state: BaseState,
    /// Since when it is in this state (wall milliseconds).
    pub since: i64,
    /// One sentence.
    pub why: String,
    /// The last lines of the log of a red try.
    pub lines: Vec<String>,
    /// When it is tried again (wall milliseconds).
    pub next_at: i64,
    /// How often in a row this machine could not try it.
    pub failed: i64,
    /// The claim of the job that tries it.
    pub token: String,
    /// Who claimed it, then its supervisor.
    pub owner: Option<Actor>,
    /// Number of the last red that was reported.
    pub ruled_out_at: i64,
    /// A reported red has not become green yet.
    pub alerted: bool,
}
