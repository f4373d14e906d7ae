//! Plays the person and the timers until every task has ended.

use super::show::{Mood, Show, Shown, line_of_event};
use super::world::World;
use super::{Item, Person};
use crate::adapters::store::{Mode, Store};
use crate::cli::signals::Signals;
use crate::model::board::{Intent, Logical};
use crate::model::ids::{Key, TaskId};
use crate::model::report::Rule;
use crate::model::stage::Stage;
use crate::model::task::{Task, Waiting};
use anyhow::{Context, Result, bail};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// The demo takes half a minute, or several on a busy machine; beyond this something is wrong.
const BOUND: Duration = Duration::from_secs(600);
/// How often `orch tick` is called; a real timer is slower.
const TICK: Duration = Duration::from_millis(250);
const OTHER_STEPS: Duration = Duration::from_secs(4);
const POLL: Duration = Duration::from_millis(50);

/// Writes the work items and runs them to the end.
pub fn play(world: &World, items: &[Item], show: &mut Show<'_>) -> Result<()> {
    let signals = Signals::watch()?;
    for item in items {
        let body = world.dir.join("item.md");
        std::fs::write(&body, item.body).context("writing a work item's text")?;
        let body = body.to_string_lossy().into_owned();
        let mut args = vec!["new", item.title, "--body", &body];
        args.extend(item.further);
        let said = world.orch(&args)?;
        if said.code != 0 {
            bail!("orch new answered {}: {}", said.code, said.stderr.trim());
        }
        show.moved(item.key, Stage::Created, &Shown { text: format!("“{}”", item.title), mood: Mood::Plain });
    }
    let _ = std::fs::remove_file(world.dir.join("item.md"));
    let mut game = Game::begin(world, items)?;
    let begun = Instant::now();
    while !game.round(show)? {
        if signals.wait_until(Instant::now() + POLL) {
            let _ = world.orch(&["halt", "--reason", "the demo was interrupted"]);
            bail!("interrupted; running work ends on its own");
        }
        if begun.elapsed() > BOUND {
            bail!("after {} s the tasks have not ended: {}", BOUND.as_secs(), game.open_tasks_text()?);
        }
    }
    game.round(show).map(drop)
}

struct Game<'w> {
    world: &'w World,
    items: &'w [Item],
    store: Store,
    /// The last event shown of each task.
    shown: HashMap<TaskId, i64>,
    /// Holds that were shown, each once.
    holds: HashSet<(String, Rule)>,
    /// What the person has approved.
    answered: HashSet<(String, Waiting, i64)>,
    ticked: Instant,
    others: Instant,
}

impl<'w> Game<'w> {
    fn begin(world: &'w World, items: &'w [Item]) -> Result<Self> {
        let said = world.orch(&["tick", "--json"])?;
        if said.code != 0 {
            bail!("orch tick answered {}: {} {}", said.code, said.stdout.trim(), said.stderr.trim());
        }
        let now = Instant::now();
        Ok(Self {
            world,
            items,
            store: Store::open(&world.database(), Mode::ReadOnly)?,
            shown: HashMap::new(),
            holds: HashSet::new(),
            answered: HashSet::new(),
            ticked: now,
            others: now,
        })
    }

    fn tasks(&mut self) -> Result<Vec<Task>> {
        Ok(self.store.read(|tx| tx.all_tasks())?)
    }

    /// Shows what is new and does what a person or a timer would do. Returns whether everything has ended.
    fn round(&mut self, show: &Show<'_>) -> Result<bool> {
        let tasks = self.tasks()?;
        let at_work: Vec<_> = self.store.read(|tx| tx.open_runs())?.into_iter().map(|r| r.task_id).collect();
        for task in &tasks {
            show.running(task.key.as_str(), at_work.contains(&task.id));
            self.narrate(task, show)?;
        }
        // Nothing in the demo should block: a blocked task would wait for ever, and so would its dependents.
        if let Some(t) = tasks.iter().find(|t| t.blocked_reason.is_some()) {
            bail!("{} is blocked: {}", t.key, t.blocked_reason.as_deref().unwrap_or_default());
        }
        let over = |t: &Task| t.stage.is_terminal() && !t.is_watched();
        if tasks.len() == self.items.len() && tasks.iter().all(over) {
            // Messages to the board are delivered, and the last supervisor has ended.
            let (undelivered, _) = self.store.read(|tx| tx.outbox_counts())?;
            let at_work = !self.store.read(|tx| tx.open_runs())?.is_empty() || !self.world.running().is_empty();
            if undelivered == 0 && !at_work {
                return Ok(true);
            }
        }
        for task in &tasks {
            self.be_the_person(task, show)?;
        }
        if self.ticked.elapsed() >= TICK {
            self.tick(show)?;
            self.ticked = Instant::now();
        }
        if self.others.elapsed() >= OTHER_STEPS {
            for step in ["reap", "reconcile"] {
                let said = self.world.orch(&[step, "--json"])?;
                if said.code != 0 {
                    bail!("orch {step} answered {}: {} {}", said.code, said.stdout.trim(), said.stderr.trim());
                }
            }
            self.others = Instant::now();
        }
        Ok(false)
    }

