//! Runs one configured command or agent under supervision (RUN-4, CFG-1, RULE-19): exact environment, own process
//! group, no terminal, output written to capped files as it arrives, limits on wall time and silence. It returns only
//! when the whole process tree is gone.

mod elsewhere;
mod launch;
mod person;
mod streams;

pub use elsewhere::{Elsewhere, Sinks};
pub use person::{Person, Terminal};
pub use streams::scrub;

use super::confine::{Boundary, Engine, Gate, Meter, Proxy};
use super::git;
use super::modes;
use super::process::{self, StillAlive};
use crate::failpoint::point;
use crate::model::confine::Held;
use crate::model::redact;
use crate::model::task::Actor;
use launch::Launch;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};
use std::cell::Cell;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use streams::{Chunk, Feed, Sink, chunk, nonblocking};

/// How long the streams are still read after the child's exit: a daemon it left may keep them open (RULE-19).
const DRAIN: Duration = Duration::from_secs(2);
/// How long the last output of a killed tree may be read: processes outside the tree may hold its streams open.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// The longest time between two [`Event::Tick`]s.
const TICK: Duration = Duration::from_secs(1);
/// How long killed processes may take to disappear, after the grace period.
const GONE: Duration = Duration::from_secs(60);
/// Largest single read.
const CHUNK: usize = 64 << 10;

/// What to run, and its limits.
#[derive(Clone)]
pub struct Spec {
    /// Program and arguments. A program without `/` is searched on the `PATH` of `env`, one with it relative to `cwd`.
    pub argv: Vec<OsString>,
    pub cwd: PathBuf,
    /// The whole environment, except for the mark.
    pub env: Vec<(OsString, OsString)>,
    /// `None`: nothing.
    pub stdin: Option<PathBuf>,
    /// Appended to; created with mode 0600. Known secrets are removed (BND-4).
    pub stdout: PathBuf,
    pub stderr: PathBuf,
    /// Time since the start.
    pub wall: Duration,
    /// Time without a byte on either stream.
    pub stall: Option<Duration>,
    /// Between TERM and KILL.
    pub grace: Duration,
    /// A variable set in every process of the tree: `ORCH_RUN`, the run's id.
    pub mark: (String, String),
    /// Size at which each file stops growing (RULE-38). Later output is dropped without blocking the child.
    pub cap_bytes: u64,
    /// Who starts it, and what confines it (BND-2).
    pub boundary: Boundary,
}

impl std::fmt::Debug for Spec {
    /// Names only, since values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Spec").field("argv", &self.argv).field("cwd", &self.cwd).field("env", &names).finish()
    }
}

/// What the caller is notified of while it runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// Everything is prepared and only the start is left. [`Control::End`] prevents it.
    Starting,
    /// Right after the start: the moment to record the process's identity.
    Started(Actor),
    /// Bytes of stdout as they arrived, including those past the cap; secrets are not removed.
    Stdout(&'a [u8]),
    /// The same for stderr.
    Stderr(&'a [u8]),
    /// At least once a second: the moment to check stop requests and cost.
    Tick,
}

/// The caller's answer to an [`Event`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    Go,
    /// End the tree; the reason comes back as [`EndedBy::Asked`]. No effect once the child has ended.
    End(String),
}

/// Why it was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndedBy {
    Wall,
    Stall,
    Asked(String),
}

/// How it ended. Its tree is gone by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// `None`: killed by a signal.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub ended_by: Option<EndedBy>,
    /// From its start to its own end, on the monotonic clock.
    pub duration_ms: u64,
    /// Bytes it wrote, including dropped ones.
    pub stdout_bytes: u64,
    /// What the files lack, in one sentence: output past the cap, or a write that failed.
    pub lost: Option<String>,
}

/// Why there is no exit.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    #[error("the command is empty; name a program and its arguments")]
    Empty,
    #[error("the program {program} was not found ({searched}); install it or name its path")]
    NotFound { program: String, searched: String },
    #[error("{program} can't be started: {source}")]
    NotStarted { program: String, source: std::io::Error },
    #[error("{what} can't be opened: {source}")]
    File { what: String, source: std::io::Error },
    #[error("{program} could no longer be watched, and was ended: {source}")]
    Watch { program: String, source: std::io::Error },
    /// The caller prevented the start.
    #[error("{why}")]
    Withheld { why: String },
    /// The engine never reached the command, so nothing of it ran. The environment is at fault (BND-2).
    #[error("the confinement by {} could not be set up: {why}", engine.as_str())]
    Confinement { engine: Held, why: String },
    /// The other machine refused it, or can't be reached: nothing of it ran. The environment is at fault (CLU-4).
    #[error("{why}")]
    Unavailable { why: String },
    /// It ran elsewhere and ended without anybody's request, or in an unknown way: that says nothing about it (CLU-3).
    #[error("{why}")]
    Lost { why: String },
    /// Whether its job elsewhere is gone is unknown: nothing of the run may be settled or started (CLU-3c).
    #[error("Slurm does not say whether the job {job} is gone ({why}); ask `squeue --name={job}`")]
    Undecided { job: String, why: String },
    /// The child ended but its tree did not: nothing of the run may be reused.
    #[error("{left}")]
    Left { exit: Box<Exit>, left: StillAlive },
}

