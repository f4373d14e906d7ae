//! The results of an attempt that are neither success nor outage: a refusal until a person acts, work kept until the
//! remote accepts it, and a *no* of the forge that is retried within a bound (ORD-1, RULE-45, RULE-48).

use super::{Ctx, outages, record, view};
use crate::adapters::forge::ForgeError;
use crate::adapters::git::GitError;
use crate::adapters::store::StoreError;
use crate::decide::refused as decide;
use crate::model::change::Change;
use crate::model::decision::{Decision, Procedure};
use crate::model::event::Event;
use crate::model::ids::TaskId;
use crate::model::report::{ActionKind, Rule};
use crate::model::task::Task;
use crate::model::text::clip;
use anyhow::Result;
use serde_json::json;

/// Longer answers are cut.
const SHOWN: usize = 600;

/// The answer of the forge or the remote, with what a person can do about it; `None`: the error is not a *no* from
/// either.
pub fn answer(e: &anyhow::Error) -> Option<String> {
    let refused = e.chain().any(|e| {
        e.downcast_ref::<ForgeError>().is_some_and(|e| e.refusal().is_some())
            || matches!(e.downcast_ref::<GitError>(), Some(GitError::Refused { .. }))
    });
    if !refused {
        return None;
    }
    // The caller names who refused.
    let words = |e: &(dyn std::error::Error + 'static)| match e.downcast_ref() {
        Some(ForgeError::Refused { text, .. }) => text.clone(),
        Some(_) | None => e.to_string(),
    };
    let said = clip(&e.chain().map(words).collect::<Vec<_>>().join(": "), SHOWN);
    Some(outages::advice(e).map_or(said.clone(), |advice| format!("{said}; {advice}")))
}

/// Holds a task whose effect was refused, or blocks it past the bound. Its lease is given back meanwhile.
pub fn hold(ctx: &mut Ctx, id: TaskId, effect: Procedure, answer: &str) -> Result<Decision> {
    let now = ctx.now();
    let at = now.stamp.wall_ms;
    let bounds = ctx.policy.effects;
    let asked = decide::asked(effect);
    let (key, held, blocked) = ctx.store.write(|tx| {
        let view = view::task(tx, id, &now, None)?;
        let mut task = view.task.clone();
        let (noted, blocked) = decide::refused(&task, asked, answer, bounds, at);
        match &blocked {
            Some(why) => {
                task.apply(Change::Refused(noted))?;
                record::block(tx, &view, &mut task, why, None, at)?;
            }
            None => {
                if task.critical.is_none() {
                    record::free_lease(tx, &view)?;
                }
                let first = noted.tries == 1;
                record::change(tx, &mut task, Change::Refused(noted), at)?;
                if first {
                    record::event(
                        tx,
                        at,
                        Some(task.id),
                        Event::ForgeRefused,
                        &json!({"asked": asked, "answer": answer}),
                    )?;
                }
            }
        }
        Ok::<_, StoreError>((task.key.to_string(), task.refused, blocked))
    })?;
    if let Some(why) = blocked {
        ctx.report.did(ActionKind::TaskBlocked, Some(&key), json!({"why": why}));
        return Ok(Decision::Hold { rule: Rule::Blocked, why, until: None });
    }
    let why = format!("the forge refuses {}: {answer}", asked.words());
    Ok(Decision::Hold { rule: Rule::ForgeRefused, why, until: held.map(|r| r.next_at) })
}

/// After an attempt: the effect is no longer refused, or nobody answered, so no bound runs.
pub fn over(ctx: &mut Ctx, before: &Task, effect: Procedure, outage: bool) -> Result<()> {
    if before.refused.is_none() {
        return Ok(());
    }
    let at = ctx.now().stamp.wall_ms;
    let id = before.id;
    Ok(ctx.store.write(|tx| {
        let mut task = tx.task(id)?;
        match decide::tried(before, &task, decide::asked(effect), outage, at) {
            Some(change) => record::change(tx, &mut task, change, at),
            None => Ok::<_, StoreError>(()),
        }
    })?)
}
