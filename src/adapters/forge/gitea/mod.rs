//! Gitea and Forgejo over their common REST API (services §2): requests (`client`), the merge (`merge`), and parsing
//! (`wire`). No state of its own; the caller keeps throttle times.

mod client;
mod merge;
mod wire;

use super::address::{At, named, of};
use super::{Address, ForgeError, Manner, MergeVia};
use crate::adapters::git::MergeMethod;
use crate::adapters::http::{Auth, Client, Limits, Token, segment};
use crate::model::secret::SecretRef;
use crate::model::sides::{GiteaForge, Opening};
use std::time::Duration;

/// A merge may rewrite and check many commits before it answers (services §0.2).
const MERGE_TIMEOUT: Duration = Duration::from_secs(300);

/// Which repository on which server, and how things land there.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The server's address without `/api/v1`; may include a path prefix.
    pub url: &'a str,
    pub owner: &'a str,
    pub name: &'a str,
    pub method: MergeMethod,
    pub via: MergeVia,
}

/// One repository on a server.
#[derive(Debug, Clone)]
pub struct Gitea {
    http: Client,
    /// `/api/v1/repos/<owner>/<name>`, encoded.
    repo: String,
    /// `<owner>/<name>`.
    full_name: String,
    method: MergeMethod,
    via: MergeVia,
    merge_timeout: Duration,
}

impl Gitea {
    /// Makes no request. Fails with `Invalid` for an invalid address, or an empty owner or name.
    pub fn new(place: &Place<'_>, token: Token, limits: Limits) -> Result<Self, ForgeError> {
        for (what, text) in [("owner", place.owner), ("name", place.name)] {
            if text.is_empty() || text.contains('/') || text.chars().any(char::is_control) {
                return Err(ForgeError::Invalid(format!(
                    "forge.{what} is {text:?}; expected one part of the repository's owner/name"
                )));
            }
        }
        let auth = Auth::Header { name: "authorization", scheme: "token ", value: token };
        Ok(Self {
            http: Client::new(place.url, auth, limits)?,
            repo: format!("/api/v1/repos/{}/{}", segment(place.owner), segment(place.name)),
            full_name: format!("{}/{}", place.owner, place.name),
            method: place.method,
            via: place.via,
            merge_timeout: MERGE_TIMEOUT,
        })
    }

    /// Another time limit for one merge than 300 s, for tests: a client that leaves early can orphan a merge.
    pub fn with_merge_timeout(mut self, bound: Duration) -> Self {
        self.merge_timeout = bound;
        self
    }
}

/// The Gitea at an address, by the host's name.
pub(super) fn at(at: &At) -> Option<Address> {
    let host = &at.host;
    let is = of(host, "codeberg.org") || ["gitea", "forgejo", "codeberg"].iter().any(|word| named(host, word));
    is.then(|| guess(at))
}

/// The Gitea that may be at an address.
pub(super) fn guess(at: &At) -> Address {
    Address::Gitea(GiteaForge {
        url: at.web.clone(),
        owner: at.owner.clone(),
        name: at.name.clone(),
        token: SecretRef::Env("GITEA_TOKEN".to_owned()),
        post_statuses: false,
    })
}

pub(super) fn proposal(at: &GiteaForge, quoted: &dyn Fn(&str) -> String) -> String {
    format!(
        "    forge: {{kind: gitea, url: {}, owner: {}, name: {}, token: {}}}     # docs/connecting-gitea.md",
        quoted(&at.url),
        quoted(&at.owner),
        quoted(&at.name),
        at.token
    )
}

/// Makes no request.
pub(super) fn open(at: &GiteaForge, with: &Opening<'_>, manner: &Manner<'_>) -> Result<Gitea, ForgeError> {
    let place = Place { url: &at.url, owner: &at.owner, name: &at.name, method: manner.method, via: manner.via };
    Gitea::new(&place, Token::new(with.secret.unwrap_or_default().trim()), Limits::within(with.patience))
}

/// Parses the bytes as every kind of answer of the server (see `fuzzing`).
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    for v in wire::list(value.clone()).unwrap_or_default().iter().chain([&value]) {
        drop((wire::pull(v), wire::status(v), wire::texts(v, "contexts")));
    }
}
