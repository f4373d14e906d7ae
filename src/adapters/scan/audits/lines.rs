//! One line for each file of the head's tree that names dependencies: to be audited, or settled here with the reason.

use super::LARGEST;
use super::manifests::{self, Kind, Python, Tool};
use super::python::{self, Pins};
use crate::adapters::scan::repo::{ScanRepo, TreeFile};
use crate::model::scan::AuditOutcome;
use std::collections::{BTreeMap, BTreeSet};

/// Most files read because others include them.
const MOST_READ: usize = 400;

/// The trees to compare.
pub(super) struct Tree<'a> {
    pub repo: &'a ScanRepo,
    pub head: Vec<TreeFile>,
    /// Object ids of the base by path.
    pub base: &'a BTreeMap<String, String>,
}

/// One file's line.
#[derive(Debug)]
pub(super) struct Line {
    pub file: TreeFile,
    pub kind: Kind,
    /// The outcome known without a tool; `None`: a tool is needed.
    pub settled: Option<AuditOutcome>,
    /// What no tool can look up, in a file that is audited all the same.
    pub partial: Option<String>,
}

impl Line {
    /// The tool to run.
    pub fn tool(&self) -> Option<Tool> {
        if self.settled.is_some() { None } else { self.kind.tool() }
    }
}

/// Python files by path, parsed.
type Read = BTreeMap<String, Result<Pins, String>>;

impl Tree<'_> {
    /// All lines: first those for a tool, grouped by tool, then the rest by path.
    pub fn lines(&self) -> Vec<Line> {
        let mut kinds: BTreeMap<&str, Kind> = BTreeMap::new();
        let mut vendored: BTreeMap<&str, bool> = BTreeMap::new();
        for file in &self.head {
            let Some(kind) = manifests::of(&file.path) else { continue };
            match manifests::vendored(&file.path) {
                Some(folder) => *vendored.entry(folder).or_insert(true) &= self.unchanged(file),
                None => {
                    kinds.insert(&file.path, kind);
                }
            }
        }
        let read = self.read_python(&mut kinds);
        let by_lower: BTreeMap<String, &str> = kinds.keys().map(|p| (p.to_ascii_lowercase(), *p)).collect();
        let mut lines: Vec<Line> = self
            .head
            .iter()
            .filter_map(|file| {
                let kind = *kinds.get(file.path.as_str())?;
                let (settled, partial) = self.settle(file, kind, &read, &by_lower);
                Some(Line { file: file.clone(), kind, settled, partial })
            })
            .collect();
        lines.extend(vendored.into_iter().map(|(folder, unchanged)| Line {
            file: TreeFile { oid: String::new(), path: folder.to_owned() },
            kind: Kind::Manifest(&[]),
            settled: Some(open(unchanged, "it contains committed packages, which are not audited".to_owned())),
            partial: None,
        }));
        lines.sort_by(|a, b| {
            let rank = |l: &Line| (l.tool().is_none(), l.tool(), l.file.path.clone());
            rank(a).cmp(&rank(b))
        });
        lines
    }

    fn unchanged(&self, file: &TreeFile) -> bool {
        self.base.get(&file.path) == Some(&file.oid)
    }

    fn text(&self, path: &str) -> Result<String, String> {
        let file = self.head.iter().find(|f| f.path == path).ok_or("it is not in the tree")?;
        let bytes = self.repo.content(&file.oid, LARGEST);
        let bytes = bytes.ok_or_else(|| format!("it can't be read, or is larger than {} MiB", LARGEST >> 20))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Reads the Python files and every file of the tree that they include, whatever its name.
    fn read_python<'t>(&'t self, kinds: &mut BTreeMap<&'t str, Kind>) -> Read {
        let mut waiting: Vec<(&str, Python)> = kinds
            .iter()
            .filter_map(|(path, kind)| match kind {
                Kind::Python(form) => Some((*path, *form)),
                Kind::Lock(_) | Kind::CargoToml | Kind::PackageJson | Kind::Manifest(_) => None,
            })
            .collect();
        let mut read = Read::new();
        while let Some((path, form)) = waiting.pop() {
            if read.contains_key(path) || read.len() >= MOST_READ {
                continue;
            }
            let pins = self.text(path).and_then(|text| python::pins(form, &text));
            for include in pins.iter().flat_map(|p| &p.includes) {
                let wanted = relative_to_file(path, include);
                if let Some(file) = wanted.and_then(|wanted| self.head.iter().find(|f| f.path == wanted)) {
                    kinds.entry(&file.path).or_insert(Kind::Python(Python::Requirements));
                    waiting.push((&file.path, Python::Requirements));
                }
            }
            read.insert(path.to_owned(), pins);
        }
        read
    }

    /// What is known of a file without a tool, and what in it no tool can look up.
    fn settle(
        &self,
        file: &TreeFile,
        kind: Kind,
        read: &Read,
        paths: &BTreeMap<String, &str>,
    ) -> (Option<AuditOutcome>, Option<String>) {
        let unchanged = self.unchanged(file);
        let lock = manifests::lock_of(kind, &file.path, paths);
        match kind {
            Kind::Lock(_) => (None, None),
            Kind::Python(_) => self.settle_python(file, read, lock),
            Kind::CargoToml | Kind::PackageJson => {
                let names = self.text(&file.path).and_then(|text| match kind {
                    Kind::CargoToml => manifests::of_cargo_toml(&text),
                    Kind::PackageJson | Kind::Python(_) | Kind::Lock(_) | Kind::Manifest(_) => {
                        manifests::of_package_json(&text)
                    }
                });
                (Some(self.by_lock(names, lock, unchanged)), None)
            }
            Kind::Manifest(_) => {
                let moved = lock.is_some_and(|l| self.head.iter().any(|f| f.path == l && !self.unchanged(f)));
                let outcome = match lock {
                    Some(lock) if unchanged || moved => AuditOutcome::Covered { by: lock.to_owned() },
                    Some(lock) => open(unchanged, format!("it changed, but {lock} did not")),
                    None => {
                        open(unchanged, "no tool here audits it, and there is no lock file that one would".to_owned())
                    }
                };
                (Some(outcome), None)
            }
        }
    }

    /// A manifest whose names must be in its lock file, which is audited on its own.
    fn by_lock(&self, names: Result<BTreeSet<String>, String>, lock: Option<&str>, unchanged: bool) -> AuditOutcome {
        let names = match names {
            Ok(names) if names.is_empty() => return AuditOutcome::Empty,
            Ok(names) => names,
            Err(why) => return open(unchanged, why),
        };
        let Some(lock) = lock else {
            return open(unchanged, format!("it names {} dependencies and there is no lock file", names.len()));
        };
        let text = match self.text(lock) {
            Ok(text) => text,
            Err(why) => return open(unchanged, format!("{lock}: {why}")),
        };
        let missing: Vec<&str> = names.iter().map(String::as_str).filter(|n| !manifests::names(&text, n)).collect();
        if missing.is_empty() {
            AuditOutcome::Covered { by: lock.to_owned() }
        } else {
            open(unchanged, format!("{lock} lacks {} of its dependencies ({})", missing.len(), some(&missing)))
        }
    }

    fn settle_python(
        &self,
        file: &TreeFile,
        read: &Read,
        lock: Option<&str>,
    ) -> (Option<AuditOutcome>, Option<String>) {
        let unchanged = self.unchanged(file);
        let pins = match read.get(&file.path) {
            Some(Ok(pins)) => pins,
            Some(Err(why)) => return (Some(open(unchanged, why.clone())), None),
            None => return (Some(open(unchanged, format!("more than {MOST_READ} Python files"))), None),
        };
        if pins.is_empty() {
            return (Some(AuditOutcome::Empty), None);
        }
        let around = self.around(&file.path, read, lock);
        let mut left: Vec<&str> =
            pins.unpinned.iter().map(String::as_str).filter(|s| !around.names.contains(&python::name_of(s))).collect();
        let gone: Vec<String> = around.gone.iter().map(|name| format!("-r {name}, not in the tree")).collect();
        left.extend(gone.iter().map(String::as_str));
        let open_text = format!("{} requirements are not pinned with == ({})", left.len(), some(&left));
        match (pins.pinned.is_empty(), left.is_empty()) {
            (true, true) => (Some(AuditOutcome::Covered { by: around.by.join(", ") }), None),
            (true, false) => (Some(open(unchanged, format!("all of its {open_text}"))), None),
            (false, true) => (None, None),
            (false, false) if unchanged => (None, None),
            (false, false) => (None, Some(open_text)),
        }
    }

    /// What a file's includes and its lock file pin.
    fn around(&self, path: &str, read: &Read, lock: Option<&str>) -> Around {
        let mut around = Around::default();
        let mut seen: BTreeSet<String> = [path.to_owned()].into();
        let mut waiting: Vec<String> = lock.map(str::to_owned).into_iter().collect();
        let mut at = path.to_owned();
        loop {
            if let Some(Ok(pins)) = read.get(&at) {
                for include in &pins.includes {
                    match relative_to_file(&at, include).filter(|wanted| read.contains_key(wanted)) {
                        Some(found) => waiting.push(found),
                        None => around.gone.push(include.chars().filter(|c| !c.is_control()).take(60).collect()),
                    }
                }
                if at != path {
                    around.by.push(at.clone());
                    around.names.extend(pins.pinned.iter().map(|(name, _)| name.clone()));
                }
            }
            at = loop {
                match waiting.pop() {
                    None => return around,
                    Some(next) if seen.insert(next.clone()) => break next,
                    Some(_) => {}
                }
            };
        }
    }
}

