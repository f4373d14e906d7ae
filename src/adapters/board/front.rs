//! The flat front matter of local work items, read and changed line by line so that everything a person wrote beside
//! the changed line stays byte for byte as it was.

/// A value of the front matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Text(String),
    List(Vec<String>),
}

/// A file's front matter and where it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Front {
    fields: Vec<(String, Field)>,
    /// Byte offset of the first byte after the closing line.
    pub body_at: usize,
}

impl Front {
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).and_then(|(_, f)| match f {
            Field::Text(t) => Some(t.as_str()),
            Field::List(_) => None,
        })
    }

    /// A list, or a single text as a list of one; absent or empty gives none.
    pub fn list(&self, name: &str) -> Vec<String> {
        match self.fields.iter().find(|(n, _)| n == name).map(|(_, f)| f) {
            Some(Field::List(l)) => l.clone(),
            Some(Field::Text(t)) if !t.is_empty() => t.split(',').map(|p| p.trim().to_owned()).collect(),
            Some(Field::Text(_)) | None => Vec::new(),
        }
    }
}

/// Lines with their byte offsets; the end of line is left out of the text.
fn lines(text: &str) -> impl Iterator<Item = (usize, usize, &str)> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        let from = at;
        at += line.len();
        (from, at, line.trim_end_matches('\n').trim_end_matches('\r'))
    })
}

/// Reads the front matter. Fails with what is wrong: the file may be half written, look later.
pub(super) fn read(text: &str) -> Result<Front, String> {
    let mut all = lines(text);
    if all.next().map(|(_, _, l)| l.trim_end()) != Some("---") {
        return Err("the file does not start with a `---` line".to_owned());
    }
    let mut fields: Vec<(String, Field)> = Vec::new();
    for (_, end, line) in all {
        if line.trim_end() == "---" {
            return Ok(Front { fields, body_at: end });
        }
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        if let Some(entry) = trimmed.strip_prefix("- ").or(trimmed.strip_prefix('-').filter(|r| r.is_empty())) {
            let value = scalar(entry)?;
            match fields.last_mut().map(|(_, f)| f) {
                Some(Field::List(l)) => l.push(value),
                Some(f @ Field::Text(_)) if *f == Field::Text(String::new()) => *f = Field::List(vec![value]),
                Some(Field::Text(_)) | None => return Err(format!("a list entry without a list: {}", cut(trimmed))),
            }
            continue;
        }
        if line.starts_with([' ', '\t']) {
            return Err(format!("an indented line that is no list entry: {}", cut(trimmed)));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| format!("expected `name: value`: {}", cut(trimmed)))?;
        let name = name.trim().to_owned();
        if fields.iter().any(|(n, _)| *n == name) {
            return Err(format!("`{}` stands twice", cut(&name)));
        }
        fields.push((name, field(value.trim())?));
    }
    Err("the front matter has no closing `---` line".to_owned())
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

/// A value without a trailing ` # comment`, outer space dropped.
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

/// A text as one line of YAML: plain where that is safe, else in double quotes.
pub(super) fn quoted(text: &str) -> String {
    let plain = !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | '/'))
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !text.ends_with(' ')
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if plain {
        return text.to_owned();
    }
    let mut out = serde_json::Value::from(text).to_string();
    // Line breaks to YAML, not to JSON.
    for (c, escape) in [
        ('\u{85}', "\\u0085"),
        ('\u{2028}', "\\u2028"),
        ('\u{2029}', "\\u2029"),
        ('\u{feff}', "\\ufeff"),
        ('\u{7f}', "\\u007f"),
    ] {
        out = out.replace(c, escape);
    }
    out
}

/// A list as one line of YAML.
pub(super) fn quoted_list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", items.map(quoted).collect::<Vec<_>>().join(", "))
}

/// The text with `name` set to `value` (already quoted) on its own line; a missing line is added at the end of the front
/// matter. Everything else stays as it is. Fails as [`read`] does.
pub(super) fn set(text: &str, name: &str, value: &str) -> Result<String, String> {
    read(text)?;
    let mut close = None;
    for (from, end, line) in lines(text).skip(1) {
        if line.trim_end() == "---" {
            close = Some(from);
            break;
        }
        let is_field = line.split_once(':').is_some_and(|(n, _)| n.trim() == name && !n.starts_with([' ', '\t']));
        if is_field {
            let whole = text.get(from..end).unwrap_or("");
            let ending = whole.get(line.len()..).unwrap_or("\n");
            let (before, after) = (text.get(..from).unwrap_or(""), text.get(end..).unwrap_or(""));
            return Ok(format!("{before}{name}: {value}{ending}{after}"));
        }
    }
    let at = close.ok_or("the front matter has no closing `---` line")?;
    let ending = if text.starts_with("---\r\n") { "\r\n" } else { "\n" };
    let (before, after) = (text.get(..at).unwrap_or(""), text.get(at..).unwrap_or(""));
    Ok(format!("{before}{name}: {value}{ending}{after}"))
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
        assert_eq!(set(text, "status", "Analysis").unwrap(), text.replace("To Analyse # please", "Analysis"));
        assert!(set(text, "updated", "x").unwrap().contains("  - 'b''s'\r\nupdated: x\r\n---\r\n"));
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
            let text = format!("---\ntitle: {}\nlabels: {}\n---\n", quoted(&title), quoted_list(labels.iter().map(String::as_str)));
            let f = read(&text).unwrap();
            prop_assert_eq!(f.text("title"), Some(title.as_str()));
            prop_assert_eq!(f.list("labels"), labels);
        }

        #[test]
        fn nothing_panics(text in any::<String>(), inner in "[-a:\"'\\[\\], #\\n\\r\\\\]{0,60}") {
            drop(read(&text));
            drop(set(&format!("---\n{inner}\n---\n"), "a", "b"));
        }
    }
}
