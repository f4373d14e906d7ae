//! `scripts/action` (GH-3), run by a small runner of composite actions: inputs become the step's environment, and the
//! step's output is read, both as GitHub does it.

use crate::support::git::raw;
use crate::support::http::{Reply, Server};
use crate::support::scan::Bench;
use crate::support::secrets::KINDS;
use crate::support::tools::Bin;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The result of a job's step.
struct Played {
    code: i32,
    log: String,
    outputs: BTreeMap<String, String>,
    summary: String,
}

impl Played {
    fn annotations(&self, level: &str) -> Vec<&str> {
        self.log.lines().filter(|l| l.starts_with(&format!("::{level} "))).collect()
    }
}

fn action() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/action")
}

/// Replaces `${{ inputs.NAME }}`; this runner knows no other expression.
fn expanded(text: &str, inputs: &BTreeMap<&str, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${{") {
        let (expression, after) = after.split_once("}}").unwrap();
        let name = expression.trim().strip_prefix("inputs.").unwrap_or_else(|| panic!("{expression}"));
        out.push_str(before);
        out.push_str(&inputs[name]);
        rest = after;
    }
    out + rest
}

fn play(bin: &Bin, folder: &Path, given: &[(&str, &str)], env: &[(&str, &str)]) -> Played {
    let text = std::fs::read_to_string(action().join("action.yml")).unwrap();
    let document: Value = orch::yaml::from_str(&text).unwrap();
    assert_eq!(document["runs"]["using"], "composite");
    let mut inputs = BTreeMap::new();
    for (name, input) in document["inputs"].as_object().unwrap() {
        let value = given.iter().find(|(n, _)| n == name).map(|(_, v)| (*v).to_owned());
        let default = input["default"].as_str().map(str::to_owned);
        inputs.insert(name.as_str(), value.or(default).unwrap_or_else(|| panic!("{name} is required")));
    }
    assert!(given.iter().all(|(n, _)| inputs.contains_key(n)), "an input that the action does not have");
    let temp = tempfile::tempdir().unwrap();
    let file = |name: &str| temp.path().join(name);
    let [step] = document["runs"]["steps"].as_array().unwrap().as_slice() else { panic!("one step") };
    let mut command = Command::new("/bin/bash");
    command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"].as_str().unwrap()]);
    // A runner has more programs than these; none of them is an orch.
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.dir.path().display());
    command.current_dir(folder).env_clear().env("PATH", path).env("HOME", temp.path());
    command.env("RUNNER_TEMP", temp.path()).env("GITHUB_ACTION_PATH", action());
    command.env("GITHUB_OUTPUT", file("outputs")).env("GITHUB_STEP_SUMMARY", file("summary"));
    command.env("GITHUB_ACTION_REPOSITORY", "o/r").env("XDG_STATE_HOME", temp.path());
    for (name, value) in step["env"].as_object().unwrap() {
        command.env(name, expanded(value.as_str().unwrap(), &inputs));
    }
    let ran = command.envs(env.iter().copied()).output().unwrap();
    let read = |name: &str| std::fs::read_to_string(file(name)).unwrap_or_default();
    let outputs =
        read("outputs").lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect();
    // The file that an output names is for later steps.
    let outputs: BTreeMap<String, String> = outputs;
    if let Some(sarif) = outputs.get("sarif") {
        assert!(Path::new(sarif).exists());
    }
    let log = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    Played { code: ran.status.code().unwrap(), log, outputs, summary: read("summary") }
}

fn programs(bin: Bin) -> Bin {
    bin.link("python3", &which::which("python3").unwrap());
    bin
}

fn with_orch(bin: Bin) -> Bin {
    let bin = programs(bin);
    bin.link("orch", Path::new(crate::support::ORCH));
    bin
}

#[test]
fn a_finding_is_an_annotation_at_its_line_and_fails_the_step_as_the_command_does() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    let bin = with_orch(bin);
    let bench = Bench::new();
    let mut secrets = Vec::new();
    for n in 0..12 {
        let (text, secret) = KINDS[0].make(n);
        bench.commit(&[(&format!("conf/key, {n}.txt"), &text)]);
        secrets.push(secret);
    }
    let base = [("GITHUB_BASE_REF", "main")];
    let played = play(&bin, &bench.clone(), &[("command", "security-scan")], &base);
    assert_eq!(played.code, 1, "{}", played.log);
    let errors = played.annotations("error");
    assert_eq!(errors.len(), 10, "{}", played.log);
    assert!(errors.iter().all(|l| l.contains("file=conf/key%2C ") && l.contains(",line=")), "{errors:?}");
    assert!(played.log.contains("2 further findings of this level"), "{}", played.log);
    assert_eq!(played.outputs["verdict"], "FAIL");
    assert!(played.summary.contains("# Security report") && !played.summary.contains("security_status:"));
    let all = format!("{}{}", played.log, played.summary);
    assert!(secrets.iter().all(|s| !all.contains(s.as_str())), "a secret is shown");
    // The caller's own range wins; an empty one is a pass.
    let given = [("command", "security-scan"), ("args", "--range HEAD..HEAD")];
    let played = play(&bin, &bench.clone(), &given, &base);
    assert_eq!((played.code, played.outputs["verdict"].as_str()), (0, "PASS"), "{}", played.log);
    assert!(played.annotations("error").is_empty());
}

