//! What the two checks that work without a configuration read: a file with a `staging:` section, and a few variables.

use crate::model::probe::{CheckKind, CheckSpec, CommandSpec};
use crate::model::staging::Allowance;
use crate::model::watch::WatchPolicy;
use jiff::civil::Date;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A `staging:` section as it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagingSetup {
    pub enabled: bool,
    pub tolerance: bool,
    pub checks: Vec<CheckSpec>,
    pub allowed: Vec<Allowance>,
}

/// What is wrong, where, and what was expected. Always exit 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSetup(String);

#[derive(Deserialize)]
struct RawFile {
    staging: Option<RawStaging>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStaging {
    enabled: Option<bool>,
    infra_tolerance_enabled: Option<bool>,
    #[serde(default)]
    checks: Vec<RawCheck>,
    #[serde(default)]
    sandbox_infra: Vec<RawAllowance>,
    /// Not used here; allowed so that a project's section can be given as it stands.
    #[serde(rename = "revision")]
    _revision: Option<serde_json::Value>,
    #[serde(rename = "build")]
    _build: Option<serde_json::Value>,
    #[serde(rename = "sandbox")]
    _sandbox: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCheck {
    id: String,
    name: Option<String>,
    kind: String,
    url: Option<String>,
    expect_status: Option<u16>,
    expect_body: Option<String>,
    retries: Option<u32>,
    command: Option<Vec<String>>,
    cwd: Option<String>,
    env: Option<BTreeMap<String, Scalar>>,
    address: Option<String>,
    database: Option<String>,
    query: Option<String>,
    expect: Option<Scalar>,
    timeout_s: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawAllowance {
    Id(String),
    Full(FullAllowance),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FullAllowance {
    id: String,
    signature: Option<String>,
    owner: Option<String>,
    expires: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

impl Scalar {
    fn text(&self) -> String {
        match self {
            Self::Bool(b) => b.to_string(),
            Self::Int(n) => n.to_string(),
            Self::Float(n) => n.to_string(),
            Self::Text(t) => t.clone(),
        }
    }
}

/// Reads a `--checks` file. `folder`: what a relative `database` is relative to. `var`: the environment, which wins.
pub fn staging(text: &str, folder: &Path, var: &dyn Fn(&str) -> Option<String>) -> Result<StagingSetup, BadSetup> {
    let file: RawFile = crate::yaml::from_str(text).map_err(|e| BadSetup(e.to_string()))?;
    let raw = file.staging.ok_or_else(|| BadSetup("it has no section `staging:`; name the checks under it".into()))?;
    let mut checks: Vec<CheckSpec> = Vec::new();
    for check in raw.checks {
        let id = check.id.trim().to_owned();
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if id.is_empty() || id.len() > 64 || !id.chars().all(known) {
            return Err(BadSetup(format!("check id {:?}: expected letters, digits, -, _ or . (at most 64)", check.id)));
        }
        if checks.iter().any(|c| c.id == id) {
            return Err(BadSetup(format!("check {id} is declared twice; give each its own id")));
        }
        checks.push(check_of(id, check, folder)?);
    }
    let allowed = raw.sandbox_infra.into_iter().map(allowance).collect::<Result<_, _>>()?;
    Ok(StagingSetup {
        enabled: switch("ORCH_STAGING_ENABLED", var)?.or(raw.enabled).unwrap_or(true),
        tolerance: switch("ORCH_STAGING_INFRA_TOLERANCE_ENABLED", var)?.or(raw.infra_tolerance_enabled).unwrap_or(true),
        checks,
        allowed,
    })
}

fn check_of(id: String, raw: RawCheck, folder: &Path) -> Result<CheckSpec, BadSetup> {
    let need = |field: &str| BadSetup(format!("check {id}: a {} check needs `{field}`", raw.kind));
    let fields: [(&str, bool, &str); 11] = [
        ("url", raw.url.is_some(), "http"),
        ("expect_status", raw.expect_status.is_some(), "http"),
        ("expect_body", raw.expect_body.is_some(), "http"),
        ("retries", raw.retries.is_some(), "http"),
        ("command", raw.command.is_some(), "command"),
        ("cwd", raw.cwd.is_some(), "command"),
        ("env", raw.env.is_some(), "command"),
        ("address", raw.address.is_some(), "tcp"),
        ("database", raw.database.is_some(), "sql"),
        ("query", raw.query.is_some(), "sql"),
        ("expect", raw.expect.is_some(), "sql"),
    ];
    if !["http", "command", "tcp", "sql"].contains(&raw.kind.as_str()) {
        return Err(BadSetup(format!("check {id}: kind {:?}, expected http, command, tcp or sql", raw.kind)));
    }
    if let Some((name, _, of)) = fields.iter().find(|(_, set, of)| *set && *of != raw.kind) {
        return Err(BadSetup(format!("check {id}: `{name}` belongs to a {of} check, and this is a {} one", raw.kind)));
    }
    let (kind, default_s) = match raw.kind.as_str() {
        "http" => {
            let url = raw.url.clone().ok_or_else(|| need("url"))?;
            if !url.starts_with("http://") && !url.starts_with("https://") {
                return Err(BadSetup(format!("check {id}: `url` is {url:?}, expected http:// or https://")));
            }
            let kind = CheckKind::Http {
                url,
                expect_status: raw.expect_status.unwrap_or(200),
                expect_body: raw.expect_body.clone().unwrap_or_default(),
                retries: raw.retries.unwrap_or(0),
            };
            (kind, 10.0)
        }
        "command" => {
            let argv = raw.command.clone().filter(|a| !a.is_empty()).ok_or_else(|| need("command"))?;
            let env = raw.env.iter().flatten().map(|(k, v)| (k.clone(), v.text())).collect();
            (CheckKind::Command(CommandSpec { argv, cwd: raw.cwd.clone().map(Into::into), env }), 60.0)
        }
        "tcp" => (CheckKind::Tcp { address: raw.address.clone().ok_or_else(|| need("address"))? }, 3.0),
        _ => {
            let database = folder.join(raw.database.clone().ok_or_else(|| need("database"))?);
            let query = raw.query.clone().ok_or_else(|| need("query"))?;
            (CheckKind::Sql { database, query, expect: raw.expect.as_ref().map(Scalar::text) }, 10.0)
        }
    };
    let seconds = raw.timeout_s.unwrap_or(default_s);
    if !(seconds > 0.0 && seconds <= 86_400.0) {
        return Err(BadSetup(format!("check {id}: `timeout_s` is {seconds}, expected more than 0 and at most 86400")));
    }
    // In range by the line above.
    let timeout_ms = (seconds * 1000.0).ceil() as u64;
    Ok(CheckSpec { id, name: raw.name, timeout_ms, kind })
}

fn allowance(raw: RawAllowance) -> Result<Allowance, BadSetup> {
    match raw {
        RawAllowance::Id(id) => Ok(Allowance::of(id.trim())),
        RawAllowance::Full(full) => {
            let date = |text: String| {
                text.trim().parse::<Date>().map_err(|_| {
                    BadSetup(format!(
                        "sandbox_infra {}: `expires` is {text:?}, expected a date such as 2027-01-31",
                        full.id
                    ))
                })
            };
            let expires = full.expires.clone().map(date).transpose()?;
            let id = full.id.trim().to_owned();
            Ok(Allowance { id, signature: full.signature, owner: full.owner, expires })
        }
    }
}

/// A switch of the environment; an empty value counts as unset (CFG-2).
fn switch(name: &str, var: &dyn Fn(&str) -> Option<String>) -> Result<Option<bool>, BadSetup> {
    let Some(text) = set(name, var) else { return Ok(None) };
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(Some(true)),
        "false" | "0" | "no" | "off" => Ok(Some(false)),
        _ => Err(BadSetup(format!("{name} is {text:?}, expected true or false"))),
    }
}

fn set(name: &str, var: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    var(name).map(|t| t.trim().to_owned()).filter(|t| !t.is_empty())
}

/// The stand-alone watch's policy of `count` probes, and whether the watch is switched on. A window shorter than the
/// threshold could never be DEGRADED, so the threshold is at most `count`.
pub fn watch(count: u64, var: &dyn Fn(&str) -> Option<String>) -> Result<(bool, WatchPolicy), BadSetup> {
    let mut policy = WatchPolicy { window_s: count, interval_s: 1, ..WatchPolicy::default() };
    let name = "ORCH_POST_DEPLOY_FAIL_THRESHOLD";
    if let Some(text) = set(name, var) {
        policy.fail_threshold =
            text.parse().map_err(|_| BadSetup(format!("{name} is {text:?}, expected a whole number")))?;
    }
    let name = "ORCH_POST_DEPLOY_5XX_THRESHOLD";
    if let Some(text) = set(name, var) {
        let share: Option<f64> = text.parse().ok().filter(|s| (0.0..=1.0).contains(s));
        policy.share_5xx =
            share.ok_or_else(|| BadSetup(format!("{name} is {text:?}, expected a share from 0 to 1")))?;
    }
    policy.fail_threshold = policy.fail_threshold.min(u32::try_from(count).unwrap_or(u32::MAX)).max(1);
    Ok((switch("ORCH_POST_DEPLOY_ENABLED", var)?.unwrap_or(true), policy))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<StagingSetup, BadSetup> {
        staging(text, Path::new("/f"), &|_| None)
    }

    #[test]
    fn the_sample_of_the_configuration_page_is_read() {
        let s = read(
            r#"
staging:
  checks:
    - {id: S1, name: health, kind: http, url: "http://127.0.0.1:8080/health", expect_status: 200, expect_body: "ok", timeout_s: 10, retries: 2}
    - {id: S2, kind: command, command: ["./smoke.sh"], timeout_s: 60}
    - {id: S3, kind: tcp, address: "127.0.0.1:5432", timeout_s: 3}
    - {id: S4, kind: sql, database: ./staging.db, query: "select count(*) from t", expect: 3}
  sandbox_infra: [{id: S3, signature: "refused", owner: ann, expires: 2027-01-31}, S2]
  revision: {command: ["./staging-revision.sh"], timeout_s: 60}
  sandbox: {project: SBX}
"#,
        )
        .unwrap();
        assert_eq!(s.checks.len(), 4);
        assert!(matches!(&s.checks[3].kind, CheckKind::Sql { expect: Some(e), .. } if e == "3"));
        assert_eq!(s.allowed[0].expires, Some(jiff::civil::date(2027, 1, 31)));
        assert_eq!(s.allowed[1], Allowance::of("S2"));
        assert!(s.enabled && s.tolerance);
    }

    #[test]
    fn what_can_not_be_meant_is_refused_with_its_name() {
        for (text, part) in [
            ("projects: []", "no section"),
            ("staging: {chekcs: []}", "chekcs"),
            ("staging: {checks: [{id: S1, kind: ftp}]}", "ftp"),
            ("staging: {checks: [{id: S1, kind: http}]}", "needs `url`"),
            ("staging: {checks: [{id: S1, kind: http, url: 'x'}]}", "expected http://"),
            ("staging: {checks: [{id: S1, kind: tcp, address: 'a:1', url: 'x'}]}", "belongs to a http check"),
            ("staging: {checks: [{id: S1, kind: tcp, address: 'a:1', timeout_s: -1}]}", "timeout_s"),
            ("staging: {checks: [{id: S1, kind: tcp, address: 'a:1'}, {id: S1, kind: tcp, address: 'a:1'}]}", "twice"),
            ("staging: {checks: [{id: 'a b', kind: tcp, address: 'a:1'}]}", "a b"),
            ("staging: {checks: [], sandbox_infra: [{id: S1, expires: tomorrow}]}", "tomorrow"),
            ("staging: [", ""),
        ] {
            let e = read(text).unwrap_err().to_string();
            assert!(e.contains(part), "{text}: {e}");
        }
    }

    #[test]
    fn the_environment_wins_and_is_refused_where_it_says_nothing() {
        let with = |value: &'static str| move |name: &str| (name == "ORCH_STAGING_ENABLED").then(|| value.to_owned());
        let text = "staging: {enabled: true, checks: []}";
        assert!(!staging(text, Path::new("."), &with("off")).unwrap().enabled);
        assert!(staging(text, Path::new("."), &with("")).unwrap().enabled);
        assert!(
            staging(text, Path::new("."), &with("maybe")).unwrap_err().to_string().contains("ORCH_STAGING_ENABLED")
        );
        assert_eq!(watch(2, &|_| None).unwrap().1.fail_threshold, 2);
        assert!(watch(2, &|n| (n == "ORCH_POST_DEPLOY_5XX_THRESHOLD").then(|| "5".into())).is_err());
    }
}
