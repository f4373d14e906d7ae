//! `orch shell` (BND-3).

use crate::adapters::child::ChildError;
use crate::adapters::confine::NoEngine;
use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::open;
use crate::cli::signals::Signals;
use crate::engine::shell::{self, Asks, Open};
use anyhow::Context;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Open a confined shell in a new checkout of a task's branch, deleted afterwards; exit with the shell's code
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch shell ORCH-17\n  echo 'make test' | orch shell ORCH-17")]
pub struct Args {
    /// A task's key, such as ORCH-17; ended tasks too
    #[arg(value_name = "TASK")]
    task: String,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    if call.out.is_json() {
        return Err(Failure::usage("shell has no --json: it prints only the shell's output").hint("leave --json out"));
    }
    let mut ctx = open::on_copy(call, "shell")?;
    let task = open::task(&mut ctx, &args.task)?;
    let signals = Signals::watch()?;
    let ended = signals.flag();
    let resized = Arc::new(AtomicBool::new(false));
    for (signal, flag) in [(signal_hook::consts::SIGHUP, &ended), (signal_hook::consts::SIGWINCH, &resized)] {
        signal_hook::flag::register(signal, Arc::clone(flag)).context("watching signals")?;
    }
    let asks = Asks {
        terminal: std::io::stdin().is_terminal() && call.out.is_terminal(),
        shell: std::env::var_os("SHELL"),
        term: std::env::var_os("TERM"),
        ended: &ended,
        resized: &resized,
        say: &|line| call.out.to_stderr(line),
    };
    match shell::run(&mut ctx, &task, &asks) {
        Ok(code) => Ok(Exit::Child(code)),
        Err(e) => Err(failure(e).task(task.key.to_string())),
    }
}

fn failure(e: anyhow::Error) -> Failure {
    if let Some(open) = e.downcast_ref::<Open>() {
        return Failure::refused(open.to_string()).hint("close it first; a task has one shell at a time");
    }
    if let Some(none) = e.downcast_ref::<NoEngine>() {
        return Failure::new(Exit::Broken, format!("no code of a branch starts here: {}", none.why))
            .hint(&none.way_out);
    }
    if let Some(ChildError::Confinement { .. }) = e.downcast_ref() {
        return Failure::new(Exit::Broken, format!("{e:#}"))
            .hint("`orch doctor` names what is missing on this machine");
    }
    e.into()
}
