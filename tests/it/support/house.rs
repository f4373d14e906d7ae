//! A whole house for whole-binary tests: a bare repository, a state directory, a scripted agent, the real `orch`.
#![allow(dead_code, reason = "each test uses its part")]

use super::git::raw;
use super::rows::{Db, Rows};
use super::{procs, wait};
use orch::adapters::store::{Mode, Store};
use orch::model::ids::Key;
use orch::model::task::{Run, Task};
use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const AGENT: &str = r#"#!/bin/sh
set -e
d="$ORCH_ARTEFACTS"; mkdir -p "$d"
fm() { printf -- '---\nwork_item: %s\nstage: %s\nagent: %s\ncreated: 2026-01-01T00:00:00Z\n%s---\n\n# %s\n\nText.\n' "$ORCH_TASK" "$ORCH_STAGE" "$ORCH_AGENT" "$2" "$1"; }
case "$ORCH_STAGE" in
analysis) for f in 01-brief 02-requirements 03-acceptance-criteria 04-test-plan; do fm $f "" > "$d/$f.md"; done;;
architecture) mkdir -p "$d/06-adr"; fm adr "status: accepted
" > "$d/06-adr/ADR-001-x.md";;
development) echo "$ORCH_TASK round $ORCH_ATTEMPT" >> app.txt;;
review) fm review "verdict: APPROVED
" > "$d/12-review.md";;
testing) fm test "result: PASS
verdict: PASS
status: PASS
" > "$d/13-test-report.md";;
deploy-staging) fm staging "staging_status: SUCCESS
" > "$d/15-staging-log.md";;
esac
echo '{"cost_usd":0.01,"input_tokens":10,"output_tokens":5}'
"#;

/// The parts of the configuration that tests change; each is a piece of YAML.
pub struct Plan {
    /// Lines of the project, each `key: value`.
    pub project: Vec<String>,
    /// Lines at the top level.
    pub top: Vec<String>,
    pub agent: String,
}

impl Plan {
    /// Only development and deploy, local board, local forge, no CI, no staging.
    pub fn short() -> Self {
        Self {
            project: vec!["stages: [development, deploy]".to_owned()],
            top: vec!["security: {gate_enabled: false}".to_owned()],
            agent: AGENT.to_owned(),
        }
    }

    /// Analysis before it.
    pub fn with_analysis() -> Self {
        let mut plan = Self::short();
        plan.project[0] = "stages: [analysis, development, deploy]".to_owned();
        plan
    }

    pub fn project(mut self, line: impl Into<String>) -> Self {
        self.project.push(line.into());
        self
    }

    pub fn top(mut self, line: impl Into<String>) -> Self {
        self.top.push(line.into());
        self
    }
}

pub struct House {
    folder: tempfile::TempDir,
    pub env: Vec<(String, String)>,
}

/// The result of a command.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    /// The document on stdout.
    pub json: Value,
    pub stderr: String,
}

impl Ran {
    pub fn of(out: Output) -> Self {
        let stdout = String::from_utf8_lossy(&out.stdout);
        Self {
            code: out.status.code().unwrap_or(-1),
            json: serde_json::from_str(&stdout).unwrap_or(Value::String(stdout.into_owned())),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        }
    }

    /// Kinds of the actions it reported.
    pub fn kinds(&self) -> Vec<String> {
        let list = self.json["actions"].as_array().cloned().unwrap_or_default();
        list.iter().map(|a| a["kind"].as_str().unwrap_or("").to_owned()).collect()
    }

    /// Rules of what it skipped.
    pub fn rules(&self) -> Vec<String> {
        let list = self.json["skipped"].as_array().cloned().unwrap_or_default();
        list.iter().map(|a| a["rule"].as_str().unwrap_or("").to_owned()).collect()
    }

    #[track_caller]
    pub fn fine(self) -> Self {
        assert_eq!(self.code, 0, "{} {}", self.json, self.stderr);
        self
    }
}

