//! Effects on a task's branch: looking at it, and bringing it up to the default branch.

use crate::adapters::forge::{PullRequest, PullState};
use crate::adapters::git::{DeleteOutcome, GitError, Mirror, Person, PushOutcome, line::Ours};
use crate::adapters::process::{self, Life};
use crate::config::Project;
use crate::engine::default_branch;
use crate::engine::services::{self, Access};
use crate::engine::{Ctx, approval, artefacts, projects};
use crate::model::branch_write::BranchWrite;
use crate::model::effect::{
    BranchUpdate, Deleted, Depth, HeadSeen, OpenUpdate, Opening, Report, Survey, Surveyed, Updated,
};
use crate::model::ids::Sha;
use crate::model::landing::{BranchSeen, PullSeen};
use crate::model::task::Task;
use anyhow::Result;

/// Looks at remote and forge. Fails if the remote does not answer.
pub fn survey(ctx: &mut Ctx, task: &Task, s: &Survey) -> Result<Surveyed> {
    let project = ctx.project(&task.project)?.clone();
    loop {
        // Another default branch was found: everything is looked at again on it.
        if let Some(found) = once(ctx, task, &project, s)? {
            return Ok(found);
        }
    }
}

fn once(ctx: &mut Ctx, task: &Task, project: &Project, s: &Survey) -> Result<Option<Surveyed>> {
    let mirror = projects::mirror(ctx, project)?;
    let default_branch = default_branch::default_branch(ctx, project, &mirror)?;
    // The pull request before the base, so that a merge in between can't appear to have left no trace.
    let mut pull = ask_pull(ctx, project, task, &default_branch, s.depth)?;
    let untouched = matches!(pull, PullSeen::None | PullSeen::Open { .. });
    let asked = if s.depth == Depth::Glance && untouched {
        mirror.glance(&[(&default_branch, None), (&s.branch, Some(&s.head))])
    } else {
        mirror.remote_heads(&[&default_branch, &s.branch])
    };
    let asked = services::git(ctx, project, Access::Read, asked)?;
    if default_branch::switched(ctx, project, &default_branch, &asked)?.is_some() {
        return Ok(None);
    }
    let [tip, remote_head] = <[Option<Sha>; 2]>::try_from(asked.at).unwrap_or_default();
    let Some(tip) = tip else {
        // It was renamed.
        default_branch::follow(ctx, project, &mirror, &default_branch)?;
        return Ok(None);
    };
    let tip = if mirror.tracking(&default_branch)?.as_ref() == Some(&tip) {
        tip
    } else {
        services::git(ctx, project, Access::Read, mirror.fetch_branch(&default_branch))?.unwrap_or(tip)
    };
    // A recreated mirror has only the default branch.
    if remote_head.is_some() && !mirror.exists(&s.head)? {
        services::git(ctx, project, Access::Read, mirror.fetch_branch(&s.branch))?;
    }
    if remote_head.is_none() && matches!(pull, PullSeen::Open { .. }) {
        // A merge often deletes the branch with the same click.
        pull = ask_pull(ctx, project, task, &default_branch, s.depth)?;
    }
    let pushed = pushed(ctx, task)?;
    let others = ctx.store.read(|tx| tx.landed_commits(&task.repo, task.id))?;
    let line = mirror.line(&s.base, &tip, Ours { head: &s.head, pushed: &pushed, others: &others })?;
    let branch = match &remote_head {
        None => BranchSeen::Gone { branch: s.branch.clone() },
        Some(sha) if *sha == s.head => BranchSeen::AtHead,
        Some(_) => BranchSeen::Elsewhere,
    };
    let updates = open_updates(ctx, task)?;
    Ok(Some(Surveyed { default_branch, tip, remote_head, line, pull, branch, updates }))
}

