//! Reads what decisions rest on, each view from one transaction.

use super::{Moment, awaits, base_job, bound};
use crate::adapters::process::{self, Life};
use crate::adapters::store::{Result, StoreError, Tx};
use crate::model::ids::{Key, TaskId};
use crate::model::policy::Policy;
use crate::model::stage::{Agent, Stage};
use crate::model::task::{Cooldown, Deploy, DeployState, Freeze, Lease, Run, RunState, Task, Waiting};
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

/// Another task that holds the lease: its key, and the person or forge that it waits for.
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
    // What an outage put off has ended: it takes nobody's place (RULE-24).
    let put_off = put_off(tx, &running, now.stamp.wall_ms)?;
    let mut places: BTreeMap<TaskId, Place> = tx.open_tasks()?.iter().map(|t| (t.id, place(t))).collect();
    for job in queued.iter().chain(&running) {
        if let std::collections::btree_map::Entry::Vacant(free) = places.entry(job.task_id) {
            match tx.task(job.task_id) {
                Ok(task) => drop(free.insert(place(&task))),
                // Its rows hold it alone: it is claimed by nobody, and what runs of it takes its place (RULE-44).
                Err(StoreError::Undecodable(_)) => {}
                Err(e) => return Err(e),
            }
        }
    }
    queued.retain(|j| places.contains_key(&j.task_id));
    for (id, key, project, repo) in tx.in_work_unreadable()? {
        let Ok(key) = Key::parse(&key) else { continue };
        places.insert(id, unreadable(id, key, project, repo));
    }
    for id in base_job::on_red(tx)? {
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
    let mut dearest = BTreeMap::new();
    let mut day_micros = 0;
    if limited && !queued.is_empty() {
        day_micros = tx.cost_since(None, day_start)?.booked_micros;
        for job in &queued {
            task_micros.insert(job.task_id, tx.cost_since(Some(job.task_id), 0)?.booked_micros);
        }
        for agent in Agent::ALL {
            dearest.insert(*agent, tx.dearest_run(*agent)?);
        }
    }
    Ok(QueueView {
        running: running.iter().filter(|j| !put_off.iter().any(|r| r.job_id == j.id)).map(busy).collect(),
        queued,
        places,
        blockers,
        bases: base_job::rows(tx)?,
        unseen: base_job::unseen(tx)?,
        freezes,
        freezes_unreadable,
        halted: now.halted.clone(),
        cooldowns: cooldowns(tx, &put_off)?,
        board: BoardAnswers::default(),
        day_micros,
        task_micros,
        dearest,
        free_mb,
        confinement: super::confine::noted(tx)?,
        now: now.stamp.clone(),
    })
}

/// Runs that have exited and wait for a remote.
fn put_off(tx: &Tx<'_>, running: &[crate::model::task::Job], now_ms: i64) -> Result<Vec<Run>> {
    if running.iter().all(|j| j.reason.is_none()) {
        return Ok(Vec::new());
    }
    let waits = |run: &Run| running.iter().any(|j| j.id == run.job_id && run.put_off(j, now_ms).is_some());
    Ok(tx.open_runs()?.into_iter().filter(waits).collect())
}

/// A canary that has ended, however it ended, holds nobody any more (RULE-26).
fn cooldowns(tx: &Tx<'_>, put_off: &[Run]) -> Result<Vec<Cooldown>> {
    let mut all = tx.cooldowns()?;
    for c in &mut all {
        if let Some(run) = c.canary
            && (put_off.iter().any(|r| r.id == run) || tx.run(run)?.state == RunState::Settled)
        {
            c.canary = None;
        }
    }
    Ok(all)
}

/// A task in work whose row can't be decoded still is in work: its repository takes no other one beside it.
fn unreadable(id: TaskId, key: Key, project: String, repo: String) -> Place {
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

fn place(t: &Task) -> Place {
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

/// The newest task of the key decides, tombstoned ones included; without one, the group of the item on the board.
fn blocker(tx: &Tx<'_>, key: &Key) -> Result<Blocker> {
    let task = match tx.task_by_key(key) {
        Err(StoreError::Undecodable(_)) => return Ok(Blocker::Open),
        found => found?,
    };
    if let Some(t) = task {
        return Ok(match t.stage {
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
        });
    }
    Ok(match tx.item_by_key(key.as_str())? {
        None => Blocker::Unknown,
        Some(item) => match item.group.as_deref() {
            Some("completed") => Blocker::Met,
            Some("cancelled") => Blocker::Cancelled,
            Some(_) | None => Blocker::Open,
        },
    })
}
