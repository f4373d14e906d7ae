//! What a tree that an untrusted run left may contain (BND-5): which names, and where links may lead. Pure: paths are
//! texts, relative, with `/` between their parts.

use super::artefact::FOLDER;
use std::collections::{BTreeMap, BTreeSet};

/// A path that breaks a rule, and the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub path: String,
    pub why: String,
}

impl Broken {
    pub fn new(path: &str, why: impl Into<String>) -> Self {
        Self { path: path.to_owned(), why: why.into() }
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.path.chars().any(char::is_control) {
            write!(f, "{:?} (it {})", self.path, self.why)
        } else {
            write!(f, "{} (it {})", self.path, self.why)
        }
    }
}

/// The form in which two names are the same on some file system: case-folded, composed marks as their parts (HFS+),
/// without what HFS+ ignores.
pub fn fold(path: &str) -> String {
    if path.is_ascii() {
        return path.to_ascii_lowercase();
    }
    let kept: String = path.chars().filter(|c| !ignored_by_hfs(*c)).collect();
    let parts = icu_normalizer::DecomposingNormalizerBorrowed::new_nfd().normalize(&kept).into_owned();
    parts.to_uppercase().to_lowercase()
}

/// Code points that HFS+ drops when it compares names.
fn ignored_by_hfs(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

/// Whether one part of a path is git's own folder on some file system: `.git` in any case, as HFS+ or NTFS spell it.
pub fn is_dot_git(part: &str) -> bool {
    fold(part).split('\\').any(|piece| {
        let piece = piece.split(':').next().unwrap_or_default();
        matches!(piece.trim_end_matches([' ', '.']), ".git" | "git~1")
    })
}

/// Why no run may add this name; `None`: it may.
pub fn name_fault(path: &str) -> Option<&'static str> {
    if path.chars().any(char::is_control) {
        return Some("has a control character in its name");
    }
    if path.split('/').any(is_dot_git) {
        return Some("has a part that is .git on some file systems");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.len() > 4096 {
        return Some("is not a plain path");
    }
    None
}

/// Names of one tree that are the same on some file system, at least one of them new. Folders count as names.
pub fn clashes<'a>(paths: impl Iterator<Item = &'a str>, is_old: impl Fn(&str) -> bool) -> Vec<Broken> {
    let mut seen: BTreeMap<String, &'a str> = BTreeMap::new();
    let mut reported: BTreeSet<&'a str> = BTreeSet::new();
    let mut broken = Vec::new();
    for path in paths {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for name in ends.filter_map(|at| path.get(..at)) {
            let first = seen.entry(fold(name)).or_insert(name);
            if *first != name && !(is_old(first) && is_old(name)) && reported.insert(name) {
                broken.push(Broken::new(name, format!("is the same name as {first:?} on some file systems")));
            }
        }
    }
    broken
}

/// The links of a tree: path → target.
pub type Links = BTreeMap<String, String>;

/// The links of a resulting tree that break a rule in a way in which they did not before: an absolute target, or one
/// that leaves the repository, names `.git`, or leads through another link or into a work item's folder (later stages,
/// which judge no code, may change its documents).
pub fn link_faults(now: &Links, before: &Links) -> Vec<Broken> {
    let (folded_now, folded_before) = (folded(now), folded(before));
    let mut broken = Vec::new();
    for (path, target) in now {
        let Err(fault) = way(path, target, &folded_now) else { continue };
        let same = before.get(path) == Some(target) && way(path, target, &folded_before) == Err(fault.clone());
        if !same {
            broken.push(Broken::new(path, format!("is a link to {target:?}, {}", fault.why)));
        }
    }
    broken
}

