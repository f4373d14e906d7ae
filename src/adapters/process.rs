//! Processes by identity, never by pid alone (RUN-4): which are alive, who descends from whom, which carry a run's
//! mark, and how to end a whole tree that tries to outlive its run (RULE-19). The kernel's side of `child` and
//! `executor`.

use crate::model::act::{Ancestor, By};
use crate::model::task::Actor;
use crate::model::text::one_line;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, child_subreaper, getpid, pidfd_open, pidfd_send_signal, set_child_subreaper,
    setsid, test_kill_process, waitpid,
};
use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Longest wait for killed processes between two scans for new ones.
const SCAN: Duration = Duration::from_millis(500);

/// Whether an actor is still the process it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Alive,
    /// Gone, a zombie, its pid used by another process, or of another boot.
    Dead,
    /// Could not be read: proves neither.
    Unknown,
}

/// Processes that outlived KILL and the bound: uninterruptible, of another user, or forking faster than they are seen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} process(es) are still alive after {seconds} s and KILL: pid {}; end them yourself, then repeat the step",
    left.len(),
    left.iter().map(|a| a.pid.to_string()).collect::<Vec<_>>().join(", ")
)]
pub struct StillAlive {
    pub left: Vec<Actor>,
    pub seconds: u64,
}

/// The fields needed of `/proc/<pid>/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    state: u8,
    ppid: i32,
    group: i32,
    session: i32,
    threads: i64,
    start_ticks: u64,
}

impl Stat {
    /// `None`: not the kernel's format. The name in parentheses may itself contain spaces, parentheses and any bytes.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().rposition(|b| *b == b')')?;
        let rest = std::str::from_utf8(bytes.get(end + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let [state] = fields.first()?.as_bytes() else { return None };
        // Fields 4, 5, 6, 20 and 22 of proc(5); the state is field 3.
        Some(Self {
            state: *state,
            ppid: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            threads: fields.get(17)?.parse().ok()?,
            start_ticks: fields.get(19)?.parse().ok()?,
        })
    }

    fn read(pid: i32) -> io::Result<Self> {
        let bytes = of_proc(&format!("/proc/{pid}/stat"))?;
        Self::parse(&bytes).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat does not have the format of proc(5)"))
        })
    }

    /// A process whose first thread ended while others still run also looks like a zombie, but is not one.
    fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }
}

