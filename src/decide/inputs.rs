//! The one function that lists verdict inputs (BND-5). CI runs the branch's own code, so anything that decides the
//! meaning of its answer is named to whoever judges. It finds mistakes; what it does not know, it does not find.

use super::definitions::{definition, is_lock_file, is_test_path};
use crate::model::inputs::Input;
use crate::model::large::is_pointer;
use crate::model::text::clip;
use std::collections::BTreeSet;

/// A file on one side of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    Absent,
    /// Its text; bytes that are no UTF-8 are replaced.
    Text(String),
    /// Nobody reads it line by line; with the reason: `a binary file`.
    Opaque(String),
}

impl Side {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Absent | Self::Opaque(_) => None,
        }
    }
}

/// A path that differs between base and head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub path: String,
    pub before: Side,
    pub after: Side,
    /// Removed here, and the same content is at a new path of a test.
    pub moved: bool,
}

/// The longest line that a person reads, in bytes.
const LONGEST_LINE: usize = 4096;
/// How far git searches for a NUL byte.
const BINARY_BYTES: usize = 8000;

/// A file's content as one side of a change: what can't be read line by line says so.
pub fn side(bytes: &[u8]) -> Side {
    if is_pointer(bytes) {
        return Side::Opaque("kept in LFS".to_owned());
    }
    if bytes.iter().take(BINARY_BYTES).any(|b| *b == 0) {
        return Side::Opaque("a binary file".to_owned());
    }
    if bytes.split(|b| *b == b'\n').any(|line| line.len() > LONGEST_LINE) {
        return Side::Opaque(format!("minified: a line of more than {LONGEST_LINE} bytes"));
    }
    Side::Text(String::from_utf8_lossy(bytes).into_owned())
}

/// The verdict inputs among what changed, in the order of their paths.
pub fn inputs(changes: &[Change]) -> Vec<Input> {
    let mut found: Vec<Input> = changes
        .iter()
        .filter_map(|change| {
            let why = reasons(change);
            (!why.is_empty()).then(|| Input { path: change.path.clone(), why: why.join("; ") })
        })
        .collect();
    found.sort();
    found
}

fn reasons(change: &Change) -> Vec<String> {
    let Change { path, before, after, moved } = change;
    let mut why = Vec::new();
    if let Some(kind) = definition(path, before.text(), after.text(), [before, after].map(|s| *s == Side::Absent)) {
        why.push(kind);
    }
    if is_lock_file(path) {
        let new = new_hosts(before.text().unwrap_or_default(), after.text().unwrap_or_default());
        why.push(match new.is_empty() {
            true => "lock file".to_owned(),
            false => format!("lock file, with entries from new hosts: {}", listed(&new)),
        });
    }
    why.extend(fewer_tests(change).filter(|_| !moved));
    if let Some(after) = after.text() {
        why.extend(skipped(path, before.text().unwrap_or_default(), after));
        if after.chars().any(|c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')) {
            why.push("its lines are not what they seem: it reverses the direction of text".to_owned());
        }
    }
    if let Side::Opaque(what) = after {
        why.push(format!("its lines can't be read: {what}"));
    }
    why
}

fn listed(all: &BTreeSet<String>) -> String {
    let shown: Vec<String> = all.iter().take(10).map(|host| clip(host, 80)).collect();
    let more = all.len().saturating_sub(shown.len());
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}

/// Hosts that only the later text names.
fn new_hosts(before: &str, after: &str) -> BTreeSet<String> {
    let known = hosts(before);
    hosts(after).into_iter().filter(|host| !known.contains(host)).collect()
}

/// The hosts of all addresses in a text: `scheme://[user@]host[:port]` and `git@host:path`.
fn hosts(text: &str) -> BTreeSet<String> {
    let ends = |c: char| c.is_whitespace() || "/?#\"'`<>(),;]}\\".contains(c);
    let mut found = BTreeSet::new();
    for (at, mark) in text.match_indices("://").chain(text.match_indices("git@")) {
        let rest = text.get(at + mark.len()..).unwrap_or_default();
        let authority = rest.split(ends).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let host = if mark == "git@" { host.split(':').next().unwrap_or_default() } else { host };
        if !host.is_empty() {
            found.insert(host.to_ascii_lowercase());
        }
    }
    found
}

