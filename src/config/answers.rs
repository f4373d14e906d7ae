//! Questions that other modules ask of a configuration.

use super::secret::{EnvValue, SecretRef};
use super::types::{AgentOverride, AgentSettings, Config, Errors, Project, Revision, Runtime, Scope};
use crate::model::ids::Key;
use crate::model::parts;
use crate::model::probe::CheckKind;
use crate::model::protected::named_by;
use crate::model::stage::Agent;
use crate::model::watch::WatchPolicy;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SelfHosting => Ok(()),
            Self::All => f.write_str("*"),
            Self::Repos(names) => f.write_str(&names.join(",")),
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl Config {
    /// One agent's settings, with its overrides and the environment's per-agent variables applied.
    pub fn agent(&self, agent: Agent) -> AgentSettings {
        let all = &self.agents;
        let none = AgentOverride::default();
        let own = all.overrides.get(&agent).unwrap_or(&none);
        let cascade = |own: &Option<String>, all: &String| {
            let mut names: Vec<String> = own.iter().chain([all]).filter(|n| !n.trim().is_empty()).cloned().collect();
            names.dedup();
            names
        };
        AgentSettings {
            runtime: own.runtime.clone().unwrap_or_else(|| all.runtime.clone()),
            models: cascade(&own.model, &all.model),
            effort: own.effort.clone().filter(|e| !e.is_empty()).unwrap_or_else(|| all.effort.clone()),
            fallback_models: cascade(&own.fallback_model, &all.fallback_model),
            timeout_s: own.timeout_s.unwrap_or(all.timeout_s),
            stall_s: own.stall_s.unwrap_or(all.stall_s),
            stop_grace_s: own.stop_grace_s.unwrap_or(all.stop_grace_s),
            linger_s: all.linger_s,
            run_retries: own.run_retries.unwrap_or(all.run_retries),
            retry_backoff_s: own.retry_backoff_s.unwrap_or(all.retry_backoff_s),
            max_diff_lines: own.max_diff_lines.unwrap_or(all.max_diff_lines),
            max_cost_usd: own.max_cost_usd.unwrap_or(all.max_cost_usd),
        }
    }

    /// The folders that a step or a supervisor itself writes to: the state directory, the area of runs, boards
    /// elsewhere, and repositories on this machine, to which it pushes. Each is listed once, and none below the state
    /// directory.
    pub fn writable(&self) -> Vec<PathBuf> {
        let mut all = vec![self.state_dir.clone(), self.area_dir.clone()];
        for project in &self.projects {
            let remote = Path::new(project.git.remote.trim_start_matches("file://"));
            for path in project.board.folder().into_iter().chain(remote.is_absolute().then_some(remote)) {
                if !path.starts_with(&self.state_dir) && !all.iter().any(|known| known == path) {
                    all.push(path.to_owned());
                }
            }
        }
        all
    }

    /// Whether any agent uses the runtime with this name.
    pub fn plays(&self, runtime: &str) -> bool {
        Agent::ALL.iter().any(|a| self.agent(*a).runtime == runtime)
    }

    /// The runtime of an agent. Never `None` for a loaded configuration, which was checked.
    pub fn runtime(&self, agent: Agent) -> Option<&Runtime> {
        self.runtimes.get(&self.agent(agent).runtime)
    }

    /// The project with this key (in any letter case) or repo name.
    pub fn project(&self, name: &str) -> Option<&Project> {
        self.projects.iter().find(|p| p.key.eq_ignore_ascii_case(name) || p.repo == name)
    }

    /// The project a work item belongs to.
    pub fn project_of(&self, key: &Key) -> Option<&Project> {
        self.projects.iter().find(|p| p.key == key.prefix())
    }

    /// Whether a scope covers a project: an empty one covers only self-hosting projects, `*` covers all (CFG-2).
    pub fn in_scope(&self, scope: &Scope, project: &Project) -> bool {
        scope.covers(project)
    }

    /// Every reference to a secret with its path, for `doctor` and for redaction.
    pub fn secrets(&self) -> Vec<(String, &SecretRef)> {
        let mut out = Vec::new();
        out.extend(self.notify.secrets().into_iter().map(|(at, from)| (at.to_owned(), from)));
        for (at, env) in self.notify.envs() {
            in_env(at, env, &mut out);
        }
        for (name, runtime) in &self.runtimes {
            in_env(&format!("runtimes.{name}"), &runtime.env, &mut out);
        }
        for project in &self.projects {
            project.secrets(&mut out);
        }
        out
    }

    /// What runs of a project can read, and so whatever a branch puts in them (BND-4), each with the key that
    /// configures it: keys of runtimes, what the environments of its commands name, files that are copied.
    pub fn readable_by_runs(&self, project: &Project) -> Vec<(String, String)> {
        let mut references = Vec::new();
        let agents = crate::model::stage::Agent::ALL.iter().map(|agent| self.agent(*agent).runtime);
        for name in agents.collect::<std::collections::BTreeSet<_>>() {
            if let Some(runtime) = self.runtimes.get(&name) {
                in_env(&format!("runtimes.{name}"), &runtime.env, &mut references);
            }
        }
        in_env("ci", &project.ci.env, &mut references);
        let lines = [
            ("worktree.setup", &project.worktree.setup),
            ("staging.build", &project.staging.build),
            ("deploy.build", &project.deploy.build),
        ];
        for (at, line) in lines {
            if let Some(line) = line {
                in_env(at, &line.env, &mut references);
            }
        }
        for check in &project.staging.checks {
            in_env(&format!("staging.checks.{}", check.id()), &check.env, &mut references);
        }
        let mut all: Vec<_> = references.into_iter().map(|(at, from)| (at, from.to_string())).collect();
        all.extend(project.worktree.copy.iter().map(|p| ("worktree.copy".to_owned(), p.display().to_string())));
        all
    }

    /// Whether the serial gate is on and the project in its scope.
    pub fn serial(&self, project: &Project) -> bool {
        self.serial_gate.enabled && self.serial_gate.repos.covers(project)
    }

    /// Whether the security gate is on and the project in its scope.
    pub fn security_gate(&self, project: &Project) -> bool {
        project.security.gate_enabled && project.security.gate_repos.covers(project)
    }

    /// Whether the watch is on, the project in its scope, and there is something to probe.
    pub fn watched(&self, project: &Project) -> bool {
        let watch = &project.post_deploy;
        watch.enabled && watch.repos.covers(project) && !watch.health.is_empty()
    }

    /// Whether the labels are on and the project in their scope.
    pub fn auto_labelled(&self, project: &Project) -> bool {
        self.auto_label.enabled && self.auto_label.repos.covers(project)
    }
}

