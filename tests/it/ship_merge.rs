//! What lands is exactly what was tested (SHIP-2, RULE-4, RULE-5, RULE-30, RULE-31), on the local forge.

use crate::support::git::raw;
use crate::support::pipe::{Pipe, Setup};

fn pipe(project: &str) -> Pipe {
    Pipe::new(Setup { project: project.into(), ..Setup::default() })
}

/// Two tasks at once; the serial gate is out of scope for an ordinary project.
fn two_at_once(project: &str) -> Pipe {
    Pipe::new(Setup { project: project.into(), top: "limits: {max_concurrency: 2}".into(), ..Setup::default() })
}

fn tree(pipe: &Pipe, of: &str) -> String {
    pipe.remote(&["rev-parse", &format!("{of}^{{tree}}")])
}

const PARKED: &str = "deploy: {confirm: true, command: [./deploy.sh], env: {TARGET: PROD}}";

fn park(pipe: &Pipe, key: &str) {
    pipe.until("the parking", |p| p.of(key, "waiting_for") == "confirm_deploy");
}

fn confirm(pipe: &Pipe, key: &str) {
    let said = pipe.orch(&["advance", key, "--confirm-deploy"]);
    assert!(said.code <= 1, "{}", said.all());
}

#[test]
fn two_tasks_of_a_repository_pass_the_merge_gate_one_after_the_other() {
    let pipe = two_at_once(PARKED);
    let (a, b) = (pipe.item("One"), pipe.item("Two"));
    pipe.until("one parked", |p| !p.table("tasks").with("waiting_for", "confirm_deploy").is_empty());
    pipe.until("the other at the gate", |p| p.table("evidence").with("gate", "ci_green").len() >= 2);
    let holder = pipe.table("tasks").with("waiting_for", "confirm_deploy").one("key");
    let other = if holder == a { b.clone() } else { a.clone() };
    let said = pipe.orch(&["tick", "--json"]).json();
    assert!(
        said["skipped"].as_array().unwrap().iter().any(|h| h["task"] == other.as_str() && h["rule"] == "merge_lease"),
        "{said}"
    );
    let why = said["skipped"].to_string();
    assert!(why.contains(&format!("is held by {holder}, which waits for confirm_deploy")), "{why}");
    let shown = pipe.orch(&["lease", "show", "--json"]).json();
    assert_eq!(shown["leases"][0]["task"], holder.as_str(), "{shown}");
    let fence = shown["leases"][0]["fence"].as_i64().unwrap();
    let file: serde_json::Value = serde_json::from_str(&pipe.read("state/sentinels/demo/merge-lease.json")).unwrap();
    assert_eq!(file["fence"].as_i64(), Some(fence), "{file}");
    confirm(&pipe, &holder);
    pipe.until_stage(&holder, "done");
    // The other was rebased onto the first, tested again, and kept its verdicts.
    park(&pipe, &other);
    assert_eq!(pipe.events("branch_rebased").len(), 1);
    assert!(pipe.events("branch_rebased")[0].contains("\"equal_patches\":true"));
    assert!(pipe.orch(&["lease", "show", "--json"]).json()["leases"][0]["fence"].as_i64().unwrap() > fence);
    confirm(&pipe, &other);
    pipe.until_stage(&other, "done");
    for key in [&a, &b] {
        assert_eq!(tree(&pipe, &pipe.of(key, "landed_sha")), tree(&pipe, &pipe.of(key, "head_sha")));
    }
}

