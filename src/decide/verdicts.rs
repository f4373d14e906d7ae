//! The findings of `orch`'s own jobs, as verdicts (SHIP-1, SHIP-3, SHIP-5). The gate uses the document as read back:
//! one that differs from the finding is no verdict. Pure.

use super::gates::verdict::{Reading, Verdict};
use crate::model::deploy::{DeployEnd, DeployStatus};
use crate::model::evidence::EvidenceVerdict;
use crate::model::scan::{Audit, ScanReason, ScanReport};
use crate::model::staging::StagingStatus;

/// Of the staging checks. `found`: their fold; `because`: what failed; `waived`: checks that were waived.
pub fn staging(
    read: &Reading,
    found: StagingStatus,
    checks: usize,
    because: &[String],
    waived: &[&str],
) -> (EvidenceVerdict, String) {
    match (&read.verdict, found) {
        (Verdict::Pass, StagingStatus::Success) => {
            let more = if waived.is_empty() { String::new() } else { format!("; waived: {}", waived.join(", ")) };
            (EvidenceVerdict::Pass, format!("{checks} staging checks passed{more}"))
        }
        (Verdict::Fail, StagingStatus::Failed) => {
            (EvidenceVerdict::Fail, format!("staging failed: {}", because.join("; ")))
        }
        (Verdict::Pass | Verdict::Fail | Verdict::None(_), _) => (EvidenceVerdict::ToolError, read.why.clone()),
    }
}

/// Of a scan. `reason`: why it failed, if it did; `headline` and `warnings`: its own words; `errors`: what could not be
/// scanned.
pub fn scan(
    read: &Reading,
    reason: Option<ScanReason>,
    headline: String,
    warnings: &[String],
    errors: &[String],
) -> (EvidenceVerdict, String) {
    match (&read.verdict, reason) {
        // Shown prominently in report, card and log (SHIP-1).
        (Verdict::Pass, None) => {
            let said: Vec<String> = std::iter::once(headline).chain(warnings.iter().cloned()).collect();
            (EvidenceVerdict::Pass, said.join("; "))
        }
        (Verdict::Fail, Some(ScanReason::Findings)) => (EvidenceVerdict::Fail, headline),
        (Verdict::Pass | Verdict::Fail | Verdict::None(_), _) => {
            let why = if errors.is_empty() { read.why.clone() } else { errors.join("; ") };
            (EvidenceVerdict::ToolError, why)
        }
    }
}

/// Whether a scan's sentence names dependencies that could not be audited. `closed`: they fail the gate.
pub fn scan_caveat(verdict: EvidenceVerdict, report: &ScanReport, closed: bool) -> bool {
    let named = match verdict {
        EvidenceVerdict::Pass => true,
        EvidenceVerdict::ToolError => closed,
        EvidenceVerdict::Fail | EvidenceVerdict::Missing => false,
    };
    named && report.scan.audits.iter().any(Audit::is_incomplete)
}

/// Of a deploy that is no longer awaited. `command`: a command deploys; else the merge was the deploy.
pub fn deploy(status: &DeployStatus, command: bool) -> (DeployEnd, EvidenceVerdict, String) {
    match status {
        DeployStatus::Success => {
            let why = if command { "deployed, exit 0" } else { "landed; there is no deploy command" };
            (DeployEnd::Success, EvidenceVerdict::Pass, why.to_owned())
        }
        DeployStatus::FailedSafe => {
            let why = "the deploy ended with exit 1; production is unchanged";
            (DeployEnd::FailedSafe, EvidenceVerdict::Fail, why.to_owned())
        }
        DeployStatus::FailedUnknown { why } | DeployStatus::Pending { why } => {
            (DeployEnd::FailedUnknown, EvidenceVerdict::ToolError, format!("production is unknown: {why}"))
        }
    }
}

/// Past the command's own limit, in seconds.
const AFTER_LIMIT_S: i64 = 60;

