//! How processes of agents and of branches are confined (BND-2): the configured policy, and which engine confines a
//! run.

use super::stage::{Agent, words};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

words! {
    /// Whether runs must be confined. From the loosest to the strictest.
    #[derive(Default)]
    Mode {
        /// Never; shown everywhere as *unconfined*.
        Off = "off",
        /// Where an engine is available; else *unconfined*.
        Auto = "auto",
        /// Without an engine nothing starts: rule `confinement`.
        #[default]
        Required = "required",
    }
}

words! {
    /// The engine asked for.
    #[derive(Default)]
    Choice {
        /// bubblewrap where it works, else Landlock.
        #[default]
        Auto = "auto",
        Bubblewrap = "bubblewrap",
        Landlock = "landlock",
        /// The operator's own wrapper.
        Command = "command",
    }
}

/// What a run reaches of the network. From the loosest to the strictest.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Network {
    /// Everything the operator's account reaches, this machine's own ports included.
    #[default]
    Open,
    /// Global addresses only, through the proxy.
    Internet,
    /// These and no others, through the proxy.
    Hosts(Vec<Host>),
    /// Nothing.
    Closed,
}

/// One `NAME:PORT` of `confine.hosts`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Host {
    /// A host name in lower case, or an address; an IPv6 address without its brackets.
    pub name: String,
    pub port: u16,
}

impl FromStr for Host {
    type Err = String;

    /// Reads `NAME:PORT` or `[ADDRESS]:PORT`. Fails with one sentence where name or port is missing or malformed.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not NAME:PORT");
        let (name, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let name = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        let port: u16 = port.parse().map_err(|_| wrong())?;
        if name.is_empty() || port == 0 || !name.chars().all(plain) || name.contains(':') != text.starts_with('[') {
            return Err(wrong());
        }
        Ok(Self { name: name.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

/// The most that one run may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Of all its processes together, in MiB.
    pub memory_mb: u64,
    pub processes: u64,
    /// In its folders.
    pub files: u64,
    /// Of its folders together, in MiB.
    pub disk_mb: u64,
    /// Of the caches that it begins with, in MiB (BND-3); 0: it begins with none.
    pub cache_copy_max_mb: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_mb: 8192, processes: 512, files: 1_000_000, disk_mb: 10_240, cache_copy_max_mb: 2048 }
    }
}

/// `confine`, effective for one project and runtime.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Policy {
    pub mode: Mode,
    pub choice: Choice,
    /// With [`Choice::Command`]: the wrapper and its arguments, `{worktree}`, `{home}`, `{tmp}` not yet replaced.
    pub command: Vec<String>,
    pub network: Network,
    /// Further paths to read, absolute.
    pub read: Vec<PathBuf>,
    /// Further paths to write, absolute.
    pub write: Vec<PathBuf>,
    /// As root: the account of the run. Empty: each run gets its own uid, from `uid_base`.
    pub user: String,
    pub uid_base: u32,
    pub limits: Limits,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            choice: Choice::default(),
            command: Vec::new(),
            network: Network::default(),
            read: Vec::new(),
            write: Vec::new(),
            user: String::new(),
            uid_base: 2_000_000_000,
            limits: Limits::default(),
        }
    }
}

/// What confines a run, as card, `status`, audit and `doctor` show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    Bubblewrap,
    Landlock,
    Command,
    /// Nothing.
    Unconfined,
}

impl Held {
    /// The word in JSON and in the audit.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bubblewrap => "bubblewrap",
            Self::Landlock => "landlock",
            Self::Command => "command",
            Self::Unconfined => "unconfined",
        }
    }
}

/// What confines one project's commands (`agent` is `None`) or one of its agents, as a step last found it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RunConfinement {
    /// The project's key.
    pub project: String,
    pub agent: Option<Agent>,
    /// `None`: nothing of it may start, and `why` says so with the way out.
    pub held: Option<Held>,
    pub why: Option<String>,
    /// `network: open`: a choice, and shown like *unconfined*.
    pub open: bool,
}

impl RunConfinement {
    /// The entry for a project's agent, or for its commands.
    pub fn find<'s>(all: &'s [Self], project: &str, agent: Option<Agent>) -> Option<&'s Self> {
        all.iter().find(|s| s.project == project && s.agent == agent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_and_a_port() {
        for (text, name) in
            [("Api.Example.org:443", "api.example.org"), ("[::1]:80", "::1"), ("10.0.0.1:8080", "10.0.0.1")]
        {
            let host: Host = text.parse().unwrap();
            assert_eq!(host.name, name);
            assert_eq!(host.to_string().parse::<Host>().unwrap(), host);
        }
        for text in [
            "",
            "example.org",
            "example.org:",
            ":443",
            "example.org:0",
            "example.org:70000",
            "a b:1",
            "::1:80",
            "https://x:1",
        ] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }
}
