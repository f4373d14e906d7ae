//! osv-scanner, for lock files without a tool of their own; our own empty configuration overrides any other.

use super::{Advisory, Auditor, Doubt, Seen, doubt, json, text, texts};
use crate::model::scan::Severity;
use serde_json::Value;

/// Audits one lock file under its own name, by which the scanner recognises the format.
pub(super) fn audit(auditor: &Auditor<'_>, path: &str, content: &[u8]) -> Result<Seen, Doubt> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let dir = auditor.clean_dir()?;
    std::fs::write(dir.join(name), content)?;
    std::fs::write(dir.join("orch-osv.toml"), "")?;
    let ran = auditor
        .call(&dir)
        .args(["scan", "source", "--format", "json", "--all-packages", "--config", "orch-osv.toml", "--lockfile", name])
        .run()?;
    let report = json(&ran, "osv-scanner")?;
    match ran.code {
        Some(0 | 1) => parse(&report).map_err(doubt),
        _ => Err(doubt(format!("osv-scanner {}: {}", ran.ending(), ran.complaint()))),
    }
}

/// Reads a report. Trusted if it lists packages; an advisory's severity is its group's highest score.
pub(super) fn parse(report: &Value) -> Result<Seen, String> {
    let results = report.get("results").and_then(Value::as_array).ok_or("osv-scanner's report has no results")?;
    let mut seen = Seen::default();
    for entry in results.iter().filter_map(|r| r.get("packages")?.as_array()).flatten() {
        seen.packages = seen.packages.saturating_add(1);
        for vuln in entry.get("vulnerabilities").and_then(Value::as_array).into_iter().flatten() {
            let id = text(vuln, "/id").ok_or("osv-scanner's report has an advisory without an id")?;
            let groups = entry.get("groups").and_then(Value::as_array);
            let score = groups.into_iter().flatten().find_map(|g| {
                texts(g, "/ids").contains(&id).then(|| text(g, "/max_severity"))?.and_then(|s| s.parse::<f64>().ok())
            });
            seen.advisories.push(Advisory {
                id,
                aliases: texts(vuln, "/aliases"),
                ecosystem: text(entry, "/package/ecosystem").unwrap_or_default(),
                package: text(entry, "/package/name").unwrap_or_default(),
                version: text(entry, "/package/version").unwrap_or_default(),
                severity: score.map_or(Severity::Unknown, super::cargo::of_score),
                title: text(vuln, "/summary").unwrap_or_default(),
                fixed_in: Vec::new(),
            });
        }
    }
    if seen.packages == 0 { Err("osv-scanner's report lists no package".to_owned()) } else { Ok(seen) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn severity_is_the_groups_and_an_empty_report_is_not_believed() {
        let report = json!({"results": [{"packages": [{
            "package": {"name": "x", "version": "1", "ecosystem": "Go"},
            "vulnerabilities": [{"id": "GO-1", "summary": "s"}, {"id": "GO-2"}],
            "groups": [{"ids": ["GO-1"], "max_severity": "7.5"}]
        }]}]});
        let seen = parse(&report).unwrap();
        assert_eq!(seen.advisories[0].severity, Severity::High);
        assert_eq!(seen.advisories[1].severity, Severity::Unknown);
        assert!(parse(&json!({"results": []})).is_err());
        assert!(parse(&json!({})).is_err());
    }

    proptest! {
        #[test]
        fn any_json_is_a_report_or_a_doubt(text in "[\\[\\]{}:,\"a-z0-9/]{0,80}") {
            if let Ok(v) = serde_json::from_str::<Value>(&text) {
                let _ = parse(&v);
            }
        }
    }
}
