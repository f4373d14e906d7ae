//! Supervisors as transient services (RUN-4): `systemd-run` and `systemctl`, by argv, with time limits.

use super::super::handed;
use super::{ENVIRONMENT_PREFIX, ExecutorError, PIPE, Start, ask};
use rustix::process::getuid;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

fn words(user: bool, words: &[&str]) -> Vec<OsString> {
    user.then_some("--user").into_iter().chain(words.iter().copied()).map(OsString::from).collect()
}

/// Which manager answers here: for root the system's, for any other account the user's. Returns `user`.
pub(super) fn manager() -> Result<bool, ExecutorError> {
    let user = !getuid().is_root();
    // The same check as sd_booted(3).
    if !std::path::Path::new("/run/systemd/system").is_dir() {
        return Err(ExecutorError::NoManager { reason: "the machine was not booted with systemd".into() });
    }
    if which::which("systemd-run").is_err() {
        return Err(ExecutorError::NoManager { reason: "systemd-run is not on PATH".into() });
    }
    let answer = ask("systemctl", &words(user, &["--no-pager", "--no-ask-password", "show", "--property=Version"]));
    match answer {
        Ok(answer) if answer.code == Some(0) => Ok(user),
        Ok(answer) => Err(ExecutorError::NoManager { reason: answer.reason() }),
        Err(error) => Err(ExecutorError::NoManager { reason: error.to_string() }),
    }
}

/// The service this process runs in, if ending it ends what it started (its KillMode, RUN-4). A service of unknown
/// KillMode counts as such if systemd started this process.
pub(super) fn deadly_service() -> Option<String> {
    let cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = enclosing_service(&cgroup)?;
    let unit = path.rsplit('/').next().unwrap_or(path);
    let user = path.split('/').any(|part| part.starts_with("user@"));
    let args = words(user, &["--no-pager", "--no-ask-password", "show", "--property=KillMode", "--value", unit]);
    let spares = match ask("systemctl", &args) {
        Ok(answer) if answer.code == Some(0) && !answer.stdout.trim().is_empty() => {
            matches!(answer.stdout.trim(), "process" | "none")
        }
        Ok(_) | Err(_) => std::env::var_os("INVOCATION_ID").is_none(),
    };
    (!spares).then(|| unit.to_owned())
}

/// The path, up to its innermost unit, if that is a service: `/system.slice/orch-tick.service`. A scope of a login or
/// terminal is not one, nor is the user's manager itself.
pub(super) fn enclosing_service(cgroup: &str) -> Option<&str> {
    let line = |prefix: &str| cgroup.lines().find_map(|line| line.split_once(prefix).map(|(_, path)| path));
    // The unified hierarchy, or the one that systemd keeps next to the old ones; the first may exist and be empty.
    let path = [line("0::"), line(":name=systemd:")].into_iter().flatten().find(|path| *path != "/")?;
    let mut end = path.len();
    loop {
        let upto = path.get(..end)?;
        let part = upto.rsplit('/').next()?;
        if part.ends_with(".service") && !part.starts_with("user@") {
            return Some(upto);
        }
        if part.ends_with(".scope") || part.ends_with(".service") {
            return None;
        }
        end = upto.rfind('/')?;
    }
}

/// Starts a transient service; returns once its program was executed, or why not.
pub(super) fn start(start: &Start, user: bool) -> Result<(), ExecutorError> {
    let unit = &start.unit;
    let failed = |reason: String| ExecutorError::NotStarted { unit: unit.clone(), reason };
    let text = environment_file(unit, &start.env)?;
    // Values are neither on a command line nor in the unit; the manager has read them when systemd-run returns. Next to
    // the log, which the manager must find too: a step's own /tmp may be hidden from it (PrivateTmp=).
    let place = start.log.parent().ok_or_else(|| failed("its log is in no folder".into()))?;
    let made = tempfile::Builder::new().prefix(ENVIRONMENT_PREFIX).tempfile_in(place);
    let mut file = made.map_err(|e| failed(e.to_string()))?;
    file.write_all(text.as_bytes()).and_then(|()| file.flush()).map_err(|e| failed(e.to_string()))?;
    let pipe = place.join(PIPE);
    let given = !start.secrets.is_empty();
    if given {
        handed::make_pipe(&pipe).map_err(|e| failed(format!("making {}: {e}", pipe.display())))?;
    }
    let answer = ask("systemd-run", &arguments(start, user, file.path()))?;
    if given && answer.code != Some(0) {
        // Nobody will read it. A service that runs already had its own.
        let _ = std::fs::remove_file(&pipe);
    }
    match answer.code {
        Some(0) if given => {
            let offered = handed::offer(&pipe, &start.secrets, start.fetch);
            offered.map_err(|e| failed(format!("it did not fetch its secrets: {e}")))
        }
        Some(0) => Ok(()),
        Some(_) | None if exists(&answer.stderr) => Err(ExecutorError::AlreadyRunning { unit: unit.clone() }),
        Some(_) | None => Err(failed(format!("systemd-run: {}", answer.reason()))),
    }
}

