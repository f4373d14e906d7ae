//! `orch run-job` (hidden): a supervisor. Started by `tick`, never by a person.

use crate::adapters::process;
use crate::adapters::store::Mode;
use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit};
use crate::cli::open;
use crate::engine::supervise;
use crate::model::ids::RunId;
use anyhow::Context;

/// Works one claimed run
#[derive(Debug, clap::Args)]
pub struct Args {
    run: i64,
    /// Only finalize what a dead supervisor left
    #[arg(long)]
    finalize: bool,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    process::new_session().context("starting a session of its own")?;
    let mut ctx = open::step(call, "run-job", Mode::Use)?;
    let worked = supervise::run(&mut ctx, RunId(args.run), args.finalize);
    open::leave(&mut ctx);
    worked?;
    for fault in &ctx.report.errors {
        tracing::error!(task = fault.task, "{}", fault.message);
    }
    Ok(if ctx.report.errors.is_empty() { Exit::Done } else { Exit::Broken })
}
