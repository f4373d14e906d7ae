//! What may happen to a task's row: every change by name, and the one place that carries it out. A change that the
//! table of edges, or the present row, does not allow has no effect.

use super::edges::{Edge, leads};
use super::finding::Finding;
use super::ids::{Key, Sha, branch_name};
use super::refusal::{Asked, RefusedEffect};
use super::stage::Stage;
use super::task::{PullRef, Rework, Task, Waiting};
use super::watch::{Watch, WatchStatus};
use super::window::Window;
use super::withdrawal::Withdrawal;

/// The attempt from which the developer's budget counts after a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    Counts,
    /// A person's retry: from the new attempt on.
    Fresh,
}

/// What is sent back to development.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Back {
    pub findings: Vec<Finding>,
    /// How often in a row these same findings have now come back.
    pub same: i64,
    /// The next round leaves one commit (RUN-4).
    pub one_commit: bool,
    pub budget: Budget,
    /// The attempt's commit is in the default branch: the rework begins on a new branch (RULE-28).
    pub landed: bool,
}

/// A move along an edge of the table. Times are wall milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// `serial`: it takes its repository's place in the serial gate.
    Start {
        to: Stage,
        serial: bool,
        at: i64,
    },
    GiveBack,
    Advance {
        to: Stage,
    },
    Rollback(Back),
    Return {
        to: Stage,
    },
    Repeat,
    /// `watch`: what it deployed is watched from now on.
    Finish {
        watch: bool,
        at: i64,
    },
    Cancel {
        at: i64,
    },
}

/// One change of a task's row. Times are wall milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Move(Move),
    /// A question to a person: a new wait begins.
    Ask {
        waiting: Waiting,
        at: i64,
    },
    /// The board is known to ask for the present wait (RULE-43).
    Asked {
        at: i64,
    },
    /// A person, or a label in their place, gives it.
    Grant {
        waiting: Waiting,
    },
    /// `held`: the findings of a rollback that the budget prevents.
    Block {
        why: String,
        held: Option<Vec<Finding>>,
    },
    Unblock,
    /// The budget counts from the present attempt on.
    FreshBudget,
    RequestStop {
        reason: Option<String>,
        at: i64,
    },
    OpenWindow(Window),
    CloseWindow,
    Landed {
        commit: Sha,
    },
    EndWatch(WatchStatus),
    /// `None`: what was withdrawn is there again.
    Withdrawal(Option<Withdrawal>),
    /// The task's own branch was created on `base`; `head` is its present head.
    Branch {
        name: String,
        base: Sha,
        head: Sha,
        tree: String,
    },
    /// The branch has another head.
    Head {
        sha: Sha,
        tree: String,
    },
    Pull(Option<PullRef>),
    /// The branch's history is one commit now.
    Reworked,
    /// Forge or remote refused an effect although the work is done (ORD-1).
    Refused(RefusedEffect),
    /// The effect was done after all: if it was the refused one, nothing is refused any more.
    NotRefused(Asked),
    /// The refused effect was tried, and nobody answered: no bound runs meanwhile.
    RefusalSilent {
        at: i64,
    },
    /// A person has the refused effect retried at once, with a new bound.
    AskAgain {
        at: i64,
    },
    /// What the board says of the work item.
    Follow(ItemText),
}

/// A work item's text and order, as far as a task follows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemText {
    pub title: String,
    pub body: String,
    /// 0 urgent … 4 none.
    pub priority: i64,
    pub blocked_by: Vec<Key>,
}

/// A change that the row does not allow: a bug of this program. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{key} in {stage} does not allow the change {change:?}: {why}. Nothing was changed; this is a fault of orch: `orch timeline {key}` shows what led to it, `orch stop {key}` ends the task"
)]
pub struct Illegal {
    pub key: Key,
    pub stage: Stage,
    pub change: Box<Change>,
    pub why: String,
}

impl Move {
    /// The edge, with the stage that it leads to from `from`.
    pub fn edge(&self, from: Stage) -> (Edge, Stage) {
        match self {
            Self::Start { to, .. } => (Edge::Start, *to),
            Self::GiveBack => (Edge::GiveBack, Stage::Created),
            Self::Advance { to } => (Edge::Advance, *to),
            Self::Rollback(_) => (Edge::Rollback, Stage::Development),
            Self::Return { to } => (Edge::Return, *to),
            Self::Repeat => (Edge::Repeat, from),
            Self::Finish { .. } => (Edge::Advance, Stage::Done),
            Self::Cancel { .. } => (Edge::Cancel, Stage::Cancelled),
        }
    }
}

impl Task {
    /// Makes one change, or none and says why it is not allowed.
    pub fn apply(&mut self, change: Change) -> Result<(), Illegal> {
        if let Some(why) = self.forbids(&change) {
            return Err(Illegal { key: self.key.clone(), stage: self.stage, change: Box::new(change), why });
        }
        self.set(change);
        Ok(())
    }

