//! `docs/cli.md`, `docs/state-machine.md` and the help against the program itself.

use clap::CommandFactory;
use orch::cli::{Cli, docs};

/// `ORCH_BLESS=1` rewrites them.
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
    let orch = |args: &[&str]| std::process::Command::new(crate::support::ORCH).args(args).output().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let out = orch(&["completions", shell]);
        assert!(out.status.success() && String::from_utf8_lossy(&out.stdout).contains("COMPLETE"), "{shell}");
        // As a shell calls it, by its name on PATH.
        let binary = std::path::Path::new(crate::support::ORCH);
        let mut command = std::process::Command::new("orch");
        let asked = command.env("PATH", binary.parent().unwrap()).env("COMPLETE", shell).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&asked.stdout), String::from_utf8_lossy(&out.stdout), "{shell}");
    }
    let man = dir.path().join("man1");
    assert!(orch(&["man", man.to_str().unwrap()]).status.success());
    let page = std::fs::read_to_string(man.join("orch-status.1")).unwrap();
    assert!(page.contains("orch status ORCH"), "{page}");
    assert!(man.join("orch.1").exists() && man.join("orch-lease-show.1").exists());
    assert!(!man.join("orch-run-job.1").exists());
}

/// DSK-3: live completions, quickly, without a write, and silence if there is no configuration.
#[test]
fn completion_offers_live_words_and_writes_nothing() {
    use crate::support::seeded::{ONE, Seeded, task};
    let world = Seeded::new(ONE);
    world.write(|tx| {
        for n in 1..=3000 {
            task(tx, &format!("ORCH-{n}"), "brew tea", n);
        }
    });
    let asked = |dir: &std::path::Path, words: &[&str]| {
        let mut command = std::process::Command::new(crate::support::ORCH);
        command.current_dir(dir).env_clear().env("HOME", dir).env("COMPLETE", "bash").env("_CLAP_IFS", "\n");
        if dir.join("orch.yaml").exists() {
            command.env("ORCH_CONFIG", "orch.yaml");
        }
        command.env("_CLAP_COMPLETE_INDEX", words.len().saturating_sub(1).to_string()).arg("--").args(words);
        let out = command.output().unwrap();
        assert!(out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let listed = || {
        let mut names: Vec<_> =
            std::fs::read_dir(world.path().join("state")).unwrap().flatten().map(|e| e.file_name()).collect();
        names.sort();
        names
    };
    let before = listed();
    assert_eq!(asked(world.path(), &["orch", "explain", "orch-299"]).len(), 11);
    assert_eq!(asked(world.path(), &["orch", "freeze", "d"]), ["demo"]);
    assert_eq!(asked(world.path(), &["orch", "tick", "--project", "O"]), ["ORCH"]);
    assert_eq!(asked(world.path(), &["orch", "logs", "ORCH-1", "--stage", "rev"]), ["review"]);
    assert!(asked(world.path(), &["orch", "stat"]).contains(&"status".to_owned()));
    assert_eq!(listed(), before);
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(asked(empty.path(), &["orch", "explain", ""]).iter().filter(|w| !w.starts_with('-')).count(), 0);
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
}