/// Why a deploy's result is no longer awaited; `None`: it still is. `since_ms`: since the command's own start, because
/// time in a freeze before it does not count; `None`: in another boot. A self-hosting command may outlive its wrapper
/// (BND-6).
pub fn deploy_is_over(
    since_ms: Option<i64>,
    timeout_s: u64,
    self_hosting: bool,
    nobody_alive: bool,
) -> Option<&'static str> {
    let limit = i64::try_from(timeout_s).unwrap_or(i64::MAX).saturating_add(AFTER_LIMIT_S).saturating_mul(1000);
    if since_ms.is_none_or(|ms| ms > limit) {
        Some("by the deadline")
    } else if !self_hosting && nobody_alive {
        Some("and no process is left that could write it")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(verdict: Verdict) -> Reading {
        Reading { verdict, why: "read".into() }
    }

    #[test]
    fn a_document_that_says_otherwise_is_no_verdict() {
        let none = || Verdict::None("x".into());
        for (verdict, found, want) in [
            (Verdict::Pass, StagingStatus::Success, EvidenceVerdict::Pass),
            (Verdict::Fail, StagingStatus::Failed, EvidenceVerdict::Fail),
            (Verdict::Pass, StagingStatus::Failed, EvidenceVerdict::ToolError),
            (Verdict::Fail, StagingStatus::Success, EvidenceVerdict::ToolError),
            (none(), StagingStatus::Success, EvidenceVerdict::ToolError),
        ] {
            assert_eq!(staging(&read(verdict), found, 2, &[], &[]).0, want, "{found}");
        }
        assert_eq!(
            staging(&read(Verdict::Pass), StagingStatus::Success, 2, &[], &["a"]).1,
            "2 staging checks passed; waived: a"
        );
        for (verdict, reason, want) in [
            (Verdict::Pass, None, EvidenceVerdict::Pass),
            (Verdict::Fail, Some(ScanReason::Findings), EvidenceVerdict::Fail),
            (Verdict::Pass, Some(ScanReason::Findings), EvidenceVerdict::ToolError),
            (Verdict::Fail, None, EvidenceVerdict::ToolError),
            (none(), None, EvidenceVerdict::ToolError),
        ] {
            assert_eq!(scan(&read(verdict), reason, "h".into(), &[], &[]).0, want, "{reason:?}");
        }
        for reason in ScanReason::ALL.iter().filter(|r| **r != ScanReason::Findings) {
            let (verdict, why) = scan(&read(Verdict::Fail), Some(*reason), "h".into(), &[], &["e".into()]);
            assert_eq!((verdict, why.as_str()), (EvidenceVerdict::ToolError, "e"), "only findings send a task back");
        }
    }

    #[test]
    fn ship_5_only_exit_1_is_known_to_have_left_production_as_it_was() {
        let of = |status| deploy(&status, true);
        assert_eq!(of(DeployStatus::Success).1, EvidenceVerdict::Pass);
        assert_eq!(of(DeployStatus::FailedSafe).0, DeployEnd::FailedSafe);
        for status in [DeployStatus::FailedUnknown { why: "x".into() }, DeployStatus::Pending { why: "x".into() }] {
            let (end, verdict, why) = of(status);
            assert_eq!((end, verdict), (DeployEnd::FailedUnknown, EvidenceVerdict::ToolError));
            assert!(why.starts_with("production is unknown"), "{why}");
        }
        assert!(deploy(&DeployStatus::Success, false).2.contains("no deploy command"));
    }

    #[test]
    fn ship_5_a_result_is_waited_for_while_somebody_could_write_it() {
        assert_eq!(deploy_is_over(Some(70_000), 10, false, false), None);
        assert_eq!(deploy_is_over(Some(70_001), 10, true, false), Some("by the deadline"));
        assert_eq!(deploy_is_over(None, 10, true, false), Some("by the deadline"), "another boot");
        assert!(deploy_is_over(Some(1), 10, false, true).is_some_and(|why| why.contains("no process")));
        assert_eq!(deploy_is_over(Some(1), 10, true, true), None, "its command may outlive its wrapper");
    }
}
