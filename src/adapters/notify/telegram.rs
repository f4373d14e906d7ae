//! The part of the Bot API that `orch` uses (services.md §4): one request per call, every reply classified, no retries.

use super::{MessageId, NotifyError, Sent};
use crate::adapters::http::{Auth, Class, Client, Limits, Method, Request, Token};
use crate::model::chat::Button;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The wait for a throttled reply that does not say how long.
const DEFAULT_WAIT_S: u64 = 30;

/// How to reach one chat.
#[derive(Debug, Clone)]
pub struct TelegramConfig<'a> {
    /// `https://api.telegram.org`, or a self-hosted server.
    pub api_base: &'a str,
    /// A number, or `@channel`.
    pub chat_id: &'a str,
    /// A topic of the chat.
    pub thread_id: Option<i64>,
    /// Total time of one request; a delivery's deadline may shorten it.
    pub timeout: Duration,
}

/// One chat of one bot. `Debug` does not show the token.
#[derive(Debug, Clone)]
pub struct Telegram {
    http: Client,
    chat: Value,
    thread_id: Option<i64>,
    timeout: Duration,
}

/// A text and how to parse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text<'a> {
    Html(&'a str),
    /// For when our markup was refused.
    Plain(&'a str),
}

/// Options of a new message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extra<'a> {
    /// Rows of inline buttons.
    pub buttons: &'a [Vec<Button>],
    /// Ask whoever the text mentions to reply to it.
    pub force_reply: bool,
    /// The message to reply to, if it still exists.
    pub reply_to: Option<MessageId>,
}

/// What a deletion found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    Deleted,
    /// It did not exist.
    Gone,
    /// Older than 48 hours, or not permitted: it stays.
    Kept,
}

/// The bot a token belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bot {
    pub id: i64,
    pub username: String,
}

/// The bot's status in the chat (for `doctor`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// `creator`, `administrator`, `member`, `restricted`, `left`, `kicked`, or a value added later.
    pub status: String,
    /// Whether it can write here, as far as the reply says.
    pub can_send: bool,
}

/// The kind of request; decides what a lost reply means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Send,
    Edit,
    Delete,
    Read,
    /// Reads updates of the chat; refused while another program does.
    Updates,
    /// Answers the press of a button.
    Answer,
}

impl Act {
    /// There was no usable answer: only a send must not be repeated blindly.
    fn lost(self, why: String) -> NotifyError {
        match self {
            Self::Send => NotifyError::UnknownOutcome { why },
            Self::Edit | Self::Delete | Self::Read | Self::Updates | Self::Answer => NotifyError::Transient { why },
        }
    }
}

