//! A judged security scan as Markdown artefact, text, JSON and SARIF 2.1.0. Pure; its input contains no secret.

use crate::model::scan::{
    Audit, AuditOutcome, Finding, FindingKind, FindingStatus, Judged, ScanReason, ScanReport, ScanVerdict, SecretPass,
    Severity,
};
use crate::model::text::one_line;
use crate::model::time::rfc3339;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// Author and time, for the artefact's front matter (PIPE-6).
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The work item's key; empty when `orch security-scan` ran on its own.
    pub work_item: &'a str,
    pub stage: &'a str,
    /// Wall time, milliseconds since the epoch.
    pub created_ms: i64,
}

/// `17-security-report.md`: front matter for machines and a body for people.
pub fn markdown(report: &ScanReport, head: Head<'_>) -> String {
    let mut out = String::from("---\n");
    let mut field = |name: &str, value: Value| {
        // A JSON scalar is also a YAML scalar, quotes included, so nothing in it can end the block.
        let _ = writeln!(out, "{name}: {value}");
    };
    field("work_item", json!(head.work_item));
    field("stage", json!(head.stage));
    field("agent", json!("orch"));
    field("created", json!(rfc3339(head.created_ms)));
    field("security_status", json!(report.verdict));
    if let Some(reason) = report.reason {
        field("reason", json!(reason));
    }
    let range = &report.scan.range;
    field("range", json!(format!("{}..{}", range.base, range.head)));
    field("base", json!(range.base));
    field("head", json!(range.head));
    field("tree", json!(range.tree));
    field("commits", json!(range.commits));
    if let SecretPass::Believed(facts) = &report.scan.secrets {
        field("scanner", json!(format!("gitleaks {}", facts.scanner_version)));
        field("rules", json!(facts.rules));
        field("commits_scanned", json!(facts.commits_scanned));
        field("control", json!(format!("found by {}", facts.control_rule)));
    }
    field("blocking", json!(report.blocking().count()));
    out.push_str("---\n\n# Security report\n\n");
    body(report, &mut out);
    out
}

fn body(report: &ScanReport, out: &mut String) {
    let _ = writeln!(out, "**{}**: {}\n", report.verdict, headline(report));
    if report.reason == Some(ScanReason::Findings) && report.blocking().any(|f| f.kind == FindingKind::Secret) {
        out.push_str(
            "Rotate first: a secret that was pushed is known. Revoke it where it was issued, then remove it. \
             Removing it in a later commit is not enough; the rework lands as one commit.\n\n",
        );
    }
    for (title, lines) in [("Could not be trusted", &report.errors), ("Warnings", &report.warnings)] {
        if !lines.is_empty() {
            let _ = writeln!(out, "## {title}\n");
            for line in lines {
                let _ = writeln!(out, "- {}", one_line(line));
            }
            out.push('\n');
        }
    }
    for status in FindingStatus::ALL {
        let rows: Vec<&Judged> = report.findings.iter().filter(|j| j.status == *status).collect();
        if rows.is_empty() {
            continue;
        }
        let _ = writeln!(out, "## {}\n", heading(*status));
        out.push_str(
            "| rule | where | commit | severity | what | fingerprint |\n| --- | --- | --- | --- | --- | --- |\n",
        );
        for j in rows {
            let f = &j.finding;
            let what = match &j.waiver {
                Some(w) if j.status == FindingStatus::Waived => {
                    format!("{} (waived by {} until {}: {})", what(f), w.owner, w.expires, w.reason)
                }
                Some(w) => format!("{} (waiver of {} expired {})", what(f), w.owner, w.expires),
                None => what(f),
            };
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} |",
                cell(&f.rule),
                cell(&place(f)),
                cell(f.commit.as_deref().map_or("", short)),
                f.severity,
                cell(&what),
                code(&f.fingerprint),
            );
        }
        out.push('\n');
    }
    if !report.idle_waivers.is_empty() {
        out.push_str("## Waivers without effect\n\n");
        for idle in &report.idle_waivers {
            let w = &idle.waiver;
            let _ = writeln!(out, "- {} in {} ({}): {}", cell(&w.rule), cell(&w.path), cell(&w.owner), idle.why);
        }
        out.push('\n');
    }
    out.push_str("## What was done\n\n");
    let range = &report.scan.range;
    let _ = writeln!(out, "- range {}..{}, {} commits", range.base, range.head, range.commits);
    match &report.scan.secrets {
        SecretPass::Believed(f) => {
            let _ = writeln!(
                out,
                "- secrets: gitleaks {}, {} rules ({}), {} commits read (expected {} to {}; merges by {}), {} file contents and {} raw commits and tags also read in plain form; planted control found by {}",
                f.scanner_version,
                f.rules,
                cell(&f.config),
                f.commits_scanned,
                f.commits_least,
                f.commits_most,
                f.merges,
                f.blobs,
                f.objects,
                f.control_rule
            );
            if f.allowed_by_path > 0 {
                let _ =
                    writeln!(out, "- {} findings are covered by the project's own path allow-list", f.allowed_by_path);
            }
        }
        SecretPass::ToolError { .. } => out.push_str("- secrets: the scanner could not run\n"),
    }
    if !report.scan.audit_enabled {
        out.push_str("- dependencies: the audit is switched off\n");
    } else if report.scan.audits.is_empty() {
        out.push_str("- dependencies: no manifest or lock file of a known ecosystem\n");
    }
    for a in &report.scan.audits {
        let _ = writeln!(out, "- dependencies: {}", cell(&audit_line(a)));
    }
}

