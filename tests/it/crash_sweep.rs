//! The crash sweep (TRUST-2): a scenario runs once to number its points, then once per point. The process that reaches
//! the point is killed there by SIGKILL, and ordinary steps recover. The final state must be that of the undisturbed
//! run.
//!
//! `ORCH_SWEEP` = `all`, or how many points per scenario (default 2); `ORCH_SWEEP_SEED`; `ORCH_SWEEP_SCENARIO`
//! (`deploy`, `build`, `stop-<stage>`, `slurm`, `slurm-stop`); `ORCH_SWEEP_POINT` plays one point again, `N-` all from
//! N on; `ORCH_SWEEP_EVERY=K` kills each world that is not stopped again at every K-th point after its first, so that K
//! worlds reach every point; `ORCH_SWEEP_JOBS`, `ORCH_SWEEP_BOUND_S`: see `scripts/crash-sweep`.
#![cfg(feature = "failpoints")]

use crate::support::crash::{Dice, Plan, World, said};
use crate::support::slurm::Cluster;
use crate::support::web::{Turn, Web};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Where a stop reaches its task: in the agent of a stage, or parked for a person.
const STOPS: &[&str] =
    &["analysis", "architecture", "development", "review", "testing", "deploy-staging", "approval", "confirm_deploy"];

fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

fn number(name: &str, default: u64) -> u64 {
    text(name).and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// After how many points a world is killed again; `None`: it is killed once.
fn every() -> Option<u64> {
    text("ORCH_SWEEP_EVERY").and_then(|v| v.parse().ok()).filter(|k| *k > 0)
}

/// How long one part of a scenario may take; more than it needs on a busy machine.
fn bound() -> Duration {
    Duration::from_secs(number("ORCH_SWEEP_BOUND_S", 60))
}

/// What has to be equal.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    /// Stage, attempt, watch, whether blocked.
    tasks: Vec<String>,
    deploys: BTreeMap<String, usize>,
    merges: BTreeMap<String, usize>,
    branches: Vec<String>,
    /// Status and comments on the board.
    board: Vec<String>,
    frozen: usize,
}

fn outcome(world: &World) -> Outcome {
    let mut board = Vec::new();
    for entry in std::fs::read_dir(world.path("state/issues-aa")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let body = std::fs::read_to_string(&path).unwrap_or_default();
        if name.starts_with('.') {
            continue;
        }
        if let Some(status) = body.lines().find(|l| l.starts_with("status:")) {
            board.push(format!("{name} {status}"));
        }
        // A comment is identified by its marker, not by its text: texts contain run numbers.
        let mut marks: Vec<&str> = body.lines().filter(|l| l.contains("<!-- orch")).collect();
        marks.sort_unstable();
        board.extend(marks.into_iter().map(|m| format!("{name} {m}")));
    }
    board.sort();
    Outcome {
        tasks: world
            .tasks()
            .iter()
            .zip(world.table("tasks").texts("watch"))
            .map(|(t, watch)| {
                // A watch that lost its probes to a kill is honestly inconclusive (SHIP-6).
                let watch = watch.replace("inconclusive", "healthy");
                let blocked = if t.blocked.is_some() { " blocked" } else { "" };
                format!("{} {} attempt {} watch {watch}{blocked}", t.key, t.stage, t.attempt)
            })
            .collect(),
        deploys: world.deploys(),
        merges: world.merges("AA"),
        branches: world.branches("AA"),
        board,
        frozen: world.table("freezes").len(),
    }
}

/// One scenario, driven by ordinary steps. `arm`: the point at which to die; `None`: only count.
struct Scenario {
    name: String,
    /// Where a stop comes; `None`: run to the end of the watch.
    stop: Option<String>,
    /// The deployed artefact is built first.
    build: bool,
    /// Where its runs are jobs of a real Slurm.
    cluster: Option<Arc<Cluster>>,
}

impl Scenario {
    fn all() -> Vec<Self> {
        let to_the_end = |name: &str, build| Self { name: name.to_owned(), stop: None, build, cluster: None };
        let stop = |s: &&str| Self { stop: Some((*s).to_owned()), ..to_the_end(&format!("stop-{s}"), false) };
        let mut all = vec![to_the_end("deploy", false), to_the_end("build", true)];
        all.extend(STOPS.iter().map(stop));
        all
    }

