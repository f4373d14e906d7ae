//! Somebody else changes the default branch, the branch or the pull request: what lands, what freezes, what is held
//! (RULE-5, RULE-28, RULE-31), whatever the person, the method and the moment.

use crate::support::git::{World, raw};
use crate::support::pipe::{Pipe, Setup};
use orch::adapters::git::line::Ours;
use orch::decide::landing::{Landing, judge};
use orch::model::ids::Sha;
use orch::model::landing::{BranchSeen, PullSeen, Seen};
use std::path::Path;

const PARKED: &str = "deploy: {confirm: true, command: [./deploy.sh], env: {TARGET: PROD}}";

fn pipe(project: &str) -> Pipe {
    Pipe::new(Setup { project: project.into(), ..Setup::default() })
}

fn park(pipe: &Pipe, key: &str) {
    pipe.until("the parking", |p| p.of(key, "waiting_for") == "confirm_deploy");
}

fn confirm(pipe: &Pipe, key: &str) {
    let said = pipe.orch(&["advance", key, "--confirm-deploy"]);
    assert!(said.code <= 1, "{}", said.all());
}

/// How a person merges a branch into the default branch.
const METHODS: [&str; 6] = ["merge", "squash", "rebase", "cherry-pick", "fast-forward", "merge main, then push"];

/// In a clone on the default branch's tip. `false`: the method can't (no fast-forward).
fn by_hand(clone: &Path, method: &str, branch: &str, base: &str) -> bool {
    let theirs = format!("origin/{branch}");
    match method {
        "merge" => drop(raw(clone, &["merge", "-q", "--no-ff", "-m", "by hand", &theirs])),
        "squash" => {
            raw(clone, &["merge", "-q", "--squash", &theirs]);
            raw(clone, &["commit", "-q", "-m", "squashed by hand"]);
        }
        "rebase" => {
            raw(clone, &["checkout", "-q", "-B", "work", &theirs]);
            raw(clone, &["rebase", "-q", "origin/main"]);
        }
        "cherry-pick" => drop(raw(clone, &["cherry-pick", &format!("{base}..{theirs}")])),
        "fast-forward" => {
            raw(clone, &["checkout", "-q", "-B", "work", &theirs]);
            return raw(clone, &["merge-base", theirs.as_str(), "origin/main"])
                == raw(clone, &["rev-parse", "origin/main"]);
        }
        _ => {
            raw(clone, &["checkout", "-q", "-B", "work", &theirs]);
            raw(clone, &["merge", "-q", "--no-edit", "origin/main"]);
        }
    }
    true
}

/// Every method: on the tested base, over a base that moved, and with somebody else's commit on top. The result is the
/// commit of the line with the tested tree, or untested; never the tip, never the branch's head.
#[test]
fn rule_5_every_merger_and_method_is_judged_by_the_first_parent_line() {
    for method in METHODS {
        for (moved, later) in [(false, false), (false, true), (true, false), (true, true)] {
            let name = format!("{method}, base moved {moved}, another commit later {later}");
            let world = World::new();
            let person = world.person();
            let base = raw(&person, &["rev-parse", "HEAD"]);
            world.switch("b", &base);
            world.commit(&[("one", "1\n")], "ORCH-1: development (attempt 1)");
            world.commit(&[("two", "2\n")], "ORCH-1: review (attempt 1)");
            world.push("b");
            let head = raw(&person, &["rev-parse", "HEAD"]);
            world.switch("main", &base);
            if moved {
                world.commit(&[("theirs", "x\n")], "somebody else's");
                world.push("main");
            }
            raw(&person, &["fetch", "-q", "origin"]);
            if !by_hand(&person, method, "b", &base) {
                continue;
            }
            world.push("main");
            let landed = raw(&person, &["rev-parse", "HEAD"]);
            if later {
                world.commit(&[("later", "y\n")], "later");
                world.push("main");
            }
            let mirror = world.mirror();
            let sha = |text: &str| Sha::parse(text).unwrap();
            let (base, head) = (sha(&base), sha(&head));
            let tip = mirror.tracking("main").unwrap().unwrap();
            let pushed = [head.clone()];
            let line = mirror.line(&base, &tip, Ours { head: &head, pushed: &pushed, others: &[] }).unwrap();
            for branch in [BranchSeen::AtHead, BranchSeen::Gone { branch: "b".into() }] {
                let seen = Seen { line: line.clone(), pull: PullSeen::None, branch, released: true };
                match judge(&seen) {
                    Landing::Landed { commit } => {
                        // The head itself stays on the line if the person merged into the branch.
                        let own_line = moved && method == "merge main, then push";
                        assert!(!moved || own_line, "{name}");
                        assert_eq!(commit.as_str(), if own_line { head.as_str() } else { &landed }, "{name}");
                    }
                    Landing::Untested { .. } => assert!(moved, "{name}"),
                    other => panic!("{name}: {other:?}"),
                }
            }
        }
    }
}

