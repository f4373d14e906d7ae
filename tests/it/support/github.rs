//! A GitHub of plain data over a real bare repository. Git does the merges there; refusals follow its description and
//! documentation. Every request and every answer is checked against the description, and a request that `orch` has no
//! business making fails the test.
#![allow(dead_code, reason = "each test uses its part")]

use super::gitea::{branch, conflict_of, land, rev};
use super::http::{Fault, Reply, Seen, Server, percent_decode};
use super::openapi;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

mod deployments;
mod graphql;
mod issues;

pub use deployments::Deployment;
pub use graphql::{Entry, Project};
pub use issues::{Event, Issue};

pub const TOKEN: &str = "github-fake-0123456789abcdef";
pub const INSTALLATION: u64 = 5;
/// 2026-11-22T14:00:00Z.
const START: i64 = 1_795_356_000;

#[derive(Debug, Clone)]
pub struct Pull {
    pub number: i64,
    pub title: String,
    pub body: String,
    pub head: String,
    pub head_repo: String,
    pub base: String,
    pub open: bool,
    pub draft: bool,
    pub merged: bool,
    seen: (String, String),
    /// Number of further reads for which `mergeable` is still null.
    pub checking: u32,
}

#[derive(Debug, Clone)]
pub struct Run {
    pub sha: String,
    pub name: String,
    pub app: u64,
    pub status: String,
    pub conclusion: Option<String>,
    pub started: i64,
    pub completed: i64,
}

#[derive(Debug, Clone)]
pub struct Status {
    pub id: u64,
    pub sha: String,
    pub context: String,
    pub state: String,
    pub description: String,
}

#[derive(Debug, Clone, Default)]
pub struct Comment {
    pub id: u64,
    pub number: i64,
    pub by: String,
    pub body: String,
    /// Its last change, by the server's clock; 0: when the server began.
    pub at: i64,
    pub through_app: bool,
}

type Hook = Box<dyn FnOnce(&Path, &mut Data) + Send>;

/// The next merge: `before` happens between the client's last read and the merge, `effect` says whether it is done, and
/// `reply` replaces the real answer.
pub struct Script {
    pub before: Option<Hook>,
    pub effect: bool,
    pub reply: Option<Reply>,
}

/// The server's whole state.
pub struct Data {
    pub owner: String,
    pub name: String,
    pub id: u64,
    /// The repository's new path: the old one answers 301 to GET and 307 to everything else.
    pub moved: bool,
    pub login: String,
    pub hidden: bool,
    pub withdrawn: bool,
    pub archived: bool,
    /// A fine-grained token of a private repository: check runs are refused.
    pub no_checks: bool,
    /// The token may not write comments or labels.
    pub read_only: bool,
    /// Permissions that the token lacks, such as `deployments=write`.
    pub lacks: Vec<&'static str>,
    pub methods: Vec<&'static str>,
    /// Rows of `rules/branches/main`.
    pub rules: Vec<Value>,
    /// Approvals that count, and whether the deployments and signatures required by the rules are there.
    pub approvals: u64,
    /// `mergeable_state` by classic protection.
    pub classic_block: bool,
    pub checking: u32,
    pub pulls: Vec<Pull>,
    pub runs: Vec<Run>,
    pub statuses: Vec<Status>,
    pub comments: Vec<Comment>,
    pub asked_reviewers: Vec<String>,
    pub scripts: VecDeque<Script>,
    pub queue: Vec<Entry>,
    pub project: Option<Project>,
    pub deployments: Vec<Deployment>,
    /// Errors of the next fields asked by GraphQL: type and message.
    pub graphql_faults: VecDeque<(&'static str, String)>,
    pub issues: Vec<Issue>,
    pub events: Vec<Event>,
    pub labels: Vec<String>,
    /// A list leaves out who closed an issue.
    pub terse: bool,
    /// This many of the newest events are not visible yet.
    pub lag: usize,
    /// Login and its `permission`.
    pub rights: Vec<(String, String)>,
    /// Tokens issued to an App: the last one is valid.
    pub app_tokens: Vec<String>,
    /// The App's public key, DER; a JWT that does not match it is refused.
    pub app_key: Vec<u8>,
    /// Requests left this hour; `None`: an Enterprise Server that does not report them.
    pub left: Option<u64>,
    pub now: i64,
    pub next: u64,
}

pub struct FakeGithub {
    server: Server,
    data: Arc<Mutex<Data>>,
    repo: PathBuf,
}

impl FakeGithub {
    /// Serves `team/app` for a bare repository.
    pub fn start(repo: &Path) -> Self {
        let data = Arc::new(Mutex::new(Data {
            owner: "team".into(),
            name: "app".into(),
            id: 77,
            moved: false,
            login: "orch".into(),
            hidden: false,
            withdrawn: false,
            archived: false,
            no_checks: false,
            read_only: false,
            lacks: vec![],
            methods: vec!["merge", "rebase", "squash"],
            rules: vec![],
            approvals: 0,
            classic_block: false,
            checking: 2,
            pulls: vec![],
            runs: vec![],
            statuses: vec![],
            comments: vec![],
            asked_reviewers: vec![],
            scripts: VecDeque::new(),
            queue: vec![],
            project: None,
            deployments: vec![],
            graphql_faults: VecDeque::new(),
            issues: vec![],
            events: vec![],
            labels: vec![],
            terse: false,
            lag: 0,
            rights: vec![("orch".into(), "write".into()), ("ann".into(), "admin".into())],
            app_tokens: vec![],
            app_key: vec![],
            left: Some(4000),
            now: START,
            next: 1000,
        }));
        let (inner, path) = (Arc::clone(&data), repo.to_owned());
        let server = Server::start(move |seen| {
            let mut data = inner.lock().unwrap();
            data.sync(&path);
            data.answer(&path, seen)
        });
        Self { server, data, repo: repo.to_owned() }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The server's whole state, to read and to change directly.
    pub fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap()
    }

