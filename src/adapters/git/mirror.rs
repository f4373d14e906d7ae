//! The one bare repository per configured repository, `repos/<repo>.git`, written by `orch` alone. Every ref is written
//! under one lock (RULE-29). `history` reads it, `update` makes commits, `push` pushes.

use super::cmd::{Cmd, Done, Git, GitError, Result};
use super::credential::Credential;
use super::glance::named;
use super::lock::MirrorLock;
use super::valid_branch;
use crate::adapters::files;
use crate::model::fault::{Access, Unreached};
use crate::model::ids::Sha;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an operation waits for the mirror's lock: longer than one transfer takes.
const LOCK_WAIT: Duration = Duration::from_secs(660);
/// More packs than these are combined.
const MOST_PACKS: usize = 50;
const REFSPEC: &str = "+refs/heads/*:refs/remotes/origin/*";
/// An open mirror.
#[derive(Debug, Clone)]
pub struct Mirror {
    git: Git,
    path: PathBuf,
    remote: String,
    credential: Option<Credential>,
    lock_wait: Duration,
}

/// Our own global git file. The git that serves a repository on this machine ignores settings from our command line,
/// and refuses a repository of another account unless a global file names it.
const OWN_GLOBAL: &str = "global.gitconfig";

/// That file's content for a remote on this machine: this repository is safe, under each name git may use for it.
fn safe(remote: &str) -> Option<String> {
    let path = remote.strip_prefix("file://").unwrap_or(remote);
    if !path.starts_with('/') {
        return None;
    }
    let path = PathBuf::from(path.trim_end_matches('/'));
    let mut names = BTreeSet::new();
    let mut with_suffix = path.clone().into_os_string();
    with_suffix.push(".git");
    for base in [path.join(".git"), with_suffix.into(), path] {
        names.extend(std::fs::canonicalize(&base));
        names.insert(base);
    }
    let quoted = |name: &PathBuf| name.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
    Some(names.iter().fold("[safe]\n".to_owned(), |text, name| format!("{text}\tdirectory = \"{}\"\n", quoted(name))))
}

fn holds(path: &Path, text: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|found| found == text)
}

impl Mirror {
    /// Opens the mirror at `path` of `remote` (a URL or the path of a bare repository), creating it on first use. Safe
    /// for any number of processes at once. Does not contact the remote. Fails with `Busy`, `Io` or `Broken`.
    pub fn open(git: &Git, path: &Path, remote: &str, credential: Option<Credential>) -> Result<Self> {
        if remote.is_empty() || remote.starts_with('-') || remote.chars().any(char::is_control) {
            return Err(GitError::Rejected {
                reason: "the remote's address is empty or starts with a dash".to_owned(),
            });
        }
        let mirror = Self {
            git: git.clone(),
            path: path.to_owned(),
            remote: remote.to_owned(),
            credential,
            lock_wait: LOCK_WAIT,
        };
        if mirror.files().iter().any(|(name, text)| !holds(&path.join(name), text)) {
            mirror.create()?;
        }
        Ok(mirror)
    }

    /// Replaces the default 660 s of waiting for the lock.
    pub fn with_lock_wait(mut self, bound: Duration) -> Self {
        self.lock_wait = bound;
        self
    }