/// Others' work that only resembles ours is not ours: a base that moved stays a base that moved.
#[test]
fn rule_5_what_others_did_is_not_taken_for_ours() {
    let world = World::new();
    let person = world.person();
    let base = raw(&person, &["rev-parse", "HEAD"]);
    world.switch("b", &base);
    world.commit(&[("one", "1\n")], "ORCH-1: development (attempt 1)");
    let head = Sha::parse(&raw(&person, &["rev-parse", "HEAD"])).unwrap();
    world.push("b");
    world.switch("main", &base);
    let twin = world.commit(&[("one", "1\n")], "ORCH-2: development (attempt 1)");
    world.commit(&[("more", "1\n")], "more");
    world.push("main");
    let mirror = world.mirror();
    let base = Sha::parse(&base).unwrap();
    let tip = mirror.tracking("main").unwrap().unwrap();
    let pushed = [head.clone()];
    let ask = |others: &[Sha]| mirror.line(&base, &tip, Ours { head: &head, pushed: &pushed, others }).unwrap();
    assert_eq!(ask(&[]).ours, Some(twin.clone()), "the same change by an unknown hand");
    assert_eq!(ask(&[twin]).ours, None, "another task's landed commit");
}

/// A person pushes to the default branch, then merges the task's branch, by every method; then Confirm Deploy.
#[test]
fn rule_5_a_merge_by_a_person_over_a_moved_base_is_never_deployed() {
    for method in ["merge", "squash", "cherry-pick"] {
        let pipe = pipe(PARKED);
        let key = pipe.item("One");
        park(&pipe, &key);
        let (branch, base) = (pipe.of(&key, "branch"), pipe.of(&key, "base_sha"));
        pipe.person_changes(&[("theirs.txt", "x\n")], "somebody else's");
        let person = pipe.at("person");
        raw(&person, &["fetch", "-q", "origin"]);
        assert!(by_hand(&person, method, &branch, &base));
        raw(&person, &["push", "-q", "origin", "HEAD:main"]);
        let said = pipe.orch(&["advance", &key, "--confirm-deploy", "--json"]);
        assert_ne!(said.code, 3, "{method}: {}", said.all());
        pipe.until_blocked(&key);
        assert!(pipe.of(&key, "blocked_reason").contains("untested"), "{}", pipe.story());
        assert_eq!(pipe.table("freezes").texts("repo"), ["demo"], "{method}");
        assert_eq!((pipe.read("prod/deploys").as_str(), pipe.of(&key, "stage").as_str()), ("", "deploy"), "{method}");
        assert!(pipe.table("leases").set("task_id").is_empty(), "{method}: the lease is free");
    }
}

