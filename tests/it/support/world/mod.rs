//! A complete installation for black-box tests of the binary: bare remotes with CI and deploy scripts, a configuration,
//! a local board, a scripted agent whose misbehaviour is data (see `agent.sh`), and a clean end of all its processes.
#![allow(dead_code, reason = "each test uses its part")]

use super::git::{commit_in, raw};
use super::procs;
use super::rows::{Db, Row, Rows};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const AGENT: &str = include_str!("agent.sh");
/// CI: a file `broken` in the checkout makes it red. It logs its rounds to `$LOG`.
const CI: &str = "#!/bin/sh\necho \"$ORCH_TASK $ORCH_REVISION\" >> \"$LOG/ci\"\necho 'the tests run'\n\
    if [ -e broken ]; then echo 'CI-RED: broken is here'; cat broken; exit 1; fi\nexit 0\n";
/// Deploys by recording the revision; a file `no-deploy` in the checkout makes it fail.
const DEPLOY: &str = "#!/bin/sh\necho \"$ORCH_TASK $ORCH_REVISION\" >> \"$LOG/deploys\"\n\
    if [ -e no-deploy ]; then echo 'the deploy fails'; exit 1; fi\nexit 0\n";

/// One project of a world. Its key is also the upper-case name of its repository.
pub struct Plan {
    projects: Vec<(String, String)>,
    top: String,
    agents: String,
}

impl Plan {
    /// One project, `ORCH` on the repository `orch`.
    pub fn new() -> Self {
        Self { projects: vec![("ORCH".into(), String::new())], top: String::new(), agents: String::new() }
    }

    /// A further project.
    pub fn and(mut self, key: &str) -> Self {
        self.projects.push((key.into(), String::new()));
        self
    }

    /// Further keys of the last project, as lines of YAML without indent.
    pub fn project(mut self, yaml: &str) -> Self {
        let last = self.projects.last_mut().unwrap();
        last.1.push_str(yaml);
        last.1.push('\n');
        self
    }

    /// Further sections.
    pub fn top(mut self, yaml: &str) -> Self {
        self.top.push_str(yaml);
        self.top.push('\n');
        self
    }

    /// Further keys under `agents`, as one flow-style fragment (`run_retries: 1, stall_s: 2`).
    pub fn agents(mut self, yaml: &str) -> Self {
        self.agents.push_str(", ");
        self.agents.push_str(yaml);
        self
    }

    /// A configuration without deploy confirmation and approval is not possible: a person is always asked, so most
    /// tests let labels answer. This sets both, for every repository, on items made by [`World::auto`].
    pub fn auto(self) -> Self {
        self.top("auto_label: {enabled: true, repos: '*'}")
    }

    pub fn build(self) -> World {
        World::build(&self)
    }
}

/// The result of a call of the binary.
pub struct Ran {
    pub code: i32,
    pub json: Value,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Asserts this exit code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "errors {}\nstdout {}\nstderr {}", self.json["errors"], self.out, self.err);
        self
    }

    /// The actions of one kind.
    pub fn actions(&self, kind: &str) -> Vec<&Value> {
        self.json["actions"].as_array().map(|a| a.iter().filter(|x| x["kind"] == kind).collect()).unwrap_or_default()
    }

    /// The kinds of all actions, in order.
    pub fn kinds(&self) -> Vec<String> {
        let all = self.json["actions"].as_array().cloned().unwrap_or_default();
        all.iter().map(|a| a["kind"].as_str().unwrap_or("").to_owned()).collect()
    }

    /// What reportedly holds a task: `(rule, why)`.
    pub fn held(&self, key: &str) -> Option<(String, String)> {
        let of = |h: &Value| (h["rule"].as_str().unwrap_or("").to_owned(), h["why"].as_str().unwrap_or("").to_owned());
        self.json["skipped"].as_array()?.iter().find(|h| h["task"] == key).map(of)
    }
}

/// The installation. When it is dropped, its processes end and its folder is deleted.
pub struct World {
    folder: Option<tempfile::TempDir>,
    pub dir: PathBuf,
}

