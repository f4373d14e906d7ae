//! The local "forge": a bare repository. Pull requests are rows of the engine; only landing is done here.

use super::{
    Account, BranchRule, CommentOutcome, CommitStatus, Forge, ForgeError, ForgeVersion, Landing, MergeOutcome, Product,
    Protection, PullRequest, PullState, RepoInfo, StatusState,
};
use crate::adapters::git::cmd::GitError;
use crate::adapters::git::{MergeMethod, Mirror, Person, PushOutcome};
use crate::model::ids::Sha;

/// How to merge into a bare repository.
#[derive(Debug, Clone)]
pub struct LocalForge {
    pub method: MergeMethod,
    pub identity: Person,
}

type Result<T> = std::result::Result<T, ForgeError>;

impl LocalForge {
    /// Lands `head` on the default branch if that is still at `expected_base`. When called again after a crash, it
    /// finds the landed commit (RULE-5) and lands nothing twice. Fails with the class of git's failure; after
    /// `UnknownOutcome`, repeating the call shows what happened.
    pub fn merge(&self, mirror: &Mirror, landing: &Landing<'_>) -> Result<MergeOutcome> {
        let Landing { default_branch, head, expected_base, message } = *landing;
        let commit = match mirror.merge_commit(expected_base, head, self.method, message, &self.identity) {
            Ok(commit) => commit,
            Err(GitError::Conflict { paths }) => {
                return self
                    .found(mirror, landing, None)
                    .map(|found| found.unwrap_or(MergeOutcome::Conflict { paths }));
            }
            Err(e) => return Err(e.into()),
        };
        if let Some(outcome) = self.found(mirror, landing, Some(&commit))? {
            return Ok(outcome);
        }
        match mirror.land(default_branch, &commit, expected_base)? {
            PushOutcome::Created | PushOutcome::Same | PushOutcome::Updated => {
                Ok(MergeOutcome::Merged { commit, pull_open: false })
            }
            PushOutcome::Rejected { reason, moved } => Ok(match self.found(mirror, landing, Some(&commit))? {
                Some(outcome) => outcome,
                None if moved => MergeOutcome::NotYet { reason },
                None => MergeOutcome::Refused { reason },
            }),
        }
    }

    /// Reads the default branch: landed, moved, or (`None`) still where it was tested.
    fn found(&self, mirror: &Mirror, landing: &Landing<'_>, commit: Option<&Sha>) -> Result<Option<MergeOutcome>> {
        let tip = mirror.fetch_branch(landing.default_branch)?;
        let tip = tip.ok_or_else(|| ForgeError::NotFound(format!("the default branch {}", landing.default_branch)))?;
        if tip == *landing.expected_base {
            return Ok(None);
        }
        if let Some(commit) = commit
            && mirror.is_ancestor(commit, &tip)?
        {
            return Ok(Some(MergeOutcome::Merged { commit: commit.clone(), pull_open: false }));
        }
        let tree = mirror.tree_of(landing.head)?;
        Ok(Some(match mirror.landed(landing.expected_base, &tip, &tree)? {
            Some(commit) => MergeOutcome::Merged { commit, pull_open: false },
            None => MergeOutcome::BaseMoved,
        }))
    }
}

impl Forge for LocalForge {
    fn is_remote(&self) -> bool {
        false
    }

    fn open_pull(&self, head: &str, base: &str, _title: &str, _body: &str) -> Result<PullRequest> {
        Ok(pull(head, base))
    }

    fn find_pull(&self, _head: &str, _base: &str) -> Result<Option<PullRequest>> {
        Ok(None)
    }

    fn recent_heads(&self) -> Result<Vec<Sha>> {
        Ok(Vec::new())
    }

    fn pull(&self, _number: i64) -> Result<Option<PullRequest>> {
        Ok(Some(pull("", "")))
    }

    fn close_pull(&self, _number: i64) -> Result<()> {
        Ok(())
    }

    fn merge(&self, mirror: &Mirror, _number: i64, landing: &Landing<'_>) -> Result<MergeOutcome> {
        self.merge(mirror, landing)
    }

    fn statuses(&self, _sha: &Sha) -> Result<Vec<CommitStatus>> {
        Ok(Vec::new())
    }

    fn post_status(&self, _sha: &Sha, _context: &str, _state: StatusState, _description: &str) -> Result<bool> {
        Ok(false)
    }

    fn comment_once(&self, _number: i64, _marker: &str, _body: &str) -> Result<CommentOutcome> {
        Ok(CommentOutcome::NoForge)
    }

    fn may_comment(&self) -> Result<()> {
        Ok(())
    }

    fn protection(&self, _branch: &str) -> Result<Protection> {
        Ok(Protection::default())
    }

    fn branch_rules(&self) -> Result<Option<Vec<BranchRule>>> {
        Ok(Some(Vec::new()))
    }

    fn user(&self) -> Result<Account> {
        Ok(Account::default())
    }

    fn version(&self) -> Result<ForgeVersion> {
        Ok(version())
    }

    fn repository(&self) -> Result<RepoInfo> {
        Ok(repository())
    }
}

/// Represents a pull request that the engine itself keeps: open, number 0.
fn pull(head: &str, base: &str) -> PullRequest {
    PullRequest {
        number: 0,
        url: String::new(),
        state: PullState::Open,
        head: head.to_owned(),
        head_sha: None,
        base: base.to_owned(),
        merged: false,
        merge_commit: None,
    }
}

/// This program is the forge; a landing is a compare-and-swap on the tested base.
fn version() -> ForgeVersion {
    ForgeVersion { product: Product::Local, version: env!("CARGO_PKG_VERSION").to_owned(), guards_head: true }
}

fn repository() -> RepoInfo {
    RepoInfo {
        full_name: String::new(),
        default_branch: String::new(),
        archived: false,
        may_push: None,
        admin: None,
        method_enabled: Some(true),
        pull_requests: None,
    }
}

impl From<GitError> for ForgeError {
    fn from(error: GitError) -> Self {
        let text = error.to_string();
        match error {
            GitError::Timeout { .. } | GitError::Killed { .. } => Self::UnknownOutcome(text),
            GitError::Unreachable { .. } | GitError::Busy { .. } | GitError::Io { .. } => Self::Transient(text),
            GitError::Refused { refusal, .. } => Self::Refused { refusal, text },
            GitError::Conflict { .. } => Self::Conflict(text),
            GitError::NotFound { .. } => Self::NotFound(text),
            GitError::Missing { .. }
            | GitError::Rejected { .. }
            | GitError::Incompatible { .. }
            | GitError::Broken { .. } => Self::Invalid(text),
        }
    }
}
