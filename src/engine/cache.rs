//! What a new home of a run begins with (BND-3): the caches that it may have, and the operator's mirrors.
//!
//! A cache is given to a run of the same task and kind that begins on the same code tree as the one that wrote it; else the
//! run gets its base's cache (a repository's, or a part's), which base checks alone write. So what a branch plants in a cache reaches its own
//! task on that very tree, and nobody else.

use super::agent::Site;
use super::area::{AreaKind, Folders};
use super::left::Begin;
use super::paths::Paths;
use super::{Ctx, mirrors};
use crate::adapters::caches::{self, Bounds, Done};
use crate::adapters::git::files::remove;
use crate::adapters::store::{Result as StoreResult, Tx};
use crate::config::{Config, Project};
use crate::model::task::Task;
use crate::model::toolchain::CACHES;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// How long a base cache is used, in milliseconds.
const AGE_MS: i64 = 7 * 86_400_000;
/// In the base cache: when it began empty.
const BORN: &str = "born";
/// Beside a cache while it is made.
const NEW: &str = "new";

/// Where the caches of one run come from, and where they go to. Empty for an operator's command.
#[derive(Debug, Clone, Default)]
pub struct Caches {
    /// Of this task, kind and code tree.
    own: Option<PathBuf>,
    /// The base's, where it may be used.
    base: Option<PathBuf>,
    /// Where what the run leaves is kept, and for a base cache since when.
    to: Option<(PathBuf, Option<i64>)>,
    bounds: Option<Bounds>,
    /// The operator's mirrors are for runs of the second row.
    mirrors: bool,
}

fn dropped_key(repo: &str) -> String {
    format!("cache/dropped/{repo}")
}

/// From now on no base cache from before `at` is used: on freeze, on unfreeze, and when a person says so.
pub fn drop_base(tx: &Tx<'_>, repo: &str, at: i64) -> StoreResult<()> {
    tx.set_meta(&dropped_key(repo), &at.to_string())
}

/// Deletes a repository's base caches now, those of all its parts; whether there was one.
pub fn delete_base(ctx: &mut Ctx, repo: &str) -> Result<bool> {
    let at = ctx.now().stamp.wall_ms;
    ctx.store.write(|tx| drop_base(tx, repo, at))?;
    let mut any = false;
    for project in ctx.config.projects.iter().filter(|p| p.repo == repo) {
        let path = ctx.paths.base_cache(project.base_name());
        any |= path.symlink_metadata().is_ok();
        remove(&path).with_context(|| format!("deleting {}", path.display()))?;
    }
    Ok(any)
}

fn bounds(config: &Config, project: &Project) -> Option<Bounds> {
    let limits = config.confinement(project, None).limits;
    let bytes = limits.cache_copy_max_mb.saturating_mul(1 << 20);
    Some(Bounds { bytes, entries: limits.files }).filter(|b| b.bytes > 0)
}

/// When a base cache began, if it may still be used.
fn born(path: &Path, dropped: Option<i64>, now: i64) -> Option<i64> {
    let born: i64 = std::fs::read_to_string(path.join(BORN)).ok()?.trim().parse().ok()?;
    (dropped.is_none_or(|at| born > at) && (0..AGE_MS).contains(&(now - born))).then_some(born)
}

/// Base caches that are past their age, for `prune`.
pub fn stale(paths: &Paths, projects: &[Project], now: i64) -> Vec<PathBuf> {
    let all = projects.iter().map(|p| paths.base_cache(p.base_name()));
    all.filter(|path| path.symlink_metadata().is_ok() && born(path, None, now).is_none()).collect()
}

impl Caches {
    /// Of a task's run of one kind; `tree`: the code tree that it begins on, `None` where that is no commit's. Builds, which
    /// production is made of, and shells get the base cache alone and leave nothing.
    pub fn of_task(ctx: &mut Ctx, project: &Project, task: &Task, kind: AreaKind, tree: Option<&str>) -> Result<Self> {
        let Some(bounds) = bounds(&ctx.config, project) else { return Ok(Self { mirrors: true, ..Self::default() }) };
        let keeps = match kind {
            AreaKind::Agent | AreaKind::Ci | AreaKind::Staging => true,
            AreaKind::Build | AreaKind::Shell => false,
        };
        let own = tree.filter(|_| keeps).map(|tree| ctx.paths.task_cache(task, kind.as_str()).join(tree));
        let base = usable(ctx, project)?.map(|(path, _)| path);
        let to = own.clone().map(|path| (path, None));
        Ok(Self { own, base, to, bounds: Some(bounds), mirrors: true })
    }

    /// Of a base check, on a commit of the default branch: the only one that writes the base cache.
    pub fn of_base(ctx: &mut Ctx, project: &Project) -> Result<Self> {
        let Some(bounds) = bounds(&ctx.config, project) else { return Ok(Self { mirrors: true, ..Self::default() }) };
        let known = usable(ctx, project)?;
        let since = known.as_ref().map_or_else(|| ctx.now().stamp.wall_ms, |(_, born)| *born);
        let to = Some((ctx.paths.base_cache(project.base_name()), Some(since)));
        Ok(Self { own: None, base: known.map(|(path, _)| path), to, bounds: Some(bounds), mirrors: true })
    }

