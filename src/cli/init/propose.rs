//! What a project's own commands probably are (ORD-2): one pure function over the files at the root of a checkout.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Larger files are not read.
const MAX_FILE: u64 = 1 << 20;
/// Folders whose files are listed as well.
const FOLDERS: [&str; 5] = ["tests", "test", "requirements", ".ci", "scripts"];
/// Scripts that a project uses as its whole check.
const SCRIPTS: [&str; 4] = ["ci.sh", ".ci/run", "scripts/check", "scripts/ci"];

/// Names at the root and in a few of its folders (`tests/test_x.py`), and the text of the few files that matter.
#[derive(Debug, Clone, Default)]
pub struct Root {
    names: BTreeSet<String>,
    texts: BTreeMap<String, String>,
}

/// What is proposed: argument lists; `None`: nothing was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proposal {
    pub setup: Option<Vec<String>>,
    pub ci: Option<Vec<String>>,
}

impl Root {
    /// Reads a checkout. What can't be read counts as missing; links out of it are not followed.
    pub fn read(root: &Path) -> Self {
        let mut it = Self::default();
        it.list(root, "");
        for folder in FOLDERS {
            it.list(root, &format!("{folder}/"));
        }
        let wanted: Vec<String> = it.names.iter().filter(|n| is_read(n)).cloned().collect();
        for name in wanted {
            if let Some(text) = text(&root.join(&name)) {
                it.texts.insert(name, text);
            }
        }
        it
    }

    /// The same from names and a reader of the few files that matter.
    pub fn of(names: impl Iterator<Item = String>, read: impl Fn(&str) -> Option<String>) -> Self {
        let listed = |name: &String| !name.contains('/') || FOLDERS.iter().any(|f| direct(name, f));
        let names: BTreeSet<String> = names.filter(listed).collect();
        let texts = names.iter().filter(|n| is_read(n)).filter_map(|n| Some((n.clone(), read(n)?))).collect();
        Self { names, texts }
    }

    fn list(&mut self, root: &Path, below: &str) {
        let Ok(entries) = std::fs::read_dir(root.join(below)) else { return };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if entry.path().is_file() {
                self.names.insert(format!("{below}{name}"));
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    fn text(&self, name: &str) -> &str {
        self.texts.get(name).map_or("", String::as_str)
    }

    fn toml(&self, name: &str) -> toml::Table {
        self.text(name).parse().unwrap_or_default()
    }

    /// The first of these that exists.
    fn first<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().find(|n| self.has(n)).copied()
    }
}

/// Whether a file is directly in that folder.
fn direct(name: &str, folder: &str) -> bool {
    name.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')).is_some_and(|rest| !rest.contains('/'))
}

fn text(path: &Path) -> Option<String> {
    use std::io::Read;
    // A link may lead anywhere, a pipe may never end.
    let meta = std::fs::symlink_metadata(path).ok().filter(|m| m.is_file() && m.len() <= MAX_FILE)?;
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(meta.len()).read_to_string(&mut text).ok()?;
    Some(text)
}

fn is_read(name: &str) -> bool {
    let named = [
        "Cargo.toml",
        "package.json",
        "pyproject.toml",
        "Pipfile",
        "setup.cfg",
        "tox.ini",
        "justfile",
        "Justfile",
        ".justfile",
        "GNUmakefile",
        "makefile",
        "Makefile",
    ];
    named.contains(&name) || is_requirements(name)
}

/// `requirements.txt`, `requirements-dev.txt`, `dev-requirements.txt`, `requirements/test.txt`.
fn is_requirements(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".txt") else { return false };
    stem.starts_with("requirements") || stem.ends_with("-requirements") || stem.ends_with("_requirements")
}

/// One language's share.
struct Part {
    setup: Option<String>,
    ci: Option<String>,
}

