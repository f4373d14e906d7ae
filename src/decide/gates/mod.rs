//! The gates: one file, one pure function and one table of cases each. All read one `TaskView`; evaluating never
//! writes.

pub mod analysis;
pub mod architecture;
pub mod branch_pushed;
pub mod ci;
pub mod ci_green;
pub mod deploy_build;
pub mod deploy_status;
pub mod entering;
mod facts;
pub mod freshness;
pub mod image_fresh;
pub mod mergeable;
pub mod review;
pub mod security;
pub mod security_gate;
pub mod staging_status;
pub mod tests_verdict;
pub mod verdict;

pub use facts::{Facts, MAX_TOOL_ERRORS, approved_blobs, findings, inputs_of, said_again};

use crate::model::decision::Answer;
use crate::model::gate::Gate;
use crate::model::policy::ProjectPolicy;
use crate::model::stage::Stage;

/// The gates on leaving a stage, in order; entering `deploy` adds its sub-gates, cheapest first.
pub fn on_leaving(stage: Stage, project: &ProjectPolicy) -> Vec<Gate> {
    let mut gates = match stage {
        Stage::Created | Stage::Done | Stage::Cancelled => vec![],
        Stage::Analysis => vec![Gate::AnalysisComplete, Gate::AnalysisApproved],
        Stage::Architecture => vec![Gate::ArchitectureDone],
        Stage::Development => vec![Gate::BranchPushed, Gate::CiGreen],
        Stage::Review => vec![Gate::ReviewVerdict],
        Stage::Testing => vec![Gate::TestsVerdict],
        Stage::DeployStaging => vec![Gate::StagingStatus],
        Stage::Deploy => vec![Gate::DeployStatus],
    };
    if stage.next(&project.stages) == Some(Stage::Deploy) {
        gates.extend(entering::DEPLOY.map(|(gate, _)| gate));
    }
    gates
}

/// Evaluates one gate.
pub fn evaluate(gate: Gate, f: &Facts<'_>) -> Answer {
    match gate {
        Gate::AnalysisComplete => analysis::complete(f),
        Gate::AnalysisApproved => analysis::approved(f),
        Gate::ArchitectureDone => architecture::done(f),
        Gate::BranchPushed => branch_pushed::gate(f),
        Gate::CiGreen => ci_green::gate(f),
        Gate::ReviewVerdict => review::gate(f),
        Gate::TestsVerdict => tests_verdict::gate(f),
        Gate::StagingStatus => staging_status::gate(f),
        Gate::SecurityGate => security_gate::gate(f),
        Gate::BranchMergeable => mergeable::gate(f),
        Gate::StagingImageFresh => image_fresh::gate(f),
        Gate::DeployBuild => deploy_build::gate(f),
        Gate::DeployStatus => deploy_status::gate(f),
    }
}

#[cfg(test)]
pub(crate) mod testing;
