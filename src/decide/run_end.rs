//! What the end of a run means for its job, its credential and its task (PIPE-3, RUN-7, RULE-8, RULE-26, RULE-45,
//! RULE-48). Pure; the settlement records it under the run's fence.

use super::again::{self, Again, environment_wait};
use crate::model::outcome::{Kind, Outcome};
use crate::model::run_end::{RunEnd, RunResult};
use crate::model::stage::{Agent, JobKind, Stage};
use crate::model::task::{Cause, PUT_OFF_MS, Rework, Run, RunState, Task};

/// Five limits in a row without a new commit block (RULE-26).
const MOST_LIMITS: i64 = 5;
/// The first wait for a window whose reset is not given; doubling, in milliseconds.
const FIRST_LIMIT_MS: i64 = 60_000;
const LONGEST_LIMIT_MS: i64 = 3_600_000;
/// A given reset is trusted for this long (RUN-7).
const BELIEVED_MS: i64 = 7 * 86_400_000;
/// Runs that wait for one reset are spread over this many seconds.
const SPREAD_S: i64 = 30;

/// At most this many broken rules are named.
const MOST_SHOWN: usize = 20;

/// How a run's job ends. Times are wall milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum End {
    #[default]
    Done,
    /// `spent`: counts against `run_retries`.
    Failed { why: String, spent: bool },
    /// Ended without a result, and no attempt is spent: counted by its cause (RULE-48).
    Unspent { cause: Cause, why: String },
    /// Back to the queue, to be claimed again from this time on.
    Again { at: i64, why: String },
    /// Back to the queue, nothing spent: this machine lacks what is named, with the way out. Retried with its backoff
    /// for as long as that lasts (ORD-1, RULE-45).
    Environment { why: String },
    /// Back to the queue until the base was tried after this time (ORD-1).
    BaseFirst { since: i64, why: String },
    /// The account's window is used up (RUN-7): the job goes back, the credential cools down.
    Limited {
        until: i64,
        why: String,
        credential: String,
        /// The service is overloaded or unavailable: no number of these blocks (RULE-8).
        overload: bool,
    },
    /// Blocks the task with this reason.
    Block { why: String },
}

impl End {
    /// This machine lacks what `why` names: the job goes back, nothing is spent (ORD-1, RULE-45).
    pub fn lack(why: &str) -> Self {
        Self::Environment { why: format!("{why}; install, set or fix what is named") }
    }

    /// What the run's row records.
    pub fn recorded(&self) -> RunEnd {
        let (result, why) = match self {
            Self::Done => (RunResult::Done, ""),
            Self::Failed { why, spent: true } => (RunResult::Failed, why.as_str()),
            Self::Failed { why, spent: false } | Self::Unspent { why, .. } => (RunResult::Lost, why.as_str()),
            Self::Again { why, .. } | Self::Environment { why } | Self::BaseFirst { why, .. } => {
                (RunResult::Again, why.as_str())
            }
            Self::Limited { why, .. } => (RunResult::Limited, why.as_str()),
            Self::Block { why } => (RunResult::Blocked, why.as_str()),
        };
        RunEnd::new(result, why)
    }

    /// Whether the service answered: whatever became of the run, its credential's window is open again.
    pub fn shows_an_open_window(&self) -> bool {
        match self {
            Self::Limited { .. } | Self::Again { .. } | Self::Environment { .. } => false,
            Self::Done | Self::Failed { .. } | Self::Unspent { .. } | Self::BaseFirst { .. } | Self::Block { .. } => {
                true
            }
        }
    }
}

/// What becomes of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd<'e> {
    Done,
    Failed {
        why: &'e str,
        spent: bool,
    },
    /// Failed, nothing spent, counted by its cause.
    Unspent {
        cause: Cause,
        why: &'e str,
    },
    /// Back to the queue, due at this time.
    Again {
        at: i64,
        why: &'e str,
    },
    /// Back to the queue; due after a wait that grows with each time in a row that this cause requeued it.
    Later {
        cause: Cause,
        why: &'e str,
        wait: Wait,
    },
}

/// Until when a job waits that was requeued for a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    Until(i64),
    /// From `now` on, growing from `first_ms`.
    Growing {
        now: i64,
        first_ms: i64,
    },
}

impl Wait {
    /// When it is due, requeued for the `times`-th time in a row.
    pub fn due(self, times: i64) -> i64 {
        match self {
            Self::Until(at) => at,
            Self::Growing { now, first_ms } => now + environment_wait(first_ms, times),
        }
    }
}

