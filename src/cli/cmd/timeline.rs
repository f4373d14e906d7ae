//! `orch timeline` (CLI-3): a reading of the audit table.

use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit};
use crate::cli::open;
use crate::cli::output::{local, plain};
use crate::model::text::clip;
use crate::model::time::rfc3339;
use serde_json::{Map, Value, json};

/// Every event of a task, in order, from the audit table
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
        let said: Vec<String> = detail(&e.detail)
            .iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(k, v)| format!("{k}={}", clip(&plain(v), 240)))
            .collect();
        call.out.line(format!("{}  {:<18} {}", local(&rfc3339(e.at)), e.event, said.join("  ")).trim_end());
        if call.out.is_closed() {
            break;
        }
    }
    Ok(Exit::Done)
}
