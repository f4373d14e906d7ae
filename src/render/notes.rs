//! What `status` says apart from its tasks: alerts (what is wrong) and notes (what is worth knowing). One line each.

use super::cells::counted;
use super::paint::{Line, Paint};
use super::view::View;
use crate::model::base::BaseState;
use crate::model::stage::Agent;
use crate::model::status::Status;
use crate::model::text::clip;

/// Texts from elsewhere are cut at this length; `--json` has them whole.
const LONG: usize = 300;

/// What stops all work, for the top of the page.
pub fn stops(s: &Status, view: &View) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(reason) = &s.stop.halt_reason {
        lines.push(format!("HALTED: {}; `orch resume` lifts it", clip(reason, LONG)));
    }
    for f in &s.serial_gate.frozen {
        let by = f.task.as_deref().map(|t| format!(" by {t}")).unwrap_or_default();
        lines.push(format!(
            "FROZEN: {} since {}{by}: {}; `orch unfreeze {}` lifts it",
            f.repo,
            view.local(&f.since),
            clip(&f.reason, LONG),
            f.repo
        ));
    }
    lines
}

/// What somebody should take care of.
pub fn alerts(s: &Status, view: &View) -> Vec<String> {
    let mut lines = Vec::new();
    for c in s.confinement.iter().filter(|c| c.held.is_none()) {
        let why = clip(c.why.as_deref().unwrap_or("nothing confines it"), LONG);
        lines.push(format!("NOT STARTED in {}{}: {why}", c.project, whose(&c.of)));
    }
    for b in &s.base {
        let (repo, why) = (&b.repo, clip(&b.why, LONG));
        match b.state {
            BaseState::Red => {
                lines
                    .push(format!("RED BASE of {repo}{}: {why}; `orch logs --base {repo}` has the log", at(&b.commit)));
            }
            BaseState::Environment => lines.push(format!("the base of {repo} can't be checked here: {why}")),
            // A base that could not be checked says so, whatever its last known state was.
            BaseState::Untried | BaseState::Green if b.unchecked => {
                lines.push(format!("base of {repo} {why}"));
            }
            BaseState::Running | BaseState::Untried | BaseState::Green | BaseState::NotApplicable => {}
        }
    }
    for d in &s.services_down {
        lines.push(format!("unavailable since {}: {}: {}", view.local(&d.since), d.name, clip(&d.why, LONG)));
    }
    for c in &s.limits.cooldowns {
        lines.push(format!("{} cools down until {}: {}", c.credential, view.local(&c.until), clip(&c.reason, LONG)));
    }
    for c in &s.reaper.suspects {
        lines.push(format!("the supervisor of {} was found gone {}", c.task, counted(c.seen, "time")));
    }
    if let Some(since) = &s.reconcile.stale_since {
        lines.push(format!("board statuses have been stale since {}", view.local(since)));
    }
    for t in &s.reconcile.throttled {
        lines.push(format!("the board of {} asked to wait until {}", t.project, view.local(&t.until)));
    }
    for o in &s.reconcile.intents_off {
        lines.push(format!("{}: `{}` has no effect: {}", o.project, o.intent, clip(&o.why, LONG)));
    }
    for o in &s.outbox.sinks_off {
        lines.push(format!("{} refuses messages, retried every 15 minutes: {}", o.sink, clip(&o.why, LONG)));
    }
    for m in &s.outbox.messages {
        lines.push(format!("refused: {} {}: {}", m.task.as_deref().unwrap_or("-"), m.sink, clip(&m.error, LONG)));
    }
    lines
}

/// For whom notes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The operator: everything.
    All,
    /// Readers of the page: values of guard settings stay out.
    Others,
}

/// Facts that need no action.
pub fn notes(s: &Status, view: &View, about: About) -> Vec<String> {
    let mut lines = Vec::new();
    for c in &s.confinement {
        match c.held.as_deref() {
            Some("unconfined") => lines.push(format!(
                "unconfined in {}{}: agents and the branch's code have all rights of this account (docs/security.md)",
                c.project,
                whose(&c.of)
            )),
            Some(engine) if c.network_open => {
                lines.push(format!("confined by {engine} in {}{}, with the network open", c.project, whose(&c.of)));
            }
            Some(_) | None => {}
        }
    }
    for b in s.base.iter().filter(|b| b.state == BaseState::Running) {
        let (repo, at) = (&b.repo, at(&b.commit));
        lines.push(format!("base of {repo}: setup and CI are running{at}; `orch logs --base {repo}` shows it"));
    }
    for l in &s.merge_lease {
        let alive = if l.alive { "" } else { ", without a running process" };
        lines.push(format!("merge lease of {}: {}{alive}", l.repo, l.task.as_deref().unwrap_or("-")));
    }
    for w in &s.post_deploy.watches {
        lines.push(format!("watched in {}: {}", w.repo, w.task));
    }
    lines.extend(
        match about {
            About::All => s.security.guard_change.as_ref(),
            About::Others => None,
        }
        .map(|g| format!("guard settings changed {}: {}", view.local(&g.at), guard_change(&g.detail))),
    );
    if s.outbox.open > 0 {
        lines.push(format!("{} under way", counted(s.outbox.open, "message")));
    }
    for (on, what) in [
        (s.stop.enabled, "stop.status_enabled"),
        (s.reaper.enabled, "reaper.enabled"),
        (s.reconcile.enabled, "reconcile.enabled"),
    ] {
        if !on {
            lines.push(format!("switched off: {what}"));
        }
    }
    lines
}

/// The projects in which something runs unconfined.
pub fn unconfined(s: &Status) -> Vec<&str> {
    let mut names: Vec<&str> =
        s.confinement.iter().filter(|c| c.held.as_deref() == Some("unconfined")).map(|c| c.project.as_str()).collect();
    names.dedup();
    names
}

/// The lines as a block under a heading with their count. No lines, no block.
pub fn block(heading: &str, paint: Paint, lines: Vec<String>) -> Vec<Line> {
    if lines.is_empty() {
        return Vec::new();
    }
    let head = Line::of(Paint::Heading, format!("{heading} ({})", lines.len()));
    let rows = lines.into_iter().map(|l| Line::of(Paint::Plain, "  ").and(paint, l));
    std::iter::once(head).chain(rows).chain([Line::default()]).collect()
}

fn at(commit: &Option<String>) -> String {
    commit.as_deref().map_or_else(String::new, |c| format!(" at {}", c.chars().take(10).collect::<String>()))
}

/// Whose runs these are; empty where they belong to everybody.
fn whose(of: &[String]) -> String {
    if of.len() > Agent::ALL.len() { String::new() } else { format!(" ({})", of.join(", ")) }
}

/// Which settings changed, through which variables, and who started that step (RULE-39).
fn guard_change(detail: &serde_json::Value) -> String {
    let text = |v: &serde_json::Value| clip(v.as_str().unwrap_or("?"), 80);
    let changed = detail["changed"].as_array().map(Vec::as_slice).unwrap_or_default();
    let each: Vec<String> = changed
        .iter()
        .map(|c| {
            format!("{} was {}, is {} ({})", text(&c["setting"]), text(&c["was"]), text(&c["now"]), text(&c["source"]))
        })
        .collect();
    format!("{}; seen by `orch {}` of {}", each.join(", "), text(&detail["step"]), text(&detail["caller"]))
}
