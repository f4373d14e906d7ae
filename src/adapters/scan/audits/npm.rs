//! npm audit, on a copy of the lock file alone: without `package.json` or an `.npmrc` of the branch.

use super::{Advisory, Auditor, Doubt, Seen, doubt, json, text};
use crate::model::scan::Severity;
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) const CONTROL: &str = r#"{"name":"control","version":"1.0.0","lockfileVersion":3,"requires":true,"packages":{"":{"name":"control","version":"1.0.0","dependencies":{"minimist":"1.2.0"}},"node_modules/minimist":{"version":"1.2.0"}}}"#;

/// Audits a `package-lock.json`.
pub(super) fn audit(auditor: &Auditor<'_>, content: &[u8]) -> Result<Seen, Doubt> {
    let lock: Value = serde_json::from_slice(content).map_err(|e| doubt(format!("the lock file is not JSON: {e}")))?;
    let (least, most) = packages(&lock).ok_or_else(|| doubt("the lock file has neither packages nor dependencies"))?;
    let dir = auditor.clean_dir()?;
    std::fs::write(dir.join("package-lock.json"), content)?;
    let home = auditor.repo.path("home");
    let mut call = auditor
        .call(&dir)
        .args([
            "audit",
            "--package-lock-only",
            "--json",
            "--audit-level=low",
            "--offline=false",
            "--prefer-offline=false",
        ])
        .args(["--ignore-scripts", "--update-notifier=false", "--fund=false", "--fetch-retries=1", "--include=dev"])
        .args(["--include=optional", "--include=peer"]);
    for (option, path) in [
        ("prefix", dir),
        ("cache", home.join("npm-cache")),
        ("userconfig", home.join("npmrc")),
        ("globalconfig", home.join("npmrc-global")),
    ] {
        let mut arg = std::ffi::OsString::from(format!("--{option}="));
        arg.push(path);
        call = call.arg(arg);
    }
    if let Some(registry) = auditor.feeds.npm_registry.as_deref().filter(|r| !r.is_empty()) {
        call = call.arg(format!("--registry={registry}"));
    }
    let ran = call.run()?;
    let report = json(&ran, "npm audit")?;
    if report.get("auditReportVersion").is_none() {
        let said = text(&report, "/message").or_else(|| text(&report, "/error/summary")).unwrap_or_default();
        return Err(doubt(format!("npm audit got no answer from its advisory source: {said}")));
    }
    parse(&report, &lock, least, most).map_err(doubt)
}

/// Least and most packages that an audit of this lock file may count: only some versions count links.
pub(super) fn packages(lock: &Value) -> Option<(u64, u64)> {
    if let Some(map) = lock.get("packages").and_then(Value::as_object) {
        let all = map.keys().filter(|k| !k.is_empty()).count() as u64;
        let links = map.values().filter(|p| p.get("link").and_then(Value::as_bool) == Some(true)).count() as u64;
        return Some((all.saturating_sub(links), all));
    }
    fn count(of: &Value, depth: u8) -> u64 {
        let map = of.get("dependencies").and_then(Value::as_object);
        let below = |v| if depth == 0 { 0 } else { count(v, depth - 1) };
        map.into_iter().flat_map(|m| m.values()).fold(0, |n: u64, v| n.saturating_add(1).saturating_add(below(v)))
    }
    lock.get("dependencies")?.as_object()?;
    let all = count(lock, 60);
    Some((all, all))
}

