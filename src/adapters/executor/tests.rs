use super::systemd::{arguments, enclosing_service, environment_file};
use super::*;
use crate::adapters::process::{await_end, belonging, end_all, identify, marked, signal};
use rustix::process::Signal;
use std::path::Path;

fn start(dir: &Path, argv: &[&str]) -> Start {
    Start {
        unit: "orch-test-run-7".into(),
        argv: argv.iter().map(Into::into).collect(),
        secrets: Values::new(),
        fetch: Duration::from_secs(5),
        env: vec![("ORCH_X".into(), dir.into()), ("PATH".into(), "/usr/bin:/bin".into())],
        cwd: dir.to_owned(),
        log: dir.join("log"),
        limits: Limits::default(),
    }
}

/// Waits for a line of a fifo, which the started program opens.
fn line(fifo: &Path) -> String {
    std::fs::read_to_string(fifo).unwrap().trim().to_owned()
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_detached_supervisor_runs_on_once_per_unit_with_an_exact_environment() {
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    fifo(&ready);
    let script = "echo said; echo wrong >&2; env >seen; echo $$ >ready; exec sleep 600";
    let one = start(dir.path(), &["/bin/sh", "-c", script]);
    Executor::Detach.start(&one).unwrap();
    let pid: i32 = line(&ready).parse().unwrap();
    let actor = identify(pid).unwrap();
    assert!(marked("ORCH_X", &dir.path().to_string_lossy()).contains(&actor));
    assert_eq!(std::fs::read_to_string(&one.log).unwrap(), "said\nwrong\n");
    let seen = std::fs::read_to_string(dir.path().join("seen")).unwrap();
    let mut names: Vec<_> = seen.lines().filter_map(|l| l.split('=').next()).collect();
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    names.sort_unstable();
    assert_eq!(names, ["ORCH_X", "PATH"]);

    assert!(matches!(Executor::Detach.start(&one), Err(ExecutorError::AlreadyRunning { unit }) if unit == one.unit));
    assert!(signal(&actor, Signal::KILL).unwrap());
    assert!(await_end(&actor, Duration::from_secs(20)));
    // The kernel has freed the name; the log continues.
    let again = start(dir.path(), &["/bin/sh", "-c", "echo again; echo x >ready"]);
    Executor::Detach.start(&again).unwrap();
    line(&ready);
    assert_eq!(std::fs::read_to_string(&one.log).unwrap(), "said\nwrong\nagain\n");
}

#[test]
fn what_can_not_start_is_said() {
    let dir = tempfile::tempdir().unwrap();
    for (unit, argv) in [("a/b", "/bin/sh"), ("", "/bin/sh"), ("a", "sh"), ("a", "/no/such"), ("-a", "/bin/sh")] {
        let mut one = start(dir.path(), &[argv]);
        one.unit = unit.into();
        assert!(matches!(Executor::Detach.start(&one), Err(ExecutorError::NotStarted { .. })), "{unit} {argv}");
    }
    assert!(!format!("{:?}", start(dir.path(), &["x"])).contains(&*dir.path().to_string_lossy()));
}

#[test]
fn the_innermost_unit_decides() {
    for (cgroup, service) in [
        ("0::/system.slice/orch-tick@main.service\n", Some("/system.slice/orch-tick@main.service")),
        ("12:pids:/x\n1:name=systemd:/system.slice/cron.service\n0::/\n", Some("/system.slice/cron.service")),
        ("0::/system.slice/a.service/sub/group\n", Some("/system.slice/a.service")),
        ("0::/user.slice/user-1.slice/user@1.service/app.slice/vte-1.scope\n", None),
        (
            "0::/user.slice/user-1.slice/user@1.service/app.slice/orch.service\n",
            Some("/user.slice/user-1.slice/user@1.service/app.slice/orch.service"),
        ),
        ("0::/user.slice/user-1.slice/session-4.scope\n", None),
        ("0::/user.slice/user-1.slice/user@1.service/init.scope\n", None),
        ("9:name=systemd:/\n0::/\n", None),
        ("0::/docker/0123\n", None),
        ("", None),
    ] {
        assert_eq!(enclosing_service(cgroup), service, "{cgroup}");
    }
}

#[test]
fn a_service_gets_its_limits_and_no_value_on_its_command_line() {
    let mut one = start(Path::new("/w t"), &["/bin/orch", "run-job", "7", "$HOME %n"]);
    one.env.push(("TOKEN".into(), "sesame".into()));
    one.limits = Limits {
        memory_max: Some("4G".into()),
        cpu_quota: Some("200%".into()),
        tasks_max: Some(512),
        runtime_max_s: Some(60),
        stop_timeout_s: Some(20),
        writable: Some(vec!["/w t".into(), "/a\"b".into()]),
        properties: vec!["KillMode=process".into()],
    };
    let of = |user| -> Vec<String> {
        arguments(&one, user, Path::new("/tmp/e")).into_iter().map(|a| a.into_string().unwrap()).collect()
    };
    let protections =
        ["NoNewPrivileges=yes", "ProtectSystem=strict", "ReadWritePaths=\"-/w t\"", "ReadWritePaths=\"-/a\\\"b\""];
    for part in protections.map(|p| format!("--property={p}")) {
        // The user's manager can't do it and leave a sandbox intact.
        assert!(of(false).contains(&part) && !of(true).contains(&part), "{part}");
    }
    let args = of(true);
    for wanted in [
        "--user",
        "--collect",
        "--unit=orch-test-run-7.service",
        "--slice=orch-agents.slice",
        "--service-type=exec",
        "--working-directory=/w t",
        "--property=StandardOutput=append:/w t/log",
        "--property=EnvironmentFile=/tmp/e",
        "--property=MemoryMax=4G",
        "--property=CPUQuota=200%",
        "--property=TasksMax=512",
        "--property=RuntimeMaxSec=60",
        "--property=TimeoutStopSec=20",
        "--property=KillMode=process",
    ] {
        assert!(args.iter().any(|arg| arg == wanted), "{wanted}");
    }
    assert!(args.ends_with(&["--".into(), "/bin/orch".into(), "run-job".into(), "7".into(), "$$HOME %n".into()]));
    assert!(!args.iter().any(|arg| arg.contains("sesame")));
}

#[test]
fn an_environment_file_quotes_and_refuses_what_systemd_drops() {
    let env = [("A".into(), "x \"y\" \\ $z `q`\nnext".into()), ("B_1".into(), "".into())];
    assert_eq!(environment_file("u", &env).unwrap(), "A=\"x \\\"y\\\" \\\\ \\$z \\`q\\`\nnext\"\nB_1=\"\"\n");
    for (name, value) in [("A B", "x"), ("1A", "x"), ("", "x"), ("A", "bell \u{7}")] {
        let error = environment_file("u", &[(name.into(), value.into())]).unwrap_err();
        assert!(matches!(error, ExecutorError::BadValue { .. }) && !error.to_string().contains("bell"));
    }
}

/// Real units, where a manager answers; elsewhere `resolve` reports that none does. (`tests/it/systemd_real.rs` boots
/// one.)
fn real_systemd() -> Option<Executor> {
    match Executor::resolve(Kind::Systemd) {
        Ok(Executor::Systemd { user }) => Some(Executor::Systemd { user }),
        Ok(Executor::Detach) => panic!("asked for systemd"),
        Err(error) => {
            assert!(matches!(error, ExecutorError::NoManager { .. }), "{error}");
            // Bypasses the captured output of a passing test.
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("SKIPPED: real services: {error}\n").as_bytes(),
            );
            None
        }
    }
}

