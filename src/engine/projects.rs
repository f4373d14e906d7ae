//! A project's mirror, board and forge, opened from the configuration.

use super::Ctx;
use super::paths::Paths;
use crate::adapters::board::{self, Board};
use crate::adapters::forge::{self, Forge, Manner};
use crate::adapters::git::{Credential, Mirror, Person};
use crate::adapters::store::StoreError;
use crate::config::{self, Config, Project};
use crate::model::board::Logical;
use crate::model::sides::Opening;
use crate::model::task::Task;
use anyhow::{Context, Result};
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
    super::throttle::pass_silent(ctx, project)?;
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
