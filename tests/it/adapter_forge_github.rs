//! GitHub as a forge: the outcome of each answer to a merge, CI of exactly one head, limits, an App's tokens, and every
//! call with every network fault (GH-1).

use crate::adapter_forge::{Scene, github, github_as, word};
use crate::support::git::raw;
use crate::support::gitea::commit_on;
use crate::support::github::{INSTALLATION, Run, TOKEN, error};
use crate::support::http::{Fault, Reply};
use orch::adapters::forge::{Forge, ForgeError, MergeOutcome, MergeVia, StatusState};
use orch::adapters::git::MergeMethod;
use orch::adapters::github::{App, Login};
use orch::adapters::http::{Limits, Token};
use orch::decide::gates::ci::roll_up;
use orch::model::ci::{Accepted, CiAnswer};
use orch::model::landing::Awaited;
use orch::model::refusal::Refusal;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const R: &str = "/repos/team/app";
const MERGE: &str = "PUT /repos/team/app/pulls/1/merge";

fn token() -> Login {
    Login::Token(Token::new(TOKEN))
}

struct Row {
    name: &'static str,
    set: Box<dyn Fn(&Scene)>,
    outcome: &'static str,
    lands: bool,
}

fn row(name: &'static str, outcome: &'static str, lands: bool, set: impl Fn(&Scene) + 'static) -> Row {
    Row { name, set: Box::new(set), outcome, lands }
}

fn rule(kind: &str, with: Value) -> Value {
    json!({"type": kind, "parameters": with, "ruleset_id": 1, "ruleset_source": "team/app"})
}

fn merge_table() -> Vec<Row> {
    let says = |effect: bool, status: u16, message: &'static str| {
        move |s: &Scene| s.hub.script(effect, error(status, message))
    };
    vec![
        row("merged", "Merged", true, |_| {}),
        row("cut after the merge", "Merged", true, |s| s.hub.fault(MERGE, Fault::CutAfterEffect, 1)),
        row("cut before it", "Err:UnknownOutcome", false, |s| s.hub.fault(MERGE, Fault::Reset, 1)),
        row("502 after the merge", "Merged", true, says(true, 502, "Server Error")),
        row("405 after the merge", "Merged", true, says(true, 405, "Pull Request is not mergeable")),
        row("500 and nothing", "Err:Transient", false, says(false, 500, "")),
        row("403 and nothing", "Err:Refused", false, says(false, 403, "Resource not accessible by integration")),
        row("403, a limit", "Err:Throttled", false, |s| {
            s.hub.script(false, error(403, "You have exceeded a secondary rate limit").header("Retry-After", 7));
        }),
        row("429", "Err:Throttled", false, |s| s.hub.fault(MERGE, Fault::throttled(7), 1)),
        row("401", "Err:Refused", false, says(false, 401, "Bad credentials")),
        row("422", "Err:Invalid", false, says(false, 422, "Validation Failed")),
        row("404 and open", "Refused", false, says(false, 404, "Not Found")),
        row("mergeable is computed", "NotYet", false, |s| s.hub.data().pull_mut(1).checking = 9),
        row(
            "405 that has passed",
            "NotYet",
            false,
            says(false, 405, "Base branch was modified. Review and try the merge again."),
        ),
        row("a draft", "Awaits", false, |s| s.hub.data().pull_mut(1).draft = true),
        row("approvals", "Awaits", false, |s| {
            s.hub.data().rules.push(rule(
                "pull_request",
                json!({"required_approving_review_count": 1,
                "dismiss_stale_reviews_on_push": false, "require_code_owner_review": false,
                "require_last_push_approval": false, "required_review_thread_resolution": false}),
            ));
        }),
        row("a check that the rule asks for", "Awaits", false, |s| {
            let checks = json!({"required_status_checks": [{"context": "ci/test"}], "strict_required_status_checks_policy": false});
            s.hub.data().rules.push(rule("required_status_checks", checks));
        }),
        row("signatures", "Awaits", false, |s| s.hub.data().rules.push(rule("required_signatures", Value::Null))),
        row("classic protection", "Awaits", false, |s| s.hub.data().classic_block = true),
        row("the method is off", "Refused", false, |s| s.hub.data().methods = vec!["rebase"]),
        row("409 head moved", "HeadMoved", false, |s| {
            s.hub.before_merge(|repo, _| drop(commit_on(repo, "feature/x", "theirs")));
        }),
        row("409, in words only", "NotYet", false, says(false, 409, "Head branch was modified.")),
        row("base moved, merged all the same", "Untested", false, |s| {
            s.hub.before_merge(|repo, _| drop(commit_on(repo, "main", "theirs")));
        }),
        row("closed meanwhile", "Withdrawn", false, |s| s.hub.before_merge(|_, data| data.pull_mut(1).open = false)),
        row("branch deleted", "Withdrawn", false, |s| {
            drop(raw(&s.world.path("remote.git"), &["branch", "-D", "feature/x"]));
        }),
        row("gone", "Withdrawn", false, |s| s.hub.data().pulls.clear()),
        row("merged by hand", "Merged", true, |s| {
            drop(raw(&s.world.person(), &["push", "-q", "origin", "feature/x:main"]));
        }),
        row("another repository took the name", "Err:Refused", false, |s| s.hub.data().id = 78),
        row("moved", "Err:Refused", false, |s| s.hub.data().moved = true),
        row("archived", "Err:Refused", false, |s| s.hub.data().archived = true),
    ]
}

