//! A folder of pages that `orch` writes and rewrites (DSK-2): a manifest names them, each file is written by rename,
//! and nothing else in the folder is touched.

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file that names the pages, in the folder itself.
pub const MANIFEST: &str = ".orch-page.json";
const TASKS: &str = "task";

/// Why a folder can't be a site.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    #[error("{} contains {name}, which `orch` did not write", dir.display())]
    Foreign { dir: PathBuf, name: String },
    #[error("{}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> SiteError {
    let path = path.to_owned();
    |source| SiteError::Io { path, source }
}

/// What the manifest stores.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// The last audit event that the pages show.
    pub seq: i64,
    /// When the last report page was written, in milliseconds of wall time.
    pub report_at: i64,
    /// Whether it includes documents and findings.
    pub documents: bool,
    /// Names of the files, relative to the folder.
    pub files: BTreeSet<String>,
}

/// A site, locked until it is dropped.
#[derive(Debug)]
pub struct Site {
    dir: PathBuf,
    _lock: File,
    pub memory: Memory,
    /// The folder was empty before.
    pub fresh: bool,
}

/// Whether a name can be one of ours; other names in a manifest, which somebody else wrote, are ignored.
fn is_ours(name: &str) -> bool {
    let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let stem = |prefix: &str| name.strip_prefix(prefix).and_then(|n| n.strip_suffix(".html"));
    matches!(name, "index.html" | "report.html")
        || stem("ended-").is_some_and(plain)
        || stem("task/").is_some_and(plain)
}

impl Site {
    /// Opens the folder, creating it if it is missing. `wait`: wait for another writer; otherwise `None` if there is
    /// one.
    pub fn open(dir: &Path, wait: bool) -> Result<Option<Self>, SiteError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o755).create(dir).map_err(io_at(dir))?;
        let lock = File::open(dir).map_err(io_at(dir))?;
        let how = if wait { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive };
        match rustix::fs::flock(&lock, how) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            other => other.map_err(|e| io_at(dir)(e.into()))?,
        }
        let manifest = dir.join(MANIFEST);
        let memory = match std::fs::read(&manifest) {
            Ok(bytes) => Some(serde_json::from_slice::<Memory>(&bytes).unwrap_or_default()),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(io_at(&manifest)(e)),
        };
        let fresh = memory.is_none();
        if fresh && let Some(other) = std::fs::read_dir(dir).map_err(io_at(dir))?.next() {
            let name = other.map_err(io_at(dir))?.file_name().to_string_lossy().into_owned();
            return Err(SiteError::Foreign { dir: dir.to_owned(), name });
        }
        let mut memory = memory.unwrap_or_default();
        memory.files.retain(|name| is_ours(name));
        let site = Self { dir: dir.to_owned(), _lock: lock, memory, fresh };
        if fresh {
            std::fs::set_permissions(dir, Permissions::from_mode(0o755)).map_err(io_at(dir))?;
        }
        site.tasks()?;
        Ok(Some(site))
    }

    /// Makes sure that the folder of task pages exists and is not a link to somewhere else.
    fn tasks(&self) -> Result<(), SiteError> {
        let path = self.dir.join(TASKS);
        match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => Ok(()),
            Ok(_) => Err(SiteError::Foreign { dir: self.dir.clone(), name: TASKS.to_owned() }),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.remember()?;
                std::fs::create_dir(&path).map_err(io_at(&path))?;
                std::fs::set_permissions(&path, Permissions::from_mode(0o755)).map_err(io_at(&path))
            }
            Err(e) => Err(io_at(&path)(e)),
        }
    }

    /// Records that these files will be ours, before the first of them is written. An existing file with such a name
    /// that is not ours is left alone and is an error.
    pub fn claim(&mut self, names: impl IntoIterator<Item = String>) -> Result<(), SiteError> {
        let mut new = Vec::new();
        for name in names.into_iter().filter(|n| is_ours(n)) {
            if self.memory.files.contains(&name) {
                continue;
            }
            if self.dir.join(&name).symlink_metadata().is_ok() {
                return Err(SiteError::Foreign { dir: self.dir.clone(), name });
            }
            new.push(name);
        }
        if new.is_empty() {
            return Ok(());
        }
        self.memory.files.extend(new);
        self.remember()
    }

    /// Writes a claimed file unless it already has these bytes; returns whether it wrote. Mode 0644, whatever the
    /// umask.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<bool, SiteError> {
        let path = self.dir.join(name);
        if !self.memory.files.contains(name) {
            return Err(SiteError::Foreign { dir: self.dir.clone(), name: name.to_owned() });
        }
        if std::fs::read(&path).is_ok_and(|there| there == bytes) {
            return Ok(false);
        }
        swap(&path, bytes).map_err(io_at(&path)).map(|()| true)
    }

    /// Deletes our files that are not in `kept`.
    pub fn sweep(&mut self, kept: &BTreeSet<String>) -> Result<(), SiteError> {
        let stale: Vec<String> = self.memory.files.difference(kept).cloned().collect();
        for name in stale {
            match std::fs::remove_file(self.dir.join(&name)) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(io_at(&self.dir.join(&name))(e)),
                Ok(()) | Err(_) => drop(self.memory.files.remove(&name)),
            }
        }
        Ok(())
    }

    /// Writes the manifest.
    pub fn remember(&self) -> Result<(), SiteError> {
        let path = self.dir.join(MANIFEST);
        let bytes = serde_json::to_vec(&self.memory).unwrap_or_default();
        swap(&path, &bytes).map_err(io_at(&path))
    }
}

