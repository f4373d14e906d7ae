//! Applies decisions that need only the database: stage, job, audit event and messages in one transaction (PIPE-2). A
//! writer that loses the race on the task's revision does nothing.

use super::Moment;
use super::approval;
use super::artefacts;
use super::branches;
use super::messages;
use super::record;
use super::view;
use crate::adapters::store::{Result, StoreError, Tx};
use crate::decide::changes::{self, LeftBranch};
use crate::decide::said;
use crate::decide::transition::decide;
use crate::model::act::By;
use crate::model::change::{Change, Move};
use crate::model::decision::Decision;
use crate::model::event::Event;
use crate::model::finding::Finding;
use crate::model::ids::TaskId;
use crate::model::policy::Policy;
use crate::model::report::{ActionKind, ActionLine};
use crate::model::stage::{Agent, Stage};
use crate::model::task::{NewJob, Task, Waiting};
use crate::model::view::TaskView;
use serde_json::json;

/// More rounds than any chain of decisions without an outside effect needs.
const MOST_ROUNDS: usize = 24;

/// What a drive did, and the decision at which it stopped (a hold, or an effect for the caller).
#[derive(Debug)]
pub struct Driven {
    pub actions: Vec<ActionLine>,
    pub last: Decision,
}

/// Applies decisions until one needs something outside the database. Runs inside the caller's transaction, so that a
/// settlement and the move it allows are atomic (RULE-21). Fails with the list of decisions if they form a loop.
pub fn drive(tx: &Tx<'_>, id: TaskId, policy: &Policy, now: &Moment, auto: Option<Waiting>) -> Result<Driven> {
    let mut actions = Vec::new();
    let mut made = Vec::new();
    for _ in 0..MOST_ROUNDS {
        let view = view::task(tx, id, now, auto)?;
        let decision = decide(&view, policy);
        if matches!(decision, Decision::Hold { .. } | Decision::Procedure(_)) {
            return Ok(Driven { actions, last: decision });
        }
        made.push(format!("{} in {}", decision.name(), view.task.stage));
        let leaves = changes::leaves(&view, &decision, policy);
        let before = view.task.clone();
        one(tx, view, decision, now, &mut actions)?;
        let (me, at) = (&now.me, now.stamp.wall_ms);
        match leaves.branch {
            Some(LeftBranch::OfBefore) => branches::to_delete(tx, &before, me, at)?,
            Some(LeftBranch::OfAfter) => branches::to_delete(tx, &tx.task(id)?, me, at)?,
            None => {}
        }
        if leaves.artefacts {
            record::intend(tx, &artefacts::key(id), Some(id), artefacts::KIND, &json!({}), me, at)?;
        }
    }
    let key = tx.key_text(id)?.unwrap_or_else(|| format!("task {id}"));
    Err(StoreError::Cycle { key, last: made.join(", ") })
}

/// Applies one decision; holds and effects change nothing here.
pub fn one(tx: &Tx<'_>, view: TaskView, decision: Decision, now: &Moment, actions: &mut Vec<ActionLine>) -> Result<()> {
    let change = changes::of(&view, &decision);
    let making = Making { tx, view: &view, now, at: now.stamp.wall_ms };
    let mut task = view.task.clone();
    match (&decision, change) {
        (Decision::Hold { .. } | Decision::Procedure(_), _) => return Ok(()),
        (Decision::Enqueue(job), _) => making.enqueue(&task, job, actions)?,
        (Decision::Release { waiting, label }, _) => making.release(&mut task, *waiting, label.clone(), actions)?,
        // `block` posts its own messages, since other callers block tasks, too.
        (Decision::Block { why, held, freeze }, _) => {
            return making.block(&mut task, why, held.clone(), *freeze, actions);
        }
        (Decision::Park { waiting, .. }, Some(change)) => making.park(&mut task, change, *waiting)?,
        (Decision::Finish { why, .. }, Some(change)) => making.finish(&mut task, change, why, actions)?,
        (Decision::Advance { to, why }, Some(change)) => making.advance(&mut task, change, *to, why, actions)?,
        (Decision::Rollback { why, .. } | Decision::Return { why, .. }, Some(change)) => {
            making.back(&mut task, change, why, actions)?;
        }
        // Each of these has a change: `decide::changes` matches them all.
        (
            Decision::Park { .. }
            | Decision::Finish { .. }
            | Decision::Advance { .. }
            | Decision::Rollback { .. }
            | Decision::Return { .. },
            None,
        ) => return Ok(()),
    }
    messages::post(tx, &task, &said::with(&view, &decision, &task), now.stamp.wall_ms)
}

/// One decision that is being recorded.
struct Making<'a> {
    tx: &'a Tx<'a>,
    view: &'a TaskView,
    now: &'a Moment,
    at: i64,
}

