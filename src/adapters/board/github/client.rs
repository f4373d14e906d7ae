//! Requests to one repository's issues. Labels are added and removed one per call, never replaced as a whole: a label
//! that somebody added meanwhile survives (GH-2).

use super::{Issues, error, wire};
use crate::adapters::board::{Board, BoardError, Cut, Doer, Listing, Move, Moved, NewItem, Problem, Scope, Unfinished};
use crate::adapters::github::{Api, PAGE, flag, id_key, text};
use crate::adapters::http::{Method, Request, segment};
use crate::model::board::{Deed, Group, ItemRef, Label, Status, WorkItem, fold};
use crate::model::comment::Comment;
use crate::model::examined::Examined;
use crate::model::ids::Key;
use crate::model::time::rfc3339;
use serde_json::{Value, json};
use std::sync::PoisonError;
use wire::Issue;

type Result<T> = std::result::Result<T, BoardError>;

const MAX_COMMENT: usize = 60_000;

/// What a check of the credential found (for `doctor`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    pub user: String,
    /// The repository's id, which survives a rename.
    pub id: u64,
    /// `None`: unknown.
    pub may_push: Option<bool>,
    /// Whether issues are enabled; `None`: unknown.
    pub has_issues: Option<bool>,
    pub archived: bool,
}

impl Issues {
    pub(super) fn at(&self, tail: &str) -> String {
        format!("{}/{tail}", self.repo)
    }

    pub(super) fn all(&self, tail: &str, query: &[(&str, &str)]) -> Result<Vec<Value>> {
        self.api.all(&self.at(tail), query, "").map_err(error)
    }

    /// Who the credential is and what the repository allows. Two requests, for `doctor`.
    pub fn probe(&self) -> Result<Probe> {
        let user = self.api.me().map_err(error)?;
        let v = self.api.get(&self.repo).map_err(error)?;
        Ok(Probe {
            user,
            id: v.get("id").and_then(Value::as_u64).unwrap_or(0),
            may_push: v.get("permissions").and_then(|p| flag(p, "push")),
            has_issues: flag(&v, "has_issues"),
            archived: flag(&v, "archived") == Some(true),
        })
    }

    /// The repository's id, which survives a rename.
    pub fn id(&self) -> Result<u64> {
        let v = self.api.get(&self.repo).map_err(error)?;
        let id = v.get("id").and_then(Value::as_u64);
        id.ok_or_else(|| BoardError::Invalid(format!("GET {}: a repository without an id", self.repo)))
    }

    /// Issues in scope, each once. `Since` reads the oldest change first, so that whatever changes meanwhile moves to
    /// the end; an unchanged list takes one request, with no result. `All` goes by creation. Ends early, with what it
    /// has, at a limit, at the reserve, when a later page fails, or when `go_on` says no.
    pub fn list(&self, scope: &Scope<'_>, go_on: &dyn Fn() -> bool) -> Result<Listing> {
        let since = match scope {
            Scope::Since(ms) => whole_seconds((*ms).max(0)),
            Scope::All { .. } => String::new(),
        };
        let (mut page, query) = match scope {
            Scope::Since(_) => {
                (1, vec![("state", "all"), ("sort", "updated"), ("direction", "asc"), ("since", since.as_str())])
            }
            Scope::All { cursor } => (
                cursor.and_then(|c| c.parse().ok()).filter(|n| *n > 0).unwrap_or(1),
                vec![("state", "all"), ("sort", "created"), ("direction", "asc")],
            ),
        };
        let changes = matches!(scope, Scope::Since(_));
        let mut found = Listing::default();
        loop {
            let cut = |why: Cut| Unfinished { cursor: (!changes).then(|| page.to_string()), why };
            if found.requests > 0 && !go_on() {
                found.unfinished = Some(cut(Cut::Caller));
                return Ok(found);
            }
            if !changes && self.api.spare().is_err() {
                found.unfinished = Some(cut(Cut::Reserve));
                return Ok(found);
            }
            let rows = match self.page(&query, page, &since, changes && found.requests == 0) {
                Ok(Some(rows)) => rows,
                // Nothing changed since the last scan.
                Ok(None) => {
                    found.requests += 1;
                    return Ok(found);
                }
                // The pages read so far are kept.
                Err(e) if found.requests > 0 => {
                    let why = if let BoardError::Throttled { retry_after_s, .. } = e {
                        Cut::Budget { retry_after_s }
                    } else {
                        Cut::Failed(e)
                    };
                    found.unfinished = Some(cut(why));
                    return Ok(found);
                }
                Err(e) => return Err(e),
            };
            found.requests += 1;
            for row in &rows {
                self.import(row, &mut found)?;
            }
            if Api::is_last(rows.len()) {
                return Ok(found);
            }
            page += 1;
        }
    }

