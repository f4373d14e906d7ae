//! Sentinel files (CFG-3, RULE-34, RULE-35): JSON with schema, task and attempt, whole or absent whenever it is killed.
//!
//! Written to a temporary name, synced and renamed, then the folder is synced. A file that can't be parsed never counts
//! as absent.

use crate::failpoint::point;
use crate::model::ids::TaskId;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The schema that is written and accepted.
pub const SCHEMA: u32 = 1;
/// A sentinel is small; a larger file is not one.
const CAP: u64 = 1 << 20;
/// Suffix of temporary names. A kill may leave one; nobody reads it.
const TEMPORARY: &str = ".orch-tmp";

/// A sentinel's content: whose it is, and what it says. It is never evidence for another task or attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed<T> {
    pub schema: u32,
    pub task_id: TaskId,
    /// Developer round, from 1.
    pub attempt: i64,
    #[serde(flatten)]
    pub body: T,
}

impl<T> Sealed<T> {
    pub fn new(task_id: TaskId, attempt: i64, body: T) -> Self {
        Self { schema: SCHEMA, task_id, attempt, body }
    }

    pub fn is_of(&self, task_id: TaskId, attempt: i64) -> bool {
        self.task_id == task_id && self.attempt == attempt
    }
}

/// What is at a sentinel's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sentinel<T> {
    Absent,
    Present(Sealed<T>),
    /// Something that can't be parsed; the sentence names the file and the fault. A step that needs it stops for that
    /// task. A lease or HALT counts as present.
    Broken(String),
}

impl<T> Sentinel<T> {
    /// Whether anything exists there.
    pub fn is_there(&self) -> bool {
        !matches!(self, Self::Absent)
    }
}

/// Writes or replaces a sentinel.
pub fn write<T: Serialize>(path: &Path, sealed: &Sealed<T>) -> io::Result<()> {
    put(path, &json(sealed)?)
}

/// Writes a sentinel that must not exist yet: of all who try, exactly one succeeds, and the others fail with
/// `AlreadyExists` (RULE-35). It is synced on success.
pub fn create_new<T: Serialize>(path: &Path, sealed: &Sealed<T>) -> io::Result<()> {
    let bytes = json(sealed)?;
    let dir = make_parent(path)?;
    let temporary = temporary(&dir, path, &bytes)?;
    point("place");
    let placed = match renameat_with(CWD, &temporary, CWD, path, RenameFlags::NOREPLACE) {
        // This file system lacks that rename; a link also fails on an existing name.
        Err(Errno::INVAL | Errno::NOSYS) => {
            let linked = std::fs::hard_link(&temporary, path);
            let _ = std::fs::remove_file(&temporary);
            linked
        }
        other => other.map_err(io::Error::from),
    };
    if let Err(error) = placed {
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    point("placed");
    sync_dir(&dir)
}

/// Reads a sentinel. Follows no link, never blocks on a pipe, never panics.
pub fn read<T: DeserializeOwned>(path: &Path) -> Sentinel<T> {
    let broken = |fault: String| Sentinel::Broken(format!("{} {fault}", path.display()));
    let bytes = match bytes_of(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Sentinel::Absent,
        Err(e) => return broken(format!("can't be read: {e}")),
    };
    match parse(&bytes) {
        Ok(sealed) => Sentinel::Present(sealed),
        Err(fault) => broken(fault),
    }
}

/// The pure half of [`read`]. The fault completes a sentence that starts with the file's name.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<Sealed<T>, String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| format!("is not JSON: {e}"))?;
    let Some(object) = value.as_object() else { return Err("is not a JSON object".into()) };
    match object.get("schema") {
        Some(schema) if schema.as_u64() == Some(u64::from(SCHEMA)) => {}
        Some(schema) => {
            let shown: String = schema.to_string().chars().take(40).collect();
            return Err(format!("has schema {shown}; this orch understands {SCHEMA}"));
        }
        None => return Err("has no schema".into()),
    }
    serde_json::from_value(value).map_err(|e| format!("lacks a field of its schema: {e}"))
}

/// Removes a sentinel and syncs; a missing one is no error.
pub fn remove(path: &Path) -> io::Result<()> {
    point("remove");
    match std::fs::remove_file(path) {
        Ok(()) => sync_dir(path.parent().unwrap_or(Path::new("."))),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// Moves every file of one folder to another on the same file system and returns how many. A name that is taken there
/// gets `.1`, `.2`: nothing is overwritten. Can be repeated after a kill; a missing folder counts as empty.
pub fn archive(from: &Path, to: &Path) -> io::Result<usize> {
    archive_those(from, to, &|_| true)
}

/// As [`archive`], for the files that `which` selects.
pub fn archive_those(from: &Path, to: &Path, which: &dyn Fn(&Path) -> bool) -> io::Result<usize> {
    let entries = match std::fs::read_dir(from) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e),
    };
    let mut moved = 0;
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().ends_with(TEMPORARY) || !which(&path) {
            continue;
        }
        if moved == 0 {
            make_dirs(to)?;
        }
        move_aside(&path, to, &entry.file_name())?;
        moved += 1;
    }
    if moved > 0 {
        // Sync the new names before the old ones disappear for good.
        sync_dir(to)?;
        sync_dir(from)?;
    }
    Ok(moved)
}

