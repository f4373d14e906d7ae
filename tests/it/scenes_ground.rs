//! What stops a run before anybody works, and how `orch retry` releases what waits (ORD-1, RULE-45).

use crate::support::git::raw;
use crate::support::house::{House, Plan};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

fn held(house: &House) -> Value {
    house.orch(&["explain", "ORCH-1"]).fine().json["held_by"].clone()
}

fn until_held(house: &House, rule: &str) -> Value {
    house.until(rule, || {
        house.tick();
        Some(held(house)).filter(|h| h["rule"] == rule)
    })
}

fn until_done(house: &House) {
    house.until("done", || {
        house.tick();
        if house.task("ORCH-1").is_some_and(|t| t.waiting_for.is_some()) {
            house.orch(&["advance", "ORCH-1", "--confirm-deploy"]);
        }
        house.task("ORCH-1").filter(|t| t.stage.as_str() == "done")
    });
}

/// Ticks until it is blocked in this round.
fn until_blocked(house: &House, round: i64) {
    house.until("blocked", || {
        house.tick();
        house.task("ORCH-1").filter(|t| t.blocked_reason.is_some() && t.attempt == round)
    });
}

fn agents(house: &House) -> usize {
    house.runs("ORCH-1").iter().filter(|r| r.agent.is_some()).count()
}

#[test]
fn rule_45_what_this_machine_lacks_holds_by_its_rule_spends_nothing_and_a_retry_checks_at_once() {
    let house = House::new(&Plan::short());
    let lacking = |runtime: &str| {
        let top = Plan::short().top("agents: {runtime: scripted, retry_backoff_s: 60}").top(runtime.to_owned());
        house.configure(&top);
    };
    lacking("runtimes: {scripted: {kind: command, command: [./agent.sh], env: {TOKEN: {env: NOT_SET_HERE}}}}");
    house.item("Greet people");
    let unset = until_held(&house, "environment");
    assert!(unset["why"].as_str().unwrap().contains("NOT_SET_HERE") && unset["until"].is_string(), "{unset}");
    // A person claims that it is there by now, but it is not.
    lacking("runtimes: {scripted: {kind: command, command: [no-such-program]}}");
    let ran = house.orch(&["retry", "ORCH-1"]).fine();
    assert!(!ran.rules().contains(&"terminal".to_owned()), "{:?}", ran.json);
    house.until("the next run", || (agents(&house) > 1).then_some(()));
    let missing = house.until("the missing program", || {
        Some(held(&house)).filter(|h| h["why"].as_str().is_some_and(|w| w.contains("no-such-program")))
    });
    assert_eq!(missing["rule"], "environment");
    lacking("runtimes: {scripted: {kind: command, command: [./agent.sh]}}");
    house.orch(&["retry", "ORCH-1"]).fine();
    until_done(&house);
    let jobs = house.table("jobs");
    assert!(jobs.clone().with("kind", "agent").with("status", "failed").is_empty());
    assert_eq!((jobs.with("spent", 1).len(), house.task("ORCH-1").unwrap().attempt), (0, 1));
    assert!(house.alerts("blocked").is_empty());
}

#[test]
fn ord_1_a_base_that_can_not_be_checked_holds_and_the_fault_is_reported() {
    let plan = Plan::short().project("ci: {command: ['true']}").top("base: {recheck_s: 600}");
    let house = House::new(&plan);
    std::fs::rename(house.remote(), house.path("away.git")).unwrap();
    house.tick().fine();
    house.item("Greet people");
    let ran = house.tick();
    assert_eq!(ran.code, 3, "{}", ran.json);
    assert!(ran.json["errors"].to_string().contains("checking the base"), "{}", ran.json);
    assert_eq!(held(&house)["rule"], "base_pending");
    let again = house.tick().fine();
    assert_eq!((again.rules(), agents(&house)), (vec!["base_pending".to_owned()], 0), "not asked at each step");
    std::fs::rename(house.path("away.git"), house.remote()).unwrap();
    house.orch(&["retry", "ORCH-1"]).fine();
    until_done(&house);
    assert_eq!(house.table("meta").like("key", "base/unseen/").len(), 0);
}

#[test]
fn ord_1_a_renamed_default_branch_is_followed_once_and_a_configured_one_refused() {
    let plan = Plan::short().project("deploy: {confirm: false}");
    let house = House::new(&plan);
    house.item("Greet people");
    until_done(&house);
    raw(&house.remote(), &["branch", "-m", "main", "trunk"]);
    house.item("Greet them again");
    house.until("done", || {
        house.tick();
        house.task("ORCH-2").filter(|t| t.stage.as_str() == "done")
    });
    assert_eq!(
        (house.alerts("default_branch"), house.events("default_branch_renamed").len()),
        (vec!["demo".into()], 1)
    );
    house.configure(
        &Plan::short().project("git: {remote: ./remote.git, default_branch: main}").project("deploy: {confirm: false}"),
    );
    let text = std::fs::read_to_string(house.path("orch.yaml")).unwrap();
    std::fs::write(house.path("orch.yaml"), text.replacen("    git: {remote: ./remote.git}\n", "", 1)).unwrap();
    house.item("Greet them thrice");
    house.until("blocked", || {
        house.tick();
        house.task("ORCH-3").and_then(|t| t.blocked_reason).filter(|why| why.contains("trunk"))
    });
    assert_eq!(house.alerts("blocked").len(), 1);
}

