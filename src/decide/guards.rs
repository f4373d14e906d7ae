//! How a change of the guard settings is reported (RULE-39), and when a halt may be lifted. Pure.

use crate::model::event::Event;
use crate::model::text::clip;
use std::collections::{BTreeMap, BTreeSet};

/// The project that a setting belongs to.
fn project_of(path: &str) -> Option<&str> {
    path.strip_prefix("projects.").and_then(|rest| rest.split_once('.')).map(|(key, _)| key)
}

/// Projects that were added or removed since: one event each, and no alert about their guards (ORD-3).
pub fn moved(was: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<(String, Event)> {
    let of = |all: &BTreeMap<String, String>| -> BTreeSet<String> {
        all.keys().filter_map(|path| project_of(path)).map(str::to_owned).collect()
    };
    let (was, now) = (of(was), of(now));
    let added = now.difference(&was).map(|key| (key.clone(), Event::ProjectAdded));
    added.chain(was.difference(&now).map(|key| (key.clone(), Event::ProjectRemoved))).collect()
}

/// One setting that differs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    pub setting: String,
    pub was: String,
    pub now: String,
    /// Where the present value comes from: `env NAME`, `file`, `default`.
    pub source: String,
}

/// The alert names at most this many settings, and this much of each value.
const TOLD: usize = 4;
const VALUE: usize = 36;

/// The alert's text: the caller first; what does not fit is counted, so that nothing is cut off silently.
pub fn alert(changed: &[Change], step: &str, caller: &str) -> String {
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

/// The settings that differ between two steps, without those of added or removed projects. `source`: where a setting's
/// present value comes from.
pub fn differences(
    was: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
    source: impl Fn(&str) -> String,
) -> Vec<Change> {
    let none = "nothing".to_owned();
    let moved = moved(was, now);
    let paths: BTreeSet<&String> = was.keys().chain(now.keys()).collect();
    let stays = |path: &str| !moved.iter().any(|(key, _)| project_of(path) == Some(key.as_str()));
    paths
        .into_iter()
        .filter(|p| was.get(*p) != now.get(*p) && stays(p))
        .map(|p| Change {
            setting: p.clone(),
            was: was.get(p).unwrap_or(&none).clone(),
            now: now.get(p).unwrap_or(&none).clone(),
            source: if now.contains_key(p) { source(p) } else { "not configured any more".to_owned() },
        })
        .collect()
}

/// Whether a person may lift the HALT that a step set because the database is older than its files: only after a full
/// scan of the boards that ended after the HALT. Both in wall milliseconds.
pub fn may_resume(set_at: u128, looked_at: Option<i64>) -> bool {
    looked_at.and_then(|at| u128::try_from(at).ok()).is_some_and(|at| at >= set_at)
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
        // An alert's detail is cut past 900 characters.
        assert!(text.contains("and 26 more") && text.chars().count() <= 900, "{}", text.chars().count());
        assert!(!alert(&many[..1], "tick", "root").contains("more"));
    }

    #[test]
    fn ord_3_a_project_that_comes_or_goes_is_no_changed_guard() {
        let of = |keys: &[&str]| -> BTreeMap<String, String> {
            keys.iter().map(|k| (format!("projects.{k}.security.gate_enabled"), "true".to_owned())).collect()
        };
        let found = moved(&of(&["A", "B"]), &of(&["B", "C"]));
        assert_eq!(found, [("C".to_owned(), Event::ProjectAdded), ("A".to_owned(), Event::ProjectRemoved)]);
        assert_eq!(project_of("security.gate_enabled"), None);
        assert_eq!(differences(&of(&["A", "B"]), &of(&["B", "C"]), |_| "file".into()), []);
    }

    #[test]
    fn rule_39_a_setting_that_differs_is_named_with_where_it_comes_from() {
        let of = |all: &[(&str, &str)]| -> BTreeMap<String, String> {
            all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let was = of(&[("a", "true"), ("b", "1"), ("c", "x")]);
        let found = differences(&was, &of(&[("a", "false"), ("b", "1"), ("d", "y")]), |p| format!("env {p}"));
        let shown: Vec<String> =
            found.iter().map(|c| format!("{} {} {} {}", c.setting, c.was, c.now, c.source)).collect();
        assert_eq!(shown, ["a true false env a", "c x nothing not configured any more", "d nothing y env d"]);
    }

    #[test]
    fn rule_37_a_halt_for_an_older_database_is_lifted_only_after_a_full_scan() {
        assert!(may_resume(5, Some(5)) && !may_resume(5, Some(4)) && !may_resume(5, None) && !may_resume(5, Some(-1)));
    }
}
