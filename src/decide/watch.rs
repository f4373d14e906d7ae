//! The post-deploy watch (SHIP-6): a pure classifier over the whole record, and the schedule any later step can resume.

use crate::model::ids::Key;
use crate::model::seen::{Seen, judge};
use crate::model::task::{Deploy, DeployState};
use crate::model::time::Stamp;
use crate::model::watch::{
    Classification, Counts, ErrorReading, MAX_PROBES, Probe, RevisionAnswer, WatchPolicy, WatchRecord, WatchStatus,
};
use std::collections::VecDeque;

/// How many drops of a counter a deploy explains.
const MOST_FALLS: u64 = 1;

/// The share of 5xx, fed probe by probe.
#[derive(Debug, Clone, Default)]
struct Share {
    last: Option<Counts>,
    total: Counts,
    missing: u64,
    /// Readings of a declared source, whether one of them ever showed a request, and how often they fell.
    readings: u64,
    moved: bool,
    falls: u64,
}

impl Share {
    fn feed(&mut self, probe: &Probe) {
        match &probe.errors {
            ErrorReading::Own => {
                for status in probe.health.iter().filter_map(|h| h.status) {
                    self.total.requests += 1.0;
                    self.total.errors_5xx += if status >= 500 { 1.0 } else { 0.0 };
                }
            }
            ErrorReading::NoData(_) => self.missing += 1,
            ErrorReading::Window(now) => match Counts::believed(now.requests, now.errors_5xx) {
                Err(_) => self.missing += 1,
                Ok(now) => {
                    self.readings += 1;
                    self.moved |= now.requests > 0.0;
                    self.total.requests += now.requests;
                    self.total.errors_5xx += now.errors_5xx;
                }
            },
            ErrorReading::Counters(now) => match Counts::believed(now.requests, now.errors_5xx) {
                Err(_) => self.missing += 1,
                Ok(now) => {
                    if let Some(before) = self.last {
                        self.readings += 1;
                        self.moved |= now.requests != before.requests;
                        self.falls += u64::from(now.requests < before.requests || now.errors_5xx < before.errors_5xx);
                    }
                    if let Some(step) = self.last.and_then(|before| step(before, now)) {
                        self.total.requests += step.requests;
                        self.total.errors_5xx += step.errors_5xx;
                    }
                    self.last = Some(now);
                }
            },
        }
    }

    /// Why the readings can't be what they were taken for. One drop is a restart of the counting process, as a deploy
    /// makes; a query over a window rises and falls freely.
    fn implausible(&self) -> Option<String> {
        if self.falls > MOST_FALLS {
            return Some(format!(
                "the error source's counters fell {} times, as a window's numbers do: give a counter such as sum(http_requests_total), or set `reading: window`",
                self.falls
            ));
        }
        (self.readings > 0 && !self.moved).then(|| {
            format!("the error source showed no request in {} readings: the counters never moved", self.readings)
        })
    }

    fn exceeded(&self, p: &WatchPolicy) -> Option<String> {
        let Counts { requests, errors_5xx: errors } = self.total;
        // Counts from a query may be fractions: 2.9999 errors are three.
        if requests.round() < p.min_requests as f64 || errors.round() < WatchPolicy::MIN_ERRORS {
            return None;
        }
        (errors / requests > p.share_5xx).then(|| {
            format!(
                "{errors:.0} of {requests:.0} requests were answered 5xx ({:.1} %, more than {:.1} %)",
                100.0 * errors / requests,
                100.0 * p.share_5xx
            )
        })
    }
}

/// What happened between two readings of growing counters. Fewer requests: the counting process restarted, and what it
/// counts since is new. Anything else that counters can't do says nothing.
fn step(before: Counts, now: Counts) -> Option<Counts> {
    if now.requests < before.requests {
        return Some(now);
    }
    let (requests, errors_5xx) = (now.requests - before.requests, now.errors_5xx - before.errors_5xx);
    (errors_5xx >= 0.0 && errors_5xx <= requests).then_some(Counts { requests, errors_5xx })
}

