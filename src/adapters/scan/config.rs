//! The scanner's configuration: the default branch's, never the branch's own, with the files it extends.

use super::ScanRequest;
use super::gitleaks::{Gitleaks, Sarif, parse_sarif};
use super::hidden::{controls, inside};
use super::repo::{NewBlob, ScanRepo, TreeFile};
use crate::model::ids::Sha;
use crate::model::scan::{Finding, FindingKind, Severity};
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The rule for a change to the scanner's own configuration within the range.
pub(super) const CONFIG_CHANGED: &str = "scan-config-changed";
/// Largest configuration that is read from the default branch.
const MOST: u64 = 1 << 20;
/// Longest chain of files that extend each other; the scanner silently ignores any after the third.
const MOST_FILES: usize = 3;
/// Most changed paths at which a planted secret is tested against the configuration.
const MOST_TRIED: usize = 8;

/// The configuration that applies.
#[derive(Debug)]
pub(super) struct Config {
    /// `None`: built-in rules.
    pub file: Option<PathBuf>,
    /// For the report.
    pub label: String,
    /// The files it consists of, as paths in the repository.
    pub paths: Vec<String>,
}

/// Reads the default branch's configuration and every file that it extends, all from that branch.
pub(super) fn of_default_branch(request: &ScanRequest, repo: &ScanRepo) -> Result<Config> {
    let tip = request.default_tip.as_ref().unwrap_or(&request.base);
    let files = repo.files(tip)?;
    let Some(first) = files.iter().find(|f| f.path == request.config_path) else {
        return Ok(Config { file: None, label: "built-in".to_owned(), paths: Vec::new() });
    };
    let mut paths = Vec::new();
    let mut chain: Vec<toml::Table> = Vec::new();
    let mut next = Some(first);
    while let Some(entry) = next {
        ensure!(!paths.contains(&entry.path), "{} of the default branch extends itself", entry.path);
        ensure!(
            paths.len() < MOST_FILES,
            "{} of the default branch extends more than {} files; write their rules into fewer",
            request.config_path,
            MOST_FILES - 1
        );
        let table = read(repo, entry)?;
        next = match extended(&table) {
            None => None,
            Some(path) => Some(resolve(&files, &entry.path, path).with_context(|| {
                format!("{} of the default branch extends {path:?}, expected a file of that branch", entry.path)
            })?),
        };
        paths.push(entry.path.clone());
        chain.push(table);
    }
    let file = write(repo, chain)?;
    Ok(Config { file: Some(file), label: label(&paths, tip), paths })
}

fn label(paths: &[String], tip: &Sha) -> String {
    let mut paths = paths.iter();
    let mut label = format!("{} at {}", paths.next().map_or("", String::as_str), tip.short());
    for more in paths {
        label.push_str(&format!(", extends {more}"));
    }
    label
}

fn read(repo: &ScanRepo, entry: &TreeFile) -> Result<toml::Table> {
    let bytes = repo
        .content(&entry.oid, MOST)
        .with_context(|| format!("{} of the default branch can't be read", entry.path))?;
    let text = String::from_utf8(bytes).with_context(|| format!("{} of the default branch is not text", entry.path))?;
    toml::from_str(&text)
        .map_err(|e| anyhow::anyhow!("{} of the default branch is not TOML: {}", entry.path, e.message()))
}

/// A key in any letter case, as the scanner accepts it.
fn key<'t>(table: &'t toml::Table, name: &str) -> Option<&'t toml::Value> {
    table.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// `[extend] path`.
fn extended(table: &toml::Table) -> Option<&str> {
    key(key(table, "extend")?.as_table()?, "path")?.as_str().filter(|path| !path.is_empty())
}

/// A file of the tree: relative to its root, as the scanner does it, else relative to the file that names it. Never
/// outside the tree.
fn resolve<'f>(files: &'f [TreeFile], from: &str, path: &str) -> Option<&'f TreeFile> {
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    [plain("", path), plain(folder, path)]
        .into_iter()
        .flatten()
        .find_map(|wanted| files.iter().find(|f| f.path == wanted))
}

/// A relative path with its dots resolved; `None` where it is absolute or leaves the tree.
fn plain(folder: &str, path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let mut out: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                out.pop()?;
            }
            name => out.push(name),
        }
    }
    Some(out.join("/"))
}

/// Writes the files so that each extends the copy of the next; returns the first.
fn write(repo: &ScanRepo, chain: Vec<toml::Table>) -> Result<PathBuf> {
    let at = |n: usize| repo.path(&format!("work/config{n}.toml"));
    let last = chain.len().saturating_sub(1);
    for (n, mut table) in chain.into_iter().enumerate() {
        if n < last {
            let copy = at(n + 1).display().to_string();
            for (_, extend) in table.iter_mut().filter(|(key, _)| key.eq_ignore_ascii_case("extend")) {
                for (_, path) in
                    extend.as_table_mut().into_iter().flatten().filter(|(k, _)| k.eq_ignore_ascii_case("path"))
                {
                    *path = toml::Value::String(copy.clone());
                }
            }
        }
        let text = toml::to_string(&table).context("writing the scanner's configuration")?;
        std::fs::write(at(n), text).context("writing the scanner's configuration")?;
    }
    Ok(at(0))
}

