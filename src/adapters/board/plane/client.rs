//! Requests to one Plane project. Its only state is the item path that works and the last seen budget.

use super::wire;
use crate::adapters::board::{Board, BoardError, Cut, Doer, Listing, Move, Moved, NewItem, Problem, Scope, Unfinished};
use crate::adapters::http::{Class, Client, HttpError, Method, Request, Response, segment};
use crate::model::board::{Deed, ItemRef, Label, Status, WorkItem};
use crate::model::examined::Examined;
use crate::model::ids::Key;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

const LIST_FIELDS: &str = "id,name,sequence_id,state,labels,priority,parent,archived_at,is_draft,updated_at,created_at,external_id,external_source";
/// More pages than this mean a server that pages in circles.
const MAX_PAGES: u32 = 5_000;
/// Kept of the minute's budget for moves (services.md §1.2).
const RESERVE: i64 = 10;
const SOURCE: &str = "orch";

/// Which of the two paths of work items a server has (services.md §1.9). The caller remembers it per server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemPath {
    WorkItems,
    Issues,
}

impl ItemPath {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WorkItems => "work-items",
            Self::Issues => "issues",
        }
    }
}

/// A project as the workspace lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    pub id: String,
    pub identifier: String,
    pub name: String,
}

/// What a check of the credential found (for `doctor`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The display name of the token's user.
    pub user: String,
    /// 20 admin, 15 member, 5 guest; `None`: unknown. Below 15 nothing can be written.
    pub role: Option<u64>,
}

/// One project on a Plane server.
#[derive(Debug, Clone)]
pub struct Plane {
    http: Client,
    workspace: String,
    project: String,
    identifier: String,
    prefix: String,
    old_path: Arc<AtomicBool>,
    opened_with: ItemPath,
    remaining: Arc<AtomicI64>,
    /// What is kept of the project, and the name under which the path is kept.
    keeps: Option<((String, String), String)>,
}

/// Finds a project by id or identifier among the live ones that the user is a member of; the caller keeps its id and
/// identifier. Fails with `NotFound`.
pub fn find_project(http: &Client, workspace: &str, wanted: &str) -> Result<Project, BoardError> {
    let path = format!("/api/v1/workspaces/{}/projects/", segment(workspace));
    let mut cursor: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let mut query = vec![("per_page", "100")];
        if let Some(c) = &cursor {
            query.push(("cursor", c));
        }
        let reply = http.send(&Request::new(Method::Get, &path).query(&query))?;
        let page = read_page(&reply)?;
        for v in &page.results {
            let text = |n: &str| v.get(n).and_then(Value::as_str).unwrap_or("").to_owned();
            let live = v.get("archived_at").is_none_or(Value::is_null);
            let member = v.get("is_member").and_then(Value::as_bool) != Some(false);
            let fits = text("id") == wanted || text("identifier").eq_ignore_ascii_case(wanted);
            if live && member && fits {
                return Ok(Project { id: text("id"), identifier: text("identifier"), name: text("name") });
            }
        }
        match page.next {
            Some(next) if cursor.as_ref() != Some(&next) => cursor = Some(next),
            Some(_) | None => break,
        }
    }
    Err(BoardError::NotFound(format!(
        "workspace {workspace:?} has no active project {wanted:?} with this user as a member"
    )))
}

fn read_page(reply: &Response) -> Result<wire::Page, BoardError> {
    let v = reply.json()?;
    wire::page(&v).map_err(BoardError::Invalid)
}

/// A 404 for a route, not for an object: an older server, or a wrong address.
fn is_unknown_route(e: &HttpError) -> bool {
    e.class == Class::NotFound && wire::is_unknown_route(&e.json())
}

