//! Effects on processes.

use crate::engine::run_env;
use crate::engine::{Ctx, cluster, tree};
use crate::model::effect::Report;
use crate::model::task::{Actor, Run, Task};
use anyhow::Result;

/// Ends every run of the task.
pub fn end(ctx: &mut Ctx, task: &Task) -> Result<Report> {
    let runs = ctx.store.read(|tx| tx.runs_of(task.id))?;
    end_runs(ctx, &runs)?;
    Ok(Report::Done)
}

/// Ends the supervisors and every process of these runs, and verifies that they are gone.
pub fn end_runs(ctx: &mut Ctx, runs: &[Run]) -> Result<()> {
    // The supervisor ends its job: a TERM to srun would kill all of it at once (CLU-3b).
    cluster::end(ctx, runs)?;
    let supervisors: Vec<Actor> = runs.iter().filter_map(|r| r.supervisor.clone()).collect();
    // A supervisor sees its agent end first, but its claim is gone by now, so it can record nothing.
    Ok(tree::end(ctx, runs, &supervisors, ctx.config.agents.stop_grace_s)?)
}

/// Deletes environment files of the task's runs.
pub fn forget_environments(ctx: &mut Ctx, task: &Task) -> Result<Report> {
    for run in ctx.store.read(|tx| tx.runs_of(task.id))? {
        run_env::forget_environment(ctx, run.id);
    }
    Ok(Report::Done)
}
