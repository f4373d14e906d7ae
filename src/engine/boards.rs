//! Reads statuses, work items and labels from the boards; observations become rows and intents (BRD-4, RULE-12).

use super::record;
use super::{Ctx, messages, projects};
use crate::adapters::board::{Board, BoardError, Listing, Problem, Scope, StatusCache};
use crate::adapters::store::{ItemRow, NewIntent, Result as StoreResult, Tx};
use crate::config::Project;
use crate::decide::board::{self as decide, Asserts, Known, Said, Seen, Sight, Source};
use crate::model::answers::Answers;
use crate::model::board::{Group, Intent, ItemRef, Progress, Resolved, WorkItem, resolve};
use crate::model::card::AlertKind;
use crate::model::change::Change;
use crate::model::event::Event;
use crate::model::ids::Key;
use crate::model::stage::Stage;
use crate::model::task::{Task, Wait};
use crate::model::text::nearest;
use crate::model::withdrawal::Withdrawal;
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeMap;

/// A project's board with its statuses by meaning.
#[derive(Debug)]
pub struct Seat {
    pub board: Box<dyn Board>,
    pub resolved: Resolved,
}

/// Where a project's statuses are kept.
fn states_key(project: &Project) -> String {
    format!("board/statuses/{}", project.key)
}

/// Opens a project's board. Statuses are cached (TTL). A failed refresh serves the stale set and says so, never another
/// project's.
pub fn seat(ctx: &mut Ctx, project: &Project) -> Result<Seat> {
    let board = projects::board(ctx, project)?;
    let names = projects::status_names(project);
    if !project.board.is_remote() {
        let statuses = board.statuses()?;
        return Ok(Seat { resolved: resolve(&statuses, &names), board });
    }
    let name = states_key(project);
    let now = ctx.now().stamp.wall_ms;
    let cached: Option<StatusCache> = ctx.store.read(|tx| tx.meta(&name))?.and_then(|t| serde_json::from_str(&t).ok());
    if let Some(c) = cached.as_ref().filter(|c| c.is_fresh(now, ctx.config.plane.states_ttl_s)) {
        return Ok(Seat { resolved: resolve(&c.statuses, &names), board });
    }
    match ctx.asked.statuses(&project.key, now) {
        Some(Ok(statuses)) => return Ok(Seat { resolved: resolve(&statuses, &names), board }),
        Some(Err(e)) => {
            let stale = cached.ok_or(e)?;
            return Ok(Seat { resolved: resolve(&stale.statuses, &names), board });
        }
        None => {}
    }
    let answer = board.statuses();
    let asked_at = ctx.now().stamp.wall_ms;
    ctx.asked.keep_statuses(&project.key, asked_at, answer.clone());
    match answer {
        Ok(statuses) => {
            let fresh = StatusCache { fetched_at: now, statuses };
            let text = serde_json::to_string(&fresh)?;
            if !ctx.dry {
                ctx.store.write(|tx| {
                    tx.set_meta(&name, &text)?;
                    tx.set_meta("reconcile/stale_since", "")
                })?;
            }
            Ok(Seat { resolved: resolve(&fresh.statuses, &names), board })
        }
        Err(e) => match cached {
            Some(c) => {
                let since = c.fetched_at.to_string();
                ctx.store.write(|tx| tx.set_meta("reconcile/stale_since", &since))?;
                ctx.report.fault(None, format!("statuses of {} are stale, the refresh failed: {e}", project.key), None);
                Ok(Seat { resolved: resolve(&c.statuses, &names), board })
            }
            None => Err(e.into()),
        },
    }
}

/// Forgets a project's cached statuses, so that an examination asks the board (`doctor`, on a copy of the database).
pub fn forget(ctx: &mut Ctx, project: &Project) -> Result<()> {
    ctx.asked = super::memory::Asked::default();
    Ok(ctx.store.write(|tx| tx.drop_meta(&states_key(project)))?)
}

/// A project's statuses by meaning, from what is known without a request; `None`: a board never read.
pub fn resolved(ctx: &mut Ctx, project: &Project) -> Option<Resolved> {
    let names = projects::status_names(project);
    let statuses = if project.board.is_remote() {
        let text = ctx.store.read(|tx| tx.meta(&states_key(project))).ok().flatten();
        text.and_then(|t| serde_json::from_str::<StatusCache>(&t).ok())?.statuses
    } else {
        crate::model::board::local_statuses(&names)
    };
    Some(resolve(&statuses, &names))
}

