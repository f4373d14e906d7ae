//! GitHub's misfortunes in the whole binary (GH-1, GH-2), item by item:
//!
//! | what | where |
//! | --- | --- |
//! | happy path with required checks, merge answer lost | `outside_github::gh_2_an_issue_is_steered…` |
//! | `mergeable: null`, 405, 409, head moved, duplicate pull request, ruleset that refuses | `gh_1_a_merge_goes_through…` here; every row in `adapter_forge_github::gh_1_every_row…` |
//! | intents by a writer, a triager and a bot | `outside_github::gh_2_only_who_may_write…` |
//! | two status labels at once; a label removed while `orch` replaces it; one taken by somebody's own use | `gh_2_labels_of_several_hands…` |
//! | an issue closed by hand, deleted, transferred; pull requests in the list | `outside_github::gh_2_only_who…`, `gh_2_an_issue_that_is_transferred…` |
//! | secondary limits | `outside_github::gh_2_a_limit_ends…`, `gh_1_limits_without_a_time_double` |
//! | App tokens that end in the middle | `gh_1_an_apps_token_that_ends_in_the_middle…` |
//! | 10,000 issues | `gh_2_ten_thousand_issues…` |
//! | a token without a permission; a repository that was renamed | `gh_1_what_a_person_has_to_mend_is_named…` |

use crate::adapter_forge_github::app_keys;
use crate::outside_github::{Scene, scene_with, short};
use crate::support::gitea::commit_on;
use crate::support::github::{Issue, error};
use crate::support::house::Plan;
use crate::support::http::Fault;
use serde_json::json;

const R: &str = "/repos/team/app";

/// Makes every wait for the forge and every queued job due.
fn due(s: &Scene) {
    s.house.table("meta").like("key", "awaits/").put("value/until", 0);
    s.house.db().hurry();
}

#[test]
fn gh_1_a_merge_goes_through_every_misfortune_once() {
    let s = short("", &[]);
    s.begin("Greet");
    // Somebody was quicker, or the answer was lost: there is one pull request.
    s.hub.fault(&format!("POST {R}/pulls"), Fault::CutAfterEffect, 1);
    s.hub.before_merge(|repo, data| {
        let head = data.pulls[0].head.clone();
        drop(commit_on(repo, &head, "theirs"));
    });
    s.hub.script(false, error(405, "Base branch was modified. Review and try the merge again."));
    s.hub.script(false, error(409, "Head branch was modified. Review and try the merge again."));
    s.hub.script(false, error(502, "Bad Gateway"));
    s.hub.script(true, error(500, "the merge was made all the same"));
    s.drive("its first merge", |_| s.hub.writes().iter().any(|w| w.ends_with("/merge")));
    s.hub.data().checking = 3;
    let approvals = json!({"type": "pull_request", "ruleset_id": 1, "parameters": {
        "required_approving_review_count": 1, "dismiss_stale_reviews_on_push": false,
        "require_code_owner_review": false, "require_last_push_approval": false,
        "required_review_thread_resolution": false}});
    s.hub.data().rules.push(approvals);
    let mut held = false;
    let done = s.house.until("is done", || {
        if s.house.orch(&["explain", "ORCH-1"]).json["held_by"]["rule"] == "forge" {
            (held, s.hub.data().approvals) = (true, 1);
        }
        due(&s);
        let task = s.drive("goes on", |_| true);
        if let Some(head) = task.head_sha.filter(|_| task.pr.is_some())
            && !s.hub.data().runs.iter().any(|r| r.sha == head.as_str())
        {
            s.hub.check(head.as_str(), "ci/test", "success");
        }
        s.house.reconcile();
        s.house.tick();
        let task = s.house.task("ORCH-1").unwrap();
        assert!(task.blocked_reason.is_none(), "{task:?}");
        (task.stage.as_str() == "done").then_some(task)
    });
    assert!(held, "the ruleset that refuses is a hold");
    assert_eq!(s.hub.data().pulls.len(), 1, "no duplicate");
    assert!(s.hub.pull(2).merged && done.landed_sha.is_some());
    // The person's commit is in it.
    let files = crate::support::git::raw(&s.house.remote(), &["ls-tree", "--name-only", "main"]);
    assert!(files.contains("theirs"), "{files}");
}

