//! Where `orch init` writes (ORD-3): to the account's one installation, or with `--here` to a checkout's own. The first
//! project creates the file; a later one is added to it.

use super::find::Found;
use super::{Done, edit};
use crate::adapters::{files, locks};
use crate::cli::Invocation;
use crate::cli::exit::{Exit, Failure};
use crate::config::{Config, Project, load, locate, process_env, same_remote, search};
use anyhow::Context;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The beginning of the comment about a removed project.
const GONE: &str = "# removed by `orch project remove`: ";
/// How long to wait for another `init` that is using the file.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The highest number appended to a name that is taken.
const MOST_NAMES: u32 = 1000;

/// The file that a project belongs in.
#[derive(Debug, Clone)]
pub struct Place {
    pub file: PathBuf,
    /// A checkout's own (`--here`).
    pub here: bool,
}

/// What became of the project.
#[derive(Debug)]
pub enum Outcome {
    /// It is in the file under this key now.
    Added(String),
    /// It was there already, under this key.
    There { key: String, note: Option<String> },
    /// A person said no.
    Declined,
}

/// Finds the file. `dir`: the working folder. Fails with exit 2 where there is no home to write to, or where `--here`
/// would take over a file that somebody else created.
pub fn place(call: &Invocation, dir: &Path, here: bool) -> Result<Place, Failure> {
    let env = process_env();
    if here {
        let file = dir.join("orch.yaml");
        let real = std::fs::canonicalize(&file).ok();
        if real.is_some() && !locate::known(&env).map_err(Failure::usage)?.iter().any(|k| Some(k) == real.as_ref()) {
            let name = locate::shell(&file.display().to_string());
            return Err(Failure::usage(format!(
                "{} is already there, and this account does not trust it",
                file.display()
            ))
            .hint(format!("delete it, or if you trust who wrote it: orch config trust {name}")));
        }
        return Ok(Place { file: real.unwrap_or(file), here });
    }
    let named = call.global.config.as_deref().filter(|f| !f.as_os_str().is_empty()).map(|f| dir.join(f));
    let file = named.or_else(|| search(&env, dir).file).or_else(|| locate::account_file(&env));
    let file = file.ok_or_else(|| {
        Failure::usage("neither XDG_CONFIG_HOME nor HOME is set, so there is no place for the installation's file")
            .hint("set HOME, or name a file with --config FILE")
    })?;
    // Through a link, the file itself is changed.
    Ok(Place { file: std::fs::canonicalize(&file).unwrap_or(file), here })
}

/// The part of the checkout that a folder below its root is, as globs of a project's `paths`; empty at the root.
pub fn part_of(dir: &Path) -> Vec<String> {
    let below = locate::top(dir).and_then(|top| dir.strip_prefix(top).ok()).filter(|part| !part.as_os_str().is_empty());
    below.map(|part| format!("{}/**", globset::escape(&part.to_string_lossy()))).into_iter().collect()
}

/// The state directory that a new file names: a checkout's own installation never shares the account's.
pub fn state_dir(place: &Place, key: &str, system: bool) -> String {
    use sha2::{Digest, Sha256};
    if !place.here {
        return if system { "/var/lib/orch".to_owned() } else { "~/.local/state/orch".to_owned() };
    }
    let digest = Sha256::digest(place.file.as_os_str().as_encoded_bytes());
    let mark: String = digest.iter().take(4).map(|b| format!("{b:02x}")).collect();
    format!("~/.local/state/orch-{}-{mark}", key.to_ascii_lowercase())
}

/// The parameters of [`add`].
pub struct Request<'a> {
    pub found: &'a Found,
    /// `--key`.
    pub key: Option<&'a str>,
    /// For the system's manager.
    pub system: bool,
    /// Asked before an existing file is changed.
    pub agree: &'a dyn Fn(&str) -> bool,
}

/// Writes the file with its prompts, or adds the project to it. Two concurrent calls run one after the other. Every
/// failure leaves the file unchanged.
pub fn add(call: &Invocation, place: &Place, request: &Request<'_>, done: &mut Done) -> Result<Outcome, Failure> {
    let folder = place.file.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let _only = lock(folder)?;
    if !place.file.exists() {
        let found = with_key(request.found.clone(), request.key.unwrap_or(&request.found.key));
        let state = state_dir(place, &found.key, request.system);
        let text = super::config(&found, &state);
        write_checked(call, &place.file, &text, None)?;
        done.written.push(place.file.clone());
        super::prompts(folder, done)?;
        return Ok(Outcome::Added(found.key));
    }
    let text = read(&place.file)?;
    let projects = projects(call, &place.file, &text)?;
    if let Some(there) = configured_project(&projects, request.found) {
        done.left.push(place.file.clone());
        return Ok(there);
    }
    let (key, repo) = names(&projects, request)?;
    if !(request.agree)(&format!("add the project {key} ({}) to {}?", request.found.remote, place.file.display())) {
        return Ok(Outcome::Declined);
    }
    let found = Found { repo, ..with_key(request.found.clone(), &key) };
    let whole = super::config(&found, "/nowhere");
    let made = edit::add(&text, &entry(&whole)).map_err(|why| {
        Failure::usage(format!("{} can't be changed automatically: {why}", place.file.display()))
            .hint(format!("add this below `projects:` yourself:\n{}", entry(&whole)))
    })?;
    let made: String =
        made.split_inclusive('\n').filter(|l| !gone(l.trim_end()).is_some_and(|g| g.is(&found))).collect();
    write_checked(call, &place.file, &made, Some(&text))?;
    done.changed.push(place.file.clone());
    Ok(Outcome::Added(key))
}

