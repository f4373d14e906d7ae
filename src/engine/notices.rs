//! Cards and alerts to their sinks (NTF-1 to NTF-3): which sinks there are, what each has received, and what a delivery
//! showed: a sink that is off, a group that moved, a wait that was requested.

use super::throttle::digest;
use super::{Ctx, asks, boards, card, messages, projects, show};
use crate::adapters::http::Token;
use crate::adapters::notify::{
    AlertMessage, CardMessage, Files, Notifier, Outcome, Program, Telegram, TelegramConfig, Webhook,
};
use crate::adapters::store::{OutboxRow, Store, StoreError, Tx};
use crate::config::{self, TrackerMode};
use crate::decide::notify::{over_all, to_file};
use crate::model::card::{AlertData, AlertKind, Delivered};
use crate::model::card_steps::{CardMode, Shown, StoredCard};
use crate::model::event::Event;
use crate::model::task::{Task, Waiting};
use crate::render;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::{Duration, Instant};

/// The time limit of one request to a sink; the rest of the step's own deadline may shorten it.
const REQUEST: Duration = Duration::from_secs(10);
/// The sink whose messages are answered.
pub(super) const CHAT: &str = "telegram";
/// The sinks that a configuration can name, each with its function to open it.
const SINKS: [(&str, Open); 3] = [(CHAT, telegram), ("command", command), ("webhook", webhook)];
/// The sink that is always there.
const FILE: &str = "file";

/// A refusing sink is retried after this time; it is never switched off (ORD-5).
const AGAIN_MS: i64 = 15 * 60 * 1000;

/// The key of the time when refused writes were last retried.
const WRITES: &str = "outbox/writes_again";

/// A refusing sink: retried at most every [`AGAIN_MS`], or at once after a configuration change.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Off {
    config: String,
    why: String,
    since: i64,
    /// When it was last tried.
    #[serde(default)]
    tried: i64,
}

impl Off {
    fn is_due(&self, now: i64) -> bool {
        now.saturating_sub(self.tried) >= AGAIN_MS || now < self.tried
    }
}

/// A group that became a supergroup: the chat to use instead of the configured one.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Moved {
    config: String,
    chat: i64,
}

/// One configured sink.
pub(super) struct Place {
    pub name: &'static str,
    /// Identifies the configuration without revealing it; changes with it.
    config: String,
    /// Whether its messages can be answered there.
    answers: bool,
    /// The adapter, or why there can be none.
    pub open: Result<Box<dyn Notifier>, String>,
}

/// Opens a sink if it is configured.
type Open = fn(&mut Ctx, &'static str) -> Result<Option<Place>>;

/// The chat in which messages are answered, if one is configured.
pub(super) fn chat_place(ctx: &mut Ctx) -> Result<Option<Place>> {
    Ok(places(ctx)?.into_iter().find(|p| p.answers))
}

fn off_key(name: &str) -> String {
    format!("sink/{name}/off")
}

fn moved_key(name: &str) -> String {
    format!("sink/{name}/moved")
}

fn wait_key(name: &str) -> String {
    format!("sink/{name}/wait")
}

fn read<T: serde::de::DeserializeOwned>(tx: &Tx<'_>, key: &str) -> Result<Option<T>, StoreError> {
    Ok(tx.meta(key)?.filter(|t| !t.is_empty()).and_then(|t| serde_json::from_str(&t).ok()))
}

/// Unparks the alerts that a refusing sink has not received, once its retry is due.
pub fn try_again(ctx: &mut Ctx) -> Result<()> {
    let now = ctx.now().stamp.wall_ms;
    let due = |tx: &Tx<'_>| -> Result<bool, StoreError> {
        let mut due = false;
        for (name, _) in SINKS {
            due |= read::<Off>(tx, &off_key(name))?.is_some_and(|off| off.is_due(now));
        }
        Ok(due)
    };
    if ctx.store.read(due)? {
        ctx.store.write(|tx| tx.unpark_alerts())?;
    }
    // Writes that a board or forge refused are retried as well (ORD-1).
    if ctx.store.read(|tx| tx.outbox_counts())?.1 == 0 {
        return Ok(());
    }
    let last = ctx.store.read(|tx| tx.meta(WRITES))?.and_then(|t| t.parse::<i64>().ok());
    let waits = last.is_some_and(|last| (0..AGAIN_MS).contains(&(now - last)));
    if !waits {
        ctx.store.write(|tx| {
            tx.set_meta(WRITES, &now.to_string())?;
            // The first refusal is not retried at once.
            if last.is_some() { tx.unpark_writes().map(drop) } else { Ok(()) }
        })?;
    }
    Ok(())
}

