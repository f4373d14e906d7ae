//! `orch security-scan` alone: its output and exit code with real scanners, missing ones and fake ones.

use crate::support::http::{Reply, Server, refused_url};
use crate::support::scan::{Bench, Said, advisory, write_advisory};
use crate::support::secrets::KINDS;
use crate::support::tools::{Bin, tool};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const LOCK: &str = r#"{"name":"x","version":"1.0.0","lockfileVersion":3,"requires":true,"packages":{"":{"name":"x","version":"1.0.0","dependencies":{"minimist":"1.2.0"}},"node_modules/minimist":{"version":"1.2.0"}}}"#;
const MANIFEST: &str = r#"{"name":"x","version":"1.0.0","dependencies":{"minimist":"1.2.0"}}"#;

/// A branch with one fake access key.
fn leaky() -> (Bench, String) {
    let bench = Bench::new();
    let (text, secret) = KINDS[0].make(5);
    bench.commit(&[("conf/key.txt", &text)]);
    (bench, secret)
}

fn clean() -> Bench {
    let bench = Bench::new();
    bench.commit(&[("a.txt", "nothing of interest\n")]);
    bench
}

/// Fail closed: exit 3, FAIL for a tool error, no verdict about the code.
fn refuses_to_say(said: &Said, part: &str) {
    assert_eq!(said.code, 3, "{}", said.all());
    let doc = said.json();
    assert_eq!((&doc["verdict"], &doc["reason"]), (&json!("FAIL"), &json!("tool_error")), "{}", said.all());
    assert_eq!(doc["scanner"]["state"], "tool_error");
    let errors = doc["errors"].to_string();
    assert!(errors.contains(part), "{part:?} expected in {errors}");
}

#[test]
fn a_clean_branch_passes_and_says_what_was_scanned() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    let bench = clean();
    let said = bench.scan(&bin, &[]);
    assert_eq!(said.code, 0, "{}", said.all());
    assert!(said.out.trim_end().lines().last().unwrap().starts_with("PASS"), "{}", said.out);
    let doc = bench.scan(&bin, &["--json"]).json();
    assert_eq!((&doc["verdict"], &doc["step"]), (&json!("PASS"), &json!("security-scan")));
    let scanner = &doc["scanner"];
    assert!(scanner["version"].as_str().unwrap().starts_with("8."));
    assert!(scanner["rules"].as_u64().unwrap() > 100);
    assert_eq!(scanner["commits_scanned"], 1);
    assert_eq!(scanner["control"], "aws-access-token");
    // Nothing is left but the fingerprint key; an empty range is clean too.
    assert_eq!(bench.scan(&bin, &["--range", "HEAD..HEAD"]).code, 0);
}

#[test]
fn a_finding_is_exit_1_and_never_shows_the_secret() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    let (bench, secret) = leaky();
    let report = bench.world.path("17.md");
    for args in [&[][..], &["--json"], &["--format", "json"], &["--format", "sarif"]] {
        let args = [args, &["--report", report.to_str().unwrap()]].concat();
        let said = bench.scan(&bin, &args);
        assert_eq!(said.code, 1, "{}", said.all());
        let written = std::fs::read_to_string(&report).unwrap();
        assert!(!said.all().contains(&secret) && !written.contains(&secret), "{args:?} shows the secret");
        assert!(said.out.contains("conf/key.txt"), "{}", said.out);
        assert!(written.contains("security_status: \"FAIL\""), "{written}");
    }
    let text = bench.scan(&bin, &[]).out;
    assert!(text.trim_end().lines().last().unwrap().starts_with("FAIL (findings)"), "{text}");
    let said = bench.scan(&bin, &["--json"]);
    let finding = &said.findings()[0];
    for (field, value) in
        [("kind", json!("secret")), ("rule", json!("aws-access-token")), ("line", json!(1)), ("waived", json!(false))]
    {
        assert_eq!(finding[field], value, "{field}");
    }
    assert_eq!(finding["fingerprint"].as_str().unwrap().len(), 64);
    assert_eq!(finding["commit"].as_str().unwrap(), bench.git(&["rev-parse", "HEAD"]));
}

