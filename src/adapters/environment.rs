//! What of this process's own environment a child sees, by what it is (BND-3, BND-6, CFG-1): the one table. Whoever starts
//! it adds what is the child's own. The operator's commands, which see all but secrets, are `engine::operator`'s.

use super::{modes, net};
use std::ffi::OsString;

/// Whose child it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// An agent, a check, whatever a branch says: language, zone and user, a search path without places that others may
    /// write, the way to the network. Home and temporary folder are the run's own.
    Run,
    /// A probe of the operator's: as a run, in the temporary folder of this process.
    Probe,
    /// A scanner or auditor, which is orch's own choice: what it is found by, language and zone, the way to the network.
    Tool,
    /// git: what it and its helpers are found by. The network is worked out for each remote.
    Git,
    /// git that talks to a remote: its ssh may ask the agent.
    GitRemote,
}

impl Policy {
    fn passes(self, name: &str) -> bool {
        match self {
            Self::Run => matches!(name, "LANG" | "TZ" | "USER") || name.starts_with("LC_"),
            Self::Probe => name == "TMPDIR" || Self::Run.passes(name),
            Self::Tool => matches!(name, "PATH" | "LANG" | "TZ"),
            Self::Git => matches!(name, "PATH" | "TMPDIR"),
            Self::GitRemote => name == "SSH_AUTH_SOCK" || Self::Git.passes(name),
        }
    }

    /// Names and values. Without a name that is no text.
    pub fn env(self) -> Vec<(OsString, OsString)> {
        let own = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(|name| self.passes(name)));
        let mut env: Vec<_> = own.collect();
        match self {
            Self::Run | Self::Probe => {
                env.extend(modes::search_path().map(|path| (OsString::from("PATH"), path)));
                env.extend(net::child_env());
            }
            Self::Tool => env.extend(net::child_env()),
            Self::Git | Self::GitRemote => {}
        }
        env
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bnd_3_each_child_sees_what_its_policy_says_and_no_more() {
        let all = [
            "ANTHROPIC_API_KEY",
            "DBUS_SESSION_BUS_ADDRESS",
            "GIT_DIR",
            "HOME",
            "LANG",
            "LC_ALL",
            "LD_PRELOAD",
            "ORCH_CONFIG",
            "PATH",
            "SSH_AUTH_SOCK",
            "TMPDIR",
            "TZ",
            "USER",
        ];
        for (policy, sees) in [
            (Policy::Run, vec!["LANG", "LC_ALL", "TZ", "USER"]),
            (Policy::Probe, vec!["LANG", "LC_ALL", "TMPDIR", "TZ", "USER"]),
            (Policy::Tool, vec!["LANG", "PATH", "TZ"]),
            (Policy::Git, vec!["PATH", "TMPDIR"]),
            (Policy::GitRemote, vec!["PATH", "SSH_AUTH_SOCK", "TMPDIR"]),
        ] {
            let passed: Vec<&str> = all.into_iter().filter(|name| policy.passes(name)).collect();
            assert_eq!(passed, sees, "{policy:?}");
        }
    }
}
