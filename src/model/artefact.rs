//! The one table of artefacts (PIPE-5) and their schema (PIPE-6). `docs/standards/HANDOFF_PROTOCOL.md` states the same
//! for people; a test keeps the two in step.

use super::frontmatter::{Document, Field};
use super::ids::Key;
use super::scan::ScanReason;
use super::stage::{Stage, words};
use super::time::parse_rfc3339;

/// Where the work items' folders are in a project's repository.
pub const FOLDER: &str = "docs/work-items";

/// Where a work item's decisions are, below its folder.
pub const ADR_FOLDER: &str = "06-adr";

words! {
    /// An artefact by its file name under the work item's folder.
    Artefact {
        Brief = "01-brief.md",
        Requirements = "02-requirements.md",
        AcceptanceCriteria = "03-acceptance-criteria.md",
        TestPlan = "04-test-plan.md",
        /// A pattern: at least one such file.
        Adr = "06-adr/ADR-NNN-*.md",
        Review = "12-review.md",
        TestReport = "13-test-report.md",
        DeployLog = "14-deploy-log.md",
        StagingLog = "15-staging-log.md",
        PostDeployLog = "16-post-deploy-log.md",
        SecurityReport = "17-security-report.md",
    }
}

/// What every artefact's front matter must contain, in addition to its verdict.
pub const COMMON_FIELDS: &[&str] = &["work_item", "stage", "agent", "created"];

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schema {
    pub stage: Stage,
    /// Which values `agent` may have, the usual one first.
    pub by: &'static [&'static str],
    /// The verdict's field names; where there are several, one is enough.
    pub verdict: &'static [&'static str],
    /// The values of a verdict, in the spelling of the table.
    pub values: &'static [&'static str],
    /// Required when the verdict is FAIL.
    pub with_fail: &'static [&'static str],
    /// `orch`'s own: stored next to the state, and not on the branch while it is under way (RULE-1).
    pub own: bool,
}

const fn by(stage: Stage, by: &'static [&'static str]) -> Schema {
    Schema { stage, by, verdict: &[], values: &[], with_fail: &[], own: false }
}

impl Artefact {
    /// The artefact's row.
    pub const fn schema(self) -> Schema {
        match self {
            Self::Brief | Self::Requirements | Self::AcceptanceCriteria | Self::TestPlan => {
                by(Stage::Analysis, &["analyst"])
            }
            Self::Adr => Schema {
                verdict: &["status"],
                values: &["proposed", "accepted", "superseded"],
                ..by(Stage::Architecture, &["architect"])
            },
            Self::Review => Schema {
                verdict: &["verdict"],
                values: &["APPROVED", "REQUEST_CHANGES"],
                ..by(Stage::Review, &["reviewer"])
            },
            Self::TestReport => Schema {
                verdict: &["result", "verdict", "status"],
                values: &["PASS", "FAIL"],
                ..by(Stage::Testing, &["tester"])
            },
            Self::StagingLog => Schema {
                verdict: &["staging_status"],
                values: &["SUCCESS", "FAILED"],
                ..by(Stage::DeployStaging, &["deployer", "staging-check"])
            },
            Self::DeployLog => Schema {
                verdict: &["deploy_status"],
                values: &["SUCCESS", "FAILED"],
                own: true,
                ..by(Stage::Deploy, &["deploy-finalizer"])
            },
            Self::PostDeployLog => Schema {
                verdict: &["post_deploy_status"],
                values: &["HEALTHY", "DEGRADED", "INCONCLUSIVE", "CANCELLED"],
                own: true,
                ..by(Stage::Deploy, &["post-deploy-monitor"])
            },
            Self::SecurityReport => Schema {
                verdict: &["security_status"],
                values: &["PASS", "FAIL"],
                with_fail: &["reason"],
                own: true,
                ..by(Stage::Deploy, &["orch"])
            },
        }
    }

