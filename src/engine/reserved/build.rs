//! The `build` job: builds what staging runs (`image`) or what the deploy command gets (BND-3).

use super::bench::{Bench, answered, bench, row, with};
use super::image;
use super::output::{self, Made};
use crate::decide::gates::{Facts, deploy_build, verdict::finding};
use crate::engine::run_files::tail;
use crate::engine::settle::Settlement;
use crate::engine::{Ctx, view};
use crate::model::evidence::EvidenceVerdict;
use crate::model::finding::Origin;
use crate::model::gate::Gate;
use crate::model::task::Run;
use anyhow::Result;

/// Of longer output only the tail goes to the developer.
const TAIL: usize = 24 << 10;

/// Builds for the first gate that waits for a build. A job that no gate needs any more ends successfully.
pub fn build(ctx: &mut Ctx, run: &Run) -> Result<Option<Settlement>> {
    let bench = bench(ctx, run)?;
    let (now, policy) = (ctx.now(), ctx.policy.clone());
    let view = ctx.store.read(|tx| view::task(tx, run.task_id, &now, None))?;
    let project = policy.project(&bench.task.project);
    let wanted = project.and_then(|project| deploy_build::wanted(&Facts { view: &view, policy: &policy, project }));
    match wanted {
        Some(Gate::StagingImageFresh) => image::fresh(ctx, run, bench),
        Some(Gate::DeployBuild) => for_deploy(ctx, run, bench),
        Some(_) | None => Ok(Some(Settlement::default())),
    }
}

/// `deploy.build` on the tested head. A non-zero exit is red CI on it.
fn for_deploy(ctx: &mut Ctx, run: &Run, mut bench: Bench) -> Result<Option<Settlement>> {
    let Some(build) = bench.project.deploy.build.clone() else { return Ok(Some(Settlement::default())) };
    output::forget(ctx, &bench.task)?;
    let head = bench.subject.short().to_owned();
    let row = match output::make(ctx, &mut bench, run, "deploy.build", &build)? {
        Made::Output(_, output) => {
            let why = format!("deploy.build passed on {head}: {} files, {} bytes", output.files, output.bytes);
            let row = row(&bench, run, Gate::DeployBuild, EvidenceVerdict::Pass, why, vec![], false)?;
            with(row, |code| code.output = Some(output::kept(&output)))
        }
        Made::Red(why, file) => {
            let why = format!("CI is red on {head}: {why}");
            let text = format!("{why}\n\n{}", tail(&bench.dir.join(file), TAIL));
            let findings = vec![finding(Origin::DeployBuild, &text, &format!("runs/{}/{file}", run.id))];
            row(&bench, run, Gate::DeployBuild, EvidenceVerdict::Fail, why, findings, false)?
        }
        Made::Environment(why) => return Ok(Some(Settlement::environment(&why))),
        Made::Unsaid(why) => row(&bench, run, Gate::DeployBuild, EvidenceVerdict::ToolError, why, vec![], false)?,
    };
    Ok(Some(answered(row)))
}
