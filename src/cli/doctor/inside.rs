//! What runs find inside their confinement (BND-3): the programs with which configured commands begin, the service of
//! each runtime, its limits, and the rights that the account adds.

use super::Chart;
use crate::adapters::child::{self, ChildError, Control, Spec};
use crate::adapters::confine::reaches;
use crate::adapters::executor::{Executor, Kind};
use crate::adapters::{accounts, confine::Probe};
use crate::config::{Config, EnvValue, ExecutorKind, Project, Runtime};
use crate::engine::agent::program_files;
use crate::engine::area::Folders;
use crate::engine::confine::{self, Further};
use crate::engine::mirrors;
use crate::engine::run_env::base_env;
use crate::model::confine::{Held, Host, Network};
use crate::model::ids::RunId;
use crate::model::stage::Agent;
use crate::model::text::clip;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

const AREA: &str = "machine";
/// How long `--version` may take.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Groups whose members can become root, or read what is not theirs.
const POWERFUL: &[&str] = &[
    "root",
    "docker",
    "lxd",
    "incus",
    "incus-admin",
    "libvirt",
    "kvm",
    "disk",
    "adm",
    "sudo",
    "wheel",
    "admin",
    "shadow",
    "kmem",
    "systemd-journal",
];

/// A run's limits, and the rights from the account's groups. `config`: the real one.
pub fn bounds(config: &Config, chart: &mut Chart) {
    let limits = config.confine.policy().limits;
    let measured = format!(
        "checked once a second ({} MiB of memory, {} processes, {} files and {} MiB in its folders)",
        limits.memory_mb, limits.processes, limits.files, limits.disk_mb
    );
    let kind = match config.executor {
        ExecutorKind::Auto | ExecutorKind::Slurm => Kind::Auto,
        ExecutorKind::Systemd => Kind::Systemd,
        ExecutorKind::Detach => Kind::Detach,
    };
    let how = match Executor::resolve(kind) {
        Ok(Executor::Systemd { .. }) => format!("the unit's control group (executor_limits); in addition {measured}"),
        Ok(Executor::Detach) => format!("no control group; {measured}"),
        Err(_) => measured,
    };
    chart.ok(AREA, "limits", format!("{how}; the kernel limits file size and open files"));
    let device = |path: &Path| path.ancestors().find_map(|p| std::fs::metadata(p).ok()).map(|m| m.dev());
    if device(&config.area_dir) == device(&config.state_dir) {
        chart.warn(
            AREA,
            "area_dir",
            format!(
                "{} and the state directory share a file system: runs can fill the database's disk",
                config.area_dir.display()
            ),
            "put area_dir on a separate file system",
        );
    }
    let groups = accounts::own_groups();
    let strong: Vec<&str> = groups.iter().map(String::as_str).filter(|g| POWERFUL.contains(g)).collect();
    if !strong.is_empty() && !rustix::process::geteuid().is_root() {
        chart.warn(
            AREA,
            "groups",
            format!("this account is in {}, which gives it more rights", strong.join(", ")),
            "run orch as a separate account that is in none of these groups",
        );
    }
}

/// Programs and services, project by project. `config`: with a temporary state directory.
pub fn all(config: &Config, chart: &mut Chart) {
    for project in &config.projects {
        let mut asked = BTreeSet::new();
        for (runtime, program) in needed(config, project) {
            if asked.insert((runtime.clone(), program.clone())) {
                one(config, project, runtime.as_deref(), &program, chart);
            }
        }
    }
    let mut services = BTreeSet::new();
    for project in &config.projects {
        for agent in Agent::ALL {
            let name = config.agent(*agent).runtime;
            let network = config.confinement(project, Some(&name)).network;
            let host = config.runtimes.get(&name).and_then(service);
            if let Some(host) = host.filter(|h| services.insert((h.clone(), network.word()))) {
                service_reached(config, project, &name, &host, &network, chart);
            }
        }
    }
}

/// The programs with which commands of the second row begin: the runtime (`None`: the project's own command) and the
/// program. A path of the checkout can't be checked here.
pub(super) fn needed(config: &Config, project: &Project) -> Vec<(Option<String>, String)> {
    let mut all: Vec<(Option<String>, String)> = Vec::new();
    let mut add = |runtime: Option<&String>, argv: &[String]| {
        all.extend(argv.first().map(|program| (runtime.cloned(), program.clone())));
    };
    for argv in project.commands_of_branch() {
        add(None, argv);
    }
    for agent in Agent::ALL {
        let name = config.agent(*agent).runtime;
        if let Some(runtime) = config.runtimes.get(&name) {
            add(Some(&name), runtime.kind.argv().1);
        }
    }
    all.retain(|(_, program)| !program.contains('/') || program.starts_with('/'));
    all
}