#[test]
fn a_changed_scan_configuration_is_a_finding_of_its_own() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    let bench = Bench::new();
    bench.commit(&[(".gitleaksignore", "x:y:1\n")]);
    let said = bench.scan(&bin, &["--json"]);
    assert_eq!(said.code, 1, "{}", said.all());
    assert_eq!(said.findings()[0]["rule"], "scan-config-changed");
    // The default branch's own configuration is used, and named.
    let (text, _) = KINDS[0].make(6);
    let config = "[extend]\nuseDefault = true\n[[allowlists]]\npaths = ['''^samples/''']\n";
    let bench = Bench::with_base(&[(".gitleaks.toml", config)]);
    bench.commit(&[("samples/key.txt", &text)]);
    let said = bench.scan(&bin, &["--json"]);
    assert_eq!(said.code, 0, "{}", said.all());
    assert!(said.json()["scanner"]["config"].as_str().unwrap().starts_with(".gitleaks.toml at "));
}

#[test]
fn without_gitleaks_nothing_passes() {
    refuses_to_say(&clean().scan(&Bin::new(), &["--json"]), "gitleaks is not installed");
    let said = clean().scan(&Bin::new(), &[]);
    assert!(said.code == 3 && said.out.contains("FAIL (tool_error)"), "{}", said.all());
}

#[test]
fn a_scanner_that_is_another_program_is_not_believed() {
    let bin = Bin::new();
    bin.link("gitleaks", &which::which("true").unwrap());
    refuses_to_say(&clean().scan(&bin, &["--json"]), "is not gitleaks 8");
    let bin = Bin::new();
    bin.script("gitleaks", "echo 2.0.0-rc.4");
    refuses_to_say(&clean().scan(&bin, &["--json"]), "is not gitleaks 8");
}

