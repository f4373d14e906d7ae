//! What a security scan means (SHIP-1): a trusted clean result, findings, or a scanner that failed. Pure.

use crate::model::scan::{
    Audit, AuditOutcome, Finding, FindingKind, FindingStatus, IdleWaiver, Judged, Scan, ScanReason, ScanReport,
    ScanVerdict, SecretPass, Severity, Waiver,
};
use crate::model::time::rfc3339;
use globset::GlobBuilder;

/// The settings that a verdict depends on (`security.*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub severity_threshold: Severity,
    pub dep_audit_fail_closed: bool,
    pub waivers: Vec<Waiver>,
    /// Wall time in milliseconds since the epoch: waivers expire by the calendar.
    pub now_ms: i64,
}

/// Judges a scan. Total: anything but a trusted clean result or a trusted finding is FAIL with `tool_error`. An
/// advisory source that can't be trusted is a warning, or FAIL under `dep_audit_fail_closed`. A scanner that failed
/// outweighs findings: the scan is repeated first, so that half a scan sends nobody back.
pub fn judge(scan: Scan, policy: &Policy) -> ScanReport {
    let mut errors = Vec::new();
    let mut warnings = Vec::new();
    let mut found: Vec<Finding> = Vec::new();

    let secrets_believed = match &scan.secrets {
        SecretPass::Believed(facts) => {
            found.extend(facts.findings.iter().cloned());
            warnings.extend(facts.notes.iter().map(|n| format!("secrets: {n}")));
            let doubts = doubts(facts);
            errors.extend(doubts.iter().cloned());
            doubts.is_empty()
        }
        SecretPass::ToolError { why } => {
            errors.push(format!("secrets: {why}"));
            false
        }
    };
    let mut feeds_believed = true;
    for audit in &scan.audits {
        match &audit.outcome {
            AuditOutcome::Believed { findings, .. } => {
                found.extend(findings.iter().cloned());
                warnings.extend(audit.notes.iter().map(|n| format!("{}: {n}", audit.file)));
                if let Some(why) = &audit.partial {
                    feeds_believed = false;
                    let line = not_audited(audit, why);
                    if policy.dep_audit_fail_closed { errors.push(line) } else { warnings.push(line) }
                }
            }
            AuditOutcome::Inherited { .. } | AuditOutcome::Covered { .. } | AuditOutcome::Empty => {}
            AuditOutcome::NotBelieved { why } | AuditOutcome::NotInstalled { why } | AuditOutcome::Broken { why } => {
                feeds_believed = false;
                let line = not_audited(audit, why);
                if policy.dep_audit_fail_closed { errors.push(line) } else { warnings.push(line) }
            }
        }
    }

    let (findings, idle_waivers) = weigh(found, policy);
    let blocks = findings.iter().any(|j| j.status == FindingStatus::Blocking);
    let reason = if !secrets_believed {
        Some(ScanReason::ToolError)
    } else if blocks {
        Some(ScanReason::Findings)
    } else if !feeds_believed && policy.dep_audit_fail_closed {
        Some(ScanReason::FeedUnreachable)
    } else {
        None
    };
    let verdict = if reason.is_none() { ScanVerdict::Pass } else { ScanVerdict::Fail };
    ScanReport { verdict, reason, scan, findings, idle_waivers, warnings, errors }
}

fn not_audited(audit: &Audit, why: &str) -> String {
    let part = if audit.partial.is_some() { "some dependencies of" } else { "dependencies of" };
    let tool = if audit.tool.is_empty() { String::new() } else { format!(" ({})", audit.tool) };
    format!("{part} {} were NOT audited{tool}: {why}", audit.file)
}

