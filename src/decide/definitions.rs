//! Which files define how a repository is built and tested, which are lock files, and which are tests (BND-5). Names
//! are compared case-folded, so that a variant spelling is the same name.

use crate::model::protected::glob;
use crate::model::tree_rules::fold;
use globset::{GlobSet, GlobSetBuilder};
use std::sync::LazyLock;

/// In any folder unless a pattern names one.
const BUILD: &[&str] = &[
    "makefile",
    "gnumakefile",
    "*.mk",
    "justfile",
    ".justfile",
    "*.just",
    "taskfile*.y*ml",
    "rakefile",
    "gemfile",
    "*.gemspec",
    "cmakelists.txt",
    "cmakepresets.json",
    "*.cmake",
    "meson.build",
    "meson_options.txt",
    "configure",
    "configure.ac",
    "*.am",
    "sconstruct",
    "build.ninja",
    "build.bazel",
    "workspace",
    "workspace.bazel",
    "module.bazel",
    "build",
    "*.bzl",
    ".bazelrc",
    "build.rs",
    ".cargo/**",
    "setup.py",
    "noxfile.py",
    "tasks.py",
    "dodo.py",
    "pom.xml",
    ".mvn/**",
    "mvnw",
    "mvnw.cmd",
    "*.gradle",
    "*.gradle.kts",
    "gradle.properties",
    "gradle/wrapper/**",
    "gradle/libs.versions.toml",
    "buildsrc/**",
    "build-logic/**",
    "gradlew",
    "gradlew.bat",
    "build.xml",
    "build.sbt",
    "project/*.sbt",
    "project/build.properties",
    "*.csproj",
    "*.fsproj",
    "*.vbproj",
    "*.sln",
    "*.props",
    "*.targets",
    "global.json",
    "nuget.config",
    "mix.exs",
    "rebar.config",
    "package.swift",
    "build.zig",
    "build.zig.zon",
    "dub.json",
    "gulpfile.*",
    "gruntfile.*",
    "webpack.config.*",
    "rollup.config.*",
    "vite.config.*",
    "esbuild.config.*",
    "tsup.config.*",
    "turbo.json",
    "nx.json",
    "lerna.json",
    "babel.config.*",
    ".babelrc*",
    "tsconfig*.json",
    "deno.json",
    "deno.jsonc",
    "dockerfile*",
    "*.dockerfile",
    "containerfile*",
    ".dockerignore",
    "docker-compose*.y*ml",
    "compose*.y*ml",
    "docker-bake.hcl",
    "flake.nix",
    "shell.nix",
    "default.nix",
    "devbox.json",
    "earthfile",
    "skaffold.yaml",
    "procfile",
    "go.mod",
    "go.work",
];

/// Settings of test runners and of code checkers.
const TESTING: &[&str] = &[
    "conftest.py",
    "pytest.ini",
    ".pytest.ini",
    "tox.ini",
    "setup.cfg",
    ".coveragerc",
    "sitecustomize.py",
    "usercustomize.py",
    "jest.config.*",
    "jest.setup.*",
    "vitest.config.*",
    "vitest.workspace.*",
    "vitest.setup.*",
    "karma.conf.*",
    "playwright.config.*",
    "cypress.config.*",
    "cypress.json",
    ".mocharc*",
    "mocha.opts",
    "ava.config.*",
    ".nycrc*",
    ".c8rc*",
    "wdio.conf.*",
    "phpunit.xml*",
    ".phpunit.xml",
    ".rspec",
    "spec_helper.rb",
    "rails_helper.rb",
    "test_helper.*",
    "junit-platform.properties",
    "*.runsettings",
    ".config/nextest.toml",
    "nextest.toml",
    "clippy.toml",
    ".clippy.toml",
    "deny.toml",
    "tarpaulin.toml",
    ".golangci.*",
    ".eslintrc*",
    "eslint.config.*",
    "biome.json*",
    "ruff.toml",
    ".ruff.toml",
    "mypy.ini",
    ".mypy.ini",
    "pyrightconfig.json",
    ".flake8",
    ".pylintrc",
    ".shellcheckrc",
    ".rubocop.y*ml",
    "phpstan.neon*",
    "codecov.y*ml",
    ".codecov.y*ml",
    "checkstyle.xml",
    ".semgrepignore",
    ".trivyignore",
    ".gitleaksignore",
];

