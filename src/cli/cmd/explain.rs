//! `orch explain` (CLI-3).

use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::open;
use crate::cli::output::local;
use crate::decide::advice::quoted;
use crate::engine::explain::{self, Explained};
use crate::model::ids::Key;
use crate::model::inputs::line;
use crate::model::report::Rule;
use crate::model::stage::Stage;
use crate::model::text::clip;
use std::fmt::Write as _;

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
        call.out.raw(&format!("{}{}\n", page(&found), last_line(call, found.command.as_deref())));
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

/// A reason without its reference to this page.
fn here(e: &Explained, why: &str) -> String {
    why.replace(&format!("; `orch explain {}` says how", e.key), "")
}

fn page(e: &Explained) -> String {
    let mut text = String::new();
    let mut say = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    let ended = e.held_by.as_ref().is_some_and(|h| h.rule == Rule::Terminal);
    let place = match (&e.stage, e.attempt) {
        (Some(stage), Some(attempt)) if ended => format!("{stage} after round {attempt}"),
        (Some(stage), Some(attempt)) => format!("in {stage}, round {attempt}"),
        _ => "without a task".to_owned(),
    };
    say(format!("{}  {}  ({place})", e.key, clip(&e.title, 100)));
    match &e.held_by {
        Some(_) if ended => {}
        Some(held) => {
            let until = held.until.as_deref().map(|u| format!(" (until {})", local(u))).unwrap_or_default();
            say(format!("held by {}: {}{until}", held.rule, clip(&here(e, &held.why), 600)));
        }
        None => say(format!("next: {}", clip(&e.next, 600))),
    }
    if !e.inputs.is_empty() {
        say(format!("changes what CI means: {}", line(&e.inputs, 1000)));
    }
    for line in &e.wait {
        say(format!("  {line}"));
    }
    for d in &e.services_down {
        say(format!("unavailable since {}: {}: {}", local(&d.since), d.name, clip(&d.why, 400)));
    }
    for found in &e.base {
        say(format!("  | {}", clip(found, 300)));
    }
    if ended {
        if e.stage.as_deref() == Some(Stage::Cancelled.as_str()) {
            say("to start it again: set another status on the board, then To Analyse".to_owned());
        }
    } else {
        say("what unblocks it:".to_owned());
        e.moves.iter().for_each(|way| say(format!("  {way}")));
    }
    if !e.gates.is_empty() {
        say("gates on leaving the stage:".to_owned());
    }
    for g in &e.gates {
        say(format!("  {:<20} {:<10} {}", g.gate, g.answer, clip(&here(e, &g.why), 300)));
        for row in &g.evidence {
            let stay = if row.present { "" } else { ", of an earlier visit" };
            let commit: String = row.commit.chars().take(10).collect();
            say(format!(
                "    evidence {}: {} on {commit}, round {}{stay}: {}",
                row.id,
                row.verdict,
                row.attempt,
                clip(&row.why, 200)
            ));
        }
    }
    if !e.findings.is_empty() {
        say("to fix:".to_owned());
        for f in &e.findings {
            say(format!("  {}: {}", f.source, clip(&f.text, 300)));
        }
    }
    if e.edited {
        say("edited since it was picked up: setting To Analyse during analysis uses the new text".to_owned());
    }
    if let Some(item) = &e.item {
        say(format!("on the board: {}", item.status.as_deref().map_or_else(|| "-".to_owned(), |s| clip(s, 80))));
        if let Some(note) = &item.note {
            say(format!("  {}", clip(note, 300)));
        }
        for i in &item.intents {
            let why = i.reason.as_deref().map(|r| format!(": {}", clip(r, 200))).unwrap_or_default();
            say(format!("  {} at {}: {}{why}", i.intent, local(&i.seen_at), i.state));
        }
    }
    text
}
