//! The node's end of a job: `orch confine-exec`, which srun starts there (CLU-2). It reads the order from its standard
//! input, watches the command and its whole tree as a supervisor does on its own machine, and reports the end itself
//! (CLU-3).

use super::frames::{Because, By, Ended, Order, Reader, ToHost, ToNode, frame};
use crate::adapters::child::{self, ChildError, Control, EndedBy, Event, Spec};
use crate::adapters::confine::{self, Boundary, Engine, Probe, Run};
use crate::adapters::process;
use crate::model::confine::Held;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::stdio::{stdin, stdout};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How long the order may take to arrive.
const ORDER: Duration = Duration::from_secs(60);
/// The longest pause between two checks.
const LOOK: Duration = Duration::from_millis(500);
/// The `PATH` of the program's own process on a node, in place of Slurm's.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What is kept of Slurm's variables: the job's number, and its name for the node.
const JOB: &str = "ORCH_SLURM_JOB";
/// Left in a run's folder once the run ended, so that the host sees that this node's files have arrived (CLU-5).
pub const SEEN: &str = "ended-";

/// Whether Slurm started this process; a supervisor on this machine does not set this variable.
pub fn is_node() -> bool {
    ["SLURM_JOB_ID", JOB].into_iter().any(|name| std::env::var_os(name).is_some())
}

/// Runs one job to its end.
///
/// # Errors
/// Nothing can be reported to the host: there is no order, or nobody reads.
pub fn serve() -> io::Result<()> {
    if std::env::vars_os().any(|(name, _)| name.as_encoded_bytes().starts_with(b"SLURM")) {
        // Not even this process keeps them: they name the job, its controller and its keys to whoever reads them.
        let of = |name: &str| std::env::var(name).unwrap_or_default();
        let job = format!("{}@{}", of("SLURM_JOB_ID"), of("SLURMD_NODENAME"));
        let mut again = Command::new(std::env::current_exe()?);
        return Err(again.arg("confine-exec").env_clear().env("PATH", PATH).env(JOB, job).exec());
    }
    let signals = Arc::new(Signals::default());
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&signals.slurm))?;
    process::become_subreaper()?;
    let mut reader = Reader::new(None);
    let first = first(&mut reader);
    let nonce = reader.nonce().unwrap_or("none").to_owned();
    let mut host = Host { nonce, signals: Arc::clone(&signals) };
    fcntl_setfl(stdout(), fcntl_getfl(stdout())? | OFlags::NONBLOCK)?;
    let (order, input) = match first {
        Ok(both) => both,
        Err(why) => {
            host.refuse(Because::Order, Held::Unconfined, why);
            return Ok(());
        }
    };
    if let Err(why) = folders(&order) {
        host.refuse(Because::Folders, Held::Unconfined, why);
        return Ok(());
    }
    signals.listen(reader, Duration::from_millis(order.silence_ms))?;
    play(&order, &input, &mut host);
    Ok(())
}

/// The first frame, which is the order.
fn first(reader: &mut Reader) -> Result<(Box<Order>, Vec<u8>), String> {
    let begun = Instant::now();
    loop {
        match reader.next::<ToNode>() {
            Ok(Some((ToNode::Order(order), input))) => return Ok((order, input)),
            Ok(Some((ToNode::Stop | ToNode::Alive, _))) => return Err("the first frame is not an order".to_owned()),
            Ok(None) => {}
            Err(odd) => return Err(odd.to_string()),
        }
        match take(reader, ORDER.saturating_sub(begun.elapsed())) {
            Ok(Heard::Bytes) => {}
            Ok(Heard::Nothing) if begun.elapsed() < ORDER => {}
            Ok(Heard::Nothing) => return Err(format!("no order came within {} s", ORDER.as_secs())),
            Ok(Heard::End) => return Err("standard input ended before the order".to_owned()),
            Err(e) => return Err(format!("standard input: {e}")),
        }
    }
}

enum Heard {
    Bytes,
    Nothing,
    End,
}

/// Waits for bytes, at most `bound`.
fn take(reader: &mut Reader, bound: Duration) -> io::Result<Heard> {
    let mut fds = [PollFd::from_borrowed_fd(stdin(), PollFlags::IN)];
    match poll(&mut fds, Some(&process::timespec(bound.min(LOOK)))) {
        Ok(0) | Err(Errno::INTR) => return Ok(Heard::Nothing),
        Ok(_) => {}
        Err(e) => return Err(e.into()),
    }
    let mut buffer = vec![0; 64 << 10];
    match rustix::io::read(stdin(), &mut buffer[..]) {
        Ok(0) => Ok(Heard::End),
        Ok(n) => {
            reader.push(buffer.get(..n).unwrap_or_default());
            Ok(Heard::Bytes)
        }
        Err(Errno::INTR | Errno::AGAIN) => Ok(Heard::Nothing),
        Err(e) => Err(e.into()),
    }
}

