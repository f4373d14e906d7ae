//! What becomes of outbox rows (NTF-3, RULE-41). Pure: rows and times in, what to do out. The store's order decides
//! which is next. The calls of one card's delivery are in `model::card_steps`.

use crate::model::card::Delivered;
use crate::model::fault::ServiceFault;
use crate::model::ids::TaskId;
use crate::model::stage::words;

/// The first wait of the backoff after failures, in milliseconds.
const FIRST_WAIT_MS: i64 = 15_000;
const LONGEST_WAIT_MS: i64 = 900_000;
/// A service's own request to wait is honoured for up to a day.
const LONGEST_THROTTLE_MS: i64 = 86_400_000;
/// Where a service does not say how long.
const DEFAULT_THROTTLE_S: u64 = 60;

words! {
    /// What a row carries, as far as delivery differs.
    Carries {
        /// Shows a state: only the newest matters.
        Card = "card",
        /// Reports an event: at least once, repeated at most once after an unknown outcome.
        Alert = "alert",
        /// A write to the board or forge that reads before it writes: safe to repeat.
        Write = "write",
    }
}

/// An open row of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowState {
    pub id: i64,
    pub task: Option<TaskId>,
    /// The sink's name: order holds per (task, sink).
    pub sink: String,
    pub carries: Carries,
    /// Tries so far, including this one once it is made.
    pub attempts: i64,
    /// An earlier try ended without an answer.
    pub unknown_outcome: bool,
    /// Wall milliseconds before which it is not tried.
    pub available_at: i64,
}

/// What becomes of a row after a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    Sent,
    /// Retried at `at`; `unknown`: the last try may have arrived, and the repeat says so.
    Retry {
        at: i64,
        unknown: bool,
        why: String,
    },
    /// Closed with its outcome unknown; counted. A card is sent again at its next change; an alert was sent twice.
    GivenUp {
        why: String,
    },
    /// Refused: shown by `status`, and requeued at most every quarter of an hour.
    Park {
        why: String,
    },
}

/// The wait after `attempts` tries: doubling to at most a quarter of an hour (ORD-1), with up to a quarter of jitter so
/// that rows that failed together do not retry together.
pub fn back_off_ms(attempts: i64, row: i64) -> i64 {
    let doublings = u32::try_from(attempts.clamp(1, 16) - 1).unwrap_or(0);
    let wait = FIRST_WAIT_MS.saturating_mul(1_i64 << doublings).min(LONGEST_WAIT_MS);
    let spread = row.wrapping_mul(2_654_435_761).rem_euclid(256);
    wait + wait / 4 * spread / 256
}

/// What becomes of a row whose try ended this way. `row.attempts` counts this try.
pub fn after(row: &RowState, outcome: &Delivered, now_ms: i64) -> After {
    let later = |unknown: bool, why: &str| After::Retry {
        at: now_ms.saturating_add(back_off_ms(row.attempts, row.id)),
        unknown,
        why: why.to_owned(),
    };
    match outcome {
        Delivered::Yes => After::Sent,
        Delivered::Refused { why } => After::Park { why: why.clone() },
        Delivered::Throttled { retry_after_s } => {
            let wait = i64::try_from(*retry_after_s).unwrap_or(i64::MAX).saturating_mul(1000);
            let at = now_ms.saturating_add(wait.clamp(1000, LONGEST_THROTTLE_MS));
            After::Retry { at, unknown: row.unknown_outcome, why: format!("asked to wait {retry_after_s} s") }
        }
        Delivered::NotNow { why } => later(row.unknown_outcome, why),
        Delivered::Unknown { why } => match row.carries {
            Carries::Write => later(true, why),
            Carries::Alert if !row.unknown_outcome => later(true, why),
            Carries::Alert | Carries::Card => After::GivenUp { why: why.clone() },
        },
    }
}

/// What a board's or forge's fault means for the message that was to be written there.
pub fn of_fault(fault: ServiceFault, why: String) -> Delivered {
    match fault {
        ServiceFault::Throttled { seconds } => {
            Delivered::Throttled { retry_after_s: seconds.unwrap_or(DEFAULT_THROTTLE_S) }
        }
        ServiceFault::UnknownOutcome => Delivered::Unknown { why },
        ServiceFault::NotFound | ServiceFault::Invalid => Delivered::Refused { why },
        ServiceFault::Away | ServiceFault::Denied | ServiceFault::Conflict => Delivered::NotNow { why },
    }
}

/// The state of a row over all its sinks. A refusing sink is owed an alert until it accepts it (ORD-5); a card is sent
/// again at its next change.
pub fn over_all(each: Vec<Delivered>, owed: bool) -> Delivered {
    let rank = |d: &Delivered| match d {
        Delivered::Refused { .. } => u8::from(owed) * 2,
        Delivered::Yes => 1,
        Delivered::NotNow { .. } => 3,
        Delivered::Throttled { .. } => 4,
        Delivered::Unknown { .. } => 5,
    };
    each.into_iter().max_by_key(rank).unwrap_or(Delivered::Yes)
}

