//! Starts a supervisor that outlives the step that claimed its run (RUN-4): as a transient systemd service, or in its
//! own session. Either way a unit's name is a mutex (RULE-10). With [`slurm`], such a supervisor runs its commands on
//! another machine.

mod detach;
pub mod slurm;
mod systemd;

use super::handed::Values;
use crate::failpoint::point;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Prefix of the files, next to [`Start::log`], that pass a service its environment. They exist during
/// [`Executor::start`].
pub const ENVIRONMENT_PREFIX: &str = "environment-";
/// The named pipe, next to [`Start::log`], that passes a service its secrets.
pub const PIPE: &str = "handed";
/// How long a service manager may take to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// What the configuration asks for (`executor`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// systemd where a manager answers, else detach.
    Auto,
    Systemd,
    Detach,
}

/// How supervisors are started here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executor {
    Detach,
    /// `user`: the user's manager instead of the system's.
    Systemd {
        user: bool,
    },
}

/// Limits of a unit; `executor: detach` has none of them. `None`: the manager's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// As systemd writes it: `4G`.
    pub memory_max: Option<String>,
    /// `200%`: two processors.
    pub cpu_quota: Option<String>,
    pub tasks_max: Option<u64>,
    /// The backstop behind the supervisor's own clock.
    pub runtime_max_s: Option<u64>,
    /// Between TERM and KILL when the unit is stopped.
    pub stop_timeout_s: Option<u64>,
    /// The only writable paths, apart from temporary files. Only the system's manager enforces this: the user's needs a
    /// user namespace for it, which drops supplementary groups and which some machines forbid.
    pub writable: Option<Vec<PathBuf>>,
    /// Further properties, `Name=value`.
    pub properties: Vec<String>,
}

/// One supervisor to start.
#[derive(Clone)]
pub struct Start {
    /// `orch-<installation>-run-<run id>`, without `.service` (RULE-10).
    pub unit: String,
    /// The program is an absolute path.
    pub argv: Vec<OsString>,
    /// The whole environment, without secrets. (systemd adds its own: PATH, HOME, USER, INVOCATION_ID.)
    pub env: Vec<(OsString, OsString)>,
    /// Passed to it (BND-4): on its standard input, or, where it inherits nothing, through [`PIPE`] next to its log.
    pub secrets: Values,
    /// How long a service may take to fetch them.
    pub fetch: Duration,
    pub cwd: PathBuf,
    /// Its stdout and stderr are appended here; one file per unit.
    pub log: PathBuf,
    pub limits: Limits,
}

impl std::fmt::Debug for Start {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Start").field("unit", &self.unit).field("argv", &self.argv).field("env", &names).finish()
    }
}

