//! `review_verdict`: the reviewer of this stay says Subject::Approved.

use super::Facts;
use crate::model::decision::Answer;
use crate::model::gate::Gate;

/// The row that the run's finalizing recorded, or one more run.
pub fn gate(f: &Facts<'_>) -> Answer {
    f.by_agent(Gate::ReviewVerdict)
}