impl Plane {
    /// `project` is the project's UUID, `identifier` its own prefix on the server (from [`find_project`]), `prefix` the
    /// key prefix in `orch`; `path` what [`Plane::path`] returned the last time.
    pub fn new(http: Client, workspace: &str, project: &str, identifier: &str, prefix: &str, path: ItemPath) -> Self {
        Self {
            http,
            workspace: segment(workspace),
            project: segment(project),
            identifier: segment(identifier),
            prefix: prefix.to_owned(),
            old_path: Arc::new(AtomicBool::new(path == ItemPath::Issues)),
            opened_with: path,
            remaining: Arc::new(AtomicI64::new(-1)),
            keeps: None,
        }
    }

    /// Keeps this of the project, and the path of items under that name.
    pub(super) fn keeping(self, project: (String, String), path: String) -> Self {
        Self { keeps: Some((project, path)), ..self }
    }

    /// The path that works here, for the caller to remember.
    pub fn path(&self) -> ItemPath {
        if self.old_path.load(Ordering::Relaxed) { ItemPath::Issues } else { ItemPath::WorkItems }
    }

    /// Requests left in this minute, as last reported by the server; `None`: not reported yet.
    pub fn remaining(&self) -> Option<u64> {
        u64::try_from(self.remaining.load(Ordering::Relaxed)).ok()
    }

    fn send(&self, request: &Request<'_>) -> Result<Response, HttpError> {
        let reply = self.http.exchange(request)?;
        let left = reply.header_u64("x-ratelimit-remaining").and_then(|n| i64::try_from(n).ok());
        self.remaining.store(left.unwrap_or(-1), Ordering::Relaxed);
        self.http.check(reply)
    }

    fn in_project(&self, tail: &str) -> String {
        format!("/api/v1/workspaces/{}/projects/{}/{tail}", self.workspace, self.project)
    }