#[derive(Debug, Default)]
struct Around {
    names: BTreeSet<String>,
    by: Vec<String>,
    /// Included but not in the tree.
    gone: Vec<String>,
}

/// What is not audited: inherited if the base has the same file.
fn open(unchanged: bool, why: String) -> AuditOutcome {
    if unchanged { AuditOutcome::Inherited { why } } else { AuditOutcome::NotBelieved { why } }
}

fn some(names: &[&str]) -> String {
    let shown: Vec<&str> = names.iter().take(5).copied().collect();
    if names.len() > shown.len() { format!("such as {}", shown.join(", ")) } else { shown.join(", ") }
}

/// A path named in a file, within the tree; `None` for a URL, an absolute path, or a path that leaves the tree.
fn relative_to_file(file: &str, named: &str) -> Option<String> {
    if named.starts_with('/') || named.contains("://") {
        return None;
    }
    let mut parts: Vec<&str> =
        file.rsplit_once('/').map_or("", |(folder, _)| folder).split('/').filter(|p| !p.is_empty()).collect();
    for part in named.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_include_is_found_next_to_its_file_and_never_outside() {
        for (file, named, found) in [
            ("requirements.txt", "base.txt", Some("base.txt")),
            ("requirements/dev.txt", "base.txt", Some("requirements/base.txt")),
            ("requirements/dev.txt", "../c.txt", Some("c.txt")),
            ("a.txt", "../c.txt", None),
            ("a.txt", "/etc/x", None),
            ("a.txt", "https://x/y.txt", None),
        ] {
            assert_eq!(relative_to_file(file, named).as_deref(), found, "{file} {named}");
        }
    }
}
