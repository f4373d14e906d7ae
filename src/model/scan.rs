//! What a security scan saw and what it was judged to mean (SHIP-1). Plain data: the scan adapter fills [`Scan`],
//! `decide::gates::security` turns it into a [`ScanReport`], `render::security` writes that.

use super::ids::Sha;
use super::stage::words;
use serde::{Deserialize, Serialize};

words! {
    /// What the report and the gate say (`security_status`, PIPE-5).
    ScanVerdict {
        Pass = "PASS",
        Fail = "FAIL",
    }
}

words! {
    /// Why a scan is FAIL. Only `findings` sends a task back; the other two are retried.
    ScanReason {
        Findings = "findings",
        ToolError = "tool_error",
        FeedUnreachable = "feed_unreachable",
    }
}

words! {
    /// What kind of thing was found.
    FindingKind {
        Secret = "secret",
        ScanConfig = "scan_config",
        Dependency = "dependency",
    }
}

words! {
    /// How bad a finding is. `unknown` (no severity in the advisory) counts as reaching every threshold.
    Severity {
        Low = "low",
        Medium = "medium",
        High = "high",
        Critical = "critical",
        Unknown = "unknown",
    }
}

impl Severity {
    /// Whether a finding of this severity blocks under `threshold`; an unknown one always does.
    pub fn reaches(self, threshold: Severity) -> bool {
        self >= threshold
    }

    /// Reads the words advisory sources use (`moderate`, `info`, any letter case); anything else is unknown.
    pub fn of_advisory(word: &str) -> Self {
        match word.trim().to_ascii_lowercase().as_str() {
            "none" | "info" | "informational" | "low" => Self::Low,
            "moderate" | "medium" => Self::Medium,
            "high" => Self::High,
            "critical" => Self::Critical,
            _ => Self::Unknown,
        }
    }
}

words! {
    /// What a finding means for the verdict.
    FindingStatus {
        /// It fails the gate.
        Blocking = "blocking",
        /// Reported; below `severity_threshold`.
        BelowThreshold = "below_threshold",
        /// Reported; the base already had it.
        Inherited = "inherited",
        /// Reported; somebody answers for it in the configuration.
        Waived = "waived",
    }
}

/// A package that an advisory is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    pub ecosystem: String,
    pub name: String,
    pub version: String,
    /// Versions that fix it, as the advisory words them; empty when none is known.
    pub fixed_in: Vec<String>,
}

/// One thing found. Never contains a secret: `preview` is redacted, `fingerprint` is a keyed hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub kind: FindingKind,
    /// The scanner's rule or the advisory's id.
    pub rule: String,
    /// Path in the repository, with `/`.
    pub file: String,
    /// One-based; `None` where the finding has no line (an advisory, a file's whole change).
    pub line: Option<u64>,
    /// The commit that introduced it, where that is known.
    pub commit: Option<String>,
    /// Hex HMAC-SHA256, stable over rebases; what a waiver names.
    pub fingerprint: String,
    pub severity: Severity,
    /// One line for people.
    pub title: String,
    /// First characters and length of a secret; empty for other kinds.
    pub preview: String,
    pub package: Option<Package>,
    /// The base of the range already had it.
    pub inherited: bool,
}

/// The commits a scan judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanRange {
    /// Merge base of the default branch and the head, before any rebase.
    pub base: Sha,
    pub head: Sha,
    /// The head's tree: the code judged.
    pub tree: Sha,
    /// `git rev-list --count base..head`.
    pub commits: u64,
}

/// Why a secrets scan is trusted; a PASS names all of these (SHIP-1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretFacts {
    /// A bare `8.x.y`.
    pub scanner_version: String,
    pub rules: u64,
    /// `built-in`, or path and blob of the default branch's configuration.
    pub config: String,
    /// What the scanner says it read, between `commits_least` and `commits_most` (RULE-32).
    pub commits_scanned: u64,
    pub commits_least: u64,
    pub commits_most: u64,
    /// How merge commits were read: `remerge` or `first-parent`.
    pub merges: String,
    /// The rule by which the planted fake secret was found.
    pub control_rule: String,
    /// Distinct file contents that the second pass read.
    pub blobs: u64,
    /// Raw commits and annotated tags that it read.
    pub objects: u64,
    /// Findings of the second pass that the project's own path allow-list covers.
    pub allowed_by_path: u64,
    /// What the project's own configuration excluded.
    pub notes: Vec<String>,
    pub findings: Vec<Finding>,
}

