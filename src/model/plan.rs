//! What one decision has recorded, all of it in one transaction, and what is done next outside the database. Whoever
//! records it (`engine::record`) chooses nothing.

use super::card::AlertKind;
use super::change::Change;
use super::effect::{BaseSettings, Effect};
use super::event::Event;
use super::evidence::NewEvidence;
use super::ids::Sha;
use super::landing::Awaits;
use super::report::{ActionKind, Rule};
use super::task::{Actor, DeployState};
use super::withdrawal::Withdrawal;
use serde_json::Value;

/// One message about a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// `number` separates causes of one kind: the same cause is reported once (RULE-41).
    Alert { kind: AlertKind, number: i64, detail: String },
    /// On the work item, and on the pull request where there is one; one comment for each cause.
    Comment { cause: String, text: String },
    /// The question to the person, on the work item: its text is made when it is written (ORD-5).
    Question,
}

/// A deploy to be opened: who opens it and when is known to whoever records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDeploy {
    pub id: String,
    pub fence: i64,
    pub head: Sha,
    pub base: Sha,
    pub tree: String,
}

/// One thing to be written, about the plan's task.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A change of the row; the row is saved once, after the last entry.
    Change(Change),
    /// Only raises the row's revision: what follows rests on more than the row.
    Touch,
    /// Takes the repository's merge lease, or renews it. The fence that it must have then; otherwise nothing is written.
    TakeLease {
        file_fence: i64,
        fence: i64,
    },
    /// `status`: the gate's answer is shown on the forge, too (RULE-42).
    Evidence {
        row: NewEvidence,
        status: bool,
    },
    /// Shows the answers that stay valid for the new head on the forge again (RULE-4).
    StatusesAgain,
    /// An intent of the journal.
    Intend {
        key: String,
        kind: &'static str,
        intent: Value,
    },
    /// How an intended effect ended.
    Outcome {
        key: String,
        outcome: Value,
    },
    /// An event of the audit table.
    Event {
        name: Event,
        detail: Value,
    },
    /// Blocks the task, with its event and messages (PIPE-3); `freeze`: and freezes the repository (SHIP-7).
    Block {
        why: String,
        freeze: bool,
    },
    /// Frees the repository's merge lease if the task holds it.
    FreeLease,
    /// Cancels the task's jobs, and with them every right of their runs.
    CancelJobs {
        why: String,
    },
    /// Ends the task's runs as cancelled.
    CancelRuns {
        why: String,
    },
    /// The task's key may be used again, and its work item has ended.
    Tombstone,
    /// A message about the task.
    Message(Message),
    /// The board and the card follow the task.
    Show,
    /// The card is drawn again.
    Card,
    /// Opens a deploy for this process (RULE-35).
    InsertDeploy(NewDeploy),
    /// Continues the deploy of a process that is gone.
    TakeDeploy {
        id: String,
        from: Actor,
    },
    MoveDeploy {
        id: String,
        from: DeployState,
        to: DeployState,
        landed: Option<Sha>,
    },
    /// What the forge waits for before it merges (GH-1).
    Awaits(Awaits),
    /// A tree passed under these settings: the base that has it is green (ORD-1).
    BasePassed {
        settings: BaseSettings,
        tree: String,
    },
    /// Freezes the repository.
    Freeze {
        why: String,
    },
    /// Holds the task because somebody else withdrew or merged its work, with one alert (RULE-31).
    Withdrawn(Withdrawal),
    /// A line of the step's report: an action.
    Did {
        kind: ActionKind,
        detail: Value,
    },
    /// A line of the step's report: what holds the task.
    Hold {
        rule: Rule,
        why: String,
    },
}

/// What follows once the entries are written.
#[allow(clippy::large_enum_variant, reason = "one at a time, moved once")]
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Then {
    /// Nothing: the task's next decision is made again.
    #[default]
    Done,
    Perform(Effect),
    /// Nothing, and no retry can succeed until a person acts: the task is blocked with this reason (ORD-1).
    Refuse {
        why: String,
    },
    /// Nothing, and the step fails with this sentence: a later one tries again.
    Fail {
        why: String,
    },
    /// Nothing, and the step fails with what remote or forge said to an earlier effect of this procedure.
    Fault,
    /// A source says "not yet" about `what`: `meanwhile` is recorded, and past the bound of every gate (RULE-8) `past`
    /// follows.
    NotYet {
        what: String,
        meanwhile: Vec<Entry>,
        past: Box<Plan>,
    },
}

/// One decision, with every detail.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    pub entries: Vec<Entry>,
    pub then: Then,
}

impl Plan {
    /// Nothing is written, and nothing follows: somebody else was first, or there is nothing to do.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Only an effect.
    pub fn perform(effect: Effect) -> Self {
        Self { entries: Vec::new(), then: Then::Perform(effect) }
    }

    /// Only entries.
    pub fn record(entries: Vec<Entry>) -> Self {
        Self { entries, then: Then::Done }
    }

    /// The same, after these entries.
    #[must_use]
    pub fn after(self, mut entries: Vec<Entry>) -> Self {
        entries.extend(self.entries);
        Self { entries, then: self.then }
    }
}
