//! The audit table: append-only, a hash chain (TRUST-1.7). `timeline` is a reading of it.

use super::{Result, Store, Tx};
use crate::model::ids::TaskId;
use rusqlite::OptionalExtension;
use sha2::{Digest, Sha256};

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

fn link(previous: &str, at: i64, task: Option<i64>, event: &str, detail: &str) -> String {
    let mut hasher = Sha256::new();
    for part in [previous, &at.to_string(), &task.map_or_else(String::new, |t| t.to_string()), event, detail] {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()
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
    /// Walks the chain. `Ok(Ok(count))` when it holds.
    pub fn audit_verify(&mut self) -> Result<std::result::Result<i64, Broken>> {
        let mut statement =
            self.conn.prepare("SELECT seq, at, task_id, event, detail, hash FROM audit ORDER BY seq")?;
        let mut rows = statement.query([])?;
        let mut previous = GENESIS.to_owned();
        let mut expected = 0_i64;
        while let Some(r) = rows.next()? {
            let seq: i64 = r.get(0)?;
            expected += 1;
            if seq != expected {
                return Ok(Err(Broken { seq, why: format!("expected number {expected}: events are missing") }));
            }
            let detail: String = r.get(4)?;
            let event: String = r.get(3)?;
            let hash = link(&previous, r.get(1)?, r.get(2)?, &event, &detail);
            let kept: String = r.get(5)?;
            if hash != kept {
                return Ok(Err(Broken { seq, why: "its hash does not fit its content and predecessor".to_owned() }));
            }
            previous = kept;
        }
        Ok(Ok(expected))
    }
}
