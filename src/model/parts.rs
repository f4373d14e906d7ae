//! The part of a repository that is a project of its own (`paths`, ORD-3): several projects on one remote.

use super::protected::glob;
use super::tree_rules::fold;
use globset::GlobMatcher;

/// A part's compiled patterns; without any it is the whole repository.
#[derive(Debug, Clone)]
pub struct Parts(Vec<GlobMatcher>);

impl Parts {
    /// A pattern that can't be read matches nothing; the configuration's check reports it.
    pub fn new(patterns: &[String]) -> Self {
        let wide = patterns.iter().flat_map(|p| [p.clone(), format!("{}/**", p.trim_end_matches('/'))]);
        Self(wide.filter_map(|p| glob(&fold(&p)).ok()).map(|g| g.compile_matcher()).collect())
    }

    /// Whether a path of the repository belongs to this part.
    pub fn covers(&self, path: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|g| g.is_match(fold(path)))
    }
}

/// The fixed folder at the start of a pattern, empty for the root: where the commands of its project run.
pub fn folder(pattern: &str) -> String {
    let parts: Vec<&str> = pattern.trim_start_matches("./").split('/').collect();
    let fixed: Vec<String> = parts.iter().map_while(|part| literal(part)).collect();
    fixed.join("/")
}

/// A path named inside a folder, from the root of the repository; `None`: it leads out.
pub fn below(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|p| !p.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// A part of a path without the brackets that escape its characters; `None`: it is a pattern.
fn literal(part: &str) -> Option<String> {
    let mut text = part.to_owned();
    for c in ['?', '*', '{', '}', '!'] {
        text = text.replace(&format!("[{c}]"), &c.to_string());
    }
    text = text.replace("[]]", "\u{1}").replace("[[]", "[").replace('\u{1}', "]");
    (globset::escape(&text) == part && !part.is_empty()).then_some(text)
}

/// Whether two parts could have a path in common: one's fixed folder is in the other's. Patterns that differ only in
/// their wildcards count as overlapping, because nothing proves that they don't.
pub fn overlap(one: &[String], other: &[String]) -> bool {
    let within = |inner: &str, outer: &str| {
        outer.is_empty() || inner == outer || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
    };
    let folded = |p: &String| fold(&folder(p));
    one.iter().map(folded).any(|a| other.iter().map(folded).any(|b| within(&a, &b) || within(&b, &a)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(patterns: &[&str]) -> Vec<String> {
        patterns.iter().map(|p| (*p).to_owned()).collect()
    }

    #[test]
    fn ord_3_a_part_has_a_folder_and_covers_what_is_in_it() {
        for (pattern, at) in [
            ("services/api/**", "services/api"),
            ("./services/api/**", "services/api"),
            ("services/api", "services/api"),
            ("services/*/x", "services"),
            ("**", ""),
            ("a[[]b[]]/c/**", "a[b]/c"),
            ("a[bc]/**", ""),
        ] {
            assert_eq!(folder(pattern), at, "{pattern}");
        }
        assert_eq!(below("services/api", "./ci.sh").as_deref(), Some("services/api/ci.sh"));
        assert_eq!(below("services/api", "../x.sh").as_deref(), Some("services/x.sh"));
        assert_eq!((below("", "../x"), below("", "a/b")), (None, Some("a/b".to_owned())));
        let parts = Parts::new(&list(&["services/api/**", "Makefile"]));
        for (path, within) in [
            ("services/api/src/main.rs", true),
            ("Services/API/x", true),
            ("Makefile", true),
            ("services/web/x", false),
            ("services/api2/x", false),
            ("x", false),
        ] {
            assert_eq!(parts.covers(path), within, "{path}");
        }
        assert!(Parts::new(&[]).covers("anything"));
    }

    #[test]
    fn ord_3_parts_overlap_where_one_is_within_the_other() {
        for (a, b, yes) in [
            ("services/api/**", "services/web/**", false),
            ("services/api/**", "services/api2/**", false),
            ("services/api/**", "services/**", true),
            ("services/api/**", "services/API/x/**", true),
            ("**", "web/**", true),
            ("*/a/**", "web/**", true),
        ] {
            assert_eq!(overlap(&list(&[a]), &list(&[b])), yes, "{a} {b}");
            assert_eq!(overlap(&list(&[b]), &list(&[a])), yes, "{b} {a}");
        }
    }
}
