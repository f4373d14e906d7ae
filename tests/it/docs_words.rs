//! Reads and enforces `docs/style.md`, the list of retired words (DSK-4).

use crate::support::source::{blank, product_files, without_tests};
use std::collections::BTreeSet;
use std::path::Path;

/// Pages generated from the help texts and field comments of `src`: only entries of scope `everywhere` are checked
/// there.
const GENERATED: [&str; 3] = ["docs/cli.md", "docs/configuration.md", "docs/state-machine.md"];

/// A row of the table of retired words.
struct Entry {
    /// One list of alternatives for each word, in lower case.
    pattern: Vec<Vec<String>>,
    instead: String,
    /// In lower case, one space between words.
    allowed: Vec<Vec<String>>,
    everywhere: bool,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn style() -> String {
    std::fs::read_to_string(root().join("docs/style.md")).unwrap()
}

/// The rows of the table below a heading, split into cells; the first two lines are its header.
fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let lines = section.lines().filter(|l| l.starts_with('|')).skip(2);
    lines.map(|l| l.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect()).collect()
}

fn words_of(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_lowercase).collect()
}

fn entries(page: &str) -> Vec<Entry> {
    let entry = |cells: Vec<String>| {
        let [pattern, instead, allowed, scope] = cells.try_into().expect("four cells a row");
        assert!(scope == "docs" || scope == "everywhere", "{pattern}: no scope {scope}");
        assert!(!pattern.is_empty() && !instead.is_empty(), "{pattern}: {instead}");
        let alternatives = |w: &str| w.to_lowercase().split('/').map(str::to_owned).collect();
        Entry {
            pattern: pattern.split_whitespace().map(alternatives).collect(),
            instead,
            allowed: allowed.split(';').map(words_of).filter(|a| !a.is_empty()).collect(),
            everywhere: scope == "everywhere",
        }
    };
    rows(page, "Words that are retired").into_iter().map(entry).collect()
}

/// A word and the line it is on. Letters, digits, `_`, `-` and `'` make a word; anything else ends it, and a sign
/// between two words other than white space keeps them from being neighbours.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut all = Vec::new();
    let mut word = String::new();
    let mut line = 1;
    for c in text.chars().chain([' ']) {
        if c.is_alphanumeric() || matches!(c, '_' | '-' | '\'') {
            word.extend(c.to_lowercase());
            continue;
        }
        if !word.is_empty() {
            all.push((line, std::mem::take(&mut word)));
        }
        if !c.is_whitespace() && c != '*' {
            all.push((line, c.to_string()));
        }
        line += usize::from(c == '\n');
    }
    all
}

/// Where the text uses the entry: line and words.
fn uses(entry: &Entry, text: &str) -> Vec<(usize, String)> {
    let all = words(text);
    let is = |at: usize, phrase: &[String]| {
        phrase.iter().enumerate().all(|(n, w)| all.get(at + n).is_some_and(|(_, found)| found == w))
    };
    let mut allowed = BTreeSet::new();
    for at in 0..all.len() {
        for phrase in entry.allowed.iter().filter(|p| is(at, p)) {
            allowed.extend(at..at + phrase.len());
        }
    }
    let hit = |at: &usize| {
        let matches = |(n, set): (usize, &Vec<String>)| all.get(at + n).is_some_and(|(_, w)| set.contains(w));
        !allowed.contains(at) && entry.pattern.iter().enumerate().all(matches)
    };
    let shown = |at: usize| {
        let near = all.iter().skip(at.saturating_sub(3)).take(entry.pattern.len() + 6);
        near.map(|(_, w)| w.as_str()).collect::<Vec<_>>().join(" ")
    };
    (0..all.len()).filter(hit).map(|at| (all[at].0, shown(at))).collect()
}

/// Markdown without code blocks, inline code and link targets; lines stay.
fn prose(markdown: &str) -> String {
    let mut out = String::new();
    let mut fenced = false;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            for (n, part) in line.split('`').enumerate() {
                out.push_str(if n % 2 == 0 { part } else { "`" });
            }
        }
        out.push('\n');
    }
    let mut plain = String::new();
    let mut rest = out.as_str();
    while let Some((before, after)) = rest.split_once("](") {
        plain.push_str(before);
        rest = after.split_once(')').map_or("", |(_, r)| r);
    }
    plain + rest
}

fn markdown(folder: &str, all: &mut Vec<String>) {
    for entry in std::fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{folder}/{}", entry.file_name().into_string().unwrap());
        if entry.path().is_dir() {
            markdown(&name, all);
        } else if name.ends_with(".md") {
            all.push(name);
        }
    }
}

#[test]
fn retired_words_are_not_used_in_documents() {
    let style = style();
    let entries = entries(&style);
    let outside: Vec<String> = rows(&style, "Outside the test").into_iter().map(|r| r[0].clone()).collect();
    let mut pages = vec!["README.md".to_owned()];
    markdown("docs", &mut pages);
    markdown("agents", &mut pages);
    markdown("src", &mut pages);
    for name in &outside {
        assert!(pages.contains(name), "docs/style.md leaves out {name}, which does not exist");
    }
    let mut faults = Vec::new();
    for name in pages.iter().filter(|n| *n != "docs/style.md" && !outside.contains(n)) {
        let text = prose(&std::fs::read_to_string(root().join(name)).unwrap());
        let generated = GENERATED.contains(&name.as_str());
        for entry in entries.iter().filter(|e| e.everywhere || !generated) {
            for (line, found) in uses(entry, &text) {
                faults.push(format!("{name}:{line}: …{found}… → {}", entry.instead));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn words_that_are_retired_everywhere_are_not_used_in_the_strings_of_src() {
    let style = style();
    let entries: Vec<Entry> = entries(&style).into_iter().filter(|e| e.everywhere).collect();
    assert!(!entries.is_empty());
    let mut faults = Vec::new();
    for path in product_files() {
        let (code, strings) = blank(&std::fs::read_to_string(&path).unwrap());
        let (_, cut) = without_tests(&code);
        let name = path.strip_prefix(root()).unwrap().display();
        for (line, text) in strings.iter().filter(|(line, _)| !cut.iter().any(|c| c.contains(line))) {
            for entry in &entries {
                for (_, found) in uses(entry, text) {
                    faults.push(format!("{name}:{line}: …{found}… → {}", entry.instead));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_retired_word_is_found_and_an_allowed_phrase_is_not() {
    let page = "\n## Words that are retired\n\n| pattern | instead | allowed | scope |\n| --- | --- | --- | --- |\n\
                | stand/stands | be | stand-alone; stands for | docs |\n| go/goes on | continue | | everywhere |\n";
    let entries = entries(page);
    let found = |n: usize, text: &str| uses(&entries[n], &prose(text)).len();
    assert_eq!(found(0, "It Stands there.\nA stand-alone one, which stands for all."), 1);
    assert_eq!(found(0, "`stands` and [here](stands.md)\n```\nstands\n```\nunderstands"), 0);
    assert_eq!(found(1, "It goes\non, and *goes on*; goes, on; go on"), 3);
    assert_eq!(uses(&entries[1], "a\nb\nit goes on").first().unwrap().0, 3);
    assert!(entries[1].everywhere && !entries[0].everywhere);
}
