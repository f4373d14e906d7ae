//! The merge (services §2.4). The forge's answer is a hint; what counts is what is on the base afterwards (RULE-5).

use super::{Gitea, MergeVia, wire};
use crate::adapters::forge::merge_state::{MergeState, again, conflict};
use crate::adapters::forge::{Awaited, Forge, ForgeError, Landing, MergeOutcome};
use crate::adapters::git::cmd::GitError;
use crate::adapters::git::{MergeMethod, Mirror, PushOutcome};
use crate::adapters::http::{Fault, HttpError, Method, Request};
use crate::model::ci;
use serde_json::json;

type Result<T> = std::result::Result<T, ForgeError>;

/// The answer to the attempt itself.
enum Answer {
    Status(u16),
    Failed(HttpError),
    Pushed(PushOutcome),
    NotPushed(GitError),
}

impl Gitea {
    /// See `Forge::merge`.
    pub fn merge(&self, mirror: &Mirror, number: i64, landing: &Landing<'_>) -> Result<MergeOutcome> {
        // Right before the merge: old servers ignore `head_commit_id`, and none guards the base.
        if let Some(outcome) = self.merge_state(mirror, number, landing)?.settled(landing)? {
            return Ok(outcome);
        }
        let answer = match self.via {
            MergeVia::Forge => self.ask(number, landing, self.style(mirror, landing)?),
            MergeVia::Push => match mirror.land(landing.default_branch, landing.head, landing.expected_base) {
                Ok(outcome) => Answer::Pushed(outcome),
                Err(e) => Answer::NotPushed(e),
            },
        };
        let merge_state =
            self.merge_state(mirror, number, landing).and_then(|merge_state| merge_state.settled(landing));
        match again(&answer, merge_state)? {
            Some(outcome) => Ok(outcome),
            None => self.judge(mirror, landing, answer),
        }
    }

    /// The server's rebase drops merge commits and what was resolved in them (RULE-30): such a branch is merged.
    fn style(&self, mirror: &Mirror, landing: &Landing<'_>) -> Result<MergeMethod> {
        let rebase = self.method == MergeMethod::Rebase;
        let merge = rebase && mirror.has_merge_commit(landing.expected_base, landing.head)?;
        Ok(if merge { MergeMethod::Merge } else { self.method })
    }

    fn ask(&self, number: i64, landing: &Landing<'_>, style: MergeMethod) -> Answer {
        let (title, message) = landing.message.split_once('\n').unwrap_or((landing.message, ""));
        let body = json!({
            "Do": wire::method(style),
            "head_commit_id": landing.head.as_str(),
            "MergeTitleField": title.trim(),
            "MergeMessageField": message.trim(),
            // Explicit: otherwise newer servers use the repository's own default.
            "delete_branch_after_merge": false,
        });
        let path = self.at(&format!("pulls/{number}/merge"));
        match self.http.send(&Request::new(Method::Post, &path).json(&body).timeout(self.merge_timeout)) {
            Ok(reply) => Answer::Status(reply.status),
            Err(e) => Answer::Failed(e),
        }
    }

    fn merge_state(&self, mirror: &Mirror, number: i64, landing: &Landing<'_>) -> Result<MergeState> {
        MergeState::take(&|| self.pull(number), mirror, landing)
    }

    /// Not landed, head and base unchanged, the pull request open: only now the words of the answer count.
    fn judge(&self, mirror: &Mirror, landing: &Landing<'_>, answer: Answer) -> Result<MergeOutcome> {
        let not_yet = |reason: &str| Ok(MergeOutcome::NotYet { reason: reason.to_owned() });
        let e = match answer {
            Answer::Status(201) => {
                let reason = "the forge scheduled an automatic merge that orch did not request; cancel it there";
                return Ok(MergeOutcome::Refused { reason: reason.to_owned() });
            }
            Answer::Status(_) => return not_yet("the forge reports a merge, but the base did not move"),
            Answer::Pushed(PushOutcome::Created | PushOutcome::Same | PushOutcome::Updated) => {
                return not_yet("the push was accepted, but the base did not move");
            }
            Answer::Pushed(PushOutcome::Rejected { reason, moved: true }) => return not_yet(&reason),
            Answer::Pushed(PushOutcome::Rejected { reason, moved: false }) => {
                return Ok(MergeOutcome::Refused { reason });
            }
            Answer::NotPushed(e) => return Err(e.into()),
            Answer::Failed(e) => e,
        };
        if e.fault != Fault::Status {
            // The server may still be working on it.
            return Err(wire::error(e));
        }
        let said = self.http.redact(&wire::message(&e));
        let low = said.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|w| low.contains(w));
        let refused = |said: String| {
            let reason = if said.is_empty() { e.to_string() } else { said };
            Ok(MergeOutcome::Refused { reason })
        };
        match e.status {
            // The answer both while it computes and on a conflict.
            Some(405) if has(&["try again later"]) => match conflict(mirror, landing)? {
                Some(paths) => Ok(MergeOutcome::Conflict { paths }),
                None => not_yet(&said),
            },
            // "Already merged" has no words, and is ruled out: the state was just read.
            Some(405) if said.is_empty() => not_yet("the forge refuses without giving a reason"),
            Some(405) if has(&["behind the base"]) => not_yet(&said),
            Some(405) => match wire::awaited(&low) {
                Some(what) => {
                    let said = self.awaited_in_full(landing, what, said);
                    Ok(MergeOutcome::Awaits { what, said })
                }
                None => refused(said),
            },
            // A hook may print anything, these words included: if its text can be recognised, it is bare.
            Some(409) if wire::is_bare_text(&e) => refused(said),
            Some(409) if low == "head out of date" || has(&["sha does not match"]) => Ok(MergeOutcome::HeadMoved),
            Some(409) if wire::is_conflict_object(&e) => {
                Ok(MergeOutcome::Conflict { paths: conflict(mirror, landing)?.unwrap_or_default() })
            }
            Some(409) if has(&["push out of date", "cannot lock ref"]) => not_yet(&said),
            Some(409) => match conflict(mirror, landing)? {
                Some(paths) => Ok(MergeOutcome::Conflict { paths }),
                // A hook, or an automatic merge that somebody scheduled.
                None => refused(said),
            },
            // Open when it was read, and yet not there to merge: no right to see or do it.
            Some(404) => refused(format!("the forge does not let this account merge it ({e})")),
            // A complete answer, and nothing happened.
            Some(408 | 425 | 500..) => Err(ForgeError::Transient(e.to_string())),
            _ => Err(wire::error(e)),
        }
    }
}

impl Gitea {
    /// The server answers the same for missing, pending and red statuses: the head shows which it is.
    fn awaited_in_full(&self, landing: &Landing<'_>, what: Awaited, said: String) -> String {
        if what != Awaited::Checks {
            return said;
        }
        let read = self.protection(landing.default_branch).and_then(|p| Ok((p, self.statuses(landing.head)?)));
        match read {
            Ok((rule, on_head)) => {
                let asked = rule.required_contexts.join(", ");
                let asked = if asked.is_empty() { String::new() } else { format!(" it asks for {asked};") };
                format!("{said};{asked} {}", ci::on_head(&on_head))
            }
            // It waits whatever else is known.
            Err(_) => said,
        }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the merge was answered {status}"),
            Self::Failed(e) => write!(f, "{e}"),
            Self::Pushed(_) => f.write_str("the push was answered"),
            Self::NotPushed(e) => write!(f, "{e}"),
        }
    }
}
