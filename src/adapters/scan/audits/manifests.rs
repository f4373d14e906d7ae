//! Which files of a tree name dependencies, and which tool can audit them. Pure. Each gets its line in the report: a
//! file that is not recognised here never appears as checked.

use std::collections::{BTreeMap, BTreeSet};

/// The tool that reads a lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tool {
    Pip,
    Cargo,
    Npm,
    Osv,
}

/// A format of Python pins; pip-audit gets all of them as a list that we write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Python {
    Requirements,
    Pyproject,
    /// `poetry.lock`, `uv.lock`, `pdm.lock`, `pylock.toml`.
    TomlLock,
    PipfileLock,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Python(Python),
    /// A lock file that a tool reads directly.
    Lock(Tool),
    CargoToml,
    PackageJson,
    /// A manifest in a form that is not read here; the names of its lock files, none if the ecosystem has none.
    Manifest(&'static [&'static str]),
}

const CARGO_LOCKS: &[&str] = &["cargo.lock"];
const NODE_LOCKS: &[&str] = &["package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock"];

/// Files by lower-case name.
const BY_NAME: &[(&str, Kind)] = &[
    ("cargo.lock", Kind::Lock(Tool::Cargo)),
    ("cargo.toml", Kind::CargoToml),
    ("package-lock.json", Kind::Lock(Tool::Npm)),
    ("npm-shrinkwrap.json", Kind::Lock(Tool::Npm)),
    ("package.json", Kind::PackageJson),
    ("yarn.lock", Kind::Lock(Tool::Osv)),
    ("pnpm-lock.yaml", Kind::Lock(Tool::Osv)),
    ("bun.lock", Kind::Lock(Tool::Osv)),
    ("bun.lockb", Kind::Manifest(&["bun.lock"])),
    ("deno.json", Kind::Manifest(&[])),
    ("deno.jsonc", Kind::Manifest(&[])),
    ("deno.lock", Kind::Manifest(&[])),
    ("pyproject.toml", Kind::Python(Python::Pyproject)),
    ("poetry.lock", Kind::Python(Python::TomlLock)),
    ("uv.lock", Kind::Python(Python::TomlLock)),
    ("pdm.lock", Kind::Python(Python::TomlLock)),
    ("pylock.toml", Kind::Python(Python::TomlLock)),
    ("pipfile.lock", Kind::Python(Python::PipfileLock)),
    ("pipfile", Kind::Manifest(&["pipfile.lock"])),
    ("setup.py", Kind::Manifest(&[])),
    ("setup.cfg", Kind::Manifest(&[])),
    ("environment.yml", Kind::Manifest(&[])),
    ("environment.yaml", Kind::Manifest(&[])),
    ("conda-lock.yml", Kind::Manifest(&[])),
    ("pixi.toml", Kind::Manifest(&[])),
    ("pixi.lock", Kind::Manifest(&[])),
    ("go.mod", Kind::Lock(Tool::Osv)),
    ("go.sum", Kind::Manifest(&["go.mod"])),
    ("go.work", Kind::Manifest(&["go.mod"])),
    ("pom.xml", Kind::Manifest(&[])),
    ("build.gradle", Kind::Manifest(&["gradle.lockfile"])),
    ("build.gradle.kts", Kind::Manifest(&["gradle.lockfile"])),
    ("libs.versions.toml", Kind::Manifest(&["gradle.lockfile"])),
    ("gradle.lockfile", Kind::Lock(Tool::Osv)),
    ("buildscript-gradle.lockfile", Kind::Lock(Tool::Osv)),
    ("build.sbt", Kind::Manifest(&[])),
    ("ivy.xml", Kind::Manifest(&[])),
    ("project.clj", Kind::Manifest(&[])),
    ("deps.edn", Kind::Manifest(&[])),
    ("gemfile", Kind::Manifest(&["gemfile.lock"])),
    ("gems.rb", Kind::Manifest(&["gems.locked"])),
    ("gemfile.lock", Kind::Lock(Tool::Osv)),
    ("gems.locked", Kind::Lock(Tool::Osv)),
    ("composer.json", Kind::Manifest(&["composer.lock"])),
    ("composer.lock", Kind::Lock(Tool::Osv)),
    ("packages.lock.json", Kind::Lock(Tool::Osv)),
    ("packages.config", Kind::Manifest(&[])),
    ("directory.packages.props", Kind::Manifest(&["packages.lock.json"])),
    ("paket.dependencies", Kind::Manifest(&[])),
    ("paket.lock", Kind::Manifest(&[])),
    ("pubspec.yaml", Kind::Manifest(&["pubspec.lock"])),
    ("pubspec.lock", Kind::Lock(Tool::Osv)),
    ("mix.exs", Kind::Manifest(&["mix.lock"])),
    ("mix.lock", Kind::Lock(Tool::Osv)),
    ("rebar.config", Kind::Manifest(&[])),
    ("rebar.lock", Kind::Manifest(&[])),
    ("package.swift", Kind::Manifest(&[])),
    ("package.resolved", Kind::Manifest(&[])),
    ("podfile", Kind::Manifest(&[])),
    ("podfile.lock", Kind::Manifest(&[])),
    ("cartfile", Kind::Manifest(&[])),
    ("cartfile.resolved", Kind::Manifest(&[])),
    ("conanfile.txt", Kind::Manifest(&["conan.lock"])),
    ("conanfile.py", Kind::Manifest(&["conan.lock"])),
    ("conan.lock", Kind::Lock(Tool::Osv)),
    ("vcpkg.json", Kind::Manifest(&[])),
    ("stack.yaml", Kind::Manifest(&[])),
    ("stack.yaml.lock", Kind::Lock(Tool::Osv)),
    ("cabal.project.freeze", Kind::Lock(Tool::Osv)),
    ("renv.lock", Kind::Lock(Tool::Osv)),
    ("cpanfile", Kind::Manifest(&[])),
    ("elm.json", Kind::Manifest(&[])),
    ("shard.yml", Kind::Manifest(&[])),
    ("shard.lock", Kind::Manifest(&[])),
    ("manifest.toml", Kind::Manifest(&[])),
    ("flake.lock", Kind::Manifest(&[])),
    ("requirements.lock", Kind::Python(Python::Requirements)),
    ("requirements-dev.lock", Kind::Python(Python::Requirements)),
    ("cpanfile.snapshot", Kind::Manifest(&[])),
    ("dub.json", Kind::Manifest(&[])),
    ("dub.sdl", Kind::Manifest(&[])),
    ("dub.selections.json", Kind::Manifest(&[])),
    ("gleam.toml", Kind::Manifest(&[])),
    ("module.bazel", Kind::Manifest(&[])),
    ("module.bazel.lock", Kind::Manifest(&[])),
    ("chart.lock", Kind::Manifest(&[])),
    (".terraform.lock.hcl", Kind::Manifest(&[])),
];

