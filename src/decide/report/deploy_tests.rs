//! Phase B, case by case: what each survey and each answer of the forge leads to.

use super::tests::{FENCE, found, held, in_words, stopped};
use super::*;
use crate::decide::awaits as wait;
use crate::decide::gates::testing::{deploy as row, policy, sha, task};
use crate::model::effect::{AfterLeaving, Inspected, Merge, Merging, Opening, Ready};
use crate::model::evidence::EvidenceVerdict;
use crate::model::landing::{Awaited, Awaits, BranchSeen, Line, MergeAnswer, PullSeen};
use crate::model::rules::{Queue, QueueEntry};
use crate::model::stage::Stage;
use crate::model::task::{Deploy, Freeze, PullRef};

/// A view with an initiated deploy under the task's lease.
fn initiated() -> TaskView {
    let d = Deploy { fence: FENCE, ..row(1, DeployState::Initiated) };
    let mut v = TaskView { deploy: Some(d.clone()), ..held() };
    v.task.critical = Some(d.window());
    v
}

fn merging() -> Merging {
    Merging::of(initiated().deploy.as_ref().unwrap(), None)
}

fn looks(purpose: Purpose) -> Effect {
    Effect::Survey { purpose, survey: survey(&initiated(), &policy(), Depth::Full).unwrap() }
}

/// The base is where it was, and nothing of the task is in.
fn quiet() -> Surveyed {
    Surveyed { tip: sha('b'), line: Line { tip: sha('b'), ..found().line }, ..found() }
}

fn before(v: &TaskView, policy: &Policy, found: Surveyed) -> String {
    in_words(&report(v, policy, &looks(Purpose::Merge(merging())), Report::Surveyed(Box::new(found)), false))
}

fn after(answer: MergeAnswer, found: Surveyed) -> Plan {
    let merge = Merge { number: 0, default_branch: "main".into(), message: String::new() };
    let survey = survey(&initiated(), &policy(), Depth::Full).unwrap();
    let effect = Effect::Merge { merging: merging(), merge, survey };
    report(&initiated(), &policy(), &effect, Report::Merged { answer, after: Box::new(found) }, false)
}

const WITHDRAWN: &str = "withdrawn close outcome deploy_withdrawn";

#[test]
fn rule_18_each_answer_of_the_forge_leads_to_one_plan() {
    let reason = || "no".to_owned();
    let awaits = |what| MergeAnswer::Awaits { what, said: reason() };
    let cases = [
        (MergeAnswer::Merged, "not yet".to_owned()),
        (MergeAnswer::BaseMoved, "not yet".to_owned()),
        (MergeAnswer::NotYet { reason: reason() }, "not yet".to_owned()),
        (MergeAnswer::Withdrawn { reason: reason() }, "not yet".to_owned()),
        (MergeAnswer::HeadMoved, format!("{WITHDRAWN} missing touch remove")),
        (MergeAnswer::Conflict { paths: vec!["a".into()] }, format!("{WITHDRAWN} missing touch remove")),
        (awaits(Awaited::Approval), "awaits forge_awaits card message done".to_owned()),
        (awaits(Awaited::Checks), "not yet".to_owned()),
        (MergeAnswer::Refused { reason: reason() }, format!("{WITHDRAWN} block remove")),
        (MergeAnswer::Silent, "fault".to_owned()),
        (MergeAnswer::Denied { reason: reason() }, format!("{WITHDRAWN} remove and fail")),
        (MergeAnswer::Failed { reason: reason() }, format!("{WITHDRAWN} block remove")),
    ];
    for (answer, want) in cases {
        assert_eq!(in_words(&after(answer.clone(), quiet())), want, "{answer:?}");
    }
    // Past the bound the wait ends with a person.
    let Then::NotYet { past, meanwhile, .. } = after(awaits(Awaited::Checks), quiet()).then else { panic!() };
    assert_eq!(in_words(&past), format!("{WITHDRAWN} block remove"));
    assert_eq!(in_words(&Plan::record(meanwhile)), "awaits forge_awaits card done");
}

