//! The one place that prints. A closed stdout is not an error (CLI-5).

use super::exit::Failure;
use crate::model::report::StepReport;
use serde_json::json;
use std::io::Write;

/// Where results go: plain words, or one JSON document.
#[derive(Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether `--json` was given: then only [`Output::document`] may write to stdout.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// One line for people on stdout; silent with `--json`.
    pub fn line(&self, text: impl AsRef<str>) {
        if !self.json {
            self.raw(&format!("{}\n", text.as_ref()));
        }
    }

    /// Text on stdout as it is, in either form (a scan's SARIF, a schema, a script).
    pub fn raw(&self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }

    /// The one JSON document of this call.
    pub fn document(&self, value: &impl serde::Serialize) {
        let text = serde_json::to_string(value)
            .unwrap_or_else(|e| json!({"errors": [{"code": 3, "message": e.to_string()}]}).to_string());
        self.raw(&format!("{text}\n"));
    }

    /// A step's report: its JSON object, or its actions, holds and faults in words.
    pub fn step(&self, report: &StepReport) {
        if self.json {
            self.document(report);
            return;
        }
        for a in &report.actions {
            let detail: Vec<String> = a.detail.iter().map(|(k, v)| format!("{k}={}", plain(v))).collect();
            self.line(
                format!("{:<12} {:<18} {}", a.task.as_deref().unwrap_or("-"), a.kind.as_str(), detail.join(" "))
                    .trim_end(),
            );
        }
        for h in &report.skipped {
            let until = h.until.as_deref().map(|u| format!(" (until {u})")).unwrap_or_default();
            self.line(format!("{:<12} waits: {} - {}{until}", h.task.as_deref().unwrap_or("-"), h.rule, h.why));
        }
        if report.actions.is_empty() && report.skipped.is_empty() && report.errors.is_empty() {
            self.line(format!("{}: nothing to do", report.step));
        }
        for e in &report.errors {
            self.complain(&e.message, e.hint.as_deref());
        }
    }

    /// A failure on stderr for people, as a document with `--json`.
    pub fn failure(&self, failure: &Failure) {
        if self.json {
            self.document(&json!({"errors": [{"code": failure.exit as u8, "message": failure.message, "hint": failure.hint, "task": failure.task}]}));
        } else {
            self.complain(&failure.message, failure.hint.as_deref());
        }
    }

    fn complain(&self, message: &str, hint: Option<&str>) {
        let mut stderr = std::io::stderr().lock();
        let _ = writeln!(stderr, "orch: {message}");
        if let Some(hint) = hint {
            let _ = writeln!(stderr, "  {hint}");
        }
    }
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
