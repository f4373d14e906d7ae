//! Finding, reading and merging (CFG-1, CFG-2).

use super::check;
use super::confine;
use super::error::ConfigError;
use super::locate::{self, Sought};
use super::parts::{Place, argv, missing, text};
use super::paths::under;
use super::project::{Around, post_deploy, project, security, staging};
use super::raw::{RawFile, RawRuntime};
use super::repository::Repository;
use super::secret::{EnvValue, SecretRef};
use super::settings::{RawAgents, RawTop, agent_variable, settings};
use super::show::{Document, Inputs, Origin};
use super::slurm;
use super::types::{
    Agents, CliTool, Config, Confine, ExecutorKind, Notify, PageSite, RunnerKind, Runtime, RuntimeKind, Sandbox, Tls,
    Tools,
};
use super::vars::Vars;
use crate::model::stage::Agent;
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
    let raw: RawFile = if text.trim().is_empty() {
        RawFile::default()
    } else {
        crate::yaml::from_str(text).map_err(|e| ConfigError::of_yaml(&e.to_string(), text))?
    };
    let vars = Vars::new(env);
    let place = Place { folder, env };
    let variable = vars.read::<String>("ORCH_STATE_DIR", "state_dir")?;
    // The command line's parser passes the variable off as an option; it is recognised by its value.
    let state_dir = state_dir.filter(|given| variable.as_ref().is_none_or(|v| under(cwd, v) != *given));
    let given = state_dir.is_some();
    let state_dir = match (state_dir, variable) {
        (Some(given), _) => given.to_owned(),
        (None, Some(text)) => under(cwd, super::paths::expand(&text, env, "the variable ORCH_STATE_DIR")?),
        (None, None) => own_state_dir(raw.state_dir.as_deref(), &place)?,
    };
    let area_dir = area_dir(&raw, &state_dir, &place, &vars, cwd)?;
    let confine = confine::top(&raw.confine.clone().unwrap_or_default(), &vars, &place)?;
    let security_raw = raw.security.clone().unwrap_or_default();
    let staging_raw = raw.staging.clone().unwrap_or_default();
    let post_raw = raw.post_deploy.clone().unwrap_or_default();
    let slurm_raw = raw.slurm.clone().unwrap_or_default();
    let around = Around {
        place,
        slurm: &slurm_raw,
        state_dir: &state_dir,
        vars: &vars,
        confine: &confine,
        security: &security_raw,
        staging: &staging_raw,
        post_deploy: &post_raw,
    };
    let list = raw.projects.as_deref().unwrap_or_default();
    if list.is_empty() && !bare.no_projects {
        return Err(missing("projects", "at least [{key: ORCH, git: {remote: PATH-OR-URL}}]"));
    }
    let mut forced = Vec::new();
    let mut projects = Vec::new();
    for (n, raw) in list.iter().enumerate() {
        let own = raw.key.as_ref().filter(|_| raw.repository_config == Some(true));
        let own = own.and_then(|key| bare.repositories.get(key.trim()));
        let (checks, build) = (staging_raw.checks.is_some(), staging_raw.build.is_some());
        match own.map(|own| own.over(raw, checks, build)) {
            Some(whole) => projects.push(project(&whole, n, &around, &mut forced)?),
            None => projects.push(project(raw, n, &around, &mut forced)?),
        }
    }
    check::one_name_each(&mut projects);
    check::together(&projects)?;
    let area_named = raw.area_dir.as_deref().is_some_and(|t| !t.trim().is_empty())
        || vars.read::<String>("ORCH_AREA_DIR", "area_dir")?.is_some();
    let top = RawTop { executor: raw.executor, min_free_mb: raw.min_free_mb }.effective(&vars)?;
    let mut limits = raw.limits.clone().unwrap_or_default().effective(&vars)?;
    limits.per_agent = raw.limits.and_then(|l| l.per_agent).unwrap_or_default();
    let mut config = Config {
        file: PathBuf::new(),
        executor: top.executor,
        min_free_mb: top.min_free_mb,
        executor_limits: raw.executor_limits.unwrap_or_default().effective(&vars)?,
        slurm: slurm::top(&slurm_raw, &vars)?,
        tls: tls(raw.tls.unwrap_or_default().effective(&vars)?, &place)?,
        tools: tools(raw.tools.unwrap_or_default().effective(&vars)?, &place)?,
        notify: Notify::read(raw.notify.unwrap_or_default(), &place, &vars)?,
        agents: agents(raw.agents.unwrap_or_default(), &place, &vars)?,
        runtimes: runtimes(raw.runtimes.as_ref(), &place, &confine)?,
        confine: confine.clone(),
        limits,
        gates: raw.gates.unwrap_or_default().effective(&vars)?,
        base: raw.base.unwrap_or_default().effective(&vars)?,
        page: page(raw.page.unwrap_or_default().effective(&vars)?, &place)?,
        effects: raw.effects.unwrap_or_default().effective(&vars)?,
        prune: raw.prune.unwrap_or_default().effective(&vars)?,
        stop: raw.stop.unwrap_or_default().effective(&vars)?,
        reaper: raw.reaper.unwrap_or_default().effective(&vars)?,
        merge_lease: raw.merge_lease.unwrap_or_default().effective(&vars)?,
        serial_gate: raw.serial_gate.unwrap_or_default().effective(&vars)?,
        dependencies: raw.dependencies.unwrap_or_default().effective(&vars)?,
        auto_label: raw.auto_label.unwrap_or_default().effective(&vars)?,
        audit: raw.audit.unwrap_or_default().effective(&vars)?,
        plane: raw.plane.unwrap_or_default().effective(&vars)?,
        github: raw.github.unwrap_or_default().effective(&vars)?,
        reconcile: raw.reconcile.unwrap_or_default().effective(&vars)?,
        frontmatter: raw.frontmatter.unwrap_or_default().effective(&vars)?,
        security: security(security_raw.clone(), &around, "")?,
        staging: staging(staging_raw.clone(), &around, "")?,
        image_freshness: raw.image_freshness.unwrap_or_default().effective(&vars)?,
        post_deploy: post_deploy(post_raw.clone(), &around, "")?,
        projects,
        warnings: Vec::new(),
        origin: Origin::default(),
        state_dir: state_dir.clone(),
        area_dir,
    };
    if config.executor == ExecutorKind::Slurm {
        config.area_dir = slurm::area(&config.slurm, area_named, &config.state_dir)?;
    }
    check::top(&config)?;
    confine::accounts(&config)?;
    confine::privilege(&config, rustix::process::geteuid().is_root())?;
    confine::places(&config, env)?;
    config.warnings = vars.unknown(|| settings().into_iter().map(|s| s.variable).collect());
    config.warnings.extend(forced.iter().map(|path| format!("{path}: a self-hosting project always has its own")));
    config.warnings.extend(check::warnings(&config));
    config.origin = Origin {
        variables: vars.used(),
        forced,
        document: Document::of(text),
        state_dir_given: given,
        inputs: Inputs::default(),
    };
    Ok(config)
}

