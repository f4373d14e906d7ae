//! `staging_image_fresh` (SHIP-4): staging runs this very head, built once if it does not.

use super::Facts;
use crate::model::decision::Answer;
use crate::model::evidence::EvidenceVerdict;
use crate::model::gate::Gate;
use crate::model::stage::{JobKind, Stage};
use crate::model::task::Evidence;

/// The build job's answer for this head; after a rebuild the declared checks run again on the new image.
pub fn gate(f: &Facts<'_>) -> Answer {
    if !f.project.freshness {
        return Answer::Pass {
            why: "not applicable: staging.revision is not configured, or the switch is off".to_owned(),
        };
    }
    let head = f.view.task.head_sha.as_ref();
    // A stale image that a person's retry lifted is checked again, not remembered.
    let still_holds = |e: &&Evidence| e.verdict == EvidenceVerdict::Pass || e.epoch == f.view.task.epoch;
    let row = f.of_attempt(Gate::StagingImageFresh).filter(|e| Some(&e.sha) == head).filter(still_holds);
    if let Some(stale) = row.filter(|e| e.verdict == EvidenceVerdict::Fail) {
        // PIPE-3: a stale image is nobody's finding; it blocks without spending an attempt.
        return Answer::Stuck { why: stale.why.clone(), freeze: false };
    }
    let fresh = f.by_job(Gate::StagingImageFresh, JobKind::Build, row);
    let Answer::Pass { why } = fresh else { return fresh };
    if !f.project.staging_checks || !f.project.stages.contains(&Stage::DeployStaging) {
        return Answer::Pass { why };
    }
    let checked = f.of_attempt(Gate::StagingStatus).filter(|e| Some(&e.sha) == head);
    match f.by_job(Gate::StagingStatus, JobKind::Staging, checked) {
        Answer::Pass { .. } => Answer::Pass { why },
        other @ (Answer::Fail { .. } | Answer::Stale { .. } | Answer::Stuck { .. } | Answer::Undecided { .. }) => other,
    }
}
