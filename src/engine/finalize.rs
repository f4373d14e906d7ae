//! Turns what an agent's run left into commits, a push, a pull request and evidence; each part may be repeated after a
//! kill (RULE-21, RULE-22).

use super::errors::{Kept, Refused};
use super::left::{self, Taken};
use super::perform::branch;
use super::record;
use super::refused;
use super::services::{self, Access};
use super::settle::{End, NewHead, Settlement};
use super::site::Site;
use super::{Ctx, approval, cache, judge, landing, messages, projects, pulls, runtimes, settle};
use crate::adapters::git::PushOutcome;
use crate::decide::report::gate::mover;
use crate::decide::run_end::{self, Who};
use crate::model::branch_write::BranchWrite;
use crate::model::card::AlertKind;
use crate::model::change::Change;
use crate::model::event::Event;
use crate::model::ids::Sha;
use crate::model::outcome::{Kind, Outcome};
use crate::model::refusal::Asked;
use crate::model::stage::{Agent, Stage};
use crate::model::task::{Cause, Run};
use crate::model::tree_rules::Broken;
use anyhow::{Context, Result, bail};
use serde_json::json;

/// Turns what a run left into commits, a push and evidence. Each part may be repeated after a kill.
pub(super) fn run(ctx: &mut Ctx, site: &Site, run: &Run, fence: i64) -> Result<Option<Settlement>> {
    let done = taken(ctx, site, run, fence)?;
    if let (Some(_), Some(start)) = (&done, &run.start_sha) {
        cache::of_agent(ctx, site, &left::remembered(site, start)?)?.keep(&site.folders);
    }
    Ok(done)
}

fn taken(ctx: &mut Ctx, site: &Site, run: &Run, fence: i64) -> Result<Option<Settlement>> {
    if !settle::holds(ctx, run.id, fence, false)? {
        return Ok(None);
    }
    let outcome = run.outcome.as_ref().context("the run has no recorded outcome")?;
    let start = run.start_sha.clone().context("the run has no start commit")?;
    if landing::taken_back(ctx, run.task_id)? {
        return Err(Kept::error(Cause::TakenBack, "the task was taken back while the agent worked"));
    }
    let failed = |end: End| Some(Settlement { end, ..Settlement::default() });
    if outcome.kind != Kind::Ended {
        if let Err(e) = left::take(site, run, &start).and_then(|t| t.keep_patch(site)) {
            tracing::warn!(task = %site.ground.task.key, "the run's work can't be saved as a patch: {e:#}");
        }
        return Ok(failed(not_well(ctx, site, run, outcome)));
    }
    let taken = left::take(site, run, &start)?;
    for folder in &taken.nested {
        tracing::warn!(task = %site.ground.task.key, "{folder} contained its own repository; its files count as ordinary files");
    }
    let mut broken = taken.faults(site, run)?;
    let secrets = taken.secrets(site, run)?;
    if !secrets.is_empty() {
        alert_secrets(ctx, site, run, &secrets)?;
    }
    broken.extend(secrets);
    let shown: Vec<String> = broken.iter().map(ToString::to_string).collect();
    if let Some(end) = run_end::broken(site.agent, &shown) {
        taken.keep_patch(site)?;
        return Ok(failed(end));
    }
    let end = taken.commit(site, run, &start)?;
    if let Some(too_long) = too_long(site, &start, &end)? {
        taken.keep_patch(site)?;
        return Ok(failed(too_long));
    }
    taken.upload()?;
    let Some(head) = push(ctx, site, run, fence, &start, &end, taken.begin.is_rework())? else {
        return Ok(failed(run_end::head_moved()));
    };
    settlement(ctx, site, run, &taken, &start, &head)
}

/// Reports a secret in what an agent left at once: its owner has to know that it can be read.
fn alert_secrets(ctx: &mut Ctx, site: &Site, run: &Run, secrets: &[Broken]) -> Result<()> {
    let task = &site.ground.task;
    let at = ctx.now().stamp.wall_ms;
    let shown: Vec<String> = secrets.iter().take(5).map(ToString::to_string).collect();
    let detail = format!("The {} left {}. Nothing was pushed.", site.agent, shown.join(", "));
    Ok(ctx.store.write(|tx| {
        record::event(tx, at, Some(task.id), Event::SecretFound, &json!({"run": run.id, "found": shown}))?;
        messages::alert(tx, task, AlertKind::SecretFound, run.id.0, &detail, at)
    })?)
}

