//! Pull requests on a forge: opened once there is something to show, held when a person changed them, closed if a merge
//! left them open (SHIP-5, RULE-31).

use super::record;
use super::{Ctx, base, messages, projects, services};
use crate::adapters::forge::{ForgeError, PullState};
use crate::adapters::store::{StoreError, Tx};
use crate::config::Project;
use crate::decide::merge;
use crate::model::card::AlertKind;
use crate::model::change::Change;
use crate::model::ids::{Sha, TaskId};
use crate::model::refusal::Asked;
use crate::model::report::{ActionKind, Rule};
use crate::model::task::{PullRef, Task};
use crate::model::text::clip;
use crate::model::withdrawal::Withdrawal;
use anyhow::Result;
use serde_json::json;

/// The journal's kind of closing a pull request whose commit has landed.
const TIDY: &str = "pr_tidied";

/// Opens the branch's one pull request once there is something to show; `None`: one exists, or there is nothing to
/// show.
pub fn open(
    ctx: &mut Ctx,
    project: &Project,
    task: &Task,
    default_branch: &str,
    head: &Sha,
) -> Result<Option<PullRef>> {
    if !merge::pull_is_due(task, head) {
        return Ok(None);
    }
    let branch = task.branch.clone().unwrap_or_default();
    let key = format!("t{}/a{}/open-pr", task.id, task.attempt);
    let at = ctx.now().stamp.wall_ms;
    let me = ctx.me.clone();
    ctx.store.write(|tx| tx.intend(&key, Some(task.id), "pr_opened", &json!({"branch": branch}), &me, at).map(drop))?;
    let title = format!("{}: {}", task.key, clip(&task.title, 200));
    let link = projects::item_url(ctx, task)?.map_or_else(String::new, |url| format!(" ({url})"));
    let body = format!("Work item {}{link}.\n\n<!-- orch:t{} -->", task.key, task.id);
    let pull = services::forge(ctx, project, |forge| forge.open_pull(&branch, default_branch, &title, &body))?;
    let number = if pull.number == 0 { task.id.0 } else { pull.number };
    let at = ctx.now().stamp.wall_ms;
    ctx.store.write(|tx| {
        tx.record_outcome(&key, &json!({"number": number, "url": pull.url}), at)?;
        tx.audit(at, Some(task.id), "pr_opened", &json!({"number": number, "url": pull.url})).map(drop)
    })?;
    ctx.report.did(ActionKind::PrOpened, Some(task.key.as_str()), json!({"number": number, "url": pull.url}));
    Ok(Some(PullRef { number, url: pull.url }))
}

/// The task with its pull request, which is opened now if an outage prevented that earlier.
pub fn ensure(ctx: &mut Ctx, project: &Project, task: Task, default_branch: &str, head: &Sha) -> Result<Task> {
    if task.pr.is_some() || !project.forge.is_remote() {
        return Ok(task);
    }
    let Some(made) = open(ctx, project, &task, default_branch, head)? else { return Ok(task) };
    let at = ctx.now().stamp.wall_ms;
    let id = task.id;
    Ok(ctx.store.write(|tx| {
        let mut t = tx.task(id)?;
        record::changes(tx, &mut t, [Change::Pull(Some(made)), Change::NotRefused(Asked::OpenPull)], at)?;
        Ok::<_, StoreError>(t)
    })?)
}

/// Opens a pull request that the forge refused before (ORD-1).
pub fn again(ctx: &mut Ctx, id: TaskId) -> Result<()> {
    let ground = base::ensure(ctx, id)?;
    let Some(head) = ground.task.head_sha.clone() else { return Ok(()) };
    let project = ctx.project(&ground.task.project)?.clone();
    ensure(ctx, &project, ground.task, &ground.default_branch, &head).map(drop)
}

