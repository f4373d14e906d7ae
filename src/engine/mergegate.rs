//! The merge gate's action (SHIP-2): take the lease, check, update the branch, record the result for one head.

use super::landing::{self, Checked};
use super::record;
use super::refused::Refused;
use super::services::{self, Access};
use super::{Ctx, apply, approval, artefacts, base, lease, pulls};
use crate::adapters::git::{GitError, Mirror, Person, PushOutcome};
use crate::adapters::process::{self, Life};
use crate::adapters::store::{JournalRow, NewEvidence, StoreError, Tx};
use crate::config::{ArtefactsAfterMerge, Project};
use crate::decide::merge::{self, AtGate};
use crate::model::branch_write::BranchWrite;
use crate::model::change::Change;
use crate::model::decision::{CARRY, Gate};
use crate::model::evidence::{Carry, EvidenceDetail};
use crate::model::ids::{Sha, TaskId};
use crate::model::report::ActionKind;
use crate::model::task::{EvidenceVerdict, Task};
use crate::model::window::Window;
use anyhow::{Context, Result};
use serde_json::json;

/// Brings the branch up to date with the default branch under the lease and records the answer for its head. Does
/// nothing if another task holds the lease or the task moved meanwhile.
pub fn run(ctx: &mut Ctx, id: TaskId) -> Result<()> {
    let ground = base::ensure(ctx, id)?;
    let file_fence = lease::file_fence(ctx, &ground.task.repo);
    let now = ctx.now();
    let me = ctx.me.clone();
    let revision = ground.task.revision;
    let taken = ctx.store.write(|tx| {
        let task = tx.task(id)?;
        if task.revision != revision || (task.stop_requested_at.is_some() && task.critical.is_none()) {
            return Err(StoreError::Lost);
        }
        let before = tx.lease(&task.repo)?.and_then(|l| l.task_id);
        let held = tx.take_lease(&task.repo, id, &me, file_fence, &now.stamp)?;
        if let Some(l) = held.as_ref().filter(|_| before != Some(id)) {
            tx.audit(now.stamp.wall_ms, Some(id), "lease_acquired", &json!({"repo": task.repo, "fence": l.fence}))?;
        }
        Ok(held.map(|l| (l, before != Some(id))))
    });
    let (held, new) = match taken {
        Ok(Some(x)) => x,
        Ok(None) | Err(StoreError::Lost) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let key = ground.task.key.to_string();
    if new {
        ctx.report.did(ActionKind::LeaseAcquired, Some(&key), json!({"repo": held.repo, "fence": held.fence}));
    }
    lease::mirror_file(ctx, Some(&held), &held.repo)?;
    let Some(checked) = landing::check(ctx, id, landing::Depth::Full)? else { return Ok(()) };
    match merge::at_gate(&checked.landing) {
        AtGate::Pass { commit } => {
            let why = format!("it is in the default branch as it was tested, as {}", commit.short());
            let detail = mergeable(held.fence, &checked.base);
            return record(ctx, &checked.task, held.fence, EvidenceVerdict::Pass, &why, detail);
        }
        AtGate::NotYet { why } => return landing::unsettled(ctx, &checked.task, &why),
        AtGate::BringUp => {}
        AtGate::Stopped => {
            // A window that nobody can close any more must not block a stop.
            if checked.task.critical == Some(Window::Update) && abandoned(ctx, checked.task.clone())?.is_none() {
                return Ok(());
            }
            landing::stopped_by(ctx, id, &checked.landing)?;
            return Ok(());
        }
    }
    bring_up(ctx, checked, held.fence)
}

/// Nothing of the task has landed: puts the remote branch on top of the default branch, with a pull request.
fn bring_up(ctx: &mut Ctx, checked: Checked, fence: i64) -> Result<()> {
    let Checked { task, mirror, default_branch, tip, remote_head, .. } = checked;
    let Some(task) = sync_head(ctx, &task, &mirror, remote_head.as_ref())? else { return Ok(()) };
    let task = match task.critical {
        Some(Window::Update) => match abandoned(ctx, task)? {
            Some(task) => task,
            None => return Ok(()),
        },
        Some(Window::Deploy { .. }) | None => task,
    };
    let head = task.head_sha.clone().context("the task has no pushed head")?;
    let project = ctx.project(&task.project)?.clone();
    let task = pulls::ensure(ctx, &project, task, &default_branch, &head)?;
    let lands_documents =
        leaves_out(&project) && mirror.tree_without_folder(&head, &task.key)? != mirror.tree_of(&head)?;
    if mirror.is_ancestor(&tip, &head)? && !lands_documents {
        // Comfort: the merge itself marks it, too.
        if let Some(pr) = task.pr.as_ref().filter(|_| project.forge.is_remote())
            && let Err(e) = services::forge(ctx, &project, |forge| forge.mark_ready(pr.number))
        {
            tracing::warn!(task = %task.key, "the pull request is not marked ready for review yet: {e:#}");
        }
        let why = format!("{} contains {default_branch} at {}", head.short(), tip.short());
        return record(ctx, &task, fence, EvidenceVerdict::Pass, &why, mergeable(fence, &tip));
    }
    update(ctx, &task, &mirror, &tip, &head, fence)
}

/// Adopts the branch's head on the remote. A commit that is not ours is a person's and voids earlier verdicts (RULE-4).
/// `None`: the row changed.
pub fn sync_head(ctx: &mut Ctx, task: &Task, mirror: &Mirror, remote: Option<&Sha>) -> Result<Option<Task>> {
    let branch = task.branch.clone().context("the task has no branch")?;
    let at = ctx.now().stamp.wall_ms;
    let remote = remote.with_context(|| format!("branch {branch} is gone from the remote"))?.clone();
    if task.head_sha.as_ref() == Some(&remote) {
        return Ok(Some(task.clone()));
    }
    let project = ctx.project(&task.project)?.clone();
    services::git(ctx, &project, Access::Read, mirror.fetch_branch(&branch))?;
    // An update that was not recorded is still ours: the intent names old and new commit (RULE-30).
    let open = ctx.store.read(|tx| tx.open_intents(task.id))?;
    let ours = open.iter().find_map(|r| match BranchWrite::parse(&r.kind, &r.intent)? {
        BranchWrite::Rebased { old, new, base, .. } if new == remote && Some(&old) == task.head_sha.as_ref() => {
            Some((r.key.clone(), old, base))
        }
        BranchWrite::Rebased { .. } | BranchWrite::Created { .. } | BranchWrite::Pushed { .. } => None,
    });
    if let Some((key, old, base)) = ours {
        return adopt(ctx, task, mirror, &base, &old, &remote, &key).map(Some);
    }
    let tree = mirror.code_tree(&remote, &task.key)?;
    let id = task.id;
    let rows = ctx.store.read(|tx| tx.evidence_of(id))?;
    let stale = approval::changed(mirror, &rows, task, &remote, tree.as_str())?;
    let by = landing::mover(ctx, task, &remote)?;
    let moved = ctx.store.write(|tx| {
        let mut t = tx.task(id)?;
        if t.revision != task.revision {
            return Err(StoreError::Lost);
        }
        if let Some(row) = &stale {
            tx.add_evidence(&t, row, at)?;
        }
        let head = Change::Head { sha: remote.clone(), tree: tree.to_string() };
        record::changes(tx, &mut t, [Change::CloseWindow, head], at)?;
        tx.audit(at, Some(id), "head_moved", &json!({"from": task.head_sha, "to": remote, "by": by}))?;
        Ok(t)
    });
    match moved {
        Ok(t) => Ok(Some(t)),
        Err(StoreError::Lost) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether nothing of the work item's folder lands (`deploy.artefacts_after_merge: none`).
fn leaves_out(project: &Project) -> bool {
    project.deploy.artefacts_after_merge == ArtefactsAfterMerge::None
}

/// The branch on top of the default branch, without its documents if they don't land (ORD-6); those are kept in the
/// state directory. Fails with `Conflict`.
fn updated(ctx: &Ctx, task: &Task, mirror: &Mirror, tip: &Sha, head: &Sha) -> Result<Sha, GitError> {
    let Ok(project) = ctx.project(&task.project) else { return Ok(head.clone()) };
    let author = Person::new(&project.git.author.name, &project.git.author.email);
    let new = mirror.update_branch(tip, head, project.merge.update, &author)?;
    if !leaves_out(project) {
        return Ok(new);
    }
    mirror.without_folder(&new, &task.key, &author)
}

fn update(ctx: &mut Ctx, task: &Task, mirror: &Mirror, tip: &Sha, head: &Sha, fence: i64) -> Result<()> {
    if ctx.project(&task.project).is_ok_and(leaves_out) {
        artefacts::copy(mirror, head, &task.key, &ctx.paths.evidence(task.id, head))?;
    }
    let new = match updated(ctx, task, mirror, tip, head) {
        Ok(new) => new,
        Err(GitError::Conflict { paths }) => {
            let (why, finding) = merge::conflict(&paths, tip);
            let detail = EvidenceDetail::Mergeable { fence, base: tip.clone(), findings: vec![finding] };
            return record(ctx, task, fence, EvidenceVerdict::Fail, &why, detail);
        }
        Err(e) => return Err(e.into()),
    };
    let branch = task.branch.clone().unwrap_or_default();
    let key = format!("t{}/a{}/rebase/{}/{}", task.id, task.attempt, head.short(), tip.short());
    let now = ctx.now();
    let me = ctx.me.clone();
    let write = BranchWrite::Rebased { branch: branch.clone(), old: head.clone(), new: new.clone(), base: tip.clone() };
    // Opening the window and recording a stop exclude each other here (RULE-16).
    let opened = ctx.store.write(|tx| {
        let mut t = tx.task(task.id)?;
        let ours = tx.lease(&t.repo)?.is_some_and(|l| l.task_id == Some(t.id) && l.fence == fence);
        if t.revision != task.revision || t.stop_requested_at.is_some() || !ours {
            return Err(StoreError::Lost);
        }
        record::change(tx, &mut t, Change::OpenWindow(Window::Update), now.stamp.wall_ms)?;
        tx.intend(&key, Some(t.id), write.kind(), &write.intent(), &me, now.stamp.wall_ms)?;
        Ok(t)
    });
    let task = match opened {
        Ok(t) => t,
        Err(StoreError::Lost) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let project = ctx.project(&task.project)?.clone();
    let pushed = services::git(ctx, &project, Access::Push, mirror.push_with_lease(&branch, &new, head))?;
    match pushed {
        PushOutcome::Created | PushOutcome::Same | PushOutcome::Updated => {}
        PushOutcome::Rejected { reason, moved } => {
            let standing = services::git(ctx, &project, Access::Read, mirror.remote_head(&branch))?;
            if standing.as_ref() != Some(&new) {
                close_window(ctx, &task, &key)?;
                if !moved {
                    let why = format!(
                        "the remote refuses the updated branch {branch}: {reason}; let orch force-push its own branches there, or set merge.update: merge, then `orch retry {}`",
                        task.key
                    );
                    return Err(Refused::error(why));
                }
                return Ok(());
            }
        }
    }
    adopt(ctx, &task, mirror, tip, head, &new, &key)?;
    Ok(())
}

/// An update whose push never reached the remote: closes its window once nobody can push any more, so that a stop does
/// not wait for ever (RULE-16). `None`: another process is working on it.
fn abandoned(ctx: &mut Ctx, task: Task) -> Result<Option<Task>> {
    let rows = ctx.store.read(|tx| tx.open_intents(task.id))?;
    let open: Vec<_> = rows.into_iter().filter(is_update).collect();
    if open.iter().any(|r| r.actor != ctx.me && process::life(&r.actor) != Life::Dead) {
        return Ok(None);
    }
    let at = ctx.now().stamp.wall_ms;
    let done = ctx.store.write(|tx| {
        let mut t = tx.task(task.id)?;
        if t.revision != task.revision {
            return Err(StoreError::Lost);
        }
        record::change(tx, &mut t, Change::CloseWindow, at)?;
        // Without a stop the same update is repeated under the same intent.
        for row in open.iter().filter(|_| t.stop_requested_at.is_some()) {
            tx.record_outcome(&row.key, &json!({"done": false}), at)?;
        }
        Ok(t)
    });
    match done {
        // A stop that waited for this window continues.
        Ok(t) => Ok((t.stop_requested_at.is_none()).then_some(t)),
        Err(StoreError::Lost) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether a row is about an update of ours.
fn is_update(row: &JournalRow) -> bool {
    matches!(BranchWrite::parse(&row.kind, &row.intent), Some(BranchWrite::Rebased { .. }))
}

fn close_window(ctx: &mut Ctx, task: &Task, key: &str) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    ctx.store.write(|tx| {
        let mut t = tx.task(task.id)?;
        record::change(tx, &mut t, Change::CloseWindow, at)?;
        tx.record_outcome(key, &json!({"done": false}), at)
    })?;
    Ok(())
}

/// Records an update of ours that is on the remote: the new head, how it was made from the old one, the gate's answer.
fn adopt(ctx: &mut Ctx, task: &Task, mirror: &Mirror, tip: &Sha, old: &Sha, new: &Sha, key: &str) -> Result<Task> {
    let before = mirror.merge_base(old, tip)?.ok_or_else(|| Refused::unrelated(task, "the default branch"))?;
    // A rebase recreates every commit; only a merge can change something outside the patches. Leaving out documents is
    // our own update, not a patch of the branch (ORD-6).
    let (mut was_old, mut was, mut left_out) = (old.clone(), new.clone(), false);
    if ctx.project(&task.project).is_ok_and(leaves_out) {
        was_old = mirror.before_removal(old, &task.key)?.unwrap_or(was_old);
        let removed = mirror.before_removal(new, &task.key)?;
        left_out = removed.is_some();
        was = removed.unwrap_or(was);
    }
    let same_patches = mirror.patch_ids(&before, &was_old)? == mirror.patch_ids(tip, &was)?;
    let has_merge = same_patches && mirror.has_merge_commit(tip, &was)?;
    let new_paths = has_merge && !mirror.new_paths(&was_old, tip, &was)?.is_empty();
    let equal = merge::is_equal(&merge::Updated { same_patches, has_merge, new_paths });
    let (from, to) = (mirror.code_tree(old, &task.key)?, mirror.code_tree(new, &task.key)?);
    let at = ctx.now().stamp.wall_ms;
    let branch = task.branch.clone().unwrap_or_default();
    let post = ctx.project(&task.project).is_ok_and(|p| p.forge.posts_statuses());
    let done = ctx.store.write(|tx| {
        let mut t = tx.task(task.id)?;
        // The process that pushed it and a step that found it on the remote may both get here: only one adopts it
        // (RULE-7).
        if t.head_sha.as_ref() == Some(new) {
            return Ok((t, false));
        }
        t.apply(Change::CloseWindow)?;
        t.apply(Change::Head { sha: new.clone(), tree: to.to_string() })?;
        let carry = NewEvidence {
            gate: CARRY,
            run_id: None,
            sha: new.clone(),
            code_tree: to.to_string(),
            verdict: EvidenceVerdict::Pass,
            why: format!(
                "updated onto {}{}",
                tip.short(),
                if equal { ", every patch equal" } else { ", patches changed" }
            ),
            detail: EvidenceDetail::Carry(Carry::Update {
                from: from.to_string(),
                from_sha: old.clone(),
                equal,
                left_out,
            }),
        };
        tx.add_evidence(&t, &carry, at)?;
        tx.record_outcome(key, &json!({"done": true}), at)?;
        tx.audit(
            at,
            Some(t.id),
            "branch_rebased",
            &json!({"from": old, "to": new, "base": tip, "equal_patches": equal}),
        )?;
        if let Some(l) = tx.lease(&t.repo)?.filter(|l| l.task_id == Some(t.id)) {
            let why = format!("updated to {} on {}", new.short(), tip.short());
            add(tx, &t, EvidenceVerdict::Pass, &why, mergeable(l.fence, tip), at, post)?;
        }
        if post && equal {
            super::messages::forge_statuses_again(tx, &t, at)?;
        }
        record::touch(tx, &mut t, at)?;
        Ok::<_, StoreError>((t, true))
    })?;
    let (adopted, first) = done;
    if first {
        let what = json!({"branch": branch, "from": old, "to": new});
        ctx.report.did(ActionKind::BranchRebased, Some(task.key.as_str()), what);
    }
    Ok(adopted)
}

/// The gate's answer under a fence of the lease, on a commit of the default branch.
fn mergeable(fence: i64, base: &Sha) -> EvidenceDetail {
    EvidenceDetail::Mergeable { fence, base: base.clone(), findings: Vec::new() }
}

fn add(
    tx: &Tx<'_>,
    task: &Task,
    verdict: EvidenceVerdict,
    why: &str,
    detail: EvidenceDetail,
    at: i64,
    post: bool,
) -> crate::adapters::store::Result<()> {
    let Some(sha) = task.head_sha.clone() else { return Ok(()) };
    let row = NewEvidence {
        gate: Gate::BranchMergeable.as_str(),
        run_id: None,
        sha,
        code_tree: task.head_tree.clone().unwrap_or_default(),
        verdict,
        why: why.to_owned(),
        detail,
    };
    tx.add_evidence(task, &row, at)?;
    if post {
        super::messages::forge_status(tx, task, &row, at)?;
    }
    Ok(())
}

/// Records the gate's answer while the lease is still ours.
pub fn record(
    ctx: &mut Ctx,
    task: &Task,
    fence: i64,
    verdict: EvidenceVerdict,
    why: &str,
    detail: EvidenceDetail,
) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    let post = ctx.project(&task.project).is_ok_and(|p| p.forge.posts_statuses());
    let done = ctx.store.write(|tx| {
        let mut t = tx.task(task.id)?;
        let ours = tx.lease(&t.repo)?.is_some_and(|l| l.task_id == Some(t.id) && l.fence == fence);
        if !ours || t.revision != task.revision {
            return Err(StoreError::Lost);
        }
        add(tx, &t, verdict, why, detail.clone(), at, post)?;
        tx.audit(
            at,
            Some(t.id),
            "gate",
            &json!({"gate": "branch_mergeable", "verdict": verdict, "why": why, "head": t.head_sha}),
        )?;
        record::touch(tx, &mut t, at)
    });
    match done {
        Ok(()) | Err(StoreError::Lost) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Blocks a task from inside an effect.
pub fn block(ctx: &mut Ctx, id: TaskId, why: &str, freeze: bool) -> Result<()> {
    let now = ctx.now();
    let at = now.stamp.wall_ms;
    let (key, repo, frozen) = ctx.store.write(|tx| {
        let view = super::view::task(tx, id, &now, None)?;
        let mut task = view.task.clone();
        apply::block(tx, &view, &mut task, why, None, at)?;
        let frozen = freeze && apply::freeze_repo(tx, &task.repo, why, Some(&task), at)?;
        Ok::<_, StoreError>((task.key.to_string(), task.repo.clone(), frozen))
    })?;
    ctx.report.did(ActionKind::TaskBlocked, Some(&key), json!({"why": why}));
    if frozen {
        ctx.report.did(ActionKind::RepoFrozen, Some(&key), json!({"repo": repo, "why": why}));
    }
    Ok(())
}
