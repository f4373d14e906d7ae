//! `orch retry` (CLI-4).

use crate::adapters::process;
use crate::adapters::store::Mode;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::{Invocation, open};
use crate::engine::by_hand::{self, Retried};
use crate::engine::{advance, outbox, reap, tick};
use crate::model::report::Rule;
use crate::model::stage::Stage;
use std::time::Instant;

/// Unblock a task with a fresh attempt budget, and retry at once what waits or was refused
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  orch retry ORCH-17\n  orch retry ORCH-17 --from review")]
pub struct Args {
    /// A task's key, such as ORCH-17
    #[arg(value_name = "TASK")]
    task: String,
    /// Run a red CI again on the same head, without starting an agent
    #[arg(long, conflicts_with = "on_red_base")]
    ci: bool,
    /// Start the agent of this stage again
    #[arg(long, value_name = "STAGE", value_parser = stage, conflicts_with_all = ["ci", "on_red_base"])]
    from: Option<Stage>,
    /// Start the task although its repository's base is red, because it fixes the base
    #[arg(long)]
    on_red_base: bool,
}

fn stage(text: &str) -> Result<Stage, String> {
    let agents = || Stage::ALL.iter().filter(|s| s.agent().is_some());
    Stage::parse(text).filter(|s| s.agent().is_some()).ok_or_else(|| {
        let names: Vec<&str> = agents().map(|s| s.as_str()).collect();
        format!("no stage with an agent; one of {}", names.join(", "))
    })
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let start = Instant::now();
    let mut ctx = open::step(call, "retry", Mode::Use)?;
    let task = open::task(&mut ctx, &args.task)?;
    let by = process::caller();
    let mut begun = args.on_red_base && by_hand::allow_red_base(&mut ctx, task.id, &by)?;
    let retried = match args.from {
        Some(stage) => by_hand::retry_from(&mut ctx, task.id, stage, &by)?,
        None => by_hand::retry(&mut ctx, task.id, args.ci, &by)?,
    };
    // Also finishes at once what a run left and was deferred.
    reap::resume(&mut ctx)?;
    match retried {
        Retried::Refused(why) => {
            return Err(Failure::refused(why).hint(format!("orch explain {} says what unblocks it", task.key)));
        }
        Retried::Begun => begun = true,
        Retried::Nothing => {}
    }
    if task.stage.is_terminal() {
        let why = format!("{} is {}: there is nothing to retry", task.key, task.stage);
        ctx.report.hold(Some(task.key.as_str()), Rule::Terminal, why);
    } else if begun {
        advance::noted(&mut ctx, task.id);
        tick::dispatch_jobs(&mut ctx, None, None)?;
        outbox::deliver(&mut ctx);
    } else {
        // Nothing of it waits for a person; the output says what holds it.
        tick::dispatch_jobs(&mut ctx, None, None)?;
        advance::noted(&mut ctx, task.id);
        outbox::deliver(&mut ctx);
    }
    open::finish(call, &mut ctx, start, Exit::Done)
}
