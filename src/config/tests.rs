//! The sample of the configuration page, defaults, precedence, and every kind of refusal.

use super::load::parse;
use super::*;
use crate::model::scan::Severity;
use crate::model::stage::{Agent, Stage};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const SAMPLE: &str = include_str!("../../tests/fixtures/orch.sample.yaml");
const MINIMAL: &str = "projects: [{key: ORCH, git: {remote: /srv/orch.git}}]\n";

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    env.insert("HOME".into(), "/home/me".into());
    env
}

fn read_with(text: &str, pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    parse(text, Path::new("/etc/orch"), None, &env(pairs), Path::new("/cwd"))
}

fn read(text: &str) -> Result<Config, ConfigError> {
    read_with(text, &[])
}

fn project(extra: &str) -> Result<Config, ConfigError> {
    read(&format!("projects: [{{key: ORCH, git: {{remote: /srv/o}}, {extra}}}]"))
}

#[test]
fn the_sample_of_the_page_is_read_whole() {
    let c = read(SAMPLE).unwrap();
    let p = &c.projects[0];
    assert_eq!((p.key.as_str(), p.repo.as_str(), p.stages.len()), ("ORCH", "orchestrator", 7));
    assert_eq!(c.state_dir, Path::new("/home/me/.local/state/orch"));
    assert_eq!(p.git.credential, Some(SecretRef::File("/run/credentials/git-token".into())));
    assert!(p.git.protected_paths.contains(&"smoke.sh".to_owned()));
    assert!(p.git.protected_paths.contains(&"rollback.sh".to_owned()));
    assert_eq!(p.staging.checks.len(), 4);
    assert_eq!(p.staging.sandbox_infra[0].id, "S3");
    assert_eq!(p.post_deploy.k_of_m.get(), Some((4, 10)));
    assert_eq!(p.security.allow.len(), 1);
    assert_eq!(p.security.severity_threshold, Severity::High);
    assert_eq!(c.notify.telegram.as_ref().unwrap().chat_id, "-100123");
    let developer = c.agent(Agent::Developer);
    assert_eq!((developer.models, developer.effort.as_str()), (vec!["claude-opus-4-8".to_owned()], "high"));
    assert_eq!(c.agent(Agent::Tester).models, Vec::<String>::new());
    assert_eq!(c.runtimes["scripted"].kind, RuntimeKind::Command { command: vec!["/etc/orch/agent.sh".into()] });
}

#[test]
fn the_remote_board_and_forge_of_the_page_are_read() {
    let c = read(
        r#"
projects:
  - key: ORCH
    git: {remote: "https://git.example/team/orchestrator.git"}
    board: {kind: plane, url: "https://plane.example", workspace: team, project: ORCH, api_key: {env: PLANE_API_KEY},
            statuses: {to_analyse: "To Analyse", stop: "STOP"}, full_scan_every_s: 3600}
    forge: {kind: gitea, url: "https://git.example", owner: team, name: orchestrator, token: {file: ~/gitea}, post_statuses: true}
    ci: {contexts: [ci/test]}
    staging: {revision: {url: "http://s/version", field: version}, sandbox_infra: [S1]}
    post_deploy: {errors: {prometheus: {url: "http://p", requests: r, errors_5xx: e}}}
"#,
    )
    .unwrap();
    let p = &c.projects[0];
    assert!(matches!(&p.board, Board::Plane(b) if b.full_scan_every_s == 3600 && b.statuses.len() == 2));
    assert!(
        matches!(&p.forge, Forge::Gitea(f) if f.post_statuses && f.token == SecretRef::File("/home/me/gitea".into()))
    );
    assert!(matches!(&p.staging.revision, Some(Revision::Url { field: Some(f), .. }) if f == "version"));
    assert!(matches!(
        p.post_deploy.errors.spec(),
        Ok(crate::model::probe::ErrorSpec::Prometheus { timeout_ms: 10_000, .. })
    ));
}

