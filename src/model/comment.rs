//! Comments on a work item that agents read (GH-2).

use super::stage::words;
use serde::{Deserialize, Serialize};

words! {
    /// Who wrote a comment.
    Writer {
        Person = "person",
        /// A bot, an App, or a person through one.
        Program = "program",
        /// This credential.
        Orch = "orch",
    }
}

/// A comment as the board shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    pub id: u64,
    /// The author's login; empty: unknown.
    pub author: String,
    pub writer: Writer,
    /// The last change, in milliseconds since the epoch by the board's clock.
    pub updated_ms: i64,
    pub text: String,
}

/// Up to where comments were read: the newest change, and which comments have exactly that time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadTo {
    pub updated_ms: i64,
    pub ids: Vec<u64>,
}

/// What the last prompt of a task contained, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The work that it was for: stage and developer round.
    pub work: String,
    pub from: ReadTo,
    pub to: ReadTo,
}
