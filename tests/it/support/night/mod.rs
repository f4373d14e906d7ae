//! A night: tasks in two repositories, on a local board and forge and on a Plane and a Gitea, run by steps in loops as
//! timers would. Meanwhile services go down and come back, the disk fills up, processes are killed and the machine
//! restarts. Time runs faster in every process alike (`failpoint`), so that waits of hours can pass.

#![allow(dead_code, reason = "used by a test of a build with failpoints alone")]

pub mod people;
pub mod trouble;

use super::crash::{Dice, OWN_RESULT, Plan, World, script};
use super::gitea::FakeGitea;
use super::plane::{self, FakePlane};
use super::rows::Row;
use super::telegram::{CHAT, Telegram};
use super::web::{Turn, Web};
use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// The person who answers in the chat.
pub const ANN: i64 = 42;

/// What happens to a task in this night, by its number within its project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Plain,
    /// Its reviewer requests changes once.
    Rework,
    /// Its developer fails for good.
    Hopeless,
    /// A person stops it once it is under review.
    Stopped,
    /// It is answered only when most of the night is over.
    Late,
    /// Its tester hits a usage limit once.
    Limited,
    /// Its architect fails once.
    Flaky,
    /// Its CI is red once.
    Red,
    /// Changes a file that another task also changes.
    Conflict,
}

/// `key`: of a work item.
pub fn role(key: &str) -> Role {
    let (project, number) = key.split_once('-').unwrap();
    match (project, number) {
        (_, "10") => Role::Rework,
        ("AA", "2") => Role::Hopeless,
        (_, "3") => Role::Stopped,
        (_, "4") => Role::Late,
        (_, "5") => Role::Limited,
        (_, "6") => Role::Flaky,
        ("AA", "7") => Role::Red,
        (_, "8" | "9") => Role::Conflict,
        _ => Role::Plain,
    }
}

/// One disturbance, and the second at which it happened.
#[derive(Debug, Clone)]
pub struct Note {
    pub at: f64,
    pub text: String,
}

/// A process that was killed.
#[derive(Debug, Clone)]
pub struct Killed {
    pub at: f64,
    pub what: String,
    /// Its run.
    pub run: Option<i64>,
    /// The end of that run's agent was already recorded.
    pub ended: bool,
}

pub struct Night {
    pub world: World,
    pub board: FakePlane,
    pub forge: FakeGitea,
    pub chat: Telegram,
    _web: Web,
    mounted: bool,
    pub begun: Instant,
    pub length: Duration,
    /// How much faster than real time.
    rate: i64,
    since_ms: i64,
    mono_ms: AtomicI64,
    boots: AtomicI64,
    /// The machine is off.
    pub off: AtomicBool,
    pub over: AtomicBool,
    pub notes: Mutex<Vec<Note>>,
    pub killed: Mutex<Vec<Killed>>,
    /// Exit codes of steps, and how often each occurred.
    codes: Mutex<BTreeMap<String, usize>>,
    /// Output that no step may produce.
    pub wrong: Mutex<Vec<String>>,
}

fn boottime_ms() -> i64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    t.tv_sec * 1000 + t.tv_nsec / 1_000_000
}

