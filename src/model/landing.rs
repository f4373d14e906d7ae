//! What one check of a repository shows of a task's landing: facts, judged by `decide::landing`.

use super::ids::Sha;

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
    /// A commit of `base..tip` that is one of ours, or carries one of ours over (rebased, picked, squashed).
    pub ours: Option<Sha>,
}

/// The pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullSeen {
    /// There is none, or the forge keeps none.
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
