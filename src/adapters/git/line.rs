//! The default branch's own line since a task's base, and whether anything of the task is on it (RULE-5).

use super::cmd::Result;
use super::glance::{Heads, named};
use super::history::unexpected;
use super::mirror::{Mirror, checked};
use crate::model::ids::Sha;
use crate::model::landing::{Base, Line};
use std::collections::{BTreeMap, HashSet};

/// How many commits of the default branch are compared by their patches.
const MOST_PATCHES: &str = "--max-count=300";

/// What identifies the task's work on the line.
#[derive(Debug, Clone, Copy)]
pub struct Ours<'a> {
    /// The head whose tree was tested.
    pub head: &'a Sha,
    /// Every commit that `orch` pushed to the task's branch.
    pub pushed: &'a [Sha],
    /// Commits of other tasks that landed: never ours.
    pub others: &'a [Sha],
}

/// What a rebase or cherry-pick keeps of a commit: author, author's time, subject.
type Identity = (String, String);

impl Mirror {
    /// Reads the line from `base` to `tip`. Both must be in the mirror; a commit of ours that is missing there is
    /// ignored.
    pub fn line(&self, base: &Sha, tip: &Sha, ours: Ours<'_>) -> Result<Line> {
        let kept = self.is_ancestor(base, tip)?;
        let mut line = Line {
            base: base.clone(),
            tip: tip.clone(),
            base_kept: if kept { Base::Kept } else { Base::Gone },
            tested: None,
            ours: None,
        };
        if base == tip {
            return Ok(line);
        }
        line.tested = self.landed(base, tip, &self.tree_of(ours.head)?)?;
        line.ours = self.trace(base, tip, ours)?;
        Ok(line)
    }

    /// The commit that landed a tested tree (RULE-5): the first of the first-parent line of
    /// `expected_base..default_tip` with that tree. A branch's own commits below a merge are not on that line.
    pub fn landed(&self, expected_base: &Sha, default_tip: &Sha, tested_tree: &Sha) -> Result<Option<Sha>> {
        let out = self
            .cmd()
            .args(["log", "--first-parent", "--reverse", "--format=%H %T", "--no-show-signature", "--no-notes"])
            .args([default_tip.as_str(), &format!("^{expected_base}")])
            .ok()?;
        let text = String::from_utf8_lossy(&out);
        let found = text.lines().filter_map(|l| l.split_once(' ')).find(|(_, tree)| *tree == tested_tree.as_str());
        Ok(found.and_then(|(commit, _)| Sha::parse(commit).ok()))
    }

    /// A commit of `base..tip` that is ours, is a copy of one of ours, or contains our whole change.
    fn trace(&self, base: &Sha, tip: &Sha, ours: Ours<'_>) -> Result<Option<Sha>> {
        let range = [tip.as_str().to_owned(), format!("^{base}")];
        let there = self.identities(&range)?;
        let mut copies = HashSet::new();
        for sha in ours.pushed {
            if there.contains_key(sha) {
                return Ok(Some(sha.clone()));
            }
            if self.exists(sha)? {
                copies.extend(self.identities(&["--max-count=1".to_owned(), sha.as_str().to_owned()])?.into_values());
            }
        }
        if let Some((copy, _)) = there.iter().find(|(_, identity)| copies.contains(*identity)) {
            return Ok(Some(copy.clone()));
        }
        if ours.pushed.is_empty() {
            return Ok(None);
        }
        let squashed = self.same_change(&range, base, ours.head)?;
        Ok(squashed.filter(|sha| !ours.others.contains(sha)))
    }

    fn identities(&self, range: &[String]) -> Result<BTreeMap<Sha, Identity>> {
        let out = self
            .cmd()
            .args(["log", "--format=%H%x09%ae %at%x09%s", "--no-show-signature", "--no-notes"])
            .args(range.iter().map(String::as_str))
            .ok()?;
        let text = String::from_utf8_lossy(&out);
        let read = |l: &str| {
            let mut parts = l.splitn(3, '\t');
            let sha = Sha::parse(parts.next()?).ok()?;
            Some((sha, (parts.next()?.to_owned(), parts.next().unwrap_or("").to_owned())))
        };
        text.lines().map(|l| read(l).ok_or_else(|| unexpected("log"))).collect()
    }

    /// The commit of the range whose patch is the whole change from `base` to `head`: a squash, wherever it was made.
    fn same_change(&self, range: &[String], base: &Sha, head: &Sha) -> Result<Option<Sha>> {
        const PATCH: [&str; 7] =
            ["--full-index", "--binary", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color", "-p"];
        let Some(from) = self.merge_base(base, head)? else { return Ok(None) };
        let ids = |patch: Vec<u8>| -> Result<Vec<(String, String)>> {
            let out = self.cmd().args(["patch-id", "--stable"]).stdin(patch).ok()?;
            let text = String::from_utf8_lossy(&out);
            Ok(text.lines().filter_map(|l| l.split_once(' ')).map(|(p, c)| (p.to_owned(), c.to_owned())).collect())
        };
        let whole = self.cmd().args(["diff-tree", "-r"]).args(PATCH).args([from.as_str(), head.as_str()]).ok()?;
        let Some((wanted, _)) = ids(whole)?.into_iter().next() else { return Ok(None) };
        let log = self
            .cmd()
            .args(["log", "--no-merges", MOST_PATCHES, "--format=commit %H", "--submodule=short"])
            .args(PATCH)
            .args(range.iter().map(String::as_str))
            .ok()?;
        let found = ids(log)?.into_iter().find(|(patch, _)| *patch == wanted);
        Ok(found.and_then(|(_, commit)| Sha::parse(&commit).ok()))
    }

    /// Where these branches are on the remote now, and which one its HEAD names, in one answer.
    pub fn remote_heads(&self, branches: &[&str]) -> Result<Heads> {
        let mut names = Vec::new();
        for branch in branches {
            checked(branch)?;
            names.push(format!("refs/heads/{branch}"));
        }
        let asked = ["--symref", "origin", "HEAD"];
        let args: Vec<&str> = asked.into_iter().chain(names.iter().map(String::as_str)).collect();
        let done = self.ls_remote(&args)?;
        if done.code != 0 {
            return Err(done.remote_error());
        }
        let text = String::from_utf8_lossy(&done.stdout);
        let found: BTreeMap<&str, &str> =
            text.lines().filter_map(|l| l.split_once('\t')).map(|(i, n)| (n, i)).collect();
        let heads: Vec<Option<Sha>> =
            names.iter().map(|n| found.get(n.as_str()).and_then(|id| Sha::parse(id).ok())).collect();
        branches.iter().zip(&heads).for_each(|(branch, head)| self.answered(branch, head.as_ref()));
        Ok(Heads { at: heads, default: named(&text) })
    }
}
