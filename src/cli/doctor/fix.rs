//! `orch doctor --fix` (ORD-2): does what needs no decision, and reports each change. What is already right is left
//! alone, so a second call does nothing.

use crate::adapters::child::{self, Control, Spec};
use crate::adapters::confine::Boundary;
use crate::adapters::executor::{Executor, Kind};
use crate::adapters::{modes, net, toolbox};
use crate::config::{Config, ExecutorKind, SecretRef};
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The script that installs the pinned gitleaks; it verifies both hashes itself.
const GITLEAKS: &str = include_str!("../../../scripts/tools/install-gitleaks.sh");
const GITLEAKS_LIMIT: Duration = Duration::from_secs(300);
const LINGER_LIMIT: Duration = Duration::from_secs(30);

/// A repair that was made, or that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Act {
    /// What was done, as a person would type or say it.
    pub message: String,
    /// Why it failed; `None`: it is done.
    pub failed: Option<String>,
}

impl Act {
    fn of<E: std::fmt::Display>(message: impl Into<String>, done: Result<(), E>) -> Self {
        Self { message: message.into(), failed: done.err().map(|e| e.to_string()) }
    }
}

/// Every kind of repair, in order; each returns what it did.
const ALL: [fn(&Config) -> Vec<Act>; 3] = [gitleaks, permissions, linger];

/// Repairs what it can. `say` gets each repair right after it.
pub fn all(config: &Config, say: &dyn Fn(&Act)) -> Vec<Act> {
    let mut done = Vec::new();
    for repair in ALL {
        for act in repair(config) {
            say(&act);
            done.push(act);
        }
    }
    done
}

/// The secret scanner, if a project's security gate needs it and it is not installed. One named by a path is the
/// operator's own.
fn gitleaks(config: &Config) -> Vec<Act> {
    let needed = config.projects.iter().any(|p| config.security_gate(p));
    let named = &config.tools.gitleaks;
    if !needed || named != "gitleaks" || toolbox::find(named).is_some() {
        return Vec::new();
    }
    let done = run(&["sh", "-s"], Some(GITLEAKS), GITLEAKS_LIMIT);
    vec![Act::of("installed gitleaks into the tools cache, pinned by its hash", done)]
}

/// Removes access of others to the state directory and the files of secrets.
fn permissions(config: &Config) -> Vec<Act> {
    let state = std::iter::once((config.state_dir.clone(), 0o700));
    let files = config.secrets().into_iter().filter_map(|(_, from)| match from {
        SecretRef::File(file) => Some((file.clone(), 0o600)),
        SecretRef::Env(_) | SecretRef::Command(_) => None,
    });
    let mut all: Vec<(PathBuf, u32)> = state.chain(files).collect();
    all.sort();
    all.dedup();
    all.iter().filter_map(|(path, mode)| closed(path, *mode)).collect()
}

fn closed(path: &Path, mode: u32) -> Option<Act> {
    let open = std::fs::metadata(path).ok().filter(|m| m.mode() & 0o077 != 0)?;
    let message = format!("chmod {mode:o} {} (was {:o})", path.display(), open.mode() & 0o777);
    Some(Act::of(message, std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))))
}

/// Units of a user's own manager end at logout unless the user lingers.
fn linger(config: &Config) -> Vec<Act> {
    let kind = match config.executor {
        ExecutorKind::Auto | ExecutorKind::Slurm => Kind::Auto,
        ExecutorKind::Systemd => Kind::Systemd,
        ExecutorKind::Detach => return Vec::new(),
    };
    let user = std::env::var("USER").unwrap_or_default();
    let plain = !user.is_empty() && !user.starts_with('-') && !user.contains('/');
    let lingers = Path::new("/var/lib/systemd/linger").join(&user).exists();
    if !matches!(Executor::resolve(kind), Ok(Executor::Systemd { user: true })) || !plain || lingers {
        return Vec::new();
    }
    let done = run(&["loginctl", "enable-linger", &user], None, LINGER_LIMIT);
    vec![Act::of(format!("loginctl enable-linger {user}"), done)]
}

/// Runs a program of the operator's; on failure, returns its last line.
fn run(argv: &[&str], stdin: Option<&str>, limit: Duration) -> Result<(), String> {
    let scratch = tempfile::tempdir().map_err(|e| format!("a temporary folder can't be made: {e}"))?;
    let at = |name: &str| scratch.path().join(name);
    if let Some(text) = stdin {
        std::fs::write(at("stdin"), text).map_err(|e| format!("{}: {e}", at("stdin").display()))?;
    }
    let keeps = |name: &str| {
        matches!(name, "LANG" | "HOME" | "USER" | "XDG_CACHE_HOME" | "XDG_CONFIG_HOME" | "XDG_RUNTIME_DIR")
            || matches!(name, "ORCH_TOOLS_CACHE" | "DBUS_SESSION_BUS_ADDRESS")
            || name.starts_with("PIP_")
    };
    let mut env: Vec<(OsString, OsString)> =
        std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(keeps)).collect();
    env.extend(modes::search_path().map(|path| (OsString::from("PATH"), path)));
    env.extend(net::child_env());
    let spec = Spec {
        argv: argv.iter().map(OsString::from).collect(),
        cwd: scratch.path().to_owned(),
        env,
        stdin: stdin.map(|_| at("stdin")),
        stdout: at("stdout"),
        stderr: at("stderr"),
        wall: limit,
        stall: None,
        grace: Duration::from_secs(2),
        mark: ("ORCH_RUN".to_owned(), format!("doctor-fix-{}", std::process::id())),
        cap_bytes: 1 << 20,
        boundary: Boundary::Operator,
    };
    let exit = child::run(&spec, &mut |_| Control::Go).map_err(|e| e.to_string())?;
    if exit.code == Some(0) && exit.ended_by.is_none() {
        return Ok(());
    }
    let said = std::fs::read_to_string(at("stderr")).unwrap_or_default();
    let last = said.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned();
    let how = exit.code.map_or_else(|| "ended by a signal or its time".to_owned(), |c| format!("exit {c}"));
    Err(format!("{how}: {}", crate::model::text::clip(&last, 300)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ord_2_what_others_may_read_is_closed_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "x").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let act = closed(&file, 0o600).unwrap();
        assert!(act.failed.is_none() && act.message.contains("was 644"), "{act:?}");
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!((closed(&file, 0o600), closed(&dir.path().join("none"), 0o600)), (None, None));
    }

    #[test]
    fn ord_2_a_repair_that_fails_says_so() {
        assert_eq!(run(&["sh", "-c", "exit 0"], None, LINGER_LIMIT), Ok(()));
        let why = run(&["sh", "-s"], Some("echo one; echo two >&2; exit 3"), LINGER_LIMIT).unwrap_err();
        assert_eq!(why, "exit 3: two");
        assert!(run(&["no-such-program"], None, LINGER_LIMIT).unwrap_err().contains("no-such-program"));
    }
}
