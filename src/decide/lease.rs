//! When a repository's merge lease is revoked from its task (RUN-8). Pure.

use crate::model::landing::Awaits;
use crate::model::task::{Deploy, Task};

/// The facts that decide about a lease.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a> {
    /// The task that holds it; `None`: nobody knows it.
    pub task: Option<&'a Task>,
    /// All deploys of the task.
    pub deploys: &'a [Deploy],
    /// What the forge waits for before it merges.
    pub awaits: Option<&'a Awaits>,
    /// Since it was renewed, in milliseconds; `None`: in another boot, or never.
    pub age_ms: Option<i64>,
    /// A job of the task is queued or runs.
    pub busy: bool,
    /// The process that took it has ended.
    pub actor_gone: bool,
}

/// What becomes of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lease {
    Keep,
    Free {
        why: String,
    },
    /// Free, once its deploy is withdrawn: the forge waits for a person, and nothing was merged (RULE-18).
    Park {
        why: String,
    },
}

/// Never while a deploy is initiated and has no result, unless the forge waits for a person. `ttl_ms`:
/// `merge_lease.ttl_s`.
pub fn lease(held: &Held<'_>, ttl_ms: i64) -> Lease {
    let free = |why: &str| Lease::Free { why: why.to_owned() };
    let Some(task) = held.task else { return free("its task is unknown") };
    let at_forge = held.awaits.is_some_and(|w| w.what.by_person());
    if held.deploys.iter().any(|d| d.state.is_open()) && !at_forge {
        return Lease::Keep;
    }
    if task.stage.is_terminal() {
        return Lease::Free { why: format!("its task is {}", task.stage) };
    }
    if task.waiting_for.is_some() || at_forge {
        let why = "parked longer than merge_lease.ttl_s";
        return match held.age_ms {
            Some(ms) if ms > ttl_ms && at_forge => Lease::Park { why: why.to_owned() },
            Some(ms) if ms > ttl_ms => free(why),
            Some(_) | None => Lease::Keep,
        };
    }
    // Nothing of it runs or will run on its own: a block that kept the lease.
    if task.blocked_reason.is_some() && !held.busy && held.actor_gone {
        return free("its task is blocked and nothing of it is running");
    }
    Lease::Keep
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::gates::testing::{deploy, task};
    use crate::model::landing::Awaited;
    use crate::model::stage::Stage;
    use crate::model::task::{DeployState, Waiting};

    const TTL: i64 = 1000;

    #[test]
    fn run_8_a_lease_is_taken_back_only_where_nothing_of_its_task_can_need_it() {
        let of = |stage| task(1, stage);
        let waits = Task { waiting_for: Some(Waiting::ConfirmDeploy), ..of(Stage::Deploy) };
        let blocked = Task { blocked_reason: Some("no".into()), ..of(Stage::Deploy) };
        let at = |what| crate::decide::awaits::next(None, "1-1-7", (what, "not yet"), 0, 1);
        let (person, checks) = (at(Awaited::Approval), at(Awaited::Checks));
        let open = [deploy(1, DeployState::Initiated)];
        let closed = [deploy(1, DeployState::Settled), deploy(1, DeployState::Withdrawn)];
        let held =
            |task, deploys, awaits, age_ms| Held { task, deploys, awaits, age_ms, busy: false, actor_gone: true };
        let none: &[Deploy] = &[];
        let (done, working) = (of(Stage::Done), of(Stage::Deploy));
        let cases = [
            ("unknown", held(None, none, None, None), "free"),
            ("ended", held(Some(&done), none, None, None), "free"),
            ("ended, its deploy open", held(Some(&done), &open, None, None), "keep"),
            ("at work", held(Some(&working), &closed, None, Some(TTL + 1)), "keep"),
            ("waits for a person", held(Some(&waits), none, None, Some(TTL)), "keep"),
            ("waits too long", held(Some(&waits), none, None, Some(TTL + 1)), "free"),
            ("another boot has no age", held(Some(&waits), none, None, None), "keep"),
            ("the forge waits for a person", held(Some(&working), &open, Some(&person), Some(TTL)), "keep"),
            ("the same, too long", held(Some(&working), &open, Some(&person), Some(TTL + 1)), "park"),
            ("the forge waits for checks", held(Some(&working), &open, Some(&checks), Some(TTL + 1)), "keep"),
            ("blocked", held(Some(&blocked), none, None, None), "free"),
            ("blocked, its deploy open", held(Some(&blocked), &open, None, None), "keep"),
            ("blocked, a job left", Held { busy: true, ..held(Some(&blocked), none, None, None) }, "keep"),
            ("blocked, its holder alive", Held { actor_gone: false, ..held(Some(&blocked), none, None, None) }, "keep"),
        ];
        for (name, held, want) in cases {
            let got = match lease(&held, TTL) {
                Lease::Keep => "keep",
                Lease::Free { .. } => "free",
                Lease::Park { .. } => "park",
            };
            assert_eq!(got, want, "{name}");
        }
    }
}
