use super::*;

const NOW: i64 = 1_000_000_000;

fn who(limits: i64) -> Who<'static> {
    Who { runtime: "claude", credential: "claude", limits, run: 31 }
}

fn outcome(kind: Kind) -> Outcome {
    Outcome::bare(kind, "because")
}

fn until(named: Option<i64>, limits: i64) -> i64 {
    match of_outcome(&outcome(Kind::UsageLimit { until_ms: named }), &who(limits), NOW) {
        End::Limited { until, overload: false, .. } => until - NOW,
        other => panic!("{other:?}"),
    }
}

#[test]
fn run_7_a_window_that_names_no_reset_is_waited_for_ever_longer_up_to_an_hour() {
    let waits: Vec<i64> = (-1..9).map(|n| until(None, n) / 60_000).collect();
    assert_eq!(waits, [1, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
}

#[test]
fn run_7_a_named_reset_is_believed_for_seven_days_and_spread() {
    assert_eq!(until(Some(NOW + 5_000), 0), 5_000 + 1_000, "run 31 of thirty comes a second later");
    assert_eq!(until(Some(NOW - 86_400_000), 0), 1_000 + 1_000, "one that is over");
    assert_eq!(until(Some(NOW + 30 * 86_400_000), 0), 7 * 86_400_000 + 1_000);
}

#[test]
fn only_a_run_that_failed_for_its_own_reasons_spends_an_attempt() {
    for kind in [Kind::Ended, Kind::Failed, Kind::Killed] {
        let end = of_outcome(&outcome(kind), &who(0), NOW);
        assert_eq!(end, End::Failed { why: "because".into(), spent: true }, "{kind:?}");
    }
    let overloaded = of_outcome(&outcome(Kind::Overloaded { until_ms: None }), &who(0), NOW);
    assert!(matches!(overloaded, End::Limited { overload: true, .. }));
    let no_login = of_outcome(&outcome(Kind::NoLogin), &who(0), NOW);
    assert!(matches!(&no_login, End::Environment { why } if why.contains("runtimes.claude.env")), "{no_login:?}");
}

fn limited(overload: bool) -> End {
    End::Limited { until: NOW, why: "w".into(), credential: "c".into(), overload }
}

#[test]
fn rule_26_five_limits_in_a_row_block_and_no_number_of_overloads() {
    for n in 0..12 {
        assert_eq!(blocks(&limited(false), n).is_some(), n >= 5, "{n}");
        assert_eq!(blocks(&limited(true), n), None, "{n}");
    }
    assert_eq!(blocks(&End::Block { why: "w".into() }, 0).as_deref(), Some("w"));
    assert_eq!(blocks(&End::Done, 99), None);
}

/// Every end, with what its job becomes, what its run is recorded as, whether the task may move and whether the service
/// was seen to answer.
#[test]
fn every_end_has_its_consequences() {
    let why = || "w".to_owned();
    let (now, first_ms) = (NOW, 5_000);
    let growing = Wait::Growing { now, first_ms };
    let cases = [
        (End::Done, JobEnd::Done, RunResult::Done, true, true),
        (
            End::Failed { why: why(), spent: true },
            JobEnd::Failed { why: "w", spent: true },
            RunResult::Failed,
            true,
            true,
        ),
        (
            End::Failed { why: why(), spent: false },
            JobEnd::Failed { why: "w", spent: false },
            RunResult::Lost,
            true,
            true,
        ),
        (
            End::Unspent { cause: Cause::HeadMoved, why: why() },
            JobEnd::Unspent { cause: Cause::HeadMoved, why: "w" },
            RunResult::Lost,
            true,
            true,
        ),
        (End::Again { at: 7, why: why() }, JobEnd::Again { at: 7, why: "w" }, RunResult::Again, false, false),
        (
            End::Environment { why: why() },
            JobEnd::Later { cause: Cause::Environment, why: "w", wait: growing },
            RunResult::Again,
            false,
            false,
        ),
        (
            End::BaseFirst { since: 9, why: why() },
            JobEnd::Later { cause: Cause::BaseFirst, why: "w", wait: Wait::Until(9) },
            RunResult::Again,
            false,
            true,
        ),
        (limited(false), JobEnd::Again { at: NOW, why: "w" }, RunResult::Limited, false, false),
        (End::Block { why: why() }, JobEnd::Failed { why: "w", spent: true }, RunResult::Blocked, true, true),
    ];
    for (end, job, result, moves, open) in cases {
        assert_eq!(of_job(&end, JobKind::Ci, true, now, first_ms), job, "{end:?}");
        assert_eq!(end.recorded().result, result, "{end:?}");
        assert_eq!((may_move(JobKind::Agent, &end), end.shows_an_open_window()), (moves, open), "{end:?}");
        for kind in [JobKind::Deploy, JobKind::DeployFinalizer, JobKind::PostDeployMonitor] {
            assert!(!may_move(kind, &end), "{kind} {end:?}");
        }
    }
    let again = End::Again { at: 7, why: why() };
    let counted = JobEnd::Unspent { cause: Cause::Lost, why: "w" };
    assert_eq!(of_job(&again, JobKind::Agent, true, now, first_ms), counted, "an agent worked");
    assert_eq!(of_job(&again, JobKind::Agent, false, now, first_ms), JobEnd::Again { at: 7, why: "w" });
    assert_eq!((growing.due(1), growing.due(2), Wait::Until(9).due(4)), (NOW + 5_000, NOW + 10_000, 9));
}

#[test]
fn rule_8_who_spends_an_attempt_for_which_fault() {
    use Fault::{CutShort, Kept, Lack, MayNotPush, NoEngine, NoRoom, Other, Outage, Refused};
    for kind in JobKind::ALL {
        let end = |fault, begun| of_fault(*kind, begun, fault, "w".into(), NOW);
        let spends = |end: &End| matches!(end, End::Failed { spent: true, .. });
        let work = matches!(kind, JobKind::Agent | JobKind::Ci | JobKind::Scan | JobKind::Staging | JobKind::Build);
        let counted = matches!(kind, JobKind::Agent | JobKind::Deploy);
        for begun in [true, false] {
            assert_eq!(end(Refused, begun), End::Block { why: "w".into() }, "{kind}");
            let kept = End::Unspent { cause: Cause::TakenBack, why: "w".into() };
            assert_eq!(end(Kept(Cause::TakenBack), begun), kept, "{kind}");
            assert_eq!(end(NoEngine, begun), End::Environment { why: "w".into() }, "{kind}");
            for fault in [Outage, MayNotPush] {
                assert_eq!(spends(&end(fault, begun)), *kind == JobKind::Deploy, "{kind} {fault:?}");
            }
            for lack in [NoRoom, Lack] {
                let environment = work && !(*kind == JobKind::Agent && begun);
                assert_eq!(matches!(end(lack, begun), End::Environment { .. }), environment, "{kind} {lack:?} {begun}");
                assert_eq!(spends(&end(lack, begun)), counted && !environment, "{kind} {lack:?} {begun}");
            }
            for fault in [Other, CutShort] {
                assert_eq!(spends(&end(fault, begun)), counted, "{kind} {fault:?}");
            }
        }
    }
}

#[test]
fn rule_45_what_an_agent_left_is_kept_through_an_outage_and_a_refused_push() {
    let faults = [
        (Fault::Refused, Some((Cause::PushRefused, Keep::UntilRetry))),
        (Fault::Kept(Cause::HeadMoved), Some((Cause::HeadMoved, Keep::Tried))),
        (Fault::Outage, Some((Cause::Outage, Keep::Tried))),
        (Fault::NoRoom, Some((Cause::Outage, Keep::Tried))),
        (Fault::MayNotPush, Some((Cause::PushRefused, Keep::Tried))),
        (Fault::NoEngine, None),
        (Fault::Lack, Some((Cause::Environment, Keep::Tried))),
        (Fault::CutShort, Some((Cause::Lost, Keep::Tried))),
        (Fault::Other, None),
    ];
    for (fault, want) in faults {
        assert_eq!(keeps(JobKind::Agent, RunState::Exited, fault), want, "{fault:?}");
        assert_eq!(keeps(JobKind::Ci, RunState::Exited, fault), None, "{fault:?}");
        assert_eq!(keeps(JobKind::Agent, RunState::Live, fault), None, "{fault:?}");
    }
    let waits = |cause, keep| (1..=4).map(|n| kept_for(cause, keep, n)).collect::<Vec<_>>();
    let ms = Some(15_000);
    assert_eq!(waits(Cause::PushRefused, Keep::Tried), [ms, ms, None, None]);
    assert_eq!(waits(Cause::Outage, Keep::Tried), [ms, ms, ms, ms]);
    assert_eq!(waits(Cause::PushRefused, Keep::UntilRetry), [None; 4]);
}

#[test]
fn run_7_a_conversation_continues_only_where_a_limit_ended_it() {
    use crate::decide::reap::tests::run;
    let of = |id, kind: Option<Kind>| Run {
        id: crate::model::ids::RunId(id),
        outcome: kind.map(|kind| Outcome::bare(kind, "x")),
        session: Some(format!("s{id}")),
        ..run(RunState::Exited)
    };
    let now = of(9, None);
    let limit = Some(Kind::UsageLimit { until_ms: None });
    let goes_on_with = |runs: &[Run]| goes_on(&now, runs).map(str::to_owned);
    assert_eq!(goes_on_with(&[of(1, Some(Kind::Ended)), of(2, limit), now.clone()]).as_deref(), Some("s2"));
    assert_eq!(goes_on_with(&[of(1, limit), of(2, Some(Kind::Failed))]), None, "only the very last counts");
    assert_eq!(goes_on_with(&[of(1, limit), Run { attempt: 2, ..of(2, Some(Kind::Failed)) }]).as_deref(), Some("s1"));
    assert_eq!(goes_on_with(&[Run { epoch: 7, ..of(1, limit) }]), None);
}

#[test]
fn what_a_run_left_fails_it_blocks_or_is_pushed() {
    use crate::decide::gates::testing::task;
    let rules: Vec<String> = (0..30).map(|n| format!("r{n}")).collect();
    assert_eq!(broken(Agent::Developer, &[]), None);
    let Some(End::Failed { why, spent: true }) = broken(Agent::Developer, &rules) else { panic!() };
    assert!(why.starts_with("the developer may not change r0, r1") && why.ends_with("r19"), "{why}");
    assert_eq!((too_long(9, 0), too_long(9, 9)), (None, None));
    assert!(matches!(too_long(10, 9), Some(End::Block { .. })));
    assert!(matches!(head_moved(), End::Unspent { cause: Cause::HeadMoved, .. }));
    assert_eq!(pushed(None), End::Done);
    assert!(matches!(pushed(Some("no".into())), End::Failed { spent: true, .. }));
    assert_eq!(halted("x", 7), End::Again { at: 7, why: "halted before it started: x".into() });
    let t = Task { rework: Some(Rework::OneCommit), ..task(1, Stage::Development) };
    assert!(squashes(&t, Stage::Development, true, false));
    assert!(!squashes(&t, Stage::Development, true, true) && !squashes(&t, Stage::Development, false, false));
    assert!(!squashes(&t, Stage::Review, true, false));
    assert!(!squashes(&Task { rework: None, ..t }, Stage::Development, true, false));
}
