//! What a remote answered a moment ago (RULE-31 asks it before each start, push and move, which is four times within a tenth of a
//! second where one run ends and the next begins). An answer counts for [`FRESH`] within the process that asked, and for
//! nothing once that process has waited for a child ([`super::rest`]). Whoever is about to land, deploy or delete asks again.

use super::cmd::Result;
use super::mirror::Mirror;
use crate::model::ids::Sha;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const FRESH: Duration = Duration::from_secs(1);

/// What a remote answered of some of its branches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heads {
    /// Where they are, in the order of the question; `None`: it has no such branch.
    pub at: Vec<Option<Sha>>,
    /// The branch that its HEAD names; `None`: it names none, or it was not asked just now.
    pub default: Option<String>,
}

/// The branch that an answer with `--symref` says HEAD names.
pub(super) fn named(answer: &str) -> Option<String> {
    answer.lines().find_map(|line| line.strip_prefix("ref: refs/heads/")?.strip_suffix("\tHEAD").map(ToOwned::to_owned))
}

type Answers = BTreeMap<String, (Option<Sha>, Instant)>;

static SEEN: Mutex<BTreeMap<PathBuf, Answers>> = Mutex::new(BTreeMap::new());

fn seen<T>(act: impl FnOnce(&mut BTreeMap<PathBuf, Answers>) -> T) -> T {
    act(&mut SEEN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Everything that was answered before counts for nothing more.
pub(super) fn forget() {
    seen(BTreeMap::clear);
}

fn known(mirror: &Path, branch: &str) -> Option<Option<Sha>> {
    let fresh = |(head, at): &(Option<Sha>, Instant)| (at.elapsed() < FRESH).then(|| head.clone());
    seen(|all| all.get(mirror)?.get(branch).and_then(fresh))
}

impl Mirror {
    /// Keeps what the remote answered of a branch; `None`: it has no such branch.
    pub(super) fn answered(&self, branch: &str, head: Option<&Sha>) {
        let entry = (head.cloned(), Instant::now());
        seen(|all| all.entry(self.path().to_owned()).or_default().insert(branch.to_owned(), entry));
    }

    /// What the remote answered of a branch counts for nothing more: it is about to change.
    pub(super) fn unknown(&self, branch: &str) {
        seen(|all| all.get_mut(self.path()).and_then(|heads| heads.remove(branch)));
    }

    /// Where these branches are on the remote, as it answered at most a second ago, or answers now. Fails as
    /// [`Mirror::remote_heads`].
    pub fn glance(&self, branches: &[&str]) -> Result<Heads> {
        let known: Option<Vec<Option<Sha>>> = branches.iter().map(|branch| known(self.path(), branch)).collect();
        match known {
            Some(at) => Ok(Heads { at, default: None }),
            None => self.remote_heads(branches),
        }
    }

    /// Brings one branch, unless the mirror has what the remote answered a moment ago. Fails as [`Mirror::fetch_branch`].
    pub fn bring(&self, branch: &str) -> Result<Option<Sha>> {
        if let Some(Some(head)) = known(self.path(), branch)
            && self.tracking(branch)?.as_ref() == Some(&head)
        {
            return Ok(Some(head));
        }
        self.fetch_branch(branch)
    }
}
