//! A repository's own settings (`.orch.yaml`, ORD-3), read from the default branch's head in the mirror: never from
//! another branch, and without a request.

use super::default_branch;
use super::{Ctx, policy, projects, view};
use crate::adapters::store::StoreError;
use crate::config::{Config, Project, REPOSITORY_FILE, Repository, process_env};
use crate::decide::dispatch;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};

/// Merges them into the configuration in force. If they are invalid, the project's `fault` says why, and nothing of the
/// project starts.
pub fn apply(ctx: &mut Ctx) {
    if !ctx.config.projects.iter().any(|p| p.repository_config) {
        return;
    }
    let mut faults = BTreeMap::new();
    let mut sound: BTreeMap<String, Repository> = BTreeMap::new();
    let env = process_env();
    let mut whole: Option<Config> = None;
    for project in ctx.config.projects.clone().into_iter().filter(|p| p.repository_config) {
        let own = match read(ctx, &project) {
            Ok(Some(own)) => own,
            Ok(None) => continue,
            Err(why) => {
                faults.insert(project.key, why);
                continue;
            }
        };
        // One after the other, so that a conflict is this project's fault.
        sound.insert(project.key.clone(), own);
        match ctx.config.with_repositories(&sound, &env) {
            Ok(config) => whole = Some(config),
            Err(e) => {
                sound.remove(&project.key);
                faults.insert(project.key, format!("{REPOSITORY_FILE}: {}", e.message));
            }
        }
    }
    // A faulty file does not invalidate those of other projects.
    if let Some(config) = whole {
        ctx.config.projects = config.projects;
    }
    for project in &mut ctx.config.projects {
        project.fault = faults.remove(&project.key);
    }
    ctx.policy = policy::of(&ctx.config);
}

/// The file of a project's repository; `None`: it has none. Fails with why it is unknown or invalid.
fn read(ctx: &mut Ctx, project: &Project) -> Result<Option<Repository>, String> {
    let unknown =
        || format!("the default branch of {} has not been read yet; the next `orch tick` reads it", project.repo);
    let failed = |e: anyhow::Error| format!("{REPOSITORY_FILE} of {} can't be read: {e:#}", project.repo);
    let mirror = projects::local_mirror(ctx, project).map_err(failed)?.ok_or_else(unknown)?;
    let branch = match &project.git.default_branch {
        Some(name) => Some(name.clone()),
        None => {
            let row = format!("default_branch/{}", project.repo);
            ctx.store.read(|tx| tx.meta(&row)).map_err(|e| failed(e.into()))?
        }
    };
    let head = mirror.tracking(&branch.ok_or_else(unknown)?).map_err(|e| failed(e.into()))?.ok_or_else(unknown)?;
    let Some(entry) = mirror.entry(&head, REPOSITORY_FILE).map_err(|e| failed(e.into()))? else { return Ok(None) };
    let bytes = mirror.read_file(&head, REPOSITORY_FILE).map_err(|e| failed(e.into()))?;
    let bytes = bytes.ok_or_else(|| format!("{REPOSITORY_FILE} is not a regular file, but {:?}", entry.kind))?;
    Repository::parse(&bytes).map(Some).map_err(|e| e.message)
}

/// Before jobs are claimed: fetches the default branch of each project with a claimable first job, or with a job held
/// by a faulty file, so that the settings are those of its head. Other projects cause no request. If a fetch fails, the
/// settings last read stay.
pub fn ready(ctx: &mut Ctx, only: Option<&str>, most: usize) -> Result<()> {
    let listed: BTreeSet<String> =
        ctx.config.projects.iter().filter(|p| p.repository_config).map(|p| p.key.clone()).collect();
    if ctx.dry || listed.is_empty() || ctx.store.read(|tx| tx.queued_jobs())?.is_empty() {
        return Ok(());
    }
    let mut checked: BTreeSet<String> = BTreeSet::new();
    loop {
        let now = ctx.now();
        let day = crate::model::time::day_start(now.stamp.wall_ms);
        let mut policy = ctx.policy.clone();
        let mut faulty: BTreeSet<String> = BTreeSet::new();
        // When a project turns out to hold its jobs, another project's jobs move up, and its file has to be known, too.
        for (key, project) in policy.projects.iter_mut().filter(|(key, _)| !checked.contains(*key)) {
            project.base = None;
            if project.fault.take().is_some() {
                faulty.insert(key.clone());
            }
        }
        let wanted: BTreeSet<String> = ctx.store.read(|tx| {
            let queue = view::queue(tx, &now, &policy, day, None)?;
            let plan = dispatch::plan(&queue, &policy, only, most);
            let claims = plan.claims.iter().filter_map(|c| Some((c, &queue.places.get(&c.task)?.project)));
            let asked =
                claims.filter(|(c, key)| c.starts.is_some() || faulty.contains(*key)).map(|(_, key)| key.clone());
            Ok::<_, StoreError>(asked.filter(|key| listed.contains(key) && !checked.contains(key)).collect())
        })?;
        if wanted.is_empty() {
            return Ok(());
        }
        for key in &wanted {
            refresh(ctx, key)?;
        }
        apply(ctx);
        checked.extend(wanted);
    }
}

/// Before the merge gate and what follows it, and while a faulty file holds a task there: as `ready`, for one project,
/// since no queued job triggers it. `false`: the repository has no settings of its own, and no request was made.
pub fn read_config(ctx: &mut Ctx, key: &str) -> Result<bool> {
    if ctx.dry || !ctx.project(key).is_ok_and(|p| p.repository_config) {
        return Ok(false);
    }
    refresh(ctx, key)?;
    apply(ctx);
    Ok(true)
}

fn refresh(ctx: &mut Ctx, key: &str) -> Result<()> {
    let project = ctx.project(key)?.clone();
    if let Err(e) = fetch(ctx, &project) {
        tracing::warn!(repo = %project.repo, "its {REPOSITORY_FILE} can't be fetched: {e:#}");
    }
    Ok(())
}

fn fetch(ctx: &mut Ctx, project: &Project) -> Result<()> {
    let mirror = projects::mirror(ctx, project)?;
    default_branch::fetch_default(ctx, project, &mirror).map(drop)
}