#[test]
fn gh_1_every_row_of_the_merge_table() {
    for Row { name, set, outcome, lands } in merge_table() {
        let scene = Scene::new();
        let forge = github(&scene.hub, MergeMethod::Squash, MergeVia::Forge);
        assert_eq!(scene.opened(forge.as_ref()), 1);
        set(&scene);
        let result = forge.merge(&scene.mirror, 1, &scene.landing());
        assert_eq!(word(&result), outcome, "{name}: {result:?}");
        assert_eq!(scene.tree(&scene.tip()) == scene.tree(&scene.head), lands, "{name}");
        assert!(!format!("{result:?}").contains(TOKEN), "{name}");
        let before = scene.tip();
        let repeated = forge.merge(&scene.mirror, 1, &scene.landing());
        if lands {
            assert_eq!(word(&repeated), "Merged", "{name}: {repeated:?}");
            assert_eq!(scene.tip(), before, "{name}");
            assert!(scene.merges() <= 1, "{name}");
        }
        match (name, &result) {
            ("approvals", Ok(MergeOutcome::Awaits { what: Awaited::Approval, said })) => {
                assert!(said.contains("rules of main: pull_request"), "{said}");
            }
            ("a check that the rule asks for", Ok(MergeOutcome::Awaits { what: Awaited::Checks, said })) => {
                assert!(said.contains("it asks for ci/test; the head has no status yet"), "{said}");
            }
            ("signatures", Ok(MergeOutcome::Awaits { what, .. })) => assert_eq!(*what, Awaited::Signature),
            ("classic protection", Ok(MergeOutcome::Awaits { what, .. })) => assert_eq!(*what, Awaited::Rule),
            ("approvals" | "a check that the rule asks for", other) => panic!("{name}: {other:?}"),
            _ => {}
        }
    }
}

#[test]
fn gh_1_a_pull_request_is_searched_before_and_after_it_is_made_and_says_what_it_wants() {
    let scene = Scene::new();
    let forge = github(&scene.hub, MergeMethod::Rebase, MergeVia::Forge);
    {
        let mut data = scene.hub.data();
        data.checking = 0;
        // From a fork, and closed.
        let fork = data.add_pull("feature/x", "main", "fork", "");
        data.pull_mut(fork).head_repo = "somebody/app".into();
        let closed = data.add_pull("feature/x", "main", "closed", "");
        data.pull_mut(closed).open = false;
    }
    assert_eq!(forge.find_pull("feature/x", "main").unwrap(), None);
    // The server refuses a second one of the same branches, in words that are not read.
    assert!(matches!(forge.open_pull("feature/x", "main", "t", ""), Err(ForgeError::Invalid(_))));
    scene.hub.data().pulls.clear();
    // Its answer is lost, and it is found.
    scene.hub.fault(&format!("POST {R}/pulls"), Fault::CutAfterEffect, 1);
    let made = forge.open_pull("feature/x", "main", "SHOP-1: x", "Fixes #12\n\n<!-- orch:t1 -->").unwrap();
    assert_eq!(scene.hub.pull(made.number).body, "Fixes - #12\n\n<!-- orch:t1 -->");
    assert_eq!(forge.open_pull("feature/x", "main", "again", "").unwrap().number, made.number);
    assert!(matches!(forge.open_pull("absent", "main", "t", ""), Err(ForgeError::NotFound(_))));
    assert!(matches!(forge.open_pull("main", "main", "t", ""), Err(ForgeError::Invalid(_))));
    let landing = orch::adapters::forge::Landing { message: "SHOP-1: closes #3\n\nWhy.", ..scene.landing() };
    forge.merge(&scene.mirror, made.number, &landing).unwrap();
    let log = scene.hub.log();
    let sent = log.iter().find(|s| s.line().starts_with("PUT ")).unwrap().json();
    let wanted = json!({"sha": scene.head.as_str(), "merge_method": "rebase", "commit_title": "SHOP-1: closes - #3", "commit_message": "Why."});
    assert_eq!(sent, wanted);
}

