//! When a base is read and its check begins (ORD-1): right before a first job is claimed, and for a red CI, which
//! counts only after a later check of the base. Nothing else fetches, asks or starts anything for a base.

use super::base_job::{self, Tried};
use super::base_rows;
use super::base_rows::{applies, digest, passed_key, row};
use super::default_branch;
use super::errors::Refused;
use super::launch;
use super::{Ctx, outages, policy, projects, steps, view};
use crate::adapters::store::StoreError;
use crate::config::Project;
use crate::decide::again::environment_wait;
use crate::decide::base::{Next, next};
use crate::decide::dispatch;
use crate::model::base::{Base, BaseState, Unseen};
use crate::model::ids::TaskId;
use crate::model::task::Cause;
use crate::model::text::clip;
use anyhow::Result;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Makes sure that every base that the next claims need is known or that its check has begun.
pub fn ready(ctx: &mut Ctx, only: Option<&str>, most: usize, day: i64, free: Option<u64>) -> Result<()> {
    if ctx.dry || !ctx.config.base.enabled {
        return Ok(());
    }
    let red = red_since(ctx, only, day, free)?;
    let mut checked: BTreeSet<String> = BTreeSet::new();
    loop {
        let now = ctx.now();
        let mut policy = ctx.policy.clone();
        let first = ctx.store.read(|tx| {
            let known = base_rows::rows(tx)?;
            // Finds the first jobs that would be claimed if every unknown base were green. When a base turns out to
            // hold its jobs, other projects' jobs move up, and their bases have to be known, too.
            for (key, project) in &mut policy.projects {
                let row = project.base.as_ref().and_then(|name| known.get(name));
                if !checked.contains(key) || row.is_some_and(|b| b.state == BaseState::Running) {
                    project.base = None;
                }
            }
            let queue = view::queue(tx, &now, &policy, day, free)?;
            let plan = dispatch::plan(&queue, &policy, only, most);
            let mut first: BTreeMap<String, Vec<TaskId>> = BTreeMap::new();
            for claim in plan.claims.iter().filter(|c| c.starts.is_some()) {
                let place = queue.places.get(&claim.task).filter(|p| !p.on_red_base && !checked.contains(&p.project));
                if let Some(place) = place {
                    first.entry(place.project.clone()).or_default().push(claim.task);
                }
            }
            Ok::<_, StoreError>(first)
        })?;
        if first.is_empty() {
            break;
        }
        for (key, tasks) in first {
            check_base(ctx, &key, &tasks, None)?;
            checked.insert(key);
        }
    }
    for (key, since) in red {
        check_base(ctx, &key, &[], Some(since))?;
    }
    Ok(())
}

/// The projects with a red CI that waits for a later check of the base, with the time of that CI (wall milliseconds).
fn red_since(ctx: &mut Ctx, only: Option<&str>, day: i64, free: Option<u64>) -> Result<BTreeMap<String, i64>> {
    let (now, policy) = (ctx.now(), ctx.policy.clone());
    let mut red: BTreeMap<String, i64> = BTreeMap::new();
    let queue = ctx.store.read(|tx| view::queue(tx, &now, &policy, day, free))?;
    // Exempt from a freeze, not from HALT and the disk's bound (RULE-24).
    let free = queue.halted.is_none() && queue.free_mb.is_none_or(|mb| mb >= policy.min_free_mb);
    for job in queue.queued.iter().filter(|j| free && j.cause == Some(Cause::BaseFirst)) {
        if let Some(place) = queue.places.get(&job.task_id).filter(|p| only.is_none_or(|o| o == p.project)) {
            let since = red.entry(place.project.clone()).or_insert(job.available_at);
            *since = job.available_at.max(*since);
        }
    }
    Ok(red)
}

/// Reads a project's base for these tasks. With `after`, has it checked again unless that has happened since.
fn check_base(ctx: &mut Ctx, key: &str, tasks: &[TaskId], after: Option<i64>) -> Result<()> {
    let project = ctx.project(key)?.clone();
    if !applies(&ctx.config, &project) {
        return Ok(());
    }
    let at = ctx.now().stamp.wall_ms;
    let before = ctx.store.read(base_rows::unseen)?.remove(project.base_name());
    // A clock that was set back must not hold anything for long.
    if before.as_ref().is_some_and(|u| u.next_at > at && u.since <= at) {
        return Ok(());
    }
    match one(ctx, &project, after) {
        Ok(()) if before.is_some() => {
            Ok(ctx.store.write(|tx| tx.drop_meta(&base_rows::unseen_key(project.base_name())))?)
        }
        Ok(()) => Ok(()),
        Err(e) => failed(ctx, &project, tasks, before.map_or(0, |u| u.failed), e),
    }
}

