//! How commands, checks and targets are written in the file.

use super::error::ConfigError;
use super::scalar::Scalar;
use super::secret::EnvValue;
use super::types::{Allowance, Check, CheckPlace, CommandLine, Errors, Reading, Revision};
use crate::model::probe::{CheckKind, CheckSpec, CommandSpec};
use crate::model::reading::{self, http, kinds, loose, loose_schema, program, text};
use crate::model::scan::Severity;
use crate::model::secret::is_variable;
use jiff::civil::Date;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// One word of a command: a number is one, too.
#[derive(Deserialize)]
struct Word(#[serde(deserialize_with = "loose")] String);

/// The program of a command that runs outside a checkout.
#[derive(Deserialize)]
struct Program(#[serde(deserialize_with = "program")] String);

/// The schema of a command.
pub(super) fn argv_schema(generator: &mut SchemaGenerator) -> Schema {
    let word = loose_schema(generator);
    schemars::json_schema!({"type": "array", "items": word})
}

/// A command: program and arguments; an empty list where it has none.
pub(super) fn argv<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let words: Vec<String> = Vec::<Word>::deserialize(from)?.into_iter().map(|word| word.0).collect();
    sound(words)
}

fn sound<E: de::Error>(words: Vec<String>) -> Result<Vec<String>, E> {
    if words.first().is_some_and(|program| program.trim().is_empty()) || words.iter().any(|w| w.contains('\0')) {
        return Err(E::custom("a command is [program, arguments], without an empty program or NUL"));
    }
    Ok(words)
}

/// A command that must be there.
fn some_argv<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let words = argv(from)?;
    if words.is_empty() { Err(de::Error::custom("is missing, expected [program, arguments]")) } else { Ok(words) }
}

/// A command; an empty one counts as absent.
pub(super) fn maybe_argv<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    Ok(Some(argv(from)?).filter(|words| !words.is_empty()))
}

/// As [`some_argv`], for a command that runs outside a checkout: a path as its program is relative to the file.
pub(super) fn argv_here<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    struct Here;
    impl<'de> Visitor<'de> for Here {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a sequence")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Vec<String>, A::Error> {
            let Some(Program(first)) = from.next_element()? else {
                return Err(de::Error::custom("is missing, expected [program, arguments]"));
            };
            let mut words = vec![first];
            while let Some(Word(word)) = from.next_element()? {
                words.push(word);
            }
            sound(words)
        }
    }
    from.deserialize_seq(Here)
}

/// An `env` map.
pub(super) fn env<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, EnvValue>, D::Error> {
    let all = BTreeMap::<String, EnvValue>::deserialize(from)?;
    for (name, value) in &all {
        if !is_variable(name) {
            return Err(de::Error::custom(format!("{name:?} is no variable's name")));
        }
        if name.starts_with("ORCH_") {
            return Err(de::Error::custom(format!(
                "{name} is one of orch's own variables\nchoose a name that does not begin with ORCH_"
            )));
        }
        if matches!(value, EnvValue::Literal(text) if text.contains('\0')) {
            return Err(de::Error::custom(format!(".{name} holds a NUL character")));
        }
    }
    Ok(all)
}

/// A time limit in seconds: more than 0, at most a week.
pub(super) fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(from)?;
    match value > 0.0 && value <= 604_800.0 {
        true => Ok(value),
        false => Err(de::Error::custom(format!("is {value}, expected more than 0 and at most 604800"))),
    }
}

/// As [`seconds`], in whole ones.
pub(super) fn limit<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    match u64::deserialize(from)? {
        n @ 1..=604_800 => Ok(n),
        n => Err(de::Error::custom(format!("is {n}, expected 1 to 604800 seconds"))),
    }
}

/// A default time limit.
pub(super) fn within<const S: u64>() -> f64 {
    S as f64
}

/// A number that is not negative.
pub(super) fn amount<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    held(f64::deserialize(from)?)
}

/// A threshold.
pub(super) fn severity<'de, D: Deserializer<'de>>(from: D) -> Result<Severity, D::Error> {
    held(Severity::deserialize(from)?)
}

fn held<T: Scalar, E: de::Error>(value: T) -> Result<T, E> {
    match value.holds() {
        true => Ok(value),
        false => Err(E::custom(format!("is {}, expected {}", value.show(), T::expected()))),
    }
}

