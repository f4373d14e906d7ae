//! The state of the database at one moment: the input of every decision.

use super::base::{Base, Unseen};
use super::confine::RunConfinement;
use super::ids::{JobId, Key, TaskId};
use super::landing::Awaits;
use super::stage::{Agent, JobKind, Stage};
use super::task::{Cooldown, Deploy, Evidence, Freeze, Job, Lease, Task, Waiting};
use super::time::Stamp;
use std::collections::BTreeMap;

/// One task with everything its next step rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskView {
    pub task: Task,
    pub live_job: Option<Job>,
    /// Ended jobs of the present epoch, oldest first.
    pub ended: Vec<Job>,
    /// All evidence of the task, oldest first.
    pub evidence: Vec<Evidence>,
    pub lease: Option<Lease>,
    /// Another task that holds the lease, by its key, with what it waits for.
    pub lease_holder: Option<String>,
    /// The newest deploy of the task that was not withdrawn.
    pub deploy: Option<Deploy>,
    pub freeze: Option<Freeze>,
    /// A commit of another task that landed in this repository and is not deployed (RULE-28).
    pub undeployed: Option<Key>,
    /// The reason, when HALT is set.
    pub halted: Option<String>,
    /// Another live process continues the open deploy.
    pub deploy_held: bool,
    /// What the forge waits for before it makes the open deploy's merge.
    pub awaits: Option<Awaits>,
    /// What a label releases for the person (BRD-5).
    pub auto: Option<Waiting>,
    pub now: Stamp,
}

/// The state of a work item's blocker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocker {
    /// Done here, or in a completed group on the board.
    Met,
    Open,
    /// Cancelled: holds, and is reported.
    Cancelled,
    /// Not known to anybody.
    Unknown,
}

/// A task as far as the queue's order needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub id: TaskId,
    pub key: Key,
    pub project: String,
    pub repo: String,
    pub stage: Stage,
    pub started: bool,
    pub blocked_by: Vec<Key>,
    pub withdrawn: bool,
    pub stop_requested: bool,
    pub blocked: bool,
    /// A person lets it start on a red base.
    pub on_red_base: bool,
}

/// A running job as far as limits need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy {
    pub kind: JobKind,
    pub agent: Option<Agent>,
    pub project: String,
}

/// What the boards said about what blocks a task, asked right before its first claim (RULE-27).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BoardAnswers {
    /// By task; `Err` says why the answer is not known.
    pub of: BTreeMap<TaskId, Result<(), String>>,
    /// A task of a remote board that is not in it does not start: the answers are those of this very step.
    pub required: bool,
}

/// Everything a claim rests on, read in the claim's own transaction (RUN-1).
#[derive(Debug, Clone, PartialEq)]
pub struct QueueView {
    /// In the queue's order.
    pub queued: Vec<Job>,
    pub running: Vec<Busy>,
    /// Every task that is not terminal, and done tasks with a queued job, by id.
    pub places: BTreeMap<TaskId, Place>,
    /// Only blockers that some place names.
    pub blockers: BTreeMap<Key, Blocker>,
    /// The last try of each base, by its name (ORD-1).
    pub bases: BTreeMap<String, Base>,
    /// Bases that could not be checked, by name.
    pub unseen: BTreeMap<String, Unseen>,
    pub freezes: Vec<Freeze>,
    /// The freezes could not be read: every repository counts as frozen (SHIP-7).
    pub freezes_unreadable: bool,
    pub halted: Option<String>,
    pub cooldowns: Vec<Cooldown>,
    pub board: BoardAnswers,
    /// Booked today, millionths of a dollar.
    pub day_micros: i64,
    pub task_micros: BTreeMap<TaskId, i64>,
    /// The most expensive known run of an agent: what an uncapped run reserves (RULE-25).
    pub most_expensive: BTreeMap<Agent, i64>,
    pub free_mb: Option<u64>,
    /// What confines whose runs, as a step last found it (BND-2).
    pub confinement: Vec<RunConfinement>,
    pub now: Stamp,
}

/// A claim to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub job: JobId,
    pub task: TaskId,
    /// Also the move out of `created`, to this stage.
    pub starts: Option<Stage>,
    /// The task takes its repository's place in the serial gate.
    pub serial: bool,
    pub credential: Option<String>,
    pub reserved_micros: i64,
    /// The first run after this credential's cool-down (RULE-26).
    pub canary: bool,
}
