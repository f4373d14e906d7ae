//! What Python files pin: requirements with their includes, `pyproject.toml` in its dialects, lock files. Pure.

use super::manifests::Python;
use std::collections::BTreeSet;

/// What a file asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pins {
    /// Canonical name and version.
    pub pinned: BTreeSet<(String, String)>,
    /// Requirements that can't be looked up, as written.
    pub unpinned: BTreeSet<String>,
    /// Further files to read, as named.
    pub includes: BTreeSet<String>,
}

impl Pins {
    pub fn is_empty(&self) -> bool {
        self.pinned.is_empty() && self.unpinned.is_empty() && self.includes.is_empty()
    }

    /// One requirement specifier, such as `a[x]==1.2 ; python_version < '3'`.
    fn specifier(&mut self, text: &str) {
        let bare = text.split(';').next().unwrap_or_default().trim();
        if bare.is_empty() {
            return;
        }
        match pin(bare) {
            Some(found) => {
                self.pinned.insert(found);
            }
            None => self.open(bare),
        }
    }

    fn open(&mut self, text: &str) {
        self.unpinned.insert(text.chars().filter(|c| !c.is_control()).take(60).collect());
    }
}

/// Parses a file of this format.
pub(super) fn pins(form: Python, text: &str) -> Result<Pins, String> {
    let text = text.trim_start_matches('\u{feff}');
    match form {
        Python::Requirements => Ok(requirements(text)),
        Python::Pyproject => pyproject(text),
        Python::TomlLock => toml_lock(text),
        Python::PipfileLock => pipfile_lock(text),
    }
}

/// Canonical name of a specifier, without its version.
pub(super) fn name_of(specifier: &str) -> String {
    let end = specifier.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')));
    canonical(specifier.get(..end.unwrap_or(specifier.len())).unwrap_or_default())
}

fn canonical(name: &str) -> String {
    let mut out = String::new();
    for c in name.to_ascii_lowercase().chars() {
        let dash = matches!(c, '-' | '_' | '.');
        if !dash {
            out.push(c);
        } else if !out.ends_with('-') {
            out.push('-');
        }
    }
    out
}

/// `name[extra]==1.2` as canonical name and version.
fn pin(bare: &str) -> Option<(String, String)> {
    let (name, version) = bare.split_once("==")?;
    let version = version.trim_start_matches('=').trim();
    let name = name.split('[').next()?.trim_end_matches('(').trim();
    version_pin(name, version.trim_end_matches(')').trim())
}

fn version_pin(name: &str, version: &str) -> Option<(String, String)> {
    let good = |text: &str, more: &str| {
        !text.is_empty() && text.len() <= 120 && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let starts = |text: &str| text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let fine = good(name, "-_.") && good(version, ".+!-_") && starts(name) && starts(version);
    fine.then(|| (canonical(name), version.to_owned()))
}

/// Comments, hashes and line continuations are removed, the branch's options dropped, includes kept.
fn requirements(content: &str) -> Pins {
    let joined = content.replace("\\\r\n", " ").replace("\\\n", " ");
    let mut pins = Pins::default();
    for line in joined.lines() {
        let line = if line.trim_start().starts_with('#') { "" } else { line.split(" #").next().unwrap_or_default() };
        let line = line.split("\t#").next().unwrap_or_default().trim();
        let option = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| line.strip_prefix(name))
                .map(|rest| rest.trim_start_matches(['=', ' ', '\t']).trim())
        };
        if let Some(file) = option(&["--requirement", "--constraint", "-r", "-c"]) {
            pins.includes.insert(file.trim_matches(['"', '\'']).to_owned());
        } else if option(&["--editable", "-e"]).is_some() {
            pins.open(line);
        } else if !line.starts_with('-') {
            pins.specifier(line.split(" --").next().unwrap_or_default());
        }
    }
    pins
}