/// The references of an `env` map.
fn in_env<'a>(at: &str, env: &'a BTreeMap<String, EnvValue>, out: &mut Vec<(String, &'a SecretRef)>) {
    for (name, value) in env {
        match value {
            EnvValue::Ref(from) => out.push((format!("{at}.env.{name}"), from)),
            EnvValue::Literal(_) => {}
        }
    }
}

impl Project {
    /// Where setup, CI and staging commands run in a checkout: at its root, or in the folder of the first of `paths`
    /// (ORD-3).
    pub fn folder_in(&self, checkout: &Path) -> PathBuf {
        self.paths.first().map_or_else(|| checkout.to_owned(), |first| checkout.join(parts::folder(first)))
    }

    /// The name of its base wherever that is stored, checked, asked for or alerted: its repository or, for a part of
    /// one, its key, so that a red base holds that part alone (ORD-3). No key is the name of another project's
    /// repository (RULE-29).
    pub fn base_name(&self) -> &str {
        if self.paths.is_empty() { &self.repo } else { &self.key }
    }

    fn secrets<'a>(&'a self, out: &mut Vec<(String, &'a SecretRef)>) {
        let at = format!("projects.{}", self.key);
        out.extend(self.git.credential.as_ref().map(|c| (format!("{at}.git.credential"), c)));
        out.extend(self.board.secret().map(|(key, from)| (format!("{at}.board.{key}"), from)));
        out.extend(self.forge.secret().map(|(key, from)| (format!("{at}.forge.{key}"), from)));
        in_env(&format!("{at}.ci"), &self.ci.env, out);
        in_env(&format!("{at}.deploy"), &self.deploy.env, out);
        for check in &self.staging.checks {
            in_env(&format!("{at}.staging.checks.{}", check.id()), &check.env, out);
        }
        let mut lines = vec![
            ("worktree.setup", self.worktree.setup.as_ref()),
            ("staging.build", self.staging.build.as_ref()),
            ("staging.deploy", self.staging.deploy.as_ref()),
            ("deploy.build", self.deploy.build.as_ref()),
            ("post_deploy.rollback", self.post_deploy.rollback.as_ref()),
        ];
        for (name, revision) in
            [("staging.revision", &self.staging.revision), ("post_deploy.revision", &self.post_deploy.revision)]
        {
            match revision {
                Some(Revision::Command(c)) => lines.push((name, Some(c))),
                Some(Revision::Url { .. }) | None => {}
            }
        }
        match &self.post_deploy.errors {
            Errors::Command(c) => lines.push(("post_deploy.errors", Some(c))),
            Errors::Own | Errors::Prometheus { .. } => {}
        }
        for (name, line) in lines {
            if let Some(line) = line {
                in_env(&format!("{at}.{name}"), &line.env, out);
            }
        }
    }