/// Setup and CI for what is there. A script of the project's own is first, then `just test` and `make test`, then each
/// language's usual command, one after the other where there are several; a language's setup stays in each case.
pub fn propose(root: &Root) -> Proposal {
    let parts: Vec<Part> = [rust(root), node(root), python(root), go(root), jvm(root)].into_iter().flatten().collect();
    let own = SCRIPTS.iter().find(|s| root.has(s)).map(|s| format!("./{s}"));
    let own = own.or_else(|| just(root)).or_else(|| make(root));
    let several = |pick: fn(&Part) -> Option<&String>| parts.iter().filter_map(pick).cloned().collect::<Vec<_>>();
    let (setup, ci) = match own {
        Some(own) => (several(|p| p.setup.as_ref()), vec![own]),
        // A setup that no command needs is left out.
        None => (several(|p| p.ci.as_ref().and(p.setup.as_ref())), several(|p| p.ci.as_ref())),
    };
    Proposal { setup: argv(&setup), ci: argv(&ci) }
}

/// One plain command as its words, anything else as one shell that stops at the first failure.
fn argv(commands: &[String]) -> Option<Vec<String>> {
    match commands {
        [] => None,
        [one] if !one.contains(['&', '\'', '"', ';', '|', '$', '*']) => {
            Some(one.split(' ').map(str::to_owned).collect())
        }
        [one] => Some(vec!["sh".to_owned(), "-ec".to_owned(), one.clone()]),
        // `sh -e` ignores a failed `a` of `a && b` if another command follows.
        all => Some(vec!["sh".to_owned(), "-ec".to_owned(), all.join("; ").replace(" && ", "; ")]),
    }
}

fn just(root: &Root) -> Option<String> {
    let file = root.first(&["justfile", "Justfile", ".justfile"])?;
    root.text(file).lines().any(is_just_test).then(|| "just test".to_owned())
}

/// `test:`, `@test ARGS: deps`; not an assignment, nor a line of a recipe's body.
fn is_just_test(line: &str) -> bool {
    let line = line.strip_prefix('@').unwrap_or(line);
    let Some(rest) = line.strip_prefix("test") else { return false };
    match rest.split_once(':') {
        Some((between, after)) => (between.is_empty() || between.starts_with(' ')) && !after.starts_with('='),
        None => false,
    }
}

fn make(root: &Root) -> Option<String> {
    // The order in which make searches for them.
    let file = root.first(&["GNUmakefile", "makefile", "Makefile"])?;
    let is_test = |line: &str| {
        let Some((targets, after)) = line.split_once(':') else { return false };
        let body = line.starts_with(['\t', '#', '.']);
        !body
            && !after.starts_with(['=', ':']) | after.starts_with(": ")
            && targets.split_whitespace().any(|t| t == "test")
    };
    root.text(file).lines().any(is_test).then(|| "make test".to_owned())
}

fn rust(root: &Root) -> Option<Part> {
    if !root.has("Cargo.toml") {
        return None;
    }
    let workspace = if root.toml("Cargo.toml").contains_key("workspace") { " --workspace" } else { "" };
    let locked = if root.has("Cargo.lock") { " --locked" } else { "" };
    Some(Part { setup: None, ci: Some(format!("cargo test{locked}{workspace}")) })
}

fn node(root: &Root) -> Option<Part> {
    if !root.has("package.json") {
        return None;
    }
    let package: Value = serde_json::from_str(root.text("package.json")).unwrap_or(Value::Null);
    let script = |name: &str| package.get("scripts").and_then(|s| s.get(name)).and_then(Value::as_str);
    let locks = [
        ("npm", "package-lock.json", "npm ci"),
        ("npm", "npm-shrinkwrap.json", "npm ci"),
        ("pnpm", "pnpm-lock.yaml", "pnpm install --frozen-lockfile"),
        ("yarn", "yarn.lock", "yarn install --immutable"),
        ("bun", "bun.lock", "bun install --frozen-lockfile"),
        ("bun", "bun.lockb", "bun install --frozen-lockfile"),
    ];
    let lock = locks.iter().find(|(_, file, _)| root.has(file));
    let (tool, setup) = lock.map_or(("npm", "npm install --no-package-lock"), |(tool, _, setup)| (*tool, *setup));
    // The placeholder that `npm init` writes does not count.
    let test = script("test").filter(|t| !t.trim().is_empty() && !t.contains("no test specified"));
    // `bun test` is bun's own runner, not the script.
    let test = test.map(|_| if tool == "bun" { "bun run test".to_owned() } else { format!("{tool} test") });
    let build = script("build").filter(|b| !b.trim().is_empty()).map(|_| format!("{tool} run build"));
    let ci: Vec<String> = build.into_iter().chain(test).collect();
    Some(Part { setup: Some(setup.to_owned()), ci: (!ci.is_empty()).then(|| ci.join(" && ")) })
}

