//! `docs/cli.md`, `docs/state-machine.md` and the help against the program itself.

use clap::CommandFactory;
use orch::cli::{Cli, docs};

/// Written anew with `ORCH_BLESS=1`.
#[test]
fn the_generated_pages_are_as_generated_now() {
    for (file, text) in [("docs/cli.md", docs::cli()), ("docs/state-machine.md", docs::state_machine())] {
        let path = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("ORCH_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == text, "{file} is stale: run this test with ORCH_BLESS=1");
    }
}

fn walk(command: &clap::Command, path: &str, each: &mut impl FnMut(&str, &clap::Command)) {
    for sub in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        let path = format!("{path} {}", sub.get_name());
        each(&path, sub);
        walk(sub, &path, each);
    }
}

#[test]
fn every_subcommand_has_an_example_and_says_what_it_does() {
    let mut root = Cli::command();
    root.build();
    let mut seen = 0;
    walk(&root, "orch", &mut |path, command| {
        seen += 1;
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(after.starts_with("Example"), "{path} --help has no example");
        assert!(after.contains("\n  orch "), "{path}: its example is not a call of orch: {after}");
        assert!(command.get_about().is_some(), "{path} has no help");
    });
    assert!(seen > 20, "{seen}");
}

#[test]
fn completions_and_manual_pages_come_from_the_same_definition() {
    let dir = tempfile::tempdir().unwrap();
    let orch = |args: &[&str]| std::process::Command::new(env!("CARGO_BIN_EXE_orch")).args(args).output().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let out = orch(&["completions", shell]);
        assert!(out.status.success() && String::from_utf8_lossy(&out.stdout).contains("post-deploy-probe"), "{shell}");
    }
    let man = dir.path().join("man1");
    assert!(orch(&["man", man.to_str().unwrap()]).status.success());
    let page = std::fs::read_to_string(man.join("orch-status.1")).unwrap();
    assert!(page.contains("orch status ORCH"), "{page}");
    assert!(man.join("orch.1").exists() && man.join("orch-lease-show.1").exists());
    assert!(!man.join("orch-run-job.1").exists());
}
