//! Rules for single values and between values, whatever their source.

use super::error::ConfigError;
use super::paths::identity;
use super::types::{Config, DegradedAction, PostDeploy, Project, Scope, Security};
use crate::model::parts::overlap;
use crate::model::stage::Stage;

/// A setting that must be at least 1.
fn at_least_one(value: u64, at: &str) -> Result<(), ConfigError> {
    if value > 0 { Ok(()) } else { Err(ConfigError::new(format!("{at} is 0, expected 1 or more"))) }
}

/// The watch's numbers. `at`: the path of the share, for messages.
pub(super) fn post_deploy(section: &PostDeploy, at: &str) -> Result<(), ConfigError> {
    if section.share_5xx > 1.0 {
        return Err(ConfigError::new(format!("{at} is {}, expected a share from 0 to 1", section.share_5xx)));
    }
    Ok(())
}

/// The top-level sections.
pub(super) fn top(config: &Config) -> Result<(), ConfigError> {
    at_least_one(config.reaper.dead_ticks.into(), "reaper.dead_ticks")?;
    at_least_one(u64::from(config.effects.max_tries), "effects.max_tries")?;
    for (agent, own) in &config.agents.overrides {
        if own.timeout_s == Some(0) {
            return Err(ConfigError::new(format!("agents.overrides.{agent}.timeout_s is 0, expected 1 or more")));
        }
        if own.max_cost_usd.is_some_and(|c| !c.is_finite() || c < 0.0) {
            return Err(ConfigError::new(format!(
                "agents.overrides.{agent}.max_cost_usd: expected a number, 0 or more"
            )));
        }
    }
    let named = config
        .agents
        .overrides
        .iter()
        .filter_map(|(a, o)| Some((format!("agents.overrides.{a}.runtime"), o.runtime.as_ref()?)));
    for (at, name) in std::iter::once(("agents.runtime".to_owned(), &config.agents.runtime)).chain(named) {
        if !config.runtimes.contains_key(name) {
            let known: Vec<&str> = config.runtimes.keys().map(String::as_str).collect();
            return Err(ConfigError::new(format!(
                "{at} is {name:?}, expected a name under `runtimes`: {}",
                known.join(", ")
            ))
            .hint("declare it under `runtimes`"));
        }
    }
    if config.auto_label.approve_label.trim().eq_ignore_ascii_case(config.auto_label.deploy_label.trim()) {
        return Err(ConfigError::new("auto_label.approve_label and auto_label.deploy_label are the same label"));
    }
    unit_limits(config)
}

fn unit_limits(config: &Config) -> Result<(), ConfigError> {
    let memory = config.executor_limits.memory_max.0.as_str();
    let digits = memory.trim_end_matches(['K', 'M', 'G', 'T', '%']);
    let number = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !memory.is_empty() && memory != "infinity" && !(number(digits) && memory.len() - digits.len() <= 1) {
        return Err(ConfigError::new(format!("executor_limits.memory_max is {memory:?}, expected bytes such as 4G")));
    }
    let cpu = config.executor_limits.cpu_quota.0.as_str();
    if !cpu.is_empty() && !cpu.strip_suffix('%').is_some_and(number) {
        return Err(ConfigError::new(format!("executor_limits.cpu_quota is {cpu:?}, expected a share such as 200%")));
    }
    Ok(())
}