    pub fn log(&self) -> Vec<Seen> {
        self.server.log()
    }

    /// Writes so far, as `POST /…`.
    pub fn writes(&self) -> Vec<String> {
        self.server.lines().into_iter().filter(|l| !l.starts_with("GET ")).collect()
    }

    pub fn clear_log(&self) {
        self.server.clear_log();
    }

    pub fn fault(&self, prefix: &str, fault: Fault, times: usize) {
        self.server.fault(prefix, fault, times);
    }

    pub fn forgive(&self) -> Vec<String> {
        self.server.forgive()
    }

    pub fn before_merge(&self, hook: impl FnOnce(&Path, &mut Data) + Send + 'static) {
        let script = Script { before: Some(Box::new(hook)), effect: true, reply: None };
        self.data().scripts.push_back(script);
    }

    /// Says whether the next merge is done, and what is answered.
    pub fn script(&self, effect: bool, reply: Reply) {
        self.data().scripts.push_back(Script { before: None, effect, reply: Some(reply) });
    }

    /// A finished check run of the App 15368.
    pub fn check(&self, sha: &str, name: &str, conclusion: &str) {
        let mut data = self.data();
        data.now += 10;
        let (started, completed) = (data.now - 5, data.now);
        data.runs.push(Run {
            sha: sha.into(),
            name: name.into(),
            app: 15_368,
            status: "completed".into(),
            conclusion: Some(conclusion.into()),
            started,
            completed,
        });
    }

    /// The current state of a pull request.
    pub fn pull(&self, number: i64) -> Pull {
        let mut data = self.data();
        data.sync(&self.repo);
        data.pulls.iter().find(|p| p.number == number).unwrap().clone()
    }
}

/// The permission that a call needs, where tests take it away.
fn needs(method: &str, parts: &[&str]) -> Option<&'static str> {
    Some(match (method, parts) {
        ("POST", ["deployments", ..]) => "deployments=write",
        ("POST", ["statuses", ..]) => "statuses=write",
        ("PATCH" | "PUT" | "POST", ["pulls", ..]) => "pull_requests=write",
        ("GET", ["commits", _]) => "contents=read",
        ("GET", ["commits", _, "check-runs"]) => "checks=read",
        ("GET", ["actions", ..]) => "actions=read",
        ("GET", ["issues", ..]) => "issues=read",
        ("POST" | "PATCH" | "DELETE", ["issues" | "labels", ..]) => "issues=write",
        _ => return None,
    })
}

pub fn error(status: u16, message: &str) -> Reply {
    Reply::json(
        status,
        &json!({"message": message, "documentation_url": "https://docs.example", "status": status.to_string()}),
    )
}