/// Why nothing was started, or can be.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The mutex: the run has a supervisor, or something of it still runs.
    #[error("{unit} is running already; nothing was started")]
    AlreadyRunning { unit: String },
    #[error(
        "this step runs in the service {unit}, whose KillMode would kill what it starts; use `executor: systemd`, or run \
         it from a unit with KillMode=process"
    )]
    WouldBeKilled { unit: String },
    #[error("no systemd manager answers ({reason}); use `executor: auto` or `executor: detach`")]
    NoManager { reason: String },
    #[error("{unit}: {what} {name:?} can't be handed to a service; it must be plain text without control characters")]
    BadValue { unit: String, what: &'static str, name: String },
    #[error("{unit} can't be started: {reason}")]
    NotStarted { unit: String, reason: String },
    #[error("{program} failed: {reason}")]
    Manager { program: &'static str, reason: String },
}

impl Executor {
    /// What `kind` means on this machine, for a step that runs here. Asks systemd, with a time limit.
    pub fn resolve(kind: Kind) -> Result<Self, ExecutorError> {
        if kind != Kind::Detach {
            match systemd::manager() {
                Ok(user) => return Ok(Self::Systemd { user }),
                Err(error) if kind == Kind::Systemd => return Err(error),
                Err(error) => tracing::debug!(%error, "detaching instead"),
            }
        }
        match systemd::deadly_service() {
            Some(unit) => Err(ExecutorError::WouldBeKilled { unit }),
            None => Ok(Self::Detach),
        }
    }

    /// Starts it and returns once its program runs. It is not awaited, and outlives this process.
    pub fn start(&self, start: &Start) -> Result<(), ExecutorError> {
        let sound = !start.unit.is_empty()
            && start.unit.len() <= 200
            && start.unit.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && !start.unit.starts_with(['-', '.']);
        let not_started = |reason: &str| ExecutorError::NotStarted { unit: start.unit.clone(), reason: reason.into() };
        if !sound {
            return Err(not_started("a unit's name has letters, digits, '-', '_' and '.' only"));
        }
        let Some(program) = start.argv.first().map(std::path::Path::new) else {
            return Err(not_started("the command is empty"));
        };
        if !program.is_absolute() || !program.is_file() {
            return Err(not_started(&format!("{} is not the absolute path of a program", program.display())));
        }
        point("supervisor");
        let started = match self {
            Self::Detach => detach::start(start),
            Self::Systemd { user } => systemd::start(start, *user),
        };
        point("supervisor started");
        started
    }
}

/// Whether the system's manager or this user's own runs here.
pub fn is_managed() -> bool {
    systemd::manager().is_ok()
}

/// Has a manager's client do something, with a time limit; `program`: `systemctl` or `loginctl`. Fails with its output.
pub fn manage(program: &'static str, words: &[&str]) -> Result<(), ExecutorError> {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let answer = ask(program, &words)?;
    if answer.code == Some(0) { Ok(()) } else { Err(ExecutorError::Manager { program, reason: answer.reason() }) }
}

/// The output of a manager's client.
struct Answer {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Answer {
    /// Its complaint in one line.
    fn reason(&self) -> String {
        let line = self.stderr.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no message");
        let line: String = line.chars().filter(|c| !c.is_control()).take(300).collect();
        self.code.map_or_else(|| format!("ended by a signal: {line}"), |code| format!("exit {code}: {line}"))
    }
}

/// Runs a manager's client, with a time limit: no pager, no password prompt, plain English.
fn ask(program: &'static str, args: &[OsString]) -> Result<Answer, ExecutorError> {
    let failed = |reason: String| ExecutorError::Manager { program, reason };
    let io = |e: std::io::Error| failed(e.to_string());
    // Files instead of pipes: nothing blocks, whoever keeps them open.
    let (mut out, mut err) = (tempfile::tempfile().map_err(io)?, tempfile::tempfile().map_err(io)?);
    let mut command = Command::new(program);
    // What is needed to reach the manager, and none of the caller's secrets.
    command.env_clear();
    for name in ["PATH", "HOME", "USER", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "SLURM_CONF"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.args(args).env("LC_ALL", "C").env("SYSTEMD_PAGER", "").env("SYSTEMD_COLORS", "0").stdin(Stdio::null());
    command.stdout(out.try_clone().map_err(io)?).stderr(err.try_clone().map_err(io)?);
    let mut child = command.spawn().map_err(io)?;
    let actor = i32::try_from(child.id()).map_err(|e| failed(e.to_string())).map(super::process::identify)?;
    if !actor.is_ok_and(|actor| super::process::await_end(&actor, ANSWER)) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(failed(format!("no answer within {} s", ANSWER.as_secs())));
    }
    let status = child.wait().map_err(io)?;
    let text = |file: &mut std::fs::File| -> std::io::Result<String> {
        use std::io::{Read, Seek};
        let mut bytes = Vec::new();
        file.rewind()?;
        file.take(1 << 20).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Answer { code: status.code(), stdout: text(&mut out).map_err(io)?, stderr: text(&mut err).map_err(io)? })
}

#[cfg(test)]
mod tests;
