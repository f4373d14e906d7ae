//! Generates `docs/configuration.md` and `orch.env.example` from the types that read the file.

use super::load::schema;
use super::settings::{Setting, settings};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

const INTRO: &str = "# Configuration

<!-- Generated from the types that read the file: change those, then run the tests with ORCH_BLESS=1. -->

`orch` reads one YAML file: `--config FILE`, else `ORCH_CONFIG`, else an `orch.yaml` of the checkout that this account trusts
(`orch config trust FILE`), else `$XDG_CONFIG_HOME/orch/orch.yaml`, else `/etc/orch/orch.yaml`. `orch config check` says whether it holds, `orch config show` what is in force
and where each value came from, `orch config schema` prints its JSON Schema for editors.

The smallest file:

```yaml
projects: [{key: ORCH, git: {remote: PATH-OR-URL}}]
```

- Unknown keys are refused, and so are values of another type: a text that looks like a number is written in quotes (the
  words of a command may be numbers). What a section may hold can depend on its `kind`. Relative paths are relative to the file's folder, `board.dir` to `state_dir`; commands run in
  the checkout they belong to. `~` and `$VAR` expand in paths.
- A section that exists both at the top and in a project (`security`, `staging`, `post_deploy`): the project's keys win,
  the environment wins over both, and the rules for self-hosting projects win over all.
- `confine` is allowed at the top, in a project and in a runtime. What is not said there is as at the top, and what is said
  may only be stricter (`off` < `auto` < `required`; `open` < `internet` < `hosts` < `closed`; fewer hosts and paths; lower
  limits; `bubblewrap` for `landlock` or `auto`; an account where there was none): looser is exit 2. `command` and
  `uid_base` are allowed at the top only. `ORCH_CONFINE_…` replaces the value at the top before this comparison, never a
  project's or a runtime's. docs/security.md says what each engine holds.
- Secrets are never in the file. `api_key`, `token` and `credential` take `{env: NAME}`, `{file: PATH}` or
  `{command: [PROGRAM, ...]}`; `env` maps take literals too.
- A scope is a list of repositories (or one text, separated by commas): empty means the self-hosting projects only, `*`
  means all.
";

/// The whole of `docs/configuration.md`.
pub fn markdown() -> String {
    let schema = schema();
    let known: BTreeMap<String, Setting> = settings().into_iter().map(|s| (s.path.clone(), s)).collect();
    let mut out = String::from(INTRO);
    out.push_str("\n## Keys\n\nA key without a default here is absent by default.\n");
    section(&schema, &schema, "", &known, &mut out);
    out.push_str("\n## Environment\n\nAn empty variable counts as unset; one that can't be read is an error; an unknown `ORCH_…` draws a warning.\n\n| variable | key | default | meaning |\n| --- | --- | --- | --- |\n");
    for s in settings() {
        let default = if s.default.is_empty() { "empty".to_owned() } else { format!("`{}`", s.default) };
        let _ = writeln!(out, "| `{}` | {} | {default} | {} |", s.variable, s.path, s.meaning);
    }
    out
}

const SHARED: [&str; 6] = [
    "projects[].confine",
    "projects[].slurm",
    "projects[].security",
    "projects[].staging",
    "projects[].post_deploy",
    "runtimes.NAME.confine",
];

/// One table of keys for each kind that the section may be, then the tables of the sections in it.
fn section(root: &Value, object: &Value, at: &str, known: &BTreeMap<String, Setting>, out: &mut String) {
    let kinds = kinds(root, object);
    let several = kinds.len() > 1;
    for object in kinds {
        let Some(properties) = object.get("properties").and_then(Value::as_object) else { continue };
        let kind = properties.get("kind").and_then(|k| k.get("const")).and_then(Value::as_str);
        let title = match (kind, several) {
            (Some(kind), _) => format!("{at}, kind: {kind}"),
            (None, true) => format!("{at}, with `{}`", first_key(object)),
            (None, false) if at.is_empty() => "The file".to_owned(),
            (None, false) => at.to_owned(),
        };
        let _ = write!(out, "\n### {title}\n\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n");
        let mut inner = Vec::new();
        for (key, property) in properties {
            let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            let (words, below) = value_of(root, property);
            let (meaning, default) = meaning_and_default(property, known.get(&path));
            let _ = writeln!(out, "| `{key}` | {words} | {default} | {meaning} |");
            inner.extend(below.map(|(below, suffix)| (below, format!("{path}{suffix}"))));
        }
        // The shared sections are shown once, at the top.
        for (below, path) in inner.into_iter().filter(|(_, path)| !SHARED.contains(&path.as_str())) {
            section(root, below, &path, known, out);
        }
    }
}

