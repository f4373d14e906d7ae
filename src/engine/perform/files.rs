//! Effects on files of the state directory.

use crate::engine::{Ctx, lease};
use crate::model::effect::Report;
use crate::model::task::Task;
use anyhow::Result;

/// Makes the merge lease's file match its row.
pub fn lease(ctx: &mut Ctx, task: &Task) -> Result<Report> {
    let held = ctx.store.read(|tx| tx.lease(&task.repo))?;
    lease::mirror_file(ctx, held.as_ref(), &task.repo)?;
    Ok(Report::Done)
}
