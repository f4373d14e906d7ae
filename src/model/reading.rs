//! How single values of the configuration are read (CFG-1). A type that stands in the file names these beside its keys;
//! what depends on the file's place (paths) is only marked here, and done by the reader of `config`.

use serde::de::{self, Deserialize, Deserializer, Visitor};
use std::fmt;

/// A path: expanded, absolute under the file's folder.
pub(crate) const PATH: &str = "orch.path";
/// As [`PATH`], and empty means none.
pub(crate) const MAYBE_PATH: &str = "orch.maybe_path";
/// A text in which `~` and `$VAR` are expanded.
pub(crate) const EXPANDED: &str = "orch.expanded";
/// A program: a bare name stays, a path is as [`PATH`].
pub(crate) const PROGRAM: &str = "orch.program";
/// A remote of git: a URL stays, a path is as [`PATH`].
pub(crate) const REMOTE: &str = "orch.remote";
/// An enum whose variant is named by the key `kind`; the first one where the key is absent.
pub(crate) const KIND: &str = "orch.kind";
/// As [`KIND`], and the key must be there.
pub(crate) const KIND_NAMED: &str = "orch.kind_named";

/// A text, marked for the reader. Another deserializer gives it as written.
fn marked<'de, D: Deserializer<'de>, T: From<String>>(mark: &'static str, from: D) -> Result<T, D::Error> {
    struct Marked;
    impl<'de> Visitor<'de> for Marked {
        type Value = String;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a path")
        }
        fn visit_str<E>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }
        fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<String, D::Error> {
            String::deserialize(from)
        }
    }
    from.deserialize_newtype_struct(mark, Marked).map(T::from)
}

/// A path, absolute afterwards.
pub(crate) fn path<'de, D: Deserializer<'de>, T: From<String>>(from: D) -> Result<T, D::Error> {
    marked(PATH, from)
}

/// A path, absolute afterwards; empty: none.
pub(crate) fn maybe_path<'de, D: Deserializer<'de>, T: From<String>>(from: D) -> Result<T, D::Error> {
    marked(MAYBE_PATH, from)
}

/// A path that is relative to another folder than the file's: expanded only.
pub(crate) fn expanded<'de, D: Deserializer<'de>, T: From<String>>(from: D) -> Result<T, D::Error> {
    marked(EXPANDED, from)
}

/// A program's name or path.
pub(crate) fn program<'de, D: Deserializer<'de>, T: From<String>>(from: D) -> Result<T, D::Error> {
    marked(PROGRAM, from)
}

/// A remote of git.
pub(crate) fn remote<'de, D: Deserializer<'de>, T: From<String>>(from: D) -> Result<T, D::Error> {
    marked(REMOTE, from)
}

/// A text that may not be blank, trimmed.
pub(crate) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    maybe_text(from)?.ok_or_else(|| de::Error::custom("is missing"))
}

/// A text, trimmed; blank counts as absent.
pub(crate) fn maybe_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(from)?;
    Ok(Some(text.trim().to_owned()).filter(|t| !t.is_empty()))
}

/// A text that may be written as a number (`chat_id: -100123`, `memory_max: 4294967296`).
pub(crate) fn loose<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    struct Any;
    impl Visitor<'_> for Any {
        type Value = String;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a number")
        }
        fn visit_str<E>(self, v: &str) -> Result<String, E> {
            Ok(v.to_owned())
        }
        fn visit_bool<E>(self, v: bool) -> Result<String, E> {
            Ok(v.to_string())
        }
        fn visit_i64<E>(self, v: i64) -> Result<String, E> {
            Ok(v.to_string())
        }
        fn visit_u64<E>(self, v: u64) -> Result<String, E> {
            Ok(v.to_string())
        }
        fn visit_f64<E>(self, v: f64) -> Result<String, E> {
            Ok(v.to_string())
        }
    }
    from.deserialize_any(Any)
}

/// The schema of [`loose`].
pub(crate) fn loose_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": ["string", "number", "boolean"]})
}

