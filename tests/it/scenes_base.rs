//! The base is tried before an agent is paid (ORD-1, RULE-24, RULE-45).

use crate::support::git::raw;
use crate::support::house::{House, Plan};
use serde_json::Value;

/// CI that logs what it was called for, and exits as the commit's file `state` says.
fn ci(house: &House) -> String {
    let log = house.path("ci-calls");
    format!(
        "ci: {{command: [sh, -c, 'echo \"$ORCH_STAGE:$ORCH_TASK:$ORCH_REVISION\" >> {}; echo looking; cat state; exit $(cat state)']}}",
        log.display()
    )
}

fn house(further: &[&str]) -> House {
    let plan = Plan::short();
    let house = House::new(&plan);
    let mut plan = plan.project(ci(&house)).top("base: {recheck_s: 600}");
    for line in further {
        plan = plan.project(*line);
    }
    house.configure(&plan);
    house
}

/// A person's commit on the default branch.
fn commit(house: &House, state: &str) -> String {
    commit_file(house, "state", state)
}

fn commit_file(house: &House, name: &str, text: &str) -> String {
    let person = house.path("person");
    raw(&person, &["fetch", "-q"]);
    raw(&person, &["reset", "-q", "--hard", "origin/main"]);
    std::fs::write(person.join(name), text).unwrap();
    std::fs::set_permissions(person.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    raw(&person, &["add", "-A"]);
    raw(&person, &["commit", "-q", "-m", "state"]);
    raw(&person, &["push", "-q", "origin", "HEAD:main"]);
    raw(&person, &["rev-parse", "HEAD"])
}

fn calls(house: &House, of: &str) -> Vec<String> {
    let text = std::fs::read_to_string(house.path("ci-calls")).unwrap_or_default();
    text.lines().filter(|l| l.starts_with(of)).map(str::to_owned).collect()
}

fn base(house: &House) -> Value {
    house.orch(&["status"]).fine().json["base"][0].clone()
}

/// Ticks until the base is in this state.
fn until(house: &House, state: &str) -> Value {
    house.until(state, || {
        house.tick();
        Some(base(house)).filter(|b| b["state"] == state)
    })
}

fn agents(house: &House) -> usize {
    house.runs("ORCH-1").len()
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

#[test]
fn ord_1_no_agent_is_paid_on_a_red_base_and_a_fixed_one_lets_it_start() {
    let house = house(&["worktree: {setup: {command: [sh, -c, 'echo set-up']}}"]);
    let broken = commit(&house, "1");
    house.item("Greet people");
    let first = house.tick().fine();
    assert!(first.rules().contains(&"base_pending".to_owned()), "{:?}", first.rules());
    let red = until(&house, "red");
    assert_eq!((red["commit"].as_str(), red["repo"].as_str()), (Some(broken.as_str()), Some("demo")));
    assert!(red["why"].as_str().unwrap().contains("ci.command"), "{red}");
    assert_eq!(calls(&house, "base"), [format!("base::{broken}")], "no task, its own stage, its revision");
    // Held by its rule, reported once, tried once.
    for _ in 0..3 {
        assert_eq!(house.tick().fine().rules(), ["base_red"]);
    }
    assert_eq!((agents(&house), calls(&house, "base").len()), (0, 1));
    assert_eq!(house.alerts("base_red"), ["demo"]);
    let alerts_sent = house.table("outbox").like("key", "alert/base_red/").texts("payload/detail");
    assert!(
        alerts_sent[0].contains("exit 1")
            && alerts_sent[0].contains("looking")
            && alerts_sent[0].contains("orch explain ORCH-1")
    );
    let explained = house.orch(&["explain", "ORCH-1"]).fine().json;
    assert_eq!(explained["held_by"]["rule"], "base_red");
    assert!(explained["base"].to_string().contains("looking"), "{explained}");
    assert!(explained["moves"].to_string().contains("--on-red-base"), "{explained}");
    let (_, log, _) = house.text(&["logs", "--base", "demo"]);
    assert!(log.contains("set-up") && log.contains("looking"), "{log}");
    // A retry tries it at once; the same red is not reported again.
    house.orch(&["retry", "ORCH-1"]).fine();
    until(&house, "red");
    assert_eq!((calls(&house, "base").len(), house.alerts("base_red").len()), (2, 1));
    // Fixed: the task continues automatically.
    commit(&house, "0");
    until_done(&house);
    assert_eq!(house.alerts("base_green"), ["demo"]);
    assert_eq!(house.runs("ORCH-1").iter().filter(|r| r.agent.is_some()).count(), 1);
}

#[test]
fn ord_1_what_passed_at_the_merge_gate_is_not_tried_again_and_an_idle_tick_tries_nothing() {
    let house = house(&["deploy: {confirm: false}"]);
    commit(&house, "0");
    for _ in 0..2 {
        house.tick().fine();
    }
    assert_eq!(base(&house)["state"], "untried");
    assert!(!house.path("state/base").exists() && !house.path("state/repos").exists(), "an idle tick does nothing");
    house.item("Greet people");
    until_done(&house);
    assert_eq!(calls(&house, "base").len(), 1);
    house.item("Greet them again");
    house.until("done", || {
        house.tick();
        house.task("ORCH-2").filter(|t| t.stage.as_str() == "done")
    });
    assert_eq!(calls(&house, "base").len(), 1, "the landed tree had passed");
    assert_eq!(base(&house)["state"], "green");
}

#[test]
fn ord_1_a_missing_program_is_environment_and_a_person_may_start_on_a_red_base() {
    let plan = Plan::short().project("ci: {command: [sh, -c, 'no-such-program']}").top("base: {recheck_s: 600}");
    let house = House::new(&plan);
    house.item("Greet people");
    let away = until(&house, "environment");
    assert!(away["why"].as_str().unwrap().contains("127"), "{away}");
    assert!(house.tick().fine().rules().contains(&"environment".to_owned()));
    assert_eq!((agents(&house), house.alerts("base_red").len()), (0, 0));
    // Other settings make another verdict on the same commit.
    house.configure(&Plan::short().project("ci: {command: [sh, -c, 'exit 3']}").top("base: {recheck_s: 600}"));
    until(&house, "red");
    assert_eq!(agents(&house), 0);
    house.orch(&["retry", "ORCH-1", "--on-red-base"]).fine();
    house.until("an agent", || {
        house.tick();
        (agents(&house) > 0).then_some(())
    });
    assert_eq!(house.events("starts_on_red_base").len(), 1);
    // Off: no row counts and nothing is tried.
    house.configure(&Plan::short().project("ci: {command: [sh, -c, 'exit 3']}"));
    assert_eq!(base(&house)["state"], "not_applicable");
}

#[test]
fn rule_20_a_base_check_whose_supervisor_was_killed_is_repeated() {
    let plan = Plan::short()
        .project("ci: {command: [sh, -c, 'test -e ../../../../again || sleep 600']}")
        .top("base: {recheck_s: 600}");
    let house = House::new(&plan);
    house.item("Greet people");
    house.until("it runs", || {
        house.tick();
        (base(&house)["state"] == "running" && house.path("state/base/demo/ci.log").exists()).then_some(())
    });
    let owner: Value = serde_json::from_str(&house.meta("base/row/demo").unwrap()).unwrap();
    let pid = i32::try_from(owner["owner"]["pid"].as_i64().unwrap()).unwrap();
    std::fs::write(house.path("again"), "").unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    // Its claim is older than any start takes.
    house.until("taken back", || {
        house.table("meta").with("key", "base/row/demo").with("value/state", "running").put("value/since", 1);
        house.tick();
        (base(&house)["state"] != "running").then_some(())
    });
    until(&house, "green");
}

#[test]
fn ord_1_setup_runs_before_ci_and_before_staging_checks_and_fails_as_ci() {
    let agent = "#!/bin/sh\nset -e\necho \"$ORCH_ATTEMPT\" >> app.txt\nrm -f stop\ntest \"$ORCH_ATTEMPT\" != 1 || echo x > stop\necho '{\"cost_usd\": 0.01}'\n";
    let mut plan = Plan::short();
    agent.clone_into(&mut plan.agent);
    plan.project[0] = "stages: [development, deploy-staging, deploy]".to_owned();
    let plan = plan
        .project("worktree: {setup: {command: [sh, -c, 'echo looked; test ! -e stop || exit 7; echo x > made']}}")
        .project("ci: {command: [test, -e, made]}")
        .project("staging: {checks: [{id: S1, name: made, kind: command, command: [test, -e, made]}]}")
        .project("deploy: {confirm: false}");
    let house = House::new(&plan);
    house.item("Greet people");
    until_done(&house);
    let said = house.table("evidence").among("gate", &["ci_green", "staging_status"]).texts("why");
    assert!(said[0].contains("worktree.setup: exit 7"), "{said:?}");
    assert!(said[1].contains("ci.command passed") && said[2].contains("checks passed"), "{said:?}");
    let sent_back = house.events("stage_rolled_back")[0].to_string();
    assert!(sent_back.contains("looked"), "the developer reads its log: {sent_back}");
    // Setup fails before its second run, too: the task that has to fix it may start.
    assert_eq!(house.runs("ORCH-1").iter().filter(|r| r.agent.is_some()).count(), 2);
}

#[test]
fn rule_25_a_run_whose_program_or_setup_did_not_start_books_nothing() {
    let plan = Plan::short()
        .top("agents: {runtime: scripted, max_cost_usd: 5, retry_backoff_s: 0}")
        .top("limits: {max_cost_usd_per_task: 6}");
    let house = House::new(&plan);
    let missing = "runtimes: {scripted: {kind: command, command: [no-such-program]}}";
    house.configure(&Plan { top: [plan.top.clone(), vec![missing.to_owned()]].concat(), ..Plan::short() });
    house.item("Greet people");
    house.until("a run that found no program", || {
        house.tick();
        house.runs("ORCH-1").iter().any(|r| r.cost_micros == Some(0)).then_some(())
    });
    house.configure(&Plan {
        top: plan.top.clone(),
        ..Plan::short().project("worktree: {setup: {command: [sh, -c, 'exit 9']}}")
    });
    let of_setup = |house: &House| house.runs("ORCH-1").iter().filter(|r| r.cost_micros == Some(0)).count();
    let before = of_setup(&house);
    house.until("a run whose setup failed", || {
        house.tick();
        (of_setup(&house) > before).then_some(())
    });
    // By now two runs at $5 each would exceed the task's limit.
    house.configure(&plan);
    house.orch(&["retry", "ORCH-1"]);
    until_done(&house);
}

/// The script itself exits 0, and only the seal shows that it is another one.
#[test]
fn bnd_5_a_base_whose_protected_script_changes_while_it_runs_is_red() {
    let plan = Plan::short().project("ci: {command: [./ci.sh]}").top("base: {recheck_s: 600}");
    let house = House::new(&plan);
    let other = "printf '#!/bin/sh\\nexit 0\\n' > other; chmod 755 other; mv other ci.sh";
    commit_file(&house, "ci.sh", &format!("#!/bin/sh\n{other}\nexit 0\n"));
    house.item("Greet people");
    let red = until(&house, "red");
    let why = red["why"].as_str().unwrap();
    assert_eq!(why, "ci.command: the protected script ci.sh was changed while it ran");
    assert_eq!(agents(&house), 0);
}
