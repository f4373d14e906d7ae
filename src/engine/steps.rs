//! The one loop: an effect is carried out, its report judged on the rows as they are now, and what follows recorded in
//! the same transaction, until nothing follows. A dry run assumes each report.

use super::errors::Refused;
use super::perform::{Performed, perform};
use super::record::{self, Recorded};
use super::stopwatch;
use super::{Ctx, view};
use crate::adapters::sentinel;
use crate::adapters::store::StoreError;
use crate::decide::report;
use crate::model::decision::Procedure;
use crate::model::effect::{Effect, Report};
use crate::model::ids::TaskId;
use crate::model::plan::{Entry, Plan, Then};
use crate::model::task::Task;
use anyhow::{Result, anyhow, bail};

/// More effects than any procedure has.
const MOST_EFFECTS: usize = 24;

/// How a procedure ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    Whole,
    /// A dry run can't know what the outside would say.
    Unknown,
}

/// Carries out a procedure of a task as far as it goes.
///
/// # Errors
/// The first effect that failed; what was recorded before it stays.
pub fn run(ctx: &mut Ctx, id: TaskId, procedure: Procedure) -> Result<Ran> {
    follow(ctx, id, report::begin(procedure).then)
}

/// Carries out one effect and what follows from it.
///
/// # Errors
/// As [`run`].
pub fn effect(ctx: &mut Ctx, id: TaskId, effect: Effect) -> Result<Ran> {
    follow(ctx, id, Then::Perform(effect))
}

/// Does what follows from a plan.
///
/// # Errors
/// As [`run`].
pub fn follow(ctx: &mut Ctx, id: TaskId, first: Then) -> Result<Ran> {
    let mut then = first;
    let mut task = ctx.task(id)?;
    let mut fault = None;
    for _ in 0..MOST_EFFECTS {
        let effect = match then {
            Then::Perform(effect) => effect,
            Then::Done => return Ok(Ran::Whole),
            Then::Refuse { why } => return Err(Refused::error(why)),
            Then::Fail { why } => bail!("{why}"),
            Then::Fault => {
                return Err(fault.unwrap_or_else(|| anyhow!("{} was not done, and nothing says why", task.key)));
            }
            Then::NotYet { what, meanwhile, past } => {
                let plan = not_yet(ctx, &task, &what, meanwhile, *past)?;
                record(ctx, id, plan.entries)?;
                task = ctx.task(id)?;
                then = plan.then;
                continue;
            }
        };
        let Some(Performed { report: found, fault: said }) = carry_out(ctx, &task, &effect)? else {
            return Ok(Ran::Unknown);
        };
        fault = said.or(fault);
        let since = if let Report::Ready { revision, .. } = &found { *revision } else { task.revision };
        let Some(next) = recorded(ctx, id, &effect, found, since)? else { return Ok(Ran::Whole) };
        (task, then) = next;
    }
    bail!("{} effects in a row for {}: this is a fault of orch; the next step starts again", MOST_EFFECTS, task.key)
}

/// Performs one effect; a dry run assumes its report, and gives `None` where it can't.
fn carry_out(ctx: &mut Ctx, task: &Task, effect: &Effect) -> Result<Option<Performed>> {
    if !ctx.dry || effect.is_local() {
        return perform(ctx, task, effect).map(Some);
    }
    let now = ctx.now();
    let view = ctx.store.read(|tx| view::task(tx, task.id, &now, None))?;
    Ok(effect.expected(&view).map(Performed::from))
}

/// Judges a report and records what follows, in one transaction. `None`: another process was first.
fn recorded(ctx: &mut Ctx, id: TaskId, effect: &Effect, found: Report, since: i64) -> Result<Option<(Task, Then)>> {
    let (mut now, policy) = (ctx.now(), ctx.policy.clone());
    let root = ctx.paths.root().to_owned();
    let done = ctx.store.write(|tx| {
        // It may have been set while this waited for the database.
        now.halted = sentinel::halted(&root);
        let view = view::task(tx, id, &now, None)?;
        let moved = view.task.revision != since;
        let Plan { entries, then } = report::report(&view, &policy, effect, found, moved);
        Ok((record::entries(tx, &view, entries, &now)?, then))
    });
    match done {
        Ok((done, then)) => Ok(Some((shown(ctx, done), then))),
        Err(StoreError::Lost) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Adds what was recorded to the step's report.
fn shown(ctx: &mut Ctx, done: Recorded) -> Task {
    let key = done.task.key.to_string();
    ctx.report.changed |= done.changed || !done.actions.is_empty();
    ctx.report.actions.extend(done.actions);
    for (rule, why) in done.holds {
        ctx.report.hold(Some(&key), rule, why);
    }
    done.task
}

/// Records entries about a task, in one transaction.
///
/// # Errors
/// Another process moved the task, or the database fails: nothing is written.
pub fn record(ctx: &mut Ctx, id: TaskId, entries: Vec<Entry>) -> Result<()> {
    let now = ctx.now();
    let done = ctx.store.write(|tx| {
        let view = view::task(tx, id, &now, None)?;
        record::entries(tx, &view, entries, &now)
    })?;
    shown(ctx, done);
    Ok(())
}

/// Blocks a task because of what a step met outside its decisions.
///
/// # Errors
/// As [`record()`].
pub fn block(ctx: &mut Ctx, id: TaskId, why: &str, freeze: bool) -> Result<()> {
    record(ctx, id, vec![Entry::Block { why: why.to_owned(), freeze }])
}

/// A source says "not yet" once more: what is recorded of it (RULE-8).
fn not_yet(ctx: &mut Ctx, task: &Task, what: &str, meanwhile: Vec<Entry>, past: Plan) -> Result<Plan> {
    let ms = stopwatch::undecided_for(ctx, task, what, true, None)?;
    Ok(report::not_yet(&ctx.policy, ms, meanwhile, past))
}
