//! A child's streams and the files they go to.

use super::{CHUNK, ChildError, Spec, opening};
use crate::model::redact::{self, Redactor, Stream};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::Stdio;

pub(super) enum Chunk<'b> {
    End,
    Later,
    Bytes(&'b [u8]),
}

/// Reads what is available, at most one buffer.
pub(super) fn chunk<'b>(pipe: &mut impl Read, buffer: &'b mut [u8]) -> std::io::Result<Chunk<'b>> {
    match pipe.read(buffer) {
        Ok(0) => Ok(Chunk::End),
        Ok(n) => Ok(Chunk::Bytes(buffer.get(..n).unwrap_or(&[]))),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(Chunk::Later),
        // A terminal whose other end is closed.
        Err(e) if e.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(Chunk::End),
        Err(e) => Err(e),
    }
}

pub(super) fn nonblocking(fd: &impl AsFd) -> std::io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}

/// A stream's file: it grows up to the cap, and a full disk drops bytes instead of ending the run (RULE-38).
pub(super) struct Sink {
    name: &'static str,
    file: File,
    said: Stream,
    /// Bytes that still fit.
    room: u64,
    cap: u64,
    /// Bytes that arrived, including dropped ones.
    pub(super) seen: u64,
    dropped: u64,
    error: Option<std::io::Error>,
}

impl Sink {
    pub(super) fn open(name: &'static str, path: &Path, spec: &Spec) -> Result<Self, ChildError> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        let file = file.map_err(|source| opening(path, source))?;
        let there = file.metadata().map_err(|source| opening(path, source))?.len();
        let cap = spec.cap_bytes;
        Ok(Self {
            name,
            file,
            said: redact::current().stream(),
            room: cap.saturating_sub(there),
            cap,
            seen: 0,
            dropped: 0,
            error: None,
        })
    }

    /// Writes to a stream of this process, without a cap.
    pub(super) fn onto(name: &'static str, stream: OwnedFd) -> Self {
        Self {
            name,
            file: File::from(stream),
            said: redact::current().stream(),
            room: u64::MAX,
            cap: u64::MAX,
            seen: 0,
            dropped: 0,
            error: None,
        }
    }

    /// Whether output is being held back for what follows it.
    pub(super) fn holds(&self) -> bool {
        self.said.holds()
    }

    /// The file itself, for a child that writes to it directly.
    pub(super) fn own(&self, path: &Path) -> Result<Stdio, ChildError> {
        Ok(Stdio::from(self.file.try_clone().map_err(|source| opening(path, source))?))
    }

    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.seen += bytes.len() as u64;
        let bytes = self.said.pass(bytes);
        self.write(&bytes);
    }

    pub(super) fn finish(&mut self) {
        let rest = self.said.rest();
        self.write(&rest);
    }

    fn write(&mut self, bytes: &[u8]) {
        let all = bytes.len() as u64;
        let fits = usize::try_from(self.room).unwrap_or(usize::MAX).min(bytes.len());
        let (kept, _) = bytes.split_at_checked(fits).unwrap_or((bytes, &[]));
        match self.file.write_all(kept) {
            Ok(()) => {
                self.room -= kept.len() as u64;
                self.dropped += all - kept.len() as u64;
            }
            Err(e) => {
                self.dropped += all;
                self.error.get_or_insert(e);
            }
        }
    }

    pub(super) fn lost(&self) -> Option<String> {
        let (name, dropped, cap) = (self.name, self.dropped, self.cap);
        match &self.error {
            Some(e) => Some(format!("{dropped} bytes of {name} were not written: {e}")),
            None if dropped > 0 => Some(format!("{dropped} bytes of {name} past the cap of {cap} were dropped")),
            None => None,
        }
    }
}

/// Writes a file to a child's standard input as the child reads, so that the child never has the file itself open.
pub(super) struct Feed {
    file: File,
    pipe: OwnedFd,
    /// Read but not yet written.
    rest: Vec<u8>,
}

impl AsFd for Feed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl Feed {
    pub(super) fn new(file: File, pipe: OwnedFd) -> std::io::Result<Self> {
        nonblocking(&pipe)?;
        Ok(Self { file, pipe, rest: Vec::new() })
    }

    /// Writes what the pipe accepts now. `None`: everything is written, or nobody will read it; the pipe is then
    /// closed.
    pub(super) fn give(mut self) -> Option<Self> {
        loop {
            if self.rest.is_empty() {
                let mut chunk = vec![0; CHUNK];
                let n = self.file.read(&mut chunk).ok().filter(|n| *n > 0)?;
                chunk.truncate(n);
                self.rest = chunk;
            }
            match rustix::io::write(&self.pipe, &self.rest) {
                Ok(n) => drop(self.rest.drain(..n)),
                Err(Errno::AGAIN) => return Some(self),
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }
}

/// Overwrites the secrets in a file to which others may still be appending, keeping its length. Fails if it can't be
/// read and written.
pub fn scrub(path: &Path, known: &Redactor) -> std::io::Result<()> {
    if known.is_empty() {
        return Ok(());
    }
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let (mut buffer, mut base) = (Vec::new(), 0);
    while (&mut file).take(CHUNK as u64).read_to_end(&mut buffer)? > 0 {
        for (at, over) in known.places(&buffer) {
            file.write_all_at(&over, base + at.start as u64)?;
        }
        // A secret may span two chunks.
        let done = buffer.len().saturating_sub(known.longest().saturating_sub(1));
        buffer.drain(..done);
        base += done as u64;
    }
    Ok(())
}