impl Night {
    /// `length`: how long there are disturbances, in real time; `rate`: how much faster the world's time runs; `short`:
    /// agents and watches take hardly any time.
    pub fn new(length: Duration, rate: i64, short: bool) -> Self {
        let mut world = World::new(Plan { projects: vec!["AA", "ORCH"], deploy: OWN_RESULT.into(), ..Plan::default() });
        let (board, chat, web) = (FakePlane::start(), Telegram::start(), Web::always(Turn::Say(200, "ok")));
        let forge = FakeGitea::start(&world.path("orch.git"));
        chat.readable();
        let agent = include_str!("agent.sh").replace("@WORLD@", &world.root().display().to_string());
        script(&world.path("agent.sh"), &agent.replace("@NAP@", if short { "0.05" } else { "1" }));
        std::fs::create_dir(world.path("state")).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256m", "tmpfs"])
            .arg(world.path("state"))
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success());
        let watch = if short { "window_s: 60, interval_s: 15" } else { "window_s: 600, interval_s: 60" };
        std::fs::write(world.path("orch.yaml"), config(&board, &forge, &chat, &web, watch)).unwrap();
        for (name, value) in
            [("PLANE", plane::KEY), ("FORGE", super::gitea::TOKEN), ("BOT", super::telegram::TOKEN), ("LIMITED", "x")]
        {
            world.env.push((name.into(), value.into()));
        }
        // What the program writes outside its state directory stays in this world.
        for name in ["HOME", "TMPDIR"] {
            world.env.push((name.into(), world.root().display().to_string()));
        }
        Self {
            world,
            board,
            forge,
            chat,
            _web: web,
            mounted,
            begun: Instant::now(),
            length,
            rate,
            since_ms: boottime_ms(),
            mono_ms: AtomicI64::new(0),
            boots: AtomicI64::new(0),
            off: AtomicBool::new(false),
            over: AtomicBool::new(false),
            notes: Mutex::default(),
            killed: Mutex::default(),
            codes: Mutex::default(),
            wrong: Mutex::default(),
        }
    }

    /// How much of the night is over; more than 1 after it.
    pub fn part(&self) -> f64 {
        self.begun.elapsed().as_secs_f64() / self.length.as_secs_f64()
    }

    pub fn note(&self, text: impl Into<String>) {
        let note = Note { at: self.begun.elapsed().as_secs_f64(), text: text.into() };
        self.notes.lock().unwrap().push(note);
    }

    /// Runs one command of the program, unless the machine is off; `None` also if the command was killed.
    pub fn orch(&self, args: &[&str]) -> Option<Output> {
        if self.off.load(Ordering::SeqCst) {
            return None;
        }
        let out = self
            .world
            .command(args)
            .env("ORCH_FAILPOINT_RATE", self.rate.to_string())
            .env("ORCH_FAILPOINT_SINCE_MS", self.since_ms.to_string())
            .env("ORCH_FAILPOINT_MONO_MS", self.mono_ms.load(Ordering::SeqCst).to_string())
            .env("ORCH_FAILPOINT_BOOT", format!("boot-{}", self.boots.load(Ordering::SeqCst)))
            .output()
            .unwrap();
        let code = out.status.code().map_or_else(|| "killed".to_owned(), |c| c.to_string());
        *self.codes.lock().unwrap().entry(format!("{} {code}", args[0])).or_insert(0) += 1;
        // 0: done, 3: something outside is down, 4: refused in this state. A step must not exit with anything else.
        if !["0", "3", "4", "killed"].contains(&code.as_str()) {
            self.wrong.lock().unwrap().push(format!("{args:?} exit {code}: {}", super::crash::said(&out)));
        }
        out.status.code().map(|_| out)
    }

    /// The tasks; `None`: they can't be read now.
    pub fn tasks(&self) -> Option<Vec<Row>> {
        if self.off.load(Ordering::SeqCst) || !self.world.path("state/orch.db").exists() {
            return None;
        }
        self.world.db().tasks().ok()
    }

    /// Whether nothing more will happen: this many tasks ended or blocked, nothing in progress.
    pub fn quiet(&self, tasks: usize) -> bool {
        let Some(all) = self.tasks() else { return false };
        let ended = |t: &Row| t.stage == "done" || t.stage == "cancelled" || t.blocked.is_some();
        all.len() == tasks
            && all.iter().all(ended)
            && self.world.table("tasks").with("watch", "armed").is_empty()
            && self.world.table("runs").without("state", "settled").is_empty()
            && self.world.table("leases").set("task_id").is_empty()
            && self.world.table("outbox").among("state", &["open", "parked"]).is_empty()
    }

    /// Runs the steps that timers would, each in its own loop, until the night is over.
    pub fn timers(&self) {
        std::thread::scope(|scope| {
            for (step, pause) in [("tick", 700), ("reap", 1000), ("reconcile", 1500)] {
                scope.spawn(move || {
                    while !self.over.load(Ordering::SeqCst) {
                        drop(self.orch(&[step]));
                        std::thread::park_timeout(Duration::from_millis(pause));
                    }
                });
            }
        });
    }

    pub fn codes(&self) -> BTreeMap<String, usize> {
        self.codes.lock().unwrap().clone()
    }

    /// The machine restarts: every process dies at once, and the boot clock starts over.
    pub fn reboot(&self) {
        self.off.store(true, Ordering::SeqCst);
        self.note("reboot");
        let mut none = 0;
        while none < 3 {
            let all = self.world.alive();
            none = if all.is_empty() { none + 1 } else { 0 };
            for pid in all {
                self.kill(pid, "reboot");
            }
            std::thread::park_timeout(Duration::from_millis(30));
        }
        let now = boottime_ms();
        let passed = (now - self.since_ms) * (self.rate - 1);
        self.mono_ms.store(30_000 - now - passed, Ordering::SeqCst);
        self.boots.fetch_add(1, Ordering::SeqCst);
        self.off.store(false, Ordering::SeqCst);
    }

    /// Ends a process by SIGKILL and records its run.
    pub fn kill(&self, pid: i32, why: &str) {
        let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let words: Vec<String> =
            read("cmdline").split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
        let after = words.iter().position(|w| w == "run-job").and_then(|n| words.get(n + 1)?.parse().ok());
        let marked = || {
            let all = read("environ");
            let mark = all.split(|b| *b == 0).find_map(|v| v.strip_prefix(b"ORCH_RUN="))?;
            // It begins with the installation.
            std::str::from_utf8(mark).ok()?.rsplit('-').next()?.parse().ok()
        };
        let run: Option<i64> = after.or_else(marked);
        let ended = run.is_some_and(|r| self.world.path(&format!("state/runs/{r}/exit.json")).exists());
        super::crash::kill(pid);
        let steps = ["tick", "reap", "reconcile", "run-job", "advance", "new", "stop", "retry"];
        let step = words.iter().find(|w| steps.contains(&w.as_str()) || w.ends_with("agent.sh"));
        let name = step.map_or("another", |w| w.rsplit('/').next().unwrap_or(w));
        let at = self.begun.elapsed().as_secs_f64();
        self.killed.lock().unwrap().push(Killed { at, what: format!("{why} {name}"), run, ended });
    }

    pub fn dice(&self, seed: u64, salt: u64) -> Dice {
        Dice::new(seed ^ (salt << 40))
    }

    pub fn mounted(&self) -> bool {
        self.mounted
    }
}