    /// Those of a cluster, by name only: a run's life to the end, and the stop of one that ignores TERM.
    fn on_cluster(name: &str) -> Option<Self> {
        let stop = match name {
            "slurm" => None,
            "slurm-stop" => Some("development".to_owned()),
            _ => return None,
        };
        let cluster = Arc::new(Cluster::start()?);
        Some(Self { name: name.to_owned(), stop, build: false, cluster: Some(cluster) })
    }

    fn play(&self, web: &Web, arm: Option<u64>) -> (World, usize) {
        let in_stage = self.stop.as_deref().unwrap_or("none");
        let build = if self.build {
            "    deploy: {command: [./deploy.sh], timeout_s: 60, build: {command: [sh, -c, \"cp app.txt $ORCH_BUILD_OUTPUT/\"]}}\n"
        } else if self.cluster.is_some() {
            "    stages: [development, review, deploy]\n    worktree: {setup: {command: [sh, -c, \"test -e app.txt\"]}}\n"
        } else {
            ""
        };
        let mut world = World::new(Plan {
            rounds: if self.stop.is_none() && self.cluster.is_none() { 2 } else { 1 },
            nap: "0.01",
            // At the point of the stop the agent hangs and ignores TERM, with a child in its own session.
            extra: format!(
                "if [ \"$ORCH_STAGE\" = {in_stage} ]; then trap '' TERM; setsid sleep 1000 & mkdir -p \"$world/marks\"; : > \"$world/marks/hangs\"; sleep 1000 & wait; wait; fi\n"
            ),
            config: "post_deploy: {repos: \"*\", window_s: 2, interval_s: 1}\n".into(),
            project: format!("    post_deploy: {{health: [{{url: \"{}\"}}]}}\n{build}", web.url("/health")),
            ..Plan::default()
        });
        let count = world.path("points.log");
        let always: Vec<_> = self.cluster.iter().map(|c| place(&world, c)).collect();
        world.env.clone_from(&always);
        let mut env = always.clone();
        env.push(("ORCH_FAILPOINT_COUNT".to_owned(), count.display().to_string()));
        let again = every().filter(|_| self.stop.is_none()).map_or_else(String::new, |k| format!("+{k}"));
        env.extend(arm.map(|n| ("ORCH_FAILPOINT_KILL".to_owned(), format!("{n}{again}"))));
        world.new_item("AA", "one thing");
        if self.stop.is_none() {
            world.env = env.clone();
        }
        if let Some(at) = &self.stop {
            self.meet(&world, at);
            world.env = env;
            // A person whose command died before it recorded anything repeats it.
            while !world.tasks().iter().any(|t| t.stop_requested) {
                drop(world.orch(&["stop", "AA-1", "--reason", "enough"]));
            }
        }
        world.play_until(&self.name, bound(), over);
        // Repeating the step does nothing more.
        world.env = always;
        for step in ["tick", "reap", "reconcile"] {
            drop(world.orch(&[step]));
        }
        world.play_until("quiet", bound(), over);
        let points = world.lines("points.log").len();
        (world, points)
    }

