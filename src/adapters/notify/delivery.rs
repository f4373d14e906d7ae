//! Delivers a card or an alert to a chat: `model::card_steps` gives the calls, this makes them (RULE-41).

use super::telegram::{Deletion, Extra, Telegram, Text};
use super::{AlertMessage, CardMessage, MessageId, Notifier, NotifyError, Outcome, Record, Sent};
use crate::model::card::{Card, Delivered};
use crate::model::card_steps::{CardMode, CardStep, StoredCard, card_steps};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// With less time left, no request is started: a send that is cut short would have an unknown outcome.
const LEAST: Duration = Duration::from_secs(1);

/// A delivery in progress.
struct Delivery {
    to: Telegram,
    deadline: Instant,
    out: Outcome,
}

impl Delivery {
    fn new(to: &Telegram, deadline: Instant) -> Self {
        Self { to: to.clone(), deadline, out: Outcome::new(Delivered::Yes) }
    }

    /// The chat, limited to the time that is left.
    fn chat(&self) -> Result<Telegram, NotifyError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left < LEAST {
            return Err(NotifyError::Transient { why: "no time left in this step".to_owned() });
        }
        Ok(self.to.within(left))
    }

    /// Follows a migration, once. Returns whether it did.
    fn moved(&mut self, new_chat_id: i64) -> bool {
        if self.out.migrated_to.is_some() {
            return false;
        }
        self.to = self.to.in_chat(new_chat_id);
        self.out.migrated_to = Some(new_chat_id);
        true
    }

    fn bug(&mut self, error: &NotifyError) {
        self.out.bugs.push(error.to_string());
    }

    fn send_text(&mut self, text: Text<'_>, silent: bool, extra: &Extra<'_>) -> Result<Sent, NotifyError> {
        match self.chat()?.send_with(text, silent, extra) {
            Err(NotifyError::Migrated { new_chat_id }) if self.moved(new_chat_id) => {
                self.chat()?.send_with(text, silent, extra)
            }
            other => other,
        }
    }

    /// Sends; as plain text if the markup is refused.
    fn send_with(&mut self, card: &Card, silent: bool, extra: &Extra<'_>) -> Result<Sent, NotifyError> {
        match self.send_text(Text::Html(&card.html), silent, extra) {
            Err(e @ NotifyError::Unparsable { .. }) => {
                self.bug(&e);
                self.send_text(Text::Plain(&card.plain), silent, extra)
            }
            other => other,
        }
    }

    fn send(&mut self, card: &Card, silent: bool) -> Result<MessageId, NotifyError> {
        self.send_with(card, silent, &Extra::default()).map(|sent| sent.message_id)
    }

    fn edit_text(&mut self, id: MessageId, text: Text<'_>) -> Result<(), NotifyError> {
        match self.chat()?.edit(id, text) {
            // The id means nothing in the new chat, or belongs to another message: never use it there.
            Err(e @ NotifyError::Migrated { new_chat_id }) if self.moved(new_chat_id) => {
                Err(NotifyError::EditGone { why: e.to_string() })
            }
            other => other,
        }
    }

    /// Edits; as plain text if the markup is refused.
    fn edit(&mut self, id: MessageId, card: &Card) -> Result<(), NotifyError> {
        match self.edit_text(id, Text::Html(&card.html)) {
            Err(e @ NotifyError::Unparsable { .. }) => {
                self.bug(&e);
                self.edit_text(id, Text::Plain(&card.plain))
            }
            other => other,
        }
    }

    fn delete(&mut self, id: MessageId) -> Result<Deletion, NotifyError> {
        match self.chat()?.delete(id) {
            Err(NotifyError::Migrated { new_chat_id }) if self.moved(new_chat_id) => Ok(Deletion::Gone),
            other => other,
        }
    }

    /// The outcome for this error.
    fn end(mut self, error: NotifyError) -> Outcome {
        let why = error.to_string();
        self.out.delivered = match error {
            NotifyError::Throttled { retry_after_s } => Delivered::Throttled { retry_after_s },
            NotifyError::Transient { why } | NotifyError::EditGone { why } => Delivered::NotNow { why },
            NotifyError::Migrated { .. } => Delivered::NotNow { why },
            NotifyError::UnknownOutcome { why } => {
                self.out.strays += 1;
                Delivered::Unknown { why }
            }
            NotifyError::Conflict { .. } => Delivered::NotNow { why },
            NotifyError::Permanent { .. } | NotifyError::WrongAddress { .. } | NotifyError::WrongToken { .. } => {
                self.out.sink_off = Some(why.clone());
                Delivered::Refused { why }
            }
            NotifyError::Unparsable { .. } | NotifyError::TooLong { .. } | NotifyError::Invalid { .. } => {
                self.out.bugs.push(why.clone());
                Delivered::Refused { why }
            }
        };
        self.out
    }
}

/// An error about the old message only, which need not keep the new one from being shown: a bug, recorded.
fn of_the_old_one_only(error: &NotifyError) -> bool {
    matches!(
        error,
        NotifyError::Invalid { .. }
            | NotifyError::TooLong { .. }
            | NotifyError::Unparsable { .. }
            | NotifyError::EditGone { .. }
    )
}

