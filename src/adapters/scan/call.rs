//! Starts a tool of the scan: limited in time and output, own process group, cleared environment.

use crate::adapters::environment::Policy;
use crate::short::{self, Bounds, End, Whom};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Most bytes kept of either stream; a tool that prints more is not trusted.
const CAP: usize = 64 * 1024 * 1024;

/// One call of a tool.
#[derive(Debug)]
pub(super) struct Call {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: PathBuf,
    stdin: Option<PathBuf>,
    stdout: Option<PathBuf>,
    limit: Duration,
}

/// How a tool ended, if it ended in time.
#[derive(Debug)]
pub(super) struct Ran {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// Why a tool gave no answer. The message names the tool.
#[derive(Debug, thiserror::Error)]
pub(super) enum Silent {
    #[error("{0} is not installed (not found on PATH)")]
    Missing(String),
    #[error("{0} could not be started: {1}")]
    NoStart(String, std::io::Error),
    #[error("{0} did not end within {1} s and was killed")]
    TimedOut(String, u64),
    #[error("{0} wrote more than {1} MiB")]
    TooMuch(String, usize),
}

impl Call {
    /// `home` becomes `HOME` and the working directory; nothing in it may come from the repository.
    pub fn new(program: impl Into<PathBuf>, home: &Path, limit: Duration) -> Self {
        let mut env = Policy::Tool.env();
        for (name, value) in [
            ("LC_ALL", "C.UTF-8"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_NO_LAZY_FETCH", "1"),
            // Only read-only plumbing runs in a checkout, so a checkout owned by another user can be scanned.
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "safe.directory"),
            ("GIT_CONFIG_VALUE_0", "*"),
        ] {
            env.push((name.into(), value.into()));
        }
        env.push(("HOME".into(), home.as_os_str().to_owned()));
        env.push(("TMPDIR".into(), home.as_os_str().to_owned()));
        Self { program: program.into(), args: Vec::new(), env, cwd: home.to_owned(), stdin: None, stdout: None, limit }
    }

    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn args<I: IntoIterator<Item = S>, S: Into<OsString>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub fn cwd(mut self, cwd: &Path) -> Self {
        cwd.clone_into(&mut self.cwd);
        self
    }

    /// Reads stdin from a file; without it, stdin is empty.
    pub fn stdin(mut self, file: &Path) -> Self {
        self.stdin = Some(file.to_owned());
        self
    }

    /// Writes stdout to a file without a cap, instead of keeping it.
    pub fn stdout(mut self, file: &Path) -> Self {
        self.stdout = Some(file.to_owned());
        self
    }

    fn name(&self) -> String {
        self.program.file_name().unwrap_or(self.program.as_os_str()).to_string_lossy().into_owned()
    }

    /// Runs to the end or to the limit, where the whole process group is killed.
    pub fn run(self) -> Result<Ran, Silent> {
        let name = self.name();
        let no_start = |e: std::io::Error| {
            if e.kind() == std::io::ErrorKind::NotFound {
                Silent::Missing(name.clone())
            } else {
                Silent::NoStart(name.clone(), e)
            }
        };
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().envs(self.env.iter().cloned()).current_dir(&self.cwd).process_group(0);
        command.stdin(match &self.stdin {
            Some(path) => Stdio::from(File::open(path).map_err(|e| Silent::NoStart(name.clone(), e))?),
            None => Stdio::null(),
        });
        command.stdout(match &self.stdout {
            Some(path) => Stdio::from(File::create(path).map_err(|e| Silent::NoStart(name.clone(), e))?),
            None => Stdio::piped(),
        });
        command.stderr(Stdio::piped());
        let bounds = Bounds {
            input: &[],
            limit: self.limit,
            out: CAP,
            err: CAP,
            strict: true,
            grace: Duration::ZERO,
            whom: Whom::Family,
        };
        let said = command.spawn().and_then(|child| short::follow(child, &bounds)).map_err(no_start)?;
        match said.end {
            End::Itself(status) => Ok(Ran {
                code: status.code(),
                stdout: said.out,
                stderr: String::from_utf8_lossy(&said.err).into_owned(),
            }),
            End::Late => Err(Silent::TimedOut(name, self.limit.as_secs())),
            End::Full => Err(Silent::TooMuch(name, CAP >> 20)),
        }
    }
}

impl Ran {
    /// The last non-empty line of stderr, shortened, for an error message.
    pub fn complaint(&self) -> String {
        let line = self.stderr.lines().rev().map(str::trim).find(|l| !l.is_empty()).unwrap_or("no message");
        line.chars().filter(|c| !c.is_control()).take(300).collect()
    }

    /// How it ended, for an error message.
    pub fn ending(&self) -> String {
        self.code.map_or_else(|| "was ended by a signal".to_owned(), |code| format!("ended with {code}"))
    }
}
