//! `tests_verdict`: the tester's three fields, one negative anywhere being FAIL (PIPE-5).

use super::Facts;
use crate::model::decision::Answer;
use crate::model::gate::Gate;

/// The row that the run's finalizing recorded, or one more run; a *yes* only with a review of the same code (BND-5).
pub fn gate(f: &Facts<'_>) -> Answer {
    f.sent_to_review(Gate::TestsVerdict)
}
