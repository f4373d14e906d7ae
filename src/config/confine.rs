//! The section `confine` (BND-2): turns the file and the variables into a policy, checks what it contains, and makes
//! sure that a project or a runtime can only make it stricter.

use super::error::ConfigError;
use super::parts::missing;
use super::scalar::Scalar;
use super::types::{Config, Confine, Project};
use crate::model::confine::{Choice, Host, Limits, Mode, Network, Policy};
use crate::model::confine_strict::{both, stricter};
use crate::model::reading;
use crate::model::stage::words;
use crate::model::toolchain;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

words! {
    /// What of the network a run reaches.
    NetworkWord { Open = "open", Internet = "internet", Hosts = "hosts", Closed = "closed" }
}

/// A list; in a variable, its items are separated by commas.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct List(pub Vec<String>);

impl Scalar for List {
    fn expected() -> String {
        "a list, in a variable separated by commas".into()
    }
    fn parse(text: &str) -> Option<Self> {
        Some(Self(text.split(',').map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()).collect()))
    }
    fn show(&self) -> String {
        self.0.join(",")
    }
}

/// The largest number that is added to `uid_base`.
pub const UIDS: u32 = 1_000_000;
/// Lower numbers belong to accounts of the machine, its containers and its services.
const LEAST_UID: u32 = 1_000_000;

/// Paths, absolute afterwards.
pub(super) fn paths<'de, D: Deserializer<'de>>(from: D) -> Result<List, D::Error> {
    #[derive(Deserialize)]
    struct Located(#[serde(deserialize_with = "reading::path")] String);
    Ok(List(Vec::<Located>::deserialize(from)?.into_iter().map(|path| path.0).collect()))
}

/// `NAME:PORT`s, each in its one spelling.
pub(super) fn hosts<'de, D: Deserializer<'de>>(from: D) -> Result<List, D::Error> {
    let known = |host: String| {
        let known: Result<Host, String> = host.parse();
        known
            .map(|host| host.to_string())
            .map_err(|why| D::Error::custom(format!("{why}\nname the port too: api.example.org:443")))
    };
    Vec::<String>::deserialize(from)?.into_iter().map(known).collect::<Result<_, _>>().map(List)
}

/// The first of the uids of runs.
pub(super) fn uid_base<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    const MOST: u32 = u32::MAX - 1 - UIDS;
    match u32::deserialize(from)? {
        base @ LEAST_UID..=MOST => Ok(base),
        base => Err(D::Error::custom(format!("is {base}, expected {LEAST_UID} to {MOST}"))),
    }
}

/// The top-level section on its own.
pub(super) fn top(section: &Confine) -> Result<(), ConfigError> {
    match (section.engine, section.command.is_empty()) {
        (Choice::Command, true) => return Err(missing("confine.command", "[program, arguments]: the wrapper")),
        (Choice::Command, false) | (Choice::Auto | Choice::Bubblewrap | Choice::Landlock, true) => {}
        (engine, false) => {
            return Err(ConfigError::new(format!("confine.command is set, and confine.engine is {engine}"))
                .hint("say engine: command, or leave the command out"));
        }
    }
    reaches(section, "confine")
}

/// The section of a project or runtime, `at` its path: at least as strict as the one at the top.
pub(super) fn inner(section: &Confine, top: &Confine, at: &str) -> Result<(), ConfigError> {
    reaches(section, at)?;
    stricter(&section.policy(), &top.policy()).map_err(|looser| {
        ConfigError::new(format!(
            "{at}.{key} is {}, and confine.{key} is {}: a project or a runtime may only be stricter",
            looser.own,
            looser.top,
            key = looser.key
        ))
        .hint(format!("make it stricter, or change confine.{} at the top", looser.key))
    })
}

/// With `network: hosts`, some must be named.
fn reaches(section: &Confine, at: &str) -> Result<(), ConfigError> {
    match section.network == NetworkWord::Hosts && section.hosts.0.is_empty() {
        true => Err(missing(&format!("{at}.hosts"), "[NAME:PORT, ...], because network is hosts")),
        false => Ok(()),
    }
}

impl Confine {
    /// The section in the form that decisions and engines use.
    pub fn policy(&self) -> Policy {
        let paths = |list: &List| list.0.iter().map(PathBuf::from).collect();
        Policy {
            mode: self.mode,
            choice: self.engine,
            command: self.command.clone(),
            network: match self.network {
                NetworkWord::Open => Network::Open,
                NetworkWord::Internet => Network::Internet,
                NetworkWord::Hosts => Network::Hosts(self.hosts.0.iter().filter_map(|h| h.parse().ok()).collect()),
                NetworkWord::Closed => Network::Closed,
            },
            read: paths(&self.read),
            write: paths(&self.write),
            user: self.user.clone(),
            uid_base: self.uid_base,
            limits: Limits {
                memory_mb: self.memory_mb,
                processes: self.processes,
                files: self.files,
                disk_mb: self.disk_mb,
                cache_copy_max_mb: self.cache_copy_max_mb,
            },
        }
    }
}

