//! A Gitea of plain data over a real bare repository. Git does the merges there; refusals are the real server's
//! (recorded ones where available). Any request that `orch` has no business making fails the test.
#![allow(dead_code, reason = "each test uses its part")]

use super::git::raw;
use super::http::{Fault, Reply, Seen, Server};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

mod merge;

pub use merge::{branch, commit_on, conflict_of, land, rev};
use merge::{conflicts, named};

pub const TOKEN: &str = "gitea-fake-0123456789abcdef";
const NOW: &str = "2026-11-22T14:34:06Z";

/// A pull request as a person sees it.
#[derive(Debug, Clone)]
pub struct Pull {
    pub number: i64,
    pub title: String,
    pub body: String,
    pub head: String,
    /// `owner/name` of the branch's repository.
    pub head_repo: String,
    pub base: String,
    pub open: bool,
    pub merged: bool,
    pub merge_commit: Option<String>,
    /// Head and base when they were last checked.
    seen: (String, String),
    /// Number of further reads for which `mergeable` is still being computed.
    checking: u32,
}

#[derive(Debug, Clone)]
pub struct Status {
    pub sha: String,
    pub id: u64,
    pub context: String,
    pub state: String,
    pub description: String,
}

#[derive(Debug, Clone)]
pub struct Comment {
    pub id: u64,
    pub number: i64,
    pub body: String,
}

#[derive(Debug, Clone, Default)]
pub struct Rule {
    pub contexts: Vec<String>,
    pub required_approvals: u64,
    pub approvals: u64,
    /// A reviewer requested changes, and the rule requires approval.
    pub rejected: bool,
    /// The rule requires the newest base in the head.
    pub no_outdated: bool,
    /// The rule requires signed commits, and the head has none.
    pub unsigned: bool,
    /// The account is on the push list.
    pub may_push: bool,
    /// Forced pushes are allowed.
    pub may_force: bool,
    /// The account is not on the merge list.
    pub no_merge: bool,
    pub binds_admins: bool,
}

impl Pull {
    /// Its check takes this many more reads.
    pub fn set_checking(&mut self, reads: u32) {
        self.checking = reads;
    }
}

/// What a requested merge does to the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// What the real server does with such a request.
    Real,
    /// The commit lands, the pull request stays open (seen since 1.22).
    LandLeftOpen,
    Nothing,
}

type Hook = Box<dyn FnOnce(&Path, &mut Data) + Send>;

/// The next merge: `before` happens between the client's last read and the merge, `after` before it is answered, and
/// `reply` replaces the real answer.
pub struct Script {
    pub before: Option<Hook>,
    pub effect: Effect,
    pub after: Option<Hook>,
    pub reply: Option<Reply>,
}

impl Script {
    pub fn new(effect: Effect, reply: Option<Reply>) -> Self {
        Self { before: None, effect, after: None, reply }
    }

    pub fn before(mut self, hook: impl FnOnce(&Path, &mut Data) + Send + 'static) -> Self {
        self.before = Some(Box::new(hook));
        self
    }

    pub fn after(mut self, hook: impl FnOnce(&Path, &mut Data) + Send + 'static) -> Self {
        self.after = Some(Box::new(hook));
        self
    }
}

/// The server's whole state.
pub struct Data {
    pub prefix: String,
    pub owner: String,
    pub name: String,
    /// The repository's new `owner/name`: the old one answers 301, without a host, to every method.
    pub renamed: Option<String>,
    pub version: String,
    pub forgejo: Option<String>,
    pub login: String,
    pub admin: bool,
    pub archived: bool,
    /// The token no longer sees the repository.
    pub hidden: bool,
    /// The token was revoked.
    pub withdrawn: bool,
    /// The account is no collaborator: it reads what is public.
    pub reader: bool,
    /// What the token may do.
    pub scopes: Vec<&'static str>,
    /// Pull requests are switched on in the repository.
    pub pull_requests: bool,
    /// The first push was a moment ago: this many times, branches answer 500 and lists of pull requests 404.
    pub fresh: u32,
    /// The message of the operator's hook for every merge.
    pub hook: Option<String>,
    /// Only a proxy answers.
    pub down: bool,
    pub methods: Vec<&'static str>,
    /// The server's own maximum; a larger `limit` is silently reduced to it.
    pub max_page: usize,
    pub total_header: bool,
    /// Reads of a pull request after a push until `mergeable` is known.
    pub checking: u32,
    pub pulls: Vec<Pull>,
    pub statuses: Vec<Status>,
    pub comments: Vec<Comment>,
    /// Protection by branch.
    pub rules: Vec<(String, Rule)>,
    pub scripts: VecDeque<Script>,
}

