//! What a child sees of this process's own environment, by the kind of child (BND-3, BND-6, CFG-1): the only table.
//! Whoever starts the child adds its own variables. `engine::operator` handles the operator's commands, which see all
//! but secrets.

use super::{modes, net};
use std::ffi::OsString;

/// The kind of child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// An agent, a check, any code of a branch: language, zone and user, a search path without places where others may
    /// write, and the network settings. Home and temporary folder are the run's own.
    Run,
    /// One of the operator's probes: as a run, in the temporary folder of this process.
    Probe,
    /// A scanner or auditor, which is orch's own choice: its search path, language and zone, and the network settings.
    Tool,
    /// git: the search path for it and its helpers. The network settings are worked out for each remote.
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

    /// Names and values. Names that are not text are left out.
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
