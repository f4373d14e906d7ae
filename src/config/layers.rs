//! The file, the repository's file and the variables laid over one another as documents (CFG-1, CFG-2). What is laid is
//! recorded with its source, so the merged document also says where each value is from.

use super::error::{ConfigError, named};
use super::read::{Fault, Place, read};
use super::settings::settings;
use super::vars::Vars;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A value of the section at the top, in a project.
const TOP: &str = "file (top)";
/// A value that a self-hosting project always has.
const FORCED: &str = "self-hosting rule";
/// A value that nobody wrote.
const DEFAULT: &str = "default";

/// One document made of several, and where its values are from.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Layers {
    pub doc: Value,
    /// Path → source of what is not from the file's own place.
    sources: BTreeMap<String, String>,
}

/// Sections that exist both at the top and in a project, which has precedence key by key.
pub(super) const SHARED: [&str; 5] = ["confine", "slurm", "security", "staging", "post_deploy"];

impl Layers {
    /// The file alone. An empty one is a section without keys.
    pub fn of(text: &str) -> Result<Self, ConfigError> {
        let refused = |e: String| ConfigError::of_yaml(&e, text);
        let doc = match text.trim().is_empty() {
            true => Value::Null,
            false => crate::yaml::document(text).map_err(|e| refused(e.to_string()))?,
        };
        match doc {
            Value::Object(_) => Ok(Self { doc, ..Self::default() }),
            Value::Null => Ok(Self { doc: Value::Object(Map::new()), ..Self::default() }),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(refused("expected a section of keys at line 1 column 1".to_owned()))
            }
        }
    }

    /// The value at a path of keys and indices; none where it is null.
    pub fn get(&self, path: &str) -> Option<&Value> {
        at(&self.doc, path).filter(|value| !value.is_null())
    }

    /// The number of projects.
    pub fn projects(&self) -> usize {
        self.get("projects").and_then(Value::as_array).map_or(0, Vec::len)
    }

    /// Puts a value at a path whose parents are sections or absent; elsewhere nothing happens, and the reader says why.
    pub fn put(&mut self, path: &str, value: Value, source: &str) {
        let (mut slot, mut rest) = (&mut self.doc, Some(path));
        while let Some(path) = rest {
            if slot.is_null() {
                *slot = Value::Object(Map::new());
            }
            let (part, below) = step(slot, path);
            let next = match slot {
                Value::Object(map) => Some(map.entry(part).or_insert(Value::Null)),
                Value::Array(all) => part.parse::<usize>().ok().and_then(|n| all.get_mut(n)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
            };
            let Some(next) = next else { return };
            (slot, rest) = (next, below);
        }
        *slot = value;
        self.sources.insert(path.to_owned(), source.to_owned());
    }

    /// As [`Self::put`], if nothing is there.
    pub fn put_default(&mut self, path: &str, value: Value) {
        if self.get(path).is_none() {
            self.put(path, value, DEFAULT);
        }
    }

    /// Puts a value by the rule for self-hosting projects, which is over everything.
    pub fn force(&mut self, path: &str, value: Value) {
        self.put(path, value, FORCED);
    }

    /// The paths of [`Self::force`], with the projects' keys.
    pub fn forced(&self) -> Vec<String> {
        let forced = self.sources.iter().filter(|(_, source)| *source == FORCED);
        forced.map(|(path, _)| named(path, &self.doc)).collect()
    }

    /// Lays a section under another one: each key that `to` leaves out is as in `below`.
    pub fn under(&mut self, to: &str, below: &Value, source: impl Fn(&Self, &str) -> String) {
        for (key, value) in below.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            let path = format!("{to}.{key}");
            if self.get(&path).is_none() {
                let source = source(self, key);
                self.put(&path, value.clone(), &source);
            }
        }
    }

    /// Lays the section at the top under that of a project or runtime.
    pub fn top_under(&mut self, prefix: &str, section: &str) {
        let Some(top) = self.get(section).filter(|top| top.is_object()).cloned() else { return };
        let source =
            |of: &Self, key: &str| of.sources.get(&format!("{section}.{key}")).map_or(TOP.to_owned(), Clone::clone);
        self.under(&format!("{prefix}{section}"), &top, source);
    }

    /// Lays the variables over the file: at the top, and in each project over the sections that it shares with it. A
    /// project's `confine` is its own. Fails naming a variable that can't be read.
    pub fn variables(&mut self, vars: &Vars<'_>) -> Result<(), ConfigError> {
        if !vars.any() {
            return Ok(());
        }
        for setting in settings() {
            let Some(read) = setting.read else { continue };
            let Some(value) = vars.value(&setting, read)? else { continue };
            let source = format!("env {}", setting.variable);
            if setting.optional.is_none_or(|section| self.get(section).is_some()) {
                self.put(&setting.path, value.clone(), &source);
            }
            let section = setting.path.split('.').next().unwrap_or_default();
            for n in (0..self.projects()).filter(|_| section != "confine" && SHARED.contains(&section)) {
                self.put(&format!("projects.{n}.{}", setting.path), value.clone(), &source);
            }
        }
        Ok(())
    }

    /// Reads the value at a path; `None`: it is not there. `text`: the file, for the place of a fault.
    pub fn read<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        place: &Place<'_>,
        text: &str,
    ) -> Result<Option<T>, ConfigError> {
        let value = if path.is_empty() { Some(&self.doc) } else { self.get(path) };
        let Some(value) = value else { return Ok(None) };
        read(value, place).map(Some).map_err(|mut fault: Fault| {
            fault.path.extend(path.split('.').filter(|p| !p.is_empty()).rev().map(str::to_owned));
            ConfigError::of_fault(fault, self, text)
        })
    }

    /// Where the value at a path is from: `default`, `file`, `file (top)`, `env NAME`.
    pub fn source(&self, path: &str) -> &str {
        if self.get(path).is_none() {
            return DEFAULT;
        }
        let mut of = path;
        loop {
            if let Some(source) = self.sources.get(of) {
                return source;
            }
            match of.rsplit_once('.') {
                Some((parent, _)) => of = parent,
                None => return "file",
            }
        }
    }

    /// A path of the document as it is in the file: what was laid in from the top is there.
    pub fn written<'a>(&self, path: &'a str) -> &'a str {
        let mut there = path;
        while self.get(there).is_none() {
            let Some((section, _)) = there.rsplit_once('.') else { break };
            there = section;
        }
        match path.strip_prefix("projects.").and_then(|rest| rest.split_once('.')) {
            Some((_, rest)) if self.source(there) == TOP => rest,
            _ => path,
        }
    }
}

/// The first key of a path, and the rest. A key of the document may have dots itself.
fn step<'p>(document: &Value, path: &'p str) -> (&'p str, Option<&'p str>) {
    let is_first = |key: &&String| path.strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with('.'));
    let known = document.as_object().and_then(|map| map.keys().filter(is_first).map(String::len).max());
    match known.or_else(|| path.find('.')).filter(|_| document.get(path).is_none()) {
        Some(end) => (&path[..end], path.get(end + 1..)),
        None => (path, None),
    }
}

/// The value at a path of keys and indices.
pub(super) fn at<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    let (part, rest) = step(document, path);
    let found = match document {
        Value::Array(all) => part.parse::<usize>().ok().and_then(|n| all.get(n)),
        Value::Object(map) => map.get(part),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }?;
    rest.map_or(Some(found), |rest| at(found, rest))
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