/// Intents without effect in a project (RULE-14), from what is known without a request. A board never read has none.
pub fn intents_off(ctx: &mut Ctx, project: &Project) -> Vec<crate::model::board::IntentOff> {
    resolved(ctx, project).map(|r| r.off().to_vec()).unwrap_or_default()
}

/// The status that answers each question on a project's board, from what is known without a request. Nothing is asked
/// that the board can't answer (RULE-14).
pub fn answers(ctx: &mut Ctx, project: &Project) -> Answers {
    let names = projects::status_names(project);
    let known = resolved(ctx, project);
    let name = |intent: Intent| match &known {
        Some(resolved) => resolved.status_for(intent.logical()).map(|s| s.name.clone()),
        // Until the board is read, the configured status is the one asked for.
        None => Some(names.get(&intent.logical()).map_or(intent.logical().default_name(), String::as_str).to_owned()),
    };
    Answers { approved: name(Intent::Approved), confirm_deploy: name(Intent::ConfirmDeploy) }
}

/// The waits of a project's tasks, by work item. Read before the board, so that a status older than a question neither
/// asks nor answers it (RULE-43).
pub type Waits = BTreeMap<String, Wait>;

/// The waits as they are now.
pub fn waits(ctx: &mut Ctx, project: &Project) -> Result<Waits> {
    let open = ctx.store.read(|tx| tx.open_tasks())?;
    let of = open.into_iter().filter(|t| t.project == project.key);
    Ok(of.filter_map(|t| Some((t.item_id.clone(), t.wait()?))).collect())
}

/// What a full scan of a board says about items that are not in its list.
pub struct Whole<'a> {
    /// Items that could not be read: nothing is known of them.
    pub unread: &'a [Key],
    /// Whether an item exists but did not have to be read, by its id.
    pub there: &'a dyn Fn(&str) -> bool,
}

/// The items that were read but not recorded.
#[derive(Debug, Default)]
pub struct Observed {
    /// To be read again, since a question was asked or ended in the meantime.
    pub again: Vec<Key>,
    /// Their rows can't be decoded.
    held: Vec<Key>,
}

/// Records what was read from a board: one row per item, an intent if the status changed to one, and which waits are
/// asked. `before`: from [`waits`], read before the board. `whole`: the board has no other items.
pub fn observe(
    ctx: &mut Ctx,
    project: &Project,
    resolved: &Resolved,
    items: &[WorkItem],
    whole: Option<&Whole<'_>>,
    before: &Waits,
) -> Result<Observed> {
    let at = ctx.now().stamp.wall_ms;
    let key = project.key.clone();
    // Most reads find nothing new: then nothing is written, and no lock is taken.
    let news: Vec<&WorkItem> = {
        ctx.store.read(|tx| {
            let mut news = Vec::new();
            for item in items {
                let asks =
                    before.get(&item.id).is_some_and(|w| !w.asked) && resolved.intent_of(&item.status_id).is_none();
                if asks || tx.item(&key, &item.id)?.is_none_or(|r| differs(&r, item)) {
                    news.push(item);
                }
            }
            Ok::<_, crate::adapters::store::StoreError>(news)
        })?
    };
    let mut out = Observed::default();
    if !news.is_empty() {
        let read = Reading {
            project: &key,
            resolved,
            source: if project.board.is_remote() { Source::Server } else { Source::File },
            stop_on: ctx.config.stop.status_enabled,
            frozen: !project.board.deciders().is_empty() || project.board.asks_rights(),
            before,
            at,
        };
        let (again, held) = ctx.store.write(|tx| {
            let (mut again, mut held) = (Vec::new(), Vec::new());
            for item in &news {
                match tx.part(|tx| one(tx, &read, item))? {
                    Ok(Recorded::Yes) => {}
                    Ok(Recorded::No) => again.push(item.key.clone()),
                    // It holds only its own task; the next pass reads the item again.
                    Err(why) => held.push((item.key.clone(), why)),
                }
            }
            Ok::<_, crate::adapters::store::StoreError>((again, held))
        })?;
        out.again = again;
        for (key, why) in held {
            out.held.push(key.clone());
            ctx.report.fault(
                Some(key.as_str()),
                format!("what the board says of {key} can't be recorded: {why}"),
                None,
            );
        }
    }
    if let Some(whole) = whole {
        let there: std::collections::HashSet<&str> = items.iter().map(|i| i.id.as_str()).collect();
        let open = ctx.store.read(|tx| tx.open_tasks())?;
        for task in open.iter().filter(|t| t.project == key && !whole.unread.contains(&t.key)) {
            let id = task.item_id.as_str();
            set_gone(ctx, task, !there.contains(id) && !(whole.there)(id))?;
        }
    }
    Ok(out)
}

