//! Turns the file's commands, checks and targets into the effective ones.

use super::error::ConfigError;
use super::paths::{expand, under};
use super::raw::{RawAllowance, RawCheck, RawCommand, RawErrors, RawHealth, RawRevision};
use super::secret::{EnvValue, SecretRef};
use super::types::{Allowance, Check, CheckWord, CommandLine, Errors, Health, Reading, Revision};
use crate::model::probe::{CheckKind, CheckSpec, CommandSpec};
use jiff::civil::Date;
use std::collections::BTreeMap;
use std::path::Path;

/// What paths are relative to, and the environment for `$VAR` in them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub folder: &'a Path,
    pub env: &'a BTreeMap<String, String>,
}

impl Place<'_> {
    /// The absolute form of one of the file's paths.
    pub fn path(&self, text: &str, at: &str) -> Result<std::path::PathBuf, ConfigError> {
        Ok(under(self.folder, expand(text, self.env, at)?))
    }

    /// A program: a bare name is searched on PATH later, a path is made absolute.
    pub fn program(&self, text: &str, at: &str) -> Result<String, ConfigError> {
        if text.trim().is_empty() {
            return Err(missing(at, "a program's name or path"));
        }
        if text.contains('/') || text.starts_with('~') || text.starts_with('$') {
            return Ok(self.path(text, at)?.to_string_lossy().into_owned());
        }
        Ok(text.to_owned())
    }

    /// A secret's reference with its path expanded.
    pub fn secret(&self, from: &SecretRef, at: &str) -> Result<SecretRef, ConfigError> {
        Ok(match from {
            SecretRef::File(path) => SecretRef::File(self.path(&path.to_string_lossy(), at)?),
            SecretRef::Env(name) if !is_variable(name) => {
                return Err(ConfigError::new(format!("{at}: `env` takes a variable's name (it is not repeated)")));
            }
            SecretRef::Env(_) | SecretRef::Command(_) => from.clone(),
        })
    }

    /// An `env` map with its references' paths expanded and its names checked.
    pub fn env(
        &self,
        env: Option<&BTreeMap<String, EnvValue>>,
        at: &str,
    ) -> Result<BTreeMap<String, EnvValue>, ConfigError> {
        let mut out = BTreeMap::new();
        for (name, value) in env.into_iter().flatten() {
            if !is_variable(name) {
                return Err(ConfigError::new(format!("{at}.env: {name:?} is no variable's name")));
            }
            if name.starts_with("ORCH_") {
                return Err(ConfigError::new(format!("{at}.env: {name} is one of orch's own variables"))
                    .hint("choose a name that does not begin with ORCH_"));
            }
            let value = match value {
                EnvValue::Literal(text) if text.contains('\0') => {
                    return Err(ConfigError::new(format!("{at}.env.{name} holds a NUL character")));
                }
                EnvValue::Literal(_) => value.clone(),
                EnvValue::Ref(from) => EnvValue::Ref(self.secret(from, &format!("{at}.env.{name}"))?),
            };
            out.insert(name.clone(), value);
        }
        Ok(out)
    }

    /// A command with its time limit.
    pub fn command(&self, raw: &RawCommand, default_s: f64, at: &str) -> Result<CommandLine, ConfigError> {
        let command =
            argv(raw.command.as_ref(), at)?.ok_or_else(|| missing(&format!("{at}.command"), "[program, arguments]"))?;
        Ok(CommandLine {
            command,
            timeout_s: seconds(raw.timeout_s, default_s, at)?,
            env: self.env(raw.env.as_ref(), at)?,
        })
    }

    /// How to ask for a revision.
    pub fn revision(&self, raw: &RawRevision, at: &str) -> Result<Revision, ConfigError> {
        match (&raw.command, &raw.url) {
            (Some(_), None) if raw.field.is_none() => {
                let raw = RawCommand { command: raw.command.clone(), timeout_s: raw.timeout_s, env: raw.env.clone() };
                Ok(Revision::Command(self.command(&raw, 60.0, at)?))
            }
            (None, Some(url)) if raw.env.is_none() => Ok(Revision::Url {
                url: http(url, &format!("{at}.url"))?,
                field: raw.field.clone().filter(|f| !f.is_empty()),
                timeout_s: seconds(raw.timeout_s, 10.0, at)?,
            }),
            _ => Err(ConfigError::new(format!(
                "{at}: expected {{command, timeout_s, env}} or {{url, field, timeout_s}}"
            ))),
        }
    }

    /// Where the 5xx share comes from.
    pub fn errors(&self, raw: &RawErrors, at: &str) -> Result<Errors, ConfigError> {
        match (&raw.command, &raw.prometheus) {
            (None, None) if raw.env.is_none() && raw.timeout_s.is_none() => Ok(Errors::Own),
            (Some(_), None) => {
                let raw = RawCommand { command: raw.command.clone(), timeout_s: raw.timeout_s, env: raw.env.clone() };
                Ok(Errors::Command(self.command(&raw, 10.0, at)?))
            }
            (None, Some(p)) if raw.env.is_none() => {
                let need = |value: &Option<String>, key: &str| {
                    text(value.as_ref()).ok_or_else(|| missing(&format!("{at}.prometheus.{key}"), "a text"))
                };
                Ok(Errors::Prometheus {
                    url: http(&need(&p.url, "url")?, &format!("{at}.prometheus.url"))?,
                    requests: need(&p.requests, "requests")?,
                    errors_5xx: need(&p.errors_5xx, "errors_5xx")?,
                    reading: p.reading.unwrap_or(Reading::Counter),
                    timeout_s: seconds(raw.timeout_s, 10.0, at)?,
                })
            }
            _ => Err(ConfigError::new(format!(
                "{at}: expected {{command, timeout_s, env}} or {{prometheus: {{url, requests, errors_5xx, reading}}, timeout_s}}"
            ))),
        }
    }

    /// The staging checks, each with a unique id.
    pub fn checks(&self, raw: &[RawCheck], at: &str) -> Result<Vec<Check>, ConfigError> {
        let mut checks: Vec<Check> = Vec::new();
        for (n, check) in raw.iter().enumerate() {
            let id = check.id.as_deref().map(str::trim).unwrap_or_default();
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if id.is_empty() || id.len() > 64 || !id.chars().all(known) {
                return Err(ConfigError::new(format!(
                    "{at}[{n}]: check id {id:?}: expected letters, digits, -, _ or . (at most 64)"
                )));
            }
            if checks.iter().any(|c| c.id() == id) {
                return Err(ConfigError::new(format!("{at}: check {id} is declared twice; give each its own id")));
            }
            checks.push(self.check(id, check)?);
        }
        Ok(checks)
    }

    fn check(&self, id: &str, raw: &RawCheck) -> Result<Check, ConfigError> {
        let at = format!("check {id}");
        let Some(word) = raw.kind else {
            return Err(missing(&format!("{at}: `kind`"), "http, command, tcp or sql"));
        };
        let need = |field: &str| ConfigError::new(format!("{at}: a {word} check needs `{field}`"));
        let fields: [(&str, bool, CheckWord); 12] = [
            ("url", raw.url.is_some(), CheckWord::Http),
            ("expect_status", raw.expect_status.is_some(), CheckWord::Http),
            ("expect_body", raw.expect_body.is_some(), CheckWord::Http),
            ("retries", raw.retries.is_some(), CheckWord::Http),
            ("command", raw.command.is_some(), CheckWord::Command),
            ("cwd", raw.cwd.is_some(), CheckWord::Command),
            ("env", raw.env.is_some(), CheckWord::Command),
            ("address", raw.address.is_some(), CheckWord::Tcp),
            ("database", raw.database.is_some(), CheckWord::Sql),
            ("on", raw.on.is_some(), CheckWord::Command),
            ("query", raw.query.is_some(), CheckWord::Sql),
            ("expect", raw.expect.is_some(), CheckWord::Sql),
        ];
        if let Some((name, _, of)) = fields.iter().find(|(_, set, of)| *set && *of != word) {
            return Err(ConfigError::new(format!("{at}: `{name}` belongs to a {of} check, and this is a {word} one")));
        }
        let (kind, default_s) = match word {
            CheckWord::Http => {
                let kind = CheckKind::Http {
                    url: http(&text(raw.url.as_ref()).ok_or_else(|| need("url"))?, &format!("{at}: `url`"))?,
                    expect_status: raw.expect_status.unwrap_or(200),
                    expect_body: raw.expect_body.clone().unwrap_or_default(),
                    retries: raw.retries.unwrap_or(0),
                };
                (kind, 10.0)
            }
            CheckWord::Command => {
                let argv = argv(raw.command.as_ref(), &at)?.ok_or_else(|| need("command"))?;
                (
                    CheckKind::Command(CommandSpec {
                        argv,
                        cwd: raw.cwd.clone().map(Into::into),
                        here: raw.on.is_some(),
                        ..CommandSpec::default()
                    }),
                    60.0,
                )
            }
            CheckWord::Tcp => {
                (CheckKind::Tcp { address: text(raw.address.as_ref()).ok_or_else(|| need("address"))? }, 3.0)
            }
            CheckWord::Sql => {
                let database = text(raw.database.as_ref()).ok_or_else(|| need("database"))?;
                let database = self.folder.join(expand(&database, self.env, &format!("{at}: `database`"))?);
                let query = text(raw.query.as_ref()).ok_or_else(|| need("query"))?;
                (CheckKind::Sql { database, query, expect: raw.expect.clone().map(|t| t.0) }, 10.0)
            }
        };
        let timeout_ms = (seconds(raw.timeout_s, default_s, &at)? * 1000.0).ceil() as u64;
        let spec = CheckSpec { id: id.to_owned(), name: raw.name.clone(), timeout_ms, kind };
        Ok(Check { spec, env: self.env(raw.env.as_ref(), &at)? })
    }
}

