//! Where cards and alerts go, and who answers in a chat.

use super::secret::SecretRef;
use super::types::{CommandLine, TrackerMode};
use crate::model::card::Locale;
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Notify {
    pub locale: Locale,
    /// Without any sink the card is a file of the state directory.
    pub telegram: Option<Telegram>,
    pub command: Option<CommandLine>,
    pub webhook: Option<Webhook>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Telegram {
    pub api_base: String,
    pub token: SecretRef,
    pub chat_id: String,
    /// The forum topic (`message_thread_id`); none: the chat itself.
    pub topic: Option<i64>,
    pub mode: TrackerMode,
    /// Numbers of the users whose answers count in the chat (ORD-5); empty: no buttons, and nothing is read.
    pub deciders: Vec<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Webhook {
    pub url: String,
    /// Sent as `Authorization: Bearer`.
    pub token: Option<SecretRef>,
    pub timeout_s: u64,
}
