//! Dependency audits (SHIP-1). Every manifest and lock file of a known ecosystem gets a line. Files are audited in a
//! clean folder with our own settings: files that the branch puts next to them (`.npmrc`, `audit.toml`,
//! `osv-scanner.toml`) never get there. Each tool is first asked for a package known to be vulnerable; its answers are
//! trusted only if it finds that one.

mod cargo;
mod lines;
mod manifests;
mod npm;
mod osv;
mod pip;
mod python;

use super::call::{Call, Silent};
use super::repo::{RangeError, ScanRepo};
use super::{ScanRequest, fingerprint};
use crate::model::scan::{Audit, AuditOutcome, Finding, FindingKind, Package, Severity};
use lines::Line;
use manifests::{Kind, Python, Tool};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Advisory sources that replace the tools' own (`security.feeds`); `None` or empty: the tool's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Feeds {
    /// An OSV API, for pip-audit.
    pub osv_url: Option<String>,
    pub npm_registry: Option<String>,
    /// A RustSec advisory database: a folder, or the URL of its git repository.
    pub cargo_db: Option<String>,
}

/// Largest lock file that is audited, and most lock files per repository.
const LARGEST: u64 = 32 << 20;
const MOST_FILES: usize = 64;

impl Tool {
    fn program(self) -> &'static str {
        match self {
            Self::Pip => "pip-audit",
            Self::Cargo => "cargo-audit",
            Self::Npm => "npm",
            Self::Osv => "osv-scanner",
        }
    }

    fn ecosystem(self) -> &'static str {
        match self {
            Self::Pip => "PyPI",
            Self::Cargo => "crates.io",
            Self::Npm => "npm",
            Self::Osv => "",
        }
    }

    /// A lock file of one package known to be vulnerable.
    fn control(self) -> Control {
        match self {
            Self::Pip => Control {
                path: "requirements.txt",
                kind: Kind::Python(Python::Requirements),
                content: pip::CONTROL,
                package: "urllib3",
            },
            Self::Cargo => {
                Control { path: "Cargo.lock", kind: Kind::Lock(self), content: cargo::CONTROL, package: "time" }
            }
            Self::Npm | Self::Osv => Control {
                path: "package-lock.json",
                kind: Kind::Lock(self),
                content: npm::CONTROL,
                package: "minimist",
            },
        }
    }
}

/// What a tool must find before it is trusted.
struct Control {
    path: &'static str,
    kind: Kind,
    content: &'static str,
    package: &'static str,
}

/// One advisory that applies to a package of a lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Advisory {
    id: String,
    aliases: Vec<String>,
    ecosystem: String,
    package: String,
    version: String,
    severity: Severity,
    title: String,
    fixed_in: Vec<String>,
}

/// A trusted report.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Seen {
    packages: u64,
    advisories: Vec<Advisory>,
}