/// The repository's own file says how it lands; the installation's does not replace an invalid one (ORD-3).
#[test]
fn ord_3_a_faulty_repository_file_holds_the_merge_until_it_holds() {
    let pipe = pipe(&format!("repository_config: true\n{PARKED}"));
    let key = pipe.item("One");
    park(&pipe, &key);
    pipe.person_changes(
        &[(".orch.yaml", "merge: {method: squash}\ndeploy: {confirm: false}\n")],
        "keys that are not allowed",
    );
    confirm(&pipe, &key);
    let held = || pipe.orch(&["tick", "--json"]).json()["skipped"].to_string();
    pipe.until("the hold", |_| held().contains("configuration"));
    // A missing mirror is fetched again: nothing waits for a step that nobody runs.
    std::fs::remove_dir_all(pipe.at("state/repos/demo.git")).unwrap();
    assert!(held().contains(".orch.yaml: "), "{}", held());
    pipe.person_changes(&[(".orch.yaml", "merge: {method: squash}\n")], "what it may");
    pipe.until_stage(&key, "done");
    pipe.until_stage(&key, "done");
    let parents = pipe.remote(&["log", "-1", "--format=%P", &pipe.of(&key, "landed_sha")]);
    assert_eq!(parents.split_whitespace().count(), 1, "squashed, as the file says: {parents}");
}

#[test]
fn a_branch_is_rebased_onto_a_moved_default_branch_and_ci_runs_on_the_new_head() {
    let pipe = pipe(PARKED);
    let key = pipe.item("One");
    park(&pipe, &key);
    let before = pipe.of(&key, "head_sha");
    pipe.person_changes(&[("other.txt", "a person's\n")], "another change");
    confirm(&pipe, &key);
    pipe.until_stage(&key, "done");
    let head = pipe.of(&key, "head_sha");
    assert_ne!(head, before);
    let judged = pipe.table("evidence").with("gate", "ci_green").texts("sha");
    assert!(judged.contains(&before) && judged.contains(&head), "{judged:?}");
    assert_eq!(tree(&pipe, &pipe.of(&key, "landed_sha")), tree(&pipe, &head));
    assert!(pipe.remote(&["log", "--format=%s", "main"]).contains("another change"));
    assert_eq!(pipe.table("runs").with("kind", "agent").len(), 1, "the developer did not work again");
}

/// Somebody pushes to the default branch while the agent works, during the first CI run, during the push of the updated
/// head, during CI on that head, and while the task is parked.
#[test]
fn a_default_branch_that_moves_at_each_point_before_the_merge_lands_tested_with_all_of_it() {
    let pipe = pipe(PARKED);
    let with = |text: &str| text.replace("HERE", pipe.at("").to_str().unwrap().trim_end_matches('/'));
    pipe.script(
        "move",
        &with(
            r#"#!/bin/sh
[ ! -e "HERE/$1" ] || exit 0
touch "HERE/$1"; rm -rf HERE/mover
unset GIT_DIR GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES
git clone -q HERE/remote.git HERE/mover && cd HERE/mover && echo x > "$1.md" && git add -A &&
git -c user.name=p -c user.email=p@localhost commit -q -m "moved $1" && git push -q origin HEAD:main
"#,
        ),
    );
    let ci = "#!/bin/sh\necho x >> HERE/count\ncase $(wc -l < HERE/count) in 1) HERE/move first-ci;; 2) HERE/move second-ci;; esac\n";
    pipe.person_changes(&[("ci.sh", &with(ci))], "a CI during which others push");
    pipe.agent("development", &with("#!/bin/sh\necho x > one.txt\nHERE/move work\n"));
    pipe.script(
        "remote.git/hooks/update",
        &with("#!/bin/sh\ncase \"$1 $2\" in *' 0000'*|refs/heads/main*) ;; *) HERE/move push;; esac\n"),
    );
    let key = pipe.item("One");
    park(&pipe, &key);
    assert!(std::process::Command::new(pipe.at("move")).arg("parked").status().unwrap().success());
    confirm(&pipe, &key);
    pipe.until_stage(&key, "done");
    let (head, landed) = (pipe.of(&key, "head_sha"), pipe.of(&key, "landed_sha"));
    let files = pipe.remote(&["ls-tree", "--name-only", &landed]);
    for file in ["one.txt", "work.md", "first-ci.md", "push.md", "second-ci.md", "parked.md"] {
        assert!(files.lines().any(|f| f == file), "{file} in {files}");
    }
    assert_eq!(tree(&pipe, &landed), tree(&pipe, &head));
    assert!(pipe.table("evidence").with("gate", "ci_green").with("verdict", "pass").texts("sha").contains(&head));
    assert_eq!(pipe.read("prod/deploys").lines().collect::<Vec<_>>(), [landed.as_str()], "one deploy, of what landed");
    assert_eq!((pipe.of(&key, "attempt").as_str(), pipe.events("repo_frozen").len()), ("1", 0));
}

