//! `reconcile`: read the boards, turn intents into transitions, mend what a crash lost, bring indications back (BRD-4).

use super::{Ctx, advance, boards, intents, messages, outbox, throttle};
use crate::adapters::board::{BoardError, Scope};
use crate::adapters::store::{NewOutbox, Sink, StoreError};
use crate::config::{self, Project};
use crate::model::board::indication;
use crate::model::report::Rule;
use anyhow::Result;
use serde_json::json;

/// Items changed this long before the watermark are looked at again.
const OVERLAP_MS: i64 = 120_000;

/// One pass over every project.
pub fn run(ctx: &mut Ctx, only: Option<&str>, full: bool) -> Result<()> {
    if !ctx.config.reconcile.enabled {
        ctx.report.hold(None, Rule::SwitchedOff, "reconcile.enabled is off");
        return Ok(());
    }
    let projects: Vec<Project> =
        ctx.config.projects.iter().filter(|p| only.is_none_or(|o| o == p.key)).cloned().collect();
    for project in projects {
        let done = one(ctx, &project, full);
        if let Err(e) = &done {
            ctx.report.fault(None, format!("board of {}: {e:#}", project.key), None);
        }
        if !ctx.dry {
            messages::service(ctx, &format!("board of {}", project.key), done.err().as_ref())?;
        }
    }
    intents::apply_all(ctx, only)?;
    advance::idle_tasks(ctx)?;
    drifted(ctx)?;
    super::pulls::tidy(ctx);
    let now = ctx.now().stamp.wall_ms;
    if !ctx.dry {
        ctx.store.write(|tx| tx.set_meta("reconcile/last_run_at", &now.to_string()))?;
    }
    outbox::deliver(ctx);
    Ok(())
}

fn one(ctx: &mut Ctx, project: &Project, full: bool) -> Result<()> {
    let now = ctx.now().stamp.wall_ms;
    if let Some(until) = throttle::until(ctx, throttle::of_board(project).as_deref())? {
        ctx.report.skipped.push(crate::model::report::Held {
            task: None,
            rule: Rule::Throttled,
            why: format!("the board of {} asked to wait", project.key),
            until: Some(crate::model::time::rfc3339(until)),
        });
        return Ok(());
    }
    let seat = boards::seat(ctx, project)?;
    let local = matches!(project.board, config::Board::Local { .. });
    let mark = mark(ctx, project)?;
    let whole = full || local || mark.is_none_or(|m| m.full_due(now, project));
    let since = mark.map_or(0, |m| m.updated_ms) - OVERLAP_MS;
    let scope = if whole { Scope::All { cursor: None } } else { Scope::Since(since) };
    let listing = match boards::look(ctx, project, &seat, &scope) {
        Ok(listing) => listing,
        Err(BoardError::Throttled { retry_after_s, .. }) => return wait(ctx, project, retry_after_s),
        Err(e) => return Err(e.into()),
    };
    let skipped = listing.items.iter().filter(|i| seat.resolved.is_terminal(&i.status_id)).count();
    if let Some(unfinished) = &listing.unfinished {
        wait(ctx, project, unfinished.retry_after_s)?;
    } else if !ctx.dry {
        // The watermark is stored last, and not past an item that could not be read (RULE-13).
        let newest =
            listing.items.iter().map(|i| i.updated_ms).max().unwrap_or(0).max(mark.map_or(0, |m| m.updated_ms));
        let mark = Mark { updated_ms: newest, full_at: if whole { now } else { mark.map_or(0, |m| m.full_at) } };
        let text = serde_json::to_string(&mark)?;
        ctx.store.write(|tx| {
            tx.set_meta(&format!("watermark/{}", project.key), &text)?;
            if whole {
                tx.set_meta("reconcile/last_full_at", &now.to_string())?;
            }
            tx.count_up("reconcile/skipped_terminal_total", i64::try_from(skipped).unwrap_or(0)).map(drop)
        })?;
    }
    Ok(())
}

/// Where the last look ended.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
struct Mark {
    updated_ms: i64,
    full_at: i64,
}

impl Mark {
    fn full_due(self, now: i64, project: &Project) -> bool {
        let every = match &project.board {
            config::Board::Plane { full_scan_every_s, .. } => i64::try_from(*full_scan_every_s).unwrap_or(86_400),
            config::Board::Local { .. } => 0,
        };
        now - self.full_at >= every.clamp(0, 86_400).saturating_mul(1000)
    }
}

fn mark(ctx: &mut Ctx, project: &Project) -> Result<Option<Mark>> {
    let text = ctx.store.read(|tx| tx.meta(&format!("watermark/{}", project.key)))?;
    Ok(text.and_then(|t| serde_json::from_str(&t).ok()))
}

/// A 429 ends the pass and moves the next one, without error noise.
fn wait(ctx: &mut Ctx, project: &Project, seconds: u64) -> Result<()> {
    throttle::store(ctx, throttle::of_board(project).as_deref(), seconds)?;
    ctx.report.hold(None, Rule::Throttled, format!("the board of {} asks to wait {seconds} s", project.key));
    Ok(())
}

/// Indications that a person moved away are set again; a terminal task's is written once and never put back.
fn drifted(ctx: &mut Ctx) -> Result<()> {
    let open = ctx.store.read(|tx| tx.open_tasks())?;
    for task in open {
        let Some(logical) = indication(task.stage, messages::moment(&task)) else { continue };
        if task.withdrawn.is_some() {
            continue;
        }
        let Ok(project) = ctx.project(&task.project).cloned() else { continue };
        let Ok(seat) = boards::seat(ctx, &project) else { continue };
        let Some(item) = ctx.store.read(|tx| tx.item(&task.project, &task.item_id))? else { continue };
        let wanted = seat.resolved.status_for(logical).map(|s| s.id.clone());
        if wanted.is_none() || wanted.as_deref() == Some(item.status_id.as_str()) || ctx.dry {
            continue;
        }
        let at = ctx.now().stamp.wall_ms;
        ctx.store.write(|tx| {
            let n = tx.count_up("board/drift", 1)?;
            let key = format!("board/t{}/drift{n}", task.id);
            tx.post(&NewOutbox { key, task_id: Some(task.id), sink: Sink::BoardStatus, payload: json!({}) }, at)
                .map(drop)?;
            Ok::<_, StoreError>(())
        })?;
    }
    Ok(())
}
