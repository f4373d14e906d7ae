//! What the two checks that work without a configuration read: a file with a `staging:` section, and a few variables.

use super::confine;
use super::error::ConfigError;
use super::layers::Layers;
use super::load::schema;
use super::read::Place;
use super::types::{Confine, PostDeploy, Staging};
use super::vars::Vars;
use crate::model::confine::{Mode, Policy};
use crate::model::probe::CheckSpec;
use crate::model::staging::Allowance;
use crate::model::watch::WatchPolicy;
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

/// Reads a `--checks` file. `folder`: base of a relative `database`. `var`: the environment, which takes precedence.
pub fn staging(text: &str, folder: &Path, var: &dyn Fn(&str) -> Option<String>) -> Result<StagingSetup, ConfigError> {
    let mut layers = Layers::of(text)?;
    if layers.get("staging").is_none() {
        return Err(ConfigError::new("it has no section `staging:`; name the checks under it"));
    }
    known(&layers)?;
    let ours = |path: &str| path.starts_with("staging.") || path.starts_with("confine.");
    let settings = super::settings::settings().into_iter().filter(|setting| ours(&setting.path));
    let mut env: BTreeMap<String, String> =
        settings.filter_map(|s| Some((s.variable.clone(), var(&s.variable)?))).collect();
    env.extend(var("HOME").map(|h| ("HOME".to_owned(), h)));
    layers.variables(&Vars::new(&env))?;
    let place = Place { folder, env: &env };
    let section: Staging = layers.read("staging", &place, text)?.unwrap_or_default();
    let mut confine: Confine = layers.read("confine", &place, text)?.unwrap_or_default();
    confine::top(&confine)?;
    if layers.get("confine.mode").is_none() {
        confine.mode = Mode::Auto;
    }
    let specs = section.checks.iter().map(|c| c.spec().map_err(|e| ConfigError::new(format!("check {}: {e}", c.id()))));
    Ok(StagingSetup {
        enabled: section.enabled,
        tolerance: section.infra_tolerance_enabled,
        checks: specs.collect::<Result<_, _>>()?,
        allowed: section.sandbox_infra,
        confine: confine.policy(),
    })
}

/// The file may be a whole configuration, but a misspelt section in it is none.
fn known(layers: &Layers) -> Result<(), ConfigError> {
    let schema = schema();
    let sections: Vec<&str> =
        schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    let keys = layers.doc.as_object().into_iter().flatten().map(|(key, _)| key);
    match keys.into_iter().find(|key| !sections.contains(&key.as_str())) {
        Some(key) => {
            let near = crate::model::text::nearest(key, sections.iter().copied());
            let error = ConfigError::new(format!("unknown field `{key}`, expected a section of orch.yaml"));
            Err(near.map_or(error.clone(), |word| error.hint(format!("did you mean `{word}`?"))))
        }
        None => Ok(()),
    }
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

    /// The variable of `confine.mode`.
    const MODE: &str = "ORCH_CONFINE_MODE";

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
            ("{staging: {checks: []}, confin: {mode: off}}", "confin"),
            ("staging: {checks: [{id: S1, kind: ftp}]}", "ftp"),
            ("staging: {checks: [{id: S1, kind: http}]}", "url is missing"),
            ("staging: {checks: [{id: S1, kind: http, url: 'x'}]}", "expected http://"),
            ("staging: {checks: [{id: S1, kind: tcp, address: 'a:1', url: 'x'}]}", "is a key of kind http"),
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
        assert!(crate::config::settings().iter().any(|s| s.variable == MODE));
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