/// Holds a task whose pull request or branch somebody else withdrew or merged, with one alert (RULE-31).
pub fn hold(ctx: &mut Ctx, id: TaskId, cause: &Withdrawal) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    let why = cause.to_string();
    let (key, held, frozen) = ctx.store.write(|tx| {
        let mut t = tx.task(id)?;
        let key = t.key.to_string();
        if t.withdrawn.is_some() {
            return Ok((key, false, false));
        }
        record::change(tx, &mut t, Change::Withdrawal(Some(cause.clone())), at)?;
        tx.audit(at, Some(id), "withdrawn", &json!({"pr": t.pr.as_ref().map(|p| p.number), "why": why}))?;
        let n = tx.count_up(&format!("withdrawals/{id}"), 1)?;
        messages::alert(tx, &t, AlertKind::Withdrawn, n, &cause.advice(&t.key), at)?;
        messages::card(tx, &t, at)?;
        let frozen = cause.freezes() && super::apply::freeze_repo(tx, &t.repo, &why, Some(&t), at)?;
        Ok::<_, StoreError>((key, true, frozen))
    })?;
    if held {
        ctx.report.hold(Some(&key), Rule::Withdrawn, why.clone());
        ctx.report.changed = true;
    }
    if frozen {
        ctx.report.did(ActionKind::RepoFrozen, Some(&key), json!({"why": why}));
    }
    Ok(())
}

/// In the transaction that records a landing: marks the pull request for closing, since it may still be open (SHIP-5).
pub fn to_tidy(tx: &Tx<'_>, task: &Task, me: &crate::model::task::Actor, at: i64) -> Result<(), StoreError> {
    let Some(pr) = task.pr.as_ref().filter(|p| !p.url.is_empty()) else { return Ok(()) };
    tx.intend(&tidy_key(task, pr.number), Some(task.id), TIDY, &json!({"number": pr.number}), me, at).map(drop)
}

fn tidy_key(task: &Task, number: i64) -> String {
    format!("t{}/tidy-pr/{number}", task.id)
}

/// Whether a task's pull request may still have to be closed.
pub fn is_tidying(ctx: &mut Ctx, task: &Task) -> Result<bool> {
    let Some(pr) = &task.pr else { return Ok(false) };
    let row = ctx.store.read(|tx| tx.journal_row(&tidy_key(task, pr.number)))?;
    Ok(row.is_some_and(|row| row.outcome.is_none()))
}

/// Closes every pull request whose commit has landed and which the forge left open. After a fault a later step retries.
pub fn tidy(ctx: &mut Ctx) {
    let now = ctx.now().stamp.wall_ms;
    let rows = match ctx.store.read(|tx| tx.intents_of_kind(TIDY, now)) {
        Ok(rows) if !ctx.dry => rows,
        Ok(_) | Err(_) => return,
    };
    for row in rows {
        let Some(task) = row.task_id.and_then(|id| ctx.task(id).ok()) else { continue };
        let number = row.intent["number"].as_i64().unwrap_or(0);
        if let Err(e) = tidy_one(ctx, &task, number, &row.key) {
            tracing::warn!(task = %task.key, "a later step handles pull request {number}: {e:#}");
        }
    }
}

fn tidy_one(ctx: &mut Ctx, task: &Task, number: i64, key: &str) -> Result<()> {
    let project = ctx.project(&task.project)?.clone();
    let open = services::forge(ctx, &project, |forge| {
        let open = forge.pull(number)?.is_some_and(|p| p.state == PullState::Open && !p.merged);
        if open {
            forge.close_pull(number)?;
        }
        Ok(open)
    })?;
    let at = ctx.now().stamp.wall_ms;
    let first = ctx.store.write(|tx| {
        // Two steps may do this concurrently; only one reports it.
        if tx.journal_row(key)?.is_some_and(|row| row.outcome.is_some()) {
            return Ok(false);
        }
        tx.record_outcome(key, &json!({"closed": open}), at)?;
        if open {
            tx.audit(at, Some(task.id), "pr_closed", &json!({"number": number, "why": "its commit has landed"}))?;
        }
        Ok::<_, StoreError>(open)
    })?;
    if first {
        ctx.report.did(ActionKind::PrClosed, Some(task.key.as_str()), json!({"number": number}));
    }
    Ok(())
}

/// Whether a fault is the forge's own and says nothing about the work (RULE-8).
pub fn is_outage(e: &anyhow::Error) -> bool {
    e.chain().any(|e| e.downcast_ref::<ForgeError>().is_some_and(ForgeError::is_outage))
}
