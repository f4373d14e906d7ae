//! Front matter, the machine contract between agents and gates (PIPE-6): the one place that reads and writes it. Every
//! gate, every scan and the local board use it. Pure; total on any bytes.
//!
//! [`read`] reads YAML; [`flat`] is the board's more lenient reading of one-line values that people type.

pub mod flat;
mod lex;
#[cfg(test)]
mod tests;

pub use lex::quoted;

use crate::yaml;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeSet;
use std::fmt;

/// Front matter larger than this is broken, in bytes between the fences.
pub const MAX_BYTES: usize = 64 << 10;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// A value. Numbers and booleans are texts, an empty value is the empty text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    Text(String),
    List(Vec<String>),
    /// A mapping, or a list of more than texts: readable, but no gate can use it.
    Nested,
}

impl From<&str> for Field {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A file with readable front matter: no name is twice in `fields`, the order is the file's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    pub fields: Vec<(String, Field)>,
    /// Everything after the closing fence's line, unchanged (bytes that are no UTF-8 are replaced).
    pub body: String,
}

impl Document {
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, f)| f)
    }

    /// The value of a field that is one text, trimmed; `None` for absent, empty, a list, a mapping.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.field(name) {
            Some(Field::Text(text)) => Some(text.trim()).filter(|t| !t.is_empty()),
            Some(Field::List(_) | Field::Nested) | None => None,
        }
    }

    /// A list, or a single text as a list of one; anything else is empty.
    pub fn list(&self, name: &str) -> Vec<String> {
        match self.field(name) {
            Some(Field::List(items)) => items.clone(),
            Some(Field::Text(text)) if !text.trim().is_empty() => vec![text.trim().to_owned()],
            Some(Field::Text(_) | Field::Nested) | None => Vec::new(),
        }
    }
}

/// What a file begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    Document(Document),
    /// The first line is not `---`.
    Absent,
    /// There is a fence, but what follows can't be used; with the reason.
    Broken(String),
}

/// Where the fences are, in bytes.
struct Fence {
    /// First byte after the opening line.
    from: usize,
    /// First byte of the closing line.
    close: usize,
    /// First byte after the closing line.
    body: usize,
}

/// Finds the fences; `Ok(None)` when the first line is not a fence.
fn fence(bytes: &[u8]) -> Result<Option<Fence>, String> {
    let mut at = if bytes.starts_with(BOM) { BOM.len() } else { 0 };
    let mut open = None;
    for line in bytes.get(at..).unwrap_or_default().split_inclusive(|b| *b == b'\n') {
        let begin = at;
        at += line.len();
        let is_fence = line.trim_ascii_end() == b"---";
        match open {
            None if is_fence => open = Some(at),
            None => return Ok(None),
            Some(from) if is_fence => return Ok(Some(Fence { from, close: begin, body: at })),
            Some(from) if at - from > MAX_BYTES => {
                return Err(format!(
                    "the front matter is longer than {MAX_BYTES} bytes, or its closing `---` is missing"
                ));
            }
            Some(_) => {}
        }
    }
    if open.is_some() { Err("the front matter has no closing `---` line".to_owned()) } else { Ok(None) }
}

/// The text between the fences.
fn between<'a>(bytes: &'a [u8], fence: &Fence) -> Result<&'a str, String> {
    std::str::from_utf8(bytes.get(fence.from..fence.close).unwrap_or_default())
        .map_err(|_| "the front matter is not UTF-8".to_owned())
}

/// Reads a file. A byte-order mark and CRLF are tolerated; anchors, aliases, tags and duplicate names are not. A value
/// wrapped in `*` or backticks (`verdict: **APPROVED**`), which is not YAML, is read as that text.
pub fn read(bytes: &[u8]) -> Read {
    let fence = match fence(bytes) {
        Ok(Some(fence)) => fence,
        Ok(None) => return Read::Absent,
        Err(why) => return Read::Broken(why),
    };
    match between(bytes, &fence).and_then(parse) {
        Ok(fields) => {
            let body = bytes.get(fence.body..).unwrap_or_default();
            Read::Document(Document { fields, body: String::from_utf8_lossy(body).into_owned() })
        }
        Err(why) => Read::Broken(why),
    }
}

fn parse(front: &str) -> Result<Vec<(String, Field)>, String> {
    if front.lines().all(|l| l.trim().is_empty() || l.trim_start().starts_with('#')) {
        return Ok(Vec::new());
    }
    // The line break replaces the opening fence, so that the parser's line numbers are the file's.
    let text = format!("\n{}", lex::prepared(front)?);
    yaml::from_str::<Top>(&text).map(|top| top.0).map_err(|e| {
        let why: String = e.to_string().chars().take(300).collect();
        format!("the front matter is no YAML mapping: {why}")
    })
}

