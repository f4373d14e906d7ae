//! L4: words in, words and an exit code out. One file per subcommand under `cmd/`: an `Args` struct and `run`.

pub mod clock;
pub mod cmd;
pub mod exit;
pub mod output;
pub mod signals;

use clap::{Parser, Subcommand};
use exit::{CmdResult, Exit};
use output::Output;
use std::path::PathBuf;

/// From an issue on a board to a healthy deploy, by idempotent steps and no resident process.
#[derive(Debug, Parser)]
#[command(name = "orch", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options that stand before or after any subcommand.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Configuration file; else ./orch.yaml, $XDG_CONFIG_HOME/orch/orch.yaml, /etc/orch/orch.yaml, first found
    #[arg(long, global = true, value_name = "FILE", env = "ORCH_CONFIG")]
    pub config: Option<PathBuf>,
    /// State directory; overrides `state_dir`
    #[arg(long, global = true, value_name = "DIR", env = "ORCH_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// One JSON document on stdout, also for errors
    #[arg(long, global = true)]
    pub json: bool,
    /// Format of the log on stderr
    #[arg(long, global = true, value_name = "FORMAT", value_parser = ["text", "json"], env = "ORCH_LOG_FORMAT", hide_possible_values = true)]
    pub log_format: Option<String>,
    /// More log lines; repeat for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Only errors in the log
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Colours: auto, always or never
    #[arg(long, global = true, value_name = "WHEN", value_parser = ["auto", "always", "never"], default_value = "auto", hide_possible_values = true)]
    pub color: String,
}

/// The subcommands; each one's help is in its own file.
#[derive(Debug, Subcommand)]
pub enum Command {
    SecurityScan(cmd::security_scan::Args),
    StagingCheck(cmd::staging_check::Args),
    PostDeployProbe(cmd::post_deploy_probe::Args),
}

/// What every subcommand gets: the global options and the one place that prints.
#[derive(Debug)]
pub struct Invocation {
    pub global: Global,
    pub out: Output,
}

/// Runs the program on the process's own arguments.
pub fn main() -> std::process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::from_clap(&error).into(),
    };
    let mut call = Invocation { out: Output::new(cli.global.json), global: cli.global };
    let result = dispatch(&mut call, cli.command);
    exit::finish(&call.out, result).into()
}

fn dispatch(call: &mut Invocation, command: Command) -> CmdResult {
    match command {
        Command::SecurityScan(args) => cmd::security_scan::run(call, &args),
        Command::StagingCheck(args) => cmd::staging_check::run(call, &args),
        Command::PostDeployProbe(args) => cmd::post_deploy_probe::run(call, &args),
    }
}

/// Kept so that the type is used before the first subcommand lands.
pub const SUCCESS: Exit = Exit::Done;
