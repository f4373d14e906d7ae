//! Makes the one commit of a run (RULE-46) from what a walk found, in a repository that nobody else writes to:
//! `repos/<repo>.build.git`, recreated for each build, with the mirror's objects as alternate. Attributes come from the
//! commit at which the run began; no configuration, attribute or object of the run's own repository has any effect.

use super::cmd::{Cmd, Done, GitError, Result};
use super::history::{EntryKind, TreeEntry, unexpected};
use super::large::Large;
use super::lock::MirrorLock;
use super::mirror::Mirror;
use super::object::{self, Loose, Sort};
use super::update::stamped;
use super::walk::{Base, Entry, Found, Kind, Limits, Root};
use super::{Person, files};
use crate::model::ids::Sha;
use crate::model::redact;
use crate::model::tree_rules::{Broken, Links, clashes, link_faults};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a build waits for another build of the same repository.
const LOCK_WAIT: Duration = Duration::from_secs(660);
/// How much of a run's leftovers is kept as a patch, in bytes.
const PATCH_CAP: usize = 16 << 20;
const ATTRIBUTES: &[u8] = b".gitattributes";
const ATTRIBUTES_BYTES: u64 = 1 << 20;
/// How many bytes the contents of a run's objects may have for their pack to be made in memory.
const PACK_BYTES: u64 = 32 << 20;

/// A repository in which one run's commit is made.
#[derive(Debug)]
pub struct Build<'m> {
    mirror: &'m Mirror,
    dir: PathBuf,
    /// What is new in it.
    objects: Loose,
    _lock: MirrorLock,
}

/// The tree of a run.
#[derive(Debug)]
pub struct Built {
    pub tree: Sha,
    /// Every path that differs from the base, files and links alike; a rename is two paths.
    pub changed: BTreeSet<String>,
    /// The resulting tree, by path.
    pub entries: Base,
    /// New contents that git-lfs stores: the tree contains their pointers.
    pub large: Vec<Large>,
    /// Rules that the tree breaks. If there are any, it is only good for a patch.
    pub broken: Vec<Broken>,
}

/// What a tree is built from.
#[derive(Debug, Clone)]
pub struct Source<'a> {
    pub base: &'a Base,
    pub root: &'a Root,
    pub found: &'a Found,
    pub limits: Limits,
}

impl Mirror {
    /// Every file of a commit by its path: the starting point of a run.
    pub fn base(&self, sha: &Sha) -> Result<Base> {
        Ok(self.list_files(sha)?.into_iter().map(|e| (e.path.clone(), e)).collect())
    }