#[test]
fn gh_1_a_draft_is_marked_ready_and_who_can_not_review_stops_nothing() {
    let scene = Scene::new();
    scene.hub.data().checking = 0;
    let api = |reviewers: &'static [String]| {
        let account = orch::adapters::github::Account {
            api_base: &scene.hub.url(),
            login: token(),
            pace: orch::adapters::github::Pace::default(),
            reserve: 0,
            limits: Limits::default(),
        };
        let place = orch::adapters::forge::github::Place {
            owner: "team",
            name: "app",
            id: None,
            base: None,
            method: MergeMethod::Merge,
            via: MergeVia::Forge,
            draft: true,
            reviewers,
            team_reviewers: &[],
        };
        let api = orch::adapters::github::Api::new(account).unwrap();
        Box::new(orch::adapters::forge::Github::new(&place, api).unwrap())
    };
    static REVIEWERS: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    let forge = api(REVIEWERS.get_or_init(|| vec!["nobody".into()]));
    let pull = forge.open_pull("feature/x", "main", "t", "").unwrap();
    assert!(scene.hub.pull(pull.number).draft && scene.hub.data().asked_reviewers.is_empty());
    assert_eq!(word(&forge.merge(&scene.mirror, pull.number, &scene.landing())), "Merged");
    assert!(!scene.hub.pull(pull.number).draft);
}

fn answer(forge: &dyn Forge, scene: &Scene, accept: &[Accepted]) -> CiAnswer {
    roll_up(&forge.statuses(&scene.head).unwrap(), &["test".to_owned()], true, accept)
}

#[test]
fn gh_1_checks_and_statuses_of_exactly_the_head_add_up() {
    let scene = Scene::new();
    let forge = github(&scene.hub, MergeMethod::Merge, MergeVia::Forge);
    let pending = CiAnswer::Pending { missing: vec!["test".into()] };
    let red = CiAnswer::Red { contexts: vec!["test".into()] };
    scene.hub.check(scene.base.as_str(), "test", "success");
    assert_eq!(answer(forge.as_ref(), &scene, &[]), pending, "another commit's");
    let sha = scene.head.as_str().to_owned();
    scene.hub.check(&sha, "test", "skipped");
    assert_eq!(answer(forge.as_ref(), &scene, &[]), pending);
    assert_eq!(answer(forge.as_ref(), &scene, &[Accepted::Skipped]), CiAnswer::Green);
    scene.hub.check(&sha, "test", "failure");
    assert_eq!(answer(forge.as_ref(), &scene, &[Accepted::Skipped]), red);
    // Run again, later: the red run no longer counts.
    scene.hub.check(&sha, "test", "success");
    assert_eq!(answer(forge.as_ref(), &scene, &[]), CiAnswer::Green);
    // A posted status of that name counts as well.
    scene.hub.data().statuses.push(crate::support::github::Status {
        id: 9,
        sha: sha.clone(),
        context: "test".into(),
        state: "failure".into(),
        description: String::new(),
    });
    assert_eq!(answer(forge.as_ref(), &scene, &[]), red);
    scene.hub.data().statuses.clear();
    // Another app's run of that name, which started meanwhile.
    let (started, completed) = (scene.hub.data().now, 0);
    let run = |app: u64| Run {
        sha: sha.clone(),
        name: "test".into(),
        app,
        status: "in_progress".into(),
        conclusion: None,
        started,
        completed,
    };
    scene.hub.data().runs.push(run(7));
    assert_eq!(answer(forge.as_ref(), &scene, &[]), pending);
    // The rule pins the name to one app.
    let checks = json!({"required_status_checks": [{"context": "test", "integration_id": 15_368}], "strict_required_status_checks_policy": true});
    scene.hub.data().rules.push(rule("required_status_checks", checks));
    let again = github(&scene.hub, MergeMethod::Merge, MergeVia::Forge);
    assert_eq!(answer(again.as_ref(), &scene, &[]), CiAnswer::Green);
    // More than one page of them.
    for n in 0..250 {
        scene.hub.check(&sha, &format!("job {n}"), "success");
    }
    assert!(forge.statuses(&scene.head).unwrap().len() > 250);
}

