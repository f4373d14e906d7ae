//! The secrets pass: control, the commits of the range, and every new file content in plain form.

use super::ScanRequest;
use super::blobs;
use super::gitleaks::{Gitleaks, Leak, commits_scanned, parse_sarif};
use super::repo::ScanRepo;
use crate::model::scan::{Finding, FindingKind, SecretFacts, Severity};
use anyhow::{Context as _, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Rule of a change to the scanner's own configuration within the range.
pub(super) const CONFIG_CHANGED: &str = "scan-config-changed";
const CONTROL_RULE: &str = "aws-access-token";
/// Largest configuration that is read from the default branch.
const CONFIG_MOST: u64 = 1 << 20;

/// Scans the range for secrets. Any doubt is an error, which the caller makes a `tool_error`.
pub(super) fn scan(request: &ScanRequest, repo: &ScanRepo, commits: u64) -> Result<SecretFacts> {
    let gitleaks = Gitleaks::find(&request.tools.gitleaks, &repo.path("home"), &repo.path("empty"), request.timeout)?;
    let report = repo.path("out/report");
    let rules_built_in = control(&gitleaks, repo, &report).context("positive control")?;

    let config = default_config(request, repo)?;
    let rules = match &config.file {
        None => rules_built_in,
        Some(file) => rules_of(&gitleaks, repo, file, &report)
            .with_context(|| format!("the default branch's {} ", request.config_path))?,
    };
    ensure!(rules > 0, "the default branch's {} leaves no rule in force", request.config_path);
    let file = config.file.as_deref();

    let least = repo.commits_with_added_lines(&request.base, &request.head)?;
    let (scanned, leaks) = if commits == 0 {
        (0, Vec::new())
    } else {
        let options = format!("--log-opts={} {}..{}", repo.log_options().join(" "), request.base, request.head);
        let answer = gitleaks
            .run(&["git", &options], &repo.bare(), None, file, "json", &report)
            .context("scanning the commits")?;
        let scanned = commits_scanned(&answer.log).context("gitleaks did not say how many commits it scanned")?;
        ensure!(
            (least..=commits).contains(&scanned),
            "gitleaks read {scanned} commits, git counts {least} with added lines and {commits} in all"
        );
        (scanned, answer.leaks().context("scanning the commits")?)
    };

    let fresh = repo.new_blobs(&request.base, &request.head)?;
    let paths: BTreeSet<&str> = fresh.iter().map(|b| b.path.as_str()).collect();
    let mut findings = Vec::new();
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    for leak in &leaks {
        let path = true_path(&leak.file, &paths);
        if seen.insert((path.clone(), leak.secret.clone())) {
            findings.push(finding(&request.key, leak, path, Some(leak.start_line), Some(leak.commit.clone()), false));
        }
    }
    let second =
        blobs::scan(request, repo, &gitleaks, file, &report, &fresh, &seen).context("scanning the file contents")?;
    findings.extend(second.findings);
    findings.extend(config_changes(request, repo)?);
    findings
        .sort_by(|a, b| (&a.file, a.line, &a.rule, &a.fingerprint).cmp(&(&b.file, b.line, &b.rule, &b.fingerprint)));

    Ok(SecretFacts {
        scanner_version: gitleaks.version.clone(),
        rules,
        config: config.label,
        commits_scanned: scanned,
        commits_least: least,
        commits_most: commits,
        merges: repo.merges.to_owned(),
        control_rule: CONTROL_RULE.to_owned(),
        blobs: second.blobs,
        allowed_by_path: second.allowed_by_path,
        findings,
    })
}

/// A finding without the secret: fingerprint and redacted preview only.
pub(super) fn finding(
    key: &[u8],
    leak: &Leak,
    file: String,
    line: Option<u64>,
    commit: Option<String>,
    inherited: bool,
) -> Finding {
    Finding {
        kind: FindingKind::Secret,
        rule: leak.rule.clone(),
        file,
        line: line.filter(|l| *l > 0),
        commit: commit.filter(|c| !c.is_empty()),
        fingerprint: super::fingerprint(key, &[leak.secret.as_bytes()]),
        severity: Severity::Critical,
        title: leak.description.chars().filter(|c| !c.is_control()).take(200).collect(),
        preview: preview(&leak.secret),
        package: None,
        inherited,
    }
}

/// The first characters, never more than a fifth of the secret and never more than four, and its length.
fn preview(secret: &str) -> String {
    let length = secret.chars().count();
    let shown: String = secret.chars().take((length / 5).min(4)).filter(|c| c.is_ascii_graphic()).collect();
    format!("{shown}… ({length} characters)")
}

/// In a remerge diff with a conflict the scanner keeps git's `b/` in front of the path.
fn true_path(file: &str, paths: &BTreeSet<&str>) -> String {
    match file.strip_prefix("b/") {
        Some(stripped) if !paths.contains(file) && paths.contains(stripped) => stripped.to_owned(),
        _ => file.to_owned(),
    }
}

/// A planted fake secret must be found by the built-in rules. Gives their number.
fn control(gitleaks: &Gitleaks, repo: &ScanRepo, report: &Path) -> Result<u64> {
    let dir = repo.path("work/control");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("planted"), format!("key = {}\n", planted()?))?;
    let answer = gitleaks.run(&["dir"], &dir, None, None, "sarif", report)?;
    let (rules, fired) = parse_sarif(&answer.report)?;
    ensure!(
        answer.found && fired.iter().any(|rule| rule == CONTROL_RULE),
        "gitleaks did not find a planted fake secret; it is not working"
    );
    ensure!(rules >= 50, "gitleaks has only {rules} built-in rules");
    Ok(rules)
}

