//! Phase B of a deploy (SHIP-5): open the critical window, land. Each part may be killed; a later step checks the state
//! and resumes.

use super::landing::{self, Checked};
use super::record;
use super::services;
use super::{Ctx, base, merge_queue as queue, projects, pulls, steps, view};
use crate::adapters::forge::{ForgeError, Landing as Order, MergeOutcome};
use crate::adapters::process::{self, Life};
use crate::adapters::sentinel::{self, Sealed, Sentinel};
use crate::adapters::store::{NewEvidence, StoreError};
use crate::config::Via;
use crate::decide::landing::Landing;
use crate::decide::merge::{self, AfterMerge, BeforeMerge, MergeAnswer, OfDeploy, OfOpening};
use crate::decide::transition::decide;
use crate::model::change::Change;
use crate::model::decision::{Decision, Procedure};
use crate::model::deploy::Deployment;
use crate::model::effect::Effect;
use crate::model::evidence::EvidenceDetail;
use crate::model::gate::Gate;
use crate::model::ids::{Sha, TaskId};
use crate::model::report::{ActionKind, Rule};
use crate::model::task::{Deploy, DeployState, EvidenceVerdict, Task};
use crate::model::text::clip;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// `deploy.<id>.initiated.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Initiated {
    pub task: i64,
    pub key: String,
    pub deploy: String,
    pub head: String,
    pub base: String,
    pub tree: String,
    pub fence: i64,
    pub actor: serde_json::Value,
}

