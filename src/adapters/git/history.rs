//! What the mirror knows: ancestry, trees, files, and which paths a range of commits touches. Reads only (trees made by
//! `code_tree` are objects without a name). Names that are no UTF-8 come back with U+FFFD in place of the bytes.

use super::cmd::{Cmd, GitError, Result};
use super::mirror::Mirror;
use super::nul_texts;
use crate::model::artefact::{self, Artefact};
use crate::model::ids::{Key, Sha};
use std::collections::BTreeSet;

/// The largest file that is read out of a commit, in bytes.
pub const MAX_FILE: usize = 1 << 20;
const SUMMARY: [&str; 4] = ["--name-only", "--no-renames", "--no-ext-diff", "-z"];

/// What a name in a tree stands for.
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
    /// The path for people and globs.
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

/// How a change is written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiffForm {
    Patch,
    Stat,
}

/// How much a change changes; binary files count as files without lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiffStat {
    pub files: u64,
    pub added: u64,
    pub deleted: u64,
}

impl Mirror {
    /// Whether the mirror has this commit.
    pub fn exists(&self, sha: &Sha) -> Result<bool> {
        let done = self.cmd().args(["cat-file", "-e", &format!("{sha}^{{commit}}")]).run()?;
        match done.code {
            0 => Ok(true),
            // 128 for an id that is not there with `^{commit}`, 1 without.
            1 | 128 if !done.stderr.contains("not a git repository") => Ok(false),
            _ => Err(done.broken()),
        }
    }

    fn present(&self, sha: &Sha) -> Result<()> {
        if self.exists(sha)? { Ok(()) } else { Err(GitError::NotFound { what: format!("commit {sha} in the mirror") }) }
    }

    /// Whether `a` is `b` or an ancestor of it. Fails with `NotFound` where the mirror lacks one.
    pub fn is_ancestor(&self, a: &Sha, b: &Sha) -> Result<bool> {
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
        let done = self.cmd().args(["merge-base", a.as_str(), b.as_str()]).run()?;
        match done.code {
            0 => Ok(Some(self.id(&done.stdout)?)),
            1 => Ok(None),
            _ => Err(done.broken()),
        }
    }

    /// The tree of a commit.
    pub fn tree_of(&self, sha: &Sha) -> Result<Sha> {
        self.present(sha)?;
        let out = self.cmd().args(["rev-parse", "--verify", "-q", &format!("{sha}^{{tree}}")]).ok()?;
        self.id(&out)
    }

    /// The commit's tree without the work item's artefacts (PIPE-4): the very names of PIPE-5 below `docs/work-items/<KEY>/`,
    /// regular files, not executable. Anything else there is code. Equal for two commits exactly if they differ in nothing
    /// but those.
    pub fn code_tree(&self, sha: &Sha, key: &Key) -> Result<Sha> {
        self.with_folder(sha, key, &|tree| self.without_artefacts(tree, ""))
    }

    /// The commit's tree without anything of the work item's folder (ORD-6).
    pub fn tree_without_folder(&self, sha: &Sha, key: &Key) -> Result<Sha> {
        self.with_folder(sha, key, &|_| Ok(None))
    }

    /// The commit's tree with another work item's folder; `None`: without one.
    fn with_folder(&self, sha: &Sha, key: &Key, other: &dyn Fn(&Sha) -> Result<Option<Sha>>) -> Result<Sha> {
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
        // From the innermost folder outwards: without the name, or with its new tree; an emptied folder goes too.
        let mut replacement = other(&tree)?;
        for (name, entries) in levels.into_iter().rev() {
            let mut input = Vec::new();
            for (mode, found, id) in entries {
                let id = if found == name.as_bytes() { replacement.clone() } else { Some(id) };
                let Some(id) = id else { continue };
                tree_line(&mut input, &mode, &found, &id);
            }
            replacement = if input.is_empty() { None } else { Some(self.make_tree(input)?) };
        }
        match replacement {
            Some(tree) => Ok(tree),
            None => self.make_tree(Vec::new()),
        }
    }

