//! The table of cases of the watch.

use super::*;
use crate::model::watch::{ControlAnswer, HealthAnswer, HealthOutcome, RevisionAnswer};
use HealthOutcome as H;

fn stamp(s: i64) -> Stamp {
    Stamp { wall_ms: s * 1000, mono_ms: s * 1000, boot_id: "a".into() }
}

fn probe_with(outcome: H, status: Option<u16>, control: ControlAnswer) -> Probe {
    Probe {
        at: stamp(0),
        health: vec![HealthAnswer {
            url: "http://x/health".into(),
            outcome,
            status,
            latency_ms: 5,
            detail: "d".into(),
        }],
        revision: None,
        errors: ErrorReading::Own,
        control,
    }
}

fn ok() -> Probe {
    probe_with(H::Ok, Some(200), ControlAnswer::NotAsked)
}
fn bad() -> Probe {
    probe_with(H::BadStatus, Some(503), ControlAnswer::NotAsked)
}
fn down() -> Probe {
    probe_with(H::Refused, None, ControlAnswer::NotAsked)
}
fn dark() -> Probe {
    probe_with(H::Timeout, None, ControlAnswer::Unreached)
}
fn counted(requests: f64, errors_5xx: f64) -> Probe {
    Probe { errors: ErrorReading::Counters(Counts { requests, errors_5xx }), ..ok() }
}

fn policy() -> WatchPolicy {
    WatchPolicy { window_s: 10, interval_s: 1, ..Default::default() }
}

fn record(baseline: Vec<Probe>, probes: Vec<Probe>) -> WatchRecord {
    let mut r = WatchRecord::armed(1, 1, "1-1-1", None, stamp(0), baseline);
    r.probes = probes;
    r
}

/// `.` healthy, `x` answered wrongly, `d` refused, `?` no network here.
fn drawn(picture: &str) -> Vec<Probe> {
    picture
        .chars()
        .map(|c| match c {
            '.' => ok(),
            'x' => bad(),
            'd' => down(),
            _ => dark(),
        })
        .collect()
}

fn word(r: &WatchRecord, p: &WatchPolicy) -> &'static str {
    classify(r, p, true).status().map_or("PENDING", |s| s.as_str())
}

#[test]
fn pictures_of_a_window_and_what_they_are() {
    for (before, after, want) in [
        ("...", "..........", "HEALTHY"),
        ("...", "..xx...xx.", "HEALTHY"),
        ("...", "..ddd.....", "DEGRADED"),
        ("...", ".......ddd", "DEGRADED"),
        ("...", "d.d.d.d.d.", "HEALTHY"),
        ("...", "dd?????d..", "DEGRADED"),
        ("...", "??????????", "INCONCLUSIVE"),
        ("...", "???.......", "INCONCLUSIVE"),
        ("...", "??........", "HEALTHY"),
        ("...", ".......", "INCONCLUSIVE"),
        ("", "..........", "HEALTHY"),
        ("", "ddd", "DEGRADED"),
        ("ddd", "dddddddddd", "INCONCLUSIVE"),
        ("ddd", "..........", "HEALTHY"),
        ("ddd", "...ddd....", "DEGRADED"),
        ("ddd", "ddd.......", "HEALTHY"),
        ("..d", "ddd.......", "DEGRADED"),
        (".dd", "ddd..ddd..", "INCONCLUSIVE"),
        ("???", "ddd.......", "DEGRADED"),
    ] {
        assert_eq!(word(&record(drawn(before), drawn(after)), &policy()), want, "{before} | {after}");
    }
}

#[test]
fn nothing_is_said_before_the_window_closes_unless_it_is_degraded() {
    let r = record(vec![], drawn("....."));
    assert_eq!(classify(&r, &policy(), false), Classification::Pending);
    let r = record(vec![], drawn("..xxx"));
    assert!(matches!(classify(&r, &policy(), false), Classification::Degraded { .. }));
}

#[test]
fn six_percent_of_5xx_degrades_and_five_does_not() {
    let window = |n: usize, every: usize| {
        let mut r = record(vec![], (1..=n).map(|i| if i % every == 0 { bad() } else { ok() }).collect());
        r.latched = None;
        r
    };
    let p = WatchPolicy { window_s: 100, ..policy() };
    assert_eq!(word(&window(100, 16), &p), "DEGRADED");
    assert_eq!(word(&window(100, 20), &p), "HEALTHY");
    let strict = WatchPolicy { share_5xx: 0.04, ..p };
    assert_eq!(word(&window(100, 20), &strict), "DEGRADED");
}