/// The allow-list of staging checks.
pub(super) fn allowances(raw: &[RawAllowance], at: &str) -> Result<Vec<Allowance>, ConfigError> {
    let one = |raw: &RawAllowance| {
        let id = raw.id.trim().to_owned();
        if id.is_empty() {
            return Err(missing(&format!("{at}: `id`"), "a check's id"));
        }
        let expires = raw.expires.as_deref().map(|d| date(d, &format!("{at} {id}: `expires`"))).transpose()?;
        Ok(Allowance { id, signature: raw.signature.clone(), owner: raw.owner.clone(), expires })
    };
    raw.iter().map(one).collect()
}

/// The watch's health URLs.
pub(super) fn health(raw: &[RawHealth], at: &str) -> Result<Vec<Health>, ConfigError> {
    let one = |(n, raw): (usize, &RawHealth)| {
        let at = format!("{at}[{n}]");
        Ok(Health {
            url: http(raw.url.as_deref().unwrap_or_default(), &format!("{at}.url"))?,
            expect_status: raw.expect_status,
            expect_body: raw.expect_body.clone().unwrap_or_default(),
            max_latency_ms: raw.max_latency_ms.unwrap_or(0),
            timeout_s: seconds(raw.timeout_s, 5.0, &at)?,
        })
    };
    raw.iter().enumerate().map(one).collect()
}

