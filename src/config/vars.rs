//! The environment as a source of settings (CFG-2).

use super::error::ConfigError;
use super::settings::Setting;
use crate::model::text::nearest;
use serde_json::Value;
use std::collections::BTreeMap;

/// Variables that `orch` sets for the children of a run. None is a setting, and none is the operator's if a step is
/// started from such a child.
pub const OF_A_RUN: [&str; 13] = [
    "ORCH_RUN",
    "ORCH_TASK",
    "ORCH_STAGE",
    "ORCH_REPO",
    "ORCH_REVISION",
    "ORCH_ATTEMPT",
    "ORCH_AGENT",
    "ORCH_WORKTREE",
    "ORCH_ARTEFACTS",
    "ORCH_BUILD_OUTPUT",
    "ORCH_DEPLOY_INPUT",
    "ORCH_DEPLOY_RESULT",
    "ORCH_DEPLOY_NONCE",
];

/// How the variable of a setting begins, unless it has a name of its own.
const OURS: &str = "ORCH_";

/// Options of the command line, which are not settings either.
const OPTIONS: [&str; 5] = ["ORCH_CONFIG", "ORCH_STATE_DIR", "ORCH_LOG", "ORCH_LOG_FORMAT", "ORCH_TOOLS_CACHE"];

/// The variables of one load.
#[derive(Debug)]
pub struct Vars<'a> {
    env: &'a BTreeMap<String, String>,
    /// Whether any of them may be a setting's: mostly none is, and no name has to be made up to look for it.
    any: bool,
}

impl<'a> Vars<'a> {
    pub(super) fn new(env: &'a BTreeMap<String, String>) -> Self {
        let other = |name: &String| {
            name.starts_with(OURS) && !OPTIONS.contains(&name.as_str()) && !OF_A_RUN.contains(&name.as_str())
        };
        Self { env, any: env.keys().any(other) }
    }

    /// Whether any variable may be a setting's.
    pub(super) fn any(&self) -> bool {
        self.any
    }

    /// A setting's value from its variable, as one of the document. An invalid text is an error that names the variable.
    pub(super) fn value(&self, of: &Setting, read: fn(&str) -> Option<Value>) -> Result<Option<Value>, ConfigError> {
        let Some(text) = self.text(&of.variable) else { return Ok(None) };
        let refused = || {
            ConfigError::new(format!("the variable {} is {text:?}, expected {}", of.variable, of.expected))
                .hint(format!("correct or unset it; the key in the file is {}", of.path))
        };
        read(text).map(Some).ok_or_else(refused)
    }

    /// A variable's text; empty counts as unset.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.env.get(name).map(|t| t.trim()).filter(|t| !t.is_empty())
    }

    /// One warning for each `ORCH_…` that is none of `settings`, which are asked for only where one may be none.
    pub(super) fn unknown(&self, settings: impl FnOnce() -> Vec<String>) -> Vec<String> {
        let is_clear = |name: &str| OPTIONS.contains(&name) || OF_A_RUN.contains(&name);
        let open: Vec<&String> = self.env.keys().filter(|n| n.starts_with("ORCH_") && !is_clear(n)).collect();
        if open.is_empty() {
            return Vec::new();
        }
        let known = settings();
        let mut warnings = Vec::new();
        for name in open.into_iter().filter(|name| !known.contains(name)) {
            let near = nearest(name, known.iter().map(String::as_str));
            let near = near.map(|n| format!("; did you mean {n}?")).unwrap_or_default();
            warnings.push(format!("the variable {name} is no setting and has no effect{near}"));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_s_child_is_given_is_no_unknown_setting() {
        let mut env: BTreeMap<String, String> = OF_A_RUN.iter().map(|n| ((*n).to_owned(), "x".to_owned())).collect();
        assert_eq!(Vars::new(&env).unknown(Vec::new), Vec::<String>::new());
        env.insert("ORCH_DEPLOY_RESULTS".to_owned(), "x".to_owned());
        assert_eq!(Vars::new(&env).unknown(Vec::new).len(), 1);
    }
}
