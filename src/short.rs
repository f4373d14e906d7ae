//! One short child process, with a limit on its time and on how much of its output is kept. Its pipes are served in one
//! loop, so that neither side can block the other, and no thread outlives the call. Agents and whatever else runs for
//! long belong to `adapters::child`.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// What is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// The program alone, at its limit.
    Itself,
    /// The process group that it leads, at its limit.
    Group,
    /// The process group that it leads, at its limit and at its end: what it leaves behind belongs to it.
    Family,
}

/// The limits of a program.
#[derive(Debug, Clone, Copy)]
pub struct Bounds<'b> {
    /// Written to its standard input, if that is a pipe.
    pub input: &'b [u8],
    pub limit: Duration,
    /// Most bytes kept of its standard output; the rest is dropped.
    pub out: usize,
    /// The same for its standard error.
    pub err: usize,
    /// More than `out` ends it.
    pub strict: bool,
    /// Between TERM and KILL; zero: KILL at once.
    pub grace: Duration,
    pub whom: Whom,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// On its own, or by a signal that was not sent from here.
    Itself(ExitStatus),
    /// At its limit.
    Late,
    /// It printed more than `out` bytes, and is not trusted.
    Full,
}

/// How it ended, and its output.
#[derive(Debug)]
pub struct Said {
    pub end: End,
    pub out: Vec<u8>,
    pub err: Vec<u8>,
}

/// Serves the pipes of a program that was just started, until it ends or reaches a limit. If `whom` is a group, it must
/// lead its own process group. Fails if it can't be awaited; then it is ended, too.
pub fn follow(child: Child, bounds: &Bounds<'_>) -> std::io::Result<Said> {
    let mut talk = Talk::new(child, bounds)?;
    let end = talk.follow()?;
    Ok(Said { end, out: std::mem::take(&mut talk.out), err: std::mem::take(&mut talk.err) })
}

struct Talk<'b> {
    child: Child,
    pidfd: OwnedFd,
    bounds: Bounds<'b>,
    input: Option<std::process::ChildStdin>,
    rest: &'b [u8],
    stdout: Option<std::process::ChildStdout>,
    stderr: Option<std::process::ChildStderr>,
    out: Vec<u8>,
    err: Vec<u8>,
    full: bool,
    reaped: bool,
    /// It may contain a secret for a moment.
    buffer: Zeroizing<Vec<u8>>,
}

impl<'b> Talk<'b> {
    fn new(mut child: Child, bounds: &Bounds<'b>) -> std::io::Result<Self> {
        let pidfd = match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(e.into());
            }
        };
        let (input, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let talk = Self {
            child,
            pidfd,
            bounds: *bounds,
            input,
            rest: bounds.input,
            stdout,
            stderr,
            out: Vec::new(),
            err: Vec::new(),
            full: false,
            reaped: false,
            buffer: Zeroizing::new(vec![0; 64 << 10]),
        };
        if let Some(fd) = &talk.input {
            nonblocking(fd)?;
        }
        if let Some(fd) = &talk.stdout {
            nonblocking(fd)?;
        }
        if let Some(fd) = &talk.stderr {
            nonblocking(fd)?;
        }
        Ok(talk)
    }

    fn follow(&mut self) -> std::io::Result<End> {
        let deadline = Instant::now() + self.bounds.limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.stop();
                return Ok(End::Late);
            }
            let exited = self.wait_for_something(left)?;
            self.serve()?;
            if self.full && self.bounds.strict {
                self.stop();
                return Ok(End::Full);
            }
            if exited {
                if self.bounds.whom == Whom::Family {
                    // The leader is not reaped yet, so the group's number can't belong to anything else.
                    let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
                }
                let status = self.child.wait()?;
                self.reaped = true;
                // What it wrote before its end is in the pipes by now; a helper that keeps them open is not awaited.
                self.serve()?;
                return Ok(if self.full && self.bounds.strict { End::Full } else { End::Itself(status) });
            }
        }
    }

    /// Waits until a pipe or the child has news; true if the child ended.
    fn wait_for_something(&self, left: Duration) -> std::io::Result<bool> {
        let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
        if let Some(fd) = &self.input {
            fds.push(PollFd::new(fd, PollFlags::OUT));
        }
        if let Some(fd) = &self.stdout {
            fds.push(PollFd::new(fd, PollFlags::IN));
        }
        if let Some(fd) = &self.stderr {
            fds.push(PollFd::new(fd, PollFlags::IN));
        }
        match poll(&mut fds, Some(&span(left))) {
            Ok(_) => Ok(fds.first().is_some_and(|fd| fd.revents().contains(PollFlags::IN))),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn serve(&mut self) -> std::io::Result<()> {
        if let Some(input) = &mut self.input {
            let gone = match input.write(self.rest) {
                Ok(n) => {
                    self.rest = self.rest.get(n..).unwrap_or(&[]);
                    self.rest.is_empty()
                }
                Err(e) if later(&e) => false,
                // It stopped reading: its exit code says why.
                Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => true,
                Err(e) => return Err(e),
            };
            if gone {
                self.input = None;
            }
        }
        let strict = self.bounds.strict;
        if let Some(pipe) = &mut self.stdout {
            let (ended, full) = drain(pipe, &mut self.out, self.bounds.out, strict, &mut self.buffer)?;
            self.full |= full;
            if ended {
                self.stdout = None;
            }
        }
        if let Some(pipe) = &mut self.stderr
            && drain(pipe, &mut self.err, self.bounds.err, false, &mut self.buffer)?.0
        {
            self.stderr = None;
        }
        Ok(())
    }

    fn stop(&mut self) {
        let pid = Pid::from_child(&self.child);
        let send = |signal| {
            let _ = match self.bounds.whom {
                Whom::Itself => kill_process(pid, signal),
                Whom::Group | Whom::Family => kill_process_group(pid, signal),
            };
        };
        if !self.bounds.grace.is_zero() {
            send(Signal::TERM);
            let _ = poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&span(self.bounds.grace)));
        }
        // The leader is not reaped yet, so the group's number can't belong to anything else.
        send(Signal::KILL);
        // It may have left its group for its own session.
        let _ = kill_process(pid, Signal::KILL);
        let _ = self.child.wait();
        self.reaped = true;
    }
}

