//! A world for tests that kill: repositories with scripted agents that watch for each other, a deploy command that
//! keeps a log, steps as separate processes, and checks of the outcome from outside.

#![allow(dead_code, reason = "each test uses its part")]

use super::git::raw;
pub use super::procs::kill;
use super::procs::{self, holds, pids};
use super::rows::{Db, Row, Rows};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The agent: registers itself, checks for another living agent of its task, does its stage's work, unregisters.
const AGENT: &str = r#"#!/bin/sh
set -e
world=@WORLD@
ticks() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | grep -v '^[ZX]' | cut -d' ' -f20; }
me="$$.$(ticks $$)"
mkdir -p "$world/agents/$ORCH_TASK"
: > "$world/agents/$ORCH_TASK/$me"
echo "start $ORCH_TASK $ORCH_STAGE $ORCH_ATTEMPT run=$ORCH_RUN $me" >> "$world/agents.log"
for other in "$world/agents/$ORCH_TASK"/*; do
    other=${other##*/}
    [ "$other" = "$me" ] && continue
    [ "$(ticks "${other%%.*}")" = "${other#*.}" ] && echo "$ORCH_TASK: $me beside $other" >> "$world/violations.log"
done
@EXTRA@
d="$ORCH_ARTEFACTS"; mkdir -p "$d"
fm() { printf -- '---\nwork_item: %s\nstage: %s\nagent: %s\ncreated: 2026-01-01T00:00:00Z\n%s---\n\n# %s\n\nRun %s.\n' "$ORCH_TASK" "$ORCH_STAGE" "$ORCH_AGENT" "$2" "$1" "$ORCH_RUN"; }
sleep @NAP@
case "$ORCH_STAGE" in
analysis) for f in 01-brief 02-requirements 03-acceptance-criteria 04-test-plan; do fm $f "" > "$d/$f.md"; done;;
architecture) mkdir -p "$d/06-adr"; fm adr "status: accepted
" > "$d/06-adr/ADR-001-x.md";;
development) mkdir -p src; echo "$ORCH_TASK round $ORCH_ATTEMPT" >> "src/$ORCH_TASK.txt";;
review) if [ "$ORCH_ATTEMPT" = 1 ] && [ @ROUNDS@ = 2 ]; then v=REQUEST_CHANGES; else v=APPROVED; fi; fm review "verdict: $v
" > "$d/12-review.md";;
testing) fm test "result: PASS
verdict: PASS
status: PASS
" > "$d/13-test-report.md";;
deploy-staging) fm staging "staging_status: SUCCESS
" > "$d/15-staging-log.md";;
esac
echo "end $ORCH_TASK $ORCH_STAGE $ORCH_ATTEMPT run=$ORCH_RUN $me" >> "$world/agents.log"
rm -f "$world/agents/$ORCH_TASK/$me"
echo '{"cost_usd":0.01,"input_tokens":10,"output_tokens":5}'
"#;

/// How a world is made.
#[derive(Clone)]
pub struct Plan {
    /// Project keys; each has a repository of its own.
    pub projects: Vec<&'static str>,
    /// Shell lines in the agent, after its registration.
    pub extra: String,
    /// How many seconds an agent sleeps while working.
    pub nap: &'static str,
    /// Reviews: 1, or 2 with one request for changes.
    pub rounds: u8,
    /// Body of the deploy command, after its log line.
    pub deploy: String,
    /// Further configuration lines at the top level.
    pub config: String,
    /// Further configuration lines of each project, indented by four; a `deploy` line replaces the usual one.
    pub project: String,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            projects: vec!["AA"],
            extra: String::new(),
            nap: "0.05",
            rounds: 1,
            deploy: String::new(),
            config: String::new(),
            project: String::new(),
        }
    }
}

/// A result written by the deploy command itself, whole or not at all.
pub const OWN_RESULT: &str = r#"printf '{"schema":1,"task":"%s","attempt":%s,"exit":0}' "$ORCH_TASK" "$ORCH_ATTEMPT" > "$ORCH_DEPLOY_RESULT.new"
mv "$ORCH_DEPLOY_RESULT.new" "$ORCH_DEPLOY_RESULT"
"#;

pub struct World {
    pub dir: tempfile::TempDir,
    pub plan: Plan,
    /// Variables of every `orch` process.
    pub env: Vec<(String, String)>,
}

