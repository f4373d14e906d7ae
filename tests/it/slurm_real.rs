//! Agents and CI on a real Slurm of two nodes (CLU-1 to CLU-5): the whole pipeline, stops and the death of everything
//! around it. Each test has its own cluster.

use super::support::confined::Place;
use super::support::procs::{contains as holds, kill, pids, read};
use super::support::slurm::Cluster;
use super::support::slurm_world::{HOLD, SECRET, in_files, world};
use orch::adapters::child::{ChildError, Control, EndedBy, Event, Spec};
use orch::adapters::confine::{Boundary, Bounds, Engine};
use orch::adapters::executor::slurm::{Job, Ledger, Phase, Resources};
use orch::model::confine::{Choice, Network};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Occurs in a work item, and so in its prompt alone.
const CANARY: &str = "canary-of-the-prompt-81b2";

/// CLU-1, CLU-2: setup, agent, CI, builds, checks and the try of a base are jobs, the deploy is not; nothing that others
/// can read contains their input; and munge is no way out.
#[test]
fn clu_2_a_task_is_delivered_by_jobs_and_nothing_of_it_is_seen_by_others() {
    let project = "stages: [development, review, deploy-staging, deploy]\nworktree: {setup: {command: [./setup.sh]}}\n\
                   staging: {revision: {command: [./revision.sh]}, build: {command: [./build.sh]}, checks: [{id: S1, kind: command, command: [./smoke.sh]}, {id: S2, kind: command, command: [./smoke.sh], on: host}]}";
    let kinds = ", per_kind: {ci: {cpus: 2}, staging: {cpus: 3}, build: {cpus: 4}, base: {cpus: 5}}";
    let Some(w) = world(kinds, "", project) else { return };
    w.configure("base: {enabled: false}", "base: {recheck_s: 600}");
    w.pipe.put_person("smoke.sh", "#!/bin/sh\ntest -e app.txt\n");
    let staged = w.pipe.at("prompts/staged");
    let staged = staged.to_str().unwrap();
    w.pipe.put_person("build.sh", &format!("#!/bin/sh\ntest -e app.txt && echo \"$ORCH_REVISION\" > {staged}\n"));
    w.pipe.put_person("revision.sh", &format!("#!/bin/sh\ncat {staged} 2> /dev/null || echo none\n"));
    w.pipe.put_person("setup.sh", "#!/bin/sh\ntouch made.log\n");
    w.pipe
        .put_person("ci.sh", "#!/bin/sh\nset -e\nfor f in ORCH-*.txt; do [ ! -e \"$f\" ] || grep -q round \"$f\"; done\ntest -n \"$TMPDIR\"\n! env | grep -q '^SLURM'\n");
    w.pipe.commit("with a setup");
    let checks = w.pipe.orch(&["doctor", "--quick", "--json"]).json()["checks"].clone();
    let of = |name: &str| {
        let found = checks.as_array().unwrap().iter().find(|c| c["area"] == "cluster" && c["name"] == name);
        found.map(|c| (c["level"].as_str().unwrap().to_owned(), c["message"].as_str().unwrap().to_owned()))
    };
    for node in ["n1", "n2"] {
        let (level, message) = of(node).unwrap_or_else(|| panic!("{checks}"));
        assert!(level == "ok" && message.contains("bubblewrap"), "{level} {message}");
    }
    for (name, level) in [("srun", "ok"), ("partition", "ok"), ("ProctrackType", "warning"), ("memory", "warning")] {
        assert_eq!(of(name).map(|(level, _)| level).as_deref(), Some(level), "{checks}");
    }
    let socket = w.cluster.socket().to_str().unwrap().to_owned();
    let tries = format!(
        "env | grep -q '^SLURM' && echo slurm >> reached.txt\nmunge -n -S {socket} > /dev/null 2>&1 && echo munge >> reached.txt\n\
         ls {socket} > /dev/null 2>&1 && echo socket >> reached.txt\ncat {conf} > /dev/null 2>&1 && echo conf >> reached.txt\n\
         test \"$TOKEN\" = {SECRET} || echo token >> reached.txt\ntest -e made.log || echo setup >> reached.txt\n",
        conf = w.cluster.conf().display(),
    );
    w.agent("development", &format!("{tries}id -u > uid.txt\n{HOLD}"));
    let said = w.pipe.orch(&["new", &format!("Deliver {CANARY}"), "--json"]);
    let key = said.json()["key"].as_str().unwrap().to_owned();
    w.until_at(&key);
    // While it works.
    let shown = w.cluster.ask(&["scontrol", "-o", "show", "job"]) + &w.cluster.ask(&["squeue", "--json"]);
    assert!(shown.contains("JobName=orch-"), "{shown}");
    for needle in [SECRET, CANARY] {
        assert!(!shown.contains(needle), "{shown}");
        for folder in ["ctld", "n1", "n2"] {
            assert_eq!(in_files(&w.cluster.at(folder), needle), Vec::<std::path::PathBuf>::new());
        }
        // Of all processes only the agent's own have it, and those that the test started with it.
        let words: Vec<i32> = pids().filter(|pid| holds(&read(*pid, "cmdline"), needle)).collect();
        assert!(words.is_empty(), "{words:?}");
        for pid in w.cluster.processes() {
            assert!(!holds(&read(pid, "environ"), needle), "{}", String::from_utf8_lossy(&read(pid, "cmdline")));
        }
    }
    w.go(&key);
    w.pipe.until_stage(&key, "done");
    let file = |name: &str| w.pipe.remote(&["show", &format!("main:{name}")]);
    assert!(file(&format!("{key}.txt")).contains("round 1"));
    assert!(file("uid.txt").trim().parse::<u64>().unwrap() >= 2_000_000_000);
    let names = w.pipe.remote(&["ls-tree", "-r", "--name-only", "main"]);
    assert!(!names.contains("reached.txt"), "{}", file("reached.txt"));
    let jobs = w.cluster.ask(&["scontrol", "-o", "show", "job"]);
    let of_ci = jobs.lines().filter(|job| job.contains("NumCPUs=2 ")).count();
    // Setup and agent; setup and review's own; setup and CI of each head: none is the deploy's.
    assert!(of_ci >= 1 && jobs.lines().count() >= 4, "{jobs}");
    // A check on the host is none; what ran as which kind shows in the processors that it asked for.
    for (cpus, what) in [(3, "a staging check"), (4, "the staging build"), (5, "the try of the base")] {
        assert!(jobs.lines().any(|job| job.contains(&format!("NumCPUs={cpus} "))), "{what}: {jobs}");
    }
    // The setup for them and the one check; the other is on the host.
    assert_eq!(jobs.lines().filter(|job| job.contains("NumCPUs=3 ")).count(), 2, "{jobs}");
    assert!(!w.pipe.read("prod/deploys").is_empty());
    w.until_clean();
    assert_eq!(w.spent(), Vec::<String>::new());
    // The folder that the nodes see contains the program, and nothing else of orch's own.
    let shared = super::support::pipe::files(&w.cluster.shared());
    assert!(shared.iter().all(|p| !p.ends_with("orch.db") && !p.ends_with("orch.yaml")), "{shared:?}");
    assert_eq!(in_files(&w.cluster.shared(), SECRET), Vec::<std::path::PathBuf>::new());
}

