//! Reads a part of the merged document into its type. It differs from other deserializers in four points: a fault knows
//! the path of its value; a number is no text; an enum's variant is named by a key (`kind`, or the one that only it has);
//! and a path becomes absolute while it is read, so that no type is read twice.

use super::error::ConfigError;
use super::paths::{Remote, expand, remote, under};
use crate::model::reading::{EXPANDED, KIND, KIND_NAMED, MAYBE_PATH, PATH, PROGRAM, REMOTE};
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Unexpected, Visitor};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// What paths are relative to, and the environment for `$VAR` in them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub folder: &'a Path,
    pub env: &'a BTreeMap<String, String>,
}

/// What is wrong with one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Keys and indices, the innermost first.
    pub path: Vec<String>,
    /// The key of that section that can't be there.
    pub key: Option<String>,
    /// Continues the path: `is …`, `has …`, `.key is …`, or a sentence. A line of its own after it is the way out.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { path: Vec::new(), key: None, message: message.to_string() }
    }

    fn missing_field(field: &'static str) -> Self {
        Self { path: vec![field.to_owned()], key: None, message: "is missing".to_owned() }
    }
}

impl Fault {
    fn below(mut self, key: &str) -> Self {
        self.path.push(key.to_owned());
        self
    }
}

/// Reads a value of the document.
pub(super) fn read<T: DeserializeOwned>(value: &Value, place: &Place<'_>) -> Result<T, Fault> {
    T::deserialize(Reader { value, place, tagged: false })
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    value: &'a Value,
    place: &'a Place<'a>,
    /// Its `kind` is read already.
    tagged: bool,
}

impl<'a> Reader<'a> {
    fn at(self, value: &'a Value) -> Self {
        Self { value, tagged: false, ..self }
    }

    /// What the value is, for a message.
    fn unexpected(self) -> Unexpected<'a> {
        match self.value {
            Value::Null => Unexpected::Unit,
            Value::Bool(is) => Unexpected::Bool(*is),
            Value::Number(n) => match (n.as_u64(), n.as_i64()) {
                (Some(n), _) => Unexpected::Unsigned(n),
                (None, Some(n)) => Unexpected::Signed(n),
                (None, None) => Unexpected::Float(n.as_f64().unwrap_or_default()),
            },
            Value::String(text) => Unexpected::Str(text),
            Value::Array(_) => Unexpected::Seq,
            Value::Object(_) => Unexpected::Map,
        }
    }

    /// A text, made absolute as its mark says.
    fn marked(self, mark: &str) -> Result<String, Fault> {
        let failed = |e: ConfigError| Fault {
            path: Vec::new(),
            key: None,
            message: e.hint.map_or_else(|| e.message.clone(), |hint| format!("{}\n{hint}", e.message)),
        };
        let what = match mark {
            PROGRAM => "a program's name or path",
            REMOTE => "a URL or a path",
            _ => "a path",
        };
        // What is in its place is not repeated: it may be a secret's.
        let Value::String(text) = self.value else {
            return Err(de::Error::custom(format!("expected {what} as a text")));
        };
        if text.trim().is_empty() && mark != EXPANDED {
            return match mark == MAYBE_PATH {
                true => Ok(String::new()),
                false => Err(de::Error::custom(format!("is missing, expected {what}"))),
            };
        }
        let text = match (mark, remote(text.trim())) {
            (PROGRAM, _) if !(text.contains('/') || text.starts_with(['~', '$'])) => return Ok(text.clone()),
            (REMOTE, Remote::Url { .. }) => return Ok(text.trim().to_owned()),
            (REMOTE, Remote::Path(path)) => path,
            _ => text,
        };
        let expanded = expand(text, self.place.env).map_err(failed)?;
        Ok(match mark == EXPANDED {
            true => expanded,
            false => under(self.place.folder, expanded).to_string_lossy().into_owned(),
        })
    }

    /// The word that names the variant of an enum of kinds.
    fn kind(self, map: &'a Map<String, Value>, mark: &str, kinds: &[&'static str]) -> Result<String, Fault> {
        match map.get("kind").filter(|kind| !kind.is_null()) {
            Some(Value::String(word)) => Ok(word.clone()),
            Some(other) => Err(de::Error::invalid_type(self.at(other).unexpected(), &"a word")),
            None if mark == KIND => Ok(kinds.first().copied().unwrap_or_default().to_owned()),
            None => Err(de::Error::custom(format!("is missing, expected {}", alternatives(kinds)))),
        }
        .map_err(|fault: Fault| fault.below("kind"))
    }
}

