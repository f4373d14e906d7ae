//! GitHub over its REST API (services-github §4): requests (`client`), CI of one head (`checks`), the merge (`merge`) and how
//! answers read (`wire`). No state of its own but what one process needs twice; throttle times are the caller's to keep.

mod checks;
mod client;
mod merge;
mod wire;

pub use client::Notes;

use super::{ForgeError, MergeVia};
use crate::adapters::git::MergeMethod;
use crate::adapters::github::Api;
use crate::adapters::http::segment;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A merge may rewrite and check many commits before it answers.
const MERGE_TIMEOUT: Duration = Duration::from_secs(300);

/// Which repository, and how things land there.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    pub owner: &'a str,
    pub name: &'a str,
    /// The repository's id at first contact: another one under the same name is another repository. `None`: not known yet.
    pub id: Option<u64>,
    /// The branch that everything lands on; `None`: the repository's default branch.
    pub base: Option<&'a str>,
    pub method: MergeMethod,
    pub via: MergeVia,
    /// Pull requests are opened as drafts, and marked ready before they are merged.
    pub draft: bool,
    pub reviewers: &'a [String],
    pub team_reviewers: &'a [String],
}

/// One repository.
#[derive(Debug, Clone)]
pub struct Github {
    api: Api,
    owner: String,
    /// `/repos/<owner>/<name>`, encoded.
    repo: String,
    /// `<owner>/<name>`.
    full_name: String,
    id: Option<u64>,
    base: Option<String>,
    method: MergeMethod,
    via: MergeVia,
    draft: bool,
    reviewers: Vec<String>,
    team_reviewers: Vec<String>,
    merge_timeout: Duration,
    /// The rules of the base, asked once.
    rules: Arc<OnceLock<wire::Rules>>,
}

impl Github {
    /// Nothing is asked yet. Fails with `Invalid` for an empty owner or name.
    pub fn new(place: &Place<'_>, api: Api) -> Result<Self, ForgeError> {
        for (what, text) in [("owner", place.owner), ("name", place.name)] {
            if text.is_empty() || text.contains('/') || text.chars().any(char::is_control) {
                return Err(ForgeError::Invalid(format!(
                    "forge.{what} is {text:?}; expected one part of the repository's owner/name"
                )));
            }
        }
        Ok(Self {
            api,
            owner: place.owner.to_owned(),
            repo: format!("/repos/{}/{}", segment(place.owner), segment(place.name)),
            full_name: format!("{}/{}", place.owner, place.name),
            id: place.id,
            base: place.base.map(str::to_owned),
            method: place.method,
            via: place.via,
            draft: place.draft,
            reviewers: place.reviewers.to_vec(),
            team_reviewers: place.team_reviewers.to_vec(),
            merge_timeout: MERGE_TIMEOUT,
            rules: Arc::default(),
        })
    }

    /// Another bound for one merge than 300 s, for tests: a client that leaves early can orphan a merge.
    pub fn with_merge_timeout(mut self, bound: Duration) -> Self {
        self.merge_timeout = bound;
        self
    }
}

/// Reads the bytes as every answer of the forge (see `fuzzing`).
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    let rows = value.as_array().cloned().unwrap_or_default();
    drop(wire::rules(&rows));
    for v in rows.iter().chain([&value]) {
        drop((wire::pull(v), wire::status(v), wire::check(v)));
    }
}
