//! srun as a process: its streams, served in one loop, and its end.

use super::frames::{Reader, ToNode, frame};
use crate::adapters::process;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;
use std::time::Duration;

/// How many bytes of srun's own output are kept.
const SAID: usize = 8 << 10;

/// srun and its streams.
pub(super) struct Link {
    child: Child,
    pub pid: i32,
    pidfd: OwnedFd,
    /// Closed once nothing more will be sent.
    pub stdin: Option<File>,
    stdout: Option<File>,
    stderr: Option<File>,
    nonce: String,
    /// Not yet read by srun.
    out: Vec<u8>,
    pub reader: Reader,
    /// srun's exit code, once it is gone; `None` after a signal.
    pub code: Option<i32>,
}

impl Link {
    /// Fails if it can't be watched.
    pub fn new(mut child: Child, order: Vec<u8>, nonce: &str) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        let open = |fd: Option<OwnedFd>| -> io::Result<Option<File>> {
            let Some(fd) = fd else { return Ok(None) };
            fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
            Ok(Some(File::from(fd)))
        };
        Ok(Self {
            stdin: open(child.stdin.take().map(OwnedFd::from))?,
            stdout: open(child.stdout.take().map(OwnedFd::from))?,
            stderr: open(child.stderr.take().map(OwnedFd::from))?,
            pid: pid.as_raw_nonzero().get(),
            child,
            pidfd,
            nonce: nonce.to_owned(),
            out: order,
            reader: Reader::new(Some(nonce)),
            code: None,
        })
    }

    /// Queues a frame until srun reads it. Fails if it is too long for a frame.
    pub fn push(&mut self, say: &ToNode) -> io::Result<()> {
        let bytes = frame(&self.nonce, say, b"")?;
        self.out.extend_from_slice(&bytes);
        Ok(())
    }

    /// Writes and reads what is available, or waits for it, at most `bound`; returns whether srun ended.
    pub fn serve(&mut self, bound: Duration, said: &mut String) -> io::Result<bool> {
        let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
        fds.extend([&self.stdout, &self.stderr].into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::IN)));
        if let Some(stdin) = self.stdin.as_ref().filter(|_| !self.out.is_empty()) {
            fds.push(PollFd::new(stdin, PollFlags::OUT));
        }
        match poll(&mut fds, Some(&process::timespec(bound))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ended = fds.first().is_some_and(|fd| !fd.revents().is_empty());
        self.give();
        self.read(said)?;
        Ok(ended)
    }

    fn give(&mut self) {
        let Some(stdin) = self.stdin.as_ref().filter(|_| !self.out.is_empty()) else { return };
        match rustix::io::write(stdin.as_fd(), &self.out) {
            Ok(n) => drop(self.out.drain(..n)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Nobody reads it any more; the end will show what that means.
            Err(_) => self.stdin = None,
        }
    }

    /// One chunk of each stream.
    fn read(&mut self, said: &mut String) -> io::Result<bool> {
        let mut buffer = vec![0; 64 << 10];
        let mut any = false;
        if let Some(n) = chunk(&mut self.stdout, &mut buffer)? {
            self.reader.push(buffer.get(..n).unwrap_or_default());
            any = true;
        }
        if let Some(n) = chunk(&mut self.stderr, &mut buffer)? {
            let room = SAID.saturating_sub(said.len());
            said.push_str(&String::from_utf8_lossy(buffer.get(..n.min(room)).unwrap_or_default()));
            any = true;
        }
        Ok(any)
    }

    /// What is still in the pipes; does not wait for whoever keeps them open.
    pub fn drain(&mut self, said: &mut String) -> io::Result<()> {
        while self.read(said)? {}
        Ok(())
    }

    /// A signal to srun alone.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Ends srun and its child.
    pub fn end(&mut self) {
        self.stdin = None;
        let actor = process::identify(self.pid);
        if let Ok(actor) = &actor
            && process::life(actor) == process::Life::Alive
        {
            let all = || {
                let mut all = process::descendants_of(std::slice::from_ref(actor));
                all.push(actor.clone());
                all
            };
            if let Err(left) = process::end_all(&all, Duration::from_secs(5), Duration::from_secs(30)) {
                tracing::warn!("srun: {left}");
            }
        }
        self.code = self.child.wait().ok().and_then(|status| status.code());
    }
}

/// Bytes of one stream; `None`: there are none now, or it ended.
fn chunk(stream: &mut Option<File>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let Some(file) = stream else { return Ok(None) };
    match file.read(buffer) {
        Ok(0) => {
            *stream = None;
            Ok(None)
        }
        Ok(n) => Ok(Some(n)),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(e) => Err(e),
    }
}
