//! The main job with agents that misbehave (PIPE-3, PIPE-4, RUN-4, RULE-3, RULE-19, RULE-22).

use super::support::world::Plan;

#[test]
fn a_work_item_travels_from_the_board_to_a_deployed_commit_with_a_person_asked_twice() {
    let w = Plan::new().build();
    let key = w.new_item("Say hello", &[]);
    assert_eq!(w.status(&key), "To Analyse");
    let t = w.rest(&key);
    assert_eq!((t.stage.as_str(), t.waiting.as_deref()), ("analysis", Some("approval")));
    w.until("the board asks", |w| w.status(&key) == "In Review");
    // A message still to be sent would be a change of the step's own.
    w.drive("all is told", |w| w.table("outbox").with("state", "open").is_empty());
    let ran = w.run(&["advance", &key]).code(1);
    assert_eq!(ran.held(&key).unwrap().0, "approval");
    w.run(&["advance", &key, "--confirm-deploy"]).code(4);
    w.run(&["advance", &key.to_lowercase(), "--approve"]).code(0);
    let t = w.rest(&key);
    assert_eq!((t.stage.as_str(), t.waiting.as_deref()), ("deploy", Some("confirm_deploy")));
    w.until("the board asks again", |w| w.status(&key) == "Awaiting Deploy");
    w.run(&["advance", &key, "--approve"]).code(4);
    let ran = w.run(&["advance", &key, "--confirm-deploy"]).code(0);
    assert!(ran.kinds().contains(&"pr_merged".to_owned()), "{}", ran.out);
    let t = w.reach(&key, "done");
    w.until("the board shows it", |w| w.status(&key) == "Done");
    let landed = t.landed.unwrap();
    assert_eq!(w.log("deploys"), [format!("{key} {landed}")]);
    assert_eq!(w.git("orch", &["rev-parse", "main"]), landed);
    assert!(w.git("orch", &["show", &format!("main:src/{key}.txt")]).contains("attempt 1"));
    for stage in ["analysis", "architecture", "development", "review", "testing", "deploy-staging"] {
        assert_eq!(w.runs(&key, stage), 1, "{stage}");
    }
    let status = w.run(&["status"]).code(0).json;
    let row = &status["tasks"][0];
    assert_eq!(
        (row["key"].as_str(), row["stage"].as_str(), row["attempt"].as_i64()),
        (Some(key.as_str()), Some("done"), Some(1))
    );
    for name in ["title", "waiting_for", "blocked_reason", "branch", "project", "cost_usd", "running_job"] {
        assert!(row.get(name).is_some(), "{name}: {row}");
    }
    for name in ["queued", "running", "done", "failed", "cancelled"] {
        assert!(status["queue"][name].is_u64(), "{name}: {}", status["queue"]);
    }
    w.run(&["audit", "verify"]).code(0);
    // By this tick, or by one that ran while the board was awaited.
    w.tick();
    assert_eq!(w.git("orch", &["branch", "--list", "feature/*"]), "", "what landed needs no branch (ORD-6)");
    assert_eq!(w.tick().kinds(), Vec::<String>::new(), "nothing is left to do");
}

