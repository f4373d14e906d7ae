//! git's object format, for what `orch` itself makes of a run: ids, trees, loose objects and a pack of them, without a
//! git process for each (speed). A git checks every object with `fsck --strict` before the mirror takes it
//! ([`super::Mirror::import`]).

use super::build::mode;
use super::cmd::OUTPUT_CAP;
use super::history::EntryKind;
use super::reader::{Raw, read_tree};
use super::walk::Base;
use crate::model::ids::Sha;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use sha1::{Digest, Sha1};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const CHUNK: usize = 64 << 10;
/// Most bytes of a loose object's first words.
const HEAD: usize = 32;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Commit,
    Tree,
    Blob,
}

impl Sort {
    const fn word(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
        }
    }

    /// Its number in a pack.
    const fn number(self) -> u8 {
        match self {
            Self::Commit => 1,
            Self::Tree => 2,
            Self::Blob => 3,
        }
    }
}

fn head(sort: Sort, size: u64) -> String {
    format!("{} {size}\0", sort.word())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn named(hash: Sha1) -> io::Result<Sha> {
    Sha::parse(&hex(&hash.finalize())).map_err(io::Error::other)
}

/// The bytes of an id; `None` for one that is not SHA-1, which no mirror has.
fn bytes_of(id: &Sha) -> Option<[u8; 20]> {
    let mut bytes = [0; 20];
    let hex = id.as_str();
    if hex.len() != 2 * bytes.len() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// The id of a blob of `size` bytes, read to its end. Fails if it can't be read, or has another size.
pub(super) fn blob_id(size: u64, from: &mut dyn Read) -> io::Result<Sha> {
    let mut hash = Sha1::new();
    hash.update(head(Sort::Blob, size));
    pass(size, from, &mut |bytes| {
        hash.update(bytes);
        Ok(())
    })
    .map_err(|(Side::Read(e) | Side::Write(e))| e)?;
    named(hash)
}

/// Which side of a copy failed.
enum Side {
    Read(io::Error),
    Write(io::Error),
}

/// Passes exactly `size` bytes on.
fn pass(size: u64, from: &mut dyn Read, to: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), Side> {
    let (mut chunk, mut seen) = (vec![0_u8; CHUNK], 0_u64);
    loop {
        match from.read(&mut chunk) {
            Ok(0) if seen == size => return Ok(()),
            Ok(n) if n > 0 && seen.saturating_add(n as u64) <= size => {
                to(chunk.get(..n).unwrap_or_default()).map_err(Side::Write)?;
                seen += n as u64;
            }
            Ok(_) => return Err(Side::Read(io::Error::other("it changed while it was read"))),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Side::Read(e)),
        }
    }
}

/// The content of a tree with these entries, in git's order: folders sort as if their names ended with `/`. `None`: no
/// tree can hold them (a name twice, or one that is no name).
pub(super) fn tree<'e>(entries: impl IntoIterator<Item = (&'e str, &'e [u8], &'e Sha)>) -> Option<Vec<u8>> {
    let mut sorted: BTreeMap<Vec<u8>, (&str, &[u8], &Sha)> = BTreeMap::new();
    let mut names: BTreeSet<&[u8]> = BTreeSet::new();
    for (mode, name, id) in entries {
        let plain = !matches!(name, b"" | b"." | b"..") && !name.eq_ignore_ascii_case(b".git");
        if !plain || name.contains(&b'/') || name.contains(&0) || !names.insert(name) {
            return None;
        }
        let key = if mode == FOLDER { [name, b"/"].concat() } else { name.to_vec() };
        sorted.insert(key, (mode, name, id));
    }
    let mut bytes = Vec::new();
    for (mode, name, id) in sorted.into_values() {
        bytes.extend_from_slice(mode.trim_start_matches('0').as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.extend_from_slice(&bytes_of(id)?);
    }
    Some(bytes)
}

const FOLDER: &str = "040000";

/// The id of a tree with these entries, which is written nowhere.
pub(super) fn tree_id(entries: &[Raw]) -> Option<Sha> {
    let bytes = tree(entries.iter().map(|(mode, name, id)| (mode.as_str(), name.as_slice(), id)))?;
    id(Sort::Tree, &bytes)
}

fn id(sort: Sort, content: &[u8]) -> Option<Sha> {
    let mut hash = Sha1::new();
    hash.update(head(sort, content.len() as u64));
    hash.update(content);
    named(hash).ok()
}

/// A folder whose entries are not complete yet.
struct Open<'p> {
    name: &'p [u8],
    entries: Vec<(&'static str, &'p [u8], Sha)>,
}

