//! The deploys of a task.

use super::Ctx;
use crate::model::ids::TaskId;
use crate::model::task::Deploy;
use anyhow::Result;

/// The newest deploy that was not withdrawn.
pub fn newest(ctx: &mut Ctx, id: TaskId) -> Result<Option<Deploy>> {
    Ok(Deploy::newest(&ctx.store.read(|tx| tx.deploys_of(id))?).cloned())
}
