//! Effects of a deploy's phase B: what is in its folder, its INITIATED file, and the merge.

use super::branch;
use crate::adapters::forge::{ForgeError, Landing as Order, MergeOutcome};
use crate::adapters::sentinel::{self, Sealed, Sentinel};
use crate::engine::deploy::Initiated;
use crate::engine::{Ctx, projects, reserved, services};
use crate::model::effect::{Inspected, Merge, Merging, Opening, Report, Survey};
use crate::model::landing::MergeAnswer;
use crate::model::task::Task;
use anyhow::{Context, Result};
use serde_json::json;
use std::collections::HashSet;
use std::path::Path;

/// Reads what earlier deploys left. The names before the rows: a deploy's row exists before any of its files, so one
/// that another step opens meanwhile is not taken for a stray. Reads this machine only.
pub fn inspect(ctx: &mut Ctx, task: &Task, opening: &Opening, build: bool) -> Result<Report> {
    let dir = ctx.paths.sentinels(task);
    let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
    let names = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    let deploys = ctx.store.read(|tx| tx.deploys_of(task.id))?;
    let build_gone = build && reserved::build_is_gone(ctx, task, &opening.head);
    let project = ctx.project(&task.project)?.clone();
    let tree = projects::local_mirror(ctx, &project)?.map(|mirror| mirror.tree_of(&opening.head)).transpose()?;
    let folder = dir.display().to_string();
    Ok(Report::Inspected(Inspected { folder, names, deploys, build_gone, tree }))
}

/// Archives files of earlier deploys, and probes production where it is about to change.
pub fn clear(ctx: &mut Ctx, task: &Task, names: &[String], baseline: bool) -> Result<Report> {
    let dir = ctx.paths.sentinels(task);
    let names: HashSet<&str> = names.iter().map(String::as_str).collect();
    let old = |p: &Path| p.file_name().is_some_and(|n| names.contains(n.to_string_lossy().as_ref()));
    let to = ctx.paths.archive(task).join(ctx.now().stamp.wall_ms.to_string());
    sentinel::archive_those(&dir, &to, &old).with_context(|| format!("archiving {}", dir.display()))?;
    if baseline {
        crate::engine::watch::take_baseline(ctx, task)?;
    }
    Ok(Report::Done)
}

/// Writes INITIATED, unless it is there.
pub fn write_initiated(ctx: &mut Ctx, task: &Task, merging: &Merging) -> Result<Report> {
    let path = ctx.paths.deploy(task, &merging.deploy, "initiated");
    if matches!(sentinel::read::<Initiated>(&path), Sentinel::Present(_)) {
        return Ok(Report::Done);
    }
    let rows = ctx.store.read(|tx| tx.deploys_of(task.id))?;
    let row = rows.into_iter().find(|d| d.id == merging.deploy).context("the deploy has no row")?;
    let file = Initiated {
        task: task.id.0,
        key: task.key.to_string(),
        deploy: row.id,
        head: row.head.to_string(),
        base: row.base.to_string(),
        tree: row.tree,
        fence: row.fence,
        actor: json!(row.actor),
    };
    sentinel::write(&path, &Sealed::new(task.id, row.attempt, file))?;
    Ok(Report::Done)
}

/// Removes INITIATED.
pub fn remove_initiated(ctx: &mut Ctx, task: &Task, deploy: &str) -> Result<Report> {
    sentinel::remove(&ctx.paths.deploy(task, deploy, "initiated"))?;
    Ok(Report::Done)
}