    /// A tree of the work item's folder without its artefacts; `None`: nothing is left. `at`: where it lies below the folder.
    fn without_artefacts(&self, tree: &Sha, at: &str) -> Result<Option<Sha>> {
        let mut input = Vec::new();
        for (mode, name, id) in self.raw_entries(tree)? {
            let path = format!("{at}{}", String::from_utf8_lossy(&name));
            let id = match mode.as_str() {
                "100644" if Artefact::of(&path).is_some() => None,
                "040000" if path == artefact::ADR_FOLDER => self.without_artefacts(&id, &format!("{path}/"))?,
                _ => Some(id),
            };
            if let Some(id) = id {
                tree_line(&mut input, &mode, &name, &id);
            }
        }
        if input.is_empty() { Ok(None) } else { self.make_tree(input).map(Some) }
    }

    fn make_tree(&self, input: Vec<u8>) -> Result<Sha> {
        let out = self.cmd().args(["mktree", "-z", "--missing"]).stdin(input).ok()?;
        self.id(&out)
    }

    /// Mode, name and id of each entry of one tree.
    fn raw_entries(&self, tree: &Sha) -> Result<Vec<(String, Vec<u8>, Sha)>> {
        let out = self.cmd().args(["ls-tree", "-z", tree.as_str()]).ok()?;
        out.split(|b| *b == 0)
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (mode, _, id, _, path) = entry_line(line).ok_or_else(|| odd("ls-tree"))?;
                Ok((mode, path.to_vec(), id))
            })
            .collect()
    }

    /// The entry at a path of a commit, symlinks not followed.
    pub fn entry(&self, sha: &Sha, path: &str) -> Result<Option<TreeEntry>> {
        let Some(path) = plain_path(path) else { return Ok(None) };
        Ok(self.ls_tree(sha, &[], &path)?.into_iter().find(|e| e.path == path.as_bytes()))
    }

    /// A regular file's bytes; `None` where there is none (a symlink, folder or submodule is none). Fails with
    /// `Rejected` where it is larger than 1 MiB.
    pub fn read_file(&self, sha: &Sha, path: &str) -> Result<Option<Vec<u8>>> {
        let Some(entry) = self.entry(sha, path)? else { return Ok(None) };
        if !matches!(entry.kind, EntryKind::File | EntryKind::Executable) {
            return Ok(None);
        }
        if entry.size.is_none_or(|size| size > MAX_FILE as u64) {
            return Err(GitError::Rejected { reason: format!("{path} at {} is larger than 1 MiB", sha.short()) });
        }
        self.cmd().args(["cat-file", "blob", entry.id.as_str()]).ok().map(Some)
    }

    /// The id of a regular file's content at a path.
    pub fn blob_of(&self, sha: &Sha, path: &str) -> Result<Option<Sha>> {
        let entry = self.entry(sha, path)?;
        Ok(entry.filter(|e| matches!(e.kind, EntryKind::File | EntryKind::Executable)).map(|e| e.id))
    }

    /// The direct entries of a folder (`""`: the root); empty where there is none.
    pub fn list_dir(&self, sha: &Sha, dir: &str) -> Result<Vec<TreeEntry>> {
        let dir = dir.trim_end_matches('/');
        if dir.is_empty() {
            return self.ls_tree(sha, &[], "");
        }
        let Some(dir) = plain_path(dir) else { return Ok(Vec::new()) };
        self.ls_tree(sha, &[], &format!("{dir}/"))
    }

    /// Every entry below a path (or the entry itself), folders left out; empty where there is none.
    pub fn list_all(&self, sha: &Sha, path: &str) -> Result<Vec<TreeEntry>> {
        match plain_path(path.trim_end_matches('/')) {
            Some(path) => self.ls_tree(sha, &["-r"], &path),
            None => Ok(Vec::new()),
        }
    }

    fn ls_tree(&self, sha: &Sha, flags: &[&str], path: &str) -> Result<Vec<TreeEntry>> {
        self.present(sha)?;
        let paths: Vec<String> = Some(path).filter(|p| !p.is_empty()).map(str::to_owned).into_iter().collect();
        self.listed(sha, flags, &paths)
    }

    /// Every entry below any of the plain paths (or the entry itself), folders left out. One process.
    pub fn list_paths(&self, sha: &Sha, paths: &[String]) -> Result<Vec<TreeEntry>> {
        self.listed(sha, &["-r"], paths)
    }

    /// The entries that have exactly these plain paths, folders as such. One process.
    pub fn named(&self, sha: &Sha, paths: &[String]) -> Result<Vec<TreeEntry>> {
        self.listed(sha, &[], paths)
    }

    /// Every file of a commit. One process.
    pub fn list_files(&self, sha: &Sha) -> Result<Vec<TreeEntry>> {
        self.listed(sha, &["-r"], &[])
    }

    /// The contents of blobs, in order. One process; held in memory, so only for files of bounded size.
    pub fn contents<'a>(&self, ids: impl IntoIterator<Item = &'a Sha>) -> Result<Vec<Vec<u8>>> {
        contents(&|| self.cmd(), ids.into_iter())
    }

    /// The contents of what these names mean (`COMMIT:PATH`, or an object's id), in order; `None` for what is no blob, is
    /// missing, or is larger than `most` bytes. One process for all of them.
    pub fn named_texts(&self, names: &[String], most: usize) -> Result<Vec<Option<Vec<u8>>>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        // A name on a line of its own, so that no name is two.
        let lines: String = names.iter().map(|n| format!("{}\n", n.replace(['\n', '\0'], " "))).collect();
        let out = self.cmd().args(["cat-file", "--batch"]).stdin(lines).ok()?;
        let mut rest = out.as_slice();
        let mut found = Vec::with_capacity(names.len());
        for _ in names {
            let at = rest.iter().position(|b| *b == b'\n').ok_or_else(|| odd("cat-file"))?;
            let line = String::from_utf8_lossy(rest.get(..at).unwrap_or_default()).into_owned();
            rest = rest.get(at + 1..).unwrap_or_default();
            let mut words = line.rsplit(' ');
            let size: Option<usize> = words.next().and_then(|w| w.parse().ok());
            let blob = words.next() == Some("blob");
            let Some(size) = size.filter(|_| line.split(' ').count() == 3) else {
                found.push(None);
                continue;
            };
            let bytes = rest.get(..size).ok_or_else(|| odd("cat-file"))?;
            found.push((blob && size <= most).then(|| bytes.to_vec()));
            rest = rest.get(size + 1..).unwrap_or_default();
        }
        Ok(found)
    }

    fn listed(&self, sha: &Sha, flags: &[&str], paths: &[String]) -> Result<Vec<TreeEntry>> {
        let mut cmd = self.cmd().args(["ls-tree", "-z", "-l", "--full-tree"]).args(flags).arg(sha.as_str());
        if !paths.is_empty() {
            cmd = cmd.arg("--").args(paths);
        }
        cmd.ok()?
            .split(|b| *b == 0)
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (mode, kind, id, size, path) = entry_line(line).ok_or_else(|| odd("ls-tree"))?;
                let kind = match (kind.as_str(), mode.as_str()) {
                    ("tree", _) => EntryKind::Folder,
                    ("commit", _) => EntryKind::Submodule,
                    (_, "120000") => EntryKind::Symlink,
                    (_, "100755") => EntryKind::Executable,
                    _ => EntryKind::File,
                };
                Ok(TreeEntry { path: path.to_vec(), kind, id, size })
            })
            .collect()
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
        String::from_utf8_lossy(&out).lines().map(|l| Sha::parse(l).map_err(|_| odd("rev-list"))).collect()
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

    /// RULE-22: every path changed by a commit that pushing `head` would add, new to the run's start **and** to the
    /// default branch; a path changed and changed back is among them. Merges are judged by what they changed beyond
    /// an automatic merge.
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
        // An octopus merge can't be made again by itself, and git shows nothing: all that differs from any parent.
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

    /// What `head` changed since it left `base` (`base...head`), as text that no attribute of the branch can hide: nothing
    /// counts as binary, no filter or helper runs, attributes are the base's where git knows how to take them (ORD-5).
    pub fn diff_text(&self, base: &Sha, head: &Sha, form: DiffForm) -> Result<Vec<u8>> {
        let shape: &[&str] = match form {
            DiffForm::Patch => &["--patch"],
            DiffForm::Stat => &["--stat=120", "--summary"],
        };
        self.plain_diff(base).args(shape).arg(format!("{base}...{head}")).ok()
    }

    /// Files and lines of `base...head`, with the same eyes as [`Mirror::diff_text`].
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

    /// Stable patch ids of the commits of `base..head`, oldest first, merges left out: what one changed by
    /// itself is in `new_paths(old head, base, new head)`, empty for `orch`'s own. Equal lists: `orch`'s own update changed no patch (PIPE-4).
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
        Sha::parse(&String::from_utf8_lossy(out)).map_err(|_| odd("an id"))
    }
}

