//! What a board's status means: which observation counts, whether a wait was asked on the board, and which intent
//! applies to which task (BRD-3, RULE-12, RULE-15, RULE-40, RULE-43). Pure.

use crate::model::board::{Intent, Progress};
use crate::model::change::{Change, ItemText};
use crate::model::ids::Key;
use crate::model::stage::Stage;
use crate::model::task::{Task, Wait, Waiting};
use crate::model::watch::Watch;
use crate::model::withdrawal::Withdrawal;
use std::fmt;

/// The last observation of a work item, as far as it affects the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known<'a> {
    pub status: &'a str,
    /// The item's own `updated` at that time, in milliseconds by the board's clock.
    pub updated_ms: i64,
    /// The `updated` of `orch`'s own last write, by the same clock.
    pub written_ms: i64,
}

/// How a board is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A file that people edit: what is read is current, whatever time it names.
    File,
    /// A server's list: a page may be older than one that was read before.
    Server,
}

/// How an observation counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// Older than the last one: discarded (RULE-12).
    Older,
    /// An answer, but the question was asked, or ended, while the board was read: nobody can say which came first. Not
    /// recorded; the item is read once more (RULE-43).
    Unclear,
    /// Recorded, with the intent of the new status.
    Recorded { intent: Option<Intent> },
}

/// What was read from a work item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen<'a> {
    pub status: &'a str,
    pub updated_ms: i64,
    /// The intent of the status.
    pub means: Option<Intent>,
    pub source: Source,
    /// The wait of the item's task when the board was read, and now.
    pub before: Option<Wait>,
    pub now: Option<Wait>,
}

/// Compares an observation with the last one.
pub fn sight(known: Option<Known<'_>>, seen: &Seen<'_>) -> Sight {
    let Seen { status, updated_ms, means, source, before, now } = *seen;
    let answers = match means {
        Some(Intent::Approved | Intent::ConfirmDeploy) => true,
        Some(Intent::ToAnalyse | Intent::Stop) | None => false,
    };
    let unclear = answers && before != now;
    let Some(known) = known else {
        return if unclear { Sight::Unclear } else { Sight::Recorded { intent: means } };
    };
    // A status that arrives in a file with an `updated` older than our own write is an editor's stale buffer: text, not
    // an intent (RULE-40). A file without `updated` makes no such claim.
    let stale = match source {
        Source::Server if updated_ms < known.updated_ms => return Sight::Older,
        Source::Server => false,
        Source::File => updated_ms > 0 && updated_ms < known.written_ms,
    };
    if unclear && !stale {
        return Sight::Unclear;
    }
    Sight::Recorded { intent: means.filter(|_| !stale && known.status != status) }
}

/// Whether a status on the item asks the task's present wait (RULE-43). `asking`: the status that the wait's indication
/// resolves to, fallbacks included. `before`: the task's wait when the status was read from the board, or set there; a
/// status from before the wait asks nothing.
pub fn asks(task: &Task, before: Option<Wait>, asking: Option<&str>, status: &str) -> bool {
    let same = task.wait().is_some_and(|now| before.is_some_and(|b| b.no == now.no));
    same && task.blocked_reason.is_none() && asking == Some(status)
}

/// How far a task is inside its stage, as far as it is shown.
pub fn progress(task: &Task) -> Progress {
    match (task.stage, task.watch) {
        (Stage::Done, Some(Watch::Armed)) => Progress::Watching,
        (Stage::Done, Some(Watch::Degraded)) => Progress::Degraded,
        _ if task.blocked_reason.is_some() => Progress::Blocked,
        _ if task.waiting_for.is_some() => Progress::AwaitingPerson,
        (Stage::Deploy, _) if task.critical.is_some() || task.landed_sha.is_some() => Progress::Deploying,
        _ => Progress::Working,
    }
}

/// Where a hold of the board's side comes from: only the same kind may replace or lift it (RULE-31).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asserts {
    /// Whether the item exists.
    Presence,
    /// Whether its status is closed.
    Status,
}

impl Asserts {
    fn owns(self, hold: &Withdrawal) -> bool {
        match self {
            Self::Presence => *hold == Withdrawal::ItemGone,
            Self::Status => matches!(hold, Withdrawal::ItemClosed { .. }),
        }
    }
}