/// Merged manually on the tested base, by methods that leave no merge commit, the branch deleted and a commit on top.
#[test]
fn rule_31_a_confirmed_merge_by_a_person_is_deployed_as_its_own_commit() {
    for method in ["squash", "rebase", "fast-forward"] {
        let pipe = pipe(PARKED);
        let key = pipe.item("One");
        park(&pipe, &key);
        let (branch, base) = (pipe.of(&key, "branch"), pipe.of(&key, "base_sha"));
        let person = pipe.at("person");
        raw(&person, &["fetch", "-q", "origin"]);
        assert!(by_hand(&person, method, &branch, &base));
        raw(&person, &["push", "-q", "origin", "HEAD:main"]);
        let landed = raw(&person, &["rev-parse", "HEAD"]);
        raw(&person, &["push", "-q", "origin", &format!(":{branch}")]);
        pipe.person_changes(&[("later.txt", "x\n")], "later");
        let tip = pipe.remote(&["rev-parse", "main"]);
        // A full scan sees it, too, and does not take it for a withdrawal: the wait for Confirm Deploy continues.
        pipe.orch(&["reconcile"]);
        assert_eq!(
            (pipe.of(&key, "withdrawn"), pipe.of(&key, "waiting_for")),
            (String::new(), "confirm_deploy".into())
        );
        confirm(&pipe, &key);
        pipe.until_stage(&key, "done");
        assert_eq!(
            (pipe.of(&key, "landed_sha").as_str(), pipe.read("prod/deploys").trim()),
            (landed.as_str(), landed.as_str()),
            "{method}"
        );
        assert_eq!(pipe.remote(&["rev-parse", "main"]), tip, "{method}: no second merge");
        assert!(pipe.table("freezes").is_empty(), "{method}");
    }
}

/// Somebody pushes to the default branch at the very moment of the merge, and nothing of ours lands: back to the merge
/// gate with the release kept, no block, no freeze.
#[test]
fn rule_5_a_base_that_moves_in_the_merge_goes_back_to_the_gate() {
    let pipe = pipe(PARKED);
    let key = pipe.item("One");
    park(&pipe, &key);
    // A hook of the remote moves the branch during the very push that would land.
    let hook = pipe.at("remote.git/hooks/pre-receive");
    std::fs::write(
        &hook,
        "#!/bin/sh\nwhile read old new ref; do if [ \"$ref\" = refs/heads/main ] && [ ! -e moved ]; then touch moved; t=$(git rev-parse main^{tree}); c=$(echo other | GIT_QUARANTINE_PATH= GIT_AUTHOR_NAME=x GIT_AUTHOR_EMAIL=x@y GIT_COMMITTER_NAME=x GIT_COMMITTER_EMAIL=x@y git commit-tree $t -p main); echo $c > refs/heads/main; fi; done\nexit 0\n",
    )
    .unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    confirm(&pipe, &key);
    pipe.until_stage(&key, "done");
    assert!(pipe.at("remote.git/moved").exists(), "the hook moved the branch");
    assert_eq!(pipe.table("deploys").texts("state"), ["withdrawn", "settled"]);
    assert!(pipe.events("repo_frozen").is_empty() && pipe.events("task_blocked").is_empty(), "{}", pipe.story());
    let landed = pipe.of(&key, "landed_sha");
    assert!(pipe.remote(&["log", "--format=%s", &landed]).contains("other"), "with what main had");
    assert_eq!(pipe.read("prod/deploys").lines().collect::<Vec<_>>(), [landed.as_str()]);
}

/// How many runs of agents there were.
fn runs(pipe: &Pipe) -> usize {
    pipe.table("runs").with("kind", "agent").len()
}

