//! Reads people's answers from the chat and applies each update once (ORD-5). `status` and `doctor` show any fault
//! here, and nothing else is delayed.

use super::asks::{self, hash};
use super::by_hand::{self, Rejected};
use super::chat_fault::{FAULT, Fault, kept_fault};
use super::{Ctx, Moment, advance, apply, notices, perform, stop};
use crate::adapters::locks;
use crate::adapters::notify::{NotifyError, Telegram};
use crate::adapters::store::{StoreError, Tx};
use crate::decide::chat::{self as decide, Does, Facts, Heard, Ours};
use crate::model::act::By;
use crate::model::card::Locale;
use crate::model::chat::{Ask, AskState, ChatAct, Decided, Ending, News, Press, Said, Says, Update, parse_data};
use crate::model::event::Event;
use crate::model::ids::TaskId;
use crate::model::policy::Policy;
use crate::model::report::{ActionKind, ActionLine};
use crate::model::task::{Run, Task, Waiting};
use crate::render;
use anyhow::Result;
use serde_json::json;
use std::time::{Duration, Instant};

/// The total time limit for reading.
const DEADLINE: Duration = Duration::from_secs(5);
/// With less time left no request is started.
const LEAST: Duration = Duration::from_millis(500);
const DAY_MS: i64 = 86_400_000;

/// When the chat is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Always,
    /// Only while a message waits for an answer.
    Asked,
}

/// The rules for judging updates.
struct Rules {
    deciders: Vec<i64>,
    ours: Ours,
    bot: String,
    stop_on: bool,
    locale: Locale,
}

/// What one update did.
#[derive(Default)]
struct Applied {
    /// It had not been applied before.
    new: bool,
    /// The task that it moved.
    task: Option<TaskId>,
    actions: Vec<ActionLine>,
    /// Runs whose processes must be ended.
    cut: Vec<Run>,
}

/// Reads and applies answers and moves their tasks. Returns whether any moved. Never fails: a fault is recorded and
/// shown.
pub fn answers(ctx: &mut Ctx, when: When) -> bool {
    match read(ctx, when) {
        Ok(moved) => {
            let any = !moved.is_empty();
            moved.into_iter().for_each(|id| advance::noted(ctx, id));
            any
        }
        Err(e) => {
            ctx.report.note(format!("answers in the chat will be read later: {e:#}"));
            false
        }
    }
}

fn read(ctx: &mut Ctx, when: When) -> Result<Vec<TaskId>> {
    if ctx.dry || ctx.interrupted() || !asks::on(ctx) {
        return Ok(Vec::new());
    }
    asks::sweep(ctx)?;
    if when == When::Asked && ctx.store.read(|tx| tx.open_asks())?.is_empty() {
        return Ok(Vec::new());
    }
    let now = ctx.now().stamp.wall_ms;
    let fault = ctx.store.read(kept_fault)?;
    let Some(place) = notices::chat_place(ctx)? else { return Ok(Vec::new()) };
    if fault.is_some_and(|f| f.waits(now)) || notices::waits(ctx, &place)? {
        return Ok(Vec::new());
    }
    // The service refuses two concurrent readers, so the second leaves it to the first.
    let Ok(_held) = locks::hold(&ctx.paths.root().join("telegram.lock")) else { return Ok(Vec::new()) };
    let Some(chat) = place.open.as_ref().ok().and_then(|sink| sink.chat()) else { return Ok(Vec::new()) };
    let Some(rules) = rules(ctx) else { return Ok(Vec::new()) };
    let (moved, done) = pages(ctx, chat, &rules)?;
    keep(ctx, done.err())?;
    Ok(moved)
}

