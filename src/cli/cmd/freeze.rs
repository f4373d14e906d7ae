//! `orch freeze` (CLI-4).

use crate::adapters::store::Mode;
use crate::cli::exit::{CmdResult, Exit};
use crate::cli::{Invocation, open};
use crate::engine::brakes;
use std::time::Instant;

/// Freeze a repository: no new tasks, no deploys, until `orch unfreeze`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch freeze orchestrator --reason 'production is down'")]
pub struct Args {
    /// The repository's name or the project's key
    #[arg(value_name = "REPO")]
    repo: String,
    /// The reason, shown by `status` and recorded
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let start = Instant::now();
    let mut ctx = open::step(call, "freeze", Mode::Use)?;
    let repo = open::repo(&ctx, &args.repo)?;
    brakes::freeze(&mut ctx, &repo, &args.reason)?;
    open::finish(call, &mut ctx, start, Exit::Done)
}
