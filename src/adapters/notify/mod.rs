//! Where cards and alerts go (NTF-1 to NTF-3): Telegram, files, a command, a webhook, each behind [`Notifier`].
//!
//! The engine's outbox loop calls [`Notifier::card`] and [`Notifier::alert`]; what it then does with the
//! row is `decide::notify::after` on [`Outcome::delivered`]. Waiting between tries is the engine's, on disk: nothing
//! here sleeps, and no call runs past the deadline it is given.

mod delivery;
mod sinks;
pub mod telegram;
mod updates;

pub use delivery::{answer, ask, close};
pub use sinks::{Files, Program, Webhook};
pub use telegram::{Extra, Telegram, TelegramConfig};

use crate::model::card::{AlertKind, Card, Delivered};
use crate::model::card_steps::{CardMode, Shown, StoredCard};
use crate::model::chat::Button;
use crate::model::ids::Key;
use std::time::Instant;

/// A message's number in its chat.
pub type MessageId = i64;

/// Where a new message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The chat's number, if the reply contains it.
    pub chat: Option<i64>,
    pub message_id: MessageId,
}

/// A card to show.
#[derive(Debug, Clone, Copy)]
pub struct CardMessage<'a> {
    /// The outbox key.
    pub id: &'a str,
    pub key: &'a Key,
    pub shown: &'a Shown,
    /// From `render::card::card`.
    pub card: &'a Card,
    /// From `render::card::placeholder`.
    pub placeholder: &'a Card,
    /// From `render::card::retired`.
    pub retired: &'a Card,
}

/// An alert to send.
#[derive(Debug, Clone, Copy)]
pub struct AlertMessage<'a> {
    /// The outbox key: the cause.
    pub id: &'a str,
    pub kind: AlertKind,
    /// The work item's key, where there is one.
    pub key: Option<&'a str>,
    /// From `render::alert::alert`, `repeated: false`.
    pub first: &'a Card,
    /// The same with `repeated: true`: it says that it may be a repeat (RULE-41).
    pub repeat: &'a Card,
    /// An earlier attempt ended without an answer (the row's `unknown_outcome`).
    pub unknown_before: bool,
    /// Buttons that answer it, where the sink has them (ORD-5).
    pub buttons: &'a [Vec<Button>],
}

impl AlertMessage<'_> {
    /// The text that applies.
    pub fn text(&self) -> &Card {
        if self.unknown_before { self.repeat } else { self.first }
    }
}

/// How a delivery ended, and what the engine has to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub delivered: Delivered,
    /// Sends with an unknown outcome: at most this many messages too many (NTF-1). To be counted.
    pub strays: u32,
    /// The sink accepts nothing at all (wrong token, blocked, no such chat): no further row is worth an attempt until
    /// its configuration changes. To be alerted through other sinks.
    pub sink_off: Option<String>,
    /// The group became a supergroup: store this as the chat from now on. Message ids of the old chat mean nothing in
    /// the new one: forget every stored card's, except this task's if it was recorded since.
    pub migrated_to: Option<i64>,
    /// Mistakes of `orch` (markup that did not parse, a text too long), to be logged.
    pub bugs: Vec<String>,
    /// The new message, if one was sent and has a number.
    pub sent: Option<Sent>,
}

impl Outcome {
    /// One of which there is nothing else to say.
    pub fn new(delivered: Delivered) -> Self {
        Self { delivered, strays: 0, sink_off: None, migrated_to: None, bugs: vec![], sent: None }
    }
}

/// Why the Bot API did not do what was asked (services.md §4). No text contains the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotifyError {
    /// The message to edit is gone, or can't be edited any more: send it again.
    #[error("the message can't be edited: {why}")]
    EditGone { why: String },
    /// Our markup is wrong: resend as plain text once.
    #[error("the markup was refused: {why}")]
    Unparsable { why: String },
    #[error("the text is too long: {why}")]
    TooLong { why: String },
    /// Another request that the service rejects as invalid.
    #[error("the request was refused: {why}")]
    Invalid { why: String },
    /// The chat is unavailable to us (blocked, kicked, no such chat, no right to write): the sink is off.
    #[error("the chat accepts no messages: {why}; check notify.telegram.chat_id and the bot's membership")]
    Permanent { why: String },
    /// The address answers, but not as a Bot API server: the sink is off.
    #[error("this is not a Bot API address: {why}; check notify.telegram.api_base")]
    WrongAddress { why: String },
    /// The token is wrong or malformed: the sink is off.
    #[error("the token was refused: {why}; check notify.telegram.token")]
    WrongToken { why: String },
    /// The group has become this supergroup.
    #[error("the group has become the supergroup {new_chat_id}; set notify.telegram.chat_id to it")]
    Migrated { new_chat_id: i64 },
    /// Another program reads this bot's updates, or a webhook gets them.
    #[error("{why}; one bot serves one installation: another program or a webhook gets this bot's updates")]
    Conflict { why: String },
    #[error("asked to wait {retry_after_s} s")]
    Throttled { retry_after_s: u64 },
    /// A send that may or may not have arrived. Never an edit or a deletion: those can be repeated.
    #[error("whether it arrived is unknown: {why}")]
    UnknownOutcome { why: String },
    /// Nothing arrived, or a repeat does no harm.
    #[error("not now: {why}")]
    Transient { why: String },
}

/// Keeps what became of a card; it must be durable when this returns.
pub type Record<'r> = dyn FnMut(&StoredCard) -> anyhow::Result<()> + 'r;

/// A sink of cards and alerts. One that has no messages to edit brings `show` and `alert`, and nothing else.
pub trait Notifier: std::fmt::Debug {
    /// Shows a card in the place of what it showed of the task before, if it showed anything.
    fn show(&self, message: &CardMessage<'_>, deadline: Instant) -> Outcome;

    /// Sends an alert, at least once over all attempts. An attempt after an unknown outcome says so in its text.
    fn alert(&self, message: &AlertMessage<'_>, deadline: Instant) -> Outcome;

    /// Whether a card that was shown is shown again: only where that costs nobody's attention.
    fn shows_again(&self) -> bool {
        false
    }

    /// Brings a task's card up to date. `stored` is what the last delivery recorded; `now_ms` is wall time.
    /// `record` is called with a placeholder's id before anything else is done to that message, and again when it shows the
    /// card. Fails only with `record`'s own error; a placeholder that could not be recorded is taken back.
    fn card(
        &self,
        stored: Option<&StoredCard>,
        _mode: CardMode,
        message: &CardMessage<'_>,
        now_ms: i64,
        deadline: Instant,
        record: &mut Record<'_>,
    ) -> anyhow::Result<Outcome> {
        let is_shown = stored.and_then(|s| s.shown.as_ref()) == Some(message.shown);
        if is_shown && !self.shows_again() {
            return Ok(Outcome::new(Delivered::Yes));
        }
        let made = self.show(message, deadline);
        if made.delivered == Delivered::Yes && !is_shown {
            record(&StoredCard { message_id: 0, sent_at: now_ms, shown: Some(message.shown.clone()) })?;
        }
        Ok(made)
    }

    /// The chat in which its messages are answered; `None`: they are not.
    fn chat(&self) -> Option<&Telegram> {
        None
    }
}
