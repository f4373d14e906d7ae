//! `orch report --html`: one self-contained page with charts as inline SVG. It has no script and loads nothing.

use super::board::dollars as amount;
use super::card::escape;
use super::cells::grouped;
use super::page::{self, Kind};
use crate::model::summary::{Named, Sum, Summary};
use std::fmt::Write as _;

/// Tasks listed; `--json` has them all.
const TASKS: usize = 1000;

/// The page. `head`: what it covers and when it was made, in words; `kind`: on its own or part of the site.
pub fn html(s: &Summary, head: &str, kind: Kind) -> String {
    let mut out = format!("<p>{}</p>\n", escape(head));
    out.push_str("<div class=\"sum\">");
    let outcomes: Vec<String> = s.outcomes.iter().map(|(name, n)| format!("{n} {name}")).collect();
    for (value, what) in [
        (dollars(&s.total), "known cost"),
        (span(s.total.duration_s), "at work"),
        (grouped(s.total.runs), "runs"),
        (grouped(s.total.retries), "retries"),
        (grouped(s.total.failed), "failed runs"),
        (grouped(s.total.stopped), "stopped runs"),
        (grouped(s.reworks), "reworks"),
        (s.lead_median_s.map_or_else(|| "none".to_owned(), span), "lead time (median)"),
        (s.cost_per_landed_usd.map_or_else(|| "none".to_owned(), amount), "per landed task"),
        (if outcomes.is_empty() { "none".to_owned() } else { outcomes.join(", ") }, "tasks"),
    ] {
        let _ = write!(out, "<div><b>{}</b>{what}</div>", escape(&value));
    }
    out.push_str("</div>\n");
    let cost = |n: &Named| (n.sum.cost_usd, dollars(&n.sum));
    let time = |n: &Named| (n.sum.duration_s, span(n.sum.duration_s));
    let by = if s.trend.len() < s.days.len() { "Cost by week" } else { "Cost by day" };
    bars(&mut out, by, &s.trend, "", cost);
    bars(&mut out, "Cost by stage", &s.stages, "", cost);
    bars(&mut out, "Time by stage", &s.stages, "b", time);
    bars(&mut out, "Cost by agent", &s.agents, "", cost);
    bars(&mut out, "Cost by model", &s.models, "", cost);
    if !s.waits.is_empty() {
        let rows: Vec<Vec<String>> = s
            .waits
            .iter()
            .map(|w| vec![w.cause.to_owned(), grouped(w.count), span(w.total_s), span(w.longest_s)])
            .collect();
        let waits = page::table("Waits", &["waited for", "times", "total", "longest"], 1, &rows);
        out.push_str(&format!("<h2>Waits</h2>\n{waits}"));
    }
    for (title, rows) in [("Stages", &s.stages), ("Agents", &s.agents), ("Models", &s.models)] {
        table(&mut out, title, rows);
    }
    tasks(&mut out, s, kind);
    page::shell(kind, "orch report", "", &out)
}

fn tasks(out: &mut String, s: &Summary, kind: Kind) {
    let rows: Vec<Vec<String>> = s
        .tasks
        .iter()
        .rev()
        .take(TASKS)
        .map(|t| {
            let key = escape(&t.key);
            let linked = format!("<a href=\"task/{key}.html\">{key}</a>");
            vec![
                if kind == Kind::Alone { key } else { linked },
                escape(&t.title),
                t.outcome.to_owned(),
                grouped(t.reworks),
                grouped(t.sum.runs),
                grouped(t.sum.retries),
                dollars(&t.sum),
                span(t.sum.duration_s),
                t.lead_s.map(span).unwrap_or_default(),
            ]
        })
        .collect();
    let head = ["task", "title", "outcome", "reworks", "runs", "retries", "cost", "at work", "lead time"];
    out.push_str(&format!("<h2>Tasks</h2>\n{}", page::table("Tasks", &head, 3, &rows)));
    if s.tasks.len() > TASKS {
        out.push_str(&format!("<p class=\"soft\">{} older</p>\n", grouped((s.tasks.len() - TASKS) as i64)));
    }
}

/// The known cost, with `≥` where part of it is unknown.
pub fn dollars(sum: &Sum) -> String {
    format!("{}{}", if sum.unknown_cost > 0 { "≥" } else { "" }, amount(sum.cost_usd))
}

/// A duration in at most two units.
pub fn span(seconds: f64) -> String {
    let s = seconds.max(0.0) as u64;
    match s {
        0..=59 => format!("{s} s"),
        60..=3599 => format!("{} min {:02} s", s / 60, s % 60),
        3600..=86_399 => format!("{} h {:02} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {:02} h", s / 86_400, s / 3600 % 24),
    }
}

/// Horizontal bars, one per row, for the 60 longest rows.
fn bars(out: &mut String, title: &str, rows: &[Named], class: &str, of: impl Fn(&Named) -> (f64, String)) {
    let rows = rows.get(rows.len().saturating_sub(60)..).unwrap_or(rows);
    let most = rows.iter().map(|r| of(r).0).fold(0.0_f64, f64::max);
    if most <= 0.0 {
        return;
    }
    let height = rows.len() * 22;
    let _ = write!(out, "<h2>{title}</h2>\n<svg viewBox=\"0 0 800 {height}\" role=\"img\" aria-label=\"{title}\">");
    for (i, row) in rows.iter().enumerate() {
        let (value, told) = of(row);
        let wide = 480.0 * value / most;
        let y = i * 22;
        let name: String = row.name.chars().take(26).collect();
        let _ = write!(
            out,
            "<text x=\"0\" y=\"{}\">{}</text><rect class=\"{class}\" x=\"190\" y=\"{}\" width=\"{wide:.1}\" height=\"14\"/><text x=\"{:.1}\" y=\"{}\">{}</text>",
            y + 15,
            escape(&name),
            y + 4,
            196.0 + wide,
            y + 15,
            escape(&told)
        );
    }
    out.push_str("</svg>\n");
}

/// A row of a table of sums, on the page and on a terminal; `name` is escaped or cut already.
pub(super) fn sums(name: String, s: &Sum) -> Vec<String> {
    let counts = [s.runs, s.retries, s.failed, s.stopped].map(grouped);
    let tokens = [s.tokens_in, s.tokens_out].map(grouped);
    [name].into_iter().chain(counts).chain([dollars(s), span(s.duration_s)]).chain(tokens).collect()
}

fn table(out: &mut String, title: &str, rows: &[Named]) {
    if rows.is_empty() {
        return;
    }
    let rows: Vec<Vec<String>> = rows.iter().map(|r| sums(escape(&r.name), &r.sum)).collect();
    let head = ["name", "runs", "retries", "failed", "stopped", "cost", "time", "tokens in", "tokens out"];
    out.push_str(&format!("<h2>{title}</h2>\n{}", page::table(title, &head, 1, &rows)));
}
