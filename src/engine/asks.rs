//! Chat messages that can be answered (ORD-5): the question with its buttons, the reaction to an answer, and closing
//! the question when the answer arrives elsewhere.

use super::Ctx;
use crate::adapters::notify::{AlertMessage, Notifier, Outcome};
use crate::adapters::store::{NewAsk, NewOutbox, OutboxRow, Sink, StoreError, Tx, WaitEnd};
use crate::decide::chat::{buttons, is_over};
use crate::model::act::By;
use crate::model::card::{AlertKind, Card, Cause, Delivered, cause_key};
use crate::model::chat::{Ask, AskKind, AskState, Button, ChatAct, Decided, Ending, data};
use crate::model::ids::TaskId;
use crate::model::task::{Task, Waiting};
use crate::render;
use anyhow::Result;
use serde_json::json;
use std::time::Instant;

/// Whether anybody may answer in the chat. Only then are there buttons, rows and requests.
pub fn on(ctx: &Ctx) -> bool {
    ctx.config.notify.telegram.as_ref().is_some_and(|t| !t.deciders.is_empty())
}

/// 128 random bits. Fails if the system has none; then there are no buttons.
fn nonce() -> Result<String> {
    let mut bytes = [0_u8; 16];
    let got = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    anyhow::ensure!(got == bytes.len(), "the system gave {got} random bytes of {}", bytes.len());
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// The stored form of a nonce.
pub fn hash(nonce: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(nonce.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

/// The wait that an alert asks about.
fn waiting_of(kind: AlertKind) -> Option<Waiting> {
    let asks =
        [(AlertKind::ApprovalWanted, Waiting::Approval), (AlertKind::ConfirmDeployWanted, Waiting::ConfirmDeploy)];
    asks.into_iter().find(|(asking, _)| *asking == kind).map(|(_, waiting)| waiting)
}

/// Whether an alert asks about what the task waits for now.
pub fn asks(kind: AlertKind, task: &Task) -> bool {
    waiting_of(kind).is_some_and(|waiting| task.waiting_for == Some(waiting))
}

/// Sends an alert to the chat, with buttons if it asks about a wait that is still open.
pub fn alert(
    ctx: &mut Ctx,
    sink: &dyn Notifier,
    row: &OutboxRow,
    task: Option<&Task>,
    message: &AlertMessage<'_>,
    deadline: Instant,
) -> Result<Outcome> {
    let asked = match (waiting_of(message.kind).filter(|_| on(ctx)), task) {
        (Some(waiting), Some(task)) => begin_wait(ctx, row, task, (message.kind, waiting), message.text())?,
        _ => None,
    };
    let Some((id, keys)) = asked else { return Ok(sink.alert(message, deadline)) };
    let out = sink.alert(&AlertMessage { buttons: &keys, ..*message }, deadline);
    settle(ctx, id, &out)?;
    Ok(out)
}

/// A message that is about to be sent: its row, and its buttons.
type Begun = (i64, Vec<Vec<Button>>);

/// Records the question before it is sent, so that every button press can be matched.
fn begin_wait(
    ctx: &mut Ctx,
    row: &OutboxRow,
    task: &Task,
    (kind, waiting): (AlertKind, Waiting),
    text: &Card,
) -> Result<Option<Begun>> {
    let cause = cause_key(kind, Cause::Task(task.id), task.wait_no);
    let this = row.key == cause || row.key.starts_with(&format!("{cause}/"));
    let asks = task.waiting_for == Some(waiting) && task.stop_requested_at.is_none();
    if this && asks { begin(ctx, task, AskKind::Wait, waiting, text) } else { Ok(None) }
}

pub(super) fn begin(ctx: &mut Ctx, task: &Task, kind: AskKind, waiting: Waiting, text: &Card) -> Result<Option<Begun>> {
    let nonce = match nonce() {
        Ok(nonce) => nonce,
        Err(e) => {
            tracing::warn!(task = %task.key, "sent without buttons: {e:#}");
            return Ok(None);
        }
    };
    let (locale, at, id) = (ctx.config.notify.locale, ctx.now().stamp.wall_ms, task.id);
    let button = |verb| Button { text: render::chat::button(locale, verb), data: data(&nonce, verb) };
    let rows = buttons(kind, waiting, ctx.config.stop.status_enabled);
    let keys = rows.into_iter().map(|row| row.into_iter().map(button).collect()).collect();
    let hash = hash(&nonce);
    let new = NewAsk { kind, nonce_hash: Some(&hash), waiting, user: None, message: None, text };
    let ask = ctx.store.write(|tx| {
        // The wait may have ended since the task was read.
        let now = tx.task(id)?;
        let same = (now.waiting_for, now.wait_no, now.epoch) == (Some(waiting), task.wait_no, task.epoch);
        if same { tx.add_ask(&now, &new, at).map(Some) } else { Ok(None) }
    })?;
    Ok(ask.map(|ask| (ask, keys)))
}

/// Records the message id, or deletes the row if the message was certainly not sent.
pub(super) fn settle(ctx: &mut Ctx, ask: i64, out: &Outcome) -> Result<()> {
    let chat = out.sent.and_then(|s| Some((s.chat?, s.message_id)));
    ctx.store.write(|tx| match (chat, &out.delivered) {
        (Some((chat, message)), _) => tx.ask_sent(ask, chat, message),
        // It may have been sent, or was sent without an id: its first button press gives the id.
        (None, Delivered::Yes | Delivered::Unknown { .. }) => Ok(()),
        (None, Delivered::Throttled { .. } | Delivered::NotNow { .. } | Delivered::Refused { .. }) => tx.drop_ask(ask),
    })?;
    Ok(())
}

/// Queues a chat action, once per cause.
pub fn post(tx: &Tx<'_>, task: Option<TaskId>, cause: &str, act: &ChatAct, at: i64) -> Result<(), StoreError> {
    let payload = serde_json::to_value(act).unwrap_or_default();
    super::record::post(tx, &NewOutbox { key: format!("chat/{cause}"), task_id: task, sink: Sink::Chat, payload }, at)
        .map(drop)
}

/// Closes a question: its message loses the buttons and shows who decided.
pub fn close(tx: &Tx<'_>, ask: &Ask, state: AskState, decided: &Decided, at: i64) -> Result<(), StoreError> {
    if tx.end_ask(ask.id, state, decided)? {
        show_closed(tx, ask, at)?;
    }
    Ok(())
}

/// The service does not allow editing a question that asks for a reply.
pub fn show_closed(tx: &Tx<'_>, ask: &Ask, at: i64) -> Result<(), StoreError> {
    if ask.kind == AskKind::Reason || ask.message_id.is_none() {
        return Ok(());
    }
    post(tx, Some(ask.task), &format!("close/{}", ask.id), &ChatAct::Close { ask: ask.id }, at)
}

/// Closes every question of a task whose wait is over. `answered`: the one that was answered.
pub fn end_all(tx: &Tx<'_>, task: TaskId, answered: Option<i64>, decided: &Decided, at: i64) -> Result<(), StoreError> {
    let now = tx.task(task)?;
    for ask in tx.open_asks()?.iter().filter(|a| a.task == task && is_over(a, Some(&now))) {
        let state = if answered == Some(ask.id) { AskState::Used } else { AskState::Ended };
        close(tx, ask, state, decided, at)?;
    }
    Ok(())
}

/// Closes the questions whose wait ended elsewhere: on the board, by a command or in another step.
pub fn sweep(ctx: &mut Ctx) -> Result<()> {
    let over = |tx: &Tx<'_>| -> Result<Vec<Ask>, StoreError> {
        let mut over = Vec::new();
        for ask in tx.open_asks()? {
            if is_over(&ask, Some(&tx.task(ask.task)?)) {
                over.push(ask);
            }
        }
        Ok(over)
    };
    if ctx.dry || ctx.store.read(over)?.is_empty() {
        return Ok(());
    }
    let at = ctx.now().stamp.wall_ms;
    ctx.store.write(|tx| {
        for ask in over(tx)? {
            let end = tx.wait_end(ask.task, ask.asked_at)?;
            close(tx, &ask, AskState::Ended, &ended(end.as_ref(), at), at)?;
        }
        Ok::<_, StoreError>(())
    })?;
    Ok(())
}

/// How a wait ended, from the event that ended it.
fn ended(end: Option<&WaitEnd>, at: i64) -> Decided {
    let Some(end) = end else { return Decided { what: Ending::Over, by: None, at } };
    let detail: serde_json::Value = serde_json::from_str(&end.detail).unwrap_or_default();
    let by = serde_json::from_value::<By>(detail["by"].clone()).ok().map(|by| by.to_string());
    let what = match end.event.as_str() {
        "released" if detail["for"] == json!(Waiting::Approval) => Ending::Approved,
        "released" => Ending::Confirmed,
        "rejected" => Ending::Rejected,
        "stop_requested" => Ending::Stopped,
        _ => Ending::Over,
    };
    Decided { what, by, at: end.at }
}

/// The group became a supergroup: its old messages can't be reached, so open questions are asked again in the new one.
pub fn moved(tx: &Tx<'_>, to: i64, at: i64) -> Result<(), StoreError> {
    for ask in tx.open_asks()?.into_iter().filter(|a| a.chat.is_some_and(|chat| chat != to)) {
        let over = Decided { what: Ending::Over, by: None, at };
        if tx.end_ask(ask.id, AskState::Ended, &over)? && ask.kind == AskKind::Wait {
            let task = tx.task(ask.task)?;
            again(tx, &task, ask.waiting, &format!("in{to}"), at)?;
        }
    }
    Ok(())
}

/// Asks the same question again, under its own cause.
pub fn again(tx: &Tx<'_>, task: &Task, waiting: Waiting, cause: &str, at: i64) -> Result<(), StoreError> {
    let kind = match waiting {
        Waiting::Approval => AlertKind::ApprovalWanted,
        Waiting::ConfirmDeploy => AlertKind::ConfirmDeployWanted,
    };
    let key = format!("{}/{cause}", cause_key(kind, Cause::Task(task.id), task.wait_no));
    let payload = json!({"kind": kind, "key": task.key, "title": task.title, "detail": ""});
    super::record::post(tx, &NewOutbox { key, task_id: Some(task.id), sink: Sink::Alert, payload }, at).map(drop)
}
