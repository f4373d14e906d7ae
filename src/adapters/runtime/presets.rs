//! Further agent CLIs behind the same interface (RUN-5), kept thin: Codex, Gemini, OpenCode.
//!
//! None of them has a cost cap or a fallback model, and only OpenCode reports its cost.

use super::events::{Exit, Live, count, ended, micros, object, plus, text};
use super::{Launch, Request, Session, model, plain, quoted};
use crate::model::outcome::{Kind, Outcome, RuntimeKind};
use serde_json::Value;
use std::ffi::OsString;

/// Which CLI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresetKind {
    Codex,
    Gemini,
    OpenCode,
}

impl PresetKind {
    pub fn kind(self) -> RuntimeKind {
        match self {
            Self::Codex => RuntimeKind::Codex,
            Self::Gemini => RuntimeKind::Gemini,
            Self::OpenCode => RuntimeKind::OpenCode,
        }
    }

    /// The preset of this kind; `None`: it is none.
    pub fn of(kind: RuntimeKind) -> Option<Self> {
        match kind {
            RuntimeKind::Codex => Some(Self::Codex),
            RuntimeKind::Gemini => Some(Self::Gemini),
            RuntimeKind::OpenCode => Some(Self::OpenCode),
            RuntimeKind::Claude | RuntimeKind::Command => None,
        }
    }

    /// Whether it brings a sandbox of its own.
    pub(super) fn own_sandbox(self) -> bool {
        self == Self::Codex
    }

    /// The folder of its transcripts, where they can be carried from run to run.
    pub(super) fn transcripts(self) -> Option<&'static str> {
        match self {
            Self::Codex => Some("sessions"),
            Self::Gemini | Self::OpenCode => None,
        }
    }

    fn is_model(self, name: &str) -> bool {
        match self {
            Self::Codex => plain(name, ".-_:"),
            Self::Gemini => plain(name, ".-"),
            Self::OpenCode => name.split_once('/').is_some_and(|(p, m)| plain(p, ".-_") && plain(m, ".-_:/")),
        }
    }
}

/// Configuration of a preset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PresetSettings {
    /// Name or path; empty: the CLI's usual name.
    pub program: String,
    /// Appended after our own flags, unchanged.
    pub extra_args: Vec<String>,
}

pub(super) fn launch(preset: PresetKind, settings: &PresetSettings, request: &Request<'_>) -> Launch {
    let mut launch = Launch::default();
    launch.model = model(request.model_candidates, |n| preset.is_model(n), preset.kind(), &mut launch.notes);
    let usual = preset.kind().as_str();
    let mut argv: Vec<OsString> = vec![if settings.program.is_empty() { usual } else { &settings.program }.into()];
    let resume = match request.session {
        // They assign their own ids, which only their events show.
        Some(Session::Fresh(_)) | None => None,
        Some(Session::Resume(id)) if plain(id, "-_") => Some(id),
        Some(Session::Resume(id)) => {
            launch.notes.push(format!("session {} is not one of {usual}; started again", quoted(id)));
            None
        }
    };
    launch.session = resume.map(str::to_owned);
    launch.resumed = resume.is_some();
    for (set, what) in [
        (!request.effort.is_empty(), "effort"),
        (!request.fallback_model.is_empty(), "fallback model"),
        (request.max_cost_usd.is_some_and(|c| c > 0.0), "cost cap"),
        (request.trusted_rules.is_some(), "file of rules in addition to the prompt"),
    ] {
        if set {
            launch.notes.push(format!("{usual} takes no {what}; left out"));
        }
    }
    let mut add = |parts: &[&str]| argv.extend(parts.iter().map(OsString::from));
    match preset {
        PresetKind::Codex => add(&["exec", "--json", "-s", "workspace-write", "--skip-git-repo-check", "-C"]),
        PresetKind::Gemini => add(&["-o", "stream-json", "--approval-mode", "yolo", "--skip-trust"]),
        PresetKind::OpenCode => add(&["run", "--format", "json", "--dir"]),
    }
    match preset {
        PresetKind::Codex | PresetKind::OpenCode => argv.push(request.worktree.into()),
        PresetKind::Gemini => {}
    }
    let mut add = |parts: &[&str]| argv.extend(parts.iter().map(OsString::from));
    if let Some(model) = &launch.model {
        add(&["-m", model]);
    }
    add(&settings.extra_args.iter().map(String::as_str).collect::<Vec<_>>());
    match (preset, resume) {
        (PresetKind::Codex, Some(id)) => add(&["resume", id, "-"]),
        (PresetKind::Codex, None) => add(&["-"]),
        (PresetKind::Gemini, Some(id)) => add(&["-r", id, "-p", FOLLOW]),
        // stdin is placed before this text, which must not be empty.
        (PresetKind::Gemini, None) => add(&["-p", FOLLOW]),
        (PresetKind::OpenCode, Some(id)) => add(&["-s", id]),
        (PresetKind::OpenCode, None) => {}
    }
    launch.argv = argv;
    launch.env = match preset {
        PresetKind::Codex => vec![("CODEX_HOME".into(), request.config_dir.into())],
        PresetKind::Gemini => Vec::new(),
        PresetKind::OpenCode => vec![("XDG_DATA_HOME".into(), request.config_dir.into())],
    };
    launch
}

