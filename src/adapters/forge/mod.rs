//! Forges: where pull requests live and merges are requested. The trait `Forge` hides the differences between the kinds
//! from callers. A new kind is a folder here, an address in `model::sides` and keys in `config`.

pub mod address;
pub mod gitea;
pub mod github;
pub mod local;
mod merge_state;

pub use crate::model::ci::{CommitStatus, StatusState};
pub use crate::model::sides::Via as MergeVia;
pub use gitea::{Gitea, Place};
pub use github::Github;
pub use local::LocalForge;

use crate::adapters::git::{Credential, MergeMethod, Mirror, Person};
use crate::adapters::http::{Class, HttpError};
use crate::model::deploy::Deployment;
use crate::model::examined::Examined;
use crate::model::ids::Sha;
pub use crate::model::landing::Awaited;
use crate::model::refusal::Refusal;
use crate::model::rules::{Queue, Rules};
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
    /// The branch's name, which the forge keeps even when the branch is gone. Empty: not known (local forge).
    pub head: String,
    /// `None`: the branch is gone, or the local forge.
    pub head_sha: Option<Sha>,
    /// Empty: not known (local forge).
    pub base: String,
    pub merged: bool,
    /// Set only if `merged`.
    pub merge_commit: Option<Sha>,
}

/// What to land, and the base on which it was tested.
#[derive(Debug, Clone)]
pub struct Landing<'a> {
    pub default_branch: &'a str,
    pub head: &'a Sha,
    pub expected_base: &'a Sha,
    pub message: &'a str,
}

/// The result of a merge request, after reading back (SHIP-5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergeOutcome {
    /// The tested tree landed as this commit (RULE-5), now or by an earlier call. `pull_open`: the forge still shows
    /// the pull request as open, or could not be asked; nothing must be merged again, [`Forge::close_pull`] tidies up.
    Merged { commit: Sha, pull_open: bool },
    /// The pull request is merged, but no commit has the tested tree: something untested is on the base (freeze).
    Untested { commit: Option<Sha> },
    /// The base moved since the test, and neither the tested tree nor the pull request has landed.
    BaseMoved,
    /// The head is not the one that was checked: back to gating.
    HeadMoved,
    /// `paths` may be empty if the forge sees a conflict that git does not.
    Conflict { paths: Vec<String> },
    /// Not landed, base unchanged, and the forge asks to retry (it is still computing): retry later, a bounded number
    /// of times.
    NotYet { reason: String },
    /// Not landed, base unchanged, and the forge names what it waits for; `said` in its words.
    Awaits { what: Awaited, said: String },
    /// The forge refuses (a hook, a disabled method, an unknown rule): a person has to act.
    Refused { reason: String },
    /// Somebody else closed or deleted the pull request, or its branch (RULE-31).
    Withdrawn { reason: String },
}

/// The result of a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommentOutcome {
    Posted,
    /// A comment with this marker exists already.
    Present,
    /// The local forge has no comments.
    NoForge,
}

/// What protects a branch, as far as the token may see it. Read only, for `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Protection {
    pub protected: bool,
    /// Whether the token's own account can bypass the protection (a direct push, or an administrator's override);
    /// `None`: unknown.
    pub our_token_exempt: Option<bool>,
    /// Names or globs of the statuses that the forge itself requires.
    pub required_contexts: Vec<String>,
    pub required_approvals: u64,
    /// Whether the account may merge into the branch; `None`: unknown.
    pub may_merge: Option<bool>,
    /// Whether the account may push to the branch; `None`: unknown.
    pub may_push: Option<bool>,
    /// The rule's name; empty: none, or unknown.
    pub rule: String,
}

/// A branch rule. Read only, for `doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchRule {
    /// A branch's name, or a glob in which `*` does not match a `/`.
    pub name: String,
    /// Whether the rule lets anybody push; `None`: unknown.
    pub push: Option<bool>,
    /// Whether the rule lets anybody force-push; `None`: unknown.
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
    /// The forge's software.
    Product { Local = "local", Gitea = "gitea", Forgejo = "forgejo", Github = "github" }
}

/// The result of a probe of the server (for `doctor`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgeVersion {
    pub product: Product,
    /// As the server writes it; on the local forge, this program's.
    pub version: String,
    /// Whether the server itself refuses to merge another head than the checked one (Gitea 1.16 and later). Otherwise a
    /// push between `orch`'s last check and the merge lands untested, and is only detected afterwards.
    pub guards_head: bool,
}

/// The repository as the token sees it (for `doctor`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoInfo {
    /// `owner/name` as the server writes it; empty on the local forge.
    pub full_name: String,
    /// Empty: unknown.
    pub default_branch: String,
    /// Nothing can be written there.
    pub archived: bool,
    /// `None`: unknown.
    pub may_push: Option<bool>,
    pub admin: Option<bool>,
    /// Whether the configured merge method is enabled; `None`: unknown.
    pub method_enabled: Option<bool>,
    /// Whether pull requests are enabled; `None`: unknown.
    pub pull_requests: Option<bool>,
}

