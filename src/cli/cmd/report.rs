//! `orch report` (CLI-3): cost, duration, retries and outcome.

use crate::adapters::files;
use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::open;
use crate::cli::output::{local, table};
use crate::model::summary::{Named, Summary, Summing};
use crate::model::text::clip;
use crate::model::time::{parse_rfc3339, rfc3339};
use crate::render::report::{dollars, html, span};
use anyhow::Context;
use std::path::PathBuf;

/// Cost, duration, retries and outcome by task, stage, agent and model
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch report --since 2026-01-01 --html report.html")]
pub struct Args {
    /// Write one self-contained page with charts
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Only runs that began since then: a date (UTC) or RFC 3339
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
    ctx.store.read(|tx| tx.run_facts(args.since.unwrap_or(0), &mut |f| summing.add(&f, now)))?;
    let told = summing.end();
    if let Some(file) = &args.html {
        let from = args.since.map_or_else(|| "Every run".to_owned(), |s| format!("Runs since {}", local(&rfc3339(s))));
        let page = html(&told, &format!("{from}, as of {}.", local(&rfc3339(now))));
        files::output(file, page.as_bytes(), None)
            .with_context(|| format!("writing {}", file.display()))
            .map_err(Failure::from)?;
    }
    if call.out.is_json() {
        call.out.document(&told);
    } else if let Some(file) = &args.html {
        call.out.line(format!("{} runs of {} tasks in {}", told.total.runs, told.tasks.len(), file.display()));
    } else {
        call.out.raw(&page(&told, call.out.width()));
    }
    Ok(Exit::Done)
}

fn page(s: &Summary, width: Option<u16>) -> String {
    let outcomes: Vec<String> = s.outcomes.iter().map(|(name, n)| format!("{n} {name}")).collect();
    let mut text = format!(
        "{} runs, {} retries, {} failed, {} stopped, {} reworks, {} known cost, {} at work; tasks: {}; start to end (median): {}\n",
        s.total.runs,
        s.total.retries,
        s.total.failed,
        s.total.stopped,
        s.reworks,
        dollars(&s.total),
        span(s.total.duration_s),
        if outcomes.is_empty() { "none".to_owned() } else { outcomes.join(", ") },
        s.lead_median_s.map_or_else(|| "none".to_owned(), span)
    );
    for (name, rows) in [("STAGE", &s.stages), ("AGENT", &s.agents), ("MODEL", &s.models)] {
        if !rows.is_empty() {
            text.push_str(&format!("\n{}\n", named(name, rows, width)));
        }
    }
    if !s.tasks.is_empty() {
        let rows = s.tasks.iter().map(|t| {
            vec![
                t.key.clone(),
                t.outcome.to_owned(),
                t.attempts.to_string(),
                t.sum.runs.to_string(),
                t.sum.retries.to_string(),
                dollars(&t.sum),
                span(t.sum.duration_s),
                t.lead_s.map(span).unwrap_or_default(),
                clip(&t.title, 48),
            ]
        });
        let head = ["TASK", "OUTCOME", "ROUNDS", "RUNS", "RETRIES", "COST", "AT WORK", "START TO END", "TITLE"];
        text.push_str(&format!("\n{}\n", table(&head, rows, width)));
    }
    text
}

fn named(name: &str, rows: &[Named], width: Option<u16>) -> String {
    let rows = rows.iter().map(|r| {
        let s = &r.sum;
        vec![
            clip(&r.name, 40),
            s.runs.to_string(),
            s.retries.to_string(),
            s.failed.to_string(),
            s.stopped.to_string(),
            dollars(s),
            span(s.duration_s),
            s.tokens_in.to_string(),
            s.tokens_out.to_string(),
        ]
    });
    table(&[name, "RUNS", "RETRIES", "FAILED", "STOPPED", "COST", "TIME", "TOKENS IN", "TOKENS OUT"], rows, width)
}
