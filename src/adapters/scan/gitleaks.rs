//! One call of gitleaks, and the conditions for trusting its answer. It is known to exit 0 with "no leaks" when its
//! inner git fails, and its exit 1 means both leaks and errors.

use super::call::{Call, Ran};
use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroize;

/// Exit code of a call that found something; no failure uses it.
const FOUND: i32 = 42;

/// One finding of the scanner's own report. Contains the secret, in memory only, wiped when dropped.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Leak {
    #[serde(rename = "RuleID")]
    pub rule: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub start_line: u64,
    #[serde(default)]
    pub file: String,
    #[serde(default)]
    pub commit: String,
    pub secret: String,
    #[serde(default, rename = "Match")]
    pub matched: String,
}

impl Drop for Leak {
    fn drop(&mut self) {
        self.secret.zeroize();
        self.matched.zeroize();
    }
}

impl std::fmt::Debug for Leak {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Leak({} in {}:{})", self.rule, self.file, self.start_line)
    }
}

/// Reads a JSON report. Every entry must name a rule and a secret.
pub(super) fn parse_report(bytes: &[u8]) -> Result<Vec<Leak>> {
    // serde's message may quote the input, which contains secrets: only the position is shown.
    let leaks: Vec<Leak> = serde_json::from_slice(bytes)
        .map_err(|e| anyhow::anyhow!("its report can't be read (line {}, column {})", e.line(), e.column()))?;
    ensure!(leaks.iter().all(|l| !l.rule.is_empty()), "its report has a finding without a rule");
    Ok(leaks)
}

/// What only a SARIF report shows: which rules applied. And which fired.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sarif {
    /// Their ids.
    pub rules: Vec<String>,
    pub fired: Vec<Fired>,
}

/// A rule that fired, and in which file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fired {
    pub rule: String,
    pub file: String,
}

/// Reads a SARIF report.
pub(super) fn parse_sarif(bytes: &[u8]) -> Result<Sarif> {
    let doc: serde_json::Value = serde_json::from_slice(bytes)
        .map_err(|e| anyhow::anyhow!("its report can't be read (line {}, column {})", e.line(), e.column()))?;
    let run = doc.pointer("/runs/0").context("its report has no run")?;
    let rules = run.pointer("/tool/driver/rules").and_then(|r| r.as_array()).context("its report names no rules")?;
    let fired = run.get("results").and_then(|r| r.as_array()).map_or_else(Vec::new, |results| {
        let fired = |r: &serde_json::Value| {
            let file = r.pointer("/locations/0/physicalLocation/artifactLocation/uri").and_then(|u| u.as_str());
            let file = file.unwrap_or_default();
            let file = file.strip_prefix("./").unwrap_or(file).to_owned();
            Some(Fired { rule: r.get("ruleId")?.as_str()?.to_owned(), file })
        };
        results.iter().filter_map(fired).collect()
    });
    // A rule without an id still counts as one.
    let rules = rules.iter().map(|r| r.get("id").and_then(|id| id.as_str()).unwrap_or_default().to_owned()).collect();
    Ok(Sarif { rules, fired })
}

/// The number in `N commits scanned` of the log.
pub(super) fn commits_scanned(log: &str) -> Option<u64> {
    log.lines().find_map(|line| {
        let before = line.split(" commits scanned").next().filter(|b| b.len() < line.len())?;
        before.rsplit(' ').next()?.parse().ok()
    })
}

/// The first line of the log that reports a fault, for an error message.
pub(super) fn error_line(log: &str) -> Option<String> {
    log.lines()
        .find(|line| {
            let level = line.split_whitespace().take(2).any(|word| matches!(word, "ERR" | "FTL" | "PNC"));
            let skipped = line.contains("partial scan") || (line.contains("WRN") && line.contains("skipping"));
            level || skipped
        })
        .map(safe_line)
}