impl Open<'_> {
    fn new(name: &[u8]) -> Open<'_> {
        Open { name, entries: Vec::new() }
    }

    fn close(self) -> Option<(Sha, Vec<u8>)> {
        let bytes = tree(self.entries.iter().map(|(mode, name, id)| (*mode, *name, id)))?;
        Some((id(Sort::Tree, &bytes)?, bytes))
    }
}

/// All trees of a repository with exactly these files, each with its id, the root's last. `None`: no tree can hold them.
pub(super) fn trees(entries: &Base) -> Option<Vec<(Sha, Vec<u8>)>> {
    let (mut open, mut all) = (vec![Open::new(b"")], Vec::new());
    // What is below a folder is in one piece, by the order of the paths.
    for entry in entries.values() {
        let mut way: Vec<&[u8]> = entry.path.split(|b| *b == b'/').collect();
        let name = way.pop()?;
        let same = open.iter().skip(1).zip(&way).take_while(|(folder, part)| folder.name == **part).count();
        close_to(same + 1, &mut open, &mut all)?;
        open.extend(way.iter().skip(same).map(|part| Open::new(part)));
        if entry.kind == EntryKind::Folder {
            return None;
        }
        open.last_mut()?.entries.push((mode(entry.kind), name, entry.id.clone()));
    }
    close_to(1, &mut open, &mut all)?;
    all.push(open.pop()?.close()?);
    Some(all)
}

/// Completes the innermost folders until so many are open.
fn close_to(left: usize, open: &mut Vec<Open<'_>>, all: &mut Vec<(Sha, Vec<u8>)>) -> Option<()> {
    while open.len() > left {
        let folder = open.pop()?;
        let name = folder.name;
        let made = folder.close()?;
        open.last_mut()?.entries.push((FOLDER, name, made.0.clone()));
        all.push(made);
    }
    Some(())
}

/// The loose objects of a repository that nobody else writes to, and which of them are new.
#[derive(Debug)]
pub(super) struct Loose {
    dir: PathBuf,
    new: RefCell<BTreeSet<Sha>>,
}

