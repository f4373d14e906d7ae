//! Secrets: references in the configuration, values only where they are used (TRUST-4).

use crate::model::redact;
pub use crate::model::secret::SecretRef;
use crate::model::secret::{reference, reference_schema};
use crate::short::{self, Bounds, End, Whom};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::Serializer;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use zeroize::Zeroizing;

/// A secret's value: prints as `***`, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The value. For a header, a child's environment or a pipe; never for a log, a message or a command line.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a secret can't be read. Names the reference, never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the secret {from} can't be read: {why}")]
pub struct SecretError {
    /// The reference, as in the configuration.
    pub from: String,
    pub why: String,
}

/// A larger file is not a secret.
const MAX_BYTES: usize = 64 * 1024;
/// Time limit of `{command: [...]}`.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

impl SecretRef {
    /// Reads the secret; from here on the redactor of this process knows it. A command runs once per process. Fails if
    /// the secret is absent, empty, not UTF-8 or larger than 64 KiB, or if a command takes more than 30 s.
    pub fn resolve(&self) -> Result<Secret, SecretError> {
        let secret = match self {
            Self::Command(argv) => once(argv, || self.read())?,
            Self::Env(_) | Self::File(_) => self.read()?,
        };
        redact::learn(&self.label(), secret.expose());
        Ok(secret)
    }

    /// The placeholder for the secret in a text if nothing better is known: without path or argument.
    fn label(&self) -> String {
        match self {
            Self::Env(name) => name.clone(),
            Self::File(path) => path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned()),
            Self::Command(argv) => argv.first().cloned().unwrap_or_default(),
        }
    }

    /// As [`Self::resolve`], but the redactor does not learn it.
    pub(super) fn read(&self) -> Result<Secret, SecretError> {
        let fail = |why: String| SecretError { from: self.to_string(), why };
        let text = match self {
            Self::Env(name) => variable(name).map_err(|e| match e {
                std::env::VarError::NotPresent => fail("the variable is not set".into()),
                std::env::VarError::NotUnicode(_) => fail("it is not UTF-8".into()),
            })?,
            Self::File(path) => read_file(path).map_err(fail)?,
            Self::Command(argv) => run(argv).map_err(fail)?,
        };
        let kept = text.trim_end_matches(['\n', '\r']);
        if kept.is_empty() {
            return Err(fail("it is empty".into()));
        }
        // Only a PEM key may consist of several lines.
        if kept.contains(['\n', '\r', '\0']) && !is_pem(kept) {
            return Err(fail("it has several lines, expected one".into()));
        }
        Ok(Secret::new(kept.to_owned()))
    }
}

/// Whether a secret is a PEM key, which has several lines.
fn is_pem(text: &str) -> bool {
    text.trim_start().starts_with("-----BEGIN ") && text.trim_end().ends_with("-----") && !text.contains('\0')
}

/// Values of variables that were passed to this process in place of its environment.
static HANDED: Mutex<BTreeMap<String, Zeroizing<String>>> = Mutex::new(BTreeMap::new());

/// Stores the values of variables that were passed to this process; they take precedence over its environment.
pub fn take_over(values: BTreeMap<String, Zeroizing<String>>) {
    HANDED.lock().unwrap_or_else(PoisonError::into_inner).extend(values);
}

/// A variable that was passed on, or one of the environment.
pub(super) fn variable(name: &str) -> Result<Zeroizing<String>, std::env::VarError> {
    if let Some(value) = HANDED.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
        return Ok(value.clone());
    }
    std::env::var(name).map(Zeroizing::new)
}

/// The output of a command's argv, which runs only once: it may take a person's touch, or a second.
fn once(argv: &[String], ask: impl FnOnce() -> Result<Secret, SecretError>) -> Result<Secret, SecretError> {
    static ASKED: Mutex<BTreeMap<Vec<String>, Secret>> = Mutex::new(BTreeMap::new());
    let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = asked.get(argv) {
        return Ok(known.clone());
    }
    let secret = ask()?;
    asked.insert(argv.to_vec(), secret.clone());
    Ok(secret)
}

fn read_file(path: &Path) -> Result<Zeroizing<String>, String> {
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    if !file.metadata().map_err(|e| e.to_string())?.is_file() {
        return Err("it is not a regular file".into());
    }
    bounded(file)
}

fn bounded(from: impl Read) -> Result<Zeroizing<String>, String> {
    let mut bytes = Zeroizing::new(Vec::new());
    from.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() > MAX_BYTES {
        return Err(format!("it is larger than {MAX_BYTES} bytes"));
    }
    text(&bytes)
}

fn text(bytes: &[u8]) -> Result<Zeroizing<String>, String> {
    std::str::from_utf8(bytes).map(|t| Zeroizing::new(t.to_owned())).map_err(|_| "it is not UTF-8".to_owned())
}

