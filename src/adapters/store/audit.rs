//! The audit table: append-only, a hash chain (TRUST-1.7). `timeline` reads it.

use super::{Result, Store, Tx};
use crate::model::ids::TaskId;
use crate::model::redact;
use rusqlite::{Connection, OptionalExtension, Row};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    pub seq: i64,
    pub at: i64,
    pub task_id: Option<TaskId>,
    pub event: String,
    /// JSON.
    pub detail: String,
}

/// Where the chain is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub seq: i64,
    pub why: String,
}

const GENESIS: &str = "orch";

/// The event that binds an evidence row by its hash (BND-6).
pub const EVIDENCE: &str = "evidence";
/// Set in `meta` when the file with the last hash is first written: from then on the file must exist.
pub const TAIL_WRITTEN: &str = "audit/tail_written";

/// What the file next to the database says about the last event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tail {
    Absent,
    Unreadable,
    Is { seq: i64, hash: String },
}

fn link(previous: &str, at: i64, task: Option<i64>, event: &str, detail: &str) -> String {
    digest(&[previous, &at.to_string(), &task.map_or_else(String::new, |t| t.to_string()), event, detail])
}

/// SHA-256 over texts, each with its length.
pub(super) fn digest(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// The hash of a whole row, as its event binds it (BND-6).
pub(super) fn row_hash(row: &Row<'_>) -> rusqlite::Result<String> {
    let number = |column: &str| row.get::<_, i64>(column).map(|n| n.to_string());
    let text = |column: &str| row.get::<_, String>(column);
    let run = row.get::<_, Option<i64>>("run_id")?.map_or_else(String::new, |n| n.to_string());
    let parts = [
        number("id")?,
        number("task_id")?,
        text("gate")?,
        number("attempt")?,
        number("epoch")?,
        run,
        text("sha")?,
        text("code_tree")?,
        text("verdict")?,
        text("why")?,
        text("detail")?,
        number("at")?,
    ];
    Ok(digest(&parts.each_ref().map(String::as_str)))
}

impl Tx<'_> {
    /// Appends an event to the chain and returns its sequence number.
    pub fn audit(&self, at: i64, task: Option<TaskId>, event: &str, detail: &serde_json::Value) -> Result<i64> {
        let previous: Option<String> = self
            .tx
            .prepare_cached("SELECT hash FROM audit ORDER BY seq DESC LIMIT 1")?
            .query_row([], |r| r.get(0))
            .optional()?;
        let detail = detail.to_string();
        // Redacted before the chain covers it: a row never changes afterwards.
        let detail = redact::current().text(&detail);
        let hash = link(previous.as_deref().unwrap_or(GENESIS), at, task.map(|t| t.0), event, &detail);
        self.tx
            .prepare_cached("INSERT INTO audit (at, task_id, event, detail, hash) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(rusqlite::params![at, task.map(|t| t.0), event, detail, hash])?;
        Ok(self.tx.last_insert_rowid())
    }

    /// The hash of an event; `None`: there is no such event.
    pub fn audit_hash(&self, seq: i64) -> Result<Option<String>> {
        Ok(self
            .tx
            .prepare_cached("SELECT hash FROM audit WHERE seq = ?1")?
            .query_row([seq], |r| r.get(0))
            .optional()?)
    }

    /// The last event's number and hash; `(0, "")` for an empty table.
    pub fn audit_tail(&self) -> Result<(i64, String)> {
        Ok(self
            .tx
            .prepare_cached("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")?
            .query_row([], |r| Ok((r.get(0)?, r.get(1)?)))
            .optional()?
            .unwrap_or((0, String::new())))
    }

    /// Every event of a task, oldest first.
    pub fn timeline(&self, task: TaskId) -> Result<Vec<AuditEvent>> {
        let mut statement = self
            .tx
            .prepare_cached("SELECT seq, at, task_id, event, detail FROM audit WHERE task_id = ?1 ORDER BY seq")?;
        let rows = statement.query_map([task.0], |r| {
            Ok(AuditEvent {
                seq: r.get(0)?,
                at: r.get(1)?,
                task_id: r.get::<_, Option<i64>>(2)?.map(TaskId),
                event: r.get(3)?,
                detail: r.get(4)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

impl Store {
    /// Verifies the chain, and compares it with the tail stored next to it, with the number of events there ever were,
    /// and with the evidence rows that its events bind. `Ok(Ok(count))` if everything matches.
    pub fn audit_verify(&mut self, tail: &Tail) -> Result<std::result::Result<i64, Broken>> {
        let tx = self.conn.transaction()?;
        let mut bound = BTreeMap::new();
        let count = match chain(&tx, tail, &mut bound)? {
            Ok(count) => count,
            Err(broken) => return Ok(Err(broken)),
        };
        let found = ends(&tx, tail, count)?.or(evidence(&tx, bound)?);
        Ok(found.map_or(Ok(count), Err))
    }
}

/// The events that bind evidence rows, by the row's id: number and hash.
type Bound = BTreeMap<i64, (i64, String)>;

fn broken(seq: i64, why: impl Into<String>) -> Broken {
    Broken { seq, why: why.into() }
}

fn chain(tx: &Connection, tail: &Tail, bound: &mut Bound) -> Result<std::result::Result<i64, Broken>> {
    let mut statement = tx.prepare("SELECT seq, at, task_id, event, detail, hash FROM audit ORDER BY seq")?;
    let mut rows = statement.query([])?;
    let mut previous = GENESIS.to_owned();
    let mut expected = 0_i64;
    while let Some(r) = rows.next()? {
        let seq: i64 = r.get(0)?;
        expected += 1;
        if seq != expected {
            return Ok(Err(broken(seq, format!("expected number {expected}: events are missing"))));
        }
        let detail: String = r.get(4)?;
        let event: String = r.get(3)?;
        let hash = link(&previous, r.get(1)?, r.get(2)?, &event, &detail);
        let kept: String = r.get(5)?;
        if hash != kept {
            return Ok(Err(broken(seq, "its hash does not match its content and predecessor")));
        }
        if matches!(tail, Tail::Is { seq: last, hash } if *last == seq && *hash != kept) {
            return Ok(Err(broken(seq, "its hash differs from the one in the file next to the database")));
        }
        if event == EVIDENCE {
            let value: serde_json::Value = serde_json::from_str(&detail).unwrap_or_default();
            if let (Some(row), Some(hash)) = (value["evidence"].as_i64(), value["hash"].as_str()) {
                bound.insert(row, (seq, hash.to_owned()));
            }
        }
        previous = kept;
    }
    Ok(Ok(expected))
}

/// Whether the chain ends too early.
fn ends(tx: &Connection, tail: &Tail, count: i64) -> Result<Option<Broken>> {
    let ever: Option<i64> =
        tx.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'audit'")?.query_row([], |r| r.get(0)).optional()?;
    let written: Option<String> =
        tx.prepare("SELECT value FROM meta WHERE key = ?1")?.query_row([TAIL_WRITTEN], |r| r.get(0)).optional()?;
    let tasks: i64 = tx.prepare("SELECT COUNT(*) FROM tasks")?.query_row([], |r| r.get(0))?;
    Ok(match tail {
        Tail::Is { seq, .. } if *seq > count => Some(broken(
            count,
            format!("event {seq}, the last one according to the file next to the database, is missing"),
        )),
        Tail::Unreadable => Some(broken(count, "the file with the last hash can't be read")),
        Tail::Absent if written.is_some() => Some(broken(count, "the file with the last hash is gone")),
        Tail::Absent | Tail::Is { .. } if ever.unwrap_or(0) > count => {
            Some(broken(count, format!("{} events were written, the last ones are missing", ever.unwrap_or(0))))
        }
        Tail::Absent | Tail::Is { .. } if count == 0 && tasks > 0 => Some(broken(0, "the table is empty")),
        Tail::Absent | Tail::Is { .. } => None,
    })
}

/// Whether an evidence row differs from the one its event binds, has no event, or is gone.
fn evidence(tx: &Connection, mut bound: Bound) -> Result<Option<Broken>> {
    let mut statement = tx.prepare("SELECT * FROM evidence ORDER BY id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get("id")?;
        let Some((seq, hash)) = bound.remove(&id) else {
            return Ok(Some(broken(0, format!("no event binds evidence row {id}"))));
        };
        if row_hash(row)? != hash {
            return Ok(Some(broken(seq, format!("evidence row {id} was changed"))));
        }
    }
    Ok(bound.into_iter().next().map(|(id, (seq, _))| broken(seq, format!("evidence row {id} is missing"))))
}
