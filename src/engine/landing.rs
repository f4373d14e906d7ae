//! One check of a task's branch, its pull request and the default branch, and its immediate consequences (RULE-5,
//! RULE-31). `decide::landing` says what it means.

use super::services::{self, Access};
use super::{Ctx, mergegate, projects, pulls, view};
use crate::adapters::forge::{PullRequest, PullState};
use crate::adapters::git::{Mirror, line::Ours};
use crate::config::Project;
use crate::decide::gates::{Facts, mergeable};
use crate::decide::landing::{Landing, judge};
use crate::model::branch_write::BranchWrite;
use crate::model::ids::{Sha, TaskId};
use crate::model::landing::{BranchSeen, PullSeen, Seen};
use crate::model::report::{ActionKind, Rule};
use crate::model::stage::Stage;
use crate::model::task::{DeployState, Task};
use crate::model::withdrawal::Withdrawal;
use anyhow::Result;
use serde_json::json;

/// What was found, and what it means.
#[derive(Debug)]
pub struct Checked {
    pub task: Task,
    pub mirror: Mirror,
    pub default_branch: String,
    /// The default branch's tip, in the mirror.
    pub tip: Sha,
    /// The task's branch on the remote.
    pub remote_head: Option<Sha>,
    /// The commit of the default branch that the head was judged on.
    pub base: Sha,
    pub landing: Landing,
}

/// How much a check asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Remote and forge; the check fails if one does not answer.
    Full,
    /// The remote, and the forge if it answers; otherwise the pull request is checked next time.
    Remote,
    /// The same, but accepts an answer of the remote that is less than a second old, unless the pull request is no
    /// longer open: whoever closed it may have done so after that answer.
    Glance,
}

/// Checks remote and forge. `None`: the task has no branch yet. Fails if the remote does not answer.
pub fn check(ctx: &mut Ctx, id: TaskId, depth: Depth) -> Result<Option<Checked>> {
    let now = ctx.now();
    let policy = ctx.policy.clone();
    let (task, released, deploy, others) = ctx.store.read(|tx| {
        let view = view::task(tx, id, &now, None)?;
        let released = policy
            .project(&view.task.project)
            .and_then(|project| mergeable::released_on(&Facts { view: &view, policy: &policy, project }));
        let open = view.deploy.clone().filter(|d| d.attempt == view.task.attempt && d.state == DeployState::Initiated);
        let others = tx.landed_commits(&view.task.repo, id)?;
        Ok::<_, crate::adapters::store::StoreError>((view.task, released, open, others))
    })?;
    let (Some(branch), Some(start), Some(head)) = (task.branch.clone(), task.base_sha.clone(), task.head_sha.clone())
    else {
        return Ok(None);
    };
    // Phase B opened under the certificate; otherwise the gate's answer says on which base this head was judged.
    let (base, head, released) = match (&deploy, released) {
        (Some(d), _) => (d.base.clone(), d.head.clone(), true),
        (None, Some(base)) => (base, head, true),
        (None, None) => (start, head, false),
    };
    let project = ctx.project(&task.project)?.clone();
    let mirror = projects::mirror(ctx, &project)?;
    let default_branch = projects::default_branch(ctx, &project, &mirror)?;
    // The pull request before the base, so that a merge in between can't appear to have left no trace.
    let mut pull = ask_pull(ctx, &project, &task, &default_branch, depth)?;
    let untouched = matches!(pull, PullSeen::None | PullSeen::Open { .. });
    let asked = if depth == Depth::Glance && untouched {
        mirror.glance(&[&default_branch, &branch])
    } else {
        mirror.remote_heads(&[&default_branch, &branch])
    };
    let asked = services::git(ctx, &project, Access::Read, asked)?;
    if projects::switched(ctx, &project, &default_branch, &asked)?.is_some() {
        // Check everything again on the new default branch.
        return check(ctx, id, depth);
    }
    let [tip, remote_head] = <[Option<Sha>; 2]>::try_from(asked.at).unwrap_or_default();
    let Some(tip) = tip else {
        // It was renamed: check everything again under its new name.
        projects::follow(ctx, &project, &mirror, &default_branch)?;
        return check(ctx, id, depth);
    };
    let tip = if mirror.tracking(&default_branch)?.as_ref() == Some(&tip) {
        tip
    } else {
        services::git(ctx, &project, Access::Read, mirror.fetch_branch(&default_branch))?.unwrap_or(tip)
    };
    // A recreated mirror has only the default branch.
    if remote_head.is_some() && !mirror.exists(&head)? {
        services::git(ctx, &project, Access::Read, mirror.fetch_branch(&branch))?;
    }
    if remote_head.is_none() && matches!(pull, PullSeen::Open { .. }) {
        // A merge often deletes the branch with the same click.
        pull = ask_pull(ctx, &project, &task, &default_branch, depth)?;
    }
    let pushed = pushed(ctx, &task)?;
    let line = mirror.line(&base, &tip, Ours { head: &head, pushed: &pushed, others: &others })?;
    let branch = match &remote_head {
        None => BranchSeen::Gone { branch },
        Some(sha) if *sha == head => BranchSeen::AtHead,
        Some(_) => BranchSeen::Elsewhere,
    };
    let landing = judge(&Seen { line, pull, branch, released });
    Ok(Some(Checked { task, mirror, default_branch, tip, remote_head, base, landing }))
}

