//! Staging results as JUnit XML.

use crate::model::staging::{CheckOutcome, CheckResult, StagingVerdict};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use std::time::Duration;

/// The XML document; a waived failure is a skipped case with its reason. What failed the fold without being any check's
/// own failure (nothing declared, a result missing) is a case of its own, so that the document never looks better than the
/// verdict. Fails only if the writer does.
pub fn junit(name: &str, results: &[CheckResult], v: &StagingVerdict) -> Result<String, String> {
    let mut suite = TestSuite::new(name);
    let mut bad = 0;
    for r in results {
        let waived = v.waiver(&r.id);
        let mut status = match (r.result, waived) {
            (CheckOutcome::Pass, _) => TestCaseStatus::success(),
            (CheckOutcome::Fail, Some(_)) => TestCaseStatus::skipped(),
            (CheckOutcome::Fail, None) => TestCaseStatus::non_success(NonSuccessKind::Failure),
            (CheckOutcome::Error | CheckOutcome::NotRun | CheckOutcome::Unknown, _) => {
                TestCaseStatus::non_success(NonSuccessKind::Error)
            }
        };
        if r.result != CheckOutcome::Pass {
            bad += usize::from(waived.is_none());
            status.set_message(waived.map_or_else(|| r.detail.clone(), |w| format!("INFRA-WAIVED {w}")));
            status.set_type(r.class.as_str());
        }
        let mut case = TestCase::new(r.id.as_str(), status);
        case.set_classname(r.class.as_str());
        case.set_time(Duration::from_millis(r.time_ms));
        suite.add_test_case(case);
    }
    if bad == 0 && !v.because.is_empty() {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_message(v.because.join("; "));
        suite.add_test_case(TestCase::new("verdict", status));
    }
    let mut report = Report::new(name);
    report.add_test_suite(suite);
    report.to_string().map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::staging::{CheckClass, StagingStatus, Waived};

    #[test]
    fn the_document_is_never_better_than_the_verdict() {
        let results = [
            CheckResult::new("S1", CheckClass::Real, CheckOutcome::Fail, "status 500 <&>", 3),
            CheckResult::new("S2", CheckClass::SandboxInfra, CheckOutcome::Fail, "refused", 3),
        ];
        let v = StagingVerdict {
            status: StagingStatus::Failed,
            waived: vec![Waived { id: "S2".into(), reason: "known".into() }],
            because: vec!["S1 failed".into()],
        };
        let xml = junit("staging", &results, &v).unwrap();
        assert!(
            xml.contains("failures=\"1\"") && xml.contains("&lt;&amp;&gt;") && xml.contains("INFRA-WAIVED known"),
            "{xml}"
        );
        let none = StagingVerdict { waived: vec![], ..v };
        let xml = junit("staging", &[], &none).unwrap();
        assert!(xml.contains("errors=\"1\""), "{xml}");
    }
}
