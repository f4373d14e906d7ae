//! `architecture_done`: at least one decision record whose status is in its list.

use super::Facts;
use crate::model::decision::Answer;
use crate::model::gate::Gate;

/// The row that the run's finalizing recorded, or one more run.
pub fn done(f: &Facts<'_>) -> Answer {
    f.by_agent(Gate::ArchitectureDone)
}
