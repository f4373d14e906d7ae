//! What can happen next: every transaction, effect, outcome, death and act of a person as one edge. Decisions come from
//! the product's own functions; their consequences are modelled here as `engine` carries them out.

use super::invariants as hold;
use super::world::{Act, D, Entry, NOW, Outcomes, Phase, Rel, Run, Setting, T, Window, World};
use crate::decide::transition::{decide, send_back};
use crate::decide::{changes, dispatch};
use crate::model::change::Budget;
use crate::model::decision::{Decision, Procedure};
use crate::model::edges::{Edge as Along, leads};
use crate::model::evidence::EvidenceVerdict as V;
use crate::model::finding::{Finding, Origin};
use crate::model::gate::Gate;
use crate::model::stage::{JobKind, Stage};
use crate::model::task::DeployState;

/// Who makes an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A step, an outcome, time: what happens without a person.
    Itself,
    Person,
    /// A process dies.
    Death,
}

pub struct Edge {
    pub by: By,
    pub what: String,
    pub to: World,
}

pub struct Steps<'a> {
    pub(super) s: &'a Setting,
    pub(super) from: &'a World,
    pub edges: Vec<Edge>,
}

/// More decisions than any chain without an outside effect has (`engine::apply` has the same bound).
const MOST_ROUNDS: usize = 24;

/// Every edge out of a world.
pub fn from(w: &World, s: &Setting) -> Vec<Edge> {
    let mut all = Steps { s, from: w, edges: Vec::new() };
    all.tick();
    for i in 0..w.tasks.len() {
        all.idle(i);
        all.run(i);
        all.hands(i);
        all.people(i);
    }
    all.shared();
    all.edges
}

/// Moves along an edge of the product's own table.
pub fn enter(t: &mut T, edge: Along, to: Stage) {
    assert!(leads(edge, t.stage, to), "{edge} from {} to {to} is not an edge", t.stage);
    t.stage = to;
    t.waiting = None;
    t.released = None;
    t.fails.clear();
    for r in &mut t.rows {
        r.fresh = false;
    }
    if let Some(Entry { run: Some(run), .. }) = &mut t.job {
        run.present = false;
    }
}

/// Applies what the database alone can carry out, as one transaction; returns the decision at which it stopped.
pub fn drive(w: &mut World, i: usize, s: &Setting) -> Decision {
    for _ in 0..MOST_ROUNDS {
        let before = w.clone();
        let decision = decide(&w.view(i, s, false), &s.policy);
        if matches!(decision, Decision::Hold { .. } | Decision::Procedure(_)) {
            return decision;
        }
        apply(w, i, s, &decision);
        hold::decided(&before, w, i, s, &decision);
    }
    panic!("decisions for {} go round: {:?}", i + 1, w.tasks[i]);
}

/// Carries out a decision here, and checks that the product's own change of the row is the same.
fn apply(w: &mut World, i: usize, s: &Setting, decision: &Decision) {
    let view = w.view(i, s, false);
    carry_out(w, i, s, decision);
    let mut row = view.task.clone();
    if let Some(change) = changes::of(&view, decision) {
        row.apply(change).unwrap_or_else(|illegal| panic!("{illegal}"));
    }
    hold::agree(&row, &w.view(i, s, false).task);
}

