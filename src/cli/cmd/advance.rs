//! `orch advance` (CLI-2): the exit gate of one task, or of all.

use crate::adapters::process;
use crate::adapters::store::Mode;
use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::open;
use crate::engine::{Ctx, advance, by_hand, chat, deploy, intents, outbox, tick};
use crate::model::decision::Decision;
use crate::model::report::{ActionKind, Held, Rule};
use crate::model::task::{Task, Waiting};
use crate::model::time::rfc3339;
use std::time::{Duration, Instant};

/// Evaluate the exit gate of one task or of all, and advance those that pass
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch advance ORCH-17 --approve")]
pub struct Args {
    /// A task's key; default: all tasks
    #[arg(value_name = "TASK", required_if_eq_any([("approve", "true"), ("confirm_deploy", "true")]))]
    task: Option<String>,
    /// Approve the analysis
    #[arg(long, conflicts_with_all = ["confirm_deploy", "reject"])]
    approve: bool,
    /// Confirm the deploy, and start it before returning
    #[arg(long, conflicts_with = "reject")]
    confirm_deploy: bool,
    /// Send the task back for this reason
    #[arg(long, value_name = "TEXT", requires = "task", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reject: Option<String>,
    /// Print what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let start = Instant::now();
    let mut ctx = open::step_or_dry(call, "advance", Mode::Use, args.dry_run)?;
    let Some(name) = &args.task else {
        advance::idle_tasks(&mut ctx, None)?;
        chat::answers(&mut ctx, chat::When::Asked);
        outbox::deliver(&mut ctx);
        return open::finish(call, &mut ctx, start, Exit::Done);
    };
    let task = open::task(&mut ctx, name)?;
    if args.approve {
        release(&mut ctx, &task, Waiting::Approval)?;
    }
    if args.confirm_deploy {
        release(&mut ctx, &task, Waiting::ConfirmDeploy)?;
    }
    if let Some(text) = &args.reject
        && !by_hand::reject(&mut ctx, task.id, text, &process::caller())?
    {
        let why = format!("{} can't be rejected in {}", task.key, task.stage);
        return Err(Failure::refused(why)
            .task(task.key.to_string())
            .hint("a task can be rejected in the stages from analysis to deploy, unless its deploy is running"));
    }
    let decision = advance::task(&mut ctx, task.id)?;
    if args.confirm_deploy || args.approve || args.reject.is_some() {
        // So that nothing waits for a timer: what the person released starts at once.
        tick::dispatch_jobs(&mut ctx, None, None)?;
    }
    if args.confirm_deploy && !ctx.dry {
        deploy::await_started(&mut ctx, task.id, Duration::from_secs(30))?;
    }
    chat::answers(&mut ctx, chat::When::Asked);
    outbox::deliver(&mut ctx);
    let exit = judge(&mut ctx, &task)?;
    // A job that was queued at the decision may have been started since.
    let key = task.key.to_string();
    let started =
        ctx.report.actions.iter().any(|a| a.kind == ActionKind::JobStarted && a.task.as_deref() == Some(&key));
    if let Decision::Hold { rule, why, until } = decision
        && !(started && rule == Rule::Queued)
    {
        ctx.report.skipped.push(Held { task: Some(task.key.to_string()), rule, why, until: until.map(rfc3339) });
    }
    open::finish(call, &mut ctx, start, exit)
}

/// Refuses a release at the wrong stage, or of a task that does not wait for it, without any effect.
fn release(ctx: &mut Ctx, task: &Task, waiting: Waiting) -> Result<(), Failure> {
    let Some(why) = intents::release_by_command(ctx, task.id, waiting, &process::caller())? else { return Ok(()) };
    Err(Failure::refused(format!("{} {why}", task.key))
        .task(task.key.to_string())
        .hint(format!("`orch explain {}` says what it waits for", task.key)))
}

/// Moved, released or ended: 0. A named task whose gate does not pass (yet): 1.
fn judge(ctx: &mut Ctx, before: &Task) -> Result<Exit, Failure> {
    let after = ctx.task(before.id)?;
    if after.stage != before.stage || after.attempt != before.attempt || after.stage.is_terminal() || ctx.report.changed
    {
        return Ok(Exit::Done);
    }
    Ok(Exit::Negative)
}
