//! The transcript of an agent's conversation: the only part of a runtime's own folder that outlives a run (BND-3). Its
//! settings, hooks, plug-ins and memory are deleted with the run.

use crate::adapters::runtime::Transcript;
use crate::adapters::sentinel;
use rustix::fs::{Dir, FileType, Mode, OFlags, openat};
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A longer conversation starts afresh.
const MOST_BYTES: u64 = 64 << 20;
/// The limits of the search: names read, and folder levels below the first.
const MOST_NAMES: usize = 20_000;
const DEEPEST: usize = 4;

/// Copies the transcript that a run left in its runtime's folder to `store`, replacing the earlier one. Accepts only a
/// regular file of `owner` with a single hard link, reached through no symbolic link. Returns whether there was one.
///
/// # Errors
/// The copy can't be written.
pub fn keep(config_dir: &Path, of: &Transcript, owner: u32, store: &Path) -> std::io::Result<bool> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(root) = rustix::fs::open(config_dir, flags, Mode::empty()) else { return Ok(false) };
    let Some(top) = folder(root.as_fd(), of.folder.as_bytes()) else { return Ok(false) };
    let mut names = 0;
    let Some((below, mut file)) = find(top.as_fd(), &mut PathBuf::new(), of, 0, &mut names) else { return Ok(false) };
    let meta = file.metadata()?;
    if !meta.is_file() || meta.nlink() != 1 || meta.uid() != owner || meta.len() > MOST_BYTES {
        return Ok(false);
    }
    let mut bytes = Vec::new();
    (&mut file).take(MOST_BYTES).read_to_end(&mut bytes)?;
    drop_kept(store)?;
    sentinel::put(&store.join(of.folder).join(below), &bytes).map_err(std::io::Error::other)?;
    Ok(true)
}

/// Puts the stored transcript into the folder of a new run. Returns whether it exists there now.
///
/// # Errors
/// It can't be read or written.
pub fn restore(store: &Path, of: &Transcript, config_dir: &Path) -> std::io::Result<bool> {
    let mut open = vec![store.join(of.folder)];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten() {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() && of.is(entry.file_name().as_bytes()) {
                let Ok(below) = path.strip_prefix(store) else { continue };
                let to = config_dir.join(below);
                if let Some(parent) = to.parent() {
                    std::fs::create_dir_all(parent)?;
                }
                std::fs::copy(&path, &to)?;
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn drop_kept(store: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(store) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn folder(at: BorrowedFd<'_>, name: &[u8]) -> Option<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, CString::new(name).ok()?, flags, Mode::empty()).ok()
}

/// Finds the transcript below a folder, with its relative path.
fn find(
    at: BorrowedFd<'_>,
    below: &mut PathBuf,
    of: &Transcript,
    depth: usize,
    names: &mut usize,
) -> Option<(PathBuf, File)> {
    for entry in Dir::read_from(at).ok()? {
        let entry = entry.ok()?;
        let name = entry.file_name().to_bytes().to_vec();
        *names += 1;
        if *names > MOST_NAMES {
            return None;
        }
        if name == b"." || name == b".." {
            continue;
        }
        let text = std::ffi::OsStr::from_bytes(&name);
        if of.is(&name) && entry.file_type() != FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            if let Ok(fd) = openat(at, entry.file_name(), flags, Mode::empty()) {
                return Some((below.join(text), File::from(fd)));
            }
        } else if depth < DEEPEST
            && let Some(inner) = folder(at, &name)
        {
            below.push(text);
            if let Some(found) = find(inner.as_fd(), below, of, depth + 1, names) {
                return Some(found);
            }
            below.pop();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const OF: fn() -> Transcript = || Transcript { folder: "projects", ending: "s1.jsonl".into() };

    #[test]
    fn bnd_3_the_transcript_alone_goes_from_run_to_run() {
        let dir = tempfile::tempdir().unwrap();
        let me = rustix::process::geteuid().as_raw();
        let (run, store, next) = (dir.path().join("run"), dir.path().join("store"), dir.path().join("next"));
        std::fs::create_dir_all(run.join("projects/-checkout")).unwrap();
        std::fs::write(run.join("projects/-checkout/s1.jsonl"), "said\n").unwrap();
        std::fs::write(run.join("projects/-checkout/other.jsonl"), "x").unwrap();
        std::fs::write(run.join("settings.json"), "{\"hooks\": 1}").unwrap();
        assert!(keep(&run, &OF(), me, &store).unwrap());
        std::fs::create_dir(&next).unwrap();
        assert!(restore(&store, &OF(), &next).unwrap());
        assert_eq!(std::fs::read_to_string(next.join("projects/-checkout/s1.jsonl")).unwrap(), "said\n");
        assert!(!next.join("settings.json").exists() && !next.join("projects/-checkout/other.jsonl").exists());
        assert!(!restore(&dir.path().join("none"), &OF(), &next).unwrap());
    }

    #[test]
    fn bnd_3_a_transcript_that_leads_elsewhere_is_none() {
        let me = rustix::process::geteuid().as_raw();
        let dir = tempfile::tempdir().unwrap();
        let (secret, store) = (dir.path().join("secret"), dir.path().join("store"));
        std::fs::write(&secret, "key").unwrap();
        let planted = |plant: &dyn Fn(&Path)| {
            let run = tempfile::tempdir_in(dir.path()).unwrap();
            std::fs::create_dir(run.path().join("projects")).unwrap();
            plant(run.path());
            let kept = keep(run.path(), &OF(), me, &store).unwrap();
            assert!(!kept && !store.exists());
        };
        planted(&|run| symlink(&secret, run.join("projects/s1.jsonl")).unwrap());
        planted(&|run| std::fs::hard_link(&secret, run.join("projects/s1.jsonl")).unwrap());
        planted(&|run| {
            std::fs::create_dir(dir.path().join("elsewhere")).ok();
            std::fs::write(dir.path().join("elsewhere/s1.jsonl"), "key").unwrap();
            symlink(dir.path().join("elsewhere"), run.join("projects/x")).unwrap();
        });
        planted(&|run| {
            std::fs::remove_dir(run.join("projects")).unwrap();
            symlink(dir.path().join("elsewhere"), run.join("projects")).unwrap();
        });
        planted(&|run| std::fs::create_dir(run.join("projects/s1.jsonl")).unwrap());
        planted(&|run| {
            let status = std::process::Command::new("mkfifo").arg(run.join("projects/s1.jsonl")).status();
            assert!(status.unwrap().success());
        });
        let run = dir.path().join("mine");
        std::fs::create_dir_all(run.join("projects")).unwrap();
        std::fs::write(run.join("projects/s1.jsonl"), "x").unwrap();
        assert!(!keep(&run, &OF(), me + 1, &store).unwrap(), "of another account");
    }
}
