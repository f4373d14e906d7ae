//! The board: a trait, and a folder for each kind (BRD-1). A new kind is a folder here, an address in `model::sides`
//! and keys in `config`. Used by `engine` only.
//!
//! Every call takes and returns values; the caller keeps caches, watermarks and throttle times.

pub mod github;
pub mod local;
pub mod plane;
pub mod seen;
mod swap;

use crate::adapters::http::{Class, Fault, HttpError};
pub use crate::model::board::{Deed, Group, ItemRef, Label, Priority, Status, WorkItem};
use crate::model::comment::Comment;
use crate::model::examined::Examined;
use crate::model::ids::Key;
use crate::model::sides::{Board as Address, Opening};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Why a board did not do what was asked. Every text names the request, never a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BoardError {
    /// The credential is wrong, or its user may not see the project: stop and report it to a person.
    #[error("the board refuses: {0}")]
    Auth(String),
    #[error("not on the board: {0}")]
    NotFound(String),
    /// Somebody else is writing at the same time: read again in a later step.
    #[error("the board changed meanwhile: {0}")]
    Conflict(String),
    /// A bug or a wrong configuration: a retry changes nothing.
    #[error("the board does not accept this: {0}")]
    Invalid(String),
    /// The board asks to wait this many seconds, if it says how many; the pass ends.
    #[error("the board asks to wait{}: {what}", .retry_after_s.map_or_else(String::new, |s| format!(" {s} s")))]
    Throttled { retry_after_s: Option<u64>, what: String },
    /// Nothing was changed; a later step may try again. The server answered, so other calls may well succeed (RULE-44).
    #[error("the board can't be reached: {0}")]
    Transient(String),
    /// Nobody answers there: the next call would wait as long.
    #[error("the board can't be reached: {0}")]
    Silent(String),
    /// A write may or may not have happened: read before repeating it.
    #[error("the board's outcome is unknown: {0}")]
    UnknownOutcome(String),
}

impl From<HttpError> for BoardError {
    fn from(e: HttpError) -> Self {
        let text = e.to_string();
        match e.class {
            Class::Auth => Self::Auth(text),
            Class::NotFound => Self::NotFound(text),
            Class::Conflict => Self::Conflict(text),
            Class::Invalid | Class::Redirect { .. } | Class::TooLarge | Class::BadBody => Self::Invalid(text),
            // A server that asks for a day is obeyed, one that asks for a century is not.
            Class::Throttled { retry_after_s } => {
                Self::Throttled { retry_after_s: retry_after_s.map(|s| s.min(86_400)), what: text }
            }
            Class::Transient if e.fault == Fault::Status => Self::Transient(text),
            Class::Transient => Self::Silent(text),
            Class::UnknownOutcome => Self::UnknownOutcome(text),
        }
    }
}

/// The result of a scan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    pub items: Vec<WorkItem>,
    /// Files or rows that could not be read: to be reported and read later, never taken for absent.
    pub problems: Vec<Problem>,
    /// Entries that are no work items: skipped, and no reason to scan again.
    pub strangers: Vec<Problem>,
    /// Requests made.
    pub requests: u32,
    /// If set, the scan ended early: missing items prove nothing, and no watermark may move.
    pub unfinished: Option<Unfinished>,
}

/// Where a scan ended early, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Where a full scan resumes; `None`: start again.
    pub cursor: Option<String>,
    pub why: Cut,
}

/// What cut a scan short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    /// The board's budget is used up.
    Budget { retry_after_s: Option<u64> },
    /// What is left of the budget is kept for urgent calls, which go on.
    Reserve,
    /// A later page failed.
    Failed(BoardError),
    /// The caller did not want another page.
    Caller,
}

/// What to scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Items changed at or after this time of the board's own clock (the caller has subtracted its overlap), newest
    /// first.
    Since(i64),
    /// Everything, from where an earlier scan ended.
    All { cursor: Option<&'a str> },
}

/// One unreadable part of a board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// File name or id.
    pub at: String,
    pub why: String,
    /// The key it would have, if that much is known.
    pub key: Option<Key>,
}

/// A requested change of an item's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move<'a> {
    pub to: &'a Status,
    /// Only if this is the status now; `None`: from any.
    pub expect: Option<&'a str>,
    /// The wall clock, for the local board's `updated`, in milliseconds since the epoch.
    pub now_ms: i64,
}

/// The result of a [`Move`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// Set; the item as the board now shows it.
    Set(WorkItem),
    /// It had that status already; nothing was written.
    Already(WorkItem),
    /// It had another status; nothing was written.
    Held(WorkItem),
    /// Gone, archived or a draft: a person withdrew it.
    Withdrawn,
}

/// A new work item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewItem<'a> {
    pub title: &'a str,
    pub body: &'a str,
    pub labels: &'a [String],
    pub priority: Priority,
    pub blocked_by: &'a [Key],
    /// To Analyse, or Backlog for a draft.
    pub status: &'a Status,
    /// Identifies the request, so that a repeat finds the first one's item (Plane's `external_id`); `None`: always a
    /// new one.
    pub marker: Option<&'a str>,
    pub now_ms: i64,
}

/// Who did something on a board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doer {
    pub name: String,
    /// A program acted for them: then only the name counts, and no right.
    pub through_app: bool,
    /// The id of the event, where the board has one.
    pub event: Option<String>,
}

impl Doer {
    /// Somebody known by name only.
    pub fn named(name: String) -> Self {
        Self { name, through_app: false, event: None }
    }
}

/// A project's statuses with the time they were read (milliseconds, wall clock): what a caller stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusCache {
    pub fetched_at: i64,
    pub statuses: Vec<Status>,
}

