//! Bounded commands of a probe: argv, no terminal, own process group, an environment of our own making.

use super::{Confined, ProbeCtx};
use crate::adapters::child::{self, ChildError, Control};
use crate::adapters::confine::Boundary;
use crate::adapters::modes;
use crate::model::probe::CommandSpec;
use crate::model::redact;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How much of each stream is kept; the rest is read and dropped.
const KEEP: usize = 64 << 10;

/// What of the caller's environment a child sees (CFG-1).
const PASSED: [&str; 4] = ["LANG", "TZ", "TMPDIR", "USER"];

/// A command that ended by itself.
#[derive(Debug)]
pub(super) struct Ended {
    /// `None`: by a signal.
    pub code: Option<i32>,
    /// As it was printed, to be read: nothing of it is kept unseen.
    pub stdout: String,
    stderr: String,
}

impl Ended {
    /// What it says of its failure, without secrets: stderr, or stdout where that is silent.
    pub fn said(&self) -> String {
        let text = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        redact::current().cut_text(text)
    }

    /// How it ended, in words.
    pub fn ending(&self) -> String {
        self.code.map_or_else(|| "a signal".to_owned(), |c| format!("exit {c}"))
    }
}

/// Why there is no exit code.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("{0}")]
    NotStarted(String),
    #[error("it did not end within {0} ms")]
    Timeout(u64),
}

/// Runs one command to its end, or ends its whole group at the limit.
pub(super) fn run(spec: &CommandSpec, timeout_ms: u64, ctx: &ProbeCtx) -> Result<Ended, Trouble> {
    let Some((program, args)) = spec.argv.split_first() else {
        return Err(Trouble::NotStarted("the command is empty; name a program and its arguments".into()));
    };
    let mut command = Command::new(program);
    command.args(args).env_clear().process_group(0);
    match &ctx.own {
        Some(own) => command.envs(own.iter().map(|(k, v)| (k, v))),
        None => command.envs(passed()).envs(crate::adapters::net::child_env()).env("HOME", &ctx.home),
    };
    command.envs(ctx.env.iter().map(|(k, v)| (k, v)));
    command.envs(spec.env.iter().map(|(k, v)| (k, v)));
    command.current_dir(spec.cwd.as_ref().map_or_else(|| ctx.checkout.clone(), |c| ctx.checkout.join(c)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = modes::spawn_public(&mut command);
    let mut child = started.map_err(|e| Trouble::NotStarted(format!("{program} can't be started: {e}")))?;
    let deadline = Instant::now() + Duration::from_millis(timeout_ms);
    let out = drain(child.stdout.take());
    let err = drain(child.stderr.take());
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let status = wait(&mut child, group, deadline, timeout_ms);
    // A daemon it left behind keeps the streams open: it belongs to the probe, and ends with it.
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = status?;
    Ok(Ended { code: status.code(), stdout: collected(&out), stderr: collected(&err) })
}

/// Runs a check that is a command: held, where the context says so.
pub(super) fn check(spec: &CommandSpec, timeout_ms: u64, ctx: &ProbeCtx) -> Result<Ended, Trouble> {
    match &ctx.confined {
        Some(confined) => held(spec, timeout_ms, ctx, confined),
        None => run(spec, timeout_ms, ctx),
    }
}

fn held(spec: &CommandSpec, timeout_ms: u64, ctx: &ProbeCtx, confined: &Confined) -> Result<Ended, Trouble> {
    let mut env: Vec<(OsString, OsString)> = passed().collect();
    env.extend(crate::adapters::net::child_env());
    env.push(("HOME".into(), ctx.home.clone().into()));
    env.extend(confined.env.iter().cloned());
    let own = ctx.env.iter().chain(&spec.env);
    env.extend(own.map(|(name, value)| (OsString::from(name), OsString::from(value))));
    let log = |name: &str| confined.logs.join(name);
    let run = child::Spec {
        argv: spec.argv.iter().map(OsString::from).collect(),
        cwd: spec.cwd.as_ref().map_or_else(|| ctx.checkout.clone(), |c| ctx.checkout.join(c)),
        env,
        stdin: None,
        stdout: log("check.out"),
        stderr: log("check.err"),
        wall: Duration::from_millis(timeout_ms),
        stall: None,
        grace: Duration::from_secs(1),
        mark: confined.mark.clone(),
        cap_bytes: KEEP as u64,
        boundary: match &confined.boundary {
            Boundary::Away(run, _) if spec.here => Boundary::Run(run.clone()),
            boundary => boundary.clone(),
        },
    };
    let fresh = |path: &Path| std::fs::remove_file(path).or_else(|e| if path.exists() { Err(e) } else { Ok(()) });
    for path in [&run.stdout, &run.stderr] {
        fresh(path).map_err(|e| Trouble::NotStarted(format!("{} can't be removed: {e}", path.display())))?;
    }
    let ended = child::run(&run, &mut |_| Control::Go);
    let said = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    match ended {
        Ok(exit) if exit.ended_by.is_some() => Err(Trouble::Timeout(timeout_ms)),
        Ok(exit) => Ok(Ended { code: exit.code, stdout: said(&run.stdout), stderr: said(&run.stderr) }),
        Err(
            e @ (ChildError::Confinement { .. }
            | ChildError::Unavailable { .. }
            | ChildError::Lost { .. }
            | ChildError::Left { .. }),
        ) => {
            let why = e.to_string();
            *confined.failed.borrow_mut() = Some(e);
            Err(Trouble::NotStarted(why))
        }
        Err(e) => Err(Trouble::NotStarted(e.to_string())),
    }
}

/// What of this process's environment a child sees.
fn passed() -> impl Iterator<Item = (OsString, OsString)> {
    let kept = |name: &str| PASSED.contains(&name) || name.starts_with("LC_");
    let own = std::env::vars_os().filter(move |(name, _)| name.to_str().is_some_and(kept));
    own.chain(modes::search_path().map(|path| (OsString::from("PATH"), path)))
}

/// Waits in a thread of its own, so that the limit needs no polling.
fn wait(child: &mut Child, group: Option<Pid>, deadline: Instant, timeout_ms: u64) -> Result<ExitStatus, Trouble> {
    std::thread::scope(|scope| {
        let (tell, ended) = channel();
        scope.spawn(move || {
            let _ = tell.send(child.wait());
        });
        let left = deadline.saturating_duration_since(Instant::now());
        match ended.recv_timeout(left) {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(e)) => Err(Trouble::NotStarted(format!("its end can't be awaited: {e}"))),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                if let Some(group) = group {
                    let _ = kill_process_group(group, Signal::KILL);
                    // It may have left its group for a session of its own.
                    let _ = kill_process(group, Signal::KILL);
                }
                Err(Trouble::Timeout(timeout_ms))
            }
        }
    })
}

fn drain(stream: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (tell, all) = channel();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let mut chunk = vec![0_u8; 8 << 10];
        if let Some(mut stream) = stream {
            while let Ok(n) = stream.read(&mut chunk) {
                if n == 0 {
                    break;
                }
                let room = KEEP.saturating_sub(kept.len()).min(n);
                kept.extend_from_slice(chunk.get(..room).unwrap_or(&[]));
            }
        }
        let _ = tell.send(kept);
    });
    all
}

/// What a stream gave; at most 2 s past the command's end (RULE-19).
fn collected(stream: &Receiver<Vec<u8>>) -> String {
    let bytes = stream.recv_timeout(Duration::from_secs(2)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
