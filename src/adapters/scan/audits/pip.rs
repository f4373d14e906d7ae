//! pip-audit. It is given our own list of the pins of a file: no index options, includes, editable or remote
//! requirements of the branch reach it, and it never runs pip.

use super::{Advisory, Auditor, Doubt, Seen, doubt, json, text, texts};
use crate::model::scan::Severity;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const CONTROL: &str = "urllib3==1.23\n";

/// Audits a requirements file or a `pyproject.toml`.
pub(super) fn audit(auditor: &Auditor<'_>, path: &str, content: &[u8]) -> Result<Seen, Doubt> {
    let content = String::from_utf8_lossy(content);
    let pins = if path.ends_with(".toml") { pins_of(&pyproject(&content)) } else { pins_of(&requirements(&content)) };
    let mut seen = Seen::default();
    if !pins.unpinned.is_empty() {
        let some: Vec<&str> = pins.unpinned.iter().take(5).map(String::as_str).collect();
        seen.notes.push(format!(
            "{} requirements are not pinned with == and were NOT audited (such as {})",
            pins.unpinned.len(),
            some.join(", ")
        ));
    }
    // The tool refuses a name twice in one file: a second version of a name goes into a second file.
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, version) in &pins.pinned {
        versions.entry(name).or_default().push(version);
    }
    let rounds = versions.values().map(Vec::len).max().unwrap_or(0);
    for round in 0..rounds {
        let list: Vec<(&str, &str)> =
            versions.iter().filter_map(|(name, all)| all.get(round).map(|v| (*name, *v))).collect();
        let report = ask(auditor, &list)?;
        let part = parse(&report, list.len() as u64).map_err(doubt)?;
        seen.packages = seen.packages.saturating_add(part.packages);
        seen.advisories.extend(part.advisories);
    }
    Ok(seen)
}

fn ask(auditor: &Auditor<'_>, list: &[(&str, &str)]) -> Result<Value, Doubt> {
    let dir = auditor.clean_dir()?;
    std::fs::write(dir.join("pins.txt"), list.iter().map(|(n, v)| format!("{n}=={v}\n")).collect::<String>())?;
    let mut call = auditor.call(&dir).args([
        "--requirement",
        "pins.txt",
        "--strict",
        "--no-deps",
        "--disable-pip",
        "--format",
        "json",
        "--progress-spinner",
        "off",
    ]);
    if let Some(url) = auditor.feeds.osv_url.as_deref().filter(|u| !u.is_empty()) {
        let url = url.trim_end_matches('/');
        let query = if url.ends_with("/query") { url.to_owned() } else { format!("{url}/v1/query") };
        call = call.args(["--vulnerability-service".to_owned(), "osv".to_owned(), "--osv-url".to_owned(), query]);
    }
    let ran = call.run()?;
    let report = json(&ran, "pip-audit")?;
    match ran.code {
        Some(0 | 1) => Ok(report),
        _ => Err(doubt(format!("pip-audit {}: {}", ran.ending(), ran.complaint()))),
    }
}