/// Whether an alert goes to the state directory's file: no sink accepts it.
pub fn to_file(each: &[Delivered]) -> bool {
    each.iter().all(|d| matches!(d, Delivered::Refused { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(id: i64, task: i64, carries: Carries) -> RowState {
        let task = Some(TaskId(task));
        RowState { id, task, sink: carries.to_string(), carries, attempts: 1, unknown_outcome: false, available_at: 0 }
    }

    #[test]
    fn every_outcome_has_its_consequence() {
        let why = || "lost".to_owned();
        let unknown = Delivered::Unknown { why: why() };
        let alert = row(1, 1, Carries::Alert);
        let again = RowState { unknown_outcome: true, ..alert.clone() };
        assert_eq!(after(&alert, &Delivered::Yes, 0), After::Sent);
        assert_eq!(after(&alert, &Delivered::Refused { why: why() }, 0), After::Park { why: why() });
        assert!(matches!(after(&alert, &unknown, 0), After::Retry { unknown: true, .. }), "an alert is sent once more");
        assert_eq!(after(&again, &unknown, 0), After::GivenUp { why: why() }, "and no third time");
        assert_eq!(after(&row(1, 1, Carries::Card), &unknown, 0), After::GivenUp { why: why() });
        let write = RowState { unknown_outcome: true, ..row(1, 1, Carries::Write) };
        assert!(matches!(after(&write, &unknown, 0), After::Retry { unknown: true, .. }));
        let not_now = Delivered::NotNow { why: why() };
        assert!(matches!(after(&again, &not_now, 0), After::Retry { unknown: true, .. }), "what is unknown stays so");
        let old = RowState { attempts: 100_000, ..alert };
        assert!(matches!(after(&old, &not_now, 0), After::Retry { .. }), "tried for as long as it is due");
    }

    #[test]
    fn a_request_to_wait_is_honoured_within_a_day() {
        let throttled =
            |s: u64| match after(&row(1, 1, Carries::Card), &Delivered::Throttled { retry_after_s: s }, 1000) {
                After::Retry { at, .. } => at - 1000,
                other => panic!("{other:?}"),
            };
        assert_eq!(throttled(37), 37_000);
        assert_eq!(throttled(0), 1000);
        assert_eq!(throttled(u64::MAX), LONGEST_THROTTLE_MS);
        let old = RowState { attempts: 10_000, ..row(1, 1, Carries::Card) };
        assert!(matches!(after(&old, &Delivered::Throttled { retry_after_s: 1 }, 0), After::Retry { .. }));
    }

    #[test]
    fn the_wait_doubles_up_to_a_quarter_of_an_hour_and_is_spread() {
        assert_eq!(back_off_ms(1, 0), 15_000);
        assert_eq!(back_off_ms(2, 0), 30_000);
        assert_eq!(back_off_ms(9, 0), 900_000);
        assert_ne!(back_off_ms(1, 1), back_off_ms(1, 2));
    }

    proptest! {
        #[test]
        fn back_off_is_bounded(attempts in any::<i64>(), id in any::<i64>()) {
            let wait = back_off_ms(attempts, id);
            prop_assert!((FIRST_WAIT_MS..=LONGEST_WAIT_MS * 5 / 4).contains(&wait));
        }
    }

    #[test]
    fn ord_5_a_sink_that_refuses_gets_a_pending_alert_and_no_card() {
        let refused = || Delivered::Refused { why: "no".into() };
        let not_now = || Delivered::NotNow { why: "later".into() };
        let unknown = || Delivered::Unknown { why: "?".into() };
        assert_eq!(over_all(vec![], true), Delivered::Yes);
        assert_eq!(over_all(vec![Delivered::Yes, refused()], true), refused());
        assert_eq!(over_all(vec![Delivered::Yes, refused()], false), Delivered::Yes);
        assert_eq!(over_all(vec![refused(), not_now()], true), not_now());
        let throttled = Delivered::Throttled { retry_after_s: 1 };
        assert_eq!(over_all(vec![not_now(), throttled.clone()], true), throttled);
        assert_eq!(over_all(vec![unknown(), throttled], true), unknown());
        assert!(to_file(&[]) && to_file(&[refused()]) && !to_file(&[refused(), not_now()]));
    }

    #[test]
    fn a_service_that_refuses_permanently_parks_the_message() {
        let of = |fault| of_fault(fault, "w".into());
        for (fault, parks) in [
            (ServiceFault::NotFound, true),
            (ServiceFault::Invalid, true),
            (ServiceFault::Denied, false),
            (ServiceFault::Conflict, false),
            (ServiceFault::Away, false),
        ] {
            assert_eq!(matches!(of(fault), Delivered::Refused { .. }), parks, "{fault:?}");
        }
        assert!(matches!(of(ServiceFault::UnknownOutcome), Delivered::Unknown { .. }));
        assert_eq!(of(ServiceFault::Throttled { seconds: Some(7) }), Delivered::Throttled { retry_after_s: 7 });
        assert_eq!(of(ServiceFault::Throttled { seconds: None }), Delivered::Throttled { retry_after_s: 60 });
    }
}
