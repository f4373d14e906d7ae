//! Commit statuses and what they add up to (SHIP-2, RULE-2).

use super::stage::words;
use super::text::clip;
use std::collections::BTreeMap;

/// At most this many contexts are named in a sentence.
const NAMED: usize = 10;

words! {
    /// One commit status as a forge reports it; `warning`, `skipped` and `neutral` are not success (SHIP-2).
    StatusState {
        Pending = "pending", Success = "success", Error = "error", Failure = "failure", Warning = "warning",
        Skipped = "skipped", Neutral = "neutral", Unknown = "unknown",
    }
}

words! {
    /// A conclusion of a check that is neither success nor failure, and passes where `ci.accept` names it (GH-1).
    Accepted { Neutral = "neutral", Skipped = "skipped" }
}

impl Accepted {
    pub fn state(self) -> StatusState {
        match self {
            Self::Neutral => StatusState::Neutral,
            Self::Skipped => StatusState::Skipped,
        }
    }
}

/// What a check run has in addition to a posted status (GH-1): several with one name may count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckRun {
    /// Which app runs it; 0: unknown.
    pub app: u64,
    /// Milliseconds since the epoch by the forge's clock; 0: unknown.
    pub started_ms: i64,
    /// Set once it has ended.
    pub completed_ms: Option<i64>,
}

impl CheckRun {
    /// Whether a later run of the same app supersedes this one: it started after this one had ended.
    pub fn superseded_by(&self, other: &Self) -> bool {
        self.app == other.app && self.completed_ms.is_some_and(|end| other.started_ms > 0 && other.started_ms > end)
    }
}

/// The newest status of one context of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitStatus {
    /// Grows with each post: the newest per context counts.
    pub id: u64,
    pub context: String,
    pub state: StatusState,
    pub description: String,
    pub target_url: String,
    /// `None`: a posted status, of which the newest of a context counts.
    pub run: Option<CheckRun>,
}

/// What the statuses of exactly one commit say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CiAnswer {
    Green,
    /// The contexts that failed, sorted.
    Red {
        contexts: Vec<String>,
    },
    /// The contexts without an answer that counts, sorted: absent, pending, or ended as neither success nor failure.
    Pending {
        missing: Vec<String>,
    },
}

/// Which contexts a commit has, each with its newest state, as a wait reports them (RULE-2); `orch`'s own are left out.
/// At most ten are named.
pub fn on_head(statuses: &[CommitStatus]) -> String {
    let mut newest: BTreeMap<&str, &CommitStatus> = BTreeMap::new();
    for status in statuses.iter().filter(|s| !is_own(&s.context)) {
        let known = newest.entry(status.context.as_str()).or_insert(status);
        if status.id >= known.id {
            *known = status;
        }
    }
    if newest.is_empty() {
        return "the head has no status yet".to_owned();
    }
    let named: Vec<String> = newest.iter().take(NAMED).map(|(c, s)| format!("{} ({})", clip(c, 80), s.state)).collect();
    let more = newest.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("the head has {}{more}", named.join(", "))
}

/// Whether a status's name is that of what a forge's Actions ran for a push: a pull request's head need not get it.
pub fn is_of_push(context: &str) -> bool {
    context.ends_with(" (push)")
}

/// Whether a context is `orch`'s own: such a status never enters the roll-up, or `orch` would judge itself.
pub fn is_own(context: &str) -> bool {
    context.split('/').next().is_some_and(|first| first.trim().eq_ignore_ascii_case("orch"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heads_contexts_are_named_by_their_newest_state_without_ours_and_bounded() {
        let one = |id: u64, context: &str, state| CommitStatus {
            id,
            context: context.to_owned(),
            state,
            description: String::new(),
            target_url: String::new(),
            run: None,
        };
        let list = [
            one(2, "b", StatusState::Success),
            one(1, "b", StatusState::Failure),
            one(3, "a", StatusState::Pending),
            one(4, "orch/review", StatusState::Failure),
        ];
        assert_eq!(on_head(&list), "the head has a (pending), b (success)");
        assert_eq!(on_head(&list[3..]), "the head has no status yet");
        let many: Vec<_> =
            (0..30).map(|n| one(n, &format!("{n:02}{}", "x".repeat(500)), StatusState::Success)).collect();
        let said = on_head(&many);
        assert!(said.ends_with("and 20 more") && said.len() < 1200, "{said}");
    }
}
