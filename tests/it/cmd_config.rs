//! `orch config` on the binary.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

const GOOD: &str = "projects: [{key: ORCH, git: {remote: ./repo.git, credential: {env: GIT_TOKEN}}}]\n";

fn orch(dir: &Path, env: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = Command::new(crate::support::ORCH);
    command.current_dir(dir).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", dir).env("ORCH_CONFIG", "orch.yaml").envs(env.iter().copied()).args(args).output().unwrap()
}

fn with(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("orch.yaml"), text).unwrap();
    dir
}

fn said(out: &Output) -> (i32, String, String) {
    let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
    (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
}

fn files(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap();
    names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_good_file_passes_and_nothing_is_touched() {
    let dir = with(GOOD);
    let (code, out, _) = said(&orch(dir.path(), &[], &["config", "check"]));
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("orch.yaml: ok, 1 project"), "{out}");
    let out = orch(dir.path(), &[], &["config", "check", "--json"]);
    let v: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((v["ok"].as_bool(), v["projects"][0].as_str()), (Some(true), Some("ORCH")));
    assert_eq!(files(dir.path()), ["orch.yaml"]);
}

#[test]
fn a_wrong_file_is_exit_2_with_key_place_and_suggestion() {
    let dir = with("projects:\n  - key: ORCH\n    git: {remote: /a}\nreapr: {enabled: true}\n");
    let (code, out, err) = said(&orch(dir.path(), &[], &["config", "check"]));
    assert_eq!((code, out.as_str()), (2, ""));
    for part in ["orch.yaml", "`reapr`", "line 4", "did you mean `reaper`?"] {
        assert!(err.contains(part), "{part}: {err}");
    }
    let (code, out, err) = said(&orch(dir.path(), &[], &["--json", "config", "show"]));
    let v: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, v["errors"][0]["code"].as_i64(), err.as_str()), (2, Some(2), ""));
    assert_eq!(files(dir.path()), ["orch.yaml"]);
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_repeated() {
    let dir = with("projects: [{key: ORCH, git: {remote: /a, credential: hunter2}}]\n");
    let (code, out, err) = said(&orch(dir.path(), &[], &["config", "check"]));
    assert_eq!(code, 2);
    assert!(err.contains("credential") && !err.contains("hunter2") && out.is_empty(), "{err}");
}

#[test]
fn rule_29_two_projects_on_one_remote_are_refused() {
    let dir = with(
        "projects:\n  - {key: A, git: {remote: 'https://git.example/t/x.git'}}\n  - {key: B, git: {remote: 'git@git.example:t/x'}}\n",
    );
    let (code, _, err) = said(&orch(dir.path(), &[], &["config", "check"]));
    assert_eq!(code, 2);
    assert!(err.contains("A and B have one remote"), "{err}");
}

#[test]
fn rule_2_required_contexts_must_be_named_on_a_remote_forge() {
    let file = |ci: &str| {
        format!(
            "projects: [{{key: A, git: {{remote: /a}}, forge: {{kind: gitea, url: 'http://g', owner: o, name: n, token: {{env: T}}}}, ci: {{{ci}}}}}]"
        )
    };
    let code = |ci: &str| said(&orch(with(&file(ci)).path(), &[], &["config", "check"])).0;
    assert_eq!((code(""), code("required: false"), code("contexts: [ci/test]")), (2, 0, 0));
}

#[test]
fn a_missing_file_points_to_init() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, err) = said(&orch(dir.path(), &[("ORCH_CONFIG", "gone.yaml")], &["config", "check"]));
    assert_eq!(code, 2);
    assert!(err.contains("gone.yaml") && err.contains("orch init"), "{err}");
}

#[test]
fn show_prints_values_and_sources_and_the_environment_wins() {
    let dir = with(&format!("{GOOD}reaper: {{dead_ticks: 5}}\n"));
    let env =
        [("ORCH_MAX_CONCURRENCY", "4"), ("ORCH_REAPER_ENABLED", ""), ("GIT_TOKEN", "hunter2"), ("ORCH_NONE", "x")];
    let (code, out, err) = said(&orch(dir.path(), &env, &["config", "show", "--json"]));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(!out.contains("hunter2"));
    let v: Value = serde_json::from_str(&out).unwrap();
    let of = |path: &str| {
        let list = v["settings"].as_array().unwrap();
        let s = list.iter().find(|s| s["path"] == path).unwrap_or_else(|| panic!("{path}"));
        (s["value"].clone(), s["source"].as_str().unwrap().to_owned())
    };
    assert_eq!(of("limits.max_concurrency"), (4.into(), "env ORCH_MAX_CONCURRENCY".into()));
    assert_eq!(of("reaper.dead_ticks"), (5.into(), "file".into()));
    assert_eq!(of("reaper.enabled"), (true.into(), "default".into()));
    assert_eq!(of("projects.ORCH.git.credential"), (serde_json::json!({"env": "GIT_TOKEN"}), "file".into()));
    assert!(v["warnings"].as_array().unwrap().iter().any(|w| w.as_str().unwrap().contains("ORCH_NONE")));
    let (code, _, err) = said(&orch(dir.path(), &[("ORCH_MAX_CONCURRENCY", "many")], &["config", "show"]));
    assert_eq!(code, 2);
    assert!(err.contains("ORCH_MAX_CONCURRENCY") && err.contains("whole number"), "{err}");
}

#[test]
fn an_empty_variable_counts_as_unset_and_the_state_directory_shows_its_source() {
    let dir = with(GOOD);
    let empty = [("ORCH_CONFIG", ""), ("ORCH_STATE_DIR", ""), ("ORCH_LOG_FORMAT", "")];
    let (code, out, err) = said(&orch(dir.path(), &empty, &["config", "show", "--config", "orch.yaml"]));
    assert_eq!(code, 0, "{err}");
    assert!(out.lines().any(|l| l.starts_with("state_dir ") && l.ends_with("(default)")), "{out}");
    let (_, out, _) = said(&orch(dir.path(), &[("ORCH_STATE_DIR", "./s")], &["config", "show"]));
    assert!(out.lines().any(|l| l.starts_with("state_dir ") && l.ends_with("/s  (env ORCH_STATE_DIR)")), "{out}");
    let (_, out, _) = said(&orch(dir.path(), &[], &["config", "show", "--state-dir", "t"]));
    assert!(out.lines().any(|l| l.starts_with("state_dir ") && l.ends_with("/t  (command line)")), "{out}");
}

#[test]
fn the_schema_is_one_and_needs_no_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, _) = said(&orch(dir.path(), &[], &["config", "schema"]));
    let v: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert!(v["properties"]["projects"].is_object() && v["additionalProperties"] == false);
    assert!(v.to_string().contains("5xx_threshold") && !v.to_string().contains("Raw"));
}