impl Drop for Night {
    fn drop(&mut self) {
        drop(self.chat.take());
        for pid in self.world.alive() {
            super::crash::kill(pid);
        }
        if self.mounted {
            let keep = std::env::var_os("ORCH_KEEP_WORLD").is_some();
            if keep {
                let (from, to) = (self.world.path("state"), self.world.path("state-kept"));
                drop(Command::new("cp").arg("-a").args([from, to]).status());
            }
            drop(Command::new("umount").arg("-l").arg(self.world.path("state")).status());
        }
    }
}

fn config(board: &FakePlane, forge: &FakeGitea, chat: &Telegram, web: &Web, watch: &str) -> String {
    let (plane, gitea, bot, health) = (board.url(), forge.url(), chat.url(), web.url("/health"));
    let workspace = plane::WORKSPACE;
    format!(
        r#"state_dir: ./state
executor: detach
confine: {{mode: off}}
min_free_mb: 32
limits: {{max_concurrency: 4}}
agents: {{runtime: scripted, overrides: {{tester: {{runtime: limited}}}}}}
runtimes:
  scripted: {{kind: command, command: ["./agent.sh"]}}
  limited: {{kind: claude, program: ./agent.sh, sandbox: off, env: {{ANTHROPIC_API_KEY: {{env: LIMITED}}}}}}
notify: {{telegram: {{api_base: "{bot}", token: {{env: BOT}}, chat_id: "{CHAT}", mode: bump, deciders: [{ANN}]}}}}
post_deploy: {{repos: "*", {watch}}}
projects:
  - key: AA
    repo: aa
    git: {{remote: ./aa.git}}
    board: {{kind: local, dir: issues-aa}}
    ci: {{command: ["sh", "-c", "sleep 0.2; test ! -e broken"]}}
    deploy: {{command: ["./deploy.sh"], timeout_s: 60}}
    post_deploy: {{health: [{{url: "{health}"}}]}}
  - key: ORCH
    repo: orch
    git: {{remote: ./orch.git}}
    board: {{kind: plane, url: "{plane}", workspace: {workspace}, project: orch, api_key: {{env: PLANE}}}}
    forge: {{kind: gitea, url: "{gitea}", owner: team, name: app, token: {{env: FORGE}}}}
    ci: {{contexts: [ci/test]}}
    deploy: {{command: ["./deploy.sh"], timeout_s: 60, build: {{command: ["sh", "-c", "cp app.txt \"$ORCH_BUILD_OUTPUT\""]}}}}
    post_deploy: {{health: [{{url: "{health}"}}]}}
"#
    )
}