/// Whether what the board says now changes the task's hold. A hold of another kind stays; only its own is lifted.
pub fn changes_hold(task: &Task, seen: Option<&Withdrawal>, kind: Asserts) -> bool {
    let own = task.withdrawn.as_ref().is_some_and(|hold| kind.owns(hold));
    if task.withdrawn.as_ref() == seen {
        return false;
    }
    if seen.is_some() { own || task.withdrawn.is_none() } else { own }
}

/// What a board says of a work item that has a task, as far as the task follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said<'a> {
    pub title: &'a str,
    pub body: Option<&'a str>,
    pub priority: i64,
    /// Its blockers by key, and those that nobody knows; `None`: they were not read.
    pub blockers: Option<(Vec<Key>, Vec<String>)>,
}

/// What the task takes over from the board: order, text and blockers. `frozen`: the text stays as its decider saw it
/// (BRD-3). Empty where the task already has all of it.
pub fn follow(task: &Task, said: Said<'_>, frozen: bool) -> Vec<Change> {
    let now = |text: &str, own: &str| if frozen { own.to_owned() } else { text.to_owned() };
    let (keys, unknown) = match said.blockers {
        Some((keys, unknown)) => (Some(keys), Some(unknown)),
        None => (None, None),
    };
    let text = ItemText {
        title: now(said.title, &task.title),
        body: said.body.map_or_else(|| task.body.clone(), |body| now(body, &task.body)),
        priority: said.priority,
        blocked_by: keys.unwrap_or_else(|| task.blocked_by.clone()),
    };
    let same = (&text.title, &text.body, text.priority, &text.blocked_by)
        == (&task.title, &task.body, task.priority, &task.blocked_by);
    let mut all = if same { Vec::new() } else { vec![Change::Follow(text)] };
    let names_them = |hold: &Withdrawal| matches!(hold, Withdrawal::UnknownBlockers { .. });
    let hold = unknown.filter(|_| task.withdrawn.as_ref().is_none_or(names_them)).map(unknown_blockers);
    all.extend(hold.filter(|hold| *hold != task.withdrawn).map(Change::Withdrawal));
    all
}

/// The hold of a task with blockers that nobody knows.
pub fn unknown_blockers(names: Vec<String>) -> Option<Withdrawal> {
    (!names.is_empty()).then_some(Withdrawal::UnknownBlockers { names })
}

/// Which wait a label can answer for the person now; the board is not asked where none can (BRD-5). `next`: the stage
/// that follows in the project.
pub fn labelled(task: &Task, next: Option<Stage>) -> Option<Waiting> {
    if task.blocked_reason.is_some() || task.withdrawn.is_some() || task.stop_requested_at.is_some() {
        return None;
    }
    match task.stage {
        Stage::Analysis => Some(Waiting::Approval),
        Stage::Deploy => task.released.is_none().then_some(Waiting::ConfirmDeploy),
        Stage::Created | Stage::Done | Stage::Cancelled => None,
        // Saves a request where no label counts.
        Stage::Architecture | Stage::Development | Stage::Review | Stage::Testing | Stage::DeployStaging => {
            (next == Some(Stage::Deploy)).then_some(Waiting::ConfirmDeploy)
        }
    }
}

/// Whether the answer "this item has no label" is still valid, so that not every step asks again while a person is
/// awaited. A "yes" never comes from the cache. `age_ms`: of the answer.
pub fn stands_unlabelled(age_ms: i64, ttl_ms: i64, changed_since: bool) -> bool {
    (0..ttl_ms).contains(&age_ms) && !changed_since
}

/// What is known when an intent is used.
#[derive(Debug, Clone, Copy)]
pub struct ItemState<'a> {
    /// The live or latest task of the work item.
    pub task: Option<&'a Task>,
    /// A job of it is queued or running.
    pub busy: bool,
    /// A status other than To Analyse was seen or set since its last task ended.
    pub seen_other_since_end: bool,
    /// `stop.status_enabled`.
    pub stop_on: bool,
    /// The number of the wait that had been asked when the status was seen.
    pub answers: Option<i64>,
}

/// What an intent does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
    /// A new task of the work item begins.
    Start,
    /// The analyst works again, on the item's present text.
    Resume,
    /// A person's release of the wait.
    Release(Waiting),
    Stop,
    /// Nothing: the row is dismissed for this reason.
    Nothing(Unused),
}

