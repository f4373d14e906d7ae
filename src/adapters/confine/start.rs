//! Prepares the start of a confined command: its plan, its engine's command line, its pipes.

use super::paths::{self, Part};
use super::plan::{Hold, Plan, Reach, Rule};
use super::proxy::{self, Proxy};
use super::{EXEC, Engine, PROXY_PORT, Run, bubblewrap, forget};
use crate::adapters::{accounts, process};
use crate::model::confine::Network;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

/// How long an engine may take to reach the command.
const START: Duration = Duration::from_secs(60);
/// For the kernel's limit, threads count as processes.
const THREADS_EACH: u64 = 8;

/// What to run.
#[derive(Debug)]
pub struct Order<'a> {
    pub argv: &'a [OsString],
    /// The whole environment, including the mark.
    pub env: Vec<(OsString, OsString)>,
    /// The one variable that the engine's own processes also get.
    pub mark: (&'a str, &'a str),
    pub cwd: &'a Path,
    /// Whether something is written to its standard input.
    pub fed: bool,
    /// The terminal that it controls, in place of that.
    pub terminal: Option<OwnedFd>,
}

/// Ready to start. The caller sets its output streams and process group.
#[derive(Debug)]
pub struct Prepared {
    /// The engine, with the plan on its standard input. Drop it before [`Gate::wait`].
    pub command: Command,
    /// The writing end of the command's standard input.
    pub feed: Option<OwnedFd>,
    pub gate: Gate,
    /// The proxy of the run's own network, if it has one.
    pub proxy: Option<Proxy>,
}

impl Run {
    /// `None`: the run is unconfined and starts like any other command.
    ///
    /// # Errors
    /// What is missing, in one sentence: the run must not start.
    pub fn prepare(&self, order: Order<'_>) -> Result<Option<Prepared>, String> {
        if self.engine == Engine::None {
            return Ok(None);
        }
        self.ready(order).map(Some).map_err(|e| e.to_string())
    }

    fn ready(&self, order: Order<'_>) -> io::Result<Prepared> {
        let account = self.account()?;
        let passwd = self.passwd(account)?;
        let orch = || vec![self.probe.program.clone().into(), EXEC.into()];
        let (line, wrapper) = match &self.engine {
            Engine::Bubblewrap { program, modern } => {
                (bubblewrap::argv(self, program, *modern, passwd.as_ref().map(NamedTempFile::path))?, Vec::new())
            }
            Engine::Command { argv } => (orch(), argv.iter().map(|word| self.filled(word)).collect()),
            Engine::Landlock | Engine::None => (orch(), Vec::new()),
        };
        let terminal = order.terminal.is_some();
        let (feed, stdin) = if let Some(terminal) = order.terminal {
            (None, Some(terminal))
        } else if order.fed {
            pipe_with(PipeFlags::CLOEXEC).map(|(read, write)| (Some(write), Some(read)))?
        } else {
            (None, None)
        };
        let mut env = order.env;
        if !matches!(self.engine, Engine::Bubblewrap { .. }) {
            java_home(&mut env, &self.home);
        }
        let proxied = match self.policy.network {
            Network::Internet | Network::Hosts(_) => matches!(self.engine, Engine::Bubblewrap { .. }),
            Network::Open | Network::Closed => false,
        };
        let (proxy, way) = if proxied {
            proxy::environment(&mut env, PROXY_PORT);
            Proxy::start(&self.probe.program, &self.policy.network).map(|(proxy, way)| (Some(proxy), Some(way)))?
        } else {
            (None, None)
        };
        let (heard, started) = pipe_with(PipeFlags::CLOEXEC)?;
        let plan = Plan {
            argv: wrapper.into_iter().chain(order.argv.iter().cloned()).collect(),
            env,
            cwd: order.cwd.into(),
            account,
            file_bytes: self.policy.limits.disk_mb.saturating_mul(1 << 20),
            processes: self.counted_apart().then(|| self.policy.limits.processes.saturating_mul(THREADS_EACH)),
            hold: self.hold()?,
            fed: stdin.is_some(),
            terminal,
            proxy: way.is_some(),
        };
        let (ours, theirs) = UnixStream::pair()?;
        plan.send(&ours, started.as_fd(), stdin.as_ref().map(AsFd::as_fd), way.as_ref().map(AsFd::as_fd))?;
        let mut words = line.into_iter();
        let program = words.next().ok_or_else(|| io::Error::other("the engine has no program"))?;
        let mut command = Command::new(program);
        command.args(words).env_clear().env(order.mark.0, order.mark.1).stdin(Stdio::from(OwnedFd::from(theirs)));
        let gate = Gate { heard: File::from(heard), answers: self.probe.folder.clone(), _passwd: passwd };
        Ok(Prepared { command, feed, gate, proxy })
    }

