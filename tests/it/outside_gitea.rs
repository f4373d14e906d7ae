//! The whole main job with a strict Gitea (SHIP-5, RULE-2, RULE-8, RULE-31, RULE-42): branch, pull request, statuses,
//! merge, verification.

use crate::support::git::raw;
use crate::support::gitea::{Data, Effect, FakeGitea, Rule, Script};
use crate::support::house::{House, Plan};
use crate::support::http::{Fault, Reply};
use orch::model::task::Task;
use serde_json::json;

pub struct Scene {
    pub house: House,
    pub forge: FakeGitea,
}

pub fn scene(further: &str) -> Scene {
    scene_with(further, &["deploy: {confirm: false}"])
}

pub fn scene_with(further: &str, lines: &[&str]) -> Scene {
    // The fake starts before the house makes its repository: its address is needed first.
    let base = Plan::short();
    let mut house = House::new(&base);
    house.env.push(("FORGE".into(), crate::support::gitea::TOKEN.into()));
    let forge = FakeGitea::start(&house.remote());
    let mut plan = Plan::short()
        .project(format!(
            "forge: {{kind: gitea, url: \"{}\", owner: team, name: app, token: {{env: FORGE}}{further}}}",
            forge.url()
        ))
        .project("ci: {contexts: [ci/test]}");
    for line in lines {
        if line.starts_with("stages:") {
            plan.project[0] = (*line).to_owned();
        } else {
            plan = plan.project(*line);
        }
    }
    house.configure(&plan);
    Scene { house, forge }
}

impl Scene {
    /// A task whose pull request is open and waits for its statuses.
    pub fn until_pull(&self) -> Task {
        self.house.item("Greet <people>");
        self.house.tick().fine();
        self.house.until("a pull request", || {
            let task = self.house.task("ORCH-1")?;
            (task.pr.is_some() && task.head_sha != task.base_sha).then_some(task)
        })
    }

    pub fn green(&self, task: &Task) {
        let head = task.head_sha.clone().unwrap();
        self.forge.set_status(head.as_str(), "ci/test", "success");
    }

    /// Ticks until the task is as expected.
    pub fn drive(&self, what: &str, so: impl Fn(&Task) -> bool) -> Task {
        self.house.until(what, || {
            if let Some(task) = self.house.task("ORCH-1").filter(|t| so(t)) {
                return Some(task);
            }
            self.house.tick();
            None
        })
    }

    fn main(&self) -> String {
        raw(&self.house.remote(), &["rev-parse", "main"])
    }

    pub fn merges(&self) -> usize {
        self.forge.writes().iter().filter(|l| l.ends_with("/merge")).count()
    }
}

#[test]
fn a_branch_becomes_a_pull_request_waits_for_its_statuses_and_is_merged_once() {
    let s = scene("");
    let task = s.until_pull();
    assert_eq!(s.forge.pull(1).title, "ORCH-1: Greet <people>");
    let head = task.head_sha.clone().unwrap();
    s.forge.set_status(head.as_str(), "ci/test", "pending");
    s.forge.set_status(head.as_str(), "orch/review_verdict", "failure");
    s.house.tick().fine();
    assert_eq!(s.merges(), 0, "pending is not green");
    s.green(&task);
    let done = s.drive("done", |t| t.stage.as_str() == "done");
    assert_eq!(s.merges(), 1);
    let pull = s.forge.pull(1);
    assert!(pull.merged && !pull.open);
    assert_eq!(done.landed_sha.unwrap().as_str(), s.main());
    assert!(s.forge.writes().iter().all(|l| !l.contains("/statuses/")), "off by default (RULE-42)");
    s.house.until("the comments", || {
        s.house.tick();
        s.forge.data().comments.iter().any(|c| c.body.contains("Done")).then_some(())
    });
    s.house.tick().fine();
    let done = s.forge.data().comments.iter().filter(|c| c.body.contains("Done")).count();
    assert_eq!(done, 1, "commented once");
    let marked = |c: &str| c.lines().next() == Some("<!-- orch:t1/done -->");
    assert!(s.forge.data().comments.iter().any(|c| marked(&c.body)), "by its hidden marker");
}