/// Manifests by suffix.
const BY_END: &[(&str, Kind)] = &[
    (".gemspec", Kind::Manifest(&["gemfile.lock"])),
    (".csproj", Kind::Manifest(&["packages.lock.json"])),
    (".fsproj", Kind::Manifest(&["packages.lock.json"])),
    (".vbproj", Kind::Manifest(&["packages.lock.json"])),
    (".podspec", Kind::Manifest(&[])),
    (".cabal", Kind::Manifest(&["cabal.project.freeze"])),
    (".rockspec", Kind::Manifest(&[])),
];

/// What a path is by its name alone; `None`: it does not name dependencies.
pub(super) fn of(path: &str) -> Option<Kind> {
    let lower = path.to_ascii_lowercase();
    let (folder, name) = lower.rsplit_once('/').unwrap_or(("", &lower));
    if let Some((_, kind)) = BY_NAME.iter().find(|(known, _)| *known == name) {
        return Some(*kind);
    }
    if let Some((_, kind)) = BY_END.iter().find(|(end, _)| name.ends_with(end)) {
        return Some(*kind);
    }
    let listed = name.ends_with(".txt") || name.ends_with(".in") || name.ends_with(".pip");
    let named = ["requirement", "constraint"]
        .iter()
        .any(|word| name.contains(word) || folder.rsplit('/').next().is_some_and(|last| last.starts_with(word)));
    let pylock = name.starts_with("pylock.") && name.ends_with(".toml");
    match (listed && named, pylock) {
        (true, _) => Some(Kind::Python(Python::Requirements)),
        (false, true) => Some(Kind::Python(Python::TomlLock)),
        (false, false) => None,
    }
}

