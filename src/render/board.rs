//! `orch status` as lines (DSK-1): what needs a person, what is moving, what is stuck and why. Takes rows and a width,
//! gives one line a task.

use super::cells::{self, counted, cut, grouped, pad, pad_left};
use super::paint::{Line, Paint};
use super::view::View;
use super::{cause, notes};
use crate::model::report::Rule;
use crate::model::status::{Status, TaskRow};
use crate::model::task::Waiting;
use crate::model::text::clip;
use crate::model::time::parse_rfc3339;
use std::collections::BTreeMap;

/// Cost gets a column from this width on.
const COST_FROM: usize = 100;
/// Lines of the waiting block, without `--all`.
const WAITING_LINES: usize = 12;
/// Keys named per group, without `--all`.
const KEYS: usize = 3;
/// A title cut shorter than this says nothing, so it is left out.
const LEAST_TITLE: usize = 8;
/// No column reserves more cells than this for a key.
const WIDEST_KEY: usize = 14;
const WIDEST_STATE: usize = 40;

/// The block a task belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    ConfirmDeploy,
    Approval,
    Blocked,
    Working,
    Waiting(Rule),
    Ended,
}

/// Decides a task's block: first whether it needs a person, then whether it is running, then whether it is held.
pub fn place(row: &TaskRow) -> Place {
    if !row.open {
        return Place::Ended;
    }
    let stopping = row.cancel_requested_at.is_some();
    match row.waiting_for.filter(|_| !stopping) {
        Some(Waiting::ConfirmDeploy) => return Place::ConfirmDeploy,
        Some(Waiting::Approval) => return Place::Approval,
        None => {}
    }
    if row.blocked_reason.is_some() && !stopping {
        return Place::Blocked;
    }
    let held = row.held_by.as_ref().map(|h| h.rule);
    let worked = row.running_job.is_some() && held != Some(Rule::Backoff);
    match held {
        _ if worked => Place::Working,
        Some(Rule::Running | Rule::DeployResult | Rule::Watch) => Place::Working,
        Some(rule) => Place::Waiting(rule),
        None => Place::Waiting(Rule::Queued),
    }
}

/// The whole page.
pub fn page(s: &Status, view: &View) -> Vec<Line> {
    let mut lines: Vec<Line> = notes::stops(s, view).into_iter().map(|l| Line::of(Paint::Blocked, l)).collect();
    if !lines.is_empty() {
        lines.push(Line::default());
    }
    let mut by: BTreeMap<Place, Vec<&TaskRow>> = BTreeMap::new();
    for row in &s.tasks {
        by.entry(place(row)).or_default().push(row);
    }
    let open = by.keys().any(|p| *p != Place::Ended);
    lines.extend(needs_you(&by, view));
    lines.extend(working(&by, view));
    lines.extend(waiting(&by, view));
    lines.extend(ended(&by, view));
    let q = &s.queue;
    if !open {
        let none = s.tasks.is_empty() && q.done + q.failed + q.cancelled == 0;
        let all = view.all && !s.tasks.is_empty();
        if none {
            lines.push(Line::of(Paint::Plain, first_task(&view.pending)));
        } else if !all {
            lines.push(Line::of(Paint::Plain, "No open task; `orch status --all` shows ended ones."));
        }
        if !all {
            lines.push(Line::default());
        }
    }
    let alerts = notes::alerts(s, view);
    let count = alerts.len() + notes::stops(s, view).len();
    lines.extend(notes::block("Alerts", Paint::Blocked, alerts));
    lines.extend(notes::block("Notes", Paint::Faint, notes::notes(s, view, notes::About::All)));
    lines.push(totals(s, count, view));
    lines.into_iter().map(|l| l.within(view.columns())).collect()
}

/// How to make the first task.
fn first_task(pending: &[String]) -> String {
    match pending {
        [] => "No task yet: `orch new TITLE`, then `orch tick`.".to_owned(),
        [key] => format!("No task yet: the next `orch tick` picks up {key}."),
        [key, more @ ..] => format!("No task yet: the next `orch tick` picks up {key} and {} more.", more.len()),
    }
}

/// One task's line before layout.
struct Row<'a> {
    paint: Paint,
    key: &'a str,
    stage: &'static str,
    age: String,
    cost: String,
    /// The kind of state, where the block does not make it plain.
    kind: String,
    reason: String,
    title: String,
}

