//! Bounded commands of a probe: argv, no terminal, own process group, an environment that we define.

use super::{Confined, ProbeCtx};
use crate::adapters::child::{self, ChildError, Control, EndedBy, Exit};
use crate::adapters::environment::Policy;
use crate::adapters::modes;
use crate::model::probe::CommandSpec;
use crate::model::redact;
use crate::short::{self, Bounds, End, Whom};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How much of each stream is kept; the rest is read and dropped.
const KEEP: usize = 64 << 10;

/// A command that ended on its own.
#[derive(Debug)]
pub(super) struct Ended {
    /// `None`: killed by a signal.
    pub code: Option<i32>,
    /// As printed, for parsing; it is not stored without redaction.
    pub stdout: String,
    stderr: String,
}

impl Ended {
    /// What it says about its failure, without secrets: stderr, or stdout if that is empty.
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
pub(super) enum CommandError {
    #[error("{0}")]
    NotStarted(String),
    #[error("it did not end within {0} ms")]
    Timeout(u64),
    /// A limit of its confinement or of its cluster ended it; which one.
    #[error("{0}")]
    Limit(String),
}

/// Runs one command to its end, or kills its whole group at the limit.
pub(super) fn run(spec: &CommandSpec, timeout_ms: u64, ctx: &ProbeCtx) -> Result<Ended, CommandError> {
    let Some((program, args)) = spec.argv.split_first() else {
        return Err(CommandError::NotStarted("the command is empty; name a program and its arguments".into()));
    };
    let mut command = Command::new(program);
    command.args(args).env_clear().process_group(0);
    match &ctx.own {
        Some(own) => command.envs(own.iter().map(|(k, v)| (k, v))),
        None => command.envs(Policy::Probe.env()).env("HOME", &ctx.home),
    };
    command.envs(ctx.env.iter().map(|(k, v)| (k, v)));
    command.envs(spec.env.iter().map(|(k, v)| (k, v)));
    command.current_dir(spec.cwd.as_ref().map_or_else(|| ctx.checkout.clone(), |c| ctx.checkout.join(c)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = modes::spawn_public(&mut command);
    let child = started.map_err(|e| CommandError::NotStarted(format!("{program} can't be started: {e}")))?;
    let bounds = Bounds {
        input: &[],
        limit: Duration::from_millis(timeout_ms),
        out: KEEP,
        err: KEEP,
        strict: false,
        grace: Duration::ZERO,
        // A daemon it left behind belongs to the probe, and ends with it (RULE-19).
        whom: Whom::Family,
    };
    let said = short::follow(child, &bounds);
    let said = said.map_err(|e| CommandError::NotStarted(format!("waiting for its end failed: {e}")))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match said.end {
        End::Itself(status) => Ok(Ended { code: status.code(), stdout: text(&said.out), stderr: text(&said.err) }),
        End::Late | End::Full => Err(CommandError::Timeout(timeout_ms)),
    }
}

/// Runs a check that is a command, confined if the context says so.
pub(super) fn check(spec: &CommandSpec, timeout_ms: u64, ctx: &ProbeCtx) -> Result<Ended, CommandError> {
    match &ctx.confined {
        Some(confined) => held(spec, timeout_ms, ctx, confined),
        None => run(spec, timeout_ms, ctx),
    }
}

fn held(spec: &CommandSpec, timeout_ms: u64, ctx: &ProbeCtx, confined: &Confined) -> Result<Ended, CommandError> {
    let mut env = Policy::Probe.env();
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
        boundary: if spec.here { confined.boundary.here() } else { confined.boundary.clone() },
    };
    let fresh = |path: &Path| std::fs::remove_file(path).or_else(|e| if path.exists() { Err(e) } else { Ok(()) });
    for path in [&run.stdout, &run.stderr] {
        fresh(path).map_err(|e| CommandError::NotStarted(format!("{} can't be removed: {e}", path.display())))?;
    }
    let ended = child::run(&run, &mut |_| Control::Go);
    let said = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    match ended {
        Ok(Exit { ended_by: Some(EndedBy::Asked(why)), .. }) => Err(CommandError::Limit(why)),
        Ok(Exit { ended_by: Some(EndedBy::Wall | EndedBy::Stall), .. }) => Err(CommandError::Timeout(timeout_ms)),
        Ok(exit) => Ok(Ended { code: exit.code, stdout: said(&run.stdout), stderr: said(&run.stderr) }),
        Err(
            e @ (ChildError::Confinement { .. }
            | ChildError::Unavailable { .. }
            | ChildError::Lost { .. }
            | ChildError::Undecided { .. }
            | ChildError::Left { .. }),
        ) => {
            let why = e.to_string();
            *confined.failed.borrow_mut() = Some(e);
            Err(CommandError::NotStarted(why))
        }
        Err(e) => Err(CommandError::NotStarted(e.to_string())),
    }
}
