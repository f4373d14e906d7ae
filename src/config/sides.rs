//! A project's two sides on the outside: its board and its forge. What the kinds differ in is asked here, so that nobody
//! else names them (BRD-1, SHIP-5).

use super::secret::SecretRef;
use crate::model::board::Logical;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where work items are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Board {
    Local {
        /// Absolute.
        dir: PathBuf,
        statuses: BTreeMap<Logical, String>,
        deciders: Vec<String>,
    },
    Plane {
        url: String,
        workspace: String,
        /// Its id or identifier.
        project: String,
        api_key: SecretRef,
        statuses: BTreeMap<Logical, String>,
        full_scan_every_s: u64,
        deciders: Vec<String>,
    },
    Github(GithubBoard),
}

/// Where pull requests are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Forge {
    Local,
    Gitea {
        url: String,
        owner: String,
        name: String,
        token: SecretRef,
        /// Commit statuses `orch/<gate>` (RULE-42).
        post_statuses: bool,
    },
    Github(GithubForge),
}

/// One repository on GitHub, and who speaks there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GithubRepo {
    /// `https://api.github.com`, or `https://HOST/api/v3`.
    pub api_base: String,
    pub owner: String,
    pub name: String,
    #[serde(flatten)]
    pub login: GithubLogin,
}

/// Who speaks to GitHub.
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
}

/// How statuses and priorities are written as labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BoardLabels {
    /// Stands before a status's name; never empty.
    pub prefix: String,
    /// Stands before a priority's word.
    pub priority: String,
}

/// Whose requests a service counts together: the host, the credential, and what of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account<'a> {
    pub url: &'a str,
    /// Where the credential is from, never what it is.
    pub from: String,
    /// For people.
    pub name: String,
    /// The part of a quota, where the service has several.
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
    /// Its reference, and the key that holds it.
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
    /// The configured status names; a logical key that is not in it has its default name (BRD-2).
    pub fn statuses(&self) -> &BTreeMap<Logical, String> {
        match self {
            Self::Local { statuses, .. } | Self::Plane { statuses, .. } => statuses,
            Self::Github(board) => &board.statuses,
        }
    }

    /// Whose statuses and labels count, by name; empty: whoever [`Board::asks_rights`] lets, or can edit the item (BRD-3).
    pub fn deciders(&self) -> &[String] {
        match self {
            Self::Local { deciders, .. } | Self::Plane { deciders, .. } => deciders,
            Self::Github(board) => &board.deciders,
        }
    }

    /// Whether the board itself is asked who may decide (GH-2).
    pub fn asks_rights(&self) -> bool {
        match self {
            Self::Local { .. } | Self::Plane { .. } => false,
            Self::Github(_) => true,
        }
    }

    /// Whether it is reached over the network.
    pub fn is_remote(&self) -> bool {
        self.account().is_some()
    }

    /// Whose requests are counted together; `None`: no server.
    pub fn account(&self) -> Option<Account<'_>> {
        match self {
            Self::Local { .. } => None,
            Self::Plane { url, api_key, .. } => Some(account(url, api_key)),
            Self::Github(board) => Some(board.repo.account()),
        }
    }

    /// The page that says how it is connected.
    pub fn page(&self) -> &'static str {
        match self {
            Self::Local { .. } | Self::Plane { .. } => "docs/connecting-plane.md",
            Self::Github(_) => "docs/connecting-github.md",
        }
    }

    /// Seconds between two full passes; 0: each pass is one.
    pub fn full_scan_every_s(&self) -> u64 {
        match self {
            Self::Local { .. } => 0,
            Self::Plane { full_scan_every_s, .. } => *full_scan_every_s,
            Self::Github(board) => board.full_scan_every_s,
        }
    }

    /// Its credential, with the key below `board` that holds it.
    pub fn secret(&self) -> Option<(&'static str, &SecretRef)> {
        match self {
            Self::Local { .. } => None,
            Self::Plane { api_key, .. } => Some(("api_key", api_key)),
            Self::Github(board) => Some(board.repo.login.secret()),
        }
    }
}

impl Forge {
    /// Whether pull requests live on a server, and CI is what is posted there.
    pub fn is_remote(&self) -> bool {
        self.account().is_some()
    }

    /// Whose requests are counted together; `None`: no server.
    pub fn account(&self) -> Option<Account<'_>> {
        match self {
            Self::Local => None,
            Self::Gitea { url, token, .. } => Some(account(url, token)),
            Self::Github(forge) => Some(forge.repo.account()),
        }
    }

    /// The page that says how it is connected.
    pub fn page(&self) -> &'static str {
        match self {
            Self::Local | Self::Gitea { .. } => "docs/connecting-gitea.md",
            Self::Github(_) => "docs/connecting-github.md",
        }
    }

    /// Its credential, with the key below `forge` that holds it.
    pub fn secret(&self) -> Option<(&'static str, &SecretRef)> {
        match self {
            Self::Local => None,
            Self::Gitea { token, .. } => Some(("token", token)),
            Self::Github(forge) => Some(forge.repo.login.secret()),
        }
    }

    /// Whether gates post commit statuses (RULE-42).
    pub fn posts_statuses(&self) -> bool {
        match self {
            Self::Local => false,
            Self::Gitea { post_statuses, .. } => *post_statuses,
            Self::Github(forge) => forge.post_statuses,
        }
    }
}
