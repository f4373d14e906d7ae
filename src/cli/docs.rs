//! Generates `docs/cli.md` and `docs/state-machine.md` from the definitions that the program itself uses.

use super::Cli;
use crate::decide::advice::moved_by;
use crate::decide::gates::{entering, on_leaving};
use crate::model::answers::Answers;
use crate::model::board::{Progress, indication};
use crate::model::edges::{EDGES, Edge};
use crate::model::gate::Gate;
use crate::model::policy::{CiSource, ProjectPolicy};
use crate::model::report::{ActionKind, Rule};
use crate::model::stage::{JobKind, JobStatus, Stage};
use crate::model::status::Status;
use crate::model::task::{DeployState, RunState};
use clap::CommandFactory;
use serde_json::Value;
use std::fmt::Write as _;

const NOTE: &str = "<!-- Generated from the code: change it there, then run the tests with ORCH_BLESS=1. -->";

/// The whole of `docs/cli.md`.
pub fn cli() -> String {
    let mut out = format!(
        "# Command line\n\n{NOTE}\n\n`orch [GLOBAL OPTIONS] SUBCOMMAND [OPTIONS]`. Results go to stdout, logs to stderr. With `--json`, stdout is one\nJSON document and nothing else. `TASK` is a work item's key in any letter case; it means its live or latest task.\n\n## Exit codes\n\n| code | meaning |\n| --- | --- |\n"
    );
    for (code, meaning) in [
        (0, "the step is done, or there was nothing to do"),
        (1, "a negative verdict: a finding, a failed check, DEGRADED, or the gate of the named task does not pass yet"),
        (2, "the command line or the configuration is wrong; nothing was changed"),
        (3, "something needed has failed or cannot be reached; safe to run again"),
        (4, "refused or deferred by a guard"),
    ] {
        let _ = writeln!(out, "| {code} | {meaning} |");
    }
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let _ = write!(
        out,
        "\n## Global options\n\nBefore or after the subcommand.\n\n| option | variable | meaning |\n| --- | --- | --- |\n"
    );
    for a in root.get_arguments().filter(|a| !a.is_hide_set() && a.get_id() != "help" && a.get_id() != "version") {
        let variable = a.get_env().map(|v| format!("`{}`", v.to_string_lossy())).unwrap_or_default();
        let _ = writeln!(out, "| `{}` | {variable} | {} |", form(a), help(a, false));
    }
    out.push_str("\n## Subcommands\n");
    for command in root.get_subcommands() {
        subcommand(command, "orch", &mut out);
    }
    out.push_str("\n## What a step prints with `--json`\n\n`{step, changed, actions: [{kind, task, ...}], skipped: [{task, rule, why, until}], errors: [{code, message, hint, task}], duration_ms}`, also after a failure. `security-scan`, `staging-check` and `post-deploy-probe` add `verdict` and `findings`, `checks` or `probes`.\n\n### Kinds of actions\n\n");
    let kinds: Vec<String> = ActionKind::ALL.iter().map(|k| format!("`{k}`")).collect();
    out.push_str(&kinds.join(", "));
    out.push_str(".\n\n### Rules\n\nThe reason why a task waits. `skipped`, `status` and `explain` use the same names.\n\n| rule | what unblocks the task |\n| --- | --- |\n");
    for rule in Rule::ALL {
        let _ = writeln!(out, "| `{rule}` | {} |", moved_by(*rule, "TASK", "REPO", &Answers::default()).join("; "));
    }
    out.push_str("\n## What `status --json` shows\n\nTimes are RFC 3339 in UTC. A type with `?` may be null.\n");
    status(&mut out);
    out
}

