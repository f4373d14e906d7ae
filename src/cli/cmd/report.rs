//! `orch report` (CLI-3): cost, duration, retries and outcome.

use crate::adapters::files;
use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::open;
use crate::cli::output::local;
use crate::model::summary::Summing;
use crate::model::time::{parse_rfc3339, rfc3339};
use crate::render::cells::counted;
use crate::render::page::Kind;
use crate::render::report::html;
use crate::render::summary::text;
use anyhow::Context;
use std::path::PathBuf;

/// Report cost, lead time, reworks, waits and outcomes by task, stage, agent and model
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch report --since 2026-01-01 --html report.html")]
pub struct Args {
    /// Write a self-contained HTML page with charts
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Only runs that began since this date (UTC) or RFC 3339 time
    #[arg(long, value_name = "DATE", value_parser = since)]
    since: Option<i64>,
}

fn since(text: &str) -> Result<i64, String> {
    parse_rfc3339(text)
        .or_else(|| parse_rfc3339(&format!("{}T00:00:00Z", text.trim())))
        .ok_or_else(|| "expected a date such as 2026-01-31, or RFC 3339".to_owned())
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let mut ctx = open::view(call, "report")?;
    let now = ctx.now().stamp.wall_ms;
    let mut summing = Summing::default();
    ctx.store.read(|tx| {
        tx.run_facts(args.since.unwrap_or(0), &mut |f| summing.add(&f, now))?;
        tx.waits(args.since.unwrap_or(0), now, &mut |cause, ms| summing.waited(cause, ms))
    })?;
    let sums = summing.end();
    if let Some(file) = &args.html {
        let from = args.since.map_or_else(|| "Every run".to_owned(), |s| format!("Runs since {}", local(&rfc3339(s))));
        let page = html(&sums, &format!("{from}, as of {}.", local(&rfc3339(now))), Kind::Alone);
        files::output(file, page.as_bytes(), None)
            .with_context(|| format!("writing {}", file.display()))
            .map_err(Failure::from)?;
    }
    if call.out.is_json() {
        call.out.document(&sums);
    } else if let Some(file) = &args.html {
        let (runs, tasks) = (counted(sums.total.runs, "run"), counted(sums.tasks.len() as u64, "task"));
        call.out.line(format!("{runs} of {tasks} in {}", file.display()));
    } else {
        call.out.raw(&text(&sums, call.out.columns()));
    }
    Ok(Exit::Done)
}
