//! Temporary outages: an unavailable git remote costs no work and no money, and is reported (RULE-8, NTF-2).

use crate::support::git::raw;
use crate::support::gitea::{FakeGitea, TOKEN};
use crate::support::house::{House, Plan};
use std::collections::BTreeSet;

/// A house whose agent counts its runs; with `away` the remote disappears as the first run ends.
fn house(away: bool) -> House {
    let mut plan = Plan::short().project("deploy: {confirm: false}");
    let house = House::new(&plan);
    let root = house.root().display();
    let gone =
        if away { format!("[ -e {root}/plays ] || mv {root}/remote.git {root}/away.git\n") } else { String::new() };
    plan.agent = plan.agent.replace("esac\n", &format!("esac\n{gone}echo x >> {root}/plays\n"));
    house.script("agent.sh", &plan.agent);
    house
}

fn plays(house: &House) -> usize {
    std::fs::read_to_string(house.path("plays")).map_or(0, |t| t.lines().count())
}

/// When a run whose job is deferred has ended, by the number of the job.
fn ended(house: &House) -> Vec<(String, i64)> {
    let exited = house.table("runs").with("state", "exited");
    let at = exited.texts("exited_at/wall_ms").into_iter().map(|t| t.parse().unwrap());
    exited.texts("job_id").into_iter().zip(at).collect()
}

/// What was deferred is due at once.
fn due(house: &House) {
    for (job, at) in ended(house) {
        house.table("jobs").with("status", "running").with("id", job).put("available_at", at + 1);
    }
}

#[test]
fn rule_8_an_outage_at_the_push_keeps_what_the_agent_has_done() {
    let house = house(true);
    house.item("One");
    house.tick().fine();
    let waits =
        || house.table("jobs").with("status", "running").above("available_at", 0).set("reason").texts("reason").pop();
    let why = house.until("the push is put off", waits);
    assert!(why.contains("can't be pushed now"), "{why}");
    let row = house.orch(&["status"]).json["tasks"][0].clone();
    assert_eq!(row["held_by"]["rule"], "backoff", "{row}");
    assert!(row["held_by"]["why"].as_str().unwrap().contains("the developer has ended"), "{row}");
    // Still unavailable: the push is retried, the agent is not.
    for _ in 0..2 {
        house.until("its time", || house.table("jobs").above("available_at", 0).texts("id").pop().map(|_| due(&house)));
        house.tick();
        house.until("put off again", || {
            let later = |job: &str, at| !house.table("jobs").with("id", job).above("available_at", at + 1).is_empty();
            ended(&house).iter().any(|(job, at)| later(job, *at)).then_some(())
        });
    }
    assert_eq!(plays(&house), 1);
    std::fs::rename(house.path("away.git"), house.remote()).unwrap();
    house.until("done", || {
        due(&house);
        house.tick();
        house.task("ORCH-1").filter(|t| t.stage.as_str() == "done")
    });
    assert_eq!(plays(&house), 1, "paid for once");
    assert_eq!(house.runs("ORCH-1").iter().filter(|r| r.agent.is_some()).count(), 1);
    assert!(raw(&house.remote(), &["show", "main:app.txt"]).contains("ORCH-1 round 1"));
}

/// NTF-2: one host's outage is one alert and one end, however many projects it holds up.
#[test]
fn one_host_that_is_down_is_alerted_once_for_all_its_projects() {
    let plan = Plan::short().project("deploy: {confirm: false}").project("ci: {contexts: [ci/test]}");
    let mut house = House::new(&plan);
    house.env.push(("FORGE".into(), TOKEN.into()));
    let forge = FakeGitea::start(&house.remote());
    let section =
        format!("forge: {{kind: gitea, url: \"{}\", owner: team, name: app, token: {{env: FORGE}}}}", forge.url());
    house.configure(&plan.project(&section).top("limits: {max_concurrency: 4}"));
    raw(house.root(), &["clone", "-q", "--bare", "remote.git", "second.git"]);
    let text = std::fs::read_to_string(house.path("orch.yaml")).unwrap();
    let second = format!(
        "    {section}\n  - key: BB\n    repo: second\n    git: {{remote: ./second.git}}\n    stages: [development, deploy]\n    ci: {{contexts: [ci/test]}}\n    {section}\n"
    );
    std::fs::write(house.path("orch.yaml"), text.replacen(&format!("    {section}\n"), &second, 1)).unwrap();
    forge.data().down = true;
    house.orch(&["new", "One", "--project", "ORCH"]).fine();
    house.orch(&["new", "Two", "--project", "BB"]).fine();
    house.until("both wait for the forge", || {
        house.next();
        let waits = house.table("jobs").with("kind", "ci").like("reason", "did not list its statuses");
        let waits: BTreeSet<String> = waits.texts("task_id").into_iter().collect();
        (waits.len() == 2).then_some(())
    });
    house.outages_age(20);
    house.until("it is told", || {
        house.next();
        house.alerts("service_down").pop()
    });
    for _ in 0..4 {
        house.next();
    }
    let host = forge.url().replace("http://", "");
    assert_eq!(house.alerts("service_down"), [host.as_str()]);
    forge.data().down = false;
    house.until("it is over", || {
        house.next();
        house.alerts("service_back").pop()
    });
    for _ in 0..3 {
        house.next();
    }
    assert_eq!((house.alerts("service_down").len(), house.alerts("service_back")), (1, vec![host]));
}