/// Green at first, red when the task is about to leave a later stage: whichever step checks finds it.
#[test]
fn rule_6_ci_that_turns_red_after_it_was_green_is_rolled_back() {
    for confirm in [false, true] {
        let lines = [format!("deploy: {{confirm: {confirm}}}"), "stages: [development, review, deploy]".to_owned()];
        let s = scene_with("", &[&lines[0], &lines[1]]);
        let task = s.until_pull();
        s.green(&task);
        // The review moves the head, and CI checks the new one.
        let reviewed = s.drive("the reviewed head", |t| t.head_sha != task.head_sha);
        if confirm {
            s.green(&reviewed);
            s.drive("the parking", |t| t.waiting_for.is_some());
        }
        s.forge.set_status(reviewed.head_sha.clone().unwrap().as_str(), "ci/test", "failure");
        if confirm {
            s.house.orch(&["advance", "ORCH-1", "--confirm-deploy"]);
        }
        let again = s.drive("a second attempt", |t| t.attempt == 2);
        assert!(again.findings.iter().any(|f| f.text.contains("ci/test")), "{:?}", again.findings);
        assert_eq!((again.waiting_for, again.blocked_reason, s.merges()), (None, None, 0));
    }
}

#[test]
fn rule_6_red_later_sends_the_work_back_and_only_the_new_head_counts() {
    let s = scene("");
    let task = s.until_pull();
    s.forge.set_status(task.head_sha.clone().unwrap().as_str(), "ci/test", "failure");
    let again = s.drive("a second attempt", |t| t.attempt == 2 && t.head_sha != task.head_sha);
    assert!(again.findings.iter().any(|f| f.text.contains("ci/test")), "{:?}", again.findings);
    assert_eq!(s.forge.data().pulls.len(), 1, "the same pull request");
    s.green(&again);
    s.drive("done", |t| t.stage.as_str() == "done");
    assert_eq!(s.merges(), 1);
}

/// Push and pull request of a client that was killed land after the stop.
#[test]
fn rule_17_a_reap_a_minute_after_a_stop_checks_again_for_branch_and_pull_request() {
    let s = scene("");
    let task = s.until_pull();
    s.house.orch(&["stop", "ORCH-1"]).fine();
    assert!(!s.forge.pull(1).open);
    let (branch, head) = (task.branch.unwrap(), task.head_sha.unwrap());
    let branches_there = || raw(&s.house.remote(), &["for-each-ref", "--format=%(refname:short)", "refs/heads"]);
    assert_eq!(branches_there(), "main");
    raw(&s.house.remote(), &["update-ref", &format!("refs/heads/{branch}"), head.as_str()]);
    let late = s.forge.data().add_pull(&branch, "main", "late", "");
    s.house.orch(&["reap"]).fine();
    assert!(s.forge.pull(late).open, "not yet a minute");
    s.house.table("journal").with("kind", "relook").shift("intended_at", -60_000);
    s.house.orch(&["reap"]).fine();
    assert!(!s.forge.pull(late).open);
    assert_eq!(branches_there(), "main");
    // The forge closes a pull request whose branch is deleted; this one was closed before that.
    let closed = s.house.table("journal").with("kind", "pr_closed").texts("intent/number");
    assert_eq!(closed, ["1".to_owned(), late.to_string()]);
    assert_eq!(s.house.table("journal").with("kind", "relook").texts("outcome"), ["{\"looked\":true}"]);
}

#[test]
fn a_merge_answered_200_and_left_open_is_seen_on_the_base_and_tidied() {
    let s = scene("");
    let task = s.until_pull();
    s.forge.script(Script::new(Effect::LandLeftOpen, Some(Reply { body: vec![], ..Reply::json(200, &json!(null)) })));
    s.green(&task);
    s.drive("done", |t| t.stage.as_str() == "done");
    assert_eq!(s.merges(), 1, "never merged twice");
    s.house.until("tidied", || {
        s.house.reconcile();
        (!s.forge.pull(1).open).then_some(())
    });
    assert_eq!(s.house.table("journal").with("kind", "pr_tidied").texts("outcome"), ["{\"closed\":true}"]);
}

