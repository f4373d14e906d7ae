//! Reads, pull requests, statuses, comments and probes. Every write reads first, and again when its answer is lost.

use super::{Gitea, wire};
use crate::adapters::forge::merge_state::{again, cut, mark};
use crate::adapters::forge::{
    Account, BranchRule, CommentOutcome, CommitStatus, Forge, ForgeError, ForgeVersion, Landing, MergeOutcome, Product,
    Protection, PullRequest, PullState, RepoInfo, StatusState,
};
use crate::adapters::git::Mirror;
use crate::adapters::http::{Method, Request, Response, segment};
use crate::model::ids::Sha;
use crate::model::refusal::Refusal;
use serde_json::{Value, json};
use std::collections::HashSet;

type Result<T> = std::result::Result<T, ForgeError>;

/// Requested; the server clamps it silently.
const PAGE: &str = "50";
/// Pull requests whose heads show what CI posts.
const RECENT: &str = "10";
/// More pages than this mean a server that pages in circles.
const MAX_PAGES: u32 = 400;
const MAX_DESCRIPTION: usize = 250;
const MAX_COMMENT: usize = 60_000;
/// The id of a comment that no server has yet.
const NO_COMMENT: u32 = 999_999_999;

impl Gitea {
    pub(super) fn get(&self, path: &str) -> Result<Value> {
        Ok(self.send(path, &Request::new(Method::Get, path))?.json()?)
    }

    fn write(&self, method: Method, path: &str, body: &Value) -> Result<Response> {
        self.send(path, &Request::new(method, path).json(body))
    }

    fn send(&self, path: &str, request: &Request<'_>) -> Result<Response> {
        let said = match self.http.send(request) {
            Ok(reply) => return Ok(reply),
            Err(e) => wire::error(e),
        };
        let ForgeError::NotFound(_) = said else { return Err(said) };
        Err(if path.starts_with(&self.repo) { self.unseen(path, said) } else { said })
    }

    /// What a 404 below the repository means. A server hides a private repository from a token that it does not know,
    /// or whose account was removed; then nothing in it is known to be gone. It also hides pull requests that are
    /// disabled.
    fn unseen(&self, path: &str, said: ForgeError) -> ForgeError {
        let ask = |path: &str| self.http.send(&Request::new(Method::Get, path)).map_err(wire::error);
        if path != self.repo {
            match ask(&self.repo).and_then(|reply| Ok(reply.json()?)) {
                Ok(repo)
                    if wire::flag(&repo, "has_pull_requests") == Some(false) && path.starts_with(&self.at("pulls")) =>
                {
                    let text = format!("{} has no pull requests ({said})", self.full_name);
                    return ForgeError::Refused { refusal: Refusal::NoPullRequests, text };
                }
                Ok(_) => return said,
                Err(ForgeError::NotFound(_)) => {}
                Err(e) => return e,
            }
        }
        let gone = |who: &str| ForgeError::Refused {
            refusal: Refusal::Gone,
            text: format!(
                "{who} can't see the repository {}: it is gone, or the account is not its collaborator ({said})",
                self.full_name
            ),
        };
        match self.user() {
            Ok(account) => gone(&account.login),
            // A token without the scope to read its own user is still valid.
            Err(ForgeError::Refused { refusal: Refusal::Denied { .. }, .. }) => gone("the account"),
            Err(e) => e,
        }
    }

    /// A path below the repository.
    pub(super) fn at(&self, tail: &str) -> String {
        format!("{}/{tail}", self.repo)
    }

