//! The flat front matter of local work items: one-line values as people type them (`title: Fix: the login` is not YAML,
//! but it is a title). Used by the local board; fences, quoting and line-wise writing are the parent's.

use super::{Field, fence, put, quoted};

/// A file's front matter and where it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Front {
    fields: Vec<(String, Field)>,
    /// Byte offset of the first byte after the closing line.
    pub body_at: usize,
}

impl Front {
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).and_then(|(_, f)| match f {
            Field::Text(t) => Some(t.as_str()),
            Field::List(_) | Field::Nested => None,
        })
    }

    /// A list, or a single text as a list of one; absent or empty gives an empty list.
    pub fn list(&self, name: &str) -> Vec<String> {
        match self.fields.iter().find(|(n, _)| n == name).map(|(_, f)| f) {
            Some(Field::List(l)) => l.clone(),
            Some(Field::Text(t)) if !t.is_empty() => t.split(',').map(|p| p.trim().to_owned()).collect(),
            Some(Field::Text(_) | Field::Nested) | None => Vec::new(),
        }
    }
}

/// Reads the front matter. Fails with what is wrong: the file may be half written, retry later.
pub fn read(text: &str) -> Result<Front, String> {
    let fence = fence(text.as_bytes())?.ok_or("the file does not start with a `---` line")?;
    let mut fields: Vec<(String, Field)> = Vec::new();
    for line in text.get(fence.from..fence.close).unwrap_or("").split('\n') {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        if let Some(entry) = trimmed.strip_prefix("- ").or(trimmed.strip_prefix('-').filter(|r| r.is_empty())) {
            let value = scalar(entry)?;
            match fields.last_mut().map(|(_, f)| f) {
                Some(Field::List(l)) => l.push(value),
                Some(f) if *f == Field::Text(String::new()) => *f = Field::List(vec![value]),
                Some(Field::Text(_) | Field::Nested) | None => {
                    return Err(format!("a list entry without a list: {}", cut(trimmed)));
                }
            }
            continue;
        }
        if line.starts_with([' ', '\t']) {
            return Err(format!("an indented line that is no list entry: {}", cut(trimmed)));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| format!("expected `name: value`: {}", cut(trimmed)))?;
        let name = name.trim().to_owned();
        if fields.iter().any(|(n, _)| *n == name) {
            return Err(format!("`{}` appears twice", cut(&name)));
        }
        fields.push((name, field(value.trim())?));
    }
    Ok(Front { fields, body_at: fence.body })
}

fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}

fn field(value: &str) -> Result<Field, String> {
    let Some(rest) = value.strip_prefix('[') else { return Ok(Field::Text(scalar(value)?)) };
    let inner = uncommented(rest).strip_suffix(']').ok_or_else(|| format!("an unclosed list: {}", cut(value)))?;
    let mut items = Vec::new();
    let mut from = 0;
    let mut quote: Option<char> = None;
    let mut escaped = false;
    for (i, c) in inner.char_indices() {
        match (quote, c) {
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(q), c) if q == c && !escaped => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if inner.get(from..i).is_some_and(|s| s.trim().is_empty()) => quote = Some(c),
            (None, ',') => {
                items.push(scalar(inner.get(from..i).unwrap_or(""))?);
                from = i + 1;
            }
            (None, _) => {}
        }
        escaped = false;
    }
    let last = inner.get(from..).unwrap_or("");
    if !last.trim().is_empty() {
        items.push(scalar(last)?);
    }
    Ok(Field::List(items))
}

/// A value without a trailing ` # comment`, trimmed.
fn uncommented(value: &str) -> &str {
    value.split_once(" #").map_or(value, |(v, _)| v).trim()
}

