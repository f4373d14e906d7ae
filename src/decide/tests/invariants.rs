//! What must hold in every state and on every edge (TRUST-1), stated without the gates' own code.

use super::world::{Rel, Res, Row, Setting, T, Window, World};
use crate::decide::dispatch::Dispatch;
use crate::model::decision::Decision;
use crate::model::edges::EDGES;
use crate::model::evidence::EvidenceVerdict as V;
use crate::model::gate::Gate;
use crate::model::policy::CiSource;
use crate::model::stage::{JobKind, Stage};
use crate::model::task::{DeployState, Task, Waiting};
use crate::model::view::QueueView;

fn passed(t: &T, which: impl Fn(&Row) -> bool, gate: Gate) -> bool {
    t.rows.iter().any(|r| r.gate == gate && r.verdict == V::Pass && which(r))
}

/// A decision moved a task: along the table only, and out of no stage without what that stage requires.
pub fn decided(before: &World, after: &World, i: usize, s: &Setting, decision: &Decision) {
    let (a, b) = (&before.tasks[i], &after.tasks[i]);
    let project = s.policy.project(&before.view(i, s, false).task.project).unwrap().clone();
    assert!(!a.blocked, "a blocked task is moved by {decision:?}");
    assert!(!a.withdrawn || a.window != Window::Closed, "a withdrawn task is moved by {decision:?}");
    assert!(!a.stage.is_terminal() || matches!(decision, Decision::Enqueue(_)), "a finished task is moved: {a:?}");
    if a.stop && !a.stage.is_terminal() {
        assert!(a.window != Window::Closed, "a stop is recorded, and {decision:?} comes first: {a:?}");
    }
    let forward = match decision {
        Decision::Advance { to, .. } => Some(*to),
        Decision::Finish { .. } => Some(Stage::Done),
        Decision::Rollback { .. } => {
            assert_eq!(b.stage, Stage::Development);
            assert!(b.same < 2, "the same findings a third time: {a:?}");
            assert!(a.stage >= Stage::Development && i64::from(b.rounds) <= s.policy.developer_retries, "{a:?}");
            None
        }
        Decision::Return { to, .. } => {
            assert!(*to <= a.stage && *to > Stage::Development && project.stages.contains(to), "{a:?} back to {to}");
            None
        }
        Decision::Hold { .. }
        | Decision::Enqueue(_)
        | Decision::Park { .. }
        | Decision::Release { .. }
        | Decision::Block { .. }
        | Decision::Procedure(_) => None,
    };
    let Some(to) = forward else { return };
    assert_eq!(a.stage.next(&project.stages), Some(to), "not the table's next");
    let fresh = |g| passed(a, |r| r.fresh, g);
    let said = match a.stage {
        Stage::Analysis => fresh(Gate::AnalysisComplete) && a.released == Some(Waiting::Approval),
        Stage::Architecture => fresh(Gate::ArchitectureDone),
        Stage::Development => fresh(Gate::BranchPushed) && green(a, s, i),
        Stage::Review => fresh(Gate::ReviewVerdict),
        Stage::Testing => fresh(Gate::TestsVerdict),
        Stage::DeployStaging => fresh(Gate::StagingStatus),
        Stage::Deploy => a.deploy.is_some_and(|d| {
            d.ours && d.merged && d.started && d.state == DeployState::Settled && d.result == Some(Res::Success)
        }),
        Stage::Created | Stage::Done | Stage::Cancelled => false,
    };
    assert!(said, "{} is left without its evidence: {a:?}", a.stage);
    if to == Stage::Deploy {
        landable(before, i, s);
    }
}

/// The product's change of a row and the world's own model of it are the same.
pub fn agree(row: &Task, modelled: &Task) {
    let of = |t: &Task| {
        let held = (t.blocked_reason.is_some(), t.held_findings.is_some(), t.withdrawn.is_some());
        let rounds = (t.attempt, t.findings_same, t.rework);
        (t.stage, t.waiting_for, t.released, held, rounds, t.critical.clone(), t.watch, t.stop_requested_at)
    };
    assert_eq!(of(row), of(modelled), "Task::apply and the exploration differ");
}

fn green(t: &T, s: &Setting, i: usize) -> bool {
    let ci = s.policy.projects.values().nth(s.repo[i]).map(|p| p.ci);
    ci == Some(CiSource::None) || passed(t, |r| r.rel == Rel::Same, Gate::CiGreen)
}

