//! A project's two external sides, as configured: its board and its forge. How the kinds differ is asked here before
//! one is opened, and of `adapters::board` and `adapters::forge` afterwards, so that nobody else names a kind (BRD-1,
//! SHIP-5).

use super::board::Logical;
use super::ids::Key;
use super::reading::{self, kinds, schema_of};
use super::secret::SecretRef;
use super::stage::words;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

words! {
    /// How a branch catches up with a default branch that moved.
    #[derive(Default)]
    Update {
        #[default]
        Rebase = "rebase",
        Merge = "merge",
    }
}
words! {
    /// How a pull request lands.
    #[derive(Default)]
    Method {
        #[default]
        Merge = "merge",
        Rebase = "rebase",
        Squash = "squash",
    }
}
words! {
    /// Who lands it: the forge, which guards the head but not the base, or a fast-forward push, which is refused if the
    /// base moved (RULE-31).
    #[derive(Default)]
    Via {
        #[default]
        Forge = "forge",
        Push = "push",
    }
}

/// Where work items are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Board {
    Local(LocalBoard),
    Plane(PlaneBoard),
    Github(GithubBoard),
}

kinds! { Board, KIND, "local" => Local(LocalBoard), "plane" => Plane(PlaneBoard), "github" => Github(GithubBoard) }

impl Default for Board {
    fn default() -> Self {
        Self::Local(LocalBoard { dir: LocalBoard::folder(), statuses: BTreeMap::new(), deciders: Vec::new() })
    }
}

/// A folder of Markdown files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalBoard {
    /// The folder, relative to `state_dir`
    #[serde(default = "LocalBoard::folder", deserialize_with = "reading::expanded")]
    pub dir: PathBuf,
    /// Names of the statuses, by logical key; default: the names of `docs/state-machine.md`
    #[serde(default, deserialize_with = "statuses")]
    pub statuses: BTreeMap<Logical, String>,
    /// The file's owners, by name, whose statuses and labels count; default: everybody who can edit the item
    #[serde(default, deserialize_with = "deciders")]
    pub deciders: Vec<String>,
}

impl LocalBoard {
    fn folder() -> PathBuf {
        "issues".into()
    }
}

/// One project of a workspace on a Plane server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaneBoard {
    /// Where Plane is
    #[serde(deserialize_with = "reading::http")]
    pub url: String,
    /// The workspace's slug
    #[serde(deserialize_with = "reading::text")]
    pub workspace: String,
    /// The project's id or identifier
    #[serde(deserialize_with = "reading::text")]
    pub project: String,
    /// The API key, a reference
    pub api_key: SecretRef,
    /// Names of the statuses, by logical key; default: the names of `docs/state-machine.md`
    #[serde(default, deserialize_with = "statuses")]
    pub statuses: BTreeMap<Logical, String>,
    /// Time between two full passes, in seconds
    #[serde(default = "reading::number::<86_400>", deserialize_with = "reading::positive")]
    pub full_scan_every_s: u64,
    /// Ids of the users whose statuses and labels count; default: everybody who can edit the item
    #[serde(default, deserialize_with = "deciders")]
    pub deciders: Vec<String>,
}

/// The names that a board's statuses have: none is blank.
pub(super) fn statuses<'de, D: serde::Deserializer<'de>>(from: D) -> Result<BTreeMap<Logical, String>, D::Error> {
    let names = BTreeMap::<Logical, String>::deserialize(from)?;
    match names.iter().find(|(_, name)| name.trim().is_empty()) {
        Some((key, _)) => Err(serde::de::Error::custom(format!("the name of {key} is missing"))),
        None => Ok(names),
    }
}

/// Users, none of them blank.
pub(super) fn deciders<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let users = Vec::<String>::deserialize(from)?;
    match users.iter().any(|user| user.trim().is_empty()) {
        true => Err(serde::de::Error::custom("a user's name is missing")),
        false => Ok(users),
    }
}

/// Where pull requests are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Forge {
    /// None: a bare repository.
    #[default]
    Local,
    Gitea(GiteaForge),
    Github(GithubForge),
}

kinds! { Forge, KIND, "local" => Local, "gitea" => Gitea(GiteaForge), "github" => Github(GithubForge) }

