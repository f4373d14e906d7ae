//! What may be deleted once its task has ended (ORD-6, CLI-4), and when a pass over it is due. Pure. Times are wall
//! milliseconds.

use crate::model::task::{Run, RunState, Task};

/// Ended before this time, and nothing watches it any more.
pub fn is_over(task: &Task, before: i64) -> bool {
    task.stage.is_terminal() && !task.is_watched() && task.finished_at.is_some_and(|t| t < before)
}

/// Settled before this time, and no process holds its lock.
pub fn is_run_over(run: &Run, locked: bool, before: i64) -> bool {
    run.state == RunState::Settled && run.ended_at.is_some_and(|t| t < before) && !locked
}

/// Whether a tick begins another pass. A last pass in the future comes from a clock that was set back.
pub fn is_due(last_ended_at: i64, every_ms: i64, now: i64) -> bool {
    !(0..every_ms).contains(&(now - last_ended_at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::gates::testing::task;
    use crate::decide::reap::tests::run;
    use crate::model::stage::Stage;
    use crate::model::watch::{Watch, WatchStatus};

    #[test]
    fn ord_6_only_what_ended_long_enough_ago_goes_and_a_watched_deploy_stays() {
        let ended = |stage, at| Task { finished_at: at, ..task(1, stage) };
        assert!(is_over(&ended(Stage::Done, Some(9)), 10) && is_over(&ended(Stage::Cancelled, Some(9)), 10));
        assert!(!is_over(&ended(Stage::Done, Some(10)), 10) && !is_over(&ended(Stage::Done, None), 10));
        assert!(!is_over(&ended(Stage::Deploy, Some(9)), 10));
        let watched = |watch| Task { watch: Some(watch), ..ended(Stage::Done, Some(9)) };
        assert!(!is_over(&watched(Watch::Armed), 10));
        assert!(is_over(&watched(WatchStatus::Degraded.into()), 10));
    }

    #[test]
    fn a_run_that_somebody_holds_stays_whatever_its_row_says() {
        let ended = |state, at| Run { ended_at: at, ..run(state) };
        assert!(is_run_over(&ended(RunState::Settled, Some(9)), false, 10));
        assert!(!is_run_over(&ended(RunState::Settled, Some(9)), true, 10));
        assert!(!is_run_over(&ended(RunState::Settled, Some(10)), false, 10));
        assert!(!is_run_over(&ended(RunState::Exited, Some(9)), false, 10));
    }

    #[test]
    fn a_clock_that_was_set_back_delays_no_pass() {
        assert!(!is_due(100, 50, 149) && is_due(100, 50, 150) && is_due(100, 50, 99));
    }
}
