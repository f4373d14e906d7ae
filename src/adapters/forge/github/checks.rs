//! CI of exactly one head (services-github §4.3): check runs and commit statuses, raw; `decide::gates::ci` rolls them
//! up.

use super::{Github, wire};
use crate::adapters::forge::merge_state::{again, cut};
use crate::adapters::forge::{CommitStatus, ForgeError, StatusState};
use crate::adapters::http::Method;
use crate::model::ids::Sha;
use crate::model::refusal::Refusal;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, ForgeError>;

/// GitHub cuts off or refuses longer ones.
const MAX_DESCRIPTION: usize = 139;
/// GitHub Actions, as an app: a job is one of its check runs.
const ACTIONS: u64 = 15_368;

impl Github {
    /// If the branch's rule pins a name to one app, other apps' answers for that name are left out.
    pub fn statuses(&self, sha: &Sha) -> Result<Vec<CommitStatus>> {
        self.api.spare().map_err(wire::error)?;
        let mut all = match self.check_runs(sha) {
            // A fine-grained token can't get the right to read check runs of a private repository.
            Err(ForgeError::Refused { refusal: Refusal::Denied { .. }, .. }) => self.jobs(sha)?,
            read => read?,
        };
        all.extend(self.posted(sha)?);
        if all.is_empty() {
            return Ok(all);
        }
        let pinned = self.base_rules()?.checks.iter().filter_map(|(name, app)| Some((name, (*app)?)));
        for (name, app) in pinned {
            all.retain(|s| s.context != *name || s.run.is_some_and(|run| run.app == app));
        }
        Ok(all)
    }

    /// The newest of each suite: workflows of several events report several runs of one name.
    fn check_runs(&self, sha: &Sha) -> Result<Vec<CommitStatus>> {
        let path = self.at(&format!("commits/{sha}/check-runs"));
        let rows = self.or_unseen(&path, self.api.all(&path, &[("filter", "latest")], "check_runs"))?;
        // A run of another head says nothing about this one.
        let of_head = |row: &&Value| row.get("head_sha").and_then(Value::as_str).is_none_or(|s| s == sha.as_str());
        rows.iter().filter(of_head).map(|row| wire::check(row).map_err(ForgeError::Invalid)).collect()
    }

    /// The check runs that a token with read access to Actions alone can see.
    fn jobs(&self, sha: &Sha) -> Result<Vec<CommitStatus>> {
        let path = self.at("actions/runs");
        let query = [("head_sha", sha.as_str())];
        let runs = self.or_unseen(&path, self.api.all(&path, &query, "workflow_runs"))?;
        let mut jobs = Vec::new();
        for id in runs.iter().filter_map(|run| run.get("id").and_then(Value::as_u64)) {
            let path = self.at(&format!("actions/runs/{id}/jobs"));
            for row in self.or_unseen(&path, self.api.all(&path, &[("filter", "latest")], "jobs"))? {
                let mut job = wire::check(&row).map_err(ForgeError::Invalid)?;
                if let Some(run) = &mut job.run {
                    run.app = ACTIONS;
                }
                jobs.push(job);
            }
        }
        Ok(jobs)
    }

    /// The newest status of each context. The answer's own `state` is `pending` when there is none, and is not used.
    fn posted(&self, sha: &Sha) -> Result<Vec<CommitStatus>> {
        let path = self.at(&format!("commits/{sha}/status"));
        let rows = self.or_unseen(&path, self.api.all(&path, &[], "statuses"))?;
        // One that can't be read may be the newest of its context.
        rows.iter().map(|row| wire::status(row).map_err(ForgeError::Invalid)).collect()
    }

    pub fn post_status(&self, sha: &Sha, context: &str, state: StatusState, description: &str) -> Result<bool> {
        let word = match state {
            StatusState::Pending | StatusState::Success | StatusState::Error | StatusState::Failure => state.as_str(),
            StatusState::Warning | StatusState::Skipped | StatusState::Neutral | StatusState::Unknown => "",
        };
        if word.is_empty() || context.is_empty() {
            return Err(ForgeError::Invalid(format!("a status {state} of context {context:?} can't be posted")));
        }
        let description = cut(description, MAX_DESCRIPTION);
        let is_posted = |list: Vec<CommitStatus>| {
            let newest = list.into_iter().filter(|s| s.context == context).max_by_key(|s| s.id);
            newest.is_some_and(|s| s.state == state && s.description == description)
        };
        if is_posted(self.posted(sha)?) {
            return Ok(false);
        }
        let body = json!({"state": word, "context": context, "description": description});
        match self.write(Method::Post, &self.at(&format!("statuses/{sha}")), &body) {
            Ok(_) => Ok(true),
            Err(e @ ForgeError::UnknownOutcome(_)) => {
                if is_posted(again(&e, self.posted(sha))?) {
                    Ok(true)
                } else {
                    Err(e)
                }
            }
            Err(e) => Err(e),
        }
    }
}
