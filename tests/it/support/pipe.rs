//! A whole pipeline on this machine: a bare remote, a local board, a scripted agent, the real binary. The agent's work
//! is a shell script per stage; results are read from git, the state directory and, read-only, the database.
#![allow(dead_code, reason = "each test uses its part")]

use super::git::raw;
use super::nspawn::{self, Machine};
use super::procs;
use super::rows::{Db, Rows};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// How long anything may take before the test fails.
const BOUND: Duration = Duration::from_secs(60);

/// What a test configures; YAML fragments in flow style.
#[derive(Default)]
pub struct Setup {
    /// Keys of the project, one per line, such as `deploy: {confirm: false}`.
    pub project: String,
    /// Keys of the top level.
    pub top: String,
    /// `PATH` of every process; `None`: the test's own.
    pub path: Option<PathBuf>,
    /// Where its folder is; `None`: where temporary files are.
    pub base: Option<PathBuf>,
    /// Further files of the first commit.
    pub files: Vec<(&'static str, String)>,
}

pub struct Pipe {
    /// A machine of its own, which sees the folder under the same path. It ends first.
    pub inside: Option<Machine>,
    pub dir: tempfile::TempDir,
    path: Option<PathBuf>,
    pub env: Vec<(String, String)>,
    /// A build other than the one under test.
    pub program: Option<PathBuf>,
}

/// The answer of one call.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}{}", self.out, self.err))
    }
    pub fn all(&self) -> String {
        format!("exit {}\n{}{}", self.code, self.out, self.err)
    }
}

const AGENT: &str = r#"#!/bin/sh
set -e
d="$ORCH_ARTEFACTS"; mkdir -p "$d"
fm() { printf -- '---\nwork_item: %s\nstage: %s\nagent: %s\ncreated: 2026-01-01T00:00:00Z\n%s---\n\n# %s\n\nText %s.\n' "$ORCH_TASK" "$ORCH_STAGE" "$ORCH_AGENT" "$2" "$1" "$ORCH_ATTEMPT"; }
cat > "HERE/prompts/$ORCH_TASK-$ORCH_STAGE-$ORCH_ATTEMPT.md"
if [ -x "HERE/do/$ORCH_STAGE" ]; then . "HERE/do/$ORCH_STAGE"; else
case "$ORCH_STAGE" in
analysis) for f in 01-brief 02-requirements 03-acceptance-criteria 04-test-plan; do fm $f "" > "$d/$f.md"; done;;
architecture) mkdir -p "$d/06-adr"; fm adr "status: accepted
" > "$d/06-adr/ADR-001-x.md";;
development) echo "$ORCH_TASK round $ORCH_ATTEMPT" >> "$ORCH_TASK.txt";;
review) fm review "verdict: APPROVED
" > "$d/12-review.md";;
testing) fm test "result: PASS
verdict: PASS
status: PASS
" > "$d/13-test-report.md";;
deploy-staging) fm staging "staging_status: SUCCESS
" > "$d/15-staging-log.md";;
esac
fi
echo '{"cost_usd":0.01,"input_tokens":10,"output_tokens":5}'
"#;