/// The refusing sinks, each with its cause, for `status` and `doctor`.
pub fn off(tx: &Tx<'_>) -> Result<Vec<(&'static str, String)>, StoreError> {
    let mut found = Vec::new();
    for (name, _) in SINKS {
        found.extend(read::<Off>(tx, &off_key(name))?.map(|o| (name, o.why)));
    }
    found.extend(super::chat_fault::fault(tx)?.map(|why| ("telegram answers", why)));
    Ok(found)
}

/// Identifies a chat's configuration without revealing it.
fn identity(t: &config::Telegram, secret: &str) -> String {
    digest(&[&t.api_base, &t.chat_id, &t.topic.map_or_else(String::new, |n| n.to_string()), secret])
}

/// The supergroup that the configured group became, if it did.
pub fn moved_chat(ctx: &mut Ctx) -> Option<i64> {
    let t = ctx.config.notify.telegram.clone()?;
    let secret = t.token.resolve().ok()?;
    let moved: Option<Moved> = ctx.store.read(|tx| read(tx, &moved_key(CHAT))).ok()?;
    moved.filter(|m| m.config == identity(&t, secret.expose().trim())).map(|m| m.chat)
}

/// The configured sinks other than the files.
fn places(ctx: &mut Ctx) -> Result<Vec<Place>> {
    let all = SINKS.iter().map(|(name, open)| open(ctx, name));
    Ok(all.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

fn telegram(ctx: &mut Ctx, name: &'static str) -> Result<Option<Place>> {
    let Some(t) = ctx.config.notify.telegram.clone() else { return Ok(None) };
    let token = t.token.resolve();
    let secret = token.as_ref().map_or("", |s| s.expose()).trim();
    let config = identity(&t, secret);
    let moved: Option<Moved> = ctx.store.read(|tx| read(tx, &moved_key(name)))?;
    let settings = TelegramConfig { api_base: &t.api_base, chat_id: &t.chat_id, thread_id: t.topic, timeout: REQUEST };
    let open = match &token {
        Err(e) => Err(e.to_string()),
        Ok(_) => Telegram::new(&settings, secret).map_err(|e| e.to_string()),
    };
    let here = moved.filter(|m| m.config == config);
    let open = open.map(|chat| Box::new(here.map_or(chat.clone(), |m| chat.in_chat(m.chat))) as Box<dyn Notifier>);
    Ok(Some(Place { name, config, answers: true, open }))
}

fn command(ctx: &mut Ctx, name: &'static str) -> Result<Option<Place>> {
    let Some(c) = ctx.config.notify.command.clone() else { return Ok(None) };
    let mut env = super::operator::env(&ctx.config);
    let words: Vec<&str> = c.command.iter().map(String::as_str).collect();
    let config = digest(&words);
    let open = c.spec().map_err(|e| e.to_string()).map(|spec| {
        env.extend(spec.env.into_iter().map(|(name, value)| (name.into(), value.into())));
        let timeout = Duration::from_millis(c.timeout_ms());
        Box::new(Program { argv: spec.argv, env, timeout }) as Box<dyn Notifier>
    });
    Ok(Some(Place { name, config, answers: false, open }))
}

fn webhook(ctx: &mut Ctx, name: &'static str) -> Result<Option<Place>> {
    let Some(w) = ctx.config.notify.webhook.clone() else { return Ok(None) };
    let token = w.token.as_ref().map(|t| t.resolve()).transpose();
    let secret = token.as_ref().ok().and_then(Option::as_ref).map(|s| s.expose().trim().to_owned());
    let config = digest(&[&w.url, secret.as_deref().unwrap_or("")]);
    let open = match token {
        Err(e) => Err(e.to_string()),
        Ok(_) => Webhook::new(&w.url, secret.map(Token::new), Duration::from_secs(w.timeout_s))
            .map(|hook| Box::new(hook) as Box<dyn Notifier>)
            .map_err(|e| e.detail),
    };
    Ok(Some(Place { name, config, answers: false, open }))
}

/// Whether a sink has a row, by the row's payload: a retry skips the sinks that have it.
fn has_it(row: &OutboxRow, name: &str) -> bool {
    row.payload["done"].as_array().is_some_and(|d| d.iter().any(|n| n == name))
}

/// Whether a sink may be tried now; if not, the row's delivery state there.
pub(super) fn barred(ctx: &mut Ctx, place: &Place) -> Result<Option<Delivered>> {
    let now = ctx.now().stamp.wall_ms;
    let (off, wait) = ctx.store.read(|tx| {
        let wait = tx.meta(&wait_key(place.name))?.and_then(|t| t.parse::<i64>().ok());
        Ok::<_, StoreError>((read::<Off>(tx, &off_key(place.name))?, wait))
    })?;
    if let Some(off) = off {
        if off.config != place.config {
            // The configuration changed: what was parked because of the old one is sent now.
            ctx.store.write(|tx| {
                tx.set_meta(&off_key(place.name), "")?;
                tx.unpark_alerts()
            })?;
        } else if !off.is_due(now) {
            return Ok(Some(Delivered::Refused { why: off.why }));
        }
    }
    if let Some(until) = wait.filter(|u| *u > now) {
        let seconds = u64::try_from((until - now) / 1000 + 1).unwrap_or(1);
        return Ok(Some(Delivered::Throttled { retry_after_s: seconds }));
    }
    Ok(None)
}

/// Whether a sink asked for a pause or refused a moment ago.
pub(super) fn waits(ctx: &mut Ctx, place: &Place) -> Result<bool> {
    Ok(barred(ctx, place)?.is_some())
}

/// Records how long a sink asks us to wait.
pub(super) fn throttled(ctx: &mut Ctx, name: &str, seconds: u64) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    let until = at.saturating_add(i64::try_from(seconds).unwrap_or(60).clamp(1, 86_400) * 1000);
    Ok(ctx.store.write(|tx| tx.set_meta(&wait_key(name), &until.to_string()))?)
}

/// Records what a delivery showed about its sink.
pub(super) fn keep(ctx: &mut Ctx, place: &Place, row: &OutboxRow, task: Option<&Task>, out: &Outcome) -> Result<()> {
    for bug in &out.bugs {
        tracing::error!(key = row.key, sink = place.name, "a message was refused: {bug}");
    }
    let at = ctx.now().stamp.wall_ms;
    ctx.store
        .write(|tx| {
            if out.strays > 0 {
                tx.count_up("outbox/strays", i64::from(out.strays))?;
            }
            if !out.bugs.is_empty() {
                tx.count_up("outbox/bugs", i64::try_from(out.bugs.len()).unwrap_or(1))?;
            }
            if let Some(chat) = out.migrated_to {
                let moved = Moved { config: place.config.clone(), chat };
                tx.set_meta(&moved_key(place.name), &json!(moved).to_string())?;
                // Message ids of the old chat mean nothing in the new one; if this was a card, it was sent afresh.
                tx.forget_cards(place.name, task.map(|t| t.id).filter(|_| out.delivered == Delivered::Yes))?;
                super::asks::moved(tx, chat, at)?;
                super::record::event(tx, at, None, Event::ChatMoved, &json!({"sink": place.name, "to": chat}))?;
            }
            if let Delivered::Throttled { retry_after_s } = &out.delivered {
                let until = at.saturating_add(i64::try_from(*retry_after_s).unwrap_or(60).clamp(1, 86_400) * 1000);
                tx.set_meta(&wait_key(place.name), &until.to_string())?;
            }
            let before = read::<Off>(tx, &off_key(place.name))?;
            match (&before, &out.sink_off) {
                (Some(_), None) if out.delivered == Delivered::Yes => tx.set_meta(&off_key(place.name), "")?,
                (Some(before), refused) => {
                    let why = refused.clone().unwrap_or_else(|| before.why.clone());
                    let off = Off { why, tried: at, ..before.clone() };
                    tx.set_meta(&off_key(place.name), &json!(off).to_string())?;
                }
                (None, Some(why)) => first_refusal(tx, place, why, at)?,
                (None, None) => {}
            }
            Ok::<_, StoreError>(())
        })
        .map_err(Into::into)
}

/// Records a sink's first refusal and alerts once; later ones only defer the next attempt.
fn first_refusal(tx: &Tx<'_>, place: &Place, why: &str, at: i64) -> Result<(), StoreError> {
    let off = Off { config: place.config.clone(), why: why.to_owned(), since: at, tried: at };
    tx.set_meta(&off_key(place.name), &json!(off).to_string())?;
    let n = tx.count_up(&format!("sink/{}/times_off", place.name), 1)?;
    super::record::event(tx, at, None, Event::SinkOff, &json!({"sink": place.name, "why": why}))?;
    messages::alert_named(tx, AlertKind::MessageParked, place.name, n, why, at)
}

/// Records that a sink has the row.
fn done(ctx: &mut Ctx, row: &mut OutboxRow, name: &str) -> Result<()> {
    if !has_it(row, name) {
        match row.payload["done"].as_array_mut() {
            Some(list) => list.push(json!(name)),
            None => row.payload["done"] = json!([name]),
        }
        ctx.store.write(|tx| tx.message_progress(row.id, &row.payload))?;
    }
    Ok(())
}

/// Updates a task's card in all sinks; always in the file of the state directory, whatever other sinks there are.
pub fn card(ctx: &mut Ctx, task: &Task, row: &OutboxRow, deadline: Instant) -> Result<Delivered> {
    let now = ctx.now().stamp.wall_ms;
    let mut data = card::of(ctx, task.id)?;
    data.url = projects::item_url(ctx, task)?;
    let locale = ctx.config.notify.locale;
    let drawn = render::card::card(&data, locale);
    let (placeholder, retired) = (render::card::placeholder(&data, locale), render::card::retired(&data, locale));
    let shown = Shown::of(task.stage, task.epoch, &drawn);
    let message = CardMessage {
        id: &row.key,
        key: &task.key,
        shown: &shown,
        card: &drawn,
        placeholder: &placeholder,
        retired: &retired,
    };
    let mode = match ctx.config.notify.telegram.as_ref().map(|t| t.mode) {
        Some(TrackerMode::Edit) => CardMode::Edit,
        Some(TrackerMode::Bump) | None => CardMode::Bump,
    };
    let file = Files { dir: ctx.paths.root().to_owned() };
    let mut each = vec![put_card(&mut ctx.store, FILE, &file, task, mode, &message, now, deadline)?.delivered];
    for place in places(ctx)? {
        let has = ctx.store.read(|tx| tx.card(task.id, place.name))?.and_then(|card| card.shown);
        if has.as_ref() == Some(&shown) {
            each.push(Delivered::Yes);
            continue;
        }
        if let Some(barred) = barred(ctx, &place)? {
            each.push(barred);
            continue;
        }
        let out = match &place.open {
            Ok(sink) => put_card(&mut ctx.store, place.name, sink.as_ref(), task, mode, &message, now, deadline)?,
            Err(why) => off_outcome(why),
        };
        keep(ctx, &place, row, Some(task), &out)?;
        each.push(out.delivered);
    }
    let all = over_all(each, false);
    if all == Delivered::Yes {
        ctx.report.did(crate::model::report::ActionKind::CardUpdated, Some(task.key.as_str()), json!({}));
    }
    Ok(all)
}

fn off_outcome(why: &str) -> Outcome {
    Outcome {
        delivered: Delivered::Refused { why: why.to_owned() },
        strays: 0,
        sink_off: Some(why.to_owned()),
        migrated_to: None,
        bugs: Vec::new(),
        sent: None,
    }
}

#[allow(clippy::too_many_arguments, reason = "the parts of one delivery, used twice just above")]
fn put_card(
    store: &mut Store,
    name: &str,
    sink: &dyn Notifier,
    task: &Task,
    mode: CardMode,
    message: &CardMessage<'_>,
    now: i64,
    deadline: Instant,
) -> Result<Outcome> {
    let stored = store.read(|tx| tx.card(task.id, name))?;
    let mut record = |new: &StoredCard| Ok(store.write(|tx| tx.set_card(task.id, name, new))?);
    sink.card(stored.as_ref(), mode, message, now, deadline, &mut record)
}

/// Sends an alert to every sink, and to the file if no other sink accepts it.
pub fn alert(ctx: &mut Ctx, row: &OutboxRow, task: Option<&Task>, deadline: Instant) -> Result<Delivered> {
    let text = |name: &str| row.payload.get(name).and_then(serde_json::Value::as_str).unwrap_or("");
    let Some(kind) = AlertKind::parse(text("kind")) else {
        return Ok(Delivered::Refused { why: format!("there is no alert {:?}", text("kind")) });
    };
    let url = match task {
        Some(task) => projects::item_url(ctx, task)?,
        None => None,
    };
    let data = AlertData {
        key: text("key").to_owned(),
        url,
        title: text("title").to_owned(),
        detail: text("detail").to_owned(),
        answer: task.and_then(|t| {
            let project = ctx.project(&t.project).ok()?.clone();
            let answers = boards::answers(ctx, &project);
            let waiting = if kind == AlertKind::ApprovalWanted { Waiting::Approval } else { Waiting::ConfirmDeploy };
            answers.to(waiting).map(str::to_owned)
        }),
        lines: match task {
            Some(task) if asks::asks(kind, task) => show::wait(ctx, task, ctx.config.notify.locale),
            Some(_) | None => Vec::new(),
        },
        repeated: false,
    };
    let locale = ctx.config.notify.locale;
    let first = render::alert::alert(kind, &data, locale);
    let repeat = render::alert::alert(kind, &AlertData { repeated: true, ..data }, locale);
    let message = AlertMessage {
        id: &row.key,
        kind,
        key: task.map(|t| t.key.as_str()),
        first: &first,
        repeat: &repeat,
        unknown_before: row.unknown_outcome,
        buttons: &[],
    };
    let mut row = row.clone();
    let mut each = Vec::new();
    for place in places(ctx)? {
        if has_it(&row, place.name) {
            each.push(Delivered::Yes);
            continue;
        }
        if let Some(barred) = barred(ctx, &place)? {
            each.push(barred);
            continue;
        }
        let out = match &place.open {
            Ok(sink) if place.answers => asks::alert(ctx, sink.as_ref(), &row, task, &message, deadline)?,
            Ok(sink) => sink.alert(&message, deadline),
            Err(why) => off_outcome(why),
        };
        keep(ctx, &place, &row, task, &out)?;
        if out.delivered == Delivered::Yes {
            done(ctx, &mut row, place.name)?;
        }
        each.push(out.delivered);
    }
    if to_file(&each) && !has_it(&row, FILE) {
        let file = Files { dir: ctx.paths.root().to_owned() };
        let out = file.alert(&message, deadline);
        if out.delivered == Delivered::Yes {
            done(ctx, &mut row, FILE)?;
        }
        // If a configured sink refuses, the row is still parked for it.
        if each.is_empty() || out.delivered != Delivered::Yes {
            each.push(out.delivered);
        }
    }
    let all = over_all(each, true);
    if all == Delivered::Yes {
        tracing::info!(task = task.map(|t| t.key.to_string()), "{kind}: {}", text("detail"));
        let key = task.map(|t| t.key.to_string());
        ctx.report.did(crate::model::report::ActionKind::AlertSent, key.as_deref(), json!({"alert": kind}));
    }
    Ok(all)
}