fn rules(ctx: &mut Ctx) -> Option<Rules> {
    let moved = notices::moved_chat(ctx);
    let t = ctx.config.notify.telegram.as_ref()?;
    let name = t.chat_id.trim();
    let configured = || name.parse().map_or_else(|_| Ours::Name(name.trim_start_matches('@').to_owned()), Ours::Number);
    Some(Rules {
        deciders: t.deciders.clone(),
        ours: moved.map_or_else(configured, Ours::Number),
        bot: Telegram::bot(t.token.resolve().ok()?.expose()).to_owned(),
        stop_on: ctx.config.stop.status_enabled,
        locale: ctx.config.notify.locale,
    })
}

/// Records the result of reading.
fn keep(ctx: &mut Ctx, error: Option<NotifyError>) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    if let Some(NotifyError::Throttled { retry_after_s }) = error {
        return notices::throttled(ctx, notices::CHAT, retry_after_s);
    }
    let before = ctx.store.read(kept_fault)?;
    if before.is_none() && error.is_none() {
        return Ok(());
    }
    ctx.store.write(|tx| match &error {
        None => tx.drop_meta(FAULT),
        Some(e) => {
            let (since, times) = before.map_or((at, 0), |f| (f.since, f.times));
            let fault = Fault { why: e.to_string(), since, tried: at, times: times.saturating_add(1) };
            tx.set_meta(FAULT, &json!(fault).to_string())
        }
    })?;
    Ok(())
}

/// Reads one page, and further ones only while they are full.
fn pages(ctx: &mut Ctx, chat: &Telegram, rules: &Rules) -> Result<(Vec<TaskId>, Result<(), NotifyError>)> {
    let until = Instant::now() + DEADLINE;
    let mut moved = Vec::new();
    let mut limit = Telegram::PAGE;
    loop {
        let now = ctx.now().stamp.wall_ms;
        let left = until.saturating_duration_since(Instant::now());
        if left < LEAST || ctx.interrupted() {
            return Ok((moved, Ok(())));
        }
        let offset = ctx.store.read(|tx| tx.next_update(&rules.bot, now))?;
        let page = match chat.within(left).updates(offset, limit) {
            Ok(page) => page,
            // If a page is too large, read its updates one at a time.
            Err(NotifyError::TooLong { .. }) if limit > 1 => {
                limit = 1;
                continue;
            }
            Err(e) => return Ok((moved, Err(e))),
        };
        let mut new = false;
        for update in &page {
            let applied = one(ctx, rules, update)?;
            new |= applied.new;
            ctx.report.changed |= !applied.actions.is_empty();
            ctx.report.actions.extend(applied.actions);
            if !applied.cut.is_empty() {
                perform::processes::end_runs(ctx, &applied.cut)?;
            }
            moved.extend(applied.task);
        }
        let full = u32::try_from(page.len()).is_ok_and(|n| n >= limit);
        if !full || !new {
            return Ok((moved, Ok(())));
        }
    }
}

/// Applies an update and keeps its number in one transaction. An unreadable row affects only this update.
fn one(ctx: &mut Ctx, rules: &Rules, update: &Update) -> Result<Applied, StoreError> {
    let (now, policy) = (ctx.now(), ctx.policy.clone());
    let at = now.stamp.wall_ms;
    let done = ctx.store.write(|tx| {
        if !tx.note_update(&rules.bot, update.id, at)? {
            return Ok(Applied::default());
        }
        let applied = match &update.news {
            News::Press(press) => pressed(tx, press, rules, (update.id, at))?,
            News::Said(said) => replied(tx, said, rules, (update.id, &now, &policy))?,
            News::Other => Applied::default(),
        };
        Ok::<_, StoreError>(Applied { new: true, ..applied })
    });
    match done {
        Err(StoreError::Undecodable(why)) => {
            tracing::error!(update = update.id, "an answer in the chat is ignored: {why}");
            ctx.store.write(|tx| tx.note_update(&rules.bot, update.id, at))?;
            Ok(Applied { new: true, ..Applied::default() })
        }
        done => done,
    }
}