pub struct FakeGitea {
    server: Server,
    data: Arc<Mutex<Data>>,
    repo: PathBuf,
}

impl FakeGitea {
    /// Serves `team/app` for a bare repository.
    pub fn start(repo: &Path) -> Self {
        let data = Arc::new(Mutex::new(Data {
            prefix: String::new(),
            owner: "team".into(),
            name: "app".into(),
            renamed: None,
            version: "1.26.0".into(),
            forgejo: None,
            login: "orch".into(),
            admin: false,
            archived: false,
            hidden: false,
            withdrawn: false,
            reader: false,
            scopes: vec!["read:user", "write:repository", "write:issue"],
            pull_requests: true,
            fresh: 0,
            hook: None,
            down: false,
            methods: vec!["merge", "rebase", "squash"],
            max_page: 50,
            total_header: true,
            checking: 2,
            pulls: vec![],
            statuses: vec![],
            comments: vec![],
            rules: vec![],
            scripts: VecDeque::new(),
        }));
        let (inner, path) = (Arc::clone(&data), repo.to_owned());
        let server = Server::start(move |seen| {
            let mut data = inner.lock().unwrap();
            // If only a proxy answers, the repository is not touched.
            if !data.down {
                data.sync(&path);
            }
            data.answer(&path, seen)
        });
        Self { server, data, repo: repo.to_owned() }
    }

    /// The address to configure, with the prefix.
    pub fn url(&self) -> String {
        format!("{}{}", self.server.url(), self.data().prefix)
    }

    pub fn token(&self) -> &'static str {
        TOKEN
    }

    /// The server's whole state, to read and to change directly.
    pub fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap()
    }

    /// Every request so far.
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

    /// See [`Server::fault`].
    pub fn fault(&self, prefix: &str, fault: Fault, times: usize) {
        self.server.fault(prefix, fault, times);
    }

    /// See [`Server::forgive`].
    pub fn forgive(&self) -> Vec<String> {
        self.server.forgive()
    }

    /// The next merge goes like this.
    pub fn script(&self, script: Script) {
        self.data().scripts.push_back(script);
    }

    /// Does something between the client's last read and the next merge.
    pub fn before_merge(&self, hook: impl FnOnce(&Path, &mut Data) + Send + 'static) {
        self.script(Script::new(Effect::Real, None).before(hook));
    }

    /// What the repository's CI would post.
    pub fn set_status(&self, sha: &str, context: &str, state: &str) {
        self.data().add_status(sha, context, state, "");
    }

    /// The current state of a pull request.
    pub fn pull(&self, number: i64) -> Pull {
        let mut data = self.data();
        data.sync(&self.repo);
        data.pulls.iter().find(|p| p.number == number).unwrap().clone()
    }

    /// A person closes it.
    pub fn close(&self, number: i64) {
        self.data().pull_mut(number).open = false;
    }

    /// A person merges it on the site, against `orch`'s expectation.
    pub fn merge_as_person(&self, number: i64) {
        self.data().land_as_person(&self.repo, number);
    }
}

fn error(status: u16, message: &str) -> Reply {
    Reply::json(status, &json!({"message": message, "url": "http://forge.example/api/swagger"}))
}

fn not_found() -> Reply {
    Reply::json(404, &json!({"errors": null, "message": "not found", "url": "http://forge.example/api/swagger"}))
}

/// The server's answer without details: a 500 that shows no cause to an ordinary account.
fn silent() -> Reply {
    error(500, "")
}

impl Data {
    pub fn pull_mut(&mut self, number: i64) -> &mut Pull {
        self.pulls.iter_mut().find(|p| p.number == number).unwrap()
    }

    /// A person merges it on the site, in a hook.
    pub fn land_as_person(&mut self, repo: &Path, number: i64) {
        assert!(self.land(repo, number, "merge", "by hand", true).is_ok());
    }

