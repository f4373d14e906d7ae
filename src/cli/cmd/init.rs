//! `orch init` (CLI-4, ORD-2 to ORD-4).

use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::cli::init::find::{Ci, Found};
use crate::cli::init::install::{Outcome, Place, Request};
use crate::cli::init::try_base::{self, Came, Tried};
use crate::cli::init::{Done, ask, envfile, find, install, scanner, shells, uninstall, units};
use crate::cli::known;
use crate::config::{Config, Project, load, locate, process_env};
use crate::engine::projects;
use crate::model::ids::Key;
use anyhow::Context;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

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

/// Whether the proposals are tried (ORD-2).
#[derive(Debug, clap::Args)]
pub struct Trying {
    /// Run the proposed setup and CI on the remote's default branch; exit 1 if they fail
    #[arg(long = "try", conflicts_with = "no_try")]
    try_them: bool,
    /// Write the proposed setup and CI without running them
    #[arg(long)]
    no_try: bool,
}

impl Trying {
    /// The flags decide; without them, the person at the terminal.
    pub fn wanted(&self, call: &Invocation, yes: bool, found: &Found) -> bool {
        if self.try_them || self.no_try || !ask::is_person(call) {
            return self.try_them;
        }
        let proposed = proposed(found);
        for (name, key) in [("setup", "worktree.setup"), ("ci", "ci.command")] {
            let words: Vec<&str> = proposed[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if !words.is_empty() {
                call.out.line(format!("{key}: {}", words.join(" ")));
            }
        }
        ask::yes(call, yes, "run them now in a clone of the default branch?")
    }

    /// Whether to read the default branch of a repository without a checkout here, to propose how to test it (ORD-2).
    pub fn reads(&self, call: &Invocation, url: &str) -> bool {
        if self.try_them || self.no_try || !ask::is_person(call) {
            return self.try_them;
        }
        ask::yes(call, false, &format!("read the default branch of {url}, to propose setup and CI?"))
    }

    /// The exit code of `--try` says whether everything passed; the file is written in any case.
    pub fn exit(&self, tried: Option<&Tried>) -> Exit {
        if self.try_them && tried.is_some_and(|t| !t.passed()) { Exit::Negative } else { Exit::Done }
    }
}

/// What a call did, and what a person should know and do.
#[derive(Debug, Default)]
struct Summary {
    done: Done,
    notes: Vec<String>,
    next: Vec<String>,
    project: Option<String>,
    added: bool,
    proposed: Value,
    tried: Option<Tried>,
    labels: Vec<String>,
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
    if !(outside && (args.systemd || has_labels(call, &place.file))) {
        project(call, args, &place, &dir, &mut summary)?;
    }
    if !summary.added {
        labels(call, &place.file, &mut summary);
    }
    summary.next.push(format!("check {}, then: orch doctor", place.file.display()));
    summary.next.push(match (&summary.project, several(call, &place.file)) {
        (Some(key), true) => format!("orch new 'A first work item' --project {key}"),
        _ => "orch new 'A first work item'".to_owned(),
    });
    if args.systemd {
        systemd(call, args, &place.file, &mut summary)?;
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

fn read(call: &Invocation, file: &Path) -> Result<Config, Failure> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    Ok(load(Some(file), call.global.state_dir.as_deref(), &process_env(), folder)?)
}

/// Whether a project of the file has a board whose statuses are labels, which this command creates (GH-2).
fn has_labels(call: &Invocation, file: &Path) -> bool {
    read(call, file).is_ok_and(|config| config.projects.iter().any(|p| p.board.asks_rights()))
}

fn several(call: &Invocation, file: &Path) -> bool {
    read(call, file).is_ok_and(|config| config.projects.len() > 1)
}

/// The project of a checkout: detected, tried if wanted, then written to the installation's file.
fn project(call: &Invocation, args: &Args, place: &Place, dir: &Path, summary: &mut Summary) -> Result<(), Failure> {
    let key = args.key.as_deref().map(prefix).transpose()?;
    let mut found = find::around(dir)?;
    let top = locate::top(dir).unwrap_or(dir);
    if let Err(why) = writable(top) {
        return Err(Failure::new(Exit::Broken, format!("{} can't be written: {why}", top.display()))
            .hint("nothing was changed; make .gitleaks.toml writable there for this account"));
    }
    let was = install::removed(place, &found);
    if let Some(key) = was.as_ref().filter(|_| args.systemd && args.key.is_none() && !args.yes && !ask::is_person(call))
    {
        return stays_out(call, place, key, summary);
    }
    summary.proposed = proposed(&found);
    let untried = Tried::not(&found);
    let possible = untried.is_possible() && !install::is_there(call, place, &found)?;
    let tried =
        if possible && args.trying.wanted(call, args.yes, &found) { try_base::play(&mut found) } else { untried };
    let agree = |question: &str| match &was {
        Some(key) => ask::yes(call, args.yes, &format!("{key} was removed before: {question}")),
        None => ask::yes(call, args.yes, question),
    };
    let system = args.systemd && !args.user;
    let request = Request { found: &found, key: key.as_deref(), system, agree: &agree };
    match install::add(call, place, &request, &mut summary.done)? {
        Outcome::Declined => return Err(Failure::refused("nothing was changed")),
        Outcome::There { key, note } => {
            summary.notes.push(format!("already there: {key} in {}", place.file.display()));
            summary.notes.extend(note);
            summary.project = Some(key);
        }
        Outcome::Added(is) => {
            if key.is_none() && is != found.key {
                summary.notes.push(format!("the key {} is taken: this project is {is}; --key decides", found.key));
            }
            if let Some(was) = &was {
                summary
                    .notes
                    .push(format!("{was} was removed from this installation earlier; it is added again as {is}"));
            }
            summary.notes.extend(try_base::kept(&tried, &place.file, &is));
            summary.notes.extend(found.runtime_note(&place.file, &summary.done.written));
            summary.notes.extend(found.notes);
            summary.project = Some(is);
            summary.added = true;
        }
    }
    summary.tried = Some(tried);
    scanner(top, &mut summary.done)?;
    if summary.done.written.iter().any(|path| path.ends_with(".gitleaks.toml")) {
        summary.notes.push("commit .gitleaks.toml: the secret scan reads it from the default branch".to_owned());
    }
    if place.here {
        known::trust(&place.file)?;
    }
    Ok(())
}

/// Installing units alone does not add a removed project again.
fn stays_out(call: &Invocation, place: &Place, key: &str, summary: &mut Summary) -> Result<(), Failure> {
    let why = format!("{key} was removed from {} and stays out", place.file.display());
    let way = "`orch init` in this checkout adds it again";
    if install::is_empty(call, place)? {
        return Err(Failure::refused(format!("{why}, and there is no other project for the timers")).hint(way));
    }
    summary.notes.push(format!("{why}: {way}"));
    Ok(())
}

/// The result of the proposals, for a person.
pub fn lines(tried: &Tried) -> Vec<String> {
    let one = |name: &str, came: Came| match came {
        Came::Passed => Some(format!("tried  {name} passed")),
        Came::Failed => Some(format!("tried  {name} failed; it is written as a comment")),
        Came::Untried | Came::None => None,
    };
    let line = tried.line.as_ref().map(|l| format!("       {l}"));
    [one("worktree.setup", tried.setup), one("ci.command", tried.ci), line].into_iter().flatten().collect()
}

fn proposed(found: &Found) -> Value {
    let ci = match &found.ci {
        Ci::Command(argv) => json!(argv),
        Ci::Contexts(_) | Ci::UnknownContexts | Ci::None => json!(null),
    };
    json!({"setup": found.setup, "ci": ci})
}

/// Whether the scanner's file can be written to a checkout.
fn writable(top: &Path) -> Result<(), rustix::io::Errno> {
    if top.join(".gitleaks.toml").symlink_metadata().is_ok() {
        return Ok(());
    }
    rustix::fs::access(top, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
}

fn systemd(call: &Invocation, args: &Args, file: &Path, summary: &mut Summary) -> Result<(), Failure> {
    let config = read(call, file)?;
    let program = std::env::current_exe().context("finding this program's own file")?;
    envfile::write(&config, &mut summary.done, &mut summary.notes)?;
    let folder = units::folder(args.user, args.prefix.as_deref());
    let names = units::Names::of(&folder, &config);
    units::write(&folder, args.user, &program, &config, &names, &mut summary.done)?;
    let user = if args.user { "--user " } else { "" };
    if !units::is_running(args.user) {
        summary.notes.push(
            "no systemd manager is running here: the units are written, and take effect once one runs".to_owned(),
        );
    }
    if let Some(prefix) = &args.prefix {
        summary.notes.push(format!(
            "the units are below {}: a manager searches /usr/lib/systemd and /usr/local/lib/systemd",
            prefix.display()
        ));
    }
    summary.next.push(format!("systemctl {user}daemon-reload"));
    summary.next.push(format!("systemctl {user}enable --now {}", names.timers().join(" ")));
    if args.user {
        summary.next.push("loginctl enable-linger      # else everything ends when you log out".to_owned());
    } else {
        summary.notes.push(
            "steps and agents of system units run as root; `--user` under a separate account is safer".to_owned(),
        );
    }
    Ok(())
}

fn say(call: &Invocation, dir: &Path, file: &Path, summary: Summary) {
    let Summary { done, notes, next, project, added, proposed, tried, labels } = summary;
    if call.out.is_json() {
        let came = tried.as_ref().map_or_else(|| json!({"setup": "none", "ci": "none"}), Tried::json);
        call.out.document(&json!({
            "file": file, "added": added, "project": project, "wrote": done.written,
            "changed": done.changed, "left": done.left, "tried": came,
            "line": tried.as_ref().and_then(|t| t.line.clone()), "proposed": proposed, "labels": labels,
            "notes": notes, "next": next,
        }));
        return;
    }
    for line in tried.iter().flat_map(lines) {
        call.out.line(line);
    }
    let shown = |path: &Path| path.strip_prefix(dir).unwrap_or(path).display().to_string();
    let (pages, files): (Vec<&PathBuf>, Vec<_>) =
        done.written.iter().partition(|path| path.parent().is_some_and(|folder| folder.ends_with("man/man1")));
    for path in files {
        call.out.line(format!("wrote  {}", shown(path)));
    }
    if let Some(folder) = pages.first().and_then(|page| page.parent()) {
        call.out.line(format!("wrote  {} manual pages in {}", pages.len(), folder.display()));
    }
    for path in &done.changed {
        call.out.line(format!("added  {} to {}", project.as_deref().unwrap_or_default(), shown(path)));
    }
    for path in &done.left {
        call.out.line(format!("kept   {} (already there)", shown(path)));
    }
    for label in &labels {
        call.out.line(format!("label  {label}"));
    }
    for note in &notes {
        call.out.line(format!("note   {note}"));
    }
    call.out.line("next:");
    for step in &next {
        call.out.line(format!("  {step}"));
    }
}

/// Creates the labels that are missing on the board of a project that was configured before (GH-2). A failure becomes a
/// note: the files are written in any case.
fn labels(call: &Invocation, file: &Path, summary: &mut Summary) {
    let Ok(config) = read(call, file) else { return };
    let wanted = |p: &&Project| p.board.asks_rights() && summary.project.as_ref().is_none_or(|key| *key == p.key);
    for project in config.projects.iter().filter(wanted) {
        match projects::plain_board(&config, project).and_then(|board| Ok(board.prepare()?)) {
            Ok(labels) => summary.labels.extend(labels),
            Err(e) => summary.notes.push(format!("the labels of {} could not be created: {e:#}", project.key)),
        }
    }
}

/// A key prefix, in capitals. Fails with exit 2.
pub fn prefix(text: &str) -> Result<String, Failure> {
    let key = text.to_ascii_uppercase();
    match Key::parse(&format!("{key}-1")) {
        Ok(_) => Ok(key),
        Err(_) => Err(Failure::usage(format!("{text:?} can't begin work-item keys"))
            .hint("use a letter, then at most nine letters or digits: `--key SHOP`")),
    }
}
