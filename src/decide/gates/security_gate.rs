//! `security_gate` (SHIP-1): no secret in the range, no new vulnerable dependency.

use super::Facts;
use crate::model::decision::{Answer, Gate};
use crate::model::stage::{JobKind, Stage};

/// A believed scan of this code, or of code from which `orch`'s own update made it. A scanner that could not look is
/// no verdict: it looks again, then the task is blocked; it never passes.
pub fn gate(f: &Facts<'_>) -> Answer {
    if !f.project.security {
        return Answer::Pass {
            why: "not applicable: the security gate is off or the repository out of its scope".to_owned(),
        };
    }
    let held = f.view.evidence.iter().rev().find(|e| {
        e.gate == Gate::SecurityGate.as_str() && e.attempt == f.view.task.attempt && f.holds(e, Stage::Deploy)
    });
    f.by_job(Gate::SecurityGate, JobKind::Scan, held.or_else(|| f.on_head(Gate::SecurityGate)))
}
