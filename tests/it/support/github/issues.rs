//! The fake's issues: one label per call, events that say who acted, states, comments, and permissions.

use super::{Comment, Data, error, not_found, page};
use crate::support::http::{Reply, Seen};
use serde_json::{Value, json};

/// An issue as a person sees it.
#[derive(Debug, Clone, Default)]
pub struct Issue {
    pub number: i64,
    pub title: String,
    pub body: String,
    pub by: String,
    pub labels: Vec<String>,
    pub closed: Option<String>,
    pub closed_by: Option<String>,
    pub locked: bool,
    /// 301: it is elsewhere; 410: deleted.
    pub gone: Option<u16>,
    pub blocked_by: Vec<i64>,
    pub updated: i64,
}

/// Who added or removed a label.
#[derive(Debug, Clone)]
pub struct Event {
    pub id: u64,
    pub number: i64,
    pub what: String,
    pub by: String,
    pub bot: bool,
    pub through_app: bool,
    pub label: String,
}

/// The strings of a list.
pub fn texts(v: &Value) -> Vec<String> {
    v.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Whether a JWT is signed RS256 by the key and currently valid.
pub fn signed(jwt: &str, key: &[u8]) -> bool {
    use base64::Engine;
    let decode = |part: &str| base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(part).ok();
    let Some((body, signature)) = jwt.rsplit_once('.') else { return false };
    let (Some(signature), Some((_, claims))) = (decode(signature), body.split_once('.')) else { return false };
    let claims: Value = decode(claims).and_then(|c| serde_json::from_slice(&c).ok()).unwrap_or_default();
    let now = jiff::Timestamp::now().as_second();
    let (from, until) = (claims["iat"].as_i64().unwrap_or(0), claims["exp"].as_i64().unwrap_or(0));
    let in_time = from <= now && until > now && until - now <= 600 && claims["iss"].is_string();
    let schemes = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
    in_time && schemes.iter().any(|s| s.verify_signature(key, body.as_bytes(), &signature).is_ok())
}

impl Data {
    /// The next number, of issues and pull requests alike.
    pub fn number(&self) -> i64 {
        let pulls = self.pulls.iter().map(|p| p.number);
        pulls.chain(self.issues.iter().map(|i| i.number)).max().unwrap_or(0) + 1
    }

    /// A person opens an issue.
    pub fn open_issue(&mut self, title: &str, body: &str) -> i64 {
        let number = self.number();
        self.now += 5;
        let (title, body) = (title.to_owned(), body.to_owned());
        self.issues.push(Issue { number, title, body, by: "ann".into(), updated: self.now, ..Issue::default() });
        number
    }

    pub fn issue_mut(&mut self, number: i64) -> &mut Issue {
        self.now += 5;
        let now = self.now;
        let issue = self.issues.iter_mut().find(|i| i.number == number).unwrap();
        issue.updated = now;
        issue
    }

    /// Somebody adds a label; a bot's login ends in `[bot]`.
    pub fn label(&mut self, number: i64, label: &str, by: &str) {
        let issue = self.issue_mut(number);
        if !issue.labels.iter().any(|l| l == label) {
            issue.labels.push(label.to_owned());
        }
        self.event(number, "labeled", label, by);
    }

    pub fn unlabel(&mut self, number: i64, label: &str, by: &str) {
        self.issue_mut(number).labels.retain(|l| l != label);
        self.event(number, "unlabeled", label, by);
    }

    fn event(&mut self, number: i64, what: &str, label: &str, by: &str) {
        let id = self.id();
        let bot = by.ends_with("[bot]");
        self.events.push(Event {
            id,
            number,
            what: what.to_owned(),
            by: by.to_owned(),
            bot,
            through_app: false,
            label: label.to_owned(),
        });
    }

    /// Somebody writes a comment.
    pub fn say(&mut self, number: i64, by: &str, body: &str) {
        self.issue_mut(number);
        let comment =
            Comment { id: self.id(), number, by: by.into(), body: body.into(), at: self.now, through_app: false };
        self.comments.push(comment);
    }

    /// Somebody closes it.
    pub fn close_issue(&mut self, number: i64, reason: &str, by: &str) {
        let (reason, by) = (reason.to_owned(), by.to_owned());
        let issue = self.issue_mut(number);
        (issue.closed, issue.closed_by) = (Some(reason), Some(by));
    }

    pub fn labels_of(&self, number: i64) -> Vec<String> {
        self.issues.iter().find(|i| i.number == number).unwrap().labels.clone()
    }

    fn issue_json(&self, i: &Issue) -> Value {
        let labels: Vec<Value> =
            i.labels.iter().map(|name| json!({"id": 1, "name": name, "color": "ededed"})).collect();
        let open = i.blocked_by.len();
        json!({
            "id": i.number, "node_id": format!("I_{}", i.number), "number": i.number, "title": i.title, "body": i.body, "locked": i.locked, "labels": labels,
            "state": if i.closed.is_some() { "closed" } else { "open" }, "state_reason": i.closed,
            "closed_by": i.closed_by.as_ref().map(|by| user(by)), "user": user(&i.by),
            "created_at": Self::time(i.number), "updated_at": Self::time(i.updated),
            "repository_url": format!("https://api.github.com/repos/{}/{}", self.owner, self.name),
            "issue_dependencies_summary": {"blocked_by": open, "blocking": 0, "total_blocked_by": open, "total_blocking": 0},
            "sub_issues_summary": {"total": 0, "completed": 0, "percent_completed": 0},
        })
    }

    fn list(&self, seen: &Seen) -> Reply {
        let since = seen.query("since").and_then(|t| t.parse::<jiff::Timestamp>().ok()).map_or(0, |t| t.as_second());
        // Position by time and number; the page alone is written out.
        let by_update = seen.query("sort") == Some("updated");
        let at = |i: &Issue| if by_update { i.updated } else { i.number };
        let shown = self.issues.iter().filter(|i| i.gone.is_none() && i.updated >= since);
        let mut rows: Vec<(i64, Issue, bool)> = shown.map(|i| (at(i), i.clone(), false)).collect();
        // The list includes pull requests.
        let pulls = self.pulls.iter().filter(|_| since <= 1).map(|p| {
            let issue = Issue { number: p.number, title: p.title.clone(), updated: 1, ..Issue::default() };
            (1, issue, true)
        });
        rows.extend(pulls);
        rows.sort_by_key(|(at, ..)| *at);
        if seen.query("direction") != Some("asc") {
            rows.reverse();
        }
        let of = |(_, issue, is_pull): (i64, Issue, bool)| {
            let mut v = self.issue_json(&issue);
            if self.terse {
                v["closed_by"] = Value::Null;
            }
            if is_pull {
                v["pull_request"] =
                    json!({"url": "https://x.example", "html_url": null, "diff_url": null, "patch_url": null});
            }
            v
        };
        let reply = super::paged(seen, rows, of);
        // The ETag belongs to the token and the exact address.
        let of = (&seen.query, seen.header("authorization"), &reply.body);
        let etag = format!("W/\"{}\"", hash(&format!("{of:?}")));
        if seen.header("if-none-match") == Some(etag.as_str()) {
            return Reply { status: 304, headers: vec![], body: vec![], unexpected: None };
        }
        reply.header("ETag", etag)
    }

    pub(super) fn issue_call(&mut self, seen: &Seen, parts: &[&str], number: Option<i64>) -> Reply {
        let body = seen.json();
        let text = |name: &str| body[name].as_str().unwrap_or("").to_owned();
        let method = seen.method.as_str();
        match (method, parts) {
            ("GET", ["issues"]) => return self.list(seen),
            ("POST", ["issues"]) => {
                let number = self.open_issue(&text("title"), &text("body"));
                let login = self.login.clone();
                texts(&body["labels"]).iter().for_each(|l| self.label(number, l, &login));
                self.issue_mut(number).by = login.clone();
                let made = self.issue_mut(number).clone();
                return Reply::json(201, &self.issue_json(&made));
            }
            ("GET", ["labels"]) => {
                let rows = self.labels.iter().map(|name| json!({"id": 1, "name": name, "color": "ededed"})).collect();
                return page(seen, rows);
            }
            ("POST", ["labels"]) => {
                let (name, colour) = (text("name"), text("color"));
                let good =
                    name.chars().count() <= 50 && colour.len() == 6 && colour.bytes().all(|b| b.is_ascii_hexdigit());
                let there = self.labels.iter().any(|l| l.eq_ignore_ascii_case(&name));
                if there || !good || text("description").chars().count() > 100 {
                    let code = if there { "already_exists" } else { "invalid" };
                    return Reply::json(
                        422,
                        &json!({"message": "Validation Failed", "documentation_url": "x",
                        "errors": [{"resource": "Label", "code": code, "field": "name"}]}),
                    );
                }
                self.labels.push(name.clone());
                return Reply::json(201, &json!({"id": 1, "name": name, "color": colour}));
            }
            ("GET", ["collaborators", login, "permission"]) => {
                let known = self.rights.iter().find(|(l, _)| l.eq_ignore_ascii_case(login));
                return match known {
                    Some((l, right)) => {
                        Reply::json(200, &json!({"permission": right, "role_name": right, "user": user(l)}))
                    }
                    None => not_found(),
                };
            }
            ("PATCH", ["issues", "comments", id]) => {
                let id = id.parse::<u64>().unwrap_or(0);
                let Some(comment) = self.comments.iter_mut().find(|c| c.id == id) else { return not_found() };
                comment.body = text("body");
                let comment = comment.clone();
                return Reply::json(200, &comment_json(&comment));
            }
            _ => {}
        }
        let Some(n) = number else { return Reply::unexpected("orch has no business here") };
        let is_pull = self.pulls.iter().any(|p| p.number == n);
        match self.issues.iter().find(|i| i.number == n) {
            Some(Issue { gone: Some(301), .. }) => {
                let body =
                    json!({"message": "Moved Permanently", "url": "https://x.example", "documentation_url": "x"});
                return Reply::json(301, &body).header("Location", "https://api.github.com/repositories/9/issues/1");
            }
            Some(Issue { gone: Some(status), .. }) => return error(*status, "This issue was deleted"),
            None if !is_pull => return not_found(),
            Some(_) | None => {}
        }
        self.of_one(seen, parts, n, &body)
    }

    fn of_one(&mut self, seen: &Seen, parts: &[&str], n: i64, body: &Value) -> Reply {
        let login = self.login.clone();
        let text = |name: &str| body[name].as_str().unwrap_or("").to_owned();
        match (seen.method.as_str(), parts) {
            ("GET", ["issues", _]) => {
                let Some(issue) = self.issues.iter().find(|i| i.number == n) else { return not_found() };
                Reply::json(200, &self.issue_json(issue))
            }
            ("PATCH", ["issues", _]) => {
                if !body["labels"].is_null() {
                    return Reply::unexpected("it replaces all labels");
                }
                let issue = self.issue_mut(n);
                let to = (text("state") == "closed").then(|| text("state_reason"));
                // A reason alone changes nothing.
                if issue.closed.is_some() != to.is_some() {
                    issue.closed_by = to.as_ref().map(|_| login);
                    issue.closed = to;
                }
                Reply::json(200, &self.issue_json(&self.issues.iter().find(|i| i.number == n).unwrap().clone()))
            }
            ("POST", ["issues", _, "labels"]) => {
                for label in texts(&body["labels"]) {
                    // An unknown label is created.
                    if !self.labels.iter().any(|l| l.eq_ignore_ascii_case(&label)) {
                        self.labels.push(label.clone());
                    }
                    self.label(n, &label, &login);
                }
                page(seen, self.label_rows(n))
            }
            ("DELETE", ["issues", _, "labels", label]) => {
                if !self.labels_of(n).iter().any(|l| l.eq_ignore_ascii_case(label)) {
                    return error(404, "Label does not exist");
                }
                let label = (*label).to_owned();
                self.unlabel(n, &label, &login);
                page(seen, self.label_rows(n))
            }
            ("GET", ["issues", _, "events"]) => {
                let visible = self.events.len().saturating_sub(self.lag);
                let rows = self.events.iter().take(visible).filter(|e| e.number == n).map(event_json).collect();
                page(seen, rows)
            }
            ("GET", ["issues", _, "dependencies", "blocked_by"]) => {
                let of = self.issues.iter().find(|i| i.number == n).map(|i| i.blocked_by.clone()).unwrap_or_default();
                let rows = self.issues.iter().filter(|i| of.contains(&i.number)).map(|i| self.issue_json(i)).collect();
                page(seen, rows)
            }
            ("GET", ["issues", _, "comments"]) => {
                let since = seen.query("since").and_then(|t| t.parse::<jiff::Timestamp>().ok());
                let since = since.map_or(0, |t| t.as_second());
                let fits = |c: &&Comment| c.number == n && (c.at.max(super::START)) >= since;
                page(seen, self.comments.iter().filter(fits).map(comment_json).collect())
            }
            ("POST", ["issues", _, "comments"]) => {
                if self.issues.iter().any(|i| i.number == n && i.locked) {
                    return error(403, "Unable to create comment because issue is locked.");
                }
                let comment = Comment {
                    id: self.id(),
                    number: n,
                    by: login,
                    body: text("body"),
                    at: self.now,
                    through_app: false,
                };
                self.comments.push(comment.clone());
                if self.issues.iter().any(|i| i.number == n) {
                    self.issue_mut(n);
                }
                Reply::json(201, &comment_json(&comment))
            }
            _ => Reply::unexpected("orch has no business here"),
        }
    }

    fn label_rows(&self, n: i64) -> Vec<Value> {
        self.labels_of(n).iter().map(|name| json!({"id": 1, "name": name, "color": "ededed"})).collect()
    }
}

fn hash(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn user(login: &str) -> Value {
    json!({"login": login, "id": 1, "type": if login.ends_with("[bot]") { "Bot" } else { "User" }})
}

fn comment_json(c: &Comment) -> Value {
    // Line breaks come back as a browser sends them.
    let app = if c.through_app { json!({"id": 3, "slug": "some-app", "owner": user("ann")}) } else { Value::Null };
    let at = Data::time(c.at.max(super::START));
    json!({"id": c.id, "body": c.body.replace('\n', "\r\n"), "user": user(&c.by), "created_at": at, "updated_at": at,
        "performed_via_github_app": app})
}

fn event_json(e: &Event) -> Value {
    let app = if e.through_app { json!({"id": 3, "slug": "some-app", "owner": user("ann")}) } else { Value::Null };
    json!({"id": e.id, "event": e.what, "actor": user(&e.by), "label": {"name": e.label, "color": "ededed"},
        "performed_via_github_app": app})
}