impl World {
    pub fn new() -> Self {
        Plan::new().build()
    }

    fn build(plan: &Plan) -> Self {
        let folder = tempfile::Builder::new().prefix("orch-scene-").tempdir().unwrap();
        let dir = folder.path().canonicalize().unwrap();
        let world = Self { folder: Some(folder), dir };
        for name in ["plan", "log", "home"] {
            fs::create_dir_all(world.path(name)).unwrap();
        }
        world.script("agent.sh", AGENT);
        for (key, _) in &plan.projects {
            world.repository(&key.to_lowercase());
        }
        fs::write(world.path("orch.yaml"), world.config(plan)).unwrap();
        world
    }

    fn config(&self, plan: &Plan) -> String {
        let log = self.path("log").display().to_string();
        let mut text = format!(
            "state_dir: ./state\nexecutor: detach\nconfine: {{mode: off}}\nbase: {{enabled: false}}\nmin_free_mb: 1\n\
             agents: {{runtime: scripted, retry_backoff_s: 0, stop_grace_s: 1{}}}\n\
             runtimes: {{scripted: {{kind: command, command: [./agent.sh], env: {{PLAN: {}}}}}}}\n{}projects:\n",
            plan.agents,
            self.path("plan").display(),
            plan.top,
        );
        for (key, more) in &plan.projects {
            let repo = key.to_lowercase();
            let board = if plan.projects.len() > 1 {
                format!("  board: {{kind: local, dir: issues-{repo}}}\n")
            } else {
                String::new()
            };
            let _ = write!(text, "- key: {key}\n  repo: {repo}\n{board}");
            for (name, standard) in [
                ("git", format!("git: {{remote: ./{repo}.git}}")),
                ("ci", format!("ci: {{command: [./ci.sh], env: {{LOG: {log}}}}}")),
                ("deploy", format!("deploy: {{command: [./deploy.sh], env: {{LOG: {log}}}}}")),
            ] {
                if !more.lines().any(|l| l.starts_with(&format!("{name}:"))) {
                    let _ = writeln!(text, "  {standard}");
                }
            }
            for line in more.lines() {
                let _ = writeln!(text, "  {line}");
            }
        }
        text
    }

    /// A bare remote `<name>.git` and a person's clone `<name>`.
    fn repository(&self, name: &str) {
        let bare = format!("{name}.git");
        raw(&self.dir, &["init", "-q", "--bare", "-b", "main", &bare]);
        raw(&self.dir, &["clone", "-q", &bare, name]);
        raw(&self.path(name), &["symbolic-ref", "HEAD", "refs/heads/main"]);
        self.script(&format!("{name}/ci.sh"), CI);
        self.script(&format!("{name}/deploy.sh"), DEPLOY);
        commit_in(&self.path(name), &[("README", "first\n"), ("app.txt", "one\ntwo\nthree\n")], "first");
        raw(&self.path(name), &["push", "-q", "origin", "main"]);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn state(&self, name: &str) -> PathBuf {
        self.dir.join("state").join(name)
    }

    pub fn script(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What the agent does: `name` is `<KEY>.<stage>.<n>`, `<KEY>.<stage>`, `<stage>.<n>` or `<stage>`.
    pub fn plan(&self, name: &str, shell: &str) {
        fs::write(self.path("plan").join(name), format!("{shell}\n")).unwrap();
    }

    /// Lets agents continue after `hold NAME`.
    pub fn go(&self, name: &str) {
        fs::write(self.path("plan").join(format!("go.{name}")), "").unwrap();
    }

    /// Waits until an agent has reached `hold NAME`.
    #[track_caller]
    pub fn at(&self, name: &str) {
        self.until(&format!("an agent holds at {name}"), |w| w.path("plan").join(format!("at.{name}")).exists());
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(crate::support::ORCH);
        command.current_dir(&self.dir).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.path("home"));
        command.env("ORCH_CONFIG", "orch.yaml").args(args);
        command
    }

    /// Runs the binary with `--json`.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.run_with(&[], args)
    }

