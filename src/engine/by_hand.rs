//! What a person does to a task on the command line: reject, retry.

use super::red_ci::red_ci;
use super::{Ctx, Moment, apply, base, base_job, bound, messages, stop, view};
use crate::adapters::store::{NewEvidence, Result as StoreResult, StoreError, Tx};
use crate::config::Config;
use crate::decide::transition;
use crate::model::act::By;
use crate::model::change::{Budget, Change, Move};
use crate::model::decision::{Decision, Gate};
use crate::model::ids::TaskId;
use crate::model::policy::Policy;
use crate::model::refusal::Asked;
use crate::model::report::{ActionKind, ActionLine};
use crate::model::run_end::{RunEnd, RunResult};
use crate::model::stage::{JobKind, JobStatus, Stage};
use crate::model::task::{Cause, Deploy, DeployState, EvidenceVerdict, Finding, Job, NewJob, Run, RunState, Task};
use crate::model::view::TaskView;
use crate::model::withdrawal::Withdrawal;
use anyhow::Result;
use serde_json::json;

/// `--reject`: in analysis the analyst works again with the reason; from architecture on back to development. `false`:
/// refused (created, terminal, a deploy under way). A run that is at work meanwhile is ended: what it would say is of no
/// more use.
pub fn reject(ctx: &mut Ctx, id: TaskId, text: &str, by: &By) -> Result<bool> {
    let (now, policy) = (ctx.now(), ctx.policy.clone());
    let done = ctx.store.write(|tx| reject_in(tx, id, text, by, &now, &policy))?;
    let Some(Rejected { actions, cut }) = done else { return Ok(false) };
    ctx.report.changed = true;
    ctx.report.actions.extend(actions);
    if !ctx.dry && !cut.is_empty() {
        stop::end_runs(ctx, &cut)?;
    }
    Ok(true)
}

/// What a rejection did.
#[derive(Debug)]
pub struct Rejected {
    pub actions: Vec<ActionLine>,
    /// Runs whose processes are to be ended.
    pub cut: Vec<Run>,
}

/// The same within the caller's transaction; `None`: refused.
pub fn reject_in(
    tx: &Tx<'_>,
    id: TaskId,
    text: &str,
    by: &By,
    now: &Moment,
    policy: &Policy,
) -> Result<Option<Rejected>, StoreError> {
    let at = now.stamp.wall_ms;
    let view = view::task(tx, id, now, None)?;
    let task = view.task.clone();
    let running = view.live_job.as_ref().filter(|j| j.status == JobStatus::Running);
    let deploying = running.is_some_and(|j| match j.kind {
        JobKind::Deploy | JobKind::DeployFinalizer | JobKind::PostDeployMonitor => true,
        JobKind::Agent | JobKind::Ci | JobKind::Scan | JobKind::Staging | JobKind::Build => false,
    });
    let refused = task.stage == Stage::Created
        || task.stage.is_terminal()
        || deploying
        || task.critical.is_some()
        || task.stop_requested_at.is_some();
    if refused {
        return Ok(None);
    }
    let mut cut = Vec::new();
    if let Some(job) = running {
        // With the claim's token goes every right of its supervisor to settle, push or judge.
        cut = tx.runs_of(id)?.into_iter().filter(|r| r.job_id == job.id).collect::<Vec<_>>();
        tx.settle_runs_of_job(job.id, &RunEnd::new(RunResult::Cancelled, "rejected by a person"), at)?;
    }
    let mut actions = Vec::new();
    let cancelled = tx.cancel_jobs(id, "rejected by a person", at)?;
    if !cut.is_empty() {
        actions.push(ActionLine::new(ActionKind::JobCancelled, Some(task.key.as_str()), json!({"jobs": cancelled})));
    }
    let mut t = task.clone();
    apply::change(tx, &mut t, Change::Unblock, at)?;
    tx.audit(at, Some(id), "rejected", &json!({"stage": task.stage, "why": text, "by": by}))?;
    if task.stage == Stage::Analysis {
        apply::change(tx, &mut t, Change::Move(Move::Repeat), at)?;
        let reason = Some(format!("A person rejected the analysis: {text}"));
        let job = NewJob { agent: Stage::Analysis.agent(), reason, ..NewJob::now(JobKind::Agent) };
        let job = tx.enqueue(&t, &job, at)?;
        messages::show(tx, &t, at)?;
        actions.push(ActionLine::new(
            ActionKind::JobEnqueued,
            Some(t.key.as_str()),
            json!({"job": job, "agent": "analyst"}),
        ));
    } else {
        let finding = Finding { source: "a person".to_owned(), text: text.to_owned() };
        let view = view::task(tx, id, now, None)?;
        let decision = transition::send_back(&view, policy, format!("rejected by a person: {text}"), vec![finding]);
        apply::one(tx, view, decision, now, &mut actions)?;
    }
    Ok(Some(Rejected { actions, cut }))
}

