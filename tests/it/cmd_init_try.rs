//! `orch init --try` and `orch doctor --fix` (ORD-2).

use crate::support::git::raw;
use crate::support::rows::Db;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A clone of a remote that has these files.
fn clone(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    raw(dir.path(), &["init", "-q", "--bare", "-b", "main", "shop.git"]);
    raw(dir.path(), &["clone", "-q", "shop.git", "shop"]);
    let work = dir.path().join("shop");
    raw(&work, &["symbolic-ref", "HEAD", "refs/heads/main"]);
    for (name, text) in files {
        std::fs::create_dir_all(work.join(name).parent().unwrap()).unwrap();
        std::fs::write(work.join(name), text).unwrap();
        std::fs::set_permissions(work.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    raw(&work, &["add", "-A"]);
    raw(&work, &["commit", "-q", "--allow-empty", "-m", "first"]);
    raw(&work, &["push", "-q", "origin", "main"]);
    (dir, work)
}

fn orch(home: &Path, work: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(crate::support::ORCH)
        .args(args)
        .current_dir(work)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", home)
        .env("ORCH_CONFINE_MODE", "off")
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn json(out: &Output) -> Value {
    let text = String::from_utf8_lossy(&out.stdout);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text} {}", String::from_utf8_lossy(&out.stderr)))
}

/// Without a checkout, the default branch itself says what tests it; a part is tried in its own folder.
#[test]
fn ord_2_a_url_and_a_part_are_proposed_and_tried_as_a_checkout_is() {
    let here = "#!/bin/sh\ntest -f ../web/README\n";
    let (dir, work) =
        clone(&[("ci.sh", "#!/bin/sh\ntest -d services\n"), ("services/api/ci.sh", here), ("services/web/README", "")]);
    let url = dir.path().join("shop.git").display().to_string();
    let untried = orch(dir.path(), dir.path(), &["project", "add", &url, "--no-try", "--json"], &[]);
    let printed = json(&untried);
    assert!(printed["notes"].to_string().contains("`--try` reads the default branch"), "{printed}");
    let other = tempfile::tempdir().unwrap();
    let printed = json(&orch(other.path(), dir.path(), &["project", "add", &url, "--try", "--json"], &[]));
    assert_eq!(
        (printed["tried"]["ci"].as_str(), printed["added"].as_bool()),
        (Some("passed"), Some(true)),
        "{printed}"
    );
    let file = std::fs::read_to_string(printed["file"].as_str().unwrap()).unwrap();
    assert!(file.contains("\n    ci: {command: [\"./ci.sh\"]}"), "{file}");
    let part = tempfile::tempdir().unwrap();
    let printed = json(&orch(part.path(), &work.join("services/api"), &["init", "--try", "--json"], &[]));
    assert_eq!(printed["tried"]["ci"], "passed", "{printed}");
    let file = std::fs::read_to_string(printed["file"].as_str().unwrap()).unwrap();
    assert!(file.contains("\n    paths: [\"services/api/**\"]"), "{file}");
}

#[test]
fn ord_2_what_passed_is_written_and_kept_as_the_verdict_of_its_commit() {
    let (dir, work) = clone(&[("ci.sh", "#!/bin/sh\ntest \"$ORCH_STAGE\" = base && test -z \"$ORCH_TASK\"\n")]);
    // Not pushed: the trial uses the remote.
    std::fs::write(work.join("ci.sh"), "#!/bin/sh\nexit 1\n").unwrap();
    let out = orch(dir.path(), &work, &["init", "--try", "--json"], &[]);
    let printed = json(&out);
    assert_eq!(
        (out.status.code(), &printed["tried"]),
        (Some(0), &serde_json::json!({"setup": "none", "ci": "passed"})),
        "{printed}"
    );
    assert_eq!(printed["proposed"]["ci"], serde_json::json!(["./ci.sh"]));
    let file = std::fs::read_to_string(printed["file"].as_str().unwrap()).unwrap();
    assert!(file.contains("\n    ci: {command: [\"./ci.sh\"]}"), "{file}");
    let kept = Db::of(&dir.path().join(".local/state/orch")).table("meta").like("key", "base/passed/").len();
    assert_eq!(kept, 1);
}

#[test]
fn ord_2_what_failed_is_a_comment_with_its_error_and_try_exits_1() {
    let (dir, work) = clone(&[("ci.sh", "#!/bin/sh\necho 'error: it is broken'; exit 3\n")]);
    let out = orch(dir.path(), &work, &["init", "--try", "--json"], &[]);
    let printed = json(&out);
    assert_eq!((out.status.code(), printed["tried"]["ci"].as_str()), (Some(1), Some("failed")), "{printed}");
    assert!(printed["line"].as_str().unwrap().contains("exit 3: error: it is broken"), "{printed}");
    let file = std::fs::read_to_string(printed["file"].as_str().unwrap()).unwrap();
    assert!(file.contains("\n    # ci: {command: [\"./ci.sh\"]}     # failed on"), "{file}");
}

#[test]
fn ord_3_a_project_that_is_added_is_tried_too() {
    let (dir, work) = clone(&[("ci.sh", "#!/bin/sh\necho 'error: it is broken'; exit 3\n")]);
    let out = orch(dir.path(), dir.path(), &["project", "add", work.to_str().unwrap(), "--try", "--json"], &[]);
    let printed = json(&out);
    assert_eq!((out.status.code(), printed["tried"]["ci"].as_str()), (Some(1), Some("failed")), "{printed}");
    let file = std::fs::read_to_string(printed["file"].as_str().unwrap()).unwrap();
    assert!(file.contains("\n    # ci: {command: [\"./ci.sh\"]}     # failed on"), "{file}");
}

#[test]
fn trust_3_a_state_directory_that_is_unreadable_is_not_an_empty_one() {
    let (dir, work) = clone(&[]);
    std::fs::write(dir.path().join("file"), "").unwrap();
    let state = dir.path().join("file/state");
    assert!(orch(dir.path(), &work, &["init", "--no-try"], &[]).status.success());
    let out = orch(dir.path(), &work, &["status"], &[("ORCH_STATE_DIR", state.to_str().unwrap())]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!((out.status.code(), out.stdout.is_empty()), (Some(3), true), "{said}");
    assert!(said.contains(state.to_str().unwrap()), "{said}");
}

#[test]
fn ord_2_doctor_tries_the_base_quick_does_not_and_a_second_fix_does_nothing() {
    let (dir, work) = clone(&[("ci.sh", "#!/bin/sh\necho 'error: broken'; exit 3\n")]);
    let init = orch(dir.path(), &work, &["init", "--no-try", "--json"], &[]);
    let file = json(&init)["file"].as_str().unwrap().to_owned();
    let checks = |args: &[&str]| {
        let all = [&["doctor", "--json", "--config", &file], args].concat();
        json(&orch(dir.path(), &work, &all, &[]))
    };
    let base = |printed: &Value| printed["checks"].as_array().unwrap().iter().find(|c| c["name"] == "base").cloned();
    assert_eq!(base(&checks(&["--quick"])), None);
    let red = base(&checks(&[])).unwrap();
    assert!(red["level"] == "failed" && red["message"].as_str().unwrap().contains("error: broken"), "{red}");
    let state = dir.path().join(".local/state/orch");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755)).unwrap();
    let fixed = checks(&["--quick", "--fix"])["fixed"].clone();
    assert!(fixed.to_string().contains("chmod 700"), "{fixed}");
    assert_eq!(state.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let second = checks(&["--quick", "--fix"])["fixed"].clone();
    assert!(!second.to_string().contains("chmod"), "{second}");
}

#[test]
fn ord_2_fix_puts_the_pinned_scanner_into_the_tools_cache() {
    let Some(real) = crate::support::tools::tool("gitleaks") else { return };
    let (dir, work) = clone(&[("ci.sh", "#!/bin/sh\n")]);
    let cache = dir.path().join("tools");
    // The pinned build is there already: its hash is what counts, and nothing is downloaded.
    std::fs::create_dir_all(cache.join("gitleaks-8.30.1")).unwrap();
    std::fs::copy(real, cache.join("gitleaks-8.30.1/gitleaks")).unwrap();
    let env = [("ORCH_TOOLS_CACHE", cache.to_str().unwrap()), ("PATH", "/usr/bin:/bin")];
    let init = orch(dir.path(), &work, &["init", "--no-try", "--json"], &env);
    let file = json(&init)["file"].as_str().unwrap().to_owned();
    let fix = || json(&orch(dir.path(), &work, &["doctor", "--quick", "--fix", "--json", "--config", &file], &env));
    let first = fix();
    assert!(first["fixed"].to_string().contains("gitleaks"), "{}", first["fixed"]);
    assert_eq!(first["fixed"][0]["failed"], Value::Null, "{}", first["fixed"]);
    let found = first["checks"].as_array().unwrap().iter().find(|c| c["name"] == "gitleaks").unwrap().clone();
    assert!(found["level"] == "ok" && found["message"].as_str().unwrap().contains("tools/bin/gitleaks"), "{found}");
    assert_eq!(fix()["fixed"], serde_json::json!([]));
}
