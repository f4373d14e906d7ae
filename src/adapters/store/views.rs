//! Queries for views alone (CLI-3): each reads what is shown at once, whatever the history's length.

use super::{Result, Tx, tasks::task};
use crate::model::ids::TaskId;
use crate::model::task::Task;
use rusqlite::params;
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

/// A message that its sink refused for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedMessage {
    pub task_id: Option<TaskId>,
    pub sink: String,
    pub error: String,
    pub created_at: i64,
}

impl Tx<'_> {
    /// Every task that is not terminal and the `most` finished last, one per key (the newest), by id.
    pub fn shown_tasks(&self, most: u32) -> Result<Vec<Task>> {
        let mut statement = self.tx.prepare_cached(
            "SELECT * FROM tasks WHERE id IN (
                SELECT id FROM tasks WHERE stage NOT IN ('done', 'cancelled')
                UNION SELECT id FROM (SELECT id FROM tasks t WHERE finished_at IS NOT NULL
                    AND NOT EXISTS (SELECT 1 FROM tasks n WHERE n.key = t.key AND n.id > t.id)
                    ORDER BY finished_at DESC, id DESC LIMIT ?1)
             ) ORDER BY id",
        )?;
        let rows = statement.query_map([most], task)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
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

    /// The newest parked messages, newest first.
    pub fn parked_messages(&self, most: u32) -> Result<Vec<ParkedMessage>> {
        let mut statement = self.tx.prepare_cached(
            "SELECT task_id, sink, COALESCE(last_error, ''), created_at FROM outbox WHERE state = 'parked' ORDER BY id DESC LIMIT ?1",
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
}