impl Config {
    /// How a project's runs are confined. `runtime`: that of the agent; `None` for commands of the project.
    pub fn confinement(&self, project: &Project, runtime: Option<&str>) -> Policy {
        let own = project.confine.policy();
        match runtime.and_then(|name| self.runtimes.get(name)).and_then(|r| r.confine.as_ref()) {
            Some(of_runtime) => both(&own, &of_runtime.policy()),
            None => own,
        }
    }

    /// Every `confine` section from the file, or the default, with its path.
    fn sections(&self) -> Vec<(String, &Confine)> {
        let projects = self.projects.iter().map(|p| (format!("projects.{}.confine", p.key), &p.confine));
        let runtimes = self.runtimes.iter();
        let runtimes = runtimes.filter_map(|(n, r)| Some((format!("runtimes.{n}.confine"), r.confine.as_ref()?)));
        std::iter::once(("confine".to_owned(), &self.confine)).chain(projects).chain(runtimes).collect()
    }
}

/// A path of `orch` or of the operator, and what it is.
type Named = (PathBuf, String);

/// In the home: settings of shells, git, ssh and editors, and files that start programs automatically.
const SETTINGS: &[&str] = &[
    ".bashrc",
    ".bash_profile",
    ".bash_login",
    ".bash_logout",
    ".bash_aliases",
    ".profile",
    ".zshrc",
    ".zshenv",
    ".zprofile",
    ".zlogin",
    ".oh-my-zsh",
    ".inputrc",
    ".config",
    ".gitconfig",
    ".git-templates",
    ".ssh",
    ".gnupg",
    ".vimrc",
    ".vim",
    ".viminfo",
    ".emacs",
    ".emacs.d",
    ".nanorc",
    ".vscode",
    ".vscode-server",
    ".cursor",
    ".tmux.conf",
    ".local/share/systemd",
    ".local/bin",
    ".npmrc",
    ".netrc",
    ".pam_environment",
    ".xprofile",
    ".xsession",
];
/// Files that start programs automatically, or that every program reads.
const STARTERS: &[&str] = &[
    "/etc/systemd",
    "/run/systemd",
    "/usr/lib/systemd",
    "/lib/systemd",
    "/usr/local/lib/systemd",
    "/etc/crontab",
    "/etc/cron.d",
    "/etc/cron.hourly",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/cron.monthly",
    "/var/spool/cron",
    "/etc/profile",
    "/etc/profile.d",
    "/etc/bash.bashrc",
    "/etc/gitconfig",
    "/etc/ssh",
    "/etc/vim",
    "/etc/init.d",
];
/// Write access to one of these means root. By path, and by the name that such a socket has anywhere.
const ROOT_SOCKETS: &[&str] = &[
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/var/run/podman/podman.sock",
    "/var/lib/lxd/unix.socket",
    "/var/snap/lxd/common/lxd/unix.socket",
    "/var/lib/incus/unix.socket",
    "/run/crio/crio.sock",
    "/run/buildkit/buildkitd.sock",
];
const SOCKET_NAMES: &[&str] = &["docker.sock", "containerd.sock", "buildkitd.sock", "crio.sock"];

/// Checks what `read` and `write` may not name (BND-2). `env`: the operator's environment. Fails naming both paths.
pub(super) fn places(config: &Config, env: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    let sections = config.sections();
    if sections.iter().all(|(_, s)| s.read.0.is_empty() && s.write.0.is_empty()) {
        return Ok(());
    }
    planted(&config.confine)?;
    let hidden = hidden(config);
    let fixed = fixed(config, env);
    for (at, section) in sections {
        for (key, list) in [("read", &section.read), ("write", &section.write)] {
            for named in &list.0 {
                let at = format!("{at}.{key}");
                for path in spellings(Path::new(named)) {
                    refuse(&at, named, &path, &hidden, key == "write", &fixed)?;
                }
            }
        }
    }
    Ok(())
}

/// Runs can replace anything below a path that they may write to, for example with a link to something they may not
/// see. So projects and runtimes may only name parts of what the top-level section names.
fn planted(top: &Confine) -> Result<(), ConfigError> {
    let all = top.read.0.iter().map(|p| ("read", p)).chain(top.write.0.iter().map(|p| ("write", p)));
    for (key, path) in all {
        let own = spellings(Path::new(path));
        let under = |other: &PathBuf| own.iter().any(|p| p != other && p.starts_with(other));
        let below = |other: &&String| path != *other && spellings(Path::new(other)).iter().any(under);
        if let Some(written) = top.write.0.iter().find(below) {
            return Err(ConfigError::new(format!(
                "confine.{key} names {path}, which is below {written} of confine.write: a run could put a link there"
            ))
            .hint("name a path that no run writes, or leave it out: what is written can be read"));
        }
    }
    Ok(())
}

