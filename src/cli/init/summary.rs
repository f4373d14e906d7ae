//! What a call of `orch init` did, as text or JSON.

use super::Done;
use super::try_base::Tried;
use super::trying::lines;
use crate::cli::Invocation;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What a call did, and what a person should know and do.
#[derive(Debug, Default)]
pub struct Summary {
    pub done: Done,
    pub notes: Vec<String>,
    pub next: Vec<String>,
    pub project: Option<String>,
    pub added: bool,
    pub proposed: Value,
    pub tried: Option<Tried>,
    pub labels: Vec<String>,
}

/// Prints it. `dir`: files below it are shown relative to it; `file`: the installation's.
pub fn say(call: &Invocation, dir: &Path, file: &Path, summary: Summary) {
    let Summary { done, notes, next, project, added, proposed, tried, labels } = summary;
    if call.out.is_json() {
        let came = tried.as_ref().map_or_else(|| json!({"setup": "none", "ci": "none"}), Tried::json);
        call.out.document(&json!({
            "file": file, "added": added, "project": project, "wrote": done.written,
            "changed": done.changed, "left": done.left, "tried": came,
            "line": tried.as_ref().and_then(|t| t.line.clone()), "proposed": proposed, "labels": labels,
            "notes": notes, "next": next,
        }));
        return;
    }
    for line in tried.iter().flat_map(lines) {
        call.out.line(line);
    }
    let shown = |path: &Path| path.strip_prefix(dir).unwrap_or(path).display().to_string();
    let (pages, files): (Vec<&PathBuf>, Vec<_>) =
        done.written.iter().partition(|path| path.parent().is_some_and(|folder| folder.ends_with("man/man1")));
    for path in files {
        call.out.line(format!("wrote  {}", shown(path)));
    }
    if let Some(folder) = pages.first().and_then(|page| page.parent()) {
        call.out.line(format!("wrote  {} manual pages in {}", pages.len(), folder.display()));
    }
    for path in &done.changed {
        call.out.line(format!("added  {} to {}", project.as_deref().unwrap_or_default(), shown(path)));
    }
    for path in &done.left {
        call.out.line(format!("kept   {} (already there)", shown(path)));
    }
    for label in &labels {
        call.out.line(format!("label  {label}"));
    }
    for note in &notes {
        call.out.line(format!("note   {note}"));
    }
    call.out.line("next:");
    for step in &next {
        call.out.line(format!("  {step}"));
    }
}
