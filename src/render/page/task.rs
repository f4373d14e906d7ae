//! One task as a page (DSK-2): what it waits for, its story, verdicts with evidence, findings, costs, documents.

use super::markdown;
use super::{Kind, link, shell, table};
use crate::model::finding::Finding;
use crate::model::text::clip;
use crate::render::board::dollars;
use crate::render::card::escape;
use crate::render::cells::grouped;
use crate::render::report::span;
use crate::render::story::StoryEntry;

/// Events shown; of a longer story, the newest ones.
const EVENTS: usize = 1000;

/// What the page shows. Whoever gathers it has removed secrets, machine paths and raw logs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskPage {
    pub key: String,
    pub title: String,
    pub stage: String,
    /// One sentence: what the task does or waits for.
    pub state: String,
    pub branch: Option<String>,
    pub pull_request: Option<String>,
    pub item: Option<String>,
    pub cost: String,
    /// Local time and event, oldest first.
    pub story: Vec<(String, StoryEntry)>,
    /// Oldest first.
    pub verdicts: Vec<Verdict>,
    /// What is to be fixed now; empty where documents are left out.
    pub findings: Vec<Finding>,
    pub runs: Vec<RunRow>,
    /// Name and text; empty where they are left out.
    pub documents: Vec<(String, String)>,
}

/// A gate's verdict on a commit, and its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub gate: String,
    pub verdict: String,
    /// Ten characters of the commit that was judged.
    pub commit: String,
    pub round: i64,
    pub why: String,
}

/// A run and its cost.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    pub run: i64,
    pub who: String,
    pub stage: String,
    pub round: i64,
    pub model: String,
    pub result: String,
    pub started: String,
    pub took_s: Option<f64>,
    pub cost_usd: Option<f64>,
    pub tokens: Option<(i64, i64)>,
}

pub fn page(t: &TaskPage, foot: &str) -> String {
    let mut body = format!(
        "<article data-key=\"{}\"><p><strong>{}</strong>{}</p>\n<p class=\"soft\">{}</p>{}</article>\n",
        escape(&t.key),
        escape(&t.stage),
        if t.state.is_empty() { String::new() } else { format!(" · {}", escape(&t.state)) },
        escape(&format!("known cost {}", t.cost)),
        links(t)
    );
    if !t.findings.is_empty() {
        let items: String = t
            .findings
            .iter()
            .map(|f| format!("<li>{}: {}</li>", escape(f.source.as_str()), escape(&clip(&f.text, 400))))
            .collect();
        body.push_str(&format!("<section><h2>To fix</h2><ul>{items}</ul></section>\n"));
    }
    if !t.verdicts.is_empty() {
        body.push_str(&format!("<section><h2>Verdicts</h2>\n{}</section>\n", verdicts(t)));
    }
    if !t.runs.is_empty() {
        body.push_str(&format!("<section><h2>Runs and costs</h2>\n{}</section>\n", runs(t)));
    }
    if !t.documents.is_empty() {
        body.push_str("<section><h2>Documents</h2>\n");
        for (name, text) in &t.documents {
            body.push_str(&format!(
                "<details><summary>{}</summary>\n{}</details>\n",
                escape(name),
                markdown::html(text)
            ));
        }
        body.push_str("</section>\n");
    }
    body.push_str(&format!("<section><h2>Story</h2>\n{}</section>\n", story(t)));
    shell(Kind::Task, &format!("{} {}", t.key, clip(&t.title, 200)), foot, &body)
}

fn links(t: &TaskPage) -> String {
    let mut parts = Vec::new();
    parts.extend(t.pull_request.as_deref().map(|url| link(url, "pull request")));
    parts.extend(t.item.as_deref().map(|url| link(url, "work item")));
    parts.extend(t.branch.as_deref().map(|b| format!("branch <code>{}</code>", escape(b))));
    if parts.is_empty() { String::new() } else { format!("<p>{}</p>", parts.join(" · ")) }
}

fn verdicts(t: &TaskPage) -> String {
    let rows: Vec<Vec<String>> = t
        .verdicts
        .iter()
        .map(|v| {
            vec![
                escape(&v.gate),
                escape(&v.verdict),
                format!("<code>{}</code>", escape(&v.commit)),
                v.round.to_string(),
                escape(&clip(&v.why, 400)),
            ]
        })
        .collect();
    table("Verdicts", &["gate", "verdict", "commit", "round", "why"], 5, &rows)
}

fn runs(t: &TaskPage) -> String {
    let rows: Vec<Vec<String>> = t
        .runs
        .iter()
        .map(|r| {
            let (tokens_in, tokens_out) = r.tokens.map_or_else(Default::default, |(i, o)| (grouped(i), grouped(o)));
            vec![
                r.run.to_string(),
                escape(&r.who),
                escape(&r.stage),
                escape(&r.started),
                escape(&clip(&r.result, 120)),
                escape(&r.model),
                r.round.to_string(),
                r.took_s.map(span).unwrap_or_default(),
                r.cost_usd.map(dollars).unwrap_or_default(),
                tokens_in,
                tokens_out,
            ]
        })
        .collect();
    let head =
        ["run", "who", "stage", "started", "result", "model", "round", "took", "cost", "tokens in", "tokens out"];
    table("Runs", &head, 6, &rows)
}

fn story(t: &TaskPage) -> String {
    let skipped = t.story.len().saturating_sub(EVENTS);
    let mut out = String::new();
    if skipped > 0 {
        out.push_str(&format!(
            "<p class=\"soft\">{} older events; <code>orch timeline</code> has them</p>\n",
            grouped(skipped as i64)
        ));
    }
    out.push_str("<ol class=\"story\">\n");
    for (at, entry) in t.story.iter().skip(skipped) {
        let under: String = entry.under.iter().map(|f| format!("<li>{}</li>", escape(f))).collect();
        let under = if under.is_empty() { under } else { format!("<ul>{under}</ul>") };
        out.push_str(&format!("<li><span class=\"soft\">{}</span> {}{under}</li>\n", escape(at), escape(&entry.line)));
    }
    out.push_str("</ol>\n");
    out
}
