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

- Unknown keys are refused. Relative paths are relative to the file's folder, `board.dir` to `state_dir`; commands run in
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

/// One table of keys, then the tables of the sections in it.
fn section(root: &Value, object: &Value, at: &str, known: &BTreeMap<String, Setting>, out: &mut String) {
    let Some(properties) = object.get("properties").and_then(Value::as_object) else { return };
    let title = if at.is_empty() { "The file" } else { at };
    let _ = write!(out, "\n### {title}\n\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n");
    let mut inner = Vec::new();
    for (key, property) in properties {
        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        let (words, below) = kind(root, property);
        let meaning = property.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
        let plain = path.strip_prefix("projects[].").unwrap_or(&path);
        let (meaning, default_text) = default_in(&meaning);
        let default = match known.get(plain) {
            Some(s) if s.path == "state_dir" => default_text,
            Some(s) if !s.default.is_empty() => format!("`{}`", s.default),
            Some(_) => "empty".to_owned(),
            None => default_text,
        };
        let _ = writeln!(out, "| `{key}` | {words} | {default} | {} |", meaning.replace('|', "\\|"));
        if let Some((below, suffix)) = below {
            inner.push((below, format!("{path}{suffix}")));
        }
    }
    for (below, path) in inner {
        // The shared sections are shown once, at the top.
        let default_text = SHARED.contains(&path.as_str());
        if !default_text {
            section(root, below, &path, known, out);
        }
    }
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

/// What a property accepts, in words, and the object below it with the suffix of its path.
fn kind<'a>(root: &'a Value, property: &'a Value) -> (String, Option<(&'a Value, &'static str)>) {
    let target = |v: &'a Value| {
        let name = v.get("$ref").and_then(Value::as_str).and_then(|r| r.rsplit('/').next());
        name.and_then(|n| root.get("$defs").and_then(|d| d.get(n))).unwrap_or(v)
    };
    let chosen = property
        .get("anyOf")
        .and_then(Value::as_array)
        .and_then(|any| any.iter().find(|v| v.get("type").and_then(Value::as_str) != Some("null")))
        .unwrap_or(property);
    let it = target(chosen);
    let words_of = |list: &Value| {
        let all = list.as_array().into_iter().flatten().filter_map(Value::as_str);
        all.filter(|w| *w != "null").map(|w| format!("`{w}`")).collect::<Vec<_>>()
    };
    if let Some(list) = it.get("enum") {
        return (words_of(list).join(", "), None);
    }
    if let Some(any) = it.get("oneOf").and_then(Value::as_array) {
        let consts: Vec<String> =
            any.iter().filter_map(|v| v.get("const").and_then(Value::as_str)).map(|w| format!("`{w}`")).collect();
        if consts.len() == any.len() {
            return (consts.join(", "), None);
        }
        let title = it.get("description").and_then(Value::as_str).unwrap_or("see the meaning");
        return (title.replace('|', "\\|"), None);
    }
    if let Some(properties) = it.get("properties").and_then(Value::as_object) {
        // A map with known keys: described once for all of them.
        let same = properties.values().all(|p| p.get("description").is_none() && properties.values().next() == Some(p));
        if same && properties.len() > 2 {
            let names: Vec<String> = properties.keys().map(|k| format!("`{k}`")).collect();
            let below = properties.values().next().map(&target).filter(|v| v.get("properties").is_some());
            return (format!("map by {}", names.join(", ")), below.map(|b| (b, ".NAME")));
        }
        return ("section".into(), Some((it, "")));
    }
    let types = it.get("type").map(|t| match t.as_str() {
        Some(one) => one.to_owned(),
        None => words_of(t).join(" or ").replace('`', ""),
    });
    match types.as_deref() {
        Some("array") => {
            let below = it.get("items").map(&target).filter(|i| i.get("properties").is_some());
            let words = if below.is_some() { "list of sections" } else { "list" };
            (words.into(), below.map(|b| (b, "[]")))
        }
        Some("object") => {
            let below = it.get("additionalProperties").map(target).filter(|i| i.get("properties").is_some());
            ("map".into(), below.map(|b| (b, ".NAME")))
        }
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
