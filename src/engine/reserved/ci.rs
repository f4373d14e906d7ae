//! The `ci` job: runs `ci.command` on one commit, or reads the commit's statuses from the forge (RULE-2).

use super::red_ci::{self, Red};
use super::{Bench, By, Order, answered, bench, ending, forge, row};
use crate::adapters::child::{ChildError, EndedBy};
use crate::decide::gates::{ci::roll_up, verdict::finding};
use crate::engine::agent::tail;
use crate::engine::settle::{End, Settlement};
use crate::engine::{Ctx, base_job, outages, refused, throttle};
use crate::model::ci::{CiAnswer, on_head};
use crate::model::decision::Gate;
use crate::model::refusal::Asked;
use crate::model::task::{Cause, EvidenceVerdict, Run};
use anyhow::Result;
use std::time::Duration;

/// Past this much output only the tail goes to the developer.
const TAIL: usize = 24 << 10;

/// Between two looks at statuses that are not there yet: a quarter of the time waited so far, within these.
const SOONEST_MS: i64 = 2_000;
const LATEST_MS: i64 = 30_000;
/// Before the forge is asked again after it did not answer.
const OUTAGE_MS: i64 = 5_000;
/// A longer gap between two answers was an outage, or nobody looked: it does not count as waiting (RULE-8).
const GAP_MS: i64 = 10 * LATEST_MS;

fn waiting_key(run: &Run) -> String {
    format!("ci/j{}", run.job_id.0)
}

/// For how long the forge has answered "not yet" about this job, in milliseconds.
fn answered_for(ctx: &mut Ctx, run: &Run, now: i64) -> Result<i64> {
    let key = waiting_key(run);
    ctx.store.write(|tx| {
        let before: Option<(i64, i64)> = tx.meta(&key)?.and_then(|t| serde_json::from_str(&t).ok());
        let (total, last) = before.unwrap_or((0, now));
        let gap = now - last;
        let total = if (0..=GAP_MS).contains(&gap) { total + gap } else { total };
        tx.set_meta(&key, &serde_json::json!([total, now]).to_string())?;
        Ok(total)
    })
}

/// Judges one commit.
pub fn ci(ctx: &mut Ctx, run: &Run) -> Result<Option<Settlement>> {
    let bench = bench(ctx, run)?;
    match &bench.project.ci.command {
        Some(argv) if !bench.project.forge.is_remote() => command(ctx, run, &bench, argv).map(Some),
        Some(_) | None => statuses(ctx, run, &bench).map(Some),
    }
}

/// `worktree.setup`, then `ci.command`, in one new checkout. A setup that fails on a task's head is red CI on that head: it
/// passed on the base (ORD-1).
fn command(ctx: &mut Ctx, run: &Run, bench: &Bench, argv: &[String]) -> Result<Settlement> {
    if let Some(red) = red_ci::kept(ctx, run, bench)? {
        return red_ci::settle(ctx, run, bench, red);
    }
    bench.checkout_for(ctx, run)?;
    let (key, name, limit_ms, ran) = match (bench.set_up(ctx, run)?, &bench.project.worktree.setup) {
        (Some(ran), Some(setup)) => ("worktree.setup", "setup", setup.timeout_ms(), ran),
        (Some(_) | None, _) => {
            let limit = Duration::from_secs(bench.project.ci.timeout_s);
            let env = &bench.project.ci.env;
            let order = Order { name: "ci", argv, env, limit, further: &[], by: By::Branch };
            ("ci.command", "ci", bench.project.ci.timeout_s * 1000, bench.start(ctx, run, &order)?)
        }
    };
    let file = format!("{name}.log");
    let log = bench.dir.join(&file);
    match &ran {
        // What lives on could put a link where a cache was just looked at.
        Err(ChildError::Left { .. }) => bench.folders.delete()?,
        Ok(_) | Err(_) => bench.clear()?,
    }
    let red = |why: String, late: bool, no_program: bool| {
        let late = if late { format!(" after {} s", limit_ms / 1000) } else { String::new() };
        let text = format!("{why}{late}\n\n{}", tail(&log, TAIL));
        let findings = vec![finding("ci", &text, &format!("runs/{}/{file}", run.id))];
        Red { run: run.id, at: 0, why, findings, no_program }
    };
    let red = match ran {
        Ok(exit) if exit.code == Some(0) && exit.ended_by.is_none() => {
            let why = format!("ci.command passed on {}", bench.subject.short());
            let mut row = row(bench, run, Gate::CiGreen, EvidenceVerdict::Pass, why, vec![], false)?;
            // Under which settings: what landed so is a green base under the same (ORD-1).
            row.detail["ground"] = serde_json::json!(base_job::digest(&ctx.config, &bench.project));
            return Ok(answered(row));
        }
        // A program that isn't there says as little of the branch as the shell's 127 (ORD-1).
        Err(e @ (ChildError::NotFound { .. } | ChildError::NotStarted { .. })) => {
            red(format!("CI is red on {}: {}{e}", bench.subject.short(), of(key)), false, true)
        }
        Err(e) => {
            let why = format!("{}{e}", of(key));
            return Ok(answered(row(bench, run, Gate::CiGreen, EvidenceVerdict::ToolError, why, vec![], false)?));
        }
        Ok(exit) if exit.ended_by.is_none() && exit.code.is_none() => {
            let why = format!("{key} was killed: {}", ending(&exit));
            return Ok(answered(row(bench, run, Gate::CiGreen, EvidenceVerdict::ToolError, why, vec![], false)?));
        }
        Ok(exit) => {
            let why = format!("CI is red on {}: {}{}", bench.subject.short(), of(key), ending(&exit));
            let no_program = exit.ended_by.is_none() && matches!(exit.code, Some(126 | 127));
            red(why, exit.ended_by == Some(EndedBy::Wall), no_program)
        }
    };
    let at = ctx.now().stamp.wall_ms;
    red_ci::settle(ctx, run, bench, Red { at, ..red })
}