#[test]
fn gh_1_a_token_that_may_not_read_checks_reads_jobs_and_others_stay_pending() {
    let scene = Scene::new();
    let forge = github(&scene.hub, MergeMethod::Merge, MergeVia::Forge);
    scene.hub.data().no_checks = true;
    scene.hub.check(scene.head.as_str(), "test", "success");
    assert_eq!(answer(forge.as_ref(), &scene, &[]), CiAnswer::Green);
    scene.hub.data().runs[0].app = 7;
    assert_eq!(answer(forge.as_ref(), &scene, &[]), CiAnswer::Pending { missing: vec!["test".into()] });
}

#[test]
fn gh_1_limits_are_distinguished_from_permissions_and_the_reserve_is_kept() {
    let scene = Scene::new();
    let forge = github(&scene.hub, MergeMethod::Merge, MergeVia::Forge);
    let path = format!("GET {R}/pulls/1");
    let wait = |reply: Reply| {
        scene.hub.fault(&path, Fault::Answer(reply), 1);
        match forge.pull(1) {
            Err(ForgeError::Throttled { retry_after_s, .. }) => Some(retry_after_s),
            Err(ForgeError::Refused { refusal: Refusal::Denied { .. }, .. }) => None,
            other => panic!("{other:?}"),
        }
    };
    let dated = |reply: Reply| reply.header("Date", "Sun, 22 Nov 2026 14:00:00 GMT");
    assert_eq!(wait(error(403, "x").header("Retry-After", 9)), Some(Some(9)));
    let used_up = error(403, "x").header("X-RateLimit-Remaining", 0).header("X-RateLimit-Reset", 1_795_356_090);
    assert_eq!(wait(dated(used_up)), Some(Some(90)));
    assert_eq!(wait(error(403, "You have exceeded a secondary rate limit.")), Some(None));
    assert_eq!(wait(error(429, "x")), Some(None));
    assert_eq!(wait(error(403, "Resource not accessible by integration").header("X-RateLimit-Remaining", 12)), None);
    // Only the reserve is left: CI waits, a stop does not.
    scene.hub.data().left = Some(60);
    assert_eq!(forge.pull(1).unwrap(), None);
    assert!(matches!(forge.statuses(&scene.head), Err(ForgeError::Throttled { .. })));
    assert_eq!(forge.pull(1).unwrap(), None);
    // A server that reports no limit has none.
    scene.hub.data().left = None;
    let other = github(&scene.hub, MergeMethod::Merge, MergeVia::Forge);
    assert!(other.statuses(&scene.head).is_ok());
}

#[test]
fn gh_1_a_permission_that_is_missing_is_named() {
    let scene = Scene::new();
    let forge = github(&scene.hub, MergeMethod::Merge, MergeVia::Forge);
    scene.hub.data().add_pull("feature/x", "main", "t", "");
    scene.hub.data().read_only = true;
    match forge.comment_once(1, "1/x", "text") {
        Err(ForgeError::Refused { refusal: Refusal::Denied { scope: Some(scope) }, .. }) => {
            assert_eq!(scope, "issues=write; pull_requests=write");
        }
        other => panic!("{other:?}"),
    }
    assert!(forge.may_comment().is_err());
    scene.hub.data().read_only = false;
    assert!(forge.may_comment().is_ok());
    scene.hub.data().hidden = true;
    assert!(matches!(forge.pull(9), Err(ForgeError::Refused { refusal: Refusal::Gone, .. })));
}

#[test]
fn a_comment_of_a_key_is_edited_and_a_stranger_can_not_pass_for_it() {
    let scene = Scene::new();
    let forge = github(&scene.hub, MergeMethod::Merge, MergeVia::Forge);
    scene.hub.data().add_pull("feature/x", "main", "t", "");
    let stranger = crate::support::github::Comment {
        id: 1,
        number: 1,
        by: "eve".into(),
        body: "<!-- orch:1/a -->\nmine".into(),
        ..Default::default()
    };
    scene.hub.data().comments.push(stranger);
    forge.comment_once(1, "1/a", "one").unwrap();
    forge.comment_once(1, "1/a", "two").unwrap();
    forge.comment_once(1, "1/a", "two").unwrap();
    let bodies: Vec<String> = scene.hub.data().comments.iter().map(|c| c.body.clone()).collect();
    assert_eq!(bodies, ["<!-- orch:1/a -->\nmine", "<!-- orch:1/a -->\ntwo"]);
    assert_eq!(scene.hub.writes().len(), 2);
}

