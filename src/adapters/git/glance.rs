//! Recent answers of remotes. RULE-31 asks the remote before each start, push and move, which is four times within a
//! tenth of a second when one run ends and the next begins. An answer is valid for [`FRESH`] within the process that
//! asked, and no longer once that process has waited for a child ([`super::rest`]). Callers that are about to land,
//! deploy or delete ask again.

use super::cmd::Result;
use super::mirror::Mirror;
use crate::model::ids::Sha;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const FRESH_NS: i64 = 1_000_000_000;

/// What a remote answered of one branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    mirror: PathBuf,
    branch: String,
    head: Option<Sha>,
    at_ns: i64,
}

fn now_ns() -> i64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME);
    now.map_or(0, |t| t.tv_sec().saturating_mul(1_000_000_000).saturating_add(t.tv_nsec()))
}

fn is_fresh(at_ns: i64) -> bool {
    (0..FRESH_NS).contains(&(now_ns() - at_ns))
}

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

/// A branch's head, and when it was answered, by a clock that all processes of a boot share.
type Answers = BTreeMap<String, (Option<Sha>, i64)>;

static SEEN: Mutex<BTreeMap<PathBuf, Answers>> = Mutex::new(BTreeMap::new());

fn seen<T>(act: impl FnOnce(&mut BTreeMap<PathBuf, Answers>) -> T) -> T {
    act(&mut SEEN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Discards every answer.
pub(super) fn forget() {
    seen(BTreeMap::clear);
}

/// What counts still.
pub fn answers() -> Vec<Answer> {
    let of = |(mirror, heads): (&PathBuf, &Answers)| -> Vec<Answer> {
        let fresh = heads.iter().filter(|(_, (_, at))| is_fresh(*at));
        let answer = |(branch, (head, at)): (&String, &(Option<Sha>, i64))| Answer {
            mirror: mirror.clone(),
            branch: branch.clone(),
            head: head.clone(),
            at_ns: *at,
        };
        fresh.map(answer).collect()
    };
    seen(|all| all.iter().flat_map(of).collect())
}

/// Takes over what another process was answered, as far as it counts still.
pub fn adopt(answers: Vec<Answer>) {
    for answer in answers.into_iter().filter(|answer| is_fresh(answer.at_ns)) {
        seen(|all| all.entry(answer.mirror).or_default().insert(answer.branch, (answer.head, answer.at_ns)));
    }
}

fn known(mirror: &Path, branch: &str) -> Option<Option<Sha>> {
    let fresh = |(head, at): &(Option<Sha>, i64)| is_fresh(*at).then(|| head.clone());
    seen(|all| all.get(mirror)?.get(branch).and_then(fresh))
}

impl Mirror {
    /// Records the remote's answer for a branch; `None`: it has no such branch.
    pub(super) fn answered(&self, branch: &str, head: Option<&Sha>) {
        let entry = (head.cloned(), now_ns());
        seen(|all| all.entry(self.path().to_owned()).or_default().insert(branch.to_owned(), entry));
    }

    /// Discards the answer for a branch that is about to change.
    pub(super) fn unknown(&self, branch: &str) {
        seen(|all| all.get_mut(self.path()).and_then(|heads| heads.remove(branch)));
    }

    /// The heads of these branches on the remote, from answers at most a second old or from a new one. A branch's second
    /// part is the head that the caller has recorded: an older answer may confirm it and never contradicts it, since
    /// another process may have pushed and recorded that head after the answer. Fails as [`Mirror::remote_heads`].
    pub fn glance(&self, branches: &[(&str, Option<&Sha>)]) -> Result<Heads> {
        let remembered = |(branch, recorded): &(&str, Option<&Sha>)| {
            known(self.path(), branch).filter(|head| recorded.is_none() || head.as_ref() == *recorded)
        };
        match branches.iter().map(remembered).collect() {
            Some(at) => Ok(Heads { at, default: None }),
            None => self.remote_heads(&branches.iter().map(|(branch, _)| *branch).collect::<Vec<_>>()),
        }
    }

    /// Fetches one branch, unless the mirror already has the head that the remote just reported. Fails as
    /// [`Mirror::fetch_branch`].
    pub fn bring(&self, branch: &str) -> Result<Option<Sha>> {
        if let Some(Some(head)) = known(self.path(), branch)
            && self.tracking(branch)?.as_ref() == Some(&head)
        {
            return Ok(Some(head));
        }
        self.fetch_branch(branch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_31_an_answer_is_shown_for_as_long_as_it_counts() {
        let mirror = Path::new("/nowhere/glance-tests.git");
        let head = Sha::parse(&"a".repeat(40)).unwrap();
        let of = |branch: &str, at_ns: i64| Answer {
            mirror: mirror.to_owned(),
            branch: branch.to_owned(),
            head: Some(head.clone()),
            at_ns,
        };
        let old = of("old", now_ns() - FRESH_NS);
        let from_the_future = of("later", now_ns() + FRESH_NS);
        let fresh = of("fresh", now_ns());
        adopt(vec![old, from_the_future, fresh.clone()]);
        assert_eq!(known(mirror, "fresh"), Some(Some(head.clone())));
        assert_eq!((known(mirror, "old"), known(mirror, "later")), (None, None));
        assert!(answers().contains(&fresh));
        let text = serde_json::to_string(&fresh).unwrap();
        assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), fresh);
    }
}
