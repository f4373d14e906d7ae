//! Queries for views only (CLI-3): each reads just what is shown, whatever the history's length.

use super::{Result, Tx, parsed, parsed_opt, tasks::task};
use crate::model::ids::{Key, TaskId};
use crate::model::stage::{Agent, JobKind, Stage};
use crate::model::summary::RunFact;
use crate::model::task::{RunState, Task};
use rusqlite::{OptionalExtension, params};
use std::collections::HashMap;

/// What a task's runs cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CostSum {
    /// Millionths of a dollar, of the runs whose cost is known.
    pub micros: i64,
    /// Agent runs that have ended and whose cost is unknown.
    pub unknown: i64,
    /// Agent runs of known cost.
    pub known: i64,
}

/// A message that its sink refused permanently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedMessage {
    pub task_id: Option<TaskId>,
    pub sink: String,
    pub error: String,
    pub created_at: i64,
}

impl Tx<'_> {
    /// Every task that is not terminal and the `most` last finished ones, one per key (the newest), by id.
    pub fn shown_tasks(&self, most: u32) -> Result<Vec<Task>> {
        self.list(
            "tasks",
            "SELECT * FROM tasks WHERE id IN (
                SELECT id FROM tasks WHERE stage NOT IN ('done', 'cancelled')
                UNION SELECT id FROM (SELECT id FROM tasks t WHERE finished_at IS NOT NULL
                    AND NOT EXISTS (SELECT 1 FROM tasks n WHERE n.key = t.key AND n.id > t.id)
                    ORDER BY finished_at DESC, id DESC LIMIT ?1)
             ) ORDER BY id",
            [most],
            task,
        )
    }

    /// What the runs of these tasks cost, in one query; a task without a run is absent.
    pub fn costs_of(&self, tasks: &[TaskId]) -> Result<HashMap<TaskId, CostSum>> {
        let ids: Vec<i64> = tasks.iter().map(|t| t.0).collect();
        let list = serde_json::to_string(&ids).unwrap_or_else(|_| "[]".to_owned());
        let mut statement = self.tx.prepare_cached(
            "SELECT task_id, COALESCE(SUM(cost_micros), 0), SUM(kind = 'agent' AND cost_micros IS NULL AND state = 'settled'),
                    SUM(kind = 'agent' AND cost_micros IS NOT NULL)
             FROM runs WHERE task_id IN (SELECT value FROM json_each(?1)) GROUP BY task_id",
        )?;
        let rows = statement.query_map([list], |r| {
            Ok((TaskId(r.get(0)?), CostSum { micros: r.get(1)?, unknown: r.get(2)?, known: r.get(3)? }))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The newest messages that were refused, or that still fail after about an hour, newest first.
    pub fn parked_messages(&self, most: u32) -> Result<Vec<ParkedMessage>> {
        let mut statement = self.tx.prepare_cached(
            "SELECT task_id, sink, COALESCE(last_error, ''), created_at FROM outbox
             WHERE state = 'parked' OR (state = 'open' AND attempts >= 8 AND last_error IS NOT NULL) ORDER BY id DESC LIMIT ?1",
        )?;
        let rows = statement.query_map(params![most], |r| {
            Ok(ParkedMessage {
                task_id: r.get::<_, Option<i64>>(0)?.map(TaskId),
                sink: r.get(1)?,
                error: r.get(2)?,
                created_at: r.get(3)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The newest event of a kind among the last few thousand: `(at, detail)`.
    pub fn last_event(&self, event: &str) -> Result<Option<(i64, String)>> {
        use rusqlite::OptionalExtension;
        Ok(self
            .tx
            .prepare_cached(
                "SELECT at, detail FROM audit WHERE event = ?1 AND seq > (SELECT COALESCE(MAX(seq), 0) - 2000 FROM audit) ORDER BY seq DESC LIMIT 1",
            )?
            .query_row([event], |r| Ok((r.get(0)?, r.get(1)?)))
            .optional()?)
    }

    /// The details of a task's events of one kind, oldest first.
    pub fn events_of(&self, task: TaskId, event: &str) -> Result<Vec<String>> {
        let mut statement =
            self.tx.prepare_cached("SELECT detail FROM audit WHERE task_id = ?1 AND event = ?2 ORDER BY seq")?;
        let rows = statement.query_map(params![task.0, event], |r| r.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// A work item's task by its round, tombstoned or not.
    pub fn task_of_round(&self, key: &Key, round: u32) -> Result<Option<Task>> {
        Ok(self
            .tx
            .prepare_cached("SELECT * FROM tasks WHERE key = ?1 AND round = ?2 ORDER BY id DESC LIMIT 1")?
            .query_row(params![key.as_str(), round], task)
            .optional()?)
    }

    /// Passes every run started since a wall time, with its task, to `each`, oldest first, one at a time.
    pub fn run_facts(&self, since: i64, each: &mut dyn FnMut(RunFact)) -> Result<()> {
        let mut statement = self.tx.prepare_cached(
            "SELECT r.*, t.key, t.title, t.project, t.stage AS task_stage, t.blocked_reason IS NOT NULL AS blocked,
                    t.created_at AS task_created_at, t.finished_at AS task_finished_at
             FROM runs r JOIN tasks t ON t.id = r.task_id WHERE r.started_at >= ?1 ORDER BY r.id",
        )?;
        let mut rows = statement.query([since])?;
        while let Some(r) = rows.next()? {
            each(RunFact {
                task_id: r.get("task_id")?,
                key: r.get("key")?,
                title: r.get("title")?,
                project: r.get("project")?,
                task_stage: parsed(r, "task_stage", Stage::parse)?,
                blocked: r.get("blocked")?,
                task_created_at: r.get("task_created_at")?,
                task_finished_at: r.get("task_finished_at")?,
                stage: parsed(r, "stage", Stage::parse)?,
                kind: parsed(r, "kind", JobKind::parse)?,
                agent: parsed_opt(r, "agent", Agent::parse)?,
                model: r.get("model")?,
                attempt: r.get("attempt")?,
                epoch: r.get("epoch")?,
                state: parsed(r, "state", RunState::parse)?,
                result: super::runs::run_end(r)?,
                cost_micros: r.get("cost_micros")?,
                tokens_in: r.get("tokens_in")?,
                tokens_out: r.get("tokens_out")?,
                started_at: r.get("started_at")?,
                ended_at: r.get("ended_at")?,
            });
        }
        Ok(())
    }

    /// Reads every list that a step reads; rows that can't be decoded are recorded (`Store::unreadable`).
    pub fn read_lists(&self) -> Result<()> {
        self.open_tasks()?;
        self.queued_jobs()?;
        self.running_jobs()?;
        self.open_runs()?;
        self.pending_intents()?;
        self.taken_messages()?;
        self.list("outbox", "SELECT * FROM outbox WHERE state = 'open'", [], super::outbox::outbox)?;
        Ok(())
    }

    /// Tasks by stage.
    pub fn task_counts(&self) -> Result<Vec<(Stage, i64)>> {
        let mut statement = self.tx.prepare_cached("SELECT stage, COUNT(*) AS n FROM tasks GROUP BY stage")?;
        let rows = statement.query_map([], |r| Ok((parsed(r, "stage", Stage::parse)?, r.get("n")?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Tasks that ended before a wall time, oldest first.
    pub fn finished_before(&self, before: i64) -> Result<Vec<Task>> {
        let mut statement = self.tx.prepare_cached(
            "SELECT * FROM tasks WHERE finished_at IS NOT NULL AND finished_at < ?1 ORDER BY finished_at",
        )?;
        let rows = statement.query_map([before], task)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
