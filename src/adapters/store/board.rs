//! What was last seen on the boards, and the intents derived from it (RULE-12: edges, not levels).

use super::{Result, Tx, parsed};
use crate::model::act::By;
use crate::model::board::Intent;
use crate::model::stage::words;
use rusqlite::{OptionalExtension, Row, params};

words! {
    /// One row per intent; none is ever dropped without a reason.
    IntentState {
        Pending = "pending",
        Consumed = "consumed",
        Dismissed = "dismissed",
    }
}

/// The last observation of a work item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemRow {
    pub project: String,
    pub item_id: String,
    pub key: String,
    pub status_id: String,
    /// The item's own `updated` at that observation.
    pub updated_ms: i64,
    /// When `orch` last wrote it.
    pub written_ms: i64,
    pub title: String,
    /// 0 urgent … 4 none.
    pub priority: i64,
    /// Changes with the item's text other than title and status; empty if a list does not give it.
    pub body_hash: String,
    pub group: Option<String>,
    /// Whether a status other than To Analyse was seen since the item's last task ended.
    pub seen_other_since_end: bool,
}

/// An intent just observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewIntent<'a> {
    pub project: &'a str,
    pub item_id: &'a str,
    pub kind: Intent,
    /// The number of the wait that the item's task was in when the status was seen (RULE-43).
    pub answers: Option<i64>,
    /// Orders new tasks: creation, then number.
    pub created_order: &'a str,
    /// Who set the status, if the board says so.
    pub user: Option<&'a str>,
}

/// An intent waiting to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntentRow {
    pub id: i64,
    pub project: String,
    pub item_id: String,
    pub kind: Intent,
    /// As in [`NewIntent`].
    pub answers: Option<i64>,
    pub seen_at: i64,
    pub reason: Option<String>,
    pub state: IntentState,
    /// Who set the status, if the board says so.
    pub user: Option<String>,
}

impl IntentRow {
    /// Who acts through this intent.
    pub fn by(&self) -> By {
        By::Board { user: self.user.clone() }
    }
}

fn item(row: &Row<'_>) -> rusqlite::Result<ItemRow> {
    Ok(ItemRow {
        project: row.get("project")?,
        item_id: row.get("item_id")?,
        key: row.get("key")?,
        status_id: row.get("status_id")?,
        updated_ms: row.get("updated_ms")?,
        written_ms: row.get("written_ms")?,
        title: row.get("title")?,
        priority: row.get("priority")?,
        body_hash: row.get("body_hash")?,
        group: row.get("grp")?,
        seen_other_since_end: row.get("seen_other_since_end")?,
    })
}

fn intent(row: &Row<'_>) -> rusqlite::Result<IntentRow> {
    Ok(IntentRow {
        id: row.get("id")?,
        project: row.get("project")?,
        item_id: row.get("item_id")?,
        kind: parsed(row, "kind", Intent::parse)?,
        answers: row.get("answers")?,
        seen_at: row.get("seen_at")?,
        reason: row.get("reason")?,
        state: parsed(row, "state", IntentState::parse)?,
        user: row.get("user")?,
    })
}

