//! Forges: where pull requests live and merges are asked for. `Forge` is the trait in which the kinds differ, so that no
//! caller has to. A new kind is its folder here, its address in `model::sides` and its keys in `config`.

pub mod address;
pub mod gitea;
pub mod github;
pub mod local;
mod look;

pub use crate::model::ci::{CommitStatus, StatusState};
pub use crate::model::sides::Via as MergeVia;
pub use gitea::{Gitea, Place};
pub use github::Github;
pub use local::LocalForge;

use crate::adapters::git::{Credential, MergeMethod, Mirror, Person};
use crate::adapters::http::{Class, HttpError};
use crate::model::examined::Examined;
use crate::model::ids::Sha;
pub use crate::model::landing::Awaited;
use crate::model::refusal::Refusal;
use crate::model::sides::{Forge as Address, Opening};
use crate::model::stage::words;

words! {
    /// Whether a pull request waits for a decision.
    PullState { Open = "open", Closed = "closed" }
}

/// A pull request as last read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// 0 on the local forge.
    pub number: i64,
    /// For people. Empty on the local forge.
    pub url: String,
    pub state: PullState,
    /// The branch's name, kept by the forge even when the branch is gone. Empty: not known (local forge).
    pub head: String,
    /// `None`: the branch is gone, or the local forge.
    pub head_sha: Option<Sha>,
    /// Empty: not known (local forge).
    pub base: String,
    pub merged: bool,
    /// Set only if `merged`.
    pub merge_commit: Option<Sha>,
}

/// What to land, and on what it was tested.
#[derive(Debug, Clone)]
pub struct Landing<'a> {
    pub default_branch: &'a str,
    pub head: &'a Sha,
    pub expected_base: &'a Sha,
    pub message: &'a str,
}

/// What asking for a merge led to, after reading back (SHIP-5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergeOutcome {
    /// The tested tree landed as this commit (RULE-5), now or by an earlier call. `pull_open`: the forge still shows the
    /// pull request as open, or could not be asked; nothing is to be merged again, [`Forge::close_pull`] tidies.
    Merged { commit: Sha, pull_open: bool },
    /// The pull request is merged, and no commit has the tested tree: something untested is on the base (freeze).
    Untested { commit: Option<Sha> },
    /// The base is not where it was tested, and neither the tested tree nor the pull request has landed.
    BaseMoved,
    /// The head is not the one that was checked: back to gating.
    HeadMoved,
    /// `paths` may be empty where the forge sees a conflict that git does not.
    Conflict { paths: Vec<String> },
    /// Not landed, base unchanged, and the forge asks to come again (it still computes): look later, a bounded number
    /// of times.
    NotYet { reason: String },
    /// Not landed, base unchanged, and the forge names what it waits for; `said` in its words.
    Awaits { what: Awaited, said: String },
    /// The forge does not want it (a hook, a method that is switched off, a rule not known): a person's matter.
    Refused { reason: String },
    /// The pull request is closed or gone, or its branch is, by another hand (RULE-31).
    Withdrawn { reason: String },
}

/// What became of a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommentOutcome {
    Posted,
    /// A comment with this marker stood there.
    Present,
    /// The local forge has none.
    NoForge,
}

/// What guards a branch, as far as the token may see it. Read only, for `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Protection {
    pub protected: bool,
    /// Whether the token's own account may get past the protection (a direct push, or an administrator's override);
    /// `None`: can't be told.
    pub our_token_exempt: Option<bool>,
    /// Names or globs of the statuses the forge itself asks for.
    pub required_contexts: Vec<String>,
    pub required_approvals: u64,
    /// Whether the account may merge into the branch; `None`: not told.
    pub may_merge: Option<bool>,
    /// Whether the account may push to the branch; `None`: not told.
    pub may_push: Option<bool>,
    /// The rule's name; empty: none, or not told.
    pub rule: String,
}

/// A rule over branches. Read only, for `doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchRule {
    /// A branch's name, or a glob in which `*` stays within a part of the name.
    pub name: String,
    /// Whether anybody may push by it; `None`: not told.
    pub push: Option<bool>,
    /// Whether anybody may push with force; `None`: not told.
    pub force_push: Option<bool>,
}

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// Empty on the local forge.
    pub login: String,
    /// Of the whole server.
    pub admin: bool,
}

words! {
    /// What runs the forge.
    Product { Local = "local", Gitea = "gitea", Forgejo = "forgejo", Github = "github" }
}

/// What a probe of the server told (for `doctor`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgeVersion {
    pub product: Product,
    /// As the server writes it; on the local forge this program's.
    pub version: String,
    /// Whether a merge with another head than the checked one is refused by the server itself (Gitea 1.16 and later).
    /// Without it a push between `orch`'s last look and the merge lands untested, and is only found out afterwards.
    pub guards_head: bool,
}

