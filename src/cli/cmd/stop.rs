//! `orch stop` (CLI-2, RUN-9).

use crate::adapters::process;
use crate::adapters::store::Mode;
use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::open;
use crate::engine::stop::{self, Requested};
use crate::engine::{advance, outbox};
use crate::model::report::Rule;
use std::time::Instant;

/// Cancel a task: end its agent, close its pull request, delete its branch and worktree, keep its documents
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch stop ORCH-17 --reason 'wrong approach'")]
pub struct Args {
    /// A task's key, such as ORCH-17
    #[arg(value_name = "TASK")]
    task: String,
    /// The reason, shown on the board and on the card
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let start = Instant::now();
    let mut ctx = open::step_or_dry(call, "stop", Mode::Use, args.dry_run)?;
    if !ctx.config.stop.status_enabled {
        return Err(
            Failure::refused("stop is switched off (stop.status_enabled)").hint("set ORCH_STOP_STATUS_ENABLED=true")
        );
    }
    let task = open::task(&mut ctx, &args.task)?;
    let requested = stop::request(&mut ctx, task.id, args.reason.as_deref(), &process::caller())?;
    if requested == Requested::Terminal {
        ctx.report.hold(Some(task.key.as_str()), Rule::Terminal, format!("{} is {} already", task.key, task.stage));
        return open::finish(call, &mut ctx, start, Exit::Done);
    }
    advance::noted(&mut ctx, task.id);
    outbox::deliver(&mut ctx);
    let after = ctx.task(task.id)?;
    let exit =
        if after.stage.is_terminal() || ctx.dry || after.critical.is_none() { Exit::Done } else { Exit::Refused };
    open::finish(call, &mut ctx, start, exit)
}