/// PEP 621, PEP 735, Poetry, uv, PDM, Hatch.
fn pyproject(text: &str) -> Result<Pins, String> {
    let doc = table(text)?;
    let mut pins = Pins::default();
    let mut array = |value: Option<&toml::Value>| {
        for entry in value.and_then(toml::Value::as_array).into_iter().flatten().filter_map(toml::Value::as_str) {
            pins.specifier(entry);
        }
    };
    array(at(&doc, &["project", "dependencies"]));
    for path in
        [&["project", "optional-dependencies"][..], &["dependency-groups"], &["tool", "pdm", "dev-dependencies"]]
    {
        tables(&doc, path).for_each(|(_, list)| array(Some(list)));
    }
    array(at(&doc, &["tool", "uv", "dev-dependencies"]));
    for (_, env) in tables(&doc, &["tool", "hatch", "envs"]) {
        array(env.get("dependencies"));
        array(env.get("extra-dependencies"));
    }
    let mut built = Pins::default();
    for entry in at(&doc, &["build-system", "requires"]).and_then(toml::Value::as_array).into_iter().flatten() {
        built.specifier(entry.as_str().unwrap_or_default());
    }
    // Build requirements are rarely pinned and not part of the package: only pinned ones are looked up.
    pins.pinned.extend(built.pinned);
    for path in [&["tool", "poetry", "dependencies"][..], &["tool", "poetry", "dev-dependencies"]] {
        tables(&doc, path).for_each(|(name, value)| poetry(&mut pins, name, value));
    }
    for (_, group) in tables(&doc, &["tool", "poetry", "group"]) {
        for (name, value) in group.get("dependencies").and_then(toml::Value::as_table).into_iter().flatten() {
            poetry(&mut pins, name, value);
        }
    }
    dynamic(&doc, &mut pins);
    Ok(pins)
}

/// A Poetry dependency: `1.23` and `==1.23` are pins, anything else is a range or a source.
fn poetry(pins: &mut Pins, name: &str, value: &toml::Value) {
    if name.eq_ignore_ascii_case("python") {
        return;
    }
    if let Some(several) = value.as_array() {
        several.iter().for_each(|one| poetry(pins, name, one));
        return;
    }
    let version = value.as_str().or_else(|| value.get("version").and_then(toml::Value::as_str)).unwrap_or_default();
    let bare = version.trim().trim_start_matches('=').trim();
    match version_pin(name, bare).filter(|(_, v)| v.starts_with(|c: char| c.is_ascii_digit())) {
        Some(found) => {
            pins.pinned.insert(found);
        }
        None => pins.open(&format!("{name} {version}")),
    }
}

/// `dynamic = ["dependencies"]`: setuptools reads files, other backends compute them.
fn dynamic(doc: &toml::Table, pins: &mut Pins) {
    let listed = at(doc, &["project", "dynamic"]).and_then(toml::Value::as_array).into_iter().flatten();
    for name in
        listed.filter_map(toml::Value::as_str).filter(|n| matches!(*n, "dependencies" | "optional-dependencies"))
    {
        let mut files = Vec::new();
        if let Some(from) = at(doc, &["tool", "setuptools", "dynamic", name]) {
            files_of(from, &mut files);
        }
        if files.is_empty() {
            pins.open(&format!("dynamic {name}"));
        }
        pins.includes.extend(files);
    }
}

fn files_of(value: &toml::Value, files: &mut Vec<String>) {
    match value.get("file") {
        Some(toml::Value::String(file)) => files.push(file.clone()),
        Some(toml::Value::Array(list)) => files.extend(list.iter().filter_map(|f| f.as_str().map(str::to_owned))),
        Some(_) | None => {
            for (_, inner) in value.as_table().into_iter().flatten() {
                files_of(inner, files);
            }
        }
    }
}

