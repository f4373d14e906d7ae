//! What is done outside the database, with every detail, and what came of it: `engine::perform` carries out one
//! [`Effect`], choosing nothing, and answers with its [`Report`]; `decide::report` says what the report means.

use super::decision::Procedure;
use super::evidence::NewEvidence;
use super::ids::{Key, Sha};
use super::landing::{Base, BranchSeen, Line, PullSeen};
use super::sides::Update;
use super::task::{PullRef, Task};
use super::view::TaskView;

/// One thing to be looked up or done outside the database.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Makes the repository ready: a fresh default branch, and the task's branch if there is none yet (RUN-3).
    Prepare { procedure: Procedure },
    /// Makes the merge lease's file match its row.
    WriteLeaseFile { work: GateWork },
    /// Asks remote and forge for the default branch, the task's branch and its pull request.
    Survey { purpose: Purpose, survey: Survey },
    /// Reads the commit to which somebody moved the task's branch. `gate`: the merge gate continues with it.
    ReadHead { branch: String, remote: Sha, gate: Option<Site> },
    /// Opens the branch's pull request, or finds the one that is open. `gate`: the merge gate continues.
    OpenPull { pull: NewPull, gate: Option<Site> },
    /// Makes the commit that puts the branch on top of the default branch, in the mirror only.
    MakeUpdate { site: Site, update: BranchUpdate },
    /// Pushes that commit over the old head.
    PushUpdate { key: String, update: BranchUpdate, new: Sha },
}

/// The merge gate's work under one fence of the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateWork {
    pub fence: i64,
}

/// Where the merge gate works: the default branch as it was just seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    pub fence: i64,
    pub default_branch: String,
    pub tip: Sha,
    /// Intents of an update that have no outcome.
    pub updates: Vec<OpenUpdate>,
}

/// What a survey is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// The merge gate, under the lease.
    Gate(GateWork),
}

/// What a survey compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    pub branch: String,
    /// The commit of the default branch that the head was judged on.
    pub base: Sha,
    pub head: Sha,
    /// The task is in `deploy` and its landing certificate holds (RULE-4).
    pub released: bool,
    pub depth: Depth,
}

/// How much a survey asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Remote and forge; the survey fails if one does not answer.
    Full,
    /// The remote, and the forge if it answers; otherwise the pull request is checked next time.
    Remote,
    /// The same, but accepts an answer of the remote that is less than a second old, unless the pull request is no
    /// longer open: whoever closed it may have done so after that answer.
    Glance,
}

/// A pull request to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPull {
    /// In the journal.
    pub key: String,
    pub branch: String,
    pub into: String,
    pub title: String,
    /// The first words of its text; the work item's address follows.
    pub about: String,
    /// Ends its text.
    pub marker: String,
}

/// `orch`'s own update of a branch onto the default branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchUpdate {
    pub key: Key,
    pub branch: String,
    pub old: Sha,
    pub tip: Sha,
    pub mode: Update,
    /// The work item's documents don't land (ORD-6).
    pub leaves_out: bool,
}

/// An intent to update the branch that has no outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUpdate {
    /// In the journal.
    pub key: String,
    /// Another process may still push it.
    pub held: bool,
}

impl Effect {
    /// What a dry run takes it to report: nothing interferes, and nothing is known beyond the rows. `None`: what the
    /// outside would say decides too much.
    pub fn expected(&self, view: &TaskView) -> Option<Report> {
        let task = &view.task;
        match self {
            Self::Prepare { .. } => Some(Report::Ready { revision: task.revision, file_fence: 0 }),
            Self::WriteLeaseFile { .. } => Some(Report::Done),
            Self::Survey { survey, .. } => Some(Report::Surveyed(Box::new(survey.undisturbed(task)))),
            Self::MakeUpdate { .. } => Some(Report::UpToDate),
            Self::OpenPull { gate: Some(_), .. } => Some(Report::Pull(PullRef { number: 0, url: String::new() })),
            Self::OpenPull { gate: None, .. } | Self::ReadHead { .. } | Self::PushUpdate { .. } => None,
        }
    }
}

impl Survey {
    /// Nobody has touched anything.
    fn undisturbed(&self, task: &Task) -> Surveyed {
        let tip = self.base.clone();
        Surveyed {
            default_branch: "the default branch".to_owned(),
            tip: tip.clone(),
            remote_head: Some(self.head.clone()),
            line: Line { base: self.base.clone(), tip, base_kept: Base::Kept, tested: None, ours: None },
            pull: task.pr.as_ref().map_or(PullSeen::None, |p| PullSeen::Open { number: p.number }),
            branch: BranchSeen::AtHead,
            updates: Vec::new(),
        }
    }
}

/// What came of an effect.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// `revision`: of the task's row once the repository was ready; `file_fence`: in the merge lease's file.
    Ready {
        revision: i64,
        file_fence: i64,
    },
    Done,
    /// `None`: the task has no branch.
    Surveyed(Box<Surveyed>),
    Head(HeadSeen),
    Pull(PullRef),
    /// The branch is up to date: nothing has to be made.
    UpToDate,
    Made {
        new: Sha,
    },
    /// The two sides differ in these files.
    Conflict {
        paths: Vec<String>,
    },
    Updated(Updated),
    /// `moved`: the branch was not where it was expected; otherwise the remote refuses.
    NotPushed {
        reason: String,
        moved: bool,
    },
    /// Branch and default branch have no history in common.
    Unrelated,
}

/// What a survey found.
#[derive(Debug, Clone, PartialEq)]
pub struct Surveyed {
    pub default_branch: String,
    /// The default branch's tip.
    pub tip: Sha,
    /// The task's branch on the remote.
    pub remote_head: Option<Sha>,
    pub line: Line,
    pub pull: PullSeen,
    pub branch: BranchSeen,
    pub updates: Vec<OpenUpdate>,
}

/// Whose commit the branch is at.
#[derive(Debug, Clone, PartialEq)]
pub enum HeadSeen {
    /// An update of `orch`'s own whose record was lost.
    Ours {
        key: String,
        updated: Updated,
    },
    /// A person's, or a push of `orch` that nothing recorded.
    Other {
        /// Its code tree.
        tree: Sha,
        /// What `orch` pushed to the branch, in the order of the pushes.
        pushed: Vec<Sha>,
        /// The row that says that approved documents were changed (BND-5).
        stale: Option<NewEvidence>,
    },
    Unrelated,
}

/// An update that is on the remote, compared with what was there before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updated {
    pub old: Sha,
    pub new: Sha,
    /// The commit of the default branch that it is on.
    pub base: Sha,
    /// Code trees before and after.
    pub from: Sha,
    pub to: Sha,
    pub same_patches: bool,
    /// The update is a merge; a rebase rewrites every commit.
    pub has_merge: bool,
    /// The merge has paths that were on neither side.
    pub new_paths: bool,
    /// The work item's documents were left out (ORD-6).
    pub left_out: bool,
}
