//! What a real server (1.15.11) answered, every piece of it, read by the client.

use crate::adapter_forge::{Scene, gitea};
use crate::support::gitea::{Effect, Script, TOKEN};
use crate::support::http::{Reply, Seen, Server};
use orch::adapters::forge::{
    Awaited, CommentOutcome, Forge, ForgeError, Gitea, MergeOutcome, MergeVia, Place, StatusState,
};
use orch::adapters::git::MergeMethod;
use orch::adapters::http::{Auth, Class, Client, Limits, Method, Request, Token};
use orch::model::ids::Sha;
use orch::model::refusal::Refusal;
use serde_json::Value;

/// Answers every request with one recorded answer.
fn replay(entry: &Value) -> Server {
    let (status, body) = (entry["status"].as_u64().unwrap() as u16, entry["body"].clone());
    let total = entry["headers"]["x-total-count"].as_str().map(str::to_owned);
    let raw_text = body.as_str().filter(|_| entry["headers"]["content-type"] != "application/json;charset=utf-8");
    let raw_text = raw_text.map(str::to_owned);
    Server::start(move |_: &Seen| {
        let mut reply = Reply::json(status, &body);
        if let Some(text) = &raw_text {
            reply.body = text.clone().into_bytes();
        }
        if let Some(total) = &total { reply.header("X-Total-Count", total) } else { reply }
    })
}

/// For every request: the body is what was sent, or the refusal has a class.
fn parses(entry: &Value, url: &str) -> bool {
    let method = match entry["method"].as_str().unwrap() {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "PATCH" => Method::Patch,
        "DELETE" => Method::Delete,
        other => panic!("{other}"),
    };
    let client = Client::new(url, Auth::None, Limits::default()).unwrap();
    match client.send(&Request::new(method, "/x")) {
        Ok(reply) if entry["headers"]["content-type"].as_str().is_some_and(|t| t.contains("json")) => {
            reply.json().unwrap() == entry["body"]
        }
        Ok(reply) => reply.text() == entry["body"].as_str().unwrap_or_default(),
        Err(e) => e.class != Class::BadBody && e.status == entry["status"].as_u64().map(|s| s.try_into().unwrap()),
    }
}

#[test]
fn every_recorded_answer_reads() {
    let recorded = include_str!("../fixtures/gitea/recorded-1.15.jsonl");
    let (mut parsed, mut read) = (0, 0);
    for line in recorded.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let (name, path) = (entry["name"].as_str().unwrap(), entry["path"].as_str().unwrap());
        let server = replay(&entry);
        let place =
            Place { url: &server.url(), owner: "orch", name: "app", method: MergeMethod::Merge, via: MergeVia::Forge };
        let forge = Gitea::new(&place, Token::new(TOKEN), Limits::default()).unwrap();
        let (body, sha) = (&entry["body"], Sha::parse(&"a".repeat(40)).unwrap());
        let status = entry["status"].as_u64().unwrap();
        parsed += usize::from(parses(&entry, &server.url()));
        if entry["method"] == "DELETE" || entry["method"] == "PUT" {
            continue;
        }
        if status >= 400 {
            let error = forge.user().unwrap_err();
            let fits = match status {
                401 => matches!(error, ForgeError::Refused { refusal: Refusal::BadCredential, .. }),
                403 => matches!(error, ForgeError::Refused { refusal: Refusal::Denied { .. }, .. }),
                404 => matches!(error, ForgeError::NotFound(_)),
                409 | 412 => matches!(error, ForgeError::Conflict(_)),
                500.. => matches!(error, ForgeError::Transient(_)),
                _ => matches!(error, ForgeError::Invalid(_)),
            };
            assert!(fits, "{name}: {error}");
            if let Some(message) = body["message"].as_str() {
                assert!(error.to_string().contains(&message[..message.len().min(40)]), "{name}: {error}");
            }
            read += 1;
            continue;
        }
        let one = |v: &Value| v["merged"].is_boolean();
        if one(body) {
            let pull = forge.pull(1).unwrap().unwrap();
            assert_eq!(pull.number, body["number"].as_i64().unwrap(), "{name}");
            assert_eq!(pull.merged, pull.merge_commit.is_some(), "{name}");
            assert_eq!(pull.head, body["head"]["label"].as_str().unwrap(), "{name}");
            assert_eq!(pull.url, body["html_url"].as_str().unwrap(), "{name}");
        } else if path.contains("/pulls?") {
            let head = body.get(0).map_or("none", |p| p["head"]["ref"].as_str().unwrap());
            let found = forge.find_pull(head, "main").unwrap();
            let open = body.get(0).is_some_and(|p| p["state"] == "open");
            assert_eq!(found.is_some(), open, "{name}");
        } else if path.contains("/statuses/") && body.is_array() {
            let all = forge.statuses(&sha).unwrap();
            assert_eq!(all.len(), 2, "{name}");
            assert_eq!(all[0].state, StatusState::Success, "{name}");
        } else if path.contains("/comments") && body.is_array() {
            // Its one comment is not ours; of the answer to the post, only the status counts.
            assert_eq!(forge.comment_once(1, "1/x", "text").unwrap(), CommentOutcome::Posted, "{name}");
        } else if path.ends_with("/branches/orch/t1") {
            let found = forge.protection("orch/t1").unwrap();
            assert_eq!((found.protected, found.may_push), (false, Some(true)), "{name}");
        } else if path.ends_with("/user") {
            assert!(forge.user().unwrap().admin, "{name}");
        } else if path.ends_with("/version") {
            let version = forge.version().unwrap();
            assert_eq!((version.version.as_str(), version.guards_head), ("1.15.11", false), "{name}");
        } else if path.ends_with("/repos/orch/app") {
            assert_eq!(forge.repository().unwrap().method_enabled, Some(true), "{name}");
        } else {
            continue;
        }
        read += 1;
    }
    assert_eq!((parsed, recorded.lines().count()), (97, 97));
    assert!(read >= 60, "{read}");
}

