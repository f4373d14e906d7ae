//! A forge that refuses after the push: an agent's work is kept, that very call is repeated, and no agent is paid a
//! second time (ORD-1, RULE-45).

use crate::outside_gitea::{Scene, scene};
use crate::support::gitea::Data;
use crate::support::house::Plan;
use orch::model::run_end::{RunEnd, RunResult};
use orch::model::task::Task;

/// Why the forge refuses `orch`, and how its answer begins.
type No = (&'static str, fn(&mut Data, bool), &'static str);

const NOES: [No; 5] = [
    (
        "the token lacks a scope",
        |d, no| d.scopes = scopes(if no { "read:repository" } else { "write:repository" }),
        "403",
    ),
    ("the token is withdrawn", |d, no| d.withdrawn = no, "401"),
    ("the repository is hidden", |d, no| d.hidden = no, "404"),
    ("the repository was renamed", |d, no| d.renamed = no.then(|| "team/other".to_owned()), "30"),
    ("the repository is archived", |d, no| d.archived = no, "423"),
];

fn scopes(repository: &'static str) -> Vec<&'static str> {
    vec!["read:user", repository, "write:issue"]
}

impl Scene {
    fn agents(&self) -> usize {
        self.house.runs("ORCH-1").iter().filter(|r| r.agent.is_some()).count()
    }

    /// A task whose run has ended and whose pull request the forge refuses, since it refuses from the branch's start
    /// on.
    fn until_refused(&self, no: impl FnOnce(&mut Data)) -> Task {
        let go = self.house.path("go");
        let wait = format!("#!/bin/sh\nwhile [ ! -e '{}' ]; do sleep 0.05; done\n", go.display());
        self.house.script("agent.sh", &Plan::short().agent.replacen("#!/bin/sh\n", &wait, 1));
        self.house.item("Greet <people>");
        self.house.tick().fine();
        no(&mut self.forge.data());
        std::fs::write(go, "").unwrap();
        self.house.until_task("ORCH-1", "is refused", |t| t.refused.is_some())
    }
}

#[test]
fn rule_45_a_forge_that_refuses_after_the_push_holds_the_task_and_no_agent_starts_again() {
    for (what, change, status) in NOES {
        let s = scene("");
        let task = s.until_refused(|d| change(d, true));
        assert!(task.head_sha != task.base_sha && task.pr.is_none(), "{what}: pushed");
        let answer = task.refused.clone().unwrap().answer;
        assert!(answer.contains(status) && answer.contains(';'), "{what}: {answer}");
        assert_eq!(
            s.house.runs("ORCH-1").iter().rfind(|r| r.agent.is_some()).unwrap().result,
            Some(RunEnd::new(RunResult::Done, ""))
        );
        // Not before its time, and without an error.
        for _ in 0..2 {
            let tick = s.house.tick().fine();
            assert_eq!(tick.rules(), ["forge_refused"], "{what}");
        }
        let explained = s.house.orch(&["explain", "ORCH-1"]).fine().json;
        assert_eq!(explained["held_by"]["rule"], "forge_refused", "{what}");
        assert!(explained["moves"].to_string().contains("orch retry ORCH-1"), "{what}: {explained}");
        // Once due, it is requested again, and refused again.
        s.house.table("tasks").put("refused/next_at", 0);
        s.house.tick().fine();
        assert_eq!(s.house.task("ORCH-1").unwrap().refused.unwrap().tries, 2, "{what}");
        // A person fixes it; `retry` repeats the request at once.
        change(&mut s.forge.data(), false);
        s.house.orch(&["retry", "ORCH-1"]).fine();
        let open = s.house.until_task("ORCH-1", "has its pull request", |t| t.pr.is_some());
        assert_eq!((open.refused, open.attempt), (None, 1), "{what}");
        s.green(&task);
        let done = s.drive("done", |t| t.stage.as_str() == "done");
        assert_eq!((done.attempt, s.agents(), s.merges()), (1, 1, 1), "{what}");
    }
}

/// E10: the rights of token and account are checked before the first branch: no branch, no agent, no attempt, one
/// message.
#[test]
fn ord_1_a_right_that_is_missing_is_reported_before_the_first_branch() {
    let s = scene("");
    s.forge.data().scopes = vec!["read:user", "write:repository"];
    s.house.item("Greet <people>");
    let said = s.house.tick();
    assert_eq!(said.code, 3, "{}", said.json);
    let printed = said.json.to_string();
    assert!(printed.contains("whether comments can be written") && printed.contains("write:issue"), "{printed}");
    let status = s.house.text(&["status"]).1;
    assert!(status.contains("forge of ORCH") && !status.contains("git remote of ORCH"), "{status}");
    let task = s.house.task("ORCH-1").unwrap();
    assert_eq!((task.stage.as_str(), task.branch, task.attempt), ("created", None, 1));
    let given_back = |s: &Scene| s.house.table("runs").with("result", "given back").len();
    assert_eq!((s.agents(), given_back(&s)), (1, 1), "the claim, and no agent");
    let held = s.house.orch(&["explain", "ORCH-1"]).fine().json;
    assert!(held["held_by"]["why"].to_string().contains("create a token with the scope write:issue"), "{held}");
    assert!(s.forge.writes().iter().all(|l| l.starts_with("PATCH ")), "{:?}", s.forge.writes());
    s.forge.data().scopes.push("write:issue");
    s.house.db().hurry();
    s.house.tick().fine();
    let open = s.house.until_task("ORCH-1", "has its pull request", |t| t.pr.is_some());
    assert_eq!((open.attempt, s.agents(), given_back(&s)), (1, 2, 1));
    assert!(!s.house.text(&["status"]).1.contains("forge of ORCH"));
}

#[test]
fn ord_1_what_is_refused_for_longer_than_its_bound_is_blocked_with_the_answer_and_kept() {
    let mut s = scene("");
    s.house.env.push(("ORCH_EFFECTS_MAX_TRIES".into(), "2".into()));
    s.until_refused(|d| d.archived = true);
    s.house.table("tasks").put("refused/next_at", 0);
    s.house.tick();
    let held = s.house.task("ORCH-1").unwrap();
    let why = held.blocked_reason.unwrap();
    assert!(why.contains("423") && why.contains("2 times") && why.contains("orch retry ORCH-1"), "{why}");
    assert_eq!(s.house.alerts("blocked").len(), 1);
    s.forge.data().archived = false;
    s.house.orch(&["retry", "ORCH-1"]).fine();
    let open = s.house.until_task("ORCH-1", "has its pull request", |t| t.pr.is_some());
    s.green(&open);
    s.drive("done", |t| t.stage.as_str() == "done");
    assert_eq!(s.agents(), 1);
}

/// Statuses that may not be read are neither red CI nor silence: the forge refused.
#[test]
fn ord_1_statuses_and_a_merge_that_are_refused_hold_by_the_same_rule() {
    let s = scene("");
    let task = s.until_pull();
    s.house.until("nothing runs", || s.house.is_quiet().then_some(()));
    s.forge.data().withdrawn = true;
    let held = s.drive("refused", |t| t.refused.is_some());
    assert_eq!(held.refused.unwrap().asked.as_str(), "statuses");
    assert!(s.house.tick().fine().rules().contains(&"forge_refused".to_owned()));
    s.forge.data().withdrawn = false;
    s.house.orch(&["retry", "ORCH-1"]).fine();
    s.forge.data().archived = true;
    s.green(&task);
    let held = s.drive("the merge is refused", |t| t.refused.as_ref().is_some_and(|r| r.asked.as_str() == "land"));
    assert_eq!((held.critical, held.blocked_reason), (None, None));
    assert_eq!(s.house.table("leases").set("task_id").texts("task_id"), Vec::<String>::new());
    s.forge.data().archived = false;
    s.house.orch(&["retry", "ORCH-1"]).fine();
    s.drive("done", |t| t.stage.as_str() == "done");
    assert_eq!(s.agents(), 1);
}
