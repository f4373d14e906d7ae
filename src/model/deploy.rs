//! What a deploy's result says (SHIP-5).

use super::stage::words;
use serde::{Deserialize, Serialize};

words! {
    /// `deploy_status` of `14-deploy-log.md`.
    DeployWord {
        Success = "SUCCESS",
        Failed = "FAILED",
    }
}

words! {
    /// The state of a deployment as a forge shows it (GH-1).
    Deployment { InProgress = "in_progress", Success = "success", Failure = "failure", Error = "error" }
}

/// The state of a deploy, read from `deploy.<id>.result.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeployStatus {
    /// No result yet, and the deadline is not past.
    Pending { why: String },
    /// Exit 0.
    Success,
    /// Exit 1: production is as before; roll back to development.
    FailedSafe,
    /// Anything else: production unknown; block, freeze, alert, nothing automatic.
    FailedUnknown { why: String },
}

impl DeployStatus {
    /// The verdict for the artefact; `None` while pending.
    pub fn word(&self) -> Option<DeployWord> {
        match self {
            Self::Pending { .. } => None,
            Self::Success => Some(DeployWord::Success),
            Self::FailedSafe | Self::FailedUnknown { .. } => Some(DeployWord::Failed),
        }
    }
}

words! {
    /// The result of a settled deploy.
    DeployEnd {
        Success = "success",
        /// Production is as before.
        FailedSafe = "failed_safe",
        /// Nobody knows what production runs.
        FailedUnknown = "failed_unknown",
    }
}

impl DeployEnd {
    /// As a forge shows it (GH-1).
    pub fn as_deployment(self) -> Deployment {
        match self {
            Self::Success => Deployment::Success,
            Self::FailedSafe => Deployment::Failure,
            Self::FailedUnknown => Deployment::Error,
        }
    }
}

/// A settled deploy's result, as its finalizer recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployResult {
    pub end: DeployEnd,
    /// One sentence.
    pub why: String,
    /// Why, and the end of the command's output, without secrets.
    pub log: String,
}

/// What a deploy's wrapper saw of its command's end (BND-6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ended", rename_all = "lowercase")]
pub enum OwnExit {
    Code {
        code: i32,
    },
    /// It has no exit code: its time was up, or a signal ended it.
    Unknown {
        why: String,
    },
}

impl std::fmt::Display for OwnExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code { code } => write!(f, "the deploy command ended with exit {code}"),
            Self::Unknown { why } => f.write_str(why),
        }
    }
}

/// Whose result is wanted: a file of another task or attempt is never this one's evidence (CFG-3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultOf {
    /// The task's row id.
    pub task: i64,
    /// The work item's key, which a self-hosting command may know rather than the id.
    pub key: String,
    pub attempt: u32,
}