    /// Opens the build repository, empty, once no other build of the repository uses it.
    pub fn build(&self) -> Result<Build<'_>> {
        let name = self.path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let dir = self.path().with_file_name(format!("{name}.build.git"));
        let lock = MirrorLock::take(&self.path().with_file_name(format!("{name}.build.git.lock")), LOCK_WAIT)?;
        let io = || GitError::io(format!("making {}", dir.display()));
        files::remove(&dir)?;
        for folder in ["objects/pack", "objects/info", "refs/heads", "stage"] {
            std::fs::create_dir_all(dir.join(folder)).map_err(io())?;
        }
        let objects = std::fs::canonicalize(self.path().join("objects")).map_err(io())?;
        let objects = objects.to_str().filter(|t| !t.contains(['\n', '"'])).ok_or_else(|| GitError::Rejected {
            reason: format!("{} can't be named in objects/info/alternates", objects.display()),
        })?;
        std::fs::write(dir.join("objects/info/alternates"), format!("{objects}\n")).map_err(io())?;
        std::fs::write(dir.join("HEAD"), "ref: refs/heads/none\n").map_err(io())?;
        std::fs::write(dir.join("config"), files::own_config(None) + &self.remote_section()).map_err(io())?;
        let objects = Loose::new(dir.join("objects"));
        Ok(Build { mirror: self, dir, objects, _lock: lock })
    }

    /// Imports the commit that a build made into the mirror, whose objects no program drops. Each new object passes `fsck
    /// --strict` on its way, and is on disk at the end.
    pub fn import(&self, build: &Build<'_>, sha: &Sha) -> Result<()> {
        self.import_packed(build, sha, PACK_BYTES)
    }

    /// The same; a pack in memory is made of at most so many bytes.
    pub fn import_packed(&self, build: &Build<'_>, sha: &Sha, most: u64) -> Result<()> {
        let io = || GitError::io("reading a run's objects");
        let done = match build.objects.pack(sha, most).map_err(io())? {
            Some(pack) => self.cmd().args(["index-pack", "--strict", "--stdin"]).stdin(pack).run()?,
            None => self.fetched(build, sha)?,
        };
        if done.code != 0 {
            return Err(done.broken());
        }
        if !self.exists(sha)? {
            return Err(unexpected("index-pack"));
        }
        self.few_packs();
        Ok(())
    }

    /// The same for any number of bytes.
    fn fetched(&self, build: &Build<'_>, sha: &Sha) -> Result<Done> {
        std::fs::write(build.dir.join("refs/heads/run"), format!("{sha}\n"))
            .map_err(GitError::io("naming the run's commit"))?;
        let lock = self.locked()?;
        self.cmd()
            .config("fetch.fsckObjects=true")
            .args(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--"])
            .arg(&build.dir)
            .arg("refs/heads/run")
            .lock(lock.file())
            .run()
    }
}

