//! What a procedure begins with, and what the report of each effect means for its task: with every detail, pure. The
//! caller records the plan in the transaction that read the view.

pub mod deploy;
pub mod gate;
pub mod inputs;
pub mod pull;
pub mod stop;

use super::gates::{Facts, mergeable};
use super::landing::Landing;
use crate::model::decision::Procedure;
use crate::model::effect::{BaseSettings, Depth, Effect, Purpose, Report, Survey, Surveyed};
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
        (Effect::Prepare { procedure }, Report::Ready { file_fence, settings, .. }) => {
            prepared(&now, *procedure, file_fence, settings)
        }
        (Effect::Park { why }, Report::Ready { .. }) => deploy::begin_park(&now, why),
        (Effect::WriteLeaseFile { work }, Report::Done) => gate::leased(&now, *work),
        (Effect::Survey { purpose, survey }, Report::Surveyed(found)) => surveyed(&now, purpose, survey, &found),
        (Effect::ReadHead { remote, gate, .. }, Report::Head(seen)) => gate::head(&now, remote, gate.as_ref(), seen),
        (Effect::OpenPull { pull, gate }, Report::Pull(made)) => gate::pull(&now, pull, gate.as_ref(), &made),
        (Effect::MakeUpdate { site, update }, Report::UpToDate) => gate::up_to_date(&now, site, update),
        (Effect::MakeUpdate { site, .. }, Report::Conflict { paths }) => gate::conflict(&now, site, &paths),
        (Effect::MakeUpdate { site, update }, Report::Made { new }) => gate::made(&now, site, update, new),
        (Effect::PushUpdate { key, .. }, Report::Updated(updated)) => gate::pushed(&now, key, &updated),
        (Effect::PushUpdate { key, update, .. }, Report::NotPushed { reason, moved }) => {
            gate::not_pushed(key, update, &reason, moved)
        }
        (Effect::PushUpdate { .. }, Report::Unrelated) => gate::unrelated(&view.task),
        (effect, report) => opening_or_landing(&now, effect, report),
    }
}

/// The same, of the effects of a deploy and of the verdict inputs.
fn opening_or_landing(now: &Now<'_>, effect: &Effect, report: Report) -> Plan {
    match (effect, report) {
        (Effect::LookForTip { opening }, Report::Contains(contained)) => deploy::tip_seen(now, opening, contained),
        (Effect::Inspect { opening, .. }, Report::Inspected(found)) => deploy::inspected(now, opening, &found),
        (Effect::Clear { opening, ready, .. }, Report::Done) => deploy::cleared(now, opening, ready),
        (Effect::WriteInitiated { merging, merges }, Report::Done) => deploy::written(now, merging, *merges),
        (Effect::Merge { merging, survey, .. }, Report::Merged { answer, after }) => {
            deploy::merged(now, merging, survey, answer, &after)
        }
        (Effect::RemoveInitiated { fails, .. }, Report::Done) => deploy::removed(*fails),
        (Effect::ListInputs { base, head, tree }, Report::Inputs(found)) => {
            inputs::listed(now, base, head, tree, &found)
        }
        // A dry run without a mirror.
        (Effect::ListInputs { .. }, Report::Unread) => Plan::nothing(),
        (effect, report) => stopping(now, effect, report),
    }
}

/// The same, of the effects of a stop.
fn stopping(now: &Now<'_>, effect: &Effect, report: Report) -> Plan {
    match (effect, report) {
        (Effect::EndProcesses, Report::Done) => stop::ended(),
        (Effect::ForgetEnvironments, Report::Done) => stop::forgotten(now),
        (Effect::Archive { stop, .. }, Report::Done) => stop::archived(now, stop),
        (Effect::ClosePull { key, number, stop }, Report::Closed { first }) => {
            stop::closed(now, key, *number, first, stop.as_ref())
        }
        (Effect::LookAtLeft { branch, stop }, Report::Left(left)) => {
            stop::left(now, branch.as_deref(), &left, stop.as_ref())
        }
        (Effect::LookAtBranch { branch, left, stop }, Report::BranchAt { head, default }) => {
            stop::branch(now, (branch, &default), left, stop.as_ref(), head.as_ref())
        }
        (Effect::DeleteBranch { key, branch, left, stop, .. }, Report::Deleted(done)) => {
            stop::deleted(now, (key, branch), left, stop.as_ref(), &done)
        }
        (Effect::RemoveArea { stop }, Report::Done) => stop::removed(now, stop.as_ref()),
        (Effect::ReleaseLeaseFile, Report::Done) => Plan::nothing(),
        (Effect::LookForPull { .. }, Report::PullIs(number)) => stop::late_pull(now, number),
        (effect, report) => stray(effect, &report),
    }
}

fn surveyed(now: &Now<'_>, purpose: &Purpose, survey: &Survey, found: &Surveyed) -> Plan {
    match purpose {
        Purpose::Gate(work) => gate::surveyed(now, *work, survey, found),
        Purpose::Opening => deploy::opening(now, survey, found),
        Purpose::Merge(merging) => deploy::before_merge(now, merging, survey, found),
        Purpose::Stop => stop::surveyed(now, survey, found),
        Purpose::Park { merging, why } => deploy::parked(now, merging, why, survey, found),
    }
}

/// A report that no such effect has: a fault of this program.
fn stray(effect: &Effect, report: &Report) -> Plan {
    let why = format!("{report:?} is no answer to {effect:?}; this is a fault of orch, and nothing was recorded");
    Plan { entries: Vec::new(), then: Then::Fail { why } }
}

/// The repository is ready.
fn prepared(now: &Now<'_>, procedure: Procedure, file_fence: i64, settings: Option<BaseSettings>) -> Plan {
    match procedure {
        Procedure::MergeGate => gate::begin(now, file_fence),
        Procedure::OpenPull => gate::open_pull(now),
        Procedure::VerdictInputs => inputs::begin(now),
        Procedure::OpenDeploy => deploy::begin_opening(now),
        Procedure::Land => deploy::begin_landing(now, settings),
        Procedure::CompleteStop => stop::begin(now),
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
    let meanwhile = vec![Entry::Hold { rule: Rule::Gate, why: why.to_owned() }];
    let past = Box::new(Plan::record(vec![past]));
    Plan { entries: Vec::new(), then: Then::NotYet { what: "landing".to_owned(), meanwhile, past } }
}

/// One more "not yet", after `ms` of them: what is recorded.
pub fn not_yet(policy: &Policy, ms: i64, meanwhile: Vec<Entry>, past: Plan) -> Plan {
    if ms > policy.undecided_max_ms { past } else { Plan::record(meanwhile) }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

#[cfg(test)]
#[path = "deploy_tests.rs"]
mod deploy_tests;

#[cfg(test)]
#[path = "stop_tests.rs"]
mod stop_tests;
