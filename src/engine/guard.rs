//! What every step checks before it works: whether the directory belongs to this machine, whether the database is older
//! than its files, and whether there is room (RULE-37, RULE-38).

use super::paths::Paths;
use super::{Ctx, messages};
use crate::adapters::sentinel;
use crate::adapters::store::{StoreError, TAIL_WRITTEN, Tail};
use crate::adapters::{disk, modes};
use crate::decide::guards::may_resume as may_resume_after;
use crate::model::card::AlertKind;
use crate::model::event::Event;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Released when the disk is full, so that there is room to record a stop and an exit (RULE-38); in MiB.
const BALLAST_MB: u64 = 4;
/// Ballast is created only if more than this is free: on a small disk, too, and below `min_free_mb`, where claims wait.
const ROOM_MB: u64 = 3 * BALLAST_MB;
/// The file that binds a state directory to its machine.
const MACHINE: &str = "machine";
/// HALT's text when a step sets it because the database is older than its files.
const OLDER: &str =
    "the database is older than its files: run `orch reconcile --full`, look at what it says, then `orch resume`";

/// Runs before the database is opened. Fails on a network file system, whose locks say nothing about other machines,
/// and in a directory of another machine.
pub fn before(state_dir: &Path, step: &str) -> Result<()> {
    if matches!(step, "stop" | "reap" | "run-job") {
        make_room(state_dir);
    }
    if let Ok(Some(kind)) = disk::network_file_system(state_dir) {
        bail!(
            "the state directory {} is on {kind}, a network file system, whose locks do not hold; use a local one",
            state_dir.display()
        );
    }
    let Some(here) = machine(state_dir)? else { return Ok(()) };
    let path = state_dir.join(MACHINE);
    sentinel::put(&path, format!("{here}\n").as_bytes()).with_context(|| format!("writing {}", path.display()))
}

/// Checks that the state directory belongs to this machine (RULE-37). Fails with the message if it belongs to another
/// or that can't be read. Returns the id to write there if it has no owner yet.
pub fn machine(state_dir: &Path) -> Result<Option<String>> {
    // A machine without an id can't be distinguished from another.
    let Ok(here) = disk::machine_id() else { return Ok(None) };
    let path = state_dir.join(MACHINE);
    let whose = match std::fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Some(here)),
        Err(e) => format!("that {} names, which can't be read ({e})", path.display()),
    };
    if whose == here {
        return Ok(None);
    }
    let whose = if whose.is_empty() { format!("that {} names, which is empty", path.display()) } else { whose };
    bail!(
        "the state directory {} belongs to the machine {}; if it was moved here and no orch of another machine runs on it, remove {}",
        state_dir.display(),
        crate::model::text::clip(&whose, 300),
        path.display()
    )
}

/// Set after the first full check of the modes.
const MODES: &str = "guards/modes_closed";

/// Revokes the rights of group and others in the state directory (BND-6) before anything in it is opened. Returns what
/// was open. A quick check of the top level only.
pub fn close(state_dir: &Path) -> Result<Vec<PathBuf>> {
    let used = state_dir.join("orch.db").exists();
    let found = modes::close(state_dir, false)
        .with_context(|| format!("closing the state directory to other accounts {}", state_dir.display()))?;
    // There was nothing to read in an empty folder.
    Ok(if used { found } else { Vec::new() })
}

/// Runs after the database is opened: the first step of this version checks everything, and what was open is reported
/// once.
pub fn closed(ctx: &mut Ctx, mut open: Vec<PathBuf>) -> Result<()> {
    let checked = ctx.store.read(|tx| tx.meta(MODES))?.is_some();
    if !checked {
        open.extend(modes::close(ctx.paths.root(), true).context("closing the state directory to other accounts")?);
    }
    if checked && open.is_empty() {
        return Ok(());
    }
    let at = ctx.now().stamp.wall_ms;
    let root = ctx.paths.root().to_owned();
    let shown = |p: &PathBuf| p.strip_prefix(&root).unwrap_or(p).display().to_string();
    let named: Vec<String> =
        open.iter().take(5).map(shown).map(|p| if p.is_empty() { ".".to_owned() } else { p }).collect();
    Ok(ctx.store.write(|tx| {
        tx.set_meta(MODES, "1")?;
        if open.is_empty() {
            return Ok(());
        }
        super::record::event(tx, at, None, Event::ModesRepaired, &json!({"count": open.len(), "first": named}))?;
        let n = tx.count_up("guards/modes", 1)?;
        let detail = format!(
            "Other accounts could read or change {} files and folders of the state directory ({}). This is fixed now, but those accounts may know the contents.",
            open.len(),
            named.join(", ")
        );
        messages::alert_named(tx, AlertKind::GuardChanged, "file modes", n, &detail, at)
    })?)
}

