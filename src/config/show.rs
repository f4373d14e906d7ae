//! Effective settings with their sources (`config show`), and the fingerprint of the guarding ones (RULE-39).

use super::error::unnamed;
use super::layers::Layers;
use super::settings::guards;
use super::types::Config;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Where the values came from.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Origin {
    pub layers: Layers,
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
        if path == "state_dir" && self.origin.state_dir_given {
            return "command line".into();
        }
        let layers = &self.origin.layers;
        layers.source(&unnamed(path, &layers.doc)).to_owned()
    }

    /// Two configurations with the same hash have the same settings; empty: nobody knows.
    pub fn inputs(&self) -> &str {
        &self.origin.inputs.0
    }

    /// Path → value of every setting that guards: switches, scopes, limits, thresholds. Two steps with equal maps are
    /// guarded equally; [`Config::source`] names the variable behind a difference.
    pub fn guard_settings(&self) -> BTreeMap<String, String> {
        let all: Vec<&str> = guards().collect();
        let guards = |path: &str| {
            let rest = path.strip_prefix("projects.").and_then(|r| r.split_once('.')).map_or(path, |(_, rest)| rest);
            all.iter().any(|g| rest == *g || rest.starts_with(g))
        };
        let holds_one = |section: &str| {
            all.iter().any(|g| g.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
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