fn not_found() -> Reply {
    error(404, "Not Found")
}

impl Data {
    pub fn pull_mut(&mut self, number: i64) -> &mut Pull {
        self.pulls.iter_mut().find(|p| p.number == number).unwrap()
    }

    pub fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A time of the server's clock in the server's format.
    pub fn time(at: i64) -> String {
        jiff::Timestamp::from_second(at).unwrap().to_string()
    }

    /// Pushes bypass the server and reach the repository directly.
    fn sync(&mut self, repo: &Path) {
        for p in self.pulls.iter_mut().filter(|p| p.open) {
            let (Some(head), Some(base)) = (branch(repo, &p.head), branch(repo, &p.base)) else {
                // Deleting the head closes it.
                p.open = false;
                continue;
            };
            // A head that is in the base was merged, however.
            if p.seen.1 != base && !p.seen.0.is_empty() && contains(repo, &base, &head) {
                (p.open, p.merged) = (false, true);
            }
            if p.seen != (head.clone(), base.clone()) {
                p.seen = (head, base);
                p.checking = self.checking;
            }
        }
    }

    fn answer(&mut self, repo: &Path, seen: &Seen) -> Reply {
        if seen.header("user-agent").is_none_or(str::is_empty) {
            return error(
                403,
                "Request forbidden by administrative rules. Please make sure your request has a User-Agent header",
            );
        }
        if seen.path != "/graphql" {
            let versioned = seen.header("x-github-api-version") == Some("2022-11-28");
            if !versioned || seen.header("accept") != Some("application/vnd.github+json") {
                return Reply::unexpected("without the headers of every request");
            }
            if let Err(why) = openapi::check_request(seen, &seen.path) {
                return Reply::unexpected(why);
            }
        }
        let reply = self.routed(repo, seen);
        let reply = match self.left {
            Some(left) if reply.status != 304 => {
                self.left = Some(left.saturating_sub(1));
                reply.header("X-RateLimit-Remaining", left).header("X-RateLimit-Resource", "core")
            }
            Some(left) => reply.header("X-RateLimit-Remaining", left),
            None => reply,
        };
        described(seen, reply)
    }

    fn routed(&mut self, repo: &Path, seen: &Seen) -> Reply {
        let method = seen.method.as_str();
        let given = seen.header("authorization").unwrap_or("");
        if seen.path.starts_with("/app") {
            return self.app(seen, given);
        }
        let good = self.app_tokens.last().map_or_else(|| TOKEN.to_owned(), Clone::clone);
        if self.withdrawn || given != format!("Bearer {good}") {
            return error(401, "Bad credentials");
        }
        match seen.path.as_str() {
            "/user" if !self.app_tokens.is_empty() => return error(403, "Resource not accessible by integration"),
            "/user" => return Reply::json(200, &json!({"login": self.login, "id": 1, "type": "User"})),
            "/meta" => return Reply::json(200, &json!({"verifiable_password_authentication": false})),
            "/graphql" => return self.graphql(repo, seen),
            _ => {}
        }
        let Some(tail) = seen.path.strip_prefix(&format!("/repos/{}/{}", self.owner, self.name)) else {
            return not_found();
        };
        if self.moved {
            let to = format!("https://api.github.com/repositories/{}{tail}", self.id);
            let body = json!({"message": "Moved Permanently", "url": to, "documentation_url": "x"});
            return Reply::json(if method == "GET" { 301 } else { 307 }, &body).header("Location", to);
        }
        if self.hidden {
            return not_found();
        }
        if self.archived && method != "GET" {
            return error(403, "Repository was archived so is read-only.");
        }
        if self.read_only && method != "GET" {
            return error(403, "Resource not accessible by personal access token")
                .header("X-Accepted-GitHub-Permissions", "issues=write; pull_requests=write");
        }
        let parts: Vec<String> = tail.split('/').skip(1).map(|p| percent_decode(p, false)).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        if let Some(lacks) = needs(method, &parts).filter(|p| self.lacks.contains(p)) {
            return error(403, "Resource not accessible by integration").header("X-Accepted-GitHub-Permissions", lacks);
        }
        self.below(repo, seen, &parts)
    }