/// How the scanner writes a report: its last arguments are known.
const ARGS: &str = r#"[ "$1" = version ] && { echo 8.30.1; exit 0; }
while [ $# -gt 1 ]; do [ "$1" = --report-path ] && report=$2; shift; done"#;

#[test]
fn a_scanner_that_prints_garbage_or_always_says_clean_is_not_believed() {
    for (what, ending, part) in [
        ("garbage", "echo '{{{' >\"$report\"; exit 0", "can't be read"),
        ("garbage and the code of a finding", "echo 'x' >\"$report\"; exit 42", "can't be read"),
        ("always clean", "echo '[]' >\"$report\"; exit 0", "positive control"),
        ("no report", "exit 0", "wrote no report"),
        ("an error line", "echo '1:00AM ERR broken' >&2; echo '[]' >\"$report\"; exit 0", "logged an error"),
        ("exit 1", "echo '[]' >\"$report\"; exit 1", "ended with 1"),
        ("exit 126", "exit 126", "ended with 126"),
        ("killed", "kill -9 $$", "ended by a signal"),
    ] {
        let bin = Bin::new();
        bin.script("gitleaks", &format!("{ARGS}\n{ending}"));
        let said = clean().scan(&bin, &["--json"]);
        println!("{what}");
        refuses_to_say(&said, part);
    }
}

/// Correct in the control, blind afterwards: the count of commits shows it.
#[test]
fn a_scanner_that_goes_blind_after_the_control_is_not_believed() {
    let Some(real) = tool("gitleaks") else { return };
    let (bench, _) = leaky();
    let bin = Bin::new();
    let real = real.display();
    bin.script(
        "gitleaks",
        &format!(
            "[ \"$1\" = git ] || exec {real} \"$@\"\n{ARGS}\necho '[]' >\"$report\"; echo '1:00AM INF 0 commits scanned.' >&2; exit 0"
        ),
    );
    refuses_to_say(&bench.scan(&bin, &["--json"]), "gitleaks read 0 commits");
}

#[test]
fn a_scanner_that_hangs_is_ended_with_all_it_started() {
    let bin = Bin::new();
    let bench = clean();
    let pids = bench.world.path("pids");
    let sleep = which::which("sleep").unwrap();
    bin.script(
        "gitleaks",
        &format!(
            "{ARGS}\n{sleep} 600 &\necho $! >>{pids}\necho $$ >>{pids}\nwait",
            sleep = sleep.display(),
            pids = pids.display()
        ),
    );
    let start = Instant::now();
    let said = bench.scan_with(&bin, &[("ORCH_SECURITY_SCAN_TIMEOUT_S", "1")], &["--json"]);
    refuses_to_say(&said, "did not end within 1 s");
    assert!(start.elapsed() < Duration::from_secs(60));
    let listed = std::fs::read_to_string(&pids).unwrap();
    assert_eq!(listed.lines().count(), 2);
    for pid in listed.lines() {
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        let gone = || state().is_none_or(|s| s.rsplit(") ").next().is_some_and(|r| r.starts_with('Z')));
        let limit = Instant::now() + Duration::from_secs(10);
        while !gone() && Instant::now() < limit {
            std::thread::yield_now();
        }
        assert!(gone(), "process {pid} was left behind");
    }
}

#[test]
fn a_limit_that_is_no_number_is_refused_by_its_name() {
    let said = clean().scan_with(&Bin::new(), &[("ORCH_SECURITY_SCAN_TIMEOUT_S", "soon")], &[]);
    assert_eq!(said.code, 2, "{}", said.all());
    assert!(said.err.contains("ORCH_SECURITY_SCAN_TIMEOUT_S") && said.err.contains("soon"), "{}", said.err);
}

#[test]
fn what_can_not_be_read_is_exit_2_or_3_and_names_the_way_out() {
    let bin = Bin::new();
    let bench = clean();
    let said = bench.scan(&bin, &["--range", "nowhere..HEAD"]);
    assert!(said.code == 2 && said.err.contains("nowhere"), "{}", said.all());
    assert_eq!(bench.scan(&bin, &["--range", "HEAD"]).code, 2);
    let folder = bench.world.path("empty");
    std::fs::create_dir(&folder).unwrap();
    let said = bench.scan(&bin, &["--repo", folder.to_str().unwrap()]);
    assert!(said.code == 3 && said.err.contains("not a git repository"), "{}", said.all());
    bench.git(&["remote", "remove", "origin"]);
    let said = bench.scan(&bin, &[]);
    assert!(said.code == 2 && said.err.contains("--range"), "{}", said.all());
    let said = bench.scan(&bin, &["--json"]);
    assert_eq!((said.code, &said.json()["errors"][0]["code"]), (2, &json!(2)));
}

#[test]
fn a_shallow_clone_is_refused_with_advice_how_to_deepen() {
    let bench = clean();
    bench.world.push("work");
    let shallow = bench.world.path("shallow");
    let remote = format!("file://{}", bench.world.remote());
    bench.git(&["clone", "-q", "--depth", "1", "--branch", "work", &remote, shallow.to_str().unwrap()]);
    let said = bench.scan(&Bin::new(), &["--repo", shallow.to_str().unwrap(), "--range", "HEAD..HEAD"]);
    assert!(said.code == 3 && said.err.contains("--unshallow"), "{}", said.all());
}

#[test]
fn a_waiver_holds_for_its_secret_until_it_expires() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    let (bench, _) = leaky();
    let file = bench.world.path("waivers.yaml");
    let file = file.to_str().unwrap();
    std::fs::write(file, "").unwrap();
    let found = bench.scan(&bin, &["--json", "--waivers", file]).findings();
    let fingerprint = found[0]["fingerprint"].as_str().unwrap().to_owned();
    // The key next to the file works wherever both are copied.
    std::fs::remove_file(bench.world.path("waivers.yaml.key")).unwrap();
    let found = bench.scan(&bin, &["--json"]).findings();
    assert_ne!(found[0]["fingerprint"], fingerprint.as_str());
    // Without one, it is the key under which the plain scan printed the fingerprint.
    let fingerprint = found[0]["fingerprint"].as_str().unwrap().to_owned();
    let waiver = |path: &str, fingerprint: &str, expires: &str| {
        let text = format!(
            "- {{rule: aws-access-token, path: '{path}', fingerprint: '{fingerprint}', owner: ann, reason: a test key, expires: {expires}}}\n"
        );
        std::fs::write(file, text).unwrap();
        bench.scan(&bin, &["--json", "--waivers", file])
    };
    let said = waiver("conf/**", &fingerprint, "2199-12-31");
    assert_eq!(said.code, 0, "{}", said.all());
    let finding = &said.findings()[0];
    assert_eq!((&finding["waived"], &finding["waiver"]["owner"]), (&json!(true), &json!("ann")));
    for (path, fingerprint, expires) in [
        ("conf/**", fingerprint.as_str(), "2020-01-31"),
        ("other/**", fingerprint.as_str(), "2199-12-31"),
        ("conf/**", &"0".repeat(64), "2199-12-31"),
        ("conf/**", "", "2199-12-31"),
    ] {
        let said = waiver(path, fingerprint, expires);
        assert_eq!(said.code, 1, "{path} {expires}: {}", said.all());
        assert!(!said.json()["idle_waivers"].as_array().unwrap().is_empty());
    }
    // The branch can't change the waiver, and it survives a rebase.
    bench.git(&["commit", "-q", "--amend", "-m", "another commit"]);
    assert_eq!(waiver("conf/**", &fingerprint, "2199-12-31").code, 0);
    std::fs::write(file, "- {rule: x, pth: y}\n").unwrap();
    let said = bench.scan(&bin, &["--waivers", file]);
    assert!(said.code == 2 && said.err.contains("waivers.yaml"), "{}", said.all());
}