/// Everything that the landing of a head rests on (SHIP-2, RULE-4).
fn landable(w: &World, i: usize, s: &Setting) {
    let t = &w.tasks[i];
    let project = s.policy.projects.values().nth(s.repo[i]).unwrap();
    assert_eq!(w.lease[s.repo[i]], Some(u8::try_from(i).unwrap()), "without the lease: {t:?}");
    assert!(passed(t, |r| r.attempt && r.fence && r.rel == Rel::Same, Gate::BranchMergeable), "not mergeable: {t:?}");
    assert!(green(t, s, i), "CI is not green on the head: {t:?}");
    if project.security {
        assert!(passed(t, |r| r.rel != Rel::Other, Gate::SecurityGate), "the head is not scanned: {t:?}");
    }
    let judged = [
        (Stage::Review, Gate::ReviewVerdict),
        (Stage::Testing, Gate::TestsVerdict),
        (Stage::DeployStaging, Gate::StagingStatus),
    ];
    for (stage, gate) in judged.into_iter().filter(|(stage, _)| project.stages.contains(stage)) {
        assert!(passed(t, |r| r.attempt && r.rel != Rel::Other, gate), "{stage} did not judge this head: {t:?}");
    }
    let others = w.tasks.iter().enumerate().filter(|(n, _)| *n != i && s.repo[*n] == s.repo[i]);
    for (_, o) in others {
        assert!(!o.landed || o.stage.is_terminal(), "another's commit is landed and not deployed: {o:?}");
    }
}

/// The critical window opens (RULE-16, RULE-24).
pub fn opened(w: &World, i: usize, s: &Setting) {
    let t = &w.tasks[i];
    assert!(!t.stop && !t.blocked && !t.withdrawn && !w.halted && !w.frozen[s.repo[i]], "a deploy opens: {t:?}");
    assert!(t.window == Window::Closed && t.job.is_none(), "a deploy opens beside other work: {t:?}");
    assert!(t.deploy.is_none_or(|d| !d.ours), "two deploys in one attempt: {t:?}");
    assert!(t.stage == Stage::Deploy && t.released == Some(Waiting::ConfirmDeploy), "nobody released it: {t:?}");
    landable(w, i, s);
}

/// The merge itself: at most once per deploy, of what was released.
pub fn merging(w: &World, i: usize, s: &Setting) {
    let t = &w.tasks[i];
    assert!(t.deploy.is_some_and(|d| !d.merged && d.state == DeployState::Initiated), "merged twice: {t:?}");
    assert!(t.window == Window::Deploy && !t.blocked && t.stage == Stage::Deploy, "{t:?}");
    if !t.foreign {
        landable(w, i, s);
    }
}

/// The deploy command starts: at most once per deploy, of what landed.
pub fn starting(w: &World, i: usize) {
    let t = &w.tasks[i];
    assert!(
        t.deploy.is_some_and(|d| d.merged && d.started && !d.ran && d.ours && d.state == DeployState::Started),
        "started twice: {t:?}"
    );
    assert!(t.stage == Stage::Deploy && !t.blocked, "{t:?}");
}

/// A stop is carried out: nothing of the task works any more.
pub fn cancelled(w: &World, i: usize) {
    let t = &w.tasks[i];
    assert!(t.stop && t.job.is_none(), "{t:?}");
    assert!(!matches!(t.window, Window::Update { alive: true, .. }), "cancelled under an open window: {t:?}");
    assert!(t.deploy.is_none_or(|d| !d.command && !d.actor), "cancelled under a running deploy: {t:?}");
}

/// Where a task stopped: a hold says why; an armed watch and every task without a job has an answer.
pub fn explained(w: &World, i: usize, decision: &Decision) {
    if let Decision::Hold { why, .. } = decision {
        assert!(!why.is_empty(), "held without a reason: {:?}", w.tasks[i]);
    }
}

