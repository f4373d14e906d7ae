//! How long a source has kept answering "not yet" (RULE-8). Pure.

use crate::model::time::Stamp;
use serde::{Deserialize, Serialize};

/// The record of a source's answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undecided {
    /// Milliseconds of "not yet" so far.
    pub ms: i64,
    /// The last question.
    pub at: Stamp,
    /// It was answered.
    pub answered: bool,
}

/// A longer gap between two answers was an outage, or nobody asked.
pub const GAP_MS: i64 = 300_000;

/// One more question. Only intervals between two answers count, on the monotonic clock (RULE-33). An outage in between,
/// or another boot, counts for nothing. `longest`: a longer gap counts for nothing either.
pub fn asked(before: Option<&Undecided>, answered: bool, now: &Stamp, longest: Option<i64>) -> Undecided {
    let counts = |b: &&Undecided| answered && b.answered;
    let gap = before.filter(counts).and_then(|b| now.since(&b.at)).unwrap_or(0);
    let gap = if longest.is_some_and(|most| gap > most) { 0 } else { gap };
    Undecided { ms: before.map_or(0, |b| b.ms) + gap, at: now.clone(), answered }
}

/// When statuses that do not exist yet are polled again, in milliseconds from now: after a quarter of the time waited
/// so far, within these bounds.
pub fn next_look_ms(waited_ms: i64) -> i64 {
    (waited_ms / 4).clamp(2_000, 30_000)
}

/// The wait before a forge that did not answer is asked again; `told`: when the pause it asked for ends.
pub fn after_outage(told: Option<i64>, now: i64) -> i64 {
    told.unwrap_or(0).max(now + 5_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono_ms: i64) -> Stamp {
        Stamp { wall_ms: 0, mono_ms, boot_id: "b".into() }
    }

    #[test]
    fn rule_8_only_the_time_between_two_answers_counts() {
        let mut kept = None;
        let mut sums = Vec::new();
        for (answered, mono) in [(true, 0), (true, 10), (false, 50), (true, 90), (true, 95), (true, 2_000)] {
            let next = asked(kept.as_ref(), answered, &at(mono), Some(1_000));
            sums.push(next.ms);
            kept = Some(next);
        }
        assert_eq!(sums, [0, 10, 10, 10, 15, 15], "an outage and a long gap count for nothing");
        let boot = Stamp { boot_id: "c".into(), ..at(9_000) };
        assert_eq!(asked(kept.as_ref(), true, &boot, None).ms, 15);
        assert_eq!(asked(kept.as_ref(), true, &at(9_000), None).ms, 7_015);
    }

    #[test]
    fn statuses_are_polled_less_often_the_longer_they_take() {
        assert_eq!([0, 8_000, 40_000, 9_999_999].map(next_look_ms), [2_000, 2_000, 10_000, 30_000]);
        assert_eq!((after_outage(None, 100), after_outage(Some(9_000), 100)), (5_100, 9_000));
    }
}