    /// Reads the issue again if a list leaves out who closed it and the meaning depends on that.
    fn with_closer(&self, issue: Issue) -> Result<Issue> {
        let shown = issue.statuses(&self.words);
        let open_word = shown.len() == 1 && shown.iter().all(|label| !self.words.is_end(label));
        if issue.closed.is_none() || !issue.closed_by.is_empty() || !open_word {
            return Ok(issue);
        }
        Ok(self.read(&issue.number.to_string())?.map_or(issue, |(whole, _)| whole))
    }

    fn import(&self, row: &Value, found: &mut Listing) -> Result<()> {
        let problem = |why: String| {
            let number = row.get("number").and_then(Value::as_u64).map_or_else(|| "?".to_owned(), |n| n.to_string());
            let key = Key::parse(&format!("{}-{number}", self.key)).ok();
            Problem { at: format!("issue {number}"), why, key }
        };
        match Issue::read(row) {
            Ok(issue) if issue.is_pull => {}
            Ok(issue) => match self.with_closer(issue).and_then(|issue| self.item(&issue)) {
                // An issue that changed while the pages were read appears twice: the later one counts.
                Ok(item) => {
                    found.items.retain(|i| i.id != item.id);
                    found.items.push(item);
                }
                Err(e @ (BoardError::Throttled { .. } | BoardError::Silent(_) | BoardError::Auth(_))) => return Err(e),
                Err(e) => found.problems.push(problem(e.to_string())),
            },
            Err(why) => found.problems.push(problem(why)),
        }
        Ok(())
    }

    /// One page; `None`: unchanged. Only a list of one page can be recognised by its ETag.
    fn page(&self, query: &[(&str, &str)], page: usize, since: &str, first: bool) -> Result<Option<Vec<Value>>> {
        let path = self.at("issues");
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.as_deref().and_then(|s| s.split_once(' ')).filter(|(of, _)| first && *of == since);
        let etag = known.map(|(_, etag)| etag.to_owned());
        let header = etag.as_deref().map(|etag| [("if-none-match", etag)]);
        let reply = self.api.page(&path, query, page, header.as_ref().map_or(&[][..], |h| &h[..])).map_err(error)?;
        if reply.status == 304 {
            return Ok(None);
        }
        let etag = reply.header("etag").map(str::to_owned);
        let Value::Array(rows) = reply.json()? else {
            return Err(BoardError::Invalid(format!("GET {path}: expected a list, got something else")));
        };
        let whole = first && Api::is_last(rows.len());
        *seen = etag.filter(|_| whole).map(|etag| format!("{since} {etag}"));
        Ok(Some(rows))
    }

    /// The issue as a work item. Of several intents their events say which is later; of a closed issue, whether a
    /// person did it.
    fn item(&self, issue: &Issue) -> Result<WorkItem> {
        let intents = issue.intents(&self.words);
        let later = if intents.len() > 1 {
            wire::latest(&self.all(&format!("issues/{}/events", issue.number), &[])?, &intents).map(str::to_owned)
        } else {
            None
        };
        let status = issue.status(&self.words, self.is_ours(issue)?, later.as_deref());
        issue.with_status(&self.key, &self.words, status).map_err(BoardError::Invalid)
    }

    /// Whether orch or a bot closed it, as a landing does when its commits say so.
    fn is_ours(&self, issue: &Issue) -> Result<bool> {
        if issue.closed.is_none() || issue.closed_by.is_empty() {
            return Ok(false);
        }
        Ok(issue.closed_by_bot || self.api.is_me(&issue.closed_by).map_err(error)?)
    }

