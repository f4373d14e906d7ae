//! `orch prune` (CLI-4).

use crate::adapters::store::Mode;
use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit};
use crate::cli::open;
use crate::engine::prune;
use serde_json::json;

/// Shown whenever something is pruned.
const AUDIT: &str = "audit rows stay: each hash depends on the one before, and `orch audit verify` checks them all";

/// Delete logs, worktrees and other leftovers of old tasks
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch prune --older-than 90 --dry-run")]
pub struct Args {
    /// Only tasks that ended at least DAYS days ago
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    older_than: u32,
    /// Print what would be deleted; delete nothing
    #[arg(long)]
    dry_run: bool,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let mut ctx = open::step_or_dry(call, "prune", Mode::Use, args.dry_run)?;
    let before = ctx.now().stamp.wall_ms - i64::from(args.older_than).saturating_mul(86_400_000);
    let gone = prune::run(&mut ctx, before)?;
    if call.out.is_json() {
        call.out.document(&json!({
            "removed": gone, "dry_run": args.dry_run, "older_than_days": args.older_than, "audit": AUDIT, "errors": ctx.report.errors,
        }));
    } else {
        for p in &gone {
            call.out.line(format!("{:<10} {:<12} {}", p.kind, p.task.as_deref().unwrap_or("-"), p.path.display()));
        }
        let word = if args.dry_run { "would be deleted" } else { "deleted" };
        call.out.line(format!("{} folders {word}; {AUDIT}", gone.len()));
        for e in &ctx.report.errors {
            tracing::error!("{}", e.message);
        }
    }
    Ok(if ctx.report.errors.is_empty() { Exit::Done } else { Exit::Broken })
}