/// Holds a task whose item is gone, archived or a draft; releases it when the item is back.
pub fn set_gone(ctx: &mut Ctx, task: &Task, gone: bool) -> Result<()> {
    let seen = gone.then_some(Withdrawal::ItemGone);
    if !decide::changes_hold(task, seen.as_ref(), Asserts::Presence) {
        return Ok(());
    }
    let at = ctx.now().stamp.wall_ms;
    let id = task.id;
    Ok(ctx.store.write(|tx| {
        let t = tx.task(id)?;
        withdrawn(tx, &t, seen, Asserts::Presence, at)
    })?)
}

/// After a full scan of a board whose pages may drift: asks individually for the items of live tasks that the scan did
/// not show. An item missing from one scan is unknown, not gone. Returns whether all were asked.
pub fn find_missing(ctx: &mut Ctx, project: &Project, seat: &Seat, seen: &[WorkItem]) -> Result<bool> {
    for task in ctx.store.read(|tx| tx.open_tasks())?.iter().filter(|t| t.project == project.key) {
        if ctx.interrupted() {
            return Ok(false);
        }
        if seen.iter().any(|i| i.id == task.item_id) {
            set_gone(ctx, task, false)?;
            continue;
        }
        match seat.board.get(seat.resolved.statuses(), &task.key) {
            Ok(item) => set_gone(ctx, task, item.is_none())?,
            // The board asks everybody to wait, or does not answer.
            Err(e @ (BoardError::Throttled { .. } | BoardError::Silent(_))) => return Err(e.into()),
            // A *no* for one item says nothing about the next (RULE-44).
            Err(e) => ctx.fault(Some(task), "searching for its work item", &e.into()),
        }
    }
    Ok(true)
}

fn differs(row: &ItemRow, item: &WorkItem) -> bool {
    row.status_id != item.status_id
        || row.title != item.title
        || row.group.as_deref() != item.group.map(Group::as_str)
        || row.body_hash != said(item)
        || item.updated_ms > row.updated_ms
}

/// The contents of an item other than title and status that a task follows until it begins.
fn said(item: &WorkItem) -> String {
    use sha2::{Digest, Sha256};
    let refs = item.blocked_by.as_ref().map(|refs| format!("{refs:?}"));
    if item.body.is_none() && refs.is_none() {
        return String::new();
    }
    let text = format!("{:?} {refs:?} {}", item.body, priority(item));
    Sha256::digest(text.as_bytes()).iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// The context in which one reading of a board is judged.
struct Reading<'a> {
    project: &'a str,
    resolved: &'a Resolved,
    source: Source,
    stop_on: bool,
    /// A task's title and text stay as its decider saw them (BRD-3).
    frozen: bool,
    before: &'a Waits,
    at: i64,
}

/// Whether an item that was read is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recorded {
    Yes,
    /// It must be read again.
    No,
}

/// The status that asks for a task's current wait in a project, fallbacks included.
fn asking<'r>(resolved: &'r Resolved, task: &Task) -> Option<&'r str> {
    let logical = crate::model::board::indication(task.stage, Progress::AwaitingPerson)?;
    resolved.status_for(logical).map(|s| s.id.as_str())
}

/// Records that the board asks for the task's current wait, if this status does and the task was already in that wait,
/// `before`, when the board was read or written (RULE-43).
pub fn asked(
    tx: &Tx<'_>,
    task: &mut Task,
    resolved: &Resolved,
    before: Option<Wait>,
    status: &str,
    at: i64,
) -> StoreResult<()> {
    if task.asked_at.is_some() || !decide::asks(task, before, asking(resolved, task), status) {
        return Ok(());
    }
    record::change(tx, task, Change::Asked { at }, at)?;
    record::event(tx, at, Some(task.id), Event::Asked, &json!({"for": task.waiting_for, "on": "the board"})).map(drop)
}