/// One entry as `mktree -z` reads it.
fn tree_line(input: &mut Vec<u8>, mode: &str, name: &[u8], id: &Sha) {
    let kind = match mode {
        "040000" => "tree",
        "160000" => "commit",
        _ => "blob",
    };
    input.extend_from_slice(format!("{mode} {kind} {id}\t").as_bytes());
    input.extend_from_slice(name);
    input.push(0);
}

/// The contents of blobs of one repository, in order.
pub(super) fn contents<'a, 'c>(cmd: &dyn Fn() -> Cmd<'c>, ids: impl Iterator<Item = &'a Sha>) -> Result<Vec<Vec<u8>>> {
    let ids: Vec<&Sha> = ids.collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let asked: String = ids.iter().map(|id| format!("{id}\n")).collect();
    let out = cmd().args(["cat-file", "--batch"]).stdin(asked).ok()?;
    let mut rest = out.as_slice();
    let mut found = Vec::new();
    for id in ids {
        let (bytes, after) = batch_item(rest).ok_or_else(|| GitError::NotFound { what: format!("blob {id}") })?;
        found.push(bytes.to_vec());
        rest = after;
    }
    Ok(found)
}

pub(super) fn odd(what: &str) -> GitError {
    GitError::Broken { args: what.to_owned(), code: 0, stderr: "output of an unknown form".to_owned() }
}

