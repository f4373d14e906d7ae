//! Secrets end to end (SHIP-1, RULE-1, RULE-32): the real binary, real git, the real gitleaks if it is available.

use crate::support::pipe::{Pipe, Setup};
use crate::support::secrets::KINDS;
use crate::support::tools::Bin;

/// `PATH` with a shell's tools and the given scanner.
fn guarded(bin: &Bin, top: &str) -> Setup {
    for name in ["sh", "cat", "cp", "grep", "printf", "mkdir", "echo", "sleep", "env", "rm", "find", "sed"] {
        if let Ok(path) = which::which(name) {
            bin.link(name, &path);
        }
    }
    Setup {
        project: "security: {gate_repos: \"*\", dep_audit_enabled: false, scan_timeout_s: 20}".into(),
        top: top.into(),
        path: Some(bin.dir.path().to_owned()),
        ..Setup::default()
    }
}

/// `*` is a scope of the file's top section; the project's own keys win.
fn leak(pipe: &Pipe) -> String {
    let (text, secret) = KINDS[0].make(7);
    pipe.agent(
        "development",
        &format!(
            "#!/bin/sh\nif [ \"$ORCH_ATTEMPT\" = 1 ]; then cat > leaked.py <<'X'\n{text}X\nelse rm -f leaked.py; echo mended >> app.txt; fi\n"
        ),
    );
    secret
}

#[test]
fn a_leaked_key_is_stopped_reworked_as_one_commit_and_never_shown() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    let pipe = Pipe::new(guarded(&bin, ""));
    let secret = leak(&pipe);
    let key = pipe.item("Add a key");
    pipe.until("the rollback", |p| p.of(&key, "attempt") == "2");
    let branch = pipe.of(&key, "branch");
    let findings = pipe.of(&key, "findings");
    assert!(findings.contains("leaked.py") && findings.contains("aws-access-token"), "{findings}");
    assert!(findings.contains("Rotate first"), "{findings}");
    pipe.until_stage(&key, "done");
    // One commit on the base, the old ones gone from the branch and from what landed.
    let log = pipe.remote(&["log", "--format=%H %s", "main"]);
    let mine: Vec<&str> = log.lines().filter(|l| l.contains(&format!("{key}: development"))).collect();
    assert_eq!(mine.len(), 1, "{log}");
    assert!(mine[0].contains("(attempt 2)"), "{log}");
    assert_eq!(pipe.remote(&["rev-list", "--count", &format!("{branch}~1..{branch}")]), "1");
    let reachable = pipe.remote(&["log", "-p", "--all", "--format=%H"]);
    assert!(!reachable.contains(&secret), "the secret left every branch of the remote");
    // 17 says FAIL for the first head and PASS for the last, each for its own.
    let reports = crate::support::pipe::files(&pipe.at("state/evidence"));
    let of = |word: &str| {
        reports
            .iter()
            .filter(|p| std::fs::read_to_string(p).unwrap().contains(&format!("security_status: \"{word}\"")))
            .count()
    };
    assert_eq!((of("FAIL"), of("PASS")), (1, 1));
    // Nowhere but in git's own objects (compressed there) and the worktree of the first attempt, which is gone.
    let files_with_it = pipe.holding(&secret);
    assert!(files_with_it.is_empty(), "{files_with_it:?}");
    let prompt = pipe.read(&format!("prompts/{key}-development-2.md"));
    assert!(prompt.contains("leaked.py:1") && prompt.contains("Rotate first"), "{prompt}");
    assert_eq!(pipe.events("stage_rolled_back").len(), 1);
    pipe.orch(&["tick"]);
    let issue = pipe.read(&format!("state/issues/{key}.md"));
    assert_eq!(issue.matches("17-security-report.md:").count(), 2, "{issue}");
}

#[test]
fn rule_32_a_secret_that_came_and_went_within_a_run_is_in_no_history() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    let pipe = Pipe::new(guarded(&bin, ""));
    let (text, secret) = KINDS[2].make(11);
    // The agent commits twice on its own: its history is discarded.
    pipe.agent(
        "development",
        &format!(
            "#!/bin/sh\necho \"round $ORCH_ATTEMPT\" >> app.txt\nif [ \"$ORCH_ATTEMPT\" = 1 ]; then cat > k.py <<'X'\n{text}X\ngit add -A; git -c user.name=a -c user.email=a@b commit -qm one; rm k.py; git add -A; git -c user.name=a -c user.email=a@b commit -qm two; fi\n"
        ),
    );
    let key = pipe.item("Quick fix");
    pipe.until_stage(&key, "done");
    assert_eq!(pipe.of(&key, "attempt"), "1");
    assert!(!pipe.remote(&["log", "-p", "--all", "--format=%H"]).contains(&secret));
    assert!(pipe.holding(&secret).is_empty(), "{:?}", pipe.holding(&secret));
}

