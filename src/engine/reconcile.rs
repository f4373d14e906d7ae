//! `reconcile`: read the boards, turn intents into transitions, repair what a crash lost, restore indications (BRD-4).

use super::{Ctx, advance, boards, intents, outages, outbox, projects, services, throttle};
use crate::adapters::board::{BoardError, Cut, Scope};
use crate::adapters::store::{NewOutbox, Sink, StoreError};
use crate::config::Project;
use crate::decide::board::progress;
use crate::decide::reconcile::{self as rule, AfterCut, Look, Mark, ReadSoFar, Scan};
use crate::model::board::{WorkItem, indication};
use crate::model::report::Rule;
use anyhow::Result;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The time limit for scanning one board, except for a page in progress; a full scan resumes in the next pass.
pub const SCAN: Duration = Duration::from_secs(120);

/// One pass over every project, scanning each board for at most `longest`.
pub fn run(ctx: &mut Ctx, only: Option<&str>, full: bool, longest: Duration) -> Result<()> {
    if !ctx.config.reconcile.enabled {
        ctx.report.hold(None, Rule::SwitchedOff, "reconcile.enabled is off");
        return Ok(());
    }
    let projects: Vec<Project> =
        ctx.config.projects.iter().filter(|p| only.is_none_or(|o| o == p.key)).cloned().collect();
    for project in projects {
        if ctx.interrupted() {
            break;
        }
        let done = match one(ctx, &project, full, longest) {
            // Not logged as an error: the pass ends, and the next one runs later.
            Err(e) if is_throttle(&e) => {
                services::keep(ctx, &project, &e);
                held_back(ctx, &project).map(|()| Asked::No)
            }
            done => done,
        };
        if let Err(e) = &done {
            services::keep(ctx, &project, e);
            ctx.report.fault(None, format!("board of {}: {e:#}", project.key), None);
        }
        // A board that was not asked, or only asked us to wait, proves nothing either way.
        if !ctx.dry && !matches!(done, Ok(Asked::No)) {
            outages::board(ctx, &project, done.err().as_ref())?;
        }
    }
    super::chat::answers(ctx, super::chat::When::Always);
    intents::apply_all(ctx, only)?;
    advance::idle_tasks(ctx, only)?;
    super::landing::check_waiting_deploys(ctx, only)?;
    if !ctx.interrupted() {
        drifted(ctx)?;
        super::pulls::tidy(ctx);
    }
    let now = ctx.now().stamp.wall_ms;
    if !ctx.dry {
        ctx.store.write(|tx| tx.set_meta("reconcile/last_run_at", &now.to_string()))?;
    }
    outbox::deliver(ctx);
    Ok(())
}

/// The result of a scan of a board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Yes,
    No,
}

fn is_throttle(e: &anyhow::Error) -> bool {
    e.chain().any(|e| matches!(e.downcast_ref::<BoardError>(), Some(BoardError::Throttled { .. })))
}

/// Reports until when the board asked us to wait.
fn held_back(ctx: &mut Ctx, project: &Project) -> Result<()> {
    let until = throttle::until(ctx, throttle::of_board(project).as_deref())?;
    ctx.report.skipped.push(crate::model::report::Held {
        task: None,
        rule: Rule::Throttled,
        why: format!("the board of {} asked to wait", project.key),
        until: until.map(crate::model::time::rfc3339),
    });
    Ok(())
}