/// One repository on a Gitea or Forgejo server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GiteaForge {
    /// Where Gitea is
    #[serde(deserialize_with = "reading::http")]
    pub url: String,
    /// The repository's owner
    #[serde(deserialize_with = "reading::text")]
    pub owner: String,
    /// The repository's name
    #[serde(deserialize_with = "reading::text")]
    pub name: String,
    /// The token, a reference
    pub token: SecretRef,
    /// Post commit statuses `orch/<gate>`
    #[serde(default)]
    pub post_statuses: bool,
}

/// The parameters for opening a board or forge, in addition to its address.
#[derive(Clone, Copy)]
pub struct Opening<'a> {
    /// The project's key.
    pub key: &'a str,
    /// Its credential, where it has one.
    pub secret: Option<&'a str>,
    /// What it asked to store before, by name.
    pub known: &'a BTreeMap<String, String>,
    /// The mark of its newest list.
    pub seen: Option<&'a str>,
    /// Whether it may be asked for what is not known about it yet.
    pub contact: bool,
    /// A private folder that the processes of one credential share.
    pub shared: &'a Path,
    /// The minimum pause between two writes of one credential.
    pub write_gap: Duration,
    /// Requests per hour reserved for intents and stops.
    pub reserve: u64,
    /// The longest that connecting and reading may take; `None`: the default.
    pub patience: Option<Duration>,
}

/// A repository on GitHub, and the credential for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GithubRepo {
    /// `https://api.github.com`, or `https://HOST/api/v3`.
    pub api_base: String,
    pub owner: String,
    pub name: String,
    #[serde(flatten)]
    pub login: GithubLogin,
}

/// Who authenticates to GitHub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GithubLogin {
    Token(SecretRef),
    App {
        /// The App's id or its client id.
        id: String,
        installation: u64,
        /// Its private key, PEM.
        key: SecretRef,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "super::sides_github::ForgeKeys")]
pub struct GithubForge {
    #[serde(flatten)]
    pub repo: GithubRepo,
    /// Pull requests are opened as drafts.
    pub draft: bool,
    pub reviewers: Vec<String>,
    pub team_reviewers: Vec<String>,
    /// Commit statuses `orch/<gate>` (RULE-42).
    pub post_statuses: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "super::sides_github::BoardKeys")]
pub struct GithubBoard {
    #[serde(flatten)]
    pub repo: GithubRepo,
    pub labels: BoardLabels,
    pub statuses: BTreeMap<Logical, String>,
    pub deciders: Vec<String>,
    pub full_scan_every_s: u64,
}

schema_of! { GithubForge = super::sides_github::ForgeKeys, GithubBoard = super::sides_github::BoardKeys }

/// How statuses and priorities are written as labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BoardLabels {
    /// Before a status's name; the whole label has at most 50 characters and no comma
    pub prefix: String,
    /// Before `urgent`, `high`, `medium` or `low`
    pub priority: String,
}

impl Default for BoardLabels {
    fn default() -> Self {
        Self { prefix: "orch: ".into(), priority: "priority: ".into() }
    }
}

/// The unit for which a service counts requests: host, credential and, if there are several quotas, which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account<'a> {
    pub url: &'a str,
    /// Where the credential comes from, never the credential.
    pub from: String,
    /// For people.
    pub name: String,
    /// Which quota, if the service has several.
    pub resource: Option<&'static str>,
}

fn account<'a>(url: &'a str, from: &SecretRef) -> Account<'a> {
    let text = serde_json::to_string(from).unwrap_or_default();
    Account { url, from: text, name: from.to_string(), resource: None }
}

impl GithubRepo {
    fn account(&self) -> Account<'_> {
        let from = serde_json::to_string(&self.login).unwrap_or_default();
        Account { url: &self.api_base, from, name: self.login.to_string(), resource: Some("core") }
    }
}

impl GithubLogin {
    /// Its reference, and the key that contains it.
    fn secret(&self) -> (&'static str, &SecretRef) {
        match self {
            Self::Token(token) => ("token", token),
            Self::App { key, .. } => ("app.key", key),
        }
    }
}

impl fmt::Display for GithubLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(token) => write!(f, "{token}"),
            Self::App { id, installation, .. } => write!(f, "App {id}, installation {installation}"),
        }
    }
}

