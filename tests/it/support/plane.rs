//! A Plane of plain data behind HTTP: it refuses or ignores what the real one refuses or ignores, with the same words
//! (recorded from API 1.3.1). Any request that `orch` has no business making fails the test.
#![allow(dead_code, reason = "each test uses its part")]

use super::http::{Fault, Reply, Seen, Server};
use orch::model::time::rfc3339;
use serde_json::{Map, Value, json};
use std::sync::{Arc, Mutex, MutexGuard};

pub const KEY: &str = "plane_api_0123456789abcdef0123456789abcdef";
pub const WORKSPACE: &str = "team";
pub const PROJECT: &str = "1b4818f3-31e9-4062-b969-096df20e5036";
const IDENTIFIER: &str = "ORCH";

#[derive(Debug, Clone)]
pub struct State {
    pub id: String,
    pub name: String,
    pub group: &'static str,
}

#[derive(Debug, Clone)]
pub struct Item {
    pub id: String,
    pub number: u64,
    pub name: String,
    pub body: String,
    pub state: String,
    pub labels: Vec<String>,
    pub priority: &'static str,
    pub created: i64,
    pub updated: i64,
    pub archived: bool,
    pub draft: bool,
    /// Ids of the items that block it.
    pub blocked_by: Vec<String>,
}

type Hook = Box<dyn FnOnce(&mut Data) + Send>;

/// The server's whole state.
pub struct Data {
    pub states: Vec<State>,
    pub labels: Vec<(String, String)>,
    pub items: Vec<Item>,
    /// Item, external id, text.
    pub comments: Vec<(String, String, String)>,
    /// Per item id, oldest first.
    pub activities: Vec<(String, Value)>,
    /// Which of the two paths of work items exist.
    pub work_items: bool,
    pub issues: bool,
    pub relations: bool,
    /// Hours of the token owner's time zone.
    pub offset_h: i64,
    /// The server's clock.
    pub now: i64,
    /// The token owner's role in the project.
    pub role: u64,
    /// Requests left before a 429; `None`: no throttle.
    pub budget: Option<i64>,
    pub retry_after_s: u64,
    /// The server behind the proxy is gone.
    pub down: bool,
    /// Runs once, after the next page of work items was made.
    pub after_page: Option<Hook>,
    /// Runs once, between the next GET of one item and what follows.
    pub after_get: Option<Hook>,
    /// Items whose timestamp a worker changes a moment after a write.
    pending: Vec<String>,
}

pub struct FakePlane {
    pub server: Server,
    data: Arc<Mutex<Data>>,
}

/// The id of a state by its name.
pub fn state_id(name: &str) -> String {
    let digits: String = name.bytes().map(|b| format!("{b:02x}")).collect();
    let digits = format!("{digits:0<32}");
    format!("{}-{}-4{}-8{}-{}", &digits[..8], &digits[8..12], &digits[13..16], &digits[17..20], &digits[20..32])
}

fn item_id(number: u64) -> String {
    format!("98c34311-177d-4230-befe-{number:012}")
}

impl FakePlane {
    /// A project with every default status.
    pub fn start() -> Self {
        let state = |(name, group): (&str, &'static str)| State { id: state_id(name), name: name.to_owned(), group };
        let states = [
            ("Backlog", "backlog"),
            ("To Analyse", "unstarted"),
            ("Approved", "unstarted"),
            ("Confirm Deploy", "unstarted"),
            ("STOP", "cancelled"),
            ("Analysis", "started"),
            ("In Review", "started"),
            ("Development", "started"),
            ("Code Review", "started"),
            ("Awaiting Deploy", "started"),
            ("Deploying", "started"),
            ("Blocked", "started"),
            ("In Progress", "started"),
            ("Done", "completed"),
            ("Cancelled", "cancelled"),
        ];
        let data = Arc::new(Mutex::new(Data {
            states: states.into_iter().map(state).collect(),
            labels: vec![],
            activities: vec![],
            items: vec![],
            comments: vec![],
            work_items: true,
            issues: true,
            relations: true,
            offset_h: 2,
            now: 1_795_000_000_000,
            role: 15,
            budget: None,
            retry_after_s: 56,
            down: false,
            after_page: None,
            after_get: None,
            pending: vec![],
        }));
        let inner = Arc::clone(&data);
        let server = Server::start(move |seen| inner.lock().unwrap().answer(seen));
        Self { server, data }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap()
    }

    /// A person makes an item; returns its number.
    pub fn item(&self, name: &str, state: &str) -> u64 {
        self.data().add(name, state)
    }

    /// A person moves an item.
    pub fn set(&self, number: u64, state: &str) {
        let mut data = self.data();
        data.tick();
        let now = data.now;
        let id = data.named(state);
        let item = data.item_mut(number);
        (item.state, item.updated) = (id, now);
    }

    /// The name of an item's state.
    pub fn state(&self, number: u64) -> String {
        let data = self.data();
        let id = &data.items.iter().find(|i| i.number == number).unwrap().state;
        data.states.iter().find(|s| s.id == *id).map_or_else(|| id.clone(), |s| s.name.clone())
    }

    pub fn fault(&self, prefix: &str, fault: Fault, times: usize) {
        self.server.fault(prefix, fault, times);
    }

    /// Requests since the last call, as `GET work-items/`: the part below the project.
    pub fn take(&self) -> Vec<String> {
        let lines = self.server.lines();
        self.server.clear_log();
        let base = format!("/api/v1/workspaces/{WORKSPACE}/");
        let project = format!("{base}projects/{PROJECT}/");
        lines.iter().map(|l| l.replace(&project, "").replace(&base, "")).collect()
    }
}

fn refuse(status: u16, body: &Value) -> Reply {
    Reply::json(status, body)
}

fn gone() -> Reply {
    refuse(404, &json!({"error": "The requested resource does not exist."}))
}

fn no_route() -> Reply {
    refuse(404, &json!({"error": "Page not found."}))
}

fn forbidden() -> Reply {
    refuse(403, &json!({"detail": "You do not have permission to perform this action."}))
}

impl Data {
    /// Advances the clock by a second.
    pub fn tick(&mut self) {
        self.now += 1000;
    }

