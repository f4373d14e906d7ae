//! The live card of a task (NTF-1): one HTML message and its plain twin.
//!
//! Every line is built as complete, balanced markup. What does not fit is dropped in whole pieces, so no tag or entity
//! is ever cut.

use super::locale::{self, Word};
use crate::model::card::{Ask, Card, CardData, CardRun, CardRunState, Locale};
use crate::model::inputs::line;
use crate::model::shown::Line;
use crate::model::stage::{JobKind, Stage};
use crate::model::text::{clip, steers};

/// UTF-16 units of the raw HTML, well below Telegram's 4096 after parsing.
pub const BUDGET: usize = 3800;

/// A piece of text in both forms.
#[derive(Debug, Clone, Default)]
pub(super) struct Both {
    pub html: String,
    pub plain: String,
}

impl Both {
    /// Appends text, ours or a value; it is always escaped.
    pub fn text(mut self, text: &str) -> Self {
        self.html.push_str(&escape(text));
        self.plain.push_str(text);
        self
    }

    /// Appends somebody else's words as a quotation, in which nothing becomes a link or a mention.
    pub fn quote(mut self, text: &str) -> Self {
        self.html.push_str(&format!("&gt; <code>{}</code>", escape(text)));
        self.plain.push_str(&format!("> {text}"));
        self
    }

    pub fn bold(mut self, text: &str) -> Self {
        self.html.push_str(&format!("<b>{}</b>", escape(text)));
        self.plain.push_str(text);
        self
    }

    /// Appends a link if the address may be linked, else only the text.
    pub fn link(mut self, url: Option<&str>, text: &str) -> Self {
        let shown = escape(text);
        match url.and_then(safe_url) {
            Some(url) => self.html.push_str(&format!("<a href=\"{}\">{shown}</a>", escape(url))),
            None => self.html.push_str(&shown),
        }
        self.plain.push_str(text);
        self
    }
}

/// Escapes a value for text and attributes; control characters that Telegram drops or mangles become spaces.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push('\n'),
            c if steers(c) => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn safe_url(url: &str) -> Option<&str> {
    let known = url.starts_with("https://") || url.starts_with("http://");
    (known && url.len() <= 500 && !url.contains(|c: char| c.is_control() || c.is_whitespace())).then_some(url)
}

/// Length as Telegram counts.
pub fn utf16_len(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// Totals over some runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    pub millis: i64,
    pub micros: i64,
    /// At least one agent run has no known cost, so the sum is a lower bound.
    pub cost_unknown: bool,
    pub tokens: i64,
    /// At least one agent run has no known token count.
    pub tokens_unknown: bool,
}

impl Sums {
    /// Adds one run. A nonsensical value (an end before the start, a negative cost) counts as zero, never as a
    /// discount.
    fn add(&mut self, run: &CardRun, now_ms: i64) {
        let end = run.ended_at.unwrap_or(now_ms);
        self.millis = self.millis.saturating_add(end.saturating_sub(run.started_at).max(0));
        let agent = run.kind == JobKind::Agent;
        match run.cost_micros {
            Some(micros) => self.micros = self.micros.saturating_add(micros.max(0)),
            None => self.cost_unknown |= agent,
        }
        self.tokens_unknown |= agent && run.tokens_in.is_none() && run.tokens_out.is_none();
        for tokens in [run.tokens_in, run.tokens_out].into_iter().flatten() {
            self.tokens = self.tokens.saturating_add(tokens.max(0));
        }
    }

    /// The totals over runs.
    pub fn of<'a>(runs: impl IntoIterator<Item = &'a CardRun>, now_ms: i64) -> Self {
        let mut sums = Self::default();
        for run in runs {
            sums.add(run, now_ms);
        }
        sums
    }
}

/// Dollars, exact: two decimals, and more only where they are not zero, so that the lines shown add up to the total
/// shown. `≥` where part of it is unknown.
pub fn money(micros: i64, unknown: bool) -> String {
    let (whole, part) = (micros / 1_000_000, micros % 1_000_000);
    let mut digits = format!("{:06}", part.abs());
    while digits.len() > 2 && digits.ends_with('0') {
        digits.pop();
    }
    format!("{}${whole}.{digits}", if unknown { "≥" } else { "" })
}

/// `1h 02m 03s`, without leading zeros.
pub fn duration(locale: Locale, millis: i64) -> String {
    let [h, m, s] = locale::units(locale);
    let total = millis.max(0) / 1000;
    let (hours, minutes, seconds) = (total / 3600, total / 60 % 60, total % 60);
    if hours > 0 {
        format!("{hours}{h} {minutes:02}{m} {seconds:02}{s}")
    } else if minutes > 0 {
        format!("{minutes}{m} {seconds:02}{s}")
    } else {
        format!("{seconds}{s}")
    }
}

/// `12,345`, grouped by thousands.
fn grouped(n: i64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// The mark of a stage. `None`: no mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Running,
    Finished,
    Failed,
    Waiting,
    None,
}

