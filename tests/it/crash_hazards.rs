//! The measured hazards of a queue made of processes, each on the whole program: a step killed between claim and start,
//! a supervisor that comes too late, a reused pid, zombies, a thousand runs before a dead one, a database that is
//! locked or read-only, a full disk.

use crate::support::crash::{Plan, World, kill, said};
use serde_json::Value;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_secs(60);

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < BOUND, "{what} did not come");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A world whose first agent waits for a signal file, once.
fn waiting() -> World {
    let world = World::new(Plan {
        nap: "0.01",
        extra: "if [ ! -e \"$world/waits\" ]; then : > \"$world/waits\"; n=0; while [ ! -e \"$world/go\" ] && [ $n -lt 2400 ]; do sleep 0.05; n=$((n+1)); done; fi\n".to_owned(),
        ..Plan::default()
    });
    world.new_item("AA", "one thing");
    drop(world.orch(&["tick"]));
    wait("the agent", || world.path("waits").exists());
    world
}

fn approval(world: &World) {
    world.play_until("approval", BOUND, |w| w.task("AA-1").waiting.as_deref() == Some("approval"));
    assert_eq!(world.lines("violations.log"), Vec::<String>::new());
    world.chain_holds();
}

fn reaped(world: &World, tier: &str) -> usize {
    world.table("audit").with("event", "job_reaped").like("detail", format!("\"tier\":\"{tier}\"")).len()
}

fn starts(world: &World) -> usize {
    world.lines("agents.log").iter().filter(|l| l.starts_with("start")).count()
}

/// `(start ticks, state)` of a process.
fn stat(pid: u32) -> Option<(String, String)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    Some(((*fields.get(19)?).to_owned(), (*fields.first()?).to_owned()))
}

/// Records another process as the run's supervisor.
fn identify(world: &World, pid: u32, ticks: Option<&str>) {
    let live = world.table("runs").with("state", "live");
    assert_eq!(live.len(), 1);
    live.put("supervisor/pid", pid);
    live.put("finalizer", Value::Null);
    if let Some(ticks) = ticks {
        live.put("supervisor/start_ticks", ticks.parse::<i64>().unwrap());
    }
}

/// Of this test, and of nothing else.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        Self(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Kills the supervisor alone; its agent lives on.
fn orphan(world: &World) {
    let supervisors = world.orch_processes();
    assert_eq!(supervisors.len(), 1, "{}", world.story());
    kill(supervisors[0]);
    wait("the supervisor's death", || world.orch_processes().is_empty());
}

fn reap_until_dead(world: &World) {
    wait("the reaping", || {
        drop(world.orch(&["reap"]));
        reaped(world, "dead") == 1
    });
}

#[test]
fn run_4_a_pid_that_was_used_again_is_a_death_and_its_new_owner_is_left_alone() {
    let world = waiting();
    orphan(&world);
    let mut other = Bystander::new();
    identify(&world, other.0.id(), None);
    reap_until_dead(&world);
    approval(&world);
    assert!(other.lives(), "a process that only has the pid was ended");
}

#[test]
fn rule_19_a_supervisor_that_is_a_zombie_nobody_waits_for_is_dead() {
    let world = waiting();
    orphan(&world);
    let mut zombie = Command::new("true").spawn().unwrap();
    let pid = zombie.id();
    wait("the zombie", || stat(pid).is_some_and(|s| s.1 == "Z"));
    identify(&world, pid, Some(&stat(pid).unwrap().0));
    reap_until_dead(&world);
    approval(&world);
    assert_eq!(stat(pid).map(|s| s.1).as_deref(), Some("Z"));
    zombie.wait().unwrap();
}