    fn below(&mut self, repo: &Path, seen: &Seen, parts: &[&str]) -> Reply {
        let number = parts.get(1).and_then(|n| n.parse::<i64>().ok());
        let body = seen.json();
        match (seen.method.as_str(), parts, number) {
            ("GET", [] | [""], _) => Reply::json(200, &self.repo_json()),
            ("GET", ["git", "ref", "heads", rest @ ..], _) => match branch(repo, &rest.join("/")) {
                Some(sha) => {
                    let name = format!("refs/heads/{}", rest.join("/"));
                    Reply::json(
                        200,
                        &json!({"ref": name, "object": {"type": "commit", "sha": sha, "url": "https://x.example"}}),
                    )
                }
                None => not_found(),
            },
            ("GET", ["branches", name], _) if branch(repo, name).is_none() => not_found(),
            ("GET", ["branches", name], _) => {
                Reply::json(200, &json!({"name": name, "protected": !self.rules.is_empty() || self.classic_block}))
            }
            ("GET", ["rules", "branches", "main"], _) => page(seen, self.rules.clone()),
            ("GET", ["rules", "branches", ..], _) => page(seen, vec![]),
            ("GET", ["pulls"], _) => self.list_pulls(seen),
            ("POST", ["pulls"], _) => self.create(repo, &body),
            ("GET", ["pulls", _], Some(n)) => self.read_pull(n),
            ("PATCH", ["pulls", _], Some(n)) => self.edit(&body, n),
            ("PUT", ["pulls", _, "merge"], Some(n)) => self.merge(repo, n, &body),
            ("POST", ["pulls", _, "requested_reviewers"], Some(n)) => {
                let names: Vec<String> = issues::texts(&body["reviewers"]);
                if names.iter().any(|n| !self.rights.iter().any(|(l, _)| l == n)) {
                    return error(422, "Reviews may only be requested from collaborators.");
                }
                self.asked_reviewers.extend(names);
                let p = self.pull_mut(n).clone();
                Reply::json(201, &self.pull_json(&p, false))
            }
            ("GET", ["commits", sha], _) if rev(repo, sha).is_some() => Reply::json(200, &json!({"sha": sha})),
            ("GET", ["commits", sha, ..], _) if rev(repo, sha).is_none() => error(422, "No commit found for SHA"),
            ("GET", ["commits", _, "check-runs"], _) if self.no_checks => {
                error(403, "Resource not accessible by personal access token")
            }
            ("GET", ["commits", sha, "check-runs"], _) => self.check_runs(seen, sha),
            ("GET", ["commits", sha, "status"], _) => self.combined(seen, sha),
            ("POST", ["statuses", sha], _) if rev(repo, sha).is_none() => error(422, "No commit found for SHA"),
            ("POST", ["statuses", sha], _) => {
                let text = |name: &str| body[name].as_str().unwrap_or("").to_owned();
                let id = self.id();
                let sha = (*sha).to_owned();
                self.statuses.push(Status {
                    id,
                    sha,
                    context: text("context"),
                    state: text("state"),
                    description: text("description"),
                });
                Reply::json(201, &json!({"id": id, "state": text("state"), "context": text("context")}))
            }
            ("GET", ["actions", "runs"], _) => {
                let sha = seen.query("head_sha").unwrap_or("").to_owned();
                let there = self.runs.iter().any(|r| r.sha == sha && r.app == 15_368);
                let runs = if there { vec![json!({"id": 1, "head_sha": sha})] } else { vec![] };
                within(seen, "workflow_runs", runs)
            }
            ("GET", ["actions", "runs", _, "jobs"], _) => {
                let jobs: Vec<Value> = self.runs.iter().filter(|r| r.app == 15_368).map(job_json).collect();
                within(seen, "jobs", jobs)
            }
            (_, ["deployments", ..], _) => self.deployment_call(seen, parts),
            _ => self.issue_call(seen, parts, number),
        }
    }

