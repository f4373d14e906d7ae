//! Whether a repository's base has to be tried before an agent starts, and what it holds meanwhile (ORD-1).

use crate::model::base::{Base, BaseState};
use crate::model::report::Rule;

/// What is to be done about a base before a first job is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It holds: agents may start.
    Go,
    /// It is being tried, or was and is not due again.
    Wait,
    Try,
}

/// `tree`, `config`: the base and the settings as they are now. `passed`: this tree passed under these settings before.
pub fn next(last: Option<&Base>, tree: &str, config: &str, passed: bool, now_ms: i64) -> Next {
    let Some(last) = last else { return if passed { Next::Go } else { Next::Try } };
    if last.state == BaseState::Running {
        return Next::Wait;
    }
    if passed {
        return Next::Go;
    }
    if last.tree != tree || last.config != config {
        return Next::Try;
    }
    match last.state {
        BaseState::Green | BaseState::NotApplicable => Next::Go,
        // A clock that was set back must hold nothing for long.
        BaseState::Red | BaseState::Environment | BaseState::Untried
            if last.next_at > now_ms && last.since <= now_ms =>
        {
            Next::Wait
        }
        BaseState::Red | BaseState::Environment | BaseState::Untried => Next::Try,
        BaseState::Running => Next::Wait,
    }
}

/// What a base holds first jobs by; `None`: nothing. The time is when it is tried again.
pub fn holds(base: &Base, repo: &str) -> Option<(Rule, String, Option<i64>)> {
    let at = base.commit.short();
    let again = Some(base.next_at).filter(|at| *at > base.since);
    match base.state {
        BaseState::Green | BaseState::NotApplicable => None,
        BaseState::Running => Some((Rule::BasePending, format!("the base of {repo} is tried first, at {at}"), None)),
        BaseState::Untried => Some((Rule::BasePending, format!("the base of {repo} has yet to be tried"), again)),
        BaseState::Red => {
            let why = format!("the base of {repo} is red at {at}: {}; `orch logs --base {repo}` has the log", base.why);
            Some((Rule::BaseRed, why, again))
        }
        BaseState::Environment => {
            let why = format!("the base of {repo} can't be tried here: {}; install or fix what is named", base.why);
            Some((Rule::Environment, why, again))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Sha;

    fn base(state: BaseState) -> Base {
        Base {
            commit: Sha::parse(&"a".repeat(40)).unwrap(),
            tree: "T".to_owned(),
            config: "c".to_owned(),
            state,
            since: 1000,
            why: "ci.command: exit 1".to_owned(),
            lines: vec![],
            next_at: 5000,
            failed: 0,
            token: String::new(),
            owner: None,
            told_no: 0,
            told: false,
        }
    }

    #[test]
    fn ord_1_a_base_is_tried_once_for_its_tree_and_settings_and_again_when_due() {
        use BaseState as S;
        assert_eq!(next(None, "T", "c", false, 2000), Next::Try);
        assert_eq!(next(None, "T", "c", true, 2000), Next::Go, "it passed at the merge gate");
        for (state, early, due) in [
            (S::Running, Next::Wait, Next::Wait),
            (S::Green, Next::Go, Next::Go),
            (S::NotApplicable, Next::Go, Next::Go),
            (S::Red, Next::Wait, Next::Try),
            (S::Environment, Next::Wait, Next::Try),
            (S::Untried, Next::Wait, Next::Try),
        ] {
            let b = base(state);
            assert_eq!(next(Some(&b), "T", "c", false, 2000), early, "{state}");
            assert_eq!(next(Some(&b), "T", "c", false, 5000), due, "{state}");
            assert_eq!(next(Some(&b), "T", "c", false, 999), due, "{state}: the clock was set back");
            let changed = if state == S::Running { Next::Wait } else { Next::Try };
            assert_eq!(next(Some(&b), "U", "c", false, 2000), changed, "{state}: the base moved");
            assert_eq!(next(Some(&b), "T", "d", false, 2000), changed, "{state}: the settings changed");
            let passed = if state == S::Running { Next::Wait } else { Next::Go };
            assert_eq!(next(Some(&b), "U", "c", true, 2000), passed, "{state}");
        }
    }

    #[test]
    fn ord_1_what_is_not_green_holds_by_its_own_rule() {
        use BaseState as S;
        let rule = |state| holds(&base(state), "demo").map(|(rule, ..)| rule);
        assert_eq!(
            S::ALL.iter().map(|s| rule(*s)).collect::<Vec<_>>(),
            [
                Some(Rule::BasePending),
                Some(Rule::BasePending),
                None,
                Some(Rule::BaseRed),
                Some(Rule::Environment),
                None
            ]
        );
    }
}