pub(super) fn date(text: &str, at: &str) -> Result<Date, ConfigError> {
    text.trim()
        .parse::<Date>()
        .map_err(|_| ConfigError::new(format!("{at} is {text:?}, expected a date such as 2027-01-31")))
}

/// A text that is not blank.
pub(super) fn text(value: Option<&String>) -> Option<String> {
    value.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty())
}

pub(super) fn missing(at: &str, expected: &str) -> ConfigError {
    ConfigError::new(format!("{at} is missing, expected {expected}"))
}

/// An argv; `None` if absent or empty.
pub(super) fn argv(raw: Option<&Vec<String>>, at: &str) -> Result<Option<Vec<String>>, ConfigError> {
    let Some(argv) = raw.filter(|a| !a.is_empty()) else { return Ok(None) };
    if argv[0].trim().is_empty() || argv.iter().any(|a| a.contains('\0')) {
        return Err(ConfigError::new(format!(
            "{at}: a command is [program, arguments], without an empty program or NUL"
        )));
    }
    Ok(Some(argv.clone()))
}

/// An http(s) URL without a credential in it.
pub(super) fn http(url: &str, at: &str) -> Result<String, ConfigError> {
    let url = url.trim();
    let lower = url.to_ascii_lowercase();
    let rest = lower.strip_prefix("http://").or_else(|| lower.strip_prefix("https://")).unwrap_or_default();
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        return Err(ConfigError::new(format!("{at}: a URL must not hold a user or password (it is not repeated)")));
    }
    if host.is_empty() || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(ConfigError::new(format!("{at} is {url:?}, expected http:// or https:// and a host")));
    }
    Ok(url.to_owned())
}

/// A time limit in seconds: more than 0, at most a week.
pub(super) fn seconds(value: Option<f64>, default: f64, at: &str) -> Result<f64, ConfigError> {
    let value = value.unwrap_or(default);
    if value > 0.0 && value <= 604_800.0 {
        return Ok(value);
    }
    Err(ConfigError::new(format!("{at}: `timeout_s` is {value}, expected more than 0 and at most 604800")))
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
}
