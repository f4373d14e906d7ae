//! The readers of bytes from outside, by name, for the targets of `tests/fuzz/` and for the test that replays and mutates their
//! corpus. No part of the interface; nothing of the program uses it.

use crate::adapters::board::{github as issues, local::Local, plane::wire};
use crate::adapters::runtime::{ClaudeSettings, CommandSettings, Exit, PresetKind, PresetSettings, Runtime};
use crate::adapters::{forge, git, process, scan, sentinel};
use crate::model::agent_prompt::AgentPrompt;
use crate::model::ids::{Key, Sha, branch_name};
use crate::model::outcome::RuntimeKind;
use crate::model::stage::Agent;
use crate::model::{frontmatter, time, watch::WatchRecord};
use crate::{config, decide, render};
use serde_json::Value;

/// A reader: it takes any bytes, and neither panics nor takes long.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("audit_report", scan::fuzz),
    ("board_rows", board_rows),
    ("checks_file", config::fuzz),
    ("config", config::fuzz),
    ("forge_answers", forge_answers),
    ("front_matter", front_matter),
    ("git_output", git::fuzz),
    ("local_item", local_item),
    ("names", names),
    ("preset_events", preset_events),
    ("proc_stat", process::fuzz),
    ("runtime_events", runtime_events),
    ("sentinel", sentinels),
];

/// Runs a target. Unknown names do nothing.
pub fn run(name: &str, bytes: &[u8]) {
    if let Some((_, target)) = TARGETS.iter().find(|(n, _)| *n == name) {
        target(bytes);
    }
}

fn board_rows(bytes: &[u8]) {
    issues::fuzz(bytes);
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    let rows = wire::page(&value).map(|p| p.results).unwrap_or_default();
    let statuses: Vec<_> = rows.iter().filter_map(wire::status).collect();
    for v in rows.iter().chain([&value]) {
        drop((wire::item(v, "AA", &statuses), wire::label(v), wire::blocked_by(v), wire::is_hidden(v)));
    }
    let shown = wire::html(&String::from_utf8_lossy(bytes));
    // What a person typed is never markup.
    assert!(shown.split('<').skip(1).all(|t| ["p>", "/p>", "br>"].iter().any(|own| t.starts_with(own))), "{shown}");
}

fn forge_answers(bytes: &[u8]) {
    forge::gitea::fuzz(bytes);
    forge::github::fuzz(bytes);
}

fn front_matter(bytes: &[u8]) {
    drop(frontmatter::read(bytes));
    for agent in Agent::ALL {
        drop(AgentPrompt::parse(*agent, bytes));
    }
}

fn local_item(bytes: &[u8]) {
    Local::fuzz(&String::from_utf8_lossy(bytes));
}

fn names(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    drop((Sha::parse(&text), time::parse_rfc3339(&text)));
    let (first, title) = text.split_once('\n').unwrap_or((&text, ""));
    if let Ok(key) = Key::parse(first) {
        let name = branch_name("feature/", &key, title, 2);
        assert!(name.len() <= 100 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-".contains(&b)), "{name}");
    }
}

fn play(runtime: &Runtime, bytes: &[u8]) {
    for chunk in [usize::MAX, 7] {
        let mut reader = runtime.reader(Some(5));
        bytes.chunks(chunk.min(bytes.len().max(1))).for_each(|part| reader.feed(part));
        let _ = reader.live();
        drop(reader.finish(Exit { code: Some(1), ..Exit::default() }, &String::from_utf8_lossy(bytes), 1));
    }
}

fn runtime_events(bytes: &[u8]) {
    play(&Runtime::Claude(ClaudeSettings::default()), bytes);
    play(&Runtime::Command(CommandSettings { argv: Vec::new() }), bytes);
    drop(render::events::readable(RuntimeKind::Claude, bytes));
}

fn preset_events(bytes: &[u8]) {
    for preset in [PresetKind::Codex, PresetKind::Gemini, PresetKind::OpenCode] {
        play(&Runtime::Preset(preset, PresetSettings::default()), bytes);
    }
}

fn sentinels(bytes: &[u8]) {
    drop(sentinel::parse::<Value>(bytes));
    let text = String::from_utf8_lossy(bytes);
    let of = crate::model::deploy::ResultOf { task: 3, key: "AA-1".to_owned(), attempt: 1 };
    let hash = decide::deploy_result::hash_of("n");
    let seen = decide::deploy_result::Seen { own: None, file: Some(&text), nonce_hash: Some(&hash) };
    drop(decide::deploy_result::read(&seen, &of, Some("by the deadline")));
    drop(WatchRecord::parse(&text, 3, 1));
}
