//! What a landing check, and the forge's answer to a merge, mean for the deploy that is under way (SHIP-5, RULE-5,
//! RULE-18, RULE-31): the tables of phase B and of the merge gate. Pure; the engine acts.

use super::landing::Landing;
use crate::model::finding::{Finding, Origin};
use crate::model::ids::Sha;
use crate::model::landing::Awaited;
pub use crate::model::landing::MergeAnswer;
use crate::model::task::{Deploy, Task};

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterMerge {
    /// Checked again, for as long as a gate may be undecided.
    NotYet { why: String },
    /// The deploy is withdrawn, and the merge gate judges again.
    BackToGate { why: String },
    /// The release stays; the merge is requested again once the wait is over.
    Await { what: Awaited, said: String },
    /// The deploy is withdrawn and the task blocked: a person has to act.
    GiveUp { withdrawn: String, blocked: String },
    /// The window stays open: the next step checks first.
    Unknown,
    /// The deploy is withdrawn, and the merge requested again within the bound of every effect (ORD-1).
    AskAgain { why: String },
}

/// The table of answers: nothing has happened, so the answer itself decides.
pub fn after_answer(answer: MergeAnswer) -> AfterMerge {
    let not_yet = |why: &str| AfterMerge::NotYet { why: why.to_owned() };
    match answer {
        MergeAnswer::Merged => not_yet("it reports a merge that the default branch does not show"),
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
    /// Nothing happened, and nothing blocks it.
    Clear,
    /// Checked again, for as long as a gate may be undecided.
    NotYet { why: String },
    /// The deploy is withdrawn, and the merge gate judges again.
    BackToGate { why: String },
    /// The deploy is withdrawn, and the task held or blocked because of what was seen.
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
            OfDeploy::BackToGate { why: "the default branch moved, but contains nothing of this task".to_owned() }
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
    /// Nothing of the task is in: the branch is updated onto the default branch.
    BringUp,
    NotYet {
        why: String,
    },
    /// The task is held or blocked because of what was seen; an update whose process is gone closes its window first.
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

/// What a check means for a deploy that is about to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OfOpening {
    /// It may open: its base, under the certificate.
    Go { base: Sha },
    /// What was checked has changed since: the gate's answer is void, and the gate is evaluated again.
    VoidGate,
    /// The branch moved: its head is recorded first.
    TakeHeadUp,
    /// Checked again, for as long as a gate may be undecided.
    NotYet { why: String },
    /// Held or blocked because of what was seen.
    Stopped,
}

/// `base`: the commit of the default branch that the head was judged on; `tip`: that branch's present commit;
/// `contains`: the head contains the tip.
pub fn of_opening(landing: &Landing, base: &Sha, tip: &Sha, contains: bool) -> OfOpening {
    match landing {
        Landing::Landed { .. } => OfOpening::Go { base: base.clone() },
        Landing::NotYet => OfOpening::Go { base: tip.clone() },
        Landing::BaseMoved if contains => OfOpening::Go { base: tip.clone() },
        Landing::BaseMoved => OfOpening::VoidGate,
        Landing::HeadMoved => OfOpening::TakeHeadUp,
        Landing::Unsettled { why } => OfOpening::NotYet { why: why.clone() },
        Landing::Untested { .. } | Landing::Rewritten { .. } | Landing::Withdrawn(_) => OfOpening::Stopped,
    }
}

/// What has to be true at the last moment before a merge (RULE-16, RULE-18, RULE-24, ORD-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeforeMerge {
    pub stop_requested: bool,
    pub halted: bool,
    /// A freeze that can't be read counts (SHIP-7).
    pub frozen: bool,
    /// The merge lease is this task's, under the deploy's fence.
    pub leased: bool,
    /// `.orch.yaml` is invalid: the merge method may be set there, and is then unknown.
    pub faulty_settings: bool,
}