/// `[[package]]` (or `[[packages]]`) with name, version and source.
fn toml_lock(text: &str) -> Result<Pins, String> {
    let doc = table(text)?;
    let list = ["package", "packages"].iter().find_map(|name| doc.get(*name)).and_then(toml::Value::as_array);
    let mut pins = Pins::default();
    for package in list.into_iter().flatten() {
        let field = |name: &str| package.get(name).and_then(toml::Value::as_str).unwrap_or_default();
        let source = package.get("source");
        let has =
            |names: &[&str]| names.iter().any(|n| source.and_then(|s| s.get(n)).is_some() || package.get(n).is_some());
        // The project itself and its members.
        if has(&["virtual", "editable", "directory"]) {
            continue;
        }
        let kind = source.and_then(|s| s.get("type")).and_then(toml::Value::as_str).unwrap_or_default();
        // Poetry's word for another index.
        let elsewhere = kind != "legacy" && has(&["git", "url", "path", "vcs", "archive"]);
        match version_pin(field("name"), field("version")).filter(|_| !elsewhere) {
            Some(found) => {
                pins.pinned.insert(found);
            }
            None => pins.open(&format!("{} {}", field("name"), field("version"))),
        }
    }
    Ok(pins)
}

fn pipfile_lock(text: &str) -> Result<Pins, String> {
    let doc: serde_json::Value = serde_json::from_str(text).map_err(|e| format!("it is not JSON: {e}"))?;
    let groups = doc.as_object().ok_or("it is not a JSON object")?;
    let mut pins = Pins::default();
    for (_, group) in groups.iter().filter(|(name, _)| *name != "_meta") {
        for (name, entry) in group.as_object().into_iter().flatten() {
            let version = entry.get("version").and_then(|v| v.as_str()).unwrap_or_default();
            pins.specifier(&format!("{name}{version}"));
        }
    }
    Ok(pins)
}

fn table(text: &str) -> Result<toml::Table, String> {
    toml::from_str(text).map_err(|e| format!("it is not TOML: {}", e.message()))
}

fn at<'t>(table: &'t toml::Table, path: &[&str]) -> Option<&'t toml::Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(table.get(*first)?, |value, name| value.get(*name))
}

