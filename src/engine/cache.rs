//! The initial contents of a run's home (BND-3): the caches that it may have, and the operator's mirrors.
//!
//! A run gets the cache of an earlier run if task, kind and initial code tree are the same. Otherwise it gets its
//! base's cache (a repository's or a part's), which only base checks write. So what a branch plants in a cache reaches
//! only its own task on that tree.

use super::area::{AreaKind, Folders};
use super::cache_rows::{drop_base, dropped_key};
use super::left::Begin;
use super::paths::Paths;
use super::site::Site;
use super::{Ctx, mirrors};
use crate::adapters::caches::{self, Bounds, Done};
use crate::adapters::git::files::remove;
use crate::config::{Config, Project};
use crate::model::task::Task;
use crate::model::toolchain::CACHES;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// How long a base cache is used, in milliseconds.
const AGE_MS: i64 = 7 * 86_400_000;
/// In the base cache: when it was created, empty.
const BORN: &str = "born";
/// Next to a cache while it is built.
const NEW: &str = "new";

/// Where the caches of one run are read from and saved to. Empty for an operator's command.
#[derive(Debug, Clone, Default)]
pub struct Caches {
    /// The cache of this task, kind and code tree.
    own: Option<PathBuf>,
    /// The base's cache, if it may be used.
    base: Option<PathBuf>,
    /// Where the run's caches are saved, and the creation time of a base cache.
    to: Option<(PathBuf, Option<i64>)>,
    bounds: Option<Bounds>,
    /// The operator's mirrors are for runs of the second row.
    mirrors: bool,
}

/// Deletes a repository's base caches now, including those of its parts. Returns whether there was one.
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

/// When a base cache was created, if it may still be used.
fn born(path: &Path, dropped: Option<i64>, now: i64) -> Option<i64> {
    let born: i64 = std::fs::read_to_string(path.join(BORN)).ok()?.trim().parse().ok()?;
    (dropped.is_none_or(|at| born > at) && (0..AGE_MS).contains(&(now - born))).then_some(born)
}

/// Expired base caches, for `prune`.
pub fn stale(paths: &Paths, projects: &[Project], now: i64) -> Vec<PathBuf> {
    let all = projects.iter().map(|p| paths.base_cache(p.base_name()));
    all.filter(|path| path.symlink_metadata().is_ok() && born(path, None, now).is_none()).collect()
}

impl Caches {
    /// The caches for a task's run of one kind. `tree`: its initial code tree, `None` if that belongs to no commit.
    /// Builds, whose output reaches production, and shells get only the base cache and save nothing.
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

    /// The caches for a base check, on a commit of the default branch: the only run that writes the base cache.
    pub fn of_base(ctx: &mut Ctx, project: &Project) -> Result<Self> {
        let Some(bounds) = bounds(&ctx.config, project) else { return Ok(Self { mirrors: true, ..Self::default() }) };
        let known = usable(ctx, project)?;
        let since = known.as_ref().map_or_else(|| ctx.now().stamp.wall_ms, |(_, born)| *born);
        let to = Some((ctx.paths.base_cache(project.base_name()), Some(since)));
        Ok(Self { own: None, base: known.map(|(path, _)| path), to, bounds: Some(bounds), mirrors: true })
    }

    /// Fills a home that was just created and in which nothing has run. Never fails: a run without a cache is only
    /// slower.
    pub fn give(&self, folders: &Folders) {
        if self.mirrors {
            mirrors::write(&folders.home);
        }
        let Some(bounds) = self.bounds else { return };
        let given = match (&self.own, &self.base) {
            // The task's own cache is moved: the next run gets what this one makes of it.
            (Some(own), _) if own.is_dir() => caches::carry(own, CACHES, &folders.home, bounds),
            (_, Some(base)) => caches::copy(base, CACHES, &folders.home, bounds),
            (_, None) => return,
        };
        let why = match given {
            Ok(Done::Whole | Done::Nothing) => return,
            Ok(Done::TooLarge) => "it exceeds confine.cache_copy_max_mb".to_owned(),
            // For example, a concurrent base check has just replaced it.
            Err(e) => e.to_string(),
        };
        tracing::debug!("{} begins without a cache: {why}", folders.home.display());
        for part in CACHES {
            if let Err(e) = remove(&folders.home.join(part)) {
                tracing::warn!("part of a cache could not be deleted: {e}");
            }
        }
    }

    /// Saves the caches that a run left, once all its processes are gone. Never fails.
    pub fn keep(&self, folders: &Folders) {
        let (Some((to, since)), Some(bounds)) = (&self.to, self.bounds) else { return };
        match keep(&folders.home, to, *since, bounds) {
            Ok(Done::Whole | Done::Nothing) => {}
            Ok(Done::TooLarge) => {
                tracing::debug!("{}: its caches exceed confine.cache_copy_max_mb", folders.home.display());
            }
            Err(e) => tracing::debug!("the caches of {} could not be saved: {e}", folders.home.display()),
        }
    }
}

/// The caches for an agent's run. A rework begins on the files of a merge, which belong to no commit.
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
        // A run that left no cache does not replace the earlier one.
        assert_eq!(keep(&home, &to, None, bounds).unwrap(), Done::Nothing);
        assert!(to.join(".cache/uv").is_dir());
        std::fs::create_dir_all(home.join(".cache/more")).unwrap();
        assert_eq!(keep(&home, &to, None, Bounds { entries: 1, ..bounds }).unwrap(), Done::TooLarge);
        assert!(to.join(".cache/uv").is_dir() && !to.with_file_name(NEW).exists());
    }
}