/// The exit code of `gemini` if no login method is chosen, or if the chosen one lacks something.
const GEMINI_NO_LOGIN: i32 = 41;

const FOLLOW: &str = "Follow the instructions above.";

/// What the stream has shown so far.
#[derive(Debug)]
pub(super) struct Seen {
    preset: PresetKind,
    session: Option<String>,
    model: Option<String>,
    cost_micros: Option<i64>,
    tokens_in: Option<i64>,
    tokens_out: Option<i64>,
    turns: i64,
    /// The event that ends a turn successfully arrived after the last error.
    well: bool,
    /// The event that ends the work, successful or not, was the last one about it.
    over: bool,
    error: Option<String>,
    /// The last error says that the login is missing or refused.
    no_login: bool,
    /// The model answered, or a tool ran.
    worked: bool,
    text: Option<String>,
}

impl Seen {
    pub fn new(preset: PresetKind) -> Self {
        Self {
            preset,
            session: None,
            model: None,
            cost_micros: None,
            tokens_in: None,
            tokens_out: None,
            turns: 0,
            well: false,
            over: false,
            error: None,
            no_login: false,
            worked: false,
            text: None,
        }
    }

    pub fn line(&mut self, line: &[u8]) {
        let Some(event) = object(line) else { return };
        match self.preset {
            PresetKind::Codex => self.codex(&event),
            PresetKind::Gemini => self.gemini(&event),
            PresetKind::OpenCode => self.opencode(&event),
        }
    }

    fn add(&mut self, input: Option<i64>, output: Option<i64>) {
        self.tokens_in = plus(self.tokens_in, input);
        self.tokens_out = plus(self.tokens_out, output);
        self.worked |= [self.tokens_in, self.tokens_out].iter().any(|n| n.is_some_and(|n| n > 0));
    }

    fn codex(&mut self, event: &Value) {
        match text(event, "type").unwrap_or("") {
            "thread.started" => self.session = text(event, "thread_id").map(str::to_owned),
            "turn.started" => (self.well, self.over) = (false, false),
            "turn.completed" => {
                (self.well, self.worked, self.over) = (true, true, true);
                self.turns += 1;
                if let Some(usage) = event.get("usage") {
                    // Cached tokens are part of the input.
                    self.add(count(usage, "input_tokens"), count(usage, "output_tokens"));
                }
            }
            "turn.failed" => {
                (self.well, self.over) = (false, true);
                self.error = event.get("error").and_then(|e| text(e, "message")).map(str::to_owned);
                let said = self.error.as_deref().unwrap_or("");
                let refused = ["unexpected status 401", "unexpected status 403", "Missing environment variable"];
                self.no_login = refused.iter().any(|start| said.starts_with(start));
            }
            "item.started" => (self.worked, self.over) = (true, false),
            "item.completed" => {
                let Some(item) = event.get("item") else { return };
                self.worked |= text(item, "type") != Some("error");
                // An item of type error may be harmless: the end of the turn decides.
                if text(item, "type") == Some("agent_message") {
                    self.text = text(item, "text").map(str::to_owned);
                }
            }
            _ => {}
        }
    }

    fn gemini(&mut self, event: &Value) {
        match text(event, "type").unwrap_or("") {
            "init" => {
                self.session = text(event, "session_id").map(str::to_owned);
                self.model = text(event, "model").map(str::to_owned);
            }
            "message" if text(event, "role") != Some("user") => {
                self.worked = true;
                let said = text(event, "content").unwrap_or("");
                let delta = event.get("delta") == Some(&Value::Bool(true));
                match &mut self.text {
                    Some(so_far) if delta && so_far.len() < 64 << 10 => so_far.push_str(said),
                    Some(_) if delta => {}
                    other => *other = Some(said.to_owned()),
                }
            }
            "error" => self.error = message(event).or(self.error.take()),
            "tool_use" => (self.worked, self.over) = (true, false),
            "result" => {
                (self.well, self.over) = (text(event, "status").is_none_or(|s| s == "success"), true);
                self.turns += 1;
                if !self.well {
                    self.error = event.get("error").and_then(message).or(self.error.take());
                    // It contains the service's answer as JSON; a malformed key is a bad request there.
                    let said = self.error.as_deref().unwrap_or("");
                    let refused = ["\"code\":401", "\"code\":403", "API key not valid"];
                    self.no_login = refused.iter().any(|part| said.contains(part));
                }
                if let Some(stats) = event.get("stats") {
                    self.add(count(stats, "input_tokens"), count(stats, "output_tokens"));
                }
            }
            _ => {}
        }
    }

