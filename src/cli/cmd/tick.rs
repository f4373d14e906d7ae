//! `orch tick` (CLI-2).

use crate::adapters::store::Mode;
use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit};
use crate::cli::open;
use crate::engine::tick;
use crate::model::report::Rule;
use std::time::Instant;

/// Pick up work items, start all jobs that may start, send messages
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch tick --json | jq .skipped")]
pub struct Args {
    /// Only this project
    #[arg(long, value_name = "KEY")]
    project: Option<String>,
    /// Start at most N jobs
    #[arg(long, value_name = "N")]
    max: Option<usize>,
    /// Print what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let start = Instant::now();
    let mut ctx = open::step_or_dry(call, "tick", Mode::Migrate, args.dry_run)?;
    let project = open::project(&ctx, args.project.as_deref())?;
    if let Some(reason) = ctx.now().halted {
        ctx.report.hold(None, Rule::Halt, format!("halted: {reason}; `orch resume` lifts it"));
    }
    let done = tick::run(&mut ctx, project.as_deref(), args.max);
    open::ended_early(&mut ctx, done);
    open::finish(call, &mut ctx, start, Exit::Done)
}