#[test]
fn gh_2_labels_of_several_hands_end_as_one_and_nobodys_own_use_is_touched() {
    let s = short("", &["deploy: {confirm: true}"]);
    // Somebody uses names of statuses for an issue of their own.
    let own = s.hub.data().open_issue("Mine", "");
    s.hub.data().label(own, "orch: Development", "eve");
    s.hub.data().label(own, "orch: Approved", "ann");
    let labels = s.hub.data().labels.len();
    let (code, said, _) = s.init();
    assert!(code == 0 && s.hub.data().labels.len() == labels, "made once: {said}");
    for _ in 0..3 {
        s.house.reconcile().fine();
    }
    assert!(s.house.task("ORCH-1").is_none());
    assert_eq!(s.hub.data().labels_of(own), ["orch: Development", "orch: Approved"], "no work item, no write");
    // It becomes one: exactly one status is left, whatever stood there, and a label of another kind lives.
    s.hub.data().label(own, "bug", "eve");
    s.hub.data().label(own, "orch: To Analyse", "ann");
    // A label is gone before orch takes it off, and the answer about another is lost.
    let gone = error(404, "Label does not exist");
    s.hub.fault(&format!("DELETE {R}/issues/1/labels/orch%3A%20To%20Analyse"), Fault::AnswerAfterEffect(gone), 1);
    s.hub.fault(&format!("DELETE {R}/issues/1/labels/"), Fault::CutAfterEffect, 1);
    s.hub.fault(&format!("POST {R}/issues/1/labels"), Fault::CutAfterEffect, 1);
    s.drive("waits", |t| t.waiting_for.is_some());
    s.house.until("one status", || {
        s.house.table("outbox").with("state", "open").put("available_at", 0);
        s.house.tick();
        (s.labels() == ["bug", "orch: Awaiting Deploy"]).then_some(())
    });
    // Of two intents STOP counts, and only from somebody who may.
    s.hub.data().label(own, "orch: Confirm Deploy", "triager");
    s.hub.data().label(own, "orch: STOP", "eve");
    for _ in 0..3 {
        s.house.reconcile().fine();
    }
    let task = s.house.task("ORCH-1").unwrap();
    assert!(task.stop_requested_at.is_none() && task.waiting_for.is_some(), "{task:?}");
    s.hub.data().label(own, "orch: Confirm Deploy", "ann");
    s.hub.data().label(own, "orch: STOP", "ann");
    s.drive("is cancelled", |t| t.stage.as_str() == "cancelled");
    s.deliver_all();
    assert_eq!(s.labels(), ["bug", "orch: Cancelled"]);
    assert!(!s.hub.pull(2).merged);
}

#[test]
fn gh_2_an_issue_that_is_transferred_is_withdrawn_and_nothing_is_followed() {
    let s = short("", &["deploy: {confirm: true}"]);
    s.begin("Greet");
    s.drive("waits", |t| t.waiting_for.is_some());
    s.deliver_all();
    for status in [301, 404] {
        s.hub.data().issues[0].gone = Some(status);
        s.house.orch(&["reconcile", "--full"]).fine();
        assert!(s.house.task("ORCH-1").unwrap().withdrawn.is_some(), "{status}");
        assert!(s.hub.log().iter().all(|seen| !seen.path.starts_with("/repositories/")), "{status}");
        s.hub.data().issues[0].gone = None;
        s.house.orch(&["reconcile", "--full"]).fine();
        assert!(s.house.task("ORCH-1").unwrap().withdrawn.is_none(), "{status}: it is back");
    }
    // A landing of another branch closes it: no person's act, and the task goes on.
    s.hub.data().close_issue(1, "completed", "merge[bot]");
    s.house.reconcile().fine();
    assert!(s.house.task("ORCH-1").unwrap().withdrawn.is_none());
    s.hub.data().label(1, "orch: Confirm Deploy", "ann");
    s.drive("is done", |t| t.stage.as_str() == "done");
}

