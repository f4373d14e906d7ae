//! Exchanges an item's file so that neither a person's save nor a kill midway loses anything (RULE-40).
//!
//! orch's own writers take turns under the folder's lock, so unexpected content is a person's save. The name of the
//! exchange's file records how far the exchange has got: whoever finds one that a killed process left knows whose bytes
//! it has.

use crate::adapters::locks;
use crate::failpoint::point;
use rustix::fs::{CWD, RenameFlags};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Larger files are not work items.
pub const MAX_FILE: u64 = 4 << 20;
const LOCK: &str = ".orch-lock";
/// How long a writer waits for its turn.
const TURN: Duration = Duration::from_secs(10);
/// No editor saves this often while one file is swapped.
const SWAPS: u32 = 1000;

/// The folder's lock: one orch writer at a time.
#[derive(Debug)]
pub struct Turn {
    _file: File,
}

/// Waits for this process's turn to write in `dir`. Fails with `TimedOut` after ten seconds.
pub fn turn(dir: &Path) -> io::Result<Turn> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(dir.join(LOCK))?;
    match locks::within(file, TURN)? {
        Some(file) => Ok(Turn { _file: file }),
        None => Err(io::Error::new(ErrorKind::TimedOut, "another process has held its lock for ten seconds")),
    }
}

/// An exchange in progress: its file, what should come out, what goes in, and whether that is a person's save being
/// restored.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Swap {
    path: PathBuf,
    expected: String,
    put_in: String,
    back: bool,
}

impl Swap {
    fn new(dir: &Path, name: &str, expected: String, put_in: String, back: bool) -> Self {
        let way = if back { "back" } else { "new" };
        let path = dir.join(format!("{}{expected}.{put_in}.{way}.swap", prefix(name)));
        Self { path, expected, put_in, back }
    }

    /// The exchange that this file belongs to; `None`: not one of `name`.
    fn of(dir: &Path, name: &str, file: &str) -> Option<Self> {
        let mut parts = file.strip_prefix(&prefix(name))?.strip_suffix(".swap")?.split('.');
        let (expected, put_in, way) = (parts.next()?, parts.next()?, parts.next()?);
        let known = parts.next().is_none() && ["new", "back"].contains(&way);
        known.then(|| Self::new(dir, name, expected.to_owned(), put_in.to_owned(), way == "back"))
    }

    /// Swaps until the expected content comes out; returns whether the first swap was the last.
    fn run(mut self, dir: &Path, name: &str) -> io::Result<bool> {
        for _ in 0..SWAPS {
            point("exchange");
            match rustix::fs::renameat_with(CWD, &self.path, CWD, dir.join(name), RenameFlags::EXCHANGE) {
                Ok(()) => point("exchanged"),
                // A person deleted the file: that is their last word, and nothing is written there again.
                Err(rustix::io::Errno::NOENT) => return fs::remove_file(&self.path).map(|()| false),
                Err(e) => {
                    // Nothing was swapped: the waiting file is ours, or a person's that the next writer restores.
                    if !self.back {
                        fs::remove_file(&self.path).ok();
                    }
                    return Err(e.into());
                }
            }
            let came_out = tag(&read(&self.path)?);
            if came_out == self.expected {
                sync(dir)?;
                fs::remove_file(&self.path)?;
                return Ok(!self.back);
            }
            self = self.turned(dir, name, came_out)?;
        }
        // What came out last stays next to the item for the next writer.
        Ok(false)
    }

    /// What came out is newer than what went in, so restore it.
    fn turned(self, dir: &Path, name: &str, came_out: String) -> io::Result<Self> {
        let next = Self::new(dir, name, self.put_in, came_out, true);
        fs::rename(&self.path, &next.path)?;
        Ok(next)
    }

