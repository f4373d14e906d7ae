//! What is wrong with a configuration, and the way out. Always exit 2.

use super::layers::Layers;
use super::load::schema;
use super::read::Fault;
use serde_json::Value;

/// Names the file, key or variable, what was expected, and what to do. Never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    pub message: String,
    pub hint: Option<String>,
}

impl ConfigError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What is wrong with a value: its path as a person writes it, its line, and what is valid there.
    pub(super) fn of_fault(fault: Fault, layers: &Layers, text: &str) -> Self {
        let keys: Vec<String> = fault.path.iter().rev().cloned().collect();
        let dotted = keys.join(".");
        let whole = fault.key.as_ref().map_or_else(|| dotted.clone(), |key| format!("{dotted}.{key}"));
        let at = layers.written(whole.strip_prefix('.').unwrap_or(&whole)).to_owned();
        let section = fault.key.as_deref().map_or(at.as_str(), |key| at.strip_suffix(key).unwrap_or(""));
        let section = section.trim_end_matches('.');
        let name = named(section, &layers.doc);
        let (said, mut hint) = match fault.message.split_once('\n') {
            Some((said, hint)) => (said.to_owned(), Some(hint.to_owned())),
            None => (fault.message.clone(), None),
        };
        let alternatives = places(&keys, &layers.doc);
        let mut message = match said.as_str() {
            "is missing" => {
                let (below, expected) = expected(&alternatives);
                format!("{name}{below} is missing{expected}")
            }
            said if said.starts_with("is ") || said.starts_with("has ") => format!("{name} {said}"),
            said if said.starts_with(['.', '[']) => format!("{name}{said}"),
            said if name.is_empty() => said.to_owned(),
            said => format!("{name}: {said}"),
        };
        match layers.source(&dotted).strip_prefix("env ") {
            Some(variable) => message.push_str(&format!(" (the variable {variable})")),
            None => message.push_str(&line(&at, text)),
        }
        if let Some((key, kinds)) =
            fault.key.as_deref().and_then(|key| Some((key, of_another_kind(key, &alternatives)?)))
        {
            let this = layers.get(&format!("{dotted}.kind")).and_then(Value::as_str).unwrap_or("local");
            let several = kinds.join(" and ");
            message = format!("{name}.{key} is a key of kind {several}, and this is {this}{}", line(&at, text));
            hint = Some(format!("say kind: {}", kinds.join(" or kind: ")));
        }
        let error = Self::of_yaml(&message, text);
        match hint {
            Some(hint) => Self { hint: Some(hint), ..error },
            None => error,
        }
    }

    /// Adds the line of the setting that the message begins with, where it has none and the file has the setting.
    pub(super) fn placed(mut self, layers: &Layers, text: &str) -> Self {
        let name = self.message.split([' ', ':', ',']).next().unwrap_or_default();
        let path = name.replace('[', ".").replace(']', "");
        let path = unnamed(&path, &layers.doc);
        if !self.message.contains(" at line ") && layers.get(&path).is_some() {
            self.message.push_str(&line(layers.written(&path), text));
        }
        self
    }

    /// The parser's message about this text, with the nearest known word if it complains about an unknown one.
    pub(super) fn of_yaml(message: &str, text: &str) -> Self {
        if let Some(error) = indented_by_tab(message, text) {
            return error;
        }
        let message = &plain(message);
        let error = Self::new(message.as_str());
        if message.contains(": invalid type: string") && message.contains(LIST) {
            if !message.contains("command: invalid type") {
                return error.hint("write it as a list: [ONE, ANOTHER]; a list of one is [ONE]");
            }
            return error.hint("write the program and its arguments as a list: [\"./ci.sh\", \"--fast\"]; a list of one is [\"./ci.sh\"]");
        }
        match suggestion(message) {
            Some(word) => error.hint(format!("did you mean `{word}`?")),
            None => error.hint("orch config schema prints what is allowed there"),
        }
    }
}

/// ` at line L column C` of a path; empty where the file does not have it.
fn line(path: &str, text: &str) -> String {
    let mut parts: Vec<&str> = path.split('.').filter(|p| !p.is_empty()).collect();
    // What is missing is missing in its section.
    while !parts.is_empty() {
        if let Some((line, column)) = crate::yaml::position(text, &parts) {
            return format!(" at line {line} column {column}");
        }
        parts.pop();
    }
    String::new()
}