/// The task of a message, and whether a job is working on it.
fn subject(tx: &Tx<'_>, ask: Option<&Ask>) -> Result<(Option<Task>, bool), StoreError> {
    let Some(ask) = ask else { return Ok((None, false)) };
    let task = match tx.task(ask.task) {
        Ok(task) => task,
        Err(StoreError::Lost) => return Ok((None, false)),
        Err(e) => return Err(e),
    };
    let busy = tx.live_job(task.id)?.is_some();
    Ok((Some(task), busy))
}

fn facts<'a>(rules: &'a Rules, ask: Option<&'a Ask>, task: Option<&'a Task>, busy: bool, now: i64) -> Facts<'a> {
    let Rules { deciders, ours, stop_on, .. } = rules;
    Facts { deciders, chat: ours, ask, task, busy, stop_on: *stop_on, now }
}

fn pressed(tx: &Tx<'_>, press: &Press, rules: &Rules, (update, at): (i64, i64)) -> Result<Applied, StoreError> {
    let ask = match parse_data(&press.data) {
        Some((nonce, _)) => tx.ask_by_nonce(&hash(nonce))?,
        None => None,
    };
    let (task, busy) = subject(tx, ask.as_ref())?;
    let judged = decide::press(press, &facts(rules, ask.as_ref(), task.as_ref(), busy, at));
    let mut applied = Applied::default();
    if judged.does == Does::Stranger {
        stranger(tx, press, task.as_ref(), at)?;
    } else if let (Some(ask), Some(task)) = (&ask, &task) {
        if !matches!(judged.says, Says::NotHere | Says::Unknown) {
            first_seen(tx, ask, press, at)?;
        }
        applied = act(tx, (ask, task), press, &judged.does, (update, at))?;
    }
    let (text, alert) = render::chat::answer(rules.locale, &judged.says);
    let act = ChatAct::Answer { callback: press.callback.clone(), text, alert };
    // In a separate lane, so that a message that can't be edited does not delay an answer.
    asks::post(tx, None, &format!("answer/{}/{update}", rules.bot), &act, at)?;
    Ok(applied)
}

/// If sending a message was never confirmed, its first button press gives its id.
fn first_seen(tx: &Tx<'_>, ask: &Ask, press: &Press, at: i64) -> Result<(), StoreError> {
    let Some((chat, message)) = press.message.as_ref().filter(|_| ask.message_id.is_none()) else { return Ok(()) };
    tx.ask_sent(ask.id, chat.id, *message)?;
    if ask.state == AskState::Open {
        return Ok(());
    }
    asks::show_closed(tx, &Ask { message_id: Some(*message), ..ask.clone() }, at)
}

/// Recorded once per person and day.
fn stranger(tx: &Tx<'_>, press: &Press, task: Option<&Task>, at: i64) -> Result<(), StoreError> {
    if tx.note_stranger(at.div_euclid(DAY_MS), press.from.id)? {
        let who = render::chat::name(&press.from.name, press.from.id);
        let by = By::Telegram { user: press.from.id.to_string() };
        super::record::event(tx, at, task.map(|t| t.id), Event::StrangerRefused, &json!({"by": by, "who": who}))?;
    }
    Ok(())
}

