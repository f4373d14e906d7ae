//! The pipes of a running git.

use super::cmd::OUTPUT_CAP;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::time::{Duration, Instant};

pub(super) enum End {
    Exit(i32),
    /// By a signal that nobody here sent.
    Signal(i32),
    Late,
    Full,
}

/// The pipes of one running child, served in one loop so that neither side can block the other.
pub(super) struct Talk<'b> {
    child: Child,
    pidfd: OwnedFd,
    input: Option<std::process::ChildStdin>,
    rest: &'b [u8],
    stdout: Option<std::process::ChildStdout>,
    stderr: Option<std::process::ChildStderr>,
    pub(super) out: Vec<u8>,
    pub(super) err: Vec<u8>,
    cap: usize,
    reaped: bool,
}

impl<'b> Talk<'b> {
    pub(super) fn new(mut child: Child, rest: &'b [u8], cap: usize) -> std::io::Result<Self> {
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        let (input, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        if let Some(fd) = &input {
            nonblocking(fd)?;
        }
        if let Some(fd) = &stdout {
            nonblocking(fd)?;
        }
        if let Some(fd) = &stderr {
            nonblocking(fd)?;
        }
        Ok(Self { child, pidfd, input, rest, stdout, stderr, out: Vec::new(), err: Vec::new(), cap, reaped: false })
    }

    pub(super) fn follow(&mut self, deadline: Instant) -> std::io::Result<End> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.stop();
                return Ok(End::Late);
            }
            let exited = self.wait_for_something(left)?;
            self.serve()?;
            if self.out.len() > self.cap {
                self.out.truncate(self.cap);
                self.stop();
                return Ok(End::Full);
            }
            if exited {
                let status = self.child.wait()?;
                self.reaped = true;
                // What it wrote before its end is in the pipes by now; a helper that keeps them open is not awaited.
                self.serve()?;
                return Ok(match status.code() {
                    Some(code) => End::Exit(code),
                    None => End::Signal(status.signal().unwrap_or(0)),
                });
            }
        }
    }

    /// Waits until a pipe or the child has news; true when the child ended.
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
        let wait = Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: 1_000_000 };
        match poll(&mut fds, Some(&wait)) {
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
        if let Some(pipe) = &mut self.stdout
            && drain(pipe, &mut self.out, self.cap)?
        {
            self.stdout = None;
        }
        if let Some(pipe) = &mut self.stderr
            && drain(pipe, &mut self.err, OUTPUT_CAP)?
        {
            self.stderr = None;
        }
        Ok(())
    }

    /// Ends the whole process group: TERM so that git removes its lock files, KILL two seconds later.
    fn stop(&mut self) {
        let pid = Pid::from_child(&self.child);
        let _ = kill_process_group(pid, Signal::TERM);
        let grace = Timespec { tv_sec: 2, tv_nsec: 0 };
        let _ = poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&grace));
        // The leader is not reaped yet, so the group's number can't belong to anybody else.
        let _ = kill_process_group(pid, Signal::KILL);
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

pub(super) fn nonblocking(fd: &impl AsFd) -> std::io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}

fn later(e: &std::io::Error) -> bool {
    matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted)
}

/// Reads what is there; true at the end of the stream. Stops one buffer past `cap`.
fn drain(pipe: &mut impl Read, into: &mut Vec<u8>, cap: usize) -> std::io::Result<bool> {
    let mut buffer = vec![0_u8; 64 << 10];
    while into.len() <= cap {
        match pipe.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(n) => into.extend_from_slice(buffer.get(..n).unwrap_or(&[])),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) if later(&e) => return Ok(false),
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}
