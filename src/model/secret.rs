//! Where a secret is, as the configuration names it (TRUST-4). Reading it is `config::secret`'s.

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use std::fmt;
use std::path::PathBuf;

/// Where a secret is. Never the secret itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SecretRef {
    /// A variable of `orch`'s own environment.
    Env(String),
    /// A file; a trailing line end is not part of the secret.
    File(PathBuf),
    /// What an argv prints.
    Command(Vec<String>),
}

/// None: no variable has an empty name. A section with a required reference is checked for it.
impl Default for SecretRef {
    fn default() -> Self {
        Self::Env(String::new())
    }
}

/// As in the configuration: `{env: NAME}`, `{file: PATH}`, `{command: [PROGRAM, …]}` (a command's arguments are not
/// shown).
impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "{{env: {name}}}"),
            Self::File(path) => write!(f, "{{file: {}}}", path.display()),
            Self::Command(argv) => {
                let program = argv.first().map_or("", String::as_str);
                write!(f, "{{command: [{program}{}]}}", if argv.len() > 1 { ", …" } else { "" })
            }
        }
    }
}

impl serde::Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(1))?;
        match self {
            Self::Env(name) => map.serialize_entry("env", name)?,
            Self::File(path) => map.serialize_entry("file", path)?,
            Self::Command(argv) => map.serialize_entry("command", &argv.first())?,
        }
        map.end()
    }
}

/// Reads a reference from a map. No error repeats anything of it.
pub(crate) fn reference<'de, A: MapAccess<'de>>(mut map: A) -> Result<SecretRef, A::Error> {
    let mut found = None;
    while let Some(key) = map.next_key::<String>()? {
        if found.is_some() {
            return Err(de::Error::custom("a secret's reference has one key: env, file or command"));
        }
        found = Some(match key.as_str() {
            "env" => SecretRef::Env(map.next_value::<Quiet<Variable>>()?.0.0),
            "file" => SecretRef::File(map.next_value::<Located>()?.0),
            "command" => SecretRef::Command(map.next_value::<Quiet<Vec<String>>>()?.0),
            // The key is not repeated either: it may be the secret.
            _ => return Err(de::Error::custom("a secret's reference has one key: env, file or command")),
        });
    }
    match found {
        Some(SecretRef::Command(argv)) if argv.first().is_none_or(String::is_empty) => {
            Err(de::Error::custom("a secret's command is empty, expected [program, arguments]"))
        }
        Some(found) => Ok(found),
        None => Err(de::Error::custom(
            "a secret's reference is empty, expected {env: NAME}, {file: PATH} or {command: [...]}",
        )),
    }
}

/// Reads a value; if it has the wrong type, the error does not repeat it.
struct Quiet<T>(T);

impl<'de, T: de::Deserialize<'de>> de::Deserialize<'de> for Quiet<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::deserialize(from)
            .map(Quiet)
            .map_err(|_| de::Error::custom("expected {env: NAME}, {file: PATH} or {command: [program, arguments]}"))
    }
}

/// The path of a secret's file.
#[derive(serde::Deserialize)]
struct Located(#[serde(deserialize_with = "super::reading::path")] PathBuf);

/// A variable's name; a value in its place is not repeated.
struct Variable(String);

impl<'de> de::Deserialize<'de> for Variable {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        if is_variable(&name) { Ok(Self(name)) } else { Err(de::Error::custom("no variable's name")) }
    }
}

/// Whether a text can name a variable.
pub(crate) fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

const LITERAL: &str =
    "a secret itself is not allowed here (it is not repeated); expected {env: NAME}, {file: PATH} or {command: [...]}";

impl<'de> de::Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OnlyReference;
        impl<'de> Visitor<'de> for OnlyReference {
            type Value = SecretRef;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("{env: NAME}, {file: PATH} or {command: [...]}")
            }
            fn visit_str<E: de::Error>(self, _: &str) -> Result<SecretRef, E> {
                Err(E::custom(LITERAL))
            }
            fn visit_bool<E: de::Error>(self, _: bool) -> Result<SecretRef, E> {
                Err(E::custom(LITERAL))
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<SecretRef, E> {
                Err(E::custom(LITERAL))
            }
            fn visit_u64<E: de::Error>(self, _: u64) -> Result<SecretRef, E> {
                Err(E::custom(LITERAL))
            }
            fn visit_f64<E: de::Error>(self, _: f64) -> Result<SecretRef, E> {
                Err(E::custom(LITERAL))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SecretRef, A::Error> {
                reference(map)
            }
        }
        from.deserialize_any(OnlyReference)
    }
}

/// The shapes of a reference, for a JSON schema.
pub(crate) fn reference_schema() -> serde_json::Value {
    serde_json::json!([
        {"type": "object", "required": ["env"], "additionalProperties": false, "properties": {"env": {"type": "string", "description": "Name of a variable"}}},
        {"type": "object", "required": ["file"], "additionalProperties": false, "properties": {"file": {"type": "string", "description": "Path of a file"}}},
        {"type": "object", "required": ["command"], "additionalProperties": false, "properties": {"command": {"type": "array", "items": {"type": "string"}, "minItems": 1, "description": "Prints the secret"}}},
    ])
}

impl schemars::JsonSchema for SecretRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretRef".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"description": "Where a secret is; never the secret itself", "oneOf": reference_schema()})
    }
}
