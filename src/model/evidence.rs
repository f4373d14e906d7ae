//! What an evidence row rests on in addition to its verdict: one shape for each writer, separated by `kind`.

use super::finding::Finding;
use super::gate::Subject;
use super::ids::{RunId, Sha};
use super::inputs::Input;
use super::stage::{Stage, words};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

words! {
    /// What an evidence row says. `missing`: nothing usable was written; `tool_error`: could not check.
    EvidenceVerdict {
        Pass = "pass",
        Fail = "fail",
        Missing = "missing",
        ToolError = "tool_error",
    }
}

/// A verdict to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvidence {
    pub subject: Subject,
    pub run_id: Option<RunId>,
    /// The commit judged.
    pub sha: Sha,
    pub code_tree: String,
    pub verdict: EvidenceVerdict,
    pub why: String,
    pub detail: EvidenceDetail,
}

/// A file below the state directory that a row rests on (RULE-47).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundFile {
    /// Relative to the state directory.
    pub path: String,
    /// Hex.
    pub sha256: String,
}

/// The detail of one row; it has only what a row can contain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EvidenceDetail {
    /// Its verdict and sentence are all there is.
    #[default]
    Plain,
    /// An agent's verdict.
    Agent {
        findings: Vec<Finding>,
        /// The exact contents that were judged, by path below the work item's folder (RULE-3).
        blobs: BTreeMap<String, Sha>,
        /// The judge could start no program (R1).
        independent: bool,
    },
    /// A verdict of `orch`'s own job.
    Code(Box<Code>),
    /// The merge gate's answer: under which fence of the lease, and for which commit of the default branch.
    Mergeable {
        fence: i64,
        base: Sha,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        findings: Vec<Finding>,
    },
    /// How one head came from another (RULE-4).
    Carry(Carry),
    /// The contents of the analysis that a person approved (BND-5).
    Approved {
        blobs: BTreeMap<String, Sha>,
    },
    /// What decides the meaning of CI and differs between base and head (BND-5).
    Inputs {
        base: Sha,
        inputs: Vec<Input>,
    },
    /// A person's request that CI runs again on the same head (ORD-1).
    Again,
    Deploy {
        deploy: String,
    },
    /// A row whose detail can't be read: it counts for nothing, and what needs it is asked again. Never written.
    #[serde(skip)]
    Unreadable,
}

/// What a job found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Code {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// The rework must leave one commit (RUN-4).
    pub squash: bool,
    /// The sentence names what was waived, or could not be audited: the card repeats it (SHIP-1, SHIP-3).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub caveat: bool,
    /// The file outside git that the verdict rests on (RULE-47).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<BoundFile>,
    /// Under which settings CI passed: a landed commit is a green base under the same settings (ORD-1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ground: Option<String>,
    /// Under which settings, and with which scripts of the default branch, CI was red: if either changes, the verdict
    /// no longer holds (ORD-1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scripts: Option<String>,
    /// What a build left for the deploy command (BND-3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<BuildOutput>,
}

/// A build's output, as it was collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildOutput {
    /// Of names, kinds, executable bits, targets and contents, in hex.
    pub sha256: String,
    /// Files and links.
    pub files: u64,
    pub bytes: u64,
}

/// The relation of a head to the one before it. Trees are code trees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Carry {
    /// `orch`'s own update of the branch.
    Update {
        from: String,
        from_sha: Sha,
        /// Every patch is equal.
        equal: bool,
        /// The work item's documents were left out (ORD-6).
        left_out: bool,
    },
    /// What a later stage's agent added.
    Agent {
        from: String,
        stage: Stage,
        /// New test files only, none of them a verdict input.
        plain: bool,
    },
}

impl Carry {
    /// The code tree that it came from.
    pub fn from(&self) -> &str {
        match self {
            Self::Update { from, .. } | Self::Agent { from, .. } => from,
        }
    }

    /// Whether a verdict on the code before holds for the code after it (RULE-4).
    pub fn holds(&self) -> bool {
        match self {
            Self::Update { equal, .. } => *equal,
            Self::Agent { stage, plain, .. } => *stage == Stage::Testing && *plain,
        }
    }
}

impl EvidenceDetail {
    /// A job's findings and nothing more.
    pub fn code(findings: Vec<Finding>, squash: bool) -> Self {
        Self::Code(Box::new(Code { findings, squash, ..Code::default() }))
    }

    /// From its row.
    pub fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or(Self::Unreadable)
    }

    /// As stored in its row.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }

    /// What the developer gets together with a *no*.
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Agent { findings, .. } | Self::Mergeable { findings, .. } => findings,
            Self::Code(code) => &code.findings,
            Self::Plain
            | Self::Carry(_)
            | Self::Approved { .. }
            | Self::Inputs { .. }
            | Self::Again
            | Self::Deploy { .. }
            | Self::Unreadable => &[],
        }
    }

    /// What a job found, if a job wrote the row.
    pub fn of_code(&self) -> Option<&Code> {
        match self {
            Self::Code(code) => Some(code),
            Self::Plain
            | Self::Agent { .. }
            | Self::Mergeable { .. }
            | Self::Carry(_)
            | Self::Approved { .. }
            | Self::Inputs { .. }
            | Self::Again
            | Self::Deploy { .. }
            | Self::Unreadable => None,
        }
    }

    /// The relation, if the row says how the head came about.
    pub fn carry(&self) -> Option<&Carry> {
        if let Self::Carry(carry) = self { Some(carry) } else { None }
    }

    /// The lease's fence under which the merge gate answered.
    pub fn fence(&self) -> Option<i64> {
        if let Self::Mergeable { fence, .. } = self { Some(*fence) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::finding::Origin;

    #[test]
    fn every_detail_is_read_back_and_anything_else_holds_nothing() {
        let sha = || Sha::parse(&"a".repeat(40)).unwrap();
        let finding = || Finding { source: Origin::Ci, text: "red".into() };
        let blobs = || BTreeMap::from([("02-requirements.md".to_owned(), sha())]);
        let file = Some(BoundFile { path: "p".into(), sha256: "s".into() });
        let all = [
            EvidenceDetail::Plain,
            EvidenceDetail::Agent { findings: vec![finding()], blobs: blobs(), independent: false },
            EvidenceDetail::Code(Box::new(Code { findings: vec![finding()], squash: true, file, ..Code::default() })),
            EvidenceDetail::Mergeable { fence: 7, base: sha(), findings: vec![] },
            EvidenceDetail::Carry(Carry::Update { from: "T".into(), from_sha: sha(), equal: true, left_out: false }),
            EvidenceDetail::Carry(Carry::Agent { from: "T".into(), stage: Stage::Testing, plain: true }),
            EvidenceDetail::Approved { blobs: blobs() },
            EvidenceDetail::Inputs { base: sha(), inputs: vec![] },
            EvidenceDetail::Again,
            EvidenceDetail::Deploy { deploy: "1-1-7".into() },
        ];
        for detail in all {
            assert_eq!(EvidenceDetail::parse(&detail.text()), detail, "{}", detail.text());
        }
        for odd in ["", "{}", "[]", r#"{"kind":"inputs","inputs":"odd"}"#, r#"{"kind":"unreadable"}"#] {
            let read = EvidenceDetail::parse(odd);
            assert_eq!(read, EvidenceDetail::Unreadable, "{odd}");
            assert!(read.findings().is_empty() && read.fence().is_none() && read.carry().is_none());
        }
    }
}
