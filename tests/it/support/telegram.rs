//! A strict Bot API: it refuses what the real one refuses, with the same words. A message that no test took fails the
//! test when the fake is dropped.
#![allow(dead_code, reason = "each test uses its part")]

use super::http::{Fault, Reply, Seen, Server};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

pub const TOKEN: &str = "4242:AA-secret_token";
pub const CHAT: i64 = -100_123;
const BOT_ID: i64 = 4242;
const DAY_MS: i64 = 86_400_000;

/// A message in the chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub id: i64,
    pub chat: i64,
    /// After entity parsing.
    pub text: String,
    /// As received.
    pub raw: String,
    pub html: bool,
    pub silent: bool,
    pub thread: Option<i64>,
    pub edits: usize,
    pub sent_at: i64,
    /// Text and data of each inline button.
    pub buttons: Vec<(String, String)>,
    pub force_reply: bool,
    pub reply_to: Option<i64>,
}

impl Message {
    /// The data of the button with this verb.
    pub fn button(&self, verb: &str) -> String {
        let found = self.buttons.iter().find(|(_, data)| data.ends_with(&format!(":{verb}")));
        found.unwrap_or_else(|| panic!("no {verb} in {self:#?}")).1.clone()
    }
}

/// Why the chat accepts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    Blocked,
    Kicked,
    NotMember,
    Deactivated,
    NoChat,
}

#[derive(Default)]
struct World {
    now_ms: i64,
    last: i64,
    messages: BTreeMap<i64, Message>,
    /// Sent but not taken by the test.
    unread: Vec<Message>,
    closed: Option<Closed>,
    moved_to: Option<i64>,
    /// This many requests are answered with 429 and this wait.
    throttle: (usize, u64),
    uneditable: Vec<i64>,
    /// Whether updates may be read here.
    read: bool,
    last_update: i64,
    updates: BTreeMap<i64, Value>,
    webhook: bool,
    other_reader: bool,
    /// Presses by name, with their answers.
    presses: BTreeMap<String, Option<(String, bool)>>,
}

/// A running fake with one bot and one chat.
pub struct Telegram {
    pub server: Server,
    world: Arc<Mutex<World>>,
}

