//! Parses GitHub's JSON. Unknown fields and words are tolerated; `null`, absent and empty are the same.

use crate::adapters::forge::{CommitStatus, ForgeError, PullRequest, PullState, StatusState};
use crate::adapters::git::MergeMethod;
use crate::adapters::github::{Failure, flag, text};
use crate::model::ci::CheckRun;
use crate::model::ids::Sha;
use crate::model::refusal::Refusal;
use crate::model::rules::{Queue, QueueEntry, Rules};
use crate::model::time::parse_rfc3339;
use serde_json::Value;

/// A pull request with the fields that matching and merging need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    pub request: PullRequest,
    /// For GraphQL.
    pub node: String,
    /// `owner/name` of the repository the branch is in; empty if that is gone.
    pub head_repo: String,
    /// The id of the repository it targets; 0: unknown.
    pub base_repo: u64,
    pub draft: bool,
    /// `None`: still being computed (this read starts it), or from a list, which leaves it out.
    pub mergeable: Option<bool>,
    /// `clean`, `blocked`, `behind`, `dirty` and so on; empty: unknown.
    pub state: String,
}

/// Parses a pull request, from a list or a single read. Fails with what is missing.
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
    // A list has the time alone.
    let merged = flag(v, "merged").unwrap_or_else(|| v.get("merged_at").is_some_and(|at| !at.is_null()));
    let request = PullRequest {
        number,
        url: text(v, "html_url"),
        state,
        head: text(head, "ref"),
        head_sha: Sha::parse(&text(head, "sha")).ok(),
        base: base_ref,
        merged,
        // Newer API versions leave it out, so nothing relies on it.
        merge_commit: None,
    };
    Ok(Pull {
        request,
        node: text(v, "node_id"),
        head_repo: head.get("repo").map(|r| text(r, "full_name")).unwrap_or_default(),
        base_repo: base.get("repo").and_then(|r| r.get("id")).and_then(Value::as_u64).unwrap_or(0),
        draft: flag(v, "draft") == Some(true),
        mergeable: flag(v, "mergeable"),
        state: text(v, "mergeable_state"),
    })
}

/// Parses one commit status. Fails if it could not be ordered by age.
pub fn status(v: &Value) -> Result<CommitStatus, String> {
    Ok(CommitStatus {
        id: v.get("id").and_then(Value::as_u64).ok_or("a commit status without an id")?,
        context: text(v, "context"),
        state: StatusState::parse(&text(v, "state")).unwrap_or(StatusState::Unknown),
        description: text(v, "description"),
        target_url: text(v, "target_url"),
        run: None,
    })
}

/// Parses a check run, or an Actions job, which is the check run of its name. Fails if runs could not be distinguished.
pub fn check(v: &Value) -> Result<CommitStatus, String> {
    let time = |name: &str| parse_rfc3339(&text(v, name));
    let (status, conclusion) = (text(v, "status"), text(v, "conclusion"));
    // Only a completed run has a conclusion that counts.
    let state = match (status.as_str(), conclusion.as_str()) {
        ("completed", "success") => StatusState::Success,
        ("completed", "failure" | "timed_out") => StatusState::Failure,
        ("completed", "neutral") => StatusState::Neutral,
        ("completed", "skipped") => StatusState::Skipped,
        ("completed", _) => StatusState::Unknown,
        (_, _) => StatusState::Pending,
    };
    let ended = status == "completed";
    Ok(CommitStatus {
        id: v.get("id").and_then(Value::as_u64).ok_or("a check run without an id")?,
        context: text(v, "name"),
        state,
        description: if ended { conclusion } else { status },
        target_url: [text(v, "details_url"), text(v, "html_url")]
            .into_iter()
            .find(|u| !u.is_empty())
            .unwrap_or_default(),
        run: Some(CheckRun {
            app: v.get("app").and_then(|a| a.get("id")).and_then(Value::as_u64).unwrap_or(0),
            started_ms: time("started_at").unwrap_or(0),
            completed_ms: if ended { time("completed_at") } else { None },
        }),
    })
}

/// The forge's name for a merge method.
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
        MergeMethod::Merge => "allow_merge_commit",
        MergeMethod::Rebase => "allow_rebase_merge",
        MergeMethod::Squash => "allow_squash_merge",
    }
}

/// Turns a failed exchange into an error, with what only GitHub says: which permission is missing, where a repository
/// moved.
pub fn error(e: Failure) -> ForgeError {
    let (lacks, reserved) = (e.lacks, e.reserved);
    let mut error = ForgeError::from(*e.http);
    if let ForgeError::Refused { refusal: Refusal::Denied { scope }, .. } = &mut error {
        *scope = lacks;
    }
    if let ForgeError::Throttled { reserve, .. } = &mut error {
        *reserve = reserved;
    }
    error
}