#[test]
fn gh_1_a_github_board_and_forge_take_a_token_or_an_app_and_keys_of_their_own() {
    let with = |board: &str, forge: &str| {
        read(&format!(
            "projects:\n  - key: A\n    git: {{remote: /a}}\n    ci: {{contexts: [t], accept: [neutral]}}\n    board: {board}\n    forge: {forge}\n"
        ))
    };
    let token = "{kind: github, owner: team, name: app, token: {env: T}}";
    let app = "{kind: github, api_base: \"https://git.example/api/v3/\", owner: team, name: app, app: {id: 12, installation: 5, key: {file: /k.pem}}, draft: true, reviewers: [ann]}";
    let c = with(token, app).unwrap();
    let p = &c.projects[0];
    let (board, forge) = (p.board.account().unwrap(), p.forge.account().unwrap());
    assert_eq!((board.url, forge.url), ("https://api.github.com", "https://git.example/api/v3"));
    assert_eq!((board.resource, forge.name.as_str()), (Some("core"), "App 12, installation 5"));
    assert!(matches!(&p.forge, Forge::Github(f) if f.draft && f.reviewers == ["ann"]));
    assert_eq!(p.ci.accept, [crate::model::ci::Accepted::Neutral]);
    let paths: Vec<String> = c.secrets().into_iter().map(|(path, _)| path).collect();
    assert!(
        paths.contains(&"projects.A.board.token".to_owned()) && paths.contains(&"projects.A.forge.app.key".to_owned())
    );
    // One credential means one account: its limits are shared.
    let c = with(token, token).unwrap();
    assert_eq!(c.projects[0].board.account(), c.projects[0].forge.account());
    for (board, forge, said) in [
        ("{kind: github, owner: o, name: n}", token, "board.token is missing"),
        ("{kind: github, owner: o, token: {env: T}}", token, "board.name is missing"),
        (
            "{kind: github, owner: o, name: n, token: {env: T}, url: 'http://p'}",
            token,
            "board.url is a key of kind plane, and this is github",
        ),
        ("{owner: o}", token, "board.owner is a key of kind github, and this is local"),
        (
            token,
            "{kind: github, owner: o, name: n, token: {env: T}, app: {id: 1, installation: 1, key: {env: K}}}",
            "both token and app",
        ),
        (token, "{kind: github, owner: o, name: n, app: {id: 1, key: {env: K}}}", "app.installation is missing"),
        (
            token,
            "{kind: github, owner: o, name: n, token: {env: T}, api_base: 'https://github.com'}",
            "expected the API's address",
        ),
        (
            token,
            "{kind: gitea, url: 'http://g', owner: o, name: n, token: {env: T}, draft: true}",
            "draft is a key of kind github",
        ),
        (
            "{kind: github, owner: o, name: n, token: {env: T}, labels: {prefix: ' '}}",
            token,
            "labels.prefix is missing",
        ),
        ("{kind: github, owner: o, name: n, token: {env: T}, labels: {prefix: 'a, '}}", token, "without a comma"),
        (
            "{kind: github, owner: o, name: n, token: {env: T}, statuses: {done: 'This is a name that makes a label too long to be one'}}",
            token,
            "at most 50 characters",
        ),
    ] {
        let error = with(board, forge).unwrap_err().to_string();
        assert!(error.contains(said), "{board} {forge}: {error}");
    }
}

#[test]
fn a_minimal_file_has_the_defaults_of_the_page() {
    let c = read(MINIMAL).unwrap();
    let p = &c.projects[0];
    assert_eq!((p.repo.as_str(), p.git.default_branch.as_deref(), p.self_hosting), ("orch", None, false));
    assert!(matches!(&p.board, Board::Local(b) if b.dir.ends_with(".local/state/orch/issues")));
    assert_eq!(p.forge, Forge::Local);
    assert!(p.deploy.confirm && p.deploy.command.is_none() && p.post_deploy.health.is_empty());
    assert_eq!((c.limits.max_concurrency, c.limits.developer_retries), (1, 3));
    assert_eq!(c.agent(Agent::Analyst).runtime, "claude");
    assert!(matches!(&c.runtimes["claude"].kind, RuntimeKind::Claude { program, .. } if program == "claude"));
    assert!(c.runtimes["claude"].env.is_empty());
    assert!(!read_with(MINIMAL, &[("ANTHROPIC_API_KEY", "x")]).unwrap().runtimes["claude"].env.is_empty());
    assert!(!c.auto_label.enabled && !c.frontmatter.validation_strict && c.reconcile.enabled);
}

