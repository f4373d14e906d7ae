//! Changes in the repository next to the pipeline: people push, the default branch moves (PIPE-4, SHIP-2, RULE-4,
//! RULE-11).

use super::support::git::{commit_in, raw};
use super::support::world::{Plan, World};

/// A world in which a task waits for Confirm Deploy.
fn parked(more: &str) -> (World, String) {
    let w = Plan::new().project(more).build();
    let key = w.new_item("Parked", &[]);
    w.rest(&key);
    w.run(&["advance", &key, "--approve"]).code(0);
    let t = w.rest(&key);
    assert_eq!((t.stage.as_str(), t.waiting.as_deref()), ("deploy", Some("confirm_deploy")), "{t:?}");
    w.until("quiet", |w| w.processes().is_empty());
    (w, key)
}

#[test]
fn rule_4_a_persons_push_while_parked_goes_back_to_the_stage_whose_verdict_no_longer_holds() {
    let (w, key) = parked("");
    let branch = w.task(&key).branch.unwrap();
    let pushed = w.person("orch", &branch, &[("src/by-hand", "sneaked in\n")], "by hand");
    let ran = w.run(&["advance", &key, "--confirm-deploy"]);
    assert!(!ran.kinds().contains(&"pr_merged".to_owned()), "{}", ran.out);
    assert_eq!(w.log("deploys"), Vec::<String>::new());
    // What the person pushed is judged afresh: CI, review, tests, staging; then a person is asked again.
    let t = w.rest(&key);
    assert_eq!((t.stage.as_str(), t.waiting.as_deref(), t.attempt), ("deploy", Some("confirm_deploy"), 1), "{t:?}");
    assert_eq!(
        (w.runs(&key, "development"), w.runs(&key, "review"), w.runs(&key, "testing"), w.runs(&key, "deploy-staging")),
        (1, 2, 2, 2)
    );
    assert!(w.git("orch", &["log", "--format=%H", &branch]).contains(&pushed), "the person's commit stays");
    w.run(&["advance", &key, "--confirm-deploy"]).code(0);
    w.reach(&key, "done");
    assert_eq!(w.git("orch", &["show", "main:src/by-hand"]), "sneaked in");
}

#[test]
fn a_branch_updated_to_a_moved_default_branch_is_tested_again_and_keeps_its_review_only_with_equal_patches() {
    let (w, key) = parked("stages: [analysis, development, review, deploy]");
    let before = w.log("ci").len();
    let moved = w.person("orch", "main", &[("other.txt", "beside\n")], "beside");
    w.run(&["advance", &key, "--confirm-deploy"]);
    w.drive("it lands", |w| {
        let t = w.task(&key);
        // If the update made a person's answer void, it is asked for again.
        if t.waiting.is_some() && !t.live_job {
            w.run(&["advance", &key, "--confirm-deploy"]);
        }
        t.stage == "done"
    });
    assert_eq!(w.runs(&key, "review"), 1, "every patch is equal: the review is carried\n{}", w.dump());
    assert_eq!(w.log("ci").len(), before + 1, "CI looked at the new head");
    let landed = w.task(&key).landed.unwrap();
    assert!(w.git("orch", &["log", "--format=%H", &landed]).contains(&moved));
    assert_eq!(w.git("orch", &["show", "main:other.txt"]), "beside");
}

#[test]
fn a_conflict_goes_back_to_development_with_its_paths_and_the_rework_lands() {
    let w = Plan::new().project("stages: [analysis, development, deploy]").build();
    w.plan("development.1", "sed -i 's/^two.*/two by the agent/' app.txt; cost 0.01");
    w.plan(
        "development.2",
        "grep -q '^<<<<<<< ' app.txt && grep -q 'by a person' app.txt && grep -q 'by the agent' app.txt && exit_marked=1\n\
         test \"$exit_marked\" = 1 || exit 9\n\
         printf 'one\\ntwo by both\\nthree\\n' > app.txt; cost 0.01",
    );
    let key = w.new_item("Conflict", &[]);
    w.rest(&key);
    w.run(&["advance", &key, "--approve"]).code(0);
    w.rest(&key);
    w.person("orch", "main", &[("app.txt", "one\ntwo by a person\nthree\n")], "mine");
    w.run(&["advance", &key, "--confirm-deploy"]);
    w.drive("it is worked on again", |w| w.runs(&key, "development") == 2);
    let t = w.rest(&key);
    assert_eq!((t.attempt, t.stage.as_str()), (2, "deploy"), "{t:?}\n{}", w.dump());
    let prompt = w.prompt(&key, "development", 2);
    assert!(prompt.contains("merge conflict") && prompt.contains("app.txt"), "{prompt}");
    w.run(&["advance", &key, "--confirm-deploy"]).code(0);
    w.reach(&key, "done");
    assert_eq!(w.git("orch", &["show", "main:app.txt"]), "one\ntwo by both\nthree");
}