    pub fn run_with(&self, env: &[(&str, &str)], args: &[&str]) -> Ran {
        let mut command = self.command(&["--json"]);
        command.args(args).envs(env.iter().copied());
        ran(command.output().unwrap())
    }

    /// Runs the binary like a person.
    pub fn say(&self, args: &[&str]) -> Ran {
        ran(self.command(args).output().unwrap())
    }

    /// `orch new`; returns the key.
    #[track_caller]
    pub fn new_item(&self, title: &str, more: &[&str]) -> String {
        let mut args = vec!["new", title];
        args.extend(more);
        let ran = self.run(&args).code(0);
        ran.json["key"].as_str().unwrap_or_else(|| panic!("no key: {}", ran.out)).to_owned()
    }

    /// A work item that needs no person (see [`Plan::auto`]).
    #[track_caller]
    pub fn auto(&self, title: &str) -> String {
        self.new_item(title, &["--label", "autoApprove", "--label", "autoDeploy"])
    }

    #[track_caller]
    pub fn tick(&self) -> Ran {
        self.run(&["tick"]).code(0)
    }

    /// Waits without doing anything: what is expected must happen on its own.
    #[track_caller]
    pub fn until(&self, what: &str, mut there: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !there(self) {
            assert!(Instant::now() < end, "waited in vain until {what}\n{}", self.dump());
            pause(15);
        }
    }

    /// Ticks (as a timer would) until something is true.
    #[track_caller]
    pub fn drive(&self, what: &str, mut there: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        let mut ticks = 0;
        while !there(self) {
            assert!(Instant::now() < end, "ticked in vain until {what}\n{}", self.dump());
            if ticks % 10 == 0 {
                self.tick();
            }
            ticks += 1;
            pause(30);
        }
    }

    /// Ticks until a task is in a stage with nothing of it running.
    #[track_caller]
    pub fn reach(&self, key: &str, stage: &str) -> Row {
        self.drive(&format!("{key} is in {stage}"), |w| w.find(key).is_some_and(|t| t.stage == stage));
        self.task(key)
    }

    /// Ticks until a task waits for a person, or is blocked, or is terminal.
    #[track_caller]
    pub fn rest(&self, key: &str) -> Row {
        self.drive(&format!("{key} rests"), |w| {
            w.find(key).is_some_and(|t| {
                !t.live_job
                    && (t.waiting.is_some() || t.blocked.is_some() || t.stage == "done" || t.stage == "cancelled")
            })
        });
        self.task(key)
    }

    pub fn db(&self) -> Db {
        Db::of(&self.dir.join("state"))
    }

    /// A table of the database, for what has no view.
    pub fn table(&self, name: &str) -> Rows {
        self.db().table(name)
    }

    /// The live or latest task of a key.
    pub fn find(&self, key: &str) -> Option<Row> {
        self.db().tasks().ok()?.into_iter().rfind(|t| t.key == key)
    }

    #[track_caller]
    pub fn task(&self, key: &str) -> Row {
        self.find(key).unwrap_or_else(|| panic!("{key} has no task\n{}", self.dump()))
    }

