//! `orch completions` and `orch man` (CLI-4): generated from the command line's own definition.

use crate::cli::exit::{CmdResult, Exit};
use crate::cli::init::shells;
use crate::cli::{Invocation, complete};
use anyhow::Context;
use serde_json::json;
use std::path::PathBuf;

/// Print a completion script, which asks `orch` for live keys; the same as `COMPLETE=SHELL orch`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch completions bash > /etc/bash_completion.d/orch")]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

pub fn completions(call: &Invocation, args: &Completions) -> CmdResult {
    let script = complete::script(&args.shell.to_string()).context("making the script")?;
    let script = String::from_utf8_lossy(&script);
    if call.out.is_json() {
        call.out.document(&json!({"shell": args.shell.to_string(), "script": script}));
    } else {
        call.out.raw(&script);
    }
    Ok(Exit::Done)
}

/// Write the manual pages to a folder, one per subcommand
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch man /usr/local/share/man/man1")]
pub struct Man {
    /// The folder, created if missing
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub fn man(call: &Invocation, args: &Man) -> CmdResult {
    let written = shells::pages(&args.dir)?;
    if call.out.is_json() {
        call.out.document(&json!({"files": written}));
    } else {
        call.out.line(format!("{} pages in {}", written.len(), args.dir.display()));
    }
    Ok(Exit::Done)
}