/// The repository as the token sees it (for `doctor`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoInfo {
    /// `owner/name` as the server writes it; empty on the local forge.
    pub full_name: String,
    /// Empty: not told.
    pub default_branch: String,
    /// Nothing can be written there.
    pub archived: bool,
    /// `None`: not told.
    pub may_push: Option<bool>,
    pub admin: Option<bool>,
    /// Whether the configured merge method is enabled; `None`: not told.
    pub method_enabled: Option<bool>,
    /// Whether pull requests are switched on; `None`: not told.
    pub pull_requests: Option<bool>,
}

/// The classes that policy tells apart (services §0.6). No text holds a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgeError {
    /// A *no* that a person has to lift (ORD-1). `text`: the request, the status, the first line of the answer.
    #[error("the forge refuses: {text}")]
    Refused { refusal: Refusal, text: String },
    /// What the request names is not there; the repository is.
    #[error("not found: {0}")]
    NotFound(String),
    /// Re-read and decide anew.
    #[error("conflict: {0}")]
    Conflict(String),
    /// A mistake in configuration or in `orch`.
    #[error("the forge calls the request invalid: {0}")]
    Invalid(String),
    /// `retry_after_s`: seconds the service asks to wait, where it said so. The caller stores it.
    #[error("the forge asks to wait: {reason}")]
    Throttled { reason: String, retry_after_s: Option<u64> },
    #[error("the forge does not answer: {0}")]
    Transient(String),
    /// A write whose answer is lost: read before repeating. Every write of a [`Forge`] reads first, so that the same
    /// call may be made again.
    #[error("the outcome is unknown: {0}")]
    UnknownOutcome(String),
}

type Result<T> = std::result::Result<T, ForgeError>;

/// One repository's forge, as the engine sees every kind (SHIP-5): every call has an answer on each.
pub trait Forge: std::fmt::Debug {
    /// Whether pull requests live on a server. Only for words to people: every call below has an answer on both.
    fn is_remote(&self) -> bool {
        true
    }

    /// The open pull request of `head` into `base`: found, or made with this title and body. Safe to repeat after any
    /// error. `NotFound`: a branch is missing. `Invalid`: nothing to merge.
    fn open_pull(&self, head: &str, base: &str, title: &str, body: &str) -> Result<PullRequest>;

    /// The open pull request of `head` into `base`. The local forge keeps none.
    fn find_pull(&self, head: &str, base: &str) -> Result<Option<PullRequest>>;

    /// Heads of the pull requests that changed last, at most ten: what CI posts there is what a pull request gets, which
    /// the default branch's own commits need not bear (RULE-2). Empty on the local forge.
    fn recent_heads(&self) -> Result<Vec<Sha>>;

    /// A pull request by number; `None` only where the repository can be read and has none. On the local forge always
    /// an open one.
    fn pull(&self, number: i64) -> Result<Option<PullRequest>>;

    /// Closes a pull request without merging; one that is closed, merged or gone is as good.
    fn close_pull(&self, number: i64) -> Result<()>;

