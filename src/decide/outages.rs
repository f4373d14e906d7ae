//! How long an outage is recorded, when it is reported, and when it is over (NTF-2). Pure.

use crate::model::fault::Unreached;
use crate::model::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An outage that lasts this long is reported.
const LONG_MS: i64 = 15 * 60_000;
/// Where nothing was tried for this long, the record is of an outage whose end nobody saw.
const FORGOTTEN_MS: i64 = 60 * 60_000;

/// A service that is unavailable. Times are wall milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    pub since: i64,
    /// The last failure.
    pub seen: i64,
    pub alerted: bool,
    /// The parts that fail, each with its newest cause.
    pub parts: BTreeMap<String, String>,
}

impl Outage {
    /// Whether it was used recently.
    pub fn is_current(&self, now: i64) -> bool {
        now - self.seen < FORGOTTEN_MS
    }

    /// The number of its alerts: when it began, in minutes. One outage makes the same key in every process.
    pub fn number(&self) -> i64 {
        self.since / 60_000
    }
}

/// A failed call: the outage as recorded now, and how many minutes it has lasted where that is to be reported.
pub fn failed(known: Option<Outage>, part: &str, why: String, now: i64) -> (Outage, Option<i64>) {
    let known = known.filter(|o| o.is_current(now));
    let mut outage = known.unwrap_or(Outage { since: now, ..Outage::default() });
    outage.seen = now;
    outage.parts.insert(part.to_owned(), why);
    let lasts = now - outage.since;
    let report = lasts >= LONG_MS && !outage.alerted;
    outage.alerted |= report;
    (outage, report.then_some(lasts / 60_000))
}

/// What of a service is affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The host, for every project on it.
    Host,
    /// One account on it.
    Account,
    /// One project only.
    Project,
}

/// What a forge's *no* shows to be unavailable; `None`: one kind of call is refused, and the forge is there for all
/// others (RULE-44).
pub fn of_refusal(refusal: &Refusal) -> Option<Scope> {
    match refusal {
        Refusal::BadCredential => Some(Scope::Account),
        Refusal::Archived | Refusal::MovedTo { .. } | Refusal::Gone | Refusal::Foreign => Some(Scope::Project),
        Refusal::Denied { .. } | Refusal::Missing | Refusal::NoPullRequests | Refusal::Other => None,
    }
}

/// How a git call failed, where that says something about the remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitFailed {
    TimedOut,
    Unreachable(Unreached),
    Refused,
}

/// What such a failure shows to be unavailable: whether git gets through at all is the same for every repository of the
/// host.
pub fn of_git(failed: GitFailed) -> Scope {
    match failed {
        GitFailed::TimedOut => Scope::Host,
        GitFailed::Unreachable(Unreached::NoConnection | Unreached::ServerError) => Scope::Host,
        GitFailed::Unreachable(
            Unreached::Certificate | Unreached::SignIn | Unreached::ProxyLogin | Unreached::Limited | Unreached::Other,
        )
        | GitFailed::Refused => Scope::Project,
    }
}

/// A service's request to wait is honoured for up to a day, in seconds.
const LONGEST_WAIT_S: u64 = 86_400;
/// Where a service does not say how long: the first pause, and the longest that it doubles to, in milliseconds.
const FIRST_UNTOLD_MS: i64 = 60_000;
const LONGEST_UNTOLD_MS: i64 = 15 * 60_000;

/// A pause that a service asked for, as it is stored: `UNTIL`, or `UNTIL UNTOLD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Wall milliseconds before which the service is not called.
    pub until: i64,
    /// How many pauses in a row, this one included, came without a time.
    pub untold: u32,
}

impl Pause {
    /// `None`: not a pause, which counts as none.
    pub fn parse(text: &str) -> Option<Self> {
        let (until, untold) = text.split_once(' ').unwrap_or((text, "0"));
        Some(Self { until: until.parse().ok()?, untold: untold.parse().unwrap_or(0) })
    }
}

impl std::fmt::Display for Pause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.untold {
            0 => write!(f, "{}", self.until),
            untold => write!(f, "{} {untold}", self.until),
        }
    }
}

/// The pause after a request to wait at `now` (wall ms). `seconds`: as the service said; if it did not, a pause that
/// soon follows the last one is twice as long (services-github §2).
pub fn pause(before: Option<Pause>, seconds: Option<u64>, now: i64) -> Pause {
    if let Some(seconds) = seconds {
        let wait = i64::try_from(seconds.clamp(1, LONGEST_WAIT_S)).unwrap_or(60);
        return Pause { until: now.saturating_add(wait * 1000), untold: 0 };
    }
    let soon = before.filter(|b| now.saturating_sub(b.until) < LONGEST_UNTOLD_MS);
    let untold = soon.map_or(0, |b| b.untold).saturating_add(1);
    let wait = FIRST_UNTOLD_MS.saturating_mul(1_i64 << (untold - 1).min(10)).min(LONGEST_UNTOLD_MS);
    Pause { until: now.saturating_add(wait), untold }
}

