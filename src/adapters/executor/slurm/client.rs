//! The host's end of a job: srun with a pipe as its standard input, the frames over it, and proof that the job is gone
//! (CLU-2 to CLU-4). Blocks for the whole run, including its time in the queue.

use super::fate::{Fate, Known, fate, never_starts};
use super::frames::{Because, By, Ended, Order, ToHost, ToNode, frame};
use super::ledger::{self, Ledger, Phase};
use super::link::Link;
use super::node::SEEN;
use super::{Job, line, make_ready, program, queue};
use crate::adapters::child::{ChildError, Control, Elsewhere, EndedBy, Event, Exit, Sinks, Spec};
use crate::adapters::confine::Run;
use crate::adapters::process;
use crate::failpoint::point;
use crate::model::confine::Held;
use crate::model::text::one_line;
use rustix::process::Signal;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The longest time between two [`Event::Tick`]s.
const TICK: Duration = Duration::from_secs(1);
/// How long after its grace a node may take to report the end that it was asked for.
const ANSWER: Duration = Duration::from_secs(75);
/// How long srun may take to exit after its node reported the end. Without a controller it takes longer, and nothing
/// that it could still say is needed: the report is the last frame.
const AFTER: Duration = Duration::from_secs(5);
/// How long srun may take to take back a job that is pending.
const BACK: Duration = Duration::from_secs(20);
/// Between two polls of the queue: the first, and the longest.
const FIRST_LOOK: Duration = Duration::from_millis(1500);
const LONGEST_LOOK: Duration = Duration::from_secs(60);
/// Between two polls of a job that has to go.
const GOING: Duration = Duration::from_secs(1);
/// Between two looks for the node's last file.
const SEEING: Duration = Duration::from_millis(50);
/// How many times `settle_s` a supervisor waits for Slurm to say that a job is gone.
const PATIENCE: u64 = 10;

/// Whether Slurm still has a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    Yes,
    /// Whoever asked for its end looks for it.
    TakenOver,
    Unknown,
}

impl Elsewhere for Job {
    fn play(&self, spec: &Spec, run: &Run, tell: &mut dyn FnMut(Event<'_>) -> Control) -> Result<Exit, ChildError> {
        let unavailable = |why: String| ChildError::Unavailable { why };
        if !line::is_name(&self.name) {
            return Err(unavailable(format!("{:?} is not a Slurm job name", self.name)));
        }
        make_ready(&self.work_dir, run.uid.is_some()).map_err(unavailable)?;
        let program = program::place(&self.program, &self.work_dir, &self.known).map_err(|e| {
            unavailable(format!("this program can't be copied to where the nodes see it: {e}; see slurm.work_dir"))
        })?;
        let mut sinks = Sinks::open(spec)?;
        // What an earlier command of this run left open goes first, because it has the same name.
        if Ledger::read(&self.dir).is_some() && self.settle(tell) == Gone::Unknown {
            return Err(self.undecided("an earlier command of the run".to_owned()));
        }
        let (nonce, input) = (nonce(), self.input(spec)?);
        let order = frame(&nonce, &ToNode::Order(Box::new(self.order(spec, run))), &input)
            .map_err(|source| ChildError::NotStarted { program: "srun".to_owned(), source })?;
        if let Control::End(why) = tell(Event::Starting) {
            return Err(ChildError::Withheld { why });
        }
        let ledger = Ledger {
            name: self.name.clone(),
            phase: Phase::Queued,
            job: None,
            engine: String::new(),
            reason: String::new(),
            program: program.clone(),
            running_since: None,
            empty_at: None,
            settle_s: self.settle_s,
            left: None,
        };
        ledger.write(&self.dir).map_err(|source| ChildError::File { what: "slurm.json".to_owned(), source })?;
        point("slurm ledger");
        let child = self.srun(&program, spec).map_err(|source| {
            Ledger::close(&self.dir);
            if source.kind() == io::ErrorKind::NotFound {
                ChildError::NotFound { program: "srun".to_owned(), searched: "PATH of this process".to_owned() }
            } else {
                ChildError::NotStarted { program: "srun".to_owned(), source }
            }
        })?;
        let watch = |source| ChildError::Watch { program: "srun".to_owned(), source };
        point("slurm begun");
        let link = Link::new(child, order, &nonce).map_err(watch)?;
        let mut play = Play { job: self, spec, run, link, ledger, sinks: &mut sinks, tell, state: State::default() };
        let followed = play.follow();
        let Play { mut link, mut ledger, mut state, .. } = play;
        if let Err(e) = &followed {
            state.said = one_line(&e.to_string());
        }
        point("slurm over");
        link.end();
        let mut known = Known {
            ended: state.ended.clone(),
            started: state.started,
            state: None,
            code: link.code,
            said: state.complaint(),
            asked: state.asked.is_some(),
        };
        if state.ended.as_ref().is_some_and(|e| e.left.is_none()) || state.declined.is_some() {
            ledger.phase = Phase::Over;
            ledger.keep(&self.dir);
            self.settle_once();
        } else if self.settle(tell) == Gone::Unknown {
            return Err(self.undecided(fate(&known).why()));
        }
        known.state = ledger.job.and_then(queue::last_state);
        point("slurm settled");
        let (stdout_bytes, lost) = sinks.finish();
        self.verdict(&nonce, run, state, &known, (stdout_bytes, lost))
    }
}

impl Job {
    fn input(&self, spec: &Spec) -> Result<Vec<u8>, ChildError> {
        let Some(path) = &spec.stdin else { return Ok(Vec::new()) };
        std::fs::read(path).map_err(|source| ChildError::File { what: path.display().to_string(), source })
    }

