//! `orch project` (ORD-3): the projects of one installation.

use super::init::{Trying, lines, prefix};
use crate::adapters::forge::address;
use crate::adapters::store::Mode;
use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::init::find::Found;
use crate::cli::init::install::{self, Outcome, Place, Request};
use crate::cli::init::try_base::{self, Tried};
use crate::cli::init::{Done, ask, find, scanner};
use crate::cli::open;
use crate::cli::output;
use crate::config::locate;
use crate::engine::guards;
use anyhow::Context;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Add, list or remove the projects of this installation
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch project add ~/src/api --key API && orch project list")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Add the repository of a checkout, or of a URL
    #[command(
        after_help = "Example:\n  orch project add ~/src/api\n  orch project add git@git.example:team/api.git --key API"
    )]
    Add {
        /// A checkout, or the URL of a repository
        #[arg(value_name = "PATH|URL", default_value = ".")]
        from: String,
        /// Prefix of the project's work-item keys; default: the remote's name in capitals
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        #[command(flatten)]
        trying: Trying,
    },
    /// List every project with its repository and its number of open tasks
    #[command(after_help = "Example:\n  orch project list --json | jq -r '.projects[].key'")]
    List,
    /// Remove a project from the configuration, but keep its record; exit 4 while it has live tasks
    #[command(after_help = "Example:\n  orch project remove API")]
    Remove {
        /// The project's key
        #[arg(value_name = "KEY")]
        key: String,
    },
}

impl Args {
    /// Whether it changes the configuration (BND-6).
    pub fn changes(&self) -> bool {
        !matches!(self.what, What::List)
    }
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    match &args.what {
        What::Add { from, key, trying } => add(call, from, key.as_deref(), trying),
        What::List => list(call),
        What::Remove { key } => remove(call, key),
    }
}

fn add(call: &Invocation, from: &str, key: Option<&str>, trying: &Trying) -> CmdResult {
    let cwd = std::env::current_dir().context("finding the current folder")?;
    let key = key.map(prefix).transpose()?;
    let place: Place = install::place(call, &cwd, false)?;
    let path = Path::new(from);
    let there = if path.exists() {
        Some(std::fs::canonicalize(path).with_context(|| format!("finding {from}"))?)
    } else {
        None
    };
    let checkout = there.as_ref().filter(|dir| !is_bare(dir));
    let mut found = match (checkout, &there) {
        (Some(dir), _) => find::around(dir)?,
        (None, Some(bare)) => of_url(call, &bare.display().to_string(), trying),
        (None, None) if address::is_url(from) => of_url(call, from, trying),
        (None, None) => {
            return Err(Failure::usage(format!("{from} is neither a folder here nor the URL of a repository"))
                .hint("orch project add PATH, or orch project add git@HOST:owner/name.git"));
        }
    };
    let agree = |question: &str| ask::yes(call, false, question);
    let untried = Tried::not(&found);
    let possible = untried.is_possible() && !install::is_there(call, &place, &found)?;
    let tried = if possible && trying.wanted(call, false, &found) { try_base::play(&mut found) } else { untried };
    let request = Request { found: &found, key: key.as_deref(), system: false, agree: &agree };
    let mut done = Done::default();
    let outcome = install::add(call, &place, &request, &mut done)?;
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
    if let Some(top) = checkout.map(|dir| locate::top(dir).unwrap_or(dir)) {
        scanner(top, &mut done)?;
    }
    if added {
        record(call)?;
    }
    let exit = trying.exit(Some(&tried));
    if call.out.is_json() {
        call.out.document(&json!({
            "file": place.file, "added": added, "project": is, "wrote": done.written,
            "tried": tried.json(), "line": tried.line, "notes": notes, "errors": [],
        }));
        return Ok(exit);
    }
    lines(&tried).into_iter().for_each(|line| call.out.line(line));
    let word = if added { "added to" } else { "already there in" };
    call.out.line(format!("{is} {word} {}", place.file.display()));
    notes.iter().for_each(|note| call.out.line(format!("note   {note}")));
    Ok(exit)
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

fn list(call: &Invocation) -> CmdResult {
    let mut ctx = open::view(call, "project")?;
    let open_tasks = ctx.store.read(|tx| tx.open_tasks())?;
    let count = |key: &str| open_tasks.iter().filter(|task| task.project == key).count();
    if call.out.is_json() {
        let rows: Vec<_> = ctx
            .config
            .projects
            .iter()
            .map(|p| json!({"key": p.key, "repo": p.repo, "remote": p.git.remote, "paths": p.paths, "open": count(&p.key)}))
            .collect();
        call.out.document(&json!({"projects": rows, "errors": []}));
        return Ok(Exit::Done);
    }
    let rows = ctx.config.projects.iter().map(|p| {
        let paths = if p.paths.is_empty() { "-".to_owned() } else { p.paths.join(", ") };
        vec![p.key.clone(), p.repo.clone(), p.git.remote.clone(), paths, count(&p.key).to_string()]
    });
    let table = output::table(&["KEY", "REPO", "REMOTE", "PATHS", "OPEN"], rows, call.out.columns());
    call.out.line(table.trim_end());
    Ok(Exit::Done)
}

fn remove(call: &Invocation, name: &str) -> CmdResult {
    let file: PathBuf = {
        let mut ctx = open::view(call, "project")?;
        let key = open::project(&ctx, Some(name))?.unwrap_or_default();
        if !key.eq_ignore_ascii_case(name) {
            return Err(Failure::usage(format!("{name} is a repository's name")).hint(format!("name the key: {key}")));
        }
        let live = ctx.store.read(|tx| tx.open_tasks())?;
        let live: Vec<String> = live.iter().filter(|t| t.project == key).map(|t| t.key.to_string()).collect();
        if let Some(first) = live.first() {
            return Err(Failure::refused(format!("{key} has live tasks: {}", live.join(", ")))
                .hint(format!("let them finish, or stop them first: orch stop {first}")));
        }
        ctx.config.file.clone()
    };
    let key = name.to_ascii_uppercase();
    install::remove(call, &file, &key)?;
    record(call)?;
    if call.out.is_json() {
        call.out.document(&json!({"file": file, "removed": key, "errors": []}));
    } else {
        call.out.line(format!("removed {key} from {}; its record stays", file.display()));
    }
    Ok(Exit::Done)
}