impl House {
    pub fn new(plan: &Plan) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let house = Self { folder, env: Vec::new() };
        let root = house.root().to_owned();
        raw(&root, &["init", "-q", "--bare", "-b", "main", "remote.git"]);
        raw(&root, &["clone", "-q", "remote.git", "person"]);
        let person = root.join("person");
        raw(&person, &["symbolic-ref", "HEAD", "refs/heads/main"]);
        std::fs::write(person.join("app.txt"), "one\n").unwrap();
        raw(&person, &["add", "-A"]);
        raw(&person, &["commit", "-q", "-m", "first"]);
        raw(&person, &["push", "-q", "origin", "main"]);
        house.script("agent.sh", &plan.agent);
        house.configure(plan);
        house
    }

    pub fn configure(&self, plan: &Plan) {
        let mut text = String::from(
            "state_dir: ./state\nexecutor: detach\nconfine: {mode: off}\nmin_free_mb: 1\nprojects:\n  - key: ORCH\n    repo: demo\n    git: {remote: ./remote.git}\n",
        );
        for line in &plan.project {
            text.push_str(&format!("    {line}\n"));
        }
        let own = |name: &str| plan.top.iter().any(|l| l.starts_with(name));
        if !own("agents:") {
            text.push_str("agents: {runtime: scripted, retry_backoff_s: 0}\n");
        }
        if !own("runtimes:") {
            text.push_str("runtimes: {scripted: {kind: command, command: [./agent.sh]}}\n");
        }
        // A test about something else gets no base check.
        if !own("base:") {
            text.push_str("base: {enabled: false}\n");
        }
        for line in &plan.top {
            text.push_str(&format!("{line}\n"));
        }
        std::fs::write(self.path("orch.yaml"), text).unwrap();
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn remote(&self) -> PathBuf {
        self.path("remote.git")
    }

    pub fn script(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs `orch` in an environment that the test defines.
    pub fn orch(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// The same, without waiting for it.
    pub fn begin(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// As a person sees it: exit code, stdout, stderr.
    pub fn text(&self, args: &[&str]) -> (i32, String, String) {
        let out = self.bare(args).output().unwrap();
        let utf8 = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.code().unwrap_or(-1), utf8(&out.stdout), utf8(&out.stderr))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.bare(args);
        command.arg("--json");
        command
    }

    /// As [`Self::orch`], started by another program: a tracer, say.
    pub fn under(&self, words: &[&OsStr], args: &[&str]) -> Ran {
        let own = self.command(args);
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .arg(own.get_program())
            .args(own.get_args())
            .current_dir(self.root())
            .env_clear()
            .envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .stdin(Stdio::null());
        Ran::of(command.output().unwrap())
    }

    fn bare(&self, args: &[&str]) -> Command {
        let mut command = Command::new(super::confined::Place::program());
        command
            .args(args)
            .args(["--config", "orch.yaml"])
            .current_dir(self.root())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.root())
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null());
        command
    }

    pub fn tick(&self) -> Ran {
        self.orch(&["tick"])
    }

    pub fn reconcile(&self) -> Ran {
        self.orch(&["reconcile"])
    }

    /// A new work item on the local board.
    pub fn item(&self, title: &str) -> Key {
        let made = self.orch(&["new", title]).fine();
        Key::parse(made.json["key"].as_str().unwrap()).unwrap()
    }

    /// The database; `None` before the first step.
    pub fn store(&self) -> Option<Store> {
        Store::open(&self.path("state/orch.db"), Mode::ReadOnly).ok()
    }

    pub fn task(&self, key: &str) -> Option<Task> {
        let key = Key::parse(key).unwrap();
        self.store()?.read(|tx| tx.task_by_key(&key)).ok()?
    }

    pub fn runs(&self, key: &str) -> Vec<Run> {
        let Some(task) = self.task(key) else { return Vec::new() };
        self.store().and_then(|mut s| s.read(|tx| tx.runs_of(task.id)).ok()).unwrap_or_default()
    }

    /// A value shared by all processes.
    pub fn meta(&self, key: &str) -> Option<String> {
        self.store()?.read(|tx| tx.meta(key)).ok()?
    }

    /// The events of the audit table, as `name detail`.
    pub fn events(&self, name: &str) -> Vec<Value> {
        self.table("audit")
            .with("event", name)
            .texts("detail")
            .iter()
            .map(|t| serde_json::from_str(t).unwrap())
            .collect()
    }

    pub fn db(&self) -> Db {
        Db::of(&self.path("state"))
    }

    /// A table of the database, for what has no view.
    pub fn table(&self, name: &str) -> Rows {
        self.db().table(name)
    }

    /// Every open message is due.
    pub fn messages_are_due(&self) {
        self.table("outbox").with("state", "open").put("available_at", 0);
    }

    /// Whether nothing runs.
    pub fn is_quiet(&self) -> bool {
        self.table("runs").without("state", "settled").is_empty()
    }

    /// Waits until every message has been delivered.
    #[track_caller]
    pub fn delivered(&self) {
        self.until("delivered", || self.table("outbox").with("state", "open").is_empty().then_some(()));
    }

    /// As if every wait that a service asked for were over.
    pub fn minute_passes(&self) {
        self.table("meta").like("key", "throttle/").delete();
    }

    /// As if what is recorded of services had begun this many minutes earlier.
    pub fn outages_age(&self, minutes: i64) {
        self.table("meta").like("key", "down/").shift("value/since", -minutes * 60_000);
    }

    /// Makes everything in the queue due, and takes the next step.
    pub fn next(&self) -> Ran {
        self.db().hurry();
        self.tick()
    }

    /// The names that an alert of this kind was about.
    pub fn alerts(&self, kind: &str) -> Vec<String> {
        self.table("outbox").like("key", format!("alert/{kind}/")).texts("payload/title")
    }

    /// Waits until `done` gives something.
    #[track_caller]
    pub fn until<T>(&self, what: &str, done: impl FnMut() -> Option<T>) -> T {
        let (state, root) = (self.path("state"), self.root());
        wait::until(what, &[root, &state], done, || self.supervisor_logs())
    }

    /// Waits until a task's row is as expected and nothing of it is running.
    #[track_caller]
    pub fn until_task(&self, key: &str, what: &str, so: impl Fn(&Task) -> bool) -> Task {
        self.until(&format!("{key} {what}"), || {
            // The runs first: anything that settles in between shows in the task, which is read after it.
            let open = self.table("runs").without("state", "settled").texts("id");
            self.task(key).filter(|t| open.is_empty() && so(t))
        })
    }

    /// As [`House::until_task`], with a tick before each read.
    #[track_caller]
    pub fn until_task_after_ticks(&self, key: &str, so: impl Fn(&Task) -> bool) -> Task {
        self.until(key, || {
            self.tick();
            self.task(key).filter(|t| so(t))
        })
    }

    /// The supervisors' logs, for a failed test.
    fn supervisor_logs(&self) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(self.path("state/runs")).into_iter().flatten().flatten() {
            for name in ["supervisor.log", "stderr.log"] {
                if let Ok(log) = std::fs::read_to_string(entry.path().join(name)) {
                    text.push_str(&format!("\n--- {}/{name}\n{log}", entry.file_name().to_string_lossy()));
                }
            }
        }
        text.push_str(&self.db().story());
        text
    }
}

impl Drop for House {
    fn drop(&mut self) {
        procs::end(|| procs::of(self.root()));
    }
}