    /// When running as root: the account to use, which must be a different one.
    fn account(&self) -> io::Result<Option<(u32, u32)>> {
        match self.uid {
            None if self.probe.root => Err(io::Error::other("as root, a run needs an account of its own")),
            Some(0) => Err(io::Error::other("a run can't be root's")),
            None => Ok(None),
            Some(uid) => Ok(Some((uid, accounts::group(uid).unwrap_or(uid)))),
        }
    }

    /// Whether the kernel counts this run's processes separately: in a user namespace, or by their own uid.
    fn counted_apart(&self) -> bool {
        match (self.uid, &self.engine) {
            (Some(_), _) => self.policy.user.is_empty(),
            (None, Engine::Bubblewrap { .. }) => true,
            (None, Engine::Landlock | Engine::Command { .. } | Engine::None) => false,
        }
    }

    /// `/etc/passwd` with the run's home for its account: many programs look up their name there, and Java its home.
    fn passwd(&self, account: Option<(u32, u32)>) -> io::Result<Option<NamedTempFile>> {
        if !matches!(self.engine, Engine::Bubblewrap { .. }) {
            return Ok(None);
        }
        let uid = account.map_or_else(|| rustix::process::geteuid().as_raw(), |(uid, _)| uid);
        let text = std::fs::read("/etc/passwd").unwrap_or_default();
        let text = entry(&text, uid, account.map(|(_, gid)| gid), self.home.as_os_str().as_encoded_bytes());
        std::fs::create_dir_all(&self.probe.folder)?;
        let mut file = NamedTempFile::with_prefix_in("passwd-", &self.probe.folder)?;
        file.write_all(&text)?;
        file.as_file().set_permissions(Permissions::from_mode(0o644))?;
        Ok(Some(file))
    }

    /// A word of the wrapper with the run's folders filled in.
    fn filled(&self, word: &str) -> OsString {
        let mut filled = OsString::new();
        let mut rest = word;
        while let Some((before, name, after)) = rest
            .split_once('{')
            .and_then(|(before, tail)| tail.split_once('}').map(|(name, after)| (before, name, after)))
        {
            filled.push(before);
            match name {
                "worktree" => filled.push(&self.checkout),
                "home" => filled.push(&self.home),
                "tmp" => filled.push(&self.tmp),
                other => filled.push(format!("{{{other}}}")),
            }
            rest = after;
        }
        filled.push(rest);
        filled
    }

    fn hold(&self) -> io::Result<Hold> {
        Ok(match &self.engine {
            Engine::Bubblewrap { .. } => Hold::Inside { namespaces: self.own_sandbox },
            Engine::Command { .. } | Engine::None => Hold::Wrapped,
            Engine::Landlock => match self.policy.network {
                Network::Open => Hold::Alone { rules: self.rules()?, sockets: true },
                Network::Closed => Hold::Alone { rules: self.rules()?, sockets: false },
                Network::Internet | Network::Hosts(_) => {
                    return Err(io::Error::other("Landlock can't distinguish hosts: network must be open or closed"));
                }
            },
        })
    }

    /// For Landlock: the named paths without the hidden ones. Landlock can only allow, so everything next to a hidden
    /// path is named one by one.
    fn rules(&self) -> io::Result<Vec<Rule>> {
        let mut hidden: Vec<PathBuf> = self.hidden.iter().map(|path| paths::real(path)).collect();
        let mut rules = Vec::new();
        let rule = |reach| move |path: PathBuf| Rule { path: path.into(), reach };
        let further = |path: &PathBuf| paths::without(&paths::real(path), &hidden);
        rules.extend(self.read.iter().chain(&self.policy.read).flat_map(further).map(rule(Reach::Read)));
        rules.extend(self.policy.write.iter().flat_map(further).map(rule(Reach::Own)));
        hidden.extend(paths::not_for_everybody(Path::new("/etc"))?);
        let system = paths::system().into_iter().filter_map(|part| match part {
            Part::Folder(path) => Some(path),
            Part::Link { .. } => None,
        });
        let system: Vec<PathBuf> = system.chain([PathBuf::from("/etc")]).chain(paths::resolver()).collect();
        rules.extend(system.iter().flat_map(|path| paths::without(path, &hidden)).map(rule(Reach::Read)));
        rules.push(rule(Reach::ReadOnly)("/proc".into()));
        let devices = ["null", "zero", "full", "random", "urandom"];
        rules.extend(devices.map(|name| rule(Reach::Use)(Path::new("/dev").join(name))));
        rules.extend([&self.checkout, &self.home, &self.tmp].map(|path| rule(Reach::Own)(path.clone())));
        Ok(rules)
    }
}