#[test]
fn every_variable_of_the_page_is_known_and_has_its_default() {
    let all: BTreeMap<String, (String, String)> =
        settings().into_iter().map(|s| (s.variable, (s.path, s.default))).collect();
    assert_eq!(all.len(), settings().len(), "a variable stands for one setting");
    for (variable, path, default) in [
        ("ORCH_MAX_CONCURRENCY", "limits.max_concurrency", "1"),
        ("ORCH_MAX_DEVELOPER_RETRIES", "limits.developer_retries", "3"),
        ("ORCH_STOP_STATUS_ENABLED", "stop.status_enabled", "true"),
        ("ORCH_REAPER_ENABLED", "reaper.enabled", "true"),
        ("ORCH_REAPER_INTERVAL_S", "reaper.interval_s", "60"),
        ("ORCH_REAPER_DEAD_TICKS", "reaper.dead_ticks", "2"),
        ("ORCH_REAPER_FINALIZE_GRACE_S", "reaper.finalize_grace_s", "300"),
        ("ORCH_REAPER_MAX_RUNNING_S", "reaper.max_running_s", "14400"),
        ("ORCH_LEASE_RECLAIM_ENABLED", "merge_lease.reclaim_enabled", "true"),
        ("ORCH_MERGE_LEASE_TTL_S", "merge_lease.ttl_s", "7200"),
        ("ORCH_SERIAL_GATE_ENABLED", "serial_gate.enabled", "true"),
        ("ORCH_SERIAL_GATE_REPOS", "serial_gate.repos", ""),
        ("ORCH_SERIAL_GATE_FREEZE_ENABLED", "serial_gate.freeze_enabled", "true"),
        ("ORCH_DEPENDENCIES_ENABLED", "dependencies.enabled", "true"),
        ("ORCH_AUTO_LABEL_ENABLED", "auto_label.enabled", "false"),
        ("ORCH_AUTO_APPROVE_LABEL", "auto_label.approve_label", "autoApprove"),
        ("ORCH_AUTO_DEPLOY_LABEL", "auto_label.deploy_label", "autoDeploy"),
        ("ORCH_AUTO_LABEL_REPOS", "auto_label.repos", ""),
        ("ORCH_AUTO_LABEL_STATES_TTL_S", "auto_label.states_ttl_s", "300"),
        ("ORCH_PLANE_STATES_TTL_S", "plane.states_ttl_s", "300"),
        ("ORCH_RECONCILE_ENABLED", "reconcile.enabled", "true"),
        ("ORCH_FRONTMATTER_VALIDATION_STRICT", "frontmatter.validation_strict", "false"),
        ("ORCH_SECURITY_GATE_ENABLED", "security.gate_enabled", "true"),
        ("ORCH_SECURITY_GATE_REPOS", "security.gate_repos", ""),
        ("ORCH_SECURITY_DEP_AUDIT_ENABLED", "security.dep_audit_enabled", "true"),
        ("ORCH_SECURITY_DEP_AUDIT_FAIL_CLOSED", "security.dep_audit_fail_closed", "false"),
        ("ORCH_SECURITY_SCAN_TIMEOUT_S", "security.scan_timeout_s", "300"),
        ("ORCH_SECURITY_GITLEAKS_CONFIG", "security.gitleaks_config", ".gitleaks.toml"),
        ("ORCH_SECURITY_FEEDS_OSV_URL", "security.feeds.osv_url", ""),
        ("ORCH_STAGING_ENABLED", "staging.enabled", "true"),
        ("ORCH_STAGING_INFRA_TOLERANCE_ENABLED", "staging.infra_tolerance_enabled", "true"),
        ("ORCH_IMAGE_FRESHNESS_ENABLED", "image_freshness.enabled", "true"),
        ("ORCH_POST_DEPLOY_ENABLED", "post_deploy.enabled", "true"),
        ("ORCH_POST_DEPLOY_REPOS", "post_deploy.repos", ""),
        ("ORCH_POST_DEPLOY_WINDOW_S", "post_deploy.window_s", "900"),
        ("ORCH_POST_DEPLOY_INTERVAL_S", "post_deploy.interval_s", "60"),
        ("ORCH_POST_DEPLOY_FAIL_THRESHOLD", "post_deploy.fail_threshold", "3"),
        ("ORCH_POST_DEPLOY_5XX_THRESHOLD", "post_deploy.5xx_threshold", "0.05"),
        ("ORCH_POST_DEPLOY_ACTION", "post_deploy.action", "alert_only"),
        ("ORCH_AGENT_RUNTIME", "agents.runtime", "claude"),
        ("ORCH_AGENT_TIMEOUT_S", "agents.timeout_s", "7200"),
        ("ORCH_AGENT_STALL_S", "agents.stall_s", "900"),
        ("ORCH_AGENT_MODEL", "agents.model", ""),
        ("ORCH_AGENT_MODEL_DEVELOPER", "agents.overrides.developer.model", ""),
        ("ORCH_AGENT_EFFORT_DEPLOYER", "agents.overrides.deployer.effort", ""),
        ("ORCH_AGENT_FALLBACK_MODEL", "agents.fallback_model", ""),
        ("ORCH_TRACKER_MODE", "notify.telegram.mode", "bump"),
        ("ORCH_MIN_FREE_MB", "min_free_mb", "512"),
    ] {
        assert_eq!(all.get(variable), Some(&(path.to_owned(), default.to_owned())), "{variable}");
    }
}

