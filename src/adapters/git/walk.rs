//! Reads what an untrusted run left in its checkout as data (BND-5): through file descriptors below the root, without
//! following links, bounded in number, depth, size and time. Runs no program. Only once every process of the run is
//! gone.

use super::history::{EntryKind, TreeEntry};
use crate::model::ids::Sha;
use crate::model::tree_rules::{Broken, name_fault};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, openat2, readlinkat, statat};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// The tree from which the run started, by path.
pub type Base = BTreeMap<Vec<u8>, TreeEntry>;

/// Limits of a walk; a run that exceeds one has broken a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Names visited.
    pub names: usize,
    pub depth: usize,
    /// Bytes of one new or changed file. Its blob is read whole for secrets, so this stays below the limit of git's
    /// output.
    pub file: u64,
    /// Bytes of all new or changed files.
    pub total: u64,
    pub time: Duration,
}

const FILE_BYTES: u64 = 200 << 20;
const _: () = assert!(FILE_BYTES < super::cmd::OUTPUT_CAP as u64, "a file that is let through can be read again");

impl Default for Limits {
    fn default() -> Self {
        Self { names: 1_000_000, depth: 128, file: FILE_BYTES, total: 2 << 30, time: Duration::from_secs(120) }
    }
}

/// What is known of a checkout before the walk.
#[derive(Debug, Clone)]
pub struct Around<'a> {
    pub base: &'a Base,
    /// The work item's folder, in which nothing is ignored.
    pub folder: &'a str,
    /// Paths made by `orch` or `worktree.setup`: left out with everything below them, unless the base has something
    /// there.
    pub left_out: &'a BTreeSet<String>,
    /// The account that the files must belong to.
    pub owner: u32,
    pub limits: Limits,
    /// Take all of it, as data and not as a git tree: nothing is ignored, empty folders count, and no name may be git's
    /// own.
    pub whole: bool,
}

/// What a name in the checkout is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    File {
        executable: bool,
    },
    /// Its target, as stored.
    Link(Vec<u8>),
    /// A submodule that the base has, at this commit.
    Submodule(Sha),
}

/// A name that belongs in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    pub size: u64,
    pub seal: Seal,
}

/// Identity and last change of a file. A process can't restore either: inode and change time belong to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    pub inode: u64,
    pub size: u64,
    pub changed: (i64, i64),
}

impl Seal {
    fn of(stat: &Stat) -> Self {
        Self {
            inode: stat.st_ino,
            size: size(stat),
            changed: (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(i64::MAX)),
        }
    }
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(u64::MAX)
}

/// The result of a walk.
#[derive(Debug, Default)]
pub struct Found {
    pub entries: BTreeMap<Vec<u8>, Entry>,
    /// If all of it is taken: the folders.
    pub folders: BTreeSet<Vec<u8>>,
    /// Folders that contain a repository of their own; their files count as files.
    pub nested: Vec<String>,
    pub broken: Vec<Broken>,
    /// A limit ended the walk: names that are not in `entries` may still exist.
    pub partial: bool,
}

/// A checkout whose files can be opened by path.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

fn inside(flags: OFlags, at: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    openat2(at, name, flags, Mode::empty(), resolve)
}

impl Root {
    /// Opens a checkout's folder. Fails if it is a link, or not a folder.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self { fd: rustix::fs::open(path, flags, Mode::empty())? })
    }

    /// Opens a regular file by its path below the root, to read at most `most` bytes. Fails with `InvalidData` if it is
    /// not a regular file, or longer.
    pub fn file(&self, path: &[u8], most: u64) -> std::io::Result<std::io::Take<File>> {
        let file = File::from(inside(OFlags::RDONLY, self.fd.as_fd(), path)?);
        let meta = file.metadata()?;
        if !meta.is_file() || meta.len() > most {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "no regular file of a bounded size"));
        }
        Ok(file.take(most))
    }

    fn text(&self, path: &[u8], most: u64) -> Option<String> {
        let mut bytes = Vec::new();
        self.file(path, most).ok()?.read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Everything in the checkout that belongs in a tree. Fails if the root itself can't be read; anything wrong below
    /// it is in `broken`.
    pub fn walk(&self, around: &Around<'_>) -> std::io::Result<Found> {
        let mut walk = Walk {
            root: self,
            around,
            found: Found::default(),
            ignores: Vec::new(),
            names: 0,
            deadline: Instant::now() + around.limits.time,
        };
        let fd = inside(OFlags::RDONLY | OFlags::DIRECTORY, self.fd.as_fd(), b".")?;
        walk.folder(fd.as_fd(), b"", false, 0);
        walk.keep_submodules();
        Ok(walk.found)
    }
}

/// Limits of one `.gitignore`, in bytes and in patterns.
const IGNORE_BYTES: u64 = 1 << 20;
const IGNORE_LINES: usize = 10_000;
/// Broken rules that are named.
const NAMED: usize = 20;