/// A command whose time limit is `S` seconds where the file names none.
pub(super) struct Within<const S: u64>(CommandLine);

/// A command.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CommandKeys<const S: u64> {
    /// Program and arguments
    #[serde(deserialize_with = "some_argv")]
    #[schemars(schema_with = "argv_schema")]
    command: Vec<String>,
    /// Time limit in seconds
    #[serde(default = "within::<S>", deserialize_with = "seconds")]
    timeout_s: f64,
    /// Its own environment: literals or references
    #[serde(default, deserialize_with = "env")]
    env: BTreeMap<String, EnvValue>,
}

/// As [`CommandKeys`], outside a checkout.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandHere<const S: u64> {
    #[serde(deserialize_with = "argv_here")]
    command: Vec<String>,
    #[serde(default = "within::<S>", deserialize_with = "seconds")]
    timeout_s: f64,
    #[serde(default, deserialize_with = "env")]
    env: BTreeMap<String, EnvValue>,
}

impl<'de, const S: u64> Deserialize<'de> for Within<S> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let CommandKeys::<S> { command, timeout_s, env } = CommandKeys::deserialize(from)?;
        Ok(Self(CommandLine { command, timeout_s, env }))
    }
}

impl<const S: u64> Within<S> {
    /// A command that may be absent.
    pub fn some<'de, D: Deserializer<'de>>(from: D) -> Result<Option<CommandLine>, D::Error> {
        Self::deserialize(from).map(|it| Some(it.0))
    }

    /// As [`Self::some`], for one that runs outside a checkout.
    pub fn here<'de, D: Deserializer<'de>>(from: D) -> Result<Option<CommandLine>, D::Error> {
        let CommandHere::<S> { command, timeout_s, env } = CommandHere::deserialize(from)?;
        Ok(Some(CommandLine { command, timeout_s, env }))
    }
}

impl<const S: u64> JsonSchema for Within<S> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("Command{S}").into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        CommandKeys::<S>::json_schema(generator)
    }
}

/// A URL to ask for the revision.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RevisionUrl {
    /// Answers with the revision
    #[serde(deserialize_with = "http")]
    url: String,
    /// Key in the JSON answer, dots go deeper; absent: the whole body
    field: Option<String>,
    /// Time limit in seconds
    #[serde(default = "within::<10>", deserialize_with = "seconds")]
    timeout_s: f64,
}

/// A revision as it is written in the file; its key says which kind it is.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(untagged)]
pub(super) enum RevisionKeys {
    Command(Within<60>),
    Url(RevisionUrl),
}

impl From<RevisionKeys> for Revision {
    fn from(keys: RevisionKeys) -> Self {
        match keys {
            RevisionKeys::Command(line) => Self::Command(line.0),
            RevisionKeys::Url(RevisionUrl { url, field, timeout_s }) => {
                Self::Url { url, field: field.filter(|f| !f.is_empty()), timeout_s }
            }
        }
    }
}

/// Two queries at a Prometheus server.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Prometheus {
    /// Where it is
    #[serde(deserialize_with = "http")]
    url: String,
    /// Query for the number of requests: `sum(http_requests_total)`, or with `reading: window` `sum(increase(http_requests_total[1m]))`
    #[serde(deserialize_with = "text")]
    requests: String,
    /// Query for the number of 5xx answers, of the same form
    #[serde(deserialize_with = "text")]
    errors_5xx: String,
    /// `counter`: numbers that only grow; `window`: what happened in the query's own window, best as long as `interval_s`
    #[serde(default)]
    reading: Reading,
}

/// Where the 5xx share comes from, if a server is asked.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PrometheusErrors {
    /// Two queries at a Prometheus server
    prometheus: Prometheus,
    /// Time limit in seconds
    #[serde(default = "within::<10>", deserialize_with = "seconds")]
    timeout_s: f64,
}

/// An error source as it is written in the file.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(untagged)]
pub(super) enum ErrorKeys {
    Command(Within<10>),
    Prometheus(PrometheusErrors),
    /// An empty section: the probes' own answers.
    #[serde(rename = "")]
    #[schemars(skip)]
    Own,
}

impl From<ErrorKeys> for Errors {
    fn from(keys: ErrorKeys) -> Self {
        match keys {
            ErrorKeys::Own => Self::Own,
            ErrorKeys::Command(line) => Self::Command(line.0),
            ErrorKeys::Prometheus(PrometheusErrors { prometheus, timeout_s }) => {
                let Prometheus { url, requests, errors_5xx, reading } = prometheus;
                Self::Prometheus { url, requests, errors_5xx, reading, timeout_s }
            }
        }
    }
}