#[test]
fn a_merge_cut_after_it_happened_is_read_back_and_not_repeated() {
    let s = scene("");
    let task = s.until_pull();
    s.forge.fault("POST /api/v1/repos/team/app/pulls/1/merge", Fault::CutAfterEffect, 1);
    s.green(&task);
    s.drive("done", |t| t.stage.as_str() == "done");
    assert_eq!(s.merges(), 1);
    assert_eq!(raw(&s.house.remote(), &["rev-list", "--count", "--merges", "main"]), "1");
}

#[test]
fn rule_31_a_pull_request_closed_by_a_person_holds_the_task_with_one_alert() {
    let s = scene_with("", &["deploy: {confirm: true}"]);
    let task = s.until_pull();
    s.forge.close(1);
    s.green(&task);
    let held = s.drive("held", |t| t.withdrawn.is_some());
    assert!(held.withdrawn.unwrap().to_string().contains("withdrawn on the forge"));
    for _ in 0..3 {
        s.house.tick();
        s.house.reconcile();
    }
    assert_eq!(s.merges(), 0);
    assert_eq!(s.house.table("outbox").like("key", "alert/withdrawn/").len(), 1);
    assert!(s.house.table("freezes").is_empty(), "closed is no freeze");
}

#[test]
fn rule_31_merged_by_a_person_without_certificate_also_freezes() {
    let s = scene("");
    let task = s.until_pull();
    s.forge.merge_as_person(1);
    s.green(&task);
    let held = s.drive("held", |t| t.withdrawn.is_some() || t.blocked_reason.is_some());
    assert!(held.withdrawn.is_some_and(|w| w.to_string().contains("merged by a person")));
    assert_eq!(s.house.table("freezes").texts("repo"), ["demo"]);
}

#[test]
fn a_head_that_moves_in_the_merge_is_judged_again() {
    let s = scene("");
    let task = s.until_pull();
    let branch = task.branch.clone().unwrap();
    s.forge.before_merge(move |repo, _| {
        crate::support::gitea::commit_on(repo, &branch, "person.txt");
    });
    s.green(&task);
    let moved = s.drive("the new head", |t| t.head_sha != task.head_sha);
    assert_ne!(moved.stage.as_str(), "done");
    let tree = raw(&s.house.remote(), &["ls-tree", "--name-only", "main"]);
    assert!(!tree.contains("person.txt"), "nothing untested landed");
}

/// The forge merges over a base that somebody moved: with any method, no commit of the line has the tested tree.
#[test]
fn rule_5_a_base_that_moves_in_the_forges_merge_freezes() {
    for method in ["squash", "merge"] {
        let s = scene_with("", &["deploy: {confirm: false}", &format!("merge: {{method: {method}}}")]);
        let task = s.until_pull();
        s.forge.before_merge(|repo, _| {
            crate::support::gitea::commit_on(repo, "main", "other.txt");
        });
        s.green(&task);
        let held = s.drive("held or done", |t| t.blocked_reason.is_some() || t.stage.as_str() == "done");
        assert!(held.blocked_reason.as_ref().is_some_and(|w| w.contains("untested")), "{method}: {held:?}");
        assert_eq!(
            (held.landed_sha, s.house.table("freezes").texts("repo")),
            (None, vec!["demo".to_owned()]),
            "{method}"
        );
    }
}

#[test]
fn rule_8_an_outage_of_the_forge_blocks_nothing_and_spends_nothing() {
    let s = scene("");
    s.forge.fault("", Fault::bad_gateway(), 4);
    s.house.item("Greet <people>");
    s.house.tick().fine();
    let pushed = s.drive("pushed", |t| t.head_sha.is_some() && t.head_sha != t.base_sha);
    assert_eq!(pushed.attempt, 1);
    s.green(&pushed);
    let done = s.drive("done", |t| t.stage.as_str() == "done");
    assert_eq!(done.attempt, 1);
    assert_eq!(raw(&s.house.remote(), &["rev-list", "--count", "--merges", "main"]), "1");
    assert_eq!(s.house.runs("ORCH-1").iter().filter(|r| r.agent.is_some()).count(), 1, "no run was spent");
}

