//! Decides past gates and the watch again from stored data (`gate replay`): the same pure functions on the rows as they
//! were then.

use super::{Ctx, bound};
use crate::adapters::store::StoreError;
use crate::decide::gates::{self, Facts};
use crate::decide::watch::classify;
use crate::model::decision::Answer;
use crate::model::evidence::{EvidenceDetail, EvidenceVerdict};
use crate::model::gate::Gate;
use crate::model::policy::ProjectPolicy;
use crate::model::stage::Stage;
use crate::model::task::{Deploy, DeployState, Evidence, Lease, Task};
use crate::model::view::TaskView;
use crate::model::watch::{Watch, WatchRecord};
use anyhow::{Context, Result};
use serde::Serialize;

/// The name of the watch in a replay.
pub const WATCH: &str = "post_deploy_watch";

/// One decision made again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replayed {
    pub gate: String,
    /// The evidence row; `None` for the watch.
    pub evidence: Option<i64>,
    pub attempt: i64,
    pub commit: Option<String>,
    /// What was recorded then.
    pub recorded: String,
    /// The decision now: `pass`, `fail`, `stale`, `stuck`, `undecided`; for the watch its classification.
    pub answer: String,
    pub why: String,
    /// The record and the decision do not contradict each other.
    pub agrees: bool,
}

/// Every gate row of a task, oldest first, then the watch. `only`: one gate by name.
pub fn task(ctx: &mut Ctx, task: &Task, only: Option<&str>) -> Result<Vec<Replayed>> {
    let policy = ctx.policy.clone();
    let now = ctx.now();
    let project = policy
        .project(&task.project)
        .with_context(|| format!("project {} is not in the configuration, its rules are unknown", task.project))?;
    let (evidence, deploys) =
        ctx.store.read(|tx| Ok::<_, StoreError>((tx.evidence_of(task.id)?, tx.deploys_of(task.id)?)))?;
    let mut out = Vec::new();
    let checked = bound::checked(evidence.clone(), ctx.paths.root());
    for (at, (row, now_counts)) in evidence.iter().zip(&checked).enumerate() {
        let Some(gate) = row.subject.gate() else { continue };
        if only.is_some_and(|o| o != gate.as_str()) {
            continue;
        }
        let until = settled_by(&checked, at);
        let view = TaskView {
            task: as_it_was(task, row, gate, project),
            live_job: None,
            ended: Vec::new(),
            evidence: checked.get(..until).unwrap_or(&checked).to_vec(),
            lease: Some(lease(task, row)),
            lease_holder: None,
            deploy: deploy(&deploys, row, gate),
            freeze: None,
            undeployed: None,
            halted: None,
            deploy_held: false,
            awaits: None,
            auto: None,
            now: now.stamp.clone(),
        };
        out.push(one(gate, row, now_counts.tampered, &Facts { view: &view, policy: &policy, project }));
    }
    if only.is_none_or(|o| o == WATCH)
        && let Some(watch) = watch(ctx, task)?
    {
        out.push(watch);
    }
    Ok(out)
}

/// The rows that the decision of the row at `at` finally relied on: a gate that needs others (the merge gate needs CI
/// on the head it made) passes only once they exist. Up to the next row of the same gate or round.
fn settled_by(rows: &[Evidence], at: usize) -> usize {
    let Some(row) = rows.get(at) else { return rows.len() };
    let later = rows.iter().enumerate().skip(at + 1);
    let mut next = later.filter(|(_, e)| e.subject == row.subject || e.attempt != row.attempt || e.epoch < row.epoch);
    next.next().map_or(rows.len(), |(n, _)| n)
}

/// The task at the moment the row was written, as far as gates read it.
fn as_it_was(task: &Task, row: &Evidence, gate: Gate, project: &ProjectPolicy) -> Task {
    let mut t = task.clone();
    t.attempt = row.attempt;
    t.epoch = row.epoch;
    t.head_sha = Some(row.sha.clone());
    t.head_tree = Some(row.code_tree.clone());
    t.blocked_reason = None;
    t.stop_requested_at = None;
    if let Some(stage) = Stage::ALL.iter().find(|s| gates::on_leaving(**s, project).contains(&gate)) {
        t.stage = *stage;
    }
    t
}

/// The lease under which the row was made.
fn lease(task: &Task, row: &Evidence) -> Lease {
    let fence = row.detail.fence().unwrap_or(0);
    Lease { repo: task.repo.clone(), fence, task_id: Some(task.id), actor: None, acquired_at: None, renewed_at: None }
}

fn deploy(deploys: &[Deploy], row: &Evidence, gate: Gate) -> Option<Deploy> {
    if gate != Gate::DeployStatus {
        return None;
    }
    let EvidenceDetail::Deploy { deploy: id } = &row.detail else { return None };
    let settled = |d: &&Deploy| d.id == *id && d.state == DeployState::Settled;
    deploys.iter().find(settled).cloned().map(|d| Deploy { attempt: row.attempt, ..d })
}

/// `tampered`: the file that the row binds is gone or differs (RULE-47).
fn one(gate: Gate, row: &Evidence, tampered: bool, facts: &Facts<'_>) -> Replayed {
    let (answer, why) = match gates::evaluate(gate, facts) {
        Answer::Pass { why } => ("pass", why),
        Answer::Fail { why, .. } => ("fail", why),
        Answer::Stale { why, .. } => ("stale", why),
        Answer::Stuck { why, .. } => ("stuck", why),
        Answer::Undecided { why, .. } => ("undecided", why),
    };
    // A gate may require more than its own row, but must never turn a *no* into a *yes* or the reverse.
    let agrees = !tampered
        && match row.verdict {
            EvidenceVerdict::Pass => answer != "fail",
            EvidenceVerdict::Fail | EvidenceVerdict::Missing | EvidenceVerdict::ToolError => answer != "pass",
        };
    Replayed {
        gate: gate.to_string(),
        evidence: Some(row.id),
        attempt: row.attempt,
        commit: Some(row.sha.to_string()),
        recorded: row.verdict.to_string(),
        answer: answer.to_owned(),
        why,
        agrees,
    }
}

/// The watch, from `post-deploy.json`.
fn watch(ctx: &mut Ctx, task: &Task) -> Result<Option<Replayed>> {
    let Some(recorded) = task.watch else { return Ok(None) };
    let project = ctx.project(&task.project)?.clone();
    let places = [ctx.paths.watch(task), ctx.paths.archive(task).join("post-deploy.json")];
    let Some(path) = places.iter().find(|p| p.exists()) else { return Ok(None) };
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let mut record = WatchRecord::parse(&text, task.id.0, u32::try_from(task.attempt).unwrap_or(0))?;
    // Decide again instead of reading the result back.
    record.latched = None;
    let policy = project.watch_policy();
    let c = classify(&record, &policy, recorded != Watch::Armed);
    let answer = c.status().map_or(Watch::Armed, Watch::from);
    Ok(Some(Replayed {
        gate: WATCH.to_owned(),
        evidence: None,
        attempt: task.attempt,
        commit: record.revision.clone(),
        agrees: answer == recorded,
        recorded: recorded.to_string(),
        answer: answer.to_string(),
        why: c.why().to_owned(),
    }))
}