#[test]
fn ci_that_is_red_on_the_rebased_head_rolls_back() {
    let pipe = pipe(PARKED);
    pipe.agent(
        "development",
        "#!/bin/sh\nif [ \"$ORCH_ATTEMPT\" = 1 ]; then echo alpha > a.txt; else git rm -q --cached a.txt; rm a.txt; echo gamma > c.txt; fi\n",
    );
    let key = pipe.item("One");
    park(&pipe, &key);
    // Each alone is fine; together they are not.
    pipe.person_changes(
        &[("ci.sh", "#!/bin/sh\n[ ! -e a.txt ] || { echo 'a.txt is not wanted any more'; exit 1; }\n")],
        "a stricter CI",
    );
    confirm(&pipe, &key);
    pipe.until("the rollback", |p| p.of(&key, "attempt") == "2");
    assert!(pipe.of(&key, "findings").contains("a.txt is not wanted any more"), "{}", pipe.of(&key, "findings"));
    assert_eq!(pipe.events("lease_released").len(), 1, "the lease went with the rollback");
    park(&pipe, &key);
}

#[test]
fn a_conflict_rolls_back_with_the_paths() {
    let pipe = pipe(PARKED);
    pipe.agent(
        "development",
        "#!/bin/sh\nif [ \"$ORCH_ATTEMPT\" = 1 ]; then sed -i 's/two/mine/' app.txt; else git fetch -q origin; git checkout -q origin/main -- app.txt 2>/dev/null || true; echo \"$ORCH_ATTEMPT\" > mine.txt; fi\n",
    );
    let key = pipe.item("One");
    park(&pipe, &key);
    pipe.person_changes(&[("app.txt", "one\ntheirs\nthree\n")], "the same line");
    confirm(&pipe, &key);
    pipe.until("the rollback", |p| p.of(&key, "attempt") == "2");
    let findings = pipe.of(&key, "findings");
    assert!(findings.contains("merge conflict") && findings.contains("app.txt"), "{findings}");
}

#[test]
fn every_merge_method_lands_the_tested_tree() {
    for method in ["merge", "rebase", "squash"] {
        let pipe = pipe(&format!("merge: {{method: {method}}}"));
        let key = pipe.item("One");
        pipe.until_stage(&key, "done");
        let (landed, head) = (pipe.of(&key, "landed_sha"), pipe.of(&key, "head_sha"));
        assert_eq!(tree(&pipe, &landed), tree(&pipe, &head), "{method}");
        let parents = pipe.remote(&["log", "-1", "--format=%P", &landed]).split_whitespace().count();
        assert_eq!(parents, if method == "merge" { 2 } else { 1 }, "{method}");
        assert_eq!(pipe.read("prod/deploys").trim(), landed);
    }
}

#[test]
fn rule_4_a_persons_push_to_the_parked_branch_is_caught() {
    let pipe =
        Pipe::new(Setup { project: format!("stages: [development, review, deploy]\n{PARKED}"), ..Setup::default() });
    let key = pipe.item("One");
    park(&pipe, &key);
    let branch = pipe.of(&key, "branch");
    let person = pipe.at("person");
    raw(&person, &["fetch", "-q", "origin"]);
    raw(&person, &["checkout", "-q", "-B", "theirs", &format!("origin/{branch}")]);
    pipe.put_person("slipped.txt", "nobody reviewed this\n");
    raw(&person, &["add", "-A"]);
    raw(&person, &["commit", "-q", "-m", "slipped in"]);
    raw(&person, &["push", "-q", "origin", &format!("HEAD:{branch}")]);
    raw(&person, &["checkout", "-q", "main"]);
    confirm(&pipe, &key);
    pipe.until("the second review", |p| p.table("runs").with("agent", "reviewer").len() >= 2);
    assert_eq!(pipe.events("deploy_initiated").len(), 0, "{}", pipe.story());
    assert_eq!(pipe.of(&key, "attempt"), "1", "no attempt is spent");
    park(&pipe, &key);
    confirm(&pipe, &key);
    pipe.until_stage(&key, "done");
}

