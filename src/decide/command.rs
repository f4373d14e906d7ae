//! What a person's command means for a task in its present state: the table for the command line and the chat (PIPE-3,
//! RULE-15 to RULE-18, ORD-1). What a status on a board means is in `decide::board`. Pure; the engine carries the
//! answer out.

use crate::decide::changes::has_landed;
use crate::model::change::Budget;
use crate::model::decision::Decision;
use crate::model::evidence::EvidenceVerdict;
use crate::model::finding::Finding;
use crate::model::refusal::Asked;
use crate::model::stage::{JobKind, JobStatus, Stage};
use crate::model::task::{Deploy, DeployState, Evidence, Task, Waiting};
use crate::model::view::TaskView;
use crate::model::window::Window;
use crate::model::withdrawal::Withdrawal;
use std::fmt;

/// Why a command does nothing; `Display` is the rest of the sentence after the task's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It asks for the release of another stage.
    ElsewhereThan {
        stage: Stage,
        wanted: Stage,
    },
    DoesNotWait {
        stage: Stage,
        waiting: Waiting,
    },
    Ended(Stage),
    NotBegun,
    NoSuchStage(Stage),
    NotReached {
        stage: Stage,
        wanted: Stage,
    },
    /// A stop, an update or a deploy is under way, or the task was withdrawn.
    UnderWay,
    AtWork,
    Landed,
    NoRedCi,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ElsewhereThan { stage, wanted } => write!(f, "is in {stage}, not in {wanted}"),
            Self::DoesNotWait { stage, waiting } => write!(f, "is in {stage}, but does not wait for {waiting}"),
            Self::Ended(stage) => write!(f, "is {stage} and can't be started again"),
            Self::NotBegun => f.write_str("has not started: `orch tick` starts it"),
            Self::NoSuchStage(stage) => write!(f, "has no stage {stage} with an agent"),
            Self::NotReached { stage, wanted } => write!(f, "is in {stage} and has not reached {wanted} yet"),
            Self::UnderWay => {
                f.write_str("is being stopped, updated or deployed, or was withdrawn; see `orch explain`")
            }
            Self::AtWork => f.write_str("is running; wait for the run, or end it with `orch advance --reject`"),
            Self::Landed => f.write_str("has landed: to rework it, use --from development"),
            Self::NoRedCi => f.write_str("is not blocked by a red CI"),
        }
    }
}

/// The stage in which such a wait is answered.
pub fn stage_of(waiting: Waiting) -> Stage {
    match waiting {
        Waiting::Approval => Stage::Analysis,
        Waiting::ConfirmDeploy => Stage::Deploy,
    }
}

/// `--approve`, `--confirm-deploy`: only in the stage that waits, only for what it waits for, only while no job of the
/// task is live (RULE-15). `busy`: a job is queued or running.
pub fn release(task: &Task, waiting: Waiting, busy: bool) -> Result<(), Refused> {
    let (stage, wanted) = (task.stage, stage_of(waiting));
    if stage != wanted {
        return Err(Refused::ElsewhereThan { stage, wanted });
    }
    if task.waiting_for != Some(waiting) || task.stop_requested_at.is_some() || busy {
        return Err(Refused::DoesNotWait { stage, waiting });
    }
    Ok(())
}

/// What a rejection does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reject {
    /// The analyst works again with the reason.
    Analyse,
    /// Like a gate's *no*: back to development, within the budget.
    SendBack,
}

/// `--reject`: in analysis the analyst works again; from architecture on it goes back to development. Refused before
/// the first stage, after the end, and while something critical is under way.
pub fn reject(view: &TaskView) -> Result<Reject, Refused> {
    let task = &view.task;
    let running = view.live_job.as_ref().filter(|j| j.status == JobStatus::Running);
    let deploying = running.is_some_and(|j| match j.kind {
        JobKind::Deploy | JobKind::DeployFinalizer | JobKind::PostDeployMonitor => true,
        JobKind::Agent | JobKind::Ci | JobKind::Scan | JobKind::Staging | JobKind::Build => false,
    });
    if deploying || task.critical.is_some() || task.stop_requested_at.is_some() {
        return Err(Refused::UnderWay);
    }
    match task.stage {
        Stage::Created => Err(Refused::NotBegun),
        Stage::Done | Stage::Cancelled => Err(Refused::Ended(task.stage)),
        Stage::Analysis => Ok(Reject::Analyse),
        Stage::Architecture
        | Stage::Development
        | Stage::Review
        | Stage::Testing
        | Stage::DeployStaging
        | Stage::Deploy => Ok(Reject::SendBack),
    }
}

/// The state in which a requested stop finds the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Nothing is left to stop.
    Ended,
    /// It is recorded; `first`: it was not before. An open window delays it until that window closes (RULE-16).
    Recorded { first: bool, waits: Option<Window> },
}

/// `orch stop`, STOP on a board, a stop in the chat.
pub fn stop(task: &Task) -> Stop {
    if task.stage.is_terminal() {
        return Stop::Ended;
    }
    Stop::Recorded { first: task.stop_requested_at.is_none(), waits: task.critical.clone() }
}

/// What decides about a retry, in addition to the task's view.
#[derive(Debug, Clone, Copy, Default)]
pub struct Held<'a> {
    /// What was withdrawn on the forge, as the retry found it before it restored anything.
    pub taken: Option<&'a Withdrawal>,
    /// It is blocked by a red CI; `true`: one that ran under other settings than today's.
    pub red: Option<bool>,
    /// A run of it has exited and waits for its push.
    pub kept: bool,
}

/// What a retry does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retry {
    /// Nothing is held: what only waits for its time becomes due now.
    DueNow,
    Lift(Lift),
}