/// An option's text: its whole help, its possible values, its default and its variable.
fn help(a: &clap::Arg, variable: bool) -> String {
    let text = a.get_long_help().or_else(|| a.get_help()).map(ToString::to_string).unwrap_or_default();
    let paragraphs: Vec<String> = text.split("\n\n").map(|p| p.replace('\n', " ")).collect();
    let mut said = vec![paragraphs.join("<br>")];
    let takes = a.get_action().takes_values();
    let words = a.get_possible_values();
    // If `--help` hides the list, the text itself names the values.
    if takes && !words.is_empty() && !a.is_hide_possible_values_set() {
        let words: Vec<String> = words.iter().map(|v| format!("`{}`", v.get_name())).collect();
        said.push(format!("one of {}", words.join(", ")));
    }
    let defaults: Vec<String> = a.get_default_values().iter().map(|v| v.to_string_lossy().into_owned()).collect();
    if takes && defaults.iter().any(|d| !d.is_empty()) {
        said.push(format!("default `{}`", defaults.join(" ")));
    }
    if let Some(name) = a.get_env().filter(|_| variable) {
        said.push(format!("variable `{}`", name.to_string_lossy()));
    }
    said.retain(|part| !part.is_empty());
    said.join("; ").replace('|', "\\|")
}

/// An option as it is typed: `-f, --follow`, `--run N`, `TASK`.
fn form(a: &clap::Arg) -> String {
    let mut names = Vec::new();
    if let Some(short) = a.get_short() {
        names.push(format!("-{short}"));
    }
    if let Some(long) = a.get_long() {
        names.push(format!("--{long}"));
    }
    let takes = a.get_action().takes_values();
    let value: Vec<String> = a.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
    let value = value.join(" ");
    if names.is_empty() {
        return if a.is_required_set() { value } else { format!("[{value}]") };
    }
    let names = names.join(", ");
    if takes { format!("{names} {value}") } else { names }
}

fn subcommand(command: &clap::Command, path: &str, out: &mut String) {
    if command.is_hide_set() {
        return;
    }
    let path = format!("{path} {}", command.get_name());
    // The long text begins with the short one.
    let about = command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string).unwrap_or_default();
    let _ = write!(out, "\n### `{path}`\n\n{about}\n");
    let own: Vec<&clap::Arg> = command
        .get_arguments()
        .filter(|a| !a.is_hide_set() && !a.is_global_set() && a.get_id() != "help" && a.get_id() != "version")
        .collect();
    if !own.is_empty() {
        out.push_str("\n| option | meaning |\n| --- | --- |\n");
    }
    for a in own {
        let _ = writeln!(out, "| `{}` | {} |", form(a), help(a, true));
    }
    if let Some(after) = command.get_after_long_help().or_else(|| command.get_after_help()) {
        example(&after.to_string(), out);
    }
    for inner in command.get_subcommands() {
        subcommand(inner, &path, out);
    }
}

/// The text after the options: indented calls as a block, everything else as text.
fn example(after: &str, out: &mut String) {
    let mut block = false;
    for line in after.lines() {
        let call = line.strip_prefix("  ");
        if call.is_some() != block {
            out.push_str(if block { "```\n" } else { "\n```\n" });
            block = !block;
        }
        match (call, line) {
            (Some(call), _) => drop(writeln!(out, "{call}")),
            (None, "" | "Example:" | "Examples:") => {}
            (None, text) => drop(writeln!(out, "\n{text}")),
        }
    }
    if block {
        out.push_str("```\n");
    }
}

fn status(out: &mut String) {
    let root = schemars::schema_for!(Status).to_value();
    let Some(blocks) = root.get("properties").and_then(Value::as_object) else { return };
    for (name, block) in blocks {
        let said = block.get("description").and_then(Value::as_str).unwrap_or_default();
        let list = block.get("type").and_then(Value::as_str) == Some("array");
        let inner = if list { block.get("items").unwrap_or(block) } else { block };
        let _ = write!(out, "\n### `{name}`{}\n\n{said}.\n", if list { ", a list" } else { "" });
        fields(&root, target(&root, inner), out);
    }
}

fn fields(root: &Value, object: &Value, out: &mut String) {
    let Some(properties) = object.get("properties").and_then(Value::as_object) else { return };
    out.push_str("\n| field | value | meaning |\n| --- | --- | --- |\n");
    for (name, property) in properties {
        let said = property.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
        let _ = writeln!(out, "| `{name}` | {} | {said} |", kind(root, property));
    }
}

fn target<'v>(root: &'v Value, schema: &'v Value) -> &'v Value {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/$defs/"));
    name.and_then(|n| root.get("$defs")?.get(n)).unwrap_or(schema)
}

