//! The watch over production (SHIP-6): one probe per interval by a job that requeues itself, using a record that any
//! later step continues.

use super::area::Folders;
use super::record;
use super::run_env::MARK;
use super::run_files::tail;
use super::settle::{End, Settlement};
use super::{Ctx, messages, projects};
use crate::adapters::child::{self, Control, Spec};
use crate::adapters::confine::Boundary;
use crate::adapters::git::{CheckoutPlan, Documents};
use crate::adapters::probe::{ProbeCtx, watch as watch_probe};
use crate::adapters::{locks, sentinel, store::StoreError};
use crate::config::{DegradedAction, Project};
use crate::decide::watch::{AfterWatch, NextStep, OnDegraded, after, append, next, rolls_back, superseded};
use crate::model::artefact::Artefact;
use crate::model::card::AlertKind;
use crate::model::change::Change;
use crate::model::event::Event;
use crate::model::ids::Sha;
use crate::model::probe::WatchTarget;
use crate::model::report::ActionKind;
use crate::model::task::{Run, Task};
use crate::model::watch::{BadRecord, Classification, Probe, RollbackRun, WatchRecord, WatchStatus};
use crate::render::evidence::ArtefactHead;
use crate::render::watch as show;
use anyhow::{Context, Result};
use serde_json::json;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const BASELINE_PROBES: usize = 3;

/// The watch's record has its own schema number, task and attempt.
fn put(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    Ok(sentinel::put(path, &serde_json::to_vec(value)?)?)
}

/// What one observation probes.
pub fn target(project: &Project) -> Result<WatchTarget> {
    let p = &project.post_deploy;
    Ok(WatchTarget {
        health: p.health.iter().map(crate::config::Health::spec).collect(),
        revision: p.revision.as_ref().map(crate::config::Revision::spec).transpose()?,
        control: p.control.clone(),
        errors: p.errors.spec()?,
    })
}

/// Where the probes' commands run: a checkout of what is deployed, if any of them needs one.
fn ground(ctx: &mut Ctx, project: &Project, task: &Task, sha: Option<&Sha>, dir: &Path) -> Result<ProbeCtx> {
    let needs = matches!(project.post_deploy.revision, Some(crate::config::Revision::Command(_)))
        || matches!(project.post_deploy.errors, crate::config::Errors::Command(_));
    let folders = Folders::of_operator(dir, "probes");
    folders.renew()?;
    let checkout = folders.checkout;
    match sha.filter(|_| needs) {
        Some(sha) => check_out(ctx, project, sha, &checkout)?,
        None => std::fs::create_dir_all(&checkout).with_context(|| format!("making {}", checkout.display()))?,
    }
    let env = vec![
        ("ORCH_TASK".to_owned(), task.key.to_string()),
        ("ORCH_REPO".to_owned(), task.repo.clone()),
        ("ORCH_REVISION".to_owned(), sha.map(ToString::to_string).unwrap_or_default()),
    ];
    let own = Some(super::operator::env(&ctx.config));
    Ok(ProbeCtx { checkout, home: folders.home, env, own, confined: None, sealed: Vec::new() })
}

/// A landed commit for the operator's commands, without the documents of work items.
fn check_out(ctx: &Ctx, project: &Project, sha: &Sha, to: &Path) -> Result<()> {
    let plan = CheckoutPlan { documents: Documents::LeftOut, ..CheckoutPlan::of(sha) };
    projects::mirror(ctx, project)?.check_out(to, &plan)?;
    Ok(())
}

/// Where the probes before the deploy are stored, next to the sentinels, until the watch is armed.
pub fn baseline_path(ctx: &Ctx, task: &Task) -> PathBuf {
    ctx.paths.sentinels(task).join(format!("baseline-{}.json", task.attempt))
}

