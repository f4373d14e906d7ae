//! Every call to Gitea with every network fault: a class that policy can act on, no secret in any text, and after the
//! fault the same call leaves exactly one effect.

use crate::adapter_forge::Scene;
use crate::support::gitea::TOKEN;
use crate::support::http::{Fault, Reply, refused_url};
use orch::adapters::forge::{Forge, ForgeError, Gitea, MergeVia, Place, StatusState};
use orch::adapters::git::MergeMethod;
use orch::adapters::http::{Limits, Token};
use orch::model::refusal::Refusal;
use serde_json::json;
use std::time::Duration;

const R: &str = "/api/v1/repos/team/app";

/// `wait` limits each exchange.
fn forge(url: &str, wait: Duration) -> Box<dyn Forge> {
    let place = Place { url, owner: "team", name: "app", method: MergeMethod::Squash, via: MergeVia::Forge };
    let limits = Limits { connect: Duration::from_secs(10), read: wait, write: wait, max_body: 1 << 20 };
    Box::new(Gitea::new(&place, Token::new(TOKEN), limits).unwrap().with_merge_timeout(wait))
}

const PATIENT: Duration = Duration::from_secs(30);

/// One call, and which of its requests gets the fault.
struct Call {
    name: &'static str,
    request: String,
    run: fn(&Scene, &dyn Forge) -> Result<String, ForgeError>,
    write: bool,
}

fn calls() -> Vec<Call> {
    let call = |name, request: &str, write, run| Call { name, request: request.replace('R', R), run, write };
    vec![
        call("find", "GET R/pulls", false, |_, f| Ok(format!("{:?}", f.find_pull("feature/x", "main")?))),
        call("open", "POST R/pulls", true, |_, f| Ok(format!("{:?}", f.open_pull("feature/x", "main", "t", "b")?))),
        call("pull", "GET R/pulls/1", false, |_, f| Ok(format!("{:?}", f.pull(1)?))),
        call("statuses", "GET R/commits/", false, |s, f| Ok(format!("{:?}", f.statuses(&s.head)?))),
        call("post status", "POST R/statuses/", true, |s, f| {
            Ok(format!("{:?}", f.post_status(&s.head, "orch/ci", StatusState::Success, "good")?))
        }),
        call("look for a comment", "GET R/issues/1/comments", false, |_, f| {
            Ok(format!("{:?}", f.comment_once(1, "17/a", "text")?))
        }),
        call("comment", "POST R/issues/1/comments", true, |_, f| {
            Ok(format!("{:?}", f.comment_once(1, "17/b", "text")?))
        }),
        call("branch", "GET R/branches/main", false, |_, f| Ok(format!("{:?}", f.protection("main")?))),
        call("user", "GET /api/v1/user", false, |_, f| Ok(format!("{:?}", f.user()?))),
        call("version", "GET /api/v1/version", false, |_, f| Ok(format!("{:?}", f.version()?))),
        call("repository", "GET R", false, |_, f| Ok(format!("{:?}", f.repository()?))),
        call("close", "PATCH R/pulls/2", true, |_, f| Ok(format!("{:?}", f.close_pull(2)?))),
        call("merge", "POST R/pulls/1/merge", true, |s, f| Ok(format!("{:?}", f.merge(&s.mirror, 1, &s.landing())?))),
    ]
}

/// A scene with pull request 1 to merge (its check has run) and pull request 2, of another branch, to close.
fn scene() -> Scene {
    let scene = Scene::new();
    let remote = scene.world.path("remote.git");
    crate::support::git::raw(&remote, &["branch", "other", "feature/x"]);
    {
        let mut data = scene.fake.data();
        data.checking = 0;
        data.add_pull("feature/x", "main", "t", "b");
        data.add_pull("other", "main", "u", "");
    }
    scene
}

fn class(result: &Result<String, ForgeError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(ForgeError::Refused { refusal, .. }) => match refusal {
            Refusal::BadCredential => "credential",
            Refusal::Denied { .. } => "denied",
            Refusal::Archived => "archived",
            Refusal::MovedTo { .. } => "moved",
            Refusal::Gone => "gone",
            Refusal::Foreign => "foreign",
            Refusal::Missing | Refusal::NoPullRequests | Refusal::Other => "another",
        },
        Err(ForgeError::NotFound(_)) => "not found",
        Err(ForgeError::Conflict(_)) => "conflict",
        Err(ForgeError::Invalid(_)) => "invalid",
        Err(ForgeError::Throttled { .. }) => "throttled",
        Err(ForgeError::Transient(_)) => "transient",
        Err(ForgeError::UnknownOutcome(_)) => "unknown",
    }
}

fn answered(status: u16) -> Fault {
    let body = json!({"message": format!("said with {TOKEN}"), "url": "x"});
    Fault::Answer(Reply::json(status, &body))
}