impl Row<'_> {
    fn state(&self) -> String {
        if self.kind.is_empty() { self.reason.clone() } else { format!("{}: {}", self.kind, self.reason) }
    }

    /// The fewest cells the state can be cut to, with its kind or without.
    fn least(&self, kind: bool) -> usize {
        let before = if kind && !self.kind.is_empty() { cells::width(&self.kind) + 2 } else { 0 };
        before + least(&self.reason)
    }
}

fn row<'a>(r: &'a TaskRow, since: &str, paint: Paint, (kind, reason): (String, String), view: &View) -> Row<'a> {
    Row {
        paint,
        key: &r.key,
        stage: r.stage.as_str(),
        age: view.age(since),
        cost: cost(r),
        kind,
        reason: clip(&reason, usize::MAX),
        title: clip(&r.title, usize::MAX),
    }
}

fn needs_you(by: &BTreeMap<Place, Vec<&TaskRow>>, view: &View) -> Vec<Line> {
    let mut rows = Vec::new();
    for place in [Place::ConfirmDeploy, Place::Approval, Place::Blocked] {
        let mut tasks: Vec<&TaskRow> = by.get(&place).cloned().unwrap_or_default();
        tasks.sort_by_key(|r| (parse_rfc3339(since(r)), r.id));
        for r in tasks {
            let (paint, state) = match place {
                Place::ConfirmDeploy => (Paint::NeedsYou, (String::new(), "confirm the deploy".to_owned())),
                Place::Approval => (Paint::NeedsYou, (String::new(), "approve the analysis".to_owned())),
                Place::Blocked | Place::Working | Place::Waiting(_) | Place::Ended => {
                    (Paint::Blocked, ("blocked".to_owned(), r.blocked_reason.clone().unwrap_or_default()))
                }
            };
            rows.push(row(r, since(r), paint, state, view));
        }
    }
    block("Needs you", &rows, view)
}

/// Since when a task needs a person.
fn since(r: &TaskRow) -> &str {
    r.waiting_since.as_deref().unwrap_or(&r.updated_at)
}

fn working(by: &BTreeMap<Place, Vec<&TaskRow>>, view: &View) -> Vec<Line> {
    let mut tasks: Vec<&TaskRow> = by.get(&Place::Working).cloned().unwrap_or_default();
    tasks.sort_by_key(|r| (r.stage, r.id));
    let rows: Vec<Row<'_>> = tasks
        .into_iter()
        .map(|r| {
            let since = r.running_job.as_ref().and_then(|j| j.since.as_deref()).unwrap_or(&r.updated_at);
            row(r, since, Paint::Running, said(r, view), view)
        })
        .collect();
    block("Working", &rows, view)
}

/// What a task does or waits for, in one sentence.
pub fn state(r: &TaskRow, view: &View) -> String {
    match said(r, view) {
        (kind, reason) if kind.is_empty() => reason,
        (kind, reason) => format!("{kind}: {}", clip(&reason, usize::MAX)),
    }
}

/// The rule that holds a task, and why. For a running task, who is working on it.
fn said(r: &TaskRow, view: &View) -> (String, String) {
    let place = place(r);
    if let (Place::Working, Some(job)) = (place, &r.running_job) {
        let who = job.agent.map_or_else(|| job.kind.to_string(), |a| a.to_string());
        let who = if r.attempt > 1 { format!("{who}, round {}", r.attempt) } else { who };
        return match &job.queued {
            Some(why) => (String::new(), format!("{who}, in Slurm's queue: {why}")),
            None => (String::new(), who),
        };
    }
    match (&r.held_by, place) {
        (Some(held), _) => {
            let until = held.until.as_deref().map(|u| format!(", until {}", view.local(u))).unwrap_or_default();
            (held.rule.to_string(), format!("{}{until}", held.why))
        }
        (None, Place::Ended) => (String::new(), String::new()),
        (None, _) => (Rule::Queued.to_string(), cause::words(Rule::Queued).to_owned()),
    }
}