/// Makes a few probes before the deploy; with a slow production as many as fit.
pub fn take_baseline(ctx: &mut Ctx, task: &Task) -> Result<()> {
    let path = baseline_path(ctx, task);
    if path.exists() {
        return Ok(());
    }
    let project = ctx.project(&task.project)?.clone();
    let target = target(&project)?;
    let dir = tempfile::tempdir().context("creating a folder for the baseline probes")?;
    let probe_ctx = ground(ctx, &project, task, task.base_sha.as_ref(), dir.path())?;
    let begun = Instant::now();
    let mut probes = Vec::new();
    while probes.is_empty() || (probes.len() < BASELINE_PROBES && begun.elapsed() < super::deploy::SLOW) {
        probes.push(watch_probe::observe(&target, &probe_ctx, (ctx.clock)()));
    }
    put(&path, &json!({"schema": 1, "task": task.id, "attempt": task.attempt, "probes": probes}))?;
    Ok(())
}

fn baseline(ctx: &Ctx, task: &Task) -> Vec<Probe> {
    std::fs::read_to_string(baseline_path(ctx, task))
        .ok()
        .and_then(|t| serde_json::from_str::<serde_json::Value>(&t).ok())
        .and_then(|v| serde_json::from_value(v["probes"].clone()).ok())
        .unwrap_or_default()
}

/// The record, armed if there is none yet. A broken one is an error, and the step that needs it stops for this task.
pub fn record(ctx: &mut Ctx, task: &Task) -> Result<WatchRecord> {
    let path = ctx.paths.watch(task);
    let attempt = u32::try_from(task.attempt).unwrap_or(0);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(WatchRecord::parse(&text, task.id.0, attempt)?),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let deploy = super::deploy::newest(ctx, task.id)?.map(|d| d.id).unwrap_or_default();
            let revision = task.landed_sha.as_ref().map(Sha::as_str);
            let r = WatchRecord::armed(task.id.0, attempt, &deploy, revision, (ctx.clock)(), baseline(ctx, task));
            put(&path, &r)?;
            Ok(r)
        }
        Err(e) => Err(e).with_context(|| format!("reading {}", path.display())),
    }
}

/// One step of a watch: probes if that is due, ends it if it is over. Returns the record and the result.
pub fn step(
    ctx: &mut Ctx,
    task: &Task,
    dir: &Path,
    now_at_all: bool,
) -> Result<(WatchRecord, Option<Classification>, Option<i64>)> {
    let project = ctx.project(&task.project)?.clone();
    let policy = project.watch_policy();
    let mut record = record(ctx, task)?;
    if record.superseded_by.is_none() {
        record.superseded_by = newer_deploy(ctx, task)?;
    }
    let now = (ctx.clock)();
    let due = match next(&record, &policy, &now) {
        NextStep::WaitUntil { wall_ms, .. } if !now_at_all => return Ok((record, None, Some(wall_ms))),
        NextStep::Close(c) => return Ok((record, Some(c), None)),
        NextStep::ProbeNow | NextStep::WaitUntil { .. } => now,
    };
    let probe_ctx = ground(ctx, &project, task, task.landed_sha.as_ref(), dir)?;
    let probe = watch_probe::observe(&target(&project)?, &probe_ctx, due);
    let _ = std::fs::remove_dir_all(&probe_ctx.checkout);
    record = append(record, probe, &policy);
    put(&ctx.paths.watch(task), &record)?;
    ctx.report.did(ActionKind::ProbeRecorded, Some(task.key.as_str()), json!({"probes": record.probes.len()}));
    match next(&record, &policy, &(ctx.clock)()) {
        NextStep::Close(c) => Ok((record, Some(c), None)),
        NextStep::WaitUntil { wall_ms, .. } => Ok((record, None, Some(wall_ms))),
        NextStep::ProbeNow => Ok((record, None, Some((ctx.clock)().wall_ms))),
    }
}

/// A newer deploy of the same repository ends an older watch as CANCELLED.
fn newer_deploy(ctx: &mut Ctx, task: &Task) -> Result<Option<String>> {
    let latest = ctx.store.read(|tx| tx.last_deploy(&task.repo))?;
    let own = super::deploy::newest(ctx, task.id).ok().flatten();
    Ok(superseded(own.as_ref(), latest.as_ref()))
}

