//! `orch confine-proxy` (hidden): the only way out of a run's network. Started by a supervisor, never by a person.

use crate::adapters::confine;
use crate::cli::exit::{CmdResult, Exit};
use anyhow::Context;

/// Connects a run to what it may reach, until its supervisor ends
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> CmdResult {
    confine::proxy().context("serving a run's network")?;
    Ok(Exit::Done)
}
