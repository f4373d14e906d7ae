//! The programs that do an agent's stage (RUN-5): how each is started, and what its stdout means. One enum, one
//! contract; the supervisor starts, watches and ends the process.
//!
//! Nothing invalid reaches a command line, and nothing here can fail a run (RUN-6): unsuitable values are left out, and
//! `Launch::notes` says so.

mod claude;
mod claude_events;
mod command;
mod events;
mod presets;

use crate::model::outcome::RuntimeKind;
use crate::model::stage::Agent;
pub use claude::{CLAUDE_FLAGS, ClaudeSettings, Sandbox};
pub use command::CommandSettings;
pub use events::{Exit, Live, Reader};
pub use presets::{PresetKind, PresetSettings};
use std::ffi::OsString;
use std::path::Path;

/// A configured runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runtime {
    Claude(ClaudeSettings),
    Command(CommandSettings),
    Preset(PresetKind, PresetSettings),
}

/// Which conversation a run belongs to. Ids are UUIDs for claude; presets assign their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session<'a> {
    /// A new one, with this id if the runtime lets us choose it.
    Fresh(&'a str),
    /// The one of an earlier run of the same task and stage.
    Resume(&'a str),
}

/// What one run requests from its runtime.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub agent: Agent,
    /// The cascade of RUN-6, best first; empty texts are levels without a choice.
    pub model_candidates: &'a [String],
    /// One name, or several separated by commas; may be empty.
    pub fallback_model: &'a str,
    /// May be empty.
    pub effort: &'a str,
    /// The run's cap in US dollars; `None` or 0: no cap.
    pub max_cost_usd: Option<f64>,
    /// The runtime's own configuration folder, in the run's home (BND-3). It must exist; for a resumed conversation it
    /// contains the transcript.
    pub config_dir: &'a Path,
    pub session: Option<Session<'a>>,
    /// A file with the default branch's CLAUDE.md, to append to the system prompt (RUN-7c).
    pub trusted_rules: Option<&'a Path>,
    pub worktree: &'a Path,
}

/// How to start it. The prompt goes to stdin; the working folder is the worktree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Launch {
    /// Program first.
    pub argv: Vec<OsString>,
    /// The runtime's own additions. The configured `env` takes precedence.
    pub env: Vec<(OsString, OsString)>,
    /// The conversation's id, if known in advance.
    pub session: Option<String>,
    /// Whether `session` continues an earlier run. Only then `reader` gets that session's total.
    pub resumed: bool,
    /// The requested model; `None`: the runtime's default.
    pub model: Option<String>,
    /// Names at the top of the worktree that the runtime's sandbox covers. It may leave empty files there, which are
    /// not the agent's work.
    pub masked: Vec<&'static str>,
    /// What was left out and why, for the log.
    pub notes: Vec<String>,
}

/// Where a runtime stores one conversation, below its own folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    pub folder: &'static str,
    /// Suffix of its file name.
    pub ending: String,
}

impl Transcript {
    /// Whether a file with this name is it.
    pub fn is(&self, name: &[u8]) -> bool {
        name.ends_with(self.ending.as_bytes())
    }
}

impl Runtime {
    /// The transcript of a conversation. `None` if the runtime keeps none that can move from run to run, or if the id
    /// is malformed.
    pub fn transcript(&self, session: &str) -> Option<Transcript> {
        let folder = match self {
            Self::Claude(_) => "projects",
            Self::Preset(preset, _) => preset.transcripts()?,
            Self::Command(_) => return None,
        };
        (session.len() >= 8 && plain(session, "-_")).then(|| Transcript { folder, ending: format!("{session}.jsonl") })
    }

    /// Whether it brings a sandbox of its own, which needs namespaces.
    pub fn own_sandbox(&self) -> bool {
        match self {
            Self::Claude(settings) => settings.sandbox != Sandbox::Off,
            Self::Preset(preset, _) => preset.own_sandbox(),
            Self::Command(_) => false,
        }
    }

    pub fn kind(&self) -> RuntimeKind {
        match self {
            Self::Claude(_) => RuntimeKind::Claude,
            Self::Command(_) => RuntimeKind::Command,
            Self::Preset(preset, _) => preset.kind(),
        }
    }

    /// The command line and environment of one run. Checks files and programs; writes nothing, can't fail.
    pub fn launch(&self, request: &Request<'_>) -> Launch {
        match self {
            Self::Claude(settings) => claude::launch(settings, request),
            Self::Command(settings) => command::launch(settings, request),
            Self::Preset(preset, settings) => presets::launch(*preset, settings, request),
        }
    }

    /// Reads that run's stdout. `resumed_total_micros`: what the resumed session had cost before (`Launch::resumed`).
    pub fn reader(&self, resumed_total_micros: Option<i64>) -> Reader {
        Reader::new(match self {
            Self::Claude(_) => events::State::Claude(Box::new(claude::Seen::new(resumed_total_micros))),
            Self::Command(_) => events::State::Command(command::Seen::default()),
            Self::Preset(preset, _) => events::State::Preset(presets::Seen::new(*preset)),
        })
    }
}

/// The first candidate with the runtime's format (RUN-6); the others are noted.
fn model(
    candidates: &[String],
    fits: impl Fn(&str) -> bool,
    runtime: RuntimeKind,
    notes: &mut Vec<String>,
) -> Option<String> {
    for name in candidates.iter().map(|c| c.trim()).filter(|c| !c.is_empty()) {
        if fits(name) {
            return Some(name.to_owned());
        }
        notes.push(format!("model name {} is not valid for {runtime}; using the next level", quoted(name)));
    }
    None
}

/// A text from elsewhere, for a note.
fn quoted(text: &str) -> String {
    format!("{:?}", events::cut(text, 80))
}

/// Letters, digits and some signs, starting with a letter or digit: nothing that a command line could read as a flag.
fn plain(name: &str, signs: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || signs.contains(c))
}