impl Build<'_> {
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn mirror(&self) -> &Mirror {
        self.mirror
    }

    /// The path to which a changed file was copied.
    pub(super) fn stage(&self, path: &[u8]) -> PathBuf {
        joined(&self.dir.join("stage"), path)
    }

    fn cmd(&self) -> Cmd<'_> {
        self.mirror.git().cmd(&self.dir).git_dir(&self.dir).env("GIT_INDEX_FILE", self.dir.join("index"))
    }

    /// A command whose work tree is the folder of copies, with the base's attributes in it.
    pub(super) fn staged(&self) -> Cmd<'_> {
        let stage = self.dir.join("stage");
        self.mirror
            .git()
            .cmd(&stage)
            .git_dir(&self.dir)
            .config("core.bare=false")
            .env("GIT_WORK_TREE", &stage)
            .env("GIT_INDEX_FILE", self.dir.join("no-index"))
    }

    /// The tree of what the walk found. Unchanged files keep their blob. Fails if git or this machine does; what the
    /// run did wrong is in `broken`.
    pub fn tree(&self, source: &Source<'_>) -> Result<Built> {
        let mut broken = source.found.broken.clone();
        let mut ids: BTreeMap<Vec<u8>, Sha> = BTreeMap::new();
        let mut files: Vec<&[u8]> = Vec::new();
        let mut links: Vec<(&[u8], &[u8])> = Vec::new();
        for (path, entry) in &source.found.entries {
            match &entry.kind {
                Kind::Submodule(at) => drop(ids.insert(path.clone(), at.clone())),
                Kind::Link(target) => links.push((path, target)),
                Kind::File { .. } if entry.size > source.limits.file => {
                    let why = format!(
                        "has {} MiB, more than the {} MiB that one file may have; store large files elsewhere, or ignore them",
                        entry.size >> 20,
                        source.limits.file >> 20
                    );
                    broken.push(Broken::new(&String::from_utf8_lossy(path), why));
                }
                Kind::File { .. } => files.push(path),
            }
        }
        broken.extend(drop_the_largest(&mut files, &source.found.entries, source.limits.total));
        self.hash_raw(&links, &mut ids)?;
        let large = self.hash_files(source, &files, &mut ids, &mut broken)?;
        let entries = resulting(source, &ids);
        let tree = self.write_tree(source.base, &entries)?;
        let changed = changes(source.base, &entries);
        broken.extend(self.tree_faults(source, &entries, &changed)?);
        Ok(Built { tree, changed, entries, large, broken })
    }

    /// Stores contents unchanged: targets of links, `orch`'s own files. Records their ids by path.
    pub(super) fn hash_raw(&self, contents: &[(&[u8], &[u8])], ids: &mut BTreeMap<Vec<u8>, Sha>) -> Result<()> {
        for (path, bytes) in contents {
            ids.insert(path.to_vec(), self.put(Sort::Blob, bytes)?);
        }
        Ok(())
    }

    fn put(&self, sort: Sort, content: &[u8]) -> Result<Sha> {
        self.objects.put(sort, content).map_err(GitError::io("writing an object"))
    }

    /// Stores what is new or changed. A file with the base's own bytes is the base's, whatever attributes say.
    fn hash_files(
        &self,
        source: &Source<'_>,
        files: &[&[u8]],
        ids: &mut BTreeMap<Vec<u8>, Sha>,
        broken: &mut Vec<Broken>,
    ) -> Result<Vec<Large>> {
        let mut changed = Vec::new();
        for path in files {
            let base = source.base.get(*path).filter(|base| base.is_file());
            match base.filter(|base| source.size(path) == base.size) {
                None => changed.push(*path),
                Some(base) => match source.open(path).and_then(|(size, mut file)| object::blob_id(size, &mut file)) {
                    Ok(id) if id == base.id => drop(ids.insert(path.to_vec(), id)),
                    Ok(_) => changed.push(*path),
                    Err(e) => broken.push(unread(path, &e)),
                },
            }
        }
        if source.base.values().any(|e| name_of(&e.path) == ATTRIBUTES) {
            return self.hash_filtered(source, &changed, ids, broken);
        }
        // Without attributes, git stores a file as it is.
        for path in changed {
            let copied = match source.open(path) {
                Ok((size, mut file)) => {
                    self.objects.copy(Sort::Blob, size, &mut file).map_err(GitError::io("writing an object"))?
                }
                Err(e) => Err(e),
            };
            match copied {
                Ok(id) => drop(ids.insert(path.to_vec(), id)),
                Err(e) => broken.push(unread(path, &e)),
            }
        }
        Ok(Vec::new())
    }

    /// Copies changed files out and stores them as the base's attributes say. Returns the new contents for git-lfs.
    fn hash_filtered(
        &self,
        source: &Source<'_>,
        files: &[&[u8]],
        ids: &mut BTreeMap<Vec<u8>, Sha>,
        broken: &mut Vec<Broken>,
    ) -> Result<Vec<Large>> {
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let lfs = self.put_attributes(source)?;
        // The path of an attributes file has the base's version, and git can't read a name with a line break from a
        // list.
        let single = |path: &&&[u8]| path.contains(&b'\n') || name_of(path) == ATTRIBUTES;
        let (unexpected, plain): (Vec<&&[u8]>, Vec<&&[u8]>) = files.iter().partition(single);
        let mut names = Vec::new();
        let mut copied: Vec<&[u8]> = Vec::new();
        for path in plain {
            match self.copy(source, path) {
                Ok(()) => {
                    names.extend_from_slice(path);
                    names.push(b'\n');
                    copied.push(path);
                }
                Err(e) => broken.push(unread(path, &e)),
            }
        }
        if !copied.is_empty() {
            let done = self.staged().args(["hash-object", "-w", "--stdin-paths"]).stdin(names).run()?;
            if done.code != 0 {
                // For example, a content that is invalid in its declared encoding. The tree goes without these files.
                let why = format!("can't be stored as .gitattributes requires: {}", done.stderr);
                let named = |p: &String| done.stderr.contains(&format!("'{p}'"));
                let named = copied.iter().map(|p| String::from_utf8_lossy(p).into_owned()).find(named);
                broken.push(Broken::new(named.as_deref().unwrap_or("a changed file"), why));
                return Ok(Vec::new());
            }
            let found = self.hashed(&done.stdout, copied.len())?;
            ids.extend(copied.iter().map(|p| p.to_vec()).zip(found));
        }
        for path in unexpected {
            let mut bytes = Vec::new();
            let read = source.root.file(path, source.limits.file).and_then(|mut f| f.read_to_end(&mut bytes));
            if let Err(e) = read {
                broken.push(unread(path, &e));
                continue;
            }
            let mut arg = b"--path=".to_vec();
            arg.extend_from_slice(path);
            let arg = OsString::from_vec(arg);
            let out = self.staged().args(["hash-object", "-w", "--stdin"]).arg(arg).stdin(bytes).ok()?;
            ids.extend(std::iter::once(path.to_vec()).zip(self.hashed(&out, 1)?));
        }
        if lfs { self.large_files(source, &copied, ids, broken) } else { Ok(Vec::new()) }
    }

    /// Writes the base's attributes files into the folder of copies; true if one mentions LFS.
    fn put_attributes(&self, source: &Source<'_>) -> Result<bool> {
        let small = |e: &&TreeEntry| e.is_file() && e.size.is_some_and(|s| s <= ATTRIBUTES_BYTES);
        let rules: Vec<&TreeEntry> =
            source.base.values().filter(|e| name_of(&e.path) == ATTRIBUTES).filter(small).collect();
        let contents = self.mirror.contents(rules.iter().map(|e| &e.id))?;
        let mut lfs = false;
        for (entry, bytes) in rules.iter().zip(contents) {
            // If a file has replaced a folder, that folder's rules no longer apply to anything.
            let gone = ends(&entry.path).any(|way| source.found.entries.contains_key(way));
            if !gone {
                put(&self.dir.join("stage"), &entry.path, &mut bytes.as_slice()).map_err(GitError::io("copying"))?;
            }
            lfs |= bytes.windows(3).any(|w| w == b"lfs");
        }
        Ok(lfs)
    }

    fn copy(&self, source: &Source<'_>, path: &[u8]) -> std::io::Result<()> {
        put(&self.dir.join("stage"), path, &mut source.root.file(path, source.limits.file)?)
    }

    /// Writes the tree of these entries, as far as it is not the base's.
    fn write_tree(&self, base: &Base, entries: &Base) -> Result<Sha> {
        let all = object::trees(entries).ok_or_else(|| unexpected("the tree of what a run left"))?;
        let old = object::trees(base).unwrap_or_default();
        // Old programs wrote modes that git reads as others: then these trees are not the base's own.
        let known = match old.last() {
            Some((root, _)) if self.mirror.info(root.as_str())?.is_some() => old.iter().map(|(id, _)| id).collect(),
            Some(_) | None => BTreeSet::new(),
        };
        for (_, bytes) in all.iter().filter(|(id, _)| !known.contains(id)) {
            self.put(Sort::Tree, bytes)?;
        }
        all.last().map(|(root, _)| root.clone()).ok_or_else(|| unexpected("the tree of what a run left"))
    }

    /// The ids that git's `hash-object -w` printed.
    fn hashed(&self, out: &[u8], wanted: usize) -> Result<Vec<Sha>> {
        let text = String::from_utf8_lossy(out);
        let ids: Option<Vec<Sha>> = text.lines().map(|l| Sha::parse(l).ok()).collect();
        let ids = ids.filter(|ids| ids.len() == wanted).ok_or_else(|| unexpected("hash-object"))?;
        ids.iter().for_each(|id| self.objects.found(id));
        Ok(ids)
    }

    /// Checks of the whole resulting tree: links, names that collide, submodules.
    fn tree_faults(&self, source: &Source<'_>, entries: &Base, changed: &BTreeSet<String>) -> Result<Vec<Broken>> {
        let mut broken = Vec::new();
        let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
        let links = |all: &Base| -> Result<Links> {
            let links: Vec<&TreeEntry> = all.values().filter(|e| e.kind == EntryKind::Symlink).collect();
            let out = self.contents(links.iter().map(|e| &e.id))?;
            Ok(links.iter().zip(out).map(|(e, target)| (e.text(), text(&target))).collect())
        };
        let now = links(entries)?;
        if !now.is_empty() {
            let before = links(source.base)?;
            broken.extend(link_faults(&now, &before));
        }
        if !changed.is_empty() {
            let known: BTreeSet<String> = source
                .base
                .keys()
                .flat_map(|path| ends(path).chain([path.as_slice()]).map(text).collect::<Vec<_>>())
                .collect();
            let paths: Vec<String> = entries.keys().map(|p| text(p)).collect();
            broken.extend(clashes(paths.iter().map(String::as_str), |p| known.contains(p)));
        }
        if changed.contains(".gitmodules") {
            let moved = |e: &&TreeEntry| e.kind == EntryKind::Submodule && changed.contains(&e.text());
            broken.extend(
                entries
                    .values()
                    .filter(moved)
                    .map(|e| Broken::new(&e.text(), "is a submodule that changes together with .gitmodules")),
            );
        }
        for entry in entries.values().filter(|e| ends(&e.path).any(|way| name_of(way) == ATTRIBUTES)) {
            broken.push(Broken::new(&entry.text(), "is in a folder named .gitattributes"));
        }
        Ok(broken)
    }

    /// Contents of blobs, which may exist only in this repository. Fails with `NotFound` for a missing one.
    pub fn contents<'a>(&self, ids: impl Iterator<Item = &'a Sha>) -> Result<Vec<Vec<u8>>> {
        let one = |id: &Sha| match self.objects.get(id).map_err(GitError::io("reading an object"))? {
            Some((Sort::Blob, content)) => Ok(content),
            Some(_) => Err(GitError::NotFound { what: format!("blob {id}") }),
            None => Ok(self.mirror.contents([id])?.pop().unwrap_or_default()),
        };
        ids.map(one).collect()
    }

    /// A tree with files added or replaced, with these exact contents: no attribute applies.
    pub fn with_files(&self, base: &Base, files: &[(String, Vec<u8>)]) -> Result<Sha> {
        let mut ids = BTreeMap::new();
        let blobs: Vec<(&[u8], &[u8])> =
            files.iter().map(|(path, bytes)| (path.as_bytes(), bytes.as_slice())).collect();
        self.hash_raw(&blobs, &mut ids)?;
        let mut entries = base.clone();
        for (path, id) in ids {
            entries.insert(path.clone(), TreeEntry { path, kind: EntryKind::File, id, size: None });
        }
        self.write_tree(base, &entries)
    }

    /// The commit of a tree with this parent. The same arguments make the same commit.
    pub fn commit(&self, tree: &Sha, parent: &Sha, message: &str, author: &Person, seconds: i64) -> Result<Sha> {
        let line = String::from_utf8_lossy(&stamped(author, &format!("{} +0000", seconds.max(0)))).into_owned();
        let raw = format!("tree {tree}\nparent {parent}\nauthor {line}\ncommitter {line}\n\n{}\n", message.trim_end());
        self.put(Sort::Commit, raw.as_bytes())
    }

    /// Writes the patch from a commit to a tree to `dest`, at most 16 MiB. False, and no file, if it is empty.
    pub fn patch(&self, from: &Sha, tree: &Sha, dest: &Path) -> Result<bool> {
        let mut diff = self
            .cmd()
            .args(["diff-tree", "-r", "-p", "--binary", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color"])
            .args([from.as_str(), tree.as_str()])
            .cap(PATCH_CAP)
            .run()?;
        if diff.code != 0 {
            return Err(diff.broken());
        }
        if diff.stdout.is_empty() {
            return Ok(false);
        }
        if let Cow::Owned(clean) = redact::current().bytes(&diff.stdout) {
            diff.stdout = clean;
        }
        if diff.truncated {
            diff.stdout.extend_from_slice(b"\n[cut at 16 MiB]\n");
        }
        files::fresh_file(dest, &diff.stdout).map_err(GitError::io(format!("writing {}", dest.display())))?;
        Ok(true)
    }
}

impl Source<'_> {
    /// Size of a file as the walk found it.
    fn size(&self, path: &[u8]) -> Option<u64> {
        self.found.entries.get(path).map(|entry| entry.size)
    }

    /// A file, with the size that it must have to be read whole.
    fn open(&self, path: &[u8]) -> std::io::Result<(u64, impl Read)> {
        Ok((self.size(path).unwrap_or_default(), self.root.file(path, self.limits.file)?))
    }
}