#[test]
fn gh_1_limits_without_a_time_double() {
    let s = short("", &[]);
    let row = || s.house.table("meta").like("key", "throttle/").one("value");
    for untold in [1, 2, 3] {
        let limit = error(403, "You have exceeded a secondary rate limit. Please wait a few minutes.");
        s.hub.fault(&format!("GET {R}/issues"), Fault::Answer(limit), 1);
        s.house.reconcile().fine();
        let stored = row();
        assert!(stored.ends_with(&format!(" {untold}")), "{stored}");
        // As if it were over.
        let over = jiff::Timestamp::now().as_millisecond() - 1;
        s.house.table("meta").like("key", "throttle/").put("value", format!("{over} {untold}"));
    }
    s.house.reconcile().fine();
    // Only the reserve is left: what people ask for goes on.
    s.hub.data().left = Some(60);
    s.begin("Greet");
    s.house.orch(&["reconcile", "--full"]).fine();
    s.house.reconcile().fine();
    assert!(s.house.task("ORCH-1").is_some(), "an intent is not kept waiting");
}

#[test]
fn gh_1_an_apps_token_that_ends_in_the_middle_is_renewed_without_a_trace() {
    let (pem, public) = app_keys();
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), pem).unwrap();
    let login = format!("app: {{id: 12, installation: 5, key: {{file: \"{}\"}}}}", key.path().display());
    let s = scene_with(Plan::short(), "", &["deploy: {confirm: false}"], &login);
    {
        let mut data = s.hub.data();
        data.app_key = public;
        data.login = "orch-app[bot]".into();
        data.rights.push(("orch-app[bot]".into(), "none".into()));
    }
    assert_eq!(s.init().0, 0);
    s.begin("Greet");
    // GitHub ends the token at every stage.
    let mut ended = 0;
    s.house.until("is done", || {
        if ended < 6 {
            s.hub.data().app_tokens.push(format!("ghs_ended_{ended}"));
            ended += 1;
        }
        let task = s.drive("goes on", |_| true);
        if let Some(head) = task.head_sha.filter(|_| task.pr.is_some())
            && !s.hub.data().runs.iter().any(|r| r.sha == head.as_str())
        {
            s.hub.check(head.as_str(), "ci/test", "success");
        }
        let pass = s.house.reconcile();
        assert_eq!(pass.json["errors"].as_array().map(Vec::len), Some(0), "{}", pass.json);
        s.house.tick();
        s.house.task("ORCH-1").filter(|t| t.stage.as_str() == "done")
    });
    assert!(s.house.table("outbox").like("key", "outage").is_empty());
    let files = std::fs::read_dir(s.house.path("state/tokens")).unwrap();
    let names: Vec<String> = files.map(|f| f.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert!(names.iter().filter(|n| n.ends_with(".json")).count() == 1, "board and forge share one: {names:?}");
}

#[test]
fn gh_2_ten_thousand_issues_are_read_once_and_then_cost_one_free_request() {
    let s = short("", &[]);
    {
        let mut data = s.hub.data();
        let issue = |number| Issue {
            number,
            title: format!("Item {number}"),
            by: "ann".into(),
            updated: number,
            ..Issue::default()
        };
        data.issues = (1..=10_000).map(issue).collect();
        data.label(9_999, "orch: To Analyse", "ann");
    }
    s.hub.clear_log();
    s.house.orch(&["reconcile", "--full"]).fine();
    let lists = s.hub.log().iter().filter(|seen| seen.line() == format!("GET {R}/issues")).count();
    assert!((100..=102).contains(&lists), "{lists} pages");
    assert_eq!(s.house.task("ORCH-9999").unwrap().title, "Item 9999");
    s.house.reconcile().fine();
    s.house.reconcile().fine();
    s.hub.clear_log();
    let left = s.hub.data().left;
    s.house.reconcile().fine();
    assert_eq!((s.hub.log().len(), s.hub.data().left), (1, left), "an idle pass");
}

#[test]
fn gh_1_what_a_person_has_to_mend_is_named_and_nothing_is_lost() {
    let s = short("", &["deploy: {confirm: true}"]);
    s.begin("Greet");
    s.hub.data().lacks = vec!["pull_requests=write"];
    let why = s.house.until("the refusal", || {
        s.house.reconcile();
        s.house.next();
        let shown = s.house.orch(&["explain", "ORCH-1"]).json.to_string();
        shown.contains("pull_requests=write").then_some(shown)
    });
    assert!(why.contains("ORCH-1"), "{why}");
    let doctor = s.house.orch(&["doctor"]).json.to_string();
    assert!(doctor.contains("Pull requests: write is missing"), "{doctor}");
    s.hub.data().lacks.clear();
    assert!(s.house.orch(&["retry", "ORCH-1"]).code <= 1);
    s.drive("waits", |t| t.waiting_for.is_some());
    // Renamed: the project stops, and the new place is named.
    s.hub.data().moved = true;
    let pass = s.house.reconcile();
    assert!(pass.code != 0 && pass.json["errors"].to_string().contains("301"), "{}", pass.json);
    let before = s.house.task("ORCH-1").unwrap();
    s.house.next();
    assert_eq!(s.house.task("ORCH-1").unwrap().stage, before.stage);
    s.hub.data().moved = false;
    s.house.table("meta").like("key", "down/").delete();
    s.hub.data().label(1, "orch: Confirm Deploy", "ann");
    s.house.until("is done", || {
        due(&s);
        s.drive("goes on", |_| true);
        if let Some(head) = s.house.task("ORCH-1").and_then(|t| t.head_sha) {
            s.hub.check(head.as_str(), "ci/test", "success");
        }
        s.house.reconcile();
        s.house.next();
        s.house.task("ORCH-1").filter(|t| t.stage.as_str() == "done")
    });
}

