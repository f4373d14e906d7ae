//! `orch unfreeze` (CLI-4).

use crate::adapters::store::Mode;
use crate::cli::exit::{CmdResult, Exit};
use crate::cli::{Invocation, open};
use crate::engine::brakes;
use std::time::Instant;

/// Lift a repository's freeze; nothing else lifts it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch unfreeze orchestrator")]
pub struct Args {
    /// The repository's name or the project's key
    #[arg(value_name = "REPO")]
    repo: String,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let start = Instant::now();
    let mut ctx = open::step(call, "unfreeze", Mode::Use)?;
    let repo = open::repo(&ctx, &args.repo)?;
    brakes::unfreeze(&mut ctx, &repo)?;
    open::finish(call, &mut ctx, start, Exit::Done)
}
