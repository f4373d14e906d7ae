//! Deletes a folder that a hostile run filled (R2), whatever its modes and depth, with few open descriptors and a short
//! stack. A run once nested folders until nothing could delete them, and no later run of the task could start.

use rustix::fs::{AtFlags, Dir, Mode, OFlags, chmodat, fchmod, open, openat, renameat, unlinkat};
use rustix::io::{Errno, Result};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

/// Depth down to which folders are walked; deeper ones are moved up first.
const DEEP: usize = 32;

/// Deletes a folder and everything below it. Links are not followed. Nobody may work in it meanwhile.
///
/// # Errors
/// The kernel's error for the first thing that can't be deleted. What is already gone is no error.
pub(super) fn folder(path: &Path) -> Result<()> {
    folder_until(path, None).map(drop)
}

/// The same with a deadline; returns whether everything is gone by then. The next call can delete the rest.
pub(super) fn folder_until(path: &Path, until: Option<Instant>) -> Result<bool> {
    let top = match open(path, FLAGS, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ACCESS) => {
            chmodat(rustix::fs::CWD, path, Mode::RWXU, AtFlags::empty())?;
            open(path, FLAGS, Mode::empty())?
        }
        opened => opened?,
    };
    let _ = fchmod(&top, Mode::RWXU);
    let mut walk = Walk { top: top.as_fd(), done: 0, moved: 0, until, late: false };
    loop {
        let before = walk.done;
        walk.empty(top.as_fd(), 0)?;
        if walk.late {
            return Ok(false);
        }
        match rustix::fs::rmdir(path) {
            Ok(()) | Err(Errno::NOENT) => return Ok(true),
            // Entries that were moved up, or that reading a shrinking folder skipped.
            Err(Errno::NOTEMPTY | Errno::EXIST) if walk.done > before => {}
            Err(e) => return Err(e),
        }
    }
}

const FLAGS: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

struct Walk<'a> {
    top: BorrowedFd<'a>,
    /// Number of deletions and moves.
    done: u64,
    moved: u64,
    until: Option<Instant>,
    /// The deadline has passed.
    late: bool,
}

impl Walk<'_> {
    /// Deletes what is in `dir`, and moves up what is too deep.
    fn empty(&mut self, dir: BorrowedFd<'_>, depth: usize) -> Result<()> {
        for entry in Dir::read_from(dir)? {
            self.late |= self.until.is_some_and(|until| Instant::now() >= until);
            if self.late {
                return Ok(());
            }
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) => self.done += 1,
                Err(Errno::NOENT) => {}
                Err(Errno::ISDIR | Errno::PERM) => self.inner(dir, name, depth)?,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// One folder of `dir`.
    fn inner(&mut self, dir: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<()> {
        if unlinkat(dir, name, AtFlags::REMOVEDIR).is_ok() {
            self.done += 1;
            return Ok(());
        }
        let inner = openable(dir, name)?;
        if depth == DEEP {
            return self.move_up(dir, name);
        }
        self.empty(inner.as_fd(), depth + 1)?;
        match unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) => self.done += 1,
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Moves an entry to an unused name at the top.
    fn move_up(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        loop {
            self.moved += 1;
            match renameat(dir, name, self.top, format!("moved-{}", self.moved)) {
                Ok(()) => {
                    self.done += 1;
                    return Ok(());
                }
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// Opens a folder, giving its owner all permissions on it.
fn openable(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let inner = match openat(dir, name, FLAGS, Mode::empty()) {
        Err(Errno::ACCESS) => {
            chmodat(dir, name, Mode::RWXU, AtFlags::empty())?;
            openat(dir, name, FLAGS, Mode::empty())?
        }
        opened => opened?,
    };
    let _ = fchmod(&inner, Mode::RWXU);
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_folder_deeper_than_any_path_is_deleted_whatever_its_modes() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("run"), dir.path().join("other"));
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("kept"), "x").unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("moved-1"), "in the way").unwrap();
        std::fs::create_dir_all(path.join("moved-2/full")).unwrap();
        symlink(&other, path.join("link")).unwrap();
        let mut at = open(&path, FLAGS, Mode::empty()).unwrap();
        for level in 0..2500 {
            mkdirat(&at, "d", Mode::RWXU).unwrap();
            let next = openat(&at, "d", FLAGS, Mode::empty()).unwrap();
            if level % 100 == 0 {
                drop(openat(&next, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap());
                symlink(&other, path.join(format!("link{level}"))).unwrap();
            }
            at = next;
        }
        std::fs::create_dir_all(path.join("locked/inner")).unwrap();
        for closed in ["locked/inner", "locked", ""] {
            std::fs::set_permissions(path.join(closed), Permissions::from_mode(0o000)).unwrap();
        }
        drop(at);
        assert!(!folder_until(&path, Some(Instant::now())).unwrap(), "no time, nothing is deleted");
        assert!(path.exists());
        folder(&path).unwrap();
        assert!(!path.exists() && other.join("kept").is_file());
        folder(&path).unwrap();
    }
}
