//! The verdict inputs of a head (BND-5).

use super::Now;
use crate::model::effect::Effect;
use crate::model::evidence::{EvidenceDetail, EvidenceVerdict, NewEvidence};
use crate::model::gate::Subject;
use crate::model::ids::Sha;
use crate::model::inputs::{Input, MOST, first};
use crate::model::plan::{Entry, Plan, Then};

/// Lists them for the task's head.
pub fn begin(now: &Now<'_>) -> Plan {
    let task = now.task();
    match (task.base_sha.clone(), task.head_sha.clone(), task.head_tree.clone()) {
        (Some(base), Some(head), Some(tree)) => Plan::perform(Effect::ListInputs { base, head, tree }),
        _ => Plan { entries: Vec::new(), then: Then::Fail { why: format!("{} has no pushed head", task.key) } },
    }
}

/// Records them in a row. Nothing where the task moved meanwhile.
pub fn listed(now: &Now<'_>, base: &Sha, head: &Sha, tree: &str, found: &[Input]) -> Plan {
    if now.moved {
        return Plan::nothing();
    }
    let why = match found.len() {
        0 => "nothing that decides what CI means was changed".to_owned(),
        n => format!("{n} files that decide what CI means were changed"),
    };
    let row = NewEvidence {
        subject: Subject::Inputs,
        run_id: None,
        sha: head.clone(),
        code_tree: tree.to_owned(),
        verdict: EvidenceVerdict::Pass,
        why,
        detail: EvidenceDetail::Inputs { base: base.clone(), inputs: first(found, MOST) },
    };
    Plan::record(vec![Entry::Evidence { row, status: false }, Entry::Card])
}