    fn app(&mut self, seen: &Seen, given: &str) -> Reply {
        let jwt = given.strip_prefix("Bearer ").unwrap_or("");
        if !issues::signed(jwt, &self.app_key) {
            return error(401, "A JSON web token could not be decoded");
        }
        match (seen.method.as_str(), seen.path.as_str()) {
            ("GET", "/app") => Reply::json(200, &json!({"slug": "orch-app", "id": 12, "name": "orch"})),
            ("POST", "/app/installations/5/access_tokens") => {
                let token = format!("ghs_12_fake{}", self.app_tokens.len() + 1);
                self.app_tokens.push(token.clone());
                let until = jiff::Timestamp::now().as_second() + 3600;
                Reply::json(
                    201,
                    &json!({"token": token, "expires_at": Self::time(until), "permissions": {"issues": "write"}}),
                )
            }
            _ => not_found(),
        }
    }

    fn repo_json(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "full_name": format!("{}/{}", self.owner, self.name),
            "default_branch": "main", "archived": self.archived, "disabled": false, "private": true, "has_issues": true,
            "permissions": {"admin": false, "push": !self.read_only, "pull": true},
            "allow_merge_commit": self.methods.contains(&"merge"), "allow_rebase_merge": self.methods.contains(&"rebase"),
            "allow_squash_merge": self.methods.contains(&"squash"),
        })
    }

    fn pull_json(&self, p: &Pull, whole: bool) -> Value {
        let home = json!({"id": self.id, "full_name": format!("{}/{}", self.owner, self.name)});
        let head_repo =
            if p.head_repo.is_empty() { Value::Null } else { json!({"id": self.id, "full_name": p.head_repo}) };
        let mut v = json!({
            "id": p.number, "node_id": format!("PR_{}", p.number), "number": p.number, "title": p.title, "body": p.body,
            "state": if p.open { "open" } else { "closed" }, "draft": p.draft, "locked": false,
            "html_url": format!("https://github.example/{}/{}/pull/{}", self.owner, self.name, p.number),
            "merged_at": if p.merged { json!(Self::time(self.now)) } else { Value::Null },
            "head": {"ref": p.head, "sha": p.seen.0, "repo": head_repo, "label": format!("{}:{}", self.owner, p.head)},
            "base": {"ref": p.base, "sha": p.seen.1, "repo": home, "label": format!("{}:{}", self.owner, p.base)},
        });
        if whole {
            let known = p.checking == 0 && p.open;
            v["merged"] = json!(p.merged);
            v["mergeable"] = if known { json!(true) } else { Value::Null };
            v["mergeable_state"] = json!(if !known {
                "unknown"
            } else if p.draft {
                "draft"
            } else if self.classic_block || self.unmet(p).is_some() {
                "blocked"
            } else {
                "clean"
            });
        }
        v
    }

    fn list_pulls(&mut self, seen: &Seen) -> Reply {
        let head = seen.query("head");
        // Without `OWNER:` the filter is ignored.
        let head =
            head.and_then(|h| h.split_once(':')).filter(|(owner, _)| *owner == self.owner).map(|(_, h)| h.to_owned());
        let all = seen.query("state") == Some("all");
        let base = seen.query("base").map(str::to_owned);
        let fits = |p: &&Pull| {
            (all || p.open) && head.as_ref().is_none_or(|h| p.head == *h) && base.as_ref().is_none_or(|b| p.base == *b)
        };
        let rows = self.pulls.iter().filter(fits).rev().map(|p| self.pull_json(p, false)).collect();
        page(seen, rows)
    }

    fn create(&mut self, repo: &Path, body: &Value) -> Reply {
        let text = |name: &str| body[name].as_str().unwrap_or("").to_owned();
        let (head, base) = (text("head"), text("base"));
        let invalid = |message: String| {
            Reply::json(
                422,
                &json!({"message": "Validation Failed", "documentation_url": "x", "status": "422",
                "errors": [{"resource": "PullRequest", "code": "custom", "message": message}]}),
            )
        };
        for name in [&head, &base] {
            if branch(repo, name).is_none() {
                return invalid(format!("{name} is invalid"));
            }
        }
        if contains(repo, &base, &head) {
            return invalid(format!("No commits between {base} and {head}"));
        }
        if self.pulls.iter().any(|p| p.open && p.head == head && p.base == base) {
            return invalid(format!("A pull request already exists for {}:{head}.", self.owner));
        }
        let number = self.add_pull(&head, &base, &text("title"), &text("body"));
        self.pull_mut(number).draft = body["draft"] == true;
        self.sync(repo);
        let made = self.pull_mut(number).clone();
        Reply::json(201, &self.pull_json(&made, true))
    }

    /// A new pull request, without the server's checks.
    pub fn add_pull(&mut self, head: &str, base: &str, title: &str, body: &str) -> i64 {
        let number = self.number();
        let head_repo = format!("{}/{}", self.owner, self.name);
        let [head, base, title, body] = [head, base, title, body].map(str::to_owned);
        let checking = self.checking;
        let seen = (String::new(), String::new());
        self.pulls.push(Pull {
            number,
            title,
            body,
            head,
            head_repo,
            base,
            open: true,
            draft: false,
            merged: false,
            seen,
            checking,
        });
        number
    }

    fn read_pull(&mut self, number: i64) -> Reply {
        let Some(at) = self.pulls.iter().position(|p| p.number == number) else { return not_found() };
        let reply = Reply::json(200, &self.pull_json(&self.pulls[at].clone(), true));
        // Reading it advances its check; a list does not.
        self.pulls[at].checking = self.pulls[at].checking.saturating_sub(1);
        reply
    }

    fn edit(&mut self, body: &Value, number: i64) -> Reply {
        let Some(at) = self.pulls.iter().position(|p| p.number == number) else { return not_found() };
        match body["state"].as_str() {
            Some(_) if self.pulls[at].merged => return error(422, "Validation Failed"),
            Some(state) => self.pulls[at].open = state == "open",
            None => return Reply::unexpected("only the state is orch's to change"),
        }
        Reply::json(200, &self.pull_json(&self.pulls[at].clone(), true))
    }

    /// Which rule is not met.
    fn unmet(&self, p: &Pull) -> Option<String> {
        for rule in &self.rules {
            let with = &rule["parameters"];
            match rule["type"].as_str().unwrap_or("") {
                "pull_request" if with["required_approving_review_count"].as_u64().unwrap_or(0) > self.approvals => {
                    return Some("At least 1 approving review is required by reviewers with write access.".into());
                }
                "required_status_checks" => {
                    for check in with["required_status_checks"].as_array().unwrap() {
                        let name = check["context"].as_str().unwrap();
                        let run = self
                            .runs
                            .iter()
                            .any(|r| r.sha == p.seen.0 && r.name == name && r.conclusion.as_deref() == Some("success"));
                        if !run {
                            return Some(format!("Required status check \"{name}\" is expected."));
                        }
                    }
                }
                "merge_queue" => return Some("Changes must be made through the merge queue".into()),
                "required_signatures" => return Some("Commits must have verified signatures.".into()),
                _ => {}
            }
        }
        None
    }

    fn merge(&mut self, repo: &Path, number: i64, body: &Value) -> Reply {
        let script = self.scripts.pop_front().unwrap_or(Script { before: None, effect: true, reply: None });
        if let Some(before) = script.before {
            before(repo, self);
            let checks: Vec<u32> = self.pulls.iter().map(|p| p.checking).collect();
            self.sync(repo);
            self.pulls.iter_mut().zip(checks).for_each(|(p, c)| p.checking = c);
        }
        let real = if script.effect { self.really_merge(repo, number, body) } else { error(500, "") };
        script.reply.unwrap_or(real)
    }

    fn really_merge(&mut self, repo: &Path, number: i64, body: &Value) -> Reply {
        let Some(p) = self.pulls.iter().find(|p| p.number == number).cloned() else { return not_found() };
        if !p.open || p.draft {
            return error(405, if p.draft { "Pull Request is still a draft" } else { "Pull Request is not mergeable" });
        }
        if conflict_of(repo, &p.base, &p.head) || p.checking > 0 {
            return error(405, "Pull Request is not mergeable");
        }
        if body["sha"].as_str().is_some_and(|sha| branch(repo, &p.head).as_deref() != Some(sha)) {
            return error(409, "Head branch was modified. Review and try the merge again.");
        }
        let method = body["merge_method"].as_str().unwrap_or("merge");
        if !self.methods.contains(&method) {
            return error(405, &format!("{method} merges are not allowed on this repository."));
        }
        if let Some(unmet) =
            self.unmet(&p).or(self.classic_block.then(|| "Protected branch rules not satisfied".into()))
        {
            return error(405, &format!("Repository rule violations found: {unmet}"));
        }
        let message = format!(
            "{}\n\n{}",
            body["commit_title"].as_str().unwrap_or("Merge"),
            body["commit_message"].as_str().unwrap_or("")
        );
        match land(repo, &p.base, &p.head, method, &message) {
            Ok(made) => {
                let p = self.pull_mut(number);
                (p.open, p.merged) = (false, true);
                Reply::json(200, &json!({"sha": made, "merged": true, "message": "Pull Request successfully merged"}))
            }
            Err(_) => error(405, "Base branch was modified. Review and try the merge again."),
        }
    }

    fn check_runs(&self, seen: &Seen, sha: &str) -> Reply {
        let rows: Vec<Value> =
            self.runs.iter().enumerate().filter(|(_, r)| r.sha == sha).map(|(n, r)| run_json(n, r)).collect();
        within(seen, "check_runs", rows)
    }

    fn combined(&self, seen: &Seen, sha: &str) -> Reply {
        let mut newest: Vec<&Status> = Vec::new();
        for status in self.statuses.iter().filter(|s| s.sha == sha) {
            newest.retain(|s| s.context != status.context);
            newest.push(status);
        }
        let rows = newest.iter().map(|s| {
            json!({"id": s.id, "state": s.state, "context": s.context, "description": s.description, "target_url": ""})
        });
        let rows: Vec<Value> = rows.collect();
        // Its own state is `pending` if there are none.
        let total = rows.len();
        let reply = page(seen, rows);
        let list: Value = serde_json::from_slice(&reply.body).unwrap();
        Reply::json(200, &json!({"state": "pending", "sha": sha, "total_count": total, "statuses": list}))
    }
}