    /// Fills a home that was just made and in which nothing has run. Never fails: a run without a cache is a slow one.
    pub fn give(&self, folders: &Folders) {
        if self.mirrors {
            mirrors::write(&folders.home);
        }
        let Some(bounds) = self.bounds else { return };
        let given = match (&self.own, &self.base) {
            // What is its own is moved: its next run gets what this one makes of it.
            (Some(own), _) if own.is_dir() => caches::carry(own, CACHES, &folders.home, bounds),
            (_, Some(base)) => caches::copy(base, CACHES, &folders.home, bounds),
            (_, None) => return,
        };
        let why = match given {
            Ok(Done::Whole | Done::Nothing) => return,
            Ok(Done::TooLarge) => "it is larger than confine.cache_copy_max_mb".to_owned(),
            // A base check beside this one has just replaced it, for example.
            Err(e) => e.to_string(),
        };
        tracing::debug!("{} begins without a cache: {why}", folders.home.display());
        for part in CACHES {
            if let Err(e) = remove(&folders.home.join(part)) {
                tracing::warn!("a part of a cache is left: {e}");
            }
        }
    }

    /// Keeps what a run left of them, once none of its processes lives. Never fails.
    pub fn keep(&self, folders: &Folders) {
        let (Some((to, since)), Some(bounds)) = (&self.to, self.bounds) else { return };
        match keep(&folders.home, to, *since, bounds) {
            Ok(Done::Whole | Done::Nothing) => {}
            Ok(Done::TooLarge) => {
                tracing::debug!("{}: its caches are larger than confine.cache_copy_max_mb", folders.home.display());
            }
            Err(e) => tracing::debug!("the caches of {} are not kept: {e}", folders.home.display()),
        }
    }
}

/// Of an agent's run. A rework begins on the files of a merge, which are no commit's.
pub(super) fn of_agent(ctx: &mut Ctx, site: &Site, begin: &Begin) -> Result<Caches> {
    let task = &site.ground.task;
    let tree =
        task.head_tree.as_deref().filter(|_| !begin.is_rework() && task.head_sha.as_ref() == Some(&begin.parent));
    Caches::of_task(ctx, &site.project, task, AreaKind::Agent, tree)
}

fn keep(home: &Path, to: &Path, since: Option<i64>, bounds: Bounds) -> std::io::Result<Done> {
    let new = to.with_file_name(NEW);
    let cleared = remove(&new).map_err(std::io::Error::other);
    let done = cleared.and_then(|()| caches::carry(home, CACHES, &new, bounds));
    if !matches!(done, Ok(Done::Whole)) {
        drop(remove(&new));
        return done;
    }
    if let Some(since) = since {
        std::fs::write(new.join(BORN), since.to_string())?;
    }
    caches::replace(&new, to)?;
    Ok(Done::Whole)
}

fn usable(ctx: &mut Ctx, project: &Project) -> Result<Option<(PathBuf, i64)>> {
    let path = ctx.paths.base_cache(project.base_name());
    if !path.is_dir() {
        return Ok(None);
    }
    let dropped = ctx.store.read(|tx| tx.meta(&dropped_key(&project.repo)))?;
    let now = ctx.now().stamp.wall_ms;
    Ok(born(&path, dropped.and_then(|at| at.parse().ok()), now).map(|born| (path, born)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bnd_3_a_base_cache_is_used_for_seven_days_and_none_from_before_it_was_dropped() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(born(dir.path(), None, 5), None, "none is there");
        std::fs::write(dir.path().join(BORN), "1000").unwrap();
        for (dropped, now, used) in [
            (None, 1000, true),
            (None, 1000 + AGE_MS - 1, true),
            (None, 1000 + AGE_MS, false),
            (None, 999, false),
            (Some(999), 1001, true),
            (Some(1000), 1001, false),
            (Some(1001), 1002, false),
        ] {
            assert_eq!(born(dir.path(), dropped, now).is_some(), used, "{dropped:?} {now}");
        }
        std::fs::write(dir.path().join(BORN), "soon").unwrap();
        assert_eq!(born(dir.path(), None, 5), None);
    }

    #[test]
    fn bnd_3_what_a_run_leaves_takes_the_place_of_its_kind_s_and_nothing_else_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let to = dir.path().join("cache/ci/tree2");
        for name in [".cache/uv", ".config/x", "bin"] {
            std::fs::create_dir_all(home.join(name)).unwrap();
        }
        std::fs::create_dir_all(to.with_file_name("tree1/.cache")).unwrap();
        let bounds = Bounds { bytes: 1 << 20, entries: 100 };
        assert_eq!(keep(&home, &to, Some(7), bounds).unwrap(), Done::Whole);
        assert!(to.join(".cache/uv").is_dir() && !to.join(".config").exists() && !to.join("bin").exists());
        assert!(!to.with_file_name("tree1").exists(), "an older tree's");
        assert_eq!(std::fs::read_to_string(to.join(BORN)).unwrap(), "7");
        // A run that left none leaves what there was.
        assert_eq!(keep(&home, &to, None, bounds).unwrap(), Done::Nothing);
        assert!(to.join(".cache/uv").is_dir());
        std::fs::create_dir_all(home.join(".cache/more")).unwrap();
        assert_eq!(keep(&home, &to, None, Bounds { entries: 1, ..bounds }).unwrap(), Done::TooLarge);
        assert!(to.join(".cache/uv").is_dir() && !to.with_file_name(NEW).exists());
    }
}
