//! `orch show` in words (ORD-5): `orch`'s own facts first and last, others' texts quoted, one line each.

use crate::model::inputs::first;
use crate::model::shown::{NOT_INDEPENDENT, Shown, first_line};
use crate::model::task::Waiting;
use crate::model::text::{clip, visible};
use std::fmt::Write as _;

/// The longest quoted line, in characters.
const QUOTE: usize = 160;

/// So many verdict inputs are listed; `--json` has them all.
const INPUTS: usize = 30;

/// The whole page: where the task is, what it waits for, its documents, and how to answer.
pub fn page(shown: &Shown) -> String {
    let mut text = String::new();
    let mut say = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    let wait = match shown.wait {
        Some(Waiting::Approval) => ", waiting for approval of the analysis",
        Some(Waiting::ConfirmDeploy) => ", waiting for Confirm Deploy",
        None => "",
    };
    say(format!("{}  {}  ({}{wait})", shown.key, clip(&shown.title, 100), shown.stage));
    if !shown.inputs.is_empty() {
        say("changes what CI means:".to_owned());
    }
    for input in first(&shown.inputs, INPUTS) {
        say(format!("  {}: {}", clip(&visible(&input.path), 120), clip(&visible(&input.why), QUOTE)));
    }
    if let Some(branch) = &shown.branch {
        say(format!("branch: {branch}"));
    }
    if let Some(url) = &shown.pull_request {
        say(format!("pull request: {}", clip(url, 200)));
    }
    if let Some(diff) = &shown.diff {
        let head: String = diff.head.as_str().chars().take(10).collect();
        let files = if diff.files == 1 { "file" } else { "files" };
        say(format!("{} {files} changed, +{} -{}, head {head}", diff.files, diff.insertions, diff.deletions));
    }
    for v in &shown.verdicts {
        let commit: String = v.commit.as_str().chars().take(10).collect();
        let note = if v.independent { String::new() } else { format!(" ({NOT_INDEPENDENT})") };
        say(format!("{}: {} on {commit}{note}", v.gate, v.verdict));
    }
    if let Some(argv) = &shown.deploy_command {
        say(format!("deploy command: {}", clip(&argv.join(" "), 200)));
    }
    if !shown.documents.is_empty() {
        say("documents:".to_owned());
    }
    for d in &shown.documents {
        let heading = d.heading.as_deref().map(|h| clip(&visible(h), 80)).unwrap_or_default();
        say(format!("  {:<30} {heading}", clip(&visible(&d.name), 60)).trim_end().to_owned());
        if let Some(line) = first_line(&d.text) {
            say(format!("    > {}", clip(&visible(line), QUOTE)));
        }
    }
    answers(shown).into_iter().for_each(say);
    text
}

/// What can be typed now, one command a line.
pub fn answers(shown: &Shown) -> Vec<String> {
    let key = &shown.key;
    let reject = format!("reject:  orch advance {key} --reject 'what is wrong'");
    match shown.wait {
        Some(Waiting::Approval) => {
            vec![format!("read:    orch show {key} NAME"), format!("approve: orch advance {key} --approve"), reject]
        }
        Some(Waiting::ConfirmDeploy) => {
            vec![format!("read:    orch diff {key}"), format!("deploy:  orch advance {key} --confirm-deploy"), reject]
        }
        None => Vec::new(),
    }
}
