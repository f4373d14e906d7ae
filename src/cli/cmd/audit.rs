//! `orch audit` (CLI-4).

use crate::cli::exit::{CmdResult, Exit};
use crate::cli::{Invocation, open};
use crate::engine::guard;
use serde_json::json;

/// Check the audit log
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orch audit verify")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Verify the audit log's hash chain
    #[command(after_help = "Example:\n  orch audit verify --json")]
    Verify,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let What::Verify = args.what;
    let mut ctx = open::view(call, "audit")?;
    match ctx.store.audit_verify(&guard::stored_tail(&ctx.paths))? {
        Ok(count) => {
            call.out.say(&json!({"ok": true, "events": count}), &format!("the chain holds: {count} events"));
            Ok(Exit::Done)
        }
        Err(broken) => {
            call.out.say(
                &json!({"ok": false, "seq": broken.seq, "why": broken.why}),
                &format!("the chain is broken at event {}: {}", broken.seq, broken.why),
            );
            Ok(Exit::Negative)
        }
    }
}
