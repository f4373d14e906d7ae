//! The outbox: messages are written in the transaction that causes them and delivered by any later step (NTF-3).

use super::{Result, Tx, from_json, parsed, to_json};
use crate::model::card_steps::{Shown, StoredCard};
use crate::model::ids::TaskId;
use crate::model::redact;
use crate::model::stage::words;
use crate::model::task::Actor;
use rusqlite::{OptionalExtension, Row, params};

words! {
    /// Where a message goes.
    Sink {
        BoardStatus = "board_status",
        BoardComment = "board_comment",
        ForgeComment = "forge_comment",
        ForgeStatus = "forge_status",
        Card = "card",
        Alert = "alert",
        /// An action in the chat after an answer (ORD-5): the payload is a `ChatAct`.
        Chat = "chat",
    }
}

/// A message to deliver. The key is its cause: the same cause is written once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOutbox {
    pub key: String,
    pub task_id: Option<TaskId>,
    pub sink: Sink,
    pub payload: serde_json::Value,
}

/// A message to be delivered, with its progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    pub id: i64,
    pub key: String,
    pub task_id: Option<TaskId>,
    pub sink: Sink,
    pub payload: serde_json::Value,
    pub attempts: i64,
    pub available_at: i64,
    pub unknown_outcome: bool,
    pub last_error: Option<String>,
}

pub(super) fn outbox(row: &Row<'_>) -> rusqlite::Result<OutboxRow> {
    Ok(OutboxRow {
        id: row.get("id")?,
        key: row.get("key")?,
        task_id: row.get::<_, Option<i64>>("task_id")?.map(TaskId),
        sink: parsed(row, "sink", Sink::parse)?,
        payload: parsed(row, "payload", from_json)?,
        attempts: row.get("attempts")?,
        available_at: row.get("available_at")?,
        unknown_outcome: row.get("unknown_outcome")?,
        last_error: row.get("last_error")?,
    })
}

pub(super) const DELIVERABLE: &str = "SELECT * FROM outbox o INDEXED BY outbox_open WHERE state = 'open' AND available_at <= ?1
             AND id = (SELECT MIN(id) FROM outbox p WHERE p.state = 'open' AND p.task_id IS o.task_id AND p.sink = o.sink)
             ORDER BY id LIMIT ?2";

