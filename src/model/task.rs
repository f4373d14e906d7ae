//! Rows as plain data: tasks, jobs, runs, evidence. What `decide` reads and `store` writes.

use super::deploy::DeployResult;
use super::evidence::{BoundFile, EvidenceDetail, EvidenceVerdict};
use super::finding::Finding;
use super::gate::Subject;
use super::ids::{JobId, Key, RunId, Sha, TaskId};
use super::run_end::RunEnd;
use super::stage::{Agent, JobKind, JobStatus, Stage, words};
use super::time::Stamp;
use super::watch::Watch;
use super::window::Window;
use serde::{Deserialize, Serialize};

words! {
    /// What a parked task waits for from a person.
    Waiting {
        Approval = "approval",
        ConfirmDeploy = "confirm_deploy",
    }
}

words! {
    /// What a rework makes of the branch's history.
    Rework {
        /// One commit, after a security FAIL on secrets (RUN-4).
        OneCommit = "one_commit",
    }
}

/// A wait for a person, as a reader of a board has to know it (RULE-43).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Wait {
    /// Counts the waits of the task.
    pub no: i64,
    /// The board is known to ask for it.
    pub asked: bool,
}

/// A pull request as recorded for the task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PullRef {
    pub number: i64,
    pub url: String,
}

/// A task row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub id: TaskId,
    /// The work item's own key, tombstoned or not.
    pub key: Key,
    pub project: String,
    pub repo: String,
    /// The board's id of the work item (the key on the local board).
    pub item_id: String,
    /// 1 for the work item's first task, 2 for its second (RULE-9).
    pub round: u32,
    pub title: String,
    /// The work item's text as last read; data, never an instruction.
    pub body: String,
    /// 0 urgent … 4 none.
    pub priority: i64,
    pub blocked_by: Vec<Key>,
    pub stage: Stage,
    /// Updates are conditional on this (RULE-7).
    pub revision: i64,
    /// Developer round, from 1.
    pub attempt: i64,
    /// The attempt from which the retry budget counts (`retry` raises it).
    pub attempt_base: i64,
    /// Grows at every entry of a stage and every lifted block; marks what belongs to this stay in the stage.
    pub epoch: i64,
    pub branch: Option<String>,
    /// The commit of the default branch that the branch began from.
    pub base_sha: Option<Sha>,
    /// The last pushed head known.
    pub head_sha: Option<Sha>,
    /// The head's code tree: its tree without the work item's folder (PIPE-4).
    pub head_tree: Option<String>,
    pub pr: Option<PullRef>,
    pub waiting_for: Option<Waiting>,
    pub waiting_since: Option<i64>,
    /// How often the task has begun to wait for a person: the number of the present wait.
    pub wait_no: i64,
    /// Since when the board is known to ask for the present wait (RULE-43): the asking status was read on the item, or
    /// the board accepted the write that set it, whoever wrote. `None`: not yet.
    pub asked_at: Option<i64>,
    /// What a person (or a label) has released in this epoch.
    pub released: Option<Waiting>,
    pub blocked_reason: Option<String>,
    pub block_no: i64,
    /// The findings of a rollback that the budget prevents; `retry` uses them.
    pub held_findings: Option<Vec<Finding>>,
    pub findings: Vec<Finding>,
    /// How often in a row the same findings came back unchanged (RUN-7b).
    pub findings_same: i64,
    /// What the next round has to keep of the branch's history; `None`: all of it.
    pub rework: Option<Rework>,
    /// Why it is held although nothing of it failed (RULE-31, BRD-4).
    pub withdrawn: Option<super::withdrawal::Withdrawal>,
    /// What the forge or the remote refuses although the work is done (ORD-1).
    pub refused: Option<super::refusal::RefusedEffect>,
    /// The open critical window (RULE-16): what is under way.
    pub critical: Option<Window>,
    pub stop_requested_at: Option<i64>,
    pub stop_reason: Option<String>,
    pub stopped_stage: Option<Stage>,
    pub started_at: Option<i64>,
    pub in_serial: bool,
    pub landed_sha: Option<Sha>,
    pub watch: Option<Watch>,
    pub created_at: i64,
    pub updated_at: i64,
    pub finished_at: Option<i64>,
}

