//! What `orch`'s own artefacts (14 to 17) share: front matter, and cells that can't break a table.

use crate::model::frontmatter::{Field, write_new};

/// What every artefact names (PIPE-6, RULE-1). Without a task (a check run on its own) unknown fields are empty and
/// left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArtefactHead {
    pub work_item: String,
    pub stage: String,
    /// Who wrote it: `staging-check`, `deploy-finalizer`, `post-deploy-monitor`.
    pub agent: String,
    /// RFC 3339.
    pub created: String,
    pub head: Option<String>,
    pub base: Option<String>,
    pub tree: Option<String>,
}

/// The front matter with `verdict` (key and word), including both fences.
pub fn front_matter(head: &ArtefactHead, verdict: (&str, &str)) -> String {
    let all = [
        ("work_item", Some(&head.work_item)),
        ("stage", Some(&head.stage)),
        ("agent", Some(&head.agent)),
        ("created", Some(&head.created)),
        ("head", head.head.as_ref()),
        ("base", head.base.as_ref()),
        ("tree", head.tree.as_ref()),
    ];
    let mut fields: Vec<(&str, Field)> =
        all.into_iter().filter_map(|(name, text)| Some((name, Field::from(text?.as_str())))).collect();
    fields.push((verdict.0, Field::from(verdict.1)));
    write_new(&fields, "")
}

/// Largest part of an artefact in a comment, in bytes.
const COMMENT_BYTES: usize = 24 << 10;

/// An artefact as a comment: named, fenced so that it can't pass for anything else, and cut at a line break if long.
pub fn comment(name: crate::model::artefact::Artefact, text: &str) -> String {
    let mut shown = String::new();
    for line in text.lines() {
        if shown.len() + line.len() > COMMENT_BYTES {
            shown.push_str("… (the whole is in the state directory, under evidence/)\n");
            break;
        }
        shown.push_str(line);
        shown.push('\n');
    }
    let longest = shown.lines().map(|l| l.trim_start().chars().take_while(|c| *c == '`').count()).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{name}:\n\n{fence}markdown\n{shown}{fence}\n")
}

/// A text as one cell of a Markdown table.
pub fn cell(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '|' => out.push_str("\\|"),
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            c if crate::model::text::steers(c) => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::artefact::{Artefact, validate};
    use crate::model::frontmatter::{Read, read};
    use crate::model::ids::Key;

    #[test]
    fn the_pipelines_own_artefacts_fit_the_table() {
        let key = Key::parse("ORCH-1").unwrap();
        for (artefact, agent) in [
            (Artefact::StagingLog, "staging-check"),
            (Artefact::DeployLog, "deploy-finalizer"),
            (Artefact::PostDeployLog, "post-deploy-monitor"),
        ] {
            let schema = artefact.schema();
            let head = ArtefactHead {
                work_item: key.to_string(),
                stage: schema.stage.to_string(),
                agent: agent.into(),
                created: "2026-03-01T09:30:00Z".into(),
                head: Some("1234567".into()),
                ..ArtefactHead::default()
            };
            let text = front_matter(&head, (schema.verdict[0], schema.values[0]));
            let Read::Document(doc) = read(text.as_bytes()) else { panic!("{text}") };
            assert_eq!(validate(artefact, &doc, &key), Vec::<String>::new());
            assert_eq!(doc.text("head"), Some("1234567"));
        }
    }

    #[test]
    fn a_cell_can_not_break_its_table() {
        assert_eq!(cell("a|b\n<i>"), "a\\|b &lt;i>");
    }
}
