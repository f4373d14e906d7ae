//! `orch init --uninstall`: removes what `init` installed, never configuration, state or repositories (ORD-4).

use super::shells::Places;
use super::{envfile, units};
use crate::adapters::executor;
use crate::adapters::store::{Mode, Store};
use crate::cli::Invocation;
use crate::cli::exit::{CmdResult, Exit, Failure};
use crate::config::{load, process_env};
use anyhow::Context;
use serde_json::json;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What was done.
#[derive(Debug, Default)]
struct Gone {
    removed: Vec<PathBuf>,
    notes: Vec<String>,
    next: Vec<String>,
}

impl Gone {
    fn delete(&mut self, path: &Path) -> Result<bool, Failure> {
        match std::fs::remove_file(path) {
            Ok(()) => {
                self.removed.push(path.to_owned());
                Ok(true)
            }
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
            Err(e) => Err(e).with_context(|| format!("removing {}", path.display()))?,
        }
    }
}

/// Removes the units of the installation `file`, its unchanged `orch.env`, and what belongs to the account. A second
/// call finds nothing.
pub fn run(call: &Invocation, file: Option<&Path>, user: bool, prefix: Option<&Path>) -> CmdResult {
    let mut gone = Gone::default();
    if let Some(file) = file {
        // Without `--user` both kinds are searched: whoever installed it need not remember which it was.
        let alive = alive(call, file);
        let kinds: &[bool] = if user { &[true] } else { &[true, false] };
        for kind in kinds {
            remove_units(file, *kind, prefix, alive, &mut gone)?;
        }
        environment(file, prefix, &mut gone)?;
    }
    if prefix.is_none() {
        pages(&mut gone)?;
    }
    if call.out.is_json() {
        let Gone { removed, notes, next } = gone;
        call.out.document(&json!({"removed": removed, "notes": notes, "next": next, "errors": []}));
        return Ok(Exit::Done);
    }
    for path in &gone.removed {
        call.out.line(format!("removed  {}", path.display()));
    }
    for note in &gone.notes {
        call.out.line(format!("note     {note}"));
    }
    if gone.removed.is_empty() && gone.notes.is_empty() {
        call.out.line("nothing is installed");
    }
    if !gone.next.is_empty() {
        call.out.line("next:");
        gone.next.iter().for_each(|step| call.out.line(format!("  {step}")));
    }
    Ok(Exit::Done)
}

/// Whether runs of the installation are under way, as far as its record can be read.
fn alive(call: &Invocation, file: &Path) -> bool {
    let folder = file.parent().unwrap_or(Path::new("/"));
    let Ok(config) = load(Some(file), call.global.state_dir.as_deref(), &process_env(), folder) else { return false };
    let path = config.state_dir.join("orch.db");
    let store = path.exists().then(|| Store::open(&path, Mode::ReadOnly).ok()).flatten();
    store.is_some_and(|mut store| store.read(|tx| tx.open_runs()).is_ok_and(|runs| !runs.is_empty()))
}

fn remove_units(file: &Path, user: bool, prefix: Option<&Path>, alive: bool, gone: &mut Gone) -> Result<(), Failure> {
    let folder = units::folder(user, prefix);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        Err(e) => {
            return Err(Failure::new(Exit::Broken, format!("the units in {} can't be read: {e}", folder.display()))
                .hint("give this account access to that folder, then: orch init --uninstall"));
        }
    };
    let mut stems: Vec<String> = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix("-tick.service").filter(|stem| stem.starts_with("orch")) else { continue };
        if std::fs::read_to_string(entry.path()).is_ok_and(|text| units::is_of(&text, file)) {
            stems.push(stem.to_owned());
        }
    }
    stems.sort();
    let managed = prefix.is_none() && units::is_running(user);
    let mut timers = Vec::new();
    for stem in &stems {
        let names = units::Names::called(stem);
        timers.extend(names.timers());
        if managed {
            let words: Vec<String> =
                manager(user).chain(["disable".into(), "--now".into()]).chain(names.timers()).collect();
            note_failure(executor::manage("systemctl", &as_words(&words)), gone);
        }
        for name in names.all() {
            gone.delete(&folder.join(&name))?;
            gone.delete(&folder.join("timers.target.wants").join(&name))?;
        }
    }
    if stems.is_empty() || prefix.is_some() {
        return Ok(());
    }
    if managed {
        let words: Vec<String> = manager(user).chain(["daemon-reload".into()]).collect();
        note_failure(executor::manage("systemctl", &as_words(&words)), gone);
    } else {
        let option = if user { "--user " } else { "" };
        gone.next.push(format!("where a systemd manager runs: systemctl {option}stop {}", timers.join(" ")));
        gone.next.push(format!("systemctl {option}daemon-reload"));
    }
    if user {
        lingering(&folder, alive, gone);
    }
    Ok(())
}

