//! Performs the chat actions of the outbox: answers, closed questions, and questions that follow one.

use super::asks::{begin, on, settle};
use super::{Ctx, notices};
use crate::adapters::notify::{self, Extra, Outcome, Telegram};
use crate::adapters::store::{NewAsk, OutboxRow};
use crate::decide::chat::is_over;
use crate::model::card::Delivered;
use crate::model::chat::{Ask, AskKind, ChatAct};
use crate::model::task::Task;
use crate::render;
use anyhow::{Context, Result};
use std::time::Instant;

/// Performs one chat action. Without a chat that accepts answers there is nothing to do.
pub fn deliver(ctx: &mut Ctx, row: &OutboxRow, task: Option<&Task>, deadline: Instant) -> Result<Delivered> {
    let act: ChatAct = match serde_json::from_value(row.payload.clone()) {
        Ok(act) => act,
        Err(e) => return Ok(Delivered::Refused { why: format!("the row can't be read: {e}") }),
    };
    let place = match notices::chat_place(ctx)? {
        Some(place) if on(ctx) => place,
        Some(_) | None => return Ok(Delivered::Yes),
    };
    if let Some(barred) = notices::barred(ctx, &place)? {
        return Ok(barred);
    }
    let to = match &place.open {
        Ok(sink) => sink.chat(),
        Err(why) => return Ok(Delivered::Refused { why: why.clone() }),
    };
    let Some(to) = to else { return Ok(Delivered::Yes) };
    let out = match act {
        ChatAct::Answer { callback, text, alert } => notify::answer(to, &callback, &text, alert, deadline),
        ChatAct::Reply { chat, message, text } => {
            let extra = Extra { reply_to: message, ..Extra::default() };
            notify::ask(&to.in_chat(chat), &render::chat::line(&text), true, &extra, deadline)
        }
        ChatAct::Close { ask } => match shut(ctx, to, ask, deadline)? {
            Some(out) => out,
            None => return Ok(Delivered::Yes),
        },
        ChatAct::Reason { ask, user, name } => match ask_reason(ctx, to, (ask, user, &name), deadline)? {
            Some(out) => out,
            None => return Ok(Delivered::Yes),
        },
        ChatAct::Sure { ask } => match ask_sure(ctx, to, ask, deadline)? {
            Some(out) => out,
            None => return Ok(Delivered::Yes),
        },
    };
    notices::keep(ctx, &place, row, task, &out)?;
    Ok(out.delivered)
}

fn shut(ctx: &mut Ctx, to: &Telegram, ask: i64, deadline: Instant) -> Result<Option<Outcome>> {
    let Some(ask) = ctx.store.read(|tx| tx.ask(ask))? else { return Ok(None) };
    let (Some(chat), Some(message), Some(decided)) = (ask.chat, ask.message_id, &ask.decided) else { return Ok(None) };
    let text = render::chat::closed(&ask.text, decided, ctx.config.notify.locale);
    Ok(Some(notify::close(&to.in_chat(chat), message, &text, deadline)))
}

/// The question that a follow-up belongs to, while its wait is open.
fn going_on(ctx: &mut Ctx, ask: i64) -> Result<Option<(Ask, Task)>> {
    let Some(ask) = ctx.store.read(|tx| tx.ask(ask))? else { return Ok(None) };
    let task = ctx.task(ask.task)?;
    Ok((!is_over(&ask, Some(&task))).then_some((ask, task)))
}

fn ask_reason(
    ctx: &mut Ctx,
    to: &Telegram,
    (ask, user, name): (i64, i64, &str),
    deadline: Instant,
) -> Result<Option<Outcome>> {
    let Some((ask, task)) = going_on(ctx, ask)? else { return Ok(None) };
    let text = render::chat::why(ctx.config.notify.locale, task.key.as_str(), user, name);
    let extra = Extra { force_reply: true, reply_to: ask.message_id, ..Extra::default() };
    let out = notify::ask(to, &text, false, &extra, deadline);
    if let Some(sent) = out.sent {
        let chat = sent.chat.or(ask.chat).context("the service does not say in which chat the question is")?;
        let message = Some((chat, sent.message_id));
        let (kind, waiting) = (AskKind::Reason, ask.waiting);
        let new = NewAsk { kind, nonce_hash: None, waiting, user: Some(user), message, text: &text };
        let at = ctx.now().stamp.wall_ms;
        ctx.store.write(|tx| tx.add_ask(&task, &new, at))?;
    }
    Ok(Some(out))
}

fn ask_sure(ctx: &mut Ctx, to: &Telegram, ask: i64, deadline: Instant) -> Result<Option<Outcome>> {
    let Some((ask, task)) = going_on(ctx, ask)? else { return Ok(None) };
    let text = render::chat::sure(ctx.config.notify.locale, task.key.as_str(), &task.title);
    let Some((id, keys)) = begin(ctx, &task, AskKind::Sure, ask.waiting, &text)? else { return Ok(None) };
    let extra = Extra { buttons: &keys, reply_to: ask.message_id, ..Extra::default() };
    let out = notify::ask(to, &text, false, &extra, deadline);
    settle(ctx, id, &out)?;
    Ok(Some(out))
}