fn go(root: &Root) -> Option<Part> {
    root.has("go.mod").then(|| Part { setup: None, ci: Some("go test ./...".to_owned()) })
}

fn jvm(root: &Root) -> Option<Part> {
    let ci = if root.has("pom.xml") {
        if root.has("mvnw") { "./mvnw -B -q verify" } else { "mvn -B -q verify" }
    } else {
        root.first(&["build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts"])?;
        if root.has("gradlew") { "./gradlew check" } else { "gradle check" }
    };
    Some(Part { setup: None, ci: Some(ci.to_owned()) })
}

fn python(root: &Root) -> Option<Part> {
    let project = root.toml("pyproject.toml");
    let declared = root.has("pyproject.toml") || root.has("setup.py") || root.has("setup.cfg");
    let tests = has_tests(root);
    // How to start a program of the environment, what creates the environment, whether pytest is in it.
    let (run, setup, pytest) = if root.has("uv.lock") {
        ("uv run ", Some("uv sync --frozen".to_owned()), declares(&project))
    } else if root.has("poetry.lock") {
        ("poetry run ", Some("poetry install --no-interaction".to_owned()), declares(&project))
    } else if root.has("Pipfile.lock") || root.has("Pipfile") {
        let sync = if root.has("Pipfile.lock") { "pipenv sync --dev" } else { "pipenv install --dev" };
        ("pipenv run ", Some(sync.to_owned()), declares(&root.toml("Pipfile")))
    } else {
        let (wanted, pytest) = pip(root, &project, declared);
        match wanted {
            Some(wanted) => {
                (".venv/bin/", Some(format!("python3 -m venv .venv && .venv/bin/pip install {wanted}")), pytest)
            }
            None => ("", None, false),
        }
    };
    let ci = match (pytest, &tests) {
        (true, _) => Some(format!("{run}pytest")),
        (false, Some(folder)) => {
            let python = if run.ends_with('/') { "python" } else { "python3" };
            Some(format!("{run}{python} -m unittest discover{folder}"))
        }
        (false, None) => None,
    };
    if setup.is_none() && ci.is_none() {
        return None;
    }
    Some(Part { setup, ci })
}

/// What pip should install, and whether pytest is in it.
fn pip(root: &Root, project: &toml::Table, declared: bool) -> (Option<String>, bool) {
    let lists: Vec<&String> = root.names.iter().filter(|n| is_requirements(n)).collect();
    let in_list = |name: &&&String| root.text(name).lines().any(is_pytest);
    if !lists.is_empty() {
        // The main one, and the one with the test tools.
        let main = ["requirements.txt", "requirements/base.txt"].iter().find(|n| root.has(n)).map(|n| (*n).to_owned());
        let tools = lists.iter().find(in_list).map(|n| (**n).clone());
        let pytest = tools.is_some();
        let chosen: BTreeSet<String> = main.into_iter().chain(tools).collect();
        let chosen = if chosen.is_empty() { lists.into_iter().take(1).cloned().collect() } else { chosen };
        let words: Vec<String> = chosen.iter().map(|n| format!("-r {n}")).collect();
        return (Some(words.join(" ")), pytest);
    }
    if !declared {
        return (None, false);
    }
    let has_project = project.contains_key("project") || root.has("setup.py") || root.has("setup.cfg");
    if let Some(extra) = extra_with_pytest(project) {
        return (Some(format!("-e '.[{extra}]'")), true);
    }
    let own = if has_project { "-e ." } else { "" };
    if let Some(group) = group_with_pytest(project) {
        return (Some(format!("{own} --group {group}").trim().to_owned()), true);
    }
    (has_project.then(|| own.to_owned()), declares(project))
}

