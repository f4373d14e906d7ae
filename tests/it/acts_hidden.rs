//! A running `orch` can't be read by another process of its account (BND-4).

use crate::support::pipe::{Pipe, Setup};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The command as an ordinary account, since root may read everything.
fn ordinary(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", program]);
        command
    } else {
        Command::new(program)
    }
}

/// Whether a process of the same account can read this one's environment.
fn readable(pid: u32) -> bool {
    let mut cat = ordinary("cat");
    cat.arg(format!("/proc/{pid}/environ")).stdout(Stdio::piped()).stderr(Stdio::null());
    let out = cat.output().unwrap();
    String::from_utf8_lossy(&out.stdout).contains("PLANTED=value-to-steal")
}

/// Starts it with its standard input open, so that it waits, and returns once it runs the program itself.
fn waiting(mut command: Command, name: &str) -> Child {
    let child = command.env("PLANTED", "value-to-steal").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let comm = || std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap_or_default();
    while comm().trim() != name {
        assert!(begun.elapsed() < Duration::from_secs(20), "{name} never ran: {}", comm());
        std::thread::yield_now();
    }
    child
}

#[test]
fn bnd_4_no_process_of_the_same_account_reads_a_running_orch() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("orch");
    std::fs::copy(crate::support::confined::Place::program(), &program).unwrap();

    // A program that does not hide can be read: otherwise this test would show nothing.
    let mut open = waiting(ordinary("cat"), "cat");
    assert!(readable(open.id()), "another program of the account is readable");
    open.kill().unwrap();
    open.wait().unwrap();

    let mut command = ordinary(&program.display().to_string());
    // It waits for a writer of its configuration.
    let fifo = dir.path().join("orch.yaml");
    assert!(Command::new("mkfifo").args(["-m", "666"]).arg(&fifo).status().unwrap().success());
    command.args(["config", "check", "--config"]).arg(&fifo).current_dir(Path::new("/"));
    let mut hidden = waiting(command, "orch");
    let begun = Instant::now();
    // Between its exec and its first act it is like any other program.
    while readable(hidden.id()) {
        assert!(begun.elapsed() < Duration::from_secs(20), "orch stays readable");
    }
    assert!(hidden.try_wait().unwrap().is_none(), "it still runs, and is not readable");
    crate::support::attacks::seen(
        "credentials",
        "read environment or memory of a running orch",
        crate::support::attacks::Held::Off,
        false,
    );
    hidden.kill().unwrap();
    hidden.wait().unwrap();
}

/// Files and folders below `root` that group or others could use, except the contents of a closed checkout, which a
/// deploy publishes from.
fn open_ones(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        if path.ends_with("checkout") {
            continue;
        }
        let meta = path.symlink_metadata().unwrap();
        if !meta.is_symlink() && meta.permissions().mode() & 0o077 != 0 {
            found.push(format!("{} {:o}", path.display(), meta.permissions().mode() & 0o7777));
        }
        if meta.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
    }
    found
}

#[test]
fn bnd_6_found_d3_the_state_is_the_accounts_alone_and_what_children_write_is_not_whatever_the_umask() {
    for mask in ["000", "077"] {
        let mut pipe = Pipe::new(Setup::default());
        let program = crate::support::confined::Place::program().display().to_string();
        pipe.script("orch-here", &format!("#!/bin/sh\numask {mask}\nexec {program} \"$@\"\n"));
        pipe.program = Some(pipe.at("orch-here"));
        let key = pipe.item("Publish it");
        pipe.until_stage(&key, "done");
        assert_eq!(open_ones(&pipe.at("state")), Vec::<String>::new(), "umask {mask}");
        let mode = |path: &str| std::fs::metadata(pipe.at(path)).unwrap().permissions().mode() & 0o7777;
        let published = ["prod/deploys", "prod/tree/app.txt", "prod/tree/deploy.sh", "prod/tree"].map(mode);
        assert_eq!(published, [0o644, 0o644, 0o755, 0o755], "umask {mask}");
        // Others may read the remote, too.
        let landed = pipe.remote(&["rev-parse", "main"]);
        let folder = format!("remote.git/objects/{}", landed.get(..2).unwrap());
        if pipe.at(&folder).exists() {
            assert_eq!(mode(&folder), 0o755, "umask {mask}");
        }
    }
}

#[test]
fn bnd_6_a_state_directory_that_was_left_open_is_closed_and_reported_once() {
    let pipe = Pipe::new(Setup::default());
    pipe.item("Wait");
    assert_eq!(pipe.orch(&["tick"]).code, 0);
    assert!(!pipe.alerts().iter().any(|a| a == "guard_changed"), "a new one was never open");
    let set = |name: &str, mode: u32| {
        std::fs::set_permissions(pipe.at(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let deep = pipe.at("state/issues").read_dir().unwrap().next().unwrap().unwrap().path();
    set("state", 0o755);
    set("state/orch.db", 0o644);
    std::fs::set_permissions(&deep, std::fs::Permissions::from_mode(0o644)).unwrap();
    for _ in 0..2 {
        assert_eq!(pipe.orch(&["tick"]).code, 0);
        assert_eq!(open_ones(&pipe.at("state")), Vec::<String>::new());
        assert_eq!(pipe.alerts().iter().filter(|a| *a == "guard_changed").count(), 1);
    }
    let recorded = pipe.events("modes_repaired");
    assert!(recorded.len() == 1 && recorded[0].contains("orch.db"), "{recorded:?}");
}
