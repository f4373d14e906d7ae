//! What a repository may configure for itself: `.orch.yaml` on its default branch (ORD-3). Whoever can merge can write
//! it, so it starts nothing as the operator and reads nothing of the operator's, and the installation's keys take
//! precedence.

use super::error::ConfigError;
use super::raw::{RawCheck, RawCi, RawCommand, RawMerge, RawProject};
use super::secret::EnvValue;
use super::types::CheckWord;
use crate::model::sides::{Method, Update};
use crate::model::text::one_line;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The file at the root of the repository.
pub const FILE: &str = ".orch.yaml";
/// A larger one can't be a configuration.
const MOST: usize = 64 << 10;

/// A valid file.
#[derive(Debug, Clone)]
pub struct Repository(RawRepository);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRepository {
    worktree: Worktree,
    ci: RawCi,
    staging: Staging,
    merge: Merge,
    paths: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Worktree {
    setup: Option<RawCommand>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Staging {
    checks: Option<Vec<RawCheck>>,
    build: Option<RawCommand>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Merge {
    update: Option<Update>,
    method: Option<Method>,
}

impl Repository {
    /// Parses the file. Fails naming the key that is not allowed in it, or the reference.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let named = |e: ConfigError| ConfigError::new(format!("{FILE}: {}", one_line(&e.message)));
        if bytes.len() > MOST {
            return Err(ConfigError::new(format!("{FILE} is larger than {MOST} bytes")));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ConfigError::new(format!("{FILE} is not UTF-8")))?;
        let empty = text.lines().all(|l| l.trim().is_empty() || l.trim_start().starts_with('#'));
        let raw: RawRepository = if empty {
            RawRepository::default()
        } else {
            crate::yaml::from_str(text).map_err(|e| named(ConfigError::of_yaml(&e.to_string(), text)))?
        };
        raw.literals().map_err(named)?;
        let sql = raw.staging.checks.iter().flatten().find(|c| c.kind == Some(CheckWord::Sql));
        if sql.is_some() {
            return Err(named(ConfigError::new(
                "staging.checks: a check of kind sql is allowed in the installation's file only",
            )));
        }
        Ok(Self(raw))
    }

    /// The project with the repository's values for keys that it leaves unset. `checks`: the installation has checks of
    /// its own at the top, which take precedence.
    pub(super) fn over(&self, project: &RawProject, checks: bool, build: bool) -> RawProject {
        let own = self.0.clone();
        let mut all = project.clone();
        let worktree = all.worktree.get_or_insert_default();
        worktree.setup = worktree.setup.take().or(own.worktree.setup);
        let ci = all.ci.get_or_insert_default();
        ci.required = ci.required.or(own.ci.required);
        ci.command = ci.command.take().or(own.ci.command);
        ci.timeout_s = ci.timeout_s.or(own.ci.timeout_s);
        ci.env = ci.env.take().or(own.ci.env);
        ci.contexts = ci.contexts.take().or(own.ci.contexts);
        let staging = all.staging.get_or_insert_default();
        staging.checks = staging.checks.take().or(own.staging.checks.filter(|_| !checks));
        staging.build = staging.build.take().or(own.staging.build.filter(|_| !build));
        let merge: &mut RawMerge = all.merge.get_or_insert_default();
        merge.update = merge.update.or(own.merge.update);
        merge.method = merge.method.or(own.merge.method);
        all.paths = all.paths.take().or(own.paths);
        all
    }
}

impl RawRepository {
    /// A reference would read or start something as the operator.
    fn literals(&self) -> Result<(), ConfigError> {
        let of = |command: &Option<RawCommand>| command.as_ref().and_then(|c| c.env.clone());
        let mut all: Vec<(&str, Option<BTreeMap<String, EnvValue>>)> = vec![
            ("worktree.setup", of(&self.worktree.setup)),
            ("ci", self.ci.env.clone()),
            ("staging.build", of(&self.staging.build)),
        ];
        all.extend(self.staging.checks.iter().flatten().map(|check| ("staging.checks", check.env.clone())));
        let pairs = all.iter().flat_map(|(at, env)| env.iter().flatten().map(move |(name, value)| (at, name, value)));
        match pairs.into_iter().find(|(_, _, value)| matches!(value, EnvValue::Ref(_))) {
            Some((at, name, _)) => Err(ConfigError::new(format!(
                "{at}.env.{name} is a reference, which would read or start something as the operator: literals only"
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ord_3_a_repository_says_what_it_may_and_nothing_else() {
        let good = "worktree: {setup: {command: [npm, ci], env: {A: b}}}\nci: {command: [npm, test], timeout_s: 9}\nstaging: {checks: [{id: S1, kind: tcp, address: 'a:1'}], build: {command: [./b]}}\nmerge: {update: merge, method: squash}\npaths: [api/**]\n";
        Repository::parse(good.as_bytes()).unwrap();
        Repository::parse(b"# nothing\n").unwrap();
        for (text, part) in [
            ("deploy: {command: [./x]}", "deploy"),
            ("worktree: {copy: [/etc/shadow]}", "copy"),
            ("git: {protected_paths: ['!**']}", "git"),
            ("security: {gate_enabled: false}", "security"),
            ("merge: {via: push}", "via"),
            ("staging: {revision: {command: [./x]}}", "revision"),
            ("staging: {checks: [{id: S1, kind: sql, database: /x, query: q}]}", "sql"),
            ("ci: {command: [x], env: {K: {env: TOKEN}}}", "ci.env.K"),
            ("ci: {command: [x], env: {K: {command: [./x]}}}", "ci.env.K"),
            ("worktree: {setup: {command: [x], env: {K: {file: /x}}}}", "worktree.setup.env.K"),
            ("staging: {checks: [{id: S1, kind: command, command: [x], env: {K: {env: X}}}]}", "staging.checks.env.K"),
            ("- a\n", ".orch.yaml"),
            ("a: [\n", ".orch.yaml"),
            ("a: &a [*a]\n", ".orch.yaml"),
        ] {
            let said = Repository::parse(text.as_bytes()).unwrap_err().message;
            assert!(said.contains(part) && said.starts_with(FILE), "{text}: {said}");
        }
        assert!(Repository::parse(&[0xff]).is_err() && Repository::parse(&vec![b'#'; MOST + 1]).is_err());
    }

    #[test]
    fn ord_3_the_installation_wins() {
        let own = Repository::parse(b"ci: {command: [theirs], timeout_s: 9}\nmerge: {method: squash}\nstaging: {checks: [{id: S1, kind: tcp, address: 'a:1'}]}\n").unwrap();
        let text = "projects: [{key: A, repository_config: true, git: {remote: /a}, ci: {command: [ours]}}, {key: B, git: {remote: /b}}]\n";
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("orch.yaml");
        std::fs::write(&file, text).unwrap();
        let env: BTreeMap<String, String> = [("HOME".to_owned(), "/h".to_owned())].into();
        let config = crate::config::load(Some(&file), None, &env, dir.path()).unwrap();
        let all = [("A".to_owned(), own.clone()), ("B".to_owned(), own)].into();
        let with = config.with_repositories(&all, &env).unwrap();
        let (a, b) = (&with.projects[0], &with.projects[1]);
        assert_eq!((a.ci.command.as_deref(), a.ci.timeout_s), (Some(&["ours".to_owned()][..]), 9));
        assert_eq!((a.merge.method, a.staging.checks.len()), (Method::Squash, 1));
        assert_eq!(Some(b), config.projects.get(1), "off unless the project says so");
        std::fs::write(&file, format!("{text}staging: {{checks: []}}\n")).unwrap();
        assert_eq!(config.with_repositories(&all, &env).unwrap().projects[0].staging.checks.len(), 0);
    }
}
