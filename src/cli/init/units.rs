//! systemd units: the templates of `scripts/systemd/`, with the paths of this machine (services.md 8).

use super::Done;
use crate::cli::exit::Failure;
use crate::config::Config;
use anyhow::Context;
use std::path::{Path, PathBuf};

const SERVICES: [(&str, &str); 3] = [
    ("orch-tick.service", include_str!("../../../scripts/systemd/orch-tick.service")),
    ("orch-reap.service", include_str!("../../../scripts/systemd/orch-reap.service")),
    ("orch-reconcile.service", include_str!("../../../scripts/systemd/orch-reconcile.service")),
];
const TIMERS: [(&str, &str); 3] = [
    ("orch-tick.timer", include_str!("../../../scripts/systemd/orch-tick.timer")),
    ("orch-reap.timer", include_str!("../../../scripts/systemd/orch-reap.timer")),
    ("orch-reconcile.timer", include_str!("../../../scripts/systemd/orch-reconcile.timer")),
];
const STATE: &str = "/var/lib/orch";

/// Where a manager looks for units of an administrator, or of a user.
pub fn folder(user: bool) -> PathBuf {
    if !user {
        return "/etc/systemd/system".into();
    }
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|h| h.join(".config")));
    base.unwrap_or_else(|| ".config".into()).join("systemd/user")
}

/// Writes the six units. A state directory that is not the manager's to make is made here: a unit whose writable path is
/// missing does not start.
pub fn write(folder: &Path, user: bool, program: &Path, config: &Config, done: &mut Done) -> Result<(), Failure> {
    if !user && config.state_dir != Path::new(STATE) {
        crate::adapters::sentinel::make_dirs(&config.state_dir)
            .with_context(|| format!("making the state directory {}", config.state_dir.display()))?;
    }
    for (name, text) in SERVICES {
        done.put(&folder.join(name), &service(text, user, program, config)?)?;
    }
    for (name, text) in TIMERS {
        let text = if name == "orch-reap.timer" {
            let every = format!("{}s", config.reaper.interval_s.max(1));
            text.replace("OnUnitInactiveSec=60s", &format!("OnUnitInactiveSec={every}"))
                .replace("reap, 60s", &format!("reap, {every}"))
        } else {
            text.to_owned()
        };
        done.put(&folder.join(name), &text)?;
    }
    Ok(())
}

fn service(text: &str, user: bool, program: &Path, config: &Config) -> Result<String, Failure> {
    let env = config.file.with_file_name("orch.env");
    let mut out = String::new();
    let mut system_only = false;
    for line in text.lines() {
        match line {
            "# -- system manager only" => system_only = true,
            "# -- end" => system_only = false,
            _ if system_only && user => {}
            // The network is not a unit of the user's manager.
            "After=network-online.target" | "Wants=network-online.target" if user => {}
            _ if line.starts_with("StateDirectory") && config.state_dir != Path::new(STATE) => {}
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    // Only the state directory must be there.
    let writable = config.writable().iter().map(|path| word(path)).collect::<Result<Vec<_>, _>>()?.join(" -");
    Ok(out
        .replace("ReadWritePaths=/var/lib/orch", &format!("ReadWritePaths={writable}"))
        .replace("/usr/bin/orch", &word(program)?)
        .replace("--config /etc/orch/orch.yaml", &format!("--config {}", word(&config.file)?))
        .replace("-/etc/orch/orch.env", &format!("-{}", word(&env)?)))
}

/// A path as a unit file takes it: `%` doubled; white space and quotes have no place in one.
fn word(path: &Path) -> Result<String, Failure> {
    let text = path.to_string_lossy().replace('%', "%%");
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || "\"'\\$".contains(c)) {
        return Err(Failure::usage(format!("the path {} can't stand in a unit file", path.display()))
            .hint("use a path without spaces, quotes and dollar signs"));
    }
    Ok(text)
}
