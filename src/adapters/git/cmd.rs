//! Runs git: a rebuilt environment, no hooks, no prompts, a wall-clock limit on the whole process group, and failures
//! that a caller can branch on. Human text is parsed only where git has no exit code or porcelain for the case.

use super::credential::Credential;
use super::fixed::{FIXED_CONFIG, FIXED_ENV};
use crate::adapters::environment::Policy;
use crate::adapters::modes;
use crate::adapters::net;
use crate::failpoint::point;
use crate::model::fault::{Access, Unreached};
use crate::model::redact;
use crate::model::refusal::Refusal;
use crate::short::{self, Bounds, End, Whom};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Limit of a command that uses only local files.
pub const LOCAL_LIMIT: Duration = Duration::from_secs(300);
/// Limit of a command that contacts a remote.
pub const REMOTE_LIMIT: Duration = Duration::from_secs(600);
/// The oldest git with `merge-tree --write-tree`.
const OLDEST: (u32, u32) = (2, 38);
/// Limit for reading the operator's settings.
const SETTINGS_LIMIT: Duration = Duration::from_secs(10);
pub(super) const OUTPUT_CAP: usize = 256 << 20;
const STDERR_TAIL: usize = 2000;

/// Why a git operation did not succeed. No text in here contains a credential.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("git ({program}) can't be used: {reason}; install git 2.38 or newer or set its path")]
    Missing { program: String, reason: String },
    #[error("git {what} did not end within {seconds} s and was ended; what it wrote to a remote is unknown")]
    Timeout { what: String, access: Access, seconds: u64 },
    /// Transport or authentication failed: proves nothing about what the remote has.
    #[error("the remote can't be reached (git {what}): {reason}")]
    Unreachable { what: String, access: Access, how: Unreached, reason: String },
    /// The remote answered with a refusal that only a person can lift.
    #[error("the remote refuses (git {what}): {reason}")]
    Refused { what: String, access: Access, refusal: Refusal, reason: String },
    #[error("conflict in {}", paths.join(", "))]
    Conflict { paths: Vec<String> },
    #[error("refused: {reason}")]
    Rejected { reason: String },
    /// Two repositories or histories that can never be combined: no retry succeeds until a person acts (ORD-1).
    #[error("{reason}")]
    Incompatible { reason: String },
    #[error("{what} does not exist")]
    NotFound { what: String },
    /// Another process held the repository's lock longer than the bound; nothing was done.
    #[error("another process has been using {what} for more than {seconds} s; nothing was done")]
    Busy { what: String, seconds: u64 },
    /// Killed by the kernel for lack of memory, or by a person: proves nothing about its input.
    #[error("git {what} was ended by signal {signal}, which orch did not send")]
    Killed { what: String, signal: i32 },
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("git {args} ended with {code}: {stderr}")]
    Broken { args: String, code: i32, stderr: String },
}

impl GitError {
    pub(super) fn io(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.to_string();
        move |source| Self::Io { what, source }
    }

    /// Whether the failure proves nothing about the work and the same call may succeed later: on its own, or once a
    /// person has lifted the remote's objection.
    pub fn is_transient(&self) -> bool {
        // A request that is too large will be too large the next time.
        matches!(self, Self::Refused { refusal, .. } if *refusal != Refusal::Other)
            || matches!(self, Self::Timeout { .. } | Self::Unreachable { .. } | Self::Busy { .. })
    }

    /// Whether git found no room on a disk, which it reports only as text.
    pub fn lacks_room(&self) -> bool {
        matches!(self, Self::Broken { stderr, .. } if stderr.contains("No space left"))
    }
}

pub type Result<T> = std::result::Result<T, GitError>;

/// A git program with a checked version.
#[derive(Debug, Clone)]
pub struct Git {
    program: PathBuf,
    version: (u32, u32),
    local_limit: Duration,
    remote_limit: Duration,
}

/// The result of a finished command.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
    /// Output was cut at the caller's cap.
    pub truncated: bool,
    args: String,
}