/// One line per manifest or lock file: audited with its count, inherited, covered, empty, or not audited and why.
fn audit_line(a: &Audit) -> String {
    let by = match (&a.version, a.tool.as_str()) {
        (_, "") => String::new(),
        (None, tool) => format!(" by {tool}"),
        (Some(version), tool) => format!(" by {tool} {version}"),
    };
    let said = match &a.outcome {
        AuditOutcome::Believed { packages, findings } => {
            let part = a.partial.as_ref().map(|why| format!("; {why}, NOT audited")).unwrap_or_default();
            format!("audited{by}, {packages} packages, {} advisories; control found{part}", findings.len())
        }
        AuditOutcome::NotBelieved { why } | AuditOutcome::NotInstalled { why } | AuditOutcome::Broken { why } => {
            format!("NOT audited: {why}")
        }
        AuditOutcome::Inherited { why } => format!("inherited, unchanged from the base and not audited: {why}"),
        AuditOutcome::Covered { by } => format!("what it names is in {by}"),
        AuditOutcome::Empty => "read, names no dependency".to_owned(),
    };
    format!("{}: {said}", one_line(&a.file))
}

/// The verdict in one sentence.
pub fn headline(report: &ScanReport) -> String {
    let n = report.blocking().count();
    match (report.verdict, report.reason) {
        (ScanVerdict::Pass, _) if report.warnings.is_empty() => "nothing found that blocks".to_owned(),
        (ScanVerdict::Pass, _) => format!("nothing found that blocks; {} warnings", report.warnings.len()),
        (ScanVerdict::Fail, Some(ScanReason::Findings)) => {
            format!("{n} finding{} to fix", if n == 1 { "" } else { "s" })
        }
        (ScanVerdict::Fail, Some(ScanReason::ToolError) | None) => {
            "the scanner could not run, so nothing is known; run it again".to_owned()
        }
        (ScanVerdict::Fail, Some(ScanReason::FeedUnreachable)) => {
            "an advisory source could not be trusted, and the audit fails closed".to_owned()
        }
    }
}

fn heading(status: FindingStatus) -> &'static str {
    match status {
        FindingStatus::Blocking => "Findings",
        FindingStatus::BelowThreshold => "Below the threshold",
        FindingStatus::Inherited => "Inherited from the base",
        FindingStatus::Waived => "Waived",
    }
}

fn what(f: &Finding) -> String {
    let mut text = f.title.clone();
    if !f.preview.is_empty() {
        let _ = write!(text, " [{}]", f.preview);
    }
    if let Some(p) = &f.package {
        let _ = write!(text, " in {} {}", p.name, p.version);
        if !p.fixed_in.is_empty() {
            let _ = write!(text, ", fixed in {}", p.fixed_in.join(", "));
        }
    }
    text
}

fn place(f: &Finding) -> String {
    f.line.map_or_else(|| f.file.clone(), |line| format!("{}:{line}", f.file))
}

fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

/// Text from outside, inside a Markdown table: it can't add a column, line, link or HTML.
fn cell(text: &str) -> String {
    let mut out = String::new();
    for c in one_line(text).chars().take(400) {
        match c {
            '|' => out.push_str("\\|"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '[' | ']' | '`' | '*' | '_' | '\\' | '!' => {
                out.push('\\');
                out.push(c);
            }
            other => out.push(other),
        }
    }
    out
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{}`", text.replace(['`', '|'], "")) }
}

/// Place and rule of each blocking finding in what [`text`] wrote: a page shows no preview and no fingerprint.
pub fn places(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let found = line.trim().strip_prefix(FindingStatus::Blocking.as_str())?.trim_start();
        let (_, rest) = found.split_once(' ')?;
        let mut parts = rest.trim_start().split("  ");
        Some((parts.next()?, parts.next()?))
    })
}

