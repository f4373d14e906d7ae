//! What a check of a landing, and the forge's answer to a merge, mean for the deploy that is under way (SHIP-5, RULE-5,
//! RULE-18, RULE-31): the tables of phase B and of the merge gate. Pure; the engine acts.

use super::landing::Landing;
use crate::model::ids::Sha;
use crate::model::landing::Awaited;

/// What the forge said to a merge that it was asked for, where a check then shows that nothing of the task landed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergeAnswer {
    /// It says merged, as tested or otherwise.
    Merged,
    BaseMoved,
    HeadMoved,
    Conflict {
        paths: Vec<String>,
    },
    /// It still computes.
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
    /// It does not want it, whoever asks.
    Refused {
        reason: String,
    },
    /// It did not answer, or nobody knows what it did.
    Silent,
    /// It says no to this account, or knows no such pull request.
    Denied {
        reason: String,
    },
    Failed {
        reason: String,
    },
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterMerge {
    /// Checked again, for as long as a gate may be undecided.
    NotYet { why: String },
    /// The deploy is withdrawn, and the merge gate judges again.
    BackToGate { why: String },
    /// The release stays; the merge is asked for again once the wait is over.
    Await { what: Awaited, said: String },
    /// The deploy is withdrawn, and the task blocked: a person has to look.
    GiveUp { withdrawn: String, blocked: String },
    /// The window stays open: the next step checks first.
    Unknown,
    /// The deploy is withdrawn, and the merge asked for again within the bound of every effect (ORD-1).
    AskAgain { why: String },
}

/// The table of answers: nothing has happened, so that the answer's own words count.
pub fn after_answer(answer: MergeAnswer) -> AfterMerge {
    let not_yet = |why: &str| AfterMerge::NotYet { why: why.to_owned() };
    match answer {
        MergeAnswer::Merged => not_yet("it says merged, and the default branch does not show it"),
        MergeAnswer::BaseMoved => not_yet("the default branch moved and came back"),
        MergeAnswer::NotYet { reason } | MergeAnswer::Withdrawn { reason } => AfterMerge::NotYet { why: reason },
        MergeAnswer::HeadMoved => AfterMerge::BackToGate { why: "the branch moved".to_owned() },
        MergeAnswer::Conflict { paths } => AfterMerge::BackToGate { why: format!("conflict in {}", paths.join(", ")) },
        MergeAnswer::Awaits { what, said } => AfterMerge::Await { what, said },
        MergeAnswer::Refused { reason } => {
            let blocked = format!("the forge refuses the merge: {reason}");
            AfterMerge::GiveUp { withdrawn: reason, blocked }
        }
        MergeAnswer::Silent => AfterMerge::Unknown,
        MergeAnswer::Denied { reason } => AfterMerge::AskAgain { why: reason },
        MergeAnswer::Failed { reason } => {
            let blocked = format!("the merge failed: {reason}");
            AfterMerge::GiveUp { withdrawn: reason, blocked }
        }
    }
}

/// What a check of an initiated deploy means, before and after its own attempt to merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OfDeploy {
    /// It is in the default branch as tested.
    Landed { commit: Sha },
    /// Nothing happened, and nothing stands in the way.
    Clear,
    /// Checked again, for as long as a gate may be undecided.
    NotYet { why: String },
    /// The deploy is withdrawn, and the merge gate judges again.
    BackToGate { why: String },
    /// The deploy is withdrawn, and the task held or blocked by what was seen.
    Stopped { why: String },
}

/// The table of phase B.
pub fn of_deploy(landing: &Landing) -> OfDeploy {
    match landing {
        Landing::Landed { commit } => OfDeploy::Landed { commit: commit.clone() },
        Landing::NotYet => OfDeploy::Clear,
        Landing::Unsettled { why } => OfDeploy::NotYet { why: why.clone() },
        Landing::HeadMoved => OfDeploy::BackToGate { why: "the branch moved".to_owned() },
        Landing::BaseMoved => {
            OfDeploy::BackToGate { why: "the default branch moved, and nothing of this task is in it".to_owned() }
        }
        Landing::Untested { why, .. } | Landing::Rewritten { why } => OfDeploy::Stopped { why: why.clone() },
        Landing::Withdrawn(cause) => OfDeploy::Stopped { why: cause.to_string() },
    }
}