    fn order(&self, spec: &Spec, run: &Run) -> Order {
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Order {
            argv: spec.argv.clone(),
            env: spec.env.clone(),
            mark: spec.mark.clone(),
            cwd: spec.cwd.clone(),
            fed: spec.stdin.is_some(),
            wall_ms: ms(spec.wall),
            stall_ms: spec.stall.map(ms),
            grace_ms: ms(spec.grace),
            silence_ms: self.silence_s.saturating_mul(1000),
            bounds: run.bounds.clone(),
            root: run.checkout.parent().unwrap_or(&run.checkout).to_owned(),
            answers: self.answers.clone(),
        }
    }

    fn srun(&self, program: &std::path::Path, spec: &Spec) -> io::Result<Child> {
        let mark = (spec.mark.0.as_str(), spec.mark.1.as_str());
        let mut command = Command::new("srun");
        command.args(line::srun(&self.name, &self.resources, program)).env_clear();
        command.envs(line::environment(std::env::vars_os(), mark)).current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn()
    }

    /// Cancels whatever Slurm still has under the name, and checks once. A later step checks what stays unknown.
    fn settle_once(&self) {
        let Some(mut ledger) = Ledger::read(&self.dir) else { return };
        if look(&mut ledger) {
            Ledger::close(&self.dir);
        } else {
            ledger.keep(&self.dir);
        }
    }

