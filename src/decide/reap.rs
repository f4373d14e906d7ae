//! Which runs are to be settled, by whom, and in which tier (RUN-8).

use crate::model::stage::words;
use crate::model::task::{Run, RunState};
use crate::model::time::Stamp;

words! {
    /// What is known of a process.
    Seen {
        Alive = "alive",
        /// Its lock is free and its identity is gone: proven (RULE-20).
        Dead = "dead",
        /// Its identity is gone, and its lock can't be looked at.
        Suspected = "suspected",
        Unknown = "unknown",
    }
}

/// Settings of `reaper`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReapPolicy {
    /// So many observations of a death that can't be proven settle it.
    pub dead_ticks: i64,
    /// Two of them count only this far apart, in milliseconds.
    pub spacing_ms: i64,
    pub finalize_grace_ms: i64,
    pub max_running_ms: i64,
    /// By when a claimed job's supervisor must have reported.
    pub start_ms: i64,
    /// The same where the step that claimed it is gone. A supervisor that comes later starts nothing, so a short wait
    /// harms nothing.
    pub orphan_start_ms: i64,
}

/// What is to be done with a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reap {
    Leave,
    /// Never reported: back to the queue under a new token, its attempt unspent.
    GiveBack,
    /// One more observation that found the supervisor gone.
    Count {
        seen: i64,
    },
    /// Seen alive again: earlier observations are void.
    Forget,
    /// Tier 1: end what is left of its tree, settle as lost.
    Lost,
    /// Tier 2: its exit stands recorded and nobody finalizes: finalize it.
    Finalize,
    /// Tier 3: end the tree, settle as timed out.
    Overdue,
}

/// `supervisor`: from its identity and its lock; of a run that starts, from the step that claimed it. A live supervisor that is still finalizing is never reaped.
pub fn reap(run: &Run, supervisor: Seen, policy: &ReapPolicy, now: &Stamp) -> Reap {
    let age = now.since(&run.claimed_at);
    match run.state {
        RunState::Settled => Reap::Leave,
        // Another boot: whoever was to report is gone.
        RunState::Starting => match age {
            Some(ms) if supervisor == Seen::Dead && ms >= policy.orphan_start_ms => Reap::GiveBack,
            Some(ms) if ms < policy.start_ms => Reap::Leave,
            Some(_) | None => Reap::GiveBack,
        },
        RunState::Exited => {
            let waited = run.exited_at.as_ref().and_then(|at| now.since(at));
            match supervisor {
                Seen::Alive | Seen::Unknown => Reap::Leave,
                // The finalizer takes the run over from a dead owner only (RULE-21).
                Seen::Dead | Seen::Suspected if waited.is_none_or(|ms| ms >= policy.finalize_grace_ms) => {
                    Reap::Finalize
                }
                Seen::Dead | Seen::Suspected => Reap::Leave,
            }
        }
        RunState::Live => match supervisor {
            Seen::Alive | Seen::Unknown if age.is_some_and(|ms| ms > policy.max_running_ms) => Reap::Overdue,
            Seen::Alive if run.dead_seen > 0 => Reap::Forget,
            Seen::Alive | Seen::Unknown => Reap::Leave,
            Seen::Dead => Reap::Lost,
            // Another boot id is proof enough: nothing of that boot lives.
            Seen::Suspected if age.is_none() => Reap::Lost,
            Seen::Suspected => observed(run, policy, now),
        },
    }
}

