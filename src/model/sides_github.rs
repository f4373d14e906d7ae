//! The keys of a GitHub board and forge as they stand in the file (GH-1, GH-2).

use super::board::Logical;
use super::reading;
use super::secret::SecretRef;
use super::sides::{BoardLabels, GithubBoard, GithubForge, GithubLogin, GithubRepo, deciders, statuses};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

const API: &str = "https://api.github.com";
/// Longest name of a label.
const LONGEST: usize = 50;

fn api() -> String {
    API.to_owned()
}

/// The API's address, without a slash at its end; blank: that of github.com.
fn api_base<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let written = String::deserialize(from)?;
    if written.trim().is_empty() {
        return Ok(api());
    }
    let base = reading::http(serde::de::value::StringDeserializer::<D::Error>::new(written))?;
    let base = base.trim_end_matches('/');
    if ["https://github.com", "https://www.github.com"].contains(&base) {
        return Err(serde::de::Error::custom(format!(
            "is {base}, expected the API's address\nleave it out ({API}), or name https://HOST/api/v3 of an Enterprise Server"
        )));
    }
    Ok(base.to_owned())
}

/// A GitHub App.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct App {
    /// The App's id or client id
    #[serde(deserialize_with = "reading::loose")]
    #[schemars(schema_with = "reading::loose_schema")]
    id: String,
    /// The installation's id
    installation: u64,
    /// The private key, PEM, a reference
    key: SecretRef,
}

/// A GitHub forge.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ForgeKeys {
    /// The API's address, on Enterprise Server `https://HOST/api/v3`
    #[serde(default = "api", deserialize_with = "api_base")]
    api_base: String,
    /// The repository's owner
    #[serde(deserialize_with = "reading::text")]
    owner: String,
    /// The repository's name
    #[serde(deserialize_with = "reading::text")]
    name: String,
    /// The token, a reference; or `app`
    token: Option<SecretRef>,
    /// The App that speaks, in the place of a token
    app: Option<App>,
    /// Open pull requests as drafts, marked ready before the merge
    #[serde(default)]
    draft: bool,
    /// Who is asked to review
    #[serde(default)]
    reviewers: Vec<String>,
    /// The teams asked to review
    #[serde(default)]
    team_reviewers: Vec<String>,
    /// Post commit statuses `orch/<gate>`
    #[serde(default)]
    post_statuses: bool,
}

/// A GitHub board.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BoardKeys {
    /// The API's address, on Enterprise Server `https://HOST/api/v3`
    #[serde(default = "api", deserialize_with = "api_base")]
    api_base: String,
    /// The repository's owner
    #[serde(deserialize_with = "reading::text")]
    owner: String,
    /// The repository's name
    #[serde(deserialize_with = "reading::text")]
    name: String,
    /// The token, a reference; or `app`
    token: Option<SecretRef>,
    /// The App that speaks, in the place of a token
    app: Option<App>,
    /// The prefixes of label names
    #[serde(default)]
    labels: BoardLabels,
    /// Names of the statuses, by logical key; default: the names of `docs/state-machine.md`
    #[serde(default, deserialize_with = "statuses")]
    statuses: BTreeMap<Logical, String>,
    /// Logins whose statuses and labels count in addition to those who may write to the repository, also of bots and Apps; default: everybody who may write to the repository
    #[serde(default, deserialize_with = "deciders")]
    deciders: Vec<String>,
    /// Time between two full passes, in seconds
    #[serde(default = "reading::number::<86_400>", deserialize_with = "reading::positive")]
    full_scan_every_s: u64,
}

fn login(token: Option<SecretRef>, app: Option<App>) -> Result<GithubLogin, String> {
    match (token, app) {
        (Some(token), None) => Ok(GithubLogin::Token(token)),
        (None, Some(App { id, installation, key })) => {
            let id = id.trim().to_owned();
            match id.is_empty() {
                true => Err(".app.id is missing, expected the App's id or client id".to_owned()),
                false => Ok(GithubLogin::App { id, installation, key }),
            }
        }
        (None, None) => Err(".token is missing, expected {env: NAME} or {file: PATH}, or app".to_owned()),
        (Some(_), Some(_)) => {
            Err("has both token and app, expected one of them\nkeep app: its checks can be read, and it is no person"
                .to_owned())
        }
    }
}

impl TryFrom<ForgeKeys> for GithubForge {
    type Error = String;

    fn try_from(keys: ForgeKeys) -> Result<Self, String> {
        let ForgeKeys { api_base, owner, name, token, app, draft, reviewers, team_reviewers, post_statuses } = keys;
        let repo = GithubRepo { api_base, owner, name, login: login(token, app)? };
        Ok(Self { repo, draft, reviewers, team_reviewers, post_statuses })
    }
}

impl TryFrom<BoardKeys> for GithubBoard {
    type Error = String;

    fn try_from(keys: BoardKeys) -> Result<Self, String> {
        let BoardKeys { api_base, owner, name, token, app, labels, statuses, deciders, full_scan_every_s } = keys;
        let repo = GithubRepo { api_base, owner, name, login: login(token, app)? };
        can_be(&labels, &statuses)?;
        Ok(Self { repo, labels, statuses, deciders, full_scan_every_s })
    }
}

/// The prefixes, checked together with every status: the whole label is not empty, at most 50 characters, without
/// comma.
fn can_be(labels: &BoardLabels, statuses: &BTreeMap<Logical, String>) -> Result<(), String> {
    for (key, prefix) in [("prefix", &labels.prefix), ("priority", &labels.priority)] {
        if prefix.trim().is_empty() {
            return Err(format!(
                ".labels.{key} is missing, expected a text that distinguishes these labels from others"
            ));
        }
        if prefix.contains(',') || prefix.chars().any(char::is_control) {
            return Err(format!(".labels.{key} is {prefix:?}, expected a text without a comma"));
        }
    }
    for logical in Logical::ALL {
        let name = statuses.get(logical).map_or(logical.default_name(), String::as_str);
        let whole = format!("{}{name}", labels.prefix);
        if whole.chars().count() > LONGEST || whole.contains(',') {
            return Err(format!(
                ".statuses.{logical} makes the label {whole:?}, expected at most {LONGEST} characters and no comma\nchoose a shorter name or labels.prefix"
            ));
        }
    }
    Ok(())
}