/// What the whole record says. Rules are tried after each probe in order, so a fault that healed later still counts
/// (DEGRADED latches). `window_closed`: no further probe will come.
pub fn classify(record: &WatchRecord, policy: &WatchPolicy, window_closed: bool) -> Classification {
    if let Some(newer) = &record.superseded_by {
        return Classification::Cancelled { why: format!("deploy {newer} took over") };
    }
    if let Some(why) = &record.latched {
        return Classification::Degraded { why: why.clone() };
    }
    let p = policy.sane();
    let revision = record.revision.as_deref();
    let threshold = u64::from(p.fail_threshold);
    let mut share = Share::default();
    for b in &record.baseline {
        share.feed(b);
    }
    let share_was_sick = share.exceeded(&p).is_some();
    share.total = Counts::default();
    (share.missing, share.readings, share.moved, share.falls) = (0, 0, false, 0);
    let mut sick = sick_before(record);
    let mut excused = None;
    let (mut made, mut failures, mut bad_row, mut good_row, mut no_revision) = (0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
    let mut not_made: Option<String> = None;
    let mut recent: VecDeque<bool> = VecDeque::new();
    for probe in &record.probes {
        let failed = match judge(probe, revision) {
            Seen::Well => None,
            Seen::Failed(why) => Some(why),
            Seen::NotMade(why) => {
                not_made = Some(why);
                continue;
            }
        };
        made += 1;
        no_revision += u64::from(revision.is_some() && matches!(probe.revision, Some(RevisionAnswer::None(_))));
        share.feed(probe);
        if failed.is_some() {
            (failures, bad_row, good_row) = (failures + 1, bad_row + 1, 0);
        } else {
            (bad_row, good_row) = (0, good_row + 1);
        }
        if let Some((_, m)) = p.k_of_m {
            recent.push_back(failed.is_some());
            while recent.len() > m as usize {
                recent.pop_front();
            }
        }
        if sick && good_row >= threshold {
            // As many good probes in a row as bad ones would condemn: it is healthy now, and what follows is news.
            (sick, excused) = (false, None);
            recent.clear();
        }
        let health = health_rule(&p, bad_row, &recent, failed.as_deref());
        let errors = share.exceeded(&p);
        match (health, errors) {
            (Some(why), _) if !sick => return Classification::Degraded { why },
            (_, Some(why)) if !sick && !share_was_sick => return Classification::Degraded { why },
            (Some(why), _) | (None, Some(why)) => excused = Some(why),
            (None, None) => {}
        }
    }
    if !window_closed {
        return Classification::Pending;
    }
    if let Some(why) = excused {
        return Classification::Inconclusive {
            why: format!("sick_before: the service was already unhealthy before the deploy ({why})"),
        };
    }
    let expected = p.expected();
    let short = |n: u64| n.saturating_mul(100) < expected.saturating_mul(80);
    if short(made) {
        let because = not_made.map(|w| format!("; last obstacle: {w}")).unwrap_or_default();
        return Classification::Inconclusive {
            why: format!("only {made} of {expected} expected probes could be made{because}"),
        };
    }
    let readings = made.saturating_sub(share.missing);
    if share.missing > 0 && short(readings) {
        let why = format!("the error source answered at only {readings} of {expected} expected probes");
        return Classification::Inconclusive { why };
    }
    if let Some(why) = share.implausible() {
        return Classification::Inconclusive { why };
    }
    let reported = made.saturating_sub(no_revision);
    if no_revision > 0 && short(reported) {
        let why = format!("only {reported} of {expected} expected probes reported which revision runs");
        return Classification::Inconclusive { why };
    }
    let why = if failures == 0 {
        format!("{made} of {made} probes were clean")
    } else {
        format!("{failures} of {made} probes failed, too few for any rule to count as degraded")
    };
    Classification::Healthy { why }
}

fn health_rule(p: &WatchPolicy, bad_row: u64, recent: &VecDeque<bool>, last: Option<&str>) -> Option<String> {
    let last = last.map(|l| format!(" (last: {l})")).unwrap_or_default();
    if bad_row >= u64::from(p.fail_threshold) {
        return Some(format!("{bad_row} health probes in a row failed{last}"));
    }
    let (k, m) = p.k_of_m?;
    let failed = recent.iter().filter(|f| **f).count();
    (failed >= k as usize).then(|| format!("{failed} of the last {m} health probes failed{last}"))
}

/// Whether the service was sick before the deploy: at least half of the baseline probes that could be made failed. The
/// baseline is not held against the new revision, which is not running yet.
pub fn sick_before(record: &WatchRecord) -> bool {
    let (mut made, mut failed) = (0_usize, 0_usize);
    for b in &record.baseline {
        match judge(b, None) {
            Seen::Well => made += 1,
            Seen::Failed(_) => (made, failed) = (made + 1, failed + 1),
            Seen::NotMade(_) => {}
        }
    }
    failed > 0 && failed * 2 >= made
}

/// The record with one more probe, latched if that made it DEGRADED. A record that is over accepts none.
#[must_use]
pub fn append(mut record: WatchRecord, probe: Probe, policy: &WatchPolicy) -> WatchRecord {
    let full = record.probes.len() as u64 > MAX_PROBES;
    if full || record.latched.is_some() || record.superseded_by.is_some() {
        return record;
    }
    record.probes.push(probe);
    if let Classification::Degraded { why } = classify(&record, policy, false) {
        record.latched = Some(why);
    }
    record
}

/// What a step that finds this watch does.
#[derive(Debug, Clone, PartialEq)]
pub enum NextStep {
    ProbeNow,
    /// Nothing before then; `in_ms` from now, `wall_ms` for people and rows.
    WaitUntil {
        in_ms: i64,
        wall_ms: i64,
    },
    /// Write the log and end it.
    Close(Classification),
}

/// The schedule: a probe when armed and after every interval until the window's end; missed ones are skipped, not made
/// up for. Any step may resume it after a crash or a reboot: ages run from probe to probe, on the monotonic clock where
/// both are of one boot, else on the wall clock and never backwards (RULE-33).
pub fn next(record: &WatchRecord, policy: &WatchPolicy, now: &Stamp) -> NextStep {
    let so_far = classify(record, policy, false);
    if so_far.status().is_some() {
        return NextStep::Close(so_far);
    }
    let p = policy.sane();
    let interval = millis(p.interval_s);
    let last_slot = millis(p.window_s).checked_div(interval).unwrap_or(0).min(MAX_PROBES as i64);
    let mut age = 0_i64;
    let mut before = &record.armed_at;
    for probe in &record.probes {
        age = age.saturating_add(gap(before, &probe.at));
        before = &probe.at;
    }
    let taken = if record.probes.is_empty() { -1 } else { (age / interval).min(last_slot) };
    age = age.saturating_add(gap(before, now));
    let over = age >= last_slot.saturating_add(1).saturating_mul(interval);
    if over || taken >= last_slot {
        return NextStep::Close(classify(record, policy, true));
    }
    let due = taken.saturating_add(1).saturating_mul(interval);
    if age >= due {
        return NextStep::ProbeNow;
    }
    let in_ms = due - age;
    NextStep::WaitUntil { in_ms, wall_ms: now.wall_ms.saturating_add(in_ms) }
}

fn millis(seconds: u64) -> i64 {
    i64::try_from(seconds.min(10_000_000_000)).unwrap_or(i64::MAX).saturating_mul(1000)
}

/// Milliseconds between two readings, never negative; across a boot only the wall clock counts.
fn gap(before: &Stamp, after: &Stamp) -> i64 {
    after.since(before).unwrap_or_else(|| after.wall_ms.saturating_sub(before.wall_ms).max(0))
}

/// The deploy that ends the watch over another: the repository's newest, once something of it landed under a later
/// lease and for another task. `own`: the newest deploy of the watched task; without one nothing is known.
pub fn superseded(own: Option<&Deploy>, latest: Option<&Deploy>) -> Option<String> {
    let (own, latest) = (own?, latest?);
    let newer = latest.task_id != own.task_id && latest.fence > own.fence;
    let landed = latest.state != DeployState::Withdrawn && latest.landed_sha.is_some();
    (newer && landed).then(|| latest.id.clone())
}

/// What production's project does once a watch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnDegraded {
    /// `post_deploy.on_degraded: rollback`.
    pub rollback: bool,
    /// It deploys this very program, which does not roll itself back.
    pub self_hosting: bool,
    /// `serial_gate.freeze_enabled`.
    pub freeze: bool,
}

/// Whether production is rolled back: at most once (SHIP-6).
pub fn rolls_back(status: WatchStatus, record: &WatchRecord, on: &OnDegraded) -> bool {
    status == WatchStatus::Degraded && record.rollback.is_none() && on.rollback && !on.self_hosting
}

/// What follows from a watch's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AfterWatch {
    /// The alert's detail.
    pub alert: Option<String>,
    /// Why the repository is frozen (SHIP-7).
    pub freeze: Option<String>,
}

/// Only a deploy that went bad freezes; one that could not be watched is reported as well.
pub fn after(status: WatchStatus, why: &str, key: &Key, on: &OnDegraded) -> AfterWatch {
    let alert = match status {
        WatchStatus::Degraded | WatchStatus::Inconclusive => Some(format!("{status}: {why}")),
        WatchStatus::Healthy | WatchStatus::Cancelled => None,
    };
    let freeze = status == WatchStatus::Degraded && on.freeze;
    AfterWatch { alert, freeze: freeze.then(|| format!("{key} is DEGRADED after its deploy: {why}")) }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
