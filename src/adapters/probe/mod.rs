//! Observes what is deployed: staging checks, health probes, revisions, error counts. Every probe is bounded and
//! returns data; nothing here decides (`decide::staging`, `decide::watch`).

mod command;
mod http;
pub mod revision;
pub mod staging;
pub mod watch;

use super::child::ChildError;
use super::confine::Boundary;
use std::cell::RefCell;
use std::ffi::OsString;
use std::path::PathBuf;

/// Where and as what commands run.
#[derive(Debug)]
pub struct ProbeCtx {
    /// The checkout that commands belong to.
    pub checkout: PathBuf,
    /// An empty folder of its own: the home of checks.
    pub home: PathBuf,
    /// The operator's own environment, for the operator's commands (BND-3). `None`: only the variables that every child
    /// gets.
    pub own: Option<Vec<(OsString, OsString)>>,
    /// `ORCH_TASK`, `ORCH_STAGE`, `ORCH_REPO`, `ORCH_REVISION`, `ORCH_ATTEMPT`, as far as known.
    pub env: Vec<(String, String)>,
    /// How checks that are commands are confined, since they are the branch's code. `None`: they run under this
    /// account. The operator's own commands, such as one that asks for a revision, are never confined.
    pub confined: Option<Confined>,
    /// The protected scripts in the checkout. If one changes during a check, the check fails whatever it says (BND-5).
    pub sealed: Vec<PathBuf>,
}

/// How a check of kind `command` is confined (BND-2).
#[derive(Debug)]
pub struct Confined {
    pub boundary: Boundary,
    /// A folder out of the check's reach, where its output is written.
    pub logs: PathBuf,
    /// The variable set in every process of the run.
    pub mark: (String, String),
    /// Variables of the tool chains.
    pub env: Vec<(OsString, OsString)>,
    /// Why the engine could not start a check; then no result of the suite says anything about the branch.
    pub failed: RefCell<Option<ChildError>>,
}