/// An unavailable remote is reported like a forge, even without one; a branch that it refuses is not a failed fetch.
#[test]
fn a_git_remote_that_is_unavailable_or_refuses_is_reported() {
    let house = house(false);
    std::fs::rename(house.remote(), house.path("away.git")).unwrap();
    house.item("One");
    let noted = || {
        house.next();
        house.meta("down/git remote of ORCH")
    };
    house.until("it is noted", noted);
    let row = house.orch(&["status"]).json["tasks"][0].clone();
    assert!(row["held_by"]["why"].as_str().unwrap().contains("remote can't be reached"), "{row}");
    house.outages_age(20);
    house.until("it is told", || {
        house.next();
        house.alerts("service_down").pop()
    });
    std::fs::rename(house.path("away.git"), house.remote()).unwrap();
    let hook = house.remote().join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    house.script("remote.git/hooks/pre-receive", "#!/bin/sh\necho User permission denied for writing. >&2\nexit 1\n");
    house.until("the block", || {
        house.next();
        house.task("ORCH-1").and_then(|t| t.blocked_reason).filter(|why| why.contains("User permission denied"))
    });
    let row = house.orch(&["status"]).json["tasks"][0].clone();
    assert!(row["blocked_reason"].as_str().unwrap().contains("User permission denied"), "{row}");
    assert_eq!(house.alerts("service_back"), ["git remote of ORCH"], "it answers, whatever it says");
    std::fs::remove_file(hook).unwrap();
    house.orch(&["retry", "ORCH-1"]);
    house.until("done", || {
        house.next();
        house.task("ORCH-1").filter(|t| t.stage.as_str() == "done")
    });
    assert!(house.meta("down/git remote of ORCH").is_none());
    assert_eq!((house.alerts("service_down").len(), house.alerts("service_back").len()), (1, 1));
}

/// If the kernel kills our git for lack of memory, that is not the agent's fault: its work is finalized again.
#[test]
fn rule_45_a_git_that_is_killed_while_a_run_is_finalized_does_not_play_the_agent_again() {
    let house = house(false);
    let root = house.root().display();
    let once = format!("if [ -e {root}/plays ] && mkdir {root}/killed 2> /dev/null; then kill -9 $$; fi");
    house.script("git.sh", &format!("#!/bin/sh\ncase \"$*\" in *index-pack*) {once} ;; esac\nexec git \"$@\"\n"));
    let text = std::fs::read_to_string(house.path("orch.yaml")).unwrap();
    std::fs::write(house.path("orch.yaml"), format!("{text}tools: {{git: {root}/git.sh}}\n")).unwrap();
    house.item("One");
    house.tick().fine();
    let why = house.until("it is put off", || {
        house.table("jobs").with("status", "running").above("available_at", 0).set("reason").texts("reason").pop()
    });
    assert!(why.contains("ended by signal 9"), "{why}");
    house.until("done", || {
        due(&house);
        house.tick();
        house.task("ORCH-1").filter(|t| t.stage.as_str() == "done")
    });
    assert_eq!(plays(&house), 1, "paid for once");
}

/// RULE-11, RUN-3: the process that made the branch is killed before it can record it, and the default branch moves.
/// The next one begins where the branch then is, so that no agent works on a base that the remote does not have.
#[test]
fn run_3_a_branch_whose_creator_was_killed_is_updated_and_costs_no_run() {
    let house = house(false);
    let root = house.root().display();
    let once = format!("git \"$@\"; code=$?; if mkdir {root}/killed 2> /dev/null; then kill -9 $PPID; fi; exit $code");
    let git = format!(
        "#!/bin/sh\ncase \"$*\" in *' push '*--dry-run*) ;; *' push '*feature/*) {once} ;; esac\nexec git \"$@\"\n"
    );
    house.script("git.sh", &git);
    let text = std::fs::read_to_string(house.path("orch.yaml")).unwrap();
    std::fs::write(house.path("orch.yaml"), format!("{text}tools: {{git: {root}/git.sh}}\n")).unwrap();
    house.item("One");
    house.tick();
    house.until("the maker is killed", || house.path("killed").exists().then_some(()));
    let person = house.path("person");
    std::fs::write(person.join("other.txt"), "moved\n").unwrap();
    raw(&person, &["add", "-A"]);
    raw(&person, &["commit", "-q", "-m", "the default branch moves"]);
    raw(&person, &["push", "-q", "origin", "main"]);
    let moved = raw(&house.remote(), &["rev-parse", "main"]);
    house.until("done", || {
        house.orch(&["reap"]);
        house.next();
        house.task("ORCH-1").filter(|t| t.stage.as_str() == "done")
    });
    assert_eq!(plays(&house), 1, "paid for once");
    let begun = house.runs("ORCH-1").into_iter().rfind(|r| r.agent.is_some()).unwrap();
    assert_eq!(begun.start_sha.unwrap().as_str(), moved.trim(), "from the default branch of then");
    assert!(house.events("head_moved").is_empty());
}