#[test]
fn rule_20_a_death_that_lock_and_identity_prove_is_settled_at_the_first_check() {
    let mut world = waiting();
    world.env.push(("ORCH_REAPER_INTERVAL_S".to_owned(), "100".to_owned()));
    orphan(&world);
    let counts_after = |step: &str| {
        drop(world.orch(&[step]));
        (world.table("runs").with("id", 1).one("dead_seen"), reaped(&world, "dead"))
    };
    // The identity is gone, and somebody has the lock.
    let lock = std::fs::File::open(world.path("state/runs/1/lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert_eq!(counts_after("reap"), ("0".to_owned(), 0), "its lock is held");
    drop(lock);
    // The lock is free, and the identity is alive.
    let other = Bystander::new();
    identify(&world, other.0.id(), Some(&stat(other.0.id()).unwrap().0));
    assert_eq!(counts_after("tick"), ("0".to_owned(), 0), "it lives");
    drop(other);
    assert_eq!(counts_after("tick").1, 1, "{}", world.story());
    approval(&world);
}

#[test]
fn run_8_a_thousand_runs_that_live_do_not_hide_a_dead_one() {
    let world = waiting();
    orphan(&world);
    let mut other = Bystander::new();
    let ticks = stat(other.0.id()).unwrap().0;
    let living = format!("json_set(supervisor, '$.pid', {}, '$.start_ticks', {ticks})", other.0.id());
    let db = world.db();
    // They come first: the dead run becomes the last of all.
    world.table("runs").put("id", 5000);
    let (id, key, token) = (("id", "n + 100"), "'AA-' || (n + 100)", ("token", "'t' || n"));
    db.copies("tasks", 1, 999, &[id, ("key", key), ("natural_key", key), ("item_id", key), ("branch", "NULL")]);
    db.copies("jobs", 1, 999, &[id, ("task_id", id.1), token]);
    let actor = [("supervisor", living.as_str()), ("finalizer", "NULL")];
    db.copies("runs", 5000, 999, &[id, ("job_id", id.1), ("task_id", id.1), token, actor[0], actor[1]]);
    assert_eq!(world.table("runs").with("state", "live").len(), 1000);
    let begun = Instant::now();
    let mut checks: u32 = 0;
    wait("the reaping", || {
        drop(world.orch(&["reap"]));
        checks += 1;
        reaped(&world, "dead") == 1
    });
    let each = begun.elapsed() / checks;
    println!("{checks} looks at 1000 runs, {} ms each", each.as_millis());
    assert!(each < Duration::from_secs(10), "a look took {each:?}");
    assert_eq!(world.table("runs").with("state", "live").without("id", 5000).len(), 999, "a living one was reaped");
    assert_eq!(world.table("audit").with("event", "job_reaped").like("detail", "5000").len(), 1);
    assert!(other.lives());
}

#[test]
fn trust_2_a_database_that_stays_locked_is_reported_by_name_and_nothing_is_lost() {
    let world = waiting();
    let locked = world.db().locked();
    // The agent ends while nobody can write.
    std::fs::write(world.path("go"), "").unwrap();
    std::thread::scope(|scope| {
        for step in [&["tick"][..], &["reap"], &["stop", "AA-1"]] {
            let world = &world;
            scope.spawn(move || {
                let begun = Instant::now();
                let out = world.orch(step);
                let printed = said(&out);
                // A step that has nothing to write may succeed.
                let ok = out.status.code() == Some(3) && printed.contains("orch.db") && printed.contains("locked");
                assert!(ok || (out.status.success() && step[0] != "stop"), "{step:?}: {} {printed}", out.status);
                assert!(begun.elapsed() < Duration::from_secs(100), "{step:?} took {:?}", begun.elapsed());
            });
        }
    });
    assert_eq!(world.table("audit").with("event", "stop_requested").len(), 0);
    drop(locked);
    approval(&world);
    assert!(starts(&world) <= 2, "{}", world.story());
}

/// Runs a step in its own mount namespace with a read-only state directory; `None` if that is not permitted.
fn read_only(world: &World, step: &[&str]) -> Option<std::process::Output> {
    let state = world.path("state").display().to_string();
    let own = world.command(step);
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" || exit 99; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, &state]).arg(own.get_program()).args(own.get_args());
    let out = command.current_dir(world.root()).stdin(Stdio::null()).output().ok()?;
    let permitted = out.status.code() != Some(99) && !said(&out).contains("unshare:");
    permitted.then_some(out)
}

#[test]
fn trust_2_a_read_only_state_directory_is_reported_and_left_unchanged() {
    let world = waiting();
    std::fs::write(world.path("go"), "").unwrap();
    approval(&world);
    // A step that has nothing to write may succeed; these have.
    for step in [&["advance", "AA-1", "--approve"][..], &["stop", "AA-1"], &["freeze", "aa", "--reason", "x"]] {
        let Some(out) = read_only(&world, step) else {
            eprintln!("SKIPPED: a mount namespace of its own is not permitted here");
            return;
        };
        let printed = said(&out);
        assert_eq!(out.status.code(), Some(3), "{step:?}: {printed}");
        assert!(
            printed.contains(&world.path("state").display().to_string()),
            "{step:?} does not name the place: {printed}"
        );
        assert!(printed.to_lowercase().contains("read"), "{step:?} does not say why: {printed}");
    }
    approval(&world);
    world.play_until("done", BOUND, |w| w.task("AA-1").stage == "done");
}

/// RULE-38: a small file system of its own, filled to the last byte while an agent works; then there is space again.
#[test]
fn rule_38_on_a_full_disk_each_step_ends_and_with_space_all_continues() {
    let mut world = World::new(Plan { nap: "0.01", ..Plan::default() });
    let state = world.path("state");
    std::fs::create_dir(&state).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(&state).status();
    if !mounted.is_ok_and(|s| s.success()) {
        eprintln!("SKIPPED: no tmpfs can be mounted here");
        return;
    }
    struct Mounted(std::path::PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
    let _mounted = Mounted(state.clone());
    world.env.push(("TMPDIR".to_owned(), world.root().display().to_string()));
    world.new_item("AA", "one thing");
    approval(&world);
    let filler = state.join("filler");
    let fill = || {
        let of = format!("of={}", filler.display());
        assert!(Command::new("dd").args(["if=/dev/zero", &of, "bs=4k"]).stderr(Stdio::null()).status().is_ok());
    };
    let before = world.task("AA-1");
    fill();
    for step in [
        &["tick"][..],
        &["reap"],
        &["reconcile"],
        &["advance", "AA-1", "--approve"],
        &["new", "another", "--project", "AA"],
        &["status"],
    ] {
        fill();
        let begun = Instant::now();
        let out = world.orch(step);
        let printed = said(&out);
        let code = out.status.code();
        assert!(matches!(code, Some(0 | 3)), "{step:?}: {code:?} {printed}");
        let why = ["space", "full", "min_free_mb"];
        assert!(code == Some(0) || why.iter().any(|w| printed.contains(w)), "{step:?} does not say why: {printed}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{step:?} took {:?}", begun.elapsed());
    }
    std::fs::remove_file(&filler).unwrap();
    assert_eq!(world.task("AA-1").id, before.id);
    world.play_until("done", BOUND, |w| w.task("AA-1").stage == "done");
    assert_eq!(world.deploys().get("AA-1"), Some(&1));
    assert_eq!(world.merges("AA").get("AA-1"), Some(&1));
    world.chain_holds();
}

#[cfg(feature = "failpoints")]
mod killed {
    use super::*;
    use rustix::process::{Pid, Signal, kill_process};

    /// The number of the first point of this name that a tick over one new item reaches.
    fn point(name: &str) -> String {
        let mut world = World::new(Plan { nap: "0.01", ..Plan::default() });
        world.new_item("AA", "one thing");
        let count = world.path("points");
        world.env.push(("ORCH_FAILPOINT_COUNT".to_owned(), count.display().to_string()));
        drop(world.orch(&["tick"]));
        let lines = world.lines("points");
        let line = lines.iter().find(|l| l.split(' ').nth(1) == Some(name) && l.ends_with(" tick")).unwrap();
        line.split(' ').next().unwrap().to_owned()
    }

    /// A world whose tick was killed right between its claim and the start of the supervisor.
    fn claimed() -> World {
        let mut world = World::new(Plan { nap: "0.01", ..Plan::default() });
        world.new_item("AA", "one thing");
        let count = world.path("points").display().to_string();
        world.env =
            vec![("ORCH_FAILPOINT_COUNT".to_owned(), count), ("ORCH_FAILPOINT_KILL".to_owned(), point("supervisor"))];
        let out = world.orch(&["tick"]);
        assert_eq!(out.status.code(), None, "it was to be killed: {}", said(&out));
        world.env.clear();
        assert_eq!(world.table("runs").with("state", "starting").len(), 1, "{}", world.story());
        assert_eq!(world.orch_processes(), Vec::<i32>::new());
        world
    }

    #[test]
    fn run_4_a_tick_killed_between_claim_and_start_costs_nothing() {
        let world = claimed();
        approval(&world);
        assert_eq!(starts(&world), 1, "{}", world.story());
        assert_eq!(reaped(&world, "unstarted"), 1);
        let jobs = world.table("jobs");
        assert!(jobs.clone().with("spent", 1).is_empty() && jobs.with("status", "failed").is_empty());
    }

    #[test]
    fn rule_19_a_supervisor_that_comes_after_its_claim_was_reaped_does_nothing() {
        let world = claimed();
        // It is paused before its first act.
        let own = world.command(&["run-job", "1"]);
        let mut late = Command::new("sh");
        late.args(["-c", "kill -STOP $$; exec \"$@\"", "late"]).arg(own.get_program()).args(own.get_args());
        let mut late = late.current_dir(world.root()).stdin(Stdio::null()).spawn().unwrap();
        wait("the stop", || stat(late.id()).is_some_and(|s| s.1 == "T"));
        wait("the reaping", || {
            drop(world.orch(&["reap"]));
            reaped(&world, "unstarted") == 1
        });
        let rows = |w: &World| {
            (
                w.table("audit").last("seq"),
                w.table("runs").len(),
                w.table("jobs").with("status", "queued").len(),
                starts(w),
            )
        };
        let before = rows(&world);
        kill_process(Pid::from_raw(i32::try_from(late.id()).unwrap()).unwrap(), Signal::CONT).unwrap();
        late.wait().unwrap();
        assert_eq!(rows(&world), before, "{}", world.story());
        approval(&world);
        assert_eq!(starts(&world), 1, "{}", world.story());
    }
}
