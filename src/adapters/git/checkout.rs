//! A checkout for a run: its own git work tree, made only from a commit (R2). It has its own copies of objects, since a
//! hard link or a writable alternate would let a run rewrite the mirror's (RULE-23); no remote, no hook, and HEAD at
//! the revision. Only git without foreign configuration works here, and only before the run begins.

use super::cmd::{Cmd, Git, GitError, Result};
use super::history::plain_path;
use super::mirror::{Mirror, checked};
use super::shared::Shared;
use super::{Person, files};
use crate::model::artefact;
use crate::model::ids::Sha;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A configured command names a script or a folder of scripts; none of the files is larger.
const SCRIPT_BYTES: u64 = 64 << 20;

/// Which documents of work items a checkout contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Documents {
    /// All documents of the commit, for agents.
    Kept,
    /// No artefact of any work item, for checkouts that run commands: code that needs one must fail (BND-5). Marked
    /// skip-worktree in the index, so that `git status` stays clean.
    LeftOut,
}

/// What a checkout is made from.
#[derive(Debug, Clone)]
pub struct CheckoutPlan<'a> {
    pub sha: &'a Sha,
    /// The files, if they are not the commit's own: the merge to resolve after a conflict.
    pub tree: Option<&'a Sha>,
    /// The branch of HEAD; `None`: detached.
    pub branch: Option<&'a str>,
    /// The default branch, named `origin/<name>`.
    pub default: Option<(&'a str, &'a Sha)>,
    /// Patterns for `info/exclude`, for the agent's own git.
    pub exclude: &'a [String],
    /// The identity for commits made there.
    pub author: Option<&'a Person>,
    /// Paths written from another commit instead, raw and last: no attribute, filter or link of `sha` affects them
    /// (RULE-23). One that the commit lacks is absent.
    pub scripts: Option<(&'a Sha, &'a [String])>,
    pub documents: Documents,
    /// Where the history is read from; `None`: the checkout has its own full copy.
    pub shared: Option<&'a Shared>,
}

impl<'a> CheckoutPlan<'a> {
    /// A plain checkout of one commit, unchanged.
    pub fn of(sha: &'a Sha) -> Self {
        Self {
            sha,
            tree: None,
            branch: None,
            default: None,
            exclude: &[],
            author: None,
            scripts: None,
            documents: Documents::Kept,
            shared: None,
        }
    }
}

/// A finished checkout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedOut {
    /// Absolute paths of the files that were written raw and last. To be mounted read-only; unchanged after the run.
    pub scripts: Vec<PathBuf>,
}

impl Mirror {
    /// Makes a checkout at `dest`, which is deleted first. Fails with `NotFound` if the mirror lacks a commit, with
    /// `Rejected` if a script's path leaves the repository.
    pub fn check_out(&self, dest: &Path, plan: &CheckoutPlan<'_>) -> Result<CheckedOut> {
        let making = Making { mirror: self, git: self.git(), dest, plan };
        self.tree_of(plan.sha)?;
        files::remove(dest)?;
        making.repository()?;
        // Both read the mirror's objects, so neither waits for the other.
        std::thread::scope(|scope| {
            let objects = scope.spawn(|| making.objects());
            let files = making.files();
            let died = |_| making.io()(std::io::Error::other("a thread of it died"));
            objects.join().unwrap_or_else(|e| Err(died(e)))?;
            files
        })
    }
}

impl Mirror {
    /// Makes a folder at `dest`, which is deleted first, with exactly these files of a commit, byte for byte: what an
    /// operator's command needs of the tree that something else was built from (BND-3). A file that the commit lacks is
    /// absent. Fails with `Rejected` if a path leaves the repository.
    pub fn scripts_alone(&self, dest: &Path, from: &Sha, paths: &[String]) -> Result<CheckedOut> {
        let plan = CheckoutPlan { scripts: Some((from, paths)), ..CheckoutPlan::of(from) };
        let making = Making { mirror: self, git: self.git(), dest, plan: &plan };
        files::remove(dest)?;
        std::fs::create_dir_all(dest).map_err(making.io())?;
        std::fs::set_permissions(dest, Permissions::from_mode(0o755)).map_err(making.io())?;
        let scripts = making.scripts(from, paths)?;
        Ok(CheckedOut { scripts: making.write(&scripts)? })
    }

