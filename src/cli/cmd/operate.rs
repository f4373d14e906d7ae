//! The small operating commands (CLI-4): retry, halt, resume, freeze, unfreeze, lease, audit, backup.

use super::tick::project;
use crate::adapters::process::{self, Life};
use crate::adapters::sentinel;
use crate::adapters::store::{Mode, StoreError};
use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::open;
use crate::engine::by_hand::{self, Retried};
use crate::engine::{Ctx, advance, apply, guard, lease, outbox, reap, tick};
use crate::model::report::{ActionKind, Rule};
use crate::model::stage::Stage;
use crate::model::task::Lease;
use anyhow::Context;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

/// Unblock a task and try again with a fresh attempt budget; what waits or was refused is tried at once
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  orch retry ORCH-17\n  orch retry ORCH-17 --from review")]
pub struct Retry {
    /// A task's key, such as ORCH-17
    #[arg(value_name = "TASK")]
    task: String,
    /// Run a red CI again on the same head; no agent starts
    #[arg(long, conflicts_with = "on_red_base")]
    ci: bool,
    /// Start this stage's agent again
    #[arg(long, value_name = "STAGE", value_parser = stage, conflicts_with_all = ["ci", "on_red_base"])]
    from: Option<Stage>,
    /// Let the task start although its repository's base is red: it is to fix it
    #[arg(long)]
    on_red_base: bool,
}

fn stage(text: &str) -> Result<Stage, String> {
    let agents = || Stage::ALL.iter().filter(|s| s.agent().is_some());
    Stage::parse(text).filter(|s| s.agent().is_some()).ok_or_else(|| {
        let names: Vec<&str> = agents().map(|s| s.as_str()).collect();
        format!("no stage with an agent; one of {}", names.join(", "))
    })
}

pub fn retry(call: &Invocation, args: &Retry) -> CmdResult {
    let start = Instant::now();
    let mut ctx = open::step(call, "retry", Mode::Use)?;
    let task = open::task(&mut ctx, &args.task)?;
    let by = process::caller();
    let mut begun = args.on_red_base && by_hand::allow_red_base(&mut ctx, task.id, &by)?;
    let retried = match args.from {
        Some(stage) => by_hand::retry_from(&mut ctx, task.id, stage, &by)?,
        None => by_hand::retry(&mut ctx, task.id, args.ci, &by)?,
    };
    // What a run left and was deferred is finished at once, too.
    reap::resume(&mut ctx)?;
    match retried {
        Retried::Refused(why) => {
            return Err(Failure::refused(why).hint(format!("orch explain {} says what moves it", task.key)));
        }
        Retried::Begun => begun = true,
        Retried::Nothing => {}
    }
    if task.stage.is_terminal() {
        let why = format!("{} is {}: there is nothing to retry", task.key, task.stage);
        ctx.report.hold(Some(task.key.as_str()), Rule::Terminal, why);
    } else if begun {
        advance::noted(&mut ctx, task.id);
        tick::dispatch_jobs(&mut ctx, None, None)?;
        outbox::deliver(&mut ctx);
    } else {
        // Nothing of it waits for a person's word: what holds it is said.
        tick::dispatch_jobs(&mut ctx, None, None)?;
        advance::noted(&mut ctx, task.id);
        outbox::deliver(&mut ctx);
    }
    open::finish(call, &mut ctx, start, Exit::Done)
}