fn settlement(
    ctx: &mut Ctx,
    site: &Site,
    run: &Run,
    taken: &Taken<'_>,
    start: &Sha,
    head: &Sha,
) -> Result<Option<Settlement>> {
    let task = &site.ground.task;
    let mirror = &site.ground.mirror;
    let known = task.head_tree.clone().filter(|_| task.head_sha.as_ref() == Some(start));
    let start_tree = match known {
        Some(tree) => tree,
        None => mirror.code_tree(start, &task.key)?.to_string(),
    };
    let head_tree = if head == start { start_tree.clone() } else { mirror.code_tree(head, &task.key)?.to_string() };
    let changed = taken.changed(site, start, head)?;
    let pushed = judge::Pushed { mirror, start, head, start_tree: &start_tree, head_tree: &head_tree, changed };
    let kind = runtimes::kind(&ctx.config, &site.settings.runtime);
    let independent = site.agent != Agent::Reviewer || kind.is_some_and(|k| k.starts_nothing_for_a_judge());
    let judged = judge::run(ctx, task, run, &pushed, independent)?;
    for fault in &judged.faults {
        tracing::warn!(task = %task.key, "front matter: {fault}");
    }
    if !judged.faults.is_empty() {
        let at = ctx.now().stamp.wall_ms;
        ctx.store.write(|tx| {
            record::event(
                tx,
                at,
                Some(task.id),
                Event::FrontMatterFaults,
                &json!({"run": run.id, "faults": judged.faults}),
            )
            .map(drop)
        })?;
    }
    let mut refused = None;
    let pr = match pulls::open(ctx, task, &site.ground.default_branch, head) {
        Ok(pr) => pr,
        // The run is done and is not repeated; only opening the pull request is retried (ORD-1).
        Err(e) if let Some(answer) = refused::answer(&e) => {
            refused = Some((Asked::OpenPull, answer));
            None
        }
        // The push is done; the merge gate opens the pull request (RULE-8).
        Err(e) if pulls::is_outage(&e) => {
            tracing::warn!(task = %task.key, "the pull request will be opened later: {e:#}");
            None
        }
        Err(e) => return Err(e),
    };
    let end = run_end::pushed(judged.missing);
    let squashed = task.rework.is_some() && run.stage == Stage::Development && end == End::Done;
    Ok(Some(Settlement {
        evidence: judged.rows,
        end,
        head: Some(NewHead { sha: head.clone(), tree: head_tree }),
        pr,
        refused,
        reworked: squashed,
        ..Settlement::default()
    }))
}

/// What the end of a failed run means for its job.
fn not_well(ctx: &mut Ctx, site: &Site, run: &Run, outcome: &Outcome) -> End {
    let now = (ctx.clock)().wall_ms;
    let runtime = site.settings.runtime.as_str();
    let credential = run.credential.as_deref().unwrap_or(runtime);
    let limits = ctx.store.read(|tx| tx.limit_streak(credential)).unwrap_or(0);
    run_end::of_outcome(outcome, &Who { runtime, credential, limits, run: run.id.0 }, now)
}

/// How a run ends whose change is larger than the agent's bound.
fn too_long(site: &Site, start: &Sha, end: &Sha) -> Result<Option<End>> {
    let most = site.settings.max_diff_lines;
    if most == 0 {
        return Ok(None);
    }
    let stat = site.ground.mirror.diff_stat_lines(start, end)?;
    Ok(run_end::too_long(stat.added + stat.deleted, most))
}

