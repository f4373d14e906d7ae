//! One configured command or agent under supervision (RUN-4, CFG-1, RULE-19): exact environment, own process group, no
//! terminal, streams to capped files as they come, limits of wall time and silence, and no end before its whole tree is
//! seen to be gone.

mod launch;
mod person;
mod streams;

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

/// How long the streams are read past the child's own exit: a daemon it left keeps them open (RULE-19).
const DRAIN: Duration = Duration::from_secs(2);
/// How long what a killed tree said may take to be read; outsiders may hold its streams.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// The longest time between two [`Event::Tick`]s.
const TICK: Duration = Duration::from_secs(1);
/// How long killed processes may take to be gone, past the grace.
const GONE: Duration = Duration::from_secs(60);
/// The most read at once.
const CHUNK: usize = 64 << 10;

/// What is run, and within which limits.
#[derive(Clone)]
pub struct Spec {
    /// Program and arguments. A program without `/` is looked for on the `PATH` of `env`, one with it from `cwd`.
    pub argv: Vec<OsString>,
    pub cwd: PathBuf,
    /// The whole environment, but for the mark.
    pub env: Vec<(OsString, OsString)>,
    /// `None`: nothing.
    pub stdin: Option<PathBuf>,
    /// Appended to, made 0600; known secrets are taken out (BND-4).
    pub stdout: PathBuf,
    pub stderr: PathBuf,
    /// Since its start.
    pub wall: Duration,
    /// Without a byte on either stream.
    pub stall: Option<Duration>,
    /// Between TERM and KILL.
    pub grace: Duration,
    /// A variable that every process of the tree carries: `ORCH_RUN`, the run's id.
    pub mark: (String, String),
    /// The size past which either file grows no more (RULE-38); what comes then is dropped, not awaited.
    pub cap_bytes: u64,
    /// Who starts it, and what holds it (BND-2).
    pub boundary: Boundary,
}

impl std::fmt::Debug for Spec {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Spec").field("argv", &self.argv).field("cwd", &self.cwd).field("env", &names).finish()
    }
}

/// What the caller hears while it runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// All that can be prepared is; what follows is the start and nothing else. [`Control::End`] withholds it.
    Starting,
    /// Right after its start: the time to record who it is.
    Started(Actor),
    /// Bytes of stdout as they came, also those past the cap; nothing is taken out of them.
    Stdout(&'a [u8]),
    /// At least once a second: the time to look at stop requests and cost.
    Tick,
}

/// What the caller wants then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    Go,
    /// End the tree; the reason is given back as [`EndedBy::Asked`]. Without effect once the child ended.
    End(String),
}

/// Why it did not end by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndedBy {
    Wall,
    Stall,
    Asked(String),
}

/// How it ended; its tree is gone by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// `None`: by a signal.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub ended_by: Option<EndedBy>,
    /// From its start to its own end, monotonic.
    pub duration_ms: u64,
    /// What it wrote, dropped bytes included.
    pub stdout_bytes: u64,
    /// What the files lack: past the cap, or why they could not be written. One sentence.
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
    #[error("{program} can't be watched any more, and was ended: {source}")]
    Watch { program: String, source: std::io::Error },
    /// The caller withheld the start.
    #[error("{why}")]
    Withheld { why: String },
    /// The engine did not come as far as the command: nothing of it ran. The cause is the environment's (BND-2).
    #[error("the confinement by {} could not be set up: {why}", engine.as_str())]
    Confinement { engine: Held, why: String },
    /// It ended, its tree did not: nothing of the run may be reused.
    #[error("{left}")]
    Left { exit: Box<Exit>, left: StillAlive },
}

