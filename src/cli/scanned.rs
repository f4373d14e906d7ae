//! How a scan ends: its result is printed, written where it is wanted, and makes the exit code (SHIP-1).

use super::Invocation;
use super::exit::{CmdResult, Exit, Failure};
use crate::adapters::files;
use crate::adapters::scan::RangeError;
use crate::model::report::{ErrorLine, StepReport};
use crate::model::scan::{ScanReason, ScanReport};
use crate::render::security::{self as show, Head};
use anyhow::Context;
use std::path::Path;
use std::time::Instant;

/// What the options say about the result of a scan.
#[derive(Debug)]
pub struct Ending<'a> {
    pub start: Instant,
    /// `text`, `json` or `sarif`.
    pub format: &'a str,
    /// Where the document goes instead of stdout.
    pub output: Option<&'a Path>,
    /// Where the Markdown artefact goes.
    pub report: Option<&'a Path>,
}

/// Prints and writes a report; the exit code is its verdict.
pub fn conclude(call: &Invocation, ending: &Ending<'_>, report: &ScanReport, head: Head<'_>) -> CmdResult {
    let mut step = StepReport::new("security-scan");
    step.extra = show::fields(report);
    for why in &report.errors {
        let hint = "nothing is known about this range until the scanner works; run it again".to_owned();
        step.fault(None, why.clone(), Some(hint));
    }
    step.duration_ms = u64::try_from(ending.start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let unwritten = write_files(ending, &mut step, report, head);
    if call.out.is_json() {
        call.out.document(&step);
    } else if ending.output.is_some() {
        call.out.raw(&show::text(report));
    } else {
        call.out.raw(&document(ending, &step, report));
    }
    if !call.out.is_json() {
        for why in &unwritten {
            call.out.failure(None, &Failure::new(Exit::Broken, why.clone()));
        }
    }
    Ok(match report.reason {
        None if unwritten.is_empty() => Exit::Done,
        Some(ScanReason::Findings) => Exit::Negative,
        None | Some(ScanReason::ToolError | ScanReason::FeedUnreachable) => Exit::Broken,
    })
}

/// A range that can't be read: exit 2 if the command line is at fault, 3 if the repository is.
pub fn unreadable(call: &Invocation, error: &RangeError) -> CmdResult {
    let (exit, hint) = match error {
        RangeError::NoDefault { .. } => {
            (Exit::Usage, Some("give --range A..B, or run `git remote set-head origin --auto`"))
        }
        RangeError::BadRange { .. } => (Exit::Usage, Some("--range takes A..B, two revisions this repository has")),
        RangeError::NotARepository { .. } => (Exit::Broken, Some("--repo takes a git checkout or a bare repository")),
        RangeError::Shallow { .. } | RangeError::Tool(_) => (Exit::Broken, None),
    };
    let mut failure = Failure::new(exit, error.to_string());
    failure.hint = hint.map(str::to_owned);
    if call.out.is_json() {
        let mut step = StepReport::new("security-scan");
        step.errors.push(ErrorLine {
            code: exit.code(),
            message: failure.message.clone(),
            hint: failure.hint.clone(),
            task: None,
        });
        call.out.document(&step);
        failure.reported = true;
    }
    Err(failure)
}

fn document(ending: &Ending<'_>, step: &StepReport, report: &ScanReport) -> String {
    match ending.format {
        "json" => serde_json::to_string_pretty(step).unwrap_or_default() + "\n",
        "sarif" => serde_json::to_string_pretty(&show::sarif(report)).unwrap_or_default() + "\n",
        _ => show::text(report),
    }
}

fn write_files(ending: &Ending<'_>, step: &mut StepReport, report: &ScanReport, head: Head<'_>) -> Vec<String> {
    let files = [(ending.report, show::markdown(report, head)), (ending.output, document(ending, step, report))];
    let mut troubles = Vec::new();
    for (file, text) in files {
        if let Some(Err(e)) = file.map(|file| {
            files::output(file, text.as_bytes(), None).with_context(|| format!("writing {}", file.display()))
        }) {
            troubles.push(format!("{e:#}"));
        }
    }
    for why in &troubles {
        step.fault(None, why.clone(), None);
    }
    troubles
}
