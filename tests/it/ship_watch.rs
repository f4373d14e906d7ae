//! The watch over production (SHIP-6), with a small real HTTP server.

use crate::support::pipe::{Pipe, Setup};
use crate::support::web::{Turn, Web};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A project that is watched for a few seconds; `more` are further keys of `post_deploy`.
fn watched(health: &str, more: &str, project: &str) -> Pipe {
    Pipe::new(Setup {
        project: format!(
            "post_deploy: {{repos: \"*\", window_s: 12, interval_s: 1, fail_threshold: 3, min_requests: 5, health: [{{url: \"{health}\", timeout_s: 2}}]{more}}}\n{project}"
        ),
        ..Setup::default()
    })
}

fn watch(pipe: &Pipe, key: &str) -> String {
    pipe.of(key, "watch")
}

fn ended(pipe: &Pipe, key: &str) {
    pipe.until("the end of the watch", |p| {
        let word = watch(p, key);
        !word.is_empty() && word != "armed"
    });
}

/// Requests of the watch: the scripts do not count those before the deploy.
const BASELINE: usize = 3;

#[test]
fn a_healthy_deploy_is_done_and_says_what_that_proves() {
    let web = Web::always(Turn::Say(200, "ok"));
    let pipe = watched(&web.url("/health"), "", "").with_window(8).with_interval(2);
    let key = pipe.item("One");
    pipe.until("the watch", |p| watch(p, &key) == "armed");
    pipe.orch(&["tick"]);
    assert!(pipe.read(&format!("state/issues/{key}.md")).contains("Monitoring after Deploy"));
    // RULE-24: HALT and a freeze hold no observing job.
    pipe.orch(&["halt"]);
    pipe.orch(&["freeze", "demo", "--reason", "for another cause"]);
    ended(&pipe, &key);
    assert_eq!(watch(&pipe, &key), "healthy", "{}", pipe.story());
    pipe.orch(&["tick"]);
    let log = pipe.evidence("16-post-deploy-log.md");
    assert!(
        log.contains("post_deploy_status: HEALTHY") && log.contains("clean probes") && log.contains("before 3"),
        "{log}"
    );
    assert!(pipe.read(&format!("state/issues/{key}.md")).contains("status: Done"));
    let probe = pipe.orch(&["post-deploy-probe", &key, "--json"]);
    assert_eq!((probe.code, probe.json()["classification"].as_str()), (0, Some("HEALTHY")), "{}", probe.all());
}

#[test]
fn a_server_that_dies_after_three_probes_is_degraded_frozen_alerted_once_and_shown_blocked() {
    let web = Web::serve(|n, _| if n <= BASELINE + 3 { Turn::Say(200, "ok") } else { Turn::Die });
    let pipe = watched(&web.url("/health"), "", "");
    let key = pipe.item("One");
    ended(&pipe, &key);
    assert_eq!(watch(&pipe, &key), "degraded", "{}", pipe.story());
    assert!(pipe.table("freezes").with("repo", "demo").one("reason").contains("DEGRADED"));
    let alerts = pipe.alerts();
    assert_eq!(alerts.iter().filter(|a| *a == "degraded").count(), 1, "{alerts:?}");
    pipe.orch(&["tick"]);
    assert!(pipe.read(&format!("state/issues/{key}.md")).contains("status: Blocked"));
    assert!(pipe.evidence("16-post-deploy-log.md").contains("post_deploy_status: DEGRADED"));
    // Nothing new of the repository starts until a person lifts the freeze.
    let next = pipe.item("Two");
    let said = pipe.orch(&["tick", "--json"]).json();
    assert!(
        said["skipped"].as_array().unwrap().iter().any(|h| h["task"] == next.as_str() && h["rule"] == "freeze"),
        "{said}"
    );
    assert_eq!(pipe.orch(&["post-deploy-probe", &key]).code, 1);
    pipe.orch(&["unfreeze", "demo"]);
    pipe.until("the next task", |p| p.of(&next, "stage") != "created");
}

#[test]
fn flapping_below_the_threshold_is_healthy() {
    let web = Web::serve(|n, _| Turn::Say(if n > BASELINE && n % 2 == 0 { 404 } else { 200 }, "ok"));
    let pipe = watched(&web.url("/health"), "", "").with_window(8).with_interval(2);
    let key = pipe.item("One");
    ended(&pipe, &key);
    assert_eq!(watch(&pipe, &key), "healthy", "{}", pipe.evidence("16-post-deploy-log.md"));
    assert!(pipe.table("freezes").is_empty());
}