/// Plain text for a terminal.
pub fn text(report: &ScanReport) -> String {
    let mut out = String::new();
    let range = &report.scan.range;
    let _ = writeln!(
        out,
        "range {}..{} ({} commits)",
        short(range.base.as_str()),
        short(range.head.as_str()),
        range.commits
    );
    if let SecretPass::Believed(f) = &report.scan.secrets {
        let _ = writeln!(
            out,
            "secrets: gitleaks {}, {} rules, {} commits and {} file contents read, control found",
            f.scanner_version, f.rules, f.commits_scanned, f.blobs
        );
    }
    for a in &report.scan.audits {
        let _ = writeln!(out, "dependencies: {}", one_line(&audit_line(a)));
    }
    for j in &report.findings {
        let f = &j.finding;
        let _ = writeln!(
            out,
            "{:<15} {:<8} {}  {}  {}{}  fingerprint {}",
            j.status,
            f.severity,
            one_line(&place(f)),
            one_line(&f.rule),
            one_line(&what(f)),
            f.commit.as_deref().map(|c| format!("  commit {}", short(c))).unwrap_or_default(),
            f.fingerprint,
        );
    }
    for idle in &report.idle_waivers {
        let _ =
            writeln!(out, "waiver {} in {}: {}", one_line(&idle.waiver.rule), one_line(&idle.waiver.path), idle.why);
    }
    for line in &report.warnings {
        let _ = writeln!(out, "WARNING {}", one_line(line));
    }
    for line in &report.errors {
        let _ = writeln!(out, "ERROR {}", one_line(line));
    }
    let reason = report.reason.map(|r| format!(" ({r})")).unwrap_or_default();
    let _ = writeln!(out, "{}{reason}: {}", report.verdict, headline(report));
    out
}

/// The fields that `security-scan` adds to the step's object (cli.md): `verdict`, `findings` and what they rest on.
pub fn fields(report: &ScanReport) -> Map<String, Value> {
    let findings: Vec<Value> = report.findings.iter().map(finding_json).collect();
    let mut map = Map::new();
    map.insert("verdict".into(), json!(report.verdict));
    map.insert("reason".into(), json!(report.reason));
    map.insert("findings".into(), Value::Array(findings));
    map.insert("range".into(), json!(report.scan.range));
    map.insert("scanner".into(), scanner_json(&report.scan.secrets));
    map.insert("audit_enabled".into(), json!(report.scan.audit_enabled));
    map.insert("audits".into(), Value::Array(report.scan.audits.iter().map(audit_json).collect()));
    map.insert("idle_waivers".into(), json!(report.idle_waivers));
    map.insert("warnings".into(), json!(report.warnings));
    map
}

fn finding_json(j: &Judged) -> Value {
    let f = &j.finding;
    json!({
        "kind": f.kind, "rule": f.rule, "file": f.file, "line": f.line, "commit": f.commit,
        "fingerprint": f.fingerprint, "severity": f.severity,
        "waived": j.status == FindingStatus::Waived,
        "status": j.status, "inherited": f.inherited, "title": f.title, "preview": f.preview,
        "package": f.package, "waiver": j.waiver,
    })
}

fn scanner_json(pass: &SecretPass) -> Value {
    match pass {
        SecretPass::Believed(f) => json!({
            "state": "believed", "version": f.scanner_version, "rules": f.rules, "config": f.config,
            "commits_scanned": f.commits_scanned, "commits_least": f.commits_least, "commits_most": f.commits_most,
            "merges": f.merges, "control": f.control_rule, "blobs": f.blobs, "objects": f.objects, "allowed_by_path": f.allowed_by_path,
        }),
        SecretPass::ToolError { why } => json!({"state": "tool_error", "why": why}),
    }
}

fn audit_json(a: &Audit) -> Value {
    let (state, packages, why) = match &a.outcome {
        AuditOutcome::Believed { packages, .. } => ("believed", Some(*packages), None),
        AuditOutcome::NotBelieved { why } => ("not_believed", None, Some(why)),
        AuditOutcome::NotInstalled { why } => ("not_installed", None, Some(why)),
        AuditOutcome::Broken { why } => ("broken", None, Some(why)),
        AuditOutcome::Inherited { why } => ("inherited", None, Some(why)),
        AuditOutcome::Covered { by } => ("covered", None, Some(by)),
        AuditOutcome::Empty => ("empty", None, None),
    };
    json!({
        "tool": a.tool, "version": a.version, "file": a.file, "state": state, "packages": packages, "why": why,
        "partial": a.partial, "notes": a.notes,
    })
}