fn run(argv: &[String]) -> Result<Zeroizing<String>, String> {
    let (program, args) = argv.split_first().ok_or("the command is empty")?;
    let mut command = Command::new(program);
    // In the caller's process group: it may ask a person at this terminal.
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let bounds = Bounds {
        input: &[],
        limit: COMMAND_TIMEOUT,
        out: MAX_BYTES,
        err: 0,
        strict: true,
        grace: Duration::ZERO,
        whom: Whom::Itself,
    };
    let said = command.spawn().and_then(|child| short::follow(child, &bounds)).map_err(|e| e.to_string())?;
    let bytes = Zeroizing::new(said.out);
    match said.end {
        End::Itself(status) if status.success() => text(&bytes),
        End::Itself(status) => Err(format!("the command ended with {status}")),
        End::Late => Err(format!("the command took longer than {} s", COMMAND_TIMEOUT.as_secs())),
        End::Full => Err(format!("it is larger than {MAX_BYTES} bytes")),
    }
}

/// A value of an `env` map: a literal or a reference.
#[derive(Clone, PartialEq, Eq)]
pub enum EnvValue {
    Literal(String),
    Ref(SecretRef),
}

impl EnvValue {
    /// The value for a child's environment. A literal is treated as a secret, too, since it may be one.
    pub fn resolve(&self) -> Result<Secret, SecretError> {
        match self {
            Self::Literal(text) => Ok(Secret::new(text.clone())),
            Self::Ref(from) => from.resolve(),
        }
    }
}

/// The names and values of an `env` map, resolved now. Fails at the first reference that can't be read.
pub fn resolve_env(env: &BTreeMap<String, EnvValue>) -> Result<Vec<(String, Secret)>, SecretError> {
    env.iter().map(|(name, value)| Ok((name.clone(), value.resolve()?))).collect()
}

/// Literals may be secrets by mistake, so they are not shown.
impl fmt::Debug for EnvValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("***"),
            Self::Ref(from) => write!(f, "{from}"),
        }
    }
}

impl serde::Serialize for EnvValue {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Literal(_) => to.serialize_str("***"),
            Self::Ref(from) => from.serialize(to),
        }
    }
}

impl<'de> de::Deserialize<'de> for EnvValue {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct LiteralOrReference;
        impl<'de> Visitor<'de> for LiteralOrReference {
            type Value = EnvValue;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, {env: NAME}, {file: PATH} or {command: [...]}")
            }
            fn visit_str<E>(self, v: &str) -> Result<EnvValue, E> {
                Ok(EnvValue::Literal(v.to_owned()))
            }
            fn visit_bool<E>(self, v: bool) -> Result<EnvValue, E> {
                Ok(EnvValue::Literal(v.to_string()))
            }
            fn visit_i64<E>(self, v: i64) -> Result<EnvValue, E> {
                Ok(EnvValue::Literal(v.to_string()))
            }
            fn visit_u64<E>(self, v: u64) -> Result<EnvValue, E> {
                Ok(EnvValue::Literal(v.to_string()))
            }
            fn visit_f64<E>(self, v: f64) -> Result<EnvValue, E> {
                Ok(EnvValue::Literal(v.to_string()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EnvValue, A::Error> {
                reference(map).map(EnvValue::Ref)
            }
        }
        from.deserialize_any(LiteralOrReference)
    }
}

impl schemars::JsonSchema for EnvValue {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EnvValue".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut any = reference_schema();
        if let Some(list) = any.as_array_mut() {
            list.push(serde_json::json!({"type": ["string", "number", "boolean"]}));
        }
        schemars::json_schema!({"description": "A literal, or where a secret is", "oneOf": any})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: de::DeserializeOwned>(text: &str) -> Result<T, String> {
        crate::yaml::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn a_literal_secret_is_refused_and_not_repeated() {
        for text in [
            "hunter2",
            "[hunter2]",
            "{hunter2: 1, env: A}",
            "{env: [hunter2]}",
            "{file: {a: hunter2}}",
            "123456789",
            "{env: A, file: B}",
            "{}",
            "{command: []}",
        ] {
            let e = read::<SecretRef>(text).unwrap_err();
            assert!(!e.contains("hunter2") && !e.contains("123456789"), "{e}");
        }
        assert_eq!(read::<SecretRef>("{env: A}").unwrap(), SecretRef::Env("A".into()));
    }

    #[test]
    fn secrets_are_read_from_files_and_commands_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s");
        std::fs::write(&file, "hunter2\n").unwrap();
        let secret = SecretRef::File(file).resolve().unwrap();
        assert_eq!((secret.expose(), format!("{secret} {secret:?}").as_str()), ("hunter2", "*** ***"));
        let said = SecretRef::Command(vec!["echo".into(), "a b".into()]);
        assert_eq!(said.resolve().unwrap().expose(), "a b");
        assert_eq!(said.to_string(), "{command: [echo, …]}");
        for bad in [
            SecretRef::File(dir.path().to_owned()),
            SecretRef::Command(vec!["false".into()]),
            SecretRef::Command(vec!["true".into()]),
            SecretRef::Env("ORCH_TEST_NOT_SET".into()),
        ] {
            let e = bad.resolve().unwrap_err();
            assert!(e.to_string().contains(&bad.to_string()), "{e}");
        }
        let value = EnvValue::Literal("hunter2".into());
        assert_eq!((format!("{value:?}"), serde_json::to_string(&value).unwrap()), ("***".into(), "\"***\"".into()));
    }
}
