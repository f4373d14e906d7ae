//! Whether what a run left may become a commit (PIPE-4, BND-5): the paths its agent may write, protected paths, and
//! artefacts, each of which belongs to one stage.

use crate::model::agent_prompt::offending_paths;
use crate::model::artefact::{Artefact, FOLDER, folder};
use crate::model::ids::Key;
use crate::model::parts::Parts;
use crate::model::protected::Protection;
use crate::model::stage::Stage;
use crate::model::tree_rules::{Broken, fold};
use ignore::gitignore::GitignoreBuilder;

/// The maximum size of an artefact, in bytes.
pub const ARTEFACT_BYTES: u64 = 64 << 10;
/// The maximum number of decisions per work item.
pub const ADRS: usize = 20;

/// What a path is after the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Gone,
    File {
        executable: bool,
        size: u64,
    },
    /// A link or a submodule.
    Other,
}

/// A path that the run changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub path: String,
    pub now: Shape,
}

/// A `.gitattributes` file that the run changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    pub path: String,
    pub before: String,
    pub now: String,
}

/// What is known of a run's tree.
#[derive(Debug)]
pub struct Facts<'a> {
    pub key: &'a Key,
    pub stage: Stage,
    /// Globs of the agent's `may_write`.
    pub may_write: &'a [String],
    pub protection: &'a Protection,
    /// The part of the repository that is this project (ORD-3).
    pub parts: &'a Parts,
    pub changes: &'a [Change],
    /// Every path of the resulting tree.
    pub paths: &'a [String],
    /// Its symbolic links, each with the path it leads to.
    pub links: &'a [(String, String)],
    pub attributes: &'a [Attributes],
}

/// The rules that the run broke; empty: its tree may be committed.
pub fn faults(facts: &Facts<'_>) -> Vec<Broken> {
    let mut broken = Vec::new();
    let used = used_elsewhere(facts);
    for change in facts.changes {
        if let Some(why) = fault(facts, &used, change) {
            broken.push(Broken::new(&change.path, why));
        }
    }
    let own = format!("{}/", folder(facts.key));
    let adrs =
        facts.paths.iter().filter(|p| p.strip_prefix(&own).and_then(Artefact::of) == Some(Artefact::Adr)).count();
    if adrs > ADRS && facts.stage == Stage::Architecture {
        broken.push(Broken::new(&own, format!("has {adrs} decisions, more than {ADRS}")));
    }
    for file in facts.attributes {
        if let Some((line, path)) = rules_protected(facts, file) {
            broken.push(Broken::new(&file.path, format!("has a changed line for the protected path {path}: {line:?}")));
        }
    }
    broken
}

fn fault(facts: &Facts<'_>, used: &[(&str, String)], change: &Change) -> Option<String> {
    if facts.protection.covers(&change.path) {
        return Some("is protected".to_owned());
    }
    if is_below(&fold(&change.path), &fold(FOLDER)) {
        // Under another spelling of the folder, a file is not one of its documents.
        let below = change.path.strip_prefix(&format!("{}/", folder(facts.key)));
        if let Some(artefact) = below.and_then(Artefact::of) {
            return artefact_fault(facts.stage, artefact, change.now);
        }
        let documents = change.path.strip_prefix(&format!("{FOLDER}/")).is_none_or(|rest| rest.contains('/'));
        if documents {
            return Some("is in a work item's folder, but is not a document of this work item".to_owned());
        }
    }
    if !facts.parts.covers(&change.path) {
        return Some("is outside the `paths` of this project".to_owned());
    }
    if !is_own(facts, &change.path) {
        return Some("is a file that the agent may not change".to_owned());
    }
    let through = used.iter().find(|(_, target)| is_below(&change.path, target));
    through.map(|(link, _)| format!("is reached through {link}, which the agent may not change"))
}

fn is_own(facts: &Facts<'_>, path: &str) -> bool {
    offending_paths(facts.may_write, &[path.to_owned()]).is_empty()
}

