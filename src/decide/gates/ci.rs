//! `ci_green` on a remote forge: the roll-up of raw statuses (SHIP-2, RULE-2).

use crate::model::ci::{Accepted, CiAnswer, CommitStatus, StatusState, is_own};
use std::collections::BTreeMap;

/// The placeholder for the contexts where CI is required and none is named.
pub const NONE_NAMED: &str = "ci.contexts";

/// Rolls up the statuses of one commit. `contexts` are the names in `ci.contexts`; with `required` an absent one is
/// pending, and with none named nothing can be green. Without `required` only existing statuses count: those of the
/// named contexts, or all where none is named. `warning`, unknown words, and `skipped` and `neutral` that are not in
/// `accept` are neither success nor failure: they wait for a newer status, and spend no attempt.
pub fn roll_up(statuses: &[CommitStatus], contexts: &[String], required: bool, accept: &[Accepted]) -> CiAnswer {
    let mut by_name: BTreeMap<&str, Vec<&CommitStatus>> = BTreeMap::new();
    for status in statuses.iter().filter(|s| !is_own(&s.context)) {
        by_name.entry(status.context.as_str()).or_default().push(status);
    }
    let mut named: Vec<&str> = contexts.iter().map(String::as_str).filter(|c| !is_own(c)).collect();
    named.sort_unstable();
    named.dedup();
    if named.is_empty() && required {
        return CiAnswer::Pending { missing: vec![NONE_NAMED.to_owned()] };
    }
    let asked: Vec<&str> = if contexts.is_empty() { by_name.keys().copied().collect() } else { named };
    let (mut red, mut missing) = (Vec::new(), Vec::new());
    for context in asked {
        match by_name.get(context).map(|all| of_name(all, accept)) {
            Some(Count::Pass) => {}
            Some(Count::Red) => red.push(context.to_owned()),
            Some(Count::Open) => missing.push(context.to_owned()),
            None if required => missing.push(context.to_owned()),
            None => {}
        }
    }
    if !red.is_empty() {
        CiAnswer::Red { contexts: red }
    } else if !missing.is_empty() {
        CiAnswer::Pending { missing }
    } else {
        CiAnswer::Green
    }
}

/// The result for one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Count {
    Pass,
    Open,
    Red,
}