impl Kind {
    /// Lower-case names of the lock files that pin what this manifest names.
    pub fn locks(self) -> &'static [&'static str] {
        match self {
            Self::CargoToml => CARGO_LOCKS,
            Self::PackageJson => NODE_LOCKS,
            Self::Manifest(locks) => locks,
            Self::Python(Python::Pyproject) => &["poetry.lock", "uv.lock", "pdm.lock", "pylock.toml"],
            Self::Python(Python::Requirements | Python::TomlLock | Python::PipfileLock) | Self::Lock(_) => &[],
        }
    }

    /// The tool that audits it, if any.
    pub fn tool(self) -> Option<Tool> {
        match self {
            Self::Python(_) => Some(Tool::Pip),
            Self::Lock(tool) => Some(tool),
            Self::CargoToml | Self::PackageJson | Self::Manifest(_) => None,
        }
    }
}

/// The nearest lock file of a manifest: in its folder, else in a folder above.
pub(super) fn lock_of<'p>(kind: Kind, path: &str, paths: &BTreeMap<String, &'p str>) -> Option<&'p str> {
    let lower = path.to_ascii_lowercase();
    let mut folder = lower.rsplit_once('/').map_or("", |(folder, _)| folder);
    loop {
        for lock in kind.locks() {
            let wanted = if folder.is_empty() { (*lock).to_owned() } else { format!("{folder}/{lock}") };
            if let Some(found) = paths.get(&wanted) {
                return Some(found);
            }
        }
        if folder.is_empty() {
            return None;
        }
        folder = folder.rsplit_once('/').map_or("", |(above, _)| above);
    }
}

/// The folder of committed packages that contains a path, if any: those are code, not a list of dependencies.
pub(super) fn vendored(path: &str) -> Option<&str> {
    let mut end = 0;
    for part in path.split('/') {
        end += part.len();
        if part == "node_modules" && end < path.len() {
            return path.get(..end);
        }
        end += 1;
    }
    None
}

/// Names of what a `Cargo.toml` gets from elsewhere; those defined by a workspace belong to the workspace's manifest.
pub(super) fn of_cargo_toml(text: &str) -> Result<BTreeSet<String>, String> {
    let table: toml::Table = toml::from_str(text).map_err(|e| format!("it is not TOML: {}", e.message()))?;
    let mut names = BTreeSet::new();
    cargo_names(&table, &mut names);
    if let Some(targets) = table.get("target").and_then(toml::Value::as_table) {
        targets.values().filter_map(toml::Value::as_table).for_each(|t| cargo_names(t, &mut names));
    }
    Ok(names)
}

fn cargo_names(table: &toml::Table, names: &mut BTreeSet<String>) {
    for section in ["dependencies", "dev-dependencies", "build-dependencies", "dev_dependencies", "build_dependencies"]
    {
        for (key, value) in table.get(section).and_then(toml::Value::as_table).into_iter().flatten() {
            let field = |name: &str| value.as_table().and_then(|t| t.get(name));
            if field("workspace").and_then(toml::Value::as_bool) != Some(true) {
                names.insert(field("package").and_then(toml::Value::as_str).unwrap_or(key).to_owned());
            }
        }
    }
}

/// Names of what a `package.json` gets from elsewhere.
pub(super) fn of_package_json(text: &str) -> Result<BTreeSet<String>, String> {
    let doc: serde_json::Value =
        serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|e| format!("it is not JSON: {e}"))?;
    let mut names = BTreeSet::new();
    for section in ["dependencies", "devDependencies", "optionalDependencies"] {
        names.extend(doc.get(section).and_then(|d| d.as_object()).into_iter().flatten().map(|(name, _)| name.clone()));
    }
    Ok(names)
}