/// The targets of links at places that are not the agent's, each with that link: whoever changes the target changes
/// what is used there. A link of the agent's own on the way, or as the target, is followed.
fn used_elsewhere<'a>(facts: &Facts<'a>) -> Vec<(&'a str, String)> {
    let (own, foreign): (Vec<_>, Vec<_>) = facts.links.iter().partition(|(link, _)| is_own(facts, link));
    let mut used = Vec::new();
    for (link, target) in foreign {
        let (mut reached, mut at) = (vec![target.clone()], 0);
        while let Some(path) = reached.get(at).cloned().filter(|_| at <= facts.links.len()) {
            at += 1;
            let on = own.iter().filter_map(|(link, target)| {
                let way = path.strip_prefix(link.as_str()).filter(|rest| rest.is_empty() || rest.starts_with('/'));
                way.map(|rest| format!("{target}{rest}")).or_else(|| is_below(link, &path).then(|| target.clone()))
            });
            let on: Vec<String> = on.filter(|to| !reached.contains(to)).collect();
            reached.extend(on);
        }
        used.extend(reached.into_iter().map(|to| (link.as_str(), to)));
    }
    used
}

/// The path that a relative link leads to; `None`: outside the tree, or nowhere.
pub fn leads_to(link: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    (!target.starts_with('/') && !parts.is_empty()).then(|| parts.join("/"))
}

