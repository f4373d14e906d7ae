//! The cause that a group of held tasks has in common, in a few words by rule (DSK-1).

use crate::model::report::Rule;

/// The cause, worded for several tasks at once.
pub fn words(rule: Rule) -> &'static str {
    match rule {
        Rule::Halt => "halted, nothing new starts; `orch resume` lifts it",
        Rule::Freeze => "the repository is frozen",
        Rule::SerialGate => "one task of a repository at a time",
        Rule::Dependencies => "blocked by another work item",
        Rule::MaxConcurrency => "the limit of running agents is reached",
        Rule::ProjectLimit => "the project's limit of running agents is reached",
        Rule::AgentLimit => "the role's limit of running agents is reached",
        Rule::ReservedLimit => "the limit of running built-in jobs is reached",
        Rule::TaskCost => "the task's cost limit is reached",
        Rule::DayCost => "today's cost limit is reached",
        Rule::Backoff => "retried later",
        Rule::Cooldown => "the credential's usage limit is reached",
        Rule::Disk => "too little space on the state directory's disk",
        Rule::Confinement => "nothing here can confine a run; see `orch doctor`",
        Rule::Configuration => "`.orch.yaml` has keys that are not allowed; see `orch doctor`",
        Rule::BasePending => "the base is being checked",
        Rule::BaseRed => "setup or CI fails on the base",
        Rule::Environment => "something is missing on this machine; see `orch doctor`",
        Rule::Running => "a run is under way",
        Rule::Queued => "the next `orch tick` starts it",
        Rule::Approval => "the analysis needs approval",
        Rule::ConfirmDeploy => "the deploy needs confirmation",
        Rule::Blocked => "blocked",
        Rule::StopRequested => "a stop is being carried out",
        Rule::CriticalWindow => "a deploy or update must end first",
        Rule::Withdrawn => "withdrawn on the board or the forge",
        Rule::Forge => "the forge waits for something",
        Rule::Gate => "the gate lacks evidence",
        Rule::MergeLease => "another task holds the merge lease",
        Rule::ForgeRefused => "the forge refuses; retried automatically",
        Rule::LandedNotDeployed => "a landed commit must be deployed first",
        Rule::DeployResult => "the deploy command has not ended yet",
        Rule::Watch => "watched after the deploy",
        Rule::Throttled => "the board asked to wait",
        Rule::Unfinished => "the board was not read completely",
        Rule::SwitchedOff => "switched off in the configuration",
        Rule::Terminal => "ended",
    }
}
