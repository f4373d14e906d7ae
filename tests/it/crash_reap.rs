//! Reaping (RUN-8) with real processes: each tier, and the measured hazards of a queue made of processes (issue 3).

use crate::support::crash::{Plan, World, kill, said};
use std::process::Stdio;
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_secs(60);

fn hanging(stage: &str, config: &str) -> World {
    let world = World::new(Plan {
        nap: "0.01",
        extra: format!(
            "if [ \"$ORCH_STAGE\" = {stage} ] && [ ! -e \"$world/hangs\" ]; then : > \"$world/hangs\"; sleep 1000; fi\n"
        ),
        config: config.to_owned(),
        ..Plan::default()
    });
    world.new_item("AA", "one thing");
    world.play_until("the hanging agent", BOUND, |w| w.path("hangs").exists());
    world
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < BOUND, "{what} did not come");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

fn reaped(world: &World, tier: &str) -> usize {
    world.table("audit").with("event", "job_reaped").like("detail", format!("\"tier\":\"{tier}\"")).len()
}

#[test]
fn run_8_tier_3_an_overdue_run_is_ended_with_its_tree() {
    let world = hanging("development", "");
    let config = std::fs::read_to_string(world.path("orch.yaml")).unwrap();
    std::fs::write(world.path("orch.yaml"), config.replace("reaper: {", "reaper: {max_running_s: 1, ")).unwrap();
    let agent = world.alive().len();
    assert!(agent >= 2, "supervisor and agent");
    wait("the overdue run's end", || {
        drop(world.orch(&["reap"]));
        reaped(&world, "overdue") == 1
    });
    assert_eq!(
        world.table("runs").with("result", "failed").like("result_why", "it ran longer").len(),
        1,
        "{}",
        world.story()
    );
}

#[test]
fn rule_21_a_live_finalizer_is_left_alone_and_a_dead_ones_work_is_taken_up_where_it_was() {
    // The push waits for a signal file: the supervisor is alive and still finalizing.
    let world = World::new(Plan { nap: "0.01", ..Plan::default() });
    let hook = world.path("aa.git/hooks/pre-receive");
    let slow = format!(
        "#!/bin/sh\nread old new ref\ncase $old in 0000*) exit 0;; esac\n: > {0}/pushing\nn=0; while [ ! -e {0}/go ] && [ $n -lt 600 ]; do sleep 0.05; n=$((n+1)); done\n",
        world.root().display()
    );
    crate::support::crash::script(&hook, &slow);
    world.new_item("AA", "one thing");
    drop(world.orch(&["tick"]));
    wait("the push", || world.path("pushing").exists());
    // Its exit is recorded, it has the finalizer, and the job runs until all is done: no verdict before the push.
    let exited = world.table("runs").with("state", "exited");
    assert_eq!((exited.len(), exited.one("finalizer")), (1, exited.one("supervisor")), "{}", world.story());
    assert_eq!(world.table("jobs").with("status", "running").len(), 1);
    assert_eq!(world.table("evidence").len(), 0, "the gate is asked after the push");
    assert_eq!(world.task("AA-1").stage, "analysis");
    drop(world.orch(&["run-job", "1", "--finalize"]));
    for _ in 0..6 {
        drop(world.orch(&["reap"]));
        std::thread::park_timeout(Duration::from_millis(400));
    }
    assert_eq!(reaped(&world, "exited") + reaped(&world, "dead"), 0, "a live, finalizing supervisor is never reaped");
    let starts = world.lines("agents.log").iter().filter(|l| l.starts_with("start")).count();
    world.orch_processes().into_iter().for_each(kill);
    std::fs::write(world.path("go"), "").unwrap();
    world.play_until("approval", BOUND, |w| w.task("AA-1").waiting.as_deref() == Some("approval"));
    assert_eq!(
        world.lines("agents.log").iter().filter(|l| l.starts_with("start")).count(),
        starts,
        "the exit was recorded: the agent is not played again"
    );
    assert_eq!(world.table("audit").with("event", "branch_pushed").len(), 1, "{}", world.story());
}

