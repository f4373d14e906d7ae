//! A running `orch` can't be read by another process of its account (BND-4).

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The command as an account that is not root, which may read everything.
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

/// Starts it with its standard input open, so that it waits, once it runs the program itself.
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
    std::fs::copy(env!("CARGO_BIN_EXE_orch"), &program).unwrap();

    // What is not hidden can be read: else this test would show nothing.
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
    // Between its exec and its first act it is as any other program.
    while readable(hidden.id()) {
        assert!(begun.elapsed() < Duration::from_secs(20), "orch stays readable");
    }
    assert!(hidden.try_wait().unwrap().is_none(), "it still runs, and is not readable");
    hidden.kill().unwrap();
    hidden.wait().unwrap();
}
