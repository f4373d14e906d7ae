//! What happens to a task next: the output of every decision, and all that `apply` needs to do it.

use super::change::Budget;
use super::finding::Finding;
use super::report::Rule;
use super::stage::{JobKind, Stage, words};
use super::task::{NewJob, Waiting};

/// A gate's answer (three-valued: PASS, FAIL, UNDECIDED), with one sentence that says why.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Pass {
        why: String,
    },
    /// Evidence of something bad: back to development with these findings. `squash`: the rework must leave the branch's
    /// history as one commit (RUN-4).
    Fail {
        why: String,
        findings: Vec<Finding>,
        squash: bool,
    },
    /// A verdict no longer holds for the head: back to its stage, no attempt spent (RULE-4).
    Stale {
        to: Stage,
        why: String,
    },
    /// Could not check, past its bound: blocks without spending an attempt.
    Stuck {
        why: String,
        freeze: bool,
    },
    Undecided {
        why: String,
        need: Need,
    },
}

/// What an undecided gate needs first.
#[derive(Debug, Clone, PartialEq)]
pub enum Need {
    Job(NewJob),
    Person(Waiting),
    Procedure(Procedure),
    Wait { rule: Rule, until: Option<i64> },
}

words! {
    /// What the step itself does outside the database (long work is a job).
    Procedure {
        /// Take the lease, update the branch onto the default branch, record what was seen.
        MergeGate = "merge_gate",
        /// List what decides the meaning of CI and differs between base and head (BND-5).
        VerdictInputs = "verdict_inputs",
        /// Open the critical window: certificate, INITIATED.
        OpenDeploy = "open_deploy",
        /// Merge, or find that it is merged.
        Land = "land",
        /// Open the pull request that the forge refused before (ORD-1).
        OpenPull = "open_pull",
        /// Carry out a recorded stop.
        CompleteStop = "complete_stop",
    }
}

impl Procedure {
    /// Whether it works in the repository, which is then made ready first.
    pub fn needs_repository(self) -> bool {
        match self {
            Self::MergeGate | Self::OpenDeploy | Self::OpenPull => true,
            Self::Land | Self::VerdictInputs | Self::CompleteStop => false,
        }
    }

    /// Whether it follows `.orch.yaml` (`merge.update`, `merge.method`). Where that file is invalid, the installation's
    /// setting does not replace it (ORD-3). An open window settles its own case: the merge itself checks the file.
    pub fn is_by_repository(self) -> bool {
        match self {
            Self::MergeGate | Self::OpenDeploy => true,
            Self::Land | Self::VerdictInputs | Self::OpenPull | Self::CompleteStop => false,
        }
    }
}

/// The next thing for one task.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    Hold {
        rule: Rule,
        why: String,
        until: Option<i64>,
    },
    Enqueue(NewJob),
    Park {
        waiting: Waiting,
        /// What whoever answers is shown first, in addition to what was changed; may be empty.
        text: String,
    },
    /// A label answers for the person (BRD-5).
    Release {
        waiting: Waiting,
        /// Its name.
        label: String,
    },
    Advance {
        to: Stage,
        why: String,
    },
    Rollback {
        why: String,
        findings: Vec<Finding>,
        squash: bool,
        /// How often in a row these same findings have now come back.
        same: i64,
        budget: Budget,
    },
    Return {
        to: Stage,
        why: String,
    },
    Block {
        why: String,
        /// The rollback that the budget prevents.
        held: Option<Vec<Finding>>,
        freeze: bool,
    },
    Finish {
        why: String,
        watch: bool,
    },
    Procedure(Procedure),
}

impl Decision {
    /// The hold, if it is one: rule, sentence and until when (wall milliseconds).
    pub fn hold(&self) -> Option<(Rule, &str, Option<i64>)> {
        match self {
            Self::Hold { rule, why, until } => Some((*rule, why, *until)),
            Self::Enqueue(_)
            | Self::Park { .. }
            | Self::Release { .. }
            | Self::Advance { .. }
            | Self::Rollback { .. }
            | Self::Return { .. }
            | Self::Block { .. }
            | Self::Finish { .. }
            | Self::Procedure(_) => None,
        }
    }

    /// Whether it moves the task, asks a person, or has an agent start: another hand is checked for first (RULE-31).
    pub fn is_a_move(&self) -> bool {
        match self {
            Self::Advance { .. }
            | Self::Park { .. }
            | Self::Release { .. }
            | Self::Rollback { .. }
            | Self::Return { .. }
            | Self::Block { .. } => true,
            Self::Enqueue(job) => job.kind == JobKind::Agent,
            // A question to a person, or the label's answer, follows at once.
            Self::Procedure(effect) => *effect == Procedure::VerdictInputs,
            Self::Hold { .. } | Self::Finish { .. } => false,
        }
    }

    /// Whether the next action follows `.orch.yaml` on the default branch, or waits until that file is valid (ORD-3).
    pub fn is_by_repository(&self) -> bool {
        match self {
            Self::Procedure(effect) => effect.is_by_repository() || *effect == Procedure::Land,
            Self::Hold { rule, .. } => *rule == Rule::Configuration,
            Self::Enqueue(_)
            | Self::Park { .. }
            | Self::Release { .. }
            | Self::Advance { .. }
            | Self::Rollback { .. }
            | Self::Return { .. }
            | Self::Block { .. }
            | Self::Finish { .. } => false,
        }
    }

    /// The decision's name, as `docs/state-machine.md` lists it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hold { .. } => "hold",
            Self::Enqueue(_) => "enqueue",
            Self::Park { .. } => "park",
            Self::Release { .. } => "release",
            Self::Advance { .. } => "advance",
            Self::Rollback { .. } => "rollback",
            Self::Return { .. } => "return",
            Self::Block { .. } => "block",
            Self::Finish { .. } => "finish",
            Self::Procedure(_) => "effect",
        }
    }
}

impl NewJob {
    /// A job to be done at once.
    pub fn now(kind: JobKind) -> Self {
        Self { kind, agent: None, subject: None, available_at: 0, reason: None }
    }
}