#[test]
fn a_share_of_6_percent_5xx_is_degraded_by_the_error_source() {
    let web = Web::always(Turn::Say(200, "ok"));
    let pipe = watched(&web.url("/health"), ", errors: {command: [./errors.sh], timeout_s: 5}", "");
    // 50 requests per probe, 3 of them 5xx.
    pipe.person_changes(
        &[("errors.sh", "#!/bin/sh\nn=$(cat COUNT 2>/dev/null || echo 0); n=$((n+1)); echo $n > COUNT\necho \"{\\\"requests\\\": $((n*50)), \\\"errors_5xx\\\": $((n*3))}\"\n".replace("COUNT", pipe.at("prod/count").to_str().unwrap()).as_str())],
        "an error source",
    );
    let key = pipe.item("One");
    ended(&pipe, &key);
    // It was so before the deploy, too: the deploy can't be blamed.
    assert_eq!(watch(&pipe, &key), "inconclusive", "{}", pipe.evidence("16-post-deploy-log.md"));
    assert!(pipe.evidence("16-post-deploy-log.md").contains("sick_before"));
    std::fs::write(pipe.at("prod/count"), "0").unwrap();
    assert!(pipe.table("freezes").is_empty(), "inconclusive freezes nothing");
}

#[test]
fn a_share_that_begins_with_the_deploy_is_degraded() {
    // 1 of 2 answers is a 5xx, never twice in a row: only the share shows it.
    let web = Web::serve(|n, _| Turn::Say(if n > BASELINE && n % 2 == 0 { 503 } else { 200 }, "ok"));
    let pipe = watched(&web.url("/health"), "", "");
    let key = pipe.item("One");
    ended(&pipe, &key);
    assert_eq!(watch(&pipe, &key), "degraded", "{}", pipe.evidence("16-post-deploy-log.md"));
    assert!(pipe.evidence("16-post-deploy-log.md").contains("5xx"));
}

#[test]
fn slow_answers_count_where_a_latency_is_declared() {
    let web = Web::serve(
        |n, _| if n > BASELINE { Turn::Slow(Duration::from_millis(400), 200) } else { Turn::Say(200, "ok") },
    );
    let pipe = Pipe::new(Setup {
        project: format!(
            "post_deploy: {{repos: \"*\", window_s: 12, interval_s: 1, fail_threshold: 3, health: [{{url: \"{}\", max_latency_ms: 250, timeout_s: 2}}]}}",
            web.url("/")
        ),
        ..Setup::default()
    });
    let key = pipe.item("One");
    ended(&pipe, &key);
    assert_eq!(watch(&pipe, &key), "degraded", "{}", pipe.evidence("16-post-deploy-log.md"));
}

#[test]
fn a_slow_production_does_not_delay_confirm_deploy() {
    let late = Duration::from_secs(8);
    let web = Web::serve(move |_, _| Turn::Slow(late, 200));
    let pipe = Pipe::new(Setup {
        project: format!(
            "deploy: {{confirm: true, command: [./deploy.sh], env: {{TARGET: PROD}}}}\npost_deploy: {{repos: \"*\", health: [{{url: \"{}\", timeout_s: 20}}]}}",
            web.url("/health")
        ),
        ..Setup::default()
    });
    let key = pipe.item("One");
    pipe.until("the parking", |p| p.of(&key, "waiting_for") == "confirm_deploy");
    let begun = Instant::now();
    let said = pipe.orch(&["advance", &key, "--confirm-deploy", "--json"]);
    assert_eq!(said.code, 0, "{}", said.all());
    assert!(begun.elapsed() < late, "{:?}", begun.elapsed());
    assert!(said.json()["skipped"].to_string().contains("answers slowly"), "{}", said.all());
    // The check is immediate, and the command starts automatically.
    pipe.until("the deploy", |p| p.at("prod/deploys").exists());
    assert_eq!(web.hits(), 1);
}

#[test]
fn unreachable_from_here_is_inconclusive_where_the_control_target_is_gone_too() {
    let nobody = Web::nobody();
    let pipe =
        watched("http://does-not-exist.invalid/health", &format!(", control: {{url: \"http://{nobody}/\"}}"), "")
            .with_window(3);
    let key = pipe.item("One");
    ended(&pipe, &key);
    assert_eq!(watch(&pipe, &key), "inconclusive", "{}", pipe.evidence("16-post-deploy-log.md"));
    assert!(pipe.table("freezes").is_empty());
    assert_eq!(pipe.alerts().iter().filter(|a| *a == "degraded").count(), 1, "it is told");
    assert_eq!(pipe.orch(&["post-deploy-probe", &key]).code, 3);
}

#[test]
fn degraded_rolls_back_once_where_that_is_configured() {
    let web = Web::serve(|n, _| Turn::Say(if n > BASELINE { 500 } else { 200 }, "ok"));
    let pipe = watched(
        &web.url("/health"),
        ", action: rollback, rollback: {command: [./rollback.sh], env: {TARGET: PROD}}",
        "",
    )
    .with_window(6);
    pipe.person_changes(
        &[("rollback.sh", "#!/bin/sh\necho \"$ORCH_REVISION\" >> \"$TARGET/rollbacks\"; exit 3\n")],
        "a rollback",
    );
    let key = pipe.item("One");
    ended(&pipe, &key);
    assert_eq!(watch(&pipe, &key), "degraded");
    for _ in 0..3 {
        pipe.orch(&["tick"]);
        pipe.orch(&["reap"]);
        pipe.orch(&["post-deploy-probe", &key]);
    }
    assert_eq!(pipe.read("prod/rollbacks").lines().count(), 1);
    let log = pipe.evidence("16-post-deploy-log.md");
    assert!(log.contains("rollback command was started") && log.contains("exit 3"), "{log}");
}

