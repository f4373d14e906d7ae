//! Messages that accept an answer, and which updates of a chat were applied (ORD-5).

use super::{Result, Tx, from_json, parsed, parsed_opt, to_json};
use crate::model::card::Card;
use crate::model::chat::{Ask, AskKind, AskState, Decided};
use crate::model::ids::{Sha, TaskId};
use crate::model::task::{Task, Waiting};
use rusqlite::{OptionalExtension, Row, params};

/// How long updates are kept, to recognise repeats; the service forgets them after a day.
const KEPT_MS: i64 = 2 * 86_400_000;
/// After this long without an update, their numbers may start anywhere.
const CERTAIN_MS: i64 = 86_400_000;

/// A message that is about to be sent.
#[derive(Debug, Clone, Copy)]
pub struct NewAsk<'a> {
    pub kind: AskKind,
    /// Hash of the nonce in its buttons; `None` without buttons.
    pub nonce_hash: Option<&'a str>,
    pub waiting: Waiting,
    pub user: Option<i64>,
    /// Chat and message, if it was already sent.
    pub message: Option<(i64, i64)>,
    pub text: &'a Card,
}

/// What ended a wait, from the audit table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitEnd {
    pub event: String,
    /// A JSON object.
    pub detail: String,
    /// Wall milliseconds.
    pub at: i64,
}

fn ask(row: &Row<'_>) -> rusqlite::Result<Ask> {
    Ok(Ask {
        id: row.get("id")?,
        kind: parsed(row, "kind", AskKind::parse)?,
        task: TaskId(row.get("task_id")?),
        attempt: row.get("attempt")?,
        epoch: row.get("epoch")?,
        wait_no: row.get("wait_no")?,
        waiting: parsed(row, "waiting", Waiting::parse)?,
        head: parsed_opt(row, "head", |t| Sha::parse(t).ok())?,
        user: row.get("user")?,
        chat: row.get("chat")?,
        message_id: row.get("message_id")?,
        text: Card { html: row.get("html")?, plain: row.get("plain")? },
        state: parsed(row, "state", AskState::parse)?,
        decided: parsed_opt(row, "decided", from_json)?,
        asked_at: row.get("asked_at")?,
    })
}

impl Tx<'_> {
    /// Records a message for the task's current wait; returns its number.
    pub fn add_ask(&self, task: &Task, new: &NewAsk<'_>, at: i64) -> Result<i64> {
        self.tx
            .prepare_cached(
                "INSERT INTO asks (kind, nonce_hash, task_id, attempt, epoch, wait_no, waiting, head, user, chat, message_id, html, plain, state, asked_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 'open', ?14)",
            )?
            .execute(params![
                new.kind.as_str(),
                new.nonce_hash,
                task.id.0,
                task.attempt,
                task.epoch,
                task.wait_no,
                new.waiting.as_str(),
                task.head_sha.as_ref().map(Sha::as_str),
                new.user,
                new.message.map(|m| m.0),
                new.message.map(|m| m.1),
                new.text.html,
                new.text.plain,
                at,
            ])?;
        Ok(self.tx.last_insert_rowid())
    }

    /// Records a message's number, once the service has returned it.
    pub fn ask_sent(&self, id: i64, chat: i64, message_id: i64) -> Result<()> {
        self.tx
            .prepare_cached("UPDATE asks SET chat = ?2, message_id = ?3 WHERE id = ?1")?
            .execute(params![id, chat, message_id])?;
        Ok(())
    }

    /// Deletes a message that was certainly not sent.
    pub fn drop_ask(&self, id: i64) -> Result<()> {
        self.tx.prepare_cached("DELETE FROM asks WHERE id = ?1 AND message_id IS NULL")?.execute([id])?;
        Ok(())
    }

    pub fn ask(&self, id: i64) -> Result<Option<Ask>> {
        Ok(self.tx.prepare_cached("SELECT * FROM asks WHERE id = ?1")?.query_row([id], ask).optional()?)
    }

    /// The message whose buttons have this nonce.
    pub fn ask_by_nonce(&self, hash: &str) -> Result<Option<Ask>> {
        Ok(self.tx.prepare_cached("SELECT * FROM asks WHERE nonce_hash = ?1")?.query_row([hash], ask).optional()?)
    }

    /// The open question for a reason at this chat and message.
    pub fn ask_for_reason(&self, chat: i64, message_id: i64) -> Result<Option<Ask>> {
        Ok(self
            .tx
            .prepare_cached("SELECT * FROM asks WHERE kind = 'reason' AND chat = ?1 AND message_id = ?2")?
            .query_row(params![chat, message_id], ask)
            .optional()?)
    }

    /// Every message that still accepts an answer.
    pub fn open_asks(&self) -> Result<Vec<Ask>> {
        if self.none("asks WHERE state = 'open'")? {
            return Ok(Vec::new());
        }
        self.list("asks", "SELECT * FROM asks WHERE state = 'open' ORDER BY id", [], ask)
    }

    /// Closes a message; returns whether it was open.
    pub fn end_ask(&self, id: i64, state: AskState, decided: &Decided) -> Result<bool> {
        Ok(self
            .tx
            .prepare_cached("UPDATE asks SET state = ?2, decided = ?3 WHERE id = ?1 AND state = 'open'")?
            .execute(params![id, state.as_str(), to_json(decided)])?
            == 1)
    }

    /// The update from which to read the chat on; `None`: from the first one that the service has.
    pub fn next_update(&self, bot: &str, now: i64) -> Result<Option<i64>> {
        Ok(self
            .tx
            .prepare_cached("SELECT MAX(update_id) + 1 FROM chat_updates WHERE bot = ?1 AND at > ?2")?
            .query_row(params![bot, now - CERTAIN_MS], |r| r.get(0))?)
    }

    /// Records an update as applied, in the transaction that applies it; returns whether it is new.
    pub fn note_update(&self, bot: &str, id: i64, at: i64) -> Result<bool> {
        self.tx
            .prepare_cached("DELETE FROM chat_updates WHERE bot = ?1 AND at < ?2")?
            .execute(params![bot, at - KEPT_MS])?;
        Ok(self
            .tx
            .prepare_cached("INSERT INTO chat_updates (bot, update_id, at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
            .execute(params![bot, id, at])?
            == 1)
    }

    /// Records an attempt to decide by somebody who may not, per day; returns whether it is new.
    pub fn note_stranger(&self, day: i64, user: i64) -> Result<bool> {
        self.tx.prepare_cached("DELETE FROM chat_strangers WHERE day <> ?1")?.execute([day])?;
        Ok(self
            .tx
            .prepare_cached("INSERT INTO chat_strangers (day, user) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
            .execute([day, user])?
            == 1)
    }

    /// The first event after a time that ended a task's wait for a person.
    pub fn wait_end(&self, task: TaskId, since: i64) -> Result<Option<WaitEnd>> {
        Ok(self
            .tx
            .prepare_cached(
                "SELECT event, detail, at FROM audit WHERE task_id = ?1 AND at >= ?2
                 AND event IN ('released', 'rejected', 'stop_requested', 'stage_rolled_back', 'stage_advanced', 'task_blocked', 'resumed')
                 ORDER BY seq LIMIT 1",
            )?
            .query_row(params![task.0, since], |r| Ok(WaitEnd { event: r.get(0)?, detail: r.get(1)?, at: r.get(2)? }))
            .optional()?)
    }
}