#[test]
fn a_branch_merged_by_a_person_as_tested_is_deployed_without_a_second_merge() {
    let pipe = pipe(PARKED);
    let key = pipe.item("One");
    park(&pipe, &key);
    let branch = pipe.of(&key, "branch");
    let person = pipe.at("person");
    raw(&person, &["fetch", "-q", "origin"]);
    raw(&person, &["merge", "-q", "--no-ff", "-m", "by hand", &format!("origin/{branch}")]);
    raw(&person, &["push", "-q", "origin", "HEAD:main"]);
    // Whoever merges manually often deletes the branch, too.
    raw(&person, &["push", "-q", "origin", &format!(":{branch}")]);
    let merged = pipe.remote(&["rev-parse", "main"]);
    confirm(&pipe, &key);
    pipe.until_stage(&key, "done");
    assert_eq!(pipe.of(&key, "landed_sha"), merged);
    assert_eq!(pipe.read("prod/deploys").trim(), merged);
    assert_eq!(pipe.remote(&["rev-parse", "main"]), merged, "no second merge");
}

#[test]
fn rule_31_a_branch_merged_before_it_was_released_is_held_and_freezes() {
    let pipe = two_at_once(PARKED);
    // The first has the lease, so the second has no certificate yet.
    let first = pipe.item("One");
    park(&pipe, &first);
    let second = pipe.item("Two");
    pipe.until("the second at the gate", |p| p.table("evidence").with("gate", "ci_green").len() >= 2);
    let branch = pipe.of(&second, "branch");
    let person = pipe.at("person");
    raw(&person, &["fetch", "-q", "origin"]);
    raw(&person, &["merge", "-q", "--no-ff", "-m", "by hand", &format!("origin/{branch}")]);
    raw(&person, &["push", "-q", "origin", "HEAD:main"]);
    confirm(&pipe, &first);
    pipe.until_stage(&first, "done");
    pipe.until("the hold", |p| !p.of(&second, "withdrawn").is_empty());
    assert!(pipe.of(&second, "withdrawn").contains("\"merged\""), "{}", pipe.of(&second, "withdrawn"));
    assert_eq!(pipe.table("freezes").texts("repo"), ["demo"]);
    assert_eq!(pipe.alerts().iter().filter(|a| *a == "withdrawn").count(), 1);
    assert_eq!(pipe.events("deploy_initiated").len(), 1);
}

#[test]
fn a_lease_is_revoked_manually_and_its_old_holder_asks_the_gate_again() {
    let pipe = pipe(PARKED);
    let key = pipe.item("One");
    park(&pipe, &key);
    let fence = |p: &Pipe| p.table("leases").one("fence");
    let before: i64 = fence(&pipe).parse().unwrap();
    assert_eq!(pipe.orch(&["lease", "break", "ORCH", "--why", "a test"]).code, 0);
    assert!(!pipe.at("state/sentinels/demo/merge-lease.json").exists());
    assert_eq!(pipe.orch(&["lease", "show", "--json"]).json()["leases"].as_array().unwrap().len(), 0);
    confirm(&pipe, &key);
    pipe.until_stage(&key, "done");
    assert!(fence(&pipe).parse::<i64>().unwrap() > before + 1);
}

