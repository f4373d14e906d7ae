//! The merge gate (SHIP-2): take the lease, look, bring the branch up to the default branch, record the answer for one
//! head.

use super::{Now, consequences, unsettled};
use crate::decide::landing::judge;
use crate::decide::merge::{self, AtGate};
use crate::model::branch_write::BranchWrite;
use crate::model::change::Change;
use crate::model::effect::{
    BranchUpdate, Depth, Effect, GateWork, HeadSeen, NewPull, Purpose, Site, Survey, Surveyed, Updated,
};
use crate::model::event::Event;
use crate::model::evidence::{Carry, EvidenceDetail, EvidenceVerdict, NewEvidence};
use crate::model::gate::{Gate, Subject};
use crate::model::ids::Sha;
use crate::model::landing::Seen;
use crate::model::plan::{Entry, Plan, Then};
use crate::model::refusal::Asked;
use crate::model::report::ActionKind;
use crate::model::task::{PullRef, Task};
use crate::model::text::clip;
use crate::model::view::TaskView;
use crate::model::window::Window;
use serde_json::json;

/// Takes the lease, or renews it. Nothing where another task holds it, or the task moved meanwhile.
pub fn begin(now: &Now<'_>, file_fence: i64) -> Plan {
    let task = now.task();
    let stopped = task.stop_requested_at.is_some() && task.critical.is_none();
    let holder = now.view.lease.as_ref().and_then(|l| l.task_id);
    if now.moved || stopped || holder.is_some_and(|t| t != task.id) {
        return Plan::nothing();
    }
    let last = now.view.lease.as_ref().map_or(0, |l| l.fence);
    let new = holder.is_none();
    let fence = if new { last.max(file_fence) + 1 } else { last };
    let mut entries = vec![Entry::TakeLease { file_fence, fence }];
    if new {
        let detail = json!({"repo": task.repo, "fence": fence});
        entries.push(Entry::Event { name: Event::LeaseAcquired, detail: detail.clone() });
        entries.push(Entry::Did { kind: ActionKind::LeaseAcquired, detail });
    }
    Plan::perform(Effect::WriteLeaseFile { work: GateWork { fence } }).after(entries)
}

/// The lease is taken, and its file says so.
pub fn leased(now: &Now<'_>, work: GateWork) -> Plan {
    match super::survey(now.view, now.policy, Depth::Full) {
        Some(survey) => Plan::perform(Effect::Survey { purpose: Purpose::Gate(work), survey }),
        None => Plan::nothing(),
    }
}

/// What the survey means.
pub fn surveyed(now: &Now<'_>, work: GateWork, survey: &Survey, found: &Surveyed) -> Plan {
    let Surveyed { line, pull, branch, .. } = found.clone();
    let landing = judge(&Seen { line, pull, branch, released: survey.released });
    let site = Site {
        fence: work.fence,
        default_branch: found.default_branch.clone(),
        tip: found.tip.clone(),
        updates: found.updates.clone(),
    };
    match merge::at_gate(&landing) {
        AtGate::Pass { commit } => {
            let why = format!("the tested change is in the default branch, as {}", commit.short());
            answer(now, EvidenceVerdict::Pass, &why, mergeable(site.fence, &survey.base))
        }
        AtGate::NotYet { why } => unsettled(&why),
        AtGate::BringUp => match (&found.remote_head, &now.task().head_sha) {
            (None, _) => {
                let why = format!("branch {} is gone from the remote", survey.branch);
                Plan { entries: Vec::new(), then: Then::Fail { why } }
            }
            (Some(remote), Some(head)) if remote == head => level(now.view, now, &site),
            // Another process may have pushed and recorded a head since the remote was asked: the next step asks again.
            (Some(_), _) if now.moved => Plan::nothing(),
            (Some(remote), _) => {
                let (branch, remote) = (survey.branch.clone(), remote.clone());
                Plan::perform(Effect::ReadHead { branch, remote, gate: Some(site) })
            }
        },
        // A window that nobody can close any more must not block a stop.
        AtGate::Stopped => match abandoned(now.view, &site) {
            Abandoned::Held => Plan::nothing(),
            Abandoned::Closed(entries) if now.task().stop_requested_at.is_some() && !entries.is_empty() => {
                Plan::record(entries)
            }
            Abandoned::Closed(entries) => Plan::record(consequences(now.task(), &landing)).after(entries),
        },
    }
}