/// Intents to update the branch that have no outcome, and whether their process may still push.
fn open_updates(ctx: &mut Ctx, task: &Task) -> Result<Vec<OpenUpdate>> {
    let rows = ctx.store.read(|tx| tx.open_intents(task.id))?;
    let ours = rows
        .into_iter()
        .filter(|r| matches!(BranchWrite::parse(&r.kind, &r.intent), Some(BranchWrite::Rebased { .. })));
    let me = ctx.me.clone();
    Ok(ours.map(|r| OpenUpdate { held: r.actor != me && process::life(&r.actor) != Life::Dead, key: r.key }).collect())
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

/// Every commit that `orch` pushed to the task's present branch, in the order of the pushes.
pub fn pushed(ctx: &mut Ctx, task: &Task) -> Result<Vec<Sha>> {
    let branch = task.branch.as_deref();
    let rows = ctx.store.read(|tx| tx.journal_of(task.id))?;
    let writes = rows.iter().filter_map(|r| BranchWrite::parse(&r.kind, &r.intent));
    let ours = writes.filter(|w| Some(w.branch()) == branch);
    Ok(ours.filter_map(|w| w.own_commit().cloned()).collect())
}

/// Reads the commit that the branch was moved to. An update that was not recorded is still ours: the intent names old
/// and new commit (RULE-30).
pub fn read_head(ctx: &mut Ctx, task: &Task, branch: &str, remote: &Sha) -> Result<Report> {
    let project = ctx.project(&task.project)?.clone();
    let mirror = projects::mirror(ctx, &project)?;
    services::git(ctx, &project, Access::Read, mirror.fetch_branch(branch))?;
    let open = ctx.store.read(|tx| tx.open_intents(task.id))?;
    let ours = open.iter().find_map(|r| match BranchWrite::parse(&r.kind, &r.intent)? {
        BranchWrite::Rebased { old, new, base, .. } if new == *remote && Some(&old) == task.head_sha.as_ref() => {
            Some((r.key.clone(), old, base))
        }
        BranchWrite::Rebased { .. } | BranchWrite::Created { .. } | BranchWrite::Pushed { .. } => None,
    });
    if let Some((key, old, base)) = ours {
        let found = compared(&mirror, task, &project, (&old, remote, &base))?;
        return Ok(Report::Head(found.map_or(HeadSeen::Unrelated, |updated| HeadSeen::Ours { key, updated })));
    }
    let tree = mirror.code_tree(remote, &task.key)?;
    let rows = ctx.store.read(|tx| tx.evidence_of(task.id))?;
    let stale = approval::changed(&mirror, &rows, task, remote, tree.as_str())?;
    let pushed = pushed(ctx, task)?;
    Ok(Report::Head(HeadSeen::Other { tree, pushed, stale }))
}

/// Whether the head contains the default branch's tip.
pub fn contains(ctx: &mut Ctx, task: &Task, opening: &Opening) -> Result<Report> {
    let project = ctx.project(&task.project)?.clone();
    let mirror = projects::mirror(ctx, &project)?;
    Ok(Report::Contains(mirror.is_ancestor(&opening.base, &opening.head)?))
}

/// Where the branch is on the remote.
pub fn at(ctx: &mut Ctx, task: &Task, branch: &str) -> Result<Report> {
    let project = ctx.project(&task.project)?.clone();
    let mirror = projects::mirror(ctx, &project)?;
    let default = default_branch::default_branch(ctx, &project, &mirror)?;
    let head = services::git(ctx, &project, Access::Read, mirror.remote_head(branch))?;
    Ok(Report::BranchAt { head, default })
}

/// Deletes a branch at exactly this commit, without force; never the default or a protected one (RULE-11).
pub fn delete(ctx: &mut Ctx, task: &Task, branch: &str, at: &Sha, default: &str) -> Result<Report> {
    let project = ctx.project(&task.project)?.clone();
    let mirror = projects::mirror(ctx, &project)?;
    let done = services::git(ctx, &project, Access::Push, mirror.delete_branch(branch, at, default))?;
    Ok(Report::Deleted(match done {
        DeleteOutcome::Deleted => Deleted::Now,
        DeleteOutcome::Gone => Deleted::Before,
        DeleteOutcome::Kept { reason } => Deleted::Kept { why: reason },
    }))
}

fn author(project: &Project) -> Person {
    Person::new(&project.git.author.name, &project.git.author.email)
}

/// Makes the commit with the branch on top of the default branch, without its documents if they don't land (ORD-6);
/// those are kept in the state directory.
pub fn make_update(ctx: &mut Ctx, task: &Task, u: &BranchUpdate) -> Result<Report> {
    let project = ctx.project(&task.project)?.clone();
    let mirror = projects::mirror(ctx, &project)?;
    let (head, tip) = (&u.old, &u.tip);
    let lands_documents = u.leaves_out && mirror.tree_without_folder(head, &u.key)? != mirror.tree_of(head)?;
    if mirror.is_ancestor(tip, head)? && !lands_documents {
        super::pull::show_ready(ctx, task);
        return Ok(Report::UpToDate);
    }
    if u.leaves_out {
        artefacts::copy(&mirror, head, &u.key, &ctx.paths.evidence(task.id, head))?;
    }
    let author = author(&project);
    let made = mirror
        .update_branch(tip, head, u.mode, &author)
        .and_then(|new| if u.leaves_out { mirror.without_folder(&new, &u.key, &author) } else { Ok(new) });
    match made {
        Ok(new) => Ok(Report::Made { new }),
        Err(GitError::Conflict { paths }) => Ok(Report::Conflict { paths }),
        Err(e) => Err(e.into()),
    }
}

/// Pushes the update over the old head. Where the push failed and the remote has it all the same, it is there.
pub fn push_update(ctx: &mut Ctx, task: &Task, u: &BranchUpdate, new: &Sha) -> Result<Report> {
    let project = ctx.project(&task.project)?.clone();
    let mirror = projects::mirror(ctx, &project)?;
    let pushed = services::git(ctx, &project, Access::Push, mirror.push_with_lease(&u.branch, new, &u.old))?;
    if let PushOutcome::Rejected { reason, moved } = pushed {
        let head = services::git(ctx, &project, Access::Read, mirror.remote_head(&u.branch))?;
        if head.as_ref() != Some(new) {
            return Ok(Report::NotPushed { reason, moved });
        }
    }
    let updated = compared(&mirror, task, &project, (&u.old, new, &u.tip))?;
    Ok(updated.map_or(Report::Unrelated, Report::Updated))
}

/// Compares an update with what was there before; `None`: the two have no history in common. A rebase recreates every
/// commit; only a merge can change something outside the patches. Leaving out documents is our own update, not a patch
/// of the branch (ORD-6).
fn compared(
    mirror: &Mirror,
    task: &Task,
    project: &Project,
    (old, new, base): (&Sha, &Sha, &Sha),
) -> Result<Option<Updated>> {
    let Some(before) = mirror.merge_base(old, base)? else { return Ok(None) };
    let (mut was_old, mut was, mut left_out) = (old.clone(), new.clone(), false);
    if project.deploy.artefacts_after_merge == crate::config::ArtefactsAfterMerge::None {
        was_old = mirror.before_removal(old, &task.key)?.unwrap_or(was_old);
        let removed = mirror.before_removal(new, &task.key)?;
        left_out = removed.is_some();
        was = removed.unwrap_or(was);
    }
    let same_patches = mirror.patch_ids(&before, &was_old)? == mirror.patch_ids(base, &was)?;
    let has_merge = same_patches && mirror.has_merge_commit(base, &was)?;
    let new_paths = has_merge && !mirror.new_paths(&was_old, base, &was)?.is_empty();
    let (from, to) = (mirror.code_tree(old, &task.key)?, mirror.code_tree(new, &task.key)?);
    let (old, new, base) = (old.clone(), new.clone(), base.clone());
    Ok(Some(Updated { old, new, base, from, to, same_patches, has_merge, new_paths, left_out }))
}