/// What stays undecided for longer than `gates.undecided_max_s` blocks with its reason, and spends no attempt (PIPE-3).
#[test]
fn statuses_that_never_come_block_at_the_bound() {
    let mut s = scene("");
    s.house.env.push(("ORCH_GATES_UNDECIDED_MAX_S".into(), "1".into()));
    s.until_pull();
    let held = s.drive("the block", |t| t.blocked_reason.is_some());
    let why = held.blocked_reason.clone().unwrap();
    assert!(why.contains("ci/test") && why.contains("gates.undecided_max_s"), "{why}");
    assert_eq!((held.attempt, held.stage.as_str()), (1, "development"));
    assert_eq!(s.merges(), 0);
}

#[test]
fn a_forge_that_is_never_ready_to_merge_blocks_at_the_bound_with_the_window_closed() {
    let mut s = scene("");
    s.house.env.push(("ORCH_GATES_UNDECIDED_MAX_S".into(), "1".into()));
    s.forge.data().checking = u32::MAX;
    let task = s.until_pull();
    s.green(&task);
    let held = s.drive("the block", |t| t.blocked_reason.is_some());
    let why = held.blocked_reason.clone().unwrap();
    assert!(why.contains("not ready to merge") && why.contains("gates.undecided_max_s"), "{why}");
    assert_eq!((held.attempt, held.critical), (1, None));
    assert!(!s.forge.pull(1).merged);
    // The forge has finished checking; a person's retry continues with another deploy.
    s.forge.data().checking = 0;
    s.forge.data().pulls[0].set_checking(0);
    assert_eq!(s.house.orch(&["retry", "ORCH-1"]).code, 0);
    s.drive("done", |t| t.stage.as_str() == "done");
    assert!(s.forge.pull(1).merged);
}

#[test]
fn a_forge_that_asks_to_wait_is_left_alone_by_every_process() {
    let s = scene("");
    let task = s.until_pull();
    s.house.until("nothing runs", || s.house.is_quiet().then_some(()));
    s.forge.fault("", Fault::throttled(3600), 1);
    s.house.until("it asked to wait", || {
        s.house.tick();
        (!s.house.table("meta").like("key", "throttle/127.0.0.1:").is_empty()).then_some(())
    });
    s.green(&task);
    s.forge.clear_log();
    for _ in 0..3 {
        s.house.tick();
        s.house.reconcile();
        s.house.orch(&["reap"]);
    }
    assert_eq!(s.forge.log().len(), 0);
}

#[test]
fn rule_42_statuses_of_gates_are_posted_where_asked_and_never_counted() {
    let s = scene(", post_statuses: true");
    let task = s.until_pull();
    s.green(&task);
    s.drive("done", |t| t.stage.as_str() == "done");
    s.house.until("posted", || {
        s.house.tick();
        let data = s.forge.data();
        let of = |c: &str| data.statuses.iter().filter(|s| s.context == c).map(|s| s.state.clone()).collect::<Vec<_>>();
        (of("orch/branch_pushed") == ["success"] && of("orch/branch_mergeable") == ["success"]).then_some(())
    });
}