#[test]
fn a_service_is_a_mutex_and_all_of_its_group_is_found() {
    let Some(executor) = real_systemd() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    fifo(&ready);
    // It ignores TERM, and so does its child that left the session.
    let script = "trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 600; sleep 600' & printf '%s|%s|' \"$ODD\" \"$1\" >ready; wait; wait";
    let mut one = start(dir.path(), &["/bin/sh", "-c", script, "sh", "$HOME ${ODD} %n \\x"]);
    let special = " a \"b\" 'c' $HOME `d` \\ %n\n\tnext ";
    one.env.push(("ODD".into(), special.into()));
    one.unit = format!("orch-test-{}-run-1", std::process::id());
    one.limits.stop_timeout_s = Some(1);
    executor.start(&one).unwrap();
    assert_eq!(std::fs::read_to_string(&ready).unwrap(), format!("{special}|$HOME ${{ODD}} %n \\x|"));
    assert!(matches!(executor.start(&one), Err(ExecutorError::AlreadyRunning { .. })));
    let units = [one.unit.clone()];
    let inside = || belonging("ORCH_X", &[], &units, &[]);
    assert!(inside().len() >= 2, "{:?}", inside());
    end_all(&inside, Duration::from_millis(200), ANSWER).unwrap();
    assert!(marked("ORCH_X", &dir.path().to_string_lossy()).is_empty());
    // A failure at its start is an error of `start`.
    one.cwd = dir.path().join("none");
    assert!(matches!(executor.start(&one), Err(ExecutorError::NotStarted { .. })));
}

#[test]
fn a_step_in_a_service_does_not_detach() {
    if let Some(fifo) = std::env::var_os("ORCH_TEST_IN_SERVICE") {
        let said = Executor::resolve(Kind::Detach).map_or_else(|e| e.to_string(), |e| format!("{e:?}"));
        std::fs::write(fifo, said).unwrap();
        return;
    }
    let Some(executor) = real_systemd() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    fifo(&ready);
    let exe = std::env::current_exe().unwrap();
    let name = "adapters::executor::tests::a_step_in_a_service_does_not_detach";
    let mut one = start(dir.path(), &[exe.to_str().unwrap(), "--exact", name]);
    one.env.push(("ORCH_TEST_IN_SERVICE".into(), ready.clone().into()));
    one.unit = format!("orch-test-{}-run-2", std::process::id());
    executor.start(&one).unwrap();
    let said = line(&ready);
    assert!(said.contains(&one.unit) && said.contains("would kill"), "{said}");
    one.unit = format!("orch-test-{}-run-3", std::process::id());
    one.limits.properties = vec!["KillMode=process".into()];
    executor.start(&one).unwrap();
    assert_eq!(line(&ready), "Detach");
}