fn unread(path: &[u8], e: &std::io::Error) -> Broken {
    Broken::new(&String::from_utf8_lossy(path), format!("can't be read: {e}"))
}

pub(super) const fn mode(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "100644",
        EntryKind::Executable => "100755",
        EntryKind::Symlink => "120000",
        EntryKind::Submodule => "160000",
        EntryKind::Folder => "040000",
    }
}

const fn kind_of(kind: &Kind) -> EntryKind {
    match kind {
        Kind::File { executable: true } => EntryKind::Executable,
        Kind::File { executable: false } => EntryKind::File,
        Kind::Link(_) => EntryKind::Symlink,
        Kind::Submodule(_) => EntryKind::Submodule,
    }
}

/// Leaves out files, the largest first, until the others fit into `most` bytes together. Returns the broken rule under
/// the name of the largest, since any other path may be innocent.
fn drop_the_largest(files: &mut Vec<&[u8]>, entries: &BTreeMap<Vec<u8>, Entry>, most: u64) -> Option<Broken> {
    let size = |path: &[u8]| entries.get(path).map_or(0, |e| e.size);
    let all: u64 = files.iter().map(|path| size(path)).fold(0, u64::saturating_add);
    if all <= most {
        return None;
    }
    let mut left = all;
    let mut by_size: Vec<&[u8]> = files.clone();
    by_size.sort_by_key(|path| std::cmp::Reverse(size(path)));
    let fits = |path: &&&[u8]| {
        let over = left > most;
        left = left.saturating_sub(if over { size(path) } else { 0 });
        over
    };
    let dropped: BTreeSet<&[u8]> = by_size.iter().take_while(fits).copied().collect();
    files.retain(|path| !dropped.contains(path));
    let why = format!(
        "is the largest of {} new or changed files with {} MiB in total, more than the {} MiB that one run may add",
        files.len() + dropped.len(),
        all >> 20,
        most >> 20
    );
    by_size.first().map(|path| Broken::new(&String::from_utf8_lossy(path), why))
}