/// A plan: limits, the serial gate, what holds everybody; every queued job is claimed or has a reason why not.
pub fn planned(w: &World, s: &Setting, queue: &QueueView, plan: &Dispatch) {
    let task = |c: &crate::model::view::Claim| usize::try_from(c.task.0).unwrap() - 1;
    assert_eq!(plan.claims.len() + plan.held.len(), queue.queued.len(), "a queued job is neither claimed nor held");
    let mut busy: Vec<(JobKind, usize)> =
        w.tasks.iter().enumerate().filter_map(|(i, t)| t.run().map(|_| (t.job.unwrap().kind, i))).collect();
    for c in &plan.claims {
        let (i, t) = (task(c), &w.tasks[task(c)]);
        let kind = t.job.unwrap().kind;
        assert!(t.job.unwrap().due && t.run().is_none(), "claimed before its time or twice: {t:?}");
        assert!(
            !t.stop || t.stage.is_terminal() || matches!(kind, JobKind::Deploy | JobKind::DeployFinalizer),
            "a stopped task is claimed: {t:?}"
        );
        if kind == JobKind::Agent {
            assert!(!w.halted, "an agent is claimed under HALT");
        }
        if c.starts.is_some() {
            assert!(t.stage == Stage::Created && !t.withdrawn && !w.frozen[s.repo[i]], "{t:?}");
            for b in &s.blocked_by[i] {
                assert_eq!(w.tasks[*b].stage, Stage::Done, "it is blocked by {}", b + 1);
            }
        }
        busy.push((kind, i));
    }
    within(&busy, s, plan.claims.is_empty());
    for repo in 0..2 {
        let started = |i: usize| {
            let t = &w.tasks[i];
            (t.stage > Stage::Created && !t.stage.is_terminal())
                || plan.claims.iter().any(|c| task(c) == i && c.starts.is_some())
        };
        let serial = s.policy.projects.values().nth(repo).is_some_and(|p| p.serial);
        let n = (0..w.tasks.len()).filter(|i| s.repo[*i] == repo && started(*i)).count();
        assert!(!serial || n <= 1, "{n} tasks in work in one serial repository");
    }
}

fn within(busy: &[(JobKind, usize)], s: &Setting, idle: bool) {
    let of = |k: JobKind| i64::try_from(busy.iter().filter(|b| b.0 == k).count()).unwrap();
    assert!(of(JobKind::Agent) <= s.policy.max_concurrency, "{} agents at once", of(JobKind::Agent));
    for kind in [JobKind::Ci, JobKind::Scan, JobKind::Deploy] {
        assert!(idle || of(kind) <= s.policy.max_reserved, "{} jobs {kind} at once", of(kind));
    }
    for (repo, p) in s.policy.projects.values().enumerate().filter(|(_, p)| p.max_running > 0) {
        let here = busy.iter().filter(|b| b.0 == JobKind::Agent && s.repo[b.1] == repo).count();
        assert!(i64::try_from(here).unwrap() <= p.max_running, "{here} agents in {}", p.key);
    }
}

/// What holds on every edge, whoever makes it.
pub fn edge(before: &World, after: &World, person: bool, s: &Setting) {
    for (i, (a, b)) in before.tasks.iter().zip(&after.tasks).enumerate() {
        if a.stage.is_terminal() {
            assert_eq!(a.stage, b.stage, "an ended task comes back");
        }
        let along = EDGES.iter().any(|(_, from, to)| *from == a.stage && to.contains(&b.stage));
        assert!(a.stage == b.stage || along, "{} to {} is not an edge", a.stage, b.stage);
        if a.stage == Stage::Cancelled {
            assert!(b.job.is_none(), "a cancelled task has work: {b:?}");
        }
        if a.blocked && !person {
            assert!(b.blocked || b.stage == Stage::Cancelled, "the block vanished: {a:?}");
        }
        if a.stop {
            assert!(b.stop, "the stop is lost: {a:?}");
            let deployed = b.deploy.is_some_and(|d| d.ours && d.result == Some(Res::Success));
            assert!(b.stage != Stage::Done || deployed, "a stopped task went on to its end: {a:?}");
        }
        if let (Some(d), Some(e)) = (a.deploy, b.deploy) {
            // Only a person's `retry` deploys the same landed commit again, under a new id.
            let same = d.ours && e.ours && !(person && a.blocked);
            assert!(!d.merged || e.merged || !d.ours, "a merge is forgotten: {a:?}");
            assert!(!same || !d.started || e.started, "a start is forgotten: {a:?}");
        }
        let unknown =
            b.deploy.is_some_and(|d| d.ours && d.result == Some(Res::Unknown) && d.state == DeployState::Settled);
        let was = a.deploy.is_some_and(|d| d.state == DeployState::Settled);
        if unknown && was && a.job.is_some() && b.job.is_none() && !b.stop {
            assert!(b.blocked && (after.frozen[s.repo[i]] || person), "an unknown result is not held: {b:?}");
        }
    }
}
