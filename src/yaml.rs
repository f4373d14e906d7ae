//! L0: the only file that names the YAML library. It is archived upstream, and would be replaced here.

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Parses one YAML document into a type. The error says what was expected, with line and column.
pub fn from_str<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, serde_yaml::Error> {
    if depth(text) > MAX_DEPTH {
        return Err(serde::de::Error::custom(format!("more than {MAX_DEPTH} brackets are open at once")));
    }
    serde_yaml::from_str(text)
}

/// Parses one YAML document as it is: sections keep their order, and a key that stands twice is refused, as are tags. The
/// error has line and column.
pub fn document(text: &str) -> Result<Value, serde_yaml::Error> {
    from_str::<Plain>(text).map(|plain| plain.0)
}

struct Plain(Value);

impl<'de> de::Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Whole).map(Self)
    }
}

struct Whole;

impl<'de> Visitor<'de> for Whole {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, true, false, a list or a section")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v)
            .map(Value::Number)
            .ok_or_else(|| E::custom(format!("{v} is no number that can be used here")))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Plain(one)) = from.next_element()? {
            all.push(one);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(key) = from.next_key_seed(NewKey(&all))? {
            let Plain(value) = from.next_value()?;
            all.insert(key, value);
        }
        Ok(Value::Object(all))
    }
}

/// A key that the section has not had yet.
struct NewKey<'a>(&'a Map<String, Value>);

impl<'de> DeserializeSeed<'de> for NewKey<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<String, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for NewKey<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<String, E> {
        if !self.0.contains_key(key) {
            return Ok(key.to_owned());
        }
        // What looks like none of our words is not repeated: it may be a secret in the wrong place.
        let ours = key.len() < 32 && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        Err(E::custom(if ours { format!("duplicate key `{key}`") } else { "duplicate key".to_owned() }))
    }
}

/// Line and column of the value at a path of keys and indices, or of its key; `None`: it is not there.
pub fn position(text: &str, path: &[&str]) -> Option<(usize, usize)> {
    let found = Find(path).deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    let at = found.location().filter(|_| found.to_string().contains(FOUND))?;
    Some((at.line(), at.column()))
}

/// Walks to a value and fails there: the parser then says where that is.
struct Find<'a>(&'a [&'a str]);

const FOUND: &str = "found it";

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        match self.0 {
            [] => from.deserialize_any(Here),
            _ => from.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a section or a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.0.split_first() else { return Ok(()) };
        let at = first.parse::<usize>().unwrap_or(usize::MAX);
        for _ in 0..at {
            if from.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        from.next_element_seed(Find(rest)).map(|_| ())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.0.split_first() else { return Ok(()) };
        while let Some(it) = from.next_key_seed(Key { wanted: first, last: rest.is_empty() })? {
            if it {
                return from.next_value_seed(Find(rest));
            }
            from.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// Whether a key is the wanted one; fails at the last one of the path.
struct Key<'a> {
    wanted: &'a str,
    last: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        match key == self.wanted {
            true if self.last => Err(E::custom(FOUND)),
            is => Ok(is),
        }
    }
}

/// Fails at whatever is there.
struct Here;

impl<'de> Visitor<'de> for Here {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FOUND)
    }
}

/// The parser's time grows with the square of the brackets open at once: it needs minutes for 50,000.
const MAX_DEPTH: usize = 500;

/// Most brackets open at once; those in texts and comments count too.
fn depth(text: &str) -> usize {
    let mut open = 0_usize;
    let mut most = 0;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}
