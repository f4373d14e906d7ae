//! Shared by the subcommands that work on the state directory: configuration, log, database, the named task.

use super::Invocation;
use super::clock;
use super::exit::{CmdResult, Exit, Failure};
use super::signals::Signals;
use crate::adapters::process;
use crate::adapters::sentinel;
use crate::adapters::store::{Mode, Store, StoreError};
use crate::adapters::{modes, net};
use crate::config::{Config, Project};
use crate::engine::{Ctx, binding, guard, guards, repository};
use crate::model::ids::Key;
use crate::model::stage::JobKind;
use crate::model::task::{RunState, Task};
use crate::render::cells::counted;
use anyhow::Context;
use serde_json::json;
use std::path::Path;
use std::time::Instant;

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let hint = match &error {
            StoreError::Newer { .. } => Some("use the orch that wrote it, or a newer one; nothing was changed"),
            StoreError::Broken { .. } => {
                Some("restore the newest backup (docs/operations.md), then run `orch reconcile --full`")
            }
            StoreError::Undecodable(_) => Some(RESTORE),
            StoreError::Locked(_) => Some("another process holds it; run the step again"),
            StoreError::Full(_) => {
                Some("free some space there; running work is not lost, and `orch stop` has reserved space")
            }
            StoreError::Older { .. }
            | StoreError::Missing(_)
            | StoreError::Foreign { .. }
            | StoreError::ReadOnly(_)
            | StoreError::Lost
            | StoreError::Illegal(_)
            | StoreError::Cycle { .. }
            | StoreError::Sql(_) => None,
        };
        let failure = Failure::new(Exit::Broken, error.to_string());
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// A step's context on the real state directory, created if missing.
pub fn step(call: &Invocation, name: &'static str, mode: Mode) -> Result<Ctx, Failure> {
    let config = call.config()?;
    binding::check(&config.state_dir, &config.file)?;
    // Unusual settings are left to `doctor` and `config check`; a variable that nothing reads is reported at once.
    for warning in config.warnings.iter().filter(|w| w.contains("ORCH_")) {
        tracing::warn!("{warning}");
    }
    modes::keep_private();
    sentinel::make_dirs(&config.state_dir)
        .with_context(|| format!("creating the state directory {}", config.state_dir.display()))?;
    let open = guard::close(&config.state_dir)?;
    net::write_bundle(&config.state_dir).map_err(|why| Failure::new(Exit::Broken, why))?;
    guard::before(&config.state_dir, name)?;
    let store = Store::open(&config.state_dir.join("orch.db"), mode)?;
    let mut ctx = context(config, store, name)?;
    guard::enter(&mut ctx)?;
    guard::closed(&mut ctx, open)?;
    binding::take(&mut ctx, false)?;
    repository::apply(&mut ctx);
    Ok(ctx)
}

/// `orch config adopt`: the state directory belongs to this configuration from now on (ORD-3).
pub fn adopt(call: &Invocation) -> CmdResult {
    let config = call.config()?;
    let was = binding::bound(&config.state_dir);
    modes::keep_private();
    sentinel::make_dirs(&config.state_dir)
        .with_context(|| format!("creating the state directory {}", config.state_dir.display()))?;
    guard::before(&config.state_dir, "config")?;
    let store = Store::open(&config.state_dir.join("orch.db"), Mode::Use)?;
    let mut ctx = context(config, store, "config")?;
    guard::enter(&mut ctx)?;
    let changed = binding::take(&mut ctx, true)?;
    leave(&mut ctx);
    let (state, file) = (ctx.paths.root().display(), ctx.config.file.display());
    if call.out.is_json() {
        call.out.document(&json!({
            "file": ctx.config.file, "state_dir": ctx.paths.root(), "was": was, "changed": changed, "errors": [],
        }));
    } else if changed {
        call.out.line(format!("{state} belongs to {file} from now on"));
    } else {
        call.out.line(format!("{state} belongs to {file} already"));
    }
    Ok(Exit::Done)
}

/// A step's context for `--dry-run`: an in-memory copy of the database, and nothing is changed.
pub fn dry(call: &Invocation, name: &'static str) -> Result<Ctx, Failure> {
    let config = bound(call)?;
    let store = Store::copy_of(&config.state_dir.join("orch.db"))?;
    let mut ctx = context(config, store, name)?;
    ctx.dry = true;
    repository::apply(&mut ctx);
    Ok(ctx)
}