fn card(
    to: &Telegram,
    stored: Option<&StoredCard>,
    mode: CardMode,
    message: &CardMessage<'_>,
    now_ms: i64,
    deadline: Instant,
    record: &mut Record<'_>,
) -> anyhow::Result<Outcome> {
    let mut run = Delivery::new(to, deadline);
    // A sink without message numbers recorded zero.
    let stored = stored.filter(|s| s.message_id > 0);
    let mut steps: VecDeque<CardStep> = card_steps(stored, message.shown, mode, now_ms).into();
    let mut current = stored.cloned();
    let mut again_later = false;
    while let Some(step) = steps.pop_front() {
        let done = match step {
            CardStep::Delete { message_id } => match run.delete(message_id) {
                Ok(Deletion::Deleted | Deletion::Gone) => Ok(()),
                Ok(Deletion::Kept) => {
                    steps.push_front(CardStep::Retire { message_id });
                    Ok(())
                }
                Err(e) => Err(e),
            },
            CardStep::Retire { message_id } => run.edit(message_id, message.retired),
            CardStep::Placeholder => match run.send(message.placeholder, true) {
                Ok(message_id) => {
                    let new = StoredCard { message_id, sent_at: now_ms, shown: None };
                    if let Err(e) = record(&new) {
                        // Nothing would ever record it.
                        let _ = run.delete(message_id);
                        return Err(e);
                    }
                    current = Some(new);
                    Ok(())
                }
                Err(e) => Err(e),
            },
            CardStep::Fill => match current.take() {
                None => {
                    steps.extend([CardStep::Placeholder, CardStep::Fill]);
                    Ok(())
                }
                Some(mut known) => match run.edit(known.message_id, message.card) {
                    Ok(()) => {
                        known.shown = Some(message.shown.clone());
                        record(&known)?;
                        Ok(())
                    }
                    Err(NotifyError::EditGone { .. }) if !again_later => {
                        again_later = true;
                        if run.out.migrated_to.is_none() {
                            // It may still exist and merely be too old to edit.
                            steps.push_back(CardStep::Delete { message_id: known.message_id });
                        }
                        steps.extend([CardStep::Placeholder, CardStep::Fill]);
                        Ok(())
                    }
                    Err(e) => Err(e),
                },
            },
        };
        match (step, done) {
            (_, Ok(())) => {}
            (CardStep::Delete { .. } | CardStep::Retire { .. }, Err(e)) if of_the_old_one_only(&e) => {
                if !matches!(e, NotifyError::EditGone { .. }) {
                    run.bug(&e);
                }
            }
            (_, Err(e)) => return Ok(run.end(e)),
        }
    }
    Ok(run.out)
}

impl Notifier for Telegram {
    /// A card is a message that is edited or replaced: see `card`.
    fn show(&self, message: &CardMessage<'_>, deadline: Instant) -> Outcome {
        ask(self, message.card, true, &Extra::default(), deadline)
    }

    fn alert(&self, message: &AlertMessage<'_>, deadline: Instant) -> Outcome {
        let extra = Extra { buttons: message.buttons, ..Extra::default() };
        ask(self, message.text(), !message.kind.asks_a_person(), &extra, deadline)
    }

    fn card(
        &self,
        stored: Option<&StoredCard>,
        mode: CardMode,
        message: &CardMessage<'_>,
        now_ms: i64,
        deadline: Instant,
        record: &mut Record<'_>,
    ) -> anyhow::Result<Outcome> {
        card(self, stored, mode, message, now_ms, deadline, record)
    }

    fn chat(&self) -> Option<&Telegram> {
        Some(self)
    }
}

/// Sends a message; [`Outcome::sent`] says where it is. If the reply is lost, the outcome is unknown.
pub fn ask(to: &Telegram, text: &Card, silent: bool, extra: &Extra<'_>, deadline: Instant) -> Outcome {
    let mut run = Delivery::new(to, deadline);
    match run.send_with(text, silent, extra) {
        Ok(sent) => Outcome { sent: Some(sent), ..run.out },
        Err(e) => run.end(e),
    }
}

/// Shows a message with this text and without buttons. If it is gone, or too old to edit, nothing more is done.
pub fn close(to: &Telegram, message: MessageId, text: &Card, deadline: Instant) -> Outcome {
    let mut run = Delivery::new(to, deadline);
    match run.edit(message, text) {
        Ok(()) | Err(NotifyError::EditGone { .. }) => run.out,
        Err(e) => run.end(e),
    }
}

/// Answers the press of a button. If it is too old to answer, nothing more is done.
pub fn answer(to: &Telegram, callback: &str, text: &str, alert: bool, deadline: Instant) -> Outcome {
    let run = Delivery::new(to, deadline);
    match run.chat().and_then(|chat| chat.answer_press(callback, text, alert)) {
        Ok(()) | Err(NotifyError::Invalid { .. }) => run.out,
        Err(e) => run.end(e),
    }
}