/// Every commit that `orch` pushed to the task's present branch.
fn pushed(ctx: &mut Ctx, task: &Task) -> Result<Vec<Sha>> {
    let branch = task.branch.as_deref();
    let rows = ctx.store.read(|tx| tx.journal_of(task.id))?;
    let writes = rows.iter().filter_map(|r| BranchWrite::parse(&r.kind, &r.intent));
    let ours = writes.filter(|w| Some(w.branch()) == branch);
    Ok(ours.filter_map(|w| w.own_commit().cloned()).collect())
}

/// Who moved a task's branch to a commit, for its event: a step of `orch` that was killed before it could record its
/// push, or somebody else.
pub fn mover(ctx: &mut Ctx, task: &Task, to: &Sha) -> Result<&'static str> {
    Ok(mover_of(&pushed(ctx, task)?, task.head_sha.as_ref(), to))
}

/// `pushed`: in the order of the pushes. If a commit older than the known head is back, somebody else pushed it.
fn mover_of(pushed: &[Sha], known: Option<&Sha>, to: &Sha) -> &'static str {
    let last = |sha| pushed.iter().rposition(|p| p == sha);
    if last(to) > known.and_then(last) { "orch" } else { "a person" }
}

fn ask_pull(ctx: &mut Ctx, project: &Project, task: &Task, default: &str, depth: Depth) -> Result<PullSeen> {
    let Some(number) = task.pr.as_ref().map(|p| p.number) else { return Ok(PullSeen::None) };
    if !project.forge.is_remote() {
        return Ok(PullSeen::None);
    }
    match services::forge(ctx, project, |forge| forge.pull(number)) {
        Ok(pull) => Ok(seen(number, pull, default)),
        Err(e) if depth != Depth::Full => {
            tracing::warn!(task = %task.key, "pull request {number} will be checked later: {e:#}");
            Ok(PullSeen::None)
        }
        Err(e) => Err(e),
    }
}

fn seen(number: i64, pull: Option<PullRequest>, default: &str) -> PullSeen {
    match pull {
        None => PullSeen::Gone { number },
        Some(p) if p.base != default => PullSeen::Retargeted { number, base: p.base },
        Some(p) if p.merged => PullSeen::Merged { number, commit: p.merge_commit },
        Some(p) => match p.state {
            PullState::Open => PullSeen::Open { number },
            PullState::Closed => PullSeen::Closed { number },
        },
    }
}

/// Applies the immediate consequences: a withdrawal by somebody else holds the task, an untested landing blocks it and
/// freezes the repository, a rewritten history blocks it. `true`: the task must not continue.
pub fn stopped_by(ctx: &mut Ctx, id: TaskId, landing: &Landing) -> Result<bool> {
    match landing {
        Landing::Withdrawn(cause) => pulls::hold(ctx, id, cause)?,
        Landing::Untested { why, .. } => mergegate::block(ctx, id, why, true)?,
        Landing::Rewritten { why } => {
            let key = ctx.task(id)?.key;
            let out = format!(
                "{why}; `orch stop {key}` ends it (To Analyse then starts it on the new history), `orch retry {key}` continues once the old history is back"
            );
            mergegate::block(ctx, id, &out, false)?;
        }
        Landing::Landed { .. }
        | Landing::HeadMoved
        | Landing::BaseMoved
        | Landing::Unsettled { .. }
        | Landing::NotYet => return Ok(false),
    }
    Ok(true)
}