#[test]
fn sarif_has_what_its_readers_require() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    let (bench, _) = leaky();
    let output = bench.world.path("scan.sarif");
    let said = bench.scan(&bin, &["--format", "sarif", "--output", output.to_str().unwrap()]);
    assert!(said.code == 1 && said.out.contains("FAIL"), "{}", said.all());
    let doc: Value = serde_json::from_str(&std::fs::read_to_string(&output).unwrap()).unwrap();
    assert_eq!(doc["version"], "2.1.0");
    let run = &doc["runs"][0];
    assert!(run["tool"]["driver"]["name"].is_string());
    assert_eq!(run["invocations"][0]["executionSuccessful"], true);
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap();
    assert!(!results.is_empty());
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        assert!(result["message"]["text"].as_str().is_some_and(|t| !t.is_empty()));
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "conf/key.txt");
        assert!(place["region"]["startLine"].as_u64().unwrap() >= 1);
        assert!(result["partialFingerprints"]["orchFingerprint/v1"].is_string());
    }
    // A scan that could not run says so in the same form.
    let said = bench.scan(&Bin::new(), &["--format", "sarif"]);
    assert_eq!(said.code, 3);
    let doc = said.json();
    assert_eq!(doc["runs"][0]["invocations"][0]["executionSuccessful"], false);
    assert_eq!(doc["runs"][0]["results"], json!([]));
}

// --- dependencies -------------------------------------------------------------------------------------------------

fn npm_feed(answer: Value) -> Server {
    Server::start(move |seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("POST", "/-/npm/v1/security/advisories/bulk") => Reply::json(200, &answer),
        // npm's older endpoint, tried when the first fails.
        ("POST", "/-/npm/v1/security/audits/quick") => Reply::json(404, &json!({})),
        _ => Reply::json(404, &json!({})),
    })
}

fn minimist() -> Value {
    json!({"minimist": [{"id": 1_096_549, "url": "https://advisories.invalid/GHSA-xvch-5gv4-984h", "title": "Prototype Pollution",
        "severity": "critical", "vulnerable_versions": "<1.2.6", "cwe": ["CWE-1321"], "cvss": {"score": 9.8, "vectorString": null}}]})
}

