//! The `ci` job: runs `ci.command` on one commit, or reads the commit's statuses from the forge (RULE-2).

use super::bench::{Bench, By, Order, answered, bench, row, with};
use super::red_ci::{self, Red};
use crate::adapters::child::ChildError;
use crate::decide::gates::{ci::roll_up, verdict::finding};
use crate::decide::ran::{OfCi, of_ci};
use crate::decide::undecided;
use crate::engine::base_rows;
use crate::engine::run_files::tail;
use crate::engine::settle::{End, Settlement};
use crate::engine::stopwatch;
use crate::engine::{Ctx, refused, services, throttle};
use crate::model::ci::{CiAnswer, on_head};
use crate::model::evidence::EvidenceVerdict;
use crate::model::finding::Origin;
use crate::model::gate::Gate;
use crate::model::refusal::Asked;
use crate::model::task::{Cause, Run};
use anyhow::Result;
use std::time::Duration;

/// Of longer output only the tail goes to the developer.
const TAIL: usize = 24 << 10;

/// Judges one commit.
pub fn ci(ctx: &mut Ctx, run: &Run) -> Result<Option<Settlement>> {
    let bench = bench(ctx, run)?;
    match &bench.project.ci.command {
        Some(argv) if !bench.project.forge.is_remote() => command(ctx, run, &bench, argv).map(Some),
        Some(_) | None => statuses(ctx, run, &bench).map(Some),
    }
}

/// `worktree.setup`, then `ci.command`, in one new checkout. A failing setup on a task's head is red CI on that head,
/// since it passed on the base (ORD-1).
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
        // A surviving process could put a link where a cache was just checked.
        Err(ChildError::Left { .. }) => bench.folders.delete()?,
        Ok(_) | Err(_) => bench.clear()?,
    }
    let head = bench.subject.short().to_owned();
    let red = match of_ci(key, &head, &super::bench::ran(&ran)) {
        OfCi::Green => {
            let why = format!("ci.command passed on {head}");
            let ground = Some(base_rows::digest(&ctx.config, &bench.project));
            let row = row(bench, run, Gate::CiGreen, EvidenceVerdict::Pass, why, vec![], false)?;
            return Ok(answered(with(row, |code| code.ground = ground)));
        }
        OfCi::Unsaid { why } => {
            return Ok(answered(row(bench, run, Gate::CiGreen, EvidenceVerdict::ToolError, why, vec![], false)?));
        }
        OfCi::Red { why, late, no_program } => {
            let late = if late { format!(" after {} s", limit_ms / 1000) } else { String::new() };
            let text = format!("{why}{late}\n\n{}", tail(&log, TAIL));
            let findings = vec![finding(Origin::Ci, &text, &format!("runs/{}/{file}", run.id))];
            Red { run: run.id, at: 0, why, findings, no_program }
        }
    };
    let at = ctx.now().stamp.wall_ms;
    red_ci::settle(ctx, run, bench, Red { at, ..red })
}

/// For how long the forge has answered "not yet" about this job, in milliseconds.
fn undecided_for(ctx: &mut Ctx, run: &Run, bench: &Bench, answered: bool) -> Result<i64> {
    stopwatch::undecided_for(ctx, &bench.task, &format!("ci/j{}", run.job_id), answered, Some(undecided::GAP_MS))
}

fn statuses(ctx: &mut Ctx, run: &Run, bench: &Bench) -> Result<Settlement> {
    let now = ctx.now().stamp.wall_ms;
    let ci = &bench.project.ci;
    let read = match services::forge(ctx, &bench.project, |forge| forge.statuses(&bench.subject)) {
        Ok(list) => list,
        // A missing answer says nothing about the commit, and no bound runs (RULE-8).
        Err(e) => {
            if let Some(answer) = refused::answer(&e) {
                let why = format!("the forge refuses to list the statuses: {answer}");
                return Ok(Settlement {
                    end: End::Unspent { cause: Cause::Outage, why },
                    refused: Some((Asked::Statuses, answer)),
                    ..Settlement::default()
                });
            }
            undecided_for(ctx, run, bench, false)?;
            let until = throttle::until(ctx, throttle::of_forge(&bench.project).as_deref())?;
            let at = undecided::after_outage(until, now);
            return Ok(Settlement {
                end: End::Again { at, why: format!("the forge did not list its statuses: {e:#}") },
                ..Settlement::default()
            });
        }
    };
    Ok(match roll_up(&read, &ci.contexts, ci.required, &ci.accept) {
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
            let findings = vec![finding(Origin::Ci, &format!("{why}\n\n{}", said.join("\n")), "the forge")];
            answered(row(bench, run, Gate::CiGreen, EvidenceVerdict::Fail, why, findings, false)?)
        }
        CiAnswer::Pending { missing } => {
            let waited = undecided_for(ctx, run, bench, true)?;
            let bound = ctx.policy.undecided_max_ms;
            let named = missing.join(", ");
            let why = format!("waiting for {named} on {}: {}", bench.subject.short(), on_head(&read));
            if waited > bound {
                let why = format!("{why}, for longer than gates.undecided_max_s");
                Settlement { end: End::Block { why }, ..Settlement::default() }
            } else {
                Settlement {
                    end: End::Again { at: now + undecided::next_look_ms(waited), why },
                    ..Settlement::default()
                }
            }
        }
    })
}
