//! Checks of the machine: state directory, executor, programs, secret files, waivers.

use super::{Chart, Level};
use crate::adapters::child::{self, Control, Spec};
use crate::adapters::confine::Boundary;
use crate::adapters::executor::{Executor, Kind};
use crate::adapters::git::Git;
use crate::adapters::runtime::CLAUDE_FLAGS;
use crate::adapters::store::{Mode, Store};
use crate::adapters::{disk, sentinel};
use crate::adapters::{modes, net};
use crate::cli::clock;
use crate::config::{Config, ExecutorKind, RuntimeKind, SecretRef};
use crate::engine::{guard, paths::Paths};
use crate::model::stage::Agent;
use crate::model::time::rfc3339;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub fn configuration(config: &Config, chart: &mut Chart) {
    chart.ok("machine", "configuration", config.file.display().to_string());
    for warning in &config.warnings {
        let fix = if warning.contains("ORCH_") {
            "unset it, or correct its name; `orch config show` lists the known ones"
        } else {
            "correct orch.yaml, unless it is intended"
        };
        chart.warn("machine", "configuration", warning, fix);
    }
}

/// The nearest existing folder.
fn nearest_existing(path: &Path) -> PathBuf {
    path.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

pub fn state(config: &Config, chart: &mut Chart) {
    let area = "machine";
    let dir = &config.state_dir;
    let base = nearest_existing(dir);
    match std::fs::metadata(dir) {
        Ok(m) if m.mode() & 0o077 != 0 => {
            chart.warn(
                area,
                "state directory",
                format!("{} can be read by others", dir.display()),
                format!("chmod 700 {}", dir.display()),
            );
        }
        Ok(_) => chart.ok(area, "state directory", dir.display().to_string()),
        Err(_) => chart.ok(area, "state directory", format!("{}: the first step creates it", dir.display())),
    }
    if rustix::fs::access(&base, rustix::fs::Access::WRITE_OK).is_err() {
        chart.fail(
            area,
            "state directory",
            format!("{} can't be written", base.display()),
            "name another state_dir, or make it writable for this account",
        );
    }
    if let Err(e) = guard::machine(dir) {
        chart.fail(area, "state directory", format!("{e:#}"), "until then every step ends with exit 3");
    }
    match disk::network_file_system(&base) {
        Ok(None) => {}
        Ok(Some(kind)) => chart.fail(
            area,
            "file system",
            format!("{} is on {kind}, whose locks can't be trusted", base.display()),
            "put state_dir on a local disk",
        ),
        Err(e) => chart.warn(
            area,
            "file system",
            format!("{}: {e}", base.display()),
            "make sure that the folder can be reached",
        ),
    }
    match disk::free_mb(&base) {
        Ok(mb) if mb < config.min_free_mb => {
            chart.fail(
                area,
                "disk",
                format!("{mb} MB are free, min_free_mb requires {}: no job is claimed", config.min_free_mb),
                "free some space (`orch prune`), or lower min_free_mb",
            );
        }
        Ok(mb) => chart.ok(area, "disk", format!("{mb} MB free")),
        Err(e) => chart.warn(area, "disk", e.to_string(), "make sure that the folder can be reached"),
    }
    if let Some(reason) = sentinel::halted(dir) {
        chart.warn(area, "halt", format!("nothing new starts: {reason}"), "`orch resume` once it is safe");
    }
    let path = dir.join("orch.db");
    if !path.exists() {
        return;
    }
    match Store::open(&path, Mode::ReadOnly) {
        Ok(mut store) => {
            match store.audit_verify(&guard::stored_tail(&Paths::new(dir))) {
                Ok(Ok(n)) => chart.ok(area, "database", format!("opens; {n} events in an unbroken chain")),
                Ok(Err(b)) => chart.fail(
                    area,
                    "database",
                    format!("the record is broken at event {}: {}", b.seq, b.why),
                    "keep a copy, restore the newest backup, run `orch reconcile --full`",
                ),
                Err(e) => chart.fail(area, "database", e.to_string(), "restore the newest backup (docs/operations.md)"),
            }
            for freeze in store.read(|tx| tx.freezes()).unwrap_or_default() {
                chart.warn(
                    area,
                    "freeze",
                    format!("{}: {}", freeze.repo, freeze.reason),
                    format!("`orch unfreeze {}` once production is healthy", freeze.repo),
                );
            }
        }
        Err(e) => chart.fail(area, "database", e.to_string(), "docs/operations.md, backup and restore"),
    }
}

pub fn executor(config: &Config, chart: &mut Chart) {
    let area = "machine";
    let kind = match config.executor {
        ExecutorKind::Auto | ExecutorKind::Slurm => Kind::Auto,
        ExecutorKind::Systemd => Kind::Systemd,
        ExecutorKind::Detach => Kind::Detach,
    };
    match Executor::resolve(kind) {
        Ok(Executor::Detach) => chart.ok(area, "executor", "each supervisor runs in its own session"),
        Ok(Executor::Systemd { user: false }) => chart.ok(area, "executor", "each supervisor runs in a system unit"),
        Ok(Executor::Systemd { user: true }) => {
            chart.ok(area, "executor", "each supervisor runs in a unit of this user");
            let name = std::env::var("USER").unwrap_or_default();
            if !name.is_empty() && !Path::new("/var/lib/systemd/linger").join(&name).exists() {
                chart.warn(
                    area,
                    "linger",
                    format!("{name} does not linger: agents and timers end at logout"),
                    format!("loginctl enable-linger {name}"),
                );
            }
        }
        Err(e) => chart.fail(area, "executor", e.to_string(), "docs/operations.md, timers"),
    }
}

/// Found by name on PATH or in the tools cache, or as the file it names.
fn find(program: &str) -> Option<PathBuf> {
    crate::adapters::toolbox::find(program)
}

pub fn tools(config: &Config, chart: &mut Chart) {
    let area = "tools";
    let t = &config.tools;
    match Git::new(&t.git) {
        Ok(git) => chart.ok(area, "git", format!("{}.{}", git.version().0, git.version().1)),
        Err(e) => chart.fail(area, "git", e.to_string(), "install git, or name it under tools.git"),
    }
    let guarded: Vec<&str> =
        config.projects.iter().filter(|p| config.security_gate(p)).map(|p| p.key.as_str()).collect();
    match find(&t.gitleaks) {
        Some(path) => chart.ok(area, "gitleaks", path.display().to_string()),
        None if guarded.is_empty() => {
            chart.ok(area, "gitleaks", "not installed, and no project has the security gate on")
        }
        None => chart.fail(
            area,
            "gitleaks",
            format!("{} is not found: the security gate of {} fails closed", t.gitleaks, guarded.join(", ")),
            "`orch doctor --fix` installs it; or name one under tools.gitleaks",
        ),
    }
    let audited = config.projects.iter().any(|p| config.security_gate(p) && p.security.dep_audit_enabled);
    let closed = config.projects.iter().any(|p| p.security.dep_audit_fail_closed);
    for (name, program) in
        [("pip-audit", &t.pip_audit), ("cargo-audit", &t.cargo_audit), ("npm", &t.npm), ("osv-scanner", &t.osv_scanner)]
    {
        match find(program) {
            Some(path) => chart.ok(area, name, path.display().to_string()),
            None if audited => {
                let effect = if closed {
                    "lock files of its kind fail the gate"
                } else {
                    "lock files of its kind are not audited; reports warn about it"
                };
                chart.warn(
                    area,
                    name,
                    format!("not found: {effect}"),
                    "install it if a project has such lock files (scripts/tools/install-audits.sh)",
                );
            }
            None => {}
        }
    }
}

pub fn secrets(config: &Config, chart: &mut Chart) {
    for message in config.not_hidden() {
        chart.warn("secrets", "redaction", message, "use a longer secret, or copy fewer files");
    }
    for (path, from) in config.secrets() {
        let name = path.strip_prefix("projects.").unwrap_or(&path);
        // A subscription login needs no key.
        let optional = path.starts_with("runtimes.");
        match from.resolve() {
            Ok(_) => chart.ok("secrets", name, format!("{from} is there")),
            Err(e) if optional => {
                chart.warn("secrets", name, e.to_string(), "needed only without a subscription login")
            }
            Err(e) => {
                chart.fail("secrets", name, e.to_string(), "set it, or correct the reference; docs/connecting-*.md")
            }
        }
        if let SecretRef::File(file) = from
            && let Ok(m) = std::fs::metadata(file)
            && m.mode() & 0o077 != 0
        {
            chart.warn(
                "secrets",
                name,
                format!("{} can be read by others (mode {:o})", file.display(), m.mode() & 0o777),
                format!("chmod 600 {}", file.display()),
            );
        }
    }
}

/// What runs can read: not a fault, but nobody should find out later (BND-4).
pub fn readable(config: &Config, chart: &mut Chart) {
    for project in &config.projects {
        for (at, what) in config.readable_by_runs(project) {
            chart.ok(&project.key, "readable", format!("{at}: {what} is readable by whatever a branch says"));
        }
    }
}

/// Entries of `PATH` that no child gets (BND-6).
pub fn search_path(config: &Config, chart: &mut Chart) {
    let Some(path) = std::env::var_os("PATH") else { return };
    for dropped in modes::sound(&path, Some(&config.area_dir)).1 {
        let message = format!("PATH contains {dropped}; orch searches no programs there");
        chart.warn("machine", "PATH", message, "remove it from PATH, or revoke the write permission of others");
    }
}

/// Which authorities are trusted and which proxy is used, as seen by the HTTP clients and git.
pub fn network(chart: &mut Chart) {
    let net = net::current();
    match net.authorities() {
        Ok(said) => chart.ok("machine", "authorities", said),
        Err(why) => {
            chart.fail("machine", "authorities", why, "name a PEM file that this account may read (docs/network.md)")
        }
    }
    for scheme in ["https", "http"] {
        // A host name that cannot exist: the result applies to every host.
        match net.route(&format!("{scheme}://host.invalid")).map(|route| (route.proxy, route.no_proxy)) {
            Ok((None, _)) => {}
            Ok((Some(proxy), no)) if no.is_empty() => chart.ok("machine", "proxy", format!("{scheme} through {proxy}")),
            Ok((Some(proxy), no)) => chart.ok("machine", "proxy", format!("{scheme} through {proxy}, except {no}")),
            Err(why) => chart.fail("machine", "proxy", why, "correct that setting (docs/network.md)"),
        }
    }
    for name in net.not_followed() {
        chart.warn(
            "machine",
            "network",
            format!("{name} is set, but orch does not support it"),
            "see docs/network.md for what is supported instead",
        );
    }
}

pub fn waivers(config: &Config, chart: &mut Chart) {
    let now = clock::now().wall_ms;
    let day = |ms: i64| rfc3339(ms).get(..10).unwrap_or_default().to_owned();
    let (today, soon) = (day(now), day(now + 14 * 86_400_000));
    for p in &config.projects {
        for w in &p.security.allow {
            let name = format!("{} in {} ({})", w.rule, w.path, w.owner);
            if w.expires < today {
                chart.warn(
                    &p.key,
                    "waiver",
                    format!("{name} expired {}: the finding blocks again", w.expires),
                    "fix the finding, or renew the waiver with a new date",
                );
            } else if w.expires < soon {
                chart.warn(
                    &p.key,
                    "waiver",
                    format!("{name} ends {}", w.expires),
                    "fix the finding before then, or renew the waiver",
                );
            }
        }
        for a in p
            .staging
            .sandbox_infra
            .iter()
            .filter_map(|a| a.expires.as_ref().map(|e| (a, e)))
            .filter(|(_, e)| e.to_string() < today)
        {
            chart.warn(
                &p.key,
                "waiver",
                format!("staging check {} has not been waived since {}", a.0.id, a.1),
                "fix what the check finds, or renew the waiver",
            );
        }
    }
}

/// Variables with which a Claude runtime can log in.
const LOGINS: [&str; 5] = [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
];

/// The runtimes that agents use, each once.
pub fn agents(config: &Config, scratch: &Path, chart: &mut Chart) {
    let names: BTreeSet<String> = Agent::ALL.iter().map(|a| config.agent(*a).runtime).collect();
    for name in names {
        let Some(runtime) = config.runtimes.get(&name) else {
            chart.fail("agents", &name, "no runtime with this name is configured", "configure it under runtimes");
            continue;
        };
        if runtime.kind.kind().may_lack_a_key() && !LOGINS.iter().any(|l| runtime.env.contains_key(*l)) {
            // Its home is an empty folder of its own, so a person's own login is not visible.
            chart.warn(
                "agents",
                &name,
                format!("runtimes.{name}.env names neither a key nor a token: Claude Code is not logged in"),
                "name ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN there by reference (docs/connecting-claude.md)",
            );
        }
        match &runtime.kind {
            RuntimeKind::Command { command } => {
                let program = command.first().map_or("", String::as_str);
                match find(program) {
                    Some(path) => chart.ok("agents", &name, path.display().to_string()),
                    None => chart.fail(
                        "agents",
                        &name,
                        format!("{program} is not found or can't be executed"),
                        "correct runtimes.*.command, or chmod +x the program",
                    ),
                }
            }
            RuntimeKind::Claude { program, .. } => match claude(program, scratch) {
                Ok((text, lacks)) if lacks.is_empty() => chart.ok("agents", &name, text),
                Ok((text, lacks)) => chart.fail(
                    "agents",
                    &name,
                    format!("{text} does not know {}", lacks.join(", ")),
                    "install a newer Claude Code (docs/connecting-claude.md)",
                ),
                Err(why) => chart.fail(
                    "agents",
                    &name,
                    format!("{program}: {why}"),
                    "install Claude Code (docs/connecting-claude.md), or name another runtime",
                ),
            },
            RuntimeKind::Tool(tool) => match version(&tool.program, scratch) {
                Ok(text) => chart.ok("agents", &name, text),
                Err(why) => chart.fail(
                    "agents",
                    &name,
                    format!("{}: {why}", tool.program),
                    "install it, or name another runtime",
                ),
            },
        }
    }
    for agent in Agent::ALL {
        let path = config.agents.prompts.join(format!("{agent}.md"));
        if let Ok(bytes) = std::fs::read(&path)
            && let Err(why) = crate::model::agent_prompt::AgentPrompt::parse(*agent, &bytes)
        {
            chart.fail(
                "agents",
                agent.as_str(),
                format!("{}: {why}", path.display()),
                "fix the file, or remove it to use the built-in prompt",
            );
        }
    }
}

/// The version of the Claude CLI, and those of our flags that its help lacks: they change between releases.
fn claude(program: &str, scratch: &Path) -> Result<(String, Vec<&'static str>), String> {
    let version = version(program, scratch)?;
    let help = asked(program, "--help", scratch)?;
    let known =
        |flag: &&'static str| help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).any(|w| w == *flag);
    Ok((version, CLAUDE_FLAGS.iter().copied().filter(|f| !known(f)).collect()))
}

/// A program's output for `--version`.
fn version(program: &str, scratch: &Path) -> Result<String, String> {
    let text = asked(program, "--version", scratch)?;
    let line = text.lines().next().ok_or("`--version` says nothing")?;
    Ok(line.trim().chars().take(80).collect())
}

fn asked(program: &str, flag: &str, scratch: &Path) -> Result<String, String> {
    let path = find(program).ok_or("not found")?;
    let out = scratch.join("version.txt");
    let keep = |name: &str| std::env::var_os(name).map(|v| (OsString::from(name), v));
    let mut env: Vec<_> = keep("LANG").into_iter().collect();
    env.extend(modes::search_path().map(|path| (OsString::from("PATH"), path)));
    env.push(("HOME".into(), scratch.as_os_str().to_owned()));
    let spec = Spec {
        argv: vec![path.into_os_string(), flag.into()],
        cwd: scratch.to_owned(),
        env,
        stdin: None,
        stdout: out.clone(),
        stderr: scratch.join("version.err"),
        wall: Duration::from_secs(20),
        stall: None,
        grace: Duration::from_secs(1),
        mark: ("ORCH_RUN".to_owned(), format!("doctor-{}", std::process::id())),
        cap_bytes: 1 << 16,
        boundary: Boundary::Operator,
    };
    let exit = child::run(&spec, &mut |_| Control::Go).map_err(|e| e.to_string())?;
    match exit.code {
        Some(0) => Ok(std::fs::read_to_string(&out).unwrap_or_default()),
        code => Err(format!("`{flag}` ended with {}", code.map_or("a signal".to_owned(), |c| format!("exit {c}")))),
    }
}

impl Level {
    /// The level at the start of a line, padded to the longest.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Ok => "ok     ",
            Self::Warning => "warning",
            Self::Failed => "failed ",
        }
    }
}