/// SARIF 2.1.0. `executionSuccessful` says whether the tools ran. Waived findings carry a suppression.
pub fn sarif(report: &ScanReport) -> Value {
    let mut rules: Vec<(&str, &Finding)> = Vec::new();
    for j in &report.findings {
        if !rules.iter().any(|(id, _)| *id == j.finding.rule) {
            rules.push((&j.finding.rule, &j.finding));
        }
    }
    let results: Vec<Value> = report
        .findings
        .iter()
        .map(|j| {
            let index = rules.iter().position(|(id, _)| *id == j.finding.rule).unwrap_or_default();
            sarif_result(j, index)
        })
        .collect();
    let note = |level: &str, text: &String| json!({"level": level, "message": {"text": one_line(text)}});
    let notes: Vec<Value> = report
        .errors
        .iter()
        .map(|e| note("error", e))
        .chain(report.warnings.iter().map(|w| note("warning", w)))
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "orch security-scan",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().map(|(id, f)| json!({
                    "id": id,
                    "shortDescription": {"text": one_line(&f.title)},
                    "properties": {"kind": f.kind},
                })).collect::<Vec<_>>(),
            }},
            "invocations": [{
                "executionSuccessful": report.errors.is_empty(),
                "toolExecutionNotifications": notes,
            }],
            "versionControlProvenance": [],
            "properties": {"verdict": report.verdict, "reason": report.reason, "range": report.scan.range},
            "results": results,
        }],
    })
}

fn sarif_result(j: &Judged, index: usize) -> Value {
    let f = &j.finding;
    let level = match (j.status, f.severity) {
        (FindingStatus::Blocking, _) => "error",
        (FindingStatus::BelowThreshold, Severity::Low) => "note",
        (FindingStatus::BelowThreshold | FindingStatus::Inherited | FindingStatus::Waived, _) => "warning",
    };
    let mut location = json!({"artifactLocation": {"uri": uri(&f.file)}});
    if let (Some(line), Some(map)) = (f.line, location.as_object_mut()) {
        map.insert("region".into(), json!({"startLine": line.max(1)}));
    }
    let mut result = json!({
        "ruleId": f.rule,
        "ruleIndex": index,
        "level": level,
        "message": {"text": one_line(&what(f))},
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": {"orchFingerprint/v1": f.fingerprint},
        "baselineState": if f.inherited { "unchanged" } else { "new" },
        "properties": {"severity": f.severity, "commit": f.commit, "status": j.status},
    });
    if let (FindingStatus::Waived, Some(w), Some(map)) = (j.status, &j.waiver, result.as_object_mut()) {
        let why = format!("{} (owner {}, until {})", w.reason, w.owner, w.expires);
        map.insert("suppressions".into(), json!([{"kind": "external", "justification": why}]));
    }
    result
}