/// A trusted scan must name scanner version, rule count, commits counted and the control's result. Checked again here,
/// so that no adapter can hand over a PASS without them.
fn doubts(facts: &crate::model::scan::SecretFacts) -> Vec<String> {
    let mut doubts = Vec::new();
    if !facts.scanner_version.starts_with("8.") {
        doubts.push(format!("secrets: scanner version {:?} is not 8.x", facts.scanner_version));
    }
    if facts.rules == 0 {
        doubts.push("secrets: the scanner had no rules".to_owned());
    }
    if facts.control_rule.is_empty() {
        doubts.push("secrets: the planted control was not found".to_owned());
    }
    if !(facts.commits_least..=facts.commits_most).contains(&facts.commits_scanned) {
        doubts.push(format!(
            "secrets: the scanner read {} commits, expected {} to {}",
            facts.commits_scanned, facts.commits_least, facts.commits_most
        ));
    }
    doubts
}

fn weigh(found: Vec<Finding>, policy: &Policy) -> (Vec<Judged>, Vec<IdleWaiver>) {
    let mut used = vec![false; policy.waivers.len()];
    let findings = found
        .into_iter()
        .map(|finding| {
            let mut waiver = None;
            let mut waived = false;
            for (i, w) in policy.waivers.iter().enumerate() {
                if !covers(w, &finding) {
                    continue;
                }
                let in_force = !expired(w, policy.now_ms);
                if in_force && let Some(flag) = used.get_mut(i) {
                    *flag = true;
                }
                if in_force || waiver.is_none() {
                    waiver = Some(w.clone());
                }
                if in_force {
                    waived = true;
                    break;
                }
            }
            let status = if finding.inherited {
                FindingStatus::Inherited
            } else if waived {
                FindingStatus::Waived
            } else if finding.kind == FindingKind::Dependency && !finding.severity.reaches(policy.severity_threshold) {
                FindingStatus::BelowThreshold
            } else {
                FindingStatus::Blocking
            };
            Judged { finding, status, waiver }
        })
        .collect();
    let idle = policy
        .waivers
        .iter()
        .zip(used)
        .filter_map(|(w, used)| {
            let why = if !readable_date(&w.expires) {
                format!("its date {:?} can't be read (expected YYYY-MM-DD)", w.expires)
            } else if expired(w, policy.now_ms) {
                format!("expired {}", w.expires)
            } else if used {
                return None;
            } else {
                "matches nothing in this range".to_owned()
            };
            Some(IdleWaiver { waiver: w.clone(), why })
        })
        .collect();
    (findings, idle)
}

/// Whether a waiver covers a finding, its date aside. A secret is only covered by its own fingerprint.
pub fn covers(waiver: &Waiver, finding: &Finding) -> bool {
    let fingerprint = match (&waiver.fingerprint, finding.kind) {
        (Some(print), _) => print.eq_ignore_ascii_case(&finding.fingerprint),
        (None, FindingKind::Secret) => false,
        (None, FindingKind::ScanConfig | FindingKind::Dependency) => true,
    };
    fingerprint
        && waiver.rule == finding.rule
        && GlobBuilder::new(&waiver.path)
            .literal_separator(true)
            .build()
            .is_ok_and(|glob| glob.compile_matcher().is_match(&finding.file))
}

fn readable_date(date: &str) -> bool {
    date.trim().parse::<jiff::civil::Date>().is_ok()
}

