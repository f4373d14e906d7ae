//! `orch report` as text: the sums, and a table for each way to split them.

use super::board::dollars as amount;
use super::cells::{grouped, table};
use super::report::{dollars, span, sums};
use crate::model::summary::{Named, Summary};
use crate::model::text::clip;

/// The text of `orch report`. `width`: wrap its tables to that many columns.
pub fn text(s: &Summary, width: Option<usize>) -> String {
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
    let rows = rows.iter().map(|r| sums(clip(&r.name, 40), &r.sum));
    table(&[name, "RUNS", "RETRIES", "FAILED", "STOPPED", "COST", "TIME", "TOKENS IN", "TOKENS OUT"], rows, width)
}
