//! Reads a runtime's stdout as it arrives: lines from chunks, running sums for the cost limit, the outcome at the end.
//! Whatever the bytes are, reading never fails and keeps a bounded amount (RUN-5: unknown events are ignored).

use super::{claude, command, presets};
use crate::model::outcome::{Kind, Outcome};
use serde_json::Value;

/// Longest line that is parsed; a longer one is skipped to its end.
const LINE: usize = 8 << 20;
/// How much of the agent's last message is kept, in bytes.
const TEXT: usize = 64 << 10;
/// How many refused tool calls are kept, and how much of each.
const DENIALS: usize = 50;
const DENIAL: usize = 200;
/// How much of a reason is kept.
const WHY: usize = 400;
/// A reset time further away than this is shortened to it (RULE-33).
const RESET_MS: i64 = 7 * 24 * 3_600_000;

/// What is known while the run is in progress, for the supervisor's cost limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Live {
    /// Millionths of a US dollar. `None`: not reported yet (claude reports it at the end, and has its own cap).
    pub cost_micros: Option<i64>,
    pub tokens_in: Option<i64>,
    pub tokens_out: Option<i64>,
}

/// How the process ended.
#[derive(Debug, Clone, Copy, Default)]
pub struct Exit<'a> {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// Set if it was ended deliberately: the limit that ran out, or a requested stop.
    pub ended_by: Option<&'a str>,
}

/// Reads one run's stdout. Made by `Runtime::reader`.
#[derive(Debug)]
pub struct Reader {
    lines: Lines,
    state: State,
}

#[derive(Debug)]
pub(super) enum State {
    Claude(Box<claude::Seen>),
    Command(command::Seen),
    Preset(presets::Seen),
}

impl Reader {
    pub(super) fn new(state: State) -> Self {
        Self { lines: Lines::default(), state }
    }

    /// Takes the next bytes of stdout, in pieces of any size.
    pub fn feed(&mut self, bytes: &[u8]) {
        let state = &mut self.state;
        self.lines.feed(bytes, |line| state.line(line));
    }

    /// What is known so far.
    pub fn live(&self) -> Live {
        match &self.state {
            State::Claude(seen) => seen.live(),
            State::Command(seen) => seen.live(),
            State::Preset(seen) => seen.live(),
        }
    }

    /// What the runtime has reported as its end, `true` for success: what comes now is the end of its process alone. `None`:
    /// it has not, or works on.
    pub fn concluded(&self) -> Option<bool> {
        match &self.state {
            State::Claude(seen) => seen.concluded(),
            // The last line counts, and only the end shows which one is last.
            State::Command(_) => None,
            State::Preset(seen) => seen.concluded(),
        }
    }

    /// Takes a line that is a whole event although its end has not come: some end with one.
    pub fn pause(&mut self) {
        let state = &mut self.state;
        if !matches!(state, State::Command(_)) {
            self.lines.pause(|line| state.line(line));
        }
    }

    /// The run's outcome. `stderr_tail`: its last few lines; `now_wall_ms` limits a reset time (RULE-33).
    pub fn finish(mut self, exit: Exit<'_>, stderr_tail: &str, now_wall_ms: i64) -> Outcome {
        let state = &mut self.state;
        self.lines.end(|line| state.line(line));
        let mut outcome = match self.state {
            State::Claude(seen) => seen.finish(exit, stderr_tail),
            State::Command(seen) => seen.finish(exit, stderr_tail),
            State::Preset(seen) => seen.finish(exit, stderr_tail),
        };
        let bound = |until: Option<i64>| {
            until.filter(|u| *u > now_wall_ms).map(|u| u.min(now_wall_ms.saturating_add(RESET_MS)))
        };
        match &mut outcome.kind {
            Kind::UsageLimit { until_ms } | Kind::Overloaded { until_ms } => *until_ms = bound(*until_ms),
            Kind::Ended | Kind::Failed | Kind::Killed | Kind::NoLogin => {}
        }
        outcome.why = one_line(&outcome.why, WHY);
        outcome.text = outcome.text.map(|t| cut(&t, TEXT).to_owned());
        outcome.denials.truncate(DENIALS);
        for denial in &mut outcome.denials {
            *denial = one_line(denial, DENIAL);
        }
        outcome
    }
}

impl State {
    fn line(&mut self, line: &[u8]) {
        match self {
            Self::Claude(seen) => seen.line(line),
            Self::Command(seen) => seen.line(line),
            Self::Preset(seen) => seen.line(line),
        }
    }
}

/// Splits chunks into lines.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
    /// The current line is too long: skip to its end.
    skipping: bool,
}