/// The file with each name set to its text, everything else byte for byte as before: other lines, comments (also one
/// after a changed value), order, line ends, body. A missing name is added below the others; new front matter is put
/// before the text. Fails, naming why, on broken front matter and where the result would not read back as requested.
pub fn set(bytes: &[u8], pairs: &[(&str, &str)]) -> Result<Vec<u8>, String> {
    let before = match read(bytes) {
        Read::Document(doc) => doc.fields,
        Read::Absent => Vec::new(),
        Read::Broken(why) => return Err(why),
    };
    let mut out = bytes.to_vec();
    for (name, text) in pairs {
        out = put(&out, name, &quoted(text))?;
    }
    let doc = match read(&out) {
        Read::Document(doc) => doc,
        Read::Absent => return Err("the front matter would be lost".to_owned()),
        Read::Broken(why) => return Err(format!("setting it line by line would break it: {why}")),
    };
    let asked = |name: &str| pairs.iter().rev().find(|(n, _)| *n == name).map(|(_, text)| *text);
    for (name, text) in pairs {
        let want = asked(name).unwrap_or(text);
        if doc.field(name) != Some(&Field::from(want)) {
            return Err(format!("`{name}` can't be set line by line; put it on a line of its own"));
        }
    }
    match before.iter().find(|(n, f)| asked(n).is_none() && doc.field(n) != Some(f)) {
        Some((name, _)) => Err(format!("setting it line by line would change `{name}`")),
        None => Ok(out),
    }
}

/// Replaces or adds one line; `value` is YAML already. The result is not checked.
fn put(bytes: &[u8], name: &str, value: &str) -> Result<Vec<u8>, String> {
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if !is_name || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(format!("{name:?} is no name for a field (letters, digits, `_`, `-`)"));
    }
    let start = if bytes.starts_with(BOM) { BOM.len() } else { 0 };
    let first = bytes.iter().position(|b| *b == b'\n').and_then(|i| bytes.get(..=i)).unwrap_or_default();
    let eol = if first.ends_with(b"\r\n") { "\r\n" } else { "\n" };
    let splice = |from: usize, to: usize, text: &str| {
        let mut out = bytes.get(..from).unwrap_or_default().to_vec();
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(bytes.get(to..).unwrap_or_default());
        out
    };
    let Some(fence) = fence(bytes)? else {
        let gap = if bytes.len() > start { eol } else { "" };
        return Ok(splice(start, start, &format!("---{eol}{name}: {value}{eol}---{eol}{gap}")));
    };
    let front = between(bytes, &fence)?;
    Ok(match lex::entry(front, name) {
        Some(found) => {
            let line = format!("{} {value}{}{}", found.head, found.comment, found.eol);
            splice(fence.from + found.from, fence.from + found.to, &line)
        }
        None => splice(fence.close, fence.close, &format!("{name}: {value}{eol}")),
    })
}

/// A new file: front matter with the fields in the given order, an empty line, the body. Nested fields are left out.
pub fn write_new(fields: &[(&str, Field)], body: &str) -> String {
    let mut out = String::from("---\n");
    for (name, field) in fields {
        let value = match field {
            Field::Text(text) => quoted(text),
            Field::List(items) => format!("[{}]", items.iter().map(|i| quoted(i)).collect::<Vec<_>>().join(", ")),
            Field::Nested => continue,
        };
        out.push_str(&format!("{name}: {value}\n"));
    }
    out.push_str("---\n\n");
    out.push_str(body);
    out
}

struct Top(Vec<(String, Field)>);

impl<'de> Deserialize<'de> for Top {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Top;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of names to values")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Top, A::Error> {
                entries(map).map(Top)
            }
        }
        d.deserialize_any(V)
    }
}

fn entries<'de, A: MapAccess<'de>>(mut map: A) -> Result<Vec<(String, Field)>, A::Error> {
    let mut seen = BTreeSet::new();
    let mut fields = Vec::new();
    while let Some((name, value)) = map.next_entry::<String, Any>()? {
        if !seen.insert(name.clone()) {
            let name: String = name.chars().take(60).collect();
            return Err(A::Error::custom(format!("`{name}` appears twice")));
        }
        fields.push((name, value.0));
    }
    Ok(fields)
}

struct Any(Field);

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(AnyVisitor)
    }
}

struct AnyVisitor;

macro_rules! as_text {
    ($($method:ident: $type:ty),*) => {$(
        fn $method<E: serde::de::Error>(self, value: $type) -> Result<Any, E> {
            Ok(Any(Field::Text(value.to_string())))
        }
    )*};
}

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Any;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a list or a mapping, without a tag")
    }

    as_text! {
        visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128, visit_f64: f64, visit_str: &str
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Any, E> {
        Ok(Any(Field::Text(String::new())))
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Any, E> {
        self.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Any, A::Error> {
        let mut items = Vec::new();
        let mut nested = false;
        while let Some(Any(field)) = seq.next_element()? {
            match field {
                Field::Text(text) => items.push(text),
                Field::List(_) | Field::Nested => nested = true,
            }
        }
        Ok(Any(if nested { Field::Nested } else { Field::List(items) }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Any, A::Error> {
        entries(map).map(|_| Any(Field::Nested))
    }
}