#[test]
fn a_share_needs_enough_requests_and_three_errors() {
    let p = policy();
    let from = |a: f64, b: f64| record(vec![counted(0.0, 0.0)], (0..10).map(|_| counted(a, b)).collect());
    assert_eq!(word(&from(19.0, 19.0), &p), "HEALTHY");
    assert_eq!(word(&from(20.0, 3.0), &p), "DEGRADED");
    assert_eq!(word(&from(20.0, 2.0), &p), "HEALTHY");
    assert_eq!(word(&from(100.0, 5.0), &p), "HEALTHY");
    assert_eq!(word(&from(100.0, 6.0), &p), "DEGRADED");
    // No request at all says nothing.
    assert_eq!(word(&from(0.0, 0.0), &p), "INCONCLUSIVE");
}

#[test]
fn counters_count_from_the_last_reading_before_the_deploy() {
    let p = policy();
    let tail = |n: usize, c: (f64, f64)| (0..n).map(move |_| counted(c.0, c.1));
    let old = counted(1000.0, 500.0);
    assert_eq!(word(&record(vec![old.clone()], tail(10, (1000.0, 500.0)).collect()), &p), "INCONCLUSIVE");
    assert_eq!(word(&record(vec![old.clone()], tail(10, (1100.0, 510.0)).collect()), &p), "DEGRADED");
    // Without an earlier reading, counting begins at the first one.
    let growing = (0..10).map(|n| counted(1000.0 + f64::from(n), 500.0)).collect();
    assert_eq!(word(&record(vec![], growing), &p), "HEALTHY");
    // The process restarted at the deploy: what it counts since is the new revision's.
    assert_eq!(word(&record(vec![old.clone()], tail(10, (50.0, 10.0)).collect()), &p), "DEGRADED");
    assert_eq!(word(&record(vec![old.clone()], tail(10, (50.0, 1.0)).collect()), &p), "HEALTHY");
    // Errors that fall, or grow faster than requests, are no counters: nothing is concluded from that step.
    assert_eq!(word(&record(vec![old.clone()], tail(10, (1100.0, 499.0)).collect()), &p), "HEALTHY");
    assert_eq!(word(&record(vec![old], tail(10, (1001.0, 600.0)).collect()), &p), "HEALTHY");
}

#[test]
fn a_source_that_says_nothing_usable_never_degrades() {
    for errors in [
        ErrorReading::NoData("exit 1".into()),
        ErrorReading::Counters(Counts { requests: -5.0, errors_5xx: -9.0 }),
        ErrorReading::Counters(Counts { requests: 1.0, errors_5xx: 100.0 }),
    ] {
        let probes: Vec<Probe> = (0..10).map(|_| Probe { errors: errors.clone(), ..ok() }).collect();
        assert_eq!(word(&record(vec![], probes.clone()), &policy()), "INCONCLUSIVE");
        let mut two = probes[..2].to_vec();
        two.extend((0..8).map(|n| counted(5.0 + f64::from(n), 0.0)));
        assert_eq!(word(&record(vec![], two), &policy()), "HEALTHY");
    }
}

