//! What `status --json` shows (CLI-3), as plain data. The field comments are printed in `docs/cli.md`; a field once
//! released is not renamed.

use super::report::Rule;
use super::stage::{Agent, JobKind, Stage};
use super::task::{PullRef, Waiting};
use schemars::JsonSchema;
use serde::Serialize;

/// The whole document.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Status {
    /// One row per work item: its live or latest task
    pub tasks: Vec<TaskRow>,
    /// Jobs by state, over all time
    pub queue: QueueBlock,
    /// STOP and HALT
    pub stop: StopBlock,
    /// The reaper
    pub reaper: ReaperBlock,
    /// One task after the other, and what is frozen
    pub serial_gate: SerialGateBlock,
    /// Labels that replace a person's answer
    pub auto_labels: AutoLabelsBlock,
    /// The boards
    pub reconcile: ReconcileBlock,
    /// Boards, forges and git remotes that are unavailable now
    pub services_down: Vec<ServiceRow>,
    /// Whether setup and CI pass on each project's base
    pub base: Vec<BaseRow>,
    /// Merge leases that are held
    pub merge_lease: Vec<LeaseRow>,
    /// What holds agents and the branch's code, by project
    pub confinement: Vec<ConfinementRow>,
    /// The security gate
    pub security: SecurityBlock,
    /// The watch over what was deployed
    pub post_deploy: PostDeployBlock,
    /// Messages under way
    pub outbox: OutboxBlock,
    /// What may run at once and cost
    pub limits: LimitsBlock,
}

/// The base of a repository, or of a part of one.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct BaseRow {
    /// What `orch logs --base` takes: the repository, or the key of a project with `paths`
    pub repo: String,
    /// The commit tried last
    pub commit: Option<String>,
    pub state: super::base::BaseState,
    /// Since when it is so
    pub since: Option<String>,
    /// One sentence; empty: nothing to say
    pub why: String,
    /// It could not be checked, whatever its last known state is.
    #[serde(skip)]
    #[schemars(skip)]
    pub unchecked: bool,
}

/// A task as `status` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct TaskRow {
    /// The task's number
    pub id: i64,
    /// The work item's own key, tombstoned or not
    pub key: String,
    pub title: String,
    /// The project's key
    pub project: String,
    pub stage: Stage,
    /// Developer round, from 1
    pub attempt: i64,
    pub branch: Option<String>,
    /// What it waits for from a person
    pub waiting_for: Option<Waiting>,
    /// Why it is blocked; `orch retry` lifts it
    pub blocked_reason: Option<String>,
    /// What holds it, by the decision the next step acts on; null: nothing, or it is being worked
    pub held_by: Option<HeldBy>,
    /// When a stop was recorded
    pub cancel_requested_at: Option<String>,
    /// The job being worked
    pub running_job: Option<RunningJob>,
    /// Known cost of all its runs in US dollars; null: it ran, and no cost is known
    pub cost_usd: Option<f64>,
    /// Its next agent would run unconfined, with all rights of this account
    pub unconfined: bool,
    /// The pull request
    pub pr: Option<PullRef>,
    pub created_at: String,
    pub updated_at: String,
    pub finished_at: Option<String>,
    /// Since when it waits for a person.
    #[serde(skip)]
    pub waiting_since: Option<String>,
    /// Some run's cost is unknown: the sum is a lower bound.
    #[serde(skip)]
    pub cost_is_least: bool,
    /// Still something to do: not terminal, or done and being watched.
    #[serde(skip)]
    pub open: bool,
}

/// What holds some runs of a project, as the last step found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ConfinementRow {
    /// The project's key
    pub project: String,
    /// Whose runs: `commands` (CI, setup, checks) and agents by name
    pub of: Vec<String>,
    /// `bubblewrap`, `landlock`, `command` or `unconfined`; null: nothing of them starts (rule `confinement`)
    pub held: Option<String>,
    /// Why nothing starts, and the way out
    pub why: Option<String>,
    /// `network: open`: they reach all that this account reaches, this machine's own ports included
    pub network_open: bool,
}

/// Why a task does not move now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HeldBy {
    /// A rule name, the same as in a step's `skipped`
    pub rule: Rule,
    pub why: String,
    /// Until when, if that is known
    pub until: Option<String>,
}

/// A claimed job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RunningJob {
    pub job: i64,
    pub kind: JobKind,
    pub agent: Option<Agent>,
    /// Its run, the argument of `orch logs --run`
    pub run: Option<i64>,
    pub since: Option<String>,
    /// It waits in Slurm's queue, for this reason as Slurm calls it (CLU-4)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued: Option<String>,
}

/// Jobs by state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct QueueBlock {
    pub queued: i64,
    pub running: i64,
    pub done: i64,
    pub failed: i64,
    pub cancelled: i64,
}

/// STOP and HALT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StopBlock {
    /// `stop.status_enabled`
    pub enabled: bool,
    /// Set by `orch halt`: nothing new starts
    pub halted: bool,
    pub halt_reason: Option<String>,
    /// Tasks with a recorded stop that is not carried out yet: `{task, since, reason, deferred}`
    pub pending: Vec<StopRow>,
}

/// A recorded stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StopRow {
    pub task: String,
    pub since: Option<String>,
    pub reason: Option<String>,
    /// A critical window is open
    pub deferred: bool,
}