/// What `orch retry` came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retried {
    /// Something is tried again.
    Begun,
    /// Nothing waits for a person's word.
    Nothing,
    /// It can't be done; why.
    Refused(String),
}

/// `orch retry`: takes the held decision again with a fresh budget. What waits for its time, a base, or a forge that
/// refuses is tried at once; a red CI whose settings changed since, or which `ci` asks for, runs again on the same head
/// (ORD-1).
pub fn retry(ctx: &mut Ctx, id: TaskId, ci: bool, by: &By) -> Result<Retried> {
    let taken = ctx.task(id)?.withdrawn.filter(Withdrawal::on_forge);
    if let Some(Withdrawal::BranchGone { branch }) = &taken {
        base::restore(ctx, id, branch)?;
    }
    let red = red_ci(ctx, id)?;
    if ci && red.is_none() {
        let key = ctx.task(id)?.key;
        return Ok(Retried::Refused(format!("{key} is not blocked by a red CI")));
    }
    let now = ctx.now();
    let at = now.stamp.wall_ms;
    let done = ctx.store.write(|tx| {
        let mut task = tx.task(id)?;
        let forge_hold = taken.is_some() && task.withdrawn == taken;
        if task.stage.is_terminal() {
            return Ok(None);
        }
        if task.blocked_reason.is_none() && !forge_hold && task.refused.is_none() {
            let due = at_once(tx, &ctx.config, &task, at)?;
            if due {
                tx.audit(at, Some(id), "retried", &json!({"stage": task.stage, "by": by}))?;
            }
            return Ok(due.then(Vec::new));
        }
        let stop = task.refused.as_ref().is_some_and(|r| r.asked == Asked::Stop);
        let only_refused = stop || (task.blocked_reason.is_none() && !forge_hold);
        if let Some(r) = &mut task.refused {
            (r.tries, r.answered_ms, r.next_at) = (0, 0, at);
        }
        let why = task.blocked_reason.clone();
        let ci_again = red.as_ref().filter(|r| ci || r.changed);
        let held = task.held_findings.clone().filter(|_| ci_again.is_none());
        task.apply(Change::Unblock)?;
        if forge_hold {
            task.apply(Change::Withdrawal(None))?;
            // One that was closed, or went with its branch, is opened again as another.
            if !matches!(taken, Some(Withdrawal::Merged { .. })) {
                task.apply(Change::Pull(None))?;
            }
        }
        tx.audit(
            at,
            Some(id),
            "retried",
            &json!({"stage": task.stage, "was": why, "rollback": held.is_some(), "ci": ci_again.is_some(), "by": by}),
        )?;
        if task.stage == Stage::Created {
            try_base(tx, &ctx.config, &task)?;
        }
        let mut actions = Vec::new();
        match held {
            Some(findings) => {
                tx.save_task(&mut task, at)?;
                let view = view::task(tx, id, &now, None)?;
                let why = why.unwrap_or_default();
                let why = format!("retried: {why}");
                let decision = Decision::Rollback { why, findings, squash: false, same: 0, budget: Budget::Anew };
                apply::one(tx, view, decision, &now, &mut actions)?;
            }
            // What an agent left is kept: it is pushed now, and no agent starts (RULE-45).
            None if only_refused || kept_run(tx, id)? => {
                tx.save_task(&mut task, at)?;
                if let Some(job) = tx.live_job(id)?.filter(|j| j.status == JobStatus::Running) {
                    tx.resume_job(job.id, at)?;
                }
                messages::show(tx, &task, at)?;
            }
            None => {
                let epoch = task.epoch;
                task.apply(Change::Move(Move::Repeat))?;
                stand(tx, &task, epoch, at, &now.root)?;
                if let Some(red) = ci_again {
                    red.runs_again(tx, &task, at)?;
                }
                again(tx, &mut task, &now.stamp)?;
                tx.save_task(&mut task, at)?;
                messages::show(tx, &task, at)?;
            }
        }
        Ok::<_, StoreError>(Some(actions))
    })?;
    let Some(actions) = done else { return Ok(Retried::Nothing) };
    ctx.report.changed = true;
    ctx.report.actions.extend(actions);
    Ok(Retried::Begun)
}

