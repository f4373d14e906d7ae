//! A confined command that runs on another machine (CLU-2): what runs it, and the files for its output.

use super::streams::Sink;
use super::{ChildError, Control, Event, Exit, Spec};
use crate::adapters::confine::Run;

/// Runs a confined command elsewhere as [`super::run`] runs it here: the same events, the same exit, and it does not
/// return before all of it is gone there, except by [`ChildError::Undecided`].
pub trait Elsewhere: std::fmt::Debug + Send + Sync {
    /// Blocks until it is over. [`Event::Started`] names its proxy process on this machine; time limits start then.
    ///
    /// # Errors
    /// As [`super::run`], and [`ChildError::Unavailable`], [`ChildError::Lost`] and [`ChildError::Undecided`].
    fn play(&self, spec: &Spec, run: &Run, tell: &mut dyn FnMut(Event<'_>) -> Control) -> Result<Exit, ChildError>;
}

/// The two files of a command that runs elsewhere: known secrets are removed (BND-4), and the cap applies (RULE-38).
pub struct Sinks {
    out: Sink,
    err: Sink,
}

impl Sinks {
    /// Fails if a file can't be opened.
    pub fn open(spec: &Spec) -> Result<Self, ChildError> {
        Ok(Self { out: Sink::open("stdout", &spec.stdout, spec)?, err: Sink::open("stderr", &spec.stderr, spec)? })
    }

    pub fn out(&mut self, bytes: &[u8]) {
        self.out.take(bytes);
    }

    pub fn err(&mut self, bytes: &[u8]) {
        self.err.take(bytes);
    }

    /// Nothing more comes. Returns how many bytes of stdout came, and what the files lack, in one sentence.
    pub fn finish(mut self) -> (u64, Option<String>) {
        self.out.finish();
        self.err.finish();
        let said: Vec<String> = [&self.out, &self.err].into_iter().filter_map(Sink::lost).collect();
        (self.out.seen, (!said.is_empty()).then(|| said.join("; ")))
    }
}
