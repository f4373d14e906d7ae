//! What every forge with a server reads around a merge (RULE-5), and the check after a write whose answer is lost.

use super::{ForgeError, Landing, MergeOutcome, PullRequest, PullState};
use crate::adapters::git::Mirror;
use crate::adapters::git::cmd::GitError;
use crate::model::ids::Sha;

type Result<T> = std::result::Result<T, ForgeError>;

/// The state of the pull request and of the base.
pub(super) struct MergeState {
    pull: Result<Option<PullRequest>>,
    tip: Sha,
    landed: Option<Sha>,
}

impl MergeState {
    /// Reads the pull request before the base, so that a merge in between can't seem to have left no trace.
    pub fn take(
        read: &dyn Fn() -> Result<Option<PullRequest>>,
        mirror: &Mirror,
        landing: &Landing<'_>,
    ) -> Result<Self> {
        let mut pull = read();
        let tree = mirror.tree_of(landing.head)?;
        let tip = mirror.fetch_branch(landing.default_branch)?;
        let tip = tip.ok_or_else(|| ForgeError::NotFound(format!("the default branch {}", landing.default_branch)))?;
        let landed =
            if tip == *landing.expected_base { None } else { mirror.landed(landing.expected_base, &tip, &tree)? };
        if landed.is_some() && matches!(&pull, Ok(Some(p)) if p.state == PullState::Open) {
            pull = read();
        }
        Ok(Self { pull, tip, landed })
    }

    /// What follows from the state alone; `None`: nothing has happened, and nothing blocks the merge.
    pub fn settled(self, landing: &Landing<'_>) -> Result<Option<MergeOutcome>> {
        if let Some(commit) = self.landed {
            let done =
                matches!(&self.pull, Ok(Some(p)) if p.state == PullState::Closed) || matches!(self.pull, Ok(None));
            return Ok(Some(MergeOutcome::Merged { commit, pull_open: !done }));
        }
        let withdrawn = |reason: String| Ok(Some(MergeOutcome::Withdrawn { reason }));
        let Some(pull) = self.pull? else {
            return withdrawn("the pull request is gone".to_owned());
        };
        let moved = self.tip != *landing.expected_base;
        if pull.merged {
            if moved && pull.base == landing.default_branch {
                return Ok(Some(MergeOutcome::Untested { commit: pull.merge_commit }));
            }
            let (n, base) = (pull.number, landing.default_branch);
            return Err(ForgeError::Transient(format!(
                "pull request {n} is shown as merged, but nothing is on {base}"
            )));
        }
        if pull.state == PullState::Closed {
            return withdrawn(format!("pull request {} was closed", pull.number));
        }
        if pull.base != landing.default_branch {
            return withdrawn(format!("pull request {} now has the base {}", pull.number, pull.base));
        }
        match &pull.head_sha {
            None => withdrawn(format!("the branch {} is gone", pull.head)),
            Some(head) if head != landing.head => Ok(Some(MergeOutcome::HeadMoved)),
            Some(_) if moved => Ok(Some(MergeOutcome::BaseMoved)),
            Some(_) => Ok(None),
        }
    }
}

/// Decided by git: the forge's own flag means four things.
pub(super) fn conflict(mirror: &Mirror, landing: &Landing<'_>) -> Result<Option<Vec<String>>> {
    match mirror.merge_trees(landing.expected_base, landing.head) {
        Ok(_) => Ok(None),
        Err(GitError::Conflict { paths }) => Ok(Some(paths)),
        Err(e) => Err(e.into()),
    }
}

/// The check after a write whose outcome is unknown. If it fails, the outcome stays unknown, unless the failure is one
/// that the caller must heed.
pub(super) fn again<T>(first: &impl std::fmt::Display, merge_state: Result<T>) -> Result<T> {
    merge_state.map_err(|second| match second {
        ForgeError::Throttled { .. } | ForgeError::Refused { .. } => second,
        ForgeError::NotFound(_)
        | ForgeError::Conflict(_)
        | ForgeError::Invalid(_)
        | ForgeError::Transient(_)
        | ForgeError::UnknownOutcome(_) => ForgeError::UnknownOutcome(format!("{first}; looking again: {second}")),
    })
}

/// The text, cut to at most this many characters, with a sign that more is missing.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or("")),
    }
}

/// The first line of the comment of a key, hidden from people. Only that line counts, so that an agent's text below it
/// can't pass for another comment. Fails with `Invalid` for a key that is no plain word.
pub(super) fn mark(marker: &str) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._:-".contains(c);
    if marker.is_empty() || marker.contains("--") || !marker.chars().all(plain) {
        return Err(ForgeError::Invalid(format!("the comment marker {marker:?} is not a plain word")));
    }
    Ok(format!("<!-- orch:{marker} -->"))
}