/// Java reads its home from the accounts and ignores `HOME`: tools that keep downloads there get the path explicitly.
fn java_home(env: &mut Vec<(OsString, OsString)>, home: &Path) {
    let mut maven = OsString::from("-Duser.home=");
    maven.push(home);
    for (name, value) in [("MAVEN_OPTS", maven), ("GRADLE_USER_HOME", home.join(".gradle").into())] {
        if !env.iter().any(|(n, _)| n == name) {
            env.push((name.into(), value));
        }
    }
}

/// The lines of `passwd` with `home` for `uid`. If `uid` has none and `gid` is given, one more line.
fn entry(passwd: &[u8], uid: u32, gid: Option<u32>, home: &[u8]) -> Vec<u8> {
    let number = uid.to_string();
    let (mut text, mut known) = (Vec::new(), false);
    for line in passwd.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let mut fields: Vec<&[u8]> = line.split(|b| *b == b':').collect();
        if fields.len() == 7 && fields.get(2).is_some_and(|f| *f == number.as_bytes()) {
            known = true;
            if let Some(field) = fields.get_mut(5) {
                *field = home;
            }
        }
        text.extend_from_slice(&fields.join(&b':'));
        text.push(b'\n');
    }
    if let Some(gid) = gid.filter(|_| !known) {
        text.extend_from_slice(format!("orch-run:x:{uid}:{gid}::").as_bytes());
        text.extend_from_slice(home);
        text.extend_from_slice(b":/bin/sh\n");
    }
    text
}

/// Whether the command was reached.
#[derive(Debug)]
pub struct Gate {
    heard: File,
    answers: PathBuf,
    /// Kept as long as the engine may read it.
    _passwd: Option<NamedTempFile>,
}

/// Why the command was not reached.
#[derive(Debug)]
pub enum NotStarted {
    /// The engine failed, or `confine-exec` in it. Empty: no reason here, but maybe one on standard error.
    Engine(String),
    /// Everything was in place, but the kernel did not start the command.
    Command(io::Error),
}

impl Gate {
    /// Waits until the command runs. If the engine does not work, forgets that it did.
    ///
    /// # Errors
    /// [`NotStarted`]: nothing of the command ran; processes of the engine may still exist.
    pub fn wait(mut self) -> Result<(), NotStarted> {
        let result = self.listen();
        if let Err(NotStarted::Engine(_)) = &result {
            forget(&self.answers);
        }
        result
    }

    fn listen(&mut self) -> Result<(), NotStarted> {
        let end = Instant::now() + START;
        let mut said = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match poll(&mut [PollFd::new(&self.heard, PollFlags::IN)], Some(&process::timespec(left))) {
                Ok(0) => return Err(NotStarted::Engine(format!("it took longer than {} s", START.as_secs()))),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(e) => return Err(NotStarted::Engine(e.to_string())),
            }
            let mut buffer = [0; 1024];
            match self.heard.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => said.extend_from_slice(buffer.get(..n).unwrap_or_default()),
                Err(e) => return Err(NotStarted::Engine(e.to_string())),
            }
        }
        let said = String::from_utf8_lossy(&said);
        match said.strip_prefix('S') {
            Some("") => Ok(()),
            Some(rest) => {
                let errno = rest.strip_prefix('E').and_then(|n| n.parse().ok()).unwrap_or_default();
                Err(NotStarted::Command(io::Error::from_raw_os_error(errno)))
            }
            None => Err(NotStarted::Engine(said.strip_prefix('F').unwrap_or(&said).to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bnd_3_the_account_of_a_run_has_the_run_s_home() {
        let passwd = b"root:x:0:0:root:/root:/bin/bash\nme:x:1000:1000:,,,:/home/me:/bin/zsh\nodd\n";
        let of = |uid, gid| String::from_utf8(entry(passwd, uid, gid, b"/area/home")).unwrap();
        assert_eq!(of(1000, None), "root:x:0:0:root:/root:/bin/bash\nme:x:1000:1000:,,,:/area/home:/bin/zsh\nodd\n");
        assert!(of(7, Some(8)).ends_with("odd\norch-run:x:7:8::/area/home:/bin/sh\n"), "{}", of(7, Some(8)));
        assert!(!of(7, None).contains("orch-run"));
        let mut env = vec![("MAVEN_OPTS".into(), "-Xmx1g".into())];
        java_home(&mut env, Path::new("/h"));
        assert_eq!(env[0].1, "-Xmx1g");
        assert_eq!(env[1], ("GRADLE_USER_HOME".into(), "/h/.gradle".into()));
    }
}