/// Folded path → the link's own path and target.
fn folded(links: &Links) -> BTreeMap<String, (&str, &str)> {
    links.iter().map(|(path, target)| (fold(path), (path.as_str(), target.as_str()))).collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct WayFault {
    why: String,
    /// The link on the way, with its target.
    through: Option<(String, String)>,
}

/// Resolves a link's target by the names of the tree alone.
fn way(path: &str, target: &str, links: &BTreeMap<String, (&str, &str)>) -> Result<(), WayFault> {
    let fault = |why: &str| Err(WayFault { why: why.to_owned(), through: None });
    if target.is_empty() || target.chars().any(char::is_control) {
        return fault("which is not a plain path");
    }
    if target.starts_with(['/', '\\']) || target.chars().nth(1) == Some(':') {
        return fault("which is absolute");
    }
    let parts: Vec<&str> = target.split('/').filter(|p| !matches!(*p, "" | ".")).collect();
    let up = parts.iter().take_while(|p| **p == "..").count();
    let down = parts.get(up..).unwrap_or_default();
    if down.contains(&"..") {
        return fault("which leads up again after leading down");
    }
    let mut at: Vec<&str> = path.split('/').collect();
    at.pop();
    if up > at.len() {
        return fault("which leaves the repository");
    }
    if down.iter().any(|p| is_dot_git(p)) {
        return fault("which names .git");
    }
    at.truncate(at.len() - up);
    for part in down {
        at.push(part);
        let name = at.join("/");
        if let Some((link, to)) = links.get(&fold(&name)) {
            let through = Some(((*link).to_owned(), (*to).to_owned()));
            return Err(WayFault { why: format!("which leads through the link {link:?}"), through });
        }
    }
    let end = fold(&at.join("/"));
    if end == FOLDER || end.strip_prefix(FOLDER).is_some_and(|rest| rest.starts_with('/')) {
        return fault("which leads into a work item's folder");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dot_git_is_known_in_every_spelling_that_some_file_system_takes_for_it() {
        let yes = [".git", ".GIT", ".Git", ".git ", ".git.", ".git. .", "git~1", "GIT~1", ".git::$INDEX_ALLOCATION"];
        let hfs = [".g\u{200c}it", "\u{feff}.git", ".gi\u{202e}T", "a\\.git\\config", ".git\\hooks"];
        for part in yes.iter().chain(&hfs) {
            assert!(is_dot_git(part), "{part:?}");
            assert!(name_fault(&format!("a/{part}/b")).is_some(), "{part:?}");
        }
        for part in
            [".gitignore", ".gitattributes", ".gitmodules", "git", ".git2", "x.git", "git~2", ".github", ".g it"]
        {
            assert!(!is_dot_git(part), "{part:?}");
        }
    }

    #[test]
    fn names_of_every_language_pass_and_control_characters_do_not() {
        for good in ["a", "src/a b.rs", "docs/ß/ä.md", "日本/語.txt", "-x", "a:b", "\u{1f600}.md", "a\\b"] {
            assert_eq!(name_fault(good), None, "{good:?}");
        }
        for bad in ["a\nb", "a\u{7f}", "\u{1b}[1m", "a/\u{85}x", "", "a//b", "a/../b", "./a"] {
            assert!(name_fault(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn two_names_that_are_one_elsewhere_are_named() {
        let reported = |all: &[&str], old: &[&str]| -> Vec<String> {
            clashes(all.iter().copied(), |p| old.contains(&p)).into_iter().map(|b| b.path).collect()
        };
        assert_eq!(reported(&["a/B", "a/b"], &[]), ["a/b"]);
        assert_eq!(reported(&["A/x", "a/y"], &[]), ["a"]);
        assert_eq!(reported(&["caf\u{e9}", "cafe\u{301}"], &[]), ["cafe\u{301}"]);
        assert_eq!(reported(&["STRASSE", "straße"], &[]), ["straße"]);
        assert_eq!(reported(&["x\u{200d}y", "xy"], &[]), ["xy"]);
        // What existed before is the repository's own affair.
        assert_eq!(reported(&["a/B", "a/b"], &["a/B", "a/b"]), Vec::<String>::new());
        assert_eq!(reported(&["a/B", "a/b"], &["a/B"]), ["a/b"]);
        assert_eq!(reported(&["a/b", "a/c", "b/a"], &[]), Vec::<String>::new());
    }

    fn links(all: &[(&str, &str)]) -> Links {
        all.iter().map(|(p, t)| ((*p).to_owned(), (*t).to_owned())).collect()
    }

    #[test]
    fn links_stay_within_the_tree_and_lead_to_what_they_name() {
        for (path, target) in
            [("a", "b"), ("d/a", "../b/c"), ("d/e/a", "../../x"), ("a", "./b/"), ("d/a", ".."), ("a", ".github")]
        {
            assert_eq!(link_faults(&links(&[(path, target)]), &Links::new()), [], "{path} -> {target}");
        }
        for (path, target, word) in [
            ("a", "/etc/passwd", "absolute"),
            ("a", "C:\\x", "absolute"),
            ("a", "../x", "leaves"),
            ("d/a", "../../x", "leaves"),
            ("a", "b/../../x", "leads up again"),
            ("a", "b/../c", "leads up again"),
            ("a", ".git/config", ".git"),
            ("a", "x/.GIT", ".git"),
            ("a", "", "plain"),
            ("a", "b\nc", "plain"),
            ("app.sh", "docs/work-items/K-1/impl/app.sh", "work item"),
            ("x/app.sh", "../Docs/Work-Items/K-1/13-test-report.md", "work item"),
            ("a", "docs/work-items", "work item"),
        ] {
            let broken = link_faults(&links(&[(path, target)]), &Links::new());
            assert!(broken.len() == 1 && broken[0].why.contains(word), "{path} -> {target}: {broken:?}");
        }
    }

    #[test]
    fn a_chain_of_links_is_broken_wherever_it_begins() {
        let chain = links(&[("a", "b"), ("b", "c"), ("d/x", "../b/y")]);
        let names: Vec<String> = link_faults(&chain, &Links::new()).into_iter().map(|b| b.path).collect();
        assert_eq!(names, ["a", "d/x"]);
        // A link to itself, and one whose way differs by case only.
        assert_eq!(link_faults(&links(&[("a", "a")]), &Links::new()).len(), 1);
        assert_eq!(link_faults(&links(&[("B", "c"), ("a", "b/x")]), &Links::new()).len(), 1);
    }

    #[test]
    fn what_the_branch_began_with_stays_while_target_and_way_are_the_same() {
        let before = links(&[("a", "/abs"), ("l", "m/x"), ("m", "n")]);
        assert_eq!(link_faults(&before, &before), []);
        let mut moved = before.clone();
        moved.insert("m".into(), "evil".into());
        let names: Vec<String> = link_faults(&moved, &before).into_iter().map(|b| b.path).collect();
        assert_eq!(names, ["l"]);
        let mut other = before.clone();
        other.insert("a".into(), "/other".into());
        assert_eq!(link_faults(&other, &before).len(), 1);
    }

    proptest! {
        #[test]
        fn a_link_that_passes_stays_within(path in "[a-c]/[a-c]{1,2}", target in "[a-c./]{0,8}") {
            if link_faults(&links(&[(&path, &target)]), &Links::new()).is_empty() {
                let mut depth = 1_i32;
                for part in target.split('/') {
                    match part { "" | "." => {} , ".." => depth -= 1, _ => depth += 1 }
                    prop_assert!(depth >= 0);
                }
                prop_assert!(!target.starts_with('/'));
            }
        }

        #[test]
        fn no_text_makes_it_panic(a in any::<String>(), b in any::<String>()) {
            name_fault(&a);
            link_faults(&links(&[(&a, &b)]), &Links::new());
            clashes([a.as_str(), b.as_str()].into_iter(), |_| false);
        }
    }
}