    /// The prompt that the n-th run of a task's stage got on its standard input.
    #[track_caller]
    pub fn prompt(&self, key: &str, stage: &str, n: usize) -> String {
        let path = self.path("plan/seen").join(format!("{key}.{stage}.{n}"));
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}\n{}", path.display(), self.dump()))
    }

    /// How often a task's stage was run.
    pub fn runs(&self, key: &str, stage: &str) -> usize {
        let path = self.path("plan/count").join(format!("{key}.{stage}"));
        fs::read_to_string(path).map_or(0, |t| t.lines().count())
    }

    /// Lines of a log that the scripts write (`ci`, `deploys`).
    pub fn log(&self, name: &str) -> Vec<String> {
        fs::read_to_string(self.path("log").join(name))
            .map(|t| t.lines().map(str::to_owned).collect())
            .unwrap_or_default()
    }

    fn board(&self, key: &str) -> PathBuf {
        let prefix = key.rsplit_once('-').unwrap().0.to_lowercase();
        let own = self.state(&format!("issues-{prefix}"));
        let dir = if own.exists() { own } else { self.state("issues") };
        dir.join(format!("{key}.md"))
    }

    /// A work item's file.
    pub fn item(&self, key: &str) -> String {
        fs::read_to_string(self.board(key)).unwrap()
    }

    /// Overwrites a work item's file like an editor.
    pub fn write_item(&self, key: &str, text: &str) {
        fs::write(self.board(key), text).unwrap();
    }

    /// The status that a work item's file shows.
    pub fn status(&self, key: &str) -> String {
        let text = self.item(key);
        let line = text.lines().find_map(|l| l.strip_prefix("status:")).unwrap_or("");
        line.trim().trim_matches('"').to_owned()
    }

    /// A person sets a status with `sed -i`.
    pub fn set_status(&self, key: &str, status: &str) {
        let out = Command::new("sed")
            .args(["-i", &format!("s/^status:.*/status: {status}/")])
            .arg(self.board(key))
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
    }

    /// Git in a remote of this world.
    pub fn git(&self, repo: &str, args: &[&str]) -> String {
        raw(&self.path(&format!("{repo}.git")), args)
    }

    /// A person commits to a branch of a remote.
    pub fn person(&self, repo: &str, branch: &str, files: &[(&str, &str)], message: &str) -> String {
        let clone = self.path(repo);
        raw(&clone, &["fetch", "-q", "origin"]);
        raw(&clone, &["checkout", "-q", "-B", branch, &format!("origin/{branch}")]);
        let sha = commit_in(&clone, files, message);
        raw(&clone, &["push", "-q", "origin", &format!("HEAD:refs/heads/{branch}")]);
        sha.to_string()
    }

    /// Everything that helps to see why a test failed.
    pub fn dump(&self) -> String {
        let mut text = format!("world {}\n{}", self.dir.display(), self.db().story());
        if let Ok(dir) = fs::read_dir(self.state("runs")) {
            for entry in dir.flatten() {
                let log = fs::read_to_string(entry.path().join("supervisor.log")).unwrap_or_default();
                if !log.trim().is_empty() {
                    let tail: String = log.chars().rev().take(1500).collect::<Vec<_>>().into_iter().rev().collect();
                    let _ = writeln!(text, "== {}\n{tail}", entry.path().display());
                }
            }
        }
        text
    }

    /// A digest of every byte under some folders: names, modes, contents.
    pub fn digest(&self, names: &[&str]) -> Vec<String> {
        let mut out = Vec::new();
        for name in names {
            walk(&self.path(name), &mut out);
        }
        out.sort();
        out
    }

    /// Processes of this world: its folder is on their command line or in their environment.
    pub fn processes(&self) -> Vec<i32> {
        procs::of(&self.dir)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        procs::end(|| self.processes());
        if std::thread::panicking()
            && std::env::var_os("KEEP_WORLD").is_some()
            && let Some(folder) = self.folder.take()
        {
            let _ = folder.keep();
        }
        // Read-only folders of a test must not outlive it.
        let _ = Command::new("chmod").args(["-R", "u+rwX"]).arg(&self.dir).output();
    }
}

/// A pause between two reads of the public surface.
pub fn pause(ms: u64) {
    std::thread::park_timeout(Duration::from_millis(ms));
}

fn ran(output: Output) -> Ran {
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    Ran { code: output.status.code().unwrap_or(-1), json: serde_json::from_str(&out).unwrap_or(Value::Null), out, err }
}

fn walk(path: &Path, out: &mut Vec<String>) {
    let Ok(about) = path.symlink_metadata() else { return };
    let mode = about.permissions().mode();
    if about.is_dir() {
        out.push(format!("{} {mode:o}", path.display()));
        for entry in fs::read_dir(path).unwrap() {
            walk(&entry.unwrap().path(), out);
        }
    } else {
        let bytes = fs::read(path).unwrap_or_default();
        let sum =
            bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
        out.push(format!("{} {mode:o} {} {sum:x}", path.display(), bytes.len()));
    }
}