/// Groups by rule, the largest first; a group of one is an ordinary line.
fn waiting(by: &BTreeMap<Place, Vec<&TaskRow>>, view: &View) -> Vec<Line> {
    let mut groups: Vec<(Rule, &Vec<&TaskRow>)> = by
        .iter()
        .filter_map(|(place, rows)| match place {
            Place::Waiting(rule) => Some((*rule, rows)),
            Place::ConfirmDeploy | Place::Approval | Place::Blocked | Place::Working | Place::Ended => None,
        })
        .collect();
    let count: usize = groups.iter().map(|(_, rows)| rows.len()).sum();
    if count == 0 {
        return Vec::new();
    }
    groups.sort_by_key(|(rule, rows)| (std::cmp::Reverse(rows.len()), *rule));
    let cut = !view.all && groups.len() > WAITING_LINES;
    let shown = if cut { WAITING_LINES - 1 } else { groups.len() };
    let single: Vec<Row<'_>> = groups
        .iter()
        .take(shown)
        .filter_map(|(_, rows)| rows.first().filter(|_| rows.len() == 1))
        .map(|r| row(r, &r.updated_at, Paint::Waiting, said(r, view), view))
        .collect();
    let widths = Widths::of(&single);
    let mut single = single.iter();
    let mut lines = vec![head("Waiting", count)];
    for (rule, rows) in groups.iter().take(shown) {
        match rows.as_slice() {
            [_] => lines.extend(single.next().map(|r| laid(r, &widths, view))),
            several => lines.push(group(*rule, several, view)),
        }
    }
    if cut {
        let left: usize = groups.iter().skip(shown).map(|(_, rows)| rows.len()).sum();
        lines.push(Line::of(Paint::Faint, format!("  {} more; `orch status --all` shows them", grouped(left as i64))));
    }
    lines.push(Line::default());
    lines
}

fn group(rule: Rule, rows: &[&TaskRow], view: &View) -> Line {
    let whys: Vec<&str> = rows.iter().map(|r| r.held_by.as_ref().map_or("", |h| h.why.as_str())).collect();
    let first = whys.first().copied().unwrap_or_default();
    let same = !first.is_empty() && whys.iter().all(|w| *w == first);
    let why = if same { clip(first, usize::MAX) } else { cause::words(rule).to_owned() };
    let name = format!("  {} {rule}: ", grouped(rows.len() as i64));
    let most = if view.all { rows.len() } else { KEYS };
    let mut keys: Vec<&str> = rows.iter().take(most).map(|r| r.key.as_str()).collect();
    let tail = |keys: &[&str]| {
        let more = if keys.len() < rows.len() { " …" } else { "" };
        format!(" · {}{more}", keys.join(", "))
    };
    let mut room = usize::MAX;
    if let Some(columns) = view.columns() {
        // The cause keeps its first three words; the keys get what is left.
        let least = cells::width(&name) + least(&why);
        while keys.len() > 1 && least + cells::width(&tail(&keys)) > columns {
            keys.pop();
        }
        room = columns.saturating_sub(cells::width(&name) + cells::width(&tail(&keys)));
    }
    Line::of(Paint::Waiting, name).and(Paint::Plain, cut(&why, room)).and(Paint::Plain, tail(&keys))
}

fn ended(by: &BTreeMap<Place, Vec<&TaskRow>>, view: &View) -> Vec<Line> {
    let Some(tasks) = by.get(&Place::Ended).filter(|_| view.all) else { return Vec::new() };
    let rows: Vec<Row<'_>> = tasks
        .iter()
        .map(|r| {
            let at = r.finished_at.as_deref().unwrap_or(&r.updated_at);
            row(r, at, Paint::Done, (String::new(), String::new()), view)
        })
        .collect();
    block("Ended", &rows, view)
}

fn head(name: &str, count: usize) -> Line {
    Line::of(Paint::Heading, format!("{name} ({})", grouped(count as i64)))
}