fn tables<'t>(table: &'t toml::Table, path: &[&str]) -> impl Iterator<Item = (&'t String, &'t toml::Value)> {
    at(table, path).and_then(toml::Value::as_table).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pinned(list: &[(&str, &str)]) -> BTreeSet<(String, String)> {
        list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn requirements_are_read_and_options_of_the_branch_are_dropped() {
        let pins = requirements(
            "# c\n--index-url http://evil/\nurllib3==1.23 --hash=sha256:aa \\\n  --hash=sha256:bb\nZope.Interface[x]==5.0 ; python_version < '3' # why\nrequests>=2\n-r other.txt\n-cpins.txt\n--requirement=\"a b.txt\"\n-e .\ngit+https://x/y\n",
        );
        assert_eq!(pins.pinned, pinned(&[("urllib3", "1.23"), ("zope-interface", "5.0")]));
        assert_eq!(pins.includes.iter().map(String::as_str).collect::<Vec<_>>(), ["a b.txt", "other.txt", "pins.txt"]);
        assert_eq!(pins.unpinned.len(), 3, "{pins:?}");
    }

    #[test]
    fn a_pin_can_not_smuggle_an_option_or_a_line() {
        for bad in ["a==1 --index-url=x", "a==1\nb", "-a==1", "a==*", "a==1.*", "==1", "a==", "a @ http://x"] {
            assert_eq!(pin(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_pyproject_is_read_in_every_spelling_and_dialect() {
        for text in [
            "[project]\ndependencies = [\"urllib3==1.23\"]",
            "[project] # x\ndependencies = [\n  'urllib3==1.23', # why\n]",
            "project.dependencies = [\"urllib3==1.23\"]",
            "[\"project\"]\n\"dependencies\" = [\"urllib3 == 1.23\"]",
            "project = { dependencies = [\"urllib3==1.23\"] }",
            "[ project ]\ndependencies = [\"\"\"urllib3==1.23\"\"\"]",
            "[project.optional-dependencies]\ndev = [\"urllib3==1.23\"]",
            "[dependency-groups]\ntest = [\"urllib3==1.23\", {include-group = \"x\"}]",
            "[tool.poetry.dependencies]\npython = \"^3.12\"\nurllib3 = \"1.23\"",
            "[tool.poetry.dependencies]\nurllib3 = {version = \"==1.23\", optional = true}",
            "[tool.poetry.dependencies]\nurllib3 = [{version = \"1.23\", python = \"3\"}]",
            "[tool.poetry.dev-dependencies]\nurllib3 = \"=1.23\"",
            "[tool.poetry.group.dev.dependencies]\nurllib3 = \"1.23\"",
            "tool.poetry.group.dev.dependencies.urllib3 = \"1.23\"",
            "[tool.uv]\ndev-dependencies = [\"urllib3==1.23\"]",
            "[tool.pdm.dev-dependencies]\ntest = [\"urllib3==1.23\"]",
            "[tool.hatch.envs.default]\ndependencies = [\"urllib3==1.23\"]",
            "[build-system]\nrequires = [\"setuptools\", \"urllib3==1.23\"]",
        ] {
            let pins = pyproject(text).unwrap();
            assert_eq!((pins.pinned, pins.unpinned), (pinned(&[("urllib3", "1.23")]), BTreeSet::new()), "{text}");
        }
        for (text, open) in [
            ("[tool.poetry.dependencies]\nurllib3 = \"^1.23\"", "urllib3 ^1.23"),
            ("[tool.poetry.dependencies]\nurllib3 = {git = \"https://x\"}", "urllib3 "),
            ("[project]\ndynamic = [\"dependencies\"]", "dynamic dependencies"),
            ("[project]\ndependencies = [\"urllib3\"]", "urllib3"),
        ] {
            let pins = pyproject(text).unwrap();
            assert_eq!(pins.unpinned.into_iter().collect::<Vec<_>>(), [open], "{text}");
        }
        let read = pyproject("[project]\ndynamic = [\"dependencies\"]\n[tool.setuptools.dynamic]\ndependencies = {file = [\"reqs.list\"]}").unwrap();
        assert_eq!(read.includes.into_iter().collect::<Vec<_>>(), ["reqs.list"]);
        assert!(pyproject("[tool.black]\nline-length = 80").unwrap().is_empty());
        assert!(pyproject("[project").is_err());
    }

    #[test]
    fn lock_files_give_what_they_lock() {
        let poetry = "[[package]]\nname = \"urllib3\"\nversion = \"1.23\"\n[package.source]\ntype = \"legacy\"\nurl = \"https://pypi\"\nreference = \"x\"\n";
        let uv = "version = 1\n[[package]]\nname = \"me\"\nversion = \"0.1\"\nsource = { virtual = \".\" }\n[[package]]\nname = \"urllib3\"\nversion = \"1.23\"\nsource = { registry = \"https://pypi.org/simple\" }\n[[package]]\nname = \"far\"\nversion = \"1\"\nsource = { git = \"https://x\" }\n";
        let pipfile = "{\"_meta\": {}, \"default\": {\"urllib3\": {\"version\": \"==1.23\"}}, \"develop\": {\"far\": {\"git\": \"x\"}}}";
        assert_eq!(toml_lock(uv).unwrap().pinned, pinned(&[("urllib3", "1.23")]));
        assert_eq!(toml_lock(uv).unwrap().unpinned.len(), 1);
        assert_eq!(pipfile_lock(pipfile).unwrap().pinned, pinned(&[("urllib3", "1.23")]));
        assert_eq!(pipfile_lock(pipfile).unwrap().unpinned.len(), 1);
        assert_eq!(
            toml_lock("[[package]]\nname=\"urllib3\"\nversion=\"1.23\"").unwrap().pinned,
            pinned(&[("urllib3", "1.23")])
        );
        assert_eq!(toml_lock(poetry).unwrap().pinned, pinned(&[("urllib3", "1.23")]));
        assert_eq!(name_of("Zope.Interface[x]>=1"), "zope-interface");
    }

    proptest! {
        #[test]
        fn any_text_makes_pins_or_is_refused(text in "\\PC{0,200}", lines in proptest::collection::vec("[ -~]{0,40}", 0..8)) {
            let whole = lines.join("\n");
            for t in [&text, &whole] {
                for form in [Python::Requirements, Python::Pyproject, Python::TomlLock, Python::PipfileLock] {
                    let _ = pins(form, t);
                }
            }
        }
    }
}