    pub fn named(&self, state: &str) -> String {
        self.states.iter().find(|s| s.name == state).unwrap_or_else(|| panic!("no state {state}")).id.clone()
    }

    pub fn item_mut(&mut self, number: u64) -> &mut Item {
        self.items.iter_mut().find(|i| i.number == number).unwrap()
    }

    pub fn add(&mut self, name: &str, state: &str) -> u64 {
        self.tick();
        let number = self.items.len() as u64 + 1;
        self.items.push(Item {
            id: item_id(number),
            number,
            name: name.to_owned(),
            body: format!("<p>Body of {number} &amp; more.</p>"),
            state: self.named(state),
            labels: vec![],
            priority: "none",
            created: self.now,
            updated: self.now,
            archived: false,
            draft: false,
            blocked_by: vec![],
        });
        number
    }

    fn time(&self, ms: i64) -> String {
        let local = rfc3339(ms + self.offset_h * 3_600_000);
        format!("{}{:+03}:00", local.trim_end_matches('Z'), self.offset_h)
    }

    fn json(&self, i: &Item, fields: Option<&str>) -> Value {
        let whole = json!({
            "id": i.id, "name": i.name, "sequence_id": i.number, "state": i.state, "labels": i.labels,
            "priority": i.priority, "parent": null, "archived_at": null, "is_draft": i.draft,
            "updated_at": self.time(i.updated), "created_at": self.time(i.created), "external_id": null,
            "external_source": null, "description_html": i.body, "description_binary": null, "assignees": [],
            "project": PROJECT, "point": null, "some_new_field": {"a": 1},
        });
        let Some(fields) = fields else { return whole };
        let wanted: Vec<&str> = fields.split(',').collect();
        let kept: Map<String, Value> = whole
            .as_object()
            .unwrap()
            .iter()
            .filter(|(k, _)| wanted.contains(&k.as_str()))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        Value::Object(kept)
    }

    fn answer(&mut self, seen: &Seen) -> Reply {
        // The worker runs after a write: the item's timestamp changes once more.
        for id in std::mem::take(&mut self.pending) {
            if let Some(i) = self.items.iter_mut().find(|i| i.id == id) {
                i.updated += 90;
            }
        }
        if self.down {
            return Reply::html(502, "<html><body>502 Bad Gateway</body></html>");
        }
        let Some(tail) = seen.path.strip_prefix("/api/v1/") else { return no_route() };
        if !tail.ends_with('/') {
            return Reply::html(301, "").header("Location", format!("{}/", seen.path));
        }
        match seen.header("x-api-key") {
            None => return refuse(401, &json!({"detail": "Authentication credentials were not provided."})),
            Some(KEY) => {}
            Some(_) => return refuse(403, &json!({"detail": "Given API token is not valid"})),
        }
        if let Some(left) = self.budget.as_mut() {
            if *left <= 0 {
                let body = json!({"error_code": 5900, "error_message": "RATE_LIMIT_EXCEEDED"});
                return refuse(429, &body).header("Retry-After", self.retry_after_s);
            }
            *left -= 1;
        }
        let reply = self.route(seen, tail);
        let left = self.budget.unwrap_or(59);
        reply.header("X-RateLimit-Remaining", left).header("X-RateLimit-Reset", self.now / 1000 + 60)
    }