    pub fn git(&self) -> &Git {
        &self.git
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn config(&self) -> String {
        // Another git than the checked one changes this file's content.
        let git = self.git.stamp().replace(['\n', '\r'], " ");
        format!(
            "# made with {git}\n[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n\tlogAllRefUpdates = false\n\
             \tsharedRepository = 0600\n\
             [gc]\n\tauto = 0\n{}\tfetch = {REFSPEC}\n",
            self.remote_section()
        )
    }

    /// The remote's section in a repository's configuration.
    pub(super) fn remote_section(&self) -> String {
        let url = self.remote.replace('\\', "\\\\").replace('"', "\\\"");
        format!("[remote \"origin\"]\n\turl = \"{url}\"\n")
    }

    /// The files that `orch` writes in the mirror, with their contents.
    fn files(&self) -> Vec<(&'static str, String)> {
        let own = safe(&self.remote).map(|text| (OWN_GLOBAL, text));
        [("config", self.config())].into_iter().chain(own).collect()
    }

    fn lock_path(&self) -> PathBuf {
        let mut name = self.path.file_name().map_or_else(OsString::new, ToOwned::to_owned);
        name.push(".lock");
        self.path.with_file_name(name)
    }

    /// Makes the repository under a temporary name and renames it, or corrects its configuration.
    fn create(&self) -> Result<()> {
        self.git.checked()?;
        let parent = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(GitError::io(parent.display()))?;
        let lock = MirrorLock::take(&self.lock_path(), self.lock_wait)?;
        let io = || GitError::io(format!("creating the mirror {}", self.path.display()));
        if !self.path.join("HEAD").is_file() {
            // What is left may contain names of `orch`'s own (cancelled heads): not for a program to delete.
            if std::fs::read_dir(&self.path).is_ok_and(|mut entries| entries.next().is_some()) {
                let reason =
                    format!("{} contains files, but is no longer a repository; move it away", self.path.display());
                return Err(GitError::Rejected { reason });
            }
            let mut name = OsString::from(".new-");
            name.push(self.path.file_name().unwrap_or_default());
            let temporary = self.path.with_file_name(name);
            // Under the lock: whatever is here was left by a killed process.
            if temporary.exists() {
                std::fs::remove_dir_all(&temporary).map_err(io())?;
            }
            self.git
                .cmd(parent)
                .args(["init", "-q", "--bare", "--template=", "--"])
                .arg(&temporary)
                .lock(lock.file())
                .ok()?;
            std::fs::write(temporary.join("config"), self.config()).map_err(io())?;
            std::fs::rename(&temporary, &self.path).map_err(io())?;
        }
        for (name, text) in self.files().iter().filter(|(name, text)| !holds(&self.path.join(name), text)) {
            files::replace(&self.path.join(name), text.as_bytes(), Some(0o600)).map_err(io())?;
        }
        Ok(())
    }

    /// Takes the lock and removes what killed gits left.
    pub(super) fn locked(&self) -> Result<MirrorLock> {
        let lock = MirrorLock::take(&self.lock_path(), self.lock_wait)?;
        lock.remove_stale(&self.path);
        Ok(lock)
    }

    /// A command in the mirror.
    pub(super) fn cmd(&self) -> Cmd<'_> {
        self.git.cmd(&self.path).git_dir(&self.path)
    }

