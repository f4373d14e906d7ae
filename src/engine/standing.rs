//! What holds each open task: the same decisions a step acts on (`decide::transition`, `decide::dispatch`), read
//! without acting. `status` and `explain` show it; the names are those of a step's `skipped`.

use super::paths::Paths;
use super::{Moment, blockers, cluster, view};
use crate::adapters::store::{Result, Tx};
use crate::decide::{dispatch, transition};
use crate::model::decision::Decision;
use crate::model::ids::TaskId;
use crate::model::policy::Policy;
use crate::model::report::{Held, Rule};
use crate::model::stage::JobStatus;
use crate::model::status::HeldBy;
use crate::model::task::{Job, Waiting};
use crate::model::time::{day_start, rfc3339};
use crate::model::view::QueueView;
use std::collections::{BTreeMap, HashMap};

/// The queue as the next `tick` will find it.
#[derive(Debug)]
pub struct Queue {
    pub jobs: HashMap<TaskId, Job>,
    held: BTreeMap<String, Held>,
    pub day_micros: i64,
}

impl Queue {
    /// What holds a queued task, if anything, as the dispatcher says.
    pub fn holds(&self, key: &str) -> Option<HeldBy> {
        self.held.get(key).map(|h| HeldBy { rule: h.rule, why: h.why.clone(), until: h.until.clone() })
    }
}

/// The state of one task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskHolds {
    /// What the transition function says.
    pub decision: Decision,
    pub live: Option<Job>,
    /// What holds it; `None`: it is being worked, or the next step moves it.
    pub held: Option<HeldBy>,
}

/// Plans the next claims as `tick` does.
pub fn queue(tx: &Tx<'_>, now: &Moment, policy: &Policy, free_mb: Option<u64>) -> Result<Queue> {
    let day = day_start(now.stamp.wall_ms);
    let queue = QueueView { board: blockers::last(tx)?, ..view::queue(tx, now, policy, day, free_mb)? };
    let plan = dispatch::plan(&queue, policy, None, usize::MAX);
    let held: BTreeMap<String, Held> = plan.held.into_iter().filter_map(|h| Some((h.task.clone()?, h))).collect();
    let jobs = queue.queued.iter().cloned().chain(tx.running_jobs()?).map(|j| (j.task_id, j)).collect();
    Ok(Queue { jobs, held, day_micros: queue.day_micros })
}

/// Reads the state of one task. `auto`: what a label releases (BRD-5).
pub fn of(
    tx: &Tx<'_>,
    id: TaskId,
    queue: &Queue,
    policy: &Policy,
    now: &Moment,
    auto: Option<Waiting>,
) -> Result<TaskHolds> {
    let view = view::task(tx, id, now, auto)?;
    let decision = transition::decide(&view, policy);
    let live = view.live_job.clone();
    let said =
        decision.hold().map(|(rule, why, until)| HeldBy { rule, why: why.to_owned(), until: until.map(rfc3339) });
    let held = match live.as_ref().map(|j| j.status) {
        // For a queued job the dispatcher decides what holds it.
        Some(JobStatus::Queued) => {
            queue.holds(view.task.key.as_str()).or_else(|| said.filter(|h| h.rule != Rule::Queued))
        }
        Some(JobStatus::Running) => {
            match said.filter(|h| matches!(h.rule, Rule::CriticalWindow | Rule::Watch | Rule::Backoff)) {
                Some(said) => Some(said),
                None => tx.open_runs_of(id)?.iter().find_map(|r| cluster::undecided(&Paths::new(&now.root).run(r.id))),
            }
        }
        Some(JobStatus::Done | JobStatus::Failed | JobStatus::Cancelled) | None => said,
    };
    Ok(TaskHolds { decision, live, held })
}