/// An update whose push never reached the remote.
enum Abandoned {
    /// Another process is working on it.
    Held,
    /// Its window is closed once nobody can push any more, so that a stop does not wait for ever (RULE-16). Empty: no
    /// update's window is open.
    Closed(Vec<Entry>),
}

fn abandoned(view: &TaskView, site: &Site) -> Abandoned {
    if view.task.critical != Some(Window::Update) {
        return Abandoned::Closed(Vec::new());
    }
    if site.updates.iter().any(|u| u.held) {
        return Abandoned::Held;
    }
    let mut entries = vec![Entry::Change(Change::CloseWindow)];
    // Without a stop the same update is repeated under the same intent.
    if view.task.stop_requested_at.is_some() {
        let over = |u: &crate::model::effect::OpenUpdate| Entry::Outcome {
            key: u.key.clone(),
            outcome: json!({"done": false}),
        };
        entries.extend(site.updates.iter().map(over));
    }
    Abandoned::Closed(entries)
}

/// The recorded head is the remote's. `view`: after what has just been recorded.
fn level(view: &TaskView, now: &Now<'_>, site: &Site) -> Plan {
    let entries = match abandoned(view, site) {
        Abandoned::Held => return Plan::nothing(),
        // A stop that waited for this window continues.
        Abandoned::Closed(entries) if !entries.is_empty() && view.task.stop_requested_at.is_some() => {
            return Plan::record(entries);
        }
        Abandoned::Closed(entries) => entries,
    };
    let Some(head) = view.task.head_sha.clone() else { return headless(&view.task) };
    if now.project.remote_forge && merge::pull_is_due(&view.task, &head) {
        return pull_wanted(&view.task, &site.default_branch, Some(site)).after(entries);
    }
    make(&view.task, now, site, head).after(entries)
}

fn headless(task: &Task) -> Plan {
    Plan { entries: Vec::new(), then: Then::Fail { why: format!("{} has no pushed head", task.key) } }
}

fn make(task: &Task, now: &Now<'_>, site: &Site, head: Sha) -> Plan {
    let update = BranchUpdate {
        key: task.key.clone(),
        branch: task.branch.clone().unwrap_or_default(),
        old: head,
        tip: site.tip.clone(),
        mode: now.project.update,
        leaves_out: now.project.leaves_out,
    };
    Plan::perform(Effect::MakeUpdate { site: site.clone(), update })
}

/// Opens a pull request that the forge refused before (ORD-1).
pub fn open_pull(now: &Now<'_>) -> Plan {
    let task = now.task();
    match &task.head_sha {
        Some(head) if now.project.remote_forge && merge::pull_is_due(task, head) => pull_wanted(task, "", None),
        Some(_) | None => Plan::nothing(),
    }
}

/// `into`: the default branch; empty: as the repository says.
fn pull_wanted(task: &Task, into: &str, gate: Option<&Site>) -> Plan {
    let pull = new_pull(task, into);
    let intent = json!({"branch": pull.branch});
    let entries = vec![Entry::Intend { key: pull.key.clone(), kind: "pr_opened", intent }];
    Plan::perform(Effect::OpenPull { pull, gate: gate.cloned() }).after(entries)
}

/// A task's pull request.
pub fn new_pull(task: &Task, into: &str) -> NewPull {
    NewPull {
        key: format!("t{}/a{}/open-pr", task.id, task.attempt),
        branch: task.branch.clone().unwrap_or_default(),
        into: into.to_owned(),
        title: format!("{}: {}", task.key, clip(&task.title, 200)),
        about: format!("Work item {}", task.key),
        marker: format!("<!-- orch:t{} -->", task.id),
    }
}

/// The pull request is open.
pub fn pull(now: &Now<'_>, wanted: &NewPull, gate: Option<&Site>, made: &PullRef) -> Plan {
    let mut entries = pull_opened(wanted, made);
    let row = [Change::Pull(Some(made.clone())), Change::NotRefused(Asked::OpenPull)];
    entries.extend(row.into_iter().map(Entry::Change));
    match (gate, now.task().head_sha.clone()) {
        (Some(site), Some(head)) => make(now.task(), now, site, head).after(entries),
        (Some(_) | None, _) => Plan::record(entries),
    }
}

/// What is recorded of an opened pull request, except in the task's row.
pub fn pull_opened(wanted: &NewPull, made: &PullRef) -> Vec<Entry> {
    let detail = json!({"number": made.number, "url": made.url});
    vec![
        Entry::Outcome { key: wanted.key.clone(), outcome: detail.clone() },
        Entry::Event { name: Event::PrOpened, detail: detail.clone() },
        Entry::Did { kind: ActionKind::PrOpened, detail },
    ]
}

