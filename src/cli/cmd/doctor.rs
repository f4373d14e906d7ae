//! `orch doctor` (CLI-4).

use crate::cli::Invocation;
use crate::cli::doctor::{self, Chart, Level, bundle, fix};
use crate::cli::exit::{CmdResult, Exit};
use serde_json::json;
use std::path::PathBuf;

/// Check every tool, credential, remote, board and permission, and say how to fix what is wrong
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  orch doctor --bundle support.txt\n\nExit 3 when a check failed; warnings alone exit 0."
)]
pub struct Args {
    /// Also write a redacted support bundle, a text file
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// First repair what needs no decision (gitleaks, permissions, lingering); print each repair
    #[arg(long)]
    fix: bool,
    /// Do not run setup and CI on the default branches
    #[arg(long)]
    quick: bool,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let loud = !call.out.is_json();
    let fixed = match args.fix {
        true => fix::all(&call.config()?, &|act| {
            if loud {
                call.out.line(match &act.failed {
                    None => format!("fixed  {}", act.message),
                    Some(why) => format!("not fixed  {}: {why}", act.message),
                });
            }
        }),
        false => Vec::new(),
    };
    let say = |what: &str| {
        if loud {
            call.out.line(what);
        }
    };
    let (config, chart) = doctor::examine(call, args.quick, &say)?;
    if let Some(path) = &args.bundle {
        bundle::write(path, &config, &chart)?;
    }
    let count = |level: Level| chart.checks.iter().filter(|c| c.level == level).count();
    let exit = if chart.is_broken() { Exit::Broken } else { Exit::Done };
    if call.out.is_json() {
        let errors: Vec<_> = chart
            .checks
            .iter()
            .filter(|c| c.level == Level::Failed)
            .map(|c| json!({"code": 3, "message": format!("{} {}: {}", c.area, c.name, c.message), "hint": c.fix, "task": null}))
            .collect();
        call.out.document(
            &json!({"ok": errors.is_empty(), "checks": chart.checks, "fixed": fixed, "bundle": args.bundle, "errors": errors}),
        );
        return Ok(exit);
    }
    for area in areas(&chart) {
        call.out.line(area);
        for check in chart.checks.iter().filter(|c| c.area == area) {
            call.out.line(format!("  {} {:<16} {}", check.level.sign(), check.name, check.message));
            if !check.fix.is_empty() {
                call.out.line(format!("  {:24} -> {}", "", check.fix));
            }
        }
    }
    let (ok, warnings, failed) = (count(Level::Ok), count(Level::Warning), count(Level::Failed));
    let plural = if warnings == 1 { "" } else { "s" };
    call.out.line(format!("{ok} ok, {warnings} warning{plural}, {failed} failed"));
    if let Some(path) = &args.bundle {
        call.out.line(format!("wrote {}; check it before you send it", path.display()));
    }
    Ok(exit)
}

/// Each area once, in order of appearance.
fn areas(chart: &Chart) -> Vec<&str> {
    let mut all: Vec<&str> = Vec::new();
    for check in &chart.checks {
        if !all.contains(&check.area.as_str()) {
            all.push(&check.area);
        }
    }
    all
}
