//! Writes what a plan says, entry by entry, within the caller's transaction.

use super::hold;
use super::messages;
use crate::adapters::store::{Result, StoreError, Tx};
use crate::engine::{Moment, awaits, base_rows};
use crate::model::evidence::NewEvidence;
use crate::model::plan::{Entry, NewDeploy};
use crate::model::report::{ActionKind, ActionLine, Rule};
use crate::model::run_end::{RunEnd, RunResult};
use crate::model::task::{Deploy, DeployState, Task};
use crate::model::view::TaskView;
use crate::model::withdrawal::Withdrawal;
use serde_json::{Value, json};

/// What was recorded: the row as it is now, and the lines of the step's report.
#[derive(Debug)]
pub struct Recorded {
    pub task: Task,
    pub actions: Vec<ActionLine>,
    pub holds: Vec<(Rule, String)>,
    /// Something changed that no action names.
    pub changed: bool,
}

/// Writes a plan's entries, in their order, about the view's task. Its row is saved once, after the last entry that
/// changes it.
///
/// # Errors
/// A change is not allowed, another process moved the task, or the lease is another's: nothing may be written.
pub fn entries(tx: &Tx<'_>, view: &TaskView, all: Vec<Entry>, now: &Moment) -> Result<Recorded> {
    let done = Recorded { task: view.task.clone(), actions: Vec::new(), holds: Vec::new(), changed: false };
    let mut writing = Writing { tx, view, now, at: now.stamp.wall_ms, done, unsaved: false };
    for entry in all {
        writing.entry(entry)?;
    }
    writing.save()?;
    Ok(writing.done)
}

struct Writing<'a> {
    tx: &'a Tx<'a>,
    view: &'a TaskView,
    now: &'a Moment,
    at: i64,
    done: Recorded,
    unsaved: bool,
}

