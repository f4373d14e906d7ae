use super::super::process::{Life, become_subreaper, life, marked};
use super::*;
use crate::model::redact::Redactor;
use std::process::Command;

const MARK: &str = "ORCH_CHILD_TEST";

fn spec(dir: &Path, argv: &[&str]) -> Spec {
    let mark = format!("{}-{}", std::process::id(), dir.display());
    Spec {
        argv: argv.iter().map(Into::into).collect(),
        cwd: dir.to_owned(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into()), ("A".into(), "b c".into())],
        stdin: None,
        stdout: dir.join("out"),
        stderr: dir.join("err"),
        wall: Duration::from_secs(120),
        stall: None,
        grace: Duration::from_millis(300),
        mark: (MARK.into(), mark),
        cap_bytes: 1 << 20,
        boundary: Boundary::Operator,
    }
}

fn sh(dir: &Path, script: &str) -> Spec {
    spec(dir, &["sh", "-c", script])
}

fn go(spec: &Spec) -> Result<Exit, ChildError> {
    run(spec, &mut |_| Control::Go)
}

/// Ends it once it has printed `word`.
fn end_at(spec: &Spec, word: &str) -> (Exit, Actor) {
    let mut heard = Vec::new();
    let mut who = None;
    let exit = run(spec, &mut |event| {
        match event {
            Event::Started(actor) => who = Some(actor),
            Event::Stdout(bytes) => heard.extend_from_slice(bytes),
            Event::Starting | Event::Stderr(_) | Event::Tick => {}
        }
        let text = String::from_utf8_lossy(&heard);
        if text.contains(word) { Control::End("enough".into()) } else { Control::Go }
    });
    (exit.unwrap(), who.unwrap())
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn none_left(spec: &Spec) {
    assert!(marked(&spec.mark.0, &spec.mark.1).is_empty());
}

/// Runs a test of this binary again in a process of its own; true inside that process.
fn alone(name: &str) -> bool {
    if std::env::var_os("ORCH_TEST_ALONE").is_some() {
        return true;
    }
    let name = format!("adapters::child::tests::{name}");
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env("ORCH_TEST_ALONE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&ended.stderr));
    false
}

#[test]
fn streams_code_and_an_exact_environment() {
    let dir = tempfile::tempdir().unwrap();
    let exit = go(&spec(dir.path(), &["env"])).unwrap();
    assert_eq!((exit.code, exit.signal, exit.ended_by, exit.lost), (Some(0), None, None, None));
    let one = spec(dir.path(), &["env"]);
    let mut lines: Vec<String> = text(&one.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["A=b c".to_owned(), format!("{MARK}={}", one.mark.1), "PATH=/usr/bin:/bin".to_owned()]);
    let exit = go(&sh(dir.path(), "echo no >&2; exit 7")).unwrap();
    assert_eq!(exit.code, Some(7));
    assert_eq!(text(&one.stderr), "no\n");
    let exit = go(&sh(dir.path(), "kill -9 $$")).unwrap();
    assert_eq!((exit.code, exit.signal), (None, Some(9)));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(one.stdout.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn stdin_is_a_file_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("prompt"), "do it").unwrap();
    let mut one = spec(dir.path(), &["cat"]);
    assert_eq!(go(&one).unwrap().stdout_bytes, 0);
    one.stdin = Some(dir.path().join("prompt"));
    assert_eq!(go(&one).unwrap().stdout_bytes, 5);
    assert_eq!(text(&one.stdout), "do it");
}

#[test]
fn what_can_not_start_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = go(&spec(dir.path(), &["no-such-program"])).unwrap_err();
    assert!(matches!(&error, ChildError::NotFound { program, .. } if program == "no-such-program"), "{error}");
    let error = go(&spec(dir.path(), &["./none.sh"])).unwrap_err();
    assert!(error.to_string().contains("./none.sh") && matches!(error, ChildError::NotFound { .. }));
    std::fs::write(dir.path().join("plain"), "x").unwrap();
    assert!(matches!(go(&spec(dir.path(), &["./plain"])).unwrap_err(), ChildError::NotStarted { .. }));
    assert!(matches!(go(&spec(dir.path(), &[])).unwrap_err(), ChildError::Empty));
    let mut lost = spec(dir.path(), &["env"]);
    lost.cwd = dir.path().join("gone");
    assert!(go(&lost).unwrap_err().to_string().contains("working directory"));
    let shown = format!("{:?}", spec(dir.path(), &["env"]));
    assert!(shown.contains("\"A\"") && !shown.contains("b c"), "no value of the environment is shown: {shown}");
}

#[test]
fn one_that_ignores_term_ends_with_its_grandchild_in_another_session() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo ready; sleep 600; sleep 600' & sleep 600; sleep 600";
    let one = sh(dir.path(), script);
    let (exit, actor) = end_at(&one, "ready");
    assert_eq!(exit.ended_by, Some(EndedBy::Asked("enough".into())));
    assert_eq!((exit.code, exit.signal), (None, Some(9)));
    assert_eq!(life(&actor), Life::Dead);
    none_left(&one);
}