/// A file of a process in `/proc`. Their size can't be asked for, and most fit into one read: the kernel fills the whole
/// buffer unless the file ends.
fn of_proc(path: &str) -> io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    let (mut bytes, mut end) = (vec![0; 4096], 0);
    loop {
        let room = bytes.get_mut(end..).unwrap_or_default();
        let whole = room.len();
        match file.read(room) {
            Ok(n) => {
                end += n;
                if n < whole {
                    bytes.truncate(end);
                    return Ok(bytes);
                }
                bytes.resize(2 * bytes.len(), 0);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// The kernel's boot id. It can't change while this process runs, so it is read once. Fails if `/proc` is not mounted.
pub fn boot_id() -> io::Result<String> {
    static KERNELS: OnceLock<String> = OnceLock::new();
    if let Some(id) = crate::failpoint::boot_id() {
        return Ok(id);
    }
    if let Some(id) = KERNELS.get() {
        return Ok(id.clone());
    }
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    Ok(KERNELS.get_or_init(|| id).clone())
}

/// Keeps other processes of this account from reading this one's memory, environment and descriptors, and from tracing
/// it (BND-4). What liveness checks need of `/proc` stays readable. Lasts until the next exec, so every start of `orch`
/// calls it first.
pub fn hide() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    // If the kernel refuses, nothing changes; `doctor` and the tests notice.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// This process. Fails where `/proc` can't be read.
pub fn me() -> io::Result<Actor> {
    identify(getpid().as_raw_nonzero().get())
}

/// Who called this subcommand (BND-6): this process's account and terminal, its parent's name, this machine's name.
pub fn caller() -> By {
    let terminals = [
        rustix::termios::ttyname(rustix::stdio::stdin(), Vec::new()),
        rustix::termios::ttyname(rustix::stdio::stdout(), Vec::new()),
        rustix::termios::ttyname(rustix::stdio::stderr(), Vec::new()),
    ];
    let tty = terminals.into_iter().find_map(Result::ok).map(|name| name.to_string_lossy().into_owned());
    let parent = Stat::read(getpid().as_raw_nonzero().get())
        .ok()
        .and_then(|stat| std::fs::read(format!("/proc/{}/comm", stat.ppid)).ok())
        .map(|name| one_line(String::from_utf8_lossy(&name).trim_end()));
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    By::Command { uid: rustix::process::getuid().as_raw(), tty, parent, host: Some(host) }
}

/// This process and its ancestors up to the first one of the machine or container. What can't be read of a process is
/// left empty; the command line and control group of processes of one's own account always can.
pub fn lineage(mark: &str) -> Vec<Ancestor> {
    let Ok(boot_id) = boot_id() else { return Vec::new() };
    let own = getpid().as_raw_nonzero().get();
    let mut all: Vec<Ancestor> = Vec::new();
    let mut pid = own;
    while let Ok(stat) = Stat::read(pid) {
        let of = |name: &str| of_proc(&format!("/proc/{pid}/{name}")).unwrap_or_default();
        // Changes this process made to its own environment since its start do not count.
        let given = of("environ");
        let marks = given
            .split(|b| *b == 0)
            .filter_map(|entry| entry.strip_prefix(mark.as_bytes())?.strip_prefix(b"="))
            .map(|value| String::from_utf8_lossy(value).into_owned());
        let groups = String::from_utf8_lossy(&of("cgroup")).into_owned();
        let units = groups.split(['/', '\n']).filter_map(|part| part.strip_suffix(".service")).map(str::to_owned);
        all.push(Ancestor {
            actor: Actor { boot_id: boot_id.clone(), pid, start_ticks: stat.start_ticks },
            marks: marks.collect(),
            units: units.collect(),
            supervises: pid != own && of("cmdline").split(|b| *b == 0).any(|word| word == b"run-job"),
        });
        // A loop is possible only if numbers are reused while this reads.
        if stat.ppid <= 0 || all.iter().any(|f| f.actor.pid == stat.ppid) {
            break;
        }
        pid = stat.ppid;
    }
    all
}

/// The identity of a process, zombie or not. Fails with `NotFound` if no process has that pid.
pub fn identify(pid: i32) -> io::Result<Actor> {
    let stat = Stat::read(pid)?;
    Ok(Actor { boot_id: boot_id()?, pid, start_ticks: stat.start_ticks })
}

/// Whether `actor` is alive (RUN-4, RULE-20).
pub fn life(actor: &Actor) -> Life {
    let Ok(boot) = boot_id() else { return Life::Unknown };
    if boot != actor.boot_id {
        return Life::Dead;
    }
    let Some(pid) = Pid::from_raw(actor.pid) else { return Life::Dead };
    match Stat::read(actor.pid) {
        Ok(stat) if stat.is_zombie() || stat.start_ticks != actor.start_ticks => Life::Dead,
        Ok(_) => Life::Alive,
        // A /proc that hides other users' processes reports living ones as "not found".
        Err(_) if actor.pid > 0 && test_kill_process(pid) == Err(Errno::SRCH) => Life::Dead,
        Err(_) => Life::Unknown,
    }
}

/// Orphans below this process become its children instead of init's (RULE-19). Lasts as long as the process and is not
/// inherited.
///
/// A subreaper runs one child at a time: [`reap_orphans`] treats every other zombie as an orphan.
pub fn become_subreaper() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Makes this process the leader of its own session, without a terminal (RUN-4). It is the first thing a program
/// started by [`super::executor`] does, and harmless if it already leads one. Fails if the process leads a group of an
/// older session (a person started it), or if a standard stream is still a terminal: closing that would break it.
pub fn new_session() -> io::Result<()> {
    // Read here, not with getsid(2): in a container the session may belong to the outside, which has no number here.
    let own = getpid().as_raw_nonzero().get();
    if Stat::read(own)?.session != own {
        setsid().map_err(|e| {
            io::Error::other(format!("no session of its own ({e}): start it through the executor, not manually"))
        })?;
    }
    let terminal = [
        ("stdin", rustix::termios::isatty(rustix::stdio::stdin())),
        ("stdout", rustix::termios::isatty(rustix::stdio::stdout())),
        ("stderr", rustix::termios::isatty(rustix::stdio::stderr())),
    ];
    match terminal.iter().find(|(_, is)| *is) {
        Some((name, _)) => Err(io::Error::other(format!("{name} is a terminal; redirect it to a file"))),
        None => Ok(()),
    }
}

/// Which of these names (at most 15 letters, as the kernel keeps them) processes of this account have; each once.
pub fn called(names: &[&'static str]) -> Vec<&'static str> {
    use std::os::unix::fs::MetadataExt;
    let own = rustix::process::geteuid().as_raw();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().filter_map(io::Result::ok);
    let of_account = entries.filter(|e| e.metadata().is_ok_and(|data| data.uid() == own));
    let found: HashSet<String> = of_account
        .filter_map(|e| std::fs::read_to_string(e.path().join("comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .collect();
    names.iter().copied().filter(|name| found.contains(*name)).collect()
}

/// Every living process that was started with `name=value` in its environment, except this one. Processes whose
/// environment can't be read (another user's) are missing.
pub fn marked(name: &str, value: &str) -> Vec<Actor> {
    belonging(name, &[value.to_owned()], &[], &[])
}

/// Every living process that was started with one of `values` for `name` in its environment, or that is in the control
/// group of one of `units` (a service's name without `.service`), at any depth; except this process. The group also
/// contains processes that cleared their environment and left their session, whoever their parent is. `since`: who gave
/// them their mark and group; none of them is older than the oldest of these, and of older processes only the age is
/// read. Empty: unknown.
pub fn belonging(name: &str, values: &[String], units: &[String], since: &[Actor]) -> Vec<Actor> {
    let census = Census::take();
    let same_boot = since.iter().all(|actor| actor.boot_id == census.boot_id);
    let oldest = since.iter().map(|actor| actor.start_ticks).min().filter(|_| same_boot);
    census.belonging(name, values, units, oldest.unwrap_or(0))
}

/// Every living process of the session that `leader` created, whether or not the leader is still alive, that works in
/// `folder` or below. A session is known only by a number; a process working in a folder of ours is no stranger that
/// got the number later.
pub fn of_session(leader: &Actor, folder: &std::path::Path) -> Vec<Actor> {
    let Ok(boot_id) = boot_id() else { return Vec::new() };
    if boot_id != leader.boot_id {
        return Vec::new();
    }
    // The kernel reuses a number only once no session has it: if another process has it, this session is empty.
    if Stat::read(leader.pid).is_ok_and(|stat| stat.start_ticks != leader.start_ticks) {
        return Vec::new();
    }
    let works_here = |pid: i32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
    let of_it = |stat: &Stat| stat.session == leader.pid && stat.start_ticks >= leader.start_ticks && !stat.is_zombie();
    pids()
        .filter_map(|pid| Some((pid, Stat::read(pid).ok().filter(|stat| pid != leader.pid && of_it(stat))?)))
        .filter(|(pid, _)| works_here(*pid))
        .map(|(pid, stat)| Actor { boot_id: boot_id.clone(), pid, start_ticks: stat.start_ticks })
        .collect()
}

/// Every living process below `pid`, at any depth, without `pid` itself and the subtrees that begin at `spared`. Only
/// for a number that can't be reused meanwhile: this process's own, or that of an unreaped child. Where the kernel
/// lists children it reads no other processes, and may then miss one that starts meanwhile: a caller that must be sure
/// uses `of_run` and scans again.
pub fn descendants(pid: i32, spared: &HashSet<(i32, u64)>) -> Vec<Actor> {
    let Ok(boot_id) = boot_id() else { return Vec::new() };
    let (mut open, mut found) = (vec![pid], Vec::new());
    while let Some(parent) = open.pop() {
        let Some(children) = listed_children(parent) else { return Census::take().below(vec![pid], spared) };
        for (child, stat) in children.into_iter().filter(|(pid, stat)| !spared.contains(&(*pid, stat.start_ticks))) {
            open.push(child);
            if !stat.is_zombie() {
                found.push(Actor { boot_id: boot_id.clone(), pid: child, start_ticks: stat.start_ticks });
            }
        }
    }
    found
}

/// Everything of a run, in one scan of all processes: those with the mark, those in the group of `leader` (which must
/// be unreaped, or another could have its number), and those below `top`, without the subtrees that begin at `spared`.
/// This process gives the mark, so that of older ones only the age is read.
pub(super) fn of_run(mark: (&str, &str), leader: i32, top: i32, spared: &HashSet<(i32, u64)>) -> HashSet<Actor> {
    let census = Census::take();
    let own = census.ticks.get(&getpid().as_raw_nonzero().get()).copied().unwrap_or(0);
    let mut found: HashSet<Actor> = census.belonging(mark.0, &[mark.1.to_owned()], &[], own).into_iter().collect();
    found.extend(census.group(leader));
    found.extend(census.below(vec![top], spared));
    found
}

/// Every living process below any of `actors`, at any depth. A dead actor has nothing below it, even if its number is
/// reused.
pub fn descendants_of(actors: &[Actor]) -> Vec<Actor> {
    let census = Census::take();
    let same = |a: &&Actor| census.boot_id == a.boot_id && census.ticks.get(&a.pid) == Some(&a.start_ticks);
    let tops = actors.iter().filter(same).map(|a| a.pid).collect();
    census.below(tops, &HashSet::new())
}

/// One scan of all processes.
struct Census {
    boot_id: String,
    ticks: HashMap<i32, u64>,
    children: HashMap<i32, Vec<(i32, Stat)>>,
}

impl Census {
    /// Empty if the boot id is unknown: no process can be identified then.
    fn take() -> Self {
        let mut census = Self { boot_id: String::new(), ticks: HashMap::new(), children: HashMap::new() };
        let Ok(boot_id) = boot_id() else { return census };
        census.boot_id = boot_id;
        for pid in pids() {
            if let Ok(stat) = Stat::read(pid) {
                census.ticks.insert(pid, stat.start_ticks);
                census.children.entry(stat.ppid).or_default().push((pid, stat));
            }
        }
        census
    }

    fn living(&self) -> impl Iterator<Item = &(i32, Stat)> {
        self.children.values().flatten().filter(|(_, stat)| !stat.is_zombie())
    }

    fn actor(&self, pid: i32, stat: &Stat) -> Actor {
        Actor { boot_id: self.boot_id.clone(), pid, start_ticks: stat.start_ticks }
    }

    /// As the function of this name; none is older than `since`, in ticks.
    fn belonging(&self, name: &str, values: &[String], units: &[String], since: u64) -> Vec<Actor> {
        let wanted: HashSet<Vec<u8>> = values.iter().map(|value| format!("{name}={value}").into_bytes()).collect();
        let services: HashSet<String> = units.iter().map(|unit| format!("{unit}.service")).collect();
        let carries = |pid: i32| {
            let environ = of_proc(&format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|b| *b == 0).any(|entry| wanted.contains(entry))
        };
        let inside = |pid: i32| {
            let groups = if services.is_empty() { None } else { of_proc(&format!("/proc/{pid}/cgroup")).ok() };
            let text = String::from_utf8_lossy(groups.as_deref().unwrap_or_default()).into_owned();
            text.lines().flat_map(|line| line.split('/')).any(|part| services.contains(part))
        };
        // The start ticks are read before and after: what was read in between then belongs to this very process.
        let same = |pid: i32, stat: &Stat| Stat::read(pid).is_ok_and(|after| after.start_ticks == stat.start_ticks);
        let own = getpid().as_raw_nonzero().get();
        let others = self.living().filter(|(pid, stat)| *pid != own && stat.start_ticks >= since);
        let of_it = others.filter(|(pid, stat)| (carries(*pid) || inside(*pid)) && same(*pid, stat));
        let mut found: Vec<Actor> = of_it.map(|(pid, stat)| self.actor(*pid, stat)).collect();
        // Parents first, mostly: one that outlives its child may start another.
        found.sort_unstable_by_key(|actor| actor.pid);
        found
    }

    /// Every living process of a process group.
    fn group(&self, leader: i32) -> Vec<Actor> {
        self.living().filter(|(_, stat)| stat.group == leader).map(|(pid, stat)| self.actor(*pid, stat)).collect()
    }

    fn below(mut self, mut open: Vec<i32>, spared: &HashSet<(i32, u64)>) -> Vec<Actor> {
        let mut found = Vec::new();
        while let Some(parent) = open.pop() {
            for (child, stat) in self.children.remove(&parent).unwrap_or_default() {
                if spared.contains(&(child, stat.start_ticks)) {
                    continue;
                }
                open.push(child);
                if !stat.is_zombie() {
                    let boot_id = self.boot_id.clone();
                    found.push(Actor { boot_id, pid: child, start_ticks: stat.start_ticks });
                }
            }
        }
        found
    }
}

/// The direct children of a process, zombies included: pid and start ticks.
pub(super) fn children(pid: i32) -> HashSet<(i32, u64)> {
    of_parent(pid).into_iter().map(|(child, stat)| (child, stat.start_ticks)).collect()
}

fn of_parent(pid: i32) -> Vec<(i32, Stat)> {
    listed_children(pid).unwrap_or_else(|| {
        let stat = |child| Stat::read(child).ok().filter(|stat| stat.ppid == pid);
        pids().filter_map(|child| Some((child, stat(child)?))).collect()
    })
}

/// A process's direct children from the kernel's own list; `None` where it has none (`CONFIG_PROC_CHILDREN`).
fn listed_children(pid: i32) -> Option<Vec<(i32, Stat)>> {
    static KEPT: OnceLock<bool> = OnceLock::new();
    if !*KEPT.get_or_init(|| std::path::Path::new("/proc/thread-self/children").exists()) {
        return None;
    }
    // A thread, or the whole process, may end while this reads.
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let pids: Vec<i32> = lists.flat_map(|l| l.split(' ').filter_map(|p| p.parse().ok()).collect::<Vec<_>>()).collect();
    Some(pids.into_iter().filter_map(|p| Some((p, Stat::read(p).ok().filter(|s| s.ppid == pid)?))).collect())
}

/// Reaps every zombie child except `spared` if this process is a subreaper. Otherwise does nothing, because a zombie
/// may then belong to another part of the program that waits for it.
pub fn reap_orphans(spared: &[i32]) {
    if !is_subreaper() {
        return;
    }
    let own = getpid().as_raw_nonzero().get();
    for (pid, _) in of_parent(own).iter().filter(|(pid, stat)| stat.is_zombie() && !spared.contains(pid)) {
        reap(*pid);
    }
}

pub(super) fn is_subreaper() -> bool {
    matches!(child_subreaper(), Ok(Some(_)))
}

fn reap(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
}

fn pids() -> impl Iterator<Item = i32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid > 0)
}

/// A descriptor of exactly this actor; `None` if it is dead (a zombie included) or unknown.
fn handle(actor: &Actor) -> Option<OwnedFd> {
    let fd = pidfd_open(Pid::from_raw(actor.pid)?, PidfdFlags::empty()).ok()?;
    // A process that has these ticks now also had the pid when the descriptor was opened: it started before that.
    (life(actor) == Life::Alive).then_some(fd)
}

/// Sends a signal to exactly this actor. False if it is dead or unknown; fails if the kernel refuses.
pub fn signal(actor: &Actor, signal: Signal) -> io::Result<bool> {
    let Some(fd) = handle(actor) else { return Ok(false) };
    match pidfd_send_signal(&fd, signal) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Waits until one of the processes ends, for at most `bound`; false at the bound. Without any descriptor it waits a
/// moment, so that the caller does not spin.
fn wait_for_any(fds: &[OwnedFd], bound: Duration) -> bool {
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let bound = if polled.is_empty() { bound.min(Duration::from_millis(10)) } else { bound };
    matches!(poll(&mut polled, Some(&timespec(bound))), Ok(n) if n > 0)
}

pub(super) fn timespec(bound: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(bound.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(bound.subsec_nanos()) }
}

/// Waits until `actor` is dead, for at most `bound`; returns whether it is.
pub fn await_end(actor: &Actor, bound: Duration) -> bool {
    if let Some(fd) = handle(actor) {
        let end = Instant::now() + bound;
        let one = [fd];
        while !wait_for_any(&one, end.saturating_duration_since(Instant::now())) && Instant::now() < end {}
    }
    life(actor) == Life::Dead
}

/// Ends every process that `find` returns: TERM, up to `grace` for all of them, KILL, and further scans until none is
/// left, including those forked meanwhile. Reaps our own zombies. Fails if some are left after `bound`.
pub fn end_all(find: &dyn Fn() -> Vec<Actor>, grace: Duration, bound: Duration) -> Result<(), StillAlive> {
    end_sparing(find, grace, bound, &Sparing::default())
}

/// What [`end_sparing`] leaves alone.
#[derive(Debug, Default)]
pub(super) struct Sparing {
    /// Processes whose owner reaps them.
    pub unreaped: Vec<i32>,
    /// Processes that get no TERM, but are killed with the rest.
    pub without_term: Vec<i32>,
}

/// As [`end_all`], except for what `sparing` names.
pub(super) fn end_sparing(
    find: &dyn Fn() -> Vec<Actor>,
    grace: Duration,
    bound: Duration,
    sparing: &Sparing,
) -> Result<(), StillAlive> {
    let Sparing { unreaped, without_term } = sparing;
    let begun = Instant::now();
    let mut asked: HashSet<Actor> = HashSet::new();
    let mut clear = 0;
    // Two clear scans in a row: a process may start behind a scan that reads /proc in order.
    while clear < 2 {
        let left: Vec<Actor> = find().into_iter().filter(|actor| life(actor) != Life::Dead).collect();
        for actor in asked.iter().filter(|a| !unreaped.contains(&a.pid) && life(a) == Life::Dead) {
            reap(actor.pid);
        }
        if left.is_empty() {
            clear += 1;
            continue;
        }
        clear = 0;
        let spent = begun.elapsed();
        if spent >= bound {
            return Err(StillAlive { left, seconds: bound.as_secs() });
        }
        let mut wait = SCAN;
        if spent < grace {
            for actor in left.iter().filter(|actor| !asked.contains(actor) && !without_term.contains(&actor.pid)) {
                let _ = signal(actor, Signal::TERM);
                // A stopped process handles TERM only once it continues.
                let _ = signal(actor, Signal::CONT);
            }
            wait = grace - spent;
        } else {
            for actor in &left {
                let _ = signal(actor, Signal::KILL);
            }
        }
        let fds: Vec<OwnedFd> = left.iter().filter_map(handle).collect();
        asked.extend(left);
        wait_for_any(&fds, wait.min(bound - spent));
    }
    reap_orphans(unreaped);
    Ok(())
}

/// Reads the bytes as `/proc/<pid>/stat` (see `fuzzing`).
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let _ = Stat::parse(bytes).map(|s| s.is_zombie());
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
