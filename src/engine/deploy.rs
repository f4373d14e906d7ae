//! Around phase B of a deploy (SHIP-5), whose effects are in `perform/merge.rs`: its file, the probe before it, the wait
//! for its start, and giving its merge lease back.

use super::{Ctx, steps};
use crate::model::effect::Effect;
use crate::model::ids::TaskId;
use crate::model::report::Rule;
use crate::model::task::{Deploy, DeployState, Task};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// `deploy.<id>.initiated.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Initiated {
    pub task: i64,
    pub key: String,
    pub deploy: String,
    pub head: String,
    pub base: String,
    pub tree: String,
    pub fence: i64,
    pub actor: serde_json::Value,
}

/// A production that takes longer than this to probe is slow: it is not probed again before the deploy, and no step
/// waits for it.
pub const SLOW: Duration = Duration::from_secs(2);

/// Probes production a few times before it changes, for the watch (SHIP-6). A slow production makes this slow, so if a
/// command deploys, its own job does it and no step waits (RUN-1).
pub fn baseline(ctx: &mut Ctx, task: &Task) -> Result<()> {
    if ctx.policy.project(&task.project).is_some_and(|p| p.watch) {
        super::watch::take_baseline(ctx, task)?;
    }
    Ok(())
}

/// Lets a task whose merge waits for a person at the forge give its merge lease back (RUN-8). `false`: something was
/// done, or another process is working on it.
pub fn park(ctx: &mut Ctx, id: TaskId, why: &str) -> Result<bool> {
    let before = newest(ctx, id)?;
    steps::effect(ctx, id, Effect::Park { why: why.to_owned() })?;
    let withdrawn = |d: &Deploy| d.state == DeployState::Withdrawn && before.as_ref().is_some_and(|b| b.id == d.id);
    Ok(ctx.store.read(|tx| tx.deploys_of(id))?.iter().any(withdrawn))
}

/// Waits until the started command has taken its right, so that `--confirm-deploy` returns with phase B done. Bounded,
/// since the queue's own limits may hold the job. Does not wait while a slow production is probed first: the job
/// continues on its own, and the report says so.
pub fn await_started(ctx: &mut Ctx, id: TaskId, bound: Duration) -> Result<()> {
    let begun = Instant::now();
    let task = ctx.task(id)?;
    let watched = ctx.policy.project(&task.project).is_some_and(|p| p.watch);
    while newest(ctx, id)?.is_some_and(|d| d.state == DeployState::Landed) && begun.elapsed() < bound {
        if watched && begun.elapsed() > SLOW && !super::watch::baseline_path(ctx, &task).exists() {
            let why = "production answers slowly; the deploy job starts the command after probing it";
            ctx.report.hold(Some(task.key.as_str()), Rule::DeployResult, why.to_owned());
            return Ok(());
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Ok(())
}

/// The newest deploy that was not withdrawn.
pub fn newest(ctx: &mut Ctx, id: TaskId) -> Result<Option<Deploy>> {
    Ok(Deploy::newest(&ctx.store.read(|tx| tx.deploys_of(id))?).cloned())
}