/// A project on its own; `at` is its path.
pub(super) fn project(p: &Project, at: &str) -> Result<(), ConfigError> {
    stages(&p.stages, at)?;
    paths(p, at)?;
    if p.forge.is_remote() && p.ci.required && p.ci.contexts.is_empty() {
        return Err(ConfigError::new(format!(
            "{at}.ci.contexts is missing, expected the names of the statuses that must be green on the forge"
        ))
        .hint("name them (doctor proposes some from recent commits), or set ci.required: false"));
    }
    if let Some(own) = p.ci.contexts.iter().find(|c| c.trim().is_empty() || c.starts_with("orch/")) {
        return Err(ConfigError::new(format!("{at}.ci.contexts names {own:?}, which never enters the roll-up"))
            .hint("name the statuses of the CI system; those under orch/ are orch's own"));
    }
    if p.deploy.build.is_some() && p.deploy.command.is_none() {
        return Err(ConfigError::new(format!(
            "{at}.deploy.build is there, and deploy.command, which takes it, is missing"
        ))
        .hint("name the command that deploys what the build left in ORCH_BUILD_OUTPUT, or take the build out"));
    }
    post_deploy(&p.post_deploy, &format!("{at}.post_deploy.5xx_threshold"))?;
    at_least_one(p.post_deploy.fail_threshold.into(), &format!("{at}.post_deploy.fail_threshold"))?;
    if p.post_deploy.action == DegradedAction::Rollback
        && p.post_deploy.rollback.is_none()
        && !p.post_deploy.health.is_empty()
    {
        return Err(ConfigError::new(format!(
            "{at}.post_deploy.action is rollback, and post_deploy.rollback.command is missing"
        ))
        .hint("name the command, or set the action to alert_only"));
    }
    for (globs, key) in [(&p.git.protected_paths, "git.protected_paths")] {
        for text in globs {
            glob(text.strip_prefix('!').unwrap_or(text), &format!("{at}.{key}"))?;
        }
    }
    waivers(&p.security, &format!("{at}.security"))
}

fn glob(text: &str, at: &str) -> Result<(), ConfigError> {
    // Only these can be unfinished; the built-in patterns have none of them, and each step reads them all.
    if !text.contains(['[', ']', '{', '}', '\\']) {
        return Ok(());
    }
    match globset::Glob::new(text) {
        Ok(_) => Ok(()),
        Err(e) => Err(ConfigError::new(format!("{at}: {text:?} is no glob ({})", e.kind()))),
    }
}

/// The waivers of a `security` section.
pub(super) fn waivers(section: &Security, at: &str) -> Result<(), ConfigError> {
    for (n, w) in section.allow.iter().enumerate() {
        let at = format!("{at}.allow[{n}]");
        glob(&w.path, &format!("{at}.path"))?;
        super::parts::date(&w.expires, &format!("{at}.expires"))?;
        for (key, value) in [("rule", &w.rule), ("owner", &w.owner), ("reason", &w.reason)] {
            if value.trim().is_empty() {
                return Err(super::parts::missing(&format!("{at}.{key}"), "a text"));
            }
        }
    }
    let config = &section.gitleaks_config;
    if config.starts_with('/') || config.split('/').any(|p| p == ".." || p.is_empty()) {
        return Err(ConfigError::new(format!(
            "{at}.gitleaks_config is {config:?}, expected a path inside the repository"
        )));
    }
    Ok(())
}

fn stages(stages: &[Stage], at: &str) -> Result<(), ConfigError> {
    let at = format!("{at}.stages");
    if let Some(stage) = stages.iter().find(|s| s.is_terminal() || **s == Stage::Created) {
        return Err(ConfigError::new(format!("{at} names {stage}, which no project can choose or leave out")));
    }
    for must in [Stage::Development, Stage::Deploy] {
        if !stages.contains(&must) {
            return Err(ConfigError::new(format!("{at} leaves out {must}, which every project has")));
        }
    }
    if let Some(pair) = stages.windows(2).find(|pair| pair[0] >= pair[1]) {
        let order: Vec<&str> = Stage::ALL.iter().filter(|s| stages.contains(s)).map(|s| s.as_str()).collect();
        return Err(ConfigError::new(format!(
            "{at} has {} after {}; stages are not moved or repeated",
            pair[1], pair[0]
        ))
        .hint(format!("the order is {}", order.join(", "))));
    }
    Ok(())
}

/// Projects that are parts of one remote get the repo name of the first one, since gate, lease and mirror belong to the
/// remote (ORD-3).
pub(super) fn one_name_each(projects: &mut [Project]) {
    for n in 1..projects.len() {
        let (before, rest) = projects.split_at_mut(n);
        let Some(b) = rest.first_mut() else { continue };
        if let Some(a) = before.iter().find(|a| apart(a, b) && identity(&a.git.remote) == identity(&b.git.remote)) {
            b.repo.clone_from(&a.repo);
        }
    }
}

