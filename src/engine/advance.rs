//! Moves a task as far as it goes: decisions in the database, effects outside it, until something holds it.

use super::errors::Refused;
use super::refused;
use super::steps::Ran;
use super::{Ctx, apply, labels, landing, pulls, steps};
use crate::adapters::store::StoreError;
use crate::decide::transition::decide;
use crate::model::decision::{Decision, Procedure};
use crate::model::ids::TaskId;
use crate::model::report::{Held, Rule};
use crate::model::time::rfc3339;
use anyhow::Result;

/// More effects than any task needs in one step.
const MOST_EFFECTS: usize = 12;

/// Drives one task and returns what holds it in the end. An effect that does not change the decision ends the round.
pub fn task(ctx: &mut Ctx, id: TaskId) -> Result<Decision> {
    let auto = labels::auto_release(ctx, id);
    if about_to_move(ctx, id, auto)? {
        landing::check_waiting_deploy(ctx, id);
    }
    let mut before: Option<(Procedure, i64)> = None;
    let mut checked = false;
    for _ in 0..MOST_EFFECTS {
        let now = ctx.now();
        let policy = ctx.policy.clone();
        let driven = match ctx.store.write(|tx| apply::drive(tx, id, &policy, &now, auto)) {
            Ok(driven) => driven,
            // Another process moved it and decides what it does next.
            Err(StoreError::Lost) => return Ok(hold(Rule::Running, "another step moved the task meanwhile")),
            Err(e) => return Err(e.into()),
        };
        if !driven.actions.is_empty() {
            ctx.report.changed = true;
            ctx.report.actions.extend(driven.actions);
        }
        if !checked && driven.last.is_by_repository() {
            checked = true;
            let project = ctx.task(id)?.project;
            if super::repository::read_config(ctx, &project)? {
                continue;
            }
        }
        let Decision::Procedure(procedure) = driven.last else { return Ok(driven.last) };
        let row = ctx.task(id)?;
        if before == Some((procedure, row.revision)) {
            let again = format!("{procedure} has yet to be repeated");
            return Ok(if ctx.dry { driven.last } else { hold(Rule::Gate, &again) });
        }
        before = Some((procedure, row.revision));
        let done = steps::run(ctx, id, procedure);
        if ctx.dry {
            match done? {
                Ran::Whole => continue,
                Ran::Unknown => return Ok(driven.last),
            }
        }
        if let Err(e) = &done
            && let Some(answer) = refused::answer(e)
        {
            return refused::hold(ctx, id, procedure, &answer);
        }
        refused::over(ctx, &row, procedure, done.is_err())?;
        match done {
            // A merge may leave the pull request open (SHIP-5).
            Ok(_) if procedure == Procedure::Land => pulls::tidy(ctx),
            Ok(_) => {}
            Err(e) => {
                // No retry can succeed, so the task is blocked with the reason (ORD-1). A stop continues on its own.
                let refused = Refused::why(&e).filter(|_| procedure != Procedure::CompleteStop);
                steps::block(ctx, id, &refused.ok_or(e)?, false)?;
            }
        }
    }
    Ok(hold(Rule::Gate, "the step has reached its limit of actions"))
}

fn hold(rule: Rule, why: &str) -> Decision {
    Decision::Hold { rule, why: why.to_owned(), until: None }
}

/// Whether the next decision moves the task or starts an agent (RULE-31).
fn about_to_move(ctx: &mut Ctx, id: TaskId, auto: Option<crate::model::task::Waiting>) -> Result<bool> {
    if ctx.dry {
        return Ok(false);
    }
    let (now, policy) = (ctx.now(), ctx.policy.clone());
    let view = ctx.store.read(|tx| super::view::task(tx, id, &now, auto))?;
    Ok(decide(&view, &policy).is_a_move())
}

/// Drives one task and records what holds it or went wrong. The rest of the step continues.
pub fn noted(ctx: &mut Ctx, id: TaskId) {
    match task(ctx, id) {
        Ok(decision) => note(ctx, id, decision),
        Err(e) => {
            let row = ctx.task(id).ok();
            ctx.fault(row.as_ref(), "moving the task on", &e);
        }
    }
}

fn note(ctx: &mut Ctx, id: TaskId, decision: Decision) {
    if let Decision::Hold { rule, why, until } = decision
        && let Ok(row) = ctx.task(id)
    {
        ctx.report.skipped.push(Held { task: Some(row.key.to_string()), rule, why, until: until.map(rfc3339) });
    }
}

/// Drives every task without a running job, of one project or all: tasks left behind by a crash and tasks that only
/// waited for time to pass (RULE-6).
pub fn idle_tasks(ctx: &mut Ctx, only: Option<&str>) -> Result<()> {
    for id in ctx.store.read(|tx| tx.idle_tasks())? {
        if ctx.interrupted() {
            break;
        }
        if let Some(project) = only
            && ctx.task(id).is_ok_and(|t| t.project != project)
        {
            continue;
        }
        noted(ctx, id);
    }
    Ok(())
}
