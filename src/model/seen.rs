//! What one probe of the watch counts as (SHIP-6): the classifier and its renderings share it.

use super::watch::{ControlAnswer, HealthAnswer, HealthOutcome, Probe, RevisionAnswer};

/// What one probe counts as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Well,
    /// The service's fault.
    Failed(String),
    /// It could not be made: never counted as a failure, and it neither makes nor breaks a row of failures.
    NotMade(String),
}

/// Judges one probe. `revision` is the commit that should answer, where it is known.
///
/// A missing answer is the service's fault unless the control target is unreachable too. A name that does not resolve,
/// or a missing route, is this machine's fault unless the control target was reached.
pub fn judge(probe: &Probe, revision: Option<&str>) -> Seen {
    let answered = probe.health.iter().any(|h| h.status.is_some());
    let mut not_made = None;
    for h in &probe.health {
        match one(h, probe.control, answered) {
            Seen::Well => {}
            failed @ Seen::Failed(_) => return failed,
            Seen::NotMade(why) => not_made = Some(why),
        }
    }
    if let Some(why) = not_made {
        return Seen::NotMade(why);
    }
    if probe.health.is_empty() {
        return Seen::NotMade("no health URL is configured".into());
    }
    match (&probe.revision, revision) {
        (Some(RevisionAnswer::Is(got)), Some(want)) if !same_revision(got, want) => {
            Seen::Failed(format!("it runs revision {got:?}, not {want:?}"))
        }
        _ => Seen::Well,
    }
}

fn one(h: &HealthAnswer, control: ControlAnswer, answered: bool) -> Seen {
    let say = || format!("{}: {}", h.url, h.detail);
    match h.outcome {
        HealthOutcome::Ok => Seen::Well,
        HealthOutcome::BadStatus | HealthOutcome::BadBody | HealthOutcome::TooSlow | HealthOutcome::Tls => {
            Seen::Failed(say())
        }
        HealthOutcome::Refused | HealthOutcome::Timeout => match control {
            ControlAnswer::Unreached if !answered => {
                Seen::NotMade(format!("{}; the control target can't be reached either", say()))
            }
            ControlAnswer::NotAsked | ControlAnswer::Reached | ControlAnswer::Unreached => Seen::Failed(say()),
        },
        HealthOutcome::NoNetwork => match control {
            ControlAnswer::Reached => Seen::Failed(say()),
            ControlAnswer::NotAsked | ControlAnswer::Unreached => Seen::NotMade(say()),
        },
        HealthOutcome::NotMade => Seen::NotMade(say()),
    }
}

/// Whether a service's answer names a commit: equal, or one an abbreviation of the other with at least seven hex
/// digits. (A wrong *no* here would freeze a repository; the freshness gate, where a wrong *yes* hurts, requires
/// equality.)
pub fn same_revision(got: &str, want: &str) -> bool {
    let (got, want) = (got.trim().to_ascii_lowercase(), want.trim().to_ascii_lowercase());
    let hex = |s: &str| s.len() >= 7 && s.bytes().all(|b| b.is_ascii_hexdigit());
    got == want || (hex(&got) && hex(&want) && (want.starts_with(&got) || got.starts_with(&want)))
}
