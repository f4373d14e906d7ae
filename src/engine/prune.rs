//! `prune` (CLI-4) and the pruning of each `tick` (ORD-6): deletes what nobody needs any more once its task ended long
//! enough ago. The rows stay.

use super::{Ctx, bound};
use crate::adapters::git::files::{remove, remove_until};
use crate::adapters::locks;
use crate::adapters::store::StoreError;
use crate::decide::prune as decide;
use crate::model::ids::{Key, RunId, TaskId};
use crate::model::stage::words;
use crate::model::task::Task;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A tick's limits for pruning: this time and this many folders.
const LONGEST: Duration = Duration::from_millis(200);
const MOST: usize = 50;
/// The key of the ticks' progress through a pass.
const STATE: &str = "prune/pass";

/// One folder deleted (or to be deleted).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// `run`, `worktree`, `agent_home`, `archive`, `cache`; `program`: of nodes.
    pub kind: &'static str,
    pub task: Option<String>,
    pub path: PathBuf,
}

words! {
    /// The parts to scan, in this order.
    Part {
        /// Folders of runs.
        Runs = "runs",
        /// Transcripts of agents' sessions.
        Homes = "homes",
        /// Checkouts, homes and caches of a task.
        Checkouts = "checkouts",
        /// Documents of cancelled tasks.
        Archives = "archives",
    }
}

impl Part {
    fn kind(self) -> &'static str {
        match self {
            Self::Runs => "run",
            Self::Homes => "agent_home",
            Self::Checkouts => "worktree",
            Self::Archives => "archive",
        }
    }
}

/// What belongs to tasks that ended before these times is deleted; in wall milliseconds.
#[derive(Debug, Clone, Copy)]
struct Ages {
    checkouts: i64,
    rest: i64,
}

impl Ages {
    fn of(self, part: Part) -> i64 {
        if part == Part::Checkouts { self.checkouts } else { self.rest }
    }
}

/// Deletes what belongs to tasks that ended before `before` (wall milliseconds). A fault at one folder is recorded; the
/// rest continues.
pub fn run(ctx: &mut Ctx, before: i64) -> Result<Vec<Pruned>> {
    let ages = Ages { checkouts: before, rest: before };
    let mut gone = Vec::new();
    for part in Part::ALL {
        for (name, path) in entries(ctx, *part)? {
            if ctx.interrupted() {
                return Ok(gone);
            }
            let Some(task) = over(ctx, *part, &name, &path, ages)? else { continue };
            let p = Pruned { kind: part.kind(), task: Some(task.key.to_string()), path };
            if !ctx.dry
                && let Err(e) = remove(&p.path).with_context(|| format!("removing {}", p.path.display()))
            {
                ctx.report.fault(p.task.as_deref(), format!("{e:#}"), None);
                continue;
            }
            gone.push(p);
        }
    }
    gone.extend(caches(ctx));
    let programs = super::cluster::prune(ctx).into_iter();
    gone.extend(programs.map(|path| Pruned { kind: "program", task: None, path }));
    Ok(gone)
}

/// Deletes expired base caches (BND-3).
fn caches(ctx: &mut Ctx) -> Vec<Pruned> {
    let old = super::cache::stale(&ctx.paths, &ctx.config.projects, ctx.now().stamp.wall_ms);
    let mut gone = Vec::new();
    for path in old {
        if !ctx.dry
            && let Err(e) = remove(&path).with_context(|| format!("deleting {}", path.display()))
        {
            ctx.report.fault(None, format!("{e:#}"), None);
            continue;
        }
        gone.push(Pruned { kind: "cache", task: None, path });
    }
    gone
}

/// The pass of the ticks: when the last one ended, and what was checked last.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Pass {
    /// When the last whole pass ended.
    ended_at: i64,
    /// The part in progress; none between two passes.
    part: Option<String>,
    /// The last name checked in it.
    after: Option<String>,
}

/// One tick's share of pruning: nothing until `prune.every_s` has passed, then at most `MOST` folders or `LONGEST`. The
/// next tick resumes where this one ended.
pub fn auto(ctx: &mut Ctx) -> Result<()> {
    auto_within(ctx, LONGEST)
}

/// The same in at most `longest`, since speed depends on the machine.
pub fn auto_within(ctx: &mut Ctx, longest: Duration) -> Result<()> {
    let settings = ctx.config.prune.clone();
    if !settings.auto || ctx.dry {
        return Ok(());
    }
    let ms = |s: u64| i64::try_from(s).unwrap_or(i64::MAX / 2000).saturating_mul(1000);
    let now = ctx.now().stamp.wall_ms;
    let text = ctx.store.read(|tx| tx.meta(STATE))?;
    let mut pass: Pass = text.and_then(|t| serde_json::from_str(&t).ok()).unwrap_or_default();
    if pass.part.is_none() && !decide::is_due(pass.ended_at, ms(settings.every_s), now) {
        return Ok(());
    }
    let ages = Ages { checkouts: now - ms(settings.checkouts_after_s), rest: now - ms(settings.runs_after_s) };
    let done = share(ctx, &mut pass, ages, Instant::now() + longest);
    if matches!(done, Ok(true)) {
        pass = Pass { ended_at: now, ..Pass::default() };
    }
    ctx.store.write(|tx| tx.set_meta(STATE, &json!(pass).to_string()))?;
    done.map(drop)
}