const NEWEST: &str = include_str!("../fixtures/gitea-1.26/recorded.jsonl");

/// The class of an error, with what a person sees of it.
fn class(error: &ForgeError) -> String {
    match error {
        ForgeError::Refused { refusal: Refusal::BadCredential, .. } => "bad credential".to_owned(),
        ForgeError::Refused { refusal: Refusal::Denied { scope }, .. } => {
            format!("denied {}", scope.as_deref().unwrap_or("-"))
        }
        ForgeError::Refused { refusal: Refusal::Archived, .. } => "archived".to_owned(),
        ForgeError::Refused { refusal: Refusal::MovedTo { to }, .. } => format!("moved {to}"),
        ForgeError::Refused { refusal: Refusal::Foreign, .. } => "foreign".to_owned(),
        ForgeError::Refused { refusal, .. } => format!("{refusal:?}"),
        ForgeError::NotFound(_) => "not found".to_owned(),
        ForgeError::Conflict(_) => "conflict".to_owned(),
        ForgeError::Invalid(_) => "invalid".to_owned(),
        ForgeError::Throttled { .. } => "throttled".to_owned(),
        ForgeError::Transient(_) => "transient".to_owned(),
        ForgeError::UnknownOutcome(_) => "unknown".to_owned(),
    }
}

/// Each refusal of a real 1.26, as the answer to a read: the class that its status and words mean.
#[test]
fn every_refusal_of_the_newest_server_has_its_class() {
    let mut read = 0;
    for line in NEWEST.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let name = entry["name"].as_str().unwrap();
        let status = entry["status"].as_u64().unwrap();
        if status < 300 {
            continue;
        }
        let body = entry["body"].clone();
        let json = entry["headers"]["content-type"].as_str().is_some_and(|t| t.contains("json"));
        let location = entry["headers"]["location"].as_str().map(str::to_owned);
        let server = Server::start(move |_: &Seen| {
            let text = body.as_str().unwrap_or("");
            let reply = if json { Reply::json(status as u16, &body) } else { Reply::text(status as u16, text) };
            match &location {
                Some(to) => reply.header("Location", to),
                None => reply,
            }
        });
        let place =
            Place { url: &server.url(), owner: "team", name: "app", method: MergeMethod::Merge, via: MergeVia::Forge };
        let forge = Gitea::new(&place, Token::new(TOKEN), Limits::default()).unwrap();
        let error = forge.user().unwrap_err();
        let said = entry["body"]["message"].as_str().unwrap_or("");
        let scope = said.split_once("required=[").map(|(_, rest)| rest.split(']').next().unwrap());
        let wanted = match status {
            401 => "bad credential".to_owned(),
            403 => format!("denied {}", scope.unwrap_or("-")),
            404 => "not found".to_owned(),
            423 => "archived".to_owned(),
            301 if name.ends_with("-git") => "moved /team/renamed/info/refs".to_owned(),
            301 => "moved team/renamed".to_owned(),
            409 | 412 => "conflict".to_owned(),
            400 | 405 | 422 => "invalid".to_owned(),
            500 => "transient".to_owned(),
            other => panic!("{name}: {other}"),
        };
        assert_eq!(class(&error), wanted, "{name}: {error}");
        assert!(said.is_empty() || error.to_string().contains(&said[..said.len().min(40)]), "{name}: {error}");
        assert_eq!(error.is_outage(), status >= 500, "{name}");
        read += 1;
    }
    assert!(read > 60, "{read}");
}