/// The secrets pass: trusted, or the scanner is not working.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SecretPass {
    Believed(Box<SecretFacts>),
    ToolError { why: String },
}

/// The line of one manifest or lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// `pip-audit`, `cargo-audit`, `npm`, `osv-scanner`; empty where none is used.
    pub tool: String,
    pub version: Option<String>,
    pub file: String,
    pub outcome: AuditOutcome,
    /// Parts of an audited file that no advisory covers (an unpinned requirement).
    pub partial: Option<String>,
    /// Further remarks about the audit.
    pub notes: Vec<String>,
}

impl Audit {
    /// Whether dependencies of the file were not audited although they should have been.
    pub fn is_incomplete(&self) -> bool {
        match &self.outcome {
            AuditOutcome::Believed { .. } => self.partial.is_some(),
            AuditOutcome::NotBelieved { .. } | AuditOutcome::NotInstalled { .. } | AuditOutcome::Broken { .. } => true,
            AuditOutcome::Inherited { .. } | AuditOutcome::Covered { .. } | AuditOutcome::Empty => false,
        }
    }
}

/// How far an audit's answer can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum AuditOutcome {
    /// The control was found, and the report parses, has its marker and counts the packages of the lock file.
    Believed { packages: u64, findings: Vec<Finding> },
    /// The feed or the tool's answer can't be trusted.
    NotBelieved { why: String },
    /// The tool is not on this machine.
    NotInstalled { why: String },
    /// The tool is installed, but its time ran out or it could not start.
    Broken { why: String },
    /// Nothing here audits it, and the base has the same file.
    Inherited { why: String },
    /// Its content is in another file, which has its own line.
    Covered { by: String },
    /// It was read, and names no dependency.
    Empty,
}

/// Everything a scan saw; no judgement yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    pub range: ScanRange,
    pub secrets: SecretPass,
    /// Empty also when the audit is switched off; see `audit_enabled`.
    pub audits: Vec<Audit>,
    pub audit_enabled: bool,
    pub duration_ms: u64,
}

/// Somebody answers for a finding (`security.allow`, `--waivers`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// Scanner rule or advisory id.
    pub rule: String,
    /// Glob over the path in the repository.
    pub path: String,
    /// Required for a secret; a dependency or configuration change may leave it out.
    #[serde(default)]
    pub fingerprint: Option<String>,
    pub owner: String,
    pub reason: String,
    /// `YYYY-MM-DD`; holds through that day, UTC.
    pub expires: String,
}

/// A finding with its meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    pub finding: Finding,
    pub status: FindingStatus,
    /// The waiver that covers it (in force when `status` is waived, else expired).
    pub waiver: Option<Waiver>,
}

/// A waiver that does nothing, and why; `doctor` shows these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleWaiver {
    pub waiver: Waiver,
    /// Such as `expired 2027-01-31`, `matches nothing in this range`.
    pub why: String,
}

/// A scan with its verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanReport {
    pub verdict: ScanVerdict,
    /// `None` exactly when the verdict is PASS.
    pub reason: Option<ScanReason>,
    pub scan: Scan,
    pub findings: Vec<Judged>,
    pub idle_waivers: Vec<IdleWaiver>,
    /// Shown prominently: what was not checked although the verdict is PASS.
    pub warnings: Vec<String>,
    /// What could not be trusted.
    pub errors: Vec<String>,
}

impl ScanReport {
    /// The findings that fail the gate.
    pub fn blocking(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|j| j.status == FindingStatus::Blocking).map(|j| &j.finding)
    }
}
