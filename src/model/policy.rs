//! What the configuration means for decisions, as plain data: the engine builds it, `decide` reads it.

use super::sides::Update;
use super::stage::{Agent, Stage};
use super::task::Waiting;
use std::collections::BTreeMap;

/// How a project's CI result is obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CiSource {
    /// Local forge without a command: `ci_green` does not apply.
    None,
    /// Local forge: `orch` runs `ci.command`.
    Command,
    /// Remote forge: statuses of the commit, rolled up by `orch` (RULE-2).
    Statuses,
}

/// One project's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectPolicy {
    /// Why the repository's own settings are invalid (ORD-3).
    pub fault: Option<String>,
    pub key: String,
    pub repo: String,
    pub self_hosting: bool,
    /// The stages that are not left out.
    pub stages: Vec<Stage>,
    pub ci: CiSource,
    /// The name of its base, which is tried before a first agent starts; `None`: there is nothing to try.
    pub base: Option<String>,
    /// Checks are declared (and the switch is on): `staging-check` does deploy-staging, else the deployer.
    pub staging_checks: bool,
    /// Some declared check is a command.
    pub staging_commands: bool,
    /// `staging.build` is declared and may be needed: freshness is on.
    pub staging_build: bool,
    /// `deploy.build` is declared: what the deploy command gets is built, confined, before anything lands.
    pub deploy_build: bool,
    /// The account as which the deploy command runs landed code: there is a command, and no build.
    pub deploys_as: Option<String>,
    /// The security gate is on and the repository in its scope.
    pub security: bool,
    /// `staging.revision` is declared and image freshness on.
    pub freshness: bool,
    pub confirm_deploy: bool,
    /// The watch is on, in scope, and `post_deploy.health` declared.
    pub watch: bool,
    /// In the scope of the serial gate (and the gate on).
    pub serial: bool,
    pub freeze_on_degraded: bool,
    /// Its branches are on a service with pull requests.
    pub remote_forge: bool,
    /// A command deploys; otherwise the merge is the deploy.
    pub deploy_command: bool,
    /// Gates are shown as commit statuses (RULE-42).
    pub posts_statuses: bool,
    /// Each deploy is shown as a deployment on the forge (GH-1).
    pub reports_deploys: bool,
    /// `merge.update`.
    pub update: Update,
    /// `deploy.artefacts_after_merge: none`: the work item's documents don't land (ORD-6).
    pub leaves_out: bool,
    /// `deploy.artefacts_after_merge: branch`.
    pub artefacts_on_branch: bool,
    /// `merge.delete_branch`.
    pub deletes_branch: bool,
    /// CFG `limits.per_project`; 0: none.
    pub max_running: i64,
    /// Its board is asked what blocks a task before the task starts: the list alone does not say it (RULE-27).
    pub remote_board: bool,
}

impl ProjectPolicy {
    /// What a person is shown before anything is released (BND-3); `None`: the command gets a build, or there is no
    /// command.
    pub fn runs_landed_code(&self) -> Option<String> {
        self.deploys_as.as_ref().map(|user| format!("deploy runs the landed code as {user}"))
    }
}

/// Rules of one agent role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentPolicy {
    pub run_retries: i64,
    pub retry_backoff_ms: i64,
    /// Cap of one run, in millionths of a dollar; 0: none.
    pub max_cost_micros: i64,
    /// The credential that a usage limit cools down (the runtime's name).
    pub credential: String,
    /// At once; 0: no limit.
    pub max_running: i64,
}

/// How long a refused effect is retried (ORD-1), whichever bound is reached first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EffectBounds {
    pub max_tries: i64,
    /// Time in which there was no answer does not count.
    pub max_ms: i64,
}

/// All rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub projects: BTreeMap<String, ProjectPolicy>,
    pub agents: BTreeMap<Agent, AgentPolicy>,
    pub max_concurrency: i64,
    /// Of each reserved kind at once.
    pub max_reserved: i64,
    /// Rollbacks to development before a task is blocked.
    pub developer_retries: i64,
    /// Millionths of a dollar; 0: none.
    pub max_task_micros: i64,
    pub max_day_micros: i64,
    pub undecided_max_ms: i64,
    pub effects: EffectBounds,
    pub dependencies: bool,
    pub min_free_mb: u64,
    /// The labels that answer for a person, by name (BRD-5).
    pub approve_label: String,
    pub deploy_label: String,
}

impl Policy {
    /// The label that answers such a wait for the person.
    pub fn label(&self, waiting: Waiting) -> &str {
        match waiting {
            Waiting::Approval => &self.approve_label,
            Waiting::ConfirmDeploy => &self.deploy_label,
        }
    }

    /// The rules of a task's project; `None` for a project that is no longer configured.
    pub fn project(&self, key: &str) -> Option<&ProjectPolicy> {
        self.projects.get(key)
    }
}