/// Why a merge is not made; `None`: it may be.
pub fn withheld(b: &BeforeMerge) -> Option<&'static str> {
    let comes_first = b.stop_requested || b.halted || b.frozen || !b.leased || b.faulty_settings;
    comes_first.then_some("a stop, HALT, a freeze, a lost lease or a faulty .orch.yaml came before the merge")
}

/// A deploy that a sentinel file records as initiated and the database does not know: the database was restored from an
/// older copy, and nobody knows what was merged or started (RULE-34). `files`: the names in the sentinel folder, read
/// before the rows.
pub fn stray<'f>(files: impl Iterator<Item = &'f str>, deploys: &[Deploy]) -> Option<&'f str> {
    let mut ids = files.filter_map(|name| name.strip_prefix("deploy.")?.strip_suffix(".initiated.json"));
    ids.find(|id| !deploys.iter().any(|d| d.id == *id))
}

/// Whether a sentinel file belongs to an earlier deploy and is archived before the next one opens; `baseline`: the file
/// of the present attempt.
pub fn is_left_over(name: &str, baseline: &str) -> bool {
    name.starts_with("deploy.") || name == "post-deploy.json" || (name.starts_with("baseline-") && name != baseline)
}

/// A deploy's id: task, attempt and fence (RULE-35), and a number where an earlier deploy under the same fence was
/// withdrawn: no id is used twice. `before`: how many deploys the task had.
pub fn deploy_id(task: &Task, fence: i64, before: usize) -> String {
    let id = format!("{}-{}-{fence}", task.id, task.attempt);
    if before == 0 { id } else { format!("{id}-{}", before + 1) }
}

/// What an update of a branch may change in addition to its patches, as git sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Updated {
    pub same_patches: bool,
    /// The update is a merge; a rebase rewrites every commit.
    pub has_merge: bool,
    /// The merge has paths that were on neither side.
    pub new_paths: bool,
}

/// Whether what was judged still holds for the updated branch (RULE-4).
pub fn is_equal(u: &Updated) -> bool {
    u.same_patches && (!u.has_merge || !u.new_paths)
}

/// The gate's *no* for an update that conflicts: its sentence, and the developer's finding. `tip`: of the default
/// branch.
pub fn conflict(paths: &[String], tip: &Sha) -> (String, Finding) {
    let text = format!(
        "The branch conflicts with the default branch at {tip} in:\n{}\nThe checkout is at that commit with both sides in these files: resolve the markers, all of them.",
        paths.join("\n")
    );
    (format!("merge conflict in {}", paths.join(", ")), Finding { source: Origin::MergeConflict, text })
}

