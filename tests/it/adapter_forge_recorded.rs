//! What a real server (1.15.11) answered, every piece of it, read by the client.

use crate::support::gitea::TOKEN;
use crate::support::http::{Reply, Seen, Server};
use orch::adapters::forge::{CommentOutcome, Forge, ForgeError, Gitea, MergeVia, Place, StatusState};
use orch::adapters::git::MergeMethod;
use orch::adapters::http::{Auth, Class, Client, Limits, Method, Request, Token};
use orch::model::ids::Sha;
use serde_json::Value;

/// Answers everything with one recorded answer.
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

/// Whatever was asked for: the body is what was sent, or the refusal has a class.
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
        let forge = Forge::Gitea(Box::new(Gitea::new(&place, Token::new(TOKEN), Limits::default()).unwrap()));
        let (body, sha) = (&entry["body"], Sha::parse(&"a".repeat(40)).unwrap());
        let status = entry["status"].as_u64().unwrap();
        parsed += usize::from(parses(&entry, &server.url()));
        if entry["method"] == "DELETE" || entry["method"] == "PUT" {
            continue;
        }
        if status >= 400 {
            let error = forge.user().unwrap_err();
            let fits = match status {
                401 | 403 => matches!(error, ForgeError::Auth(_)),
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
            // Its one comment is not ours; the answer to the post is not looked at beyond its status.
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
