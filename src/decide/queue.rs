//! The state of rows in the queue: which job takes a place, what a blocker means, which run goes first after a
//! cool-down (RULE-24, RULE-26, RULE-27, RULE-44). Pure.

use crate::model::ids::{Key, TaskId};
use crate::model::stage::Stage;
use crate::model::task::{Job, Run, RunState, Task};
use crate::model::view::{Blocker, Place};

/// A task's place.
pub fn place(t: &Task) -> Place {
    Place {
        id: t.id,
        key: t.key.clone(),
        project: t.project.clone(),
        repo: t.repo.clone(),
        stage: t.stage,
        started: t.stage != Stage::Created && !t.stage.is_terminal(),
        blocked_by: t.blocked_by.clone(),
        withdrawn: t.withdrawn.is_some(),
        stop_requested: t.stop_requested_at.is_some(),
        blocked: t.blocked_reason.is_some(),
        on_red_base: false,
    }
}

/// A task in work whose row can't be decoded is still in work: its repository starts no other one.
pub fn unreadable(id: TaskId, key: Key, project: String, repo: String) -> Place {
    Place {
        id,
        key,
        project,
        repo,
        stage: Stage::Development,
        started: true,
        blocked_by: Vec::new(),
        withdrawn: false,
        stop_requested: false,
        blocked: true,
        on_red_base: false,
    }
}

/// A blocker that has a task: its stage decides, also for a cancelled one.
pub fn blocker_of_task(stage: Stage) -> Blocker {
    match stage {
        Stage::Done => Blocker::Met,
        Stage::Cancelled => Blocker::Cancelled,
        Stage::Created
        | Stage::Analysis
        | Stage::Architecture
        | Stage::Development
        | Stage::Review
        | Stage::Testing
        | Stage::DeployStaging
        | Stage::Deploy => Blocker::Open,
    }
}

/// A blocker without a task: the group of its status on the board; the outer `None`: nobody knows the item.
pub fn blocker_of_item(group: Option<Option<&str>>) -> Blocker {
    match group {
        None => Blocker::Unknown,
        Some(Some("completed")) => Blocker::Met,
        Some(Some("cancelled")) => Blocker::Cancelled,
        Some(_) => Blocker::Open,
    }
}

/// Whether a run has exited and waits for a remote. `running`: the running jobs.
pub fn is_put_off(run: &Run, running: &[Job], now: i64) -> bool {
    running.iter().any(|j| j.id == run.job_id && run.deferred_until(j, now).is_some())
}

/// A job whose run has exited and was deferred by an outage takes no place.
pub fn takes_a_place(job: &Job, put_off: &[Run]) -> bool {
    !put_off.iter().any(|r| r.job_id == job.id)
}

/// Whether a run still goes first after its credential's cool-down: one that has ended, however it ended, holds nobody.
pub fn goes_first(run: &Run, put_off: &[Run]) -> bool {
    run.state != RunState::Settled && !put_off.iter().any(|r| r.id == run.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::gates::testing::{failed_job, task};
    use crate::decide::reap::tests::run;

    #[test]
    fn rule_27_only_done_meets_a_blocker() {
        for stage in Stage::ALL {
            let met = blocker_of_task(*stage) == Blocker::Met;
            assert_eq!(met, *stage == Stage::Done, "{stage}");
            assert_eq!(place(&task(1, *stage)).started, !stage.is_terminal() && *stage != Stage::Created, "{stage}");
        }
        assert_eq!(blocker_of_item(None), Blocker::Unknown);
        assert_eq!(blocker_of_item(Some(None)), Blocker::Open);
        assert_eq!(blocker_of_item(Some(Some("started"))), Blocker::Open);
        assert_eq!(blocker_of_item(Some(Some("completed"))), Blocker::Met);
        assert_eq!(blocker_of_item(Some(Some("cancelled"))), Blocker::Cancelled);
    }

    #[test]
    fn rule_24_what_waits_for_a_remote_takes_no_place_and_holds_no_credential() {
        let exited = run(RunState::Exited);
        let job = Job { token: Some("t".into()), available_at: 50, ..failed_job() };
        assert!(is_put_off(&exited, std::slice::from_ref(&job), 10));
        assert!(!is_put_off(&run(RunState::Live), std::slice::from_ref(&job), 10));
        let waiting = [exited.clone()];
        assert!(!takes_a_place(&job, &waiting) && takes_a_place(&job, &[]));
        assert!(!goes_first(&exited, &waiting) && goes_first(&exited, &[]));
        assert!(!goes_first(&run(RunState::Settled), &[]) && goes_first(&run(RunState::Live), &[]));
    }
}
