//! Verifies the result at the end: the repository, production, the record, the processes.

use super::Item;
use super::world::{PREFIX, World};
use crate::adapters::store::{Mode, Store, StoreError};
use crate::engine::{confine::noted, guard::stored_tail, paths::Paths};
use crate::model::artefact::{Artefact, folder};
use crate::model::confine::{Held, RunConfinement};
use crate::model::ids::Key;
use crate::model::stage::Stage;
use crate::model::task::Task;
use crate::model::watch::Watch;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;

/// One thing that must be true.
pub struct Check {
    pub name: &'static str,
    pub detail: String,
    pub fault: Option<String>,
}

type Probe = fn(&World, &[Item]) -> Result<String>;

/// Every check, whatever an earlier one found.
pub fn all(world: &World, items: &[Item]) -> Vec<Check> {
    let checks: [(&'static str, Probe); 9] = [
        ("every task is done", tasks_done),
        ("one commit per work item on main", commits),
        ("production runs what main has", production),
        ("every document is there", documents),
        ("sent back by the expected gates, in that order", sent_back),
        ("the leaked key is nowhere", no_secret),
        ("how agents were confined", held),
        ("the audit log is intact", record),
        ("nothing is left running", nothing_runs),
    ];
    let run_check = |(name, probe): (&'static str, Probe)| match probe(world, items) {
        Ok(detail) => Check { name, detail, fault: None },
        Err(e) => Check { name, detail: String::new(), fault: Some(format!("{e:#}")) },
    };
    checks.into_iter().filter(|(name, _)| world.gitleaks.is_some() || !name.contains("key")).map(run_check).collect()
}

fn tasks(world: &World) -> Result<Vec<Task>> {
    let mut store = Store::open(&world.database(), Mode::ReadOnly)?;
    Ok(store.read(|tx| tx.all_tasks())?)
}

fn task(world: &World, item: &Item) -> Result<Task> {
    tasks(world)?.into_iter().find(|t| t.key.as_str() == item.key).with_context(|| format!("{} has no task", item.key))
}

fn tasks_done(world: &World, items: &[Item]) -> Result<String> {
    for item in items {
        let t = task(world, item)?;
        let why = t.blocked_reason.clone().unwrap_or_default();
        ensure!(t.stage == Stage::Done, "{} is in {} {why}", t.key, t.stage);
        let board = std::fs::read_to_string(world.item(item.key)).context("reading the board")?;
        ensure!(board.contains("\nstatus: Done\n"), "the board does not show {} as Done", t.key);
    }
    let first = task(world, items.first().context("no item")?)?;
    if let Some(later) = items.iter().find(|i| i.further.contains(&first.key.as_str())) {
        let started = task(world, later)?.started_at;
        ensure!(started >= first.finished_at, "{} began before {} was done", later.key, first.key);
    }
    Ok(format!("{} of {}, on the board too", items.len(), items.len()))
}

fn commits(world: &World, items: &[Item]) -> Result<String> {
    let subjects = world.remote(&["log", "--format=%s", "--reverse", "main"])?;
    let subjects: Vec<&str> = subjects.lines().skip(1).collect();
    ensure!(subjects.len() == items.len(), "{} commits on main for {} work items", subjects.len(), items.len());
    for (subject, item) in subjects.iter().zip(items) {
        ensure!(subject.contains(item.key), "the commit {subject:?} is where {}'s should be", item.key);
    }
    Ok(format!("{PREFIX}-1 to {PREFIX}-{}, in that order", items.len()))
}

fn production(world: &World, items: &[Item]) -> Result<String> {
    let main = world.remote(&["rev-parse", "main"])?;
    let there =
        std::fs::read_to_string(world.dir.join("production/version")).context("reading production's revision")?;
    ensure!(there.trim() == main, "production runs {}, main is at {main}", there.trim());
    let program = std::fs::read_to_string(world.dir.join("production/tea")).context("reading production's program")?;
    ensure!(world.remote(&["show", "main:tea"])? == program.trim(), "production does not run the program on main");
    let last = task(world, items.last().context("no item")?)?;
    ensure!(last.landed_sha.as_ref().is_some_and(|s| s.as_str() == main), "{} landed elsewhere", last.key);
    let watch = last.watch.map_or("", Watch::as_str);
    ensure!(last.watch == Some(Watch::Healthy), "the watch over {} ended {watch}", last.key);
    Ok(format!("{}, probed over HTTP and healthy", main.get(..10).unwrap_or(&main)))
}

fn documents(world: &World, items: &[Item]) -> Result<String> {
    let mut count = 0;
    for item in items {
        let key = Key::parse(item.key)?;
        let files = world.remote(&["ls-tree", "-r", "--name-only", "main", &folder(&key)])?;
        let names: Vec<&str> = files.lines().filter_map(|f| f.strip_prefix(&format!("{}/", folder(&key)))).collect();
        for artefact in Artefact::ALL.iter().filter(|a| !a.schema().own) {
            ensure!(names.iter().any(|n| Artefact::of(n) == Some(*artefact)), "{key} has no {artefact} on main");
            count += 1;
        }
        let t = task(world, item)?;
        let own = world.state().join("evidence").join(t.id.to_string());
        for artefact in Artefact::ALL.iter().filter(|a| a.schema().own) {
            if *artefact == Artefact::SecurityReport && world.gitleaks.is_none() {
                continue;
            }
            ensure!(below(&own, artefact.as_str()), "{key} has no {artefact} in the state directory");
            count += 1;
        }
    }
    Ok(format!("{count} of {count}, on main and in the evidence"))
}

/// The first agent tried to reach what it must not, and reported what it could reach.
fn held(world: &World, items: &[Item]) -> Result<String> {
    let first = task(world, items.first().context("no item")?)?;
    let mut store = Store::open(&world.database(), Mode::ReadOnly)?;
    let (runs, confinements) = store.read(|tx| Ok::<_, StoreError>((tx.runs_of(first.id)?, noted(tx)?)))?;
    let run = runs.iter().find(|r| r.stage == Stage::Analysis).context("no agent analysed the first work item")?;
    let log = Paths::new(&world.state()).run(run.id).join("stderr.log");
    let said = std::fs::read_to_string(log).context("reading what the first agent said")?;
    let names = |begin: &str| -> Vec<String> {
        let paths = said.lines().filter_map(|l| l.strip_prefix(begin));
        paths.filter_map(|p| Some(Path::new(p).file_name()?.to_string_lossy().into_owned())).collect()
    };
    let engine = RunConfinement::find(&confinements, &first.project, run.agent).and_then(|s| s.held);
    let engine = engine.context("how agents are confined is unknown")?;
    let (reached, not) = (names("reached "), names("could not reach "));
    ensure!(!not.is_empty() || !reached.is_empty(), "the first agent did not say what it could reach");
    if engine == Held::Unconfined {
        return Ok(format!("unconfined: no engine works on this machine, and {} could be reached", reached.join(", ")));
    }
    ensure!(reached.is_empty(), "under {} an agent reached {}", engine.as_str(), reached.join(", "));
    Ok(format!("{}: could not reach {}", engine.as_str(), not.join(", ")))
}

/// Whether a direct subfolder has such a file.
fn below(dir: &Path, name: &str) -> bool {
    std::fs::read_dir(dir).into_iter().flatten().flatten().any(|e| e.path().join(name).is_file())
}

fn sent_back(world: &World, items: &[Item]) -> Result<String> {
    let mut store = Store::open(&world.database(), Mode::ReadOnly)?;
    let mut count = 0;
    for item in items {
        let t = task(world, item)?;
        let events = store.read(|tx| tx.timeline(t.id))?;
        let by: Vec<String> = events
            .iter()
            .filter(|e| e.event == "stage_rolled_back")
            .map(|e| {
                let detail: Value = serde_json::from_str(&e.detail).unwrap_or_default();
                detail["findings"][0]["source"].as_str().unwrap_or("nobody").to_owned()
            })
            .collect();
        ensure!(by == item.sent_back, "{} was sent back by {by:?}, expected {:?}", item.key, item.sent_back);
        count += by.len();
    }
    Ok(format!("{count} times"))
}

/// Searches what main reaches, and every log, card, prompt, report and row.
fn no_secret(world: &World, _items: &[Item]) -> Result<String> {
    let key = world.key.as_bytes();
    let ids = world.remote(&["rev-list", "--objects", "main"])?;
    let names: String = ids.lines().filter_map(|l| l.split_whitespace().next()).map(|id| format!("{id}\n")).collect();
    let git = world.git.cmd(&world.dir).git_dir(&world.dir.join("remote.git"));
    let objects = git.args(["cat-file", "--batch"]).stdin(names).ok().context("reading main's objects")?;
    ensure!(!holds(&objects, key), "main's history contains the key");
    let mut files = 0;
    let mut open = vec![world.state(), world.dir.join("production"), world.dir.join("board")];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                files += 1;
                // A file deleted meanwhile contains nothing.
                let bytes = std::fs::read(entry.path()).unwrap_or_default();
                ensure!(!holds(&bytes, key), "{} holds the key", entry.path().display());
            }
        }
    }
    Ok(format!("{} objects of main, {files} files of state, board and production", ids.lines().count()))
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|w| w == part)
}