/// Whether the run's folders are here, as the host created them. What a node does not see is not shared.
fn folders(order: &Order) -> Result<(), String> {
    let of = |path: &Path| {
        let meta = path.symlink_metadata().map_err(|e| format!("the node can't see {}: {e}", path.display()))?;
        if meta.is_dir() { Ok(meta) } else { Err(format!("{} is not a folder on the node", path.display())) }
    };
    let me = rustix::process::geteuid().as_raw();
    let root = of(&order.root)?;
    if root.uid() != me || root.mode() & 0o022 != 0 {
        return Err(format!("{} belongs to another account on the node, or others may write it", order.root.display()));
    }
    let owner = order.bounds.uid.unwrap_or(me);
    for path in [&order.bounds.checkout, &order.bounds.home, &order.bounds.tmp] {
        if of(path)?.uid() != owner {
            return Err(format!("{} belongs to another account on the node", path.display()));
        }
    }
    Ok(())
}

/// What has been heard that ends a run.
#[derive(Debug, Default)]
struct Signals {
    stop: AtomicBool,
    /// Nothing more can be heard.
    deaf: AtomicBool,
    slurm: Arc<AtomicBool>,
    silence_ms: AtomicU64,
    /// When a frame last came, in milliseconds since [`Signals::begun`].
    heard_ms: AtomicU64,
    begun: OnceLock<Instant>,
}