/// A path of the document with a project's key in place of its index, and indices in brackets.
pub(super) fn named(path: &str, doc: &Value) -> String {
    let mut out = String::new();
    let mut so_far = String::new();
    for part in path.split('.').filter(|p| !p.is_empty()) {
        so_far = if so_far.is_empty() { part.to_owned() } else { format!("{so_far}.{part}") };
        let index = part.bytes().all(|b| b.is_ascii_digit());
        let key = || super::layers::at(doc, &format!("{so_far}.key")).and_then(Value::as_str);
        match key().filter(|key| index && out == "projects" && crate::model::ids::is_prefix(key)) {
            Some(key) => out.push_str(&format!(".{key}")),
            None if index => out.push_str(&format!("[{part}]")),
            None if out.is_empty() => out.push_str(part),
            None => out.push_str(&format!(".{part}")),
        }
    }
    out
}

/// The reverse of [`named`], for a project's key.
pub(super) fn unnamed(path: &str, doc: &Value) -> String {
    let Some((key, rest)) = path.strip_prefix("projects.").map(|p| p.split_once('.').unwrap_or((p, ""))) else {
        return path.to_owned();
    };
    let all = doc.get("projects").and_then(Value::as_array);
    match all.and_then(|all| all.iter().position(|p| p.get("key").and_then(Value::as_str) == Some(key))) {
        Some(n) => format!("projects.{n}.{rest}").trim_end_matches('.').to_owned(),
        None => path.to_owned(),
    }
}

/// The schemas of the value at a path: one, or those of all kinds that the section may be.
fn places(keys: &[String], doc: &Value) -> (Value, Vec<Value>) {
    let schema = schema();
    let mut here = vec![schema.clone()];
    let mut value = Some(doc);
    for key in keys {
        here = here
            .iter()
            .flat_map(|node| alternatives(&schema, node, value))
            .filter_map(|node| below(&node, key))
            .collect();
        value = value.and_then(|v| super::layers::at(v, key));
    }
    (schema, here)
}

/// What a schema stands for: a reference followed, an optional value unwrapped, and of kinds the one that is meant, or
/// all.
fn alternatives(schema: &Value, node: &Value, value: Option<&Value>) -> Vec<Value> {
    if let Some(name) = node.get("$ref").and_then(Value::as_str).and_then(|r| r.rsplit('/').next()) {
        return schema["$defs"].get(name).map_or_else(Vec::new, |node| alternatives(schema, node, value));
    }
    let several = ["oneOf", "anyOf"].iter().find_map(|word| node.get(*word).and_then(Value::as_array));
    let Some(several) = several else { return vec![node.clone()] };
    let kind = value.and_then(|v| v.get("kind"));
    let meant = |node: &&Value| kind.is_none() || node["properties"]["kind"].get("const") == kind;
    let all = several.iter().flat_map(|node| alternatives(schema, node, value)).collect::<Vec<_>>();
    match all.iter().filter(meant).cloned().collect::<Vec<_>>() {
        meant if !meant.is_empty() => meant,
        _ => all,
    }
}

/// The schema of a key or an item.
fn below(node: &Value, key: &str) -> Option<Value> {
    let named = node.get("properties").and_then(|p| p.get(key));
    let item = node.get("items").filter(|_| key.bytes().all(|b| b.is_ascii_digit()));
    named.or(item).or(node.get("additionalProperties").filter(|a| a.is_object())).cloned()
}

/// Of a key that is missing: what is missing below it, and `, expected …`.
fn expected((schema, at): &(Value, Vec<Value>)) -> (String, String) {
    let Some(node) = at.first() else { return Default::default() };
    let secret = node.get("$ref").is_some_and(|r| r.as_str().is_some_and(|r| r.ends_with("/SecretRef")));
    let section = alternatives(schema, node, None);
    if let ([section], false) = (section.as_slice(), secret)
        && let Some(key) = section["required"].get(0).and_then(Value::as_str)
    {
        let (below, expected) = expected(&(schema.clone(), vec![section["properties"][key].clone()]));
        return (format!(".{key}{below}"), expected);
    }
    let what = node.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
    let what = what.split([';', ':']).next().unwrap_or_default();
    let said = match (what.is_empty(), secret) {
        (true, _) => String::new(),
        (false, true) => format!(", expected {{env: NAME}} or {{file: PATH}}: {}", lower(what)),
        (false, false) => format!(", expected {}", lower(what)),
    };
    (String::new(), said)
}

/// A sentence's beginning as it is within another one.
fn lower(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().collect::<String>() + &text[first.len_utf8()..]
        }
        _ => text.to_owned(),
    }
}

