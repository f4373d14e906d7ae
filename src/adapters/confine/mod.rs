//! The one confinement (BND-2): every process of an agent and all code of a branch starts through it.

mod address;
mod bubblewrap;
mod choose;
mod exec;
mod fence;
mod filter;
mod meter;
mod paths;
mod plan;
mod proxy;
mod reach;
mod room;
mod start;
mod upstream;

pub use choose::{Probe, engine, forget};
pub use exec::exec;
pub use meter::Meter;
pub use proxy::{Proxy, proxy};
pub use reach::reaches;
pub use start::{Gate, NotStarted, Order, Prepared};

use super::child::Elsewhere;
use crate::model::confine::{Held, Policy};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// The hidden subcommand that starts right before a confined command.
const EXEC: &str = "confine-exec";
/// Path of `orch` inside bubblewrap: at the root, where no named path can cover it.
const INSIDE: &str = "/.orch/orch";

/// Where the proxy listens in a run's own network.
const PROXY_PORT: u16 = 3128;

/// The engine chosen to confine a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    Bubblewrap {
        program: PathBuf,
        /// It supports `--disable-userns` and `--size` (0.8).
        modern: bool,
    },
    Landlock,
    Command {
        argv: Vec<String>,
    },
    /// `mode: off`, or `auto` without a working engine.
    None,
}

impl Engine {
    /// Its name in output.
    pub const fn held(&self) -> Held {
        match self {
            Self::Bubblewrap { .. } => Held::Bubblewrap,
            Self::Landlock => Held::Landlock,
            Self::Command { .. } => Held::Command,
            Self::None => Held::Unconfined,
        }
    }
}

/// Why nothing may start, and what would help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}; {way_out}")]
pub struct NoEngine {
    pub why: String,
    pub way_out: String,
}

/// Who starts a child.
#[derive(Debug, Clone)]
pub enum Boundary {
    /// The operator's account, with all its rights.
    Operator,
    /// An agent, or code of a branch.
    Run(Box<Run>),
    /// The same, on another machine.
    Away(Box<Run>, Arc<dyn Elsewhere>),
}

impl Boundary {
    /// The same on this machine: what is held elsewhere is held here.
    #[must_use]
    pub fn here(&self) -> Self {
        if let Self::Away(run, _) = self { Self::Run(run.clone()) } else { self.clone() }
    }
}

/// One confined command: what confines it and what it can reach. Reads as its bounds, which most code asks for.
#[derive(Debug, Clone)]
pub struct Run {
    pub engine: Engine,
    /// What the engine was chosen with. Its answer is forgotten if it can't start this run.
    pub probe: Probe,
    pub bounds: Bounds,
}

impl std::ops::Deref for Run {
    type Target = Bounds;

    fn deref(&self) -> &Bounds {
        &self.bounds
    }
}

/// What a confined command can reach, whichever machine it runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    pub policy: Policy,
    /// The three folders that it may write to.
    pub checkout: PathBuf,
    pub home: PathBuf,
    pub tmp: PathBuf,
    /// Tool chains, authorities and the like, read-only, in addition to the system and `policy.read`. A missing one is
    /// skipped.
    pub read: Vec<PathBuf>,
    /// Never visible, even if a folder above is named: the state directory, the configuration, secret files.
    pub hidden: Vec<PathBuf>,
    /// Paths below the checkout that are mounted read-only (protected scripts).
    pub frozen: Vec<PathBuf>,
    /// When running as root: the account that the command runs as. It owns the three folders.
    pub uid: Option<u32>,
    /// The runtime has a sandbox of its own and needs namespaces.
    pub own_sandbox: bool,
}