/// The classes that policy distinguishes (services §0.6). No text contains a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgeError {
    /// A refusal that a person has to resolve (ORD-1). `text`: the request, the status, the first line of the answer.
    #[error("the forge refuses: {text}")]
    Refused { refusal: Refusal, text: String },
    /// What the request names does not exist; the repository does.
    #[error("not found: {0}")]
    NotFound(String),
    /// Read again and decide again.
    #[error("conflict: {0}")]
    Conflict(String),
    /// A mistake in configuration or in `orch`.
    #[error("the forge calls the request invalid: {0}")]
    Invalid(String),
    /// `retry_after_s`: seconds the service asks to wait, if it said so. The caller stores it, except for `reserve`: the
    /// service asked for nothing, and what is urgent goes on (GH-1).
    #[error("the forge asks to wait: {reason}")]
    Throttled { reason: String, retry_after_s: Option<u64>, reserve: bool },
    #[error("the forge does not answer: {0}")]
    Transient(String),
    /// A write whose answer is lost: read before repeating. Every write of a [`Forge`] reads first, so the same call
    /// may be repeated.
    #[error("the outcome is unknown: {0}")]
    UnknownOutcome(String),
}

type Result<T> = std::result::Result<T, ForgeError>;

/// One repository's forge, the same for the engine whatever its kind (SHIP-5): every kind supports every call.
pub trait Forge: std::fmt::Debug {
    /// Whether pull requests live on a server. Only for texts for people: every call below works on both.
    fn is_remote(&self) -> bool {
        true
    }

    /// The open pull request of `head` into `base`: found, or created with this title and body. Safe to repeat after
    /// any error. `NotFound`: a branch is missing. `Invalid`: nothing to merge.
    fn open_pull(&self, head: &str, base: &str, title: &str, body: &str) -> Result<PullRequest>;

    /// The open pull request of `head` into `base`. The local forge keeps none.
    fn find_pull(&self, head: &str, base: &str) -> Result<Option<PullRequest>>;

    /// Heads of the pull requests that changed last, at most ten: what CI posts there is what a pull request gets; the
    /// default branch's own commits need not have it (RULE-2). Empty on the local forge.
    fn recent_heads(&self) -> Result<Vec<Sha>>;

    /// A pull request by number; `None` only if the repository can be read and has no such one. On the local forge
    /// always an open one.
    fn pull(&self, number: i64) -> Result<Option<PullRequest>>;

    /// Closes a pull request without merging; if it is closed, merged or gone already, that is no error.
    fn close_pull(&self, number: i64) -> Result<()>;

