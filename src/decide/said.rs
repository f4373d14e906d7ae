//! What people are sent with a decision (NTF-2, BRD-4): which alert, under which number, and which comment. Pure;
//! whoever records the decision posts it in the same transaction.

use super::gates::inputs_of;
use crate::model::card::AlertKind;
use crate::model::decision::Decision;
use crate::model::inputs::line;
pub use crate::model::plan::Message;
use crate::model::task::{Task, Waiting};
use crate::model::view::TaskView;

/// The messages of a decision. `view`: the view it was made on. `task`: the row after the change.
pub fn with(view: &TaskView, decision: &Decision, task: &Task) -> Vec<Message> {
    match decision {
        Decision::Hold { .. }
        | Decision::Enqueue(_)
        | Decision::Procedure(_)
        | Decision::Advance { .. }
        | Decision::Rollback { .. }
        | Decision::Return { .. } => Vec::new(),
        Decision::Park { waiting, text: told } => {
            let kind = match waiting {
                Waiting::Approval => AlertKind::ApprovalWanted,
                Waiting::ConfirmDeploy => AlertKind::ConfirmDeployWanted,
            };
            // The alert itself names what answers it.
            let detail = before_release(view, *waiting, told);
            vec![Message::Question, Message::Alert { kind, number: task.wait_no, detail }]
        }
        Decision::Release { waiting, label } => {
            let (kind, said) = match waiting {
                Waiting::Approval => (AlertKind::AutoApproveUsed, approved_by(label)),
                Waiting::ConfirmDeploy => (AlertKind::AutoDeployUsed, deployed_by(label)),
            };
            let cause = format!("auto-{waiting}-{}", task.epoch);
            vec![
                Message::Alert { kind, number: task.epoch, detail: said.clone() },
                Message::Comment { cause, text: said },
            ]
        }
        Decision::Block { why, .. } => blocked(task, why),
        Decision::Finish { why, .. } => {
            let (why, landed) = (end_of(view, why), landed(task));
            let mut all = vec![Message::Comment { cause: "done".to_owned(), text: format!("Done: {why}.{landed}") }];
            if is_late(view) {
                let detail = format!("The stop came too late: the task is deployed.{landed}");
                all.push(Message::Alert { kind: AlertKind::StopDeferred, number: 2, detail });
            }
            all
        }
    }
}

/// The messages of a block, whoever blocks.
pub fn blocked(task: &Task, why: &str) -> Vec<Message> {
    let alert = Message::Alert { kind: AlertKind::Blocked, number: task.block_no, detail: why.to_owned() };
    let cause = format!("blocked-{}", task.block_no);
    vec![alert, Message::Comment { cause, text: format!("Blocked: {why}") }]
}

/// A stop was requested when nothing could be stopped any more.
fn is_late(view: &TaskView) -> bool {
    view.task.stop_requested_at.is_some()
}

/// Why a task is done, with what became of a stop.
pub fn end_of(view: &TaskView, why: &str) -> String {
    if is_late(view) { format!("{why}; a stop came too late") } else { why.to_owned() }
}

fn landed(task: &Task) -> String {
    task.landed_sha.as_ref().map_or_else(String::new, |s| format!(" Landed as {}.", s.short()))
}

/// What whoever releases a wait sees first (BND-5): what changes the meaning of CI, then `note`.
fn before_release(view: &TaskView, waiting: Waiting, note: &str) -> String {
    let note = if note.is_empty() { String::new() } else { format!("{note}.") };
    let tree = view.task.head_tree.as_deref().filter(|_| waiting == Waiting::ConfirmDeploy);
    let inputs = tree.and_then(|tree| inputs_of(&view.evidence, tree)).unwrap_or_default();
    if inputs.is_empty() {
        return note;
    }
    let label = if view.auto == Some(waiting) { " Because of this, the label does not count." } else { "" };
    let note = if note.is_empty() { note } else { format!(" {note}") };
    format!("Changes what CI means: {}.{label}{note}", line(&inputs, 500))
}

/// How the use of a label is reported, with its name and what follows (BRD-5).
fn approved_by(label: &str) -> String {
    format!("Label {label:?}: the analysis counts as approved without a person's answer, and the work continues.")
}

fn deployed_by(label: &str) -> String {
    format!("Label {label:?}: the deploy begins without Confirm Deploy.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::gates::testing::{sha, view};
    use crate::model::stage::Stage;

    fn kinds(all: &[Message]) -> Vec<String> {
        let one = |m: &Message| match m {
            Message::Alert { kind, number, .. } => format!("{kind} {number}"),
            Message::Comment { cause, .. } => cause.clone(),
            Message::Question => "question".to_owned(),
        };
        all.iter().map(one).collect()
    }

    #[test]
    fn ntf_2_each_decision_that_a_person_must_know_is_alerted_once_under_its_own_number() {
        let v = view(Stage::Deploy);
        let task = Task { wait_no: 4, block_no: 2, epoch: 9, ..v.task.clone() };
        let why = || "w".to_owned();
        let park = |waiting| Decision::Park { waiting, text: String::new() };
        let release = |waiting| Decision::Release { waiting, label: "l".into() };
        let cases = [
            (park(Waiting::Approval), "question, approval_wanted 4"),
            (park(Waiting::ConfirmDeploy), "question, confirm_deploy_wanted 4"),
            (release(Waiting::Approval), "auto_approve_used 9, auto-approval-9"),
            (release(Waiting::ConfirmDeploy), "auto_deploy_used 9, auto-confirm_deploy-9"),
            (Decision::Block { why: why(), held: None, freeze: true }, "blocked 2, blocked-2"),
            (Decision::Finish { why: why(), watch: true }, "done"),
            (Decision::Advance { to: Stage::Done, why: why() }, ""),
            (Decision::Return { to: Stage::Review, why: why() }, ""),
        ];
        for (decision, want) in cases {
            assert_eq!(kinds(&with(&v, &decision, &task)).join(", "), want, "{decision:?}");
        }
    }

    #[test]
    fn rule_16_a_stop_that_came_too_late_is_said() {
        let mut v = view(Stage::Deploy);
        v.task.stop_requested_at = Some(1);
        let done = Task { landed_sha: Some(sha('c')), ..v.task.clone() };
        let all = with(&v, &Decision::Finish { why: "deployed".into(), watch: false }, &done);
        assert_eq!(kinds(&all), ["done", "stop_deferred 2"]);
        let Some(Message::Comment { text, .. }) = all.first() else { panic!() };
        assert!(text.starts_with("Done: deployed; a stop came too late. Landed as ccc"), "{text}");
    }
}
