//! The one redactor (BND-4): it knows every configured secret, in the forms in which programs write one, and everything
//! that a child or a service said passes it before it is stored or shown. It can't find what is split, reversed or
//! encrypted.

mod forms;
mod known;

pub use known::{Secrets, configure, current, learn};

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use zeroize::Zeroizing;

pub use forms::LEAST;
/// Words of the filter: 2^16 bits.
const FILTER: usize = 1 << 10;
/// At the end of a stream, the beginning of a secret counts as a cut secret from this length on.
const CUT: usize = 4;

/// The secrets to search for. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Redactor(Arc<Patterns>);

#[derive(Default)]
struct Patterns {
    /// Every form of every secret, sorted, with the number of its name.
    all: Vec<(Zeroizing<Vec<u8>>, usize)>,
    names: Vec<String>,
    /// Which entries of `all` begin with the same eight bytes: with this, one pass over a text is enough, however many
    /// secrets there are.
    heads: HashMap<u64, Range<usize>>,
    /// A bit for each head's hash: it skips nearly every place of a text.
    filter: Vec<u64>,
    longest: usize,
}

impl std::fmt::Debug for Redactor {
    /// Names only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Redactor").field(&self.0.names).finish()
    }
}

/// Part of a text that contains a secret.
struct Hit {
    at: Range<usize>,
    /// The name of the longest secret in it, and that one's length.
    name: usize,
    length: usize,
}