/// What selects the programs and their sources.
const TOOLS: &[&str] = &[
    ".npmrc",
    ".yarnrc",
    ".yarnrc.yml",
    ".yarn/releases/**",
    ".yarn/plugins/**",
    ".pnpmfile.cjs",
    "pnpm-workspace.yaml",
    "bunfig.toml",
    "pip.conf",
    "pip.ini",
    ".pypirc",
    "uv.toml",
    ".condarc",
    "environment.y*ml",
    ".tool-versions",
    "mise.toml",
    ".mise.toml",
    ".config/mise/**",
    ".nvmrc",
    ".node-version",
    ".python-version",
    ".ruby-version",
    ".java-version",
    ".go-version",
    ".sdkmanrc",
    "rust-toolchain",
    "rust-toolchain.toml",
    ".bazelversion",
    ".bazeliskrc",
    "conanfile.*",
    "vcpkg.json",
    ".bundle/config",
    "auth.json",
    ".netrc",
    ".env",
    ".env.*",
];

const LOCKS: &[&str] = &[
    "cargo.lock",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "bun.lock",
    "bun.lockb",
    "deno.lock",
    "poetry.lock",
    "pdm.lock",
    "uv.lock",
    "pylock*.toml",
    "pipfile",
    "pipfile.lock",
    "requirements*.txt",
    "requirements/**",
    "constraints*.txt",
    "gemfile.lock",
    "composer.lock",
    "go.sum",
    "go.work.sum",
    "mix.lock",
    "gradle.lockfile",
    "gradle/verification-metadata.xml",
    "packages.lock.json",
    "flake.lock",
    "podfile.lock",
    "pubspec.lock",
    "package.resolved",
    "conan.lock",
    "module.bazel.lock",
    ".terraform.lock.hcl",
    "conda-lock.y*ml",
];

const TESTS: &[&str] = &[
    "test/**",
    "tests/**",
    "__tests__/**",
    "spec/**",
    "specs/**",
    "testdata/**",
    "e2e/**",
    "*_test.*",
    "*_tests.*",
    "*_spec.*",
    "*.test.*",
    "*.spec.*",
    "test_*",
    "*test.java",
    "*tests.java",
    "*it.java",
    "*test.kt",
    "*tests.cs",
    "*test.cs",
    "*.bats",
];

struct Sets {
    build: GlobSet,
    testing: GlobSet,
    tools: GlobSet,
    locks: GlobSet,
    tests: GlobSet,
}

static SETS: LazyLock<Sets> = LazyLock::new(|| Sets {
    build: set(BUILD),
    testing: set(TESTING),
    tools: set(TOOLS),
    locks: set(LOCKS),
    tests: set(TESTS),
});

/// Each pattern in any folder. The lists are constants, and a test compiles every one of them.
fn set(patterns: &[&str]) -> GlobSet {
    let mut all = GlobSetBuilder::new();
    for found in patterns.iter().filter_map(|p| glob(&format!("**/{p}")).ok()) {
        all.add(found);
    }
    all.build().unwrap_or_default()
}

/// Whether a path is a lock file, or a list of what to install.
pub fn is_lock_file(path: &str) -> bool {
    SETS.locks.is_match(fold(path))
}

/// Whether a path is a test, or is used by tests.
pub fn is_test_path(path: &str) -> bool {
    SETS.tests.is_match(fold(path))
}

/// The kind of a changed definition; `None`: the path defines nothing, or nothing in it that counts changed. `absent`:
/// which of before and after has no such file; a text that is `None` otherwise can't be read.
pub fn definition(path: &str, before: Option<&str>, after: Option<&str>, absent: [bool; 2]) -> Option<String> {
    let folded = fold(path);
    let sets = &*SETS;
    for (set, kind) in
        [(&sets.build, "build definition"), (&sets.testing, "settings of tests or checks"), (&sets.tools, "tool file")]
    {
        if set.is_match(&folded) {
            return Some(kind.to_owned());
        }
    }
    let name = folded.rsplit('/').next().unwrap_or_default();
    if name == ".gitattributes" {
        return Some("attributes: how files are read and shown".to_owned());
    }
    let (parse, ordinary): (Parse, &[&str]) = match name {
        "package.json" => (json, PACKAGE_JSON),
        "composer.json" => (json, COMPOSER_JSON),
        "cargo.toml" => (toml, CARGO_TOML),
        "pyproject.toml" => (toml, PYPROJECT_TOML),
        _ => return None,
    };
    let [was_absent, is_absent] = absent;
    let read =
        |text: Option<&str>, absent: bool| if absent { Some(serde_json::json!({})) } else { text.and_then(parse) };
    let (Some(was), Some(now)) = (read(before, was_absent), read(after, is_absent)) else {
        return Some("build definition that can't be read".to_owned());
    };
    let mut changed = Vec::new();
    differing(&was, &now, "", ordinary, &mut changed);
    (!changed.is_empty()).then(|| format!("build definition: {}", changed.join(", ")))
}

