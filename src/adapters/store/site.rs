//! Which tasks have a page, and what of them is listed (DSK-2): the newest task of each key.

use super::{Result, Tx, parsed};
use crate::model::ids::TaskId;
use crate::model::stage::Stage;
use rusqlite::params;

/// An ended task, with what the list shows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedTask {
    pub key: String,
    pub title: String,
    pub stage: Stage,
    pub finished_at: i64,
}

impl Tx<'_> {
    /// The newest task of every key, by id.
    pub fn paged_tasks(&self) -> Result<Vec<TaskId>> {
        let mut statement = self.tx.prepare_cached("SELECT MAX(id) FROM tasks GROUP BY key ORDER BY 1")?;
        let rows = statement.query_map([], |r| r.get(0).map(TaskId))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The newest task of every key that has an event recorded after this one.
    pub fn paged_since(&self, seq: i64) -> Result<Vec<TaskId>> {
        let mut statement = self.tx.prepare_cached(
            "SELECT DISTINCT (SELECT MAX(n.id) FROM tasks n WHERE n.key = t.key) FROM audit a JOIN tasks t ON t.id = a.task_id
             WHERE a.seq > ?1 ORDER BY 1",
        )?;
        let rows = statement.query_map(params![seq], |r| r.get(0).map(TaskId))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Every key whose newest task has ended, oldest first.
    pub fn ended_tasks(&self) -> Result<Vec<EndedTask>> {
        let mut statement = self.tx.prepare_cached(
            "SELECT t.key, t.title, t.stage, t.finished_at FROM tasks t WHERE t.finished_at IS NOT NULL
               AND NOT EXISTS (SELECT 1 FROM tasks n WHERE n.key = t.key AND n.id > t.id)
             ORDER BY t.finished_at, t.id",
        )?;
        let rows = statement.query_map([], |r| {
            Ok(EndedTask {
                key: r.get(0)?,
                title: r.get(1)?,
                stage: parsed(r, "stage", Stage::parse)?,
                finished_at: r.get(3)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
