//! Output that can't be written is a failure for every subcommand (CLI-1); a reader that left is not.

use crate::support::git::raw;
use crate::support::seeded::{ONE, Seeded, task};
use clap::CommandFactory;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::process::{Command, Output, Stdio};

/// One call of each subcommand.
fn calls() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        ("tick", vec![]),
        ("reap", vec![]),
        ("reconcile", vec![]),
        ("advance", vec![]),
        ("stop", vec!["ORCH-2"]),
        ("new", vec!["A work item", "--draft"]),
        ("status", vec![]),
        ("explain", vec!["ORCH-1"]),
        ("logs", vec!["ORCH-1"]),
        ("timeline", vec!["ORCH-1"]),
        ("show", vec!["ORCH-1"]),
        ("diff", vec!["ORCH-1"]),
        ("gate replay", vec!["ORCH-1"]),
        ("report", vec![]),
        ("metrics", vec![]),
        ("page", vec!["--output", "site"]),
        ("prune", vec![]),
        ("cache drop", vec!["demo"]),
        ("shell", vec!["ORCH-1", "--", "true"]),
        ("retry", vec!["ORCH-1"]),
        ("halt", vec![]),
        ("resume", vec![]),
        ("freeze", vec!["demo", "--reason", "x"]),
        ("unfreeze", vec!["demo"]),
        ("lease show", vec![]),
        ("lease break", vec!["demo", "--why", "x"]),
        ("audit verify", vec![]),
        ("backup", vec!["copy.db"]),
        ("security-scan", vec!["--dry-run", "--range", "HEAD..HEAD"]),
        ("staging-check", vec!["--checks", "checks.yaml"]),
        ("post-deploy-probe", vec!["--url", "http://127.0.0.1:1/", "--count", "1", "--interval", "0.1"]),
        ("config show", vec![]),
        ("config check", vec![]),
        ("config schema", vec![]),
        ("completions", vec!["bash"]),
        ("man", vec!["man1"]),
        ("init", vec![]),
        ("project list", vec![]),
        ("project add", vec!["."]),
        ("project remove", vec!["ORCH"]),
        ("config trust", vec!["orch.yaml"]),
        ("config adopt", vec![]),
        ("doctor", vec![]),
    ]
}

/// `demo` takes half a minute, and uses the same printer.
const NOT_TRIED: [&str; 1] = ["demo"];
/// Those with nothing to show in this small world: a task without a run, a gate or a block, no remote, live tasks.
const NOTHING_TO_SHOW: [&str; 8] =
    ["logs", "show", "diff", "shell", "gate replay", "doctor", "reconcile", "project remove"];

struct Full {
    world: Seeded,
}

impl Full {
    fn new() -> Self {
        let world = Seeded::new(ONE);
        world.write(|tx| {
            drop(task(tx, "ORCH-1", "one", 1));
            drop(task(tx, "ORCH-2", "two", 1));
        });
        raw(world.path(), &["init", "-q", "-b", "main", "."]);
        raw(world.path(), &["remote", "add", "origin", "./remote.git"]);
        raw(world.path(), &["commit", "-q", "--allow-empty", "-m", "x"]);
        let checks = "staging:\n  checks: [{id: S1, kind: command, command: [\"true\"]}]\n";
        std::fs::write(world.path().join("checks.yaml"), checks).unwrap();
        Self { world }
    }

    fn run(&self, args: &[&str], stdout: Stdio) -> Output {
        let _ = std::fs::remove_file(self.world.path().join("copy.db"));
        let mut command = Command::new(crate::support::ORCH);
        command.current_dir(self.world.path()).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", self.world.path()).env("ORCH_CONFIG", "orch.yaml").args(args).stdin(Stdio::null());
        command.stdout(stdout).stderr(Stdio::piped()).output().unwrap()
    }
}

fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

fn leaves(command: &clap::Command, path: &str, all: &mut BTreeSet<String>) {
    let inner: Vec<&clap::Command> =
        command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help").collect();
    if inner.is_empty() {
        all.insert(path.trim().to_owned());
    }
    for sub in inner {
        leaves(sub, &format!("{path} {}", sub.get_name()), all);
    }
}

