//! The demo's output while it runs: a line per task that moves and, on a terminal, a bar per task.

use crate::adapters::store::AuditEvent;
use crate::cli::output::Output;
use crate::model::finding::Origin;
use crate::model::ids::Sha;
use crate::model::stage::Stage;
use crate::model::text::clip;
use crate::render::{cells, security};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Longest text of a line; the task's timeline has the full text.
const WIDTH: usize = 96;

/// What happened to a task, in the demo's words.
pub struct Shown {
    pub text: String,
    pub mood: Mood,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Plain,
    Good,
    /// Sent back: what gates are for.
    Back,
    /// A person is asked, or acts.
    Person,
    Bad,
}

/// The demo's output.
pub struct Show<'a> {
    out: &'a Output,
    start: Instant,
    colour: bool,
    bars: Option<Bars>,
}

struct Bars {
    all: MultiProgress,
    each: Vec<(String, ProgressBar)>,
}

impl<'a> Show<'a> {
    pub fn new(out: &'a Output) -> Self {
        let (terminal, colour) = (out.is_terminal(), out.is_coloured());
        let live = terminal && out.is_error_terminal() && !out.is_json();
        let bars = live.then(|| Bars { all: MultiProgress::new(), each: Vec::new() });
        Self { out, start: Instant::now(), colour, bars }
    }

    /// Adds a bar for a task, if bars are shown.
    pub fn task(&mut self, key: &str, title: &str) {
        let Some(bars) = &mut self.bars else { return };
        let bar = bars.all.add(ProgressBar::new(Stage::ALL.len() as u64));
        let style = ProgressStyle::with_template("  {spinner} {prefix}  {bar:16}  {wide_msg}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("●◐·").tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
        }
        bar.set_prefix(key.to_owned());
        bar.set_message(title.to_owned());
        bars.each.push((key.to_owned(), bar));
    }

    /// Its bar spins only while something of it is running.
    pub fn running(&self, key: &str, runs: bool) {
        let bar = self.bars.as_ref().and_then(|b| b.each.iter().find(|(k, _)| k == key));
        match bar {
            Some((_, bar)) if runs => bar.enable_steady_tick(Duration::from_millis(100)),
            Some((_, bar)) => bar.disable_steady_tick(),
            None => {}
        }
    }

    /// Text that belongs to no task. On a terminal it is wrapped to the width, between words.
    pub fn say(&self, text: impl AsRef<str>) {
        for line in text.as_ref().split('\n') {
            wrapped(line, self.out.columns()).iter().for_each(|l| self.print(l));
        }
    }

    /// One move of a task.
    pub fn moved(&self, key: &str, stage: Stage, line_of: &Shown) {
        // The time, the key and a sign precede it.
        let room = self.out.columns().map_or(WIDTH, |c| c.saturating_sub(20 + key.len()).clamp(30, WIDTH));
        let text = whole_words(&clip(&line_of.text, WIDTH), room);
        if let Some(bars) = &self.bars
            && let Some((_, bar)) = bars.each.iter().find(|(k, _)| k == key)
        {
            bar.set_position(Stage::ALL.iter().position(|s| *s == stage).unwrap_or(0) as u64);
            if stage == Stage::Done {
                bar.set_position(Stage::ALL.len() as u64);
            }
            bar.set_message(text.clone());
            if line_of.mood == Mood::Plain {
                return;
            }
        }
        let (sign, code) = match line_of.mood {
            Mood::Plain => ("·", "2"),
            Mood::Good => ("✓", "32"),
            Mood::Back => ("↩", "33"),
            Mood::Person => ("☺", "36"),
            Mood::Bad => ("✗", "31"),
        };
        let at = self.paint("2", &format!("{:>5.1}s", self.start.elapsed().as_secs_f64()));
        self.print(&format!("{at}  {key}  {}  {}", self.paint(code, sign), self.paint_mood(line_of.mood, &text)));
    }

    /// A check at the end.
    pub fn check(&self, good: bool, name: &str, detail: &str) {
        let sign = if good { self.paint("32", "✓") } else { self.paint("31", "✗") };
        let room = self.out.columns().map_or(usize::MAX, |c| c.saturating_sub(8 + cells::width(name)));
        let detail = whole_words(detail, room);
        self.print(&format!("  {sign} {name}{}", self.paint("2", &format!("  {detail}"))));
    }

    pub fn heading(&self, text: &str) {
        self.print(&format!("\n{}", self.paint("1", text)));
    }

    /// Removes the bars at the end.
    pub fn end(&mut self) {
        if let Some(bars) = self.bars.take() {
            for (_, bar) in &bars.each {
                bar.finish_and_clear();
            }
            let _ = bars.all.clear();
        }
    }

