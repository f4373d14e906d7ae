//! What a remote's *no* means to a person: one class and one advice, for git over HTTP and for a forge's API alike
//! (ORD-1). The adapters read it from statuses and from git's output; everybody else only uses the class.

use serde::{Deserialize, Serialize};

/// Why a forge or a git remote refuses a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "class", rename_all = "snake_case")]
pub enum Refusal {
    /// 401: the token or password is wrong, expired or missing.
    BadCredential,
    /// 403: the account is known and may not do this. `scope`: what the token lacks, where the server names it.
    Denied { scope: Option<String> },
    /// 423, or git's 403 with that reason: nothing can be written there.
    Archived,
    /// 301, 302, 307, 308. `to` is empty where only a status came.
    MovedTo { to: String },
    /// 404, 410: no such repository, or none that this account may see.
    Gone,
    /// The repository exists, but what the request names (a branch, a pull request) does not.
    Missing,
    /// Pull requests are switched off in the repository.
    NoPullRequests,
    /// Something else answers instead of the forge: an HTML page of a proxy or a login.
    Foreign,
    /// Any other *no*: 405, 409, 413, 422.
    Other,
}

crate::model::stage::words! {
    /// What the forge or the remote was asked when it said no (ORD-1).
    Asked {
        OpenPull = "open_pull",
        MergeGate = "merge_gate",
        OpenDeploy = "open_deploy",
        Land = "land",
        Statuses = "statuses",
        Push = "push",
        Stop = "stop",
    }
}

impl Asked {
    /// As the end of "the forge refuses …".
    pub fn words(self) -> &'static str {
        match self {
            Self::OpenPull => "to open the pull request",
            Self::MergeGate => "what the merge gate asks",
            Self::OpenDeploy => "what opening the deploy asks",
            Self::Land => "the merge",
            Self::Statuses => "to list the commit's statuses",
            Self::Push => "what a run left",
            Self::Stop => "what a stop asks: to close the pull request and to delete the branch",
        }
    }
}

/// The *no* that holds a task whose work is done (`forge_refused`, ORD-1): that very effect is retried, within a bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedEffect {
    pub asked: Asked,
    /// Status and first line of the last answer, and what a person can do about it.
    pub answer: String,
    /// How often it was refused.
    pub tries: i64,
    /// For how long it has been refused, in milliseconds; time without an answer does not count.
    pub answered_ms: i64,
    /// Wall milliseconds of the last try.
    pub last_at: i64,
    /// The last try had no answer.
    pub silent: bool,
    /// When it is retried, in wall milliseconds.
    pub next_at: i64,
}

/// What refused: it decides which configuration keys an advice names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The forge's API: `forge.*`.
    Forge,
    /// git's transport: `git.*`.
    Git,
}

impl Refusal {
    /// The class of an HTTP status that is a *no*; `None`: a success, an outage, or a request to wait.
    pub fn of_status(status: u16, location: &str) -> Option<Self> {
        Some(match status {
            401 => Self::BadCredential,
            403 => Self::Denied { scope: None },
            404 | 410 => Self::Gone,
            423 => Self::Archived,
            300..=399 => Self::MovedTo { to: location.to_owned() },
            408 | 425 | 429 | 500.. | 0..=299 => return None,
            400..=499 => Self::Other,
        })
    }

    /// What a person can do about it, naming the keys of that side.
    pub fn advice(&self, side: Side) -> String {
        let (credential, address) = match side {
            Side::Forge => ("forge.token", "forge.url, forge.owner and forge.name"),
            Side::Git => ("git.credential", "git.remote"),
        };
        match self {
            Self::BadCredential => format!("create a new token and store it where {credential} points"),
            Self::Denied { scope: Some(scope) } => {
                format!("create a token with the scope {scope} and store it where {credential} points")
            }
            Self::Denied { scope: None } => {
                format!("give the account of {credential} write access to the repository, and its token the scopes")
            }
            Self::Archived => "unarchive the repository on the forge, or stop its tasks".to_owned(),
            Self::MovedTo { to } if to.is_empty() => {
                format!("the repository has moved: correct {address}")
            }
            Self::MovedTo { to } => format!("it moved to {to}: correct {address}"),
            Self::Gone => {
                format!("check that {address} name an existing repository that the account of {credential} may read")
            }
            Self::Missing => {
                "check that the branch and the default branch exist on the forge, and that git.remote and forge.name name the same repository"
                    .to_owned()
            }
            Self::NoPullRequests => "enable pull requests in the repository's settings".to_owned(),
            Self::Foreign => {
                format!("check that {address} lead to the forge itself: a proxy or a login page answered instead")
            }
            Self::Other => "check the forge's message".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_one_class_and_each_class_an_advice_that_names_its_own_keys() {
        let moved = Refusal::MovedTo { to: "/team/renamed".to_owned() };
        for (status, want) in [
            (401, Some(Refusal::BadCredential)),
            (403, Some(Refusal::Denied { scope: None })),
            (404, Some(Refusal::Gone)),
            (410, Some(Refusal::Gone)),
            (423, Some(Refusal::Archived)),
            (301, Some(moved.clone())),
            (302, Some(moved.clone())),
            (307, Some(moved.clone())),
            (308, Some(moved)),
            (405, Some(Refusal::Other)),
            (409, Some(Refusal::Other)),
            (413, Some(Refusal::Other)),
            (422, Some(Refusal::Other)),
            (200, None),
            (201, None),
            (204, None),
            (408, None),
            (425, None),
            (429, None),
            (500, None),
            (502, None),
            (503, None),
        ] {
            assert_eq!(Refusal::of_status(status, "/team/renamed"), want, "{status}");
        }
        for (class, forge, git) in [
            (Refusal::BadCredential, "forge.token", "git.credential"),
            (Refusal::Denied { scope: None }, "forge.token", "git.credential"),
            (Refusal::Denied { scope: Some("write:issue".to_owned()) }, "write:issue", "write:issue"),
            (Refusal::Archived, "unarchive", "unarchive"),
            (Refusal::MovedTo { to: String::new() }, "forge.owner", "git.remote"),
            (Refusal::MovedTo { to: "team/renamed".to_owned() }, "team/renamed", "team/renamed"),
            (Refusal::Gone, "forge.owner", "git.remote"),
            (Refusal::Missing, "git.remote", "git.remote"),
            (Refusal::NoPullRequests, "pull requests", "pull requests"),
            (Refusal::Foreign, "forge.url", "git.remote"),
            (Refusal::Other, "forge", "forge"),
        ] {
            assert!(class.advice(Side::Forge).contains(forge), "{class:?}: {}", class.advice(Side::Forge));
            assert!(class.advice(Side::Git).contains(git), "{class:?}: {}", class.advice(Side::Git));
        }
    }
}