fn carry_out(w: &mut World, i: usize, s: &Setting, decision: &Decision) {
    if let Decision::Rollback { .. } | Decision::Return { .. } | Decision::Block { .. } | Decision::Finish { .. } =
        decision
    {
        w.free_lease(i, s);
    }
    let t = &mut w.tasks[i];
    match decision {
        Decision::Hold { .. } | Decision::Procedure(_) => {}
        Decision::Enqueue(job) => {
            assert!(t.job.is_none(), "a second live job: {t:?}");
            t.job = Some(Entry { kind: job.kind, due: job.available_at <= NOW, run: None });
        }
        Decision::Park { waiting, .. } => t.waiting = Some(*waiting),
        Decision::Release { waiting, .. } => {
            t.released = Some(*waiting);
            t.waiting = None;
        }
        Decision::Advance { to, .. } => enter(t, Along::Advance, *to),
        Decision::Return { to, .. } => enter(t, Along::Return, *to),
        Decision::Rollback { findings, same, .. } => {
            enter(t, Along::Rollback, Stage::Development);
            t.rounds += 1;
            t.last = findings.first().and_then(|f| if let Origin::Gate(g) = f.source { Some(g) } else { None });
            t.same = u8::try_from(*same).unwrap();
            t.window = Window::Closed;
            t.rows.iter_mut().for_each(|r| r.attempt = false);
            if let Some(d) = &mut t.deploy {
                d.ours = false;
            }
            if t.landed {
                t.moved(false);
            }
            t.rows.retain(|r| r.rel != Rel::Other);
        }
        Decision::Block { held, freeze, .. } => {
            t.blocked = true;
            t.held = held.is_some();
            t.window = Window::Closed;
            if *freeze {
                w.frozen[s.repo[i]] = true;
            }
        }
        Decision::Finish { watch, .. } => {
            enter(t, Along::Advance, Stage::Done);
            t.rows.clear();
            t.last = None;
            t.same = 0;
            t.window = Window::Closed;
            t.armed = *watch;
        }
    }
}

