//! Where a task's work begins: its branch on the remote, from a fresh default branch (RUN-3, RULE-11, RULE-28).

use super::default_branch;
use super::errors::Refused;
use super::record;
use super::services::{self, Access};
use super::{Ctx, projects};
use crate::adapters::git::{GitError, Mirror, PushOutcome};
use crate::config::Project;
use crate::model::branch_write::BranchWrite;
use crate::model::change::Change;
use crate::model::event::Event;
use crate::model::ids::{Key, Sha, TaskId, branch_name};
use crate::model::refusal::{Refusal, Side};
use crate::model::report::ActionKind;
use crate::model::task::Task;
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::collections::BTreeMap;

/// A task's repository, ready for work.
#[derive(Debug)]
pub struct Ground {
    pub task: Task,
    pub mirror: Mirror,
    pub default_branch: String,
    /// The default branch's commit in the mirror.
    pub default_sha: Sha,
}

/// The mirror with a fresh default branch; creates the task's branch if there is none yet. Repeatable after a kill at
/// any point. Fails if the remote can't be reached: never uses an old base.
pub fn ensure(ctx: &mut Ctx, id: TaskId) -> Result<Ground> {
    let task = ctx.task(id)?;
    let project = ctx.project(&task.project)?.clone();
    let mirror = projects::mirror(ctx, &project)?;
    let (default_branch, default_sha) = default_branch::fetch_default(ctx, &project, &mirror)?;
    if task.base_sha.is_some() && task.branch.is_some() {
        return Ok(Ground { task, mirror, default_branch, default_sha });
    }
    let landed = ctx.store.read(|tx| tx.last_landed(&task.repo))?.and_then(|t| t.landed_sha);
    if let Some(sha) = &landed
        && mirror.exists(sha)?
        && !mirror.is_ancestor(sha, &default_sha)?
        && !accepted(ctx, &task, sha)?
    {
        let why = format!(
            "{default_branch} at {} no longer contains {}, which landed before: its history was rewritten, or another branch is the default one; `orch retry {}` accepts the new history, `orch stop {}` ends the task",
            default_sha.short(),
            sha.short(),
            task.key,
            task.key
        );
        return Err(Refused::error(why));
    }
    let wanted = wanted(&project, &task);
    rights(ctx, &project, &mirror, &task.key)?;
    let made = create_branch(ctx, &task, &mirror, &wanted, &default_sha);
    let (branch, head) = services::git(ctx, &project, Access::Push, made)?;
    let code_tree = mirror.code_tree(&head, &task.key)?;
    let at = ctx.now().stamp.wall_ms;
    let task = ctx.store.write(|tx| {
        let mut t = tx.task(id)?;
        // Another process was first: the branch was cut from what it recorded.
        if t.base_sha.is_some() && t.branch.is_some() {
            return Ok(t);
        }
        let tree = code_tree.to_string();
        let made = Change::Branch { name: branch.clone(), base: default_sha.clone(), head: head.clone(), tree };
        record::change(tx, &mut t, made, at)?;
        record::event(tx, at, Some(id), Event::BranchCreated, &json!({"branch": branch, "base": default_sha}))?;
        Ok::<_, crate::adapters::store::StoreError>(t)
    })?;
    ctx.report.did(ActionKind::BranchCreated, Some(task.key.as_str()), json!({"branch": branch, "base": default_sha}));
    Ok(Ground { task, mirror, default_branch, default_sha })
}

/// Asks each remote once for everything that a step is about to start there, so that the starts need no requests of
/// their own (speed). An error here occurs again at the start, which reports it.
pub fn look_ahead(ctx: &mut Ctx, starting: &[TaskId]) {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for id in starting {
        let Ok(task) = ctx.task(*id) else { continue };
        if let Ok(project) = ctx.project(&task.project) {
            let name = wanted(project, &task);
            names.entry(task.project).or_default().push(name);
        }
    }
    // For a single start, asking ahead saves nothing.
    for (project, names) in names.iter().filter(|(_, names)| names.len() > 1) {
        if let Err(e) = ask_ahead(ctx, project, names) {
            tracing::debug!("asking ahead for {project}: {e:#}");
        }
    }
}

fn ask_ahead(ctx: &mut Ctx, project: &str, names: &[String]) -> Result<()> {
    let project = ctx.project(project)?.clone();
    let mirror = projects::mirror(ctx, &project)?;
    let default_branch = default_branch::default_branch(ctx, &project, &mirror)?;
    let all: Vec<&str> = std::iter::once(&default_branch).chain(names).map(String::as_str).collect();
    mirror.remote_heads(&all)?;
    Ok(())
}

