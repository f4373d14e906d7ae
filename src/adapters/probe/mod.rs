//! Looks at what is deployed: staging checks, health probes, revisions, error counts. Every look is bounded and gives
//! data; nothing here decides (`decide::staging`, `decide::watch`).

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
    /// An own empty folder: the home of checks.
    pub home: PathBuf,
    /// The operator's own environment, for commands that are the operator's (BND-3); `None`: nothing but what every child has.
    pub own: Option<Vec<(OsString, OsString)>>,
    /// `ORCH_TASK`, `ORCH_STAGE`, `ORCH_REPO`, `ORCH_REVISION`, `ORCH_ATTEMPT`, as far as they are known.
    pub env: Vec<(String, String)>,
    /// What holds checks that are commands, which are the branch's code; `None`: this account starts them. Questions of the
    /// operator's own, such as a revision's, are never held.
    pub confined: Option<Confined>,
    /// The protected scripts in the checkout: a check during which one changed has failed, whatever it says (BND-5).
    pub sealed: Vec<PathBuf>,
}

/// How a check of kind `command` is held (BND-2).
#[derive(Debug)]
pub struct Confined {
    pub boundary: Boundary,
    /// A folder that the check can't reach: its output is written there.
    pub logs: PathBuf,
    /// The variable that every process of the run carries.
    pub mark: (String, String),
    /// Variables of the tool chains.
    pub env: Vec<(OsString, OsString)>,
    /// Why the engine could not start a check: then no result of the suite says anything of the branch.
    pub failed: RefCell<Option<ChildError>>,
}
