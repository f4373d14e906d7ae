//! Cuts a content into pieces that the scanner reads whole. It reads a file in blocks of 100,000 bytes and drops what
//! follows if no blank line ends a block, so that it misses a secret across its own cut, or far behind one.

use std::ops::Range;

/// Most bytes of one piece, safely below the scanner's block.
pub(super) const PIECE: usize = 96_000;
/// Overlap of two neighbours: longer than any match of a rule with a bounded length. [`key_blocks`] handles the one
/// built-in rule without a bound, for key blocks.
pub(super) const OVERLAP: usize = 32_000;
/// How much of a long key block is kept at either end.
const BLOCK_ENDS: usize = 400;
/// Longest opening line of a key block.
const OPENING: usize = 140;

/// The ranges of the pieces, in order. They cover everything, and each run of [`OVERLAP`] bytes is whole in one of
/// them. A cut within base64 or hexadecimal text falls on a multiple of four, so that each piece decodes like the
/// whole.
pub(super) fn cuts(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut start = 0_usize;
    let (mut cursor, mut run) = (0_usize, 0_usize);
    loop {
        let end = start.saturating_add(PIECE).min(bytes.len());
        out.push(start..end);
        if end == bytes.len() {
            return out;
        }
        let next = end.saturating_sub(OVERLAP);
        if let Some(last) = bytes.get(cursor..next).and_then(|part| part.iter().rposition(|b| !encoded(*b))) {
            run = cursor + last + 1;
        }
        cursor = next;
        start = next - (next - run) % 4;
    }
}

fn encoded(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')
}

/// A key block longer than the overlap, in a form that the scanner can read: both ends of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KeyBlock {
    /// Where the block begins.
    pub start: usize,
    pub text: Vec<u8>,
}

/// The long key blocks of a content. The scanner's rule for them (`BEGIN … KEY` to the next `KEY-----`) has no bound.
pub(super) fn key_blocks(bytes: &[u8]) -> Vec<KeyBlock> {
    if bytes.len() <= PIECE {
        return Vec::new();
    }
    let ends: Vec<usize> = closings(bytes);
    let mut out = Vec::new();
    for at in openings(bytes) {
        // The opening line ends in a closing mark of its own.
        let own = ends.get(ends.partition_point(|e| *e <= at)).copied();
        let Some(own) = own.filter(|e| *e - at <= OPENING) else { continue };
        let next = ends.partition_point(|e| *e < own.saturating_add(64));
        let Some(end) = ends.get(next).copied().filter(|e| *e - at > OVERLAP) else { continue };
        let mut text = bytes.get(at..own.saturating_add(BLOCK_ENDS).min(end)).unwrap_or_default().to_vec();
        text.extend_from_slice(bytes.get(end.saturating_sub(BLOCK_ENDS).max(own)..end).unwrap_or_default());
        out.push(KeyBlock { start: at, text });
    }
    out
}

fn is_at(bytes: &[u8], at: usize, word: &[u8]) -> bool {
    bytes.get(at..at.saturating_add(word.len())).is_some_and(|found| found.eq_ignore_ascii_case(word))
}

/// The positions of `-----BEGIN`.
fn openings(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    (0..bytes.len()).filter(|at| bytes.get(*at) == Some(&b'-') && is_at(bytes, *at, b"-----BEGIN"))
}

/// The positions right after each `KEY-----` and `KEY BLOCK-----`, ascending.
fn closings(bytes: &[u8]) -> Vec<usize> {
    let key = |at: &usize| bytes.get(*at).is_some_and(|b| b.eq_ignore_ascii_case(&b'k'));
    let words: [&[u8]; 2] = [b"KEY-----", b"KEY BLOCK-----"];
    (0..bytes.len())
        .filter(key)
        .filter_map(|at| words.iter().find(|w| is_at(bytes, at, w)).map(|w| at.saturating_add(w.len())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole_in_one(cuts: &[Range<usize>], part: &Range<usize>) -> bool {
        cuts.iter().any(|c| c.start <= part.start && part.end <= c.end)
    }

    #[test]
    fn a_small_content_is_one_piece_and_an_empty_one_too() {
        assert_eq!(cuts(b""), vec![0..0]);
        assert_eq!(cuts(&[b'x'; PIECE]), vec![0..PIECE]);
        assert_eq!(cuts(&[b'x'; PIECE + 1]).len(), 2);
    }

    #[test]
    fn a_key_block_of_any_length_is_given_with_both_its_ends() {
        let (dashes, key) = ("-".repeat(5), "PRIVATE KEY");
        for filler in ["\n".repeat(300_000), "A".repeat(120_000), "QUJD\n".repeat(50_000)] {
            let text =
                format!("x\n{dashes}BEGIN RSA {key}{dashes}\nMIIEow{filler}zzz\n{dashes}END RSA {key}{dashes}\n");
            let found = key_blocks(text.as_bytes());
            let given = String::from_utf8(found[0].text.clone()).unwrap();
            assert_eq!((found.len(), found[0].start), (1, 2));
            assert!(given.starts_with(&format!("{dashes}BEGIN RSA")) && given.ends_with(&format!("{key}{dashes}")));
            assert!(given.len() < 2_000 && given.contains("MIIEow"), "{}", given.len());
        }
        let short =
            format!("{}{dashes}BEGIN {key}{dashes}\n{}\n{dashes}END {key}{dashes}", "x".repeat(PIECE), "A".repeat(900));
        assert_eq!(key_blocks(short.as_bytes()), vec![], "it lies whole in one piece");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_run_as_long_as_the_overlap_lies_whole_in_one_piece(
            length in 0_usize..400_000, offset in any::<prop::sample::Index>(),
            size in 1_usize..=OVERLAP, space in 1_usize..5_000,
        ) {
            let bytes: Vec<u8> = (0..length).map(|n| if n % space == 0 { b' ' } else { b'A' }).collect();
            let cuts = cuts(&bytes);
            prop_assert!(cuts.iter().all(|c| c.len() <= PIECE));
            prop_assert_eq!(cuts.first().map(|c| c.start), Some(0));
            prop_assert_eq!(cuts.last().map(|c| c.end), Some(length));
            let size = size.min(length);
            let start = if length == size { 0 } else { offset.index(length - size) };
            prop_assert!(whole_in_one(&cuts, &(start..start + size)), "{start} {size} {cuts:?}");
        }

        #[test]
        fn a_cut_within_encoded_text_keeps_its_groups_of_four(length in PIECE..400_000, space in 1_usize..120_000) {
            let bytes: Vec<u8> = (0..length).map(|n| if n % space == 0 { b'\n' } else { b'Q' }).collect();
            for cut in cuts(&bytes).iter().skip(1) {
                let run = bytes[..cut.start].iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
                prop_assert_eq!((cut.start - run) % 4, 0);
            }
        }

        #[test]
        fn any_bytes_have_pieces(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = cuts(&bytes);
            let mut long = vec![b'-'; PIECE];
            long.extend(bytes);
            let _ = key_blocks(&long);
        }
    }
}
