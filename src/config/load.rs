//! Finding, reading and merging (CFG-1, CFG-2).

use super::check;
use super::confine;
use super::error::ConfigError;
use super::layers::{Layers, SHARED};
use super::locate::{self, Sought};
use super::parts::missing;
use super::paths::{expand, under};
use super::read::Place;
use super::repository::Repository;
use super::settings::settings;
use super::show::{Inputs, Origin};
use super::slurm;
use super::types::{Config, ExecutorKind};
use super::vars::Vars;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A larger file can't be a configuration.
const MAX_BYTES: u64 = 256 << 10;

/// Finds and reads the configuration. `file`, `state_dir`: from the command line, relative to `cwd`; `env`: the
/// process's environment. Changes nothing. Every failure is exit 2.
pub fn load(
    file: Option<&Path>,
    state_dir: Option<&Path>,
    env: &BTreeMap<String, String>,
    cwd: &Path,
) -> Result<Config, ConfigError> {
    let path = find(file, env, cwd)?;
    from(&path, state_dir, env, cwd)
}

/// The area of runs of a file's configuration, if it can be read.
fn area_of(file: &Path, env: &BTreeMap<String, String>, cwd: &Path) -> Option<PathBuf> {
    let area = from(file, None, env, cwd).ok()?.area_dir;
    Some(std::fs::canonicalize(&area).unwrap_or(area))
}

/// The result of a search without `--config` (ORD-3).
pub fn search(env: &BTreeMap<String, String>, cwd: &Path) -> Sought {
    locate::sought(env, cwd, &|file| area_of(file, env, cwd))
}

/// Reads one file. `state_dir`: from the command line.
fn from(
    path: &Path,
    state_dir: Option<&Path>,
    env: &BTreeMap<String, String>,
    cwd: &Path,
) -> Result<Config, ConfigError> {
    from_with(path, state_dir, env, cwd, &BTreeMap::new())
}

fn from_with(
    path: &Path,
    state_dir: Option<&Path>,
    env: &BTreeMap<String, String>,
    cwd: &Path,
    repositories: &BTreeMap<String, Repository>,
) -> Result<Config, ConfigError> {
    let text = read(path)?;
    let asked = |given: Option<&Path>| given.filter(|p| !p.as_os_str().is_empty()).map(|p| under(cwd, p));
    let folder = path.parent().unwrap_or(Path::new("/"));
    let bare = Bare { no_projects: false, repositories };
    parse_text(&text, folder, asked(state_dir).as_deref(), env, cwd, bare)
        .map(|mut config| {
            config.file = path.to_owned();
            config
        })
        .and_then(|config| confine::places(&config, env).map(|()| config))
        .map(|mut config| {
            config.origin.inputs = inputs(&config, &text, env, repositories);
            config
        })
        .map_err(|mut e| {
            // A fault in a variable is not the file's.
            if !e.message.starts_with("the variable ") {
                e.message = format!("{}: {}", path.display(), e.message);
            }
            e
        })
}

/// All that the settings are made of, in one hash: the file, the variables that it can name and those that are settings,
/// what repositories say, this program and this account.
fn inputs(
    config: &Config,
    text: &str,
    env: &BTreeMap<String, String>,
    repositories: &BTreeMap<String, Repository>,
) -> Inputs {
    let counts = |name: &str| {
        ["ORCH_", "XDG_"].iter().any(|begin| name.starts_with(begin))
            || ["HOME", "PATH", "USER", "LOGNAME"].contains(&name)
            || text.contains(&format!("${name}"))
            || text.contains(&format!("${{{name}"))
    };
    let vars: Vec<(&String, &String)> = env.iter().filter(|(name, _)| counts(name)).collect();
    let root = rustix::process::geteuid().is_root();
    let places = (&config.file, &config.state_dir, &config.area_dir);
    let all = format!("{:?}", (env!("CARGO_PKG_VERSION"), places, root, text, vars, repositories));
    Inputs(Sha256::digest(all.as_bytes()).iter().take(16).map(|b| format!("{b:02x}")).collect())
}

/// As [`load`], for commands that also work without a configuration: if none is named or found, every setting has its
/// default or its variable's value, and there are no projects.
pub fn load_or_bare(
    file: Option<&Path>,
    state_dir: Option<&Path>,
    env: &BTreeMap<String, String>,
    cwd: &Path,
) -> Result<Config, ConfigError> {
    // A file that does not count is ignored (ORD-3).
    if let Some(file) = locate::named(file, env, cwd).or_else(|| search(env, cwd).file) {
        return load(Some(&file), state_dir, env, cwd);
    }
    let set = |name: &str| env.get(name).is_some_and(|v| !v.is_empty());
    let given = state_dir.filter(|p| !p.as_os_str().is_empty()).map(|p| under(cwd, p));
    // Without a home there is no place for state: a command that needs the folder says so.
    let homeless = !(set("XDG_STATE_HOME") || set("HOME") || set("ORCH_STATE_DIR"));
    let nowhere = homeless.then(|| PathBuf::from("/dev/null/orch"));
    let bare = Bare { no_projects: true, repositories: &BTreeMap::new() };
    parse_text("", cwd, given.or(nowhere).as_deref(), env, cwd, bare)
}

