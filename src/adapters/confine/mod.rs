//! The one confinement (BND-2): every process of an agent and every piece of a branch's code starts through it.

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
use std::path::PathBuf;
use std::sync::Arc;

/// The hidden subcommand that is the last program before a confined command.
const EXEC: &str = "confine-exec";
/// Where `orch` stands inside bubblewrap: at the root, where no named path can cover it.
const INSIDE: &str = "/.orch/orch";

/// Where the proxy listens in a run's own network.
const PROXY_PORT: u16 = 3128;

/// What was chosen to hold a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    Bubblewrap {
        program: PathBuf,
        /// It knows `--disable-userns` and `--size` (0.8).
        modern: bool,
    },
    Landlock,
    Command {
        argv: Vec<String>,
    },
    /// `mode: off`, or `auto` where there is none.
    None,
}

impl Engine {
    /// How it is shown.
    pub const fn held(&self) -> Held {
        match self {
            Self::Bubblewrap { .. } => Held::Bubblewrap,
            Self::Landlock => Held::Landlock,
            Self::Command { .. } => Held::Command,
            Self::None => Held::Unconfined,
        }
    }
}

/// Why nothing may start, and what helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}; {way_out}")]
pub struct NoEngine {
    pub why: String,
    pub way_out: String,
}

/// Who starts a child.
#[derive(Debug, Clone)]
pub enum Boundary {
    /// The operator's account, with all that it may.
    Operator,
    /// An agent or a branch's code.
    Run(Box<Run>),
    /// The same, on another machine.
    Away(Box<Run>, Arc<dyn Elsewhere>),
}

/// One confined command: what it is held by and what it reaches.
#[derive(Debug, Clone)]
pub struct Run {
    pub engine: Engine,
    pub policy: Policy,
    /// The three folders it may write.
    pub checkout: PathBuf,
    pub home: PathBuf,
    pub tmp: PathBuf,
    /// Tool chains, authorities and such, read-only, besides the system and `policy.read`. One that is not there is passed over.
    pub read: Vec<PathBuf>,
    /// Never there, also where something above them is named: the state directory, the configuration, secret files.
    pub hidden: Vec<PathBuf>,
    /// Below the checkout: bound read-only (protected scripts).
    pub frozen: Vec<PathBuf>,
    /// As root: the account the command runs as, which owns the three folders.
    pub uid: Option<u32>,
    /// The runtime brings a sandbox of its own and needs namespaces.
    pub own_sandbox: bool,
    /// What the engine was chosen with; its answer is forgotten when it can't start this run.
    pub probe: Probe,
}
