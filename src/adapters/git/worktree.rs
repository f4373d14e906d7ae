//! An agent's own clone: a repository of its own with objects borrowed from the mirror, and no remote, so that it can
//! push nowhere. Whatever an agent may have edited (configuration, hooks, attributes, state files) is replaced before
//! git runs here, and every run begins with a repository made anew around the files (RULE-22, RULE-23).

use super::cmd::{Cmd, Git, GitError, Result};
use super::mirror::{Mirror, checked};
use super::{Person, nul_texts};
use crate::model::ids::Sha;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The most that is kept of what a run left, in bytes.
pub const PATCH_CAP: usize = 16 << 20;
/// Stands in the repository once it was prepared to the end.
const READY: &str = "orch-ready";

/// A task's clone at `worktrees/<repo>/<KEY>[-n]`.
#[derive(Debug, Clone)]
pub struct Worktree {
    git: Git,
    path: PathBuf,
    author: Person,
}

/// What a run begins with.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// The pushed head.
    pub sha: &'a Sha,
    pub branch: &'a str,
    pub default_branch: &'a str,
    /// Where `origin/<default>` shall stand for the agent.
    pub default_sha: &'a Sha,
    /// Patterns for `info/exclude`: copied and setup files.
    pub exclude: &'a [String],
}

/// What `prepare` found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The clone is new, or was not made to the end before: `worktree.setup` has to run.
    pub created: bool,
    /// What stood here was kept at the given path.
    pub left: bool,
}

/// What stands in the clone after a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The commit that counts: HEAD, on whatever branch the agent left it.
    pub head: Sha,
    /// This call made it from what was left uncommitted.
    pub committed: bool,
    /// The branch HEAD is on; `None` when detached.
    pub branch: Option<String>,
    /// Repositories inside the work tree, left out.
    pub embedded: Vec<String>,
}

