//! A person's own streams in place of files: for `orch shell`, which is confined like any run but interactive (BND-3).

use super::streams::{Sink, nonblocking};
use super::{ChildError, TICK, Watched};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

/// On a terminal, how long output that may be the start of a secret is held back for the rest.
const HELD: Duration = Duration::from_millis(50);

/// How a person is connected to a command.
#[derive(Debug)]
pub enum Person {
    /// Through pipes. `reads`: this process's standard input goes to the command. `both`: both of its streams go to
    /// standard error.
    Pipes { reads: bool, both: bool },
    /// Through a terminal of the command's own, whose other end is here: nothing inside can write to the person's
    /// (BND-3).
    Terminal(Terminal),
}

/// A new terminal, and the person's own, which passes every key on until this is dropped.
#[derive(Debug)]
pub struct Terminal {
    ours: OwnedFd,
    /// Kept until the command has it: while it is open here, the terminal never reports an end.
    theirs: RefCell<Option<OwnedFd>>,
    before: Termios,
}

impl Terminal {
    /// Fails if standard input is not a terminal, or if none can be made.
    pub fn new() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let theirs = ioctl_tiocgptpeer(&ours, flags)?;
        tcsetattr(&theirs, OptionalActions::Now, &before)?;
        let terminal = Self { ours, theirs: RefCell::new(Some(theirs)), before };
        terminal.fit();
        let mut raw = terminal.before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(terminal)
    }

    /// Sets it to the size of the person's terminal.
    pub fn fit(&self) {
        if let Ok(size) = tcgetwinsize(stdin()) {
            let _ = tcsetwinsize(&self.ours, size);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Flush, &self.before);
    }
}

impl Person {
    pub(super) fn has_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The command's end of its terminal.
    pub(super) fn terminal(&self) -> io::Result<Option<OwnedFd>> {
        let Self::Terminal(terminal) = self else { return Ok(None) };
        terminal.theirs.borrow().as_ref().map(OwnedFd::try_clone).transpose()
    }

    /// Where its output goes.
    pub(super) fn sinks(&self) -> Result<(Sink, Sink), ChildError> {
        let onto = |name, stream: BorrowedFd<'_>| {
            let stream = fcntl_dupfd_cloexec(stream, 3);
            stream
                .map(|stream| Sink::onto(name, stream))
                .map_err(|e| ChildError::File { what: name.to_owned(), source: e.into() })
        };
        let out = if matches!(self, Self::Pipes { both: true, .. }) { stderr() } else { stdout() };
        Ok((onto("standard output", out)?, onto("standard error", stderr())?))
    }

    /// With a terminal, it is both output streams of the command.
    pub(super) fn streams(&self, command: &mut Command) -> Result<(), ChildError> {
        for set in [Command::stdout::<OwnedFd>, Command::stderr::<OwnedFd>] {
            if let Some(end) = self.terminal().map_err(no_terminal)? {
                set(command, end);
            }
        }
        Ok(())
    }
}

pub(super) fn no_terminal(source: io::Error) -> ChildError {
    ChildError::File { what: "the terminal".to_owned(), source }
}

impl Watched {
    /// Connects the person to the started command. `keys`: where standard input of a command without a terminal goes.
    pub(super) fn attach(&mut self, person: &Person, keys: Option<OwnedFd>) -> io::Result<()> {
        let to = match person {
            Person::Terminal(terminal) => {
                drop(terminal.theirs.take());
                self.stdout = Some(File::from(terminal.ours.try_clone()?));
                // The modes belong to the open file, which both copying directions share.
                nonblocking(&terminal.ours)?;
                Some(terminal.ours.try_clone()?)
            }
            Person::Pipes { reads: true, .. } => keys,
            Person::Pipes { reads: false, .. } => None,
        };
        self.live = true;
        if let Some(to) = to {
            // It ends with this process: a thread that blocks on a terminal can't be asked to stop.
            std::thread::Builder::new().spawn(move || copy(&to))?;
        }
        Ok(())
    }

    /// How long no output may arrive before held-back output is shown.
    pub(super) fn idle(&self) -> Duration {
        let held = self.live && (self.out.holds() || self.err.holds());
        if held { HELD } else { TICK }
    }

    /// A person waits for a prompt that looks like the start of a secret: show it, unless it is a large part of one.
    pub(super) fn say_held(&mut self) {
        if self.live {
            self.out.finish();
            self.err.finish();
        }
    }
}

/// Copies standard input to its end, or until nobody reads it.
fn copy(to: &OwnedFd) {
    let mut buffer = [0; 4096];
    loop {
        let n = match rustix::io::read(stdin(), &mut buffer) {
            Ok(0) => return,
            Ok(n) => n,
            Err(Errno::INTR) => continue,
            Err(_) => return,
        };
        let mut rest = buffer.get(..n).unwrap_or_default();
        while !rest.is_empty() {
            match rustix::io::write(to, rest) {
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let _ = poll(&mut [PollFd::new(to, PollFlags::OUT)], None);
                }
                Err(_) => return,
            }
        }
    }
}
