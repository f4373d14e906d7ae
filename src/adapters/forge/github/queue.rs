//! The merge queue of the branch that everything lands on (services-github §4.4), by GraphQL: REST does not know it.

use super::{Github, wire};
use crate::adapters::forge::{ForgeError, MergeVia};
use crate::adapters::github::{flag, text};
use crate::model::ids::Sha;
use crate::model::landing::Awaited;
use crate::model::rules::{Queue, QueueEntry};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, ForgeError>;

const LOOK: &str = "query($owner: String!, $name: String!, $number: Int!) { repository(owner: $owner, name: $name) { \
    pullRequest(number: $number) { id merged isInMergeQueue mergeQueue { entries(first: 1) { totalCount } } \
    mergeQueueEntry { state headCommit { tree { oid } } } } } }";
const ENTER: &str = "mutation($id: ID!, $head: GitObjectID!) { enqueuePullRequest(input: {pullRequestId: $id, \
    expectedHeadOid: $head}) { mergeQueueEntry { id } } }";
const LEAVE: &str = "mutation($id: ID!) { dequeuePullRequest(input: {id: $id}) { mergeQueueEntry { id } } }";
const READY: &str =
    "mutation($id: ID!) { markPullRequestReadyForReview(input: {pullRequestId: $id}) { pullRequest { isDraft } } }";

impl Github {
    /// See `Forge::queue`.
    pub fn queue(&self, number: i64) -> Result<Option<Queue>> {
        if self.via == MergeVia::Push || !self.base_rules()?.queue {
            return Ok(None);
        }
        Ok(Some(self.place(number)?.1))
    }

    /// The pull request's id for GraphQL, and its place in the queue.
    fn place(&self, number: i64) -> Result<(String, Queue)> {
        let (owner, name) = self.full_name.split_once('/').unwrap_or_default();
        let with = json!({"owner": owner, "name": name, "number": number});
        let data = self.api.graphql(LOOK, &with).map_err(wire::error)?;
        place_of(&data).ok_or_else(|| ForgeError::NotFound(format!("pull request {number}, for its merge queue")))
    }

    /// See `Forge::enter_queue`.
    pub fn enter_queue(&self, number: i64, head: &Sha) -> Result<Option<(Awaited, String)>> {
        self.mark_ready(number)?;
        let (id, _) = self.place(number)?;
        match self.api.graphql(ENTER, &json!({"id": id, "head": head.as_str()})).map_err(wire::error) {
            Ok(_) => Ok(None),
            // The rules say what is missing; the words are for people.
            Err(ForgeError::Invalid(said)) => {
                let rules = self.base_rules()?;
                let what = self.unmet(rules, head)?.unwrap_or(Awaited::Rule);
                Ok(Some((what, format!("{said} (rules: {})", rules.types.join(", ")))))
            }
            Err(e) => Err(e),
        }
    }

    /// See `Forge::leave_queue`. What counts is what a look shows afterwards, whatever was answered.
    pub fn leave_queue(&self, number: i64) -> Result<bool> {
        let (id, before) = self.place(number)?;
        if before.entry.is_none() {
            return Ok(!before.merged);
        }
        let left = self.api.graphql(LEAVE, &json!({"id": id})).map_err(wire::error);
        let (_, after) = self.place(number)?;
        match (after.entry, left) {
            (None, _) => Ok(!after.merged),
            (Some(_), Err(e)) => Err(e),
            (Some(entry), Ok(_)) => {
                let why = format!("pull request {number} is still in the merge queue ({})", entry.state);
                Err(ForgeError::Transient(why))
            }
        }
    }

    /// Marks a pull request that orch opened as a draft as ready; REST can't.
    pub fn mark_ready(&self, number: i64) -> Result<()> {
        if !self.draft {
            return Ok(());
        }
        let Some(pull) = self.whole(number)?.filter(|p| p.draft) else { return Ok(()) };
        self.api.graphql(READY, &json!({"id": pull.node})).map(drop).map_err(wire::error)
    }
}

/// Parses a look at the queue; `None`: there is no such pull request.
pub(super) fn place_of(data: &Value) -> Option<(String, Queue)> {
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
