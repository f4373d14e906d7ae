//! A project's outside: its mirror, board and forge, opened from the configuration.

use super::Ctx;
use super::refused::Refused;
use crate::adapters::board::plane::ItemPath;
use crate::adapters::board::plane::Plane;
use crate::adapters::board::{Board, local::Local};
use crate::adapters::forge::Forge;
use crate::adapters::forge::local::LocalForge;
use crate::adapters::forge::{Gitea, MergeVia, Place};
use crate::adapters::git::{Credential, GitError, Heads, MergeMethod, Mirror, Person, UpdateMode};
use crate::adapters::http::{Auth, Client, Limits, Token};
use crate::config::{self, Project};
use crate::model::board::Logical;
use crate::model::card::AlertKind;
use crate::model::ids::Sha;
use crate::model::task::Task;
use anyhow::{Context, Result};
use serde_json::json;
use std::collections::BTreeMap;

/// The mirror of a project's repository.
pub fn mirror(ctx: &Ctx, project: &Project) -> Result<Mirror> {
    let credential = match &project.git.credential {
        None => super::github::git_credential(ctx, project)?,
        Some(reference) => {
            let secret = reference.resolve().with_context(|| format!("the git credential of {}", project.key))?;
            let text = secret.expose().trim().to_owned();
            let (user, secret) = text.split_once(':').unwrap_or(("orch", &text));
            Some(Credential::new(user, secret))
        }
    };
    Mirror::open(&ctx.git(), &ctx.paths.mirror(&project.repo), &project.git.remote, credential)
        .with_context(|| format!("opening the mirror of {}", project.repo))
}

/// The mirror as it is, for reading: no credential is resolved and nothing is made. `None` before the first fetch.
pub fn local_mirror(ctx: &Ctx, project: &Project) -> Result<Option<Mirror>> {
    let path = ctx.paths.mirror(&project.repo);
    if !path.join("HEAD").is_file() {
        return Ok(None);
    }
    let mirror = Mirror::open(&ctx.git(), &path, &project.git.remote, None);
    mirror.map(Some).with_context(|| format!("opening the mirror of {}", project.repo))
}

/// The configured default branch, else the one that the remote's HEAD names, remembered once known.
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
        asked => asked.with_context(|| format!("asking {} for its default branch", project.git.remote))?,
    };
    ctx.store.write(|tx| tx.set_meta(&key, &name))?;
    Ok(name)
}

/// That a remote names no default branch, and what to do: it is empty, or its HEAD names a commit or a branch that is gone.
fn nameless(project: &Project, mirror: &Mirror) -> Result<String> {
    let remote = &project.git.remote;
    let branches = mirror.remote_branches().with_context(|| format!("asking {remote} for its branches"))?;
    let names: Vec<&str> = branches.iter().take(5).map(|(name, _)| name.as_str()).collect();
    Ok(if names.is_empty() {
        format!("{remote} is empty: it names no default branch; push a first commit to it")
    } else {
        format!(
            "{remote} names no default branch: its HEAD is on none of its branches ({}{}); set git.default_branch, or let its HEAD name one of them",
            names.join(", "),
            if branches.len() > names.len() { ", ..." } else { "" }
        )
    })
}

/// The default branch, brought from the remote, with where it stands there. Another one there is followed. Fails with a
/// refusal where it is missing for good (ORD-1).
pub fn fetch_default(ctx: &mut Ctx, project: &Project, mirror: &Mirror) -> Result<(String, Sha)> {
    let mut name = default_branch(ctx, project, mirror)?;
    if project.git.default_branch.is_none() {
        let asked =
            mirror.glance(&[&name]).with_context(|| format!("asking {} for its default branch", project.git.remote))?;
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

/// The new name of a default branch that is gone from the remote: told once, where `git.default_branch` is unset; else, or
/// where there is none, a refusal that a person lifts (ORD-1).
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
    let why = format!("{old} is gone from the remote, whose default branch is {new} now; orch continues with {new}");
    continue_with(ctx, project, "default_branch_renamed", (old, &new), &why)?;
    Ok(new)
}

/// The name of the branch that the remote's HEAD names now, where it is another one although `old` is still there: it is
/// followed as one that was renamed, with one notice, where `git.default_branch` is unset (ORD-1). `None`: nothing changes;
/// neither does it while a deploy of the repository is open, which ends where it began. `asked`: what the remote answered,
/// of `old` first.
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
        "the remote's default branch is {new} now and no longer {old}, which is still there; orch continues with {new}, unless git.default_branch names {old}"
    );
    continue_with(ctx, project, "default_branch_switched", (old, new), &why)?;
    Ok(Some(new.to_owned()))
}

fn continue_with(ctx: &mut Ctx, project: &Project, event: &str, (old, new): (&str, &str), why: &str) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    let (key, repo) = (default_key(project), project.repo.clone());
    Ok(ctx.store.write(|tx| {
        if tx.meta(&key)?.as_deref() == Some(new) {
            return Ok(());
        }
        tx.set_meta(&key, new)?;
        tx.audit(at, None, event, &json!({"repo": repo, "from": old, "to": new}))?;
        let n = tx.count_up(&format!("default_branch/renamed/{repo}"), 1)?;
        super::messages::alert_named(tx, AlertKind::DefaultBranch, &repo, n, why, at)
    })?)
}

fn default_key(project: &Project) -> String {
    format!("default_branch/{}", project.repo)
}