#[test]
fn checks_that_fail_are_annotations_and_what_they_print_is_no_command_of_the_runner() {
    let bin = with_orch(Bin::new());
    let folder = tempfile::tempdir().unwrap();
    raw(folder.path(), &["init", "-q"]);
    let checks = "staging:\n  checks:\n    - {id: good, name: good, kind: command, command: [\"true\"]}\n    - {id: bad, name: bad, kind: command, command: [sh, -c, \"echo '::set-output name=a::b'; echo 50% >&2; exit 3\"]}\nconfine: {mode: off}\n";
    std::fs::write(folder.path().join("staging.yaml"), checks).unwrap();
    let given = [("command", "staging-check"), ("args", "--strict --checks staging.yaml --junit 'my junit.xml'")];
    let played = play(&bin, folder.path(), &given, &[]);
    assert_eq!((played.code, played.outputs["verdict"].as_str()), (1, "FAILED"), "{}", played.log);
    let [error] = played.annotations("error")[..] else { panic!("{}", played.log) };
    assert!(error.starts_with("::error title=bad::exit 3"), "{error}");
    assert!(!played.log.lines().any(|l| l.starts_with("::set-output")), "{}", played.log);
    assert!(played.summary.contains("# Staging: FAILED"));
    assert!(folder.path().join("my junit.xml").exists(), "arguments are split as a shell splits them");
}

#[test]
fn a_release_is_held_against_its_checksums_and_nothing_else_runs() {
    let packed = tempfile::tempdir().unwrap();
    let top = format!("orch-1.2.3-{}-linux", rustix::system::uname().machine().to_string_lossy());
    std::fs::create_dir(packed.path().join(&top)).unwrap();
    let fake = "#!/bin/sh\necho \"{\\\"verdict\\\":\\\"SUCCESS\\\",\\\"checks\\\":[]}\"\n";
    std::fs::write(packed.path().join(&top).join("orch"), fake).unwrap();
    let tar = packed.path().join("a.tar.gz");
    let made = Command::new("tar").arg("-C").arg(packed.path()).arg("-czf").arg(&tar).arg(&top).status().unwrap();
    assert!(made.success());
    let archive = std::fs::read(&tar).unwrap();
    let sum = {
        use sha2::{Digest, Sha256};
        Sha256::digest(&archive).iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    let server = |sums: String| {
        let (archive, top) = (archive.clone(), top.clone());
        Server::start(move |seen| match seen.path.strip_prefix("/o/r/releases/download/v1.2.3/") {
            Some("SHA256SUMS") => Reply::text(200, &sums),
            Some(name) if name == format!("{top}.tar.gz") => {
                Reply { status: 200, headers: Vec::new(), body: archive.clone(), unexpected: None }
            }
            _ => Reply::text(404, "none"),
        })
    };
    let bin = programs(Bin::new());
    let folder = tempfile::tempdir().unwrap();
    let given = |version| [("command", "staging-check"), ("version", version)];
    let right = server(format!("{sum}  {top}.tar.gz\n"));
    let played = play(&bin, folder.path(), &given("1.2.3"), &[("GITHUB_SERVER_URL", &right.url())]);
    assert_eq!((played.code, played.outputs["verdict"].as_str()), (0, "SUCCESS"), "{}", played.log);
    let wrong = server(format!("{}  {top}.tar.gz\n", "0".repeat(64)));
    for (version, at, why) in [
        ("1.2.3", wrong.url(), "SHA256SUMS says"),
        ("9.9.9", right.url(), "can't be fetched"),
        ("../x", right.url(), "is none such as 0.1.0"),
        ("", right.url(), "there is no orch on PATH"),
    ] {
        let played = play(&bin, folder.path(), &given(version), &[("GITHUB_SERVER_URL", &at)]);
        assert_eq!(played.code, 2, "{version}: {}", played.log);
        assert!(played.annotations("error")[0].contains(why), "{version}: {}", played.log);
    }
    let played = play(&bin, folder.path(), &[("command", "tick")], &[]);
    assert!(played.code == 2 && played.log.contains("is none of security-scan, staging-check"), "{}", played.log);
}
