//! The environment as a source of settings (CFG-2).

use super::error::ConfigError;
use super::scalar::Scalar;
use crate::model::text::nearest;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Variables that are no settings: options of the command line, and what `orch` gives its children.
pub(super) const OTHERS: &[&str] = &[
    "ORCH_CONFIG",
    "ORCH_STATE_DIR",
    "ORCH_LOG",
    "ORCH_LOG_FORMAT",
    "ORCH_TOOLS_CACHE",
    "ORCH_TASK",
    "ORCH_STAGE",
    "ORCH_REPO",
    "ORCH_REVISION",
    "ORCH_ATTEMPT",
    "ORCH_AGENT",
    "ORCH_WORKTREE",
    "ORCH_ARTEFACTS",
    "ORCH_RUN",
    "ORCH_DEPLOY_RESULT",
];

/// The variables of one load, with a record of which gave a value.
#[derive(Debug)]
pub struct Vars<'a> {
    env: &'a BTreeMap<String, String>,
    used: RefCell<BTreeMap<String, String>>,
}

impl<'a> Vars<'a> {
    pub(super) fn new(env: &'a BTreeMap<String, String>) -> Self {
        Self { env, used: RefCell::default() }
    }

    /// A variable's text; empty counts as unset.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.env.get(name).map(|t| t.trim()).filter(|t| !t.is_empty())
    }

    /// A variable's value for the setting at `path`. Fails, naming the variable, where the text can't be meant.
    pub(super) fn read<T: Scalar>(&self, name: &str, path: &str) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let value = T::parse(text).ok_or_else(|| {
            ConfigError::new(format!("the variable {name} is {text:?}, expected {}", T::expected()))
                .hint(format!("correct or unset it; the key in the file is {path}"))
        })?;
        self.used.borrow_mut().insert(path.to_owned(), name.to_owned());
        Ok(Some(value))
    }

    /// Path → variable of every setting that the environment gave.
    pub(super) fn used(self) -> BTreeMap<String, String> {
        self.used.into_inner()
    }

    /// One warning for each `ORCH_…` that is none of `known`.
    pub(super) fn unknown(&self, known: &[String]) -> Vec<String> {
        let is_known = |name: &str| OTHERS.contains(&name) || known.iter().any(|k| k == name);
        let mut warnings = Vec::new();
        for name in self.env.keys().filter(|n| n.starts_with("ORCH_") && !is_known(n)) {
            let near = nearest(name, known.iter().map(String::as_str));
            let near = near.map(|n| format!("; did you mean {n}?")).unwrap_or_default();
            warnings.push(format!("the variable {name} is no setting and has no effect{near}"));
        }
        warnings
    }
}