/// Whether the pass is complete.
fn share(ctx: &mut Ctx, pass: &mut Pass, ages: Ages, until: Instant) -> Result<bool> {
    let mut deleted = 0;
    let first = pass.part.as_deref().and_then(Part::parse).unwrap_or(Part::Runs);
    for part in Part::ALL.iter().copied().skip_while(|p| *p != first) {
        let after = pass.after.take().filter(|_| part == first).map(order);
        for (name, path) in entries(ctx, part)? {
            if after.as_ref().is_some_and(|after| order(name.clone()) <= *after) {
                continue;
            }
            if deleted >= MOST || Instant::now() >= until || ctx.interrupted() {
                pass.part = Some(part.to_string());
                return Ok(false);
            }
            if over(ctx, part, &name, &path, ages)?.is_some() {
                match remove_until(&path, until) {
                    Ok(true) => deleted += 1,
                    // The next tick does the rest.
                    Ok(false) => {
                        pass.part = Some(part.to_string());
                        return Ok(false);
                    }
                    Err(e) => ctx.report.fault(None, format!("deleting {}: {e:#}", path.display()), None),
                }
            }
            pass.after = Some(name);
        }
        pass.after = None;
    }
    Ok(true)
}

/// The task of a folder, if it ended long enough ago and nothing in the folder is needed: no run of it is held, and no
/// row binds a file in it, since without the file the row would be a *no* (RULE-47).
fn over(ctx: &mut Ctx, part: Part, name: &str, path: &Path, ages: Ages) -> Result<Option<Task>> {
    let before = ages.of(part);
    let task = match part {
        Part::Runs => run_over(ctx, name, before)?,
        Part::Homes => match name.parse() {
            Ok(id) => known(ctx.store.read(|tx| tx.task(TaskId(id))))?,
            Err(_) => None,
        },
        Part::Checkouts | Part::Archives => match folder(name.rsplit('/').next().unwrap_or(name)) {
            Some((key, round)) => ctx.store.read(|tx| tx.task_of_round(&key, round))?,
            None => None,
        },
    };
    let Some(task) = task.filter(|t| decide::is_over(t, before)) else { return Ok(None) };
    let root = ctx.paths.root().to_owned();
    let kept = bound::files(&ctx.store.read(|tx| tx.evidence_of(task.id))?, &root);
    Ok((!kept.iter().any(|file| file.starts_with(path))).then_some(task))
}

fn run_over(ctx: &mut Ctx, name: &str, before: i64) -> Result<Option<Task>> {
    let Ok(id) = name.parse() else { return Ok(None) };
    let found = ctx.store.read(|tx| {
        let run = tx.run(RunId(id))?;
        Ok((tx.task(run.task_id)?, run))
    });
    let Some((task, run)) = known(found)? else { return Ok(None) };
    let locked = locks::is_held(&ctx.paths.run_lock(run.id)) == Some(true);
    Ok(Some(task).filter(|_| decide::is_run_over(&run, locked, before)))
}

/// A missing row is `None`, not an error.
fn known<T>(row: Result<T, StoreError>) -> Result<Option<T>> {
    match row {
        Ok(row) => Ok(Some(row)),
        Err(StoreError::Lost) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Key and round of a task's folder: `ORCH-17`, `ORCH-17-2`.
fn folder(name: &str) -> Option<(Key, u32)> {
    if let Ok(key) = Key::parse(name) {
        return Some((key, 1));
    }
    let (key, round) = name.rsplit_once('-')?;
    Some((Key::parse(key).ok()?, round.parse().ok().filter(|n| *n > 1)?))
}

/// The existing folders of a part, by name; those of checkouts prefixed with their repository.
fn entries(ctx: &Ctx, part: Part) -> Result<Vec<(String, PathBuf)>> {
    let root = ctx.paths.root();
    match part {
        Part::Runs => listed(&root.join("runs")),
        Part::Homes => listed(&root.join("homes")),
        Part::Archives => listed(&root.join("archive")),
        Part::Checkouts => {
            let mut found = Vec::new();
            for (repo, dir) in listed(ctx.paths.area())? {
                if dir.is_dir() {
                    found.extend(listed(&dir)?.into_iter().map(|(name, path)| (format!("{repo}/{name}"), path)));
                }
            }
            Ok(found)
        }
    }
}

/// Numbers in numeric order, then the rest by name.
fn order(name: String) -> (u64, String) {
    (name.parse().unwrap_or(u64::MAX), name)
}

fn listed(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let list = match std::fs::read_dir(dir) {
        Ok(list) => list,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("reading {}", dir.display())),
    };
    let mut found: Vec<(String, PathBuf)> =
        list.filter_map(|e| e.ok().map(|e| (e.file_name().to_string_lossy().into_owned(), e.path()))).collect();
    found.sort_by_cached_key(|(name, _)| order(name.clone()));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_names_its_task_and_nothing_else_is_one() {
        let key = |text: &str| Key::parse(text).unwrap();
        assert_eq!(folder("ORCH-17"), Some((key("ORCH-17"), 1)));
        assert_eq!(folder("ORCH-17-2"), Some((key("ORCH-17"), 2)));
        for other in ["base", "ORCH", "ORCH-17-1", "ORCH-17-x", "", "-", "lost+found"] {
            assert_eq!(folder(other), None, "{other}");
        }
        let mut names = vec!["10".to_owned(), "9".to_owned(), "b".to_owned(), "a".to_owned()];
        names.sort_by_key(|n| order(n.clone()));
        assert_eq!(names, ["9", "10", "a", "b"]);
    }
}
