//! cargo-audit, on a copy of the lock file in a folder without any `.cargo/audit.toml`.

use super::{Advisory, Auditor, Doubt, Seen, doubt, json, text, texts};
use crate::model::scan::Severity;
use serde_json::Value;
use std::path::Path;

pub(super) const CONTROL: &str = "version = 3\n\n[[package]]\nname = \"time\"\nversion = \"0.1.43\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n";

/// The public database has over a thousand advisories; one with fewer than this is not it.
const PUBLIC_FLOOR: u64 = 500;

/// Audits a `Cargo.lock`.
pub(super) fn audit(auditor: &Auditor<'_>, content: &[u8]) -> Result<Seen, Doubt> {
    let dir = auditor.clean_dir()?;
    std::fs::write(dir.join("Cargo.lock"), content)?;
    let mut call = auditor.call(&dir).args(["audit", "--json", "--color", "never", "--file", "Cargo.lock"]);
    let db = auditor.cache.map_or_else(|| auditor.repo.path("out/advisory-db"), |c| c.join("advisory-db"));
    let mut floor = PUBLIC_FLOOR;
    match auditor.feeds.cargo_db.as_deref().filter(|d| !d.is_empty()) {
        Some(folder) if Path::new(folder).is_dir() => {
            floor = 1;
            call = call.arg("--db").arg(std::path::absolute(folder)?).args(["--no-fetch", "--stale"]);
        }
        Some(url) if url.contains("://") => {
            floor = 1;
            call = call.args(["--url", url]).arg("--db").arg(&db);
        }
        Some(other) => return Err(doubt(format!("security.feeds.cargo_db {other:?} is neither a folder nor a URL"))),
        None => call = call.arg("--db").arg(&db),
    }
    let ran = call.run()?;
    let report = json(&ran, "cargo-audit")?;
    if !matches!(ran.code, Some(0 | 1)) {
        return Err(doubt(format!("cargo-audit {}: {}", ran.ending(), ran.complaint())));
    }
    parse(&report, packages(content), floor).map_err(doubt)
}

/// Packages of a lock file.
pub(super) fn packages(content: &[u8]) -> u64 {
    content.split(|b| *b == b'\n').filter(|line| line.trim_ascii() == b"[[package]]").count() as u64
}

/// Reads a report. Trusted if it has its markers, ignores nothing, and counts the packages of the lock file.
pub(super) fn parse(report: &Value, expected: u64, floor: u64) -> Result<Seen, String> {
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64);
    let advisories = number("/database/advisory-count").ok_or("cargo-audit's report does not name its database")?;
    if advisories < floor {
        return Err(format!("cargo-audit's database has {advisories} advisories, fewer than {floor}"));
    }
    let counted = number("/lockfile/dependency-count").ok_or("cargo-audit's report does not count the packages")?;
    if counted != expected {
        return Err(format!("cargo-audit counted {counted} packages, the lock file has {expected}"));
    }
    if report.pointer("/settings/ignore").and_then(Value::as_array).is_none_or(|i| !i.is_empty()) {
        return Err("cargo-audit is configured to ignore advisories, and not by orch".to_owned());
    }
    let list = report.pointer("/vulnerabilities/list").and_then(Value::as_array);
    let list = list.ok_or("cargo-audit's report has no list of vulnerabilities")?;
    if number("/vulnerabilities/count") != Some(list.len() as u64) {
        return Err("cargo-audit's count and its list contradict each other".to_owned());
    }
    let mut found = Vec::new();
    for entry in list {
        let severity = text(entry, "/advisory/cvss").map_or(Severity::Unknown, |vector| severity_of(&vector));
        found.push(advisory(entry, severity).ok_or("cargo-audit's report has an entry without id or package")?);
    }
    let warnings = report.get("warnings").and_then(Value::as_object);
    for (kind, entries) in warnings.into_iter().flatten() {
        for entry in entries.as_array().into_iter().flatten() {
            // An unsound crate counts by its own score; unmaintained, yanked and notices are only for people.
            let severity = match kind.as_str() {
                "unsound" => text(entry, "/advisory/cvss").map_or(Severity::Medium, |vector| severity_of(&vector)),
                _ => Severity::Low,
            };
            if let Some(mut a) = advisory(entry, severity) {
                a.title = format!("{kind}: {}", a.title);
                found.push(a);
            }
        }
    }
    Ok(Seen { packages: counted, advisories: found })
}

fn advisory(entry: &Value, severity: Severity) -> Option<Advisory> {
    Some(Advisory {
        id: text(entry, "/advisory/id")?,
        aliases: texts(entry, "/advisory/aliases"),
        ecosystem: String::new(),
        package: text(entry, "/package/name")?,
        version: text(entry, "/package/version").unwrap_or_default(),
        severity,
        title: text(entry, "/advisory/title").unwrap_or_default(),
        fixed_in: texts(entry, "/versions/patched"),
    })
}