impl StatusCache {
    /// Whether the set may be used without asking; `ttl_s` 0 means never, and so does a time in the future.
    pub fn is_fresh(&self, now_ms: i64, ttl_s: u64) -> bool {
        let age = now_ms.saturating_sub(self.fetched_at);
        age >= 0 && u64::try_from(age).is_ok_and(|a| a < ttl_s.saturating_mul(1000))
    }
}

/// One project's board, the same for the engine whatever its kind (BRD-1). Methods that a kind does not need have
/// defaults.
pub trait Board: std::fmt::Debug {
    /// The project's statuses in the board's order, with groups.
    fn statuses(&self) -> Result<Vec<Status>, BoardError>;

    /// The project's labels. An error is "unknown", never "none".
    fn labels(&self) -> Result<Vec<Label>, BoardError>;

    /// Work items in scope; without bodies on a server, which is read page after page while `go_on` says so, at least
    /// one page. A folder always returns all items, whole.
    fn list(&self, statuses: &[Status], scope: &Scope<'_>, go_on: &dyn Fn() -> bool) -> Result<Listing, BoardError>;

    /// As a whole [`Board::list`], without reading what has not changed since `before`, except the numbers to be read
    /// `again` anyway. `None`: this kind can't know.
    fn look(
        &self,
        _before: &seen::Seen,
        _again: &std::collections::BTreeSet<u64>,
    ) -> Option<Result<seen::Looked, BoardError>> {
        None
    }

    /// One item with its body; `None`: gone, archived or a draft.
    fn get(&self, statuses: &[Status], key: &Key) -> Result<Option<WorkItem>, BoardError>;

    /// Reads the item and moves it only if [`Move`] allows.
    fn set_status(&self, statuses: &[Status], item: &WorkItem, change: &Move<'_>) -> Result<Moved, BoardError>;

    /// Adds a comment once per `marker`; returns whether it is new.
    fn comment(&self, item: &WorkItem, marker: &str, text: &str, now_ms: i64) -> Result<bool, BoardError>;

    /// Who did a thing to an item last, as the board names its users; in a folder, the file's owner. `None`: not known
    /// yet.
    fn who(&self, key: &Key, id: &str, deed: &Deed<'_>) -> Result<Option<Doer>, BoardError>;

    /// What blocks the item. A server without relations blocks nothing.
    fn blocked_by(&self, item: &WorkItem) -> Result<Vec<ItemRef>, BoardError>;

    /// Creates an item and returns its key.
    fn create(&self, new: &NewItem<'_>) -> Result<Key, BoardError>;

    /// Whether the board itself gives a person who is not configured the right to decide, as of now.
    fn may_decide(&self, _doer: &Doer) -> Result<bool, BoardError> {
        Ok(false)
    }

    /// The comments on an item that changed at or after this time of the board's own clock, in milliseconds. Only a
    /// board that says who may write has any (GH-2).
    fn comments(&self, _id: &str, _since_ms: i64) -> Result<Vec<Comment>, BoardError> {
        Ok(Vec::new())
    }

    /// Removes an intent that somebody without a say has set. Only where statuses are marks next to each other:
    /// elsewhere the next indication replaces it.
    fn take_back(&self, _id: &str, _status: &str) -> Result<(), BoardError> {
        Ok(())
    }

    /// Identifies the newest whole list, so that the next scan can ask whether it is still current; `None`: unknown.
    fn seen(&self) -> Option<String> {
        None
    }

    /// Checks before a whole scan that it is still the board of the first contact. Fails with `Auth` if another took
    /// its name.
    fn confirm(&self) -> Result<(), BoardError> {
        Ok(())
    }

    /// Creates what statuses need on the board before they can be set, and returns the names. For `orch init`, never
    /// for a step.
    fn prepare(&self) -> Result<Vec<String>, BoardError> {
        Ok(Vec::new())
    }

    /// What to keep for the next opening, by name (see [`keeps`]).
    fn kept(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// What `orch doctor` reports: the credential, what it may do, what is missing.
    fn examine(&self) -> Vec<Examined> {
        Vec::new()
    }
}

/// Opens a board. Makes requests only if the board is not known yet, and fails as they do.
pub fn open(address: &Address, with: &Opening<'_>) -> Result<Box<dyn Board>, BoardError> {
    Ok(match address {
        Address::Local(at) => Box::new(local::Local::new(&at.dir, with.key, &at.statuses)),
        Address::Plane(at) => Box::new(plane::open(at, with)?),
        Address::Github(at) => Box::new(github::open(at, with)?),
    })
}

/// The names under which a board keeps things from one opening to the next.
pub fn keeps(address: &Address, key: &str) -> Vec<String> {
    match address {
        Address::Local(_) => Vec::new(),
        Address::Plane(at) => plane::keeps(at, key).into(),
        Address::Github(_) => vec![crate::adapters::github::id_key(key)],
    }
}

/// The URL of a work item for people; `None`: there is no page, or it is not known yet. Makes no request.
pub fn page_of(address: &Address, key: &str, known: &BTreeMap<String, String>, id: &str) -> Option<String> {
    match address {
        Address::Local(_) => None,
        Address::Plane(at) => plane::page_of(at, key, known, id),
        Address::Github(at) => github::page_of(at, id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_of_the_future_or_with_ttl_zero_is_not_fresh() {
        let c = StatusCache { fetched_at: 1000, statuses: vec![] };
        assert!(c.is_fresh(1999, 1));
        assert!(!c.is_fresh(2000, 1));
        assert!(!c.is_fresh(1000, 0));
        assert!(!c.is_fresh(999, 10));
    }
}
