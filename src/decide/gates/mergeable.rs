//! `branch_mergeable` (SHIP-2): what lands is exactly what was tested.

use super::facts::answer_of;
use super::{Facts, ci_green};
use crate::model::decision::{Answer, Need, Procedure};
use crate::model::evidence::{EvidenceDetail, EvidenceVerdict};
use crate::model::gate::Gate;
use crate::model::ids::Sha;
use crate::model::report::Rule;
use crate::model::stage::Stage;

/// Lease, base in the head, CI green on the head, and every verdict holding for it (RULE-4), in this order.
pub fn gate(f: &Facts<'_>) -> Answer {
    let task = &f.view.task;
    if let Some(other) = &f.view.undeployed {
        return wait(Rule::LandedNotDeployed, format!("{other} is in the default branch, but not deployed yet"));
    }
    let lease = f.view.lease.as_ref();
    if let Some(other) = lease.and_then(|l| l.task_id).filter(|t| *t != task.id) {
        let holder = f.view.lease_holder.clone().unwrap_or_else(|| format!("task {other}"));
        return wait(Rule::MergeLease, format!("the merge lease of {} is held by {holder}", task.repo));
    }
    let ours = lease.filter(|l| l.task_id == Some(task.id)).map(|l| l.fence);
    let row = f.of_attempt(Gate::BranchMergeable).filter(|e| {
        ours.is_some()
            && e.detail.fence() == ours
            && task.head_sha.as_ref() == Some(&e.sha)
            && e.verdict != EvidenceVerdict::Missing
    });
    let why = match row.and_then(answer_of) {
        None => {
            return Answer::Undecided {
                why: "the branch has yet to be updated to the default branch under the merge lease".to_owned(),
                need: Need::Procedure(Procedure::MergeGate),
            };
        }
        Some(Answer::Pass { why }) => why,
        Some(
            other @ (Answer::Fail { .. } | Answer::Stale { .. } | Answer::Stuck { .. } | Answer::Undecided { .. }),
        ) => return other,
    };
    match ci_green::gate(f) {
        Answer::Pass { .. } => {}
        other @ (Answer::Fail { .. } | Answer::Stale { .. } | Answer::Stuck { .. } | Answer::Undecided { .. }) => {
            return other;
        }
    }
    match certificate(f) {
        Some((to, why)) => Answer::Stale { to, why },
        None => Answer::Pass { why },
    }
}

/// The base on which the head was judged fit to land, where the task is released: it is in `deploy`, the gate passed
/// for this head in this attempt, CI is not red on it, and its certificate holds (RULE-4, RULE-31).
pub fn released_on(f: &Facts<'_>) -> Option<Sha> {
    let task = &f.view.task;
    if task.stage != Stage::Deploy {
        return None;
    }
    let passed = f.view.evidence.iter().rev().find(|e| {
        e.subject == Gate::BranchMergeable
            && e.attempt == task.attempt
            && task.head_sha.as_ref() == Some(&e.sha)
            && e.verdict == EvidenceVerdict::Pass
    })?;
    let EvidenceDetail::Mergeable { base, .. } = &passed.detail else { return None };
    let base = base.clone();
    (certificate(f).is_none() && matches!(ci_green::gate(f), Answer::Pass { .. })).then_some(base)
}

/// The landing certificate (RULE-4): the first stage whose verdict does not hold for the head, and why.
pub fn certificate(f: &Facts<'_>) -> Option<(Stage, String)> {
    // What the head is judged against must be what was approved (BND-5).
    if let Some(why) = f.stale_approval() {
        return Some((Stage::Analysis, why));
    }
    let judged = [
        (Stage::Review, Gate::ReviewVerdict),
        (Stage::Testing, Gate::TestsVerdict),
        (Stage::DeployStaging, Gate::StagingStatus),
    ];
    for (stage, gate) in judged {
        if !f.project.stages.contains(&stage) {
            continue;
        }
        match f.of_attempt(gate) {
            None => return Some((stage, format!("{gate} was not given in attempt {}", f.view.task.attempt))),
            Some(e) if e.verdict != EvidenceVerdict::Pass => {
                return Some((stage, format!("{gate} is not positive: {}", e.why)));
            }
            Some(e) if !f.holds(e) => {
                return Some((
                    stage,
                    format!("{gate} was given for {}, but the code has changed since", e.sha.short()),
                ));
            }
            Some(_) => {}
        }
    }
    None
}

fn wait(rule: Rule, why: String) -> Answer {
    Answer::Undecided { why, need: Need::Wait { rule, until: None } }
}