fn find(file: Option<&Path>, env: &BTreeMap<String, String>, cwd: &Path) -> Result<PathBuf, ConfigError> {
    if let Some(file) = locate::named(file, env, cwd) {
        return Ok(file);
    }
    let found = search(env, cwd);
    match (&found.passed, &found.file) {
        (Some(passed), _) => Err(passed.refusal()),
        (None, Some(file)) => Ok(file.clone()),
        (None, None) => Err(locate::nowhere(&found)),
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    use std::io::Read;
    let fail = |why: String| {
        ConfigError::new(format!("the configuration {} can't be read: {why}", path.display()))
            .hint("orch init writes one; or name another with --config FILE")
    };
    let file = std::fs::File::open(path).map_err(|e| fail(e.to_string()))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| fail(e.to_string()))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(fail(format!("it is larger than {MAX_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|e| fail(format!("byte {} is not UTF-8", e.utf8_error().valid_up_to())))
}

/// Reads the bytes as a configuration and as a file of checks (see `fuzzing`).
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (folder, none) = (Path::new("/nowhere"), BTreeMap::new());
    drop(parse(text, folder, None, &none, folder).map_err(|e| e.to_string()));
    drop(super::standalone::staging(text, folder, &|_| None).map_err(|e| e.to_string()));
}

/// Reads a configuration's text. `folder`: what its paths are relative to; `state_dir`: from the command line.
pub(super) fn parse(
    text: &str,
    folder: &Path,
    state_dir: Option<&Path>,
    env: &BTreeMap<String, String>,
    cwd: &Path,
) -> Result<Config, ConfigError> {
    parse_text(text, folder, state_dir, env, cwd, Bare { no_projects: false, repositories: &BTreeMap::new() })
}

/// What a text is read with.
#[derive(Clone, Copy)]
struct Bare<'a> {
    /// Having no projects is allowed.
    no_projects: bool,
    /// The files of repositories, by the key of their project (ORD-3).
    repositories: &'a BTreeMap<String, Repository>,
}

impl Config {
    /// The same configuration with the files of repositories, where their projects allow them. Fails if the combination
    /// is invalid.
    pub fn with_repositories(
        &self,
        repositories: &BTreeMap<String, Repository>,
        env: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let given = self.origin.state_dir_given.then_some(self.state_dir.as_path());
        from_with(&self.file, given, env, Path::new("/"), repositories)
    }
}

fn parse_text(
    text: &str,
    folder: &Path,
    state_dir: Option<&Path>,
    env: &BTreeMap<String, String>,
    cwd: &Path,
    bare: Bare<'_>,
) -> Result<Config, ConfigError> {
    let mut layers = Layers::of(text)?;
    let place = Place { folder, env };
    let vars = Vars::new(env);
    lay(&mut layers, &vars, bare, env)?;
    let config = layers.read::<Config>("", &place, text)?.unwrap_or_default();
    let folders = folders(&mut layers, state_dir, &place, &vars, cwd, text)?;
    let config = Config { state_dir: folders.state_dir, area_dir: folders.area_dir, ..config };
    if config.projects.is_empty() && !bare.no_projects {
        return Err(missing("projects", "at least [{key: ORCH, git: {remote: PATH-OR-URL}}]"));
    }
    let unplaced = settle(config, &mut layers, &place, folders.area_named);
    let mut config = unplaced.map_err(|error| error.placed(&layers, text))?;
    config.warnings = vars.unknown(|| settings().into_iter().map(|s| s.variable).collect());
    let forced = layers.forced().into_iter();
    config.warnings.extend(forced.map(|path| format!("{path}: a self-hosting project always has its own")));
    config.warnings.extend(check::warnings(&config));
    config.origin = Origin { layers, state_dir_given: folders.given, inputs: Inputs::default() };
    Ok(config)
}

/// Lays everything over everything: variables over the file, then under each project the section at the top and what its
/// repository says.
fn lay(
    layers: &mut Layers,
    vars: &Vars<'_>,
    bare: Bare<'_>,
    env: &BTreeMap<String, String>,
) -> Result<(), ConfigError> {
    for n in 0..layers.projects() {
        let key = |of: &Layers| of.get(&format!("projects.{n}.key")).and_then(Value::as_str).map(str::to_owned);
        let at = key(layers).map_or_else(|| format!("projects[{n}]"), |key| format!("projects.{}", key.trim()));
        top_alone(layers, &format!("projects.{n}"), &at)?;
        if layers.get(&format!("projects.{n}.slurm.work_dir")).is_some() {
            return Err(ConfigError::new(format!(
                "{at}.slurm.work_dir is set: there is one work_dir for all projects"
            ))
            .hint("move it to slurm.work_dir at the top"));
        }
    }
    runtimes(layers, env)?;
    layers.variables(vars)?;
    for n in 0..layers.projects() {
        let prefix = format!("projects.{n}.");
        SHARED.iter().for_each(|section| layers.top_under(&prefix, section));
        let key = layers.get(&format!("{prefix}key")).and_then(Value::as_str).unwrap_or_default();
        let own = bare.repositories.get(key.trim()).cloned();
        if layers.get(&format!("{prefix}repository_config")) == Some(&Value::Bool(true))
            && let Some(own) = own
        {
            own.lay(layers, &prefix);
        }
    }
    let named: Vec<String> =
        layers.get("runtimes").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name.clone()).collect();
    for name in named {
        if layers.get(&format!("runtimes.{name}.confine")).is_some() {
            layers.top_under(&format!("runtimes.{name}."), "confine");
        }
    }
    Ok(())
}