impl Drop for Talk<'_> {
    fn drop(&mut self) {
        if !self.reaped {
            self.stop();
        }
    }
}

/// Rounded up by a millisecond, so that nothing is polled for less than one.
fn span(time: Duration) -> Timespec {
    let time = time.saturating_add(Duration::from_millis(1));
    Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: time.subsec_nanos().into() }
}

/// Makes reads and writes return at once if there is nothing to do.
pub fn nonblocking(fd: &impl AsFd) -> std::io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}

fn later(e: &std::io::Error) -> bool {
    matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted)
}

/// Reads what is available, and keeps `cap` bytes in all; returns whether the stream ended, and whether there was more.
/// `strict`: stops reading once there is more.
fn drain(
    pipe: &mut impl Read,
    into: &mut Vec<u8>,
    cap: usize,
    strict: bool,
    buffer: &mut [u8],
) -> std::io::Result<(bool, bool)> {
    let mut full = false;
    while !(full && strict) {
        match pipe.read(buffer) {
            Ok(0) => return Ok((true, full)),
            Ok(n) => {
                let kept = cap.saturating_sub(into.len()).min(n);
                into.extend_from_slice(buffer.get(..kept).unwrap_or(&[]));
                full |= kept < n;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) if later(&e) => break,
            Err(e) => return Err(e),
        }
    }
    Ok((false, full))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    const SOON: Bounds<'_> = Bounds {
        input: b"",
        limit: Duration::from_secs(30),
        out: 1000,
        err: 10,
        strict: false,
        grace: Duration::ZERO,
        whom: Whom::Family,
    };

    fn sh(script: &str, bounds: Bounds<'_>) -> Said {
        let mut command = Command::new("sh");
        command.args(["-c", script]).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        follow(command.spawn().unwrap(), &bounds).unwrap()
    }

    fn code(said: &Said) -> Option<i32> {
        if let End::Itself(status) = said.end { status.code() } else { None }
    }

    #[test]
    fn both_streams_are_kept_to_their_bounds_however_much_is_said() {
        let much = "head -c 300000 /dev/zero | tr '\\0' x; head -c 300000 /dev/zero | tr '\\0' y >&2; exit 3";
        let said = sh(much, SOON);
        assert_eq!((code(&said), said.out.len(), said.err.len()), (Some(3), 1000, 10));
        let said = sh(much, Bounds { strict: true, ..SOON });
        assert_eq!((said.end, said.out.len()), (End::Full, 1000));
        let exact = sh("printf %1000s x", Bounds { strict: true, ..SOON });
        assert_eq!((code(&exact), exact.out.len()), (Some(0), 1000));
    }

    #[test]
    fn input_is_written_whole_and_may_be_left_unread() {
        let long = vec![b'x'; 300_000];
        let bounds = Bounds { input: &long, ..SOON };
        assert_eq!(sh("wc -c", bounds).out, b"300000\n");
        assert_eq!(code(&sh("exit 0", bounds)), Some(0));
        // A pipe that nobody writes to is closed.
        assert_eq!(code(&sh("cat", SOON)), Some(0));
    }

    #[test]
    fn what_is_late_is_ended_and_what_a_program_leaves_ends_with_it() {
        let late = Bounds { limit: Duration::from_millis(50), ..SOON };
        assert_eq!(sh("sleep 600", late).end, End::Late);
        // TERM first, if there is a grace period.
        let traps = "trap 'echo bye; exit 0' TERM; while :; do sleep 0.01; done";
        let said = sh(traps, Bounds { grace: Duration::from_secs(20), ..late });
        assert_eq!(said.end, End::Late);
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("alive");
        // The process left behind keeps the fifo open until it ends.
        let left = format!("mkfifo {0}; sleep 600 <> {0} & echo done", fifo.display());
        let said = sh(&left, SOON);
        assert_eq!((code(&said), said.out.as_slice()), (Some(0), &b"done\n"[..]));
    }
}
