//! What a step reports that it did (CLI-2): one object for people and scripts alike.

use super::stage::words;
use serde::Serialize;

words! {
    /// What a step did. The list is printed in `docs/cli.md`.
    ActionKind {
        TaskCreated = "task_created",
        JobEnqueued = "job_enqueued",
        JobStarted = "job_started",
        RunFinished = "run_finished",
        JobReaped = "job_reaped",
        JobCancelled = "job_cancelled",
        StageAdvanced = "stage_advanced",
        StageRolledBack = "stage_rolled_back",
        TaskBlocked = "task_blocked",
        TaskCancelled = "task_cancelled",
        CancelDeferred = "cancel_deferred",
        WorktreeCreated = "worktree_created",
        WorktreeRemoved = "worktree_removed",
        BranchCreated = "branch_created",
        BranchPushed = "branch_pushed",
        BranchRebased = "branch_rebased",
        BranchDeleted = "branch_deleted",
        PrOpened = "pr_opened",
        PrClosed = "pr_closed",
        PrMerged = "pr_merged",
        CiFinished = "ci_finished",
        ScanFinished = "scan_finished",
        ArtefactCommitted = "artefact_committed",
        LeaseAcquired = "lease_acquired",
        LeaseReleased = "lease_released",
        LeaseReclaimed = "lease_reclaimed",
        RepoFrozen = "repo_frozen",
        RepoUnfrozen = "repo_unfrozen",
        ReleaseGiven = "release_given",
        DeployInitiated = "deploy_initiated",
        DeployFinished = "deploy_finished",
        ProbeRecorded = "probe_recorded",
        BoardStatusSet = "board_status_set",
        CommentPosted = "comment_posted",
        CardUpdated = "card_updated",
        AlertSent = "alert_sent",
    }
}

words! {
    /// Which rule holds a task. The same names in `skipped`, `status`, `explain`. Printed in `docs/cli.md`.
    Rule {
        Halt = "halt",
        Freeze = "freeze",
        SerialGate = "serial_gate",
        Dependencies = "dependencies",
        MaxConcurrency = "max_concurrency",
        ProjectLimit = "project_limit",
        AgentLimit = "agent_limit",
        ReservedLimit = "reserved_limit",
        TaskCost = "task_cost",
        DayCost = "day_cost",
        Backoff = "backoff",
        Cooldown = "cooldown",
        Disk = "disk",
        Confinement = "confinement",
        /// The repository's own settings are invalid (ORD-3).
        Configuration = "configuration",
        /// The base is being tried (ORD-1).
        BasePending = "base_pending",
        BaseRed = "base_red",
        /// This machine lacks something that the work needs (RULE-45).
        Environment = "environment",
        Running = "running",
        Queued = "queued",
        Approval = "approval",
        ConfirmDeploy = "confirm_deploy",
        Blocked = "blocked",
        StopRequested = "stop_requested",
        CriticalWindow = "critical_window",
        Withdrawn = "withdrawn",
        Forge = "forge",
        Gate = "gate",
        MergeLease = "merge_lease",
        /// The forge refuses an effect of `orch` after the work was done (ORD-1); `forge` is a wait for somebody.
        ForgeRefused = "forge_refused",
        LandedNotDeployed = "landed_not_deployed",
        DeployResult = "deploy_result",
        Watch = "watch",
        Throttled = "throttled",
        Unfinished = "unfinished",
        SwitchedOff = "switched_off",
        Terminal = "terminal",
    }
}

/// One thing done (or, with `--dry-run`, to be done).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActionLine {
    pub kind: ActionKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    #[serde(flatten)]
    pub detail: serde_json::Map<String, serde_json::Value>,
}

impl ActionLine {
    /// `detail` must be a JSON object; anything else is stored under `detail`.
    pub fn new(kind: ActionKind, task: Option<&str>, detail: serde_json::Value) -> Self {
        let detail = match detail {
            serde_json::Value::Object(map) => map,
            serde_json::Value::Null => serde_json::Map::new(),
            other @ (serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::String(_)
            | serde_json::Value::Array(_)) => std::iter::once(("detail".to_owned(), other)).collect(),
        };
        Self { kind, task: task.map(str::to_owned), detail }
    }
}

/// What holds a task, why, and until when if that is known (RFC 3339).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    pub rule: Rule,
    pub why: String,
    pub until: Option<String>,
}

/// One fault that did not stop the rest of the step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorLine {
    /// The exit code that this fault alone would have given.
    pub code: u8,
    pub message: String,
    pub hint: Option<String>,
    pub task: Option<String>,
}

/// The object a step prints with `--json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    pub step: &'static str,
    pub changed: bool,
    pub actions: Vec<ActionLine>,
    pub skipped: Vec<Held>,
    pub errors: Vec<ErrorLine>,
    /// What a person should know although it stops nothing; left out where there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// What continues on its own (`1 agent at work`), for people who read that there was nothing to do.
    #[serde(skip)]
    pub at_work: Option<String>,
    pub duration_ms: u64,
    /// Further fields of one step (`verdict`, `findings`, `checks`, `probes`).
    #[serde(flatten)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl StepReport {
    pub fn new(step: &'static str) -> Self {
        Self {
            step,
            changed: false,
            actions: Vec::new(),
            skipped: Vec::new(),
            errors: Vec::new(),
            notices: Vec::new(),
            at_work: None,
            duration_ms: 0,
            extra: serde_json::Map::new(),
        }
    }

    /// Records an action; the step then counts as `changed`.
    pub fn did(&mut self, kind: ActionKind, task: Option<&str>, detail: serde_json::Value) {
        self.changed = true;
        self.actions.push(ActionLine::new(kind, task, detail));
    }

    /// Records what holds a task.
    pub fn hold(&mut self, task: Option<&str>, rule: Rule, why: impl Into<String>) {
        self.skipped.push(Held { task: task.map(str::to_owned), rule, why: why.into(), until: None });
    }

    /// Records once what a person should know although it stops nothing.
    pub fn note(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.notices.contains(&what) {
            self.notices.push(what);
        }
    }

    /// Records a fault of the step's own work (exit 3 at the end).
    pub fn fault(&mut self, task: Option<&str>, message: impl Into<String>, hint: Option<String>) {
        self.errors.push(ErrorLine { code: 3, message: message.into(), hint, task: task.map(str::to_owned) });
    }

    /// Records somebody else's fault that affects one item only: reported, and no failure of the step (RULE-44).
    pub fn others_fault(&mut self, task: Option<&str>, message: impl Into<String>, hint: Option<String>) {
        self.errors.push(ErrorLine { code: 0, message: message.into(), hint, task: task.map(str::to_owned) });
    }

    /// Whether nothing was done, nothing is held and nothing failed.
    pub fn is_idle(&self) -> bool {
        self.actions.is_empty() && self.skipped.is_empty() && self.errors.is_empty()
    }

    /// Whether some of the step's own work failed (exit 3).
    pub fn failed(&self) -> bool {
        self.errors.iter().any(|e| e.code != 0)
    }
}
