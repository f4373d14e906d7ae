//! `orch explain` (CLI-3).

use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::open;
use crate::decide::advice::quoted;
use crate::engine::explain;
use crate::model::ids::Key;
use crate::render::explain::page;

/// Show why a task waits: the rule that holds it, the evidence it read, and what would unblock it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch explain ORCH-17")]
pub struct Args {
    /// A task's key, or that of a work item without a task
    #[arg(value_name = "TASK")]
    task: String,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let mut ctx = open::view(call, "explain")?;
    let key = Key::parse(&args.task).map_err(|e| Failure::usage(e.to_string()))?;
    let found = match ctx.store.read(|tx| tx.task_by_key(&key))? {
        Some(task) => explain::task(&mut ctx, &task)?,
        None => match explain::item(&mut ctx, &key)? {
            Some(found) => found,
            // Unknown: the error suggests the nearest key.
            None => return open::task(&mut ctx, &args.task).map(|_| Exit::Broken),
        },
    };
    if call.out.is_json() {
        call.out.document(&found);
    } else {
        call.out.raw(&format!(
            "{}{}\n",
            page(&found, &jiff::tz::TimeZone::system()),
            last_line(call, found.command.as_deref())
        ));
    }
    Ok(Exit::Done)
}

/// A command that can be typed now, including the configuration this call was given.
fn last_line(call: &Invocation, command: Option<&str>) -> String {
    let Some(command) = command else { return "nothing to do".to_owned() };
    let Some(rest) = command.strip_prefix("orch ") else { return command.to_owned() };
    let unset = |name: &str| std::env::var_os(name).is_none_or(|v| v.is_empty());
    let option = |name: &str, value: Option<&std::path::PathBuf>, variable: &str| {
        let value = value.filter(|v| !v.as_os_str().is_empty() && unset(variable));
        value.map(|v| format!("{name} {} ", quoted(&v.to_string_lossy()))).unwrap_or_default()
    };
    let config = option("--config", call.global.config.as_ref(), "ORCH_CONFIG");
    let state = option("--state-dir", call.global.state_dir.as_ref(), "ORCH_STATE_DIR");
    format!("orch {config}{state}{rest}")
}