    /// A request below the item path: `path_of` is called with `work-items` or `issues`. Falls back once if the server
    /// says that it does not know the route (nothing has happened then, so writes may be sent again).
    fn on_items(
        &self,
        method: Method,
        path_of: &dyn Fn(&str) -> String,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Response, HttpError> {
        let go = |at: ItemPath| {
            let path = path_of(at.as_str());
            let request = Request { method, path: &path, query, body, headers: &[], timeout: None };
            self.send(&request)
        };
        let first = self.path();
        match go(first) {
            Err(e) if is_unknown_route(&e) => {
                let other = match first {
                    ItemPath::WorkItems => ItemPath::Issues,
                    ItemPath::Issues => ItemPath::WorkItems,
                };
                let second = go(other);
                // Any other answer means that the route exists.
                if !matches!(&second, Err(e) if is_unknown_route(e) || e.class == Class::Transient) {
                    self.old_path.store(other == ItemPath::Issues, Ordering::Relaxed);
                    return second;
                }
                Err(e)
            }
            reply => reply,
        }
    }

    /// Who the token is, and its role in the project. Two requests, for `doctor`.
    pub fn probe(&self) -> Result<Probe, BoardError> {
        let me = self.send(&Request::new(Method::Get, "/api/v1/users/me/"))?.json()?;
        let project = self.send(&Request::new(Method::Get, &self.in_project("")))?.json()?;
        let user = me.get("display_name").or_else(|| me.get("email")).and_then(Value::as_str).unwrap_or("").to_owned();
        Ok(Probe { user, role: project.get("member_role").and_then(Value::as_u64) })
    }

    /// Every page of a short list.
    fn all(&self, tail: &str) -> Result<Vec<Value>, BoardError> {
        let path = self.in_project(tail);
        let mut rows = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..100 {
            let mut query = vec![("per_page", "100")];
            if let Some(c) = &cursor {
                query.push(("cursor", c));
            }
            let page = read_page(&self.send(&Request::new(Method::Get, &path).query(&query))?)?;
            rows.extend(page.results);
            if page.next.is_none() || page.next == cursor {
                return Ok(rows);
            }
            cursor = page.next;
        }
        Err(BoardError::Invalid(format!("{tail} pages in circles")))
    }

    /// One item by id, with its body; `None` as for [`Plane::get`].
    pub fn get_by_id(&self, statuses: &[Status], id: &str) -> Result<Option<WorkItem>, BoardError> {
        let path_of = |items: &str| self.in_project(&format!("{items}/{}/", segment(id)));
        self.read(statuses, &path_of)
    }

    fn read(&self, statuses: &[Status], path_of: &dyn Fn(&str) -> String) -> Result<Option<WorkItem>, BoardError> {
        let reply = match self.on_items(Method::Get, path_of, &[], None) {
            Ok(reply) => reply,
            Err(e) if is_unknown_route(&e) => {
                return Err(BoardError::Invalid(format!("{e}; is this Plane's address?")));
            }
            Err(e) if e.class == Class::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let v = reply.json()?;
        if wire::is_hidden(&v) {
            return Ok(None);
        }
        wire::item(&v, &self.prefix, statuses).map(Some).map_err(BoardError::Invalid)
    }

    /// GET, check, PATCH, compare the reply (services.md §1.7). A reply with another state is `Conflict`; after
    /// `UnknownOutcome` the next step reads the item and finds out.
    pub fn set_status(&self, statuses: &[Status], id: &str, change: &Move<'_>) -> Result<Moved, BoardError> {
        // The PATCH would also change an archived item, which the GET hides: never PATCH without the GET.
        let Some(now) = self.get_by_id(statuses, id)? else { return Ok(Moved::Withdrawn) };
        if now.status_id == change.to.id {
            return Ok(Moved::Already(now));
        }
        if change.expect.is_some_and(|e| e != now.status_id) {
            return Ok(Moved::Held(now));
        }
        let path_of = |items: &str| self.in_project(&format!("{items}/{}/", segment(id)));
        let body = json!({"state": change.to.id});
        let reply = match self.on_items(Method::Patch, &path_of, &[], Some(&body)) {
            Ok(reply) => reply,
            Err(e) if e.class == Class::NotFound => return Ok(Moved::Withdrawn),
            Err(e) => return Err(e.into()),
        };
        let after = wire::item(&reply.json()?, &self.prefix, statuses).map_err(BoardError::UnknownOutcome)?;
        if after.status_id == change.to.id {
            Ok(Moved::Set(after))
        } else {
            Err(BoardError::Conflict(format!("{} should be {:?}, but is not", after.key, change.to.name)))
        }
    }

    /// Posts a comment once per marker (409 for the external pair means that it exists); returns whether it is new. May
    /// be repeated after `UnknownOutcome`.
    pub fn comment(&self, id: &str, marker: &str, text: &str) -> Result<bool, BoardError> {
        let body = json!({
            "comment_html": wire::html(text), "external_source": SOURCE, "external_id": marker, "access": "INTERNAL",
        });
        let path_of = |items: &str| self.in_project(&format!("{items}/{}/comments/", segment(id)));
        match self.on_items(Method::Post, &path_of, &[], Some(&body)) {
            Ok(_) => Ok(true),
            Err(e) if e.class == Class::Conflict => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Who did a thing to an item last; `None`: its activities, which a worker writes later, do not say so yet.
    pub fn who(&self, id: &str, deed: &Deed<'_>) -> Result<Option<String>, BoardError> {
        let path_of = |items: &str| self.in_project(&format!("{items}/{}/activities/", segment(id)));
        let (mut all, mut cursor) = (Vec::new(), None::<String>);
        for _ in 0..MAX_PAGES {
            let mut query = vec![("per_page", "100")];
            query.extend(cursor.as_deref().map(|c| ("cursor", c)));
            let page = read_page(&self.on_items(Method::Get, &path_of, &query, None)?)?;
            all.extend(page.results);
            match page.next.filter(|next| cursor.as_ref() != Some(next)) {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        Ok(wire::actor(&all, deed))
    }

    /// What blocks an item. Servers before 1.3.0 have no relations: nothing is known to block there.
    pub fn blocked_by(&self, id: &str) -> Result<Vec<ItemRef>, BoardError> {
        let path = self.in_project(&format!("{}/{}/relations/", self.path().as_str(), segment(id)));
        match self.send(&Request::new(Method::Get, &path)) {
            Ok(reply) => Ok(wire::blocked_by(&reply.json()?)),
            Err(e) if is_unknown_route(&e) => Ok(Vec::new()),
            Err(e) => Err(e.into()),
        }
    }

    /// Creates an item; with a marker, a repeat finds the first one's. Callers must serialise the creators of one
    /// marker (Plane checks without a constraint).
    pub fn create(&self, new: &NewItem<'_>) -> Result<Key, BoardError> {
        let mut body = json!({
            "name": new.title, "description_html": wire::html(new.body), "state": new.status.id,
            "priority": new.priority.as_str(), "labels": new.labels,
        });
        if let (Some(marker), Some(map)) = (new.marker, body.as_object_mut()) {
            map.insert("external_id".to_owned(), marker.into());
            map.insert("external_source".to_owned(), SOURCE.into());
        }
        let path_of = |items: &str| self.in_project(&format!("{items}/"));
        let (id, key) = match self.on_items(Method::Post, &path_of, &[], Some(&body)) {
            Ok(reply) => {
                let item = wire::item(&reply.json()?, &self.prefix, &[]).map_err(BoardError::UnknownOutcome)?;
                (item.id, item.key)
            }
            Err(e) if e.class == Class::Conflict => {
                let id = wire::existing(&e.json()).ok_or_else(|| BoardError::Conflict(e.to_string()))?;
                let item = self.get_by_id(&[], &id)?;
                let key = item.ok_or_else(|| BoardError::NotFound(format!("{e}; that item is archived")))?.key;
                return Ok(key);
            }
            Err(e) => return Err(e.into()),
        };
        if !new.blocked_by.is_empty() {
            let mut ids = Vec::new();
            for blocker in new.blocked_by {
                let found = self.get(&[], blocker)?;
                ids.push(found.ok_or_else(|| BoardError::NotFound(format!("{blocker}, which should block {key}")))?.id);
            }
            let path_of = |items: &str| self.in_project(&format!("{items}/{}/relations/", segment(&id)));
            let body = json!({"relation_type": "blocked_by", "issues": ids});
            self.on_items(Method::Post, &path_of, &[], Some(&body))?;
        }
        Ok(key)
    }
}

impl Board for Plane {
    fn set_status(&self, statuses: &[Status], item: &WorkItem, change: &Move<'_>) -> Result<Moved, BoardError> {
        self.set_status(statuses, &item.id, change)
    }

    fn comment(&self, item: &WorkItem, marker: &str, text: &str, _now_ms: i64) -> Result<bool, BoardError> {
        self.comment(&item.id, marker, text)
    }

    fn who(&self, _: &Key, id: &str, deed: &Deed<'_>) -> Result<Option<Doer>, BoardError> {
        Ok(self.who(id, deed)?.map(Doer::named))
    }

    fn blocked_by(&self, item: &WorkItem) -> Result<Vec<ItemRef>, BoardError> {
        self.blocked_by(&item.id)
    }

    fn create(&self, new: &NewItem<'_>) -> Result<Key, BoardError> {
        self.create(new)
    }

    /// Which project it is, and which path of work items the server has, if not the usual one.
    fn kept(&self) -> Vec<(String, String)> {
        let Some((project, path)) = &self.keeps else { return Vec::new() };
        let mut kept = vec![project.clone()];
        if self.path() != self.opened_with {
            kept.push((path.clone(), self.path().as_str().to_owned()));
        }
        kept
    }

    fn examine(&self) -> Vec<Examined> {
        vec![match self.probe() {
            Ok(found) if found.role.is_some_and(|r| r < 15) => Examined::fail(
                "board",
                format!("{} is only a guest of the project, and can't write", found.user),
                "make the account a member (role 15)",
            ),
            Ok(found) => {
                let role = found.role.map_or("unknown".to_owned(), |r| r.to_string());
                Examined::ok("board", format!("as {}, role {role}", found.user))
            }
            Err(e) => Examined::fail("board", e.to_string(), "docs/connecting-plane.md"),
        }]
    }

    /// The project's statuses in the board's order.
    fn statuses(&self) -> Result<Vec<Status>, BoardError> {
        Ok(self.all("states/")?.iter().filter_map(wire::status).collect())
    }

    /// The project's labels. An error is "unknown", never "none".
    fn labels(&self) -> Result<Vec<Label>, BoardError> {
        Ok(self.all("labels/")?.iter().filter_map(wire::label).collect())
    }

    /// Items in scope, each once, without bodies. `Since` reads newest first until a page has an older one (one request
    /// when nothing changed); `All` reads by number, so that new items can't shift the pages. Ends early, with what it
    /// has, when the server asks to wait, the budget is down to the reserve, a later page fails, or `go_on` says no.
    fn list(&self, statuses: &[Status], scope: &Scope<'_>, go_on: &dyn Fn() -> bool) -> Result<Listing, BoardError> {
        let (order, since, mut cursor) = match scope {
            Scope::Since(ms) => ("-updated_at", Some(*ms), None),
            Scope::All { cursor } => ("sequence_id", None, cursor.map(str::to_owned)),
        };
        let mut found = Listing::default();
        let mut seen = HashSet::new();
        let resume = |cursor: &Option<String>| if since.is_some() { None } else { cursor.clone() };
        while found.requests < MAX_PAGES {
            let mut query = vec![("per_page", "100"), ("order_by", order), ("fields", LIST_FIELDS)];
            if let Some(c) = &cursor {
                query.push(("cursor", c));
            }
            let path_of = |items: &str| self.in_project(&format!("{items}/"));
            let page = self.on_items(Method::Get, &path_of, &query, None).map_err(BoardError::from);
            let page = match page.and_then(|reply| read_page(&reply)) {
                Ok(page) => page,
                // The pages read so far are kept.
                Err(e) if found.requests > 0 => {
                    let why = if let BoardError::Throttled { retry_after_s, .. } = e {
                        Cut::Budget { retry_after_s }
                    } else {
                        Cut::Failed(e)
                    };
                    found.unfinished = Some(Unfinished { cursor: resume(&cursor), why });
                    return Ok(found);
                }
                Err(e) => return Err(e),
            };
            found.requests += 1;
            let mut older = false;
            for row in &page.results {
                match wire::item(row, &self.prefix, statuses) {
                    _ if wire::is_hidden(row) => {}
                    Ok(item) if since.is_some_and(|s| item.updated_ms != 0 && item.updated_ms < s) => older = true,
                    Ok(item) => {
                        if seen.insert(item.id.clone()) {
                            found.items.push(item);
                        }
                    }
                    Err(why) => {
                        let at = row.get("id").and_then(Value::as_str).unwrap_or("?").to_owned();
                        found.problems.push(Problem { at, why, key: None });
                    }
                }
            }
            match page.next {
                Some(next) if !older && !page.results.is_empty() && cursor.as_ref() != Some(&next) => {
                    cursor = Some(next)
                }
                Some(_) | None => return Ok(found),
            }
            let left = self.remaining.load(Ordering::Relaxed);
            let why = if (0..RESERVE).contains(&left) {
                Cut::Budget { retry_after_s: Some(60) }
            } else if go_on() {
                continue;
            } else {
                Cut::Caller
            };
            found.unfinished = Some(Unfinished { cursor: resume(&cursor), why });
            return Ok(found);
        }
        Err(BoardError::Invalid("the pages of the list of work items form a cycle".to_owned()))
    }

    /// One item by key, with its body; `None`: gone, archived or a draft. A wrong identifier is `Auth` (Plane answers
    /// 403).
    fn get(&self, statuses: &[Status], key: &Key) -> Result<Option<WorkItem>, BoardError> {
        let name = format!("{}-{}", self.identifier, key.number());
        let path_of = |items: &str| format!("/api/v1/workspaces/{}/{items}/{name}/", self.workspace);
        self.read(statuses, &path_of)
    }
}
