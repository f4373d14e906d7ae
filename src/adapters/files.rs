//! Writes files whole or not at all, and into pipes and devices. One place, so that every output behaves alike.

use rustix::fs::{Mode, OFlags};
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Attempts to find a free temporary name.
const TRIES: u32 = 16;

/// Writes what a person asked for into the file they named (`--output`, `--report`). A regular file, also one behind a
/// link, is replaced as a whole and keeps its mode, or is left as it was. A pipe, a device or a file that can't be
/// replaced (other owner, several names, a folder that accepts no new file) is written in place. `mode`: for a new
/// file, in place of the umask's. Fails as the write does: a full disk is an error.
pub fn output(path: &Path, bytes: &[u8], mode: Option<u32>) -> io::Result<()> {
    let target = followed(path)?;
    let there = match std::fs::metadata(&target) {
        Ok(meta) => Some(meta),
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    if there.as_ref().is_some_and(|meta| !replaceable(meta)) {
        return in_place(&target, bytes);
    }
    let kept = there.as_ref().map(|meta| meta.permissions().mode() & 0o7777).or(mode);
    match replace(&target, bytes, kept) {
        Err(e)
            if there.is_some() && matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) =>
        {
            in_place(&target, bytes)
        }
        other => other,
    }
}

/// Writes a file under a temporary name in the same folder, syncs it and renames it over `path`. `mode`: `None` leaves
/// it to the umask. The folder must exist. A failed write leaves nothing behind.
pub fn replace(path: &Path, bytes: &[u8], mode: Option<u32>) -> io::Result<()> {
    let (mut file, temporary) = temporary_next_to(path, mode)?;
    let mut write = || -> io::Result<()> {
        if let Some(mode) = mode {
            // The umask was applied when the file was opened.
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().inspect_err(|_| drop(std::fs::remove_file(&temporary)))
}

/// A new file in the folder of `path`.
fn temporary_next_to(path: &Path, mode: Option<u32>) -> io::Result<(File, PathBuf)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = path.file_name().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "it is not a file name"))?;
    let mut tries = 0;
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        // A collector reads `*.prom`, so an unfinished file must not end like that.
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}-{n}.new", std::process::id()));
        let temporary = path.with_file_name(temporary);
        match OpenOptions::new().write(true).create_new(true).mode(mode.unwrap_or(0o666)).open(&temporary) {
            Ok(file) => return Ok((file, temporary)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists && tries < TRIES => tries += 1,
            Err(e) => return Err(e),
        }
    }
}

/// Whether a new file may take its place without anybody missing the old one.
fn replaceable(meta: &Metadata) -> bool {
    meta.is_file() && meta.nlink() == 1 && meta.uid() == rustix::process::geteuid().as_raw()
}

fn in_place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Without O_CREAT: a sticky folder refuses it for a pipe that belongs to someone else.
    let mut file = File::from(rustix::fs::open(path, OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC, Mode::empty())?);
    file.write_all(bytes)?;
    match file.sync_all() {
        // Pipes and devices can't be synced.
        Err(e) if e.kind() == ErrorKind::InvalidInput || e.raw_os_error() == Some(95) => Ok(()),
        other => other,
    }
}

/// Where the links of a name end, even if nothing exists there yet.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut at = path.to_owned();
    for _ in 0..40 {
        match std::fs::read_link(&at) {
            // The kernel's own links (`/dev/stdout` to `pipe:[7]`) name no path: they are opened, not resolved.
            Ok(_) if at.starts_with("/proc") => return Ok(at),
            Ok(to) => at = at.parent().unwrap_or(Path::new("")).join(to),
            Err(_) => return Ok(at),
        }
    }
    Err(io::Error::other("too many links"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_link_stays_a_link_and_its_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("real"), dir.path().join("link"));
        std::os::unix::fs::symlink("real", &link).unwrap();
        output(&link, b"new", Some(0o644)).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        std::fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        let before = std::fs::metadata(&file).unwrap().ino();
        output(&link, b"more", Some(0o644)).unwrap();
        let after = std::fs::metadata(&file).unwrap();
        assert!(link.is_symlink() && after.ino() != before && after.permissions().mode() & 0o777 == 0o640);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left behind");
    }

    #[test]
    fn a_pipe_a_device_and_a_second_name_are_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::from(0o600), 0).unwrap();
        let path = fifo.clone();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            File::open(path).unwrap().read_to_string(&mut text).map(|_| text)
        });
        output(&fifo, b"through", None).unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), "through");
        output(Path::new("/dev/null"), b"x", None).unwrap();
        assert!(std::fs::metadata("/dev/null").unwrap().rdev() != 0);
        assert_eq!(output(Path::new("/dev/full"), b"x", None).unwrap_err().kind(), ErrorKind::StorageFull);
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::write(&one, "long old text").unwrap();
        std::fs::hard_link(&one, &two).unwrap();
        output(&one, b"short", None).unwrap();
        assert_eq!(std::fs::read(&two).unwrap(), b"short");
    }

    #[test]
    fn what_can_not_be_written_says_so_and_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(output(&dir.path().join("absent/x"), b"x", None).is_err());
        assert!(output(dir.path(), b"x", None).is_err());
        assert!(output(Path::new("/"), b"x", None).is_err());
    }
}