/// The base of a task's project is tried at once where it holds first jobs. Whether there is one.
fn try_base(tx: &Tx<'_>, config: &Config, task: &Task) -> StoreResult<bool> {
    config.project(&task.project).map_or(Ok(false), |p| base_job::try_now(tx, p.base_name()))
}

/// What only waits is due now: a job that was put back or put off, and the base that holds a first job. Whether there is any.
fn at_once(tx: &Tx<'_>, config: &Config, task: &Task, at: i64) -> StoreResult<bool> {
    let held_by_base = task.stage == Stage::Created && try_base(tx, config, task)?;
    // One that waits for a base is due when that was tried.
    let waits = |j: &Job| j.available_at > at && j.cause != Some(Cause::BaseFirst);
    let Some(job) = tx.live_job(task.id)?.filter(waits) else { return Ok(held_by_base) };
    tx.resume_job(job.id, at)?;
    Ok(true)
}

/// `orch retry --on-red-base`: the task starts although its base is red (ORD-1). `false`: it has started already.
pub fn allow_red_base(ctx: &mut Ctx, id: TaskId, by: &By) -> Result<bool> {
    let task = ctx.task(id)?;
    if task.stage != Stage::Created {
        return Ok(false);
    }
    let at = ctx.now().stamp.wall_ms;
    ctx.store.write(|tx| {
        base_job::allow(tx, id)?;
        tx.audit(at, Some(id), "starts_on_red_base", &json!({"by": by}))?;
        messages::comment(tx, &task, "on-red-base", "A person lets it start although the base is red.", at)?;
        messages::show(tx, &task, at)
    })?;
    ctx.report.changed = true;
    Ok(true)
}

/// `orch retry --from STAGE`: that stage's agent starts with a fresh budget (ORD-1).
pub fn retry_from(ctx: &mut Ctx, id: TaskId, stage: Stage, by: &By) -> Result<Retried> {
    let now = ctx.now();
    let at = now.stamp.wall_ms;
    let project = ctx.task(id)?.project;
    let stages = ctx.policy.project(&project).map(|p| p.stages.clone()).unwrap_or_default();
    let done = ctx.store.write(|tx| {
        let view = view::task(tx, id, &now, None)?;
        let mut task = view.task.clone();
        if let Some(why) = not_from(&view, stage, &stages) {
            return Ok(Err(format!("{} {why}", task.key)));
        }
        tx.cancel_jobs(id, "started again by a person", at)?;
        let (why, held) = (task.blocked_reason.clone(), task.held_findings.clone());
        task.apply(Change::Unblock)?;
        apply::change(tx, &mut task, Change::FreshBudget, at)?;
        tx.audit(at, Some(id), "retried", &json!({"stage": task.stage, "from": stage, "was": why, "by": by}))?;
        let mut actions = Vec::new();
        let why = format!("started again by a person{}", why.map_or_else(String::new, |w| format!(": {w}")));
        let findings = held.unwrap_or_else(|| task.findings.clone());
        let decision = if stage == Stage::Development {
            Decision::Rollback { why, findings, squash: false, same: 0, budget: Budget::Anew }
        } else {
            Decision::Return { to: stage, why }
        };
        let view = view::task(tx, id, &now, None)?;
        apply::one(tx, view, decision, &now, &mut actions)?;
        Ok::<_, StoreError>(Ok(actions))
    })?;
    match done {
        Err(why) => Ok(Retried::Refused(why)),
        Ok(actions) => {
            ctx.report.changed = true;
            ctx.report.actions.extend(actions);
            Ok(Retried::Begun)
        }
    }
}

