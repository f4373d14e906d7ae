//! A merge queue lands its own commit (GH-1): what to do with a pull request that goes through one. Pure.

use crate::model::effect::Merging;
use crate::model::event::Event;
use crate::model::evidence::{EvidenceDetail, EvidenceVerdict, NewEvidence};
use crate::model::finding::{Finding, Origin};
use crate::model::gate::Gate;
use crate::model::plan::Entry;
use crate::model::rules::Queue;
use crate::model::task::Task;
use serde_json::json;

/// What follows from one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It enters: nobody else is in the queue, and what would land is what was tested.
    Enter,
    /// It is in the queue.
    Wait { said: String },
    /// Others are in the queue: what would land then was never tested.
    Busy { said: String },
    /// It leaves the queue, and the merge gate judges again.
    BackToGate { why: String },
    /// The queue's checks failed: as a red CI.
    ThrownOut { why: String },
    /// The forge has not caught up with itself.
    NotYet { why: String },
}

/// `entered`: it was in the queue at an earlier look of this deploy. `tested`: the tree that was tested. `contains`: the
/// head contains the base.
pub fn step(queue: &Queue, entered: bool, tested: &str, contains: bool) -> Step {
    if queue.merged {
        return Step::NotYet { why: "it says merged, and the default branch does not show it".to_owned() };
    }
    if let Some(entry) = &queue.entry {
        return match &entry.tree {
            Some(tree) if tree != tested => {
                let why = format!("the merge queue would land the tree {tree}, and {tested} was tested");
                Step::BackToGate { why }
            }
            Some(_) | None => Step::Wait { said: format!("it is in the merge queue ({})", entry.state.to_lowercase()) },
        };
    }
    if entered {
        return Step::ThrownOut {
            why: "the merge queue took it out: a check failed there, or did not answer".to_owned(),
        };
    }
    if !contains {
        return Step::BackToGate { why: "the branch does not contain the default branch's newest commit".to_owned() };
    }
    match queue.others {
        0 => Step::Enter,
        1 => Step::Busy { said: "the merge queue has another entry".to_owned() },
        n => Step::Busy { said: format!("the merge queue has {n} other entries") },
    }
}

/// What is recorded of a deploy that the queue threw out: the merge gate's answer, as for a red CI. `status`: gates post
/// commit statuses.
pub fn thrown_out(task: &Task, merging: &Merging, why: &str, status: bool) -> Vec<Entry> {
    let text = format!("{why}. The pull request's page shows which check it was.");
    let findings = vec![Finding { source: Origin::Ci, text }];
    let row = NewEvidence {
        subject: Gate::BranchMergeable.into(),
        run_id: None,
        sha: merging.head.clone(),
        code_tree: task.head_tree.clone().unwrap_or_default(),
        verdict: EvidenceVerdict::Fail,
        why: why.to_owned(),
        detail: EvidenceDetail::Mergeable { fence: merging.fence, base: merging.base.clone(), findings },
    };
    let detail =
        json!({"gate": Gate::BranchMergeable, "verdict": EvidenceVerdict::Fail, "why": why, "head": merging.head});
    vec![Entry::Evidence { row, status }, Entry::Event { name: Event::Gate, detail }, Entry::Touch]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rules::QueueEntry;

    #[test]
    fn gh_1_a_pull_request_enters_an_empty_queue_alone_and_lands_only_as_tested() {
        let entry = |tree: Option<&str>| {
            Some(QueueEntry { state: "AWAITING_CHECKS".to_owned(), tree: tree.map(str::to_owned) })
        };
        let word = |step: Step| format!("{step:?}").split([' ', '{']).next().unwrap_or_default().to_owned();
        for (merged, entry, others, entered, contains, want) in [
            (false, None, 0, false, true, "Enter"),
            (false, None, 1, false, true, "Busy"),
            (false, None, 7, false, true, "Busy"),
            (false, None, 0, false, false, "BackToGate"),
            (false, None, 3, false, false, "BackToGate"),
            // Its commit is not made yet, or has the tested tree; who is behind it does not matter.
            (false, entry(None), 0, true, true, "Wait"),
            (false, entry(Some("t")), 0, true, true, "Wait"),
            (false, entry(Some("t")), 4, true, true, "Wait"),
            // Put in by a person, or by a call whose answer was lost.
            (false, entry(None), 0, false, true, "Wait"),
            (false, entry(Some("other")), 0, true, true, "BackToGate"),
            (false, entry(Some("other")), 2, false, true, "BackToGate"),
            (false, None, 0, true, true, "ThrownOut"),
            (false, None, 5, true, true, "ThrownOut"),
            (true, None, 0, true, true, "NotYet"),
            (true, entry(Some("other")), 0, true, true, "NotYet"),
        ] {
            let queue = Queue { merged, entry: entry.clone(), others };
            assert_eq!(word(step(&queue, entered, "t", contains)), want, "{queue:?} {entered} {contains}");
        }
    }
}
