//! `orch resume` (CLI-4).

use crate::adapters::store::Mode;
use crate::adapters::{process, sentinel};
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::{Invocation, open};
use crate::engine::guard;
use anyhow::Context;
use serde_json::json;

/// Lift the halt
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch resume && orch tick")]
pub struct Args {}

pub fn run(call: &Invocation, _: &Args) -> CmdResult {
    let mut ctx = open::step(call, "resume", Mode::Use)?;
    let was = sentinel::halted(ctx.paths.root());
    if let Some(why) = &was
        && !guard::may_resume(&mut ctx, why)?
    {
        return Err(Failure::refused(format!("halted: {why}")).hint("orch reconcile --full"));
    }
    sentinel::lift_halt(ctx.paths.root()).context("removing HALT")?;
    if was.is_some() {
        let at = ctx.now().stamp.wall_ms;
        ctx.store.write(|tx| tx.audit(at, None, "resumed", &json!({"was": was, "by": process::caller()})).map(drop))?;
        open::leave(&mut ctx);
    }
    let text = if was.is_some() { "resumed; the next `orch tick` continues" } else { "nothing was halted" };
    call.out.say(&json!({"halted": false, "changed": was.is_some()}), text);
    Ok(Exit::Done)
}