/// The configuration must also let a planted secret be found: at a changed file's path, or at least at a path that no
/// project has. Returns the number of rules, and a remark if there is one.
pub(super) fn control(
    gitleaks: &Gitleaks,
    repo: &ScanRepo,
    config: (&Path, &Config),
    fresh: &[NewBlob],
    planted: (&str, &str),
) -> Result<(u64, Option<String>)> {
    let (file, config) = config;
    let (rule, secret) = planted;
    let dir = repo.path("work/planted");
    std::fs::create_dir_all(&dir)?;
    let changed: BTreeSet<&str> = fresh.iter().map(|b| b.path.as_str()).filter(|path| !controls(path)).collect();
    let changed: Vec<&str> = changed.into_iter().take(MOST_TRIED).collect();
    const NEUTRAL: &str = "orch-control";
    for path in changed.iter().copied().chain([NEUTRAL]) {
        // A path that can't be created here is skipped: the neutral one always exists.
        if let Some(to) = inside(&dir, path)
            && to.parent().is_some_and(|p| std::fs::create_dir_all(p).is_ok())
        {
            let _ = std::fs::write(to, format!("key = {secret}\n"));
        }
    }
    let answer = gitleaks.run(&["dir"], Path::new("."), Some(&dir), Some(file), "sarif", &repo.path("out/report"))?;
    let sarif = parse_sarif(&answer.report)?;
    let named = &config.label;
    if !sarif.has(rule) {
        bail!(
            "{named} has no rule {rule}, so that a planted secret can't be found; `useDefault = true` under `[extend]` brings the built-in rules"
        );
    }
    let found = |path: &str| sarif.fired.iter().any(|f| f.rule == rule && f.file == path);
    if changed.iter().any(|path| found(path)) {
        return Ok((sarif.rules(), None));
    }
    ensure!(
        found(NEUTRAL),
        "{named} swallows a planted secret of the rule {rule} at every path: one of its allow-lists covers all"
    );
    let note = (!changed.is_empty())
        .then(|| format!("{named} allows secrets at every changed path that was tried ({})", changed.join(", ")));
    Ok((sarif.rules(), note))
}

impl Sarif {
    fn rules(&self) -> u64 {
        self.rules.len() as u64
    }

    fn has(&self, rule: &str) -> bool {
        self.rules.iter().any(|id| id == rule)
    }
}

/// Compares the files that say what the scanner skips, between base and head.
pub(super) fn changes(request: &ScanRequest, repo: &ScanRepo, config: &Config) -> Result<Vec<Finding>> {
    let oids = |commit| -> Result<BTreeMap<String, String>> {
        Ok(repo.files(commit)?.into_iter().map(|f| (f.path, f.oid)).collect())
    };
    let (before, after) = (oids(&request.base)?, oids(&request.head)?);
    let mut watched: BTreeSet<&str> = [request.config_path.as_str(), ".gitleaks.toml", ".gitleaksignore"].into();
    watched.extend(config.paths.iter().map(String::as_str));
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
                fingerprint: super::fingerprint(
                    &request.key,
                    &[CONFIG_CHANGED.as_bytes(), path.as_bytes(), now.as_bytes()],
                ),
                severity: Severity::High,
                title: "The branch changes the configuration of the secret scan; this scan used the default branch's"
                    .to_owned(),
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
    use proptest::prelude::*;

    #[test]
    fn an_extended_path_stays_within_the_tree() {
        let file = |path: &str| TreeFile { oid: path.into(), path: path.into() };
        let files = [file("config/base.toml"), file("ci/own.toml"), file("base.toml")];
        for (from, path, found) in [
            (".gitleaks.toml", "config/base.toml", Some("config/base.toml")),
            (".gitleaks.toml", "./config/../base.toml", Some("base.toml")),
            ("ci/gitleaks.toml", "own.toml", Some("ci/own.toml")),
            ("ci/gitleaks.toml", "../config/base.toml", Some("config/base.toml")),
            ("ci/gitleaks.toml", "base.toml", Some("base.toml")),
            (".gitleaks.toml", "/etc/passwd", None),
            (".gitleaks.toml", "../base.toml", None),
            ("ci/x.toml", "../../base.toml", None),
            (".gitleaks.toml", "gone.toml", None),
        ] {
            assert_eq!(resolve(&files, from, path).map(|f| f.path.as_str()), found, "{from} {path}");
        }
    }

    #[test]
    fn the_extended_path_is_read_in_every_spelling_the_scanner_knows() {
        for (text, path) in [
            ("[extend]\npath = \"a.toml\"", Some("a.toml")),
            ("extend.path = 'a.toml'", Some("a.toml")),
            ("extend = { path = \"a.toml\" } # why", Some("a.toml")),
            ("[Extend]\nPath = \"a.toml\"", Some("a.toml")),
            ("[\"extend\"]\n\"path\" = \"\"", None),
            ("[extend]\nuseDefault = true", None),
            ("extend = 3", None),
        ] {
            let table: toml::Table = toml::from_str(text).unwrap();
            assert_eq!(extended(&table), path, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_tree(from in "[a-z./]{0,12}", path in "[a-z./]{0,20}") {
            if let Some(found) = plain(&from, &path) {
                prop_assert!(!found.starts_with('/') && found.split('/').all(|p| p != ".."));
            }
        }
    }
}
