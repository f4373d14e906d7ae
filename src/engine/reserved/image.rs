//! Image freshness (SHIP-4): asks which revision staging runs. If it is another one, builds the right one once,
//! confined, has the operator's command bring it to staging, and asks again.

use super::bench::{Bench, By, Order, answered, row};
use super::output::{self, INPUT, Made};
use crate::adapters::git::files::remove;
use crate::adapters::probe::{ProbeCtx, revision};
use crate::adapters::sentinel;
use crate::config::Revision;
use crate::decide::gates::freshness::{BuildState, Freshness, FreshnessFacts, freshness};
use crate::engine::Ctx;
use crate::engine::area::Folders;
use crate::engine::operator;
use crate::engine::settle::{End, Settlement};
use crate::engine::stopwatch;
use crate::model::evidence::EvidenceVerdict;
use crate::model::gate::Gate;
use crate::model::task::Run;
use anyhow::Result;
use serde_json::json;
use std::ffi::OsString;
use std::time::Duration;

/// One check, with the one build it may cause; a later check resumes where this one ended.
pub(super) fn fresh(ctx: &mut Ctx, run: &Run, mut bench: Bench) -> Result<Option<Settlement>> {
    let Some(source) = bench.project.staging.revision.clone() else { return Ok(Some(Settlement::default())) };
    let spec = source.spec()?;
    // No run ever writes here: the command that asks is the operator's.
    let work = bench.folders.clone();
    let probe = ProbeCtx {
        checkout: bench.project.folder_in(&bench.checkout()?),
        home: work.home.clone(),
        env: operator::task_env(&bench.task, run.stage.as_str(), bench.subject.as_str()),
        own: Some(operator::env(&ctx.config)),
        confined: None,
        sealed: Vec::new(),
    };
    // Built once per head, and once more if a person's retry began a new stay. The journal records it, whoever built.
    let key = format!("t{}/e{}/build/{}", bench.task.id, bench.task.epoch, bench.subject);
    let journal = ctx.store.read(|tx| tx.journal_row(&key))?;
    let built = journal.as_ref().and_then(|r| r.outcome.clone());
    let mut seen = Seen {
        answer: revision::ask(&spec, &probe),
        failed: built.as_ref().and_then(|b| b["failed"].as_str().map(str::to_owned)),
        done: built.is_some(),
        declared: bench.project.staging.build.is_some() || bench.project.staging.deploy.is_some(),
    };
    if matches!(seen.freshness(&bench, 0, 0), Freshness::Build { .. }) {
        let (me, now) = (ctx.me.clone(), ctx.now().stamp.wall_ms);
        ctx.store.write(|tx| {
            crate::engine::record::intend(
                tx,
                &key,
                Some(bench.task.id),
                "staging_built",
                &json!({"head": bench.subject}),
                &me,
                now,
            )
            .map(drop)
        })?;
        seen.failed = match brought(ctx, run, &mut bench)? {
            None | Some(Made::Output(..)) => None,
            Some(Made::Red(why, _)) => Some(why),
            // This says nothing about the commit, so nothing is recorded and it is built again.
            Some(Made::Environment(why)) => {
                work.delete()?;
                return Ok(Some(Settlement::environment(&why)));
            }
            Some(Made::Unsaid(why)) => {
                work.delete()?;
                return judged(&bench, run, EvidenceVerdict::ToolError, why).map(Some);
            }
        };
        let at = ctx.now().stamp.wall_ms;
        ctx.store.write(|tx| crate::engine::record::outcome(tx, &key, &json!({"failed": seen.failed}), at))?;
        seen.done = true;
        seen.answer = revision::ask(&spec, &probe);
    }
    work.delete()?;
    verdict(ctx, run, &bench, &source, &seen).map(Some)
}

/// What is known about staging after the check.
struct Seen {
    answer: std::result::Result<String, String>,
    /// Why its build failed.
    failed: Option<String>,
    done: bool,
    /// Whether anything builds it.
    declared: bool,
}

impl Seen {
    /// What follows. `stale`, `limit`: for how long staging has answered with another revision, and may, in
    /// milliseconds.
    fn freshness(&self, bench: &Bench, stale: i64, limit: i64) -> Freshness {
        freshness(&FreshnessFacts {
            head: &bench.subject,
            answer: self.answer.as_ref().map(String::as_str).map_err(String::as_str),
            build: match (&self.failed, self.done, self.declared) {
                (Some(why), ..) => BuildState::Failed(why),
                (None, true, _) => BuildState::Done,
                (None, false, true) => BuildState::NotYet,
                (None, false, false) => BuildState::NotDeclared,
            },
            answered_stale_ms: stale,
            limit_ms: limit,
        })
    }
}

fn judged(bench: &Bench, run: &Run, verdict: EvidenceVerdict, why: String) -> Result<Settlement> {
    Ok(answered(row(bench, run, Gate::StagingImageFresh, verdict, why, vec![], false)?))
}

fn verdict(ctx: &mut Ctx, run: &Run, bench: &Bench, source: &Revision, seen: &Seen) -> Result<Settlement> {
    let limit_ms = match source {
        Revision::Url { timeout_s, .. } => (timeout_s * 1000.0) as i64,
        Revision::Command(c) => i64::try_from(c.timeout_ms()).unwrap_or(i64::MAX),
    };
    let question = format!("image/{}/{}", bench.subject, seen.done);
    let stale = stopwatch::undecided_for(ctx, &bench.task, &question, seen.answer.is_ok(), None)?;
    let now = ctx.now().stamp.wall_ms;
    match seen.freshness(bench, stale, limit_ms) {
        Freshness::Pass { why } => judged(bench, run, EvidenceVerdict::Pass, why),
        Freshness::Fail { why } => judged(bench, run, EvidenceVerdict::Fail, why),
        Freshness::Build { why } | Freshness::AskAgain { why } => {
            Ok(Settlement { end: End::Again { at: now + 5000, why }, ..Settlement::default() })
        }
    }
}

/// Runs the build, if there is one, and the command that brings its output to staging, which has this account's rights
/// and a folder with only the protected scripts. Without a build that command gets a checkout. `None`: both succeeded.
fn brought(ctx: &mut Ctx, run: &Run, bench: &mut Bench) -> Result<Option<Made>> {
    let mut input = None;
    if let Some(build) = bench.project.staging.build.clone() {
        match output::make(ctx, bench, run, "staging.build", &build)? {
            Made::Output(path, _) => input = Some(path),
            other @ (Made::Red(..) | Made::Environment(_) | Made::Unsaid(_)) => return Ok(Some(other)),
        }
    }
    let mut end = None;
    if let Some(deploy) = bench.project.staging.deploy.clone() {
        bench.folders = Folders::of_operator(&bench.dir, "deploy");
        match &input {
            Some(_) => bench.scripts_alone()?,
            None => drop(bench.checkout()?),
        }
        let further: Vec<(&str, OsString)> = input.iter().map(|path| (INPUT, path.into())).collect();
        let limit = Duration::from_millis(deploy.timeout_ms());
        let order = Order {
            name: "staging-deploy",
            argv: &deploy.command,
            env: &deploy.env,
            limit,
            further: &further,
            // Staging's services must keep running.
            by: By::Operator,
        };
        // Every process of the build is gone, and this job starts no further ones.
        sentinel::put(&ctx.paths.in_operators_hands(run.id), b"")?;
        let ran = bench.start(ctx, run, &order)?;
        end = output::judged("staging.deploy", "staging-deploy.log", &ran);
        bench.folders.delete()?;
    }
    if let Some(path) = input {
        remove(&path)?;
    }
    Ok(end)
}