#[test]
fn what_a_review_a_test_and_a_red_ci_find_is_verbatim_in_the_next_prompt_and_is_fixed() {
    let w = Plan::new().auto().build();
    // Round 1: CI red. Round 2: review. Round 3: tests. Round 4: all green.
    w.plan("development.1", "develop; echo 'panic at the disco: line 77' > broken; cost 0.01");
    w.plan("development.2", "git rm -qf broken; develop; cost 0.01");
    w.plan(
        "review.1",
        "review REQUEST_CHANGES '1. `src/a`: \"off by one\" & <b>late</b>\n2. héllo 🚀 $(rm -rf /) {{ x }}'; cost 0.01",
    );
    w.plan("testing.1", "tests PASS PASS FAILED '## Failing tests\n\n- sum_of_two: expected 4, got 5'; cost 0.01");
    let key = w.auto("Grow");
    let t = w.reach(&key, "done");
    assert_eq!((t.attempt, w.runs(&key, "development"), w.runs(&key, "review"), w.runs(&key, "testing")), (4, 4, 3, 2));
    let second = w.prompt(&key, "development", 2);
    for part in ["CI-RED: broken is here", "panic at the disco: line 77", "## ci"] {
        assert!(second.contains(part), "{part}\n{second}");
    }
    let third = w.prompt(&key, "development", 3);
    for part in ["1. `src/a`: \"off by one\" & <b>late</b>", "2. héllo 🚀 $(rm -rf /) {{ x }}", "## review"] {
        assert!(third.contains(part), "{part}\n{third}");
    }
    assert!(!third.contains("panic at the disco"), "older findings are gone:\n{third}");
    let fourth = w.prompt(&key, "development", 4);
    assert!(fourth.contains("- sum_of_two: expected 4, got 5") && fourth.contains("## tests"), "{fourth}");
    assert!(!w.prompt(&key, "review", 2).contains("Findings to fix"));
}

#[test]
fn a_run_without_a_fresh_verdict_is_no_verdict_and_the_stage_runs_again_with_the_reason() {
    let w = Plan::new().auto().build();
    w.plan("review.1", "review REQUEST_CHANGES 'Once more.'; cost 0.01");
    // Round 2: an old verdict is on the branch, and this reviewer writes nothing, then an unknown word.
    w.plan("review.2", "cost 0.01");
    w.plan("review.3", "review MAYBE; cost 0.01");
    w.plan("review.4", "printf 'no front matter' > $d/12-review.md; cost 0.01");
    w.plan("testing.1", "cost 0.01");
    w.plan("development.3", "cost 0.01");
    let key = w.auto("Judge");
    let t = w.reach(&key, "done");
    assert_eq!((t.attempt, w.runs(&key, "review"), w.runs(&key, "development"), w.runs(&key, "testing")), (2, 5, 2, 2));
    let third = w.prompt(&key, "review", 3);
    assert!(third.contains("12-review.md is from an earlier attempt"), "{third}");
    let fourth = w.prompt(&key, "review", 4);
    assert!(
        fourth.contains("`verdict` is \"MAYBE\", which is not a verdict; expected APPROVED or REQUEST_CHANGES"),
        "{fourth}"
    );
    assert!(w.prompt(&key, "review", 5).contains("no front matter"));
    assert!(w.prompt(&key, "testing", 2).contains("13-test-report.md: missing"));
}

/// A task that no job works on: whichever step checks it applies what was decided, without anybody's answer.
#[test]
fn rule_6_each_step_rolls_back_what_turned_to_no() {
    for step in ["tick", "reconcile", "reap", "advance"] {
        let w = Plan::new().build();
        let key = w.new_item("Later", &[]);
        w.rest(&key);
        w.until("quiet", |w| w.processes().is_empty());
        w.table("evidence").with("gate", "analysis_complete").put("verdict", "fail");
        let ran = w.run(&[step]);
        assert_eq!(ran.actions("stage_rolled_back").len(), 1, "{step}: {}", ran.out);
        let t = w.task(&key);
        assert_eq!((t.stage.as_str(), t.attempt, t.waiting), ("development", 2, None), "{step}");
    }
}

#[test]
fn rule_9_every_file_that_a_stage_asks_for_is_of_the_present_run() {
    let w = Plan::new().build();
    w.plan("analysis.1", "analysis; rm $d/04-test-plan.md; cost 0.01");
    w.plan("analysis.2", "fm '' > $d/04-test-plan.md; cost 0.01");
    let key = w.new_item("Fresh", &[]);
    assert_eq!(w.rest(&key).waiting.as_deref(), Some("approval"));
    assert_eq!(w.runs(&key, "analysis"), 3);
    let second = w.prompt(&key, "analysis", 2);
    assert!(second.contains("04-test-plan.md: missing") && !second.contains("is from an earlier attempt"), "{second}");
    let third = w.prompt(&key, "analysis", 3);
    for stale in ["01-brief", "02-requirements", "03-acceptance-criteria"] {
        assert!(third.contains(&format!("{stale}.md is from an earlier attempt")), "{third}");
    }
    assert!(!third.contains("04-test-plan.md is"), "{third}");
}

