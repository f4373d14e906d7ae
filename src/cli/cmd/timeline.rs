//! `orch timeline` (CLI-3): reads the audit table.

use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit};
use crate::cli::open;
use crate::cli::output::local;
use crate::model::time::rfc3339;
use crate::render::story::render_event;
use serde_json::{Map, Value, json};

/// Show the story of a task: every event in order, from the audit table
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch timeline ORCH-17 --json | jq -r '.events[].event'")]
pub struct Args {
    /// A task's key, such as ORCH-17
    #[arg(value_name = "TASK")]
    task: String,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let mut ctx = open::view(call, "timeline")?;
    let task = open::task(&mut ctx, &args.task)?;
    let events = ctx.store.read(|tx| tx.timeline(task.id))?;
    let detail = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
    if call.out.is_json() {
        let rows: Vec<Value> = events
            .iter()
            .map(|e| json!({"seq": e.seq, "at": rfc3339(e.at), "event": e.event, "detail": detail(&e.detail)}))
            .collect();
        call.out.document(&json!({"task": task.key, "id": task.id, "events": rows}));
        return Ok(Exit::Done);
    }
    for e in &events {
        let entry = render_event(&e.event, &detail(&e.detail));
        call.out.line(format!("{}  {}", local(&rfc3339(e.at)), entry.line));
        entry.under.iter().for_each(|finding| call.out.line(format!("    {finding}")));
        if call.out.is_closed() {
            break;
        }
    }
    Ok(Exit::Done)
}
