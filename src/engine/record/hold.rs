//! Blocks, freezes and the merge lease's end: each with its event and its messages.

use super::messages;
use crate::adapters::store::{Result, Tx};
use crate::decide::said;
use crate::engine::cache_rows;
use crate::model::act::By;
use crate::model::card::AlertKind;
use crate::model::change::Change;
use crate::model::event::Event;
use crate::model::finding::Finding;
use crate::model::task::Task;
use crate::model::view::TaskView;
use crate::model::withdrawal::Withdrawal;
use serde_json::json;

/// Blocks a task; sticky until `orch retry` (PIPE-3).
pub fn block(
    tx: &Tx<'_>,
    view: &TaskView,
    task: &mut Task,
    why: &str,
    held: Option<Vec<Finding>>,
    at: i64,
) -> Result<()> {
    free_lease(tx, view)?;
    // Another step ended the task meanwhile: there is nothing to block.
    if task.stage.is_terminal() {
        return Ok(());
    }
    super::change(tx, task, Change::Block { why: why.to_owned(), held }, at)?;
    super::event(tx, at, Some(task.id), Event::TaskBlocked, &json!({"stage": task.stage, "why": why}))?;
    messages::show(tx, task, at)?;
    messages::post(tx, task, &said::blocked(task, why), at)
}

/// Freezes a repository by `orch`'s own rules (SHIP-7). Returns whether that is new.
pub fn freeze_repo(tx: &Tx<'_>, repo: &str, why: &str, task: Option<&Task>, at: i64) -> Result<bool> {
    freeze(tx, repo, why, task, None, at)
}

/// Freezes a repository on a person's request. Returns whether that is new.
pub fn freeze_by(tx: &Tx<'_>, repo: &str, why: &str, by: &By, at: i64) -> Result<bool> {
    freeze(tx, repo, why, None, Some(by), at)
}

fn freeze(tx: &Tx<'_>, repo: &str, why: &str, task: Option<&Task>, by: Option<&By>, at: i64) -> Result<bool> {
    let new = tx.set_freeze(repo, why, task.map(|t| t.id), at)?;
    if new {
        cache_rows::drop_base(tx, repo, at)?;
        let n = tx.count_up(&format!("freezes/{repo}"), 1)?;
        super::event(tx, at, task.map(|t| t.id), Event::RepoFrozen, &json!({"repo": repo, "why": why, "by": by}))?;
        messages::alert_named(tx, AlertKind::Frozen, repo, n, why, at)?;
        show_freeze(tx, repo, task, at)?;
    }
    Ok(new)
}

/// Lifts a repository's freeze. Returns whether there was one.
pub fn unfreeze_repo(tx: &Tx<'_>, repo: &str, by: &By, at: i64) -> Result<bool> {
    let lifted = tx.lift_freeze(repo)?;
    if lifted {
        cache_rows::drop_base(tx, repo, at)?;
        super::event(tx, at, None, Event::RepoUnfrozen, &json!({"repo": repo, "by": by}))?;
        show_freeze(tx, repo, None, at)?;
    }
    Ok(lifted)
}

/// Updates the cards of a repository's tasks to name its freeze (SHIP-7). The caller updates the card of the task that
/// caused it.
fn show_freeze(tx: &Tx<'_>, repo: &str, about: Option<&Task>, at: i64) -> Result<()> {
    for t in tx.open_tasks()?.iter().filter(|t| t.repo == repo && about.is_none_or(|a| a.id != t.id)) {
        messages::card(tx, t, at)?;
    }
    Ok(())
}

/// Frees the repository's lease if this task holds it.
pub fn free_lease(tx: &Tx<'_>, view: &TaskView) -> Result<bool> {
    match &view.lease {
        Some(l) if l.task_id == Some(view.task.id) => {
            let freed = tx.free_lease(&l.repo, l.fence)?;
            if freed {
                super::event(
                    tx,
                    view.now.wall_ms,
                    Some(view.task.id),
                    Event::LeaseReleased,
                    &json!({"repo": l.repo, "fence": l.fence}),
                )?;
            }
            Ok(freed)
        }
        Some(_) | None => Ok(false),
    }
}

/// Holds a task whose pull request or branch somebody else withdrew or merged, with one alert (RULE-31). Returns
/// whether that is new, and whether its repository is newly frozen.
pub fn withdraw(tx: &Tx<'_>, task: &mut Task, cause: &Withdrawal, at: i64) -> Result<(bool, bool)> {
    if task.withdrawn.is_some() {
        return Ok((false, false));
    }
    let why = cause.to_string();
    super::change(tx, task, Change::Withdrawal(Some(cause.clone())), at)?;
    super::event(
        tx,
        at,
        Some(task.id),
        Event::Withdrawn,
        &json!({"pr": task.pr.as_ref().map(|p| p.number), "why": why}),
    )?;
    let n = tx.count_up(&format!("withdrawals/{}", task.id), 1)?;
    messages::alert(tx, task, AlertKind::Withdrawn, n, &cause.advice(&task.key), at)?;
    messages::card(tx, task, at)?;
    Ok((true, cause.freezes() && freeze_repo(tx, &task.repo, &why, Some(task), at)?))
}