/// How many rules a configuration puts in force.
fn rules_of(gitleaks: &Gitleaks, repo: &ScanRepo, config: &Path, report: &Path) -> Result<u64> {
    let dir = repo.path("work/none");
    std::fs::create_dir_all(&dir)?;
    let answer = gitleaks.run(&["dir"], &dir, None, Some(config), "sarif", report)?;
    Ok(parse_sarif(&answer.report)?.0)
}

/// A fake access key that no rule's allow-list covers: distinct random characters, so that its entropy is high.
fn planted() -> Result<String> {
    // No L: the built-in allow-list passes anything that contains the word "false".
    let mut letters = *b"ABCDEFGHIJKMNOPQRSTUVWXYZ234567";
    let mut random = [0_u8; 31];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).context("no random bytes")?;
    for (i, byte) in random.iter().enumerate().rev() {
        letters.swap(i, usize::from(*byte) % (i + 1));
    }
    Ok(std::iter::once("AK".to_owned() + "IA")
        .chain(letters.iter().take(16).map(|b| char::from(*b).to_string()))
        .collect())
}

struct Config {
    /// `None`: built-in rules.
    file: Option<PathBuf>,
    label: String,
}

/// The default branch's configuration, or the built-in one where it has none. Never the branch's own.
fn default_config(request: &ScanRequest, repo: &ScanRepo) -> Result<Config> {
    let tip = request.default_tip.as_ref().unwrap_or(&request.base);
    let files = repo.files(tip)?;
    let Some(entry) = files.iter().find(|f| f.path == request.config_path) else {
        return Ok(Config { file: None, label: "built-in".to_owned() });
    };
    let bytes = repo
        .content(&entry.oid, CONFIG_MOST)
        .with_context(|| format!("{} of the default branch can't be read", entry.path))?;
    let file = repo.path("work/config.toml");
    std::fs::write(&file, bytes)?;
    Ok(Config { file: Some(file), label: format!("{} at {}", entry.path, tip.short()) })
}

/// The files that tell the scanner what to leave out, compared between base and head.
fn config_changes(request: &ScanRequest, repo: &ScanRepo) -> Result<Vec<Finding>> {
    let oids = |commit| -> Result<BTreeMap<String, String>> {
        Ok(repo.files(commit)?.into_iter().map(|f| (f.path, f.oid)).collect())
    };
    let (before, after) = (oids(&request.base)?, oids(&request.head)?);
    let watched: BTreeSet<&str> = [request.config_path.as_str(), ".gitleaks.toml", ".gitleaksignore"].into();
    Ok(watched
        .into_iter()
        .filter(|path| before.get(*path) != after.get(*path))
        .map(|path| {
            let now = after.get(path).map_or("deleted", String::as_str);
            Finding {
                kind: FindingKind::ScanConfig,
                rule: CONFIG_CHANGED.to_owned(),
                file: path.to_owned(),
                line: None,
                commit: None,
                fingerprint: super::fingerprint(&request.key, &[CONFIG_CHANGED.as_bytes(), path.as_bytes(), now.as_bytes()]),
                severity: Severity::High,
                title: "The branch changes what the secret scan looks at; this scan used the default branch's configuration".to_owned(),
                preview: String::new(),
                package: None,
                inherited: false,
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_shows_at_most_a_fifth() {
        assert_eq!(preview("abcdefghijklmnopqrstuvwxyz"), "abcd… (26 characters)");
        assert_eq!(preview("abcdefgh"), "a… (8 characters)");
        assert_eq!(preview("abc"), "… (3 characters)");
        assert_eq!(preview(""), "… (0 characters)");
        assert_eq!(preview("ééééééééééé"), "… (11 characters)");
    }

    #[test]
    fn the_path_of_a_conflict_in_a_merge_is_mended_only_when_it_is_one() {
        let paths: BTreeSet<&str> = ["c", "b/d"].into();
        assert_eq!(true_path("b/c", &paths), "c");
        assert_eq!(true_path("b/d", &paths), "b/d");
        assert_eq!(true_path("b/x", &paths), "b/x");
    }

    #[test]
    fn planted_keys_differ_and_have_the_shape_of_the_rule() {
        let (a, b) = (planted().unwrap(), planted().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.len(), 20);
        assert!(!a.contains('L'));
    }
}
