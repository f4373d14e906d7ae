//! `orch demo` as a newcomer runs it: the whole story on the binary, and what is really there afterwards.

use crate::support::tools::{Bin, tool};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The minimum of a bare machine: git, a shell and its basic tools.
fn bare() -> Bin {
    let bin = Bin::new();
    for name in "sh cat chmod cp date dirname grep mkdir mktemp mv rm sed tr wc".split(' ') {
        bin.link(name, &which::which(name).unwrap());
    }
    bin
}

/// The demo with `bin` as its whole PATH, and none of the caller's settings.
fn demo(bin: &Bin, home: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(crate::support::ORCH);
    command.env_clear().env("PATH", bin.dir.path()).env("HOME", home);
    // A person's own settings must not reach the demo's steps.
    command.env("ORCH_STATE_DIR", home.join("elsewhere")).env("ORCH_SECURITY_SCAN_TIMEOUT_S", "1");
    command.env("TMPDIR", home).arg("demo").args(args).output().unwrap()
}

fn said(out: &Output) -> (i32, String, String) {
    let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
    (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
}

fn git(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("git").current_dir(dir).args(args).output().unwrap();
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Command lines that name the folder: leftovers of the demo.
fn still_running(dir: &Path) -> Vec<String> {
    let name = dir.to_string_lossy().into_owned();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|e| std::fs::read(e.path().join("cmdline")).ok());
    lines.map(|l| String::from_utf8_lossy(&l).replace('\0', " ")).filter(|l| l.contains(&name)).collect()
}

#[test]
fn the_story_is_shown_and_true() {
    let Some(gitleaks) = tool("gitleaks") else { return };
    let bin = bare();
    bin.link("gitleaks", &gitleaks);
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().canonicalize().unwrap().join("tea shop");
    let (code, out, err) = said(&demo(&bin, home.path(), &["--dir", dir.to_str().unwrap()]));
    assert_eq!(code, 0, "{out}\n{err}");
    for part in [
        "TEA-2  ↩  sent back by a failing test, try 2: tests/list.sh: expected \"2\", got \"1\"",
        "sent back by the review, try 3: The README does not mention: list.",
        "TEA-3  ·  waits: blocked by TEA-1, which is not done",
        "TEA-4  ↩  sent back by the security gate, try 2: tea:3: stripe-access-token",
        "a person sets “Confirm Deploy” on the board",
        "orch advance TEA-4 --confirm-deploy",
        "its label autoDeploy answers",
        "watched after the deploy: healthy",
        "✓ nothing is left running",
        "TEA-4 Order more tea\nDone\n",
        "Look around:",
    ] {
        assert!(out.contains(part), "{part}\n{out}\n{err}");
    }
    assert!(!out.contains('✗') && !out.contains('\u{1b}') && !out.contains("sk_live_"), "{out}");
    // The commands that it suggests work as typed.
    let ways = out.split("Look around:\n").nth(1).unwrap().replace("less ", "cat ");
    let mut typed = Command::new("sh");
    typed.args(["-ec", &ways]).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    let shown = typed.env("HOME", home.path()).output().unwrap();
    assert!(shown.status.success(), "{ways}\n{}", String::from_utf8_lossy(&shown.stderr));
    // Verified by the test itself.
    let subjects = git(&dir, &["--git-dir", "remote.git", "log", "--format=%s", "main"]);
    assert_eq!(subjects.lines().count(), 5, "{subjects}");
    assert!(!git(&dir, &["--git-dir", "remote.git", "log", "-p", "main"]).contains("sk_live_"));
    assert!(git(&dir, &["--git-dir", "remote.git", "show", "main:tea"]).contains("${SHOP_KEY:?"));
    let main = git(&dir, &["--git-dir", "remote.git", "rev-parse", "main"]);
    assert_eq!(std::fs::read_to_string(dir.join("production/version")).unwrap(), main);
    assert_eq!(still_running(&dir), Vec::<String>::new());
    assert!(!home.path().join("elsewhere").exists(), "the caller's state directory was used");
}

#[test]
fn without_the_scanner_its_scene_is_left_out_and_the_rest_is_played() {
    let (bin, home) = (bare(), tempfile::tempdir().unwrap());
    let out = demo(&bin, home.path(), &["--json"]);
    let (code, out, err) = said(&out);
    let v: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}\n{err}"));
    assert_eq!((code, v["ok"].as_bool()), (0, Some(true)), "{v:#}\n{err}");
    assert_eq!(v["left_out"], serde_json::json!(["TEA-4"]));
    assert_eq!(v["tasks"].as_array().unwrap().len(), 3);
    let dir = PathBuf::from(v["dir"].as_str().unwrap());
    assert!(dir.starts_with(home.path().canonicalize().unwrap()), "{dir:?}");
    let config = std::fs::read_to_string(dir.join("orch.yaml")).unwrap();
    assert!(config.contains("gate_enabled: false"), "{config}");
    assert_eq!(still_running(&dir), Vec::<String>::new());
}

#[test]
fn a_folder_that_holds_something_is_refused_and_left_alone() {
    let (bin, home) = (bare(), tempfile::tempdir().unwrap());
    let dir = home.path().join("mine");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("thesis.txt"), "years of work").unwrap();
    let (code, out, err) = said(&demo(&bin, home.path(), &["--dir", dir.to_str().unwrap()]));
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("mine is not empty") && err.contains("--dir"), "{err}");
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
}

#[test]
fn the_next_demo_clears_only_what_a_demo_left_unkept() {
    let (bin, home) = (bare(), tempfile::tempdir().unwrap());
    // A player that is gone: no process has this pid with these ticks in another boot.
    let player = serde_json::json!({"boot_id": "another", "pid": 1, "start_ticks": 1});
    for (name, mark) in [
        ("orch-demo-old", Some(serde_json::json!({"player": player, "keep": false}))),
        ("orch-demo-kept", Some(serde_json::json!({"player": player, "keep": true}))),
        ("orch-demo-foreign", None),
    ] {
        std::fs::create_dir(home.path().join(name)).unwrap();
        if let Some(mark) = mark {
            std::fs::write(home.path().join(name).join(".orch-demo.json"), mark.to_string()).unwrap();
        }
    }
    // Without git nothing is played, and nothing is deleted either.
    let mut command = Command::new(crate::support::ORCH);
    command.env_clear().env("PATH", home.path()).env("TMPDIR", home.path()).arg("demo");
    let (code, _, err) = said(&command.output().unwrap());
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("git"), "{err}");
    assert!(home.path().join("orch-demo-old").exists());
    // This git fails at everything but its version: a demo still deletes the leftovers first.
    bin.script("git", "case $* in *version*) echo git version 2.47.3;; *) exit 1;; esac");
    let (code, _, err) = said(&demo(&bin, home.path(), &[]));
    assert_eq!(code, 3, "{err}");
    let there = |name: &str| home.path().join(name).exists();
    assert_eq!((there("orch-demo-old"), there("orch-demo-kept"), there("orch-demo-foreign")), (false, true, true));
}