    /// A command that contacts the remote.
    pub(super) fn remote_cmd(&self) -> Cmd<'_> {
        self.reaching_remote(self.cmd())
    }

    /// Lets a command in any repository contact this remote.
    pub(super) fn reaching_remote<'m>(&'m self, cmd: Cmd<'m>) -> Cmd<'m> {
        let mut cmd = cmd.remote_limit().reaching(&self.remote).config("credential.helper=");
        if safe(&self.remote).is_some() {
            cmd = cmd.env("GIT_CONFIG_GLOBAL", self.path.join(OWN_GLOBAL));
        }
        match &self.credential {
            None => cmd,
            Some(credential) => cmd.secret(credential, &self.remote),
        }
    }

    /// The answer of `ls-remote`. A page in place of a git server (from a proxy or a sign-in) can look like a
    /// repository without branches, so over HTTP a missing branch is believed only if git's protocol was spoken
    /// (RULE-8). Otherwise fails with `Unreachable`.
    pub(super) fn ls_remote(&self, args: &[&str]) -> Result<Done> {
        let ask = || self.remote_cmd().arg("ls-remote").args(args);
        let done = ask().run()?;
        let nothing = matches!(done.code, 0 | 2) && done.stdout.is_empty();
        if !nothing || !self.remote.starts_with("http") {
            return Ok(done);
        }
        let again = ask().env("GIT_TRACE_PACKET", "1").run()?;
        let spoken = !again.stdout.is_empty() || again.stderr.contains(" packet:") || !matches!(again.code, 0 | 2);
        if spoken {
            return Ok(again);
        }
        let reason = "no git server answers there, but a sign-in page or a proxy".to_owned();
        Err(GitError::Unreachable { what: "ls-remote".to_owned(), access: Access::Read, how: Unreached::Other, reason })
    }

    /// Fetches all branches of the remote to `refs/remotes/origin/`, and drops those that are gone there.
    pub fn fetch(&self) -> Result<()> {
        self.fetch_refspec(&["--prune", "origin", REFSPEC])
    }

    /// Fetches one branch. Fails with `NotFound` if the remote lacks it.
    pub fn fetch_branch(&self, branch: &str) -> Result<Option<Sha>> {
        checked(branch)?;
        self.fetch_refspec(&["origin", &format!("+refs/heads/{branch}:refs/remotes/origin/{branch}")])?;
        let head = self.tracking(branch)?;
        self.answered(branch, head.as_ref());
        Ok(head)
    }

    fn fetch_refspec(&self, args: &[&str]) -> Result<()> {
        let lock = self.locked()?;
        let done = self
            .remote_cmd()
            .args(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"])
            .args(args)
            .lock(lock.file())
            .run()?;
        if done.code == 0 { Ok(()) } else { Err(done.remote_error()) }
    }

    /// The branch that the remote's HEAD names. Fails with `NotFound` if it names none.
    pub fn default_branch(&self) -> Result<String> {
        let done = self.ls_remote(&["--symref", "origin", "HEAD"])?;
        if done.code != 0 {
            return Err(done.remote_error());
        }
        named(&String::from_utf8_lossy(&done.stdout))
            .ok_or_else(|| GitError::NotFound { what: "the remote's default branch".to_owned() })
    }

    /// A branch's current head on the remote; `None` only if the remote answered that it has no such branch.
    pub fn remote_head(&self, branch: &str) -> Result<Option<Sha>> {
        checked(branch)?;
        let name = format!("refs/heads/{branch}");
        let done = self.ls_remote(&["--exit-code", "origin", &name])?;
        let head = match done.code {
            // The pattern also matches `refs/heads/x/refs/heads/<branch>`: only the exact name counts.
            0 => String::from_utf8_lossy(&done.stdout).lines().find_map(|line| {
                let (id, found) = line.split_once('\t')?;
                if found == name { Sha::parse(id).ok() } else { None }
            }),
            2 => None,
            _ => return Err(done.remote_error()),
        };
        self.answered(branch, head.as_ref());
        Ok(head)
    }

    /// Every branch of the remote with its current commit; for finding branches that a kill left behind.
    pub fn remote_branches(&self) -> Result<Vec<(String, Sha)>> {
        let done = self.ls_remote(&["origin", "refs/heads/*"])?;
        if done.code != 0 {
            return Err(done.remote_error());
        }
        let text = String::from_utf8_lossy(&done.stdout);
        let branch = |line: &str| {
            let (id, name) = line.split_once('\t')?;
            Some((name.strip_prefix("refs/heads/")?.to_owned(), Sha::parse(id).ok()?))
        };
        Ok(text.lines().filter_map(branch).collect())
    }

    /// Combines small packs and loose objects, so that the cost of a git process does not grow with the number of runs.
    /// Never drops a git object, since clones borrow them (7.5), so it is safe while agents run. Contents of git-lfs are
    /// deleted after a while; the remote has them.
    pub fn tidy(&self) -> Result<()> {
        let lock = self.locked()?;
        self.combine(&lock)
    }

    /// The same if it has many packs, which each git process opens. An error is left to the next one.
    pub(super) fn few_packs(&self) {
        let many = || {
            let packs = std::fs::read_dir(self.path.join("objects/pack")).into_iter().flatten().flatten();
            packs.filter(|entry| entry.path().extension().is_some_and(|e| e == "pack")).count() > MOST_PACKS
        };
        let combine = || {
            let lock = self.locked()?;
            // Another process may have been first.
            if many() { self.combine(&lock) } else { Ok(()) }
        };
        if many()
            && let Err(e) = combine()
        {
            tracing::warn!("combining the packs of {}: {e}", self.path.display());
        }
    }

    fn combine(&self, lock: &MirrorLock) -> Result<()> {
        super::large::drop_old(self.path()).map_err(GitError::io("dropping old contents of git-lfs"))?;
        self.cmd().remote_limit().args(["repack", "--geometric=2", "-d", "-q"]).lock(lock.file()).ok().map(drop)
    }

    /// The branch's head on the remote at the last fetch or push.
    pub fn tracking(&self, branch: &str) -> Result<Option<Sha>> {
        checked(branch)?;
        self.resolve(&format!("refs/remotes/origin/{branch}"))
    }

    /// The commit that a ref of the mirror names.
    pub fn resolve(&self, refname: &str) -> Result<Option<Sha>> {
        Ok(self.info(&format!("{refname}^{{commit}}"))?.map(|found| found.id))
    }

    /// Keeps a commit under one of `orch`'s own names, such as `refs/orch/cancelled/<task-id>` (RULE-11).
    pub fn keep_ref(&self, refname: &str, sha: &Sha) -> Result<()> {
        let lock = self.locked()?;
        own_ref(refname)?;
        self.cmd().args(["update-ref", "--", refname, sha.as_str()]).lock(lock.file()).ok().map(drop)
    }

    /// Drops such a name; a missing one is no error.
    pub fn drop_ref(&self, refname: &str) -> Result<()> {
        let lock = self.locked()?;
        own_ref(refname)?;
        self.cmd().args(["update-ref", "-d", "--", refname]).lock(lock.file()).ok().map(drop)
    }
}

pub(super) fn checked(branch: &str) -> Result<()> {
    if valid_branch(branch) {
        return Ok(());
    }
    let shown: String = branch.chars().take(80).collect();
    Err(GitError::Rejected { reason: format!("{shown:?} can't be a branch name") })
}

fn own_ref(refname: &str) -> Result<()> {
    match refname.strip_prefix("refs/orch/") {
        Some(rest) if valid_branch(rest) => Ok(()),
        Some(_) | None => Err(GitError::Rejected { reason: format!("{refname:?} is not under refs/orch/") }),
    }
}
