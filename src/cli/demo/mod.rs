//! `orch demo`: the whole pipeline with an embedded project. It sets up a world, plays the person and the timers in it
//! by calling this program as separate processes, shows what happens, and verifies the result at the end. Nothing else
//! in the program knows the demo.

mod play;
pub mod shop;
mod show;
mod verify;
mod world;

use super::Invocation;
use super::exit::{CmdResult, Exit, Failure};
use crate::decide::advice::quoted;
use serde_json::json;
use show::Show;
use std::path::Path;
use std::time::Instant;
use world::World;

/// One work item of the demo.
pub struct Item {
    pub key: &'static str,
    pub title: &'static str,
    body: &'static str,
    /// `--blocked-by`, `--label`: further arguments of `orch new`.
    further: &'static [&'static str],
    pub person: Person,
    /// Who sends it back, in this order.
    pub sent_back: &'static [&'static str],
}

/// How a person approves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Person {
    /// `orch advance TASK --approve`, `--confirm-deploy`.
    Commands,
    /// By setting the status on the board.
    Board,
    /// By labels, in advance.
    Labels,
}

const STORY: [Item; 4] = [
    Item {
        key: "TEA-1",
        title: "Brew green tea",
        body: "`tea green` should show temperature and time. Boiling water makes it bitter.",
        further: &["--priority", "high"],
        person: Person::Commands,
        sent_back: &[],
    },
    Item {
        key: "TEA-2",
        title: "List what is in the cupboard",
        body: "`tea list`: every kind of tea, one per line.",
        further: &[],
        person: Person::Board,
        sent_back: &["ci", "review"],
    },
    Item {
        key: "TEA-3",
        title: "Brew a second cup",
        body: "`tea again`: green leaves are good for two cups; the second is shorter and hotter.",
        further: &["--blocked-by", "TEA-1", "--label", "autoApprove", "--label", "autoDeploy"],
        person: Person::Labels,
        sent_back: &[],
    },
    Item {
        key: "TEA-4",
        title: "Order more tea",
        body: "`tea order`: one tin of green tea from the shop. The shop wants a key.",
        further: &[],
        person: Person::Commands,
        sent_back: &["security"],
    },
];

/// The work items of the demo; the last one needs the secret scanner.
fn story(world: &World) -> &'static [Item] {
    if world.gitleaks.is_some() { &STORY } else { STORY.split_last().map_or(&[], |(_, rest)| rest) }
}

/// Runs the demo. Done: every task ended where it should. Negative: something went differently.
pub fn run(call: &Invocation, dir: Option<&Path>, keep: bool) -> CmdResult {
    let start = Instant::now();
    let mut show = Show::new(&call.out);
    let world = World::make(dir, keep)?;
    let items = story(&world);
    opening(&show, &world, items);
    for item in items {
        show.task(item.key, item.title);
    }
    let played = play::play(&world, items, &mut show);
    show.end();
    played.map_err(|e| {
        Failure::from(e)
            .hint(format!("everything is still in {}; state/ holds the logs of each run", world.dir.display()))
    })?;
    show.heading("Is it true?");
    let checks = verify::all(&world, items);
    for check in &checks {
        show.check(check.fault.is_none(), check.name, check.fault.as_deref().unwrap_or(&check.detail));
    }
    let good = checks.iter().all(|c| c.fault.is_none());
    closing(&show, &world, items, good, start);
    if call.out.is_json() {
        let checks: Vec<_> = checks
            .iter()
            .map(|c| json!({"name": c.name, "ok": c.fault.is_none(), "detail": c.fault.as_ref().unwrap_or(&c.detail)}))
            .collect();
        let left_out: Vec<&str> = STORY.iter().skip(items.len()).map(|i| i.key).collect();
        let tasks: Vec<&str> = items.iter().map(|i| i.key).collect();
        call.out.document(&json!({
            "ok": good, "dir": world.dir, "config": world.config(), "tasks": tasks, "left_out": left_out,
            "checks": checks, "duration_ms": u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        }));
    }
    Ok(if good { Exit::Done } else { Exit::Negative })
}

fn opening(show: &Show<'_>, world: &World, items: &[Item]) {
    let number = if items.len() == STORY.len() { "Four" } else { "Three" };
    show.heading(&format!("{number} work items, one repository, and nobody at the keyboard"));
    show.say(format!("  a small program of a tea shop, its tests, a board, production: {}", world.dir.display()));
    show.say("  the agent is a shell script; every step is a separate process, as a timer would start it");
    show.say("  ☺ marks what a person does; here the demo does it for you");
    if world.gitleaks.is_none() {
        show.say("  left out: the scene with the leaked key; gitleaks is not on PATH (scripts/demo fetches it)");
    }
    show.say("");
}

fn closing(show: &Show<'_>, world: &World, items: &[Item], good: bool, start: Instant) {
    let shown = |args: &[&str]| {
        let said = world.orch(args).ok().filter(|s| s.code == 0).map(|s| s.stdout).unwrap_or_default();
        let said = said.trim_end().to_owned();
        if !said.is_empty() {
            show.heading(&format!("$ orch {}", args.join(" ")));
            show.say(said);
        }
    };
    shown(&["status"]);
    shown(&["explain", "TEA-2"]);
    let last = items.last().map_or("TEA-1", |i| i.key);
    let card = std::fs::read_to_string(world.state().join("cards").join(format!("{last}.txt"))).unwrap_or_default();
    if !card.is_empty() {
        show.heading(&format!("The card of {last}, as a phone would show it"));
        show.say(card.trim_end());
    }
    show.say("");
    show.say("In a browser, page/index.html has the board, each story and the documents.");
    let seconds = start.elapsed().as_secs_f64();
    show.heading(&if good {
        format!("All of it in {seconds:.0} seconds, and nothing is left running. Look around:")
    } else {
        format!("The demo did not go as expected ({seconds:.0} seconds). Look around:")
    });
    let orch = quoted(&world.shown());
    let ways = [
        (format!("{orch} --config orch.yaml timeline TEA-2"), "every step of the one that was sent back twice"),
        ("git --git-dir remote.git log --oneline".to_owned(), "what landed on main"),
        ("less orch.yaml agent.sh board/TEA-4.md".to_owned(), "the whole setup"),
    ];
    let width = ways.iter().map(|(way, _)| way.chars().count()).max().unwrap_or(0);
    show.say(format!("  cd {}", quoted(&world.dir.to_string_lossy())));
    for (way, what) in ways {
        show.say(format!("  {way:width$}   # {what}"));
    }
}