#[test]
fn run_4_a_claim_whose_tick_was_killed_goes_back_and_its_late_supervisor_starts_nothing() {
    let world = World::new(Plan { nap: "0.01", ..Plan::default() });
    world.new_item("AA", "one thing");
    // The remote is unavailable at first: the claim waits in the fetch, where the tick is killed.
    let git = world.path("aa.git");
    let away = world.path("away.git");
    std::fs::rename(&git, &away).unwrap();
    let fifo = world.path("aa.git");
    std::fs::create_dir(&fifo).unwrap();
    let out = world.orch(&["tick"]);
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
    assert_eq!(world.task("AA-1").stage, "created", "given back, nothing spent");
    std::fs::remove_dir(&fifo).unwrap();
    std::fs::rename(&away, &git).unwrap();
    // A claim in the database whose supervisor never starts, by a process that is gone.
    drop(world.orch(&["tick"]));
    world.play_until("approval", BOUND, |w| w.task("AA-1").waiting.as_deref() == Some("approval"));
    let runs = world.table("runs").len();
    let late = world.orch(&["run-job", "1"]);
    drop(late);
    assert_eq!(world.table("runs").len(), runs);
    assert_eq!(world.table("runs").without("state", "settled").len(), 0);
}

#[test]
fn eight_processes_make_a_fresh_database_at_once() {
    for _ in 0..5 {
        let world = World::new(Plan::default());
        let all: Vec<_> = (0..8)
            .map(|n| {
                let mut command = world.command(&[if n % 2 == 0 { "tick" } else { "reap" }]);
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for child in all {
            let out = child.wait_with_output().unwrap();
            assert!(out.status.success(), "{}", said(&out));
        }
        assert!(world.db().is_whole());
        world.chain_holds();
    }
}

/// A machine that restarted: all that ran is gone, even if its pid is in use again (RUN-4, RULE-33).
#[cfg(feature = "failpoints")]
#[test]
fn rule_33_another_boot_id_is_a_death_at_the_first_check() {
    let mut world = hanging("development", "");
    world.alive().into_iter().for_each(kill);
    world.env.push(("ORCH_FAILPOINT_BOOT".to_owned(), "another-boot".to_owned()));
    drop(world.orch(&["reap"]));
    assert_eq!(reaped(&world, "dead"), 1, "{}", world.story());
    world.play_until("review", BOUND, |w| w.task("AA-1").stage != "development");
    assert_eq!(world.lines("violations.log"), Vec::<String>::new());
}

/// Clock jumps kill nothing and lose nothing (RULE-33).
#[cfg(feature = "failpoints")]
#[test]
fn rule_33_a_jump_of_the_wall_clock_ends_no_run() {
    for jump in ["-86400000", "864000000"] {
        let mut world = hanging("development", "");
        world.env.push(("ORCH_FAILPOINT_WALL_MS".to_owned(), jump.to_owned()));
        for _ in 0..4 {
            drop(world.orch(&["reap"]));
            drop(world.orch(&["tick"]));
        }
        assert_eq!(world.table("audit").with("event", "job_reaped").len(), 0, "{}", world.story());
        world.orch_processes().into_iter().for_each(kill);
        world.play_until("review", BOUND, |w| w.task("AA-1").stage != "development");
        assert_eq!(world.lines("violations.log"), Vec::<String>::new());
    }
}

/// Settling, the stage's change and the next job are one transaction: here the next job can't be written.
#[test]
fn rule_21_settling_moving_and_the_next_job_are_one_transaction() {
    let world = World::new(Plan {
        nap: "0.01",
        project: "    stages: [development, review, deploy]\n".to_owned(),
        ..Plan::default()
    });
    world.step(&["tick"]);
    world.db().refuse("review");
    world.new_item("AA", "one thing");
    drop(world.orch(&["tick"]));
    let settled = |kind: &str| world.table("runs").with("kind", kind).with("state", "settled").len();
    wait("the CI's supervisor's end", || {
        world.table("runs").with("kind", "ci").without("state", "starting").len() == 1
            && world.orch_processes().is_empty()
    });
    assert_eq!((settled("agent"), settled("ci")), (1, 0), "{}", world.story());
    assert_eq!(world.table("evidence").with("gate", "ci_green").len(), 0);
    assert_eq!(world.table("jobs").with("kind", "ci").with("status", "running").len(), 1);
    assert_eq!(world.task("AA-1").stage, "development");
    world.db().accept();
    world.play_until("the review", BOUND, |w| w.task("AA-1").waiting.is_some());
    assert_eq!(world.lines("agents.log").iter().filter(|l| l.starts_with("start")).count(), 2, "{}", world.story());
    assert_eq!(world.lines("violations.log"), Vec::<String>::new());
}
