//! `15-staging-log.md` and the lines of `orch staging-check` (SHIP-3).

use super::evidence::{ArtefactHead, cell, front_matter};
use crate::model::staging::{CheckResult, StagingVerdict, Waived};
use serde_json::{Value, json};

/// One check on stdout: id, class, result, time, its name, and what was seen where it did not pass.
pub fn line(r: &CheckResult) -> String {
    let mut text = format!("{:<8} {:<13} {:<7} {:>6} ms", r.id, r.class, r.result, r.time_ms);
    let seen = (r.result != crate::model::staging::CheckOutcome::Pass).then_some(r.detail.as_str());
    for part in r.name.as_deref().into_iter().chain(seen) {
        text.push_str("  ");
        text.push_str(part);
    }
    text
}

/// `INFRA-WAIVED <id> <reason>`.
pub fn waived_line(w: &Waived) -> String {
    format!("INFRA-WAIVED {} {}", w.id, w.reason)
}

/// The last line.
pub fn verdict_line(v: &StagingVerdict) -> String {
    format!("VERDICT {}", v.status)
}

/// The JSON entries: the public shape, and `waived` (the reason, or false).
pub fn checks_json(results: &[CheckResult], v: &StagingVerdict) -> Value {
    let entry = |r: &CheckResult| {
        json!({
            "id": r.id, "class": r.class, "result": r.result, "detail": r.detail, "time_ms": r.time_ms,
            "waived": v.waiver(&r.id).is_some(),
        })
    };
    Value::Array(results.iter().map(entry).collect())
}

/// The artefact. Its verdict key is `staging_status` (PIPE-5).
pub fn log(head: &ArtefactHead, results: &[CheckResult], v: &StagingVerdict) -> String {
    let mut text = front_matter(head, ("staging_status", v.status.as_str()));
    text.push_str(&format!(
        "# Staging: {}\n\n| check | class | result | time | seen |\n| --- | --- | --- | ---: | --- |\n",
        v.status
    ));
    for r in results {
        let waived = if v.waiver(&r.id).is_some() { " (waived)" } else { "" };
        text.push_str(&format!(
            "| {} | {} | {}{waived} | {} ms | {} |\n",
            cell(&r.label()),
            r.class,
            r.result,
            r.time_ms,
            cell(&r.detail)
        ));
    }
    if !v.waived.is_empty() {
        text.push_str("\n## Waived\n\n");
        for w in &v.waived {
            text.push_str(&format!("- {}: {}\n", cell(&w.id), cell(&w.reason)));
        }
    }
    if !v.because.is_empty() {
        text.push_str("\n## Why it failed\n\n");
        for why in &v.because {
            text.push_str(&format!("- {}\n", cell(why)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::staging::{CheckClass, CheckOutcome, StagingStatus};

    #[test]
    fn the_log_has_verdict_results_and_waivers() {
        let head = ArtefactHead {
            work_item: "ORCH-1".into(),
            stage: "deploy-staging".into(),
            agent: "staging-check".into(),
            created: "2026-01-01T00:00:00.000Z".into(),
            head: Some("0".repeat(40)),
            ..ArtefactHead::default()
        };
        let results = [
            CheckResult::new("S1", CheckClass::Real, CheckOutcome::Pass, "status 200", 3)
                .named(Some("the shop\nanswers")),
            CheckResult::new("S3", CheckClass::SandboxInfra, CheckOutcome::Fail, "a|b", 4),
        ];
        let v = StagingVerdict {
            status: StagingStatus::Success,
            waived: vec![Waived { id: "S3".into(), reason: "known".into() }],
            because: vec![],
        };
        let text = log(&head, &results, &v);
        assert!(text.starts_with("---\nwork_item: ORCH-1\nstage: deploy-staging\nagent: staging-check\n"), "{text}");
        assert!(text.contains("staging_status: SUCCESS\n---\n"));
        assert!(text.contains("| S3 | SANDBOX_INFRA | FAIL (waived) | 4 ms | a\\|b |"));
        assert_eq!(line(&results[0]), "S1       REAL          PASS         3 ms  the shop answers");
        assert!(text.contains("| S1: the shop answers | REAL | PASS | 3 ms |"), "{text}");
        assert_eq!(waived_line(&v.waived[0]), "INFRA-WAIVED S3 known");
        assert_eq!(checks_json(&results, &v)[1]["waived"], true);
    }
}
