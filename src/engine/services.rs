//! The only path to the services of a project: every call of board, forge and remote passes through here (services
//! §0.7, NTF-2, RULE-44). A failure is classified and recorded: a requested wait, a silent board, an outage. An answer
//! ends the outage.

use super::{Ctx, outages, projects, throttle};
use crate::adapters::board::BoardError;
use crate::adapters::forge::{Forge, ForgeError};
use crate::config::Project;
pub use crate::model::fault::Access;
use crate::model::fault::ServiceFault;
use crate::model::task::Task;
use anyhow::Result;

/// Makes one call of the project's forge. While the forge asks to wait, no call is made.
///
/// # Errors
/// The forge's own error, or it asks to wait, or it can't be opened.
pub fn forge<T>(ctx: &mut Ctx, project: &Project, call: impl FnOnce(&dyn Forge) -> Result<T, ForgeError>) -> Result<T> {
    Ok(forge_said(ctx, project, call)??)
}

/// The same, returning the forge's own error separately and unchanged, for callers that decide by it.
///
/// # Errors
/// The forge asks to wait, or can't be opened: no call was made.
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

/// Records the git remote's answer to a call and returns it unchanged.
///
/// # Errors
/// The call's own error.
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

/// Records a board's answer to a call and returns it unchanged. Only a full scan shows whether the board as a whole is
/// unavailable: one failed call says nothing about the others (RULE-44).
///
/// # Errors
/// The call's own error.
pub fn board<T>(ctx: &mut Ctx, project: &Project, answer: Result<T, impl Into<anyhow::Error>>) -> Result<T> {
    answer.map_err(|e| {
        let e = e.into();
        keep(ctx, project, &e);
        e
    })
}

/// Records what a failure says about the services of a project. If that can't be recorded, it is a separate fault and
/// no reason to end the step.
pub fn keep(ctx: &mut Ctx, project: &Project, error: &anyhow::Error) {
    if let Err(e) = throttle::noted(ctx, project, error) {
        ctx.fault(None, &format!("keeping what a service of {} answered", project.key), &e);
    }
}

/// The same for a task's project.
pub fn keep_of(ctx: &mut Ctx, task: &Task, error: &anyhow::Error) {
    if let Ok(project) = ctx.project(&task.project).cloned() {
        keep(ctx, &project, error);
    }
}

/// The class of a failed call of a board or forge, with its message; `None`: the error is not from either.
pub fn fault(e: &anyhow::Error) -> Option<(ServiceFault, String)> {
    if let Some(board) = e.downcast_ref::<BoardError>() {
        let fault = match board {
            BoardError::Throttled { retry_after_s, .. } => ServiceFault::Throttled { seconds: *retry_after_s },
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
        // A forge reports the same error for what it can't accept now and what it never accepts.
        ForgeError::Conflict(_) | ForgeError::Invalid(_) => ServiceFault::Conflict,
        ForgeError::Transient(_) => ServiceFault::Away,
    };
    Some((fault, forge.to_string()))
}