/// Pages can be made again from rows, so they are replaced whole but not synced.
fn swap(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = std::ffi::OsString::from(".new-");
    name.push(path.file_name().unwrap_or_default());
    let new = path.with_file_name(name);
    // The lock holder is alone, so an existing one was left by a process that died.
    drop(std::fs::remove_file(&new));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    let written = file
        .set_permissions(Permissions::from_mode(0o644))
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| std::fs::rename(&new, path));
    written.inspect_err(|_| drop(std::fs::remove_file(&new)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[&str]) -> Vec<String> {
        of.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn only_what_is_named_is_written_or_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/site");
        let mut site = Site::open(&root, true).unwrap().unwrap();
        assert!(site.fresh);
        site.claim(names(&["index.html", "task/A-1.html", "ended-1.html", "../x.html", "task/../../x.html"])).unwrap();
        assert!(site.put("index.html", b"one").unwrap() && !site.put("index.html", b"one").unwrap());
        assert!(site.put("task/A-1.html", b"t").unwrap() && site.put("ended-1.html", b"e").unwrap());
        assert!(site.put("../x.html", b"x").is_err() && site.put("report.html", b"x").is_err(), "not claimed");
        assert!(Site::open(&root, false).unwrap().is_none(), "held by another one");
        std::fs::write(root.join("mine.txt"), "years of work").unwrap();
        std::fs::write(root.join("task/B-1.html"), "mine").unwrap();
        drop(site);
        let mut site = Site::open(&root, true).unwrap().unwrap();
        assert!(!site.fresh);
        let foreign = site.claim(names(&["task/B-1.html"])).unwrap_err();
        assert!(foreign.to_string().contains("task/B-1.html"), "{foreign}");
        site.sweep(&names(&["index.html"]).into_iter().collect()).unwrap();
        site.remember().unwrap();
        assert!(
            !root.join("ended-1.html").exists()
                && root.join("task/B-1.html").exists()
                && root.join("mine.txt").exists()
        );
        for (path, mode) in [("index.html", 0o644), (MANIFEST, 0o644), ("task", 0o755), (".", 0o755)] {
            assert_eq!(std::fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o777, mode, "{path}");
        }
    }

    #[test]
    fn a_folder_of_others_and_a_link_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thesis.txt"), "x").unwrap();
        let error = Site::open(dir.path(), true).unwrap_err();
        assert!(matches!(error, SiteError::Foreign { .. }) && error.to_string().contains("thesis.txt"));
        let linked = tempfile::tempdir().unwrap();
        std::fs::write(linked.path().join(MANIFEST), r#"{"files": ["index.html", "../thesis.txt", "/etc/passwd"]}"#)
            .unwrap();
        std::os::unix::fs::symlink(dir.path(), linked.path().join("task")).unwrap();
        assert!(matches!(Site::open(linked.path(), true), Err(SiteError::Foreign { .. })));
        std::fs::remove_file(linked.path().join("task")).unwrap();
        let site = Site::open(linked.path(), true).unwrap().unwrap();
        assert_eq!(site.memory.files, names(&["index.html"]).into_iter().collect());
    }
}