/// CLU-4: if Slurm refuses a job, or would never start it, the environment is at fault, and the report quotes Slurm.
#[test]
fn clu_4_a_job_that_never_starts_is_reported_and_spends_nothing() {
    let Some(w) = world(", partition: nowhere", "limits: {max_concurrency: 3}", "") else { return };
    let key = w.pipe.item("Never");
    w.until_environment(&key, "partition");
    w.configure("cpus: 1,", "cpus: 64,");
    w.configure("nowhere", "work");
    w.until_environment(&key, "PartitionConfig");
    assert_eq!((w.pipe.of(&key, "attempt"), w.spent()), ("1".into(), vec![]));
    w.until_clean();
    w.configure("cpus: 64,", "cpus: 8,");
    // Two that need a whole node each leave no room for a third, whose reason is shown.
    w.agent("development", HOLD);
    let others = [w.pipe.item("Second"), w.pipe.item("Third")];
    w.pipe.hurry();
    w.pipe.until("one waits in Slurm's queue", |p| {
        let status = p.orch(&["status", "--json"]).json();
        let tasks = status["tasks"].as_array().unwrap().clone();
        tasks.iter().any(|t| {
            t["running_job"]["queued"].as_str().is_some_and(|why| why.contains("Resources") || why.contains("Priority"))
        })
    });
    for key in others.iter().chain([&key]) {
        w.go(key);
    }
    for key in others.iter().chain([&key]) {
        w.pipe.until_stage(key, "done");
    }
    w.until_clean();
}

