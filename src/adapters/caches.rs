//! Moves and copies tool chains' download and build caches between a run's home and the place they are kept (BND-3). A
//! hostile run may have written them: no link is followed, nothing over the size limit is read, and none of the run's
//! processes is alive meanwhile.

use super::git::files::remove;
use rustix::fs::{Mode, OFlags, ioctl_ficlone, open};
use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Size limits of one cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub bytes: u64,
    pub entries: u64,
}

/// What became of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// There was no cache.
    Nothing,
    Whole,
    /// It is over its limits, and nothing was moved.
    TooLarge,
}

/// Moves those of `parts` that are folders below `from` (reached without a link) to `to`, which must not exist: all of
/// them or none. Both must be on one file system.
///
/// # Errors
/// Something can't be read or moved. `to` may then exist in part.
pub fn carry(from: &Path, parts: &[&str], to: &Path, bounds: Bounds) -> io::Result<Done> {
    let there: Vec<&str> = parts.iter().copied().filter(|part| is_plain(from, part)).collect();
    if there.is_empty() {
        return Ok(Done::Nothing);
    }
    let mut counted = Counted::within(bounds);
    for part in &there {
        if !counted.add(&from.join(part))? {
            return Ok(Done::TooLarge);
        }
    }
    for part in there {
        let (old, new) = (from.join(part), to.join(part));
        folders_above(&new)?;
        // A folder that its owner can't write to can't be moved.
        let mode = old.symlink_metadata()?.mode() & 0o777;
        std::fs::set_permissions(&old, Permissions::from_mode(mode | 0o700))?;
        std::fs::rename(&old, &new)?;
    }
    Ok(Done::Whole)
}

/// Copies them: regular files, folders, and links as links; nothing else. Shares blocks where the file system can.
///
/// # Errors
/// Something can't be read or written. `to` may then exist in part.
pub fn copy(from: &Path, parts: &[&str], to: &Path, bounds: Bounds) -> io::Result<Done> {
    let mut counted = Counted::within(bounds);
    let mut done = Done::Nothing;
    let mut shares = true;
    for part in parts.iter().filter(|part| is_plain(from, part)) {
        done = Done::Whole;
        folders_above(&to.join(part))?;
        let mut open = vec![(from.join(part), to.join(part))];
        while let Some((old, new)) = open.pop() {
            let meta = old.symlink_metadata()?;
            if !counted.one(&meta) {
                return Ok(Done::TooLarge);
            }
            if meta.is_dir() {
                DirBuilder::new().mode(meta.mode() & 0o777 | 0o700).create(&new)?;
                for entry in std::fs::read_dir(&old)? {
                    let entry = entry?;
                    open.push((entry.path(), new.join(entry.file_name())));
                }
            } else if meta.is_symlink() {
                symlink(std::fs::read_link(&old)?, &new)?;
            } else if meta.is_file() {
                file(&old, &new, &mut shares)?;
            }
        }
    }
    Ok(done)
}

fn file(from: &Path, to: &Path, shares: &mut bool) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = File::from(open(from, flags, Mode::empty())?);
    let meta = source.metadata()?;
    if !meta.is_file() {
        return Ok(());
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = File::from(open(to, flags, Mode::RUSR | Mode::WUSR)?);
    *shares = *shares && ioctl_ficlone(&target, &source).is_ok();
    if !*shares {
        io::copy(&mut &source, &mut &target)?;
    }
    if let Ok(at) = meta.modified() {
        target.set_modified(at)?;
    }
    target.set_permissions(Permissions::from_mode(meta.mode() & 0o777))
}

/// Whether `part` is a folder below `root`, reached without a link.
fn is_plain(root: &Path, part: &str) -> bool {
    let mut at = root.to_owned();
    Path::new(part).components().all(|name| {
        at.push(name);
        at.symlink_metadata().is_ok_and(|meta| meta.is_dir())
    })
}

fn folders_above(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    DirBuilder::new().recursive(true).mode(0o700).create(parent)
}

struct Counted {
    left: Bounds,
}

impl Counted {
    fn within(bounds: Bounds) -> Self {
        Self { left: bounds }
    }

    /// Whether one more file fits. A sparse file counts with its full length, since a copy reads that much.
    fn one(&mut self, meta: &Metadata) -> bool {
        let size = if meta.is_file() { meta.len().max(meta.blocks() * 512) } else { 0 };
        match (self.left.bytes.checked_sub(size), self.left.entries.checked_sub(1)) {
            (Some(bytes), Some(entries)) => {
                self.left = Bounds { bytes, entries };
                true
            }
            (None, _) | (_, None) => false,
        }
    }

    fn add(&mut self, root: &Path) -> io::Result<bool> {
        let mut open = vec![root.to_owned()];
        while let Some(path) = open.pop() {
            let meta = path.symlink_metadata()?;
            if !self.one(&meta) {
                return Ok(false);
            }
            if meta.is_dir() {
                for entry in std::fs::read_dir(&path)? {
                    open.push(entry?.path());
                }
            }
        }
        Ok(true)
    }
}