/// Whether two projects are parts of one repository without a path in common.
fn apart(a: &Project, b: &Project) -> bool {
    !a.paths.is_empty() && !b.paths.is_empty() && !overlap(&a.paths, &b.paths)
}

/// The parts of a repository.
fn paths(p: &Project, at: &str) -> Result<(), ConfigError> {
    for text in &p.paths {
        let at = format!("{at}.paths");
        glob(text, &at)?;
        if text.trim().is_empty() || text.starts_with(['/', '!']) || text.split('/').any(|part| part == "..") {
            return Err(ConfigError::new(format!("{at}: {text:?} is no part of a repository"))
                .hint("a glob from its root: services/api/**"));
        }
    }
    Ok(())
}

/// All projects together: keys, repositories and remotes must differ (RULE-29), except for parts of one remote (ORD-3).
pub(super) fn together(projects: &[Project]) -> Result<(), ConfigError> {
    for (n, b) in projects.iter().enumerate() {
        for a in &projects[..n] {
            if a.key == b.key {
                return Err(ConfigError::new(format!("two projects have the key {}, expected one each", a.key)));
            }
            let one_remote = identity(&a.git.remote) == identity(&b.git.remote);
            if one_remote && !apart(a, b) {
                return Err(ConfigError::new(format!(
                    "the projects {} and {} have one remote (git.remote)",
                    a.key, b.key
                ))
                .hint("give each its own `paths` that don't overlap, or merge the two entries"));
            }
            if a.repo.eq_ignore_ascii_case(&b.repo) && !one_remote {
                return Err(ConfigError::new(format!(
                    "the projects {} and {} have one repo name, {}",
                    a.key, b.key, a.repo
                ))
                .hint("give one of them another `repo`"));
            }
            if a.repo == b.key || a.key == b.repo {
                return Err(ConfigError::new(format!(
                    "the repo name of one of {} and {} is the other's key",
                    a.key, b.key
                ))
                .hint("give it another `repo`: a scope or a freeze could mean both"));
            }
        }
    }
    Ok(())
}

/// What is unusual but not an error.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut out = super::confine::warnings(config);
    let scopes = [
        ("serial_gate.repos", &config.serial_gate.repos),
        ("auto_label.repos", &config.auto_label.repos),
        ("security.gate_repos", &config.security.gate_repos),
        ("post_deploy.repos", &config.post_deploy.repos),
    ];
    for (at, scope) in scopes {
        match scope {
            Scope::Repos(names) => {
                for name in names.iter().filter(|n| config.project(n).is_none()) {
                    out.push(format!("{at} names {name:?}, and no project has that repo or key"));
                }
            }
            Scope::All | Scope::SelfHosting => {}
        }
    }
    for p in &config.projects {
        if p.forge.is_remote() && p.ci.command.is_some() {
            out.push(format!("{}: ci.command has no effect on a remote forge", p.key));
        } else if !p.forge.is_remote() && !p.ci.contexts.is_empty() {
            out.push(format!("{}: ci.contexts has no effect on the local forge", p.key));
        } else if !p.forge.is_remote() && p.ci.command.is_none() {
            out.push(format!("{}: ci.command is absent, CI is not applicable and ci_green passes", p.key));
        }
        let staging = &p.staging;
        if (staging.build.is_some() || staging.deploy.is_some()) && staging.revision.is_none() {
            out.push(format!("{}: staging.build and staging.deploy have no effect without staging.revision", p.key));
        } else if staging.build.is_some() && staging.deploy.is_none() {
            out.push(format!(
                "{}: staging.build runs confined, and without staging.deploy nothing takes what it builds",
                p.key
            ));
        }
        for (on, gate) in [
            (config.security_gate(p), "the security gate"),
            (config.serial(p), "the serial gate"),
            (config.post_deploy.repos.covers(p) || p.post_deploy.repos.covers(p), "the watch after a deploy"),
        ] {
            if !on {
                out.push(format!("{}: {gate} is off or the project is outside its scope", p.key));
            }
        }
    }
    out
}
