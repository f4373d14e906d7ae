//! Errors that decide what a step does next: no retry can succeed, or what a run left waits (ORD-1, RULE-45).

use crate::adapters::git::GitError;
use crate::adapters::sentinel::Occupied;
use crate::model::task::{Cause, Task};

/// No retry can succeed until a person acts: the task is blocked with the reason and the ways out.
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

    /// Why no retry can succeed; `None`: one may.
    pub fn why(e: &anyhow::Error) -> Option<String> {
        let incompatible = |e: &anyhow::Error| {
            e.chain().any(|e| matches!(e.downcast_ref(), Some(GitError::Incompatible { .. }))).then(|| format!("{e:#}"))
        };
        let occupied = |e: &anyhow::Error| e.chain().find_map(Occupied::of).map(ToString::to_string);
        e.downcast_ref::<Self>().map(|r| r.why.clone()).or_else(|| incompatible(e)).or_else(|| occupied(e))
    }

    /// Branch and default branch have nothing in common: somebody rewrote one of them.
    pub fn unrelated(task: &Task, default: &str) -> anyhow::Error {
        let branch = task.branch.as_deref().unwrap_or("its branch");
        Self::error(format!(
            "{branch} has no history in common with {default}: one of them was rewritten; restore its history, then `orch retry {}`, or `orch stop {}` ends the task",
            task.key, task.key
        ))
    }
}

/// What an agent's run left can't be pushed now: it is kept and finalized again later.
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
