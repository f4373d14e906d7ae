//! Forges: where pull requests live and merges are asked for. `Forge` is the edge where the kinds differ; the types here
//! are common to all of them.

pub mod local;

pub use crate::model::ci::{CommitStatus, StatusState};

use crate::model::ids::Sha;
use crate::model::stage::words;

/// Which forge a repository is on.
#[derive(Debug, Clone)]
pub enum Forge {
    /// A bare repository without a server: pull requests are rows that the engine keeps.
    Local(local::LocalForge),
}

words! {
    /// Whether a pull request waits for a decision.
    PullState { Open = "open", Closed = "closed" }
}

/// A pull request as last read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    pub number: u64,
    /// Empty on the local forge.
    pub url: String,
    pub state: PullState,
    /// The branch's name, kept by the forge even when the branch is gone.
    pub head: String,
    pub head_sha: Option<Sha>,
    pub base: String,
    pub merged: bool,
    pub merge_commit: Option<Sha>,
}

/// What asking for a merge led to, after reading back (SHIP-5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergeOutcome {
    /// Landed as this commit, now or by an earlier call.
    Merged {
        commit: Sha,
    },
    /// The base is not where it was tested, and the tested tree has not landed.
    BaseMoved,
    /// The head is not the one that was checked.
    HeadMoved,
    Conflict {
        paths: Vec<String>,
    },
    /// Not now (the forge still computes): look later.
    NotYet {
        reason: String,
    },
    /// The forge does not want it (protection, rights, hook).
    Refused {
        reason: String,
    },
}

/// The classes that policy tells apart (services §0.6). No text holds a credential.
#[derive(Debug, thiserror::Error)]
pub enum ForgeError {
    #[error("the forge does not accept the account: {0}")]
    Auth(String),
    #[error("not found: {0}")]
    NotFound(String),
    /// Re-read and decide anew.
    #[error("conflict: {0}")]
    Conflict(String),
    /// A mistake in configuration or in `orch`.
    #[error("the forge calls the request invalid: {0}")]
    Invalid(String),
    /// `retry_after_s`: seconds the service asks to wait, where it said so.
    #[error("the forge asks to wait: {reason}")]
    Throttled { reason: String, retry_after_s: Option<u64> },
    #[error("the forge does not answer: {0}")]
    Transient(String),
    /// A write whose answer is lost: read before repeating.
    #[error("the outcome is unknown: {0}")]
    UnknownOutcome(String),
}