#[test]
fn one_that_answers_term_by_starting_itself_again_ends() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap 'echo again; setsid sh ./again & exit' TERM\necho ready\nwhile :; do sleep 0.02; done\n";
    std::fs::write(dir.path().join("again"), script).unwrap();
    let one = Spec { grace: Duration::from_secs(2), ..spec(dir.path(), &["sh", "./again"]) };
    let (exit, _) = end_at(&one, "ready");
    assert_eq!(exit.ended_by, Some(EndedBy::Asked("enough".into())));
    assert!(text(&one.stdout).starts_with("ready\nagain\n"), "it did start again");
    none_left(&one);
}

#[test]
fn what_is_said_at_term_is_heard() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = sh(dir.path(), "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done");
    one.grace = Duration::from_secs(60);
    let (exit, _) = end_at(&one, "ready");
    assert_eq!(exit.code, Some(3));
    assert_eq!(text(&one.stdout), "ready\nbye\n");
}

#[test]
fn a_full_pipe_holds_up_no_end() {
    let dir = tempfile::tempdir().unwrap();
    let (exit, _) = end_at(&sh(dir.path(), "trap '' TERM; echo ready; while :; do cat /dev/zero; done"), "ready");
    assert_eq!(exit.signal, Some(9));
}

#[test]
fn wall_clock_and_silence_end_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = sh(dir.path(), "while :; do echo x; sleep 0.02; done");
    one.wall = Duration::from_millis(600);
    one.stall = Some(Duration::from_secs(30));
    let exit = go(&one).unwrap();
    assert_eq!(exit.ended_by, Some(EndedBy::Wall));
    assert!(exit.duration_ms >= 600 && exit.stdout_bytes > 0);
    let mut one = sh(dir.path(), "echo x; sleep 600");
    one.stall = Some(Duration::from_millis(300));
    assert_eq!(go(&one).unwrap().ended_by, Some(EndedBy::Stall));
    none_left(&one);
    // Output on stderr is a sign of life, and so is output that arrived while the caller was busy.
    let mut one = sh(dir.path(), "for i in 1 2 3 4 5 6 7 8; do sleep 0.2; echo x >&2; done");
    one.stall = Some(Duration::from_secs(30));
    assert_eq!(go(&one).unwrap().ended_by, None);
}

#[test]
fn rule_19_a_daemon_that_keeps_stdout_open_is_not_awaited_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let one = sh(dir.path(), "setsid sh -c 'trap \"\" TERM; sleep 600; sleep 600' & echo done; exit 0");
    let begun = Instant::now();
    let exit = go(&one).unwrap();
    assert_eq!((exit.code, exit.ended_by), (Some(0), None));
    assert!(begun.elapsed() >= DRAIN && begun.elapsed() < Duration::from_secs(60));
    assert!(exit.duration_ms < begun.elapsed().as_millis() as u64, "its own end, not its daemon's");
    assert_eq!(text(&one.stdout), "done\n");
    none_left(&one);
}