/// Name, fault, and the classes that a read, a write, and the merge may return.
fn faults() -> Vec<(&'static str, Fault, &'static [&'static str], &'static [&'static str])> {
    let html = |status| Fault::Answer(Reply::html(status, "<html><body>Bad Gateway</body></html>"));
    let lost: &[&str] = &["unknown", "ok"];
    vec![
        ("401", answered(401), &["credential"], &["credential"]),
        ("403", answered(403), &["denied"], &["denied"]),
        // A fault of one answer: the repository itself, read right after, may differ.
        ("404", answered(404), &["not found", "gone", "ok"], &["not found", "ok"]),
        ("409", answered(409), &["conflict"], &["conflict", "ok"]),
        ("413", html(413), &["invalid"], &["invalid"]),
        ("422", answered(422), &["invalid"], &["invalid"]),
        ("423", answered(423), &["archived"], &["archived"]),
        ("200 HTML", html(200), &["foreign"], &["unknown", "foreign", "ok"]),
        ("403 HTML", html(403), &["foreign"], &["foreign"]),
        ("404 HTML", html(404), &["foreign"], &["foreign"]),
        ("429", Fault::throttled(7), &["throttled"], &["throttled"]),
        ("500", answered(500), &["transient"], &["unknown", "transient"]),
        ("502 HTML", html(502), &["transient"], &["unknown", "transient"]),
        ("503 HTML", html(503), &["transient"], &["unknown", "transient"]),
        ("504 HTML", html(504), &["transient"], &["unknown", "transient"]),
        ("301", Fault::Redirect("http://new.example/api/v1/x?token=s3cret".into()), &["moved"], &["moved"]),
        ("reset", Fault::Reset, &["transient"], lost),
        ("cut after the effect", Fault::CutAfterEffect, &["transient"], lost),
        ("cut in the body", Fault::CutMidBody, &["transient"], lost),
        ("half JSON", Fault::TruncatedJson, &["transient"], lost),
        ("endless", Fault::Endless, &["invalid"], lost),
    ]
}

/// Asserts the exactly-once effects after the call was repeated until it succeeded.
fn settled(scene: &Scene, call: &Call, at: &str) {
    let data = scene.fake.data();
    match call.name {
        "open" => assert_eq!(data.pulls.iter().filter(|p| p.head == "feature/x" && p.open).count(), 1, "{at}"),
        "look for a comment" | "comment" => assert_eq!(data.comments.len(), 1, "{at}"),
        "post status" => {
            assert_eq!(data.statuses.last().map(|s| s.description.as_str()), Some("good"), "{at}");
            assert_eq!(data.statuses.len(), 1, "{at}");
        }
        "close" => assert!(!data.pulls[1].open, "{at}"),
        "merge" => {
            drop(data);
            assert!(scene.fake.pull(1).merged, "{at}");
            let log = crate::support::git::raw(&scene.world.path("remote.git"), &["rev-list", "--count", "main"]);
            assert_eq!(log, "2", "{at}");
        }
        _ => {}
    }
}

fn no_secret(result: &Result<String, ForgeError>, at: &str) {
    let shown = match result {
        Ok(text) => text.clone(),
        Err(e) => format!("{e} {e:?}"),
    };
    assert!(!shown.contains(TOKEN) && !shown.contains("s3cret"), "{at}: {shown}");
}

/// Prepares what a call needs to have something to do.
fn prepare(scene: &Scene, call: &Call) {
    let mut data = scene.fake.data();
    data.comments.clear();
    data.statuses.clear();
    match call.name {
        "open" => data.pulls.retain(|p| p.head != "feature/x"),
        "close" => data.pull_mut(2).open = true,
        _ => {}
    }
}

#[test]
fn every_call_meets_every_misfortune() {
    for call in calls() {
        let mut shared = scene();
        for (name, fault, reads, writes) in faults() {
            let at = format!("{} against {name}", call.name);
            if call.name == "merge" {
                shared = scene();
            }
            prepare(&shared, &call);
            let forge = forge(&shared.fake.url(), PATIENT);
            shared.fake.fault(&call.request, fault, 1);
            let result = (call.run)(&shared, forge.as_ref());
            no_secret(&result, &at);
            let allowed = if call.write { writes } else { reads };
            // A merge's refusals are outcomes, not errors.
            let fits = allowed.contains(&class(&result)) || call.name == "merge" && class(&result) == "ok";
            assert!(fits, "{at}: {result:?}");
            match &result {
                Err(ForgeError::Throttled { retry_after_s, .. }) => assert_eq!(*retry_after_s, Some(7), "{at}"),
                Err(ForgeError::Refused { refusal: Refusal::MovedTo { to }, .. }) => {
                    assert_eq!(to, "http://new.example/api/v1/x", "{at}");
                }
                Ok(text) if call.name == "merge" && text.starts_with("Merged") => settled(&shared, &call, &at),
                _ => {}
            }
            (call.run)(&shared, forge.as_ref()).unwrap_or_else(|e| panic!("{at}, repeated: {e}"));
            settled(&shared, &call, &at);
        }
    }
}

#[test]
fn a_server_that_is_slow_silent_or_away_is_given_up_in_time() {
    // Enough for the fake's own work on a busy machine, short enough to wait out.
    let bound = Duration::from_secs(4);
    let given_up = |call: &Call, name: &str, fault: Fault| {
        let at = format!("{} against {name}", call.name);
        let scene = scene();
        scene.fake.fault(&call.request, fault, 1);
        let result = (call.run)(&scene, forge(&scene.fake.url(), bound).as_ref());
        let wanted = if call.write { "unknown" } else { "transient" };
        assert_eq!(class(&result), wanted, "{at}: {result:?}");
        no_secret(&result, &at);
        (call.run)(&scene, forge(&scene.fake.url(), PATIENT).as_ref()).unwrap();
        settled(&scene, call, &at);
    };
    let all = calls();
    // All of them wait at once.
    std::thread::scope(|scope| {
        for call in all.iter().filter(|c| ["pull", "comment", "merge"].contains(&c.name)) {
            for (name, fault) in [("hang", Fault::Hang), ("slow bytes", Fault::SlowBytes)] {
                scope.spawn(move || given_up(call, name, fault));
            }
        }
    });
    let scene = scene();
    let away = forge(&refused_url(), PATIENT);
    for call in calls() {
        let result = (call.run)(&scene, away.as_ref());
        assert_eq!(class(&result), "transient", "{}: {result:?}", call.name);
    }
}

#[test]
fn a_merge_keeps_its_long_bound_and_addresses_are_checked() {
    let place =
        Place { url: "http://x/git/", owner: "team", name: "app", method: MergeMethod::Merge, via: MergeVia::Forge };
    let shown = format!("{:?}", Gitea::new(&place, Token::new(TOKEN), Limits::default()).unwrap());
    assert!(shown.contains("merge_timeout: 300s") && !shown.contains(TOKEN), "{shown}");
    for bad in [
        Place { url: "ftp://x", ..place },
        Place { url: "http://user:s3cret@x", ..place },
        Place { owner: "", ..place },
        Place { name: "a/b", ..place },
    ] {
        let error = Gitea::new(&bad, Token::new(TOKEN), Limits::default()).unwrap_err();
        assert!(matches!(&error, ForgeError::Invalid(t) if !t.contains("s3cret")), "{error}");
    }
}

#[test]
fn two_openers_at_once_end_with_one_pull_request() {
    let scene = Scene::new();
    // The other opener acts between the check and the request: recorded words, 409.
    scene.fake.data().add_pull("feature/x", "main", "theirs", "");
    let forge = forge(&scene.fake.url(), PATIENT);
    let empty = Reply::json(200, &json!([])).header("X-Total-Count", 0);
    scene.fake.fault(&format!("GET {R}/pulls"), Fault::Answer(empty.clone()), 1);
    let pull = forge.open_pull("feature/x", "main", "mine", "").unwrap();
    assert_eq!((pull.number, scene.fake.data().pulls.len()), (1, 1));
    // And not found any more afterwards: a conflict, not a guess.
    scene.fake.fault(&format!("GET {R}/pulls"), Fault::Answer(empty), 2);
    assert!(matches!(forge.open_pull("feature/x", "main", "mine", ""), Err(ForgeError::Conflict(_))));
}

#[test]
fn lists_of_an_unexpected_form_are_errors_and_not_empty() {
    let scene = Scene::new();
    let forge = forge(&scene.fake.url(), PATIENT);
    let odd = [json!({"message": "hm"}), json!("x"), json!([{"no": "id"}]), json!([{"id": 1}]), json!([[1]])];
    for body in odd {
        for path in ["pulls", "commits/"] {
            scene.fake.fault(&format!("GET {R}/{path}"), Fault::Answer(Reply::json(200, &body)), 1);
        }
        assert!(forge.find_pull("feature/x", "main").is_err(), "{body}");
        let statuses = forge.statuses(&scene.head);
        // A status without a word is an unknown one; anything less is an error.
        assert!(statuses.is_err() || body == json!([{"id": 1}]), "{body}: {statuses:?}");
        assert!(statuses.is_err() || statuses.unwrap()[0].state == StatusState::Unknown);
    }
    scene.fake.fault("GET ", Fault::Answer(Reply::json(200, &json!(null))), 1);
    assert!(forge.statuses(&scene.head).unwrap().is_empty());
    scene.fake.fault("GET ", Fault::Answer(Reply::json(200, &json!({"version": 1}))), 1);
    assert!(forge.version().is_err());
}