/// The lock for writing a watch's record: one process at a time, released by the kernel at its death. `None`: another
/// process has it.
pub fn hold(ctx: &Ctx, task: &Task) -> Result<Option<locks::Held>> {
    let path = ctx.paths.watch(task).with_extension("lock");
    sentinel::make_dirs(path.parent().unwrap_or(Path::new("."))).context("creating the sentinels' folder")?;
    match locks::hold(&path) {
        Ok(held) => Ok(Some(held)),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e).with_context(|| format!("locking {}", path.display())),
    }
}

/// An unreadable record never counts as missing: it is set aside, and the watch ends as unable to observe.
fn end_unreadable(ctx: &mut Ctx, task: &Task, why: &BadRecord, run: &Run) -> Result<()> {
    let path = ctx.paths.watch(task);
    let to = ctx.paths.archive(task).join((ctx.clock)().wall_ms.to_string());
    let of = |p: &Path| p == path;
    sentinel::archive_those(&ctx.paths.sentinels(task), &to, &of).context("setting the broken record aside")?;
    let record = record(ctx, task)?;
    let c = Classification::Inconclusive { why: format!("the watch's record can't be read: {why}") };
    let dir = ctx.paths.run(run.id);
    close(ctx, task, record, &c, &dir, &ctx.paths.mark(run.id))
}

/// The reserved job `post-deploy-monitor`.
pub fn monitor(ctx: &mut Ctx, run: &Run) -> Result<Option<Settlement>> {
    let task = ctx.task(run.task_id)?;
    if !task.is_watched() {
        return Ok(Some(Settlement::default()));
    }
    let dir = ctx.paths.run(run.id);
    let Some(_held) = hold(ctx, &task)? else {
        let end = End::Again { at: (ctx.clock)().wall_ms + 1000, why: "another step is observing it".to_owned() };
        return Ok(Some(Settlement { end, ..Settlement::default() }));
    };
    let (record, ended, due) = match step(ctx, &task, &dir, false) {
        Ok(seen) => seen,
        Err(e) => {
            let Some(why) = e.downcast_ref::<BadRecord>().cloned() else { return Err(e) };
            end_unreadable(ctx, &task, &why, run)?;
            return Ok(Some(Settlement::default()));
        }
    };
    match ended {
        Some(c) => {
            close(ctx, &task, record, &c, &dir, &ctx.paths.mark(run.id))?;
            Ok(Some(Settlement::default()))
        }
        None => {
            let at = due.unwrap_or_else(|| (ctx.clock)().wall_ms);
            Ok(Some(Settlement {
                end: End::Again { at, why: "the watch continues".to_owned() },
                ..Settlement::default()
            }))
        }
    }
}

