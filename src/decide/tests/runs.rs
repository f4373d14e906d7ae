//! A claimed job from its supervisor's first act to its settlement, or to its reaping.

use super::invariants as hold;
use super::steps::{By, Steps, drive};
use super::world::{D, Entry, NOW, Out, Outcomes, Phase, Res, Run, T, actor};
use crate::decide::reap::{self, Reap, ReapPolicy, Seen, reap};
use crate::model::evidence::EvidenceVerdict as V;
use crate::model::gate::Gate;
use crate::model::stage::{JobKind, Stage};
use crate::model::task::{self, DeployState, RunState};
use crate::model::time::Stamp;

impl Steps<'_> {
    /// A claimed job: supervisor, agent, reaper.
    pub(super) fn run(&mut self, i: usize) {
        let t = self.from.tasks[i].clone();
        let Some(entry) = t.job else { return };
        if !entry.due && entry.run.is_none() {
            self.with(By::Itself, "its wait is over", i, |t| t.job.as_mut().unwrap().due = true);
        }
        let Some(run) = entry.run else { return };
        self.reaped(i, &t, &entry, &run);
        if !run.supervisor {
            return;
        }
        self.dies("the supervisor", i, |t| set(t, |r| r.supervisor = false));
        match run.phase {
            Phase::Claimed { .. } => {
                let goes = entry.kind != JobKind::Agent || !(self.from.halted || t.stop);
                if goes {
                    self.with(By::Itself, "adopted", i, |t| {
                        assert!(t.run().is_some_and(|r| !r.agent));
                        set(t, |r| {
                            r.phase = Phase::Live;
                            r.agent = entry.kind == JobKind::Agent;
                        });
                    });
                } else {
                    self.settle(i, Out::Again, "held before its start");
                }
            }
            Phase::Live if entry.kind == JobKind::Agent => {
                for out in self.outcomes(&t, entry.kind) {
                    self.with(By::Itself, &format!("exits {out:?}"), i, |t| {
                        set(t, |r| {
                            r.phase = Phase::Exited(out);
                            r.agent = false;
                        });
                    });
                }
            }
            Phase::Live if entry.kind == JobKind::Deploy => self.wrapper(i, &t),
            Phase::Live if entry.kind == JobKind::DeployFinalizer => self.finalizer(i, &t),
            Phase::Live => {
                for out in self.outcomes(&t, entry.kind) {
                    self.settle(i, out, "says");
                }
            }
            Phase::Exited(out) => self.settle(i, out, "settles"),
        }
    }

    fn outcomes(&self, t: &T, kind: JobKind) -> Vec<Out> {
        let no = match kind {
            JobKind::Agent => matches!(t.stage, Stage::Review | Stage::Testing | Stage::DeployStaging),
            JobKind::Ci | JobKind::Scan => true,
            _ => false,
        };
        let mut all = vec![Out::Verdict(V::Pass)];
        if no && self.s.outcomes != Outcomes::Well {
            all.push(Out::Verdict(V::Fail));
        }
        if self.s.outcomes == Outcomes::All {
            all.push(Out::Again);
            all.push(if kind == JobKind::Agent { Out::Failed } else { Out::Verdict(V::ToolError) });
        }
        all
    }

    /// As `engine::reserved::deploy`: the file that is the right, the row, the command, its result.
    fn wrapper(&mut self, i: usize, t: &T) {
        let Some(d) = t.deploy.filter(|d| matches!(d.state, DeployState::Landed | DeployState::Started)) else {
            return self.settle(i, Out::Verdict(V::Pass), "finds nothing to deploy");
        };
        let mine = t.run().is_some_and(|r| r.agent);
        let put = |t: &mut T, d: D| t.deploy = Some(d);
        match d.state {
            DeployState::Landed if !d.started => self.with(By::Itself, "the right is taken", i, |t| {
                put(t, D { started: true, ..d });
                set(t, |r| r.agent = true);
            }),
            DeployState::Landed => {
                self.with(By::Itself, "started is recorded", i, |t| put(t, D { state: DeployState::Started, ..d }));
            }
            _ if mine && !d.ran => {
                hold::starting(self.from, i);
                self.with(By::Itself, "the command starts", i, |t| put(t, D { ran: true, command: true, ..d }));
            }
            _ if mine && d.command => {
                let all: &[Res] = if self.s.outcomes == Outcomes::Well {
                    &[Res::Success]
                } else {
                    &[Res::Success, Res::Safe, Res::Unknown]
                };
                for r in all {
                    self.with(By::Itself, &format!("the command ends, {r:?}"), i, |t| {
                        put(t, D { command: false, result: Some(*r), ..d });
                    });
                }
            }
            _ => self.settle(i, Out::Verdict(V::Pass), "has deployed"),
        }
    }

    /// As `engine::reserved::finalizer`: the result's meaning first, then the run's end.
    fn finalizer(&mut self, i: usize, t: &T) {
        match t.deploy {
            Some(d) if d.state == DeployState::Started && d.command => {
                self.settle(i, Out::Again, "finds no result yet");
                // A command whose wrapper was killed ends with a result of its own, or with none.
                for result in [None, Some(Res::Success)] {
                    self.with(By::Itself, "an orphaned command ends", i, |t| {
                        t.deploy = Some(D { command: false, result, ..d });
                    });
                }
            }
            Some(d) if d.state == DeployState::Started => {
                let result = Some(d.result.unwrap_or(Res::Unknown));
                self.with(By::Itself, "the result is recorded", i, |t| {
                    t.deploy = Some(D { state: DeployState::Settled, result, ..d });
                });
            }
            Some(_) | None => self.settle(i, Out::Verdict(V::Pass), "has finalized"),
        }
    }

    /// As `engine::settle`: evidence, job and the move they allow in one transaction.
    fn settle(&mut self, i: usize, out: Out, what: &str) {
        let mut w = self.from.clone();
        let t = &mut w.tasks[i];
        let entry = t.job.unwrap();
        let run = entry.run.unwrap();
        // The fence: a stopped task's agents have no say any more.
        if entry.kind == JobKind::Agent && t.stop {
            return;
        }
        t.job = None;
        match out {
            Out::Verdict(v) if run.present => match (entry.kind, gate_of(entry.kind, t.stage)) {
                (JobKind::PostDeployMonitor, _) => t.armed = false,
                (JobKind::Agent, Some(Gate::BranchPushed)) => {
                    t.moved(false);
                    t.rows.retain(|r| r.fresh);
                    t.add(Gate::BranchPushed, v);
                }
                (_, Some(gate)) => t.add(gate, v),
                (_, None) => {}
            },
            Out::Verdict(_) => {}
            Out::Failed => t.failed(entry.kind, true),
            Out::Again => t.job = Some(Entry { due: false, run: None, ..entry }),
        }
        drive(&mut w, i, self.s);
        self.push(By::Itself, format!("{}: {} {what} {out:?}", i + 1, entry.kind), w);
    }

    /// The reaper checks a run, late enough for every bound but the longest, and later than that.
    fn reaped(&mut self, i: usize, t: &T, entry: &Entry, run: &Run) {
        let all: &[bool] = if self.s.outcomes == Outcomes::All { &[false, true] } else { &[false] };
        for overdue in all.iter().copied() {
            let row = run_row(run);
            let mono = if overdue { 20_000 } else { 5_000 };
            let seen = match (run.supervisor, overdue) {
                (true, _) => Seen::Alive,
                (false, false) => Seen::Suspected,
                (false, true) => Seen::Dead,
            };
            let now = Stamp { wall_ms: NOW, mono_ms: mono, boot_id: "b".into() };
            match reap(&row, seen, None, &REAPER, &now) {
                Reap::Leave => {}
                Reap::Forget => self.with(By::Itself, "seen alive again", i, |t| set(t, |r| r.dead_seen = false)),
                Reap::Count { .. } => self.with(By::Itself, "seen dead", i, |t| set(t, |r| r.dead_seen = true)),
                Reap::GiveBack => {
                    assert!(!run.agent, "a run with living processes is given back: {t:?}");
                    self.with(By::Itself, "claim given back", i, |t| {
                        t.job = Some(Entry { due: true, run: None, ..*entry });
                    });
                }
                Reap::Finalize => {
                    self.with(By::Itself, "finalizer started", i, |t| set(t, |r| r.supervisor = true));
                }
                Reap::Lost | Reap::Overdue => {
                    let mut w = self.from.clone();
                    let t = &mut w.tasks[i];
                    // A stopped task is settled by its stop.
                    if t.stop && entry.kind == JobKind::Agent {
                        continue;
                    }
                    t.job = None;
                    t.failed(entry.kind, overdue && run.supervisor);
                    drive(&mut w, i, self.s);
                    self.push(By::Itself, format!("{}: reaped", i + 1), w);
                }
            }
            if run.dead_seen && !run.supervisor {
                break;
            }
        }
    }
}