/// A line of the scanner's log for an error message: bounded, and without anything that could be a secret it has just
/// read, that is, without any long word of letters and digits.
fn safe_line(line: &str) -> String {
    let line: String = line.chars().filter(|c| !c.is_control()).take(300).collect();
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '=');
    let mut out = String::new();
    for word in line.split_inclusive(|c: char| !part(c)) {
        let body = word.trim_end_matches(|c: char| !part(c));
        let has = |kind: fn(&u8) -> bool| body.bytes().any(|b| kind(&b));
        if body.len() >= 16 && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic) {
            out.push('…');
            out.push_str(word.get(body.len()..).unwrap_or_default());
        } else {
            out.push_str(word);
        }
    }
    out
}

/// Whether a text is a bare `8.x` or `8.x.y`; another tool of the same name prints something else.
pub(super) fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    (2..=3).contains(&parts.len())
        && parts.first() == Some(&"8")
        && parts.iter().all(|p| !p.is_empty() && p.len() < 6 && p.bytes().all(|b| b.is_ascii_digit()))
}

/// The scanner, found and with a known version.
#[derive(Debug)]
pub(super) struct Gitleaks {
    program: PathBuf,
    pub version: String,
    home: PathBuf,
    empty: PathBuf,
    limit: Duration,
}

/// The trusted answer of one call.
#[derive(Debug)]
pub(super) struct Answer {
    pub found: bool,
    pub report: Vec<u8>,
    pub log: String,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.report.zeroize();
    }
}

impl Gitleaks {
    /// Finds it (a path, or a name on PATH) and asks for its version, which must be a bare `8.x`. `empty` is the
    /// working directory of every call: the scanner would obey a configuration or ignore file there.
    pub fn find(named: &str, home: &Path, empty: &Path, limit: Duration) -> Result<Self> {
        let program = crate::adapters::toolbox::find(named).ok_or_else(|| {
            let place = if named.contains('/') {
                format!("no program {named}")
            } else {
                "not found on PATH or in the tools cache".to_owned()
            };
            anyhow::anyhow!("gitleaks is not installed ({place}); `orch doctor --fix` installs it")
        })?;
        let ran = Call::new(&program, home, limit.min(Duration::from_secs(30))).arg("version").cwd(empty).run()?;
        let text = String::from_utf8_lossy(&ran.stdout);
        let version = text.trim();
        if ran.code != Some(0) || !is_version(version) {
            let said: String = version.chars().filter(|c| !c.is_control()).take(60).collect();
            bail!("the gitleaks on PATH is not gitleaks 8: `gitleaks version` {} and printed {said:?}", ran.ending());
        }
        Ok(Self { program, version: version.to_owned(), home: home.to_owned(), empty: empty.to_owned(), limit })
    }

    /// Runs a subcommand. The report is deleted before, required after, and read and deleted at once, since it contains
    /// secrets. Trusted only with exit 0 or 42, a report, and no error line.
    pub fn run(
        &self,
        args: &[&str],
        target: &Path,
        cwd: Option<&Path>,
        config: Option<&Path>,
        format: &str,
        report: &Path,
    ) -> Result<Answer> {
        match std::fs::remove_file(report) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).context("removing an old report"),
            Ok(()) | Err(_) => {}
        }
        let mut call = Call::new(&self.program, &self.home, self.limit)
            .cwd(cwd.unwrap_or(&self.empty))
            .args(args.iter().copied())
            .args([
                "--ignore-gitleaks-allow",
                "--no-banner",
                "--no-color",
                "--exit-code",
                "42",
                "--report-format",
                format,
            ])
            .arg("--report-path")
            .arg(report);
        if let Some(config) = config {
            call = call.arg("--config").arg(config);
        }
        let ran = call.arg(target).run()?;
        let bytes = std::fs::read(report);
        if bytes.is_ok() {
            let _ = std::fs::set_permissions(report, std::fs::Permissions::from_mode(0o600));
            let _ = std::fs::remove_file(report);
        }
        believe(ran, bytes)
    }
}