/// Why an intent does nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unused {
    NoTask,
    StopSwitchedOff,
    Ended(Stage),
    /// A finished work item is not started again.
    Finished,
    NoOtherStatusSince,
    UnderWay(Stage),
    AnalysisUnderWay,
    Blocked(Key),
    NotWaiting {
        stage: Stage,
        waiting: Waiting,
    },
    /// Set before the board asked (RULE-43).
    TooEarly,
    /// A job of the task is running or queued (RULE-15).
    Busy,
    Stopping,
}

impl fmt::Display for Unused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTask => f.write_str("the work item has no task"),
            Self::StopSwitchedOff => f.write_str("stop.status_enabled is off"),
            Self::Ended(stage) => write!(f, "its task is {stage} already"),
            Self::Finished => f.write_str("its last task is done; a work item is not started again"),
            Self::NoOtherStatusSince => f.write_str("no other status was seen since its last task ended"),
            Self::UnderWay(stage) => write!(f, "its task is in {stage} already"),
            Self::AnalysisUnderWay => f.write_str("its analysis is under way"),
            Self::Blocked(key) => write!(f, "it is blocked; `orch retry {key}` lifts the block"),
            Self::NotWaiting { stage, waiting } => {
                write!(f, "its task is in {stage} and does not wait for {waiting}")
            }
            Self::TooEarly => f.write_str("it was set before the board asked for it; the board asks again"),
            Self::Busy => f.write_str("a job of the task is under way"),
            Self::Stopping => f.write_str("a stop of the task is requested"),
        }
    }
}

/// What a person's status does to the work item's task: the one table of BRD-3 and RULE-12.
pub fn means(intent: Intent, at: &ItemState<'_>) -> Use {
    let used = match (intent, at.task) {
        (Intent::Stop, _) if !at.stop_on => Err(Unused::StopSwitchedOff),
        (Intent::ToAnalyse, None) => Ok(Use::Start),
        (Intent::ToAnalyse, Some(task)) => to_analyse(task, at),
        (Intent::Approved | Intent::ConfirmDeploy | Intent::Stop, None) => Err(Unused::NoTask),
        (Intent::Stop, Some(task)) if task.stage.is_terminal() => Err(Unused::Ended(task.stage)),
        (Intent::Stop, Some(_)) => Ok(Use::Stop),
        (Intent::Approved, Some(task)) => answer(task, Stage::Analysis, Waiting::Approval, at),
        (Intent::ConfirmDeploy, Some(task)) => answer(task, Stage::Deploy, Waiting::ConfirmDeploy, at),
    };
    used.unwrap_or_else(Use::Nothing)
}

fn to_analyse(task: &Task, at: &ItemState<'_>) -> Result<Use, Unused> {
    match task.stage {
        Stage::Done => Err(Unused::Finished),
        Stage::Cancelled if at.seen_other_since_end => Ok(Use::Start),
        Stage::Cancelled => Err(Unused::NoOtherStatusSince),
        _ if task.stop_requested_at.is_some() => Err(Unused::Stopping),
        Stage::Analysis if at.busy => Err(Unused::AnalysisUnderWay),
        Stage::Analysis if task.blocked_reason.is_some() => Err(Unused::Blocked(task.key.clone())),
        Stage::Analysis => Ok(Use::Resume),
        Stage::Created
        | Stage::Architecture
        | Stage::Development
        | Stage::Review
        | Stage::Testing
        | Stage::DeployStaging
        | Stage::Deploy => Err(Unused::UnderWay(task.stage)),
    }
}

/// Only in the stage that waits, only if the board had asked this very wait, only without a live job.
fn answer(task: &Task, stage: Stage, waiting: Waiting, at: &ItemState<'_>) -> Result<Use, Unused> {
    if task.stage != stage || task.waiting_for != Some(waiting) {
        return Err(Unused::NotWaiting { stage: task.stage, waiting });
    }
    if task.stop_requested_at.is_some() {
        return Err(Unused::Stopping);
    }
    if at.answers.is_none() || at.answers != task.wait().map(|w| w.no) {
        return Err(Unused::TooEarly);
    }
    if at.busy {
        return Err(Unused::Busy);
    }
    Ok(Use::Release(waiting))
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
