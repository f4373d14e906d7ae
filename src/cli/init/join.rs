//! How a project comes into an installation: from the checkout that `orch init` is called in, or from what `orch project
//! add` names (ORD-2, ORD-3).

use super::find::{self, Found};
use super::install::{self, Outcome, Place, Request};
use super::summary::Summary;
use super::try_base::{self, Tried};
use super::trying::{Trying, proposed};
use super::{Done, ask, scanner};
use crate::adapters::forge::address;
use crate::adapters::store::Mode;
use crate::cli::exit::{Exit, Failure};
use crate::cli::{Invocation, known, open};
use crate::config::locate;
use crate::engine::guards;
use crate::model::ids::Key;
use anyhow::Context;
use std::path::{Path, PathBuf};

/// What the options of `orch init` say.
#[derive(Debug)]
pub struct Asked<'a> {
    pub key: Option<&'a str>,
    pub trying: &'a Trying,
    pub yes: bool,
    pub systemd: bool,
    pub user: bool,
}

/// The project of a checkout: detected, tried if wanted, then written to the installation's file.
pub fn checkout(
    call: &Invocation,
    args: &Asked<'_>,
    place: &Place,
    dir: &Path,
    summary: &mut Summary,
) -> Result<(), Failure> {
    let key = args.key.map(prefix).transpose()?;
    let mut found = find::around(dir)?;
    let top = locate::top(dir).unwrap_or(dir);
    if let Err(why) = writable(top) {
        return Err(Failure::new(Exit::Broken, format!("{} can't be written: {why}", top.display()))
            .hint("nothing was changed; make .gitleaks.toml writable there for this account"));
    }
    let was = install::removed(place, &found);
    if let Some(key) = was.as_ref().filter(|_| args.systemd && args.key.is_none() && !args.yes && !ask::is_person(call))
    {
        return stays_out(call, place, key, summary);
    }
    summary.proposed = proposed(&found);
    let new = !install::is_there(call, place, &found)?;
    let tried = args.trying.play(call, args.yes, &mut found, new);
    let agree = |question: &str| match &was {
        Some(key) => ask::yes(call, args.yes, &format!("{key} was removed before: {question}")),
        None => ask::yes(call, args.yes, question),
    };
    let system = args.systemd && !args.user;
    let request = Request { found: &found, key: key.as_deref(), system, agree: &agree };
    match install::add(call, place, &request, &mut summary.done)? {
        Outcome::Declined => return Err(Failure::refused("nothing was changed")),
        Outcome::There { key, note } => {
            summary.notes.push(format!("already there: {key} in {}", place.file.display()));
            summary.notes.extend(note);
            summary.project = Some(key);
        }
        Outcome::Added(is) => {
            if key.is_none() && is != found.key {
                summary.notes.push(format!("the key {} is taken: this project is {is}; --key decides", found.key));
            }
            if let Some(was) = &was {
                summary
                    .notes
                    .push(format!("{was} was removed from this installation earlier; it is added again as {is}"));
            }
            summary.notes.extend(try_base::kept(&tried, &place.file, &is));
            summary.notes.extend(found.runtime_note(&place.file, &summary.done.written));
            summary.notes.extend(found.notes);
            summary.project = Some(is);
            summary.added = true;
        }
    }
    summary.tried = Some(tried);
    scanner(top, &mut summary.done)?;
    if summary.done.written.iter().any(|path| path.ends_with(".gitleaks.toml")) {
        summary.notes.push("commit .gitleaks.toml: the secret scan reads it from the default branch".to_owned());
    }
    if place.here {
        known::trust(&place.file)?;
    }
    Ok(())
}

/// Installing units alone does not add a removed project again.
fn stays_out(call: &Invocation, place: &Place, key: &str, summary: &mut Summary) -> Result<(), Failure> {
    let why = format!("{key} was removed from {} and stays out", place.file.display());
    let way = "`orch init` in this checkout adds it again";
    if install::is_empty(call, place)? {
        return Err(Failure::refused(format!("{why}, and there is no other project for the timers")).hint(way));
    }
    summary.notes.push(format!("{why}: {way}"));
    Ok(())
}