/// Puts `new` in the place of `old` and deletes everything else in their folder.
///
/// # Errors
/// Something can't be deleted or renamed.
pub fn replace(new: &Path, old: &Path) -> io::Result<()> {
    remove(old).map_err(io::Error::other)?;
    std::fs::rename(new, old)?;
    let Some(folder) = old.parent() else { return Ok(()) };
    let others: Vec<PathBuf> = std::fs::read_dir(folder)?.filter_map(|e| Some(e.ok()?.path())).collect();
    for other in others.iter().filter(|other| *other != old) {
        remove(other).map_err(io::Error::other)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const PARTS: &[&str] = &[".cache", ".cargo/registry", "go/pkg/mod"];
    const ROOMY: Bounds = Bounds { bytes: 1 << 30, entries: 1000 };

    struct World {
        _dir: tempfile::TempDir,
        home: PathBuf,
        kept: PathBuf,
        outside: PathBuf,
    }

    fn world() -> World {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["home/.cache/pip", "home/.cargo/registry/src", "outside/registry"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        fs::write(at("home/.cache/pip/wheel"), "w").unwrap();
        fs::write(at("home/.cargo/registry/src/lib.rs"), "r").unwrap();
        fs::write(at("home/.cargo/config.toml"), "planted").unwrap();
        fs::write(at("outside/registry/own"), "the operator's").unwrap();
        World { home: at("home"), kept: at("kept"), outside: at("outside"), _dir: dir }
    }

    #[test]
    fn bnd_3_caches_are_carried_there_and_copied_back_and_settings_are_not() {
        let w = world();
        fs::set_permissions(w.home.join(".cargo/registry"), Permissions::from_mode(0o555)).unwrap();
        fs::set_permissions(w.home.join(".cache/pip/wheel"), Permissions::from_mode(0o4755)).unwrap();
        symlink("/etc/passwd", w.home.join(".cache/link")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(w.home.join(".cache/socket")).unwrap();
        assert_eq!(carry(&w.home, PARTS, &w.kept, ROOMY).unwrap(), Done::Whole);
        assert!(!w.home.join(".cache").exists() && w.home.join(".cargo/config.toml").exists());
        let again = w.home.with_file_name("again");
        assert_eq!(copy(&w.kept, PARTS, &again, ROOMY).unwrap(), Done::Whole);
        assert_eq!(fs::read_to_string(again.join(".cargo/registry/src/lib.rs")).unwrap(), "r");
        assert!(!again.join(".cargo/config.toml").exists());
        assert_eq!(again.join(".cache/pip/wheel").metadata().unwrap().mode() & 0o7777, 0o755, "no setuid");
        assert_eq!(fs::read_link(again.join(".cache/link")).unwrap(), Path::new("/etc/passwd"));
        assert!(again.join(".cache/socket").symlink_metadata().is_err(), "a socket is no cache");
        assert!(w.kept.join(".cache/pip/wheel").exists(), "the original stays");
        drop(socket);
    }

    #[test]
    fn bnd_3_a_link_on_the_way_is_not_followed() {
        let w = world();
        fs::remove_dir_all(w.home.join(".cargo")).unwrap();
        symlink(&w.outside, w.home.join(".cargo")).unwrap();
        fs::remove_dir_all(w.home.join(".cache")).unwrap();
        symlink(&w.outside, w.home.join(".cache")).unwrap();
        assert_eq!(carry(&w.home, PARTS, &w.kept, ROOMY).unwrap(), Done::Nothing);
        assert_eq!(copy(&w.home, PARTS, &w.kept, ROOMY).unwrap(), Done::Nothing);
        assert!(w.outside.join("registry/own").exists() && !w.kept.exists());
    }

    #[test]
    fn bnd_3_what_is_larger_than_its_bounds_is_left() {
        let w = world();
        let few = Bounds { entries: 3, ..ROOMY };
        assert_eq!(carry(&w.home, PARTS, &w.kept, few).unwrap(), Done::TooLarge);
        // A sparse file: it takes no space but has this length.
        File::create(w.home.join(".cache/holes")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(carry(&w.home, PARTS, &w.kept, ROOMY).unwrap(), Done::TooLarge);
        assert_eq!(copy(&w.home, PARTS, &w.kept.with_file_name("x"), ROOMY).unwrap(), Done::TooLarge);
        assert!(w.home.join(".cache/pip/wheel").exists() && !w.kept.exists());
    }

    #[test]
    fn bnd_3_one_cache_takes_the_place_of_all_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["new/x", "tree1/y", "tree2/z", "tree3.old/z"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        replace(&at("new"), &at("tree1")).unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left == ["tree1"] && at("tree1/x").exists(), "{left:?}");
    }
}