    /// Finishes what a killed process left: its own bytes are deleted, a person's are restored unless there is a newer
    /// save.
    fn repair(self, dir: &Path, name: &str) -> io::Result<()> {
        let holds = tag(&read(&self.path)?);
        let done = holds == self.expected;
        let not_begun = holds == self.put_in;
        if done || (not_begun && !self.back) {
            return fs::remove_file(&self.path);
        }
        let next = if not_begun { self } else { self.turned(dir, name, holds)? };
        let current = match read(&dir.join(name)) {
            Ok(bytes) => Some(tag(&bytes)),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        if current.as_ref() == Some(&next.expected) {
            tracing::warn!(item = name, "restored what a person had saved while a process was killed");
            return next.run(dir, name).map(drop);
        }
        fs::remove_file(&next.path)
    }
}

/// Replaces `old` with `new` in the file `name`, which keeps its permissions. `false`: the file had other content,
/// which it has again.
pub fn exchange(dir: &Path, _turn: &Turn, name: &str, old: &[u8], new: &[u8]) -> io::Result<bool> {
    let mode = fs::metadata(dir.join(name)).map_or(0o600, |m| m.permissions().mode() & 0o777);
    let swap = Swap::new(dir, name, tag(old), tag(new), false);
    temp(dir, new, mode)?.persist(&swap.path).map_err(|e| e.error)?;
    swap.run(dir, name)
}

/// Whether an exchange of `name` is in progress or was left unfinished.
pub fn unfinished(dir: &Path, name: &str) -> io::Result<bool> {
    Ok(files(dir)?.iter().any(|file| Swap::of(dir, name, file).is_some()))
}

/// Finishes what killed processes left: exchanges of `name`, and temporary files, which only the process whose turn it
/// is may have.
pub fn repair(dir: &Path, _turn: &Turn, name: &str) -> io::Result<()> {
    for file in files(dir)? {
        if let Some(swap) = Swap::of(dir, name, &file) {
            swap.repair(dir, name)?;
        } else if file.starts_with(".orch-") && file.ends_with(".tmp") {
            fs::remove_file(dir.join(file))?;
        }
    }
    Ok(())
}

/// A synced temporary file in the folder, removed when dropped.
pub fn temp(dir: &Path, bytes: &[u8], mode: u32) -> io::Result<tempfile::NamedTempFile> {
    let mut temp = tempfile::Builder::new().prefix(".orch-").suffix(".tmp").tempfile_in(dir)?;
    temp.write_all(bytes)?;
    temp.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    temp.as_file().sync_all()?;
    Ok(temp)
}

/// A file's bytes; of a file that is too large for an item, one byte more than allowed.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // A FIFO that just replaced the file blocks nobody.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn prefix(name: &str) -> String {
    format!(".orch-{name}.")
}

/// Names the bytes in a file name.
fn tag(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|b| format!("{b:02x}")).collect()
}

fn files(dir: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEM: &str = "AA-1.md";

    /// The folder after a kill: the content of the item's file and of the exchange's file.
    fn after_kill(current: Option<&str>, holds: &str, back: bool) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        if let Some(text) = current {
            fs::write(dir.path().join(ITEM), text).unwrap();
        }
        let (expected, put_in) = if back { ("ours", "saved") } else { ("old", "ours") };
        let swap = Swap::new(dir.path(), ITEM, tag(expected.as_bytes()), tag(put_in.as_bytes()), back);
        fs::write(swap.path, holds).unwrap();
        dir
    }

    #[test]
    fn rule_40_a_killed_exchange_loses_nobodys_words() {
        let cases = [
            ("killed before the swap", Some("old"), "ours", false, Some("old")),
            ("killed before the swap, a person saved", Some("saved"), "ours", false, Some("saved")),
            ("killed after it", Some("ours"), "old", false, Some("ours")),
            ("killed after it, then a person saved", Some("saved"), "old", false, Some("saved")),
            ("a person's save came out", Some("ours"), "saved", false, Some("saved")),
            ("it came out, then a newer one", Some("newer"), "saved", false, Some("newer")),
            ("it came out, then the item was removed", None, "saved", false, None),
            ("on its way back", Some("ours"), "saved", true, Some("saved")),
            ("back", Some("saved"), "ours", true, Some("saved")),
            ("another save came out", Some("saved"), "newer", true, Some("newer")),
        ];
        for (what, current, holds, back, want) in cases {
            let dir = after_kill(current, holds, back);
            assert!(unfinished(dir.path(), ITEM).unwrap(), "{what}");
            let turn = turn(dir.path()).unwrap();
            repair(dir.path(), &turn, ITEM).unwrap();
            assert_eq!(fs::read_to_string(dir.path().join(ITEM)).ok().as_deref(), want, "{what}");
            let mut left = files(dir.path()).unwrap();
            left.retain(|f| f != ITEM && f != LOCK);
            assert!(left.is_empty(), "{what}: {left:?}");
        }
    }

    #[test]
    fn rule_40_an_exchange_that_fails_halfway_loses_nobodys_words() {
        let dir = tempfile::tempdir().unwrap();
        // A person saved after our read; what came out can't be swapped back.
        fs::write(dir.path().join(ITEM), "saved").unwrap();
        let back = Swap::new(dir.path(), ITEM, tag(b"ours"), tag(b"saved"), true).path;
        fs::create_dir(&back).unwrap();
        let turn = turn(dir.path()).unwrap();
        exchange(dir.path(), &turn, ITEM, b"old", b"ours").unwrap_err();
        fs::remove_dir(back).unwrap();
        repair(dir.path(), &turn, ITEM).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(ITEM)).unwrap(), "saved");
        // An exchange that never began leaves nothing behind.
        assert!(!exchange(dir.path(), &turn, "AA-2.md", b"old", b"ours").unwrap());
        assert_eq!(files(dir.path()).unwrap().len(), 2, "the item and the lock");
    }

    #[test]
    fn one_item_is_not_taken_for_another() {
        let dir = after_kill(Some("ours"), "saved", false);
        for other in ["AA-11.md", "A-1.md", "AA-1.m", "AA-1"] {
            assert!(!unfinished(dir.path(), other).unwrap(), "{other}");
        }
    }
}