/// Runs `spec` until it ends or reaches a limit, then ends the rest of its tree: descendants, processes re-parented to
/// this one as subreaper, its process group, and every process with the mark. Blocks. A subreaper runs one child at a
/// time, and processes that `on_event` leaves running count as the child's. Memory use is bounded.
///
/// # Errors
/// [`ChildError`]. Except for `Left` and `Undecided`, nothing of it is still running.
pub fn run(spec: &Spec, on_event: &mut dyn FnMut(Event<'_>) -> Control) -> Result<Exit, ChildError> {
    if let Boundary::Away(run, elsewhere) = &spec.boundary {
        return elsewhere.play(spec, run, on_event);
    }
    supervise(spec, on_event, After::EndAll, None)
}

/// As [`run`], with a person's streams in place of files: standard input goes to the command, and its output appears as
/// it arrives, without known secrets (BND-3, BND-4). The files of `spec` are not created.
pub fn run_for(
    person: &Person,
    spec: &Spec,
    on_event: &mut dyn FnMut(Event<'_>) -> Control,
) -> Result<Exit, ChildError> {
    supervise(spec, on_event, After::EndAll, Some(person))
}

/// As [`run`], for a command that changes production: what it started and left running stays, unless a limit ended it.
/// Both streams go straight to their files, so that neither the command nor what it leaves depends on this process. A
/// limit still ends the whole tree. No stall limit, no [`Event::Stdout`], no cap.
pub fn run_outliving(spec: &Spec, on_event: &mut dyn FnMut(Event<'_>) -> Control) -> Result<Exit, ChildError> {
    supervise(spec, on_event, After::LeaveAlone, None)
}

/// What happens to processes that a child leaves when it ends on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    EndAll,
    LeaveAlone,
}

fn supervise(
    spec: &Spec,
    on_event: &mut dyn FnMut(Event<'_>) -> Control,
    after: After,
    person: Option<&Person>,
) -> Result<Exit, ChildError> {
    let program = spec.argv.first().ok_or(ChildError::Empty)?.to_string_lossy().into_owned();
    let Launch { mut command, gate, feed, keys, proxy } = Launch::new(spec, &program, person)?;
    let (out, err) = match person {
        Some(person) => person.sinks()?,
        None => (Sink::open("stdout", &spec.stdout, spec)?, Sink::open("stderr", &spec.stderr, spec)?),
    };
    let own = getpid().as_raw_nonzero().get();
    // This may take hours: do not keep a git process waiting meanwhile.
    git::rest();
    // Processes that were below us before are not the child's.
    let before = if process::is_subreaper() { process::children(own) } else { HashSet::new() };

    match after {
        After::EndAll if person.is_some_and(Person::has_terminal) => &mut command,
        After::EndAll => command.stdout(Stdio::piped()).stderr(Stdio::piped()),
        After::LeaveAlone => command.stdout(out.own(&spec.stdout)?).stderr(err.own(&spec.stderr)?),
    };
    if let Control::End(why) = on_event(Event::Starting) {
        return Err(ChildError::Withheld { why });
    }
    let begun = Instant::now();
    point("spawn");
    let mut child = modes::spawn_public(&mut command)
        .map_err(|source| ChildError::NotStarted { program: program.clone(), source })?;
    point("spawned");
    // Dropping it closes our end of what was passed on.
    drop(command);
    let tree = Tree { pid: Pid::from_child(&child).as_raw_nonzero().get(), own, before, spec };
    if let Some(Err(e)) = gate.map(Gate::wait) {
        return Err(launch::not_started(spec, &program, &tree, &mut child, e));
    }
    let watched = Watched::new(&mut child, out, err, (feed, proxy)).and_then(|mut watched| {
        if let Some(person) = person {
            watched.attach(person, keys)?;
        }
        let exit = watched.follow(&tree, begun, on_event)?;
        Ok((watched, exit))
    });
    let (mut watched, ended) = match watched {
        Ok(both) => both,
        Err(source) => {
            let left = tree.end();
            let status = child.wait();
            tracing::warn!(%program, ?status, left = ?left.err(), "ended a child that can't be watched");
            return Err(ChildError::Watch { program, source });
        }
    };
    // The child is reaped only once its tree is gone: until then no other process or group can get its number.
    let left = match (ended.left, &ended.by) {
        (Some(left), _) => Err(left),
        (None, Some(_)) => {
            watched.drain(LAST_WORDS, on_event);
            Ok(())
        }
        (None, None) if after == After::LeaveAlone => Ok(()),
        (None, None) => watched.end_reading(&tree, on_event),
    };
    // A child that outlives KILL must not be waited for: the wait might never end.
    let stuck = process::identify(tree.pid).is_ok_and(|actor| process::life(&actor) == process::Life::Alive);
    let failed = |source| ChildError::Watch { program: program.clone(), source };
    let status = if stuck { None } else { Some(child.wait().map_err(failed)?) };
    watched.finish(on_event);
    if after == After::LeaveAlone {
        for path in [&spec.stdout, &spec.stderr] {
            if let Err(e) = scrub(path, &redact::current()) {
                tracing::warn!(log = %path.display(), "secrets were not taken out: {e}");
            }
        }
    }
    let (code, signal) = launch::ending(spec, status);
    let exit = Exit {
        code,
        signal,
        ended_by: ended.by,
        duration_ms: u64::try_from(ended.after.as_millis()).unwrap_or(u64::MAX),
        stdout_bytes: watched.out.seen,
        lost: watched.lost(),
    };
    match left {
        Ok(()) => Ok(exit),
        Err(left) => Err(ChildError::Left { exit: Box::new(exit), left }),
    }
}

fn opening(path: &Path, source: std::io::Error) -> ChildError {
    ChildError::File { what: path.display().to_string(), source }
}

/// The child's process tree.
struct Tree<'s> {
    pid: i32,
    own: i32,
    before: HashSet<(i32, u64)>,
    spec: &'s Spec,
}

impl Tree<'_> {
    fn find(&self) -> Vec<Actor> {
        let (mark, (top, spared)) = (&self.spec.mark, self.top());
        process::of_run((&mark.0, &mark.1), self.pid, top, spared).into_iter().collect()
    }

    /// The process below which everything is the child's, except for these.
    fn top(&self) -> (i32, &HashSet<(i32, u64)>) {
        static NOBODY: LazyLock<HashSet<(i32, u64)>> = LazyLock::new(HashSet::new);
        if process::is_subreaper() { (self.own, &self.before) } else { (self.pid, &NOBODY) }
    }

    fn below(&self) -> Vec<Actor> {
        let (top, spared) = self.top();
        process::descendants(top, spared)
    }

    /// For a confined command: measures how much it uses.
    fn meter(&self) -> Option<Meter> {
        let Boundary::Run(run) = &self.spec.boundary else { return None };
        (run.engine != Engine::None).then(|| Meter::new(run))
    }

    /// Processes that others reap: the child itself, and the caller's older children.
    fn not_ours_to_reap(&self) -> Vec<i32> {
        self.before.iter().map(|(pid, _)| *pid).chain([self.pid]).collect()
    }

    fn end(&self) -> Result<(), StillAlive> {
        let spared = self.engine().into_iter().collect();
        let sparing = process::Sparing { unreaped: self.not_ours_to_reap(), without_term: spared };
        // After a search that found nothing, what was born meanwhile is below us, where a subreaper finds it. So no
        // second search of every process of the machine: with many runs its cost would grow with their square.
        let below = Cell::new(false);
        let find = || {
            let found = if below.get() { self.below() } else { self.find() };
            below.set(found.is_empty() && process::is_subreaper());
            found
        };
        process::end_sparing(&find, self.spec.grace, self.spec.grace + GONE, &sparing)
    }

    /// The engine's own process. It ends once everything in it has; a TERM to it would kill everything at once.
    fn engine(&self) -> Option<i32> {
        let Boundary::Run(run) = &self.spec.boundary else { return None };
        matches!(run.engine, Engine::Bubblewrap { .. }).then_some(self.pid)
    }
}

/// How the wait ended.
struct Ended {
    by: Option<EndedBy>,
    after: Duration,
    left: Option<StillAlive>,
}

/// The pipes and the exit of one child, served in one loop.
struct Watched {
    pidfd: OwnedFd,
    stdout: Option<File>,
    stderr: Option<File>,
    out: Sink,
    err: Sink,
    feed: Option<Feed>,
    proxy: Option<Proxy>,
    buffer: Vec<u8>,
    /// A person is reading the output.
    live: bool,
    /// When the last byte arrived.
    heard: Instant,
}

impl Watched {
    fn new(child: &mut Child, out: Sink, err: Sink, extras: (Option<Feed>, Option<Proxy>)) -> std::io::Result<Self> {
        let (feed, proxy) = extras;
        let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
        let stdout = child.stdout.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        let stderr = child.stderr.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        if let Some(fd) = &stdout {
            nonblocking(fd)?;
        }
        if let Some(fd) = &stderr {
            nonblocking(fd)?;
        }
        if let Some(fd) = proxy.as_ref().and_then(|proxy| proxy.said.as_ref()) {
            nonblocking(fd)?;
        }
        Ok(Self {
            pidfd,
            stdout,
            stderr,
            out,
            err,
            feed,
            proxy,
            buffer: vec![0; CHUNK],
            live: false,
            heard: Instant::now(),
        })
    }

    /// Runs until the child ends, or until its tree was ended for a limit.
    fn follow(
        &mut self,
        tree: &Tree<'_>,
        begun: Instant,
        on_event: &mut dyn FnMut(Event<'_>) -> Control,
    ) -> std::io::Result<Ended> {
        let spec = tree.spec;
        let mut control = on_event(Event::Started(process::identify(tree.pid)?));
        let mut meter = tree.meter();
        let mut ticked = Instant::now();
        self.heard = ticked;
        while control == Control::Go {
            let left = |limit: Duration, since: Instant| limit.saturating_sub(since.elapsed());
            let stall = spec.stall.map_or(TICK, |stall| left(stall, self.heard));
            let wait = left(TICK, ticked).min(left(spec.wall, begun)).min(stall).min(self.idle());
            let news = self.wait(Some(self.pidfd.as_fd()), wait)?;
            control = self.serve(on_event)?;
            if news == News::Nothing {
                self.say_held();
            }
            if news == News::Ended {
                return Ok(Ended { by: None, after: begun.elapsed(), left: None });
            }
            // On a signal, ask the caller at once.
            if control == Control::Go && (news == News::Signal || ticked.elapsed() >= TICK) {
                process::reap_orphans(&tree.not_ours_to_reap());
                ticked = Instant::now();
                control = match (on_event(Event::Tick), &mut meter) {
                    (Control::Go, Some(meter)) => meter.over(&tree.below()).map_or(Control::Go, Control::End),
                    (control, _) => control,
                };
            }
            // Silence is measured by what was available to read, however long the caller took.
            let by = if begun.elapsed() >= spec.wall {
                EndedBy::Wall
            } else if news == News::Nothing && spec.stall.is_some_and(|stall| self.heard.elapsed() >= stall) {
                EndedBy::Stall
            } else {
                continue;
            };
            if control == Control::Go {
                return self.end_tree(tree, by, begun, on_event);
            }
        }
        let Control::End(reason) = control else { return Err(std::io::Error::other("no reason to end")) };
        self.end_tree(tree, EndedBy::Asked(reason), begun, on_event)
    }

    /// Ends the tree while still reading its streams: output written at TERM is kept, and a full pipe blocks no exit.
    fn end_tree(
        &mut self,
        tree: &Tree<'_>,
        by: EndedBy,
        begun: Instant,
        on_event: &mut dyn FnMut(Event<'_>) -> Control,
    ) -> std::io::Result<Ended> {
        let (done, mut send_done) = UnixStream::pair()?;
        let ended = std::thread::scope(|scope| {
            let ending = scope.spawn(move || {
                let ended = tree.end();
                let _ = send_done.write_all(b".");
                ended
            });
            let mut reading = Ok(());
            while reading.is_ok() && !ending.is_finished() {
                reading = match self.wait(Some(done.as_fd()), TICK) {
                    Ok(News::Ended) => break,
                    Ok(News::Bytes | News::Nothing | News::Signal) => self.serve(on_event).map(drop),
                    Err(e) => Err(e),
                };
            }
            let ended = ending.join().map_err(|_| std::io::Error::other("the ending of its tree failed"))?;
            reading.map(|()| ended.err())
        });
        Ok(Ended { by: Some(by), after: begun.elapsed(), left: ended? })
    }

    /// After the child's exit: drains its streams, ends what it left, and reads the last output of that.
    fn end_reading(
        &mut self,
        tree: &Tree<'_>,
        on_event: &mut dyn FnMut(Event<'_>) -> Control,
    ) -> Result<(), StillAlive> {
        self.drain(DRAIN, on_event);
        let ended = tree.end();
        self.drain(LAST_WORDS, on_event);
        ended
    }

    /// Reads both streams to the end, for at most `bound`: processes outside the tree may hold them open.
    fn drain(&mut self, bound: Duration, on_event: &mut dyn FnMut(Event<'_>) -> Control) {
        let begun = Instant::now();
        while (self.stdout.is_some() || self.stderr.is_some()) && begun.elapsed() < bound {
            if self.wait(None, bound.saturating_sub(begun.elapsed())).is_err() || self.serve(on_event).is_err() {
                break;
            }
        }
    }

    /// Waits for bytes, or for `end` to become readable, for at most `bound`.
    fn wait(&self, end: Option<BorrowedFd<'_>>, bound: Duration) -> std::io::Result<News> {
        let mut fds: Vec<PollFd<'_>> = end.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).into_iter().collect();
        fds.extend(self.stdout.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(self.stderr.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(self.refusals().map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(self.feed.as_ref().map(|feed| PollFd::new(feed, PollFlags::OUT)));
        match poll(&mut fds, Some(&process::timespec(bound))) {
            Ok(0) => Ok(News::Nothing),
            Ok(_) => {
                let ended = end.is_some() && fds.first().is_some_and(|fd| !fd.revents().is_empty());
                Ok(if ended { News::Ended } else { News::Bytes })
            }
            Err(rustix::io::Errno::INTR) => Ok(News::Signal),
            Err(e) => Err(e.into()),
        }
    }

    fn refusals(&self) -> Option<&File> {
        self.proxy.as_ref()?.said.as_ref()
    }

    /// The proxy's refusals are recorded with the run's own output.
    fn hear_proxy(&mut self, on_event: &mut dyn FnMut(Event<'_>) -> Control) -> std::io::Result<Control> {
        let Some(pipe) = self.proxy.as_mut().and_then(|proxy| proxy.said.as_mut()) else { return Ok(Control::Go) };
        match chunk(pipe, &mut self.buffer)? {
            Chunk::End => drop(self.proxy.as_mut().and_then(|proxy| proxy.said.take())),
            Chunk::Later => {}
            Chunk::Bytes(bytes) => {
                self.err.take(bytes);
                return Ok(on_event(Event::Stderr(bytes)));
            }
        }
        Ok(Control::Go)
    }

    /// Reads at most one chunk of each stream.
    fn serve(&mut self, on_event: &mut dyn FnMut(Event<'_>) -> Control) -> std::io::Result<Control> {
        let mut control = Control::Go;
        self.feed = self.feed.take().and_then(Feed::give);
        if let Control::End(why) = self.hear_proxy(on_event)? {
            control = Control::End(why);
        }
        if let Some(pipe) = &mut self.stdout {
            match chunk(pipe, &mut self.buffer)? {
                Chunk::End => self.stdout = None,
                Chunk::Later => {}
                Chunk::Bytes(bytes) => {
                    self.heard = Instant::now();
                    self.out.take(bytes);
                    control = on_event(Event::Stdout(bytes));
                }
            }
        }
        if let Some(pipe) = &mut self.stderr {
            match chunk(pipe, &mut self.buffer)? {
                Chunk::End => self.stderr = None,
                Chunk::Later => {}
                Chunk::Bytes(bytes) => {
                    self.heard = Instant::now();
                    self.err.take(bytes);
                    if let Control::End(why) = on_event(Event::Stderr(bytes)) {
                        control = Control::End(why);
                    }
                }
            }
        }
        Ok(control)
    }

    /// Closes the streams; nothing more is read.
    fn finish(&mut self, on_event: &mut dyn FnMut(Event<'_>) -> Control) {
        let _ = self.hear_proxy(on_event);
        self.out.finish();
        self.err.finish();
    }

    fn lost(&self) -> Option<String> {
        let said: Vec<String> = [&self.out, &self.err].into_iter().filter_map(Sink::lost).collect();
        (!said.is_empty()).then(|| said.join("; "))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// The awaited exit happened.
    Ended,
    /// There is something to read.
    Bytes,
    /// The wait timed out.
    Nothing,
    /// This process got a signal.
    Signal,
}

#[cfg(test)]
#[path = "child_tests.rs"]
mod tests;
