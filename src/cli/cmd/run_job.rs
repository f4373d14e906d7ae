//! `orch run-job` (hidden): a supervisor. Started by `tick`, never by a person.

use crate::adapters::executor::PIPE;
use crate::adapters::store::Mode;
use crate::adapters::{handed, process};
use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit};
use crate::cli::open;
use crate::config::take_over;
use crate::engine::base_rows;
use crate::engine::launch::START_MS;
use crate::engine::run_job;
use crate::model::ids::RunId;
use anyhow::Context;
use std::time::Duration;

/// Works one claimed run
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(required_unless_present = "base")]
    run: Option<i64>,
    /// Only finalize what a dead supervisor left
    #[arg(long)]
    finalize: bool,
    /// Try the base of this name instead
    #[arg(long, value_name = "NAME", requires = "token", conflicts_with_all = ["run", "finalize"])]
    base: Option<String>,
    /// The claim of that try
    #[arg(long, value_name = "T")]
    token: Option<String>,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    process::new_session().context("starting a new session")?;
    // A service inherits nothing: the values it may have are next to its log.
    if let Some(dir) = &call.global.state_dir {
        let log_folder = match (&args.base, args.run) {
            (Some(name), _) => base_rows::dir_in(dir, name),
            (None, run) => dir.join("runs").join(run.unwrap_or_default().to_string()),
        };
        let pipe = log_folder.join(PIPE);
        let bound = Duration::from_millis(u64::try_from(START_MS).unwrap_or_default());
        take_over(handed::receive(&pipe, bound).context("fetching this run's secrets")?);
    }
    let mut ctx = open::step(call, "run-job", Mode::Use)?;
    let worked = match (&args.base, args.run) {
        (Some(name), _) => run_job::base(&mut ctx, name, args.token.as_deref().unwrap_or_default()),
        (None, Some(run)) => run_job::run(&mut ctx, RunId(run), args.finalize),
        (None, None) => Ok(()),
    };
    open::leave(&mut ctx);
    worked?;
    for fault in &ctx.report.errors {
        tracing::error!(task = fault.task, "{}", fault.message);
    }
    Ok(if ctx.report.errors.is_empty() { Exit::Done } else { Exit::Broken })
}