fn act(
    tx: &Tx<'_>,
    (ask, task): (&Ask, &Task),
    press: &Press,
    does: &Does,
    (update, at): (i64, i64),
) -> Result<Applied, StoreError> {
    let by = By::Telegram { user: press.from.id.to_string() };
    let who = || Some(render::chat::name(&press.from.name, press.from.id));
    let key = Some(task.key.as_str());
    // Re-read the row: the message id may just have been recorded.
    let ask = tx.ask(ask.id)?.unwrap_or_else(|| ask.clone());
    let mut applied = Applied::default();
    match does {
        Does::Nothing | Does::Stranger => {}
        Does::Release(waiting) => {
            apply::release(tx, &mut task.clone(), *waiting, &by, at)?;
            let what = match waiting {
                Waiting::Approval => Ending::Approved,
                Waiting::ConfirmDeploy => Ending::Confirmed,
            };
            asks::end_all(tx, task.id, Some(ask.id), &Decided { what, by: who(), at }, at)?;
            applied.actions.push(ActionLine::new(ActionKind::ReleaseGiven, key, json!({"for": waiting, "by": by})));
            applied.task = Some(task.id);
        }
        Does::Stop => {
            let recorded = stop::request_in(tx, task.id, Some("Stop in the chat"), &by, at)?;
            if let (true, stop::Requested::Deferred(window)) = (recorded.first, &recorded.requested) {
                applied.actions.push(ActionLine::new(ActionKind::CancelDeferred, key, json!({"window": window})));
            }
            asks::end_all(tx, task.id, Some(ask.id), &Decided { what: Ending::Stopped, by: who(), at }, at)?;
            applied.task = Some(task.id);
        }
        Does::KeepOn => {
            asks::close(tx, &ask, AskState::Used, &Decided { what: Ending::NotStopped, by: who(), at }, at)?;
        }
        Does::AskReason => {
            let act = ChatAct::Reason { ask: ask.id, user: press.from.id, name: press.from.name.clone() };
            asks::post(tx, Some(task.id), &format!("reason/{}/{update}", ask.id), &act, at)?;
        }
        Does::AskSure => {
            let act = ChatAct::Sure { ask: ask.id };
            asks::post(tx, Some(task.id), &format!("sure/{}/{update}", ask.id), &act, at)?;
        }
        Does::AskAgain => {
            asks::close(tx, &ask, AskState::Ended, &Decided { what: Ending::HeadChanged, by: None, at }, at)?;
            asks::again(tx, task, ask.waiting, &format!("ask{}", ask.id), at)?;
        }
    }
    Ok(applied)
}

/// Treats a message as the reason of a rejection, if it is one.
fn replied(
    tx: &Tx<'_>,
    said: &Said,
    rules: &Rules,
    (update, now, policy): (i64, &Moment, &Policy),
) -> Result<Applied, StoreError> {
    let at = now.stamp.wall_ms;
    let ask = match said.reply_to {
        Some(message) => tx.ask_for_reason(said.chat.id, message)?,
        None => None,
    };
    let (task, busy) = subject(tx, ask.as_ref())?;
    let heard = decide::reason(said, &facts(rules, ask.as_ref(), task.as_ref(), busy, at));
    let (Some(ask), Some(task)) = (ask, task) else { return Ok(Applied::default()) };
    let reason = match heard {
        Heard::Nothing => return Ok(Applied::default()),
        Heard::Unused(says) => return unused(tx, said, &task, rules, (update, &says, at)),
        Heard::Reason(reason) => reason,
    };
    let by = By::Telegram { user: said.from.id.to_string() };
    let Some(Rejected { actions, cut }) = by_hand::reject_in(tx, task.id, &reason, &by, now, policy)? else {
        return unused(tx, said, &task, rules, (update, &Says::Busy, at));
    };
    let who = Some(render::chat::name(&said.from.name, said.from.id));
    asks::end_all(tx, task.id, Some(ask.id), &Decided { what: Ending::Rejected, by: who, at }, at)?;
    Ok(Applied { new: true, task: Some(task.id), actions, cut })
}

/// Replies to a reason that had no effect with why, just as each button press is answered.
fn unused(
    tx: &Tx<'_>,
    said: &Said,
    task: &Task,
    rules: &Rules,
    (update, says, at): (i64, &Says, i64),
) -> Result<Applied, StoreError> {
    let text = render::chat::unused(rules.locale, task.key.as_str(), says);
    let act = ChatAct::Reply { chat: said.chat.id, message: said.id, text };
    asks::post(tx, None, &format!("answer/{}/{update}", rules.bot), &act, at)?;
    Ok(Applied::default())
}
