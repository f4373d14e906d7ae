//! The red CI that blocks a task, and how `orch retry` runs it again on the same head (ORD-1).

use super::base_rows;
use super::default_branch;
use super::{Ctx, projects, throttle};
use crate::adapters::git::Mirror;
use crate::adapters::store::{NewEvidence, Result as StoreResult, Tx};
use crate::config::Project;
use crate::model::evidence::{EvidenceDetail, EvidenceVerdict};
use crate::model::finding::Origin;
use crate::model::gate::Gate;
use crate::model::ids::{Sha, TaskId};
use crate::model::task::Task;
use anyhow::Result;
use serde_json::json;

/// CI's *no* that blocks a task at its head.
#[derive(Debug)]
pub struct RedCi {
    sha: Sha,
    tree: String,
    /// The settings that decide it have changed since it was red.
    pub changed: bool,
}

/// The red CI that a task is blocked by; `None`: it is not blocked, or by something else.
pub fn red_ci(ctx: &mut Ctx, id: TaskId) -> Result<Option<RedCi>> {
    let task = ctx.task(id)?;
    let findings = task.held_findings.as_deref().unwrap_or_default();
    if task.blocked_reason.is_none() || !findings.iter().any(|f| f.source == Origin::Ci) {
        return Ok(None);
    }
    let rows = ctx.store.read(|tx| tx.evidence_of(id))?;
    let newest = rows.into_iter().rev().find(|e| e.subject == Gate::CiGreen);
    let Some(e) = newest.filter(|e| e.verdict == EvidenceVerdict::Fail) else { return Ok(None) };
    let project = ctx.project(&task.project).ok().cloned();
    let now = project.as_ref().map(|p| base_rows::ground(&ctx.config, p));
    let kept = e.detail.of_code().cloned().unwrap_or_default();
    let other = |kept: Option<String>, now: Option<String>| kept.zip(now).is_some_and(|(then, now)| then != now);
    let changed = other(kept.settings, now) || {
        // An unavailable remote says nothing about a change.
        let there = project.and_then(|p| scripts_now(ctx, &p).ok().flatten());
        other(kept.scripts, there)
    };
    Ok(Some(RedCi { changed, sha: e.sha.clone(), tree: e.code_tree.clone() }))
}

/// Digest of the scripts that the configured commands name, in the default branch's commit, which is what runs
/// (RULE-23): fixing a script there counts as changed settings. `None`: they can't be read.
pub fn scripts(mirror: &Mirror, project: &Project, tip: &Sha) -> Option<String> {
    let blobs: Option<Vec<Option<Sha>>> = project.scripts().iter().map(|path| mirror.blob_of(tip, path).ok()).collect();
    Some(throttle::digest(&[&json!(blobs?).to_string()]))
}

fn scripts_now(ctx: &mut Ctx, project: &Project) -> Result<Option<String>> {
    let mirror = projects::mirror(ctx, project)?;
    let (_, tip) = default_branch::fetch_default(ctx, project, &mirror)?;
    Ok(scripts(&mirror, project, &tip))
}

impl RedCi {
    /// Withdraws the *no*: the same head is judged again, in the stay that has just begun.
    pub fn runs_again(&self, tx: &Tx<'_>, task: &Task, at: i64) -> StoreResult<()> {
        let row = NewEvidence {
            subject: Gate::CiGreen.into(),
            run_id: None,
            sha: self.sha.clone(),
            code_tree: self.tree.clone(),
            verdict: EvidenceVerdict::Missing,
            why: "CI runs again on the same head".to_owned(),
            detail: EvidenceDetail::Again,
        };
        tx.add_evidence(task, &row, at).map(drop)
    }
}