    /// Until the task is where the stop should reach it.
    fn meet(&self, world: &World, at: &str) {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < bound(), "{} did not come to {at}\n{}", self.name, world.story());
            for step in ["tick", "reap"] {
                drop(world.orch(&[step]));
            }
            let task = world.tasks().into_iter().next();
            if world.path("marks/hangs").exists() || task.as_ref().is_some_and(|t| t.waiting.as_deref() == Some(at)) {
                return;
            }
            if task.is_some_and(|t| t.waiting.is_some()) {
                world.release_all();
            }
            std::thread::park_timeout(Duration::from_millis(30));
        }
    }

    /// What is wrong with a disturbed run; empty: nothing.
    fn faults(&self, world: &World, base: &Outcome, killed: &str) -> String {
        let mut faults = String::new();
        let mut got = outcome(world);
        let mut want = base.clone();
        let unknown = world.table("deploys").with("state", "settled").with("result", "failed_unknown").len();
        if unknown > 0 {
            // Started, no result: blocked and frozen, not repeated (SHIP-5).
            let ran = got.deploys.values().sum::<usize>();
            if ran > 1 || got.frozen != 1 || !got.tasks.iter().all(|t| t.ends_with("blocked")) {
                writeln!(faults, "an unknown deploy ran {ran} times, frozen {}, {:?}", got.frozen, got.tasks).unwrap();
            }
            for o in [&mut got, &mut want] {
                o.deploys.clear();
                o.tasks.clear();
                o.board.clear();
                // A branch is deleted when its task is done.
                o.branches.clear();
                o.frozen = 0;
            }
        }
        if got != want {
            writeln!(faults, "got  {got:?}\nwant {want:?}").unwrap();
        }
        for (what, n) in [
            ("open runs", world.table("runs").without("state", "settled").len()),
            ("running jobs", world.table("jobs").among("status", &["queued", "running"]).len()),
            ("held leases", world.table("leases").set("task_id").len()),
            ("open messages", world.table("outbox").with("state", "open").len()),
        ] {
            if n != 0 {
                writeln!(faults, "{n} {what}").unwrap();
            }
        }
        if !world.lines("violations.log").is_empty() {
            writeln!(faults, "two live agents: {:?}", world.lines("violations.log")).unwrap();
        }
        let begun = Instant::now();
        while !world.alive().is_empty() && begun.elapsed() < Duration::from_secs(10) {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        if !world.alive().is_empty() {
            writeln!(faults, "{} processes are left", world.alive().len()).unwrap();
        }
        if let Some(cluster) = &self.cluster {
            let own = orch::config::installation(&world.path("state"));
            let begun = Instant::now();
            let left = || cluster.queue().lines().filter(|line| line.contains(&own)).count();
            while left() > 0 && begun.elapsed() < Duration::from_secs(10) {
                std::thread::park_timeout(Duration::from_millis(100));
            }
            if left() > 0 {
                writeln!(faults, "jobs are left: {}", cluster.queue()).unwrap();
            }
        }
        if self.stop.is_some() {
            if world.path("state-area/aa/AA-1").exists() {
                writeln!(faults, "the worktree is left").unwrap();
            }
            if world.path("state/sentinels/aa/merge-lease.json").exists() {
                writeln!(faults, "the lease's file is left").unwrap();
            }
        }
        let chain = world.orch(&["audit", "verify"]);
        if !chain.status.success() {
            writeln!(faults, "{}", said(&chain)).unwrap();
        }
        if faults.is_empty() {
            faults
        } else {
            format!("{} killed at {killed}\n{faults}\n{}", self.name, world.story())
        }
    }
}

