//! Which engine confines a run (BND-2): what the policy asks for, and what this machine can do.

use super::start::{NotStarted, Order};
use super::{Bounds, Engine, NoEngine, Run, fence};
use crate::adapters::{accounts, files, process, toolbox};
use crate::model::confine::{Choice, Mode, Network, Policy};
use crate::model::text::one_line;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// How long a negative answer is valid, in seconds.
const NO_S: i64 = 10;

/// What the choice depends on in addition to the policy.
#[derive(Debug, Clone)]
pub struct Probe {
    /// A folder of the state directory, created if missing, with each engine's answer.
    pub folder: PathBuf,
    /// Other accounts that somebody can log in to ([`accounts::other_logins`]).
    pub others: Vec<String>,
    /// Whether this process is root.
    pub root: bool,
    /// `orch` itself, the last program started before each command.
    pub program: PathBuf,
}

impl Probe {
    /// This machine and this account, with the answers in `folder`.
    ///
    /// # Errors
    /// The path of this program is unknown.
    pub fn here(folder: PathBuf) -> io::Result<Self> {
        let program = toolbox::own()?;
        Ok(Self { folder, others: accounts::other_logins(), root: rustix::process::geteuid().is_root(), program })
    }
}

/// The engine for `policy` on this machine. A positive answer of bubblewrap is kept per boot, program and program file;
/// a negative one is checked again at most every 10 s.
///
/// # Errors
/// [`NoEngine`] if the policy requires an engine and none works.
pub fn engine(policy: &Policy, probe: &Probe) -> Result<Engine, NoEngine> {
    let chosen = match policy.mode {
        Mode::Off => return Ok(Engine::None),
        Mode::Auto | Mode::Required => match policy.choice {
            Choice::Auto => bubblewrap(policy, probe).or_else(|no| {
                second_choice(policy, probe).map_err(|second| NoEngine { why: format!("{}; {second}", no.why), ..no })
            }),
            Choice::Bubblewrap => bubblewrap(policy, probe),
            Choice::Landlock => landlock(policy),
            Choice::Command => command(policy),
        },
    };
    match (chosen, policy.mode) {
        (Err(_), Mode::Auto) => Ok(Engine::None),
        (chosen, _) => chosen,
    }
}

/// Forgets the answers: an engine could not start a run.
pub fn forget(folder: &Path) {
    let _ = std::fs::remove_file(folder.join(ANSWERS));
}

/// Landlock as the second choice of `auto`; otherwise why not, in half a sentence.
fn second_choice(policy: &Policy, probe: &Probe) -> Result<Engine, String> {
    let engine = landlock(policy).map_err(|no| no.why)?;
    // Landlock does not protect modes and times of the operator's own files, and others here could exploit a change.
    if policy.mode == Mode::Required && !probe.root && !probe.others.is_empty() {
        let others = probe.others.join(", ");
        return Err(format!("Landlock alone is not enough where others can log in ({others})"));
    }
    Ok(engine)
}

fn landlock(policy: &Policy) -> Result<Engine, NoEngine> {
    match policy.network {
        Network::Open | Network::Closed => {}
        Network::Internet | Network::Hosts(_) => {
            return Err(NoEngine {
                why: "Landlock can't distinguish hosts".to_owned(),
                way_out: "set confine.network to open or closed, or use bubblewrap".to_owned(),
            });
        }
    }
    if fence::there() {
        return Ok(Engine::Landlock);
    }
    Err(NoEngine {
        why: "this kernel's Landlock is older than ABI 6 or turned off".to_owned(),
        way_out: "use a kernel from 6.12 on, or install bubblewrap".to_owned(),
    })
}

fn command(policy: &Policy) -> Result<Engine, NoEngine> {
    let program = policy.command.first().map(String::as_str).unwrap_or_default();
    if toolbox::find(program).is_some() {
        return Ok(Engine::Command { argv: policy.command.clone() });
    }
    Err(NoEngine {
        why: format!("the wrapper {program:?} was not found"),
        way_out: "set confine.command to an existing program and its arguments".to_owned(),
    })
}

fn bubblewrap(policy: &Policy, probe: &Probe) -> Result<Engine, NoEngine> {
    let Some(program) = toolbox::find("bwrap") else {
        return Err(NoEngine {
            why: "bubblewrap is not installed".to_owned(),
            way_out: "install it: apt-get install bubblewrap, or dnf install bubblewrap".to_owned(),
        });
    };
    let answer = remembered(&program, policy, probe).unwrap_or_else(|| {
        let mut answer = Answer { said: ask(&program, policy, probe), ..question(&program, policy, probe) };
        answer.at = now();
        remember(&answer, probe);
        answer
    });
    match answer.said {
        Said::Yes { modern } => Ok(Engine::Bubblewrap { program, modern }),
        Said::No { why } => {
            Err(NoEngine { way_out: way_out(&program), why: format!("bubblewrap does not work: {why}") })
        }
    }
}

const ANSWERS: &str = "bubblewrap.json";

/// The question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    boot: String,
    program: PathBuf,
    size: u64,
    mtime: (i64, i64),
    root: bool,
    network: bool,
    /// In seconds since boot.
    at: i64,
    said: Said,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    /// `modern`: it supports `--disable-userns` and `--size`.
    Yes {
        modern: bool,
    },
    No {
        why: String,
    },
}

