//! The `deploy` and `deploy-finalizer` jobs (SHIP-5): the wrapper that starts the command at most once, and phase C.

use super::bench::{By, Order, bench, keep};
use super::output::{self, INPUT};
use crate::adapters::child::{self, Control, Event};
use crate::adapters::process::{self, Life};
use crate::adapters::sentinel::{self, Sealed, Sentinel};
use crate::adapters::store::{NewEvidence, StoreError};
use crate::config::exposed;
use crate::decide::deploy_result::{self, Seen};
use crate::decide::ran::of_deploy;
use crate::decide::verdicts;
use crate::engine::deploy::newest;
use crate::engine::record;
use crate::engine::run_env::MARK;
use crate::engine::run_files::tail;
use crate::engine::settle::{DeployOutcome, End, Settlement};
use crate::engine::{Ctx, caller::random_token, settle};
use crate::model::artefact::Artefact;
use crate::model::deploy::{DeployResult, DeployStatus, OwnExit, ResultOf};
use crate::model::evidence::EvidenceDetail;
use crate::model::gate::Gate;
use crate::model::redact;
use crate::model::stage::JobKind;
use crate::model::task::{Deploy, DeployState, Run, Task};
use crate::render::deploy::{DeployFacts, log};
use crate::render::evidence::ArtefactHead;
use anyhow::{Context, Result};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// The interval between two checks for a result.
const POLL_MS: i64 = 2000;

/// The wrapper: its O_EXCL `started` is the only right to run the command (RULE-35).
pub fn deploy(ctx: &mut Ctx, run: &Run, fence: i64) -> Result<Option<Settlement>> {
    let bench = bench(ctx, run)?;
    let Some(d) = newest(ctx, run.task_id)?.filter(|d| d.state == DeployState::Landed) else {
        return Ok(Some(Settlement::default()));
    };
    let started = ctx.paths.deploy(&bench.task, &d.id, "started");
    let result = ctx.paths.deploy(&bench.task, &d.id, "result");
    if started.exists() {
        return taken(ctx, &d);
    }
    // A failed probe must not delay what landed; the watch has no baseline then.
    if let Err(e) = crate::engine::deploy::baseline(ctx, &bench.task) {
        tracing::warn!(task = %bench.task.key, "no probes before the deploy: {e:#}");
    }
    // Do everything that can fail before taking the right.
    let nonce = random_token()?;
    let spec = match &bench.project.deploy.command {
        None => None,
        Some(argv) => {
            let mut further = vec![
                ("ORCH_DEPLOY_RESULT", result.clone().into_os_string()),
                ("ORCH_DEPLOY_NONCE", nonce.clone().into()),
            ];
            // It gets only what was built before anything landed (BND-3).
            match &bench.project.deploy.build {
                Some(_) => {
                    further.push((INPUT, output::input(ctx, &bench.task, &d.head)?.into_os_string()));
                    bench.scripts_alone()?;
                }
                None => drop(bench.checkout()?),
            }
            let limit = Duration::from_secs(bench.project.deploy.timeout_s);
            let env = &bench.project.deploy.env;
            let order = Order { name: "deploy", argv, env, limit, further: &further, by: By::Operator };
            let spec = bench.prepare(ctx, run, &order)?;
            // Whoever knows the nonce can speak for the command, so it must not appear in the log.
            redact::learn("deploy nonce", &nonce);
            Some(spec)
        }
    };
    let hash = deploy_result::hash_of(&nonce);
    ctx.store.write(|tx| tx.set_deploy_nonce(&d.id, &hash))?;
    if !settle::holds(ctx, run.id, fence, true)? {
        return Ok(None);
    }
    // The exit, or why it is missing.
    let exit = match spec {
        None => match take_right(ctx, run, &d, &started) {
            Ok(()) => {
                mark_started(ctx, &d)?;
                OwnExit::Code { code: 0 }
            }
            Err(_) if started.exists() => return taken(ctx, &d),
            Err(e) => return Err(e),
        },
        Some(spec) => {
            let mut refused = None;
            let mut right = false;
            let ran = child::run_outliving(&spec, &mut |event| match event {
                // From here to the spawn nothing else happens that could fail.
                Event::Starting => match take_right(ctx, run, &d, &started) {
                    Ok(()) => {
                        right = true;
                        Control::Go
                    }
                    Err(e) => {
                        let why = format!("{e:#}");
                        refused = Some(e);
                        Control::End(why)
                    }
                },
                Event::Started(_) => {
                    // The file is the right; whoever finds it updates a row that lags behind.
                    if let Err(e) = mark_started(ctx, &d) {
                        tracing::warn!(deploy = d.id, "recording the start: {e:#}");
                    }
                    Control::Go
                }
                Event::Stdout(_) | Event::Stderr(_) | Event::Tick => Control::Go,
            });
            if let Some(e) = refused {
                return if started.exists() { taken(ctx, &d) } else { Err(e) };
            }
            let ran = super::bench::ran(&ran);
            match of_deploy(&ran) {
                Some(own) => own,
                None => {
                    // If the right was taken, we may give it back.
                    if right {
                        sentinel::remove(&started).context("giving back the right to start the deploy command")?;
                    }
                    let end = End::Failed { why: format!("{}; production is unchanged", ran.how), spent: true };
                    return Ok(Some(Settlement { end, ..Settlement::default() }));
                }
            }
        }
    };
    // If the row could not be set at the start, set it at the end.
    mark_started(ctx, &d)?;
    // The row is the wrapper's final statement; the file is a copy. A file that somebody else wrote stays, as evidence.
    ctx.store.write(|tx| tx.set_deploy_exit(&d.id, &exit))?;
    if !result.exists() {
        let mut body = json!({"schema": 1, "task": run.task_id, "attempt": d.attempt, "deploy": d.id});
        match &exit {
            OwnExit::Code { code } => body["exit"] = json!(code),
            OwnExit::Unknown { why } => {
                tracing::warn!(task = %bench.task.key, "{why}");
                body["exit"] = json!("unknown");
                body["why"] = json!(why);
            }
        }
        sentinel::put(&result, body.to_string().as_bytes())?;
    }
    Ok(Some(Settlement::default()))
}