/// PATH with gitleaks and npm.
fn npm() -> Option<Bin> {
    let bin = Bin::with_gitleaks()?;
    (bin.add("npm") && bin.add("node")).then_some(bin)
}

fn npm_scan(bench: &Bench, bin: &Bin, registry: &str) -> Said {
    bench.scan_with(bin, &[("ORCH_SECURITY_FEEDS_NPM_REGISTRY", registry)], &["--json"])
}

#[test]
fn a_vulnerable_package_is_found_though_the_branch_sets_npm_offline() {
    let Some(bin) = npm() else { return };
    let feed = npm_feed(minimist());
    let bench = Bench::new();
    bench.commit(&[
        ("package.json", MANIFEST),
        ("package-lock.json", LOCK),
        (".npmrc", "offline=true\naudit-level=none\nregistry=http://127.0.0.1:9/\n"),
    ]);
    let said = npm_scan(&bench, &bin, &feed.url());
    assert_eq!(said.code, 1, "{}", said.all());
    let finding = &said.findings()[0];
    assert_eq!((&finding["kind"], &finding["rule"]), (&json!("dependency"), &json!("GHSA-xvch-5gv4-984h")));
    assert_eq!((&finding["file"], &finding["package"]["version"]), (&json!("package-lock.json"), &json!("1.2.0")));
}

#[test]
fn what_the_base_had_already_is_reported_as_inherited_and_passes() {
    let Some(bin) = npm() else { return };
    let feed = npm_feed(minimist());
    let bench = Bench::with_base(&[("package.json", MANIFEST), ("package-lock.json", LOCK)]);
    bench.commit(&[("a.txt", "nothing\n")]);
    let said = npm_scan(&bench, &bin, &feed.url());
    assert_eq!(said.code, 0, "{}", said.all());
    assert_eq!(said.findings()[0]["inherited"], true);
}

#[test]
fn a_feed_that_is_down_or_empty_passes_loudly_and_not_as_audited() {
    let Some(bin) = npm() else { return };
    let bench = Bench::new();
    bench.commit(&[("package.json", MANIFEST), ("package-lock.json", LOCK)]);
    let (empty, html) = (npm_feed(json!({})), Server::start(|_| Reply::html(503, "<html>sorry</html>")));
    for registry in [refused_url(), empty.url(), html.url()] {
        let said = npm_scan(&bench, &bin, &registry);
        assert_eq!(said.code, 0, "{}", said.all());
        let doc = said.json();
        assert_eq!(doc["audits"][0]["state"], "not_believed", "{}", said.all());
        assert!(doc["warnings"].to_string().contains("were NOT audited"), "{}", said.all());
        assert_eq!(doc["findings"], json!([]));
    }
    // If the switch is on, it is a FAIL with its own reason.
    let refused = refused_url();
    let env = [("ORCH_SECURITY_FEEDS_NPM_REGISTRY", refused.as_str()), ("ORCH_SECURITY_DEP_AUDIT_FAIL_CLOSED", "true")];
    let said = bench.scan_with(&bin, &env, &["--json"]);
    assert_eq!((said.code, &said.json()["reason"]), (3, &json!("feed_unreachable")), "{}", said.all());
    // Off means that nobody is asked.
    let asked = npm_feed(minimist());
    let url = asked.url();
    let env = [("ORCH_SECURITY_FEEDS_NPM_REGISTRY", url.as_str()), ("ORCH_SECURITY_DEP_AUDIT_ENABLED", "off")];
    let said = bench.scan_with(&bin, &env, &["--json"]);
    assert_eq!((said.code, &said.json()["audits"]), (0, &json!([])), "{}", said.all());
    assert!(asked.log().is_empty());
    // The text for people is just as explicit.
    let said = bench.scan_with(&bin, &[("ORCH_SECURITY_FEEDS_NPM_REGISTRY", &refused_url())], &[]);
    assert!(said.out.contains("NOT audited"), "{}", said.out);
}

const TIME_LOCK: &str = "version = 3\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\ndependencies = [\"time\"]\n\n[[package]]\nname = \"time\"\nversion = \"0.1.43\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n";