/// BND-4: whichever gate is on, a value that `orch` itself keeps is not pushed, in any form.
#[test]
fn bnd_4_a_known_secret_in_an_agents_work_fails_the_run_and_is_reported_without_its_value() {
    let secret = ["own", "key", "of", "the", "runtime", "19"].join("-");
    let mut pipe = Pipe::new(Setup {
        project: "ci: {command: [./ci.sh], env: {KEY: {env: OWN_KEY}}}".into(),
        files: vec![("sample.env", format!("KEY={secret}\n"))],
        ..Setup::default()
    });
    let text = pipe.read("orch.yaml").replacen("    ci: {command: [./ci.sh]}\n", "", 1);
    std::fs::write(pipe.at("orch.yaml"), text).unwrap();
    let here = pipe.dir.path().display().to_string();
    std::fs::write(pipe.at("own"), &secret).unwrap();
    // In a file, then in a name, then not at all; what the base already had is nobody's fault.
    pipe.agent(
        "development",
        &format!(
            "#!/bin/sh\necho more >> sample.env\necho x >> {here}/count\ncase $(wc -l < {here}/count) in 1) base64 -w0 < {here}/own > notes.txt;; 2) echo x > \"$(cat {here}/own).txt\";; *) echo done > notes.txt;; esac\n"
        ),
    );
    pipe.env.push(("OWN_KEY".into(), secret.clone()));
    let key = pipe.item("Keep it");
    pipe.until_stage(&key, "done");
    assert_eq!(pipe.read("count").lines().count(), 3, "{}", pipe.story());
    let files_with_it = pipe.events("secret_found");
    assert!(
        files_with_it.len() == 2
            && files_with_it[0].contains("notes.txt (it holds the secret projects.ORCH.ci.env.KEY)"),
        "{files_with_it:?}"
    );
    assert_eq!(pipe.alerts().iter().filter(|a| *a == "secret_found").count(), 2);
    let encoded = "b3duLWtleS1vZi10aGUtcnVudGltZS0xO";
    let history = pipe.remote(&["log", "--all", "-p", "--format=%H", "--", ":!sample.env"]);
    assert!(!history.contains(&secret) && !history.contains(encoded), "{history}");
    for form in [secret.as_str(), encoded] {
        let holding: Vec<_> =
            pipe.holding(form).into_iter().filter(|p| !p.ends_with("own") && !p.ends_with("sample.env")).collect();
        assert!(holding.is_empty(), "{form}: {holding:?}");
    }
}

#[test]
fn bnd_5_the_scanners_configuration_is_protected() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    let pipe = Pipe::new(guarded(&bin, ""));
    pipe.agent("development", "#!/bin/sh\nprintf '[allowlist]\\npaths = [\".*\"]\\n' > .gitleaks.toml\n");
    let key = pipe.item("Loosen it");
    pipe.until("the block", |p| p.of(&key, "blocked_reason").contains(".gitleaks.toml (it is protected)"));
}

/// A scanner that can't be trusted: no rollback, no attempt; retried, then blocked with one alert.
fn tool_error(script: Option<&str>, said: &str) {
    let bin = Bin::new();
    if let Some(text) = script {
        bin.script("gitleaks", text);
    }
    let mut setup = guarded(&bin, "");
    setup.project = setup.project.replace("scan_timeout_s: 20", "scan_timeout_s: 2");
    let pipe = Pipe::new(setup);
    let key = pipe.item("Plain work");
    pipe.until("the first look", |p| !p.table("evidence").with("gate", "security_gate").is_empty());
    assert_eq!(pipe.of(&key, "blocked_reason"), "");
    // The next check waits; here the time is made to pass.
    pipe.hurried_to_a_block(&key);
    assert_eq!(pipe.table("evidence").with("gate", "security_gate").texts("verdict"), ["tool_error"; 3]);
    let why = pipe.of(&key, "blocked_reason");
    assert!(why.contains("could not run 3 times") && why.contains(said), "{why}");
    assert_eq!((pipe.of(&key, "attempt"), pipe.of(&key, "stage")), ("1".into(), "development".into()));
    assert_eq!(pipe.alerts().iter().filter(|a| *a == "blocked").count(), 1);
    assert!(
        pipe.evidence("17-security-report.md").contains("reason: \"tool_error\""),
        "{}",
        pipe.evidence("17-security-report.md")
    );
    assert!(pipe.remote(&["log", "--format=%s", "main"]).lines().count() == 1, "nothing landed");
}

#[test]
fn a_missing_scanner_is_no_verdict() {
    tool_error(None, "not installed");
}

#[test]
fn a_scanner_replaced_by_true_is_no_verdict() {
    tool_error(Some("exit 0"), "is not gitleaks 8");
}

#[test]
fn a_scanner_that_prints_garbage_is_no_verdict() {
    tool_error(Some("if [ \"$1\" = version ]; then echo 8.30.1; else echo garbage; fi; exit 0"), "wrote no report");
}

