//! Effective settings with their sources (`config show`), and the fingerprint of the guarding ones (RULE-39).

use super::types::Config;
use serde_json::{Map, Value};
use std::cell::OnceCell;
use std::collections::BTreeMap;

/// Where the values came from.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Origin {
    /// Path → variable.
    pub variables: BTreeMap<String, String>,
    /// Paths that the self-hosting rules set.
    pub forced: Vec<String>,
    /// The file as written.
    pub document: Document,
    /// Whether the command line (or its variable) named the state directory.
    pub state_dir_given: bool,
    pub inputs: Inputs,
}

/// A hash of all that the settings are made of; empty where they are of no file. Says nothing of the settings themselves:
/// equal ones may be made of different files.
#[derive(Debug, Clone, Default)]
pub(super) struct Inputs(pub String);

impl PartialEq for Inputs {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// The file as it is, read when somebody asks where a value came from: no step does.
#[derive(Debug, Clone, Default)]
pub(super) struct Document {
    text: String,
    read: OnceCell<Value>,
}

impl Document {
    pub(super) fn of(text: &str) -> Self {
        Self { text: text.to_owned(), read: OnceCell::new() }
    }

    fn get(&self) -> &Value {
        self.read.get_or_init(|| crate::yaml::from_str(&self.text).unwrap_or_default())
    }
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// One effective setting.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Shown {
    /// Dotted; those of a project begin with `projects.KEY.`.
    pub path: String,
    /// A secret is shown as its reference, a literal of an `env` map as `***`.
    pub value: Value,
    /// `default`, `file`, `file (top)`: the section at the top, `env NAME`, `command line`, `self-hosting rule`.
    pub source: String,
}

/// Sections that exist both at the top and in a project.
const SHARED: [&str; 5] = ["confine.", "slurm.", "security.", "staging.", "post_deploy."];

/// The settings that guard: switches, scopes, limits. At the top and, if set there, in each project.
const GUARDS: [&str; 42] = [
    "confine.",
    "tls.",
    "min_free_mb",
    "limits.",
    "gates.",
    "effects.",
    "base.",
    "stop.",
    "reaper.",
    "merge_lease.",
    "serial_gate.",
    "dependencies.",
    "auto_label.",
    "audit.",
    "reconcile.",
    "frontmatter.",
    "security.",
    "staging.enabled",
    "staging.infra_tolerance_enabled",
    "staging.sandbox_infra",
    "image_freshness.",
    "post_deploy.enabled",
    "post_deploy.repos",
    "post_deploy.window_s",
    "post_deploy.interval_s",
    "post_deploy.fail_threshold",
    "post_deploy.5xx_threshold",
    "post_deploy.min_requests",
    "post_deploy.k_of_m",
    "post_deploy.action",
    "agents.max_cost_usd",
    "agents.max_diff_lines",
    "agents.run_retries",
    "self_hosting",
    "stages",
    "git.protected_paths",
    "board.deciders",
    "notify.telegram.deciders",
    "ci.",
    "merge.",
    "deploy.confirm",
    "deploy.build",
];

impl Config {
    /// Every effective setting with its source, in the order of the types.
    pub fn shown(&self) -> Vec<Shown> {
        let mut out = Vec::new();
        self.each(&|_| true, &mut |path, value| {
            out.push(Shown { source: self.source(path), path: path.to_owned(), value: value.clone() });
        });
        out
    }

    /// Every effective setting, its path and its value, of the sections that are `wanted`: asked with the name of each that
    /// is at the top or in a project.
    fn each(&self, wanted: &dyn Fn(&str) -> bool, out: &mut dyn FnMut(&str, &Value)) {
        let Value::Object(mut all) = serde_json::to_value(self).unwrap_or_default() else { return };
        all.shift_remove("file");
        let projects = all.shift_remove("projects");
        let mut of = |at: &str, section: &Map<String, Value>| {
            for (name, value) in section.iter().filter(|(name, _)| wanted(name)) {
                walk(&mut format!("{at}{name}"), value, out);
            }
        };
        of("", &all);
        for project in projects.as_ref().and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object) {
            let key = project.get("key").and_then(Value::as_str).unwrap_or_default();
            of(&format!("projects.{key}."), project);
        }
    }

    /// The source of the value at a path (as in [`Config::shown`]).
    pub fn source(&self, path: &str) -> String {
        let origin = &self.origin;
        if path == "state_dir" && origin.state_dir_given {
            return "command line".into();
        }
        if origin.forced.iter().any(|f| f == path) {
            return "self-hosting rule".into();
        }
        let in_project = path.strip_prefix("projects.").and_then(|rest| rest.split_once('.'));
        let shared = in_project.map(|(_, rest)| rest).filter(|rest| SHARED.iter().any(|s| rest.starts_with(s)));
        if let Some(name) = origin.variables.get(shared.unwrap_or(path)) {
            return format!("env {name}");
        }
        if let Some((key, rest)) = in_project {
            let n = self.projects.iter().position(|p| p.key == key).unwrap_or(usize::MAX);
            let project = origin.document.get().get("projects").and_then(|p| p.get(n));
            if project.is_some_and(|p| has_value(p, rest)) {
                return "file".into();
            }
            if shared.is_some_and(|rest| has_value(origin.document.get(), rest)) {
                return "file (top)".into();
            }
        } else if has_value(origin.document.get(), path) {
            return "file".into();
        }
        "default".into()
    }

    /// Two configurations with the same hash have the same settings; empty: nobody knows.
    pub fn inputs(&self) -> &str {
        &self.origin.inputs.0
    }

    /// Path → value of every setting that guards: switches, scopes, limits, thresholds. Two steps with equal maps are
    /// guarded equally; [`Config::source`] names the variable behind a difference.
    pub fn guard_settings(&self) -> BTreeMap<String, String> {
        let guards = |path: &str| {
            let rest = path.strip_prefix("projects.").and_then(|r| r.split_once('.')).map_or(path, |(_, rest)| rest);
            GUARDS.iter().any(|g| rest == *g || rest.starts_with(g))
        };
        let holds_one = |section: &str| {
            GUARDS.iter().any(|g| g.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
        };
        let mut out = BTreeMap::new();
        self.each(&holds_one, &mut |path, value| {
            if guards(path) {
                out.insert(path.to_owned(), value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            }
        });
        out
    }
}

/// Every value at or below a path, which is as it was afterwards.
fn walk(path: &mut String, value: &Value, out: &mut dyn FnMut(&str, &Value)) {
    match value {
        Value::Object(map) if !is_reference(map) && !map.is_empty() => {
            let length = path.len();
            for (key, value) in map {
                path.push('.');
                path.push_str(key);
                walk(path, value, out);
                path.truncate(length);
            }
        }
        Value::Object(_) | Value::Array(_) | Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {
            out(path, value);
        }
    }
}

/// `{env: NAME}`, `{file: PATH}`, `{command: PROGRAM}`.
fn is_reference(map: &Map<String, Value>) -> bool {
    map.len() == 1
        && map.iter().all(|(key, value)| matches!(key.as_str(), "env" | "file" | "command") && value.is_string())
}

/// Whether a document has a value at a path. A list in the file that became a single value is at its own path.
fn has_value(document: &Value, path: &str) -> bool {
    let mut at = document;
    for part in path.split('.') {
        match at.get(part) {
            Some(next) => at = next,
            None => return false,
        }
    }
    !at.is_null()
}
