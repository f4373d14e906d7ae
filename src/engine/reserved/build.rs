//! The `build` job: asks what staging runs, builds it once if it is another revision, asks again (SHIP-4).

use super::{By, Order, answered, bench, ending, row, staging::env};
use crate::adapters::probe::{ProbeCtx, revision};
use crate::decide::gates::freshness::{
    BuildState, Freshness, FreshnessFacts, FreshnessNext, RevisionSourceState, freshness,
};
use crate::engine::settle::{End, Settlement};
use crate::engine::{Ctx, settle};
use crate::model::decision::Gate;
use crate::model::task::{EvidenceVerdict, Run};
use anyhow::Result;
use serde_json::json;
use std::time::Duration;

/// One look, with the one build it may cause; a later look goes on where this one ended.
pub fn build(ctx: &mut Ctx, run: &Run) -> Result<Option<Settlement>> {
    let bench = bench(ctx, run)?;
    let Some(source) = bench.project.staging.revision.clone() else { return Ok(Some(Settlement::default())) };
    let spec = source.spec()?;
    let limit_ms = match &source {
        crate::config::Revision::Url { timeout_s, .. } => (timeout_s * 1000.0) as i64,
        crate::config::Revision::Command(c) => i64::try_from(c.timeout_ms()).unwrap_or(i64::MAX),
    };
    let probe = ProbeCtx {
        checkout: bench.checkout()?,
        home: bench.folders.home.clone(),
        env: env(&bench, run),
        confined: None,
    };
    // Built once per head, and once more where a person's retry began a new stay: the journal knows, whoever built.
    let key = format!("t{}/e{}/build/{}", bench.task.id, bench.task.epoch, bench.subject);
    let journal = ctx.store.read(|tx| tx.journal_row(&key))?;
    let built = journal.as_ref().and_then(|r| r.outcome.clone());
    let mut answer = revision::ask(&spec, &probe);
    let mut failed = built.as_ref().and_then(|b| b["failed"].as_str().map(str::to_owned));
    let mut done = built.is_some();
    let now = ctx.now().stamp.wall_ms;
    let differs = answer.as_ref().is_ok_and(|a| !a.trim().eq_ignore_ascii_case(bench.subject.as_str()));
    if differs
        && !done
        && let Some(build) = bench.project.staging.build.clone()
    {
        let me = ctx.me.clone();
        ctx.store.write(|tx| {
            tx.intend(&key, Some(bench.task.id), "staging_built", &json!({"head": bench.subject}), &me, now).map(drop)
        })?;
        let ran = bench.command(
            ctx,
            run,
            &Order {
                name: "build",
                argv: &build.command,
                env: &build.env,
                limit: Duration::from_millis(build.timeout_ms()),
                further: &[],
                // It builds and serves staging: what serves stays.
                by: By::Operator,
            },
        )?;
        failed = match ran {
            Ok(exit) if exit.code == Some(0) && exit.ended_by.is_none() => None,
            Ok(exit) => Some(ending(&exit)),
            Err(e) => Some(e.to_string()),
        };
        let at = ctx.now().stamp.wall_ms;
        ctx.store.write(|tx| tx.record_outcome(&key, &json!({"failed": failed}), at))?;
        done = true;
        answer = revision::ask(&spec, &probe);
    }
    bench.folders.delete()?;
    let state = match (&failed, done, bench.project.staging.build.is_some()) {
        (Some(why), ..) => BuildState::Failed(why),
        (None, true, _) => BuildState::Done,
        (None, false, true) => BuildState::NotYet,
        (None, false, false) => BuildState::NotDeclared,
    };
    let stale = settle::patience(ctx, &bench.task, &format!("image/{}/{done}", bench.subject), answer.is_ok())?;
    let now = ctx.now().stamp.wall_ms;
    let facts = FreshnessFacts {
        source: RevisionSourceState::Declared,
        head: &bench.subject,
        answer: Some(answer.as_ref().map(String::as_str).map_err(String::as_str)),
        build: state,
        answered_stale_ms: stale,
        limit_ms,
    };
    Ok(Some(match freshness(&facts) {
        Freshness::NotApplicable { why } | Freshness::Pass { why } => {
            answered(row(&bench, run, Gate::StagingImageFresh, EvidenceVerdict::Pass, why, vec![], false)?)
        }
        Freshness::Fail { why } => {
            answered(row(&bench, run, Gate::StagingImageFresh, EvidenceVerdict::Fail, why, vec![], false)?)
        }
        Freshness::Undecided { why, next: FreshnessNext::Ask | FreshnessNext::Build | FreshnessNext::Wait } => {
            Settlement { end: End::Again { at: now + 5000, why }, ..Settlement::default() }
        }
    }))
}