/// A type in words.
fn kind(root: &Value, schema: &Value) -> String {
    if let Some(any) = schema.get("anyOf").and_then(Value::as_array) {
        let words: Vec<String> = any
            .iter()
            .filter(|s| s.get("type").and_then(Value::as_str) != Some("null"))
            .map(|s| kind(root, s))
            .collect();
        return format!("{}?", words.join(" or "));
    }
    let schema = target(root, schema);
    let words = |list: &Vec<Value>| list.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
    if let Some(list) = schema.get("enum").and_then(Value::as_array) {
        let all = words(list);
        return if all.len() > 12 { "a word".to_owned() } else { all.join(", ") };
    }
    if let Some(list) = schema.get("oneOf").and_then(Value::as_array) {
        let all: Vec<&str> = list.iter().filter_map(|s| s.get("const")?.as_str()).collect();
        return if all.len() > 12 || all.is_empty() { "a word".to_owned() } else { all.join(", ") };
    }
    match schema.get("type") {
        Some(Value::Array(list)) => {
            let all: Vec<String> = words(list).into_iter().filter(|w| w != "null").collect();
            format!("{}?", all.join(" or "))
        }
        Some(Value::String(word)) if word == "array" => {
            schema.get("items").map_or_else(|| "list".to_owned(), |i| format!("list of {}", kind(root, i)))
        }
        Some(Value::String(word)) if word == "object" => {
            let names: Vec<&String> =
                schema.get("properties").and_then(Value::as_object).map(|p| p.keys().collect()).unwrap_or_default();
            format!("{{{}}}", names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", "))
        }
        Some(Value::String(word)) => word.clone(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => "any".to_owned(),
    }
}

/// Everything on: every stage, every gate.
fn whole() -> ProjectPolicy {
    ProjectPolicy {
        fault: None,
        key: "KEY".to_owned(),
        repo: "REPO".to_owned(),
        self_hosting: false,
        stages: Stage::ALL.iter().copied().filter(|s| s.may_be_left_out()).collect(),
        ci: CiSource::Command,
        base: None,
        staging_checks: true,
        staging_commands: true,
        security: true,
        staging_build: true,
        deploy_build: true,
        deploys_as: None,
        freshness: true,
        confirm_deploy: true,
        watch: true,
        serial: true,
        freeze_on_degraded: true,
        remote_forge: false,
        deploy_command: false,
        posts_statuses: false,
        update: crate::model::sides::Update::Rebase,
        leaves_out: false,
        artefacts_on_branch: false,
        deletes_branch: true,
        max_running: 0,
        remote_board: false,
    }
}

/// The edges of the table: the picture shows those of a project with every stage, the list all of them.
fn edges(project: &ProjectPolicy, out: &mut String) {
    let id = |s: Stage| s.as_str().replace('-', "_");
    for (edge, from, all) in EDGES {
        for to in *all {
            let said = match edge {
                Edge::Start | Edge::Advance if from.next(&project.stages) == Some(*to) => String::new(),
                // In the list only: edges that exist only with fewer stages, and the many ways back to a verdict.
                Edge::Start | Edge::Advance | Edge::Return | Edge::Repeat => continue,
                Edge::GiveBack if Stage::Created.next(&project.stages) != Some(*from) => continue,
                Edge::GiveBack | Edge::Rollback | Edge::Cancel => format!(": {edge}"),
            };
            let _ = writeln!(out, "    {} --> {}{said}", id(*from), id(*to));
        }
    }
    out.push_str("    done --> [*]\n    cancelled --> [*]\n```\n\n## Edges\n\nAny other change of stage is refused, and an alert names its cause.\n\n| edge | from | to |\n| --- | --- | --- |\n");
    for (edge, from, all) in EDGES {
        let to: Vec<String> = all.iter().map(|s| format!("`{s}`")).collect();
        let _ = writeln!(out, "| {edge} | `{from}` | {} |", to.join(", "));
    }
    out.push_str("\n| edge | cause |\n| --- | --- |\n");
    for edge in Edge::ALL {
        let what = match edge {
            Edge::Start => "its first job is claimed",
            Edge::GiveBack => "that claim is given back, because its branch could not be created",
            Edge::Advance => "every exit gate passed",
            Edge::Rollback => "a gate fails or a person rejects; one attempt is spent",
            Edge::Return => {
                "a verdict or an approval no longer applies to the head, or a person repeats a stage; no attempt is spent"
            }
            Edge::Repeat => "the stage begins again: after a retry, or after a rejected or resumed analysis",
            Edge::Cancel => "a stop is carried out",
        };
        let _ = writeln!(out, "| {edge} | {what} |");
    }
}