fn refuse(
    at: &str,
    named: &str,
    path: &Path,
    hidden: &[Named],
    write: bool,
    fixed: &[Named],
) -> Result<(), ConfigError> {
    let fail = |what: &Path, why: &str| {
        Err(ConfigError::new(format!("{at} names {named}, and {} is {why}", what.display()))
            .hint("name a path that does not hold it and is not in it"))
    };
    let is_socket = path.file_name().is_some_and(|n| SOCKET_NAMES.iter().any(|s| n == *s));
    let socket = ROOT_SOCKETS.iter().map(Path::new).find(|s| s.starts_with(path)).or(is_socket.then_some(path));
    if let Some(socket) = socket {
        return fail(socket, "a socket that means root");
    }
    if let Some((what, why)) = hidden.iter().find(|(h, _)| h.starts_with(path) || path.starts_with(h)) {
        return fail(what, why);
    }
    if let Some((what, why)) = fixed.iter().find(|(f, _)| write && (f.starts_with(path) || path.starts_with(f))) {
        return fail(what, why);
    }
    Ok(())
}

/// A path as written, and as what it leads to.
fn spellings(path: &Path) -> Vec<PathBuf> {
    let mut all = vec![path.to_owned()];
    all.extend(std::fs::canonicalize(path).ok().filter(|real| real != path));
    all
}

fn both_spellings(all: impl IntoIterator<Item = Named>) -> Vec<Named> {
    let all = all.into_iter().filter(|(p, _)| !p.as_os_str().is_empty());
    all.flat_map(|(path, what)| spellings(&path).into_iter().map(move |p| (p, what.clone())).collect::<Vec<_>>())
        .collect()
}

/// What no run may see.
fn hidden(config: &Config) -> Vec<Named> {
    let secrets = config.secrets().into_iter().filter_map(|(at, from)| match from {
        super::SecretRef::File(path) => Some((path.clone(), format!("the secret file of {at}"))),
        super::SecretRef::Env(_) | super::SecretRef::Command(_) => None,
    });
    let own = [
        (config.state_dir.clone(), "the state directory".to_owned()),
        (config.area_dir.clone(), "the folder of all runs (area_dir)".to_owned()),
        (config.file.clone(), "the configuration".to_owned()),
    ];
    let kernel = [("/proc", "where the processes of this machine are seen"), ("/dev/pts", "where terminals are")];
    let kernel = kernel.map(|(path, what)| (path.into(), what.to_owned()));
    both_spellings(own.into_iter().chain(kernel).chain(secrets))
}

/// What no run may write to.
fn fixed(config: &Config, env: &BTreeMap<String, String>) -> Vec<Named> {
    let own = config.writable().into_iter().map(|p| (p, "a repository or board of orch's own".to_owned()));
    let mut all: Vec<Named> = own.collect();
    all.extend(STARTERS.iter().map(|p| ((*p).into(), "a place that starts programs".to_owned())));
    all.push(("/sys".into(), "where the kernel is set".to_owned()));
    let path = env.get("PATH").map(String::as_str).unwrap_or_default();
    let folders = path.split(':').filter(|p| p.starts_with('/'));
    all.extend(folders.map(|p| (p.into(), "a folder of PATH".to_owned())));
    if let Some(home) = env.get("HOME").filter(|h| h.starts_with('/')).map(Path::new) {
        all.extend(SETTINGS.iter().map(|s| (home.join(s), "a place of the account's settings".to_owned())));
        all.extend(toolchain::roots(home, env).into_iter().map(|p| (p, "a tool chain".to_owned())));
        // Folders in the home may be named; the settings above protect the home itself.
    }
    both_spellings(all)
}

/// `user` needs the right to change accounts, and must not be root. `root`: whether this process runs as root.
pub(super) fn privilege(config: &Config, root: bool) -> Result<(), ConfigError> {
    if let Some((at, _)) = config.sections().into_iter().find(|(_, s)| s.user == "root") {
        return Err(ConfigError::new(format!("{at}.user is \"root\", and a run can't be root's"))
            .hint("name an account without rights of its own, or leave it out"));
    }
    match config.sections().into_iter().find(|(_, s)| !root && !s.user.is_empty()) {
        Some((at, s)) => Err(ConfigError::new(format!(
            "{at}.user is {:?}, and only root can run processes as another account",
            s.user
        ))
        .hint("leave it out, or run orch as root")),
        None => Ok(()),
    }
}