/// One call of git, built up and run once.
#[derive(Debug)]
pub struct Cmd<'a> {
    git: &'a Git,
    dir: PathBuf,
    git_dir: Option<PathBuf>,
    config: Vec<String>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    stdin: Option<Vec<u8>>,
    lock: Option<&'a File>,
    limit: Duration,
    /// Whether it contacts a remote.
    remote: bool,
    /// Why its remote can't be contacted.
    no_route: Option<String>,
    /// Whether it reads the git configuration of the person who runs `orch`.
    with_operators_files: bool,
    /// Whether others may read what it writes.
    public: bool,
    /// Passed to git's helper.
    secret: Option<&'a Credential>,
    cap: Option<usize>,
}

impl Git {
    /// Checks that `program` (a path, or a name looked up in `PATH`) is git 2.38 or newer. Fails with `Missing`.
    pub fn new(program: impl Into<PathBuf>) -> Result<Self> {
        let mut git = Self::named(program);
        git.version = git.checked()?;
        Ok(git)
    }

    /// The same, checked when it opens a mirror for the first time ([`super::Mirror::open`]).
    pub fn named(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), version: (0, 0), local_limit: LOCAL_LIMIT, remote_limit: REMOTE_LIMIT }
    }

    /// Identifies the program's current file: the text changes when the file is replaced, and is empty without one.
    pub(super) fn stamp(&self) -> String {
        let found = which::which(&self.program)
            .and_then(|at| at.metadata().map(|m| (at, m)).map_err(|_| which::Error::CannotFindBinaryPath));
        found.map_or_else(
            |_| String::new(),
            |(at, m)| format!("{} {} {} {}.{}", at.display(), m.ino(), m.size(), m.mtime(), m.mtime_nsec()),
        )
    }

    /// Its version. Fails with `Missing` if it is not git, or older than 2.38.
    pub(super) fn checked(&self) -> Result<(u32, u32)> {
        let missing = |reason: String| GitError::Missing { program: self.program.display().to_string(), reason };
        let done = self.cmd(Path::new("/")).args(["version"]).run().map_err(|e| missing(e.to_string()))?;
        let text = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        let version = parse_version(&text).ok_or_else(|| missing(format!("it answered {:?}", clip(&text, 80))))?;
        if version < OLDEST {
            return Err(missing(format!("version {}.{} is too old", version.0, version.1)));
        }
        Ok(version)
    }

    /// A git with an unchecked version, for reading settings.
    pub(in crate::adapters) fn unchecked(program: &Path) -> Self {
        let version = OLDEST;
        Self { program: program.to_owned(), version, local_limit: SETTINGS_LIMIT, remote_limit: SETTINGS_LIMIT }
    }

    /// Major and minor version.
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// The program as configured.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Whether it finds git-lfs on this machine. Fails if git itself can't be started.
    pub fn has_lfs(&self) -> Result<bool> {
        Ok(self.cmd(Path::new("/")).args(["lfs", "version"]).run()?.code == 0)
    }

    /// Replaces the default wall-clock limits (300 s local, 600 s remote).
    pub fn with_limits(mut self, local: Duration, remote: Duration) -> Self {
        self.local_limit = local;
        self.remote_limit = remote;
        self
    }

    /// A command in a folder.
    pub fn cmd(&self, dir: &Path) -> Cmd<'_> {
        Cmd {
            git: self,
            dir: dir.to_owned(),
            git_dir: None,
            config: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            stdin: None,
            lock: None,
            limit: self.local_limit,
            remote: false,
            no_route: None,
            with_operators_files: false,
            public: false,
            secret: None,
            cap: None,
        }
    }
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.strip_prefix("git version ")?.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

