//! The abstract state: what the rows, the files and the processes of a small installation can be, without anything that
//! no decision reads (texts, times but "due", absolute numbers of attempts and epochs).

use crate::decide::gates::testing::{self, sha};
use crate::model::deploy::{DeployEnd, DeployResult};
use crate::model::evidence::EvidenceVerdict;
use crate::model::finding::{Finding, Origin};
use crate::model::gate::Gate;
use crate::model::ids::{JobId, Key, TaskId};
use crate::model::policy::Policy;
use crate::model::stage::{JobKind, JobStatus, Stage};
use crate::model::task::{Actor, Deploy, DeployState, Evidence, Freeze, Job, Lease, Task, Waiting};
use crate::model::time::Stamp;
use crate::model::view::{Blocker, Busy, Place, QueueView, TaskView};
use crate::model::watch::Watch;
use crate::model::window::Window as Open;
use crate::model::withdrawal::Withdrawal;

pub const NOW: i64 = 1_000_000;
/// Of a row of this stay and attempt.
const EPOCH: i64 = 5;

/// How the commit that a row judged is related to the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rel {
    Same,
    /// Our own update with equal patches made the head from it.
    Updated,
    Other,
}

/// The newest evidence of a gate (and every `tool_error` behind it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Row {
    pub gate: Gate,
    pub verdict: EvidenceVerdict,
    /// Of this stay in the stage.
    pub fresh: bool,
    /// Of this attempt.
    pub attempt: bool,
    pub rel: Rel,
    /// Made under the lease as it is held now.
    pub fence: bool,
}

/// How far a claimed job has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// `spawned`: its supervisor was started and has not reported yet.
    Claimed {
        spawned: bool,
    },
    Live,
    Exited(Out),
}

/// What a run reports in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Out {
    Verdict(EvidenceVerdict),
    /// Failed, counted.
    Failed,
    /// An outage or a limit: back to the queue, nothing spent.
    Again,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Run {
    pub phase: Phase,
    pub supervisor: bool,
    /// An agent: its process lives. A deploy: this wrapper took the right to run the command.
    pub agent: bool,
    pub dead_seen: bool,
    /// The task is still in the stay that the run was made for.
    pub present: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    pub kind: JobKind,
    pub due: bool,
    pub run: Option<Run>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    Closed,
    /// Our own update of the branch: whether its process lives, whether the push landed.
    Update {
        alive: bool,
        pushed: bool,
    },
    Deploy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Res {
    Success,
    Safe,
    Unknown,
}

/// A deploy that was not withdrawn: row, files and the world outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct D {
    pub state: DeployState,
    /// Of this attempt.
    pub ours: bool,
    /// The process that lands it lives.
    pub actor: bool,
    /// It was allowed to merge (the intent is recorded).
    pub going: bool,
    pub merged: bool,
    /// The file that is the only right to run the command.
    pub started: bool,
    /// The command was started, and whether it is running.
    pub ran: bool,
    pub command: bool,
    pub result: Option<Res>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct T {
    pub stage: Stage,
    /// Reworks since the budget was last filled.
    pub rounds: i8,
    pub rows: Vec<Row>,
    /// Failed in this stay: kind, counted, how many.
    pub fails: Vec<(JobKind, bool, u8)>,
    pub job: Option<Entry>,
    pub waiting: Option<Waiting>,
    pub released: Option<Waiting>,
    pub blocked: bool,
    pub held: bool,
    pub last: Option<Gate>,
    pub same: u8,
    pub withdrawn: bool,
    pub stop: bool,
    /// A stop that is being carried out has ended jobs and processes.
    pub stopping: bool,
    pub window: Window,
    /// A person pushed to the branch, and nobody has checked yet.
    pub foreign: bool,
    pub deploy: Option<D>,
    pub landed: bool,
    pub armed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub tasks: Vec<T>,
    /// Per repository: who holds its merge lease, and whether it is frozen.
    pub lease: [Option<u8>; 2],
    pub frozen: [bool; 2],
    pub halted: bool,
    /// How many more processes may die, and how many more things people may do out of turn.
    pub crashes: u8,
    pub acts: u8,
}

/// What does not change: the rules, and where each task lives.
pub struct Setting {
    pub policy: Policy,
    /// Per task its repository, 0 or 1.
    pub repo: Vec<usize>,
    /// Per task the tasks that block it.
    pub blocked_by: Vec<Vec<usize>>,
    pub acts: Vec<Act>,
    pub outcomes: Outcomes,
    pub crashes: u8,
    pub people: u8,
}

/// How much goes wrong in the outside world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcomes {
    All,
    /// Success, or *no*; no tool errors, no failed runs.
    Verdicts,
    Well,
}