    /// `None`: deleted, transferred, gone, or a pull request. A 404 of a repository that can't be seen is `Auth`.
    fn read(&self, number: &str) -> Result<Option<(Issue, Value)>> {
        let path = self.at(&format!("issues/{}", segment(number)));
        let v = match self.api.get(&path) {
            Ok(v) => v,
            Err(e) if matches!(e.http.status, Some(301 | 410)) => return self.repository_is_there(None),
            Err(e) if e.http.status == Some(404) => return self.repository_is_there(None),
            Err(e) => return Err(error(e)),
        };
        let issue = Issue::read(&v).map_err(BoardError::Invalid)?;
        Ok((!issue.is_pull).then_some((issue, v)))
    }

    /// Checks that the repository answers under its own name, so that a 404 inside it means "gone".
    fn repository_is_there<T>(&self, then: T) -> Result<T> {
        match self.api.get(&self.repo) {
            Ok(v)
                if text(&v, "full_name").eq_ignore_ascii_case(&self.full_name) || text(&v, "full_name").is_empty() =>
            {
                Ok(then)
            }
            Ok(v) => Err(BoardError::Auth(format!(
                "{} is now {}: correct board.owner and board.name",
                self.full_name,
                text(&v, "full_name")
            ))),
            Err(e) if matches!(e.http.status, Some(301 | 307 | 404)) => Err(BoardError::Auth(format!(
                "the repository {} is not visible: it moved, or the credential may not read it ({e})",
                self.full_name
            ))),
            Err(e) => Err(error(e)),
        }
    }

    /// One item with its body; `None`: gone (see [`Issues::list`] for the rest).
    pub fn get(&self, key: &Key) -> Result<Option<WorkItem>> {
        self.read(&key.number().to_string())?.map(|(issue, _)| self.item(&issue)).transpose()
    }

    /// Reads the issue, adds the new label, removes the old ones, and opens or closes it according to the status's
    /// group.
    pub fn set_status(&self, number: &str, change: &Move<'_>) -> Result<Moved> {
        let Some((mut issue, _)) = self.read(number)? else { return Ok(Moved::Withdrawn) };
        let now = self.item(&issue)?;
        if change.expect.is_some_and(|e| e != now.status_id) {
            return Ok(Moved::Held(now));
        }
        let to = change.to;
        let is_label = self.words.name_of(&to.id).is_some();
        let others: Vec<String> =
            issue.statuses(&self.words).into_iter().filter(|l| fold(l) != fold(&to.id)).map(str::to_owned).collect();
        let there = !is_label || issue.labels.iter().any(|l| fold(l) == fold(&to.id));
        let state = self.state_for(&issue, to)?;
        if there && others.is_empty() && state.is_none() {
            return Ok(Moved::Already(now));
        }
        if !there {
            let answer = self.write(Method::Post, &format!("issues/{number}/labels"), &json!({"labels": [to.id]}))?;
            issue.labels = wire::names(&answer);
        }
        for label in &others {
            self.take_off(number, label)?;
        }
        issue.labels.retain(|l| !others.iter().any(|o| fold(o) == fold(l)));
        if let Some((state, reason)) = state {
            let body = json!({"state": state, "state_reason": reason});
            let answer = self.write(Method::Patch, &format!("issues/{number}"), &body)?;
            issue = Issue { labels: issue.labels, ..Issue::read(&answer).map_err(BoardError::UnknownOutcome)? };
        }
        let after = self.item(&issue)?;
        // A label that is missing right after it was added does not exist, or somebody removed it: read again later.
        if is_label && !issue.labels.iter().any(|l| fold(l) == fold(&to.id)) {
            return Err(BoardError::Conflict(format!("{} should be {:?}, but is not", after.key, to.name)));
        }
        self.show(&issue.node, &to.name);
        Ok(Moved::Set(after))
    }

    /// The state that the issue is to have, with the reason. An issue that a person closed stays closed: only their own
    /// intent reopens it.
    fn state_for(&self, issue: &Issue, to: &Status) -> Result<Option<(&'static str, &'static str)>> {
        let wanted = to.group.filter(|g| g.is_terminal());
        Ok(match (wanted, issue.closed) {
            (Some(Group::Completed), None) => Some(("closed", "completed")),
            (Some(_), None) => Some(("closed", "not_planned")),
            (None, Some(_)) if !issue.intents(&self.words).is_empty() || self.is_ours(issue)? => {
                Some(("open", "reopened"))
            }
            (Some(_), Some(_)) | (None, None | Some(_)) => None,
        })
    }

    pub(super) fn write(&self, method: Method, tail: &str, body: &Value) -> Result<Value> {
        self.api.write(method, &self.at(tail), body).map_err(error)
    }

