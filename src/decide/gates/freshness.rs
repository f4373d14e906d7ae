//! `staging_image_fresh` (SHIP-4): staging runs exactly the branch's head, or it is built once and checked again.

use crate::model::ids::Sha;

/// What is known for one head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreshnessFacts<'a> {
    pub head: &'a Sha,
    /// What staging answered, or why it did not.
    pub answer: Result<&'a str, &'a str>,
    pub build: BuildState<'a>,
    /// How long staging has answered with another revision since the build, in milliseconds. Only time in which it
    /// answered counts (RULE-8).
    pub answered_stale_ms: i64,
    /// `staging.revision`'s time limit, in milliseconds.
    pub limit_ms: i64,
}

/// The one build a head may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildState<'a> {
    /// No `staging.build`: somebody else builds; wait for them.
    NotDeclared,
    NotYet,
    Done,
    /// It ran and failed, and why. It is not rerun for this head.
    Failed(&'a str),
}

/// What follows, with its one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    Pass {
        why: String,
    },
    /// Blocks without spending an attempt (PIPE-3).
    Fail {
        why: String,
    },
    /// The head is built now; then staging is asked again.
    Build {
        why: String,
    },
    /// Staging is asked again later.
    AskAgain {
        why: String,
    },
}

/// Decides for one head. Only an answer that *is* the head passes: an abbreviation does not count as equal.
pub fn freshness(facts: &FreshnessFacts<'_>) -> Freshness {
    let head = facts.head.as_str();
    let got = match facts.answer {
        Ok(got) => got.trim(),
        // No answer says nothing about the image: it is no reason to build, and no timeout runs (RULE-8).
        Err(why) => return Freshness::AskAgain { why: format!("staging did not report its revision: {why}") },
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
        BuildState::NotYet => Freshness::Build { why: differs },
        BuildState::Failed(why) => Freshness::Fail { why: format!("{differs}, and its build failed: {why}") },
        BuildState::NotDeclared | BuildState::Done if facts.answered_stale_ms >= facts.limit_ms => {
            Freshness::Fail { why: format!("{differs}, still after {} s", facts.limit_ms.max(0) / 1000) }
        }
        BuildState::NotDeclared => Freshness::AskAgain { why: format!("{differs}; staging.build is not configured") },
        BuildState::Done => Freshness::AskAgain { why: format!("{differs}, although it was built") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_the_image_and_what_follows() {
        type Case<'a> = (Result<&'a str, &'a str>, BuildState<'a>, i64, &'a str);
        use BuildState as B;
        let head = Sha::parse(&"ab".repeat(20)).unwrap();
        let (same, loud, short, other) =
            ("ab".repeat(20), format!(" {} \n", "AB".repeat(20)), "ab".repeat(6), "cd".repeat(20));
        let late = 60_000;
        let cases: Vec<Case<'_>> = vec![
            (Ok(&same), B::NotYet, 0, "pass"),
            (Ok(&loud), B::Done, late, "pass"),
            (Ok(&same), B::Failed("x"), late, "pass"),
            (Ok(&short), B::NotYet, 0, "build"),
            (Ok(&short), B::Done, late, "fail"),
            (Ok(&other), B::NotYet, late, "build"),
            (Ok(&other), B::Done, 59_999, "ask"),
            (Ok(&other), B::Done, late, "fail"),
            (Ok(&other), B::NotDeclared, 0, "ask"),
            (Ok(&other), B::NotDeclared, late, "fail"),
            (Ok(&other), B::Failed("exit 2"), 0, "fail"),
            (Ok(""), B::Done, late, "fail"),
            (Err("timed out"), B::NotYet, late, "ask"),
            (Err("timed out"), B::Done, late, "ask"),
        ];
        for (answer, build, answered_stale_ms, want) in cases {
            let facts = FreshnessFacts { head: &head, answer, build, answered_stale_ms, limit_ms: 60_000 };
            let got = match freshness(&facts) {
                Freshness::Pass { .. } => "pass",
                Freshness::Fail { .. } => "fail",
                Freshness::Build { .. } => "build",
                Freshness::AskAgain { .. } => "ask",
            };
            assert_eq!(got, want, "{facts:?}");
        }
    }
}
