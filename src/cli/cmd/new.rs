//! `orch new` (CLI-4): a work item on the local board.

use crate::adapters::board::NewItem;
use crate::adapters::store::Mode;
use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::init::find;
use crate::cli::open;
use crate::cli::open::project;
use crate::engine::boards;
use crate::model::board::{Group, Logical, Priority, fold};
use crate::model::ids::Key;
use serde_json::json;
use std::path::PathBuf;

/// Write a work item to the local board, in To Analyse
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch new 'Greet people by name' --body item.md --priority high")]
pub struct Args {
    /// The title, one line; the branch is named after it
    #[arg(value_name = "TITLE")]
    title: String,
    /// The file with its text; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// A label; can be repeated
    #[arg(long, value_name = "L")]
    label: Vec<String>,
    /// Priority: urgent, high, medium, low or none
    #[arg(long, value_name = "P", default_value = "none", value_parser = ["urgent", "high", "medium", "low", "none"], hide_possible_values = true)]
    priority: String,
    /// A work item that must be done first; can be repeated
    #[arg(long, value_name = "KEY")]
    blocked_by: Vec<String>,
    /// The project; default: that of the working folder
    #[arg(long, value_name = "KEY")]
    project: Option<String>,
    /// Write it to Backlog, so that nothing starts it yet
    #[arg(long)]
    draft: bool,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    if args.title.trim().is_empty() {
        return Err(Failure::usage("the title is empty").hint("orch new 'Greet people by name'"));
    }
    let blocked_by = args
        .blocked_by
        .iter()
        .map(|k| Key::parse(k))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| Failure::usage(e.to_string()))?;
    let body = match &args.body {
        None => String::new(),
        Some(path) if path.as_os_str() == "-" => {
            std::io::read_to_string(std::io::stdin()).map_err(|e| Failure::usage(format!("standard input: {e}")))?
        }
        Some(path) => std::fs::read_to_string(path).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?,
    };
    let mut ctx = open::step(call, "new", Mode::Use)?;
    let chosen = match &args.project {
        Some(named) => project(&ctx, Some(named))?,
        None => find::project_here(&ctx.config),
    };
    let local: Vec<_> = ctx
        .config
        .projects
        .iter()
        .filter(|p| !p.board.is_remote() && chosen.as_ref().is_none_or(|c| *c == p.key))
        .cloned()
        .collect();
    let project = match local.as_slice() {
        [one] => one.clone(),
        [] => {
            return Err(Failure::usage("no such project has a local board")
                .hint("on a server's board, create the work item there"));
        }
        several => {
            let keys: Vec<&str> = several.iter().map(|p| p.key.as_str()).collect();
            return Err(Failure::usage("there are several projects")
                .hint(format!("name one with --project: {}", keys.join(", "))));
        }
    };
    let seat = boards::seat(&mut ctx, &project)?;
    let status = if args.draft {
        seat.resolved.statuses().iter().find(|s| fold(&s.name) == "backlog" || s.group == Some(Group::Backlog)).cloned()
    } else {
        seat.resolved.status_for(Logical::ToAnalyse).cloned()
    };
    let status = status.ok_or_else(|| Failure::usage("the board has no such status"))?;
    let new = NewItem {
        title: args.title.trim(),
        body: &body,
        labels: &args.label,
        priority: Priority::parse(&args.priority).unwrap_or(Priority::None),
        blocked_by: &blocked_by,
        status: &status,
        marker: None,
        now_ms: ctx.now().stamp.wall_ms,
    };
    let key = seat.board.create(&new).map_err(|e| Failure::new(Exit::Broken, e.to_string()))?;
    if call.out.is_json() {
        call.out.document(&json!({"key": key}));
    } else {
        call.out.line(format!("{key}  {}", args.title.trim()));
        if let Some(file) = project.board.file(&key) {
            call.out.line(format!("written to {}", file.display()));
        }
        if !args.draft {
            call.out.line("the next `orch tick` picks it up");
        }
    }
    Ok(Exit::Done)
}