fn own_state_dir(raw: Option<&str>, place: &Place<'_>) -> Result<PathBuf, ConfigError> {
    let set = |name: &str| place.env.get(name).filter(|v| !v.is_empty());
    match (raw.map(str::trim).filter(|t| !t.is_empty()), set("XDG_STATE_HOME"), set("HOME")) {
        (Some(text), ..) => place.path(text, "state_dir"),
        (None, Some(dir), _) => Ok(Path::new(dir).join("orch")),
        (None, None, Some(home)) => Ok(Path::new(home).join(".local/state/orch")),
        (None, None, None) => Err(missing("state_dir", "a path (neither XDG_STATE_HOME nor HOME is set)")),
    }
}

/// Where runs have their folders (BND-3). A run must never see the state directory, so neither may contain the other.
fn area_dir(
    raw: &RawFile,
    state_dir: &Path,
    place: &Place<'_>,
    vars: &Vars<'_>,
    cwd: &Path,
) -> Result<PathBuf, ConfigError> {
    let named = raw.area_dir.as_deref().map(str::trim).filter(|t| !t.is_empty());
    let dir = match (vars.read::<String>("ORCH_AREA_DIR", "area_dir")?, named) {
        (Some(text), _) => under(cwd, super::paths::expand(&text, place.env, "the variable ORCH_AREA_DIR")?),
        (None, Some(text)) => place.path(text, "area_dir")?,
        (None, None) => {
            // By its real path: another spelling of the state directory has the same area (RULE-10).
            let state_dir = std::fs::canonicalize(state_dir).unwrap_or_else(|_| state_dir.to_owned());
            let mut name = state_dir.file_name().unwrap_or("state".as_ref()).to_owned();
            name.push("-area");
            state_dir.with_file_name(name)
        }
    };
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

fn tls(mut tls: Tls, place: &Place<'_>) -> Result<Tls, ConfigError> {
    if !tls.ca_file.is_empty() {
        tls.ca_file = place.path(&tls.ca_file, "tls.ca_file")?.to_string_lossy().into_owned();
    }
    Ok(tls)
}

fn page(mut page: PageSite, place: &Place<'_>) -> Result<PageSite, ConfigError> {
    if !page.dir.is_empty() {
        page.dir = place.path(&page.dir, "page.dir")?.to_string_lossy().into_owned();
    }
    Ok(page)
}

fn tools(mut tools: Tools, place: &Place<'_>) -> Result<Tools, ConfigError> {
    for (name, program) in [
        ("git", &mut tools.git),
        ("gitleaks", &mut tools.gitleaks),
        ("pip_audit", &mut tools.pip_audit),
        ("cargo_audit", &mut tools.cargo_audit),
        ("npm", &mut tools.npm),
        ("osv_scanner", &mut tools.osv_scanner),
    ] {
        *program = place.program(program, &format!("tools.{name}"))?;
    }
    Ok(tools)
}

fn agents(raw: RawAgents, place: &Place<'_>, vars: &Vars<'_>) -> Result<Agents, ConfigError> {
    let top = raw.effective(vars)?;
    let mut overrides = raw.overrides.unwrap_or_default();
    for agent in Agent::ALL {
        for what in ["model", "effort"] {
            let path = format!("agents.overrides.{agent}.{what}");
            if let Some(value) = vars.read::<String>(&agent_variable(*agent, what), &path)? {
                let own = overrides.entry(*agent).or_default();
                if what == "model" {
                    own.model = Some(value);
                } else {
                    own.effort = Some(value);
                }
            }
        }
    }
    Ok(Agents {
        prompts: place.path(&top.prompts, "agents.prompts")?,
        runtime: top.runtime,
        model: top.model,
        effort: top.effort,
        fallback_model: top.fallback_model,
        timeout_s: top.timeout_s,
        stall_s: top.stall_s,
        stop_grace_s: top.stop_grace_s,
        linger_s: top.linger_s,
        run_retries: top.run_retries,
        retry_backoff_s: top.retry_backoff_s,
        max_diff_lines: top.max_diff_lines,
        max_cost_usd: top.max_cost_usd,
        overrides,
    })
}

fn runtimes(
    raw: Option<&BTreeMap<String, RawRuntime>>,
    place: &Place<'_>,
    top: &Confine,
) -> Result<BTreeMap<String, Runtime>, ConfigError> {
    let mut out = BTreeMap::new();
    for (name, raw) in raw.into_iter().flatten() {
        out.insert(name.clone(), runtime(raw, place, top, &format!("runtimes.{name}"))?);
    }
    if !out.contains_key("claude") {
        out.insert("claude".into(), runtime(&RawRuntime::default(), place, top, "runtimes.claude")?);
    }
    Ok(out)
}

fn runtime(raw: &RawRuntime, place: &Place<'_>, top: &Confine, at: &str) -> Result<Runtime, ConfigError> {
    let mut env = place.env(raw.env.as_ref(), at)?;
    let kind = match raw.kind {
        Some(kind) => kind,
        None if raw.command.is_some() => RunnerKind::Command,
        None if at == "runtimes.claude" || raw.program.is_some() => RunnerKind::Claude,
        None => return Err(missing(&format!("{at}.kind"), "claude, command, codex, gemini or opencode")),
    };
    let of_claude = [
        ("program", raw.program.is_some()),
        ("permission_mode", raw.permission_mode.is_some()),
        ("allowed_tools", raw.allowed_tools.is_some()),
        ("sandbox", raw.sandbox.is_some()),
        ("extra_args", raw.extra_args.is_some()),
    ];
    let kind = match kind {
        RunnerKind::Claude => {
            if raw.command.is_some() {
                return Err(ConfigError::new(format!(
                    "{at}.command belongs to a command runtime, and this is a claude one"
                )));
            }
            const KEY: &str = "ANTHROPIC_API_KEY";
            if raw.env.is_none() && place.env.get(KEY).is_some_and(|v| !v.is_empty()) {
                env.insert(KEY.into(), EnvValue::Ref(SecretRef::Env(KEY.into())));
            }
            let tools = ["Read", "Grep", "Glob", "Edit", "Write", "Bash"].map(str::to_owned);
            RuntimeKind::Claude {
                program: place.program(raw.program.as_deref().unwrap_or("claude"), &format!("{at}.program"))?,
                permission_mode: text(raw.permission_mode.as_ref()).unwrap_or_else(|| "dontAsk".into()),
                allowed_tools: raw.allowed_tools.clone().unwrap_or_else(|| tools.to_vec()),
                sandbox: raw.sandbox.unwrap_or(Sandbox::Auto),
                extra_args: raw.extra_args.clone().unwrap_or_default(),
            }
        }
        RunnerKind::Command => {
            if let Some((key, _)) = of_claude.iter().find(|(_, set)| *set) {
                return Err(ConfigError::new(format!(
                    "{at}.{key} belongs to a claude runtime, and this is a command one"
                )));
            }
            let at = format!("{at}.command");
            let mut command = argv(raw.command.as_ref(), &at)?.ok_or_else(|| missing(&at, "[program, arguments]"))?;
            command[0] = place.program(&command[0], &at)?;
            RuntimeKind::Command { command }
        }
        RunnerKind::Codex | RunnerKind::Gemini | RunnerKind::OpenCode => {
            RuntimeKind::Tool(cli_tool(raw, place, at, kind)?)
        }
    };
    let confine = raw.confine.as_ref().map(|own| confine::inner(own, top, place, at)).transpose()?;
    Ok(Runtime { kind, env, confine })
}

/// A preset accepts a program and further arguments, nothing else.
fn cli_tool(raw: &RawRuntime, place: &Place<'_>, at: &str, kind: RunnerKind) -> Result<CliTool, ConfigError> {
    let usual = kind.as_str();
    let foreign = [
        ("permission_mode", raw.permission_mode.is_some()),
        ("allowed_tools", raw.allowed_tools.is_some()),
        ("sandbox", raw.sandbox.is_some()),
        ("command", raw.command.is_some()),
    ];
    if let Some((key, _)) = foreign.iter().find(|(_, set)| *set) {
        return Err(ConfigError::new(format!("{at}.{key} has no meaning for a {usual} runtime"))
            .hint("it takes program, extra_args and env"));
    }
    Ok(CliTool {
        kind,
        program: place.program(raw.program.as_deref().unwrap_or(usual), &format!("{at}.program"))?,
        extra_args: raw.extra_args.clone().unwrap_or_default(),
    })
}

/// The environment of this process, for [`load`]; a variable that is not UTF-8 is left out.
pub fn process_env() -> BTreeMap<String, String> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect()
}

/// The JSON Schema of the file, for editors.
pub fn schema() -> serde_json::Value {
    // Two types that differ only in `Raw` would become one; a test keeps them apart.
    let schema = schemars::SchemaGenerator::default().into_root_schema_for::<RawFile>();
    // The names of our types are not part of the public surface.
    let text = serde_json::to_string(&schema).unwrap_or_default();
    let text = text.replace("\"Raw", "\"").replace("/$defs/Raw", "/$defs/");
    let mut schema: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".into(), "orch.yaml".into());
    }
    schema
}

/// Reads a configuration's text as if from a folder that does not exist.
#[cfg(test)]
pub(super) fn parse_for_tests(text: &str) -> Result<Config, ConfigError> {
    let folder = Path::new("/nowhere");
    parse(text, folder, None, &BTreeMap::new(), folder)
}
