//! `orch logs` (CLI-3): what a run printed, and what it was sent.

use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::{Invocation, open, tail};
use crate::engine::Ctx;
use crate::engine::logs::{self, PROMPT, Wanted};
use crate::model::outcome::RuntimeKind;
use crate::model::stage::Stage;
use crate::model::task::RunState;
use crate::model::time::rfc3339;
use serde_json::json;

/// Show an agent's output, its prompt, or a built-in job's log
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch logs ORCH-17 --stage review\n  orch logs ORCH-17 -f")]
pub struct Args {
    /// A task's key, such as ORCH-17
    #[arg(value_name = "TASK", required_unless_present = "base")]
    task: Option<String>,
    /// The log of the last base check of this repository, or of the project with this key
    #[arg(long, value_name = "REPO", conflicts_with_all = ["task", "stage", "run", "prompt", "follow"])]
    base: Option<String>,
    /// The last run of this stage
    #[arg(long, value_name = "S", value_parser = stage)]
    stage: Option<Stage>,
    /// The run with this number; `orch status --json` and `orch timeline` show the numbers
    #[arg(long, value_name = "N", conflicts_with = "stage")]
    run: Option<i64>,
    /// The prompt that the agent was sent, instead of its output
    #[arg(long)]
    prompt: bool,
    /// Follow the run until it ends
    #[arg(short, long, conflicts_with = "prompt")]
    follow: bool,
}

fn stage(text: &str) -> Result<Stage, String> {
    Stage::parse(text).ok_or_else(|| {
        let all: Vec<&str> = Stage::ALL.iter().map(|s| s.as_str()).collect();
        format!("expected one of {}", all.join(", "))
    })
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let mut ctx = open::view(call, "logs")?;
    if let Some(repo) = &args.base {
        return base(call, &mut ctx, repo);
    }
    let task = open::task(&mut ctx, args.task.as_deref().unwrap_or_default())?;
    let wanted = match (args.run, args.stage) {
        (Some(n), _) => Wanted::Number(n),
        (None, Some(stage)) => Wanted::Of(stage),
        (None, None) if args.prompt => Wanted::LastOfAgent,
        (None, None) => Wanted::Last,
    };
    let runs = ctx.store.read(|tx| tx.runs_of(task.id))?;
    let run = logs::chosen(&runs, &task.key, wanted)
        .map_err(|(what, there)| Failure::usage(what).task(task.key.to_string()).hint(there))?;
    if args.follow && call.out.is_json() {
        return Err(Failure::usage("-f follows a log, but --json is one document").hint("leave one of the two out"));
    }
    let dir = ctx.paths.run(run.id);
    let files = if args.prompt { vec![dir.join(PROMPT)] } else { logs::files(&dir, &run) };
    let silent = !files.iter().any(|f| f.exists());
    // A run that has just begun has no output yet, which is no error.
    let begun = run.state != RunState::Settled && !args.prompt;
    if silent && !begun && !args.follow {
        let what = if args.prompt { "prompt" } else { "log" };
        let why = format!("run {} of {} has no {what} in {}", run.id, task.key, dir.display());
        return Err(Failure::new(Exit::Broken, why).task(task.key.to_string()).hint(
            "its folder may have been pruned, or the run never got that far; `orch timeline` shows what happened",
        ));
    }
    let kind = logs::kind(&ctx, &run);
    if call.out.is_json() {
        call.out.document(&logs::document(&task.key, &run, &files, kind));
        return Ok(Exit::Done);
    }
    if !args.prompt {
        let who = run.agent.map_or_else(|| run.kind.to_string(), |a| a.to_string());
        let end = run.result.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
        call.out.line(format!("# {} run {}, {who} in {}, round {}{end}", task.key, run.id, run.stage, run.attempt));
        if silent && begun && !args.follow {
            call.out.line("# no output yet; -f waits for it");
        }
    }
    if args.follow { tail::follow(call, &mut ctx, &run, kind) } else { tail::print(call, &files, kind) }
}

/// The log of a base check.
fn base(call: &Invocation, ctx: &mut Ctx, asked: &str) -> CmdResult {
    let known: Vec<&str> = ctx.config.projects.iter().map(|p| p.base_name()).collect();
    let known = format!("the bases: {}", known.join(", "));
    let Some(repo) = logs::base_name(&ctx.config, asked) else {
        return Err(Failure::usage(format!("{asked} has one base per project")).hint(known));
    };
    let Some((row, files)) = logs::of_base(ctx, &repo)? else {
        return Err(Failure::usage(format!("the base of {repo} has never been checked")).hint(known));
    };
    if call.out.is_json() {
        call.out.document(&json!({
            "repo": repo, "commit": row.commit, "state": row.state, "why": row.why, "since": rfc3339(row.since),
            "logs": logs::texts(&files, RuntimeKind::Command),
        }));
        return Ok(Exit::Done);
    }
    call.out.line(format!("# base of {repo} at {}: {} {}", row.commit.short(), row.state, row.why));
    tail::print(call, &files, RuntimeKind::Command)
}