/// The default branch changes, and the old one stays: waiting and new tasks land on the new one, with one notice.
#[test]
fn ord_1_a_default_branch_that_was_switched_is_followed_while_the_old_one_stays() {
    let house = House::new(&Plan::short().top("limits: {max_concurrency: 2}"));
    house.item("Greet people");
    house.until_task_after_ticks("ORCH-1", |t| t.waiting_for.is_some());
    let old = raw(&house.remote(), &["rev-parse", "main"]);
    raw(&house.remote(), &["branch", "trunk", "main"]);
    raw(&house.remote(), &["symbolic-ref", "HEAD", "refs/heads/trunk"]);
    house.orch(&["advance", "ORCH-1", "--confirm-deploy"]);
    until_done(&house);
    house.item("Greet them again");
    house.until_task_after_ticks("ORCH-2", |t| t.waiting_for.is_some());
    house.orch(&["advance", "ORCH-2", "--confirm-deploy"]);
    house.until_task_after_ticks("ORCH-2", |t| t.stage.as_str() == "done");
    let landed = house.task("ORCH-2").unwrap().landed_sha.unwrap().to_string();
    raw(&house.remote(), &["merge-base", "--is-ancestor", &landed, "trunk"]);
    assert_eq!(raw(&house.remote(), &["rev-parse", "main"]), old, "nothing landed on the one before");
    assert_eq!(
        (house.alerts("default_branch"), house.events("default_branch_switched").len()),
        (vec!["demo".into()], 1)
    );
    // A branch that the configuration names stays, whatever the remote says.
    raw(&house.remote(), &["symbolic-ref", "HEAD", "refs/heads/main"]);
    let text = std::fs::read_to_string(house.path("orch.yaml")).unwrap();
    let named = text.replacen("git: {remote: ./remote.git", "git: {default_branch: trunk, remote: ./remote.git", 1);
    assert_ne!(named, text);
    std::fs::write(house.path("orch.yaml"), named).unwrap();
    house.item("Greet them thrice");
    house.until_task_after_ticks("ORCH-3", |t| t.waiting_for.is_some());
    assert_eq!(house.events("default_branch_switched").len(), 1);
}

#[test]
fn ord_1_a_red_ci_runs_again_on_its_head_where_the_settings_changed_or_a_person_asks() {
    let ci = |what: &str| {
        Plan::short().project(format!("ci: {{command: [sh, -c, '{what}']}}")).top("limits: {developer_retries: 0}")
    };
    let house = House::new(&ci("echo told; exit 3"));
    house.item("Greet people");
    until_blocked(&house, 1);
    let head = house.task("ORCH-1").unwrap().head_sha;
    // A person requests it: red again, so the developer works with a new budget, and is blocked afterwards.
    house.orch(&["retry", "ORCH-1", "--ci"]).fine();
    until_blocked(&house, 2);
    assert_eq!(agents(&house), 2, "one for each round");
    assert_ne!(house.task("ORCH-1").unwrap().head_sha, head);
    let head = house.task("ORCH-1").unwrap().head_sha;
    house.configure(&ci("exit 0"));
    house.orch(&["retry", "ORCH-1"]).fine();
    until_done(&house);
    let done = house.task("ORCH-1").unwrap();
    assert_eq!((agents(&house), done.attempt, done.head_sha), (2, 2, head), "CI alone ran again");
    let over = house.orch(&["retry", "ORCH-1", "--ci"]);
    assert_eq!(over.code, 4, "{}", over.json);
}

/// The script that `ci.command` names comes from the default branch (RULE-23): a fix there counts as a change of the
/// settings.
#[test]
fn ord_1_a_red_ci_runs_again_on_its_head_where_its_script_was_fixed_on_the_default_branch() {
    let plan = Plan::short().project("ci: {command: [./ci.sh]}").top("limits: {developer_retries: 0}");
    let house = House::new(&plan);
    let person = house.path("person");
    let commit = |name: &str, text: &str| {
        raw(&person, &["pull", "-q", "origin", "main"]);
        std::fs::write(person.join(name), text).unwrap();
        std::fs::set_permissions(person.join(name), PermissionsExt::from_mode(0o755)).unwrap();
        raw(&person, &["add", "-A"]);
        raw(&person, &["commit", "-q", "-m", name]);
        raw(&person, &["push", "-q", "origin", "HEAD:main"]);
    };
    commit("ci.sh", "#!/bin/sh\nexit 3\n");
    house.item("Greet people");
    until_blocked(&house, 1);
    // A change of another file there is not: the developer works again.
    commit("notes", "x");
    house.orch(&["retry", "ORCH-1"]).fine();
    until_blocked(&house, 2);
    assert_eq!(agents(&house), 2);
    let head = house.task("ORCH-1").unwrap().head_sha;
    commit("ci.sh", "#!/bin/sh\nexit 0\n");
    house.orch(&["retry", "ORCH-1"]).fine();
    house.until("CI is green on the same head", || {
        house.tick();
        let green = house.table("evidence").with("gate", "ci_green").with("verdict", "pass").texts("sha");
        green.first().cloned().filter(|sha| Some(sha.as_str()) == head.as_ref().map(|h| h.as_str()))
    });
    assert_eq!(agents(&house), 2, "no agent starts");
}