    /// Why a change is not allowed now.
    fn forbids(&self, change: &Change) -> Option<String> {
        let ended = || self.stage.is_terminal().then(|| "the task has ended".to_owned());
        match change {
            Change::Move(way) => {
                let (edge, to) = way.edge(self.stage);
                (!leads(edge, self.stage, to)).then(|| format!("{edge} from {} to {to} is not an edge", self.stage))
            }
            Change::Ask { .. } | Change::Grant { .. } | Change::Block { .. } | Change::RequestStop { .. } => ended(),
            Change::OpenWindow(_) if self.stop_requested_at.is_some() => {
                Some("a stop is recorded (RULE-16)".to_owned())
            }
            Change::OpenWindow(new) => match &self.critical {
                Some(open) if open != new => Some(format!("the window of {open} is open")),
                Some(_) | None => ended(),
            },
            Change::Asked { .. } => self.waiting_for.is_none().then(|| "nothing is waited for".to_owned()),
            Change::EndWatch(_) => (!self.is_watched()).then(|| "nothing is being watched".to_owned()),
            // What was seen or done outside is a fact, whatever became of the task meanwhile.
            Change::Landed { .. }
            | Change::Withdrawal(_)
            | Change::Branch { .. }
            | Change::Head { .. }
            | Change::Pull(_)
            | Change::Reworked
            | Change::Refused(_)
            | Change::NotRefused(_)
            | Change::RefusalSilent { .. }
            | Change::AskAgain { .. }
            | Change::Follow(_) => None,
            Change::Unblock | Change::FreshBudget | Change::CloseWindow => None,
        }
    }

    fn set(&mut self, change: Change) {
        match change {
            Change::Move(way) => self.go(way),
            Change::Ask { waiting, at } => {
                (self.waiting_for, self.waiting_since, self.asked_at) = (Some(waiting), Some(at), None);
                self.wait_no += 1;
            }
            Change::Asked { at } => self.asked_at = Some(at),
            Change::Grant { waiting } => (self.released, self.waiting_for) = (Some(waiting), None),
            Change::Block { why, held } => {
                (self.blocked_reason, self.held_findings, self.critical) = (Some(why), held, None);
                self.block_no += 1;
            }
            Change::Unblock => (self.blocked_reason, self.held_findings) = (None, None),
            Change::FreshBudget => (self.attempt_base, self.findings_same) = (self.attempt, 0),
            Change::RequestStop { reason, at } => {
                // The first stamp wins.
                if self.stop_requested_at.is_none() {
                    (self.stop_requested_at, self.stop_reason) = (Some(at), reason);
                }
            }
            Change::OpenWindow(window) => self.critical = Some(window),
            Change::CloseWindow => self.critical = None,
            Change::Landed { commit } => self.landed_sha = Some(commit),
            Change::EndWatch(status) => self.watch = Some(status.into()),
            Change::Withdrawal(cause) => self.withdrawn = cause,
            Change::Branch { name, base, head, tree } => {
                (self.branch, self.base_sha) = (Some(name), Some(base));
                (self.head_sha, self.head_tree) = (Some(head), Some(tree));
            }
            Change::Head { sha, tree } => (self.head_sha, self.head_tree) = (Some(sha), Some(tree)),
            Change::Pull(pull) => self.pr = pull,
            Change::Reworked => self.rework = None,
            Change::Refused(refused) => self.refused = Some(refused),
            Change::NotRefused(asked) => self.refused = self.refused.take().filter(|r| r.asked != asked),
            Change::RefusalSilent { at } => {
                if let Some(r) = &mut self.refused {
                    (r.silent, r.last_at) = (true, at);
                }
            }
            Change::AskAgain { at } => {
                if let Some(r) = &mut self.refused {
                    (r.tries, r.answered_ms, r.next_at) = (0, 0, at);
                }
            }
            Change::Follow(ItemText { title, body, priority, blocked_by }) => {
                (self.title, self.body, self.priority, self.blocked_by) = (title, body, priority, blocked_by);
            }
        }
    }

    /// Moves along an edge of the table.
    fn go(&mut self, way: Move) {
        let from = self.stage;
        self.enter(way.edge(from).1);
        match way {
            Move::Start { serial, at, .. } => (self.started_at, self.in_serial) = (Some(at), serial),
            Move::GiveBack => (self.started_at, self.in_serial) = (None, false),
            Move::Advance { .. } | Move::Return { .. } | Move::Repeat => {}
            Move::Rollback(back) => self.back(back),
            Move::Finish { watch, at } => {
                self.end(at);
                (self.findings, self.findings_same, self.watch) = (Vec::new(), 0, watch.then_some(Watch::Armed));
            }
            Move::Cancel { at } => {
                self.stopped_stage = Some(from);
                self.end(at);
            }
        }
    }

    /// Entering a stage begins a new stay in it: what was granted, asked or refused belonged to the old one.
    fn enter(&mut self, to: Stage) {
        self.stage = to;
        self.epoch += 1;
        (self.waiting_for, self.waiting_since, self.asked_at, self.released) = (None, None, None, None);
        // A missing pull request is missing in every stage.
        self.refused = self.refused.take().filter(|r| r.asked == Asked::OpenPull && !to.is_terminal());
    }

    fn end(&mut self, at: i64) {
        (self.finished_at, self.in_serial, self.critical) = (Some(at), false, None);
    }

    fn back(&mut self, back: Back) {
        self.attempt += 1;
        (self.findings, self.findings_same, self.critical) = (back.findings, back.same, None);
        if back.budget == Budget::Fresh {
            self.attempt_base = self.attempt;
        }
        if back.one_commit {
            self.rework = Some(Rework::OneCommit);
        }
        if back.landed {
            self.renew_branch();
        }
    }

    /// The rework of a landed commit is a new branch from the default one (RULE-28).
    fn renew_branch(&mut self) {
        let old = self.branch.clone().unwrap_or_default();
        let prefix = old.split_once(self.key.as_str()).map_or("", |(p, _)| p).to_owned();
        let mut name = branch_name(&prefix, &self.key, &self.title, self.round);
        name.truncate(90);
        self.branch = Some(format!("{}-rework-{}", name.trim_end_matches('-'), self.attempt));
        (self.base_sha, self.head_sha, self.head_tree, self.pr) = (None, None, None, None);
    }
}
