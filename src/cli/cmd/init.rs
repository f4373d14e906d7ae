//! `orch init` (CLI-4, ORD-2 to ORD-4).

use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Failure};
use crate::cli::init::join::{self, Asked};
use crate::cli::init::summary::{Summary, say};
use crate::cli::init::trying::Trying;
use crate::cli::init::{ask, install, labels, shells, uninstall, units};
use crate::config::locate;
use anyhow::Context;
use serde_json::json;
use std::path::PathBuf;

/// Set up this repository: write the account's configuration and prompts, or add a project to them
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cd my-project && orch init && orch doctor\n  orch init --systemd --user\n\nThe first call writes $XDG_CONFIG_HOME/orch/orch.yaml and prompts next to it; later calls add a project. In the checkout it writes only .gitleaks.toml: commit that file."
)]
pub struct Args {
    /// Prefix of the project's work-item keys; default: the remote's name in capitals
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    trying: Trying,
    /// Answer each question with its default
    #[arg(long)]
    yes: bool,
    /// Write ./orch.yaml and ./agents for this checkout alone, with its own state directory
    #[arg(long)]
    here: bool,
    /// Also write orch.env, and units and timers for tick, reap and reconcile
    #[arg(long)]
    systemd: bool,
    /// Write units for the user's manager (~/.config/systemd/user) instead of the system's
    #[arg(long)]
    user: bool,
    /// Write the units below DIR, for a package or an image
    #[arg(long, value_name = "DIR")]
    prefix: Option<PathBuf>,
    /// Remove what `init` installed: units, timers, an unchanged orch.env, lingering, completions, manual pages
    #[arg(long, conflicts_with_all = ["key", "here", "systemd"])]
    uninstall: bool,
}

impl Args {
    fn asked(&self) -> Asked<'_> {
        let key = self.key.as_deref();
        Asked { key, trying: &self.trying, yes: self.yes, systemd: self.systemd, user: self.user }
    }
}

pub fn run(call: &Invocation, args: &Args) -> CmdResult {
    let only = [("--user", args.user), ("--prefix", args.prefix.is_some())];
    if let Some((option, _)) = only.iter().find(|(_, given)| *given && !args.systemd && !args.uninstall) {
        return Err(Failure::usage(format!("{option} belongs to --systemd or --uninstall"))
            .hint(format!("orch init --systemd {option}")));
    }
    let dir = std::env::current_dir().context("finding the current folder")?;
    let dir = std::fs::canonicalize(&dir).unwrap_or(dir);
    let place = install::place(call, &dir, args.here)?;
    if args.uninstall {
        let file = Some(&place.file).filter(|file| file.exists());
        return uninstall::run(call, file.map(PathBuf::as_path), args.user, args.prefix.as_deref());
    }
    if args.systemd {
        units::writable(&units::folder(args.user, args.prefix.as_deref()))?;
    }
    let mut summary = Summary { proposed: json!({"setup": null, "ci": null}), ..Summary::default() };
    // Units can be written from anywhere, once there is an installation.
    let outside = place.file.exists() && locate::top(&dir).is_none();
    if !(outside && (args.systemd || labels::has_board(call, &place.file))) {
        join::checkout(call, &args.asked(), &place, &dir, &mut summary)?;
    }
    if !summary.added {
        labels::create(call, &place.file, &mut summary);
    }
    summary.next.push(format!("check {}, then: orch doctor", place.file.display()));
    summary.next.push(match (&summary.project, install::has_several(call, &place.file)) {
        (Some(key), true) => format!("orch new 'A first work item' --project {key}"),
        _ => "orch new 'A first work item'".to_owned(),
    });
    if args.systemd {
        let config = install::config(call, &place.file)?;
        units::install(&config, args.user, args.prefix.as_deref(), &mut summary)?;
    } else {
        summary.next.push("orch tick, manually or by a timer (orch init --systemd --user)".to_owned());
    }
    if args.prefix.is_none()
        && (args.yes || ask::is_person(call))
        && let Some((places, question)) = shells::offered()
        && ask::yes(call, args.yes, &question)
    {
        let note = shells::install(&places, &mut summary.done)?;
        summary.notes.extend(note);
    }
    let exit = args.trying.exit(summary.tried.as_ref());
    say(call, &dir, &place.file, summary);
    Ok(exit)
}
