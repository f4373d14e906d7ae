//! `orch run-job` (hidden): a supervisor. Started by `tick`, never by a person.

use crate::adapters::executor::PIPE;
use crate::adapters::store::Mode;
use crate::adapters::{handed, process};
use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit};
use crate::cli::open;
use crate::config::take_over;
use crate::engine::reap::START_MS;
use crate::engine::supervise;
use crate::model::ids::RunId;
use anyhow::Context;
use std::time::Duration;

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
    // A service inherits nothing: what it may know waits for it beside its log.
    if let Some(dir) = &call.global.state_dir {
        let pipe = dir.join("runs").join(args.run.to_string()).join(PIPE);
        let bound = Duration::from_millis(u64::try_from(START_MS).unwrap_or_default());
        take_over(handed::receive(&pipe, bound).context("fetching this run's secrets")?);
    }
    let mut ctx = open::step(call, "run-job", Mode::Use)?;
    let worked = supervise::run(&mut ctx, RunId(args.run), args.finalize);
    open::leave(&mut ctx);
    worked?;
    for fault in &ctx.report.errors {
        tracing::error!(task = fault.task, "{}", fault.message);
    }
    Ok(if ctx.report.errors.is_empty() { Exit::Done } else { Exit::Broken })
}
