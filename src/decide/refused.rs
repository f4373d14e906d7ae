//! How an effect that the forge or the remote refuses is retried, and when that ends (ORD-1, RULE-45).

use super::back_off::back_off;
use crate::model::change::Change;
use crate::model::decision::Procedure;
use crate::model::policy::EffectBounds;
use crate::model::refusal::{Asked, RefusedEffect};
use crate::model::task::{MOST_PUT_OFF_MS, Task};

/// The wait before the first retry, in milliseconds; doubling.
const FIRST_MS: i64 = 15_000;

/// What to record for one more *no*, and whether it was the last that its bound allows.
pub fn once_more(
    before: Option<&RefusedEffect>,
    asked: Asked,
    answer: String,
    now_ms: i64,
    bounds: EffectBounds,
) -> (RefusedEffect, bool) {
    // However often another effect came between, the task has been refused all the time.
    let tries = before.map_or(0, |b| b.tries).saturating_add(1);
    // While nobody asked for long (the machine slept), nothing was refused.
    let gap = before.filter(|b| !b.silent).map_or(0, |b| (now_ms - b.last_at).clamp(0, 2 * MOST_PUT_OFF_MS));
    let answered_ms = before.map_or(0, |b| b.answered_ms).saturating_add(gap);
    let wait = back_off(FIRST_MS, tries, 0).min(MOST_PUT_OFF_MS);
    let noted =
        RefusedEffect { asked, answer, tries, answered_ms, last_at: now_ms, silent: false, next_at: now_ms + wait };
    (noted, tries >= bounds.max_tries || answered_ms >= bounds.max_ms)
}

/// What one more *no* means for a task: what to record, and past its bound the reason to block it.
pub fn refused(
    task: &Task,
    asked: Asked,
    answer: &str,
    bounds: EffectBounds,
    now_ms: i64,
) -> (RefusedEffect, Option<String>) {
    // A stop abandons what was refused before, which therefore does not count against it.
    let before = task.refused.as_ref().filter(|r| asked != Asked::Stop || r.asked == Asked::Stop);
    let (noted, last) = once_more(before, asked, answer.to_owned(), now_ms, bounds);
    let why = last.then(|| {
        format!(
            "the forge refused {} {} times, the last time: {answer}; the work is kept: `orch retry {}` retries it without starting an agent",
            asked.words(),
            noted.tries,
            task.key
        )
    });
    (noted, why)
}

/// What a tried effect says about the recorded refusal; `None`: nothing. `silent`: nobody answered.
pub fn tried(before: &Task, now: &Task, asked: Asked, silent: bool, at: i64) -> Option<Change> {
    let ours = |t: &Task| t.refused.as_ref().is_some_and(|r| r.asked == asked);
    if !(ours(before) || (silent && before.refused.is_some())) {
        return None;
    }
    match (&now.refused, silent) {
        (Some(_), true) => Some(Change::RefusalSilent { at }),
        (Some(_), false) if ours(now) => Some(Change::NotRefused(asked)),
        (Some(_) | None, _) => None,
    }
}

/// The name of an effect for people.
pub fn asked(effect: Procedure) -> Asked {
    match effect {
        Procedure::OpenPull => Asked::OpenPull,
        Procedure::MergeGate | Procedure::VerdictInputs => Asked::MergeGate,
        Procedure::OpenDeploy => Asked::OpenDeploy,
        Procedure::Land => Asked::Land,
        Procedure::CompleteStop => Asked::Stop,
    }
}

/// Whether an effect of a task that is done has been refused for as long as its bound allows: there is nothing to
/// block.
pub fn is_spent(tries: i64, since_ms: i64, now_ms: i64, bounds: EffectBounds) -> bool {
    tries >= bounds.max_tries || now_ms - since_ms >= bounds.max_ms
}