/// What people may do out of turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Stop,
    Halt,
    Freeze,
    Withdraw,
    Push,
    Reject,
}

pub fn key(i: usize) -> Key {
    Key::parse(&format!("ORCH-{}", i + 1)).unwrap()
}

pub fn repo_name(r: usize) -> String {
    ["orch", "other"][r].to_owned()
}

pub fn project_name(r: usize) -> String {
    ["ORCH", "OTHER"][r].to_owned()
}

fn stamp() -> Stamp {
    Stamp { wall_ms: NOW, mono_ms: NOW, boot_id: "b".into() }
}

pub fn actor() -> Actor {
    Actor { boot_id: "b".into(), pid: 1, start_ticks: 1 }
}

impl T {
    pub fn new() -> Self {
        Self {
            stage: Stage::Created,
            rounds: 0,
            rows: vec![],
            fails: vec![],
            job: None,
            waiting: None,
            released: None,
            blocked: false,
            held: false,
            last: None,
            same: 0,
            withdrawn: false,
            stop: false,
            stopping: false,
            window: Window::Closed,
            foreign: false,
            deploy: None,
            landed: false,
            armed: false,
        }
    }

    pub fn run(&self) -> Option<Run> {
        self.job.and_then(|j| j.run)
    }

    /// Adds a row, and drops those that no gate reads any more.
    pub fn add(&mut self, gate: Gate, verdict: EvidenceVerdict) {
        let row = Row { gate, verdict, fresh: true, attempt: true, rel: Rel::Same, fence: true };
        let error = verdict == EvidenceVerdict::ToolError;
        self.rows.retain(|r| r.gate != gate || (error && *r == row));
        self.rows.push(row);
        self.rows.sort_by_key(|r| r.gate);
    }

    /// A new head: what was judged is related to it as given.
    pub fn moved(&mut self, equal: bool) {
        for r in &mut self.rows {
            r.rel = match r.rel {
                Rel::Same | Rel::Updated if equal => Rel::Updated,
                Rel::Same | Rel::Updated | Rel::Other => Rel::Other,
            };
        }
    }

    /// Counts a failed run, as far as any rule counts it.
    pub fn failed(&mut self, kind: JobKind, spent: bool) {
        let counts = match kind {
            JobKind::Agent | JobKind::Deploy => 4,
            _ => 1,
        };
        match self.fails.iter_mut().find(|f| f.0 == kind && f.1 == spent) {
            Some(f) => f.2 = (f.2 + 1).min(counts),
            None => self.fails.push((kind, spent, 1)),
        }
        self.fails.sort_unstable();
    }

    fn task(&self, i: usize, repo: usize) -> Task {
        let given = |on: bool, why: &str| on.then(|| why.to_owned());
        let findings = |g: Gate| vec![Finding { source: Origin::Gate(g), text: "because".into() }];
        Task {
            project: project_name(repo),
            repo: repo_name(repo),
            attempt: 1 + i64::from(self.rounds),
            epoch: EPOCH,
            waiting_for: self.waiting,
            released: self.released,
            blocked_reason: given(self.blocked, "blocked"),
            held_findings: self.held.then(Vec::new),
            findings: self.last.map(findings).unwrap_or_default(),
            findings_same: i64::from(self.same),
            withdrawn: self.withdrawn.then(|| Withdrawal::BranchGone { branch: "b".into() }),
            critical: match self.window {
                Window::Closed => None,
                Window::Update { .. } => Some(Open::Update),
                Window::Deploy => Some(Open::Deploy { id: "1".into() }),
            },
            stop_requested_at: self.stop.then_some(1),
            landed_sha: self.landed.then(|| sha('e')),
            watch: self.armed.then_some(Watch::Armed),
            ..testing::task(i64::try_from(i).unwrap() + 1, self.stage)
        }
    }