/// The key that only this one of several shapes has, which is its first required one.
fn first_key(object: &Value) -> &str {
    object.get("required").and_then(|all| all.get(0)).and_then(Value::as_str).unwrap_or_default()
}

/// What a key means, and its default: the type's own, or the words of the description where it depends on others.
fn meaning_and_default(property: &Value, known: Option<&Setting>) -> (String, String) {
    let text = property.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
    let (meaning, in_words) = default_in(&text);
    let own = property.get("default").map(|default| match default {
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::Array(all) if all.is_empty() => "empty".to_owned(),
        Value::String(text) => format!("`{text}`"),
        Value::Array(all) => {
            let words = all.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
            format!("`{}`", words.collect::<Vec<_>>().join(", "))
        }
        Value::Number(number) if number.as_f64().is_some_and(|n| n.fract() == 0.0) => {
            format!("`{}`", number.as_f64().unwrap_or_default())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => format!("`{default}`"),
    });
    let default = match (in_words.is_empty(), known) {
        (false, _) => in_words,
        (true, Some(setting)) if setting.default.is_empty() => "empty".to_owned(),
        (true, Some(setting)) => format!("`{}`", setting.default),
        (true, None) => own.unwrap_or_default(),
    };
    (meaning.replace('|', "\\|"), default)
}

/// What a schema stands for: references followed, optional values unwrapped, and each kind where there are several.
fn kinds<'a>(root: &'a Value, node: &'a Value) -> Vec<&'a Value> {
    if let Some(name) = node.get("$ref").and_then(Value::as_str).and_then(|r| r.rsplit('/').next()) {
        return root.get("$defs").and_then(|d| d.get(name)).map_or_else(Vec::new, |node| kinds(root, node));
    }
    let several = ["oneOf", "anyOf"].iter().find_map(|word| node.get(*word).and_then(Value::as_array));
    let Some(several) = several else { return vec![node] };
    let null = |node: &&Value| node.get("type").and_then(Value::as_str) != Some("null");
    several.iter().filter(null).flat_map(|node| kinds(root, node)).collect()
}

/// Splits a description into its text and the default that it names (`…; default: x`).
fn default_in(text: &str) -> (String, String) {
    let said = |rest: &str| {
        let rest = rest.trim_start_matches(':').trim();
        if rest.contains([' ', '`']) { rest.to_owned() } else { format!("`{rest}`") }
    };
    match text.split_once("; default").or_else(|| text.split_once(": default")) {
        // Any further half sentence belongs to the meaning.
        Some((before, rest)) => match rest.split_once("; ") {
            Some((default, after)) => (format!("{before}; {after}"), said(default)),
            None => (before.to_owned(), said(rest)),
        },
        None => (text.to_owned(), String::new()),
    }
}

/// What a property accepts, in words, and the section below it with the suffix of its path.
fn value_of<'a>(root: &'a Value, property: &'a Value) -> (String, Option<(&'a Value, &'static str)>) {
    let all = kinds(root, property);
    let Some(first) = all.first().copied() else { return ("see the meaning".into(), None) };
    let is_section = |node: &Value| node.get("properties").is_some();
    let word = |node: &&Value| node.get("const").and_then(Value::as_str).map(|word| vec![word.to_owned()]);
    let words = |node: &&Value| word(node).or_else(|| node.get("enum").map(words_of));
    if let Some(words) = all.iter().map(words).collect::<Option<Vec<_>>>() {
        let words: Vec<String> = words.into_iter().flatten().map(|word| format!("`{word}`")).collect();
        return (words.join(", "), None);
    }
    let described = || definition(root, property).and_then(|d| d.get("description")).and_then(Value::as_str);
    match (all.len(), all.iter().all(|node| is_section(node))) {
        (_, true) if is_reference(first) => (described().unwrap_or("a reference").to_owned(), None),
        (1, true) => map_or_section(root, first),
        (_, true) => ("section".into(), Some((property, ""))),
        (1, false) => plain(root, first),
        (_, false) => (described().unwrap_or("see the meaning").replace('|', "\\|"), None),
    }
}