#[test]
fn project_wins_over_top_the_environment_over_both_and_self_hosting_over_all() {
    let text = "
security: {scan_timeout_s: 10, severity_threshold: low}
post_deploy: {action: alert_only, window_s: 100}
projects:
  - {key: A, git: {remote: /a}, security: {scan_timeout_s: 20}, post_deploy: {interval_s: 5, rollback: {command: [r]}, health: [{url: 'http://h/'}]}}
  - {key: B, git: {remote: /b}, self_hosting: true, deploy: {confirm: false}}
";
    let c = read_with(text, &[("ORCH_POST_DEPLOY_ACTION", "rollback"), ("ORCH_POST_DEPLOY_WINDOW_S", " 7 ")]).unwrap();
    let (a, b) = (&c.projects[0], &c.projects[1]);
    assert_eq!((a.security.scan_timeout_s, b.security.scan_timeout_s), (20, 10));
    assert_eq!(a.security.severity_threshold, Severity::Low);
    assert_eq!((a.post_deploy.window_s, a.post_deploy.interval_s), (7, 5));
    assert_eq!(a.post_deploy.action, DegradedAction::Rollback);
    assert_eq!(b.post_deploy.action, DegradedAction::AlertOnly);
    assert!(b.deploy.confirm);
    for (path, source) in [
        ("projects.A.security.scan_timeout_s", "file"),
        ("projects.B.security.scan_timeout_s", "file (top)"),
        ("projects.A.post_deploy.window_s", "env ORCH_POST_DEPLOY_WINDOW_S"),
        ("projects.B.post_deploy.action", "self-hosting rule"),
        ("projects.B.deploy.confirm", "self-hosting rule"),
        ("projects.A.deploy.confirm", "default"),
        ("reaper.enabled", "default"),
    ] {
        assert_eq!(c.source(path), source, "{path}");
        assert!(c.shown().iter().any(|s| s.path == path), "{path}");
    }
}

