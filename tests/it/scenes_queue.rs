//! Many work items at once: order, limits, dependencies, switches, and many processes of every step (RUN-1 to RUN-3,
//! RULE-24, RULE-25, RULE-27).

use super::support::world::{Plan, World, pause};

/// Stages without the long middle, where only the order matters.
const SHORT: &str = "stages: [analysis, development, deploy]";

#[test]
fn a_batch_in_one_repository_goes_one_by_one_each_from_its_predecessors_merged_code() {
    let w = Plan::new().auto().top("serial_gate: {repos: '*'}\nlimits: {max_concurrency: 4}").project(SHORT).build();
    // Each developer changes the same line: only one that starts from the predecessor's merged code has no conflict.
    w.plan(
        "development",
        "cp app.txt \"$PLAN/seen/base.$ORCH_TASK\"; sed -i \"s/^two.*/two $ORCH_TASK/\" app.txt; cost 0.01",
    );
    let keys: Vec<String> = (0..3).map(|n| w.auto(&format!("Item {n}"))).collect();
    let ran = w.tick();
    assert_eq!(ran.actions("job_started").len(), 1, "{}", ran.out);
    assert_eq!(ran.held(&keys[1]).unwrap().0, "serial_gate");
    for key in &keys {
        w.reach(key, "done");
    }
    let base = |n: usize| std::fs::read_to_string(w.path("plan/seen").join(format!("base.{}", keys[n]))).unwrap();
    assert_eq!(base(0), "one\ntwo\nthree\n");
    assert_eq!(base(1), format!("one\ntwo {}\nthree\n", keys[0]));
    assert_eq!(base(2), format!("one\ntwo {}\nthree\n", keys[1]));
    let order: Vec<String> = w.log("deploys").iter().map(|l| l.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(order, keys);
    for key in &keys {
        assert_eq!(w.task(key).attempt, 1, "{key}");
    }
}

#[test]
fn two_repositories_go_side_by_side_within_the_limit() {
    let w = Plan::new()
        .project(SHORT)
        .and("SIDE")
        .project(SHORT)
        .auto()
        .top("serial_gate: {repos: '*'}\nlimits: {max_concurrency: 2, per_agent: {developer: 1}}")
        .build();
    w.plan("analysis", "hold $ORCH_TASK; good");
    let a = w.new_item("A", &["--label", "autoApprove", "--label", "autoDeploy", "--project", "ORCH"]);
    let b = w.new_item("B", &["--label", "autoApprove", "--label", "autoDeploy", "--project", "SIDE"]);
    let c = w.new_item("C", &["--label", "autoApprove", "--label", "autoDeploy", "--project", "SIDE"]);
    let ran = w.tick();
    assert_eq!(ran.actions("job_started").len(), 2, "{}", ran.out);
    w.at(&a);
    w.at(&b);
    let ran = w.tick();
    assert_eq!(ran.kinds(), Vec::<String>::new());
    assert!(ran.held(&c).is_some(), "{}", ran.out);
    w.plan("development", "hold dev.$ORCH_TASK; good");
    w.go(&a);
    w.until("a developer works", |w| w.path(&format!("plan/at.dev.{a}")).exists());
    w.go(&b);
    w.drive("the other one waits for its developer", |w| {
        let ran = w.tick();
        ran.held(&b).is_some_and(|(rule, _)| rule == "agent_limit")
    });
    for name in [format!("dev.{a}"), format!("dev.{b}"), c.clone(), format!("dev.{c}")] {
        w.go(&name);
    }
    for key in [&a, &b, &c] {
        w.reach(key, "done");
    }
    assert_eq!(w.git("side", &["log", "--merges", "--format=%s", "main"]).lines().count(), 2);
}

#[test]
fn rule_27_blockers_go_first_cycles_are_named_and_unknown_or_cancelled_ones_hold_and_say_so() {
    let w = Plan::new().project(SHORT).auto().top("serial_gate: {repos: '*'}\nlimits: {max_concurrency: 4}").build();
    let labels = ["--label", "autoApprove", "--label", "autoDeploy"];
    let item = |title: &str, more: &[&str]| w.new_item(title, &[&labels[..], more].concat());
    // 1 <- 2 (later in the line) ; 3 <-> 4 ; 5 <- nobody ; 6 <- a cancelled one
    let one = item("one", &["--blocked-by", "ORCH-2", "--draft"]);
    let two = item("two", &["--draft"]);
    let three = item("three", &["--blocked-by", "ORCH-4", "--draft"]);
    let four = item("four", &["--blocked-by", "ORCH-3", "--draft"]);
    let gone = item("gone", &["--draft"]);
    let five = item("five", &["--blocked-by", "ORCH-99", "--draft"]);
    let six = item("six", &["--blocked-by", &gone, "--draft"]);
    for key in [&one, &two, &three, &four, &gone, &five, &six] {
        w.set_status(key, "To Analyse");
    }
    w.run(&["reconcile"]).code(0);
    w.run(&["stop", &gone, "--reason", "not wanted"]).code(0);
    let ran = w.tick();
    let started: Vec<&str> = ran.actions("job_started").iter().map(|a| a["task"].as_str().unwrap()).collect();
    assert_eq!(started, [two.as_str()], "{}", ran.out);
    let why = |key: &String| ran.held(key).unwrap_or_else(|| panic!("{key}: {}", ran.out));
    assert!(why(&one).1.contains(&two), "{:?}", why(&one));
    assert!(why(&three).1.contains("ORCH-3 -> ORCH-4 -> ORCH-3"), "{:?}", why(&three));
    assert_eq!(why(&three).0, "dependencies");
    assert!(why(&five).1.contains("ORCH-99"), "{:?}", why(&five));
    assert!(why(&six).1.contains(&gone) && why(&six).1.contains("cancelled"), "{:?}", why(&six));
    w.reach(&two, "done");
    w.reach(&one, "done");
    // The relation is removed: the cycle opens.
    w.write_item(&three, &w.item(&three).replace("ORCH-4", ""));
    w.reach(&three, "done");
    w.reach(&four, "done");
    assert_eq!(w.task(&five).stage, "created");
    assert_eq!(w.task(&six).stage, "created");
    w.write_item(&five, &w.item(&five).replace("ORCH-99", ""));
    w.reach(&five, "done");
}

#[test]
fn rule_24_halt_lets_nothing_new_start_and_resume_continues() {
    let w = Plan::new().project(SHORT).build();
    let key = w.new_item("Halted", &[]);
    std::fs::create_dir_all(w.state("")).unwrap();
    std::fs::write(w.state("HALT"), "").unwrap();
    let ran = w.tick();
    assert_eq!(ran.actions("job_started").len(), 0);
    assert_eq!(ran.held(&key).unwrap().0, "halt");
    w.run(&["resume"]).code(0);
    w.plan("analysis", "hold a; good");
    w.tick();
    w.at("a");
    w.until("the card and the board are told", |w| w.run(&["tick"]).kinds().is_empty());
    assert_eq!(w.say(&["tick"]).out, "tick: nothing to do now: 1 agent at work\n");
    assert_eq!(w.run(&["tick"]).json["at_work"], serde_json::Value::Null, "for people alone");
    w.run(&["halt", "--reason", "moving house"]).code(0);
    w.go("a");
    w.until("what runs is settled", |w| !w.task(&key).live_job);
    assert_eq!(w.task(&key).waiting.as_deref(), Some("approval"));
    w.run(&["advance", &key, "--approve"]).code(0);
    let ran = w.tick();
    let (rule, why) = ran.held(&key).unwrap();
    assert!(rule == "halt" && why.contains("moving house"), "{why}");
    w.run(&["resume"]).code(0);
    let t = w.rest(&key);
    assert_eq!(t.waiting.as_deref(), Some("confirm_deploy"));
    // Nothing is merged or deployed under HALT, and the person's answer is kept.
    w.run(&["halt"]).code(0);
    w.run(&["advance", &key, "--confirm-deploy"]);
    w.tick();
    assert_eq!((w.log("deploys").len(), w.task(&key).landed), (0, None));
    w.run(&["resume"]).code(0);
    w.reach(&key, "done");
}

/// HALT comes between the claim and the agent's start: the worktree's setup sets it.
#[test]
fn rule_24_a_supervisor_checks_halt_again_right_before_the_agent() {
    let w = Plan::new().project(SHORT).project("worktree: {setup: {command: [./halt.sh]}}").build();
    let halt = w.state("HALT").display().to_string();
    w.person(
        "orch",
        "main",
        &[("halt.sh", &format!("#!/bin/sh\n[ -e {halt}.set ] || {{ : > {halt}.set; echo night > {halt}; }}\n"))],
        "a setup",
    );
    let person = w.path("orch");
    crate::support::git::raw(&person, &["update-index", "--chmod=+x", "halt.sh"]);
    crate::support::git::raw(&person, &["commit", "-q", "--amend", "--no-edit"]);
    crate::support::git::raw(&person, &["push", "-q", "-f", "origin", "HEAD:refs/heads/main"]);
    let key = w.new_item("Halted", &[]);
    assert_eq!(w.tick().actions("job_started").len(), 1);
    w.until("the run is settled", |w| w.table("runs").texts("result") != [""]);
    assert_eq!(w.table("runs").lines(&["result", "result_why"]), ["again halted before it started: night"]);
    assert_eq!((w.runs(&key, "analysis"), w.table("jobs").with("spent", 1).len()), (0, 0));
    assert_eq!(w.tick().held(&key).unwrap().0, "halt");
    w.run(&["resume"]).code(0);
    assert_eq!(w.rest(&key).waiting.as_deref(), Some("approval"));
}

#[test]
fn rule_25_costs_are_booked_before_and_after_a_run() {
    let w = Plan::new()
        .project(SHORT)
        .auto()
        .agents("max_cost_usd: 1")
        .top("limits: {max_cost_usd_per_task: 1.5, max_concurrency: 2}")
        .build();
    // The analyst reports no cost: its cap is booked, so the developer's cap does not fit any more.
    w.plan("ORCH-1.analysis", "analysis");
    let dear = w.auto("Dear");
    let cheap = w.auto("Cheap");
    w.reach(&cheap, "done");
    w.drive("it waits for its cost", |w| w.tick().held(&dear).is_some_and(|(rule, _)| rule == "task_cost"));
    let (_, why) = w.tick().held(&dear).unwrap();
    assert!(why.contains("$1.00 booked") && why.contains("$1.50"), "{why}");
    assert_eq!(w.task(&dear).stage, "development");
    assert_eq!(w.runs(&dear, "development"), 0);
}

/// All of them at once, again and again, for some seconds: each job starts once, no limit is exceeded.
#[test]
fn eight_processes_of_every_step_start_each_job_once_and_pass_no_limit() {
    let w = Plan::new().project(SHORT).and("SIDE").project(SHORT).auto().top("limits: {max_concurrency: 2}").build();
    // Every agent records its start and end; more than two at once would show here.
    for stage in ["analysis", "development"] {
        w.plan(
            stage,
            "mkdir \"$PLAN/busy.$ORCH_TASK.$ORCH_STAGE.$n\"; ls -d \"$PLAN\"/busy.* | wc -l >> \"$PLAN/most\"; sleep 0.2\n\
             rmdir \"$PLAN/busy.$ORCH_TASK.$ORCH_STAGE.$n\"; good",
        );
    }
    let keys: Vec<String> = (0..3)
        .flat_map(|n| ["ORCH", "SIDE"].map(|p| (n, p)))
        .map(|(n, p)| {
            w.new_item(&format!("Item {n}"), &["--label", "autoApprove", "--label", "autoDeploy", "--project", p])
        })
        .collect();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|s| {
        for n in 0..8 {
            let (w, done) = (&w, &done);
            s.spawn(move || {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let step = [&["tick"][..], &["reap"], &["reconcile"], &["advance"]][n % 4];
                    let ran = w.run(step);
                    assert!(ran.code == 0, "{step:?} {}: {} {}", ran.code, ran.out, ran.err);
                    pause(10);
                }
            });
        }
        let all = |w: &World| keys.iter().all(|k| w.find(k).is_some_and(|t| t.stage == "done"));
        let end = std::time::Instant::now() + std::time::Duration::from_secs(90);
        while !all(&w) && std::time::Instant::now() < end {
            pause(50);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(all(&w), "{}", w.dump());
    });
    for key in &keys {
        assert_eq!(
            (w.runs(key, "analysis"), w.runs(key, "development"), w.task(key).attempt),
            (1, 1, 1),
            "{key}\n{}",
            w.dump()
        );
    }
    let most = std::fs::read_to_string(w.path("plan/most")).unwrap();
    assert!(most.lines().all(|l| l.trim().parse::<u32>().unwrap() <= 2), "{most}");
    let once = |all: Vec<String>| all.len() == all.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert!(once(w.table("runs").without("kind", "ci").lines(&["task_id", "stage", "kind"])), "{}", w.dump());
    assert!(once(w.table("audit").with("event", "job_started").texts("detail/job")), "{}", w.dump());
    let deploys: std::collections::BTreeSet<String> = w.log("deploys").into_iter().collect();
    assert_eq!((deploys.len(), w.log("deploys").len()), (6, 6), "each is deployed once");
    w.run(&["audit", "verify"]).code(0);
}