impl World {
    pub fn new(plan: Plan) -> Self {
        Self::under(&std::env::temp_dir(), plan)
    }

    /// In a folder below `base`.
    pub fn under(base: &Path, plan: Plan) -> Self {
        let dir = tempfile::Builder::new().prefix("orch-world-").tempdir_in(base).unwrap();
        let world = Self { dir, plan, env: Vec::new() };
        let mut projects = String::new();
        for key in &world.plan.projects {
            world.make_repo(key);
            let repo = key.to_lowercase();
            let own = world.plan.project.lines().any(|l| l.trim_start().starts_with("deploy:"));
            let deploy = if own { "" } else { "    deploy: {command: [\"./deploy.sh\"], timeout_s: 60}\n" };
            write!(
                projects,
                "  - key: {key}\n    repo: {repo}\n    git: {{remote: ./{repo}.git}}\n    board: {{kind: local, dir: issues-{repo}}}\n    ci: {{command: [\"./ci.sh\"]}}\n{deploy}{}",
                world.plan.project
            )
            .unwrap();
        }
        let agent = AGENT
            .replace("@WORLD@", &world.root().display().to_string())
            .replace("@EXTRA@", &world.plan.extra)
            .replace("@NAP@", world.plan.nap)
            .replace("@ROUNDS@", &world.plan.rounds.to_string());
        script(&world.path("agent.sh"), &agent);
        let config = format!(
            "state_dir: ./state\nexecutor: detach\nconfine: {{mode: off}}\nbase: {{enabled: false}}\nmin_free_mb: 1\nlimits: {{max_concurrency: 8}}\nreaper: {{interval_s: 1, dead_ticks: 2, finalize_grace_s: 1}}\n{}projects:\n{projects}agents: {{runtime: scripted, stop_grace_s: 1, retry_backoff_s: 1, run_retries: 50}}\nruntimes:\n  scripted: {{kind: command, command: [\"./agent.sh\"]}}\n",
            world.plan.config
        );
        std::fs::write(world.path("orch.yaml"), config).unwrap();
        world
    }

    fn make_repo(&self, key: &str) {
        let repo = key.to_lowercase();
        raw(self.root(), &["init", "-q", "--bare", "-b", "main", &format!("{repo}.git")]);
        let seed = format!("seed-{repo}");
        raw(self.root(), &["clone", "-q", &format!("{repo}.git"), &seed]);
        let clone = self.path(&seed);
        raw(&clone, &["symbolic-ref", "HEAD", "refs/heads/main"]);
        std::fs::write(clone.join("app.txt"), "hi\n").unwrap();
        script(&clone.join("ci.sh"), "#!/bin/sh\nexit 0\n");
        let deploy = format!(
            "#!/bin/sh\necho \"$ORCH_TASK $ORCH_REVISION $ORCH_ATTEMPT\" >> {}\n{}exit 0\n",
            self.path("deploys.log").display(),
            self.plan.deploy.replace("@WORLD@", &self.root().display().to_string())
        );
        script(&clone.join("deploy.sh"), &deploy);
        raw(&clone, &["add", "-A"]);
        raw(&clone, &["commit", "-q", "-m", "seed"]);
        raw(&clone, &["push", "-q", "origin", "main"]);
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        // Another build of the program can be tested while this one is being rebuilt.
        let program = std::env::var_os("ORCH_TEST_PROGRAM").unwrap_or_else(|| crate::support::ORCH.into());
        let mut command = Command::new(program);
        command.current_dir(self.root()).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        // The state directory is on the command line, by which this world's processes are recognised.
        command.arg("--state-dir").arg(self.path("state")).arg("--config").arg(self.path("orch.yaml")).args(args);
        command.stdin(Stdio::null());
        command
    }