/// A forge shows statuses by commit: those that still hold for an updated head are posted for that head too.
#[test]
fn rule_42_an_updated_head_has_every_status_that_still_holds() {
    let s = scene_with(
        ", post_statuses: true",
        &["deploy: {confirm: false}", "stages: [development, review, testing, deploy]"],
    );
    let task = s.until_pull();
    s.green(&task);
    s.drive("reviewed", |t| t.stage.as_str() == "testing" || t.stage.as_str() == "deploy");
    // The default branch moves before anything could land: CI of the pushed head is requested again.
    crate::support::gitea::commit_on(&s.house.remote(), "main", "other.txt");
    let mut asked = std::collections::BTreeSet::new();
    let done = s.house.until("done", || {
        let t = s.house.task("ORCH-1")?;
        if let Some(head) = t.head_sha.clone().filter(|h| asked.insert(h.to_string())) {
            s.forge.set_status(head.as_str(), "ci/test", "success");
        }
        s.house.tick();
        (t.stage.as_str() == "done").then_some(t)
    });
    assert_eq!(s.house.events("branch_rebased").len(), 1, "the update is what is tried here");
    let head = done.head_sha.unwrap();
    s.house.until("every gate's status on the landed head", || {
        s.house.tick();
        let data = s.forge.data();
        let good =
            |c: &str| data.statuses.iter().any(|s| s.sha == head.as_str() && s.context == c && s.state == "success");
        ["orch/branch_pushed", "orch/review_verdict", "orch/tests_verdict", "orch/ci_green", "orch/branch_mergeable"]
            .iter()
            .all(|c| good(c))
            .then_some(())
    });
}

/// NTF-2: one alert per outage, with its end, and another only if it was over in between.
#[test]
fn a_forge_that_is_down_for_long_is_alerted_once_and_again_at_its_next_outage() {
    let s = scene("");
    let task = s.until_pull();
    let host = s.forge.url().replace("http://", "");
    let down = || s.house.meta(&format!("down/{host}"));
    for outage in 1..=2 {
        s.forge.data().down = true;
        s.house.until("the outage is noted", || {
            s.house.next();
            down()
        });
        assert_eq!(s.house.alerts("service_down").len(), outage - 1, "not for a moment's silence");
        s.house.outages_age(20 * i64::try_from(outage).unwrap());
        s.house.until("it is told", || {
            s.house.next();
            (s.house.alerts("service_down").len() == outage).then_some(())
        });
        for _ in 0..3 {
            s.house.next();
        }
        assert_eq!(s.house.alerts("service_down").len(), outage, "once per outage");
        let status = s.house.orch(&["status"]).json["services_down"].clone();
        assert_eq!((&status[0]["name"], &status[0]["alerted"]), (&json!(host), &json!(true)), "{status}");
        let explained = s.house.orch(&["explain", "ORCH-1"]).json["services_down"].to_string();
        assert!(explained.contains("502"), "{explained}");
        s.forge.data().down = false;
        s.house.until("it is over", || {
            s.house.next();
            down().is_none().then_some(())
        });
        assert_eq!(s.house.alerts("service_back"), vec![host.clone(); outage]);
    }
    assert_eq!(s.house.alerts("service_down"), [host.clone(), host]);
    let card = s.house.table("outbox").like("key", "alert/service_down/").one("payload");
    assert!(card.contains("502"), "{card}");
    s.green(&task);
    s.drive("done", |t| t.stage.as_str() == "done");
}

/// A token that is revoked midway stops nothing for good: no attempt is spent, nothing is discarded, it is reported if
/// it lasts, and work continues with a new token. The server hides a private repository from the old one: 404.
#[test]
fn a_token_revoked_midway_holds_and_a_new_one_continues() {
    let s = scene(", post_statuses: true");
    let task = s.until_pull();
    s.forge.data().withdrawn = true;
    s.green(&task);
    let unsent = [("state", "open".into()), ("sent_at", serde_json::Value::Null)];
    s.house.table("outbox").with("sink", "forge_status").put_all(&unsent);
    let mut said = String::new();
    for round in 0..6 {
        s.house.messages_are_due();
        let ran = s.house.next();
        said.push_str(&format!("{} {}", ran.json, ran.stderr));
        s.house.until("nothing runs", || s.house.is_quiet().then_some(()));
        if round == 3 {
            s.house.outages_age(20);
        }
    }
    let held = s.house.task("ORCH-1").unwrap();
    assert_eq!((s.merges(), held.attempt), (0, 1), "{held:?}");
    assert!(held.blocked_reason.is_none(), "{:?}\n{said}", held.blocked_reason);
    assert!(!said.contains(crate::support::gitea::TOKEN), "{said}");
    let alerts_sent = s.house.alerts("service_down");
    assert!(alerts_sent.len() == 1 && alerts_sent[0].contains("the account of {env: FORGE}"), "{alerts_sent:?}");
    let parked = s.house.table("outbox").with("state", "parked").lines(&["sink", "last_error"]);
    assert!(parked.is_empty(), "kept for the new token: {parked:?}");
    s.forge.data().withdrawn = false;
    s.house.until("done", || {
        s.house.messages_are_due();
        s.house.next();
        s.house.task("ORCH-1").filter(|t| t.stage.as_str() == "done")
    });
    assert_eq!(s.house.alerts("service_back").len(), 1);
}

