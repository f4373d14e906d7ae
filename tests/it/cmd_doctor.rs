//! `orch doctor` on the binary: what it reports of a healthy setup, of broken ones, and what its bundle leaves out.

use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn orch(dir: &Path, env: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = Command::new(crate::support::ORCH);
    command.current_dir(dir).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", dir).env("ORCH_CONFIG", "orch.yaml").envs(env.iter().copied()).args(args).output().unwrap()
}

/// A folder with a bare repository, an agent, and this configuration.
fn place(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(dir.path()).args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(args);
        let done = git.output().unwrap();
        assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    git(&["init", "-q", "--bare", "-b", "main", "remote.git"]);
    git(&["clone", "-q", "remote.git", "person"]);
    git(&["-C", "person", "commit", "-q", "--allow-empty", "-m", "first"]);
    git(&["-C", "person", "push", "-q", "origin", "HEAD:refs/heads/main"]);
    std::fs::write(dir.path().join("agent.sh"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(dir.path().join("agent.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(dir.path().join("orch.yaml"), config).unwrap();
    dir
}

const SOUND: &str = "state_dir: ./state
executor: detach
confine: {mode: off}
min_free_mb: 1
projects: [{key: ORCH, git: {remote: ./remote.git}, ci: {command: ['true']}}]
security: {gate_enabled: false}
agents: {runtime: scripted}
runtimes: {scripted: {kind: command, command: ['./agent.sh']}}
";

/// The document of `orch doctor --json`, and the exit code.
fn examined(dir: &Path, env: &[(&str, &str)]) -> (i32, Vec<Value>) {
    let out = orch(dir, env, &["doctor", "--json"]);
    let v: Value =
        serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out.stderr)));
    let code = out.status.code().unwrap();
    assert_eq!(v["ok"].as_bool().unwrap(), code == 0, "{v:#}");
    // The fields that DSK-4 and CLI-4 require.
    for check in v["checks"].as_array().unwrap() {
        let fields: Vec<&str> = check.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields.len(), 5, "{check}");
        assert!(["area", "name", "level", "message", "fix"].iter().all(|f| fields.contains(f)), "{check}");
        assert!(["ok", "warning", "failed"].contains(&check["level"].as_str().unwrap()), "{check}");
    }
    (code, v["checks"].as_array().unwrap().clone())
}

/// The one answer of this level that contains this text; each that is not ok says how to fix it.
fn said<'v>(checks: &'v [Value], level: &str, part: &str) -> &'v Value {
    let fits = |c: &&Value| c["level"] == level && c["message"].as_str().unwrap().contains(part);
    let found = checks.iter().find(fits).unwrap_or_else(|| panic!("no {level} says {part:?}: {checks:#?}"));
    assert!(level == "ok" || !found["fix"].as_str().unwrap().is_empty(), "{found}");
    found
}

#[test]
fn a_valid_folder_is_ok_and_stays_unchanged() {
    let dir = place(SOUND);
    let (code, checks) = examined(dir.path(), &[]);
    assert_eq!(code, 0, "{checks:#?}");
    for part in ["default main", "work items in ", "MB free", "agent.sh", "compare-and-swap"] {
        said(&checks, "ok", part);
    }
    assert!(!dir.path().join("state").exists(), "the doctor made the state directory");
    let out = orch(dir.path(), &[], &["doctor"]);
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("ORCH\n  ok      remote") && text.contains("0 failed"), "{text}");
}

#[test]
fn what_is_broken_is_named_with_its_way_out() {
    let dir = place(
        &SOUND
            .replace("gate_enabled: false", "gate_enabled: true, gate_repos: '*'")
            .replace("./remote.git", "./gone.git")
            .replace("./agent.sh", "./nobody.sh"),
    );
    let env = [("ORCH_SECURTY_GATE", "x"), ("ORCH_MIN_FREE_MB", "999999999")];
    let config = format!(
        "{}tools: {{gitleaks: ./no-gitleaks}}\n",
        std::fs::read_to_string(dir.path().join("orch.yaml")).unwrap()
    );
    std::fs::write(dir.path().join("orch.yaml"), config).unwrap();
    let (code, checks) = examined(dir.path(), &env);
    assert_eq!(code, 3);
    for part in ["no-gitleaks", "gone.git", "nobody.sh", "min_free_mb requires 999999999"] {
        said(&checks, "failed", part);
    }
    said(&checks, "warning", "ORCH_SECURTY_GATE");
}

#[test]
fn a_secret_that_others_can_read_draws_a_warning_and_a_missing_one_fails() {
    let token = "not-a-real-token-of-a-test";
    let config = format!(
        "{SOUND}notify: {{webhook: {{url: 'http://127.0.0.1:9/', token: {{file: ./token}}}}, telegram: {{token: {{env: NOT_SET}}, chat_id: '1'}}}}\n"
    );
    let dir = place(&config);
    std::fs::write(dir.path().join("token"), token).unwrap();
    std::fs::set_permissions(dir.path().join("token"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, checks) = examined(dir.path(), &[]);
    assert_eq!(code, 3);
    assert!(said(&checks, "warning", "can be read by others")["fix"].as_str().unwrap().starts_with("chmod 600"));
    said(&checks, "failed", "NOT_SET");
    assert!(!format!("{checks:?}").contains(token));
}

#[test]
fn the_bundle_holds_the_settings_and_no_secret() {
    let token = "not-a-real-token-of-a-test";
    let dir = place(&SOUND.replace("command: ['./agent.sh']}", "command: ['./agent.sh'], env: {KEY: {env: KEY}}}"));
    let out = orch(dir.path(), &[("KEY", token), ("ORCH_AGENT_MODEL", token)], &["doctor", "--bundle", "b.txt"]);
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stdout));
    let text = std::fs::read_to_string(dir.path().join("b.txt")).unwrap();
    for part in [
        "support bundle",
        "== doctor",
        "serial_gate.enabled = true",
        "agents.model = \"[secret: runtimes.scripted.env.KEY]\"",
        "no database yet",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains(token), "{text}");
    let mode = std::fs::metadata(dir.path().join("b.txt")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = orch(dir.path(), &[], &["doctor", "--bundle", "b.txt"]);
    assert_eq!(again.status.code(), Some(2), "a file that stood there was written over");
}
