//! Pushes. Forced ones always name the commit they replace; the result is read from git's porcelain output (7.3).

use super::cmd::{GitError, Result};
use super::mirror::{Mirror, checked};
use crate::model::fault::Access;
use crate::model::ids::Sha;

/// The remote's answer to a push. If no answer arrived, it is `GitError::Timeout` or `Unreachable`, and only
/// `remote_head` shows what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushOutcome {
    /// This push created the branch (`*`): the branch is ours (RULE-11).
    Created,
    /// It already existed (`=`); says nothing about who made it.
    Same,
    Updated,
    /// `moved`: the branch was not where we expected it (stale lease, no fast-forward, lost race): read it again and
    /// decide. Otherwise the server refused (hook, protection).
    Rejected {
        reason: String,
        moved: bool,
    },
}

/// The result of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteOutcome {
    Deleted,
    /// It did not exist.
    Gone,
    /// It is at another commit than expected, or the server refused: kept.
    Kept {
        reason: String,
    },
}

impl Mirror {
    /// Creates a branch that must not exist yet, with an empty lease (RULE-11). An equal branch of somebody else gives
    /// `Same`.
    pub fn push_new_branch(&self, branch: &str, sha: &Sha) -> Result<PushOutcome> {
        self.push_spec(branch, Some(sha), Some(""))
    }

    /// Whether the remote lets this account push at all: starts a push but sends nothing. Protections of single
    /// branches are not checked. Fails with `Refused` or `Unreachable`.
    pub fn may_push(&self) -> Result<()> {
        // Deleting a branch with an impossible name needs no object and has no effect.
        let cmd = self.remote_cmd().args(["push", "--dry-run", "--porcelain", "--no-follow-tags"]);
        let done = cmd.args(["origin", ":refs/heads/orch/no-such-branch"]).run()?;
        // The remote answered: no such branch.
        if done.code <= 1 && done.stderr.contains("remote ref does not exist") || done.code == 0 {
            return Ok(());
        }
        Err(done.remote_error())
    }

    /// A plain push, never forced.
    pub fn push(&self, branch: &str, sha: &Sha) -> Result<PushOutcome> {
        let outcome = self.push_spec(branch, Some(sha), None)?;
        self.judged(branch, sha, None, outcome)
    }

    /// Replaces the branch if it is still at `expected`.
    pub fn push_with_lease(&self, branch: &str, sha: &Sha, expected: &Sha) -> Result<PushOutcome> {
        let outcome = self.push_spec(branch, Some(sha), Some(expected.as_str()))?;
        self.judged(branch, sha, Some(expected), outcome)
    }

    /// Whether a branch moved is decided by the remote's heads, not by its words: a server without forced pushes says
    /// `non-fast-forward` about a branch that did not move, and would be retried for ever.
    fn judged(&self, branch: &str, sha: &Sha, expected: Option<&Sha>, outcome: PushOutcome) -> Result<PushOutcome> {
        let PushOutcome::Rejected { reason, moved: true } = outcome else { return Ok(outcome) };
        let unmoved = match (self.remote_head(branch)?, expected) {
            (Some(now), Some(expected)) => now == *expected,
            (Some(now), None) => self.is_ancestor(&now, sha).unwrap_or(false),
            (None, _) => false,
        };
        Ok(PushOutcome::Rejected { reason, moved: !unmoved })
    }

    /// Lands a tested commit: a fast-forward of the default branch, rejected if that has moved from `expected_base`
    /// (RULE-31). Fails with `Rejected` if `sha` does not contain `expected_base`.
    pub fn land(&self, default_branch: &str, sha: &Sha, expected_base: &Sha) -> Result<PushOutcome> {
        if !self.is_ancestor(expected_base, sha)? {
            return Err(GitError::Rejected {
                reason: format!(
                    "{} does not contain {}, the base it was tested on",
                    sha.short(),
                    expected_base.short()
                ),
            });
        }
        self.push_with_lease(default_branch, sha, expected_base)
    }

    /// Deletes a task's branch if it is still at `expected`; never the default branch.
    pub fn delete_branch(&self, branch: &str, expected: &Sha, default_branch: &str) -> Result<DeleteOutcome> {
        if branch == default_branch {
            return Err(GitError::Rejected { reason: format!("{branch} is the default branch and is never deleted") });
        }
        match self.remote_head(branch)? {
            None => return Ok(DeleteOutcome::Gone),
            Some(head) if head != *expected => {
                return Ok(DeleteOutcome::Kept {
                    reason: format!("it is at {}, not at {}", head.short(), expected.short()),
                });
            }
            Some(_) => {}
        }
        match self.push_spec(branch, None, Some(expected.as_str()))? {
            PushOutcome::Created | PushOutcome::Same | PushOutcome::Updated => Ok(DeleteOutcome::Deleted),
            PushOutcome::Rejected { reason, .. } => match self.remote_head(branch)? {
                None => Ok(DeleteOutcome::Gone),
                Some(_) => Ok(DeleteOutcome::Kept { reason }),
            },
        }
    }

