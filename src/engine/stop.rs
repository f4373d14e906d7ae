//! STOP (RUN-9, RULE-16 to RULE-18): a person's request, deferred inside a critical window, and the second look after
//! its end. What it does is in `decide::report::stop`.

use super::record;
use super::{Ctx, base, messages, steps};
use crate::adapters::store::{StoreError, Tx};
use crate::decide::command;
use crate::model::act::By;
use crate::model::card::AlertKind;
use crate::model::change::Change;
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::ids::TaskId;
use crate::model::report::ActionKind;
use crate::model::task::Task;
use crate::model::window::Window;
use anyhow::Result;
use serde_json::json;

/// A push may land after its client was killed: check again this much later (RULE-17).
const RECHECK_MS: i64 = 60_000;

/// What recording a stop found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requested {
    /// Terminal already: nothing to do.
    Terminal,
    /// Recorded; nothing critical is open.
    Now,
    /// Recorded, and a critical window is open: whichever step ends it applies the stop.
    Deferred(Window),
}

/// Records a stop in one transaction that reads the critical window (RULE-16). The first stamp wins, and only the first
/// one is reported.
pub fn request(ctx: &mut Ctx, id: TaskId, reason: Option<&str>, by: &By) -> Result<Requested> {
    let at = ctx.now().stamp.wall_ms;
    let recorded = ctx.store.write(|tx| request_in(tx, id, reason, by, at))?;
    if recorded.first
        && let Requested::Deferred(what) = &recorded.requested
    {
        ctx.report.did(ActionKind::CancelDeferred, Some(&recorded.key), json!({"window": what}));
    }
    Ok(recorded.requested)
}

/// A stop as it was recorded.
#[derive(Debug)]
pub struct Recorded {
    pub requested: Requested,
    /// Whether none was recorded before.
    pub first: bool,
    pub key: String,
}

/// The same within the caller's transaction.
pub fn request_in(tx: &Tx<'_>, id: TaskId, reason: Option<&str>, by: &By, at: i64) -> Result<Recorded, StoreError> {
    let mut task = tx.task(id)?;
    let key = task.key.to_string();
    let (first, waits) = match command::stop(&task) {
        command::Stop::Ended => return Ok(Recorded { requested: Requested::Terminal, first: false, key }),
        command::Stop::Recorded { first, waits } => (first, waits),
    };
    if first {
        record::change(tx, &mut task, Change::RequestStop { reason: reason.map(str::to_owned), at }, at)?;
        record::event(tx, at, Some(id), Event::StopRequested, &json!({"reason": reason, "critical": waits, "by": by}))?;
    }
    let Some(what) = waits else { return Ok(Recorded { requested: Requested::Now, first, key }) };
    if first {
        let why = format!("The stop waits for {what} to end.");
        messages::comment(tx, &task, "stop-deferred", &why, at)?;
        messages::alert(tx, &task, AlertKind::StopDeferred, 1, &why, at)?;
        messages::card(tx, &task, at)?;
    }
    Ok(Recorded { requested: Requested::Deferred(what), first, key })
}

/// A reap at least a minute after a stop checks again for branch and pull request (RULE-17).
pub fn recheck_after_stop(ctx: &mut Ctx) -> Result<()> {
    if ctx.dry {
        return Ok(());
    }
    let now = ctx.now().stamp.wall_ms;
    for row in ctx.store.read(|tx| tx.intents_of_kind("relook", now - RECHECK_MS))? {
        let Some(id) = row.task_id else { continue };
        let Ok(task) = ctx.task(id) else { continue };
        // An unavailable forge must not prevent deleting the branch and the checkouts.
        let parts = [late_pull(ctx, &task), late_branch(ctx, &task), late_area(ctx, &task)];
        let done = parts.into_iter().collect::<Result<()>>();
        match done {
            Ok(()) => ctx.store.write(|tx| record::outcome(tx, &row.key, &json!({"looked": true}), now))?,
            Err(e) => ctx.fault(Some(&task), "checking again after a stop", &e),
        }
    }
    Ok(())
}

/// Closes a pull request that was opened although its client was killed, so that nothing recorded it (RULE-17).
fn late_pull(ctx: &mut Ctx, task: &Task) -> Result<()> {
    let Some(branch) = task.branch.clone() else { return Ok(()) };
    if !ctx.project(&task.project)?.forge.is_remote() || !base::is_ours(ctx, task, &branch)? {
        return Ok(());
    }
    steps::effect(ctx, task.id, Effect::LookForPull { branch }).map(drop)
}

fn late_branch(ctx: &mut Ctx, task: &Task) -> Result<()> {
    steps::effect(ctx, task.id, Effect::LookAtLeft { branch: task.branch.clone(), stop: None }).map(drop)
}

fn late_area(ctx: &mut Ctx, task: &Task) -> Result<()> {
    if !ctx.paths.area_of(task).exists() {
        return Ok(());
    }
    steps::effect(ctx, task.id, Effect::RemoveArea { stop: None }).map(drop)
}
