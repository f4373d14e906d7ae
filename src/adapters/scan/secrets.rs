//! The secrets pass: the control, the commits of the range, and every new file content in plain form.

use super::ScanRequest;
use super::blobs::{self, Pass};
use super::config;
use super::gitleaks::{Gitleaks, Leak, commits_scanned, parse_sarif};
use super::pieces::PIECE;
use super::repo::ScanRepo;
use crate::model::scan::{Finding, FindingKind, SecretFacts, Severity};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeSet;
use std::path::Path;

/// The rule that finds the planted secrets.
const CONTROL_RULE: &str = "aws-access-token";

/// Scans the range for secrets. Any doubt is an error, which the caller turns into a `tool_error`.
pub(super) fn scan(request: &ScanRequest, repo: &ScanRepo, commits: u64) -> Result<SecretFacts> {
    let gitleaks = Gitleaks::find(&request.tools.gitleaks, &repo.path("home"), &repo.path("empty"), request.timeout)?;
    let report = repo.path("out/report");
    let rules_built_in = control(&gitleaks, repo, &report).context("positive control")?;

    let config = config::of_default_branch(request, repo)?;
    let fresh = repo.new_blobs(&request.base, &request.head)?;
    let file = config.file.as_deref();
    let (rules, note) = match file {
        None => (rules_built_in, None),
        Some(file) => config::control(&gitleaks, repo, (file, &config), &fresh, (CONTROL_RULE, &planted()?))
            .context("positive control under the project's configuration")?,
    };

    let least = repo.commits_with_added_lines(&request.base, &request.head)?;
    let (scanned, leaks) = if commits == 0 {
        (0, Vec::new())
    } else {
        let options = format!("--log-opts={} {}..{}", repo.log_options().join(" "), request.base, request.head);
        let answer = gitleaks
            .run(&["git", &options], &repo.bare(), None, file, "json", &report)
            .context("scanning the commits")?;
        let scanned = commits_scanned(&answer.log).context("gitleaks did not report how many commits it scanned")?;
        ensure!(
            (least..=commits).contains(&scanned),
            "gitleaks read {scanned} commits, git counts {least} with added lines and {commits} in all"
        );
        (scanned, answer.leaks().context("scanning the commits")?)
    };

    let paths: BTreeSet<&str> = fresh.iter().map(|b| b.path.as_str()).collect();
    let mut findings = Vec::new();
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    for leak in &leaks {
        let path = true_path(&leak.file, &paths);
        if seen.insert((path.clone(), leak.secret.clone())) {
            findings.push(finding(&request.key, leak, path, Some(leak.start_line), Some(leak.commit.clone()), false));
        }
    }
    let pass = Pass::new(repo, &gitleaks, file, &report, "work/contents")?;
    let second = blobs::scan(request, pass, &fresh, &seen).context("scanning the file contents")?;
    findings.extend(second.findings);
    findings.extend(config::changes(request, repo, &config)?);
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
        objects: second.objects,
        allowed_by_path: second.allowed_by_path,
        notes: note.into_iter().chain(second.unread).collect(),
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

/// The first characters, at most a fifth of the secret and at most four, and its length.
fn preview(secret: &str) -> String {
    let length = secret.chars().count();
    let shown: String = secret.chars().take((length / 5).min(4)).filter(|c| c.is_ascii_graphic()).collect();
    format!("{shown}… ({length} characters)")
}

/// In a remerge diff with a conflict the scanner leaves git's `b/` in front of the path.
fn true_path(file: &str, paths: &BTreeSet<&str>) -> String {
    match file.strip_prefix("b/") {
        Some(stripped) if !paths.contains(file) && paths.contains(stripped) => stripped.to_owned(),
        _ => file.to_owned(),
    }
}

/// The built-in rules must find planted fake secrets: in a file of their own, across a cut of a long line, and at the
/// very end of that line. Returns the number of rules.
fn control(gitleaks: &Gitleaks, repo: &ScanRepo, report: &Path) -> Result<u64> {
    let mut pass = Pass::new(repo, gitleaks, None, report, "work/control")?;
    let mut planted_in = pass.give(0, 'a', format!("key = {}\n", planted()?).as_bytes(), Vec::new())?;
    let mut long = ";".repeat(PIECE - 12);
    long.push_str(&format!(" {} ", planted()?));
    while long.len() < 2 * PIECE {
        long.push_str("; ");
    }
    long.push_str(&planted()?);
    planted_in.extend(pass.give(1, 'a', long.as_bytes(), Vec::new())?.into_iter().skip(1));
    ensure!(planted_in.len() == 3, "the control has {} pieces, expected 3", planted_in.len());
    let answer = gitleaks.run(&["dir"], Path::new("."), Some(pass.root()), None, "sarif", report)?;
    let sarif = parse_sarif(&answer.report)?;
    let found = |name: &String| sarif.fired.iter().any(|f| f.rule == CONTROL_RULE && f.file == *name);
    ensure!(
        answer.found && planted_in.iter().all(found),
        "gitleaks did not find a planted fake secret; it is not working"
    );
    ensure!(sarif.rules.len() >= 50, "gitleaks has only {} built-in rules", sarif.rules.len());
    Ok(sarif.rules.len() as u64)
}

/// A fake access key that no rule's allow-list covers: distinct random characters, for high entropy.
fn planted() -> Result<String> {
    // Without L: the built-in allow-list passes anything that contains the word "false".
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
    fn the_path_of_a_conflict_in_a_merge_is_corrected_only_when_it_is_one() {
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
