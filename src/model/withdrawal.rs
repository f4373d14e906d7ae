//! Why a task is held although nothing of it failed: somebody withdrew its work item, its pull request or its branch
//! (RULE-31, BRD-4).

use super::ids::Sha;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One cause; `Display` makes the sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Withdrawal {
    /// The work item is gone, archived or a draft.
    ItemGone,
    /// The work item was moved to a closed status; its name as the board shows it.
    ItemClosed {
        status: String,
    },
    /// `blocked_by` names work items that nobody knows.
    UnknownBlockers {
        names: Vec<String>,
    },
    PullClosed {
        number: i64,
    },
    PullGone {
        number: i64,
    },
    /// The pull request now targets another branch.
    PullRetargeted {
        number: i64,
        base: String,
    },
    BranchGone {
        branch: String,
    },
    /// Merged without a landing certificate; `pull`: its pull request, where the forge has one.
    Merged {
        pull: Option<i64>,
        commit: Option<Sha>,
    },
}

impl Withdrawal {
    /// Whether it was seen on the forge: such a hold lasts until a person's `orch retry`, whereas the board restores
    /// what it withdrew.
    pub fn on_forge(&self) -> bool {
        match self {
            Self::ItemGone | Self::ItemClosed { .. } | Self::UnknownBlockers { .. } => false,
            Self::PullClosed { .. }
            | Self::PullGone { .. }
            | Self::PullRetargeted { .. }
            | Self::BranchGone { .. }
            | Self::Merged { .. } => true,
        }
    }

    /// Whether both have the same cause, whatever its details.
    pub fn same_cause(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// Something nobody released is on the default branch: the repository freezes.
    pub fn freezes(&self) -> bool {
        matches!(self, Self::Merged { .. })
    }

    /// The sentence with its way out, where a command of `orch` is one.
    pub fn advice(&self, key: &super::ids::Key) -> String {
        match self {
            Self::ItemGone | Self::ItemClosed { .. } | Self::UnknownBlockers { .. } => self.to_string(),
            Self::Merged { .. } => {
                format!("{self}; `orch stop {key}` ends it, `orch retry {key}` checks again after a revert")
            }
            Self::PullClosed { .. } | Self::PullGone { .. } | Self::PullRetargeted { .. } => {
                format!("{self}; `orch retry {key}` opens a new one and continues, `orch stop {key}` ends it")
            }
            Self::BranchGone { .. } => {
                format!("{self}; `orch retry {key}` restores it and continues, `orch stop {key}` ends it")
            }
        }
    }
}

impl fmt::Display for Withdrawal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FORGE: &str = "withdrawn on the forge";
        match self {
            Self::ItemGone => f.write_str("its work item is gone from the board: withdrawn by a person"),
            Self::ItemClosed { status } => {
                write!(f, "its work item was moved to {status:?} on the board: withdrawn by a person")
            }
            Self::UnknownBlockers { names } => {
                write!(f, "blocked_by names {}, which is not a known work item", names.join(", "))
            }
            Self::PullClosed { number } => write!(f, "pull request {number} was closed: {FORGE}"),
            Self::PullGone { number } => write!(f, "pull request {number} is gone: {FORGE}"),
            Self::PullRetargeted { number, base } => {
                write!(f, "pull request {number} now has the base {base}: {FORGE}")
            }
            Self::BranchGone { branch } => write!(f, "branch {branch} is gone from the remote: {FORGE}"),
            Self::Merged { pull, commit } => {
                match pull {
                    Some(number) => write!(f, "pull request {number} was merged by a person")?,
                    None => f.write_str("its branch was merged by a person")?,
                }
                if let Some(commit) = commit {
                    write!(f, " ({} is in the default branch)", commit.short())?;
                }
                write!(f, ", before orch's requirements were met: {FORGE}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Key;

    #[test]
    fn every_cause_is_read_back_and_says_what_happened_and_the_way_out() {
        let key = Key::parse("ORCH-7").unwrap();
        let all = [
            (Withdrawal::ItemGone, "gone from the board", false),
            (Withdrawal::ItemClosed { status: "on the forge".into() }, "moved to \"on the forge\"", false),
            (Withdrawal::UnknownBlockers { names: vec!["a".into(), "b".into()] }, "blocked_by names a, b", false),
            (Withdrawal::PullClosed { number: 3 }, "pull request 3 was closed", true),
            (Withdrawal::PullGone { number: 3 }, "pull request 3 is gone", true),
            (Withdrawal::PullRetargeted { number: 3, base: "next".into() }, "now has the base next", true),
            (Withdrawal::BranchGone { branch: "feature/x".into() }, "branch feature/x is gone", true),
            (Withdrawal::Merged { pull: Some(3), commit: None }, "pull request 3 was merged by a person", true),
            (Withdrawal::Merged { pull: None, commit: None }, "its branch was merged by a person", true),
        ];
        for (cause, said, forge) in all {
            let text = serde_json::to_string(&cause).unwrap();
            assert_eq!(serde_json::from_str::<Withdrawal>(&text).unwrap(), cause);
            assert!(cause.to_string().contains(said), "{cause}");
            assert_eq!(cause.on_forge(), forge, "{cause}");
            assert_eq!(cause.advice(&key).contains("orch retry ORCH-7"), forge, "{}", cause.advice(&key));
        }
    }
}
