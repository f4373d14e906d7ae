//! Carries out decisions that need nothing but the database: stage, job, audit event and messages in one transaction
//! (PIPE-2). Whoever loses the race on the task's revision does nothing.

use super::Moment;
use super::approval;
use super::artefacts;
use super::branches;
use super::cache;
use super::messages;
use super::view;
use crate::adapters::store::{Result, StoreError, Tx};
use crate::decide::changes;
use crate::decide::gates::inputs_of;
use crate::decide::transition::decide;
use crate::model::act::By;
use crate::model::card::AlertKind;
use crate::model::change::{Change, Move};
use crate::model::decision::Decision;
use crate::model::ids::TaskId;
use crate::model::inputs::line;
use crate::model::policy::Policy;
use crate::model::report::{ActionKind, ActionLine};
use crate::model::stage::{Agent, Stage};
use crate::model::task::{Finding, NewJob, Task, Waiting};
use crate::model::view::TaskView;
use serde_json::json;

/// More rounds than any chain of decisions without an outside effect can have.
const MOST_ROUNDS: usize = 24;

/// What a drive did, and the decision at which it stopped (a hold, or an effect for the caller).
#[derive(Debug)]
pub struct Driven {
    pub actions: Vec<ActionLine>,
    pub last: Decision,
}

/// Applies decisions until one needs something outside the database. Runs inside the caller's transaction, so that a
/// settlement and the move it allows are one (RULE-21). Fails with the decisions where they lead to each other.
pub fn drive(tx: &Tx<'_>, id: TaskId, policy: &Policy, now: &Moment, auto: Option<Waiting>) -> Result<Driven> {
    let mut actions = Vec::new();
    let mut made = Vec::new();
    for _ in 0..MOST_ROUNDS {
        let view = view::task(tx, id, now, auto)?;
        let decision = decide(&view, policy);
        if matches!(decision, Decision::Hold { .. } | Decision::Effect(_)) {
            return Ok(Driven { actions, last: decision });
        }
        made.push(format!("{} in {}", decision.name(), view.task.stage));
        let (finishes, project) = (matches!(decision, Decision::Finish { .. }), view.task.project.clone());
        // A rework of what landed has another branch; the old one is at its end.
        let left = matches!(decision, Decision::Rollback { .. }) && view.task.landed_sha.is_some();
        let left = left.then(|| view.task.clone());
        let kept = finishes && policy.project(&view.task.project).is_some_and(|p| p.artefacts_on_branch);
        one(tx, view, decision, now, &mut actions)?;
        if policy.project(&project).is_some_and(|p| p.deletes_branch) {
            let landed = if finishes { Some(tx.task(id)?) } else { left };
            if let Some(landed) = landed {
                branches::to_delete(tx, &landed, &now.me, now.stamp.wall_ms)?;
            }
        }
        if kept {
            tx.intend(&artefacts::key(id), Some(id), artefacts::KIND, &json!({}), &now.me, now.stamp.wall_ms)?;
        }
    }
    let key = tx.key_text(id)?.unwrap_or_else(|| format!("task {id}"));
    Err(StoreError::Cycle { key, last: made.join(", ") })
}

/// Makes one change of a task's row and saves it.
pub fn change(tx: &Tx<'_>, task: &mut Task, change: Change, at: i64) -> Result<()> {
    task.apply(change)?;
    tx.save_task(task, at)
}