    pub fn add_status(&mut self, sha: &str, context: &str, state: &str, description: &str) -> Value {
        let id = self.statuses.iter().filter(|s| s.sha == sha).count() as u64 + 1;
        let [sha, context, state, description] = [sha, context, state, description].map(str::to_owned);
        let status = Status { sha, id, context, state, description };
        self.statuses.push(status.clone());
        self.status_json(&status)
    }

    /// Whether this version respects `head_commit_id`, as every one since 1.16 does.
    fn guards_head(&self) -> bool {
        !self.version.starts_with("1.15")
    }

    /// Whether it is Gitea 1.`minor` or newer.
    fn since(&self, minor: u32) -> bool {
        let number = self.version.split('.').nth(1).and_then(|n| n.parse::<u32>().ok());
        number.is_some_and(|n| n >= minor)
    }

    /// The server checks scopes before anything else.
    fn without_scope(&self, method: &str, path: &str) -> Option<Reply> {
        let kind = match path {
            "/api/v1/user" => "user",
            p if p.contains("/issues/") => "issue",
            p if p.starts_with("/api/v1/repos/") => "repository",
            _ => return None,
        };
        let (read, write) = (format!("read:{kind}"), format!("write:{kind}"));
        let has = |scope: &String| self.scopes.iter().any(|s| s == scope);
        let needed = if method == "GET" { &read } else { &write };
        if has(&write) || method == "GET" && has(&read) {
            return None;
        }
        let all = self.scopes.join(",");
        Some(error(
            403,
            &format!("token does not have at least one of required scope(s), required=[{needed}], token scope={all}"),
        ))
    }

    fn reviews(&self, number: i64) -> Reply {
        let Some(p) = self.pulls.iter().find(|p| p.number == number) else { return not_found() };
        let Some((_, rule)) = self.rules.iter().find(|(name, _)| *name == p.base) else {
            return Reply::json(200, &json!([]));
        };
        let review = |id: u64, state: &str| {
            json!({"id": id, "state": state, "official": true, "stale": false,
            "dismissed": false, "user": {"login": "rev"}, "commit_id": p.seen.0})
        };
        let mut list: Vec<Value> = (1..=rule.approvals).map(|id| review(id, "APPROVED")).collect();
        list.extend(rule.rejected.then(|| review(99, "REQUEST_CHANGES")));
        let total = list.len();
        Reply::json(200, &json!(list)).header("X-Total-Count", total)
    }

    /// Whether this version has the features of 1.17.
    fn modern(&self) -> bool {
        !["1.15", "1.16"].iter().any(|v| self.version.starts_with(v))
    }

    /// Pushes bypass the server and reach the repository directly: what their hooks would have done happens here.
    fn sync(&mut self, repo: &Path) {
        for pull in &mut self.pulls {
            let (head, base) = (branch(repo, &pull.head), branch(repo, &pull.base));
            if !pull.open {
                continue;
            }
            let (Some(head), Some(base)) = (head, base) else {
                // Deleting the branch closes the request.
                pull.open = false;
                continue;
            };
            if pull.seen.0 != head {
                raw(repo, &["update-ref", &format!("refs/pull/{}/head", pull.number), &head]);
            }
            if pull.seen != (head.clone(), base.clone()) {
                pull.seen = (head, base);
                pull.checking = self.checking;
            }
        }
    }

