//! Pull requests on a forge: opened once there is something to show, closed if a merge left them open (SHIP-5).

use super::{Ctx, perform, services, steps};
use crate::adapters::forge::{ForgeError, PullState};
use crate::adapters::store::StoreError;
use crate::decide::merge;
use crate::decide::report::gate;
use crate::decide::report::pull::{TIDY, tidy_key};
use crate::model::event::Event;
use crate::model::ids::Sha;
use crate::model::report::ActionKind;
use crate::model::task::{PullRef, Task};
use anyhow::Result;
use serde_json::json;

/// Opens the branch's one pull request once there is something to show; `None`: one exists, or there is nothing to
/// show.
pub fn open(ctx: &mut Ctx, task: &Task, default_branch: &str, head: &Sha) -> Result<Option<PullRef>> {
    if !merge::pull_is_due(task, head) {
        return Ok(None);
    }
    let wanted = gate::new_pull(task, default_branch);
    let intent = json!({"branch": wanted.branch});
    let at = ctx.now().stamp.wall_ms;
    let me = ctx.me.clone();
    ctx.store
        .write(|tx| super::record::intend(tx, &wanted.key, Some(task.id), "pr_opened", &intent, &me, at).map(drop))?;
    let made = perform::pull::open(ctx, task, &wanted)?;
    steps::record(ctx, task.id, gate::pull_opened(&wanted, &made))?;
    Ok(Some(made))
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
        super::record::outcome(tx, key, &json!({"closed": open}), at)?;
        if open {
            super::record::event(
                tx,
                at,
                Some(task.id),
                Event::PrClosed,
                &json!({"number": number, "why": "its commit has landed"}),
            )?;
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