/// A path from the root without empty, `.` or `..` parts.
pub(super) fn plain_path(path: &str) -> Option<String> {
    let path = path.strip_prefix("./").unwrap_or(path);
    let plain = !path.contains('\0') && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    plain.then(|| path.to_owned())
}

/// Mode, kind, id, size, path.
type RawEntry<'a> = (String, String, Sha, Option<u64>, &'a [u8]);

/// `<mode> <kind> <id>[ <size>]\t<path>`.
fn entry_line(line: &[u8]) -> Option<RawEntry<'_>> {
    let tab = line.iter().position(|b| *b == b'\t')?;
    let (head, path) = line.split_at(tab);
    let head = String::from_utf8_lossy(head);
    let mut parts = head.split_whitespace();
    let (mode, kind) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let id = Sha::parse(parts.next()?).ok()?;
    Some((mode, kind, id, parts.next().and_then(|s| s.parse().ok()), path.get(1..)?))
}

/// One answer of `cat-file --batch`, `<id> blob <size>\n<bytes>\n`, and what follows it.
fn batch_item(out: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = out.iter().position(|b| *b == b'\n')?;
    let (head, rest) = out.split_at(end);
    let head = std::str::from_utf8(head).ok()?;
    let mut parts = head.split(' ').skip(1);
    if parts.next()? != "blob" {
        return None;
    }
    let size: usize = parts.next()?.parse().ok()?;
    let rest = rest.get(1..)?;
    Some((rest.get(..size)?, rest.get(size.checked_add(1)?..)?))
}

/// See `fuzzing`.
pub(super) fn fuzz(bytes: &[u8]) {
    entry_line(bytes);
    batch_item(bytes);
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
    fn only_plain_paths_are_looked_up() {
        assert_eq!(plain_path("./a/b").as_deref(), Some("a/b"));
        for bad in ["", "/a", "a//b", "../a", "a/..", "a/./b", "a\0b"] {
            assert_eq!(plain_path(bad), None, "{bad}");
        }
    }
}