/// The configuration of a file, as every other command reads it.
pub fn config(call: &Invocation, file: &Path) -> Result<Config, Failure> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    Ok(load(Some(file), call.global.state_dir.as_deref(), &process_env(), folder)?)
}

/// Whether the file has more than one project.
pub fn has_several(call: &Invocation, file: &Path) -> bool {
    config(call, file).is_ok_and(|config| config.projects.len() > 1)
}

/// Whether the project is in the file already: then nothing of it is tried.
pub fn is_there(call: &Invocation, place: &Place, found: &Found) -> Result<bool, Failure> {
    if !place.file.exists() {
        return Ok(false);
    }
    let projects = projects(call, &place.file, &read(&place.file)?)?;
    Ok(configured_project(&projects, found).is_some())
}

/// The key under which the project was in this file before it was removed; `None`: it never was, or is there again.
pub fn removed(place: &Place, found: &Found) -> Option<String> {
    let text = std::fs::read_to_string(&place.file).ok()?;
    text.lines().filter_map(gone).find(|g| g.is(found)).map(|g| g.key)
}

/// A removed project, as a comment of the file records it: it is never added again unasked.
struct Gone {
    key: String,
    remote: String,
    paths: Vec<String>,
}

impl Gone {
    fn line(&self) -> String {
        format!("{GONE}{}\n", serde_json::json!([self.key, self.remote, self.paths]))
    }

    fn is(&self, found: &Found) -> bool {
        same_remote(&self.remote, &found.remote) && self.paths == found.paths
    }
}

fn gone(line: &str) -> Option<Gone> {
    let (key, remote, paths) = serde_json::from_str(line.strip_prefix(GONE)?).ok()?;
    Some(Gone { key, remote, paths })
}

/// Whether the file names no project.
pub fn is_empty(call: &Invocation, place: &Place) -> Result<bool, Failure> {
    Ok(projects(call, &place.file, &read(&place.file)?)?.is_empty())
}

/// Removes a project from the file. Fails where more would have to change.
pub fn remove(call: &Invocation, file: &Path, key: &str) -> Result<(), Failure> {
    let file = std::fs::canonicalize(file).with_context(|| format!("finding {}", file.display()))?;
    let _only = lock(file.parent().unwrap_or(Path::new("/")))?;
    let text = read(&file)?;
    let made = edit::remove(&text, key).map_err(|why| {
        Failure::usage(format!("{} can't be changed automatically: {why}", file.display()))
            .hint(format!("delete the entry of {key} below `projects:` yourself"))
    })?;
    let was = projects(call, &file, &text)?.into_iter().find(|p| p.key == key);
    let was = was.map(|p| Gone { key: p.key, remote: p.git.remote, paths: p.paths }.line()).unwrap_or_default();
    let end = if made.ends_with('\n') { "" } else { "\n" };
    write_checked(call, &file, &format!("{made}{end}{was}"), Some(&text))
}

/// The folder's lock, held until it is dropped; nothing is left behind.
pub fn lock(folder: &Path) -> Result<std::fs::File, Failure> {
    let opened = std::fs::File::open(folder).with_context(|| format!("opening {}", folder.display()))?;
    let held = locks::within(opened, TIMEOUT).with_context(|| format!("locking {}", folder.display()))?;
    held.ok_or_else(|| {
        Failure::new(Exit::Broken, format!("another orch is changing files in {}", folder.display()))
            .hint("run it again when that one has ended")
    })
}

fn read(file: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{} is not UTF-8", file.display())))
}

/// The projects in the file. A file that names none is no fault here.
fn projects(call: &Invocation, file: &Path, text: &str) -> Result<Vec<Project>, Failure> {
    match checked(call, file) {
        Ok(config) => Ok(config.projects),
        Err(failure) => {
            let document: serde_json::Value = crate::yaml::from_str(text).unwrap_or_default();
            let none = document["projects"].as_array().is_none_or(Vec::is_empty);
            if none && failure.message.contains("projects is missing") { Ok(Vec::new()) } else { Err(failure) }
        }
    }
}

fn checked(call: &Invocation, file: &Path) -> Result<Config, Failure> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    Ok(load(Some(file), call.global.state_dir.as_deref(), &process_env(), folder)?)
}

