//! Reads the local boards in a step. The files already read are remembered next to the database, so that unchanged ones
//! are not opened (speed). `reconcile` still reads every file.

use super::boards::{self, Seat, Whole};
use super::{Ctx, caller};
use crate::adapters::board::BoardError;
use crate::adapters::board::seen::{STAMP, Seen};
use crate::adapters::files;
use crate::config::Project;
use crate::model::ids::Key;
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// Reads the local boards without network access, skipping files already read and unchanged.
pub fn take_in_local(ctx: &mut Ctx, only: Option<&str>) {
    let local: Vec<Project> = ctx
        .config
        .projects
        .iter()
        .filter(|p| !p.board.is_remote() && only.is_none_or(|o| o == p.key))
        .cloned()
        .collect();
    for project in local {
        let done = boards::seat(ctx, &project).and_then(|s| Ok(take_in(ctx, &project, &s)?));
        if let Err(e) = done {
            ctx.report.fault(None, format!("board of {}: {e:#}", project.key), None);
        }
    }
}

/// Reads what has changed in a project's folder.
pub fn take_in(ctx: &mut Ctx, project: &Project, seat: &Seat) -> Result<(), BoardError> {
    let ours = |e: anyhow::Error| BoardError::Transient(format!("{e:#}"));
    let before = boards::waits(ctx, project).map_err(ours)?;
    let known = known(ctx, project, seat).map_err(ours)?;
    // A file may ask a question that was not asked yet, changed or not (RULE-43).
    let asking = before.iter().filter(|(_, wait)| !wait.asked).filter_map(|(id, _)| Key::parse(id).ok());
    let asking: BTreeSet<u64> = asking.map(|key| key.number()).collect();
    let Some(looked) = seat.board.look(&known, &asking) else { return Ok(()) };
    let mut looked = looked?;
    let mut listing = std::mem::take(&mut looked.listing);
    boards::tell(ctx, project, seat, &listing);
    // What is reported each time, or could not be recorded, is read each time.
    let odd = listing.items.iter().filter(|i| seat.resolved.status(&i.status_id).is_none());
    let mut left: Vec<Key> = odd.map(|i| i.key.clone()).collect();
    let unread: Vec<Key> = listing.problems.iter().filter_map(|p| p.key.clone()).collect();
    let whole = Whole { unread: &unread, there: &|id| looked.is_unchanged(&known, id) };
    left.extend(boards::record(ctx, project, seat, &mut listing, Some(&whole), &before)?);
    left.extend(listing.problems.iter().filter_map(|p| p.key.clone()));
    if !ctx.dry
        && let Some(seen) = looked.seen(&known, &left)
        && let Err(e) = remember(ctx, project, seat, &seen)
    {
        // The next step then has to read each file.
        tracing::debug!("the state read from the board of {} could not be saved: {e:#}", project.key);
    }
    Ok(())
}

/// The row that ties the file to this database: a restored database has not read what the file lists.
fn row(project: &Project) -> String {
    format!("board/seen/{}", project.key)
}

fn known(ctx: &mut Ctx, project: &Project, seat: &Seat) -> Result<Seen> {
    let Some(token) = ctx.store.read(|tx| tx.meta(&row(project)))? else { return Ok(Seen::default()) };
    let bytes = std::fs::read(ctx.paths.seen(&project.key)).unwrap_or_default();
    Ok(Seen::parse(bytes, &stamp(&token, project, seat)).unwrap_or_default())
}

fn remember(ctx: &mut Ctx, project: &Project, seat: &Seat, seen: &Seen) -> Result<()> {
    let token = caller::random_token()?;
    let path = ctx.paths.seen(&project.key);
    let folder = path.parent().unwrap_or(ctx.paths.root());
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let bytes = seen.bytes(&stamp(&token, project, seat));
    files::replace(&path, &bytes, Some(0o600)).with_context(|| format!("writing {}", path.display()))?;
    // A process killed before this leaves a file that nobody trusts.
    Ok(ctx.store.write(|tx| tx.set_meta(&row(project), &token))?)
}

/// The file is valid for one database, one folder, one meaning of the statuses and one program.
fn stamp(token: &str, project: &Project, seat: &Seat) -> [u8; STAMP] {
    let what = (token, env!("CARGO_PKG_VERSION"), &project.board, seat.resolved.statuses());
    Sha256::digest(format!("{what:?}").as_bytes()).into()
}
