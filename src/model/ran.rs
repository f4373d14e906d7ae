//! How a configured command ended, as data.

/// The kinds of end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// On its own, with this code.
    Code(i32),
    /// By a signal that was not ours.
    Signal,
    /// Its time was up.
    TimedOut,
    /// Ended by us for another reason: silence, a changed script.
    Cut,
    /// Its program is missing, or can't be started.
    NoProgram,
    /// The disk is full.
    NoRoom,
    /// It was not started for another reason.
    Failed,
    /// It was started, and could not be watched to its end.
    Lost,
}

/// The end, with the words for it as the rest of a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    pub ended: Ended,
    pub how: String,
}