/// Pushes what the run adds; `None`: the branch moved meanwhile, and the run's commits are discarded (RULE-22). After a
/// FAIL on secrets the work is pushed as one commit, with an explicit lease (RUN-4). `rework`: the branch was rebuilt
/// on a new base and replaces the old head with a lease.
fn push(
    ctx: &mut Ctx,
    site: &Site,
    run: &Run,
    fence: i64,
    start: &Sha,
    end: &Sha,
    rework: bool,
) -> Result<Option<Sha>> {
    let task = &site.ground.task;
    let branch = task.branch.clone().context("the task has no branch")?;
    let mirror = &site.ground.mirror;
    let squash = run_end::squashes(task, run.stage, start != end, rework);
    let head = if squash {
        let base = mirror
            .merge_base(&site.ground.default_sha, start)?
            .ok_or_else(|| Refused::unrelated(task, &site.ground.default_branch))?;
        mirror.squash_onto(&base, end, &left::message(site, run), &projects::author(&site.project))?
    } else {
        end.clone()
    };
    let key = format!("t{}/r{}/push", task.id, run.id);
    let heads = services::git(ctx, &site.project, Access::Read, mirror.glance(&[(&branch, Some(start))]))?;
    let head_there = heads.at.into_iter().next().flatten();
    if head_there.as_ref() == Some(&head) {
        // Pushed by an owner that was killed before it could record it.
        let row = ctx.store.read(|tx| tx.journal_row(&key))?;
        if row.is_some_and(|r| r.outcome.is_none()) {
            pushed(ctx, site, run, &key, Some((start, &head)), squash)?;
        }
        return Ok(Some(head));
    }
    if head_there.is_none() {
        return Err(gone(&branch));
    }
    if head_there.as_ref() != Some(start) {
        moved(ctx, site, head_there)?;
        return Ok(None);
    }
    if head == *start {
        return Ok(Some(head));
    }
    if !settle::holds(ctx, run.id, fence, false)? {
        bail!("a stop or another step took over the run before its push");
    }
    let at = ctx.now().stamp.wall_ms;
    let me = ctx.me.clone();
    let write = BranchWrite::Pushed { branch: branch.clone(), from: start.clone(), to: head.clone() };
    ctx.store.write(|tx| record::intend(tx, &key, Some(task.id), write.kind(), &write.intent(), &me, at).map(drop))?;
    // Always push with a lease: a plain push would recreate a branch that somebody else deleted after the check.
    let pushing = mirror.push_with_lease(&branch, &head, start);
    let outcome = services::git(ctx, &site.project, Access::Push, pushing)?;
    let done = match outcome {
        PushOutcome::Created | PushOutcome::Same | PushOutcome::Updated => true,
        PushOutcome::Rejected { moved: true, .. } => {
            services::git(ctx, &site.project, Access::Read, mirror.remote_head(&branch))?.as_ref() == Some(&head)
        }
        PushOutcome::Rejected { reason, .. } => {
            let why = format!("the remote refuses the push to {branch}: {reason}");
            return Err(Kept::error(Cause::PushRefused, why));
        }
    };
    let head_there =
        if done { None } else { services::git(ctx, &site.project, Access::Read, mirror.remote_head(&branch))? };
    if !done && head_there.is_none() {
        return Err(gone(&branch));
    }
    pushed(ctx, site, run, &key, done.then_some((start, &head)), squash)?;
    if done {
        return Ok(Some(head));
    }
    moved(ctx, site, head_there)?;
    Ok(None)
}

fn gone(branch: &str) -> anyhow::Error {
    Kept::error(Cause::TakenBack, format!("branch {branch} is gone from the remote"))
}

/// Records how a push ended. `done`: the old and the new head.
fn pushed(ctx: &mut Ctx, site: &Site, run: &Run, key: &str, done: Option<(&Sha, &Sha)>, squash: bool) -> Result<()> {
    let task = &site.ground.task;
    let at = ctx.now().stamp.wall_ms;
    Ok(ctx.store.write(|tx| {
        record::outcome(tx, key, &json!({"pushed": done.is_some()}), at)?;
        let Some((from, to)) = done else { return Ok(()) };
        let detail = json!({"branch": task.branch, "from": from, "to": to, "run": run.id, "squash": squash});
        record::event(tx, at, Some(task.id), Event::BranchPushed, &detail).map(drop)
    })?)
}

/// The branch has another head on the remote: the next run begins there.
fn moved(ctx: &mut Ctx, site: &Site, head_there: Option<Sha>) -> Result<()> {
    let task = &site.ground.task;
    let Some(sha) = head_there else { return Ok(()) };
    let fetched = site.ground.mirror.fetch_branch(task.branch.as_deref().unwrap_or_default());
    services::git(ctx, &site.project, Access::Read, fetched)?;
    let tree = site.ground.mirror.code_tree(&sha, &task.key)?.to_string();
    let at = ctx.now().stamp.wall_ms;
    let rows = ctx.store.read(|tx| tx.evidence_of(task.id))?;
    let stale = approval::changed(&site.ground.mirror, &rows, task, &sha, &tree)?;
    let by = mover(&branch::pushed(ctx, task)?, task.head_sha.as_ref(), &sha);
    ctx.store.write(|tx| {
        let mut t = tx.task(task.id)?;
        if let Some(row) = &stale {
            tx.add_evidence(&t, row, at)?;
        }
        record::change(tx, &mut t, Change::Head { sha: sha.clone(), tree }, at)?;
        record::event(tx, at, Some(t.id), Event::HeadMoved, &json!({"to": sha, "by": by})).map(drop)
    })?;
    Ok(())
}