#[test]
fn a_branch_that_is_a_persons_is_never_taken_and_a_deleted_one_holds_the_task() {
    let w = Plan::new().project("stages: [analysis, development, deploy]").build();
    let base = w.git("orch", &["rev-parse", "main"]);
    w.git("orch", &["branch", "feature/ORCH-1-mine", &base]);
    let key = w.new_item("Mine", &[]);
    let t = w.rest(&key);
    assert_eq!(t.branch.as_deref(), Some("feature/ORCH-1-mine-o1"), "{t:?}");
    assert_eq!(w.git("orch", &["rev-parse", "feature/ORCH-1-mine"]), base);
    w.run(&["advance", &key, "--approve"]).code(0);
    w.rest(&key);
    // Deleted by a person: held and reported; restored and retried, it continues.
    let branch = w.task(&key).branch.unwrap();
    let head = w.git("orch", &["rev-parse", &branch]);
    w.git("orch", &["update-ref", "-d", &format!("refs/heads/{branch}")]);
    w.run(&["advance", &key, "--confirm-deploy"]);
    w.drive("it is held", |w| w.task(&key).withdrawn.is_some());
    assert!(w.task(&key).withdrawn.unwrap().contains("\"branch_gone\""));
    assert_eq!(w.log("deploys").len(), 0);
    w.git("orch", &["update-ref", &format!("refs/heads/{branch}"), &head]);
    w.run(&["retry", &key]).code(0);
    w.drive("it lands", |w| {
        let t = w.task(&key);
        if t.waiting.is_some() && !t.live_job {
            w.run(&["advance", &key, "--confirm-deploy"]);
        }
        t.stage == "done"
    });
    // A person's commit on the branch of a stopped task: the branch is kept, and a message says so.
    let second = w.new_item("Kept", &[]);
    w.rest(&second);
    let branch = w.task(&second).branch.unwrap();
    let by_hand = w.person("orch", &branch, &[("src/x", "mine\n")], "mine");
    w.run(&["stop", &second]).code(0);
    assert_eq!(w.git("orch", &["rev-parse", &branch]), by_hand);
    assert!(w.item(&second).contains("is kept"), "{}", w.item(&second));
}

#[test]
fn a_failed_deploy_is_reworked_from_what_is_merged_and_rejections_go_where_they_should() {
    let w = Plan::new().project("stages: [analysis, development, deploy]").build();
    w.plan("development.1", "develop; echo x > no-deploy; cost 0.01");
    w.plan("development.3", "git rm -qf no-deploy; develop; cost 0.01");
    let key = w.new_item("Fails", &[]);
    w.run(&["advance", &key, "--reject", "early"]).code(2);
    w.run(&["reconcile"]).code(0);
    w.run(&["advance", &key, "--reject", "early"]).code(4);
    w.rest(&key);
    w.run(&["advance", &key, "--reject", "Say what for."]).code(0);
    w.rest(&key);
    assert!(w.prompt(&key, "analysis", 2).contains("Say what for."));
    assert_eq!(w.task(&key).attempt, 1);
    w.run(&["advance", &key, "--approve"]).code(0);
    w.rest(&key);
    w.run(&["advance", &key, "--reject", "Not \"pretty\" enough\nat all."]).code(0);
    let t = w.rest(&key);
    assert_eq!((t.stage.as_str(), t.attempt), ("deploy", 2));
    assert!(w.prompt(&key, "development", 2).contains("Not \"pretty\" enough\nat all."));
    let first = t.branch.unwrap();
    w.run(&["advance", &key, "--confirm-deploy"]).code(0);
    w.drive("the rework", |w| w.runs(&key, "development") == 3);
    let t = w.rest(&key);
    assert_eq!((t.stage.as_str(), t.attempt), ("deploy", 3), "{t:?}");
    assert_ne!(t.branch.clone().unwrap(), first);
    assert!(w.prompt(&key, "development", 3).contains("the deploy fails"), "{}", w.prompt(&key, "development", 3));
    w.run(&["advance", &key, "--confirm-deploy"]).code(0);
    w.reach(&key, "done");
    assert_eq!(w.log("deploys").len(), 2);
    assert_eq!(w.git("orch", &["log", "--merges", "--format=%s", "main"]).lines().count(), 2, "a second pull request");
}

