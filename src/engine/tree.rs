//! Ends everything that belongs to a run and verifies that it is gone (RULE-19). Processes are found by any remaining
//! tie: the supervisor's descendants, the unit's control group, the mark, the supervisor's session.

use super::Ctx;
use super::run_env::MARK;
use crate::adapters::executor::slurm;
use crate::adapters::process::{self, Life, StillAlive};
use crate::decide::units;
use crate::model::task::{Actor, Run, RunState};
use std::cell::RefCell;
use std::collections::HashSet;
use std::time::Duration;

/// How long processes of a run may take to vanish after KILL.
const GONE: Duration = Duration::from_secs(30);

/// Ends every process of these runs, `supervisors` last: while a supervisor lives, what its agent leaves behind becomes
/// its child and is found. A process seen once stays known, whoever its parent becomes.
///
/// # Errors
/// [`StillAlive`] names what outlived KILL.
pub fn end(ctx: &Ctx, runs: &[Run], supervisors: &[Actor], grace_s: u64) -> Result<(), StillAlive> {
    let alive = |actors: &[Actor]| -> Vec<Actor> {
        actors.iter().filter(|a| **a != ctx.me && process::life(a) == Life::Alive).cloned().collect()
    };
    let ours: Vec<&Run> = runs.iter().filter(|r| !units::is_production(r.kind)).collect();
    let marks = ours.iter().map(|r| ctx.paths.mark(r.id));
    let marks: Vec<String> = marks.flat_map(|mark| [slurm::mark_of_srun(&mark), mark]).collect();
    // They give mark and unit to whatever belongs to a run.
    let supervised: Option<Vec<Actor>> = ours.iter().map(|run| run.supervisor.clone()).collect();
    let since = supervised.unwrap_or_default();
    let known: RefCell<HashSet<Actor>> = RefCell::default();
    let find = || {
        let mut known = known.borrow_mut();
        known.retain(|a| process::life(a) != Life::Dead);
        let mut units = Vec::new();
        let mut tops: Vec<Actor> = Vec::new();
        for run in &ours {
            let lives = run.supervisor.as_ref().is_some_and(|s| process::life(s) == Life::Alive);
            let open = run.state != RunState::Settled;
            // A supervisor that has settled its run may have started others', and has no process of its own run below
            // it.
            if units::ends_whole(run.kind) && (open || !lives) {
                units.extend([ctx.paths.unit(run.id, false), ctx.paths.unit(run.id, true)]);
            }
            if let Some(supervisor) = run.supervisor.as_ref().filter(|_| open) {
                tops.extend(lives.then(|| supervisor.clone()));
                for folder in [ctx.paths.root(), ctx.paths.area()] {
                    known.extend(process::of_session(supervisor, folder));
                }
            }
        }
        known.extend(process::belonging(MARK, &marks, &units, &since));
        tops.extend(known.iter().cloned());
        if !tops.is_empty() {
            known.extend(process::descendants_of(&tops));
        }
        known.retain(|a| *a != ctx.me && !supervisors.contains(a));
        if known.is_empty() { alive(supervisors) } else { known.iter().cloned().collect() }
    };
    // Their supervisors verified that they are gone, so one check for processes started since by others is enough.
    if supervisors.is_empty() && runs.iter().all(has_ended) && find().is_empty() {
        return Ok(());
    }
    process::end_all(&find, Duration::from_secs(grace_s), GONE)
}

/// Whether a run's supervisor recorded its exit, which it does only once nothing of the run is left.
fn has_ended(run: &Run) -> bool {
    run.state == RunState::Settled && run.exited_at.is_some()
}