impl Telegram {
    /// Fails with `WrongToken` or `WrongAddress` on malformed values; sends no request.
    pub fn new(config: &TelegramConfig<'_>, token: &str) -> Result<Self, NotifyError> {
        let token = token.trim();
        let shape = token.split_once(':').is_some_and(|(id, secret)| {
            let word = |t: &str| t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) && !secret.is_empty() && word(secret)
        });
        if !shape {
            return Err(NotifyError::WrongToken { why: "expected the form NUMBER:LETTERS".to_owned() });
        }
        let chat = config.chat_id.trim();
        let chat = match chat.parse::<i64>() {
            Ok(id) => json!(id),
            Err(_) if chat.len() > 1 && chat.starts_with('@') => json!(chat),
            Err(_) => {
                let why = format!("expected a number or @channel as chat_id, got {chat:?}");
                return Err(NotifyError::Permanent { why });
            }
        };
        let limits = Limits {
            connect: Duration::from_secs(5).min(config.timeout / 2),
            read: config.timeout,
            write: config.timeout,
            // Enough for a page of a hundred updates with long texts.
            max_body: 8 << 20,
        };
        let auth = Auth::TokenInPath { prefix: "/bot", token: Token::new(token) };
        let http =
            Client::new(config.api_base, auth, limits).map_err(|e| NotifyError::WrongAddress { why: e.detail })?;
        Ok(Self { http, chat, thread_id: config.thread_id, timeout: config.timeout })
    }

    /// The same bot in another chat. Topics do not carry over.
    #[must_use]
    pub fn in_chat(&self, id: i64) -> Self {
        Self { chat: json!(id), thread_id: None, ..self.clone() }
    }

    /// The same, with at most `most` per request.
    #[must_use]
    pub fn within(&self, most: Duration) -> Self {
        Self { timeout: self.timeout.min(most), ..self.clone() }
    }

    /// Sends a new message. A lost reply is `UnknownOutcome`.
    pub fn send(&self, text: Text<'_>, silent: bool) -> Result<MessageId, NotifyError> {
        self.send_with(text, silent, &Extra::default()).map(|sent| sent.message_id)
    }

    /// The same with buttons, as a reply, or asking for a reply.
    pub fn send_with(&self, text: Text<'_>, silent: bool, extra: &Extra<'_>) -> Result<Sent, NotifyError> {
        let mut body = content(text);
        if let Some(markup) = markup(extra) {
            body.insert("reply_markup".into(), markup);
        }
        if let Some(id) = extra.reply_to {
            let reply = json!({"message_id": id, "allow_sending_without_reply": true});
            body.insert("reply_parameters".into(), reply);
        }
        body.insert("disable_notification".into(), json!(silent));
        if let Some(thread) = self.thread_id {
            body.insert("message_thread_id".into(), json!(thread));
        }
        let result = self.post(Act::Send, "/sendMessage", body)?;
        let message_id = result.get("message_id").and_then(Value::as_i64).filter(|id| *id > 0);
        let message_id = message_id.ok_or_else(|| NotifyError::UnknownOutcome {
            why: "sendMessage answered ok without a message_id".to_owned(),
        })?;
        Ok(Sent { chat: result.get("chat").and_then(|c| c.get("id")).and_then(Value::as_i64), message_id })
    }

    /// Replaces a message's text and removes its buttons. The same text again counts as success.
    pub fn edit(&self, id: MessageId, text: Text<'_>) -> Result<(), NotifyError> {
        let mut body = content(text);
        body.insert("message_id".into(), json!(id));
        self.post(Act::Edit, "/editMessageText", body).map(drop)
    }

    pub fn delete(&self, id: MessageId) -> Result<Deletion, NotifyError> {
        let mut body = Map::new();
        body.insert("message_id".into(), json!(id));
        let result = self.post(Act::Delete, "/deleteMessage", body)?;
        Ok(match result.as_str() {
            Some(GONE) => Deletion::Gone,
            Some(KEPT) => Deletion::Kept,
            Some(_) | None => Deletion::Deleted,
        })
    }

    /// The bot this token belongs to.
    pub fn get_me(&self) -> Result<Bot, NotifyError> {
        let result = self.call(Act::Read, &Request::new(Method::Get, "/getMe"))?;
        let id = result.get("id").and_then(Value::as_i64);
        let id = id.ok_or_else(|| NotifyError::WrongAddress { why: "getMe answered without an id".to_owned() })?;
        let username = result.get("username").and_then(Value::as_str).unwrap_or("").to_owned();
        Ok(Bot { id, username })
    }

    /// What the bot may do in the chat.
    pub fn get_chat_member(&self, bot: &Bot) -> Result<Member, NotifyError> {
        let chat = self.chat.as_str().map_or_else(|| self.chat.to_string(), str::to_owned);
        let user = bot.id.to_string();
        let query = [("chat_id", chat.as_str()), ("user_id", user.as_str())];
        let result = self.call(Act::Read, &Request::new(Method::Get, "/getChatMember").query(&query))?;
        let status = result.get("status").and_then(Value::as_str).unwrap_or("").to_owned();
        let flag = |name: &str| result.get(name).and_then(Value::as_bool);
        let can_send = match status.as_str() {
            "left" | "kicked" => false,
            "restricted" => flag("can_send_messages").unwrap_or(false),
            // Sent for channels only.
            "administrator" => flag("can_post_messages").unwrap_or(true),
            _ => true,
        };
        Ok(Member { status, can_send })
    }

    fn post(&self, act: Act, method: &str, mut body: Map<String, Value>) -> Result<Value, NotifyError> {
        body.insert("chat_id".into(), self.chat.clone());
        let body = Value::Object(body);
        self.call(act, &Request::new(Method::Post, method).json(&body))
    }

    /// Makes one request of this kind; `Ok` is its `result`.
    pub(super) fn call(&self, act: Act, request: &Request<'_>) -> Result<Value, NotifyError> {
        let response = self.http.exchange(&request.clone().timeout(self.timeout)).map_err(|e| match e.class {
            Class::Transient => NotifyError::Transient { why: e.detail },
            Class::Invalid | Class::Auth => NotifyError::WrongAddress { why: e.detail },
            Class::TooLarge if act == Act::Updates => NotifyError::TooLong { why: e.detail },
            Class::NotFound
            | Class::Conflict
            | Class::Throttled { .. }
            | Class::UnknownOutcome
            | Class::Redirect { .. }
            | Class::TooLarge
            | Class::BadBody => act.lost(e.detail),
        })?;
        let text = self.http.redact(&response.text());
        interpret(act, response.status, &text, response.retry_after_s())
    }
}