/// An http(s) URL without a credential in it.
pub(crate) fn http<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let written = String::deserialize(from)?;
    let url = written.trim();
    let lower = url.to_ascii_lowercase();
    let rest = lower.strip_prefix("http://").or_else(|| lower.strip_prefix("https://")).unwrap_or_default();
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        return Err(de::Error::custom("a URL must not hold a user or password (it is not repeated)"));
    }
    if host.is_empty() || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(de::Error::custom(format!("is {url:?}, expected http:// or https:// and a host")));
    }
    Ok(url.to_owned())
}

/// A count or time of at least one.
pub(crate) fn positive<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    match u64::deserialize(from)? {
        0 => Err(de::Error::custom("is 0, expected 1 or more")),
        n => Ok(n),
    }
}

/// A default that is a number.
pub(crate) fn number<const N: u64>() -> u64 {
    N
}

/// The schema of an enum of kinds: one of several objects, each with its own word under `kind`.
pub(crate) fn one_of(kinds: Vec<(&str, schemars::Schema)>, named: bool) -> schemars::Schema {
    use serde_json::{Map, Value, json};
    let default = kinds.first().map(|(word, _)| (*word).to_owned()).filter(|_| !named);
    let one = |(word, schema): (&str, schemars::Schema)| {
        let mut schema: Map<String, Value> = schema.as_object().cloned().unwrap_or_default();
        let own = schema.remove("properties").and_then(|p| p.as_object().cloned()).unwrap_or_default();
        let mut properties = Map::new();
        properties.insert("kind".into(), json!({"type": "string", "const": word}));
        properties.extend(own);
        let mut required = schema.remove("required").and_then(|r| r.as_array().cloned()).unwrap_or_default();
        if default.as_deref() != Some(word) {
            required.insert(0, "kind".into());
        }
        schema.insert("type".into(), "object".into());
        schema.insert("properties".into(), Value::Object(properties));
        schema.insert("required".into(), Value::Array(required));
        schema.insert("additionalProperties".into(), false.into());
        Value::Object(schema)
    };
    let mut all = schemars::json_schema!({});
    all.insert("oneOf".into(), kinds.into_iter().map(one).collect());
    all
}

/// An enum whose variant is named by `kind` in the file: how it is read, and its schema. `named`: the key must be there;
/// otherwise the first variant is meant without it.
macro_rules! kinds {
    ($name:ident, $mark:ident, $($word:literal => $variant:ident $(($inner:ty))?),+ $(,)?) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Chosen;
                impl<'de> serde::de::Visitor<'de> for Chosen {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a section of keys")
                    }
                    fn visit_enum<A: serde::de::EnumAccess<'de>>(self, from: A) -> Result<$name, A::Error> {
                        use serde::de::VariantAccess as _;
                        let (word, of) = from.variant::<String>()?;
                        match word.as_str() {
                            $($word => crate::model::reading::kinds!(@read $name $variant of $($inner)?),)+
                            _ => Err(serde::de::Error::unknown_variant(&word, &[$($word),+])),
                        }
                    }
                }
                from.deserialize_enum(crate::model::reading::$mark, &[$($word),+], Chosen)
            }
        }
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let named = crate::model::reading::$mark == crate::model::reading::KIND_NAMED;
                let all = vec![$(($word, crate::model::reading::kinds!(@schema generator $($inner)?))),+];
                crate::model::reading::one_of(all, named)
            }
        }
    };
    (@read $name:ident $variant:ident $of:ident) => { $of.unit_variant().map(|()| $name::$variant) };
    (@read $name:ident $variant:ident $of:ident $inner:ty) => {
        $of.newtype_variant::<$inner>().map($name::$variant)
    };
    (@schema $generator:ident) => {{
        let _ = &$generator;
        schemars::json_schema!({})
    }};
    (@schema $generator:ident $inner:ty) => { <$inner as schemars::JsonSchema>::json_schema($generator) };
}
pub(crate) use kinds;

/// A type that stands in the file as another one has that one's schema.
macro_rules! schema_of {
    ($($name:ident = $keys:ty),+ $(,)?) => {$(
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                <$keys as schemars::JsonSchema>::json_schema(generator)
            }
        }
    )+};
}
pub(crate) use schema_of;