#[test]
fn rule_19_a_daemon_without_mark_group_and_parent_is_found_by_a_subreaper() {
    if !alone("rule_19_a_daemon_without_mark_group_and_parent_is_found_by_a_subreaper") {
        return;
    }
    become_subreaper().unwrap();
    let dir = tempfile::tempdir().unwrap();
    // A child started before the run does not belong to its tree.
    let mut older = Command::new("sleep").arg("600").spawn().unwrap();
    // Forked twice, in its own session, with an empty environment and closed streams.
    let script = "(env -i setsid sh -c 'trap \"\" TERM; echo $$ >pid; while :; do sleep 600; done' >/dev/null 2>&1 </dev/null &) ; until [ -s pid ]; do :; done";
    let exit = go(&sh(dir.path(), script)).unwrap();
    assert_eq!(exit.code, Some(0));
    let pid: i32 = text(&dir.path().join("pid")).trim().parse().unwrap();
    assert!(process::identify(pid).is_err(), "gone, and its zombie reaped");
    assert!(older.try_wait().unwrap().is_none());
    older.kill().unwrap();
    older.wait().unwrap();
    assert!(process::children(i32::try_from(std::process::id()).unwrap()).is_empty());
}

#[test]
fn memory_stays_flat_and_files_are_capped() {
    if !alone("memory_stays_flat_and_files_are_capped") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let peak = || -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let one = spec(dir.path(), &["head", "-c", "268435456", "/dev/zero"]);
    // A small run pages the code in first: what counts is that more output takes no more memory.
    let first = tempfile::tempdir().unwrap();
    run(&spec(first.path(), &["head", "-c", "2097152", "/dev/zero"]), &mut |_| Control::Go).unwrap();
    let before = peak();
    let mut streamed = 0;
    let exit = run(&one, &mut |event| {
        if let Event::Stdout(bytes) = event {
            streamed += bytes.len() as u64;
        }
        Control::Go
    });
    let exit = exit.unwrap();
    assert_eq!((exit.stdout_bytes, streamed), (256 << 20, 256 << 20));
    assert_eq!(one.stdout.metadata().unwrap().len(), 1 << 20);
    assert!(exit.lost.unwrap().contains("past the cap"));
    // The program's own pages count when they are read for the first time: some megabytes of 256.
    assert!(peak() - before < 24 << 10, "{} KiB more", peak() - before);
}

#[test]
fn a_full_disk_does_not_end_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = sh(dir.path(), "echo hello");
    one.stdout = "/dev/full".into();
    let exit = go(&one).unwrap();
    assert_eq!((exit.code, exit.stdout_bytes), (Some(0), 6));
    assert!(exit.lost.unwrap().contains("6 bytes of stdout were not written"));
}

#[test]
fn ticks_come_in_silence_and_the_start_can_be_refused() {
    let dir = tempfile::tempdir().unwrap();
    let one = sh(dir.path(), "exec sleep 600");
    let mut ticks = 0;
    let exit = run(&one, &mut |event| {
        ticks += i32::from(matches!(event, Event::Tick));
        if ticks == 2 { Control::End("stop".into()) } else { Control::Go }
    });
    assert_eq!(exit.unwrap().ended_by, Some(EndedBy::Asked("stop".into())));
    let exit = run(&one, &mut |event| match event {
        Event::Started(_) => Control::End("not recorded".into()),
        Event::Starting | Event::Stdout(_) | Event::Stderr(_) | Event::Tick => Control::Go,
    });
    assert_eq!(exit.unwrap().ended_by, Some(EndedBy::Asked("not recorded".into())));
    none_left(&one);
}

#[test]
fn a_file_is_written_over_in_place_also_across_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let said = format!("{}open sesame{}open sesame", "x".repeat(CHUNK - 5), "y".repeat(CHUNK));
    std::fs::write(&path, &said).unwrap();
    scrub(&path, &Redactor::new([("door", "open sesame")])).unwrap();
    // As much of the label as fits.
    assert_eq!(text(&path), said.replace("open sesame", "[secret: do"));
}
