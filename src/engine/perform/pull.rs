//! Effects on pull requests.

use crate::adapters::forge::PullState;
use crate::engine::default_branch;
use crate::engine::{Ctx, projects, services};
use crate::model::effect::{NewPull, Report};
use crate::model::task::{PullRef, Task};
use anyhow::Result;

/// Opens a pull request, or finds the branch's open one. A forge without pull requests gives it the task's number.
pub fn open(ctx: &mut Ctx, task: &Task, new: &NewPull) -> Result<PullRef> {
    let project = ctx.project(&task.project)?.clone();
    let into = if new.into.is_empty() {
        let mirror = projects::mirror(ctx, &project)?;
        default_branch::default_branch(ctx, &project, &mirror)?
    } else {
        new.into.clone()
    };
    let link = projects::item_url(ctx, task)?.map_or_else(String::new, |url| format!(" ({url})"));
    let body = format!("{}{link}.\n\n{}", new.about, new.marker);
    let pull = services::forge(ctx, &project, |forge| forge.open_pull(&new.branch, &into, &new.title, &body))?;
    let number = if pull.number == 0 { task.id.0 } else { pull.number };
    Ok(PullRef { number, url: pull.url })
}

/// Closes a pull request, unless the journal has it closed.
pub fn close(ctx: &mut Ctx, task: &Task, key: &str, number: i64) -> Result<Report> {
    if ctx.store.read(|tx| tx.journal_row(key))?.is_some_and(|r| r.outcome.is_some()) {
        return Ok(Report::Closed { first: false });
    }
    let project = ctx.project(&task.project)?.clone();
    services::forge(ctx, &project, |forge| forge.close_pull(number))?;
    Ok(Report::Closed { first: true })
}

/// The number of the branch's open pull request.
pub fn find(ctx: &mut Ctx, task: &Task, branch: &str) -> Result<Report> {
    let project = ctx.project(&task.project)?.clone();
    let mirror = projects::mirror(ctx, &project)?;
    let default = default_branch::default_branch(ctx, &project, &mirror)?;
    let found = services::forge(ctx, &project, |forge| forge.find_pull(branch, &default))?;
    Ok(Report::PullIs(found.filter(|p| p.state == PullState::Open).map(|p| p.number)))
}
