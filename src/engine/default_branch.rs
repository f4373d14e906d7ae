//! A repository's default branch: which one it is, its head, and what follows when the remote names another (ORD-1).

use super::Ctx;
use super::errors::Refused;
use super::messages;
use super::services::{self, Access};
use crate::adapters::git::{GitError, Heads, Mirror};
use crate::config::Project;
use crate::model::card::AlertKind;
use crate::model::event::Event;
use crate::model::ids::Sha;
use anyhow::{Context, Result};
use serde_json::json;

/// The configured default branch, otherwise the one that the remote's HEAD names, cached once known.
pub fn default_branch(ctx: &mut Ctx, project: &Project, mirror: &Mirror) -> Result<String> {
    if let Some(name) = &project.git.default_branch {
        return Ok(name.clone());
    }
    let key = default_key(project);
    if let Some(known) = ctx.store.read(|tx| tx.meta(&key))? {
        return Ok(known);
    }
    let name = match mirror.default_branch() {
        Err(GitError::NotFound { .. }) => return Err(Refused::error(nameless(project, mirror)?)),
        asked => services::git(ctx, project, Access::Read, asked)
            .with_context(|| format!("asking {} for its default branch", project.git.remote))?,
    };
    ctx.store.write(|tx| tx.set_meta(&key, &name))?;
    Ok(name)
}

/// The message that a remote names no default branch, and what to do: it is empty, or its HEAD names a commit or a
/// branch that is gone.
fn nameless(project: &Project, mirror: &Mirror) -> Result<String> {
    let remote = &project.git.remote;
    let branches = mirror.remote_branches().with_context(|| format!("asking {remote} for its branches"))?;
    let names: Vec<&str> = branches.iter().take(5).map(|(name, _)| name.as_str()).collect();
    Ok(if names.is_empty() {
        format!("{remote} is empty: it names no default branch; push a first commit to it")
    } else {
        format!(
            "{remote} names no default branch: its HEAD points to none of its branches ({}{}); set git.default_branch, or point its HEAD to one of them",
            names.join(", "),
            if branches.len() > names.len() { ", ..." } else { "" }
        )
    })
}

/// Fetches the default branch from the remote, with its head there, and follows a new default branch. Fails with a
/// refusal if it is missing for good (ORD-1).
pub fn fetch_default(ctx: &mut Ctx, project: &Project, mirror: &Mirror) -> Result<(String, Sha)> {
    let found = brought_default(ctx, project, mirror);
    services::git(ctx, project, Access::Read, found)
}

fn brought_default(ctx: &mut Ctx, project: &Project, mirror: &Mirror) -> Result<(String, Sha)> {
    let mut name = default_branch(ctx, project, mirror)?;
    if project.git.default_branch.is_none() {
        let asked = mirror
            .glance(&[(&name, None)])
            .with_context(|| format!("asking {} for its default branch", project.git.remote))?;
        if let Some(new) = switched(ctx, project, &name, &asked)? {
            name = new;
        }
    }
    match mirror.bring(&name) {
        Ok(Some(sha)) => return Ok((name, sha)),
        Ok(None) | Err(GitError::NotFound { .. }) => {}
        Err(e) => return Err(e).with_context(|| format!("fetching {name} of {}", project.repo)),
    }
    let new = follow(ctx, project, mirror, &name)?;
    let sha = mirror.fetch_branch(&new)?.with_context(|| format!("{} has no branch {new}", project.git.remote))?;
    Ok((new, sha))
}

/// The new name of a default branch that is gone from the remote, reported once if `git.default_branch` is unset. If it
/// is set, or there is no new name, a refusal that a person lifts (ORD-1).
pub fn follow(ctx: &mut Ctx, project: &Project, mirror: &Mirror, old: &str) -> Result<String> {
    let remote = &project.git.remote;
    let new = match mirror.default_branch() {
        Ok(new) => Some(new).filter(|new| new != old),
        Err(GitError::NotFound { .. }) => None,
        Err(e) => return Err(e).with_context(|| format!("asking {remote} for its default branch")),
    };
    let Some(new) = new else {
        let why = format!("{remote} has no branch {old}; {}", nameless(project, mirror)?);
        return Err(Refused::error(why));
    };
    if project.git.default_branch.is_some() {
        let why = format!(
            "{remote} has no branch {old}, which git.default_branch names; its default branch is {new}: set git.default_branch: {new}, or remove the key"
        );
        return Err(Refused::error(why));
    }
    let why = format!("{old} is gone from the remote, whose default branch is now {new}; orch continues with {new}");
    continue_with(ctx, project, Event::DefaultBranchRenamed, (old, &new), &why)?;
    Ok(new)
}

/// The branch that the remote's HEAD names now, if it differs although `old` still exists. It is followed like a
/// renamed one, with one notice, if `git.default_branch` is unset (ORD-1). `None`: nothing changes, as always while a
/// deploy of the repository is open, which ends on the branch where it began. `asked`: the remote's answer, `old`
/// first.
pub fn switched(ctx: &mut Ctx, project: &Project, old: &str, asked: &Heads) -> Result<Option<String>> {
    let (Some(Some(_)), Some(new), None) = (asked.at.first(), asked.default.as_deref(), &project.git.default_branch)
    else {
        return Ok(None);
    };
    if new == old {
        return Ok(None);
    }
    let open = ctx.store.read(|tx| tx.open_deploys())?;
    if open.iter().any(|deploy| deploy.repo == project.repo) {
        return Ok(None);
    }
    let why = format!(
        "the remote's default branch is now {new} instead of {old}, which still exists; orch continues with {new}, unless git.default_branch names {old}"
    );
    continue_with(ctx, project, Event::DefaultBranchSwitched, (old, new), &why)?;
    Ok(Some(new.to_owned()))
}

fn continue_with(ctx: &mut Ctx, project: &Project, event: Event, (old, new): (&str, &str), why: &str) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    let (key, repo) = (default_key(project), project.repo.clone());
    Ok(ctx.store.write(|tx| {
        if tx.meta(&key)?.as_deref() == Some(new) {
            return Ok(());
        }
        tx.set_meta(&key, new)?;
        super::record::event(tx, at, None, event, &json!({"repo": repo, "from": old, "to": new}))?;
        let n = tx.count_up(&format!("default_branch/renamed/{repo}"), 1)?;
        messages::alert_named(tx, AlertKind::DefaultBranch, &repo, n, why, at)
    })?)
}

fn default_key(project: &Project) -> String {
    format!("default_branch/{}", project.repo)
}
