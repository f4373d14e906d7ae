//! `orch report --html`: one self-contained page with charts drawn as inline SVG. No script, nothing loaded.

use super::card::escape;
use crate::model::summary::{Named, Sum, Summary};
use std::fmt::Write as _;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}\
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%;font-size:.9rem}\
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #ddd}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\
svg{width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:#222}svg rect{fill:#3b73b9}svg rect.b{fill:#c9853a}\
.sum{display:flex;gap:2rem;flex-wrap:wrap}.sum b{display:block;font-size:1.3rem}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#16181b}th,td{border-color:#333}svg text{fill:#ddd}}";

/// The page. `head`: what it covers and when it was made, in words.
pub fn html(s: &Summary, head: &str) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>orch report</title><style>{STYLE}</style></head><body>\n<h1>orch report</h1>\n<p>{}</p>\n",
        escape(head)
    );
    out.push_str("<div class=\"sum\">");
    let outcomes: Vec<String> = s.outcomes.iter().map(|(name, n)| format!("{n} {name}")).collect();
    for (value, what) in [
        (dollars(&s.total), "known cost"),
        (span(s.total.duration_s), "at work"),
        (s.total.runs.to_string(), "runs"),
        (s.total.retries.to_string(), "retries"),
        (s.total.failed.to_string(), "failed runs"),
        (s.total.stopped.to_string(), "stopped runs"),
        (s.reworks.to_string(), "reworks"),
        (s.lead_median_s.map_or_else(|| "none".to_owned(), span), "from start to end (median)"),
        (if outcomes.is_empty() { "none".to_owned() } else { outcomes.join(", ") }, "tasks"),
    ] {
        let _ = write!(out, "<div><b>{}</b>{what}</div>", escape(&value));
    }
    out.push_str("</div>\n");
    let cost = |n: &Named| (n.sum.cost_usd, dollars(&n.sum));
    let time = |n: &Named| (n.sum.duration_s, span(n.sum.duration_s));
    bars(&mut out, "Cost by day", &s.days, "", cost);
    bars(&mut out, "Cost by stage", &s.stages, "", cost);
    bars(&mut out, "Time by stage", &s.stages, "b", time);
    bars(&mut out, "Cost by agent", &s.agents, "", cost);
    bars(&mut out, "Cost by model", &s.models, "", cost);
    for (title, rows) in [("Stages", &s.stages), ("Agents", &s.agents), ("Models", &s.models)] {
        table(&mut out, title, rows);
    }
    out.push_str("<h2>Tasks</h2>\n<table><tr><th>task</th><th>title</th><th>outcome</th><th class=\"n\">rounds</th><th class=\"n\">runs</th><th class=\"n\">retries</th><th class=\"n\">cost</th><th class=\"n\">at work</th><th class=\"n\">from start to end</th></tr>\n");
    for t in &s.tasks {
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(&t.key),
            escape(&t.title),
            t.outcome,
            t.attempts,
            t.sum.runs,
            t.sum.retries,
            dollars(&t.sum),
            span(t.sum.duration_s),
            t.lead_s.map(span).unwrap_or_default()
        );
    }
    out.push_str("</table>\n</body></html>\n");
    out
}

/// Known cost, `≥` where a part is unknown.
pub fn dollars(sum: &Sum) -> String {
    format!("{}${:.2}", if sum.unknown_cost > 0 { "≥" } else { "" }, sum.cost_usd)
}

/// Seconds in at most two units.
pub fn span(seconds: f64) -> String {
    let s = seconds.max(0.0) as u64;
    match s {
        0..=59 => format!("{s}s"),
        60..=3599 => format!("{}m {:02}s", s / 60, s % 60),
        3600..=86_399 => format!("{}h {:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d {:02}h", s / 86_400, s / 3600 % 24),
    }
}

/// Horizontal bars, one a row; the longest 60 rows' worth is shown.
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

fn table(out: &mut String, title: &str, rows: &[Named]) {
    if rows.is_empty() {
        return;
    }
    let _ = write!(
        out,
        "<h2>{title}</h2>\n<table><tr><th>name</th><th class=\"n\">runs</th><th class=\"n\">retries</th><th class=\"n\">failed</th><th class=\"n\">stopped</th><th class=\"n\">cost</th><th class=\"n\">time</th><th class=\"n\">tokens in</th><th class=\"n\">tokens out</th></tr>\n"
    );
    for r in rows {
        let s = &r.sum;
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(&r.name),
            s.runs,
            s.retries,
            s.failed,
            s.stopped,
            dollars(s),
            span(s.duration_s),
            s.tokens_in,
            s.tokens_out
        );
    }
    out.push_str("</table>\n");
}
