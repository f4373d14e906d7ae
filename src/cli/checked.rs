//! How a staging suite ends: its verdict is printed, written where it is wanted, and makes the exit code (SHIP-3).

use super::Invocation;
use super::exit::{CmdResult, Exit, Failure};
use crate::adapters::files;
use crate::engine::staging_alone::{Judged, Unjudged};
use crate::model::ids::Key;
use crate::model::report::StepReport;
use crate::model::staging::StagingStatus;
use crate::render::{junit, staging as show};
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// Where the result is written.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    pub junit: Option<&'a Path>,
    pub report: Option<&'a Path>,
}

/// The refusal while the checks are switched off.
pub fn off() -> Failure {
    Failure::refused("staging-check is refused: staging.enabled is off")
        .hint("enable it in the `staging:` section or with ORCH_STAGING_ENABLED=true")
}

/// A suite without a verdict, with the way out.
pub fn failure(why: Unjudged) -> Failure {
    match why {
        Unjudged::NoEngine(e) => Failure::new(Exit::Broken, format!("no check ran: {}", e.why)).hint(e.way_out),
        Unjudged::NotStarted(e) => Failure::new(Exit::Broken, format!("no verdict: {e}"))
            .hint("`confine: {mode: off}` in the file runs its commands unconfined"),
        Unjudged::Failed(e) => e.into(),
    }
}

/// Prints and writes what was judged; the exit code is its verdict. `task`: whose report it is.
pub fn conclude(call: &Invocation, to: Files<'_>, task: Option<&Key>, start: Instant, judged: &Judged) -> CmdResult {
    let Judged { results, verdict, .. } = judged;
    let mut report = StepReport::new("staging-check");
    for write_error in write_files(to, judged) {
        report.fault(task.map(Key::as_str), write_error, None);
    }
    report.extra.insert("verdict".into(), verdict.status.as_str().into());
    report.extra.insert("checks".into(), show::checks_json(results, verdict));
    report.extra.insert("waived".into(), json!(verdict.waived));
    report.extra.insert("because".into(), json!(verdict.because));
    report.duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    if call.out.is_json() {
        call.out.document(&report);
    } else {
        for error in &report.errors {
            call.out.failure(None, &Failure::new(Exit::Broken, error.message.clone()));
        }
        verdict.waived.iter().for_each(|waived| call.out.line(show::waived_line(waived)));
        verdict.because.iter().for_each(|why| call.out.line(format!("FAILED-BECAUSE {why}")));
        call.out.line(show::verdict_line(verdict));
    }
    Ok(match verdict.status {
        StagingStatus::Failed => Exit::Negative,
        StagingStatus::Success if !report.errors.is_empty() => Exit::Broken,
        StagingStatus::Success => Exit::Done,
    })
}

/// Writes the wanted files; returns what could not be written.
fn write_files(to: Files<'_>, judged: &Judged) -> Vec<String> {
    let Judged { head, results, verdict } = judged;
    let mut troubles = Vec::new();
    let mut write = |file: &Path, text: Result<String, String>| {
        let done = text.and_then(|t| files::output(file, t.as_bytes(), None).map_err(|e| e.to_string()));
        if let Err(e) = done {
            troubles.push(format!("{} can't be written: {e}", file.display()));
        }
    };
    if let Some(file) = to.junit {
        write(file, junit::junit("staging-check", results, verdict));
    }
    if let Some(file) = to.report {
        write(file, Ok(show::log(head, results, verdict)));
    }
    troubles
}
