//! Input from a chat (ORD-5): updates as typed data, and the answer to a press. Unknown parts of an update are ignored;
//! its number alone is enough to move past it.

use super::NotifyError;
use super::telegram::{Act, Telegram};
use crate::adapters::http::{Method, Request};
use crate::model::chat::{Chat, News, Press, Said, Sender, Update};
use crate::model::text::beginning;
use serde_json::{Value, json};

/// Longest text that the service shows for a press, in characters.
const ANSWER_CHARS: usize = 200;
/// How much of a user's text is kept, in bytes.
const TEXT_BYTES: usize = 16 << 10;
/// How much of a name is kept, in bytes.
const NAME_BYTES: usize = 256;
/// Longest accepted name of a callback.
const CALLBACK_BYTES: usize = 256;

impl Telegram {
    /// Most updates per page that the service gives.
    pub const PAGE: u32 = 100;

    /// The bot's own number, which is not secret.
    pub fn bot(token: &str) -> &str {
        token.trim().split(':').next().unwrap_or("")
    }

    /// One page of at most `limit` updates from `offset` on, oldest first, without waiting for more; `offset` confirms
    /// earlier ones. Fails with `Conflict` if another program reads them, and with `TooLong` if the page exceeds the
    /// size limit of replies.
    pub fn updates(&self, offset: Option<i64>, limit: u32) -> Result<Vec<Update>, NotifyError> {
        let mut body = json!({"limit": limit, "timeout": 0, "allowed_updates": ["message", "callback_query"]});
        if let (Some(offset), Some(object)) = (offset, body.as_object_mut()) {
            object.insert("offset".into(), json!(offset));
        }
        let result = self.call(Act::Updates, &Request::new(Method::Post, "/getUpdates").json(&body))?;
        let list = result
            .as_array()
            .ok_or_else(|| NotifyError::Transient { why: "getUpdates answered ok without a list".to_owned() })?;
        let mut updates: Vec<Update> = list.iter().filter_map(update).collect();
        updates.sort_by_key(|u| u.id);
        Ok(updates)
    }

    /// The host of the webhook that gets this bot's updates, if one is set.
    pub fn webhook(&self) -> Result<Option<String>, NotifyError> {
        let result = self.call(Act::Read, &Request::new(Method::Get, "/getWebhookInfo"))?;
        let url = result.get("url").and_then(Value::as_str).unwrap_or("");
        let host = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or("");
        Ok(Some(host.to_owned()).filter(|h| !h.is_empty()))
    }

    /// Answers a press with a text for its user.
    pub(super) fn answer_press(&self, callback: &str, text: &str, alert: bool) -> Result<(), NotifyError> {
        let text: String = text.chars().take(ANSWER_CHARS).collect();
        let body = json!({"callback_query_id": callback, "text": text, "show_alert": alert});
        self.call(Act::Answer, &Request::new(Method::Post, "/answerCallbackQuery").json(&body)).map(drop)
    }
}

/// Parses an update. `None`: it has no number, so nothing can be done with it.
fn update(value: &Value) -> Option<Update> {
    let id = value.get("update_id").and_then(Value::as_i64).filter(|id| *id >= 0 && *id < i64::MAX)?;
    let news = if let Some(query) = value.get("callback_query") {
        press(query).map_or(News::Other, News::Press)
    } else {
        value.get("message").and_then(said).map_or(News::Other, News::Said)
    };
    Some(Update { id, news })
}

fn sender(value: &Value) -> Option<Sender> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("");
    let name = format!("{} {}", beginning(text("first_name"), NAME_BYTES), beginning(text("last_name"), NAME_BYTES));
    Some(Sender {
        id: value.get("id").and_then(Value::as_i64)?,
        // A user without this field may be a bot.
        is_bot: value.get("is_bot").and_then(Value::as_bool).unwrap_or(true),
        name: name.trim().to_owned(),
    })
}

fn chat(value: &Value) -> Option<Chat> {
    let username = value.get("username").and_then(Value::as_str).map(|n| beginning(n, NAME_BYTES).to_owned());
    Some(Chat { id: value.get("id").and_then(Value::as_i64)?, username })
}

fn press(query: &Value) -> Option<Press> {
    let message = query.get("message").and_then(|m| {
        let id = m.get("message_id").and_then(Value::as_i64).filter(|id| *id > 0)?;
        Some((m.get("chat").and_then(chat)?, id))
    });
    Some(Press {
        callback: query.get("id").and_then(Value::as_str).filter(|id| id.len() <= CALLBACK_BYTES)?.to_owned(),
        from: query.get("from").and_then(sender)?,
        message,
        data: beginning(query.get("data").and_then(Value::as_str).unwrap_or(""), 65).to_owned(),
    })
}