/// Applies one decision; holds and effects change nothing here.
pub fn one(tx: &Tx<'_>, view: TaskView, decision: Decision, now: &Moment, actions: &mut Vec<ActionLine>) -> Result<()> {
    let change = changes::of(&view, &decision);
    let making = Making { tx, view: &view, now, at: now.stamp.wall_ms };
    let mut task = view.task.clone();
    match (decision, change) {
        (Decision::Hold { .. } | Decision::Effect(_), _) => Ok(()),
        (Decision::Enqueue(job), _) => making.enqueue(&task, &job, actions),
        (Decision::Release { waiting, label }, _) => making.release(&mut task, waiting, label, actions),
        (Decision::Block { why, held, freeze }, _) => making.block(&mut task, &why, held, freeze, actions),
        (Decision::Park { waiting, told }, Some(change)) => making.park(&mut task, change, waiting, &told),
        (Decision::Finish { why, .. }, Some(change)) => making.finish(&mut task, change, why, actions),
        (Decision::Advance { to, why }, Some(change)) => making.advance(&mut task, change, to, &why, actions),
        (Decision::Rollback { why, .. } | Decision::Return { why, .. }, Some(change)) => {
            making.back(&mut task, change, &why, actions)
        }
        // Each of these has its change: `decide::changes` matches them all.
        (
            Decision::Park { .. }
            | Decision::Finish { .. }
            | Decision::Advance { .. }
            | Decision::Rollback { .. }
            | Decision::Return { .. },
            None,
        ) => Ok(()),
    }
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
        self.tx.audit(
            self.at,
            Some(task.id),
            "job_enqueued",
            &json!({"job": id, "kind": job.kind, "agent": agent, "stage": task.stage, "why": job.reason}),
        )?;
        let detail = json!({"job": id, "job_kind": job.kind, "agent": agent, "stage": task.stage});
        self.did(actions, ActionKind::JobEnqueued, detail);
        messages::show(self.tx, task, self.at)
    }

    fn park(&self, task: &mut Task, asks: Change, waiting: Waiting, told: &str) -> Result<()> {
        let (tx, at) = (self.tx, self.at);
        change(tx, task, asks, at)?;
        tx.audit(at, Some(task.id), "waiting", &json!({"for": waiting, "stage": task.stage}))?;
        messages::show(tx, task, at)?;
        let kind = match waiting {
            Waiting::Approval => AlertKind::ApprovalWanted,
            Waiting::ConfirmDeploy => AlertKind::ConfirmDeployWanted,
        };
        messages::wait_comment(tx, task, at)?;
        // What answers it is in the alert's own words.
        messages::alert(tx, task, kind, task.wait_no, &before_release(self.view, waiting, told), at)
    }

    fn release(&self, task: &mut Task, waiting: Waiting, label: String, actions: &mut Vec<ActionLine>) -> Result<()> {
        let (tx, at) = (self.tx, self.at);
        let (kind, said) = match waiting {
            Waiting::Approval => (AlertKind::AutoApproveUsed, by_label::approved(&label)),
            Waiting::ConfirmDeploy => (AlertKind::AutoDeployUsed, by_label::deployed(&label)),
        };
        let by = By::Label { label: Some(label), user: None };
        release(tx, task, waiting, &by, at)?;
        messages::card(tx, task, at)?;
        messages::alert(tx, task, kind, task.epoch, &said, at)?;
        messages::comment(tx, task, &format!("auto-{waiting}-{}", task.epoch), &said, at)?;
        self.did(actions, ActionKind::ReleaseGiven, json!({"for": waiting, "by": by}));
        Ok(())
    }

    fn advance(&self, task: &mut Task, on: Change, to: Stage, why: &str, actions: &mut Vec<ActionLine>) -> Result<()> {
        let from = task.stage;
        change(self.tx, task, on, self.at)?;
        let detail = json!({"from": from, "to": to, "why": why, "head": task.head_sha});
        let event = self.tx.audit(self.at, Some(task.id), "stage_advanced", &detail)?;
        anchor(self.tx, task, event, self.now)?;
        messages::show(self.tx, task, self.at)?;
        self.did(actions, ActionKind::StageAdvanced, json!({"from": from, "to": to, "why": why}));
        Ok(())
    }

    /// A rollback or a return: back to an earlier stage, the lease free.
    fn back(&self, task: &mut Task, back: Change, why: &str, actions: &mut Vec<ActionLine>) -> Result<()> {
        let from = task.stage;
        let spent = matches!(&back, Change::Move(Move::Rollback(_)));
        let freed = free_lease(self.tx, self.view)?;
        change(self.tx, task, back, self.at)?;
        let detail = if spent {
            json!({"from": from, "why": why, "attempt": task.attempt, "findings": task.findings})
        } else {
            json!({"from": from, "to": task.stage, "why": why})
        };
        let event = self.tx.audit(self.at, Some(task.id), "stage_rolled_back", &detail)?;
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
        block(self.tx, self.view, task, why, held, self.at)?;
        self.did(actions, ActionKind::TaskBlocked, json!({"stage": task.stage, "why": why}));
        if freeze && freeze_repo(self.tx, &task.repo, why, Some(task), self.at)? {
            self.did(actions, ActionKind::RepoFrozen, json!({"repo": task.repo, "why": why}));
        }
        Ok(())
    }

    fn finish(&self, task: &mut Task, end: Change, why: String, actions: &mut Vec<ActionLine>) -> Result<()> {
        let (tx, at, from) = (self.tx, self.at, task.stage);
        let late = task.stop_requested_at.is_some();
        free_lease(tx, self.view)?;
        change(tx, task, end, at)?;
        let why = if late { format!("{why}; a stop came too late") } else { why };
        let detail = json!({"from": from, "to": Stage::Done, "why": why, "landed": task.landed_sha});
        let event = tx.audit(at, Some(task.id), "stage_advanced", &detail)?;
        anchor(tx, task, event, self.now)?;
        tx.item_ended(&task.project, &task.item_id)?;
        messages::show(tx, task, at)?;
        let landed = task.landed_sha.as_ref().map_or_else(String::new, |s| format!(" Landed as {}.", s.short()));
        messages::comment(tx, task, "done", &format!("Done: {why}.{landed}"), at)?;
        if late {
            let said = format!("The stop came too late: it is deployed.{landed}");
            messages::alert(tx, task, AlertKind::StopDeferred, 2, &said, at)?;
        }
        self.did(actions, ActionKind::StageAdvanced, json!({"from": from, "to": Stage::Done, "why": why}));
        Ok(())
    }
}

fn anchor(tx: &Tx<'_>, task: &Task, event: i64, now: &Moment) -> Result<()> {
    if now.anchored { messages::anchor(tx, task, event, now.stamp.wall_ms) } else { Ok(()) }
}