/// Severity of a CVSS vector of any version by its base score; unknown if it can't be read.
pub(super) fn severity_of(vector: &str) -> Severity {
    let Ok(parsed) = vector.trim().parse::<cvss::Cvss>() else { return Severity::Unknown };
    // The crate accepts a version 3 vector that lacks base metrics, and scores it 0.
    if let cvss::Cvss::CvssV30(v) | cvss::Cvss::CvssV31(v) = &parsed {
        let exploit = v.av.is_some() && v.ac.is_some() && v.pr.is_some() && v.ui.is_some();
        let impact = v.s.is_some() && v.c.is_some() && v.i.is_some() && v.a.is_some();
        if !(exploit && impact) {
            return Severity::Unknown;
        }
    }
    of_score(parsed.score())
}

/// Severity of a score from 0 to 10, by the bands that all versions share.
pub(super) fn of_score(score: f64) -> Severity {
    match score {
        s if s >= 9.0 => Severity::Critical,
        s if s >= 7.0 => Severity::High,
        s if s >= 4.0 => Severity::Medium,
        s if s >= 0.0 => Severity::Low,
        _ => Severity::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn report() -> Value {
        json!({
            "database": {"advisory-count": 3, "last-commit": null, "last-updated": null},
            "lockfile": {"dependency-count": 1},
            "settings": {"ignore": []},
            "vulnerabilities": {"found": true, "count": 1, "list": [{
                "advisory": {"id": "RUSTSEC-2020-0071", "title": "t", "cvss": "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:N/I:N/A:H", "aliases": ["CVE-2020-26235"]},
                "versions": {"patched": [">=0.2.23"]},
                "package": {"name": "time", "version": "0.1.43"}
            }]},
            "warnings": {"unmaintained": [{"advisory": {"id": "RUSTSEC-1", "title": "u"}, "package": {"name": "x", "version": "1"}}], "yanked": [{"advisory": null, "package": {"name": "y", "version": "1"}}]}
        })
    }

    #[test]
    fn a_report_is_believed_with_marker_count_and_nothing_ignored() {
        let seen = parse(&report(), 1, 1).unwrap();
        assert_eq!(seen.advisories[0].severity, Severity::Medium);
        assert_eq!(seen.advisories[1].severity, Severity::Low);
        assert_eq!(seen.advisories.len(), 2);
        assert!(parse(&report(), 2, 1).is_err(), "another package count");
        assert!(parse(&report(), 1, 500).is_err(), "a toy database");
        for (pointer, value) in [
            ("/settings/ignore", json!(["RUSTSEC-2020-0071"])),
            ("/database", json!({})),
            ("/lockfile", json!(null)),
            ("/vulnerabilities/list", json!([])),
        ] {
            let mut bad = report();
            *bad.pointer_mut(pointer).unwrap() = value;
            assert!(parse(&bad, 1, 1).is_err(), "{pointer}");
        }
    }

    #[test]
    fn scores_follow_the_published_examples() {
        for (vector, severity) in [
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", Severity::Critical),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H", Severity::High),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", Severity::Medium),
            ("CVSS:3.0/AV:P/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N", Severity::Low),
            ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", Severity::Critical),
            ("CVSS:4.0/AV:L/AC:L/AT:P/PR:L/UI:N/VC:L/VI:N/VA:N/SC:N/SI:N/SA:N", Severity::Low),
            ("AV:N/AC:L/Au:N/C:C/I:C/A:C", Severity::Critical),
            ("AV:L/AC:H/Au:N/C:P/I:N/A:N", Severity::Low),
            ("CVSS:4.0/AV:N", Severity::Unknown),
            ("CVSS:9.0/AV:N/AC:L", Severity::Unknown),
            ("CVSS:3.1/AV:N", Severity::Unknown),
        ] {
            assert_eq!(severity_of(vector), severity, "{vector}");
        }
    }

    #[test]
    fn packages_are_counted_by_their_headers() {
        assert_eq!(packages(CONTROL.as_bytes()), 1);
        assert_eq!(packages(b"[[package]]\r\n[[package]]\nx = \"[[package]]\""), 2);
    }

    proptest! {
        #[test]
        fn any_json_is_a_report_or_a_doubt(text in "[\\[\\]{}:,\"a-z0-9/]{0,80}", vector in "(CVSS:[234].[01]/|)[/A-Za-z:]{0,60}") {
            let _ = severity_of(&vector);
            if let Ok(v) = serde_json::from_str(&text) {
                let _ = parse(&v, 1, 1);
            }
        }
    }
}