fn manager(user: bool) -> impl Iterator<Item = String> {
    user.then(|| "--user".to_owned()).into_iter()
}

fn as_words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

fn note_failure(done: Result<(), executor::ExecutorError>, gone: &mut Gone) {
    if let Err(e) = done {
        gone.notes.push(e.to_string());
    }
}

/// Lingering was for the timers: it ends with the last of them, but not while a run is alive, because that would end
/// with the account's manager.
fn lingering(folder: &Path, alive: bool, gone: &mut Gone) {
    let others = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let others = others.filter_map(|e| e.file_name().into_string().ok());
    if others.into_iter().any(|name| name.starts_with("orch") && name.ends_with(".timer")) {
        return;
    }
    let name = crate::adapters::accounts::name(rustix::process::getuid().as_raw());
    let file = Path::new("/var/lib/systemd/linger").join(&name);
    if !file.exists() {
        return;
    }
    if alive {
        return gone.next.push(format!("after the current runs have ended: loginctl disable-linger {name}"));
    }
    match executor::manage("loginctl", &["disable-linger", &name]) {
        Ok(()) => {
            gone.notes.push(format!("lingering of {name} is off; `loginctl enable-linger` if something else needs it"))
        }
        Err(_) => gone.next.push(format!("loginctl disable-linger {name}")),
    }
}

/// The units' environment, if nobody has changed it and no unit of another prefix reads it.
fn environment(file: &Path, prefix: Option<&Path>, gone: &mut Gone) -> Result<(), Failure> {
    let path = envfile::place(file);
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(()) };
    let installed = |user: bool| {
        let read = std::fs::read_dir(units::folder(user, None)).into_iter().flatten().flatten();
        read.filter(|e| e.file_name().to_string_lossy().ends_with("-tick.service"))
            .any(|e| std::fs::read_to_string(e.path()).is_ok_and(|text| units::is_of(&text, file)))
    };
    if prefix.is_some() && (installed(true) || installed(false)) {
        return Ok(());
    }
    if envfile::is_unchanged(&text) {
        gone.delete(&path)?;
    } else if !gone.removed.is_empty() {
        gone.notes.push(format!("{} was changed by somebody, so it stays", path.display()));
    }
    Ok(())
}

/// Completions and manual pages in the account's own folders.
fn pages(gone: &mut Gone) -> Result<(), Failure> {
    let Some(places) = Places::of(&process_env()) else { return Ok(()) };
    let mut files: Vec<PathBuf> = places.scripts().into_iter().map(|(_, path)| path).collect();
    files.push(places.other_script());
    let man = std::fs::read_dir(places.pages()).into_iter().flatten().flatten().map(|e| e.path());
    files.extend(man.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name == "orch.1" || (name.starts_with("orch-") && name.ends_with(".1"))
    }));
    files.sort();
    for file in files {
        // A page of the same name by somebody else does not mention this program.
        let ours =
            |text: String| text.contains(".TH orch") || text.contains("_orch") || text.contains("complete -c orch");
        if std::fs::read_to_string(&file).is_ok_and(ours) {
            gone.delete(&file)?;
        }
    }
    Ok(())
}
