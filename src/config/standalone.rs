//! What the two checks that work without a configuration read: a file with a `staging:` section, and a few variables.

use super::confine;
use super::error::ConfigError;
use super::parts::{Place, allowances};
use super::settings::{Confine, PostDeploy, RawConfine, RawStaging, Setting, Staging};
use super::vars::Vars;
use crate::model::confine::{Mode, Policy};
use crate::model::probe::CheckSpec;
use crate::model::staging::Allowance;
use crate::model::watch::WatchPolicy;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The effective `staging:` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagingSetup {
    pub enabled: bool,
    pub tolerance: bool,
    pub checks: Vec<CheckSpec>,
    pub allowed: Vec<Allowance>,
    /// How command checks are confined. They are the caller's own, so the mode is `auto` unless one is named (BND-2).
    pub confine: Policy,
}

#[derive(Deserialize)]
struct RawFile {
    staging: Option<RawStaging>,
    confine: Option<RawConfine>,
}

/// The variable of `confine.mode`.
const MODE: &str = "ORCH_CONFINE_MODE";

/// Reads a `--checks` file. `folder`: base of a relative `database`. `var`: the environment, which takes precedence.
pub fn staging(text: &str, folder: &Path, var: &dyn Fn(&str) -> Option<String>) -> Result<StagingSetup, ConfigError> {
    let file: RawFile = crate::yaml::from_str(text).map_err(|e| ConfigError::of_yaml(&e.to_string(), text))?;
    let raw = file.staging.ok_or_else(|| ConfigError::new("it has no section `staging:`; name the checks under it"))?;
    let mut env = chosen(&Staging::settings(), var);
    env.extend(chosen(&Confine::settings(), var));
    env.extend(var("HOME").map(|h| ("HOME".to_owned(), h)));
    let section = raw.effective(&Vars::new(&env))?;
    let place = Place { folder, env: &env };
    let held = file.confine.unwrap_or_default();
    let mut confine = confine::top(&held, &Vars::new(&env), &place)?;
    if held.mode.is_none() && var(MODE).is_none_or(|v| v.trim().is_empty()) {
        confine.mode = Mode::Auto;
    }
    let checks = place.checks(raw.checks.as_deref().unwrap_or_default(), "staging.checks")?;
    let specs = checks.iter().map(|c| c.spec().map_err(|e| ConfigError::new(format!("check {}: {e}", c.id()))));
    Ok(StagingSetup {
        enabled: section.enabled,
        tolerance: section.infra_tolerance_enabled,
        checks: specs.collect::<Result<_, _>>()?,
        allowed: allowances(raw.sandbox_infra.as_deref().unwrap_or_default(), "sandbox_infra")?,
        confine: confine.policy(),
    })
}

/// The values of some settings' variables.
fn chosen(settings: &[Setting], var: &dyn Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
    settings.iter().filter_map(|s| Some((s.variable.clone(), var(&s.variable)?))).collect()
}

/// The policy of a stand-alone watch of `count` probes. A window smaller than the threshold could never be DEGRADED, so
/// the threshold is at most `count`.
pub fn watch(count: u64, section: &PostDeploy) -> WatchPolicy {
    let fail_threshold = section.fail_threshold.min(u32::try_from(count).unwrap_or(u32::MAX)).max(1);
    WatchPolicy {
        window_s: count,
        interval_s: 1,
        fail_threshold,
        share_5xx: section.share_5xx,
        min_requests: section.min_requests,
        k_of_m: section.k_of_m.get(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::probe::CheckKind;

    fn read(text: &str) -> Result<StagingSetup, ConfigError> {
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
            ("{staging: {checks: []}, confine: {mode: never}}", "never"),
            ("{staging: {checks: []}, confine: {engine: command}}", "confine.command"),
            ("staging: [", ""),
        ] {
            let e = read(text).unwrap_err().to_string();
            assert!(e.contains(part), "{text}: {e}");
        }
    }

    #[test]
    fn bnd_2_the_callers_own_commands_are_held_where_an_engine_is_there_unless_the_file_says_otherwise() {
        let mode = |text: &str, variable: Option<&'static str>| {
            let var = |name: &str| variable.filter(|_| name == MODE).map(str::to_owned);
            staging(text, Path::new("/f"), &var).unwrap().confine.mode
        };
        let (bare, strict) = ("staging: {checks: []}", "{staging: {checks: []}, confine: {mode: required}}");
        assert_eq!((mode(bare, None), mode(bare, Some(""))), (Mode::Auto, Mode::Auto));
        assert_eq!((mode(strict, None), mode(bare, Some("off"))), (Mode::Required, Mode::Off));
        let known = crate::config::settings::Confine::settings();
        assert!(known.iter().any(|s| s.variable == MODE));
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
    }
}