    /// Every item of a list, each once. The pages are counted here: behind proxies `Link` has a wrong address, a page
    /// may be shorter than requested, and some lists have no pages at all.
    fn all(&self, tail: &str, query: &[(&str, &str)]) -> Result<Vec<Value>> {
        let path = self.at(tail);
        let (mut items, mut seen) = (Vec::new(), HashSet::new());
        for page in 1..=MAX_PAGES {
            let page = page.to_string();
            let mut query = query.to_vec();
            query.extend([("limit", PAGE), ("page", page.as_str())]);
            let reply = self.send(&path, &Request::new(Method::Get, &path).query(&query))?;
            let total = reply.header_u64("x-total-count").and_then(|n| usize::try_from(n).ok());
            let rows = wire::list(reply.json()?)
                .ok_or_else(|| ForgeError::Invalid(format!("GET {path}: expected a list, got something else")))?;
            let before = items.len();
            for row in rows {
                let id = row.get("id").and_then(Value::as_u64);
                let id = id.ok_or_else(|| ForgeError::Invalid(format!("GET {path}: an item without an id")))?;
                if seen.insert(id) {
                    items.push(row);
                }
            }
            if items.len() == before || total.is_some_and(|t| items.len() >= t) {
                return Ok(items);
            }
        }
        Err(ForgeError::Invalid(format!("the pages of GET {path} form a cycle")))
    }

    fn matches(&self, pull: &wire::Pull, head: &str, base: &str) -> bool {
        pull.head_ref == head
            && pull.request.base == base
            && pull.request.state == PullState::Open
            && pull.head_repo.eq_ignore_ascii_case(&self.full_name)
    }