/// How a sentence about CI begins where it is about its setup.
fn of(key: &str) -> String {
    if key == "ci.command" { String::new() } else { format!("{key}: ") }
}

fn statuses(ctx: &mut Ctx, run: &Run, bench: &Bench) -> Result<Settlement> {
    let now = ctx.now().stamp.wall_ms;
    let ci = &bench.project.ci;
    let read = match forge(ctx, bench).and_then(|f| Ok(f.statuses(&bench.subject)?)) {
        Ok(list) => {
            outages::forge_answered(ctx, &bench.project);
            list
        }
        // No answer says nothing of the commit, and no bound runs (RULE-8).
        Err(e) => {
            throttle::noted(ctx, &bench.project, &e)?;
            if let Some(answer) = refused::answer(&e) {
                let why = format!("the forge refuses to list the statuses: {answer}");
                return Ok(Settlement {
                    end: End::Unspent { cause: Cause::Outage, why },
                    refused: Some((Asked::Statuses, answer)),
                    ..Settlement::default()
                });
            }
            let until = throttle::until(ctx, throttle::of_forge(&bench.project).as_deref())?;
            let at = until.unwrap_or(0).max(now + OUTAGE_MS);
            return Ok(Settlement {
                end: End::Again { at, why: format!("the forge did not list its statuses: {e:#}") },
                ..Settlement::default()
            });
        }
    };
    let answer = roll_up(&read, &ci.contexts, ci.required, &ci.accept);
    if !matches!(answer, CiAnswer::Pending { .. }) {
        ctx.store.write(|tx| tx.drop_meta(&waiting_key(run)))?;
    }
    Ok(match answer {
        CiAnswer::Green => answered(row(
            bench,
            run,
            Gate::CiGreen,
            EvidenceVerdict::Pass,
            format!("every required status of {} is green", bench.subject.short()),
            vec![],
            false,
        )?),
        CiAnswer::Red { contexts } => {
            let said: Vec<String> = read
                .iter()
                .filter(|s| contexts.contains(&s.context))
                .map(|s| format!("{}: {} {} {}", s.context, s.state, s.description, s.target_url))
                .collect();
            let why = format!("CI is red on {}: {}", bench.subject.short(), contexts.join(", "));
            let findings = vec![finding("ci", &format!("{why}\n\n{}", said.join("\n")), "the forge")];
            answered(row(bench, run, Gate::CiGreen, EvidenceVerdict::Fail, why, findings, false)?)
        }
        CiAnswer::Pending { missing } => {
            let waited = answered_for(ctx, run, now)?;
            let bound = ctx.policy.undecided_max_ms;
            let named = missing.join(", ");
            let why = format!("waiting for {named} on {}: {}", bench.subject.short(), on_head(&read));
            if waited > bound {
                let why = format!("{why}, longer than gates.undecided_max_s");
                Settlement { end: End::Block { why }, ..Settlement::default() }
            } else {
                Settlement {
                    end: End::Again { at: now + (waited / 4).clamp(SOONEST_MS, LATEST_MS), why },
                    ..Settlement::default()
                }
            }
        }
    })
}