    /// Lands `landing.head` if it and the base are what was tested, and reads back after any answer. What landed before
    /// (by an interrupted call, or manually) is found and never merged again, so the call may be repeated after any
    /// error. The local forge ignores `number`.
    fn merge(&self, mirror: &Mirror, number: i64, landing: &Landing<'_>) -> Result<MergeOutcome>;

    /// Every status of exactly this commit, raw and unordered; `decide::gates::ci::roll_up` picks the newest of each
    /// context. Empty on the local forge, where CI is a command.
    fn statuses(&self, sha: &Sha) -> Result<Vec<CommitStatus>>;

    /// Posts a status, unless the newest of its context says the same; returns whether it was posted. `Unknown` and
    /// `Skipped` can't be posted (`Invalid`). Does nothing on the local forge.
    fn post_status(&self, sha: &Sha, context: &str, state: StatusState, description: &str) -> Result<bool>;

    /// Shows a deploy as a deployment, one for each deploy, with its state; returns whether something was written. Does
    /// nothing on a forge without deployments.
    fn report_deploy(&self, _report: &DeployReport<'_>) -> Result<bool> {
        Ok(false)
    }

    /// Comments once per `marker` (a task id with a word, such as `17/review`; hidden in the comment's first line).
    fn comment_once(&self, number: i64, marker: &str, body: &str) -> Result<CommentOutcome>;

    /// Whether the token may write comments: tested by editing one that can't exist, so that nothing is written.
    /// `Refused` says what it lacks.
    fn may_comment(&self) -> Result<()>;

    /// What protects a branch. Changes nothing.
    fn protection(&self, branch: &str) -> Result<Protection>;

    /// Every branch rule; `None`: this account may not read them.
    fn branch_rules(&self) -> Result<Option<Vec<BranchRule>>>;

    /// Whose token it is.
    fn user(&self) -> Result<Account>;

    /// The forge's software, and whether it guards the head.
    fn version(&self) -> Result<ForgeVersion>;

    /// The repository as the token sees it.
    fn repository(&self) -> Result<RepoInfo>;

    /// Whether a branch's rules require checks by exact name, not by glob.
    fn asks_by_name(&self) -> bool {
        false
    }

    /// What to keep for the next opening, by name (see [`keeps`]).
    fn kept(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// What `orch doctor` checks here in addition to what it checks on every forge.
    fn examine(&self, _wanted: &Wanted<'_>) -> Vec<Examined> {
        Vec::new()
    }

    /// The active rules of a branch, and whether it has protection besides that can't be read; `None`: this kind has
    /// no such rules.
    fn rules(&self, _branch: &str) -> Result<Option<(Rules, bool)>> {
        Ok(None)
    }

    /// A pull request's place in the merge queue of the branch that everything lands on; `None`: it has none, and
    /// [`Forge::merge`] lands.
    fn queue(&self, _number: i64) -> Result<Option<Queue>> {
        Ok(None)
    }

    /// Puts a pull request into the merge queue if its head is still this one. Returns what the forge waits for before
    /// it accepts it, in its words; `None`: it is in.
    fn enter_queue(&self, _number: i64, _head: &Sha) -> Result<Option<(Awaited, String)>> {
        Err(ForgeError::Invalid("this forge has no merge queue".to_owned()))
    }

    /// Takes a pull request out of the merge queue. Returns whether it is out; `false`: it has landed.
    fn leave_queue(&self, _number: i64) -> Result<bool> {
        Ok(true)
    }

    /// Marks a pull request that was opened as a draft as ready for review, where drafts are configured.
    fn mark_ready(&self, _number: i64) -> Result<()> {
        Ok(())
    }
}

/// What the configuration needs of a forge (for `doctor`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// The newest commit of the branch that everything lands on; `None`: unknown.
    pub head: Option<&'a Sha>,
    /// Deploys are reported as deployments.
    pub deployments: bool,
    /// Gates post commit statuses.
    pub statuses: bool,
}

/// A deploy as it is shown on the forge.
#[derive(Debug, Clone)]
pub struct DeployReport<'a> {
    /// Its id, which identifies the deployment.
    pub deploy: &'a str,
    /// The revision that is deployed.
    pub sha: &'a Sha,
    pub environment: &'a str,
    pub state: Deployment,
    pub description: &'a str,
    /// Where people find the log; empty: nowhere.
    pub log_url: &'a str,
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

/// Opens a forge. Makes requests only if the forge is not known yet, and fails as they do.
pub fn open(address: &Address, with: &Opening<'_>, manner: Manner<'_>) -> Result<Box<dyn Forge>> {
    Ok(match address {
        Address::Local => Box::new(LocalForge { method: manner.method, identity: manner.identity }),
        Address::Gitea(at) => Box::new(gitea::open(at, with, &manner)?),
        Address::Github(at) => Box::new(github::open(at, with, &manner)?),
    })
}

/// The line of the configuration for an address from [`address`], with what else a person may want there.
pub fn proposal(address: &Address, quoted: &dyn Fn(&str) -> String) -> String {
    match address {
        Address::Local => {
            "    forge: {kind: local}               # docs/connecting-gitea.md for pull requests".to_owned()
        }
        Address::Gitea(at) => gitea::proposal(at, quoted),
        Address::Github(at) => github::proposal(at, quoted),
    }
}

/// The names under which a forge keeps things from one opening to the next.
pub fn keeps(address: &Address, key: &str) -> Vec<String> {
    match address {
        Address::Local | Address::Gitea(_) => Vec::new(),
        Address::Github(_) => vec![crate::adapters::github::id_key(key)],
    }
}

/// Whether git uses the forge's own credential for this remote: only for the host that it is for.
pub fn lends(address: &Address, remote: &str) -> bool {
    match address {
        Address::Local | Address::Gitea(_) => false,
        Address::Github(at) => crate::adapters::github::is_for(&at.repo.api_base, remote),
    }
}

/// The credential that git uses for a remote for which [`lends`] holds. Fails as the requests for it do.
pub fn git_credential(address: &Address, with: &Opening<'_>) -> Result<Option<Credential>> {
    match address {
        Address::Local | Address::Gitea(_) => Ok(None),
        Address::Github(at) => github::git_credential(at, with).map(Some),
    }
}

impl ForgeError {
    /// The class of a refusal that waits for a person; `None`: an outage, a request to wait, an answer to read again.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.clone()),
            Self::NotFound(_) => Some(Refusal::Missing),
            Self::Invalid(_) | Self::Conflict(_) => Some(Refusal::Other),
            Self::Throttled { .. } | Self::Transient(_) | Self::UnknownOutcome(_) => None,
        }
    }

    /// Whether the request had no result, and may be repeated (RULE-8).
    pub fn is_outage(&self) -> bool {
        self.refusal().is_none()
    }
}

impl From<HttpError> for ForgeError {
    fn from(e: HttpError) -> Self {
        let text = e.to_string();
        let refused = |refusal: Refusal| Self::Refused { refusal, text: text.clone() };
        // A web page instead of an answer: it is not from the forge. With 5xx it is an outage.
        if e.html && e.status.is_some_and(|s| (200..300).contains(&s) || [401, 403, 404].contains(&s)) {
            // A write may still have reached the forge: check that first.
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
                Self::Throttled { reason: text, retry_after_s: retry_after_s.map(|s| s.min(86_400)), reserve: false }
            }
            Class::Transient | Class::BadBody => Self::Transient(text),
            Class::UnknownOutcome => Self::UnknownOutcome(text),
        }
    }
}

/// A URL without its query (which may contain a token), at most 200 characters.
fn plain(place: &str) -> String {
    place.split(['?', '#']).next().unwrap_or("").chars().filter(|c| !c.is_control()).take(200).collect()
}
