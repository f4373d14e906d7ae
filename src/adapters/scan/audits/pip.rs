//! pip-audit. It gets a list of a file's pins that we write: no index options, includes, editable or remote
//! requirements of the branch reach it, and it never runs pip.

use super::manifests::Python;
use super::{Advisory, Auditor, Doubt, Seen, doubt, json, python, text, texts};
use crate::model::scan::Severity;
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) const CONTROL: &str = "urllib3==1.23\n";

/// Audits the pins of a file.
pub(super) fn audit(auditor: &Auditor<'_>, form: Python, content: &[u8]) -> Result<Seen, Doubt> {
    let pins = python::pins(form, &String::from_utf8_lossy(content)).map_err(doubt)?;
    let mut seen = Seen::default();
    // The tool refuses a name twice in one file, so a second version goes into a second file.
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, version) in &pins.pinned {
        versions.entry(name).or_default().push(version);
    }
    let rounds = versions.values().map(Vec::len).max().unwrap_or(0);
    for round in 0..rounds {
        let list: Vec<(&str, &str)> =
            versions.iter().filter_map(|(name, all)| all.get(round).map(|v| (*name, *v))).collect();
        let report = ask(auditor, &list)?;
        let part = parse(&report, list.len() as u64).map_err(doubt)?;
        seen.packages = seen.packages.saturating_add(part.packages);
        seen.advisories.extend(part.advisories);
    }
    Ok(seen)
}

fn ask(auditor: &Auditor<'_>, list: &[(&str, &str)]) -> Result<Value, Doubt> {
    let dir = auditor.clean_dir()?;
    std::fs::write(dir.join("pins.txt"), list.iter().map(|(n, v)| format!("{n}=={v}\n")).collect::<String>())?;
    let mut call = auditor.call(&dir).args([
        "--requirement",
        "pins.txt",
        "--strict",
        "--no-deps",
        "--disable-pip",
        "--format",
        "json",
        "--progress-spinner",
        "off",
    ]);
    if let Some(url) = auditor.feeds.osv_url.as_deref().filter(|u| !u.is_empty()) {
        let url = url.trim_end_matches('/');
        let query = if url.ends_with("/query") { url.to_owned() } else { format!("{url}/v1/query") };
        call = call.args(["--vulnerability-service".to_owned(), "osv".to_owned(), "--osv-url".to_owned(), query]);
    }
    let ran = call.run()?;
    let report = json(&ran, "pip-audit")?;
    match ran.code {
        Some(0 | 1) => Ok(report),
        _ => Err(doubt(format!("pip-audit {}: {}", ran.ending(), ran.complaint()))),
    }
}

/// Reads a report. Trusted if it has its marker and an answer for each of `expected` packages.
pub(super) fn parse(report: &Value, expected: u64) -> Result<Seen, String> {
    let list = report.get("dependencies").and_then(Value::as_array).ok_or("pip-audit's report has no dependencies")?;
    if let Some(skipped) = list.iter().find(|d| d.get("skip_reason").is_some()) {
        let name = text(skipped, "/name").unwrap_or_default();
        return Err(format!(
            "pip-audit could not look up {name}: {}",
            text(skipped, "/skip_reason").unwrap_or_default()
        ));
    }
    if list.len() as u64 != expected || !list.iter().all(|d| d.get("vulns").is_some_and(Value::is_array)) {
        return Err(format!("pip-audit answered for {} packages of {expected}", list.len()));
    }
    let mut advisories = Vec::new();
    for dependency in list {
        let package = text(dependency, "/name").ok_or("pip-audit's report has a package without a name")?;
        for vuln in dependency.get("vulns").and_then(Value::as_array).into_iter().flatten() {
            advisories.push(Advisory {
                id: text(vuln, "/id").ok_or("pip-audit's report has an advisory without an id")?,
                aliases: texts(vuln, "/aliases"),
                ecosystem: String::new(),
                package: package.clone(),
                version: text(dependency, "/version").unwrap_or_default(),
                // The report has no severity; unknown counts as reaching every threshold.
                severity: Severity::Unknown,
                title: text(vuln, "/description").unwrap_or_default(),
                fixed_in: texts(vuln, "/fix_versions"),
            });
        }
    }
    Ok(Seen { packages: expected, advisories })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_skipped_or_missing_package_or_an_empty_answer_is_not_believed() {
        let good = json!({"dependencies": [{"name": "urllib3", "version": "1.23", "vulns": [{"id": "P-1", "aliases": ["C"], "fix_versions": ["2"], "description": "d"}]}]});
        assert_eq!(parse(&good, 1).unwrap().advisories[0].id, "P-1");
        assert!(parse(&good, 2).is_err());
        assert!(parse(&json!({}), 0).is_err());
        assert!(parse(&json!({"dependencies": [{"name": "a", "skip_reason": "not found"}]}), 1).is_err());
        assert!(parse(&json!({"dependencies": [{"name": "a"}]}), 1).is_err());
        assert!(parse(&json!([]), 1).is_err());
    }

    proptest! {
        #[test]
        fn any_json_is_a_report_or_a_doubt(text in "[\\[\\]{}:,\"a-z0-9/]{0,80}") {
            if let Ok(v) = serde_json::from_str(&text) {
                let _ = parse(&v, 1);
            }
        }
    }
}
