//! Faults around the database: the machine, an older copy, a full disk, a broken file (RULE-36 to RULE-38, TRUST-2
//! faults).

use crate::support::crash::{Plan, World, said};
use std::process::Command;
use std::time::{Duration, Instant};

fn parked() -> World {
    let world = World::new(Plan { nap: "0.01", ..Plan::default() });
    world.new_item("AA", "one thing");
    let begun = Instant::now();
    while !world.path("state/orch.db").exists() || world.tasks().first().is_none_or(|t| t.waiting.is_none()) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", world.story());
        drop(world.orch(&["tick"]));
        std::thread::park_timeout(Duration::from_millis(20));
    }
    world
}

#[test]
fn rule_37_an_older_database_halts_automatically_until_a_person_has_checked() {
    let world = World::new(Plan::default());
    world.new_item("AA", "one thing");
    world.step(&["backup", "older.db"]);
    world.step(&["freeze", "aa", "--reason", "later"]);
    for name in ["orch.db", "orch.db-wal", "orch.db-shm"] {
        let _ = std::fs::remove_file(world.path("state").join(name));
    }
    std::fs::copy(world.path("older.db"), world.path("state/orch.db")).unwrap();
    let tick = said(&world.orch(&["tick"]));
    assert!(tick.contains("halt") && world.path("state/HALT").exists(), "{tick}");
    assert_eq!(world.orch(&["resume"]).status.code(), Some(4));
    world.step(&["reconcile", "--full"]);
    world.step(&["resume"]);
    world.step(&["tick"]);
    assert!(!world.path("state/HALT").exists());
}

#[test]
fn rule_37_a_directory_of_another_machine_is_refused() {
    let world = World::new(Plan::default());
    world.step(&["tick"]);
    if !world.path("state/machine").exists() {
        return;
    }
    std::fs::write(world.path("state/machine"), "0123456789abcdef0123456789abcdef\n").unwrap();
    let out = world.orch(&["tick"]);
    assert_eq!(out.status.code(), Some(3));
    assert!(said(&out).contains("belongs to the machine 0123"), "{}", said(&out));
    // A machine file that a power loss or a person left damaged blocks as well, and the message says what to do;
    // commands that only show something report that no step works.
    for left in [&b""[..], &b"\xff\xfe"[..]] {
        std::fs::write(world.path("state/machine"), left).unwrap();
        let out = world.orch(&["tick"]);
        assert_eq!(out.status.code(), Some(3));
        assert!(said(&out).contains("machine") && said(&out).contains("remove "), "{}", said(&out));
        let out = world.orch(&["status"]);
        assert!(out.status.success() && said(&out).contains("no step can run here"), "{}", said(&out));
    }
}

#[test]
fn a_database_that_is_broken_newer_or_not_ours_is_reported_and_left_alone() {
    let world = World::new(Plan::default());
    world.step(&["tick"]);
    let path = world.path("state/orch.db");
    for (head, message) in [
        (Some(("user_version", 9999)), "newer orch"),
        (Some(("application_id", 5)), "not orch's database"),
        (None, "broken"),
    ] {
        let _ = std::fs::remove_file(world.path("state/orch.db-wal"));
        match head {
            None => std::fs::write(&path, vec![7_u8; 8192]).unwrap(),
            Some((name, to)) => drop(world.db().set_head(name, to)),
        }
        let before = std::fs::read(&path).unwrap();
        let begun = Instant::now();
        let out = world.orch(&["tick"]);
        assert_eq!(out.status.code(), Some(3), "{}", said(&out));
        assert!(said(&out).contains(message), "{}", said(&out));
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert_eq!(std::fs::read(&path).unwrap(), before);
        if head.is_some_and(|(name, _)| name == "user_version") {
            world.db().set_head("user_version", 1);
        }
    }
}

/// RULE-38, as root only: a small file system of its own, filled to the last byte.
#[test]
fn rule_38_stop_works_on_a_full_disk() {
    let world = parked();
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root mounts a tmpfs");
        return;
    }
    let state = world.path("state");
    let small = world.path("small");
    std::fs::create_dir(&small).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(&small).status();
    if !mounted.is_ok_and(|s| s.success()) {
        println!("skipped: no tmpfs can be mounted here");
        return;
    }
    let copied = Command::new("cp").arg("-a").arg(format!("{}/.", state.display())).arg(&small).status().unwrap();
    assert!(copied.success());
    std::fs::rename(&state, world.path("old-state")).unwrap();
    std::os::unix::fs::symlink(&small, &state).unwrap();
    drop(world.orch(&["tick"]));
    let ballast = small.join("ballast").exists();
    let full =
        Command::new("dd").arg("if=/dev/zero").arg(format!("of={}/filler", small.display())).arg("bs=4k").output();
    let out = world.orch(&["stop", "AA-1"]);
    let stage = world.task("AA-1").stage;
    let unmounted = Command::new("umount").arg("-l").arg(&small).status();
    assert!(full.is_ok() && unmounted.is_ok());
    assert!(ballast, "tick made no ballast");
    assert_eq!(stage, "cancelled", "{}", said(&out));
}

/// The database is migrated under a supervisor whose agent works. The supervisor continues and writes the exit to its
/// file; the program that migrated picks it up there, and the agent does not run again.
#[test]
fn rule_36_a_supervisor_of_an_older_program_only_supervises_and_writes_the_exit() {
    let world = World::new(Plan {
        nap: "0.01",
        extra: "if [ ! -e \"$world/waits\" ]; then : > \"$world/waits\"; n=0; while [ ! -e \"$world/go\" ] && [ $n -lt 1200 ]; do sleep 0.05; n=$((n+1)); done; fi\n".to_owned(),
        ..Plan::default()
    });
    world.new_item("AA", "one thing");
    world.step(&["tick"]);
    let wait = |what: &str, there: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !there() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}\n{}", world.story());
            std::thread::park_timeout(Duration::from_millis(10));
        }
    };
    wait("the agent", &|| world.path("waits").exists());
    let version = |n: i64| world.db().set_head("user_version", n);
    let ours = version(4711);
    std::fs::write(world.path("go"), "").unwrap();
    wait("the supervisor's end", &|| world.orch_processes().is_empty());
    let exit: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.path("state/runs/1/exit.json")).unwrap()).unwrap();
    assert_eq!((exit["run"].as_i64(), exit["exit"].as_i64()), (Some(1), Some(0)), "{exit}");
    assert_eq!(world.table("runs").with("state", "live").len(), 1, "nothing of it is in the database");
    for step in ["tick", "reap", "stop AA-1"] {
        let out = world.orch(&step.split(' ').collect::<Vec<_>>());
        assert_eq!(out.status.code(), Some(3), "{step}: {}", said(&out));
    }
    version(ours);
    world.play_until("approval", Duration::from_secs(60), |w| w.task("AA-1").waiting.is_some());
    let starts = world.lines("agents.log").iter().filter(|l| l.starts_with("start")).count();
    assert_eq!(starts, 1, "what it did is not done again");
}
