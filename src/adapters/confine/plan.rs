//! What `confine-exec` gets: the plan and its descriptors, over a socket that is its standard input, so that neither a
//! command line nor a file ever contains any of it.

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most descriptors in one message.
const MOST: usize = 4;

/// One confined command, as the last program before it needs it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    pub cwd: OsString,
    /// When running as root: the user and group to switch to.
    pub account: Option<(u32, u32)>,
    /// Largest file, in bytes.
    pub file_bytes: u64,
    /// The process limit, if the kernel counts this run's processes separately.
    pub processes: Option<u64>,
    pub hold: Hold,
    /// Whether standard input is passed on; otherwise it is `/dev/null`.
    pub fed: bool,
    /// Standard input is a terminal, which the command is to control.
    pub terminal: bool,
    /// Whether a socket for the proxy's listener is passed on.
    pub proxy: bool,
}

/// What `confine-exec` itself adds to the engine.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Hold {
    /// Inside bubblewrap. `namespaces`: a sandbox of the command's own may create some.
    Inside { namespaces: bool },
    /// Landlock on its own. `sockets`: whether the network is open.
    Alone { rules: Vec<Rule>, sockets: bool },
    /// Inside the operator's wrapper, which does the rest.
    Wrapped,
}

/// What Landlock lets a run do with a path and everything below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rule {
    pub path: OsString,
    pub reach: Reach,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reach {
    /// Read and execute.
    Read,
    /// Read only, not execute.
    ReadOnly,
    /// A device: read and write.
    Use,
    /// Everything. The path must exist.
    Own,
}

/// What arrived with a plan.
#[derive(Debug)]
pub(super) struct Handed {
    pub plan: Plan,
    pub started: OwnedFd,
    pub stdin: Option<OwnedFd>,
    pub proxy: Option<OwnedFd>,
}

impl Plan {
    /// Leaves the plan and its descriptors in the socket; nobody has to read yet. Fails if the kernel refuses.
    pub fn send(
        &self,
        to: impl AsFd,
        started: BorrowedFd<'_>,
        stdin: Option<BorrowedFd<'_>>,
        proxy: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let mut file = File::from(memfd_create("plan", MemfdFlags::CLOEXEC)?);
        file.write_all(&serde_json::to_vec(self)?)?;
        let all: Vec<BorrowedFd<'_>> =
            [Some(file.as_fd()), Some(started), stdin, proxy].into_iter().flatten().collect();
        send(to, &all)
    }

    /// Receives what [`Plan::send`] left. Fails if it is anything else.
    pub fn receive(from: impl AsFd) -> io::Result<Handed> {
        let mut all = receive(from)?.into_iter();
        let mut next = || all.next().ok_or_else(|| io::Error::other("a descriptor is missing"));
        let (mut file, started) = (File::from(next()?), next()?);
        let mut text = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut text)?;
        let plan: Self = serde_json::from_slice(&text)?;
        let stdin = if plan.fed { Some(next()?) } else { None };
        let proxy = if plan.proxy { Some(next()?) } else { None };
        Ok(Handed { plan, started, stdin, proxy })
    }
}

/// Sends one byte with these descriptors.
pub(super) fn send(to: impl AsFd, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    sendmsg(to, &[IoSlice::new(b".")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The descriptors of one message, or none if the other side is gone. Waits.
pub(super) fn receive(from: impl AsFd) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            fds.extend(some);
        }
    }
    Ok(fds)
}