/// Reads a report. Trusted if it is version 2, counts the packages of the lock file, and its totals agree.
pub(super) fn parse(report: &Value, lock: &Value, least: u64, most: u64) -> Result<Seen, String> {
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64);
    if number("/auditReportVersion") != Some(2) {
        return Err("npm audit's report is not of version 2".to_owned());
    }
    let counted = number("/metadata/dependencies/total").ok_or("npm audit's report does not count the packages")?;
    if !(least..=most).contains(&counted) {
        return Err(format!("npm audit counted {counted} packages, the lock file has {least} to {most}"));
    }
    let map = report.get("vulnerabilities").and_then(Value::as_object).ok_or("npm audit's report lists nothing")?;
    if number("/metadata/vulnerabilities/total") != Some(map.len() as u64) {
        return Err("npm audit's totals and its list contradict each other".to_owned());
    }
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for (name, entry) in map {
        let nodes = entry.get("nodes").and_then(Value::as_array);
        let first = nodes.and_then(|n| n.first()).and_then(Value::as_str).unwrap_or_default();
        let version = lock.get("packages").and_then(|p| p.get(first)).and_then(|p| text(p, "/version"));
        // A text in `via` refers to another entry of this list.
        for via in entry.get("via").and_then(Value::as_array).into_iter().flatten().filter(|v| v.is_object()) {
            let source = via.get("source").map(Value::to_string).unwrap_or_default();
            let url = text(via, "/url").unwrap_or_default();
            let ghsa = url.rsplit('/').next().filter(|id| id.starts_with("GHSA-")).map(str::to_owned);
            let id = ghsa.unwrap_or_else(|| {
                format!("npm-{}", source.chars().filter(char::is_ascii_alphanumeric).take(20).collect::<String>())
            });
            let package = text(via, "/name").unwrap_or_else(|| name.chars().take(200).collect());
            if seen.insert((id.clone(), package.clone())) {
                let range = text(via, "/range").unwrap_or_default();
                found.push(Advisory {
                    id,
                    aliases: Vec::new(),
                    ecosystem: String::new(),
                    package,
                    version: version.clone().unwrap_or_default(),
                    severity: Severity::of_advisory(&text(via, "/severity").unwrap_or_default()),
                    title: format!("{} (affects {range})", text(via, "/title").unwrap_or_default()),
                    fixed_in: Vec::new(),
                });
            }
        }
    }
    if found.is_empty() && !map.is_empty() {
        return Err("npm audit lists vulnerable packages without an advisory".to_owned());
    }
    Ok(Seen { packages: counted, advisories: found })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn report() -> Value {
        json!({
            "auditReportVersion": 2,
            "vulnerabilities": {"minimist": {"name": "minimist", "severity": "critical", "nodes": ["node_modules/minimist"], "via": [
                "other",
                {"source": 1, "name": "minimist", "title": "Prototype Pollution", "url": "https://github.com/advisories/GHSA-xvch-5gv4-984h", "severity": "moderate", "range": "<1.2.6"}
            ]}},
            "metadata": {"vulnerabilities": {"total": 1}, "dependencies": {"total": 1}}
        })
    }

    #[test]
    fn a_report_is_believed_with_marker_count_and_totals() {
        let lock: Value = serde_json::from_str(CONTROL).unwrap();
        let (least, most) = packages(&lock).unwrap();
        assert_eq!((least, most), (1, 1));
        let seen = parse(&report(), &lock, least, most).unwrap();
        assert_eq!(seen.advisories.len(), 1);
        assert_eq!(seen.advisories[0].id, "GHSA-xvch-5gv4-984h");
        assert_eq!(seen.advisories[0].version, "1.2.0");
        assert_eq!(seen.advisories[0].severity, Severity::Medium);
        for (pointer, value) in [
            ("/auditReportVersion", json!(1)),
            ("/metadata/dependencies/total", json!(0)),
            ("/metadata/vulnerabilities/total", json!(0)),
            ("/vulnerabilities", json!([])),
            ("/vulnerabilities/minimist/via", json!([])),
        ] {
            let mut bad = report();
            *bad.pointer_mut(pointer).unwrap() = value;
            assert!(parse(&bad, &lock, least, most).is_err(), "{pointer}");
        }
        assert!(parse(&json!({}), &lock, 1, 1).is_err());
    }

    #[test]
    fn an_old_lock_file_is_counted_through_its_nesting() {
        let lock = json!({"lockfileVersion": 1, "dependencies": {"a": {"version": "1", "dependencies": {"b": {"version": "1"}}}, "c": {}}});
        assert_eq!(packages(&lock), Some((3, 3)));
        assert_eq!(packages(&json!({"packages": {"": {}, "x": {}, "node_modules/x": {"link": true}}})), Some((1, 2)));
        assert_eq!(packages(&json!({})), None);
    }

    proptest! {
        #[test]
        fn any_json_is_a_report_or_a_doubt(text in "[\\[\\]{}:,\"a-z0-9/]{0,80}") {
            if let Ok(v) = serde_json::from_str::<Value>(&text) {
                let _ = (parse(&v, &v, 1, 1), packages(&v));
            }
        }
    }
}
