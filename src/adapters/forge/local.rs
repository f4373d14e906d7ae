//! The forge that is none: a bare repository. Pull requests are the engine's rows; what is done here is landing.

use super::{ForgeError, ForgeVersion, MergeOutcome, Product, PullRequest, PullState, RepoInfo};
use crate::adapters::git::cmd::GitError;
use crate::adapters::git::{MergeMethod, Mirror, Person, PushOutcome};
use crate::model::ids::Sha;

/// How a bare repository is merged into.
#[derive(Debug, Clone)]
pub struct LocalForge {
    pub method: MergeMethod,
    pub identity: Person,
}

/// What to land, and on what it was tested.
#[derive(Debug, Clone)]
pub struct Landing<'a> {
    pub default_branch: &'a str,
    pub head: &'a Sha,
    pub expected_base: &'a Sha,
    pub message: &'a str,
}

impl LocalForge {
    /// Lands `head` on the default branch if that still stands at `expected_base`. Called again after a crash it finds
    /// the landed commit (RULE-5) and lands nothing twice. Fails with the class of what git met; after
    /// `UnknownOutcome` the same call tells what became of it.
    pub fn merge(&self, mirror: &Mirror, landing: &Landing<'_>) -> Result<MergeOutcome, ForgeError> {
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
    fn found(
        &self,
        mirror: &Mirror,
        landing: &Landing<'_>,
        commit: Option<&Sha>,
    ) -> Result<Option<MergeOutcome>, ForgeError> {
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

/// What stands for a pull request where the engine keeps them: open, number 0.
pub(super) fn pull(head: &str, base: &str) -> PullRequest {
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
pub(super) fn version() -> ForgeVersion {
    ForgeVersion { product: Product::Local, version: env!("CARGO_PKG_VERSION").to_owned(), guards_head: true }
}

pub(super) fn repository() -> RepoInfo {
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