/// CLU-3b: a job that others displace is lost, spends nothing, and is played again in its own folder.
#[test]
fn clu_3_a_displaced_job_is_lost_and_spends_nothing() {
    let Some(w) = world("", "", "") else { return };
    w.agent("development", HOLD);
    let key = w.pipe.item("Give way");
    w.until_at(&key);
    // Nobody asked for the end: the next run starts in its own folder.
    let before = w.folders();
    w.forget_at(&key);
    // Others' jobs of a higher partition take both nodes for a moment.
    w.cluster.ask(&["srun", "--partition=high", "--nodes=2", "--exclusive", "--mem=3900", "true"]);
    w.until_at(&key);
    assert!(w.folders().iter().any(|f| !before.contains(f)), "{before:?}");
    w.go(&key);
    w.pipe.until_stage(&key, "done");
    assert_eq!((w.pipe.of(&key, "attempt"), w.spent()), ("1".into(), vec![]));
    let whys = w.pipe.table("runs").with("result", "lost").texts("result_why");
    assert!(whys.len() == 1 && whys[0].contains("PREEMPTED"), "{whys:?}");
    w.until_clean();
}

/// CLU-3c: an unavailable controller says nothing about a run.
#[test]
fn clu_3_a_controller_that_is_away_loses_nothing() {
    let Some(mut w) = world("", "", "") else { return };
    w.agent("development", HOLD);
    let key = w.pipe.item("Without a controller");
    w.until_at(&key);
    w.cluster.kill("slurmctld");
    for _ in 0..2 {
        let said = w.pipe.orch(&["reap"]);
        assert_eq!(said.code, 0, "{}", said.all());
    }
    assert_eq!(w.pipe.table("runs").set("ended_at").texts("id"), Vec::<String>::new());
    w.go(&key);
    w.pipe.until("its node told the end", |p| !p.table("runs").set("exited_at").one("exited_at").is_empty());
    w.cluster.controller();
    w.pipe.until_stage(&key, "done");
    // Slurm's step daemon sleeps for a minute before it repeats the report that the controller missed; without the daemon
    // its node reports the end at once.
    for pid in w.cluster.processes().into_iter().filter(|pid| read(*pid, "comm") == b"slurmstepd\n") {
        kill(pid);
    }
    // What the end of the run could not see, the reaper sees.
    w.until_clean();
    assert_eq!((w.pipe.of(&key, "attempt"), w.spent()), ("1".into(), vec![]));
}

/// CLU-3: a node that dies costs nothing, and its run begins again elsewhere.
#[test]
fn clu_3_a_node_that_dies_loses_nothing() {
    let Some(mut w) = world("", "", "") else { return };
    w.agent("development", HOLD);
    let key = w.pipe.item("On a node that dies");
    w.until_at(&key);
    let queue = w.cluster.queue();
    let node = queue.split_whitespace().last().unwrap().to_owned();
    w.forget_at(&key);
    w.cluster.lose(&node);
    w.until_at(&key);
    assert!(!w.cluster.queue().contains(&format!(" {node}")), "{}", w.cluster.queue());
    w.go(&key);
    w.pipe.until_stage(&key, "done");
    assert_eq!((w.pipe.of(&key, "attempt"), w.spent()), ("1".into(), vec![]));
    assert!(w.pipe.table("runs").texts("result_why").iter().any(|why| why.contains("NODE_FAIL")), "{}", w.pipe.story());
    assert_eq!(w.pipe.table("jobs").set("cause").texts("cause"), ["cluster"]);
    w.until_clean();
}

/// CLU-4: ten at once, each its own.
#[test]
fn clu_4_ten_runs_at_once_are_all_delivered() {
    let Some(w) = world("", "limits: {max_concurrency: 10}", "") else { return };
    w.agent("development", HOLD);
    let keys: Vec<String> = (0..10).map(|n| w.pipe.item(&format!("Item {n}"))).collect();
    w.pipe.until("ten agents", |_| keys.iter().all(|key| w.is_at(key)));
    assert_eq!(w.cluster.queue().lines().filter(|l| l.contains("RUNNING")).count(), 10);
    // What one run costs this machine while its agent works (docs/scale.md); shown with --nocapture.
    for name in ["orch", "srun", "slurmstepd"] {
        let of = w.cluster.processes().into_iter().filter(|pid| read(*pid, "comm") == format!("{name}\n").as_bytes());
        let figures: Vec<(u64, usize)> = of
            .map(|pid| {
                let rollup = String::from_utf8_lossy(&read(pid, "smaps_rollup")).into_owned();
                let line = rollup.lines().find(|l| l.starts_with("Pss:")).unwrap_or_default().to_owned();
                let kb = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
                (kb, std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count))
            })
            .collect();
        eprintln!("{name}: {} processes, (kB of Pss, descriptors) {figures:?}", figures.len());
    }
    for key in &keys {
        w.go(key);
    }
    w.pipe.until("ten pushed", |p| p.table("runs").with("kind", "agent").with("result", "done").len() == 10);
    w.until_clean();
}