    /// The same until it is gone; or until somebody asks this supervisor to end, and then takes over; or until Slurm
    /// has not said so for [`PATIENCE`] times `settle_s` (CLU-3c).
    fn settle(&self, tell: &mut dyn FnMut(Event<'_>) -> Control) -> Gone {
        let begun = Instant::now();
        let bound = Duration::from_secs(self.settle_s.saturating_mul(PATIENCE));
        while let Some(mut ledger) = Ledger::read(&self.dir) {
            if look(&mut ledger) {
                Ledger::close(&self.dir);
                break;
            }
            ledger.keep(&self.dir);
            let _ = tell(Event::Tick);
            if ledger::is_asked(&self.dir) {
                return Gone::TakenOver;
            }
            if begun.elapsed() >= bound {
                return Gone::Unknown;
            }
            // Slurm signals the end of a job to nobody but its own srun, which is gone by now: so it is polled.
            std::thread::sleep(GOING);
        }
        Gone::Yes
    }

    /// Leaves the job to later steps, which go on asking, with what is known of its end.
    fn undecided(&self, why: String) -> ChildError {
        if let Some(ledger) = Ledger::read(&self.dir) {
            Ledger { left: Some(why.clone()), ..ledger }.keep(&self.dir);
        }
        ChildError::Undecided { job: self.name.clone(), why }
    }

    fn verdict(
        &self,
        nonce: &str,
        run: &Run,
        state: State,
        known: &Known,
        streams: (u64, Option<String>),
    ) -> Result<Exit, ChildError> {
        if let Some((because, held, why)) = state.declined {
            return Err(match because {
                Because::Confinement => ChildError::Confinement { engine: held, why },
                Because::NoProgram => ChildError::NotFound { program: "the command".to_owned(), searched: why },
                Because::NotStarted => {
                    ChildError::NotStarted { program: "the command".to_owned(), source: io::Error::other(why) }
                }
                Because::Folders => ChildError::Unavailable {
                    why: format!("{why}; slurm.work_dir has to be the same folder on this machine and every node"),
                },
                Because::Order => ChildError::Unavailable { why: format!("the node did not accept the job: {why}") },
            });
        }
        if let Some(why) = state.never {
            return Err(ChildError::Unavailable { why });
        }
        let exit = |ended: Option<&Ended>, by: Option<EndedBy>| Exit {
            code: ended.and_then(|e| e.code),
            signal: ended.and_then(|e| e.signal),
            ended_by: by,
            duration_ms: ended.map_or(0, |e| e.duration_ms),
            stdout_bytes: streams.0,
            lost: streams.1.clone(),
        };
        match fate(known) {
            Fate::Reported(ended) => {
                let by = match (&ended.by, &state.asked) {
                    (By::Wall, _) => Some(EndedBy::Wall),
                    (By::Stall, _) => Some(EndedBy::Stall),
                    (By::Bound(why), _) => Some(EndedBy::Asked(why.clone())),
                    (By::Itself, _) => None,
                    (By::Stop | By::Silence | By::Slurm, asked) => {
                        Some(EndedBy::Asked(asked.clone().unwrap_or_else(|| "its node ended it".to_owned())))
                    }
                };
                if let Some(left) = ended.left {
                    return Err(ChildError::Lost { why: format!("on its node {left}") });
                }
                self.see(nonce, run)?;
                Ok(exit(Some(&ended), by))
            }
            Fate::Limit(why) => Ok(exit(known.ended.as_ref(), Some(EndedBy::Asked(why)))),
            Fate::Lost(why) => Err(ChildError::Lost { why }),
            Fate::Refused(why) => Err(ChildError::Unavailable { why }),
            Fate::Withdrawn => {
                let why = state.asked.unwrap_or_else(|| "it was taken back".to_owned());
                Err(ChildError::Withheld { why })
            }
        }
    }

    /// Waits for the node's last file in the run's folder: once it is there, so is what its run wrote (CLU-5).
    fn see(&self, nonce: &str, run: &Run) -> Result<(), ChildError> {
        let root = run.checkout.parent().unwrap_or(&run.checkout);
        let name = format!("{SEEN}{nonce}");
        let begun = Instant::now();
        loop {
            // Opened again: a file system may cache a folder's entries.
            let there = std::fs::read_dir(root).is_ok_and(|dir| dir.flatten().any(|e| e.file_name() == name.as_str()));
            if there {
                drop(std::fs::remove_file(root.join(&name)));
                return Ok(());
            }
            if begun.elapsed() >= Duration::from_secs(self.settle_s) {
                let why = format!(
                    "the node's files did not appear in {} within {} s: slurm.work_dir is not the same folder on both machines",
                    root.display(),
                    self.settle_s
                );
                return Err(ChildError::Lost { why });
            }
            // A change on another machine raises no event here: network file systems have none.
            std::thread::sleep(SEEING);
        }
    }
}

/// Records what the queue says of a job, and cancels what is still there; returns whether it is certainly gone.
fn look(ledger: &mut Ledger) -> bool {
    let rows = match queue::list(std::slice::from_ref(&ledger.name)) {
        Ok(rows) => rows,
        Err(e) => {
            tracing::debug!("{}: {e}", ledger.name);
            return false;
        }
    };
    if !rows.is_empty()
        && let Err(e) = queue::cancel(&ledger.name)
    {
        tracing::debug!("{}: {e}", ledger.name);
    }
    ledger.seen(!rows.is_empty(), now_ms())
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn nonce() -> String {
    let mut bytes = [0_u8; 16];
    let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What the host has heard.
#[derive(Debug, Default)]
struct State {
    started: bool,
    ended: Option<Ended>,
    declined: Option<(Because, Held, String)>,
    /// Why it was asked to end.
    asked: Option<String>,
    /// Why it would wait forever.
    never: Option<String>,
    /// srun's output.
    said: String,
}

impl State {
    fn is_over(&self) -> bool {
        self.ended.is_some() || self.declined.is_some()
    }

    /// srun's first complaint, or its last words.
    fn complaint(&self) -> String {
        let lines = || self.said.lines().map(str::trim).filter(|line| !line.is_empty());
        let line = lines().find(|line| line.contains("error:")).or_else(|| lines().next_back()).unwrap_or_default();
        let line = line.strip_prefix("srun: ").unwrap_or(line);
        one_line(line.strip_prefix("error: ").unwrap_or(line))
    }
}

/// One run in progress.
struct Play<'a> {
    job: &'a Job,
    spec: &'a Spec,
    run: &'a Run,
    link: Link,
    ledger: Ledger,
    sinks: &'a mut Sinks,
    tell: &'a mut dyn FnMut(Event<'_>) -> Control,
    state: State,
}

impl Play<'_> {
    /// Until srun is gone, or has to be.
    fn follow(&mut self) -> io::Result<()> {
        let alive_every = Duration::from_secs(self.job.silence_s.max(4)) / 4;
        let (mut ticked, mut said) = (Instant::now(), Instant::now());
        let (mut last, mut over) = (Way::On, None::<Instant>);
        let mut next_look = Instant::now() + FIRST_LOOK;
        let mut pause = FIRST_LOOK;
        loop {
            let ended = self.link.serve(TICK.saturating_sub(ticked.elapsed()), &mut self.state.said)?;
            self.hear()?;
            if said.elapsed() >= alive_every && !self.state.is_over() {
                said = Instant::now();
                self.link.push(&ToNode::Alive)?;
            }
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                let control = (self.tell)(Event::Tick);
                self.take(control)?;
                if ledger::is_asked(&self.job.dir) {
                    self.ask("stopped")?;
                }
            }
            if !self.state.started && !self.state.is_over() && Instant::now() >= next_look {
                self.wait_in_queue();
                pause = (pause * 2).min(LONGEST_LOOK);
                next_look = Instant::now() + pause;
            }
            if ended {
                // What is still in the pipe.
                self.link.drain(&mut self.state.said)?;
                return self.hear();
            }
            let way = self.way();
            if way != last {
                last = way;
                over = self.turn(way).map(|bound| Instant::now() + bound);
            }
            if over.is_some_and(|at| Instant::now() >= at) {
                return Ok(());
            }
        }
    }