/// Creates `started`, which only one process can ever do.
fn take_right(ctx: &Ctx, run: &Run, d: &Deploy, started: &Path) -> Result<()> {
    let at = ctx.now().stamp;
    let body = json!({"task": run.task_id, "deploy": d.id, "run": run.id, "actor": ctx.me, "at": at});
    sentinel::create_new(started, &Sealed::new(run.task_id, d.attempt, body))
        .context("taking the right to start the deploy command")
}

/// The right was already taken: the finalizer finds out how the command ended.
fn taken(ctx: &mut Ctx, d: &Deploy) -> Result<Option<Settlement>> {
    mark_started(ctx, d)?;
    Ok(Some(Settlement::default()))
}

fn mark_started(ctx: &mut Ctx, d: &Deploy) -> Result<()> {
    let at = ctx.now().stamp.wall_ms;
    let done = ctx.store.write(|tx| {
        tx.move_deploy(&d.id, DeployState::Landed, DeployState::Started, None, None, at)?;
        record::event(tx, at, Some(d.task_id), crate::model::event::Event::DeployStarted, &json!({"deploy": d.id}))?;
        let mut t = tx.task(d.task_id)?;
        record::touch(tx, &mut t, at)
    });
    match done {
        Ok(()) | Err(StoreError::Lost) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Phase C: checks for the result and records what it means; the transition function does the rest.
pub fn finalizer(ctx: &mut Ctx, run: &Run) -> Result<Option<Settlement>> {
    let task = ctx.task(run.task_id)?;
    let Some(d) = newest(ctx, run.task_id)?.filter(|d| d.state == DeployState::Started) else {
        return Ok(Some(Settlement::default()));
    };
    let project = ctx.project(&task.project)?.clone();
    let now = ctx.now().stamp;
    let path = ctx.paths.deploy(&task, &d.id, "result");
    // Counted from the command's own start, without the time that a freeze held it.
    let begun = match sentinel::read::<serde_json::Value>(&ctx.paths.deploy(&task, &d.id, "started")) {
        Sentinel::Present(s) => serde_json::from_value(s.body["at"].clone()).ok(),
        Sentinel::Absent | Sentinel::Broken(_) => None,
    };
    let since = now.since(begun.as_ref().unwrap_or(&d.initiated_at));
    let nobody = !project.self_hosting && nobody_alive(ctx, &task, &d)?;
    let over = verdicts::deploy_is_over(since, project.deploy.timeout_s, project.self_hosting, nobody);
    // Read after checking the processes: one that ended in between had its chance to write.
    let text = std::fs::read_to_string(&path).ok();
    let of = ResultOf { task: task.id.0, key: task.key.to_string(), attempt: u32::try_from(d.attempt).unwrap_or(0) };
    let (own, nonce) = ctx.store.read(|tx| tx.deploy_exit(&d.id))?;
    let nonce_hash = nonce.as_deref().filter(|_| project.self_hosting);
    let status = deploy_result::read(&Seen { own: own.as_ref(), file: text.as_deref(), nonce_hash }, &of, over);
    if let DeployStatus::Pending { why } = &status {
        return Ok(Some(Settlement {
            end: End::Again { at: now.wall_ms + POLL_MS, why: why.clone() },
            ..Settlement::default()
        }));
    }
    if text.is_none() {
        // We close the window with a result of our own (RULE-18): a command that revives later finds it taken.
        let closed = json!({"schema": 1, "task": task.id, "attempt": d.attempt, "deploy": d.id, "exit": "unknown"});
        sentinel::put(&path, closed.to_string().as_bytes())?;
    }
    record(ctx, run, &task, &d, &status)
}

/// Whether no process can still write a result: neither the wrapper nor anything it started.
fn nobody_alive(ctx: &mut Ctx, task: &Task, d: &Deploy) -> Result<bool> {
    let runs = ctx.store.read(|tx| tx.runs_of(task.id))?;
    let of_deploy = runs.iter().filter(|r| r.kind == JobKind::Deploy && r.attempt == d.attempt);
    let mut alive = false;
    for r in of_deploy {
        alive |= r.supervisor.as_ref().is_some_and(|s| process::life(s) != Life::Dead);
        alive |= !process::marked(MARK, &ctx.paths.mark(r.id)).is_empty();
    }
    Ok(!alive)
}

fn record(ctx: &mut Ctx, run: &Run, task: &Task, d: &Deploy, status: &DeployStatus) -> Result<Option<Settlement>> {
    let now = ctx.now().stamp;
    let last = ctx.store.read(|tx| tx.runs_of(task.id))?.into_iter().rev().find(|r| r.kind == JobKind::Deploy);
    let log_file = last.map(|r| ctx.paths.run(r.id).join("deploy.log"));
    if let Some(file) = log_file.as_ref().filter(|f| f.exists()) {
        // The wrapper may have been killed before it could scrub. The result still counts.
        if let Err(e) = child::scrub(file, &redact::current()) {
            tracing::warn!(log = %file.display(), "secrets were not taken out: {e}");
        }
    }
    let output = match exposed(&ctx.project(&task.project)?.deploy.env) {
        // The nonce is no longer known, so text that may contain it is not shown.
        Err(e) => format!("(not shown: {e}, and the output may contain it)"),
        Ok(_) => redact::current().cut_text(&log_file.map(|f| tail(&f, 8192)).unwrap_or_default()),
    };
    let head = ArtefactHead {
        work_item: task.key.to_string(),
        stage: run.stage.to_string(),
        agent: "deploy-finalizer".to_owned(),
        created: now.rfc3339(),
        head: Some(d.head.to_string()),
        base: Some(d.base.to_string()),
        tree: Some(d.tree.clone()),
    };
    let command = ctx.project(&task.project)?.deploy.command.is_some();
    let facts = DeployFacts {
        deploy_id: d.id.clone(),
        command,
        revision: d.landed_sha.as_ref().map(ToString::to_string),
        initiated_at: Some(d.initiated_at.rfc3339()),
        started_at: match sentinel::read::<serde_json::Value>(&ctx.paths.deploy(task, &d.id, "started")) {
            Sentinel::Present(v) => v.body["at"]["wall_ms"].as_i64().map(crate::model::time::rfc3339),
            Sentinel::Absent | Sentinel::Broken(_) => None,
        },
        settled_at: Some(now.rfc3339()),
        output_tail: output.clone(),
    };
    let text = log(&head, status, &facts);
    if let Some(text) = &text {
        keep(ctx, task, &d.head, Artefact::DeployLog.as_str(), text)?;
    }
    let (end, verdict, why) = verdicts::deploy(status, command);
    let result = DeployResult { end, why: why.clone(), log: format!("{why}\n\n{output}") };
    let evidence = NewEvidence {
        subject: Gate::DeployStatus.into(),
        run_id: Some(run.id),
        sha: d.head.clone(),
        code_tree: task.head_tree.clone().unwrap_or_default(),
        verdict,
        why,
        detail: EvidenceDetail::Deploy { deploy: d.id.clone() },
    };
    if *status == DeployStatus::Success
        && let Err(e) = output::forget(ctx, task)
    {
        tracing::warn!(task = %task.key, "the build's output could not be deleted: {e:#}");
    }
    let found = DeployOutcome { id: d.id.clone(), result };
    let artefact_comment =
        text.map(|t| (format!("14-{}", d.id), crate::render::evidence::comment(Artefact::DeployLog, &t)));
    Ok(Some(Settlement {
        evidence: vec![evidence],
        deploy: Some(found),
        comments: artefact_comment.into_iter().collect(),
        ..Settlement::default()
    }))
}