/// A push that the remote refuses before any work: a missing login is the environment's fault (RULE-45); an account
/// that may not push is refused for good (ORD-1).
fn no_push(e: GitError, key: &Key) -> anyhow::Error {
    if let GitError::Refused { refusal, reason, .. } = &e
        && *refusal != Refusal::BadCredential
    {
        let way = refusal.advice(Side::Git);
        return Refused::error(format!(
            "the remote accepts no push of this account: {reason}; {way}, then `orch retry {key}`"
        ));
    }
    anyhow::Error::new(e).context("asking whether branches may be pushed")
}

/// Before a task's first branch: whether token and account have the rights that its run needs, so that no run fails
/// half-way (ORD-1). Makes two requests that write nothing. Fails with the *no* of remote or forge, for good if the
/// account may not push. No answer proves nothing (RULE-8).
fn rights(ctx: &mut Ctx, project: &Project, mirror: &Mirror, key: &Key) -> Result<()> {
    if !project.forge.is_remote() {
        return Ok(());
    }
    let asked = services::git(ctx, project, Access::Read, mirror.may_push()).map_err(anyhow::Error::downcast);
    if let Err(Ok(e @ GitError::Refused { .. })) = asked {
        return Err(no_push(e, key));
    }
    match services::forge_said(ctx, project, |forge| forge.may_comment())? {
        Err(e) if e.refusal().is_some() => Err(e).context("asking whether comments can be written"),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a person has accepted a default branch that no longer contains a landed commit, or does so now: a `retry` of
/// the task that was blocked for it.
fn accepted(ctx: &mut Ctx, task: &Task, landed: &Sha) -> Result<bool> {
    let (repo, asked) = (format!("history/{}", task.repo), format!("history/{}/t{}", task.repo, task.id));
    let at = ctx.now().stamp.wall_ms;
    let visit = task.epoch.to_string();
    Ok(ctx.store.write(|tx| {
        if tx.meta(&repo)?.as_deref() == Some(landed.as_str()) {
            return Ok(true);
        }
        let retried = tx.meta(&asked)?.is_some_and(|asked_in| asked_in != visit) && task.blocked_reason.is_none();
        if retried {
            tx.set_meta(&repo, landed.as_str())?;
            record::event(tx, at, Some(task.id), Event::HistoryAccepted, &json!({"without": landed}))?;
        } else {
            tx.set_meta(&asked, &visit)?;
        }
        Ok::<_, crate::adapters::store::StoreError>(retried)
    })?)
}

/// The name of a task's branch, or the name it gets if that is free.
pub fn wanted(project: &Project, task: &Task) -> String {
    let made = || branch_name(&project.git.branch_prefix, &task.key, &task.title, task.round);
    task.branch.clone().unwrap_or_else(made)
}

/// Creates a branch of ours: one whose creating push said `*` (RULE-11). An existing name is a person's, unless an
/// intent of this task says that we were about to create it. Returns its name and its head on the remote.
fn create_branch(ctx: &mut Ctx, task: &Task, mirror: &Mirror, wanted: &str, base: &Sha) -> Result<(String, Sha)> {
    for n in 0..20 {
        let name = if n == 0 {
            wanted.to_owned()
        } else {
            format!("{wanted}-o{}{}", task.id, if n > 1 { format!("-{n}") } else { String::new() })
        };
        let key = format!("t{}/branch/{name}", task.id);
        let made = BranchWrite::Created { branch: name.clone(), base: base.clone() };
        let row = ctx.store.read(|tx| tx.journal_row(&key))?;
        if row.as_ref().is_some_and(|r| r.outcome.as_ref().is_some_and(|o| o["ours"] == true)) {
            let head = caught_up(mirror, &name, base)?;
            return Ok((name, head));
        }
        if row.as_ref().is_some_and(|r| r.outcome.is_some()) {
            continue;
        }
        // An answer counts for a second; if somebody takes the name meanwhile, our push fails.
        let head_there = mirror.glance(&[(&name, None)])?.at.into_iter().next().flatten();
        let outcome = match (&head_there, row.is_some()) {
            // We intended it earlier and it was absent then: ours.
            (Some(_), true) => true,
            (Some(_), false) => false,
            (None, _) => {
                let at = ctx.now().stamp.wall_ms;
                let me = ctx.me.clone();
                ctx.store.write(|tx| {
                    record::intend(tx, &key, Some(task.id), made.kind(), &made.intent(), &me, at).map(drop)
                })?;
                let pushed = mirror.push_new_branch(&name, base).map_err(|e| no_push(e, &task.key))?;
                match pushed {
                    PushOutcome::Created => true,
                    PushOutcome::Same | PushOutcome::Updated => mirror.remote_head(&name)?.as_ref() == Some(base),
                    PushOutcome::Rejected { moved: true, .. } => false,
                    PushOutcome::Rejected { reason, .. } => {
                        let why = format!(
                            "the remote refuses branch {name}: {reason}; let orch push there, then `orch retry {}`",
                            task.key
                        );
                        return Err(Refused::error(why));
                    }
                }
            }
        };
        let at = ctx.now().stamp.wall_ms;
        let me = ctx.me.clone();
        ctx.store.write(|tx| {
            record::intend(tx, &key, Some(task.id), made.kind(), &made.intent(), &me, at)?;
            record::outcome(tx, &key, &json!({"ours": outcome}), at)
        })?;
        if outcome {
            let head = if head_there.is_some() { caught_up(mirror, &name, base)? } else { base.clone() };
            return Ok((name, head));
        }
    }
    let why = format!(
        "every name like {wanted} is taken on the remote, or a branch there has a part of it as its name; delete or rename that branch, then `orch retry {}`",
        task.key
    );
    Err(Refused::error(why))
}

/// The head of a branch of ours whose creator was killed before it could record it. An empty one is moved up to the
/// current default branch (RUN-3). What somebody pushed to it meanwhile stays, and the run begins there.
fn caught_up(mirror: &Mirror, name: &str, base: &Sha) -> Result<Sha> {
    let Some(head_there) = mirror.remote_head(name)? else {
        return match mirror.push_new_branch(name, base)? {
            PushOutcome::Created | PushOutcome::Same | PushOutcome::Updated => Ok(base.clone()),
            PushOutcome::Rejected { reason, .. } => bail!("the remote refuses branch {name}: {reason}"),
        };
    };
    if head_there == *base {
        return Ok(head_there);
    }
    mirror.fetch_branch(name)?;
    if !mirror.is_ancestor(&head_there, base)? {
        return Ok(head_there);
    }
    Ok(match mirror.push(name, base)? {
        PushOutcome::Created | PushOutcome::Same | PushOutcome::Updated => base.clone(),
        PushOutcome::Rejected { .. } => head_there,
    })
}

/// Recreates a branch that somebody else deleted, at the last known head (RULE-31). Fails if the remote refuses or does
/// not answer. A branch that somebody else has recreated stays as it is.
pub fn restore(ctx: &mut Ctx, id: TaskId, branch: &str) -> Result<()> {
    let task = ctx.task(id)?;
    let head = task.head_sha.clone().context("the task has no pushed head")?;
    let project = ctx.project(&task.project)?.clone();
    let mirror = projects::mirror(ctx, &project)?;
    match services::git(ctx, &project, Access::Push, mirror.push_new_branch(branch, &head))? {
        PushOutcome::Created | PushOutcome::Same | PushOutcome::Updated | PushOutcome::Rejected { moved: true, .. } => {
        }
        PushOutcome::Rejected { reason, .. } => bail!("the remote refuses branch {branch}: {reason}"),
    }
    let at = ctx.now().stamp.wall_ms;
    ctx.store.write(|tx| {
        record::event(tx, at, Some(id), Event::BranchCreated, &json!({"branch": branch, "restored": head}))
    })?;
    ctx.report.did(ActionKind::BranchCreated, Some(task.key.as_str()), json!({"branch": branch, "base": head}));
    Ok(())
}

/// Whether this task made the branch (RULE-11).
pub fn is_ours(ctx: &mut Ctx, task: &Task, branch: &str) -> Result<bool> {
    let row = ctx.store.read(|tx| tx.journal_row(&format!("t{}/branch/{branch}", task.id)))?;
    Ok(row.is_some_and(|r| r.outcome.is_none_or(|o| o["ours"] == true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A missing login holds the task; an account that may not push blocks it, with the way out.
    #[test]
    fn ord_1_an_account_that_may_not_push_is_refused_for_good() {
        let no = |refusal| GitError::Refused {
            what: "push".to_owned(),
            access: Access::Push,
            refusal,
            reason: "no".to_owned(),
        };
        let key = Key::parse("ORCH-1").unwrap();
        let denied = Refused::why(&no_push(no(Refusal::Denied { scope: None }), &key)).unwrap();
        assert!(denied.contains("write access") && denied.ends_with("then `orch retry ORCH-1`"), "{denied}");
        assert!(Refused::why(&no_push(no(Refusal::Archived), &key)).is_some());
        assert!(Refused::why(&no_push(no(Refusal::BadCredential), &key)).is_none());
    }
}
