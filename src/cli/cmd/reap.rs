//! `orch reap` (CLI-2, RUN-8).

use crate::adapters::store::Mode;
use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit};
use crate::cli::open;
use crate::engine::reap;
use std::time::Instant;

/// Settle jobs whose process died or ran too long, reclaim stale leases, complete interrupted stops
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch reap --dry-run")]
pub struct Args {
    /// Print what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let start = Instant::now();
    let mut ctx = open::step_or_dry(call, "reap", Mode::Migrate, args.dry_run)?;
    let done = reap::run(&mut ctx);
    open::ended_early(&mut ctx, done);
    open::finish(call, &mut ctx, start, Exit::Done)
}