/// The forge says merged but its branch does not show it: check again for as long as `gates.undecided_max_s` lets a
/// gate be undecided, then a person decides.
pub fn unsettled(ctx: &mut Ctx, task: &Task, why: &str) -> Result<()> {
    if super::settle::undecided_for(ctx, task, "landing", true, None)? > ctx.policy.undecided_max_ms {
        return mergegate::block(ctx, task.id, &format!("{why}, for longer than gates.undecided_max_s"), false);
    }
    ctx.report.hold(Some(task.key.as_str()), Rule::Gate, why.to_owned());
    Ok(())
}

/// Before an agent starts, before its push, before a task moves and while it waits for a person (RULE-31): whether
/// somebody else has withdrawn it. Skips tasks that are finished, have no branch, are already held or are being
/// stopped. `true`: it must not continue.
pub fn taken_back(ctx: &mut Ctx, id: TaskId) -> Result<bool> {
    let task = ctx.task(id)?;
    if task.withdrawn.is_some() {
        return Ok(true);
    }
    let nothing = task.stage == Stage::Created || task.stage.is_terminal() || task.branch.is_none();
    if ctx.dry || nothing || task.landed_sha.is_some() || task.stop_requested_at.is_some() {
        return Ok(false);
    }
    let Some(checked) = check(ctx, id, Depth::Glance)? else { return Ok(false) };
    match (&checked.landing, checked.task.blocked_reason.is_some()) {
        // The block already says what to do; an untested landing still freezes the repository.
        (Landing::Untested { why, .. }, true) => freeze(ctx, &checked.task, why).map(|()| true),
        (Landing::Rewritten { .. }, true) => Ok(true),
        (landing, _) => stopped_by(ctx, id, landing),
    }
}

/// The same, ignoring a remote that does not answer.
pub fn check_waiting_deploy(ctx: &mut Ctx, id: TaskId) {
    if let Err(e) = taken_back(ctx, id)
        && let Ok(task) = ctx.task(id)
    {
        tracing::warn!(task = %task.key, "whether somebody else moved it will be checked later: {e:#}");
    }
}

/// Checks every task that waits for a person or is blocked: it does not move, so nothing else would check it (RULE-31).
pub fn check_waiting_deploys(ctx: &mut Ctx, only: Option<&str>) -> Result<()> {
    if ctx.dry {
        return Ok(());
    }
    for task in ctx.store.read(|tx| tx.open_tasks())? {
        let waits = task.waiting_for.is_some() || task.blocked_reason.is_some();
        if waits && task.withdrawn.is_none() && only.is_none_or(|p| p == task.project) && !ctx.interrupted() {
            check_waiting_deploy(ctx, task.id);
        }
    }
    Ok(())
}

fn freeze(ctx: &mut Ctx, task: &Task, why: &str) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    if ctx.store.write(|tx| super::apply::freeze_repo(tx, &task.repo, why, Some(task), at))? {
        ctx.report.did(ActionKind::RepoFrozen, Some(task.key.as_str()), json!({"repo": task.repo, "why": why}));
    }
    Ok(())
}

/// For a stop: the commit of the default branch that contains work of the task, whoever merged it (RULE-28).
pub fn in_default(ctx: &mut Ctx, id: TaskId) -> Result<Option<Sha>> {
    let Some(checked) = check(ctx, id, Depth::Remote)? else { return Ok(None) };
    Ok(match checked.landing {
        Landing::Landed { commit } => Some(commit),
        Landing::Untested { commit, .. } | Landing::Withdrawn(Withdrawal::Merged { commit, .. }) => {
            Some(commit.unwrap_or(checked.tip))
        }
        Landing::Withdrawn(_)
        | Landing::Rewritten { .. }
        | Landing::HeadMoved
        | Landing::BaseMoved
        | Landing::Unsettled { .. }
        | Landing::NotYet => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_was_moved_by_orch_only_where_it_pushed_that_commit_after_the_one_it_knows() {
        let sha = |c: char| Sha::parse(&c.to_string().repeat(40)).unwrap();
        let (a, b, c) = (sha('a'), sha('b'), sha('c'));
        let pushed = [a.clone(), b.clone()];
        for (known, to, by) in [
            (Some(&a), &b, "orch"),
            (None, &a, "orch"),
            (Some(&c), &b, "orch"),
            (Some(&b), &a, "a person"),
            (Some(&b), &b, "a person"),
            (Some(&b), &c, "a person"),
            (None, &c, "a person"),
        ] {
            assert_eq!(mover_of(&pushed, known, to), by, "{known:?} to {to}");
        }
        assert_eq!(mover_of(&[], None, &a), "a person");
    }
}