/// Each success of a real 1.26 that the product reads.
#[test]
fn every_answer_of_the_newest_server_reads() {
    let mut read = 0;
    for line in NEWEST.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let (name, path) = (entry["name"].as_str().unwrap(), entry["path"].as_str().unwrap());
        let (tail, body) = (path.split('?').next().unwrap(), &entry["body"]);
        if entry["status"].as_u64().unwrap() >= 300 || entry["method"] == "DELETE" {
            continue;
        }
        let server = replay(&entry);
        let place =
            Place { url: &server.url(), owner: "team", name: "app", method: MergeMethod::Merge, via: MergeVia::Forge };
        let forge = Gitea::new(&place, Token::new(TOKEN), Limits::default()).unwrap();
        let sha = Sha::parse(&"a".repeat(40)).unwrap();
        if body["merged"].is_boolean() {
            let pull = forge.pull(1).unwrap().unwrap();
            assert_eq!(
                (pull.number, pull.merged),
                (body["number"].as_i64().unwrap(), body["merged"] == true),
                "{name}"
            );
            assert_eq!(pull.merged, pull.merge_commit.is_some(), "{name}");
            assert_eq!(pull.head, body["head"]["label"].as_str().unwrap(), "{name}");
            let gone = body["head"]["ref"].as_str().unwrap().starts_with("refs/");
            assert_eq!(pull.head_sha.is_none(), gone, "{name}");
        } else if tail.ends_with("/pulls") && entry["method"] == "GET" {
            let head = body.get(0).map_or("none", |p| p["head"]["ref"].as_str().unwrap());
            assert_eq!(forge.find_pull(head, "main").unwrap().is_some(), body.get(0).is_some(), "{name}");
        } else if tail.ends_with("/statuses") {
            let all = forge.statuses(&sha).unwrap();
            assert_eq!(all.len(), body.as_array().unwrap().len(), "{name}");
            let odd = all.iter().filter(|s| s.context == "ci/odd");
            assert!(odd.into_iter().all(|s| s.state == StatusState::Unknown), "{name}");
        } else if tail.contains("/branches/") {
            let found = forge.protection("main").unwrap();
            assert_eq!(found.may_push, body["user_can_push"].as_bool(), "{name}");
            assert_eq!(found.may_merge, body["user_can_merge"].as_bool(), "{name}");
            assert_eq!(found.protected, body["protected"] == true, "{name}");
        } else if tail.ends_with("/repos/team/app") || tail.ends_with("/repos/team/fresh") {
            let repo = forge.repository().unwrap();
            assert_eq!((repo.archived, repo.may_push, repo.pull_requests), (false, Some(true), Some(true)), "{name}");
        } else if tail.ends_with("/comments") && entry["method"] == "GET" {
            // The marker of task 1 is on its first comment.
            let known = body[0]["body"].as_str().unwrap();
            let marker = known.strip_prefix("<!-- orch:").unwrap().split(" -->").next().unwrap();
            assert_eq!(forge.comment_once(1, marker, "text").unwrap(), CommentOutcome::Present, "{name}");
        } else if tail.ends_with("/user") {
            assert_eq!(forge.user().unwrap().login, "orch", "{name}");
        } else if tail.ends_with("/version") {
            assert!(forge.version().unwrap().guards_head, "{name}");
        } else {
            continue;
        }
        read += 1;
    }
    assert!(read >= 30, "{read}");
}

/// Each refusal of a real 1.26 to merge for now, with its older wording: what it waits for.
#[test]
fn every_merge_the_newest_server_puts_off_says_what_it_waits_for() {
    let wanted = [
        ("merge-wip", Awaited::Draft),
        ("merge-status-missing", Awaited::Checks),
        ("merge-status-failing", Awaited::Checks),
        ("merge-while-scheduled", Awaited::Checks),
        ("merge-no-approval", Awaited::Approval),
        ("merge-rejected", Awaited::Review),
        ("merge-not-on-list", Awaited::MergeRight),
        ("merge-unsigned", Awaited::Signature),
    ];
    let of = |name: &str| {
        let entry = NEWEST
            .lines()
            .map(|l| serde_json::from_str::<Value>(l).unwrap())
            .find(|e| e["name"].as_str().is_some_and(|n| n.get(4..) == Some(name)));
        entry.unwrap()["body"]["message"].as_str().unwrap().to_owned()
    };
    for (name, what) in wanted {
        for said in [of(name), format!("not allowed to merge [reason: {}]", of(name))] {
            let scene = Scene::new();
            let forge = gitea(&scene.fake, MergeMethod::Merge, MergeVia::Forge);
            forge.open_pull("feature/x", "main", "x", "").unwrap();
            let reply = Reply::json(405, &serde_json::json!({"message": said}));
            scene.fake.script(Script::new(Effect::Nothing, Some(reply)));
            match forge.merge(&scene.mirror, 1, &scene.landing()).unwrap() {
                MergeOutcome::Awaits { what: got, said: forge_text } => {
                    assert_eq!(got, what, "{name}");
                    assert!(forge_text.contains(&said), "{forge_text}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}