impl Pipe {
    /// A project ORCH that goes straight from development to deploy unless the setup names other stages.
    pub fn new(setup: Setup) -> Self {
        let dir = tempfile::tempdir_in(setup.base.unwrap_or_else(std::env::temp_dir)).unwrap();
        let pipe = Self { path: setup.path, env: Vec::new(), program: None, inside: None, dir };
        let at = pipe.dir.path().to_owned();
        for folder in ["do", "prompts", "prod", "state"] {
            std::fs::create_dir(at.join(folder)).unwrap();
        }
        pipe.script("agent.sh", &AGENT.replace("HERE", at.to_str().unwrap()));
        raw(&at, &["init", "-q", "--bare", "-b", "main", "remote.git"]);
        raw(&at, &["clone", "-q", "remote.git", "person"]);
        raw(&at.join("person"), &["symbolic-ref", "HEAD", "refs/heads/main"]);
        let base = [
            ("app.txt", "one\ntwo\nthree\n".to_owned()),
            ("ci.sh", "#!/bin/sh\n! grep -rq BAD --include='*.txt' .\n".to_owned()),
            (
                "deploy.sh",
                "#!/bin/sh\necho \"$ORCH_REVISION\" >> \"$TARGET/deploys\"\ncp -r . \"$TARGET/tree\"\nexit 0\n"
                    .to_owned(),
            ),
        ];
        for (name, text) in base.into_iter().chain(setup.files) {
            pipe.put_person(name, &text);
        }
        pipe.commit("first");
        let stages = if setup.project.contains("stages:") { "" } else { "    stages: [development, deploy]\n" };
        let security = if setup.project.contains("security:") { "" } else { "    security: {gate_enabled: false}\n" };
        let mut project = format!(
            "  - key: ORCH\n    repo: demo\n    git: {{remote: ./remote.git}}\n    ci: {{command: [./ci.sh]}}\n{stages}{security}"
        );
        if !setup.project.lines().any(|l| l.trim_start().starts_with("deploy:")) {
            project.push_str(&format!("    deploy: {}\n", pipe.deploying("")));
        }
        for line in setup.project.lines() {
            project
                .push_str(&format!("    {}\n", line.trim_start().replace("PROD", at.join("prod").to_str().unwrap())));
        }
        let text = format!(
            "state_dir: ./state\nexecutor: detach\nconfine: {{mode: off}}\nbase: {{enabled: false}}\nmin_free_mb: 1\nreaper: {{interval_s: 1}}\nagents: {{runtime: scripted, retry_backoff_s: 1}}\nruntimes:\n  scripted: {{kind: command, command: [./agent.sh]}}\n{}\nprojects:\n{project}",
            setup.top
        );
        std::fs::write(at.join("orch.yaml"), text).unwrap();
        pipe
    }

