//! What the person who decides sees (ORD-5): the task's documents, the size of its change, and what it waits for.

use super::ids::{Key, Sha};
use super::inputs::Input;
use super::stage::Stage;
use super::task::Waiting;
use serde::Serialize;

/// A line of what a wait shows: `orch`'s own fact, or somebody else's words, quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    Fact(String),
    /// One line, defused.
    Quote(String),
}

/// `orch show` and `orch diff` with `--json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    pub key: Key,
    pub title: String,
    pub stage: Stage,
    pub wait: Option<Waiting>,
    pub branch: Option<String>,
    /// The pull request's address; `None` on a forge without pull requests.
    pub pull_request: Option<String>,
    /// What decides the meaning of CI and differs between base and head (BND-5): read before the rest.
    pub inputs: Vec<Input>,
    /// The artefacts on the task's last known head, by name.
    pub documents: Vec<ShownDocument>,
    /// `None` before the branch exists.
    pub diff: Option<DiffSize>,
    /// What a release of the deploy rests on; empty unless the task waits for one.
    pub verdicts: Vec<ShownVerdict>,
    /// The deploy command; `None` where the merge is the deploy.
    pub deploy_command: Option<Vec<String>>,
    /// The account that the deploy runs the landed code as, where it has a checkout of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy_user: Option<String>,
}

/// One artefact as committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownDocument {
    /// Its path below the work item's folder, such as `01-brief.md`.
    pub name: String,
    /// Its first heading.
    pub heading: Option<String>,
    /// The blob's id.
    pub sha: Sha,
    pub text: String,
}

/// How large the change is: `base...head`, so that commits the base gained meanwhile don't count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiffSize {
    pub base: Sha,
    pub head: Sha,
    pub files: u64,
    pub insertions: u64,
    pub deletions: u64,
}

/// The newest verdict of one gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownVerdict {
    pub gate: String,
    pub verdict: String,
    /// The commit judged.
    pub commit: Sha,
    /// The judge could start no program of the branch (R1).
    pub independent: bool,
}

/// Shown for a review by a runtime that can't be kept from starting programs (R1).
pub const NOT_INDEPENDENT: &str = "review not independent: its runtime can start programs of the branch";

/// The first heading of a Markdown text, without its marks.
pub fn heading(text: &str) -> Option<&str> {
    body(text).lines().map(str::trim).find_map(|line| {
        let words = line.trim_start_matches('#');
        (words.len() < line.len()).then(|| words.trim()).filter(|w| !w.is_empty())
    })
}

/// The first line of content: front matter, headings and blank lines are skipped.
pub fn first_line(text: &str) -> Option<&str> {
    body(text).lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The text after its front matter; the whole text where it has no front matter.
fn body(text: &str) -> &str {
    let text = text.trim_start_matches('\u{feff}');
    let Some(rest) = text.strip_prefix("---\n").or_else(|| text.strip_prefix("---\r\n")) else { return text };
    let mut at = 0;
    for line in rest.split_inclusive('\n') {
        at += line.len();
        if line.trim_end() == "---" {
            return rest.get(at..).unwrap_or("");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_text_is_found_behind_front_matter_and_headings() {
        let table = [
            ("---\nwork_item: ORCH-1\n---\n\n# Brief\n\nGreet people.\n", Some("Brief"), Some("Greet people.")),
            ("\u{feff}---\r\na: b\r\n---\r\n## What\r\nSay hello.\r\n", Some("What"), Some("Say hello.")),
            ("Only text", None, Some("Only text")),
            ("---\nnever closed\n# Heading\n", Some("Heading"), Some("---")),
            ("# One\n# Two\n", Some("One"), None),
            ("#\n\n", None, None),
            ("", None, None),
        ];
        for (text, h, line) in table {
            assert_eq!((heading(text), first_line(text)), (h, line), "{text:?}");
        }
    }
}