/// Merges, then looks: whatever the answer was, the present state counts (RULE-5). Also gives the forge's error, if the
/// answer was one.
pub fn merge(
    ctx: &mut Ctx,
    task: &Task,
    merging: &Merging,
    m: &Merge,
    survey: &Survey,
) -> Result<(Report, Option<anyhow::Error>)> {
    let project = ctx.project(&task.project)?.clone();
    let mirror = projects::mirror(ctx, &project)?;
    let order = Order {
        default_branch: &m.default_branch,
        head: &merging.head,
        expected_base: &merging.base,
        message: &m.message,
    };
    let said = services::forge_said(ctx, &project, |forge| forge.merge(&mirror, m.number, &order))?;
    let answer = answer(&said);
    let after = Box::new(branch::survey(ctx, task, survey)?);
    let unknown = answer == MergeAnswer::Silent;
    let fault = said.err().map(anyhow::Error::new);
    let fault =
        if unknown { fault.map(|e| e.context("merging; the next step checks the result first")) } else { fault };
    Ok((Report::Merged { answer, after }, fault))
}

/// Looks at the merge queue.
pub fn queue(ctx: &mut Ctx, task: &Task, merging: &Merging, number: i64) -> Result<Report> {
    let project = ctx.project(&task.project)?.clone();
    let queue = services::forge(ctx, &project, |forge| forge.queue(number))?;
    let contains = match &queue {
        Some(_) => projects::mirror(ctx, &project)?.is_ancestor(&merging.base, &merging.head)?,
        None => true,
    };
    Ok(Report::QueueSeen { queue, contains })
}

/// Enters the merge queue. Also gives the forge's error, if the answer was one.
pub fn enter_queue(
    ctx: &mut Ctx,
    task: &Task,
    merging: &Merging,
    number: i64,
) -> Result<(Report, Option<anyhow::Error>)> {
    let project = ctx.project(&task.project)?.clone();
    let said = match services::forge_said(ctx, &project, |forge| forge.enter_queue(number, &merging.head))? {
        Ok(None) => return Ok((Report::EnteredQueue { instead: None }, None)),
        Ok(Some((what, said))) => Ok(MergeOutcome::Awaits { what, said }),
        Err(e) => Err(e),
    };
    let report = Report::EnteredQueue { instead: Some(answer(&said)) };
    Ok((report, said.err().map(anyhow::Error::new)))
}

/// Leaves the merge queue. One that no longer knows the pull request has no entry of it.
pub fn leave_queue(ctx: &mut Ctx, task: &Task, number: i64) -> Result<Report> {
    let project = ctx.project(&task.project)?.clone();
    match services::forge_said(ctx, &project, |forge| forge.leave_queue(number))? {
        Ok(out) => Ok(Report::LeftQueue { out }),
        Err(ForgeError::NotFound(_)) => Ok(Report::LeftQueue { out: true }),
        Err(e) => Err(e.into()),
    }
}

/// The answer as a fact.
fn answer(said: &std::result::Result<MergeOutcome, ForgeError>) -> MergeAnswer {
    match said {
        Ok(MergeOutcome::Merged { .. } | MergeOutcome::Untested { .. }) => MergeAnswer::Merged,
        Ok(MergeOutcome::BaseMoved) => MergeAnswer::BaseMoved,
        Ok(MergeOutcome::HeadMoved) => MergeAnswer::HeadMoved,
        Ok(MergeOutcome::Conflict { paths }) => MergeAnswer::Conflict { paths: paths.clone() },
        Ok(MergeOutcome::NotYet { reason }) => MergeAnswer::NotYet { reason: reason.clone() },
        Ok(MergeOutcome::Withdrawn { reason }) => MergeAnswer::Withdrawn { reason: reason.clone() },
        Ok(MergeOutcome::Awaits { what, said }) => MergeAnswer::Awaits { what: *what, said: said.clone() },
        Ok(MergeOutcome::Refused { reason }) => MergeAnswer::Refused { reason: reason.clone() },
        Err(ForgeError::Transient(_) | ForgeError::UnknownOutcome(_) | ForgeError::Throttled { .. }) => {
            MergeAnswer::Silent
        }
        Err(e @ (ForgeError::Refused { .. } | ForgeError::NotFound(_))) => {
            MergeAnswer::Denied { reason: e.to_string() }
        }
        Err(e @ (ForgeError::Conflict(_) | ForgeError::Invalid(_))) => MergeAnswer::Failed { reason: e.to_string() },
    }
}
