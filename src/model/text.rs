//! Small things about text.

/// The longest beginning of at most `max` bytes that ends at a character.
pub fn beginning(text: &str, max: usize) -> &str {
    let mut at = max.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    text.get(..at).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_ends_at_a_character() {
        assert_eq!(beginning("aäb", 2), "a");
        assert_eq!(beginning("aäb", 3), "aä");
        assert_eq!(beginning("ä", 0), "");
        assert_eq!(beginning("ä", 9), "ä");
    }
}
