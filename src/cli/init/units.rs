//! systemd units: the templates of `scripts/systemd/`, with the paths of this machine (services.md 8, ORD-4).

use super::summary::Summary;
use super::{Done, envfile};
use crate::adapters::executor;
use crate::cli::exit::{Exit, Failure};
use crate::config::Config;
use crate::engine::paths::Paths;
use anyhow::Context;
use std::path::{Path, PathBuf};

const SERVICES: [(&str, &str); 3] = [
    ("tick.service", include_str!("../../../scripts/systemd/orch-tick.service")),
    ("reap.service", include_str!("../../../scripts/systemd/orch-reap.service")),
    ("reconcile.service", include_str!("../../../scripts/systemd/orch-reconcile.service")),
];
const TIMERS: [(&str, &str); 3] = [
    ("tick.timer", include_str!("../../../scripts/systemd/orch-tick.timer")),
    ("reap.timer", include_str!("../../../scripts/systemd/orch-reap.timer")),
    ("reconcile.timer", include_str!("../../../scripts/systemd/orch-reconcile.timer")),
];
const STATE: &str = "/var/lib/orch";

/// Where a manager searches for an administrator's units, or a user's; below a prefix as packages have them.
pub fn folder(user: bool, prefix: Option<&Path>) -> PathBuf {
    if let Some(prefix) = prefix {
        let prefix = std::path::absolute(prefix).unwrap_or_else(|_| prefix.to_owned());
        return prefix.join("lib/systemd").join(if user { "user" } else { "system" });
    }
    if !user {
        return "/etc/systemd/system".into();
    }
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|h| h.join(".config")));
    base.unwrap_or_else(|| ".config".into()).join("systemd/user")
}

/// Fails where the units' folder, or its nearest existing parent, is not a folder or is closed to this account.
pub fn writable(folder: &Path) -> Result<(), Failure> {
    use rustix::fs::Access;
    let first = folder.ancestors().find(|dir| dir.symlink_metadata().is_ok()).unwrap_or(folder);
    let access = if first.is_dir() {
        rustix::fs::access(first, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)
    } else {
        Err(rustix::io::Errno::NOTDIR)
    };
    access.map_err(|why| {
        Failure::new(
            Exit::Broken,
            format!("units can't be written to {}: {}: {why}", folder.display(), first.display()),
        )
        .hint("nothing was changed; give this account write access there, or use --user or --prefix DIR")
    })
}

/// Whether a manager is running that would accept units of this kind.
pub fn is_running(user: bool) -> bool {
    executor::is_managed() && user != rustix::process::getuid().is_root()
}

/// The names of one installation's units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    stem: String,
}

impl Names {
    /// `orch`, or with the installation's eight digits where another one already has those names in this folder.
    pub fn of(folder: &Path, config: &Config) -> Self {
        let plain = Self { stem: "orch".to_owned() };
        let own = Self { stem: format!("orch-{}", Paths::new(&config.state_dir).installation()) };
        let tick = |names: &Self| std::fs::read_to_string(folder.join(names.name("tick.service"))).ok();
        match (tick(&plain), tick(&own)) {
            (_, Some(_)) => own,
            (Some(text), None) if !is_of(&text, &config.file) => own,
            (Some(_) | None, None) => plain,
        }
    }

    /// The names with a stem that was found.
    pub fn called(stem: &str) -> Self {
        Self { stem: stem.to_owned() }
    }

    /// `orch-tick.service`, where `kind` is `tick.service`.
    pub fn name(&self, kind: &str) -> String {
        format!("{}-{kind}", self.stem)
    }

    pub fn timers(&self) -> Vec<String> {
        TIMERS.iter().map(|(kind, _)| self.name(kind)).collect()
    }

    /// All six.
    pub fn all(&self) -> Vec<String> {
        SERVICES.iter().chain(&TIMERS).map(|(kind, _)| self.name(kind)).collect()
    }
}

/// Whether a service's text starts steps of this configuration.
pub fn is_of(text: &str, file: &Path) -> bool {
    let Ok(file) = word(file) else { return false };
    text.lines().any(|line| line.starts_with("ExecStart=") && line.contains(&format!(" --config {file} ")))
}

