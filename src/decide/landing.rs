//! What the default branch, the pull request and the task's branch say about a landing (RULE-5, RULE-31): the one
//! judgement for the merge gate, for phase B before and after its own attempt, and for every check for another hand.

use crate::model::ids::Sha;
use crate::model::landing::{Base, BranchSeen, Line, PullSeen, Seen};
use crate::model::withdrawal::Withdrawal;

/// The judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Landing {
    /// A commit on the default branch's own line has the tested tree, and the task was released to land: that commit is
    /// deployed, not the tip or the branch's head.
    Landed { commit: Sha },
    /// Released, and something of ours is in, but no commit of the line has the tested tree: freeze, no deploy.
    Untested { why: String, commit: Option<Sha> },
    /// The default branch's history no longer contains the base.
    Rewritten { why: String },
    /// Somebody else withdrew the pull request or the branch, or merged what nobody released.
    Withdrawn(Withdrawal),
    /// The branch has another head than the one that was judged.
    HeadMoved,
    /// Nothing of ours is in, and the base has changed: back to the merge gate.
    BaseMoved,
    /// The forge says merged, but its branch does not show it yet: check again.
    Unsettled { why: String },
    /// Nothing happened, and nothing blocks it.
    NotYet,
}

/// Judges what was seen. Total, and independent of who merged, by which method, and when.
pub fn judge(seen: &Seen) -> Landing {
    let Seen { line, pull, branch, released } = seen;
    let rewritten = line.base_kept == Base::Gone;
    if let Some(commit) = line.tested.as_ref().filter(|_| *released && !rewritten) {
        return Landing::Landed { commit: commit.clone() };
    }
    if let Some(commit) = merged(line, pull) {
        if *released {
            return Landing::Untested { why: untested(line, commit.as_ref()), commit };
        }
        let number = match pull {
            PullSeen::Merged { number, .. } => Some(*number),
            PullSeen::None
            | PullSeen::Open { .. }
            | PullSeen::Closed { .. }
            | PullSeen::Gone { .. }
            | PullSeen::Retargeted { .. } => None,
        };
        return Landing::Withdrawn(Withdrawal::Merged { pull: number, commit });
    }
    if rewritten {
        let why = format!(
            "the history of the default branch was rewritten: {} no longer contains {}, on which the task is based",
            line.tip.short(),
            line.base.short()
        );
        return Landing::Rewritten { why };
    }
    match pull {
        PullSeen::Merged { number, .. } => {
            return Landing::Unsettled {
                why: format!("pull request {number} is shown as merged, but nothing has landed"),
            };
        }
        PullSeen::Closed { number } => return Landing::Withdrawn(Withdrawal::PullClosed { number: *number }),
        PullSeen::Gone { number } => return Landing::Withdrawn(Withdrawal::PullGone { number: *number }),
        PullSeen::Retargeted { number, base } => {
            return Landing::Withdrawn(Withdrawal::PullRetargeted { number: *number, base: base.clone() });
        }
        PullSeen::None | PullSeen::Open { .. } => {}
    }
    match branch {
        BranchSeen::Gone { branch } => return Landing::Withdrawn(Withdrawal::BranchGone { branch: branch.clone() }),
        BranchSeen::Elsewhere => return Landing::HeadMoved,
        BranchSeen::AtHead => {}
    }
    if line.tip == line.base { Landing::NotYet } else { Landing::BaseMoved }
}

/// Whether something of ours is on the default branch; the commit, where one is known.
fn merged(line: &Line, pull: &PullSeen) -> Option<Option<Sha>> {
    if let Some(commit) = &line.ours {
        return Some(Some(commit.clone()));
    }
    match pull {
        // While the tip is still the base, nothing has landed yet.
        PullSeen::Merged { commit, .. } if line.tip != line.base => Some(commit.clone()),
        PullSeen::Merged { .. }
        | PullSeen::None
        | PullSeen::Open { .. }
        | PullSeen::Closed { .. }
        | PullSeen::Gone { .. }
        | PullSeen::Retargeted { .. } => None,
    }
}

fn untested(line: &Line, commit: Option<&Sha>) -> String {
    let what = commit.map_or_else(|| "the pull request".to_owned(), |c| c.short().to_owned());
    format!(
        "{what} is in the default branch, but untested: from {} to {} no commit has the tested tree",
        line.base.short(),
        line.tip.short()
    )
}

#[cfg(test)]
#[path = "landing_tests.rs"]
mod tests;
