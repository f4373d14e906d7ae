//! `orch lease` (CLI-4).

use crate::adapters::process::{self, Life};
use crate::adapters::store::Mode;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::{Invocation, open};
use crate::engine::lease::{self, Broken};
use crate::model::report::{ActionKind, Rule};
use crate::model::task::Lease;
use serde_json::json;
use std::time::Instant;

/// Show or break a repository's merge lease
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch lease show")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show the leases of all repositories, or of one
    #[command(after_help = "Example:\n  orch lease show orchestrator --json")]
    Show {
        /// The repository's name or the project's key; default: all
        #[arg(value_name = "REPO")]
        repo: Option<String>,
    },
    /// Revoke a lease; refused while a deploy has begun and has no result
    #[command(after_help = "Example:\n  orch lease break orchestrator --why 'its host is gone'")]
    Break {
        /// The repository's name or the project's key
        #[arg(value_name = "REPO")]
        repo: String,
        /// The reason, recorded in the audit log
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
}

impl Args {
    /// Whether it takes a lease away (BND-6).
    pub fn changes(&self) -> bool {
        match self.what {
            What::Show { .. } => false,
            What::Break { .. } => true,
        }
    }
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    match &args.what {
        What::Show { repo: name } => show_leases(call, name.as_deref()),
        What::Break { repo: name, why } => break_lease(call, name, why),
    }
}

fn show_leases(call: &Invocation, name: Option<&str>) -> CmdResult {
    let mut ctx = open::view(call, "lease")?;
    let only = name.map(|n| open::repo(&ctx, n)).transpose()?;
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
    let repo = open::repo(&ctx, name)?;
    match lease::break_by_hand(&mut ctx, &repo, why, &process::caller())? {
        Broken::DeployOpen => {
            return Err(Failure::refused(format!("a deploy of {repo} has begun and has no result"))
                .hint("`orch status` shows it; its result frees the lease"));
        }
        Broken::Free => ctx.report.hold(None, Rule::MergeLease, format!("nobody holds the merge lease of {repo}")),
        Broken::Yes => ctx.report.did(ActionKind::LeaseReleased, None, json!({"repo": repo, "why": why})),
    }
    open::finish(call, &mut ctx, start, Exit::Done)
}