impl Loose {
    /// `dir`: the repository's folder `objects`.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, new: RefCell::default() }
    }

    fn place(&self, id: &Sha) -> PathBuf {
        let (folder, name) = id.as_str().split_at(2);
        self.dir.join(folder).join(name)
    }

    /// Writes an object. Fails if it can't be written.
    pub(super) fn put(&self, sort: Sort, content: &[u8]) -> io::Result<Sha> {
        self.copy(sort, content.len() as u64, &mut &*content)?
    }

    /// Writes an object of `size` bytes from a stream that an agent's file may be. The outer error is this machine's; the
    /// inner one the stream's, such as another size.
    pub(super) fn copy(&self, sort: Sort, size: u64, from: &mut dyn Read) -> io::Result<io::Result<Sha>> {
        let file = tempfile::NamedTempFile::new_in(&self.dir)?;
        let mut packed = ZlibEncoder::new(file.as_file(), Compression::fast());
        let mut hash = Sha1::new();
        let first = head(sort, size);
        hash.update(&first);
        packed.write_all(first.as_bytes())?;
        let passed = pass(size, from, &mut |bytes| {
            hash.update(bytes);
            packed.write_all(bytes)
        });
        match passed {
            Ok(()) => {}
            Err(Side::Read(e)) => return Ok(Err(e)),
            Err(Side::Write(e)) => return Err(e),
        }
        packed.finish()?;
        let id = named(hash)?;
        let at = self.place(&id);
        at.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        file.persist(&at).map_err(|e| e.error)?;
        self.new.borrow_mut().insert(id.clone());
        Ok(Ok(id))
    }

    /// Counts an object as new that a git may have written here.
    pub(super) fn found(&self, id: &Sha) {
        if self.place(id).is_file() {
            self.new.borrow_mut().insert(id.clone());
        }
    }

    /// What a new object is, and its content; `None`: it is not new. Fails if it can't be read.
    pub(super) fn get(&self, id: &Sha) -> io::Result<Option<(Sort, Vec<u8>)>> {
        if self.new.borrow().contains(id) { read(&self.place(id)).map(Some) } else { Ok(None) }
    }

    /// The new objects that a commit reaches, as a pack; `None` if their contents have more than `most` bytes together: a
    /// file of zeros takes next to nothing here, and is held whole. Fails if one can't be read.
    pub(super) fn pack(&self, commit: &Sha, most: u64) -> io::Result<Option<Vec<u8>>> {
        let (mut left, mut seen, mut bytes) = (vec![commit.clone()], BTreeSet::new(), Vec::new());
        let (mut count, mut size) = (0_u32, 0_u64);
        while let Some(id) = left.pop() {
            if !self.new.borrow().contains(&id) || !seen.insert(id.clone()) {
                continue;
            }
            size = size.saturating_add(size_of(&self.place(&id))?);
            if size > most {
                return Ok(None);
            }
            let (sort, content) = read(&self.place(&id))?;
            left.extend(below(sort, &content));
            count += 1;
            add(&mut bytes, sort, &content)?;
        }
        let mut pack = b"PACK\0\0\0\x02".to_vec();
        pack.extend_from_slice(&count.to_be_bytes());
        pack.append(&mut bytes);
        let sum = Sha1::digest(&pack);
        pack.extend_from_slice(&sum);
        Ok(Some(pack))
    }
}

/// What an object names as part of itself.
fn below(sort: Sort, content: &[u8]) -> Vec<Sha> {
    match sort {
        Sort::Blob => Vec::new(),
        Sort::Tree => read_tree(content, 20).unwrap_or_default().into_iter().map(|(_, _, id)| id).collect(),
        Sort::Commit => {
            let line = content.split(|b| *b == b'\n').next().unwrap_or_default();
            let id = line.strip_prefix(b"tree ").and_then(|id| Sha::parse(&String::from_utf8_lossy(id)).ok());
            id.into_iter().collect()
        }
    }
}

/// Adds an object to a pack: its kind and size, seven bits of it in each byte after the first, and its content.
fn add(pack: &mut Vec<u8>, sort: Sort, content: &[u8]) -> io::Result<()> {
    let size = content.len();
    let (mut byte, mut rest) = ((sort.number() << 4) | (size & 0x0f) as u8, size >> 4);
    while rest > 0 {
        pack.push(byte | 0x80);
        byte = (rest & 0x7f) as u8;
        rest >>= 7;
    }
    pack.push(byte);
    let mut packed = ZlibEncoder::new(pack, Compression::default());
    packed.write_all(content)?;
    packed.finish().map(drop)
}

fn unexpected(path: &Path) -> io::Error {
    io::Error::other(format!("{} is not an object", path.display()))
}

