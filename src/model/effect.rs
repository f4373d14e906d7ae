//! What is done outside the database, with every detail, and what came of it: `engine::perform` carries out one
//! [`Effect`], choosing nothing, and answers with its [`Report`]; `decide::report` says what the report means.

use super::decision::Procedure;
use super::evidence::NewEvidence;
use super::ids::{Key, Sha};
use super::inputs::Input;
use super::landing::{Base, BranchSeen, Line, MergeAnswer, PullSeen};
use super::rules::Queue;
use super::sides::Update;
use super::task::{Deploy, PullRef, Task};
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
    /// Begins to give back the merge lease of a deploy that waits for a person at the forge (RUN-8).
    Park { why: String },
    /// Looks whether the head contains the default branch's tip, which is the base to be.
    LookForTip { opening: Opening },
    /// Ends the supervisors and every process of every run of the task, and verifies that they are gone.
    EndProcesses,
    /// Deletes environment files that a killed step may have left: they may hold secrets.
    ForgetEnvironments,
    /// Copies the branch's documents at `head` and the sentinels into the state directory, and keeps the head. `at`:
    /// when the stop was asked for.
    Archive { at: i64, head: Sha, stop: Stopping },
    /// Closes a pull request, unless the journal's `key` says that it is closed. `stop`: the stop continues.
    ClosePull { key: String, number: i64, stop: Option<Stopping> },
    /// Looks at what the task left on this machine and, by the journal, on the remote.
    LookAtLeft { branch: Option<String>, stop: Option<Stopping> },
    /// Looks where the branch is on the remote.
    LookAtBranch { branch: String, left: Left, stop: Option<Stopping> },
    /// Deletes the branch at exactly this commit, without force (RULE-11).
    DeleteBranch { key: String, branch: String, at: Sha, default: String, left: Left, stop: Option<Stopping> },
    /// Removes the task's checkouts.
    RemoveArea { stop: Option<Stopping> },
    /// Makes the merge lease's file match its row, which has just been freed.
    ReleaseLeaseFile,
    /// Looks for an open pull request of the branch.
    LookForPull { branch: String },
    /// Looks at what earlier deploys left, and at what the build left (BND-3). `build`: one is declared.
    Inspect { opening: Opening, build: bool },
    /// Archives files of earlier deploys. `baseline`: production is probed before it changes (SHIP-6).
    Clear { opening: Opening, names: Vec<String>, baseline: bool, ready: Ready },
    /// Writes the file that says that a deploy is initiated. `merges`: the merge follows.
    WriteInitiated { merging: Merging, merges: bool },
    /// Merges, and looks at what came of it, whatever the forge said (RULE-5).
    Merge { merging: Merging, merge: Merge, survey: Survey },
    /// Looks at the merge queue of the default branch, if there is one (GH-1).
    LookAtQueue { merging: Merging, merge: Merge, survey: Survey },
    /// Puts the pull request into the merge queue.
    EnterQueue { merging: Merging, number: i64 },
    /// Takes the pull request out of the merge queue, because `why`. `fails`: the step then fails with what the forge said.
    LeaveQueue { merging: Merging, number: i64, why: String, and: AfterLeaving, fails: bool },
    /// Removes the file of a deploy that was withdrawn. `fails`: the step then fails with what the forge said.
    RemoveInitiated { deploy: String, fails: bool },
    /// Lists what decides the meaning of CI and differs between base and head (BND-5).
    ListInputs { base: Sha, head: Sha, tree: String },
}

/// What follows once a pull request has left the merge queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterLeaving {
    /// The deploy is withdrawn.
    Withdraw,
    /// And the merge gate judges the head again.
    VoidGate,
    /// And the task is blocked.
    Block { why: String },
    /// It is looked again at what happened: more follows from it.
    Survey,
}

/// A stop that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopping {
    /// The commit of the default branch that contains work of the task, whoever merged it (RULE-28).
    pub in_default: Option<Sha>,
}

/// What a task left, as this machine knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Its branch is one that it created (RULE-11).
    pub ours: bool,
    /// Every commit named by one of its pushes.
    pub pushed: Vec<Sha>,
    /// Its checkouts are there.
    pub area: bool,
}

/// What became of a branch that was to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deleted {
    Now,
    /// It was gone.
    Before,
    Kept {
        why: String,
    },
}

/// A deploy that may open: its head, and its base under the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    pub head: Sha,
    pub base: Sha,
    pub default_branch: String,
}

/// What was found before a deploy opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    pub tree: String,
    /// How many deploys the task had.
    pub deploys: usize,
    /// What the build left is gone.
    pub build_gone: bool,
}

/// A deploy that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merging {
    pub deploy: String,
    pub head: Sha,
    pub base: Sha,
    pub tree: String,
    pub fence: i64,
    pub settings: Option<BaseSettings>,
}