/// Why a stage can't be started again; the rest of the sentence after the key.
fn not_from(view: &TaskView, stage: Stage, stages: &[Stage]) -> Option<String> {
    let task = &view.task;
    let running = view.live_job.as_ref().is_some_and(|j| j.status == JobStatus::Running);
    let landed = view.deploy.as_ref().is_some_and(|d| d.attempt == task.attempt && d.landed_sha.is_some());
    if task.stage.is_terminal() {
        return Some(format!("is {}: nothing of it is started again", task.stage));
    }
    if task.stage == Stage::Created {
        return Some("has not begun: `orch tick` starts it".to_owned());
    }
    if !stages.contains(&stage) || stage.agent().is_none() {
        return Some(format!("has no stage {stage} with an agent"));
    }
    if stage > task.stage {
        return Some(format!("is in {} and has not reached {stage} yet", task.stage));
    }
    if task.stop_requested_at.is_some() || task.critical.is_some() || task.withdrawn.is_some() {
        return Some("is being stopped, updated or deployed, or was taken back; see `orch explain`".to_owned());
    }
    if running {
        return Some("is at work; wait for the run, or `orch advance --reject` ends it".to_owned());
    }
    if landed && stage != Stage::Development {
        return Some("has landed: its rework begins with --from development".to_owned());
    }
    None
}

/// Whether a run of the task has exited and waits for its push.
fn kept_run(tx: &crate::adapters::store::Tx<'_>, id: TaskId) -> crate::adapters::store::Result<bool> {
    let Some(job) = tx.live_job(id)? else { return Ok(false) };
    let exited = |r: &Run| r.job_id == job.id && r.state == RunState::Exited && job.token.as_ref() == Some(&r.token);
    Ok(job.status == JobStatus::Running && tx.runs_of(id)?.iter().any(exited))
}

/// What an agent of this stage got through stands: a block behind it (a scanner, a stale image) is no reason to have it
/// work again.
fn stand(
    tx: &crate::adapters::store::Tx<'_>,
    task: &crate::model::task::Task,
    epoch: i64,
    at: i64,
    root: &std::path::Path,
) -> crate::adapters::store::Result<()> {
    let by_agents = [
        Gate::AnalysisComplete,
        Gate::ArchitectureDone,
        Gate::BranchPushed,
        Gate::ReviewVerdict,
        Gate::TestsVerdict,
        Gate::StagingStatus,
    ];
    let rows = bound::checked(tx.evidence_of(task.id)?, root);
    for gate in by_agents {
        let last = rows.iter().rev().find(|e| e.gate == gate.as_str() && e.epoch == epoch);
        if let Some(e) = last.filter(|e| e.verdict == EvidenceVerdict::Pass) {
            let copy = NewEvidence {
                gate: gate.as_str(),
                run_id: e.run_id,
                sha: e.sha.clone(),
                code_tree: e.code_tree.clone(),
                verdict: e.verdict,
                why: e.why.clone(),
                detail: e.detail.clone(),
            };
            tx.add_evidence(task, &copy, at)?;
        }
    }
    Ok(())
}

/// A deploy whose result stayed unknown is deployed again by a person's word only, under a new id, without a second
/// merge (RULE-18). One that was blocked on its way is taken up where it stands. Both open the critical window, which a
/// recorded stop excludes (RULE-16).
fn again(
    tx: &crate::adapters::store::Tx<'_>,
    task: &mut crate::model::task::Task,
    now: &crate::model::time::Stamp,
) -> crate::adapters::store::Result<()> {
    if task.stage != Stage::Deploy || task.stop_requested_at.is_some() {
        return Ok(());
    }
    let deploys = tx.deploys_of(task.id)?;
    let of_attempt = |d: &&Deploy| d.attempt == task.attempt && d.state != DeployState::Withdrawn;
    let Some(last) = deploys.iter().rev().find(of_attempt) else { return Ok(()) };
    match last.state {
        DeployState::Initiated | DeployState::Landed | DeployState::Started => {
            task.apply(Change::OpenWindow(last.window()))?;
            return Ok(());
        }
        DeployState::Settled | DeployState::Withdrawn => {}
    }
    let Some(landed) = last.landed_sha.clone() else { return Ok(()) };
    let new = Deploy {
        id: format!("{}-{}-{}r{}", task.id, task.attempt, last.fence, deploys.len()),
        state: DeployState::Initiated,
        landed_sha: None,
        result: None,
        initiated_at: now.clone(),
        ..last.clone()
    };
    tx.insert_deploy(&new)?;
    tx.move_deploy(&new.id, DeployState::Initiated, DeployState::Landed, Some(&landed), None, now.wall_ms)?;
    task.apply(Change::OpenWindow(new.window()))?;
    Ok(())
}
