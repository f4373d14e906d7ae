//! What is wrong with a configuration, and the way out. Always exit 2.

/// Names the file, key or variable, what was expected, and what to do. Never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    pub message: String,
    pub hint: Option<String>,
}

impl ConfigError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The parser's message about this text, with the nearest known word if it complains about an unknown one.
    pub(super) fn of_yaml(message: &str, text: &str) -> Self {
        if let Some(error) = indented_by_tab(message, text) {
            return error;
        }
        let message = &plain(message);
        let error = Self::new(message.as_str());
        if message.contains(": invalid type: string") && message.contains(LIST) {
            return error.hint("write the program and its arguments as a list: [\"./ci.sh\", \"--fast\"]; a list of one is [\"./ci.sh\"]");
        }
        match suggestion(message) {
            Some(word) => error.hint(format!("did you mean `{word}`?")),
            None => error.hint("orch config schema prints what is allowed there"),
        }
    }
}

/// The parser's message in the file's terms: without names of our types, and without the value where a whole section
/// was expected, since that may be a secret in the wrong place.
fn plain(message: &str) -> String {
    let mut text = message.to_owned();
    if let Some(at) = text.find("expected struct Raw") {
        let from = at + "expected ".len();
        let end = text[from + 7..].find(|c: char| !c.is_ascii_alphanumeric()).map_or(text.len(), |n| from + 7 + n);
        text.replace_range(from..end, "a section of keys");
    }
    if text.contains("expected a section of keys") || text.contains("expected a map") {
        for kind in ["string", "integer", "floating point", "boolean"] {
            let opening = format!("invalid type: {kind} ");
            if let (Some(at), Some(end)) = (text.find(&opening), text.rfind(", expected ")) {
                let from = at + opening.len();
                if from <= end {
                    text.replace_range(from - 1..end, "");
                }
            }
        }
    }
    text = text.replace("expected a sequence", LIST);
    for (ours, word) in [("u32", NUMBER), ("u64", NUMBER), ("usize", NUMBER), ("f64", "a number")] {
        text = text.replace(&format!(", expected {ours}"), &format!(", expected {word}"));
    }
    text
}

/// What the message says where a list is expected.
const LIST: &str = "expected a list";

/// A tab at the start of a line, which YAML does not accept as indentation; the parser only complains about a
/// character.
fn indented_by_tab(message: &str, text: &str) -> Option<ConfigError> {
    if !message.contains("cannot start any token") && !message.contains("tab") {
        return None;
    }
    let indent = |line: &str| line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    let (at, line) = text.lines().enumerate().find(|(_, line)| indent(line))?;
    let key = line.trim().trim_start_matches("- ").split(':').next().unwrap_or_default();
    let key = crate::model::text::clip(key, 40);
    let named = if key.is_empty() { String::new() } else { format!(" (`{key}`)") };
    let error = ConfigError::new(format!("line {}{named} is indented by a tab, expected spaces", at + 1));
    Some(error.hint("put spaces in the place of the tab; an editor shows it with `cat -A`"))
}

/// The expected form of every count and time in the file.
pub(super) const NUMBER: &str = "a whole number, 0 or more";

/// The known word nearest to the unknown one in "unknown field `x`, expected one of `a`, `b`".
fn suggestion(message: &str) -> Option<String> {
    let at = message.find("unknown field `").or_else(|| message.find("unknown variant `"))?;
    let mut words = message.get(at..)?.split('`').skip(1).step_by(2);
    let unknown = words.next()?;
    crate::model::text::nearest(unknown, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_suggested() {
        let e = ConfigError::of_yaml(
            "projects[0].git: unknown field `remot`, expected one of `remote`, `author` at line 3 column 5",
            "",
        );
        assert_eq!(e.hint.as_deref(), Some("did you mean `remote`?"));
        assert_eq!(suggestion("unknown field `zzz`, expected one of `remote`, `author`"), None);
        assert_eq!(suggestion("unknown field `"), None);
        let e = ConfigError::of_yaml(
            "forge: invalid type: string \"hunter2\", expected struct RawForge at line 1 column 2",
            "",
        );
        assert_eq!(e.message, "forge: invalid type: string, expected a section of keys at line 1 column 2");
    }

    #[test]
    fn a_word_in_the_place_of_a_list_and_a_tab_are_named_with_the_way_out() {
        let read = |text: &str| crate::config::load::parse_for_tests(text).unwrap_err();
        let e = read("projects:\n  - key: A\n    git: {remote: /r}\n    ci: {command: ./ci.sh}\n");
        assert!(e.message.contains("ci.command") && e.message.contains("line 4"), "{}", e.message);
        assert!(
            e.message.contains("expected a list") && e.hint.as_deref().is_some_and(|h| h.contains("[\"./ci.sh\"]")),
            "{e:?}"
        );
        let e = read("projects:\n  - key: A\n\tgit: {remote: /r}\n");
        assert_eq!(e.message, "line 3 (`git`) is indented by a tab, expected spaces");
        assert!(e.hint.is_some_and(|h| h.contains("spaces")));
    }
}