/// The reaper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReaperBlock {
    /// `reaper.enabled`
    pub enabled: bool,
    pub interval_s: u64,
    pub dead_ticks: u32,
    pub finalize_grace_s: u64,
    pub max_running_s: u64,
    /// Runs that are not settled
    pub open_runs: i64,
    /// Runs whose supervisor was seen gone: `{task, run, seen}`
    pub suspects: Vec<Suspect>,
}

/// A run that is about to be reaped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Suspect {
    pub task: String,
    pub run: i64,
    /// So many looks found its supervisor gone
    pub seen: i64,
}

/// The serial gate and freezes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SerialGateBlock {
    /// `serial_gate.enabled`
    pub enabled: bool,
    /// Repositories in its scope
    pub repos: Vec<String>,
    /// Frozen repositories, in scope or not: `{repo, since, reason, task}`
    pub frozen: Vec<FrozenRow>,
}

/// A frozen repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FrozenRow {
    pub repo: String,
    pub since: String,
    pub reason: String,
    /// The task that caused it
    pub task: Option<String>,
}

/// Labels that replace a person's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AutoLabelsBlock {
    /// `auto_label.enabled`
    pub enabled: bool,
    /// Repositories in its scope
    pub repos: Vec<String>,
    pub approve_label: String,
    pub deploy_label: String,
}

/// The boards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReconcileBlock {
    /// `reconcile.enabled`
    pub enabled: bool,
    pub last_run_at: Option<String>,
    /// The last whole scan
    pub last_full_at: Option<String>,
    /// Since when a board's statuses could not be refreshed
    pub stale_since: Option<String>,
    /// Items passed over because their status is terminal, over all processes
    pub skipped_terminal_total: i64,
    /// Notices not sent twice, over all processes
    pub deduped_total: i64,
    /// Boards that asked to wait: `{project, until}`
    pub throttled: Vec<ThrottledRow>,
    /// Intents that do not steer because their status is not theirs alone: `{project, intent, why}`
    pub intents_off: Vec<IntentOffRow>,
}

/// A board that asked to wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ThrottledRow {
    pub project: String,
    pub until: String,
}

/// An intent that is off (RULE-14).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct IntentOffRow {
    pub project: String,
    pub intent: String,
    pub why: String,
}

/// A held merge lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LeaseRow {
    pub repo: String,
    pub task: Option<String>,
    /// Grows with every holder
    pub fence: i64,
    pub since: Option<String>,
    /// The process that took it lives
    pub alive: bool,
}

/// The security gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SecurityBlock {
    /// `security.gate_enabled`
    pub gate_enabled: bool,
    /// Repositories it guards: in its scope, and not switched off there
    pub repos: Vec<String>,
    pub dep_audit_enabled: bool,
    pub dep_audit_fail_closed: bool,
    pub severity_threshold: String,
    /// The last change of effective guard settings: `{at, detail}`
    pub guard_change: Option<GuardChange>,
}

/// A change of guard settings between two steps (RULE-39).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GuardChange {
    pub at: String,
    /// The settings, their variables and the caller
    pub detail: serde_json::Value,
}

/// The watch over what was deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PostDeployBlock {
    /// `post_deploy.enabled`
    pub enabled: bool,
    /// Repositories it watches: in its scope, and not switched off there
    pub repos: Vec<String>,
    /// Armed watches: `{task, repo, revision, since}`
    pub watches: Vec<WatchRow>,
}

/// An armed watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WatchRow {
    pub task: String,
    pub repo: String,
    pub revision: Option<String>,
    pub since: Option<String>,
}

/// Messages under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OutboxBlock {
    /// To be delivered
    pub open: i64,
    /// Refused for ever
    pub parked: i64,
    /// The newest parked ones: `{task, sink, error, since}`
    pub messages: Vec<ParkedRow>,
    /// Sinks that refuse, each tried again at most every 15 minutes: `{sink, why}`
    pub sinks_off: Vec<SinkOffRow>,
    /// Messages that may have been sent once too often, so far
    pub strays_total: i64,
}

/// A service that is unavailable now: a host, or what one project or account has there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ServiceRow {
    /// The host; `forge of KEY`, `git remote of KEY` and `board of KEY` where only that project is concerned
    pub name: String,
    /// When it failed first
    pub since: String,
    /// What of it fails, and what it said last
    pub why: String,
    /// Whether the alert was sent
    pub alerted: bool,
}

/// A sink that refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SinkOffRow {
    /// `telegram`, `command` or `webhook`
    pub sink: String,
    /// What it said
    pub why: String,
}

/// A message that its sink refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ParkedRow {
    pub task: Option<String>,
    pub sink: String,
    pub error: String,
    pub since: String,
}

/// Limits and what counts against them.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct LimitsBlock {
    /// 0: no limit
    pub max_concurrency: u32,
    pub running_agents: i64,
    /// 0: no limit
    pub max_cost_usd_per_task: f64,
    /// 0: no limit
    pub max_cost_usd_per_day: f64,
    /// Known cost of today's runs (UTC), in US dollars
    pub cost_today_usd: f64,
    /// What counts against the day's limit: the caps of runs in flight or of unknown cost included
    pub booked_today_usd: f64,
    pub min_free_mb: u64,
    pub free_mb: Option<u64>,
    /// Credentials whose usage window is used up: `{credential, until, reason}`
    pub cooldowns: Vec<CooldownRow>,
}

/// A cool-down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CooldownRow {
    pub credential: String,
    pub until: String,
    pub reason: String,
}