/// Somebody else changes the branch while an agent works: noticed at the agent's end, held with one alert, no further
/// run. The agent's work is kept, and once the branch is restored it is pushed without another run.
#[test]
fn rule_31_a_persons_change_while_an_agent_works_holds_the_task_and_starts_no_run() {
    let cases = [
        ("development", "delete", "branch_gone", false),
        ("review", "delete", "branch_gone", false),
        ("review", "merge and delete", "merged", true),
        ("review", "fast-forward", "merged", true),
        ("review", "squash", "merged", true),
    ];
    for (stage, act, cause, freezes) in cases {
        let name = format!("{act} in {stage}");
        let pipe = Pipe::new(Setup {
            project: format!("stages: [development, review, deploy]\n{PARKED}"),
            ..Setup::default()
        });
        let work = match stage {
            "review" => "fm review \"verdict: APPROVED\n\" > \"$d/12-review.md\"; sleep 4\n",
            _ => "echo x > one.txt; sleep 4\n",
        };
        pipe.agent(stage, &format!("#!/bin/sh\n{work}"));
        let key = pipe.item("One");
        pipe.until("the agent at work", |p| !p.table("runs").with("stage", stage).set("runtime").is_empty());
        let before = runs(&pipe);
        let (branch, base) = (pipe.of(&key, "branch"), pipe.of(&key, "base_sha"));
        let person = pipe.at("person");
        raw(&person, &["fetch", "-q", "origin"]);
        if act != "delete" {
            assert!(by_hand(&person, act.split(' ').next().unwrap(), &branch, &base), "{name}");
            raw(&person, &["push", "-q", "origin", "HEAD:main"]);
        }
        if act.ends_with("delete") {
            raw(&person, &["push", "-q", "origin", &format!(":{branch}")]);
        }
        pipe.until("the hold", |p| !p.of(&key, "withdrawn").is_empty());
        assert!(pipe.of(&key, "withdrawn").contains(&format!("\"{cause}\"")), "{name}: {}", pipe.of(&key, "withdrawn"));
        pipe.until("the run's end", |p| !p.table("runs").among("state", &["exited", "settled"]).is_empty());
        for step in ["tick", "reap", "reconcile", "tick"] {
            pipe.orch(&[step]);
        }
        assert_eq!((runs(&pipe), pipe.of(&key, "stage").as_str()), (before, stage), "{name}: {}", pipe.story());
        assert_eq!(pipe.table("freezes").len(), usize::from(freezes), "{name}");
        assert_eq!(pipe.alerts().iter().filter(|a| *a == "withdrawn").count(), 1, "{name}");
        if cause == "branch_gone" {
            assert_eq!(pipe.orch(&["retry", &key]).code, 0, "{name}");
            park(&pipe, &key);
            let agents = if stage == "review" { before } else { before + 1 };
            assert_eq!(runs(&pipe), agents, "{name}: what the agent left was pushed, and it did not work again");
        } else {
            let said = pipe.orch(&["stop", &key]);
            assert_eq!(said.code, 0, "{name}: {}", said.all());
            assert!(pipe.events("task_cancelled")[0].contains("landed"), "{name}");
        }
    }
}

/// The next full scan notices a branch that was deleted while the task waited for a person, not the next move.
#[test]
fn rule_31_a_branch_deleted_while_the_task_waits_is_seen_and_restored_by_retry() {
    let pipe = pipe(PARKED);
    let key = pipe.item("One");
    park(&pipe, &key);
    let (branch, head) = (pipe.of(&key, "branch"), pipe.of(&key, "head_sha"));
    raw(&pipe.at("person"), &["push", "-q", "origin", &format!(":{branch}")]);
    pipe.orch(&["reconcile"]);
    assert!(pipe.of(&key, "withdrawn").contains("branch_gone"), "{}", pipe.story());
    let held = pipe.orch(&["explain", &key]).all();
    assert!(held.contains("is gone from the remote") && held.contains(&format!("orch retry {key}")), "{held}");
    assert_eq!(pipe.orch(&["retry", &key]).code, 0);
    assert_eq!(pipe.remote(&["rev-parse", &branch]), head);
    confirm(&pipe, &key);
    pipe.until_stage(&key, "done");
    assert_eq!(runs(&pipe), 1);
}

/// A hook of the remote that refuses what `when` matches, while the file `closed` exists.
fn closing(pipe: &Pipe, when: &str) {
    let here = pipe.dir.path().display().to_string();
    let text = format!(
        "#!/bin/sh\n[ -e {here}/closed ] || exit 0\n{when} && {{ echo 'the owner says no' >&2; exit 1; }}\nexit 0\n"
    );
    pipe.script("remote.git/hooks/update", &text);
}

