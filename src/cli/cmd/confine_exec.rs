//! `orch confine-exec` (hidden): the last program before a confined command. Started by a supervisor, never by a person.

use crate::adapters::confine;
use crate::adapters::executor::slurm;
use crate::cli::exit::{CmdResult, Exit};
use anyhow::Context;

/// Lays down what it may do, and becomes the command that its supervisor names
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> CmdResult {
    if slurm::is_node() {
        slurm::serve().context("running a job on this node")?;
        return Ok(Exit::Done);
    }
    Err(confine::exec()).context("confining a command")?
}