/// An account that was removed from the repository affects this project alone.
#[test]
fn a_hidden_repository_is_reported_for_its_project() {
    let s = scene("");
    let task = s.until_pull();
    s.forge.data().hidden = true;
    s.house.until("it is noted", || {
        s.house.next();
        s.house.meta("down/forge of ORCH").filter(|t| t.contains("can't see the repository team/app"))
    });
    s.forge.data().hidden = false;
    s.green(&task);
    s.house.until("done", || {
        s.house.next();
        s.house.task("ORCH-1").filter(|t| t.stage.as_str() == "done")
    });
    assert!(s.house.meta("down/forge of ORCH").is_none());
}

/// What only a person can provide, and what comes on its own: the merge waits with the forge's words, the release
/// stays, and work continues once it is there (GH-1, rule `forge`).
#[test]
fn a_merge_that_the_forge_defers_is_a_hold_that_ends_automatically() {
    type Change = fn(&mut Data);
    let cases: [(&str, bool, Change, Change, &str); 5] = [
        (
            "checks",
            false,
            |d| rule_of(d).contexts = vec!["ci/extra*".into()],
            |d| rule_of(d).contexts.clear(),
            "ci/extra*",
        ),
        ("approval", true, |d| rule_of(d).required_approvals = 1, |d| rule_of(d).approvals = 1, "approvals"),
        ("review", true, |d| rule_of(d).rejected = true, |d| rule_of(d).rejected = false, "requested changes"),
        ("merge right", true, |d| rule_of(d).no_merge = true, |d| rule_of(d).no_merge = false, "not allowed"),
        ("draft", true, |d| d.pulls[0].title = "WIP: x".into(), |d| d.pulls[0].title = "x".into(), "Work in progress"),
    ];
    for (name, person, set, lift, said) in cases {
        let s = scene_with("", &["deploy: {confirm: true}"]);
        let task = s.until_pull();
        s.green(&task);
        s.drive("the parking", |t| t.waiting_for.is_some());
        set(&mut s.forge.data());
        assert!(s.house.orch(&["advance", "ORCH-1", "--confirm-deploy"]).code <= 1, "{name}");
        let explained = s.house.until(&format!("the wait for {name}"), || {
            s.house.tick();
            let shown = s.house.orch(&["explain", "ORCH-1"]).json;
            (shown["held_by"]["rule"] == "forge").then_some(shown)
        });
        let why = explained["held_by"]["why"].as_str().unwrap();
        assert!(why.contains(said), "{name}: {why}");
        if !person {
            assert!(why.contains("ci/test (success)"), "what the head has: {why}");
        }
        let status = s.house.orch(&["status"]).json.to_string();
        assert!(status.contains("\"rule\":\"forge\""), "{name}: {status}");
        let alerts = |s: &Scene| s.house.table("outbox").like("key", "alert/forge_waits/").len();
        assert_eq!(alerts(&s), usize::from(person), "{name}");
        let asked = s.merges();
        s.house.tick().fine();
        assert!(s.merges() <= asked + 1, "{name}: it is not asked at every step");
        lift(&mut s.forge.data());
        let done = s.drive("done", |t| t.stage.as_str() == "done" || t.waiting_for.is_some());
        assert_eq!((done.stage.as_str(), done.block_no), ("done", 0), "{name}: no block, no second release");
        assert_eq!(alerts(&s), usize::from(person), "{name}: told once");
        assert!(s.forge.pull(1).merged, "{name}");
    }
}