/// What an answered call leaves of an outage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// Another part of it still fails.
    Other(Outage),
    /// It is over; with the minutes that it lasted, where it was reported.
    Nothing { reported: Option<i64> },
}

/// Records a call that was answered.
pub fn answered(mut outage: Outage, part: &str, now: i64) -> Left {
    outage.parts.remove(part);
    if !outage.parts.is_empty() {
        return Left::Other(outage);
    }
    Left::Nothing { reported: outage.alerted.then(|| (now - outage.since) / 60_000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn fail(known: Option<Outage>, part: &str, minutes: i64) -> (Outage, Option<i64>) {
        failed(known, part, "away".to_owned(), minutes * MINUTE)
    }

    #[test]
    fn ntf_2_an_outage_is_reported_once_it_has_lasted_a_quarter_of_an_hour_and_only_once() {
        let (mut outage, mut reported) = fail(None, "forge", 0);
        let mut all = vec![reported];
        for minutes in [5, 14, 15, 16, 40] {
            (outage, reported) = fail(Some(outage), "forge", minutes);
            all.push(reported);
        }
        assert_eq!(all, [None, None, None, Some(15), None, None]);
        assert_eq!((outage.since, outage.number(), outage.alerted), (0, 0, true));
    }

    #[test]
    fn ntf_2_what_nobody_asked_for_an_hour_is_another_outage() {
        let (first, _) = fail(None, "git", 0);
        assert!(first.is_current(59 * MINUTE) && !first.is_current(60 * MINUTE));
        let (second, reported) = fail(Some(first), "git", 60);
        assert_eq!((second.since, reported), (60 * MINUTE, None));
    }

    #[test]
    fn ntf_2_it_is_over_once_each_part_has_answered() {
        let (outage, _) = fail(None, "git", 0);
        let (outage, _) = fail(Some(outage), "git push", 20);
        assert!(outage.alerted);
        let Left::Other(outage) = answered(outage, "git", 21 * MINUTE) else { panic!() };
        assert_eq!(answered(outage, "git push", 25 * MINUTE), Left::Nothing { reported: Some(25) });
        let (short, _) = fail(None, "board", 3);
        assert_eq!(answered(short.clone(), "forge", 4 * MINUTE), Left::Other(short.clone()), "another part answered");
        assert_eq!(answered(short, "board", 4 * MINUTE), Left::Nothing { reported: None });
    }

    #[test]
    fn rule_44_an_outage_is_of_as_much_as_its_failure_says() {
        assert_eq!(of_refusal(&Refusal::BadCredential), Some(Scope::Account));
        assert_eq!(of_refusal(&Refusal::Archived), Some(Scope::Project));
        assert_eq!(of_refusal(&Refusal::Missing), None, "one kind of call is refused");
        assert_eq!((of_git(GitFailed::TimedOut), of_git(GitFailed::Refused)), (Scope::Host, Scope::Project));
        let unreachable = |how| of_git(GitFailed::Unreachable(how));
        assert_eq!(
            [Unreached::NoConnection, Unreached::ServerError, Unreached::Certificate, Unreached::Other]
                .map(unreachable),
            [Scope::Host, Scope::Host, Scope::Project, Scope::Project]
        );
    }

    #[test]
    fn a_request_to_wait_is_believed_for_a_day_at_most() {
        let until = |seconds, now| pause(None, seconds, now).until;
        assert_eq!((until(Some(7), 100), until(None, 100)), (7_100, 60_100));
        assert_eq!((until(Some(0), 0), until(Some(u64::MAX), 0)), (1_000, 86_400_000));
    }

    #[test]
    fn gh_1_a_wait_without_a_time_doubles_to_a_quarter_of_an_hour_and_starts_over_after_a_good_while() {
        let mut last: Option<Pause> = None;
        let mut now = 0;
        for minutes in [1, 2, 4, 8, 15, 15] {
            let next = pause(last, None, now);
            assert_eq!((next.until - now) / 60_000, minutes, "{next:?}");
            assert_eq!(Pause::parse(&next.to_string()), Some(next));
            (now, last) = (next.until + 1000, Some(next));
        }
        assert_eq!(pause(last, Some(5), now), Pause { until: now + 5_000, untold: 0 }, "what it says counts");
        assert_eq!(pause(last, None, now + LONGEST_UNTOLD_MS).untold, 1, "the limit was off for long");
        assert_eq!((Pause::parse("7"), Pause::parse("x")), (Some(Pause { until: 7, untold: 0 }), None));
    }
}
