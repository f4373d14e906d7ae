//! What people answer in a chat (ORD-5): messages with buttons, the chat's updates, and what is sent there.

use super::card::Card;
use super::ids::{Sha, TaskId};
use super::stage::words;
use super::task::Waiting;
use serde::{Deserialize, Serialize};

words! {
    /// The action of a button; the word is the last part of its data.
    Verb {
        Approve = "approve",
        Deploy = "deploy",
        Reject = "reject",
        Stop = "stop",
        /// For the second question before a stop.
        Yes = "yes",
        No = "no",
    }
}

words! {
    /// The question of one of our messages.
    AskKind {
        /// Whether a wait is released, rejected or stopped.
        Wait = "wait",
        /// Whether a stop is really meant.
        Sure = "sure",
        /// Why it is rejected: the reply to this very message says it.
        Reason = "reason",
    }
}

words! {
    /// Whether a message still accepts an answer.
    AskState {
        Open = "open",
        /// It was answered here.
        Used = "used",
        /// The wait ended another way.
        Ended = "ended",
    }
}

/// A message that accepts an answer, with the wait that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub id: i64,
    pub kind: AskKind,
    pub task: TaskId,
    pub attempt: i64,
    pub epoch: i64,
    pub wait_no: i64,
    pub waiting: Waiting,
    /// The branch's head when it was asked.
    pub head: Option<Sha>,
    /// The only user who may answer it (a reason); `None`: everybody who decides.
    pub user: Option<i64>,
    /// Where it is; `None` until the service said so.
    pub chat: Option<i64>,
    pub message_id: Option<i64>,
    /// What it says, to be shown again without buttons.
    pub text: Card,
    pub state: AskState,
    /// How it ended.
    pub decided: Option<Decided>,
    /// Wall milliseconds.
    pub asked_at: i64,
}

/// How a wait ended, as shown to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    pub what: Ending,
    /// Who, and where; `None` where nobody in particular ended it.
    pub by: Option<String>,
    /// Wall milliseconds.
    pub at: i64,
}

words! {
    /// What ended a wait.
    Ending {
        Approved = "approved",
        Confirmed = "confirmed",
        Rejected = "rejected",
        Stopped = "stopped",
        /// The second question before a stop was answered with no.
        NotStopped = "not_stopped",
        /// The branch has another head: the question is asked again.
        HeadChanged = "head_changed",
        /// Nothing is asked any more.
        Over = "over",
    }
}

/// Who did something in a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    pub id: i64,
    pub is_bot: bool,
    /// The name that the user chose: it may be anything.
    pub name: String,
}

/// A chat as an update names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chat {
    pub id: i64,
    pub username: Option<String>,
}

/// A button was pressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Press {
    /// Identifies the press when it is answered.
    pub callback: String,
    pub from: Sender,
    /// The message with the button; `None` where the service does not say it.
    pub message: Option<(Chat, i64)>,
    pub data: String,
}

/// Somebody wrote something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub from: Sender,
    pub chat: Chat,
    /// Its own number, where the service says it.
    pub id: Option<i64>,
    /// The message that it replies to.
    pub reply_to: Option<i64>,
    pub text: String,
    /// Not the sender's own words: forwarded, sent through another bot, or in the name of a chat or channel (an
    /// anonymous administrator).
    pub borrowed: bool,
}

/// What a chat sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    Press(Press),
    Said(Said),
    /// Nothing that could be an answer.
    Other,
}

/// One update. Its number is applied once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    pub id: i64,
    pub news: News,
}

/// Something to do in the chat, kept in the outbox until it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum ChatAct {
    /// Answers a press; the user who pressed sees the text.
    Answer { callback: String, text: String, alert: bool },
    /// Shows an answered message without its buttons.
    Close { ask: i64 },
    /// Asks one user for the reason of a rejection.
    Reason { ask: i64, user: i64, name: String },
    /// Asks whether a stop is really meant.
    Sure { ask: i64 },
    /// Replies to a message that could not be used as a reason.
    Reply { chat: i64, message: Option<i64>, text: String },
}

/// What the user who pressed, or gave a reason, is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    Done(Verb),
    NotYours,
    NotHere,
    Unknown,
    /// Decided already, or nothing is asked any more.
    Stale(Option<Decided>),
    HeadChanged,
    Busy,
    /// A reason that came too late.
    TooLate,
    /// A reason without a word.
    NoText,
}

/// A button below a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Button {
    pub text: &'static str,
    /// At most 64 bytes.
    pub data: String,
}

/// Characters of a nonce: 128 bits.
const NONCE: usize = 32;

/// A button's data: `o1:<nonce>:<verb>`.
pub fn data(nonce: &str, verb: Verb) -> String {
    format!("o1:{nonce}:{verb}")
}

/// Nonce and verb of a button of ours; `None`: it is not one.
pub fn parse_data(data: &str) -> Option<(&str, Verb)> {
    let (nonce, verb) = data.strip_prefix("o1:")?.split_once(':')?;
    let hex = nonce.len() == NONCE && nonce.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    Some((nonce, Verb::parse(verb)?)).filter(|_| hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_of_a_button_fits_and_is_read_back_and_nothing_else_is() {
        let nonce = "0123456789abcdef0123456789abcdef";
        for verb in Verb::ALL {
            let made = data(nonce, *verb);
            assert!(made.len() <= 64);
            assert_eq!(parse_data(&made), Some((nonce, *verb)));
        }
        let long = "a".repeat(5000);
        for other in [
            "",
            "o1",
            "o1:",
            "o1::approve",
            "o1:0123456789abcdef0123456789abcdef:",
            "o1:0123456789abcdef0123456789abcdef:Approve",
            "o1:0123456789abcdef0123456789abcdef:approve:x",
            "o1:0123456789ABCDEF0123456789abcdef:approve",
            "o1:0123456789abcdef0123456789abcde:approve",
            "o1:0123456789abcdef0123456789abcdeä:approve",
            "o2:0123456789abcdef0123456789abcdef:approve",
            " o1:0123456789abcdef0123456789abcdef:approve",
            long.as_str(),
        ] {
            assert_eq!(parse_data(other), None, "{other}");
        }
    }
}