fn one(tx: &Tx<'_>, read: &Reading<'_>, item: &WorkItem) -> StoreResult<Recorded> {
    let Reading { project, resolved, at, .. } = *read;
    let old = tx.item(project, &item.id)?;
    let known =
        old.as_ref().map(|o| Known { status: &o.status_id, updated_ms: o.updated_ms, written_ms: o.written_ms });
    let means = resolved.intent_of(&item.status_id).filter(|i| read.stop_on || *i != Intent::Stop);
    let task = tx.task_by_item(project, &item.id)?;
    let now = task.as_ref().and_then(Task::wait);
    let seen = Seen {
        status: &item.status_id,
        updated_ms: item.updated_ms,
        means,
        source: read.source,
        before: read.before.get(&item.id).copied(),
        now,
    };
    let intent = match decide::sight(known, &seen) {
        Sight::Older => return Ok(Recorded::Yes),
        Sight::Unclear => return Ok(Recorded::No),
        Sight::Recorded { intent } => intent,
    };
    if let Some(intent) = intent {
        let created_order = format!("{:020}-{:09}", item.created_ms.max(0), item.key.number());
        let answers = now.filter(|w| w.asked).map(|w| w.no);
        let new = NewIntent {
            project,
            item_id: &item.id,
            kind: intent,
            answers,
            created_order: &created_order,
            user: item.changed_by.as_deref(),
        };
        tx.add_intent(&new, at)?;
        record::event(
            tx,
            at,
            None,
            Event::IntentSeen,
            &json!({"key": item.key, "intent": intent, "was": old.as_ref().map(|o| o.status_id.clone())}),
        )?;
    }
    let to_analyse = means == Some(Intent::ToAnalyse);
    tx.put_item(&ItemRow {
        project: project.to_owned(),
        item_id: item.id.clone(),
        key: item.key.to_string(),
        status_id: item.status_id.clone(),
        updated_ms: old.as_ref().map_or(0, |o| o.updated_ms).max(item.updated_ms),
        written_ms: old.as_ref().map_or(0, |o| o.written_ms),
        title: item.title.clone(),
        priority: priority(item),
        body_hash: said(item),
        group: item.group.map(|g| g.as_str().to_owned()),
        seen_other_since_end: old.as_ref().is_none_or(|o| o.seen_other_since_end) || !to_analyse,
    })?;
    let Some(mut task) = task else { return Ok(Recorded::Yes) };
    if task.stage == Stage::Created {
        follow(tx, &mut task, read, item)?;
    }
    asked(tx, &mut task, resolved, seen.before, &item.status_id, at)?;
    if !task.stage.is_terminal() {
        let ended = means.is_none() && resolved.is_terminal(&item.status_id);
        let status = || item.status_name.clone().unwrap_or_else(|| "a closed status".to_owned());
        let seen = ended.then(|| Withdrawal::ItemClosed { status: status() });
        withdrawn(tx, &task, seen, Asserts::Status, at)?;
    }
    Ok(Recorded::Yes)
}

/// Until its work begins, a task follows its item.
fn follow(tx: &Tx<'_>, task: &mut Task, read: &Reading<'_>, item: &WorkItem) -> StoreResult<()> {
    let Reading { project, at, .. } = *read;
    let blockers = item.blocked_by.as_ref().map(|refs| blockers(tx, project, refs)).transpose()?;
    let said = Said { title: &item.title, body: item.body.as_deref(), priority: priority(item), blockers };
    let changes = decide::follow(task, said, read.frozen);
    if changes.is_empty() {
        return Ok(());
    }
    record::changes(tx, task, changes, at)?;
    tx.set_priority(task.id, task.priority)
}

/// 0 urgent … 4 none.
pub fn priority(item: &WorkItem) -> i64 {
    let at = crate::model::board::Priority::ALL.iter().position(|p| *p == item.priority).unwrap_or(4);
    i64::try_from(at).unwrap_or(4)
}

/// Blockers as keys. One that resolves to no key is returned by name: it holds the task, and the reason names it.
pub fn blockers(tx: &Tx<'_>, project: &str, refs: &[ItemRef]) -> StoreResult<(Vec<Key>, Vec<String>)> {
    let (mut keys, mut unknown) = (Vec::new(), Vec::new());
    for r in refs {
        match r {
            ItemRef::Key(k) => keys.push(k.clone()),
            ItemRef::Id(id) => match tx.item(project, id)?.and_then(|i| Key::parse(&i.key).ok()) {
                Some(k) => keys.push(k),
                None => unknown.push(id.clone()),
            },
        }
    }
    Ok((keys, unknown))
}

