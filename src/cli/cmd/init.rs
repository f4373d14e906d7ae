//! `orch init` (CLI-4).

use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit};
use crate::cli::init::{Done, find, units, write};
use anyhow::Context;
use serde_json::json;

/// Write a commented orch.yaml, the agents' prompts and .gitleaks.toml here; nothing that stands is overwritten
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cd my-project && orch init && orch doctor\n  orch init --systemd --user")]
pub struct Args {
    /// Also units and timers for tick, reap and reconcile
    #[arg(long)]
    systemd: bool,
    /// For the user's own manager (~/.config/systemd/user) instead of the system's
    #[arg(long, requires = "systemd")]
    user: bool,
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let dir = std::env::current_dir().context("finding the current folder")?;
    let mut done = Done::default();
    let mut notes = Vec::new();
    // With a configuration named or found here, only what is missing beside it is of interest.
    if call.global.config.is_none() {
        let found = find::around(&dir)?;
        let state = if args.systemd && !args.user { "/var/lib/orch" } else { "~/.local/state/orch" };
        write(&dir, &found, state, &mut done)?;
        notes.extend(found.notes);
    }
    let mut next: Vec<String> =
        ["look at orch.yaml, then: orch doctor", "orch new 'A first work item'"].map(str::to_owned).into();
    if args.systemd {
        let config = if call.global.config.is_none() {
            let env = crate::config::process_env();
            crate::config::load(Some(&dir.join("orch.yaml")), call.global.state_dir.as_deref(), &env, &dir)?
        } else {
            call.config()?
        };
        let program = std::env::current_exe().context("finding this program's own file")?;
        units::write(&units::folder(args.user), args.user, &program, &config, &mut done)?;
        let user = if args.user { "--user " } else { "" };
        next.push(format!("systemctl {user}daemon-reload"));
        next.push(format!("systemctl {user}enable --now orch-tick.timer orch-reap.timer orch-reconcile.timer"));
        if args.user {
            next.push("loginctl enable-linger      # else everything ends when you log out".to_owned());
        } else {
            notes.push(
                "steps and agents of system units run as root; `--user` under an account of their own is safer"
                    .to_owned(),
            );
        }
    } else {
        next.push("orch tick, by hand or by a timer (orch init --systemd --user)".to_owned());
    }
    if call.out.is_json() {
        call.out.document(&json!({"written": done.written, "left": done.left, "notes": notes, "next": next}));
        return Ok(Exit::Done);
    }
    let shown = |path: &std::path::Path| path.strip_prefix(&dir).unwrap_or(path).display().to_string();
    for path in &done.written {
        call.out.line(format!("wrote  {}", shown(path)));
    }
    for path in &done.left {
        call.out.line(format!("left   {} (it stood there)", shown(path)));
    }
    for note in &notes {
        call.out.line(format!("note   {note}"));
    }
    call.out.line("next:");
    for step in &next {
        call.out.line(format!("  {step}"));
    }
    Ok(Exit::Done)
}
