//! The change of a task's row that a decision makes, with every detail: whoever records it chooses nothing.

use crate::model::change::{Back, Change, Move};
use crate::model::decision::Decision;
use crate::model::policy::Policy;
use crate::model::view::TaskView;

/// The one change of this decision; `None`: a job, an effect or a wait, none of which changes the row.
pub fn of(view: &TaskView, decision: &Decision) -> Option<Change> {
    let at = view.now.wall_ms;
    match decision {
        Decision::Hold { .. } | Decision::Enqueue(_) | Decision::Procedure(_) => None,
        Decision::Park { waiting, .. } => Some(Change::Ask { waiting: *waiting, at }),
        Decision::Release { waiting, .. } => Some(Change::Grant { waiting: *waiting }),
        Decision::Advance { to, .. } => Some(Change::Move(Move::Advance { to: *to })),
        Decision::Rollback { findings, squash, same, budget, .. } => Some(Change::Move(Move::Rollback(Back {
            findings: findings.clone(),
            same: *same,
            one_commit: *squash,
            budget: *budget,
            landed: has_landed(view),
        }))),
        Decision::Return { to, .. } => Some(Change::Move(Move::Return { to: *to })),
        Decision::Block { why, held, .. } => Some(Change::Block { why: why.clone(), held: held.clone() }),
        Decision::Finish { watch, .. } => Some(Change::Move(Move::Finish { watch: *watch, at })),
    }
}

/// Which branch is no longer needed once a decision was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftBranch {
    /// The one that the task had before: a rework of what landed uses another (RULE-28).
    OfBefore,
    /// The one that it has now: the task has ended.
    OfAfter,
}

/// What a decision leaves for later steps once it was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaves {
    /// A branch that may be deleted (`merge.delete_branch`).
    pub branch: Option<LeftBranch>,
    /// Documents of `orch`'s own that belong on the default branch (`deploy.artefacts_after_merge`).
    pub artefacts: bool,
}

/// What this decision leaves.
pub fn leaves(view: &TaskView, decision: &Decision, policy: &Policy) -> Leaves {
    let project = policy.project(&view.task.project);
    let finishes = matches!(decision, Decision::Finish { .. });
    let reworks = matches!(decision, Decision::Rollback { .. }) && view.task.landed_sha.is_some();
    let branch = match (finishes, reworks) {
        (true, _) => Some(LeftBranch::OfAfter),
        (false, true) => Some(LeftBranch::OfBefore),
        (false, false) => None,
    };
    Leaves {
        branch: branch.filter(|_| project.is_some_and(|p| p.deletes_branch)),
        artefacts: finishes && project.is_some_and(|p| p.artefacts_on_branch),
    }
}

