//! Which runs to settle, by whom, and in which tier (RUN-8).

use super::run_end::End;
use crate::model::stage::words;
use crate::model::task::{Cause, Run, RunState};
use crate::model::time::Stamp;

words! {
    /// The state of a process.
    Seen {
        Alive = "alive",
        /// Its lock is free and its identity is gone: proven (RULE-20).
        Dead = "dead",
        /// Its identity is gone, and its lock can't be checked.
        Suspected = "suspected",
        Unknown = "unknown",
    }
}

/// Settings of `reaper`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReapPolicy {
    /// This many observations of a death that can't be proven settle it.
    pub dead_ticks: i64,
    /// Two of them count only this far apart, in milliseconds.
    pub spacing_ms: i64,
    pub finalize_grace_ms: i64,
    pub max_running_ms: i64,
    /// By when a claimed job's supervisor must have reported.
    pub start_ms: i64,
    /// The same where the step that claimed it is gone. A supervisor that starts later starts nothing, so a short wait
    /// is harmless.
    pub orphan_start_ms: i64,
}

/// What a run left was deferred: it has its own time (RULE-8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutOff {
    /// Wall milliseconds.
    pub until: i64,
    /// Its task is blocked or withdrawn: it is kept until that ends.
    pub held: bool,
}

/// What lock and identity together say about a supervisor (RULE-20). `locked`: `None` where the lock can't be checked.
/// `identity`: alive, dead or unknown.
pub fn seen(locked: Option<bool>, identity: Seen) -> Seen {
    match (locked, identity) {
        (Some(true), _) | (_, Seen::Alive) => Seen::Alive,
        // The kernel freed the lock, and the identity is gone: proven.
        (Some(false), Seen::Dead) => Seen::Dead,
        (_, Seen::Suspected) | (None, Seen::Dead) => Seen::Suspected,
        (Some(false) | None, Seen::Unknown) => Seen::Unknown,
    }
}

/// Whether a `tick` also handles a run, so that it does not wait for the next reap: a claim that nobody reported,
/// deferred work, and a death that lock and identity prove. `reaped`: `reaper.enabled`.
pub fn is_resumed(run: &Run, supervisor: Seen, put_off: Option<PutOff>, reaped: bool) -> bool {
    let dead = run.state == RunState::Live && reaped && supervisor == Seen::Dead;
    run.state == RunState::Starting || dead || put_off.is_some()
}

/// How a reaped run ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The tier, as the record names it.
    pub tier: &'static str,
    pub end: End,
    /// Its supervisor still lives, and is ended with the rest.
    pub supervisor_too: bool,
}

/// The end of a run in tier 1 or 3; `None`: the action ends no run. Nobody is to blame for a supervisor that vanished,
/// so nothing is spent; one that ran too long has failed. `left`: what its supervisor knew of the end of its cluster job
/// when it left the run undecided (CLU-3c).
pub fn ending(todo: &Reap, max_running_ms: i64, left: Option<&str>) -> Option<Ending> {
    match todo {
        Reap::Lost => {
            let end = match left {
                None => End::Unspent { cause: Cause::Lost, why: "its supervisor vanished".to_owned() },
                Some(why) => End::Unspent { cause: Cause::Cluster, why: why.to_owned() },
            };
            Some(Ending { tier: "dead", end, supervisor_too: false })
        }
        Reap::Overdue => {
            let why = format!("it ran longer than reaper.max_running_s ({} s)", max_running_ms / 1000);
            Some(Ending { tier: "overdue", end: End::Failed { why, spent: true }, supervisor_too: true })
        }
        Reap::Leave | Reap::GiveBack | Reap::Count { .. } | Reap::Forget | Reap::Finalize => None,
    }
}

/// What to do with a run.
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
    /// Tier 2: its exit is recorded and nobody finalizes: finalize it.
    Finalize,
    /// Tier 3: end the tree, settle as timed out.
    Overdue,
}

