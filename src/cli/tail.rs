//! Prints the logs of a run, whole or as they grow.

use super::Invocation;
use super::exit::{CmdResult, Exit};
use super::signals::Signals;
use crate::engine::Ctx;
use crate::engine::logs::{self, PROMPT, Tail};
use crate::model::outcome::RuntimeKind;
use crate::model::task::{Run, RunState};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Between two reads of a growing log.
const POLL: Duration = Duration::from_millis(250);

/// Prints files as they are now, each of several under its name.
pub fn print(call: &Invocation, files: &[PathBuf], kind: RuntimeKind) -> CmdResult {
    for file in files {
        if file.ends_with(PROMPT) {
            call.out.raw(&logs::whole(file, kind)?);
            continue;
        }
        let mut tail = Tail::new(file.clone(), kind);
        let headed = files.len() > 1 && !file.ends_with("events.jsonl");
        if headed && file.metadata().is_ok_and(|m| m.len() > 0) {
            call.out.line(format!("# {}", file.file_name().unwrap_or_default().to_string_lossy()));
        }
        while let Some(text) = tail.more(true)? {
            call.out.raw(&text);
            if call.out.is_closed() {
                return Ok(Exit::Done);
            }
        }
    }
    Ok(Exit::Done)
}

/// Prints a run's files until it has ended, the reader is gone or a signal arrives.
pub fn follow(call: &Invocation, ctx: &mut Ctx, run: &Run, kind: RuntimeKind) -> CmdResult {
    let signals = Signals::watch()?;
    let dir = ctx.paths.run(run.id);
    let mut tails: Vec<Tail> = Vec::new();
    loop {
        let now = ctx.store.read(|tx| tx.run(run.id))?;
        let ended = now.state == RunState::Settled;
        for file in logs::files(&dir, run) {
            if !tails.iter().any(|t| t.file == file) {
                tails.push(Tail::new(file, kind));
            }
        }
        for tail in &mut tails {
            while let Some(text) = tail.more(ended)? {
                call.out.raw(&text);
            }
        }
        if ended {
            let end = now.result.as_ref().map_or_else(|| "ended".to_owned(), ToString::to_string);
            call.out.line(format!("# {end}"));
        }
        if ended || call.out.is_closed() || signals.wait_until(Instant::now() + POLL) {
            return Ok(Exit::Done);
        }
    }
}