#[test]
fn rule_5_what_is_seen_counts_whatever_the_forge_said() {
    let landed = Surveyed { line: Line { tested: Some(sha('e')), ..found().line }, ..found() };
    for answer in [MergeAnswer::Merged, MergeAnswer::Silent, MergeAnswer::Failed { reason: "no".into() }] {
        assert_eq!(in_words(&after(answer, landed.clone())), "landed change outcome pr_merged card did done");
    }
    let untested = Surveyed { line: Line { ours: Some(sha('e')), ..found().line }, ..found() };
    assert_eq!(in_words(&after(MergeAnswer::Merged, untested)), format!("{WITHDRAWN} block and freeze remove"));
    let closed = Surveyed { pull: PullSeen::Closed { number: 3 }, ..quiet() };
    assert_eq!(in_words(&after(MergeAnswer::Merged, closed)), format!("{WITHDRAWN} withdrawn remove"));
    assert_eq!(
        in_words(&after(MergeAnswer::Merged, found())),
        format!("{WITHDRAWN} missing touch remove"),
        "the base moved"
    );
}

#[test]
fn rule_18_whatever_comes_first_withdraws_the_deploy_before_the_merge() {
    let withdrawn = format!("{WITHDRAWN} remove");
    assert_eq!(before(&initiated(), &policy(), quiet()), "intend merge");
    assert_eq!(before(&stopped(initiated()), &policy(), quiet()), withdrawn);
    assert_eq!(before(&TaskView { halted: Some("x".into()), ..initiated() }, &policy(), quiet()), withdrawn);
    let frozen = Freeze { repo: "orch".into(), reason: "x".into(), since: 0, task_id: None };
    assert_eq!(before(&TaskView { freeze: Some(frozen), ..initiated() }, &policy(), quiet()), withdrawn);
    assert_eq!(before(&TaskView { lease: None, ..initiated() }, &policy(), quiet()), withdrawn);
    let mut faulty = policy();
    faulty.projects.get_mut("ORCH").unwrap().fault = Some("x".into());
    assert_eq!(before(&initiated(), &faulty, quiet()), withdrawn);
    let mut remote = policy();
    remote.projects.get_mut("ORCH").unwrap().remote_forge = true;
    assert_eq!(before(&initiated(), &remote, quiet()), format!("{WITHDRAWN} missing touch remove"), "no pull request");
    let mut v = initiated();
    v.task.pr = Some(PullRef { number: 3, url: "u".into() });
    assert_eq!(before(&v, &remote, quiet()), "intend look at queue", "a forge may have a merge queue");
    remote.projects.get_mut("ORCH").unwrap().reports_deploys = true;
    // It landed, and its pull request may still be open.
    let landed = Surveyed { line: Line { tested: Some(sha('e')), ..found().line }, ..found() };
    assert_eq!(before(&v, &remote, landed), "landed change outcome intend deployment pr_merged card did done");
}

