//! Starts a child: with the operator's account as it is, or through an engine that confines it (BND-2).

use super::person::no_terminal;
use super::streams::Feed;
use super::{ChildError, Person, Spec, Tree, opening};
use crate::adapters::confine::{Boundary, Engine, Gate, NotStarted, Order, Proxy, Run};
use crate::model::text::clip;
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

/// Everything about a child except its output streams and its start.
pub(super) struct Launch {
    pub command: Command,
    /// Shows whether a confined command was reached.
    pub gate: Option<Gate>,
    /// The standard input of a confined command, written as it reads.
    pub feed: Option<Feed>,
    /// Where a person's keystrokes go.
    pub keys: Option<OwnedFd>,
    /// The only way out of a confined command's own network.
    pub proxy: Option<Proxy>,
}

impl Launch {
    pub fn new(spec: &Spec, program: &str, person: Option<&Person>) -> Result<Self, ChildError> {
        if !spec.cwd.is_dir() {
            let source = std::io::Error::from(ErrorKind::NotFound);
            return Err(ChildError::File { what: format!("the working directory {}", spec.cwd.display()), source });
        }
        let stdin = spec.stdin.as_ref().map(|path| File::open(path).map_err(|source| opening(path, source)));
        let stdin = stdin.transpose()?;
        let mut launch = match &spec.boundary {
            Boundary::Operator => Self::plain(spec, program, stdin, person)?,
            Boundary::Run(run) | Boundary::Away(run, _) => Self::confined(spec, run, program, stdin, person)?,
        };
        if let Some(person) = person {
            person.streams(&mut launch.command)?;
        }
        launch.command.process_group(0);
        Ok(launch)
    }

    fn plain(spec: &Spec, program: &str, stdin: Option<File>, person: Option<&Person>) -> Result<Self, ChildError> {
        let mut command = Command::new(find(spec, program)?);
        command.args(spec.argv.iter().skip(1)).current_dir(&spec.cwd).env_clear();
        command.envs(spec.env.iter().map(|(name, value)| (name, value))).env(&spec.mark.0, &spec.mark.1);
        let mut keys = None;
        match (stdin, person) {
            (Some(file), _) => command.stdin(file),
            (None, None) => command.stdin(Stdio::null()),
            (None, Some(_)) => {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC)
                    .map_err(|e| ChildError::NotStarted { program: program.to_owned(), source: e.into() })?;
                keys = Some(write);
                command.stdin(read)
            }
        };
        Ok(Self { command, gate: None, feed: None, keys, proxy: None })
    }

    fn confined(
        spec: &Spec,
        run: &Run,
        program: &str,
        stdin: Option<File>,
        person: Option<&Person>,
    ) -> Result<Self, ChildError> {
        let mark = (OsString::from(&spec.mark.0), OsString::from(&spec.mark.1));
        let order = Order {
            argv: &spec.argv,
            env: spec.env.iter().cloned().chain([mark]).collect(),
            mark: (&spec.mark.0, &spec.mark.1),
            cwd: &spec.cwd,
            fed: stdin.is_some() || person.is_some(),
            terminal: person.map(Person::terminal).transpose().map_err(no_terminal)?.flatten(),
        };
        let prepared = run.prepare(order).map_err(|why| ChildError::Confinement { engine: run.engine.held(), why })?;
        let Some(prepared) = prepared else { return Self::plain(spec, program, stdin, person) };
        let mut keys = None;
        let feed = match (stdin, prepared.feed) {
            (Some(file), Some(pipe)) => Some(
                Feed::new(file, pipe)
                    .map_err(|source| ChildError::NotStarted { program: program.to_owned(), source })?,
            ),
            (None, pipe) => {
                keys = pipe;
                None
            }
            (Some(_), None) => None,
        };
        Ok(Self { command: prepared.command, gate: Some(prepared.gate), feed, keys, proxy: prepared.proxy })
    }
}

/// Ends what an engine began, and says why the command was not reached.
pub(super) fn not_started(
    spec: &Spec,
    program: &str,
    tree: &Tree<'_>,
    child: &mut Child,
    why: NotStarted,
) -> ChildError {
    let left = tree.end();
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take().filter(|_| left.is_ok()) {
        let _ = stderr.take(4096).read_to_end(&mut said);
    }
    let status = child.wait();
    if let Err(left) = left {
        tracing::warn!(%program, ?status, "{left}");
    }
    let Boundary::Run(run) = &spec.boundary else { return ChildError::Empty };
    let engine = run.engine.held();
    match why {
        NotStarted::Command(e) if e.kind() == ErrorKind::NotFound => {
            let paths = spec.env.iter().rev().find(|(name, _)| name == "PATH");
            let paths = paths.map_or("the default", |(_, value)| value.to_str().unwrap_or("no text"));
            let searched = format!("as seen by a run confined by {}; PATH is {paths}", engine.as_str());
            ChildError::NotFound { program: program.to_owned(), searched }
        }
        NotStarted::Command(source) => ChildError::NotStarted { program: program.to_owned(), source },
        NotStarted::Engine(why) if why.is_empty() => {
            let why = clip(&String::from_utf8_lossy(&said), 300);
            let why = if why.is_empty() { "it ended without a message".to_owned() } else { why };
            ChildError::Confinement { engine, why }
        }
        NotStarted::Engine(why) => ChildError::Confinement { engine, why },
    }
}

/// Code and signal. Through an engine a signal appears as 128 plus its number, so it is recorded like that for every
/// confined command, whatever confines it.
pub(super) fn ending(spec: &Spec, status: Option<ExitStatus>) -> (Option<i32>, Option<i32>) {
    let (code, signal) = (status.and_then(|s| s.code()), status.and_then(|s| s.signal()));
    match (&spec.boundary, signal) {
        (Boundary::Run(run), Some(signal)) if run.engine != Engine::None => (Some(128 + signal), None),
        (Boundary::Run(_) | Boundary::Away(..) | Boundary::Operator, _) => (code, signal),
    }
}

/// The program's file, as execvp in the child would find it.
fn find(spec: &Spec, program: &str) -> Result<PathBuf, ChildError> {
    let name = spec.argv.first().ok_or(ChildError::Empty)?;
    if program.contains('/') {
        let path = spec.cwd.join(name);
        if path.exists() {
            return Ok(path);
        }
        let searched = format!("no file {}", path.display());
        return Err(ChildError::NotFound { program: program.to_owned(), searched });
    }
    let paths = spec.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
    let paths = paths.unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    which::which_in(name, Some(&paths), &spec.cwd).map_err(|_| ChildError::NotFound {
        program: program.to_owned(),
        searched: format!("PATH is {}", paths.to_string_lossy()),
    })
}
