//! The red CI that blocks a task, and how `orch retry` has it run again on the same head (ORD-1).

use super::{Ctx, base_job};
use crate::adapters::store::{NewEvidence, Result as StoreResult, Tx};
use crate::decide::gates::ci_green::AGAIN;
use crate::model::decision::Gate;
use crate::model::ids::{Sha, TaskId};
use crate::model::task::{EvidenceVerdict, Task};
use anyhow::Result;
use serde_json::json;

/// CI's *no* on the head of a task that is blocked by it.
#[derive(Debug)]
pub struct RedCi {
    sha: Sha,
    tree: String,
    /// The settings that decide it are others now than those it was red under.
    pub changed: bool,
}

/// The red CI that a task is blocked by; `None`: it is not blocked, or by something else.
pub fn red_ci(ctx: &mut Ctx, id: TaskId) -> Result<Option<RedCi>> {
    let task = ctx.task(id)?;
    let findings = task.held_findings.as_deref().unwrap_or_default();
    if task.blocked_reason.is_none() || !findings.iter().any(|f| f.source == "ci") {
        return Ok(None);
    }
    let now = ctx.project(&task.project).ok().map(|p| base_job::ground(&ctx.config, p));
    let rows = ctx.store.read(|tx| tx.evidence_of(id))?;
    let newest = rows.into_iter().rev().find(|e| e.gate == Gate::CiGreen.as_str());
    Ok(newest.filter(|e| e.verdict == EvidenceVerdict::Fail).map(|e| RedCi {
        changed: e.detail["settings"].as_str().is_some_and(|then| now.as_deref().is_some_and(|now| now != then)),
        sha: e.sha,
        tree: e.code_tree,
    }))
}

impl RedCi {
    /// Takes the *no* back: the same head is judged again, in the stay that has just begun.
    pub fn runs_again(&self, tx: &Tx<'_>, task: &Task, at: i64) -> StoreResult<()> {
        let row = NewEvidence {
            gate: Gate::CiGreen.as_str(),
            run_id: None,
            sha: self.sha.clone(),
            code_tree: self.tree.clone(),
            verdict: EvidenceVerdict::Missing,
            why: "CI runs again on the same head".to_owned(),
            detail: json!({AGAIN: true}),
        };
        tx.add_evidence(task, &row, at).map(drop)
    }
}