impl Merging {
    /// Of a row.
    pub fn of(deploy: &Deploy, settings: Option<BaseSettings>) -> Self {
        Self {
            deploy: deploy.id.clone(),
            head: deploy.head.clone(),
            base: deploy.base.clone(),
            tree: deploy.tree.clone(),
            fence: deploy.fence,
            settings,
        }
    }
}

/// Under which settings a base is tried (ORD-1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseSettings {
    /// The base's name.
    pub name: String,
    pub digest: String,
}

/// One merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// Of the pull request; 0: the forge has none.
    pub number: i64,
    pub default_branch: String,
    pub message: String,
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
    /// A deploy is about to open.
    Opening,
    /// The deploy's merge.
    Merge(Merging),
    /// A stop: whether something of the task landed.
    Stop,
    /// The deploy is parked if nothing has happened; why.
    Park { merging: Merging, why: String },
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
            Self::Prepare { .. } => Some(Report::Ready { revision: task.revision, file_fence: 0, settings: None }),
            Self::WriteLeaseFile { .. } => Some(Report::Done),
            Self::Survey { survey, .. } => Some(Report::Surveyed(Box::new(survey.undisturbed(task)))),
            Self::MakeUpdate { .. } => Some(Report::UpToDate),
            Self::OpenPull { gate: Some(_), .. } => Some(Report::Pull(PullRef { number: 0, url: String::new() })),
            Self::Park { .. } => Some(Report::Ready { revision: task.revision, file_fence: 0, settings: None }),
            Self::Clear { .. } | Self::WriteInitiated { .. } | Self::RemoveInitiated { .. } => Some(Report::Done),
            Self::Merge { survey, .. } => {
                let mut after = survey.undisturbed(task);
                after.line.tested = Some(survey.head.clone());
                Some(Report::Merged { answer: MergeAnswer::Merged, after: Box::new(after) })
            }
            Self::EndProcesses
            | Self::ForgetEnvironments
            | Self::Archive { .. }
            | Self::RemoveArea { .. }
            | Self::ReleaseLeaseFile => Some(Report::Done),
            Self::LookAtQueue { .. } => Some(Report::QueueSeen { queue: None, contains: true }),
            Self::LeaveQueue { .. } => Some(Report::LeftQueue { out: true }),
            Self::ClosePull { .. } => Some(Report::Closed { first: true }),
            Self::LookAtBranch { .. } => {
                Some(Report::BranchAt { head: task.head_sha.clone(), default: "the default branch".to_owned() })
            }
            Self::DeleteBranch { .. } => Some(Report::Deleted(Deleted::Now)),
            Self::OpenPull { gate: None, .. }
            | Self::EnterQueue { .. }
            | Self::LookForPull { .. }
            | Self::LookAtLeft { .. }
            | Self::ReadHead { .. }
            | Self::PushUpdate { .. }
            | Self::LookForTip { .. }
            | Self::Inspect { .. }
            | Self::ListInputs { .. } => None,
        }
    }
}

impl Effect {
    /// Whether it only reads this machine: a dry run performs it, too.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Inspect { .. } | Self::ListInputs { .. } | Self::LookAtLeft { .. })
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
        settings: Option<BaseSettings>,
    },
    Done,
    Surveyed(Box<Surveyed>),
    Head(HeadSeen),
    Pull(PullRef),
    /// `None`: there is no merge queue. `contains`: the head contains the base.
    QueueSeen {
        queue: Option<Queue>,
        contains: bool,
    },
    /// `None`: it is in the merge queue; otherwise what the forge said instead.
    EnteredQueue {
        instead: Option<MergeAnswer>,
    },
    /// `out`: it is no longer in the merge queue; otherwise it has landed.
    LeftQueue {
        out: bool,
    },
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
    Contains(bool),
    Inspected(Inspected),
    /// What the forge said, and what was then seen.
    Merged {
        answer: MergeAnswer,
        after: Box<Surveyed>,
    },
    Inputs(Vec<Input>),
    /// `first`: by this effect; otherwise the journal has it.
    Closed {
        first: bool,
    },
    Left(Left),
    BranchAt {
        head: Option<Sha>,
        default: String,
    },
    Deleted(Deleted),
    /// The number of the open pull request, if there is one.
    PullIs(Option<i64>),
    /// There is nothing to read from here.
    Unread,
}

/// What earlier deploys left.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspected {
    /// The folder of sentinels, for people.
    pub folder: String,
    /// Names in the folder of sentinels, read before the rows: a deploy's row exists before any of its files.
    pub names: Vec<String>,
    /// The task's deploys.
    pub deploys: Vec<Deploy>,
    /// What `deploy.build` left for the head is gone.
    pub build_gone: bool,
    /// The head's whole tree; `None`: there is no mirror.
    pub tree: Option<Sha>,
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
