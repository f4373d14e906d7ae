//! What a procedure begins with, and what the report of each effect means for its task: with every detail, pure. The
//! caller records the plan in the transaction that read the view.

pub mod gate;

use super::gates::{Facts, mergeable};
use super::landing::Landing;
use crate::model::decision::Procedure;
use crate::model::effect::{Depth, Effect, Report, Survey};
use crate::model::plan::{Entry, Plan, Then};
use crate::model::policy::{Policy, ProjectPolicy};
use crate::model::report::Rule;
use crate::model::task::{DeployState, Task};
use crate::model::view::TaskView;

/// What a report is judged against: the task as it is in the transaction that records what follows.
#[derive(Debug, Clone, Copy)]
pub struct Now<'a> {
    pub view: &'a TaskView,
    pub policy: &'a Policy,
    pub project: &'a ProjectPolicy,
    /// Another process moved the task since the effect was planned.
    pub moved: bool,
}

impl Now<'_> {
    fn task(&self) -> &Task {
        &self.view.task
    }

    /// Whether the merge lease is the task's, under this fence.
    fn leased(&self, fence: i64) -> bool {
        self.view.lease.as_ref().is_some_and(|l| l.task_id == Some(self.task().id) && l.fence == fence)
    }
}

/// The first effect of a procedure.
pub fn begin(procedure: Procedure) -> Plan {
    Plan::perform(Effect::Prepare { procedure })
}

/// What an effect's report means. `moved`: another process moved the task since the effect was planned.
pub fn report(view: &TaskView, policy: &Policy, effect: &Effect, report: Report, moved: bool) -> Plan {
    let Some(project) = policy.project(&view.task.project) else { return Plan::nothing() };
    let now = Now { view, policy, project, moved };
    match (effect, report) {
        (Effect::Prepare { procedure }, Report::Ready { file_fence, .. }) => prepared(&now, *procedure, file_fence),
        (Effect::WriteLeaseFile { work }, Report::Done) => gate::leased(&now, *work),
        (Effect::Survey { purpose, survey }, Report::Surveyed(found)) => gate::surveyed(&now, purpose, survey, &found),
        (Effect::ReadHead { remote, gate, .. }, Report::Head(seen)) => gate::head(&now, remote, gate.as_ref(), seen),
        (Effect::OpenPull { pull, gate }, Report::Pull(made)) => gate::pull(&now, pull, gate.as_ref(), &made),
        (Effect::MakeUpdate { site, update }, made) => gate::made(&now, site, update, made, effect),
        (Effect::PushUpdate { key, update, new }, pushed) => gate::pushed(&now, key, update, new, pushed, effect),
        (effect, report) => stray(effect, &report),
    }
}

/// A report that no such effect has: a fault of this program.
fn stray(effect: &Effect, report: &Report) -> Plan {
    let why = format!("{report:?} is no answer to {effect:?}; this is a fault of orch, and nothing was recorded");
    Plan { entries: Vec::new(), then: Then::Fail { why } }
}

/// The repository is ready.
fn prepared(now: &Now<'_>, procedure: Procedure, file_fence: i64) -> Plan {
    match procedure {
        Procedure::MergeGate => gate::begin(now, file_fence),
        Procedure::OpenPull => gate::open_pull(now),
        // These are still carried out whole.
        Procedure::VerdictInputs | Procedure::OpenDeploy | Procedure::Land | Procedure::CompleteStop => Plan::nothing(),
    }
}

/// What a survey of the task's branch compares; `None`: it has no branch yet. Phase B opened under the certificate;
/// otherwise the gate's answer says on which base the head was judged.
pub fn survey(view: &TaskView, policy: &Policy, depth: Depth) -> Option<Survey> {
    let task = &view.task;
    let (branch, start, head) = (task.branch.clone()?, task.base_sha.clone()?, task.head_sha.clone()?);
    let project = policy.project(&task.project);
    let certified = project.and_then(|project| mergeable::released_on(&Facts { view, policy, project }));
    let open = view.deploy.as_ref().filter(|d| d.attempt == task.attempt && d.state == DeployState::Initiated);
    let (base, head, released) = match (open, certified) {
        (Some(d), _) => (d.base.clone(), d.head.clone(), true),
        (None, Some(base)) => (base, head, true),
        (None, None) => (start, head, false),
    };
    Some(Survey { branch, base, head, released, depth })
}

/// What follows at once from what was seen: a withdrawal by somebody else holds the task, an untested landing blocks it
/// and freezes the repository, a rewritten history blocks it. Empty: the task may continue.
pub fn consequences(task: &Task, landing: &Landing) -> Vec<Entry> {
    match landing {
        Landing::Withdrawn(cause) => vec![Entry::Withdrawn(cause.clone())],
        Landing::Untested { why, .. } => vec![Entry::Block { why: why.clone(), freeze: true }],
        Landing::Rewritten { why } => {
            let key = &task.key;
            let why = format!(
                "{why}; `orch stop {key}` ends it (To Analyse then starts it on the new history), `orch retry {key}` continues once the old history is back"
            );
            vec![Entry::Block { why, freeze: false }]
        }
        Landing::Landed { .. }
        | Landing::HeadMoved
        | Landing::BaseMoved
        | Landing::Unsettled { .. }
        | Landing::NotYet => Vec::new(),
    }
}

/// The forge says merged but its branch does not show it: looked at again for as long as a gate may be undecided, then
/// a person decides.
pub fn unsettled(why: &str) -> Plan {
    let past = Entry::Block { why: format!("{why}, for longer than gates.undecided_max_s"), freeze: false };
    let then = Then::NotYet { what: "landing".to_owned(), rule: Rule::Gate, why: why.to_owned(), past: vec![past] };
    Plan { entries: Vec::new(), then }
}

/// One more "not yet", after `ms` of them: what is recorded.
pub fn not_yet(policy: &Policy, ms: i64, rule: Rule, why: String, past: Vec<Entry>) -> Vec<Entry> {
    if ms > policy.undecided_max_ms { past } else { vec![Entry::Hold { rule, why }] }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