fn move_aside(path: &Path, to: &Path, name: &std::ffi::OsStr) -> io::Result<()> {
    point("archive");
    for n in 0..10_000 {
        let mut target = name.to_owned();
        if n > 0 {
            target.push(format!(".{n}"));
        }
        let target = to.join(target);
        match renameat_with(CWD, path, CWD, &target, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(Errno::INVAL | Errno::NOSYS) if std::fs::symlink_metadata(&target).is_ok() => {}
            Err(Errno::INVAL | Errno::NOSYS) => return std::fs::rename(path, &target),
            // A concurrent step archived it first; if the folder was missing, it has just been made.
            Err(Errno::NOENT) if std::fs::symlink_metadata(path).is_err_and(|e| e.kind() == ErrorKind::NotFound) => {
                return Ok(());
            }
            Err(e) => return Err(e.into()),
        }
    }
    Err(io::Error::new(ErrorKind::AlreadyExists, format!("{} contains too many files of one name", to.display())))
}

/// Writes or replaces any file of the state directory the way sentinels are written: `exit.json`, `prompt.md`, a card.
/// Mode 0600, its folders 0700.
pub fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = make_parent(path)?;
    let temporary = temporary(&dir, path, bytes)?;
    point("rename");
    if let Err(error) = std::fs::rename(&temporary, path) {
        let _ = std::fs::remove_file(&temporary);
        return Err(Occupied::or(path, "a file", error));
    }
    point("renamed");
    sync_dir(&dir)
}

/// Makes a folder and its parents, 0700, each synced into its parent.
pub fn make_dirs(dir: &Path) -> io::Result<()> {
    let mut missing: Vec<&Path> = Vec::new();
    for above in dir.ancestors().take_while(|p| !p.as_os_str().is_empty()) {
        if above.is_dir() {
            break;
        }
        missing.push(above);
    }
    for folder in missing.into_iter().rev() {
        match DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => sync_dir(parent_of(folder))?,
            Err(e) if e.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Err(Occupied::or(folder, "a folder", e)),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Something else is where `orch` writes one of its files, and no retry can write it: a person has to move it away.
#[derive(Debug, thiserror::Error)]
#[error("{} is in the way: orch writes {wanted} there; move it away", path.display())]
pub struct Occupied {
    path: PathBuf,
    wanted: &'static str,
}

impl Occupied {
    /// The error of a write, of the same kind, where that is why it failed; else as it is.
    fn or(path: &Path, wanted: &'static str, error: io::Error) -> io::Error {
        let kind = error.kind();
        if !matches!(kind, ErrorKind::IsADirectory | ErrorKind::NotADirectory | ErrorKind::AlreadyExists) {
            return error;
        }
        io::Error::new(kind, Self { path: path.to_owned(), wanted })
    }

    /// That this is why an error came about; `None`: it has another cause.
    pub fn of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
    }
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn make_parent(path: &Path) -> io::Result<PathBuf> {
    let dir = parent_of(path);
    make_dirs(dir)?;
    Ok(dir.to_owned())
}

fn json<T: Serialize>(sealed: &Sealed<T>) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(sealed)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// A synced file with a new name in the folder.
fn temporary(dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name =
        path.file_name().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "a sentinel's path ends in a name"))?;
    loop {
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        temporary.push(format!(".{}.{n}{TEMPORARY}", std::process::id()));
        let temporary = dir.join(temporary);
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary) {
            Ok(file) => file,
            // Left by a killed process with the same pid.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
            Err(e) => return Err(e),
        };
        if let Err(error) = file.write_all(bytes).and_then(|()| file.sync_all()) {
            let _ = std::fs::remove_file(&temporary);
            return Err(error);
        }
        return Ok(temporary);
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    use rustix::fs::OFlags;
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(CAP + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > CAP {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("it is larger than {CAP} bytes")));
    }
    Ok(bytes)
}

/// Whether nothing new may start (`touch HALT` is enough): the reason, in one line. Anything there halts, even if it
/// can't be read; only a file that is certainly absent does not.
pub fn halted(state_dir: &Path) -> Option<String> {
    let path = state_dir.join("HALT");
    match std::fs::symlink_metadata(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return None,
        Err(e) => return Some(format!("{} can't be examined: {e}", path.display())),
        Ok(_) => {}
    }
    let bytes = match bytes_of(&path) {
        Ok(bytes) => bytes,
        Err(e) => return Some(format!("{} exists, but can't be read: {e}", path.display())),
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let stated = serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|value| value.get("reason")?.as_str().map(str::to_owned))
        .unwrap_or(text);
    let line: String = stated
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control())
        .take(300)
        .collect();
    Some(if line.is_empty() { "HALT exists, without a reason".into() } else { line })
}

/// Halts with a reason; an existing HALT keeps its own. Returns whether this call made it.
pub fn halt(state_dir: &Path, reason: &str) -> io::Result<bool> {
    let path = state_dir.join("HALT");
    if halted(state_dir).is_some() {
        return Ok(false);
    }
    put(&path, format!("{reason}\n").as_bytes())?;
    Ok(true)
}

/// Lifts a halt; without one, does nothing.
pub fn lift_halt(state_dir: &Path) -> io::Result<()> {
    remove(&state_dir.join("HALT"))
}

#[cfg(test)]
#[path = "sentinel_tests.rs"]
mod tests;
