//! The two ends of an attempt that are neither success nor outage: a refusal that lasts until a person acts, and work
//! that is kept until the remote takes it (RULE-45, RULE-48).

use crate::model::task::Cause;

/// No later try succeeds until a person acts: the task is blocked with the reason and the ways out.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Refused {
    pub why: String,
}

impl Refused {
    /// As an error of a step.
    pub fn error(why: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { why: why.into() })
    }

    pub fn of(e: &anyhow::Error) -> Option<&Self> {
        e.downcast_ref()
    }
}

/// What an agent's run left can't be pushed now: it is kept, and finalized again later.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Kept {
    pub cause: Cause,
    pub why: String,
}

impl Kept {
    pub fn error(cause: Cause, why: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { cause, why: why.into() })
    }

    pub fn of(e: &anyhow::Error) -> Option<&Self> {
        e.downcast_ref()
    }
}
