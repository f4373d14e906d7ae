//! Compares the effective guard settings with the last step's (RULE-39), so that a switch turned off by somebody's
//! environment is reported at once.

use super::{Ctx, messages};
use crate::adapters::store::StoreError;
use crate::decide::guards::{alert, differences, moved};
use crate::model::card::AlertKind;
use crate::model::event::Event;
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeMap;

const ROW: &str = "guards/settings";
/// Hashes of the sources of that row's settings: a step whose configuration has one of them has nothing to compare. A
/// timer's and a person's shell differ, so a few are kept.
const MADE_OF: &str = "guards/made_of";
const MADE_OF_MOST: usize = 4;

/// Records a difference: an audit event, one alert, and through them a line in `status`. The very first step only
/// records the settings.
pub fn compare(ctx: &mut Ctx) -> Result<()> {
    let made_of = ctx.config.inputs().to_owned();
    let known = ctx.store.read(|tx| tx.meta(MADE_OF))?.unwrap_or_default();
    if !made_of.is_empty() && known.split(' ').any(|hash| hash == made_of) {
        return Ok(());
    }
    let now = ctx.config.guard_settings();
    let text = serde_json::to_string(&now)?;
    let kept = ctx.store.read(|tx| tx.meta(ROW))?;
    if ctx.dry {
        return Ok(());
    }
    if kept.as_deref() == Some(text.as_str()) {
        let earlier = known.split(' ').filter(|hash| !hash.is_empty());
        let hashes: Vec<&str> = std::iter::once(made_of.as_str()).chain(earlier).take(MADE_OF_MOST).collect();
        return Ok(ctx.store.write(|tx| {
            // Under the lock: the row that the hashes belong to may have changed by now.
            if tx.meta(ROW)? == kept { tx.set_meta(MADE_OF, &hashes.join(" ")) } else { Ok(()) }
        })?);
    }
    let at = ctx.now().stamp.wall_ms;
    let was: Option<BTreeMap<String, String>> = kept.as_deref().and_then(|t| serde_json::from_str(t).ok());
    let moved = was.as_ref().map(|was| moved(was, &now)).unwrap_or_default();
    let changed = was.map(|was| differences(&was, &now, |path| ctx.config.source(path))).unwrap_or_default();
    let caller = caller();
    let step = ctx.report.step;
    ctx.store.write(|tx| {
        // Another step may have recorded the same difference meanwhile.
        if tx.meta(ROW)? != kept {
            return Ok(());
        }
        tx.set_meta(ROW, &text)?;
        tx.set_meta(MADE_OF, &made_of)?;
        for (project, event) in &moved {
            super::record::event(tx, at, None, *event, &json!({"project": project, "caller": caller, "step": step}))?;
        }
        if changed.is_empty() {
            return Ok(());
        }
        super::record::event(
            tx,
            at,
            None,
            Event::GuardChanged,
            &json!({"changed": changed, "caller": caller, "step": step}),
        )?;
        let n = tx.count_up("guards/changes", 1)?;
        let detail = alert(&changed, step, &caller);
        messages::alert_named(tx, AlertKind::GuardChanged, "guard settings", n, &detail, at)?;
        Ok::<_, StoreError>(())
    })?;
    Ok(())
}

/// Who started this step: the user and the program above it.
fn caller() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok().filter(|u| !u.is_empty());
    let user = user.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    let parent = rustix::process::getppid().map(rustix::process::Pid::as_raw_nonzero);
    let name = parent.and_then(|p| std::fs::read_to_string(format!("/proc/{p}/comm")).ok());
    match name.map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()) {
        Some(name) => format!("{user}, started by {name}"),
        None => user,
    }
}
