//! Which engine holds a run (BND-2): what the policy asks for, and what this machine can do.

use super::{Engine, NoEngine};
use crate::adapters::accounts;
use crate::model::confine::{Mode, Policy};
use std::path::{Path, PathBuf};

/// What the choice depends on besides the policy.
#[derive(Debug, Clone)]
pub struct Probe {
    /// A folder of the state directory, made where it is missing: what each engine answered.
    pub folder: PathBuf,
    /// Other accounts that somebody can log in to ([`accounts::other_logins`]).
    pub others: Vec<String>,
    /// Whether this process is root.
    pub root: bool,
    /// `orch` itself, which is the last program before each command.
    pub program: PathBuf,
}

impl Probe {
    /// This machine and this account, with the answers in `folder`.
    ///
    /// # Errors
    /// This program's own file can't be told.
    pub fn here(folder: PathBuf) -> std::io::Result<Self> {
        let program = std::env::current_exe()?;
        Ok(Self { folder, others: accounts::other_logins(), root: rustix::process::geteuid().is_root(), program })
    }
}

/// The engine for `policy` on this machine. A yes is remembered for boot, program and its state; a no is asked again at
/// most every 10 s.
///
/// # Errors
/// [`NoEngine`] where the policy demands one and none holds it.
pub fn engine(policy: &Policy, _probe: &Probe) -> Result<Engine, NoEngine> {
    match policy.mode {
        Mode::Off | Mode::Auto => Ok(Engine::None),
        Mode::Required => {
            Err(NoEngine { why: "no engine is built in yet".to_owned(), way_out: "set confine.mode to off".to_owned() })
        }
    }
}

/// Forgets what was answered: the engine could not start a run.
pub fn forget(folder: &Path) {
    let _ = std::fs::remove_dir_all(folder);
}