/// Reads a manifest; `None`: it can't be parsed.
type Parse = fn(&str) -> Option<serde_json::Value>;

fn json(text: &str) -> Option<serde_json::Value> {
    serde_json::from_str(text.trim_start_matches('\u{feff}')).ok()
}

fn toml(text: &str) -> Option<serde_json::Value> {
    let table: toml::Table = ::toml::from_str(text).ok()?;
    serde_json::to_value(table).ok()
}

/// Keys that only describe, and tables of dependencies, where an entry counts only if it names its source. Anything not
/// listed affects what a build or a test does.
const PACKAGE_JSON: &[&str] = &[
    "name",
    "version",
    "description",
    "keywords",
    "homepage",
    "bugs",
    "license",
    "author",
    "contributors",
    "maintainers",
    "funding",
    "files",
    "main",
    "module",
    "browser",
    "man",
    "repository",
    "private",
    "types",
    "typings",
    "sideEffects",
    "publishConfig",
    "dependencies/*",
    "devDependencies/*",
    "peerDependencies/*",
    "peerDependenciesMeta/*",
    "optionalDependencies/*",
];
const COMPOSER_JSON: &[&str] = &[
    "name",
    "version",
    "description",
    "keywords",
    "homepage",
    "license",
    "authors",
    "type",
    "support",
    "require/*",
    "require-dev/*",
];
const CARGO_TOML: &[&str] = &[
    "package/name",
    "package/version",
    "package/description",
    "package/authors",
    "package/license",
    "package/license-file",
    "package/readme",
    "package/homepage",
    "package/repository",
    "package/documentation",
    "package/keywords",
    "package/categories",
    "package/include",
    "package/exclude",
    "package/publish",
    "package/rust-version",
    "features",
    "badges",
    "dependencies/*",
    "dev-dependencies/*",
    "build-dependencies/*",
    "workspace/dependencies/*",
    "target/*/dependencies/*",
    "target/*/dev-dependencies/*",
    "target/*/build-dependencies/*",
];
const PYPROJECT_TOML: &[&str] = &[
    "project/name",
    "project/version",
    "project/description",
    "project/readme",
    "project/license",
    "project/authors",
    "project/maintainers",
    "project/keywords",
    "project/classifiers",
    "project/urls",
    "project/dependencies",
    "project/optional-dependencies",
    "dependency-groups",
    "tool/poetry/dependencies/*",
    "tool/poetry/version",
];

/// The keys whose values differ, by path (`scripts/test`), without the ordinary ones.
fn differing(was: &serde_json::Value, now: &serde_json::Value, at: &str, ordinary: &[&str], out: &mut Vec<String>) {
    if was == now || out.len() >= 8 {
        return;
    }
    let (empty, depth) = (serde_json::Map::new(), if at.is_empty() { 0 } else { at.matches('/').count() + 1 });
    let object = |value: &serde_json::Value| value.as_object().cloned();
    let both = match (object(was), object(now)) {
        (Some(was), Some(now)) => Some((was, now)),
        (Some(was), None) if now.is_null() => Some((was, empty)),
        (None, Some(now)) if was.is_null() => Some((empty, now)),
        _ => None,
    };
    let listed = ordinary.iter().find(|pattern| same_way(pattern, at));
    if let Some(pattern) = listed {
        // A dependency is in the lock file, unless it names its own source.
        let sources = |value: &serde_json::Value| sources(value).into_iter().collect::<Vec<_>>().join(" ");
        if !pattern.ends_with("/*") || sources(was) == sources(now) {
            return;
        }
    }
    match both.filter(|_| listed.is_none() && depth < 4) {
        Some((was, now)) => {
            let mut names: Vec<&String> = was.keys().chain(now.keys()).collect();
            names.sort();
            names.dedup();
            if names.is_empty() {
                out.push(crate::model::text::clip(at, 60));
            }
            for name in names {
                let way = if at.is_empty() { name.clone() } else { format!("{at}/{name}") };
                let null = serde_json::Value::Null;
                differing(was.get(name).unwrap_or(&null), now.get(name).unwrap_or(&null), &way, ordinary, out);
            }
        }
        None => out.push(crate::model::text::clip(at, 60)),
    }
}