/// A wrapper is set at the top alone.
fn top_alone(layers: &Layers, path: &str, at: &str) -> Result<(), ConfigError> {
    if layers.get(&format!("{path}.confine.command")).is_none() {
        return Ok(());
    }
    Err(ConfigError::new(format!("{at}.confine.command is set: a wrapper is set at the top level alone"))
        .hint("move it to confine.command"))
}

/// The runtime `claude` is always there. What kind a runtime is may follow from its keys, and a Claude without an `env`
/// gets the key that this account has.
fn runtimes(layers: &mut Layers, env: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    const KEY: &str = "ANTHROPIC_API_KEY";
    layers.put_default("runtimes.claude", Value::Object(Map::new()));
    let all = layers.get("runtimes").and_then(Value::as_object).cloned().unwrap_or_default();
    for (name, runtime) in all {
        let at = format!("runtimes.{name}");
        top_alone(layers, &at, &at)?;
        let has = |key: &str| runtime.get(key).is_some_and(|value| !value.is_null());
        if !runtime.is_object() {
            continue;
        }
        if has("command") && !has("kind") {
            layers.put_default(&format!("{at}.kind"), "command".into());
        } else if (name == "claude" || has("program")) && !has("kind") {
            layers.put_default(&format!("{at}.kind"), "claude".into());
        }
        let claude = layers.get(&format!("{at}.kind")).is_some_and(|kind| kind == "claude");
        if claude && !has("env") && env.get(KEY).is_some_and(|v| !v.is_empty()) {
            layers.put_default(&format!("{at}.env"), json!({KEY: {"env": KEY}}));
        }
    }
    Ok(())
}

/// What follows from several settings, and the rules between them.
fn settle(mut config: Config, layers: &mut Layers, place: &Place<'_>, area_named: bool) -> Result<Config, ConfigError> {
    config.agents.prompts = under(place.folder, &config.agents.prompts);
    config.notify.sound()?;
    confine::top(&config.confine)?;
    slurm::sound(&config.slurm, "slurm")?;
    for project in &config.projects {
        let at = format!("projects.{}", project.key);
        confine::inner(&project.confine, &config.confine, &format!("{at}.confine"))?;
        slurm::sound(&project.slurm, &format!("{at}.slurm"))?;
    }
    for (name, runtime) in &config.runtimes {
        if let Some(own) = &runtime.confine {
            confine::inner(own, &config.confine, &format!("runtimes.{name}.confine"))?;
        }
    }
    config.settle_projects(layers)?;
    check::waivers(&config.security, "security")?;
    check::post_deploy(&config.post_deploy, "post_deploy.5xx_threshold")?;
    if config.executor == ExecutorKind::Slurm {
        config.area_dir = slurm::area(&config.slurm, area_named, &config.state_dir)?;
    }
    check::top(&config)?;
    confine::accounts(&config)?;
    confine::privilege(&config, rustix::process::geteuid().is_root())?;
    confine::places(&config, place.env)?;
    Ok(config)
}

/// Where everything is.
struct Folders {
    state_dir: PathBuf,
    area_dir: PathBuf,
    /// The command line (or its variable) names the state directory.
    given: bool,
    /// The area is named.
    area_named: bool,
}

