//! `branch_pushed`: this attempt pushed a commit that changes something outside `docs/work-items/`.

use super::Facts;
use crate::model::decision::{Answer, Gate};

/// The row that the run's finalizing recorded, or one more run.
pub fn gate(f: &Facts<'_>) -> Answer {
    f.by_agent(Gate::BranchPushed)
}
