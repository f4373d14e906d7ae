//! Reads the views on which decisions are based, each in one transaction.

use super::base_rows;
use super::{Moment, awaits, bound};
use crate::adapters::process::{self, Life};
use crate::adapters::store::{Result, StoreError, Tx};
use crate::decide::queue;
use crate::model::ids::{Key, TaskId};
use crate::model::policy::Policy;
use crate::model::stage::Agent;
use crate::model::task::{Cooldown, Deploy, DeployState, Freeze, Lease, Run, Task, Waiting};
use crate::model::view::{Blocker, BoardAnswers, Busy, Place, QueueView, TaskView};
use std::collections::BTreeMap;

/// One task's view.
pub fn task(tx: &Tx<'_>, id: TaskId, now: &Moment, auto: Option<Waiting>) -> Result<TaskView> {
    let task = tx.task(id)?;
    let deploy = Deploy::newest(&tx.deploys_of(id)?).cloned();
    let deploy_held = deploy.as_ref().is_some_and(|d| {
        d.state == DeployState::Initiated && d.actor != now.me && process::life(&d.actor) != Life::Dead
    });
    let awaits = awaits::of(tx, &task)?;
    let lease = tx.lease(&task.repo)?;
    Ok(TaskView {
        live_job: tx.live_job(id)?,
        ended: tx.ended_jobs(id, task.epoch)?,
        evidence: bound::checked(tx.evidence_of(id)?, &now.root),
        lease_holder: lease_holder(tx, lease.as_ref(), id)?,
        lease,
        freeze: freeze(tx, &task.repo),
        undeployed: tx.undeployed(&task.repo, id)?,
        halted: now.halted.clone(),
        deploy,
        deploy_held,
        awaits,
        auto,
        now: now.stamp.clone(),
        task,
    })
}

/// The other task that holds the lease: its key, and the person or forge that it waits for.
fn lease_holder(tx: &Tx<'_>, lease: Option<&Lease>, me: TaskId) -> Result<Option<String>> {
    let Some(other) = lease.and_then(|l| l.task_id).filter(|t| *t != me) else { return Ok(None) };
    let Some(key) = tx.key_text(other)? else { return Ok(None) };
    let Ok(task) = tx.task(other) else { return Ok(Some(key)) };
    let waits = match (awaits::of(tx, &task)?, &task) {
        (Some(wait), _) => format!(", which waits at the forge: {}", wait.said),
        (None, Task { waiting_for: Some(what), .. }) => format!(", which waits for {what}"),
        (None, Task { blocked_reason: Some(why), .. }) => format!(", which is blocked: {why}"),
        (None, _) => String::new(),
    };
    Ok(Some(format!("{key}{waits}")))
}

/// A freeze that can't be read counts as one (SHIP-7).
fn freeze(tx: &Tx<'_>, repo: &str) -> Option<Freeze> {
    tx.freeze(repo).unwrap_or_else(|e| {
        Some(Freeze {
            repo: repo.to_owned(),
            reason: format!("the freeze can't be read: {e}"),
            task_id: None,
            since: 0,
        })
    })
}

/// The queue's view: only rows that are not final.
pub fn queue(tx: &Tx<'_>, now: &Moment, policy: &Policy, day_start: i64, free_mb: Option<u64>) -> Result<QueueView> {
    let mut queued = tx.queued_jobs()?;
    let running = tx.running_jobs()?;
    // A run deferred by an outage has ended and uses no slot (RULE-24).
    let deferred = deferred(tx, &running, now.stamp.wall_ms)?;
    let mut places: BTreeMap<TaskId, Place> = tx.open_tasks()?.iter().map(|t| (t.id, queue::place(t))).collect();
    for job in queued.iter().chain(&running) {
        if let std::collections::btree_map::Entry::Vacant(free) = places.entry(job.task_id) {
            match tx.task(job.task_id) {
                Ok(task) => drop(free.insert(queue::place(&task))),
                // Its bad rows hold only this task: nobody claims it, and its running jobs use their slots (RULE-44).
                Err(StoreError::Undecodable(_)) => {}
                Err(e) => return Err(e),
            }
        }
    }
    queued.retain(|j| places.contains_key(&j.task_id));
    for (id, key, project, repo) in tx.in_work_unreadable()? {
        let Ok(key) = Key::parse(&key) else { continue };
        places.insert(id, queue::unreadable(id, key, project, repo));
    }
    for id in base_rows::on_red(tx)? {
        if let Some(place) = places.get_mut(&id) {
            place.on_red_base = true;
        }
    }
    let mut blockers = BTreeMap::new();
    for key in places.values().flat_map(|p| &p.blocked_by) {
        if !blockers.contains_key(key) {
            blockers.insert(key.clone(), blocker(tx, key)?);
        }
    }
    let (freezes, freezes_unreadable) = match tx.freezes() {
        Ok(f) => (f, false),
        Err(_) => (Vec::new(), true),
    };
    let busy = |j: &crate::model::task::Job| Busy {
        kind: j.kind,
        agent: j.agent,
        project: places.get(&j.task_id).map(|p| p.project.clone()).unwrap_or_default(),
    };
    let limited = policy.max_task_micros > 0 || policy.max_day_micros > 0;
    let mut task_micros = BTreeMap::new();
    let mut most_expensive = BTreeMap::new();
    let mut day_micros = 0;
    if limited && !queued.is_empty() {
        day_micros = tx.cost_since(None, day_start)?.booked_micros;
        for job in &queued {
            task_micros.insert(job.task_id, tx.cost_since(Some(job.task_id), 0)?.booked_micros);
        }
        for agent in Agent::ALL {
            most_expensive.insert(*agent, tx.most_expensive_run(*agent)?);
        }
    }
    Ok(QueueView {
        running: running.iter().filter(|j| queue::takes_a_place(j, &deferred)).map(busy).collect(),
        queued,
        places,
        blockers,
        bases: base_rows::rows(tx)?,
        unseen: base_rows::unseen(tx)?,
        freezes,
        freezes_unreadable,
        halted: now.halted.clone(),
        cooldowns: cooldowns(tx, &deferred)?,
        board: BoardAnswers::default(),
        day_micros,
        task_micros,
        most_expensive,
        free_mb,
        confinement: super::confine::noted(tx)?,
        now: now.stamp.clone(),
    })
}

/// Runs that have exited and wait for a remote.
fn deferred(tx: &Tx<'_>, running: &[crate::model::task::Job], now_ms: i64) -> Result<Vec<Run>> {
    if running.iter().all(|j| j.reason.is_none()) {
        return Ok(Vec::new());
    }
    Ok(tx.open_runs()?.into_iter().filter(|run| queue::is_put_off(run, running, now_ms)).collect())
}

fn cooldowns(tx: &Tx<'_>, deferred: &[Run]) -> Result<Vec<Cooldown>> {
    let mut all = tx.cooldowns()?;
    for c in &mut all {
        if let Some(run) = c.canary
            && !queue::goes_first(&tx.run(run)?, deferred)
        {
            c.canary = None;
        }
    }
    Ok(all)
}

/// The newest task of the key decides, tombstoned ones included; without one, the group of the item on the board.
fn blocker(tx: &Tx<'_>, key: &Key) -> Result<Blocker> {
    let task = match tx.task_by_key(key) {
        Err(StoreError::Undecodable(_)) => return Ok(Blocker::Open),
        found => found?,
    };
    if let Some(t) = task {
        return Ok(queue::blocker_of_task(t.stage));
    }
    Ok(queue::blocker_of_item(tx.item_by_key(key.as_str())?.map(|item| item.group).as_ref().map(Option::as_deref)))
}