    fn evidence(&self) -> Vec<Evidence> {
        let listed = testing::listed(vec![]);
        let mut rows: Vec<Evidence> =
            vec![Evidence { detail: listed, ..testing::row("verdict_inputs", EvidenceVerdict::Pass) }];
        let at = |rel| match rel {
            Rel::Same => (sha('a'), "T"),
            Rel::Updated => (sha('c'), "U"),
            Rel::Other => (sha('d'), "O"),
        };
        if self.rows.iter().any(|r| r.rel == Rel::Updated) {
            let mut carry = testing::row("carry", EvidenceVerdict::Pass);
            carry.detail = testing::updated("U", 'c', true);
            rows.push(carry);
        }
        rows.extend(self.rows.iter().map(|r| Evidence {
            sha: at(r.rel).0,
            code_tree: at(r.rel).1.into(),
            epoch: if r.fresh { EPOCH } else { EPOCH - 1 },
            attempt: if r.attempt { 1 } else { 0 } + i64::from(self.rounds),
            detail: testing::under(if r.fence { 7 } else { 6 }),
            ..testing::row(r.gate.as_str(), r.verdict)
        }));
        rows
    }

    fn job_row(&self, i: usize, entry: &Entry) -> Job {
        Job {
            id: JobId(i64::try_from(i).unwrap() + 1),
            task_id: TaskId(i64::try_from(i).unwrap() + 1),
            stage: self.stage,
            kind: entry.kind,
            agent: if entry.kind == JobKind::Agent { self.stage.agent() } else { None },
            attempt: 1,
            epoch: EPOCH,
            status: if entry.run.is_some() { JobStatus::Running } else { JobStatus::Queued },
            token: None,
            subject: None,
            available_at: if entry.due { 0 } else { NOW + 1000 },
            priority: 2,
            reason: None,
            spent: false,
            cause: None,
            again: 0,
        }
    }
}

impl World {
    pub fn new(s: &Setting) -> Self {
        Self {
            tasks: s.repo.iter().map(|_| T::new()).collect(),
            lease: [None; 2],
            frozen: [false; 2],
            halted: false,
            crashes: s.crashes,
            acts: s.people,
        }
    }

    /// What `decide` is asked with. `me`: the asking process lands the task's deploy itself.
    pub fn view(&self, i: usize, s: &Setting, me: bool) -> TaskView {
        let t = &self.tasks[i];
        let repo = s.repo[i];
        let ended = t.fails.iter().flat_map(|(kind, spent, n)| {
            let entry = Entry { kind: *kind, due: true, run: None };
            (0..*n).map(move |_| Job { status: JobStatus::Failed, spent: *spent, ..t.job_row(i, &entry) })
        });
        let undeployed = self
            .tasks
            .iter()
            .enumerate()
            .find(|(n, o)| *n != i && s.repo[*n] == repo && o.landed && !o.stage.is_terminal());
        TaskView {
            task: t.task(i, repo),
            live_job: t.job.as_ref().map(|j| t.job_row(i, j)),
            ended: ended.collect(),
            evidence: t.evidence(),
            lease: self.lease[repo].map(|n| Lease {
                repo: repo_name(repo),
                fence: 7,
                task_id: Some(TaskId(i64::from(n) + 1)),
                actor: None,
                acquired_at: None,
                renewed_at: None,
            }),
            lease_holder: None,
            deploy: t.deploy.map(|d| deploy_row(i, repo, t, &d)),
            freeze: self.frozen[repo].then(|| freeze(repo)),
            undeployed: undeployed.map(|(n, _)| key(n)),
            halted: self.halted.then(|| "by hand".to_owned()),
            deploy_held: !me && t.deploy.is_some_and(|d| d.state == DeployState::Initiated && d.actor),
            awaits: None,
            auto: None,
            now: stamp(),
        }
    }