/// Whether to open a pull request: none exists, and there is something to show.
pub fn pull_is_due(task: &Task, head: &Sha) -> bool {
    task.pr.is_none() && task.base_sha.as_ref() != Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::gates::testing::sha;
    use crate::model::withdrawal::Withdrawal;

    /// RULE-18: a deploy is withdrawn only where nothing was merged; while the outcome is unknown its window stays
    /// open.
    #[test]
    fn rule_18_every_answer_of_the_forge_has_one_consequence() {
        let reason = || "because".to_owned();
        let not_yet = |why: &str| AfterMerge::NotYet { why: why.to_owned() };
        let give_up = |blocked: &str| AfterMerge::GiveUp { withdrawn: reason(), blocked: blocked.to_owned() };
        let what = Awaited::Approval;
        let cases = [
            (MergeAnswer::Merged, not_yet("it reports a merge that the default branch does not show")),
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
            (Landing::BaseMoved, moved("the default branch moved, but contains nothing of this task"), AtGate::BringUp),
            (Landing::Untested { why: why(), commit: Some(commit) }, OfDeploy::Stopped { why: why() }, AtGate::Stopped),
            (Landing::Rewritten { why: why() }, OfDeploy::Stopped { why: why() }, AtGate::Stopped),
            (Landing::Withdrawn(gone.clone()), OfDeploy::Stopped { why: gone.to_string() }, AtGate::Stopped),
        ];
        for (landing, deploy, gate) in cases {
            assert_eq!(of_deploy(&landing), deploy, "{landing:?}");
            assert_eq!(at_gate(&landing), gate, "{landing:?}");
        }
    }

    #[test]
    fn rule_4_a_deploy_opens_only_on_what_was_checked() {
        let sha = crate::decide::gates::testing::sha;
        let of = |landing: &Landing, contains| of_opening(landing, &sha('b'), &sha('d'), contains);
        let go = |c| OfOpening::Go { base: sha(c) };
        assert_eq!(of(&Landing::Landed { commit: sha('e') }, false), go('b'));
        assert_eq!(of(&Landing::NotYet, false), go('d'));
        assert_eq!((of(&Landing::BaseMoved, true), of(&Landing::BaseMoved, false)), (go('d'), OfOpening::VoidGate));
        assert_eq!(of(&Landing::HeadMoved, true), OfOpening::TakeHeadUp);
        assert_eq!(of(&Landing::Rewritten { why: "x".into() }, true), OfOpening::Stopped);
        let unsettled = Landing::Unsettled { why: "x".into() };
        assert_eq!(of(&unsettled, true), OfOpening::NotYet { why: "x".into() });
    }

    #[test]
    fn rule_18_whatever_comes_before_the_merge_withholds_it() {
        let clear =
            BeforeMerge { stop_requested: false, halted: false, frozen: false, leased: true, faulty_settings: false };
        assert_eq!(withheld(&clear), None);
        for one in [
            BeforeMerge { stop_requested: true, ..clear },
            BeforeMerge { halted: true, ..clear },
            BeforeMerge { frozen: true, ..clear },
            BeforeMerge { leased: false, ..clear },
            BeforeMerge { faulty_settings: true, ..clear },
        ] {
            assert!(withheld(&one).is_some(), "{one:?}");
        }
    }

    #[test]
    fn rule_34_a_deploy_that_only_a_file_knows_is_found_and_no_id_is_used_twice() {
        use crate::decide::gates::testing::{deploy, task};
        use crate::model::stage::Stage;
        use crate::model::task::DeployState;
        let rows = [deploy(1, DeployState::Withdrawn)];
        let known = ["deploy.1-1-7.initiated.json", "deploy.9.result.json", "x"];
        assert_eq!(stray(known.into_iter(), &rows), None);
        assert_eq!(stray(["deploy.1-1-8.initiated.json"].into_iter(), &rows), Some("1-1-8"));
        for (name, left) in [
            ("deploy.x.started.json", true),
            ("post-deploy.json", true),
            ("baseline-1.json", true),
            ("baseline-2.json", false),
            ("other", false),
        ] {
            assert_eq!(is_left_over(name, "baseline-2.json"), left, "{name}");
        }
        let t = task(1, Stage::Deploy);
        assert_eq!((deploy_id(&t, 7, 0), deploy_id(&t, 7, 1)), ("1-1-7".to_owned(), "1-1-7-2".to_owned()));
    }

    #[test]
    fn rule_4_an_update_is_equal_by_its_patches_and_a_merge_adds_nothing() {
        let of = |same_patches, has_merge, new_paths| is_equal(&Updated { same_patches, has_merge, new_paths });
        assert!(of(true, false, true) && of(true, true, false));
        assert!(!of(true, true, true) && !of(false, false, false));
        let (why, finding) = conflict(&["a".into(), "b".into()], &crate::decide::gates::testing::sha('d'));
        assert!(why.ends_with("a, b") && finding.text.contains("a\nb") && finding.source == Origin::MergeConflict);
    }

    #[test]
    fn ship_5_a_pull_request_is_opened_once_there_is_something_to_show() {
        use crate::decide::gates::testing::{sha, task};
        let t = task(1, crate::model::stage::Stage::Development);
        assert!(pull_is_due(&t, &sha('a')) && !pull_is_due(&t, &sha('b')));
        let open = Task { pr: Some(crate::model::task::PullRef { number: 3, url: "u".into() }), ..t };
        assert!(!pull_is_due(&open, &sha('a')));
    }
}