/// What a check means at the merge gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AtGate {
    /// It is in the default branch as tested: the gate passes.
    Pass {
        commit: Sha,
    },
    /// Nothing of the task is in: the branch is brought up to the default branch.
    BringUp,
    NotYet {
        why: String,
    },
    /// The task is held or blocked by what was seen; an update whose process is gone closes its window first.
    Stopped,
}

/// The table of the merge gate (SHIP-2).
pub fn at_gate(landing: &Landing) -> AtGate {
    match landing {
        Landing::Landed { commit } => AtGate::Pass { commit: commit.clone() },
        Landing::HeadMoved | Landing::BaseMoved | Landing::NotYet => AtGate::BringUp,
        Landing::Unsettled { why } => AtGate::NotYet { why: why.clone() },
        Landing::Untested { .. } | Landing::Rewritten { .. } | Landing::Withdrawn(_) => AtGate::Stopped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::gates::testing::sha;
    use crate::model::withdrawal::Withdrawal;

    /// RULE-18: a deploy is taken back only where nothing was merged; what nobody knows keeps its window open.
    #[test]
    fn rule_18_every_answer_of_the_forge_has_one_consequence() {
        let reason = || "because".to_owned();
        let not_yet = |why: &str| AfterMerge::NotYet { why: why.to_owned() };
        let give_up = |blocked: &str| AfterMerge::GiveUp { withdrawn: reason(), blocked: blocked.to_owned() };
        let what = Awaited::Approval;
        let cases = [
            (MergeAnswer::Merged, not_yet("it says merged, and the default branch does not show it")),
            (MergeAnswer::BaseMoved, not_yet("the default branch moved and came back")),
            (MergeAnswer::NotYet { reason: reason() }, not_yet("because")),
            (MergeAnswer::Withdrawn { reason: reason() }, not_yet("because")),
            (MergeAnswer::HeadMoved, AfterMerge::BackToGate { why: "the branch moved".into() }),
            (
                MergeAnswer::Conflict { paths: vec!["a".into(), "b".into()] },
                AfterMerge::BackToGate { why: "conflict in a, b".into() },
            ),
            (MergeAnswer::Awaits { what, said: reason() }, AfterMerge::Await { what, said: reason() }),
            (MergeAnswer::Refused { reason: reason() }, give_up("the forge refuses the merge: because")),
            (MergeAnswer::Silent, AfterMerge::Unknown),
            (MergeAnswer::Denied { reason: reason() }, AfterMerge::AskAgain { why: reason() }),
            (MergeAnswer::Failed { reason: reason() }, give_up("the merge failed: because")),
        ];
        for (answer, want) in cases {
            assert_eq!(after_answer(answer.clone()), want, "{answer:?}");
        }
    }

    #[test]
    fn rule_5_every_check_has_one_consequence_for_a_deploy_and_at_the_gate() {
        let why = || "because".to_owned();
        let commit = sha('e');
        let gone = Withdrawal::BranchGone { branch: "b".into() };
        let moved = |why: &str| OfDeploy::BackToGate { why: why.to_owned() };
        let cases = [
            (
                Landing::Landed { commit: commit.clone() },
                OfDeploy::Landed { commit: commit.clone() },
                AtGate::Pass { commit: commit.clone() },
            ),
            (Landing::NotYet, OfDeploy::Clear, AtGate::BringUp),
            (Landing::Unsettled { why: why() }, OfDeploy::NotYet { why: why() }, AtGate::NotYet { why: why() }),
            (Landing::HeadMoved, moved("the branch moved"), AtGate::BringUp),
            (Landing::BaseMoved, moved("the default branch moved, and nothing of this task is in it"), AtGate::BringUp),
            (Landing::Untested { why: why(), commit: Some(commit) }, OfDeploy::Stopped { why: why() }, AtGate::Stopped),
            (Landing::Rewritten { why: why() }, OfDeploy::Stopped { why: why() }, AtGate::Stopped),
            (Landing::Withdrawn(gone.clone()), OfDeploy::Stopped { why: gone.to_string() }, AtGate::Stopped),
        ];
        for (landing, deploy, gate) in cases {
            assert_eq!(of_deploy(&landing), deploy, "{landing:?}");
            assert_eq!(at_gate(&landing), gate, "{landing:?}");
        }
    }
}