impl<'a> Cmd<'a> {
    /// Names the repository instead of letting git search for one.
    pub fn git_dir(mut self, dir: &Path) -> Self {
        self.git_dir = Some(dir.to_owned());
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    pub fn arg(self, arg: impl AsRef<OsStr>) -> Self {
        self.args([arg])
    }

    /// `-c key=value`.
    pub fn config(mut self, pair: impl Into<String>) -> Self {
        self.config.push(pair.into());
        self
    }

    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Bytes for standard input. Can't be combined with `lock`.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Passes the lock's descriptor to git as its standard input: if `orch` is killed, its git keeps the lock until it
    /// ends (RULE-29), and no other child of this process can get the descriptor by accident.
    pub fn lock(mut self, lock: &'a File) -> Self {
        self.lock = Some(lock);
        self
    }

    /// Uses the limit for commands that contact a remote. A remote on this machine gets files with the usual umask and
    /// its own settings; a remote over ssh gets the operator's agent.
    pub fn remote_limit(mut self) -> Self {
        self.limit = self.git.remote_limit;
        self.remote = true;
        self.public = true;
        self
    }

    /// Uses the usual umask, for files that programs other than `orch` read.
    pub(super) fn public(mut self) -> Self {
        self.public = true;
        self
    }

    /// Passes the credential to git's helper, which answers for this remote only (BND-4): in an unnamed file that git
    /// and its children inherit, never in arguments or environment. A remote that is not HTTP needs none.
    pub(super) fn secret(mut self, credential: &'a Credential, remote: &str) -> Self {
        if let Some(pair) = super::credential::helper(remote) {
            self.config.push(pair);
            self.secret = Some(credential);
        }
        self
    }

    /// Applies the machine's authorities and proxy for this remote ([`crate::adapters::net`]); a path needs neither.
    pub fn reaching(mut self, remote: &str) -> Self {
        match net::current().route(remote) {
            Ok(route) => {
                let (config, env) = route.git();
                self.config.extend(config);
                self.env.extend(env.into_iter().map(|(name, value)| (name.into(), value)));
            }
            Err(why) => self.no_route = Some(why),
        }
        self
    }

    /// Reads the configuration of the person who runs `orch` and of the system, but no repository's. For reading
    /// settings.
    pub(in crate::adapters) fn with_operators_files(mut self) -> Self {
        self.with_operators_files = true;
        self
    }

    /// Cuts standard output at `bytes` instead of failing.
    pub fn cap(mut self, bytes: usize) -> Self {
        self.cap = Some(bytes);
        self
    }

    /// The arguments for display, without credentials.
    fn shown(&self) -> String {
        let joined = self.args.iter().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ");
        clip(&scrub(&joined), 300)
    }

    pub(super) fn command(&self) -> Command {
        // Named by its path, it is started without a copy of this process. A missing one is reported when it starts.
        let mut command = Command::new(which::which(&self.git.program).as_ref().unwrap_or(&self.git.program));
        command.env_clear().current_dir(&self.dir).process_group(0);
        // Everything named GIT_* stays out (7.1).
        command.envs(if self.remote { Policy::GitRemote } else { Policy::Git }.env());
        command.envs(FIXED_ENV);
        if self.with_operators_files {
            command.env_remove("GIT_CONFIG_NOSYSTEM").env_remove("GIT_CONFIG_SYSTEM").env_remove("GIT_CONFIG_GLOBAL");
            command.env_remove("HOME").env("GIT_DIR", "/dev/null");
            let own = |name: &str| {
                name.starts_with("GIT_CONFIG") || matches!(name, "HOME" | "XDG_CONFIG_HOME" | "XDG_CONFIG_DIRS")
            };
            command.envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(own)));
        }
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        for pair in FIXED_CONFIG {
            command.args(["-c", pair]);
        }
        for pair in &self.config {
            command.args(["-c", pair]);
        }
        if let Some(dir) = &self.git_dir {
            let mut arg = OsString::from("--git-dir=");
            arg.push(dir);
            command.arg(arg);
        }
        command.args(&self.args);
        command
    }

    /// Runs to the end and returns code and output, whatever the code. Fails with `Missing`, `Timeout` or `Io`.
    pub fn run(self) -> Result<Done> {
        if let Some(reason) = &self.no_route {
            let what = self.shown();
            let access = access(&what);
            return Err(GitError::Unreachable { what, access, how: Unreached::Other, reason: reason.clone() });
        }
        let mut command = self.command();
        match (self.lock, &self.stdin) {
            (Some(lock), None) => command.stdin(lock.try_clone().map_err(GitError::io("copying the lock"))?),
            (_, Some(_)) => command.stdin(Stdio::piped()),
            (None, None) => command.stdin(Stdio::null()),
        };
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if self.remote {
            point("remote");
        }
        if let Some(credential) = self.secret {
            credential.hand_to(&mut command).map_err(GitError::io("handing the credential to git"))?;
        }
        let child = if self.public { modes::spawn_public(&mut command) } else { command.spawn() };
        let child = child.map_err(|e| self.not_started(e))?;
        drop(command);
        let bounds = Bounds {
            input: self.stdin.as_deref().unwrap_or(&[]),
            limit: self.limit,
            out: self.cap.unwrap_or(OUTPUT_CAP),
            err: OUTPUT_CAP,
            strict: true,
            // TERM, so that git removes its lock files.
            grace: Duration::from_secs(2),
            whom: Whom::Group,
        };
        let said = short::follow(child, &bounds).map_err(GitError::io("talking to git"))?;
        if self.remote {
            point("remote answered");
        }
        let args = self.shown();
        let (stdout, stderr) = (said.out, shown_errors(&said.err));
        match said.end {
            End::Itself(status) => match status.code() {
                Some(code) => Ok(Done { code, stdout, stderr, truncated: false, args }),
                None => Err(GitError::Killed { what: args, signal: status.signal().unwrap_or(0) }),
            },
            End::Full if self.cap.is_some() => Ok(Done { code: 0, stdout, stderr, truncated: true, args }),
            End::Full => Err(GitError::Broken { args, code: -1, stderr: "too much output".to_owned() }),
            End::Late => Err(GitError::Timeout { access: access(&args), what: args, seconds: self.limit.as_secs() }),
        }
    }

    /// Starts it for a dialogue led by the caller; also returns the wall-clock limit of one answer. Standard input and
    /// output are pipes, errors go to a file. Local reads only. Fails with `Missing` or `Io`.
    pub(super) fn spawn_reader(self, errors: &File) -> Result<(Child, Duration)> {
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(errors.try_clone().map_err(GitError::io("talking to git"))?);
        Ok((command.spawn().map_err(|e| self.not_started(e))?, self.limit))
    }

    /// Identifies the repository, so that each gets one reader.
    pub(super) fn place(&self) -> std::io::Result<(PathBuf, PathBuf, u64, u64)> {
        super::reader::place(&self.git.program, self.git_dir.as_deref().unwrap_or(&self.dir))
    }

    fn not_started(&self, source: std::io::Error) -> GitError {
        if source.kind() == std::io::ErrorKind::NotFound && self.dir.is_dir() {
            let program = self.git.program.display().to_string();
            return GitError::Missing { program, reason: "no such program".to_owned() };
        }
        GitError::Io { what: format!("starting git in {}", self.dir.display()), source }
    }

    /// Runs; any exit code other than 0 is an error.
    pub fn ok(self) -> Result<Vec<u8>> {
        let done = self.run()?;
        if done.code == 0 { Ok(done.stdout) } else { Err(done.broken()) }
    }

    /// Runs and returns standard output as trimmed text.
    pub fn text(self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.ok()?).trim().to_owned())
    }
}