    fn answer(&mut self, repo: &Path, seen: &Seen) -> Reply {
        let Some(path) = seen.path.strip_prefix(&self.prefix) else {
            return Reply::html(404, "<html>nothing here</html>");
        };
        if self.down {
            return Reply::html(502, "<html>502 Bad Gateway</html>");
        }
        let method = seen.method.as_str();
        let known = [format!("token {TOKEN}"), format!("Bearer {TOKEN}")];
        if path == "/api/v1/version" {
            return Reply::json(200, &json!({"version": self.version}));
        }
        if path == "/api/forgejo/v1/version" {
            return match &self.forgejo {
                Some(version) => Reply::json(200, &json!({"version": version})),
                None => Reply::text(404, "Not found.\n"),
            };
        }
        let given = seen.header("authorization");
        if self.withdrawn || given.is_some_and(|a| known.iter().all(|k| k != a)) {
            // Before 1.24, a private repository is hidden from a token without rights.
            let hidden = !self.since(24) && path.starts_with("/api/v1/repos/");
            return if hidden { not_found() } else { error(401, "invalid username, password or token") };
        }
        if given.is_none() {
            let hidden = path.starts_with("/api/v1/repos/");
            return if hidden { not_found() } else { error(401, "token is required") };
        }
        if let Some(refusal) = self.without_scope(method, path) {
            return refusal;
        }
        if path == "/api/v1/user" {
            let admin = self.admin;
            return Reply::json(200, &json!({"id": 1, "login": self.login, "is_admin": admin, "email": "x@example"}));
        }
        let repo_path = format!("/api/v1/repos/{}/{}", self.owner, self.name);
        let Some(tail) = path.strip_prefix(&repo_path).filter(|t| t.is_empty() || t.starts_with('/')) else {
            return if path.starts_with("/api/v1/repos/") { not_found() } else { Reply::unexpected("no such place") };
        };
        if let Some(to) = &self.renamed {
            return moved(method, &format!("/api/v1/repos/{to}{tail}"));
        }
        if self.hidden && self.scopes.contains(&"public-only") {
            return error(403, "token scope is limited to public repos");
        }
        if self.hidden {
            return not_found();
        }
        if self.reader && method == "POST" && tail.starts_with("/statuses/") {
            return error(403, "user should have a permission to write to a repo");
        }
        if self.archived && method != "GET" && !tail.starts_with("/statuses/") {
            return error(423, &format!("{}/{} is archived", self.owner, self.name));
        }
        if !self.pull_requests && tail.starts_with("/pulls") {
            return not_found();
        }
        if self.fresh > 0 && method == "GET" && (tail.starts_with("/pulls") || tail.starts_with("/branches/")) {
            self.fresh -= 1;
            return if tail.starts_with("/pulls") { not_found() } else { Reply::text(500, "Internal Server Error") };
        }
        let parts: Vec<&str> = tail.split('/').skip(1).collect();
        let number = parts.get(1).and_then(|n| n.parse::<i64>().ok());
        let body = seen.json();
        match (method, parts.as_slice(), number) {
            ("GET", [], _) => Reply::json(200, &self.repo_json(repo)),
            ("GET", ["branches", rest @ ..], _) => self.branch(repo, &rest.join("/")),
            ("GET", ["branch_protections"], _) if self.admin => Reply::json(200, &self.rules_json()),
            ("GET", ["branch_protections"], _) => {
                error(403, "user should be an owner or a collaborator with admin write of a repository")
            }
            // `head` does not filter here.
            ("GET", ["pulls"], _) => {
                let open = seen.query("state") == Some("open");
                let list = self.pulls.iter().filter(|p| p.open || !open).rev();
                let list = list.map(|p| self.pull_json(repo, p)).collect();
                self.page(seen, list)
            }
            ("POST", ["pulls"], _) => self.create(repo, &body),
            ("GET", ["pulls", _], Some(n)) => self.read_pull(repo, n),
            ("PATCH", ["pulls", _], Some(n)) => self.edit(repo, n, &body),
            ("POST", ["pulls", _, "merge"], Some(n)) => self.merge(repo, n, &body),
            ("GET", ["commits", sha, "statuses"], _) if rev(repo, sha).is_none() => not_found(),
            ("GET", ["commits", sha, "statuses"], _) => {
                let list = self.statuses.iter().filter(|s| s.sha == *sha).rev().map(|s| self.status_json(s)).collect();
                self.page(seen, list)
            }
            ("POST", ["statuses", sha], _) => self.post_status(repo, sha, &body),
            ("GET", ["pulls", _, "reviews"], Some(n)) => self.reviews(n),
            // Checked after the scope.
            ("PATCH", ["issues", "comments", _], _) => not_found(),
            // Without pages: always everything.
            ("GET", ["issues", _, "comments"], Some(n)) => {
                let list: Vec<_> = self.comments.iter().filter(|c| c.number == n).map(comment_json).collect();
                let total = list.len();
                let reply = Reply::json(200, &json!(list));
                if self.total_header && self.modern() { reply.header("X-Total-Count", total) } else { reply }
            }
            ("POST", ["issues", _, "comments"], _) if body["body"].as_str().unwrap_or("").is_empty() => {
                error(422, "[Body]: Required")
            }
            ("POST", ["issues", _, "comments"], Some(n)) if self.pulls.iter().all(|p| p.number != n) => silent(),
            ("POST", ["issues", _, "comments"], Some(n)) => {
                let id = self.comments.len() as u64 + 1;
                let comment = Comment { id, number: n, body: body["body"].as_str().unwrap_or("").to_owned() };
                self.comments.push(comment.clone());
                Reply::json(201, &comment_json(&comment))
            }
            _ => Reply::unexpected("orch has no business here"),
        }
    }

