//! What a real Plane (API 1.3.1) answered, every piece of it, read by the client: a decode corpus.

use crate::support::http::{Reply, Seen, Server};
use crate::support::plane::KEY;
use orch::adapters::board::plane::{ItemPath, Plane, find_project};
use orch::adapters::board::{Board, BoardError, Move, Moved, NewItem, Priority, Scope, Status};
use orch::adapters::http::{Auth, Class, Client, Limits, Method, Request, Token};
use orch::model::board::ItemRef;
use serde_json::{Value, json};

const PROJECT: &str = "1b4818f3-31e9-4062-b969-096df20e5036";
const ELSEWHERE: &str = "11111111-1111-4111-8111-111111111111";

struct Entry(Value);

impl Entry {
    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap()
    }

    fn body(&self) -> &Value {
        &self.0["body"]
    }

    fn status(&self) -> u16 {
        self.0["status"].as_u64().unwrap().try_into().unwrap()
    }

    fn reply(&self, body: &Value) -> Reply {
        let mut reply = Reply::json(self.status(), body);
        if let Some(text) = body.as_str() {
            reply.body = text.into();
        }
        for (name, value) in self.0["headers"].as_object().unwrap().iter().filter(|(n, _)| *n != "content-type") {
            reply = reply.header(name, value.as_str().unwrap());
        }
        reply
    }

    /// Answers every request like this; a following page is empty. A write finds another state before it.
    fn serve(self: &std::sync::Arc<Self>) -> Server {
        let entry = std::sync::Arc::clone(self);
        Server::start(move |seen: &Seen| {
            if seen.query("cursor").is_some() {
                return Reply::json(200, &json!({"results": [], "next_page_results": false}));
            }
            let mut body = entry.body().clone();
            if entry.text("method") == "PATCH" && seen.method == "GET" && body["state"].is_string() {
                body["state"] = ELSEWHERE.into();
            }
            entry.reply(&body)
        })
    }
}

fn client(url: &str) -> Client {
    let auth = Auth::Header { name: "x-api-key", scheme: "", value: Token::new(KEY) };
    Client::new(url, auth, Limits::default()).unwrap()
}

/// A refusal keeps its class, its wait time and the server's words.
fn refused(entry: &Entry, url: &str) {
    let method = match entry.text("method") {
        "GET" | "OPTIONS" | "HEAD" => Method::Get,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "PATCH" => Method::Patch,
        "DELETE" => Method::Delete,
        other => panic!("{other}"),
    };
    let e = client(url).send(&Request::new(method, "/api/v1/x/")).unwrap_err();
    let fits = match entry.status() {
        301 => matches!(&e.class, Class::Redirect { to } if to.ends_with('/')),
        401 | 403 => e.class == Class::Auth,
        404 => e.class == Class::NotFound,
        409 => e.class == Class::Conflict,
        429 => matches!(e.class, Class::Throttled { retry_after_s: Some(1..=60) }),
        500 => e.class == Class::Transient,
        _ => e.class == Class::Invalid,
    };
    let name = entry.text("name");
    assert!(fits, "{name}: {e:?}");
    let words = entry.body().as_object().and_then(|o| o.values().next()).map(Value::to_string).unwrap_or_default();
    let words = words.trim_matches(['"', '[', ']', '{', '}']);
    let words = words.split(['\\', ' ']).next().unwrap();
    assert!(e.to_string().contains(words), "{name}: {e}");
    assert!(!BoardError::from(e).to_string().is_empty());
}

/// Reads an answer as the client would. Returns `false` for requests that the client never makes.
fn read(entry: &Entry, url: &str) -> bool {
    let (name, body) = (entry.text("name"), entry.body());
    let path = entry.text("path").split('?').next().unwrap();
    let plane = Plane::new(client(url), "acme", PROJECT, "ORCH", "ORCH", ItemPath::WorkItems);
    if path.ends_with("/users/me/") {
        assert_eq!(plane.probe().unwrap().user, body["display_name"].as_str().unwrap(), "{name}");
    } else if let Some(rows) = body["results"].as_array() {
        list(name, path, rows, url, &plane);
    } else if path.ends_with("/relations/") && body.is_object() {
        let wanted: Vec<ItemRef> = body["blocked_by"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| ItemRef::Id(r["issue_id"].as_str().unwrap().into()))
            .collect();
        assert_eq!(plane.blocked_by("i").unwrap(), wanted, "{name}");
        assert!(!wanted.is_empty(), "{name}");
    } else if path.ends_with("/comments/") && entry.text("method") == "POST" {
        assert!(plane.comment("i", "1/x", "text").unwrap(), "{name}");
    } else if body["sequence_id"].is_u64() {
        item(entry, &plane);
    } else if path.contains("/issues/") && body["id"].is_string() && body["sequence_id"].is_null() {
        let part = plane.get_by_id(&[], "i");
        let told = matches!(&part, Err(BoardError::Invalid(why)) if why.contains("without `sequence_id`"));
        assert!(told, "{name}: {part:?}");
    } else {
        let reply = client(url).send(&Request::new(Method::Get, "/api/v1/x/")).unwrap();
        assert_eq!(&reply.json().unwrap_or_default(), if body == "" { &Value::Null } else { body }, "{name}");
        return false;
    }
    true
}

