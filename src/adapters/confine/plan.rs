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

/// Of the plan below. A program that was replaced under a running supervisor may read another one.
const VERSION: u32 = 1;

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

/// What is sent of a plan.
#[derive(Serialize, Deserialize)]
struct Sent<P> {
    v: u32,
    plan: P,
}

/// What arrived with a plan.
#[derive(Debug)]
pub(super) struct Handed {
    pub plan: Plan,
    pub started: File,
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
        file.write_all(&serde_json::to_vec(&Sent { v: VERSION, plan: self })?)?;
        let all: Vec<BorrowedFd<'_>> =
            [Some(file.as_fd()), Some(started), stdin, proxy].into_iter().flatten().collect();
        send(to, &all)
    }

    /// Receives what [`Plan::send`] left. If it is anything else, it fails and reports why to the supervisor.
    pub fn receive(from: impl AsFd) -> io::Result<Handed> {
        let mut all = receive(from)?.into_iter();
        let mut next = || all.next().ok_or_else(|| io::Error::other("a descriptor is missing"));
        let (mut file, mut started) = (File::from(next()?), File::from(next()?));
        let mut text = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut text)?;
        let plan = read(&text).inspect_err(|e| {
            // Otherwise the supervisor knows only that the command was not reached.
            let _ = write!(started, "F{e}");
        })?;
        let stdin = if plan.fed { Some(next()?) } else { None };
        let proxy = if plan.proxy { Some(next()?) } else { None };
        Ok(Handed { plan, started, stdin, proxy })
    }
}

/// A plan of this version, the only one whose fields are known here.
fn read(text: &[u8]) -> io::Result<Plan> {
    let value: serde_json::Value = serde_json::from_slice(text)?;
    let version = value.get("v").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if version != u64::from(VERSION) {
        return Err(io::Error::other(format!(
            "orch was replaced while a run of the earlier one was under way: its plan has version {version}, this program \
             reads {VERSION}; nothing ran, and the next try has one program for both"
        )));
    }
    let sent: Sent<Plan> = serde_json::from_value(value)?;
    Ok(sent.plan)
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::os::unix::net::UnixStream;

    fn plan() -> Plan {
        Plan {
            argv: vec!["true".into()],
            env: Vec::new(),
            cwd: "/".into(),
            account: Some((7, 8)),
            file_bytes: 1,
            processes: None,
            hold: Hold::Alone { rules: vec![Rule { path: "/etc".into(), reach: Reach::Read }], sockets: true },
            fed: false,
            terminal: false,
            proxy: false,
        }
    }

    /// What a supervisor hears of a plan that was sent as `text`.
    fn heard(text: &[u8]) -> (bool, String) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut hears, started) = pipe_with(PipeFlags::CLOEXEC).map(|(r, w)| (File::from(r), w)).unwrap();
        let mut file = File::from(memfd_create("plan", MemfdFlags::CLOEXEC).unwrap());
        file.write_all(text).unwrap();
        send(&ours, &[file.as_fd(), started.as_fd()]).unwrap();
        drop(started);
        let taken = Plan::receive(&theirs).is_ok();
        let mut said = String::new();
        hears.read_to_string(&mut said).unwrap();
        (taken, said)
    }

    #[test]
    fn clu_2_a_plan_of_another_version_is_refused_in_words_that_name_the_cause() {
        let own = serde_json::to_value(Sent { v: VERSION, plan: plan() }).unwrap();
        assert_eq!(heard(own.to_string().as_bytes()), (true, String::new()));
        let mut other = own.clone();
        other["v"] = 9.into();
        // Without a version, as it was before there was one.
        for (text, version) in [(&other, "version 9"), (&own["plan"], "version 0")] {
            let (taken, said) = heard(text.to_string().as_bytes());
            assert!(!taken && said.starts_with('F') && said.contains("replaced") && said.contains(version), "{said}");
        }
        let (taken, said) = heard(b"{");
        assert!(!taken && said.starts_with('F'), "{said}");
    }

    /// Whoever changes the plan's fields changes its version, too.
    #[test]
    fn clu_2_the_version_of_the_plan_stands_for_its_fields() {
        let fields = r#"{"v":1,"plan":{"argv":[{"Unix":[116,114,117,101]}],"env":[],"cwd":{"Unix":[47]},"account":[7,8],"file_bytes":1,"processes":null,"hold":{"Alone":{"rules":[{"path":{"Unix":[47,101,116,99]},"reach":"Read"}],"sockets":true}},"fed":false,"terminal":false,"proxy":false}}"#;
        assert_eq!(serde_json::to_string(&Sent { v: VERSION, plan: plan() }).unwrap(), fields);
    }
}
