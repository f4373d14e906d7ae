//! What a board is asked right before a task's first job is claimed: the item's text and what blocks it (RULE-27). The
//! local board's are read with the item; Plane's lists carry neither.

use super::{Ctx, boards, throttle, view};
use crate::adapters::store::{Result as Stored, StoreError, Tx};
use crate::decide::dispatch;
use crate::model::change::Change;
use crate::model::ids::TaskId;
use crate::model::report::{Held, Rule};
use crate::model::stage::Stage;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};

/// More tasks than one tick starts.
const MOST: usize = 20;

/// Which first claims were asked about: `Err` says why the answer is not known, and such a task does not start.
pub type Ready = BTreeMap<TaskId, Result<(), String>>;

/// Asks about every task whose first job would be claimed now, until the answer changes nothing more.
pub fn ready(ctx: &mut Ctx, only: Option<&str>, most: usize, day: i64, free: Option<u64>) -> Result<Ready> {
    let mut ready = Ready::new();
    let remote: BTreeSet<String> =
        ctx.config.projects.iter().filter(|p| p.board.is_remote()).map(|p| p.key.clone()).collect();
    if remote.is_empty() {
        return Ok(ready);
    }
    for _ in 0..MOST {
        let now = ctx.now();
        let policy = ctx.policy.clone();
        let (tasks, stale) = ctx.store.read(|tx| {
            let mut queue = view::queue(tx, &now, &policy, day, free)?;
            // One that could not be asked about stands in nobody's way here: it is held below.
            queue.queued.retain(|j| !matches!(ready.get(&j.task_id), Some(Err(_))));
            let plan = dispatch::plan(&queue, &policy, only, most);
            let of_remote = |id: &TaskId| queue.places.get(id).is_some_and(|p| remote.contains(&p.project));
            let tasks: Vec<TaskId> = plan
                .claims
                .iter()
                .filter(|c| c.starts.is_some() && of_remote(&c.task) && !ready.contains_key(&c.task))
                .map(|c| c.task)
                .collect();
            let stale: Vec<TaskId> = plan
                .held
                .iter()
                .filter(|h| h.rule == Rule::Dependencies)
                .filter_map(|h| queue.places.values().find(|p| Some(p.key.as_str()) == h.task.as_deref()))
                .filter(|p| remote.contains(&p.project) && p.stage == Stage::Created && !ready.contains_key(&p.id))
                .map(|p| p.id)
                .collect();
            Ok::<_, StoreError>((tasks, stale))
        })?;
        let mut asked = false;
        for id in tasks {
            let answer = asked_about(ctx, id);
            ready.insert(id, answer.map_err(|e| format!("{e:#}")));
            asked = true;
        }
        // A relation that a person takes away frees its task, though not at once.
        for id in stale {
            if due(ctx, id)? {
                let answer = asked_about(ctx, id);
                ready.insert(id, answer.map_err(|e| format!("{e:#}")));
                asked = true;
            }
        }
        if !asked {
            break;
        }
    }
    Ok(ready)
}

/// How a task that may not start is told of.
pub fn held(key: &str, ready: &Ready, id: TaskId) -> Option<Held> {
    let why = match ready.get(&id) {
        Some(Ok(())) => return None,
        Some(Err(why)) => untold(why),
        None => "the board has yet to be asked what blocks it".to_owned(),
    };
    Some(Held { task: Some(key.to_owned()), rule: Rule::Dependencies, why, until: None })
}

fn untold(why: &str) -> String {
    format!("the board does not say what blocks it: {why}")
}

fn untold_key(id: TaskId) -> String {
    format!("blockers/t{id}/untold")
}

/// The same for who only reads (`explain`, `status`): what the last step was told instead of an answer.
pub fn last_untold(tx: &Tx<'_>, key: &str, id: TaskId) -> Stored<Option<Held>> {
    let why = tx.meta(&untold_key(id))?.filter(|why| !why.is_empty());
    Ok(why.map(|why| Held { task: Some(key.to_owned()), rule: Rule::Dependencies, why: untold(&why), until: None }))
}

fn asked_key(id: TaskId) -> String {
    format!("blockers/t{id}")
}

fn due(ctx: &mut Ctx, id: TaskId) -> Result<bool> {
    let now = ctx.now().stamp.wall_ms;
    let ttl = i64::try_from(ctx.config.plane.states_ttl_s).unwrap_or(i64::MAX).saturating_mul(1000);
    let last = ctx.store.read(|tx| tx.meta(&asked_key(id)))?.and_then(|t| t.parse::<i64>().ok());
    Ok(last.is_none_or(|at| !(0..ttl).contains(&(now - at))))
}

/// Asks, and keeps for others that no answer came.
fn asked_about(ctx: &mut Ctx, id: TaskId) -> Result<()> {
    let answer = ask(ctx, id);
    let why = answer.as_ref().err().map_or_else(String::new, |e| format!("{e:#}"));
    let key = untold_key(id);
    let before = ctx.store.read(|tx| tx.meta(&key))?.unwrap_or_default();
    if !ctx.dry && before != why {
        ctx.store.write(|tx| tx.set_meta(&key, &why))?;
    }
    answer
}

/// Reads the item and its relations into the task.
fn ask(ctx: &mut Ctx, id: TaskId) -> Result<()> {
    let task = ctx.task(id)?;
    let project = ctx.project(&task.project)?.clone();
    let read = (|| {
        let seat = boards::seat(ctx, &project)?;
        if !project.board.is_remote() {
            return Ok(None);
        }
        let Some(item) = seat.board.get(seat.resolved.statuses(), &task.key)? else { return Ok(Some(None)) };
        let refs = if ctx.config.dependencies.enabled { seat.board.blocked_by(&item)? } else { Vec::new() };
        Ok::<_, anyhow::Error>(Some(Some((item, refs))))
    })();
    let found = match read {
        Ok(found) => found,
        Err(e) => {
            throttle::noted(ctx, &project, &e)?;
            return Err(e);
        }
    };
    let at = ctx.now().stamp.wall_ms;
    match found {
        None => Ok(()),
        Some(None) => boards::set_gone(ctx, &task, true),
        Some(Some((item, refs))) => Ok(ctx.store.write(|tx| {
            let mut t = tx.task(id)?;
            let (keys, unknown) = boards::blockers(tx, &t.project, &refs)?;
            // Where rights are asked, the text is the one that the decider saw (GH-2).
            if !project.board.asks_rights() {
                t.title.clone_from(&item.title);
                t.body = item.body.clone().unwrap_or_default();
            }
            t.priority = boards::priority(&item);
            t.blocked_by = keys;
            let other = t.withdrawn.clone().filter(|w| !boards::is_unknown(w));
            t.apply(Change::Withdrawal(boards::unknown_blockers(&unknown).or(other)))?;
            tx.save_task(&mut t, at)?;
            tx.set_priority(id, t.priority)?;
            tx.set_meta(&asked_key(id), &at.to_string())
        })?),
    }
}
