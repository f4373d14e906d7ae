//! The merge (services-github §4.4). GitHub's answer is a hint; what counts is what is on the base afterwards (RULE-5).

use super::client::without_closing;
use super::{Github, wire};
use crate::adapters::forge::merge_state::{MergeState, again, conflict};
use crate::adapters::forge::{Awaited, Forge, ForgeError, Landing, MergeOutcome, MergeVia, StatusState};
use crate::adapters::git::cmd::GitError;
use crate::adapters::git::{MergeMethod, Mirror, PushOutcome};
use crate::adapters::github::{Failure, flag, said};
use crate::adapters::http::{Fault, Method, Request};
use crate::model::ci;
use crate::model::ids::Sha;
use crate::model::rules::Rules;
use serde_json::json;

type Result<T> = std::result::Result<T, ForgeError>;

/// The answer to the attempt itself.
enum Answer {
    Merged,
    Failed(Failure),
    Pushed(PushOutcome),
    NotPushed(GitError),
}

impl Github {
    /// See `Forge::merge`.
    pub fn merge(&self, mirror: &Mirror, number: i64, landing: &Landing<'_>) -> Result<MergeOutcome> {
        let merge_state = || {
            MergeState::take(&|| self.pull(number), mirror, landing)
                .and_then(|merge_state| merge_state.settled(landing))
        };
        // Right before the merge: `sha` guards the head, and nothing guards the base.
        if let Some(outcome) = merge_state()? {
            return Ok(outcome);
        }
        let answer = match self.via {
            MergeVia::Forge => {
                self.mark_ready(number)?;
                self.ask(number, landing, self.style(mirror, landing)?)
            }
            MergeVia::Push => match mirror.land(landing.default_branch, landing.head, landing.expected_base) {
                Ok(outcome) => Answer::Pushed(outcome),
                Err(e) => Answer::NotPushed(e),
            },
        };
        match again(&answer, merge_state())? {
            Some(outcome) => Ok(outcome),
            None => self.judge(mirror, number, landing, answer),
        }
    }

    /// A rebase drops merge commits and what was resolved in them (RULE-30): such a branch is merged.
    fn style(&self, mirror: &Mirror, landing: &Landing<'_>) -> Result<MergeMethod> {
        let rebase = self.method == MergeMethod::Rebase;
        let merge = rebase && mirror.has_merge_commit(landing.expected_base, landing.head)?;
        Ok(if merge { MergeMethod::Merge } else { self.method })
    }

    fn ask(&self, number: i64, landing: &Landing<'_>, style: MergeMethod) -> Answer {
        let message = without_closing(landing.message);
        let (title, message) = message.split_once('\n').unwrap_or((&message, ""));
        let body = json!({
            "sha": landing.head.as_str(),
            "merge_method": wire::method(style),
            "commit_title": title.trim(),
            "commit_message": message.trim(),
        });
        let path = self.at(&format!("pulls/{number}/merge"));
        match self.api.send(&Request::new(Method::Put, &path).json(&body).timeout(self.merge_timeout)) {
            Ok(_) => Answer::Merged,
            Err(e) => Answer::Failed(e),
        }
    }

