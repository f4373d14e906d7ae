//! The only file that prints. A closed stdout is not an error (CLI-5); any other write that fails is exit 3 (CLI-1).

use super::exit::{Exit, Failure};
use super::progress;
use crate::adapters::pager;
use crate::model::redact;
use crate::model::report::{ErrorLine, Rule, StepReport};
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::json;
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where results go: as text, or as one JSON document.
#[derive(Debug)]
pub struct Output {
    json: bool,
    /// Whether lines for people are coloured (DSK-1).
    colour: bool,
    closed: AtomicBool,
    /// Why some requested output is not on stdout.
    write_error: OnceLock<String>,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json, colour: false, closed: AtomicBool::new(false), write_error: OnceLock::new() }
    }

    /// The output of a call, as set by its options and the environment.
    pub fn of(global: &super::Global) -> Self {
        Self { colour: super::colour::of(global, std::io::stdout().is_terminal()), ..Self::new(global.json) }
    }

    /// Whether lines for people are coloured.
    pub fn is_coloured(&self) -> bool {
        self.colour
    }

    /// Whether `--json` was given: then only [`Output::document`] may write to stdout.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// One line for people on stdout; silent with `--json`.
    pub fn line(&self, text: impl AsRef<str>) {
        if !self.json {
            self.raw(&format!("{}\n", text.as_ref()));
        }
    }

    /// Text on stdout without secrets, otherwise unchanged, in either form (a scan's SARIF, a schema, a script).
    pub fn raw(&self, text: &str) {
        progress::end();
        let mut stdout = std::io::stdout().lock();
        self.note(write_whole(&mut stdout, redact::current().text(text).as_bytes()));
    }

    /// clap's own text in its own colours: help and version on stdout, usage errors on stderr.
    pub fn clap(&self, error: &clap::Error) {
        let done = error.print().and_then(|()| std::io::stdout().flush());
        if !error.use_stderr() {
            self.note(done);
        }
    }

    fn note(&self, done: std::io::Result<()>) {
        let Err(error) = done else { return };
        self.closed.store(true, Ordering::Relaxed);
        if error.kind() != ErrorKind::BrokenPipe {
            let _ = self.write_error.set(error.to_string());
        }
    }

    /// The exit code of a call that would have exited with `exit`: if its result could not be written, exit 3 with a
    /// sentence.
    pub fn ended(&self, exit: Exit) -> Exit {
        let Some(why) = self.write_error.get() else { return exit };
        self.complain(
            &format!("the result can't be written to stdout: {why}"),
            Some("the changes were made; free some space or name another place, then run it again to see the result"),
        );
        match exit {
            Exit::Done | Exit::Negative | Exit::Broken => Exit::Broken,
            // These say that nothing was done, which is still true.
            Exit::Usage | Exit::Refused | Exit::Child(_) => exit,
        }
    }

    /// A text that may be longer than a screen: in the person's pager on a terminal, otherwise printed directly.
    pub fn page(&self, text: &str) {
        let pager = self.is_terminal().then(|| pager::wanted(|name| std::env::var(name).ok())).flatten();
        if !pager.is_some_and(|line| pager::show(&line, &redact::current().text(text))) {
            self.raw(text);
        }
    }

    /// Whether a write to stdout failed because nobody reads it any more.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub fn is_terminal(&self) -> bool {
        std::io::stdout().is_terminal()
    }

    /// Whether a person watches this call on a terminal: it prints text, and its stderr is one.
    pub fn is_watched(&self) -> bool {
        !self.json && self.is_error_terminal()
    }

    pub fn is_error_terminal(&self) -> bool {
        std::io::stderr().is_terminal()
    }

    /// Columns of the terminal, else `COLUMNS`, else `None`: nothing is cut or wrapped.
    pub fn columns(&self) -> Option<usize> {
        let named = || std::env::var("COLUMNS").ok()?.trim().parse().ok().filter(|c| *c > 0);
        self.size().map(|(columns, _)| columns).or_else(named)
    }

    /// Columns and rows of the terminal; `None`: stdout is not a terminal, or gives no size.
    pub fn size(&self) -> Option<(usize, usize)> {
        if !self.is_terminal() {
            return None;
        }
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
        (size.ws_col > 0 && size.ws_row > 0).then(|| (usize::from(size.ws_col), usize::from(size.ws_row)))
    }

    /// The one JSON document of this call.
    pub fn document(&self, value: &impl serde::Serialize) {
        let text = serde_json::to_string(value)
            .unwrap_or_else(|e| json!({"errors": [{"code": 3, "message": e.to_string()}]}).to_string());
        self.raw(&format!("{text}\n"));
    }

    /// The one answer of a call: its document with `--json`, else a line for people.
    pub fn say(&self, document: &impl serde::Serialize, text: &str) {
        if self.json {
            self.document(document);
        } else {
            self.line(text);
        }
    }

    /// A step's report: its JSON object, or its actions, holds and faults as text.
    pub fn step(&self, report: &StepReport) {
        if self.json {
            self.document(report);
            return;
        }
        for a in &report.actions {
            let detail: Vec<String> = a.detail.iter().map(|(k, v)| format!("{k}={}", plain(v))).collect();
            self.line(
                format!("{:<12} {:<18} {}", a.task.as_deref().unwrap_or("-"), a.kind.as_str(), detail.join(" "))
                    .trim_end(),
            );
        }
        for h in &report.skipped {
            let until = h.until.as_deref().map(|u| format!(" (until {u})")).unwrap_or_default();
            let task = h.task.as_deref().unwrap_or("-");
            self.line(if h.rule == Rule::Terminal {
                format!("{task:<12} ended: {}", h.why)
            } else {
                format!("{task:<12} waits: {} - {}{until}", h.rule, h.why)
            });
        }
        if report.is_idle() {
            let now = report.at_work.as_ref().map(|at| format!(" now: {at}")).unwrap_or_default();
            self.line(format!("{}: nothing to do{now}", report.step));
        }
        for n in &report.notices {
            self.line(format!("note: {n}"));
        }
        for e in &report.errors {
            self.complain(&e.message, e.hint.as_deref());
        }
    }

    /// A failure on stderr for people; with `--json` the step's whole object, or for another subcommand `errors` alone.
    pub fn failure(&self, step: Option<&'static str>, failure: &Failure) {
        if !self.json {
            self.complain(&failure.message, failure.hint.as_deref());
            return;
        }
        let line = ErrorLine {
            code: failure.exit.code(),
            message: failure.message.clone(),
            hint: failure.hint.clone(),
            task: failure.task.clone(),
        };
        let Some(step) = step else {
            self.document(&json!({"errors": [line]}));
            return;
        };
        let mut report = StepReport::new(step);
        report.errors.push(line);
        unlooked(&mut report);
        self.document(&report);
    }

    /// What an observing command would do (`--dry-run`), one line each: nothing is observed and there is no verdict.
    pub fn planned(&self, step: &'static str, planned_lines: &[String]) {
        if !self.json {
            planned_lines.iter().for_each(|l| self.line(format!("would {l}")));
            return;
        }
        let mut report = StepReport::new(step);
        unlooked(&mut report);
        report.extra.insert("planned".to_owned(), json!(planned_lines));
        self.document(&report);
    }

    /// Only the failures of a step's report (`-q`, ORD-4); with `--json` all of it.
    pub fn faults(&self, report: &StepReport) {
        if self.json {
            self.document(report);
        } else {
            report.errors.iter().for_each(|e| self.complain(&e.message, e.hint.as_deref()));
        }
    }

    /// A question to a person on the terminal, without a line break: the answer goes after it.
    pub fn ask(&self, question: &str) {
        progress::end();
        let mut stderr = std::io::stderr().lock();
        let _ = write!(stderr, "{}", redact::current().text(question)).and_then(|()| stderr.flush());
    }

    /// What is done next and may take over a second, for people: a line on stderr, where no terminal shows it otherwise
    /// (CLI-5).
    pub fn under_way(&self, what: &str) {
        if !self.json && !self.is_error_terminal() {
            self.complain(what, None);
        }
    }

    /// A line on stderr, in addition to stdout; also works before logging has started.
    pub fn to_stderr(&self, text: &str) {
        self.complain(text, None);
    }

    fn complain(&self, message: &str, hint: Option<&str>) {
        let known = redact::current();
        let (message, hint) = (known.text(message), hint.map(|hint| known.text(hint)));
        progress::end();
        let mut stderr = std::io::stderr().lock();
        let _ = writeln!(stderr, "orch: {message}");
        if let Some(hint) = hint {
            let _ = writeln!(stderr, "  {hint}");
        }
    }
}

/// Writes all of it, even to a pipe that its reader has set to non-blocking.
fn write_whole(to: &mut (impl Write + AsFd), mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => bytes = bytes.get(n..).unwrap_or(&[]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => wait_for_room(to)?,
            Err(e) => return Err(e),
        }
    }
    loop {
        match to.flush() {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => wait_for_room(to)?,
            done => return done,
        }
    }
}

fn wait_for_room(to: &impl AsFd) -> std::io::Result<()> {
    match poll(&mut [PollFd::new(to, PollFlags::OUT)], None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Adds the fields that the three observing steps have, empty.
fn unlooked(report: &mut StepReport) {
    let own = match report.step {
        "security-scan" => "findings",
        "staging-check" => "checks",
        "post-deploy-probe" => "probes",
        _ => return,
    };
    report.extra.insert("verdict".to_owned(), json!(null));
    report.extra.insert(own.to_owned(), json!([]));
}

/// A JSON value as text.
pub fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// An RFC 3339 time as a person's local time (CLI-5). Any other text is returned unchanged.
pub fn local(rfc3339: &str) -> String {
    crate::render::cells::local(rfc3339, &jiff::tz::TimeZone::system())
}
