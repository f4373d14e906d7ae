//! The support bundle: one text file with what a helper needs, and without secrets. Texts of work items, prompts and
//! agents' output are not in it.

use super::Chart;
use crate::adapters::git::cmd::scrub;
use crate::adapters::store::{Mode, Store};
use crate::cli::exit::Failure;
use crate::config::Config;
use crate::model::redact;
use crate::model::time::rfc3339;
use serde_json::json;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Events listed per open task.
const EVENTS: usize = 40;

/// Writes it; an existing file is not overwritten.
pub fn write(path: &Path, config: &Config, chart: &Chart) -> Result<(), Failure> {
    for (_, from) in config.secrets() {
        // Reading it makes it known to the redactor; one that can't be read can't appear anywhere.
        let _ = from.resolve();
    }
    let text = scrub(&redact::current().text(&text(config, chart)));
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let done = file.and_then(|mut f| f.write_all(text.as_bytes()));
    done.map_err(|e| {
        Failure::usage(format!("the bundle {} can't be written: {e}", path.display())).hint("name a new file")
    })
}

fn text(config: &Config, chart: &Chart) -> String {
    let mut out = format!("orch {} support bundle, without secrets\n", env!("CARGO_PKG_VERSION"));
    let mut part = |title: &str, body: &str| {
        let _ = write!(out, "\n== {title}\n{}\n", body.trim_end());
    };
    let uname = rustix::system::uname();
    let shown = |c: &std::ffi::CStr| c.to_string_lossy().into_owned();
    part("machine", &format!("{} {} {}", shown(uname.sysname()), shown(uname.release()), shown(uname.machine())));
    let lines = |c: &super::Check| {
        format!("{} {} {}: {} {}", c.level.sign(), c.area, c.name, c.message, c.fix).trim_end().to_owned()
    };
    part("doctor", &chart.checks.iter().map(lines).collect::<Vec<_>>().join("\n"));
    let settings: Vec<String> =
        config.shown().into_iter().map(|s| format!("{} = {} ({})", s.path, s.value, s.source)).collect();
    part("settings", &settings.join("\n"));
    match record(config) {
        Ok(text) => part("record", &text),
        Err(e) => part("record", &format!("can't be read: {e:#}")),
    }
    out
}

/// Where each open task is, and how it got there.
fn record(config: &Config) -> anyhow::Result<String> {
    let path = config.state_dir.join("orch.db");
    if !path.exists() {
        return Ok("no database yet".to_owned());
    }
    let mut store = Store::open(&path, Mode::ReadOnly)?;
    let mut out = String::new();
    for (status, n) in store.read(|tx| tx.queue_counts())? {
        let _ = writeln!(out, "jobs {status}: {n}");
    }
    for task in store.read(|tx| tx.open_tasks())? {
        let state = json!({
            "stage": task.stage, "attempt": task.attempt, "waiting_for": task.waiting_for, "critical": task.critical,
            "blocked": task.blocked_reason, "head": task.head_sha, "pr": task.pr.as_ref().map(|p| p.number),
        });
        let _ = writeln!(out, "\n{} {state}", task.key);
        let events = store.read(|tx| tx.timeline(task.id))?;
        for e in events.iter().skip(events.len().saturating_sub(EVENTS)) {
            // Findings and texts of work items are the project's own business.
            let detail: serde_json::Value = serde_json::from_str(&e.detail).unwrap_or_default();
            let why = detail["why"].as_str().unwrap_or_default();
            let _ = writeln!(out, "  {} {} {}", rfc3339(e.at), e.event, why.lines().next().unwrap_or_default());
        }
    }
    Ok(out)
}