fn record(world: &World, _items: &[Item]) -> Result<String> {
    let mut store = Store::open(&world.database(), Mode::ReadOnly)?;
    let events = store
        .audit_verify(&stored_tail(&Paths::new(&world.state())))?
        .map_err(|b| anyhow::anyhow!("event {}: {}", b.seq, b.why))?;
    let leases = store.read(|tx| tx.leases())?;
    ensure!(leases.iter().all(|l| l.task_id.is_none()), "a merge lease is still held");
    ensure!(store.read(|tx| tx.freezes())?.is_empty(), "the repository is frozen");
    let (waiting, parked) = store.read(|tx| tx.outbox_counts())?;
    ensure!(waiting + parked == 0, "{waiting} messages wait, {parked} could not be delivered");
    Ok(format!("{events} events in an unbroken chain, no lease held, every message delivered"))
}

fn nothing_runs(world: &World, _items: &[Item]) -> Result<String> {
    let mut store = Store::open(&world.database(), Mode::ReadOnly)?;
    let open = store.read(|tx| tx.open_runs())?;
    ensure!(open.is_empty(), "{} runs are not settled", open.len());
    let left = world.running();
    let pids: Vec<String> = left.iter().map(|a| a.pid.to_string()).collect();
    ensure!(left.is_empty(), "still there: pid {}", pids.join(", "));
    Ok("no process, no open run".to_owned())
}