#[test]
fn every_subcommand_is_tried() {
    let mut all = BTreeSet::new();
    leaves(&orch::cli::Cli::command(), "", &mut all);
    let tried: BTreeSet<String> = calls().iter().map(|(n, _)| *n).chain(NOT_TRIED).map(str::to_owned).collect();
    assert_eq!(all, tried);
}

/// found D5: `> /dev/full` was exit 0 and silent in sixteen of them.
#[test]
fn a_result_that_can_not_be_written_is_exit_3_for_every_subcommand() {
    let it = Full::new();
    for (name, args) in calls() {
        for json in [false, true] {
            let mut all: Vec<&str> = name.split(' ').collect();
            all.extend(&args);
            all.extend(json.then_some("--json"));
            let open = it.run(&all, Stdio::piped());
            let code = open.status.code().unwrap();
            let said = String::from_utf8_lossy(&open.stderr).into_owned();
            assert!(code < 2 || NOTHING_TO_SHOW.contains(&name), "{all:?} ended with {code}: {said}");
            let out = it.run(&all, full());
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            if open.stdout.is_empty() {
                assert_eq!(out.status.code(), Some(code), "{all:?}: {said}");
                assert!(NOTHING_TO_SHOW.contains(&name), "{all:?} prints nothing");
                continue;
            }
            // What was refused did nothing, which is still so.
            let wanted = if [2, 4].contains(&code) { code } else { 3 };
            assert_eq!(out.status.code(), Some(wanted), "{all:?}: {said}");
            assert!(said.contains("can't be written to stdout: No space left on device"), "{all:?}: {said}");
        }
    }
    for all in [vec!["--help"], vec!["--version"], vec!["help", "tick"], vec!["tick", "--help"]] {
        let out = it.run(&all, full());
        assert_eq!(out.status.code(), Some(3), "{all:?}");
        assert!(!out.stderr.is_empty(), "{all:?}");
    }
    // A command that did nothing still reports that.
    assert_eq!(it.run(&["stop", "NONE-1", "--json"], full()).status.code(), Some(2));
}

#[test]
fn a_reader_that_went_away_is_no_failure_for_any_subcommand() {
    let it = Full::new();
    for (name, args) in calls() {
        let mut all: Vec<&str> = name.split(' ').collect();
        all.extend(&args);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let out = it.run(&all, writer.into());
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!said.contains("written to stdout"), "{all:?}: {said}");
        // Other problems here (no remote, no service) have nothing to do with the pipe.
        let open = it.run(&all, Stdio::null()).status.code();
        assert_eq!(out.status.code(), open, "{all:?}: {said}");
    }
}

#[test]
fn an_output_file_that_can_not_be_written_is_exit_3_and_a_pipe_is_written_through() {
    let it = Full::new();
    for all in [
        vec!["metrics", "--output", "/dev/full"],
        vec!["report", "--html", "/dev/full"],
        vec!["staging-check", "--checks", "checks.yaml", "--junit", "/dev/full"],
        vec!["staging-check", "--checks", "checks.yaml", "--report", "/dev/full"],
        vec!["metrics", "--output", "absent/x.prom"],
        vec!["man", "/dev/null/x"],
    ] {
        let out = it.run(&all, Stdio::null());
        assert_eq!(out.status.code(), Some(3), "{all:?}: {}", String::from_utf8_lossy(&out.stderr));
        assert!(!out.stderr.is_empty(), "{all:?}");
    }
    let (fifo, link) = (it.world.path().join("fifo"), it.world.path().join("link.prom"));
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::from(0o600), 0).unwrap();
    std::os::unix::fs::symlink("fifo", &link).unwrap();
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || std::fs::read_to_string(fifo).unwrap()
    });
    assert_eq!(it.run(&["metrics", "--output", "link.prom"], Stdio::null()).status.code(), Some(0));
    assert!(reader.join().unwrap().contains("orch_tasks"));
    assert!(link.is_symlink() && !fifo.is_file());
}