/// TRUST-2, CLU-3: a supervisor that is killed at any moment of its job loses nothing, and nothing runs twice.
#[cfg(feature = "failpoints")]
#[test]
fn clu_3_a_supervisor_killed_at_each_moment_of_its_job_loses_nothing() {
    let moments = ["slurm ledger", "slurm begun", "slurm started", "slurm over", "slurm settled"];
    let Some(mut w) = world("", "limits: {max_concurrency: 5}", "") else { return };
    let count = w.pipe.at("points");
    w.agent("development", "echo \"$ORCH_TASK\" >> \"$ORCH_TASK.txt\"\n");
    w.pipe.env.push(("ORCH_FAILPOINT_COUNT".into(), count.to_str().unwrap().into()));
    let started = |moment: &str| {
        w.pipe.env.push(("ORCH_FAILPOINT_KILL".into(), moment.into()));
        let key = w.pipe.item(moment);
        // What this step starts is killed, and nothing that later steps start.
        w.pipe.orch(&["tick"]);
        w.pipe.env.pop();
        key
    };
    let keys: Vec<String> = moments.into_iter().map(started).collect();
    for (key, moment) in keys.iter().zip(moments) {
        w.pipe.until_stage(key, "done");
        assert_eq!((w.pipe.of(key, "attempt"), w.spent()), ("1".into(), vec![]), "{moment}\n{}", w.pipe.story());
        assert_eq!(w.pipe.remote(&["show", &format!("main:{key}.txt")]).lines().count(), 1, "{moment}");
    }
    w.until_clean();
    assert!(w.pipe.table("runs").with("result", "lost").len() >= 5, "{}", w.pipe.story());
}

/// Names the cluster of a test that starts itself again: Slurm's clients need its configuration in the environment.
const INNER: &str = "ORCH_TEST_SLURM_SOCKET";

/// CLU-3: a supervisor gets the same result of a command wherever it runs.
#[test]
fn clu_3_a_command_is_played_on_a_node_as_it_is_here() {
    if let Some(socket) = std::env::var_os(INNER) {
        return contract(socket.to_str().unwrap());
    }
    let Some(cluster) = Cluster::start() else { return };
    let name = "slurm_real::clu_3_a_command_is_played_on_a_node_as_it_is_here";
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args([name, "--exact", "--nocapture"]).env("SLURM_CONF", cluster.conf()).env(INNER, cluster.socket());
    let out = again.output().unwrap();
    assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
}

fn away(place: &Place, engine: &Engine, silence_s: u64, argv: &[&str]) -> (Spec, std::path::PathBuf) {
    let run = place.run(engine);
    let choice = if *engine == Engine::Landlock { Choice::Landlock } else { Choice::Bubblewrap };
    let policy = orch::model::confine::Policy { choice, ..run.policy.clone() };
    let bounds = Bounds { policy, ..run.bounds };
    let run = orch::adapters::confine::Run { bounds, ..run };
    let dir = place.path("state");
    let job = Job {
        name: format!("orch-contract-{}", std::process::id()),
        resources: Resources { cpus: 1, memory: "300M".into(), time: "5".into(), ..Resources::default() },
        work_dir: place.path("work"),
        answers: place.path("work/nodes"),
        dir: dir.clone(),
        known: place.path("state/known"),
        program: Place::program(),
        settle_s: 1,
        silence_s,
    };
    let spec = place.spec(run.clone(), argv);
    let boundary = Boundary::Away(Box::new(run), Arc::new(job));
    (Spec { boundary, grace: Duration::from_secs(1), ..spec }, dir)
}