#[test]
fn rule_34_the_leases_file_is_a_copy_that_any_step_rewrites_and_a_new_fence_passes_both() {
    let pipe = pipe(PARKED);
    let file = "state/sentinels/demo/merge-lease.json";
    let key = pipe.item("One");
    park(&pipe, &key);
    let row = || (pipe.table("leases").one("fence"), pipe.table("leases").one("task_id"));
    let kept = row();
    let sentinel: serde_json::Value = serde_json::from_str(&pipe.read(file)).unwrap();
    let forge = |name: &str, n: i64| {
        let mut forged = sentinel.clone();
        assert!(forged[name].is_i64(), "{sentinel}");
        forged[name] = n.into();
        forged.to_string()
    };
    let forged = [None, Some("{".to_owned()), Some(forge("fence", 41)), Some(forge("task", 77))];
    for (said, step) in forged.iter().zip(["tick", "reap", "reconcile", "advance"]) {
        match said {
            None => std::fs::remove_file(pipe.at(file)).unwrap(),
            Some(forged) => std::fs::write(pipe.at(file), forged).unwrap(),
        }
        pipe.orch(&[step]);
        let now: serde_json::Value = serde_json::from_str(&pipe.read(file)).unwrap();
        assert_eq!(now["fence"].to_string(), kept.0, "{step} after {said:?}");
        assert_eq!(now["task"].to_string(), kept.1, "{step} after {said:?}");
        assert_eq!(row(), kept, "the row decides");
    }
    // The row is lost, as in an older copy of the database; the next fence still exceeds the file's.
    std::fs::write(pipe.at(file), forge("fence", 41)).unwrap();
    pipe.table("leases").delete();
    confirm(&pipe, &key);
    pipe.until_stage(&key, "done");
    let fence: i64 = pipe.table("deploys").texts("fence").iter().map(|n| n.parse().unwrap()).max().unwrap();
    assert!(fence > 41, "{fence}");
}

/// The merge waits in the remote's hook while its client is killed: neither merged nor started.
#[test]
fn rule_18_a_deploy_that_neither_merged_nor_started_is_withdrawn_by_halt_and_by_stop() {
    for by in ["halt", "stop"] {
        let pipe = pipe(PARKED);
        let key = pipe.item("One");
        park(&pipe, &key);
        let (hook, here) = (pipe.at("remote.git/hooks/pre-receive"), pipe.dir.path().display().to_string());
        let text = format!(
            "#!/bin/sh\n: > {here}/merging\nn=0; while [ ! -e {here}/go ] && [ $n -lt 600 ]; do sleep 0.05; n=$((n+1)); done\nexit 1\n"
        );
        pipe.script("hook", &text);
        std::fs::rename(pipe.at("hook"), &hook).unwrap();
        let mut client = pipe.command(&["advance", &key, "--confirm-deploy"]).spawn().unwrap();
        let begun = std::time::Instant::now();
        while !pipe.at("merging").exists() {
            assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{}", pipe.story());
            std::thread::park_timeout(std::time::Duration::from_millis(10));
        }
        client.kill().unwrap();
        client.wait().unwrap();
        assert_eq!(pipe.table("deploys").texts("state"), ["initiated"], "{}", pipe.story());
        std::fs::remove_file(&hook).unwrap();
        if by == "halt" {
            assert_eq!(pipe.orch(&["halt", "--reason", "night"]).code, 0);
        }
        std::fs::write(pipe.at("go"), "").unwrap();
        if by == "stop" {
            let said = pipe.orch(&["stop", &key]);
            assert!([0, 4].contains(&said.code), "{}", said.all());
        }
        pipe.until("the withdrawal", |p| !p.table("deploys").with("state", "withdrawn").is_empty());
        assert_eq!((pipe.of(&key, "critical"), pipe.of(&key, "landed_sha")), (String::new(), String::new()));
        assert_eq!(pipe.read("prod/deploys"), "");
        let first = pipe.table("deploys").with("state", "withdrawn").one("id");
        assert!(!pipe.at(&format!("state/sentinels/demo/{key}/deploy.{first}.initiated.json")).exists());
        if by == "stop" {
            pipe.until_stage(&key, "cancelled");
            assert_eq!(pipe.remote(&["log", "--format=%s", "main"]), "first");
        } else {
            assert_eq!(pipe.orch(&["resume"]).code, 0);
            pipe.until_stage(&key, "done");
            let ids = pipe.table("deploys").texts("id");
            assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
            assert_eq!(pipe.read("prod/deploys").lines().count(), 1);
        }
    }
}