impl Worktree {
    pub fn new(git: &Git, path: &Path, author: &Person) -> Self {
        Self { git: git.clone(), path: path.to_owned(), author: author.clone() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Brings the clone to the pushed head: tracked files as there, others gone unless ignored, ignored ones kept. What
    /// was there is first kept as a patch at `leftovers` (if it differs from the head). Unchanged files are not
    /// touched. Safe to repeat after a kill at any point.
    pub fn prepare(&self, mirror: &Mirror, plan: &Plan<'_>, leftovers: Option<&Path>) -> Result<Prepared> {
        checked(plan.branch)?;
        checked(plan.default_branch)?;
        if !mirror.exists(plan.sha)? {
            return Err(GitError::NotFound { what: format!("commit {} in the mirror", plan.sha) });
        }
        let io = || GitError::io(format!("preparing {}", self.path.display()));
        let dot = self.path.join(".git");
        let ready = real_dir(&self.path) && real_dir(&dot) && dot.join(READY).is_file();
        let mut left = false;
        if ready && let Some(dest) = leftovers {
            self.exclude(plan.exclude)?;
            // A repository too broken to be read has nothing to keep; the run must start all the same.
            left = self.save_patch(plan.sha, dest).unwrap_or_else(|e| {
                tracing::warn!(path = %self.path.display(), error = %e, "what was left here can't be kept as a patch");
                false
            });
        }
        if !real_dir(&self.path) {
            remove(&self.path)?;
            std::fs::create_dir_all(&self.path).map_err(io())?;
            std::fs::set_permissions(&self.path, Permissions::from_mode(0o700)).map_err(io())?;
        }
        remove(&dot)?;
        init(&self.git, &self.path, mirror, Some(&self.author))?;
        self.exclude(plan.exclude)?;
        let sha = plan.sha.as_str();
        self.cmd().args(["symbolic-ref", "HEAD", &format!("refs/heads/{}", plan.branch)]).ok()?;
        self.cmd().args(["update-ref", "--no-deref", &format!("refs/heads/{}", plan.branch), sha]).ok()?;
        if mirror.exists(plan.default_sha)? {
            let name = format!("refs/remotes/origin/{}", plan.default_branch);
            self.cmd().args(["update-ref", &name, plan.default_sha.as_str()]).ok()?;
        }
        // An index of our own, compared by content: equal files keep their times, forged index flags are gone.
        self.cmd().args(["read-tree", sha]).ok()?;
        let _ = self.cmd().args(["update-index", "-q", "--refresh"]).run()?;
        if self.reset(sha).is_err() {
            // Folders without rights, or ignored things where a file belongs.
            make_writable(&self.path);
            if self.reset(sha).is_err() {
                for entry in std::fs::read_dir(&self.path).map_err(io())?.flatten() {
                    if entry.file_name() != ".git" {
                        remove(&entry.path())?;
                    }
                }
                self.reset(sha)?;
            }
        }
        std::fs::write(dot.join(READY), b"").map_err(io())?;
        Ok(Prepared { created: !ready, left })
    }

    fn reset(&self, sha: &str) -> Result<()> {
        self.cmd().args(["clean", "-q", "-ffd"]).ok()?;
        self.cmd().args(["reset", "-q", "--hard", sha]).ok()?;
        self.cmd().args(["clean", "-q", "-ffd"]).ok()?;
        // `reset` counts an existing folder of a submodule as clean; nothing else may be left over.
        let status = self.cmd().args(["status", "--porcelain", "-z", "--ignore-submodules=all"]).ok()?;
        if status.is_empty() {
            return Ok(());
        }
        Err(GitError::Rejected { reason: format!("{} stays different from the commit", nul_texts(&status).join(", ")) })
    }

    fn cmd(&self) -> Cmd<'_> {
        in_clone(&self.git, &self.path)
    }

    /// Writes `info/exclude`: these patterns and nothing else.
    pub fn exclude(&self, patterns: &[String]) -> Result<()> {
        let io = || GitError::io(format!("writing info/exclude of {}", self.path.display()));
        let info = self.path.join(".git").join("info");
        if !real_dir(&info) {
            remove(&info)?;
            std::fs::create_dir_all(&info).map_err(io())?;
        }
        let mut text = String::new();
        for pattern in patterns {
            text.push_str(&pattern.replace(['\n', '\r'], ""));
            text.push('\n');
        }
        fresh_file(&info.join("exclude"), text.as_bytes()).map_err(io())
    }

    /// Which of `paths` match the patterns that `exclude` wrote: a commit that holds one fails its run (RULE-22), also
    /// where the repository's own `.gitignore` says otherwise. Patterns must have been written anew, since an agent can
    /// edit that file.
    pub fn excluded_among<'p>(
        &self,
        patterns: &[String],
        paths: impl IntoIterator<Item = &'p str>,
    ) -> Result<Vec<String>> {
        disarm(&self.path, Some(&self.author))?;
        self.exclude(patterns)?;
        // In an empty folder: no `.gitignore` of the branch has a say.
        let empty = tempfile::tempdir().map_err(GitError::io("making an empty folder"))?;
        let mut input = Vec::new();
        for path in paths {
            // Led by `./`, since a name may begin like pathspec magic.
            input.extend_from_slice(b"./");
            input.extend_from_slice(path.as_bytes());
            input.push(0);
        }
        let done = self
            .git
            .cmd(empty.path())
            .git_dir(&self.path.join(".git"))
            .env("GIT_LITERAL_PATHSPECS", "0")
            .args(["check-ignore", "--no-index", "-z", "--stdin"])
            .stdin(input)
            .run()?;
        match done.code {
            0 | 1 => Ok(nul_texts(&done.stdout).iter().map(|p| p.strip_prefix("./").unwrap_or(p).to_owned()).collect()),
            _ => Err(done.broken()),
        }
    }

    /// HEAD's commit.
    pub fn head(&self) -> Result<Sha> {
        disarm(&self.path, Some(&self.author))?;
        self.head_now()
    }

    fn head_now(&self) -> Result<Sha> {
        let done = self.cmd().args(["rev-parse", "--verify", "-q", "HEAD^{commit}"]).run()?;
        let unborn = || GitError::NotFound { what: format!("a commit at HEAD of {}", self.path.display()) };
        if done.code != 0 {
            return Err(unborn());
        }
        Sha::parse(&String::from_utf8_lossy(&done.stdout)).map_err(|_| unborn())
    }