fn contract(socket: &str) {
    let place = Place::new();
    let wrap = |choice| super::support::confined::engine(choice, Network::Open, &place);
    let (Some(bubblewrap), Some(landlock)) = (wrap(Choice::Bubblewrap), wrap(Choice::Landlock)) else { return };
    let sh = |script: &'static str| ["sh", "-c", script];
    for engine in [&bubblewrap, &landlock] {
        let of = |script| away(&place, engine, 60, &sh(script)).0;
        let exit = place.go(&of("echo out; echo err >&2; test $(id -u) -ge 2000000000 && exit 3"));
        assert_eq!((exit.code, exit.signal, exit.ended_by), (Some(3), None, None), "{engine:?}");
        assert_eq!((place.out().as_str(), place.err().as_str()), ("out\n", "err\n"));
        let exit = place.go(&of("kill -9 $$"));
        assert_eq!((exit.code, exit.signal), (Some(137), None), "{engine:?}");
        // Slurm's own ways out: its variables, and munge's socket.
        let script = format!("env | grep SLURM; munge -n -S {socket}; test -w /tmp/outside");
        let (spec, _) = away(&place, engine, 60, &["sh", "-c", &script]);
        let exit = place.go(&spec);
        assert!(exit.code != Some(0) && place.out().is_empty(), "{engine:?} {exit:?} {}", place.out());
    }
    let of = |script| away(&place, &bubblewrap, 60, &sh(script)).0;
    // Input and output arrive whole.
    let input = place.path("state/in");
    let bytes: Vec<u8> = (0..3 << 20).map(|n: u32| n.to_le_bytes()[(n % 3) as usize]).collect();
    std::fs::write(&input, &bytes).unwrap();
    let exit = place.go(&Spec { stdin: Some(input), ..of("cat") });
    assert_eq!((exit.code, exit.stdout_bytes), (Some(0), bytes.len() as u64));
    assert!(std::fs::read(place.path("state/out")).unwrap() == bytes);
    let none = place.run_with(&away(&place, &bubblewrap, 60, &["no-such-program"]).0, &mut |_| Control::Go);
    assert!(matches!(none, Err(ChildError::NotFound { .. })), "{none:?}");
    let exit = place.go(&Spec { wall: Duration::from_secs(1), ..of("trap 'echo bye; exit 5' TERM; sleep 600 & wait") });
    assert_eq!((exit.code, exit.ended_by), (Some(5), Some(EndedBy::Wall)));
    assert_eq!(place.out(), "bye\n");
    let exit = place.go(&Spec { stall: Some(Duration::from_secs(1)), ..of("sleep 600") });
    assert_eq!(exit.ended_by, Some(EndedBy::Stall));
    let mut asked = |event: Event<'_>| match event {
        Event::Stdout(_) => Control::End("enough".to_owned()),
        Event::Starting | Event::Started(_) | Event::Stderr(_) | Event::Tick => Control::Go,
    };
    let exit =
        place.run_with(&of("trap '' TERM; echo up; sleep 601 & setsid sleep 602 & wait; wait"), &mut asked).unwrap();
    assert_eq!(exit.ended_by, Some(EndedBy::Asked("enough".to_owned())));
    assert!(!pids().any(|pid| holds(&read(pid, "cmdline"), "sleep\x00602")));
    // A supervisor that sends nothing: its node ends the run, which is lost.
    let (spec, dir) = away(&place, &bubblewrap, 4, &sh("echo up; sleep 603"));
    let begun = Instant::now();
    let mut deaf = |event: Event<'_>| {
        if let Event::Stdout(_) = event {
            while pids().any(|pid| holds(&read(pid, "cmdline"), "sleep\x00603")) {
                assert!(begun.elapsed() < Duration::from_secs(30), "the node goes on alone");
                std::thread::park_timeout(Duration::from_millis(200));
            }
        }
        Control::Go
    };
    let lost = place.run_with(&spec, &mut deaf);
    assert!(matches!(&lost, Err(ChildError::Lost { why }) if why.contains("silence_s")), "{lost:?}");
    // A folder that the node does not see.
    let (spec, _) = away(&place, &bubblewrap, 60, &sh("true"));
    let Boundary::Away(run, job) = spec.boundary.clone() else { panic!() };
    let bounds = Bounds { checkout: "/nowhere/run/checkout".into(), ..run.bounds };
    let elsewhere = orch::adapters::confine::Run { bounds, ..*run };
    let refused =
        place.run_with(&Spec { boundary: Boundary::Away(Box::new(elsewhere), job), ..spec }, &mut |_| Control::Go);
    assert!(matches!(&refused, Err(ChildError::Unavailable { why }) if why.contains("/nowhere/run")), "{refused:?}");
    // Slurm may still be completing the job, which a later step then closes.
    let left = Ledger::read(&dir);
    assert!(left.as_ref().is_none_or(|ledger| ledger.phase == Phase::Over), "{left:?}");
}