/// The definition that a property refers to.
fn definition<'a>(root: &'a Value, property: &'a Value) -> Option<&'a Value> {
    let name = property.get("$ref").and_then(Value::as_str).and_then(|r| r.rsplit('/').next());
    let of = |any: &'a Value| any.as_array().into_iter().flatten().find_map(|node| definition(root, node));
    name.map_or_else(|| property.get("anyOf").and_then(of), |name| root.get("$defs").and_then(|d| d.get(name)))
}

/// Whether a section is a shape of a secret's reference.
fn is_reference(node: &Value) -> bool {
    node["properties"].as_object().is_some_and(|keys| keys.len() == 1 && keys.contains_key("env"))
}

fn words_of(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A section, or a map with known keys, which is described once for all of them.
fn map_or_section<'a>(root: &'a Value, it: &'a Value) -> (String, Option<(&'a Value, &'static str)>) {
    let Some(properties) = it.get("properties").and_then(Value::as_object) else { return ("map".into(), None) };
    let first = properties.values().next();
    let same = properties.values().all(|p| p.get("description").is_none() && Some(p) == first);
    if !same || properties.len() < 3 {
        return ("section".into(), Some((it, "")));
    }
    let names: Vec<String> = properties.keys().map(|k| format!("`{k}`")).collect();
    let below = first.and_then(|p| kinds(root, p).first().copied()).filter(|v| v.get("properties").is_some());
    (format!("map by {}", names.join(", ")), below.map(|b| (b, ".NAME")))
}

/// A value without keys of its own, or a list or map of sections.
fn plain<'a>(root: &'a Value, it: &'a Value) -> (String, Option<(&'a Value, &'static str)>) {
    let types = it.get("type").map(|t| t.as_str().map_or_else(|| words_of(t), |one| vec![one.to_owned()]));
    let types: Vec<String> = types.unwrap_or_default().into_iter().filter(|word| word != "null").collect();
    let below = |key: &str| {
        let node = it.get(key).filter(|node| node.is_object())?;
        kinds(root, node).first().is_some_and(|n| n.get("properties").is_some() && !is_reference(n)).then_some(node)
    };
    match types.first().map(String::as_str) {
        Some("array") => match below("items") {
            Some(node) => ("list of sections".into(), Some((node, "[]"))),
            None => ("list".into(), None),
        },
        Some("object") => ("map".into(), below("additionalProperties").map(|b| (b, ".NAME"))),
        Some("string") if types.len() > 1 => ("text or number".into(), None),
        Some("string") => ("text".into(), None),
        Some("boolean") => ("true or false".into(), None),
        Some("integer") => ("whole number".into(), None),
        Some("number") => ("number".into(), None),
        _ => ("see the meaning".into(), None),
    }
}

/// The whole of `scripts/systemd/orch.env.example`: every variable, commented out, with its default.
pub fn env_example() -> String {
    let mut out = String::from(
        "# Settings of orch for its units (EnvironmentFile=). Each line shows the default; a variable wins over the file.\n\
         # Generated from the code: change it there, then run the tests with ORCH_BLESS=1.\n",
    );
    for s in settings() {
        let default = if matches!(s.path.as_str(), "state_dir" | "area_dir") { "" } else { s.default.as_str() };
        let _ = write!(out, "\n# {} ({}: {})\n#{}={default}\n", s.meaning, s.path, s.expected, s.variable);
    }
    out
}