/// A URL.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UrlKeys {
    /// The URL
    #[serde(deserialize_with = "http")]
    url: String,
}

/// `{url}`.
pub(super) fn control<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    UrlKeys::deserialize(from).map(|keys| Some(keys.url))
}

/// The self-hosting suite's sandbox.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SandboxKeys {
    /// Key of the project
    #[serde(default, deserialize_with = "reading::maybe_text")]
    project: Option<String>,
}

/// `{project}`.
pub(super) fn sandbox<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let key = SandboxKeys::deserialize(from)?.project;
    match key.as_deref().is_none_or(crate::model::ids::is_prefix) {
        true => Ok(key),
        false => Err(de::Error::custom(format!(".project is {:?}, expected a project's key", key.unwrap_or_default()))),
    }
}

/// One staging check.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct CheckKeys(Kinds);

impl JsonSchema for CheckKeys {
    fn schema_name() -> Cow<'static, str> {
        "Check".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Kinds::json_schema(generator)
    }
}

enum Kinds {
    Http(HttpCheck),
    Command(CommandCheck),
    Tcp(TcpCheck),
    Sql(SqlCheck),
}

kinds! {
    Kinds, KIND_NAMED, "http" => Http(HttpCheck), "command" => Command(CommandCheck), "tcp" => Tcp(TcpCheck),
    "sql" => Sql(SqlCheck)
}

macro_rules! check_keys {
    ($(#[$doc:meta])* $name:ident, $limit:literal, { $($keys:tt)* }) => {
        $(#[$doc])*
        #[derive(Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        struct $name {
            /// Letters, digits, -, _ or .; its own in the list
            #[serde(deserialize_with = "loose")]
            #[schemars(schema_with = "loose_schema")]
            id: String,
            /// For people
            name: Option<String>,
            $($keys)*
            /// Longest wait for one try in seconds
            #[serde(default = $limit, deserialize_with = "seconds")]
            timeout_s: f64,
        }
    };
}

check_keys! {
    /// Asks a URL.
    HttpCheck, "within::<10>", {
        /// What is asked
        #[serde(deserialize_with = "http")]
        url: String,
        /// The status of a good answer
        #[serde(default = "ok")]
        expect_status: u16,
        /// A text the body must hold; empty: none
        #[serde(default)]
        expect_body: String,
        /// Further tries after a failed one
        #[serde(default)]
        retries: u32,
    }
}

fn ok() -> u16 {
    200
}

check_keys! {
    /// Runs a program.
    CommandCheck, "within::<60>", {
        /// Passes with exit 0
        #[serde(deserialize_with = "some_argv")]
        #[schemars(schema_with = "argv_schema")]
        command: Vec<String>,
        /// Where; default: the checkout
        cwd: Option<String>,
        /// Its own environment
        #[serde(default, deserialize_with = "env")]
        env: BTreeMap<String, EnvValue>,
        /// `host`: on this machine also with `executor: slurm`; default: where the branch's code runs
        on: Option<CheckPlace>,
    }
}

check_keys! {
    /// Connects to a port.
    TcpCheck, "within::<3>", {
        /// HOST:PORT
        #[serde(deserialize_with = "text")]
        address: String,
    }
}

check_keys! {
    /// Asks a SQLite file.
    SqlCheck, "within::<10>", {
        /// The file
        #[serde(deserialize_with = "reading::path")]
        database: PathBuf,
        /// What is asked; it may not write
        #[serde(deserialize_with = "text")]
        query: String,
        /// The first column of the first row; absent: any row
        expect: Option<super::scalar::Text>,
    }
}

impl From<CheckKeys> for Check {
    fn from(keys: CheckKeys) -> Self {
        let mut own = BTreeMap::new();
        let (id, name, timeout_s, kind) = match keys.0 {
            Kinds::Http(HttpCheck { id, name, url, expect_status, expect_body, retries, timeout_s }) => {
                (id, name, timeout_s, CheckKind::Http { url, expect_status, expect_body, retries })
            }
            Kinds::Command(CommandCheck { id, name, command, cwd, env, on, timeout_s }) => {
                own = env;
                let (argv, cwd) = (command, cwd.map(Into::into));
                let command = CommandSpec { argv, cwd, here: on.is_some(), ..CommandSpec::default() };
                (id, name, timeout_s, CheckKind::Command(command))
            }
            Kinds::Tcp(TcpCheck { id, name, address, timeout_s }) => (id, name, timeout_s, CheckKind::Tcp { address }),
            Kinds::Sql(SqlCheck { id, name, database, query, expect, timeout_s }) => {
                (id, name, timeout_s, CheckKind::Sql { database, query, expect: expect.map(|t| t.0) })
            }
        };
        let timeout_ms = (timeout_s * 1000.0).ceil() as u64;
        Self { spec: CheckSpec { id: id.trim().to_owned(), name, timeout_ms, kind }, env: own }
    }
}

/// The staging checks, each with a unique id.
pub(super) fn checks<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Check>, D::Error> {
    let checks: Vec<Check> = Vec::<CheckKeys>::deserialize(from)?.into_iter().map(Check::from).collect();
    for (n, check) in checks.iter().enumerate() {
        let id = check.id();
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if id.is_empty() || id.len() > 64 || !id.chars().all(known) {
            return Err(de::Error::custom(format!(
                "check id {id:?}: expected letters, digits, -, _ or . (at most 64)"
            )));
        }
        if checks.iter().take(n).any(|c| c.id() == id) {
            return Err(de::Error::custom(format!("check {id} is declared twice; give each its own id")));
        }
    }
    Ok(checks)
}

/// An entry of `sandbox_infra`: an id, or a map.
pub(super) struct AllowanceKeys(Allowance);

/// A check whose failure may be waived.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FullAllowance {
    /// The check's id
    #[serde(deserialize_with = "loose")]
    #[schemars(schema_with = "loose_schema")]
    id: String,
    /// Only a failure with this text in its detail
    signature: Option<String>,
    /// Who answers for it
    owner: Option<String>,
    /// Last day on which it holds, YYYY-MM-DD
    #[serde(default, deserialize_with = "day")]
    #[schemars(with = "Option<String>")]
    expires: Option<Date>,
}