    fn opencode(&mut self, event: &Value) {
        if self.session.is_none() {
            self.session = text(event, "sessionID").map(str::to_owned);
        }
        let part = event.get("part");
        match text(event, "type").unwrap_or("") {
            "step_start" => self.over = false,
            "step_finish" => {
                (self.well, self.worked) = (true, true);
                self.turns += 1;
                let Some(part) = part else { return };
                // A step that called tools is followed by one that reads their answers.
                self.over = text(part, "reason").is_some_and(|reason| reason != "tool-calls");
                self.cost_micros = plus(self.cost_micros, micros(part.get("cost").and_then(Value::as_f64)));
                if let Some(tokens) = part.get("tokens") {
                    let cache = tokens.get("cache");
                    let cached = plus(cache.and_then(|c| count(c, "read")), cache.and_then(|c| count(c, "write")));
                    self.add(
                        plus(count(tokens, "input"), cached),
                        plus(count(tokens, "output"), count(tokens, "reasoning")),
                    );
                }
            }
            "tool_use" => (self.worked, self.over) = (true, false),
            "text" => {
                (self.worked, self.over) = (true, false);
                self.text = part.and_then(|p| text(p, "text")).map(str::to_owned);
            }
            "error" => {
                self.over = true;
                let error = event.get("error");
                self.error = error.and_then(message).or(Some("an error event".to_owned()));
                let status = error.and_then(|e| count(e.get("data")?, "statusCode"));
                let named = error.and_then(|e| text(e, "name")) == Some("ProviderAuthError");
                self.no_login = named || matches!(status, Some(401 | 403));
            }
            _ => {}
        }
    }

    pub fn live(&self) -> Live {
        Live { cost_micros: self.cost_micros, tokens_in: self.tokens_in, tokens_out: self.tokens_out }
    }

    /// Whether the work is over by the last word so far, and whether it ended well.
    pub fn concluded(&self) -> Option<bool> {
        self.over.then_some(self.well && self.error.is_none())
    }

    /// Nothing was done because the login is missing or refused (ORD-1). A refusal after the agent had worked does not
    /// count.
    fn never_logged_in(&self, exit: Exit<'_>) -> bool {
        let by_code = self.preset == PresetKind::Gemini && exit.code == Some(GEMINI_NO_LOGIN);
        !self.worked && (self.no_login || by_code)
    }

    pub fn finish(self, exit: Exit<'_>, stderr_tail: &str) -> Outcome {
        let (kind, why) = match (ended(exit, stderr_tail), &self.error) {
            (Some((Kind::Failed, _)), Some(error)) => (Kind::Failed, error.clone()),
            (Some(bad), _) => bad,
            // Any error event means failure there, whatever the exit code.
            (None, Some(error)) if self.preset == PresetKind::OpenCode => (Kind::Failed, error.clone()),
            (None, _) if self.well => (Kind::Ended, "completed".to_owned()),
            (None, Some(error)) => (Kind::Failed, error.clone()),
            (None, None) => (Kind::Failed, "exit code 0 without the event that ends a turn".to_owned()),
        };
        let kind = if kind == Kind::Failed && self.never_logged_in(exit) { Kind::NoLogin } else { kind };
        Outcome {
            cost_micros: self.cost_micros,
            tokens_in: self.tokens_in,
            tokens_out: self.tokens_out,
            turns: (self.turns > 0).then_some(self.turns),
            model: self.model,
            session: self.session,
            text: self.text,
            ..Outcome::bare(kind, why)
        }
    }
}

/// The text of an error, which may be in one of several fields.
fn message(error: &Value) -> Option<String> {
    let inner = error.get("data").and_then(|d| text(d, "message"));
    let said = text(error, "message").or(inner).or_else(|| text(error, "name")).or_else(|| error.as_str());
    said.map(str::to_owned)
}

#[cfg(test)]
#[path = "presets_tests.rs"]
mod tests;