impl Making<'_> {
    fn did(&self, actions: &mut Vec<ActionLine>, kind: ActionKind, detail: serde_json::Value) {
        actions.push(ActionLine::new(kind, Some(self.view.task.key.as_str()), detail));
    }

    fn enqueue(&self, task: &Task, job: &NewJob, actions: &mut Vec<ActionLine>) -> Result<()> {
        let id = self.tx.enqueue(task, job, self.at)?;
        let agent = job.agent.map(Agent::as_str);
        record::event(
            self.tx,
            self.at,
            Some(task.id),
            Event::JobEnqueued,
            &json!({"job": id, "kind": job.kind, "agent": agent, "stage": task.stage, "why": job.reason}),
        )?;
        let detail = json!({"job": id, "job_kind": job.kind, "agent": agent, "stage": task.stage});
        self.did(actions, ActionKind::JobEnqueued, detail);
        messages::show(self.tx, task, self.at)
    }

    fn park(&self, task: &mut Task, asks: Change, waiting: Waiting) -> Result<()> {
        let (tx, at) = (self.tx, self.at);
        record::change(tx, task, asks, at)?;
        record::event(tx, at, Some(task.id), Event::Waiting, &json!({"for": waiting, "stage": task.stage}))?;
        messages::show(tx, task, at)
    }

    fn release(&self, task: &mut Task, waiting: Waiting, label: String, actions: &mut Vec<ActionLine>) -> Result<()> {
        let by = By::Label { label: Some(label), user: None };
        release(self.tx, task, waiting, &by, self.at)?;
        messages::card(self.tx, task, self.at)?;
        self.did(actions, ActionKind::ReleaseGiven, json!({"for": waiting, "by": by}));
        Ok(())
    }

    fn advance(&self, task: &mut Task, on: Change, to: Stage, why: &str, actions: &mut Vec<ActionLine>) -> Result<()> {
        let from = task.stage;
        record::change(self.tx, task, on, self.at)?;
        let detail = json!({"from": from, "to": to, "why": why, "head": task.head_sha});
        let event = record::event(self.tx, self.at, Some(task.id), Event::StageAdvanced, &detail)?;
        anchor(self.tx, task, event, self.now)?;
        messages::show(self.tx, task, self.at)?;
        self.did(actions, ActionKind::StageAdvanced, json!({"from": from, "to": to, "why": why}));
        Ok(())
    }

    /// A rollback or a return: back to an earlier stage, with the lease freed.
    fn back(&self, task: &mut Task, back: Change, why: &str, actions: &mut Vec<ActionLine>) -> Result<()> {
        let from = task.stage;
        let spent = matches!(&back, Change::Move(Move::Rollback(_)));
        let freed = record::free_lease(self.tx, self.view)?;
        record::change(self.tx, task, back, self.at)?;
        let detail = if spent {
            json!({"from": from, "why": why, "attempt": task.attempt, "findings": task.findings})
        } else {
            json!({"from": from, "to": task.stage, "why": why})
        };
        let event = record::event(self.tx, self.at, Some(task.id), Event::StageRolledBack, &detail)?;
        anchor(self.tx, task, event, self.now)?;
        messages::show(self.tx, task, self.at)?;
        let detail = json!({"from": from, "to": task.stage, "why": why, "attempt": task.attempt});
        self.did(actions, ActionKind::StageRolledBack, detail);
        if freed {
            self.did(actions, ActionKind::LeaseReleased, json!({"repo": task.repo}));
        }
        Ok(())
    }

    fn block(
        &self,
        task: &mut Task,
        why: &str,
        held: Option<Vec<Finding>>,
        freeze: bool,
        actions: &mut Vec<ActionLine>,
    ) -> Result<()> {
        record::block(self.tx, self.view, task, why, held, self.at)?;
        self.did(actions, ActionKind::TaskBlocked, json!({"stage": task.stage, "why": why}));
        if freeze && record::freeze_repo(self.tx, &task.repo, why, Some(task), self.at)? {
            self.did(actions, ActionKind::RepoFrozen, json!({"repo": task.repo, "why": why}));
        }
        Ok(())
    }

    fn finish(&self, task: &mut Task, end: Change, why: &str, actions: &mut Vec<ActionLine>) -> Result<()> {
        let (tx, at, from) = (self.tx, self.at, task.stage);
        record::free_lease(tx, self.view)?;
        record::change(tx, task, end, at)?;
        let why = said::end_of(self.view, why);
        let detail = json!({"from": from, "to": Stage::Done, "why": why, "landed": task.landed_sha});
        let event = record::event(tx, at, Some(task.id), Event::StageAdvanced, &detail)?;
        anchor(tx, task, event, self.now)?;
        tx.item_ended(&task.project, &task.item_id)?;
        messages::show(tx, task, at)?;
        self.did(actions, ActionKind::StageAdvanced, json!({"from": from, "to": Stage::Done, "why": why}));
        Ok(())
    }
}

fn anchor(tx: &Tx<'_>, task: &Task, event: i64, now: &Moment) -> Result<()> {
    if now.anchored { messages::anchor(tx, task, event, now.stamp.wall_ms) } else { Ok(()) }
}

/// A person (or a label) releases what the task waits for.
pub fn release(tx: &Tx<'_>, task: &mut Task, waiting: Waiting, by: &By, at: i64) -> Result<()> {
    if waiting == Waiting::Approval {
        approval::record(tx, task, at)?;
    }
    record::change(tx, task, Change::Grant { waiting }, at)?;
    record::event(
        tx,
        at,
        Some(task.id),
        Event::Released,
        &json!({
            "for": waiting,
            "by": by,
            "so": match waiting {
                Waiting::Approval => "the analysis counts as approved, and the work continues",
                Waiting::ConfirmDeploy => "the deploy begins",
            },
            "waited_ms": task.waiting_since.map(|s| at - s),
        }),
    )?;
    Ok(())
}
