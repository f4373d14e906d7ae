//! The types of single settings: read from the file or a variable, and shown.

use super::types::Scope;
use crate::model::card::Locale;
use crate::model::reading;
use crate::model::scan::Severity;
use serde::de::{self, Deserializer, Visitor};
use std::fmt;
use std::path::PathBuf;

/// A value that fits on one line: in the file, in a variable, in `config show`.
pub trait Scalar: Sized {
    /// What is expected, for an error message.
    fn expected() -> String;
    /// Parses a variable's text (never empty). `None`: invalid.
    fn parse(text: &str) -> Option<Self>;
    /// The value as it would be written in a variable.
    fn show(&self) -> String;
    /// Whether a value from the file is valid (its type already is).
    fn holds(&self) -> bool {
        true
    }
}

impl Scalar for bool {
    fn expected() -> String {
        "true or false".into()
    }
    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! whole {
    ($($ty:ty),*) => {$(
        impl Scalar for $ty {
            fn expected() -> String {
                super::error::NUMBER.into()
            }
            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
whole!(u32, u64);

impl Scalar for f64 {
    fn expected() -> String {
        "a number, 0 or more".into()
    }
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(Self::holds)
    }
    fn holds(&self) -> bool {
        self.is_finite() && *self >= 0.0
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Scalar for String {
    fn expected() -> String {
        "a text".into()
    }
    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
    fn show(&self) -> String {
        self.clone()
    }
}

impl Scalar for PathBuf {
    fn expected() -> String {
        "a path".into()
    }
    fn parse(text: &str) -> Option<Self> {
        Some(text.into())
    }
    fn show(&self) -> String {
        self.display().to_string()
    }
}

/// A number that is none at 0.
impl Scalar for Option<i64> {
    fn expected() -> String {
        super::error::NUMBER.into()
    }
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|n| *n >= 0).map(Some)
    }
    fn show(&self) -> String {
        self.unwrap_or(0).to_string()
    }
}

/// Has no variable.
impl Scalar for Vec<i64> {
    fn expected() -> String {
        "a list of numbers".into()
    }
    fn parse(_: &str) -> Option<Self> {
        None
    }
    fn show(&self) -> String {
        String::new()
    }
}

/// A text that may be written as a number (`chat_id: -100123`, `memory_max: 4294967296`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text(pub String);

impl schemars::JsonSchema for Text {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Text".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        reading::loose_schema(generator)
    }
}

impl<'de> de::Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        reading::loose(from).map(Self)
    }
}

impl serde::Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl Scalar for Text {
    fn expected() -> String {
        String::expected()
    }
    fn parse(text: &str) -> Option<Self> {
        Some(Self(text.to_owned()))
    }
    fn show(&self) -> String {
        self.0.clone()
    }
}

impl Scalar for Scope {
    fn expected() -> String {
        "repository names separated by commas, or *".into()
    }
    fn parse(text: &str) -> Option<Self> {
        Some(Self::of(text.split(',')))
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl<'de> de::Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct CsvOrList;
        impl<'de> Visitor<'de> for CsvOrList {
            type Value = Scope;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("repository names as a list or separated by commas, or \"*\"")
            }
            fn visit_str<E>(self, v: &str) -> Result<Scope, E> {
                Ok(Scope::of(v.split(',')))
            }
            fn visit_unit<E>(self) -> Result<Scope, E> {
                Ok(Scope::SelfHosting)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Scope, A::Error> {
                let mut names: Vec<String> = Vec::new();
                while let Some(name) = seq.next_element()? {
                    names.push(name);
                }
                Ok(Scope::of(names.iter().map(String::as_str)))
            }
        }
        from.deserialize_any(CsvOrList)
    }
}

impl schemars::JsonSchema for Scope {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Scope".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "Repositories, as a list or separated by commas; empty: the self-hosting ones; *: all",
            "oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
        })
    }
}

/// `k` failures among the last `m` probes, `[k, m]`; off where absent or `k` is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct KofM(#[serde(deserialize_with = "pair")] pub [u32; 2]);

fn pair<'de, D: Deserializer<'de>>(from: D) -> Result<[u32; 2], D::Error> {
    let pair = <[u32; 2] as de::Deserialize>::deserialize(from)?;
    match KofM(pair).holds() {
        true => Ok(pair),
        false => Err(de::Error::custom(format!("is {}, expected {}", KofM(pair).show(), KofM::expected()))),
    }
}

impl KofM {
    /// `None`: this rule is off.
    pub fn get(self) -> Option<(u32, u32)> {
        (self.0[0] > 0).then_some((self.0[0], self.0[1]))
    }
}

impl Scalar for KofM {
    fn expected() -> String {
        "two whole numbers k,m such as 4,10, k at most m".into()
    }
    fn holds(&self) -> bool {
        self.0[0] <= self.0[1]
    }
    fn parse(text: &str) -> Option<Self> {
        let (k, m) = text.split_once(',')?;
        Some(Self([k.trim().parse().ok()?, m.trim().parse().ok()?])).filter(Self::holds)
    }
    fn show(&self) -> String {
        if self.0 == [0, 0] { String::new() } else { format!("{},{}", self.0[0], self.0[1]) }
    }
}

macro_rules! by_word {
    ($($ty:ty),*) => {$(
        impl Scalar for $ty {
            fn expected() -> String {
                super::read::alternatives(&<$ty>::ALL.iter().map(|w| w.as_str()).collect::<Vec<_>>())
            }
            fn parse(text: &str) -> Option<Self> {
                <$ty>::parse(&text.to_ascii_lowercase())
            }
            fn show(&self) -> String {
                self.as_str().to_owned()
            }
        }
    )*};
}
by_word!(
    crate::model::act::AuditAnchor,
    super::types::ExecutorKind,
    super::types::TrackerMode,
    super::types::DegradedAction,
    super::confine::NetworkWord,
    crate::model::confine::Mode,
    crate::model::confine::Choice,
    Locale
);

impl Scalar for Severity {
    fn expected() -> String {
        "low, medium, high or critical".into()
    }
    fn parse(text: &str) -> Option<Self> {
        Self::parse(&text.to_ascii_lowercase()).filter(Scalar::holds)
    }
    fn show(&self) -> String {
        self.as_str().to_owned()
    }
    fn holds(&self) -> bool {
        *self != Self::Unknown
    }
}
