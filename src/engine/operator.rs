//! The environment of the operator's own commands (BND-3): deploy, staging deploy, `staging.revision`, rollback, errors
//! and revision of the watch, notify. kubectl, aws and docker keep their settings in the operator's home.

use crate::adapters::{accounts, modes, net};
use crate::config::{Config, OF_A_RUN, SecretRef};
use crate::model::task::Task;
use std::collections::BTreeSet;
use std::ffi::OsString;

/// Variables that a service manager sets only for the process it started.
const OF_THE_UNIT: [&str; 8] = [
    "NOTIFY_SOCKET",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "JOURNAL_STREAM",
    "INVOCATION_ID",
];

/// The real home and environment without the variables from which any section's secret is read: a command gets the
/// secrets of its own section through `env`.
pub fn env(config: &Config) -> Vec<(OsString, OsString)> {
    let secrets = config.secrets().into_iter().filter_map(|(_, from)| match from {
        SecretRef::Env(name) => Some(name.as_str()),
        SecretRef::File(_) | SecretRef::Command(_) => None,
    });
    let home = accounts::home(rustix::process::geteuid().as_raw()).map(OsString::from);
    let mut env = kept(std::env::vars_os(), &secrets.collect(), home);
    env.extend(modes::search_path().map(|path| (OsString::from("PATH"), path)));
    env.extend(net::child_env());
    env
}

fn kept(
    all: impl Iterator<Item = (OsString, OsString)>,
    secrets: &BTreeSet<&str>,
    home: Option<OsString>,
) -> Vec<(OsString, OsString)> {
    let passed = |name: &OsString| match name.to_str() {
        Some(name) => {
            let not_its_own = OF_THE_UNIT.contains(&name) || OF_A_RUN.contains(&name);
            name != "PATH" && !secrets.contains(name) && !not_its_own
        }
        None => true,
    };
    let mut env: Vec<_> = all.filter(|(name, _)| passed(name)).collect();
    if !env.iter().any(|(name, _)| name == "HOME") {
        env.extend(home.map(|home| (OsString::from("HOME"), home)));
    }
    env
}

/// The same with the variables for every child of a task (CFG-1).
pub fn env_of_task(config: &Config, task: &Task, stage: &str, revision: &str) -> Vec<(OsString, OsString)> {
    let own = task_env(task, stage, revision).into_iter().map(|(name, value)| (name.into(), value.into()));
    env(config).into_iter().chain(own).collect()
}

/// The variables for every child of a task (CFG-1).
pub fn task_env(task: &Task, stage: &str, revision: &str) -> Vec<(String, String)> {
    let all = [
        ("ORCH_TASK", task.key.as_str()),
        ("ORCH_STAGE", stage),
        ("ORCH_REPO", task.repo.as_str()),
        ("ORCH_REVISION", revision),
    ];
    let mut env: Vec<(String, String)> = all.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    env.push(("ORCH_ATTEMPT".to_owned(), task.attempt.to_string()));
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bnd_3_the_operators_environment_is_kept_less_secrets_and_what_is_the_units_own() {
        let all = [
            ("HOME", "/home/ann"),
            ("KUBECONFIG", "/k"),
            ("PLANE_KEY", "s"),
            ("NOTIFY_SOCKET", "/run/n"),
            ("PATH", "."),
            ("ORCH_DEPLOY_NONCE", "n"),
        ];
        let pairs = |all: &[(&str, &str)]| all.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect::<Vec<_>>();
        let secrets = BTreeSet::from(["PLANE_KEY"]);
        let got = kept(pairs(&all).into_iter(), &secrets, Some("/root".into()));
        assert_eq!(got, pairs(&[("HOME", "/home/ann"), ("KUBECONFIG", "/k")]));
        // A timer's process may have no home.
        let got = kept(pairs(&all[1..2]).into_iter(), &secrets, Some("/root".into()));
        assert_eq!(got, pairs(&[("KUBECONFIG", "/k"), ("HOME", "/root")]));
    }
}
