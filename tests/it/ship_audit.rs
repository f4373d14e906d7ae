//! Dependency audits in the pipeline (SHIP-1): the real npm with an advisory feed on this machine.

use crate::support::http::{Reply, Server, refused_url};
use crate::support::pipe::{Pipe, Setup};
use crate::support::scan::{advisory, write_advisory};
use crate::support::tools::Bin;
use serde_json::{Value, json};
use std::time::Duration;

/// PATH with gitleaks, npm and a shell's tools.
fn tools() -> Option<Bin> {
    let bin = Bin::with_gitleaks()?;
    for name in ["sh", "cat", "cp", "grep", "printf", "mkdir", "echo", "sleep", "env", "rm", "find", "sed"] {
        if let Ok(path) = which::which(name) {
            bin.link(name, &path);
        }
    }
    (bin.add("npm") && bin.add("node")).then_some(bin)
}

/// A project audited with this feed. In the first round its developer adds a vulnerable package, with a configuration
/// that would make npm ask nobody.
fn audited(bin: &Bin, registry: &str, more: &str) -> Pipe {
    let pipe = Pipe::new(Setup {
        project: format!(
            "security: {{gate_repos: \"*\", scan_timeout_s: 20, feeds: {{npm_registry: \"{registry}\"}}{more}}}"
        ),
        path: Some(bin.dir.path().to_owned()),
        ..Setup::default()
    });
    pipe.agent(
        "development",
        r#"#!/bin/sh
v=1.2.0; [ "$ORCH_ATTEMPT" = 1 ] || v=1.2.8
echo '{"name":"x","version":"1.0.0","dependencies":{"minimist":"'$v'"}}' > package.json
echo '{"name":"x","version":"1.0.0","lockfileVersion":3,"requires":true,"packages":{"":{"name":"x","version":"1.0.0","dependencies":{"minimist":"'$v'"}},"node_modules/minimist":{"version":"'$v'"}}}' > package-lock.json
printf 'offline=true\naudit-level=none\n' > .npmrc
"#,
    );
    pipe
}

/// Answers npm's query about minimist as a registry does: advisories by version range, whatever was requested.
fn feed(answer: Value) -> Server {
    Server::start(move |seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("POST", "/-/npm/v1/security/advisories/bulk") => Reply::json(200, &answer),
        _ => Reply::json(404, &json!({})),
    })
}

fn minimist() -> Value {
    json!({"minimist": [{"id": 1_096_549, "url": "https://advisories.invalid/GHSA-xvch-5gv4-984h", "title": "Prototype Pollution",
        "severity": "critical", "vulnerable_versions": "<1.2.6", "cwe": ["CWE-1321"], "cvss": {"score": 9.8, "vectorString": null}}]})
}

#[test]
fn a_vulnerable_package_goes_back_to_the_developer_whatever_the_branch_configures() {
    let Some(bin) = tools() else { return };
    let feed = feed(minimist());
    let pipe = audited(&bin, &feed.url(), "");
    let key = pipe.item("Add a package");
    pipe.until("the rollback", |p| p.of(&key, "attempt") == "2");
    let findings = pipe.of(&key, "findings");
    assert!(findings.contains("GHSA-xvch-5gv4-984h") && findings.contains("package-lock.json"), "{findings}");
    assert!(!findings.contains("Rotate"), "there is no secret to rotate: {findings}");
    // Fixed by another version; not a secret, so the history stays.
    pipe.until_stage(&key, "done");
    assert_eq!(pipe.of(&key, "attempt"), "2");
    assert!(pipe.evidence("17-security-report.md").contains("security_status: \"PASS\""));
}

#[test]
fn a_toy_advisory_database_in_the_branch_is_not_asked_by_the_gate() {
    let Some(bin) = tools() else { return };
    if !bin.add("cargo-audit") {
        return;
    }
    let ours = tempfile::tempdir().unwrap();
    write_advisory(ours.path(), "RUSTSEC-2020-0071", "time");
    let pipe = Pipe::new(Setup {
        project: format!(
            "security: {{gate_repos: \"*\", scan_timeout_s: 60, feeds: {{cargo_db: \"{}\"}}}}",
            ours.path().display()
        ),
        path: Some(bin.dir.path().to_owned()),
        ..Setup::default()
    });
    let toy = advisory("RUSTSEC-2020-9999", "nobody-uses-this", ">=1.0.0");
    pipe.agent(
        "development",
        &format!(
            r#"#!/bin/sh
v=0.1.43; [ "$ORCH_ATTEMPT" = 1 ] || v=0.3.36
printf 'version = 3\n\n[[package]]\nname = "time"\nversion = "%s"\nsource = "registry+https://github.com/rust-lang/crates.io-index"\n' $v > Cargo.lock
mkdir -p .cargo toy/crates/nobody-uses-this
printf '[advisories]\nignore = ["RUSTSEC-2020-0071"]\n[database]\npath = "toy"\nfetch = false\nstale = true\n' > .cargo/audit.toml
cat > toy/crates/nobody-uses-this/RUSTSEC-2020-9999.md <<'END'
{toy}END
"#
        ),
    );
    let key = pipe.item("Add a crate");
    pipe.until("the rollback", |p| p.of(&key, "attempt") == "2");
    let findings = pipe.of(&key, "findings");
    assert!(findings.contains("RUSTSEC-2020-0071") && findings.contains("Cargo.lock"), "{findings}");
    pipe.until_stage(&key, "done");
    assert_eq!(pipe.of(&key, "attempt"), "2");
    let report = pipe.evidence("17-security-report.md");
    assert!(report.contains("Cargo.lock: audited by cargo-audit") && !report.contains("NOT audited"), "{report}");
}

#[test]
fn a_feed_that_is_down_or_answers_nothing_passes_with_a_loud_warning() {
    let Some(bin) = tools() else { return };
    let empty = feed(json!({}));
    for registry in [refused_url(), empty.url()] {
        let pipe = audited(&bin, &registry, "");
        let key = pipe.item("Add a package");
        pipe.until_stage(&key, "done");
        let report = pipe.evidence("17-security-report.md");
        assert!(report.contains("security_status: \"PASS\"") && report.contains("NOT audited"), "{report}");
        assert_eq!(pipe.of(&key, "attempt"), "1");
        // Report and card say the same.
        pipe.until("the warning on the card", |p| p.read(&format!("state/cards/{key}.txt")).contains("NOT audited"));
    }
}

#[test]
fn a_feed_that_does_not_answer_in_time_fails_where_that_is_asked_and_spends_nothing() {
    let Some(bin) = tools() else { return };
    let slow = Server::start(|_| {
        std::thread::park_timeout(Duration::from_secs(30));
        Reply::json(200, &json!({}))
    });
    let pipe = audited(&bin, &slow.url(), ", dep_audit_fail_closed: true");
    let file = pipe.at("orch.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("scan_timeout_s: 20", "scan_timeout_s: 3")).unwrap();
    let key = pipe.item("Add a package");
    let why = pipe.hurried_to_a_block(&key);
    assert!(why.contains("security_gate could not run 3 times") && why.contains("package-lock.json"), "{why}");
    assert_eq!(pipe.of(&key, "attempt"), "1");
    assert!(pipe.evidence("17-security-report.md").contains("reason: \"feed_unreachable\""));
    assert_eq!(pipe.remote(&["log", "--format=%s", "main"]).lines().count(), 1, "nothing landed");
}
