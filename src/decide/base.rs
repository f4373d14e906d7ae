//! Whether a base has to be tried before an agent starts, and what it holds meanwhile (ORD-1).

use crate::model::base::{Base, BaseState, Unseen};
use crate::model::report::Rule;

/// What to do about a base before a first job is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is green: agents may start.
    Go,
    /// It is being tried, or was tried and is not due again.
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
        // A clock that was set back must not hold anything for long.
        BaseState::Red | BaseState::Environment | BaseState::Untried
            if last.next_at > now_ms && last.since <= now_ms =>
        {
            Next::Wait
        }
        BaseState::Red | BaseState::Environment | BaseState::Untried => Next::Try,
        BaseState::Running => Next::Wait,
    }
}

/// Why a base holds first jobs; `None`: it does not. The time is that of the next try or check. A base of which nothing
/// is known holds, and so does one that could not be checked since.
pub fn holds(base: Option<&Base>, unseen: Option<&Unseen>, name: &str) -> Option<(Rule, String, Option<i64>)> {
    if let Some(unseen) = unseen {
        let why = format!("the base of {name} can't be checked: {}; it is retried automatically", unseen.why);
        return Some((Rule::BasePending, why, Some(unseen.next_at)));
    }
    let yet = || format!("the base of {name} has not been checked yet");
    let Some(base) = base else { return Some((Rule::BasePending, yet(), None)) };
    let at = base.commit.short();
    let again = Some(base.next_at).filter(|at| *at > base.since);
    match base.state {
        BaseState::Green | BaseState::NotApplicable => None,
        BaseState::Running => Some((Rule::BasePending, format!("the base check of {name} runs first, at {at}"), None)),
        BaseState::Untried => Some((Rule::BasePending, yet(), again)),
        BaseState::Red => {
            let why = format!("the base of {name} is red at {at}: {}; `orch logs --base {name}` has the log", base.why);
            Some((Rule::BaseRed, why, again))
        }
        BaseState::Environment => {
            let why = format!("the base of {name} can't be checked here: {}; install or fix what is named", base.why);
            Some((Rule::Environment, why, again))
        }
    }
}

/// What follows from a red CI at `red_at` (ORD-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedCi {
    /// The fault is the task's own: it spends an attempt.
    Counts,
    /// The base has to be tried once more.
    TryBase,
    /// The base is red as well: the machine has changed.
    Machine,
}

/// `no_program`: setup or CI could not be started, or exited with 126 or 127. `recheck_ms`: how long a verdict is
/// valid.
pub fn red_ci(base: Option<&Base>, no_program: bool, red_at: i64, now_ms: i64, recheck_ms: i64) -> RedCi {
    let Some(base) = base.filter(|b| b.state.is_verdict()) else { return RedCi::TryBase };
    let since_red = base.since >= red_at;
    // A clock that was set back does not make a verdict from the future any younger.
    let fresh = since_red || (0..=recheck_ms).contains(&(now_ms - base.since));
    match base.state {
        BaseState::Red | BaseState::Environment if fresh => RedCi::Machine,
        BaseState::Green if since_red || (fresh && !no_program) => RedCi::Counts,
        BaseState::Green
        | BaseState::Red
        | BaseState::Environment
        | BaseState::Untried
        | BaseState::Running
        | BaseState::NotApplicable => RedCi::TryBase,
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
            ruled_out_at: 0,
            alerted: false,
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
        let rule = |state| holds(Some(&base(state)), None, "demo").map(|(rule, ..)| rule);
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

    #[test]
    fn ord_1_a_base_that_nothing_is_known_of_holds_and_so_does_one_that_can_not_be_checked() {
        let pending = |b: Option<&Base>, u: Option<&Unseen>| holds(b, u, "demo").map(|(rule, why, at)| (rule, at, why));
        let (rule, at, _) = pending(None, None).unwrap();
        assert_eq!((rule, at), (Rule::BasePending, None));
        let unseen = Unseen { why: "no route to host".to_owned(), since: 1, next_at: 9, failed: 1 };
        let (rule, at, why) = pending(Some(&base(BaseState::Green)), Some(&unseen)).unwrap();
        assert_eq!((rule, at), (Rule::BasePending, Some(9)), "it was green before the look that failed");
        assert!(why.contains("no route to host"), "{why}");
    }

    #[test]
    fn ord_1_a_red_ci_counts_once_a_fresh_base_is_green_and_never_while_the_base_is_red() {
        use BaseState as S;
        let of = |state, since, no_program, now| {
            let b = Base { since, ..base(state) };
            red_ci(Some(&b), no_program, 10_000, now, 600)
        };
        assert_eq!(red_ci(None, false, 10_000, 10_000, 600), RedCi::TryBase);
        for (state, since, no_program, now, want) in [
            (S::Green, 9_500, false, 10_000, RedCi::Counts),
            (S::Green, 9_500, true, 10_000, RedCi::TryBase),
            (S::Green, 9_000, false, 10_000, RedCi::TryBase),
            (S::Green, 10_500, true, 11_000, RedCi::Counts),
            (S::Green, 10_500, true, 99_000, RedCi::Counts),
            (S::Red, 10_500, false, 11_000, RedCi::Machine),
            (S::Environment, 10_500, true, 11_000, RedCi::Machine),
            (S::Red, 9_500, false, 10_000, RedCi::Machine),
            (S::Red, 9_000, false, 10_000, RedCi::TryBase),
            (S::Running, 10_500, false, 11_000, RedCi::TryBase),
            (S::Untried, 10_500, false, 11_000, RedCi::TryBase),
            (S::Green, 99_000, false, 9_000, RedCi::Counts),
        ] {
            assert_eq!(of(state, since, no_program, now), want, "{state} since {since}, now {now}");
        }
    }
}
