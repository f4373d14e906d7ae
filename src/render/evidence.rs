//! What `orch`'s own artefacts (14 to 17) have in common: front matter, and cells that can't break a table.

/// What every artefact names (PIPE-6, RULE-1). Without a task (a check run alone) the unknown ones are empty and left out.
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

/// The front matter with `verdict` (key and word) in it, both fences included.
pub fn front_matter(head: &ArtefactHead, verdict: (&str, &str)) -> String {
    let mut text = String::from("---\n");
    let all = [
        ("work_item", Some(&head.work_item)),
        ("stage", Some(&head.stage)),
        ("agent", Some(&head.agent)),
        ("created", Some(&head.created)),
        ("head", head.head.as_ref()),
        ("base", head.base.as_ref()),
        ("tree", head.tree.as_ref()),
    ];
    for (key, value) in all {
        if let Some(value) = value {
            text.push_str(&format!("{key}: {}\n", scalar(value)));
        }
    }
    text.push_str(&format!("{}: {}\n---\n\n", verdict.0, verdict.1));
    text
}

/// A YAML scalar that is read back as this very text. (A JSON string is one; commits such as `1234567` or `12e4567` would
/// be read as numbers if they stood plain.)
pub fn scalar(text: &str) -> String {
    let plain = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/' | '.'))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// A text as one cell of a Markdown table.
pub fn cell(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '|' => out.push_str("\\|"),
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_read_back_as_text() {
        for (text, want) in [
            ("ORCH-1", "ORCH-1"),
            ("deploy-staging", "deploy-staging"),
            ("", "\"\""),
            ("1234567", "\"1234567\""),
            ("no", "\"no\""),
            ("a: b #c\n", "\"a: b #c\\n\""),
        ] {
            assert_eq!(scalar(text), want);
        }
    }

    #[test]
    fn a_cell_can_not_break_its_table() {
        assert_eq!(cell("a|b\n<i>"), "a\\|b &lt;i>");
    }
}