    /// Not landed, head and base unchanged, the pull request open: only now the words of the answer count.
    fn judge(&self, mirror: &Mirror, number: i64, landing: &Landing<'_>, answer: Answer) -> Result<MergeOutcome> {
        let not_yet = |reason: &str| Ok(MergeOutcome::NotYet { reason: reason.to_owned() });
        let e = match answer {
            Answer::Merged => return not_yet("the forge reports a merge, but the base did not move"),
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
        if e.http.fault != Fault::Status {
            // The server may still be working on it.
            return Err(wire::error(e));
        }
        let words = self.api.redact(&said(&e.http));
        let words = if words.is_empty() { e.to_string() } else { words };
        match e.http.status {
            Some(405) => self.not_mergeable(mirror, number, landing, words),
            // The head was just seen to be the tested one: the forge lags behind.
            Some(409) => match conflict(mirror, landing)? {
                Some(paths) => Ok(MergeOutcome::Conflict { paths }),
                None => not_yet(&words),
            },
            // Open when it was read, and yet not there to merge: no right to see or do it.
            Some(404) => {
                Ok(MergeOutcome::Refused { reason: format!("the forge does not let this account merge it ({words})") })
            }
            // A complete answer, and nothing happened.
            Some(408 | 425 | 500..) => Err(ForgeError::Transient(e.to_string())),
            _ => Err(wire::error(e)),
        }
    }

    /// Why a merge was answered 405: from the pull request and the rules, not from the words.
    fn not_mergeable(&self, mirror: &Mirror, number: i64, landing: &Landing<'_>, said: String) -> Result<MergeOutcome> {
        let Some(pull) = self.whole(number)? else {
            return Ok(MergeOutcome::Withdrawn { reason: "the pull request is gone".to_owned() });
        };
        if pull.draft {
            return Ok(MergeOutcome::Awaits { what: Awaited::Draft, said });
        }
        if let Some(paths) = conflict(mirror, landing)? {
            return Ok(MergeOutcome::Conflict { paths });
        }
        // Still being computed, or a recent answer that is out of date.
        if pull.mergeable.is_none() || ["behind", "unknown"].contains(&pull.state.as_str()) {
            return Ok(MergeOutcome::NotYet { reason: said });
        }
        let rules = self.rules_of(landing.default_branch)?;
        if let Some(what) = self.unmet(&rules, landing.head)? {
            let said = self.in_full(landing, &rules, what, said);
            return Ok(MergeOutcome::Awaits { what, said });
        }
        let method = wire::method(self.method);
        let switch = flag(&self.get(&self.repo)?, wire::method_switch(self.method));
        if switch == Some(false) || !rules.methods.is_empty() && !rules.methods.iter().any(|m| m == method) {
            return Ok(MergeOutcome::Refused { reason: format!("{said} (merge.method is {method})") });
        }
        // Classic protection can't be read; all that is known is that the forge blocks it.
        if pull.state == "blocked" {
            return Ok(MergeOutcome::Awaits { what: Awaited::Rule, said });
        }
        Ok(MergeOutcome::NotYet { reason: said })
    }

    /// Which of the branch's rules are not met, as far as it can be known; what orch can't satisfy is named first.
    pub(super) fn unmet(&self, rules: &Rules, head: &Sha) -> Result<Option<Awaited>> {
        if !rules.checks.is_empty() {
            let read = self.statuses(head)?;
            let passes = |name: &str| {
                let mut of = read.iter().filter(|s| s.context == name).peekable();
                // The forge accepts all three.
                let good = |s: &ci::CommitStatus| {
                    matches!(s.state, StatusState::Success | StatusState::Neutral | StatusState::Skipped)
                };
                of.peek().is_some() && of.any(good)
            };
            if rules.checks.iter().any(|(name, _)| !passes(name)) {
                return Ok(Some(Awaited::Checks));
            }
        }
        let table = [
            (rules.code_owners, Awaited::CodeOwners),
            (rules.approvals > 0, Awaited::Approval),
            (rules.review, Awaited::Review),
            (rules.signatures, Awaited::Signature),
            (rules.deployments, Awaited::Deployments),
        ];
        Ok(table.iter().find(|(asked, _)| *asked).map(|(_, what)| *what))
    }

    /// The forge's words with the rule's names, and for checks with their state on the head.
    fn in_full(&self, landing: &Landing<'_>, rules: &Rules, what: Awaited, said: String) -> String {
        if what != Awaited::Checks {
            return format!("{said} (rules of {}: {})", landing.default_branch, rules.types.join(", "));
        }
        let asked: Vec<&str> = rules.checks.iter().map(|(name, _)| name.as_str()).collect();
        match self.statuses(landing.head) {
            Ok(on_head) => format!("{said}; it asks for {}; {}", asked.join(", "), ci::on_head(&on_head)),
            // It waits whatever else is known.
            Err(_) => said,
        }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Merged => f.write_str("the merge was answered 200"),
            Self::Failed(e) => write!(f, "{e}"),
            Self::Pushed(_) => f.write_str("the push was answered"),
            Self::NotPushed(e) => write!(f, "{e}"),
        }
    }
}