/// The kinds that have a key which this one has not.
fn of_another_kind(key: &str, (schema, at): &(Value, Vec<Value>)) -> Option<Vec<String>> {
    let kinds = at.iter().flat_map(|node| alternatives(schema, node, None));
    let having = kinds.filter(|kind| kind["properties"].get(key).is_some());
    let words: Vec<String> =
        having.filter_map(|kind| kind["properties"]["kind"]["const"].as_str().map(str::to_owned)).collect();
    (!words.is_empty()).then_some(words)
}

/// The parser's message in the file's terms: without names of our types, and without the value where a whole section
/// was expected, since that may be a secret in the wrong place.
fn plain(message: &str) -> String {
    let mut text = message.to_owned();
    if let Some(at) = text.find("expected struct ") {
        let from = at + "expected ".len();
        let end = text[from + 7..].find(|c: char| !c.is_ascii_alphanumeric()).map_or(text.len(), |n| from + 7 + n);
        text.replace_range(from..end, "a section of keys");
    }
    if text.contains("expected a section of keys") || text.contains("expected a map") {
        for kind in ["string", "integer", "floating point", "boolean"] {
            let opening = format!("invalid type: {kind} ");
            if let (Some(at), Some(end)) = (text.find(&opening), text.rfind(", expected ")) {
                let from = at + opening.len();
                if from <= end {
                    text.replace_range(from - 1..end, "");
                }
            }
        }
    }
    text = text.replace("expected a sequence", LIST);
    for (ours, word) in [
        ("u16", NUMBER),
        ("u32", NUMBER),
        ("u64", NUMBER),
        ("f64", "a number"),
        ("i64", "a whole number"),
        ("path string", "a path"),
        ("a string", "a text"),
    ] {
        text = text.replace(&format!(", expected {ours}"), &format!(", expected {word}"));
    }
    text
}

/// What the message says where a list is expected.
const LIST: &str = "expected a list";

/// A tab at the start of a line, which YAML does not accept as indentation; the parser only complains about a
/// character.
fn indented_by_tab(message: &str, text: &str) -> Option<ConfigError> {
    if !message.contains("cannot start any token") && !message.contains("tab") {
        return None;
    }
    let indent = |line: &str| line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    let (at, line) = text.lines().enumerate().find(|(_, line)| indent(line))?;
    let key = line.trim().trim_start_matches("- ").split(':').next().unwrap_or_default();
    let key = crate::model::text::clip(key, 40);
    let named = if key.is_empty() { String::new() } else { format!(" (`{key}`)") };
    let error = ConfigError::new(format!("line {}{named} is indented by a tab, expected spaces", at + 1));
    Some(error.hint("put spaces in the place of the tab; an editor shows it with `cat -A`"))
}

/// The expected form of every count and time in the file.
pub(super) const NUMBER: &str = "a whole number, 0 or more";

/// The known word nearest to the unknown one in "unknown field `x`, expected one of `a`, `b`".
fn suggestion(message: &str) -> Option<String> {
    let at = message.find("unknown field `").or_else(|| message.find("unknown variant `"))?;
    let mut words = message.get(at..)?.split('`').skip(1).step_by(2);
    let unknown = words.next()?;
    crate::model::text::nearest(unknown, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_suggested() {
        let e = ConfigError::of_yaml(
            "projects[0].git: unknown field `remot`, expected one of `remote`, `author` at line 3 column 5",
            "",
        );
        assert_eq!(e.hint.as_deref(), Some("did you mean `remote`?"));
        assert_eq!(suggestion("unknown field `zzz`, expected one of `remote`, `author`"), None);
        assert_eq!(suggestion("unknown field `"), None);
        let e = ConfigError::of_yaml(
            "forge: invalid type: string \"hunter2\", expected struct GiteaForge at line 1 column 2",
            "",
        );
        assert_eq!(e.message, "forge: invalid type: string, expected a section of keys at line 1 column 2");
    }

    #[test]
    fn a_word_in_the_place_of_a_list_and_a_tab_are_named_with_the_way_out() {
        let read = |text: &str| crate::config::load::parse_for_tests(text).unwrap_err();
        let e = read("projects:\n  - key: A\n    git: {remote: /r}\n    ci: {command: ./ci.sh}\n");
        assert!(e.message.contains("ci.command") && e.message.contains("line 4"), "{}", e.message);
        assert!(
            e.message.contains("expected a list") && e.hint.as_deref().is_some_and(|h| h.contains("[\"./ci.sh\"]")),
            "{e:?}"
        );
        let e = read("projects:\n  - key: A\n\tgit: {remote: /r}\n");
        assert_eq!(e.message, "line 3 (`git`) is indented by a tab, expected spaces");
        assert!(e.hint.is_some_and(|h| h.contains("spaces")));
    }
}
