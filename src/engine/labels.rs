//! Labels that answer in a person's place (BRD-5). A label that could not be read is an error of the step, not an
//! outage of the board (RULE-44).

use super::{Ctx, boards, deciders, services};
use crate::adapters::board::{Board, BoardError};
use crate::config::Project;
use crate::decide::board;
use crate::model::board::{Label, LabelAnswer, fold, has_label};
use crate::model::ids::TaskId;
use crate::model::task::{Task, Waiting};
use anyhow::Result;

/// What a label releases in the person's place (BRD-5): checks the scope first, then the label. An error means
/// "unknown", and unknown never automates.
pub fn auto_release(ctx: &mut Ctx, id: TaskId) -> Option<Waiting> {
    if !ctx.config.auto_label.enabled || ctx.dry {
        return None;
    }
    let task = ctx.task(id).ok()?;
    let project = ctx.project(&task.project).ok()?.clone();
    if !ctx.config.auto_labelled(&project) || ctx.unlabelled.contains(&project.key) {
        return None;
    }
    let waiting = board::labelled(&task, task.stage.next(&project.stages))?;
    let name = ctx.policy.label(waiting).to_owned();
    match labelled(ctx, &project, &task, &name) {
        Ok(LabelAnswer::Yes) => Some(waiting),
        Ok(LabelAnswer::No) => None,
        Ok(answer @ (LabelAnswer::Ambiguous | LabelAnswer::Unknown)) => {
            tracing::warn!(task = %task.key, "label {name:?} is {answer}: it has no effect");
            None
        }
        Err(e) => {
            // It silences nothing else on the board (RULE-44); only an answer that asks everybody to wait is recorded.
            if e.chain().any(|e| matches!(e.downcast_ref::<BoardError>(), Some(BoardError::Throttled { .. }))) {
                services::keep(ctx, &project, &e);
            }
            ctx.unlabelled.insert(project.key.clone());
            let what = format!("label {name:?} of {} can't be read and has no effect: {e:#}", task.key);
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
    // In a project without the label the item need not be read.
    if !labels.iter().any(|l| fold(&l.name) == fold(name)) {
        return Ok(LabelAnswer::No);
    }
    let not_labelled = format!("labels/t{}", task.id);
    if already_noted(ctx, task, &not_labelled, name)? {
        return Ok(LabelAnswer::No);
    }
    let Some(item) = seat.board.get(seat.resolved.statuses(), &task.key)? else { return Ok(LabelAnswer::No) };
    let answer = has_label(&item.labels, Some(&labels), name);
    if answer == LabelAnswer::Yes && !deciders::of_label(project, seat.board.as_ref(), &item, &labels, name)? {
        tracing::warn!(task = %task.key, "label {name:?} does not count: nobody in board.deciders is known to have set it");
        return Ok(LabelAnswer::No);
    }
    if answer == LabelAnswer::No && project.board.is_remote() {
        let text = serde_json::to_string(&(ctx.now().stamp.wall_ms, item.updated_ms, name))?;
        ctx.store.write(|tx| tx.set_meta(&not_labelled, &text))?;
    }
    Ok(answer)
}

/// Whether an earlier check found the item without the label and the item has not changed since. Then it is not read
/// again in every step while the task waits for a person. A "yes" is never cached.
fn already_noted(ctx: &mut Ctx, task: &Task, key: &str, name: &str) -> Result<bool> {
    let (text, item) = ctx.store.read(|tx| {
        Ok::<_, crate::adapters::store::StoreError>((tx.meta(key)?, tx.item(&task.project, &task.item_id)?))
    })?;
    let known: Option<(i64, i64, String)> = text.and_then(|t| serde_json::from_str(&t).ok());
    let Some((at, updated_ms, is_checked)) = known else { return Ok(false) };
    let age = ctx.now().stamp.wall_ms - at;
    let changed = item.is_none_or(|row| row.updated_ms > updated_ms);
    Ok(is_checked == name && board::stands_unlabelled(age, label_ttl_ms(ctx), changed))
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