    /// The artefact at a path below the work item's folder, if it is one.
    pub fn of(path: &str) -> Option<Self> {
        let is_adr = || {
            let name = path.strip_prefix("06-adr/ADR-")?.strip_suffix(".md")?;
            let (number, rest) = name.split_once('-')?;
            let fits = number.len() >= 3 && number.bytes().all(|b| b.is_ascii_digit());
            (fits && !rest.is_empty() && !rest.contains('/')).then_some(Self::Adr)
        };
        Self::parse(path).filter(|a| *a != Self::Adr).or_else(is_adr)
    }

    /// The artefacts that the agent of a stage must leave.
    pub fn of_stage(stage: Stage) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |a| a.schema().stage == stage && !a.schema().own)
    }
}

/// The work item's folder: `docs/work-items/ORCH-17`.
pub fn folder(key: &Key) -> String {
    format!("{FOLDER}/{key}")
}

/// Whether a path of the repository is an artefact of any work item, by its exact name (PIPE-5). Anything else in a
/// work item's folder is code.
pub fn is_artefact_path(path: &str) -> bool {
    let below = path.strip_prefix(FOLDER).and_then(|rest| rest.strip_prefix('/'));
    below.and_then(|rest| rest.split_once('/')).is_some_and(|(_, name)| Artefact::of(name).is_some())
}

/// A verdict's text in the form in which it is compared: without space, quotes and emphasis marks around it, in upper
/// case. The same for every gate (PIPE-5).
pub fn token(text: &str) -> String {
    let marks = ['"', '\'', '`', '*', '_', '~', '“', '”', '„', '‘', '’', '«', '»'];
    text.trim_matches(|c: char| c.is_whitespace() || marks.contains(&c)).to_ascii_uppercase()
}

