//! The waits that services asked for, stored per host and credential (services §0.7): a throttled step ends, the next
//! one honours the time, and nobody sleeps.

use super::{Ctx, outages};
use crate::adapters::board::BoardError;
use crate::adapters::forge::ForgeError;
use crate::config::{Account, Project};
use crate::decide::outages::wait_until;
pub use crate::model::text::digest;
use anyhow::Result;

/// One row for all users of a credential on a host: a board and a forge share it.
fn place(account: &Account<'_>) -> String {
    let rest = account.url.split_once("://").map_or(account.url, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest);
    let of = account.resource.map_or_else(String::new, |resource| format!("/{resource}"));
    format!("throttle/{host}/{}{of}", digest(&[&account.from]))
}

/// The key of the project's board; `None` on the local board.
pub fn of_board(project: &Project) -> Option<String> {
    project.board.account().map(|account| place(&account))
}

/// The key of the project's forge; `None` on the local forge.
pub fn of_forge(project: &Project) -> Option<String> {
    project.forge.account().map(|account| place(&account))
}

/// Until when no request may be made there; `None`: one may be made now.
pub fn until(ctx: &mut Ctx, key: Option<&str>) -> Result<Option<i64>> {
    let Some(key) = key else { return Ok(None) };
    let now = ctx.now().stamp.wall_ms;
    let stored = ctx.store.read(|tx| tx.meta(key))?.and_then(|t| t.parse::<i64>().ok());
    Ok(stored.filter(|until| *until > now))
}

/// Stores a wait of `seconds`; `None`: the service did not say.
pub fn store(ctx: &mut Ctx, key: Option<&str>, seconds: Option<u64>) -> Result<()> {
    let Some(key) = key.filter(|_| !ctx.dry) else { return Ok(()) };
    let until = wait_until(seconds, ctx.now().stamp.wall_ms);
    Ok(ctx.store.write(|tx| tx.set_meta(key, &until.to_string()))?)
}

/// Seconds left of a stored wait.
fn left(ctx: &mut Ctx, key: Option<&str>) -> Result<Option<u64>> {
    let now = ctx.now().stamp.wall_ms;
    Ok(until(ctx, key)?.map(|until| u64::try_from((until - now) / 1000 + 1).unwrap_or(1)))
}

/// Fails as the forge would while a wait is stored: no request is made.
pub fn pass_forge(ctx: &mut Ctx, project: &Project) -> Result<()> {
    match left(ctx, of_forge(project).as_deref())? {
        None => Ok(()),
        Some(seconds) => {
            let reason = format!("it asked for a wait earlier; {seconds} s of it are left");
            Err(ForgeError::Throttled { reason, retry_after_s: Some(seconds) }.into())
        }
    }
}

/// Fails as the board would while a wait is stored: no request is made.
pub fn pass_board(ctx: &mut Ctx, project: &Project) -> Result<()> {
    match left(ctx, of_board(project).as_deref())? {
        None => Ok(()),
        Some(retry_after_s) => {
            Err(BoardError::Throttled { retry_after_s, what: "it asked for it before".to_owned() }.into())
        }
    }
}

/// Fails at once if a project's board did not answer a moment ago: each further request of a step would take just as
/// long to time out.
pub fn pass_silent(ctx: &mut Ctx, project: &Project) -> Result<(), BoardError> {
    let now = ctx.now().stamp.wall_ms;
    ctx.asked.silence(&project.key, now).map_or(Ok(()), Err)
}

/// Records what a failed call showed: a requested wait, a silent board, or an unavailable forge or remote.
pub fn noted(ctx: &mut Ctx, project: &Project, error: &anyhow::Error) -> Result<()> {
    let board = error.chain().find_map(|e| e.downcast_ref::<BoardError>());
    if let Some(BoardError::Throttled { retry_after_s, .. }) = board {
        let key = of_board(project);
        if left(ctx, key.as_deref())?.is_none() {
            store(ctx, key.as_deref(), Some(*retry_after_s))?;
        }
    }
    // If the server answers, one failed call says nothing about the others (RULE-44).
    if let Some(silent @ BoardError::Silent(_)) = board.filter(|_| project.board.is_remote()) {
        let now = ctx.now().stamp.wall_ms;
        ctx.asked.keep_silence(&project.key, now, silent);
    }
    let forge = error.chain().find_map(|e| e.downcast_ref::<ForgeError>());
    if let Some(ForgeError::Throttled { retry_after_s, .. }) = forge {
        let key = of_forge(project);
        if left(ctx, key.as_deref())?.is_none() {
            store(ctx, key.as_deref(), *retry_after_s)?;
        }
    }
    outages::noted(ctx, project, error)
}
