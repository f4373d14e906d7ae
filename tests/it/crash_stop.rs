//! STOP (RUN-9, RULE-16 to RULE-18) with agents that hang, ignore TERM and leave children in their own sessions.

use crate::support::crash::{Plan, World, kill, said};
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_secs(60);

/// Hangs in one stage and ignores TERM, with three children: one in its own session, one that ignores TERM, too, and
/// one whose parent is gone and whose environment was cleared. Only because the supervisor is a subreaper is it known
/// whose that one is.
fn hanging(stage: &str) -> Plan {
    Plan {
        nap: "0.01",
        extra: format!(
            "if [ \"$ORCH_STAGE\" = {stage} ]; then cp /bin/sleep $world/state/napper; trap '' TERM; (env -i setsid $world/state/napper 86400 &); setsid sleep 1000 & sleep 1000 & : > \"$world/hangs\"; wait; wait; fi\n"
        ),
        ..Plan::default()
    }
}

/// Plays until the agent of the stage hangs.
fn meet(world: &World) {
    world.new_item("AA", "one thing");
    world.play_until("the hanging agent", BOUND, |w| w.path("hangs").exists());
}

fn parked(world: &World, waiting: &str) {
    world.new_item("AA", "one thing");
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < BOUND, "{waiting} did not come\n{}", world.story());
        drop(world.orch(&["tick"]));
        match world.tasks().first().and_then(|t| t.waiting.clone()) {
            Some(w) if w == waiting => return,
            Some(_) => world.release_all(),
            None => std::thread::park_timeout(Duration::from_millis(30)),
        }
    }
}

fn board_status(world: &World, key: &str) -> String {
    let text = std::fs::read_to_string(world.path(&format!("state/issues-aa/{key}.md"))).unwrap();
    let line = text.lines().find(|l| l.starts_with("status:")).unwrap();
    line.trim_start_matches("status:").trim().trim_matches('"').to_owned()
}