fn one(ctx: &mut Ctx, project: &Project, full: bool, longest: Duration) -> Result<Asked> {
    let now = ctx.now().stamp.wall_ms;
    if throttle::until(ctx, throttle::of_board(project).as_deref())?.is_some() {
        return held_back(ctx, project).map(|()| Asked::No);
    }
    let seat = boards::seat(ctx, project)?;
    let local = !project.board.is_remote();
    let (mark, scan): (Option<Mark>, Option<Scan>) = (kept(ctx, &mark_key(project))?, kept(ctx, &scan_key(project))?);
    let look = rule::look(full || local, mark, scan.as_ref(), project.board.full_scan_every_s(), now);
    if look == Look::Whole && scan.is_none() {
        seat.board.confirm()?;
        projects::remember(ctx, seat.board.as_ref())?;
    }
    let scope = match look {
        Look::Whole => Scope::All { cursor: scan.as_ref().map(|s| s.cursor.as_str()) },
        Look::Since(since) => Scope::Since(since),
    };
    let (interrupt, until) = (Arc::clone(&ctx.interrupt), Instant::now() + longest);
    let go_on = move || !interrupt.load(Ordering::SeqCst) && Instant::now() < until;
    let listing = match boards::scan(ctx, project, &seat, &scope, &go_on) {
        Ok(listing) => listing,
        Err(BoardError::Throttled { retry_after_s, .. }) => {
            return wait(ctx, project, retry_after_s).map(|()| Asked::No);
        }
        // A resume position that the board rejects is dropped.
        Err(e @ (BoardError::Invalid(_) | BoardError::NotFound(_))) if scan.is_some() && !ctx.dry => {
            ctx.store.write(|tx| tx.drop_meta(&scan_key(project)))?;
            return Err(e.into());
        }
        Err(e) => return Err(e.into()),
    };
    let (live, skipped) = skipped(ctx, project, &seat, &listing.items)?;
    let read = ReadSoFar {
        newest_ms: listing.items.iter().map(|i| i.updated_ms).max().unwrap_or(0),
        unread: !listing.problems.is_empty(),
        pages: listing.requests,
        cursor: listing.unfinished.as_ref().and_then(|u| u.cursor.as_deref()),
        slow: listing.unfinished.as_ref().is_some_and(|u| u.why == Cut::Caller) && !ctx.interrupted(),
    };
    if let Some(unfinished) = &listing.unfinished {
        if !ctx.dry {
            keep_cut(ctx, project, &rule::after_cut(look, &read, mark, scan.as_ref(), now), skipped)?;
        }
        return match &unfinished.why {
            Cut::Budget { retry_after_s } => wait(ctx, project, *retry_after_s).map(|()| Asked::Yes),
            Cut::Reserve => {
                let why = format!(
                    "what is left of the hour's requests of {} is kept for urgent calls; the full pass continues later",
                    project.key
                );
                ctx.report.hold(None, Rule::Throttled, why);
                // What people ask for is not kept waiting by a full pass.
                match mark {
                    Some(mark) => boards::scan(ctx, project, &seat, &Scope::Since(rule::since(mark)), &|| true)
                        .map(|_| Asked::Yes)
                        .map_err(Into::into),
                    None => Ok(Asked::Yes),
                }
            }
            Cut::Failed(e) => Err(e.clone().into()),
            Cut::Caller => {
                read_on(ctx, project, listing.requests);
                Ok(Asked::Yes)
            }
        };
    }
    let whole = look == Look::Whole;
    if whole && !local && !live.is_empty() && !boards::find_missing(ctx, project, &seat, &listing.items)? {
        read_on(ctx, project, listing.requests);
        return Ok(Asked::Yes);
    }
    if ctx.dry {
        return Ok(Asked::Yes);
    }
    // The watermark is stored last.
    let ended = rule::after_end(look, &read, mark, scan.as_ref(), (now, ctx.now().stamp.wall_ms));
    let text = serde_json::to_string(&ended.mark)?;
    // Only a list that was read to its end may count as unchanged the next time.
    let seen = seat.board.seen().filter(|_| ended.sound);
    ctx.store.write(|tx| {
        tx.set_meta(&mark_key(project), &text)?;
        match &seen {
            Some(seen) => tx.set_meta(&projects::seen_key(project), seen)?,
            None => tx.drop_meta(&projects::seen_key(project))?,
        }
        if whole {
            tx.drop_meta(&scan_key(project))?;
            tx.set_meta("reconcile/last_full_at", &now.to_string())?;
        }
        if skipped > 0 {
            tx.count_up("reconcile/skipped_terminal_total", skipped)?;
        }
        Ok::<_, StoreError>(())
    })?;
    Ok(Asked::Yes)
}

