//! What one check of a repository shows about a task's landing: facts, judged by `decide::landing`.

use super::ids::Sha;
use super::stage::words;
use serde::{Deserialize, Serialize};

/// Everything that the judgement rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub line: Line,
    pub pull: PullSeen,
    pub branch: BranchSeen,
    /// The task is in `deploy` and its landing certificate holds (RULE-4).
    pub released: bool,
}

/// Whether the expected base is still part of the default branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    Kept,
    Gone,
}

/// The default branch from the expected base to its tip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub base: Sha,
    pub tip: Sha,
    pub base_kept: Base,
    /// The first commit of the first-parent line of `base..tip` with the tested tree.
    pub tested: Option<Sha>,
    /// A commit of `base..tip` that is one of ours, or a copy of one of ours (rebased, picked, squashed).
    pub ours: Option<Sha>,
}

/// The pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullSeen {
    /// There is none, or the forge has no pull requests.
    None,
    Open {
        number: i64,
    },
    Merged {
        number: i64,
        commit: Option<Sha>,
    },
    Closed {
        number: i64,
    },
    Gone {
        number: i64,
    },
    Retargeted {
        number: i64,
        base: String,
    },
}

/// The task's branch on the remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BranchSeen {
    AtHead,
    Elsewhere,
    Gone { branch: String },
}

words! {
    /// What a forge waits for before it merges (GH-1, rule `forge`).
    Awaited {
        /// Statuses or checks that the forge itself requires.
        Checks = "checks",
        Approval = "approval",
        /// A reviewer asked for changes, or was asked and has not answered.
        Review = "review",
        /// The pull request is marked as work in progress.
        Draft = "draft",
        MergeRight = "merge_right",
        Signature = "signature",
        ProtectedFiles = "protected_files",
        CodeOwners = "code_owners",
        /// A deployment that has to succeed first.
        Deployments = "deployments",
        /// Other pull requests are in the merge queue, and what would land with them was never tested.
        MergeQueue = "merge_queue",
        /// It is in the merge queue.
        Queued = "queued",
        /// Another rule of the branch; the forge's words name it.
        Rule = "rule",
    }
}

impl Awaited {
    /// Whether only others end it: such a wait has no bound and is reported once. Checks, also those of a merge queue,
    /// arrive on their own or never.
    pub fn by_person(self) -> bool {
        !matches!(self, Self::Checks | Self::Queued)
    }

    /// What ends it.
    pub fn way_out(self) -> &'static str {
        match self {
            Self::Checks => "the statuses that the forge requires turn green",
            Self::Approval => "somebody approves the pull request on the forge",
            Self::Review => "the requested reviewers, and those who requested changes, approve or are dismissed",
            Self::Draft => "the work-in-progress mark is removed from the pull request",
            Self::MergeRight => "the account of forge.token may merge into the default branch",
            Self::Signature => "the branch rule no longer requires signed commits, which orch does not make",
            Self::ProtectedFiles => "the branch rule no longer protects the files that the change touches",
            Self::CodeOwners => "the code owners of the changed files approve the pull request",
            Self::Deployments => "the deployments that the branch rule requires succeed",
            Self::MergeQueue => "the merge queue is empty",
            Self::Queued => "the merge queue has merged it",
            Self::Rule => "the branch rule's requirement is met, or the rule no longer has it",
        }
    }
}

/// The forge's answer to a merge request, where a check then shows that nothing of the task landed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergeAnswer {
    /// It says merged, as tested or otherwise.
    Merged,
    BaseMoved,
    HeadMoved,
    Conflict {
        paths: Vec<String>,
    },
    /// It is still computing.
    NotYet {
        reason: String,
    },
    /// Pull request or branch is closed or gone.
    Withdrawn {
        reason: String,
    },
    /// It names what it waits for.
    Awaits {
        what: Awaited,
        said: String,
    },
    /// It refuses, whoever asks.
    Refused {
        reason: String,
    },
    /// It did not answer, or nobody knows what it did.
    Silent,
    /// It refuses this account, or knows no such pull request.
    Denied {
        reason: String,
    },
    Failed {
        reason: String,
    },
}

/// A merge that the forge does not make for now: retried automatically, the release stays (GH-1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaits {
    /// The deploy whose merge it is.
    pub deploy: String,
    pub what: Awaited,
    /// In the forge's words.
    pub said: String,
    /// How often it was asked.
    pub asked: i64,
    /// Wall milliseconds before which it is not asked again.
    pub until: i64,
    /// The merge lease was given back meanwhile, and the deploy withdrawn with nothing done: the wait continues
    /// (RUN-8).
    #[serde(default)]
    pub lease_free: bool,
}
