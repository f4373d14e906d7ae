//! For how long a source has answered "not yet" (RULE-8).

use super::{Ctx, record};
use crate::decide::undecided::{self, Undecided};
use crate::model::task::Task;
use anyhow::Result;
use serde_json::json;

/// How long (ms) a source has kept answering "not yet" about one thing; `answered`: whether it did so just now.
/// `longest`: a longer gap between two answers does not count.
pub fn undecided_for(ctx: &mut Ctx, task: &Task, what: &str, answered: bool, longest: Option<i64>) -> Result<i64> {
    let key = format!("t{}/e{}/undecided/{what}", task.id, task.epoch);
    let now = ctx.now().stamp;
    let me = ctx.me.clone();
    let row = ctx.store.read(|tx| tx.journal_row(&key))?;
    let before: Option<Undecided> = row.and_then(|r| r.outcome).and_then(|o| serde_json::from_value(o).ok());
    let next = undecided::asked(before.as_ref(), answered, &now, longest);
    ctx.store.write(|tx| {
        record::intend(tx, &key, Some(task.id), "undecided", &json!({"what": what}), &me, now.wall_ms)?;
        record::outcome(tx, &key, &json!(next), now.wall_ms)
    })?;
    Ok(next.ms)
}