#[test]
fn scopes_are_local_tests() {
    let of = |scope: &str| {
        let c = read_with(
            "projects: [{key: A, repo: alpha, git: {remote: /a}}, {key: B, git: {remote: /b}, self_hosting: true}]",
            &[("ORCH_SERIAL_GATE_REPOS", scope)],
        )
        .unwrap();
        (c.serial(&c.projects[0]), c.serial(&c.projects[1]))
    };
    assert_eq!(of(""), (false, true));
    assert_eq!(of("*"), (true, true));
    assert_eq!(of(" alpha , x"), (true, false));
    let c = read("serial_gate: {repos: [alpha]}\nprojects: [{key: A, repo: alpha, git: {remote: /a}}]").unwrap();
    assert!(c.serial(&c.projects[0]) && !c.security_gate(&c.projects[0]) && !c.watched(&c.projects[0]));
}

#[test]
fn variables_are_refused_by_name_and_unknown_ones_warned_of() {
    for (name, value) in [
        ("ORCH_REAPER_DEAD_TICKS", "two"),
        ("ORCH_STOP_STATUS_ENABLED", "perhaps"),
        ("ORCH_POST_DEPLOY_5XX_THRESHOLD", "-1"),
        ("ORCH_EXECUTOR", "docker"),
    ] {
        let e = read_with(MINIMAL, &[(name, value)]).unwrap_err();
        assert!(e.message.contains(name) && e.message.contains("expected"), "{e}");
        assert!(read_with(MINIMAL, &[(name, "")]).is_ok());
    }
    let c = read_with(MINIMAL, &[("ORCH_REAPER_ENABLE", "1"), ("ORCH_TASK", "A-1"), ("ORCH_LOG", "x")]).unwrap();
    let odd: Vec<&String> = c.warnings.iter().filter(|w| w.starts_with("the variable")).collect();
    assert_eq!(odd.len(), 1, "{odd:?}");
    assert!(odd[0].contains("ORCH_REAPER_ENABLED"), "{odd:?}");
}

#[test]
fn every_wrong_thing_is_named() {
    let sample = "projects: [{key: ORCH, git: {remote: /srv/o}}]\n";
    for (text, part) in [
        ("{}", "projects"),
        ("projects: []", "projects"),
        ("projects: [{git: {remote: /a}}]", "key"),
        ("projects: [{key: orch, git: {remote: /a}}]", "key"),
        ("projects: [{key: A}]", "git.remote"),
        ("projects: [{key: A, repo: ../x, git: {remote: /a}}]", "repo"),
        ("projects: [{key: A, git: {remote: /a}}, {key: A, git: {remote: /b}}]", "key"),
        ("projects: [{key: A, git: {remote: /a}}, {key: B, repo: a, git: {remote: /b}}]", "repo"),
        ("projects: [{key: A, git: {remote: /a}}, {key: B, git: {remote: /a.git}}]", "one remote"),
        ("projects: [{key: A, git: {remote: 'https://u:hunter2@h/x'}}]", "must not hold"),
        ("projects: [{key: A, git: {remote: /a}, stages: [development]}]", "deploy"),
        ("projects: [{key: A, git: {remote: /a}, stages: [deploy, development]}]", "not moved"),
        ("projects: [{key: A, git: {remote: /a}, stages: [development, deploy, done]}]", "done"),
        (
            "projects: [{key: A, git: {remote: /a}, board: {kind: plane, url: 'http://p', workspace: w, project: p}}]",
            "api_key",
        ),
        ("projects: [{key: A, git: {remote: /a}, board: {url: 'http://p'}}]", "plane"),
        (
            "projects: [{key: A, git: {remote: /a}, forge: {kind: gitea, url: 'http://g', owner: o, name: n, token: {env: T}}}]",
            "ci.contexts",
        ),
        (
            "projects: [{key: A, git: {remote: /a}, forge: {kind: gitea, url: 'http://g', owner: o, name: n, token: hunter2}}]",
            "token",
        ),
        ("projects: [{key: A, git: {remote: /a}, ci: {contexts: [orch/x]}}]", "orch/x"),
        ("projects: [{key: A, git: {remote: /a}, ci: {timeout_s: 0}}]", "ci.timeout_s"),
        ("projects: [{key: A, git: {remote: /a}, post_deploy: {k_of_m: [4, 2]}}]", "k_of_m"),
        ("projects: [{key: A, git: {remote: /a}, post_deploy: {5xx_threshold: 2}}]", "5xx_threshold"),
        (
            "projects: [{key: A, git: {remote: /a}, post_deploy: {action: rollback, health: [{url: 'http://h'}]}}]",
            "rollback",
        ),
        ("projects: [{key: A, git: {remote: /a}, deploy: {env: {ORCH_TASK: x}}}]", "ORCH_TASK"),
        ("projects: [{key: A, git: {remote: /a}, git: {}}]", "duplicate"),
        (&format!("{sample}agents: {{runtime: gemini}}"), "agents.runtime"),
        (&format!("{sample}agents: {{overrides: {{develper: {{}}}}}}"), "develper"),
        (&format!("{sample}agents: {{max_cost_usd: -1}}"), "agents.max_cost_usd"),
        (&format!("{sample}reaper: {{dead_ticks: 0}}"), "reaper.dead_ticks"),
        (&format!("{sample}reaper: {{dead_ticks: two}}"), "reaper"),
        (&format!("{sample}state_dir: $NOPE/x"), "NOPE"),
        (&format!("{sample}notify: {{telegram: {{chat_id: 1}}}}"), "token"),
        (
            &format!("{sample}security: {{allow: [{{rule: r, path: '*', owner: o, reason: r, expires: soon}}]}}"),
            "expires",
        ),
        ("projects: [", "line"),
    ] {
        let e = read(text).unwrap_err();
        assert!(e.message.contains(part), "{text}\n{e}");
        assert!(!e.message.contains("hunter2"), "{e}");
    }
}

