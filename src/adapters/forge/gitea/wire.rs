//! Parses the server's JSON. Unknown fields and words are tolerated; `null`, absent and empty are the same.

use crate::adapters::forge::{Awaited, BranchRule, CommitStatus, ForgeError, PullRequest, PullState, StatusState};
use crate::adapters::git::MergeMethod;
use crate::adapters::http::HttpError;
use crate::model::ids::Sha;
use crate::model::refusal::Refusal;
use serde_json::Value;

/// A pull request with the fields that matching needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    pub request: PullRequest,
    /// The branch, or `refs/pull/N/head` once that is gone.
    pub head_ref: String,
    /// `owner/name` of the repository the branch is in; empty if that is gone.
    pub head_repo: String,
}

/// A text field; empty if it is not text.
pub fn text(v: &Value, name: &str) -> String {
    v.get(name).and_then(Value::as_str).unwrap_or("").to_owned()
}

pub fn flag(v: &Value, name: &str) -> Option<bool> {
    v.get(name).and_then(Value::as_bool)
}

fn sha(v: &Value, name: &str) -> Option<Sha> {
    Sha::parse(v.get(name)?.as_str()?).ok()
}

/// Parses a pull request. Fails with what is missing.
pub fn pull(v: &Value) -> Result<Pull, String> {
    let bad = |what: &str| format!("a pull request without {what}");
    let number = v.get("number").and_then(Value::as_i64).filter(|n| *n > 0).ok_or_else(|| bad("a number"))?;
    let state = match v.get("state").and_then(Value::as_str) {
        Some("open") => PullState::Open,
        Some("closed") => PullState::Closed,
        Some(_) | None => return Err(bad("a known state")),
    };
    let (head, base) = (v.get("head").unwrap_or(&Value::Null), v.get("base").unwrap_or(&Value::Null));
    let base_ref = text(base, "ref");
    if base_ref.is_empty() {
        return Err(bad("a base"));
    }
    let head_ref = text(head, "ref");
    let gone = head_ref.is_empty() || head_ref.starts_with("refs/");
    let label = text(head, "label");
    let merged = flag(v, "merged") == Some(true);
    let request = PullRequest {
        number,
        url: text(v, "html_url"),
        state,
        head: if gone { label } else { head_ref.clone() },
        head_sha: if gone { None } else { sha(head, "sha") },
        base: base_ref,
        merged,
        // Before the merge some servers show a throw-away commit here.
        merge_commit: if merged { sha(v, "merge_commit_sha") } else { None },
    };
    let head_repo = head.get("repo").map(|r| text(r, "full_name")).unwrap_or_default();
    Ok(Pull { request, head_ref, head_repo })
}

/// Parses one commit status. Lists use the key `status`, other answers `state`. An unknown word is `Unknown`, which is
/// no success. Fails if it could not be ordered by age.
pub fn status(v: &Value) -> Result<CommitStatus, String> {
    let word = [text(v, "status"), text(v, "state")].into_iter().find(|w| !w.is_empty()).unwrap_or_default();
    Ok(CommitStatus {
        id: v.get("id").and_then(Value::as_u64).ok_or("a commit status without an id")?,
        context: text(v, "context"),
        state: StatusState::parse(&word).unwrap_or(StatusState::Unknown),
        description: text(v, "description"),
        target_url: text(v, "target_url"),
        run: None,
    })
}

/// The items of a list; `null` is an empty one.
pub fn list(v: Value) -> Option<Vec<Value>> {
    match v {
        Value::Array(items) => Some(items),
        Value::Null => Some(Vec::new()),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => None,
    }
}

/// The texts of a list field; `null` is an empty one.
pub fn texts(v: &Value, name: &str) -> Vec<String> {
    let items = v.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    items.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

/// The server's name for a merge method.
pub fn method(method: MergeMethod) -> &'static str {
    match method {
        MergeMethod::Merge => "merge",
        MergeMethod::Rebase => "rebase",
        MergeMethod::Squash => "squash",
    }
}

/// The repository's switch for a merge method.
pub fn method_switch(method: MergeMethod) -> &'static str {
    match method {
        MergeMethod::Merge => "allow_merge_commits",
        MergeMethod::Rebase => "allow_rebase",
        MergeMethod::Squash => "allow_squash_merge",
    }
}