impl Lines {
    fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            let (line, rest) = bytes.split_at(end);
            self.add(line);
            self.end(&mut each);
            bytes = rest.get(1..).unwrap_or(&[]);
        }
        self.add(bytes);
    }

    fn add(&mut self, part: &[u8]) {
        if self.skipping || self.begun.len() + part.len() > LINE {
            self.skipping = true;
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(part);
        }
    }

    fn pause(&mut self, each: impl FnMut(&[u8])) {
        if !self.skipping && self.begun.trim_ascii_end().ends_with(b"}") && object(self.begun.trim_ascii()).is_some() {
            self.end(each);
        }
    }

    fn end(&mut self, mut each: impl FnMut(&[u8])) {
        let line = self.begun.trim_ascii();
        if !self.skipping && !line.is_empty() {
            each(line);
        }
        self.begun.clear();
        self.skipping = false;
    }
}

/// A line that is a JSON object; anything else is not an event.
pub(super) fn object(line: &[u8]) -> Option<Value> {
    if line.first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice::<Value>(line).ok().filter(Value::is_object)
}

/// A text field that is not empty.
pub(super) fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name).and_then(Value::as_str).filter(|t| !t.is_empty())
}

/// A count; a negative, fractional or huge value gives `None`.
pub(super) fn count(value: &Value, name: &str) -> Option<i64> {
    value.get(name).and_then(Value::as_i64).filter(|n| (0..=1 << 50).contains(n))
}

/// US dollars in millionths; `None` if it can't be an amount.
pub(super) fn micros(usd: Option<f64>) -> Option<i64> {
    let usd = usd.filter(|u| u.is_finite() && (0.0..=1e9).contains(u))?;
    #[allow(clippy::cast_possible_truncation, reason = "bounded above")]
    Some((usd * 1e6).round() as i64)
}

/// Adds what is known; two unknown values stay unknown.
pub(super) fn plus(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        (one, None) | (None, one) => one,
    }
}

/// At most `limit` bytes, cut between characters.
pub(super) fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or("")
}

/// One line without control characters, shortened with an ellipsis.
pub(super) fn one_line(text: &str, limit: usize) -> String {
    let flat: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let flat = flat.split_whitespace().collect::<Vec<_>>().join(" ");
    let short = cut(&flat, limit);
    if short.len() < flat.len() { format!("{short}…") } else { flat }
}

/// Why a process ended that is not known to have succeeded. `None`: exit code 0.
pub(super) fn ended(exit: Exit<'_>, stderr_tail: &str) -> Option<(Kind, String)> {
    if let Some(by) = exit.ended_by {
        return Some((Kind::Killed, format!("ended: {by}")));
    }
    let said = stderr_tail.lines().rev().map(str::trim).find(|l| !l.is_empty());
    let with = |what: String| said.map_or_else(|| what.clone(), |s| format!("{what}: {s}"));
    match (exit.signal, exit.code) {
        (Some(signal), _) => Some((Kind::Killed, format!("ended by signal {signal}, which orch did not send"))),
        (None, Some(0)) => None,
        (None, Some(code)) => Some((Kind::Failed, with(format!("exit code {code}")))),
        (None, None) => Some((Kind::Failed, with("how it ended is unknown".to_owned()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_whatever_the_chunks() {
        let bytes = b"one\r\n\n two \nthree";
        for size in 1..bytes.len() {
            let (mut lines, mut got) = (Lines::default(), Vec::new());
            for chunk in bytes.chunks(size) {
                lines.feed(chunk, |l| got.push(String::from_utf8_lossy(l).into_owned()));
            }
            lines.end(|l| got.push(String::from_utf8_lossy(l).into_owned()));
            assert_eq!(got, ["one", "two", "three"], "chunks of {size}");
        }
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let (mut lines, mut got) = (Lines::default(), Vec::new());
        for _ in 0..20 {
            lines.feed(&vec![b'x'; 1 << 20], |l| got.push(l.len()));
            assert!(lines.begun.capacity() <= 2 * LINE);
        }
        lines.feed(b"\nshort\n", |l| got.push(l.len()));
        assert_eq!(got, [5]);
    }

    #[test]
    fn amounts() {
        assert_eq!(micros(Some(0.1 + 0.2)), Some(300_000));
        for none in [None, Some(f64::NAN), Some(-1.0), Some(1e300)] {
            assert_eq!(micros(none), None);
        }
        assert_eq!(one_line("a\n\u{1b}[31m b", 4), "a [3…");
        assert_eq!(cut("äb", 1), "");
    }
}
