//! A project's two external sides, as configured: its board and its forge. How the kinds differ is asked here before
//! one is opened, and of `adapters::board` and `adapters::forge` afterwards, so that nobody else names a kind (BRD-1,
//! SHIP-5).

use super::board::Logical;
use super::ids::Key;
use super::secret::SecretRef;
use super::stage::words;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

words! {
    /// The kind of a board.
    BoardKind { Local = "local", Plane = "plane", Github = "github" }
}
words! {
    /// The kind of a forge.
    ForgeKind { Local = "local", Gitea = "gitea", Github = "github" }
}
words! {
    /// Whose comments on a work item agents read (GH-2).
    CommentsFrom { Write = "write", Nobody = "none" }
}
words! {
    /// How a branch catches up with a default branch that moved.
    Update { Rebase = "rebase", Merge = "merge" }
}
words! {
    /// How a pull request lands.
    Method { Merge = "merge", Rebase = "rebase", Squash = "squash" }
}
words! {
    /// Who lands it: the forge, which guards the head but not the base, or a fast-forward push, which is refused if the
    /// base moved (RULE-31).
    Via { Forge = "forge", Push = "push" }
}

/// Where work items are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Board {
    Local(LocalBoard),
    Plane(PlaneBoard),
    Github(GithubBoard),
}

/// A folder of Markdown files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LocalBoard {
    /// Absolute.
    pub dir: PathBuf,
    pub statuses: BTreeMap<Logical, String>,
    pub deciders: Vec<String>,
}

/// One project of a workspace on a Plane server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlaneBoard {
    pub url: String,
    pub workspace: String,
    /// Its id or identifier.
    pub project: String,
    pub api_key: SecretRef,
    pub statuses: BTreeMap<Logical, String>,
    pub full_scan_every_s: u64,
    pub deciders: Vec<String>,
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

/// One repository on a Gitea or Forgejo server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GiteaForge {
    pub url: String,
    pub owner: String,
    pub name: String,
    pub token: SecretRef,
    /// Commit statuses `orch/<gate>` (RULE-42).
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

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GithubBoard {
    #[serde(flatten)]
    pub repo: GithubRepo,
    pub labels: BoardLabels,
    pub statuses: BTreeMap<Logical, String>,
    pub deciders: Vec<String>,
    pub full_scan_every_s: u64,
    pub comments: CommentsFrom,
    /// Where statuses are shown as well; `None`: nowhere.
    pub project: Option<ShownProject>,
}

/// A project (Projects v2) that shows statuses and steers nothing (GH-2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownProject {
    /// The organisation or user that it belongs to.
    pub owner: String,
    pub number: u64,
    /// The single-select field whose options have the names of statuses.
    pub field: String,
}

/// How statuses and priorities are written as labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BoardLabels {
    /// Prefix of a status's name; never empty.
    pub prefix: String,
    /// The prefix of a priority's word.
    pub priority: String,
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

    /// Whose comments agents read; a board that can't say who may write has nobody's.
    pub fn comments(&self) -> CommentsFrom {
        match self {
            Self::Local(_) | Self::Plane(_) => CommentsFrom::Nobody,
            Self::Github(board) => board.comments,
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

    /// Whether it keeps deployments (GH-1).
    pub fn keeps_deployments(&self) -> bool {
        match self {
            Self::Local | Self::Gitea(_) => false,
            Self::Github(_) => true,
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
