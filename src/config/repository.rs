//! What a repository may configure for itself: `.orch.yaml` on its default branch (ORD-3). Whoever can merge can write
//! it, so it starts nothing as the operator and reads nothing of the operator's, and the installation's keys take
//! precedence.

use super::error::ConfigError;
use super::layers::Layers;
use super::parts::{CheckKeys, Within};
use super::read::Place;
use super::types::{Ci, CommandLine};
use crate::model::sides::{Method, Update};
use crate::model::text::one_line;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The file at the root of the repository.
pub const FILE: &str = ".orch.yaml";
/// A larger one can't be a configuration.
const MOST: usize = 64 << 10;

/// A valid file.
#[derive(Debug, Clone)]
pub struct Repository(Layers);

/// What it may say.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(dead_code, reason = "read to be refused or not; the document is what is laid")]
struct Keys {
    worktree: Worktree,
    ci: Ci,
    staging: Staging,
    merge: Merge,
    paths: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(dead_code, reason = "as above")]
struct Worktree {
    #[serde(deserialize_with = "Within::<600>::some")]
    setup: Option<CommandLine>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(dead_code, reason = "as above")]
struct Staging {
    checks: Vec<CheckKeys>,
    #[serde(deserialize_with = "Within::<900>::some")]
    build: Option<CommandLine>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(dead_code, reason = "as above")]
struct Merge {
    update: Update,
    method: Method,
}

impl Repository {
    /// Parses the file. Fails naming the key that is not allowed in it, or the reference.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let named = |e: ConfigError| ConfigError::new(format!("{FILE}: {}", one_line(&e.message)));
        if bytes.len() > MOST {
            return Err(ConfigError::new(format!("{FILE} is larger than {MOST} bytes")));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ConfigError::new(format!("{FILE} is not UTF-8")))?;
        let layers = Layers::of(text).map_err(named)?;
        literals(&layers.doc, "").map_err(named)?;
        let checks = layers.get("staging.checks").and_then(Value::as_array).into_iter().flatten();
        if checks.into_iter().any(|check| check.get("kind").is_some_and(|kind| kind == "sql")) {
            return Err(named(ConfigError::new(
                "staging.checks: a check of kind sql is allowed in the installation's file only",
            )));
        }
        let none = BTreeMap::new();
        layers.read::<Keys>("", &Place { folder: Path::new("/"), env: &none }, text).map_err(named)?;
        Ok(Self(layers))
    }

    /// Lays the file under a project of the installation's: each key that is unset there. `prefix`: the project's path,
    /// with a dot.
    pub(super) fn lay(&self, layers: &mut Layers, prefix: &str) {
        for (section, value) in self.0.doc.as_object().into_iter().flatten() {
            let at = format!("{prefix}{section}");
            if value.is_object() {
                layers.under(&at, value, |_, _| FILE.to_owned());
            } else if layers.get(&at).is_none() {
                layers.put(&at, value.clone(), FILE);
            }
        }
    }
}

/// No `env` has a reference, which would read or start something as the operator. `at`: the path so far.
fn literals(value: &Value, at: &str) -> Result<(), ConfigError> {
    let below = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    match value {
        Value::Object(map) if at.ends_with(".env") => match map.iter().find(|(_, value)| value.is_object()) {
            Some((name, _)) => Err(ConfigError::new(format!(
                "{at}.{name} is a reference, which would read or start something as the operator: literals only"
            ))),
            None => Ok(()),
        },
        Value::Object(map) => map.iter().try_for_each(|(key, value)| literals(value, &below(key))),
        Value::Array(all) => all.iter().try_for_each(|value| literals(value, at)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
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