impl Signals {
    fn now_ms(&self) -> u64 {
        let begun = self.begun.get_or_init(Instant::now);
        u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Reads frames from now on, in a thread that nobody awaits. Fails if no thread can be started.
    fn listen(self: &Arc<Self>, mut reader: Reader, silence: Duration) -> io::Result<()> {
        self.silence_ms.store(u64::try_from(silence.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
        self.heard_ms.store(self.now_ms(), Ordering::SeqCst);
        let signals = Arc::clone(self);
        let hear = move || {
            loop {
                match reader.next::<ToNode>() {
                    Ok(Some((say, _))) => {
                        signals.heard_ms.store(signals.now_ms(), Ordering::SeqCst);
                        if say == ToNode::Stop {
                            signals.stop.store(true, Ordering::SeqCst);
                        }
                        continue;
                    }
                    Ok(None) => {}
                    Err(e) => {
                        tracing::warn!("{e}");
                        break;
                    }
                }
                match take(&mut reader, LOOK) {
                    Ok(Heard::Bytes | Heard::Nothing) => {}
                    Ok(Heard::End) | Err(_) => break,
                }
            }
            signals.deaf.store(true, Ordering::SeqCst);
        };
        std::thread::Builder::new().name("hear".into()).stack_size(256 << 10).spawn(hear).map(drop)
    }

    /// Nobody is there any more.
    fn alone(&self) -> bool {
        let silent = self.now_ms().saturating_sub(self.heard_ms.load(Ordering::SeqCst));
        self.deaf.load(Ordering::SeqCst) || silent >= self.silence_ms.load(Ordering::SeqCst)
    }

    /// Who or what asked for the end of the run.
    fn end(&self) -> Option<By> {
        if self.stop.load(Ordering::SeqCst) {
            Some(By::Stop)
        } else if self.slurm.load(Ordering::SeqCst) {
            Some(By::Slurm)
        } else if self.alone() {
            Some(By::Silence)
        } else {
            None
        }
    }
}

/// The reader of what this node sends.
struct Host {
    nonce: String,
    signals: Arc<Signals>,
}

impl Host {
    /// Waits while it does not read, but not after it is gone.
    fn say(&mut self, what: &ToHost, data: &[u8]) {
        let Ok(bytes) = frame(&self.nonce, what, data) else { return };
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(stdout(), rest) {
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if !self.signals.alone() => wait(stdout()),
                Err(_) => return,
            }
        }
    }

    fn refuse(&mut self, because: Because, held: Held, why: String) {
        self.say(&ToHost::Refused { because, held, why }, b"");
    }
}

fn wait(fd: BorrowedFd<'_>) {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    let _ = poll(&mut fds, Some(&process::timespec(LOOK)));
}

/// What confines the run here.
fn engine(order: &Order, probe: &Probe) -> Result<Engine, String> {
    let engine = confine::engine(&order.bounds.policy, probe).map_err(|no| no.to_string())?;
    if order.bounds.own_sandbox && engine == Engine::Landlock {
        return Err("the runtime's own sandbox can't start under landlock; install bubblewrap on the nodes".to_owned());
    }
    Ok(engine)
}

fn play(order: &Order, input: &[u8], host: &mut Host) {
    let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let job = std::env::var(JOB).unwrap_or_default();
    let (job, node) = job.split_once('@').unwrap_or((&job, &host_name));
    let (job, node) = (job.parse().unwrap_or(0), node.to_owned());
    // The answers of one machine say nothing about another.
    let probe = match Probe::here(order.answers.join(&host_name)) {
        Ok(probe) => probe,
        Err(e) => return host.refuse(Because::Confinement, Held::Unconfined, e.to_string()),
    };
    let engine = match engine(order, &probe) {
        Ok(engine) => engine,
        Err(why) => return host.refuse(Because::Confinement, Held::Unconfined, format!("on {node}: {why}")),
    };
    let held = engine.held();
    let spec = match spec(order, input, engine, probe) {
        Ok(spec) => spec,
        Err(e) => return host.refuse(Because::NotStarted, held, format!("on {node}: {e}")),
    };
    let mut by = None;
    let signals = Arc::clone(&host.signals);
    let played = child::run(&spec.0, &mut |event| {
        match event {
            Event::Starting => {}
            Event::Started(_) => host.say(&ToHost::Started { job, node: node.clone(), held }, b""),
            Event::Stdout(bytes) => host.say(&ToHost::Stdout, bytes),
            Event::Stderr(bytes) => host.say(&ToHost::Stderr, bytes),
            Event::Tick => {}
        }
        by = by.take().or_else(|| signals.end());
        if by.is_some() { Control::End("asked to".to_owned()) } else { Control::Go }
    });
    // Slurm's TERM reaches the command as well, and may have ended it before it was noticed here.
    let by = by.or_else(|| signals.slurm.load(Ordering::SeqCst).then_some(By::Slurm));
    let seen = order.root.join(format!("{SEEN}{}", host.nonce));
    if let Err(e) = std::fs::write(&seen, b"") {
        tracing::warn!("{}: {e}", seen.display());
    }
    let ended = |exit: &child::Exit, left: Option<String>| {
        let by = match (&by, &exit.ended_by) {
            (Some(by), _) => by.clone(),
            (None, Some(EndedBy::Wall)) => By::Wall,
            (None, Some(EndedBy::Stall)) => By::Stall,
            (None, Some(EndedBy::Asked(why))) => By::Bound(why.clone()),
            (None, None) => By::Itself,
        };
        ToHost::Ended(Ended { code: exit.code, signal: exit.signal, by, duration_ms: exit.duration_ms, left })
    };
    match played {
        Ok(exit) => host.say(&ended(&exit, None), b""),
        Err(ChildError::Left { exit, left }) => host.say(&ended(&exit, Some(left.to_string())), b""),
        Err(e) => {
            let because = match &e {
                ChildError::NotFound { .. } => Because::NoProgram,
                ChildError::Confinement { .. } => Because::Confinement,
                ChildError::Empty
                | ChildError::NotStarted { .. }
                | ChildError::File { .. }
                | ChildError::Watch { .. }
                | ChildError::Withheld { .. }
                | ChildError::Unavailable { .. }
                | ChildError::Lost { .. }
                | ChildError::Undecided { .. }
                | ChildError::Left { .. } => Because::NotStarted,
            };
            host.refuse(because, held, format!("on {node}: {e}"));
        }
    }
}

/// What to run, and what keeps its standard input while it is read.
fn spec(order: &Order, input: &[u8], engine: Engine, probe: Probe) -> io::Result<(Spec, Option<std::fs::File>)> {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    let ms = Duration::from_millis;
    let fed = if order.fed {
        // In memory: the text of a prompt is in no file of the node.
        let mut file = std::fs::File::from(rustix::fs::memfd_create("stdin", rustix::fs::MemfdFlags::CLOEXEC)?);
        file.write_all(input)?;
        Some(file)
    } else {
        None
    };
    let run = Run { engine, probe, bounds: order.bounds.clone() };
    let nowhere = PathBuf::from("/dev/null");
    let spec = Spec {
        argv: order.argv.clone(),
        cwd: order.cwd.clone(),
        env: order.env.clone(),
        stdin: fed.as_ref().map(|file| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))),
        stdout: nowhere.clone(),
        stderr: nowhere,
        wall: ms(order.wall_ms),
        stall: order.stall_ms.map(ms),
        grace: ms(order.grace_ms),
        mark: order.mark.clone(),
        cap_bytes: u64::MAX,
        boundary: Boundary::Run(Box::new(run)),
    };
    Ok((spec, fed))
}