    fn route(&mut self, seen: &Seen, tail: &str) -> Reply {
        let parts: Vec<&str> = tail.trim_end_matches('/').split('/').collect();
        let method = seen.method.as_str();
        if parts == ["users", "me"] && method == "GET" {
            return Reply::json(200, &json!({"id": "u", "email": "orch@example", "display_name": "orch"}));
        }
        let ["workspaces", workspace, rest @ ..] = parts.as_slice() else { return no_route() };
        if *workspace != WORKSPACE {
            return forbidden();
        }
        match (method, rest) {
            ("GET", ["projects"]) => {
                let other = json!({"id": "other", "identifier": "ORCH", "name": "old", "archived_at": "2026-01-01", "is_member": true});
                let mine = json!({"id": PROJECT, "identifier": IDENTIFIER, "name": "App", "archived_at": null, "is_member": true});
                self.page(seen, vec![other, mine], 1000)
            }
            ("GET", [path @ ("work-items" | "issues"), key]) if self.has(path) => {
                let Some(number) = key.strip_prefix("ORCH-").and_then(|n| n.parse::<u64>().ok()) else {
                    return forbidden();
                };
                self.one(|i| i.number == number)
            }
            (_, ["projects", PROJECT, tail @ ..]) => self.in_project(seen, method, tail),
            (_, ["projects", ..]) => forbidden(),
            _ => no_route(),
        }
    }

    fn has(&self, path: &str) -> bool {
        if path == "issues" { self.issues } else { self.work_items }
    }

    fn one(&mut self, which: impl Fn(&Item) -> bool) -> Reply {
        let found = self.items.iter().find(|i| which(i)).cloned();
        let reply = match found.filter(|i| !i.archived && !i.draft) {
            Some(i) => Reply::json(200, &self.json(&i, None)),
            None => gone(),
        };
        if let Some(hook) = self.after_get.take() {
            hook(self);
        }
        reply
    }

    fn in_project(&mut self, seen: &Seen, method: &str, tail: &[&str]) -> Reply {
        if let Some(path @ ("work-items" | "issues")) = tail.first().copied()
            && !self.has(path)
        {
            return no_route();
        }
        match (method, tail) {
            ("GET", []) => {
                let role = self.role;
                Reply::json(
                    200,
                    &json!({"id": PROJECT, "identifier": IDENTIFIER, "is_member": true, "member_role": role, "archived_at": null}),
                )
            }
            ("GET", ["states"]) => {
                let rows = self
                    .states
                    .iter()
                    .map(|s| json!({"id": s.id, "name": s.name, "group": s.group, "is_triage": false}))
                    .collect();
                self.page(seen, rows, 1000)
            }
            ("GET", ["labels"]) => {
                let rows = self.labels.iter().map(|(id, name)| json!({"id": id, "name": name})).collect();
                self.page(seen, rows, 1000)
            }
            ("GET", ["work-items" | "issues"]) => self.list(seen),
            ("POST", ["work-items" | "issues"]) => {
                let body = seen.json();
                let number = self.add(body["name"].as_str().unwrap(), "Backlog");
                self.item_mut(number).state = body["state"].as_str().unwrap().to_owned();
                let made = self.items.last().unwrap().clone();
                Reply::json(201, &self.json(&made, None))
            }
            ("GET", ["work-items" | "issues", id]) => {
                let id = (*id).to_owned();
                self.one(|i| i.id == id)
            }
            ("PATCH", ["work-items" | "issues", id]) => self.patch(id, &seen.json()),
            ("POST", ["work-items" | "issues", id, "comments"]) => self.comment(id, &seen.json()),
            ("GET", ["work-items" | "issues", id, "activities"]) => {
                let rows = self.activities.iter().filter(|(of, _)| of == id).map(|(_, row)| row.clone()).collect();
                self.page(seen, rows, 100)
            }
            ("GET", ["work-items" | "issues", id, "relations"]) => {
                if !self.relations {
                    return no_route();
                }
                let Some(i) = self.items.iter().find(|i| i.id == *id) else { return gone() };
                let rows: Vec<Value> =
                    i.blocked_by.iter().map(|b| json!({"project_id": PROJECT, "issue_id": b})).collect();
                Reply::json(200, &json!({"blocking": [], "blocked_by": rows, "relates_to": []}))
            }
            _ => Reply::unexpected("orch has no business here"),
        }
    }

    fn page(&self, seen: &Seen, rows: Vec<Value>, default: usize) -> Reply {
        self.page_of(seen, rows.len(), default, |range| rows[range].to_vec())
    }

