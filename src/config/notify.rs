//! Where cards and alerts go, and who may answer in a chat.

use super::error::ConfigError;
use super::parts::{Place, http, missing, text};
use super::secret::{EnvValue, SecretRef};
use super::settings::RawNotify;
use super::types::{CommandLine, TrackerMode};
use super::vars::Vars;
use crate::model::card::Locale;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Notify {
    pub locale: Locale,
    /// Without any sink, the card is a file in the state directory.
    pub telegram: Option<Telegram>,
    pub command: Option<CommandLine>,
    pub webhook: Option<Webhook>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Telegram {
    pub api_base: String,
    pub token: SecretRef,
    pub chat_id: String,
    /// The forum topic (`message_thread_id`); `None`: the chat itself.
    pub topic: Option<i64>,
    pub mode: TrackerMode,
    /// Numbers of the users whose answers count in the chat (ORD-5); if empty, there are no buttons and nothing is
    /// read.
    pub deciders: Vec<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Webhook {
    pub url: String,
    /// Sent as `Authorization: Bearer`.
    pub token: Option<SecretRef>,
    pub timeout_s: u64,
}

/// A topic's number; zero is none.
fn topic(number: u64) -> Result<Option<i64>, ConfigError> {
    let known = i64::try_from(number).map_err(|_| {
        ConfigError::new(format!("notify.telegram.topic is {number}, expected a topic's number, or 0 for none"))
    })?;
    Ok(Some(known).filter(|n| *n > 0))
}

/// Accounts of the service itself, which stand for anonymous administrators, channels and forwards.
const NOBODY: [i64; 3] = [777_000, 1_087_968_824, 136_817_688];

/// Users who decide in the chat (ORD-5).
fn deciders(users: Vec<i64>) -> Result<Vec<i64>, ConfigError> {
    if let Some(user) = users.iter().find(|u| **u <= 0 || NOBODY.contains(u)) {
        return Err(ConfigError::new(format!("notify.telegram.deciders has {user}, expected the number of a person"))
            .hint("groups and channels have negative numbers; docs/connecting-telegram.md says how to find a user's number"));
    }
    Ok(users)
}

impl Notify {
    /// The section, checked.
    pub(super) fn read(raw: RawNotify, place: &Place<'_>, vars: &Vars<'_>) -> Result<Self, ConfigError> {
        let locale = raw.effective(vars)?.locale;
        let telegram = match raw.telegram {
            None => None,
            Some(raw) => {
                let top = raw.effective(vars)?;
                let at = "notify.telegram";
                let token = raw.token.ok_or_else(|| missing("notify.telegram.token", "{env: NAME} or {file: PATH}"))?;
                let chat_id = text(Some(&top.chat_id.0));
                Some(Telegram {
                    api_base: http(&top.api_base, "notify.telegram.api_base")?,
                    token: place.secret(&token, &format!("{at}.token"))?,
                    chat_id: chat_id.ok_or_else(|| missing("notify.telegram.chat_id", "a chat's number or @name"))?,
                    topic: topic(top.topic)?,
                    mode: top.mode,
                    deciders: deciders(raw.deciders.unwrap_or_default())?,
                })
            }
        };
        let webhook = match raw.webhook {
            None => None,
            Some(raw) => {
                let top = raw.effective(vars)?;
                if top.timeout_s == 0 {
                    return Err(ConfigError::new("notify.webhook.timeout_s is 0, expected 1 or more"));
                }
                Some(Webhook {
                    url: http(&top.url, "notify.webhook.url")?,
                    token: raw.token.map(|t| place.secret(&t, "notify.webhook.token")).transpose()?,
                    timeout_s: top.timeout_s,
                })
            }
        };
        let command = match raw.command {
            None => None,
            Some(raw) => {
                let mut line = place.command(&raw, 10.0, "notify.command")?;
                if let Some(program) = line.command.first_mut() {
                    *program = place.program(program, "notify.command")?;
                }
                Some(line)
            }
        };
        Ok(Self { locale, telegram, command, webhook })
    }

    /// Its references to secrets, each with its path and none of an `env`, which [`Notify::envs`] gives.
    pub fn secrets(&self) -> Vec<(&'static str, &SecretRef)> {
        let telegram = self.telegram.as_ref().map(|t| ("notify.telegram.token", &t.token));
        let webhook = self.webhook.as_ref().and_then(|w| Some(("notify.webhook.token", w.token.as_ref()?)));
        telegram.into_iter().chain(webhook).collect()
    }

    /// The environments of its programs, each with the path it is below.
    pub fn envs(&self) -> Vec<(&'static str, &BTreeMap<String, EnvValue>)> {
        self.command.iter().map(|command| ("notify.command", &command.env)).collect()
    }
}
