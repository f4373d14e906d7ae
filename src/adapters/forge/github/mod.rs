//! GitHub over its REST API (services-github §4): requests (`client`), CI of one head (`checks`), the merge (`merge`)
//! and parsing (`wire`). Its only state is what one process needs twice; the caller keeps throttle times.

mod checks;
mod client;
mod deployments;
mod merge;
mod queue;
mod rights;
mod wire;

use super::address::{At, named, of};
use super::{Address, ForgeError, Manner, MergeVia};
use crate::adapters::git::{Credential, MergeMethod};
use crate::adapters::github::{Api, first_id, id_key};
use crate::adapters::http::segment;
use crate::model::rules::Rules;
use crate::model::secret::SecretRef;
use crate::model::sides::{GithubForge, GithubLogin, GithubRepo, Opening};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The API of github.com.
const API: &str = "https://api.github.com";
/// A merge may rewrite and check many commits before it answers.
const MERGE_TIMEOUT: Duration = Duration::from_secs(300);

/// Which repository, and how things land there.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    pub owner: &'a str,
    pub name: &'a str,
    /// The repository's id at first contact: another id under the same name is another repository. `None`: not known
    /// yet.
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
    /// The name under which the id is kept; empty: it is not kept.
    kept_as: String,
    base: Option<String>,
    method: MergeMethod,
    via: MergeVia,
    draft: bool,
    reviewers: Vec<String>,
    team_reviewers: Vec<String>,
    merge_timeout: Duration,
    /// The rules of the base, read once.
    rules: Arc<OnceLock<Rules>>,
}

impl Github {
    /// Makes no request. Fails with `Invalid` for an empty owner or name.
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
            kept_as: String::new(),
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

    /// Another time limit for one merge than 300 s, for tests: a client that leaves early can orphan a merge.
    pub fn with_merge_timeout(mut self, bound: Duration) -> Self {
        self.merge_timeout = bound;
        self
    }
}

/// Where the API of a GitHub repository is, by the host's name: an Enterprise Server has it below its pages, data
/// residency next to them.
pub(super) fn at(at: &At) -> Option<Address> {
    let host = &at.host;
    let api_base = if host == "github.com" {
        API.to_owned()
    } else if host.ends_with(".ghe.com") {
        format!("https://api.{host}")
    } else if of(host, "github.com") || of(host, "ghe.com") || named(host, "github") {
        format!("{}/api/v3", at.web)
    } else {
        return None;
    };
    let login = GithubLogin::Token(SecretRef::Env("GITHUB_TOKEN".to_owned()));
    Some(Address::Github(GithubForge {
        repo: GithubRepo { api_base, owner: at.owner.clone(), name: at.name.clone(), login },
        draft: false,
        reviewers: Vec::new(),
        team_reviewers: Vec::new(),
        post_statuses: false,
    }))
}

pub(super) fn proposal(at: &GithubForge, quoted: &dyn Fn(&str) -> String) -> String {
    let GithubRepo { api_base, owner, name, login } = &at.repo;
    let base = if api_base == API { String::new() } else { format!("api_base: {}, ", quoted(api_base)) };
    let at = format!("kind: github, {base}owner: {}, name: {}", quoted(owner), quoted(name));
    format!(
        "    forge: {{{at}, token: {login}}}     # docs/connecting-github.md
    # Better: an App instead of a token; it can read checks of private repositories and does not act as a person.
    # forge: {{{at}, app: {{id: 1, installation: 2, key: {{file: ~/orch-app.pem}}}}}}
    # Issues as work items, in the place of the board above; `orch init` then makes the labels.
    # board: {{{at}, token: {login}}}"
    )
}

/// At first contact it reads the repository's id.
pub(super) fn open(at: &GithubForge, with: &Opening<'_>, manner: &Manner<'_>) -> Result<Github, ForgeError> {
    let place = Place {
        owner: &at.repo.owner,
        name: &at.repo.name,
        id: first_id(with),
        base: manner.base,
        method: manner.method,
        via: manner.via,
        draft: at.draft,
        reviewers: &at.reviewers,
        team_reviewers: &at.team_reviewers,
    };
    let mut forge = Github::new(&place, Api::open(&at.repo, with).map_err(wire::error)?)?;
    forge.kept_as = id_key(with.key);
    if forge.id.is_none() && with.contact {
        forge.id = Some(forge.id()?);
    }
    Ok(forge)
}

/// The credential for git over HTTPS, with the currently valid token.
pub(super) fn git_credential(at: &GithubForge, with: &Opening<'_>) -> Result<Credential, ForgeError> {
    Api::open(&at.repo, with).and_then(|api| api.git_credential()).map_err(wire::error)
}

/// Parses the bytes as every kind of answer of the forge (see `fuzzing`).
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    let rows = value.as_array().cloned().unwrap_or_default();
    drop((wire::rules(&rows), wire::place_of(&value)));
    for v in rows.iter().chain([&value]) {
        drop((wire::pull(v), wire::status(v), wire::check(v)));
    }
}
