//! Takes known values out of what is logged (TRUST-4): each is written over by as many `*`, so that lengths, caps and
//! offsets stay.

use super::text::worth_hiding;
use std::borrow::Cow;
use std::ops::Range;
use zeroize::Zeroizing;

/// A stream without these values, also where one comes in two pieces.
pub struct Mask {
    values: Vec<Zeroizing<Vec<u8>>>,
    /// What may be the beginning of a value, until the rest of it comes.
    held: Vec<u8>,
}

impl Mask {
    pub fn new(values: &[String]) -> Self {
        let lines = worth_hiding(values.iter().map(String::as_str));
        let mut values: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        for line in lines {
            values.push(Zeroizing::new(line.as_bytes().to_vec()));
            // As it stands in an event's JSON.
            let escaped = Zeroizing::new(serde_json::to_string(line).unwrap_or_default());
            let inner = escaped.trim_start_matches('"').strip_suffix('"').unwrap_or_default();
            if inner != line && !inner.is_empty() {
                values.push(Zeroizing::new(inner.as_bytes().to_vec()));
            }
        }
        Self { values, held: Vec::new() }
    }

    /// The next piece. Nothing is copied where there is nothing to hide.
    pub fn pass<'b>(&mut self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        if self.values.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        for at in self.found(&all) {
            if let Some(place) = all.get_mut(at) {
                place.fill(b'*');
            }
        }
        let open = self.values.iter().map(|v| begun(&all, v)).max().unwrap_or(0);
        self.held = all.split_off(all.len() - open);
        Cow::Owned(all)
    }

    /// What was held back when the stream ended: a value that was cut is as secret as a whole one.
    pub fn rest(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        if held.len() < 4 { held } else { vec![b'*'; held.len()] }
    }

    /// The length of the longest value; `None`: there is nothing to hide.
    pub fn longest(&self) -> Option<usize> {
        self.values.iter().map(|v| v.len()).max()
    }

    /// Where values stand in a text.
    pub fn found(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut all = Vec::new();
        for v in &self.values {
            let Some(first) = v.first() else { continue };
            let mut from = 0;
            while let Some(at) = text.get(from..).and_then(|t| t.iter().position(|b| b == first)) {
                let at = from + at;
                if text.get(at..).is_some_and(|t| t.starts_with(v)) {
                    all.push(at..at + v.len());
                }
                from = at + 1;
            }
        }
        all
    }
}

/// How many bytes at the end of a text may be the beginning of a value.
fn begun(text: &[u8], value: &[u8]) -> usize {
    let most = value.len().saturating_sub(1).min(text.len());
    (1..=most).rev().find(|n| value.get(..*n).is_some_and(|start| text.ends_with(start))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mask(values: &[&str]) -> Mask {
        Mask::new(&values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>())
    }

    fn through(mut mask: Mask, pieces: &[&str]) -> String {
        let mut out = Vec::new();
        for piece in pieces {
            out.extend_from_slice(&mask.pass(piece.as_bytes()));
        }
        out.extend(mask.rest());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_value_in_two_pieces_is_hidden_and_its_beginning_waits_for_the_rest() {
        let mut m = mask(&["open sesame"]);
        assert_eq!(&*m.pass(b"say open"), b"say ");
        assert_eq!(&*m.pass(b" sesame now\n"), b"*********** now\n");
        assert_eq!(&*m.pass(b"the door is open"), b"the door is ");
        assert_eq!(&*m.pass(b"ed"), b"opened");
        assert_eq!(through(mask(&["open sesame"]), &["open ses"]), "********", "cut by the end");
        assert_eq!(through(mask(&["abcdef", "efghij"]), &["abcdefghij"]), "**********", "one across another");
        assert_eq!(through(mask(&["abc", ""]), &["abc"]), "abc", "too short to be one");
        let said = r#"{"text":"it is a\"b\\c here"}"#;
        assert_eq!(through(mask(&["a\"b\\c"]), &[said]), r#"{"text":"it is ******* here"}"#, "as JSON has it");
        assert_eq!(through(mask(&["line one\nline two\n"]), &["> line two <"]), "> ******** <");
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_comes_out(text in "[ab ]{0,40}", at in 0_usize..40, value in "[ab]{4,6}") {
            let at = at.min(text.len());
            let whole = through(mask(&[&value]), &[&text]);
            prop_assert!(!whole.contains(&value));
            prop_assert_eq!(whole.len(), text.len());
            let cut = through(mask(&[&value]), &[&text[..at], &text[at..]]);
            prop_assert!(!cut.contains(&value));
            prop_assert_eq!(cut.len(), text.len());
        }
    }
}
