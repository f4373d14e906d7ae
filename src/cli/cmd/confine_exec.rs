//! `orch confine-exec` (hidden): the last program before a confined command. Started by a supervisor, never by a person.

use crate::adapters::confine;
use crate::cli::exit::CmdResult;
use anyhow::Context;

/// Lays down what it may do, and becomes the command that its supervisor names
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> CmdResult {
    Err(confine::exec()).context("confining a command")?
}
