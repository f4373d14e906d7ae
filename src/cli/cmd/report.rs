//! `orch report` (CLI-3): cost, duration, retries and outcome.

use crate::adapters::files;
use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::open;
use crate::cli::output::{local, table};
use crate::model::summary::{Named, Summary, Summing};
use crate::model::text::clip;
use crate::model::time::{parse_rfc3339, rfc3339};
use crate::render::board::dollars as amount;
use crate::render::cells::{counted, grouped};
use crate::render::page::Kind;
use crate::render::report::{dollars, html, span};
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
        call.out.raw(&page(&sums, call.out.columns()));
    }
    Ok(Exit::Done)
}

fn page(s: &Summary, width: Option<usize>) -> String {
    let outcomes: Vec<String> = s.outcomes.iter().map(|(name, n)| format!("{} {name}", grouped(*n))).collect();
    let t = &s.total;
    let per_landed = s.cost_per_landed_usd.map(|c| format!(", {} per landed task", amount(c))).unwrap_or_default();
    let mut text = String::new();
    for (name, value) in [
        ("tasks", if outcomes.is_empty() { "none".to_owned() } else { outcomes.join(", ") }),
        (
            "runs",
            format!(
                "{} ({} failed, {} stopped, {} retried)",
                grouped(t.runs),
                grouped(t.failed),
                grouped(t.stopped),
                grouped(t.retries)
            ),
        ),
        ("reworks", grouped(s.reworks)),
        (
            "lead time",
            s.lead_median_s
                .map_or_else(|| "none".to_owned(), |l| format!("{} (median, from created to done)", span(l))),
        ),
        ("known cost", format!("{}{per_landed}", dollars(t))),
        ("at work", span(t.duration_s)),
    ] {
        text.push_str(&format!("{name:<11} {value}\n"));
    }
    if !s.waits.is_empty() {
        let rows = s.waits.iter().map(|w| {
            let mean = w.total_s / w.count.max(1) as f64;
            vec![w.cause.to_owned(), grouped(w.count), span(w.total_s), span(mean), span(w.longest_s)]
        });
        text.push_str(&format!("\n{}\n", table(&["WAITED FOR", "TIMES", "TOTAL", "MEAN", "LONGEST"], rows, width)));
    }
    let by = if s.trend.len() < s.days.len() { "WEEK OF" } else { "DAY" };
    for (name, rows) in [(by, &s.trend), ("STAGE", &s.stages), ("AGENT", &s.agents), ("MODEL", &s.models)] {
        if !rows.is_empty() {
            text.push_str(&format!("\n{}\n", named(name, rows, width)));
        }
    }
    if !s.tasks.is_empty() {
        text.push_str(&format!("\n{}\n", tasks(s, width)));
    }
    text
}

fn tasks(s: &Summary, width: Option<usize>) -> String {
    let rows = s.tasks.iter().map(|t| {
        vec![
            t.key.clone(),
            t.outcome.to_owned(),
            t.reworks.to_string(),
            t.sum.runs.to_string(),
            t.sum.retries.to_string(),
            dollars(&t.sum),
            span(t.sum.duration_s),
            t.lead_s.map(span).unwrap_or_default(),
            clip(&t.title, 48),
        ]
    });
    table(&["TASK", "OUTCOME", "REWORKS", "RUNS", "RETRIES", "COST", "AT WORK", "LEAD TIME", "TITLE"], rows, width)
}

fn named(name: &str, rows: &[Named], width: Option<usize>) -> String {
    let rows = rows.iter().map(|r| {
        let s = &r.sum;
        vec![
            clip(&r.name, 40),
            grouped(s.runs),
            grouped(s.retries),
            grouped(s.failed),
            grouped(s.stopped),
            dollars(s),
            span(s.duration_s),
            grouped(s.tokens_in),
            grouped(s.tokens_out),
        ]
    });
    table(&[name, "RUNS", "RETRIES", "FAILED", "STOPPED", "COST", "TIME", "TOKENS IN", "TOKENS OUT"], rows, width)
}
