//! Labels that answer in a person's place (BRD-5). A label that could not be asked for is an error of the step and no silence
//! of the board (RULE-44).

use super::{Ctx, boards, deciders};
use crate::adapters::board::{Board, BoardError};
use crate::config::Project;
use crate::model::board::{Label, LabelAnswer, fold, has_label};
use crate::model::ids::TaskId;
use crate::model::stage::Stage;
use crate::model::task::{Task, Waiting};
use anyhow::Result;

/// What a label releases in the person's place (BRD-5): scope first, then the label; an error is "unknown", and unknown
/// never automates.
pub fn auto_release(ctx: &mut Ctx, id: TaskId) -> Option<Waiting> {
    if !ctx.config.auto_label.enabled || ctx.dry {
        return None;
    }
    let task = ctx.task(id).ok()?;
    let project = ctx.project(&task.project).ok()?.clone();
    if !ctx.config.auto_labelled(&project) || ctx.unlabelled.contains(&project.key) {
        return None;
    }
    let next_is_deploy = task.stage.next(&project.stages) == Some(Stage::Deploy);
    let (waiting, name) = match task.stage {
        Stage::Analysis => (Waiting::Approval, ctx.config.auto_label.approve_label.clone()),
        Stage::Deploy if task.released.is_some() => return None,
        Stage::Deploy => (Waiting::ConfirmDeploy, ctx.config.auto_label.deploy_label.clone()),
        Stage::Created | Stage::Done | Stage::Cancelled => return None,
        // So that nobody is asked who need not be.
        Stage::Architecture | Stage::Development | Stage::Review | Stage::Testing | Stage::DeployStaging => {
            if !next_is_deploy {
                return None;
            }
            (Waiting::ConfirmDeploy, ctx.config.auto_label.deploy_label.clone())
        }
    };
    if task.blocked_reason.is_some() || task.withdrawn.is_some() || task.stop_requested_at.is_some() {
        return None;
    }
    match labelled(ctx, &project, &task, &name) {
        Ok(LabelAnswer::Yes) => Some(waiting),
        Ok(LabelAnswer::No) => None,
        Ok(answer @ (LabelAnswer::Ambiguous | LabelAnswer::Unknown)) => {
            tracing::warn!(task = %task.key, "label {name:?} is {answer}: it automates nothing");
            None
        }
        Err(e) => {
            // Nothing else of the board is silenced by it (RULE-44); only what asks everybody to wait is kept.
            if e.chain().any(|e| matches!(e.downcast_ref::<BoardError>(), Some(BoardError::Throttled { .. })))
                && let Err(e) = super::throttle::noted(ctx, &project, &e)
            {
                tracing::warn!("keeping a wait: {e:#}");
            }
            ctx.unlabelled.insert(project.key.clone());
            let what = format!("label {name:?} of {} is unknown, it automates nothing: {e:#}", task.key);
            ctx.report.fault(Some(task.key.as_str()), what, None);
            None
        }
    }
}

fn labelled(ctx: &mut Ctx, project: &Project, task: &Task, name: &str) -> Result<LabelAnswer> {
    let seat = boards::seat(ctx, project)?;
    let labels = known_labels(ctx, project, seat.board.as_ref())?;
    if has_label(&[], Some(&labels), name) == LabelAnswer::Ambiguous {
        return Ok(LabelAnswer::Ambiguous);
    }
    // A project without the label needs no look at the item.
    if !labels.iter().any(|l| fold(&l.name) == fold(name)) {
        return Ok(LabelAnswer::No);
    }
    let not_labelled = format!("labels/t{}", task.id);
    if stands(ctx, task, &not_labelled, name)? {
        return Ok(LabelAnswer::No);
    }
    let Some(item) = seat.board.get(seat.resolved.statuses(), &task.key)? else { return Ok(LabelAnswer::No) };
    let answer = has_label(&item.labels, Some(&labels), name);
    if answer == LabelAnswer::Yes && !deciders::of_label(project, seat.board.as_ref(), &item, &labels, name)? {
        tracing::warn!(task = %task.key, "label {name:?} does not count: nobody of board.deciders is known to have set it");
        return Ok(LabelAnswer::No);
    }
    if answer == LabelAnswer::No && project.board.is_remote() {
        let text = serde_json::to_string(&(ctx.now().stamp.wall_ms, item.updated_ms, name))?;
        ctx.store.write(|tx| tx.set_meta(&not_labelled, &text))?;
    }
    Ok(answer)
}

/// Whether an earlier look found the item without the label, and it was not seen to change since: then it is not asked
/// for again at every step while a person is waited for. A "yes" is never taken from memory.
fn stands(ctx: &mut Ctx, task: &Task, key: &str, name: &str) -> Result<bool> {
    let (text, item) = ctx.store.read(|tx| {
        Ok::<_, crate::adapters::store::StoreError>((tx.meta(key)?, tx.item(&task.project, &task.item_id)?))
    })?;
    let known: Option<(i64, i64, String)> = text.and_then(|t| serde_json::from_str(&t).ok());
    let Some((at, updated_ms, looked_for)) = known else { return Ok(false) };
    let age = ctx.now().stamp.wall_ms - at;
    Ok(looked_for == name
        && (0..label_ttl_ms(ctx)).contains(&age)
        && item.is_some_and(|row| row.updated_ms <= updated_ms))
}

fn label_ttl_ms(ctx: &Ctx) -> i64 {
    i64::try_from(ctx.config.auto_label.states_ttl_s).unwrap_or(i64::MAX).saturating_mul(1000)
}

fn known_labels(ctx: &mut Ctx, project: &Project, board: &dyn Board) -> Result<Vec<Label>> {
    if !project.board.is_remote() {
        return Ok(board.labels()?);
    }
    let name = format!("board/labels/{}", project.key);
    let now = ctx.now().stamp.wall_ms;
    let ttl = label_ttl_ms(ctx);
    let cached: Option<(i64, Vec<Label>)> =
        ctx.store.read(|tx| tx.meta(&name))?.and_then(|t| serde_json::from_str(&t).ok());
    if let Some((_, labels)) = cached.filter(|(at, _)| (0..ttl).contains(&(now - at))) {
        return Ok(labels);
    }
    let labels = board.labels()?;
    let text = serde_json::to_string(&(now, &labels))?;
    ctx.store.write(|tx| tx.set_meta(&name, &text))?;
    Ok(labels)
}
