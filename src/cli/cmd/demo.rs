//! `orch demo` (CLI-4).

use crate::cli::exit::{CmdResult, Exit};
use crate::cli::{Invocation, demo};
use std::path::PathBuf;

/// Run the whole pipeline on an example: four work items to production in about a minute
///
/// The repository and its tests are real; the agents are scripts. Needs only git. With gitleaks on PATH or in
/// ORCH_TOOLS_CACHE, one scene leaks a key and the scan catches it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch demo --dir ./tea-shop", args_conflicts_with_subcommands = true)]
pub struct Args {
    /// A new or empty folder to use; default: a temporary one
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Keep the temporary folder; otherwise the next demo deletes it
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
