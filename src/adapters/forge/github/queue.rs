//! The merge queue of the branch that everything lands on (services-github §4.4), by GraphQL: REST does not know it.

use super::{Github, wire};
use crate::adapters::forge::{ForgeError, MergeVia};
use crate::model::ids::Sha;
use crate::model::landing::Awaited;
use crate::model::rules::Queue;
use serde_json::json;

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
        wire::place_of(&data).ok_or_else(|| ForgeError::NotFound(format!("pull request {number}, for its merge queue")))
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