/// Writes the six units. A state directory that is not the manager's to create is created here: a unit whose writable
/// path is missing does not start.
pub fn write(
    folder: &Path,
    user: bool,
    program: &Path,
    config: &Config,
    names: &Names,
    done: &mut Done,
) -> Result<(), Failure> {
    if !user && config.state_dir != Path::new(STATE) {
        crate::adapters::sentinel::make_dirs(&config.state_dir)
            .with_context(|| format!("creating the state directory {}", config.state_dir.display()))?;
    }
    // Nothing is written unless all of them could be.
    let services = SERVICES.iter().map(|(kind, text)| Ok((names.name(kind), service(text, user, program, config)?)));
    let services = services.collect::<Result<Vec<_>, Failure>>()?;
    for (name, text) in services {
        done.put(&folder.join(name), &text)?;
    }
    for (kind, text) in TIMERS {
        let text = if kind == "reap.timer" {
            let every = format!("{}s", config.reaper.interval_s.max(1));
            text.replace("OnUnitInactiveSec=60s", &format!("OnUnitInactiveSec={every}"))
                .replace("reap, 60s", &format!("reap, {every}"))
        } else {
            text.to_owned()
        };
        done.put(&folder.join(names.name(kind)), &text)?;
    }
    Ok(())
}

/// Writes the units and `orch.env` of an installation, and notes what a person should know and do. `prefix`: below
/// which the units are written instead, for a package.
pub fn install(config: &Config, user: bool, prefix: Option<&Path>, summary: &mut Summary) -> Result<(), Failure> {
    let program = std::env::current_exe().context("finding this program's own file")?;
    envfile::write(config, &mut summary.done, &mut summary.notes)?;
    let folder = folder(user, prefix);
    let names = Names::of(&folder, config);
    write(&folder, user, &program, config, &names, &mut summary.done)?;
    let manager = if user { "--user " } else { "" };
    if !is_running(user) {
        summary.notes.push(
            "no systemd manager is running here: the units are written, and take effect once one runs".to_owned(),
        );
    }
    if let Some(prefix) = prefix {
        summary.notes.push(format!(
            "the units are below {}: a manager searches /usr/lib/systemd and /usr/local/lib/systemd",
            prefix.display()
        ));
    }
    summary.next.push(format!("systemctl {manager}daemon-reload"));
    summary.next.push(format!("systemctl {manager}enable --now {}", names.timers().join(" ")));
    if user {
        summary.next.push("loginctl enable-linger      # else everything ends when you log out".to_owned());
    } else {
        summary.notes.push(
            "steps and agents of system units run as root; `--user` under a separate account is safer".to_owned(),
        );
    }
    Ok(())
}

fn service(text: &str, user: bool, program: &Path, config: &Config) -> Result<String, Failure> {
    let env = envfile::place(&config.file);
    let mut out = String::new();
    let mut system_only = false;
    for line in text.lines() {
        match line {
            "# -- system manager only" => system_only = true,
            "# -- end" => system_only = false,
            _ if system_only && user => {}
            // The user's manager has no unit for the network.
            "After=network-online.target" | "Wants=network-online.target" if user => {}
            _ if line.starts_with("StateDirectory") && config.state_dir != Path::new(STATE) => {}
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    // Only the state directory must exist.
    let writable = config.writable().iter().map(|path| word(path)).collect::<Result<Vec<_>, _>>()?.join(" -");
    Ok(out
        .replace("ReadWritePaths=/var/lib/orch", &format!("ReadWritePaths={writable}"))
        .replace("/usr/bin/orch", &word(program)?)
        .replace("--config /etc/orch/orch.yaml", &format!("--config {}", word(&config.file)?))
        .replace("EnvironmentFile=/etc/orch/orch.env", &format!("EnvironmentFile={}", word(&env)?)))
}

/// A path as a unit file accepts it: `%` doubled; white space and quotes can't be in one.
fn word(path: &Path) -> Result<String, Failure> {
    let text = path.to_string_lossy().replace('%', "%%");
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || "\"'\\$".contains(c)) {
        return Err(Failure::usage(format!("the path {} can't be written to a unit file", path.display()))
            .hint("use a path without spaces, quotes and dollar signs"));
    }
    Ok(text)
}
