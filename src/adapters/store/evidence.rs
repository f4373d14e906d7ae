//! Evidence: verdicts on commits. Append-only; the newest row of a gate and epoch counts.

use super::audit::{EVIDENCE, row_hash};
use super::{Result, Tx, parsed};
use crate::model::evidence::{EvidenceDetail, EvidenceVerdict, NewEvidence};
use crate::model::gate::Subject;
use crate::model::ids::{RunId, Sha, TaskId};
use crate::model::task::{Evidence, Task};
use rusqlite::{Row, params};
use serde_json::json;

fn evidence(row: &Row<'_>) -> rusqlite::Result<Evidence> {
    Ok(Evidence {
        id: row.get("id")?,
        subject: parsed(row, "gate", Subject::parse)?,
        attempt: row.get("attempt")?,
        epoch: row.get("epoch")?,
        run_id: row.get::<_, Option<i64>>("run_id")?.map(RunId),
        sha: parsed(row, "sha", |t| Sha::parse(t).ok())?,
        code_tree: row.get("code_tree")?,
        verdict: parsed(row, "verdict", EvidenceVerdict::parse)?,
        why: row.get("why")?,
        detail: EvidenceDetail::parse(&row.get::<_, String>("detail")?),
        tampered: false,
    })
}

impl Tx<'_> {
    /// Records a verdict for the task's current attempt and epoch, and binds it by an event of the audit table.
    pub fn add_evidence(&self, task: &Task, new: &NewEvidence, at: i64) -> Result<i64> {
        self.tx
            .prepare_cached(
                "INSERT INTO evidence (task_id, gate, attempt, epoch, run_id, sha, code_tree, verdict, why, detail, at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                task.id.0,
                new.subject.as_str(),
                task.attempt,
                task.epoch,
                new.run_id.map(|r| r.0),
                new.sha.as_str(),
                new.code_tree,
                new.verdict.as_str(),
                new.why,
                new.detail.text(),
                at
            ])?;
        let id = self.tx.last_insert_rowid();
        let hash = self.tx.prepare_cached("SELECT * FROM evidence WHERE id = ?1")?.query_row([id], row_hash)?;
        let bound = json!({
            "evidence": id, "gate": new.subject.as_str(), "verdict": new.verdict, "commit": new.sha, "run": new.run_id.map(|r| r.0),
            "why": new.why, "hash": hash,
        });
        self.audit(at, Some(task.id), EVIDENCE, &bound)?;
        Ok(id)
    }

    /// All evidence of a task, oldest first.
    pub fn evidence_of(&self, task: TaskId) -> Result<Vec<Evidence>> {
        let mut statement = self.tx.prepare_cached("SELECT * FROM evidence WHERE task_id = ?1 ORDER BY id")?;
        let rows = statement.query_map([task.0], evidence)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
