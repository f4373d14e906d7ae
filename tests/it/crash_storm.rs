//! A storm of SIGKILLs over every `orch` process while tasks go from the board to a deploy (TRUST-1, TRUST-2). The seed
//! fixes the draws, not how processes interleave: a failing seed is tried several times.
//!
//! `ORCH_STORM_SEED`, `ORCH_STORM_S` (seconds of storm), `ORCH_STORM_REST_S` (how long the rest may take),
//! `ORCH_STORM_BARE=1` (the deploy command writes no result of its own): see `scripts/storm`.

use crate::support::crash::{Dice, OWN_RESULT, Plan, World, kill};
use crate::support::rows::Row;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Whether nothing more has to happen: terminal, blocked, or held by the freeze that another task's unknown deploy
/// left, which a person lifts (SHIP-5).
fn settled(world: &World, wanted: usize) -> bool {
    let tasks = world.tasks();
    // A supervisor that vanished three times in one stage blocks (RULE-48), and so does a git that was killed as often
    // while it pushed a finished run (RULE-45); in a storm a person retries it.
    let killed = |why: &String| why.contains("vanished") || why.contains("which orch did not send");
    for task in tasks.iter().filter(|t| t.blocked.as_ref().is_some_and(killed)) {
        println!("storm: a person retries {}: {}", task.key, task.blocked.as_deref().unwrap_or_default());
        drop(world.orch(&["retry", &task.key]));
    }
    let ended = |why: &String| !killed(why);
    tasks.len() == wanted
        && world.table("runs").without("state", "settled").is_empty()
        && tasks.iter().all(|t| {
            t.blocked.as_ref().is_some_and(ended) || t.stage == "done" || t.stage == "cancelled" || is_frozen(world, t)
        })
}

fn is_frozen(world: &World, task: &Row) -> bool {
    let repo = task.key[..2].to_lowercase();
    let unknown = world.tasks().iter().any(|t| {
        t.key != task.key
            && t.key[..2] == task.key[..2]
            && t.blocked.as_ref().is_some_and(|why| why.contains("unknown"))
    });
    // Its own block is lifted first, and then it does what it still can.
    task.blocked.is_none()
        && unknown
        && (task.stage == "created" || task.stage == "deploy-staging")
        && world.table("jobs").with("status", "running").with("task_id", task.id).is_empty()
        && world.table("freezes").with("repo", repo).len() == 1
}

#[test]
fn storm_of_kills_over_four_tasks_in_two_repositories() {
    let seed = setting("ORCH_STORM_SEED", 7);
    let storm = Duration::from_secs(setting("ORCH_STORM_S", 12));
    let bare = setting("ORCH_STORM_BARE", 0) == 1;
    let world = World::new(Plan {
        projects: vec!["AA", "BB"],
        rounds: 2,
        nap: "0.2",
        deploy: if bare { "sleep 0.1\n".into() } else { OWN_RESULT.into() },
        config: "serial_gate: {repos: aa}\n".into(),
        ..Plan::default()
    });
    for project in ["AA", "BB"] {
        world.new_item(project, "one thing");
        world.new_item(project, "another thing");
    }
    let over = AtomicBool::new(false);
    let killed = AtomicUsize::new(0);
    let steps = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for n in 0..3_u64 {
            let (world, over, steps) = (&world, &over, &steps);
            scope.spawn(move || {
                let mut dice = Dice::new(seed ^ (n << 32));
                while !over.load(Ordering::Relaxed) {
                    let step = ["tick", "reap", "reconcile", "advance"][usize::try_from(dice.below(4)).unwrap()];
                    drop(world.orch(&[step]));
                    steps.fetch_add(1, Ordering::Relaxed);
                    std::thread::park_timeout(Duration::from_millis(dice.below(200)));
                }
            });
        }
        let (person, over_too) = (&world, &over);
        scope.spawn(move || {
            while !over_too.load(Ordering::Relaxed) {
                person.release_all();
                std::thread::park_timeout(Duration::from_millis(200));
            }
        });
        let mut dice = Dice::new(seed);
        let begun = Instant::now();
        while begun.elapsed() < storm && !settled(&world, 4) {
            std::thread::park_timeout(Duration::from_millis(20 + dice.below(500)));
            let targets = world.orch_processes();
            let all = dice.below(8) == 0;
            for pid in targets.iter().skip(usize::try_from(dice.below(1.max(targets.len() as u64))).unwrap()) {
                kill(*pid);
                killed.fetch_add(1, Ordering::Relaxed);
                if !all {
                    break;
                }
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    println!("storm: seed {seed}, {} kills, {} steps", killed.load(Ordering::Relaxed), steps.load(Ordering::Relaxed));
    let begun = Instant::now();
    let rest = Duration::from_secs(setting("ORCH_STORM_REST_S", 120));
    world.play_until("the end of every task", rest, |w| settled(w, 4));
    println!("storm: seed {seed}, {} s until all had ended", begun.elapsed().as_secs());
    assert!(killed.load(Ordering::Relaxed) > 0, "nothing was killed, so that nothing was shown");
    assert_eq!(world.lines("violations.log"), Vec::<String>::new(), "two live agents of one task\n{}", world.story());
    let deploys = world.deploys();
    for task in world.tasks() {
        let ran = deploys.get(&task.key).copied().unwrap_or(0);
        // Killed between taking the right and the command's start, or without the command's own result: unknown, and
        // never repeated automatically (SHIP-5).
        let unknown = task.blocked.as_ref().is_some_and(|why| why.contains("unknown"));
        if unknown {
            println!("storm: {} ended blocked: its deploy's result is unknown (ran {ran} times)", task.key);
            assert!(ran <= 1, "{task:?} deployed {ran} times\n{}", world.story());
            let repo = task.key[..2].to_lowercase();
            assert_eq!(world.table("freezes").with("repo", repo).len(), 1);
        } else if is_frozen(&world, &task) {
            println!("storm: {} waits in {} for its repository's freeze to be lifted", task.key, task.stage);
            assert_eq!((ran, world.merges(&task.key[..2]).get(&task.key)), (0, None), "{}", world.story());
            continue;
        } else {
            assert_eq!((task.stage.as_str(), ran), ("done", 1), "{}\n{}", task.key, world.story());
        }
        assert_eq!(world.merges(&task.key[..2]).get(&task.key), Some(&1), "{}", world.story());
    }
    assert_eq!(world.table("jobs").with("status", "running").len(), 0);
    assert_eq!(world.table("runs").without("state", "settled").len(), 0, "{}", world.story());
    assert_eq!(world.table("leases").set("task_id").len(), 0, "{}", world.story());
    world.chain_holds();
}