/// What the end of a run does to its job. `worked`: a runtime was started in it. `first_ms`: `agents.retry_backoff_s`.
pub fn of_job(end: &End, kind: JobKind, worked: bool, now: i64, first_ms: i64) -> JobEnd<'_> {
    match end {
        End::Done => JobEnd::Done,
        End::Failed { why, spent } => JobEnd::Failed { why, spent: *spent },
        End::Block { why } => JobEnd::Failed { why, spent: true },
        End::Unspent { cause, why } => JobEnd::Unspent { cause: *cause, why },
        // An agent worked: running it again is counted.
        End::Again { why, .. } if kind == JobKind::Agent && worked => JobEnd::Unspent { cause: Cause::Lost, why },
        End::Again { at, why } => JobEnd::Again { at: *at, why },
        End::Limited { until, why, .. } => JobEnd::Again { at: *until, why },
        End::Environment { why } => {
            JobEnd::Later { cause: Cause::Environment, why, wait: Wait::Growing { now, first_ms } }
        }
        End::BaseFirst { since, why } => JobEnd::Later { cause: Cause::BaseFirst, why, wait: Wait::Until(*since) },
    }
}

/// Why a task is blocked by the end of its run. `limits`: how many usage limits of the credential occurred in a row,
/// including this one.
pub fn blocks(end: &End, limits: i64) -> Option<String> {
    match end {
        End::Block { why } => Some(why.clone()),
        End::Limited { why, overload: false, .. } if limits >= MOST_LIMITS => {
            Some(format!("{limits} usage limits in a row without a new commit: {why}"))
        }
        End::Limited { .. }
        | End::Done
        | End::Failed { .. }
        | End::Unspent { .. }
        | End::Again { .. }
        | End::Environment { .. }
        | End::BaseFirst { .. } => None,
    }
}

/// Whether such an end may move the task: another hand is checked for first (RULE-31).
pub fn may_move(kind: JobKind, end: &End) -> bool {
    let judges = match kind {
        JobKind::Agent | JobKind::Ci | JobKind::Scan | JobKind::Staging | JobKind::Build => true,
        JobKind::Deploy | JobKind::DeployFinalizer | JobKind::PostDeployMonitor => false,
    };
    let moves = match end {
        End::Again { .. } | End::Environment { .. } | End::BaseFirst { .. } | End::Limited { .. } => false,
        End::Done | End::Failed { .. } | End::Unspent { .. } | End::Block { .. } => true,
    };
    judges && moves
}

/// Whose run ended, and under which limits.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// The runtime, by its name in the configuration.
    pub runtime: &'a str,
    /// What a usage limit cools down.
    pub credential: &'a str,
    /// Usage limits of it in a row before this run.
    pub limits: i64,
    /// The run's number: it spreads runs that wait for one reset.
    pub run: i64,
}

/// An agent's run that did not end successfully: a limit spends nothing (RUN-7), nor does a missing login; everything
/// else is retried as a failure (PIPE-3).
pub fn of_outcome(outcome: &Outcome, who: &Who<'_>, now: i64) -> End {
    match outcome.kind {
        Kind::UsageLimit { until_ms } | Kind::Overloaded { until_ms } => End::Limited {
            until: limited_until(until_ms, who, now),
            why: outcome.why.clone(),
            credential: who.credential.to_owned(),
            overload: matches!(outcome.kind, Kind::Overloaded { .. }),
        },
        Kind::NoLogin => {
            let name = who.runtime;
            let why = format!(
                "runtime {name} has no working login: {}; log in, or set what runtimes.{name}.env names",
                outcome.why
            );
            End::Environment { why }
        }
        Kind::Ended | Kind::Failed | Kind::Killed => End::Failed { why: outcome.why.clone(), spent: true },
    }
}

/// Where no time is given the wait grows, up to an hour; a given one is trusted for seven days.
fn limited_until(named: Option<i64>, who: &Who<'_>, now: i64) -> i64 {
    let growing = now + (FIRST_LIMIT_MS << who.limits.clamp(0, 6)).min(LONGEST_LIMIT_MS);
    let until = named.unwrap_or(growing).clamp(now + 1000, now + BELIEVED_MS);
    if named.is_some() { until + who.run.rem_euclid(SPREAD_S) * 1000 } else { until }
}

/// The conversation that a run resumes: the previous run's, if a limit ended that run and nothing of its own did
/// (RUN-5, RUN-7). `runs`: all of the task, oldest first.
pub fn goes_on<'r>(run: &Run, runs: &'r [Run]) -> Option<&'r str> {
    let same = |r: &&Run| {
        r.id != run.id && r.agent == run.agent && (r.stage, r.epoch, r.attempt) == (run.stage, run.epoch, run.attempt)
    };
    let before = runs.iter().rfind(same)?;
    let limited = before.outcome.as_ref().is_some_and(|o| o.kind.is_limit());
    before.session.as_deref().filter(|_| limited)
}

/// HALT was set before the runtime was started (RULE-24): nothing is spent, and the job is due at once.
pub fn halted(reason: &str, now: i64) -> End {
    End::Again { at: now, why: format!("halted before it started: {reason}") }
}

/// A run that broke the rules about what it may leave (RULE-22, BND-4, BND-5); `None`: it broke none. `shown`: the
/// rules.
pub fn broken(agent: Agent, shown: &[String]) -> Option<End> {
    let first: Vec<&str> = shown.iter().take(MOST_SHOWN).map(String::as_str).collect();
    (!shown.is_empty())
        .then(|| End::Failed { why: format!("the {agent} may not change {}", first.join(", ")), spent: true })
}