/// Reads a report: believed if it has its marker and an answer for each of `expected` packages.
pub(super) fn parse(report: &Value, expected: u64) -> Result<Seen, String> {
    let list = report.get("dependencies").and_then(Value::as_array).ok_or("pip-audit's report has no dependencies")?;
    if let Some(skipped) = list.iter().find(|d| d.get("skip_reason").is_some()) {
        let name = text(skipped, "/name").unwrap_or_default();
        return Err(format!(
            "pip-audit could not look up {name}: {}",
            text(skipped, "/skip_reason").unwrap_or_default()
        ));
    }
    if list.len() as u64 != expected || !list.iter().all(|d| d.get("vulns").is_some_and(Value::is_array)) {
        return Err(format!("pip-audit answered for {} packages of {expected}", list.len()));
    }
    let mut advisories = Vec::new();
    for dependency in list {
        let package = text(dependency, "/name").ok_or("pip-audit's report has a package without a name")?;
        for vuln in dependency.get("vulns").and_then(Value::as_array).into_iter().flatten() {
            advisories.push(Advisory {
                id: text(vuln, "/id").ok_or("pip-audit's report has an advisory without an id")?,
                aliases: texts(vuln, "/aliases"),
                ecosystem: String::new(),
                package: package.clone(),
                version: text(dependency, "/version").unwrap_or_default(),
                // The report has none; unknown counts as reaching every threshold.
                severity: Severity::Unknown,
                title: text(vuln, "/description").unwrap_or_default(),
                fixed_in: texts(vuln, "/fix_versions"),
            });
        }
    }
    Ok(Seen { packages: expected, advisories, notes: Vec::new() })
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Pins {
    pinned: BTreeSet<(String, String)>,
    unpinned: BTreeSet<String>,
}

/// Sorts requirement specifiers into pins and the rest.
fn pins_of(specifiers: &[String]) -> Pins {
    let mut pins = Pins::default();
    for specifier in specifiers {
        let bare = specifier.split(';').next().unwrap_or_default().trim();
        match pin(bare) {
            Some(found) => {
                pins.pinned.insert(found);
            }
            None => {
                pins.unpinned.insert(bare.chars().filter(|c| !c.is_control()).take(60).collect());
            }
        }
    }
    pins
}

/// `name[extra]==1.2` as canonical name and version.
fn pin(bare: &str) -> Option<(String, String)> {
    let (name, version) = bare.split_once("==")?;
    let version = version.trim_start_matches('=').trim();
    let name = name.split('[').next()?.trim();
    let good = |text: &str, more: &str| {
        !text.is_empty() && text.len() <= 120 && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let starts = |text: &str| text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !(good(name, "-_.") && good(version, ".+!-_") && starts(name) && starts(version)) {
        return None;
    }
    let mut canonical = String::new();
    for c in name.to_ascii_lowercase().chars() {
        let dash = matches!(c, '-' | '_' | '.');
        if !dash {
            canonical.push(c);
        } else if !canonical.ends_with('-') {
            canonical.push('-');
        }
    }
    Some((canonical, version.to_owned()))
}

/// Requirement specifiers of a requirements file: comments, hashes and line continuations taken off. Includes and
/// remote requirements stay in the list, as something that is not pinned; plain options are left out.
pub(super) fn requirements(content: &str) -> Vec<String> {
    let joined = content.replace("\\\r\n", " ").replace("\\\n", " ");
    let mut list = Vec::new();
    for line in joined.lines() {
        let line = if line.trim_start().starts_with('#') { "" } else { line.split(" #").next().unwrap_or_default() };
        let line = line.trim().trim_start_matches('\u{feff}');
        let spec = line.split(" --").next().unwrap_or_default().trim();
        let pulls = ["-r", "--requirement", "-e", "--editable"].iter().any(|o| line.starts_with(o));
        if pulls {
            list.push(line.to_owned());
        } else if !spec.is_empty() && !spec.starts_with('-') {
            list.push(spec.to_owned());
        }
    }
    list
}

/// Requirement specifiers of a `pyproject.toml`: the quoted texts of every array in `[project]` named `dependencies`,
/// in `[project.optional-dependencies]` and `[dependency-groups]`.
pub(super) fn pyproject(content: &str) -> Vec<String> {
    let mut list = Vec::new();
    let mut table = String::new();
    let mut wanted = false;
    let mut depth = 0_usize;
    for line in content.lines() {
        let trimmed = line.trim();
        if depth == 0 {
            if trimmed.starts_with('[') {
                table = trimmed.trim_matches(['[', ']']).replace(' ', "");
                continue;
            }
            let key = trimmed.split('=').next().unwrap_or_default().trim();
            wanted = match table.as_str() {
                "project" => key == "dependencies",
                "project.optional-dependencies" | "dependency-groups" => true,
                _ => false,
            } && trimmed.contains('=');
        }
        let value = if depth == 0 { trimmed.split_once('=').map_or("", |(_, v)| v) } else { trimmed };
        let mut quote: Option<char> = None;
        let mut word = String::new();
        for c in value.chars() {
            match quote {
                Some(q) if c == q => {
                    quote = None;
                    if wanted && depth > 0 {
                        list.push(std::mem::take(&mut word));
                    }
                }
                Some(_) => word.push(c),
                None if c == '"' || c == '\'' => {
                    word.clear();
                    quote = Some(c);
                }
                None if c == '#' => break,
                None if c == '[' => depth += 1,
                None if c == ']' => depth = depth.saturating_sub(1),
                None => {}
            }
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn pinned(list: &[(&str, &str)]) -> BTreeSet<(String, String)> {
        list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn pins_are_read_and_options_of_the_branch_are_dropped() {
        let pins = pins_of(&requirements(
            "# c\n--index-url http://evil/\nurllib3==1.23 --hash=sha256:aa \\\n  --hash=sha256:bb\nZope.Interface[x]==5.0 ; python_version < '3' # why\nrequests>=2\n-r other.txt\n-e .\ngit+https://x/y\n",
        ));
        assert_eq!(pins.pinned, pinned(&[("urllib3", "1.23"), ("zope-interface", "5.0")]));
        assert_eq!(pins.unpinned.len(), 4, "{pins:?}");
    }

    #[test]
    fn a_pin_can_not_smuggle_an_option_or_a_line() {
        for bad in ["a==1 --index-url=x", "a==1\nb", "-a==1", "a==*", "a==1.*", "==1", "a==", "a @ http://x"] {
            assert_eq!(pin(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_pyproject_gives_its_dependency_arrays_and_nothing_else() {
        let list = pyproject(
            "[build-system]\nrequires = [\"setuptools==1\"]\n[project]\nname = \"x\"\nversion = \"1==2\"\ndependencies = [\n  \"urllib3==1.23\", # why\n  'a[b]>=2',\n]\n[project.optional-dependencies]\ndev = [\"pytest==8.0\"]\n[tool.x]\ny = [\"z==1\"]\n",
        );
        assert_eq!(list, ["urllib3==1.23", "a[b]>=2", "pytest==8.0"]);
    }

    #[test]
    fn a_skipped_or_missing_package_or_an_empty_answer_is_not_believed() {
        let good = json!({"dependencies": [{"name": "urllib3", "version": "1.23", "vulns": [{"id": "P-1", "aliases": ["C"], "fix_versions": ["2"], "description": "d"}]}]});
        assert_eq!(parse(&good, 1).unwrap().advisories[0].id, "P-1");
        assert!(parse(&good, 2).is_err());
        assert!(parse(&json!({}), 0).is_err());
        assert!(parse(&json!({"dependencies": [{"name": "a", "skip_reason": "not found"}]}), 1).is_err());
        assert!(parse(&json!({"dependencies": [{"name": "a"}]}), 1).is_err());
        assert!(parse(&json!([]), 1).is_err());
    }

    proptest! {
        #[test]
        fn any_text_makes_pins(text in "\\PC{0,200}", lines in proptest::collection::vec("[ -~]{0,40}", 0..8)) {
            let whole = lines.join("\n");
            for t in [&text, &whole] {
                let _ = pins_of(&requirements(t));
                let _ = pins_of(&pyproject(t));
                if let Ok(v) = serde_json::from_str(t) {
                    let _ = parse(&v, 1);
                }
            }
        }
    }
}