/// A hold that a retry lifts, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lift {
    /// The hold by the withdrawal on the forge is lifted as well.
    pub restores: bool,
    /// Its pull request is not replaced by a new one.
    pub keeps_pull: bool,
    /// The red CI runs again on the same head.
    pub ci: bool,
    pub then: Then,
}

/// What follows a lifted hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// The rollback that the spent budget prevented, with a fresh budget.
    RollBack(Vec<Finding>),
    /// The refused effect itself is retried, or what an agent left is pushed: no agent starts (RULE-45).
    Continue,
    /// The stage begins again, keeping what its agents achieved.
    Repeat,
}

/// `orch retry`, with `--ci` or without.
pub fn retry(task: &Task, held: &Held<'_>, ci: bool) -> Result<Retry, Refused> {
    if ci && held.red.is_none() {
        return Err(Refused::NoRedCi);
    }
    if task.stage.is_terminal() {
        return Err(Refused::Ended(task.stage));
    }
    let restores = held.taken.is_some() && task.withdrawn.as_ref() == held.taken;
    let blocked = task.blocked_reason.is_some();
    if !blocked && !restores && task.refused.is_none() {
        return Ok(Retry::DueNow);
    }
    let stop = task.refused.as_ref().is_some_and(|r| r.asked == Asked::Stop);
    let only_refused = stop || (!blocked && !restores);
    let ci = held.red.is_some_and(|changed| ci || changed);
    let then = match task.held_findings.clone().filter(|_| !ci) {
        Some(findings) => Then::RollBack(findings),
        None if only_refused || held.kept => Then::Continue,
        None => Then::Repeat,
    };
    let keeps_pull = !restores || matches!(held.taken, Some(Withdrawal::Merged { .. }));
    Ok(Retry::Lift(Lift { restores, keeps_pull, ci, then }))
}

/// `orch retry --from`: that stage's agent works again with a fresh budget (ORD-1). `stages`: the project's own.
pub fn retry_from(view: &TaskView, stage: Stage, stages: &[Stage]) -> Result<Decision, Refused> {
    let task = &view.task;
    let running = view.live_job.as_ref().is_some_and(|j| j.status == JobStatus::Running);
    if task.stage.is_terminal() {
        return Err(Refused::Ended(task.stage));
    }
    if task.stage == Stage::Created {
        return Err(Refused::NotBegun);
    }
    if !stages.contains(&stage) || stage.agent().is_none() {
        return Err(Refused::NoSuchStage(stage));
    }
    if stage > task.stage {
        return Err(Refused::NotReached { stage: task.stage, wanted: stage });
    }
    if task.stop_requested_at.is_some() || task.critical.is_some() || task.withdrawn.is_some() {
        return Err(Refused::UnderWay);
    }
    if running {
        return Err(Refused::AtWork);
    }
    if has_landed(view) && stage != Stage::Development {
        return Err(Refused::Landed);
    }
    let was = task.blocked_reason.as_ref().map_or_else(String::new, |w| format!(": {w}"));
    let why = format!("restarted by a person{was}");
    if stage != Stage::Development {
        return Ok(Decision::Return { to: stage, why });
    }
    let findings = task.held_findings.clone().unwrap_or_else(|| task.findings.clone());
    Ok(Decision::Rollback { why, findings, squash: false, same: 0, budget: Budget::Fresh })
}

/// The rows that stay valid where a stage begins again: what an agent achieved in the previous stay. A block after it
/// (a scanner, a stale image) is no reason to run the agent again.
pub fn stays_valid(rows: &[Evidence], epoch: i64) -> Vec<&Evidence> {
    use crate::model::gate::Gate;
    let by_agents = [
        Gate::AnalysisComplete,
        Gate::ArchitectureDone,
        Gate::BranchPushed,
        Gate::ReviewVerdict,
        Gate::TestsVerdict,
        Gate::StagingStatus,
    ];
    let newest = |gate: Gate| rows.iter().rev().find(|e| e.subject == gate && e.epoch == epoch);
    by_agents.into_iter().filter_map(newest).filter(|e| e.verdict == EvidenceVerdict::Pass).collect()
}

/// How a retry resumes the attempt's deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeployAgain {
    /// There is none, or none that a retry may touch.
    No,
    /// It was blocked on its way: its window opens where it is.
    TakeUp(Window),
    /// Its result stayed unknown or was bad: the landed commit is deployed once more under this id, without a second
    /// merge (RULE-18).
    New(Box<Deploy>),
}

/// A deploy is repeated only at a person's word. Both ways open the critical window, which a recorded stop excludes
/// (RULE-16). `deploys`: all of the task, oldest first.
pub fn deploy_again(task: &Task, deploys: &[Deploy]) -> DeployAgain {
    if task.stage != Stage::Deploy || task.stop_requested_at.is_some() {
        return DeployAgain::No;
    }
    let of_attempt = |d: &&Deploy| d.attempt == task.attempt && d.state != DeployState::Withdrawn;
    let Some(last) = deploys.iter().rev().find(of_attempt) else { return DeployAgain::No };
    match last.state {
        DeployState::Initiated | DeployState::Landed | DeployState::Started => DeployAgain::TakeUp(last.window()),
        DeployState::Withdrawn => DeployAgain::No,
        DeployState::Settled if last.landed_sha.is_none() => DeployAgain::No,
        DeployState::Settled => DeployAgain::New(Box::new(Deploy {
            id: format!("{}-{}-{}r{}", task.id, task.attempt, last.fence, deploys.len()),
            state: DeployState::Initiated,
            result: None,
            ..last.clone()
        })),
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