/// A change larger than the agent's bound blocks: another run would make it as large (RUN-7b). `most`: 0 for no bound.
pub fn too_long(lines: u64, most: u64) -> Option<End> {
    (most > 0 && lines > most)
        .then(|| End::Block { why: format!("the diff has {lines} lines; max_diff_lines allows {most}") })
}

/// The branch moved on the remote during a run, whose commits are discarded: nothing is spent (RULE-22).
pub fn head_moved() -> End {
    End::Unspent {
        cause: Cause::HeadMoved,
        why: "the branch moved on the remote; the run begins again from there".to_owned(),
    }
}

/// A run whose work was pushed; `missing`: why it left no verdict, which counts as a failure (RUN-7b).
pub fn pushed(missing: Option<String>) -> End {
    missing.map_or(End::Done, |why| End::Failed { why, spent: true })
}

/// Whether what a run pushes becomes one commit (RUN-4). `rework`: the branch is rebuilt on a new base, and replaces
/// the old head anyway.
pub fn squashes(task: &Task, stage: Stage, changed: bool, rework: bool) -> bool {
    task.rework == Some(Rework::OneCommit) && stage == Stage::Development && changed && !rework
}

/// What went wrong in a run without a result of its own, by what it says about the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No later try succeeds until a person acts.
    Refused,
    /// What the run left is kept, and counted by this cause.
    Kept(Cause),
    /// The remote accepts no push from this account: only a person can change that; waiting does not help.
    MayNotPush,
    /// The confinement's engine failed before the command, or is missing (BND-2).
    NoEngine,
    /// A remote, a forge or a database that does not answer says nothing about the work (RULE-8).
    Outage,
    /// The disk is full.
    NoRoom,
    /// A program or a secret is missing.
    Lack,
    /// A git process of ours could not be started or was ended from outside, which says nothing about the work. A
    /// branch may cause it (memory), so it has a bound.
    CutShort,
    Other,
}

/// `orch`'s own trouble in a run. `begun`: an agent's runtime was started, so no lack of this machine explains it: what
/// a branch can cause is retried within a bound.
pub fn of_fault(kind: JobKind, begun: bool, fault: Fault, why: String, now: i64) -> End {
    let failed = |why| match kind {
        JobKind::Agent | JobKind::Deploy => End::Failed { why, spent: true },
        JobKind::Ci
        | JobKind::Scan
        | JobKind::Staging
        | JobKind::Build
        | JobKind::DeployFinalizer
        | JobKind::PostDeployMonitor => End::Unspent { cause: Cause::Lost, why },
    };
    let lacks = match kind {
        JobKind::Agent => !begun,
        JobKind::Ci | JobKind::Scan | JobKind::Staging | JobKind::Build => true,
        JobKind::Deploy | JobKind::DeployFinalizer | JobKind::PostDeployMonitor => false,
    };
    match fault {
        Fault::Refused => End::Block { why },
        Fault::Kept(cause) => End::Unspent { cause, why },
        Fault::NoEngine => End::Environment { why },
        Fault::Outage | Fault::MayNotPush if kind != JobKind::Deploy => End::Again { at: now + PUT_OFF_MS, why },
        Fault::NoRoom | Fault::Lack if lacks => End::lack(&why),
        Fault::Outage | Fault::NoRoom | Fault::Lack | Fault::CutShort | Fault::MayNotPush | Fault::Other => failed(why),
    }
}

/// For which cause the work of an agent's run is kept after a fault, and whether a person has to act first; `None`: it
/// is not kept. Its run has exited, and is finalized again without another run (RULE-8, RULE-21, RULE-45).
pub fn keeps(kind: JobKind, state: RunState, fault: Fault) -> Option<(Cause, Keep)> {
    if kind != JobKind::Agent || state != RunState::Exited {
        return None;
    }
    match fault {
        Fault::Refused => Some((Cause::PushRefused, Keep::UntilRetry)),
        Fault::Kept(cause) => Some((cause, Keep::Tried)),
        Fault::MayNotPush => Some((Cause::PushRefused, Keep::Tried)),
        Fault::Outage | Fault::NoRoom => Some((Cause::Outage, Keep::Tried)),
        Fault::Lack => Some((Cause::Environment, Keep::Tried)),
        Fault::CutShort => Some((Cause::Lost, Keep::Tried)),
        Fault::NoEngine | Fault::Other => None,
    }
}

/// How kept work is pushed in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Retried within the cause's bound.
    Tried,
    /// Only a person can lift it; waiting does not help.
    UntilRetry,
}

/// How long work waits that is kept for the `times`-th time in a row, in milliseconds; `None`: its task is blocked
/// until a person's `retry`.
pub fn kept_for(cause: Cause, keep: Keep, times: i64) -> Option<i64> {
    match (keep, again::defer(cause, times)) {
        (Keep::Tried, Again::After(ms)) => Some(ms),
        (Keep::Tried, Again::Hold) | (Keep::UntilRetry, _) => None,
    }
}

#[cfg(test)]
#[path = "run_end_tests.rs"]
mod tests;
