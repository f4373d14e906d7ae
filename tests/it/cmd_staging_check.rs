//! `orch staging-check` alone, against real servers, commands and databases.

use crate::support::rows::foreign;
use crate::support::web::{Turn, Web};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

fn orch(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(crate::support::ORCH);
    command.current_dir(dir).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.arg("staging-check").args(["--checks", "staging.yaml"]).args(args).output().unwrap()
}

fn with(checks: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("staging.yaml"), format!("staging:\n{checks}")).unwrap();
    dir
}

fn text(out: &Output) -> String {
    String::from_utf8(out.stdout.clone()).unwrap()
}

fn code(out: &Output) -> i32 {
    out.status.code().unwrap()
}

#[test]
fn all_kinds_pass_against_the_real_thing_and_the_files_are_written() {
    let web = Web::always(Turn::Say(200, "all ok here"));
    let dir = with(&format!(
        r#"
  checks:
    - {{id: S1, name: health, kind: http, url: "{}", expect_body: "ok"}}
    - {{id: S2, kind: command, command: [./smoke.sh, "a b"]}}
    - {{id: S3, kind: tcp, address: "{}"}}
    - {{id: S4, kind: sql, database: ./staging.db, query: "select count(*) from t", expect: 2}}
"#,
        web.url("/health?x=1"),
        web.address
    ));
    let smoke = dir.path().join("smoke.sh");
    std::fs::write(
        &smoke,
        "#!/bin/sh\n[ \"$1\" = 'a b' ] && [ \"$ORCH_STAGE\" = deploy-staging ] && [ -z \"$(ls -A $HOME)\" ]\n",
    )
    .unwrap();
    std::fs::set_permissions(&smoke, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    foreign(&dir.path().join("staging.db"), 2);
    let out = orch(dir.path(), &["--strict", "--junit", "j.xml", "--report", "15-staging-log.md", "--task", "orch-4"]);
    let said = text(&out);
    assert_eq!(code(&out), 0, "{said}");
    let lines: Vec<&str> = said.lines().collect();
    for (n, id) in ["S1", "S2", "S3", "S4"].iter().enumerate() {
        assert!(lines[n].starts_with(id) && lines[n].contains("REAL") && lines[n].contains("PASS"), "{said}");
    }
    assert_eq!(lines.last(), Some(&"VERDICT SUCCESS"));
    assert_eq!(web.paths(), ["/health?x=1"]);
    let log = std::fs::read_to_string(dir.path().join("15-staging-log.md")).unwrap();
    for part in [
        "work_item: ORCH-4\n",
        "stage: deploy-staging\n",
        "agent: staging-check\n",
        "created: ",
        "staging_status: SUCCESS\n",
    ] {
        assert!(log.contains(part), "{log}");
    }
    let xml = std::fs::read_to_string(dir.path().join("j.xml")).unwrap();
    assert!(xml.contains("tests=\"4\"") && xml.contains("failures=\"0\""), "{xml}");
}

#[test]
fn a_refused_port_on_the_allow_list_is_waived_and_strict_waives_nothing() {
    let dir = with(&format!(
        "  checks:\n    - {{id: S3, kind: tcp, address: \"{}\"}}\n  sandbox_infra: [{{id: S3, signature: refused, owner: ann}}]\n",
        Web::nobody()
    ));
    let out = orch(dir.path(), &[]);
    let said = text(&out);
    assert_eq!(code(&out), 0, "{said}");
    assert!(said.contains("S3") && said.contains("SANDBOX_INFRA"), "{said}");
    assert!(said.lines().any(|l| l.starts_with("INFRA-WAIVED S3 ")), "{said}");
    assert!(said.ends_with("VERDICT SUCCESS\n"));
    let out = orch(dir.path(), &["--strict"]);
    assert_eq!(code(&out), 1);
    assert!(text(&out).ends_with("VERDICT FAILED\n") && !text(&out).contains("INFRA-WAIVED"));
}

#[test]
fn a_real_failure_fails_next_to_a_waived_one_and_json_shows_both() {
    let web = Web::always(Turn::Say(503, "sick"));
    let dir = with(&format!(
        "  checks:\n    - {{id: S1, kind: http, url: \"{}\"}}\n    - {{id: S3, kind: tcp, address: \"{}\"}}\n  sandbox_infra: [S3]\n",
        web.url("/"),
        Web::nobody()
    ));
    let out = orch(dir.path(), &["--json"]);
    assert_eq!(code(&out), 1);
    let v: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((v["step"].as_str(), v["verdict"].as_str()), (Some("staging-check"), Some("FAILED")));
    let checks = v["checks"].as_array().unwrap();
    let keys: Vec<&String> = checks[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["id", "class", "result", "detail", "time_ms", "waived"]);
    assert_eq!(
        (checks[0]["id"].as_str(), checks[0]["result"].as_str(), checks[0]["waived"].as_bool()),
        (Some("S1"), Some("FAIL"), Some(false))
    );
    assert_eq!((checks[1]["class"].as_str(), checks[1]["waived"].as_bool()), (Some("SANDBOX_INFRA"), Some(true)));
    assert!(checks[0]["detail"].as_str().unwrap().contains("503"));
}

#[test]
fn each_way_to_fail_is_seen() {
    let moved = Web::always(Turn::Redirect(302, "/elsewhere"));
    let slow = Web::always(Turn::Slow(Duration::from_secs(3), 200));
    let cut = Web::always(Turn::Cut);
    let wrong = Web::always(Turn::Say(200, "down for maintenance"));
    let dir = with(&format!(
        r#"
  checks:
    - {{id: moved, kind: http, url: "{}"}}
    - {{id: slow, kind: http, url: "{}", timeout_s: 0.3}}
    - {{id: cut, kind: http, url: "{}"}}
    - {{id: wrong, kind: http, url: "{}", expect_body: "ok"}}
    - {{id: nobody, kind: http, url: "http://{}/"}}
    - {{id: exit, kind: command, command: [sh, -c, "echo broken pipe >&2; exit 7"]}}
    - {{id: hang, kind: command, command: [sh, -c, "sleep 60 & sleep 60"], timeout_s: 0.3}}
    - {{id: none, kind: command, command: [./not-there]}}
    - {{id: nodb, kind: sql, database: nothing.db, query: "select 1"}}
    - {{id: ends, kind: sql, database: ":memory:", query: "with recursive n(a) as (select 1 union all select a+1 from n) select max(a) from n", timeout_s: 0.3}}
"#,
        moved.url("/"),
        slow.url("/"),
        cut.url("/"),
        wrong.url("/"),
        Web::nobody()
    ));
    foreign(&dir.path().join(":memory:"), 0);
    let start = std::time::Instant::now();
    let out = orch(dir.path(), &["--json"]);
    assert!(start.elapsed() < Duration::from_secs(30), "every wait is bounded");
    assert_eq!(code(&out), 1);
    let v: Value = serde_json::from_slice(&out.stdout).unwrap();
    let seen = |id: &str| {
        let c = v["checks"].as_array().unwrap().iter().find(|c| c["id"] == id).unwrap();
        (c["result"].as_str().unwrap().to_owned(), c["detail"].as_str().unwrap().to_owned())
    };
    for (id, result, part) in [
        ("moved", "FAIL", "302"),
        ("slow", "FAIL", "timeout"),
        ("cut", "FAIL", "refused"),
        ("wrong", "FAIL", "body"),
        ("nobody", "FAIL", "refused"),
        ("exit", "FAIL", "exit 7: broken pipe"),
        ("hang", "FAIL", "300 ms"),
        ("none", "ERROR", "not-there"),
        ("nodb", "FAIL", "nothing.db"),
        ("ends", "FAIL", "interrupted"),
    ] {
        let (got, detail) = seen(id);
        assert!(got == result && detail.contains(part), "{id}: {got} {detail}");
    }
    assert_eq!(moved.paths(), ["/"], "a redirect is not followed");
    assert!(!dir.path().join("nothing.db").exists(), "a check makes no database");
}

#[test]
fn a_check_is_tried_again_as_often_as_it_says() {
    let web = Web::serve(|n, _| if n < 3 { Turn::Say(503, "") } else { Turn::Say(200, "") });
    let dir = with(&format!("  checks: [{{id: S1, kind: http, url: \"{}\", retries: 2}}]\n", web.url("/")));
    assert_eq!(code(&orch(dir.path(), &[])), 0);
    assert_eq!(web.hits(), 3);
}

#[test]
fn a_query_that_writes_is_not_run() {
    let dir = with("  checks: [{id: S1, kind: sql, database: a.db, query: \"delete from t\"}]\n");
    let db = foreign(&dir.path().join("a.db"), 1);
    let out = orch(dir.path(), &[]);
    assert_eq!(code(&out), 1);
    assert!(text(&out).contains("ERROR"));
    assert_eq!(db.table("t").len(), 1);
}

#[test]
fn no_check_is_a_failure_and_a_wrong_file_is_no_verdict() {
    let out = orch(with("  checks: []\n").path(), &[]);
    assert_eq!(code(&out), 1);
    assert!(text(&out).ends_with("VERDICT FAILED\n"));
    for wrong in ["  chekcs: []\n", "  checks: [{id: S1, kind: ftp}]\n", "  checks: [\n"] {
        let out = orch(with(wrong).path(), &[]);
        assert_eq!(code(&out), 2, "{wrong}");
        assert!(out.stdout.is_empty());
    }
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(code(&orch(dir.path(), &[])), 2);
}

#[test]
fn switched_off_it_is_refused_and_asks_nobody() {
    let web = Web::always(Turn::Say(200, ""));
    let dir = with(&format!("  enabled: false\n  checks: [{{id: S1, kind: http, url: \"{}\"}}]\n", web.url("/")));
    let out = orch(dir.path(), &["--report", "r.md"]);
    assert_eq!(code(&out), 4);
    assert_eq!(web.hits(), 0);
    assert!(!dir.path().join("r.md").exists());
    let off = format!(
        "  infra_tolerance_enabled: false\n  checks: [{{id: S3, kind: tcp, address: \"{}\"}}]\n  sandbox_infra: [S3]\n",
        Web::nobody()
    );
    assert_eq!(code(&orch(with(&off).path(), &[])), 1);
}

/// The caller's own commands: confined if an engine is available, else started with one warning. As root nothing can
/// confine them, and what the file demands is enforced.
#[test]
fn bnd_2_the_commands_of_a_file_are_confined_where_an_engine_is_there_and_else_it_is_said() {
    use std::os::unix::fs::PermissionsExt;
    let all = |mode| std::fs::Permissions::from_mode(mode);
    let shared = tempfile::tempdir().unwrap();
    std::fs::set_permissions(shared.path(), all(0o755)).unwrap();
    let program = shared.path().join("orch");
    std::fs::copy(crate::support::ORCH, &program).unwrap();
    let secret = shared.path().join("secret");
    std::fs::write(&secret, "x").unwrap();
    std::fs::set_permissions(&secret, all(0o644)).unwrap();
    let run = |ordinary: bool, confine: &str| {
        let dir = with(&format!(
            "  checks:\n    - {{id: S1, kind: command, command: [sh, -c, 'cat {} 2>/dev/null && exit 3; mktemp > made']}}\n{confine}\n",
            secret.display()
        ));
        std::fs::set_permissions(dir.path(), all(0o777)).unwrap();
        let drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"].map(std::ffi::OsString::from);
        let root = rustix::process::geteuid().is_root();
        let mut argv = if ordinary && root { drop.to_vec() } else { Vec::new() };
        argv.push(program.clone().into());
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).args(["staging-check", "--checks", "staging.yaml"]).current_dir(dir.path());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", dir.path());
        let out = command.output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        (code(&out), said, format!("{}{}", text(&out), dir.path().join("made").exists()))
    };
    let (done, said, seen) = run(true, "");
    assert!(done == 0 && !said.contains("unconfined") && seen.ends_with("true"), "{done} {said} {seen}");
    let (done, said, seen) = run(true, "confine: {mode: off}");
    assert!(done == 1 && seen.contains("exit 3"), "{done} {said} {seen}");
    assert_eq!(said.matches("unconfined").count(), 1, "{said}");
    if rustix::process::geteuid().is_root() {
        let (done, said, _) = run(false, "");
        assert!(done == 1 && said.matches("unconfined").count() == 1, "{done} {said}");
        let (done, said, seen) = run(false, "confine: {mode: required}");
        assert!(done == 3 && said.contains("no check ran") && !seen.contains("VERDICT"), "{done} {said} {seen}");
    }
}