pub fn set(t: &mut T, change: impl FnOnce(&mut Run)) {
    if let Some(Entry { run: Some(run), .. }) = &mut t.job {
        change(run);
    }
}

fn gate_of(kind: JobKind, stage: Stage) -> Option<Gate> {
    match kind {
        JobKind::Ci => Some(Gate::CiGreen),
        JobKind::Scan => Some(Gate::SecurityGate),
        JobKind::Agent => match stage {
            Stage::Analysis => Some(Gate::AnalysisComplete),
            Stage::Architecture => Some(Gate::ArchitectureDone),
            Stage::Development => Some(Gate::BranchPushed),
            Stage::Review => Some(Gate::ReviewVerdict),
            Stage::Testing => Some(Gate::TestsVerdict),
            Stage::DeployStaging => Some(Gate::StagingStatus),
            Stage::Created | Stage::Deploy | Stage::Done | Stage::Cancelled => None,
        },
        _ => None,
    }
}

const REAPER: ReapPolicy = ReapPolicy {
    dead_ticks: 2,
    spacing_ms: 0,
    finalize_grace_ms: 300,
    max_running_ms: 10_000,
    start_ms: 500,
    orphan_start_ms: 100,
};

fn run_row(run: &Run) -> task::Run {
    let at = |ms| Stamp { wall_ms: NOW, mono_ms: ms, boot_id: "b".into() };
    let state = match run.phase {
        Phase::Claimed { .. } => RunState::Starting,
        Phase::Live => RunState::Live,
        Phase::Exited(_) => RunState::Exited,
    };
    task::Run {
        claimed_at: at(0),
        supervisor: Some(actor()),
        dead_seen: i64::from(run.dead_seen),
        dead_seen_at: run.dead_seen.then(|| at(0)),
        exited_at: Some(at(0)),
        ..reap::tests::run(state)
    }
}
