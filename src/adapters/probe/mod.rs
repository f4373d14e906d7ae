//! Looks at what is deployed: staging checks, health probes, revisions, error counts. Every look is bounded and gives
//! data; nothing here decides (`decide::staging`, `decide::watch`).

mod command;
mod http;
pub mod revision;
pub mod staging;
pub mod watch;

use std::path::PathBuf;

/// Where and as what commands run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeCtx {
    /// The checkout that commands belong to.
    pub checkout: PathBuf,
    /// An own empty folder.
    pub home: PathBuf,
    /// `ORCH_TASK`, `ORCH_STAGE`, `ORCH_REPO`, `ORCH_REVISION`, `ORCH_ATTEMPT`, as far as they are known.
    pub env: Vec<(String, String)>,
}