/// A project and its runtime can't both name an account.
pub(super) fn accounts(config: &Config) -> Result<(), ConfigError> {
    for p in &config.projects {
        for (name, runtime) in &config.runtimes {
            let (a, b) = (&p.confine.user, runtime.confine.as_ref().map_or("", |c| c.user.as_str()));
            if !a.is_empty() && !b.is_empty() && a != b {
                return Err(ConfigError::new(format!(
                    "projects.{}.confine.user is {a}, and runtimes.{name}.confine.user is {b}: a run has one account",
                    p.key
                ))
                .hint("name one account, or leave it out in one of them"));
            }
        }
    }
    Ok(())
}

/// What is unusual but not an error.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut out = Vec::new();
    for (at, s) in config.sections() {
        if !s.hosts.0.is_empty() && s.network != NetworkWord::Hosts {
            out.push(format!("{at}.hosts has no effect, because {at}.network is {}", s.network));
        }
        if s.mode == Mode::Off {
            continue;
        }
        if s.engine == Choice::Landlock && matches!(s.network, NetworkWord::Internet | NetworkWord::Hosts) {
            out.push(format!(
                "{at}.network is {}, which landlock alone can't hold: nothing starts (rule confinement)",
                s.network
            ));
        }
    }
    for p in &config.projects {
        let policy = |runtime: &str| config.confinement(p, Some(runtime));
        let used = config.runtimes.iter().filter(|(name, r)| config.plays(name) && r.kind.kind().needs_a_model());
        for (name, _) in used.filter(|(name, _)| policy(name).network == Network::Closed) {
            out.push(format!("{}: network is closed, and the runtime {name} needs its model", p.key));
        }
        // Unconfined runs reach them too, but `mode: off` is reported everywhere anyway.
        if p.confine.network == NetworkWord::Open && p.confine.mode != Mode::Off {
            out.extend(on_loopback(p).into_iter().map(|what| {
                format!("{}: {what} is on this machine, and with network open a run can answer there", p.key)
            }));
        }
    }
    out
}

/// Checks and probes of ports that any process of this machine could open.
fn on_loopback(p: &Project) -> Vec<String> {
    use crate::model::probe::CheckKind;
    let mut out = Vec::new();
    for check in &p.staging.checks {
        let address = match &check.spec.kind {
            CheckKind::Http { url, .. } => url,
            CheckKind::Tcp { address } => address,
            CheckKind::Command(_) | CheckKind::Sql { .. } => continue,
        };
        if is_loopback(address) {
            out.push(format!("staging check {}", check.id()));
        }
    }
    out.extend(p.post_deploy.health.iter().filter(|h| is_loopback(&h.url)).map(|h| format!("the probe {}", h.url)));
    out
}

/// Whether a URL or `HOST:PORT` names this machine.
fn is_loopback(address: &str) -> bool {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    match host.parse::<std::net::IpAddr>() {
        Ok(ip) => ip.is_loopback() || ip.is_unspecified(),
        Err(_) => host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost"),
    }
}

impl Config {
    /// Configured commands whose program, or an absolute argument, is missing: the key and what is missing. A relative
    /// path belongs to the checkout and is not checked. `path`: the value of `PATH`.
    pub fn absent(&self, path: &str) -> Vec<(String, String)> {
        let mut out = Vec::new();
        for (at, argv) in self.commands() {
            let Some((program, arguments)) = argv.split_first() else { continue };
            let there = match program.contains('/') {
                true => !program.starts_with('/') || Path::new(program).exists(),
                false => path.split(':').any(|dir| !dir.is_empty() && Path::new(dir).join(program).is_file()),
            };
            if !there {
                out.push((at.clone(), program.clone()));
            }
            // `--file=/x` and the like name what the command writes as often as what it needs.
            let named = arguments.iter().filter(|a| a.starts_with('/') && !a.contains(char::is_whitespace));
            out.extend(named.filter(|a| !Path::new(a).exists()).map(|a| (at.clone(), a.clone())));
        }
        out
    }

    /// Every configured command that something may start, with its key.
    pub fn commands(&self) -> Vec<(String, Vec<String>)> {
        let mut out: Vec<(String, Vec<String>)> = Vec::new();
        let mut add = |at: String, argv: &[String]| out.push((at, argv.to_vec()));
        if let Some(line) = &self.notify.command {
            add("notify.command".into(), &line.command);
        }
        if !self.confine.command.is_empty() {
            add("confine.command".into(), &self.confine.command);
        }
        for (name, runtime) in self.runtimes.iter().filter(|(name, _)| self.plays(name)) {
            let (key, argv) = runtime.kind.argv();
            add(format!("runtimes.{name}.{key}"), argv);
        }
        for p in &self.projects {
            for (key, argv) in p.commands() {
                add(format!("projects.{}.{key}", p.key), argv);
            }
        }
        out
    }
}

#[cfg(test)]
#[path = "confine_tests.rs"]
mod tests;
