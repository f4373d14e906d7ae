//! Queries of the mirror: ancestry, trees, files, and which paths a range of commits touches. Reads only (a tree made by
//! `tree_without_folder` is an unnamed object). Names that are not UTF-8 come back with U+FFFD in place of the bytes.

use super::cmd::{Cmd, GitError, OUTPUT_CAP, Result};
use super::mirror::Mirror;
use super::reader::{self, Info, Maker, Raw};
use super::{nul_texts, object};
use crate::model::artefact::{self, Artefact};
use crate::model::ids::{Key, Sha};
use std::collections::BTreeSet;

/// Largest file that is read from a commit, in bytes.
pub const MAX_FILE: usize = 1 << 20;
/// The tree that replaces a folder's; `None`: removes it.
type Instead<'a> = dyn Fn(&Sha) -> Result<Option<Sha>> + 'a;
/// Makes a tree of entries, or only its id.
type Make<'a> = dyn FnMut(&[Raw]) -> Result<Sha> + 'a;
const SUMMARY: [&str; 4] = ["--name-only", "--no-renames", "--no-ext-diff", "-z"];

/// The kind of a tree entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    File,
    Executable,
    Symlink,
    Folder,
    Submodule,
}

/// One name in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// The path from the repository's root, as git stores it.
    pub path: Vec<u8>,
    pub kind: EntryKind,
    pub id: Sha,
    /// Bytes, for files and symlinks.
    pub size: Option<u64>,
}

impl TreeEntry {
    /// The path as text, for people and globs.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }

    /// Whether it is a regular file, executable or not.
    pub fn is_file(&self) -> bool {
        matches!(self.kind, EntryKind::File | EntryKind::Executable)
    }

    pub fn is_executable(&self) -> bool {
        self.kind == EntryKind::Executable
    }

    pub fn is_folder(&self) -> bool {
        self.kind == EntryKind::Folder
    }
}

/// How a change is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiffForm {
    Patch,
    Stat,
}

/// The size of a change; binary files count as files without lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiffStat {
    pub files: u64,
    pub added: u64,
    pub deleted: u64,
}

impl Mirror {
    /// Whether the mirror has this commit.
    pub fn exists(&self, sha: &Sha) -> Result<bool> {
        Ok(self.info(&format!("{sha}^{{commit}}"))?.is_some())
    }

    /// What a name resolves to, from the mirror's reader.
    pub(super) fn info(&self, name: &str) -> Result<Option<Info>> {
        reader::info(&|| self.cmd(), name)
    }

    fn present(&self, sha: &Sha) -> Result<()> {
        if self.exists(sha)? { Ok(()) } else { Err(GitError::NotFound { what: format!("commit {sha} in the mirror") }) }
    }

    /// Whether `a` is `b` or an ancestor of it. Fails with `NotFound` if the mirror lacks one of them.
    pub fn is_ancestor(&self, a: &Sha, b: &Sha) -> Result<bool> {
        if a == b {
            return self.present(a).map(|()| true);
        }
        if self.leads_straight(a, b)? {
            return Ok(true);
        }
        let done = self.cmd().args(["merge-base", "--is-ancestor", a.as_str(), b.as_str()]).run()?;
        match done.code {
            0 => Ok(true),
            1 => Ok(false),
            _ => {
                self.present(a)?;
                self.present(b)?;
                Err(done.broken())
            }
        }
    }

    /// The best common ancestor; `None` for unrelated histories.
    pub fn merge_base(&self, a: &Sha, b: &Sha) -> Result<Option<Sha>> {
        self.present(a)?;
        self.present(b)?;
        if self.leads_straight(a, b)? {
            return Ok(Some(a.clone()));
        }
        let done = self.cmd().args(["merge-base", a.as_str(), b.as_str()]).run()?;
        match done.code {
            0 => Ok(Some(self.id(&done.stdout)?)),
            1 => Ok(None),
            _ => Err(done.broken()),
        }
    }

    /// The tree of a commit.
    pub fn tree_of(&self, sha: &Sha) -> Result<Sha> {
        let missing = || GitError::NotFound { what: format!("commit {sha} in the mirror") };
        Ok(self.info(&format!("{sha}^{{commit}}^{{tree}}"))?.ok_or_else(missing)?.id)
    }

    /// The id of the commit's tree without the work item's artefacts (PIPE-4): exactly the names of PIPE-5 below
    /// `docs/work-items/<KEY>/`, as regular, non-executable files. Anything else there is code. Equal for two commits
    /// exactly if they differ only in those. The tree itself is written nowhere.
    pub fn code_tree(&self, sha: &Sha, key: &Key) -> Result<Sha> {
        let id = |entries: &[Raw]| object::tree_id(entries).ok_or_else(|| unexpected("a tree"));
        self.with_folder(sha, key, &|tree| self.without_artefacts(tree, "", &mut { id }), &mut { id })
    }

