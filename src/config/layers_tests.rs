//! What the schema allows, where a value is from, and where a wrong one is named.

use super::super::load::{parse, schema};
use super::super::{Config, ConfigError};
use std::collections::BTreeMap;
use std::path::Path;

const SAMPLE: &str = include_str!("../../tests/fixtures/orch.sample.yaml");
const MINIMAL: &str = "projects: [{key: ORCH, git: {remote: /srv/orch.git}}]\n";

fn read_with(text: &str, pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut env: BTreeMap<String, String> = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    env.insert("HOME".into(), "/home/me".into());
    parse(text, Path::new("/etc/orch"), None, &env, Path::new("/cwd"))
}

fn read(text: &str) -> Result<Config, ConfigError> {
    read_with(text, &[])
}

/// The schema shows an editor which keys belong to which kind (CFG-1).
#[test]
fn each_kind_is_one_shape_of_the_schema() {
    let schema = schema();
    let words = |name: &str| {
        let all = schema["$defs"][name]["oneOf"].as_array().unwrap_or_else(|| panic!("{name}: {schema:#}"));
        let of = |kind: &serde_json::Value| kind["properties"]["kind"]["const"].as_str().unwrap().to_owned();
        all.iter().map(of).collect::<Vec<String>>()
    };
    assert_eq!(words("Board"), ["local", "plane", "github"]);
    assert_eq!(words("Forge"), ["local", "gitea", "github"]);
    assert_eq!(words("Runtime"), ["claude", "command", "codex", "gemini", "opencode"]);
    assert_eq!(words("Check"), ["http", "command", "tcp", "sql"]);
    let plane = &schema["$defs"]["Board"]["oneOf"][1];
    assert_eq!(plane["additionalProperties"], false);
    assert_eq!(plane["required"], serde_json::json!(["kind", "url", "workspace", "project", "api_key"]));
    assert_eq!(plane["properties"]["full_scan_every_s"]["default"], 86_400);
    assert!(plane["properties"].get("dir").is_none());
}

/// Whatever the schema calls a text, a number or a switch is refused as anything else, wherever it is written; so is an
/// unknown key (CFG-1).
#[test]
fn what_the_schema_does_not_allow_is_refused() {
    let schema = schema();
    let definition = |node: &serde_json::Value| {
        let name = node["$ref"].as_str().and_then(|r| r.rsplit('/').next());
        name.map_or_else(|| node.clone(), |name| schema["$defs"][name].clone())
    };
    let mut tried = 0;
    for (section, node) in schema["properties"].as_object().unwrap() {
        let node = definition(node);
        let Some(keys) = node["properties"].as_object() else { continue };
        let file = |key: &str, value: &str| format!("{MINIMAL}{section}: {{{key}: {value}}}\n");
        let e = read(&file("no_such_key", "1")).unwrap_err();
        assert!(e.message.contains("no_such_key") && e.message.contains("line 2"), "{e}");
        for (key, of) in keys {
            let wrong = match definition(of)["type"].as_str() {
                Some("string") => "5",
                Some("integer" | "number" | "boolean") => "[x]",
                Some("array" | "object") => "x",
                _ => continue,
            };
            tried += 1;
            let e = read(&file(key, wrong)).unwrap_err();
            assert!(e.message.contains(&format!("{section}.{key}")) && e.message.contains("line 2"), "{e}");
        }
    }
    assert!(tried > 100, "{tried}");
    for extra in ["staging: {sandbox: {project: 5}}", "git: {remote: /x, branch_prefix: 5}", "repo: true"] {
        let text = format!("projects:\n- key: ORCH\n  {extra}\n");
        let e = read(&text).unwrap_err();
        assert!(
            e.message.contains("expected a text at line 3") && e.hint.as_deref().is_some_and(|h| h.contains("quotes")),
            "{e:?}"
        );
    }
}

/// `config show` of the page's sample, with every source: rewritten with `ORCH_BLESS=1`.
#[test]
fn the_sample_is_shown_as_ever() {
    let layered = "confine: {mode: auto}\nsecurity: {scan_timeout_s: 9}\nreaper: {dead_ticks: 3}\n";
    let env = [("ORCH_REAPER_INTERVAL_S", "7"), ("ORCH_STAGING_ENABLED", "off"), ("ORCH_CONFINE_NETWORK", "internet")];
    let c = read_with(&format!("{SAMPLE}{layered}"), &env).unwrap();
    let lines = c.shown().into_iter().map(|s| format!("{} = {} ({})\n", s.path, s.value, s.source));
    let text: String = lines.chain(c.warnings.iter().map(|warning| format!("# {warning}\n"))).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/orch.sample.shown");
    if std::env::var_os("ORCH_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text);
}

/// An error names the place where the value is written.
#[test]
fn a_wrong_value_is_named_at_its_own_place() {
    for (text, pairs, said) in [
        (
            "security: {scan_timeout_s: 0}\n",
            [].as_slice(),
            "security.scan_timeout_s is 0, expected 1 or more at line 2",
        ),
        (
            "",
            &[("ORCH_REAPER_INTERVAL_S", "0")],
            "reaper.interval_s is 0, expected 1 or more (the variable ORCH_REAPER_INTERVAL_S)",
        ),
        ("confine: {network: hosts}\n", &[], "confine.hosts is missing"),
        ("agents:\n  runtime: x\n", &[], "expected a name under `runtimes`: claude at line 3"),
    ] {
        let e = read_with(&format!("{MINIMAL}{text}"), pairs).unwrap_err();
        assert!(e.message.contains(said), "{text}: {e}");
    }
}

/// A name with dots is one key.
#[test]
fn a_runtime_may_have_dots_in_its_name() {
    let text =
        format!("confine: {{mode: auto}}\n{MINIMAL}runtimes: {{my.own: {{command: [x], confine: {{files: 9}}}}}}\n");
    let c = read(&text).unwrap();
    assert_eq!(c.runtimes["my.own"].confine.as_ref().unwrap().files, 9);
    assert_eq!(c.runtimes.len(), 2);
    assert_eq!(
        (c.source("runtimes.my.own.confine.files"), c.source("runtimes.my.own.kind")),
        ("file".into(), "default".into())
    );
    assert!(
        read(&format!("{MINIMAL}reaper: [true, 60]\n")).unwrap_err().message.contains("expected a section of keys")
    );
    let errors = format!("{MINIMAL}post_deploy: {{errors: {{}}}}\n");
    assert_eq!(read(&errors).unwrap().post_deploy.errors, crate::config::Errors::Own);
}
