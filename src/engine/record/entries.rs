//! Writes what a plan says, entry by entry, within the caller's transaction.

use super::hold;
use super::messages;
use crate::adapters::store::{Result, StoreError, Tx};
use crate::engine::{Moment, awaits, base_job};
use crate::model::plan::{Entry, NewDeploy};
use crate::model::report::{ActionKind, ActionLine, Rule};
use crate::model::run_end::{RunEnd, RunResult};
use crate::model::task::{Deploy, DeployState, Task};
use crate::model::view::TaskView;
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
            Entry::TakeLease { file_fence, fence } => {
                let held = tx.take_lease(&self.view.task.repo, id, &self.now.me, file_fence, &self.now.stamp)?;
                if held.is_none_or(|l| l.fence != fence) {
                    return Err(StoreError::Lost);
                }
            }
            Entry::Evidence { row, status } => {
                tx.add_evidence(&self.done.task, &row, at)?;
                if status {
                    messages::forge_status(tx, &self.done.task, &row, at)?;
                }
            }
            Entry::StatusesAgain => messages::forge_statuses_again(tx, &self.done.task, at)?,
            Entry::Intend { key, kind, intent } => {
                super::intend(tx, &key, Some(id), kind, &intent, &self.now.me, at).map(drop)?
            }
            Entry::Outcome { key, outcome } => super::outcome(tx, &key, &outcome, at)?,
            Entry::Event { name, detail } => super::event(tx, at, Some(id), name, &detail).map(drop)?,
            Entry::FreeLease => hold::free_lease(tx, self.view).map(drop)?,
            Entry::CancelJobs { why } => {
                let jobs = tx.cancel_jobs(id, &why, at)?;
                if jobs > 0 {
                    self.did(ActionKind::JobCancelled, json!({"jobs": jobs}));
                }
            }
            Entry::CancelRuns { why } => {
                for job in tx.jobs_of(id)? {
                    tx.settle_runs_of_job(job.id, &RunEnd::new(RunResult::Cancelled, why.as_str()), at)?;
                }
            }
            Entry::Tombstone => {
                self.save()?;
                tx.tombstone(id)?;
                tx.item_ended(&self.view.task.project, &self.view.task.item_id)?;
            }
            Entry::Message(message) => messages::post(tx, &self.done.task, &[message], at)?,
            Entry::Show => messages::show(tx, &self.done.task, at)?,
            Entry::Card => messages::card(tx, &self.done.task, at)?,
            Entry::InsertDeploy(new) => self.open_deploy(new)?,
            Entry::TakeDeploy { from, .. } if from == self.now.me => {}
            Entry::TakeDeploy { id, from } => tx.take_deploy(&id, &from, &self.now.me)?,
            Entry::MoveDeploy { id, from, to, landed } => tx.move_deploy(&id, from, to, landed.as_ref(), None, at)?,
            Entry::Awaits(wait) => awaits::put(tx, id, &wait)?,
            Entry::BasePassed { settings, tree } => {
                base_job::passed(tx, &settings.name, &tree, &settings.digest, at)?;
            }
            Entry::Deployment { deploy, sha, state, why } => {
                messages::deployment(tx, &self.done.task, (&deploy, &sha, state), &why, at)?;
            }
            Entry::Block { why, freeze } => self.block(&why, freeze)?,
            Entry::Freeze { why } => self.freeze(&why, json!({"repo": self.view.task.repo, "why": why}))?,
            Entry::Withdrawn(cause) => {
                self.save()?;
                let (held, frozen) = hold::withdraw(tx, &mut self.done.task, &cause, at)?;
                if held {
                    self.done.holds.push((Rule::Withdrawn, cause.to_string()));
                    self.done.changed = true;
                }
                if frozen {
                    self.did(ActionKind::RepoFrozen, json!({"why": cause.to_string()}));
                }
            }
            Entry::Did { kind, detail } => self.did(kind, detail),
            Entry::Hold { rule, why } => self.done.holds.push((rule, why)),
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