/// The entries that have an id; what could not be read or stored is left out.
fn resulting(source: &Source<'_>, ids: &BTreeMap<Vec<u8>, Sha>) -> Base {
    let of = |(path, entry): (&Vec<u8>, &Entry)| {
        let id = ids.get(path)?.clone();
        let kind = kind_of(&entry.kind);
        // A submodule's commit is elsewhere, so there is nothing of it to read.
        let size = (kind != EntryKind::Submodule).then_some(entry.size);
        let found = TreeEntry { path: path.clone(), kind, id, size };
        Some((path.clone(), found))
    };
    source.found.entries.iter().filter_map(of).collect()
}

/// The paths that differ between two trees, by kind or content.
fn changes(base: &Base, now: &Base) -> BTreeSet<String> {
    let differs = |a: &TreeEntry, b: Option<&TreeEntry>| b.is_none_or(|b| (a.kind, &a.id) != (b.kind, &b.id));
    let new = now.values().filter(|e| differs(e, base.get(&e.path)));
    let old = base.values().filter(|e| differs(e, now.get(&e.path)));
    new.chain(old).map(TreeEntry::text).collect()
}

fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or(path)
}

/// The folders above a path, outermost first.
fn ends(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, b)| **b == b'/').filter_map(|(at, _)| path.get(..at))
}

fn joined(folder: &Path, path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    folder.join(std::ffi::OsStr::from_bytes(path))
}

fn put(folder: &Path, path: &[u8], from: &mut dyn Read) -> std::io::Result<()> {
    let to = joined(folder, path);
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&to)?;
    std::io::copy(from, &mut file).map(drop)
}
