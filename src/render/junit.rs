//! Staging results as JUnit XML.

use crate::model::staging::{CheckOutcome, CheckResult, StagingVerdict};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use std::time::Duration;

/// The XML document. A waived failure is a skipped case with its reason. A failure that belongs to no single check
/// (nothing declared, a missing result) gets a case of its own, so that the document never looks better than the
/// verdict. Fails only if the writer fails.
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
            status.set_message(plain(&waived.map_or_else(|| r.detail.clone(), |w| format!("INFRA-WAIVED {w}"))));
            status.set_type(r.class.as_str());
        }
        let mut case = TestCase::new(plain(&r.label()), status);
        case.set_classname(r.class.as_str());
        case.set_time(Duration::from_millis(r.time_ms));
        suite.add_test_case(case);
    }
    if bad == 0 && !v.because.is_empty() {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_message(plain(&v.because.join("; ")));
        suite.add_test_case(TestCase::new("verdict", status));
    }
    let mut report = Report::new(name);
    report.add_test_suite(suite);
    report.to_string().map_err(|e| e.to_string())
}

/// Text that XML 1.0 allows; any other character becomes U+FFFD.
fn plain(text: &str) -> String {
    let allowed = |c: char| {
        matches!(c, '\t' | '\n' | '\r' | ' '..='\u{7e}' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
            && u32::from(c) & 0xfffe != 0xfffe
    };
    text.chars().map(|c| if allowed(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
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

    proptest::proptest! {
        #[test]
        fn any_output_makes_a_document_of_characters_that_xml_has(text in proptest::prelude::any::<String>(), n in 0_u32..0x11_0000) {
            let character = char::from_u32(n).unwrap_or('\u{ffff}');
            let said = format!("{text}{character}\u{ffff}\u{fffe}\u{1}\u{1b}\u{7f}\u{1ffff}");
            let results = [CheckResult { detail: said.clone(), ..CheckResult::new("S1", CheckClass::Real, CheckOutcome::Fail, "", 3) }];
            let v = StagingVerdict { status: StagingStatus::Failed, waived: vec![], because: vec![said] };
            let xml = junit("staging", &results, &v).unwrap();
            // XML's own rule: no other characters, and no reference to one.
            proptest::prop_assert!(xml.chars().all(|c| {
                let c = u32::from(c);
                matches!(c, 0x9 | 0xa | 0xd | 0x20..=0xd7ff | 0xe000..=0xfffd | 0x1_0000..)
            }), "{xml:?}");
            for part in xml.split("&#").skip(1) {
                let number = part.split(';').next().unwrap_or_default();
                let code = number.strip_prefix('x').map_or_else(|| number.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok());
                proptest::prop_assert!(matches!(code, Some(0x9 | 0xa | 0xd | 0x20..=0xd7ff | 0xe000..=0xfffd | 0x1_0000..)), "{number}");
            }
        }
    }
}