/// Stop starting new work: no agent, no merge, no deploy; running agents continue
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch halt --reason 'the database moves tonight'")]
pub struct Halt {
    /// Shown by `status` and `tick`
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

pub fn halt(call: &Invocation, args: &Halt) -> CmdResult {
    let mut ctx = open::step(call, "halt", Mode::Use)?;
    let new = sentinel::halt(ctx.paths.root(), &args.reason).context("writing HALT")?;
    let at = ctx.now().stamp.wall_ms;
    if new {
        ctx.store.write(|tx| {
            tx.audit(at, None, "halted", &json!({"reason": args.reason, "by": process::caller()})).map(drop)
        })?;
        open::leave(&mut ctx);
    }
    say(
        call,
        json!({"halted": true, "changed": new}),
        if new { "halted: nothing new starts; `orch resume` lifts it" } else { "halted already" },
    );
    Ok(Exit::Done)
}

/// Lift `halt`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch resume && orch tick")]
pub struct Resume {}

pub fn resume(call: &Invocation, _: &Resume) -> CmdResult {
    let mut ctx = open::step(call, "resume", Mode::Use)?;
    let was = sentinel::halted(ctx.paths.root());
    if let Some(why) = &was
        && !guard::may_resume(&mut ctx, why)?
    {
        return Err(Failure::refused(format!("halted: {why}")).hint("orch reconcile --full"));
    }
    sentinel::lift_halt(ctx.paths.root()).context("removing HALT")?;
    if was.is_some() {
        let at = ctx.now().stamp.wall_ms;
        ctx.store.write(|tx| tx.audit(at, None, "resumed", &json!({"was": was, "by": process::caller()})).map(drop))?;
        open::leave(&mut ctx);
    }
    let text = if was.is_some() { "resumed; the next `orch tick` continues" } else { "nothing was halted" };
    say(call, json!({"halted": false, "changed": was.is_some()}), text);
    Ok(Exit::Done)
}

/// Freeze a repository: no new tasks, no deploys, until `orch unfreeze`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch freeze orchestrator --reason 'production is sick'")]
pub struct Freeze {
    /// The repo or the project key
    #[arg(value_name = "REPO")]
    repo: String,
    /// Why; shown by `status` and recorded
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

pub fn freeze(call: &Invocation, args: &Freeze) -> CmdResult {
    let start = Instant::now();
    let mut ctx = open::step(call, "freeze", Mode::Use)?;
    let repo = repo(&ctx, &args.repo)?;
    let at = ctx.now().stamp.wall_ms;
    if ctx.store.write(|tx| apply::freeze_by(tx, &repo, &args.reason, &process::caller(), at))? {
        ctx.report.did(ActionKind::RepoFrozen, None, json!({"repo": repo, "why": args.reason}));
    } else {
        ctx.report.hold(None, Rule::Freeze, format!("{repo} is frozen already"));
    }
    outbox::deliver(&mut ctx);
    open::finish(call, &mut ctx, start, Exit::Done)
}

/// Lift a repository's freeze; nothing else does
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch unfreeze orchestrator")]
pub struct Unfreeze {
    /// The repo or the project key
    #[arg(value_name = "REPO")]
    repo: String,
}

pub fn unfreeze(call: &Invocation, args: &Unfreeze) -> CmdResult {
    let start = Instant::now();
    let mut ctx = open::step(call, "unfreeze", Mode::Use)?;
    let repo = repo(&ctx, &args.repo)?;
    let at = ctx.now().stamp.wall_ms;
    if ctx.store.write(|tx| apply::unfreeze_repo(tx, &repo, &process::caller(), at))? {
        ctx.report.did(ActionKind::RepoUnfrozen, None, json!({"repo": repo}));
    } else {
        ctx.report.hold(None, Rule::Freeze, format!("{repo} is not frozen"));
    }
    outbox::deliver(&mut ctx);
    open::finish(call, &mut ctx, start, Exit::Done)
}

fn repo(ctx: &Ctx, name: &str) -> Result<String, Failure> {
    let key = project(ctx, Some(name))?.unwrap_or_default();
    Ok(ctx.project(&key)?.repo.clone())
}

/// Show or break a repository's merge lease
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch lease show")]
pub struct LeaseArgs {
    #[command(subcommand)]
    what: LeaseWhat,
}

#[derive(Debug, clap::Subcommand)]
enum LeaseWhat {
    /// Every repository's lease, or one
    #[command(after_help = "Example:\n  orch lease show orchestrator --json")]
    Show {
        #[arg(value_name = "REPO")]
        repo: Option<String>,
    },
    /// Revoke a lease; refused while a deploy is initiated without result
    #[command(after_help = "Example:\n  orch lease break orchestrator --why 'its host is gone'")]
    Break {
        #[arg(value_name = "REPO")]
        repo: String,
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
}

impl LeaseArgs {
    /// Whether it takes a lease away (BND-6).
    pub fn changes(&self) -> bool {
        match self.what {
            LeaseWhat::Show { .. } => false,
            LeaseWhat::Break { .. } => true,
        }
    }
}

pub fn lease_cmd(call: &Invocation, args: &LeaseArgs) -> CmdResult {
    match &args.what {
        LeaseWhat::Show { repo: name } => show_leases(call, name.as_deref()),
        LeaseWhat::Break { repo: name, why } => break_lease(call, name, why),
    }
}

fn show_leases(call: &Invocation, name: Option<&str>) -> CmdResult {
    let mut ctx = open::view(call, "lease")?;
    let only = name.map(|n| repo(&ctx, n)).transpose()?;
    let held: Vec<Lease> = ctx
        .store
        .read(|tx| tx.leases())?
        .into_iter()
        .filter(|l| l.task_id.is_some() && only.as_ref().is_none_or(|o| *o == l.repo))
        .collect();
    let mut rows = Vec::new();
    for l in &held {
        let task = l.task_id.and_then(|t| ctx.task(t).ok()).map(|t| t.key.to_string());
        let alive = l.actor.as_ref().is_some_and(|a| process::life(a) == Life::Alive);
        rows.push(json!({"repo": l.repo, "task": task, "fence": l.fence, "since": l.acquired_at.as_ref().map(|s| s.rfc3339()), "alive": alive}));
    }
    if call.out.is_json() {
        call.out.document(&json!({"leases": rows}));
    } else if rows.is_empty() {
        call.out.line("nobody holds a merge lease");
    } else {
        for r in &rows {
            call.out.line(format!(
                "{}  {}  fence {}  since {}",
                r["repo"].as_str().unwrap_or("-"),
                r["task"].as_str().unwrap_or("-"),
                r["fence"],
                r["since"].as_str().unwrap_or("-")
            ));
        }
    }
    Ok(Exit::Done)
}

fn break_lease(call: &Invocation, name: &str, why: &str) -> CmdResult {
    let start = Instant::now();
    let mut ctx = open::step(call, "lease-break", Mode::Use)?;
    let repo = repo(&ctx, name)?;
    let at = ctx.now().stamp.wall_ms;
    let done = ctx.store.write(|tx| {
        let Some(held) = tx.lease(&repo)?.filter(|l| l.task_id.is_some()) else { return Ok(Some(false)) };
        let open = tx.open_deploys()?.iter().any(|d| d.repo == repo && d.state.is_open());
        if open {
            return Ok(None);
        }
        tx.free_lease(&repo, held.fence)?;
        tx.audit(
            at,
            held.task_id,
            "lease_broken",
            &json!({"repo": repo, "fence": held.fence, "why": why, "by": process::caller()}),
        )?;
        Ok::<_, StoreError>(Some(true))
    })?;
    match done {
        None => {
            return Err(Failure::refused(format!("a deploy of {repo} is initiated without result"))
                .hint("`orch status` shows it; its own result frees the lease"));
        }
        Some(false) => ctx.report.hold(None, Rule::MergeLease, format!("nobody holds the merge lease of {repo}")),
        Some(true) => {
            lease::mirror_file(&ctx, None, &repo)?;
            ctx.report.did(ActionKind::LeaseReleased, None, json!({"repo": repo, "why": why}));
        }
    }
    open::finish(call, &mut ctx, start, Exit::Done)
}

/// Check the audit log
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch audit verify")]
pub struct Audit {
    #[command(subcommand)]
    what: AuditWhat,
}

#[derive(Debug, clap::Subcommand)]
enum AuditWhat {
    /// Verify the audit log's hash chain
    #[command(after_help = "Example:\n  orch audit verify --json")]
    Verify,
}

pub fn audit(call: &Invocation, args: &Audit) -> CmdResult {
    let AuditWhat::Verify = args.what;
    let mut ctx = open::view(call, "audit")?;
    match ctx.store.audit_verify(&guard::stored_tail(&ctx.paths))? {
        Ok(count) => {
            say(call, json!({"ok": true, "events": count}), &format!("the chain holds: {count} events"));
            Ok(Exit::Done)
        }
        Err(broken) => {
            say(
                call,
                json!({"ok": false, "seq": broken.seq, "why": broken.why}),
                &format!("the chain is broken at event {}: {}", broken.seq, broken.why),
            );
            Ok(Exit::Negative)
        }
    }
}

/// Copy the database while it is in use
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch backup /var/backups/orch.db")]
pub struct Backup {
    /// The copy, a new file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub fn backup(call: &Invocation, args: &Backup) -> CmdResult {
    if args.file.exists() {
        return Err(Failure::usage(format!("{} is there already", args.file.display()))
            .hint("name a new file; nothing is overwritten"));
    }
    let ctx = open::view(call, "backup")?;
    ctx.store.backup(&args.file)?;
    say(call, json!({"file": args.file}), &format!("copied to {}", args.file.display()));
    Ok(Exit::Done)
}

fn say(call: &Invocation, document: serde_json::Value, text: &str) {
    if call.out.is_json() {
        call.out.document(&document);
    } else {
        call.out.line(text);
    }
}