#[test]
fn a_scanner_that_hangs_is_no_verdict() {
    tool_error(Some("exec sleep 600"), "did not end");
}

#[test]
fn a_block_by_the_scanner_is_lifted_without_the_developer_working_again() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    let pipe = Pipe::new(guarded(&bin, ""));
    let away = bin.dir.path().join("gitleaks");
    let real = std::fs::read_link(&away).unwrap();
    std::fs::remove_file(&away).unwrap();
    let key = pipe.item("Plain work");
    pipe.hurried_to_a_block(&key);
    bin.link("gitleaks", &real);
    assert_eq!(pipe.orch(&["retry", &key]).code, 0);
    pipe.until_stage(&key, "done");
    let runs = pipe.table("runs").with("kind", "agent").texts("agent");
    assert_eq!(runs, ["developer"], "the work that passed stands");
}

#[test]
fn switched_off_or_out_of_scope_the_gate_is_as_if_it_did_not_exist() {
    for section in ["{gate_repos: elsewhere}", "{gate_repos: \"*\", gate_enabled: false}"] {
        let bin = Bin::new();
        bin.script("gitleaks", "touch \"$0.ran\"; exit 0");
        let mut setup = guarded(&bin, "");
        setup.project = format!("security: {section}");
        let pipe = Pipe::new(setup);
        let secret = leak(&pipe);
        let key = pipe.item("Add a key");
        pipe.until_stage(&key, "done");
        assert!(!bin.dir.path().join("gitleaks.ran").exists());
        assert!(pipe.table("jobs").with("kind", "scan").is_empty());
        assert!(pipe.table("evidence").with("gate", "security_gate").is_empty());
        assert_eq!(pipe.evidence("17-security-report.md"), "");
        assert!(pipe.remote(&["log", "-p", "main"]).contains(&secret), "nobody was asked to look");
        // And `status` does not claim that it guards.
        let status = pipe.orch(&["status", "--json"]).json();
        assert_eq!(status["security"]["repos"], serde_json::json!([]), "{section}");
    }
}

#[test]
fn a_waived_finding_stays_in_the_report_and_lets_the_task_pass() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    let pipe = Pipe::new(guarded(&bin, ""));
    leak(&pipe);
    // The fingerprint is computed with the same key that the gate uses.
    let key = pipe.item("Add a key");
    pipe.until("the rollback", |p| p.of(&key, "attempt") == "2");
    let report = pipe.evidence("17-security-report.md");
    let print = report
        .split(|c: char| !c.is_ascii_hexdigit())
        .find(|w| w.len() == 64)
        .unwrap_or_else(|| panic!("no fingerprint in {report}"))
        .to_owned();
    let file = pipe.at("orch.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let waived = text.replace(
        "scan_timeout_s: 20",
        &format!(
            "scan_timeout_s: 20, allow: [{{rule: aws-access-token, path: \"*.py\", fingerprint: {print}, owner: ann, reason: test, expires: 2099-01-01}}]"
        ),
    );
    pipe.agent("development", "#!/bin/sh\necho more >> app.txt\n");
    std::fs::write(&file, waived).unwrap();
    pipe.until_stage(&key, "done");
    let report = pipe.evidence("17-security-report.md");
    assert!(
        report.contains("security_status: \"PASS\"") && report.contains("Waived") && report.contains("ann"),
        "{report}"
    );
}

#[test]
fn security_scan_of_a_task_scans_its_range_from_the_mirror_and_keeps_the_report() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    let mut setup = guarded(&bin, "limits: {developer_retries: 0}");
    // The program is found by its configured path, not by its name.
    let real = std::fs::read_link(bin.dir.path().join("gitleaks")).unwrap();
    std::fs::remove_file(bin.dir.path().join("gitleaks")).unwrap();
    setup.top.push_str(&format!("\ntools: {{gitleaks: {}}}", real.display()));
    let pipe = Pipe::new(setup);
    let secret = leak(&pipe);
    let key = pipe.item("Add a key");
    assert_eq!(pipe.orch(&["security-scan", "ORCH-99"]).code, 2);
    pipe.until_blocked(&key);
    let said = pipe.orch(&["security-scan", &key.to_lowercase(), "--json"]);
    assert_eq!(said.code, 1, "{}", said.all());
    assert_eq!(said.json()["findings"][0]["rule"], "aws-access-token", "{}", said.all());
    assert!(!said.all().contains(&secret));
    let sarif = pipe.orch(&["security-scan", &key, "--format", "sarif", "--output", "out.sarif"]);
    assert_eq!(sarif.code, 1);
    assert!(pipe.read("out.sarif").contains("aws-access-token"));
    let report = pipe.evidence("17-security-report.md");
    assert!(
        report.contains(&format!("work_item: \"{key}\"")) && report.contains("security_status: \"FAIL\""),
        "{report}"
    );
}