    /// The id of the commit's tree without the work item's folder. The tree itself is written nowhere.
    pub(super) fn tree_id_without_folder(&self, sha: &Sha, key: &Key) -> Result<Sha> {
        let mut id = |entries: &[Raw]| object::tree_id(entries).ok_or_else(|| unexpected("a tree"));
        self.with_folder(sha, key, &|_| Ok(None), &mut id)
    }

    /// The commit's tree without the work item's folder (ORD-6).
    pub fn tree_without_folder(&self, sha: &Sha, key: &Key) -> Result<Sha> {
        let mut maker = None;
        let mut make = |entries: &[Raw]| {
            let maker = match &mut maker {
                Some(maker) => maker,
                None => maker.insert(Maker::start(self.cmd())?),
            };
            maker.tree(entries)
        };
        self.with_folder(sha, key, &|_| Ok(None), &mut make)
    }

    /// The commit's tree with the work item's folder replaced; `None`: without the folder.
    fn with_folder(&self, sha: &Sha, key: &Key, other: &Instead<'_>, make: &mut Make<'_>) -> Result<Sha> {
        let folders = ["docs", "work-items", key.as_str()];
        let root = self.tree_of(sha)?;
        let mut levels = Vec::new();
        let mut tree = root.clone();
        for name in folders {
            let entries = self.raw_entries(&tree)?;
            let Some((_, _, id)) = entries.iter().find(|(mode, found, _)| mode == "040000" && found == name.as_bytes())
            else {
                return Ok(root);
            };
            tree = id.clone();
            levels.push((name, entries));
        }
        // From the innermost folder outwards: drop the name or set its new tree; a folder that becomes empty is
        // dropped, too.
        let mut replacement = other(&tree)?;
        if replacement.as_ref() == Some(&tree) {
            return Ok(root);
        }
        for (name, entries) in levels.into_iter().rev() {
            let instead = |(mode, found, id): Raw| {
                let id = if found == name.as_bytes() { replacement.clone() } else { Some(id) };
                Some((mode, found, id?))
            };
            let entries: Vec<Raw> = entries.into_iter().filter_map(instead).collect();
            replacement = if entries.is_empty() { None } else { Some(make(&entries)?) };
        }
        match replacement {
            Some(tree) => Ok(tree),
            None => make(&[]),
        }
    }

    /// The id of the work item's folder without its artefacts; `None`: it is empty. `at`: its path below the folder.
    fn without_artefacts(&self, tree: &Sha, at: &str, make: &mut Make<'_>) -> Result<Option<Sha>> {
        let (all, mut left) = (self.raw_entries(tree)?, Vec::new());
        for (mode, name, id) in &all {
            let path = format!("{at}{}", String::from_utf8_lossy(name));
            let id = match mode.as_str() {
                "100644" if Artefact::of(&path).is_some() => None,
                "040000" if path == artefact::ADR_FOLDER => self.without_artefacts(id, &format!("{path}/"), make)?,
                _ => Some(id.clone()),
            };
            left.extend(id.map(|id| (mode.clone(), name.clone(), id)));
        }
        Ok(match (left.is_empty(), left == all) {
            (true, _) => None,
            (false, true) => Some(tree.clone()),
            (false, false) => Some(make(&left)?),
        })
    }

    /// Mode, name and id of each entry of one tree.
    fn raw_entries(&self, tree: &Sha) -> Result<Vec<Raw>> {
        reader::tree(&|| self.cmd(), tree.as_str())
    }

    /// The entry at a path of a commit, symlinks not followed.
    pub fn entry(&self, sha: &Sha, path: &str) -> Result<Option<TreeEntry>> {
        self.present(sha)?;
        let Some(path) = plain_path(path) else { return Ok(None) };
        self.at(sha, &path)?.map(|raw| self.with_size(&path, raw)).transpose()
    }

