//! The board as a page (DSK-2): what needs a person on top, one column per stage, and the ended tasks.

use super::{Kind, shell, table};
use crate::model::stage::Stage;
use crate::model::status::{Status, TaskRow};
use crate::model::text::clip;
use crate::render::board::{Place, cost, place, state};
use crate::render::card::escape;
use crate::render::cells::grouped;
use crate::render::notes;
use crate::render::view::View;
use std::collections::BTreeSet;

/// Open tasks listed per column, and recently ended tasks listed.
pub const COLUMN: usize = 200;
pub const ENDED: usize = 50;
/// Ended tasks listed on each further page.
pub const ENDED_PAGE: usize = 200;
/// The page stops below 1 MB, however long the titles are.
const MOST: usize = 940_000;
const TITLE: usize = 100;
const STATE: usize = 160;

/// An ended task, with what the list shows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedRow {
    pub key: String,
    pub title: String,
    pub stage: Stage,
    /// RFC 3339.
    pub finished_at: String,
}

/// The board. `open`: rows of `status`; `ended`: the most recently ended, newest first; `pages`: further pages of ended
/// ones.
pub fn page(s: &Status, ended: &[EndedRow], pages: usize, view: &View, foot: &str) -> String {
    let rows: Vec<&TaskRow> = s.tasks.iter().filter(|r| r.open).collect();
    let (needs, others): (Vec<&TaskRow>, Vec<&TaskRow>) =
        rows.into_iter().partition(|r| matches!(place(r), Place::ConfirmDeploy | Place::Approval | Place::Blocked));
    let mut body = tools(s);
    for line in notes::stops(s, view) {
        body.push_str(&format!("<p><strong>{}</strong></p>\n", escape(&line)));
    }
    let mut needs = needs;
    needs.sort_by_key(|r| (place(r), r.waiting_since.clone().unwrap_or_else(|| r.updated_at.clone()), r.id));
    body.push_str(&format!(
        "<section id=\"needs-you\"><h2>Needs you ({})</h2>\n<div class=\"cards\">\n",
        grouped(needs.len() as i64)
    ));
    if needs.is_empty() {
        body.push_str("<p class=\"soft\">Nothing needs you.</p>\n");
    }
    cards(&mut body, &needs, view);
    body.push_str("</div></section>\n");
    columns(&mut body, &others, view);
    body.push_str(&ended_section(ended, pages, view));
    body.push_str(&about(s, view));
    shell(Kind::Board, "orch", foot, &body)
}

/// A column for each stage with tasks, in the order of the pipeline, then the empty stages on one line.
fn columns(body: &mut String, others: &[&TaskRow], view: &View) {
    let mut empty = String::new();
    body.push_str("<div class=\"board\">\n");
    for stage in Stage::ALL.iter().filter(|s| !s.is_terminal()) {
        // A task that is watched after its deploy still counts as in work.
        let column: Vec<&TaskRow> = others
            .iter()
            .copied()
            .filter(|r| r.stage == *stage || (*stage == Stage::Deploy && r.stage.is_terminal()))
            .collect();
        if column.is_empty() {
            empty.push_str(&format!("<section data-stage=\"{stage}\"><h2>{stage} (0)</h2></section>\n"));
            continue;
        }
        body.push_str(&format!(
            "<section data-stage=\"{stage}\"><h2>{stage} ({})</h2>\n",
            grouped(column.len() as i64)
        ));
        cards(body, &column, view);
        body.push_str("</section>\n");
    }
    body.push_str(&format!("</div>\n<div class=\"empty\">\n{empty}</div>\n"));
}

/// Search and filter; hidden until the script runs.
fn tools(s: &Status) -> String {
    let projects: BTreeSet<&str> = s.tasks.iter().map(|r| r.project.as_str()).collect();
    let mut out = "<div id=\"tools\" role=\"search\" hidden><label>Search <input type=\"search\" placeholder=\"press /\"></label>".to_owned();
    if projects.len() > 1 {
        out.push_str("<label>Project <select id=\"project\"><option value=\"\">all</option>");
        for p in projects {
            let p = escape(p);
            out.push_str(&format!("<option value=\"{p}\">{p}</option>"));
        }
        out.push_str("</select></label>");
    }
    out.push_str("<span id=\"found\" role=\"status\"></span></div>\n");
    out
}