#[test]
fn readings_of_a_window_are_flagged_as_counters_and_counted_as_windows() {
    let p = policy();
    let window = |requests: f64, errors_5xx: f64| Probe {
        errors: ErrorReading::Window(Counts { requests, errors_5xx }),
        ..ok()
    };
    // sum(increase(x[5m])) at 30 % errors, steady: never healthy as a counter, found as a window.
    let steady = |of: &dyn Fn(f64, f64) -> Probe| record(vec![], (0..10).map(|_| of(100.0, 30.0)).collect());
    let swinging = |of: &dyn Fn(f64, f64) -> Probe, errors: f64| {
        record(
            vec![],
            [100.0, 97.0, 103.0, 99.0, 101.0, 96.0, 104.0, 100.0, 98.0, 102.0].map(|n| of(n, n * errors)).to_vec(),
        )
    };
    assert_eq!(word(&steady(&counted), &p), "INCONCLUSIVE");
    assert_eq!(word(&steady(&window), &p), "DEGRADED");
    assert_eq!(word(&swinging(&counted, 0.0), &p), "INCONCLUSIVE");
    assert_eq!(word(&swinging(&window, 0.3), &p), "DEGRADED");
    assert_eq!(word(&swinging(&window, 0.01), &p), "HEALTHY");
    assert_eq!(word(&record(vec![], (0..10).map(|_| window(0.0, 0.0)).collect()), &p), "INCONCLUSIVE");
    let c = classify(&swinging(&counted, 0.0), &p, true);
    assert!(c.why().contains("reading: window"), "{}", c.why());
    // One fall is the restart that a deploy makes.
    let mut restarted: Vec<Probe> = (0..10).map(|n| counted(10.0 * f64::from(n), 0.0)).collect();
    assert_eq!(word(&record(vec![counted(5000.0, 7.0)], restarted.clone()), &p), "HEALTHY");
    restarted[5] = counted(3.0, 0.0);
    assert_eq!(word(&record(vec![counted(5000.0, 7.0)], restarted), &p), "INCONCLUSIVE");
}

#[test]
fn a_share_that_was_too_high_before_is_inconclusive() {
    let before = vec![counted(0.0, 0.0), counted(100.0, 50.0)];
    let after = (1..=10).map(|i| counted(100.0 + 100.0 * f64::from(i), 50.0 + 50.0 * f64::from(i))).collect();
    assert_eq!(word(&record(before, after), &policy()), "INCONCLUSIVE");
}

#[test]
fn k_of_m_finds_a_flapping_service() {
    let p = WatchPolicy { k_of_m: Some((4, 10)), ..policy() };
    for (after, want) in [("d.d.d.d...", "DEGRADED"), ("d.d.d.....", "HEALTHY"), ("d.d.d.?.d.", "DEGRADED")] {
        assert_eq!(word(&record(vec![], drawn(after)), &p), want, "{after}");
    }
    let long = WatchPolicy { window_s: 24, k_of_m: Some((3, 5)), ..policy() };
    assert_eq!(word(&record(vec![], drawn("d.....d.....d.....d.....")), &long), "HEALTHY");
}

#[test]
fn whose_fault_an_absent_answer_is() {
    use ControlAnswer as C;
    for (outcome, control, failed) in [
        (H::Refused, C::NotAsked, true),
        (H::Refused, C::Reached, true),
        (H::Refused, C::Unreached, false),
        (H::Timeout, C::NotAsked, true),
        (H::Timeout, C::Reached, true),
        (H::Timeout, C::Unreached, false),
        (H::NoNetwork, C::NotAsked, false),
        (H::NoNetwork, C::Unreached, false),
        (H::NoNetwork, C::Reached, true),
        (H::NotMade, C::Reached, false),
        (H::Tls, C::Unreached, true),
        (H::TooSlow, C::Unreached, true),
    ] {
        let seen = judge(&probe_with(outcome, None, control), None);
        assert_eq!(matches!(seen, Seen::Failed(_)), failed, "{outcome} {control:?}: {seen:?}");
        assert_eq!(matches!(seen, Seen::NotMade(_)), !failed);
    }
    assert!(matches!(judge(&Probe { health: vec![], ..ok() }, None), Seen::NotMade(_)));
}

#[test]
fn one_url_that_answers_shows_that_the_network_works() {
    let mut p = probe_with(H::Refused, None, ControlAnswer::Unreached);
    p.health.extend(ok().health);
    assert!(matches!(judge(&p, None), Seen::Failed(_)));
}