    fn page(&self, seen: &Seen, list: Vec<Value>) -> Reply {
        let number = |name: &str, default: usize| seen.query(name).and_then(|n| n.parse().ok()).unwrap_or(default);
        let limit = number("limit", 30).clamp(1, self.max_page);
        let total = list.len();
        let items: Vec<_> = list.into_iter().skip((number("page", 1) - 1) * limit).take(limit).collect();
        // `Link` is built from an address that nobody can reach.
        let reply =
            Reply::json(200, &json!(items)).header("Link", "<http://wrong.example/api/v1/x?page=2>; rel=\"next\"");
        if self.total_header { reply.header("X-Total-Count", total) } else { reply }
    }

    fn branch(&self, repo: &Path, name: &str) -> Reply {
        let name = super::http::percent_decode(name, false);
        let Some(sha) = branch(repo, &name) else { return not_found() };
        let rule = self.rules.iter().find(|(n, _)| *n == name).map(|(_, rule)| rule);
        Reply::json(
            200,
            &json!({
                "name": name, "commit": {"id": sha}, "protected": rule.is_some(),
                "required_approvals": rule.map_or(0, |r| r.required_approvals),
                "enable_status_check": rule.is_some_and(|r| !r.contexts.is_empty()),
                "status_check_contexts": rule.map(|r| &r.contexts),
                "user_can_push": rule.is_none_or(|r| r.may_push), "user_can_merge": rule.is_none_or(|r| !r.no_merge),
                // Shown to administrators only.
                "effective_branch_protection_name": rule.filter(|_| self.admin).map_or("", |_| name.as_str()),
            }),
        )
    }

    fn rules_json(&self) -> Value {
        let rule = |(name, r): &(String, Rule)| {
            json!({"rule_name": name, "block_admin_merge_override": r.binds_admins, "enable_push": r.may_push,
                    "enable_force_push": r.may_force})
        };
        self.rules.iter().map(rule).collect()
    }

    fn repo_json(&self, repo: &Path) -> Value {
        let head = std::fs::read_to_string(repo.join("HEAD")).unwrap();
        json!({
            "id": 1, "name": self.name, "full_name": format!("{}/{}", self.owner, self.name),
            "default_branch": head.trim().trim_start_matches("ref: refs/heads/"), "archived": self.archived, "has_pull_requests": self.pull_requests,
            "permissions": {"admin": self.admin, "push": !self.reader, "pull": true},
            "allow_merge_commits": self.methods.contains(&"merge"), "allow_rebase": self.methods.contains(&"rebase"),
            "allow_squash_merge": self.methods.contains(&"squash"),
        })
    }

    fn pull_json(&self, repo: &Path, p: &Pull) -> Value {
        let head = branch(repo, &p.head).filter(|_| !p.merged || p.open);
        let kept = || named(repo, &format!("refs/pull/{}/head", p.number));
        let gone = branch(repo, &p.head).is_none();
        let head_ref = if gone { format!("refs/pull/{}/head", p.number) } else { p.head.clone() };
        let wip = p.title.starts_with("WIP:") || p.title.starts_with("[WIP]");
        let ready = p.open && p.checking == 0 && !wip && !conflicts(repo, p);
        json!({
            "id": p.number, "number": p.number, "title": p.title, "body": p.body, "labels": [], "assignees": null,
            "state": if p.open { "open" } else { "closed" }, "draft": wip, "mergeable": ready, "merged": p.merged,
            "merged_at": if p.merged { json!(NOW) } else { Value::Null }, "merge_commit_sha": p.merge_commit,
            "html_url": format!("http://forge.example/{}/{}/pulls/{}", self.owner, self.name, p.number),
            "base": {"label": p.base, "ref": p.base, "sha": branch(repo, &p.base), "repo": self.repo_json(repo)},
            "head": {"label": p.head, "ref": head_ref, "sha": head.or_else(kept),
                "repo": if p.head_repo.is_empty() { Value::Null } else { json!({"id": 1, "full_name": p.head_repo}) }},
            "updated_at": NOW,
        })
    }