fn scalar(value: &str) -> Result<String, String> {
    let value = value.trim();
    let unreadable = || format!("a value that can't be read on one line: {}", cut(value));
    match value.chars().next() {
        None => Ok(String::new()),
        Some('"') => {
            let mut stream = serde_json::Deserializer::from_str(value).into_iter::<String>();
            let text = stream.next().and_then(Result::ok).ok_or_else(unreadable)?;
            let rest = value.get(stream.byte_offset()..).unwrap_or("").trim();
            if rest.is_empty() || rest.starts_with('#') { Ok(text) } else { Err(unreadable()) }
        }
        Some('\'') => {
            let inner = value.get(1..).unwrap_or("");
            let marked = inner.replace("''", "\u{0}");
            let (text, rest) = marked.split_once('\'').ok_or_else(unreadable)?;
            let rest = rest.trim();
            let text = text.replace('\u{0}', "'");
            if rest.is_empty() || rest.starts_with('#') { Ok(text) } else { Err(unreadable()) }
        }
        Some('|' | '>' | '&' | '*' | '!' | '{') => Err(unreadable()),
        Some('#') => Ok(String::new()),
        Some(_) => {
            let text = uncommented(value);
            Ok(if text == "null" || text == "~" { String::new() } else { text.to_owned() })
        }
    }
}

/// The text with each name set to its value, as [`super::set`] does it, for files that only this parser can read. Fails
/// as [`read`] does, and where a value would not read back.
pub fn set(text: &str, pairs: &[(&str, &str)]) -> Result<String, String> {
    read(text)?;
    let mut bytes = text.as_bytes().to_vec();
    for (name, value) in pairs {
        bytes = put(&bytes, name, &quoted(value))?;
    }
    let out = String::from_utf8(bytes).map_err(|_| "the file is not UTF-8".to_owned())?;
    let front = read(&out)?;
    match pairs.iter().find(|(name, _)| front.text(name).is_none()) {
        Some((name, _)) => Err(format!("`{}` can't be set on one line", cut(name))),
        None => Ok(out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_named_line_changes() {
        let text = "---\r\nkey: ORCH-1\r\nstatus: To Analyse # please\r\nlabels:\r\n  - a\r\n  - 'b''s'\r\n---\r\nstatus: body\r\n";
        let f = read(text).unwrap();
        assert_eq!(f.text("status"), Some("To Analyse"));
        assert_eq!(f.list("labels"), ["a", "b's"]);
        assert_eq!(set(text, &[("status", "Analysis")]).unwrap(), text.replace("To Analyse", "Analysis"));
        assert!(set(text, &[("updated", "x")]).unwrap().contains("  - 'b''s'\r\nupdated: x\r\n---\r\n"));
    }

    #[test]
    fn a_title_that_is_no_yaml_stays_a_title() {
        let text = "\u{feff}---\ntitle: Fix: the *login*\nstatus: Analysis\n---\n";
        let out = set(text, &[("status", "Done")]).unwrap();
        assert_eq!(read(&out).unwrap().text("title"), Some("Fix: the *login*"));
        assert_eq!(out, text.replace("Analysis", "Done"));
    }

    #[test]
    fn half_written_files_are_refused() {
        for bad in [
            "",
            "---",
            "---\nstatus: x\n",
            "status: x\n",
            "---\nstatus: x\nstatus: y\n---\n",
            "---\ntitle: |\n  x\n---\n",
            "\n---\n---\n",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back(title in any::<String>(), labels in proptest::collection::vec("[^\\r\\n]{1,12}", 0..4)) {
            let fields = [("title", Field::Text(title.clone())), ("labels", Field::List(labels.clone()))];
            let text = super::super::write_new(&fields, "");
            let f = read(&text).unwrap();
            prop_assert_eq!(f.text("title"), Some(title.as_str()));
            prop_assert_eq!(f.list("labels"), labels);
        }

        #[test]
        fn nothing_panics(text in any::<String>(), inner in "[-a:\"'\\[\\], #\\n\\r\\\\]{0,60}") {
            drop(read(&text));
            drop(set(&format!("---\n{inner}\n---\n"), &[("a", "b")]));
        }
    }
}