impl Done {
    /// This result as an error.
    pub fn broken(self) -> GitError {
        GitError::Broken { args: self.args, code: self.code, stderr: self.stderr }
    }

    /// This result of a command that contacted a remote, as an error. 128 means the transport or the right to use it,
    /// unless git says that the remote lacks the name, or that a local file was in the way.
    pub fn remote_error(self) -> GitError {
        let says = |text: &str| self.stderr.contains(text);
        if says("couldn't find remote ref") || says("not our ref") || says("no such ref was fetched") {
            return GitError::NotFound { what: format!("what git {} asked for", self.args) };
        }
        if says("mismatched algorithms") {
            let reason = "the remote's repository uses another object hash (SHA-1 or SHA-256) than the one fetched before; set git.remote to the right repository, or move the mirror in `repos/` of the state directory away".to_owned();
            return GitError::Incompatible { reason };
        }
        let local =
            says("Unable to create '") || says("cannot lock ref") || says("No space left") || says("bad object");
        // A push whose connection broke after it sent the names exits with 1, and does not show what the remote did.
        let cut = says("RPC failed") || says("unexpected disconnect") || says("hung up unexpectedly");
        // A refusal (of a body that is too large, for example) is not an outage.
        let cut = cut && !says("HTTP 4") && !says("returned error: 4");
        let access = access(&self.args);
        if let Some(refusal) = super::refusal::read(&self.stderr).filter(|_| !local) {
            return GitError::Refused { what: plainly(&self.args), access, refusal, reason: said(&self.stderr) };
        }
        if (self.code == 128 || cut) && !local {
            let (how, reason) = (super::refusal::unreached(&self.stderr), said(&self.stderr));
            return GitError::Unreachable { what: plainly(&self.args), access, how, reason };
        }
        self.broken()
    }
}