/// The blocks of the page that connects GitHub, in their order.
fn blocks() -> Vec<String> {
    let page = include_str!("../../docs/connecting-github.md");
    let parts: Vec<&str> = page.split("```").collect();
    let of = |part: &&str| part.split_once('\n').unwrap().1.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    parts.iter().skip(1).step_by(2).map(of).collect()
}

#[test]
fn gh_3_the_page_is_right_word_for_word_and_doctor_names_each_permission() {
    let s = short("", &["deploy: {confirm: false, report: true}"]);
    let (pem, public) = app_keys();
    {
        let mut data = s.hub.data();
        (data.app_key, data.login) = (public, "orch-app[bot]".into());
    }
    let home = s.house.path("home");
    std::fs::create_dir_all(home.join("Downloads")).unwrap();
    std::fs::write(home.join("Downloads/orch.private-key.pem"), pem).unwrap();
    let [install, yaml] = blocks().try_into().unwrap();
    let ran = std::process::Command::new("sh").args(["-c", &install]).env("HOME", &home).status().unwrap();
    assert!(ran.success(), "{install}");
    // What is the page's own: the places.
    let at = format!("api_base: \"{}\", owner: team, name: app", s.hub.url());
    let lines = yaml
        .replace("https://github.com/team/shop.git", s.house.remote().to_str().unwrap())
        .replace("owner: team, name: shop", &at)
        .replace("{id: 123456, installation: 7890123", "{id: 12, installation: 5")
        .replace("~/", &format!("{}/", home.display()));
    let text = std::fs::read_to_string(s.house.path("orch.yaml")).unwrap();
    let own = |line: &&str| !["git:", "board:", "forge:", "ci:"].iter().any(|key| line.trim().starts_with(key));
    let (head, rest) = text.split_once("    repo: demo\n").unwrap();
    let rest: Vec<&str> = rest.lines().filter(own).collect();
    let lines: Vec<String> = lines.lines().map(|line| format!("    {line}\n")).collect();
    let text = format!("{head}    repo: demo\n{}{}\n", lines.concat(), rest.join("\n"));
    std::fs::write(s.house.path("orch.yaml"), text).unwrap();
    assert_eq!(s.init().0, 0);
    let doctor = || -> Vec<(String, String)> {
        let found = s.house.orch(&["doctor"]).json["checks"].as_array().cloned().unwrap_or_default();
        let bad = found.iter().filter(|c| {
            c["area"] == "ORCH"
                && ["right", "labels", "board", "forge"].contains(&c["name"].as_str().unwrap_or(""))
                && c["level"] != "ok"
        });
        bad.map(|c| (c["level"].as_str().unwrap_or("").to_owned(), c["message"].as_str().unwrap_or("").to_owned()))
            .collect()
    };
    assert_eq!(doctor(), [], "with what the page asks for");
    for (lacks, said, level) in [
        ("contents=read", "Contents: read is missing", "failed"),
        ("checks=read", "Checks: read is missing", "warning"),
        ("actions=read", "Actions: read is missing", "failed"),
        ("issues=read", "Issues: read is missing", "failed"),
        ("pull_requests=write", "Pull requests: write is missing", "failed"),
        ("deployments=write", "Deployments: write is missing", "failed"),
    ] {
        s.hub.data().lacks = vec![lacks];
        let found = doctor();
        assert!(found.iter().any(|(l, m)| l == level && m.starts_with(said)), "{lacks}: {found:?}");
    }
}