/// `supervisor`: from its identity and its lock; for a starting run, from the step that claimed it. A live supervisor
/// that is still finalizing is never reaped.
pub fn reap(run: &Run, supervisor: Seen, put_off: Option<PutOff>, policy: &ReapPolicy, now: &Stamp) -> Reap {
    if let Some(put_off) = put_off {
        let due = !put_off.held && supervisor == Seen::Dead && put_off.until <= now.wall_ms;
        return if due { Reap::Finalize } else { Reap::Leave };
    }
    let age = now.since(&run.claimed_at);
    match run.state {
        RunState::Settled => Reap::Leave,
        // Another boot: whoever should have reported is gone.
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

    /// A run with a live claim and nothing more.
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
            assert_eq!(reap(&run, seen, None, &policy, &now), want, "{:?} {seen:?} {now:?}", run.state);
        }
    }

    #[test]
    fn rule_8_a_deferred_run_is_finalized_at_its_own_time_and_kept_while_its_task_is_held() {
        let policy = ReapPolicy {
            dead_ticks: 2,
            spacing_ms: 1000,
            finalize_grace_ms: 300,
            max_running_ms: 10_000,
            start_ms: 500,
            orphan_start_ms: 100,
        };
        let exited = run(RunState::Exited);
        let now = Stamp { wall_ms: 50, ..at(9_000) };
        for (until, held, seen, want) in [
            (50, false, Seen::Dead, Reap::Finalize),
            (51, false, Seen::Dead, Reap::Leave),
            (50, true, Seen::Dead, Reap::Leave),
            (50, false, Seen::Alive, Reap::Leave),
            (50, false, Seen::Suspected, Reap::Leave),
        ] {
            let put_off = Some(PutOff { until, held });
            assert_eq!(reap(&exited, seen, put_off, &policy, &now), want, "{until} {held} {seen}");
            assert!(is_resumed(&exited, seen, put_off, false));
        }
        assert!(!is_resumed(&exited, Seen::Dead, None, true));
        assert!(is_resumed(&run(RunState::Starting), Seen::Alive, None, false));
        assert!(is_resumed(&run(RunState::Live), Seen::Dead, None, true));
        assert!(!is_resumed(&run(RunState::Live), Seen::Dead, None, false));
        assert!(!is_resumed(&run(RunState::Live), Seen::Suspected, None, true));
    }

    #[test]
    fn rule_20_a_death_is_proven_by_lock_and_identity_together() {
        for (locked, identity, want) in [
            (Some(true), Seen::Dead, Seen::Alive),
            (Some(false), Seen::Alive, Seen::Alive),
            (None, Seen::Alive, Seen::Alive),
            (Some(false), Seen::Dead, Seen::Dead),
            (None, Seen::Dead, Seen::Suspected),
            (Some(false), Seen::Unknown, Seen::Unknown),
            (None, Seen::Unknown, Seen::Unknown),
        ] {
            assert_eq!(seen(locked, identity), want, "{locked:?} {identity}");
        }
    }

    #[test]
    fn run_8_only_what_ran_too_long_has_failed() {
        let lost = ending(&Reap::Lost, 0, None).unwrap();
        assert!(matches!(lost.end, End::Unspent { cause: Cause::Lost, .. }) && !lost.supervisor_too);
        let left = ending(&Reap::Lost, 0, Some("NODE_FAIL")).unwrap();
        assert_eq!(left.end, End::Unspent { cause: Cause::Cluster, why: "NODE_FAIL".to_owned() });
        let late = ending(&Reap::Overdue, 7_000, None).unwrap();
        assert!(matches!(&late.end, End::Failed { why, spent: true } if why.contains("(7 s)")) && late.supervisor_too);
        for other in [Reap::Leave, Reap::GiveBack, Reap::Count { seen: 1 }, Reap::Forget, Reap::Finalize] {
            assert_eq!(ending(&other, 0, None), None);
        }
    }
}