fn believe(ran: Ran, report: std::io::Result<Vec<u8>>) -> Result<Answer> {
    if let Some(line) = error_line(&ran.stderr) {
        bail!("gitleaks logged an error: {line}");
    }
    let found = match ran.code {
        Some(0) => false,
        Some(FOUND) => true,
        _ => bail!("gitleaks {}: {}", ran.ending(), safe_line(&ran.complaint())),
    };
    let report = report.map_err(|_| anyhow::anyhow!("gitleaks {} and wrote no report", ran.ending()))?;
    Ok(Answer { found, report, log: ran.stderr })
}

impl Answer {
    /// The findings; whether there are any must agree with the exit code.
    pub fn leaks(&self) -> Result<Vec<Leak>> {
        let leaks = parse_report(&self.report)?;
        ensure!(
            leaks.is_empty() != self.found,
            "its exit code and its report of {} findings contradict each other",
            leaks.len()
        );
        Ok(leaks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ran(code: i32, stderr: &str) -> Ran {
        Ran { code: Some(code), stdout: vec![], stderr: stderr.into() }
    }

    #[test]
    fn only_a_bare_8_is_gitleaks() {
        assert!(is_version("8.30.1") && is_version("8.30"));
        for other in ["", "2.0.0-rc.4", "v8.30.1", "8", "8.", "8.1.2.3", "betterleaks 8.1", "18.1.1", "8.x.y"] {
            assert!(!is_version(other), "{other}");
        }
    }

    #[test]
    fn an_error_line_a_strange_exit_or_a_missing_report_is_never_clean() {
        let report = || Ok(b"[]".to_vec());
        assert!(believe(ran(0, "4:21PM INF no leaks found"), report()).is_ok());
        assert!(believe(ran(0, "4:21PM ERR failed to scan error=\"stderr is not empty\""), report()).is_err());
        assert!(believe(ran(0, "4:21PM FTL x"), report()).is_err());
        assert!(believe(ran(1, ""), report()).is_err());
        assert!(believe(ran(0, ""), Err(std::io::ErrorKind::NotFound.into())).is_err());
    }

    #[test]
    fn an_error_message_never_quotes_a_secret() {
        let secret = format!("{}{}", "ghp", "_a1b2c3d4e5f6g7h8i9");
        let said = believe(ran(1, &format!("4:21PM ERR bad \"{secret}\" in conf/my-own-application.toml")), Ok(vec![]));
        let said = said.unwrap_err().to_string();
        assert!(!said.contains(&secret) && said.ends_with("ERR bad \"…\" in conf/my-own-application.toml"), "{said}");
        let said = believe(ran(1, &format!("killed at {secret}")), Ok(vec![])).unwrap_err().to_string();
        assert!(said.ends_with("killed at …"), "{said}");
    }

    #[test]
    fn exit_code_and_report_must_agree() {
        let answer = |found, report: &[u8]| Answer { found, report: report.to_vec(), log: String::new() };
        assert!(answer(false, b"[]").leaks().is_ok());
        assert!(answer(true, b"[]").leaks().is_err());
        assert!(answer(false, br#"[{"RuleID":"a","Secret":"b"}]"#).leaks().is_err());
        assert!(answer(false, b"").leaks().is_err());
        assert!(answer(false, b"{}").leaks().is_err());
    }

    #[test]
    fn a_report_error_never_quotes_the_report() {
        let error = parse_report(br#"[{"RuleID":"a","Secret":12345678901}]"#).unwrap_err();
        assert!(!format!("{error:#?}").contains("12345678901"));
    }

    #[test]
    fn the_commit_count_is_read_from_the_log() {
        assert_eq!(commits_scanned("4:21PM INF 6 commits scanned.\nx"), Some(6));
        assert_eq!(commits_scanned("nothing"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_make_a_report_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_report(&bytes);
            let _ = parse_sarif(&bytes);
            let text = String::from_utf8_lossy(&bytes);
            let _ = (commits_scanned(&text), error_line(&text), is_version(&text));
        }

        #[test]
        fn broken_json_of_the_right_shape_never_panics(cut in 0_usize..90) {
            let whole = br#"[{"RuleID":"aws","Description":"d","StartLine":1,"File":"f","Commit":"c","Secret":"s"}]"#;
            let _ = parse_report(&whole[..cut.min(whole.len())]);
        }
    }
}
