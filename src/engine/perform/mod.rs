//! Carries out one effect: looks by its key whether it is done, does it, and reports. Everything that may be chosen is
//! in the effect; what the report means is decided elsewhere (`tests/architecture.rs` keeps `decide` out of here).

pub mod branch;
pub mod files;
pub mod merge;
pub mod processes;
pub mod pull;

use super::{Ctx, base, inputs};
use crate::engine::base_rows;
use crate::model::decision::Procedure;
use crate::model::effect::{BaseSettings, Effect, Report};
use crate::model::task::Task;
use anyhow::Result;

/// What came of an effect.
#[derive(Debug)]
pub struct Performed {
    pub report: Report,
    /// What remote or forge said, where the report is about a failure of theirs: the step may fail with it.
    pub fault: Option<anyhow::Error>,
}

impl From<Report> for Performed {
    fn from(report: Report) -> Self {
        Self { report, fault: None }
    }
}

/// Carries out one effect of a task.
///
/// # Errors
/// Remote or forge does not answer or says no, or this machine fails: nothing is known of the effect, and the next
/// step looks first.
pub fn perform(ctx: &mut Ctx, task: &Task, effect: &Effect) -> Result<Performed> {
    let report = match effect {
        Effect::Merge { merging, merge, survey } => {
            let (report, fault) = merge::merge(ctx, task, merging, merge, survey)?;
            return Ok(Performed { report, fault });
        }
        Effect::Prepare { procedure } => prepare(ctx, task, *procedure)?,
        Effect::Park { .. } => Report::Ready { revision: task.revision, file_fence: 0, settings: None },
        Effect::WriteLeaseFile { .. } | Effect::ReleaseLeaseFile => files::lease(ctx, task)?,
        Effect::Survey { survey, .. } => Report::Surveyed(Box::new(branch::survey(ctx, task, survey)?)),
        Effect::ReadHead { branch, remote, .. } => branch::read_head(ctx, task, branch, remote)?,
        Effect::OpenPull { pull, .. } => Report::Pull(pull::open(ctx, task, pull)?),
        Effect::MakeUpdate { update, .. } => branch::make_update(ctx, task, update)?,
        Effect::PushUpdate { update, new, .. } => branch::push_update(ctx, task, update, new)?,
        Effect::LookForTip { opening } => branch::contains(ctx, task, opening)?,
        Effect::Inspect { opening, build } => merge::inspect(ctx, task, opening, *build)?,
        Effect::Clear { names, baseline, .. } => merge::clear(ctx, task, names, *baseline)?,
        Effect::WriteInitiated { merging, .. } => merge::write_initiated(ctx, task, merging)?,
        Effect::RemoveInitiated { deploy, .. } => merge::remove_initiated(ctx, task, deploy)?,
        Effect::EndProcesses => processes::end(ctx, task)?,
        Effect::ForgetEnvironments => processes::forget_environments(ctx, task)?,
        Effect::Archive { at, head, .. } => files::archive(ctx, task, *at, head)?,
        Effect::ClosePull { key, number, .. } => pull::close(ctx, task, key, *number)?,
        Effect::LookAtLeft { branch, .. } => files::left(ctx, task, branch.as_deref())?,
        Effect::LookAtBranch { branch, .. } => branch::at(ctx, task, branch)?,
        Effect::DeleteBranch { branch, at, default, .. } => branch::delete(ctx, task, branch, at, default)?,
        Effect::RemoveArea { .. } => files::remove_area(ctx, task)?,
        Effect::LookForPull { branch } => pull::find(ctx, task, branch)?,
        Effect::ListInputs { base, head, .. } => inputs::listed(ctx, task, base, head)?,
    };
    Ok(report.into())
}

/// Makes the repository ready where a procedure works in it, and reads what it begins with.
fn prepare(ctx: &mut Ctx, task: &Task, procedure: Procedure) -> Result<Report> {
    let revision = if procedure.needs_repository() { base::ensure(ctx, task.id)?.task.revision } else { task.revision };
    let file_fence = super::lease::file_fence(ctx, &task.repo);
    let project = ctx.project(&task.project)?;
    let settings = base_rows::applies(&ctx.config, project).then(|| BaseSettings {
        name: project.base_name().to_owned(),
        digest: base_rows::digest(&ctx.config, project),
    });
    Ok(Report::Ready { revision, file_fence, settings })
}