fn observed(run: &Run, policy: &ReapPolicy, now: &Stamp) -> Reap {
    let apart = run.dead_seen == 0
        || run.dead_seen_at.as_ref().and_then(|at| now.since(at)).is_none_or(|ms| ms >= policy.spacing_ms);
    if !apart {
        return Reap::Leave;
    }
    let seen = run.dead_seen + 1;
    if seen >= policy.dead_ticks { Reap::Lost } else { Reap::Count { seen } }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::ids::{JobId, RunId, TaskId};
    use crate::model::stage::{JobKind, Stage};

    fn at(mono_ms: i64) -> Stamp {
        Stamp { wall_ms: 0, mono_ms, boot_id: "b".into() }
    }

    /// A run of a live claim, without anything more.
    pub(in crate::decide) fn run(state: RunState) -> Run {
        Run {
            id: RunId(1),
            job_id: JobId(1),
            task_id: TaskId(1),
            stage: Stage::Review,
            kind: JobKind::Agent,
            agent: None,
            attempt: 1,
            epoch: 1,
            token: "t".into(),
            state,
            claimed_at: at(0),
            supervisor: None,
            runtime: None,
            dead_seen: 0,
            dead_seen_at: None,
            start_sha: None,
            end_sha: None,
            exited_at: Some(at(0)),
            outcome: None,
            finalizer: None,
            fence: 1,
            credential: None,
            reserved_micros: 0,
            cost_micros: None,
            tokens_in: None,
            tokens_out: None,
            model: None,
            effort: None,
            session: None,
            result: None,
            started_at: 0,
            ended_at: None,
        }
    }

    #[test]
    fn every_tier_and_what_is_left_alone() {
        let policy = ReapPolicy {
            dead_ticks: 2,
            spacing_ms: 1000,
            finalize_grace_ms: 300,
            max_running_ms: 10_000,
            start_ms: 500,
            orphan_start_ms: 100,
        };
        let seen = |n, ms| Run { dead_seen: n, dead_seen_at: Some(at(ms)), ..run(RunState::Live) };
        let other = Stamp { boot_id: "c".into(), ..at(50) };
        let cases = [
            (run(RunState::Settled), Seen::Dead, at(99_999), Reap::Leave),
            (run(RunState::Starting), Seen::Alive, at(499), Reap::Leave),
            (run(RunState::Starting), Seen::Unknown, at(499), Reap::Leave),
            (run(RunState::Starting), Seen::Alive, at(500), Reap::GiveBack),
            (run(RunState::Starting), Seen::Dead, at(99), Reap::Leave),
            (run(RunState::Starting), Seen::Dead, at(100), Reap::GiveBack),
            (run(RunState::Starting), Seen::Dead, other.clone(), Reap::GiveBack),
            (run(RunState::Live), Seen::Alive, at(9000), Reap::Leave),
            (run(RunState::Live), Seen::Alive, at(10_001), Reap::Overdue),
            (run(RunState::Live), Seen::Unknown, at(10_001), Reap::Overdue),
            (run(RunState::Live), Seen::Unknown, at(1), Reap::Leave),
            (run(RunState::Live), Seen::Dead, at(1), Reap::Lost),
            (run(RunState::Live), Seen::Suspected, at(1), Reap::Count { seen: 1 }),
            (seen(1, 0), Seen::Suspected, at(999), Reap::Leave),
            (seen(1, 0), Seen::Suspected, at(1000), Reap::Lost),
            (seen(1, 0), Seen::Unknown, at(9000), Reap::Leave),
            (run(RunState::Live), Seen::Suspected, other.clone(), Reap::Lost),
            (seen(1, 0), Seen::Alive, at(1000), Reap::Forget),
            (run(RunState::Live), Seen::Dead, other, Reap::Lost),
            (run(RunState::Exited), Seen::Dead, at(299), Reap::Leave),
            (run(RunState::Exited), Seen::Dead, at(300), Reap::Finalize),
            (run(RunState::Exited), Seen::Suspected, at(300), Reap::Finalize),
            (run(RunState::Exited), Seen::Unknown, at(99_999), Reap::Leave),
            (run(RunState::Exited), Seen::Alive, at(99_999), Reap::Leave),
        ];
        for (run, seen, now, want) in cases {
            assert_eq!(reap(&run, seen, &policy, &now), want, "{:?} {seen:?} {now:?}", run.state);
        }
    }
}
