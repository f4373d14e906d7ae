//! What to probe, as plain values: staging checks (SHIP-3), revision (SHIP-4), the watch's targets (SHIP-6).

use std::path::PathBuf;

/// A declared check. `id` is unique in its list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckSpec {
    pub id: String,
    pub name: Option<String>,
    /// Longest wait for one try, in milliseconds.
    pub timeout_ms: u64,
    pub kind: CheckKind,
}

/// What a check probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    /// `retries`: further tries after a failed one. `expect_body`: a text that the body must contain; empty: none.
    Http { url: String, expect_status: u16, expect_body: String, retries: u32 },
    /// Passes with exit 0.
    Command(CommandSpec),
    /// `host:port` that accepts a connection.
    Tcp { address: String },
    /// A SQLite file, opened read-only. `expect`: the first column of the first row, as text; `None`: any row.
    Sql { database: PathBuf, query: String, expect: Option<String> },
}

/// A program started by argv, never through a shell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandSpec {
    pub argv: Vec<String>,
    /// `None`: the checkout of the run.
    pub cwd: Option<PathBuf>,
    /// It runs on this machine even where the branch's other code does not.
    pub here: bool,
    /// On top of the few variables every child gets; the values may be secret.
    pub env: Vec<(String, String)>,
}

/// How to ask for the running revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevisionSpec {
    /// `field`: a key of the JSON answer, dots go deeper; `None`: the whole body is the revision.
    Url { url: String, field: Option<String>, timeout_ms: u64 },
    /// The first word it prints.
    Command { command: CommandSpec, timeout_ms: u64 },
}

/// Where the 5xx share comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ErrorSpec {
    /// The health URLs' own answers.
    #[default]
    Own,
    /// Prints `{"requests": n, "errors_5xx": n}`, counters that only grow.
    Command { command: CommandSpec, timeout_ms: u64 },
    /// Two instant queries at a Prometheus server: counters, or what happened in a window.
    Prometheus { url: String, requests: String, errors_5xx: String, window: bool, timeout_ms: u64 },
}

/// One health URL and what is expected of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthSpec {
    pub url: String,
    /// `None`: any 2xx.
    pub expect_status: Option<u16>,
    /// A text that the body must contain; empty: none.
    pub expect_body: String,
    /// 0: no limit.
    pub max_latency_ms: u64,
    pub timeout_ms: u64,
}

/// Everything that one observation of the watch asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchTarget {
    pub health: Vec<HealthSpec>,
    pub revision: Option<RevisionSpec>,
    pub control: Option<String>,
    pub errors: ErrorSpec,
}