#[test]
fn a_rejection_ends_the_run_at_work_and_what_it_would_have_said_counts_for_nothing() {
    let w = Plan::new().project("stages: [development, review, deploy]").build();
    w.plan("review.1", "review APPROVED; (setsid sleep 600 &); hold review; cost 0.01");
    let key = w.new_item("Rejected", &[]);
    w.drive("the reviewer works", |w| w.path("plan/at.review").exists());
    let head = w.task(&key).head;
    let ran = w.run(&["advance", &key, "--reject", "Stop: it is the wrong thing."]).code(0);
    assert_eq!(ran.actions("job_cancelled").len(), 1, "{}", ran.out);
    assert_eq!(ran.actions("stage_rolled_back").len(), 1, "{}", ran.out);
    w.go("review");
    let t = w.rest(&key);
    assert_eq!((t.stage.as_str(), t.attempt, w.runs(&key, "review")), ("deploy", 2, 2), "{t:?}");
    assert!(w.prompt(&key, "development", 2).contains("Stop: it is the wrong thing."));
    assert_ne!(t.head, head);
    w.until("nothing is left of the run", |w| w.processes().is_empty());
    assert_eq!(w.table("evidence").with("gate", "review_verdict").len(), 1);
}

/// The branch moved under a run: its commits are discarded, nothing is spent, and the next run begins at the new head.
#[test]
fn rule_22_a_rejected_push_discards_the_run_and_begins_at_the_new_head() {
    let w = Plan::new().project("stages: [development, deploy]").build();
    w.plan("development.1", "develop; hold dev; cost 0.01");
    let key = w.new_item("Moved", &[]);
    w.drive("the developer works", |w| w.path("plan/at.dev").exists());
    let branch = w.task(&key).branch.unwrap();
    let pushed = w.person("orch", &branch, &[("src/by-hand", "mine\n")], "by hand");
    w.go("dev");
    let t = w.rest(&key);
    assert_eq!((t.stage.as_str(), t.attempt, w.runs(&key, "development")), ("deploy", 1, 2), "{t:?}\n{}", w.dump());
    assert_eq!(w.table("jobs").with("spent", 1).len(), 0);
    assert_eq!(w.table("runs").with("kind", "agent").last("start_sha"), pushed.as_str());
    let text = w.git("orch", &["show", &format!("{branch}:src/{key}.txt")]);
    assert!(text.contains("run 2") && !text.contains("run 1"), "{text}");
}

/// A remote whose HEAD names none of its branches is not empty: the fix is to name one (ORD-1).
#[test]
fn ord_1_a_remote_that_names_no_default_branch_is_reported_with_its_branches() {
    for detached in [false, true] {
        let w = World::new();
        match detached {
            true => w.git("orch", &["update-ref", "--no-deref", "HEAD", "refs/heads/main"]),
            false => w.git("orch", &["symbolic-ref", "HEAD", "refs/heads/trunk"]),
        };
        let key = w.new_item("Nameless", &[]);
        w.drive("it is blocked", |w| w.find(&key).is_some_and(|t| t.blocked.is_some()));
        let why = w.task(&key).blocked.unwrap();
        assert!(why.contains("git.default_branch") && why.contains("(main)") && !why.contains("empty"), "{why}");
        w.git("orch", &["symbolic-ref", "HEAD", "refs/heads/main"]);
        w.run(&["retry", &key]).code(0);
        assert_eq!(w.rest(&key).waiting.as_deref(), Some("approval"));
    }
}

/// BND-5: a submodule of the base may be moved; its commit is no file of this repository, and nothing of it is read
/// here.
#[test]
fn bnd_5_a_submodule_that_a_run_moves_is_pushed_as_its_commit() {
    let w = Plan::new()
        .project("stages: [development, deploy]")
        .project("worktree: {setup: {command: [git, -c, protocol.file.allow=always, submodule, update, --init]}}")
        .build();
    let (lib, person) = (w.path("lib"), w.path("orch"));
    raw(&w.dir, &["init", "-q", "-b", "main", "lib"]);
    let first = commit_in(&lib, &[("lib.txt", "lib\n")], "lib");
    let newer = commit_in(&lib, &[("lib.txt", "more\n")], "more");
    raw(&person, &["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", lib.to_str().unwrap(), "vendor"]);
    raw(&person.join("vendor"), &["checkout", "-q", first.as_str()]);
    commit_in(&person, &[("x", "x")], "a submodule");
    raw(&person, &["push", "-q", "origin", "HEAD:main"]);
    w.plan("development", &format!("git -C vendor checkout -q {newer}; good"));
    let key = w.new_item("Moves it", &[]);
    let t = w.rest(&key);
    assert_eq!((t.stage.as_str(), w.runs(&key, "development")), ("deploy", 1), "{t:?}\n{}", w.dump());
    let there = w.git("orch", &["rev-parse", &format!("{}:vendor", t.branch.unwrap())]);
    assert_eq!(there.trim(), newer.as_str());
}