impl Redactor {
    /// From names and values. A value of several lines is several secrets; lines of fewer than [`LEAST`] bytes are not
    /// secrets.
    pub fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut names: Vec<String> = Vec::new();
        let mut all: Vec<(Zeroizing<Vec<u8>>, usize)> = Vec::new();
        for (name, value) in secrets {
            let label = printable(name);
            let number = names.iter().position(|n| *n == label).unwrap_or_else(|| {
                names.push(label);
                names.len() - 1
            });
            for line in value.lines().map(str::trim).filter(|line| line.len() >= LEAST) {
                all.extend(forms::of(line).into_iter().map(|form| (form, number)));
            }
        }
        // Of two with the same form, the first gives the name.
        all.sort_by(|(a, _), (b, _)| a.as_slice().cmp(b));
        all.dedup_by(|(b, _), (a, _)| a == b);
        let mut heads: HashMap<u64, Range<usize>> = HashMap::new();
        let mut filter = vec![0; FILTER];
        for (n, (pattern, _)) in all.iter().enumerate() {
            if let Some(head) = head(pattern) {
                heads.entry(head).or_insert(n..n).end = n + 1;
                let (word, bit) = place(head);
                if let Some(word) = filter.get_mut(word) {
                    *word |= bit;
                }
            }
        }
        let longest = all.iter().map(|(p, _)| p.len()).max().unwrap_or(0);
        Self(Arc::new(Patterns { all, names, heads, filter, longest }))
    }

    /// Whether there is nothing to search for.
    pub fn is_empty(&self) -> bool {
        self.0.all.is_empty()
    }

    /// The text with each secret as `[secret: NAME]`.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            // Whole secrets and the text between them: patterns are of whole characters or of ASCII alone.
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// As [`Self::text`], for bytes.
    pub fn bytes<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        let hits = self.hits(text, 0);
        if hits.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut out = Vec::with_capacity(text.len());
        self.write(&mut out, text, &hits, text.len(), false);
        Cow::Owned(out)
    }

    /// As [`Self::text`], for a text that was cut at either end: the remainder of a cut secret is removed, too.
    pub fn cut_text(&self, text: &str) -> String {
        let bytes = text.as_bytes();
        let ending = self.ended(bytes);
        let (mut out, from) = match ending {
            Some((length, name)) => (format!("[secret: {}]", self.name(name)).into_bytes(), length),
            None => (Vec::new(), 0),
        };
        let mut stream = self.stream();
        out.extend_from_slice(&stream.pass(bytes.get(from..).unwrap_or_default()));
        out.extend(stream.rest());
        String::from_utf8_lossy(&out).into_owned()
    }

    /// The length of a secret's end that the text begins with, and whose it is; not for a whole secret.
    fn ended(&self, text: &[u8]) -> Option<(usize, usize)> {
        let ends = self.0.all.iter().filter(|(p, _)| !text.starts_with(p)).filter_map(|(pattern, name)| {
            let lengths = CUT..pattern.len().min(text.len() + 1);
            let length =
                lengths.rev().find(|n| text.starts_with(pattern.get(pattern.len() - n..).unwrap_or(pattern)))?;
            Some((length, *name))
        });
        ends.max_by_key(|(length, _)| *length)
    }

    /// The name of a secret in the bytes.
    pub fn find(&self, text: &[u8]) -> Option<&str> {
        self.hits(text, 0).first().map(|hit| self.name(hit.name))
    }

    /// The names of all secrets in the bytes.
    pub fn names(&self, text: &[u8]) -> BTreeSet<&str> {
        self.hits(text, 0).iter().map(|hit| self.name(hit.name)).collect()
    }

    /// Where secrets are, and what to write over them where a file must keep its length.
    pub fn places(&self, text: &[u8]) -> Vec<(Range<usize>, Vec<u8>)> {
        let over = |hit: Hit| {
            let mut label = format!("[secret: {}]", self.name(hit.name)).into_bytes();
            label.resize(hit.at.len(), b'*');
            (hit.at, label)
        };
        self.hits(text, 0).into_iter().map(over).collect()
    }

    /// The length of the longest form.
    pub fn longest(&self) -> usize {
        self.0.longest
    }

    /// For text that arrives in pieces.
    pub fn stream(&self) -> Stream {
        Stream { known: self.clone(), held: Vec::new(), covered: 0 }
    }

    fn name(&self, number: usize) -> &str {
        self.0.names.get(number).map_or("", String::as_str)
    }

    /// Every place with a secret, in order, overlapping ones merged; the first `covered` bytes belong to one.
    fn hits(&self, text: &[u8], covered: usize) -> Vec<Hit> {
        let mut hits: Vec<Hit> = Vec::new();
        if covered > 0 {
            hits.push(Hit { at: 0..covered, name: 0, length: usize::MAX });
        }
        if self.is_empty() {
            return hits;
        }
        let mut rolling = 0_u64;
        for (end, byte) in text.iter().enumerate() {
            rolling = rolling << 8 | u64::from(*byte);
            let Some(start) = (end + 1).checked_sub(LEAST) else { continue };
            let (word, bit) = place(rolling);
            if self.0.filter.get(word).is_none_or(|w| w & bit == 0) {
                continue;
            }
            let Some(range) = self.0.heads.get(&rolling) else { continue };
            let Some((length, name)) = self.longest_at(range, text.get(start..).unwrap_or_default()) else { continue };
            match hits.last_mut().filter(|last| start < last.at.end) {
                Some(last) => {
                    last.at.end = last.at.end.max(start + length);
                    if length > last.length {
                        (last.name, last.length) = (name, length);
                    }
                }
                None => hits.push(Hit { at: start..start + length, name, length }),
            }
        }
        hits
    }

    /// The longest pattern of a range that the text begins with. It is the one just before the text in order, or else a
    /// pattern that shares no more with the text than that one does.
    fn longest_at(&self, range: &Range<usize>, text: &[u8]) -> Option<(usize, usize)> {
        let patterns = self.0.all.get(range.clone())?;
        let mut text = text;
        loop {
            let before = patterns.partition_point(|(p, _)| p.as_slice() <= text).checked_sub(1)?;
            let (pattern, name) = patterns.get(before)?;
            let common = pattern.iter().zip(text).take_while(|(a, b)| a == b).count();
            if common == pattern.len() {
                return Some((common, *name));
            }
            text = text.get(..common)?;
        }
    }

    /// Where the beginning of a secret whose rest is still to arrive may start in the text, and whose it is.
    fn begun(&self, text: &[u8]) -> Option<(usize, usize)> {
        let from = text.len().saturating_sub(self.0.longest.saturating_sub(1));
        (from..text.len()).find_map(|start| {
            let tail = text.get(start..)?;
            let range = match head(tail) {
                Some(head) => self.0.heads.get(&head)?.clone(),
                None => 0..self.0.all.len(),
            };
            let patterns = self.0.all.get(range)?;
            let (pattern, name) = patterns.get(patterns.partition_point(|(p, _)| p.as_slice() <= tail))?;
            pattern.starts_with(tail).then_some((start, *name))
        })
    }

    /// Writes `text` up to `cut` with labels for the hits; `labelled`: the first one's was written before. Returns how many
    /// bytes past the cut belong to a secret that was labelled.
    fn write(&self, out: &mut Vec<u8>, text: &[u8], hits: &[Hit], cut: usize, labelled: bool) -> usize {
        let (mut at, mut past) = (0, 0);
        for (n, hit) in hits.iter().enumerate().take_while(|(_, hit)| hit.at.start < cut) {
            out.extend_from_slice(text.get(at..hit.at.start).unwrap_or_default());
            if n > 0 || !labelled {
                out.extend_from_slice(format!("[secret: {}]", self.name(hit.name)).as_bytes());
            }
            at = hit.at.end.min(cut);
            past = hit.at.end.saturating_sub(cut);
        }
        out.extend_from_slice(text.get(at..cut).unwrap_or_default());
        past
    }
}

