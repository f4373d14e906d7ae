//! Bounded commands of a probe: argv, no terminal, own process group, an environment of our own making.

use super::ProbeCtx;
use crate::model::probe::CommandSpec;
use crate::model::text::{without, worth_hiding};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How much of each stream is kept; the rest is read and dropped.
const KEEP: usize = 64 << 10;

/// What of the caller's environment a child sees (CFG-1).
const PASSED: [&str; 5] = ["PATH", "LANG", "TZ", "TMPDIR", "USER"];

/// A command that ended by itself.
#[derive(Debug)]
pub(super) struct Ended {
    /// `None`: by a signal.
    pub code: Option<i32>,
    /// As it was printed, to be read: nothing of it is kept unseen.
    pub stdout: String,
    stderr: String,
    hidden: Vec<String>,
}

impl Ended {
    /// What it says of its failure, without the secrets it was given: stderr, or stdout where that is silent.
    pub fn said(&self) -> String {
        let text = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        without(text, self.hidden.iter().map(String::as_str))
    }

    /// Whether one of them stands in a text.
    pub fn holds_secret(&self, text: &str) -> bool {
        worth_hiding(self.hidden.iter().map(String::as_str)).iter().any(|value| text.contains(value))
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
    for (name, value) in std::env::vars_os() {
        let keep = name.to_str().is_some_and(|n| PASSED.contains(&n) || n.starts_with("LC_"));
        if keep {
            command.env(name, value);
        }
    }
    command.envs(crate::adapters::net::child_env());
    command.env("HOME", &ctx.home).envs(ctx.env.iter().map(|(k, v)| (k, v)));
    command.envs(spec.env.iter().map(|(k, v)| (k, v)));
    command.current_dir(spec.cwd.as_ref().map_or_else(|| ctx.checkout.clone(), |c| ctx.checkout.join(c)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| Trouble::NotStarted(format!("{program} can't be started: {e}")))?;
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
    Ok(Ended { code: status.code(), stdout: collected(&out), stderr: collected(&err), hidden: spec.hidden.clone() })
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
