//! What a card and an alert say, as plain data (NTF-1, NTF-2), and how a delivery can end (NTF-3).

use super::ids::TaskId;
use super::inputs::Input;
use super::shown::Line;
use super::stage::{Agent, JobKind, Stage, words};

words! {
    /// The language of cards and alerts (`notify.locale`).
    Locale { En = "en", Ru = "ru" }
}

words! {
    /// What an alert is about; the word is the first part of its cause key.
    AlertKind {
        ApprovalWanted = "approval_wanted",
        ConfirmDeployWanted = "confirm_deploy_wanted",
        AutoApproveUsed = "auto_approve_used",
        AutoDeployUsed = "auto_deploy_used",
        Blocked = "blocked",
        Degraded = "degraded",
        Frozen = "frozen",
        Cancelled = "cancelled",
        /// A stop that waits for a critical window, or was too late.
        StopDeferred = "stop_deferred",
        CostLimit = "cost_limit",
        UsageLimit = "usage_limit",
        ServiceDown = "service_down",
        ServiceBack = "service_back",
        /// Setup or CI fails on a repository's base, so that no agent starts.
        BaseRed = "base_red",
        BaseGreen = "base_green",
        /// The remote's default branch has another name.
        DefaultBranch = "default_branch",
        GuardChanged = "guard_changed",
        Withdrawn = "withdrawn",
        /// The forge waits for a person before it merges.
        ForgeWaits = "forge_waits",
        RolledBack = "rolled_back",
        /// `deploy.artefacts_after_merge: branch`, and the default branch does not accept them.
        ArtefactsRefused = "artefacts_refused",
        MessageParked = "message_parked",
        /// This machine has no engine that holds runs (BND-2).
        Confinement = "confinement",
        /// An agent's work contained a known secret; it was not pushed.
        SecretFound = "secret_found",
    }
}

impl AlertKind {
    /// Whether a person is asked to do something: such a message rings, the others are silent (NTF-1).
    pub fn asks_a_person(self) -> bool {
        match self {
            Self::ApprovalWanted
            | Self::ConfirmDeployWanted
            | Self::Blocked
            | Self::Degraded
            | Self::Frozen
            | Self::CostLimit
            | Self::ServiceDown
            | Self::BaseRed
            | Self::GuardChanged
            | Self::Withdrawn
            | Self::ForgeWaits
            | Self::ArtefactsRefused
            | Self::MessageParked
            | Self::SecretFound
            | Self::Confinement => true,
            Self::ServiceBack
            | Self::BaseGreen
            | Self::DefaultBranch
            | Self::AutoApproveUsed
            | Self::AutoDeployUsed
            | Self::Cancelled
            | Self::StopDeferred
            | Self::UsageLimit
            | Self::RolledBack => false,
        }
    }
}

/// The subject of an alert: the middle of its cause key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause<'a> {
    Task(TaskId),
    /// A repository, a service, a credential: its configured name.
    Named(&'a str),
}

/// The outbox key of an alert (NTF-2, RULE-41). `number` is the attempt, block, epoch or freeze number of this cause.
/// The same cause makes the same key in every process, and the key contains no time.
pub fn cause_key(kind: AlertKind, cause: Cause<'_>, number: i64) -> String {
    match cause {
        Cause::Task(id) => format!("alert/{kind}/t{id}/{number}"),
        Cause::Named(name) => format!("alert/{kind}/n:{name}/{number}"),
    }
}

/// What an alert says. Every text is shown escaped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertData {
    /// The work item's key, or empty.
    pub key: String,
    pub url: Option<String>,
    /// The task's title, or the name of the repository, service or credential.
    pub title: String,
    /// One or a few sentences: the reason, the limit, the variables.
    pub detail: String,
    /// For a question: what it is about (ORD-5); the title is quoted among it.
    pub lines: Vec<Line>,
    /// For a question: the status that answers it on the board; `None`: only a command does.
    pub answer: Option<String>,
    /// Sent before with an outcome that stayed unknown: the message says that it may be a repeat (RULE-41).
    pub repeated: bool,
}

/// One run as the card counts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardRun {
    pub stage: Stage,
    pub kind: JobKind,
    pub agent: Option<Agent>,
    pub attempt: i64,
    /// The stay in the stage that it belongs to.
    pub epoch: i64,
    pub state: CardRunState,
    /// Wall milliseconds.
    pub started_at: i64,
    pub ended_at: Option<i64>,
    /// Millionths of a dollar. `None` is unknown for an agent's run and nothing for any other.
    pub cost_micros: Option<i64>,
    pub tokens_in: Option<i64>,
    pub tokens_out: Option<i64>,
    pub model: Option<String>,
    pub effort: Option<String>,
}

/// How far a run got, as the card shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardRunState {
    Running,
    Done,
    /// Failed or lost.
    Failed,
}

/// What is asked of a person, or what holds the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// With the status that answers it on the board; `None`: only a command does.
    Approval(Option<String>),
    ConfirmDeploy(Option<String>),
    /// With its reason; `retry` lifts it.
    Blocked(String),
    /// A person closed or deleted the pull request or branch.
    Withdrawn(String),
    /// What the forge waits for before it merges.
    Forge(String),
    /// The repository is frozen, with the reason.
    Frozen(String),
}

/// Everything a card shows (NTF-1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardData {
    pub key: String,
    /// Where the work item is; only `http(s)` becomes a link.
    pub url: Option<String>,
    pub title: String,
    pub stage: Stage,
    /// For a cancelled task: the stage it was in (its position stays there).
    pub stopped_stage: Option<Stage>,
    /// Stages of the project; `Stage::next` decides what may be absent.
    pub stages: Vec<Stage>,
    pub attempt: i64,
    pub epoch: i64,
    /// A job of the present stage is running.
    pub running: bool,
    pub asks: Vec<Ask>,
    /// What the question to a person is about (ORD-5).
    pub wait: Vec<Line>,
    /// What decides the meaning of CI and was changed (BND-5).
    pub inputs: Vec<Input>,
    pub pr_url: Option<String>,
    /// Further lines: waived staging checks, a gate that does not apply.
    pub notes: Vec<String>,
    /// Every run of the task, oldest first.
    pub runs: Vec<CardRun>,
    /// Wall milliseconds, for runs that have not ended.
    pub now_ms: i64,
}

/// A message in both forms: `html` for Telegram, `plain` for files, terminals and a sink that refuses the markup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    pub html: String,
    pub plain: String,
}

/// How one delivery ended, whatever the sink (NTF-3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// Delivered, or already there.
    Yes,
    /// The sink asks to wait this many seconds.
    Throttled { retry_after_s: u64 },
    /// Nothing arrived; a later step may try again.
    NotNow { why: String },
    /// It may or may not have arrived.
    Unknown { why: String },
    /// Refused permanently: parked, shown by `status`.
    Refused { why: String },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn one_cause_has_one_key_and_another_cause_another() {
        let mut keys = HashSet::new();
        for kind in AlertKind::ALL {
            for number in [1, 2] {
                assert!(keys.insert(cause_key(*kind, Cause::Task(TaskId(7)), number)));
                assert!(keys.insert(cause_key(*kind, Cause::Task(TaskId(71)), number)));
                assert!(keys.insert(cause_key(*kind, Cause::Named("t7"), number)));
            }
        }
        let blocked = cause_key(AlertKind::Blocked, Cause::Task(TaskId(7)), 2);
        assert_eq!(blocked, "alert/blocked/t7/2");
        assert_eq!(blocked, cause_key(AlertKind::Blocked, Cause::Task(TaskId(7)), 2));
    }
}