fn one(config: &Config, project: &Project, runtime: Option<&str>, program: &str, chart: &mut Chart) {
    let (area, name) = (project.key.as_str(), format!("runs {program}"));
    let install = "install it where every account finds it, or add its folder to confine.read";
    match version(config, project, runtime, program) {
        // Unconfined, or without a working engine: reported elsewhere.
        Ok(None) => {}
        Ok(Some((held, Ok(line)))) => chart.ok(area, &name, format!("{line} (inside {})", held.as_str())),
        Ok(Some((held, Err(why)))) => {
            chart.fail(area, &name, format!("inside {}: {why}", held.as_str()), install);
        }
        Err(why) => chart.warn(area, &name, why, "make area_dir writable"),
    }
}

type Answer = (Held, Result<String, String>);

/// `PROGRAM --version` in the confinement and environment of a run. `None`: runs are unconfined here.
fn version(config: &Config, project: &Project, runtime: Option<&str>, program: &str) -> Result<Option<Answer>, String> {
    let Ok(hold) = confine::of(config, project, runtime, RunId(i64::from(std::process::id()))) else { return Ok(None) };
    if hold.held() == Held::Unconfined {
        return Ok(None);
    }
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let place = if config.area_dir.is_dir() { config.area_dir.clone() } else { std::env::temp_dir() };
    let place = tempfile::Builder::new().prefix(".doctor-").tempdir_in(place).map_err(|e| text(&e))?;
    let folders = Folders::of_check(place.path(), &place.path().join("run"));
    folders.renew().map_err(|e| text(&e))?;
    std::fs::create_dir(&folders.checkout).map_err(|e| text(&e))?;
    mirrors::write(&folders.home);
    hold.hand_over(&folders).map_err(|e| text(&e))?;
    let argv = [program, "--version"].map(OsString::from).to_vec();
    let further =
        Further { read: if runtime.is_some() { program_files(&argv) } else { Vec::new() }, ..Further::default() };
    let mut env = base_env(&project.repo, "", &folders);
    env.extend(hold.env());
    let at = |name: &str| place.path().join(name);
    let spec = Spec {
        cwd: folders.checkout.clone(),
        env,
        stdin: None,
        stdout: at("out"),
        stderr: at("err"),
        wall: TIMEOUT,
        stall: None,
        grace: Duration::from_secs(1),
        mark: ("ORCH_RUN".to_owned(), format!("doctor-{}", std::process::id())),
        cap_bytes: 1 << 16,
        boundary: hold.boundary(&folders, further),
        argv,
    };
    let said = |name: &str| {
        let text = std::fs::read(at(name)).unwrap_or_default();
        clip(String::from_utf8_lossy(&text).lines().next().unwrap_or_default(), 100)
    };
    let answer = match child::run(&spec, &mut |_| Control::Go) {
        Err(e @ ChildError::Left { .. }) => return Err(e.to_string()),
        Err(e) => Err(e.to_string()),
        Ok(exit) if exit.code == Some(0) => {
            Ok(if said("out").is_empty() { "it is there".to_owned() } else { said("out") })
        }
        Ok(exit) if matches!(exit.code, Some(126 | 127)) || exit.ended_by.is_some() => {
            Err(format!("`--version` does not run: {}", said("err")))
        }
        // Shells and small programs have no `--version`; a tool chain that can't be read says so.
        Ok(_) => Ok(format!("found; `--version` prints: {}", said("err"))),
    };
    Ok(Some((hold.held(), answer)))
}

/// The service that a runtime connects to, if known.
fn service(runtime: &Runtime) -> Option<Host> {
    let (variable, usual) = runtime.kind.kind().service()?;
    let named = match runtime.env.get(variable) {
        Some(EnvValue::Literal(url)) => {
            let rest = url.strip_prefix("https://")?;
            let authority = rest.split(['/', '?']).next()?;
            if authority.contains(':') { authority.to_owned() } else { format!("{authority}:443") }
        }
        Some(EnvValue::Ref(_)) => return None,
        None => usual.to_owned(),
    };
    named.parse().ok()
}

fn service_reached(config: &Config, project: &Project, name: &str, host: &Host, network: &Network, chart: &mut Chart) {
    let held = confine::of(config, project, Some(name), RunId(0)).map(|hold| hold.held());
    let proxied = matches!(network, Network::Internet | Network::Hosts(_)) && held == Ok(Held::Bubblewrap);
    let Some(probe) = Probe::here(config.state_dir.clone()).ok().filter(|_| proxied) else { return };
    let message = format!("{host}, the service of runtime {name}");
    match reaches(&probe.program, network, host) {
        Ok(()) => chart.ok(AREA, "network", format!("{message}, can be reached through the runs' proxy")),
        Err(why) => chart.fail(
            AREA,
            "network",
            format!("{message}, can't be reached through the runs' proxy: {why}"),
            format!(
                "add {host} to confine.hosts, make sure that this machine reaches it, or set confine.network to open"
            ),
        ),
    }
}