#[test]
fn an_unknown_key_has_its_place_and_the_nearest_one() {
    let e = read("projects:\n  - key: ORCH\n    git:\n      remot: /a\n").unwrap_err();
    assert!(e.message.contains("remot") && e.message.contains("line 4 column 7"), "{e}");
    assert_eq!(e.hint.as_deref(), Some("did you mean `remote`?"));
}

#[test]
fn scripts_that_commands_name_are_protected() {
    let c =
        project(r#"ci: {command: ["bash", "tools/ci.sh", "--fast"]}, deploy: {command: ["/usr/bin/deploy", "x.py"]}"#);
    let paths = &c.unwrap().projects[0].git.protected_paths;
    for path in ["tools/ci.sh", "x.py", ".ci/**"] {
        assert!(paths.contains(&path.to_owned()), "{path}: {paths:?}");
    }
    assert!(!paths.iter().any(|p| p.contains("usr") || p == "bash" || p.contains("fast")), "{paths:?}");
}

#[test]
fn guard_settings_tell_a_switch_and_not_a_name() {
    let a = read(MINIMAL).unwrap().guard_settings();
    let b = read_with(MINIMAL, &[("ORCH_SECURITY_GATE_ENABLED", "off"), ("ORCH_AGENT_MODEL", "claude-x")]).unwrap();
    let differing: Vec<&String> =
        a.iter().filter(|(k, v)| b.guard_settings().get(*k) != Some(v)).map(|(k, _)| k).collect();
    assert_eq!(differing, ["projects.ORCH.security.gate_enabled", "security.gate_enabled"]);
    assert_eq!(b.source("security.gate_enabled"), "env ORCH_SECURITY_GATE_ENABLED");
    assert!(a.contains_key("limits.max_concurrency") && !a.contains_key("state_dir"));
}

#[test]
fn nothing_shown_is_a_secret() {
    let text = SAMPLE.replace("TARGET: prod", "TARGET: hunter2");
    let c = read(&text).unwrap();
    let said = format!("{:?} {c:?}", serde_json::to_string(&c.shown()).unwrap());
    assert!(!serde_json::to_string(&c.shown()).unwrap().contains("hunter2"));
    assert!(said.contains("PLANE_API_KEY") || said.contains("TELEGRAM_TOKEN"));
}

#[test]
fn search_order_and_the_missing_file() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    let env = BTreeMap::from([
        ("HOME".to_owned(), at("home").display().to_string()),
        ("XDG_CONFIG_HOME".to_owned(), at("xdg").display().to_string()),
    ]);
    let found = |file: Option<&Path>| load(file, None, &env, dir.path()).map(|c| c.file);
    if !PathBuf::from("/etc/orch/orch.yaml").exists() {
        assert!(found(None).unwrap_err().hint.unwrap().contains("orch init"));
    }
    std::fs::create_dir_all(at("xdg/orch")).unwrap();
    std::fs::write(at("xdg/orch/orch.yaml"), MINIMAL).unwrap();
    assert_eq!(found(None).unwrap(), at("xdg/orch/orch.yaml"));
    std::fs::write(at("orch.yaml"), MINIMAL).unwrap();
    assert!(found(None).unwrap_err().hint.unwrap().contains("orch config trust"));
    std::fs::write(at("xdg/orch/known"), format!("{}\n", at("orch.yaml").canonicalize().unwrap().display())).unwrap();
    assert_eq!(found(None).unwrap(), at("orch.yaml").canonicalize().unwrap());
    assert!(found(Some(Path::new("none.yaml"))).unwrap_err().message.contains("none.yaml"));
    std::fs::write(at("bad.yaml"), [0x61, 0xff]).unwrap();
    assert!(found(Some(Path::new("bad.yaml"))).unwrap_err().message.contains("UTF-8"));
    let c = load(None, Some(Path::new("st")), &env, dir.path()).unwrap();
    assert_eq!((c.state_dir.clone(), c.source("state_dir").as_str()), (at("st"), "command line"));
}

