//! The one lock of a mirror (RULE-29): `flock` on a file next to it. A git that runs under the lock has the descriptor
//! as its standard input, so killing `orch` does not free the lock while its git is still writing.

use super::cmd::{GitError, Result};
use crate::adapters::locks;
use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A held lock; freed when this and every child that inherited it are gone.
#[derive(Debug)]
pub struct MirrorLock {
    file: File,
    acquired: SystemTime,
}

impl MirrorLock {
    /// Waits at most `bound` for the lock file at `path`. Fails with `Busy` or `Io`.
    pub fn take(path: &Path, bound: Duration) -> Result<Self> {
        let what = || format!("the lock {}", path.display());
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path);
        let file = file.and_then(|file| locks::within(file, bound)).map_err(GitError::io(what()))?;
        let Some(mut file) = file else {
            return Err(GitError::Busy { what: path.display().to_string(), seconds: bound.as_secs() });
        };
        // Writing the holder's pid updates the file's time: "now" by the clock that also stamps git's lock files.
        let mut stamp = || -> std::io::Result<SystemTime> {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())?;
            file.rewind()?;
            file.metadata()?.modified()
        };
        let acquired = stamp().map_err(GitError::io(what()))?;
        Ok(Self { file, acquired })
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Removes what killed gits left under `dir`: `*.lock` files no newer than this lock's acquisition. Every writer
    /// needs this lock, so an older one has no owner; a younger one may belong to a person's git and stays.
    pub fn remove_stale(&self, dir: &Path) {
        let mut open: Vec<PathBuf> = vec![dir.to_owned()];
        while let Some(folder) = open.pop() {
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for entry in entries.flatten() {
                let Ok(kind) = entry.file_type() else { continue };
                let path = entry.path();
                if kind.is_dir() {
                    // Object folders contain thousands of files, and lock files only in `info` and `pack`.
                    let hex = entry.file_name().len() == 2 && folder.ends_with("objects");
                    if !hex {
                        open.push(path);
                    }
                } else if path.extension().is_some_and(|e| e == "lock")
                    && entry.metadata().and_then(|m| m.modified()).is_ok_and(|t| t <= self.acquired)
                    && std::fs::remove_file(&path).is_ok()
                {
                    tracing::warn!(path = %path.display(), "removed a lock file that a killed git left");
                }
            }
        }
    }
}