fn cards(out: &mut String, rows: &[&TaskRow], view: &View) {
    let mut shown = 0;
    for r in rows.iter().take(COLUMN) {
        if out.len() > MOST {
            break;
        }
        out.push_str(&card(r, view));
        shown += 1;
    }
    if shown < rows.len() {
        out.push_str(&format!("<p class=\"soft\">{} more</p>\n", grouped((rows.len() - shown) as i64)));
    }
}

fn card(r: &TaskRow, view: &View) -> String {
    let (class, said) = match place(r) {
        Place::ConfirmDeploy => ("need", "confirm the deploy".to_owned()),
        Place::Approval => ("need", "approve the analysis".to_owned()),
        Place::Blocked => ("stop", format!("blocked: {}", r.blocked_reason.as_deref().unwrap_or_default())),
        Place::Working => ("run", state(r, view)),
        Place::Waiting(_) => ("wait", state(r, view)),
        Place::Ended => ("done", r.stage.to_string()),
    };
    let since = r.waiting_since.as_deref().unwrap_or(&r.updated_at);
    let key = escape(&r.key);
    format!(
        "<article class=\"{class}\" data-key=\"{key}\" data-project=\"{}\"><h3><a href=\"task/{key}.html\">{key}</a> {}</h3>\
         <p>{}</p><p class=\"soft\">{} · {} · {}</p></article>\n",
        escape(&r.project),
        escape(&clip(&r.title, TITLE)),
        escape(&clip(&said, STATE)),
        r.stage,
        escape(&view.local(since)),
        escape(&cost(r)),
    )
}

fn ended_section(ended: &[EndedRow], pages: usize, view: &View) -> String {
    if ended.is_empty() {
        return String::new();
    }
    let mut out =
        format!("<section data-stage=\"ended\"><h2>Ended last ({})</h2>\n<div class=\"cards\">\n", ended.len());
    out.extend(ended.iter().map(|r| ended_card(r, view)));
    out.push_str("</div>\n");
    if pages > 0 {
        let links: Vec<String> =
            (1..=pages).rev().map(|n| format!("<a href=\"ended-{n}.html\">page {n}</a>")).collect();
        out.push_str(&format!("<p>All others: {}</p>\n", links.join(" ")));
    }
    out.push_str("</section>\n");
    out
}

fn ended_card(r: &EndedRow, view: &View) -> String {
    let key = escape(&r.key);
    format!(
        "<article class=\"done\" data-key=\"{key}\"><h3><a href=\"task/{key}.html\">{key}</a> {}</h3><p class=\"soft\">{} · {}</p></article>\n",
        escape(&clip(&r.title, TITLE)),
        r.stage,
        escape(&view.local(&r.finished_at))
    )
}

/// A further page of ended tasks, oldest first.
pub fn ended_page(n: usize, rows: &[EndedRow], view: &View, foot: &str) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|r| {
            let key = escape(&r.key);
            vec![
                format!("<a href=\"task/{key}.html\">{key}</a>"),
                escape(&clip(&r.title, TITLE)),
                r.stage.to_string(),
                escape(&view.local(&r.finished_at)),
            ]
        })
        .collect();
    let body = table("Ended tasks", &["task", "title", "end", "at"], 4, &rows);
    shell(Kind::Text, &format!("Ended tasks, page {n}"), foot, &body)
}

fn about(s: &Status, view: &View) -> String {
    let mut lines = notes::alerts(s, view);
    lines.extend(notes::notes(s, view, notes::About::Others));
    if lines.is_empty() {
        return String::new();
    }
    let items: String = lines.iter().map(|l| format!("<li>{}</li>", escape(l))).collect();
    format!("<section><h2>Alerts and notes</h2><ul>{items}</ul></section>\n")
}