#[test]
fn rule_45_a_push_that_the_remote_refuses_is_kept_and_pushed_after_retry() {
    let pipe = pipe("");
    closing(&pipe, "[ \"$1\" != refs/heads/main ] && [ \"$2\" != 0000000000000000000000000000000000000000 ]");
    std::fs::write(pipe.at("closed"), "").unwrap();
    let key = pipe.item("One");
    pipe.until("what was put off", |p| p.table("jobs").with("cause", "push_refused").texts("again") == ["1"]);
    let said = pipe.orch(&["explain", &key]).all();
    assert!(said.contains("the owner says no"), "{said}");
    for n in ["2", "3"] {
        // Time passes for what was deferred.
        pipe.table("jobs").with("cause", "push_refused").shift("available_at", -14_900);
        pipe.until("the next try", |p| p.table("jobs").with("cause", "push_refused").texts("again") == [n]);
    }
    pipe.until_blocked(&key);
    assert_eq!((runs(&pipe), pipe.alerts().iter().filter(|a| *a == "blocked").count()), (1, 1), "{}", pipe.story());
    std::fs::remove_file(pipe.at("closed")).unwrap();
    assert_eq!(pipe.orch(&["retry", &key]).code, 0);
    pipe.until_stage(&key, "done");
    assert_eq!(runs(&pipe), 1, "{}", pipe.story());
}

#[test]
fn rule_48_a_forced_push_that_the_remote_refuses_blocks_and_frees_the_lease() {
    let pipe = pipe(PARKED);
    let key = pipe.item("One");
    park(&pipe, &key);
    closing(&pipe, "! git merge-base --is-ancestor $2 $3");
    std::fs::write(pipe.at("closed"), "").unwrap();
    pipe.person_changes(&[("other.txt", "x\n")], "another change");
    let said = pipe.orch(&["advance", &key, "--confirm-deploy"]);
    assert_ne!(said.code, 3, "{}", said.all());
    pipe.until_blocked(&key);
    let why = pipe.of(&key, "blocked_reason");
    assert!(why.contains("the owner says no") && why.contains("merge.update: merge"), "{why}");
    assert!(pipe.table("leases").set("task_id").is_empty());
    assert_eq!(pipe.orch(&["tick"]).code, 0, "it goes on");
    assert_eq!(pipe.alerts().iter().filter(|a| *a == "blocked").count(), 1);
    std::fs::remove_file(pipe.at("closed")).unwrap();
    pipe.orch(&["retry", &key]);
    pipe.until("released or parked", |p| {
        p.of(&key, "waiting_for") == "confirm_deploy" || p.of(&key, "stage") == "done"
    });
    if pipe.of(&key, "stage") != "done" {
        confirm(&pipe, &key);
    }
    pipe.until_stage(&key, "done");
}

#[test]
fn rule_48_a_rewritten_history_blocks_with_the_ways_out_and_frees_the_lease() {
    let pipe = pipe(PARKED);
    let key = pipe.item("One");
    park(&pipe, &key);
    let person = pipe.at("person");
    raw(&person, &["commit", "-q", "--amend", "-m", "another first"]);
    raw(&person, &["push", "-q", "-f", "origin", "HEAD:main"]);
    let said = pipe.orch(&["advance", &key, "--confirm-deploy"]);
    assert_ne!(said.code, 3, "{}", said.all());
    pipe.until_blocked(&key);
    let why = pipe.of(&key, "blocked_reason");
    assert!(why.contains("rewritten") && why.contains("orch stop") && why.contains("orch retry"), "{why}");
    assert!(pipe.table("leases").set("task_id").is_empty());
    assert_eq!(pipe.alerts().iter().filter(|a| *a == "blocked").count(), 1);
    assert_eq!(pipe.orch(&["tick"]).code, 0);
    assert!(pipe.events("repo_frozen").is_empty());
    assert_eq!(pipe.orch(&["stop", &key]).code, 0);
    pipe.until_stage(&key, "cancelled");
}