/// Nothing of the task is left but its record.
fn nothing_left(world: &World, key: &str) {
    let task = world.task(key);
    assert_eq!(task.stage, "cancelled", "{}", world.story());
    let begun = Instant::now();
    while !world.alive().is_empty() && begun.elapsed() < Duration::from_secs(10) {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert_eq!(world.alive(), Vec::<i32>::new(), "a process is left");
    assert_eq!(world.branches("AA"), ["main"], "the branch is left");
    assert!(!world.path(&format!("state-area/aa/{key}")).exists(), "the worktree is left");
    assert!(!world.path("state/sentinels/aa/merge-lease.json").exists(), "the lease's file is left");
    assert_eq!(world.table("leases").set("task_id").len(), 0);
    assert_eq!(world.table("jobs").among("status", &["queued", "running"]).len(), 0);
    assert_eq!(world.table("runs").without("state", "settled").len(), 0);
    assert_eq!(board_status(world, key), "Cancelled");
    world.chain_holds();
}

#[test]
fn run_9_a_stop_in_each_stage_leaves_no_process_branch_or_worktree() {
    std::thread::scope(|scope| {
        for stage in ["analysis", "architecture", "development", "review", "testing", "deploy-staging"] {
            scope.spawn(move || {
                let world = World::new(hanging(stage));
                meet(&world);
                assert_eq!(world.task("AA-1").stage, stage);
                let out = world.orch(&["stop", "AA-1", "--reason", "enough"]);
                assert!(out.status.success(), "{}", said(&out));
                nothing_left(&world, "AA-1");
                if stage != "analysis" {
                    let archive = world.path("state/archive/AA-1");
                    let stamp = std::fs::read_dir(archive).unwrap().next().unwrap().unwrap().path();
                    let brief = std::fs::read_to_string(stamp.join("01-brief.md")).unwrap();
                    assert!(brief.contains("work_item: AA-1"), "{brief}");
                }
                // Requested twice, reported once.
                let told = || {
                    world.table("outbox").like("key", "cancel").len()
                        + world.table("audit").among("event", &["stop_requested", "task_cancelled"]).len()
                };
                let before = told();
                assert!(world.orch(&["stop", "AA-1"]).status.success());
                assert_eq!(told(), before);
            });
        }
    });
}

#[test]
fn run_9_what_an_agent_starts_at_its_last_moment_is_ended_too() {
    let extra = r#"cp /bin/sleep $world/state/napper
trap '(trap "" TERM; env -i setsid $world/state/napper 86400 &); exit 0' TERM
: > "$world/hangs"
while :; do sleep 0.05; done
"#;
    let world = World::new(Plan { extra: extra.to_owned(), ..Plan::default() });
    meet(&world);
    let out = world.orch(&["stop", "AA-1"]);
    assert!(out.status.success(), "{}", said(&out));
    nothing_left(&world, "AA-1");
}

#[test]
fn run_9_a_parked_task_stops_at_once_and_starts_from_scratch_by_to_analyse() {
    for waiting in ["approval", "confirm_deploy"] {
        let world = World::new(Plan { nap: "0.01", ..Plan::default() });
        parked(&world, waiting);
        let out = world.orch(&["stop", "AA-1"]);
        assert!(out.status.success(), "{}", said(&out));
        nothing_left(&world, "AA-1");
        assert_eq!(world.deploys().len(), 0);
        let item = world.path("state/issues-aa/AA-1.md");
        let text = std::fs::read_to_string(&item).unwrap();
        let line = text.lines().find(|l| l.starts_with("status:")).unwrap();
        std::fs::write(&item, text.replace(line, "status: To Analyse")).unwrap();
        world.play_until("a new task", BOUND, |w| {
            w.tasks().len() == 2 && w.task("AA-1").waiting.as_deref() == Some("approval")
        });
        let again = world.task("AA-1");
        assert_eq!((again.id, again.attempt), (2, 1));
        assert!(again.branch.as_deref().is_some_and(|b| b.ends_with("-2")), "{again:?}");
    }
}

/// A deploy command that waits for a signal file, then exits with this code.
fn waiting_deploy(exit: u8) -> Plan {
    Plan {
        nap: "0.01",
        deploy: format!(
            "n=0; while [ ! -e @WORLD@/go ] && [ $n -lt 600 ]; do sleep 0.05; n=$((n+1)); done\nexit {exit}\n"
        ),
        ..Plan::default()
    }
}

#[test]
fn run_9_a_stop_during_a_deploy_waits_for_its_own_result() {
    std::thread::scope(|scope| {
        for (exit, stage, status) in [(0, "done", "Done"), (1, "cancelled", "Cancelled")] {
            scope.spawn(move || {
                let world = World::new(waiting_deploy(exit));
                parked(&world, "confirm_deploy");
                let out = world.orch(&["advance", "AA-1", "--confirm-deploy"]);
                assert!(out.status.success(), "{}", said(&out));
                let begun = Instant::now();
                while world.deploys().is_empty() && begun.elapsed() < BOUND {
                    std::thread::park_timeout(Duration::from_millis(20));
                }
                for _ in 0..2 {
                    let out = world.orch(&["stop", "AA-1"]);
                    assert_eq!(out.status.code(), Some(4), "{}", said(&out));
                }
                assert_eq!(world.table("outbox").like("key", "stop-deferred").len(), 1);
                assert_eq!(world.table("outbox").like("key", "alert/stop_deferred/").len(), 1);
                assert_eq!(world.task("AA-1").stage, "deploy");
                std::fs::write(world.path("go"), "").unwrap();
                world.play_until("the end", BOUND, |w| ["done", "cancelled"].contains(&w.task("AA-1").stage.as_str()));
                assert_eq!(world.task("AA-1").stage, stage, "{}", world.story());
                drop(world.orch(&["reap"]));
                assert_eq!(board_status(&world, "AA-1"), status);
                assert_eq!(world.deploys().get("AA-1"), Some(&1));
                assert_eq!(world.merges("AA").get("AA-1"), Some(&1));
                assert_eq!(world.table("leases").set("task_id").len(), 0);
            });
        }
    });
}

#[test]
fn rule_17_a_half_done_stop_is_completed_and_a_late_supervisor_settles_nothing() {
    for step in ["reap", "reconcile", "stop"] {
        let world = World::new(hanging("review"));
        meet(&world);
        // The supervisor is paused, so that it comes too late; the stop dies midway.
        let supervisors: Vec<i32> = world.orch_processes();
        assert_eq!(supervisors.len(), 1, "{}", world.story());
        let pid = rustix::process::Pid::from_raw(supervisors[0]).unwrap();
        let mut stop = world.command(&["stop", "AA-1"]).spawn().unwrap();
        let begun = Instant::now();
        while world.table("jobs").with("status", "cancelled").is_empty() && begun.elapsed() < BOUND {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        kill(i32::try_from(stop.id()).unwrap());
        stop.wait().unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::CONT);
        world.play_until("the stop's end", BOUND, |w| {
            drop(if step == "stop" { w.orch(&["stop", "AA-1"]) } else { w.orch(&[step]) });
            w.task("AA-1").stage == "cancelled"
        });
        nothing_left(&world, "AA-1");
        assert_eq!(world.table("audit").with("event", "run_finished").like("detail", "\"review\"").len(), 0);
        assert_eq!(world.table("audit").with("event", "task_cancelled").len(), 1);
    }
}

/// RULE-16: an update of the branch whose step died before its push is closed by the next one, and the stop that waited
/// for it continues.
#[test]
fn rule_16_an_abandoned_update_does_not_hold_a_stop_for_ever() {
    let world = World::new(Plan { nap: "0.01", ..Plan::default() });
    parked(&world, "confirm_deploy");
    world.table("tasks").put("critical", "update");
    let out = world.orch(&["stop", "AA-1"]);
    assert!([Some(0), Some(4)].contains(&out.status.code()), "{}", said(&out));
    world.play_until("the end", BOUND, |w| w.task("AA-1").stage == "cancelled");
    nothing_left(&world, "AA-1");
}

/// RULE-16: a task that a person resumes by `retry` in the middle of a deploy is in its window again.
#[test]
fn rule_16_a_retried_deploy_is_in_its_window_and_a_stop_waits_for_it() {
    let world = World::new(waiting_deploy(0));
    parked(&world, "confirm_deploy");
    assert!(world.orch(&["advance", "AA-1", "--confirm-deploy"]).status.success());
    let begun = Instant::now();
    while world.deploys().is_empty() && begun.elapsed() < BOUND {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let none = || serde_json::Value::Null;
    let blocked = [("blocked_reason", "by hand".into()), ("critical", none()), ("critical_deploy", none())];
    world.table("tasks").put_all(&blocked);
    world.step(&["retry", "AA-1"]);
    let out = world.orch(&["stop", "AA-1"]);
    assert_eq!(out.status.code(), Some(4), "{}", said(&out));
    std::fs::write(world.path("go"), "").unwrap();
    world.play_until("the end", BOUND, |w| w.task("AA-1").stage == "done");
    assert_eq!((world.deploys().get("AA-1"), world.merges("AA").get("AA-1")), (Some(&1), Some(&1)));
}

/// An agent with a child that only its environment's mark links to its run, then both without their supervisor.
fn orphaned() -> World {
    let world = World::new(Plan {
        nap: "0.01",
        extra: "(setsid sleep 1000 &)\n: > \"$world/hangs\"; sleep 1000\n".to_owned(),
        ..Plan::default()
    });
    meet(&world);
    let supervisor = world.orch_processes();
    assert_eq!(supervisor.len(), 1, "{}", world.story());
    kill(supervisor[0]);
    let begun = Instant::now();
    while world.alive().contains(&supervisor[0]) {
        assert!(begun.elapsed() < BOUND, "{}", world.story());
        std::thread::park_timeout(Duration::from_millis(5));
    }
    world
}

/// Staging and production on one host have the same run numbers: a stop ends the processes of its own run only.
#[test]
fn rule_10_installations_on_one_host_leave_each_other_alone() {
    let (one, other) = (orphaned(), orphaned());
    let alive = other.alive();
    assert!(alive.len() >= 2, "{alive:?}");
    assert!(one.orch(&["stop", "AA-1"]).status.success());
    nothing_left(&one, "AA-1");
    assert_eq!(other.alive(), alive);
}

/// One directory is one installation, by whatever path a step reaches it.
#[test]
fn rule_10_a_step_that_comes_by_another_path_ends_the_same_processes() {
    let world = orphaned();
    std::os::unix::fs::symlink(world.path("state"), world.path("link")).unwrap();
    let own = world.command(&["stop", "AA-1"]);
    let args = own.get_args().map(|a| if a == world.path("state") { world.path("link").into() } else { a.to_owned() });
    let mut stop = std::process::Command::new(own.get_program());
    stop.args(args).current_dir(world.root()).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    let out = stop.output().unwrap();
    assert!(out.status.success(), "{}", said(&out));
    nothing_left(&world, "AA-1");
}
