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

/// How a deploy stands, read from `deploy.<id>.result.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeployStatus {
    /// No result yet, and the deadline is not past.
    Pending { why: String },
    /// Exit 0.
    Success,
    /// Exit 1: production is as it was before; roll back to development.
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

/// Whose result is wanted: a file of another task or attempt is never this one's evidence (CFG-3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultOf {
    /// The task's row id.
    pub task: i64,
    /// The work item's key, which a self-hosting command may know better than the id.
    pub key: String,
    pub attempt: u32,
}