impl Writing<'_> {
    fn save(&mut self) -> Result<()> {
        if std::mem::take(&mut self.unsaved) { super::touch(self.tx, &mut self.done.task, self.at) } else { Ok(()) }
    }

    fn did(&mut self, kind: ActionKind, detail: Value) {
        self.done.actions.push(ActionLine::new(kind, Some(self.view.task.key.as_str()), detail));
    }

    fn entry(&mut self, entry: Entry) -> Result<()> {
        let (tx, at, id) = (self.tx, self.at, self.view.task.id);
        match entry {
            Entry::Change(change) => {
                self.done.task.apply(change)?;
                self.unsaved = true;
            }
            Entry::Touch => self.unsaved = true,
            Entry::TakeLease { file_fence, fence } => self.take_lease(file_fence, fence)?,
            Entry::Evidence { row, status } => self.evidence(&row, status)?,
            Entry::StatusesAgain => messages::forge_statuses_again(tx, &self.done.task, at)?,
            Entry::Intend { key, kind, intent } => {
                super::intend(tx, &key, Some(id), kind, &intent, &self.now.me, at).map(drop)?
            }
            Entry::Outcome { key, outcome } => super::outcome(tx, &key, &outcome, at)?,
            Entry::Event { name, detail } => super::event(tx, at, Some(id), name, &detail).map(drop)?,
            Entry::FreeLease => hold::free_lease(tx, self.view).map(drop)?,
            Entry::CancelJobs { why } => self.cancel_jobs(&why)?,
            Entry::CancelRuns { why } => self.cancel_runs(&why)?,
            Entry::Tombstone => self.tombstone()?,
            Entry::Message(message) => messages::post(tx, &self.done.task, &[message], at)?,
            Entry::Show => messages::show(tx, &self.done.task, at)?,
            Entry::Card => messages::card(tx, &self.done.task, at)?,
            Entry::InsertDeploy(new) => self.open_deploy(new)?,
            Entry::TakeDeploy { from, .. } if from == self.now.me => {}
            Entry::TakeDeploy { id, from } => tx.take_deploy(&id, &from, &self.now.me)?,
            Entry::MoveDeploy { id, from, to, landed } => tx.move_deploy(&id, from, to, landed.as_ref(), None, at)?,
            Entry::Awaits(wait) => awaits::put(tx, id, &wait)?,
            Entry::BasePassed { settings, tree } => {
                base_rows::passed(tx, &settings.name, &tree, &settings.digest, at)?;
            }
            Entry::Block { why, freeze } => self.block(&why, freeze)?,
            Entry::Freeze { why } => self.freeze(&why, json!({"repo": self.view.task.repo, "why": why}))?,
            Entry::Withdrawn(cause) => self.withdrawn(&cause)?,
            Entry::Did { kind, detail } => self.did(kind, detail),
            Entry::Hold { rule, why } => self.done.holds.push((rule, why)),
        }
        Ok(())
    }

    fn take_lease(&mut self, file_fence: i64, fence: i64) -> Result<()> {
        let (task, now) = (&self.view.task, self.now);
        let held = self.tx.take_lease(&task.repo, task.id, &now.me, file_fence, &now.stamp)?;
        if held.is_none_or(|l| l.fence != fence) { Err(StoreError::Lost) } else { Ok(()) }
    }

    fn evidence(&mut self, row: &NewEvidence, status: bool) -> Result<()> {
        self.tx.add_evidence(&self.done.task, row, self.at)?;
        if status { messages::forge_status(self.tx, &self.done.task, row, self.at) } else { Ok(()) }
    }

    fn cancel_jobs(&mut self, why: &str) -> Result<()> {
        let jobs = self.tx.cancel_jobs(self.view.task.id, why, self.at)?;
        if jobs > 0 {
            self.did(ActionKind::JobCancelled, json!({"jobs": jobs}));
        }
        Ok(())
    }

    fn cancel_runs(&mut self, why: &str) -> Result<()> {
        let end = RunEnd::new(RunResult::Cancelled, why);
        for job in self.tx.jobs_of(self.view.task.id)? {
            self.tx.settle_runs_of_job(job.id, &end, self.at)?;
        }
        Ok(())
    }

    fn tombstone(&mut self) -> Result<()> {
        self.save()?;
        let task = &self.view.task;
        self.tx.tombstone(task.id)?;
        self.tx.item_ended(&task.project, &task.item_id)
    }

    fn withdrawn(&mut self, cause: &Withdrawal) -> Result<()> {
        self.save()?;
        let (held, frozen) = hold::withdraw(self.tx, &mut self.done.task, cause, self.at)?;
        if held {
            self.done.holds.push((Rule::Withdrawn, cause.to_string()));
            self.done.changed = true;
        }
        if frozen {
            self.did(ActionKind::RepoFrozen, json!({"why": cause.to_string()}));
        }
        Ok(())
    }

    fn open_deploy(&mut self, new: NewDeploy) -> Result<()> {
        let task = &self.done.task;
        self.tx.insert_deploy(&Deploy {
            id: new.id,
            task_id: task.id,
            repo: task.repo.clone(),
            attempt: task.attempt,
            fence: new.fence,
            head: new.head,
            base: new.base,
            tree: new.tree,
            state: DeployState::Initiated,
            actor: self.now.me.clone(),
            landed_sha: None,
            result: None,
            initiated_at: self.now.stamp.clone(),
        })
    }

    fn block(&mut self, why: &str, freeze: bool) -> Result<()> {
        self.save()?;
        hold::block(self.tx, self.view, &mut self.done.task, why, None, self.at)?;
        self.did(ActionKind::TaskBlocked, json!({"why": why}));
        if freeze { self.freeze(why, json!({"repo": self.view.task.repo, "why": why})) } else { Ok(()) }
    }

    fn freeze(&mut self, why: &str, detail: Value) -> Result<()> {
        if hold::freeze_repo(self.tx, &self.view.task.repo, why, Some(&self.done.task), self.at)? {
            self.did(ActionKind::RepoFrozen, detail);
        }
        Ok(())
    }
}