/// The markup of a new message. Inline buttons and a forced reply exclude each other.
fn markup(extra: &Extra<'_>) -> Option<Value> {
    if extra.force_reply {
        return Some(json!({"force_reply": true, "selective": true}));
    }
    let button = |b: &Button| json!({"text": b.text, "callback_data": b.data});
    let rows: Vec<Vec<Value>> = extra.buttons.iter().map(|row| row.iter().map(button).collect()).collect();
    (!rows.is_empty()).then(|| json!({"inline_keyboard": rows}))
}

/// The fields that go with every text. This is the only function that builds them (NTF-1). Old servers read only the
/// second preview switch, new ones the first.
fn content(text: Text<'_>) -> Map<String, Value> {
    let mut body = Map::new();
    match text {
        Text::Html(html) => {
            body.insert("text".into(), json!(html));
            body.insert("parse_mode".into(), json!("HTML"));
        }
        Text::Plain(plain) => {
            body.insert("text".into(), json!(plain));
        }
    }
    body.insert("link_preview_options".into(), json!({"is_disabled": true}));
    body.insert("disable_web_page_preview".into(), json!(true));
    body
}

const GONE: &str = "gone";
const KEPT: &str = "kept";

/// The class of a complete reply; `Ok` is its `result`. A refusal that amounts to success is also `Ok`: `null` for an
/// edit, [`GONE`] or [`KEPT`] for a deletion.
fn interpret(act: Act, status: u16, body: &str, retry_after_s: Option<u64>) -> Result<Value, NotifyError> {
    let mut reply: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    let ok = reply.get("ok").and_then(Value::as_bool);
    if ok == Some(true) && (200..300).contains(&status) {
        return Ok(reply.get_mut("result").map(Value::take).unwrap_or_default());
    }
    let refused = ok == Some(false);
    let code = reply.get("error_code").and_then(Value::as_u64).filter(|_| refused);
    let code = code.and_then(|c| u16::try_from(c).ok()).unwrap_or(status);
    let parameter = |name: &str| reply.get("parameters").and_then(|p| p.get(name));
    if let Some(new_chat_id) = parameter("migrate_to_chat_id").and_then(Value::as_i64).filter(|_| refused) {
        return Err(NotifyError::Migrated { new_chat_id });
    }
    let description = reply.get("description").and_then(Value::as_str).filter(|_| refused);
    let why = match description {
        Some(text) => text.chars().filter(|c| !c.is_control()).take(300).collect(),
        None => format!("HTTP {status}, which is not a Bot API reply (a proxy in between?)"),
    };
    Err(match code {
        400 if refused => return refusal(act, why),
        401 | 403 | 404 if !refused => NotifyError::WrongAddress { why },
        401 => NotifyError::WrongToken { why },
        404 => NotifyError::WrongToken { why: format!("{why} (token, or notify.telegram.api_base)") },
        403 => NotifyError::Permanent { why },
        413 => NotifyError::TooLong { why },
        429 => {
            let wait = parameter("retry_after").and_then(Value::as_u64).or(retry_after_s);
            NotifyError::Throttled { retry_after_s: wait.unwrap_or(DEFAULT_WAIT_S) }
        }
        409 if act == Act::Updates => NotifyError::Conflict { why },
        409 => NotifyError::Transient { why },
        300..=399 => NotifyError::WrongAddress { why: format!("HTTP {status}, a redirect, which is not followed") },
        // 2xx without a readable reply, 408, 425, 5xx.
        100..=299 | 408 | 425 | 500.. => act.lost(why),
        _ => NotifyError::Invalid { why },
    })
}

