//! `orch unfreeze` (CLI-4).

use crate::adapters::process;
use crate::adapters::store::Mode;
use crate::cli::exit::{CmdResult, Exit};
use crate::cli::{Invocation, open};
use crate::engine::{apply, outbox};
use crate::model::report::{ActionKind, Rule};
use serde_json::json;
use std::time::Instant;

/// Lift a repository's freeze; nothing else lifts it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch unfreeze orchestrator")]
pub struct Args {
    /// The repository's name or the project's key
    #[arg(value_name = "REPO")]
    repo: String,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let start = Instant::now();
    let mut ctx = open::step(call, "unfreeze", Mode::Use)?;
    let repo = open::repo(&ctx, &args.repo)?;
    let at = ctx.now().stamp.wall_ms;
    if ctx.store.write(|tx| apply::unfreeze_repo(tx, &repo, &process::caller(), at))? {
        ctx.report.did(ActionKind::RepoUnfrozen, None, json!({"repo": repo}));
    } else {
        ctx.report.hold(None, Rule::Freeze, format!("{repo} is not frozen"));
    }
    outbox::deliver(&mut ctx);
    open::finish(call, &mut ctx, start, Exit::Done)
}