impl Steps<'_> {
    pub(super) fn push(&mut self, by: By, what: impl Into<String>, to: World) {
        self.edges.push(Edge { by, what: what.into(), to });
    }

    pub(super) fn with(&mut self, by: By, what: &str, i: usize, change: impl FnOnce(&mut T)) {
        let mut to = self.from.clone();
        change(&mut to.tasks[i]);
        self.push(by, format!("{}: {what}", i + 1), to);
    }

    /// A process of the task dies.
    pub(super) fn dies(&mut self, what: &str, i: usize, change: impl FnOnce(&mut T)) {
        if self.from.crashes > 0 {
            let mut to = self.from.clone();
            to.crashes -= 1;
            change(&mut to.tasks[i]);
            self.push(By::Death, format!("{}: {what} dies", i + 1), to);
        }
    }

    /// A tick claims what it may and starts it, or dies right after its claims.
    fn tick(&mut self) {
        let queue = self.from.queue(self.s);
        if queue.queued.is_empty() {
            return;
        }
        let plan = dispatch::plan(&queue, &self.s.policy, None, usize::MAX);
        hold::planned(self.from, self.s, &queue, &plan);
        if plan.claims.is_empty() {
            return;
        }
        for spawned in [true, false] {
            if !spawned && self.from.crashes == 0 {
                continue;
            }
            let mut to = self.from.clone();
            for claim in &plan.claims {
                let t = &mut to.tasks[usize::try_from(claim.task.0).unwrap() - 1];
                let entry = t.job.as_mut().unwrap();
                assert!(entry.run.is_none(), "a job is claimed twice: {t:?}");
                if let Some(stage) = claim.starts {
                    enter(t, Along::Start, stage);
                }
                let phase = Phase::Claimed { spawned };
                let run = Run { phase, supervisor: spawned, agent: false, dead_seen: false, present: true };
                t.job.as_mut().unwrap().run = Some(run);
            }
            if spawned {
                self.push(By::Itself, "tick claims", to);
            } else {
                to.crashes -= 1;
                self.push(By::Death, "tick claims and dies", to);
            }
        }
    }

    /// A step moves a task that no job works on, or that is to be stopped.
    fn idle(&mut self, i: usize) {
        let t = &self.from.tasks[i];
        let open = !t.stage.is_terminal() || t.armed;
        if !open || (t.job.is_some() && !t.stop) {
            return;
        }
        let mut w = self.from.clone();
        let decision = drive(&mut w, i, self.s);
        hold::explained(&w, i, &decision);
        if w != *self.from {
            self.push(By::Itself, format!("{}: driven", i + 1), w.clone());
        }
        if let Decision::Procedure(effect) = decision {
            self.effect(i, &w, effect);
        }
    }

    fn effect(&mut self, i: usize, w: &World, effect: Procedure) {
        match effect {
            Procedure::MergeGate => self.merge_gate(i, w),
            // Listed at once for every head (`World::view`).
            Procedure::VerdictInputs => {}
            Procedure::OpenDeploy => self.open(i, w),
            Procedure::Land => {
                // Only a dead lander is replaced.
                let mut to = w.clone();
                let d = to.tasks[i].deploy.as_mut().unwrap();
                assert!(!d.actor, "two processes land one deploy");
                d.actor = true;
                d.going = false;
                self.push(By::Itself, format!("{}: landing is taken over", i + 1), to);
            }
            Procedure::CompleteStop => self.stop(i, w),
            Procedure::OpenPull => panic!("no forge of these worlds refuses anything"),
        }
    }

    /// As `decide::report::gate`.
    fn merge_gate(&mut self, i: usize, w: &World) {
        let (s, me) = (self.s, u8::try_from(i).unwrap());
        let repo = s.repo[i];
        let mut w = w.clone();
        if w.lease[repo].is_some_and(|l| l != me) || (w.tasks[i].stop && w.tasks[i].window == Window::Closed) {
            return;
        }
        if w.lease[repo].is_none() {
            w.lease[repo] = Some(me);
            self.push(By::Itself, format!("{}: lease taken", i + 1), w.clone());
        }
        if w.tasks[i].foreign {
            let t = &mut w.tasks[i];
            t.foreign = false;
            t.window = Window::Closed;
            t.moved(false);
            self.push(By::Itself, format!("{}: a person's push is seen", i + 1), w);
            return;
        }
        if let Window::Update { alive, pushed } = w.tasks[i].window {
            if alive {
                return;
            }
            for equal in [true, false] {
                let mut to = w.clone();
                let t = &mut to.tasks[i];
                if pushed {
                    adopt(t, equal);
                } else {
                    t.window = Window::Closed;
                }
                self.push(By::Itself, format!("{}: an update is settled", i + 1), to);
            }
            return;
        }
        for (verdict, what) in [(V::Pass, "up to date"), (V::Fail, "conflict")] {
            let mut to = w.clone();
            to.tasks[i].add(Gate::BranchMergeable, verdict);
            self.push(By::Itself, format!("{}: {what}", i + 1), to);
        }
        if !w.tasks[i].stop {
            w.tasks[i].window = Window::Update { alive: true, pushed: false };
            self.push(By::Itself, format!("{}: update begins", i + 1), w);
        }
    }

    /// As `decide::report::deploy`.
    fn open(&mut self, i: usize, w: &World) {
        let mut w = w.clone();
        let t = &mut w.tasks[i];
        if t.foreign {
            t.foreign = false;
            t.moved(false);
            self.push(By::Itself, format!("{}: a person's push is seen", i + 1), w);
            return;
        }
        let mut moved = w.clone();
        moved.tasks[i].add(Gate::BranchMergeable, V::Missing);
        self.push(By::Itself, format!("{}: the base moved", i + 1), moved);
        hold::opened(&w, i, self.s);
        let t = &mut w.tasks[i];
        t.window = Window::Deploy;
        t.deploy = Some(D {
            state: DeployState::Initiated,
            ours: true,
            actor: true,
            going: false,
            merged: false,
            started: false,
            ran: false,
            command: false,
            result: None,
        });
        self.push(By::Itself, format!("{}: deploy opens", i + 1), w);
    }

    /// As `decide::report::stop`: jobs and processes first, then `cancelled`.
    fn stop(&mut self, i: usize, w: &World) {
        let mut to = w.clone();
        let t = &mut to.tasks[i];
        let deploying = t.window == Window::Deploy && t.deploy.is_some_and(|d| d.state != DeployState::Settled);
        if deploying || matches!(t.window, Window::Update { .. }) {
            return;
        }
        if !t.stopping {
            t.job = None;
            t.stopping = true;
            self.push(By::Itself, format!("{}: the stop ends its jobs", i + 1), to);
            return;
        }
        hold::cancelled(w, i);
        to.free_lease(i, self.s);
        let t = &mut to.tasks[i];
        enter(t, Along::Cancel, Stage::Cancelled);
        t.rows.clear();
        t.window = Window::Closed;
        let landed = t.landed;
        if landed {
            to.frozen[self.s.repo[i]] = true;
        }
        self.push(By::Itself, format!("{}: cancelled", i + 1), to);
    }

    /// Effects under way in a living process.
    fn hands(&mut self, i: usize) {
        let t = self.from.tasks[i].clone();
        if let Window::Update { alive: true, pushed } = t.window {
            self.dies("an update", i, |t| t.window = Window::Update { alive: false, pushed });
            if pushed {
                for equal in [true, false] {
                    self.with(By::Itself, "updated", i, |t| adopt(t, equal));
                }
            } else {
                self.with(By::Itself, "update pushed", i, |t| t.window = Window::Update { alive: true, pushed: true });
                self.with(By::Itself, "update rejected", i, |t| t.window = Window::Closed);
            }
        }
        let Some(d) = t.deploy.filter(|d| d.state == DeployState::Initiated && d.actor) else { return };
        self.dies("the lander", i, |t| t.deploy = Some(D { actor: false, going: false, ..d }));
        if d.merged {
            self.with(By::Itself, "landed", i, |t| {
                t.deploy = Some(D { state: DeployState::Landed, actor: false, going: false, ..d });
                t.landed = true;
            });
        } else if !d.going {
            let repo = self.s.repo[i];
            let leased = self.from.lease[repo] == Some(u8::try_from(i).unwrap());
            if t.stop || self.from.halted || !leased {
                self.with(By::Itself, "withdrawn", i, withdraw);
            } else {
                self.with(By::Itself, "may merge", i, |t| t.deploy = Some(D { going: true, ..d }));
            }
        } else if t.foreign {
            self.with(By::Itself, "the branch moved", i, |t| {
                withdraw(t);
                t.add(Gate::BranchMergeable, V::Missing);
            });
        } else {
            hold::merging(self.from, i, self.s);
            self.with(By::Itself, "merged", i, |t| t.deploy = Some(D { merged: true, ..d }));
            if self.s.outcomes == Outcomes::All {
                for freeze in [true, false] {
                    let mut to = self.from.clone();
                    withdraw(&mut to.tasks[i]);
                    block(&mut to, i, self.s, freeze);
                    self.push(By::Itself, format!("{}: the merge is refused", i + 1), to);
                }
            }
        }
    }

    /// What a person says about one task.
    fn people(&mut self, i: usize) {
        let t = self.from.tasks[i].clone();
        if t.stage.is_terminal() {
            return;
        }
        if let Some(waiting) = t.waiting {
            self.with(By::Person, &format!("{waiting} given"), i, |t| {
                t.released = Some(waiting);
                t.waiting = None;
            });
        }
        if t.blocked {
            let mut w = self.from.clone();
            retry(&mut w, i, self.s);
            self.push(By::Person, format!("{}: retried", i + 1), w);
        }
        if t.withdrawn {
            self.with(By::Person, "no more withdrawn", i, |t| t.withdrawn = false);
        }
        if !t.stop && (self.s.acts.contains(&Act::Stop) && self.from.acts > 0 || t.withdrawn) {
            self.act(&format!("{}: stop asked for", i + 1), |w| w.tasks[i].stop = true);
        }
        if self.from.acts == 0 {
            return;
        }
        if self.s.acts.contains(&Act::Withdraw) && !t.withdrawn {
            self.act(&format!("{}: withdrawn", i + 1), |w| w.tasks[i].withdrawn = true);
        }
        if self.s.acts.contains(&Act::Push) && !t.foreign && t.stage > Stage::Development {
            self.act(&format!("{}: a person pushes", i + 1), |w| w.tasks[i].foreign = true);
        }
        let refused = t.stage == Stage::Created || t.window != Window::Closed || t.stop;
        let deploying = t.job.is_some_and(|j| j.run.is_some() && !matches!(j.kind, JobKind::Agent | JobKind::Ci));
        if self.s.acts.contains(&Act::Reject) && !refused && !deploying && t.stage > Stage::Architecture {
            let mut w = self.from.clone();
            w.acts -= 1;
            w.tasks[i].job = None;
            w.tasks[i].blocked = false;
            w.tasks[i].held = false;
            let finding = Finding { source: Origin::Gate(Gate::ReviewVerdict), text: "because".into() };
            let decision = send_back(&w.view(i, self.s, false), &self.s.policy, "no".into(), vec![finding]);
            apply(&mut w, i, self.s, &decision);
            self.push(By::Person, format!("{}: rejected", i + 1), w);
        }
    }

    fn act(&mut self, what: &str, change: impl FnOnce(&mut World)) {
        let mut to = self.from.clone();
        to.acts = to.acts.saturating_sub(1);
        change(&mut to);
        self.push(By::Person, what.to_owned(), to);
    }

    /// Halt, freezes, leases.
    fn shared(&mut self) {
        let acts = |a| self.s.acts.contains(&a) && self.from.acts > 0;
        let (may_halt, may_freeze) = (acts(Act::Halt), acts(Act::Freeze));
        if self.from.halted {
            let to = World { halted: false, ..self.from.clone() };
            self.push(By::Person, "resumed", to);
        } else if may_halt {
            self.act("halted", |w| w.halted = true);
        }
        for repo in 0..2 {
            if self.from.frozen[repo] {
                let mut to = self.from.clone();
                to.frozen[repo] = false;
                self.push(By::Person, "unfrozen", to);
            } else if may_freeze && self.s.repo.contains(&repo) {
                self.act("frozen", |w| w.frozen[repo] = true);
            }
            let Some(i) = self.from.lease[repo].map(usize::from) else { continue };
            let t = &self.from.tasks[i];
            let open = t.deploy.is_some_and(|d| d.state != DeployState::Settled);
            let stale = t.stage.is_terminal() || t.waiting.is_some() || (t.blocked && t.job.is_none());
            if !open && stale {
                let mut to = self.from.clone();
                to.free_lease(i, self.s);
                self.push(By::Itself, "lease reclaimed", to);
            }
        }
    }
}

