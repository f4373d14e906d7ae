//! The only file that knows exit codes (CLI-1).

use super::output::Output;
use std::process::ExitCode;

/// CLI-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// The step was done, or there was nothing to do.
    Done,
    /// A negative verdict.
    Negative,
    /// The command line or the configuration is wrong; nothing was changed.
    Usage,
    /// Something needed has failed or is unavailable; safe to retry.
    Broken,
    /// Refused or deferred by a guard.
    Refused,
    /// The program started by `orch shell` exited with this code.
    Child(u8),
}

impl Exit {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Negative => 1,
            Self::Usage => 2,
            Self::Broken => 3,
            Self::Refused => 4,
            Self::Child(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// The result of a subcommand: an exit code, or a failure with message and way out.
pub type CmdResult = Result<Exit, Failure>;

/// Why a subcommand failed: the thing, what was expected, what to do.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
    pub hint: Option<String>,
    pub task: Option<String>,
    /// The `--json` object was already printed (a step prints its own, with `errors`).
    pub reported: bool,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, task: None, reported: false }
    }
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, message)
    }
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    #[must_use]
    pub fn task(mut self, task: impl Into<String>) -> Self {
        self.task = Some(task.into());
        self
    }
}

/// Anything unexpected is exit 3: something needed has failed, and the step can be retried.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Broken, format!("{error:#}"))
    }
}

/// Prints clap's own message; help and version are exit 0, everything else exit 2.
pub fn from_clap(error: &clap::Error) -> Exit {
    let out = Output::new(false);
    out.clap(error);
    out.ended(if error.use_stderr() { Exit::Usage } else { Exit::Done })
}

/// Reports a failure in the requested form (for one of the eight steps, as its whole object) and returns the exit code.
pub fn finish(out: &Output, step: Option<&'static str>, result: CmdResult) -> Exit {
    let exit = match result {
        Ok(exit) => exit,
        Err(failure) => {
            if !failure.reported {
                out.failure(step, &failure);
            }
            failure.exit
        }
    };
    out.ended(exit)
}
