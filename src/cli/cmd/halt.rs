//! `orch halt` (CLI-4).

use crate::adapters::store::Mode;
use crate::cli::exit::{CmdResult, Exit};
use crate::cli::{Invocation, open};
use crate::engine::brakes;
use serde_json::json;

/// Stop starting new work: no agent, no merge, no deploy; running agents continue
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch halt --reason 'moving the database'")]
pub struct Args {
    /// The reason, shown by `status` and `tick`
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let mut ctx = open::step(call, "halt", Mode::Use)?;
    let new = brakes::halt(&mut ctx, &args.reason)?;
    if new {
        open::leave(&mut ctx);
    }
    call.out.say(
        &json!({"halted": true, "changed": new}),
        if new { "halted: nothing new starts; `orch resume` lifts it" } else { "halted already" },
    );
    Ok(Exit::Done)
}
