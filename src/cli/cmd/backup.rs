//! `orch backup` (CLI-4).

use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::{Invocation, open};
use serde_json::json;
use std::path::PathBuf;

/// Copy the database while it is in use
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch backup /var/backups/orch.db")]
pub struct Args {
    /// Where to write the copy; must not exist yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    if args.file.exists() {
        return Err(Failure::usage(format!("{} is there already", args.file.display()))
            .hint("name a new file; nothing is overwritten"));
    }
    let ctx = open::view(call, "backup")?;
    ctx.store.backup(&args.file)?;
    call.out.say(&json!({"file": args.file}), &format!("copied to {}", args.file.display()));
    Ok(Exit::Done)
}