/// What begins a test, by the file's extension.
fn test_marks(path: &str) -> &'static [&'static str] {
    match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("rs") => &[
            "#[test",
            "#[tokio::test",
            "#[async_std::test",
            "#[rstest",
            "#[test_case",
            "#[case",
            "#[wasm_bindgen_test",
        ],
        Some("py") => &["def test", "async def test", "class Test"],
        Some("go") => &["func Test", "func Example", "func Fuzz"],
        Some("js" | "jsx" | "mjs" | "cjs" | "ts" | "tsx" | "mts" | "cts") => {
            &["it(", "it.each", "test(", "test.each", "describe(", "describe.each"]
        }
        Some("java" | "kt" | "kts" | "scala" | "groovy") => {
            &["@Test", "@ParameterizedTest", "@RepeatedTest", "@TestFactory"]
        }
        Some("rb") => &["it \"", "it '", "def test", "test \"", "test '"],
        Some("cs" | "fs" | "vb") => &["[Fact", "[Theory", "[Test", "[DataRow", "<Fact", "<Test"],
        Some("php") => &["public function test", "function test", "#[Test"],
        Some("c" | "cc" | "cpp" | "cxx" | "h" | "hpp") => {
            &["TEST(", "TEST_F(", "TEST_P(", "TEST_CASE(", "BOOST_AUTO_TEST_CASE("]
        }
        Some("ex" | "exs") => &["test \"", "describe \""],
        Some("swift") => &["func test", "@Test"],
        Some("bats") => &["@test"],
        Some(_) | None => &[],
    }
}

fn tests(path: &str, text: &str) -> usize {
    let marks = test_marks(path);
    text.lines().filter(|line| marks.iter().any(|mark| line.trim_start().starts_with(mark))).count()
}

/// Tests that are gone: a whole file of them, or some in a file.
fn fewer_tests(change: &Change) -> Option<String> {
    let before = change.before.text().map_or(0, |text| tests(&change.path, text));
    match &change.after {
        Side::Absent if is_test_path(&change.path) => Some("a test file is deleted".to_owned()),
        Side::Absent if before > 0 => Some(format!("{} deleted", those(before, ""))),
        Side::Text(text) => {
            let after = tests(&change.path, text);
            (after < before).then(|| format!("{} deleted", those(before - after, "")))
        }
        Side::Absent | Side::Opaque(_) => None,
    }
}

/// What makes the runner skip a test, or all others.
const SKIPS: &[&str] = &[
    "#[ignore",
    ", ignore)",
    ", ignore =",
    "pytest.mark.skip",
    "pytest.mark.xfail",
    "pytest.skip(",
    "pytest.importorskip(",
    "unittest.skip",
    "unittest.expectedFailure",
    "self.skipTest(",
    ".Skip(",
    ".SkipNow(",
    ".Skipf(",
    "it.skip",
    "it.only",
    "it.todo",
    "test.skip",
    "test.only",
    "test.todo",
    "test.fixme",
    "describe.skip",
    "describe.only",
    "suite.skip",
    "context.skip",
    "xit(",
    "xtest(",
    "xdescribe(",
    "fit(",
    "fdescribe(",
    "this.skip(",
    "@Disabled",
    "@Ignore",
    "Assumptions.assume",
    "Skip =",
    "[Ignore",
    "markTestSkipped(",
    "markTestIncomplete(",
    "GTEST_SKIP(",
    "@tag :skip",
    "@tag skip",
    "XCTSkip",
    "Skip.If",
];

/// Texts that nobody runs.
const PROSE: &[&str] = &["md", "txt", "rst", "adoc", "org"];

fn skipped(path: &str, before: &str, after: &str) -> Option<String> {
    if path.rsplit_once('.').is_some_and(|(_, ending)| PROSE.contains(&ending)) {
        return None;
    }
    let skips = |line: &&str| SKIPS.iter().any(|mark| holds_word(line, mark));
    let count = |text: &str| text.lines().filter(skips).count();
    let (was, now) = (count(before), count(after));
    let line = after.lines().filter(skips).find(|line| !before.lines().any(|old| old == *line));
    let line = line.or_else(|| after.lines().find(skips)).unwrap_or_default();
    (now > was).then(|| format!("{} skipped: {}", those(now - was, "more "), clip(line.trim(), 80)))
}

/// `1 more test is`, `2 tests are`.
fn those(n: usize, more: &str) -> String {
    if n == 1 { format!("1 {more}test is") } else { format!("{n} {more}tests are") }
}

/// Whether a line contains a mark that is not just the end of a longer word: `exit(` is no `xit(`.
fn holds_word(line: &str, mark: &str) -> bool {
    line.match_indices(mark).any(|(at, _)| {
        let before = line.get(..at).and_then(|head| head.chars().next_back());
        !mark.starts_with(char::is_alphanumeric) || !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
#[path = "inputs_tests.rs"]
mod tests;