/// A context for a command that observes the world and records nothing: an in-memory copy of the database, with the
/// real state directory (mirror, evidence).
pub fn on_copy(call: &Invocation, name: &'static str) -> Result<Ctx, Failure> {
    let config = bound(call)?;
    modes::keep_private();
    sentinel::make_dirs(&config.state_dir)
        .with_context(|| format!("creating the state directory {}", config.state_dir.display()))?;
    let store = Store::copy_of(&config.state_dir.join("orch.db"))?;
    let mut ctx = context(config, store, name)?;
    repository::apply(&mut ctx);
    Ok(ctx)
}

/// A context with another configuration than the real one and an in-memory copy of a database, with which `doctor`
/// contacts the services.
pub fn elsewhere(config: Config, database: &std::path::Path) -> Result<Ctx, Failure> {
    let store = Store::copy_of(database)?;
    context(config, store, "doctor")
}

/// As the flag says. A real step reports changed guard settings (RULE-39); from here on SIGINT and SIGTERM end it
/// between two actions (CLI-5).
pub fn step_or_dry(call: &Invocation, name: &'static str, mode: Mode, dry_run: bool) -> Result<Ctx, Failure> {
    if dry_run {
        return dry(call, name);
    }
    let mut ctx = step(call, name, mode)?;
    ctx.interrupt = Signals::watch()?.flag();
    if let Err(e) = guards::compare(&mut ctx) {
        ctx.report.fault(None, format!("comparing the guard settings with the last step's: {e:#}"), None);
    }
    Ok(ctx)
}

/// A context that only reads; a missing database counts as empty.
pub fn view(call: &Invocation, name: &'static str) -> Result<Ctx, Failure> {
    let config = bound(call)?;
    // Otherwise what is shown would be mistaken for the current state.
    if let Err(e) = guard::machine(&config.state_dir) {
        tracing::error!("no step can run here: {e:#}");
    }
    let path = config.state_dir.join("orch.db");
    let store = if is_there(&path)? { Store::open(&path, Mode::ReadOnly)? } else { Store::copy_of(&path)? };
    let mut ctx = context(config, store, name)?;
    repository::apply(&mut ctx);
    Ok(ctx)
}

/// Whether there is a database. An unreadable state directory does not count as empty: exit 3 (TRUST-3).
fn is_there(database: &Path) -> Result<bool, Failure> {
    database.try_exists().map_err(|e| {
        let dir = database.parent().unwrap_or(database).display();
        Failure::new(Exit::Broken, format!("the state directory {dir} can't be read: {e}"))
            .hint("give this account access to it, or run orch as its owner")
    })
}

/// The configuration, whose state directory belongs to it. Fails with exit 2.
pub fn bound(call: &Invocation) -> Result<Config, Failure> {
    let config = call.config()?;
    binding::check(&config.state_dir, &config.file)?;
    Ok(config)
}

impl From<binding::Other> for Failure {
    fn from(other: binding::Other) -> Self {
        Failure::usage(other.to_string()).hint(other.way_out())
    }
}

fn context(config: Config, store: Store, name: &'static str) -> Result<Ctx, Failure> {
    modes::keep_private();
    let me = process::me().context("finding out which process this is")?;
    Ok(Ctx::new(config, store, me, clock::now, name))
}

/// Records a fault that ended the step's work early; what was done before it stays in the report.
pub fn ended_early(ctx: &mut Ctx, result: anyhow::Result<()>) {
    if let Err(e) = result {
        ctx.report.fault(None, format!("{e:#}"), None);
    }
}

/// The last act of a command that changes something: stores the audit table's tail next to the database (BND-6). A
/// failed write is a fault.
pub fn leave(ctx: &mut Ctx) {
    crate::engine::page::after_step(ctx);
    if let Err(e) = guard::leave(ctx) {
        ctx.report.fault(None, format!("the audit's tail: {e:#}"), None);
    }
    for (task, what) in unread(ctx) {
        ctx.report.fault(task.as_deref(), what, Some(RESTORE.to_owned()));
    }
}

const RESTORE: &str = "it blocks only its own task; restore the row from a backup (docs/operations.md)";

/// The rows that were left out because they can't be decoded (RULE-44): task, and what is wrong.
fn unread(ctx: &Ctx) -> Vec<(Option<String>, String)> {
    let say = |row: crate::adapters::store::Unreadable| {
        let of = row.task.as_deref().map(|key| format!(" of {key}")).unwrap_or_default();
        (row.task, format!("row {} of {}{of} can't be read: {}", row.row, row.table, row.why))
    };
    ctx.store.unreadable().into_iter().map(say).collect()
}

