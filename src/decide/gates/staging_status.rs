//! `staging_status`: the declared checks, or the deployer's word, on what runs in staging.

use super::Facts;
use crate::model::decision::Answer;
use crate::model::gate::Gate;
use crate::model::stage::JobKind;

/// With declared checks a reserved job's verdict on this head, else the deployer's artefact of this stay.
pub fn gate(f: &Facts<'_>) -> Answer {
    if f.project.staging_checks {
        f.by_job(Gate::StagingStatus, JobKind::Staging, f.fresh(Gate::StagingStatus).filter(|e| f.same_code(e)))
    } else {
        f.sent_to_review(Gate::StagingStatus)
    }
}

impl Facts<'_> {
    fn same_code(&self, row: &crate::model::task::Evidence) -> bool {
        self.view.task.head_tree.as_deref() == Some(row.code_tree.as_str())
    }
}