/// The cases of a 400, by description.
fn refusal(act: Act, why: String) -> Result<Value, NotifyError> {
    let text = why.to_lowercase();
    let says = |any: &[&str]| any.iter().any(|s| text.contains(s));
    if act == Act::Edit && says(&["message is not modified"]) {
        return Ok(Value::Null);
    }
    if act == Act::Edit && says(&["message to edit not found", "message can't be edited", "message_id_invalid"]) {
        return Err(NotifyError::EditGone { why });
    }
    if act == Act::Delete && says(&["message to delete not found", "message_id_invalid"]) {
        return Ok(json!(GONE));
    }
    if act == Act::Delete && says(&["message can't be deleted"]) {
        return Ok(json!(KEPT));
    }
    if says(&["can't parse entities", "can't find end of the entity"]) {
        return Err(NotifyError::Unparsable { why });
    }
    if says(&["is too long"]) {
        return Err(NotifyError::TooLong { why });
    }
    let chat = [
        "chat not found",
        "peer_id_invalid",
        "chat_id is empty",
        "chat_write_forbidden",
        "not enough rights",
        "have no rights",
        "need administrator rights",
        "was deactivated",
        "was kicked",
        "thread not found",
        "topic_closed",
        "topic_deleted",
    ];
    Err(if says(&chat) { NotifyError::Permanent { why } } else { NotifyError::Invalid { why } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(act: Act, status: u16, description: &str) -> Result<Value, NotifyError> {
        let body = json!({"ok": false, "error_code": status, "description": description});
        interpret(act, status, &body.to_string(), None)
    }

    #[test]
    fn every_refusal_has_its_class() {
        use NotifyError as E;
        type Fits = fn(&Result<Value, NotifyError>) -> bool;
        let rows: &[(Act, u16, &str, Fits)] = &[
            (Act::Edit, 400, "Bad Request: message is not modified: same", |r| *r == Ok(Value::Null)),
            (Act::Edit, 400, "Bad Request: Message to edit not found", |r| matches!(r, Err(E::EditGone { .. }))),
            (Act::Edit, 400, "Bad Request: message can't be edited", |r| matches!(r, Err(E::EditGone { .. }))),
            (Act::Delete, 400, "Bad Request: message to delete not found", |r| *r == Ok(json!(GONE))),
            (Act::Delete, 400, "Bad Request: message can't be deleted for everyone", |r| *r == Ok(json!(KEPT))),
            (Act::Send, 400, "Bad Request: can't parse entities: x", |r| matches!(r, Err(E::Unparsable { .. }))),
            (Act::Send, 400, "Bad Request: message is too long", |r| matches!(r, Err(E::TooLong { .. }))),
            (Act::Send, 400, "Bad Request: text is too long", |r| matches!(r, Err(E::TooLong { .. }))),
            (Act::Send, 400, "Bad Request: message text is empty", |r| matches!(r, Err(E::Invalid { .. }))),
            (Act::Send, 400, "Bad Request: chat not found", |r| matches!(r, Err(E::Permanent { .. }))),
            (Act::Send, 403, "Forbidden: bot was blocked by the user", |r| matches!(r, Err(E::Permanent { .. }))),
            (Act::Send, 401, "Unauthorized", |r| matches!(r, Err(E::WrongToken { .. }))),
            (Act::Send, 404, "Not Found", |r| matches!(r, Err(E::WrongToken { .. }))),
            (Act::Send, 409, "Conflict", |r| matches!(r, Err(E::Transient { .. }))),
            (Act::Updates, 409, "Conflict: terminated", |r| matches!(r, Err(E::Conflict { .. }))),
            (Act::Updates, 502, "Bad Gateway", |r| matches!(r, Err(E::Transient { .. }))),
            (Act::Answer, 400, "Bad Request: query is too old", |r| matches!(r, Err(E::Invalid { .. }))),
            (Act::Send, 500, "Internal", |r| matches!(r, Err(E::UnknownOutcome { .. }))),
            (Act::Edit, 500, "Internal", |r| matches!(r, Err(E::Transient { .. }))),
            (Act::Delete, 502, "Bad Gateway", |r| matches!(r, Err(E::Transient { .. }))),
            (Act::Send, 418, "teapot", |r| matches!(r, Err(E::Invalid { .. }))),
        ];
        for (act, status, description, fits) in rows {
            let got = of(*act, *status, description);
            assert!(fits(&got), "{act:?} {status} {description}: {got:?}");
        }
    }

    #[test]
    fn parameters_are_read_before_words() {
        let body = json!({"ok": false, "error_code": 400, "description": "Bad Request: group chat was upgraded to a supergroup chat", "parameters": {"migrate_to_chat_id": -1007}});
        let got = interpret(Act::Send, 400, &body.to_string(), None);
        assert_eq!(got, Err(NotifyError::Migrated { new_chat_id: -1007 }));
        let body = json!({"ok": false, "error_code": 429, "parameters": {"retry_after": 35}}).to_string();
        assert_eq!(interpret(Act::Edit, 429, &body, Some(2)), Err(NotifyError::Throttled { retry_after_s: 35 }));
        assert_eq!(interpret(Act::Edit, 429, "<html>", Some(2)), Err(NotifyError::Throttled { retry_after_s: 2 }));
    }

    #[test]
    fn a_reply_of_something_else_is_never_believed() {
        for body in ["", "<html>welcome</html>", "[]", "{\"ok\":1}", "{\"result\":{\"message_id\":1}}"] {
            assert!(matches!(interpret(Act::Send, 200, body, None), Err(NotifyError::UnknownOutcome { .. })), "{body}");
            assert!(matches!(interpret(Act::Edit, 200, body, None), Err(NotifyError::Transient { .. })), "{body}");
        }
        for status in [302, 401, 403, 404] {
            let got = interpret(Act::Send, status, "<html>", None);
            assert!(matches!(got, Err(NotifyError::WrongAddress { .. })), "{status}");
        }
        assert!(matches!(interpret(Act::Edit, 302, "", None), Err(NotifyError::WrongAddress { .. })));
    }

    #[test]
    fn what_can_be_no_token_or_chat_is_refused_unsent() {
        let config = |chat_id| TelegramConfig {
            api_base: "http://127.0.0.1:1",
            chat_id,
            thread_id: None,
            timeout: Duration::from_secs(1),
        };
        for bad in ["", "12", ":x", "12:", "1a:x", "12:a/b", "12:..?", "12:a b"] {
            let e = Telegram::new(&config("-1"), bad).unwrap_err();
            assert!(matches!(e, NotifyError::WrongToken { .. }), "{bad}");
            assert!(bad.len() < 3 || !e.to_string().contains(bad), "{e}");
        }
        for bad in ["", "@", "general", "1.5"] {
            assert!(matches!(Telegram::new(&config(bad), "1:x"), Err(NotifyError::Permanent { .. })), "{bad}");
        }
        let fine = Telegram::new(&config("@news"), "12:SECRET").unwrap();
        assert!(!format!("{fine:?}").contains("SECRET"));
    }
}
