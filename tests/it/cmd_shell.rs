//! `orch shell` on the binary (BND-3): a person in a task's checkout, confined like its runs.

use crate::support::git::raw;
use crate::support::house::{House, Plan};
use crate::support::wait::TIMEOUT;
use orch::model::task::Waiting;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;

/// A task with a pushed head, in a house whose runs are confined by `engine`.
fn house(engine: &str) -> (House, String) {
    let house = House::new(&Plan::with_analysis().project("worktree: {setup: {command: [./setup.sh]}}"));
    std::fs::set_permissions(house.root(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let person = house.path("person");
    std::fs::write(person.join("setup.sh"), "#!/bin/sh\necho from setup; touch made-by-setup; test ! -e red\n")
        .unwrap();
    std::fs::set_permissions(person.join("setup.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    raw(&person, &["add", "-A"]);
    raw(&person, &["commit", "-q", "-m", "setup"]);
    raw(&person, &["push", "-q", "origin", "main"]);
    let key = house.item("Look inside").to_string();
    house.tick().fine();
    house.until_task_after_ticks(&key, |t| t.waiting_for == Some(Waiting::Approval));
    let text = std::fs::read_to_string(house.path("orch.yaml")).unwrap();
    std::fs::write(house.path("orch.yaml"), text.replace("{mode: off}", engine)).unwrap();
    (house, key)
}

fn command(house: &House, key: &str) -> Command {
    let mut command = Command::new(crate::support::ORCH);
    command.args(["shell", key, "--config", "orch.yaml"]).current_dir(house.root()).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", house.root()).env("SHELL", "/bin/sh");
    command
}

/// The output of lines on standard input.
fn lines(house: &House, key: &str, script: &str) -> Output {
    let mut child =
        command(house, key).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is stored, row by row.
fn rows(house: &House) -> Vec<String> {
    let of = |table: &str, columns: &[&str]| house.table(table).lines(columns);
    let mut all = of("tasks", &["id", "stage", "attempt", "updated_at", "head_sha"]);
    all.extend(of("audit", &["seq", "event"]));
    all.extend(of("jobs", &["id", "status"]));
    all
}

fn is_held_like_a_run(engine: &str, held: bool) {
    let (house, key) = house(engine);
    // The supervisor continues to deliver after its run is settled.
    house.until("all is delivered", || {
        house.tick();
        (house.table("outbox").with("state", "open").is_empty()
            && house.table("jobs").with("status", "running").is_empty())
        .then_some(())
    });
    let before = rows(&house);
    let head = house.task(&key).unwrap().head_sha.unwrap();
    let here = house.root().display();
    let script = format!(
        "test -f made-by-setup && echo SETUP; git rev-parse HEAD; git status --short; echo $ORCH_TASK:$ORCH_STAGE:$ORCH_REVISION\n\
         cat {here}/state/orch.db > /dev/null 2>&1 && echo READ; cat {here}/orch.yaml > /dev/null 2>&1 && echo READ\n\
         test -t 0 && echo TTY; ls docs/work-items/*/01-brief.md; echo said >&2; pwd; sleep 600 & exit 7\n"
    );
    let out = lines(&house, &key, &script);
    let (said, err) = (text(&out.stdout), text(&out.stderr));
    assert_eq!(out.status.code(), Some(7), "{engine}: {said}{err}");
    for part in ["SETUP", head.as_str(), &format!("{key}:analysis:{head}"), "01-brief.md", "/shell/checkout"] {
        assert!(said.contains(part), "{engine}: {part}: {said}{err}");
    }
    assert!(err.contains("from setup") && err.contains("said"), "{err}");
    assert_eq!(said.contains("READ"), !held, "{engine}: {said}");
    assert_eq!(err.contains("unconfined"), !held, "{err}");
    assert!(!said.contains("TTY") && !said.contains("from setup"), "{said}");
    assert_eq!(rows(&house), before, "the task is as it was");
    let root = house.path("state-area/demo").join(&key).join("shell");
    assert!(!root.exists(), "the checkout stayed");
    // A signal becomes an exit code as in shells. A failing setup is reported, and the shell opens.
    let text_of = std::fs::read_to_string(house.path("orch.yaml")).unwrap();
    std::fs::write(house.path("orch.yaml"), text_of.replace("[./setup.sh]", "[sh, -c, exit 3]")).unwrap();
    let out = lines(&house, &key, "kill -9 $$\n");
    assert_eq!(out.status.code(), Some(137), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("worktree.setup failed (exit 3)"), "{}", text(&out.stderr));
}

#[test]
fn bnd_3_a_shell_is_held_by_bubblewrap_like_a_run() {
    is_held_like_a_run("{engine: bubblewrap}", true);
}

#[test]
fn bnd_3_a_shell_is_held_by_landlock_like_a_run() {
    is_held_like_a_run("{engine: landlock}", true);
}

#[test]
fn bnd_3_an_unconfined_shell_reads_what_a_held_one_can_not_and_says_so() {
    is_held_like_a_run("{mode: off}", false);
}

/// Reads the other end of a terminal in its own thread.
fn listen(ours: &OwnedFd) -> mpsc::Receiver<String> {
    let (tell, requests) = mpsc::channel();
    let mut file = std::fs::File::from(ours.try_clone().unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = file.read(&mut buffer) {
            if tell.send(text(&buffer[..n])).is_err() {
                return;
            }
        }
    });
    requests
}

#[test]
fn bnd_3_a_person_has_a_terminal_of_the_shell_s_own() {
    let (house, key) = house("{engine: bubblewrap}");
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let theirs = ioctl_tiocgptpeer(&ours, flags).unwrap();
    let end = || Stdio::from(theirs.try_clone().unwrap());
    let mut child =
        command(&house, &key).env("TERM", "vt100").stdin(end()).stdout(end()).stderr(Stdio::null()).spawn().unwrap();
    let (requests, mut seen) = (listen(&ours), String::new());
    let mut until = |what: &str| {
        let end = loop {
            if let Some(at) = seen.find(what) {
                break at + what.len();
            }
            match requests.recv_timeout(TIMEOUT) {
                Ok(more) => seen.push_str(&more),
                Err(e) => panic!("{what}: {e}: {seen:?}"),
            }
        };
        // Output that arrived with it may be what the next call waits for.
        seen.drain(..end);
    };
    let mut keys = std::fs::File::from(ours.try_clone().unwrap());
    let mut types = |text: &str| keys.write_all(text.as_bytes()).unwrap();
    types("test -t 0 && test -t 1 && test -t 2 && echo on-$((40+2))-$TERM; (: > /dev/tty) && echo controls-$((1+1))\r");
    until("on-42-vt100");
    until("controls-2");
    // The person's own terminal passes keys on, the shell's turns them into signals.
    assert!(!tcgetattr(&theirs).unwrap().local_modes.contains(LocalModes::ISIG));
    types("sh -c 'echo up-$((1+1)); exec sleep 600'\r");
    until("up-2");
    types("\x03");
    types("exit 6\r");
    assert_eq!(child.wait().unwrap().code(), Some(6));
    assert!(tcgetattr(&theirs).unwrap().local_modes.contains(LocalModes::ISIG), "the terminal is as it was");
}

#[test]
fn bnd_6_a_shell_is_one_at_a_time_and_none_from_inside_a_run() {
    let (house, key) = house("{engine: bubblewrap}");
    let mut open = command(&house, &key).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut keys = open.stdin.take().unwrap();
    keys.write_all(b"echo open\n").unwrap();
    let mut said = [0; 5];
    open.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    let second = lines(&house, &key, "true\n");
    assert_eq!(second.status.code(), Some(4), "{}", text(&second.stderr));
    assert!(text(&second.stderr).contains("already open"), "{}", text(&second.stderr));
    // A signal ends it, and nothing stays.
    let pid = rustix::process::Pid::from_child(&open);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    open.wait().unwrap();
    drop(keys);
    assert!(!house.path("state-area/demo").join(&key).join("shell").exists());
    let installation = orch::engine::paths::Paths::new(&house.path("state")).installation();
    for mark in [format!("{installation}-shell-1"), format!("{installation}-base-1")] {
        for args in [["shell", &key], ["retry", &key]] {
            let mut inside = Command::new(crate::support::ORCH);
            inside.args(args).args(["--config", "orch.yaml"]).current_dir(house.root()).stdin(Stdio::null());
            let out = inside.env("ORCH_RUN", &mark).output().unwrap();
            assert_eq!(out.status.code(), Some(4), "{mark} {args:?}: {}", text(&out.stderr));
            assert!(text(&out.stderr).contains("called from inside a"), "{}", text(&out.stderr));
        }
    }
    let none = lines(&house, "ORCH-99", "true\n");
    assert_eq!(none.status.code(), Some(2));
    let json = command(&house, &key).arg("--json").output().unwrap();
    assert_eq!(json.status.code(), Some(2));
}

#[test]
fn bnd_2_without_an_engine_no_shell_opens() {
    let (house, key) = house("{engine: command, command: [/nonexistent/wrapper]}");
    let out = lines(&house, &key, "true\n");
    assert_eq!(out.status.code(), Some(3), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("wrapper"), "{}", text(&out.stderr));
}

/// A company's proxy that answers every CONNECT itself; its requests come out of the channel.
fn company() -> (u16, mpsc::Receiver<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let refused = text(&head).contains("closed.example.invalid");
            let _ = tell.send(text(&head));
            let answer = if refused { "HTTP/1.1 403 not today\r\n\r\n" } else { "HTTP/1.1 200 ok\r\n\r\nearly " };
            let _ = client.write_all(answer.as_bytes());
            let mut rest = String::new();
            let _ = client.read_to_string(&mut rest);
            let _ = client.write_all(rest.as_bytes());
        }
    });
    (port, requests)
}

#[test]
fn bnd_2_behind_a_company_s_proxy_hosts_are_reached_through_it() {
    let names = ["api.example.invalid", "closed.example.invalid"];
    let (house, key) =
        house(&format!("{{engine: bubblewrap, network: hosts, hosts: [{}:443, {}:443]}}", names[0], names[1]));
    let (port, requests) = company();
    let connect = |host: &str| {
        format!(
            "perl -e 'use IO::Socket::INET; $s=IO::Socket::INET->new(\"127.0.0.1:3128\"); \
             print $s \"CONNECT {host}:443 HTTP/1.1\\r\\n\\r\\nhello\\n\"; $s->shutdown(1); local $/; print <$s>'\n"
        )
    };
    let script = format!("{}{}{}env | grep -i proxy\n", connect(names[0]), connect(names[1]), connect("other.invalid"));
    let mut child = command(&house, &key)
        .env("https_proxy", format!("http://u:hidden@127.0.0.1:{port}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let (said, err) = (text(&out.stdout), text(&out.stderr));
    assert!(said.contains("early hello"), "{said}{err}");
    assert!(said.contains("answers HTTP/1.1 403 not today"), "{said}{err}");
    assert!(said.contains("not in confine.hosts"), "{said}{err}");
    assert!(said.contains("https_proxy=http://127.0.0.1:3128") && !said.contains("hidden"), "{said}");
    let asked: Vec<String> = requests.try_iter().collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    for (asked, name) in asked.iter().zip(names) {
        assert!(asked.starts_with(&format!("CONNECT {name}:443 HTTP/1.1\r\n")), "{asked}");
        assert!(asked.contains("Proxy-Authorization: Basic dTpoaWRkZW4=\r\n"), "{asked}");
    }
}

#[test]
fn bnd_3_doctor_asks_inside_for_what_commands_begin_with() {
    let (house, _) = house("{engine: bubblewrap}");
    let elsewhere = tempfile::tempdir().unwrap();
    let program = elsewhere.path().join("only-outside");
    std::fs::write(&program, "#!/bin/sh\necho 1\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", elsewhere.path().display(), std::env::var("PATH").unwrap());
    let text_of = std::fs::read_to_string(house.path("orch.yaml")).unwrap();
    for (command, level) in [("git", "ok"), ("only-outside", "not")] {
        let with = format!("    repo: demo\n    ci: {{command: [{command}, x]}}\n");
        std::fs::write(house.path("orch.yaml"), text_of.replace("    repo: demo\n", &with)).unwrap();
        let mut doctor = Command::new(crate::support::ORCH);
        doctor.args(["doctor", "--json", "--config", "orch.yaml"]).current_dir(house.root()).env_clear();
        let out = doctor.env("PATH", &path).env("HOME", house.root()).output().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let checks = said["checks"].as_array().unwrap();
        let of = |name: &str| checks.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("{name}: {said}"));
        let runs = of(&format!("runs {command}"));
        assert_eq!(runs["level"] == "ok", level == "ok", "{runs}");
        assert!(runs.to_string().contains("inside bubblewrap"), "{runs}");
        assert!(of("limits").to_string().contains("checked once a second"), "{said}");
        assert!(of("area_dir").to_string().contains("share a file system"), "{said}");
    }
    let left: Vec<_> = std::fs::read_dir(house.path("state-area"))
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(".doctor"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
