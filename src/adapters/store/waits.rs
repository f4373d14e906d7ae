//! What tasks waited for and how long, from rows and the audit table, for `orch report` (DSK-1).

use super::{Result, Tx};
use rusqlite::params;
use std::collections::HashMap;

impl Tx<'_> {
    /// Passes every wait that ended since a wall time, or is still open at `now`, to `each`: its cause and
    /// milliseconds. A wait for a person is known from its release, a block until it was lifted, the queue from a job's
    /// row to its first run.
    pub fn waits(&self, since: i64, now: i64, each: &mut dyn FnMut(&'static str, i64)) -> Result<()> {
        let person = |name: &str| match name {
            "approval" => Some("approval"),
            "confirm_deploy" => Some("confirm_deploy"),
            _ => None,
        };
        let mut blocked: HashMap<i64, i64> = HashMap::new();
        let mut events = self.tx.prepare_cached(
            "SELECT task_id, at, event, detail FROM audit WHERE at >= ?1 AND task_id IS NOT NULL AND event IN
                ('released', 'task_blocked', 'retried', 'resumed', 'rejected', 'stop_requested') ORDER BY seq",
        )?;
        let mut rows = events.query([since])?;
        while let Some(r) = rows.next()? {
            let (task, at, event): (i64, i64, String) = (r.get(0)?, r.get(1)?, r.get(2)?);
            match event.as_str() {
                "task_blocked" => drop(blocked.entry(task).or_insert(at)),
                "released" => {
                    let detail: serde_json::Value = serde_json::from_str(&r.get::<_, String>(3)?).unwrap_or_default();
                    let cause = detail["for"].as_str().and_then(person);
                    if let (Some(cause), Some(ms)) = (cause, detail["waited_ms"].as_i64()) {
                        each(cause, ms);
                    }
                }
                _ => {
                    if let Some(from) = blocked.remove(&task) {
                        each("blocked", at - from);
                    }
                }
            }
        }
        let mut open = self.tx.prepare_cached(
            "SELECT id, waiting_for, waiting_since, blocked_reason IS NOT NULL FROM tasks
             WHERE stage NOT IN ('done', 'cancelled') AND (waiting_for IS NOT NULL OR blocked_reason IS NOT NULL)",
        )?;
        let mut rows = open.query([])?;
        while let Some(r) = rows.next()? {
            let (task, waiting, from): (i64, Option<String>, Option<i64>) = (r.get(0)?, r.get(1)?, r.get(2)?);
            if let (Some(cause), Some(from)) = (waiting.as_deref().and_then(person), from) {
                each(cause, now - from);
            }
            if let (true, Some(from)) = (r.get(3)?, blocked.get(&task)) {
                each("blocked", now - from);
            }
        }
        let mut queue = self.tx.prepare_cached(
            "SELECT MIN(r.started_at) - j.created_at FROM runs r JOIN jobs j ON j.id = r.job_id
             WHERE r.started_at >= ?1 GROUP BY j.id",
        )?;
        let mut rows = queue.query(params![since])?;
        while let Some(r) = rows.next()? {
            each("queue", r.get(0)?);
        }
        Ok(())
    }
}
