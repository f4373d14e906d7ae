//! `orch post-deploy-probe --url`: the stand-alone watch with servers that live, die, flap and give wrong answers.

use crate::support::web::{Turn, Web};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn command(url: &str, count: &str, interval: &str) -> Command {
    let mut command = Command::new(crate::support::ORCH);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.args(["post-deploy-probe", "--url", url, "--count", count, "--interval", interval]);
    command
}

fn watch(url: &str, count: &str) -> (i32, String) {
    let out = command(url, count, "0").output().unwrap();
    (code(&out), String::from_utf8(out.stdout).unwrap())
}

fn code(out: &Output) -> i32 {
    out.status.code().unwrap()
}

fn last(said: &str) -> &str {
    said.lines().last().unwrap_or("")
}

#[test]
fn a_healthy_service_gives_a_line_a_probe_and_exit_0() {
    let web = Web::always(Turn::Say(200, "ok"));
    let (code, said) = watch(&web.url("/health"), "5");
    assert_eq!((code, web.hits()), (0, 5), "{said}");
    assert_eq!(said.lines().filter(|l| l.contains(" ok ") && l.contains("200")).count(), 5, "{said}");
    assert!(last(&said).starts_with("VERDICT HEALTHY") && said.contains("95 % confidence"), "{said}");
}

#[test]
fn one_that_dies_after_three_probes_is_degraded_early() {
    let web = Web::serve(|n, _| if n <= 3 { Turn::Say(200, "") } else { Turn::Die });
    let (code, said) = watch(&web.url("/"), "50");
    assert_eq!(code, 1, "{said}");
    assert_eq!(said.lines().count(), 7, "three good, three bad, the verdict: {said}");
    assert!(last(&said).starts_with("VERDICT DEGRADED 3 health probes in a row failed"), "{said}");
}

#[test]
fn one_that_flaps_is_degraded_by_its_share_of_5xx_alone() {
    let web = Web::serve(|n, _| if n % 2 == 0 { Turn::Say(503, "") } else { Turn::Say(200, "") });
    let (code, said) = watch(&web.url("/"), "30");
    assert_eq!(code, 1, "{said}");
    assert!(last(&said).contains("10 of 20 requests"), "{said}");
    // Refused connections are no answers: without three in a row, such flapping passes.
    let web = Web::serve(|n, _| if n % 2 == 0 { Turn::Cut } else { Turn::Say(200, "") });
    let (code, said) = watch(&web.url("/"), "30");
    assert_eq!(code, 0, "{said}");
}

#[test]
fn six_percent_of_503_is_degraded_and_four_is_not() {
    let web = Web::serve(|n, _| if n % 16 == 0 { Turn::Say(503, "") } else { Turn::Say(200, "") });
    let (code, said) = watch(&web.url("/"), "60");
    assert_eq!(code, 1, "{said}");
    assert!(last(&said).contains("3 of 48 requests") && last(&said).contains("6.2 %"), "{said}");
    let web = Web::serve(|n, _| if n % 25 == 0 { Turn::Say(503, "") } else { Turn::Say(200, "") });
    let (code, said) = watch(&web.url("/"), "80");
    assert_eq!((code, web.hits()), (0, 80), "{said}");
}

#[test]
fn a_slow_one_that_answers_is_healthy() {
    let web = Web::always(Turn::Slow(Duration::from_millis(300), 200));
    let (code, said) = watch(&web.url("/"), "3");
    assert_eq!(code, 0, "{said}");
}

#[test]
fn an_unreachable_one_is_degraded_and_an_unknown_name_is_not_its_fault() {
    let (code, said) = watch(&format!("http://{}/", Web::nobody()), "10");
    assert_eq!((code, said.lines().count()), (1, 4), "{said}");
    // A label of 70 letters can't be a name: the resolver rejects it without a query.
    let (code, said) = watch(&format!("http://{}.invalid/", "a".repeat(70)), "4");
    assert_eq!(code, 3, "{said}");
    assert!(last(&said).starts_with("VERDICT INCONCLUSIVE"), "{said}");
}

#[test]
fn a_redirect_is_its_status_and_is_not_followed() {
    let web = Web::always(Turn::Redirect(302, "/login"));
    let (code, said) = watch(&web.url("/health"), "5");
    assert_eq!(code, 1, "{said}");
    assert_eq!(web.paths(), ["/health"; 3]);
}

#[test]
fn a_watch_shorter_than_the_threshold_can_still_be_degraded() {
    let web = Web::always(Turn::Say(500, ""));
    assert_eq!(watch(&web.url("/"), "1").0, 1);
}

#[test]
fn json_is_one_document_with_verdict_and_probes() {
    let web = Web::serve(|n, _| Turn::Say(if n == 2 { 500 } else { 200 }, ""));
    let out = command(&web.url("/"), "4", "0").arg("--json").output().unwrap();
    assert_eq!(code(&out), 0);
    let v: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((v["verdict"].as_str(), v["classification"].as_str()), (Some("HEALTHY"), Some("HEALTHY")));
    let results: Vec<&str> = v["probes"].as_array().unwrap().iter().map(|p| p["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["ok", "failed", "ok", "ok"]);
    assert_eq!(v["probes"][1]["health"][0]["status"], 500);
}

#[test]
fn a_signal_ends_it_between_probes_with_its_verdict_said() {
    let web = Web::always(Turn::Say(200, ""));
    for signal in ["-TERM", "-INT"] {
        let mut child = command(&web.url("/"), "10", "600").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().contains(" ok "));
        let start = Instant::now();
        Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        assert_eq!(child.wait().unwrap().code(), Some(3));
        assert!(start.elapsed() < Duration::from_secs(30));
        assert!(last(&rest.join("\n")).contains("only 1 of 10 expected probes"), "{rest:?}");
    }
}

#[test]
fn the_command_line_and_the_switches_are_heeded() {
    let web = Web::always(Turn::Say(200, ""));
    let url = web.url("/");
    let out = command(&url, "2", "0").env("ORCH_POST_DEPLOY_ENABLED", "false").output().unwrap();
    assert_eq!(code(&out), 4);
    assert_eq!(code(&command(&url, "0", "0").output().unwrap()), 2);
    assert_eq!(code(&command(&url, "2", "-1").output().unwrap()), 2);
    assert_eq!(code(&command("ftp://x", "2", "0").output().unwrap()), 2);
    let out = command(&url, "2", "0").env("ORCH_POST_DEPLOY_FAIL_THRESHOLD", "many").output().unwrap();
    assert_eq!(code(&out), 2);
    assert!(String::from_utf8(out.stderr).unwrap().contains("ORCH_POST_DEPLOY_FAIL_THRESHOLD"));
    assert_eq!(web.hits(), 0, "nothing was touched");
    let none = Command::new(crate::support::ORCH).arg("post-deploy-probe").output().unwrap();
    assert_eq!(code(&none), 2);
}
