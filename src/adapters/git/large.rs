//! Files that git-lfs stores (BND-5). What a run left at such a path becomes a pointer in its commit, and the real
//! git-lfs uploads the content to the remote on this side: in an empty folder, with the content on standard input, in
//! the build's own repository. That one has no work tree, index or HEAD, so there is no `.lfsconfig` to read: contents
//! go to the remote itself, whatever the branch says.

use super::build::{Build, Source};
use super::cmd::{Cmd, GitError, Result};
use super::history::TreeEntry;
use super::refusal;
use crate::model::fault::Access;
use crate::model::ids::Sha;
use crate::model::large::{POINTER_BYTES, Pointer, is_pointer};
use crate::model::tree_rules::Broken;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Contents named in one command.
const AT_ONCE: usize = 200;

/// How long the mirror keeps contents for scans.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// Pointers of the base by path, each with its blob; `None`: not a pointer.
type Known<'s> = BTreeMap<&'s [u8], (&'s Sha, Option<Pointer>)>;

/// A content that is new in a run's tree and that git-lfs stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Large {
    pub path: String,
    pub pointer: Pointer,
}

/// Where git-lfs stores contents in a repository.
pub(super) fn store(repository: &Path) -> PathBuf {
    repository.join("lfs")
}

/// Deletes a mirror's contents that have not been used for long.
pub(super) fn drop_old(repository: &Path) -> std::io::Result<()> {
    let mut open = vec![store(repository).join("objects")];
    while let Some(folder) = open.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        for entry in entries {
            let (path, data) = entry.and_then(|e| Ok((e.path(), e.metadata()?)))?;
            if data.is_dir() {
                open.push(path);
            } else if data.modified()?.elapsed().is_ok_and(|age| age > KEPT) {
                std::fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

impl Build<'_> {
    /// Replaces each content that git-lfs stores, by the base's attributes, with its pointer, and returns the new ones.
    /// What the base has (a pointer, or its content) stays. A pointer that is new breaks a rule, however it is written:
    /// nobody has seen its content.
    pub(super) fn large_files(
        &self,
        source: &Source<'_>,
        copied: &[&[u8]],
        ids: &mut BTreeMap<Vec<u8>, Sha>,
        broken: &mut Vec<Broken>,
    ) -> Result<Vec<Large>> {
        let of_lfs = self.kept_by_lfs(copied)?;
        if of_lfs.is_empty() {
            return Ok(Vec::new());
        }
        let known: BTreeSet<&Sha> = source.base.values().map(|e| &e.id).collect();
        let before = self.pointers_of(source, &of_lfs)?;
        let mut new: Vec<(&[u8], Pointer)> = Vec::new();
        for path in of_lfs {
            if ids.get(path).is_some_and(|id| known.contains(id)) {
                continue;
            }
            let file = self.stage(path);
            let unread = || GitError::io(format!("reading the copy of {}", String::from_utf8_lossy(path)));
            let pointer = pointer_of(&file).map_err(unread())?;
            if let Some((id, _)) = before.get(path).filter(|(_, was)| was.as_ref() == Some(&pointer)) {
                ids.insert(path.to_vec(), (*id).clone());
            } else if pointer.size() == 0 {
                // An empty file is its own pointer.
            } else if pointer.size() <= POINTER_BYTES as u64 && is_pointer(&std::fs::read(&file).map_err(unread())?) {
                ids.remove(path);
                let why = "is a git-lfs pointer that the base doesn't have: write the content itself";
                broken.push(Broken::new(&String::from_utf8_lossy(path), why));
            } else {
                ids.remove(path);
                new.push((path, pointer));
            }
        }
        self.brought(new, ids, broken)
    }

    /// Those of these paths that have `filter=lfs`.
    fn kept_by_lfs<'p>(&self, paths: &[&'p [u8]]) -> Result<Vec<&'p [u8]>> {
        let mut input = Vec::new();
        for path in paths {
            input.extend_from_slice(path);
            input.push(0);
        }
        let out = self.staged().args(["check-attr", "-z", "--stdin", "filter"]).stdin(input).ok()?;
        let parts: Vec<&[u8]> = out.split(|b| *b == 0).collect();
        let of_lfs: BTreeSet<&[u8]> = parts
            .chunks_exact(3)
            .filter(|c| c.get(2) == Some(&&b"lfs"[..]))
            .filter_map(|c| c.first().copied())
            .collect();
        Ok(paths.iter().copied().filter(|path| of_lfs.contains(path)).collect())
    }

    /// What the base has at these paths, and the pointer in it.
    fn pointers_of<'s>(&self, source: &Source<'s>, paths: &[&[u8]]) -> Result<Known<'s>> {
        let small = |e: &&TreeEntry| e.is_file() && e.size.is_some_and(|s| s <= POINTER_BYTES as u64);
        let entries: Vec<&TreeEntry> = paths.iter().filter_map(|path| source.base.get(*path)).filter(small).collect();
        let contents = self.contents(entries.iter().map(|e| &e.id))?;
        let read = |(e, bytes): (&&'s TreeEntry, Vec<u8>)| (e.path.as_slice(), (&e.id, Pointer::read(&bytes)));
        Ok(entries.iter().zip(contents).map(read).collect())
    }

    /// Passes new contents to git-lfs, which stores them in the build's repository.
    fn brought(
        &self,
        new: Vec<(&[u8], Pointer)>,
        ids: &mut BTreeMap<Vec<u8>, Sha>,
        broken: &mut Vec<Broken>,
    ) -> Result<Vec<Large>> {
        if new.is_empty() {
            return Ok(Vec::new());
        }
        if !self.has_lfs()? {
            let why = "is kept by git-lfs, which is not installed here: its new content can't be uploaded";
            broken.extend(new.iter().map(|(path, _)| Broken::new(&String::from_utf8_lossy(path), why)));
            return Ok(Vec::new());
        }
        let mut texts = Vec::new();
        for (path, pointer) in &new {
            let shown = String::from_utf8_lossy(path).into_owned();
            let bytes =
                std::fs::read(self.stage(path)).map_err(GitError::io(format!("reading the copy of {shown}")))?;
            let said = self.lfs()?.args(["lfs", "clean"]).stdin(bytes).ok()?;
            if said != pointer.text().as_bytes() || !store(self.dir()).join(pointer.place()).is_file() {
                let stderr = format!("{shown}: not the pointer of what it was given");
                return Err(GitError::Broken { args: "lfs clean".to_owned(), code: 0, stderr });
            }
            texts.push((*path, pointer.text().into_bytes()));
        }
        let raw: Vec<(&[u8], &[u8])> = texts.iter().map(|(path, text)| (*path, text.as_slice())).collect();
        self.hash_raw(&raw, ids)?;
        let large =
            |(path, pointer): (&[u8], Pointer)| Large { path: String::from_utf8_lossy(path).into_owned(), pointer };
        Ok(new.into_iter().map(large).collect())
    }

    /// A git in which git-lfs finds only this repository's own settings.
    fn lfs(&self) -> Result<Cmd<'_>> {
        let empty = self.dir().join("empty");
        std::fs::create_dir_all(&empty).map_err(GitError::io(format!("making {}", empty.display())))?;
        let cmd = self.mirror().git().cmd(&empty).git_dir(self.dir()).config("core.bare=true");
        Ok(cmd.env("GIT_INDEX_FILE", self.dir().join("no-index")))
    }

    /// Whether git finds git-lfs on this machine.
    fn has_lfs(&self) -> Result<bool> {
        self.mirror().git().has_lfs()
    }

    /// A content that [`super::build::Built`] names as new, to be checked before it goes anywhere.
    ///
    /// # Errors
    /// It is no longer in the build's repository.
    pub fn content(&self, large: &Large) -> Result<Vec<u8>> {
        std::fs::read(store(self.dir()).join(large.pointer.place()))
            .map_err(GitError::io(format!("reading the content of {}", large.path)))
    }

    /// Uploads new contents to the remote, so that no commit is pushed whose contents are missing there. Contents that
    /// the remote has are not sent again. Afterwards the mirror has them for the scan.
    ///
    /// # Errors
    /// The remote's, as for a push; nothing of the run was pushed.
    pub fn upload(&self, large: &[Large]) -> Result<()> {
        let contents: BTreeSet<&Pointer> = large.iter().map(|l| &l.pointer).collect();
        let all: Vec<&&Pointer> = contents.iter().collect();
        for some in all.chunks(AT_ONCE) {
            let cmd = self.mirror().reaching_remote(self.lfs()?);
            let done = cmd.args(["lfs", "push", "--object-id", "origin"]).args(some.iter().map(|p| p.oid())).run()?;
            if done.code == 0 {
                continue;
            }
            let (what, access, reason) = ("push of git-lfs contents".to_owned(), Access::Push, done.stderr);
            return Err(match refusal::read(&reason) {
                Some(refusal) => GitError::Refused { what, access, refusal, reason },
                None => GitError::Unreachable { what, access, how: refusal::unreached(&reason), reason },
            });
        }
        for pointer in all {
            let (from, to) =
                (store(self.dir()).join(pointer.place()), store(self.mirror().path()).join(pointer.place()));
            let moved = to.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::rename(&from, &to));
            moved.map_err(GitError::io(format!("keeping {}", to.display())))?;
        }
        Ok(())
    }
}

/// The pointer that git-lfs writes for a file.
fn pointer_of(path: &Path) -> std::io::Result<Pointer> {
    let mut file = std::fs::File::open(path)?;
    let (mut hash, mut size, mut buffer) = (Sha256::new(), 0_u64, vec![0_u8; 64 << 10]);
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hash.update(buffer.get(..n).unwrap_or_default());
        size += n as u64;
    }
    let hex: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Pointer::new(&hex, size).ok_or_else(|| std::io::Error::other("its digest has an unknown form"))
}