/// Until when it is not tried; `None`: it is due. A time farther away than any wait comes from a clock that was set
/// back.
pub fn held_until(refused: &RefusedEffect, now_ms: i64) -> Option<i64> {
    Some(refused.next_at).filter(|at| *at > now_ms && at - now_ms <= MOST_PUT_OFF_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: EffectBounds = EffectBounds { max_tries: 20, max_ms: 86_400_000 };

    fn refuse(before: Option<&RefusedEffect>, now: i64, bounds: EffectBounds) -> (RefusedEffect, bool) {
        once_more(before, Asked::OpenPull, "403".to_owned(), now, bounds)
    }

    #[test]
    fn tries_grow_apart_up_to_five_minutes_and_end_at_the_twentieth() {
        let (mut noted, mut ended) = refuse(None, 0, BOUNDS);
        let mut waits = vec![noted.next_at];
        while !ended {
            let now = noted.next_at;
            assert_eq!(held_until(&noted, now - 1), Some(now));
            assert_eq!(held_until(&noted, now), None);
            (noted, ended) = refuse(Some(&noted), now, BOUNDS);
            waits.push(noted.next_at - now);
        }
        assert_eq!(noted.tries, 20);
        assert_eq!(waits[..6], [15_000, 30_000, 60_000, 120_000, 240_000, 300_000]);
        assert!(waits.iter().all(|w| *w <= 300_000));
    }

    #[test]
    fn ord_1_what_is_refused_after_the_end_has_the_same_bound() {
        assert!(!is_spent(19, 0, 86_399_999, BOUNDS));
        assert!(is_spent(20, 0, 0, BOUNDS) && is_spent(1, 0, 86_400_000, BOUNDS));
    }

    #[test]
    fn only_time_between_two_answers_counts() {
        let tight = EffectBounds { max_tries: 1000, max_ms: 60_000 };
        let (first, ended) = refuse(None, 0, tight);
        assert!(!ended);
        let silent = RefusedEffect { silent: true, last_at: 59_000, ..first.clone() };
        assert!(!refuse(Some(&silent), 3_600_000, tight).1, "an outage came between");
        let (second, ended) = refuse(Some(&first), 59_999, tight);
        assert!(!ended);
        assert!(refuse(Some(&second), 60_000, tight).1);
        assert_eq!(refuse(Some(&first), 86_400_000, BOUNDS).0.answered_ms, 600_000, "nobody asked for a day");
        assert_eq!(held_until(&first, -86_400_000), None, "a clock that was set back");
    }

    #[test]
    fn ord_1_past_its_bound_a_refusal_blocks_with_what_lifts_it() {
        use crate::decide::gates::testing::task;
        use crate::model::stage::Stage;
        let bounds = EffectBounds { max_tries: 2, ..BOUNDS };
        let mut t = task(1, Stage::Deploy);
        let (noted, why) = refused(&t, Asked::Land, "403", bounds, 0);
        assert_eq!(why, None);
        t.apply(Change::Refused(noted)).unwrap();
        let (again, why) = refused(&t, Asked::Land, "403", bounds, 1);
        assert!(why.is_some_and(|why| why.contains("2 times") && why.contains("`orch retry ORCH-1`")));
        assert_eq!(refused(&t, Asked::Stop, "403", bounds, 1).0.tries, 1, "a stop counts anew");
        t.apply(Change::Refused(again)).unwrap();
        // An outage stops the clock. Only a success of that very effect ends the refusal.
        assert_eq!(tried(&t, &t, Asked::OpenPull, true, 9), Some(Change::RefusalSilent { at: 9 }));
        assert_eq!(tried(&t, &t, Asked::Land, false, 9), Some(Change::NotRefused(Asked::Land)));
        assert_eq!(tried(&t, &t, Asked::OpenPull, false, 9), None);
        let none = Task { refused: None, ..t.clone() };
        assert_eq!((tried(&none, &t, Asked::Land, true, 9), tried(&t, &none, Asked::Land, false, 9)), (None, None));
        t.apply(Change::AskAgain { at: 5 }).unwrap();
        assert_eq!(t.refused.as_ref().map(|r| (r.tries, r.next_at)), Some((0, 5)));
        t.apply(Change::NotRefused(Asked::Land)).unwrap();
        assert_eq!(t.refused, None);
    }
}
