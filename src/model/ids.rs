//! Newtypes for names of a fixed shape: work-item keys, commit ids, row ids.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A work item's key, `PREFIX-NNN` (TRUST-3: `[A-Z][A-Z0-9]{0,9}-[1-9][0-9]{0,8}`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

/// Why a text is no key, commit id or other name. The message names the text and the expected shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct BadName {
    pub text: String,
    pub expected: &'static str,
}

impl Key {
    /// Reads a key in any letter case (CLI-5). Fails with the expected shape.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let upper = text.trim().to_ascii_uppercase();
        let bad = || BadName { text: text.chars().take(80).collect(), expected: "a work-item key such as ORCH-17" };
        let (prefix, number) = upper.split_once('-').ok_or_else(bad)?;
        if !is_prefix(prefix) {
            return Err(bad());
        }
        let digits = number.as_bytes();
        let fits = (1..=9).contains(&digits.len()) && digits[0] != b'0' && digits.iter().all(u8::is_ascii_digit);
        if fits { Ok(Self(upper)) } else { Err(bad()) }
    }

    /// `ORCH` of `ORCH-17`.
    pub fn prefix(&self) -> &str {
        self.0.split_once('-').map_or("", |(p, _)| p)
    }

    /// `17` of `ORCH-17`.
    pub fn number(&self) -> u64 {
        self.0.split_once('-').and_then(|(_, n)| n.parse().ok()).unwrap_or(0)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a text can be a project's key prefix: `[A-Z][A-Z0-9]{0,9}`.
pub fn is_prefix(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=10).contains(&bytes.len())
        && bytes[0].is_ascii_uppercase()
        && bytes.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Key {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        Self::parse(&text)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

/// A full git object id (SHA-1 or SHA-256, lower-case hex).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha(String);

impl Sha {
    /// Reads a full object id; an abbreviation is refused.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let text = text.trim();
        let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if hex && (text.len() == 40 || text.len() == 64) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName { text: text.chars().take(80).collect(), expected: "a full commit id" })
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first ten digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..10]
    }
}

impl fmt::Display for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Sha {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        Self::parse(&text)
    }
}

impl From<Sha> for String {
    fn from(sha: Sha) -> Self {
        sha.0
    }
}

macro_rules! row_id {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

row_id! {
    /// A task's row id: never reused (RULE-9), unlike a work item's key, which comes back after STOP.
    TaskId,
    /// A queue entry's row id.
    JobId,
    /// One execution of an agent or reserved job.
    RunId,
}

/// A branch name made of prefix, key and slug: valid for `git check-ref-format`, at most 100 bytes (TRUST-3).
/// `round` is 1 for a work item's first task; later ones get `-2`, `-3` (RULE-9).
pub fn branch_name(prefix: &str, key: &Key, title: &str, round: u32) -> String {
    let mut name = format!("{prefix}{key}");
    let mut slug = String::new();
    for c in title.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let tail = if round > 1 { format!("-{round}") } else { String::new() };
    let room = 100_usize.saturating_sub(name.len() + tail.len() + 1);
    let slug: String = slug.chars().take(room.min(48)).collect();
    let slug = slug.trim_matches('-');
    if !slug.is_empty() {
        name.push('-');
        name.push_str(slug);
    }
    name.push_str(&tail);
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_read_in_any_case_and_hold_their_shape() {
        assert_eq!(Key::parse(" orch-17 ").unwrap().as_str(), "ORCH-17");
        for bad in ["", "ORCH", "ORCH-0", "ORCH-07", "1A-1", "ORCH-1234567890", "ABCDEFGHIJK-1", "A-1/../..", "Ä-1"] {
            assert!(Key::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_abbreviated_commit_is_refused() {
        assert!(Sha::parse("abc123").is_err());
        assert!(Sha::parse(&"a".repeat(40)).is_ok());
        assert!(Sha::parse(&"G".repeat(40)).is_err());
    }

    proptest! {
        #[test]
        fn branch_names_are_short_and_plain(title in "\\PC{0,200}", round in 1u32..20) {
            let name = branch_name("feature/", &Key::parse("ORCH-999999999").unwrap(), &title, round);
            prop_assert!(name.len() <= 100);
            prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'/'));
            prop_assert!(!name.ends_with('-') && !name.contains("--"));
        }
    }
}