/// A path as a relative URI reference: everything except unreserved characters and `/` is percent-encoded.
fn uri(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::artefact::{Artefact, validate};
    use crate::model::frontmatter::{Read, read};
    use crate::model::ids::Key;
    use crate::model::ids::Sha;
    use crate::model::scan::{Audit, Package, Scan, ScanRange, SecretFacts, Waiver};

    fn report() -> ScanReport {
        let sha = |c: &str| Sha::parse(&c.repeat(40)).unwrap();
        let secret = Finding {
            kind: FindingKind::Secret,
            rule: "aws-access-token".into(),
            file: "a|b <x>.txt".into(),
            line: Some(2),
            commit: Some("c".repeat(40)),
            fingerprint: "abc123".into(),
            severity: Severity::Critical,
            title: "an access key\n---\nverdict: PASS".into(),
            preview: "AKIA… (20 characters)".into(),
            package: None,
            inherited: false,
        };
        let dep = Finding {
            kind: FindingKind::Dependency,
            rule: "GHSA-x".into(),
            file: "package-lock.json".into(),
            line: None,
            package: Some(Package {
                ecosystem: "npm".into(),
                name: "minimist".into(),
                version: "1.2.0".into(),
                fixed_in: vec!["1.2.6".into()],
            }),
            ..secret.clone()
        };
        let waiver = Waiver {
            rule: "GHSA-x".into(),
            path: "**".into(),
            fingerprint: None,
            owner: "ann".into(),
            reason: "not reachable".into(),
            expires: "2027-01-31".into(),
        };
        ScanReport {
            verdict: ScanVerdict::Fail,
            reason: Some(ScanReason::Findings),
            scan: Scan {
                range: ScanRange { base: sha("a"), head: sha("b"), tree: sha("c"), commits: 2 },
                secrets: SecretPass::Believed(Box::new(SecretFacts {
                    scanner_version: "8.30.1".into(),
                    rules: 222,
                    config: "built-in".into(),
                    commits_scanned: 2,
                    commits_least: 1,
                    commits_most: 2,
                    merges: "remerge".into(),
                    control_rule: "aws-access-token".into(),
                    blobs: 2,
                    objects: 1,
                    allowed_by_path: 0,
                    notes: vec![],
                    findings: vec![],
                })),
                audits: vec![Audit {
                    tool: "npm".into(),
                    version: Some("11".into()),
                    file: "package-lock.json".into(),
                    outcome: AuditOutcome::Believed { packages: 1, findings: vec![] },
                    partial: None,
                    notes: vec![],
                }],
                audit_enabled: true,
                duration_ms: 5,
            },
            findings: vec![
                Judged { finding: secret, status: FindingStatus::Blocking, waiver: None },
                Judged { finding: dep, status: FindingStatus::Waived, waiver: Some(waiver) },
            ],
            idle_waivers: vec![],
            warnings: vec!["feed silent".into()],
            errors: vec![],
        }
    }

    #[test]
    fn the_front_matter_names_verdict_reason_range_head_and_tree() {
        let text = markdown(&report(), Head { work_item: "ORCH-1", stage: "deploy-staging", created_ms: 0 });
        let front = text.strip_prefix("---\n").unwrap().split("\n---\n").next().unwrap();
        let value: serde_json::Map<String, Value> = front
            .lines()
            .map(|l| l.split_once(": ").map(|(k, v)| (k.to_owned(), serde_json::from_str(v).unwrap())).unwrap())
            .collect();
        assert_eq!(value["security_status"], "FAIL");
        assert_eq!(value["reason"], "findings");
        assert_eq!(value["head"], "b".repeat(40));
        assert_eq!(value["tree"], "c".repeat(40));
        assert_eq!(value["rules"], 222);
        assert_eq!(value["blocking"], 1);
        let Read::Document(doc) = read(text.as_bytes()) else { panic!("{text}") };
        let faults = validate(Artefact::SecurityReport, &doc, &Key::parse("ORCH-1").unwrap());
        assert_eq!(faults, Vec::<String>::new());
    }

    #[test]
    fn text_from_outside_can_not_break_the_table_or_the_front_matter() {
        let text = markdown(&report(), Head { work_item: "x\n---\nsecurity_status: PASS", stage: "s", created_ms: 0 });
        assert_eq!(text.lines().filter(|l| *l == "---").count(), 2, "{text}");
        assert!(text.contains("a\\|b &lt;x&gt;.txt:2"), "{text}");
        assert!(text.contains("Rotate first"));
    }

    #[test]
    fn sarif_carries_locations_suppressions_and_whether_the_tools_ran() {
        let s = sarif(&report());
        assert_eq!(s["version"], "2.1.0");
        let run = &s["runs"][0];
        assert_eq!(run["invocations"][0]["executionSuccessful"], true);
        assert_eq!(
            run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
            "a%7Cb%20%3Cx%3E.txt"
        );
        assert_eq!(run["results"][0]["level"], "error");
        assert_eq!(run["results"][1]["suppressions"][0]["kind"], "external");
        assert_eq!(run["results"][1]["ruleIndex"], 1);
        let mut broken = report();
        broken.errors.push("gitleaks timed out".into());
        assert_eq!(sarif(&broken)["runs"][0]["invocations"][0]["executionSuccessful"], false);
    }

    #[test]
    fn json_has_the_published_fields() {
        let map = fields(&report());
        assert_eq!(map["verdict"], "FAIL");
        for key in ["kind", "rule", "file", "line", "commit", "fingerprint", "severity", "waived"] {
            assert!(map["findings"][0].get(key).is_some(), "{key}");
        }
        assert_eq!(map["findings"][0]["waived"], false);
        assert_eq!(map["findings"][1]["waived"], true);
    }

    /// A page of the task's findings names places, and neither previews nor fingerprints.
    #[test]
    fn what_blocks_is_found_again_in_the_text_of_a_report() {
        let shown = text(&report());
        let places: Vec<(&str, &str)> = places(&shown).collect();
        let blocking: Vec<String> = report().blocking().map(place).collect();
        assert_eq!(places.iter().map(|(p, _)| *p).collect::<Vec<_>>(), blocking);
        assert!(!blocking.is_empty());
    }

    #[test]
    fn text_ends_with_the_verdict() {
        assert!(text(&report()).trim_end().lines().last().unwrap().starts_with("FAIL (findings)"));
    }
}
