//! Issues of one GitHub repository as a board (GH-2, services-github §5): a status is a label, an intent is known by
//! its event, and the group is the issue's state. Requests are in `client`, parsing in `wire`.

mod client;
mod create;
mod project;
mod wire;

pub use client::Probe;

use super::BoardError;
use crate::adapters::github::{Api, first_id, git_host};
use crate::adapters::http::segment;
use crate::model::board::{Group, Logical, fold};
use crate::model::sides::{GithubBoard, Opening, ShownProject};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

/// Which repository, and how it writes statuses and priorities.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    pub owner: &'a str,
    pub name: &'a str,
    /// The key prefix in `orch`.
    pub key: &'a str,
    /// Prefix of a status's name in its label.
    pub prefix: &'a str,
    /// Prefix of a priority's word in its label.
    pub priority: &'a str,
    /// The configured names of statuses; defaults for the rest.
    pub statuses: &'a BTreeMap<Logical, String>,
    /// Where statuses are shown as well.
    pub project: Option<&'a ShownProject>,
    /// What `Issues::seen` gave the last time.
    pub seen: Option<String>,
}

/// How labels are read as statuses and priorities.
#[derive(Debug, Clone)]
pub(super) struct Words {
    prefix: String,
    priority: String,
    /// The folded labels of intents, with what each means.
    intents: BTreeMap<String, Logical>,
    /// The folded labels that represent a closed issue.
    ends: BTreeMap<String, Group>,
}

/// One repository's issues.
#[derive(Debug, Clone)]
pub struct Issues {
    api: Api,
    /// `/repos/<owner>/<name>`, encoded.
    repo: String,
    /// `<owner>/<name>`.
    full_name: String,
    key: String,
    words: Words,
    /// The configured names, for creating labels.
    names: BTreeMap<Logical, String>,
    /// The newest list that fitted one answer: its URL and ETag.
    seen: Arc<Mutex<Option<String>>>,
    /// The repository's id at first contact.
    first: OnceLock<u64>,
    /// Where statuses are shown as well, and what GitHub says of it once it was asked.
    project: Option<ShownProject>,
    shown_in: OnceLock<project::Found>,
}

impl Issues {
    /// Makes no request.
    pub fn new(place: Place<'_>, api: Api) -> Self {
        let names: BTreeMap<Logical, String> = Logical::ALL
            .iter()
            .map(|l| (*l, place.statuses.get(l).map_or(l.default_name(), String::as_str).to_owned()))
            .collect();
        let intents = [Logical::ToAnalyse, Logical::Approved, Logical::ConfirmDeploy, Logical::Stop];
        let label = |l: &Logical| names.get(l).map(|name| (fold(&format!("{}{name}", place.prefix)), *l));
        let ends = [Logical::Done, Logical::Cancelled];
        let ends = ends.iter().filter_map(label).map(|(name, l)| (name, l.group())).collect();
        Self {
            api,
            repo: format!("/repos/{}/{}", segment(place.owner), segment(place.name)),
            full_name: format!("{}/{}", place.owner, place.name),
            key: place.key.to_owned(),
            words: Words {
                prefix: place.prefix.to_owned(),
                priority: place.priority.to_owned(),
                intents: intents.iter().filter_map(label).collect(),
                ends,
            },
            names,
            seen: Arc::new(Mutex::new(place.seen)),
            first: OnceLock::new(),
            project: place.project.cloned(),
            shown_in: OnceLock::new(),
        }
    }
}

/// Makes no request.
pub(super) fn open(at: &GithubBoard, with: &Opening<'_>) -> Result<Issues, BoardError> {
    let place = Place {
        owner: &at.repo.owner,
        name: &at.repo.name,
        key: with.key,
        prefix: &at.labels.prefix,
        priority: &at.labels.priority,
        statuses: &at.statuses,
        project: at.project.as_ref(),
        seen: with.seen.map(str::to_owned),
    };
    let mut issues = Issues::new(place, Api::open(&at.repo, with).map_err(error)?);
    if let Some(id) = first_id(with) {
        issues.first = OnceLock::from(id);
    }
    Ok(issues)
}

/// The page of an issue.
pub(super) fn page_of(at: &GithubBoard, number: &str) -> Option<String> {
    let scheme = at.repo.api_base.split_once("://")?.0;
    let host = git_host(&at.repo.api_base)?;
    Some(format!("{scheme}://{host}/{}/{}/issues/{number}", at.repo.owner, at.repo.name))
}

/// Turns a failed exchange into the error that the board's callers expect.
fn error(e: crate::adapters::github::Failure) -> BoardError {
    let lacks = e.lacks.map(|l| format!(" (it takes {l})")).unwrap_or_default();
    let failed = BoardError::from(*e.http);
    if let BoardError::Auth(text) = &failed { BoardError::Auth(format!("{text}{lacks}")) } else { failed }
}

/// Parses the bytes as every kind of answer of the board (see `fuzzing`).
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    let words = Words {
        prefix: "orch: ".into(),
        priority: "priority: ".into(),
        intents: BTreeMap::new(),
        ends: BTreeMap::new(),
    };
    let rows = value.as_array().cloned().unwrap_or_default();
    drop((wire::labelled(&rows, "x"), wire::statuses(&rows, &words, &BTreeMap::new())));
    for v in rows.iter().chain([&value]) {
        drop(wire::Issue::read(v).map(|issue| issue.item("A", &words)));
    }
}
