//! `docs/standards/HANDOFF_PROTOCOL.md` against the code's table, both ways (PIPE-6), and `agents/` on disk (PIPE-7).

use orch::decide::gates::verdict::{NEGATIVE, POSITIVE};
use orch::model::artefact::{Artefact, COMMON_FIELDS, Schema};
use orch::model::frontmatter::{Read, read};
use orch::model::stage::{Agent, Stage};

fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/standards/HANDOFF_PROTOCOL.md")).unwrap()
}

fn row(artefact: Artefact, schema: Schema) -> String {
    let words = |list: &[&str]| match list {
        [] => "–".to_owned(),
        list => list.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", "),
    };
    let kept = if schema.own { "state" } else { "branch" };
    format!(
        "| `{artefact}` | `{}` | {} | {} | {} | {kept} |",
        schema.stage,
        words(schema.by),
        words(schema.verdict),
        words(schema.values)
    )
}

#[test]
fn the_page_and_the_table_say_the_same() {
    let page = page();
    let (_, section) = page.split_once("## Stage → required output → verdict").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let stated: Vec<&str> = section.lines().filter(|l| l.starts_with("| `")).collect();
    let coded: Vec<String> = Artefact::ALL.iter().map(|a| row(*a, a.schema())).collect();
    assert_eq!(stated, coded);
}

#[test]
fn the_page_accounts_for_every_stage() {
    let page = page();
    for stage in Stage::ALL {
        assert!(page.contains(&format!("`{stage}`")), "{stage} is not mentioned");
        let worked = Artefact::of_stage(*stage).next().is_some();
        let expected = stage.agent().is_some() && *stage != Stage::Development;
        assert_eq!(worked, expected, "{stage}");
    }
}

#[test]
fn the_page_lists_the_required_fields_and_the_testers_words() {
    let page = page();
    let (_, fields) = page.split_once("Required in every artefact:").unwrap();
    let stated: Vec<&str> = fields
        .split("\nand the verdict key")
        .next()
        .unwrap()
        .lines()
        .filter_map(|l| l.strip_prefix("| `")?.split('`').next())
        .collect();
    assert_eq!(stated, COMMON_FIELDS);
    let flat = page.split_whitespace().collect::<Vec<_>>().join(" ");
    let words = |list: &[&str]| list.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ");
    assert!(flat.contains(&format!("Negative are exactly {}; positive are {};", words(NEGATIVE), words(POSITIVE))));
}

#[test]
fn agents_holds_the_six_files_and_none_names_a_model() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/agents");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let Read::Document(doc) = read(&std::fs::read(entry.path()).unwrap()) else { panic!("{entry:?}") };
        assert!(doc.field("model").is_none(), "{entry:?}: configuration is the only source of the model");
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    let mut want: Vec<String> = Agent::ALL.iter().map(|a| format!("{a}.md")).collect();
    want.sort();
    assert_eq!(names, want);
}