    /// Restores files of a checkout to their content in a commit, replacing whatever a setup left there. Uses nothing
    /// of the checkout's own repository and leaves submodules alone.
    pub fn restore(&self, sha: &Sha, checkout: &Path, paths: &[String]) -> Result<()> {
        let names: Vec<&String> = paths.iter().filter(|p| !p.contains('\0')).collect();
        if names.is_empty() {
            return Ok(());
        }
        let io = || GitError::io(format!("restoring files in {}", checkout.display()));
        let copy = tempfile::tempdir_in(self.path()).map_err(io())?;
        let (tree, index) = (copy.path().join("tree"), copy.path().join("index"));
        std::fs::create_dir(&tree).map_err(io())?;
        let cmd = || {
            let cmd = self.git().cmd(&tree).git_dir(self.path()).config("core.bare=false").public();
            cmd.env("GIT_WORK_TREE", &tree).env("GIT_INDEX_FILE", &index)
        };
        cmd().args(["read-tree", sha.as_str()]).ok()?;
        let list: String = names.iter().map(|p| format!("{p}\0")).collect();
        cmd().args(["checkout-index", "-q", "-f", "-z", "--stdin"]).stdin(list).ok()?;
        for name in names {
            let from = tree.join(name);
            let Ok(meta) = from.symlink_metadata() else { continue };
            if meta.is_dir() {
                continue;
            }
            let to = clear_way(checkout, name)?;
            if meta.is_symlink() {
                let target = std::fs::read_link(&from).map_err(io())?;
                std::os::unix::fs::symlink(target, &to).map_err(io())?;
            } else {
                std::fs::copy(&from, &to).map_err(io())?;
            }
        }
        Ok(())
    }
}

/// Clears the path for a file: links and files in place of its folders are deleted, as is anything with its name.
/// Nobody else works in the checkout.
fn clear_way(root: &Path, name: &str) -> Result<PathBuf> {
    let mut at = root.to_owned();
    let mut parts = name.split('/').peekable();
    while let Some(part) = parts.next() {
        at.push(part);
        let folder = at.symlink_metadata().is_ok_and(|m| m.is_dir());
        if parts.peek().is_some() && !folder {
            files::remove(&at)?;
            let made =
                std::fs::create_dir(&at).and_then(|()| std::fs::set_permissions(&at, Permissions::from_mode(0o755)));
            made.map_err(GitError::io(format!("making {}", at.display())))?;
        }
    }
    files::remove(&at)?;
    Ok(at)
}

/// Files to write raw, and the names of the checked-out commit that they replace.
#[derive(Debug, Default)]
struct Scripts {
    replaced: Vec<Vec<u8>>,
    files: Vec<(String, bool, Vec<u8>)>,
}

struct Making<'a> {
    mirror: &'a Mirror,
    git: &'a Git,
    dest: &'a Path,
    plan: &'a CheckoutPlan<'a>,
}

