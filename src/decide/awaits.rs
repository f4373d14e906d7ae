//! What the forge waits for before it merges (GH-1, rule `forge`): how long until it is asked again, and what holds the
//! task meanwhile. The release stays: nothing was done, and nothing has to be decided again.

use super::back_off::back_off;
use crate::model::landing::{Awaited, Awaits};
use crate::model::view::TaskView;

const FIRST_MS: i64 = 2_000;
/// A person may act at any time, and each check is one request.
const LONGEST_MS: i64 = 60_000;

/// The wait after one more answer of this kind at `now` (wall ms). A change of kind restarts the backoff; `salt`
/// spreads the tasks.
pub fn next(before: Option<&Awaits>, deploy: &str, (what, said): (Awaited, &str), now: i64, salt: i64) -> Awaits {
    let asked = before.filter(|b| b.deploy == deploy && b.what == what).map_or(0, |b| b.asked) + 1;
    let pause = back_off(FIRST_MS, asked, salt).min(LONGEST_MS);
    let until = now.saturating_add(pause);
    Awaits { deploy: deploy.to_owned(), what, said: said.to_owned(), asked, until, lease_free: false }
}

/// Why the merge is not requested now, and until when; `None`: it is due, or something that withdraws it comes first (a
/// stop, HALT, a freeze).
pub fn waits(view: &TaskView) -> Option<(String, i64)> {
    let wait = view.awaits.as_ref()?;
    let first = view.task.stop_requested_at.is_some() || view.halted.is_some() || view.freeze.is_some();
    let left = wait.until - view.now.wall_ms;
    // A longer one comes from a clock that was set back.
    if first || !(1..=LONGEST_MS).contains(&left) {
        return None;
    }
    Some((why(wait), wait.until))
}

/// As one sentence, with what ends the wait.
pub fn why(wait: &Awaits) -> String {
    format!(
        "the forge does not merge yet: {}; the task continues automatically once {}",
        wait.said,
        wait.what.way_out()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::gates::testing;
    use crate::model::stage::Stage;
    use crate::model::task::Freeze;

    #[test]
    fn a_wait_begins_short_grows_to_a_bound_and_starts_over_with_another_cause() {
        let mut wait = next(None, "d", (Awaited::Checks, "x"), 1000, 7);
        assert!(wait.until <= 1000 + 2 * FIRST_MS, "green two seconds later is soon seen");
        for _ in 0..40 {
            let later = next(Some(&wait), "d", (Awaited::Checks, "x"), 1000, 7);
            assert!(later.until >= wait.until && later.until <= 1000 + LONGEST_MS);
            wait = later;
        }
        assert_eq!(wait.until, 1000 + LONGEST_MS);
        assert_eq!(next(Some(&wait), "d", (Awaited::Approval, "x"), 1000, 7).asked, 1);
        assert_eq!(next(Some(&wait), "another deploy", (Awaited::Checks, "x"), 1000, 7).asked, 1);
    }

    #[test]
    fn whatever_withdraws_a_merge_does_not_wait_for_it_nor_does_a_clock_that_went_back() {
        let mut view = testing::view(Stage::Deploy);
        let now = view.now.wall_ms;
        for what in Awaited::ALL {
            view.awaits = Some(next(None, "d", (*what, "its words"), now, 1));
            let (why, until) = waits(&view).unwrap();
            assert!(why.contains("its words") && why.contains(what.way_out()) && until > now, "{why}");
        }
        let waiting = view.clone();
        view.task.stop_requested_at = Some(1);
        assert_eq!(waits(&view), None, "a stop");
        view = waiting.clone();
        view.halted = Some("by hand".to_owned());
        assert_eq!(waits(&view), None, "HALT");
        view = waiting.clone();
        view.freeze = Some(Freeze { repo: "r".into(), reason: "x".into(), task_id: None, since: 0 });
        assert_eq!(waits(&view), None, "a freeze");
        view = waiting.clone();
        view.now.wall_ms = now + LONGEST_MS;
        assert_eq!(waits(&view), None, "due");
        view = waiting;
        view.now.wall_ms = now - 10 * LONGEST_MS;
        assert_eq!(waits(&view), None, "a clock set back");
    }
}