    /// Lands `landing.head` if it and the base are what was tested, and reads back after any answer. What landed before
    /// (by a call that was cut, or by hand) is found and never merged again, so that the call may be repeated after any
    /// error. `number` is not used on the local forge.
    fn merge(&self, mirror: &Mirror, number: i64, landing: &Landing<'_>) -> Result<MergeOutcome>;

    /// Every status of exactly this commit, raw, in no order; `decide::gates::ci::roll_up` takes the newest of each
    /// context. Empty on the local forge, where CI is a command.
    fn statuses(&self, sha: &Sha) -> Result<Vec<CommitStatus>>;

    /// Posts a status, unless the newest of its context says the same; gives whether it was posted. `Unknown` and
    /// `Skipped` can't be posted (`Invalid`). Nothing happens on the local forge.
    fn post_status(&self, sha: &Sha, context: &str, state: StatusState, description: &str) -> Result<bool>;

    /// Comments once per `marker` (a task id with a word, such as `17/review`; hidden in the comment's first line).
    fn comment_once(&self, number: i64, marker: &str, body: &str) -> Result<CommentOutcome>;

    /// Whether the token may write comments: asked by an edit of one that can't exist, so that nothing is written.
    /// `Refused` says what it lacks.
    fn may_comment(&self) -> Result<()>;

    /// What guards a branch. Nothing is ever changed.
    fn protection(&self, branch: &str) -> Result<Protection>;

    /// Every rule over branches; `None`: this account may not read them.
    fn branch_rules(&self) -> Result<Option<Vec<BranchRule>>>;

    /// Whose token it is.
    fn user(&self) -> Result<Account>;

    /// What runs the forge, and whether it guards the head.
    fn version(&self) -> Result<ForgeVersion>;

    /// The repository as the token sees it.
    fn repository(&self) -> Result<RepoInfo>;

    /// Whether what a branch's rules ask for are the very names of checks, and no globs.
    fn asks_by_name(&self) -> bool {
        false
    }

    /// What is to be kept for the next opening, by name (see [`keeps`]).
    fn kept(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// What `orch doctor` says of it beside what it asks every forge: of the branch that everything lands on, its head, and
    /// the beginning of task branches.
    fn examine(&self, _branch: &str, _head: Option<&Sha>, _prefix: &str) -> Vec<Examined> {
        Vec::new()
    }
}

/// How a project's branches land.
#[derive(Debug, Clone)]
pub struct Manner<'a> {
    /// The branch that everything lands on; `None`: the repository's default branch.
    pub base: Option<&'a str>,
    pub method: MergeMethod,
    pub via: MergeVia,
    /// Who commits in `orch`'s name.
    pub identity: Person,
}

/// Opens a forge. Only one that is not known yet is asked for what it is. Fails as its requests do.
pub fn open(address: &Address, with: &Opening<'_>, manner: Manner<'_>) -> Result<Box<dyn Forge>> {
    Ok(match address {
        Address::Local => Box::new(LocalForge { method: manner.method, identity: manner.identity }),
        Address::Gitea(at) => Box::new(gitea::open(at, with, &manner)?),
        Address::Github(at) => Box::new(github::open(at, with, &manner)?),
    })
}

/// The line of the configuration that names an address from [`address`], with what else a person may want there.
pub fn proposal(address: &Address, quoted: &dyn Fn(&str) -> String) -> String {
    match address {
        Address::Local => {
            "    forge: {kind: local}               # docs/connecting-gitea.md for pull requests".to_owned()
        }
        Address::Gitea(at) => gitea::proposal(at, quoted),
        Address::Github(at) => github::proposal(at, quoted),
    }
}

/// The names under which a forge has things kept from one opening to the next.
pub fn keeps(address: &Address, key: &str) -> Vec<String> {
    match address {
        Address::Local | Address::Gitea(_) => Vec::new(),
        Address::Github(_) => vec![crate::adapters::github::id_key(key)],
    }
}

/// Whether the forge's own credential is what git shows this remote: only to the host that it is for.
pub fn lends(address: &Address, remote: &str) -> bool {
    match address {
        Address::Local | Address::Gitea(_) => false,
        Address::Github(at) => crate::adapters::github::is_for(&at.repo.api_base, remote),
    }
}

/// What git shows a remote for which [`lends`] holds. Fails as the requests for it do.
pub fn git_credential(address: &Address, with: &Opening<'_>) -> Result<Option<Credential>> {
    match address {
        Address::Local | Address::Gitea(_) => Ok(None),
        Address::Github(at) => github::git_credential(at, with).map(Some),
    }
}

impl ForgeError {
    /// The class of a *no* that waits for a person; `None`: an outage, a request to wait, an answer to read again.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.clone()),
            Self::NotFound(_) => Some(Refusal::Missing),
            Self::Invalid(_) | Self::Conflict(_) => Some(Refusal::Other),
            Self::Throttled { .. } | Self::Transient(_) | Self::UnknownOutcome(_) => None,
        }
    }

    /// Whether nothing is known of what was asked, and the same may be asked again (RULE-8).
    pub fn is_outage(&self) -> bool {
        self.refusal().is_none()
    }
}

impl From<HttpError> for ForgeError {
    fn from(e: HttpError) -> Self {
        let text = e.to_string();
        let refused = |refusal: Refusal| Self::Refused { refusal, text: text.clone() };
        // A page in the place of an answer: whoever wrote it is not the forge. What comes with 5xx is an outage.
        if e.html && e.status.is_some_and(|s| (200..300).contains(&s) || [401, 403, 404].contains(&s)) {
            // A write may still have reached the forge: that is asked first.
            return if e.class == Class::UnknownOutcome {
                Self::UnknownOutcome(text)
            } else {
                refused(Refusal::Foreign)
            };
        }
        match e.class {
            Class::Auth if e.status == Some(403) => refused(Refusal::Denied { scope: None }),
            Class::Auth => refused(Refusal::BadCredential),
            Class::NotFound => Self::NotFound(text),
            Class::Conflict => Self::Conflict(text),
            Class::Redirect { to } => Self::Refused { refusal: Refusal::MovedTo { to: plain(&to) }, text },
            Class::Invalid if e.status == Some(423) => refused(Refusal::Archived),
            Class::Invalid | Class::TooLarge => Self::Invalid(text),
            // A server that asks for a day is obeyed, one that asks for a century is not.
            Class::Throttled { retry_after_s } => {
                Self::Throttled { reason: text, retry_after_s: retry_after_s.map(|s| s.min(86_400)) }
            }
            Class::Transient | Class::BadBody => Self::Transient(text),
            Class::UnknownOutcome => Self::UnknownOutcome(text),
        }
    }
}

/// A place without its query (which may hold a token), at most 200 characters.
fn plain(place: &str) -> String {
    place.split(['?', '#']).next().unwrap_or("").chars().filter(|c| !c.is_control()).take(200).collect()
}
