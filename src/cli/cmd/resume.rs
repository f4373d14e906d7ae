//! `orch resume` (CLI-4).

use crate::adapters::store::Mode;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::{Invocation, open};
use crate::engine::brakes::{self, Resumed};
use serde_json::json;

/// Lift the halt
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch resume && orch tick")]
pub struct Args {}

pub fn run(call: &Invocation, _: &Args) -> CmdResult {
    let mut ctx = open::step(call, "resume", Mode::Use)?;
    let lifted = match brakes::resume(&mut ctx)? {
        Resumed::Refused(why) => {
            return Err(Failure::refused(format!("halted: {why}")).hint("orch reconcile --full"));
        }
        Resumed::Lifted => true,
        Resumed::NotHalted => false,
    };
    if lifted {
        open::leave(&mut ctx);
    }
    let text = if lifted { "resumed; the next `orch tick` continues" } else { "nothing was halted" };
    call.out.say(&json!({"halted": false, "changed": lifted}), text);
    Ok(Exit::Done)
}