#[test]
fn bnd_3_the_area_of_runs_is_beside_the_state_directory_and_never_in_it() {
    let c = read(MINIMAL).unwrap();
    assert_eq!(c.area_dir, PathBuf::from(format!("{}-area", c.state_dir.display())));
    assert_eq!(c.source("area_dir"), "default");
    let c = read(&format!("{MINIMAL}area_dir: /var/tmp/area\n")).unwrap();
    assert_eq!((c.area_dir.as_path(), c.source("area_dir").as_str()), (Path::new("/var/tmp/area"), "file"));
    let c = read_with(MINIMAL, &[("ORCH_AREA_DIR", "/b")]).unwrap();
    assert_eq!((c.area_dir.as_path(), c.source("area_dir").as_str()), (Path::new("/b"), "env ORCH_AREA_DIR"));
    for bad in ["/s", "/s/area", "/"] {
        let e = read(&format!("{MINIMAL}state_dir: /s\narea_dir: {bad}\n")).unwrap_err();
        assert!(e.message.contains("area_dir is") && e.message.contains("/s"), "{}", e.message);
    }
}

#[test]
fn a_bomb_ends_in_time() {
    for text in
        ["{a: ".repeat(50_000), "[".repeat(50_000), "- ".repeat(50_000), "? ".repeat(20_000), "a: !x ".repeat(5000)]
    {
        assert!(read(&text).is_err());
    }
}

#[test]
fn every_secret_is_listed_with_its_path() {
    let c = read(SAMPLE).unwrap();
    let paths: Vec<String> = c.secrets().into_iter().map(|(p, _)| p).collect();
    for path in [
        "notify.telegram.token",
        "runtimes.claude.env.ANTHROPIC_API_KEY",
        "projects.ORCH.git.credential",
        "projects.ORCH.deploy.env.KEY",
    ] {
        assert!(paths.iter().any(|p| p == path), "{path}: {paths:?}");
    }
}

