//! A recorded stop (RUN-9, RULE-16 to RULE-18): jobs and processes end first, then what is outside is put away, then the
//! task is cancelled. Each part is repeatable, and a part that fails is tried again by the next step.

use super::Now;
use crate::decide::landing::{Landing, judge};
use crate::decide::stop::{self as decide, Stopped};
use crate::model::card::AlertKind;
use crate::model::change::{Change, Move};
use crate::model::effect::{Deleted, Depth, Effect, Left, Purpose, Stopping, Survey, Surveyed};
use crate::model::event::Event;
use crate::model::ids::Sha;
use crate::model::landing::Seen;
use crate::model::plan::{Entry, Message, Plan};
use crate::model::report::ActionKind;
use crate::model::task::Task;
use crate::model::withdrawal::Withdrawal;
use serde_json::json;

/// From the first entry on, no late supervisor can settle, push or claim anything for the task.
pub fn begin(now: &Now<'_>) -> Plan {
    if !decide::may_complete(now.task(), now.view.deploy.as_slice()) {
        return Plan::nothing();
    }
    Plan::perform(Effect::EndProcesses).after(vec![Entry::CancelJobs { why: "stopped".to_owned() }])
}

/// No process of the task is left.
pub fn ended() -> Plan {
    Plan::perform(Effect::ForgetEnvironments).after(vec![Entry::CancelRuns { why: "stopped".to_owned() }])
}

/// Whether something of the task is in the default branch is looked up before anything is put away.
pub fn forgotten(now: &Now<'_>) -> Plan {
    match super::survey(now.view, now.policy, Depth::Remote) {
        Some(survey) => Plan::perform(Effect::Survey { purpose: Purpose::Stop, survey }),
        None => archive(now.task(), Stopping { in_default: None }),
    }
}

/// What the survey found.
pub fn surveyed(now: &Now<'_>, survey: &Survey, found: &Surveyed) -> Plan {
    archive(now.task(), Stopping { in_default: in_default(survey, found) })
}

/// The commit of the default branch that contains work of the task, whoever merged it (RULE-28).
fn in_default(survey: &Survey, found: &Surveyed) -> Option<Sha> {
    let Surveyed { line, pull, branch, .. } = found.clone();
    match judge(&Seen { line, pull, branch, released: survey.released }) {
        Landing::Landed { commit } => Some(commit),
        Landing::Untested { commit, .. } | Landing::Withdrawn(Withdrawal::Merged { commit, .. }) => {
            Some(commit.unwrap_or_else(|| found.tip.clone()))
        }
        Landing::Withdrawn(_)
        | Landing::Rewritten { .. }
        | Landing::HeadMoved
        | Landing::BaseMoved
        | Landing::Unsettled { .. }
        | Landing::NotYet => None,
    }
}

fn archive(task: &Task, stop: Stopping) -> Plan {
    let at = task.stop_requested_at.unwrap_or(0);
    match task.head_sha.clone() {
        Some(head) => Plan::perform(Effect::Archive { at, head, stop }),
        None => close_pull(task, stop),
    }
}

/// The branch's documents are archived.
pub fn archived(now: &Now<'_>, stop: &Stopping) -> Plan {
    close_pull(now.task(), stop.clone())
}

fn close_pull(task: &Task, stop: Stopping) -> Plan {
    match &task.pr {
        Some(pr) => close(task, pr.number, Some(stop)),
        None => Plan::perform(Effect::LookAtLeft { branch: task.branch.clone(), stop: Some(stop) }),
    }
}

/// Closes a pull request. `stop`: the stop continues.
fn close(task: &Task, number: i64, stop: Option<Stopping>) -> Plan {
    let key = format!("t{}/close-pr/{number}", task.id);
    let intend = Entry::Intend { key: key.clone(), kind: "pr_closed", intent: json!({"number": number}) };
    Plan::perform(Effect::ClosePull { key, number, stop }).after(vec![intend])
}

/// It is closed. `first`: by this effect.
pub fn closed(now: &Now<'_>, key: &str, number: i64, first: bool, stop: Option<&Stopping>) -> Plan {
    let entries = if first {
        let did = Entry::Did { kind: ActionKind::PrClosed, detail: json!({"number": number}) };
        vec![Entry::Outcome { key: key.to_owned(), outcome: json!({"closed": true}) }, did]
    } else {
        Vec::new()
    };
    match stop {
        Some(stop) => {
            let (branch, stop) = (now.task().branch.clone(), Some(stop.clone()));
            Plan::perform(Effect::LookAtLeft { branch, stop }).after(entries)
        }
        None => Plan::record(entries),
    }
}

/// What is there to be put away.
pub fn left(now: &Now<'_>, branch: Option<&str>, left: &Left, stop: Option<&Stopping>) -> Plan {
    match branch.filter(|_| left.ours) {
        Some(branch) => {
            let (branch, left, stop) = (branch.to_owned(), left.clone(), stop.cloned());
            Plan::perform(Effect::LookAtBranch { branch, left, stop })
        }
        None => area(now, left, stop),
    }
}