fn day<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Date>, D::Error> {
    let text = String::deserialize(from)?;
    let day = text.trim().parse::<Date>();
    day.map(Some).map_err(|_| de::Error::custom(format!("is {text:?}, expected a date such as 2027-01-31")))
}

impl<'de> Deserialize<'de> for AllowanceKeys {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct IdOrMap;
        impl<'de> Visitor<'de> for IdOrMap {
            type Value = AllowanceKeys;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a check's id or {id, signature, owner, expires}")
            }
            fn visit_u64<E>(self, id: u64) -> Result<AllowanceKeys, E> {
                Ok(AllowanceKeys(Allowance::of(&id.to_string())))
            }
            fn visit_str<E>(self, id: &str) -> Result<AllowanceKeys, E> {
                Ok(AllowanceKeys(Allowance::of(id.trim())))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AllowanceKeys, A::Error> {
                let FullAllowance { id, signature, owner, expires } =
                    FullAllowance::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(AllowanceKeys(Allowance { id: id.trim().to_owned(), signature, owner, expires }))
            }
        }
        from.deserialize_any(IdOrMap)
    }
}

impl JsonSchema for AllowanceKeys {
    fn schema_name() -> Cow<'static, str> {
        "Allowance".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (id, full) = (loose_schema(generator), FullAllowance::json_schema(generator));
        schemars::json_schema!({"description": "A check's id, or {id, signature, owner, expires}", "oneOf": [id, full]})
    }
}

/// The allow-list of staging checks.
pub(super) fn allowances<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Allowance>, D::Error> {
    let all: Vec<Allowance> = Vec::<AllowanceKeys>::deserialize(from)?.into_iter().map(|keys| keys.0).collect();
    match all.iter().position(|a| a.id.is_empty()) {
        Some(n) => Err(de::Error::custom(format!("[{n}] has no id, expected a check's id"))),
        None => Ok(all),
    }
}

pub(super) fn date(text: &str, at: &str) -> Result<Date, ConfigError> {
    text.trim()
        .parse::<Date>()
        .map_err(|_| ConfigError::new(format!("{at} is {text:?}, expected a date such as 2027-01-31")))
}

pub(super) fn missing(at: &str, expected: &str) -> ConfigError {
    ConfigError::new(format!("{at} is missing, expected {expected}"))
}