    /// How a watch of this project is judged.
    pub fn watch_policy(&self) -> WatchPolicy {
        let w = &self.post_deploy;
        WatchPolicy {
            window_s: w.window_s,
            interval_s: w.interval_s,
            fail_threshold: w.fail_threshold,
            share_5xx: w.share_5xx,
            min_requests: w.min_requests,
            k_of_m: w.k_of_m.get(),
        }
    }
}

impl Project {
    /// What an agent may not change, as its prompt states it: protected paths, and everything of other projects
    /// (ORD-3).
    pub fn withheld(&self) -> Vec<String> {
        let mut all = self.git.protected_paths.clone();
        if !self.paths.is_empty() {
            all.push(format!("everything outside of {} and the folder of the documents", self.paths.join(", ")));
        }
        all
    }

    /// The files in the repository that configured commands name (RULE-23): protected, and taken from the default
    /// branch wherever a command runs.
    pub fn scripts(&self) -> Vec<String> {
        let folder = self.paths.first().map(|first| parts::folder(first)).unwrap_or_default();
        let named = self.commands().into_iter().flat_map(|(key, argv)| {
            let inside = ["ci.", "worktree.", "staging.", "deploy.build."].iter().any(|begin| key.starts_with(begin));
            let folder = if inside { folder.as_str() } else { "" };
            named_by(argv).into_iter().filter_map(|path| parts::below(folder, &path))
        });
        let mut paths: Vec<String> = named.collect();
        paths.sort();
        paths.dedup();
        paths
    }

    /// The commands that start the branch's own code, by key (BND-1).
    pub fn commands_of_branch(&self) -> Vec<&[String]> {
        let of_branch = ["worktree.setup.", "ci.command", "staging.build.", "deploy.build.", "staging.checks."];
        let is = |key: &str| of_branch.iter().any(|b| key.starts_with(b));
        self.commands().into_iter().filter(|(key, _)| is(key)).map(|(_, argv)| argv).collect()
    }

    /// The configured commands, by key.
    pub(super) fn commands(&self) -> Vec<(String, &[String])> {
        let mut all: Vec<(String, &[String])> = Vec::new();
        all.extend(self.ci.command.as_deref().map(|c| ("ci.command".to_owned(), c)));
        all.extend(self.deploy.command.as_deref().map(|c| ("deploy.command".to_owned(), c)));
        let lines = [
            ("worktree.setup", &self.worktree.setup),
            ("staging.build", &self.staging.build),
            ("staging.deploy", &self.staging.deploy),
            ("deploy.build", &self.deploy.build),
            ("post_deploy.rollback", &self.post_deploy.rollback),
        ];
        all.extend(
            lines.into_iter().filter_map(|(key, c)| Some((format!("{key}.command"), c.as_ref()?.command.as_slice()))),
        );
        for (key, revision) in [("staging", &self.staging.revision), ("post_deploy", &self.post_deploy.revision)] {
            match revision {
                Some(Revision::Command(c)) => all.push((format!("{key}.revision.command"), &c.command)),
                Some(Revision::Url { .. }) | None => {}
            }
        }
        match &self.post_deploy.errors {
            Errors::Command(c) => all.push(("post_deploy.errors.command".to_owned(), &c.command)),
            Errors::Own | Errors::Prometheus { .. } => {}
        }
        for check in &self.staging.checks {
            match &check.spec.kind {
                CheckKind::Command(c) => all.push((format!("staging.checks.{}", check.id()), &c.argv)),
                CheckKind::Http { .. } | CheckKind::Tcp { .. } | CheckKind::Sql { .. } => {}
            }
        }
        all
    }
}
