//! Makes new commits in the mirror without a work tree: updates of a branch, merges, the one-commit rework. Everything
//! in them comes from the commits they are made from, so that a repeated call makes the same commit (RULE-30).

use super::cmd::{GitError, OUTPUT_CAP, Result};
use super::history::{MAX_FILE, unexpected};
use super::mirror::Mirror;
use super::{Person, nul_texts, reader};
use crate::model::ids::{Key, Sha};
use crate::model::sides::{Method as MergeMethod, Update as UpdateMode};

/// How far back a line of commits is followed without a process.
const STEPS: usize = 64;

/// The parts of a commit that a copy keeps.
struct Original {
    tree: Sha,
    parents: Vec<Sha>,
    /// `Name <address> seconds zone`.
    author: Vec<u8>,
    encoding: Option<Vec<u8>>,
    message: Vec<u8>,
}

impl Mirror {
    /// The branch `head` brought up to `base`: a commit that contains both, or `head` itself if it already contains the
    /// base. Makes the same commit when called again. Fails with `Conflict`, naming the paths.
    pub fn update_branch(&self, base: &Sha, head: &Sha, mode: UpdateMode, committer: &Person) -> Result<Sha> {
        if self.is_ancestor(base, head)? {
            return Ok(head.clone());
        }
        if self.is_ancestor(head, base)? {
            return Ok(base.clone());
        }
        match mode {
            UpdateMode::Rebase if !self.has_merge_commit(base, head)? => self.rebase(base, head, committer),
            UpdateMode::Rebase | UpdateMode::Merge => {
                let tree = self.merge_trees(head, base)?;
                let date = self.original(head)?.author_date();
                let message = format!("Merge the default branch at {} into the branch\n", base.short());
                self.write_commit(
                    &tree,
                    &[head, base],
                    &stamped(committer, &date),
                    &stamped(committer, &date),
                    None,
                    message.as_bytes(),
                )
            }
        }
    }

    /// The commit that lands `head` on `base`. With `Rebase`, a head that already contains the base lands unchanged.
    /// Makes the same commit when called again. Fails with `Conflict`.
    pub fn merge_commit(
        &self,
        base: &Sha,
        head: &Sha,
        method: MergeMethod,
        message: &str,
        identity: &Person,
    ) -> Result<Sha> {
        let date = self.original(head)?.author_date();
        let line = stamped(identity, &date);
        let message = ended(message);
        match method {
            MergeMethod::Rebase => self.update_branch(base, head, UpdateMode::Rebase, identity),
            MergeMethod::Merge => {
                let tree = self.merge_trees(base, head)?;
                self.write_commit(&tree, &[base, head], &line, &line, None, message.as_bytes())
            }
            MergeMethod::Squash => {
                let tree = self.merge_trees(base, head)?;
                self.write_commit(&tree, &[base], &line, &line, None, message.as_bytes())
            }
        }
    }

    /// One commit on `base` with the tree of `last`: the rework after a secret (RUN-4), whose history must not contain
    /// what was removed.
    pub fn squash_onto(&self, base: &Sha, last: &Sha, message: &str, identity: &Person) -> Result<Sha> {
        let original = self.original(last)?;
        let line = stamped(identity, &original.author_date());
        self.write_commit(&original.tree, &[base], &line, &line, None, ended(message).as_bytes())
    }

    /// `head` with one more commit that removes the work item's folder (ORD-6), or `head` itself if it has none. Makes
    /// the same commit when called again.
    pub fn without_folder(&self, head: &Sha, key: &Key, identity: &Person) -> Result<Sha> {
        let tree = self.tree_without_folder(head, key)?;
        if tree == self.tree_of(head)? {
            return Ok(head.clone());
        }
        let line = stamped(identity, &self.original(head)?.author_date());
        let message = format!("{key}: leave the work item's documents out of the default branch\n");
        self.write_commit(&tree, &[head], &line, &line, None, message.as_bytes())
    }