    fn way(&self) -> Way {
        if self.state.is_over() {
            Way::Over
        } else if self.state.never.is_some() || (self.state.asked.is_some() && !self.state.started) {
            Way::Back
        } else if self.state.asked.is_some() {
            Way::Asked
        } else {
            Way::On
        }
    }

    /// Handles the result of one turn; returns how long srun may live on.
    fn turn(&mut self, way: Way) -> Option<Duration> {
        match way {
            Way::On => None,
            Way::Asked => Some(self.spec.grace + ANSWER),
            Way::Back => {
                // TERM to an srun whose job is pending cancels the job.
                self.link.signal(Signal::TERM);
                Some(BACK)
            }
            Way::Over => {
                self.link.stdin = None;
                Some(AFTER)
            }
        }
    }

    fn take(&mut self, control: Control) -> io::Result<()> {
        match control {
            Control::Go => Ok(()),
            Control::End(why) => self.ask(&why),
        }
    }

    fn ask(&mut self, why: &str) -> io::Result<()> {
        if self.state.asked.is_none() && !self.state.is_over() {
            self.state.asked = Some(why.to_owned());
            self.link.push(&ToNode::Stop)?;
        }
        Ok(())
    }

    /// Handles the frames that arrived.
    fn hear(&mut self) -> io::Result<()> {
        loop {
            let (say, data) = match self.link.reader.next::<ToHost>() {
                Ok(Some(both)) => both,
                Ok(None) => return Ok(()),
                Err(odd) => return Err(io::Error::other(odd)),
            };
            match say {
                ToHost::Started { job, node, held } => {
                    tracing::info!(job, node, engine = held.as_str(), "started");
                    self.state.started = true;
                    self.ledger.phase = Phase::Running;
                    self.ledger.job = Some(job).filter(|job| *job > 0);
                    held.as_str().clone_into(&mut self.ledger.engine);
                    self.ledger.reason.clear();
                    self.ledger.running_since = Some(now_ms());
                    self.ledger.write(&self.job.dir)?;
                    point("slurm started");
                    let control = (self.tell)(Event::Started(process::identify(self.link.pid)?));
                    self.take(control)?;
                }
                ToHost::Stdout => {
                    self.sinks.out(&data);
                    let control = (self.tell)(Event::Stdout(&data));
                    self.take(control)?;
                }
                ToHost::Stderr => {
                    self.sinks.err(&data);
                    let control = (self.tell)(Event::Stderr(&data));
                    self.take(control)?;
                }
                ToHost::Ended(ended) => self.state.ended = Some(ended),
                ToHost::Refused { because, held, why } => {
                    let held = if held == Held::Unconfined { self.run.engine.held() } else { held };
                    self.state.declined = Some((because, held, why));
                }
            }
        }
    }

    /// Why it is pending; some reasons never pass.
    fn wait_in_queue(&mut self) {
        let rows = match queue::list(std::slice::from_ref(&self.job.name)) {
            Ok(rows) => rows,
            Err(e) => return tracing::debug!("{}: {e}", self.job.name),
        };
        let Some(row) = rows.into_iter().max_by_key(|row| row.job).filter(|row| row.state == "PENDING") else { return };
        if never_starts(&row.reason) {
            self.state.never = Some(format!(
                "its Slurm job would never start ({}): correct partition, cpus, memory, gres or constraint under slurm",
                row.reason
            ));
        }
        if (self.ledger.job, &self.ledger.reason) != (Some(row.job), &row.reason) {
            self.ledger.job = Some(row.job);
            self.ledger.reason = row.reason;
            self.ledger.keep(&self.job.dir);
        }
    }
}

/// The state of a job, for its supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    On,
    /// It runs, and was asked to end.
    Asked,
    /// It is pending, and is being cancelled.
    Back,
    /// Its node reported the end.
    Over,
}