fn block(name: &str, rows: &[Row<'_>], view: &View) -> Vec<Line> {
    if rows.is_empty() {
        return Vec::new();
    }
    let widths = Widths::of(rows);
    let lines = rows.iter().map(|r| laid(r, &widths, view));
    std::iter::once(head(name, rows.len())).chain(lines).chain([Line::default()]).collect()
}

/// The columns of a block.
struct Widths {
    key: usize,
    stage: usize,
    age: usize,
    cost: usize,
    state: usize,
}

impl Widths {
    fn of(rows: &[Row<'_>]) -> Self {
        let widest = |of: &dyn Fn(&Row<'_>) -> usize| rows.iter().map(of).max().unwrap_or(0);
        Self {
            key: widest(&|r| cells::width(r.key).min(WIDEST_KEY)),
            stage: widest(&|r| r.stage.len()),
            age: widest(&|r| cells::width(&r.age)),
            cost: widest(&|r| cells::width(&r.cost)),
            state: widest(&|r| cells::width(&r.state())).min(WIDEST_STATE),
        }
    }
}

/// Cells of a reason's first three words and the cut mark. A reason is never cut below that.
fn least(reason: &str) -> usize {
    let words: Vec<&str> = reason.split_whitespace().take(3).collect();
    let words = words.join(" ");
    cells::width(&words) + usize::from(words.len() < reason.len())
}

/// One task on one line. When space runs out, the title gives way first, then padding, cost and age, then the kind of
/// state; never the stage or the first three words of a reason.
fn laid(r: &Row<'_>, w: &Widths, view: &View) -> Line {
    let columns = view.columns();
    let costs = columns.is_none_or(|c| c >= COST_FROM);
    let lead = |full: bool, age: bool| {
        let (key, stage) = if full { (w.key, w.stage) } else { (0, 0) };
        let mut rest = format!("  {}", pad(r.stage, stage));
        if age {
            rest = format!("{rest}  {}", pad_left(&r.age, if full { w.age } else { 0 }));
        }
        if age && costs {
            rest = format!("{rest}  {}", pad_left(&r.cost, w.cost));
        }
        (format!("  {}", pad(r.key, key)), rest)
    };
    let room = |(key, rest): &(String, String)| {
        columns.map_or(usize::MAX, |c| c.saturating_sub(cells::width(key) + cells::width(rest) + 2))
    };
    let tries = [(true, true, true), (false, true, true), (false, false, true), (false, false, false)];
    let fits = |(full, age, kind): &(bool, bool, bool)| room(&lead(*full, *age)) >= r.least(*kind);
    let (full, age, kind) = tries.into_iter().find(fits).unwrap_or((false, false, false));
    let lead = lead(full, age);
    let room = room(&lead);
    let state = cut(&if kind { r.state() } else { r.reason.clone() }, room);
    let state = if w.state == 0 { state } else { format!("  {}", pad(&state, w.state.min(room))) };
    let left = room.saturating_sub(cells::width(&state));
    let line = Line::of(r.paint, lead.0).and(Paint::Plain, lead.1).and(r.paint, state);
    if r.title.is_empty() || left < LEAST_TITLE.min(cells::width(&r.title)) {
        return line;
    }
    line.and(Paint::Plain, format!("  {}", cut(&r.title, left)))
}

/// The known cost, with `≥` where part of it is unknown.
pub fn cost(row: &TaskRow) -> String {
    match row.cost_usd {
        None => "?".to_owned(),
        Some(usd) => format!("{}{}", if row.cost_is_least { "≥" } else { "" }, dollars(usd)),
    }
}

/// An amount with its digits grouped: `$1,234.50`.
pub fn dollars(usd: f64) -> String {
    let cents = (usd.max(0.0) * 100.0).round() as i64;
    format!("${}.{:02}", grouped(cents / 100), cents % 100)
}

/// The last line: queue, today's cost of its cap, open alerts, unconfined projects, time zone.
fn totals(s: &Status, alerts: usize, view: &View) -> Line {
    let (q, cap) = (&s.queue, s.limits.max_cost_usd_per_day);
    let zone = view.zone_name();
    let today = dollars(s.limits.cost_today_usd);
    let (queued, running) = (grouped(q.queued), grouped(q.running));
    let loose = notes::unconfined(s);
    let mut long = vec![
        format!("queue: {queued} queued, {running} running"),
        if cap > 0.0 { format!("today {today} of {}", dollars(cap)) } else { format!("today {today}, no cap") },
        if alerts == 0 { "no open alert".to_owned() } else { counted(alerts as i64, "open alert") },
    ];
    let mut short = vec![
        format!("queue {queued}+{running}"),
        if cap > 0.0 { format!("{today}/{}", dollars(cap).trim_end_matches(".00")) } else { today.clone() },
        counted(alerts as i64, "alert"),
    ];
    if !loose.is_empty() {
        long.push(format!("unconfined in {}", loose.join(", ")));
        short.push("unconfined".to_owned());
    }
    long.push(format!("times in {zone}"));
    short.push(zone);
    let (long, short) = (long.join(" · "), short.join(" · "));
    let fits = view.columns().is_none_or(|c| cells::width(&long) <= c);
    Line::of(Paint::Plain, if fits { long } else { short })
}

/// At most `rows` lines, for a screen that does not scroll. The last one says how many more there are.
pub fn screen(mut lines: Vec<Line>, rows: usize) -> Vec<Line> {
    if lines.len() > rows {
        let shown = rows.saturating_sub(1);
        let more = lines.iter().skip(shown).filter(|l| !l.text().is_empty()).count();
        lines.truncate(shown);
        lines.push(Line::of(Paint::Faint, format!("{} more", grouped(more as i64))));
    }
    lines
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