/// Everything but the answer.
fn question(program: &Path, policy: &Policy, probe: &Probe) -> Answer {
    let data = std::fs::metadata(program).ok();
    Answer {
        boot: process::boot_id().unwrap_or_default(),
        program: program.to_owned(),
        size: data.as_ref().map_or(0, MetadataExt::size),
        mtime: data.as_ref().map_or((0, 0), |d| (d.mtime(), d.mtime_nsec())),
        root: probe.root,
        network: policy.network != Network::Open,
        at: 0,
        said: Said::No { why: String::new() },
    }
}

fn remembered(program: &Path, policy: &Policy, probe: &Probe) -> Option<Answer> {
    let text = std::fs::read(probe.folder.join(ANSWERS)).ok()?;
    let all: Vec<Answer> = serde_json::from_slice(&text).ok()?;
    let asked = question(program, policy, probe);
    let same = |a: &Answer| Answer { at: asked.at, said: asked.said.clone(), ..a.clone() } == asked;
    let young = |a: &Answer| matches!(a.said, Said::Yes { .. }) || (0..NO_S).contains(&(now() - a.at));
    all.into_iter().find(|a| same(a) && young(a))
}

/// Stored next to the answer for the other case (with or without a network namespace). If it is lost, it is only asked
/// again.
fn remember(answer: &Answer, probe: &Probe) {
    let path = probe.folder.join(ANSWERS);
    let old: Vec<Answer> =
        std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let mut all: Vec<Answer> = old.into_iter().filter(|a| a.network != answer.network).collect();
    all.push(answer.clone());
    let written = std::fs::create_dir_all(&probe.folder)
        .and_then(|()| files::replace(&path, &serde_json::to_vec(&all).unwrap_or_default(), Some(0o600)));
    if let Err(e) = written {
        tracing::debug!("the engine's answer could not be saved: {e}");
    }
}

fn now() -> i64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |t| t.tv_sec())
}

/// The real command line around `true`, first in the form for newer versions.
fn ask(program: &Path, policy: &Policy, probe: &Probe) -> Said {
    let with = |modern| match try_true(program, modern, policy, probe) {
        Ok(()) => Said::Yes { modern },
        Err(why) => Said::No { why },
    };
    match with(true) {
        Said::No { why } if why.contains("Unknown option") => with(false),
        said @ (Said::Yes { .. } | Said::No { .. }) => said,
    }
}

fn try_true(program: &Path, modern: bool, policy: &Policy, probe: &Probe) -> Result<(), String> {
    let text = |e: io::Error| e.to_string();
    std::fs::create_dir_all(&probe.folder).map_err(text)?;
    let folder = tempfile::tempdir_in(&probe.folder).map_err(text)?;
    let own = || folder.path().to_owned();
    // Only the network namespace can fail; what leads out of it does not matter here.
    let network = if policy.network == Network::Open { Network::Open } else { Network::Closed };
    let run = Run {
        engine: Engine::Bubblewrap { program: program.to_owned(), modern },
        probe: probe.clone(),
        bounds: Bounds {
            policy: Policy { read: Vec::new(), write: Vec::new(), network, ..policy.clone() },
            checkout: own(),
            home: own(),
            tmp: own(),
            read: Vec::new(),
            hidden: Vec::new(),
            frozen: Vec::new(),
            uid: probe.root.then_some(policy.uid_base),
            own_sandbox: false,
        },
    };
    let order = Order {
        argv: &[OsString::from("true")],
        env: Vec::new(),
        mark: ("ORCH_RUN", "probe"),
        cwd: Path::new("/"),
        fed: false,
        terminal: None,
    };
    let Some(mut prepared) = run.prepare(order)? else { return Err("nothing was prepared".to_owned()) };
    prepared.command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = prepared.command.spawn().map_err(text)?;
    drop(prepared.command);
    let reached = prepared.gate.wait();
    if reached.is_err() {
        let _ = child.kill();
    }
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        stderr.take(4096).read_to_end(&mut said).map_err(text)?;
    }
    let status = child.wait().map_err(text)?;
    match reached {
        Ok(()) if status.success() => Ok(()),
        Ok(()) => Err(format!("true ended with {status}")),
        Err(NotStarted::Command(e)) => Err(format!("true: {e}")),
        Err(NotStarted::Engine(why)) if why.is_empty() => Err(one_line(&String::from_utf8_lossy(&said))),
        Err(NotStarted::Engine(why)) => Err(why),
    }
}

/// The one command, run as root, that most likely helps.
fn way_out(program: &Path) -> String {
    let set =
        |name: &str, value: &str| std::fs::read_to_string(format!("/proc/sys/{name}")).is_ok_and(|v| v.trim() == value);
    let program = program.display();
    if set("kernel/apparmor_restrict_unprivileged_userns", "1") {
        return format!(
            "as root: printf 'abi <abi/4.0>,\\ninclude <tunables/global>\\nprofile bwrap {program} flags=(unconfined) {{\\n  \
             userns,\\n}}\\n' > /etc/apparmor.d/bwrap && apparmor_parser -r /etc/apparmor.d/bwrap"
        );
    }
    if set("kernel/unprivileged_userns_clone", "0") {
        return "as root: sysctl -w kernel.unprivileged_userns_clone=1".to_owned();
    }
    if set("user/max_user_namespaces", "0") {
        return "as root: sysctl -w user.max_user_namespaces=15000".to_owned();
    }
    "try `bwrap --unshare-user --ro-bind / / true` yourself; inside a container, allow user namespaces and mounts"
        .to_owned()
}