    /// Makes only the rows of the page.
    fn page_of(
        &self,
        seen: &Seen,
        total: usize,
        default: usize,
        rows: impl FnOnce(std::ops::Range<usize>) -> Vec<Value>,
    ) -> Reply {
        let per_page = match seen.query("per_page").map(str::parse::<usize>) {
            None => default,
            Some(Ok(0)) => return refuse(500, &json!({"error": "Something went wrong please try again later"})),
            Some(Ok(n)) if n <= 1000 => n,
            Some(_) => return refuse(400, &json!({"detail": "Invalid per_page value. Cannot exceed 1000."})),
        };
        let at = match seen.query("cursor") {
            None => 0,
            Some(text) => match text.split(':').map(str::parse::<usize>).collect::<Result<Vec<_>, _>>().as_deref() {
                Ok([_, page, _]) => *page,
                _ => return refuse(400, &json!({"detail": "Invalid cursor parameter."})),
            },
        };
        let from = (at * per_page).min(total);
        let results = rows(from..(from + per_page).min(total));
        let more = (at + 1) * per_page < total;
        // Never empty, even on the last page.
        Reply::json(
            200,
            &json!({
                "grouped_by": null, "sub_grouped_by": null, "extra_stats": null, "total_count": total,
                "total_results": total, "total_pages": total.div_ceil(per_page), "count": results.len(),
                "next_cursor": format!("{per_page}:{}:0", at + 1), "prev_cursor": format!("{per_page}:{}:1", at as i64 - 1),
                "next_page_results": more, "prev_page_results": at > 0, "results": results,
            }),
        )
    }

    /// Filters are ignored; only order, page and fields count.
    fn list(&mut self, seen: &Seen) -> Reply {
        let Some(fields) = seen.query("fields").filter(|f| !f.contains("description")) else {
            return Reply::unexpected("a list that drags every body along");
        };
        if seen.query("per_page") != Some("100") {
            return Reply::unexpected("a list without per_page=100");
        }
        for (name, _) in &seen.query {
            if !["per_page", "cursor", "order_by", "fields"].contains(&name.as_str()) {
                return Reply::unexpected(format!("{name} is silently ignored by the real one"));
            }
        }
        let mut rows: Vec<&Item> = self.items.iter().filter(|i| !i.archived && !i.draft).collect();
        match seen.query("order_by").unwrap_or("-created_at") {
            "sequence_id" => rows.sort_by_key(|i| i.number),
            "-updated_at" => rows.sort_by_key(|i| std::cmp::Reverse(i.updated)),
            "-created_at" => rows.sort_by_key(|i| std::cmp::Reverse(i.created)),
            _ => return refuse(500, &json!({"error": "Something went wrong please try again later"})),
        }
        let made = |range: std::ops::Range<usize>| rows[range].iter().map(|i| self.json(i, Some(fields))).collect();
        let reply = self.page_of(seen, rows.len(), 1000, made);
        if let Some(hook) = self.after_page.take() {
            hook(self);
        }
        reply
    }

    fn patch(&mut self, id: &str, body: &Value) -> Reply {
        let Some(wanted) = body["state"].as_str().filter(|_| body.as_object().is_some_and(|o| o.len() == 1)) else {
            return Reply::unexpected("only the state is orch's to change");
        };
        if !self.states.iter().any(|s| s.id == wanted) {
            return refuse(400, &json!({"state": [format!("Invalid pk \"{wanted}\" - object does not exist.")]}));
        }
        self.tick();
        let now = self.now;
        // Archived and draft items can be changed like any other.
        let Some(i) = self.items.iter_mut().find(|i| i.id == id) else { return gone() };
        if i.archived || i.draft {
            return Reply::unexpected("an item that a person withdrew is not to be written");
        }
        (i.state, i.updated) = (wanted.to_owned(), now);
        let i = i.clone();
        self.pending.push(i.id.clone());
        Reply::json(200, &self.json(&i, None))
    }

    fn comment(&mut self, id: &str, body: &Value) -> Reply {
        let text = |name: &str| body[name].as_str().unwrap_or("").to_owned();
        if text("external_source") != "orch" || text("external_id").is_empty() {
            return Reply::unexpected("a comment without orch's own pair");
        }
        if self.items.iter().all(|i| i.id != id) {
            return gone();
        }
        if self.comments.iter().any(|(i, e, _)| i == id && *e == text("external_id")) {
            let body = json!({"error": "Work item comment with the same external id and external source already exists", "id": "c"});
            return refuse(409, &body);
        }
        self.comments.push((id.to_owned(), text("external_id"), text("comment_html")));
        self.pending.push(id.to_owned());
        Reply::json(201, &json!({"id": "c", "comment_html": text("comment_html"), "external_id": text("external_id")}))
    }
}
