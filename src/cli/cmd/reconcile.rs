//! `orch reconcile` (CLI-2, BRD-4).

use crate::adapters::store::Mode;
use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit};
use crate::cli::open;
use crate::cli::open::project;
use crate::engine::reconcile;
use std::time::Instant;

/// Apply status changes made on the boards, and correct statuses that drifted
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch reconcile --full")]
pub struct Args {
    /// Only this project
    #[arg(long, value_name = "KEY")]
    project: Option<String>,
    /// Read every work item, not only those that changed
    #[arg(long)]
    full: bool,
    /// Print what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let start = Instant::now();
    let mut ctx = open::step_or_dry(call, "reconcile", Mode::Use, args.dry_run)?;
    let only = project(&ctx, args.project.as_deref())?;
    let done = reconcile::run(&mut ctx, only.as_deref(), args.full, reconcile::SCAN);
    open::ended_early(&mut ctx, done);
    open::finish(call, &mut ctx, start, Exit::Done)
}