/// The two folders: command line, variable (relative to the current folder), file, default. `given`: of the command line.
fn folders(
    layers: &mut Layers,
    given: Option<&Path>,
    place: &Place<'_>,
    vars: &Vars<'_>,
    cwd: &Path,
    text: &str,
) -> Result<Folders, ConfigError> {
    #[derive(serde::Deserialize)]
    struct Located(#[serde(deserialize_with = "crate::model::reading::maybe_path")] PathBuf);
    let written = |path: &str, layers: &Layers| {
        let read = layers.read::<Located>(path, place, text);
        read.map(|read| read.map(|dir| dir.0).filter(|dir| !dir.as_os_str().is_empty()))
    };
    let of_variable = |name: &str| {
        let expanded = vars.text(name).map(|text| expand(text, place.env));
        let named = |e: ConfigError| ConfigError { message: format!("the variable {name} {}", e.message), ..e };
        expanded.transpose().map(|dir| dir.map(|dir| under(cwd, dir))).map_err(named)
    };
    let variable = of_variable("ORCH_STATE_DIR")?;
    // The command line's parser passes the variable off as an option; it is recognised by its value.
    let given = given.filter(|given| variable.as_deref() != Some(*given));
    let state_dir = match (given, &variable) {
        (Some(given), _) => given.to_owned(),
        (None, Some(dir)) => dir.clone(),
        (None, None) => match written("state_dir", layers)? {
            Some(dir) => dir,
            None => own_state_dir(place)?,
        },
    };
    let area_variable = of_variable("ORCH_AREA_DIR")?;
    let area = match &area_variable {
        Some(dir) => Some(dir.clone()),
        None => written("area_dir", layers)?,
    };
    let area_named = area.is_some();
    let area_dir = apart(area, &state_dir).map_err(|error| error.placed(layers, text))?;
    for (key, dir, variable) in [("state_dir", &state_dir, variable), ("area_dir", &area_dir, area_variable)] {
        if variable.is_some() {
            let name = format!("env ORCH_{}", key.to_ascii_uppercase());
            layers.put(key, dir.to_string_lossy().into_owned().into(), &name);
        }
    }
    Ok(Folders { given: given.is_some(), state_dir, area_dir, area_named })
}

fn own_state_dir(place: &Place<'_>) -> Result<PathBuf, ConfigError> {
    let set = |name: &str| place.env.get(name).filter(|v| !v.is_empty());
    match (set("XDG_STATE_HOME"), set("HOME")) {
        (Some(dir), _) => Ok(Path::new(dir).join("orch")),
        (None, Some(home)) => Ok(Path::new(home).join(".local/state/orch")),
        (None, None) => Err(missing("state_dir", "a path (neither XDG_STATE_HOME nor HOME is set)")),
    }
}

/// Where runs have their folders (BND-3). A run must never see the state directory, so neither may contain the other.
fn apart(named: Option<PathBuf>, state_dir: &Path) -> Result<PathBuf, ConfigError> {
    let dir = named.unwrap_or_else(|| {
        // By its real path: another spelling of the state directory has the same area (RULE-10).
        let state_dir = std::fs::canonicalize(state_dir).unwrap_or_else(|_| state_dir.to_owned());
        let mut name = state_dir.file_name().unwrap_or("state".as_ref()).to_owned();
        name.push("-area");
        state_dir.with_file_name(name)
    });
    if dir.starts_with(state_dir) || state_dir.starts_with(&dir) {
        return Err(ConfigError::new(format!(
            "area_dir is {}, and state_dir is {}: expected two folders of which neither contains the other",
            dir.display(),
            state_dir.display()
        ))
        .hint("runs may write in area_dir and must not see state_dir; leave area_dir out for <state_dir>-area"));
    }
    Ok(dir)
}

/// The environment of this process, for [`load`]; a variable that is not UTF-8 is left out.
pub fn process_env() -> BTreeMap<String, String> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect()
}

/// The JSON Schema of the file, for editors.
pub fn schema() -> Value {
    let mut schema = schemars::SchemaGenerator::default().into_root_schema_for::<Config>().to_value();
    shorten(&mut schema);
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".into(), "orch.yaml".into());
    }
    schema
}

/// Takes out the defaults of whole sections, whose keys name theirs, and of what is absent.
fn shorten(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("default").is_some_and(|default| default.is_null() || default.is_object()) {
                map.shift_remove("default");
            }
            map.values_mut().for_each(shorten);
        }
        Value::Array(all) => all.iter_mut().for_each(shorten),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Reads a configuration's text as if from a folder that does not exist.
#[cfg(test)]
pub(super) fn parse_for_tests(text: &str) -> Result<Config, ConfigError> {
    let folder = Path::new("/nowhere");
    parse(text, folder, None, &BTreeMap::new(), folder)
}