    fn narrate(&mut self, task: &Task, show: &Show<'_>) -> Result<()> {
        let from = self.shown.get(&task.id).copied().unwrap_or(0);
        let events = self.store.read(|tx| tx.timeline(task.id))?;
        for event in events.into_iter().filter(|e| e.seq > from) {
            if let Some((stage, shown)) = line_of_event(&event) {
                show.moved(task.key.as_str(), stage.unwrap_or(task.stage), &shown);
            }
            self.shown.insert(task.id, event.seq);
        }
        Ok(())
    }

    /// Runs one tick and shows why each waiting task waits.
    fn tick(&mut self, show: &Show<'_>) -> Result<()> {
        let said = self.world.orch(&["tick", "--json"])?;
        let report: serde_json::Value = serde_json::from_str(said.stdout.trim()).unwrap_or_default();
        if said.code != 0 {
            bail!("orch tick answered {}: {} {}", said.code, report["errors"], said.stderr.trim());
        }
        for held in report["skipped"].as_array().into_iter().flatten() {
            let (Some(key), Some(rule)) = (held["task"].as_str(), held["rule"].as_str().and_then(Rule::parse)) else {
                continue;
            };
            let worth = matches!(rule, Rule::SerialGate | Rule::Dependencies);
            // A hold from a moment ago may already be gone.
            let begun = self.tasks()?.iter().any(|t| t.key.as_str() == key && t.stage != Stage::Created);
            if worth && !begun && self.holds.insert((key.to_owned(), rule)) {
                let text = format!("waits: {}", held["why"].as_str().unwrap_or_default());
                show.moved(key, Stage::Created, &Shown { text, mood: Mood::Plain });
            }
        }
        Ok(())
    }

    /// Approves a task that waits for a person: by command, or on the board once the board asks.
    fn be_the_person(&mut self, task: &Task, show: &Show<'_>) -> Result<()> {
        let Some(waiting) = task.waiting_for else { return Ok(()) };
        let how = self.items.iter().find(|i| i.key == task.key.as_str()).map_or(Person::Commands, |i| i.person);
        let key = task.key.as_str();
        let answer = (key.to_owned(), waiting, task.epoch);
        if how == Person::Labels || self.answered.contains(&answer) {
            return Ok(());
        }
        let (flag, intent, asked) = match waiting {
            Waiting::Approval => ("--approve", Intent::Approved, Logical::AwaitingApproval),
            Waiting::ConfirmDeploy => ("--confirm-deploy", Intent::ConfirmDeploy, Logical::AwaitingDeploy),
        };
        if how == Person::Board {
            if !set_status(self.world, &task.key, asked.default_name(), intent.logical().default_name())? {
                return Ok(());
            }
            let text = format!("a person sets “{}” on the board", intent.logical().default_name());
            show.moved(key, task.stage, &Shown { text, mood: Mood::Person });
            self.answered.insert(answer);
            return Ok(());
        }
        let said = self.world.orch(&["advance", key, flag, "--json"])?;
        match said.code {
            0 => {
                let text = format!("a person confirms: orch advance {key} {flag}");
                show.moved(key, task.stage, &Shown { text, mood: Mood::Person });
                self.answered.insert(answer);
                Ok(())
            }
            // Its last job is still being settled: retry in the next round.
            4 => Ok(()),
            code => bail!("orch advance {key} {flag} answered {code}: {} {}", said.stdout.trim(), said.stderr.trim()),
        }
    }

    fn open_tasks_text(&mut self) -> Result<String> {
        let tasks = self.tasks()?;
        Ok(tasks.iter().map(|t| format!("{} in {}", t.key, t.stage)).collect::<Vec<_>>().join(", "))
    }
}

/// Sets a status in a work item's file like an editor, if it has the status that asks. Returns whether it did.
fn set_status(world: &World, key: &Key, asked: &str, to: &str) -> Result<bool> {
    let path = world.item(key.as_str());
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let line = |name: &str| format!("\nstatus: {name}\n");
    if !text.contains(&line(asked)) {
        return Ok(false);
    }
    let new = path.with_extension("md.edited");
    std::fs::write(&new, text.replacen(&line(asked), &line(to), 1)).context("editing a work item")?;
    std::fs::rename(&new, &path).context("saving a work item")?;
    Ok(true)
}
