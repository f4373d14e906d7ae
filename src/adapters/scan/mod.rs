//! The security scan's tools (SHIP-1): gitleaks over the commits of a range, dependency audits over its lock files.
//!
//! [`range`] finds what to scan in a checkout, [`run`] scans it. Nothing here judges: `decide::gates::security` does.
//! Used by `engine` (with a mirror) and by `orch security-scan` (with any checkout). No store, no configuration.

mod audits;
mod blobs;
mod call;
mod config;
mod gitleaks;
mod hidden;
mod key;
mod pieces;
mod repo;
mod secrets;

pub use audits::Feeds;
pub use key::{keep_key, key_file};
pub use repo::{RangeError, Resolved, origin, range};

use crate::model::ids::Sha;
use crate::model::scan::{Scan, ScanRange, SecretPass};
use hmac::{Hmac, KeyInit, Mac};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The scanners, as names on PATH or as paths (`tools.*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanTools {
    pub gitleaks: String,
    pub pip_audit: String,
    pub cargo_audit: String,
    pub npm: String,
    pub osv_scanner: String,
}

impl Default for ScanTools {
    fn default() -> Self {
        let name = str::to_owned;
        Self {
            gitleaks: name("gitleaks"),
            pip_audit: name("pip-audit"),
            cargo_audit: name("cargo-audit"),
            npm: name("npm"),
            osv_scanner: name("osv-scanner"),
        }
    }
}

/// What to scan, with which tools, within which time.
#[derive(Debug, Clone)]
pub struct ScanRequest {
    /// Any checkout, worktree or bare mirror that has the commits; only its objects are read.
    pub repo: PathBuf,
    /// Merge base of the default branch and the head, before any rebase.
    pub base: Sha,
    pub head: Sha,
    /// Annotated tags that are read along with the range's commits.
    pub tags: Vec<Sha>,
    /// Commit from which the scanner's configuration is read; `None`: the base.
    pub default_tip: Option<Sha>,
    /// The tree that the report names as judged; `None`: the head's whole tree.
    pub code_tree: Option<Sha>,
    /// Path of the scanner's configuration in the default branch (`security.gitleaks_config`).
    pub config_path: String,
    /// Key of the fingerprints.
    pub key: Vec<u8>,
    /// Limit per tool (`security.scan_timeout_s`).
    pub timeout: Duration,
    /// Whether dependencies are audited (`security.dep_audit_enabled`).
    pub audit: bool,
    pub feeds: Feeds,
    pub tools: ScanTools,
    /// Where an advisory database may be kept between scans; `None`: fetched each time.
    pub cache: Option<PathBuf>,
}

impl ScanRequest {
    /// A request with the defaults of `config.md`: 300 s per tool, audits on, the tools' own advisory sources.
    pub fn new(repo: &Path, base: Sha, head: Sha, key: Vec<u8>) -> Self {
        Self {
            repo: repo.to_owned(),
            base,
            head,
            tags: Vec::new(),
            default_tip: None,
            code_tree: None,
            config_path: ".gitleaks.toml".to_owned(),
            key,
            timeout: Duration::from_secs(300),
            audit: true,
            feeds: Feeds::default(),
            tools: ScanTools::default(),
            cache: None,
        }
    }
}

/// Scans. Never fails as a whole: a scanner that could not work is [`SecretPass::ToolError`], and an audit that could
/// not work says so in its outcome. `Err` only if the range itself can't be read (shallow, unknown commit, no git).
pub fn run(request: &ScanRequest) -> Result<Scan, RangeError> {
    let start = Instant::now();
    let repo = repo::ScanRepo::open(request)?;
    let range = ScanRange {
        base: request.base.clone(),
        head: request.head.clone(),
        tree: match &request.code_tree {
            Some(tree) => tree.clone(),
            None => repo.tree(&request.head)?,
        },
        commits: repo.count(&request.base, &request.head)?,
    };
    let secrets = match secrets::scan(request, &repo, range.commits) {
        Ok(facts) => SecretPass::Believed(Box::new(facts)),
        Err(why) => SecretPass::ToolError { why: format!("{why:#}") },
    };
    let audits = if request.audit { audits::all(request, &repo)? } else { Vec::new() };
    let duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Scan { range, secrets, audits, audit_enabled: request.audit, duration_ms })
}

/// Hex HMAC-SHA256 over the parts, each with its length, so that bytes can't move from one part to another.
fn fingerprint(key: &[u8], parts: &[&[u8]]) -> String {
    // HMAC takes a key of any length, so this is never reached; an empty hash would match nothing.
    let Ok(mut mac) = Hmac::<sha2::Sha256>::new_from_slice(key) else { return String::new() };
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Reads the bytes as every report of a tool (see `fuzzing`).
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    drop(gitleaks::parse_report(bytes));
    drop(gitleaks::parse_sarif(bytes));
    let log = String::from_utf8_lossy(bytes);
    drop((gitleaks::commits_scanned(&log), gitleaks::error_line(&log), gitleaks::is_version(&log)));
    audits::fuzz(bytes);
}

#[cfg(test)]
mod tests {
    use super::fingerprint;

    #[test]
    fn a_fingerprint_depends_on_key_and_parts_and_on_nothing_else() {
        let a = fingerprint(b"k", &[b"ab", b"c"]);
        assert_eq!(a, fingerprint(b"k", &[b"ab", b"c"]));
        assert_ne!(a, fingerprint(b"k", &[b"a", b"bc"]));
        assert_ne!(a, fingerprint(b"other", &[b"ab", b"c"]));
        assert_eq!(a.len(), 64);
    }
}