fn is_below(path: &str, folder: &str) -> bool {
    path == folder || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn artefact_fault(stage: Stage, artefact: Artefact, now: Shape) -> Option<String> {
    let schema = artefact.schema();
    if schema.own || schema.stage != stage {
        return Some(format!("belongs to stage {}, and can't be changed in {stage}", schema.stage));
    }
    match now {
        Shape::Gone => None,
        Shape::File { executable: true, .. } => Some("is a document, but executable".to_owned()),
        Shape::File { executable: false, size } if size > ARTEFACT_BYTES => {
            Some(format!("has {size} bytes, a document may have {ARTEFACT_BYTES}"))
        }
        Shape::File { .. } => None,
        Shape::Other => Some("is a document, but not a regular file".to_owned()),
    }
}

/// A line that is in only one of the two versions and concerns a protected path.
fn rules_protected<'a>(facts: &'a Facts<'_>, file: &'a Attributes) -> Option<(&'a str, &'a str)> {
    let dir = file.path.strip_suffix(".gitattributes").unwrap_or_default();
    let (before, now): (Vec<&str>, Vec<&str>) = (file.before.lines().collect(), file.now.lines().collect());
    let changed = now.iter().filter(|l| !before.contains(l)).chain(before.iter().filter(|l| !now.contains(l)));
    let protected: Vec<&String> =
        facts.paths.iter().filter(|p| p.starts_with(dir) && facts.protection.covers(p)).collect();
    for line in changed.map(|l| l.trim()).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let pattern = line.split_whitespace().next().unwrap_or_default();
        let mut builder = GitignoreBuilder::new("");
        // A macro, or a quoted pattern, may mean anything.
        let any = line.starts_with(['[', '"']) || builder.add_line(None, pattern).is_err();
        let rules = builder.build().ok();
        let speaks = |path: &str| {
            let below = path.get(dir.len()..).unwrap_or_default();
            any || rules.as_ref().is_none_or(|r| r.matched_path_or_any_parents(below, false).is_ignore())
        };
        if let Some(path) = protected.iter().find(|p| speaks(p)) {
            return Some((line, path.as_str()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::protected::BUILT_IN;

    const FILE: Shape = Shape::File { executable: false, size: 10 };

    fn change_of(stage: Stage, may: &str, path: &str, now: Shape) -> Option<String> {
        let patterns: Vec<String> = BUILT_IN.iter().map(|p| (*p).to_owned()).collect();
        let facts = Facts {
            key: &Key::parse("ORCH-1").unwrap(),
            stage,
            may_write: &[may.to_owned()],
            parts: &Parts::new(&[]),
            protection: &Protection::new(&patterns),
            changes: &[Change { path: path.to_owned(), now }],
            paths: &[path.to_owned()],
            links: &[],
            attributes: &[],
        };
        faults(&facts).into_iter().next().map(|b| b.why)
    }

    #[test]
    fn an_artefact_belongs_to_its_stage() {
        let own = "docs/work-items/ORCH-1/";
        let table = [
            (Stage::Analysis, "01-brief.md", None),
            (Stage::Architecture, "06-adr/ADR-001-x.md", None),
            (Stage::Review, "12-review.md", None),
            (Stage::Testing, "13-test-report.md", None),
            (Stage::Development, "12-review.md", Some("belongs to stage review")),
            (Stage::Development, "02-requirements.md", Some("belongs to stage analysis")),
            (Stage::Testing, "12-review.md", Some("belongs to stage review")),
            (Stage::Review, "13-test-report.md", Some("belongs to stage testing")),
            (Stage::Review, "17-security-report.md", Some("belongs to")),
            (Stage::Deploy, "14-deploy-log.md", Some("belongs to")),
            (Stage::Development, "impl/app.sh", Some("not a document")),
            (Stage::Analysis, "05-notes.md", Some("not a document")),
            (Stage::Analysis, ".gitignore", Some("not a document")),
        ];
        for (stage, name, why) in table {
            let got = change_of(stage, "**", &format!("{own}{name}"), FILE);
            assert_eq!(got.is_some(), why.is_some(), "{stage} {name}: {got:?}");
            assert!(why.is_none_or(|w| got.unwrap().contains(w)), "{stage} {name}");
        }
        for path in
            ["docs/work-items/ORCH-2/01-brief.md", "Docs/Work-Items/ORCH-1/01-brief.md", "docs/work-items/orch-1/x"]
        {
            assert!(change_of(Stage::Analysis, "**", path, FILE).is_some(), "{path}");
        }
        assert_eq!(change_of(Stage::Development, "**", "docs/work-items/README.md", FILE), None);
        // Deleted by another stage.
        assert!(change_of(Stage::Development, "**", &format!("{own}12-review.md"), Shape::Gone).is_some());
    }

    #[test]
    fn an_artefact_is_a_small_plain_file() {
        let path = "docs/work-items/ORCH-1/12-review.md";
        let of = |now| change_of(Stage::Review, "docs/**", path, now);
        assert_eq!(of(Shape::File { executable: false, size: ARTEFACT_BYTES }), None);
        assert!(of(Shape::File { executable: false, size: ARTEFACT_BYTES + 1 }).unwrap().contains("bytes"));
        assert!(of(Shape::File { executable: true, size: 1 }).unwrap().contains("executable"));
        assert!(of(Shape::Other).unwrap().contains("regular"));
    }

    #[test]
    fn more_than_twenty_decisions_are_too_many() {
        let paths: Vec<String> = (1..=21).map(|n| format!("docs/work-items/ORCH-1/06-adr/ADR-{n:03}-x.md")).collect();
        let facts = |paths: &[String]| {
            faults(&Facts {
                key: &Key::parse("ORCH-1").unwrap(),
                stage: Stage::Architecture,
                may_write: &[],
                parts: &Parts::new(&[]),
                protection: &Protection::new(&[]),
                changes: &[],
                paths,
                links: &[],
                attributes: &[],
            })
        };
        assert_eq!(facts(&paths[..20]), []);
        assert!(facts(&paths)[0].why.contains("21"));
    }

    #[test]
    fn who_writes_where_he_may_not_is_named() {
        assert!(
            change_of(Stage::Review, "docs/work-items/ORCH-1/**", "src/a", FILE)
                .unwrap()
                .contains("agent may not change")
        );
        assert!(change_of(Stage::Development, "**", ".github/x", FILE).unwrap().contains("protected"));
        assert_eq!(change_of(Stage::Development, "**", "src/a", FILE), None);
    }

    #[test]
    fn what_a_link_from_elsewhere_leads_to_is_used_there() {
        let change_of = |path: &str, links: &[(&str, &str)]| {
            let links: Vec<_> = links.iter().filter_map(|(l, t)| Some(((*l).to_owned(), leads_to(l, t)?))).collect();
            let facts = Facts {
                key: &Key::parse("ORCH-1").unwrap(),
                stage: Stage::Testing,
                may_write: &["tests/**".to_owned()],
                parts: &Parts::new(&[]),
                protection: &Protection::new(&[]),
                changes: &[Change { path: path.to_owned(), now: FILE }],
                paths: &[path.to_owned()],
                links: &links,
                attributes: &[],
            };
            faults(&facts).into_iter().next().map(|b| b.why)
        };
        assert_eq!(change_of("tests/data/a.json", &[]), None);
        for link in [("app.json", "tests/data/a.json"), ("src/data", "../tests/data"), ("src/all", "../tests/")] {
            let why = change_of("tests/data/a.json", &[link]).unwrap();
            assert!(why.contains(link.0), "{why}");
        }
        for link in [("tests/x", "data/a.json"), ("src/other", "../tests/data/b.json"), ("src/out", "../../x")] {
            assert_eq!(change_of("tests/data/a.json", &[link]), None, "{link:?}");
        }
        // Through a link that is the agent's own.
        let (data, other) = (("tests/data", "real"), ("tests/x/l", "../data/a.json"));
        assert!(change_of("tests/real/a.json", &[data, ("src/a", "../tests/data/a.json")]).unwrap().contains("src/a"));
        assert!(change_of("tests/data/a.json", &[other, ("src/all", "../tests/x")]).unwrap().contains("src/all"));
        assert_eq!(change_of("tests/real/b.json", &[data, ("src/a", "../tests/data/a.json")]), None);
        assert_eq!(change_of("tests/b", &[("tests/a", "a/c"), ("src/a", "../tests/a")]), None, "a circle ends");
        assert_eq!(leads_to("a/b/c", "../d"), Some("a/d".to_owned()));
        assert_eq!(leads_to("a", "/etc"), None);
        assert_eq!(leads_to("a", ".."), None);
    }

    #[test]
    fn a_line_of_attributes_for_a_protected_path_is_a_change_of_that_path() {
        let change_of = |path: &str, before: &str, now: &str| {
            let facts = Facts {
                key: &Key::parse("ORCH-1").unwrap(),
                stage: Stage::Development,
                may_write: &["**".to_owned()],
                parts: &Parts::new(&[]),
                protection: &Protection::new(&["ci.sh".to_owned(), "ops/**".to_owned()]),
                changes: &[],
                paths: &["ci.sh".to_owned(), "ops/deploy".to_owned(), "src/a.sh".to_owned()],
                links: &[],
                attributes: &[Attributes { path: path.into(), before: before.into(), now: now.into() }],
            };
            faults(&facts).into_iter().next().map(|b| b.why)
        };
        for line in [
            "ci.sh working-tree-encoding=UTF-7\n",
            "*.sh text\n",
            "* text=auto\n",
            "/ci.sh -text\n",
            "ops/** eol=crlf\n",
            "[attr]x text\n",
            "\"ci.sh\" text\n",
        ] {
            assert!(change_of(".gitattributes", "", line).is_some(), "{line}");
            assert!(change_of(".gitattributes", line, "").is_some(), "{line} taken out");
        }
        for line in ["*.md text\n", "src/*.sh text\n", "# ci.sh\n"] {
            assert_eq!(change_of(".gitattributes", "", line), None, "{line}");
        }
        assert_eq!(change_of(".gitattributes", "* text\n", "* text\n*.md text\n"), None);
        assert!(change_of("ops/.gitattributes", "", "deploy text\n").is_some());
        assert_eq!(change_of("src/.gitattributes", "", "* text\n"), None);
    }
}
