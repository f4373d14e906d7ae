//! Compares the effective guard settings with the last step's (RULE-39): a switch that somebody's environment turned off
//! is told, not found out later.

use super::{Ctx, messages};
use crate::adapters::store::StoreError;
use crate::model::card::AlertKind;
use crate::model::text::clip;
use anyhow::Result;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

const ROW: &str = "guards/settings";
/// Hashes of what the settings of that row were made of: a step whose configuration has one of them has nothing to compare.
/// Those of a timer and of a person's shell differ, so that it keeps a few.
const MADE_OF: &str = "guards/made_of";
const MADE_OF_MOST: usize = 4;

/// Notes a difference: an audit event, one alert, and by them a line in `status`. The first step of all only remembers.
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
            // Under the lock: the row that the hashes stand for may be another one by now.
            if tx.meta(ROW)? == kept { tx.set_meta(MADE_OF, &hashes.join(" ")) } else { Ok(()) }
        })?);
    }
    let at = ctx.now().stamp.wall_ms;
    let was: Option<BTreeMap<String, String>> = kept.as_deref().and_then(|t| serde_json::from_str(t).ok());
    let moved = was.as_ref().map(|was| moved(was, &now)).unwrap_or_default();
    let mut changed = was.map(|was| differences(ctx, &was, &now)).unwrap_or_default();
    changed.retain(|c| !moved.iter().any(|(key, _)| project_of(&c.setting) == Some(key.as_str())));
    let caller = caller();
    let step = ctx.report.step;
    ctx.store.write(|tx| {
        // Another step may have noted the same difference meanwhile.
        if tx.meta(ROW)? != kept {
            return Ok(());
        }
        tx.set_meta(ROW, &text)?;
        tx.set_meta(MADE_OF, &made_of)?;
        for (project, event) in &moved {
            tx.audit(at, None, event, &json!({"project": project, "caller": caller, "step": step}))?;
        }
        if changed.is_empty() {
            return Ok(());
        }
        tx.audit(at, None, "guard_changed", &json!({"changed": changed, "caller": caller, "step": step}))?;
        let n = tx.count_up("guards/changes", 1)?;
        let detail = alert(&changed, step, &caller);
        messages::alert_named(tx, AlertKind::GuardChanged, "guard settings", n, &detail, at)?;
        Ok::<_, StoreError>(())
    })?;
    Ok(())
}

/// The project that a setting belongs to.
fn project_of(path: &str) -> Option<&str> {
    path.strip_prefix("projects.").and_then(|rest| rest.split_once('.')).map(|(key, _)| key)
}

/// Projects that were added or removed since: an event each, and no alert about their guards (ORD-3).
fn moved(was: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<(String, &'static str)> {
    let of = |all: &BTreeMap<String, String>| -> BTreeSet<String> {
        all.keys().filter_map(|path| project_of(path)).map(str::to_owned).collect()
    };
    let (was, now) = (of(was), of(now));
    let added = now.difference(&was).map(|key| (key.clone(), "project_added"));
    added.chain(was.difference(&now).map(|key| (key.clone(), "project_removed"))).collect()
}

/// One setting that differs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
struct Change {
    setting: String,
    was: String,
    now: String,
    /// Where the present value comes from: `env NAME`, `file`, `default`.
    source: String,
}

/// So many settings are told in the alert, and so much of each value.
const TOLD: usize = 4;
const VALUE: usize = 36;

/// The alert's text: who comes first, and what does not fit is counted, so that nothing is cut off.
fn alert(changed: &[Change], step: &str, caller: &str) -> String {
    let one = |c: &Change| {
        let (was, now) = (clip(&c.was, VALUE), clip(&c.now, VALUE));
        format!("{} was {was}, is {now} ({})", clip(&c.setting, VALUE), clip(&c.source, VALUE))
    };
    let told: Vec<String> = changed.iter().take(TOLD).map(one).collect();
    let more = match changed.len().saturating_sub(TOLD) {
        0 => String::new(),
        n => format!("; and {n} more, which `orch status --json` lists under security.guard_change"),
    };
    format!("Seen by `orch {step}` of {}: {}{more}", clip(caller, 2 * VALUE), told.join("; "))
}

fn differences(ctx: &Ctx, was: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<Change> {
    let none = "nothing".to_owned();
    let mut paths: Vec<&String> = was.keys().chain(now.keys()).collect();
    paths.sort();
    paths.dedup();
    paths
        .into_iter()
        .filter(|p| was.get(*p) != now.get(*p))
        .map(|p| Change {
            setting: p.clone(),
            was: was.get(p).unwrap_or(&none).clone(),
            now: now.get(p).unwrap_or(&none).clone(),
            source: if now.contains_key(p) { ctx.config.source(p) } else { "not configured any more".to_owned() },
        })
        .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_39_the_alert_of_many_changes_fits_and_counts_the_rest() {
        let change = |n: usize| Change {
            setting: format!("projects.A-LONG-PROJECT.security.setting_{n}"),
            was: "x".repeat(200),
            now: "y".repeat(200),
            source: "env ORCH_SECURITY_SOMETHING_LONG".to_owned(),
        };
        let many: Vec<Change> = (0..30).map(change).collect();
        let text = alert(&many, "tick", "root, started by systemd");
        assert!(text.starts_with("Seen by `orch tick` of root") && text.ends_with("security.guard_change"), "{text}");
        // An alert's detail is cut past 900.
        assert!(text.contains("and 26 more") && text.chars().count() <= 900, "{}", text.chars().count());
        assert!(!alert(&many[..1], "tick", "root").contains("more"));
    }

    #[test]
    fn ord_3_a_project_that_comes_or_goes_is_no_changed_guard() {
        let of = |keys: &[&str]| -> BTreeMap<String, String> {
            keys.iter().map(|k| (format!("projects.{k}.security.gate_enabled"), "true".to_owned())).collect()
        };
        let found = moved(&of(&["A", "B"]), &of(&["B", "C"]));
        assert_eq!(found, [("C".to_owned(), "project_added"), ("A".to_owned(), "project_removed")]);
        assert_eq!(project_of("security.gate_enabled"), None);
    }
}
