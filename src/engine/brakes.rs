//! What a person does by hand against the whole of it: HALT, and the freeze of a repository (SHIP-7).

use super::{Ctx, guard, outbox, record};
use crate::adapters::{process, sentinel};
use crate::model::event::Event;
use crate::model::report::{ActionKind, Rule};
use anyhow::{Context, Result};
use serde_json::json;

/// Sets HALT. Returns whether that is new.
pub fn halt(ctx: &mut Ctx, reason: &str) -> Result<bool> {
    let new = sentinel::halt(ctx.paths.root(), reason).context("writing HALT")?;
    if new {
        let at = ctx.now().stamp.wall_ms;
        let detail = json!({"reason": reason, "by": process::caller()});
        ctx.store.write(|tx| record::event(tx, at, None, Event::Halted, &detail).map(drop))?;
    }
    Ok(new)
}

/// What became of a request to lift HALT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumed {
    Lifted,
    /// Nothing was halted.
    NotHalted,
    /// It was set for this reason, which only `orch reconcile --full` settles.
    Refused(String),
}

/// Lifts HALT.
pub fn resume(ctx: &mut Ctx) -> Result<Resumed> {
    let was = sentinel::halted(ctx.paths.root());
    if let Some(why) = &was
        && !guard::may_resume(ctx)?
    {
        return Ok(Resumed::Refused(why.clone()));
    }
    sentinel::lift_halt(ctx.paths.root()).context("removing HALT")?;
    if was.is_none() {
        return Ok(Resumed::NotHalted);
    }
    let at = ctx.now().stamp.wall_ms;
    let detail = json!({"was": was, "by": process::caller()});
    ctx.store.write(|tx| record::event(tx, at, None, Event::Resumed, &detail).map(drop))?;
    Ok(Resumed::Lifted)
}

/// Freezes a repository, and shows it; the report says whether that is new.
pub fn freeze(ctx: &mut Ctx, repo: &str, why: &str) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    if ctx.store.write(|tx| record::freeze_by(tx, repo, why, &process::caller(), at))? {
        ctx.report.did(ActionKind::RepoFrozen, None, json!({"repo": repo, "why": why}));
    } else {
        ctx.report.hold(None, Rule::Freeze, format!("{repo} is frozen already"));
    }
    outbox::deliver(ctx);
    Ok(())
}

/// Lifts a repository's freeze, and shows it; the report says whether there was one.
pub fn unfreeze(ctx: &mut Ctx, repo: &str) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    if ctx.store.write(|tx| record::unfreeze_repo(tx, repo, &process::caller(), at))? {
        ctx.report.did(ActionKind::RepoUnfrozen, None, json!({"repo": repo}));
    } else {
        ctx.report.hold(None, Rule::Freeze, format!("{repo} is not frozen"));
    }
    outbox::deliver(ctx);
    Ok(())
}
