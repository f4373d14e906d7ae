//! The queue (RUN-1). Every write after a claim checks the claim token: the status alone is no fence.

use super::{Result, StoreError, Tx, parsed, parsed_opt};
use crate::model::ids::{JobId, Sha, TaskId};
use crate::model::stage::{Agent, JobKind, JobStatus, Stage};
use crate::model::task::{Cause, Job, NewJob, Task};
use rusqlite::{OptionalExtension, Row, params};

fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    Ok(Job {
        id: JobId(row.get("id")?),
        task_id: TaskId(row.get("task_id")?),
        stage: parsed(row, "stage", Stage::parse)?,
        kind: parsed(row, "kind", JobKind::parse)?,
        agent: parsed_opt(row, "agent", Agent::parse)?,
        attempt: row.get("attempt")?,
        epoch: row.get("epoch")?,
        status: parsed(row, "status", JobStatus::parse)?,
        token: row.get("token")?,
        subject: parsed_opt(row, "subject", |t| Sha::parse(t).ok())?,
        available_at: row.get("available_at")?,
        priority: row.get("priority")?,
        reason: row.get("reason")?,
        spent: row.get("spent")?,
        cause: parsed_opt(row, "cause", Cause::parse)?,
        again: row.get("again")?,
    })
}

impl Tx<'_> {
    /// Queues a job for the task at its current stage, attempt and epoch. [`StoreError::Lost`] if the task already has
    /// a live job (the schema enforces it).
    pub fn enqueue(&self, task: &Task, new: &NewJob, at: i64) -> Result<JobId> {
        let made = self
            .tx
            .prepare_cached(
                "INSERT INTO jobs (task_id, stage, kind, agent, attempt, epoch, status, subject, available_at, priority, reason, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'queued', ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                task.id.0,
                task.stage.as_str(),
                new.kind.as_str(),
                new.agent.map(Agent::as_str),
                task.attempt,
                task.epoch,
                new.subject.as_ref().map(Sha::as_str),
                new.available_at,
                task.priority,
                new.reason,
                at
            ])?;
        if made == 0 {
            return Err(StoreError::Lost);
        }
        Ok(JobId(self.tx.last_insert_rowid()))
    }

    pub fn job(&self, id: JobId) -> Result<Job> {
        self.tx
            .prepare_cached("SELECT * FROM jobs WHERE id = ?1")?
            .query_row([id.0], job)
            .optional()?
            .ok_or(StoreError::Lost)
    }

    /// The task's live job, if it has one.
    pub fn live_job(&self, task: TaskId) -> Result<Option<Job>> {
        Ok(self
            .tx
            .prepare_cached("SELECT * FROM jobs WHERE task_id = ?1 AND status IN ('queued', 'running')")?
            .query_row([task.0], job)
            .optional()?)
    }

    /// Ended jobs of one epoch of a task, oldest first.
    pub fn ended_jobs(&self, task: TaskId, epoch: i64) -> Result<Vec<Job>> {
        self.jobs_where(
            "task_id = ?1 AND epoch = ?2 AND status NOT IN ('queued', 'running') ORDER BY id",
            params![task.0, epoch],
        )
    }

    /// Every job of a task, oldest first.
    pub fn jobs_of(&self, task: TaskId) -> Result<Vec<Job>> {
        self.jobs_where("task_id = ?1 ORDER BY id", params![task.0])
    }

    /// Queued jobs in the order of the queue: priority of the work item, then task id.
    pub fn queued_jobs(&self) -> Result<Vec<Job>> {
        if self.none("jobs WHERE status = 'queued'")? {
            return Ok(Vec::new());
        }
        self.list("jobs", "SELECT * FROM jobs WHERE status = 'queued' ORDER BY priority, task_id", [], job)
    }

    /// The job that is next in the queue.
    pub fn next_queued(&self) -> Result<Option<JobId>> {
        Ok(self
            .tx
            .prepare_cached("SELECT id FROM jobs WHERE status = 'queued' ORDER BY priority, task_id LIMIT 1")?
            .query_row([], |r| r.get(0))
            .optional()?
            .map(JobId))
    }

    /// Claimed jobs.
    pub fn running_jobs(&self) -> Result<Vec<Job>> {
        self.list("jobs", "SELECT * FROM jobs WHERE status = 'running' ORDER BY id", [], job)
    }

    fn jobs_where(&self, condition: &str, values: impl rusqlite::Params) -> Result<Vec<Job>> {
        let mut statement = self.tx.prepare_cached(&format!("SELECT * FROM jobs WHERE {condition}"))?;
        let rows = statement.query_map(values, job)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Queued jobs of a task get its work item's priority.
    pub fn set_priority(&self, task: TaskId, priority: i64) -> Result<()> {
        self.tx
            .prepare_cached("UPDATE jobs SET priority = ?2 WHERE task_id = ?1 AND status = 'queued'")?
            .execute([task.0, priority])?;
        Ok(())
    }

    /// The first claim moves the task out of `created`: the job then belongs to the stage it entered.
    pub fn retarget_job(&self, id: JobId, task: &Task, agent: Option<Agent>) -> Result<()> {
        self.tx
            .prepare_cached("UPDATE jobs SET stage = ?2, epoch = ?3, agent = ?4 WHERE id = ?1")?
            .execute(params![id.0, task.stage.as_str(), task.epoch, agent.map(Agent::as_str)])?;
        Ok(())
    }

    /// `queued → running` under a new token. Returns whether this caller got it.
    pub fn claim_job(&self, id: JobId, token: &str) -> Result<bool> {
        Ok(self
            .tx
            .prepare_cached("UPDATE jobs SET status = 'running', token = ?2 WHERE id = ?1 AND status = 'queued'")?
            .execute(params![id.0, token])?
            == 1)
    }

    /// Ends a running job under its token; [`StoreError::Lost`] if the token is no longer valid.
    pub fn settle_job(
        &self,
        id: JobId,
        token: &str,
        status: JobStatus,
        reason: Option<&str>,
        spent: bool,
        at: i64,
    ) -> Result<()> {
        let changed = self
            .tx
            .prepare_cached("UPDATE jobs SET status = ?3, reason = COALESCE(?4, reason), spent = ?5, settled_at = ?6 WHERE id = ?1 AND token = ?2 AND status = 'running'")?
            .execute(params![id.0, token, status.as_str(), reason, spent, at])?;
        if changed == 1 { Ok(()) } else { Err(StoreError::Lost) }
    }

    /// Ends a running job that failed without using up an attempt, counted by its cause (RULE-48).
    pub fn settle_job_unspent(&self, id: JobId, token: &str, cause: Cause, reason: &str, at: i64) -> Result<()> {
        self.settle_job(id, token, JobStatus::Failed, Some(reason), false, at)?;
        self.tx.prepare_cached("UPDATE jobs SET cause = ?2 WHERE id = ?1")?.execute(params![id.0, cause.as_str()])?;
        Ok(())
    }

    /// Requeues a running job without a token; it can be claimed again from `available_at` on. `reason` says why it is
    /// not due yet.
    pub fn requeue_job(&self, id: JobId, token: &str, available_at: i64, reason: &str) -> Result<()> {
        let changed = self
            .tx
            .prepare_cached("UPDATE jobs SET status = 'queued', token = NULL, available_at = ?3, reason = ?4, cause = NULL, again = 0 WHERE id = ?1 AND token = ?2 AND status = 'running'")?
            .execute(params![id.0, token, available_at, reason])?;
        if changed == 1 { Ok(()) } else { Err(StoreError::Lost) }
    }

    /// The same with the cause, which is the rule that holds the job meanwhile (RULE-45). `due` gives the time, from
    /// how often in a row it was requeued for this cause.
    pub fn requeue_job_for(
        &self,
        id: JobId,
        token: &str,
        cause: Cause,
        reason: &str,
        due: impl Fn(i64) -> i64,
    ) -> Result<()> {
        let times = self.defer_job(id, token, cause, reason)?;
        self.tx
            .prepare_cached("UPDATE jobs SET status = 'queued', token = NULL, available_at = ?2 WHERE id = ?1")?
            .execute(params![id.0, due(times)])?;
        Ok(())
    }

    /// Defers the finalization of a running job whose run has exited; returns how often in a row it was deferred for
    /// this cause. [`StoreError::Lost`] if the token is no longer valid.
    pub fn defer_job(&self, id: JobId, token: &str, cause: Cause, why: &str) -> Result<i64> {
        self.tx
            .prepare_cached(
                "UPDATE jobs SET reason = ?4, again = CASE WHEN cause = ?3 THEN again + 1 ELSE 1 END, cause = ?3
                 WHERE id = ?1 AND token = ?2 AND status = 'running' RETURNING again",
            )?
            .query_row(params![id.0, token, cause.as_str(), why], |r| r.get(0))
            .optional()?
            .ok_or(StoreError::Lost)
    }

    /// When a deferred job is retried.
    pub fn set_job_due(&self, id: JobId, available_at: i64) -> Result<()> {
        self.tx
            .prepare_cached("UPDATE jobs SET available_at = ?2 WHERE id = ?1")?
            .execute(params![id.0, available_at])?;
        Ok(())
    }

    /// A person asked for it: a deferred job is due at once, and its count starts over.
    pub fn resume_job(&self, id: JobId, now: i64) -> Result<()> {
        self.tx
            .prepare_cached("UPDATE jobs SET available_at = ?2, again = 0 WHERE id = ?1")?
            .execute(params![id.0, now])?;
        Ok(())
    }

    /// Cancels every live job of a task, which also invalidates their tokens. Returns how many.
    pub fn cancel_jobs(&self, task: TaskId, reason: &str, at: i64) -> Result<usize> {
        Ok(self
            .tx
            .prepare_cached("UPDATE jobs SET status = 'cancelled', token = NULL, reason = ?2, settled_at = ?3 WHERE task_id = ?1 AND status IN ('queued', 'running')")?
            .execute(params![task.0, reason, at])?)
    }

    /// Jobs by status, for `status`.
    pub fn queue_counts(&self) -> Result<Vec<(JobStatus, i64)>> {
        let mut statement = self.tx.prepare_cached("SELECT status, COUNT(*) AS n FROM jobs GROUP BY status")?;
        let rows = statement.query_map([], |r| Ok((parsed(r, "status", JobStatus::parse)?, r.get("n")?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