    /// What the commit has at a plain path.
    fn at(&self, sha: &Sha, path: &str) -> Result<Option<Raw>> {
        let mut tree = self.tree_of(sha)?;
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            let Some(found) = self.raw_entries(&tree)?.into_iter().find(|(_, name, _)| name == part.as_bytes()) else {
                return Ok(None);
            };
            if parts.peek().is_none() {
                return Ok(Some(found));
            }
            if kind_of(&found.0) != EntryKind::Folder {
                return Ok(None);
            }
            tree = found.2;
        }
        Ok(None)
    }

    fn with_size(&self, path: &str, (mode, _, id): Raw) -> Result<TreeEntry> {
        let kind = kind_of(&mode);
        let blob = !matches!(kind, EntryKind::Folder | EntryKind::Submodule);
        let size = if blob { self.info(id.as_str())?.map(|found| found.size as u64) } else { None };
        Ok(TreeEntry { path: path.as_bytes().to_vec(), kind, id, size })
    }

    /// A regular file's bytes; `None` if there is none (symlinks, folders and submodules do not count). Fails with
    /// `Rejected` if it is larger than 1 MiB.
    pub fn read_file(&self, sha: &Sha, path: &str) -> Result<Option<Vec<u8>>> {
        let Some(entry) = self.entry(sha, path)? else { return Ok(None) };
        if !matches!(entry.kind, EntryKind::File | EntryKind::Executable) {
            return Ok(None);
        }
        if entry.size.is_none_or(|size| size > MAX_FILE as u64) {
            return Err(GitError::Rejected { reason: format!("{path} at {} is larger than 1 MiB", sha.short()) });
        }
        reader::content(&|| self.cmd(), entry.id.as_str(), "blob", MAX_FILE)
    }

    /// The id of a regular file's content at a path.
    pub fn blob_of(&self, sha: &Sha, path: &str) -> Result<Option<Sha>> {
        let entry = self.entry(sha, path)?;
        Ok(entry.filter(|e| matches!(e.kind, EntryKind::File | EntryKind::Executable)).map(|e| e.id))
    }

    /// Every entry below any of the plain paths (or the entry itself), without folders or sizes.
    pub fn list_paths(&self, sha: &Sha, paths: &[String]) -> Result<Vec<TreeEntry>> {
        let mut found = Vec::new();
        for path in paths.iter().filter_map(|path| plain_path(path.trim_end_matches('/'))) {
            match self.at(sha, &path)? {
                Some((mode, _, id)) if kind_of(&mode) == EntryKind::Folder => {
                    let mut below = Vec::new();
                    reader::below(&|| self.cmd(), &id, &format!("{path}/"), &mut below)?;
                    let entry = |(mode, path, id): Raw| TreeEntry { path, kind: kind_of(&mode), id, size: None };
                    found.extend(below.into_iter().map(entry));
                }
                Some((mode, _, id)) => {
                    let kind = kind_of(&mode);
                    found.push(TreeEntry { path: path.as_bytes().to_vec(), kind, id, size: None });
                }
                None => {}
            }
        }
        Ok(found)
    }

    /// The same with the sizes of files and links.
    pub fn list_sized(&self, sha: &Sha, paths: &[String]) -> Result<Vec<TreeEntry>> {
        let mut found = self.list_paths(sha, paths)?;
        for entry in found.iter_mut().filter(|e| e.kind != EntryKind::Submodule) {
            entry.size = self.info(entry.id.as_str())?.map(|info| info.size as u64);
        }
        Ok(found)
    }

    /// The entries at exactly these plain paths, including folders, without sizes.
    pub fn named(&self, sha: &Sha, paths: &[String]) -> Result<Vec<TreeEntry>> {
        let mut found = Vec::new();
        for path in paths.iter().filter_map(|path| plain_path(path)) {
            let entry = self.at(sha, &path)?;
            let entry = entry.map(|(mode, _, id)| (kind_of(&mode), id));
            found.extend(entry.map(|(kind, id)| TreeEntry { path: path.as_bytes().to_vec(), kind, id, size: None }));
        }
        Ok(found)
    }

    /// Every file of a commit or tree, with sizes. Fails with `Rejected` for one without an end.
    pub fn list_files(&self, sha: &Sha) -> Result<Vec<TreeEntry>> {
        let missing = || GitError::NotFound { what: format!("commit {sha} in the mirror") };
        let root = self.info(&format!("{sha}^{{tree}}"))?.ok_or_else(missing)?.id;
        let mut found = Vec::new();
        reader::below(&|| self.cmd(), &root, "", &mut found)?;
        let files = || found.iter().filter(|(mode, ..)| kind_of(mode) != EntryKind::Submodule).map(|(_, _, id)| id);
        let sizes = reader::sizes(&|| self.cmd(), &files().collect::<Vec<_>>())?;
        let mut sizes = sizes.into_iter();
        let entry = |(mode, path, id): Raw| {
            let kind = kind_of(&mode);
            let size = if kind == EntryKind::Submodule { None } else { sizes.next().flatten() };
            TreeEntry { path, kind, id, size }
        };
        Ok(found.into_iter().map(entry).collect())
    }

    /// The contents of blobs, in order. They are held in memory, so only for files of bounded size.
    pub fn contents<'a>(&self, ids: impl IntoIterator<Item = &'a Sha>) -> Result<Vec<Vec<u8>>> {
        contents(&|| self.cmd(), ids.into_iter())
    }

    /// The contents that these names resolve to (`COMMIT:PATH` or an object id), in order; `None` for one that is not a
    /// blob, is missing, or is larger than `most` bytes. One process for all of them.
    pub fn named_texts(&self, names: &[String], most: usize) -> Result<Vec<Option<Vec<u8>>>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        // Each name is sent on a line, so it must not contain a line break.
        let text = |name: &String| {
            let name = name.replace(['\n', '\0'], " ");
            match self.info(&name)?.filter(|found| found.kind == "blob" && found.size <= most) {
                Some(found) => reader::content(&|| self.cmd(), found.id.as_str(), "blob", most),
                None => Ok(None),
            }
        };
        names.iter().map(text).collect()
    }

    /// Paths that differ between two commits' trees; a rename is two paths.
    pub fn changed_paths(&self, from: &Sha, to: &Sha) -> Result<Vec<String>> {
        let out = self.cmd().args(["diff-tree", "-r"]).args(SUMMARY).args([from.as_str(), to.as_str()]).ok()?;
        Ok(nul_texts(&out))
    }

    /// The commits of `from..to`, oldest first.
    pub fn commits(&self, from: &Sha, to: &Sha) -> Result<Vec<Sha>> {
        self.rev_list(&["--reverse", "--topo-order", to.as_str(), &format!("^{from}")])
    }

    pub(super) fn rev_list(&self, args: &[&str]) -> Result<Vec<Sha>> {
        let out = self.cmd().arg("rev-list").args(args).ok()?;
        String::from_utf8_lossy(&out).lines().map(|l| Sha::parse(l).map_err(|_| unexpected("rev-list"))).collect()
    }

    /// The first line of a commit's message, control characters left out.
    pub fn subject(&self, sha: &Sha) -> Result<String> {
        self.present(sha)?;
        let text = self.cmd().args(["log", "-1", "--format=%s", "--no-show-signature", sha.as_str()]).text()?;
        Ok(text.chars().filter(|c| !c.is_control()).collect())
    }

    /// Whether `from..to` contains a merge (RULE-30).
    pub fn has_merge_commit(&self, from: &Sha, to: &Sha) -> Result<bool> {
        Ok(!self.rev_list(&["--min-parents=2", "--max-count=1", to.as_str(), &format!("^{from}")])?.is_empty())
    }

    /// RULE-22: every path changed by a commit that pushing `head` would add, that is, one new to both the run's start
    /// **and** the default branch. A path that was changed and changed back is included. Merges count with what they
    /// changed beyond an automatic merge.
    pub fn new_paths(&self, start: &Sha, default: &Sha, head: &Sha) -> Result<BTreeSet<String>> {
        self.own_changes(&[head.as_str(), &format!("^{start}"), &format!("^{default}")])
    }

    fn own_changes(&self, range: &[&str]) -> Result<BTreeSet<String>> {
        let out = self
            .cmd()
            .args(["log", "--format=", "--root", "--diff-merges=remerge", "--no-notes", "--no-show-signature"])
            .args(SUMMARY)
            .args(range)
            .ok()?;
        let mut paths: BTreeSet<String> = nul_texts(&out).into_iter().collect();
        // Git can't redo an octopus merge and shows nothing: take everything that differs from any parent.
        let mut octopus = vec!["--min-parents=3"];
        octopus.extend(range);
        for merge in self.rev_list(&octopus)? {
            let out =
                self.cmd().args(["diff-tree", "-r", "-m", "--no-commit-id"]).args(SUMMARY).arg(merge.as_str()).ok()?;
            paths.extend(nul_texts(&out));
        }
        Ok(paths)
    }

    /// Files and lines that differ between two commits.
    pub fn diff_stat_lines(&self, from: &Sha, to: &Sha) -> Result<DiffStat> {
        let out = self
            .cmd()
            .args(["diff-tree", "-r", "-z", "--numstat", "--no-renames", "--no-ext-diff", "--no-textconv"])
            .args([from.as_str(), to.as_str()])
            .ok()?;
        Ok(stat(&out))
    }

    /// What `head` changed since it left `base` (`base...head`), as text. No attribute of the branch can hide anything:
    /// nothing counts as binary, no filter or helper runs, attributes are the base's if git supports that (ORD-5).
    pub fn diff_text(&self, base: &Sha, head: &Sha, form: DiffForm) -> Result<Vec<u8>> {
        let shape: &[&str] = match form {
            DiffForm::Patch => &["--patch"],
            DiffForm::Stat => &["--stat=120", "--summary"],
        };
        self.plain_diff(base).args(shape).arg(format!("{base}...{head}")).ok()
    }

    /// Files and lines of `base...head`, under the same rules as [`Mirror::diff_text`].
    pub fn diff_size(&self, base: &Sha, head: &Sha) -> Result<DiffStat> {
        let cmd = self.plain_diff(base).args(["-z", "--numstat", "--no-renames"]);
        Ok(stat(&cmd.arg(format!("{base}...{head}")).ok()?))
    }

    fn plain_diff(&self, base: &Sha) -> Cmd<'_> {
        self.cmd()
            .env("GIT_ATTR_SOURCE", base.as_str())
            .args(["diff", "--text", "--no-ext-diff", "--no-textconv", "--no-color", "--submodule=short"])
            .args(["--src-prefix=a/", "--dst-prefix=b/"])
    }

    /// Stable patch ids of the commits of `base..head`, oldest first, without merges: what a merge changed beyond an
    /// automatic one is in `new_paths(old head, base, new head)`, which is empty for `orch`'s own. Equal lists mean
    /// that `orch`'s own update changed no patch (PIPE-4).
    pub fn patch_ids(&self, base: &Sha, head: &Sha) -> Result<Vec<String>> {
        let log = self
            .cmd()
            .args(["log", "-p", "--reverse", "--topo-order", "--no-merges", "--full-index", "--binary", "--no-renames"])
            .args(["--no-ext-diff", "--no-textconv", "--no-color", "--format=commit %H", "--root", "--submodule=short"])
            .args([head.as_str(), &format!("^{base}")])
            .ok()?;
        let out = self.cmd().args(["patch-id", "--stable"]).stdin(log).ok()?;
        Ok(String::from_utf8_lossy(&out)
            .lines()
            .filter_map(|l| l.split_whitespace().next().map(ToOwned::to_owned))
            .collect())
    }

    pub(super) fn id(&self, out: &[u8]) -> Result<Sha> {
        Sha::parse(&String::from_utf8_lossy(out)).map_err(|_| unexpected("an id"))
    }
}