/// The end of git's standard error, for people: without credentials or known secrets.
pub(super) fn shown_errors(errors: &[u8]) -> String {
    let said = scrub(&String::from_utf8_lossy(errors));
    clip_tail(redact::current().text(&said).trim(), STDERR_TAIL)
}

/// How a command uses the remote.
pub(super) fn access(args: &str) -> Access {
    let mut words = args.split(' ').filter(|word| !word.starts_with('-'));
    let verb = words.next().and_then(|first| if first == "lfs" { words.next() } else { Some(first) });
    if verb == Some("push") { Access::Push } else { Access::Read }
}

/// A command without its options: what was asked of the remote.
fn plainly(args: &str) -> String {
    args.split(' ').filter(|word| !word.starts_with('-')).collect::<Vec<_>>().join(" ")
}

/// What git says about a remote, on one line, without the advice that it always adds.
fn said(stderr: &str) -> String {
    let advice = [
        "fatal: Could not read from remote repository.",
        "Please make sure you have the correct access rights",
        "and the repository exists.",
    ];
    let lines = || stderr.lines().map(str::trim).filter(|l| !l.is_empty());
    let own: Vec<&str> = lines().filter(|l| !advice.contains(l)).collect();
    if own.is_empty() { lines().take(1).collect() } else { own.join("; ") }
}

/// Removes the user part from every URL in a text: `https://user:secret@host` becomes `https://host`.
pub fn scrub(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let end = tail.find(|c: char| c.is_whitespace() || "/'\"<>".contains(c)).unwrap_or(tail.len());
        let (authority, after) = tail.split_at(end);
        out.push_str(authority.rsplit_once('@').map_or(authority, |(_, host)| host));
        rest = after;
    }
    out.push_str(rest);
    out
}

fn clip(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars { text.to_owned() } else { text.chars().take(chars).chain(['…']).collect() }
}

fn clip_tail(text: &str, chars: usize) -> String {
    let count = text.chars().count();
    if count <= chars { text.to_owned() } else { text.chars().skip(count - chars).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_remote_says_is_one_line_without_gits_own_advice() {
        let advice = "fatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights\nand the repository exists.\n";
        let of = |own: &str| said(&format!("{own}{advice}"));
        assert_eq!(of("fatal: '/x' does not appear\n"), "fatal: '/x' does not appear");
        assert_eq!(of(""), "fatal: Could not read from remote repository.");
        assert_eq!(plainly("fetch --quiet --no-tags origin +a:b"), "fetch origin +a:b");
        assert_eq!(said("remote: a\nremote: b\nfatal: c"), "remote: a; remote: b; fatal: c");
    }

    #[test]
    fn a_url_is_shown_without_its_user_part() {
        assert_eq!(scrub("fatal: 'https://u:p@h/x' and ssh://git@h:2/y"), "fatal: 'https://h/x' and ssh://h:2/y");
        assert_eq!(scrub("https://tok@en@host"), "https://host");
        assert_eq!(scrub("a://"), "a://");
    }

    #[test]
    fn a_connection_that_broke_says_nothing_of_the_remote_whatever_the_code_is() {
        let ended = |code: i32, stderr: &str| {
            Done { code, stdout: vec![], stderr: stderr.into(), truncated: false, args: "push".into() }.remote_error()
        };
        let cut = "error: RPC failed; curl 52 Empty reply from server\nsend-pack: unexpected disconnect while reading sideband packet";
        assert!(ended(1, cut).is_transient());
        assert!(ended(1, "fatal: the remote end hung up unexpectedly").is_transient());
        assert!(ended(128, "fatal: unable to access 'http://h/x': Empty reply from server").is_transient());
        let refused = "error: RPC failed; HTTP 413 curl 22 The requested URL returned error: 413\nsend-pack: unexpected disconnect while reading sideband packet";
        assert!(!ended(1, refused).is_transient());
        assert!(!ended(1, "error: failed to push some refs to 'http://h/x'").is_transient());
        assert!(!ended(128, "fatal: couldn't find remote ref refs/heads/x").is_transient());
    }

    #[test]
    fn versions_of_vendors_are_read() {
        assert_eq!(parse_version("git version 2.47.3"), Some((2, 47)));
        assert_eq!(parse_version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(parse_version("hub 1"), None);
    }
}