struct Walk<'a> {
    root: &'a Root,
    around: &'a Around<'a>,
    found: Found,
    /// The `.gitignore` files from the root to the current folder, each with the length of its folder's prefix.
    ignores: Vec<(usize, Gitignore)>,
    names: usize,
    deadline: Instant,
}

impl Walk<'_> {
    fn broken(&mut self, path: &[u8], why: impl Into<String>) {
        if self.found.broken.len() < NAMED {
            self.found.broken.push(Broken::new(&String::from_utf8_lossy(path), why));
        }
    }

    fn stop(&mut self, path: &[u8], why: String) {
        if !self.found.partial {
            self.found.broken.truncate(NAMED - 1);
            self.broken(path, why);
            self.found.partial = true;
        }
    }

    /// Walks one folder. `prefix` ends with a slash, or is empty. `ignored`: visit only what the base has, and the work
    /// item's folder.
    fn folder(&mut self, fd: BorrowedFd<'_>, prefix: &[u8], ignored: bool, depth: usize) {
        if depth > self.around.limits.depth {
            return self.stop(prefix, format!("is deeper than {} folders", self.around.limits.depth));
        }
        let mut names = Vec::new();
        let listing = Dir::read_from(fd).and_then(|dir| {
            for entry in dir {
                let name = entry?.file_name().to_bytes().to_vec();
                if name != b"." && name != b".." {
                    names.push(name);
                }
                if names.len() > self.around.limits.names {
                    break;
                }
            }
            Ok(())
        });
        if let Err(e) = listing {
            return self.broken(prefix, format!("is a folder that can't be read: {e}"));
        }
        names.sort();
        let known = self.ignores.len();
        if !ignored && !self.around.whole && names.binary_search(&b".gitignore".to_vec()).is_ok() {
            self.read_ignore(fd, prefix);
        }
        for name in names {
            self.names += 1;
            if self.names > self.around.limits.names {
                self.stop(prefix, format!("is where the checkout exceeds {} names", self.around.limits.names));
            } else if Instant::now() > self.deadline {
                self.stop(prefix, format!("is where the walk exceeded {} s", self.around.limits.time.as_secs()));
            }
            if self.found.partial {
                break;
            }
            self.name(fd, prefix, &name, ignored, depth);
        }
        self.ignores.truncate(known);
    }

    fn read_ignore(&mut self, fd: BorrowedFd<'_>, prefix: &[u8]) {
        let path = [prefix, b".gitignore"].concat();
        let Ok(stat) = statat(fd, ".gitignore", AtFlags::SYMLINK_NOFOLLOW) else { return };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return;
        }
        let Some(text) = self.root.text(&path, IGNORE_BYTES) else {
            return self.broken(&path, "can't be read, or is larger than 1 MiB");
        };
        if text.lines().count() > IGNORE_LINES {
            return self.broken(&path, format!("has more than {IGNORE_LINES} lines"));
        }
        let mut builder = GitignoreBuilder::new("");
        for line in text.lines() {
            // A line that is invalid by git's rules matches nothing.
            drop(builder.add_line(None, line));
        }
        match builder.build() {
            Ok(rules) => self.ignores.push((prefix.len(), rules)),
            Err(e) => self.broken(&path, format!("can't be understood: {e}")),
        }
    }

    /// Applies the `.gitignore` files: the deepest one with a matching rule decides.
    fn is_ignored(&self, path: &[u8], folder: bool) -> bool {
        use std::os::unix::ffi::OsStrExt;
        for (prefix, rules) in self.ignores.iter().rev() {
            let below = std::ffi::OsStr::from_bytes(path.get(*prefix..).unwrap_or_default());
            match rules.matched(below, folder) {
                ignore::Match::None => {}
                ignore::Match::Ignore(_) => return true,
                ignore::Match::Whitelist(_) => return false,
            }
        }
        false
    }

    /// Whether the base has this path, or something below it.
    fn tracked(&self, path: &[u8]) -> bool {
        if self.around.base.contains_key(path) {
            return true;
        }
        let below = [path, b"/"].concat();
        self.around.base.range(below.clone()..).next().is_some_and(|(p, _)| p.starts_with(&below))
    }

    /// Whether a path is the work item's folder, leads to it, or is in it.
    fn of_folder(&self, path: &[u8]) -> (bool, bool) {
        let folder = self.around.folder.as_bytes();
        let within = |outer: &[u8], inner: &[u8]| {
            inner == outer || (inner.starts_with(outer) && inner.get(outer.len()) == Some(&b'/'))
        };
        (within(path, folder), within(folder, path))
    }

    fn name(&mut self, fd: BorrowedFd<'_>, prefix: &[u8], name: &[u8], ignored: bool, depth: usize) {
        if name == b".git" && !self.around.whole {
            // The agent's own repository, or one inside: dropped.
            if !prefix.is_empty() {
                let folder = prefix.strip_suffix(b"/").unwrap_or(prefix);
                self.found.nested.push(String::from_utf8_lossy(folder).into_owned());
            }
            return;
        }
        let path = [prefix, name].concat();
        let stat = match statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(e) => return self.broken(&path, format!("can't be read: {e}")),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let tracked = self.tracked(&path);
        let text = std::str::from_utf8(&path).ok();
        if !tracked && text.is_some_and(|t| self.around.left_out.contains(t)) {
            return;
        }
        let (leads, within) = self.of_folder(&path);
        let folder = kind == FileType::Directory;
        let ignored = !within && (ignored || self.is_ignored(&path, folder));
        if ignored && !tracked && !(leads && folder) {
            return;
        }
        if !tracked {
            let fault = text.map_or(Some("has a name that is not UTF-8"), name_fault);
            if let Some(why) = fault {
                return self.broken(&path, why);
            }
        }
        if stat.st_uid != self.around.owner {
            return self.broken(&path, format!("belongs to another account ({})", stat.st_uid));
        }
        self.entry(fd, name, path, &stat, ignored, depth);
    }

    fn entry(&mut self, fd: BorrowedFd<'_>, name: &[u8], path: Vec<u8>, stat: &Stat, ignored: bool, depth: usize) {
        let base = self.around.base.get(&path);
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                if let Some(base) = base.filter(|b| b.kind == EntryKind::Submodule) {
                    let at = self.root.submodule_head(&path).unwrap_or_else(|| base.id.clone());
                    self.add(path, Kind::Submodule(at), stat);
                    return;
                }
                return match inside(OFlags::RDONLY | OFlags::DIRECTORY, fd, name) {
                    Ok(below) => {
                        if self.around.whole {
                            self.found.folders.insert(path.clone());
                        }
                        let prefix = [path.as_slice(), b"/"].concat();
                        self.folder(below.as_fd(), &prefix, ignored, depth + 1);
                    }
                    Err(e) => self.broken(&path, format!("is a folder that can't be read: {e}")),
                };
            }
            FileType::RegularFile => Kind::File { executable: stat.st_mode & 0o100 != 0 },
            FileType::Symlink => match readlinkat(fd, name, Vec::new()) {
                Ok(target) => Kind::Link(target.into_bytes()),
                Err(e) => return self.broken(&path, format!("is a link that can't be read: {e}")),
            },
            FileType::Fifo => return self.broken(&path, "is a FIFO"),
            FileType::Socket => return self.broken(&path, "is a socket"),
            FileType::CharacterDevice | FileType::BlockDevice => return self.broken(&path, "is a device"),
            FileType::Unknown => return self.broken(&path, "is neither a file nor a folder nor a link"),
        };
        self.add(path, kind, stat);
    }

    fn add(&mut self, path: Vec<u8>, kind: Kind, stat: &Stat) {
        self.found.entries.insert(path, Entry { kind, size: size(stat), seal: Seal::of(stat) });
    }

    /// A submodule whose folder is gone is kept: to remove one, `.gitmodules` would have to change as well.
    fn keep_submodules(&mut self) {
        for (path, base) in self.around.base.iter().filter(|(_, b)| b.kind == EntryKind::Submodule) {
            let seal = Seal { inode: 0, size: 0, changed: (0, 0) };
            let kept = Entry { kind: Kind::Submodule(base.id.clone()), size: 0, seal };
            self.found.entries.entry(path.clone()).or_insert(kept);
        }
    }
}

