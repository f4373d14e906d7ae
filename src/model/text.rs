//! Small things about text.

/// The longest prefix of at most `max` bytes that ends at a character boundary.
pub fn beginning(text: &str, max: usize) -> &str {
    let mut at = max.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    text.get(..at).unwrap_or("")
}

/// Whether a character would control a display instead of being shown: a control character, or one that changes the
/// direction of the text around it (a title could make a line read as another).
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with each controlling or invisible character spelled out as `<U+202E>`; line ends and tabs stay. For texts
/// that a person reads before deciding, where leaving something out would hide that it was there (ORD-5).
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.replace("\r\n", "\n").chars() {
        let invisible = matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{ad}' | '\u{e0000}'..='\u{e007f}');
        if c != '\n' && c != '\t' && (steers(c) || invisible) {
            out.push_str(&format!("<U+{:04X}>", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

/// A foreign text as one line that hides nothing and addresses nobody: controlling or invisible characters are spelled
/// out, and whatever chats and boards would turn into a mention or a link is broken up (ORD-5).
pub fn defused(text: &str) -> String {
    let line = visible(text).split_whitespace().collect::<Vec<_>>().join(" ");
    let mut out = String::with_capacity(line.len());
    let mut rest = line.as_str();
    while let Some(c) = rest.chars().next() {
        let taken = ["://", "www.", "WWW."].into_iter().find(|mark| rest.starts_with(mark));
        let taken = match (taken, c) {
            (Some("://"), _) => {
                out.push_str("[:]//");
                3
            }
            (Some(www), _) => {
                out.push_str(www.trim_end_matches('.'));
                out.push_str("[.]");
                4
            }
            (None, '@') => {
                out.push_str("(at)");
                1
            }
            (None, c) => {
                out.push(c);
                c.len_utf8()
            }
        };
        rest = rest.get(taken..).unwrap_or("");
    }
    out
}

/// The text with a blank for each controlling character: one line, nothing cut.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if steers(c) { ' ' } else { c }).collect()
}

/// The text without terminal sequences (colours, titles, links): the rest of one that lacks its escape character is
/// noise to a reader.
pub fn unpainted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\u{1b}', Some('[')) => {
                // Parameters, then one letter or sign. A sequence that never ends is cut at the end of the line.
                chars.next();
                while chars.next_if(|c| matches!(c, ' '..='?')).is_some() {}
                chars.next_if(|c| matches!(c, '@'..='~'));
            }
            ('\u{1b}', Some(']')) => {
                while chars.next_if(|c| !matches!(c, '\u{7}' | '\u{1b}' | '\n')).is_some() {}
                if chars.next() == Some('\u{1b}') {
                    chars.next_if_eq(&'\\');
                }
            }
            _ => out.push(c),
        }
    }
    out
}

/// The text on one line without controlling characters, at most `most` characters; a final `…` marks a cut.
pub fn clip(text: &str, most: usize) -> String {
    let text = if text.contains('\u{1b}') { &unpainted(text) } else { text };
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|c| !steers(*c)).collect();
    if line.chars().count() <= most {
        return line;
    }
    line.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// The nearest of some words, if one is near at all.
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        .map(|word| (strsim::jaro_winkler(&unknown.to_ascii_lowercase(), &word.to_ascii_lowercase()), word))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word.to_owned())
}

/// Sixteen digits that change with any of the texts.
pub fn digest(parts: &[&str]) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_text_can_not_steer_whoever_shows_it() {
        assert_eq!(clip("a\n\u{1b}[31m\u{202e}b\u{2066}c", 40), "a bc");
        assert_eq!(clip("\u{1b}[1mApache Maven\u{1b}[m 3", 40), "Apache Maven 3");
        assert_eq!(clip("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{7} \u{1b}]open\nnext \u{1b}[", 40), "link next");
        assert_eq!(one_line("a\u{202e}b\tc"), "a b c");
        assert_eq!(clip("äöüß", 3), "äö…");
        assert_eq!(clip("👩\u{200d}🔧", 9), "👩\u{200d}🔧", "a joined picture stays one");
    }

    #[test]
    fn what_is_read_before_a_decision_hides_nothing() {
        assert_eq!(visible("a\tb\r\nc\n"), "a\tb\nc\n");
        assert_eq!(visible("\u{1b}[2Jx\u{202e}y\u{200b}z\r"), "<U+001B>[2Jx<U+202E>y<U+200B>z<U+000D>");
        assert_eq!(visible("\u{e0041}ä👩"), "<U+E0041>ä👩");
    }

    #[test]
    fn a_quoted_text_mentions_nobody_links_nowhere_and_hides_nothing() {
        assert_eq!(defused("ask @ann\nat https://x.y"), "ask (at)ann at https[:]//x.y");
        assert_eq!(defused("www.x.y \u{202e}ä\u{200b}"), "www[.]x.y <U+202E>ä<U+200B>");
        assert_eq!(defused(""), "");
    }

    #[test]
    fn a_beginning_ends_at_a_character() {
        assert_eq!(beginning("aäb", 2), "a");
        assert_eq!(beginning("aäb", 3), "aä");
        assert_eq!(beginning("ä", 0), "");
        assert_eq!(beginning("ä", 9), "ä");
    }
}