fn adopt(t: &mut T, equal: bool) {
    t.window = Window::Closed;
    t.moved(equal);
    t.add(Gate::BranchMergeable, V::Pass);
}

fn withdraw(t: &mut T) {
    t.deploy = None;
    t.window = Window::Closed;
}

fn block(w: &mut World, i: usize, s: &Setting, freeze: bool) {
    let decision = Decision::Block { why: "refused".into(), held: None, freeze };
    apply(w, i, s, &decision);
}

/// As `engine::by_hand::retry`.
fn retry(w: &mut World, i: usize, s: &Setting) {
    let t = &mut w.tasks[i];
    t.blocked = false;
    if t.held {
        t.held = false;
        t.rounds = -1;
        t.same = 0;
        let findings = t.last.map(|g| Finding { source: Origin::Gate(g), text: "because".into() });
        let findings = findings.into_iter().collect();
        let decision =
            Decision::Rollback { why: "retried".into(), findings, squash: false, same: 0, budget: Budget::Counts };
        return apply(w, i, s, &decision);
    }
    let still_fresh: Vec<_> =
        t.rows.iter().filter(|r| r.fresh && r.verdict == V::Pass && by_agent(r.gate)).copied().collect();
    let stage = t.stage;
    enter(t, Along::Repeat, stage);
    for row in &mut t.rows {
        row.fresh = still_fresh.iter().any(|r| r.gate == row.gate);
    }
    let stopped = t.stop;
    if let Some(d) = t.deploy.as_mut().filter(|d| d.ours && stage == Stage::Deploy && !stopped) {
        if d.state == DeployState::Settled {
            *d = D { state: DeployState::Landed, started: false, ran: false, command: false, result: None, ..*d };
        }
        t.window = Window::Deploy;
    }
}

fn by_agent(gate: Gate) -> bool {
    let by_code =
        [Gate::CiGreen, Gate::SecurityGate, Gate::BranchMergeable, Gate::StagingImageFresh, Gate::DeployBuild];
    !by_code.contains(&gate)
}