fn strings(value: Option<&toml::Value>) -> impl Iterator<Item = &str> {
    value.and_then(toml::Value::as_array).into_iter().flatten().filter_map(toml::Value::as_str)
}

fn table<'t>(of: &'t toml::Table, path: &[&str]) -> Option<&'t toml::Table> {
    path.iter().try_fold(of, |at, key| at.get(*key)?.as_table())
}

fn extra_with_pytest(project: &toml::Table) -> Option<&str> {
    let extras = table(project, &["project", "optional-dependencies"])?;
    extras.iter().find(|(_, list)| strings(Some(list)).any(is_pytest)).map(|(name, _)| name.as_str())
}

fn group_with_pytest(project: &toml::Table) -> Option<&str> {
    let groups = table(project, &["dependency-groups"])?;
    groups.iter().find(|(_, list)| strings(Some(list)).any(is_pytest)).map(|(name, _)| name.as_str())
}

/// Whether a `pyproject.toml` or a `Pipfile` requires pytest, in any of the possible ways.
fn declares(project: &toml::Table) -> bool {
    let lists = [table(project, &["project"]).and_then(|p| p.get("dependencies"))];
    let uv = table(project, &["tool", "uv"]).and_then(|uv| uv.get("dev-dependencies"));
    let listed = lists.into_iter().chain([uv]).any(|list| strings(list).any(is_pytest));
    let mut tables = vec![
        table(project, &["tool", "poetry", "dependencies"]),
        table(project, &["tool", "poetry", "dev-dependencies"]),
        table(project, &["packages"]),
        table(project, &["dev-packages"]),
    ];
    let groups = table(project, &["tool", "poetry", "group"]);
    tables.extend(groups.into_iter().flat_map(|g| g.values()).map(|g| g.get("dependencies")?.as_table()));
    let keyed = tables.into_iter().flatten().any(|t| t.keys().any(|k| is_pytest(k)));
    listed || keyed || extra_with_pytest(project).is_some() || group_with_pytest(project).is_some()
}

/// A requirement's line that is pytest itself: not `pytest-cov`, not a comment.
fn is_pytest(line: &str) -> bool {
    let line = line.split('#').next().unwrap_or_default().trim().to_ascii_lowercase();
    let end = line.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c)).unwrap_or(line.len());
    line.get(..end) == Some("pytest")
}