/// Holds a task whose item a person withdrew; releases it when the item is back.
fn withdrawn(tx: &Tx<'_>, task: &Task, seen: Option<Withdrawal>, kind: Asserts, at: i64) -> StoreResult<()> {
    if !decide::changes_hold(task, seen.as_ref(), kind) {
        return Ok(());
    }
    let mut t = task.clone();
    record::change(tx, &mut t, Change::Withdrawal(seen.clone()), at)?;
    let event = if seen.is_some() { Event::Withdrawn } else { Event::WithdrawalEnded };
    record::event(tx, at, Some(t.id), event, &json!({"why": seen.as_ref().map(ToString::to_string)}))?;
    if let Some(why) = &seen {
        messages::alert(tx, &t, AlertKind::Withdrawn, t.epoch, &why.to_string(), at)?;
    }
    messages::card(tx, &t, at)
}

/// The message that the board does not know a status, with the nearest one it knows; `None`: it knows it.
pub fn unknown_status(resolved: &Resolved, status: &str) -> Option<String> {
    if resolved.status(status).is_some() {
        return None;
    }
    let all: Vec<&str> = resolved.statuses().iter().map(|s| s.name.as_str()).collect();
    let near = nearest(status, all.iter().copied())
        .map_or_else(|| format!("it knows {}", all.join(", ")), |word| format!("did you mean {word:?}?"));
    Some(format!("its status {status:?} is unknown to this board and has no effect; {near}"))
}

/// Reads a board's list for as long as `go_on` allows and records it. Returns the listing for the caller's watermark.
pub fn scan(
    ctx: &mut Ctx,
    project: &Project,
    seat: &Seat,
    scope: &Scope<'_>,
    go_on: &dyn Fn() -> bool,
) -> Result<Listing, BoardError> {
    let ours = |e: anyhow::Error| BoardError::Transient(format!("{e:#}"));
    let before = waits(ctx, project).map_err(ours)?;
    let mut listing = seat.board.list(seat.resolved.statuses(), scope, go_on)?;
    tell(ctx, project, seat, &listing);
    let whole = matches!(scope, Scope::All { cursor: None }) && listing.unfinished.is_none();
    // A server's list has pages: an item missing from one scan is unknown, not gone. An unreadable file still exists.
    let unread: Vec<Key> = listing.problems.iter().filter_map(|p| p.key.clone()).collect();
    let whole = (whole && !project.board.is_remote()).then_some(Whole { unread: &unread, there: &|_| false });
    projects::remember(ctx, seat.board.as_ref()).map_err(ours)?;
    record(ctx, project, seat, &mut listing, whole.as_ref(), &before)?;
    Ok(listing)
}

/// Reports what in a list could not be read, was skipped, or has an unknown status.
pub fn tell(ctx: &mut Ctx, project: &Project, seat: &Seat, listing: &Listing) {
    for p in &listing.problems {
        let (task, why) = (p.key.as_ref().map(Key::as_str), format!("{} can't be read: {}", p.at, p.why));
        let next = Some("the next step reads it again".to_owned());
        // The folder belongs to a person: a bad file in place of an item is reported but does not fail the step
        // (RULE-40, RULE-44).
        if project.board.is_remote() {
            ctx.report.fault(task, why, next);
        } else {
            ctx.report.others_fault(task, why, next);
        }
    }
    for p in &listing.strangers {
        ctx.report.note(format!("{} is skipped: {}", p.at, p.why));
    }
    for item in &listing.items {
        if let Some(said) = unknown_status(&seat.resolved, &item.status_id) {
            ctx.report.note(format!("{}: {said}", item.key));
        }
    }
}

/// Records a list and re-reads what changed meanwhile. Returns the items that could not be recorded. What is still
/// unclear becomes a problem of the list, so that no watermark passes it.
pub fn record(
    ctx: &mut Ctx,
    project: &Project,
    seat: &Seat,
    listing: &mut Listing,
    whole: Option<&Whole<'_>>,
    before: &Waits,
) -> Result<Vec<Key>, BoardError> {
    let ours = |e: anyhow::Error| BoardError::Transient(format!("{e:#}"));
    let seen = observe(ctx, project, &seat.resolved, &listing.items, whole, before).map_err(ours)?;
    for key in &seen.again {
        let before = waits(ctx, project).map_err(ours)?;
        let item = seat.board.get(seat.resolved.statuses(), key)?;
        let again = observe(ctx, project, &seat.resolved, item.as_slice(), None, &before).map_err(ours)?.again;
        listing.problems.extend(again.into_iter().map(|key| Problem {
            at: key.to_string(),
            why: "a question about it was asked while it was read".to_owned(),
            key: Some(key),
        }));
    }
    Ok(seen.again.into_iter().chain(seen.held).collect())
}
