//! `orch demo` (CLI-4).

use crate::cli::Invocation;
use crate::cli::demo;
use crate::cli::exit::{CmdResult, Exit};
use std::path::PathBuf;

/// Show the whole pipeline: a few work items from the board to production, in half a minute and a folder of its own
///
/// A real git repository with real tests, a scripted agent through the ordinary runtime, and this very program for
/// everything else. Needs git and nothing more; with gitleaks on PATH (or ORCH_TOOLS_CACHE) a leaked key is caught, too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch demo --dir ./tea-shop", args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Where to play: a new or empty folder. Absent: a temporary one
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Keep the temporary folder; without this the next demo clears it away
    #[arg(long)]
    keep: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What the demo starts for its own use.
#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Production: serve a folder on a loopback port until standard input ends
    #[command(hide = true)]
    Serve { dir: PathBuf },
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    match &args.part {
        Some(Part::Serve { dir }) => {
            demo::shop::serve(&call.out, dir)?;
            Ok(Exit::Done)
        }
        None => demo::run(call, args.dir.as_deref(), args.keep),
    }
}