/// The branch is at another commit than the one recorded. A commit that is not ours is a person's and voids earlier
/// verdicts (RULE-4).
pub fn head(now: &Now<'_>, remote: &Sha, gate: Option<&Site>, seen: HeadSeen) -> Plan {
    let entries = match seen {
        HeadSeen::Unrelated => return unrelated(now.task()),
        HeadSeen::Ours { key, updated } => adopted(now, &key, &updated),
        // Another process may have recorded the same.
        HeadSeen::Other { .. } if now.moved => return Plan::nothing(),
        HeadSeen::Other { tree, pushed, stale } => {
            let by = mover(&pushed, now.task().head_sha.as_ref(), remote);
            let detail = json!({"from": now.task().head_sha, "to": remote, "by": by});
            let stale = stale.map(|row| Entry::Evidence { row, status: false });
            let head = Change::Head { sha: remote.clone(), tree: tree.to_string() };
            let rest = [
                Entry::Change(Change::CloseWindow),
                Entry::Change(head),
                Entry::Event { name: Event::HeadMoved, detail },
            ];
            stale.into_iter().chain(rest).collect()
        }
    };
    let Some(site) = gate else { return Plan::record(entries) };
    let view = recorded(now.view, &entries);
    level(&view, now, site).after(entries)
}

/// Who moved a task's branch to a commit, for its event: a step of `orch` that was killed before it could record its
/// push, or somebody else. `pushed`: in the order of the pushes. If a commit older than the known head is back, somebody
/// else pushed it.
pub fn mover(pushed: &[Sha], known: Option<&Sha>, to: &Sha) -> &'static str {
    let last = |sha| pushed.iter().rposition(|p| p == sha);
    if last(to) > known.and_then(last) { "orch" } else { "a person" }
}

/// The view after these entries, as far as the row is concerned.
fn recorded(view: &TaskView, entries: &[Entry]) -> TaskView {
    let mut after = view.clone();
    for entry in entries {
        if let Entry::Change(change) = entry {
            // Where it is not allowed, the record fails.
            let _ = after.task.apply(change.clone());
        }
    }
    after
}

/// Branch and default branch have nothing in common: somebody rewrote one of them.
pub fn unrelated(task: &Task) -> Plan {
    let branch = task.branch.as_deref().unwrap_or("its branch");
    let key = &task.key;
    let why = format!(
        "{branch} has no history in common with the default branch: one of them was rewritten; put its history back, then `orch retry {key}`, or `orch stop {key}` ends the task"
    );
    Plan { entries: Vec::new(), then: Then::Refuse { why } }
}

/// The branch has what is on the default branch: the gate passes.
pub fn up_to_date(now: &Now<'_>, site: &Site, update: &BranchUpdate) -> Plan {
    let why = format!("{} contains {} at {}", update.old.short(), site.default_branch, site.tip.short());
    answer(now, EvidenceVerdict::Pass, &why, mergeable(site.fence, &site.tip))
}

/// Both sides changed the same lines: the developer resolves them.
pub fn conflict(now: &Now<'_>, site: &Site, paths: &[String]) -> Plan {
    let (why, finding) = merge::conflict(paths, &site.tip);
    let detail = EvidenceDetail::Mergeable { fence: site.fence, base: site.tip.clone(), findings: vec![finding] };
    answer(now, EvidenceVerdict::Fail, &why, detail)
}

/// The commit for the branch is made. Opening the window and recording a stop exclude each other here (RULE-16).
pub fn made(now: &Now<'_>, site: &Site, update: &BranchUpdate, new: Sha) -> Plan {
    let task = now.task();
    if now.moved || task.stop_requested_at.is_some() || !now.leased(site.fence) {
        return Plan::nothing();
    }
    let (old, base) = (update.old.clone(), update.tip.clone());
    let key = format!("t{}/a{}/rebase/{}/{}", task.id, task.attempt, old.short(), base.short());
    let write = BranchWrite::Rebased { branch: update.branch.clone(), old, new: new.clone(), base };
    let entries = vec![
        Entry::Change(Change::OpenWindow(Window::Update)),
        Entry::Intend { key: key.clone(), kind: write.kind(), intent: write.intent() },
    ];
    Plan::perform(Effect::PushUpdate { key, update: update.clone(), new }).after(entries)
}

/// The update is on the remote.
pub fn pushed(now: &Now<'_>, key: &str, updated: &Updated) -> Plan {
    Plan::record(adopted(now, key, updated))
}