/// Whether a lock file of any format names a package.
pub(super) fn names(lock: &str, package: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    lock.match_indices(package).any(|(at, found)| {
        let before = lock.get(..at).and_then(|t| t.chars().next_back());
        let after = lock.get(at + found.len()..).and_then(|t| t.chars().next());
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_file_that_names_dependencies_is_found_in_any_folder() {
        let requirements = Some(Kind::Python(Python::Requirements));
        for (path, kind) in [
            ("requirements.txt", requirements),
            ("a/requirements-dev.txt", requirements),
            ("a/dev-requirements.txt", requirements),
            ("requirements/base.txt", requirements),
            ("requirements/dev/x.txt", None),
            ("svc/Requirements.TXT", requirements),
            ("requirements.in", requirements),
            ("constraints.txt", requirements),
            ("pyproject.toml", Some(Kind::Python(Python::Pyproject))),
            ("x/uv.lock", Some(Kind::Python(Python::TomlLock))),
            ("pylock.dev.toml", Some(Kind::Python(Python::TomlLock))),
            ("Pipfile.lock", Some(Kind::Python(Python::PipfileLock))),
            ("x/Cargo.lock", Some(Kind::Lock(Tool::Cargo))),
            ("package-lock.json", Some(Kind::Lock(Tool::Npm))),
            ("a/b/yarn.lock", Some(Kind::Lock(Tool::Osv))),
            ("Cargo.toml", Some(Kind::CargoToml)),
            ("pom.xml", Some(Kind::Manifest(&[]))),
            ("requirements.lock", requirements),
            ("charts/x/Chart.lock", Some(Kind::Manifest(&[]))),
            ("infra/.terraform.lock.hcl", Some(Kind::Manifest(&[]))),
            ("cpanfile.snapshot", Some(Kind::Manifest(&[]))),
            ("MODULE.bazel.lock", Some(Kind::Manifest(&[]))),
            ("App/App.csproj", Some(Kind::Manifest(&["packages.lock.json"]))),
            ("notes/requirements.md", None),
            ("src/main.rs", None),
            ("README.txt", None),
        ] {
            assert_eq!(of(path), kind, "{path}");
        }
        assert_eq!(vendored("web/node_modules/x/package.json"), Some("web/node_modules"));
        assert_eq!(vendored("node_modules"), None);
        assert_eq!(vendored("my_node_modules/x"), None);
    }

    #[test]
    fn a_manifest_finds_the_nearest_lock_file_above_it() {
        let paths: BTreeMap<String, &str> =
            ["Cargo.lock", "web/yarn.lock"].into_iter().map(|p| (p.to_ascii_lowercase(), p)).collect();
        for (path, lock) in [
            ("Cargo.toml", Some("Cargo.lock")),
            ("crates/a/Cargo.toml", Some("Cargo.lock")),
            ("web/app/package.json", Some("web/yarn.lock")),
            ("package.json", None),
            ("pom.xml", None),
        ] {
            assert_eq!(lock_of(of(path).unwrap(), path, &paths), lock, "{path}");
        }
    }

    #[test]
    fn manifests_name_what_they_take_in_every_spelling() {
        let set = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
        for (text, names) in [
            ("[dependencies]\na = \"1\"\n\"b\" = { version = \"1\", package = \"c\" }", &["a", "c"][..]),
            ("[dependencies] # x\na = 1", &["a"]),
            ("dependencies.a = \"1\"\ndev-dependencies = { b = \"2\" }", &["a", "b"]),
            ("[\"dependencies\".a]\nversion = \"1\"", &["a"]),
            ("[target.'cfg(unix)'.dependencies]\na = \"1\"", &["a"]),
            ("[dependencies]\na.workspace = true\n[workspace.dependencies]\nb = \"1\"", &[]),
        ] {
            assert_eq!(of_cargo_toml(text).unwrap(), set(names), "{text}");
        }
        assert!(of_cargo_toml("[dep").is_err());
        assert_eq!(
            of_package_json("{\"dependencies\":{\"a\":\"1\"},\"devDependencies\":{\"@s/b\":\"2\"}}").unwrap(),
            set(&["a", "@s/b"])
        );
        assert!(of_package_json("{").is_err());
        assert!(names("\"node_modules/left-pad\": {", "left-pad") && !names("left-pad-2 xleft-pad", "left-pad"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,120}", path in "[a-zA-Z./_]{0,40}") {
            let _ = (of_cargo_toml(&text), of_package_json(&text), of(&path), vendored(&path), names(&text, &path));
        }
    }
}
