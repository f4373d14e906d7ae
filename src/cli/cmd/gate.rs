//! `orch gate` (CLI-3).

use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit};
use crate::cli::open;
use crate::engine::replay;
use crate::model::gate::Gate;
use crate::model::text::clip;
use serde_json::json;

/// Re-evaluate past gates and watches from their stored evidence
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch gate replay ORCH-17 --gate security_gate")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Judge every row of evidence again; exit 1 if a decision contradicts its record
    #[command(after_help = "Example:\n  orch gate replay ORCH-17 --json")]
    Replay {
        /// A task's key, such as ORCH-17
        #[arg(value_name = "TASK")]
        task: String,
        /// Only this gate; `post_deploy_watch` means the watch
        #[arg(long, value_name = "NAME", value_parser = gate)]
        gate: Option<String>,
    },
}

fn gate(text: &str) -> Result<String, String> {
    if text == replay::WATCH || Gate::parse(text).is_some() {
        return Ok(text.to_owned());
    }
    let all: Vec<&str> = Gate::ALL.iter().map(|g| g.as_str()).chain([replay::WATCH]).collect();
    Err(format!("expected one of {}", all.join(", ")))
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let What::Replay { task, gate } = &args.what;
    let mut ctx = open::view(call, "gate-replay")?;
    let task = open::task(&mut ctx, task)?;
    let rows = replay::task(&mut ctx, &task, gate.as_deref())?;
    if call.out.is_json() {
        call.out.document(&json!({"task": task.key, "replayed": rows, "errors": []}));
    } else if rows.is_empty() {
        call.out.line(format!("{} has no stored evidence of that", task.key));
    }
    for r in &rows {
        let commit: String = r.commit.as_deref().unwrap_or("-").chars().take(10).collect();
        let sign = if r.agrees { "" } else { "   CONTRADICTS ITS RECORD" };
        call.out.line(format!(
            "{:<19} round {} {commit:<10} recorded {:<10} decided {:<10} {}{sign}",
            r.gate,
            r.attempt,
            r.recorded,
            r.answer,
            clip(&r.why, 160)
        ));
    }
    Ok(if rows.iter().all(|r| r.agrees) { Exit::Done } else { Exit::Negative })
}