    fn status_json(&self, s: &Status) -> Value {
        json!({"id": s.id, "status": s.state, "context": s.context, "description": s.description, "target_url": "",
            "url": "", "creator": {"id": 1, "login": self.login}, "created_at": NOW, "updated_at": NOW})
    }

    fn create(&mut self, repo: &Path, body: &Value) -> Reply {
        let text = |name: &str| body[name].as_str().unwrap_or("").to_owned();
        let (head, base, title) = (text("head"), text("base"), text("title"));
        if title.is_empty() {
            return error(422, "[Title]: Required");
        }
        let (Some(_), Some(_)) = (branch(repo, &head), branch(repo, &base)) else { return not_found() };
        // A pull request without a difference can be opened.
        if head == base {
            return error(422, "Invalid PullRequest: There are no changes between the head and the base");
        }
        let home = format!("{}/{}", self.owner, self.name);
        if let Some(p) = self.pulls.iter().find(|p| p.open && p.head == head && p.base == base && p.head_repo == home) {
            let n = p.number;
            let ids = format!(
                "[id: {n}, issue_id: {n}, head_repo_id: 1, base_repo_id: 1, head_branch: {head}, base_branch: {base}]"
            );
            return error(409, &format!("pull request already exists for these targets {ids}"));
        }
        let number = self.add_pull(&head, &base, &title, &text("body"));
        self.sync(repo);
        let made = self.pull_mut(number).clone();
        Reply::json(201, &self.pull_json(repo, &made))
    }

    /// A new pull request, without the server's checks.
    pub fn add_pull(&mut self, head: &str, base: &str, title: &str, body: &str) -> i64 {
        let number = self.pulls.iter().map(|p| p.number).max().unwrap_or(0) + 1;
        let head_repo = format!("{}/{}", self.owner, self.name);
        let [head, base, title, body] = [head, base, title, body].map(str::to_owned);
        let seen = (String::new(), String::new());
        let (merge_commit, checking) = (None, self.checking);
        let open = true;
        self.pulls.push(Pull {
            number,
            title,
            body,
            head,
            head_repo,
            base,
            open,
            merged: false,
            merge_commit,
            seen,
            checking,
        });
        number
    }

    fn read_pull(&mut self, repo: &Path, number: i64) -> Reply {
        let Some(at) = self.pulls.iter().position(|p| p.number == number) else { return not_found() };
        let reply = Reply::json(200, &self.pull_json(repo, &self.pulls[at]));
        // Reading one advances its check; a list does not.
        self.pulls[at].checking = self.pulls[at].checking.saturating_sub(1);
        reply
    }

    fn edit(&mut self, repo: &Path, number: i64, body: &Value) -> Reply {
        let Some(at) = self.pulls.iter().position(|p| p.number == number) else { return not_found() };
        match body["state"].as_str() {
            Some(_) if self.pulls[at].merged => {
                return error(412, "cannot change state of this pull request, it was already merged");
            }
            Some(state) => self.pulls[at].open = state == "open",
            None => return Reply::unexpected("only the state is orch's to change"),
        }
        // 201, like the real server.
        Reply::json(201, &self.pull_json(repo, &self.pulls[at]))
    }

    fn post_status(&mut self, repo: &Path, sha: &str, body: &Value) -> Reply {
        let text = |name: &str| body[name].as_str().unwrap_or("");
        if rev(repo, sha).is_none() {
            return silent();
        }
        // Any word is stored.
        Reply::json(201, &self.add_status(sha, text("context"), text("state"), text("description")))
    }
}

fn moved(method: &str, to: &str) -> Reply {
    let body = if method == "GET" { format!("<a href=\"{to}\">Moved Permanently</a>.\n\n") } else { String::new() };
    Reply::html(301, &body).header("Location", to)
}

fn comment_json(c: &Comment) -> Value {
    json!({"id": c.id, "body": c.body, "user": {"id": 1, "login": "orch"}, "created_at": NOW, "updated_at": NOW})
}