/// Parses the active rules of a branch.
pub fn rules(rows: &[Value]) -> Rules {
    let mut found = Rules::default();
    for row in rows {
        let kind = text(row, "type");
        let with = row.get("parameters").unwrap_or(&Value::Null);
        let on = |name: &str| flag(with, name) == Some(true);
        match kind.as_str() {
            "required_status_checks" => {
                found.strict |= on("strict_required_status_checks_policy");
                let checks = with.get("required_status_checks").and_then(Value::as_array).into_iter().flatten();
                found
                    .checks
                    .extend(checks.map(|c| (text(c, "context"), c.get("integration_id").and_then(Value::as_u64))));
            }
            "pull_request" => {
                let count = with.get("required_approving_review_count").and_then(Value::as_u64).unwrap_or(0);
                found.approvals = found.approvals.max(count);
                found.code_owners |= on("require_code_owner_review");
                found.review |= on("required_review_thread_resolution") || on("require_last_push_approval");
                let methods = with.get("allowed_merge_methods").and_then(Value::as_array).into_iter().flatten();
                found.methods.extend(methods.filter_map(Value::as_str).map(str::to_owned));
            }
            "merge_queue" => found.queue = true,
            "required_signatures" => found.signatures = true,
            "required_deployments" => found.deployments = true,
            _ => {}
        }
        if !kind.is_empty() && !found.types.contains(&kind) {
            found.types.push(kind);
        }
    }
    found
}

/// Parses a look at the queue; `None`: there is no such pull request.
pub fn place_of(data: &Value) -> Option<(String, Queue)> {
    let pull = data.get("repository")?.get("pullRequest").filter(|p| p.is_object())?;
    let at = |v: &Value, names: &[&str]| names.iter().fold(v.clone(), |v, n| v.get(n).cloned().unwrap_or(Value::Null));
    let entry = pull.get("mergeQueueEntry").filter(|e| e.is_object()).map(|entry| QueueEntry {
        state: text(entry, "state"),
        tree: at(entry, &["headCommit", "tree", "oid"]).as_str().map(str::to_owned),
    });
    // In the queue with an entry that can't be seen: in the queue all the same.
    let entry = entry.or_else(|| {
        let hidden = flag(pull, "isInMergeQueue") == Some(true);
        hidden.then(|| QueueEntry { state: "unknown".to_owned(), tree: None })
    });
    let total = at(pull, &["mergeQueue", "entries", "totalCount"]).as_u64().unwrap_or(0);
    let others = total.saturating_sub(u64::from(entry.is_some()));
    Some((text(pull, "id"), Queue { merged: flag(pull, "merged") == Some(true), entry, others }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_run_that_succeeded_is_success() {
        for (status, conclusion, state) in [
            ("completed", json!("success"), "success"),
            ("completed", json!("failure"), "failure"),
            ("completed", json!("timed_out"), "failure"),
            ("completed", json!("neutral"), "neutral"),
            ("completed", json!("skipped"), "skipped"),
            ("completed", json!("cancelled"), "unknown"),
            ("completed", json!("action_required"), "unknown"),
            ("completed", json!("stale"), "unknown"),
            ("completed", json!("startup_failure"), "unknown"),
            ("completed", Value::Null, "unknown"),
            // A conclusion before the end does not count.
            ("in_progress", json!("success"), "pending"),
            ("queued", Value::Null, "pending"),
            ("waiting", Value::Null, "pending"),
        ] {
            let run = check(&json!({"id": 1, "name": "t", "status": status, "conclusion": conclusion})).unwrap();
            assert_eq!(run.state.as_str(), state, "{status} {conclusion}");
        }
        assert!(check(&json!({"name": "t"})).is_err());
    }

    #[test]
    fn rules_of_all_levels_add_up_and_unknown_ones_keep_their_name() {
        let rows = [
            json!({"type": "required_status_checks", "parameters": {"strict_required_status_checks_policy": true,
                "required_status_checks": [{"context": "a"}, {"context": "b", "integration_id": 7}]}}),
            json!({"type": "pull_request", "parameters": {"required_approving_review_count": 2,
                "require_code_owner_review": true, "allowed_merge_methods": ["squash"]}}),
            json!({"type": "pull_request", "parameters": {"required_approving_review_count": 1}}),
            json!({"type": "from_the_future"}),
            json!(null),
        ];
        let found = rules(&rows);
        assert_eq!(found.checks, [("a".to_owned(), None), ("b".to_owned(), Some(7))]);
        assert!(found.strict && found.code_owners && !found.queue && found.approvals == 2);
        assert_eq!(found.methods, ["squash"]);
        assert_eq!(found.types, ["required_status_checks", "pull_request", "from_the_future"]);
    }

    #[test]
    fn a_look_counts_the_others_and_takes_a_hidden_entry_for_one() {
        let look = |pull: Value| place_of(&json!({"repository": {"pullRequest": pull}}));
        let total = |n: u64| json!({"entries": {"totalCount": n}});
        let (id, queue) = look(json!({"id": "P", "merged": false, "mergeQueue": total(3)})).unwrap();
        assert_eq!((id.as_str(), queue.others, queue.entry), ("P", 3, None));
        let entry = json!({"state": "QUEUED", "headCommit": {"tree": {"oid": "abc"}}});
        let (_, queue) = look(json!({"id": "P", "mergeQueue": total(3), "mergeQueueEntry": entry})).unwrap();
        assert_eq!((queue.others, queue.entry.unwrap().tree.as_deref()), (2, Some("abc")));
        let (_, queue) = look(json!({"id": "P", "isInMergeQueue": true, "mergeQueueEntry": null})).unwrap();
        assert_eq!((queue.others, queue.entry.unwrap().tree), (0, None));
        for none in [json!(null), json!({}), json!({"repository": null}), json!({"repository": {"pullRequest": null}})]
        {
            assert_eq!(place_of(&none), None, "{none}");
        }
    }
}