#[test]
fn ord_1_a_red_ci_of_a_changed_machine_is_held_and_counts_for_nothing() {
    let house = House::new(&Plan::short());
    let tool = house.path("tool").display().to_string();
    house.configure(
        &Plan::short()
            .project(format!("ci: {{command: [sh, -c, 'test -e {tool} || exit 127']}}"))
            .top("agents: {runtime: scripted, retry_backoff_s: 60}")
            .top("base: {recheck_s: 600}"),
    );
    // The tool disappears while the agent works.
    let agent = std::fs::read_to_string(house.path("agent.sh")).unwrap();
    house.script("agent.sh", &agent.replace("set -e\n", &format!("set -e\nrm -f {tool}\n")));
    std::fs::write(house.path("tool"), "").unwrap();
    house.item("Greet people");
    let machine = until_held(&house, "environment");
    assert!(machine["why"].as_str().unwrap().contains("this machine has changed"), "{machine}");
    assert_eq!(house.events("base_tried").len(), 2, "before the agent, and for its red CI");
    std::fs::write(house.path("tool"), "").unwrap();
    house.orch(&["retry", "ORCH-1"]).fine();
    until_done(&house);
    assert_eq!((house.task("ORCH-1").unwrap().attempt, agents(&house)), (1, 1));
}

#[test]
fn ord_1_a_stage_is_started_again_by_a_persons_word() {
    let mut plan = Plan::with_analysis();
    plan.project[0] = "stages: [development, review, deploy]".to_owned();
    let house = House::new(&plan);
    let early = house.item("Greet people");
    assert_eq!(early.as_str(), "ORCH-1");
    house.until("it asks", || {
        house.tick();
        house.task("ORCH-1").filter(|t| t.waiting_for.is_some())
    });
    let before = agents(&house);
    assert_eq!(house.orch(&["retry", "ORCH-1", "--from", "testing"]).code, 4);
    assert_eq!(house.orch(&["retry", "ORCH-1", "--from", "created"]).code, 2);
    house.orch(&["retry", "ORCH-1", "--from", "review"]).fine();
    until_done(&house);
    let stages: Vec<String> =
        house.runs("ORCH-1").iter().filter(|r| r.agent.is_some()).map(|r| r.stage.to_string()).collect();
    assert_eq!((before, stages), (2, ["development", "review", "review"].map(str::to_owned).to_vec()));
}

#[test]
fn ord_1_a_remote_or_a_history_that_never_fits_blocks_at_once_with_the_way_out() {
    let house = House::new(&Plan::short());
    house.item("Greet people");
    house.until("it asks", || {
        house.tick();
        house.task("ORCH-1").filter(|t| t.waiting_for.is_some())
    });
    // Somebody replaces the default branch with another history.
    let person = house.path("person");
    raw(&person, &["checkout", "-q", "--orphan", "other"]);
    std::fs::write(person.join("app.txt"), "another program\n").unwrap();
    raw(&person, &["add", "-A"]);
    raw(&person, &["commit", "-q", "-m", "another history"]);
    raw(&person, &["push", "-q", "--force", "origin", "HEAD:main"]);
    house.orch(&["advance", "ORCH-1", "--confirm-deploy"]);
    let why = house.until("blocked", || {
        house.tick();
        house.task("ORCH-1").and_then(|t| t.blocked_reason)
    });
    assert!(why.contains("histor"), "{why}");
    assert!(house.orch(&["explain", "ORCH-1"]).json["moves"].to_string().contains("orch retry ORCH-1"));
    assert_eq!(house.table("leases").set("task_id").len(), 0);
    house.orch(&["stop", "ORCH-1"]);
    // Another repository in its place, whose objects have longer names.
    std::fs::rename(house.remote(), house.path("old.git")).unwrap();
    raw(house.root(), &["init", "-q", "--bare", "-b", "main", "--object-format=sha256", "remote.git"]);
    raw(house.root(), &["init", "-q", "-b", "main", "--object-format=sha256", "long"]);
    raw(&house.path("long"), &["commit", "-q", "--allow-empty", "-m", "first"]);
    raw(&house.path("long"), &["push", "-q", "../remote.git", "main"]);
    house.item("Greet them again");
    let why = house.until("blocked", || {
        house.tick();
        house.task("ORCH-2").and_then(|t| t.blocked_reason)
    });
    assert!(why.contains("SHA-256") && why.contains("git.remote"), "{why}");
    assert_eq!(house.alerts("blocked").len(), 2, "one for each");
}