    pub fn queue(&self, s: &Setting) -> QueueView {
        let open = |t: &T| !t.stage.is_terminal() || t.job.is_some();
        let places = self.tasks.iter().enumerate().filter(|(_, t)| open(t)).map(|(i, t)| {
            let id = TaskId(i64::try_from(i).unwrap() + 1);
            (
                id,
                Place {
                    id,
                    key: key(i),
                    project: project_name(s.repo[i]),
                    repo: repo_name(s.repo[i]),
                    stage: t.stage,
                    started: t.stage != Stage::Created && !t.stage.is_terminal(),
                    blocked_by: s.blocked_by[i].iter().map(|n| key(*n)).collect(),
                    withdrawn: t.withdrawn,
                    stop_requested: t.stop,
                    blocked: t.blocked,
                    on_red_base: false,
                },
            )
        });
        let jobs = |running: bool| {
            self.tasks
                .iter()
                .enumerate()
                .filter_map(move |(i, t)| t.job.filter(|j| j.run.is_some() == running).map(|j| (i, t.job_row(i, &j))))
        };
        let blocker = |n: usize| match self.tasks[n].stage {
            Stage::Done => Blocker::Met,
            Stage::Cancelled => Blocker::Cancelled,
            _ => Blocker::Open,
        };
        QueueView {
            board: Default::default(),
            bases: std::collections::BTreeMap::new(),
            unseen: std::collections::BTreeMap::new(),
            queued: jobs(false).map(|(_, j)| j).collect(),
            running: jobs(true)
                .map(|(i, j)| Busy { kind: j.kind, agent: j.agent, project: project_name(s.repo[i]) })
                .collect(),
            places: places.collect(),
            blockers: s.blocked_by.iter().flatten().map(|n| (key(*n), blocker(*n))).collect(),
            freezes: (0..2).filter(|r| self.frozen[*r]).map(freeze).collect(),
            freezes_unreadable: false,
            halted: self.halted.then(|| "by hand".to_owned()),
            cooldowns: vec![],
            day_micros: 0,
            task_micros: std::collections::BTreeMap::new(),
            most_expensive: std::collections::BTreeMap::new(),
            free_mb: None,
            confinement: vec![],
            now: stamp(),
        }
    }

    /// Whether nothing is left to do.
    pub fn over(&self) -> bool {
        self.tasks.iter().all(|t| t.stage.is_terminal() && !t.armed && t.job.is_none())
    }

    pub fn free_lease(&mut self, i: usize, s: &Setting) {
        let repo = s.repo[i];
        if self.lease[repo] == Some(u8::try_from(i).unwrap()) {
            self.lease[repo] = None;
            for r in &mut self.tasks[i].rows {
                r.fence = false;
            }
        }
    }
}

fn freeze(repo: usize) -> Freeze {
    Freeze { repo: repo_name(repo), reason: "by hand".into(), task_id: None, since: 0 }
}

fn deploy_row(i: usize, repo: usize, t: &T, d: &D) -> Deploy {
    let status = d.result.map(|r| match r {
        Res::Success => DeployEnd::Success,
        Res::Safe => DeployEnd::FailedSafe,
        Res::Unknown => DeployEnd::FailedUnknown,
    });
    Deploy {
        id: "1".into(),
        task_id: TaskId(i64::try_from(i).unwrap() + 1),
        repo: repo_name(repo),
        attempt: if d.ours { 1 } else { 0 } + i64::from(t.rounds),
        fence: 7,
        head: sha('a'),
        base: sha('b'),
        tree: "T".into(),
        state: d.state,
        actor: actor(),
        landed_sha: (d.state != DeployState::Initiated).then(|| sha('e')),
        result: status.filter(|_| d.state == DeployState::Settled).map(|end| DeployResult {
            end,
            why: end.to_string(),
            log: String::new(),
        }),
        initiated_at: stamp(),
    }
}
