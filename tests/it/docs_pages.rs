//! The pages of `docs/` as a whole: each can be found, each link has a target, each quoted message exists (DSK-5).

use crate::support::source::{blank, product_files, rust_files};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<PathBuf> {
    let mut open = vec![root().join("docs")];
    let mut all = vec![root().join("README.md")];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                all.push(path);
            }
        }
    }
    all.sort();
    all
}

/// Targets of the links of a page, outside code.
fn links(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        if !fenced {
            let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join("_");
            all.extend(plain.split("](").skip(1).filter_map(|t| t.split_once(')')).map(|(t, _)| t.to_owned()));
        }
    }
    all
}

/// The anchors of a page's headings, as forges generate them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut all = BTreeSet::new();
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        if !fenced && line.starts_with('#') {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            all.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
        }
    }
    all
}

/// `docs/spec/../cli.md` as `docs/cli.md`.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

#[test]
fn every_link_leads_to_a_page_and_a_heading() {
    let mut faults = Vec::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let name = page.strip_prefix(root()).unwrap().display();
        for link in links(&text).iter().filter(|l| !l.contains("://") && !l.starts_with("mailto:")) {
            let (file, anchor) = link.split_once('#').map_or((link.as_str(), None), |(f, a)| (f, Some(a)));
            let target = if file.is_empty() { page.clone() } else { normal(&page.parent().unwrap().join(file)) };
            if !target.exists() {
                faults.push(format!("{name}: {link} does not exist"));
            } else if let Some(anchor) = anchor
                && !anchors(&std::fs::read_to_string(&target).unwrap()).contains(anchor)
            {
                faults.push(format!("{name}: {link} is no heading there"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The index names each page; a folder's own index names that folder's pages.
#[test]
fn every_page_is_in_an_index() {
    let index = |path: &Path| -> BTreeSet<PathBuf> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        links(&text).iter().map(|l| normal(&path.parent().unwrap().join(l.split('#').next().unwrap()))).collect()
    };
    let main = root().join("docs/README.md");
    let named = index(&main);
    let mut faults = Vec::new();
    for page in pages().into_iter().filter(|p| p.starts_with(root().join("docs")) && *p != main) {
        let own = page.parent().unwrap().join("README.md");
        if !named.contains(&page) && (own == page || !index(&own).contains(&page)) {
            faults.push(format!("{} is in no index", page.strip_prefix(root()).unwrap().display()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// `docs/troubleshooting.md` quotes messages of the program: each part of one, between its `…`, is a string of `src`.
#[test]
fn every_message_in_docs_troubleshooting_is_one_of_the_program() {
    let page = std::fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let (_, section) = page.split_once("\n## By message\n").unwrap();
    let mut strings = String::new();
    for path in product_files() {
        let (_, found) = blank(&std::fs::read_to_string(path).unwrap());
        for (_, text) in found {
            // A string that continues on the next line counts as one.
            let mut parts = text.split("\\\n");
            strings.push_str(parts.next().unwrap());
            parts.for_each(|p| strings.push_str(p.trim_start()));
            strings.push('\n');
        }
    }
    let mut seen = 0;
    let mut faults = Vec::new();
    for row in section.lines().filter(|l| l.starts_with("| `")) {
        let cell = row.split(" | ").next().unwrap();
        for message in cell.split('`').skip(1).step_by(2) {
            seen += 1;
            let parts = message.split('…').map(str::trim).filter(|p| p.len() > 3);
            faults.extend(parts.filter(|p| !strings.contains(p)).map(|p| format!("{p:?}, of {message:?}")));
        }
    }
    assert!(seen > 20, "{seen}");
    assert!(faults.is_empty(), "no string of src has this any more, correct the page:\n{}", faults.join("\n"));
}

/// The requirement and ruling numbers of a text: `BND-3`, `CLU-3b`.
fn numbers(text: &str) -> BTreeSet<&str> {
    const PREFIXES: [&str; 14] =
        ["RULE", "CLI", "CFG", "PIPE", "RUN", "BRD", "SHIP", "NTF", "TRUST", "BND", "ORD", "DSK", "GH", "CLU"];
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let is = |word: &&str| {
        word.split_once('-').is_some_and(|(prefix, number)| {
            let digits = number.trim_end_matches(|c: char| c.is_ascii_lowercase());
            let plain =
                !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && number.len() <= digits.len() + 1;
            PREFIXES.contains(&prefix) && plain
        })
    };
    words.filter(is).collect()
}

/// The numbers that code, tests and documents refer to exist.
#[test]
fn every_requirement_number_is_in_the_specification() {
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
    let (spec, others): (Vec<PathBuf>, Vec<PathBuf>) =
        pages().into_iter().partition(|p| p.starts_with(root().join("docs/spec")));
    let spec: Vec<String> = spec.into_iter().map(read).collect();
    let known: BTreeSet<&str> = spec.iter().flat_map(|t| numbers(t)).collect();
    assert!(known.len() > 80, "{known:?}");
    let code = ["src", "tests"].into_iter().flat_map(rust_files);
    let mut faults = Vec::new();
    for path in code.chain(others) {
        let text = read(path.clone());
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        faults.extend(numbers(&text).difference(&known).map(|n| format!("{name}: {n} is in no page of docs/spec")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