fn exists(stderr: &str) -> bool {
    ["already loaded", "already exists", "has a fragment file"].iter().any(|text| stderr.contains(text))
}

pub(super) fn arguments(start: &Start, user: bool, env: &std::path::Path) -> Vec<OsString> {
    let mut args = words(user, &["--quiet", "--no-ask-password", "--collect", "--slice=orch-agents.slice"]);
    args.push("--service-type=exec".into());
    args.push(format!("--unit={}.service", start.unit).into());
    let mut join = |head: &str, tail: &OsStr| {
        let mut arg = OsString::from(head);
        arg.push(tail);
        args.push(arg);
    };
    join("--working-directory=", start.cwd.as_os_str());
    let mut property = |name: &str, value: &OsStr| join(&format!("--property={name}="), value);
    let mut log = OsString::from("append:");
    log.push(&start.log);
    property("StandardInput", OsStr::new("null"));
    property("StandardOutput", &log);
    property("StandardError", &log);
    property("EnvironmentFile", env.as_os_str());
    property("UMask", OsStr::new("0077"));
    property("KillMode", OsStr::new("control-group"));
    let limits = &start.limits;
    let numbers = [
        ("TasksMax", limits.tasks_max),
        ("RuntimeMaxSec", limits.runtime_max_s),
        ("TimeoutStopSec", limits.stop_timeout_s),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            property(name, OsStr::new(&value.to_string()));
        }
    }
    for (name, value) in [("MemoryMax", &limits.memory_max), ("CPUQuota", &limits.cpu_quota)] {
        if let Some(value) = value {
            property(name, OsStr::new(value));
        }
    }
    if let Some(writable) = limits.writable.as_ref().filter(|_| !user) {
        // No namespace is forbidden and /proc stays whole: a runtime's own sandbox (bubblewrap) creates its own of
        // both.
        for property in ["NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=read-only"] {
            args.push(format!("--property={property}").into());
        }
        let temporary = ["/tmp", "/var/tmp"].map(PathBuf::from);
        for path in temporary.iter().chain(writable) {
            // One quoted word; a missing path is no error.
            let mut arg = OsString::from("--property=ReadWritePaths=\"-");
            arg.push(guarded(path.as_os_str(), b"\"\\", b'\\'));
            arg.push("\"");
            args.push(arg);
        }
    }
    args.extend(limits.properties.iter().map(|p| OsString::from(format!("--property={p}"))));
    args.push("--".into());
    // systemd expands variables in a service's arguments; a doubled `$` is a literal one.
    args.extend(start.argv.iter().map(|arg| guarded(arg, b"$", b'$')));
    args
}

/// `arg` with a byte put before each of `special`.
fn guarded(arg: &OsStr, special: &[u8], guard: u8) -> OsString {
    let guarded = arg.as_bytes().iter().flat_map(|b| special.contains(b).then_some(guard).into_iter().chain([*b]));
    OsString::from_vec(guarded.collect())
}

/// The environment as systemd.exec(5) reads it from a file. A value that systemd would drop is an error, never a silent
/// loss.
pub(super) fn environment_file(unit: &str, env: &[(OsString, OsString)]) -> Result<String, ExecutorError> {
    let mut text = String::new();
    for (name, value) in env {
        let bad =
            |what| ExecutorError::BadValue { unit: unit.to_owned(), what, name: name.to_string_lossy().into_owned() };
        let plain = name.to_str().filter(|name| {
            name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
        });
        let name = plain.ok_or_else(|| bad("the variable name"))?;
        let held = value.to_str().filter(|v| !v.chars().any(|c| c.is_control() && c != '\t' && c != '\n'));
        let value = held.ok_or_else(|| bad("the value of"))?;
        text.push_str(name);
        text.push_str("=\"");
        for c in value.chars() {
            if matches!(c, '"' | '\\' | '$' | '`') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push_str("\"\n");
    }
    Ok(text)
}