fn hex(text: &str) -> Vec<u8> {
    let text: String = text.split_whitespace().collect();
    (0..text.len() / 2).map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap()).collect()
}

/// The App's private key as GitHub issues it; and its public one.
pub fn app_keys() -> (String, Vec<u8>) {
    use base64::Engine;
    let der = hex(include_str!("../fixtures/github/app-key.hex"));
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).unwrap()).collect();
    let kind = "RSA PRIVATE";
    let pem = format!("-----BEGIN {kind} KEY-----\n{}\n-----END {kind} KEY-----\n", lines.join("\n"));
    (pem, hex(include_str!("../fixtures/github/app-public.hex")))
}

#[test]
fn gh_1_an_app_buys_a_token_keeps_it_for_all_and_renews_it_in_time() {
    let scene = Scene::new();
    let (pem, public) = app_keys();
    scene.hub.data().app_key = public;
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    let app = |key: &str| {
        let key = Arc::new(zeroize::Zeroizing::new(key.to_owned()));
        Login::App(App { id: "12".into(), installation: INSTALLATION, key, tokens: tokens.clone() })
    };
    let forge = |login| github_as(&scene.hub.url(), login, MergeMethod::Merge, MergeVia::Forge, Limits::default());
    assert_eq!(forge(app(&pem)).user().unwrap().login, "orch-app[bot]");
    for _ in 0..2 {
        assert_eq!(forge(app(&pem)).pull(1).unwrap(), None);
    }
    assert_eq!(scene.hub.data().app_tokens.len(), 1, "every process uses the one that is kept");
    use std::os::unix::fs::PermissionsExt;
    let mode = |p: &std::path::Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    let file = std::fs::read_dir(&tokens)
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.extension().is_some_and(|e| e == "json"));
    let file = file.unwrap();
    assert_eq!((mode(&tokens), mode(&file)), (0o700, 0o600));
    let kept = scene.hub.data().app_tokens[0].clone();
    assert!(orch::model::redact::current().find(kept.as_bytes()).is_some(), "the redactor knows it");
    // It has less than five minutes left.
    let soon = orch::model::time::rfc3339(jiff::Timestamp::now().as_millisecond() + 4 * 60_000);
    std::fs::write(&file, json!({"token": kept, "expires_at": soon}).to_string()).unwrap();
    assert_eq!(forge(app(&pem)).pull(1).unwrap(), None);
    assert_eq!(scene.hub.data().app_tokens.len(), 2);
    // A token that is refused before it expires is renewed once, and no more.
    scene.hub.data().app_tokens.push("ghs_another".into());
    assert_eq!(forge(app(&pem)).pull(1).unwrap(), None);
    assert_eq!(scene.hub.data().app_tokens.len(), 4);
    scene.hub.data().withdrawn = true;
    let refused = forge(app(&pem)).pull(1);
    assert!(matches!(refused, Err(ForgeError::Refused { refusal: Refusal::BadCredential, .. })), "{refused:?}");
    assert_eq!(scene.hub.data().app_tokens.len(), 5);
    std::fs::remove_file(&file).unwrap();
    let said = format!("{:?}", forge(app("no key")).pull(1));
    assert!(said.contains("app.key contains no RSA private key"), "{said}");
}

/// One call, and which of its requests gets the fault.
struct Call {
    name: &'static str,
    request: String,
    run: fn(&Scene, &dyn Forge) -> Result<String, ForgeError>,
    write: bool,
}