impl Tx<'_> {
    /// Writes a message once per key; returns whether it is new. An indication or card replaces older open ones of its
    /// task.
    pub fn post(&self, new: &NewOutbox, at: i64) -> Result<bool> {
        if matches!(new.sink, Sink::BoardStatus | Sink::Card) {
            self.tx
                .prepare_cached("UPDATE outbox SET state = 'collapsed' WHERE task_id = ?1 AND sink = ?2 AND state = 'open' AND key <> ?3 AND owner IS NULL")?
                .execute(params![new.task_id.map(|t| t.0), new.sink.as_str(), new.key])?;
        }
        let payload = new.payload.to_string();
        let payload = redact::current().text(&payload);
        Ok(self
            .tx
            .prepare_cached("INSERT INTO outbox (key, task_id, sink, payload, state, created_at) VALUES (?1, ?2, ?3, ?4, 'open', ?5) ON CONFLICT (key) DO NOTHING")?
            .execute(params![new.key, new.task_id.map(|t| t.0), new.sink.as_str(), payload, at])?
            == 1)
    }

    /// Parks the rows that can't be decoded, so that they block nothing (RULE-44); returns how many.
    pub fn park_undecodable(&self) -> Result<usize> {
        let rows: Vec<(i64, String)> = {
            let unread = self.unread.borrow();
            unread.values().filter(|u| u.table == "outbox").map(|u| (u.row, u.why.clone())).collect()
        };
        let mut parked = 0;
        for (id, why) in rows {
            let why = format!("the row can't be read: {why}");
            parked += self
                .tx
                .prepare_cached("UPDATE outbox SET state = 'parked', owner = NULL, last_error = ?2 WHERE id = ?1 AND state = 'open'")?
                .execute(params![id, why])?;
        }
        Ok(parked)
    }

    /// The oldest open row of every (task, sink) that is due (RULE-41: only these can be delivered).
    pub fn deliverable(&self, now: i64, most: u32) -> Result<Vec<OutboxRow>> {
        if self.none("outbox WHERE state = 'open'")? {
            return Ok(Vec::new());
        }
        self.list("outbox", DELIVERABLE, params![now, most], outbox)
    }

    /// Takes a due row for delivery until `lease_until`; returns whether this caller got it.
    pub fn take_message(&self, id: i64, me: &Actor, now: i64, lease_until: i64) -> Result<bool> {
        Ok(self
            .tx
            .prepare_cached("UPDATE outbox SET owner = ?2, available_at = ?3, attempts = attempts + 1 WHERE id = ?1 AND state = 'open' AND available_at <= ?4")?
            .execute(params![id, to_json(me), lease_until, now])?
            == 1)
    }

    /// Open rows that a process took and did not return, with that process.
    pub fn taken_messages(&self) -> Result<Vec<(i64, Actor)>> {
        let sql = "SELECT id, task_id, owner FROM outbox WHERE state = 'open' AND owner IS NOT NULL";
        self.list("outbox", sql, [], |r| Ok((r.get(0)?, parsed(r, "owner", from_json)?)))
    }

    /// Frees a row whose owner died during delivery: due at once, and whether it arrived is unknown.
    pub fn free_message(&self, id: i64, from: &Actor, now: i64) -> Result<()> {
        self.tx
            .prepare_cached("UPDATE outbox SET owner = NULL, unknown_outcome = 1, available_at = MIN(available_at, ?3) WHERE id = ?1 AND owner = ?2 AND state = 'open'")?
            .execute(params![id, to_json(from), now])?;
        Ok(())
    }

    /// Actions in a chat leave no row: anybody there may press a button as often as they like.
    pub fn message_sent(&self, id: i64, at: i64) -> Result<()> {
        self.tx.prepare_cached("DELETE FROM outbox WHERE id = ?1 AND sink = 'chat'")?.execute([id])?;
        self.tx
            .prepare_cached("UPDATE outbox SET state = 'sent', owner = NULL, sent_at = ?2 WHERE id = ?1")?
            .execute(params![id, at])?;
        Ok(())
    }

    /// Retries at `available_at`.
    pub fn message_failed(&self, id: i64, available_at: i64, unknown: bool, error: &str) -> Result<()> {
        self.tx
            .prepare_cached("UPDATE outbox SET owner = NULL, available_at = ?2, unknown_outcome = MAX(unknown_outcome, ?3), last_error = ?4 WHERE id = ?1")?
            .execute(params![id, available_at, unknown, error])?;
        Ok(())
    }

    /// Permanently refused: shown by `status`, not retried.
    pub fn park_message(&self, id: i64, error: &str) -> Result<()> {
        self.tx
            .prepare_cached("UPDATE outbox SET state = 'parked', owner = NULL, last_error = ?2 WHERE id = ?1")?
            .execute(params![id, error])?;
        Ok(())
    }

    /// `(open, parked)`.
    pub fn outbox_counts(&self) -> Result<(i64, i64)> {
        // Literals, not parameters: only then are the partial indexes used.
        let of = |sql: &str| self.tx.prepare_cached(sql)?.query_row([], |r| r.get(0));
        Ok((
            of("SELECT COUNT(*) FROM outbox WHERE state = 'open'")?,
            of("SELECT COUNT(*) FROM outbox WHERE state = 'parked'")?,
        ))
    }

    /// What a sink currently shows for a task.
    pub fn card(&self, task: TaskId, sink: &str) -> Result<Option<StoredCard>> {
        Ok(self
            .tx
            .prepare_cached("SELECT message_id, shown, sent_at FROM cards WHERE task_id = ?1 AND sink = ?2")?
            .query_row(params![task.0, sink], |r| {
                let shown: String = r.get(1)?;
                Ok(StoredCard { message_id: r.get(0)?, shown: Shown::from_column(&shown), sent_at: r.get(2)? })
            })
            .optional()?)
    }

    pub fn set_card(&self, task: TaskId, sink: &str, card: &StoredCard) -> Result<()> {
        self.tx
            .prepare_cached(
                "INSERT INTO cards (task_id, sink, message_id, shown, sent_at) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (task_id, sink) DO UPDATE SET message_id = excluded.message_id, shown = excluded.shown, sent_at = excluded.sent_at",
            )?
            .execute(params![task.0, sink, card.message_id, Shown::to_column(card.shown.as_ref()), card.sent_at])?;
        Ok(())
    }

    /// Forgets what a sink shows for every task but one: its message numbers are no longer valid.
    pub fn forget_cards(&self, sink: &str, but: Option<TaskId>) -> Result<()> {
        self.tx
            .prepare_cached("DELETE FROM cards WHERE sink = ?1 AND task_id IS NOT ?2")?
            .execute(params![sink, but.map(|t| t.0)])?;
        Ok(())
    }

    /// Records the progress of a message with several destinations.
    pub fn message_progress(&self, id: i64, payload: &serde_json::Value) -> Result<()> {
        self.tx
            .prepare_cached("UPDATE outbox SET payload = ?2 WHERE id = ?1")?
            .execute(params![id, payload.to_string()])?;
        Ok(())
    }

    /// Makes parked writes to boards and forges due again (ORD-1); returns how many. Unreadable ones stay parked.
    pub fn unpark_writes(&self) -> Result<usize> {
        Ok(self
            .tx
            .prepare_cached(
                "UPDATE outbox SET state = 'open', available_at = 0 WHERE state = 'parked' AND task_id IS NOT NULL
                 AND sink IN ('board_status', 'board_comment', 'forge_comment', 'forge_status') AND last_error NOT LIKE 'the row can''t be read%'",
            )?
            .execute([])?)
    }

    /// Makes parked alerts and pending chat actions due again; returns how many.
    pub fn unpark_alerts(&self) -> Result<usize> {
        Ok(self
            .tx
            .prepare_cached(
                "UPDATE outbox SET state = 'open', available_at = 0 WHERE state = 'parked' AND sink IN ('alert', 'chat')",
            )?
            .execute([])?)
    }
}
