//! `orch explain` as text.

use super::cells::local;
use crate::model::explained::Explained;
use crate::model::inputs::line;
use crate::model::report::Rule;
use crate::model::stage::Stage;
use crate::model::text::clip;
use jiff::tz::TimeZone;
use std::fmt::Write as _;

/// A reason without its reference to this page.
fn here(e: &Explained, why: &str) -> String {
    why.replace(&format!("; `orch explain {}` says how", e.key), "")
}

/// The text of `orch explain`, without its last line. `zone`: the reader's.
pub fn page(e: &Explained, zone: &TimeZone) -> String {
    let local = |at: &str| local(at, zone);
    let mut text = String::new();
    let mut say = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    let ended = e.held_by.as_ref().is_some_and(|h| h.rule == Rule::Terminal);
    let place = match (&e.stage, e.attempt) {
        (Some(stage), Some(attempt)) if ended => format!("{stage} after round {attempt}"),
        (Some(stage), Some(attempt)) => format!("in {stage}, round {attempt}"),
        _ => "without a task".to_owned(),
    };
    say(format!("{}  {}  ({place})", e.key, clip(&e.title, 100)));
    match &e.held_by {
        Some(_) if ended => {}
        Some(held) => {
            let until = held.until.as_deref().map(|u| format!(" (until {})", local(u))).unwrap_or_default();
            say(format!("held by {}: {}{until}", held.rule, clip(&here(e, &held.why), 600)));
        }
        None => say(format!("next: {}", clip(&e.next, 600))),
    }
    if !e.inputs.is_empty() {
        say(format!("changes what CI means: {}", line(&e.inputs, 1000)));
    }
    for line in &e.wait {
        say(format!("  {line}"));
    }
    for d in &e.services_down {
        say(format!("unavailable since {}: {}: {}", local(&d.since), d.name, clip(&d.why, 400)));
    }
    for found in &e.base {
        say(format!("  | {}", clip(found, 300)));
    }
    if ended {
        if e.stage.as_deref() == Some(Stage::Cancelled.as_str()) {
            say("to start it again: set another status on the board, then To Analyse".to_owned());
        }
    } else {
        say("what unblocks it:".to_owned());
        e.moves.iter().for_each(|way| say(format!("  {way}")));
    }
    gates(e, &mut say);
    if !e.findings.is_empty() {
        say("to fix:".to_owned());
        for f in &e.findings {
            say(format!("  {}: {}", f.source, clip(&f.text, 300)));
        }
    }
    if e.edited {
        say("edited since it was picked up: setting To Analyse during analysis uses the new text".to_owned());
    }
    if let Some(item) = &e.item {
        say(format!("on the board: {}", item.status.as_deref().map_or_else(|| "-".to_owned(), |s| clip(s, 80))));
        if let Some(note) = &item.note {
            say(format!("  {}", clip(note, 300)));
        }
        for i in &item.intents {
            let why = i.reason.as_deref().map(|r| format!(": {}", clip(r, 200))).unwrap_or_default();
            say(format!("  {} at {}: {}{why}", i.intent, local(&i.seen_at), i.state));
        }
    }
    text
}

/// The gates on leaving the stage, with the evidence that each read.
fn gates(e: &Explained, say: &mut impl FnMut(String)) {
    if !e.gates.is_empty() {
        say("gates on leaving the stage:".to_owned());
    }
    for g in &e.gates {
        say(format!("  {:<20} {:<10} {}", g.gate, g.answer, clip(&here(e, &g.why), 300)));
        for row in &g.evidence {
            let stay = if row.present { "" } else { ", of an earlier visit" };
            let commit: String = row.commit.chars().take(10).collect();
            say(format!(
                "    evidence {}: {} on {commit}, round {}{stay}: {}",
                row.id,
                row.verdict,
                row.attempt,
                clip(&row.why, 200)
            ));
        }
    }
}
