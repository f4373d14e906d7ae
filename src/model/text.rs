//! Small things about text.

/// The longest beginning of at most `max` bytes that ends at a character.
pub fn beginning(text: &str, max: usize) -> &str {
    let mut at = max.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    text.get(..at).unwrap_or("")
}

/// Whether a character would steer whoever shows it instead of being shown: a control character, or one that turns the
/// direction of the text around it (a title could make a line read as another).
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with a blank for each character that steers: one line, nothing cut.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if steers(c) { ' ' } else { c }).collect()
}

/// The text on one line without what steers, at most `most` characters, the last a `…` where something was cut.
pub fn clip(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|c| !steers(*c)).collect();
    if line.chars().count() <= most {
        return line;
    }
    line.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// A text without these values, line by line: what a command wrote may echo the secrets it was given. Values of fewer than
/// four characters are left, since they stand everywhere.
pub fn without<'a>(text: &str, values: impl IntoIterator<Item = &'a str>) -> String {
    let mut lines: Vec<&str> =
        values.into_iter().flat_map(str::lines).map(str::trim).filter(|l| l.len() >= 4).collect();
    // The longest first: one that holds another would else keep its rest.
    lines.sort_by_key(|line| std::cmp::Reverse(line.len()));
    lines.into_iter().fold(text.to_owned(), |text, line| text.replace(line, "***"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_text_can_not_steer_whoever_shows_it() {
        assert_eq!(clip("a\n\u{1b}[31m\u{202e}b\u{2066}c", 40), "a [31mbc");
        assert_eq!(one_line("a\u{202e}b\tc"), "a b c");
        assert_eq!(clip("äöüß", 3), "äö…");
        assert_eq!(clip("👩\u{200d}🔧", 9), "👩\u{200d}🔧", "a joined picture stays one");
    }

    #[test]
    fn a_value_that_holds_another_leaves_nothing_behind() {
        assert_eq!(without("with open-sesame-now", ["sesame", "open-sesame-now"]), "with ***");
        assert_eq!(without("a one-time word, 123", ["one-time word\n", "123"]), "a ***, 123");
    }

    #[test]
    fn a_beginning_ends_at_a_character() {
        assert_eq!(beginning("aäb", 2), "a");
        assert_eq!(beginning("aäb", 3), "aä");
        assert_eq!(beginning("ä", 0), "");
        assert_eq!(beginning("ä", 9), "ä");
    }
}