fn rule_of(data: &mut Data) -> &mut Rule {
    if data.rules.is_empty() {
        data.rules.push(("main".into(), Rule::default()));
    }
    &mut data.rules.last_mut().unwrap().1
}

/// Nothing was done while the forge waits: a stop, HALT and a freeze take effect at once, and so does a manual merge.
#[test]
fn a_waiting_merge_can_be_stopped_halted_frozen_and_made_by_a_person() {
    for hand in ["stop", "halt", "freeze", "merge"] {
        let s = scene_with("", &["deploy: {confirm: true}"]);
        let task = s.until_pull();
        s.green(&task);
        s.drive("the parking", |t| t.waiting_for.is_some());
        rule_of(&mut s.forge.data()).required_approvals = 1;
        assert!(s.house.orch(&["advance", "ORCH-1", "--confirm-deploy"]).code <= 1);
        // Requested and refused once: what was begun when HALT comes is finished.
        s.drive("the wait", |t| t.critical.is_some() && s.merges() > 0);
        match hand {
            "stop" => {
                s.house.orch(&["stop", "ORCH-1"]);
                s.drive("cancelled", |t| t.stage.as_str() == "cancelled");
                assert!(!s.forge.pull(1).merged);
            }
            "merge" => {
                s.forge.merge_as_person(1);
                let done = s.drive("done", |t| t.stage.as_str() == "done");
                assert_eq!(done.block_no, 0);
            }
            _ => {
                let repo = s.house.task("ORCH-1").unwrap().repo;
                let (on, off) = match hand {
                    "halt" => (vec!["halt", "--reason", "a look"], vec!["resume"]),
                    _ => (vec!["freeze", &repo, "--reason", "a look"], vec!["unfreeze", &repo]),
                };
                assert_eq!(s.house.orch(&on).code, 0, "{hand}");
                rule_of(&mut s.forge.data()).approvals = 1;
                s.drive("the withdrawal", |t| t.critical.is_none());
                assert!(!s.forge.pull(1).merged, "{hand}: nothing is merged meanwhile");
                assert_eq!(s.house.orch(&off).code, 0, "{hand}");
                s.drive("done", |t| t.stage.as_str() == "done");
            }
        }
    }
}

/// RUN-8: a task that waits for a person at the forge keeps the merge lease no longer than any parked one. Its release
/// and its wait stay, and it continues automatically.
#[test]
fn run_8_a_wait_for_a_person_at_the_forge_gives_the_lease_back_after_its_time() {
    let s = scene_with("", &["deploy: {confirm: true}"]);
    let task = s.until_pull();
    s.green(&task);
    s.drive("the parking", |t| t.waiting_for.is_some());
    rule_of(&mut s.forge.data()).required_approvals = 1;
    assert!(s.house.orch(&["advance", "ORCH-1", "--confirm-deploy"]).code <= 1);
    s.drive("the wait", |t| t.critical.is_some());
    let held = |s: &Scene| s.house.table("leases").set("task_id").len();
    s.house.orch(&["reap"]).fine();
    assert_eq!(held(&s), 1, "not before merge_lease.ttl_s");
    s.house.table("leases").shift("renewed_at/mono_ms", -7_300_000);
    s.house.until("the lease is given back", || {
        s.house.orch(&["reap"]).fine().kinds().contains(&"lease_reclaimed".to_owned()).then_some(())
    });
    let parked = s.house.task("ORCH-1").unwrap();
    assert_eq!((parked.stage.as_str(), parked.waiting_for), ("deploy", None), "no second release is asked for");
    assert_eq!(s.house.table("audit").with("event", "deploy_withdrawn").len(), 1);
    let shown = s.house.text(&["status"]).1;
    assert!(shown.contains("approval"), "what is awaited stays in sight: {shown}");
    rule_of(&mut s.forge.data()).approvals = 1;
    let done = s.drive("done", |t| t.stage.as_str() == "done" || t.waiting_for.is_some());
    assert_eq!((done.stage.as_str(), done.block_no, s.forge.pull(1).merged), ("done", 0, true));
    assert_eq!(s.house.table("outbox").like("key", "alert/forge_waits/").len(), 1, "told once");
}