/// What whoever releases a wait is told first (BND-5): what changes the meaning of CI, then `note`.
fn before_release(view: &TaskView, waiting: Waiting, note: &str) -> String {
    let note = if note.is_empty() { String::new() } else { format!("{note}.") };
    let tree = view.task.head_tree.as_deref().filter(|_| waiting == Waiting::ConfirmDeploy);
    let inputs = tree.and_then(|tree| inputs_of(&view.evidence, tree)).unwrap_or_default();
    if inputs.is_empty() {
        return note;
    }
    let label = if view.auto == Some(waiting) { " Its label does not count because of it." } else { "" };
    let note = if note.is_empty() { note } else { format!(" {note}") };
    format!("Changes what CI means: {}.{label}{note}", line(&inputs, 500))
}

/// A person (or a label) releases what the task waits for.
pub fn release(tx: &Tx<'_>, task: &mut Task, waiting: Waiting, by: &By, at: i64) -> Result<()> {
    if waiting == Waiting::Approval {
        approval::record(tx, task, at)?;
    }
    change(tx, task, Change::Grant { waiting }, at)?;
    tx.audit(
        at,
        Some(task.id),
        "released",
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

/// What the use of a label is told as, with its name and what follows (BRD-5).
mod by_label {
    pub fn approved(label: &str) -> String {
        format!("Label {label:?}: the analysis counts as approved without anybody being asked, and the work continues.")
    }

    pub fn deployed(label: &str) -> String {
        format!("Label {label:?}: the deploy begins without Confirm Deploy.")
    }
}

/// Blocks a task; sticky until `orch retry` (PIPE-3).
pub fn block(
    tx: &Tx<'_>,
    view: &TaskView,
    task: &mut Task,
    why: &str,
    held: Option<Vec<Finding>>,
    at: i64,
) -> Result<()> {
    free_lease(tx, view)?;
    // Another step ended it meanwhile: there is nothing to hold.
    if task.stage.is_terminal() {
        return Ok(());
    }
    change(tx, task, Change::Block { why: why.to_owned(), held }, at)?;
    tx.audit(at, Some(task.id), "task_blocked", &json!({"stage": task.stage, "why": why}))?;
    messages::show(tx, task, at)?;
    messages::alert(tx, task, AlertKind::Blocked, task.block_no, why, at)?;
    messages::comment(tx, task, &format!("blocked-{}", task.block_no), &format!("Blocked: {why}"), at)?;
    Ok(())
}

/// Freezes a repository by `orch`'s own rules (SHIP-7); whether that is new.
pub fn freeze_repo(tx: &Tx<'_>, repo: &str, why: &str, task: Option<&Task>, at: i64) -> Result<bool> {
    freeze(tx, repo, why, task, None, at)
}

/// Freezes a repository because a person said so; whether that is new.
pub fn freeze_by(tx: &Tx<'_>, repo: &str, why: &str, by: &By, at: i64) -> Result<bool> {
    freeze(tx, repo, why, None, Some(by), at)
}

fn freeze(tx: &Tx<'_>, repo: &str, why: &str, task: Option<&Task>, by: Option<&By>, at: i64) -> Result<bool> {
    let new = tx.set_freeze(repo, why, task.map(|t| t.id), at)?;
    if new {
        cache::drop_base(tx, repo, at)?;
        let n = tx.count_up(&format!("freezes/{repo}"), 1)?;
        tx.audit(at, task.map(|t| t.id), "repo_frozen", &json!({"repo": repo, "why": why, "by": by}))?;
        messages::alert_named(tx, AlertKind::Frozen, repo, n, why, at)?;
        show_freeze(tx, repo, task, at)?;
    }
    Ok(new)
}

/// Lifts a repository's freeze; whether there was one.
pub fn unfreeze_repo(tx: &Tx<'_>, repo: &str, by: &By, at: i64) -> Result<bool> {
    let lifted = tx.lift_freeze(repo)?;
    if lifted {
        cache::drop_base(tx, repo, at)?;
        tx.audit(at, None, "repo_unfrozen", &json!({"repo": repo, "by": by}))?;
        show_freeze(tx, repo, None, at)?;
    }
    Ok(lifted)
}

/// The cards of a repository's tasks name its freeze (SHIP-7); that of the task it is about is drawn by who froze.
fn show_freeze(tx: &Tx<'_>, repo: &str, about: Option<&Task>, at: i64) -> Result<()> {
    for t in tx.open_tasks()?.iter().filter(|t| t.repo == repo && about.is_none_or(|a| a.id != t.id)) {
        messages::card(tx, t, at)?;
    }
    Ok(())
}

/// Frees the repository's lease if this task holds it.
pub fn free_lease(tx: &Tx<'_>, view: &TaskView) -> Result<bool> {
    match &view.lease {
        Some(l) if l.task_id == Some(view.task.id) => {
            let freed = tx.free_lease(&l.repo, l.fence)?;
            if freed {
                tx.audit(
                    view.now.wall_ms,
                    Some(view.task.id),
                    "lease_released",
                    &json!({"repo": l.repo, "fence": l.fence}),
                )?;
            }
            Ok(freed)
        }
        Some(_) | None => Ok(false),
    }
}