fn same_way(pattern: &str, at: &str) -> bool {
    let (mut pattern, mut at) = (pattern.split('/'), at.split('/'));
    loop {
        match (pattern.next(), at.next()) {
            (None, None) => return true,
            (Some(p), Some(a)) if p == "*" || p == a => {}
            _ => return false,
        }
    }
}

/// The sources that a dependency names: an address, a path, a registry of its own.
fn sources(value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::String(text) if text.contains([':', '/']) => vec![text.clone()],
        serde_json::Value::Object(fields) => {
            let named = [
                "git",
                "path",
                "registry",
                "registry-index",
                "url",
                "rev",
                "branch",
                "tag",
                "file",
                "source",
                "package",
            ];
            fields.iter().filter(|(k, _)| named.contains(&k.as_str())).map(|(k, v)| format!("{k}={v}")).collect()
        }
        serde_json::Value::Array(items) => items.iter().flat_map(sources).collect(),
        serde_json::Value::String(_)
        | serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_one() {
        for pattern in [BUILD, TESTING, TOOLS, LOCKS, TESTS].concat() {
            glob(&format!("**/{pattern}")).unwrap();
            assert_eq!(fold(pattern), pattern);
        }
    }

    fn change_of(path: &str, before: &str, after: &str) -> Option<String> {
        let some = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
        let (was, now) = (some(before), some(after));
        definition(path, was.as_deref(), now.as_deref(), [was.is_none(), now.is_none()])
    }

    #[test]
    fn a_manifest_counts_by_what_decides_and_not_by_what_describes() {
        let table = [
            ("package.json", r#"{"version":"1"}"#, r#"{"version":"2"}"#, None),
            ("package.json", r#"{"scripts":{"test":"jest"}}"#, r#"{"scripts":{"test":"true"}}"#, Some("scripts/test")),
            ("web/package.json", "", r#"{"name":"x","scripts":{"a":"b"}}"#, Some("scripts/a")),
            ("package.json", r#"{"jest":{}}"#, r#"{}"#, Some("jest")),
            ("package.json", r#"{"dependencies":{"a":"1"}}"#, r#"{"dependencies":{"a":"2","b":"^1"}}"#, None),
            ("package.json", r#"{}"#, r#"{"dependencies":{"a":"git+ssh://evil/x"}}"#, Some("dependencies/a")),
            ("package.json", "{}", "{", Some("can't be read")),
            ("Cargo.toml", "[package]\nversion='1'", "[package]\nversion='2'", None),
            ("Cargo.toml", "[package]\nname='a'", "[package]\nname='a'\nbuild='b.rs'", Some("package/build")),
            ("Cargo.toml", "", "[lib]\ntest=false", Some("lib/test")),
            ("Cargo.toml", "", "[dependencies]\na='1'", None),
            ("Cargo.toml", "[dependencies]\na='1'", "[dependencies]\na={git='https://x/y'}", Some("dependencies/a")),
            ("Cargo.toml", "", "[target.'cfg(unix)'.dependencies]\na='1'", None),
            ("Cargo.toml", "", "[patch.crates-io]\na={path='a'}", Some("patch/crates-io/a")),
            (
                "pyproject.toml",
                "",
                "[tool.pytest.ini_options]\naddopts='--co'",
                Some("tool/pytest/ini_options/addopts"),
            ),
            ("pyproject.toml", "", "[project]\ndependencies=['a']", None),
            ("src/lib.rs", "a", "b", None),
        ];
        for (path, before, after, want) in table {
            let got = change_of(path, before, after);
            assert_eq!(got.is_some(), want.is_some(), "{path} {after}: {got:?}");
            assert!(want.is_none_or(|w| got.as_deref().unwrap().contains(w)), "{path} {after}: {got:?}");
        }
    }
}
