//! `analysis_complete`: the analyst's files exist. `analysis_approved`: a person (or autoApprove) accepts them.

use super::Facts;
use crate::model::decision::{Answer, Need};
use crate::model::gate::Gate;
use crate::model::task::Waiting;

/// The four files, from one run that ended successfully.
pub fn complete(f: &Facts<'_>) -> Answer {
    f.by_agent(Gate::AnalysisComplete)
}

/// Released by a person in this stay; nothing else passes.
pub fn approved(f: &Facts<'_>) -> Answer {
    if f.view.task.released == Some(Waiting::Approval) {
        Answer::Pass { why: "the analysis was approved".to_owned() }
    } else {
        Answer::Undecided {
            why: format!("a person has to approve the analysis; `orch explain {}` says how", f.view.task.key),
            need: Need::Person(Waiting::Approval),
        }
    }
}
