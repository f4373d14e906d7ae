//! As much of YAML's lexing as it takes to change one entry in place and to refuse anchors and aliases before the
//! parser sees them. Errs on the side of refusing; the parser's own limit on repetition bounds what it misses.

/// A text as one line of YAML that reads back as this very text: plain where that is safe, else in double quotes.
pub fn quoted(text: &str) -> String {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | '/'))
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !text.ends_with(' ')
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if plain {
        return text.to_owned();
    }
    // A JSON string is a YAML one, except for characters that YAML treats as line breaks or does not allow.
    let mut out = String::new();
    for c in serde_json::Value::from(text).to_string().chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

/// More open brackets than this are refused: the parser's time grows with their square.
const MAX_DEPTH: usize = 64;

/// The state of a scan between two lines.
#[derive(Default)]
struct State {
    /// The quote that is open.
    quote: Option<char>,
    /// The indentation of the line whose block scalar (`|`, `>`) continues.
    block: Option<usize>,
    /// Open flow brackets.
    depth: usize,
}

/// What a scan of a line found.
#[derive(Default)]
struct Line {
    /// `&` or `*` where a value begins.
    mark: Option<char>,
    /// Where a comment begins, in bytes.
    comment: Option<usize>,
}

fn indent(text: &str) -> usize {
    text.len() - text.trim_start_matches(' ').len()
}

fn ended(line: &str) -> &str {
    line.trim_end_matches('\n').trim_end_matches('\r')
}

impl State {
    /// Whether the line belongs to a value that began on an earlier one.
    fn goes_on(&mut self, text: &str) -> bool {
        match self.block {
            Some(key) if text.trim().is_empty() || indent(text) > key => true,
            Some(_) => {
                self.block = None;
                false
            }
            None => self.quote.is_some() || self.depth > 0,
        }
    }

    fn walk(&mut self, text: &str) -> Line {
        let mut found = Line::default();
        if self.block.is_some() {
            return found;
        }
        let mut chars = text.char_indices().peekable();
        let (mut value, mut space, mut unquoted) = (true, true, false);
        while let Some((at, c)) = chars.next() {
            let next = chars.peek().map(|(_, c)| *c);
            let alone = next.is_none_or(char::is_whitespace);
            if let Some(quote) = self.quote {
                match c {
                    '\\' if quote == '"' => drop(chars.next()),
                    '\'' if quote == '\'' && next == Some('\'') => drop(chars.next()),
                    c if c == quote => {
                        self.quote = None;
                        (value, space, unquoted) = (false, false, true);
                    }
                    _ => {}
                }
                continue;
            }
            let after_quote = std::mem::take(&mut unquoted);
            if c.is_whitespace() {
                space = true;
                continue;
            }
            if c == '#' && space {
                found.comment = Some(at);
                break;
            }
            space = false;
            match c {
                '"' | '\'' if value => self.quote = Some(c),
                '&' | '*' if value && !alone => {
                    found.mark = Some(c);
                    return found;
                }
                '|' | '>' if value && self.depth == 0 => {
                    self.block = Some(indent(text));
                    value = false;
                }
                '!' if value => while chars.next_if(|(_, c)| !c.is_whitespace()).is_some() {},
                '[' | '{' if value || self.depth > 0 => {
                    self.depth += 1;
                    value = true;
                }
                ']' | '}' if self.depth > 0 => {
                    self.depth -= 1;
                    value = false;
                }
                ',' if self.depth > 0 => value = true,
                '-' | '?' if value && alone => {}
                ':' if alone || after_quote || self.depth > 0 => value = true,
                _ => value = false,
            }
        }
        found
    }
}

/// The name that a line at the left margin gives a value to, and where its colon is.
fn key(text: &str) -> Option<(&str, usize)> {
    if text.starts_with([' ', '\t', '#', '-']) {
        return None;
    }
    let colon = text.char_indices().find(|(i, c)| {
        *c == ':' && text.get(i + 1..).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
    })?;
    let name = text.get(..colon.0)?.trim();
    let bare = ['"', '\''].iter().find_map(|q| name.strip_prefix(*q)?.strip_suffix(*q)).unwrap_or(name);
    Some((bare, colon.0))
}

/// `name: **value**`, which is not YAML: what precedes the value, the value, what follows it.
fn emphasised(text: &str) -> Option<(&str, &str, &str)> {
    let (_, colon) = key(text)?;
    let rest = text.get(colon + 1..)?;
    let begin = text.len() - rest.trim_start().len();
    let whole = text.get(begin..)?;
    let mark = whole.chars().next().filter(|c| matches!(c, '*' | '`'))?;
    let value = whole.split_once(" #").map_or(whole, |(v, _)| v).trim_end();
    let wrapped = value.len() > 1 && value.ends_with(mark);
    wrapped.then_some((text.get(..begin)?, value, text.get(begin + value.len()..)?))
}

/// The front matter as the parser should see it: emphasised values in quotes. Fails on an anchor or alias.
pub(super) fn prepared(front: &str) -> Result<String, String> {
    let mut out = String::with_capacity(front.len());
    let mut state = State::default();
    for (n, line) in front.split_inclusive('\n').enumerate() {
        let text = ended(line);
        let inside = state.goes_on(text);
        if !inside && let Some((head, value, tail)) = emphasised(text) {
            out.push_str(&format!("{head}{}{tail}\n", quoted(value)));
            continue;
        }
        let mark = state.walk(text).mark;
        if state.depth > MAX_DEPTH {
            return Err(format!("line {}: more than {MAX_DEPTH} nested brackets", n + 2));
        }
        if let Some(mark) = mark {
            // The opening fence is line 1.
            return Err(format!("line {}: `{mark}` begins an anchor or alias; put the value in quotes", n + 2));
        }
        out.push_str(line);
    }
    Ok(out)
}

/// One entry of the front matter, its offsets in bytes.
pub(super) struct Entry<'a> {
    pub from: usize,
    pub to: usize,
    /// The name as written, with the colon.
    pub head: &'a str,
    /// The comment after the value, with the space before it.
    pub comment: &'a str,
    pub eol: &'a str,
}

/// The entry of a name at the left margin, with all lines of its value.
pub(super) fn entry<'a>(front: &'a str, name: &str) -> Option<Entry<'a>> {
    let mut state = State::default();
    let mut found: Option<Entry<'a>> = None;
    let mut at = 0;
    for line in front.split_inclusive('\n') {
        let text = ended(line);
        let from = at;
        at += line.len();
        if let Some(entry) = &mut found {
            if text.trim().is_empty() {
                continue;
            }
            let inside = state.goes_on(text);
            state.walk(text);
            if inside || (text.starts_with([' ', '\t', '-']) && !text.trim_start().starts_with('#')) {
                entry.to = at;
            } else if !text.trim_start().starts_with('#') {
                return found;
            }
            continue;
        }
        let inside = state.goes_on(text);
        let here = if inside { None } else { key(text).filter(|(n, _)| *n == name) };
        // An emphasised value is not an alias and opens nothing.
        let comment = match emphasised(text).filter(|_| !inside) {
            Some((_, _, tail)) => tail,
            None => {
                let comment = state.walk(text).comment;
                comment.and_then(|c| text.get(text.get(..c)?.trim_end().len()..)).unwrap_or("")
            }
        };
        if let Some((_, colon)) = here {
            let head = text.get(..=colon).unwrap_or(text);
            let comment = if comment.trim().is_empty() { "" } else { comment };
            found = Some(Entry { from, to: at, head, comment, eol: line.get(text.len()..).unwrap_or("\n") });
        }
    }
    found
}