impl Mark {
    fn sign(self) -> &'static str {
        match self {
            Self::Running => "🔄",
            Self::Finished => "✅",
            Self::Failed => "❌",
            Self::Waiting => "⏸",
            Self::None => "▫️",
        }
    }
}

/// The task's position in the stage table. A cancelled task keeps the position at which it was stopped.
fn position(data: &CardData) -> Stage {
    if data.stage == Stage::Cancelled { data.stopped_stage.unwrap_or(Stage::Created) } else { data.stage }
}

/// The mark of a stage's line (NTF-1): ✅ only at or before the current position.
pub fn mark(data: &CardData, stage: Stage) -> Mark {
    let at = position(data);
    let stopped = data.stage.is_terminal();
    let last = data.runs.iter().rfind(|r| r.stage == stage);
    if last.is_some_and(|r| r.state == CardRunState::Running) && stage <= at {
        return Mark::Running;
    }
    if stage > at {
        return Mark::None;
    }
    if stage < at {
        return Mark::Finished;
    }
    if !stopped {
        for ask in &data.asks {
            match ask {
                Ask::Blocked(_) => return Mark::Failed,
                Ask::Approval(_) | Ask::ConfirmDeploy(_) | Ask::Withdrawn(_) | Ask::Forge(_) => return Mark::Waiting,
                Ask::Frozen(_) => {}
            }
        }
        if data.running {
            return Mark::Running;
        }
    }
    // A successful run does not mean that the gate passed: the task would be in the next stage.
    match last.filter(|r| r.epoch == data.epoch || stopped).map(|r| r.state) {
        Some(CardRunState::Failed) => Mark::Failed,
        Some(CardRunState::Running) => Mark::Running,
        Some(CardRunState::Done) | None => Mark::None,
    }
}

/// The stages that get a line: those of the project, and any other that has runs, so that every run is counted on
/// exactly one line.
pub fn lines(data: &CardData) -> Vec<Stage> {
    let own = |s: Stage| match s {
        Stage::Created | Stage::Done | Stage::Cancelled => false,
        Stage::Development | Stage::Deploy => true,
        Stage::Analysis | Stage::Architecture | Stage::Review | Stage::Testing | Stage::DeployStaging => {
            data.stages.contains(&s)
        }
    };
    Stage::ALL.iter().copied().filter(|s| own(*s) || data.runs.iter().any(|r| r.stage == *s)).collect()
}

/// How much of a stage line is shown. Less is shown of the oldest stages first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Detail {
    Full,
    Sums,
    Name,
}

fn stage_line(data: &CardData, locale: Locale, stage: Stage, detail: Detail) -> Both {
    let name = locale::stage_name(locale, stage);
    let mark = mark(data, stage);
    let line = Both::default().text(&format!("{} ", mark.sign()));
    let line = if mark == Mark::Running { line.bold(name) } else { line.text(name) };
    let runs: Vec<&CardRun> = data.runs.iter().filter(|r| r.stage == stage).collect();
    if runs.is_empty() || detail == Detail::Name {
        return line;
    }
    let line = line.text(&format!(" · {}", sums_text(locale, Sums::of(runs.iter().copied(), data.now_ms))));
    // Code has no model, so the model comes from the last agent run; the attempt comes from any run.
    let last = runs.iter().rfind(|r| r.kind == JobKind::Agent).or(runs.last());
    let Some(last) = last.filter(|_| detail == Detail::Full) else { return line };
    let mut rest = Vec::new();
    for value in [&last.model, &last.effort] {
        let value = clip(value.as_deref().unwrap_or(""), 60);
        if !value.is_empty() {
            rest.push(value);
        }
    }
    rest.push(format!("{} {}", locale::word(locale, Word::Attempt), last.attempt.max(1)));
    line.text(&format!(" · {}", rest.join(" · ")))
}

fn sums_text(locale: Locale, sums: Sums) -> String {
    format!(
        "{} · {} · {}{} {}",
        duration(locale, sums.millis),
        money(sums.micros, sums.cost_unknown),
        if sums.tokens_unknown { "≥" } else { "" },
        grouped(sums.tokens),
        locale::word(locale, Word::Tokens)
    )
}

fn ask_line(data: &CardData, locale: Locale, ask: &Ask, most: usize) -> Both {
    let (sign, what, reason) = match ask {
        Ask::Approval(Some(_)) => ("👉", Word::AskApproval, ""),
        Ask::Approval(None) => ("👉", Word::AskApprovalByCommand, ""),
        Ask::ConfirmDeploy(Some(_)) => ("👉", Word::AskConfirm, ""),
        Ask::ConfirmDeploy(None) => ("👉", Word::AskConfirmByCommand, ""),
        Ask::Blocked(why) => ("⛔", Word::AskBlocked, why.as_str()),
        Ask::Withdrawn(why) => ("👉", Word::AskWithdrawn, why.as_str()),
        Ask::Forge(why) => ("⏳", Word::AskForge, why.as_str()),
        Ask::Frozen(why) => ("🧊", Word::AskFrozen, why.as_str()),
    };
    let status = match ask {
        Ask::Approval(status) | Ask::ConfirmDeploy(status) => status.as_deref().unwrap_or(""),
        Ask::Blocked(_) | Ask::Withdrawn(_) | Ask::Forge(_) | Ask::Frozen(_) => "",
    };
    let text = locale::word(locale, what).replace("{status}", &clip(status, 40)).replace("{key}", &clip(&data.key, 40));
    let line = Both::default().text(&format!("{sign} ")).bold(&text);
    let reason = clip(reason, most);
    if reason.is_empty() { line } else { line.text(&format!(": {reason}")) }
}