    /// `sha`: `None` deletes the branch.
    fn push_spec(&self, branch: &str, sha: Option<&Sha>, lease: Option<&str>) -> Result<PushOutcome> {
        checked(branch)?;
        self.unknown(branch);
        let lock = self.locked()?;
        let mut cmd = self.remote_cmd().args(["push", "--porcelain", "--no-follow-tags", "--recurse-submodules=no"]);
        if let Some(expected) = lease {
            cmd = cmd.arg(format!("--force-with-lease=refs/heads/{branch}:{expected}"));
        }
        let done = cmd
            .args(["origin", &format!("{}:refs/heads/{branch}", sha.map_or("", Sha::as_str))])
            .lock(lock.file())
            .run()?;
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        match read_porcelain(&text, &format!("refs/heads/{branch}")) {
            // The push may have succeeded without git getting the answer.
            Some(PushOutcome::Rejected { reason, .. }) if reason.starts_with("[remote failure]") => {
                let (what, how) = (format!("push to {branch}"), super::refusal::unreached(&done.stderr));
                Err(GitError::Unreachable { what, access: Access::Push, how, reason })
            }
            Some(PushOutcome::Rejected { reason, moved }) if done.code <= 1 => {
                let reason = [reason, remote_words(&done.stderr)].into_iter().filter(|t| !t.is_empty());
                Ok(PushOutcome::Rejected { reason: reason.collect::<Vec<_>>().join(": "), moved })
            }
            Some(outcome) if done.code <= 1 => {
                if !matches!(outcome, PushOutcome::Rejected { .. }) {
                    self.answered(branch, sha);
                }
                Ok(outcome)
            }
            // A transport that breaks after the refs were sent may still print lines: the outcome is unknown.
            Some(_) | None => Err(done.remote_error()),
        }
    }
}

fn read_porcelain(text: &str, name: &str) -> Option<PushOutcome> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, '\t');
        let (flag, refs, summary) = (parts.next()?, parts.next()?, parts.next().unwrap_or(""));
        if refs.rsplit_once(':')?.1 != name {
            return None;
        }
        match flag {
            "*" => Some(PushOutcome::Created),
            "=" => Some(PushOutcome::Same),
            " " | "+" | "-" => Some(PushOutcome::Updated),
            "!" => {
                let moved = [
                    "stale info",
                    "non-fast-forward",
                    "fetch first",
                    "failed to update ref",
                    "cannot lock ref",
                    "failed to lock",
                    "already exists",
                    "needs force",
                    "reference already exists",
                ];
                let moved = moved.iter().any(|m| summary.contains(m)) && !summary.contains("declined");
                Some(PushOutcome::Rejected { reason: super::cmd::scrub(summary), moved })
            }
            _ => None,
        }
    })
}

/// The server's own words (a hook, a protection): git's summary names no cause. On one line, each sentence once.
fn remote_words(stderr: &str) -> String {
    let mut said: Vec<&str> = Vec::new();
    for line in stderr.lines().filter_map(|l| l.strip_prefix("remote:")).map(str::trim) {
        if !line.is_empty() && !said.contains(&line) {
            said.push(line);
        }
    }
    said.join("; ").chars().filter(|c| !c.is_control()).take(300).collect()
}

/// See `fuzzing`.
pub(super) fn fuzz(text: &str) {
    read_porcelain(text, "refs/heads/a");
    remote_words(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_said_is_shown_once_on_one_line() {
        let seen = "remote: \nremote: Gitea: Not allowed to push to protected branch main        \n\
                    remote: Gitea: Not allowed to push to protected branch main        \nTo http://h/x\nremote: see \u{1b}[1mhelp\n";
        assert_eq!(remote_words(seen), "Gitea: Not allowed to push to protected branch main; see [1mhelp");
        assert_eq!(remote_words("error: failed to push some refs"), "");
    }

    #[test]
    fn each_porcelain_flag_has_its_meaning() {
        let read = |line: &str| read_porcelain(&format!("To /x\n{line}\nDone\n"), "refs/heads/b");
        assert_eq!(read("*\tabc:refs/heads/b\t[new branch]"), Some(PushOutcome::Created));
        assert_eq!(read("=\tabc:refs/heads/b\t[up to date]"), Some(PushOutcome::Same));
        assert_eq!(read(" \tabc:refs/heads/b\ta..b"), Some(PushOutcome::Updated));
        assert_eq!(read("+\tabc:refs/heads/b\ta...b (forced update)"), Some(PushOutcome::Updated));
        assert_eq!(read("*\tabc:refs/heads/other\t[new branch]"), None);
        let moved = |line: &str| matches!(read(line), Some(PushOutcome::Rejected { moved: true, .. }));
        assert!(moved("!\tabc:refs/heads/b\t[rejected] (stale info)"));
        assert!(moved("!\tabc:refs/heads/b\t[remote rejected] (failed to update ref)"));
        assert!(!moved("!\tabc:refs/heads/b\t[remote rejected] (pre-receive hook declined)"));
    }
}