impl Tx<'_> {
    pub fn item(&self, project: &str, item_id: &str) -> Result<Option<ItemRow>> {
        Ok(self
            .tx
            .prepare_cached("SELECT * FROM items WHERE project = ?1 AND item_id = ?2")?
            .query_row([project, item_id], item)
            .optional()?)
    }

    /// The item of a key, so that `explain` can show a work item without a task.
    pub fn item_by_key(&self, key: &str) -> Result<Option<ItemRow>> {
        Ok(self.tx.prepare_cached("SELECT * FROM items WHERE key = ?1 LIMIT 1")?.query_row([key], item).optional()?)
    }

    pub fn items(&self, project: &str) -> Result<Vec<ItemRow>> {
        let mut statement = self.tx.prepare_cached("SELECT * FROM items WHERE project = ?1")?;
        let rows = statement.query_map([project], item)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    pub fn put_item(&self, row: &ItemRow) -> Result<()> {
        self.tx
            .prepare_cached(
                "INSERT INTO items (project, item_id, key, status_id, updated_ms, written_ms, title, grp, seen_other_since_end, priority, body_hash)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
                 ON CONFLICT (project, item_id) DO UPDATE SET key = excluded.key, status_id = excluded.status_id, updated_ms = excluded.updated_ms,
                 written_ms = excluded.written_ms, title = excluded.title, grp = excluded.grp, seen_other_since_end = excluded.seen_other_since_end, priority = excluded.priority,
                 body_hash = excluded.body_hash",
            )?
            .execute(params![row.project, row.item_id, row.key, row.status_id, row.updated_ms, row.written_ms, row.title, row.group, row.seen_other_since_end, row.priority, row.body_hash])?;
        Ok(())
    }

    /// The item's task ended: another status must be seen before To Analyse may start a new one (RULE-12).
    pub fn item_ended(&self, project: &str, item_id: &str) -> Result<()> {
        self.tx
            .prepare_cached("UPDATE items SET seen_other_since_end = 0 WHERE project = ?1 AND item_id = ?2")?
            .execute([project, item_id])?;
        Ok(())
    }

    pub fn add_intent(&self, new: &NewIntent<'_>, at: i64) -> Result<i64> {
        self.tx
            .prepare_cached("INSERT INTO intents (project, item_id, kind, state, answers, created_order, seen_at, user) VALUES (?1, ?2, ?3, 'pending', ?4, ?5, ?6, ?7)")?
            .execute(params![new.project, new.item_id, new.kind.as_str(), new.answers, new.created_order, at, new.user])?;
        Ok(self.tx.last_insert_rowid())
    }

    /// Pending intents, STOP first, then by creation of the work item.
    pub fn pending_intents(&self) -> Result<Vec<IntentRow>> {
        if self.none("intents WHERE state = 'pending'")? {
            return Ok(Vec::new());
        }
        let sql = "SELECT * FROM intents WHERE state = 'pending' ORDER BY kind <> 'stop', created_order, id";
        self.list("intents", sql, [], intent)
    }

    /// Whether an intent of this kind and item is neither used nor dismissed yet.
    pub fn has_pending_intent(&self, project: &str, item_id: &str, kind: Intent) -> Result<bool> {
        let n: i64 = self
            .tx
            .prepare_cached(
                "SELECT COUNT(*) FROM intents WHERE state = 'pending' AND project = ?1 AND item_id = ?2 AND kind = ?3",
            )?
            .query_row([project, item_id, kind.as_str()], |r| r.get(0))?;
        Ok(n > 0)
    }

    /// The newest intents of an item, newest first, for `explain`.
    pub fn intents_of(&self, project: &str, item_id: &str, most: u32) -> Result<Vec<IntentRow>> {
        let mut statement = self
            .tx
            .prepare_cached("SELECT * FROM intents WHERE project = ?1 AND item_id = ?2 ORDER BY id DESC LIMIT ?3")?;
        let rows = statement.query_map(params![project, item_id, most], intent)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Records who set an intent's status, once the board says so.
    pub fn set_intent_user(&self, id: i64, user: &str) -> Result<()> {
        self.tx.prepare_cached("UPDATE intents SET user = ?2 WHERE id = ?1")?.execute(params![id, user])?;
        Ok(())
    }

    /// Settles a pending intent; returns whether this caller did.
    pub fn settle_intent(&self, id: i64, state: IntentState, reason: &str, at: i64) -> Result<bool> {
        Ok(self
            .tx
            .prepare_cached(
                "UPDATE intents SET state = ?2, reason = ?3, settled_at = ?4 WHERE id = ?1 AND state = 'pending'",
            )?
            .execute(params![id, state.as_str(), reason, at])?
            == 1)
    }
}
