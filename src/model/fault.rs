//! What a failed call of a service means, whichever service it was.

/// One class for each reaction to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceFault {
    /// It asks for a pause of this many seconds, if it says how many.
    Throttled {
        seconds: Option<u64>,
    },
    /// It does not answer, which says nothing about the work (RULE-8).
    Away,
    /// The request may or may not have been carried out.
    UnknownOutcome,
    /// It refuses this account.
    Denied,
    NotFound,
    /// What is there has changed since.
    Conflict,
    /// It will never accept this request.
    Invalid,
}