/// The first bytes of a loose object, unpacked, and no more than `most` of them.
fn unpacked(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    ZlibDecoder::new(std::fs::File::open(path)?).take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// How many bytes a loose object's content has, by its first words.
fn size_of(path: &Path) -> io::Result<u64> {
    let bytes = unpacked(path, HEAD as u64)?;
    let first = bytes.split(|b| *b == 0).next().and_then(|b| std::str::from_utf8(b).ok());
    first.and_then(|f| f.split_once(' ')?.1.parse().ok()).ok_or_else(|| unexpected(path))
}

fn read(path: &Path) -> io::Result<(Sort, Vec<u8>)> {
    let mut bytes = unpacked(path, (OUTPUT_CAP + HEAD) as u64)?;
    let unexpected = || unexpected(path);
    let end = bytes.iter().take(HEAD).position(|b| *b == 0).ok_or_else(unexpected)?;
    let content = bytes.split_off(end + 1);
    let sorts = [Sort::Blob, Sort::Tree, Sort::Commit];
    let sort = sorts.into_iter().find(|sort| bytes == head(*sort, content.len() as u64).as_bytes());
    Ok((sort.ok_or_else(unexpected)?, content))
}

#[cfg(test)]
mod tests {
    use super::super::history::TreeEntry;
    use super::*;

    fn base(files: &[(&str, EntryKind)]) -> Base {
        let id = Sha::parse("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391").unwrap();
        let entry = |(path, kind): &(&str, EntryKind)| {
            let path = path.as_bytes().to_vec();
            (path.clone(), TreeEntry { path, kind: *kind, id: id.clone(), size: Some(0) })
        };
        files.iter().map(entry).collect()
    }

    fn root(files: &[(&str, EntryKind)]) -> Option<String> {
        trees(&base(files)).map(|all| all.last().unwrap().0.to_string())
    }

    #[test]
    fn ids_are_those_that_git_gives() {
        let blob = |text: &str| blob_id(text.len() as u64, &mut text.as_bytes()).unwrap().to_string();
        assert_eq!(blob(""), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert_eq!(blob("hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(root(&[]).unwrap(), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
        assert!(blob_id(3, &mut &b"longer"[..]).is_err() && blob_id(9, &mut &b"shorter"[..]).is_err());
    }

    #[test]
    fn what_no_tree_can_hold_is_none() {
        use EntryKind::{Executable, File, Folder};
        assert!(root(&[("a", File), ("b/c", Executable), ("b.c", File), ("b-c/d/e", File)]).is_some());
        for bad in [
            &[("a", File), ("a/b", File)][..],
            &[("a//b", File)],
            &[("a/.GIT/x", File)],
            &[("..", File)],
            &[("a", Folder)],
        ] {
            assert_eq!(root(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_what_a_commit_reaches_goes_into_its_pack() {
        let dir = tempfile::tempdir().unwrap();
        let loose = Loose::new(dir.path().to_owned());
        let (kept, dropped) = (loose.put(Sort::Blob, b"kept").unwrap(), loose.put(Sort::Blob, &[7; 100_000]).unwrap());
        let tree = tree([("100644", &b"name"[..], &kept)]).unwrap();
        let tree = loose.put(Sort::Tree, &tree).unwrap();
        let commit = loose.put(Sort::Commit, format!("tree {tree}\n\nx\n").as_bytes()).unwrap();
        assert_eq!(loose.get(&dropped).unwrap(), Some((Sort::Blob, vec![7; 100_000])));
        let pack = loose.pack(&commit, 1 << 20).unwrap().unwrap();
        assert_eq!(pack.get(..12), Some(&b"PACK\0\0\0\x02\0\0\0\x03"[..]));
        assert_eq!(loose.pack(&commit, 10).unwrap(), None);
        // What is next to nothing when packed is held whole all the same.
        let zeros = loose.put(Sort::Blob, &[0; 1 << 20]).unwrap();
        assert!(loose.place(&zeros).metadata().unwrap().len() < 1 << 16);
        let wide = super::tree([("100644", &b"zeros"[..], &zeros)]).unwrap();
        let wide = loose.put(Sort::Tree, &wide).unwrap();
        assert_eq!(loose.pack(&wide, 1 << 19).unwrap(), None);
        std::fs::write(loose.place(&kept), "no object").unwrap();
        assert!(loose.get(&kept).is_err() && loose.pack(&commit, 1 << 20).is_err());
        assert!(loose.copy(Sort::Blob, 3, &mut &b"longer"[..]).unwrap().is_err());
    }
}