    pub fn orch(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// A step whose exit code must be 0.
    pub fn step(&self, args: &[&str]) -> Output {
        let out = self.orch(args);
        assert!(out.status.success(), "orch {args:?}: {}\n{}", out.status, said(&out));
        out
    }

    pub fn new_item(&self, project: &str, title: &str) {
        self.step(&["new", title, "--project", project, "--body", "orch.yaml"]);
    }

    pub fn db(&self) -> Db {
        Db::of(&self.path("state"))
    }

    /// A table of the database, for what has no view.
    pub fn table(&self, name: &str) -> Rows {
        self.db().table(name)
    }

    pub fn tasks(&self) -> Vec<Row> {
        self.db().tasks().unwrap()
    }

    /// The newest task of a key.
    pub fn task(&self, key: &str) -> Row {
        self.tasks().into_iter().rev().find(|t| t.key == key).unwrap_or_else(|| panic!("no task {key}"))
    }

    /// Releases what waits for a person, who has read the question first: a question that is answered before it was
    /// posted is never posted.
    pub fn release_all(&self) {
        if !self.path("state/orch.db").exists() {
            return;
        }
        for task in self.tasks() {
            let unread = self.table("outbox").with("state", "open").with("sink", "board_comment");
            if !unread.with("task_id", task.id).is_empty() {
                continue;
            }
            match task.waiting.as_deref() {
                Some("approval") => drop(self.orch(&["advance", &task.key, "--approve"])),
                Some("confirm_deploy") => drop(self.orch(&["advance", &task.key, "--confirm-deploy"])),
                _ => {}
            }
        }
    }

    /// Runs ordinary steps, one after another, until `done` or the bound; returns whether `done` was reached.
    pub fn play(&self, bound: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < bound {
            for step in ["tick", "reap", "reconcile"] {
                drop(self.orch(&[step]));
                if done(self) {
                    return true;
                }
            }
            self.release_all();
            std::thread::park_timeout(Duration::from_millis(50));
        }
        done(self)
    }

    /// As [`Self::play`], but fails with the current state if the end is not reached.
    pub fn play_until(&self, what: &str, bound: Duration, done: impl Fn(&Self) -> bool) {
        assert!(self.play(bound, done), "{what} did not come\n{}", self.story());
    }

    /// Runs of this world that are alive.
    pub fn alive(&self) -> Vec<i32> {
        let state = self.path("state").display().to_string();
        let root = self.root().display().to_string();
        pids().filter(|pid| holds(*pid, "cmdline", &state) || holds(*pid, "environ", &root)).collect()
    }

    /// `orch` processes of this world.
    pub fn orch_processes(&self) -> Vec<i32> {
        let state = self.path("state").display().to_string();
        pids().filter(|pid| is_orch(*pid) && holds(*pid, "cmdline", &state)).collect()
    }

    /// Lines of a log of this world.
    pub fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// How often each task's deploy command ran.
    pub fn deploys(&self) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        for line in self.lines("deploys.log") {
            *all.entry(line.split(' ').next().unwrap_or("").to_owned()).or_insert(0) += 1;
        }
        all
    }

    /// Merge commits on the default branch of a repository, by the key in their subject.
    pub fn merges(&self, project: &str) -> BTreeMap<String, usize> {
        let repo = self.path(&format!("{}.git", project.to_lowercase()));
        let out = Command::new("git")
            .args(["log", "--first-parent", "--format=%s", "main"])
            .current_dir(repo)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .output()
            .unwrap();
        let mut all = BTreeMap::new();
        for line in String::from_utf8_lossy(&out.stdout).lines().filter(|l| *l != "seed") {
            let key = line.split([':', ' ']).next().unwrap_or("").to_owned();
            *all.entry(key).or_insert(0) += 1;
        }
        all
    }

    pub fn branches(&self, project: &str) -> Vec<String> {
        let repo = self.path(&format!("{}.git", project.to_lowercase()));
        raw(&repo, &["for-each-ref", "--format=%(refname:short)", "refs/heads"]).lines().map(str::to_owned).collect()
    }

    /// Everything that helps to see why a test failed.
    pub fn story(&self) -> String {
        let mut text = format!("world {}\n", self.root().display());
        text.push_str(&self.db().story());
        for step in ["tick", "reap"] {
            let out = self.orch(&[step, "--dry-run"]);
            writeln!(text, "-- {step} --dry-run\n{}", said(&out)).unwrap();
        }
        text
    }

    pub fn chain_holds(&self) {
        self.step(&["audit", "verify"]);
    }
}

impl Drop for World {
    /// No process of a world outlives its test.
    fn drop(&mut self) {
        procs::end(|| self.alive());
        if std::env::var_os("ORCH_KEEP_WORLD").is_some() {
            self.dir.disable_cleanup(true);
        }
    }
}

pub fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

pub fn script(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn is_orch(pid: i32) -> bool {
    procs::read(pid, "cmdline").split(|c| *c == 0).next().is_some_and(|first| first.ends_with(b"/orch"))
}

/// Small and seeded: a failing run can be repeated with its seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.next() % n }
    }
}