/// Runs `spec` to its end or to a limit, and ends whatever is left of its tree: its descendants, those re-parented to
/// this process as a subreaper, its group, and every process with the mark. Blocks. In a subreaper one runs at a time, and
/// what `tell` starts and leaves running counts as the child's. Memory is bounded whatever the child writes.
///
/// # Errors
/// [`ChildError`]; but for `Left`, nothing of it runs any more.
pub fn run(spec: &Spec, tell: &mut dyn FnMut(Event<'_>) -> Control) -> Result<Exit, ChildError> {
    supervise(spec, tell, After::EndAll, None)
}

/// As [`run`], with a person's own streams in place of files: what comes on standard input goes to the command, what it says
/// comes out as it comes, without known secrets (BND-3, BND-4). The files of `spec` are not made.
pub fn run_for(person: &Person, spec: &Spec, tell: &mut dyn FnMut(Event<'_>) -> Control) -> Result<Exit, ChildError> {
    supervise(spec, tell, After::EndAll, Some(person))
}

/// As [`run`], for a command that changes production: what it started and left running stays when it ended by itself,
/// and both streams go straight to their files, so that neither it nor that depends on this process's life. A limit
/// still ends the whole tree. No stall limit, no [`Event::Stdout`], no cap.
pub fn run_outliving(spec: &Spec, tell: &mut dyn FnMut(Event<'_>) -> Control) -> Result<Exit, ChildError> {
    supervise(spec, tell, After::LeaveAlone, None)
}

/// What becomes of what a child left when it ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    EndAll,
    LeaveAlone,
}

fn supervise(
    spec: &Spec,
    tell: &mut dyn FnMut(Event<'_>) -> Control,
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
    // For hours, perhaps: no git waits beside it for questions.
    git::rest();
    // What was below us before is not the child's.
    let before = if process::is_subreaper() { process::children(own) } else { HashSet::new() };

    match after {
        After::EndAll if person.is_some_and(Person::has_terminal) => &mut command,
        After::EndAll => command.stdout(Stdio::piped()).stderr(Stdio::piped()),
        After::LeaveAlone => command.stdout(out.own(&spec.stdout)?).stderr(err.own(&spec.stderr)?),
    };
    if let Control::End(why) = tell(Event::Starting) {
        return Err(ChildError::Withheld { why });
    }
    let begun = Instant::now();
    point("spawn");
    let mut child = modes::spawn_public(&mut command)
        .map_err(|source| ChildError::NotStarted { program: program.clone(), source })?;
    point("spawned");
    // With it goes our end of what was handed on.
    drop(command);
    let tree = Tree { pid: Pid::from_child(&child).as_raw_nonzero().get(), own, before, spec };
    if let Some(Err(e)) = gate.map(Gate::wait) {
        return Err(launch::not_started(spec, &program, &tree, &mut child, e));
    }
    let watched = Watched::new(&mut child, out, err, (feed, proxy)).and_then(|mut watched| {
        if let Some(person) = person {
            watched.attach(person, keys)?;
        }
        let exit = watched.follow(&tree, begun, tell)?;
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
    // The child is not reaped before its tree is gone: until then no other process or group can have its number.
    let left = match (ended.left, &ended.by) {
        (Some(left), _) => Err(left),
        (None, Some(_)) => {
            watched.drain(LAST_WORDS, tell);
            Ok(())
        }
        (None, None) if after == After::LeaveAlone => Ok(()),
        (None, None) => watched.end_reading(&tree, tell),
    };
    // Had it outlived KILL, waiting for it would not end.
    let stuck = process::identify(tree.pid).is_ok_and(|actor| process::life(&actor) == process::Life::Alive);
    let failed = |source| ChildError::Watch { program: program.clone(), source };
    let status = if stuck { None } else { Some(child.wait().map_err(failed)?) };
    watched.finish();
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

/// What belongs to the child.
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

    /// Below whom everything is the child's, but for these.
    fn top(&self) -> (i32, &HashSet<(i32, u64)>) {
        static NOBODY: LazyLock<HashSet<(i32, u64)>> = LazyLock::new(HashSet::new);
        if process::is_subreaper() { (self.own, &self.before) } else { (self.pid, &NOBODY) }
    }

    fn below(&self) -> Vec<Actor> {
        let (top, spared) = self.top();
        process::descendants(top, spared)
    }

    /// For a confined command: what watches how much it uses.
    fn meter(&self) -> Option<Meter> {
        let Boundary::Run(run) = &self.spec.boundary else { return None };
        (run.engine != Engine::None).then(|| Meter::new(run))
    }

    /// Whose exits others take: the child's own, and those of the caller's older children.
    fn not_ours_to_reap(&self) -> Vec<i32> {
        self.before.iter().map(|(pid, _)| *pid).chain([self.pid]).collect()
    }

    fn end(&self) -> Result<(), StillAlive> {
        let spared = self.engine().into_iter().collect();
        let sparing = process::Sparing { unreaped: self.not_ours_to_reap(), untold: spared };
        // Once nothing was found anywhere, what was born behind that look's eye is below us, where a subreaper finds it: no
        // second look at every process of the machine, which many runs would pay for with their square.
        let below = Cell::new(false);
        let find = || {
            let found = if below.get() { self.below() } else { self.find() };
            below.set(found.is_empty() && process::is_subreaper());
            found
        };
        process::end_sparing(&find, self.spec.grace, self.spec.grace + GONE, &sparing)
    }

    /// The engine's own process, which ends when all in it has. Were it told to end, all would die at once.
    fn engine(&self) -> Option<i32> {
        let Boundary::Run(run) = &self.spec.boundary else { return None };
        matches!(run.engine, Engine::Bubblewrap { .. }).then_some(self.pid)
    }
}

/// How the watching ended.
struct Ended {
    by: Option<EndedBy>,
    after: Duration,
    left: Option<StillAlive>,
}

/// The pipes and the end of one child, served in one loop.
struct Watched {
    pidfd: OwnedFd,
    stdout: Option<File>,
    stderr: Option<File>,
    out: Sink,
    err: Sink,
    feed: Option<Feed>,
    proxy: Option<Proxy>,
    buffer: Vec<u8>,
    /// A person reads along.
    live: bool,
    /// When a byte last came.
    heard: Instant,
}

impl Watched {
    fn new(child: &mut Child, out: Sink, err: Sink, beside: (Option<Feed>, Option<Proxy>)) -> std::io::Result<Self> {
        let (feed, proxy) = beside;
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

    /// Until the child's own end, or until its tree was ended for a limit.
    fn follow(
        &mut self,
        tree: &Tree<'_>,
        begun: Instant,
        tell: &mut dyn FnMut(Event<'_>) -> Control,
    ) -> std::io::Result<Ended> {
        let spec = tree.spec;
        let mut control = tell(Event::Started(process::identify(tree.pid)?));
        let mut meter = tree.meter();
        let mut ticked = Instant::now();
        self.heard = ticked;
        while control == Control::Go {
            let left = |limit: Duration, since: Instant| limit.saturating_sub(since.elapsed());
            let stall = spec.stall.map_or(TICK, |stall| left(stall, self.heard));
            let wait = left(TICK, ticked).min(left(spec.wall, begun)).min(stall).min(self.idle());
            let news = self.wait(Some(self.pidfd.as_fd()), wait)?;
            control = self.serve(tell)?;
            if news == News::Nothing {
                self.say_held();
            }
            if news == News::Ended {
                return Ok(Ended { by: None, after: begun.elapsed(), left: None });
            }
            // A signal to us is a reason to ask at once.
            if control == Control::Go && (news == News::Signal || ticked.elapsed() >= TICK) {
                process::reap_orphans(&tree.not_ours_to_reap());
                ticked = Instant::now();
                control = match (tell(Event::Tick), &mut meter) {
                    (Control::Go, Some(meter)) => meter.over(&tree.below()).map_or(Control::Go, Control::End),
                    (control, _) => control,
                };
            }
            // Silence is judged by what was there to be read, however long the caller took.
            let by = if begun.elapsed() >= spec.wall {
                EndedBy::Wall
            } else if news == News::Nothing && spec.stall.is_some_and(|stall| self.heard.elapsed() >= stall) {
                EndedBy::Stall
            } else {
                continue;
            };
            if control == Control::Go {
                return self.end_tree(tree, by, begun, tell);
            }
        }
        let Control::End(reason) = control else { return Err(std::io::Error::other("no reason to end")) };
        self.end_tree(tree, EndedBy::Asked(reason), begun, tell)
    }

    /// Ends the tree while its streams are read on: what it says at TERM is heard, and a full pipe holds up no end.
    fn end_tree(
        &mut self,
        tree: &Tree<'_>,
        by: EndedBy,
        begun: Instant,
        tell: &mut dyn FnMut(Event<'_>) -> Control,
    ) -> std::io::Result<Ended> {
        let (done, mut tell_done) = UnixStream::pair()?;
        let ended = std::thread::scope(|scope| {
            let ending = scope.spawn(move || {
                let ended = tree.end();
                let _ = tell_done.write_all(b".");
                ended
            });
            let mut reading = Ok(());
            while reading.is_ok() && !ending.is_finished() {
                reading = match self.wait(Some(done.as_fd()), TICK) {
                    Ok(News::Ended) => break,
                    Ok(News::Bytes | News::Nothing | News::Signal) => self.serve(tell).map(drop),
                    Err(e) => Err(e),
                };
            }
            let ended = ending.join().map_err(|_| std::io::Error::other("the ending of its tree failed"))?;
            reading.map(|()| ended.err())
        });
        Ok(Ended { by: Some(by), after: begun.elapsed(), left: ended? })
    }

    /// After the child's end: reads what its streams still hold, ends what it left, and reads the last words of that.
    fn end_reading(&mut self, tree: &Tree<'_>, tell: &mut dyn FnMut(Event<'_>) -> Control) -> Result<(), StillAlive> {
        self.drain(DRAIN, tell);
        let ended = tree.end();
        self.drain(LAST_WORDS, tell);
        ended
    }

    /// Reads to the end of both streams, at most `bound` long: whoever is not of the tree may hold them open.
    fn drain(&mut self, bound: Duration, tell: &mut dyn FnMut(Event<'_>) -> Control) {
        let begun = Instant::now();
        while (self.stdout.is_some() || self.stderr.is_some()) && begun.elapsed() < bound {
            if self.wait(None, bound.saturating_sub(begun.elapsed())).is_err() || self.serve(tell).is_err() {
                break;
            }
        }
    }

    /// Waits for bytes or for `end` to be readable, at most `bound`.
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

    /// What a run's proxy refused stands with the run's own words.
    fn hear_proxy(&mut self) -> std::io::Result<()> {
        let Some(proxy) = &mut self.proxy else { return Ok(()) };
        let Some(pipe) = &mut proxy.said else { return Ok(()) };
        match chunk(pipe, &mut self.buffer)? {
            Chunk::End => proxy.said = None,
            Chunk::Later => {}
            Chunk::Bytes(bytes) => self.err.take(bytes),
        }
        Ok(())
    }

    /// Reads at most one chunk of each stream.
    fn serve(&mut self, tell: &mut dyn FnMut(Event<'_>) -> Control) -> std::io::Result<Control> {
        let mut control = Control::Go;
        self.feed = self.feed.take().and_then(Feed::give);
        self.hear_proxy()?;
        if let Some(pipe) = &mut self.stdout {
            match chunk(pipe, &mut self.buffer)? {
                Chunk::End => self.stdout = None,
                Chunk::Later => {}
                Chunk::Bytes(bytes) => {
                    self.heard = Instant::now();
                    self.out.take(bytes);
                    control = tell(Event::Stdout(bytes));
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
                }
            }
        }
        Ok(control)
    }

    /// Nothing more is read.
    fn finish(&mut self) {
        let _ = self.hear_proxy();
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
    /// The awaited end is there.
    Ended,
    /// Something to read.
    Bytes,
    /// The time is over.
    Nothing,
    /// A signal came to this process.
    Signal,
}

#[cfg(test)]
#[path = "child_tests.rs"]
mod tests;
