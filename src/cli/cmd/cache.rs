//! `orch cache drop` (BND-3).

use crate::adapters::store::Mode;
use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit};
use crate::cli::open;
use crate::cli::open::project;
use crate::engine::cache;
use serde_json::json;

/// Delete a repository's base cache, so that the next runs download everything again
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch cache drop orchestrator")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Delete the download and build caches that base checks have filled
    #[command(after_help = "Example:\n  orch cache drop orchestrator")]
    Drop {
        /// The repository's name or the project's key
        #[arg(value_name = "REPO")]
        repo: String,
    },
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let What::Drop { repo } = &args.what;
    let mut ctx = open::step(call, "cache", Mode::Use)?;
    let key = project(&ctx, Some(repo))?.unwrap_or_default();
    let repo = ctx.project(&key)?.repo.clone();
    let there = cache::delete_base(&mut ctx, &repo)?;
    open::leave(&mut ctx);
    if call.out.is_json() {
        call.out.document(&json!({"repo": repo, "dropped": there, "errors": ctx.report.errors}));
    } else if there {
        call.out.line(format!("deleted the base cache of {repo}"));
    } else {
        call.out.line(format!("{repo} has no base cache"));
    }
    Ok(if ctx.report.errors.is_empty() { Exit::Done } else { Exit::Broken })
}