    /// Commits what is left uncommitted (ignored files and embedded repositories stay out), hooks off, by the
    /// configured author. What counts afterwards is HEAD, also on another branch or detached. Fails with `Conflict`
    /// where a merge was left half-done, with `NotFound` where HEAD has no commit.
    pub fn commit_all(&self, message: &str) -> Result<Committed> {
        disarm(&self.path, Some(&self.author))?;
        let unmerged = nul_texts(&self.cmd().args(["diff", "--name-only", "--diff-filter=U", "-z"]).ok()?);
        if !unmerged.is_empty() {
            return Err(GitError::Conflict { paths: unmerged });
        }
        let before = self.head_now()?;
        let embedded = self.add_all(None)?;
        let staged = self
            .cmd()
            .args(["diff", "--cached", "--quiet", "--no-ext-diff", "--ignore-submodules=none", "HEAD"])
            .run()?;
        let committed = match staged.code {
            0 => false,
            1 => true,
            _ => return Err(staged.broken()),
        };
        if committed {
            let (name, email) = self.author.parts();
            self.cmd()
                .env("GIT_AUTHOR_NAME", &name)
                .env("GIT_AUTHOR_EMAIL", &email)
                .env("GIT_COMMITTER_NAME", &name)
                .env("GIT_COMMITTER_EMAIL", &email)
                .args(["commit", "-q", "--no-verify", "--cleanup=verbatim", "-F", "-"])
                .stdin(format!("{}\n", message.trim_end()))
                .ok()?;
        }
        let head = if committed { self.head_now()? } else { before };
        let branch = self.cmd().args(["symbolic-ref", "-q", "--short", "HEAD"]).run()?;
        let branch = (branch.code == 0).then(|| String::from_utf8_lossy(&branch.stdout).trim().to_owned());
        Ok(Committed { head, committed, branch, embedded })
    }

    /// Stages everything but embedded repositories, whose paths it gives. `index`: another index file than the own.
    fn add_all(&self, index: Option<&Path>) -> Result<Vec<String>> {
        let with = |cmd: Cmd<'_>| -> Result<Vec<u8>> {
            match index {
                Some(path) => cmd.env("GIT_INDEX_FILE", path).ok(),
                None => cmd.ok(),
            }
        };
        let others = with(self.cmd().args(["ls-files", "-o", "--exclude-standard", "-z"]))?;
        let mut pathspec = b":/\0".to_vec();
        let mut embedded = Vec::new();
        // A folder in this list of files is a repository of its own.
        for path in others.split(|b| *b == 0).filter_map(|p| p.strip_suffix(b"/")) {
            pathspec.extend_from_slice(b":(top,exclude,literal)");
            pathspec.extend_from_slice(path);
            pathspec.push(0);
            embedded.push(String::from_utf8_lossy(path).into_owned());
        }
        with(
            self.cmd()
                .env("GIT_LITERAL_PATHSPECS", "0")
                .args(["add", "-A", "--pathspec-from-file=-", "--pathspec-file-nul"])
                .stdin(pathspec),
        )?;
        Ok(embedded)
    }

    /// Writes what differs from `base` (commits, uncommitted and untracked files; ignored ones not) to `dest`, at most
    /// 16 MiB. False, and no file, where nothing differs.
    pub fn save_patch(&self, base: &Sha, dest: &Path) -> Result<bool> {
        disarm(&self.path, Some(&self.author))?;
        let index = self.path.join(".git").join("orch-index");
        let io = || GitError::io(format!("writing {}", dest.display()));
        remove(&index)?;
        self.cmd().env("GIT_INDEX_FILE", &index).args(["read-tree", base.as_str()]).ok()?;
        let added = self.add_all(Some(&index));
        let diff = self
            .cmd()
            .env("GIT_INDEX_FILE", &index)
            .args(["diff", "--cached", "--binary", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color"])
            .arg(base.as_str())
            .cap(PATCH_CAP)
            .run();
        remove(&index)?;
        added?;
        let mut diff = diff?;
        if diff.code != 0 {
            return Err(diff.broken());
        }
        if diff.stdout.is_empty() {
            return Ok(false);
        }
        if diff.truncated {
            diff.stdout.extend_from_slice(b"\n[cut at 16 MiB]\n");
        }
        if let Some(parent) = dest.parent() {
            std::fs::create_dir_all(parent).map_err(io())?;
        }
        fresh_file(dest, &diff.stdout).map_err(io())?;
        Ok(true)
    }

    /// Removes the clone, folders without rights included; one that is gone is no error.
    pub fn remove(&self) -> Result<()> {
        remove(&self.path)
    }
}

impl Person {
    fn parts(&self) -> (String, String) {
        let line = self.line();
        let (name, rest) = line.split_once(" <").unwrap_or((line.as_str(), ""));
        (name.to_owned(), rest.trim_end_matches('>').to_owned())
    }
}

fn in_clone<'a>(git: &'a Git, path: &Path) -> Cmd<'a> {
    git.cmd(path).git_dir(&path.join(".git")).config("core.bare=false")
}