#[test]
fn a_toy_advisory_database_in_the_branch_is_not_used() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    if !bin.add("cargo-audit") {
        return;
    }
    let bench = Bench::new();
    let ours = bench.world.path("advisories");
    write_advisory(&ours, "RUSTSEC-2020-0071", "time");
    let toy = advisory("RUSTSEC-2020-9999", "nobody-uses-this", ">=1.0.0");
    let config =
        "[advisories]\nignore = [\"RUSTSEC-2020-0071\"]\n[database]\npath = \"toy\"\nfetch = false\nstale = true\n";
    bench.commit(&[
        ("Cargo.lock", TIME_LOCK),
        (".cargo/audit.toml", config),
        ("toy/crates/nobody-uses-this/RUSTSEC-2020-9999.md", &toy),
    ]);
    let env = [("ORCH_SECURITY_FEEDS_CARGO_DB", ours.to_str().unwrap())];
    let said = bench.scan_with(&bin, &env, &["--json"]);
    assert_eq!(said.code, 1, "{}", said.all());
    assert_eq!(said.findings()[0]["rule"], "RUSTSEC-2020-0071");
    // A database that does not know the control package does not count.
    let small = bench.world.path("small");
    write_advisory(&small, "RUSTSEC-2020-9999", "nobody-uses-this");
    let said = bench.scan_with(&bin, &[("ORCH_SECURITY_FEEDS_CARGO_DB", small.to_str().unwrap())], &["--json"]);
    assert_eq!(said.code, 0, "{}", said.all());
    assert!(said.json()["warnings"].to_string().contains("control package time was not found"), "{}", said.all());
}

#[test]
fn a_vulnerable_python_pin_is_found_whatever_index_the_branch_names() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    if !bin.add("pip-audit") {
        return;
    }
    let feed = Server::start(|seen| {
        let asked = seen.json();
        let hit = asked["package"]["name"] == "urllib3" && asked["version"] == "1.23";
        let vulns = if hit {
            json!([{"id": "PYSEC-2018-32", "aliases": ["CVE-2018-20060"], "summary": "s", "details": "d",
                "modified": "2023-01-01T00:00:00Z", "published": "2018-12-11T00:00:00Z",
                "affected": [{"package": {"name": "urllib3", "ecosystem": "PyPI"},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.24"}]}], "versions": ["1.23"]}]}])
        } else {
            json!([])
        };
        Reply::json(200, &if hit { json!({"vulns": vulns}) } else { json!({}) })
    });
    let bench = Bench::new();
    bench.commit(&[("requirements.txt", "--index-url http://127.0.0.1:9/\nurllib3==1.23\n")]);
    let said = bench.scan_with(&bin, &[("ORCH_SECURITY_FEEDS_OSV_URL", &feed.url())], &["--json"]);
    assert_eq!(said.code, 1, "{}", said.all());
    assert_eq!(said.findings()[0]["rule"], "PYSEC-2018-32");
    // 200 and `{}` for everything looks clean to the tool.
    let blind = Server::start(|_| Reply::json(200, &json!({})));
    let said = bench.scan_with(&bin, &[("ORCH_SECURITY_FEEDS_OSV_URL", &blind.url())], &["--json"]);
    assert_eq!(said.code, 0, "{}", said.all());
    assert_eq!(said.json()["audits"][0]["state"], "not_believed", "{}", said.all());
}

#[test]
fn an_audit_that_is_not_installed_warns() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    let bench = Bench::new();
    bench.commit(&[("Cargo.lock", TIME_LOCK), ("yarn.lock", "# yarn lockfile v1\n")]);
    let said = bench.scan(&bin, &["--json"]);
    assert_eq!(said.code, 0, "{}", said.all());
    let doc = said.json();
    for n in 0..2 {
        assert_eq!(doc["audits"][n]["state"], "not_installed");
    }
    assert!(doc["warnings"].to_string().contains("cargo-audit is not installed"));
}
