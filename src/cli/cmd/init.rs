//! `orch init` (CLI-4).

use crate::cli::Invocation;
use crate::cli::exit::Failure;
use crate::cli::exit::{CmdResult, Exit};
use crate::cli::init::find::Ci;
use crate::cli::init::try_base::{self, Came, Tried};
use crate::cli::init::{Done, find, units, write};
use crate::model::ids::Key;
use anyhow::Context;
use serde_json::json;
use std::io::IsTerminal;

/// Write a commented orch.yaml, the agents' prompts and .gitleaks.toml here; existing files are kept
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cd my-project && orch init && orch doctor\n  orch init --systemd --user")]
pub struct Args {
    /// Prefix of the project's work-item keys; else the remote's name in capitals
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Try the proposed setup and CI on the remote's default branch; exit 1 where they don't pass
    #[arg(long = "try", conflicts_with = "no_try")]
    try_them: bool,
    /// Write the proposals untried
    #[arg(long)]
    no_try: bool,
    /// Take the default answer to each question
    #[arg(long)]
    yes: bool,
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
    let mut project = None;
    let mut proposed = json!({"setup": null, "ci": null});
    let mut tried = None;
    // With a configuration named or found here, only what is missing beside it is of interest.
    if call.global.config.is_none() {
        let mut found = find::around(&dir)?;
        if let Some(key) = &args.key {
            found.key = prefix(key)?;
        }
        let ci = match &found.ci {
            Ci::Command(argv) => json!(argv),
            Ci::Contexts(_) | Ci::UnknownContexts | Ci::None => json!(null),
        };
        proposed = json!({"setup": found.setup, "ci": ci});
        let file = dir.join("orch.yaml");
        let untried = Tried::not(&found);
        let wanted = !file.exists() && untried.is_possible() && wants_try(call, args, &proposed);
        let came = if wanted { try_base::play(&mut found) } else { untried };
        let state = if args.systemd && !args.user { "/var/lib/orch" } else { "~/.local/state/orch" };
        write(&dir, &found, state, &mut done)?;
        if let Err(e) = try_base::keep(&came, &file, &found.key) {
            notes.push(format!("that they passed can't be kept: {e:#}; the first task tries them again"));
        }
        tried = Some(came);
        project = Some(found.key);
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
        next.push("orch tick, yourself or by a timer (orch init --systemd --user)".to_owned());
    }
    if call.out.is_json() {
        let file = dir.join("orch.yaml");
        let of = |came: fn(&Tried) -> Came| tried.as_ref().map_or("none", |t| came(t).as_str());
        call.out.document(&json!({
            "file": file, "added": done.written.contains(&file), "project": project, "wrote": done.written,
            "left": done.left, "tried": {"setup": of(|t| t.setup), "ci": of(|t| t.ci)},
            "line": tried.as_ref().and_then(|t| t.line.clone()),
            "proposed": proposed, "notes": notes, "next": next,
        }));
        return Ok(exit(args, tried.as_ref()));
    }
    for line in tried.iter().flat_map(told) {
        call.out.line(line);
    }
    let shown = |path: &std::path::Path| path.strip_prefix(&dir).unwrap_or(path).display().to_string();
    for path in &done.written {
        call.out.line(format!("wrote  {}", shown(path)));
    }
    for path in &done.left {
        call.out.line(format!("kept   {} (already there)", shown(path)));
    }
    for note in &notes {
        call.out.line(format!("note   {note}"));
    }
    call.out.line("next:");
    for step in &next {
        call.out.line(format!("  {step}"));
    }
    Ok(exit(args, tried.as_ref()))
}

/// `--try` says by its exit whether everything passed; the file is written all the same.
fn exit(args: &Args, tried: Option<&Tried>) -> Exit {
    if args.try_them && tried.is_some_and(|t| !t.passed()) { Exit::Negative } else { Exit::Done }
}

/// Whether the proposals are to be tried: as the flags say, else as a person at the terminal does.
fn wants_try(call: &Invocation, args: &Args, proposed: &serde_json::Value) -> bool {
    let person = std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && !call.out.is_json();
    if args.try_them || args.no_try || !person {
        return args.try_them;
    }
    for (name, key) in [("setup", "worktree.setup"), ("ci", "ci.command")] {
        let words: Vec<&str> = proposed[name].as_array().into_iter().flatten().filter_map(|w| w.as_str()).collect();
        if !words.is_empty() {
            call.out.line(format!("{key}: {}", words.join(" ")));
        }
    }
    if args.yes {
        return true;
    }
    call.out.raw("try them now in a clone of the default branch? [Y/n] ");
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.is_ok_and(|n| n > 0) && !answer.trim().to_lowercase().starts_with('n')
}

/// What became of the proposals, for a person.
fn told(tried: &Tried) -> Vec<String> {
    let one = |name: &str, came: Came| match came {
        Came::Passed => Some(format!("tried  {name} passed")),
        Came::Failed => Some(format!("tried  {name} failed, and is written as a comment")),
        Came::Untried | Came::None => None,
    };
    let line = tried.line.as_ref().map(|l| format!("       {l}"));
    [one("worktree.setup", tried.setup), one("ci.command", tried.ci), line].into_iter().flatten().collect()
}

/// A prefix as keys have it, in capitals. Fails with exit 2.
fn prefix(text: &str) -> Result<String, Failure> {
    let key = text.to_ascii_uppercase();
    match Key::parse(&format!("{key}-1")) {
        Ok(_) => Ok(key),
        Err(_) => Err(Failure::usage(format!("{text:?} can't begin work-item keys"))
            .hint("a letter first, then letters and digits, ten at most: `--key SHOP`")),
    }
}