fn run_json(n: usize, r: &Run) -> Value {
    let done = r.status == "completed";
    json!({
        "id": n + 1, "head_sha": r.sha, "name": r.name, "status": r.status, "conclusion": r.conclusion,
        "started_at": Data::time(r.started), "completed_at": if done { json!(Data::time(r.completed)) } else { Value::Null },
        "app": {"id": r.app, "slug": "some-ci"}, "check_suite": {"id": n + 1}, "details_url": "https://ci.example",
    })
}

fn job_json(r: &Run) -> Value {
    json!({"id": 1, "run_id": 1, "name": r.name, "head_sha": r.sha, "status": r.status, "conclusion": r.conclusion,
        "started_at": Data::time(r.started), "completed_at": Data::time(r.completed)})
}

fn contains(repo: &Path, base: &str, head: &str) -> bool {
    super::git::person_git(repo, &["merge-base", "--is-ancestor", head, base]).status.success()
}

/// One page of a list: 30 by default, 100 at most.
pub fn page(seen: &Seen, rows: Vec<Value>) -> Reply {
    paged(seen, rows, |row| row)
}

/// The same, writing out only the rows that are on the page.
pub fn paged<T>(seen: &Seen, rows: Vec<T>, of: impl FnMut(T) -> Value) -> Reply {
    let number = |name: &str, default: usize| seen.query(name).and_then(|n| n.parse().ok()).unwrap_or(default);
    let size = number("per_page", 30).clamp(1, 100);
    let rows: Vec<Value> = rows.into_iter().skip((number("page", 1) - 1) * size).take(size).map(of).collect();
    // `Link` points to another form of the address, which must not be followed.
    Reply::json(200, &json!(rows)).header("Link", "<https://wrong.example/repositories/1/x?page=2>; rel=\"next\"")
}

fn within(seen: &Seen, key: &str, rows: Vec<Value>) -> Reply {
    let total = rows.len();
    let list: Value = serde_json::from_slice(&page(seen, rows).body).unwrap();
    Reply::json(200, &json!({"total_count": total, key: list}))
}

/// The answer completed with what the description requires; one that it does not allow fails the test.
fn described(seen: &Seen, reply: Reply) -> Reply {
    if seen.path == "/graphql" || reply.unexpected.is_some() || reply.body.is_empty() {
        return reply;
    }
    let ours = serde_json::from_slice(&reply.body).unwrap();
    match openapi::fill_reply(&seen.method, &seen.path, reply.status, &ours) {
        Ok(filled) => Reply { body: filled.to_string().into_bytes(), ..reply },
        Err(why) => Reply::unexpected(format!("the fake's own answer {}: {why}", reply.status)),
    }
}