/// Has the world's runs played as jobs, confined; returns the variable that names the cluster. Each run has an account of
/// its own there, and sees only its own processes: what agents log is open to all, and a lock instead of their numbers
/// shows that two of a task live.
fn place(world: &World, cluster: &Cluster) -> (String, String) {
    use std::os::unix::fs::PermissionsExt;
    let root = world.root().display().to_string();
    let open = |name: &str, mode: u32| {
        std::fs::set_permissions(world.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::create_dir_all(world.path("agents/AA-1")).unwrap();
    std::fs::create_dir(world.path("marks")).unwrap();
    for name in ["agents", "agents/AA-1", "marks"] {
        open(name, 0o777);
    }
    for name in ["agents.log", "violations.log", "agents/lock"] {
        std::fs::write(world.path(name), "").unwrap();
        open(name, 0o666);
    }
    let text = std::fs::read_to_string(world.path("orch.yaml")).unwrap();
    let section = format!(
        "slurm: {{work_dir: {}, cpus: 1, memory: 300M, time: \"00:30:00\", settle_s: 1, silence_s: 20}}",
        cluster.shared().display()
    );
    let write: Vec<String> =
        ["agents", "marks", "agents.log", "violations.log"].map(|n| format!("{root}/{n}")).to_vec();
    let confine = format!("confine: {{engine: bubblewrap, write: [{}]}}\n{section}", write.join(", "));
    let text = text.replace("confine: {mode: off}", &confine).replace("executor: detach", "executor: slurm");
    std::fs::write(world.path("orch.yaml"), text).unwrap();
    let lock =
        format!("exec 9>> {root}/agents/lock; flock -n 9 || echo \"$ORCH_TASK: two\" >> {root}/violations.log\n");
    let script = std::fs::read_to_string(world.path("agent.sh")).unwrap();
    let (head, rest) = script.split_once("for other in").unwrap();
    let (_, rest) = rest.split_once("done\n").unwrap();
    crate::support::crash::script(&world.path("agent.sh"), &format!("{head}{lock}{rest}"));
    ("SLURM_CONF".to_owned(), cluster.conf().display().to_string())
}

/// Nothing more will happen: ended, watched to the end, or blocked.
fn over(world: &World) -> bool {
    let tasks = world.tasks();
    let armed = world.table("tasks").with("watch", "armed").len();
    let open =
        world.table("outbox").with("state", "open").len() + world.table("runs").without("state", "settled").len();
    let leases = world.table("leases").set("task_id").len();
    !tasks.is_empty()
        && armed + open + leases == 0
        && tasks.iter().all(|t| t.blocked.is_some() || t.stage == "done" || t.stage == "cancelled")
}

#[test]
fn every_point_swept_ends_as_undisturbed() {
    let seed = number("ORCH_SWEEP_SEED", 1);
    let whole = text("ORCH_SWEEP").as_deref() == Some("all");
    let sample = usize::try_from(number("ORCH_SWEEP", 2)).unwrap();
    let only = text("ORCH_SWEEP_SCENARIO");
    let at = text("ORCH_SWEEP_POINT");
    let one = at.as_ref().and_then(|n| n.parse().ok());
    let from = at.as_ref().and_then(|n| n.strip_suffix('-')?.parse().ok()).unwrap_or(1);
    let web = Web::always(Turn::Say(200, "ok"));
    let mut dice = Dice::new(seed);
    let mut runs: Vec<(Scenario, Outcome, usize, Vec<u64>)> = Vec::new();
    let mut scenarios = Scenario::all();
    if let Some(name) = &only {
        scenarios.extend(Scenario::on_cluster(name));
        assert!(scenarios.iter().any(|s| s.name == *name), "no scenario {name} here");
    }
    // By default the deploy and one other that the seed draws.
    if !whole && only.is_none() {
        let drawn = 1 + usize::try_from(dice.below(scenarios.len() as u64 - 1)).unwrap();
        scenarios = scenarios.into_iter().enumerate().filter(|(n, _)| *n == 0 || *n == drawn).map(|(_, s)| s).collect();
    }
    for scenario in scenarios.into_iter().filter(|s| only.as_ref().is_none_or(|o| *o == s.name)) {
        let (world, points) = scenario.play(&web, None);
        let base = outcome(&world);
        let faults = scenario.faults(&world, &base, "no point");
        assert!(faults.is_empty(), "undisturbed: {faults}");
        let kinds = world.table("journal").texts("kind").into_iter().collect::<BTreeSet<_>>().len();
        assert!(points >= 2 * kinds, "{points} points for {kinds} kinds of action");
        let to = every().filter(|_| scenario.stop.is_none()).map_or(points as u64, |k| k.min(points as u64));
        let all: Vec<u64> = (from..=to).collect();
        let mut drawn = match one {
            Some(n) => vec![n],
            None if whole => all,
            None => (0..sample).map(|_| 1 + dice.below(points as u64)).collect(),
        };
        drawn.sort_unstable();
        drawn.dedup();
        runs.push((scenario, base, points, drawn));
    }
    let work: Vec<(usize, u64)> = runs.iter().enumerate().flat_map(|(n, r)| r.3.iter().map(move |p| (n, *p))).collect();
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..number("ORCH_SWEEP_JOBS", 2) {
            scope.spawn(|| {
                while let Some((n, point)) = work.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let (scenario, base, ..) = &runs[*n];
                    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        let (world, _) = scenario.play(&web, Some(*point));
                        let at = world.lines("points.log").into_iter().nth(usize::try_from(*point - 1).unwrap());
                        scenario.faults(&world, base, &at.unwrap_or_else(|| format!("{point}, never reached")))
                    }));
                    let said = result.unwrap_or_else(|e| {
                        e.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".to_owned())
                    });
                    println!("sweep: {} point {point} {}", scenario.name, if said.is_empty() { "ok" } else { "NOT" });
                    if !said.is_empty() {
                        println!("sweep: {} point {point} FAILED\n{said}", scenario.name);
                        failed.lock().unwrap().push(format!("{} point {point}", scenario.name));
                    }
                }
            });
        }
    });
    for (scenario, _, points, drawn) in &runs {
        println!("sweep: {}: {points} points, {} swept, seed {seed}", scenario.name, drawn.len());
    }
    let failed = failed.into_inner().unwrap();
    println!("sweep: {} of {} ended as undisturbed", work.len() - failed.len(), work.len());
    assert!(failed.is_empty(), "{failed:?}");
}
