//! The cause that a group of held tasks has in common, in a few words by rule (DSK-1).

use crate::model::report::Rule;

/// The cause, worded for several tasks at once.
pub fn words(rule: Rule) -> &'static str {
    match rule {
        Rule::Halt => "halted, nothing new starts; `orch resume` lifts it",
        Rule::Freeze => "the repository is frozen",
        Rule::SerialGate => "one task of a repository at a time",
        Rule::Dependencies => "blocked by another work item",
        Rule::MaxConcurrency => "as many agents run as may run at once",
        Rule::ProjectLimit => "the project's limit of running agents",
        Rule::AgentLimit => "the role's limit of running agents",
        Rule::ReservedLimit => "the limit of built-in jobs that run at once",
        Rule::TaskCost => "the task's cost limit is reached",
        Rule::DayCost => "today's cost limit is reached",
        Rule::Backoff => "tried again later",
        Rule::Cooldown => "the credential's usage window is used up",
        Rule::Disk => "too little room on the state directory's disk",
        Rule::Confinement => "nothing here can confine a run; see `orch doctor`",
        Rule::Configuration => "`.orch.yaml` says more than it may; see `orch doctor`",
        Rule::BasePending => "the base is being tried",
        Rule::BaseRed => "setup or CI fail on the base",
        Rule::Environment => "this machine lacks something; see `orch doctor`",
        Rule::Running => "a run is under way",
        Rule::Queued => "the next `orch tick` moves it",
        Rule::Approval => "the analysis needs approval",
        Rule::ConfirmDeploy => "the deploy needs a yes",
        Rule::Blocked => "blocked",
        Rule::StopRequested => "a stop is being carried out",
        Rule::CriticalWindow => "a deploy or update must end first",
        Rule::Withdrawn => "withdrawn on the board or the forge",
        Rule::Forge => "the forge waits for something",
        Rule::Gate => "the gate lacks evidence",
        Rule::MergeLease => "another task holds the merge lease",
        Rule::ForgeRefused => "the forge refuses, tried again automatically",
        Rule::LandedNotDeployed => "a landed commit must be deployed first",
        Rule::DeployResult => "the deploy command has no result yet",
        Rule::Watch => "watched after the deploy",
        Rule::Throttled => "the board asked to wait",
        Rule::Unfinished => "the board was not read to its end",
        Rule::SwitchedOff => "switched off in the configuration",
        Rule::Terminal => "ended",
    }
}