/// BND-6: whoever rewrites the audit table of this machine can't rewrite what the forge received of it.
#[test]
fn each_move_says_the_audit_hash_on_the_pull_request_where_it_is_anchored() {
    let s = scene("");
    let path = s.house.path("orch.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("audit: {{anchor: forge}}\n{text}")).unwrap();
    let task = s.until_pull();
    s.green(&task);
    s.drive("done", |t| t.stage.as_str() == "done");
    let alerts_sent =
        s.house.table("outbox").with("sink", "forge_comment").like("key", "/audit-").texts("payload/text");
    assert!(alerts_sent.len() >= 2, "{alerts_sent:?}");
    let hashes = s.house.table("audit").among("event", &["stage_advanced", "stage_rolled_back"]).texts("hash");
    for text in &alerts_sent {
        assert!(hashes.iter().any(|hash| text.ends_with(&format!("Hash {hash}"))), "{text}");
    }
}

/// E3: closed or merged while an early stage works or waits, it is noticed before the next agent starts.
#[test]
fn rule_31_a_pull_request_closed_or_merged_in_an_early_stage_starts_no_further_agent() {
    for merged in [false, true] {
        let lines = ["deploy: {confirm: true}", "stages: [analysis, architecture, development, deploy]"];
        let s = scene_with("", &lines);
        s.until_pull();
        s.drive("the question", |t| t.waiting_for.is_some());
        assert!(s.house.orch(&["advance", "ORCH-1", "--approve"]).code <= 1);
        s.drive("architecture", |t| t.stage.as_str() == "architecture");
        if merged {
            s.forge.merge_as_person(1);
        } else {
            s.forge.close(1);
        }
        let held = s.drive("held", |t| t.withdrawn.is_some());
        let runs = s.house.runs("ORCH-1").len();
        assert!(runs <= 3, "{runs} runs in {}", held.stage);
        for _ in 0..3 {
            s.house.tick();
        }
        assert_eq!(s.house.runs("ORCH-1").len(), runs, "no agent starts");
        assert_eq!(s.house.table("freezes").len(), usize::from(merged));
        assert_eq!(s.merges(), 0);
    }
}

/// RULE-5: the forge says merged but its branch does not show it. That is a wait: nothing is deployed, frozen or
/// undone, and after `gates.undecided_max_s` a person decides.
#[test]
fn a_landing_that_the_forge_claims_and_its_branch_does_not_show_is_waited_for() {
    for shown in [true, false] {
        let s = scene("");
        let task = s.until_pull();
        let claim = |merged: bool| {
            let mut data = s.forge.data();
            let pull = data.pull_mut(1);
            (pull.merged, pull.open) = (merged, !merged);
        };
        claim(true);
        s.green(&task);
        let held = s.house.until("it is held", || {
            let tick = s.house.tick();
            tick.json.to_string().contains("is shown as merged, but nothing has landed").then_some(tick)
        });
        assert_eq!(held.code, 0, "{}", held.json);
        let at = s.house.task("ORCH-1").unwrap();
        assert_eq!((at.withdrawn, at.blocked_reason, at.attempt), (None, None, 1));
        assert_eq!((s.house.table("freezes").len(), s.merges()), (0, 0));
        if shown {
            claim(false);
            let done = s.drive("done", |t| t.stage.as_str() == "done");
            assert_eq!((s.merges(), done.attempt), (1, 1));
            continue;
        }
        let path = s.house.path("orch.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("gates: {{undecided_max_s: 1}}\n{text}")).unwrap();
        let why = s.drive("a person is asked", |t| t.blocked_reason.is_some()).blocked_reason.unwrap();
        assert!(why.contains("is shown as merged") && why.contains("gates.undecided_max_s"), "{why}");
        assert_eq!((s.house.table("freezes").len(), s.merges()), (0, 0));
    }
}