/// The contents of blobs of one repository, in order.
pub(super) fn contents<'a, 'c>(cmd: &dyn Fn() -> Cmd<'c>, ids: impl Iterator<Item = &'a Sha>) -> Result<Vec<Vec<u8>>> {
    let missing = |id: &Sha| GitError::NotFound { what: format!("blob {id}") };
    ids.map(|id| reader::content(cmd, id.as_str(), "blob", OUTPUT_CAP)?.ok_or_else(|| missing(id))).collect()
}

/// The kind for a mode in a tree (six digits).
fn kind_of(mode: &str) -> EntryKind {
    match mode {
        "040000" => EntryKind::Folder,
        "160000" => EntryKind::Submodule,
        "120000" => EntryKind::Symlink,
        "100755" => EntryKind::Executable,
        _ => EntryKind::File,
    }
}

pub(super) fn unexpected(what: &str) -> GitError {
    GitError::Broken { args: what.to_owned(), code: 0, stderr: "output of an unknown form".to_owned() }
}

/// A path from the root without empty, `.` or `..` parts.
pub(super) fn plain_path(path: &str) -> Option<String> {
    let path = path.strip_prefix("./").unwrap_or(path);
    let plain = !path.contains('\0') && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    plain.then(|| path.to_owned())
}

/// See `fuzzing`.
pub(super) fn fuzz(bytes: &[u8]) {
    reader::fuzz(bytes);
    plain_path(&String::from_utf8_lossy(bytes));
}

/// The sum of a `--numstat -z` listing.
fn stat(out: &[u8]) -> DiffStat {
    let mut stat = DiffStat::default();
    for line in nul_texts(out) {
        let mut parts = line.splitn(3, '\t');
        let mut number = || parts.next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        stat.added = stat.added.saturating_add(number());
        stat.deleted = stat.deleted.saturating_add(number());
        stat.files = stat.files.saturating_add(1);
    }
    stat
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_are_resolved() {
        assert_eq!(plain_path("./a/b").as_deref(), Some("a/b"));
        for bad in ["", "/a", "a//b", "../a", "a/..", "a/./b", "a\0b"] {
            assert_eq!(plain_path(bad), None, "{bad}");
        }
    }
}