    fn paint_mood(&self, mood: Mood, text: &str) -> String {
        match mood {
            Mood::Plain => text.to_owned(),
            Mood::Good => self.paint("32", text),
            Mood::Back => self.paint("33", text),
            Mood::Person => self.paint("36", text),
            Mood::Bad => self.paint("31", text),
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn print(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.all.suspend(|| self.out.line(line)),
            None => self.out.line(line),
        }
    }
}

/// The text in at most `room` cells, cut between words.
fn whole_words(text: &str, room: usize) -> String {
    if cells::width(text) <= room {
        return text.to_owned();
    }
    let mut kept = cells::take(text, room.saturating_sub(2));
    if text.get(kept.len()..).is_some_and(|rest| !rest.starts_with(' ')) {
        kept = kept.rsplit_once(' ').map_or(kept, |(whole, _)| whole);
    }
    format!("{} …", kept.trim_end())
}

/// The line, wrapped to lines of at most `columns` cells with the indentation of the first.
fn wrapped(line: &str, columns: Option<usize>) -> Vec<String> {
    let Some(columns) = columns.filter(|c| cells::width(line) > *c) else { return vec![line.to_owned()] };
    let indent: String = line.chars().take_while(|c| *c == ' ').collect();
    let mut lines = vec![indent.clone()];
    for word in line.split_whitespace() {
        let Some(last) = lines.last_mut() else { break };
        let gap = usize::from(last.len() > indent.len());
        if gap == 1 && cells::width(last) + gap + cells::width(word) > columns {
            lines.push(format!("{indent}{word}"));
        } else {
            last.push_str(if gap == 1 { " " } else { "" });
            last.push_str(word);
        }
    }
    lines
}

/// The text for an audit event, and the task's stage after it. `None`: nothing a watcher needs to know.
pub fn line_of_event(event: &AuditEvent) -> Option<(Option<Stage>, Shown)> {
    let detail: Value = serde_json::from_str(&event.detail).unwrap_or(Value::Null);
    let word = |name: &str| detail[name].as_str().unwrap_or_default().to_owned();
    let stage = Stage::parse(&word("to"));
    let line_of = |mood, text: String| Some((stage, Shown { text, mood }));
    match event.event.as_str() {
        "stage_advanced" => {
            line_of(if stage == Some(Stage::Done) { Mood::Good } else { Mood::Plain }, entered(stage?, &word("landed")))
        }
        "stage_rolled_back" => line_of(Mood::Back, sent_back(&detail, &word("why"))),
        "released" if detail["by"]["via"] == "label" => {
            let label = detail["by"]["label"].as_str().unwrap_or("of the item");
            line_of(Mood::Person, format!("its label {label} answers; no person is asked"))
        }
        "task_blocked" => line_of(Mood::Bad, format!("blocked: {}", word("why"))),
        "watch_ended" => {
            let (status, why) = (word("status"), word("why"));
            let mood = if status == "HEALTHY" { Mood::Good } else { Mood::Plain };
            line_of(mood, format!("watched after the deploy: {}, {why}", status.to_lowercase()))
        }
        _ => None,
    }
}

fn entered(stage: Stage, landed: &str) -> String {
    let text = match stage {
        Stage::Created => "on the board",
        Stage::Analysis => "picked up from the board; the analyst reads it",
        Stage::Architecture => "the architect decides how, in one page",
        Stage::Development => "the developer writes code and a test",
        Stage::Review => "CI is green; the reviewer reads the diff",
        Stage::Testing => "the review approves; the tester tries it out",
        Stage::DeployStaging => "the tests pass; staging and the scan (up to 40 s)",
        Stage::Deploy => "staging passed, the scan found nothing; now a confirmation",
        Stage::Done => {
            let short = Sha::parse(landed).map(|s| s.short().to_string()).unwrap_or_default();
            return format!("deployed: production runs {short}");
        }
        Stage::Cancelled => "cancelled",
    };
    text.to_owned()
}

/// Who sent it back, and the first reason given.
fn sent_back(detail: &Value, why: &str) -> String {
    let attempt = detail["attempt"].as_i64().unwrap_or(0);
    let finding = &detail["findings"][0];
    let text = finding["text"].as_str().unwrap_or(why);
    let source = match serde_json::from_value::<Origin>(finding["source"].clone()) {
        Ok(Origin::Ci) => "a failing test",
        Ok(Origin::Review) => "the review",
        Ok(Origin::Tests) => "the tester",
        Ok(Origin::Security) => "the security gate",
        Ok(other) => other.as_str(),
        Err(_) => "a gate",
    };
    let mut lines = text.lines().map(str::trim);
    let said = match security::places(text).next() {
        // Its preview and fingerprint are for the developer.
        Some((place, rule)) => format!("{place}: {rule}"),
        None => lines.rfind(|l| !l.is_empty() && !l.starts_with(['#', '`', '|'])).unwrap_or(why).to_owned(),
    };
    format!("sent back by {source}, try {attempt}: {said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_no_word_is_broken() {
        assert_eq!(whole_words("brew green tea slowly", 17), "brew green tea …");
        assert_eq!(whole_words("brew green tea", 14), "brew green tea");
        assert_eq!(whole_words("brew green tea", 12), "brew green …");
        let line = "  the agent is a shell script; every step is a separate process";
        let lines = wrapped(line, Some(30));
        assert!(lines.iter().all(|l| l.len() <= 30 && l.starts_with("  ")), "{lines:?}");
        assert_eq!(lines.iter().map(|l| l.trim()).collect::<Vec<_>>().join(" "), line.trim());
        assert_eq!(wrapped(line, None), [line]);
    }
}
