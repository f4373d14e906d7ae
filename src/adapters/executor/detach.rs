//! A supervisor in its own session: closing the terminal or ending cron or the timer does not end it, and its starter
//! does not wait for it.
//!
//! The started program's first act is [`super::super::process::new_session`]: only the new process can leave the
//! session without code between fork and exec. Dying before that is dying before it reported (RUN-4).

use super::super::handed;
use super::{ExecutorError, Start};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};

/// The log is the unit's mutex: its lock belongs to the open file that is the supervisor's stdout and stderr, so the
/// kernel releases it when the supervisor, and whatever it left with these streams, is gone.
pub(super) fn start(start: &Start) -> Result<(), ExecutorError> {
    let unit = &start.unit;
    let failed = |reason: String| ExecutorError::NotStarted { unit: unit.clone(), reason };
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&start.log);
    let log = log.map_err(|e| failed(format!("its log {} can't be opened: {e}", start.log.display())))?;
    match flock(&log, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(ExecutorError::AlreadyRunning { unit: unit.clone() }),
        Err(e) => return Err(failed(format!("its log {} can't be locked: {e}", start.log.display()))),
    }
    let (out, err) = (log.try_clone(), log.try_clone());
    let (Ok(out), Ok(err)) = (out, err) else { return Err(failed("its log can't be shared".into())) };
    let Some((program, args)) = start.argv.split_first() else { return Err(failed("the command is empty".into())) };
    let mut command = Command::new(program);
    command.args(args).current_dir(&start.cwd).env_clear().envs(start.env.iter().map(|(k, v)| (k, v)));
    // It stays in its starter's group until it makes its session: the leader of a group may not make one.
    let stdin = if start.secrets.is_empty() {
        Stdio::null()
    } else {
        Stdio::from(handed::file(&start.secrets).map_err(|e| failed(format!("handing its secrets over: {e}")))?)
    };
    command.stdin(stdin).stdout(out).stderr(err);
    let mut child = command.spawn().map_err(|e| failed(e.to_string()))?;
    // If this process lives longer, it reaps the exit; if not, init does. Nobody waits for the thread.
    let reaper = std::thread::Builder::new().name("reap".into()).stack_size(64 << 10);
    if let Err(error) = reaper.spawn(move || child.wait()) {
        tracing::debug!(%error, unit, "its zombie stays until this process ends");
    }
    Ok(())
}
