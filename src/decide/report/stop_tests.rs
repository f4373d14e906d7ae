//! A stop, part by part: what each report leads to.

use super::tests::{found, held, in_words, stopped};
use super::*;
use crate::decide::gates::testing::{policy, sha, view};
use crate::model::effect::{Deleted, Left, Stopping};
use crate::model::landing::Line;
use crate::model::stage::Stage;
use crate::model::task::PullRef;

fn of(v: &TaskView, effect: &Effect, answer: Report) -> Plan {
    report(v, &policy(), effect, answer, false)
}

fn review() -> TaskView {
    stopped(view(Stage::Review))
}

fn with_pull() -> TaskView {
    let mut v = review();
    v.task.pr = Some(PullRef { number: 3, url: "u".into() });
    v
}

fn stopping() -> Stopping {
    Stopping { in_default: None }
}

fn left() -> Left {
    Left { ours: true, pushed: vec![sha('c')], area: true }
}

const CANCELLED: &str = "free change tombstone task_cancelled show message message intend did lease file";

#[test]
fn rule_17_a_stop_ends_jobs_and_processes_before_it_puts_anything_away() {
    let ready = Effect::Prepare { procedure: Procedure::CompleteStop };
    let begun = |v: &TaskView| in_words(&of(v, &ready, Report::Ready { revision: 1, file_fence: 0, settings: None }));
    assert_eq!(begun(&review()), "jobs end");
    assert_eq!(begun(&view(Stage::Review)), "done", "no stop is recorded");
    assert_eq!(begun(&stopped(view(Stage::Cancelled))), "done");
    assert_eq!(in_words(&of(&review(), &Effect::EndProcesses, Report::Done)), "runs forget");
    assert_eq!(in_words(&of(&review(), &Effect::ForgetEnvironments, Report::Done)), "survey");
    let mut bare = review();
    (bare.task.branch, bare.task.head_sha) = (None, None);
    assert_eq!(in_words(&of(&bare, &Effect::ForgetEnvironments, Report::Done)), "look", "nothing was pushed");
}

