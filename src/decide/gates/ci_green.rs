//! `ci_green`: the project's CI passes on exactly this code.

use super::Facts;
use crate::model::decision::{Answer, Gate};
use crate::model::policy::CiSource;
use crate::model::stage::JobKind;

/// A run of `ci.command`, or the roll-up of the commit's statuses; the same code is not tested twice. Statuses are
/// awaited on the very head, which is what branch protection looks at, and read anew in each stay: CI may turn red later
/// (RULE-6).
pub fn gate(f: &Facts<'_>) -> Answer {
    match f.project.ci {
        CiSource::None => Answer::Pass { why: "not applicable: the project has no ci.command".to_owned() },
        CiSource::Command => f.by_job(Gate::CiGreen, JobKind::Ci, f.on_head(Gate::CiGreen)),
        CiSource::Statuses => {
            let row = f.fresh(Gate::CiGreen).filter(|e| Some(&e.sha) == f.view.task.head_sha.as_ref());
            f.by_job(Gate::CiGreen, JobKind::Ci, row)
        }
    }
}
