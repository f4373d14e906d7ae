//! Comments of people on the work item, for a prompt (GH-2). A board that does not answer delays no run: the next prompt
//! has what this one lacks.

use super::{Ctx, boards, services};
use crate::adapters::board::Doer;
use crate::config::Project;
use crate::decide::comments::{self, Read};
use crate::model::comment::Shown;
use crate::model::sides::CommentsFrom;
use crate::model::task::{Run, Task};
use anyhow::Result;
use std::collections::BTreeSet;

/// The comments for a run's prompt; `None`: nobody's are read, or the board did not answer.
pub fn fresh(ctx: &mut Ctx, project: &Project, task: &Task, run: &Run) -> Option<Read> {
    if project.board.comments() == CommentsFrom::Nobody {
        return None;
    }
    match read(ctx, project, task, run) {
        Ok(read) => Some(read),
        Err(e) => {
            services::keep(ctx, project, &e);
            tracing::warn!(task = %task.key, "the prompt has no comments, the next one has them: {e:#}");
            None
        }
    }
}

fn read(ctx: &mut Ctx, project: &Project, task: &Task, run: &Run) -> Result<Read> {
    let key = format!("comments/t{}", task.id);
    let work = format!("{}/{}", run.stage, task.attempt);
    let last = ctx.store.read(|tx| tx.meta(&key))?.and_then(|text| serde_json::from_str::<Shown>(&text).ok());
    let from = comments::from(last.as_ref(), &work);
    let seat = boards::seat(ctx, project)?;
    let listed = seat.board.comments(&task.item_id, from.updated_ms)?;
    // The right is asked for at this moment, once for each person.
    let mut may = BTreeSet::new();
    for author in comments::authors(&listed, &from) {
        if seat.board.may_decide(&Doer::named(author.to_owned()))? {
            may.insert(author.to_owned());
        }
    }
    let read = comments::read(listed, from, &work, &|author| may.contains(author));
    let text = serde_json::to_string(&read.shown)?;
    ctx.store.write(|tx| tx.set_meta(&key, &text))?;
    Ok(read)
}