/// Whether the present attempt's commit is in the default branch (RULE-28).
pub fn has_landed(view: &TaskView) -> bool {
    view.deploy.as_ref().is_some_and(|d| d.attempt == view.task.attempt && d.landed_sha.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::gates::testing::{sha, view};
    use crate::model::change::Budget;
    use crate::model::finding::Finding;
    use crate::model::finding::Origin;
    use crate::model::stage::Stage;
    use crate::model::task::{Rework, Task, Waiting};
    use crate::model::watch::{Watch, WatchStatus};
    use crate::model::window::Window;

    fn after(task: &Task, change: Change) -> Task {
        let mut t = task.clone();
        t.apply(change).unwrap();
        t
    }

    #[test]
    fn pipe_3_a_rollback_begins_the_next_attempt_with_its_findings_and_nothing_of_the_old_stay() {
        let mut v = view(Stage::Review);
        v.task.waiting_for = Some(Waiting::Approval);
        v.task.critical = Some(Window::Update);
        let findings = vec![Finding { source: Origin::Review, text: "no".into() }];
        let mut roll = Decision::Rollback {
            why: "no".into(),
            findings: findings.clone(),
            squash: true,
            same: 1,
            budget: Budget::Counts,
        };
        let t = after(&v.task, of(&v, &roll).unwrap());
        assert_eq!((t.stage, t.attempt, t.attempt_base, t.epoch), (Stage::Development, 2, 1, v.task.epoch + 1));
        assert_eq!((t.waiting_for, &t.critical, t.rework), (None, &None, Some(Rework::OneCommit)));
        assert_eq!((t.findings, t.findings_same, t.branch), (findings, 1, v.task.branch.clone()));
        if let Decision::Rollback { budget, .. } = &mut roll {
            *budget = Budget::Fresh;
        }
        assert_eq!(after(&v.task, of(&v, &roll).unwrap()).attempt_base, 2);
    }

    #[test]
    fn rule_28_the_rework_of_what_landed_has_a_new_branch() {
        let v = view(Stage::Deploy);
        let back = |landed| Back { findings: vec![], same: 0, one_commit: false, budget: Budget::Counts, landed };
        let t = after(&v.task, Change::Move(Move::Rollback(back(true))));
        assert!(t.branch.as_ref().is_some_and(|b| b.starts_with("feature/") && b.ends_with("-rework-2")), "{t:?}");
        assert_eq!((t.base_sha, t.head_sha, t.head_tree, t.pr), (None, None, None, None));
        assert_eq!(after(&v.task, Change::Move(Move::Rollback(back(false)))).branch, v.task.branch);
    }

    /// A change that the table or the row does not allow leaves the row as it was and says why.
    #[test]
    fn what_is_not_allowed_changes_nothing() {
        let stopped = |stage| Task { stop_requested_at: Some(1), ..view(stage).task };
        let open = |stage| Task { critical: Some(Window::Deploy { id: "1-1-7".into() }), ..view(stage).task };
        let cases = [
            (view(Stage::Created).task, Change::Move(Move::Advance { to: Stage::Review }), "is not an edge"),
            (view(Stage::Created).task, Change::Move(Move::Finish { watch: false, at: 1 }), "is not an edge"),
            (view(Stage::Review).task, Change::Move(Move::Advance { to: Stage::Analysis }), "is not an edge"),
            (view(Stage::Review).task, Change::Move(Move::GiveBack), "is not an edge"),
            (view(Stage::Done).task, Change::Move(Move::Repeat), "is not an edge"),
            (view(Stage::Done).task, Change::Move(Move::Cancel { at: 1 }), "is not an edge"),
            (view(Stage::Cancelled).task, Change::Move(Move::Return { to: Stage::Review }), "is not an edge"),
            (view(Stage::Done).task, Change::Block { why: "x".into(), held: None }, "has ended"),
            (view(Stage::Done).task, Change::Ask { waiting: Waiting::Approval, at: 1 }, "has ended"),
            (view(Stage::Done).task, Change::EndWatch(WatchStatus::Healthy), "nothing is being watched"),
            (view(Stage::Review).task, Change::Asked { at: 1 }, "nothing is waited for"),
            (stopped(Stage::Deploy), Change::OpenWindow(Window::Update), "RULE-16"),
            (open(Stage::Deploy), Change::OpenWindow(Window::Update), "window of deploy 1-1-7"),
        ];
        for (task, change, why) in cases {
            let mut t = task.clone();
            let illegal = t.apply(change.clone()).unwrap_err();
            assert!(illegal.to_string().contains(why), "{illegal}");
            assert_eq!(t, task, "{change:?}");
        }
    }

    #[test]
    fn the_first_stamp_of_a_stop_wins_and_an_end_closes_everything() {
        let mut t = view(Stage::Deploy).task;
        t.apply(Change::OpenWindow(Window::Update)).unwrap();
        for (at, reason) in [(5, "first"), (9, "second")] {
            t.apply(Change::RequestStop { reason: Some(reason.into()), at }).unwrap();
        }
        assert_eq!((t.stop_requested_at, t.stop_reason.as_deref()), (Some(5), Some("first")));
        let cancelled = after(&t, Change::Move(Move::Cancel { at: 20 }));
        assert_eq!(
            (cancelled.critical, cancelled.stopped_stage, cancelled.finished_at),
            (None, Some(Stage::Deploy), Some(20))
        );
        let mut done = after(&view(Stage::Deploy).task, Change::Move(Move::Finish { watch: true, at: 20 }));
        assert!(done.is_watched() && !done.in_serial);
        done.apply(Change::EndWatch(WatchStatus::Degraded)).unwrap();
        assert_eq!(done.watch, Some(Watch::Degraded));
    }

    #[test]
    fn a_start_that_is_given_back_leaves_no_trace_but_the_stay() {
        let created = view(Stage::Created).task;
        let started = after(&created, Change::Move(Move::Start { to: Stage::Development, serial: true, at: 7 }));
        assert_eq!((started.started_at, started.in_serial), (Some(7), true));
        let back = after(&started, Change::Move(Move::GiveBack));
        assert_eq!(Task { epoch: created.epoch, ..back }, created);
        assert_eq!(after(&created, Change::Head { sha: sha('c'), tree: "U".into() }).head_tree.as_deref(), Some("U"));
    }

    #[test]
    fn rule_28_what_a_decision_leaves_behind_is_a_later_steps_to_tidy() {
        let mut policy = crate::decide::gates::testing::policy();
        let mut v = view(Stage::Deploy);
        let done = Decision::Finish { why: "x".into(), watch: false };
        let back =
            Decision::Rollback { why: "no".into(), findings: vec![], squash: false, same: 0, budget: Budget::Counts };
        let of = |v: &TaskView, d: &Decision, p: &Policy| leaves(v, d, p);
        assert_eq!(of(&v, &done, &policy), Leaves { branch: Some(LeftBranch::OfAfter), artefacts: false });
        assert_eq!(of(&v, &back, &policy).branch, None, "its branch goes on");
        v.task.landed_sha = Some(sha('c'));
        assert_eq!(of(&v, &back, &policy).branch, Some(LeftBranch::OfBefore));
        let project = policy.projects.get_mut("ORCH").unwrap();
        (project.deletes_branch, project.artefacts_on_branch) = (false, true);
        assert_eq!(of(&v, &done, &policy), Leaves { branch: None, artefacts: true });
        assert_eq!(of(&v, &back, &policy), Leaves { branch: None, artefacts: false });
    }
}