#[test]
fn gh_1_a_deploy_in_a_merge_queue_leaves_it_before_anything_withdraws_it() {
    let mut v = initiated();
    v.task.pr = Some(PullRef { number: 3, url: "u".into() });
    let queued = |asked| Awaits { asked, ..wait::next(None, "1-1-7", (Awaited::Queued, "x"), 0, 1) };
    let with = |asked| TaskView { awaits: Some(queued(asked)), ..v.clone() };
    assert_eq!(merging().deploy, "1-1-7");
    let merge = Merge { number: 3, default_branch: "main".into(), message: String::new() };
    let survey = survey(&initiated(), &policy(), Depth::Full).unwrap();
    let look = Effect::LookAtQueue { merging: merging(), merge, survey };
    let seen = |v: &TaskView, queue| {
        in_words(&report(v, &policy(), &look, Report::QueueSeen { queue, contains: true }, false))
    };
    assert_eq!(seen(&v, None), "merge", "there is none");
    assert_eq!(seen(&v, Some(Queue::default())), "awaits enter", "what may be in it is recorded first");
    assert_eq!(seen(&v, Some(Queue { others: 2, ..Queue::default() })), "awaits forge_awaits card message done");
    let entry = |tree: &str| {
        let entry = QueueEntry { state: "QUEUED".into(), tree: Some(tree.into()) };
        Some(Queue { entry: Some(entry), ..Queue::default() })
    };
    assert_eq!(seen(&with(1), entry(&merging().tree)), "not yet", "bounded like checks");
    assert_eq!(seen(&with(1), entry("other")), "leave");
    let thrown = seen(&with(1), Some(Queue::default()));
    assert_eq!(thrown, format!("{WITHDRAWN} {} gate touch remove", EvidenceVerdict::Fail));
    let enter = Effect::EnterQueue { merging: merging(), number: 3 };
    let entered = |instead| in_words(&report(&with(0), &policy(), &enter, Report::EnteredQueue { instead }, false));
    assert_eq!(entered(None), "not yet");
    let refused = MergeAnswer::Awaits { what: Awaited::Approval, said: "no".into() };
    assert_eq!(entered(Some(refused)), "awaits forge_awaits card message done");
    assert_eq!(entered(Some(MergeAnswer::Silent)), "fault", "it may be in");
    // A stop, HALT, a moved branch, a closed pull request: whether it was seen there or only asked to enter.
    for asked in [0, 1] {
        assert_eq!(before(&stopped(with(asked)), &policy(), quiet()), "leave");
        let halted = TaskView { halted: Some("x".into()), ..with(asked) };
        assert_eq!(before(&halted, &policy(), quiet()), "leave");
        assert_eq!(before(&with(asked), &policy(), found()), "leave", "the base moved");
        let closed = Surveyed { pull: PullSeen::Closed { number: 3 }, ..quiet() };
        assert_eq!(before(&with(asked), &policy(), closed), "leave");
    }
    let left = |and: AfterLeaving, out| {
        let leave = Effect::LeaveQueue { merging: merging(), number: 3, why: "x".into(), and, fails: false };
        in_words(&report(&with(1), &policy(), &leave, Report::LeftQueue { out }, false))
    };
    assert_eq!(left(AfterLeaving::Withdraw, true), format!("{WITHDRAWN} remove"));
    assert_eq!(left(AfterLeaving::VoidGate, true), format!("{WITHDRAWN} missing touch remove"));
    assert_eq!(left(AfterLeaving::Block { why: "y".into() }, true), format!("{WITHDRAWN} block remove"));
    assert_eq!(left(AfterLeaving::Survey, true), "awaits survey");
    assert_eq!(left(AfterLeaving::Withdraw, false), "fail", "it has landed: git shows it");
}

#[test]
fn rule_7_only_one_process_continues_a_deploy() {
    let ready = Effect::Prepare { procedure: Procedure::Land };
    let begun = |v: &TaskView| {
        in_words(&report(v, &policy(), &ready, Report::Ready { revision: 1, file_fence: 0, settings: None }, false))
    };
    assert_eq!(begun(&initiated()), "take initiated");
    assert_eq!(begun(&TaskView { deploy_held: true, ..initiated() }), "done");
    assert_eq!(begun(&held()), "done", "there is none");
    let written = Effect::WriteInitiated { merging: merging(), merges: true };
    assert_eq!(in_words(&report(&initiated(), &policy(), &written, Report::Done, false)), "survey");
    let opened = Effect::WriteInitiated { merging: merging(), merges: false };
    assert_eq!(in_words(&report(&initiated(), &policy(), &opened, Report::Done, false)), "done");
    let gone = |fails| Effect::RemoveInitiated { deploy: "1-1-7".into(), fails };
    let removed = |fails| in_words(&report(&held(), &policy(), &gone(fails), Report::Done, false));
    assert_eq!((removed(false), removed(true)), ("done".to_owned(), "fault".to_owned()));
}

#[test]
fn run_8_a_deploy_is_parked_only_where_nothing_has_happened() {
    let begun = report(
        &initiated(),
        &policy(),
        &Effect::Park { why: "x".into() },
        Report::Ready { revision: 1, file_fence: 0, settings: None },
        false,
    );
    assert_eq!(in_words(&begun), "take survey");
    let Then::Perform(survey) = begun.then else { panic!() };
    let seen = |found| in_words(&report(&initiated(), &policy(), &survey, Report::Surveyed(Box::new(found)), false));
    assert_eq!(seen(quiet()), format!("{WITHDRAWN} remove"));
    assert_eq!(seen(found()), "done", "the base moved");
    assert_eq!(seen(Surveyed { line: Line { tested: Some(sha('e')), ..quiet().line }, ..quiet() }), "done");
}

fn opening() -> Opening {
    Opening { head: sha('a'), base: sha('b'), default_branch: "main".into() }
}