    /// The parent of a commit that only removed the work item's folder; `None`: `head` is not such a commit.
    pub fn before_removal(&self, head: &Sha, key: &Key) -> Result<Option<Sha>> {
        let parents = self.original(head)?.parents;
        let [parent] = parents.as_slice() else { return Ok(None) };
        let tree = self.tree_of(head)?;
        let removed = tree != self.tree_of(parent)? && tree == self.tree_id_without_folder(parent, key)?;
        Ok(removed.then(|| parent.clone()))
    }

    /// Whether two commits merge without conflict; returns the merged tree. Fails with `Conflict`.
    pub fn merge_trees(&self, ours: &Sha, theirs: &Sha) -> Result<Sha> {
        match self.merge_files(ours, theirs)? {
            (tree, paths) if paths.is_empty() => Ok(tree),
            (_, paths) => Err(GitError::Conflict { paths }),
        }
    }

    /// The merge of two commits as files: a tree, and the conflicting paths. Text files among them contain conflict
    /// markers.
    pub fn merge_files(&self, ours: &Sha, theirs: &Sha) -> Result<(Sha, Vec<String>)> {
        // Git exits with 1 both for a bad name and for a conflict (7.2), so the names are checked first.
        self.tree_of(ours)?;
        self.tree_of(theirs)?;
        let done = self
            .cmd()
            .config("merge.renames=true")
            .config("merge.directoryRenames=false")
            .args(["merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", ours.as_str(), theirs.as_str()])
            .run()?;
        let parts = nul_texts(&done.stdout);
        match (done.code, parts.split_first()) {
            (0, Some((tree, _))) => Ok((Sha::parse(tree).map_err(|_| unexpected("merge-tree"))?, Vec::new())),
            (1, Some((tree, paths))) if !paths.is_empty() => {
                Ok((Sha::parse(tree).map_err(|_| unexpected("merge-tree"))?, paths.to_vec()))
            }
            _ if done.stderr.contains("unrelated histories") => Err(GitError::Incompatible {
                reason: format!("{} and {} have no common history", ours.short(), theirs.short()),
            }),
            _ => Err(done.broken()),
        }
    }

    fn rebase(&self, base: &Sha, head: &Sha, committer: &Person) -> Result<Sha> {
        let mut onto = base.clone();
        for commit in self.commits(base, head)? {
            let original = self.original(&commit)?;
            let Some(parent) = original.parents.first() else {
                let reason = format!("{} and {} have no common history", base.short(), head.short());
                return Err(GitError::Incompatible { reason });
            };
            let onto_tree = self.tree_of(&onto)?;
            // A stand-in with the new base's tree and the old parent. Its merge with the commit has that parent as
            // merge base, which is what replaying one commit means (`--merge-base` only exists since 2.40).
            let line = stamped(committer, &original.author_date());
            let synthetic = self.write_commit(&onto_tree, &[parent], &line, &line, None, b"stand-in\n")?;
            let tree = self.merge_trees(&synthetic, &commit)?;
            let was_empty = self.tree_of(parent)? == original.tree;
            if tree == onto_tree && !was_empty {
                // The base already has this change.
                continue;
            }
            onto = self.write_commit(
                &tree,
                &[&onto],
                &original.author,
                &line,
                original.encoding.as_deref(),
                &original.message,
            )?;
        }
        Ok(onto)
    }

    fn original(&self, sha: &Sha) -> Result<Original> {
        let raw = reader::content(&|| self.cmd(), sha.as_str(), "commit", OUTPUT_CAP)?;
        let raw = raw.ok_or_else(|| GitError::NotFound { what: format!("commit {sha} in the mirror") })?;
        Original::read(&raw).ok_or_else(|| unexpected("a commit"))
    }