#[test]
fn rule_28_what_landed_is_found_whoever_merged_it_and_freezes_at_the_end() {
    let survey = survey(&review(), &policy(), Depth::Remote).unwrap();
    let looks = Effect::Survey { purpose: Purpose::Stop, survey };
    let seen = |found| match of(&review(), &looks, Report::Surveyed(Box::new(found))).then {
        Then::Perform(Effect::Archive { stop, head, .. }) => {
            assert_eq!(head, sha('a'));
            stop
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(seen(found()), stopping());
    let merged = Surveyed { line: Line { ours: Some(sha('e')), ..found().line }, ..found() };
    let stop = seen(merged);
    assert_eq!(stop.in_default, Some(sha('e')));
    let none = Left { ours: false, area: false, ..left() };
    let effect = Effect::LookAtLeft { branch: None, stop: Some(stop) };
    let frozen = "free change tombstone task_cancelled freeze show message message intend did lease file";
    assert_eq!(in_words(&of(&review(), &effect, Report::Left(none))), frozen);
}

#[test]
fn rule_17_pull_request_branch_and_checkouts_go_in_this_order() {
    let archive = Effect::Archive { at: 1, head: sha('a'), stop: stopping() };
    assert_eq!(in_words(&of(&with_pull(), &archive, Report::Done)), "intend close pull");
    assert_eq!(in_words(&of(&review(), &archive, Report::Done)), "look");
    let close = Effect::ClosePull { key: "k".into(), number: 3, stop: Some(stopping()) };
    assert_eq!(in_words(&of(&with_pull(), &close, Report::Closed { first: true })), "outcome did look");
    assert_eq!(in_words(&of(&with_pull(), &close, Report::Closed { first: false })), "look", "it was closed before");
    let look = Effect::LookAtLeft { branch: Some("feature/ORCH-1".into()), stop: Some(stopping()) };
    assert_eq!(in_words(&of(&review(), &look, Report::Left(left()))), "look at branch");
    let somebodys = Left { ours: false, ..left() };
    assert_eq!(in_words(&of(&review(), &look, Report::Left(somebodys))), "remove area", "the branch is not ours");
    let remove = Effect::RemoveArea { stop: Some(stopping()) };
    assert_eq!(in_words(&of(&review(), &remove, Report::Done)), format!("did {CANCELLED}"));
    let ended = stopped(view(Stage::Cancelled));
    assert_eq!(in_words(&of(&ended, &remove, Report::Done)), "did done", "somebody else was first");
    assert_eq!(in_words(&of(&review(), &Effect::ReleaseLeaseFile, Report::Done)), "done");
}

#[test]
fn rule_11_a_branch_is_deleted_at_a_commit_of_ours_and_otherwise_kept_and_said() {
    let look = Effect::LookAtBranch { branch: "x".into(), left: left(), stop: Some(stopping()) };
    let at = |head| of(&review(), &look, Report::BranchAt { head, default: "main".into() });
    for ours in ['a', 'c'] {
        let plan = at(Some(sha(ours)));
        assert_eq!(in_words(&plan), "intend delete");
        assert!(matches!(plan.then, Then::Perform(Effect::DeleteBranch { at, .. }) if at == sha(ours)));
    }
    assert_eq!(in_words(&at(Some(sha('e')))), "intend outcome message branch_deleted remove area");
    assert_eq!(in_words(&at(None)), "remove area", "it is gone");
    let delete = Effect::DeleteBranch {
        key: "k".into(),
        branch: "x".into(),
        at: sha('a'),
        default: "main".into(),
        left: left(),
        stop: Some(stopping()),
    };
    let done = |deleted| in_words(&of(&review(), &delete, Report::Deleted(deleted)));
    assert_eq!(done(Deleted::Now), "outcome branch_deleted did remove area");
    assert_eq!(done(Deleted::Before), "outcome branch_deleted remove area");
    assert_eq!(done(Deleted::Kept { why: "x".into() }), "outcome message branch_deleted remove area");
}

/// The second look a minute after a stop does each part for itself.
#[test]
fn rule_17_the_second_look_ends_with_each_part() {
    let ended = stopped(view(Stage::Cancelled));
    let look = Effect::LookForPull { branch: "x".into() };
    assert_eq!(in_words(&of(&ended, &look, Report::PullIs(Some(3)))), "intend close pull");
    assert_eq!(in_words(&of(&ended, &look, Report::PullIs(None))), "done");
    let close = Effect::ClosePull { key: "k".into(), number: 3, stop: None };
    assert_eq!(in_words(&of(&ended, &close, Report::Closed { first: true })), "outcome did done");
    let look = Effect::LookAtLeft { branch: Some("x".into()), stop: None };
    assert_eq!(in_words(&of(&ended, &look, Report::Left(Left { ours: false, ..left() }))), "done");
    assert_eq!(in_words(&of(&ended, &look, Report::Left(left()))), "look at branch");
    assert_eq!(in_words(&of(&ended, &Effect::RemoveArea { stop: None }, Report::Done)), "did done");
}

/// CLI-2: a dry run says what a stop would do, from what this machine knows.
#[test]
fn cli_2_a_dry_run_follows_a_stop_to_its_end() {
    let v = TaskView { task: with_pull().task, ..held() };
    let mut plan = begin(Procedure::CompleteStop);
    let mut did = Vec::new();
    while let Then::Perform(effect) = plan.then {
        let local = if effect.is_local() { Some(Report::Left(left())) } else { effect.expected(&v) };
        plan = of(&v, &effect, local.unwrap());
        did.extend(
            plan.entries
                .iter()
                .filter_map(|e| if let Entry::Did { kind, .. } = e { Some(kind.as_str()) } else { None }),
        );
    }
    assert_eq!(did, ["pr_closed", "branch_deleted", "worktree_removed", "task_cancelled"]);
}