fn said(message: &Value) -> Option<Said> {
    // Every sign that a message is not the sender's own text, old and new (Bot API 7.0 renamed the older ones).
    let marks = [
        "forward_origin",
        "forward_from",
        "forward_from_chat",
        "forward_sender_name",
        "forward_date",
        "sender_chat",
        "via_bot",
        "sender_business_bot",
        "is_automatic_forward",
    ];
    Some(Said {
        from: message.get("from").and_then(sender)?,
        chat: message.get("chat").and_then(chat)?,
        id: message.get("message_id").and_then(Value::as_i64),
        reply_to: message.get("reply_to_message").and_then(|m| m.get("message_id")).and_then(Value::as_i64),
        text: beginning(message.get("text").and_then(Value::as_str).unwrap_or(""), TEXT_BYTES).to_owned(),
        borrowed: marks.iter().any(|name| message.get(name).is_some_and(|v| !v.is_null())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &Value) -> Option<News> {
        update(value).map(|u| u.news)
    }

    #[test]
    fn a_press_and_a_reply_are_read_as_the_service_writes_them() {
        let from = json!({"id": 42, "is_bot": false, "first_name": "Ann", "last_name": "A"});
        let chat = json!({"id": -100, "type": "supergroup", "username": "ops"});
        let press = json!({"update_id": 1, "callback_query": {"id": "77", "from": from, "chat_instance": "1",
            "message": {"message_id": 5, "date": 1, "chat": chat}, "data": "o1:x:approve"}});
        let Some(News::Press(p)) = read(&press) else { panic!() };
        assert_eq!(
            (p.callback.as_str(), p.from.id, p.from.name.as_str(), p.data.as_str()),
            ("77", 42, "Ann A", "o1:x:approve")
        );
        assert_eq!(p.message, Some((Chat { id: -100, username: Some("ops".into()) }, 5)));
        let said = json!({"update_id": 2, "message": {"message_id": 9, "from": from, "chat": chat, "date": 1,
            "reply_to_message": {"message_id": 5}, "text": "no"}});
        let Some(News::Said(s)) = read(&said) else { panic!() };
        assert_eq!((s.id, s.reply_to, s.text.as_str(), s.borrowed), (Some(9), Some(5), "no", false));
        for mark in ["forward_origin", "forward_date", "sender_chat", "via_bot"] {
            let mut other = said.clone();
            other["message"][mark] = json!({"id": 1});
            let Some(News::Said(s)) = read(&other) else { panic!() };
            assert!(s.borrowed, "{mark}");
        }
    }

    #[test]
    fn what_is_malformed_or_huge_is_nothing_and_is_got_past() {
        let huge = "x".repeat(1 << 20);
        for value in [
            json!({"update_id": 1}),
            json!({"update_id": 1, "callback_query": null}),
            json!({"update_id": 1, "callback_query": {"id": 7, "from": {"id": 1}}}),
            json!({"update_id": 1, "callback_query": {"id": huge, "from": {"id": 1, "is_bot": false}}}),
            json!({"update_id": 1, "callback_query": {"id": "1", "from": {"id": "1"}}}),
            json!({"update_id": 1, "callback_query": [[[[]]]]}),
            json!({"update_id": 1, "message": {"from": {"id": 1e300}, "chat": {"id": 1}}}),
            json!({"update_id": 1, "channel_post": {"text": "approve"}}),
        ] {
            assert_eq!(read(&value), Some(News::Other), "{}", beginning(&value.to_string(), 200));
        }
        for value in
            [json!({}), json!([]), json!({"update_id": "1"}), json!({"update_id": -1}), json!({"update_id": i64::MAX})]
        {
            assert_eq!(update(&value), None, "{value}");
        }
        let press =
            json!({"update_id": 1, "callback_query": {"id": "1", "from": {"id": 1, "first_name": huge}, "data": huge}});
        let Some(News::Press(p)) = read(&press) else { panic!() };
        assert!(
            p.data.len() <= 65 && p.from.name.len() <= 600 && p.from.is_bot,
            "a sender that does not say so may be a bot"
        );
        let said =
            json!({"update_id": 1, "message": {"from": {"id": 1, "is_bot": false}, "chat": {"id": 1}, "text": huge}});
        let Some(News::Said(s)) = read(&said) else { panic!() };
        assert!(s.text.len() <= TEXT_BYTES);
    }
}
