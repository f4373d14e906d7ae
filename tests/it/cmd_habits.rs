//! What all commands have in common (CLI-1, CLI-5): the output on a failure, signals, closed pipes, letter case.

use crate::support::seeded::{ONE, Seeded, change, read_until, task};
use orch::adapters::store::{NewOutbox, Sink};
use orch::model::stage::Stage;
use serde_json::{Value, json};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

const STEP: [&str; 6] = ["step", "changed", "actions", "skipped", "errors", "duration_ms"];

#[test]
fn a_step_that_fails_early_prints_its_whole_object() {
    let world = Seeded::new("nonsense: true\n");
    for (args, step) in [
        (vec!["tick"], "tick"),
        (vec!["reap"], "reap"),
        (vec!["reconcile"], "reconcile"),
        (vec!["advance", "ORCH-1"], "advance"),
        (vec!["stop", "ORCH-1"], "stop"),
        (vec!["tick", "--bogus"], "tick"),
        (vec!["stop"], "stop"),
        (vec!["staging-check", "--checks", "absent.yaml"], "staging-check"),
        (vec!["post-deploy-probe", "nonsense"], "post-deploy-probe"),
    ] {
        let (code, printed) = world.json(&args);
        assert_eq!((code, printed["step"].as_str()), (2, Some(step)), "{args:?}: {printed}");
        for field in STEP {
            assert!(printed.get(field).is_some(), "{args:?} lacks {field}: {printed}");
        }
        let line = &printed["errors"][0];
        let names: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(names, ["code", "message", "hint", "task"]);
        assert_eq!(line["code"], 2, "{printed}");
    }
    let (code, printed) = world.json(&["status"]);
    assert_eq!((code, printed.as_object().unwrap().len()), (2, 1), "{printed}");
    // A word that only resembles a step is not one.
    let (_, printed) = world.json(&["new", "stop"]);
    assert!(printed.get("step").is_none(), "{printed}");
}

#[test]
fn a_task_is_accepted_in_any_letter_case_and_a_failure_names_it() {
    let world = Seeded::new(ONE);
    world.write(|tx| drop(task(tx, "ORCH-17", "one", 1)));
    assert_eq!(world.orch(&["status", "orch-17"]).0, 0);
    let (code, printed) = world.json(&["stop", "orch-18"]);
    assert_eq!((code, printed["errors"][0]["task"].as_str()), (2, Some("ORCH-18")));
    assert!(printed["errors"][0]["hint"].as_str().unwrap().contains("ORCH-17"), "{printed}");
    let (code, printed) = world.json(&["advance", "ORCH-17", "--approve"]);
    assert_eq!((code, printed["errors"][0]["code"].as_i64(), printed["step"].as_str()), (4, Some(4), Some("advance")));
}

#[test]
fn a_closed_stdout_is_no_error() {
    let world = Seeded::new(ONE);
    world.write(|tx| {
        for n in 1..=400 {
            task(tx, &format!("ORCH-{n}"), &"long title ".repeat(20), n);
        }
    });
    for args in [vec!["status"], vec!["status", "--json"], vec!["--help"], vec!["timeline", "ORCH-1"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(crate::support::ORCH);
        let out = command
            .current_dir(world.path())
            .env("ORCH_CONFIG", "orch.yaml")
            .args(&args)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!((out.status.code(), out.stderr.len()), (Some(0), 0), "{args:?}");
    }
}

/// CLI-5: what takes over a second is shown on a terminal until the first output, and elsewhere not at all.
#[test]
fn long_work_is_shown_on_a_terminal_until_it_prints() {
    let world = Seeded::new(ONE);
    let site = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", site.local_addr().unwrap());
    let args = ["post-deploy-probe", "--url", &url, "--count", "1", "--interval", "0"];
    let answer = |mut asked: TcpStream| {
        read_until(&mut asked, "\r\n\r\n");
        asked.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    };
    let mut child = world.terminal(&format!("exec {} {}", crate::support::ORCH, args.join(" ")));
    let mut out = child.stdout.take().unwrap();
    let (asked, _) = site.accept().unwrap();
    let seen = read_until(&mut out, "probing");
    assert!(!seen.contains("ms"), "before anything was printed: {seen}");
    answer(asked);
    let rest = std::io::read_to_string(out).unwrap();
    let (line, printed) = rest.split_once("  1  ").unwrap();
    assert!(line.contains("\x1b[2K"), "the line is cleared before the first output: {rest:?}");
    assert!(printed.contains("VERDICT HEALTHY") && !printed.contains("probing"), "{rest:?}");
    assert!(child.wait().unwrap().success());
    let (code, out, err) = std::thread::scope(|s| {
        s.spawn(|| answer(site.accept().unwrap().0));
        world.orch(&args)
    });
    assert!(code == 0 && out.contains("VERDICT HEALTHY") && err.is_empty(), "{out} {err}");
}

#[test]
fn a_signal_ends_a_step_between_two_actions() {
    let notify = "notify: {command: {command: [./say.sh]}}\n";
    let world = Seeded::new(&ONE.replace("projects:", &format!("{notify}projects:")));
    let say = world.path().join("say.sh");
    let text = "#!/bin/sh\ncat > /dev/null\necho x >> HERE/said\necho x > HERE/told\nread go < HERE/go\n";
    std::fs::write(&say, text.replace("HERE", world.path().to_str().unwrap())).unwrap();
    for name in ["told", "go"] {
        assert!(Command::new("mkfifo").arg(world.path().join(name)).status().unwrap().success());
    }
    std::fs::set_permissions(&say, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    world.write(|tx| {
        for n in 1..=3 {
            let new = NewOutbox {
                key: format!("alert/x/{n}"),
                task_id: None,
                sink: Sink::Alert,
                payload: json!({"kind": "service_down", "key": "", "title": format!("s{n}"), "detail": "down"}),
            };
            tx.post(&new, 1).unwrap();
        }
    });
    let mut command = Command::new(crate::support::ORCH);
    command.current_dir(world.path()).env("ORCH_CONFIG", "orch.yaml").args(["tick", "--json"]).stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    // Opening waits for the sink, which is in the first of three deliveries then.
    assert_eq!(std::fs::read_to_string(world.path().join("told")).unwrap(), "x\n");
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    std::fs::write(world.path().join("go"), "\n").unwrap();
    let out = child.wait_with_output().unwrap();
    let printed: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((out.status.code(), printed["step"].as_str()), (Some(0), Some("tick")), "{printed}");
    let said = std::fs::read_to_string(world.path().join("said")).unwrap();
    assert_eq!(said, "x\n", "{printed}");
}

/// RULE-6 has an actor for each task: the step that was started for this project, no other's.
#[test]
fn a_tick_of_one_project_leaves_the_tasks_of_others_alone() {
    let world = Seeded::new(&format!("{ONE}  - key: SIDE\n    repo: side\n    git: {{remote: ./side.git}}\n"));
    world.write(|tx| change(tx, &task(tx, "ORCH-1", "one", 1), |t| t.stage = Stage::Analysis));
    for (project, concerned) in [("SIDE", false), ("ORCH", true)] {
        let (code, printed) = world.json(&["tick", "--project", project]);
        let held = printed["skipped"].as_array().unwrap().iter().any(|h| h["task"] == "ORCH-1");
        assert_eq!((code, held), (0, concerned), "{project}: {printed}");
    }
}