/// Names on stderr what a view had to leave out; otherwise it would seem not to exist.
pub fn warn_of_unread(ctx: &Ctx) {
    for (_, what) in unread(ctx) {
        tracing::error!("{what}; {RESTORE}");
    }
}

/// Prints a step's report and returns its exit code: 3 if any of its own work failed, else `exit`.
pub fn finish(call: &Invocation, ctx: &mut Ctx, start: Instant, exit: Exit) -> CmdResult {
    leave(ctx);
    ctx.report.duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut seen = std::collections::HashSet::new();
    ctx.report.skipped.retain(|h| seen.insert((h.task.clone(), h.rule, h.why.clone())));
    if ctx.report.is_idle() {
        ctx.report.at_work = at_work(ctx);
    }
    if call.global.quiet {
        call.out.faults(&ctx.report);
    } else {
        call.out.step(&ctx.report);
    }
    Ok(if ctx.report.failed() { Exit::Broken } else { exit })
}

/// What continues automatically while a step finds nothing to do; `None`: nothing, or unknown.
fn at_work(ctx: &mut Ctx) -> Option<String> {
    let runs = ctx.store.read(|tx| tx.open_runs()).ok()?;
    let live = runs.iter().filter(|r| matches!(r.state, RunState::Starting | RunState::Live));
    let (agents, jobs): (Vec<_>, Vec<_>) = live.partition(|r| r.kind == JobKind::Agent);
    let said: Vec<String> = [(agents.len(), "agent"), (jobs.len(), "job")]
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| counted(n as u64, what))
        .collect();
    (!said.is_empty()).then(|| format!("{} at work", said.join(" and ")))
}

/// The live or latest task of a key from the command line, in any letter case. An unknown or malformed one is exit 2,
/// with the nearest known key.
pub fn task(ctx: &mut Ctx, text: &str) -> Result<Task, Failure> {
    let key = Key::parse(text).map_err(|e| Failure::usage(e.to_string()))?;
    match ctx.store.read(|tx| tx.task_by_key(&key)) {
        Ok(Some(task)) => return Ok(task),
        Ok(None) => {}
        Err(e @ StoreError::Undecodable(_)) => return Err(Failure::from(e).task(key.to_string())),
        Err(e) => return Err(e.into()),
    }
    let failure = Failure::usage(format!("{key} has no task")).task(key.to_string());
    Err(match nearest(ctx, &key)? {
        Some(near) => failure.hint(format!("did you mean {near}? `orch status` lists the tasks")),
        None => failure.hint("`orch status` lists the tasks; a work item gets one when it is set to To Analyse"),
    })
}

fn nearest(ctx: &mut Ctx, key: &Key) -> Result<Option<String>, Failure> {
    let keys = ctx.store.read(|tx| tx.all_keys())?;
    Ok(keys
        .into_iter()
        .map(|k| (strsim::jaro_winkler(key.as_str(), &k), k))
        .filter(|(score, _)| *score > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k))
}

/// A project named on the command line, by key or repo.
pub fn project(ctx: &Ctx, name: Option<&str>) -> Result<Option<String>, Failure> {
    let Some(name) = name else { return Ok(None) };
    match ctx.config.project(name) {
        Some(p) => Ok(Some(p.key.clone())),
        None => {
            let known: Vec<&str> = ctx.config.projects.iter().map(|p| p.key.as_str()).collect();
            Err(Failure::usage(format!("project {name:?} is not in the configuration"))
                .hint(format!("known: {}", known.join(", "))))
        }
    }
}

/// The project that a command works on: the one it names, else its task's, else the only one. Fails with exit 2.
pub fn project_of(ctx: &Ctx, step: &str, name: Option<&str>, task: Option<&Task>) -> Result<Project, Failure> {
    let key = match (name, task, ctx.config.projects.as_slice()) {
        (Some(name), ..) => project(ctx, Some(name))?.unwrap_or_default(),
        (None, Some(task), _) => task.project.clone(),
        (None, None, [only]) => only.key.clone(),
        (None, None, _) => {
            return Err(Failure::usage(format!("{step} needs --project KEY: there are several projects"))
                .hint("or --checks FILE, which needs no configuration"));
        }
    };
    if let Some(t) = task.filter(|t| t.project != key) {
        return Err(Failure::usage(format!("{} belongs to project {}, not to {key}", t.key, t.project)));
    }
    Ok(ctx.project(&key)?.clone())
}

/// The repository of a project named so. Fails with exit 2 where there is none.
pub fn repo(ctx: &Ctx, name: &str) -> Result<String, Failure> {
    let key = project(ctx, Some(name))?.unwrap_or_default();
    Ok(ctx.project(&key)?.repo.clone())
}
