//! How often a cause that spends no attempt may restart a run, or defer one (RULE-48). Counted per cause on the job
//! rows of one visit to a stage. `orch retry` begins a new visit, which clears every count.

use super::back_off::back_off;
use crate::model::report::Rule;
use crate::model::task::{Cause, Job, MOST_PUT_OFF_MS};

/// A run restarts twice for one cause; the third time the task is held with it.
const MOST: i64 = 2;
/// The pause between two tries of what waits for a remote, in milliseconds.
const WAIT_MS: i64 = 15_000;
/// The pause before a supervisor that could not be started is tried again, in milliseconds. Nothing signals that the
/// cause is gone, so it is polled: at half a timer's usual ten seconds, so that a start does not miss the next step,
/// and a loop of steps polls at most twelve times a minute.
pub const START_AGAIN_MS: i64 = 5_000;
/// What this machine lacks is checked again no sooner than this, whatever `agents.retry_backoff_s` says.
const LEAST_MS: i64 = 5_000;

/// What follows once something was deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Retried after this many milliseconds.
    After(i64),
    /// The task is blocked with the cause until a person's `retry`.
    Hold,
}

/// How often a cause may repeat; `None`: for as long as it lasts, since no agent works meanwhile.
fn bound(cause: Cause) -> Option<i64> {
    match cause {
        Cause::Lost | Cause::Cluster | Cause::HeadMoved | Cause::PushRefused => Some(MOST),
        Cause::Outage | Cause::TakenBack | Cause::Environment | Cause::BaseFirst => None,
    }
}

/// What a run left is kept, deferred for the `times`-th time for this cause.
pub fn defer(cause: Cause, times: i64) -> Again {
    match bound(cause) {
        Some(most) if times > most => Again::Hold,
        Some(_) | None => Again::After(WAIT_MS),
    }
}

/// The rule that holds a job that was requeued for this cause until its time (RULE-45).
pub fn rule(cause: Option<Cause>) -> Rule {
    match cause {
        Some(Cause::Environment) => Rule::Environment,
        Some(Cause::BaseFirst) => Rule::BasePending,
        Some(
            Cause::Lost | Cause::Cluster | Cause::HeadMoved | Cause::PushRefused | Cause::Outage | Cause::TakenBack,
        )
        | None => Rule::Backoff,
    }
}

/// The wait before the `times`-th further try for something this machine lacks, in milliseconds: growing from
/// `first_ms` (`agents.retry_backoff_s`) to at most five minutes (ORD-1). A wait of zero would retry without a pause.
pub fn environment_wait(first_ms: i64, times: i64) -> i64 {
    back_off(first_ms.max(LEAST_MS), times, 0).min(MOST_PUT_OFF_MS)
}

/// The cause that has restarted a run once too often among these failed jobs of one visit, with its count.
pub fn exhausted<'j>(failed: impl Iterator<Item = &'j Job>) -> Option<(Cause, i64)> {
    let mut counts: Vec<(Cause, i64)> = Vec::new();
    for job in failed.filter(|j| !j.spent) {
        let cause = job.cause.unwrap_or(Cause::Lost);
        match counts.iter_mut().find(|(c, _)| *c == cause) {
            Some((_, n)) => *n += 1,
            None => counts.push((cause, 1)),
        }
    }
    counts.into_iter().find(|(cause, n)| bound(*cause).is_some_and(|most| *n > most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::gates::testing;

    #[test]
    fn rule_48_every_cause_has_its_bound() {
        for cause in Cause::ALL {
            let held = matches!(cause, Cause::Lost | Cause::Cluster | Cause::HeadMoved | Cause::PushRefused);
            assert_eq!(defer(*cause, 1), Again::After(WAIT_MS), "{cause}");
            assert_eq!(defer(*cause, 2), Again::After(WAIT_MS), "{cause}");
            assert_eq!(defer(*cause, 3) == Again::Hold, held, "{cause}");
            assert_eq!(defer(*cause, 1000) == Again::Hold, held, "{cause}");
        }
    }

    #[test]
    fn rule_45_what_the_machine_lacks_is_tried_again_within_five_minutes_and_never_without_a_pause() {
        let waits: Vec<i64> = (1..=9).map(|n| environment_wait(5_000, n)).collect();
        assert_eq!(waits, [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000, 300_000]);
        assert_eq!((environment_wait(0, 1), environment_wait(60_000, 9)), (5_000, 300_000));
        assert_eq!(rule(Some(Cause::Environment)), Rule::Environment);
        assert_eq!((rule(Some(Cause::BaseFirst)), rule(None)), (Rule::BasePending, Rule::Backoff));
    }

    #[test]
    fn rule_48_runs_are_counted_by_cause() {
        let job = |cause: Option<Cause>, spent: bool| Job { cause, spent, ..testing::failed_job() };
        let (lost, moved) = (Some(Cause::Lost), Some(Cause::HeadMoved));
        let jobs = |list: &[(Option<Cause>, bool)]| list.iter().map(|(c, s)| job(*c, *s)).collect::<Vec<_>>();
        let cases = [
            (jobs(&[]), None),
            (jobs(&[(lost, false), (lost, false)]), None),
            (jobs(&[(lost, false), (moved, false), (lost, false), (moved, false)]), None),
            (jobs(&[(lost, false), (None, false), (lost, false)]), Some((Cause::Lost, 3))),
            (jobs(&[(moved, false), (moved, false), (lost, false), (moved, false)]), Some((Cause::HeadMoved, 3))),
            (jobs(&[(lost, true), (lost, true), (lost, true)]), None),
            (jobs(&[(Some(Cause::Outage), false); 9]), None),
        ];
        for (jobs, want) in cases {
            assert_eq!(exhausted(jobs.iter()), want, "{jobs:?}");
        }
    }
}
