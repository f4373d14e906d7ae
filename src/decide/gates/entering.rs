//! The sub-gates on entering `deploy`, cheapest first; evaluated again before its critical window opens.

use super::{Facts, deploy_build, image_fresh, mergeable, security_gate};
use crate::model::decision::Answer;
use crate::model::gate::Gate;

type Evaluate = fn(&Facts<'_>) -> Answer;

/// Each with what evaluates it.
pub const DEPLOY: [(Gate, Evaluate); 4] = [
    (Gate::SecurityGate, security_gate::gate),
    (Gate::BranchMergeable, mergeable::gate),
    (Gate::StagingImageFresh, image_fresh::gate),
    (Gate::DeployBuild, deploy_build::gate),
];