/// The whole of `docs/state-machine.md`.
pub fn state_machine() -> String {
    let project = whole();
    let mut out = format!(
        "# The state machine\n\n{NOTE}\n\nOne pure function makes every decision (`src/decide/transition.rs`), and one place applies it if the task's revision is\nunchanged (`src/engine/apply.rs`). A gate reads rows alone, and answers PASS, FAIL or UNDECIDED with a reason.\n\n## Stages\n\n| stage | agent | may be left out | exit gates, in order | next | the board shows |\n| --- | --- | --- | --- | --- | --- |\n"
    );
    for stage in Stage::ALL {
        let gates: Vec<String> = on_leaving(*stage, &project).iter().map(|g| format!("`{g}`")).collect();
        let dash = || "–".to_owned();
        let _ = writeln!(
            out,
            "| `{stage}` | {} | {} | {} | {} | {} |",
            stage.agent().map_or_else(dash, |a| a.to_string()),
            if stage.may_be_left_out() { "yes" } else { "no" },
            if gates.is_empty() { dash() } else { gates.join(", ") },
            stage.next(&project.stages).map_or_else(dash, |s| format!("`{s}`")),
            indication(*stage, Progress::Working).map_or_else(dash, |l| format!("`{l}`")),
        );
    }
    let entering: Vec<String> = entering::DEPLOY.iter().map(|(g, _)| format!("`{g}`")).collect();
    let _ = write!(
        out,
        "\n`done` and `cancelled` are final. The stage before `deploy` has further exit gates: {}.\nThey are evaluated again before the deploy's critical window opens.\n\n```mermaid\nstateDiagram-v2\n    [*] --> created\n",
        entering.join(", ")
    );
    edges(&project, &mut out);
    out.push_str("\n## Decisions\n\n| decision | what happens |\n| --- | --- |\n");
    for (name, what) in [
        ("hold", "nothing changes; the decision names the rule that holds the task"),
        ("enqueue", "a job is queued"),
        ("park", "a person is asked"),
        ("release", "a label replaces a person's answer"),
        ("advance", "the task enters the next stage; answers and waits of the previous stage no longer count"),
        ("rollback", "back to `development` with findings; one attempt is spent"),
        ("return", "back to the stage whose verdict no longer applies to the head; no attempt is spent"),
        ("block", "held until `orch retry`; if the deploy's result is unknown, the repository is frozen as well"),
        ("finish", "the task is `done`; a configured watch starts"),
        ("effect", "the step causes one effect outside the database, recorded in the journal first"),
    ] {
        let _ = writeln!(out, "| {name} | {what} |");
    }
    out.push_str("\n## Gates\n\n| gate | stages it guards |\n| --- | --- |\n");
    for gate in Gate::ALL {
        let stages: Vec<String> =
            Stage::ALL.iter().filter(|s| on_leaving(**s, &project).contains(gate)).map(|s| format!("`{s}`")).collect();
        let _ = writeln!(out, "| `{gate}` | {} |", stages.join(", "));
    }
    let list = |words: Vec<String>| words.join(", ");
    let _ = write!(
        out,
        "\n## Jobs, runs, deploys\n\n- Kinds of jobs: {}.\n- A job is {}; the last three are final.\n- A run is {}.\n- A deploy is {}.\n",
        list(JobKind::ALL.iter().map(|k| format!("`{k}`")).collect()),
        list(JobStatus::ALL.iter().map(|k| format!("`{k}`")).collect()),
        list(RunState::ALL.iter().map(|k| format!("`{k}`")).collect()),
        list(DeployState::ALL.iter().map(|k| format!("`{k}`")).collect()),
    );
    out
}
