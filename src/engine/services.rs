//! The one way to the services of a project: every call of board, forge and remote goes through here (services §0.7, NTF-2,
//! RULE-44). A failure is classified and what it says is kept: a wait that was asked for, a board that is silent, an outage. An
//! answer ends the outage.

use super::{Ctx, outages, projects, throttle};
use crate::adapters::board::BoardError;
use crate::adapters::forge::{Forge, ForgeError};
use crate::config::Project;
use crate::model::fault::ServiceFault;
use crate::model::task::Task;
use anyhow::Result;

/// What a call asks of the git remote: one that can be read may take no push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Push,
}

/// One call of the project's forge. While it asks to wait, none is made.
///
/// # Errors
/// The forge's own, or that it asks to wait, or that it can't be opened.
pub fn forge<T>(ctx: &mut Ctx, project: &Project, call: impl FnOnce(&dyn Forge) -> Result<T, ForgeError>) -> Result<T> {
    Ok(forge_said(ctx, project, call)??)
}

/// The same, with the forge's own error apart: whoever decides by it has it as it is.
///
/// # Errors
/// It asks to wait, or can't be opened: no call was made.
pub fn forge_said<T>(
    ctx: &mut Ctx,
    project: &Project,
    call: impl FnOnce(&dyn Forge) -> Result<T, ForgeError>,
) -> Result<Result<T, ForgeError>> {
    let forge = projects::forge(ctx, project)?;
    let said = call(forge.as_ref());
    match &said {
        Ok(_) => outages::forge_answered(ctx, project),
        Err(e) => keep(ctx, project, &anyhow::Error::new(e.clone())),
    }
    Ok(said)
}

/// What the git remote answered to a call, which is given back as it is.
///
/// # Errors
/// The call's own.
pub fn git<T>(
    ctx: &mut Ctx,
    project: &Project,
    access: Access,
    answer: Result<T, impl Into<anyhow::Error>>,
) -> Result<T> {
    match answer {
        Ok(answer) => {
            outages::git_answered(ctx, project, access == Access::Push);
            Ok(answer)
        }
        Err(e) => {
            let e = e.into();
            keep(ctx, project, &e);
            Err(e)
        }
    }
}

/// What a project's board answered to a call, which is given back as it is. Whether the board as a whole is away, a whole look at
/// it says: one call that fails says nothing of the others (RULE-44).
///
/// # Errors
/// The call's own.
pub fn board<T>(ctx: &mut Ctx, project: &Project, answer: Result<T, impl Into<anyhow::Error>>) -> Result<T> {
    answer.map_err(|e| {
        let e = e.into();
        keep(ctx, project, &e);
        e
    })
}

/// Keeps what a failure says of the services of a project. That it can't be kept is a fault of its own, and no reason to end
/// the step.
pub fn keep(ctx: &mut Ctx, project: &Project, error: &anyhow::Error) {
    if let Err(e) = throttle::noted(ctx, project, error) {
        ctx.fault(None, &format!("keeping what a service of {} answered", project.key), &e);
    }
}

/// The same of a task's project.
pub fn keep_of(ctx: &mut Ctx, task: &Task, error: &anyhow::Error) {
    if let Ok(project) = ctx.project(&task.project).cloned() {
        keep(ctx, &project, error);
    }
}

/// What a failed call of a board or forge says, with its words; `None`: the error is none of theirs.
pub fn fault(e: &anyhow::Error) -> Option<(ServiceFault, String)> {
    if let Some(board) = e.downcast_ref::<BoardError>() {
        let fault = match board {
            BoardError::Throttled { retry_after_s, .. } => ServiceFault::Throttled { seconds: Some(*retry_after_s) },
            BoardError::UnknownOutcome(why) => return Some((ServiceFault::UnknownOutcome, why.clone())),
            BoardError::Invalid(_) => ServiceFault::Invalid,
            BoardError::NotFound(_) => ServiceFault::NotFound,
            BoardError::Auth(_) => ServiceFault::Denied,
            BoardError::Conflict(_) => ServiceFault::Conflict,
            BoardError::Transient(_) | BoardError::Silent(_) => ServiceFault::Away,
        };
        return Some((fault, board.to_string()));
    }
    let forge = e.downcast_ref::<ForgeError>()?;
    let fault = match forge {
        ForgeError::Throttled { retry_after_s, .. } => ServiceFault::Throttled { seconds: *retry_after_s },
        ForgeError::UnknownOutcome(why) => return Some((ServiceFault::UnknownOutcome, why.clone())),
        ForgeError::NotFound(_) => ServiceFault::NotFound,
        ForgeError::Refused { .. } => ServiceFault::Denied,
        // A forge calls what it can't take now and what it never takes alike.
        ForgeError::Conflict(_) | ForgeError::Invalid(_) => ServiceFault::Conflict,
        ForgeError::Transient(_) => ServiceFault::Away,
    };
    Some((fault, forge.to_string()))
}