/// An empty repository whose objects are the mirror's, without remote, hooks or template.
fn init(git: &Git, path: &Path, mirror: &Mirror, author: Option<&Person>) -> Result<()> {
    let io = || GitError::io(format!("making the clone {}", path.display()));
    git.cmd(path).args(["init", "-q", "--template=", "."]).ok()?;
    let objects = std::fs::canonicalize(mirror.path().join("objects")).map_err(io())?;
    let text = objects.to_str().filter(|t| !t.contains(['\n', '"'])).ok_or_else(|| GitError::Rejected {
        reason: format!("{} can't be named in objects/info/alternates", objects.display()),
    })?;
    let info = path.join(".git").join("objects").join("info");
    std::fs::create_dir_all(&info).map_err(io())?;
    fresh_file(&info.join("alternates"), format!("{text}\n").as_bytes()).map_err(io())?;
    disarm(path, author)
}

/// Replaces what makes git run or read something of an agent's choice in a clone: configuration, hooks, attributes,
/// a redirected common folder, grafts, and a stale `index.lock`. Only while no process of the run lives.
/// Fails with `Rejected` where `.git` is no folder.
pub(super) fn disarm(path: &Path, author: Option<&Person>) -> Result<()> {
    let dot = path.join(".git");
    if !real_dir(&dot) {
        return Err(GitError::Rejected { reason: format!("{} is not a folder any more", dot.display()) });
    }
    for name in ["config", "config.worktree", "commondir", "hooks", "index.lock", "HEAD.lock", "shallow", "gitdir"] {
        remove(&dot.join(name))?;
    }
    let info = dot.join("info");
    if real_dir(&info) {
        for name in ["attributes", "grafts", "sparse-checkout"] {
            remove(&info.join(name))?;
        }
    } else {
        remove(&info)?;
    }
    fresh_file(&dot.join("config"), own_config(author).as_bytes())
        .map_err(GitError::io(format!("writing the configuration of {}", path.display())))
}

/// The configuration of a repository of our own making.
pub(super) fn own_config(author: Option<&Person>) -> String {
    let mut text = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogAllRefUpdates = true\n[gc]\n\tauto = 0\n".to_owned();
    if let Some(author) = author {
        let (name, email) = author.parts();
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        text.push_str(&format!("[user]\n\tname = \"{}\"\n\temail = \"{}\"\n", quoted(&name), quoted(&email)));
    }
    text
}

fn real_dir(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|m| m.is_dir())
}

/// Writes a file in place of whatever stands there, never through a link.
fn fresh_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

/// Removes a file, link or folder; what is gone is no error, folders without rights are given them.
pub fn remove(path: &Path) -> Result<()> {
    let gone = |result: std::io::Result<()>| match result {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    let result = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => gone(std::fs::remove_dir_all(path)).or_else(|_| {
            make_writable(path);
            gone(std::fs::remove_dir_all(path))
        }),
        Ok(_) => gone(std::fs::remove_file(path)),
        Err(e) => gone(Err(e)),
    };
    result.map_err(GitError::io(format!("removing {}", path.display())))
}

/// Gives the owner all rights on every folder below; links are not followed.
fn make_writable(path: &Path) {
    let mut open = vec![path.to_owned()];
    while let Some(folder) = open.pop() {
        let _ = std::fs::set_permissions(&folder, Permissions::from_mode(0o700));
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                open.push(entry.path());
            }
        }
    }
}