fn calls() -> Vec<Call> {
    let call =
        |name, request: &str, write, run| Call { name, request: request.replace(" R", &format!(" {R}")), run, write };
    vec![
        call("find", "GET R/pulls", false, |_, f| Ok(format!("{:?}", f.find_pull("feature/x", "main")?))),
        call("pull", "GET R/pulls/1", false, |_, f| Ok(format!("{:?}", f.pull(1)?))),
        call("checks", "GET R/commits/", false, |s, f| Ok(format!("{:?}", f.statuses(&s.head)?))),
        call("post status", "POST R/statuses/", true, |s, f| {
            Ok(format!("{:?}", f.post_status(&s.head, "orch/ci", StatusState::Success, "good")?))
        }),
        call("comment", "POST R/issues/1/comments", true, |_, f| {
            Ok(format!("{:?}", f.comment_once(1, "17/b", "text")?))
        }),
        call("rules", "GET R/rules/", false, |_, f| Ok(format!("{:?}", f.protection("main")?))),
        call("user", "GET /user", false, |_, f| Ok(format!("{:?}", f.user()?))),
        call("repository", "GET R", false, |_, f| Ok(format!("{:?}", f.repository()?))),
        call("close", "PATCH R/pulls/2", true, |_, f| Ok(format!("{:?}", f.close_pull(2)?))),
        call("merge", "PUT R/pulls/1/merge", true, |s, f| Ok(format!("{:?}", f.merge(&s.mirror, 1, &s.landing())?))),
    ]
}

#[test]
fn gh_1_every_call_against_every_misfortune_of_the_wire_leaves_one_effect() {
    let html = |status| Fault::Answer(Reply::html(status, "<html><body>Bad Gateway</body></html>"));
    let said = |status| Fault::Answer(error(status, &format!("said with {TOKEN}")));
    let faults: Vec<(&str, Fault, &[&str], &[&str])> = vec![
        ("401", said(401), &["Refused"], &["Refused"]),
        ("422", said(422), &["Invalid"], &["Invalid"]),
        ("200 HTML", html(200), &["Refused"], &["UnknownOutcome", "Refused", "ok"]),
        ("429", Fault::throttled(7), &["Throttled"], &["Throttled"]),
        ("500", said(500), &["Transient"], &["UnknownOutcome", "Transient"]),
        ("502 HTML", html(502), &["Transient"], &["UnknownOutcome", "Transient"]),
        ("301", Fault::Redirect("https://new.example/repositories/1?token=s3cret".into()), &["Refused"], &["Refused"]),
        ("reset", Fault::Reset, &["Transient"], &["UnknownOutcome", "ok"]),
        ("cut", Fault::CutAfterEffect, &["Transient"], &["UnknownOutcome", "ok"]),
        ("half", Fault::TruncatedJson, &["Transient"], &["UnknownOutcome", "ok"]),
        ("hang", Fault::Hang, &["Transient"], &["UnknownOutcome", "ok"]),
    ];
    let wait = Duration::from_millis(400);
    let limits = |wait| Limits { connect: Duration::from_secs(10), read: wait, write: wait, max_body: 8 << 20 };
    for call in calls() {
        let scene = Scene::new();
        drop(raw(&scene.world.path("remote.git"), &["branch", "other", "feature/x"]));
        for (name, fault, of_read, of_write) in &faults {
            {
                let mut data = scene.hub.data();
                (data.checking, data.pulls) = (0, vec![]);
                (data.comments, data.statuses) = (vec![], vec![]);
                data.add_pull("feature/x", "main", "t", "b");
                data.add_pull("other", "main", "u", "");
            }
            let bound = if *name == "hang" { wait } else { Duration::from_secs(30) };
            let inner = github_as(&scene.hub.url(), token(), MergeMethod::Squash, MergeVia::Forge, limits(bound));
            let forge: Box<dyn Forge> = Box::new(inner.with_merge_timeout(bound));
            scene.hub.fault(&call.request, fault.clone(), 1);
            let done = (call.run)(&scene, forge.as_ref());
            let class = match &done {
                Ok(_) => "ok".to_owned(),
                Err(e) => format!("{e:?}").split(['(', ' ', '{']).next().unwrap().to_owned(),
            };
            let allowed = if call.write { of_write } else { of_read };
            assert!(allowed.contains(&class.as_str()), "{} with {name}: {done:?}", call.name);
            let text = format!("{done:?}");
            assert!(!text.contains(TOKEN) && !text.contains("s3cret"), "{} with {name}: {text}", call.name);
            if call.name == "merge" {
                // The merge itself is covered by the merge table: it lands once.
                continue;
            }
            drop((call.run)(&scene, forge.as_ref()).unwrap_or_else(|e| panic!("{} after {name}: {e}", call.name)));
            let data = scene.hub.data();
            match call.name {
                "comment" => assert_eq!(data.comments.len(), 1, "{name}"),
                "post status" => assert_eq!(data.statuses.len(), 1, "{name}"),
                "close" => assert!(!data.pulls[1].open, "{name}"),
                _ => {}
            }
        }
    }
}