/// Where a head's bit is in the filter.
fn place(head: u64) -> (usize, u64) {
    let hash = head.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    (usize::try_from(hash >> 6).unwrap_or(0), 1 << (hash & 63))
}

/// The first eight bytes.
fn head(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|b| u64::from_be_bytes(*b))
}

/// A name that JSON, HTML and terminals show unescaped.
fn printable(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-/:".contains(c) { c } else { '_' };
    name.chars().map(plain).take(100).collect()
}

/// A text that arrives in pieces, with each secret replaced even where the pieces meet. Holds back no more than the
/// longest secret, and only what may become one.
pub struct Stream {
    known: Redactor,
    held: Vec<u8>,
    /// How many of the held bytes belong to a secret that was already replaced.
    covered: usize,
}

impl Stream {
    /// The next piece. Nothing is copied where there is nothing to hide.
    pub fn pass<'b>(&mut self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        if self.known.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        let hits = self.known.hits(&all, self.covered);
        let cut = self.known.begun(&all).map_or(all.len(), |(start, _)| start);
        let mut out = Vec::with_capacity(cut);
        // Labelled before, and ending beyond this cut as well: the label is not repeated.
        self.covered = self.known.write(&mut out, &all, &hits, cut, self.covered > 0);
        self.held = all.split_off(cut);
        Cow::Owned(out)
    }

    /// Whether something is held back.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// What was held back when the stream ended: a cut secret is as secret as a whole one.
    pub fn rest(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        let covered = std::mem::take(&mut self.covered);
        let mut hits = self.known.hits(&held, covered);
        let past = hits.last().map_or(0, |hit| hit.at.end);
        if let Some((start, name)) = self.known.begun(&held).filter(|(start, _)| held.len() - start >= CUT) {
            let length = held.len() - start;
            match hits.last_mut().filter(|_| start < past) {
                Some(last) => last.at.end = held.len(),
                None => hits.push(Hit { at: start..held.len(), name, length }),
            }
        }
        let mut out = Vec::new();
        self.known.write(&mut out, &held, &hits, held.len(), covered > 0);
        out
    }
}

#[cfg(test)]
mod tests;