#[test]
fn the_wrong_revision_is_a_failed_probe_and_no_answer_is_not() {
    let want = "0123456789012345678901234567890123456789";
    let says = |a: RevisionAnswer| Probe { revision: Some(a), ..ok() };
    let is = |s: &str| says(RevisionAnswer::Is(s.into()));
    assert_eq!(judge(&is(want), Some(want)), Seen::Well);
    assert_eq!(judge(&is(" 0123456 "), Some(want)), Seen::Well);
    assert!(matches!(judge(&is("012345"), Some(want)), Seen::Failed(_)));
    assert!(matches!(judge(&is(&"f".repeat(40)), Some(want)), Seen::Failed(_)));
    assert_eq!(judge(&says(RevisionAnswer::None("exit 1".into())), Some(want)), Seen::Well);
    assert_eq!(judge(&is("v1.2"), None), Seen::Well);
    let mut r = record(vec![], (0..3).map(|_| is(&"f".repeat(40))).collect());
    r.revision = Some(want.into());
    assert_eq!(word(&r, &policy()), "DEGRADED");
    // Clean probes of an unknown revision say nothing about the deployed one.
    for (told, word_of_it) in [(11, "HEALTHY"), (9, "HEALTHY"), (7, "INCONCLUSIVE"), (0, "INCONCLUSIVE")] {
        r.probes =
            (0..11).map(|n| if n < told { is(want) } else { says(RevisionAnswer::None("exit 1".into())) }).collect();
        assert_eq!(word(&r, &policy()), word_of_it, "told by {told} of 11 probes");
    }
    r.revision = None;
    assert_eq!(word(&r, &policy()), "HEALTHY");
}

#[test]
fn degraded_latches_and_a_newer_deploy_cancels() {
    let p = policy();
    let mut r = record(vec![], drawn("dd"));
    r = append(r, down(), &p);
    assert!(r.latched.is_some());
    let n = r.probes.len();
    r = append(r, ok(), &p);
    assert_eq!(r.probes.len(), n, "a record that is over takes no probe");
    let lenient = WatchPolicy { fail_threshold: 9, ..p.clone() };
    assert_eq!(word(&r, &lenient), "DEGRADED", "a changed threshold does not take it back");
    r.superseded_by = Some("2-1-9".into());
    assert_eq!(word(&r, &p), "CANCELLED");
}

#[test]
fn a_slow_service_that_answers_is_healthy_where_no_limit_is_set() {
    let slow = Probe { health: vec![HealthAnswer { latency_ms: 4900, ..ok().health.remove(0) }], ..ok() };
    assert_eq!(word(&record(vec![], vec![slow; 10]), &policy()), "HEALTHY");
}

fn probed_at(seconds: &[i64]) -> WatchRecord {
    record(vec![], seconds.iter().map(|s| Probe { at: stamp(*s), ..ok() }).collect())
}

#[test]
fn the_schedule_goes_probe_by_probe_and_skips_what_was_missed() {
    let p = WatchPolicy { window_s: 100, interval_s: 10, ..Default::default() };
    let wait = |s: i64, now: i64| NextStep::WaitUntil { in_ms: s * 1000, wall_ms: (now + s) * 1000 };
    assert_eq!(next(&probed_at(&[]), &p, &stamp(0)), NextStep::ProbeNow);
    assert_eq!(next(&probed_at(&[0]), &p, &stamp(3)), wait(7, 3));
    assert_eq!(next(&probed_at(&[0]), &p, &stamp(10)), NextStep::ProbeNow);
    assert_eq!(next(&probed_at(&[0, 57]), &p, &stamp(58)), wait(2, 58));
    assert_eq!(next(&probed_at(&[0, 57]), &p, &stamp(109)), NextStep::ProbeNow);
    assert!(matches!(
        next(&probed_at(&[0, 57]), &p, &stamp(110)),
        NextStep::Close(Classification::Inconclusive { .. })
    ));
    let all: Vec<i64> = (0..=10).map(|n| n * 10).collect();
    assert!(matches!(next(&probed_at(&all), &p, &stamp(101)), NextStep::Close(Classification::Healthy { .. })));
}

#[test]
fn the_schedule_resumes_after_a_reboot_and_a_clock_set_back() {
    let p = WatchPolicy { window_s: 100, interval_s: 10, ..Default::default() };
    let after = |wall: i64| Stamp { wall_ms: wall * 1000, mono_ms: 1000, boot_id: "b".into() };
    assert_eq!(next(&probed_at(&[0, 10]), &p, &after(20)), NextStep::ProbeNow);
    assert!(matches!(next(&probed_at(&[0, 10]), &p, &after(-500)), NextStep::WaitUntil { in_ms: 10_000, .. }));
    assert!(matches!(next(&probed_at(&[0, 10]), &p, &after(9_999_999)), NextStep::Close(_)));
}

#[test]
fn a_degraded_watch_closes_at_once() {
    let mut r = probed_at(&[0]);
    r.latched = Some("x".into());
    assert!(matches!(next(&r, &policy(), &stamp(1)), NextStep::Close(Classification::Degraded { .. })));
}

