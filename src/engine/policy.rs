//! Translates the configuration into rules for `decide`, the only place that does.

use crate::adapters::accounts;
use crate::config::{ArtefactsAfterMerge, Config, Project};
use crate::model::policy::{AgentPolicy, CiSource, EffectBounds, Policy, ProjectPolicy};
use crate::model::stage::{Agent, Stage};

/// The rules of a configuration.
pub fn of(config: &Config) -> Policy {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let many = |n: u32| if n == 0 { i64::MAX } else { i64::from(n) };
    Policy {
        projects: config.projects.iter().map(|p| (p.key.clone(), project(config, p))).collect(),
        agents: Agent::ALL.iter().map(|a| (*a, agent(config, *a))).collect(),
        max_concurrency: many(config.limits.max_concurrency),
        max_reserved: i64::try_from(cores.min(2)).unwrap_or(1),
        developer_retries: i64::from(config.limits.developer_retries),
        max_task_micros: micros(config.limits.max_cost_usd_per_task),
        max_day_micros: micros(config.limits.max_cost_usd_per_day),
        undecided_max_ms: ms(config.gates.undecided_max_s),
        effects: EffectBounds { max_tries: i64::from(config.effects.max_tries), max_ms: ms(config.effects.max_s) },
        dependencies: config.dependencies.enabled,
        min_free_mb: config.min_free_mb,
        approve_label: config.auto_label.approve_label.clone(),
        deploy_label: config.auto_label.deploy_label.clone(),
    }
}

fn project(config: &Config, p: &Project) -> ProjectPolicy {
    ProjectPolicy {
        fault: p.fault.clone(),
        key: p.key.clone(),
        repo: p.repo.clone(),
        self_hosting: p.self_hosting,
        stages: p.stages.clone(),
        ci: match (p.forge.is_remote(), &p.ci.command) {
            (true, _) if p.ci.required || !p.ci.contexts.is_empty() => CiSource::Statuses,
            (true, _) | (false, None) => CiSource::None,
            (false, Some(_)) => CiSource::Command,
        },
        base: super::base_rows::applies(config, p).then(|| p.base_name().to_owned()),
        staging_checks: p.staging.enabled
            && p.stages.contains(&Stage::DeployStaging)
            && (!p.staging.checks.is_empty() || p.self_hosting),
        staging_commands: p.staging.checks.iter().any(crate::config::Check::is_command),
        staging_build: config.image_freshness.enabled && p.staging.revision.is_some() && p.staging.build.is_some(),
        deploy_build: p.deploy.build.is_some(),
        deploys_as: (p.deploy.command.is_some() && p.deploy.build.is_none())
            .then(|| accounts::name(rustix::process::geteuid().as_raw())),
        security: p.security.gate_enabled && p.security.gate_repos.covers(p),
        freshness: config.image_freshness.enabled && p.staging.revision.is_some(),
        confirm_deploy: p.deploy.confirm || p.self_hosting,
        watch: p.post_deploy.enabled && p.post_deploy.repos.covers(p) && !p.post_deploy.health.is_empty(),
        serial: config.serial_gate.enabled && config.serial_gate.repos.covers(p),
        remote_forge: p.forge.is_remote(),
        deploy_command: p.deploy.command.is_some(),
        posts_statuses: p.forge.posts_statuses(),
        update: p.merge.update,
        leaves_out: p.deploy.artefacts_after_merge == ArtefactsAfterMerge::None,
        artefacts_on_branch: p.deploy.artefacts_after_merge == ArtefactsAfterMerge::Branch,
        deletes_branch: p.merge.delete_branch,
        freeze_on_degraded: config.serial_gate.freeze_enabled,
        max_running: i64::from(config.limits.per_project),
        remote_board: p.board.is_remote(),
    }
}

fn agent(config: &Config, agent: Agent) -> AgentPolicy {
    let s = config.agent(agent);
    AgentPolicy {
        run_retries: i64::from(s.run_retries),
        retry_backoff_ms: ms(s.retry_backoff_s),
        max_cost_micros: micros(s.max_cost_usd),
        credential: s.runtime,
        max_running: config.limits.per_agent.get(&agent).map_or(0, |n| i64::from(*n)),
    }
}

/// Dollars as millionths; an invalid number means no limit.
pub fn micros(dollars: f64) -> i64 {
    if dollars.is_finite() && dollars > 0.0 { (dollars * 1_000_000.0).ceil() as i64 } else { 0 }
}

/// Seconds of the configuration as milliseconds.
pub fn ms(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000)
}
