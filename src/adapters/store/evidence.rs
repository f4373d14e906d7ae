//! Evidence: verdicts on commits. Append-only; the newest row of a gate and epoch counts.

use super::{Result, Tx, from_json, parsed};
use crate::model::ids::{RunId, Sha, TaskId};
use crate::model::task::{Evidence, EvidenceVerdict, Task};
use rusqlite::{Row, params};

/// A verdict to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvidence {
    pub gate: &'static str,
    pub run_id: Option<RunId>,
    /// The commit judged.
    pub sha: Sha,
    pub code_tree: String,
    pub verdict: EvidenceVerdict,
    pub why: String,
    pub detail: serde_json::Value,
}

fn evidence(row: &Row<'_>) -> rusqlite::Result<Evidence> {
    Ok(Evidence {
        id: row.get("id")?,
        gate: row.get("gate")?,
        attempt: row.get("attempt")?,
        epoch: row.get("epoch")?,
        run_id: row.get::<_, Option<i64>>("run_id")?.map(RunId),
        sha: parsed(row, "sha", |t| Sha::parse(t).ok())?,
        code_tree: row.get("code_tree")?,
        verdict: parsed(row, "verdict", EvidenceVerdict::parse)?,
        why: row.get("why")?,
        detail: parsed(row, "detail", from_json)?,
    })
}

impl Tx<'_> {
    /// Records a verdict for the task's present attempt and epoch.
    pub fn add_evidence(&self, task: &Task, new: &NewEvidence, at: i64) -> Result<i64> {
        self.tx
            .prepare_cached(
                "INSERT INTO evidence (task_id, gate, attempt, epoch, run_id, sha, code_tree, verdict, why, detail, at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                task.id.0,
                new.gate,
                task.attempt,
                task.epoch,
                new.run_id.map(|r| r.0),
                new.sha.as_str(),
                new.code_tree,
                new.verdict.as_str(),
                new.why,
                new.detail.to_string(),
                at
            ])?;
        Ok(self.tx.last_insert_rowid())
    }

    /// All evidence of a task, oldest first.
    pub fn evidence_of(&self, task: TaskId) -> Result<Vec<Evidence>> {
        let mut statement = self.tx.prepare_cached("SELECT * FROM evidence WHERE task_id = ?1 ORDER BY id")?;
        let rows = statement.query_map([task.0], evidence)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
