//! A pull request in a merge queue (GH-1): it enters when the queue is empty, is watched, and leaves when something comes
//! first. Landing itself is seen in git, as every landing is (RULE-5).

use super::deploy::{answered, back_to_gate, not_yet, withdraw};
use super::{Ctx, awaits, services, steps};
use crate::adapters::forge::ForgeError;
use crate::decide::merge_queue::{self as rule, Step};
use crate::model::landing::Awaited;
use crate::model::rules::Queue;
use crate::model::task::{Deploy, Task};
use anyhow::Result;

/// The row that says that a deploy's pull request may be in the queue. Written before it enters, so that nothing that is
/// withdrawn can land.
fn key(task: &Task) -> String {
    format!("queue/t{}", task.id)
}

/// Does what follows from a look at the queue. `contains`: the head contains the base.
pub fn go_on(ctx: &mut Ctx, task: &Task, deploy: &Deploy, number: i64, queue: &Queue, contains: bool) -> Result<()> {
    let before = ctx.store.read(|tx| awaits::of(tx, task))?;
    let entered = before.is_some_and(|wait| wait.what == Awaited::Queued);
    match rule::step(queue, entered, &deploy.tree, contains) {
        Step::Enter => enter(ctx, task, deploy, number),
        Step::Wait { said } => {
            may_land(ctx, task, deploy)?;
            wait(ctx, task, deploy, Awaited::Queued, &said)
        }
        Step::Busy { said } => wait(ctx, task, deploy, Awaited::MergeQueue, &said),
        Step::BackToGate { why } => back_to_gate(ctx, task, deploy, &why),
        Step::ThrownOut { why } => thrown_out(ctx, task, deploy, &why),
        Step::NotYet { why } => not_yet(ctx, task, deploy, &why),
    }
}

fn enter(ctx: &mut Ctx, task: &Task, deploy: &Deploy, number: i64) -> Result<()> {
    may_land(ctx, task, deploy)?;
    let project = ctx.project(&task.project)?.clone();
    match services::forge_said(ctx, &project, |forge| forge.enter_queue(number, &deploy.head))? {
        Ok(None) => wait(ctx, task, deploy, Awaited::Queued, "it is in the merge queue"),
        Ok(Some((what, said))) => wait(ctx, task, deploy, what, &said),
        Err(e) => answered(ctx, task, deploy, Err(e)),
    }
}

/// The release stays, and a later step looks again; past the bound of a wait without a person the task is blocked.
fn wait(ctx: &mut Ctx, task: &Task, deploy: &Deploy, what: Awaited, said: &str) -> Result<()> {
    let Some(why) = awaits::keep(ctx, task, deploy, what, said)? else { return Ok(()) };
    withdraw(ctx, task, deploy, &why)?;
    steps::block(ctx, task.id, &why, false)
}

/// What failed in the queue is a red CI of the commit that would have landed: the work goes back, with the reason.
fn thrown_out(ctx: &mut Ctx, task: &Task, deploy: &Deploy, why: &str) -> Result<()> {
    withdraw(ctx, task, deploy, why)?;
    let status = ctx.project(&task.project).is_ok_and(|p| p.forge.posts_statuses());
    let entries = rule::thrown_out(&ctx.task(task.id)?, deploy, why, status);
    steps::record(ctx, task.id, entries)
}

fn may_land(ctx: &mut Ctx, task: &Task, deploy: &Deploy) -> Result<()> {
    let (key, id) = (key(task), deploy.id.clone());
    Ok(ctx.store.write(|tx| tx.set_meta(&key, &id))?)
}

/// Takes a deploy's pull request out of the queue, if it may be in it. Fails if it has landed, or may still land: then
/// nothing may be withdrawn, and the next step looks first.
pub fn leave(ctx: &mut Ctx, task: &Task, deploy: &Deploy) -> Result<()> {
    let key = key(task);
    if ctx.store.read(|tx| tx.meta(&key))?.as_deref() != Some(deploy.id.as_str()) {
        return Ok(());
    }
    let project = ctx.project(&task.project)?.clone();
    let number = task.pr.as_ref().map_or(0, |pr| pr.number);
    match services::forge_said(ctx, &project, |forge| forge.leave_queue(number))? {
        Ok(true) | Err(ForgeError::NotFound(_)) => Ok(ctx.store.write(|tx| tx.drop_meta(&key))?),
        Ok(false) => {
            anyhow::bail!("pull request {number} was merged by the queue meanwhile; the next step looks at git first")
        }
        Err(e) => Err(e.into()),
    }
}
