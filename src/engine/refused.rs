//! The ends of an attempt that are neither success nor outage: a refusal that lasts until a person acts, work that is
//! kept until the remote takes it, and a *no* of the forge that is asked again within a bound (ORD-1, RULE-45, RULE-48).

use super::{Ctx, apply, outages, view};
use crate::adapters::forge::ForgeError;
use crate::adapters::git::GitError;
use crate::adapters::sentinel::Occupied;
use crate::adapters::store::{StoreError, Tx};
use crate::decide::refused::once_more;
use crate::model::decision::{Decision, Effect};
use crate::model::ids::TaskId;
use crate::model::policy::EffectBounds;
use crate::model::refusal::Asked;
use crate::model::report::{ActionKind, Rule};
use crate::model::task::{Cause, Task};
use crate::model::text::clip;
use anyhow::Result;
use serde_json::json;

/// No later try succeeds until a person acts: the task is blocked with the reason and the ways out.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Refused {
    pub why: String,
}

impl Refused {
    /// As an error of a step.
    pub fn error(why: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { why: why.into() })
    }

    /// Why no later try succeeds; `None`: one may.
    pub fn why(e: &anyhow::Error) -> Option<String> {
        let incompatible = |e: &anyhow::Error| {
            e.chain().any(|e| matches!(e.downcast_ref(), Some(GitError::Incompatible { .. }))).then(|| format!("{e:#}"))
        };
        let occupied = |e: &anyhow::Error| e.chain().find_map(Occupied::of).map(ToString::to_string);
        e.downcast_ref::<Self>().map(|r| r.why.clone()).or_else(|| incompatible(e)).or_else(|| occupied(e))
    }

    /// Branch and default branch have nothing in common: somebody rewrote one of them.
    pub fn unrelated(task: &Task, default: &str) -> anyhow::Error {
        let branch = task.branch.as_deref().unwrap_or("its branch");
        Self::error(format!(
            "{branch} has no history in common with {default}: one of them was rewritten; put its history back, then `orch retry {}`, or `orch stop {}` ends the task",
            task.key, task.key
        ))
    }
}

/// What an agent's run left can't be pushed now: it is kept, and finalized again later.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Kept {
    pub cause: Cause,
    pub why: String,
}

impl Kept {
    pub fn error(cause: Cause, why: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { cause, why: why.into() })
    }

    pub fn of(e: &anyhow::Error) -> Option<&Self> {
        e.downcast_ref()
    }
}

/// Longer answers are cut.
const SHOWN: usize = 600;

/// What the forge or the remote answered, with what a person does about it; `None`: the error is no *no* of theirs.
pub fn answer(e: &anyhow::Error) -> Option<String> {
    let refused = e.chain().any(|e| {
        e.downcast_ref::<ForgeError>().is_some_and(|e| e.refusal().is_some())
            || matches!(e.downcast_ref::<GitError>(), Some(GitError::Refused { .. }))
    });
    let whole = refused.then(|| format!("{e:#}"))?;
    // Who says no is told by who shows it.
    let said = clip(whole.replacen("the forge refuses: ", "", 1).as_str(), SHOWN);
    Some(outages::advice(e).map_or(said.clone(), |advice| format!("{said}; {advice}")))
}

/// Notes on the task's row, which the caller saves, that an effect was refused. The reason to block, past its bound.
pub fn note(task: &mut Task, asked: Asked, answer: &str, bounds: EffectBounds, at: i64) -> Option<String> {
    // A stop gives up what was refused before: that counts for nothing against it.
    let before = task.refused.as_ref().filter(|r| asked != Asked::Stop || r.asked == Asked::Stop);
    let (noted, last) = once_more(before, asked, answer.to_owned(), at, bounds);
    let why = last.then(|| {
        format!(
            "the forge refused {} {} times, the last time: {answer}; what was done is kept: `orch retry {}` asks again, and no agent starts",
            asked.words(),
            noted.tries,
            task.key
        )
    });
    task.refused = Some(noted);
    why
}

/// Holds a task for an effect that was refused, or blocks it past the bound; its lease is given back meanwhile.
pub fn hold(ctx: &mut Ctx, id: TaskId, effect: Effect, answer: &str) -> Result<Decision> {
    let now = ctx.now();
    let at = now.stamp.wall_ms;
    let bounds = ctx.policy.effects;
    let asked = asked(effect);
    let (key, held, blocked) = ctx.store.write(|tx| {
        let view = view::task(tx, id, &now, None)?;
        let mut task = view.task.clone();
        let blocked = note(&mut task, asked, answer, bounds, at);
        match &blocked {
            Some(why) => apply::block(tx, &view, &mut task, why, None, at)?,
            None => {
                if task.critical.is_none() {
                    apply::free_lease(tx, &view)?;
                }
                said(tx, &mut task, at)?;
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

/// Saves the row with what was noted, the first time with an event.
fn said(tx: &Tx<'_>, task: &mut Task, at: i64) -> std::result::Result<(), StoreError> {
    tx.save_task(task, at)?;
    if let Some(r) = task.refused.as_ref().filter(|r| r.tries == 1) {
        tx.audit(at, Some(task.id), "forge_refused", &json!({"asked": r.asked, "answer": r.answer}))?;
    }
    Ok(())
}

/// The effect was done: nothing is refused any more. An answer that did not come is noted, since no bound runs then.
pub fn over(ctx: &mut Ctx, before: &Task, effect: Effect, outage: bool) -> Result<()> {
    let ours = |t: &Task| t.refused.as_ref().is_some_and(|r| r.asked == asked(effect));
    if !(ours(before) || (outage && before.refused.is_some())) {
        return Ok(());
    }
    let at = ctx.now().stamp.wall_ms;
    let id = before.id;
    Ok(ctx.store.write(|tx| {
        let mut task = tx.task(id)?;
        match (&mut task.refused, outage) {
            (Some(r), true) => (r.silent, r.last_at) = (true, at),
            (Some(r), false) if r.asked == asked(effect) => task.refused = None,
            (Some(_) | None, _) => return Ok::<_, StoreError>(()),
        }
        tx.save_task(&mut task, at)
    })?)
}

fn asked(effect: Effect) -> Asked {
    match effect {
        Effect::OpenPull => Asked::OpenPull,
        Effect::MergeGate | Effect::VerdictInputs => Asked::MergeGate,
        Effect::OpenDeploy => Asked::OpenDeploy,
        Effect::Land => Asked::Land,
        Effect::CompleteStop => Asked::Stop,
    }
}