/// A killed reviewer's commits do not count, and a verdict names its run, its file's content and the commit that was
/// judged.
#[test]
fn rule_3_only_a_successful_run_gives_a_verdict_with_run_blob_and_judged_commit() {
    let w = Plan::new().project("stages: [development, review, deploy]").build();
    w.plan(
        "review.1",
        "review APPROVED; git add -A; git -c user.name=x -c user.email=x@x commit -qm approved; kill -KILL $$",
    );
    w.plan("review.2", "review REQUEST_CHANGES 'Not yet.'; cost 0.01");
    let key = w.new_item("Judge", &[]);
    let t = w.rest(&key);
    assert_eq!((t.stage.as_str(), t.attempt, w.runs(&key, "review")), ("deploy", 2, 3));
    let verdicts = w.table("evidence").with("gate", "review_verdict");
    let started = |run: &String| w.table("runs").with("id", run).one("start_sha");
    assert_eq!(verdicts.texts("sha"), verdicts.texts("run_id").iter().map(started).collect::<Vec<_>>());
    let rows = verdicts.lines(&["run_id", "verdict", "detail/blobs/12-review.md"]);
    let ids = w.table("runs").with("stage", "review").with("kind", "agent").texts("id");
    let branch = t.branch.unwrap();
    let path = format!("docs/work-items/{key}/12-review.md");
    let blobs = w.git("orch", &["log", "--format=%H", &branch, "--", &path]);
    let blobs: Vec<String> =
        blobs.lines().rev().map(|c| w.git("orch", &["rev-parse", &format!("{c}:{path}")])).collect();
    assert_eq!(blobs.len(), 2, "the killed run's commit is not pushed");
    assert_eq!(rows, [format!("{} fail {}", ids[1], blobs[0]), format!("{} pass {}", ids[2], blobs[1])]);
}

#[test]
fn agents_that_crash_write_nothing_or_break_off_are_run_again_and_nothing_of_them_stays() {
    let w = Plan::new().auto().build();
    w.plan("analysis.1", "echo half > half-written; kill -SEGV $$");
    w.plan("analysis.2", "echo 'I give up' >&2; exit 7");
    w.plan("analysis.3", "cost 0.01");
    // Commits on its own on another branch, then detached; leaves a daemon that keeps stdout open.
    w.plan(
        "development.1",
        "git checkout -q -b mine; develop; git add -A; git -c user.name=x -c user.email=x@x commit -qm own\n\
         git checkout -q --detach; echo more > src/more; (setsid sleep 300 &) ; cost 0.01",
    );
    // Leaves an unfinished merge.
    w.plan(
        "review.1",
        "git config user.name x; git config user.email x@x; git checkout -q -b other HEAD~1; echo a > app.txt\n\
         git commit -qam a; git checkout -q -b third HEAD~1; echo b > app.txt; git commit -qam b; git merge other || true\n\
         review APPROVED; cost 0.01",
    );
    let key = w.auto("Stumble");
    let t = w.reach(&key, "done");
    assert_eq!(
        (t.attempt, w.runs(&key, "analysis"), w.runs(&key, "development"), w.runs(&key, "review")),
        (1, 4, 1, 2)
    );
    assert!(w.prompt(&key, "analysis", 2).contains("signal 11"), "{}", w.prompt(&key, "analysis", 2));
    let third = w.prompt(&key, "analysis", 3);
    assert!(third.contains("exit code 7") && third.contains("I give up"), "{third}");
    assert!(w.prompt(&key, "analysis", 4).contains("01-brief.md: missing"));
    let files = w.git("orch", &["ls-tree", "-r", "--name-only", "main"]);
    assert!(files.contains("src/more") && !files.contains("half-written"), "{files}");
    assert_eq!(w.git("orch", &["show", "main:app.txt"]), "one\ntwo\nthree");
    assert_eq!(w.git("orch", &["branch", "--list", "mine", "other"]), "", "an agent's own branches are not pushed");
    let left = std::fs::read_to_string(w.state("runs/1/left.patch")).unwrap();
    assert!(left.contains("half-written"), "{left}");
}

