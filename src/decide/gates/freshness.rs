//! `staging_image_fresh` (SHIP-4): staging runs exactly the branch's head, or it is built once and checked again.

use crate::model::ids::Sha;

/// What is known for one head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreshnessFacts<'a> {
    pub source: RevisionSourceState,
    pub head: &'a Sha,
    /// What staging last answered, or why it did not; `None`: it was not asked since the last build.
    pub answer: Option<Result<&'a str, &'a str>>,
    pub build: BuildState<'a>,
    /// How long staging has answered with another revision since the build, in milliseconds. Only time in which it
    /// answered counts (RULE-8).
    pub answered_stale_ms: i64,
    /// `staging.revision`'s time limit, in milliseconds.
    pub limit_ms: i64,
}

/// Whether there is a revision to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevisionSourceState {
    /// The project does not declare how to ask.
    NotDeclared,
    /// `image_freshness.enabled` is off.
    SwitchedOff,
    Declared,
}

/// The one build a head may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildState<'a> {
    /// No `staging.build`: somebody else builds; wait for them.
    NotDeclared,
    NotYet,
    Running,
    Done,
    /// It ran and failed, and why. It is not rerun for this head.
    Failed(&'a str),
}

/// The gate's answer, with its one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    NotApplicable {
        why: String,
    },
    Pass {
        why: String,
    },
    /// Blocks without spending an attempt (PIPE-3).
    Fail {
        why: String,
    },
    Undecided {
        why: String,
        next: FreshnessNext,
    },
}

/// What would help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreshnessNext {
    Ask,
    Build,
    Wait,
}

/// Decides for one head. Only an answer that *is* the head passes: an abbreviation does not count as equal.
pub fn freshness(facts: &FreshnessFacts<'_>) -> Freshness {
    match facts.source {
        RevisionSourceState::NotDeclared => {
            return Freshness::NotApplicable {
                why: "staging.revision is not configured: nothing reports what staging runs".into(),
            };
        }
        RevisionSourceState::SwitchedOff => {
            return Freshness::NotApplicable { why: "image_freshness.enabled is off".into() };
        }
        RevisionSourceState::Declared => {}
    }
    let head = facts.head.as_str();
    let undecided = |why: String, next| Freshness::Undecided { why, next };
    let got = match facts.answer {
        None if facts.build == BuildState::Running => {
            return undecided("staging is being built".into(), FreshnessNext::Wait);
        }
        None => return undecided("staging has not been asked for its revision yet".into(), FreshnessNext::Ask),
        // No answer says nothing about the image: it is no reason to build, and no timeout runs (RULE-8).
        Some(Err(why)) => return undecided(format!("staging did not report its revision: {why}"), FreshnessNext::Ask),
        Some(Ok(got)) => got.trim(),
    };
    if got.eq_ignore_ascii_case(head) {
        return Freshness::Pass { why: format!("staging runs {head}") };
    }
    let shown: String = got.chars().take(80).collect();
    let hint = if got.len() >= 7 && head.starts_with(&got.to_ascii_lowercase()) {
        ", an abbreviation: make it report the full commit id"
    } else {
        ""
    };
    let differs = format!("staging runs {shown:?}{hint}, not {head}");
    match facts.build {
        BuildState::NotYet => undecided(differs, FreshnessNext::Build),
        BuildState::Running => undecided(format!("{differs}; it is being built"), FreshnessNext::Wait),
        BuildState::Failed(why) => Freshness::Fail { why: format!("{differs}, and its build failed: {why}") },
        BuildState::NotDeclared | BuildState::Done if facts.answered_stale_ms >= facts.limit_ms => {
            Freshness::Fail { why: format!("{differs}, still after {} s", facts.limit_ms.max(0) / 1000) }
        }
        BuildState::NotDeclared => undecided(format!("{differs}; staging.build is not configured"), FreshnessNext::Ask),
        BuildState::Done => undecided(format!("{differs}, although it was built"), FreshnessNext::Ask),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_the_image_and_what_follows() {
        type Case<'a> = (RevisionSourceState, Option<Result<&'a str, &'a str>>, BuildState<'a>, i64, &'a str);
        use BuildState as B;
        use RevisionSourceState as S;
        let head = Sha::parse(&"ab".repeat(20)).unwrap();
        let (same, loud, short, other) =
            ("ab".repeat(20), format!(" {} \n", "AB".repeat(20)), "ab".repeat(6), "cd".repeat(20));
        let late = 60_000;
        let cases: Vec<Case<'_>> = vec![
            (S::NotDeclared, None, B::NotYet, 0, "n/a"),
            (S::SwitchedOff, Some(Ok(&other)), B::NotYet, late, "n/a"),
            (S::Declared, None, B::NotYet, 0, "ask"),
            (S::Declared, None, B::Running, 0, "wait"),
            (S::Declared, None, B::Done, late, "ask"),
            (S::Declared, Some(Ok(&same)), B::NotYet, 0, "pass"),
            (S::Declared, Some(Ok(&loud)), B::Done, late, "pass"),
            (S::Declared, Some(Ok(&same)), B::Failed("x"), late, "pass"),
            (S::Declared, Some(Ok(&short)), B::NotYet, 0, "build"),
            (S::Declared, Some(Ok(&short)), B::Done, late, "fail"),
            (S::Declared, Some(Ok(&other)), B::NotYet, late, "build"),
            (S::Declared, Some(Ok(&other)), B::Running, late, "wait"),
            (S::Declared, Some(Ok(&other)), B::Done, 59_999, "ask"),
            (S::Declared, Some(Ok(&other)), B::Done, late, "fail"),
            (S::Declared, Some(Ok(&other)), B::NotDeclared, 0, "ask"),
            (S::Declared, Some(Ok(&other)), B::NotDeclared, late, "fail"),
            (S::Declared, Some(Ok(&other)), B::Failed("exit 2"), 0, "fail"),
            (S::Declared, Some(Ok("")), B::Done, late, "fail"),
            (S::Declared, Some(Err("timed out")), B::NotYet, late, "ask"),
            (S::Declared, Some(Err("timed out")), B::Done, late, "ask"),
        ];
        for (source, answer, build, answered_stale_ms, want) in cases {
            let facts = FreshnessFacts { source, head: &head, answer, build, answered_stale_ms, limit_ms: 60_000 };
            let got = match freshness(&facts) {
                Freshness::NotApplicable { .. } => "n/a",
                Freshness::Pass { .. } => "pass",
                Freshness::Fail { .. } => "fail",
                Freshness::Undecided { next: FreshnessNext::Ask, .. } => "ask",
                Freshness::Undecided { next: FreshnessNext::Build, .. } => "build",
                Freshness::Undecided { next: FreshnessNext::Wait, .. } => "wait",
            };
            assert_eq!(got, want, "{facts:?}");
        }
    }
}
