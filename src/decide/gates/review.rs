//! `review_verdict`: the reviewer of this stay says APPROVED.

use super::Facts;
use crate::model::decision::{Answer, Gate};

/// The row that the run's finalizing recorded, or one more run.
pub fn gate(f: &Facts<'_>) -> Answer {
    f.by_agent(Gate::ReviewVerdict)
}
