//! `orch confine-exec`: the last program before a confined command (BND-2). It gives up its rights step by step,
//! confirms that it did, and becomes the command.

use super::plan::{Handed, Hold, Plan, send};
use super::{PROXY_PORT, fence, filter};
use nix::unistd::close;
use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Gid, Resource, Rlimit, Uid, chdir, getrlimit, ioctl_tiocsctty, nice, set_dumpable_behavior,
    setrlimit, setsid, umask,
};
use rustix::stdio::{dup2_stdin, stdin};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Most open files of one process.
const FILES: u64 = 65_536;

/// Becomes the command named by the plan on standard input. Returns only with the reason why it could not, which the
/// supervisor also got. Must be called with a single thread.
pub fn exec() -> io::Error {
    let Handed { plan, mut started, stdin, proxy } = match Plan::receive(stdin()) {
        Ok(handed) => handed,
        Err(e) => return io::Error::other(format!("no plan came on standard input: {e}")),
    };
    if let Err(e) = confine(&plan, stdin, proxy, &started) {
        let _ = write!(started, "F{e}");
        return e;
    }
    let Plan { argv, env, .. } = plan;
    let Some((program, arguments)) = argv.split_first() else { return io::Error::other("the command is empty") };
    if let Err(e) = started.write_all(b"S") {
        return e;
    }
    // PATH of the command's own environment is searched. On success the kernel closes `started`.
    let error = Command::new(program).args(arguments).env_clear().envs(env).exec();
    let _ = write!(started, "E{}", error.raw_os_error().unwrap_or_default());
    error
}

fn confine(plan: &Plan, fed: Option<OwnedFd>, proxy: Option<OwnedFd>, started: &File) -> io::Result<()> {
    let (fed, opened) = match fed {
        Some(pipe) => (pipe, false),
        None => (File::open("/dev/null").map_err(|e| at("/dev/null", &e))?.into(), true),
    };
    dup2_stdin(&fed).map_err(|e| at(if opened { "/dev/null" } else { "standard input" }, &e.into()))?;
    drop(fed);
    if plan.terminal {
        // The engine may have made the session already.
        let _ = setsid();
        ioctl_tiocsctty(stdin()).map_err(|e| at("taking the terminal", &e.into()))?;
    }
    limits(plan)?;
    if let Some(proxy) = proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PROXY_PORT)).map_err(|e| at("the proxy's port", &e))?;
        send(&proxy, &[listener.as_fd()])?;
    }
    account(plan)?;
    umask(Mode::WGRP | Mode::WOTH);
    close_others(Some(started))?;
    chdir(&plan.cwd).map_err(|e| at("the working directory", &e.into()))?;
    if let Hold::Wrapped = plan.hold {
        return Ok(());
    }
    set_no_new_privs(true)?;
    no_capabilities()?;
    let strength = match &plan.hold {
        Hold::Wrapped => return Ok(()),
        Hold::Inside { namespaces } => {
            fence::scopes()?;
            filter::Strength { namespaces: !namespaces, alone: false, sockets: false }
        }
        Hold::Alone { rules, sockets } => {
            fence::paths(rules)?;
            filter::Strength { namespaces: true, alone: true, sockets: !sockets }
        }
    };
    filter::apply(strength).map_err(|e| at("the filter", &e))
}

fn at(what: &str, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{what}: {e}"))
}

/// Sets the out-of-memory score, the priority and the resource limits.
fn limits(plan: &Plan) -> io::Result<()> {
    // Otherwise these files belong to root. Nothing in this process is secret from the command.
    let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
    let score = std::fs::read_to_string("/proc/self/oom_score_adj")?;
    if score.trim().parse().is_ok_and(|now: i32| now < 500) {
        std::fs::write("/proc/self/oom_score_adj", "500").map_err(|e| at("oom_score_adj", &e))?;
    }
    nice(5)?;
    let least = |limit: Option<u64>, most: u64| Some(limit.map_or(most, |now| now.min(most)));
    for (resource, most) in [
        (Resource::Core, Some(0)),
        (Resource::Nofile, Some(FILES)),
        (Resource::Fsize, Some(plan.file_bytes)),
        (Resource::Nproc, plan.processes),
    ] {
        let Some(most) = most else { continue };
        let now = getrlimit(resource);
        let maximum = least(now.maximum, most);
        // The soft limit of open files stays: some programs loop over every number up to it.
        let current = if resource == Resource::Nofile { least(now.current, most) } else { maximum };
        setrlimit(resource, Rlimit { current, maximum }).map_err(|e| at("a limit", &e.into()))?;
    }
    Ok(())
}

/// Switches to the run's account, without any groups but its own.
fn account(plan: &Plan) -> io::Result<()> {
    let Some((uid, gid)) = plan.account else { return Ok(()) };
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    // This process has a single thread.
    set_thread_groups(&[]).map_err(|e| at("dropping groups", &e.into()))?;
    set_thread_res_gid(gid, gid, gid).map_err(|e| at("taking the group", &e.into()))?;
    set_thread_res_uid(uid, uid, uid).map_err(|e| at("taking the account", &e.into()))
}

fn no_capabilities() -> io::Result<()> {
    // This needs CAP_SETPCAP; without it, `no_new_privs` keeps the process from gaining any.
    for bit in 0..63 {
        let _ = remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit));
    }
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(())
}

/// Closes every descriptor except the standard streams and `started`. Nothing else here uses one any more.
pub(super) fn close_others(started: Option<&File>) -> io::Result<()> {
    let entries = std::fs::read_dir("/proc/self/fd")?;
    let numbers: Vec<OsString> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    for number in numbers.iter().filter_map(|name| name.to_str()?.parse::<i32>().ok()) {
        if number > 2 && started.is_none_or(|started| number != started.as_raw_fd()) {
            // The descriptor of the folder itself is already closed.
            let _ = close(number);
        }
    }
    Ok(())
}