/// Records a failure to read a base, which holds first jobs, and reports it as a claim with the same fault would. A
/// fault that only a person can lift blocks the waiting tasks.
fn failed(ctx: &mut Ctx, project: &Project, tasks: &[TaskId], times: i64, error: anyhow::Error) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    let failed = times.saturating_add(1);
    let next_at = at + environment_wait(policy::ms(ctx.config.agents.retry_backoff_s), failed);
    let unseen = Unseen { why: clip(&format!("{error:#}"), 400), since: at, next_at, failed };
    ctx.store.write(|tx| tx.set_meta(&base_rows::unseen_key(project.base_name()), &json!(unseen).to_string()))?;
    if let Some(why) = Refused::why(&error) {
        for id in tasks {
            steps::block(ctx, *id, &why, false)?;
        }
        return Ok(());
    }
    outages::no_start(ctx, project, &error)?;
    let task = tasks.first().and_then(|id| ctx.task(*id).ok());
    ctx.fault(task.as_ref(), "checking the base", &error.context("no agent starts, and no attempt is spent"));
    Ok(())
}

fn one(ctx: &mut Ctx, project: &Project, after: Option<i64>) -> Result<()> {
    let name = project.base_name().to_owned();
    let rows = ctx.store.read(base_rows::rows)?;
    let last = rows.get(&name).cloned();
    let known = |b: &Base| after.is_some_and(|since| b.state.is_verdict() && b.since >= since);
    if last.as_ref().is_some_and(|b| b.state == BaseState::Running || known(b)) {
        return Ok(());
    }
    let mirror = projects::mirror(ctx, project)?;
    let (_, commit) = default_branch::fetch_default(ctx, project, &mirror)?;
    let tree = mirror.tree_of(&commit)?.to_string();
    let config = digest(&ctx.config, project);
    let at = ctx.now().stamp.wall_ms;
    let known = ctx.store.read(|tx| tx.meta(&passed_key(&name, &tree, &config)))?.is_some();
    let step = if after.is_some() { Next::Try } else { next(last.as_ref(), &tree, &config, known, at) };
    let tried = rows.values().filter(|b| b.state == BaseState::Running).count();
    let full = i64::try_from(tried).unwrap_or(i64::MAX) >= ctx.policy.max_reserved;
    let state = match step {
        Next::Wait => return Ok(()),
        Next::Go if last.as_ref().is_some_and(|b| b.tree == tree && b.state == BaseState::Green) => return Ok(()),
        Next::Go => BaseState::Green,
        // The limit of concurrent checks is reached (RULE-24): the end of one starts the next.
        Next::Try if full && after.is_some() => return Ok(()),
        Next::Try if full => BaseState::Untried,
        Next::Try => BaseState::Running,
    };
    let token = launch::new_token();
    let me = ctx.me.clone();
    let before = last.as_ref().map(|b| b.token.clone());
    let claimed = ctx.store.write(|tx| {
        let now = row(tx, &name)?;
        if now.as_ref().map(|b| b.token.clone()) != before {
            return Ok(None);
        }
        let base = Base {
            commit: commit.clone(),
            tree: tree.clone(),
            config: config.clone(),
            state,
            since: at,
            why: String::new(),
            lines: Vec::new(),
            next_at: 0,
            failed: last.as_ref().filter(|b| b.config == config).map_or(0, |b| b.failed),
            token: token.clone(),
            owner: Some(me),
            ruled_out_at: last.as_ref().map_or(0, |b| b.ruled_out_at),
            alerted: last.as_ref().is_some_and(|b| b.alerted),
        };
        base_rows::put(tx, &name, &base)?;
        if state == BaseState::Green {
            base_job::recovered(tx, &name, &mut base.clone(), at)?;
        }
        Ok::<_, StoreError>(Some(base))
    })?;
    if claimed.is_some_and(|b| b.state == BaseState::Running)
        && let Err(e) = base_job::start(ctx, &name, &token)
    {
        let why = format!("its check could not be started: {e:#}");
        base_job::end(ctx, project, &token, &Tried::of(BaseState::Environment, why))?;
    }
    Ok(())
}
