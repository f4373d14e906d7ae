//! Carries out one effect: looks by its key whether it is done, does it, and reports. Everything that may be chosen is
//! in the effect; what the report means is decided elsewhere (`tests/architecture.rs` keeps `decide` out of here).

pub mod branch;
pub mod files;
pub mod pull;

use super::{Ctx, base};
use crate::model::effect::{Effect, Report};
use crate::model::task::Task;
use anyhow::Result;

/// Carries out one effect of a task.
///
/// # Errors
/// Remote or forge does not answer or says no, or this machine fails: nothing is known of the effect, and the next
/// step looks first.
pub fn perform(ctx: &mut Ctx, task: &Task, effect: &Effect) -> Result<Report> {
    match effect {
        Effect::Prepare { .. } => {
            let ground = base::ensure(ctx, task.id)?;
            let file_fence = super::lease::file_fence(ctx, &ground.task.repo);
            Ok(Report::Ready { revision: ground.task.revision, file_fence })
        }
        Effect::WriteLeaseFile { .. } => files::lease(ctx, task),
        Effect::Survey { survey, .. } => Ok(Report::Surveyed(Box::new(branch::survey(ctx, task, survey)?))),
        Effect::ReadHead { branch, remote, .. } => branch::read_head(ctx, task, branch, remote),
        Effect::OpenPull { pull, .. } => Ok(Report::Pull(pull::open(ctx, task, pull)?)),
        Effect::MakeUpdate { update, .. } => branch::make_update(ctx, task, update),
        Effect::PushUpdate { update, new, .. } => branch::push_update(ctx, task, update, new),
    }
}
