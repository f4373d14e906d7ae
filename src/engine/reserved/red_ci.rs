//! A red CI before it counts (ORD-1): if the base's verdict is old, or no program could be started, the base is checked
//! again first. If that is red as well, the machine has changed and the task is not to blame.

use super::bench::{Bench, answered, row, with};
use crate::decide::base::{self, RedCi};
use crate::engine::base_rows;
use crate::engine::settle::{End, Settlement};
use crate::engine::{Ctx, policy, red_ci};
use crate::model::evidence::EvidenceVerdict;
use crate::model::finding::Finding;
use crate::model::gate::Gate;
use crate::model::ids::RunId;
use crate::model::task::Run;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A red CI of one job, kept until the base has been checked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Red {
    /// The run that was red.
    pub run: RunId,
    /// When (wall milliseconds).
    pub at: i64,
    pub why: String,
    pub findings: Vec<Finding>,
    /// No program could be started, or it ended with 126 or 127.
    pub no_program: bool,
}

fn key(run: &Run) -> String {
    format!("ci/red/j{}", run.job_id.0)
}

/// The red CI with which this job waits; `None` if its commit has changed by now.
pub(super) fn kept(ctx: &mut Ctx, run: &Run, bench: &Bench) -> Result<Option<Red>> {
    let text = ctx.store.read(|tx| tx.meta(&key(run)))?;
    let kept = text.and_then(|t| serde_json::from_str::<(String, Red)>(&t).ok());
    Ok(kept.filter(|(sha, _)| *sha == bench.subject.as_str()).map(|(_, red)| red))
}

/// What follows from a red CI: it counts, waits for the base, or is the machine's fault.
pub(super) fn settle(ctx: &mut Ctx, run: &Run, bench: &Bench, red: Red) -> Result<Settlement> {
    let name = bench.project.base_name();
    let applies = base_rows::applies(&ctx.config, &bench.project);
    let (base, on_red) = ctx
        .store
        .read(|tx| Ok::<_, crate::adapters::store::StoreError>((base_rows::row(tx, name)?, base_rows::on_red(tx)?)))?;
    let now = ctx.now().stamp.wall_ms;
    let recheck = policy::ms(ctx.config.base.recheck_s);
    let next = match applies && !on_red.contains(&bench.task.id) {
        true => base::red_ci(base.as_ref(), red.no_program, red.at, now, recheck),
        // There is no base to compare with, or a person accepted that it is red.
        false => RedCi::Counts,
    };
    match next {
        RedCi::Counts => {
            ctx.store.write(|tx| tx.drop_meta(&key(run)))?;
            let mut row = row(bench, run, Gate::CiGreen, EvidenceVerdict::Fail, red.why, red.findings, false)?;
            row.run_id = Some(red.run);
            let ground = &bench.ground;
            let settings = base_rows::ground(&ctx.config, &bench.project);
            let scripts = red_ci::scripts(&ground.mirror, &bench.project, &ground.default_sha);
            Ok(answered(with(row, |code| (code.settings, code.scripts) = (Some(settings), scripts))))
        }
        RedCi::TryBase => {
            let why = format!("{}; the base of {name} is checked again before that counts", red.why);
            let (since, text) = (red.at, json!([bench.subject, red]).to_string());
            ctx.store.write(|tx| tx.set_meta(&key(run), &text))?;
            Ok(Settlement { end: End::BaseFirst { since, why }, ..Settlement::default() })
        }
        RedCi::Machine => {
            ctx.store.write(|tx| tx.drop_meta(&key(run)))?;
            let of_base = base.map(|b| b.why).unwrap_or_default();
            let why = format!(
                "{}, and so is the base ({of_base}): this machine has changed; fix what `orch logs --base {name}` shows",
                red.why
            );
            Ok(Settlement { end: End::Environment { why }, ..Settlement::default() })
        }
    }
}