/// A waiver is valid through its last day, UTC; one with an unreadable date never is.
pub fn expired(waiver: &Waiver, now_ms: i64) -> bool {
    let today = rfc3339(now_ms).get(..10).and_then(|day| day.parse::<jiff::civil::Date>().ok());
    waiver.expires.trim().parse::<jiff::civil::Date>().map_or(true, |last| today.is_none_or(|today| last < today))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Sha;
    use crate::model::scan::{Package, ScanRange, SecretFacts};

    fn secret() -> Finding {
        Finding {
            kind: FindingKind::Secret,
            rule: "aws-access-token".into(),
            file: "tests/keys/a.txt".into(),
            line: Some(3),
            commit: None,
            fingerprint: "ab12".into(),
            severity: Severity::Critical,
            title: "a key".into(),
            preview: "AKIA… (20)".into(),
            package: None,
            inherited: false,
        }
    }

    fn advisory(severity: Severity) -> Finding {
        Finding {
            kind: FindingKind::Dependency,
            rule: "RUSTSEC-2020-0071".into(),
            file: "Cargo.lock".into(),
            line: None,
            severity,
            package: Some(Package {
                ecosystem: "crates.io".into(),
                name: "time".into(),
                version: "0.1.43".into(),
                fixed_in: vec![],
            }),
            ..secret()
        }
    }

    fn scan(findings: Vec<Finding>) -> Scan {
        let sha = Sha::parse(&"a".repeat(40)).unwrap();
        Scan {
            range: ScanRange { base: sha.clone(), head: sha.clone(), tree: sha, commits: 2 },
            secrets: SecretPass::Believed(Box::new(SecretFacts {
                scanner_version: "8.30.1".into(),
                rules: 222,
                config: "built-in".into(),
                commits_scanned: 2,
                commits_least: 1,
                commits_most: 2,
                merges: "remerge".into(),
                control_rule: "aws-access-token".into(),
                blobs: 1,
                objects: 2,
                allowed_by_path: 0,
                notes: vec![],
                findings,
            })),
            audits: vec![],
            audit_enabled: true,
            duration_ms: 1,
        }
    }

    fn audit(outcome: AuditOutcome) -> Audit {
        Audit {
            tool: "cargo-audit".into(),
            version: None,
            file: "Cargo.lock".into(),
            outcome,
            partial: None,
            notes: vec![],
        }
    }

    fn policy() -> Policy {
        Policy { severity_threshold: Severity::High, dep_audit_fail_closed: false, waivers: vec![], now_ms: 0 }
    }

    fn waiver(expires: &str) -> Waiver {
        Waiver {
            rule: "aws-access-token".into(),
            path: "tests/**".into(),
            fingerprint: Some("AB12".into()),
            owner: "ann".into(),
            reason: "test key".into(),
            expires: expires.into(),
        }
    }

    #[test]
    fn a_believed_clean_scan_passes_without_a_reason() {
        let report = judge(scan(vec![]), &policy());
        assert_eq!((report.verdict, report.reason), (ScanVerdict::Pass, None));
    }

    #[test]
    fn a_secret_fails_with_findings() {
        let report = judge(scan(vec![secret()]), &policy());
        assert_eq!(report.reason, Some(ScanReason::Findings));
        assert_eq!(report.blocking().count(), 1);
    }

    #[test]
    fn a_scanner_that_could_not_run_is_a_tool_error_even_with_findings() {
        let mut s = scan(vec![]);
        s.secrets = SecretPass::ToolError { why: "gitleaks is not installed".into() };
        s.audits = vec![audit(AuditOutcome::Believed { packages: 1, findings: vec![advisory(Severity::Critical)] })];
        let report = judge(s, &policy());
        assert_eq!((report.verdict, report.reason), (ScanVerdict::Fail, Some(ScanReason::ToolError)));
    }

    #[test]
    fn believed_facts_that_do_not_hold_are_a_tool_error() {
        for spoil in [
            (|f: &mut SecretFacts| f.rules = 0) as fn(&mut SecretFacts),
            |f| f.control_rule.clear(),
            |f| f.scanner_version = "2.0.0".into(),
            |f| f.commits_scanned = 0,
            |f| f.commits_scanned = 3,
        ] {
            let mut s = scan(vec![]);
            if let SecretPass::Believed(f) = &mut s.secrets {
                spoil(f);
            }
            assert_eq!(judge(s, &policy()).reason, Some(ScanReason::ToolError));
        }
    }

    #[test]
    fn a_waived_finding_stays_listed_and_passes() {
        let p = Policy { waivers: vec![waiver("1970-01-01")], ..policy() };
        let report = judge(scan(vec![secret()]), &p);
        assert_eq!(report.verdict, ScanVerdict::Pass);
        assert_eq!(report.findings[0].status, FindingStatus::Waived);
        assert!(report.idle_waivers.is_empty());
    }

    #[test]
    fn an_expired_waiver_waives_nothing_and_is_named() {
        let p = Policy { waivers: vec![waiver("1969-12-31"), waiver("soon")], ..policy() };
        let report = judge(scan(vec![secret()]), &p);
        assert_eq!(report.reason, Some(ScanReason::Findings));
        assert!(report.idle_waivers[0].why.contains("expired"), "{:?}", report.idle_waivers);
        assert!(report.idle_waivers[1].why.contains("can't be read"), "{:?}", report.idle_waivers);
        assert!(report.findings[0].waiver.is_some());
    }

    #[test]
    fn a_waiver_without_fingerprint_never_covers_a_secret_but_may_cover_an_advisory() {
        let open = Waiver { fingerprint: None, path: "**".into(), ..waiver("2099-01-01") };
        assert!(!covers(&open, &secret()));
        let open = Waiver { rule: "RUSTSEC-2020-0071".into(), ..open };
        assert!(covers(&open, &advisory(Severity::High)));
    }

    #[test]
    fn a_waiver_for_another_path_rule_or_secret_covers_nothing() {
        let w = waiver("2099-01-01");
        assert!(!covers(&w, &Finding { file: "src/a.txt".into(), ..secret() }));
        assert!(!covers(&w, &Finding { rule: "private-key".into(), ..secret() }));
        assert!(!covers(&w, &Finding { fingerprint: "cd".into(), ..secret() }));
        assert!(!covers(&Waiver { path: "[".into(), ..w }, &secret()));
    }

    #[test]
    fn inherited_and_lesser_advisories_are_reported_and_never_block() {
        let mut s = scan(vec![]);
        s.audits = vec![audit(AuditOutcome::Believed {
            packages: 2,
            findings: vec![Finding { inherited: true, ..advisory(Severity::Critical) }, advisory(Severity::Medium)],
        })];
        let report = judge(s, &policy());
        assert_eq!(report.verdict, ScanVerdict::Pass);
        assert_eq!(report.findings.len(), 2);
    }

    #[test]
    fn an_advisory_without_severity_blocks() {
        let mut s = scan(vec![]);
        s.audits = vec![audit(AuditOutcome::Believed { packages: 1, findings: vec![advisory(Severity::Unknown)] })];
        assert_eq!(judge(s, &policy()).reason, Some(ScanReason::Findings));
    }

    #[test]
    fn an_unreachable_feed_warns_loudly_or_fails_when_closed() {
        for outcome in [
            AuditOutcome::NotBelieved { why: "no answer".into() },
            AuditOutcome::NotInstalled { why: "not on PATH".into() },
            AuditOutcome::Broken { why: "timed out".into() },
        ] {
            let mut s = scan(vec![]);
            s.audits = vec![audit(outcome)];
            let open = judge(s.clone(), &policy());
            assert_eq!(open.verdict, ScanVerdict::Pass);
            assert!(open.warnings[0].contains("NOT audited"));
            let closed = judge(s, &Policy { dep_audit_fail_closed: true, ..policy() });
            assert_eq!(closed.reason, Some(ScanReason::FeedUnreachable));
            assert!(closed.errors[0].contains("NOT audited"));
        }
    }

    #[test]
    fn a_part_that_was_not_checked_is_loud_and_fails_when_closed_and_what_is_covered_is_quiet() {
        let mut s = scan(vec![]);
        let part = Audit {
            partial: Some("1 requirement is not pinned".into()),
            ..audit(AuditOutcome::Believed { packages: 1, findings: vec![] })
        };
        s.audits = vec![part];
        let open = judge(s.clone(), &policy());
        assert_eq!(open.verdict, ScanVerdict::Pass);
        assert!(open.warnings[0].contains("some dependencies of Cargo.lock were NOT audited"), "{:?}", open.warnings);
        let closed = judge(s.clone(), &Policy { dep_audit_fail_closed: true, ..policy() });
        assert_eq!(closed.reason, Some(ScanReason::FeedUnreachable));
        s.audits = vec![
            audit(AuditOutcome::Inherited { why: "x".into() }),
            audit(AuditOutcome::Covered { by: "y".into() }),
            audit(AuditOutcome::Empty),
        ];
        let quiet = judge(s, &Policy { dep_audit_fail_closed: true, ..policy() });
        assert!(quiet.verdict == ScanVerdict::Pass && quiet.warnings.is_empty());
    }
}
