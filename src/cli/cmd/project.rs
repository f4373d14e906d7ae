//! `orch project` (ORD-3): the projects of one installation.

use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::init::trying::{Trying, lines};
use crate::cli::init::{install, join};
use crate::cli::{Invocation, open};
use crate::config::Project;
use crate::render::cells;
use anyhow::Context;
use serde_json::json;

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
    let place = install::place(call, &cwd, false)?;
    let joined = join::named(call, &place, from, key, trying)?;
    let join::Joined { key, added, tried, done, notes } = &joined;
    if call.out.is_json() {
        call.out.document(&json!({
            "file": place.file, "added": added, "project": key, "wrote": done.written,
            "tried": tried.json(), "line": tried.line, "notes": notes, "errors": [],
        }));
    } else {
        lines(tried).into_iter().for_each(|line| call.out.line(line));
        let word = if *added { "added to" } else { "already there in" };
        call.out.line(format!("{key} {word} {}", place.file.display()));
        notes.iter().for_each(|note| call.out.line(format!("note   {note}")));
    }
    Ok(trying.exit(Some(tried)))
}

fn list(call: &Invocation) -> CmdResult {
    let mut ctx = open::view(call, "project")?;
    let open_tasks = ctx.store.read(|tx| tx.open_tasks())?;
    let count = |key: &str| open_tasks.iter().filter(|task| task.project == key).count();
    let projects = &ctx.config.projects;
    if call.out.is_json() {
        let row = |p: &Project| json!({"key": p.key, "repo": p.repo, "remote": p.git.remote, "paths": p.paths, "open": count(&p.key)});
        call.out.document(&json!({"projects": projects.iter().map(row).collect::<Vec<_>>(), "errors": []}));
        return Ok(Exit::Done);
    }
    let rows = projects.iter().map(|p| {
        let paths = if p.paths.is_empty() { "-".to_owned() } else { p.paths.join(", ") };
        vec![p.key.clone(), p.repo.clone(), p.git.remote.clone(), paths, count(&p.key).to_string()]
    });
    let table = cells::table(&["KEY", "REPO", "REMOTE", "PATHS", "OPEN"], rows, call.out.columns());
    call.out.line(table.trim_end());
    Ok(Exit::Done)
}

fn remove(call: &Invocation, name: &str) -> CmdResult {
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
    let file = ctx.config.file.clone();
    drop(ctx);
    let key = name.to_ascii_uppercase();
    install::remove(call, &file, &key)?;
    join::record(call)?;
    let document = json!({"file": file, "removed": key, "errors": []});
    call.out.say(&document, &format!("removed {key} from {}; its record stays", file.display()));
    Ok(Exit::Done)
}