    /// A `deploy` section that runs `deploy.sh` without confirmation.
    pub fn deploying(&self, more: &str) -> String {
        format!("{{confirm: false, command: [./deploy.sh], env: {{TARGET: {}}}{more}}}", self.at("prod").display())
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn script(&self, name: &str, text: &str) {
        let path = self.at(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What the agent of a stage does instead of its usual work; `fm` and `$d` are available.
    pub fn agent(&self, stage: &str, text: &str) {
        self.script(&format!("do/{stage}"), text);
    }

    /// A file in the person's clone.
    pub fn put_person(&self, name: &str, text: &str) {
        let path = self.at("person").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Commits the person's clone and pushes it to the default branch.
    pub fn commit(&self, message: &str) {
        let person = self.at("person");
        raw(&person, &["add", "-A"]);
        raw(&person, &["commit", "-q", "-m", message]);
        raw(&person, &["push", "-q", "origin", "HEAD:main"]);
    }

    /// The person changes files on top of the newest default branch.
    pub fn person_changes(&self, files: &[(&str, &str)], message: &str) {
        let person = self.at("person");
        raw(&person, &["fetch", "-q", "origin"]);
        raw(&person, &["reset", "-q", "--hard", "origin/main"]);
        for (name, text) in files {
            self.put_person(name, text);
        }
        self.commit(message);
    }

    /// Git in the bare remote.
    pub fn remote_dir(&self) -> PathBuf {
        self.at("remote.git")
    }

    /// Git in the bare remote.
    pub fn remote(&self, args: &[&str]) -> String {
        raw(&self.at("remote.git"), args)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        if let Some(machine) = &self.inside {
            let file = self.at("orch.yaml");
            return machine.command(&[&[nspawn::ORCH, "--config", file.to_str().unwrap()], args].concat());
        }
        let program = self.program.clone().unwrap_or_else(super::confined::Place::program);
        let mut command = Command::new(program);
        let path = self.path.clone().map_or_else(|| std::env::var_os("PATH").unwrap_or_default(), Into::into);
        command.current_dir(self.dir.path()).env_clear().env("PATH", path).env("HOME", self.dir.path());
        command.env("ORCH_CONFIG", "orch.yaml").envs(self.env.iter().cloned()).args(args);
        command
    }

    pub fn orch(&self, args: &[&str]) -> Said {
        let Output { status, stdout, stderr } = self.command(args).output().unwrap();
        Said {
            code: status.code().unwrap_or(-1),
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
        }
    }

    /// A new work item's key.
    pub fn item(&self, title: &str) -> String {
        let said = self.orch(&["new", title, "--json"]);
        assert_eq!(said.code, 0, "{}", said.all());
        said.json()["key"].as_str().unwrap().to_owned()
    }

    pub fn db(&self) -> Db {
        Db::of(&self.at("state"))
    }

    /// A table of the database, for what has no view.
    pub fn table(&self, name: &str) -> Rows {
        self.db().table(name)
    }

    /// A column of the newest task of a key.
    pub fn of(&self, key: &str, column: &str) -> String {
        self.table("tasks").with("key", key).last(column)
    }

    /// Makes everything in the queue due.
    pub fn hurry(&self) {
        self.db().hurry();
    }

    /// Runs steps until the condition holds: ticks, with an occasional reap, as timers would.
    pub fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        let mut n = 0;
        loop {
            if holds(self) {
                return;
            }
            assert!(begun.elapsed() < BOUND, "not within {BOUND:?}: {what}\n{}", self.story());
            if n % 8 == 0 {
                self.orch(&["tick"]);
            }
            if n % 40 == 39 {
                self.orch(&["reap"]);
            }
            n += 1;
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    pub fn until_stage(&self, key: &str, stage: &str) {
        self.until(&format!("{key} in {stage}"), |p| p.of(key, "stage") == stage);
    }

    pub fn until_blocked(&self, key: &str) {
        self.until(&format!("{key} blocked"), |p| !p.of(key, "blocked_reason").is_empty());
    }

    /// Runs steps until the task is blocked, without waits between attempts; returns the reason.
    pub fn hurried_to_a_block(&self, key: &str) -> String {
        self.until(&format!("{key} blocked"), |p| {
            if p.at("state/orch.db").exists() {
                p.hurry();
            }
            !p.of(key, "blocked_reason").is_empty()
        });
        self.of(key, "blocked_reason")
    }

    /// What is stored and what the last runs said, for a failed test.
    pub fn story(&self) -> String {
        let mut text = self.db().story();
        for run in self.table("runs").texts("id").iter().rev().take(3) {
            text.push_str(&format!("run {run}: {}\n", self.read(&format!("state/runs/{run}/supervisor.log"))));
        }
        text
    }

    pub fn events(&self, event: &str) -> Vec<String> {
        self.table("audit").with("event", event).texts("detail")
    }

    /// Alerts by kind, as they are sent.
    pub fn alerts(&self) -> Vec<String> {
        self.table("outbox").with("sink", "alert").texts("payload/kind")
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.at(name)).unwrap_or_default()
    }

    /// The text of an artefact of orch's own, of the newest head that has one.
    pub fn evidence(&self, name: &str) -> String {
        let mut found: Vec<(std::time::SystemTime, String)> = files(&self.at("state/evidence"))
            .into_iter()
            .filter(|p| p.file_name().is_some_and(|n| n == name))
            .map(|p| (p.metadata().unwrap().modified().unwrap(), std::fs::read_to_string(p).unwrap()))
            .collect();
        found.sort();
        found.pop().map(|(_, text)| text).unwrap_or_default()
    }

    /// Every file below the world (except the person's clone and the remote) that contains these bytes.
    pub fn holding(&self, needle: &str) -> Vec<PathBuf> {
        let mut hits = Vec::new();
        for path in files(self.dir.path()) {
            let inside = path.strip_prefix(self.dir.path()).unwrap();
            if ["person", "remote.git", "do"].iter().any(|skip| inside.starts_with(skip)) {
                continue;
            }
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes.windows(needle.len()).any(|w| w == needle.as_bytes()) {
                hits.push(inside.to_owned());
            }
        }
        hits
    }
}

/// Every regular file below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(t) if t.is_dir() => open.push(entry.path()),
                Ok(t) if t.is_file() => found.push(entry.path()),
                Ok(_) | Err(_) => {}
            }
        }
    }
    found
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.inside = None;
        procs::end(|| procs::of(self.dir.path()));
    }
}
