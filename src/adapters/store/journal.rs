//! The journal: which outside effects were intended, and how they ended (law 3).

use super::{Result, Tx, from_json, parsed, to_json};
use crate::model::ids::TaskId;
use crate::model::task::Actor;
use rusqlite::{OptionalExtension, Row, params};

/// One outside effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRow {
    /// Stable: the same effect has the same key, whoever tries it (RULE-9: it contains the task id).
    pub key: String,
    pub task_id: Option<TaskId>,
    pub kind: String,
    pub intent: serde_json::Value,
    pub actor: Actor,
    pub outcome: Option<serde_json::Value>,
}

fn journal(row: &Row<'_>) -> rusqlite::Result<JournalRow> {
    Ok(JournalRow {
        key: row.get("key")?,
        task_id: row.get::<_, Option<i64>>("task_id")?.map(TaskId),
        kind: row.get("kind")?,
        intent: parsed(row, "intent", from_json)?,
        actor: parsed(row, "actor", from_json)?,
        outcome: row.get::<_, Option<String>>("outcome")?.and_then(|t| from_json(&t)),
    })
}

impl Tx<'_> {
    /// Records an intent, or takes over an open one with the same key. Returns the row. If it has an outcome, the
    /// effect has already happened and must not be repeated.
    pub fn intend(
        &self,
        key: &str,
        task: Option<TaskId>,
        kind: &str,
        intent: &serde_json::Value,
        me: &Actor,
        at: i64,
    ) -> Result<JournalRow> {
        self.tx
            .prepare_cached(
                "INSERT INTO journal (key, task_id, kind, intent, actor, intended_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (key) DO UPDATE SET actor = excluded.actor, intent = excluded.intent, intended_at = excluded.intended_at WHERE outcome IS NULL",
            )?
            .execute(params![key, task.map(|t| t.0), kind, intent.to_string(), to_json(me), at])?;
        Ok(self.tx.prepare_cached("SELECT * FROM journal WHERE key = ?1")?.query_row([key], journal)?)
    }

    /// Records how an intended effect ended.
    pub fn record_outcome(&self, key: &str, outcome: &serde_json::Value, at: i64) -> Result<()> {
        self.tx.prepare_cached("UPDATE journal SET outcome = ?2, ended_at = ?3 WHERE key = ?1")?.execute(params![
            key,
            outcome.to_string(),
            at
        ])?;
        Ok(())
    }

    pub fn journal_row(&self, key: &str) -> Result<Option<JournalRow>> {
        Ok(self.tx.prepare_cached("SELECT * FROM journal WHERE key = ?1")?.query_row([key], journal).optional()?)
    }

    /// Intents of a task without an outcome: effects that a crash may have left half done.
    pub fn open_intents(&self, task: TaskId) -> Result<Vec<JournalRow>> {
        let mut statement =
            self.tx.prepare_cached("SELECT * FROM journal WHERE task_id = ?1 AND outcome IS NULL ORDER BY key")?;
        let rows = statement.query_map([task.0], journal)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Every journal row of a task.
    pub fn journal_of(&self, task: TaskId) -> Result<Vec<JournalRow>> {
        let mut statement =
            self.tx.prepare_cached("SELECT * FROM journal WHERE task_id = ?1 ORDER BY intended_at, key")?;
        let rows = statement.query_map([task.0], journal)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Open intents of a kind that were made before a time.
    pub fn intents_of_kind(&self, kind: &str, before: i64) -> Result<Vec<JournalRow>> {
        if self.none("journal WHERE outcome IS NULL")? {
            return Ok(Vec::new());
        }
        // The table has no ids, so an unreadable row is named by its task.
        self.list(
            "journal",
            "SELECT *, COALESCE(task_id, 0) AS id FROM journal WHERE outcome IS NULL AND kind = ?1 AND intended_at <= ?2 ORDER BY key",
            params![kind, before],
            journal,
        )
    }
}