/// Why a report is not trusted.
#[derive(Debug, thiserror::Error)]
enum Doubt {
    #[error(transparent)]
    Silent(#[from] Silent),
    #[error("{0}")]
    Unbelieved(String),
    #[error("preparing the audit: {0}")]
    Io(#[from] std::io::Error),
}

fn doubt(text: impl Into<String>) -> Doubt {
    Doubt::Unbelieved(text.into())
}

/// One tool in one scan.
struct Auditor<'a> {
    tool: Tool,
    program: PathBuf,
    feeds: &'a Feeds,
    repo: &'a ScanRepo,
    cache: Option<&'a Path>,
    limit: Duration,
    rounds: std::cell::Cell<u32>,
}

impl Auditor<'_> {
    /// A new empty folder: the working directory of one call, with nothing of the repository except what we write
    /// there.
    fn clean_dir(&self) -> std::io::Result<PathBuf> {
        let n = self.rounds.get().saturating_add(1);
        self.rounds.set(n);
        let dir = self.repo.path(&format!("work/{}-{n}", self.tool.program()));
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    fn call(&self, dir: &Path) -> Call {
        Call::new(&self.program, &self.repo.path("home"), self.limit).cwd(dir)
    }

    fn version(&self) -> Option<String> {
        let home = self.repo.path("home");
        let ran =
            Call::new(&self.program, &home, self.limit.min(Duration::from_secs(30))).arg("--version").run().ok()?;
        let text = String::from_utf8_lossy(&ran.stdout);
        let word = text.split_whitespace().find(|w| w.starts_with(|c: char| c.is_ascii_digit()))?;
        (ran.code == Some(0)).then(|| word.chars().take(40).collect())
    }

    fn audit(&self, path: &str, kind: Kind, content: &[u8]) -> Result<Seen, Doubt> {
        match kind {
            Kind::Python(form) => pip::audit(self, form, content),
            Kind::Lock(Tool::Cargo) => cargo::audit(self, content),
            Kind::Lock(Tool::Npm) => npm::audit(self, content),
            Kind::Lock(Tool::Osv) => osv::audit(self, path, content),
            Kind::Lock(Tool::Pip) | Kind::CargoToml | Kind::PackageJson | Kind::Manifest(_) => {
                Err(doubt("no tool reads it"))
            }
        }
    }

    /// The feed is trusted only if the known-vulnerable pin is found.
    fn control(&self) -> Result<(), Doubt> {
        let Control { path, kind, content, package } = self.tool.control();
        let seen = self.audit(path, kind, content.as_bytes())?;
        if seen.advisories.iter().any(|a| a.package == package) {
            Ok(())
        } else {
            Err(doubt(format!(
                "the known-vulnerable control package {package} was not found; the advisory source is not trusted"
            )))
        }
    }
}

/// One line for every manifest and lock file of the head. What the base's copy of a file already had is inherited.
pub(super) fn all(request: &ScanRequest, repo: &ScanRepo) -> Result<Vec<Audit>, RangeError> {
    let base: BTreeMap<String, String> = repo.files(&request.base)?.into_iter().map(|f| (f.path, f.oid)).collect();
    let tree = lines::Tree { repo, head: repo.files(&request.head)?, base: &base };
    let mut ready: BTreeMap<Tool, (Option<String>, Result<Auditor<'_>, AuditOutcome>)> = BTreeMap::new();
    let mut asked = 0_usize;
    let mut audits = Vec::new();
    for line in tree.lines() {
        let tool = line.tool();
        let (outcome, notes, version) = match tool {
            None => (line.settled.clone().unwrap_or(AuditOutcome::Empty), Vec::new(), None),
            Some(_) if asked >= MOST_FILES => {
                let why = format!("more than {MOST_FILES} lock files in one repository");
                (AuditOutcome::NotBelieved { why }, Vec::new(), None)
            }
            Some(tool) => {
                asked += 1;
                let (version, auditor) = ready.entry(tool).or_insert_with(|| prepare(request, repo, tool));
                let (outcome, notes) = match auditor {
                    Ok(auditor) => one(request, repo, auditor, &line, base.get(&line.file.path)),
                    Err(outcome) => (outcome.clone(), Vec::new()),
                };
                (outcome, notes, version.clone())
            }
        };
        audits.push(Audit {
            tool: tool.map_or("", Tool::program).to_owned(),
            version,
            file: line.file.path,
            outcome,
            partial: line.partial,
            notes,
        });
    }
    Ok(audits)
}

fn prepare<'a>(
    request: &'a ScanRequest,
    repo: &'a ScanRepo,
    tool: Tool,
) -> (Option<String>, Result<Auditor<'a>, AuditOutcome>) {
    let named = match tool {
        Tool::Pip => &request.tools.pip_audit,
        Tool::Cargo => &request.tools.cargo_audit,
        Tool::Npm => &request.tools.npm,
        Tool::Osv => &request.tools.osv_scanner,
    };
    let Some(program) = crate::adapters::toolbox::find(named) else {
        let place = if named.contains('/') { format!("no program {named}") } else { "not found on PATH".to_owned() };
        let why = format!("{} is not installed ({place})", tool.program());
        return (None, Err(AuditOutcome::NotInstalled { why }));
    };
    let auditor = Auditor {
        tool,
        program,
        feeds: &request.feeds,
        repo,
        cache: request.cache.as_deref(),
        limit: request.timeout,
        rounds: std::cell::Cell::new(0),
    };
    let version = auditor.version();
    match auditor.control() {
        Ok(()) => (version, Ok(auditor)),
        Err(doubt) => (version, Err(outcome_of(&doubt))),
    }
}

fn outcome_of(doubt: &Doubt) -> AuditOutcome {
    match doubt {
        Doubt::Silent(Silent::Missing(_)) => AuditOutcome::NotInstalled { why: doubt.to_string() },
        Doubt::Silent(_) | Doubt::Io(_) => AuditOutcome::Broken { why: doubt.to_string() },
        Doubt::Unbelieved(_) => AuditOutcome::NotBelieved { why: doubt.to_string() },
    }
}

fn one(
    request: &ScanRequest,
    repo: &ScanRepo,
    auditor: &Auditor<'_>,
    line: &Line,
    base: Option<&String>,
) -> (AuditOutcome, Vec<String>) {
    let file = &line.file;
    let audit_once = |oid: &str| -> Result<Seen, Doubt> {
        let content = repo
            .content(oid, LARGEST)
            .ok_or_else(|| doubt(format!("it can't be read, or is larger than {} MiB", LARGEST >> 20)))?;
        auditor.audit(&file.path, line.kind, &content)
    };
    let seen = match audit_once(&file.oid) {
        Ok(seen) => seen,
        Err(doubt) => return (outcome_of(&doubt), Vec::new()),
    };
    let mut notes = Vec::new();
    // A package with the same advisory in the base, whatever its version there, was already vulnerable.
    let old: BTreeSet<(String, String)> = match base {
        _ if seen.advisories.is_empty() => BTreeSet::new(),
        None => BTreeSet::new(),
        Some(oid) if *oid == file.oid => seen.advisories.iter().map(|a| (a.id.clone(), a.package.clone())).collect(),
        Some(oid) => match audit_once(oid) {
            Ok(before) => before.advisories.into_iter().map(|a| (a.id, a.package)).collect(),
            Err(doubt) => {
                notes.push(format!("the base's file could not be audited, so nothing counts as inherited: {doubt}"));
                BTreeSet::new()
            }
        },
    };
    let findings = seen
        .advisories
        .into_iter()
        .map(|a| {
            let inherited = old.contains(&(a.id.clone(), a.package.clone()));
            finding(&request.key, auditor.tool, &file.path, a, inherited)
        })
        .collect();
    (AuditOutcome::Believed { packages: seen.packages, findings }, notes)
}

fn finding(key: &[u8], tool: Tool, file: &str, a: Advisory, inherited: bool) -> Finding {
    let ecosystem = if a.ecosystem.is_empty() { tool.ecosystem().to_owned() } else { a.ecosystem };
    let parts = [b"dependency".as_slice(), ecosystem.as_bytes(), a.package.as_bytes(), a.id.as_bytes()];
    let aliases = if a.aliases.is_empty() { String::new() } else { format!(" ({})", a.aliases.join(", ")) };
    let title: String = format!("{}{aliases}", a.title).chars().filter(|c| !c.is_control()).take(240).collect();
    Finding {
        kind: FindingKind::Dependency,
        fingerprint: fingerprint(key, &parts),
        rule: a.id,
        file: file.to_owned(),
        line: None,
        commit: None,
        severity: a.severity,
        title,
        preview: String::new(),
        package: Some(Package { ecosystem, name: a.package, version: a.version, fixed_in: a.fixed_in }),
        inherited,
    }
}

/// Parses a tool's stdout as JSON; stderr explains an empty one.
fn json(ran: &super::call::Ran, tool: &str) -> Result<serde_json::Value, Doubt> {
    serde_json::from_slice(&ran.stdout)
        .map_err(|_| doubt(format!("{tool} {} without a readable report: {}", ran.ending(), ran.complaint())))
}

/// A text field, without control characters and bounded.
fn text(value: &serde_json::Value, pointer: &str) -> Option<String> {
    let text = value.pointer(pointer)?.as_str()?;
    Some(text.chars().filter(|c| !c.is_control()).take(300).collect())
}

/// The texts of an array field.
fn texts(value: &serde_json::Value, pointer: &str) -> Vec<String> {
    let list = value.pointer(pointer).and_then(|v| v.as_array());
    list.into_iter().flatten().filter_map(|v| v.as_str()).map(|s| s.chars().take(100).collect()).take(20).collect()
}

/// Reads the bytes as every auditor's report and every lock file (see `fuzzing`).
pub(super) fn fuzz(bytes: &[u8]) {
    if let Ok(report) = serde_json::from_slice(bytes) {
        drop(osv::parse(&report));
        drop(cargo::parse(&report, 1, 0));
        drop(npm::parse(&report, &report, 0, u64::MAX));
        drop((pip::parse(&report, 1), npm::packages(&report)));
    }
    let text = String::from_utf8_lossy(bytes);
    for form in [Python::Requirements, Python::Pyproject, Python::TomlLock, Python::PipfileLock] {
        drop(python::pins(form, &text));
    }
    drop((manifests::of_cargo_toml(&text), manifests::of_package_json(&text)));
    cargo::packages(bytes);
}