    /// Only administrators of the repository may read them.
    fn rules(&self) -> Result<Option<Vec<Value>>> {
        match self.get(&self.at("branch_protections")) {
            Ok(v) => Ok(Some(wire::list(v).unwrap_or_default())),
            Err(ForgeError::NotFound(_) | ForgeError::Refused { refusal: Refusal::Denied { .. }, .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether the rule of this name applies to administrators (only they can read it).
    fn binds_admins(&self, rule: &str) -> Result<bool> {
        let rows = self.rules()?.unwrap_or_default();
        let named =
            |row: &&Value| [wire::text(row, "rule_name"), wire::text(row, "branch_name")].iter().any(|n| n == rule);
        let binds = |row: &Value| {
            ["block_admin_merge_override", "apply_to_admins"].iter().any(|f| wire::flag(row, f) == Some(true))
        };
        Ok(rows.iter().find(named).is_some_and(binds))
    }
}

impl Forge for Gitea {
    fn merge(&self, mirror: &Mirror, number: i64, landing: &Landing<'_>) -> Result<MergeOutcome> {
        self.merge(mirror, number, landing)
    }

    fn pull(&self, number: i64) -> Result<Option<PullRequest>> {
        match self.get(&self.at(&format!("pulls/{number}"))) {
            Ok(v) => Ok(Some(wire::pull(&v).map_err(ForgeError::Invalid)?.request)),
            // The repository is visible: this is gone.
            Err(ForgeError::NotFound(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// By listing: the server ignores `?head=`. Of several (two creators at once) the oldest.
    fn find_pull(&self, head: &str, base: &str) -> Result<Option<PullRequest>> {
        let rows = self.all("pulls", &[("state", "open"), ("sort", "recentupdate")])?;
        let mut found: Option<PullRequest> = None;
        for row in &rows {
            // One that can't be read may be the one searched for.
            let pull = wire::pull(row).map_err(ForgeError::Invalid)?;
            if self.matches(&pull, head, base) && found.as_ref().is_none_or(|f| pull.request.number < f.number) {
                found = Some(pull.request);
            }
        }
        Ok(found)
    }

    /// Heads of the pull requests that changed last, open or not, newest first; those whose branch is gone are left
    /// out.
    fn recent_heads(&self) -> Result<Vec<Sha>> {
        let path = self.at("pulls");
        let query = [("state", "all"), ("sort", "recentupdate"), ("limit", RECENT), ("page", "1")];
        let rows = wire::list(self.send(&path, &Request::new(Method::Get, &path).query(&query))?.json()?);
        let rows =
            rows.ok_or_else(|| ForgeError::Invalid(format!("GET {path}: expected a list, got something else")))?;
        Ok(rows.iter().filter_map(|row| wire::pull(row).ok()?.request.head_sha).collect())
    }

    fn open_pull(&self, head: &str, base: &str, title: &str, body: &str) -> Result<PullRequest> {
        if let Some(found) = self.find_pull(head, base)? {
            return Ok(found);
        }
        let wanted = json!({"head": head, "base": base, "title": title, "body": body});
        let made = self.write(Method::Post, &self.at("pulls"), &wanted);
        let first = match made.and_then(|reply| Ok(reply.json()?)) {
            Ok(v) => match wire::pull(&v) {
                Ok(pull) if self.matches(&pull, head, base) => return Ok(pull.request),
                Ok(_) => ForgeError::UnknownOutcome("the new pull request is not the requested one".to_owned()),
                Err(why) => ForgeError::UnknownOutcome(why),
            },
            Err(e) => e,
        };
        match first {
            // The message of a 409 names ids in varying order.
            ForgeError::Conflict(_) | ForgeError::UnknownOutcome(_) => {
                let found = again(&first, self.find_pull(head, base))?;
                found.ok_or(first)
            }
            ForgeError::Refused { .. }
            | ForgeError::NotFound(_)
            | ForgeError::Invalid(_)
            | ForgeError::Throttled { .. }
            | ForgeError::Transient(_) => Err(first),
        }
    }

    fn close_pull(&self, number: i64) -> Result<()> {
        let open = |pull: Option<PullRequest>| pull.is_some_and(|p| p.state == PullState::Open && !p.merged);
        if !open(self.pull(number)?) {
            return Ok(());
        }
        let path = self.at(&format!("pulls/{number}"));
        match self.write(Method::Patch, &path, &json!({"state": "closed"})) {
            Ok(_) => Ok(()),
            // 412: merged meanwhile.
            Err(e @ (ForgeError::Conflict(_) | ForgeError::UnknownOutcome(_) | ForgeError::NotFound(_))) => {
                if open(again(&e, self.pull(number))?) { Err(e) } else { Ok(()) }
            }
            Err(e) => Err(e),
        }
    }

    /// Raw and whole: the combined answer's `state` is computed over one page, by rules that changed.
    fn statuses(&self, sha: &Sha) -> Result<Vec<CommitStatus>> {
        let rows = self.all(&format!("commits/{sha}/statuses"), &[("sort", "highestindex")])?;
        // One that can't be read may be the newest of its context.
        rows.iter().map(|row| wire::status(row).map_err(ForgeError::Invalid)).collect()
    }

    fn post_status(&self, sha: &Sha, context: &str, state: StatusState, description: &str) -> Result<bool> {
        if matches!(state, StatusState::Unknown | StatusState::Skipped | StatusState::Neutral) || context.is_empty() {
            return Err(ForgeError::Invalid(format!("a status {state} of context {context:?} can't be posted")));
        }
        let description = cut(description, MAX_DESCRIPTION);
        let is_posted = |list: Vec<CommitStatus>| {
            let newest = list.into_iter().filter(|s| s.context == context).max_by_key(|s| s.id);
            newest.is_some_and(|s| s.state == state && s.description == description)
        };
        if is_posted(self.statuses(sha)?) {
            return Ok(false);
        }
        let body = json!({"state": state.as_str(), "context": context, "description": description});
        match self.write(Method::Post, &self.at(&format!("statuses/{sha}")), &body) {
            Ok(_) => Ok(true),
            Err(e @ ForgeError::UnknownOutcome(_)) => {
                if is_posted(again(&e, self.statuses(sha))?) {
                    Ok(true)
                } else {
                    Err(e)
                }
            }
            Err(e) => Err(e),
        }
    }

    fn comment_once(&self, number: i64, marker: &str, body: &str) -> Result<CommentOutcome> {
        let mark = mark(marker)?;
        let path = format!("issues/{number}/comments");
        let is_posted = || -> Result<bool> {
            let rows = self.all(&path, &[])?;
            Ok(rows.iter().any(|row| wire::text(row, "body").trim_start().starts_with(&mark)))
        };
        if is_posted()? {
            return Ok(CommentOutcome::Present);
        }
        let body = json!({"body": format!("{mark}\n{}", cut(body, MAX_COMMENT))});
        match self.write(Method::Post, &self.at(&path), &body) {
            Ok(_) => Ok(CommentOutcome::Posted),
            Err(e @ ForgeError::UnknownOutcome(_)) => {
                if again(&e, is_posted())? {
                    Ok(CommentOutcome::Posted)
                } else {
                    Err(e)
                }
            }
            Err(e) => Err(e),
        }
    }

    /// The server checks the scope before it searches for the comment: 404 with it, 403 without.
    fn may_comment(&self) -> Result<()> {
        let path = self.at(&format!("issues/comments/{NO_COMMENT}"));
        match self.write(Method::Patch, &path, &json!({"body": "-"})) {
            Ok(_) | Err(ForgeError::NotFound(_)) => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn protection(&self, branch: &str) -> Result<Protection> {
        let name = branch.split('/').map(segment).collect::<Vec<_>>().join("/");
        let b = self.get(&self.at(&format!("branches/{name}")))?;
        let protected = wire::flag(&b, "protected").unwrap_or(false);
        let mut found = Protection {
            protected,
            may_merge: wire::flag(&b, "user_can_merge"),
            may_push: wire::flag(&b, "user_can_push"),
            ..Protection::default()
        };
        if !protected {
            return Ok(found);
        }
        if wire::flag(&b, "enable_status_check") == Some(true) {
            found.required_contexts = wire::texts(&b, "status_check_contexts");
        }
        found.required_approvals = b.get("required_approvals").and_then(Value::as_u64).unwrap_or(0);
        found.rule = wire::text(&b, "effective_branch_protection_name");
        let repo = self.get(&self.repo)?;
        let admin = repo.get("permissions").and_then(|p| wire::flag(p, "admin"));
        found.our_token_exempt = match (found.may_push, admin) {
            (Some(true), _) => Some(true),
            // An administrator may force a merge, unless the rule applies to them too.
            (_, Some(true)) => Some(!self.binds_admins(&found.rule)?),
            (Some(false), Some(false)) => Some(false),
            (None, _) | (Some(false), None) => None,
        };
        Ok(found)
    }

    fn branch_rules(&self) -> Result<Option<Vec<BranchRule>>> {
        Ok(self.rules()?.map(|rows| rows.iter().map(wire::branch_rule).collect()))
    }

    fn user(&self) -> Result<Account> {
        let v = self.get("/api/v1/user")?;
        let login = wire::text(&v, "login");
        if login.is_empty() {
            return Err(ForgeError::Invalid("GET /api/v1/user: an answer without a login".to_owned()));
        }
        Ok(Account { login, admin: wire::flag(&v, "is_admin").unwrap_or(false) })
    }

    fn version(&self) -> Result<ForgeVersion> {
        let version = wire::text(&self.get("/api/v1/version")?, "version");
        if version.is_empty() {
            return Err(ForgeError::Invalid("GET /api/v1/version: no version; is this Gitea's address?".to_owned()));
        }
        let guards_head = wire::guards_head(&version);
        match self.get("/api/forgejo/v1/version") {
            // Gitea does not have this route.
            Ok(v) if !wire::text(&v, "version").is_empty() => {
                Ok(ForgeVersion { product: Product::Forgejo, version, guards_head })
            }
            Ok(_) | Err(ForgeError::NotFound(_)) => Ok(ForgeVersion { product: Product::Gitea, version, guards_head }),
            Err(e) => Err(e),
        }
    }

    fn repository(&self) -> Result<RepoInfo> {
        let v = self.get(&self.repo)?;
        let may = |name: &str| v.get("permissions").and_then(|p| wire::flag(p, name));
        Ok(RepoInfo {
            full_name: wire::text(&v, "full_name"),
            default_branch: wire::text(&v, "default_branch"),
            archived: wire::flag(&v, "archived").unwrap_or(false),
            may_push: may("push"),
            admin: may("admin"),
            method_enabled: wire::flag(&v, wire::method_switch(self.method)),
            pull_requests: wire::flag(&v, "has_pull_requests"),
        })
    }
}
