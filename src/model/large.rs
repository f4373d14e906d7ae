//! Pointers of git-lfs: what a commit contains instead of a large file's content (BND-5).

use std::path::PathBuf;

/// git-lfs accepts nothing larger as a pointer.
pub const POINTER_BYTES: usize = 1024;
const FIRST: &str = "version https://git-lfs.github.com/spec/v1";
/// Names that git-lfs has had.
const NAMES: [&str; 3] = ["git-lfs", "hawser", "git-media"];

/// The content behind a pointer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer {
    /// SHA-256 in hex.
    oid: String,
    /// Bytes.
    size: u64,
}

/// Whether git-lfs could read these bytes as a pointer, in any form: with older names, further keys, blanks around it,
/// keys in another order. Such bytes never go through git-lfs as content: it would pass them on unchanged.
pub fn is_pointer(bytes: &[u8]) -> bool {
    let Some(text) = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= POINTER_BYTES) else { return false };
    let mut lines = text.lines().map(str::trim);
    let version = |line: &str| line.starts_with("version") && NAMES.iter().any(|name| line.contains(name));
    lines.clone().any(version) && lines.any(|line| line.starts_with("oid"))
}

impl Pointer {
    /// For a content with this digest (hex) and size. `None`: the digest is malformed.
    pub fn new(oid: &str, size: u64) -> Option<Self> {
        let hex = oid.len() == 64 && oid.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        hex.then(|| Self { oid: oid.to_owned(), size })
    }

    /// Reads a pointer in the only form that git-lfs writes today.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.lines();
        let (first, oid, size) = (lines.next()?, lines.next()?, lines.next()?);
        let found = Self::new(oid.strip_prefix("oid sha256:")?, size.strip_prefix("size ")?.parse().ok()?)?;
        (first == FIRST && found.text() == text).then_some(found)
    }

    pub fn oid(&self) -> &str {
        &self.oid
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// The pointer as a commit contains it; nothing for an empty content, as git-lfs does.
    pub fn text(&self) -> String {
        if self.size == 0 {
            return String::new();
        }
        format!("{FIRST}\noid sha256:{}\nsize {}\n", self.oid, self.size)
    }

    /// Where git-lfs stores the content, below its `lfs` folder.
    pub fn place(&self) -> PathBuf {
        let part = |at: usize| self.oid.get(at..at + 2).unwrap_or_default();
        ["objects", part(0), part(2), &self.oid].iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_read_in_one_form_and_known_in_every_other() {
        let oid = "ab".repeat(32);
        let pointer = Pointer::new(&oid, 12).unwrap();
        let text = pointer.text();
        assert_eq!(Pointer::read(text.as_bytes()), Some(pointer.clone()));
        assert_eq!(pointer.place(), PathBuf::from(format!("objects/ab/ab/{oid}")));
        assert_eq!((pointer.oid(), pointer.size()), (oid.as_str(), 12));
        assert!(is_pointer(text.as_bytes()));
        let others = [
            format!("{text}\n"),
            format!("\n{text}"),
            text.replace('\n', "\r\n"),
            text.replace("git-lfs.github.com/spec/v1", "hawser.github.com/spec/v1"),
            text.replace("https://git-lfs.github.com/spec/v1", "http://git-media.io/v/2"),
            text.replace("oid", "ext-0-foo sha256:00\noid"),
            format!("oid sha256:{oid}\n{FIRST}\nsize 12\n"),
        ];
        for other in &others {
            assert!(is_pointer(other.as_bytes()) && Pointer::read(other.as_bytes()).is_none(), "{other}");
        }
        for none in ["", "a text\n", "version 1\noid 2\n", FIRST, &format!("{text}{}", "x".repeat(POINTER_BYTES))] {
            assert!(!is_pointer(none.as_bytes()) && Pointer::read(none.as_bytes()).is_none(), "{none}");
        }
        assert!(!is_pointer(b"\xff version git-lfs\noid"));
        for bad in ["", "AB", &"AB".repeat(32), &format!("../{}", "a".repeat(61))] {
            assert_eq!(Pointer::new(bad, 1), None, "{bad}");
        }
    }
}