/// Where the branch is on the remote. Only our own branch is deleted, only at a commit we know (RULE-11).
pub fn branch(
    now: &Now<'_>,
    (branch, default): (&str, &str),
    left: &Left,
    stop: Option<&Stopping>,
    there: Option<&Sha>,
) -> Plan {
    let Some(there) = there else { return area(now, left, stop) };
    let at = decide::deletable(now.task(), there, &left.pushed).cloned();
    let key = format!("t{}/delete-branch/{branch}", now.task().id);
    let intend =
        Entry::Intend { key: key.clone(), kind: "branch_deleted", intent: json!({"branch": branch, "at": at}) };
    match at {
        Some(at) => {
            let (branch, default, left, stop) = (branch.to_owned(), default.to_owned(), left.clone(), stop.cloned());
            Plan::perform(Effect::DeleteBranch { key, branch, at, default, left, stop }).after(vec![intend])
        }
        None => {
            let why = format!("it is at {}, a commit that is not orch's", there.short());
            let mut entries = vec![intend];
            entries.extend(kept(&key, branch, &why));
            area(now, left, stop).after(entries)
        }
    }
}

fn kept(key: &str, branch: &str, why: &str) -> Vec<Entry> {
    let said = json!({"deleted": false, "why": why});
    let text = format!("Branch {branch} is kept: {why}");
    vec![
        Entry::Outcome { key: key.to_owned(), outcome: said.clone() },
        Entry::Message(Message::Comment { cause: "branch-kept".to_owned(), text }),
        Entry::Event { name: Event::BranchDeleted, detail: said },
    ]
}

/// The branch is deleted, or the remote keeps it.
pub fn deleted(
    now: &Now<'_>,
    (key, branch): (&str, &str),
    left: &Left,
    stop: Option<&Stopping>,
    done: &Deleted,
) -> Plan {
    let said = json!({"deleted": true});
    let gone = || {
        let (key, outcome, detail) = (key.to_owned(), said.clone(), said.clone());
        vec![Entry::Outcome { key, outcome }, Entry::Event { name: Event::BranchDeleted, detail }]
    };
    let entries = match done {
        Deleted::Now => {
            let did = Entry::Did { kind: ActionKind::BranchDeleted, detail: json!({"branch": branch}) };
            gone().into_iter().chain([did]).collect()
        }
        Deleted::Before => gone(),
        Deleted::Kept { why } => kept(key, branch, why),
    };
    area(now, left, stop).after(entries)
}

fn area(now: &Now<'_>, left: &Left, stop: Option<&Stopping>) -> Plan {
    match stop {
        Some(stop) if left.area => Plan::perform(Effect::RemoveArea { stop: Some(stop.clone()) }),
        Some(stop) => cancel(now, stop),
        None => Plan::nothing(),
    }
}

/// The checkouts are removed.
pub fn removed(now: &Now<'_>, stop: Option<&Stopping>) -> Plan {
    let did = vec![Entry::Did { kind: ActionKind::WorktreeRemoved, detail: json!({}) }];
    stop.map_or_else(|| Plan::record(Vec::new()), |stop| cancel(now, stop)).after(did)
}

/// `cancelled` and the tombstone in one transaction (RULE-17).
fn cancel(now: &Now<'_>, stop: &Stopping) -> Plan {
    let task = now.task();
    if task.stage.is_terminal() {
        return Plan::nothing();
    }
    let at = now.view.now.wall_ms;
    let Stopped { landed, freeze, detail } = decide::stopped(now.view, stop.in_default.as_ref());
    let audited = json!({"stage": task.stage, "reason": task.stop_reason, "landed": landed});
    let mut entries = vec![
        Entry::FreeLease,
        Entry::Change(Change::Move(Move::Cancel { at })),
        Entry::Tombstone,
        Entry::Event { name: Event::TaskCancelled, detail: audited },
    ];
    entries.extend(freeze.map(|why| Entry::Freeze { why }));
    let (kind, text) = (AlertKind::Cancelled, format!("Cancelled: {detail}"));
    entries.extend([
        Entry::Show,
        Entry::Message(Message::Alert { kind, number: 1, detail }),
        Entry::Message(Message::Comment { cause: "cancelled".to_owned(), text }),
        // A push may land after its client was killed: looked at again later.
        Entry::Intend { key: format!("t{}/relook", task.id), kind: "relook", intent: json!({"branch": task.branch}) },
        Entry::Did { kind: ActionKind::TaskCancelled, detail: json!({"stage": task.stage}) },
    ]);
    Plan::perform(Effect::ReleaseLeaseFile).after(entries)
}

/// A pull request that was opened although its client was killed, so that nothing recorded it (RULE-17).
pub fn late_pull(now: &Now<'_>, number: Option<i64>) -> Plan {
    number.map_or_else(Plan::nothing, |number| close(now.task(), number, None))
}
