//! `run-job`: works one claim, then lets the task, and the queue, go on (RUN-4).

use super::{Ctx, advance, base_job, outbox, supervise, tick};
use crate::model::ids::RunId;
use crate::model::report::ActionKind;
use crate::model::task::Run;
use anyhow::Result;
use serde_json::json;

/// Works a claimed run; with `finalize`, only what a dead supervisor left to do.
pub fn run(ctx: &mut Ctx, id: RunId, finalize: bool) -> Result<()> {
    if let Some(worked) = supervise::run(ctx, id, finalize)? {
        follow_up(ctx, &worked.run);
    }
    Ok(())
}

/// Checks a base.
pub fn base(ctx: &mut Ctx, name: &str, token: &str) -> Result<()> {
    if let Some(_lock) = base_job::work(ctx, name, token)? {
        start_next(ctx);
        outbox::deliver(ctx);
    }
    Ok(())
}

/// Moves the task, delivers, and starts what may start, so that nothing waits for a timer (RUN-4).
fn follow_up(ctx: &mut Ctx, run: &Run) {
    advance::noted(ctx, run.task_id);
    start_next(ctx);
    outbox::deliver(ctx);
    let key = ctx.task(run.task_id).map(|t| t.key.to_string()).unwrap_or_default();
    ctx.report.did(ActionKind::RunFinished, Some(&key), json!({"run": run.id}));
}

fn start_next(ctx: &mut Ctx) {
    if let Err(e) = tick::dispatch_jobs(ctx, None, None) {
        ctx.report.fault(None, format!("starting the next job: {e:#}"), None);
    }
}