/// The newest posted status, and every check run that no later one superseded: the worst of them counts (GH-1).
fn of_name(all: &[&CommitStatus], accept: &[Accepted]) -> Count {
    let posted = all.iter().filter(|s| s.run.is_none()).max_by_key(|s| s.id).copied();
    let runs = || all.iter().copied().filter_map(|s| Some((s, s.run?)));
    let live = runs().filter(|(_, run)| !runs().any(|(_, other)| run.superseded_by(&other))).map(|(s, _)| s);
    let count = |s: &CommitStatus| match s.state {
        StatusState::Success => Count::Pass,
        StatusState::Failure | StatusState::Error => Count::Red,
        state if accept.iter().any(|a| a.state() == state) => Count::Pass,
        StatusState::Pending
        | StatusState::Warning
        | StatusState::Skipped
        | StatusState::Neutral
        | StatusState::Unknown => Count::Open,
    };
    posted.into_iter().chain(live).map(count).max().unwrap_or(Count::Open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(list: &str) -> Vec<CommitStatus> {
        list.split_whitespace()
            .enumerate()
            .map(|(i, item)| {
                let (context, state) = item.split_once('=').unwrap();
                CommitStatus {
                    id: i as u64 + 1,
                    context: context.into(),
                    state: StatusState::parse(state).unwrap(),
                    description: String::new(),
                    target_url: String::new(),
                    run: None,
                }
            })
            .collect()
    }

    fn names(list: &str) -> Vec<String> {
        list.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn rule_2_orchs_own_contexts_never_count_and_a_named_one_that_is_absent_is_pending() {
        let cases: &[(&str, &str, bool, &str)] = &[
            // statuses, contexts, required, answer
            ("ci/test=success", "ci/test", true, "green"),
            ("", "ci/test", true, "pending ci/test"),
            ("ci/other=success", "ci/test", true, "pending ci/test"),
            ("ci/test=pending", "ci/test", true, "pending ci/test"),
            ("ci/test=failure", "ci/test", true, "red ci/test"),
            ("ci/test=error", "ci/test", true, "red ci/test"),
            ("ci/test=warning", "ci/test", true, "pending ci/test"),
            ("ci/test=skipped", "ci/test", true, "pending ci/test"),
            ("ci/test=unknown", "ci/test", true, "pending ci/test"),
            // The newest per context counts.
            ("ci/test=failure ci/test=success", "ci/test", true, "green"),
            ("ci/test=success ci/test=failure", "ci/test", true, "red ci/test"),
            ("ci/test=success ci/test=pending", "ci/test", true, "pending ci/test"),
            // Red is reported at once, even while others are pending.
            ("b=failure a=pending", "a b", true, "red b"),
            ("a=success", "a b", true, "pending b"),
            ("a=error b=failure", "b a b", true, "red a b"),
            // Contexts that are not named do not count.
            ("ci/test=success lint=failure", "ci/test", true, "green"),
            // orch's own never count, whatever they say and whoever names them.
            ("ci/test=success orch/review=failure", "ci/test", true, "green"),
            ("orch/ci=success", "ci", true, "pending ci"),
            ("orch/ci=success", "orch/ci", true, "pending ci.contexts"),
            ("orch/ci=success", "orch/ci", false, "green"),
            ("Orch/ci=failure", "", false, "green"),
            ("ci/test=success", "orch/x ci/test", true, "green"),
            // Required and none named: nothing is green by guess.
            ("ci/test=success", "", true, "pending ci.contexts"),
            ("", "", true, "pending ci.contexts"),
            // Not required: what exists counts.
            ("", "", false, "green"),
            ("", "ci/test", false, "green"),
            ("ci/test=pending", "", false, "pending ci/test"),
            ("lint=failure", "", false, "red lint"),
            ("lint=failure", "ci/test", false, "green"),
            ("lint=warning", "", false, "pending lint"),
            ("lint=success", "", false, "green"),
            // Names are compared whole.
            ("ci/test2=success", "ci/test", true, "pending ci/test"),
            ("orchard/ci=failure", "", false, "red orchard/ci"),
        ];
        for (statuses, contexts, required, want) in cases {
            let got = match roll_up(&of(statuses), &names(contexts), *required, &[]) {
                CiAnswer::Green => "green".to_owned(),
                CiAnswer::Red { contexts } => format!("red {}", contexts.join(" ")),
                CiAnswer::Pending { missing } => format!("pending {}", missing.join(" ")),
            };
            assert_eq!(&got, want, "{statuses:?} for {contexts:?}, required {required}");
        }
    }

    #[test]
    fn gh_1_every_run_of_a_name_must_pass_unless_a_later_one_of_its_app_took_its_place() {
        use crate::model::ci::CheckRun;
        // app, start, end, state
        let one = |id: u64, (app, started_ms, end, state): (u64, i64, i64, &str)| CommitStatus {
            id,
            context: "test".into(),
            state: StatusState::parse(state).unwrap(),
            description: String::new(),
            target_url: String::new(),
            run: (app > 0).then_some(CheckRun { app, started_ms, completed_ms: (end > 0).then_some(end) }),
        };
        type Runs = &'static [(u64, i64, i64, &'static str)];
        let cases: &[(Runs, &[Accepted], &str)] = &[
            (&[(1, 1, 5, "success")], &[], "green"),
            (&[(1, 1, 5, "failure"), (1, 6, 9, "success")], &[], "green"),
            // Begun before the red one had ended: both count.
            (&[(1, 1, 5, "failure"), (1, 4, 9, "success")], &[], "red"),
            (&[(1, 1, 5, "success"), (1, 6, 0, "pending")], &[], "pending"),
            // Another app's run of the same name replaces nobody's.
            (&[(1, 1, 5, "failure"), (2, 6, 9, "success")], &[], "red"),
            (&[(1, 1, 5, "success"), (0, 0, 0, "failure")], &[], "red"),
            (&[(1, 1, 5, "success"), (0, 0, 0, "success")], &[], "green"),
            (&[(1, 1, 5, "neutral")], &[], "pending"),
            (&[(1, 1, 5, "neutral")], &[Accepted::Neutral], "green"),
            (&[(1, 1, 5, "skipped")], &[Accepted::Neutral], "pending"),
            (&[(1, 1, 5, "skipped")], &[Accepted::Neutral, Accepted::Skipped], "green"),
            (&[(1, 1, 5, "unknown")], &[Accepted::Neutral, Accepted::Skipped], "pending"),
        ];
        for (runs, accept, want) in cases {
            let list: Vec<CommitStatus> = runs.iter().enumerate().map(|(n, r)| one(n as u64, *r)).collect();
            let got = match roll_up(&list, &names("test"), true, accept) {
                CiAnswer::Green => "green",
                CiAnswer::Red { .. } => "red",
                CiAnswer::Pending { .. } => "pending",
            };
            assert_eq!(got, *want, "{runs:?} {accept:?}");
        }
    }

    proptest! {
        #[test]
        fn the_order_of_the_list_says_nothing(states in proptest::collection::vec((0..3_u8, 0..8_usize), 0..12), seed in any::<u64>()) {
            let list: Vec<CommitStatus> = states.iter().enumerate().map(|(i, (c, s))| CommitStatus {
                id: i as u64, context: format!("c{c}"), state: StatusState::ALL[*s], description: String::new(), target_url: String::new(), run: None,
            }).collect();
            let mut mixed = list.clone();
            let n = mixed.len().max(1);
            mixed.rotate_left(seed as usize % n);
            mixed.reverse();
            let contexts = names("c0 c1");
            prop_assert_eq!(roll_up(&list, &contexts, true, &[]), roll_up(&mixed, &contexts, true, &[]));
            if roll_up(&list, &contexts, true, &[]) == CiAnswer::Green {
                for c in ["c0", "c1"] {
                    let last = list.iter().rfind(|s| s.context == c);
                    prop_assert_eq!(last.map(|s| s.state), Some(StatusState::Success));
                }
            }
        }
    }
}