#[test]
fn rule_4_a_deploy_opens_only_on_what_was_checked() {
    let survey = survey(&held(), &policy(), Depth::Full).unwrap();
    let looks = Effect::Survey { purpose: Purpose::Opening, survey };
    let seen = |found| in_words(&report(&held(), &policy(), &looks, Report::Surveyed(Box::new(found)), false));
    assert_eq!(seen(quiet()), "inspect");
    assert_eq!(seen(found()), "look for tip", "the base moved");
    assert_eq!(seen(Surveyed { branch: BranchSeen::Elsewhere, ..quiet() }), "read");
    assert_eq!(seen(Surveyed { pull: PullSeen::Gone { number: 3 }, ..quiet() }), "withdrawn done");
    let tip = Effect::LookForTip { opening: opening() };
    let contains = |yes| in_words(&report(&held(), &policy(), &tip, Report::Contains(yes), false));
    assert_eq!((contains(true), contains(false)), ("inspect".to_owned(), "missing touch done".to_owned()));
}

fn inspected(names: &[&str], deploys: Vec<Deploy>) -> Plan {
    let found = Inspected {
        folder: "/state/x".into(),
        names: names.iter().map(|n| (*n).to_owned()).collect(),
        deploys,
        build_gone: false,
        tree: Some(sha('4')),
    };
    let effect = Effect::Inspect { opening: opening(), build: false };
    report(&held(), &policy(), &effect, Report::Inspected(found), false)
}

#[test]
fn rule_34_only_what_earlier_deploys_left_is_archived_and_a_stray_one_stops() {
    let plan =
        inspected(&["deploy.1-1-7.initiated.json", "baseline-1.json", "other"], vec![row(1, DeployState::Settled)]);
    let Then::Perform(Effect::Clear { names, baseline, ready, .. }) = plan.then else { panic!("{plan:?}") };
    assert_eq!(names, ["deploy.1-1-7.initiated.json"]);
    assert!(!baseline && ready == Ready { tree: sha('4').to_string(), deploys: 1, build_gone: false });
    assert_eq!(in_words(&inspected(&["deploy.9-9-9.initiated.json"], vec![])), "block and freeze done");
    assert_eq!(in_words(&inspected(&[], vec![row(1, DeployState::Started)])), "done", "one is open");
}

#[test]
fn rule_16_the_window_opens_only_if_the_decision_is_still_to_open_it() {
    let effect = |build_gone| Effect::Clear {
        opening: opening(),
        names: Vec::new(),
        baseline: false,
        ready: Ready { tree: "W".into(), deploys: 0, build_gone },
    };
    let then = |v: &TaskView, gone, moved| in_words(&report(v, &policy(), &effect(gone), Report::Done, moved));
    assert_eq!(then(&held(), false, false), "done", "nobody has released it");
    assert_eq!(then(&held(), true, false), "tool_error touch done", "it is built again first");
    assert_eq!(then(&held(), true, true), "done");
}

/// CLI-2: a dry run of a merge expects what the real one does where nobody interferes.
#[test]
fn cli_2_a_dry_run_lands_what_it_expects() {
    let v = initiated();
    let mut plan = begin(Procedure::Land);
    let mut all_in_words = Vec::new();
    while let Then::Perform(effect) = plan.then {
        let expected = effect.expected(&v).unwrap();
        plan = report(&v, &policy(), &effect, expected, false);
        all_in_words.push(in_words(&plan));
    }
    let landed = "landed change outcome pr_merged card did done";
    assert_eq!(all_in_words, ["take initiated", "survey", "intend merge", landed]);
}

#[test]
fn bnd_5_the_inputs_of_the_head_are_listed_once_for_a_task_that_stayed() {
    let ready = Effect::Prepare { procedure: Procedure::VerdictInputs };
    let plan = report(&held(), &policy(), &ready, Report::Ready { revision: 1, file_fence: 0, settings: None }, false);
    assert_eq!(in_words(&plan), "list");
    let Then::Perform(list) = plan.then else { panic!() };
    let then = |moved| in_words(&report(&held(), &policy(), &list, Report::Inputs(Vec::new()), moved));
    assert_eq!((then(false), then(true)), ("pass card done".to_owned(), "done".to_owned()));
    assert_eq!(in_words(&report(&held(), &policy(), &list, Report::Unread, false)), "done");
    let bare = TaskView { task: crate::model::task::Task { head_sha: None, ..task(1, Stage::Deploy) }, ..held() };
    let plan = report(&bare, &policy(), &ready, Report::Ready { revision: 1, file_fence: 0, settings: None }, false);
    assert_eq!(in_words(&plan), "fail");
}
