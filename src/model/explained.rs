//! What `orch explain` shows: why a task is where it is, as one document.

use super::finding::Finding;
use super::gate::Gate;
use super::inputs::Input;
use super::status::{HeldBy, ServiceRow};
use serde::Serialize;

/// A task or a work item explained.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explained {
    pub key: String,
    /// `None`: a work item without a task.
    pub task: Option<i64>,
    pub title: String,
    pub project: String,
    pub stage: Option<String>,
    pub attempt: Option<i64>,
    /// The rule that holds it; `None`: it is being worked, or the next step moves it.
    pub held_by: Option<HeldBy>,
    /// What the next step does or finds, in one sentence.
    pub next: String,
    /// What it waits for, as shown to the person who decides (ORD-5).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wait: Vec<String>,
    /// What would move it.
    pub moves: Vec<String>,
    /// The command that moves it, ready to type; null: there is nothing to do.
    pub command: Option<String>,
    /// The gates on leaving its stage, in order.
    pub gates: Vec<GateShown>,
    /// The changed verdict inputs, which decide what CI means, once they are listed for the head (BND-5).
    pub inputs: Vec<Input>,
    /// What the developer has to fix.
    pub findings: Vec<Finding>,
    /// The work item on its board, as last read.
    pub item: Option<ItemShown>,
    /// Its title or text on the board has changed: the task keeps working with what it started from (BRD-3).
    pub edited: bool,
    /// The last lines of what fails on its base, if that holds it.
    pub base: Vec<String>,
    /// The services of its project that are unavailable now.
    pub services_down: Vec<ServiceRow>,
}

/// A gate's answer now, with the rows it has to read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateShown {
    pub gate: Gate,
    /// `pass`, `fail`, `stale`, `stuck`, `undecided`.
    pub answer: &'static str,
    pub why: String,
    /// The newest rows first.
    pub evidence: Vec<EvidenceShown>,
}

/// An evidence row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvidenceShown {
    pub id: i64,
    pub verdict: String,
    pub commit: String,
    pub attempt: i64,
    pub run: Option<i64>,
    /// Made in the present stay in the stage.
    pub present: bool,
    pub why: String,
}

/// A work item.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ItemShown {
    pub status: Option<String>,
    pub group: Option<String>,
    /// The note that the board does not know its status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What was made of its statuses, newest first.
    pub intents: Vec<IntentShown>,
}

/// An intent and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IntentShown {
    pub intent: String,
    pub state: String,
    pub reason: Option<String>,
    pub seen_at: String,
}
