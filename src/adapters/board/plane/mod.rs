//! Plane's REST API v1 (services.md §1): requests in `client`, parsing in `wire`.

mod client;
pub mod wire;

pub use client::{ItemPath, Plane, Probe, Project, find_project};

use super::BoardError;
use crate::adapters::http::{Auth, Client, Limits, Token};
use crate::model::sides::{Opening, PlaneBoard};
use std::collections::BTreeMap;

/// The project is searched for by id or identifier once; then both are known.
pub(super) fn open(at: &PlaneBoard, with: &Opening<'_>) -> Result<Plane, BoardError> {
    let token = Token::new(with.secret.unwrap_or_default().trim());
    let auth = Auth::Header { name: "x-api-key", scheme: "", value: token };
    let http = Client::new(&at.url, auth, Limits::within(with.patience))?;
    let [project, path] = keeps(at, with.key);
    let (id, identifier) = match ids(with.known, &project) {
        Some(known) => known,
        None => {
            let found = find_project(&http, &at.workspace, &at.project)?;
            (found.id, found.identifier)
        }
    };
    let items = match with.known.get(&path).map(String::as_str) {
        Some("issues") => ItemPath::Issues,
        Some(_) | None => ItemPath::WorkItems,
    };
    let row = (project, serde_json::to_string(&(&id, &identifier)).unwrap_or_default());
    Ok(Plane::new(http, &at.workspace, &id, &identifier, with.key, items).keeping(row, path))
}

/// The names of the project's id and identifier, and of the path of work items that the server has (services §1.9).
pub(super) fn keeps(at: &PlaneBoard, key: &str) -> [String; 2] {
    [format!("plane/project/{key}/{}/{}", at.workspace, at.project), format!("plane/path/{key}")]
}

fn ids(known: &BTreeMap<String, String>, name: &str) -> Option<(String, String)> {
    serde_json::from_str(known.get(name)?).ok()
}

/// The URL of a work item, once the project was found.
pub(super) fn page_of(at: &PlaneBoard, key: &str, known: &BTreeMap<String, String>, id: &str) -> Option<String> {
    let [project, _] = &keeps(at, key);
    let (uuid, _) = ids(known, project)?;
    let url = at.url.trim_end_matches('/');
    // The cloud's API and its pages are on two hosts.
    let url = if url == "https://api.plane.so" { "https://app.plane.so" } else { url };
    Some(format!("{url}/{}/projects/{uuid}/issues/{id}", at.workspace))
}
