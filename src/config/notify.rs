//! Where cards and alerts go, and who may answer in a chat.

use super::error::ConfigError;
use super::parts::missing;
use super::secret::{EnvValue, SecretRef};
use super::settings::Notify;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use std::collections::BTreeMap;

/// A topic's number; zero is none.
pub(super) fn topic<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    let number = u64::deserialize(from)?;
    let known = i64::try_from(number);
    let known =
        known.map_err(|_| de::Error::custom(format!("is {number}, expected a topic's number, or 0 for none")))?;
    Ok(Some(known).filter(|n| *n > 0))
}

/// Accounts of the service itself, which stand for anonymous administrators, channels and forwards.
const NOBODY: [i64; 3] = [777_000, 1_087_968_824, 136_817_688];

/// Numbers of the users whose answers count in the chat (ORD-5); if empty, there are no buttons and nothing is read.
pub(super) fn deciders<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<i64>, D::Error> {
    let users = Vec::<i64>::deserialize(from)?;
    match users.iter().find(|user| **user <= 0 || NOBODY.contains(user)) {
        Some(user) => Err(de::Error::custom(format!(
            "has {user}, expected the number of a person\ngroups and channels have negative numbers; docs/connecting-telegram.md says how to find a user's number"
        ))),
        None => Ok(users),
    }
}

impl Notify {
    /// What every sink needs.
    pub(super) fn sound(&mut self) -> Result<(), ConfigError> {
        if let Some(telegram) = &mut self.telegram {
            if telegram.token == SecretRef::default() {
                return Err(missing("notify.telegram.token", "{env: NAME} or {file: PATH}"));
            }
            telegram.chat_id = telegram.chat_id.trim().to_owned();
            if telegram.chat_id.is_empty() {
                return Err(missing("notify.telegram.chat_id", "a chat's number or @name"));
            }
        }
        match &self.webhook {
            Some(webhook) if webhook.url.is_empty() => {
                Err(missing("notify.webhook.url", "http:// or https:// and a host"))
            }
            _ => Ok(()),
        }
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