/// After the database is opened.
pub fn enter(ctx: &mut Ctx) -> Result<()> {
    if !tail_holds(ctx)? {
        sentinel::halt(ctx.paths.root(), OLDER).context("writing HALT")?;
    }
    Ok(())
}

/// At a step's end: writes the audit table's last number and hash next to the database, so that a truncated tail is
/// detected (TRUST-2).
pub fn leave(ctx: &mut Ctx) -> Result<()> {
    if ctx.dry || !tail_holds(ctx)? {
        return Ok(());
    }
    write_tail(ctx)
}

/// Creates the ballast if there is room for it.
pub fn ballast(ctx: &Ctx) {
    let root = ctx.paths.root();
    let room = disk::free_mb(root).is_ok_and(|mb| mb > ROOM_MB);
    if room && let Err(e) = disk::take_ballast(root, BALLAST_MB) {
        tracing::debug!("no ballast: {e}");
    }
}

/// Whether a person may lift HALT now: while the database is older than its files, only after a full look. If so, the
/// files follow the database from here on.
pub fn may_resume(ctx: &mut Ctx) -> Result<bool> {
    if tail_holds(ctx)? {
        return Ok(true);
    }
    let set = std::fs::metadata(ctx.paths.root().join("HALT")).and_then(|m| m.modified());
    let set = set.ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).map_or(0, |d| d.as_millis());
    let checked = ctx.store.read(|tx| tx.meta("reconcile/last_full_at"))?.and_then(|t| t.parse::<i64>().ok());
    if !may_resume_after(set, checked) {
        return Ok(false);
    }
    write_tail(ctx)?;
    Ok(true)
}

/// Releases the ballast when no other space is left (RULE-38).
pub fn make_room(state_dir: &Path) {
    if disk::free_mb(state_dir).is_ok_and(|mb| mb == 0) {
        disk::drop_ballast(state_dir);
    }
}

/// What the file next to the database says about the last event.
pub fn stored_tail(paths: &Paths) -> Tail {
    let bytes = match std::fs::read(paths.audit_tail()) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Tail::Absent,
        Err(_) => return Tail::Unreadable,
    };
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    match (value["seq"].as_i64(), value["hash"].as_str()) {
        (Some(seq), Some(hash)) => Tail::Is { seq, hash: hash.to_owned() },
        _ => Tail::Unreadable,
    }
}

/// An unreadable file is no evidence of an older database; `audit verify` reports it.
fn tail_holds(ctx: &mut Ctx) -> Result<bool> {
    let Tail::Is { seq, hash } = stored_tail(&ctx.paths) else { return Ok(true) };
    Ok(ctx.store.read(|tx| tx.audit_hash(seq))?.is_some_and(|there| there == hash))
}

fn write_tail(ctx: &mut Ctx) -> Result<()> {
    let (seq, hash) = ctx.store.read(|tx| tx.audit_tail())?;
    if seq == 0 || stored_tail(&ctx.paths) == (Tail::Is { seq, hash }) {
        return Ok(());
    }
    let path = ctx.paths.audit_tail();
    // Under the database's lock: of two processes the one that saw the later event writes last.
    let written = ctx.store.write(|tx| {
        let (seq, hash) = tx.audit_tail()?;
        if tx.meta(TAIL_WRITTEN)?.is_none() {
            tx.set_meta(TAIL_WRITTEN, "1")?;
        }
        let text = json!({"schema": 1, "seq": seq, "hash": hash}).to_string();
        Ok::<_, StoreError>(sentinel::put(&path, text.as_bytes()))
    })?;
    written.with_context(|| format!("writing {}", path.display()))
}