/// The value of the list that a text names, as the table spells it.
pub fn listed(values: &[&'static str], text: &str) -> Option<&'static str> {
    let token = token(text);
    values.iter().copied().find(|v| v.eq_ignore_ascii_case(&token))
}

/// The faults of a document against its row, one sentence each; empty: there are none. A warning, or with
/// `frontmatter.validation_strict` the gate's *no* (PIPE-6).
pub fn validate(artefact: Artefact, doc: &Document, key: &Key) -> Vec<String> {
    let schema = artefact.schema();
    let mut faults = Vec::new();
    for name in COMMON_FIELDS {
        let Some(text) = doc.text(name) else {
            faults.push(format!("`{name}` is missing"));
            continue;
        };
        let (holds, expected) = match *name {
            "work_item" => (text == key.as_str(), key.to_string()),
            // `orch`'s own are written wherever their step runs; 16 even after done.
            "stage" if schema.own => (Stage::parse(text).is_some(), "a stage".to_owned()),
            "stage" => (text == schema.stage.as_str(), schema.stage.to_string()),
            "agent" => (schema.by.contains(&text), schema.by.join(" or ")),
            _ => (is_time(text), "a time such as 2026-03-01T09:30:00Z".to_owned()),
        };
        if !holds {
            faults.push(format!("`{name}` is {}, expected {expected}", short(text)));
        }
    }
    if schema.verdict.is_empty() {
        return faults;
    }
    let mut verdicts = 0;
    let mut failed = false;
    for name in schema.verdict {
        match doc.field(name) {
            None => {}
            Some(Field::Text(text)) if text.trim().is_empty() => {}
            Some(Field::Text(text)) => {
                verdicts += 1;
                match listed(schema.values, text) {
                    Some(value) => failed |= value == "FAIL",
                    None => {
                        faults.push(format!("`{name}` is {}, expected {}", short(text), schema.values.join(" or ")))
                    }
                }
            }
            Some(Field::List(_) | Field::Nested) => {
                verdicts += 1;
                faults.push(format!("`{name}` is not a single word, expected {}", schema.values.join(" or ")));
            }
        }
    }
    if verdicts == 0 {
        let names: Vec<String> = schema.verdict.iter().map(|n| format!("`{n}`")).collect();
        faults.push(format!("{} is missing, expected {}", names.join(" or "), schema.values.join(" or ")));
    }
    for name in schema.with_fail.iter().filter(|_| failed) {
        if doc.text(name).and_then(ScanReason::parse).is_none() {
            let words: Vec<&str> = ScanReason::ALL.iter().map(|r| r.as_str()).collect();
            faults.push(format!("`{name}` is missing, and FAIL requires it; expected {}", words.join(" or ")));
        }
    }
    faults
}

fn is_time(text: &str) -> bool {
    parse_rfc3339(text).is_some() || text.parse::<jiff::civil::Date>().is_ok()
}

/// A value for a message: bounded, on one line, in quotes.
pub fn short(text: &str) -> String {
    let cut: String = text.chars().take(60).collect();
    format!("{cut:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::frontmatter::{Read, read};

    fn faults(artefact: Artefact, front: &str) -> Vec<String> {
        let Read::Document(doc) = read(format!("---\n{front}---\n").as_bytes()) else { panic!("{front}") };
        validate(artefact, &doc, &Key::parse("ORCH-1").unwrap())
    }

    #[test]
    fn paths_name_their_artefact() {
        for artefact in Artefact::ALL.iter().filter(|a| **a != Artefact::Adr) {
            assert_eq!(Artefact::of(artefact.as_str()), Some(*artefact));
        }
        assert_eq!(Artefact::of("06-adr/ADR-001-use-sqlite.md"), Some(Artefact::Adr));
        for none in [
            "06-adr/ADR-1-x.md",
            "06-adr/ADR-001-.md",
            "06-adr/ADR-001-a/b.md",
            "06-adr/ADR-NNN-*.md",
            "x/12-review.md",
        ] {
            assert_eq!(Artefact::of(none), None, "{none}");
        }
    }

    #[test]
    fn a_complete_document_has_no_fault() {
        let ok = "work_item: ORCH-1\nstage: review\nagent: reviewer\ncreated: 2026-03-01T09:30:00Z\nverdict: '**Approved**'\n";
        assert_eq!(faults(Artefact::Review, ok), Vec::<String>::new());
    }

    #[test]
    fn each_fault_is_named() {
        let all =
            faults(Artefact::Review, "work_item: ORCH-2\nstage: testing\nagent: me\ncreated: soon\nverdict: MAYBE\n");
        for (fault, word) in all.iter().zip(["ORCH-1", "review", "reviewer", "time", "REQUEST_CHANGES"]) {
            assert!(fault.contains(word), "{all:?}");
        }
        assert_eq!(all.len(), 5);
        assert_eq!(faults(Artefact::TestReport, "").len(), 5);
        let own = "work_item: ORCH-1\nstage: deploy-staging\nagent: orch\ncreated: 2026-03-01\nsecurity_status: FAIL\n";
        assert!(faults(Artefact::SecurityReport, own)[0].contains("`reason`"));
        assert!(faults(Artefact::SecurityReport, &format!("{own}reason: findings\n")).is_empty());
        assert!(faults(Artefact::Adr, "status: [accepted]\n")[4].contains("not a single word"));
    }

    #[test]
    fn tokens_lose_the_characters_around_them() {
        for text in ["APPROVED", " approved ", "**Approved**", "`APPROVED`", "\"'__approved__'\"", "“Approved”"] {
            assert_eq!(token(text), "APPROVED", "{text}");
        }
        assert_eq!(token("request_changes"), "REQUEST_CHANGES");
        assert_eq!(token("pa\u{17f}\u{17f}"), "PA\u{17f}\u{17f}");
    }

    #[test]
    fn every_row_says_who_and_every_verdict_has_values() {
        for artefact in Artefact::ALL {
            let schema = artefact.schema();
            assert!(!schema.by.is_empty() && schema.verdict.is_empty() == schema.values.is_empty(), "{artefact}");
            if !schema.own {
                assert_eq!(schema.stage.agent().map(|a| a.as_str()), Some(schema.by[0]));
            }
        }
    }
}
