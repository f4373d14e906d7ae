//! The `staging` job: the declared checks on the task's head, folded into a verdict (SHIP-3).

use super::bench::{answered, artefact_comment, bench, ending, keep, resting_on, row, with};
use super::output;
use crate::adapters::probe::ProbeCtx;
use crate::decide::gates::verdict::{self, finding};
use crate::decide::staging::Tolerance;
use crate::decide::verdicts;
use crate::engine::settle::{End, Settlement};
use crate::engine::{Ctx, operator, staging as suite};
use crate::model::artefact::Artefact;
use crate::model::evidence::EvidenceVerdict;
use crate::model::finding::Origin;
use crate::model::gate::Gate;
use crate::model::staging::CheckResult;
use crate::model::task::Run;
use crate::render::evidence::ArtefactHead;
use crate::render::staging as show;
use anyhow::Result;

/// Runs the checks, writes artefact 15 and takes the verdict from what it reads back.
pub fn staging(ctx: &mut Ctx, run: &Run) -> Result<Option<Settlement>> {
    let bench = bench(ctx, run)?;
    let settings = &bench.project.staging;
    let checkout = bench.checkout_for(ctx, run)?;
    let commands = settings.checks.iter().any(crate::config::Check::is_command);
    // What CI set up no longer exists (ORD-1).
    if commands && let Some(ran) = bench.set_up(ctx, run)? {
        let environment =
            matches!(output::judged("worktree.setup", "setup.log", &ran), Some(output::Made::Environment(_)));
        let how = ran.map_or_else(|e| e.to_string(), |exit| ending(&exit));
        let why =
            format!("worktree.setup, before the staging checks: {how}; `orch logs {}` has its log", bench.task.key);
        bench.folders.delete()?;
        if environment {
            return Ok(Some(Settlement::environment(&why)));
        }
        return Ok(Some(Settlement { end: End::Failed { why, spent: true }, ..Settlement::default() }));
    }
    let confined = commands.then(|| bench.checks(ctx, run)).transpose()?;
    let env = operator::task_env(&bench.task, run.stage.as_str(), bench.subject.as_str());
    let sealed = bench.scripts.borrow().clone();
    let checkout = bench.project.folder_in(&checkout);
    let probe = ProbeCtx { checkout, home: bench.folders.home.clone(), env, own: None, confined, sealed };
    let tolerance = Tolerance::of(false, settings.infra_tolerance_enabled);
    let (project, mut quiet) = (bench.project.clone(), |_: &CheckResult| {});
    let order = suite::Order { project: &project, probe: &probe, scratch: &bench.dir, tolerance, more: &|| true };
    let (results, folded) = suite::run(ctx, &order, &mut quiet)?;
    bench.clear()?;
    let now = ctx.now().stamp;
    let head = ArtefactHead {
        work_item: bench.task.key.to_string(),
        stage: run.stage.to_string(),
        agent: "staging-check".to_owned(),
        created: now.rfc3339(),
        head: Some(bench.subject.to_string()),
        base: Some(bench.ground.default_sha.to_string()),
        tree: Some(bench.ground.mirror.code_tree(&bench.subject, &bench.task.key)?.to_string()),
    };
    let text = show::log(&head, &results, &folded);
    let kept = keep(ctx, &bench.task, &bench.subject, Artefact::StagingLog.as_str(), &text)?;
    let read = verdict::judge(Artefact::StagingLog, Some(&kept.bytes));
    let waived: Vec<&str> = folded.waived.iter().map(|w| w.id.as_str()).collect();
    let (verdict, why) = verdicts::staging(&read, folded.status, results.len(), &folded.because, &waived);
    let findings = if verdict == EvidenceVerdict::Fail {
        vec![finding(Origin::Staging, &text, "15-staging-log.md")]
    } else {
        vec![]
    };
    let caveat = verdict == EvidenceVerdict::Pass && !waived.is_empty();
    let row = row(&bench, run, Gate::StagingStatus, verdict, why, findings, false)?;
    let mut done = answered(with(resting_on(row, &kept), |code| code.caveat = caveat));
    done.comments.push(artefact_comment(Artefact::StagingLog, &bench.subject, verdict, &text));
    Ok(Some(done))
}
