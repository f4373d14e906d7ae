//! A project's mirror, board and forge, opened from the configuration.

use super::Ctx;
use super::paths::Paths;
use super::refused::Refused;
use super::services::{self, Access};
use crate::adapters::board::{self, Board};
use crate::adapters::forge::{self, Forge, Manner};
use crate::adapters::git::{Credential, GitError, Heads, Mirror, Person};
use crate::adapters::store::StoreError;
use crate::config::{self, Config, Project};
use crate::model::board::Logical;
use crate::model::card::AlertKind;
use crate::model::event::Event;
use crate::model::ids::Sha;
use crate::model::sides::Opening;
use crate::model::task::Task;
use anyhow::{Context, Result};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The mirror of a project's repository.
pub fn mirror(ctx: &Ctx, project: &Project) -> Result<Mirror> {
    let credential = match &project.git.credential {
        None => lent(ctx, project)?,
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

/// The mirror as it is, for reading: no credential is resolved and nothing is created. `None` before the first fetch.
pub fn local_mirror(ctx: &Ctx, project: &Project) -> Result<Option<Mirror>> {
    let path = ctx.paths.mirror(&project.repo);
    if !path.join("HEAD").is_file() {
        return Ok(None);
    }
    let mirror = Mirror::open(&ctx.git(), &path, &project.git.remote, None);
    mirror.map(Some).with_context(|| format!("opening the mirror of {}", project.repo))
}

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
        super::messages::alert_named(tx, AlertKind::DefaultBranch, &repo, n, why, at)
    })?)
}

fn default_key(project: &Project) -> String {
    format!("default_branch/{}", project.repo)
}

/// The inputs for opening a board or forge; its credential is resolved now.
struct With {
    secret: Option<config::Secret>,
    known: BTreeMap<String, String>,
    seen: Option<String>,
    shared: PathBuf,
}

impl With {
    /// `what` is named in the error if the credential can't be read.
    fn new(config: &Config, project: &Project, from: Option<(&str, &config::SecretRef)>, what: &str) -> Result<Self> {
        let resolve = |(_, from): (&str, &config::SecretRef)| from.resolve();
        let secret = from.map(resolve).transpose().with_context(|| format!("the {what} of {}", project.key))?;
        Ok(Self { secret, known: BTreeMap::new(), seen: None, shared: Paths::new(&config.state_dir).tokens() })
    }

    fn opening<'a>(&'a self, config: &Config, project: &'a Project, contact: bool) -> Opening<'a> {
        Opening {
            key: &project.key,
            secret: self.secret.as_ref().map(config::Secret::expose),
            known: &self.known,
            seen: self.seen.as_deref(),
            contact,
            shared: &self.shared,
            write_gap: Duration::from_millis(config.github.write_gap_ms.min(60_000)),
            reserve: config.github.reserve,
            patience: None,
        }
    }
}

/// The values stored under these names.
fn known(ctx: &mut Ctx, names: Vec<String>) -> Result<BTreeMap<String, String>> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    Ok(ctx.store.read(|tx| {
        let mut known = BTreeMap::new();
        for name in names {
            if let Some(value) = tx.meta(&name)? {
                known.insert(name, value);
            }
        }
        Ok::<_, StoreError>(known)
    })?)
}

/// Stores the values that a board or forge wants to keep, if they are new.
fn keep(ctx: &mut Ctx, kept: Vec<(String, String)>) -> Result<()> {
    for (name, value) in kept {
        if ctx.store.read(|tx| tx.meta(&name))?.as_deref() != Some(value.as_str()) {
            ctx.store.write(|tx| tx.set_meta(&name, &value))?;
        }
    }
    Ok(())
}

/// Stores what a board learned during its calls; a dry run stores nothing.
pub fn remember(ctx: &mut Ctx, board: &dyn Board) -> Result<()> {
    if ctx.dry { Ok(()) } else { keep(ctx, board.kept()) }
}

/// The key of the version tag of a board's newest list.
pub fn seen_key(project: &Project) -> String {
    format!("board/seen/{}", project.key)
}

/// The project's board. Fails as the board would while it asks to wait.
pub fn board(ctx: &mut Ctx, project: &Project) -> Result<Box<dyn Board>> {
    super::throttle::pass_board(ctx, project)?;
    super::boards::pass_silent(ctx, project)?;
    let mut with = With::new(&ctx.config, project, project.board.secret(), "board's credential")?;
    with.known = known(ctx, board::keeps(&project.board, &project.key))?;
    if project.board.is_remote() {
        with.seen = ctx.store.read(|tx| tx.meta(&seen_key(project)))?;
    }
    let opened = board::open(&project.board, &with.opening(&ctx.config, project, !ctx.dry));
    let opened = opened.with_context(|| format!("opening the board of {}", project.key))?;
    keep(ctx, opened.kept())?;
    Ok(opened)
}

/// A board without stored values: a folder, or one for `orch init` only.
pub fn plain_board(config: &Config, project: &Project) -> Result<Box<dyn Board>> {
    let with = With::new(config, project, project.board.secret(), "board's credential")?;
    Ok(board::open(&project.board, &with.opening(config, project, false))?)
}

/// Where a person finds a task's work item; `None` where there is no page. No request is made.
pub fn item_url(ctx: &mut Ctx, task: &Task) -> Result<Option<String>> {
    let Ok(project) = ctx.project(&task.project).cloned() else { return Ok(None) };
    let known = known(ctx, board::keeps(&project.board, &project.key))?;
    Ok(board::page_of(&project.board, &project.key, &known, &task.item_id))
}

/// The configured names of statuses.
pub fn status_names(project: &Project) -> BTreeMap<Logical, String> {
    project.board.statuses().clone()
}

/// The author of `orch`'s own commits.
pub fn author(project: &Project) -> Person {
    Person::new(&project.git.author.name, &project.git.author.email)
}

/// The project's forge. Fails as the forge would while it asks to wait.
pub fn forge(ctx: &mut Ctx, project: &Project) -> Result<Box<dyn Forge>> {
    super::throttle::pass_forge(ctx, project)?;
    let mut with = With::new(&ctx.config, project, project.forge.secret(), "forge token")?;
    with.known = known(ctx, forge::keeps(&project.forge, &project.key))?;
    let manner = Manner {
        base: project.git.default_branch.as_deref(),
        method: project.merge.method,
        via: project.merge.via,
        identity: author(project),
    };
    let opened = forge::open(&project.forge, &with.opening(&ctx.config, project, !ctx.dry), manner)?;
    keep(ctx, opened.kept())?;
    Ok(opened)
}

/// The credential for git if `git.credential` is unset: the forge's own, if it is for the same host.
fn lent(ctx: &Ctx, project: &Project) -> Result<Option<Credential>> {
    if !forge::lends(&project.forge, &project.git.remote) {
        return Ok(None);
    }
    let with = With::new(&ctx.config, project, project.forge.secret(), "forge token")?;
    Ok(forge::git_credential(&project.forge, &with.opening(&ctx.config, project, false))?)
}