/// Stores where an interrupted scan resumes.
fn keep_cut(ctx: &mut Ctx, project: &Project, cut: &AfterCut, skipped: i64) -> Result<()> {
    match cut {
        AfterCut::Nothing => Ok(()),
        AfterCut::WholeNext(mark) => {
            let text = serde_json::to_string(mark)?;
            Ok(ctx.store.write(|tx| tx.set_meta(&mark_key(project), &text))?)
        }
        AfterCut::GoOn(scan) => {
            let text = serde_json::to_string(scan)?;
            Ok(ctx.store.write(|tx| {
                tx.set_meta(&scan_key(project), &text)?;
                // The next part does not list them again.
                if skipped > 0 {
                    tx.count_up("reconcile/skipped_terminal_total", skipped)?;
                }
                Ok::<_, StoreError>(())
            })?)
        }
    }
}

/// Items with live tasks or an armed watch, and how many of the others a terminal group ends (BRD-4, RULE-14): one
/// whose status is an intent's own is never skipped.
fn skipped(
    ctx: &mut Ctx,
    project: &Project,
    seat: &boards::Seat,
    items: &[WorkItem],
) -> Result<(std::collections::HashSet<String>, i64)> {
    let open = ctx.store.read(|tx| tx.open_tasks())?;
    let live: std::collections::HashSet<String> =
        open.into_iter().filter(|t| t.project == project.key).map(|t| t.item_id).collect();
    let resolved = &seat.resolved;
    let n = items
        .iter()
        .filter(|i| resolved.is_terminal(&i.status_id) && resolved.intent_of(&i.status_id).is_none())
        .filter(|i| !live.contains(&i.id))
        .count();
    Ok((live, i64::try_from(n).unwrap_or(0)))
}

fn scan_key(project: &Project) -> String {
    format!("scan/{}", project.key)
}

fn mark_key(project: &Project) -> String {
    format!("watermark/{}", project.key)
}

/// The value that an earlier pass stored; an unreadable one counts as missing.
fn kept<T: serde::de::DeserializeOwned>(ctx: &mut Ctx, key: &str) -> Result<Option<T>> {
    let text = ctx.store.read(|tx| tx.meta(key))?;
    Ok(text.and_then(|t| serde_json::from_str(&t).ok()))
}

/// Reports that a scan was interrupted and that nothing is lost.
fn read_on(ctx: &mut Ctx, project: &Project, pages: u32) {
    let why = if ctx.interrupted() { "interrupted" } else { "slow" };
    let why = format!("{why}: the pass over the board of {} ended early, {pages} pages read", project.key);
    ctx.report.hold(None, Rule::Unfinished, why);
}

/// A 429 ends the pass and delays the next one, without logging an error.
fn wait(ctx: &mut Ctx, project: &Project, seconds: Option<u64>) -> Result<()> {
    throttle::store(ctx, throttle::of_board(project).as_deref(), seconds)?;
    let long = seconds.map_or_else(String::new, |s| format!(" {s} s"));
    ctx.report.hold(None, Rule::Throttled, format!("the board of {} asks to wait{long}", project.key));
    Ok(())
}

/// Sets indications again that a person changed. A terminal task's is written once and never restored.
fn drifted(ctx: &mut Ctx) -> Result<()> {
    let open = ctx.store.read(|tx| tx.open_tasks())?;
    for task in open {
        let Some(logical) = indication(task.stage, progress(&task)) else { continue };
        if task.withdrawn.is_some() {
            continue;
        }
        let Ok(project) = ctx.project(&task.project).cloned() else { continue };
        let Ok(seat) = boards::seat(ctx, &project) else { continue };
        let Some(item) = ctx.store.read(|tx| tx.item(&task.project, &task.item_id))? else { continue };
        let wanted = seat.resolved.status_for(logical).map(|s| s.id.clone());
        if wanted.is_none() || wanted.as_deref() == Some(item.status_id.as_str()) {
            continue;
        }
        let at = ctx.now().stamp.wall_ms;
        ctx.store.write(|tx| {
            let n = tx.count_up("board/drift", 1)?;
            let key = format!("board/t{}/drift{n}", task.id);
            super::record::post(
                tx,
                &NewOutbox { key, task_id: Some(task.id), sink: Sink::BoardStatus, payload: json!({}) },
                at,
            )
            .map(drop)?;
            Ok::<_, StoreError>(())
        })?;
    }
    Ok(())
}