/// The project's board; fails as it would while it asks to wait.
pub fn board(ctx: &mut Ctx, project: &Project) -> Result<Board> {
    super::throttle::pass_board(ctx, project)?;
    super::boards::pass_silent(ctx, project)?;
    match &project.board {
        config::Board::Local { dir, statuses, .. } => Ok(Board::Local(Local::new(dir, &project.key, statuses))),
        config::Board::Plane { url, workspace, project: id, api_key, .. } => {
            let secret = api_key.resolve().with_context(|| format!("the Plane key of {}", project.key))?;
            let auth = Auth::Header { name: "x-api-key", scheme: "", value: Token::new(secret.expose().trim()) };
            let http = Client::new(url, auth, Limits::default())?;
            plane(ctx, project, http, workspace, id)
        }
        config::Board::Github(board) => Ok(Board::Github(Box::new(super::github::board(ctx, project, board)?))),
    }
}

fn plane(ctx: &mut Ctx, project: &Project, http: Client, workspace: &str, id: &str) -> Result<Board> {
    let key = place(project, workspace, id);
    let known: Option<(String, String)> =
        ctx.store.read(|tx| tx.meta(&key))?.and_then(|t| serde_json::from_str(&t).ok());
    let (uuid, identifier) = match known {
        Some(found) => found,
        None => {
            let found = crate::adapters::board::plane::find_project(&http, workspace, id)
                .with_context(|| format!("finding project {id} in workspace {workspace}"))?;
            let pair = (found.id, found.identifier);
            let text = serde_json::to_string(&pair)?;
            ctx.store.write(|tx| tx.set_meta(&key, &text))?;
            pair
        }
    };
    let path = match ctx.store.read(|tx| tx.meta(&path_key(project)))?.as_deref() {
        Some("issues") => ItemPath::Issues,
        Some(_) | None => ItemPath::WorkItems,
    };
    Ok(Board::Plane(Box::new(Plane::new(http, workspace, &uuid, &identifier, &project.key, path))))
}

/// Where a person finds a task's work item; `None` on the local board. No request is made.
pub fn item_url(ctx: &mut Ctx, task: &Task) -> Result<Option<String>> {
    let Ok(project) = ctx.project(&task.project).cloned() else { return Ok(None) };
    let config::Board::Plane { url, workspace, project: id, .. } = &project.board else {
        return Ok(super::github::issue_url(&project, &task.item_id));
    };
    let known: Option<(String, String)> =
        ctx.store.read(|tx| tx.meta(&place(&project, workspace, id)))?.and_then(|t| serde_json::from_str(&t).ok());
    let Some((uuid, _)) = known else { return Ok(None) };
    let url = url.trim_end_matches('/');
    // The cloud's API and its pages are on two hosts.
    let url = if url == "https://api.plane.so" { "https://app.plane.so" } else { url };
    Ok(Some(format!("{url}/{workspace}/projects/{uuid}/issues/{}", task.item_id)))
}

/// Where the project's id and identifier are remembered.
fn place(project: &Project, workspace: &str, id: &str) -> String {
    format!("plane/project/{}/{workspace}/{id}", project.key)
}

fn path_key(project: &Project) -> String {
    format!("plane/path/{}", project.key)
}

/// Remembers which path of work items the server has (services §1.9).
pub fn remember_path(ctx: &mut Ctx, project: &Project, path: ItemPath) -> Result<()> {
    let key = path_key(project);
    let known = ctx.store.read(|tx| tx.meta(&key))?;
    let word = path.as_str();
    if known.as_deref().unwrap_or(ItemPath::WorkItems.as_str()) != word && !ctx.dry {
        ctx.store.write(|tx| tx.set_meta(&key, word))?;
    }
    Ok(())
}

/// The configured names of statuses.
pub fn status_names(project: &Project) -> BTreeMap<Logical, String> {
    project.board.statuses().clone()
}

/// Who commits in `orch`'s name.
pub fn author(project: &Project) -> Person {
    Person::new(&project.git.author.name, &project.git.author.email)
}

/// The project's forge; fails as it would while it asks to wait.
pub fn forge(ctx: &mut Ctx, project: &Project) -> Result<Forge> {
    super::throttle::pass_forge(ctx, project)?;
    Ok(match &project.forge {
        config::Forge::Local => Forge::Local(LocalForge { method: method(project), identity: author(project) }),
        config::Forge::Gitea { url, owner, name, token, .. } => {
            let secret = token.resolve().with_context(|| format!("the forge token of {}", project.key))?;
            let place = Place { url, owner, name, method: method(project), via: via(project) };
            Forge::Gitea(Box::new(Gitea::new(&place, Token::new(secret.expose().trim()), Limits::default())?))
        }
        config::Forge::Github(forge) => Forge::Github(Box::new(super::github::forge(ctx, project, forge)?)),
    })
}

/// Who moves the default branch.
pub fn via(project: &Project) -> MergeVia {
    match project.merge.via {
        config::Via::Forge => MergeVia::Forge,
        config::Via::Push => MergeVia::Push,
    }
}

/// How a branch lands.
pub fn method(project: &Project) -> MergeMethod {
    match project.merge.method {
        config::Method::Merge => MergeMethod::Merge,
        config::Method::Rebase => MergeMethod::Rebase,
        config::Method::Squash => MergeMethod::Squash,
    }
}

/// How a branch takes in a moved default branch.
pub fn update_mode(project: &Project) -> UpdateMode {
    match project.merge.update {
        config::Update::Rebase => UpdateMode::Rebase,
        config::Update::Merge => UpdateMode::Merge,
    }
}
