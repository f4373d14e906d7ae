//! When outbox rows are delivered (NTF-3, RULE-41), and what becomes of them. Pure: rows and times in, what to do out.
//! The calls of one card's delivery are `model::card_steps`.

use crate::model::card::Delivered;
use crate::model::ids::TaskId;
use crate::model::stage::words;
use std::collections::{BTreeMap, HashSet};

/// Growth of the wait after failures, in milliseconds.
const FIRST_WAIT_MS: i64 = 15_000;
const LONGEST_WAIT_MS: i64 = 900_000;
/// A service's own request to wait is believed up to a day.
const LONGEST_THROTTLE_MS: i64 = 86_400_000;

words! {
    /// What a row carries, as far as delivery differs.
    Carries {
        /// Shows a state: only the newest matters.
        Card = "card",
        /// Tells an event: at least once, repeated at most once after an unknown outcome.
        Alert = "alert",
        /// A write to the board or forge that looks before it writes: repeated safely.
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
    /// Tries so far, this one included once it is made.
    pub attempts: i64,
    /// An earlier try ended without an answer.
    pub unknown_outcome: bool,
    /// Wall milliseconds before which it is not tried.
    pub available_at: i64,
}

/// What to do with a row now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Deliver,
    /// Not before this wall millisecond.
    Wait {
        until: i64,
    },
    /// An older row of the same task and sink goes first.
    After {
        row: i64,
    },
    /// A newer card of the same task says more: this one is dropped.
    Collapse {
        into: i64,
    },
}

/// What becomes of a row after a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    Sent,
    /// Once more at `at`; `unknown`: the last try may have arrived, and the repeat says so.
    Retry {
        at: i64,
        unknown: bool,
        why: String,
    },
    /// Closed without knowing; counted. A card comes again at its next change, an alert was sent twice.
    GivenUp {
        why: String,
    },
    /// Refused: shown by `status`, and put back into the queue at most every quarter of an hour.
    Park {
        why: String,
    },
}

/// Decides every open row at once: the oldest per (task, sink) may go, stale cards fold into the newest.
pub fn plan(open: &[RowState], now_ms: i64) -> Vec<(i64, Next)> {
    let mut rows: Vec<&RowState> = open.iter().collect();
    rows.sort_by_key(|r| r.id);
    let mut newest_card: BTreeMap<(Option<TaskId>, &str), i64> = BTreeMap::new();
    for row in rows.iter().filter(|r| r.carries == Carries::Card && r.task.is_some()) {
        newest_card.insert((row.task, row.sink.as_str()), row.id);
    }
    let mut first: BTreeMap<(Option<TaskId>, &str), i64> = BTreeMap::new();
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    for row in rows.into_iter().filter(|r| seen.insert(r.id)) {
        let lane = (row.task, row.sink.as_str());
        if let Some(into) = newest_card.get(&lane).copied().filter(|n| *n != row.id && row.carries == Carries::Card) {
            out.push((row.id, Next::Collapse { into }));
            continue;
        }
        let head = *first.entry(lane).or_insert(row.id);
        out.push((row.id, if head == row.id { deliver(row, now_ms) } else { Next::After { row: head } }));
    }
    out
}

/// Whether the oldest row of its task and sink is due.
pub fn deliver(row: &RowState, now_ms: i64) -> Next {
    if row.available_at <= now_ms { Next::Deliver } else { Next::Wait { until: row.available_at } }
}

/// The wait after `attempts` tries: doubling, at most a quarter of an hour (ORD-1), spread by up to a quarter so that rows that failed
/// together do not come back together.
pub fn back_off_ms(attempts: i64, row: i64) -> i64 {
    let doublings = u32::try_from(attempts.clamp(1, 16) - 1).unwrap_or(0);
    let wait = FIRST_WAIT_MS.saturating_mul(1_i64 << doublings).min(LONGEST_WAIT_MS);
    let spread = row.wrapping_mul(2_654_435_761).rem_euclid(256);
    wait + wait / 4 * spread / 256
}

/// What becomes of a row whose try ended so. `row.attempts` counts this try.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(id: i64, task: i64, carries: Carries) -> RowState {
        let task = Some(TaskId(task));
        RowState { id, task, sink: carries.to_string(), carries, attempts: 1, unknown_outcome: false, available_at: 0 }
    }

    #[test]
    fn only_the_oldest_of_a_task_and_sink_goes() {
        let rows = [
            row(3, 1, Carries::Alert),
            row(1, 1, Carries::Alert),
            row(2, 2, Carries::Alert),
            row(4, 1, Carries::Write),
        ];
        let want = [(1, Next::Deliver), (2, Next::Deliver), (3, Next::After { row: 1 }), (4, Next::Deliver)];
        assert_eq!(plan(&rows, 10), want);
    }

    #[test]
    fn a_waiting_head_holds_its_lane() {
        let mut head = row(1, 1, Carries::Alert);
        head.available_at = 100;
        assert_eq!(
            plan(&[head, row(2, 1, Carries::Alert)], 99),
            [(1, Next::Wait { until: 100 }), (2, Next::After { row: 1 })]
        );
    }

    #[test]
    fn stale_cards_fold_into_the_newest() {
        let rows =
            [row(1, 1, Carries::Card), row(2, 1, Carries::Card), row(3, 2, Carries::Card), row(4, 1, Carries::Card)];
        let into = Next::Collapse { into: 4 };
        assert_eq!(plan(&rows, 0), [(1, into.clone()), (2, into), (3, Next::Deliver), (4, Next::Deliver)]);
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
        fn every_lane_has_at_most_one_delivery_and_back_off_is_bounded(
            rows in proptest::collection::vec((0..50_i64, 0..3_i64, 0..3_usize, 0..20_i64), 0..40), attempts in any::<i64>(), id in any::<i64>(),
        ) {
            let rows: Vec<RowState> = rows.into_iter().map(|(id, task, c, at)| RowState { available_at: at, ..row(id, task, Carries::ALL[c]) }).collect();
            let planned = plan(&rows, 10);
            let mut lanes = HashSet::new();
            for (id, next) in &planned {
                if *next == Next::Deliver {
                    let r = rows.iter().find(|r| r.id == *id).unwrap();
                    prop_assert!(lanes.insert((r.task, r.sink.clone())));
                }
            }
            let wait = back_off_ms(attempts, id);
            prop_assert!((FIRST_WAIT_MS..=LONGEST_WAIT_MS * 5 / 4).contains(&wait));
        }
    }
}