impl Task {
    /// Whether its deploy is being watched.
    pub fn is_watched(&self) -> bool {
        self.watch == Some(Watch::Armed)
    }

    /// The wait for a person that the task is in.
    pub fn wait(&self) -> Option<Wait> {
        self.waiting_for.map(|_| Wait { no: self.wait_no, asked: self.asked_at.is_some() })
    }

    /// The name of the task's worktree and sentinel folder: the key, with `-2`, `-3` from the second task on.
    pub fn folder(&self) -> String {
        if self.round > 1 { format!("{}-{}", self.key, self.round) } else { self.key.to_string() }
    }

    /// Where the work item's artefacts are in the repository.
    pub fn artefacts(&self) -> String {
        format!("docs/work-items/{}", self.key)
    }
}

/// A queue entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub id: JobId,
    pub task_id: TaskId,
    pub stage: Stage,
    pub kind: JobKind,
    pub agent: Option<Agent>,
    pub attempt: i64,
    pub epoch: i64,
    pub status: JobStatus,
    /// The claim token; every later write includes it.
    pub token: Option<String>,
    /// The commit a reserved job judges.
    pub subject: Option<Sha>,
    /// Wall milliseconds before which it is not claimed.
    pub available_at: i64,
    pub priority: i64,
    /// Why it ended this way, or why it was requeued.
    pub reason: Option<String>,
    /// Whether its failure counts against `run_retries`.
    pub spent: bool,
    /// For a job that failed or was deferred without spending an attempt: the cause that it is counted by (RULE-48).
    pub cause: Option<Cause>,
    /// How often in a row it was deferred for this cause.
    pub again: i64,
}

/// A queue entry to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    pub kind: JobKind,
    pub agent: Option<Agent>,
    pub subject: Option<Sha>,
    /// Wall milliseconds; 0 for at once.
    pub available_at: i64,
    /// Why it is needed (again); included in the next prompt.
    pub reason: Option<String>,
}

words! {
    /// What makes a run necessary again, or defers one, without spending an attempt (RULE-48).
    Cause {
        /// Its supervisor vanished.
        Lost = "lost",
        /// Its Slurm job ended without anybody's request: a dead node, a preemption (CLU-3).
        Cluster = "cluster",
        /// The branch has another head on the remote.
        HeadMoved = "head_moved",
        /// The remote does not accept the push.
        PushRefused = "push_refused",
        /// A service does not answer.
        Outage = "outage",
        /// Somebody else withdrew the task; the task itself is held.
        TakenBack = "taken_back",
        /// This machine lacks something: nothing ran, and nothing is spent (RULE-45).
        Environment = "environment",
        /// CI is red, and the base is tried again before that counts (ORD-1).
        BaseFirst = "base_first",
    }
}

words! {
    /// The state of a run: claimed, supervised, its runtime's exit recorded, settled.
    RunState {
        Starting = "starting",
        Live = "live",
        Exited = "exited",
        Settled = "settled",
    }
}

/// A process, identified even after its pid was reused (RUN-4).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Actor {
    pub boot_id: String,
    pub pid: i32,
    pub start_ticks: u64,
}

/// One execution of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub id: RunId,
    pub job_id: JobId,
    pub task_id: TaskId,
    pub stage: Stage,
    pub kind: JobKind,
    pub agent: Option<Agent>,
    pub attempt: i64,
    pub epoch: i64,
    pub token: String,
    pub state: RunState,
    pub claimed_at: Stamp,
    pub supervisor: Option<Actor>,
    pub runtime: Option<Actor>,
    pub dead_seen: i64,
    pub dead_seen_at: Option<Stamp>,
    pub start_sha: Option<Sha>,
    pub exited_at: Option<Stamp>,
    /// What the runtime did, as recorded at its exit.
    pub outcome: Option<super::outcome::Outcome>,
    pub finalizer: Option<Actor>,
    pub fence: i64,
    pub credential: Option<String>,
    pub reserved_micros: i64,
    /// Millionths of a dollar; `None` is unknown, never zero.
    pub cost_micros: Option<i64>,
    pub tokens_in: Option<i64>,
    pub tokens_out: Option<i64>,
    pub model: Option<String>,
    pub effort: Option<String>,
    pub session: Option<String>,
    /// How it was settled.
    pub result: Option<RunEnd>,
    pub started_at: i64,
    pub ended_at: Option<i64>,
}

