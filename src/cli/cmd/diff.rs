//! `orch diff` (ORD-5).

use crate::adapters::git::DiffForm;
use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::open;
use crate::engine::show;
use crate::model::text::visible;

/// Show what a task changes, as a diff in which its branch can hide nothing
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch diff ORCH-17\n  orch diff ORCH-17 --stat")]
pub struct Args {
    /// A task's key, such as ORCH-17; ended tasks too
    #[arg(value_name = "TASK")]
    task: String,
    /// Only the changed files, with their counts of lines
    #[arg(long)]
    stat: bool,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let mut ctx = open::view(call, "diff")?;
    let task = open::task(&mut ctx, &args.task)?;
    if call.out.is_json() {
        call.out.document(&show::task(&mut ctx, &task)?);
        return Ok(Exit::Done);
    }
    let form = if args.stat { DiffForm::Stat } else { DiffForm::Patch };
    let Some(change) = show::diff(&ctx, &task, form)? else {
        return Err(Failure::usage(format!("{} has no branch yet", task.key))
            .task(task.key.to_string())
            .hint("its first agent creates it; `orch status` shows where the task is"));
    };
    call.out.page(&visible(&String::from_utf8_lossy(&change)));
    Ok(Exit::Done)
}