    /// Removes a label; one that is not on the issue is no error.
    pub fn take_off(&self, number: &str, label: &str) -> Result<()> {
        let path = self.at(&format!("issues/{number}/labels/{}", segment(label)));
        match self.api.send(&Request::new(Method::Delete, &path)) {
            Ok(_) => Ok(()),
            Err(e) if e.http.status == Some(404) => self.repository_is_there(()),
            Err(e) => Err(error(e)),
        }
    }

    /// Comments once per marker, which is in the comment's first line; only orch's own comments count. A comment that a
    /// locked issue refuses is dropped.
    pub fn comment(&self, number: &str, marker: &str, said: &str) -> Result<bool> {
        let mark = format!("<!-- {marker} -->");
        let is_set = || -> Result<bool> {
            for row in self.all(&format!("issues/{number}/comments"), &[])? {
                let author = row.get("user").map(|u| text(u, "login")).unwrap_or_default();
                if text(&row, "body").trim_start().starts_with(&mark) && self.api.is_me(&author).map_err(error)? {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        if is_set()? {
            return Ok(false);
        }
        let said: String = said.chars().take(MAX_COMMENT).collect();
        let body = json!({"body": format!("{mark}\n{said}")});
        match self.write(Method::Post, &format!("issues/{number}/comments"), &body) {
            Ok(_) => Ok(true),
            Err(e @ BoardError::Auth(_)) => match self.read(number)? {
                Some((issue, _)) if issue.locked => Ok(false),
                Some(_) | None => Err(e),
            },
            Err(e @ BoardError::UnknownOutcome(_)) => match is_set() {
                Ok(true) => Ok(true),
                Ok(false) | Err(_) => Err(e),
            },
            Err(e) => Err(e),
        }
    }

    /// Who added a status or label last; `None`: its events do not say so yet.
    pub fn who(&self, number: &str, deed: &Deed<'_>) -> Result<Option<Doer>> {
        let label = match deed {
            Deed::Status(id) => id,
            Deed::Label { name, .. } => name,
        };
        let events = self.all(&format!("issues/{}/events", segment(number)), &[])?;
        Ok(wire::labelled(&events, label))
    }

    /// The issues that hold this one back: those that block it until they are completed, and its sub-issues. Queried
    /// only where the summaries show some, or are missing; a server without the feature has none.
    pub fn blocked_by(&self, number: &str) -> Result<Vec<ItemRef>> {
        let Some((issue, _)) = self.read(number)? else { return Ok(Vec::new()) };
        let mut refs = Vec::new();
        for (count, tail) in [(issue.blockers, "dependencies/blocked_by"), (issue.parts, "sub_issues")] {
            if count == Some(0) {
                continue;
            }
            let rows = match self.all(&format!("issues/{number}/{tail}"), &[]) {
                Ok(rows) => rows,
                // The summary says that there are some, so the feature is not missing.
                Err(BoardError::NotFound(_)) if count.is_none() => continue,
                Err(e) => return Err(e),
            };
            for row in &rows {
                let other = Issue::read(row).map_err(BoardError::Invalid)?;
                if other.closed != Some(Group::Completed) {
                    refs.push(self.reference(row, other.number));
                }
            }
        }
        Ok(refs)
    }

    /// By key if it is in this repository, else by its URL.
    fn reference(&self, row: &Value, number: u64) -> ItemRef {
        let of = text(row, "repository_url");
        let of = of.split_once("/repos/").map_or(self.full_name.as_str(), |(_, of)| of);
        match Key::parse(&format!("{}-{number}", self.key)) {
            Ok(key) if of.eq_ignore_ascii_case(&self.full_name) => ItemRef::Key(key),
            Ok(_) | Err(_) => ItemRef::Id(format!("{of}#{number}")),
        }
    }
}

impl Board for Issues {
    fn list(&self, _: &[Status], scope: &Scope<'_>, go_on: &dyn Fn() -> bool) -> Result<Listing> {
        self.list(scope, go_on)
    }

    fn get(&self, _: &[Status], key: &Key) -> Result<Option<WorkItem>> {
        self.get(key)
    }

    fn set_status(&self, _: &[Status], item: &WorkItem, change: &Move<'_>) -> Result<Moved> {
        self.set_status(&item.id, change)
    }

    fn comment(&self, item: &WorkItem, marker: &str, text: &str, _now_ms: i64) -> Result<bool> {
        self.comment(&item.id, marker, text)
    }

    fn who(&self, _: &Key, id: &str, deed: &Deed<'_>) -> Result<Option<Doer>> {
        self.who(id, deed)
    }

    fn blocked_by(&self, item: &WorkItem) -> Result<Vec<ItemRef>> {
        self.blocked_by(&item.id)
    }

    fn comments(&self, id: &str, since_ms: i64) -> Result<Vec<Comment>> {
        let since = whole_seconds(since_ms.max(0));
        let query = [("since", since.as_str())];
        let rows = self.all(&format!("issues/{}/comments", segment(id)), if since_ms > 0 { &query } else { &[] })?;
        rows.iter().map(|row| wire::comment(row, &|login| self.api.is_me(login).map_err(error))).collect()
    }

    fn take_back(&self, id: &str, status: &str) -> Result<()> {
        self.take_off(id, status)
    }

    /// A stranger can take the name of a repository that moved (GH-1): its id shows that.
    fn confirm(&self) -> Result<()> {
        let id = self.id()?;
        match self.first.get_or_init(|| id) {
            known if *known != id => Err(BoardError::Auth(format!(
                "the repository's id is {id} and was {known}: another repository took its name; correct board.owner and board.name"
            ))),
            _ => Ok(()),
        }
    }

    fn prepare(&self) -> Result<Vec<String>> {
        self.make_labels()
    }

    fn kept(&self) -> Vec<(String, String)> {
        self.first.get().map(|id| (id_key(&self.key), id.to_string())).into_iter().collect()
    }

    fn examine(&self) -> Vec<Examined> {
        let found = match self.probe() {
            Ok(found) => found,
            Err(e) => return vec![Examined::fail("board", e.to_string(), PAGE)],
        };
        if found.archived {
            return vec![Examined::fail("board", "the repository is archived", "unarchive it on GitHub")];
        }
        let mut all = Vec::new();
        if found.has_issues == Some(false) {
            let fix = "enable them in its settings";
            all.push(Examined::fail("board", "issues are disabled in the repository", fix));
        }
        all.push(if found.may_push == Some(false) {
            let message = format!("{} may not write to the repository: GitHub silently drops its labels", found.user);
            Examined::fail("board", message, "give the account write access, or the App Issues: write")
        } else {
            Examined::ok("board", format!("as {}; everybody who may write to the repository decides", found.user))
        });
        all.push(match self.missing_labels() {
            Ok(missing) if missing.is_empty() => Examined::ok("labels", "every status has its label"),
            Ok(missing) => {
                let fix = "`orch init` with this board configured creates them";
                Examined::warn("labels", format!("no label {}", missing.join(", ")), fix)
            }
            Err(e) => Examined::warn("labels", e.to_string(), PAGE),
        });
        all.extend(self.examine_project());
        all
    }

    /// The labels that are statuses, and the four states that no label represents.
    fn statuses(&self) -> Result<Vec<Status>> {
        Ok(wire::statuses(&self.all("labels", &[])?, &self.words, &self.names))
    }

    /// The repository's labels. An error is "unknown", never "none".
    fn labels(&self) -> Result<Vec<Label>> {
        Ok(self.all("labels", &[])?.iter().filter_map(wire::label).collect())
    }

    /// Identifies the last list that fitted one answer, so that the next process can ask whether it is still current.
    fn seen(&self) -> Option<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether somebody may write to the repository now. `triage` counts as `read`; someone who acts through an App, or
    /// whom GitHub does not know as a user, may not.
    fn may_decide(&self, doer: &Doer) -> Result<bool> {
        if doer.through_app {
            return Ok(false);
        }
        let path = self.at(&format!("collaborators/{}/permission", segment(&doer.name)));
        match self.api.get(&path) {
            Ok(v) => Ok(["write", "admin"].contains(&text(&v, "permission").as_str())),
            Err(e) if e.http.status == Some(404) => self.repository_is_there(false),
            Err(e) => Err(error(e)),
        }
    }

    fn create(&self, new: &NewItem<'_>) -> Result<Key> {
        self.create(new)
    }
}

/// A time as GitHub's lists take it: whole seconds.
fn whole_seconds(ms: i64) -> String {
    rfc3339(ms / 1000 * 1000).replace(".000Z", "Z")
}