/// A line about a wait, cut to about `most` characters.
pub(super) fn wait_line(line: &Line, most: usize) -> Both {
    match line {
        Line::Fact(text) => Both::default().text(&clip(text, most.max(120))),
        Line::Quote(text) => Both::default().quote(&clip(text, most)),
    }
}

/// Limits of one attempt to fit the card. Each further attempt shows less.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    title: usize,
    reason: usize,
    notes: usize,
}

fn header(data: &CardData, locale: Locale, title: usize) -> Vec<Both> {
    let key = match clip(&data.key, 40) {
        key if key.is_empty() => "?".to_owned(),
        key => key,
    };
    let head = Both::default().link(data.url.as_deref(), &key).text(" ").bold(&clip(&data.title, title));
    vec![head, Both::default().text(locale::status_label(locale, data.stage))]
}

fn join(parts: &[Both]) -> Card {
    let html: Vec<&str> = parts.iter().map(|p| p.html.as_str()).collect();
    let plain: Vec<&str> = parts.iter().map(|p| p.plain.as_str()).collect();
    Card { html: html.join("\n"), plain: plain.join("\n") }
}

fn compose(data: &CardData, locale: Locale, details: &[(Stage, Detail)], bounds: Bounds) -> Card {
    let mut parts = header(data, locale, bounds.title);
    parts.push(Both::default());
    parts.extend(details.iter().map(|(stage, detail)| stage_line(data, locale, *stage, *detail)));
    let total = sums_text(locale, Sums::of(&data.runs, data.now_ms));
    parts.push(Both::default().bold(locale::word(locale, Word::Total)).text(&format!(" · {total}")));
    if data.pr_url.as_deref().and_then(safe_url).is_some() {
        parts.push(Both::default().link(data.pr_url.as_deref(), locale::word(locale, Word::PullRequest)));
    }
    if !data.inputs.is_empty() {
        let label = locale::word(locale, Word::Inputs);
        parts.push(Both::default().text("⚠️ ").bold(label).text(&format!(": {}", line(&data.inputs, bounds.reason))));
    }
    // Below the facts and above how to answer.
    parts.extend(data.wait.iter().map(|l| wait_line(l, bounds.reason)));
    if !data.stage.is_terminal() {
        parts.extend(data.asks.iter().take(5).map(|ask| ask_line(data, locale, ask, bounds.reason)));
    }
    for note in data.notes.iter().take(bounds.notes) {
        parts.push(Both::default().text(&format!("ℹ️ {}", clip(note, 160))));
    }
    join(&parts)
}

/// The card. Whatever the values are, the result is valid HTML of at most [`BUDGET`] UTF-16 units. What does not fit is
/// shortened in this order: details of the oldest stages, notes and reasons, the title.
pub fn card(data: &CardData, locale: Locale) -> Card {
    let mut details: Vec<(Stage, Detail)> = lines(data).into_iter().map(|s| (s, Detail::Full)).collect();
    let roomy = Bounds { title: 200, reason: 600, notes: 12 };
    let fits = |card: &Card| utf16_len(&card.html) <= BUDGET;
    let mut made = compose(data, locale, &details, roomy);
    for smaller in [Detail::Sums, Detail::Name] {
        for i in 0..details.len() {
            if fits(&made) {
                return made;
            }
            if let Some(line) = details.get_mut(i) {
                line.1 = smaller;
            }
            made = compose(data, locale, &details, roomy);
        }
    }
    for bounds in [
        Bounds { notes: 4, ..roomy },
        Bounds { title: 120, reason: 200, notes: 0 },
        Bounds { title: 60, reason: 60, notes: 0 },
    ] {
        if fits(&made) {
            return made;
        }
        made = compose(data, locale, &details, bounds);
    }
    if fits(&made) { made } else { join(&header(data, locale, 60)) }
}

/// The line a card starts as (RULE-41): it is recorded first, then edited into the card.
pub fn placeholder(data: &CardData, locale: Locale) -> Card {
    join(&[Both::default()
        .link(data.url.as_deref(), &clip(&data.key, 40))
        .text(" ")
        .text(locale::word(locale, Word::Working))])
}

/// What is left of a card that is too old to be deleted.
pub fn retired(data: &CardData, locale: Locale) -> Card {
    let rest = format!(": {}", locale::word(locale, Word::Continued));
    join(&[Both::default().link(data.url.as_deref(), &clip(&data.key, 40)).text(&rest)])
}

#[cfg(test)]
#[path = "card_tests.rs"]
mod tests;