#[test]
fn who_changes_what_he_may_not_fails_with_the_paths_and_nothing_of_it_is_pushed() {
    let w = Plan::new().auto().build();
    w.plan("review.1", "echo evil >> app.txt; review APPROVED; cost 0.01");
    w.plan("review.2", "git config user.name x; git config user.email x@x; echo evil > src/evil; git add -A; git commit -qm a; git rm -qf src/evil; git commit -qm b; review APPROVED; cost 0.01");
    w.plan("development.1", "develop; echo 'exit 0' >> ci.sh; cost 0.01");
    let key = w.auto("Trespass");
    let t = w.reach(&key, "done");
    assert_eq!((t.attempt, w.runs(&key, "review"), w.runs(&key, "development")), (1, 2, 2));
    let second = w.prompt(&key, "development", 2);
    assert!(second.contains("the developer may not change ci.sh"), "{second}");
    assert!(w.prompt(&key, "review", 2).contains("the reviewer may not change app.txt"));
    let all = w.git("orch", &["log", "--format=%H", "--all", "--", "src/evil"]);
    assert_eq!(all, "", "no commit of a run that broke the rules was pushed");
    let run = w.table("runs").like("result_why", "may not change app.txt").texts("id").concat();
    let left = std::fs::read_to_string(w.state(&format!("runs/{run}/left.patch"))).unwrap();
    assert!(left.contains("+evil"), "{left}");
}

#[test]
fn spent_retries_block_and_only_retry_lifts_the_block() {
    let w = Plan::new().auto().top("limits: {developer_retries: 1}").agents("run_retries: 1").build();
    w.plan("review", "review REQUEST_CHANGES \"Not yet, round $n.\"; cost 0.01");
    let key = w.auto("Never good");
    let t = w.rest(&key);
    assert_eq!((t.stage.as_str(), t.attempt, w.runs(&key, "review")), ("review", 2, 2));
    let why = t.blocked.clone().unwrap();
    assert!(why.contains("developer attempts are used up"), "{why}");
    w.until("the board shows it", |w| w.status(&key) == "Blocked");
    for _ in 0..2 {
        w.tick();
        w.run(&["reap"]).code(0);
        w.run(&["reconcile", "--full"]).code(0);
        assert_eq!(w.run(&["advance", &key]).code(1).held(&key).unwrap().0, "blocked");
    }
    for status in ["To Analyse", "Approved", "Confirm Deploy", "Development"] {
        w.set_status(&key, status);
        w.tick();
        w.run(&["reconcile"]).code(0);
        assert_eq!(w.task(&key).blocked.as_ref(), Some(&why), "{status}");
    }
    w.until("the indication is back", |w| w.status(&key) == "Blocked");
    assert_eq!(w.runs(&key, "development"), 2);
    w.run(&["retry", &key]).code(0);
    let t = w.rest(&key);
    assert_eq!((t.attempt, w.runs(&key, "review")), (4, 4), "a fresh budget: one rollback, and one more");
    assert!(w.prompt(&key, "development", 3).contains("Not yet, round 2."), "the held findings are handed over");
    // Runs that fail for their own reasons block too, and are unblocked the same way.
    w.plan("review", "exit 3");
    w.run(&["retry", &key]).code(0);
    let t = w.rest(&key);
    assert!(t.blocked.unwrap().contains("the reviewer failed 2 times, the last time:"));
    std::fs::remove_file(w.path("plan/review")).unwrap();
    w.run(&["retry", &key]).code(0);
    w.reach(&key, "done");
    w.run(&["retry", &key]).code(0);
    assert_eq!(w.runs(&key, "development"), 5);
}