proptest::proptest! {
    #[test]
    fn any_record_is_classified_and_scheduled_without_a_fault(
        outcomes in proptest::collection::vec(0usize..9, 0..40),
        a in proptest::num::f64::ANY, b in proptest::num::f64::ANY,
        window in 0u64..u64::MAX, interval in 0u64..u64::MAX, k in 0u32..9, m in 0u32..9,
        now in i64::MIN..i64::MAX,
    ) {
        let probes = outcomes.iter().map(|o| Probe {
            errors: ErrorReading::Counters(Counts { requests: a, errors_5xx: b }),
            ..probe_with(H::ALL[*o], None, ControlAnswer::Unreached)
        }).collect();
        let r = record(vec![], probes);
        let p = WatchPolicy { window_s: window, interval_s: interval, share_5xx: a, k_of_m: Some((k, m)), ..Default::default() };
        let _ = classify(&r, &p, true);
        let _ = next(&r, &p, &Stamp { wall_ms: now, mono_ms: 0, boot_id: "z".into() });
    }
}

/// SHIP-6: only a later deploy that landed ends the watch over an older one.
#[test]
fn ship_6_which_deploy_ends_an_older_watch() {
    use crate::decide::gates::testing::sha;
    use crate::model::ids::TaskId;
    use crate::model::task::{Actor, Deploy, DeployState};
    let deploy = |task: i64, fence: i64, state: DeployState| Deploy {
        id: format!("{task}-1-{fence}"),
        task_id: TaskId(task),
        repo: "orch".into(),
        attempt: 1,
        fence,
        head: sha('a'),
        base: sha('b'),
        tree: "T".into(),
        state,
        actor: Actor { boot_id: "b".into(), pid: 1, start_ticks: 1 },
        landed_sha: (state != DeployState::Initiated).then(|| sha('e')),
        result: None,
        initiated_at: crate::model::time::Stamp { wall_ms: 1, mono_ms: 1, boot_id: "b".into() },
    };
    let own = deploy(1, 7, DeployState::Settled);
    for (latest, want) in [
        (deploy(2, 8, DeployState::Landed), Some("2-1-8")),
        (deploy(2, 8, DeployState::Started), Some("2-1-8")),
        (deploy(2, 8, DeployState::Settled), Some("2-1-8")),
        (deploy(2, 8, DeployState::Initiated), None),
        (deploy(2, 8, DeployState::Withdrawn), None),
        (deploy(2, 6, DeployState::Settled), None),
        (deploy(1, 8, DeployState::Settled), None),
    ] {
        assert_eq!(superseded(Some(&own), Some(&latest)).as_deref(), want, "{latest:?}");
        assert_eq!(superseded(None, Some(&latest)), None);
    }
    assert_eq!(superseded(Some(&own), None), None);
}

#[test]
fn ship_6_production_is_rolled_back_once_and_only_a_degraded_one_freezes() {
    let key = crate::model::ids::Key::parse("ORCH-1").unwrap();
    let mut record = WatchRecord::armed(1, 1, "1-1-7", None, stamp(0), vec![]);
    let on = OnDegraded { rollback: true, self_hosting: false, freeze: true };
    for status in WatchStatus::ALL.iter().copied() {
        let degraded = status == WatchStatus::Degraded;
        assert_eq!(rolls_back(status, &record, &on), degraded, "{status}");
        let after_it = after(status, "slow", &key, &on);
        assert_eq!(after_it.freeze.is_some(), degraded, "{status}");
        assert_eq!(after_it.alert.is_some(), degraded || status == WatchStatus::Inconclusive, "{status}");
    }
    let degraded = |on: OnDegraded| rolls_back(WatchStatus::Degraded, &record, &on);
    assert!(!degraded(OnDegraded { self_hosting: true, ..on }) && !degraded(OnDegraded { rollback: false, ..on }));
    assert_eq!(after(WatchStatus::Degraded, "slow", &key, &OnDegraded { freeze: false, ..on }).freeze, None);
    record.rollback = Some(crate::model::watch::RollbackRun { started_at: stamp(1), exit: None });
    assert!(!rolls_back(WatchStatus::Degraded, &record, &on), "never a second time");
}