fn list(name: &str, path: &str, rows: &[Value], url: &str, plane: &Plane) {
    if path.ends_with("/projects/") {
        let found = find_project(&client(url), "acme", "orch").unwrap();
        assert_eq!((found.id.as_str(), found.identifier.as_str()), (PROJECT, "ORCH"), "{name}");
    } else if path.ends_with("/states/") {
        let found = plane.statuses().unwrap();
        assert_eq!(found.len(), rows.len(), "{name}");
        assert!(found.iter().all(|s| s.group.is_some()), "{name}: {found:?}");
    } else if path.ends_with("/labels/") {
        assert_eq!(plane.labels().unwrap().len(), rows.len(), "{name}");
    } else {
        // Rows without a number (other lists, fewer fields) are problems by name, never taken for absent.
        let found = plane.list(&[], &Scope::All { cursor: None }, &|| true).unwrap();
        let numbered = rows.iter().filter(|r| r["sequence_id"].is_u64()).count();
        assert_eq!((found.items.len(), found.problems.len()), (numbered, rows.len() - numbered), "{name}");
        assert!(found.unfinished.is_none(), "{name}");
    }
}

fn item(entry: &Entry, plane: &Plane) {
    let (name, body) = (entry.text("name"), entry.body());
    let number = body["sequence_id"].as_u64().unwrap();
    let state = body["state"].as_str().or(body["state"]["id"].as_str()).unwrap();
    let status = Status { id: state.into(), name: "There".into(), group: None };
    if entry.text("method") == "POST" {
        let new = NewItem {
            title: "t",
            body: "b",
            labels: &[],
            priority: Priority::None,
            blocked_by: &[],
            status: &status,
            marker: None,
            now_ms: 0,
        };
        assert_eq!(plane.create(&new).unwrap().number(), number, "{name}");
        return;
    }
    let found = if entry.text("method") == "PATCH" {
        let change = Move { to: &status, expect: Some(ELSEWHERE), now_ms: 0 };
        match plane.set_status(std::slice::from_ref(&status), "i", &change).unwrap() {
            Moved::Set(item) => item,
            other => panic!("{name}: {other:?}"),
        }
    } else {
        plane.get_by_id(std::slice::from_ref(&status), "i").unwrap().unwrap()
    };
    assert_eq!((found.key.number(), found.id.as_str()), (number, body["id"].as_str().unwrap()), "{name}");
    assert_eq!(found.title, body["name"].as_str().unwrap(), "{name}");
    assert_eq!(found.status_name.as_deref(), Some("There"), "{name}");
    assert_eq!(found.labels.len(), body["labels"].as_array().map_or(0, Vec::len), "{name}");
    assert!(found.created_ms > 0 && found.updated_ms >= found.created_ms, "{name}");
    assert!(!found.body.unwrap_or_default().contains("</"), "{name}");
}

#[test]
fn every_recorded_answer_reads() {
    let recorded = include_str!("../fixtures/plane/recorded-1.3.1.jsonl");
    let (mut all, mut refusals, mut read_as_such) = (0, 0, 0);
    for line in recorded.lines() {
        let entry = std::sync::Arc::new(Entry(serde_json::from_str(line).unwrap()));
        let server = entry.serve();
        all += 1;
        if entry.status() >= 300 {
            refused(&entry, &server.url());
            refusals += 1;
        } else {
            read_as_such += usize::from(read(&entry, &server.url()));
        }
    }
    assert_eq!(all, 159);
    assert_eq!((refusals, read_as_such), (58, 84));
}