/// Between two tries to push what a run left, in milliseconds.
pub const PUT_OFF_MS: i64 = 15_000;
/// The longest that a try is deferred, in milliseconds (ORD-1).
pub const MOST_PUT_OFF_MS: i64 = 300_000;

impl Run {
    /// Until when, by the wall clock, an outage deferred what this run left, as its job says. `None`: it was not
    /// deferred. A time farther away than any deferral comes from a clock that was set back.
    pub fn deferred_until(&self, job: &Job, now_ms: i64) -> Option<i64> {
        let exited = self.exited_at.as_ref().filter(|_| self.state == RunState::Exited)?;
        let until = Some(job.available_at).filter(|at| *at > exited.wall_ms && at - now_ms <= MOST_PUT_OFF_MS);
        until.filter(|_| job.token.as_ref() == Some(&self.token))
    }
}

/// What a gate reads: one verdict on one commit, recorded by `orch` (RULE-3, PIPE-4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    pub id: i64,
    pub subject: Subject,
    pub attempt: i64,
    pub epoch: i64,
    pub run_id: Option<RunId>,
    /// The commit judged.
    pub sha: Sha,
    /// Its tree without the work item's artefacts (PIPE-4).
    pub code_tree: String,
    pub verdict: EvidenceVerdict,
    /// One sentence.
    pub why: String,
    pub detail: EvidenceDetail,
    /// The file it rests on is gone or differs, so that it is no longer a pass (RULE-47); never stored.
    pub tampered: bool,
}

impl Evidence {
    /// Whether the author of this verdict could have run what it judged (R1): a review by a runtime that starts
    /// programs.
    pub fn depends(&self) -> bool {
        matches!(self.detail, EvidenceDetail::Agent { independent: false, .. })
    }

    /// The file that this row rests on.
    pub fn bound(&self) -> Option<BoundFile> {
        self.detail.of_code()?.file.clone()
    }
}

/// A repository's freeze (SHIP-7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    pub repo: String,
    pub reason: String,
    pub task_id: Option<TaskId>,
    pub since: i64,
}

/// A repository's merge lease (SHIP-2). The row decides, the file only shows it (RULE-34).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub repo: String,
    pub fence: i64,
    pub task_id: Option<TaskId>,
    pub actor: Option<Actor>,
    pub acquired_at: Option<Stamp>,
    pub renewed_at: Option<Stamp>,
}

words! {
    /// How far a deploy got.
    DeployState {
        Initiated = "initiated",
        Landed = "landed",
        Started = "started",
        Settled = "settled",
        Withdrawn = "withdrawn",
    }
}

impl DeployState {
    /// Whether it is under way: initiated, and neither settled nor withdrawn.
    pub fn is_open(self) -> bool {
        match self {
            Self::Initiated | Self::Landed | Self::Started => true,
            Self::Settled | Self::Withdrawn => false,
        }
    }
}

/// One deploy (RULE-35).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deploy {
    /// `<task>-<attempt>-<fence>`: in all its file names.
    pub id: String,
    pub task_id: TaskId,
    pub repo: String,
    pub attempt: i64,
    pub fence: i64,
    pub head: Sha,
    pub base: Sha,
    pub tree: String,
    pub state: DeployState,
    pub actor: Actor,
    pub landed_sha: Option<Sha>,
    /// The result, once it is settled.
    pub result: Option<DeployResult>,
    pub initiated_at: Stamp,
}

impl Deploy {
    /// The task's critical window while this deploy is under way (RULE-16).
    pub fn window(&self) -> Window {
        Window::Deploy { id: self.id.clone() }
    }

    /// The deploy that counts among a task's, given oldest first: the newest that was not withdrawn (RULE-18).
    pub fn newest(deploys: &[Self]) -> Option<&Self> {
        deploys.iter().rev().find(|d| d.state != DeployState::Withdrawn)
    }
}

/// A credential whose usage window is used up (RUN-7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cooldown {
    pub credential: String,
    /// Wall milliseconds: a service's own reset time.
    pub until: i64,
    pub reason: String,
    /// The run that goes first after it (RULE-26).
    pub canary: Option<RunId>,
}