/// Writes the file only if its content is valid: loaded once under another name, then renamed. `before`: its old
/// content; `None`: it is new.
fn write_checked(call: &Invocation, file: &Path, text: &str, before: Option<&str>) -> Result<(), Failure> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    let writing = || format!("writing {}", file.display());
    let mut trial =
        tempfile::Builder::new().prefix(".orch-").suffix(".new").tempfile_in(folder).with_context(writing)?;
    trial.write_all(text.as_bytes()).with_context(writing)?;
    let sound = checked(call, trial.path()).or_else(|failure| {
        let emptied =
            before.is_some() && text.contains("projects: []") && failure.message.contains("projects is missing");
        if emptied { Ok(checked(call, file)?) } else { Err(failure) }
    });
    if let Err(mut failure) = sound {
        failure.message = failure.message.replace(&trial.path().display().to_string(), &file.display().to_string());
        return Err(failure);
    }
    drop(trial);
    let mode = std::fs::metadata(file).map_or(0o644, |meta| meta.permissions().mode() & 0o7777);
    match before {
        Some(_) => files::output(file, text.as_bytes(), Some(mode)).with_context(writing)?,
        None => files::replace(file, text.as_bytes(), Some(mode)).with_context(writing)?,
    }
    Ok(())
}

/// Whether the remote (or this part of it) is in the file already.
fn configured_project(projects: &[Project], found: &Found) -> Option<Outcome> {
    let paths = &found.paths;
    let same = || projects.iter().filter(|p| same_remote(&p.git.remote, &found.remote));
    let there = |p: &Project, note: Option<String>| Outcome::There { key: p.key.clone(), note };
    if let Some(whole) = same().find(|p| p.paths.is_empty()) {
        let note = paths.first().map(|part| {
            format!(
                "{} covers the whole repository; give it `paths` first to make {part} a separate project",
                whole.key
            )
        });
        return Some(there(whole, note));
    }
    let covered = |p: &&Project| paths.first().is_some_and(|part| p.paths.contains(part));
    if let Some(own) = same().find(covered) {
        return Some(there(own, None));
    }
    let part = same().next().filter(|_| paths.is_empty())?;
    let note =
        format!("{} covers parts of this repository ({}); run it in another folder", part.key, part.paths.join(", "));
    Some(there(part, Some(note)))
}

/// An unused key and repo name. Fails with exit 2, proposing one, where `--key` names a taken one.
fn names(projects: &[Project], request: &Request<'_>) -> Result<(String, String), Failure> {
    let taken = |key: &str| projects.iter().any(|p| p.key == key || p.repo.eq_ignore_ascii_case(key));
    let wanted = request.key.unwrap_or(&request.found.key);
    let free = free_key(wanted, &taken);
    if request.key.is_some() && free != wanted {
        return Err(Failure::usage(format!("the key {wanted} is taken by another project"))
            .hint(format!("take another: --key {free}")));
    }
    // Projects of one remote share one name for its gate, lease and mirror.
    if let Some(same) = projects.iter().find(|p| same_remote(&p.git.remote, &request.found.remote)) {
        return Ok((free, same.repo.clone()));
    }
    let repo = &request.found.repo;
    let used = |name: &str| name == free || projects.iter().any(|p| p.repo.eq_ignore_ascii_case(name) || p.key == name);
    let numbered = (2..MOST_NAMES).map(|n| format!("{repo}-{n}"));
    let name = std::iter::once(repo.clone()).chain(numbered).find(|name| !used(name));
    Ok((free, name.unwrap_or_else(|| repo.clone())))
}

/// The key itself, or with a number, within ten characters.
fn free_key(wanted: &str, taken: &dyn Fn(&str) -> bool) -> String {
    let numbered = (2..MOST_NAMES).map(|n| {
        let number = n.to_string();
        let short: String = wanted.chars().take(10 - number.len()).collect();
        short + &number
    });
    std::iter::once(wanted.to_owned()).chain(numbered).find(|key| !taken(key)).unwrap_or_else(|| wanted.to_owned())
}

fn with_key(found: Found, key: &str) -> Found {
    Found { key: key.to_owned(), ..found }
}

/// The one project of a new configuration, its dash in the first column.
fn entry(text: &str) -> String {
    let within = text.lines().skip_while(|l| *l != "projects:").skip(1);
    let lines = within.take_while(|l| l.is_empty() || l.starts_with(' '));
    let text: String = lines.map(|l| format!("{}\n", l.strip_prefix("  ").unwrap_or(l))).collect();
    format!("{}\n", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ord_3_a_taken_key_gets_a_number_that_fits() {
        let taken = |key: &str| ["SHOP", "SHOP2", "AVERYLONGN"].contains(&key);
        for (wanted, free) in [("NEW", "NEW"), ("SHOP", "SHOP3"), ("AVERYLONGN", "AVERYLONG2")] {
            assert_eq!(free_key(wanted, &taken), free);
        }
    }

    #[test]
    fn ord_3_a_folder_below_the_root_is_a_part() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join(".git")).unwrap();
        std::fs::create_dir_all(dir.path().join("services/[a]")).unwrap();
        assert_eq!(part_of(&dir.path().join("services/[a]")), ["services/[[]a[]]/**"]);
        assert!(part_of(dir.path()).is_empty());
    }
}