/// The update is not on the remote: its window closes. `moved`: the branch was somewhere else; otherwise the remote
/// refuses.
pub fn not_pushed(key: &str, update: &BranchUpdate, reason: &str, moved: bool) -> Plan {
    let entries = vec![
        Entry::Change(Change::CloseWindow),
        Entry::Outcome { key: key.to_owned(), outcome: json!({"done": false}) },
    ];
    let why = format!(
        "the remote refuses the updated branch {}: {reason}; let orch force-push its own branches there, or set merge.update: merge, then `orch retry {}`",
        update.branch, update.key
    );
    Plan { entries, then: if moved { Then::Done } else { Then::Refuse { why } } }
}

/// Records an update of ours that is on the remote: the new head, how it was made from the old one, the gate's answer.
/// The process that pushed it and a step that found it on the remote may both get here: only one adopts it (RULE-7).
fn adopted(now: &Now<'_>, key: &str, u: &Updated) -> Vec<Entry> {
    if now.task().head_sha.as_ref() == Some(&u.new) {
        return Vec::new();
    }
    let has = merge::Updated { same_patches: u.same_patches, has_merge: u.has_merge, new_paths: u.new_paths };
    let equal = merge::is_equal(&has);
    let tree = u.to.to_string();
    let patches = if equal { ", every patch equal" } else { ", patches changed" };
    let carry = NewEvidence {
        subject: Subject::Carry,
        run_id: None,
        sha: u.new.clone(),
        code_tree: tree.clone(),
        verdict: EvidenceVerdict::Pass,
        why: format!("updated onto {}{patches}", u.base.short()),
        detail: EvidenceDetail::Carry(Carry::Update {
            from: u.from.to_string(),
            from_sha: u.old.clone(),
            equal,
            left_out: u.left_out,
        }),
    };
    let mut entries = vec![
        Entry::Change(Change::CloseWindow),
        Entry::Change(Change::Head { sha: u.new.clone(), tree: tree.clone() }),
        Entry::Evidence { row: carry, status: false },
        Entry::Outcome { key: key.to_owned(), outcome: json!({"done": true}) },
        Entry::Event {
            name: Event::BranchRebased,
            detail: json!({"from": u.old, "to": u.new, "base": u.base, "equal_patches": equal}),
        },
    ];
    if let Some(lease) = now.view.lease.as_ref().filter(|l| l.task_id == Some(now.task().id)) {
        let why = format!("updated to {} on {}", u.new.short(), u.base.short());
        let row = gate_row(u.new.clone(), tree, EvidenceVerdict::Pass, why, mergeable(lease.fence, &u.base));
        entries.push(Entry::Evidence { row, status: now.project.posts_statuses });
    }
    if now.project.posts_statuses && equal {
        entries.push(Entry::StatusesAgain);
    }
    let detail = json!({"branch": now.task().branch, "from": u.old, "to": u.new});
    entries.extend([Entry::Touch, Entry::Did { kind: ActionKind::BranchRebased, detail }]);
    entries
}

/// The gate's answer under a fence of the lease, on a commit of the default branch.
fn mergeable(fence: i64, base: &Sha) -> EvidenceDetail {
    EvidenceDetail::Mergeable { fence, base: base.clone(), findings: Vec::new() }
}

fn gate_row(sha: Sha, code_tree: String, verdict: EvidenceVerdict, why: String, detail: EvidenceDetail) -> NewEvidence {
    NewEvidence { subject: Gate::BranchMergeable.into(), run_id: None, sha, code_tree, verdict, why, detail }
}

/// Records the gate's answer while the lease is still ours.
fn answer(now: &Now<'_>, verdict: EvidenceVerdict, why: &str, detail: EvidenceDetail) -> Plan {
    let task = now.task();
    let leased = detail.fence().is_some_and(|fence| now.leased(fence));
    if !leased || now.moved {
        return Plan::nothing();
    }
    let mut entries = Vec::new();
    if let Some(sha) = task.head_sha.clone() {
        let row = gate_row(sha, task.head_tree.clone().unwrap_or_default(), verdict, why.to_owned(), detail);
        entries.push(Entry::Evidence { row, status: now.project.posts_statuses });
    }
    let head = &task.head_sha;
    let detail = json!({"gate": Gate::BranchMergeable, "verdict": verdict, "why": why, "head": head});
    entries.extend([Entry::Event { name: Event::Gate, detail }, Entry::Touch]);
    Plan::record(entries)
}