impl Telegram {
    pub fn start() -> Self {
        let world = Arc::new(Mutex::new(World { now_ms: 1_000_000, ..World::default() }));
        let inner = Arc::clone(&world);
        let server = Server::start(move |seen| answer(&mut inner.lock().unwrap(), seen));
        Self { server, world }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// The chat's current messages, oldest first.
    pub fn chat(&self) -> Vec<Message> {
        self.world().messages.values().cloned().collect()
    }

    /// Every message sent since the last call, as sent, including those deleted since.
    pub fn take(&self) -> Vec<Message> {
        std::mem::take(&mut self.world().unread)
    }

    pub fn set_clock(&self, now_ms: i64) {
        self.world().now_ms = now_ms;
    }

    pub fn close(&self, closed: Option<Closed>) {
        self.world().closed = closed;
    }

    /// The group becomes a supergroup; its old messages can't be reached from there.
    pub fn migrate(&self, to: i64) {
        self.world().moved_to = Some(to);
    }

    pub fn throttle(&self, requests: usize, retry_after_s: u64) {
        self.world().throttle = (requests, retry_after_s);
    }

    /// As if a person had deleted it.
    pub fn remove(&self, id: i64) {
        self.world().messages.remove(&id);
    }

    /// It stays in the chat but refuses edits.
    pub fn freeze(&self, id: i64) {
        self.world().uneditable.push(id);
    }

    /// The next requests of `method` get `fault`.
    pub fn fault(&self, method: &str, fault: Fault, times: usize) {
        let verb = if method.starts_with("get") { "GET" } else { "POST" };
        self.server.fault(&format!("{verb} /bot{TOKEN}/{method}"), fault, times);
    }

    /// From now on updates may be read.
    pub fn readable(&self) {
        self.world().read = true;
    }

    /// Another program reads this bot's updates.
    pub fn other_reader(&self, on: bool) {
        self.world().other_reader = on;
    }

    pub fn webhook(&self, on: bool) {
        self.world().webhook = on;
    }

    /// Something happens in the chat; returns its number.
    pub fn update(&self, mut what: Value) -> i64 {
        let mut w = self.world();
        w.last_update += 1;
        let id = 500 + w.last_update;
        what["update_id"] = json!(id);
        w.updates.insert(id, what);
        id
    }

    /// The same update arrives again, as after a crash before it was confirmed.
    pub fn update_again(&self, id: i64, what: Value) {
        let mut what = what;
        what["update_id"] = json!(id);
        self.world().updates.insert(id, what);
    }

    /// A press as the service sends it.
    pub fn pressed(&self, user: i64, message: i64, data: &str) -> (String, Value) {
        let mut w = self.world();
        let name = format!("cb{}", w.presses.len());
        w.presses.insert(name.clone(), None);
        let chat = w.messages.get(&message).map_or(CHAT, |m| m.chat);
        let query = json!({"id": name, "from": person(user), "chat_instance": "-1", "data": data,
            "message": {"message_id": message, "date": 1, "chat": {"id": chat, "type": "supergroup"}, "text": "x"}});
        (name, json!({"callback_query": query}))
    }

    /// A person presses a button; returns the name of the press.
    pub fn press(&self, user: i64, message: &Message, verb: &str) -> String {
        let (name, what) = self.pressed(user, message.id, &message.button(verb));
        self.update(what);
        name
    }

    /// A person replies to a message.
    pub fn reply(&self, user: i64, to: i64, text: &str) -> Value {
        json!({"message": {"message_id": 90_000, "date": 1, "from": person(user), "text": text,
            "chat": {"id": CHAT, "type": "supergroup"}, "reply_to_message": {"message_id": to, "date": 1}}})
    }

    /// The answer to a press; panics if there is none yet.
    pub fn answered(&self, press: &str) -> String {
        let w = self.world();
        let answer = w.presses.get(press).and_then(Clone::clone);
        answer.unwrap_or_else(|| panic!("{press} was never answered")).0
    }

    /// Presses nobody answered.
    pub fn unanswered(&self) -> Vec<String> {
        self.world().presses.iter().filter(|(_, a)| a.is_none()).map(|(n, _)| n.clone()).collect()
    }

    /// The methods called so far.
    pub fn methods(&self) -> Vec<String> {
        self.server.log().iter().map(|s| s.path.rsplit('/').next().unwrap_or("").to_owned()).collect()
    }
}

/// A user in the service's form.
pub fn person(id: i64) -> Value {
    json!({"id": id, "is_bot": false, "first_name": format!("User{id}"), "language_code": "en"})
}

impl Drop for Telegram {
    fn drop(&mut self) {
        let unread = self.take();
        assert!(unread.is_empty() || std::thread::panicking(), "messages that no test took: {unread:#?}");
    }
}

fn ok(result: &Value) -> Reply {
    Reply::json(200, &json!({"ok": true, "result": result}))
}

/// A refusal in the real service's words.
pub fn refuse(code: u16, description: &str) -> Reply {
    Reply::json(code, &json!({"ok": false, "error_code": code, "description": description}))
}

fn with(code: u16, description: &str, parameters: &Value) -> Reply {
    let body = json!({"ok": false, "error_code": code, "description": description, "parameters": parameters});
    Reply::json(code, &body)
}

fn answer(w: &mut World, seen: &Seen) -> Reply {
    let Some(rest) = seen.path.strip_prefix("/bot") else { return refuse(404, "Not Found") };
    let Some((token, method)) = rest.split_once('/') else { return refuse(404, "Not Found") };
    if !token.contains(':') {
        return refuse(404, "Not Found");
    }
    if token != TOKEN {
        return refuse(401, "Unauthorized");
    }
    if w.throttle.0 > 0 {
        w.throttle.0 -= 1;
        let s = w.throttle.1;
        return with(429, &format!("Too Many Requests: retry after {s}"), &json!({"retry_after": s}));
    }
    match (seen.method.as_str(), method) {
        ("GET", "getMe") => ok(&json!({"id": BOT_ID, "is_bot": true, "first_name": "orch", "username": "orch_bot"})),
        ("GET", "getChatMember") => member(w, seen),
        ("GET", "getWebhookInfo") => {
            let url = if w.webhook { "https://other.example/hook" } else { "" };
            ok(&json!({"url": url, "has_custom_certificate": false, "pending_update_count": w.updates.len()}))
        }
        ("POST", _) if seen.header("content-type") != Some("application/json") => {
            Reply::unexpected("a body that is not called application/json")
        }
        ("POST", "getUpdates") if w.read => updates(w, &seen.json()),
        ("POST", "answerCallbackQuery") => answer_press(w, &seen.json()),
        ("POST", "sendMessage" | "editMessageText" | "deleteMessage") => {
            let body = seen.json();
            if let Some(no) = chat_of(w, &body) {
                return no;
            }
            match method {
                "sendMessage" => send(w, &body),
                "editMessageText" => edit(w, &body),
                _ => delete(w, &body),
            }
        }
        _ => Reply::unexpected(format!("{} {method}", seen.method)),
    }
}

/// Updates before `offset` are confirmed and forgotten.
fn updates(w: &mut World, body: &Value) -> Reply {
    if w.webhook {
        let why = "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first";
        return refuse(409, why);
    }
    if w.other_reader {
        let why = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running";
        return refuse(409, why);
    }
    if body["timeout"] != json!(0) || body["allowed_updates"] != json!(["message", "callback_query"]) {
        return Reply::unexpected(format!("getUpdates that waits, or asks for what it does not use: {body}"));
    }
    let limit = body["limit"].as_u64().unwrap_or(100);
    if !(1..=100).contains(&limit) {
        return Reply::unexpected("a limit that the service does not know");
    }
    if let Some(offset) = body["offset"].as_i64() {
        w.updates.retain(|id, _| *id >= offset);
    }
    let page: Vec<Value> = w.updates.values().take(usize::try_from(limit).unwrap()).cloned().collect();
    ok(&json!(page))
}

fn answer_press(w: &mut World, body: &Value) -> Reply {
    let text = body["text"].as_str().unwrap_or("").to_owned();
    if text.chars().count() > 200 {
        return refuse(400, "Bad Request: MESSAGE_TOO_LONG");
    }
    match body["callback_query_id"].as_str().and_then(|name| w.presses.get_mut(name)) {
        Some(answer @ None) => {
            *answer = Some((text, body["show_alert"].as_bool().unwrap_or(false)));
            ok(&json!(true))
        }
        Some(_) | None => {
            refuse(400, "Bad Request: query is too old and response timeout expired or query ID is invalid")
        }
    }
}

/// The buttons of a message, and whether it asks for a reply.
fn markup(body: &Value) -> Result<(Vec<(String, String)>, bool), Reply> {
    let markup = &body["reply_markup"];
    if markup.is_null() {
        return Ok((vec![], false));
    }
    if markup["force_reply"] == json!(true) {
        return Ok((vec![], true));
    }
    let mut buttons = vec![];
    for button in markup["inline_keyboard"].as_array().into_iter().flatten().flat_map(|row| row.as_array().unwrap()) {
        let (text, data) = (button["text"].as_str().unwrap_or(""), button["callback_data"].as_str().unwrap_or(""));
        if text.is_empty() {
            return Err(refuse(400, "Bad Request: inline keyboard button text is empty"));
        }
        if !(1..=64).contains(&data.len()) {
            return Err(refuse(400, "Bad Request: BUTTON_DATA_INVALID"));
        }
        buttons.push((text.to_owned(), data.to_owned()));
    }
    if buttons.is_empty() {
        return Err(Reply::unexpected(format!("a markup that is neither buttons nor a question: {markup}")));
    }
    Ok((buttons, false))
}

fn closed(w: &World) -> Option<Reply> {
    Some(match w.closed? {
        Closed::Blocked => refuse(403, "Forbidden: bot was blocked by the user"),
        Closed::Kicked => refuse(403, "Forbidden: bot was kicked from the supergroup chat"),
        Closed::NotMember => refuse(403, "Forbidden: bot is not a member of the channel chat"),
        Closed::Deactivated => refuse(403, "Forbidden: user is deactivated"),
        Closed::NoChat => refuse(400, "Bad Request: chat not found"),
    })
}

fn member(w: &World, seen: &Seen) -> Reply {
    if seen.query("chat_id") != Some(&CHAT.to_string()) || seen.query("user_id") != Some(&BOT_ID.to_string()) {
        return refuse(400, "Bad Request: chat not found");
    }
    match w.closed {
        Some(Closed::Kicked) => ok(&json!({"status": "kicked", "user": {"id": BOT_ID}})),
        Some(Closed::NotMember) => ok(&json!({"status": "left", "user": {"id": BOT_ID}})),
        Some(Closed::Blocked | Closed::Deactivated | Closed::NoChat) => refuse(400, "Bad Request: chat not found"),
        None => ok(&json!({"status": "administrator", "user": {"id": BOT_ID}, "can_delete_messages": true})),
    }
}

/// Refuses any chat but ours.
fn chat_of(w: &World, body: &Value) -> Option<Reply> {
    let id = body["chat_id"].as_i64();
    match w.moved_to {
        Some(to) if id == Some(CHAT) => Some(with(
            400,
            "Bad Request: group chat was upgraded to a supergroup chat",
            &json!({"migrate_to_chat_id": to}),
        )),
        Some(to) if id == Some(to) => closed(w),
        None if id == Some(CHAT) => closed(w),
        Some(_) | None => Some(refuse(400, "Bad Request: chat not found")),
    }
}

/// The text of a send or edit, after parsing.
fn content(body: &Value) -> Result<(String, bool), Reply> {
    let preview_off = body["link_preview_options"]["is_disabled"] == json!(true);
    if !preview_off || body["disable_web_page_preview"] != json!(true) {
        return Err(Reply::unexpected("a message that does not disable link previews both ways"));
    }
    let raw = body["text"].as_str().unwrap_or("");
    if raw.len() > 32 << 10 {
        return Err(refuse(400, "Bad Request: text is too long"));
    }
    let html = match body["parse_mode"].as_str() {
        None => false,
        Some("HTML") => true,
        Some(_) => return Err(refuse(400, "Bad Request: unsupported parse_mode")),
    };
    let text = if html {
        parse_html(raw).map_err(|e| refuse(400, &format!("Bad Request: can't parse entities: {e}")))?
    } else {
        raw.to_owned()
    };
    match text.trim().encode_utf16().count() {
        0 => Err(refuse(400, "Bad Request: message text is empty")),
        1..=4096 => Ok((text, html)),
        _ => Err(refuse(400, "Bad Request: message is too long")),
    }
}

fn shape(m: &Message) -> Value {
    json!({"message_id": m.id, "date": m.sent_at / 1000, "chat": {"id": m.chat, "type": "supergroup"}, "text": m.text})
}

fn send(w: &mut World, body: &Value) -> Reply {
    let (text, html) = match content(body) {
        Ok(c) => c,
        Err(no) => return no,
    };
    let Some(silent) = body["disable_notification"].as_bool() else {
        return Reply::unexpected("a message that does not say whether it rings");
    };
    let (buttons, force_reply) = match markup(body) {
        Ok(m) => m,
        Err(no) => return no,
    };
    let reply_to = body["reply_parameters"]["message_id"].as_i64();
    let there = reply_to.is_none_or(|id| w.messages.contains_key(&id));
    if !there && body["reply_parameters"]["allow_sending_without_reply"] != json!(true) {
        return refuse(400, "Bad Request: message to be replied not found");
    }
    w.last += 1;
    let message = Message {
        id: w.last,
        chat: body["chat_id"].as_i64().unwrap(),
        text,
        raw: body["text"].as_str().unwrap().to_owned(),
        html,
        silent,
        thread: body["message_thread_id"].as_i64(),
        edits: 0,
        sent_at: w.now_ms,
        buttons,
        force_reply,
        reply_to: reply_to.filter(|_| there),
    };
    w.messages.insert(message.id, message.clone());
    w.unread.push(message.clone());
    ok(&shape(&message))
}

fn edit(w: &mut World, body: &Value) -> Reply {
    let (text, html) = match content(body) {
        Ok(c) => c,
        Err(no) => return no,
    };
    let Some(id) = body["message_id"].as_i64().filter(|id| *id > 0) else {
        return refuse(400, "Bad Request: message identifier is not specified");
    };
    let chat = body["chat_id"].as_i64();
    let Some(message) = w.messages.get_mut(&id).filter(|m| Some(m.chat) == chat) else {
        return refuse(400, "Bad Request: message to edit not found");
    };
    if w.uneditable.contains(&id) || message.force_reply {
        return refuse(400, "Bad Request: message can't be edited");
    }
    let raw = body["text"].as_str().unwrap();
    let (buttons, _) = match markup(body) {
        Ok(m) => m,
        Err(no) => return no,
    };
    if message.raw == raw && message.html == html && message.buttons == buttons {
        return refuse(
            400,
            "Bad Request: message is not modified: specified new message content and reply markup are exactly the same as a current content and reply markup of the message",
        );
    }
    raw.clone_into(&mut message.raw);
    message.text = text;
    message.html = html;
    message.buttons = buttons;
    message.edits += 1;
    ok(&shape(message))
}

fn delete(w: &mut World, body: &Value) -> Reply {
    let chat = body["chat_id"].as_i64();
    let id = body["message_id"].as_i64().unwrap_or(0);
    let Some(message) = w.messages.get(&id).filter(|m| Some(m.chat) == chat) else {
        return refuse(400, "Bad Request: message to delete not found");
    };
    if w.now_ms - message.sent_at >= 2 * DAY_MS {
        return refuse(400, "Bad Request: message can't be deleted for everyone");
    }
    w.messages.remove(&id);
    ok(&json!(true))
}

/// The plain text of Telegram's HTML, or what is wrong with it.
pub fn parse_html(html: &str) -> Result<String, String> {
    const TAGS: [&str; 12] = ["b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "code", "pre", "blockquote"];
    let mut open: Vec<String> = vec![];
    let mut text = String::new();
    let mut rest = html;
    while let Some(c) = rest.chars().next() {
        let at = html.len() - rest.len();
        if c == '&' {
            let end = rest.find(';').ok_or_else(|| format!("entity without end at byte offset {at}"))?;
            let name = &rest[1..end];
            text.push(match name {
                "lt" => '<',
                "gt" => '>',
                "amp" => '&',
                "quot" => '"',
                _ => {
                    let code = match name.strip_prefix("#x") {
                        Some(hex) => u32::from_str_radix(hex, 16).ok(),
                        None => name.strip_prefix('#').and_then(|n| n.parse().ok()),
                    };
                    code.and_then(char::from_u32).ok_or_else(|| format!("unknown entity \"&{name};\""))?
                }
            });
            rest = &rest[end + 1..];
        } else if c == '<' {
            let end = rest.find('>').ok_or_else(|| format!("unclosed start tag at byte offset {at}"))?;
            let tag = &rest[1..end];
            rest = &rest[end + 1..];
            if let Some(name) = tag.strip_prefix('/') {
                match open.pop() {
                    Some(top) if top == name => {}
                    top => {
                        return Err(format!("unmatched end tag at byte offset {at}, expected {top:?}, found {name}"));
                    }
                }
                continue;
            }
            let (name, attribute) = tag.split_once(' ').unwrap_or((tag, ""));
            let quoted = |prefix: &str| {
                let value = attribute.strip_prefix(prefix).and_then(|a| a.strip_suffix('"'));
                value.is_some_and(|v| !v.contains('"'))
            };
            let known = match name {
                "a" => quoted("href=\""),
                "code" => attribute.is_empty() || quoted("class=\"language-"),
                "blockquote" => attribute.is_empty() || attribute == "expandable",
                "span" => attribute == "class=\"tg-spoiler\"",
                "tg-spoiler" => attribute.is_empty(),
                _ => TAGS.contains(&name) && attribute.is_empty(),
            };
            if !known {
                return Err(format!("unsupported start tag \"{tag}\" at byte offset {at}"));
            }
            open.push(name.to_owned());
        } else {
            text.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    match open.pop() {
        None => Ok(text),
        Some(tag) => Err(format!("can't find end tag corresponding to start tag \"{tag}\"")),
    }
}
