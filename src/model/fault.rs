//! What a failed call of a service says, whichever service it was.

/// One class for each thing that is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceFault {
    /// It asks to be left alone for so many seconds, if it says how many.
    Throttled {
        seconds: Option<u64>,
    },
    /// It does not answer: that says nothing of the work (RULE-8).
    Away,
    /// What was asked for may or may not be done.
    UnknownOutcome,
    /// It says no to this account.
    Denied,
    NotFound,
    /// What is there is another by now.
    Conflict,
    /// It will never take what it was asked.
    Invalid,
}