/// `a, b or c`.
pub(super) fn alternatives(words: &[&str]) -> String {
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.join(""),
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(is) => visitor.visit_bool(*is),
            Value::Number(n) => match (n.as_u64(), n.as_i64()) {
                (Some(n), _) => visitor.visit_u64(n),
                (None, Some(n)) => visitor.visit_i64(n),
                (None, None) => visitor.visit_f64(n.as_f64().unwrap_or_default()),
            },
            Value::String(text) => visitor.visit_str(text),
            Value::Array(all) => {
                let mut items = Items { of: self, all: all.iter().enumerate() };
                let read = visitor.visit_seq(&mut items)?;
                match items.all.len() {
                    0 => Ok(read),
                    _ => Err(de::Error::invalid_length(all.len(), &"fewer values")),
                }
            }
            Value::Object(map) => visitor.visit_map(Entries { of: self, all: map.iter(), next: None, fields: &[] }),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::Number(_) | Value::Bool(_) => Err(de::Error::custom(format!(
                "is {}, expected a text\nwrite it in quotes: \"{}\"",
                self.value, self.value
            ))),
            Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Fault> {
        match name {
            PATH | MAYBE_PATH | EXPANDED | PROGRAM | REMOTE => visitor.visit_str(&self.marked(name)?),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        // Values in the order of the keys would be read, too.
        let Some(map) = self.value.as_object() else {
            return Err(de::Error::invalid_type(self.unexpected(), &"a section of keys"));
        };
        visitor.visit_map(Entries { of: self, all: map.iter(), next: None, fields })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let kinds = [KIND, KIND_NAMED].contains(&name);
        match (self.value.as_object(), self.value.as_str()) {
            (Some(map), _) if kinds => {
                let word = self.kind(map, name, variants)?;
                visitor.visit_enum(Variant { word, of: Self { tagged: true, ..self } })
            }
            (None, _) if kinds => Err(de::Error::invalid_type(self.unexpected(), &"a section of keys")),
            // The empty word is a shape without keys.
            (Some(map), _) => {
                match variants.iter().find(|word| map.contains_key(**word) || map.is_empty() && word.is_empty()) {
                    Some(word) => visitor.visit_enum(Variant { word: (*word).to_owned(), of: self }),
                    None => {
                        let keys: Vec<&str> = variants.iter().copied().filter(|word| !word.is_empty()).collect();
                        Err(de::Error::custom(format!("expected a section with the key {}", alternatives(&keys))))
                    }
                }
            }
            (None, Some(word)) => visitor.visit_enum(word.into_deserializer()),
            (None, None) => Err(de::Error::invalid_type(self.unexpected(), &"a word")),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

/// The values of a list.
struct Items<'a> {
    of: Reader<'a>,
    all: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
}

impl<'de> de::SeqAccess<'de> for &mut Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some((n, value)) = self.all.next() else { return Ok(None) };
        seed.deserialize(self.of.at(value)).map(Some).map_err(|fault| fault.below(&n.to_string()))
    }
}

/// The keys of a section, or of a map.
struct Entries<'a> {
    of: Reader<'a>,
    all: serde_json::map::Iter<'a>,
    next: Option<(&'a String, &'a Value)>,
    /// Those of a section: one without a value counts as absent.
    fields: &'static [&'static str],
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        for (key, value) in self.all.by_ref() {
            if (self.of.tagged && key == "kind") || (value.is_null() && self.fields.contains(&key.as_str())) {
                continue;
            }
            self.next = Some((key, value));
            let named = |fault: Fault| Fault { key: Some(key.clone()), ..fault };
            return seed.deserialize(key.as_str().into_deserializer()).map(Some).map_err(named);
        }
        Ok(None)
    }

    fn next_value_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let Some((key, value)) = self.next.take() else { return Err(de::Error::custom("a key has no value")) };
        seed.deserialize(self.of.at(value)).map_err(|fault| fault.below(key))
    }
}

/// A section whose type is one of several.
struct Variant<'a> {
    word: String,
    of: Reader<'a>,
}

impl<'de, 'a> de::EnumAccess<'de> for Variant<'a> {
    type Error = Fault;
    type Variant = Reader<'a>;

    fn variant_seed<T: de::DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Reader<'a>), Fault> {
        Ok((seed.deserialize(self.word.into_deserializer())?, self.of))
    }
}

impl<'de> de::VariantAccess<'de> for Reader<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        let more = self.value.as_object().into_iter().flatten().find(|(key, _)| *key != "kind");
        match more {
            Some((key, _)) => Err(Fault { key: Some(key.clone()), ..de::Error::unknown_field(key, &["kind"]) }),
            None => Ok(()),
        }
    }

    fn newtype_variant_seed<T: de::DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_struct("", fields, visitor)
    }
}