/// Writes artefact 16, acts once and shows the end of a watch.
pub fn close(
    ctx: &mut Ctx,
    task: &Task,
    mut record: WatchRecord,
    c: &Classification,
    dir: &Path,
    mark: &str,
) -> Result<()> {
    let Some(status) = c.status() else { return Ok(()) };
    let project = ctx.project(&task.project)?.clone();
    let on = OnDegraded {
        rollback: project.post_deploy.action == DegradedAction::Rollback,
        self_hosting: project.self_hosting,
        freeze: ctx.policy.project(&task.project).is_some_and(|p| p.freeze_on_degraded),
    };
    if rolls_back(status, &record, &on) {
        roll_back(ctx, task, &project, &mut record, dir, mark)?;
    }
    if status == WatchStatus::Cancelled {
        // Record which deploy took over, so that later readers decide the same.
        put(&ctx.paths.watch(task), &record)?;
    }
    let head = ArtefactHead {
        work_item: task.key.to_string(),
        stage: task.stage.to_string(),
        agent: "post-deploy-monitor".to_owned(),
        created: (ctx.clock)().rfc3339(),
        head: task.head_sha.as_ref().map(ToString::to_string),
        base: task.base_sha.as_ref().map(ToString::to_string),
        tree: task.head_tree.clone(),
    };
    let text = show::log(&head, &record, &project.watch_policy(), c);
    if let (Some(text), Some(sha)) = (&text, task.head_sha.as_ref()) {
        let path = ctx.paths.evidence(task.id, sha).join(Artefact::PostDeployLog.as_str());
        sentinel::put(&path, text.as_bytes())?;
    }
    let at = (ctx.clock)().wall_ms;
    let why = c.why().to_owned();
    let AfterWatch { alert, freeze } = after(status, &why, &task.key, &on);
    let done = ctx.store.write(|tx| {
        let mut t = tx.task(task.id)?;
        if !t.is_watched() {
            return Err(StoreError::Lost);
        }
        record::change(tx, &mut t, Change::EndWatch(status), at)?;
        record::event(
            tx,
            at,
            Some(t.id),
            Event::WatchEnded,
            &json!({"status": status, "why": why, "probes": record.probes.len()}),
        )?;
        messages::show(tx, &t, at)?;
        let artefact_text = text.as_deref().map(|t| crate::render::evidence::comment(Artefact::PostDeployLog, t));
        let artefact_text = artefact_text.unwrap_or_else(|| format!("Watch: {status}: {why}"));
        messages::comment(tx, &t, &format!("16-{}", t.attempt), &artefact_text, at)?;
        if let Some(detail) = &alert {
            messages::alert(tx, &t, AlertKind::Degraded, t.attempt, detail, at)?;
        }
        if let Some(why) = &freeze {
            record::freeze_repo(tx, &t.repo, why, Some(&t), at)?;
        }
        Ok(())
    });
    match done {
        Ok(()) => {
            if freeze.is_some() {
                ctx.report.did(ActionKind::RepoFrozen, Some(task.key.as_str()), json!({"repo": task.repo}));
            }
            Ok(())
        }
        Err(StoreError::Lost) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// The project's rollback command, started at most once: recorded before it starts.
fn roll_back(
    ctx: &mut Ctx,
    task: &Task,
    project: &Project,
    record: &mut WatchRecord,
    dir: &Path,
    mark: &str,
) -> Result<()> {
    let Some(command) = project.post_deploy.rollback.clone() else { return Ok(()) };
    record.rollback = Some(RollbackRun { started_at: (ctx.clock)(), exit: None });
    put(&ctx.paths.watch(task), record)?;
    let at = (ctx.clock)().wall_ms;
    let me = ctx.me.clone();
    let key = format!("t{}/a{}/rollback", task.id, task.attempt);
    ctx.store.write(|tx| {
        record::intend(tx, &key, Some(task.id), "rollback", &json!({"command": command.command}), &me, at).map(drop)
    })?;
    let folders = Folders::of_operator(dir, "rollback");
    let sha = task.landed_sha.clone().context("nothing landed")?;
    folders.renew()?;
    check_out(ctx, project, &sha, &folders.checkout)?;
    let mut env = super::operator::env_of_task(&ctx.config, task, task.stage.as_str(), sha.as_str());
    let resolved = command.spec()?;
    env.extend(resolved.env.into_iter().map(|(n, v)| (n.into(), v.into())));
    let log = dir.join("rollback.log");
    let spec = Spec {
        argv: command.command.iter().map(OsString::from).collect(),
        cwd: folders.checkout.clone(),
        env,
        stdin: None,
        stdout: log.clone(),
        stderr: log.clone(),
        wall: Duration::from_millis(command.timeout_ms()),
        stall: None,
        grace: Duration::from_secs(10),
        mark: (MARK.to_owned(), mark.to_owned()),
        cap_bytes: 16 << 20,
        boundary: Boundary::Operator,
    };
    let exit =
        child::run_outliving(&spec, &mut |_| Control::Go).ok().filter(|e| e.ended_by.is_none()).and_then(|e| e.code);
    record.rollback = Some(RollbackRun {
        exit,
        ..record.rollback.clone().unwrap_or(RollbackRun { started_at: (ctx.clock)(), exit: None })
    });
    put(&ctx.paths.watch(task), record)?;
    let at = (ctx.clock)().wall_ms;
    let said = tail(&log, 2000);
    ctx.store.write(|tx| {
        record::outcome(tx, &key, &json!({"exit": exit}), at)?;
        record::event(tx, at, Some(task.id), Event::RolledBackProduction, &json!({"exit": exit, "log": said})).map(drop)
    })?;
    Ok(())
}