/// Whether the scanner's file can be written to a checkout.
fn writable(top: &Path) -> Result<(), rustix::io::Errno> {
    if top.join(".gitleaks.toml").symlink_metadata().is_ok() {
        return Ok(());
    }
    rustix::fs::access(top, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
}

/// A project that `orch project add` named, in the installation.
#[derive(Debug)]
pub struct Joined {
    pub key: String,
    /// Not there before.
    pub added: bool,
    pub tried: Tried,
    pub done: Done,
    pub notes: Vec<String>,
}

/// Adds the repository of a checkout or a URL. Fails with exit 2 if `from` is neither, with exit 4 if a person declines.
pub fn named(
    call: &Invocation,
    place: &Place,
    from: &str,
    key: Option<&str>,
    trying: &Trying,
) -> Result<Joined, Failure> {
    let key = key.map(prefix).transpose()?;
    let (mut found, top) = found(call, from, trying)?;
    let agree = |question: &str| ask::yes(call, false, question);
    let new = !install::is_there(call, place, &found)?;
    let tried = trying.play(call, false, &mut found, new);
    let request = Request { found: &found, key: key.as_deref(), system: false, agree: &agree };
    let mut done = Done::default();
    let outcome = install::add(call, place, &request, &mut done)?;
    let mut notes = found.notes.clone();
    let (is, added) = match outcome {
        Outcome::Declined => return Err(Failure::refused("nothing was changed")),
        Outcome::There { key, note } => {
            notes = note.into_iter().collect();
            (key, false)
        }
        Outcome::Added(key) => {
            notes.extend(found.runtime_note(&place.file, &done.written));
            notes.extend(try_base::kept(&tried, &place.file, &key));
            (key, true)
        }
    };
    if let Some(top) = top {
        scanner(&top, &mut done)?;
    }
    if added {
        record(call)?;
    }
    Ok(Joined { key: is, added, tried, done, notes })
}

/// What a checkout or a URL shows, and the root of the checkout.
fn found(call: &Invocation, from: &str, trying: &Trying) -> Result<(Found, Option<PathBuf>), Failure> {
    let path = Path::new(from);
    let there = if path.exists() {
        Some(std::fs::canonicalize(path).with_context(|| format!("finding {from}"))?)
    } else {
        None
    };
    let checkout = there.as_ref().filter(|dir| !is_bare(dir));
    let found = match (checkout, &there) {
        (Some(dir), _) => find::around(dir)?,
        (None, Some(bare)) => of_url(call, &bare.display().to_string(), trying),
        (None, None) if address::is_url(from) => of_url(call, from, trying),
        (None, None) => {
            return Err(Failure::usage(format!("{from} is neither a folder here nor the URL of a repository"))
                .hint("orch project add PATH, or orch project add git@HOST:owner/name.git"));
        }
    };
    Ok((found, checkout.map(|dir| locate::top(dir).unwrap_or(dir).to_owned())))
}

/// Whether a folder is a bare repository, as a remote on this machine is.
fn is_bare(dir: &Path) -> bool {
    dir.join("HEAD").is_file() && dir.join("objects").is_dir() && dir.join("refs").is_dir()
}

/// As `init` detects it in a checkout, from the default branch if that may be read; a URL alone proposes nothing.
fn of_url(call: &Invocation, url: &str, trying: &Trying) -> Found {
    let mut found = find::of_url(url);
    let root = if trying.reads(call, url) {
        try_base::root_of(&found).map_err(|e| format!("the default branch can't be read: {e:#}"))
    } else {
        Err("there is no checkout here to detect them in; `--try` reads the default branch".to_owned())
    };
    found.read(root);
    found
}

/// Records the audit event of adding or removing a project if a state directory exists; otherwise the first step
/// records what there is.
pub fn record(call: &Invocation) -> Result<(), Failure> {
    let Ok(config) = call.config_or_bare() else { return Ok(()) };
    if config.file.as_os_str().is_empty() || !config.state_dir.join("orch.db").exists() {
        return Ok(());
    }
    let mut ctx = open::step(call, "project", Mode::Use)?;
    guards::compare(&mut ctx)?;
    open::leave(&mut ctx);
    Ok(())
}

/// A key prefix, in capitals. Fails with exit 2.
pub fn prefix(text: &str) -> Result<String, Failure> {
    let key = text.to_ascii_uppercase();
    match Key::parse(&format!("{key}-1")) {
        Ok(_) => Ok(key),
        Err(_) => Err(Failure::usage(format!("{text:?} can't begin work-item keys"))
            .hint("use a letter, then at most nine letters or digits: `--key SHOP`")),
    }
}
