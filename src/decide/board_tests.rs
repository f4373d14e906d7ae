use super::*;
use crate::decide::gates::testing::{self, task};
use proptest::prelude::*;

fn known(status: &'static str, updated_ms: i64, written_ms: i64) -> Option<Known<'static>> {
    Some(Known { status, updated_ms, written_ms })
}

#[test]
fn rule_12_an_intent_is_a_change_into_its_status() {
    let stop = Some(Intent::Stop);
    let recorded = |intent| Sight::Recorded { intent };
    let seen = |updated_ms, source, means| Seen { status: "stop", updated_ms, means, source, before: None, now: None };
    // The first observation counts; the same status again does not; an older page of a server is discarded.
    for (before, at, source, want) in [
        (None, 5, Source::Server, recorded(stop)),
        (known("a", 4, 4), 5, Source::Server, recorded(stop)),
        (known("a", 5, 4), 5, Source::Server, recorded(stop)),
        (known("stop", 4, 4), 5, Source::Server, recorded(None)),
        (known("a", 6, 4), 5, Source::Server, Sight::Older),
        (known("a", 6, 5), 5, Source::File, recorded(stop)),
        // RULE-40: an editor's stale buffer is text; a file without a time is not stale.
        (known("a", 6, 6), 5, Source::File, recorded(None)),
        (known("a", 6, 6), 0, Source::File, recorded(stop)),
        (known("stop", 6, 6), 7, Source::File, recorded(None)),
    ] {
        assert_eq!(sight(before, &seen(at, source, stop)), want, "{before:?} {at} {source:?}");
    }
    assert_eq!(sight(None, &seen(5, Source::File, None)), recorded(None));
}

#[test]
fn rule_43_an_answer_read_while_its_question_is_asked_is_read_again() {
    let wait = |no, asked| Some(Wait { no, asked });
    for (before, now, clear) in [
        (None, None, true),
        (wait(1, true), wait(1, true), true),
        (wait(1, false), wait(1, false), true),
        (wait(1, false), wait(1, true), false),
        (None, wait(1, true), false),
        (None, wait(1, false), false),
        (wait(1, true), wait(2, true), false),
        (wait(1, true), None, false),
    ] {
        for (means, answers) in [
            (Some(Intent::Approved), true),
            (Some(Intent::ConfirmDeploy), true),
            (Some(Intent::Stop), false),
            (Some(Intent::ToAnalyse), false),
            (None, false),
        ] {
            let seen = Seen { status: "s", updated_ms: 5, means, source: Source::File, before, now };
            let want = if answers && !clear { Sight::Unclear } else { Sight::Recorded { intent: means } };
            assert_eq!(sight(None, &seen), want, "{seen:?}");
            assert_eq!(sight(known("a", 4, 4), &seen), want, "{seen:?}");
        }
    }
}

fn waiting(stage: Stage, waiting: Waiting, asked: bool) -> Task {
    Task { waiting_for: Some(waiting), wait_no: 4, asked_at: asked.then_some(9), ..testing::task(1, stage) }
}

#[test]
fn rule_43_a_wait_is_asked_by_its_own_status_seen_within_it() {
    let task = waiting(Stage::Analysis, Waiting::Approval, false);
    let at = |no, asked| Some(Wait { no, asked });
    for (task, before, asking, status, want) in [
        (&task, at(4, false), Some("in review"), "in review", true),
        (&task, at(4, true), Some("in review"), "in review", true),
        // Read before the wait began, or in the wait before it.
        (&task, None, Some("in review"), "in review", false),
        (&task, at(3, true), Some("in review"), "in review", false),
        (&task, at(4, false), Some("in review"), "approved", false),
        // No status of the project can ask.
        (&task, at(4, false), None, "in review", false),
        (&testing::task(1, Stage::Analysis), at(0, false), Some("in review"), "in review", false),
        (&Task { blocked_reason: Some("x".into()), ..task.clone() }, at(4, false), Some("s"), "s", false),
    ] {
        assert_eq!(asks(task, before, asking, status), want, "{before:?} {asking:?} {status}");
    }
}

/// Every intent at every stage of a task that waits for nobody.
#[test]
fn rule_12_each_intent_means_one_thing_at_one_stage() {
    for stage in Stage::ALL.iter().copied() {
        let task = testing::task(1, stage);
        let at = ItemState { task: Some(&task), busy: false, seen_other_since_end: true, stop_on: true, answers: None };
        let not = |waiting| Use::Nothing(Unused::NotWaiting { stage, waiting });
        assert_eq!(means(Intent::Approved, &at), not(Waiting::Approval));
        assert_eq!(means(Intent::ConfirmDeploy, &at), not(Waiting::ConfirmDeploy));
        let ended = stage.is_terminal();
        let stop = if ended { Use::Nothing(Unused::Ended(stage)) } else { Use::Stop };
        assert_eq!(means(Intent::Stop, &at), stop);
        let again = match stage {
            Stage::Analysis => Use::Resume,
            Stage::Cancelled => Use::Start,
            Stage::Done => Use::Nothing(Unused::Finished),
            other => Use::Nothing(Unused::UnderWay(other)),
        };
        assert_eq!(means(Intent::ToAnalyse, &at), again);
    }
}

#[test]
fn rule_12_what_keeps_an_intent_from_acting_has_its_own_reason() {
    let none = ItemState { task: None, busy: false, seen_other_since_end: true, stop_on: true, answers: Some(4) };
    assert_eq!(means(Intent::ToAnalyse, &none), Use::Start);
    for intent in [Intent::Approved, Intent::ConfirmDeploy, Intent::Stop] {
        assert_eq!(means(intent, &none), Use::Nothing(Unused::NoTask));
    }
    let off = ItemState { stop_on: false, ..none };
    assert_eq!(means(Intent::Stop, &off), Use::Nothing(Unused::StopSwitchedOff));
    let nothing = |u| Use::Nothing(u);
    let task = waiting(Stage::Deploy, Waiting::ConfirmDeploy, true);
    let on = ItemState { task: Some(&task), ..none };
    assert_eq!(means(Intent::ConfirmDeploy, &on), Use::Release(Waiting::ConfirmDeploy));
    for answers in [None, Some(3), Some(5)] {
        assert_eq!(
            means(Intent::ConfirmDeploy, &ItemState { answers, ..on }),
            nothing(Unused::TooEarly),
            "{answers:?}"
        );
    }
    // RULE-15.
    assert_eq!(means(Intent::ConfirmDeploy, &ItemState { busy: true, ..on }), nothing(Unused::Busy));
    let wrong = nothing(Unused::NotWaiting { stage: Stage::Deploy, waiting: Waiting::Approval });
    assert_eq!(means(Intent::Approved, &on), wrong);
    let stopped = Task { stop_requested_at: Some(1), ..task.clone() };
    assert_eq!(means(Intent::ConfirmDeploy, &ItemState { task: Some(&stopped), ..on }), nothing(Unused::Stopping));
    let ended = testing::task(1, Stage::Cancelled);
    let same = ItemState { task: Some(&ended), seen_other_since_end: false, ..none };
    assert_eq!(means(Intent::ToAnalyse, &same), nothing(Unused::NoOtherStatusSince));
    let analysis = testing::task(1, Stage::Analysis);
    let at = ItemState { task: Some(&analysis), busy: true, ..none };
    assert_eq!(means(Intent::ToAnalyse, &at), nothing(Unused::AnalysisUnderWay));
    let blocked = Task { blocked_reason: Some("x".into()), ..analysis };
    let at = ItemState { task: Some(&blocked), busy: false, ..none };
    assert_eq!(means(Intent::ToAnalyse, &at), nothing(Unused::Blocked(blocked.key.clone())));
}

proptest! {
    /// A person's answer is used exactly where the task waits for it, was asked in this wait, has no live job and no
    /// stop.
    #[test]
    fn rule_43_an_answer_counts_exactly_after_its_question(
        stage in 0..Stage::ALL.len(), waits in proptest::option::of(0..Waiting::ALL.len()), wait_no in 0..3_i64,
        answers in proptest::option::of(0..3_i64), busy: bool, stop: bool, confirm: bool,
    ) {
        let task = Task {
            waiting_for: waits.map(|w| Waiting::ALL[w]),
            wait_no,
            stop_requested_at: stop.then_some(1),
            ..testing::task(1, Stage::ALL[stage])
        };
        let (intent, at, waiting) = if confirm {
            (Intent::ConfirmDeploy, Stage::Deploy, Waiting::ConfirmDeploy)
        } else {
            (Intent::Approved, Stage::Analysis, Waiting::Approval)
        };
        let item_state = ItemState { task: Some(&task), busy, seen_other_since_end: true, stop_on: true, answers };
        let counts = task.stage == at && task.waiting_for == Some(waiting) && answers == Some(wait_no) && !busy && !stop;
        prop_assert_eq!(means(intent, &item_state) == Use::Release(waiting), counts);
    }
}

#[test]
fn rule_31_only_its_own_kind_replaces_or_lifts_a_hold_of_the_board() {
    let gone = || Withdrawal::ItemGone;
    let closed = |s: &str| Withdrawal::ItemClosed { status: s.to_owned() };
    let merged = || Withdrawal::PullClosed { number: 3 };
    for (now, seen, kind, want) in [
        (None, Some(gone()), Asserts::Presence, true),
        (None, None, Asserts::Presence, false),
        (Some(gone()), Some(gone()), Asserts::Presence, false),
        (Some(gone()), None, Asserts::Presence, true),
        (Some(gone()), None, Asserts::Status, false),
        (Some(gone()), Some(closed("x")), Asserts::Status, false),
        (Some(closed("x")), Some(closed("y")), Asserts::Status, true),
        (Some(closed("on the forge")), None, Asserts::Status, true),
        (Some(merged()), None, Asserts::Presence, false),
        (Some(merged()), Some(gone()), Asserts::Presence, false),
    ] {
        let t = Task { withdrawn: now.clone(), ..task(1, Stage::Review) };
        assert_eq!(changes_hold(&t, seen.as_ref(), kind), want, "{now:?} {seen:?} {kind:?}");
    }
}

#[test]
fn brd_3_a_task_follows_its_item_and_its_text_stays_where_only_some_users_decide() {
    let said = |blockers| Said { title: "new", body: Some("text"), priority: 0, blockers };
    let after = |t: &Task, said, frozen| {
        let mut t = t.clone();
        follow(&t.clone(), said, frozen).into_iter().for_each(|c| t.apply(c).unwrap());
        t
    };
    let created = task(1, Stage::Created);
    let frozen = after(&created, said(None), true);
    assert_eq!((frozen.title.as_str(), frozen.body.as_str(), frozen.priority), ("t", "", 0));
    let unknown = Withdrawal::UnknownBlockers { names: vec!["x".into()] };
    let key = Key::parse("ORCH-9").unwrap();
    let names = Some((vec![key.clone()], vec!["x".to_owned()]));
    let read = after(&created, said(names.clone()), false);
    assert_eq!((read.title.as_str(), read.body.as_str(), &read.blocked_by), ("new", "text", &vec![key]));
    assert_eq!(read.withdrawn, Some(unknown));
    assert_eq!(follow(&read, said(names.clone()), false), [], "the same once more is nothing new");
    assert_eq!(after(&read, said(Some((vec![], vec![]))), false).withdrawn, None);
    let gone = Task { withdrawn: Some(Withdrawal::ItemGone), ..read };
    assert_eq!(after(&gone, said(names), false).withdrawn, Some(Withdrawal::ItemGone), "another hold stays");
}

#[test]
fn brd_5_a_label_is_asked_for_only_where_it_could_answer() {
    let of = |stage, next| labelled(&task(1, stage), next);
    assert_eq!(of(Stage::Analysis, Some(Stage::Development)), Some(Waiting::Approval));
    assert_eq!(of(Stage::Testing, Some(Stage::Deploy)), Some(Waiting::ConfirmDeploy));
    assert_eq!(of(Stage::Testing, Some(Stage::DeployStaging)), None);
    assert_eq!(of(Stage::Deploy, Some(Stage::Done)), Some(Waiting::ConfirmDeploy));
    for stage in [Stage::Created, Stage::Done, Stage::Cancelled] {
        assert_eq!(of(stage, None), None);
    }
    let released = Task { released: Some(Waiting::ConfirmDeploy), ..task(1, Stage::Deploy) };
    let stopped = Task { stop_requested_at: Some(1), ..task(1, Stage::Analysis) };
    let held = Task { withdrawn: Some(Withdrawal::ItemGone), ..task(1, Stage::Analysis) };
    assert!([released, stopped, held].iter().all(|t| labelled(t, None).is_none()));
    assert!(stands_unlabelled(5, 10, false) && !stands_unlabelled(5, 10, true));
    assert!(!stands_unlabelled(10, 10, false) && !stands_unlabelled(-1, 10, false), "a clock that was set back");
}

#[test]
fn a_task_shows_the_worst_of_what_holds_it() {
    let t = |stage| task(1, stage);
    let blocked = Task { blocked_reason: Some("x".into()), waiting_for: Some(Waiting::Approval), ..t(Stage::Analysis) };
    assert_eq!(progress(&blocked), Progress::Blocked);
    assert_eq!(progress(&Task { blocked_reason: None, ..blocked }), Progress::AwaitingPerson);
    let landed = Task { landed_sha: t(Stage::Deploy).head_sha, ..t(Stage::Deploy) };
    assert_eq!(progress(&landed), Progress::Deploying);
    assert_eq!(progress(&t(Stage::Deploy)), Progress::Working);
    assert_eq!(progress(&Task { watch: Some(Watch::Armed), ..t(Stage::Done) }), Progress::Watching);
    assert_eq!(progress(&Task { watch: Some(Watch::Degraded), ..t(Stage::Done) }), Progress::Degraded);
}