/// Opens the critical window if everything still holds: one transaction that decides again (RULE-4, RULE-16, RULE-24).
pub fn open(ctx: &mut Ctx, id: TaskId) -> Result<()> {
    base::ensure(ctx, id)?;
    let Some(checked) = landing::check(ctx, id, landing::Depth::Full)? else { return Ok(()) };
    let Checked { task, default_branch, tip, base, .. } = &checked;
    let project = ctx.project(&task.project)?.clone();
    let mirror = projects::mirror(ctx, &project)?;
    let contains = match &task.head_sha {
        Some(head) if checked.landing == Landing::BaseMoved => mirror.is_ancestor(tip, head)?,
        Some(_) | None => false,
    };
    let base = match merge::of_opening(&checked.landing, base, tip, contains) {
        OfOpening::Go { base } => base,
        OfOpening::VoidGate => {
            return void_gate(ctx, id, &format!("{default_branch} moved to {}", tip.short()));
        }
        OfOpening::TakeHeadUp => {
            let (Some(branch), Some(remote)) = (task.branch.clone(), checked.remote_head.clone()) else {
                return Ok(());
            };
            return steps::effect(ctx, id, Effect::ReadHead { branch, remote, gate: None }).map(drop);
        }
        OfOpening::NotYet { why } => return landing::unsettled(ctx, task, &why),
        OfOpening::Stopped => return landing::stopped_by(ctx, id, &checked.landing).map(drop),
    };
    let Checked { task, .. } = checked;
    let head = task.head_sha.clone().context("the task has no pushed head")?;
    if !clear_ground(ctx, &task)? || built_again(ctx, &task, &head)? {
        return Ok(());
    }
    if ctx.project(&task.project)?.deploy.command.is_none() {
        // The merge is the deploy.
        baseline(ctx, &task)?;
    }
    let tree = mirror.tree_of(&head)?;
    let mut now = ctx.now();
    let policy = ctx.policy.clone();
    let root = ctx.paths.root().to_owned();
    let opened = ctx.store.write(|tx| {
        now.halted = sentinel::halted(&root);
        let view = view::task(tx, id, &now, None)?;
        let mut t = view.task.clone();
        if t.revision != task.revision || decide(&view, &policy) != Decision::Procedure(Procedure::OpenDeploy) {
            return Err(StoreError::Lost);
        }
        let lease = view.lease.as_ref().ok_or(StoreError::Lost)?;
        let deploy = Deploy {
            id: merge::deploy_id(&t, lease.fence, tx.deploys_of(id)?.len()),
            task_id: t.id,
            repo: t.repo.clone(),
            attempt: t.attempt,
            fence: lease.fence,
            head: head.clone(),
            base: base.clone(),
            tree: tree.to_string(),
            state: DeployState::Initiated,
            actor: now.me.clone(),
            landed_sha: None,
            result: None,
            initiated_at: now.stamp.clone(),
        };
        tx.insert_deploy(&deploy)?;
        record::change(tx, &mut t, Change::OpenWindow(deploy.window()), now.stamp.wall_ms)?;
        tx.audit(
            now.stamp.wall_ms,
            Some(id),
            "deploy_initiated",
            &json!({"deploy": deploy.id, "head": head, "base": deploy.base, "tree": deploy.tree}),
        )?;
        super::messages::show(tx, &t, now.stamp.wall_ms)?;
        Ok((t, deploy))
    });
    let (task, deploy) = match opened {
        Ok(x) => x,
        Err(StoreError::Lost) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    ctx.report.did(ActionKind::DeployInitiated, Some(task.key.as_str()), json!({"deploy": deploy.id, "head": head}));
    write_initiated(ctx, &task, &deploy)
}

/// Whether the output of `deploy.build` for the head is gone. It is built again before the window opens, since nothing
/// from the branch may run in it (BND-3).
fn built_again(ctx: &mut Ctx, task: &Task, head: &Sha) -> Result<bool> {
    let declared = ctx.project(&task.project)?.deploy.build.is_some();
    if !declared || !super::reserved::build_is_gone(ctx, task, head) {
        return Ok(false);
    }
    let at = ctx.now().stamp.wall_ms;
    let gone = NewEvidence {
        subject: Gate::DeployBuild.into(),
        run_id: None,
        sha: head.clone(),
        code_tree: task.head_tree.clone().unwrap_or_default(),
        verdict: EvidenceVerdict::ToolError,
        why: "the output of deploy.build is missing from the state directory".to_owned(),
        detail: EvidenceDetail::Plain,
    };
    let noted = ctx.store.write(|tx| {
        let mut t = tx.task(task.id)?;
        if t.revision != task.revision {
            return Err(StoreError::Lost);
        }
        tx.add_evidence(&t, &gone, at)?;
        record::touch(tx, &mut t, at)
    });
    match noted {
        Ok(()) | Err(StoreError::Lost) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

/// Archives what earlier deploys of the task left (SHIP-5). INITIATED counts if the row **or** the file has it
/// (RULE-34). One that the database does not know, since it was restored from an older copy, stops the task: nobody
/// knows what was merged or started. `false`: this step opens no deploy.
fn clear_ground(ctx: &mut Ctx, task: &Task) -> Result<bool> {
    let dir = ctx.paths.sentinels(task);
    // Read the names before the rows: a deploy's row exists before any of its files. So a deploy that another step
    // opens meanwhile is not taken for a stray, and none of its files are deleted.
    let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
    let names: HashSet<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    let deploys = ctx.store.read(|tx| tx.deploys_of(task.id))?;
    if deploys.iter().any(|d| d.state.is_open() && d.attempt >= task.attempt) {
        return Ok(false);
    }
    if let Some(id) = merge::stray(names.iter().map(String::as_str), &deploys) {
        let why = format!("deploy {id} is recorded as initiated in {}, but is not in the database", dir.display());
        steps::block(ctx, task.id, &why, true)?;
        return Ok(false);
    }
    let ours = format!("baseline-{}.json", task.attempt);
    let old = |p: &std::path::Path| {
        let name = p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        names.contains(&name) && merge::is_left_over(&name, &ours)
    };
    let to = ctx.paths.archive(task).join(ctx.now().stamp.wall_ms.to_string());
    sentinel::archive_those(&dir, &to, &old).with_context(|| format!("archiving {}", dir.display()))?;
    Ok(true)
}

fn write_initiated(ctx: &Ctx, task: &Task, d: &Deploy) -> Result<()> {
    let path = ctx.paths.deploy(task, &d.id, "initiated");
    if matches!(sentinel::read::<Initiated>(&path), Sentinel::Present(_)) {
        return Ok(());
    }
    let file = Initiated {
        task: task.id.0,
        key: task.key.to_string(),
        deploy: d.id.clone(),
        head: d.head.to_string(),
        base: d.base.to_string(),
        tree: d.tree.clone(),
        fence: d.fence,
        actor: json!(d.actor),
    };
    Ok(sentinel::write(&path, &Sealed::new(task.id, d.attempt, file))?)
}

/// A production that takes longer than this to probe is slow: it is not probed again before the deploy, and no step
/// waits for it.
pub const SLOW: Duration = Duration::from_secs(2);

/// Probes production a few times before it changes, for the watch (SHIP-6). A slow production makes this slow, so if a
/// command deploys, its own job does it and no step waits (RUN-1).
pub fn baseline(ctx: &mut Ctx, task: &Task) -> Result<()> {
    if ctx.policy.project(&task.project).is_some_and(|p| p.watch) {
        super::watch::take_baseline(ctx, task)?;
    }
    Ok(())
}

/// Lands the initiated deploy, or finds that it has landed. Only "not landed and base unchanged" is retried.
pub fn land(ctx: &mut Ctx, id: TaskId) -> Result<()> {
    let task = ctx.task(id)?;
    let Some(deploy) = taken(ctx, id)? else { return Ok(()) };
    write_initiated(ctx, &task, &deploy)?;
    let before = landing::check(ctx, id, landing::Depth::Full)?.context("the task has no branch")?;
    if !after_check(ctx, &task, &deploy, &before.landing)? {
        return Ok(());
    }
    if let Some(why) = withheld(ctx, &task, &deploy)? {
        return withdraw(ctx, &task, &deploy, why);
    }
    let project = ctx.project(&task.project)?.clone();
    let message = format!("{}: {}\n\nMerged by orch as tested at {}.", task.key, clip(&task.title, 120), deploy.head);
    let mirror = projects::mirror(ctx, &project)?;
    let order = Order {
        default_branch: &before.default_branch,
        head: &deploy.head,
        expected_base: &deploy.base,
        message: &message,
    };
    if project.forge.is_remote() && task.pr.is_none() {
        return back_to_gate(ctx, &task, &deploy, "it has no pull request");
    }
    let number = task.pr.as_ref().map_or(0, |p| p.number);
    if project.forge.is_remote() && project.merge.via == Via::Forge {
        match services::forge_said(ctx, &project, |forge| forge.queue(number))? {
            Ok(None) => {}
            Ok(Some(queue)) => {
                let contains = mirror.is_ancestor(&deploy.base, &deploy.head)?;
                return queue::go_on(ctx, &task, &deploy, number, &queue, contains);
            }
            Err(e) => return answered(ctx, &task, &deploy, Err(e)),
        }
    }
    let answer = services::forge_said(ctx, &project, |forge| forge.merge(&mirror, number, &order))?;
    // Whatever the answer was, the current state decides (RULE-5).
    let after = landing::check(ctx, id, landing::Depth::Full)?.context("the task has no branch")?;
    if after_check(ctx, &task, &deploy, &after.landing)? {
        answered(ctx, &task, &deploy, answer)?;
    }
    Ok(())
}

/// Claims the task's initiated deploy for this process. `None`: there is none, or another process has it.
fn taken(ctx: &mut Ctx, id: TaskId) -> Result<Option<Deploy>> {
    let Some(deploy) = newest(ctx, id)?.filter(|d| d.state == DeployState::Initiated) else { return Ok(None) };
    if deploy.actor != ctx.me {
        if process::life(&deploy.actor) != Life::Dead {
            return Ok(None);
        }
        let me = ctx.me.clone();
        match ctx.store.write(|tx| tx.take_deploy(&deploy.id, &deploy.actor, &me)) {
            Ok(()) => {}
            Err(StoreError::Lost) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(Some(deploy))
}

/// Lets a task whose merge waits for a person at the forge give its merge lease back: nothing was merged, so the deploy
/// is withdrawn (RULE-18), while release and wait stay. `false`: something was done, or another process is working on
/// it.
pub fn park(ctx: &mut Ctx, id: TaskId, why: &str) -> Result<bool> {
    let task = ctx.task(id)?;
    let Some(deploy) = taken(ctx, id)? else { return Ok(false) };
    let seen = landing::check(ctx, id, landing::Depth::Full)?.context("the task has no branch")?;
    if seen.landing != Landing::NotYet {
        return Ok(false);
    }
    ctx.store.write(|tx| super::awaits::without_lease(tx, &task))?;
    withdraw(ctx, &task, &deploy, why)?;
    Ok(true)
}

/// Acts on a check of an initiated deploy. `true`: nothing has happened yet and nothing prevents the merge.
fn after_check(ctx: &mut Ctx, task: &Task, deploy: &Deploy, landing: &Landing) -> Result<bool> {
    match merge::of_deploy(landing) {
        OfDeploy::Clear => return Ok(true),
        OfDeploy::Landed { commit } => {
            landed_as(ctx, task, deploy, &commit, "the default branch has the tested tree")?;
        }
        OfDeploy::NotYet { why } => not_yet(ctx, task, deploy, &why)?,
        OfDeploy::BackToGate { why } => back_to_gate(ctx, task, deploy, &why)?,
        OfDeploy::Stopped { why } => {
            withdraw(ctx, task, deploy, &why)?;
            landing::stopped_by(ctx, task.id, landing)?;
        }
    }
    Ok(false)
}

/// Takes the right to merge: the last moment at which something else can take precedence. Returns why it was not taken;
/// `None`: it was.
fn withheld(ctx: &mut Ctx, task: &Task, deploy: &Deploy) -> Result<Option<&'static str>> {
    let key = merge_key(task, deploy);
    let now = ctx.now();
    let faulty_settings = ctx.project(&task.project)?.fault.is_some();
    let me = ctx.me.clone();
    Ok(ctx.store.write(|tx| {
        let t = tx.task(task.id)?;
        let before = BeforeMerge {
            stop_requested: t.stop_requested_at.is_some(),
            halted: now.halted.is_some(),
            frozen: !matches!(tx.freeze(&t.repo), Ok(None)),
            leased: tx.lease(&t.repo)?.is_some_and(|l| l.task_id == Some(t.id) && l.fence == deploy.fence),
            faulty_settings,
        };
        let withheld = merge::withheld(&before);
        if withheld.is_none() {
            let intent = json!({"head": deploy.head, "base": deploy.base});
            tx.intend(&key, Some(t.id), "pr_merged", &intent, &me, now.stamp.wall_ms)?;
        }
        Ok::<_, StoreError>(withheld)
    })?)
}

fn merge_key(task: &Task, deploy: &Deploy) -> String {
    format!("t{}/{}/merge", task.id, deploy.id)
}

/// The answer as a fact.
fn said(answer: &std::result::Result<MergeOutcome, ForgeError>) -> MergeAnswer {
    match answer {
        Ok(MergeOutcome::Merged { .. } | MergeOutcome::Untested { .. }) => MergeAnswer::Merged,
        Ok(MergeOutcome::BaseMoved) => MergeAnswer::BaseMoved,
        Ok(MergeOutcome::HeadMoved) => MergeAnswer::HeadMoved,
        Ok(MergeOutcome::Conflict { paths }) => MergeAnswer::Conflict { paths: paths.clone() },
        Ok(MergeOutcome::NotYet { reason }) => MergeAnswer::NotYet { reason: reason.clone() },
        Ok(MergeOutcome::Withdrawn { reason }) => MergeAnswer::Withdrawn { reason: reason.clone() },
        Ok(MergeOutcome::Awaits { what, said }) => MergeAnswer::Awaits { what: *what, said: said.clone() },
        Ok(MergeOutcome::Refused { reason }) => MergeAnswer::Refused { reason: reason.clone() },
        Err(ForgeError::Transient(_) | ForgeError::UnknownOutcome(_) | ForgeError::Throttled { .. }) => {
            MergeAnswer::Silent
        }
        Err(e @ (ForgeError::Refused { .. } | ForgeError::NotFound(_))) => {
            MergeAnswer::Denied { reason: e.to_string() }
        }
        Err(e @ (ForgeError::Conflict(_) | ForgeError::Invalid(_))) => MergeAnswer::Failed { reason: e.to_string() },
    }
}

/// Does what follows from an answer.
pub(super) fn answered(
    ctx: &mut Ctx,
    task: &Task,
    deploy: &Deploy,
    answer: std::result::Result<MergeOutcome, ForgeError>,
) -> Result<()> {
    match merge::after_answer(said(&answer)) {
        AfterMerge::NotYet { why } => not_yet(ctx, task, deploy, &why),
        AfterMerge::BackToGate { why } => back_to_gate(ctx, task, deploy, &why),
        AfterMerge::Await { what, said } => {
            if let Some(why) = super::awaits::keep(ctx, task, deploy, what, &said)? {
                withdraw(ctx, task, deploy, &why)?;
                steps::block(ctx, task.id, &why, false)?;
            }
            Ok(())
        }
        AfterMerge::GiveUp { withdrawn, blocked } => {
            withdraw(ctx, task, deploy, &withdrawn)?;
            steps::block(ctx, task.id, &blocked, false)
        }
        AfterMerge::Unknown => answer.map(drop).context("merging; the next step checks the result first"),
        AfterMerge::AskAgain { why } => {
            withdraw(ctx, task, deploy, &why)?;
            Ok(answer.map(drop)?)
        }
    }
}

pub(super) fn back_to_gate(ctx: &mut Ctx, task: &Task, deploy: &Deploy, why: &str) -> Result<()> {
    withdraw(ctx, task, deploy, why)?;
    void_gate(ctx, task.id, why)
}

/// The forge is still computing: check again for as long as `gates.undecided_max_s` lets a gate be undecided.
pub(super) fn not_yet(ctx: &mut Ctx, task: &Task, deploy: &Deploy, reason: &str) -> Result<()> {
    let why = format!("the forge is not ready to merge: {reason}");
    if super::settle::undecided_for(ctx, task, &format!("merge/{}", deploy.id), true, None)?
        > ctx.policy.undecided_max_ms
    {
        withdraw(ctx, task, deploy, &why)?;
        return steps::block(ctx, task.id, &format!("{why}, for longer than gates.undecided_max_s"), false);
    }
    ctx.report.hold(Some(task.key.as_str()), Rule::DeployResult, why);
    Ok(())
}

/// Waits until the started command has taken its right, so that `--confirm-deploy` returns with phase B done. Bounded,
/// since the queue's own limits may hold the job. Does not wait while a slow production is probed first: the job
/// continues on its own, and the report says so.
pub fn await_started(ctx: &mut Ctx, id: TaskId, bound: Duration) -> Result<()> {
    let begun = Instant::now();
    let task = ctx.task(id)?;
    let watched = ctx.policy.project(&task.project).is_some_and(|p| p.watch);
    while newest(ctx, id)?.is_some_and(|d| d.state == DeployState::Landed) && begun.elapsed() < bound {
        if watched && begun.elapsed() > SLOW && !super::watch::baseline_path(ctx, &task).exists() {
            let why = "production answers slowly; the deploy job starts the command after probing it";
            ctx.report.hold(Some(task.key.as_str()), Rule::DeployResult, why.to_owned());
            return Ok(());
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Ok(())
}

/// The newest deploy that was not withdrawn.
pub fn newest(ctx: &mut Ctx, id: TaskId) -> Result<Option<Deploy>> {
    Ok(Deploy::newest(&ctx.store.read(|tx| tx.deploys_of(id))?).cloned())
}

fn landed_as(ctx: &mut Ctx, task: &Task, deploy: &Deploy, commit: &Sha, how: &str) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    let key = merge_key(task, deploy);
    let me = ctx.me.clone();
    let project = ctx.project(&task.project)?;
    let report = project.deploy.report;
    let name = project.base_name().to_owned();
    let ground = super::base_job::applies(&ctx.config, project).then(|| super::base_job::digest(&ctx.config, project));
    let done = ctx.store.write(|tx| {
        tx.move_deploy(&deploy.id, DeployState::Initiated, DeployState::Landed, Some(commit), None, at)?;
        let mut t = tx.task(task.id)?;
        record::change(tx, &mut t, Change::Landed { commit: commit.clone() }, at)?;
        tx.record_outcome(&key, &json!({"landed": commit}), at)?;
        pulls::to_tidy(tx, &t, &me, at)?;
        if report {
            let of = (deploy.id.as_str(), commit, Deployment::InProgress);
            super::messages::deployment(tx, &t, of, "merged, and being deployed", at)?;
        }
        // Nothing is tested twice (ORD-1): the default branch has the tree on which CI passed.
        let of_head = |e: &&crate::model::task::Evidence| {
            e.subject == Gate::CiGreen && Some(&e.code_tree) == t.head_tree.as_ref()
        };
        let ci = tx.evidence_of(t.id)?.into_iter().rev().find(|e| of_head(&e));
        if let Some(ground) = &ground
            && ci.is_some_and(|e| {
                e.verdict == EvidenceVerdict::Pass
                    && e.detail.of_code().is_some_and(|c| c.ground.as_ref() == Some(ground))
            })
        {
            super::base_job::passed(tx, &name, &deploy.tree, ground, at)?;
        }
        tx.audit(at, Some(t.id), "pr_merged", &json!({"deploy": deploy.id, "landed": commit, "how": how}))?;
        super::messages::card(tx, &t, at)
    });
    match done {
        Ok(()) => {
            ctx.report.did(ActionKind::PrMerged, Some(task.key.as_str()), json!({"landed": commit, "how": how}));
            pulls::tidy(ctx);
            Ok(())
        }
        Err(StoreError::Lost) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Takes an initiated deploy back before anything was merged or started (RULE-18). A merge queue could still land it, so
/// it leaves that first.
pub(super) fn withdraw(ctx: &mut Ctx, task: &Task, deploy: &Deploy, why: &str) -> Result<()> {
    queue::leave(ctx, task, deploy)?;
    let at = ctx.now().stamp.wall_ms;
    let key = merge_key(task, deploy);
    let done = ctx.store.write(|tx| {
        tx.move_deploy(&deploy.id, DeployState::Initiated, DeployState::Withdrawn, None, None, at)?;
        let mut t = tx.task(task.id)?;
        record::change(tx, &mut t, Change::CloseWindow, at)?;
        tx.record_outcome(&key, &json!({"withdrawn": why}), at)?;
        tx.audit(at, Some(t.id), "deploy_withdrawn", &json!({"deploy": deploy.id, "why": why}))?;
        Ok(())
    });
    match done {
        Ok(()) => sentinel::remove(&ctx.paths.deploy(task, &deploy.id, "initiated")).map_err(Into::into),
        Err(StoreError::Lost) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn void_gate(ctx: &mut Ctx, id: TaskId, why: &str) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    ctx.store.write(|tx| {
        let mut t = tx.task(id)?;
        let Some(sha) = t.head_sha.clone() else { return Ok(()) };
        let row = NewEvidence {
            subject: Gate::BranchMergeable.into(),
            run_id: None,
            sha,
            code_tree: t.head_tree.clone().unwrap_or_default(),
            verdict: EvidenceVerdict::Missing,
            why: why.to_owned(),
            detail: EvidenceDetail::Plain,
        };
        tx.add_evidence(&t, &row, at)?;
        record::touch(tx, &mut t, at)
    })?;
    Ok(())
}