/// Where unittest finds `test*.py`: further words of its call.
fn has_tests(root: &Root) -> Option<&'static str> {
    let test = |name: &str| name.starts_with("test") && name.ends_with(".py");
    let within = |folder: &str| root.names.iter().any(|n| n.strip_prefix(folder).is_some_and(test));
    for (folder, package, words) in
        [("tests/", "tests/__init__.py", " -s tests"), ("test/", "test/__init__.py", " -s test")]
    {
        // A package is found from the root, a plain folder is not.
        if within(folder) {
            return Some(if root.has(package) { "" } else { words });
        }
    }
    root.names.iter().any(|n| !n.contains('/') && test(n)).then_some("")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root with these files; a name without a text merely exists.
    fn root(files: &[(&str, &str)]) -> Root {
        let mut it = Root::default();
        for (name, text) in files {
            it.names.insert((*name).to_owned());
            it.texts.insert((*name).to_owned(), (*text).to_owned());
        }
        it
    }

    fn shown(argv: Option<&Vec<String>>) -> String {
        argv.map_or_else(|| "-".to_owned(), |words| words.join(" "))
    }

    #[track_caller]
    fn is(files: &[(&str, &str)], setup: &str, ci: &str) {
        let found = propose(&root(files));
        let both = (shown(found.setup.as_ref()), shown(found.ci.as_ref()));
        assert_eq!(both, (setup.to_owned(), ci.to_owned()), "{files:?}");
    }

    #[test]
    fn rust_by_lock_and_workspace() {
        let (package, workspace) = ("[package]\nname = \"x\"\n", "[workspace] # all\nmembers = [\"a\"]\n");
        is(&[("Cargo.toml", package), ("Cargo.lock", "")], "-", "cargo test --locked");
        is(&[("Cargo.toml", package)], "-", "cargo test");
        is(&[("Cargo.toml", workspace), ("Cargo.lock", "")], "-", "cargo test --locked --workspace");
        is(&[("Cargo.toml", "[workspace.package]\n")], "-", "cargo test --workspace");
        is(&[("Cargo.toml", "# [workspace]\n[package]\n")], "-", "cargo test");
    }

    #[test]
    fn node_by_lock_build_then_test() {
        let test = r#"{"scripts": {"test": "jest"}}"#;
        for (lock, setup, ci) in [
            ("package-lock.json", "npm ci", "npm test"),
            ("npm-shrinkwrap.json", "npm ci", "npm test"),
            ("pnpm-lock.yaml", "pnpm install --frozen-lockfile", "pnpm test"),
            ("yarn.lock", "yarn install --immutable", "yarn test"),
            ("bun.lock", "bun install --frozen-lockfile", "bun run test"),
            ("bun.lockb", "bun install --frozen-lockfile", "bun run test"),
            ("README.md", "npm install --no-package-lock", "npm test"),
        ] {
            is(&[("package.json", test), (lock, "")], setup, ci);
        }
        let lock = ("package-lock.json", "");
        let both = r#"{"scripts": {"test": "jest", "build": "tsc"}}"#;
        is(&[("package.json", both), lock], "npm ci", "sh -ec npm run build && npm test");
        let none = r#"{"scripts": {"test": "echo \"Error: no test specified\" && exit 1"}}"#;
        is(&[("package.json", none), lock], "-", "-");
        let build = r#"{"scripts": {"build": "tsc", "test": "echo \"Error: no test specified\" && exit 1"}}"#;
        is(&[("package.json", build), lock], "npm ci", "npm run build");
        is(&[("package.json", "{}"), lock], "-", "-");
        is(&[("package.json", "no json"), lock], "-", "-");
    }

    #[test]
    fn python_by_lock_and_pytest_only_where_it_is_declared() {
        let group = ("pyproject.toml", "[project]\nname = \"x\"\n[dependency-groups]\ndev = [\"pytest>=8\"]\n");
        let plain = ("pyproject.toml", "[project] # main\nname = \"x\"\n[tool.pytest.ini_options]\n");
        let (test, lib) = (("tests/test_x.py", ""), ("x.py", ""));
        is(&[group, ("uv.lock", "")], "uv sync --frozen", "uv run pytest");
        is(&[plain, ("uv.lock", ""), test], "uv sync --frozen", "uv run python3 -m unittest discover -s tests");
        is(&[plain, ("uv.lock", "")], "-", "-");
        let poetry = ("pyproject.toml", "[tool.poetry.group.test.dependencies]\npytest = \"^8\"\n");
        is(&[poetry, ("poetry.lock", "")], "poetry install --no-interaction", "poetry run pytest");
        let pipfile = ("Pipfile", "[dev-packages]\npytest = \"*\"\n");
        is(&[pipfile, ("Pipfile.lock", "")], "pipenv sync --dev", "pipenv run pytest");
        let venv = |what: &str| format!("sh -ec python3 -m venv .venv && .venv/bin/pip install {what}");
        let flask = ("requirements.txt", "flask==3\n# pytest\npytest-cov\n");
        is(&[flask, test], &venv("-r requirements.txt"), ".venv/bin/python -m unittest discover -s tests");
        is(
            &[flask, test, ("tests/__init__.py", "")],
            &venv("-r requirements.txt"),
            ".venv/bin/python -m unittest discover",
        );
        is(&[flask, lib], "-", "-");
        is(&[("requirements.txt", "PyTest==8 # tests\n")], &venv("-r requirements.txt"), ".venv/bin/pytest");
        is(
            &[flask, ("requirements-dev.txt", "pytest\n")],
            &venv("-r requirements-dev.txt -r requirements.txt"),
            ".venv/bin/pytest",
        );
        is(
            &[("requirements/base.txt", "flask\n"), ("requirements/test.txt", "pytest[x]\n")],
            &venv("-r requirements/base.txt -r requirements/test.txt"),
            ".venv/bin/pytest",
        );
        let extra =
            ("pyproject.toml", "[project]\nname = \"x\"\n[project.optional-dependencies]\ntest = [\"pytest\"]\n");
        is(&[extra], &venv("-e '.[test]'"), ".venv/bin/pytest");
        is(&[group], &venv("-e . --group dev"), ".venv/bin/pytest");
        is(&[plain, test], &venv("-e ."), ".venv/bin/python -m unittest discover -s tests");
        is(&[("setup.py", ""), ("test_x.py", "")], &venv("-e ."), ".venv/bin/python -m unittest discover");
        is(&[("test_x.py", "")], "-", "python3 -m unittest discover");
        is(&[("pyproject.toml", "[tool.black]\n"), lib], "-", "-");
    }

    #[test]
    fn go_and_the_jvm() {
        is(&[("go.mod", "")], "-", "go test ./...");
        is(&[("pom.xml", "")], "-", "mvn -B -q verify");
        is(&[("pom.xml", ""), ("mvnw", "")], "-", "./mvnw -B -q verify");
        is(&[("build.gradle.kts", ""), ("gradlew", "")], "-", "./gradlew check");
        is(&[("settings.gradle", "")], "-", "gradle check");
    }

    #[test]
    fn a_projects_own_command_comes_first_and_setup_stays() {
        let node = ("package.json", r#"{"scripts": {"test": "jest"}}"#);
        let lock = ("package-lock.json", "");
        is(&[node, lock, ("Makefile", "build:\n\ttest: x\ntest: build\n")], "npm ci", "make test");
        is(&[node, lock, ("Makefile", "lint test:\n")], "npm ci", "make test");
        is(&[node, lock, ("Makefile", "test := x\n.PHONY: test\n#test:\nlatest:\n")], "npm ci", "npm test");
        is(&[node, lock, ("GNUmakefile", "all:\n"), ("Makefile", "test:\n")], "npm ci", "npm test");
        is(&[node, lock, ("justfile", "test *ARGS:\n    jest\n"), ("Makefile", "test:\n")], "npm ci", "just test");
        is(&[node, lock, ("justfile", "tests:\ntest := 'x'\nalias t := test\n")], "npm ci", "npm test");
        is(&[node, lock, ("ci.sh", ""), ("justfile", "test:\n")], "npm ci", "./ci.sh");
        is(&[("scripts/check", "")], "-", "./scripts/check");
    }

    #[test]
    fn several_languages_run_one_after_the_other() {
        let node = ("package.json", r#"{"scripts": {"build": "tsc", "test": "jest"}}"#);
        is(
            &[node, ("package-lock.json", ""), ("Cargo.toml", "[package]\n"), ("Cargo.lock", "")],
            "npm ci",
            "sh -ec cargo test --locked; npm run build; npm test",
        );
        is(
            &[node, ("pnpm-lock.yaml", ""), ("requirements.txt", "pytest\n"), ("go.mod", "")],
            "sh -ec pnpm install --frozen-lockfile; python3 -m venv .venv; .venv/bin/pip install -r requirements.txt",
            "sh -ec pnpm run build; pnpm test; .venv/bin/pytest; go test ./...",
        );
        // A language without tests is not set up next to one that has them.
        is(&[("package.json", "{}"), ("go.mod", "")], "-", "go test ./...");
    }

    #[test]
    fn nothing_is_proposed_for_nothing() {
        is(&[], "-", "-");
        is(&[("README.md", "make test"), ("index.html", "")], "-", "-");
    }

    #[test]
    fn a_checkout_is_read_and_its_links_are_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tests")).unwrap();
        std::fs::write(dir.path().join("tests/test_x.py"), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("requirements.txt")).unwrap();
        let found = Root::read(dir.path());
        assert!(found.has("tests/test_x.py") && found.text("requirements.txt").is_empty());
        assert!(propose(&Root::read(Path::new("/nonexistent"))) == Proposal::default());
    }
}