#[test]
fn a_newer_deploy_ends_the_older_watch_as_cancelled() {
    let web = Web::always(Turn::Say(200, "ok"));
    let pipe = watched(&web.url("/health"), "", "").with_window(600);
    let first = pipe.item("One");
    pipe.until("the first watch", |p| watch(p, &first) == "armed");
    let second = pipe.item("Two");
    pipe.until("the second watch", |p| watch(p, &second) == "armed");
    ended(&pipe, &first);
    assert_eq!(watch(&pipe, &first), "cancelled");
    let older = pipe.orch(&["post-deploy-probe", &first, "--json"]);
    assert_eq!((older.code, older.json()["classification"].as_str()), (0, Some("CANCELLED")), "{}", older.all());
    let said = pipe.orch(&["post-deploy-probe", &second, "--json"]);
    assert_eq!((said.code, said.json()["classification"].as_str()), (0, Some("PENDING")), "{}", said.all());
    assert!(!said.json()["probes"].as_array().unwrap().is_empty());
}

#[test]
fn a_watch_is_taken_up_again_after_its_monitor_was_killed() {
    let hits = Arc::new(AtomicUsize::new(0));
    let seen = hits.clone();
    let web = Web::serve(move |n, _| {
        seen.store(n, Ordering::SeqCst);
        // One answer takes so long that its monitor can be killed meanwhile.
        if n == BASELINE + 2 { Turn::Slow(Duration::from_secs(1), 200) } else { Turn::Say(200, "ok") }
    });
    let pipe = watched(&web.url("/health"), "", "").with_window(7);
    let key = pipe.item("One");
    pipe.until("the slow probe", |_| hits.load(Ordering::SeqCst) >= BASELINE + 2);
    let actor = pipe.table("runs").with("kind", "post-deploy-monitor").last("supervisor/pid");
    let pid = rustix::process::Pid::from_raw(actor.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let before = pipe.read(&format!("state/sentinels/demo/{key}/post-deploy.json"));
    ended(&pipe, &key);
    // What was seen before the kill counts; the killed probe is missing, and its gap decides nothing bad.
    let after = pipe.read(&format!("state/sentinels/demo/{key}/post-deploy.json"));
    assert!(after.len() >= before.len() && before.contains("\"probes\":["), "{before} {after}");
    assert_ne!(watch(&pipe, &key), "degraded", "{}", pipe.story());
    assert_eq!(pipe.table("deploys").len(), 1);
}

#[test]
fn a_broken_record_is_set_aside_and_the_watch_is_inconclusive() {
    let web = Web::always(Turn::Say(200, "ok"));
    let pipe = watched(&web.url("/health"), "", "").with_window(600);
    let key = pipe.item("One");
    let file = format!("state/sentinels/demo/{key}/post-deploy.json");
    pipe.until("the record", |p| p.at(&file).exists());
    // A running monitor may restore its own once more.
    pipe.until("the end of the watch", |p| {
        let armed = watch(p, &key) == "armed";
        if armed && !p.read(&file).contains("7}") {
            std::fs::write(p.at(&file), "{\"schema\": 7}").unwrap();
        }
        !armed
    });
    assert_eq!(watch(&pipe, &key), "inconclusive");
    assert!(pipe.evidence("16-post-deploy-log.md").contains("schema 7"));
}

#[test]
fn switched_off_or_out_of_scope_nothing_is_watched_and_nothing_asked() {
    let web = Web::always(Turn::Say(200, "ok"));
    let mut pipe = watched(&web.url("/health"), "", "");
    pipe.env.push(("ORCH_POST_DEPLOY_ENABLED".into(), "false".into()));
    let key = pipe.item("One");
    pipe.until_stage(&key, "done");
    pipe.orch(&["tick"]);
    assert_eq!((watch(&pipe, &key).as_str(), web.hits()), ("", 0));
    assert!(pipe.table("jobs").with("kind", "post-deploy-monitor").is_empty());
    assert_eq!(pipe.orch(&["post-deploy-probe", &key]).code, 4);
}

impl Pipe {
    /// The window set by its variable, as an operator shortens it.
    fn with_window(mut self, seconds: u64) -> Self {
        self.env.push(("ORCH_POST_DEPLOY_WINDOW_S".into(), seconds.to_string()));
        self
    }

    /// Seconds between two probes; with longer ones a busy machine misses none.
    fn with_interval(mut self, seconds: u64) -> Self {
        self.env.push(("ORCH_POST_DEPLOY_INTERVAL_S".into(), seconds.to_string()));
        self
    }
}