impl<'a> Making<'a> {
    fn cmd(&self) -> Cmd<'a> {
        self.git.cmd(self.dest).git_dir(&self.dest.join(".git")).config("core.bare=false").public()
    }

    fn io<E: Into<std::io::Error>>(&self) -> impl FnOnce(E) -> GitError {
        let make = GitError::io(format!("checking out to {}", self.dest.display()));
        move |e| make(e.into())
    }

    /// The repository's skeleton, written file by file: no process, no template.
    fn repository(&self) -> Result<()> {
        let dot = self.dest.join(".git");
        for folder in ["objects/pack", "objects/info", "refs/heads", "refs/tags", "info"] {
            std::fs::create_dir_all(dot.join(folder)).map_err(self.io())?;
        }
        // It is inside a folder with mode 0700, but copies of the whole folder copy this mode, too.
        std::fs::set_permissions(self.dest, Permissions::from_mode(0o755)).map_err(self.io())?;
        let head = match self.plan.branch {
            Some(branch) => {
                checked(branch)?;
                let path = dot.join("refs/heads").join(branch);
                std::fs::create_dir_all(path.parent().unwrap_or(&dot)).map_err(self.io())?;
                std::fs::write(path, format!("{}\n", self.plan.sha)).map_err(self.io())?;
                format!("ref: refs/heads/{branch}\n")
            }
            None => format!("{}\n", self.plan.sha),
        };
        std::fs::write(dot.join("HEAD"), head).map_err(self.io())?;
        if let Some((name, sha)) = self.plan.default {
            checked(name)?;
            let path = dot.join("refs/remotes/origin").join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(&dot)).map_err(self.io())?;
            std::fs::write(path, format!("{sha}\n")).map_err(self.io())?;
        }
        let mut exclude = String::new();
        self.plan.exclude.iter().for_each(|p| exclude.push_str(&format!("{}\n", p.replace(['\n', '\r'], ""))));
        std::fs::write(dot.join("info/exclude"), exclude).map_err(self.io())?;
        std::fs::write(dot.join("config"), files::own_config(self.plan.author)).map_err(self.io())
    }

    /// Writes the index and the files.
    fn files(&self) -> Result<CheckedOut> {
        let scripts = match self.plan.scripts {
            Some((from, paths)) => self.scripts(from, paths)?,
            None => Scripts::default(),
        };
        let held_back = self.held_back(&scripts)?;
        let tree = self.plan.tree.unwrap_or(self.plan.sha).as_str();
        if held_back.is_empty() {
            self.reading().args(["read-tree", "--reset", "-u", tree]).ok()?;
        } else {
            self.reading().args(["read-tree", tree]).ok()?;
            self.reading().args(["update-index", "--skip-worktree", "-z", "--stdin"]).stdin(held_back).ok()?;
            self.reading().args(["checkout-index", "-q", "-a", "-f", "-u"]).ok()?;
        }
        Ok(CheckedOut { scripts: self.write(&scripts)? })
    }

    /// A command that reads the mirror's objects, too.
    fn reading(&self) -> Cmd<'a> {
        self.cmd().env("GIT_ALTERNATE_OBJECT_DIRECTORIES", self.mirror.path().join("objects"))
    }

    /// Copies what HEAD and the default branch reach, without what is shared, as one pack.
    fn objects(&self) -> Result<()> {
        let pack = self.dest.join(".git/objects/pack/pack");
        let ids = [Some(self.plan.sha), self.plan.default.map(|(_, sha)| sha), self.plan.tree];
        let mut revisions: String = ids.into_iter().flatten().map(|id| format!("{id}\n")).collect();
        if let Some(shared) = self.plan.shared {
            revisions.push_str(&format!("^{}\n", shared.tip));
            let names = self.dest.join(".git/objects/info/alternates");
            std::fs::write(names, format!("{}\n", shared.objects.display())).map_err(self.io())?;
        }
        self.reading()
            // Packed objects keep their deltas; no new ones are searched for.
            .config("pack.window=0")
            .args(["pack-objects", "-q", "--revs", "--delta-base-offset"])
            .arg(pack)
            .stdin(revisions)
            .ok()
            .map(drop)
    }

    /// The files that configured commands name, as in `from`, and what the checkout's own commit has at their paths.
    fn scripts(&self, from: &Sha, paths: &[String]) -> Result<Scripts> {
        let mut plain = Vec::new();
        for path in paths {
            plain.push(plain_path(path.trim_end_matches('/')).ok_or_else(|| GitError::Rejected {
                reason: format!("{path:?} is not a path inside the repository"),
            })?);
        }
        if plain.is_empty() {
            return Ok(Scripts::default());
        }
        // Folders above a script count, too: if `sha` has a link there, it is replaced.
        let mut ways: Vec<String> = Vec::new();
        for path in &plain {
            let ends = path.match_indices('/').map(|(at, _)| path.get(..at).unwrap_or_default().to_owned());
            ways.extend(ends);
        }
        let mut replaced: Vec<Vec<u8>> =
            self.mirror.list_paths(self.plan.sha, &plain)?.into_iter().map(|e| e.path).collect();
        if !ways.is_empty() {
            let leads = self.mirror.named(self.plan.sha, &ways)?;
            replaced.extend(leads.into_iter().filter(|e| !e.is_folder()).map(|e| e.path));
        }
        let wanted: Vec<_> = self.mirror.list_sized(from, &plain)?.into_iter().filter(|e| e.is_file()).collect();
        if let Some(large) = wanted.iter().find(|e| e.size.is_none_or(|s| s > SCRIPT_BYTES)) {
            let reason = format!(
                "{} is named by a configured command, but is larger than {} MiB: name the script itself, not a folder with data",
                large.text(),
                SCRIPT_BYTES >> 20
            );
            return Err(GitError::Rejected { reason });
        }
        let contents = self.mirror.contents(wanted.iter().map(|e| &e.id))?;
        let files = wanted.iter().zip(contents).map(|(e, bytes)| (e.text(), e.is_executable(), bytes)).collect();
        Ok(Scripts { replaced, files })
    }

    /// Names that are in the index but must not be among the files, each ended by NUL.
    fn held_back(&self, scripts: &Scripts) -> Result<Vec<u8>> {
        let mut names = Vec::new();
        let mut add = |path: &[u8]| {
            names.extend_from_slice(path);
            names.push(0);
        };
        scripts.replaced.iter().for_each(|path| add(path));
        if self.plan.documents == Documents::LeftOut {
            let folder = [artefact::FOLDER.to_owned()];
            self.mirror
                .list_paths(self.plan.sha, &folder)?
                .iter()
                .filter(|e| artefact::is_artefact_path(&e.text()))
                .for_each(|e| add(&e.path));
        }
        Ok(names)
    }

    /// Writes the scripts over whatever is there, byte for byte. Nobody else works in this folder yet.
    fn write(&self, scripts: &Scripts) -> Result<Vec<PathBuf>> {
        let mut written = Vec::new();
        for (name, executable, bytes) in &scripts.files {
            let at = clear_way(self.dest, name)?;
            std::fs::write(&at, bytes).map_err(self.io())?;
            let mode = if *executable { 0o755 } else { 0o644 };
            std::fs::set_permissions(&at, Permissions::from_mode(mode)).map_err(self.io())?;
            written.push(at);
        }
        Ok(written)
    }
}