    /// Whether a line of commits with one parent each leads from `b` back to `a` within a few steps: the usual case, and
    /// no process is needed for it. `false`: git has to say.
    pub(super) fn leads_straight(&self, a: &Sha, b: &Sha) -> Result<bool> {
        let mut at = b.clone();
        for _ in 0..STEPS {
            let found = self.info(at.as_str())?.filter(|found| found.kind == "commit");
            if found.as_ref().is_none_or(|found| found.size > MAX_FILE) {
                return Ok(false);
            }
            if at == *a {
                return Ok(true);
            }
            match self.original(&at)?.parents.as_slice() {
                [parent] => at = parent.clone(),
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    fn write_commit(
        &self,
        tree: &Sha,
        parents: &[&Sha],
        author: &[u8],
        committer: &[u8],
        encoding: Option<&[u8]>,
        message: &[u8],
    ) -> Result<Sha> {
        let mut raw = format!("tree {tree}\n").into_bytes();
        for parent in parents {
            raw.extend_from_slice(format!("parent {parent}\n").as_bytes());
        }
        let mut header = |name: &str, value: &[u8]| {
            raw.extend_from_slice(name.as_bytes());
            raw.push(b' ');
            raw.extend_from_slice(value);
            raw.push(b'\n');
        };
        header("author", author);
        header("committer", committer);
        if let Some(encoding) = encoding {
            header("encoding", encoding);
        }
        raw.push(b'\n');
        raw.extend(message.iter().filter(|b| **b != 0));
        let out = self.cmd().args(["hash-object", "-t", "commit", "-w", "--stdin"]).stdin(raw).ok()?;
        self.id(&out)
    }
}

impl Original {
    fn read(raw: &[u8]) -> Option<Self> {
        let end = raw.windows(2).position(|w| w == b"\n\n").unwrap_or(raw.len());
        let (head, rest) = raw.split_at(end);
        let message = rest.get(2..).unwrap_or(&[]).to_vec();
        let (mut tree, mut parents, mut author, mut encoding) = (None, Vec::new(), None, None);
        for line in head.split(|b| *b == b'\n') {
            let id = |value: &[u8]| Sha::parse(&String::from_utf8_lossy(value)).ok();
            if let Some(value) = line.strip_prefix(b"tree ") {
                tree = id(value);
            } else if let Some(value) = line.strip_prefix(b"parent ") {
                parents.push(id(value)?);
            } else if let Some(value) = line.strip_prefix(b"author ") {
                author = Some(value.to_vec());
            } else if let Some(value) = line.strip_prefix(b"encoding ") {
                encoding = Some(value.to_vec());
            }
        }
        Some(Self { tree: tree?, parents, author: author?, encoding, message })
    }

    /// `seconds zone` of the author line; the epoch if it has none.
    fn author_date(&self) -> String {
        let text = String::from_utf8_lossy(&self.author).into_owned();
        let date = text.rsplit_once("> ").map_or("", |(_, date)| date);
        let mut parts = date.split(' ');
        match (parts.next().and_then(|s| s.parse::<u64>().ok()), parts.next()) {
            (Some(seconds), Some(zone))
                if zone.len() == 5
                    && zone.starts_with(['+', '-'])
                    && zone.bytes().skip(1).all(|b| b.is_ascii_digit()) =>
            {
                format!("{seconds} {zone}")
            }
            _ => "0 +0000".to_owned(),
        }
    }
}

pub(super) fn stamped(person: &Person, date: &str) -> Vec<u8> {
    format!("{} {date}", person.line()).into_bytes()
}

fn ended(message: &str) -> String {
    format!("{}\n", message.trim_end())
}

/// See `fuzzing`.
pub(super) fn fuzz(bytes: &[u8]) {
    if let Some(original) = Original::read(bytes) {
        original.author_date();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_read_with_a_signature_and_a_message_of_any_bytes() {
        let id = "a".repeat(40);
        let mut raw = format!(
            "tree {id}\nparent {id}\nauthor A B <a@b> 1700000000 +0100\ncommitter C <c> 1 +0000\ngpgsig -----BEGIN\n author X\n -----END\nencoding latin1\n\nsubject\n\nbody "
        )
        .into_bytes();
        raw.push(0xff);
        let read = Original::read(&raw).unwrap();
        assert_eq!(read.author, b"A B <a@b> 1700000000 +0100");
        assert_eq!(read.author_date(), "1700000000 +0100");
        assert_eq!(read.encoding.as_deref(), Some(&b"latin1"[..]));
        assert!(read.message.ends_with(&[b' ', 0xff]));
        assert!(Original::read(b"garbage").is_none());
    }
}
