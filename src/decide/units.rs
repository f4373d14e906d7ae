//! The limits of a supervisor's unit, and which processes may be ended, by the kind of its job (RUN-4, RULE-19, BND-2).
//! Pure.

use crate::model::stage::JobKind;

/// Whether stopping the unit's main process ends all of its control group. A deploy, a build of staging and a rollback
/// change the world as their command says, and what they leave running outlives the unit.
pub fn ends_whole(kind: JobKind) -> bool {
    match kind {
        JobKind::Deploy | JobKind::PostDeployMonitor | JobKind::Build => false,
        JobKind::Agent | JobKind::Ci | JobKind::Scan | JobKind::Staging | JobKind::DeployFinalizer => true,
    }
}

/// What a deploy or a rollback started is production: no stop of ours ends it.
pub fn is_production(kind: JobKind) -> bool {
    match kind {
        JobKind::Deploy | JobKind::PostDeployMonitor => true,
        JobKind::Agent | JobKind::Ci | JobKind::Scan | JobKind::Staging | JobKind::Build | JobKind::DeployFinalizer => {
            false
        }
    }
}

/// Whether the reaper ends what is left of such a run. A deploy's processes never: its result counts.
pub fn is_reaped(kind: JobKind) -> bool {
    match kind {
        JobKind::Deploy => false,
        JobKind::Agent
        | JobKind::Ci
        | JobKind::Scan
        | JobKind::Staging
        | JobKind::Build
        | JobKind::DeployFinalizer
        | JobKind::PostDeployMonitor => true,
    }
}

/// The settings in seconds that a unit's bounds come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// `reaper.enabled`.
    pub reaped: bool,
    /// `reaper.max_running_s` and `reaper.interval_s`.
    pub max_running_s: u64,
    pub interval_s: u64,
    /// `agents.stop_grace_s`.
    pub stop_grace_s: u64,
}

/// The limits of a unit of one kind, in addition to memory, processor and tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Longest life in seconds; `None`: as long as its command needs.
    pub runtime_max_s: Option<u64>,
    /// From TERM to KILL, in seconds.
    pub stop_timeout_s: Option<u64>,
    /// It may write only its own folders.
    pub sandboxed: bool,
    /// A stop of the unit ends its main process and nothing else.
    pub main_process_only: bool,
}

/// The reaper's own limit comes first, because it settles the job. Only an agent runs without a configured command.
pub fn bounds(kind: JobKind, s: &Settings) -> Bounds {
    let whole = ends_whole(kind);
    let backstop = s.max_running_s.saturating_add(2 * s.interval_s).saturating_add(s.stop_grace_s + 60);
    Bounds {
        runtime_max_s: (whole && s.reaped).then_some(backstop),
        stop_timeout_s: whole.then_some(s.stop_grace_s + 5),
        sandboxed: kind == JobKind::Agent,
        main_process_only: !whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_4_what_changes_the_world_has_no_limit_and_outlives_its_unit() {
        let s = Settings { reaped: true, max_running_s: 100, interval_s: 10, stop_grace_s: 7 };
        for kind in JobKind::ALL {
            let b = bounds(*kind, &s);
            let free = matches!(kind, JobKind::Deploy | JobKind::PostDeployMonitor | JobKind::Build);
            assert_eq!((b.runtime_max_s, b.stop_timeout_s), if free { (None, None) } else { (Some(187), Some(12)) });
            assert_eq!((b.main_process_only, b.sandboxed), (free, *kind == JobKind::Agent), "{kind}");
            // Production is never ended; the reaper may end a watch's probe, not a deploy.
            assert!(!is_production(*kind) || free, "{kind}");
            assert_eq!(is_reaped(*kind), *kind != JobKind::Deploy);
            assert_eq!(bounds(*kind, &Settings { reaped: false, ..s }).runtime_max_s, None);
        }
    }
}