/// What the server says about a refusal: `message`, a bare JSON text, or git's output in a conflict's object. On one
/// line, at most 300 characters; empty if it says nothing.
pub fn message(e: &HttpError) -> String {
    let v = e.json();
    let said = v.as_str().map(ToOwned::to_owned).into_iter();
    let said = said.chain(["message", "Err", "StdErr", "StdOut"].iter().map(|name| text(&v, name)));
    let said = said.map(|t| t.split_whitespace().collect::<Vec<_>>().join(" ")).find(|t| !t.is_empty());
    said.unwrap_or_default().chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Turns a failed exchange into an error, with what only this server's words show: which scope a token lacks, where a
/// repository moved.
pub fn error(e: HttpError) -> ForgeError {
    let lacking = missing_scope(&message(&e));
    let mut error = ForgeError::from(e);
    if let ForgeError::Refused { refusal, .. } = &mut error {
        match refusal {
            Refusal::Denied { scope } => *scope = lacking,
            Refusal::MovedTo { to } => *to = repository_of(to),
            Refusal::BadCredential
            | Refusal::Archived
            | Refusal::Gone
            | Refusal::Missing
            | Refusal::NoPullRequests
            | Refusal::Foreign
            | Refusal::Other => {}
        }
    }
    error
}

/// `write:issue` in `… required=[write:issue], token scope=…`.
fn missing_scope(said: &str) -> Option<String> {
    let list = said.split_once("required=[")?.1.split_once(']')?.0;
    (!list.is_empty() && list.len() < 100).then(|| list.to_owned())
}

/// `owner/name` if a redirect leads to a repository of the same server, else the URL itself.
fn repository_of(place: &str) -> String {
    let tail = place.split_once("/api/v1/repos/").map(|(_, tail)| tail);
    let mut parts = tail.unwrap_or("").split('/');
    match (parts.next().filter(|p| !p.is_empty()), parts.next().filter(|p| !p.is_empty())) {
        (Some(owner), Some(name)) => format!("{owner}/{name}"),
        (_, None) | (None, _) => place.to_owned(),
    }
}

/// Parses a branch rule; older servers name it after its one branch.
pub fn branch_rule(v: &Value) -> BranchRule {
    let name = [text(v, "rule_name"), text(v, "branch_name")].into_iter().find(|n| !n.is_empty()).unwrap_or_default();
    BranchRule { name, push: flag(v, "enable_push"), force_push: flag(v, "enable_force_push") }
}

/// What a refused merge waits for, from the server's words in lower case, old or new; `None`: something else.
pub fn awaited(low: &str) -> Option<Awaited> {
    let table = [
        ("required status checks", Awaited::Checks),
        ("enough approvals", Awaited::Approval),
        ("requested changes", Awaited::Review),
        ("official review requests", Awaited::Review),
        ("work in progress", Awaited::Draft),
        ("user not allowed to merge", Awaited::MergeRight),
        ("requires signed commits", Awaited::Signature),
        ("changed protected files", Awaited::ProtectedFiles),
    ];
    table.iter().find(|(words, _)| low.contains(words)).map(|(_, what)| *what)
}

/// Whether the body is nothing but a JSON text: the output of a hook.
pub fn is_bare_text(e: &HttpError) -> bool {
    e.json().is_string()
}

/// Whether a 409's body is the object of a content conflict, which has no message.
pub fn is_conflict_object(e: &HttpError) -> bool {
    let v = e.json();
    ["Style", "StdErr", "StdOut"].iter().any(|name| v.get(name).is_some())
}

/// Whether a server of this version refuses to merge another head than the named one. `1.22.3`, `1.23.0+dev-1-gab`,
/// `7.0.5+gitea-1.22.0`; an unreadable version counts as one that does not.
pub fn guards_head(version: &str) -> bool {
    let plain = version.rsplit_once("+gitea-").map_or(version, |(_, gitea)| gitea).trim_start_matches('v');
    let mut parts = plain.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(1), Some(minor)) => minor >= 16,
        (Some(major), Some(_)) => major > 1,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_ignores_the_head_is_reported() {
        for good in [
            "1.16.0",
            "1.16.0+dev",
            "1.17.0",
            "1.22.3",
            "1.23.0+dev-100-gabcdef",
            "7.0.5+gitea-1.22.0",
            "v1.25.1",
            "11.0.1",
            "1.21.11-1",
        ] {
            assert!(guards_head(good), "{good}");
        }
        for bad in ["1.15.11", "", "main", "1", "0.9.1", "x+gitea-1.15.0"] {
            assert!(!guards_head(bad), "{bad}");
        }
    }
}