#[test]
fn bnd_3_builds_have_bounds_protected_scripts_and_readable_secrets() {
    let with = |keys: &str| read(&format!("projects: [{{key: ORCH, git: {{remote: /srv/o}}, {keys}}}]\n"));
    let all = "deploy: {command: [./deploy.sh], build: {command: [./b.sh], env: {K: {file: /k}}}}, staging: {revision: {command: [./r.sh]}, build: {command: [./s.sh], timeout_s: 60}, deploy: {command: [./t.sh], env: {T: {file: /t}}}}";
    let c = with(all).unwrap();
    let p = &c.projects[0];
    let (build, staging) = (p.deploy.build.as_ref().unwrap(), &p.staging);
    let times = [build, staging.build.as_ref().unwrap(), staging.deploy.as_ref().unwrap()].map(|l| l.timeout_ms());
    assert_eq!(times, [900_000, 60_000, 900_000]);
    for script in ["b.sh", "s.sh", "t.sh", "deploy.sh"] {
        assert!(p.git.protected_paths.iter().any(|path| path == script), "{script}");
    }
    let secrets: Vec<String> = c.secrets().into_iter().map(|(at, _)| at).collect();
    assert!(["deploy.build.env.K", "staging.deploy.env.T"].iter().all(|at| secrets.iter().any(|s| s.ends_with(at))));
    let readable = c.readable_by_runs(p);
    assert!(readable.iter().any(|(at, _)| at == "deploy.build.env.K"), "{readable:?}");
    assert!(!readable.iter().any(|(at, _)| at.starts_with("staging.deploy")), "{readable:?}");
    let warned = |keys: &str, part: &str| with(keys).unwrap().warnings.iter().any(|w| w.contains(part));
    assert!(!warned(all, "staging.build"));
    assert!(warned("staging: {build: {command: [./s.sh]}}", "no effect without staging.revision"));
    assert!(warned(
        "staging: {revision: {command: [./r.sh]}, build: {command: [./s.sh]}}",
        "nothing takes what it builds"
    ));
    let e = with("deploy: {build: {command: [./b.sh]}}").unwrap_err();
    assert!(e.message.contains("deploy.command") && e.hint.is_some(), "{e}");
    assert!(with("deploy: {command: [./d], build: {command: [./b.sh], timeout_s: 0}}").is_err());
    assert!(with("deploy: {command: [./d], build: {command: []}}").is_err());
}

#[test]
fn presets_know_a_program_and_further_arguments_and_nothing_else() {
    let with =
        |runtime: &str| read(&format!("{MINIMAL}\nagents: {{runtime: mine}}\nruntimes: {{mine: {{{runtime}}}}}\n"));
    for kind in ["codex", "gemini", "opencode"] {
        let c = with(&format!("kind: {kind}, extra_args: [-x]")).unwrap();
        let shown = serde_json::to_value(&c.runtimes["mine"]).unwrap();
        assert_eq!((shown["kind"].as_str(), shown["program"].as_str()), (Some(kind), Some(kind)));
        assert!(with(&format!("kind: {kind}, sandbox: off")).is_err());
    }
}

/// `docs/configuration.md` and the example of the units: rewritten with `ORCH_BLESS=1`.
#[test]
fn generated_files_are_fresh() {
    for (file, text) in
        [("docs/configuration.md", docs::markdown()), ("scripts/systemd/orch.env.example", docs::env_example())]
    {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        if std::env::var_os("ORCH_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        assert!(std::fs::read_to_string(&path).unwrap_or_default() == text, "{file} is stale: run with ORCH_BLESS=1");
    }
    assert_eq!(Stage::parse("deploy"), Some(Stage::Deploy));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[\\x20-\\x7e\\n]{0,300}", value in "\\PC{0,20}") {
        let _ = read(&text);
        let _ = read_with(MINIMAL, &[("ORCH_MAX_CONCURRENCY", &value), ("ORCH_POST_DEPLOY_K_OF_M", &value), ("ORCH_STATE_DIR", &value)]);
        let _ = read(&format!("projects: [{{key: A, git: {{remote: {value:?}, branch_prefix: {value:?}}}, ci: {{command: [{value:?}]}}}}]"));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_broken_sample_does_not_make_it_panic(at in 0usize..9000, with in "[ \\[\\]{}:,&*#!|>'\"%@\\n-]{0,3}") {
        let at = (0..=at.min(SAMPLE.len())).rev().find(|n| SAMPLE.is_char_boundary(*n)).unwrap();
        let _ = read(&format!("{}{with}{}", &SAMPLE[..at], &SAMPLE[at..]));
    }
}