impl Board {
    /// The configured status names; a logical key that is missing has its default name (BRD-2).
    pub fn statuses(&self) -> &BTreeMap<Logical, String> {
        match self {
            Self::Local(board) => &board.statuses,
            Self::Plane(board) => &board.statuses,
            Self::Github(board) => &board.statuses,
        }
    }

    /// Whose statuses and labels count, by name. Empty: whoever [`Board::asks_rights`] allows, or can edit the item
    /// (BRD-3).
    pub fn deciders(&self) -> &[String] {
        match self {
            Self::Local(board) => &board.deciders,
            Self::Plane(board) => &board.deciders,
            Self::Github(board) => &board.deciders,
        }
    }

    /// Whether the board itself says who may decide, and its statuses are labels that must be created (GH-2).
    pub fn asks_rights(&self) -> bool {
        match self {
            Self::Local(_) | Self::Plane(_) => false,
            Self::Github(_) => true,
        }
    }

    /// Whether it is reached over the network.
    pub fn is_remote(&self) -> bool {
        self.account().is_some()
    }

    /// Its folder on this machine; `None`: it has none.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Local(board) => Some(&board.dir),
            Self::Plane(_) | Self::Github(_) => None,
        }
    }

    /// Makes a relative folder absolute.
    pub(crate) fn settle(&mut self, absolute: impl FnOnce(&Path) -> PathBuf) {
        match self {
            Self::Local(board) => board.dir = absolute(&board.dir),
            Self::Plane(_) | Self::Github(_) => {}
        }
    }

    /// The file in which a person edits a work item; `None`: it has none.
    pub fn file(&self, key: &Key) -> Option<PathBuf> {
        self.folder().map(|dir| dir.join(format!("{key}.md")))
    }

    /// The unit for which requests are counted; `None`: no server.
    pub fn account(&self) -> Option<Account<'_>> {
        match self {
            Self::Local(_) => None,
            Self::Plane(board) => Some(account(&board.url, &board.api_key)),
            Self::Github(board) => Some(board.repo.account()),
        }
    }

    /// The documentation page that says how to connect it.
    pub fn page(&self) -> &'static str {
        match self {
            Self::Local(_) | Self::Plane(_) => "docs/connecting-plane.md",
            Self::Github(_) => "docs/connecting-github.md",
        }
    }

    /// Seconds between two full scans; 0: every scan is a full one.
    pub fn full_scan_every_s(&self) -> u64 {
        match self {
            Self::Local(_) => 0,
            Self::Plane(board) => board.full_scan_every_s,
            Self::Github(board) => board.full_scan_every_s,
        }
    }

    /// Its credential, and the key below `board` that contains it.
    pub fn secret(&self) -> Option<(&'static str, &SecretRef)> {
        match self {
            Self::Local(_) => None,
            Self::Plane(board) => Some(("api_key", &board.api_key)),
            Self::Github(board) => Some(board.repo.login.secret()),
        }
    }
}

impl Forge {
    /// Whether pull requests are on a server, so that CI means the statuses posted there.
    pub fn is_remote(&self) -> bool {
        self.account().is_some()
    }

    /// The unit for which requests are counted; `None`: no server.
    pub fn account(&self) -> Option<Account<'_>> {
        match self {
            Self::Local => None,
            Self::Gitea(forge) => Some(account(&forge.url, &forge.token)),
            Self::Github(forge) => Some(forge.repo.account()),
        }
    }

    /// The documentation page that says how to connect it.
    pub fn page(&self) -> &'static str {
        match self {
            Self::Local | Self::Gitea(_) => "docs/connecting-gitea.md",
            Self::Github(_) => "docs/connecting-github.md",
        }
    }

    /// Its credential, and the key below `forge` that contains it.
    pub fn secret(&self) -> Option<(&'static str, &SecretRef)> {
        match self {
            Self::Local => None,
            Self::Gitea(forge) => Some(("token", &forge.token)),
            Self::Github(forge) => Some(forge.repo.login.secret()),
        }
    }

    /// Whether gates post commit statuses (RULE-42).
    pub fn posts_statuses(&self) -> bool {
        match self {
            Self::Local => false,
            Self::Gitea(forge) => forge.post_statuses,
            Self::Github(forge) => forge.post_statuses,
        }
    }
}