impl Root {
    /// The commit that a submodule's work tree is at, read from its files; `None` if they don't say.
    fn submodule_head(&self, path: &[u8]) -> Option<Sha> {
        const MOST: u64 = 4096;
        let dot = [path, b"/.git"].concat();
        // Either a folder, or a file that names one elsewhere in this checkout.
        let dir = match self.text(&dot, MOST) {
            None => dot,
            Some(text) => plain(&[path, b"/", text.trim().strip_prefix("gitdir: ")?.as_bytes()].concat())?,
        };
        let head = self.text(&[&dir, b"/HEAD".as_slice()].concat(), MOST)?;
        match head.trim().strip_prefix("ref: ") {
            None => Sha::parse(&head).ok(),
            Some(name) if name.starts_with("refs/heads/") => {
                Sha::parse(&self.text(&[&dir, b"/".as_slice(), name.as_bytes()].concat(), MOST)?).ok()
            }
            Some(_) => None,
        }
    }
}

/// A path with its `..` parts resolved by name; `None` if it leaves the root.
fn plain(path: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    if path.starts_with(b"/") {
        return None;
    }
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join(b"/".as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submodules_folder_is_found_within_the_checkout_only() {
        assert_eq!(plain(b"lib/x/../../.git/modules/x").as_deref(), Some(b".git/modules/x".as_slice()));
        assert_eq!(plain(b"lib/../../etc"), None);
        assert_eq!(plain(b"/etc"), None);
    }
}
